//! Time of one frame, from the state to the screen's cells: 1,024 and 4,096 regions in three
//! tracks, the largest screen.

#[path = "../tests/screens/made_up.rs"]
#[expect(dead_code, reason = "the tests of the screen use all of it")]
mod made_up;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fragscope::input::KeyMap;
use fragscope::view::theme::Theme;
use fragscope::view::{Context, render};
use made_up::{SMALL, Scene, Shape, press, state_with};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    let keys = KeyMap::default();
    for normal_gib in [1021, 4093] {
        let mut state = state_with(Scene::Live, Shape { normal_gib, ..SMALL });
        for (view, key) in [("overview", "1"), ("regions", "2"), ("region", "enter")] {
            press(&mut state, key);
            let id = BenchmarkId::new(view, format!("{} regions", normal_gib + 3));
            let mut buffer = Buffer::empty(Rect::new(0, 0, 200, 60));
            group.bench_function(id, |bencher| {
                bencher.iter(|| {
                    buffer.reset();
                    let context = Context { state: &state, theme: Theme::default(), keys: &keys };
                    let area = buffer.area;
                    render(context, area, black_box(&mut buffer));
                });
            });
        }
        press(&mut state, "esc");
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = frames
}
criterion_main!(benches);
