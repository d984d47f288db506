//! Counter-based random numbers: every draw is a hash of its coordinates, so that nothing depends on threads or on what was
//! drawn before, and a run can resume anywhere.
//!
//! The module must never know what is drawn.

/// Weyl constant of SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64: a bijection whose output bits all depend on all input bits.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The key of coordinates such as (seed, epoch, index): k = 0, then k = mix((k ⊕ v) + GOLDEN) for each v.
pub fn key(coordinates: &[u64]) -> u64 {
    coordinates.iter().fold(0, |k, v| mix((k ^ v).wrapping_add(GOLDEN)))
}

/// The draws of one key, in order.
#[derive(Clone, Debug)]
pub struct Draws {
    state: u64,
}

impl Draws {
    /// The draws of `key`.
    pub fn new(key: u64) -> Self {
        Draws { state: key }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// Uniform in [0, 1), a multiple of 2⁻²⁴.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [lo, hi): lo + (hi − lo)·unit.
    pub fn between(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * self.unit()
    }

    /// Uniform in 0…n−1 (0 where n is 0), by the high half of a product; the bias is below n·2⁻⁶⁴.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }
}

/// A permutation of 0…n−1: Fisher–Yates on the draws of `key`.
pub fn permutation(n: usize, key: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut draws = Draws::new(key);
    for i in (1..n).rev() {
        order.swap(i, draws.below(i + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_are_permutations_and_depend_on_the_key() {
        let a = permutation(1000, key(&[1, 2]));
        assert_eq!(a, permutation(1000, key(&[1, 2])));
        assert_ne!(a, permutation(1000, key(&[1, 3])));
        let mut sorted = a;
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..1000));
        assert!(permutation(0, 1).is_empty());
    }

    #[test]
    fn draws_are_uniform_enough() {
        let mut draws = Draws::new(key(&[7]));
        let mut counts = [0u32; 10];
        let mean = (0..10_000).map(|_| draws.unit()).sum::<f32>() / 10_000.0;
        (0..10_000).for_each(|_| counts[draws.below(10)] += 1);
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        assert!(counts.iter().all(|c| (850..1150).contains(c)), "{counts:?}");
    }
}
