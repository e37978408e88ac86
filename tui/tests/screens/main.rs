//! Every view in every state of the connection and at every size, as text.

mod interaction;
mod made_up;

use fragscope::view::theme::Theme;
use made_up::{Scene, press, state, text};

const SIZES: [(u16, u16); 4] = [(40, 10), (80, 24), (120, 40), (200, 60)];

/// Views by the keys that lead to them.
const VIEWS: [(&str, &str); 7] = [
    ("overview", "1"),
    ("regions", "2"),
    ("region", "2 down down down down down down down enter"),
    ("blame", "3 down"),
    ("allocator", "4"),
    ("health", "5"),
    ("help", "?"),
];

fn check(view: &str, keys: &str) {
    for scene in Scene::ALL {
        let mut state = state(scene);
        press(&mut state, keys);
        for (width, height) in SIZES {
            let name = format!("{view}-{}-{width}x{height}", scene.name());
            insta::assert_snapshot!(name, text(&state, width, height, Theme::default()));
        }
    }
}

#[test]
fn hosts() {
    for scene in Scene::ALL {
        let mut state = made_up::fleet(scene);
        press(&mut state, "down");
        for (width, height) in SIZES {
            let name = format!("hosts-{}-{width}x{height}", scene.name());
            insta::assert_snapshot!(name, text(&state, width, height, Theme::default()));
        }
    }
}

macro_rules! views {
    ($($name:ident: $index:expr,)*) => {$(
        #[test]
        fn $name() {
            let (view, keys) = VIEWS[$index];
            check(view, keys);
        }
    )*};
}

views! {
    overview: 0,
    regions: 1,
    region: 2,
    blame: 3,
    allocator: 4,
    health: 5,
    help: 6,
}
