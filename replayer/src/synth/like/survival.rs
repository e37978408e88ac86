//! How long things live when some outlive the recording, and how many come together.

use crate::synth::distribution::Distribution;
use crate::synth::random::{exp, ln};

/// Bins to an octave.
const PER_OCTAVE: usize = 4;
/// Bins: up to 2^48.
const BINS: usize = 48 * PER_OCTAVE;
/// Nanoseconds per second.
const NS: f64 = 1e9;

/// Lifetimes in logarithmic bins: those that ended, and those that went on when they were last
/// seen. (A plain histogram of those that ended would make lifetimes look short.)
#[derive(Clone, Debug)]
pub struct Lives {
    ended: Vec<u64>,
    unfinished: Vec<u64>,
}

impl Default for Lives {
    fn default() -> Lives {
        Lives { ended: vec![0; BINS], unfinished: vec![0; BINS] }
    }
}

impl Lives {
    /// One that ended after some time.
    pub(super) fn end(&mut self, ns: u64) {
        self.ended[bin(ns)] += 1;
    }

    /// One that had lived so long and went on.
    pub(super) fn go_on(&mut self, ns: u64, count: u64) {
        self.unfinished[bin(ns)] += count;
    }

    /// How many ended.
    pub(super) fn ended_total(&self) -> u64 {
        self.ended.iter().sum()
    }

    pub(super) fn add(&mut self, other: &Lives) {
        for (mine, theirs) in self.ended.iter_mut().zip(&other.ended) {
            *mine += theirs;
        }
        for (mine, theirs) in self.unfinished.iter_mut().zip(&other.unfinished) {
            *mine += theirs;
        }
    }

    /// Share that has ended by the upper edge of each bin (Kaplan and Meier's estimate).
    fn shares(&self) -> Vec<f64> {
        let all = self.ended.iter().chain(&self.unfinished).sum::<u64>();
        let (mut at_risk, mut surviving) = (all as f64, 1.0);
        let bins = self.ended.iter().zip(&self.unfinished);
        bins.map(|(ended, unfinished)| {
            if at_risk > 0.0 {
                surviving *= 1.0 - *ended as f64 / at_risk;
            }
            at_risk -= (ended + unfinished) as f64;
            1.0 - surviving
        })
        .collect()
    }

    /// As a workload draws it, in seconds.
    pub(super) fn distribution(&self) -> Distribution {
        let shares = self.shares();
        let mut points = Vec::new();
        for (bin, share) in shares.iter().enumerate().filter(|(bin, _)| self.ended[*bin] > 0) {
            if points.is_empty() {
                points.push((0.0, edge(bin) / NS));
            }
            points.push((share.clamp(0.0, 1.0), edge(bin + 1) / NS));
        }
        if points.is_empty() { Distribution::Never } else { Distribution::Quantiles(points) }
    }

    /// Largest difference of the shares that have ended (the two-sample distance of Kolmogorov
    /// and Smirnov), up to `limit_ns`, beyond which neither side can know.
    pub(super) fn distance(&self, other: &Lives, limit_ns: u64) -> f64 {
        let (mine, theirs) = (self.shares(), other.shares());
        let seen = mine.iter().zip(&theirs).take(bin(limit_ns));
        seen.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }
}

fn bin(ns: u64) -> usize {
    let octaves = ln(ns.max(1) as f64) / std::f64::consts::LN_2;
    ((octaves * PER_OCTAVE as f64) as usize).min(BINS - 1)
}

/// Lower edge of a bin in nanoseconds.
fn edge(bin: usize) -> f64 {
    exp(bin as f64 / PER_OCTAVE as f64 * std::f64::consts::LN_2)
}

/// How many come together.
#[derive(Clone, Debug, Default)]
pub struct Bursts {
    /// By the logarithm of their number.
    sizes: [u64; 16],
}

impl Bursts {
    pub(super) fn add(&mut self, size: u64) {
        let bin = (size.max(1).ilog2() as usize).min(self.sizes.len() - 1);
        self.sizes[bin] += 1;
    }

    pub(super) fn add_all(&mut self, other: &Bursts) {
        for (mine, theirs) in self.sizes.iter_mut().zip(other.sizes) {
            *mine += theirs;
        }
    }

    /// As a workload draws it.
    pub(super) fn distribution(&self) -> Distribution {
        let all: u64 = self.sizes.iter().sum();
        let mut below = 0;
        let mut points = Vec::new();
        for (bin, count) in self.sizes.iter().enumerate().filter(|(_, count)| **count > 0) {
            if points.is_empty() {
                points.push((0.0, (1u64 << bin) as f64));
            }
            below += count;
            points.push((below as f64 / all as f64, (2u64 << bin) as f64 - 1.0));
        }
        if points.is_empty() { Distribution::Fixed(1.0) } else { Distribution::Quantiles(points) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::random::Rng;

    /// Exponential lifetimes seen through a window: what is drawn from the estimate has the
    /// median of the truth, although half of all outlive the window.
    #[test]
    fn what_outlives_the_recording_does_not_shorten_lives() {
        let mut rng = Rng::stream(1, "lives");
        let mut lives = Lives::default();
        let window = 1e9;
        for _ in 0..100_000 {
            let (life, seen) = (rng.exponential() * 1e9, window * rng.unit());
            if life < seen { lives.end(life as u64) } else { lives.go_on(seen as u64, 1) }
        }
        let distribution = lives.distribution();
        let mut below = 0;
        for _ in 0..20_000 {
            below += u32::from(distribution.draw(&mut rng).is_some_and(|s| s < 0.5));
        }
        let expected = 1.0 - (-0.5f64).exp();
        let found = f64::from(below) / 20_000.0;
        assert!((found - expected).abs() < 0.02, "{found} {expected}");
    }

    #[test]
    fn equal_samples_have_no_distance() {
        let (mut a, mut b) = (Lives::default(), Lives::default());
        for ns in [10, 100, 1000, 10_000] {
            a.end(ns);
            b.end(ns);
        }
        assert_eq!(a.distance(&b, 1 << 40), 0.0);
        b.end(1 << 30);
        assert!((a.distance(&b, 1 << 40) - 0.2).abs() < 1e-9);
        assert_eq!(a.distance(&Lives::default(), 1 << 40), 1.0);
    }
}
