//! State of which every thread has its own copy, so that threads never meet in its cache lines
//! (the kernel's per-CPU variables, `DEFINE_PER_CPU`).

use std::marker::PhantomData;
use std::ops::Deref;

use super::flavour::Flavour;

/// Something that shares its cache lines with nothing else. Two lines, because processors fetch
/// them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct OwnLine<T>(T);

impl<T> OwnLine<T> {
    /// Puts `value` on lines of its own.
    pub fn new(value: T) -> OwnLine<T> {
        OwnLine(value)
    }
}

impl<T> Deref for OwnLine<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// One `T` for each thread, which the thread reaches by dereferencing; threads beyond
/// [`Flavour::COPIES`] share. What all of them say together is told by [`PerThread::all`].
#[derive(Debug)]
pub struct PerThread<F, T> {
    first: OwnLine<T>,
    others: Box<[OwnLine<T>]>,
    flavour: PhantomData<F>,
}

impl<F: Flavour, T> PerThread<F, T> {
    /// Copies made by `make`.
    pub fn new(mut make: impl FnMut() -> T) -> PerThread<F, T> {
        let first = OwnLine::new(make());
        let others = (1..F::COPIES).map(|_| OwnLine::new(make())).collect();
        PerThread { first, others, flavour: PhantomData }
    }

    /// Every thread's copy.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.first).chain(&self.others).map(|copy| &**copy)
    }
}

impl<F: Flavour, T: Default> Default for PerThread<F, T> {
    fn default() -> Self {
        PerThread::new(T::default)
    }
}

impl<F: Flavour, T> Deref for PerThread<F, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match F::copy() {
            0 => &self.first,
            copy => &self.others[copy - 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::flavour::{Smp, Up, Word};

    #[test]
    fn the_copies_together_have_counted_everything() {
        const EACH: u64 = 1000;
        let counts = PerThread::<Smp, <Smp as Flavour>::U64>::default();
        let threads = 2 * Smp::COPIES;
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..EACH).for_each(|_| counts.add(1)));
            }
        });
        let total: u64 = counts.all().map(Word::get).sum();
        assert_eq!(total, EACH * threads as u64);
        assert!(counts.all().filter(|count| count.get() > 0).count() > 1, "more than one is used");
    }

    #[test]
    fn one_thread_has_one_copy() {
        let counts = PerThread::<Up, <Up as Flavour>::U64>::default();
        counts.add(1);
        assert_eq!(counts.all().map(Word::get).collect::<Vec<_>>(), [1]);
    }
}
