//! The ground truth about 1 GiB pages: ask the kernel for them, and give them back.
//!
//! Nothing else in this crate changes the host. Page after page is added to the kernel's pool of
//! 1 GiB pages until it refuses, a limit is reached, memory for others runs short, or somebody
//! interrupts; then every pool gets its old size again. To grant a page the kernel may migrate
//! what lies in a region, and it does not move it back.
//!
//! The old sizes come back on every way out of [`probe`], also through a panic or a signal that
//! sets the flag. Only a process that is killed with SIGKILL leaves the pools as they are; the
//! old sizes are logged (`info`) before the first change.

mod host;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use fragscope_trace::event::{SideKind, TimeNs};
use fragscope_trace::page::Pfn;
use serde::Serialize;
use thiserror::Error;

pub use fragscope_trace::event::ProbeStop;

pub use self::host::ThisHost;
use crate::bpf::clock::now_ns;
use crate::proc::ProcError;

/// Bytes of one page asked for.
pub const PAGE_1G_BYTES: u64 = 1 << 30;
/// Besides the page itself, this much must be available to others before each request.
const RESERVE_BYTES: u64 = 512 << 20;

/// What a probe needs of a host. Pools are numbered from 0.
pub trait Host {
    /// Node of each pool of 1 GiB pages; `None` for the only pool of a host without NUMA.
    fn nodes(&self) -> &[Option<u16>];
    /// Pages in a pool, in use or not.
    ///
    /// # Errors
    /// If the setting cannot be read.
    fn pool_pages(&self, pool: usize) -> io::Result<u64>;
    /// Asks for a pool of `pages`. The kernel may grant less, which is no error.
    ///
    /// # Errors
    /// If the setting cannot be written.
    fn resize(&self, pool: usize, pages: u64) -> io::Result<()>;
    /// First frames of all 1 GiB pages in pools.
    ///
    /// # Errors
    /// If the state of pages cannot be read.
    fn pages_1g(&self) -> io::Result<BTreeSet<Pfn>>;
    /// Memory that new users could have without swapping, in bytes.
    ///
    /// # Errors
    /// If it cannot be read.
    fn available_bytes(&self) -> io::Result<u64>;
}

/// Why a probe failed.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// No pool: nothing to ask for.
    #[error(
        "this kernel has no 1 GiB pages (found {found}, expected hugepages-1048576kB); \
         they need the CPU flag pdpe1gb and CONFIG_HUGETLB_PAGE with CONFIG_CONTIG_ALLOC"
    )]
    NoSuchSize {
        /// Sizes that it has.
        found: String,
    },
    /// A file of `/proc` or `/sys` is unusable.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// A setting could not be read or written.
    #[error("cannot {action} ({source}); asking for 1 GiB pages takes root")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The pool is not what it was: the one failure that leaves a trace on the host.
    #[error("pool {pool} could not be set back to {pages} pages of 1 GiB: {source}")]
    NotRestored {
        /// Which pool.
        pool: usize,
        /// What it should have.
        pages: u64,
        /// Why not.
        source: io::Error,
    },
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> ProbeError {
    move |source| ProbeError::Io { action, source }
}

/// What the kernel gave; field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// 1 GiB pages granted, beyond those in pools before.
    pub granted_1g: u64,
    /// First frame of each, ascending.
    pub start_pfns: Vec<Pfn>,
    /// Why the kernel was asked for no more.
    pub stopped: ProbeStop,
    /// Pages in the pools before and after, in use or not. They are not among those granted.
    pub pool_1g: u64,
    /// Clock at the first request and when all was given back.
    pub begin_ns: TimeNs,
    /// See `begin_ns`.
    pub end_ns: TimeNs,
}

impl Probe {
    /// The same for a trace.
    #[must_use]
    pub fn to_event(&self) -> SideKind {
        SideKind::Probe1g {
            begin_ns: self.begin_ns,
            granted: self.granted_1g,
            pages: self.start_pfns.clone(),
            stopped: self.stopped,
        }
    }
}

/// Asks `host` for 1 GiB pages, at most `max`, and gives them back. `stop` may be set by another
/// thread or a signal; it is looked at between two requests, each of which takes the kernel up to
/// some seconds.
///
/// # Errors
/// [`ProbeError`]. The pools have their old sizes then, too, but for [`ProbeError::NotRestored`].
pub fn probe(host: &impl Host, max: Option<u64>, stop: &AtomicBool) -> Result<Probe, ProbeError> {
    let mut pools = Pools::remember(host)?;
    let before = host.pages_1g().map_err(failed("read the state of pages"))?;
    let begin_ns = now_ns();
    let (granted_1g, stopped) = pools.fill(max.unwrap_or(u64::MAX), stop)?;
    let held = host.pages_1g().map_err(failed("read the state of pages"))?;
    let pool_1g = pools.old.iter().sum();
    pools.restore()?;
    Ok(Probe {
        granted_1g,
        start_pfns: held.difference(&before).copied().collect(),
        stopped,
        pool_1g,
        begin_ns,
        end_ns: now_ns(),
    })
}

/// The pools' old sizes, owed until they are restored.
struct Pools<'a, H: Host> {
    host: &'a H,
    old: Vec<u64>,
    owed: bool,
}

impl<'a, H: Host> Pools<'a, H> {
    fn remember(host: &'a H) -> Result<Pools<'a, H>, ProbeError> {
        let pools = 0..host.nodes().len();
        let old = pools.map(|pool| host.pool_pages(pool)).collect::<io::Result<Vec<u64>>>();
        let old = old.map_err(failed("read the number of 1 GiB pages"))?;
        log::info!("pools of 1 GiB pages before the probe: {old:?}");
        Ok(Pools { host, old, owed: false })
    }

    /// Pages granted, and why there are no more.
    fn fill(&mut self, max: u64, stop: &AtomicBool) -> Result<(u64, ProbeStop), ProbeError> {
        let mut granted = 0;
        for pool in 0..self.old.len() {
            loop {
                if let Some(reason) = self.reason_to_stop(max - granted, stop)? {
                    return Ok((granted, reason));
                }
                match self.ask(pool)? {
                    // A signal makes the kernel give up a request.
                    0 if stop.load(Ordering::Acquire) => {
                        return Ok((granted, ProbeStop::Interrupted));
                    }
                    0 => break,
                    more => granted += more,
                }
            }
        }
        Ok((granted, ProbeStop::Refused))
    }

    fn reason_to_stop(
        &self,
        left: u64,
        stop: &AtomicBool,
    ) -> Result<Option<ProbeStop>, ProbeError> {
        if stop.load(Ordering::Acquire) {
            return Ok(Some(ProbeStop::Interrupted));
        }
        if left == 0 {
            return Ok(Some(ProbeStop::Limit));
        }
        let available = self.host.available_bytes().map_err(failed("read /proc/meminfo"))?;
        Ok((available < PAGE_1G_BYTES + RESERVE_BYTES).then_some(ProbeStop::LowMemory))
    }

    /// Asks for one page more; gives how many came.
    fn ask(&mut self, pool: usize) -> Result<u64, ProbeError> {
        let read = || self.host.pool_pages(pool).map_err(failed("read the number of 1 GiB pages"));
        let have = read()?;
        self.owed = true;
        self.host.resize(pool, have + 1).map_err(failed("ask for a 1 GiB page"))?;
        Ok(read()?.saturating_sub(have))
    }

    fn restore(&mut self) -> Result<(), ProbeError> {
        if !self.owed {
            return Ok(());
        }
        self.owed = false;
        // Every pool, whatever becomes of the others.
        let mut result = Ok(());
        for (pool, pages) in self.old.iter().copied().enumerate() {
            if let Err(source) = self.host.resize(pool, pages) {
                result = Err(ProbeError::NotRestored { pool, pages, source });
            }
        }
        result
    }
}

impl<H: Host> Drop for Pools<'_, H> {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            log::error!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use proptest::prelude::*;

    use super::*;

    /// What happens at a resize.
    #[derive(Clone, Copy, Debug)]
    enum Mishap {
        Error,
        Panic,
        Signal,
    }

    /// A kernel that grants what `obtainable` says, and fails at one growing resize.
    struct FakeHost<'a> {
        nodes: Vec<Option<u16>>,
        obtainable: Vec<u64>,
        pools: RefCell<Vec<u64>>,
        available_bytes: Cell<u64>,
        mishap: Option<(u64, Mishap)>,
        grown: Cell<u64>,
        stop: &'a AtomicBool,
    }

    impl FakeHost<'_> {
        fn happen(&self) -> io::Result<()> {
            let number = self.grown.get();
            self.grown.set(number + 1);
            match self.mishap {
                Some((at, Mishap::Error)) if at == number => Err(io::Error::other("refused")),
                Some((at, Mishap::Panic)) if at == number => panic!("as asked"),
                Some((at, Mishap::Signal)) if at == number => {
                    self.stop.store(true, Ordering::Release);
                    Ok(())
                }
                _ => Ok(()),
            }
        }
    }

    impl Host for FakeHost<'_> {
        fn nodes(&self) -> &[Option<u16>] {
            &self.nodes
        }

        fn pool_pages(&self, pool: usize) -> io::Result<u64> {
            Ok(self.pools.borrow()[pool])
        }

        fn resize(&self, pool: usize, pages: u64) -> io::Result<()> {
            let have = self.pools.borrow()[pool];
            let new = pages.min(self.obtainable[pool]).max(pages.min(have));
            self.pools.borrow_mut()[pool] = new;
            let grown = new.saturating_sub(have) * PAGE_1G_BYTES;
            self.available_bytes.set(self.available_bytes.get().saturating_sub(grown));
            if pages > have { self.happen() } else { Ok(()) }
        }

        fn pages_1g(&self) -> io::Result<BTreeSet<Pfn>> {
            let pools = self.pools.borrow();
            let pages = (0..).zip(&*pools);
            Ok(pages
                .flat_map(|(n, pages)| (0..*pages).map(move |i| Pfn(n << 32 | i << 18)))
                .collect())
        }

        fn available_bytes(&self) -> io::Result<u64> {
            Ok(self.available_bytes.get())
        }
    }

    fn mishap() -> impl Strategy<Value = Option<(u64, Mishap)>> {
        let what = prop_oneof![Just(Mishap::Error), Just(Mishap::Panic), Just(Mishap::Signal)];
        prop::option::of((0u64..12, what))
    }

    proptest! {
        /// However a probe ends, every pool has its old size; what it found is what was to be had.
        #[test]
        fn pools_come_back_on_every_way_out(
            pools in prop::collection::vec((0u64..3, 0u64..5), 1..4),
            available_gib in 0u64..12,
            max in prop::option::of(0u64..10),
            mishap in mishap(),
        ) {
            let stop = AtomicBool::new(false);
            let old: Vec<u64> = pools.iter().map(|(old, _)| *old).collect();
            let host = FakeHost {
                nodes: (0..pools.len()).map(|node| Some(node as u16)).collect(),
                obtainable: pools.iter().map(|(old, more)| old + more).collect(),
                pools: RefCell::new(old.clone()),
                available_bytes: Cell::new(available_gib << 30),
                mishap,
                grown: Cell::new(0),
                stop: &stop,
            };
            let result = catch_unwind(AssertUnwindSafe(|| probe(&host, max, &stop)));
            prop_assert_eq!(&*host.pools.borrow(), &old);
            let Ok(Ok(found)) = result else { return Ok(()) };
            let memory = available_gib.saturating_sub(1);
            let there: u64 = pools.iter().map(|(_, more)| more).sum();
            prop_assert_eq!(found.granted_1g, found.start_pfns.len() as u64);
            prop_assert_eq!(found.pool_1g, old.iter().sum::<u64>());
            let limit = max.unwrap_or(u64::MAX);
            match found.stopped {
                ProbeStop::Refused => prop_assert_eq!(found.granted_1g, there),
                ProbeStop::Limit => prop_assert_eq!(found.granted_1g, limit),
                ProbeStop::LowMemory => prop_assert_eq!(found.granted_1g, memory),
                ProbeStop::Interrupted => prop_assert!(stop.load(Ordering::Acquire)),
            }
            prop_assert!(found.granted_1g <= there.min(limit).min(memory));
        }
    }
}
