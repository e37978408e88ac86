//! Blocks with a lifetime of their own.

use super::SynthError;
use super::host::Host;
use super::kernel::Caller;
use super::random::Rng;
use super::workload::Objects;

/// A load of such blocks.
pub(super) struct ObjectLoad<'w> {
    index: u16,
    config: &'w Objects,
    caller: Caller<'w>,
    rng: Rng,
    /// Mean seconds between bursts.
    between_s: f64,
}

impl<'w> ObjectLoad<'w> {
    pub(super) fn new(index: u16, config: &'w Objects, caller: Caller<'w>, rng: Rng) -> Self {
        let between_s = mean_burst(config, rng.clone()) / config.per_s;
        ObjectLoad { index, config, caller, rng, between_s }
    }

    /// One burst. Blocks that cannot be had are done without.
    pub(super) fn step(&mut self, host: &mut Host<'_>) -> Result<(), SynthError> {
        let cpu = host.random_cpu();
        for _ in 0..burst(self.config, &mut self.rng) {
            let order = self.config.orders.draw(&mut self.rng);
            if let Some(block) = host.alloc(cpu, order, self.config.gfp.0, &self.caller)? {
                host.free_after(block, &self.config.life_s, &mut self.rng);
            }
        }
        host.step_after(self.index, self.between_s * self.rng.exponential());
        Ok(())
    }
}

/// Blocks of one burst; 10,000 at most.
fn burst(config: &Objects, rng: &mut Rng) -> u64 {
    config.burst.draw(rng).unwrap_or(1.0).clamp(1.0, 1e4).round() as u64
}

/// Estimated by drawing, so that any distribution keeps the rate asked for.
fn mean_burst(config: &Objects, mut rng: Rng) -> f64 {
    let draws = 4096;
    (0..draws).map(|_| burst(config, &mut rng)).sum::<u64>() as f64 / f64::from(draws)
}
