//! How well a synthetic trace fits the recording that it was made like.

use fragscope_trace::page::NR_PAGE_ORDERS;
use serde::Serialize;

use super::measure::{Class, Measured};
use crate::synth::gfp_text::GfpText;

/// One kind of request in both traces.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassFit {
    /// Its flags.
    pub gfp: String,
    /// Requests per second in the recording.
    pub recorded_per_s: f64,
    /// Requests per second in the synthetic trace.
    pub synthetic_per_s: f64,
    /// Largest difference between the shares that have ended after the same time, 0 to 1.
    pub lifetime_distance: f64,
    /// Share of requests that would have to change their order to make the mixes equal.
    pub order_distance: f64,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FitReport {
    /// Share of requests that would have to change their flags to make the mixes equal; requests
    /// that joined a commoner kind count here.
    pub gfp_distance: f64,
    /// Share of requests that would have to change their order.
    pub order_distance: f64,
    /// Mean of the kinds' lifetime distances, by their requests.
    pub lifetime_distance: f64,
    /// Requests per second in the synthetic trace over those in the recording.
    pub rate_ratio: f64,
    /// Kinds of requests, commonest first.
    pub classes: Vec<ClassFit>,
}

/// Compares what was measured on the recording with what was measured on the synthetic trace.
/// Times are compared up to half of the shorter trace.
#[must_use]
pub fn fit(recorded: &Measured, synthetic: &Measured) -> FitReport {
    let seconds = (recorded.duration_s(), synthetic.duration_s());
    let limit_ns = (seconds.0.min(seconds.1) * 0.5e9) as u64;
    let none = Class::default();
    let mut classes = Vec::new();
    for class in &recorded.classes {
        let twin = synthetic.classes.iter().find(|other| other.gfp == class.gfp).unwrap_or(&none);
        classes.push(ClassFit {
            gfp: GfpText(class.gfp).print(),
            recorded_per_s: class.allocs as f64 / seconds.0,
            synthetic_per_s: twin.allocs as f64 / seconds.1,
            lifetime_distance: class.lives.distance(&twin.lives, limit_ns),
            order_distance: moved(&class.orders, &twin.orders),
        });
    }
    let all = recorded.allocs().max(1) as f64 / seconds.0;
    let weighted = classes.iter().map(|class| class.lifetime_distance * class.recorded_per_s);
    let total: f64 = weighted.sum();
    let counts = |measured: &Measured| -> Vec<u64> {
        let of = |class: &Class| {
            let found = measured.classes.iter().find(|other| other.gfp == class.gfp);
            found.map_or(0, |other| other.allocs)
        };
        recorded.classes.iter().map(of).collect()
    };
    FitReport {
        gfp_distance: moved(&counts(recorded), &counts(synthetic)),
        order_distance: moved(&orders(recorded), &orders(synthetic)),
        lifetime_distance: total / all,
        rate_ratio: synthetic.allocs() as f64 / seconds.1 / all,
        classes,
    }
}

fn orders(measured: &Measured) -> [u64; NR_PAGE_ORDERS] {
    let mut sum = [0; NR_PAGE_ORDERS];
    for class in &measured.classes {
        for (total, count) in sum.iter_mut().zip(class.orders) {
            *total += count;
        }
    }
    sum
}

/// Half of the summed differences of shares; 1 if one side is empty.
fn moved(a: &[u64], b: &[u64]) -> f64 {
    let (all_a, all_b) = (a.iter().sum::<u64>() as f64, b.iter().sum::<u64>() as f64);
    if all_a == 0.0 || all_b == 0.0 {
        return 1.0;
    }
    let differences = a.iter().zip(b).map(|(a, b)| (*a as f64 / all_a - *b as f64 / all_b).abs());
    differences.sum::<f64>() / 2.0
}
