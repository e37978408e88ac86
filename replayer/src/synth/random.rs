//! A seeded source of random numbers whose streams never change.
//!
//! The generator's promise is "same seed, same trace, on every machine", so neither the
//! algorithm (xoshiro256++, seeded by SplitMix64) nor the arithmetic may depend on a library's
//! version or on the platform's mathematics: logarithms and powers are computed here from
//! additions and multiplications, which IEEE 754 defines to the last bit.

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The stream called `name` of a seed. Streams of different names are independent, so that
    /// another source of load does not change what the others do.
    #[must_use]
    pub fn stream(seed: u64, name: &str) -> Rng {
        // FNV-1a keeps names apart; SplitMix64 fills the state, which must not be zero.
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let mut word = name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, fnv);
        Rng { state: std::array::from_fn(|_| split_mix(&mut word)) }
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `limit`; 0 if that is 0. The bias of the multiplication is below
    /// `limit / 2^64`.
    #[inline]
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(limit)) >> 64) as u64
    }

    /// A number in 0..1, with 53 random bits.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Whether something of this probability happens.
    #[inline]
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A number of exponential distribution and mean 1.
    #[inline]
    pub fn exponential(&mut self) -> f64 {
        -ln(1.0 - self.unit())
    }

    /// A number of (nearly) standard normal distribution: the sum of twelve uniform numbers,
    /// which has no tail beyond six standard deviations.
    #[inline]
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// Takes a random element out of `pool`, whose order it does not keep.
    #[inline]
    pub fn take<T>(&mut self, pool: &mut Vec<T>) -> Option<T> {
        if pool.is_empty() {
            return None;
        }
        let index = self.below(pool.len() as u64) as usize;
        Some(pool.swap_remove(index))
    }
}

fn split_mix(word: &mut u64) -> u64 {
    *word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *word;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Natural logarithm of a positive, normal number; wrong by less than 1e-13.
#[must_use]
pub fn ln(value: f64) -> f64 {
    let bits = value.to_bits();
    let mut exponent = (bits >> 52 & 0x7ff) as i64 - 1023;
    let mut fraction = f64::from_bits(bits & !(0x7ff << 52) | 1023 << 52);
    if fraction > std::f64::consts::SQRT_2 {
        fraction *= 0.5;
        exponent += 1;
    }
    // ln(f) = 2 artanh(t) with t = (f - 1) / (f + 1), |t| < 0.172.
    let t = (fraction - 1.0) / (fraction + 1.0);
    let square = t * t;
    let series = (0..9).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * t * series
}

/// e to the power of `value`, cut off at 2^±1000; wrong by less than 1e-13 of the result.
#[must_use]
pub fn exp(value: f64) -> f64 {
    let power = (value * std::f64::consts::LOG2_E).clamp(-1000.0, 1000.0);
    let whole = power.floor();
    let rest = (power - whole - 0.5) * std::f64::consts::LN_2;
    let series = (1..16).rev().fold(1.0, |sum, k| 1.0 + sum * rest / f64::from(k));
    let two_to = f64::from_bits(((whole as i64 + 1023) as u64) << 52);
    series * std::f64::consts::SQRT_2 * two_to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_what_it_always_was() {
        let mut rng = Rng::stream(1, "cache");
        let first: Vec<u64> = (0..4).map(|_| rng.bits()).collect();
        assert_eq!(first, FIRST_OF_CACHE);
        assert_ne!(Rng::stream(1, "slab").bits(), first[0]);
        assert_ne!(Rng::stream(2, "cache").bits(), first[0]);
    }
    /// Changing these numbers changes every generated trace.
    const FIRST_OF_CACHE: [u64; 4] = [
        3_802_189_964_804_114_896,
        13_355_216_365_157_567_745,
        17_989_859_181_185_404_457,
        13_553_991_020_678_274_680,
    ];

    #[test]
    fn logarithm_and_power_agree_with_the_platform() {
        for k in -600..600 {
            let x = f64::from(k) * 0.37 + 0.01;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-13, "exp({x})");
            assert!((ln(x.exp()) - x).abs() < 1e-13 * x.abs().max(1.0), "ln(exp({x}))");
        }
    }

    #[test]
    fn moments_are_those_of_the_distribution() {
        let mut rng = Rng::stream(3, "moments");
        let n = 200_000;
        let mut mean = |draw: &mut dyn FnMut(&mut Rng) -> f64| {
            (0..n).map(|_| draw(&mut rng)).sum::<f64>() / f64::from(n)
        };
        assert!((mean(&mut Rng::unit) - 0.5).abs() < 0.005);
        assert!((mean(&mut Rng::exponential) - 1.0).abs() < 0.01);
        assert!(mean(&mut Rng::normal).abs() < 0.01);
        assert!((mean(&mut |r| r.normal().powi(2)) - 1.0).abs() < 0.02);
        assert!((mean(&mut |r| r.below(10) as f64) - 4.5).abs() < 0.03);
    }
}
