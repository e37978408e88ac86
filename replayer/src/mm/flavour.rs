//! Lock flavours: one allocator source, run alone, by threads, or by a checker.
//!
//! Per-page metadata are words behind `&self`; the locks below say who may change them. With
//! [`Up`] a word is a `Cell` and costs nothing; with [`Smp`] it is a relaxed atomic that a lock
//! guards, so neither flavour needs unsafe code. `Checked` (with `--cfg loom`) runs the same source
//! under a checker that tries the interleavings of threads.

use std::cell::Cell;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::huge_pages;

#[cfg(loom)]
pub mod checked;

/// A shared word of type `T`.
pub trait Word<T: Copy>: Default {
    /// Rows of words, all 0; untouched rows cost address space only.
    fn zeroed<const N: usize>(rows: usize) -> Box<[[Self; N]]>;
    /// Reads it.
    fn get(&self) -> T;
    /// Writes it.
    fn set(&self, value: T);
    /// Reads, changes and writes it; not atomic, the caller holds the lock that guards it.
    fn update(&self, change: impl FnOnce(T) -> T) {
        self.set(change(self.get()));
    }
    /// Adds to it, wrapping; atomic where the flavour has threads, so no lock is needed.
    fn add(&self, delta: T);
    /// Subtracts from it, wrapping; atomic like [`Word::add`].
    fn sub(&self, delta: T);
    /// Replaces it and returns what it was; sees everything written before the value was put
    /// there by [`Word::replace_if`].
    fn swap(&self, value: T) -> T;
    /// Replaces `old` by `new` and publishes everything written before; false if it is not `old`.
    fn replace_if(&self, old: T, new: T) -> bool;
}

/// A table of zeroes, on huge pages if it is large.
fn zeroed_table<T: bytemuck::Zeroable>(rows: usize) -> Box<[T]> {
    let table = bytemuck::allocation::zeroed_slice_box(rows);
    huge_pages::advise(&table);
    table
}

macro_rules! words {
    ($($int:ty, $atomic:ty);*) => {$(
        impl Word<$int> for Cell<$int> {
            fn zeroed<const N: usize>(rows: usize) -> Box<[[Self; N]]> {
                zeroed_table(rows)
            }
            #[inline]
            fn get(&self) -> $int {
                Cell::get(self)
            }
            #[inline]
            fn set(&self, value: $int) {
                Cell::set(self, value);
            }
            #[inline]
            fn add(&self, delta: $int) {
                Cell::set(self, Cell::get(self).wrapping_add(delta));
            }
            #[inline]
            fn sub(&self, delta: $int) {
                Cell::set(self, Cell::get(self).wrapping_sub(delta));
            }
            #[inline]
            fn swap(&self, value: $int) -> $int {
                self.replace(value)
            }
            #[inline]
            fn replace_if(&self, old: $int, new: $int) -> bool {
                let same = Cell::get(self) == old;
                if same {
                    Cell::set(self, new);
                }
                same
            }
        }
        impl Word<$int> for $atomic {
            fn zeroed<const N: usize>(rows: usize) -> Box<[[Self; N]]> {
                zeroed_table(rows)
            }
            #[inline]
            fn get(&self) -> $int {
                self.load(Ordering::Relaxed)
            }
            #[inline]
            fn set(&self, value: $int) {
                self.store(value, Ordering::Relaxed);
            }
            #[inline]
            fn add(&self, delta: $int) {
                self.fetch_add(delta, Ordering::Relaxed);
            }
            #[inline]
            fn sub(&self, delta: $int) {
                self.fetch_sub(delta, Ordering::Relaxed);
            }
            #[inline]
            fn swap(&self, value: $int) -> $int {
                <$atomic>::swap(self, value, Ordering::AcqRel)
            }
            #[inline]
            fn replace_if(&self, old: $int, new: $int) -> bool {
                self.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            }
        }
    )*};
}
words!(u32, AtomicU32; u64, AtomicU64);

/// A lock that may refuse.
pub trait Lock: Default + Debug {
    /// Takes it if it is free.
    fn try_lock(&self) -> bool;
    /// Waits for it. Without other CPUs a lock that is held can never become free, so that is a
    /// bug of the caller and panics.
    fn lock(&self);
    /// Gives it back; the caller holds it.
    fn unlock(&self);

    /// Waits for it and gives it back when the guard is dropped.
    #[inline]
    fn guard(&self) -> Guard<'_, Self> {
        self.lock();
        Guard(self)
    }

    /// Takes it if it is free, until the guard is dropped.
    #[inline]
    fn try_guard(&self) -> Option<Guard<'_, Self>> {
        // Lazily: a guard that is dropped would give back a lock that somebody else holds.
        self.try_lock().then(|| Guard(self))
    }
}

impl<'a, L: Lock> Guard<'a, L> {
    /// Gives back a lock that the caller has taken.
    #[inline]
    pub fn of(lock: &'a L) -> Guard<'a, L> {
        Guard(lock)
    }
}

/// Holds a [`Lock`].
#[derive(Debug)]
pub struct Guard<'a, L: Lock>(&'a L);

impl<L: Lock> Drop for Guard<'_, L> {
    #[inline]
    fn drop(&mut self) {
        self.0.unlock();
    }
}

/// The words and locks of one flavour.
pub trait Flavour: Debug + 'static {
    /// A 32-bit word.
    type U32: Word<u32> + Debug;
    /// A 64-bit word.
    type U64: Word<u64> + Debug;
    /// A lock.
    type Lock: Lock;

    /// Whether the flavour is for replays, where time is virtual and operations never meet.
    const REPLAYS: bool = false;

    /// Copies that a [`PerThread`](super::per_thread::PerThread) has.
    const COPIES: usize = 1;

    /// The calling thread's copy, below [`Flavour::COPIES`].
    #[inline]
    fn copy() -> usize {
        0
    }

    /// Lets time pass for somebody who waits for another CPU.
    fn relax() {
        std::hint::spin_loop();
    }

    /// Whether a fault is to be made, to see that the checker's tests can fail. Never, but under
    /// the checker.
    #[inline]
    fn has(_: Fault) -> bool {
        false
    }
}

/// A fault of the free path's protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A remote push stores the new top without looking whether it changed.
    PushByStore,
    /// A CPU that comes online leaves what was pushed while it was dead.
    OnlineWithoutAbsorb,
    /// A CPU that goes re-initialises its list of owned pageblocks.
    ReinitOwned,
    /// A lock that is only tried is taken for free.
    TryLockSucceeds,
    /// A rebuild of the zonelists is announced only when it is over.
    AnnouncedLate,
}

/// One thread, no atomics. A lock taken twice fails, as it must for a nested interrupt.
#[derive(Debug)]
pub struct Up;

/// Many threads: atomics and spin locks.
#[derive(Debug)]
pub struct Smp;

impl Flavour for Up {
    type U32 = Cell<u32>;
    type U64 = Cell<u64>;
    type Lock = UpLock;
    const REPLAYS: bool = true;

    /// There is no other CPU.
    fn relax() {
        panic!("the only CPU waits for itself: that never ends");
    }
}

impl Flavour for Smp {
    type U32 = AtomicU32;
    type U64 = AtomicU64;
    type Lock = SpinLock;
    const COPIES: usize = 16;

    #[inline]
    fn copy() -> usize {
        THREAD.with(|thread| *thread) % Smp::COPIES
    }
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

std::thread_local! {
    /// Number of the thread, in the order in which threads first asked for it.
    static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

/// The lock of [`Up`].
#[derive(Debug, Default)]
pub struct UpLock(Cell<bool>);

impl Lock for UpLock {
    #[inline]
    fn try_lock(&self) -> bool {
        !self.0.replace(true)
    }
    #[inline]
    fn lock(&self) {
        assert!(self.try_lock(), "a lock is taken twice on one CPU: deadlock");
    }
    #[inline]
    fn unlock(&self) {
        self.0.set(false);
    }
}

/// The lock of [`Smp`].
#[derive(Debug, Default)]
pub struct SpinLock(AtomicBool);

impl Lock for SpinLock {
    #[inline]
    fn try_lock(&self) -> bool {
        !self.0.load(Ordering::Relaxed) && !self.0.swap(true, Ordering::Acquire)
    }
    #[inline]
    fn lock(&self) {
        while !self.try_lock() {
            std::hint::spin_loop();
        }
    }
    #[inline]
    fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_once<L: Lock>() {
        let lock = L::default();
        {
            let _guard = lock.guard();
            assert!(lock.try_guard().is_none());
            assert!(lock.try_guard().is_none(), "a refused guard must not give the lock back");
        }
        assert!(lock.try_guard().is_some());
    }

    #[test]
    fn a_held_lock_refuses() {
        taken_once::<UpLock>();
        taken_once::<SpinLock>();
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn waiting_for_oneself_is_a_bug() {
        let lock = UpLock::default();
        let _guard = lock.guard();
        lock.lock();
    }
}
