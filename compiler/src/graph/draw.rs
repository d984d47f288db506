//! Numbers drawn from a seed: element i of the tensor `name` comes from the hash
//! h = mix(mix(seed + FNV-1a(name)) + i·0x9e3779b97f4a7c15), mix the finaliser of SplitMix64, and from nothing else, so that
//! every machine draws the same numbers. uniform(lo, hi) = lo + (hi − lo)·(h >> 11)·2⁻⁵³; normal = √3·(sum of the four 16-bit
//! fields of h / 2¹⁶ − 2): mean 0 and variance 1. Generated code computes the same (`init_state`).

use super::noise::mix;

/// The distance of neighbouring elements' hashes before they are mixed.
pub const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// How the elements of a tensor are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Draw {
    /// f32(normal·σ).
    Normal(f64),
    /// uniform(−bound, bound).
    Uniform(f64),
    /// All the same.
    Value(f32),
}

impl Draw {
    /// The elements of a tensor.
    pub fn values(self, seed: u64, name: &str, len: usize) -> Vec<f32> {
        match self {
            Draw::Normal(spread) => hashes(seed, name, len).map(|h| (normal(h) * spread) as f32).collect(),
            Draw::Uniform(bound) => hashes(seed, name, len).map(|h| uniform(h, -bound, bound)).collect(),
            Draw::Value(v) => vec![v; len],
        }
    }
}

/// FNV-1a of a tensor's name.
pub fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// The hashes of the elements of a tensor.
pub fn hashes(seed: u64, name: &str, len: usize) -> impl Iterator<Item = u64> {
    let key = mix(seed.wrapping_add(name_hash(name)));
    (0..len as u64).map(move |i| mix(key.wrapping_add(i.wrapping_mul(STRIDE))))
}

/// Between two bounds.
pub fn uniform(h: u64, lo: f64, hi: f64) -> f32 {
    (lo + (hi - lo) * ((h >> 11) as f64 / (1u64 << 53) as f64)) as f32
}

/// Of mean 0 and variance 1.
pub fn normal(h: u64) -> f64 {
    let sum = (h & 0xffff) + (h >> 16 & 0xffff) + (h >> 32 & 0xffff) + (h >> 48);
    3f64.sqrt() * (sum as f64 / 65536.0 - 2.0)
}
