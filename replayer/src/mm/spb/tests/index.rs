//! The three indexes: identical placement under the common tie-break, different cost.

use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::CpuId;
use proptest::prelude::*;

use crate::mm::frames::Frame;
use crate::mm::request::Request;
use crate::mm::settings::{IndexKind, Settings};

use super::bed::*;

/// Random work; where each request was served, and the superpageblocks visited.
fn place(settings: &Settings, steps: &[(u8, usize, bool, usize)]) -> (Vec<Option<Frame>>, u64) {
    let bed = Bed::new(5, settings);
    let shapes = [UNMOVABLE, RECLAIMABLE, MOVABLE, MOVABLE, Gfp::ATOMIC, Gfp::NOWAIT];
    let mut live: Vec<Vec<u32>> = Vec::new();
    let mut placed = Vec::new();
    for (order, shape, free, which) in steps {
        if *free && !live.is_empty() {
            bed.free_pages(&live.swap_remove(which % live.len()));
            continue;
        }
        let frame = bed.try_alloc(&Request::new(*order, shapes[*shape], CpuId(0))).ok();
        live.extend(frame.map(|frame| bed.pages(frame, *order)));
        placed.push(frame);
    }
    (placed, bed.spbs().events().visits.total())
}

fn steps() -> impl Strategy<Value = Vec<(u8, usize, bool, usize)>> {
    prop::collection::vec(
        (0..=BLOCK_ORDER, 0..6usize, prop::bool::weighted(0.35), any::<usize>()),
        1..400,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// With hints off and ties broken by address, the linear walk and the bitmaps choose the same
    /// superpageblock each time, and the bitmaps look at no more of them.
    #[test]
    fn linear_and_bitmap_place_identically(steps in steps()) {
        let with = |spb_index| Settings { spb_index, spb_rotation: false, ..settings() };
        let (linear, walked) = place(&with(IndexKind::Linear), &steps);
        let (bitmap, found) = place(&with(IndexKind::Bitmap), &steps);
        prop_assert_eq!(linear, bitmap);
        prop_assert!(found <= walked, "bitmaps visited {}, the walk {}", found, walked);
    }

    /// The hint index without patch 31 is the linear walk.
    #[test]
    fn p31_off_is_linear(steps in steps()) {
        let linear = Settings { spb_index: IndexKind::Linear, ..settings() };
        prop_assert_eq!(place(&linear, &steps), place(&without("p31"), &steps));
    }

    /// Replaying the same work twice gives the same frames, with every index.
    #[test]
    fn placement_is_deterministic(steps in steps()) {
        for spb_index in [IndexKind::Linear, IndexKind::Hint, IndexKind::Bitmap] {
            let settings = Settings { spb_index, ..settings() };
            prop_assert_eq!(place(&settings, &steps), place(&settings, &steps));
        }
    }
}

/// Upstream's rotation changes which of several equals serves.
#[test]
fn rotation_is_a_choice() {
    let served_by = |spb_rotation: bool| {
        let settings = Settings { spb_rotation, spb_index: IndexKind::Linear, ..settings() };
        let bed = Bed::new(3, &settings);
        // Two clean superpageblocks in one bucket; number 0 is touched last.
        bed.occupy([SPB, 0], MOVABLE);
        spb_of(bed.alloc(0, MOVABLE))
    };
    assert_eq!((served_by(true), served_by(false)), (1, 0));
}
