//! The running machine: the kernel, what is due, and the memory that can be taken back.

use fragscope_trace::event::TimeNs;
use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::CpuId;

use super::SynthError;
use super::distribution::Distribution;
use super::kernel::{Block, Caller, Kernel};
use super::process::Process;
use super::queue::{Queue, Task};
use super::random::Rng;
use crate::mm::flags::Mark;

/// Blocks that one round of reclaim takes (`SWAP_CLUSTER_MAX`).
const RECLAIM_BLOCKS: usize = 32;
/// Rounds of direct reclaim before a request fails (`MAX_RECLAIM_RETRIES`).
const RECLAIM_ROUNDS: usize = 16;
/// Largest order for which a caller reclaims (`PAGE_ALLOC_COSTLY_ORDER`).
const COSTLY_ORDER: u8 = 3;

/// Everything that loads share.
pub(super) struct Host<'a> {
    pub(super) kernel: Kernel<'a>,
    pub(super) queue: Queue,
    /// Page cache, in no order.
    pub(super) cache: Vec<Block>,
    pub(super) cache_pages: u64,
    /// Processes by slot.
    pub(super) processes: Vec<Option<Process>>,
    pub(super) managed_pages: u64,
    pub(super) cpus: u16,
    pub(super) swap_share: f64,
    pub(super) remote_free_share: f64,
    pub(super) rng: Rng,
}

impl Host<'_> {
    /// Serves a request, after direct reclaim where the flags allow it. `None` has been recorded
    /// as a failed request.
    #[inline]
    pub(super) fn alloc(
        &mut self,
        cpu: CpuId,
        order: u8,
        gfp: Gfp,
        caller: &Caller<'_>,
    ) -> Result<Option<Block>, SynthError> {
        match self.kernel.alloc(cpu, order, gfp, caller) {
            None => self.alloc_slowly(cpu, order, gfp, caller),
            served => Ok(served),
        }
    }

    #[cold]
    fn alloc_slowly(
        &mut self,
        cpu: CpuId,
        order: u8,
        gfp: Gfp,
        caller: &Caller<'_>,
    ) -> Result<Option<Block>, SynthError> {
        if gfp.can_direct_reclaim() && order <= COSTLY_ORDER {
            for _ in 0..RECLAIM_ROUNDS {
                if self.reclaim_round(cpu)? == 0 {
                    break;
                }
                let served = self.kernel.alloc(cpu, order, gfp, caller);
                if served.is_some() {
                    return Ok(served);
                }
            }
        }
        self.kernel.refuse(cpu, order, gfp);
        Ok(None)
    }

    /// What background reclaim does: nothing above the low watermarks, else up to the high ones.
    pub(super) fn balance(&mut self) -> Result<(), SynthError> {
        if !self.kernel.is_below(Mark::Low) {
            return Ok(());
        }
        self.kernel.counts.low_memory_at_ns.get_or_insert(self.kernel.now_ns());
        let cpu = self.random_cpu();
        while self.kernel.is_below(Mark::High) && self.reclaim_round(cpu)? > 0 {}
        Ok(())
    }

    /// Whether memory has ever run low.
    pub(super) fn has_been_full(&self) -> bool {
        self.kernel.counts.low_memory_at_ns.is_some()
    }

    /// Takes some random blocks back. Returns how many pages.
    fn reclaim_round(&mut self, cpu: CpuId) -> Result<u64, SynthError> {
        let mut pages = 0;
        for _ in 0..RECLAIM_BLOCKS {
            let swap = self.swap_share > 0.0 && self.rng.chance(self.swap_share);
            let taken = if swap { self.take_anonymous() } else { None };
            let Some(block) = taken.or_else(|| self.take_cached()) else { break };
            pages += 1 << block.order;
            self.kernel.free(block, cpu)?;
        }
        self.kernel.counts.reclaimed_pages += pages;
        Ok(pages)
    }

    /// A random block of the page cache, no longer counted there.
    pub(super) fn take_cached(&mut self) -> Option<Block> {
        let block = self.rng.take(&mut self.cache)?;
        self.cache_pages -= 1 << block.order;
        Some(block)
    }

    /// A random block of a random process; a few slots are tried.
    fn take_anonymous(&mut self) -> Option<Block> {
        (0..8).find_map(|_| {
            let slot = self.rng.below(self.processes.len() as u64) as usize;
            let process = self.processes.get_mut(slot)?.as_mut()?;
            self.rng.take(&mut process.anonymous)
        })
    }

    /// Frees a block, sometimes on another CPU than it was allocated on.
    #[inline]
    pub(super) fn free(&mut self, block: Block) -> Result<(), SynthError> {
        let cpu = self.freeing_cpu(block);
        self.kernel.free(block, cpu)
    }

    /// The CPU on which a block is freed.
    pub(super) fn freeing_cpu(&mut self, block: Block) -> CpuId {
        match self.cpus > 1 && self.rng.chance(self.remote_free_share) {
            true => self.random_cpu(),
            false => block.cpu,
        }
    }

    pub(super) fn random_cpu(&mut self) -> CpuId {
        CpuId(self.rng.below(self.cpus.into()) as u16)
    }

    /// Frees a block when its time has come; never, if its lifetime is longer than any trace.
    pub(super) fn free_after(&mut self, block: Block, life_s: &Distribution, rng: &mut Rng) {
        if let Some(seconds) = life_s.draw(rng) {
            self.queue.put(self.kernel.now_ns() + ns(seconds), Task::Free(block));
        }
    }

    /// Lets a load go on after some time.
    pub(super) fn step_after(&mut self, load: u16, seconds: f64) {
        self.queue.put(self.kernel.now_ns() + ns(seconds), Task::Step { load });
    }
}

/// Seconds as nanoseconds; what is too large becomes centuries.
pub(super) fn ns(seconds: f64) -> TimeNs {
    (seconds.clamp(0.0, 1e10) * 1e9) as TimeNs
}
