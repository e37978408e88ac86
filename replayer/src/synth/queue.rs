//! Virtual time: what happens when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fragscope_trace::event::TimeNs;

use super::kernel::Block;

/// One thing that will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// A load goes on.
    Step {
        /// Position of the load.
        load: u16,
    },
    /// A process goes on, or ends.
    Process {
        /// Position of the load that started it.
        load: u16,
        /// Its place in the process table.
        slot: u32,
    },
    /// A block's lifetime is over.
    Free(Block),
}

struct Entry {
    at_ns: TimeNs,
    /// Tasks of the same time happen in the order in which they were put here.
    sequence: u64,
    task: Task,
}

impl Entry {
    fn key(&self) -> (TimeNs, u64) {
        (self.at_ns, self.sequence)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// Tasks by time.
#[derive(Default)]
pub(super) struct Queue {
    entries: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
}

impl Queue {
    /// Puts a task at a time.
    pub(super) fn put(&mut self, at_ns: TimeNs, task: Task) {
        self.sequence += 1;
        self.entries.push(Reverse(Entry { at_ns, sequence: self.sequence, task }));
    }

    /// The next task, if it is due before `end_ns`.
    pub(super) fn take_before(&mut self, end_ns: TimeNs) -> Option<(TimeNs, Task)> {
        if self.entries.peek()?.0.at_ns >= end_ns {
            return None;
        }
        self.entries.pop().map(|Reverse(entry)| (entry.at_ns, entry.task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_come_by_time_and_then_in_order() {
        let mut queue = Queue::default();
        for (at, load) in [(5, 0), (3, 1), (5, 2), (9, 3)] {
            queue.put(at, Task::Step { load });
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.take_before(9)).collect();
        let step = |load| Task::Step { load };
        assert_eq!(order, [(3, step(1)), (5, step(0)), (5, step(2))]);
        assert!(queue.take_before(10).is_some());
    }
}
