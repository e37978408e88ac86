//! Fill-in histories: how the snapshot's pages might have come to be under a policy.
//!
//! A snapshot says what was allocated and not in which order, nor what came and went meanwhile.
//! A history makes both up from a seed: the survivors come in random order among movable filler,
//! until free memory is once below a limit; then the filler goes in random order until only the
//! survivors are left. It is drawn before any policy is asked, so all policies see the same one.

use fragscope_trace::event::TimeNs;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::machine::Machine;
use fragscope_trace::page::{Content, CpuId};
use fragscope_trace::snapshot::Snapshot;
use serde::Serialize;

use super::survivors::{Survivor, free_names, survivors};
use crate::mm::allocator::PageAllocator;
use crate::mm::frames::Frame;
use crate::mm::request::{FreeEntry, Request};
use crate::synth::random::Rng;

/// Free memory at the worst time of a history, in percent of managed memory.
const LOWEST_FREE_PERCENT: u64 = 5;
/// Steps that run on one CPU before the next is drawn.
const STEPS_PER_CPU: u64 = 64;
/// Steps between two calls of [`PageAllocator::advance`].
const STEPS_PER_ADVANCE: u64 = 1024;

/// How a start state came about. Counts are pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FillReport {
    /// Of the snapshot, to be placed by the policy.
    pub survivor_pages: u64,
    /// Of these, that the policy refused or reclaimed at first and placed again in the end.
    pub late_survivor_pages: u64,
    /// Of these, that the policy did not place.
    pub refused_survivor_pages: u64,
    /// That came and went.
    pub filler_pages: u64,
    /// Filler that the policy did not place.
    pub refused_filler_pages: u64,
    /// Free memory at its lowest, by the policy's own count.
    pub lowest_free_pages: u64,
}

/// A history, and how far it is.
struct History<'a, A: PageAllocator> {
    allocator: &'a A,
    random: Rng,
    cpus: Vec<CpuId>,
    cpu: CpuId,
    step: u64,
    steps: u64,
    until_ns: TimeNs,
    report: FillReport,
}

/// Places the survivors of a snapshot in an allocator that is as at boot; with `filler`, through
/// a history.
pub fn fill<A: PageAllocator>(
    allocator: &A,
    machine: &Machine,
    snapshot: &Snapshot,
    seed: u64,
    filler: bool,
) -> FillReport {
    let mut random = Rng::stream(seed, "fill-in history");
    let mut survivors = survivors(snapshot);
    shuffle(&mut random, &mut survivors);
    let pages = survivors.iter().map(|s| 1u64 << s.order).sum::<u64>();
    let mut names = if filler { free_names(snapshot) } else { Vec::new() };
    let keep_free = machine.managed_pages() * LOWEST_FREE_PERCENT / 100;
    names.truncate((names.len() as u64).saturating_sub(keep_free) as usize);
    let steps = (survivors.len() + 2 * names.len()) as u64;
    let cpus: Vec<CpuId> = machine.cpus.iter().map(|cpu| cpu.id).collect();
    let mut history = History {
        allocator,
        random,
        cpu: cpus.first().copied().unwrap_or_default(),
        cpus,
        step: 0,
        steps: steps.max(1),
        until_ns: snapshot.begin_ns,
        report: FillReport {
            survivor_pages: pages,
            filler_pages: names.len() as u64,
            ..FillReport::default()
        },
    };
    history.rise(&survivors, &names);
    let (buddy, pcp) = allocator.free_pages();
    history.report.lowest_free_pages = buddy + pcp;
    history.fall(names);
    history.complete(&survivors);
    allocator.advance(snapshot.begin_ns);
    history.report
}

impl<A: PageAllocator> History<'_, A> {
    /// Survivors and filler arrive, each in proportion to what is left of it.
    fn rise(&mut self, survivors: &[Survivor], names: &[Frame]) {
        let (mut next_survivor, mut next_name) = (0, 0);
        while next_survivor < survivors.len() || next_name < names.len() {
            self.tick();
            let left = (survivors.len() - next_survivor, names.len() - next_name);
            let draw = self.random.below((left.0 + left.1) as u64);
            if draw < left.0 as u64 {
                self.place_survivor(survivors[next_survivor]);
                next_survivor += 1;
            } else {
                self.place_filler(names[next_name]);
                next_name += 1;
            }
        }
    }

    /// Filler goes in random order.
    fn fall(&mut self, mut names: Vec<Frame>) {
        shuffle(&mut self.random, &mut names);
        for name in names {
            self.tick();
            let frames = self.allocator.frames();
            if let Some(frame) = frames.place(name) {
                frames.unsettle(name);
                // It is allocated: nothing but this history has touched it.
                let _ = self.allocator.free(frame, 0, self.cpu, FreeEntry::Normal);
            } else if frames.is_evicted(name) {
                frames.unsettle(name);
            }
        }
    }

    fn place_survivor(&mut self, survivor: Survivor) {
        let request = survivor.request(self.cpu);
        if self.place(survivor.pfn, &request) {
            return;
        }
        let piece = Request { order: 0, ..request };
        for page in 0..1 << survivor.order {
            self.place(survivor.pfn + page, &piece);
        }
    }

    /// Places survivors that the policy refused or reclaimed while memory was low: they are there
    /// in the end, so they came again.
    fn complete(&mut self, survivors: &[Survivor]) {
        for survivor in survivors {
            let request = Request { order: 0, ..survivor.request(self.cpu) };
            for pfn in survivor.pfn..survivor.pfn + (1 << survivor.order) {
                if self.allocator.frames().place(pfn).is_some() {
                    continue;
                }
                let part = if self.place(pfn, &request) {
                    &mut self.report.late_survivor_pages
                } else {
                    &mut self.report.refused_survivor_pages
                };
                *part += 1;
            }
        }
    }

    fn place_filler(&mut self, name: Frame) {
        let request =
            Request { content: Content::File, ..Request::new(0, Gfp::HIGHUSER_MOVABLE, self.cpu) };
        if !self.place(name, &request) {
            self.report.refused_filler_pages += 1;
        }
    }

    fn place(&mut self, pfn: Frame, request: &Request) -> bool {
        let Ok(frame) = self.allocator.alloc(request) else { return false };
        for page in 0..1 << request.order {
            self.allocator.frames().settle(pfn + page, frame + page);
        }
        true
    }

    /// Lets time pass: the history fills the time from boot to the snapshot evenly.
    fn tick(&mut self) {
        if self.step.is_multiple_of(STEPS_PER_CPU) && !self.cpus.is_empty() {
            self.cpu = self.cpus[self.random.below(self.cpus.len() as u64) as usize];
        }
        if self.step.is_multiple_of(STEPS_PER_ADVANCE) {
            let now = u128::from(self.until_ns) * u128::from(self.step) / u128::from(self.steps);
            self.allocator.advance(now as TimeNs);
        }
        self.step += 1;
    }
}

/// Puts items in random order (Fisher and Yates).
fn shuffle<T>(random: &mut Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.below(last as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_all_items() {
        let mut items: Vec<u32> = (0..100).collect();
        shuffle(&mut Rng::stream(5, "test"), &mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert!(items.into_iter().eq(0..100));
    }
}
