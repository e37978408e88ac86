//! What the parts of a workload are drawn from: lifetimes, sizes and orders.

use serde::{Deserialize, Serialize};

use super::random::{Rng, exp, ln};

/// The distribution of a positive quantity; the unit is that of the field that holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Distribution {
    /// Always the same.
    Fixed(f64),
    /// Memoryless, with this mean.
    Exponential {
        /// The mean.
        mean: f64,
    },
    /// The logarithm is normal: most are near the median, a few are very large.
    LogNormal {
        /// Half are below it.
        median: f64,
        /// Standard deviation of the natural logarithm.
        sigma: f64,
    },
    /// Equally likely between the bounds.
    Uniform {
        /// Lower bound.
        min: f64,
        /// Upper bound.
        max: f64,
    },
    /// As measured: (cumulative share, value), both ascending; between two points the logarithm
    /// is interpolated. Shares beyond the last point never end.
    Quantiles(Vec<(f64, f64)>),
    /// Longer than any trace.
    Never,
    /// A share of one, the rest of another.
    Mixture {
        /// Share of `minor`, 0 to 1.
        share: f64,
        /// What the share is drawn from.
        minor: Box<Distribution>,
        /// What the others are drawn from.
        major: Box<Distribution>,
    },
}

impl Distribution {
    /// Draws one value; `None` is "longer than any trace".
    pub fn draw(&self, rng: &mut Rng) -> Option<f64> {
        Some(match self {
            Distribution::Fixed(value) => *value,
            Distribution::Exponential { mean } => mean * rng.exponential(),
            Distribution::LogNormal { median, sigma } => median * exp(sigma * rng.normal()),
            Distribution::Uniform { min, max } => min + (max - min) * rng.unit(),
            Distribution::Quantiles(points) => return at_share(points, rng.unit()),
            Distribution::Never => return None,
            Distribution::Mixture { share, minor, major } => {
                let part = if rng.chance(*share) { minor } else { major };
                return part.draw(rng);
            }
        })
    }

    /// What is wrong with the parameters, if anything.
    pub fn check(&self) -> Result<(), String> {
        let positive = |name: &str, value: f64| match value.is_finite() && value >= 0.0 {
            true => Ok(()),
            false => Err(format!("{name} is {value}; expected a finite number of 0 or more")),
        };
        match self {
            Distribution::Fixed(value) => positive("fixed", *value),
            Distribution::Exponential { mean } => positive("mean", *mean),
            Distribution::LogNormal { median, sigma } => {
                positive("median", *median).and(positive("sigma", *sigma))
            }
            Distribution::Uniform { min, max } => {
                positive("min", *min)?;
                positive("max - min", max - min)
            }
            Distribution::Quantiles(points) => check_quantiles(points),
            Distribution::Never => Ok(()),
            Distribution::Mixture { share, minor, major } => {
                check_share("share", *share)?;
                minor.check()?;
                major.check()
            }
        }
    }
}

/// A share must lie between 0 and 1.
pub(super) fn check_share(name: &str, share: f64) -> Result<(), String> {
    match (0.0..=1.0).contains(&share) {
        true => Ok(()),
        false => Err(format!("{name} is {share}; expected 0 to 1")),
    }
}

fn check_quantiles(points: &[(f64, f64)]) -> Result<(), String> {
    let sound = |(share, value): &(f64, f64)| {
        (0.0..=1.0).contains(share) && value.is_finite() && *value > 0.0
    };
    if let Some(point) = points.iter().find(|point| !sound(point)) {
        return Err(format!("quantile {point:?}: expected a share of 0 to 1 and a value above 0"));
    }
    match points.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1) {
        true => Ok(()),
        false => Err("quantiles must ascend in share and value".to_owned()),
    }
}

/// The value at a cumulative share.
fn at_share(points: &[(f64, f64)], share: f64) -> Option<f64> {
    let above = points.partition_point(|point| point.0 < share);
    let (high_share, high) = *points.get(above)?;
    let Some((low_share, low)) = above.checked_sub(1).map(|below| points[below]) else {
        return Some(high);
    };
    let part = (share - low_share) / (high_share - low_share);
    Some(exp(ln(low) + (ln(high) - ln(low)) * part))
}

/// How often each order is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderMix(
    /// (order, weight); weights need not add up to anything.
    pub Vec<(u8, f64)>,
);

impl OrderMix {
    /// Only one order.
    #[must_use]
    pub fn only(order: u8) -> OrderMix {
        OrderMix(vec![(order, 1.0)])
    }

    /// Draws an order.
    #[inline]
    pub fn draw(&self, rng: &mut Rng) -> u8 {
        let [(order, _)] = self.0[..] else {
            let mut left = rng.unit() * self.weight();
            let hit = self.0.iter().find(|(_, weight)| {
                left -= weight;
                left < 0.0
            });
            return hit.or(self.0.last()).map_or(0, |(order, _)| *order);
        };
        order
    }

    fn weight(&self) -> f64 {
        self.0.iter().map(|(_, weight)| weight).sum()
    }

    /// Pages of an average allocation.
    #[must_use]
    pub fn mean_pages(&self) -> f64 {
        let pages: f64 = self.0.iter().map(|(order, weight)| weight * f64::from(1 << order)).sum();
        pages / self.weight()
    }

    /// What is wrong with it, if anything.
    pub fn check(&self) -> Result<(), String> {
        let max = fragscope_trace::page::MAX_PAGE_ORDER;
        let sound =
            |(order, weight): &(u8, f64)| *order <= max && weight.is_finite() && *weight >= 0.0;
        match self.0.iter().find(|part| !sound(part)) {
            Some(part) => {
                Err(format!("{part:?}: expected an order of 0 to {max} and a weight of 0 or more"))
            }
            None if self.weight() > 0.0 => Ok(()),
            None => Err("no order has a weight".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median_of(distribution: &Distribution) -> f64 {
        let mut rng = Rng::stream(5, "median");
        let mut values: Vec<f64> =
            (0..20_001).map(|_| distribution.draw(&mut rng).unwrap_or(f64::INFINITY)).collect();
        values.sort_by(f64::total_cmp);
        values[10_000]
    }

    #[test]
    fn medians_are_where_they_should_be() {
        let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.05);
        near(median_of(&Distribution::LogNormal { median: 10.0, sigma: 1.5 }), 10.0);
        near(median_of(&Distribution::Exponential { mean: 1.0 }), std::f64::consts::LN_2);
        near(median_of(&Distribution::Uniform { min: 2.0, max: 4.0 }), 3.0);
        near(median_of(&Distribution::Quantiles(vec![(0.25, 1.0), (0.75, 100.0)])), 10.0);
        assert_eq!(median_of(&Distribution::Quantiles(vec![(0.4, 1.0)])), f64::INFINITY);
    }

    #[test]
    fn a_mixture_has_both_parts_in_their_shares() {
        let mixture = Distribution::Mixture {
            share: 0.03,
            minor: Box::new(Distribution::Never),
            major: Box::new(Distribution::Fixed(1.0)),
        };
        let mut rng = Rng::stream(6, "mixture");
        let never = (0..100_000).filter(|_| mixture.draw(&mut rng).is_none()).count();
        assert!((2_800..3_200).contains(&never), "{never}");
    }

    #[test]
    fn orders_come_in_their_weights() {
        let mix = OrderMix(vec![(0, 6.0), (3, 2.0)]);
        assert_eq!(mix.mean_pages(), (6.0 + 16.0) / 8.0);
        let mut rng = Rng::stream(7, "orders");
        let threes = (0..80_000).filter(|_| mix.draw(&mut rng) == 3).count();
        assert!((19_400..20_600).contains(&threes), "{threes}");
    }

    #[test]
    fn mistakes_are_named() {
        assert!(OrderMix(vec![(11, 1.0)]).check().unwrap_err().contains("order of 0 to 10"));
        assert!(OrderMix(vec![]).check().is_err());
        let falling = Distribution::Quantiles(vec![(0.5, 2.0), (0.6, 1.0)]);
        assert!(falling.check().unwrap_err().contains("ascend"));
        assert!(Distribution::Exponential { mean: f64::NAN }.check().is_err());
    }
}
