//! Snapshots of the running kernel against what `/proc` says of it.
//!
//! The host goes on while it is read, so `/proc` is read before and after, and a figure may lie
//! anywhere between the two (with a margin for what came and went).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use fragscope_agent::machine::{read_machine, read_zones};
use fragscope_agent::proc::pagetypeinfo::{self, Count, PageTypeInfo};
use fragscope_agent::proc::vmstat;
use fragscope_agent::snapshot::grow::Absences;
use fragscope_agent::snapshot::report::Report;
use fragscope_agent::snapshot::source::{Snapshotter, SourceChoice};
use fragscope_agent::snapshot::{Limits, SnapshotError, kpageflags};
use fragscope_trace::machine::{Zone, ZoneKind};
use fragscope_trace::page::{Content, Migratetype, Pfn, PfnRange};
use fragscope_trace::region::{RegionCensus, RegionState, census};
use fragscope_trace::snapshot::{FreeList, Snapshot, SnapshotRole};

use crate::common;

/// Tries to find a quiet moment.
const TRIES: u32 = 20;

fn struct_pages() -> Snapshotter {
    Snapshotter::open(SourceChoice::StructPages, None).unwrap()
}

fn take(snapshotter: &mut Snapshotter) -> Snapshot {
    snapshotter.take(SnapshotRole::Standalone, &Limits::default()).unwrap()
}

/// Whether `value` lies between two readings, with a margin on either side.
fn between(before: u64, value: u64, after: u64, margin: u64) -> bool {
    let (low, high) = (before.min(after), before.max(after));
    (low.saturating_sub(margin)..=high + margin).contains(&value)
}

/// What must hold of every snapshot, whatever the host does.
fn check_shape(snapshot: &Snapshot) {
    let mut spans: Vec<_> = snapshot.machine.zones.iter().map(Zone::span).collect();
    spans.sort_by_key(|s| s.start);
    let spanned: u64 = spans.iter().map(|s| s.pages()).sum();
    assert_eq!(snapshot.totals().iter().sum::<u64>(), spanned, "totals add up to the spans");
    for pair in snapshot.runs.windows(2) {
        assert!(pair[0].range().end <= pair[1].start, "{pair:?}");
    }
    for run in &snapshot.runs {
        let whole = run.start.is_aligned(run.order) && run.pages % (1 << run.order) == 0;
        assert!(run.pages > 0 && whole, "{run:?}");
    }
    for chunks in snapshot.chunks.windows(2) {
        assert!(chunks[0].range.end <= chunks[1].range.start, "{chunks:?}");
        assert!(chunks[0].end_ns <= chunks[1].begin_ns, "{chunks:?}");
    }
    assert!(snapshot.begin_ns <= snapshot.chunks[0].begin_ns);
    for row in Report::new(snapshot).regions {
        assert_eq!(row.pages.sum(), row.span_pages, "{row:?}");
    }
}

/// Every free block and every per-CPU block is on exactly one list, and each list's blocks are
/// free. Per-CPU pages that a change cut off are on none, and the notes say so.
fn check_lists(snapshot: &Snapshot) {
    let mut on_lists: BTreeMap<Pfn, (Content, u8)> = BTreeMap::new();
    for list in &snapshot.lists {
        let content = if list.cpu.is_some() { Content::Pcp } else { Content::Free };
        for block in &list.blocks {
            assert_eq!(on_lists.insert(*block, (content, list.order)), None, "{block} twice");
        }
    }
    let (mut listed, mut cut_off) = (0, 0);
    for run in &snapshot.runs {
        if matches!(run.content, Content::Free | Content::Pcp) {
            for pfn in run.range().raw().step_by(1 << run.order) {
                match on_lists.get(&Pfn(pfn)) {
                    None if run.content == Content::Pcp && run.order == 0 => cut_off += 1,
                    found => {
                        assert_eq!(found, Some(&(run.content, run.order)), "{run:?}");
                        listed += 1;
                    }
                }
            }
        }
    }
    assert_eq!(listed, on_lists.len());
    let note = format!("{cut_off} pages are on per-CPU lists that changed");
    assert!(cut_off == 0 || snapshot.notes.iter().any(|n| n.starts_with(&note)), "{cut_off}");
}

type Counts = BTreeMap<(u16, ZoneKind, u8, Migratetype), u64>;

/// Blocks by zone, order and type as `/proc/pagetypeinfo` has them.
fn shown_counts(info: &PageTypeInfo) -> Counts {
    let mut counts = Counts::new();
    for row in &info.free {
        for (order, count) in row.blocks.iter().enumerate() {
            let (Count::Exact(n) | Count::AtLeast(n)) = count;
            counts.insert((row.node, row.kind, order as u8, row.migratetype), *n);
        }
    }
    counts
}

fn list_counts(snapshot: &Snapshot) -> Counts {
    let mut counts = Counts::new();
    for list in snapshot.lists.iter().filter(|list| list.cpu.is_none()) {
        let zone = &snapshot.machine.zones[usize::from(list.zone)];
        let key = (zone.node, zone.kind, list.order, list.migratetype);
        *counts.entry(key).or_default() += list.blocks.len() as u64;
    }
    counts
}

/// Lists whose length lies outside of what `/proc/pagetypeinfo` said before and after.
fn differing_lists(before: &Counts, found: &Counts, after: &Counts) -> Counts {
    let mut differing = Counts::new();
    for key in before.keys().chain(found.keys()) {
        let [first, value, last] =
            [before, found, after].map(|counts| counts.get(key).copied().unwrap_or(0));
        if !between(first, value, last, 0) {
            differing.insert(*key, value);
        }
    }
    differing
}

/// The free lists equal /proc/pagetypeinfo (and so /proc/buddyinfo, its sum) per zone, order and
/// type. A list that changes while it is read may differ; but each must be equal at some time.
#[test]
fn free_lists_equal_pagetypeinfo() {
    let Some(_turn) = common::turn() else { return };
    let mut snapshotter = struct_pages();
    let mut never_equal: Option<Counts> = None;
    for attempt in 1..=TRIES {
        let before = pagetypeinfo::read().unwrap();
        let snapshot = take(&mut snapshotter);
        let after = pagetypeinfo::read().unwrap();
        check_shape(&snapshot);
        check_lists(&snapshot);
        let found = list_counts(&snapshot);
        let mut differing = differing_lists(&shown_counts(&before), &found, &shown_counts(&after));
        let blocks: u64 = found.values().sum();
        let lists = found.len();
        println!("attempt {attempt}: {lists} lists, {blocks} blocks; moving: {differing:?}");
        if let Some(earlier) = &never_equal {
            differing.retain(|key, _| earlier.contains_key(key));
        }
        if differing.is_empty() {
            return;
        }
        never_equal = Some(differing);
    }
    panic!("lists that never equalled /proc/pagetypeinfo: {never_equal:?}");
}

/// Blocks per order equal /proc/buddyinfo, and NR_FREE_PAGES.
#[test]
fn free_blocks_equal_buddyinfo() {
    let Some(_turn) = common::turn() else { return };
    let mut snapshotter = struct_pages();
    let before = read_zones().unwrap();
    let snapshot = take(&mut snapshotter);
    let after = read_zones().unwrap();
    for (index, zone) in before.iter().enumerate() {
        let free: u64 = (snapshot.lists.iter())
            .filter(|list| usize::from(list.zone) == index && list.cpu.is_none())
            .map(|list| (list.blocks.len() as u64) << list.order)
            .sum();
        let (first, last) = (zone.free_pages, after[index].free_pages);
        println!("{}: {first} free before, {free} on lists, {last} after", zone.label());
        // NR_FREE_PAGES lags behind by its per-CPU differences; a busy host moves on meanwhile.
        let margin = 256 + zone.managed_pages / 200;
        assert!(between(first, free, last, margin), "{}", zone.label());
    }
}

/// Pages on per-CPU lists equal the pagesets' counts.
#[test]
fn per_cpu_lists_equal_the_counts() {
    let Some(_turn) = common::turn() else { return };
    let mut snapshotter = struct_pages();
    let mut report = String::new();
    for _ in 0..TRIES {
        let before = read_zones().unwrap();
        let snapshot = take(&mut snapshotter);
        let after = read_zones().unwrap();
        report.clear();
        let mut good = true;
        for (index, zone) in before.iter().enumerate() {
            for shown in &zone.pagesets {
                let of_cpu = |list: &&FreeList| {
                    usize::from(list.zone) == index && list.cpu == Some(shown.cpu)
                };
                let lists = snapshot.lists.iter().filter(of_cpu);
                let found: u64 = lists.map(|l| (l.blocks.len() as u64) << l.order).sum();
                let pageset = |zones: &[Zone]| {
                    let all = &zones[index].pagesets;
                    all.iter().find(|p| p.cpu == shown.cpu).map_or(0, |p| p.count)
                };
                let (first, last) = (shown.count, pageset(&after));
                let (label, cpu) = (zone.label(), shown.cpu.0);
                let _ = writeln!(
                    report,
                    "{label} cpu {cpu}: {first} before, {found} found, {last} after"
                );
                good &= between(first, found, last, 512);
                // What /proc does not show comes from the kernel's structure.
                let read = &snapshot.machine.zones[index].pagesets;
                assert!(read.iter().all(|p| p.free_count.is_some()));
            }
        }
        if good {
            println!("{report}");
            return;
        }
    }
    panic!("per-CPU lists differ from their counts:\n{report}");
}

fn reserved_in(snapshot: &Snapshot, zone: &Zone) -> u64 {
    let reserved = snapshot.runs.iter().filter(|run| run.content == Content::Reserved);
    reserved.filter_map(|run| run.range().intersect(zone.span())).map(PfnRange::pages).sum()
}

/// Types of pageblocks, from the kernel's table or from the free lists, against the counts of
/// /proc/pagetypeinfo.
#[test]
fn pageblock_types_equal_pagetypeinfo() {
    let Some(_turn) = common::turn() else { return };
    let snapshot = take(&mut struct_pages());
    let info = pagetypeinfo::read().unwrap();
    let from_table = !snapshot.notes.iter().any(|n| n.contains("table of pageblock types"));
    for shown in &info.pageblocks {
        let zone =
            snapshot.machine.zones.iter().find(|z| (z.node, z.kind) == (shown.node, shown.kind));
        let Some(zone) = zone else { continue };
        for (migratetype, count) in &shown.blocks {
            let of_type = snapshot.pageblocks.iter().filter(|(_, t)| t == migratetype);
            let pages: u64 =
                of_type.filter_map(|(r, _)| r.intersect(zone.span())).map(PfnRange::pages).sum();
            let found = pages.div_ceil(1 << info.pageblock_order);
            println!("{} {migratetype}: {found} found, {count} shown", zone.label());
            let margin = 8 + count / 50;
            // Reserved memory in sections not given out yet has a type, but is not counted.
            let uncounted = reserved_in(&snapshot, zone) >> info.pageblock_order;
            assert!(found <= count + margin + uncounted, "{} {migratetype}", zone.label());
            assert!(!from_table || found + margin >= *count, "{} {migratetype}", zone.label());
        }
    }
}

/// Why one source may see a region otherwise than the other, or `None`.
fn explanation(rich: &RegionCensus, poor: &RegionCensus) -> Option<&'static str> {
    let rich_has = |c: Content| rich.pages[c.index()];
    match (rich.state(), poor.state()) {
        (a, b) if a == b => Some("the same"),
        (_, RegionState::Unknown) => Some("kpageflags cannot tell these pages"),
        (RegionState::Unknown, _) => Some("pages moved between lists while they were copied"),
        (RegionState::Partial, RegionState::Absent) if rich_has(Content::Reserved) > 0 => {
            Some("kpageflags shows nothing of sections that were not given to the allocator")
        }
        (RegionState::Tainted, RegionState::Evacuable | RegionState::Free) => {
            let pinned = rich_has(Content::Pinned) > 0;
            pinned.then_some("kpageflags does not show pins")
        }
        (RegionState::Evacuable, RegionState::Free)
        | (RegionState::Free, RegionState::Evacuable) => {
            let few = rich.movable_pages().abs_diff(poor.movable_pages()) < 4096;
            few.then_some("pages were allocated or freed between the two")
        }
        _ => None,
    }
}

/// Both sources agree on the state of every region, or the difference has a cause.
#[test]
fn both_sources_agree() {
    let Some(_turn) = common::turn() else { return };
    let mut snapshotter = struct_pages();
    let mut unexplained = String::new();
    for _ in 0..TRIES {
        unexplained.clear();
        let rich = take(&mut snapshotter);
        let machine = read_machine().unwrap();
        let poor = kpageflags::take(machine, SnapshotRole::Standalone, &Limits::default()).unwrap();
        check_shape(&poor);
        let mut text = String::new();
        for (rich, poor) in census(&rich).iter().zip(census(&poor)) {
            let (a, b) = (rich.state(), poor.state());
            match explanation(rich, &poor) {
                Some(_) if a == b => {}
                Some(cause) => {
                    let _ = writeln!(text, "{}: {a:?} and {b:?}: {cause}", rich.start);
                }
                None => {
                    let _ = writeln!(unexplained, "{rich:?}\n{poor:?}");
                }
            }
        }
        if unexplained.is_empty() {
            println!("differences:\n{text}");
            return;
        }
    }
    panic!("differences without a known cause:\n{unexplained}");
}

/// The classification against the kernel's own counters.
#[test]
fn contents_match_meminfo() {
    let Some(_turn) = common::turn() else { return };
    let before = vmstat::read_vmstat().unwrap();
    let snapshot = take(&mut struct_pages());
    let after = vmstat::read_vmstat().unwrap();
    let totals = snapshot.totals();
    let sum = |contents: &[Content]| contents.iter().map(|c| totals[c.index()]).sum::<u64>();
    let counter = |vmstat: &BTreeMap<String, u64>, names: &[&str]| {
        names.iter().map(|name| vmstat.get(*name).copied().unwrap_or(0)).sum::<u64>()
    };
    let slab = ["nr_slab_reclaimable", "nr_slab_unreclaimable"];
    let lru = [
        "nr_inactive_anon",
        "nr_active_anon",
        "nr_inactive_file",
        "nr_active_file",
        "nr_unevictable",
        "nr_isolated_anon",
        "nr_isolated_file",
    ];
    let movable = [Content::Anon, Content::File, Content::Pinned];
    // Large kmalloc counts as unreclaimable slab, but its pages are kernel pages here.
    let rows: [(&str, u64, &[&str]); 4] = [
        ("reclaimable slab", sum(&[Content::Reclaimable]), &slab[..1]),
        ("slab", sum(&[Content::Slab, Content::Reclaimable]), &slab),
        ("page tables", sum(&[Content::PageTable]), &["nr_page_table_pages"]),
        ("anonymous and file", sum(&movable), &lru),
    ];
    for (name, found, names) in rows {
        let (first, last) = (counter(&before, names), counter(&after, names));
        println!("{name}: {first} before, {found} found, {last} after");
        let margin = 2048 + first.max(last) / 20;
        assert!(between(first, found, last, margin), "{name}");
    }
    // Kernel stacks are among the kernel pages (nr_kernel_stack counts KiB).
    let stacks = counter(&before, &["nr_kernel_stack"]) / 4;
    let kernel = sum(&[Content::Kernel]);
    println!("kernel stacks: {stacks} of {kernel} kernel pages");
    assert!(stacks <= kernel + 512);
}

/// A deadline in the past ends the scan at its first chunk and says so.
#[test]
fn a_deadline_is_kept() {
    let Some(_turn) = common::turn() else { return };
    let limits = Limits { deadline: Some(Instant::now()), ..Limits::default() };
    let error = struct_pages().take(SnapshotRole::Closing, &limits).unwrap_err();
    assert!(matches!(error, SnapshotError::Deadline { done_pages: 0, .. }), "{error}");
    let enough = Limits::within(Duration::from_secs(60));
    assert!(struct_pages().take(SnapshotRole::Closing, &enough).is_ok());
}

/// The command prints what it documents, and leaves quietly when its reader does.
#[test]
fn the_command_prints_json() {
    let Some(_turn) = common::turn() else { return };
    for source in ["struct-pages", "kpageflags"] {
        let output =
            common::agent().args(["snapshot", "--json", "--source", source]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["source"], source.replace('-', "_").as_str());
        assert!(json["regions"].as_array().unwrap().len() >= 2);
        assert!(json["tainted_1g"]["max"].as_u64() >= json["tainted_1g"]["min"].as_u64());
    }
    let wrong = common::agent().args(["snapshot", "--source", "tea"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

/// Memory that the kernel initialises lazily is found when it arrives, frame by frame.
#[test]
#[ignore = "touches gigabytes, and only tells something on a host that initialises memory lazily"]
fn growth_is_found() {
    let Some(_turn) = common::turn() else { return };
    const STEP_MIB: usize = 512;
    const STEPS: usize = 16;
    let mut snapshotter = struct_pages();
    let snapshot = take(&mut snapshotter);
    let mut absences = Absences::of(&snapshot);
    let absent_before: u64 = absences.ranges().iter().map(|r| r.pages()).sum();
    let managed = |zones: &[Zone]| zones.iter().map(|z| z.managed_pages).sum::<u64>();
    let before = managed(&snapshot.machine.zones);
    assert_eq!(snapshotter.grown(&mut absences).unwrap(), []);

    let mut held = Vec::new();
    let mut after = before;
    while after == before && held.len() < STEPS {
        held.push(vec![1u8; STEP_MIB << 20]);
        after = managed(&read_zones().unwrap());
    }
    let begun = Instant::now();
    let found = snapshotter.grown(&mut absences).unwrap();
    let took = begun.elapsed();
    drop(held);
    let pages: u64 = found.iter().map(|r| r.pages()).sum();
    println!("{before} -> {after} managed; found {pages} in {took:?}: {found:?}");
    println!("{absent_before} frames were without memory");
    if after > before {
        // Growth may go on between the two reads.
        assert!(pages >= after - before, "{pages} of {}", after - before);
    }
}
