//! The flavour for the checker `loom`, which runs a test once for every order in which the
//! accesses of its threads can race, with the values that relaxed loads may then see.
//!
//! Counts are outside of what is checked: 64-bit words are, and so are additions and subtractions,
//! which commute. Everything else is a word or a lock of the checker.

use std::cell::Cell;
use std::sync::atomic::AtomicU64;

use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{Fault, Flavour, Lock, Word};

std::thread_local! {
    static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Runs `body`, on this thread, with a fault.
pub fn with_fault<R>(fault: Fault, body: impl FnOnce() -> R) -> R {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            FAULT.set(None);
        }
    }
    FAULT.set(Some(fault));
    let _reset = Reset;
    body()
}

/// Threads of the checker.
#[derive(Debug)]
pub struct Checked;

impl Flavour for Checked {
    type U32 = CheckedU32;
    type U64 = AtomicU64;
    type Lock = CheckedLock;

    fn relax() {
        loom::thread::yield_now();
    }

    fn has(fault: Fault) -> bool {
        FAULT.get() == Some(fault)
    }
}

/// A word: a value that the checker watches, and a sum of changes that commute.
#[derive(Debug, Default)]
pub struct CheckedU32 {
    value: AtomicU32,
    sum: std::sync::atomic::AtomicU32,
}

impl CheckedU32 {
    fn sum(&self) -> u32 {
        self.sum.load(Ordering::Relaxed)
    }
}

impl Word<u32> for CheckedU32 {
    fn zeroed<const N: usize>(rows: usize) -> Box<[[Self; N]]> {
        (0..rows).map(|_| std::array::from_fn(|_| CheckedU32::default())).collect()
    }

    fn get(&self) -> u32 {
        self.value.load(Ordering::Relaxed).wrapping_add(self.sum())
    }

    fn set(&self, value: u32) {
        self.value.store(value.wrapping_sub(self.sum()), Ordering::Relaxed);
    }

    fn add(&self, delta: u32) {
        self.sum.fetch_add(delta, Ordering::Relaxed);
    }

    fn sub(&self, delta: u32) {
        self.sum.fetch_sub(delta, Ordering::Relaxed);
    }

    fn swap(&self, value: u32) -> u32 {
        let sum = self.sum();
        self.value.swap(value.wrapping_sub(sum), Ordering::AcqRel).wrapping_add(sum)
    }

    fn replace_if(&self, old: u32, new: u32) -> bool {
        let (old, new) = (old.wrapping_sub(self.sum()), new.wrapping_sub(self.sum()));
        self.value.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// A lock whose order of taking the checker tries.
#[derive(Debug, Default)]
pub struct CheckedLock(AtomicBool);

impl CheckedLock {
    fn take(&self) -> bool {
        self.0.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

impl Lock for CheckedLock {
    fn try_lock(&self) -> bool {
        self.take() || Checked::has(Fault::TryLockSucceeds)
    }

    fn lock(&self) {
        while !self.take() {
            loom::thread::yield_now();
        }
    }

    fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}
