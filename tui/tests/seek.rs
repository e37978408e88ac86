//! What a view shows of a moment that was gone to is what it showed when that moment was the newest.

use std::sync::OnceLock;
use std::sync::mpsc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use fragscope::cli::Starts;
use fragscope::conn::phase::Origin;
use fragscope::conn::recording::Recording;
use fragscope::engine::outbox::Outbox;
use fragscope::engine::worker::{self, Settings};
use fragscope::epoch::Epoch;
use fragscope::input::{Action, KeyMap};
use fragscope::state::host::{Host, Update};
use fragscope::state::{HostId, State, facts};
use fragscope::view::theme::Theme;
use fragscope::view::{Context, render};
use fragscope_replay::synth;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

/// Views by the keys that lead to them, and a size at which they show nothing but the moment: the
/// smallest overview has no chart.
const VIEWS: [(&str, u16, u16); 5] =
    [("1", 60, 12), ("2", 120, 40), ("2Gk\n", 160, 60), ("3", 120, 40), ("4", 120, 60)];
/// Sections of the health view that are about the moment shown.
const SECTIONS: [&str; 4] = ["events", "lost", "fidelity", "own cost"];

/// A synthetic machine, replayed as the dashboard does.
fn news() -> Vec<Update> {
    let mut workload = synth::presets::preset("small", Some(4 << 30)).expect("there is one");
    workload.duration_s = 4.0;
    workload.scale_rates(0.3);
    let mut trace = Vec::new();
    synth::generate(&workload, 3, &mut trace, |_| {}).expect("generated");
    let trace: &'static [u8] = trace.leak();
    let source = Recording::new(trace, Some(trace.len() as u64)).expect("a trace");
    let (sender, mut news) = tokio::sync::mpsc::channel(64);
    let outbox = Outbox::new(HostId(0), sender, true);
    let settings = Settings { starts: Starts::AsFound, live: false };
    let (_control, controls) = mpsc::channel();
    let reader = worker::spawn(Box::new(source), settings, outbox, controls, Epoch::now());
    let mut all = Vec::new();
    while let Some((_, update)) = news.blocking_recv() {
        all.push(update);
    }
    reader.expect("a thread").join().expect("it ends in order");
    all
}

/// Types keys; the line feed is enter.
fn press(state: &mut State, keys: &str) {
    for key in keys.chars() {
        let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
        let action = KeyMap::default().action(KeyEvent::new(code, KeyModifiers::NONE));
        state.act(action.expect("a key with a meaning"));
    }
}

/// What the views show, without the lines above and below, which say how the moment was reached.
fn screens(state: &State) -> Vec<String> {
    let mut state = state.clone();
    let mut all = Vec::new();
    for (keys, width, height) in VIEWS {
        press(&mut state, keys);
        let keys = KeyMap::default();
        let context = Context { state: &state, theme: Theme::default(), keys: &keys };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("no I/O");
        terminal.draw(|f| render(context, f.area(), f.buffer_mut())).expect("no I/O");
        let text = terminal.backend().to_string();
        let lines: Vec<&str> = text.lines().collect();
        all.push(lines[1..lines.len() - 1].join("\n"));
    }
    let sections = facts::sections(&state);
    let of_moment = sections.into_iter().filter(|(name, _)| SECTIONS.contains(name));
    all.extend(of_moment.map(|(name, facts)| format!("{name}: {facts:#?}")));
    all
}

/// A moment, and what the views showed when it was the newest.
type Seen = (u64, Vec<String>);

/// The whole recording, and every moment of it as it was seen when it was the newest.
fn watched() -> &'static (State, Vec<Seen>) {
    static WATCHED: OnceLock<(State, Vec<Seen>)> = OnceLock::new();
    WATCHED.get_or_init(|| {
        let mut state = State::new(vec![Host::new("small.fst", Origin::File)], TimeZone::UTC);
        let mut seen: Vec<Seen> = Vec::new();
        for update in news() {
            let is_sample = matches!(update, Update::Sample(_));
            state.update(HostId(0), update);
            let shown = state.host().shown().filter(|s| is_sample && s.tracks.len() == 3);
            if let Some(time_ns) = shown.map(|s| s.time_ns) {
                // The last sample is taken again when the trace is over.
                seen.retain(|(before_ns, _)| *before_ns < time_ns);
                seen.push((time_ns, screens(&state)));
            }
        }
        (state, seen)
    })
}

#[test]
fn moments_differ() {
    let (state, seen) = watched();
    assert!(!state.host().is_growing(), "it is read to its end");
    assert!(seen.len() >= 35, "{} moments", seen.len());
    let starts = state.host().header.as_ref().expect("it began").started_ns;
    for (time_ns, _) in &seen[..seen.len() - 1] {
        assert_eq!((time_ns - starts) % 100_000_000, 0, "samples fall on tenths of a second");
    }
    let pictures = |view: usize| {
        let mut texts: Vec<&str> = seen.iter().map(|(_, views)| views[view].as_str()).collect();
        texts.dedup();
        texts.len()
    };
    let changing = [0, 1, 2, 3, 4].map(pictures);
    assert!(changing.iter().all(|n| *n > 1), "{changing:?} pictures");
    assert!([1, 2, 4].iter().all(|view| changing[*view] > seen.len() / 2), "{changing:?} pictures");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_moment_gone_to_looks_as_it_did_when_it_was_the_newest(
        order in prop::collection::vec((any::<prop::sample::Index>(), 0u64..90_000_000), 1..6),
    ) {
        let (state, seen) = watched();
        let mut state = state.clone();
        for (index, later_ns) in order {
            let (time_ns, screens_then) = &seen[index.index(seen.len() - 1)];
            // Any time from this sample until the next is this sample's.
            state.act(Action::GoTo(time_ns + later_ns));
            for (now, then) in screens(&state).iter().zip(screens_then) {
                prop_assert_eq!(now, then);
            }
        }
    }
}
