//! The figures of one checkpoint. All ratios are shares between 0 and 1, or `None` where there is
//! nothing to divide by.

use std::collections::BTreeSet;

use fragscope_trace::event::TimeNs;
use fragscope_trace::page::{Migratetype, Pfn};
use fragscope_trace::region::{RegionCensus, RegionState};
use fragscope_trace::snapshot::SnapshotRole;
use serde::Serialize;

use crate::engine::checkpoint::Checkpoint;
use crate::engine::survey::Survey;
use crate::kernel_track::fidelity::DifferenceCause;

use super::fallback_counts::FallbackCounts;

/// The stock track and the null model against the kernel at one snapshot. `null_` figures are
/// those of the null model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measures {
    /// Why the snapshot was taken.
    pub role: SnapshotRole,
    /// From the opening snapshot to this one.
    pub after_ns: TimeNs,
    /// Memory given to the allocator at this time: what page counts are divided by.
    pub managed_pages: u64,
    /// Free pages on buddy and per-CPU lists, by the snapshot.
    pub kernel_free_pages: u64,
    /// The same in the stock track.
    pub stock_free_pages: u64,
    /// |stock - kernel| free pages over managed pages, both at the same instant, after
    /// subtracting pages of untraced paths, and adding pages of the kernel track that nothing
    /// explains. The recorder's own requests are served by the stock track as any others.
    pub free_pages_error_ratio: f64,
    /// The same against the snapshot's count.
    pub free_pages_raw_error_ratio: f64,
    /// Start against now.
    pub null_free_pages_error_ratio: f64,
    /// Pages on buddy lists: |stock - kernel| over managed pages.
    pub buddy_free_error_ratio: f64,
    /// Start against now.
    pub null_buddy_free_error_ratio: f64,
    /// Pages on per-CPU lists: |stock - kernel| over managed pages.
    pub pcp_pages_error_ratio: f64,
    /// Pages on per-CPU lists of the kernel.
    pub kernel_pcp_pages: u64,
    /// Pages on per-CPU lists of the stock track.
    pub stock_pcp_pages: u64,
    /// Sum over orders of |kernel - stock| free pages in buddy blocks of that order, over the
    /// kernel's free pages in buddy blocks.
    pub order_distance: Option<f64>,
    /// Start against now.
    pub null_order_distance: Option<f64>,
    /// Free blocks on the kernel's buddy lists, by order.
    pub kernel_free_blocks: Vec<u64>,
    /// The same in the stock track.
    pub stock_free_blocks: Vec<u64>,
    /// Pageblock types against the start.
    #[serde(flatten)]
    pub types: TypeChanges,
    /// Whole regions that hold tainting pages by the snapshot.
    pub tainted_regions_kernel: u64,
    /// The same in the stock track.
    pub tainted_regions_stock: u64,
    /// Regions tainted in one of both and not in the other.
    pub tainted_regions_difference: u64,
    /// Regions tainted at the start or now and not both.
    pub null_tainted_regions_difference: u64,
    /// Claims and steals.
    #[serde(flatten)]
    pub fallbacks: FallbackCounts,
    /// Pages of the kernel track that differ from the snapshot and that no untraced path or
    /// uncertainty explains.
    pub unexplained_pages: u64,
    /// Pages whose state is open: unknown to a snapshot, touched while it was read, or perhaps
    /// named by lost events. They are the error bar of every count of pages.
    pub uncertain_pages: u64,
}

impl Measures {
    /// The figures of a checkpoint of a recording that began with `start`.
    #[must_use]
    pub fn new(start: &Survey, checkpoint: &Checkpoint, stock: &Survey, managed: u64) -> Measures {
        let (kernel, tracks) = (&checkpoint.kernel, &checkpoint.tracks);
        let share = |pages: u64| pages as f64 / managed.max(1) as f64;
        let unexplained = checkpoint.fidelity.unexplained_pages;
        let tainted = tainted_regions(&kernel.regions);
        let tainted_stock = tainted_regions(&stock.regions);
        Measures {
            role: checkpoint.fidelity.role,
            after_ns: kernel.time_ns.saturating_sub(start.time_ns),
            managed_pages: managed,
            kernel_free_pages: kernel.free_pages(),
            stock_free_pages: stock.free_pages(),
            free_pages_error_ratio: share(
                stock.free_pages().abs_diff(tracks.kernel_free_pages) + unexplained,
            ),
            free_pages_raw_error_ratio: share(stock.free_pages().abs_diff(kernel.free_pages())),
            null_free_pages_error_ratio: share(start.free_pages().abs_diff(kernel.free_pages())),
            buddy_free_error_ratio: share(stock.buddy_pages().abs_diff(kernel.buddy_pages())),
            null_buddy_free_error_ratio: share(start.buddy_pages().abs_diff(kernel.buddy_pages())),
            pcp_pages_error_ratio: share(stock.pcp_pages.abs_diff(kernel.pcp_pages)),
            kernel_pcp_pages: kernel.pcp_pages,
            stock_pcp_pages: stock.pcp_pages,
            order_distance: order_distance(&kernel.buddy_blocks, &stock.buddy_blocks),
            null_order_distance: order_distance(&kernel.buddy_blocks, &start.buddy_blocks),
            kernel_free_blocks: kernel.buddy_blocks.clone(),
            stock_free_blocks: stock.buddy_blocks.clone(),
            types: TypeChanges::new(
                &start.pageblocks,
                &kernel.pageblocks,
                &stock.pageblocks,
                &kernel.regions,
            ),
            tainted_regions_kernel: tainted.len() as u64,
            tainted_regions_stock: tainted_stock.len() as u64,
            tainted_regions_difference: difference(&tainted, &tainted_stock),
            null_tainted_regions_difference: difference(&tainted, &tainted_regions(&start.regions)),
            fallbacks: FallbackCounts::new(&tracks.kernel_fallbacks, &stock.fallbacks),
            unexplained_pages: unexplained,
            uncertain_pages: uncertain_pages(checkpoint),
        }
    }
}

/// How pageblock types changed since the start. The types are the three that fallbacks change
/// (and highatomic); a pageblock that had no memory at the start was movable then, as the kernel
/// begins every pageblock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TypeChanges {
    /// Pageblocks whose type the kernel changed.
    pub type_changes_kernel: u64,
    /// Pageblocks whose type the stock track changed.
    pub type_changes_stock: u64,
    /// Pageblocks that both changed to the same type.
    pub type_changes_both: u64,
    /// Of the stock track's changes, the share that the kernel made as well.
    pub type_change_precision: Option<f64>,
    /// Of the kernel's changes, the share that the stock track made as well.
    pub type_change_recall: Option<f64>,
    /// Pageblocks whose type in the stock track is not the kernel's. The null model's error is
    /// `type_changes_kernel`.
    pub type_error: u64,
    /// Sum over regions and types of |kernel - stock| pageblocks, halved: pageblocks that would
    /// have to change their type for every region to have the kernel's numbers.
    pub type_error_by_region: u64,
    /// Start against now.
    pub null_type_error_by_region: u64,
    /// The same over the whole machine instead of regions.
    pub type_error_by_machine: u64,
    /// Start against now.
    pub null_type_error_by_machine: u64,
}

/// Types by pageblock; `None` where there is no memory or no knowledge.
type Types = [Option<Migratetype>];

impl TypeChanges {
    /// Compares the types at the start with those of the kernel and the stock track now.
    #[must_use]
    pub fn new(start: &Types, kernel: &Types, stock: &Types, regions: &[RegionCensus]) -> Self {
        let mut changes = TypeChanges::default();
        let at = |types: &Types, block: usize| types.get(block).copied().flatten();
        let mut sums = Sums::new(kernel.len(), regions);
        for (block, now) in kernel.iter().enumerate() {
            let Some(now) = *now else { continue };
            let before = at(start, block).unwrap_or(Migratetype::Movable);
            let model = at(stock, block).unwrap_or(Migratetype::Movable);
            changes.type_changes_kernel += u64::from(now != before);
            changes.type_changes_stock += u64::from(model != before);
            changes.type_changes_both += u64::from(model != before && model == now);
            changes.type_error += u64::from(model != now);
            sums.add(block, now, model, before);
        }
        let share = |of: u64| (of > 0).then(|| changes.type_changes_both as f64 / of as f64);
        TypeChanges {
            type_change_precision: share(changes.type_changes_stock),
            type_change_recall: share(changes.type_changes_kernel),
            type_error_by_region: sums.error(|sum| sum.stock),
            null_type_error_by_region: sums.error(|sum| sum.start),
            type_error_by_machine: sums.error_of_machine(|sum| sum.stock),
            null_type_error_by_machine: sums.error_of_machine(|sum| sum.start),
            ..changes
        }
    }
}

/// Kernel's pageblocks of one type in one region, less those of the stock track and the start.
#[derive(Clone, Copy, Debug, Default)]
struct Excess {
    stock: i64,
    start: i64,
}

/// Excesses by region and type.
struct Sums {
    region_of: Vec<u32>,
    excess: Vec<[Excess; Migratetype::COUNT]>,
}

impl Sums {
    fn new(blocks: usize, regions: &[RegionCensus]) -> Sums {
        let mut region_of = vec![0; blocks];
        for (index, region) in regions.iter().enumerate() {
            let order = u32::from(fragscope_trace::page::PAGEBLOCK_ORDER);
            let first = (region.start.0.div_ceil(1 << order)) as usize;
            let end = (region.start.0 + region.span_pages).div_ceil(1 << order) as usize;
            let end = end.min(blocks);
            region_of[first.min(end)..end].fill(index as u32);
        }
        Sums { region_of, excess: vec![Default::default(); regions.len().max(1)] }
    }

    fn add(&mut self, block: usize, now: Migratetype, model: Migratetype, before: Migratetype) {
        let excess = &mut self.excess[self.region_of[block] as usize];
        excess[now.index()].stock += 1;
        excess[now.index()].start += 1;
        excess[model.index()].stock -= 1;
        excess[before.index()].start -= 1;
    }

    fn error(&self, of: fn(&Excess) -> i64) -> u64 {
        self.excess.iter().flatten().map(|sum| of(sum).unsigned_abs()).sum::<u64>() / 2
    }

    fn error_of_machine(&self, of: fn(&Excess) -> i64) -> u64 {
        let of_type =
            |index: usize| self.excess.iter().map(|region| of(&region[index])).sum::<i64>();
        (0..Migratetype::COUNT).map(|index| of_type(index).unsigned_abs()).sum::<u64>() / 2
    }
}

/// Sum over orders of |kernel - model| pages in free blocks of that order, over the kernel's
/// pages in free blocks; `None` if the kernel has none.
#[must_use]
pub fn order_distance(kernel: &[u64], model: &[u64]) -> Option<f64> {
    let at = |blocks: &[u64], order: usize| blocks.get(order).copied().unwrap_or(0) << order;
    let orders = 0..kernel.len().max(model.len());
    let total: u64 = orders.clone().map(|order| at(kernel, order)).sum();
    let apart: u64 = orders.map(|order| at(kernel, order).abs_diff(at(model, order))).sum();
    (total > 0).then(|| apart as f64 / total as f64)
}

/// Starts of the regions in state tainted.
#[must_use]
pub fn tainted_regions(regions: &[RegionCensus]) -> BTreeSet<Pfn> {
    let tainted = |region: &&RegionCensus| region.state() == RegionState::Tainted;
    regions.iter().filter(tainted).map(|region| region.start).collect()
}

fn difference(a: &BTreeSet<Pfn>, b: &BTreeSet<Pfn>) -> u64 {
    a.symmetric_difference(b).count() as u64
}

fn uncertain_pages(checkpoint: &Checkpoint) -> u64 {
    let causes =
        [DifferenceCause::Unknown, DifferenceCause::ReadingWindow, DifferenceCause::LostEvents];
    let pages = &checkpoint.fidelity.difference_pages;
    causes.iter().filter_map(|cause| pages.get(cause)).sum()
}
