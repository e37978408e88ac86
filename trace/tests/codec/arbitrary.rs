//! Arbitrary parts of a trace, valid by the rules of the format.

use std::collections::BTreeMap;

use fragscope_trace::event::{
    Budget, CountedPlace, EventBatch, LossCause, OrderCount, PageEvent, PageEventKind, ProbeStop,
    RegionCount, RepairSource, SideEvent, SideKind, Tags, TypeOrderCount,
};
use fragscope_trace::gfp::Gfp;
use fragscope_trace::header::{Capability, End, EndReason, Header, Totals, TraceMode};
use fragscope_trace::machine::{Cpu, Machine, Pageset, Watermarks, Zone, ZoneKind};
use fragscope_trace::page::{Content, CpuId, Migratetype, PAGE_SIZE, Pfn, PfnRange};
use fragscope_trace::snapshot::{
    ChunkTime, FreeList, PageRun, Snapshot, SnapshotRole, SnapshotSource,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Integers of all magnitudes.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0u32..64).prop_map(|(value, shift)| value >> shift)
}

fn pfn() -> impl Strategy<Value = Pfn> {
    number().prop_map(Pfn)
}

fn cpu() -> impl Strategy<Value = CpuId> {
    prop_oneof![(0u16..4).prop_map(CpuId), any::<u16>().prop_map(CpuId)]
}

fn order() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(0u8), 1 => 0u8..=30]
}

fn range() -> impl Strategy<Value = PfnRange> {
    (0u64..1 << 40, 0u64..1 << 20).prop_map(|(start, pages)| PfnRange::new(Pfn(start), pages))
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-zA-Z0-9/ _+é\"\\\\]{1,20}"]
}

fn migratetype() -> impl Strategy<Value = Migratetype> {
    select(&Migratetype::ALL[..])
}

fn content() -> impl Strategy<Value = Content> {
    select(&Content::ALL[..])
}

fn gfp() -> impl Strategy<Value = Gfp> {
    prop_oneof![
        4 => select(vec![Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::ATOMIC]),
        1 => any::<u32>().prop_map(Gfp::from_bits_retain),
    ]
}

fn source() -> impl Strategy<Value = RepairSource> {
    select(vec![
        RepairSource::Snapshot,
        RepairSource::LruInsertion,
        RepairSource::Contiguous,
        RepairSource::Fentry,
        RepairSource::UnmatchedFree,
        RepairSource::ManagedGrowth,
    ])
}

fn cause() -> impl Strategy<Value = LossCause> {
    select(vec![
        LossCause::RingFull,
        LossCause::Reentry,
        LossCause::RateLimit,
        LossCause::NoRing,
        LossCause::BadRecord,
        LossCause::SlowConsumer,
    ])
}

/// A page event with a time relative to the one before it.
fn page() -> impl Strategy<Value = (i64, PageEvent)> {
    let kind = select(&PageEventKind::ALL[..]);
    let step = prop_oneof![8 => 0i64..5000, 1 => -1_000_000i64..0, 1 => any::<i64>()];
    let parts = (kind, cpu(), pfn(), order(), migratetype(), gfp(), 0u8..16, step);
    parts.prop_map(|(kind, cpu, pfn, order, migratetype, gfp, tags, step)| {
        let event = PageEvent::new(kind, 0, cpu, pfn, order, migratetype, gfp);
        (step, event.tagged(Tags::from_bits_truncate(tags)))
    })
}

/// Every kind of side event.
pub(crate) fn side_kind() -> impl Strategy<Value = SideKind> {
    let placed = prop_oneof![
        (pfn(), pfn(), order()).prop_map(|(from, to, order)| SideKind::Move { from, to, order }),
        (pfn(), order(), order(), migratetype(), migratetype(), any::<bool>()).prop_map(
            |(pfn, alloc_order, fallback_order, alloc_type, fallback_type, change_ownership)| {
                SideKind::ExtFrag {
                    pfn,
                    alloc_order,
                    fallback_order,
                    alloc_type,
                    fallback_type,
                    change_ownership,
                }
            }
        ),
        (pfn(), order(), gfp(), any::<u32>(), text(), number(), any::<u32>()).prop_map(
            |(pfn, order, gfp, pid, comm, cgroup, stack)| SideKind::Context {
                pfn,
                order,
                gfp,
                pid,
                comm,
                cgroup,
                stack
            }
        ),
        (any::<u32>(), vec(text(), 0..5)).prop_map(|(id, frames)| SideKind::Stack { id, frames }),
        (number(), text()).prop_map(|(id, path)| SideKind::Cgroup { id, path }),
        (range(), pfn()).prop_map(|(range, stopped_at)| SideKind::ContigTest { range, stopped_at }),
        (any::<u16>(), any::<u8>(), range(), source())
            .prop_map(|(node, zone, range, source)| SideKind::Grow { node, zone, range, source }),
        (range(), source()).prop_map(|(range, source)| SideKind::Shrink { range, source }),
        (range(), content(), source()).prop_map(|(range, content, source)| SideKind::Resync {
            range,
            content,
            source
        }),
    ];
    let counted = prop_oneof![
        (option::of(cpu()), cause(), number(), number()).prop_map(
            |(cpu, cause, count, since_ns)| SideKind::Lost { cpu, cause, count, since_ns }
        ),
        (number(), number()).prop_map(|(count, since_ns)| SideKind::Filtered { count, since_ns }),
        (cpu(), any::<bool>()).prop_map(|(cpu, online)| SideKind::Cpu { cpu, online }),
        (any::<bool>(), range()).prop_map(|(begin, zone)| SideKind::Compaction { begin, zone }),
        (number(), number(), any::<u32>()).prop_map(|(succeeded, failed, reason)| {
            SideKind::Migrated { succeeded, failed, reason }
        }),
        text().prop_map(|text| SideKind::Mark { text }),
        (number(), number(), any::<u32>()).prop_map(|(cpu_ns, rss_bytes, ring_peak_permille)| {
            SideKind::Cost { cpu_ns, rss_bytes, ring_peak_permille }
        }),
        (vec(number(), 0..5), vec(number(), 0..5), vec(number(), 0..5)).prop_map(
            |(free_pages, pcp_pages, managed_pages)| SideKind::Check {
                free_pages,
                pcp_pages,
                managed_pages
            }
        ),
        (number(), vec(region_count(), 0..4))
            .prop_map(|(since_ns, regions)| SideKind::RegionCounts { since_ns, regions }),
        (budget(), any::<bool>(), number(), number()).prop_map(|(budget, begin, limit, found)| {
            SideKind::Shed { budget, begin, limit, found }
        }),
        (number(), number(), vec(pfn(), 0..5), probe_stop()).prop_map(
            |(begin_ns, granted, pages, stopped)| SideKind::Probe1g {
                begin_ns,
                granted,
                pages,
                stopped
            }
        ),
    ];
    prop_oneof![placed, counted]
}

fn budget() -> impl Strategy<Value = Budget> {
    select(vec![Budget::EventsPerSecond, Budget::CpuPermille])
}

fn region_count() -> impl Strategy<Value = RegionCount> {
    let place = prop_oneof![
        any::<u32>().prop_map(CountedPlace::Region),
        select(vec![CountedPlace::Outside, CountedPlace::Failed]),
    ];
    let alloc = (migratetype(), order(), number())
        .prop_map(|(migratetype, order, count)| TypeOrderCount { migratetype, order, count });
    let free = (order(), number()).prop_map(|(order, count)| OrderCount { order, count });
    (place, vec(alloc, 0..5), vec(free, 0..5)).prop_map(|(place, allocs, frees)| RegionCount {
        place,
        allocs,
        frees,
    })
}

fn probe_stop() -> impl Strategy<Value = ProbeStop> {
    use ProbeStop::{Interrupted, Limit, LowMemory, Refused};
    select(vec![Refused, Limit, LowMemory, Interrupted])
}

/// A batch with up to `pages` page events and some of every kind of side event between them.
pub(crate) fn batch(pages: usize) -> impl Strategy<Value = EventBatch> {
    let side = (any::<prop::sample::Index>(), number(), option::of(cpu()), side_kind());
    (number(), vec(page(), 0..pages), vec(side, 0..20)).prop_map(|(start, steps, sides)| {
        let mut time = start;
        let pages: Vec<PageEvent> = steps
            .into_iter()
            .map(|(step, mut event)| {
                time = time.wrapping_add(step as u64);
                event.time_ns = time;
                event
            })
            .collect();
        let mut sides: Vec<(u32, SideEvent)> = sides
            .into_iter()
            .map(|(at, time_ns, cpu, kind)| {
                (at.index(pages.len() + 1) as u32, SideEvent { time_ns, cpu, kind })
            })
            .collect();
        sides.sort_by_key(|(at, _)| *at);
        EventBatch { pages, sides }
    })
}

fn pageset() -> impl Strategy<Value = Pageset> {
    let counts = (size(), number(), number(), number(), number());
    (cpu(), counts, option::of(any::<u8>()), option::of(any::<i64>()), option::of(any::<u8>()))
        .prop_map(|(cpu, counts, alloc_factor, free_count, flags)| {
            let (count, high, batch, high_min, high_max) = counts;
            let sizes =
                Pageset { cpu, count, high, batch, high_min, high_max, ..Pageset::default() };
            Pageset { alloc_factor, free_count, flags, ..sizes }
        })
}

/// Numbers of pages within the limits of the format.
fn size() -> impl Strategy<Value = u64> {
    number().prop_map(|value| value >> 26)
}

fn zone() -> impl Strategy<Value = Zone> {
    let kind = select(&ZoneKind::ALL[..]);
    let sizes = (0u64..1 << 40, 0u64..1 << 30, size(), size(), size(), size());
    let rest = (vec(number(), 0..4), option::of(number()), option::of(number()));
    let lists = (vec(number(), 0..11), vec(pageset(), 0..4));
    (0u16..8, kind, sizes, rest, lists).prop_map(|(node, kind, sizes, rest, lists)| Zone {
        node,
        kind,
        start_pfn: Pfn(sizes.0),
        spanned_pages: sizes.1,
        present_pages: sizes.2,
        managed_pages: sizes.3,
        watermarks: Watermarks { min: sizes.4, low: sizes.5, high: sizes.4, promo: sizes.5 },
        watermark_boost: sizes.4,
        lowmem_reserve: rest.0,
        free_pages: sizes.5,
        reserved_highatomic: rest.1,
        flags: rest.2,
        buddy_blocks: lists.0,
        pagesets: lists.1,
    })
}

/// A machine with one to three zones.
pub(crate) fn machine() -> impl Strategy<Value = Machine> {
    let cpus = vec((cpu(), any::<u16>(), any::<bool>()), 0..4);
    let settings = btree_map(text(), any::<i64>(), 0..4);
    let facts = btree_map(text(), text(), 0..4);
    (text(), text(), cpus, vec(zone(), 1..4), vec(range(), 0..4), settings, facts).prop_map(
        |(hostname, kernel_release, cpus, zones, ram, sysctls, facts)| Machine {
            hostname,
            kernel_release,
            arch: "x86_64".into(),
            page_size: PAGE_SIZE,
            pageblock_order: 9,
            max_page_order: 10,
            cpus: cpus.into_iter().map(|(id, node, online)| Cpu { id, node, online }).collect(),
            zones,
            ram,
            sysctls,
            facts,
        },
    )
}

/// Any header.
pub(crate) fn header() -> impl Strategy<Value = Header> {
    let capability = (text(), any::<bool>(), any::<bool>(), text()).prop_map(
        |(name, required, available, other)| Capability {
            name,
            required,
            available,
            found: other.clone(),
            lost_without: other.clone(),
            remedy: other,
        },
    );
    let command = option::of(vec(text(), 0..3));
    let mode = select(vec![TraceMode::Full, TraceMode::Count]);
    let parts = (text(), any::<u64>(), any::<u64>(), machine(), vec(capability, 0..3), command);
    (parts, mode).prop_map(
        |((recorder, started_unix_ns, started_ns, machine, capabilities, command), mode)| Header {
            recorder,
            started_unix_ns,
            started_ns,
            machine,
            capabilities,
            command,
            mode,
        },
    )
}

/// Any end.
pub(crate) fn end() -> impl Strategy<Value = End> {
    let reason = prop_oneof![
        select(vec![
            EndReason::Duration,
            EndReason::Interrupted,
            EndReason::Terminated,
            EndReason::Generated,
            EndReason::SizeLimit,
            EndReason::Continued { next: "build.0002.fst".into() },
        ]),
        any::<i32>().prop_map(|status| EndReason::CommandExited { status }),
        text().prop_map(|error| EndReason::Failed { error }),
    ];
    let lost = btree_map(cause(), any::<u64>(), 0..4);
    (reason, any::<u64>(), any::<bool>(), number(), lost).prop_map(
        |(reason, time_ns, closing_snapshot, events, lost)| End {
            reason,
            time_ns,
            closing_snapshot,
            totals: Totals { events, allocs: events / 2, lost, ..Totals::default() },
        },
    )
}

/// Page runs, ascending and aligned, with and without gaps.
fn runs(most: usize) -> impl Strategy<Value = Vec<PageRun>> {
    let run = (0u64..3, 1u64..2000, content(), order(), migratetype());
    (0u64..1 << 40, vec(run, 0..most)).prop_map(|(start, runs)| {
        let mut next = start;
        let place = |(gap, blocks, content, order, migratetype): (u64, u64, _, u8, _)| {
            let start = (next + gap).next_multiple_of(1 << order);
            let pages = blocks << order;
            next = start + pages;
            PageRun { start: Pfn(start), pages, content, order, migratetype }
        };
        runs.into_iter().map(place).collect()
    })
}

fn ranges(most: usize) -> impl Strategy<Value = Vec<PfnRange>> {
    (0u64..1 << 40, vec((0u64..3, 0u64..1 << 20), 0..most)).prop_map(|(start, steps)| {
        let mut next = start;
        let place = |(gap, pages)| {
            let range = PfnRange::new(Pfn(next + gap), pages);
            next = range.end.0;
            range
        };
        steps.into_iter().map(place).collect()
    })
}

fn list() -> impl Strategy<Value = FreeList> {
    let list = (option::of(cpu()), order(), migratetype(), vec(pfn(), 0..50));
    list.prop_map(|(cpu, order, migratetype, blocks)| FreeList {
        zone: 0,
        cpu,
        order,
        migratetype,
        blocks,
    })
}

/// A snapshot with up to `most` items of each sort.
pub(crate) fn snapshot(most: usize) -> impl Strategy<Value = Snapshot> {
    let source = select(vec![
        SnapshotSource::StructPages,
        SnapshotSource::KpageFlags,
        SnapshotSource::Debugfs,
        SnapshotSource::Synthetic,
    ]);
    let role = select(vec![
        SnapshotRole::Opening,
        SnapshotRole::Interval,
        SnapshotRole::Closing,
        SnapshotRole::Standalone,
    ]);
    let times = vec((number(), number()), most);
    let types = vec(migratetype(), most);
    let parts = (runs(most), ranges(most), ranges(most), vec(list(), 0..most.min(10)));
    (source, role, machine(), (times, types), parts, vec(text(), 0..3)).prop_map(
        |(source, role, machine, (times, types), (runs, chunks, blocks, lists), notes)| {
            let chunk = |(range, (begin_ns, end_ns))| ChunkTime { range, begin_ns, end_ns };
            Snapshot {
                source,
                role,
                begin_ns: 1,
                end_ns: u64::MAX,
                machine,
                chunks: chunks.into_iter().zip(times).map(chunk).collect(),
                runs,
                pageblocks: blocks.into_iter().zip(types).collect(),
                lists,
                notes,
            }
        },
    )
}

/// A small machine, for traces whose machine does not matter.
#[must_use]
pub(crate) fn small_machine() -> Machine {
    Machine {
        hostname: "host".into(),
        kernel_release: "6.18.0".into(),
        arch: "x86_64".into(),
        page_size: PAGE_SIZE,
        pageblock_order: 9,
        max_page_order: 10,
        cpus: vec![Cpu { id: CpuId(0), node: 0, online: true }],
        zones: vec![Zone {
            node: 0,
            kind: ZoneKind::Normal,
            start_pfn: Pfn(0),
            spanned_pages: 1 << 20,
            present_pages: 1 << 20,
            managed_pages: 1 << 20,
            watermarks: Watermarks { min: 10, low: 20, high: 30, promo: 40 },
            watermark_boost: 0,
            lowmem_reserve: vec![0; 4],
            free_pages: 1 << 19,
            reserved_highatomic: Some(0),
            flags: None,
            buddy_blocks: vec![0; 11],
            pagesets: Vec::new(),
        }],
        ram: vec![PfnRange::new(Pfn(0), 1 << 20)],
        sysctls: BTreeMap::from([("min_free_kbytes".into(), 67584)]),
        facts: BTreeMap::new(),
    }
}

/// A header for [`small_machine`].
#[must_use]
pub(crate) fn small_header() -> Header {
    Header {
        recorder: "test 1".into(),
        started_unix_ns: 1_700_000_000_000_000_000,
        started_ns: 5_000_000_000,
        machine: small_machine(),
        capabilities: Vec::new(),
        command: None,
        mode: TraceMode::Full,
    }
}

/// An end without totals.
#[must_use]
pub(crate) fn small_end() -> End {
    End {
        reason: EndReason::Generated,
        time_ns: 6_000_000_000,
        closing_snapshot: false,
        totals: Totals::default(),
    }
}
