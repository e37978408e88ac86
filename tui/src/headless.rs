//! Without a terminal: one comparison on standard output, or a picture of a screen.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fragscope_replay::compare::trace_report::TraceReport;
use fragscope_replay::compare::track_report::TrackReport;
use fragscope_replay::compare::{Comparison, table};
use fragscope_replay::engine::observatory::{Observatory, Stage};
use fragscope_trace::frame::Frame;
use serde::Serialize;
use tokio::sync::mpsc::channel;

use crate::cli::Cli;
use crate::config::Config;
use crate::conn::source::{Arrival, Source};
use crate::engine::outbox::Outbox;
use crate::engine::worker;
use crate::epoch::Epoch;
use crate::export::svg;
use crate::launch::{self, Opened};
use crate::state::warnings::COUNT_MODE;
use crate::state::{HostId, State};
use crate::view::Context;

/// How long a wait for a frame lasts before the clock is looked at.
const PATIENCE: Duration = Duration::from_millis(50);
/// A live host that gives no snapshot for so long gives none.
const SNAPSHOT_MAX: Duration = Duration::from_secs(60);

/// What `--once --json` prints: how it was obtained, and the comparison of `fragscope-replay
/// compare`.
#[derive(Debug, Serialize)]
struct Once {
    /// `live` or `recording`.
    mode: &'static str,
    /// Why it is not this host, where that was wanted.
    why: Option<String>,
    /// Where the trace comes from.
    source: String,
    /// How the trace ended, where it was cut off, and what it does not have.
    note: Option<String>,
    #[serde(flatten)]
    comparison: Comparison,
}

/// Prints one comparison.
///
/// # Errors
/// If nothing can be compared, or not be printed.
pub fn once(cli: &Cli, epoch: Epoch) -> Result<()> {
    if cli.connect.len() > 1 {
        let found = cli.connect.len();
        anyhow::bail!("one comparison is of one host: expected one --connect, found {found}");
    }
    let Opened { host, mut source } = launch::open(cli, epoch)?.swap_remove(0);
    let limit = host.origin.is_live().then(|| Duration::from_secs_f64(cli.seconds));
    let (mut tracks, note) = watch(source.as_mut(), cli, limit, epoch)?;
    let counted = (!tracks.header().mode.is_full()).then(|| COUNT_MODE.to_owned());
    let notes: Vec<String> = note.into_iter().chain(counted).collect();
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    let comparison = compare(&mut tracks)?;
    let out = Once {
        mode: if host.origin.is_live() { "live" } else { "recording" },
        why: host.fallback,
        source: host.label,
        note,
        comparison,
    };
    let text = if cli.json { serde_json::to_string_pretty(&out)? + "\n" } else { plain(&out) };
    io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn plain(out: &Once) -> String {
    let mut text = format!("{} ({})\n", out.source, out.mode);
    for line in out.why.iter().chain(&out.note) {
        text += &format!("{line}\n");
    }
    text + "\n" + &table::text(&out.comparison)
}

/// Replays a source to its end, or a live one for `limit` after its tracks began.
fn watch(
    source: &mut dyn Source,
    cli: &Cli,
    limit: Option<Duration>,
    epoch: Epoch,
) -> Result<(Observatory, Option<String>)> {
    let mut tracks: Option<Observatory> = None;
    let began = epoch.elapsed();
    let mut until = limit.map(|_| began + SNAPSHOT_MAX);
    let mut running = false;
    let note = loop {
        match source.next(PATIENCE) {
            Arrival::Frame(Frame::Header(header)) => {
                let specs = cli.start.tracks(&header);
                tracks = Some(Observatory::new(&header, specs)?);
            }
            Arrival::Frame(frame) => {
                let tracks = tracks.as_mut().context("the trace has no header")?;
                tracks.feed(&frame)?;
                if !running && matches!(tracks.stage(), Stage::Running) {
                    running = true;
                    until = limit.map(|l| epoch.elapsed() + l);
                }
                if let Frame::Events(batch) = frame {
                    source.recycle(batch);
                }
            }
            Arrival::Nothing | Arrival::Phase(_) => {}
            Arrival::Over(note) => break note,
            Arrival::Failed(why) => anyhow::bail!(why),
        }
        if until.is_some_and(|u| epoch.elapsed() >= u) {
            source.stop();
            until = None;
        }
    };
    let mut tracks = tracks.context("no trace came")?;
    tracks.finish()?;
    Ok((tracks, note))
}

fn compare(tracks: &mut Observatory) -> Result<Comparison> {
    let policies = tracks.policy_samples()?;
    let sample = tracks.sample_with(&policies);
    let kernel = sample.tracks.first().context("the trace has no snapshot to begin with")?;
    let mut reports = vec![TrackReport::new(kernel, &sample.events, sample.floor_1g)];
    let policy = |p| TrackReport::of_policy(p, &sample.events, sample.floor_1g);
    reports.extend(policies.iter().map(policy));
    let trace = TraceReport::new(tracks, sample.kernel_divergence, None);
    Ok(Comparison::new(trace, reports))
}

/// Writes the screen as the dashboard would show it to an SVG file.
///
/// # Errors
/// If there is nothing to show, or the file can't be written.
pub fn picture(cli: &Cli, file: &Path, config: &Config, epoch: Epoch) -> Result<()> {
    let state = gather(cli, epoch)?;
    let (width, height) = cli.size;
    let context = Context { state: &state, theme: config.theme, keys: &config.keys };
    std::fs::write(file, svg::screen(context, width, height))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// The state that the dashboard would have at the end of the trace, or after the time given.
fn gather(cli: &Cli, epoch: Epoch) -> Result<State> {
    let (hosts, sources): (Vec<_>, Vec<_>) =
        launch::open(cli, epoch)?.into_iter().map(|o| (o.host, o.source)).unzip();
    let live = hosts.iter().any(|h| h.origin.is_live());
    let mut state = launch::state(hosts, cli);
    let (sender, mut news) = channel(64);
    for (i, source) in sources.into_iter().enumerate() {
        let outbox = Outbox::new(HostId(i), sender.clone(), true);
        let settings = worker::Settings { starts: cli.start, live };
        let (_, controls) = std::sync::mpsc::channel();
        drop(worker::spawn(source, settings, outbox, controls, epoch)?);
    }
    drop(sender);
    let until = epoch.elapsed() + Duration::from_secs_f64(cli.seconds);
    while let Some((host, update)) = news.blocking_recv() {
        state.update(host, update);
        let shown = state.hosts().iter().all(|h| h.shown().is_some());
        if live && epoch.elapsed() >= until && shown {
            break;
        }
    }
    state.tick(epoch.read());
    if let Some(at) = &cli.at {
        state.seek_text(at);
    }
    Ok(state)
}
