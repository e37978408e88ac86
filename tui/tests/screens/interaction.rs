//! What keys do, as seen on the screen.

use fragscope::state::act::Effect;
use fragscope::view::theme::Theme;
use ratatui::style::Color;

use crate::made_up::{SMALL, Scene, Shape, press, screen, state, state_with, text};

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
fn the_start_state_is_changed_only_if_there_is_another() {
    let mut live = state(Scene::Live);
    press(&mut live, "b");
    assert!(wide(&live).contains("only as-found is replayed here"));
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
fn hosts_are_gone_through() {
    use fragscope::conn::phase::Origin;
    use fragscope::state::{State, host::Host};
    let hosts = ["unix:/run/a.sock", "unix:/run/b.sock"].map(|l| Host::new(l, Origin::Socket));
    let mut state = State::new(hosts.into(), jiff::tz::TimeZone::UTC);
    assert!(wide(&state).contains("unix:/run/a.sock (1/2)"), "{}", wide(&state));
    press(&mut state, "H");
    assert!(wide(&state).contains("unix:/run/b.sock (2/2)"));
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

#[test]
fn clicks_select_and_open_what_lies_under_them() {
    use fragscope::input::{Action, KeyMap};
    use fragscope::state::ui::ViewId;
    use fragscope::view::{Context, hit};
    use ratatui::layout::{Position, Rect};
    let keys = KeyMap::default();
    let mut state = state(Scene::Live);
    let theme = Theme::default();
    let screen = Rect::new(0, 0, 120, 40);
    let click = |state: &fragscope::state::State, needle: &str| {
        let text = text(state, 120, 40, theme);
        let rows: Vec<&str> = text.lines().collect();
        let y = rows.iter().position(|r| r.contains(needle)).expect(needle);
        let before = rows[y].split(needle).next().expect("a beginning");
        let x = before.chars().count() as u16 - 1;
        let context = Context { state, theme, keys: &keys };
        hit::action(context, screen, Position { x, y: y as u16 })
    };
    assert_eq!(click(&state, "[2] regions"), Some(Action::View(ViewId::Regions)));
    press(&mut state, "2");
    assert_eq!(click(&state, "  12 node 0 Normal"), Some(Action::Select(12)));
    state.act(Action::Select(12));
    assert_eq!(click(&state, "  12 node 0 Normal"), Some(Action::Enter));
    assert_eq!(click(&state, "by address"), None);
    press(&mut state, "3");
    assert_eq!(click(&state, "postgres "), Some(Action::Select(1)));
}

/// Whatever the size, nothing panics: the smallest screens show less.
#[test]
fn every_size_is_survived() {
    for scene in Scene::ALL {
        let mut state = state(scene);
        for keys in ["1", "2", "enter", "3", "4", "5", "?"] {
            press(&mut state, keys);
            for (width, height) in
                [(1, 1), (10, 3), (20, 5), (33, 7), (60, 12), (109, 18), (300, 90)]
            {
                text(&state, width, height, Theme::default());
            }
        }
    }
}
