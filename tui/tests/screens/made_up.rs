//! Made-up hosts for the tests of the screen: deterministic, with every state somewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use fragscope::conn::phase::{Origin, Phase};
use fragscope::input::KeyMap;
use fragscope::state::act::Typed;
use fragscope::state::clock::Now;
use fragscope::state::host::{Host, SnapshotNote, Update};
use fragscope::state::ui::ViewId;
use fragscope::state::{HostId, State};
use fragscope::view::theme::Theme;
use fragscope::view::{Context, render};
use fragscope_replay::observe::{
    AgentCost, BlockCensus, BlockChanges, Divergence, EventTotals, FreeBlocks, Placement, Sample,
    StartState, TaintEvent, TrackKind, TrackSample,
};
use fragscope_trace::event::LossCause;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::header::{Capability, End, EndReason, Header, Totals, TraceMode};
use fragscope_trace::machine::{Cpu, Machine, Watermarks, Zone, ZoneKind};
use fragscope_trace::page::{Content, CpuId, Migratetype, Pfn, PfnRange, REGION_PAGES};
use fragscope_trace::region::{RegionCensus, RegionTotals, regions_of};
use fragscope_trace::snapshot::{SnapshotRole, SnapshotSource};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

/// When the traces begin, on the wall.
pub(crate) const STARTED_UNIX_NS: u64 = 1_763_733_780_000_000_000;
/// When the traces begin, on the host's clock.
pub(crate) const STARTED_NS: u64 = 1_000_000_000_000;
/// Seconds that are recorded.
pub(crate) const SECONDS: u64 = 600;

/// A machine with one node and `normal_gib` GiB above 4 GiB.
pub(crate) fn machine(normal_gib: u64) -> Machine {
    let zone = |kind, start_pfn: u64, spanned_pages: u64| Zone {
        watermarks: Watermarks { min: 2_000, low: 4_000, high: 6_000, promo: 8_000 },
        free_pages: spanned_pages / 3,
        ..Zone::new(0, kind, PfnRange::new(Pfn(start_pfn), spanned_pages))
    };
    Machine {
        hostname: "db17".to_owned(),
        kernel_release: "6.18.44".to_owned(),
        arch: "x86_64".to_owned(),
        page_size: 4096,
        pageblock_order: 9,
        max_page_order: 10,
        cpus: (0..8).map(|id| Cpu { id: CpuId(id), node: 0, online: true }).collect(),
        zones: vec![
            zone(ZoneKind::Dma, 1, 4095),
            zone(ZoneKind::Dma32, 4096, 3 * REGION_PAGES - 4096),
            zone(ZoneKind::Normal, 4 * REGION_PAGES, normal_gib * REGION_PAGES),
        ],
        ram: vec![PfnRange::new(Pfn(1), 24 * REGION_PAGES)],
        sysctls: BTreeMap::new(),
        facts: BTreeMap::from([("thp".to_owned(), "madvise".to_owned())]),
    }
}

pub(crate) fn header(machine: &Machine) -> Header {
    let capability = |name: &str, available: bool, found: &str| Capability {
        name: name.to_owned(),
        required: name == "raw_tracepoints",
        available,
        found: found.to_owned(),
        lost_without: "moves are recovered from LRU events".to_owned(),
        remedy: "a kernel with CONFIG_FUNCTION_TRACER".to_owned(),
    };
    Header {
        recorder: "fragscope-agent 0.1.0".to_owned(),
        started_unix_ns: STARTED_UNIX_NS,
        started_ns: STARTED_NS,
        machine: machine.clone(),
        capabilities: vec![
            capability("raw_tracepoints", true, "attached"),
            capability("fentry", false, "refused with EPERM"),
        ],
        command: None,
        mode: TraceMode::Full,
    }
}

/// A small generator, so that pictures look like memory and never change.
fn hash(a: u64, b: u64) -> u64 {
    let mut x = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xd1b5_4a32_d192_ed03);
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 32)
}

/// Regions of a track in which every region whose turn is below `tainted` (in thousandths) is.
fn regions(machine: &Machine, tainted: u64, track: u64, unknown: bool) -> Vec<RegionCensus> {
    let mut regions = regions_of(machine);
    let count = regions.len() as u64;
    for (i, region) in regions.iter_mut().enumerate() {
        let at = i as u64;
        let span = region.span_pages as u32;
        region.pages = [0; Content::COUNT];
        let mut left = span;
        let mut fill = |content: Content, pages: u32| {
            let pages = pages.min(left);
            region.pages[content.index()] += pages;
            left -= pages;
        };
        let turn = hash(at, 7) % 1000;
        let free_tail = at + count / 4 > count;
        if at == 0 {
            fill(Content::Reserved, 200);
        }
        if unknown && at == 9 {
            fill(Content::Unknown, 77);
        }
        if turn < tainted {
            let few = hash(at, 3).is_multiple_of(3);
            fill(Content::Slab, if few { 14 } else { 9_000 + (turn * 31) as u32 });
            fill(Content::PageTable, if few { 0 } else { 700 });
            fill(Content::Kernel, if few { 3 } else { 1_800 });
            fill(Content::Anon, (span / 3) + (turn * 100) as u32);
        } else if !free_tail {
            let share = hash(at, 11 + track) % 1000;
            fill(Content::Anon, (u64::from(span) * share / 1500) as u32);
            fill(Content::File, (u64::from(span) * share / 4000) as u32);
        }
        fill(Content::Pcp, 120);
        fill(Content::Free, u32::MAX);
    }
    regions
}

/// What the made-up host is like.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) normal_gib: u64,
    pub(crate) lost: bool,
    pub(crate) unknown: bool,
    pub(crate) from_boot: bool,
}

pub(crate) const SMALL: Shape =
    Shape { normal_gib: 21, lost: false, unknown: false, from_boot: true };

pub(crate) fn sample(machine: &Machine, shape: Shape, second: u64) -> Sample {
    let track = |kind: TrackKind, start: StartState| {
        let course = second * 250 / SECONDS;
        let tainted = match (kind, start) {
            (TrackKind::Spb, StartState::AsFound) => 310 + course / 12,
            (TrackKind::Spb, _) => 90,
            (TrackKind::Stock, StartState::AsFound) => 310 + course * 9 / 10,
            (TrackKind::Stock, _) => 700,
            (TrackKind::Kernel, _) => 310 + course,
        };
        let regions = regions(machine, tainted, kind as u64, shape.unknown);
        let counters = [("pass_1", 700), ("pass_2", 41), ("steals", 3), ("claims", 2)];
        let own = if kind == TrackKind::Spb { vec![("refused_no_memory", 1)] } else { vec![] };
        TrackSample {
            kind,
            start,
            totals: RegionTotals::new(machine, &regions),
            regions,
            has_bit_tainted_1g: (kind != TrackKind::Kernel).then_some(9),
            block_type_tainted_1g: (kind != TrackKind::Kernel).then_some(8),
            free_blocks: vec![100; 11],
            counters: counters
                .into_iter()
                .chain(own)
                .filter(|(name, _)| kind == TrackKind::Spb || !name.starts_with("pass"))
                .map(|(name, n)| (name.to_owned(), n * second * (1 + kind as u64)))
                .collect(),
        }
    };
    let mut tracks: Vec<TrackSample> =
        TrackKind::ALL.into_iter().map(|k| track(k, StartState::AsFound)).collect();
    if shape.from_boot {
        tracks.insert(2, track(TrackKind::Stock, StartState::FromBoot));
        tracks.push(track(TrackKind::Spb, StartState::FromBoot));
    }
    let lost = match shape.lost {
        true => {
            BTreeMap::from([(LossCause::RingFull, second * 120), (LossCause::Reentry, second / 4)])
        }
        false => BTreeMap::new(),
    };
    let off = |ratio: f64| Divergence {
        track_free_pages: 2_000_000,
        kernel_free_pages: 2_000_000 + (ratio * 6_000_000.0) as u64,
        ratio,
    };
    Sample {
        time_ns: STARTED_NS + second * 1_000_000_000,
        tracks,
        events: EventTotals {
            allocs: second * 106_400,
            frees: second * 105_900,
            failed_allocs: second / 60,
            side_events: second * 14,
            own_events: second * 40,
            late_events: second / 10,
            unmatched_frees: second * 2,
            unmatched_allocs: second / 7,
            lost,
            repaired_pages: second * 9,
        },
        kernel_divergence: Some(off(0.000_4)),
        stock_divergence: Some(off(0.003)),
        peak_unmovable_pages: 430_000 + second,
        floor_1g: 2,
        cost: Some(AgentCost { cpu_share: 0.019, rss_bytes: 61 << 20, ring_peak: 0.12 }),
    }
}

/// Pageblocks that fit the regions of a track roughly: the tainting pages in the first ones.
fn blocks_of(track: &TrackSample) -> BlockChanges {
    let mut blocks = Vec::new();
    for region in &track.regions {
        let first = (region.start.0 >> 9) as u32;
        let mut tainting = region.tainting_pages();
        let mut movable = region.movable_pages();
        for block in first..first + (region.span_pages >> 9) as u32 {
            let take = |left: &mut u64, at_most: u64| {
                let taken = (*left).min(at_most);
                *left -= taken;
                taken as u16
            };
            let tainting_pages = take(&mut tainting, hash(block.into(), 1) % 512);
            let movable_pages = take(&mut movable, 512 - u64::from(tainting_pages));
            blocks.push((
                block,
                BlockCensus {
                    migratetype: Some(match tainting_pages {
                        0 => Migratetype::Movable,
                        _ => Migratetype::Unmovable,
                    }),
                    content: match (tainting_pages, movable_pages) {
                        (0, 0) => Content::Free,
                        (0, _) => Content::Anon,
                        _ => Content::Slab,
                    },
                    free_pages: 512 - tainting_pages - movable_pages,
                    movable_pages,
                    tainting_pages,
                    free_blocks: free_blocks(512 - tainting_pages - movable_pages),
                },
            ));
        }
    }
    blocks.sort_by_key(|(block, _)| *block);
    blocks.dedup_by_key(|(block, _)| *block);
    BlockChanges { kind: track.kind, start: track.start, blocks }
}

/// Blocks of so many pages, as few as can be.
fn free_blocks(pages: u16) -> FreeBlocks {
    let mut free = FreeBlocks::default();
    (0..=9).filter(|order| pages >> order & 1 == 1).for_each(|order| free.add(order));
    free
}

fn taints(machine: &Machine) -> Vec<TaintEvent> {
    let callers = [
        ("nginx", "sk_page_frag_refill+0x5c"),
        ("find", "ext4_alloc_inode+0x1d"),
        ("postgres", "pipe_write+0x102"),
        ("kworker/3:1", "xfs_buf_alloc+0x99"),
    ];
    let regions = regions_of(machine);
    let event = |i: u64| {
        let (comm, site) = callers[(hash(i, 5) % 4) as usize];
        let region = &regions[(hash(i, 9) % regions.len() as u64) as usize];
        let track = match hash(i, 1) % 5 {
            0 => TrackKind::Spb,
            1 => TrackKind::Stock,
            _ => TrackKind::Kernel,
        };
        TaintEvent {
            time_ns: STARTED_NS + (i * 60 + 17) * 1_000_000_000,
            track,
            start: StartState::AsFound,
            region_start: region.start,
            tainted: !hash(i, 2).is_multiple_of(6),
            pfn: region.start.offset(4711),
            order: (hash(i, 4) % 4) as u8,
            gfp: Gfp::KERNEL | Gfp::COMP,
            migratetype: Migratetype::Unmovable,
            comm: Some(comm.to_owned()),
            pid: 4711,
            cgroup: 1234,
            cgroup_path: Some("/system.slice/web.service".to_owned()),
            stack: vec![
                "allocate_slab+0x66".to_owned(),
                "___slab_alloc+0x3c1".to_owned(),
                site.to_owned(),
                "do_syscall_64+0x82".to_owned(),
            ],
            placements: match track {
                TrackKind::Kernel => [(TrackKind::Stock, 0), (TrackKind::Spb, 1 + i * 700)]
                    .map(|(track, others_pages)| Placement {
                        track,
                        start: StartState::AsFound,
                        region_start: Some(Pfn(others_pages.min(6) << 18)),
                        others_pages,
                    })
                    .into(),
                _ => Vec::new(),
            },
        }
    };
    (0..10).map(event).collect()
}

/// What the tests look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    Empty,
    Live,
    Lost,
    Disconnected,
    Replay,
}

impl Scene {
    pub(crate) const ALL: [Scene; 5] =
        [Scene::Empty, Scene::Live, Scene::Lost, Scene::Disconnected, Scene::Replay];

    pub(crate) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// A state with one host in that scene.
pub(crate) fn state(scene: Scene) -> State {
    let shape = Shape {
        lost: scene == Scene::Lost,
        unknown: scene == Scene::Lost,
        from_boot: scene == Scene::Replay,
        ..SMALL
    };
    state_with(scene, shape)
}

pub(crate) fn state_with(scene: Scene, shape: Shape) -> State {
    let (label, origin) = match scene {
        Scene::Disconnected => ("unix:/run/fragscope.sock", Origin::Socket),
        Scene::Replay => ("build.fst", Origin::File),
        _ => ("", Origin::Local),
    };
    let mut state = State::new(vec![Host::new(label, origin)], TimeZone::UTC);
    let since = Duration::from_millis(600_300);
    let mut news = vec![Update::Phase(Phase::WaitingForSnapshot { since })];
    if scene != Scene::Empty {
        news = history(scene, shape);
    }
    news.push(Update::Phase(phase(scene)));
    news.into_iter().for_each(|update| state.update(HostId(0), update));
    state.tick(now());
    state
}

/// Three hosts, the second of them in that scene.
pub(crate) fn fleet(scene: Scene) -> State {
    let labels = ["unix:/run/db16.sock", "unix:/run/db17.sock", "unix:/run/db18.sock"];
    let hosts = labels.map(|label| Host::new(label, Origin::Socket)).into();
    let mut state = State::new(hosts, TimeZone::UTC);
    let mut tell = |host: usize, name: &str, scene: Scene, shape: Shape| {
        if scene != Scene::Empty {
            for mut update in history(scene, shape) {
                if let Update::Snapshot(_, machine) = &mut update {
                    *machine =
                        Arc::new(Machine { hostname: name.to_owned(), ..(**machine).clone() });
                }
                state.update(HostId(host), update);
            }
        }
        state.update(HostId(host), Update::Phase(phase(scene)));
    };
    tell(0, "db16", Scene::Live, Shape { normal_gib: 60, ..SMALL });
    tell(1, "db17", scene, Shape { lost: scene == Scene::Lost, ..SMALL });
    tell(2, "db18", Scene::Live, Shape { normal_gib: 12, from_boot: false, ..SMALL });
    state.ui.view = ViewId::Hosts;
    state.tick(now());
    state
}

fn now() -> Now {
    let wall = Timestamp::from_nanosecond(i128::from(STARTED_UNIX_NS) + 600_600_000_000)
        .expect("in range");
    Now { uptime: Duration::from_millis(600_600), wall }
}

fn phase(scene: Scene) -> Phase {
    match scene {
        Scene::Empty => Phase::WaitingForSnapshot { since: Duration::from_millis(600_300) },
        Scene::Live | Scene::Lost => Phase::Streaming,
        Scene::Disconnected => Phase::Lost {
            since: Duration::from_secs(588),
            retry_at: Duration::from_secs(605),
            why: "connection reset by peer".to_owned(),
        },
        Scene::Replay => Phase::Ended { note: None },
    }
}

fn history(scene: Scene, shape: Shape) -> Vec<Update> {
    let machine = machine(shape.normal_gib);
    let note = SnapshotNote {
        time_ns: STARTED_NS,
        role: SnapshotRole::Opening,
        source: SnapshotSource::StructPages,
        notes: Vec::new(),
    };
    let mut news = vec![
        Update::Header(Arc::new(header(&machine))),
        Update::LeftOut((!shape.from_boot).then(|| "--start both shows more".to_owned())),
        Update::Snapshot(note, Arc::new(machine.clone())),
        Update::Taints(taints(&machine)),
    ];
    // Few of what is large.
    let step = if shape.normal_gib < 500 { 2 } else { 100 };
    let samples = (0..=SECONDS).step_by(step).map(|s| sample(&machine, shape, s));
    news.extend(samples.map(|s| Update::Sample(Arc::new(s))));
    let last = sample(&machine, shape, SECONDS);
    let blocks = last.tracks.iter().filter(|_| shape.normal_gib < 100).map(blocks_of).collect();
    news.insert(3, Update::Blocks(STARTED_NS, blocks));
    if scene == Scene::Replay {
        news.push(Update::Progress(1.0));
        news.push(Update::End(Arc::new(End {
            reason: EndReason::Duration,
            time_ns: STARTED_NS + SECONDS * 1_000_000_000,
            closing_snapshot: true,
            totals: Totals::default(),
        })));
    }
    news
}

/// Presses keys as the program would take them: a space between keys, `space` for itself.
pub(crate) fn press(state: &mut State, keys: &str) {
    let map = KeyMap::default();
    for key in keys.split_whitespace() {
        let code = match key {
            "space" => KeyCode::Char(' '),
            "tab" => KeyCode::Tab,
            "enter" => KeyCode::Enter,
            "esc" => KeyCode::Esc,
            "up" => KeyCode::Up,
            "down" => KeyCode::Down,
            "backspace" => KeyCode::Backspace,
            one => KeyCode::Char(one.chars().next().expect("not empty")),
        };
        let event = KeyEvent::new(code, KeyModifiers::NONE);
        if state.type_key(event) == Typed::NotMine
            && let Some(action) = map.action(event)
        {
            state.act(action);
        }
    }
}

/// The screen at a size, drawn into a test terminal.
pub(crate) fn screen(
    state: &State,
    width: u16,
    height: u16,
    theme: Theme,
) -> Terminal<TestBackend> {
    let keys = KeyMap::default();
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("no I/O");
    terminal
        .draw(|frame| {
            let area = frame.area();
            render(Context { state, theme, keys: &keys }, area, frame.buffer_mut());
        })
        .expect("no I/O");
    terminal
}

/// The screen's text.
pub(crate) fn text(state: &State, width: u16, height: u16, theme: Theme) -> String {
    screen(state, width, height, theme).backend().to_string()
}
