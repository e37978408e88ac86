//! How often a frame asks for memory: by what it shows, not by how much there is to show it of.

#[path = "screens/made_up.rs"]
#[expect(dead_code, reason = "the tests of the screen use all of it")]
mod made_up;

use allocation_counter::measure;
use fragscope::input::KeyMap;
use fragscope::view::theme::Theme;
use fragscope::view::{Context, render};
use made_up::{SMALL, Scene, Shape, press, state_with};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// Allocations of one frame of the largest screen.
fn of_frame(regions: u64, keys: &str) -> u64 {
    let mut state = state_with(Scene::Live, Shape { normal_gib: regions - 3, ..SMALL });
    press(&mut state, keys);
    let keys = KeyMap::default();
    let mut buffer = Buffer::empty(Rect::new(0, 0, 200, 60));
    let area = buffer.area;
    let context = Context { state: &state, theme: Theme::default(), keys: &keys };
    measure(|| render(context, area, &mut buffer)).count_total
}

#[test]
fn a_frame_allocates_by_line_and_not_by_cell() {
    const CELLS: u64 = 200 * 60;
    for (view, keys) in [("overview", "1"), ("regions", "2"), ("region", "2 enter")] {
        let (few, many) = (of_frame(1024, keys), of_frame(4096, keys));
        println!("{view}: {few} allocations with 1,024 regions, {many} with 4,096");
        assert!(many < CELLS / 5, "{view} allocates {many} times");
        assert!(many <= few + few / 10, "{view}: {few} with 1,024 regions, {many} with 4,096");
    }
}
