//! What a trace says about its load: how much of what, in which sizes, for how long.

use std::collections::HashMap;
use std::io::Read;

use fragscope_trace::event::{PageEvent, PageEventKind, Tags, TimeNs};
use fragscope_trace::frame::Frame;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::{Content, CpuId, MAX_PAGE_ORDER, NR_PAGE_ORDERS};
use fragscope_trace::reader::{ReadError, TraceReader};
use fragscope_trace::snapshot::Snapshot;

use super::survival::{Bursts, Lives};

/// Requests of one kind that follow each other this closely belong together.
const TOGETHER_NS: TimeNs = 20_000;

/// Requests with the same flags.
#[derive(Clone, Debug, Default)]
pub struct Class {
    /// The flags.
    pub gfp: Gfp,
    /// How many.
    pub allocs: u64,
    /// How many of each order.
    pub orders: [u64; NR_PAGE_ORDERS],
    /// How long they live.
    pub lives: Lives,
    /// How many come together.
    pub bursts: Bursts,
    last_ns: TimeNs,
    burst: u64,
}

impl Class {
    fn join(&mut self, other: &Class) {
        self.allocs += other.allocs;
        for (mine, theirs) in self.orders.iter_mut().zip(other.orders) {
            *mine += theirs;
        }
        self.lives.add(&other.lives);
        self.bursts.add_all(&other.bursts);
    }
}

/// Pages of one type that were in use before the trace.
#[derive(Clone, Debug)]
pub struct StandingPages {
    pub(super) name: &'static str,
    pub(super) gfp: Gfp,
    /// How many.
    pub pages: u64,
    pub(super) lives: Lives,
}

/// All that was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Requests by their flags, commonest first.
    pub classes: Vec<Class>,
    /// Pages in use before: unmovable, movable, reclaimable.
    pub standing: [StandingPages; 3],
    /// First and last event.
    pub span_ns: (TimeNs, TimeNs),
    frees: u64,
    remote_frees: u64,
}

impl Measured {
    /// Seconds from the first to the last event.
    #[must_use]
    pub fn duration_s(&self) -> f64 {
        ((self.span_ns.1 - self.span_ns.0) as f64 / 1e9).max(0.001)
    }

    /// Allocations of all kinds.
    #[must_use]
    pub fn allocs(&self) -> u64 {
        self.classes.iter().map(|class| class.allocs).sum()
    }

    pub(super) fn remote_free_share(&self) -> f64 {
        self.remote_frees as f64 / self.frees.max(1) as f64
    }

    /// Lets all but the commonest kinds join the commonest of their type.
    pub(super) fn merge_rare(&mut self, keep: usize) {
        let rare = self.classes.split_off(keep.min(self.classes.len()));
        for class in rare {
            let same = |known: &&mut Class| known.gfp.migratetype() == class.gfp.migratetype();
            match self.classes.iter_mut().find(same) {
                Some(known) => known.join(&class),
                None => self.classes.push(class),
            }
        }
    }
}

/// A block that was seen allocated.
#[derive(Clone, Copy)]
struct Live {
    since_ns: TimeNs,
    class: u32,
    cpu: CpuId,
    order: u8,
    /// A part of it was freed; its life is counted.
    ended: bool,
}

/// Measures a whole trace. Memory grows with the pages that it touches.
///
/// # Errors
/// If the trace cannot be read.
pub fn measure<R: Read>(reader: &mut TraceReader<R>) -> Result<Measured, ReadError> {
    let standing = |name, gfp| StandingPages { name, gfp, pages: 0, lives: Lives::default() };
    let mut meter = Meter {
        measured: Measured {
            classes: Vec::new(),
            standing: [
                standing("unmovable", Gfp::KERNEL),
                standing("movable", Gfp::HIGHUSER_MOVABLE),
                standing("reclaimable", Gfp::KERNEL | Gfp::RECLAIMABLE),
            ],
            span_ns: (TimeNs::MAX, 0),
            frees: 0,
            remote_frees: 0,
        },
        by_gfp: HashMap::new(),
        live: HashMap::new(),
        opening: None,
    };
    while let Some(frame) = reader.next_frame()? {
        match frame {
            Frame::Events(batch) => batch.pages.iter().for_each(|event| meter.event(*event)),
            Frame::Snapshot(snapshot) if meter.opening.is_none() => meter.open(&snapshot),
            _ => {}
        }
    }
    Ok(meter.finish())
}

struct Meter {
    measured: Measured,
    by_gfp: HashMap<Gfp, u32>,
    live: HashMap<u64, Live>,
    /// Movable or not, by the runs of the opening snapshot: first page, end, position.
    opening: Option<Vec<(u64, u64, usize)>>,
}

impl Meter {
    fn open(&mut self, snapshot: &Snapshot) {
        let mut runs = Vec::new();
        for run in &snapshot.runs {
            if let Some(index) = standing_type(run.content) {
                self.measured.standing[index].pages += run.pages;
                runs.push((run.start.0, run.range().end.0, index));
            }
        }
        self.opening = Some(runs);
    }

    fn event(&mut self, event: PageEvent) {
        let skipped = Tags::OWN | Tags::MIGRATION;
        if event.tags().intersects(skipped) || event.order() > MAX_PAGE_ORDER {
            return;
        }
        let span = &mut self.measured.span_ns;
        *span = (span.0.min(event.time_ns), span.1.max(event.time_ns));
        match event.kind() {
            PageEventKind::Alloc => self.alloc(event),
            PageEventKind::Free => self.free(event),
            _ => {}
        }
    }

    fn alloc(&mut self, event: PageEvent) {
        let classes = &mut self.measured.classes;
        let index = *self.by_gfp.entry(event.gfp).or_insert_with(|| {
            classes.push(Class { gfp: event.gfp, ..Class::default() });
            classes.len() as u32 - 1
        });
        let class = &mut classes[index as usize];
        class.allocs += 1;
        class.orders[usize::from(event.order())] += 1;
        if class.burst > 0 && event.time_ns.saturating_sub(class.last_ns) > TOGETHER_NS {
            class.bursts.add(class.burst);
            class.burst = 0;
        }
        class.burst += 1;
        class.last_ns = event.time_ns;
        let (since_ns, cpu, order) = (event.time_ns, event.cpu, event.order());
        self.live.insert(event.pfn.0, Live { since_ns, class: index, cpu, order, ended: false });
    }

    fn free(&mut self, event: PageEvent) {
        let Some(live) = holder(&mut self.live, event.pfn.0) else {
            return self.free_standing(event);
        };
        if live.ended {
            return;
        }
        live.ended = true;
        let lived_ns = event.time_ns.saturating_sub(live.since_ns);
        self.measured.frees += 1;
        self.measured.remote_frees += u64::from(live.cpu != event.cpu);
        self.measured.classes[live.class as usize].lives.end(lived_ns);
    }

    /// A page that was in use before the trace.
    fn free_standing(&mut self, event: PageEvent) {
        let Some(runs) = &self.opening else { return };
        let after = runs.partition_point(|(start, ..)| *start <= event.pfn.0);
        let run = after.checked_sub(1).map(|index| runs[index]);
        if let Some((_, end, index)) = run.filter(|(_, end, _)| event.pfn.0 < *end) {
            let lived_ns = event.time_ns - self.measured.span_ns.0;
            let pages = event.pages().min(end - event.pfn.0);
            (0..pages).for_each(|_| self.measured.standing[index].lives.end(lived_ns));
        }
    }

    fn finish(mut self) -> Measured {
        let (start_ns, end_ns) = self.measured.span_ns;
        for live in self.live.values().filter(|live| !live.ended) {
            let lives = &mut self.measured.classes[live.class as usize].lives;
            lives.go_on(end_ns - live.since_ns, 1);
        }
        for class in &mut self.measured.classes {
            class.bursts.add(class.burst);
        }
        for standing in &mut self.measured.standing {
            let ended = standing.lives.ended_total();
            let left = standing.pages.saturating_sub(ended);
            standing.lives.go_on(end_ns.saturating_sub(start_ns), left);
        }
        let by_count = |class: &Class| (std::cmp::Reverse(class.allocs), class.gfp.bits());
        self.measured.classes.sort_by_key(by_count);
        if self.measured.span_ns.0 > self.measured.span_ns.1 {
            self.measured.span_ns = (0, 0);
        }
        self.measured
    }
}

/// The block that holds a page, if it was seen allocated.
fn holder(live: &mut HashMap<u64, Live>, pfn: u64) -> Option<&mut Live> {
    let head = (0..=MAX_PAGE_ORDER)
        .map(|order| pfn >> order << order)
        .find(|head| live.get(head).is_some_and(|block| pfn - head < 1 << block.order))?;
    live.get_mut(&head)
}

/// Position among the standing types of what a page holds.
fn standing_type(content: Content) -> Option<usize> {
    match content {
        Content::Reclaimable => Some(2),
        content if content.is_movable() => Some(1),
        content if content.taints() => Some(0),
        _ => None,
    }
}
