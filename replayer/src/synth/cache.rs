//! Page cache: it fills memory, and leaves when it is reclaimed or when files go.

use fragscope_trace::gfp::Gfp;
use fragscope_trace::page::CpuId;

use super::SynthError;
use super::host::Host;
use super::kernel::Caller;
use super::random::Rng;
use super::workload::Cache;

/// A load of file reads.
pub(super) struct CacheLoad<'w> {
    index: u16,
    config: &'w Cache,
    caller: Caller<'w>,
    rng: Rng,
    limit_reached: bool,
}

impl<'w> CacheLoad<'w> {
    pub(super) fn new(index: u16, config: &'w Cache, caller: Caller<'w>, rng: Rng) -> Self {
        CacheLoad { index, config, caller, rng, limit_reached: false }
    }

    /// Reads one window, and deletes files whose time has come.
    pub(super) fn step(&mut self, host: &mut Host<'_>) -> Result<(), SynthError> {
        let full = self.limit_reached || host.has_been_full();
        let rate = if full { self.config.steady_pages_per_s } else { self.config.fill_pages_per_s };
        let seconds = f64::from(self.config.window_pages) / rate.max(1e-3);
        self.read_window(host)?;
        if self.rng.chance(self.config.deletions_per_s * seconds) {
            self.delete_file(host)?;
        }
        host.step_after(self.index, seconds * self.rng.exponential());
        Ok(())
    }

    fn read_window(&mut self, host: &mut Host<'_>) -> Result<(), SynthError> {
        let cpu = host.random_cpu();
        let limit = (self.config.limit_share * host.managed_pages as f64) as u64;
        let mut left = i64::from(self.config.window_pages);
        while left > 0 {
            let order = self.config.orders.draw(&mut self.rng);
            left -= 1 << order;
            while host.cache_pages + (1 << order) > limit {
                self.limit_reached = true;
                let Some(old) = host.take_cached() else { return Ok(()) };
                host.free(old)?;
            }
            self.read_folio(cpu, order, host)?;
        }
        Ok(())
    }

    /// Reads one folio; where a large one is not to be had, its pages singly.
    fn read_folio(&mut self, cpu: CpuId, order: u8, host: &mut Host<'_>) -> Result<(), SynthError> {
        let gfp = self.config.gfp.0;
        let mut pages = 1;
        if order > 0 {
            let large = (gfp - Gfp::DIRECT_RECLAIM) | Gfp::NORETRY | Gfp::NOWARN | Gfp::COMP;
            if let Some(block) = host.alloc(cpu, order, large, &self.caller)? {
                host.cache_pages += 1 << order;
                host.cache.push(block);
                return Ok(());
            }
            pages = 1 << order;
        }
        for _ in 0..pages {
            let Some(block) = host.alloc(cpu, 0, gfp, &self.caller)? else { break };
            host.cache_pages += 1;
            host.cache.push(block);
        }
        Ok(())
    }

    /// Deletes a young file: temporary files go soon, and what was read together goes together.
    fn delete_file(&mut self, host: &mut Host<'_>) -> Result<(), SynthError> {
        let blocks = self.config.deleted_blocks.draw(&mut self.rng).unwrap_or(0.0) as usize;
        for _ in 0..blocks {
            let Some(block) = host.cache.pop() else { break };
            host.cache_pages -= 1 << block.order;
            host.free(block)?;
        }
        Ok(())
    }
}
