//! `zonelist_update_seq`: how requests notice that the zonelists were rebuilt under them.
//!
//! `spb-allocator` 5.9. While a rebuild runs a request may see a zonelist that is not whole. One
//! that found nothing asks [`UpdateSequence::changed`] before it fails, and begins again if so.

use super::flavour::{Fault, Flavour, Lock, Word};

/// What requests do about a rebuild.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceKind {
    /// A sequence lock, as mainline has it: requests wait for the end of a rebuild, and all try
    /// again. Whoever rebuilds has interrupts off, else an interrupt's request waits for ever.
    Seqlock,
    /// The counter proposed in 2023 and refused: nobody waits, and only requests that may reclaim
    /// try again. A request that begins and ends during a rebuild can fail for nothing.
    Counter,
}

impl SequenceKind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            SequenceKind::Seqlock => "seqlock",
            SequenceKind::Counter => "counter",
        }
    }
}

/// The sequence: odd while a rebuild runs.
#[derive(Debug)]
pub struct UpdateSequence<F: Flavour> {
    kind: SequenceKind,
    lock: F::Lock,
    count: F::U32,
}

/// The sequence as a request found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen(u32);

impl<F: Flavour> UpdateSequence<F> {
    /// No rebuild yet.
    #[must_use]
    pub fn new(kind: SequenceKind) -> UpdateSequence<F> {
        UpdateSequence { kind, lock: F::Lock::default(), count: F::U32::default() }
    }

    /// Rebuilds, alone.
    pub fn rebuild(&self, change: impl FnOnce()) {
        let _guard = self.lock.guard();
        let late = F::has(Fault::AnnouncedLate);
        if !late {
            self.bump();
        }
        change();
        if late {
            self.bump();
        }
        self.bump();
    }

    /// Adds one. A read-modify-write on both sides orders what surrounds it: a request that sees
    /// anything of a rebuild also sees that the sequence changed.
    fn bump(&self) {
        loop {
            let count = self.count.get();
            if self.count.replace_if(count, count.wrapping_add(1)) {
                return;
            }
        }
    }

    fn read(&self) -> u32 {
        loop {
            let count = self.count.get();
            if self.count.replace_if(count, count) {
                return count;
            }
        }
    }

    /// A request begins to look along a zonelist.
    #[must_use]
    pub fn begin(&self) -> Seen {
        loop {
            let count = self.read();
            if self.kind == SequenceKind::Counter || count.is_multiple_of(2) {
                return Seen(count);
            }
            F::relax();
        }
    }

    /// Whether a request that found nothing should begin again.
    #[must_use]
    pub fn changed(&self, seen: Seen, may_reclaim: bool) -> bool {
        let asks = self.kind == SequenceKind::Seqlock || may_reclaim;
        asks && self.read() != seen.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::flavour::Up;

    #[test]
    fn only_requests_around_a_rebuild_begin_again() {
        for kind in [SequenceKind::Seqlock, SequenceKind::Counter] {
            let sequence = UpdateSequence::<Up>::new(kind);
            let before = sequence.begin();
            assert!(!sequence.changed(before, true));
            sequence.rebuild(|| {});
            assert!(sequence.changed(before, true));
            assert_eq!(sequence.changed(before, false), kind == SequenceKind::Seqlock);
            assert!(!sequence.changed(sequence.begin(), true));
        }
    }

    #[test]
    #[should_panic(expected = "never ends")]
    fn a_request_that_interrupts_a_rebuild_waits_for_ever() {
        let sequence = UpdateSequence::<Up>::new(SequenceKind::Seqlock);
        sequence.rebuild(|| {
            let _ = sequence.begin();
        });
    }

    #[test]
    fn a_request_that_interrupts_a_counted_rebuild_does_not_wait() {
        let sequence = UpdateSequence::<Up>::new(SequenceKind::Counter);
        sequence.rebuild(|| {
            let seen = sequence.begin();
            assert!(!sequence.changed(seen, true), "begun and ended inside the rebuild");
        });
    }
}
