//! What the tables of a track take, counted at the allocator: at most 16 bytes for each page
//! frame, and a little for each pageblock, CPU and zone.

#[path = "small_machine/mod.rs"]
mod small_machine;

use fragscope_replay::mm::allocator::PageAllocator;
use fragscope_replay::mm::settings::{IndexKind, Settings};
use fragscope_replay::mm::{SpbMm, StockMm};
use fragscope_trace::machine::Machine;

const FRAME_BYTES: u64 = 16;
/// Type, owner and links of a pageblock, its region and zone, and whether it changed; and its
/// share of the region's lists and counters.
const PAGEBLOCK_BYTES: u64 = 32;
/// Of a pageset: its lists, and what is foreseen of them.
const PAGESET_BYTES: u64 = 1 << 20;
/// Of the rest.
const TRACK_BYTES: u64 = 1 << 20;
const GIB_PAGES: u64 = 1 << 18;

/// With every page free.
fn allocated_bytes<A: PageAllocator>(machine: &Machine, settings: &Settings) -> u64 {
    let mut kept = None;
    let counted = allocation_counter::measure(|| {
        let allocator = A::build(machine, settings).expect("a sound machine");
        allocator.boot(&small_machine::all_free(machine));
        kept = Some(allocator);
    });
    let (zone, cached) = kept.expect("it was built").free_pages();
    assert_eq!(zone + cached, machine.managed_pages());
    u64::try_from(counted.bytes_current).expect("tables are kept")
}

#[test]
fn tables_take_sixteen_bytes_a_frame() {
    for gib in [1, 4, 16] {
        let pages = gib * GIB_PAGES;
        let machine = small_machine::machine(pages, 9, 10, 4);
        let sets = machine.zones.len() as u64 * machine.cpus.len() as u64;
        let most = FRAME_BYTES * pages
            + PAGEBLOCK_BYTES * (pages >> 9)
            + PAGESET_BYTES * sets
            + TRACK_BYTES;
        let least = FRAME_BYTES * pages;
        for spb_index in [IndexKind::Linear, IndexKind::Hint, IndexKind::Bitmap] {
            let settings = Settings { spb_index, ..Settings::default() };
            let tracks = [
                ("stock", allocated_bytes::<StockMm>(&machine, &settings)),
                ("spb", allocated_bytes::<SpbMm>(&machine, &settings)),
            ];
            for (track, bytes) in tracks {
                assert!(
                    (least..=most).contains(&bytes),
                    "{track} with {spb_index:?} on {gib} GiB: {bytes} bytes, expected at most {most}"
                );
            }
        }
    }
}
