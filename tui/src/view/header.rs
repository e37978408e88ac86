//! The top line: host, mode, rates, losses, cost, fidelity.

use fragscope_replay::observe::EventTotals;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::pane::put;
use super::{Context, hosts, notes};
use crate::conn::phase::{Origin, Phase};
use crate::format::{bytes, count, percent, rate, span};
use crate::state::cursor::Position;
use crate::state::host::Host;
use crate::state::ui::ViewId;
use crate::state::warnings::loss_severity;

/// A part of the line. Those of higher rank leave first where room is short.
struct Segment {
    rank: u8,
    text: String,
    style: Style,
}

/// Draws the line.
pub fn draw(context: Context<'_>, area: Rect, buffer: &mut Buffer) {
    let mut segments = segments(context);
    let width = |s: &[Segment]| -> usize {
        s.iter().map(|s| s.text.chars().count() + 2).sum::<usize>().saturating_sub(2)
    };
    while width(&segments) > usize::from(area.width) {
        let highest = segments.iter().map(|s| s.rank).max();
        match segments.iter().rposition(|s| Some(s.rank) == highest && s.rank > 0) {
            Some(at) => drop(segments.remove(at)),
            None => break,
        }
    }
    let mut spans = Vec::new();
    for segment in segments {
        spans.push(Span::styled(segment.text, segment.style));
        spans.push(Span::raw("  "));
    }
    put(buffer, area, &Line::from(spans));
}

fn segments(context: Context<'_>) -> Vec<Segment> {
    match context.state.ui.view {
        ViewId::Hosts => of_hosts(context),
        _ => of_host(context),
    }
}

/// All hosts together.
fn of_hosts(context: Context<'_>) -> Vec<Segment> {
    let theme = context.theme;
    let hosts = context.state.hosts();
    let stale = hosts.iter().filter(|h| h.is_stale()).count();
    let (events, lost) = hosts::sums(context);
    let lost_style = if lost > 0 { theme.grave() } else { Style::new() };
    let segment = |rank, text: String, style| Segment { rank, text, style };
    let mut all = vec![
        segment(4, "fragscope".to_owned(), theme.strong()),
        segment(0, format!("{} hosts", hosts.len()), theme.strong()),
    ];
    if stale > 0 {
        all.push(segment(0, format!("{stale} not connected"), theme.grave()));
    }
    all.push(segment(1, format!("ev {}", rate(events)), Style::new()));
    all.push(segment(1, format!("lost {}", count(lost)), lost_style));
    all.push(segment(2, "enter: open".to_owned(), theme.grey()));
    all.push(segment(3, "? help".to_owned(), theme.grey()));
    all
}

fn of_host(context: Context<'_>) -> Vec<Segment> {
    let (host, theme) = (context.state.host(), context.theme);
    let plain = Style::new();
    let mut all = vec![Segment { rank: 4, text: "fragscope".to_owned(), style: theme.strong() }];
    let mut add = |rank: u8, text: Option<String>, style: Style| {
        all.extend(text.map(|text| Segment { rank, text, style }));
    };
    let mode_style = if host.is_stale() { theme.grave() } else { theme.strong() };
    add(3, Some(host_name(context)), plain);
    add(6, host.machine.as_ref().map(|m| m.kernel_release.clone()), plain);
    add(0, Some(mode(context)), mode_style);
    add(1, position(context), theme.notable());
    let interval = host.interval();
    add(
        2,
        interval.as_ref().map(|i| format!("ev {}", rate(i.events(|e| e.allocs + e.frees)))),
        plain,
    );
    if let Some(sample) = host.shown() {
        let lost = sample.events.lost_events();
        let style = loss_severity(&sample.events).map_or(plain, |s| notes::style(context, s));
        let per_second = interval.map(|i| i.events(EventTotals::lost_events)).filter(|r| *r > 0.0);
        let now = per_second.map(|r| format!(" ({})", rate(r))).unwrap_or_default();
        add(1, Some(format!("lost {}{now}", count(lost))), style);
        add(
            5,
            sample.cost.map(|c| format!("own {} cpu {}", percent(c.cpu_share), bytes(c.rss_bytes))),
            plain,
        );
    }
    add(7, fidelity(host), plain);
    add(8, Some("? help".to_owned()), theme.grey());
    all
}

/// The host, and which of how many.
fn host_name(context: Context<'_>) -> String {
    let state = context.state;
    match state.hosts().len() {
        1 => state.host().name().to_owned(),
        n => format!("{} ({}/{n})", state.host().name(), state.selected_host() + 1),
    }
}

fn mode(context: Context<'_>) -> String {
    let state = context.state;
    let host = state.host();
    let mut word = host.phase.headline(host.origin, state.now.wall, &state.zone);
    if let Some(seconds) = behind(context) {
        word += &format!(", {seconds} s behind");
    }
    let progress = host.progress.filter(|p| host.phase == Phase::Streaming && *p < 1.0);
    match (host.origin, progress) {
        (Origin::Bundled, None) => format!("BUNDLED {word}"),
        (_, Some(share)) => format!("{word} {:.0} %", share * 100.0),
        _ => word,
    }
}

/// A replay of this host further behind its events than this many seconds says so.
const BEHIND_MIN_S: i64 = 3;

/// How far the newest sample of this host is behind, where that is worth saying. The clocks of
/// other hosts tell nothing about it.
fn behind(context: Context<'_>) -> Option<i64> {
    let (host, now) = (context.state.host(), context.state.now.wall);
    let newest = host.clock.as_ref()?.at(host.history.newest()?.time_ns);
    let seconds = now.as_second() - newest.as_second();
    let is_live = host.origin == Origin::Local && host.phase == Phase::Streaming;
    (is_live && seconds > BEHIND_MIN_S).then_some(seconds)
}

/// Which moment is shown, where it is not the newest of a live host.
fn position(context: Context<'_>) -> Option<String> {
    let state = context.state;
    let host = state.host();
    let shown = host.shown()?;
    let clock = host.clock.as_ref()?;
    let text = |time_ns| clock.text(time_ns, state.now.wall, &state.zone);
    let time = text(shown.time_ns);
    if let Some(awaited) = host.awaited() {
        let left = host.pace.until(awaited).map(|left| span(left.as_secs_f64().ceil()));
        let left = left.map(|left| format!(", in about {left}")).unwrap_or_default();
        return Some(format!("WAITING for {}{left}, showing {time}", text(awaited)));
    }
    let live = host.origin.is_live() && host.is_growing();
    match host.cursor.position {
        Position::Newest if live || host.is_growing() => None,
        Position::Newest => Some(format!("at the end, {time}")),
        Position::At(_) => Some(format!("PAUSED at {time}")),
        Position::Playing(_) => Some(format!("playing {time} x{}", host.cursor.speed)),
    }
}

/// How far the model tracks are from the kernel's own count of free pages.
fn fidelity(host: &Host) -> Option<String> {
    let sample = host.shown()?;
    let kernel = sample.kernel_divergence.map(|d| format!("kernel {}", percent(d.ratio)));
    let stock = sample.stock_divergence.map(|d| format!("stock {}", percent(d.ratio)));
    let both: Vec<String> = kernel.into_iter().chain(stock).collect();
    (!both.is_empty()).then(|| format!("off by: {}", both.join(", ")))
}
