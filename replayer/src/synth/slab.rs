//! Slab: a footprint that rises and falls, with blocks that stay.

use fragscope_trace::gfp::Gfp;

use super::SynthError;
use super::host::Host;
use super::kernel::{Block, Caller};
use super::random::Rng;
use super::workload::Slab;

/// Seconds between adjustments.
const STEP_S: f64 = 0.01;
/// Pages by which one adjustment changes the footprint at most.
const STEP_PAGES: u64 = 8192;

/// A load of slab.
pub(super) struct SlabLoad<'w> {
    index: u16,
    config: &'w Slab,
    caller: Caller<'w>,
    rng: Rng,
    /// Blocks that may be freed, in no order.
    pool: Vec<Block>,
    pages: u64,
    churn_due: f64,
}

impl<'w> SlabLoad<'w> {
    pub(super) fn new(index: u16, config: &'w Slab, caller: Caller<'w>, rng: Rng) -> Self {
        SlabLoad { index, config, caller, rng, pool: Vec::new(), pages: 0, churn_due: 0.0 }
    }

    /// Replaces some blocks, then follows the sawtooth.
    pub(super) fn step(&mut self, host: &mut Host<'_>) -> Result<(), SynthError> {
        self.churn_due += self.config.churn_per_s * STEP_S;
        while self.churn_due >= 1.0 && self.shrink(host)? {
            self.churn_due -= 1.0;
            self.grow(host)?;
        }
        let target = self.target_pages(host.kernel.now_ns() as f64 / 1e9);
        let mut room = STEP_PAGES;
        while room > 0 && self.footprint(host) < target && self.grow(host)? {
            room -= 1;
        }
        while room > 0 && self.footprint(host) > target && self.shrink(host)? {
            room -= 1;
        }
        host.step_after(self.index, STEP_S);
        Ok(())
    }

    /// Pages that there should be at a time.
    fn target_pages(&self, now_s: f64) -> u64 {
        let config = self.config;
        let phase = now_s / config.period_s - (now_s / config.period_s).floor();
        let height = if phase < config.growing_share {
            phase / config.growing_share
        } else {
            (1.0 - phase) / (1.0 - config.growing_share)
        };
        let range = (config.high_pages - config.low_pages) as f64;
        config.low_pages + (range * height) as u64
    }

    fn footprint(&self, host: &Host<'_>) -> u64 {
        if self.config.of_machine { host.kernel.unmovable_pages() } else { self.pages }
    }

    /// One more block: of the cache's order without reclaim, else a single page.
    fn grow(&mut self, host: &mut Host<'_>) -> Result<bool, SynthError> {
        let mut gfp = Gfp::KERNEL;
        gfp.set(Gfp::RECLAIMABLE, self.rng.chance(self.config.reclaimable_share));
        let optional =
            (gfp - Gfp::DIRECT_RECLAIM) | Gfp::NOWARN | Gfp::NORETRY | Gfp::NOMEMALLOC | Gfp::COMP;
        let cpu = host.random_cpu();
        let mut block = None;
        let order = self.config.orders.draw(&mut self.rng);
        if order > 0 {
            block = host.alloc(cpu, order, optional, &self.caller)?;
        }
        if block.is_none() {
            block = host.alloc(cpu, 0, gfp, &self.caller)?;
        }
        let Some(block) = block else { return Ok(false) };
        self.pages += 1 << block.order;
        if !self.rng.chance(self.config.long_lived_share) {
            self.pool.push(block);
        }
        Ok(true)
    }

    /// Frees a random block, if there is one that may go.
    fn shrink(&mut self, host: &mut Host<'_>) -> Result<bool, SynthError> {
        let Some(block) = self.rng.take(&mut self.pool) else { return Ok(false) };
        self.pages -= 1 << block.order;
        host.free(block)?;
        Ok(true)
    }
}
