//! Counter-based random numbers: the numbers of event `n` are a function of the seed and `n`.
//!
//! SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014), with a state of its
//! own for every event. A change of it changes the data of every benchmark.

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The sequence of random numbers of one event.
pub(super) struct Draws {
    state: u64,
}

impl Draws {
    #[inline]
    pub(super) fn of(seed: u64, event: u64) -> Self {
        Self {
            state: mix(seed ^ event.wrapping_mul(0xd1b5_4a32_d192_ed03)),
        }
    }

    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        mix(self.state)
    }

    /// Returns a number below `bound`, evenly distributed as far as 32 bits allow.
    #[inline]
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        scale(self.next() as u32, bound)
    }
}

/// Maps 32 random bits to a number below `bound`.
#[inline]
pub(super) fn scale(bits: u32, bound: u32) -> u32 {
    ((u64::from(bits) * u64::from(bound)) >> 32) as u32
}

/// Prices: `100 * 10^(6u)` cents for an even `u`, rounded, by tables over the 24 bits of `u`.
pub(super) struct Prices {
    coarse: [f64; 256],
    middle: [f64; 256],
    fine: [f64; 256],
}

impl Prices {
    pub(super) fn new() -> Self {
        let table =
            |scale: f64, factor: f64| std::array::from_fn(|step| factor * 10f64.powf(6.0 * step as f64 / scale));
        Self {
            coarse: table(256.0, 100.0),
            middle: table(65536.0, 1.0),
            fine: table(16_777_216.0, 1.0),
        }
    }

    /// Returns the price for the lowest 24 of these bits.
    #[inline]
    pub(super) fn price(&self, bits: u32) -> i64 {
        let [fine, middle, coarse, _] = bits.to_le_bytes();
        let price = self.coarse[usize::from(coarse)] * self.middle[usize::from(middle)] * self.fine[usize::from(fine)];
        (price + 0.5) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_an_event_are_fixed_for_ever() {
        let mut draws = Draws::of(0, 1);
        let first: Vec<u64> = (0..3).map(|_| draws.next()).collect();
        let mut again = Draws::of(0, 1);
        assert_eq!(first, (0..3).map(|_| again.next()).collect::<Vec<_>>());
        assert_ne!(first[0], Draws::of(0, 2).next());
        assert_ne!(first[0], Draws::of(1, 1).next());
    }

    #[test]
    fn prices_span_six_decades() {
        let prices = Prices::new();
        assert_eq!(prices.price(0), 100);
        assert_eq!(prices.price(1 << 23), 100_000);
        assert!((99_999_000..=100_000_000).contains(&prices.price((1 << 24) - 1)));
    }
}
