//! What keys do, as seen on the screen.

use std::sync::Arc;
use std::time::Duration;

use fragscope::conn::phase::Phase;
use fragscope::state::act::Effect;
use fragscope::state::clock::Now;
use fragscope::state::host::Update;
use fragscope::state::{HostId, State};
use fragscope::view::theme::Theme;
use ratatui::style::Color;

use crate::made_up::{self, SECONDS, SMALL, Scene, Shape, press, screen, state, state_with, text};

fn wide(state: &fragscope::state::State) -> String {
    text(state, 120, 40, Theme::default())
}

#[test]
fn pausing_stops_live_time_and_going_on_returns_to_it() {
    let mut state = state(Scene::Live);
    press(&mut state, "space [ [");
    assert!(wide(&state).contains("PAUSED at 14:12:56"), "{}", wide(&state));
    press(&mut state, "space");
    assert!(!wide(&state).contains("PAUSED"));
}

#[test]
fn a_time_is_gone_to_or_the_range_is_named() {
    let mut state = state(Scene::Replay);
    press(&mut state, "t 1 4 : 0 8 enter");
    assert!(wide(&state).contains("PAUSED at 14:08:00"), "{}", wide(&state));
    press(&mut state, "t 1 5 : 0 0 enter");
    assert!(wide(&state).contains("recorded range is 14:03:00 - 14:13:00"), "{}", wide(&state));
    press(&mut state, "t x enter");
    assert!(wide(&state).contains("`x` is no time"), "{}", wide(&state));
}

/// A recording of which ten minutes are read.
fn being_read() -> State {
    let mut state = state(Scene::Replay);
    state.update(HostId(0), Update::Phase(Phase::Streaming));
    state.update(HostId(0), Update::Progress(0.4));
    state
}

#[test]
fn a_time_that_is_not_read_yet_is_waited_for_and_then_shown() {
    let mut state = being_read();
    press(&mut state, "t 1 4 : 1 4 enter");
    let waiting = wide(&state);
    assert!(waiting.contains("READING 40 %  WAITING for 14:14:00, showing 14:13:00"), "{waiting}");
    assert!(waiting.contains("14:14:00 is not read yet, only up to 14:13:00"), "{waiting}");
    let machine = state.host().machine.clone().expect("it has begun");
    for second in [SECONDS + 30, SECONDS + 60, SECONDS + 90] {
        let sample = made_up::sample(&machine, SMALL, second);
        state.update(HostId(0), Update::Sample(Arc::new(sample)));
        let uptime = state.now.uptime + Duration::from_secs(3);
        state.tick(Now { uptime, ..state.now });
        let text = wide(&state);
        match second == SECONDS + 30 {
            // 30 s in 3 s: it is read ten times as fast as it happened.
            true => assert!(
                text.contains("WAITING for 14:14:00, in about 3 s, showing 14:13:30"),
                "{text}"
            ),
            false => assert!(text.contains("PAUSED at 14:14:00"), "{text}"),
        }
    }
}

#[test]
fn what_does_not_come_is_said_at_the_end() {
    let mut state = being_read();
    press(&mut state, "t 1 4 : 5 9 enter");
    state.update(HostId(0), Update::Phase(Phase::Ended { note: None }));
    let text = wide(&state);
    assert!(text.contains("PAUSED at 14:13:00"), "{text}");
    assert!(text.contains("recorded range is 14:03:00 - 14:13:00"), "{text}");
}

#[test]
fn waiting_for_a_time_can_be_given_up() {
    for keys in ["space", "[ ]", "t 1 4 : 0 5 enter", "G"] {
        let mut state = being_read();
        press(&mut state, "t 1 4 : 5 9 enter");
        press(&mut state, keys);
        assert!(state.host().awaited().is_none(), "{keys}: {}", wide(&state));
    }
}

#[test]
fn taints_are_gone_through_in_both_directions() {
    let mut state = state(Scene::Replay);
    press(&mut state, "g n");
    let first = wide(&state);
    press(&mut state, "n");
    assert_ne!(first, wide(&state));
    press(&mut state, "N");
    assert_eq!(first, wide(&state), "back where it was");
    press(&mut state, "G n");
    assert!(wide(&state).contains("no taint of the kernel track after this moment"));
}

#[test]
fn selection_sorting_and_filter_survive_a_change_of_view() {
    let mut state = state(Scene::Live);
    press(&mut state, "2 s / 1 enter down down");
    let before = wide(&state);
    assert!(before.contains("by kernel state  only with \"1\""), "{before}");
    press(&mut state, "3 5 1 2");
    state.ui.message = None;
    assert_eq!(before, wide(&state));
}

#[test]
fn a_filter_that_matches_nothing_says_how_to_clear_it() {
    let mut state = state(Scene::Live);
    press(&mut state, "2 / z z z enter");
    assert!(wide(&state).contains("esc clears it"));
    press(&mut state, "esc");
    assert!(wide(&state).contains("node 0 Normal"));
}

#[test]
fn a_region_is_opened_and_its_neighbours_are_walked_through() {
    let mut state = state(Scene::Live);
    press(&mut state, "2 enter");
    let first = wide(&state);
    assert!(first.contains("region at 0 GiB"), "{first}");
    press(&mut state, "down down down down down");
    assert!(!wide(&state).contains("region at 0 GiB"));
    press(&mut state, "esc");
    assert!(wide(&state).contains("by address"));
}

#[test]
fn free_lists_of_a_region_are_seen_at_every_common_size() {
    let mut state = state(Scene::Live);
    press(&mut state, "2 down down down down down down down enter");
    assert!(wide(&state).contains("free blocks by order"), "{}", wide(&state));
    let small = |state: &_| text(state, 80, 24, Theme::default());
    assert!(small(&state).contains("pageblocks by address"), "{}", small(&state));
    press(&mut state, "enter");
    assert!(small(&state).contains("free blocks by order"), "{}", small(&state));
    press(&mut state, "enter");
    assert!(!small(&state).contains("free blocks by order"));
}

#[test]
fn the_start_state_is_changed_only_if_there_is_another() {
    let mut live = state(Scene::Live);
    press(&mut live, "b");
    assert!(wide(&live).contains("only as found is replayed: --start both"), "{}", wide(&live));
    let mut replay = state(Scene::Replay);
    press(&mut replay, "b");
    assert!(wide(&replay).contains("sp/boot"), "{}", wide(&replay));
}

#[test]
fn quitting_is_left_to_the_program() {
    let mut state = state(Scene::Empty);
    assert_eq!(state.act(fragscope::input::Action::Quit), Some(Effect::Quit));
}

#[test]
fn nothing_is_lost_without_colour() {
    let plain = Theme { colour: false, ..Theme::default() };
    for keys in ["1", "2", "3", "4", "5", "?"] {
        let mut state = state(Scene::Lost);
        press(&mut state, keys);
        let terminal = screen(&state, 120, 40, plain);
        let buffer = terminal.backend().buffer();
        assert!(buffer.content.iter().all(|c| c.fg == Color::Reset && c.bg == Color::Reset));
        assert_eq!(text(&state, 120, 40, plain), wide(&state), "view {keys}");
    }
}

#[test]
fn ascii_is_ascii_and_tells_states_apart() {
    let theme = Theme { colour: false, ascii: true, ..Theme::default() };
    for (scene, keys) in [(Scene::Lost, "1"), (Scene::Live, "2"), (Scene::Live, "2 enter")] {
        let mut state = state(scene);
        press(&mut state, keys);
        let text = text(&state, 120, 40, theme);
        assert!(text.is_ascii(), "{text}");
    }
    use fragscope::view::theme as t;
    let glyphs = [
        t::FREE,
        t::MOVABLE[0],
        t::MOVABLE[1],
        t::MOVABLE[2],
        t::TAINTED,
        t::SPOILED,
        t::HUGETLB,
        t::PARTIAL,
        t::ABSENT,
        t::UNKNOWN,
    ];
    for theme in [theme, Theme::default()] {
        let mut chars: Vec<char> = glyphs.iter().map(|g| theme.char(*g)).collect();
        chars.sort_unstable();
        chars.dedup();
        assert_eq!(chars.len(), glyphs.len(), "two states look alike");
    }
}

#[test]
fn states_keep_their_colours_everywhere() {
    let state = state(Scene::Live);
    let terminal = screen(&state, 120, 40, Theme::default());
    let cells = &terminal.backend().buffer().content;
    let colour = |symbol: &str| {
        let mut found: Vec<Color> =
            cells.iter().filter(|c| c.symbol() == symbol).map(|c| c.fg).collect();
        found.dedup();
        found
    };
    assert_eq!(colour("■"), [Color::Red]);
    assert_eq!(colour("□"), [Color::Red]);
    assert_eq!(colour("▒"), [Color::Blue]);
    assert_eq!(colour("·"), [Color::Green]);
}

#[test]
fn many_regions_become_a_strip_for_each_zone() {
    let shape = Shape { normal_gib: 4096, ..SMALL };
    let state = state_with(Scene::Live, shape);
    for (width, height) in [(40, 10), (80, 24), (120, 40), (200, 60)] {
        let name = format!("strip-{width}x{height}");
        insta::assert_snapshot!(name, text(&state, width, height, Theme::default()));
    }
}

#[test]
fn hosts_are_listed_drilled_into_and_gone_through() {
    let mut state = made_up::fleet(Scene::Disconnected);
    let list = wide(&state);
    assert!(list.contains("3 hosts  1 not connected"), "{list}");
    assert!(list.contains("lost 12 s ago, retry in 5 s"), "{list}");
    press(&mut state, "down enter");
    assert!(wide(&state).contains("db17 (2/3)"), "{}", wide(&state));
    assert!(wide(&state).contains("showing the last data"), "{}", wide(&state));
    press(&mut state, "H");
    assert!(wide(&state).contains("db18 (3/3)"));
    press(&mut state, "esc");
    assert!(wide(&state).contains("3 hosts"), "back in the list");
    press(&mut state, "s s / l o s t enter");
    let lost = wide(&state);
    assert!(lost.contains("by state") && lost.contains("db17") && !lost.contains("db16"), "{lost}");
    press(&mut state, "enter");
    assert!(wide(&state).contains("db17 (2/3)"), "the row, not the position");
}

#[test]
fn one_host_needs_no_list() {
    let mut state = state(Scene::Live);
    press(&mut state, "0");
    assert!(wide(&state).contains("there is only one host"));
    press(&mut state, "x");
    assert!(!wide(&state).contains("[0]"), "{}", wide(&state));
}

/// After a reconnection the old data stays until new comes, and says that it is old.
#[test]
fn a_reconnection_keeps_the_last_data() {
    use fragscope::conn::phase::Phase;
    use fragscope::state::{HostId, host::Update};
    let mut state = state(Scene::Disconnected);
    let before = state.host().shown().cloned();
    let header = state.host().header.clone().expect("it was connected");
    state.update(HostId(0), Update::Header(header));
    let since = state.now.uptime;
    state.update(HostId(0), Update::Phase(Phase::WaitingForSnapshot { since }));
    assert_eq!(state.host().shown().cloned(), before);
    assert!(state.host().is_stale());
    assert!(wide(&state).contains("connected again, waiting for the first snapshot"));
    press(&mut state, "2 down down down down down down down enter");
    assert!(wide(&state).contains("pageblocks by address"), "{}", wide(&state));
}

#[test]
fn a_command_is_found_by_a_part_of_its_name() {
    let mut state = state(Scene::Replay);
    press(&mut state, ": t a i n t");
    insta::assert_snapshot!("palette-80x24", text(&state, 80, 24, Theme::default()));
    press(&mut state, "esc : a l l o enter");
    assert!(wide(&state).contains("allocator counters"));
    press(&mut state, ": z z z enter");
    assert!(wide(&state).contains("`zzz` is no command"));
    press(&mut state, ": l o s t enter");
    assert!(wide(&state).contains("PAUSED"), "first-loss is known by its help as well");
}

/// The action of a click at the first place of the screen where `needle` stands, or `dx` columns
/// and `dy` rows from there.
fn click(
    state: &fragscope::state::State,
    needle: &str,
    (dx, dy): (u16, u16),
) -> Option<fragscope::input::Action> {
    use fragscope::input::KeyMap;
    use fragscope::view::{Context, hit};
    use ratatui::layout::{Position, Rect};
    let text = wide(state);
    let rows: Vec<&str> = text.lines().collect();
    let y = rows.iter().position(|r| r.contains(needle)).expect(needle);
    let before = rows[y].split(needle).next().expect("a beginning");
    // The text of a test screen stands in quotes.
    let x = before.chars().count() as u16 - 1;
    let context = Context { state, theme: Theme::default(), keys: &KeyMap::default() };
    hit::action(context, Rect::new(0, 0, 120, 40), Position { x: x + dx, y: y as u16 + dy })
}

#[test]
fn clicks_select_and_open_what_lies_under_them() {
    use fragscope::input::Action;
    use fragscope::state::ui::ViewId;
    let mut state = state(Scene::Live);
    assert_eq!(click(&state, "[2] regions", (0, 0)), Some(Action::View(ViewId::Regions)));
    press(&mut state, "2");
    assert_eq!(click(&state, "  12 node 0 Normal", (0, 0)), Some(Action::Select(12)));
    state.act(Action::Select(12));
    assert_eq!(click(&state, "  12 node 0 Normal", (0, 0)), Some(Action::Enter));
    assert_eq!(click(&state, "by address", (0, 0)), None);
    press(&mut state, "3");
    assert_eq!(click(&state, "postgres ", (0, 0)), Some(Action::Select(1)));
    let fleet = made_up::fleet(Scene::Live);
    assert_eq!(click(&fleet, "db18", (0, 0)), Some(Action::Select(2)));
}

#[test]
fn clicks_on_the_map_open_the_region_under_them() {
    let mut state = state(Scene::Live);
    press(&mut state, "2 / z enter 1");
    let opened = |state: &mut fragscope::state::State, needle, at| {
        let action = click(state, needle, at).expect("a region lies there");
        state.act(action);
        let text = wide(state);
        press(state, "esc 1");
        text.lines().find(|l| l.contains("region at")).expect("it is open").to_owned()
    };
    let gib = |line: &str, gib: u64| line.contains(&format!("region at {gib} GiB"));
    // Below the addresses there is a row for each track.
    for row in 1..=3 {
        let line = opened(&mut state, "16", (0, row));
        assert!(gib(&line, 16), "{line}");
    }
    assert!(gib(&opened(&mut state, "4 GiB", (0, 1)), 4));
    assert!(gib(&opened(&mut state, "4 GiB", (0, 2)), 4));
    assert_eq!(click(&state, "node 0 Normal", (0, 0)), None);
}

#[test]
fn clicks_on_the_chart_go_to_the_time_under_them() {
    use fragscope::input::Action;
    let mut state = state(Scene::Replay);
    let first = click(&state, "14:03:00", (0, 0)).expect("the axis begins there");
    state.act(first);
    assert!(wide(&state).contains("PAUSED at 14:03:"), "{}", wide(&state));
    let later = click(&state, "14:03:00", (30, 0)).expect("the axis goes on");
    let (Action::GoTo(first), Action::GoTo(later)) = (first, later) else {
        panic!("{first:?} and {later:?}");
    };
    assert!(later > first + 60_000_000_000);
    state.act(Action::GoTo(later));
    assert_eq!(click(&state, "14:03:00", (30, 0)), Some(Action::GoTo(later)), "the axis stays");
}

/// Whatever the size, nothing panics: the smallest screens show less.
#[test]
fn every_size_is_survived() {
    let fleets = Scene::ALL.map(made_up::fleet);
    for mut state in Scene::ALL.map(state).into_iter().chain(fleets) {
        for keys in ["0", "1", "2", "enter", "3", "4", "5", "?"] {
            press(&mut state, keys);
            for (width, height) in
                [(1, 1), (10, 3), (20, 5), (33, 7), (60, 12), (109, 18), (300, 90)]
            {
                text(&state, width, height, Theme::default());
            }
        }
    }
}
