//! Where does chance come from, so that it can be repeated?
//!
//! Each node has one stream for each purpose, all derived from the run's seed.
//! Separate purposes matter: if probing and faults drew from one stream, a
//! protocol that asks for one more number would change which machines fail, and
//! no two policies could be compared on the same faults.
//!
//! SplitMix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number
//! generators*, OOPSLA 2014): 8 bytes of state, which matters a million times
//! over, and it passes BigCrush. Not for secrets.

use wire::{Nanos, Tile};

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Whom a membership protocol probes, and through whom.
    Membership = 1,
    /// Where a scheduler breaks ties.
    Placement = 2,
    /// Loss and jitter of links.
    Links = 3,
    /// Faults injected by a world.
    Faults = 4,
    /// When work arrives and how much.
    Work = 5,
    /// Differences between machines made alike.
    Manufacture = 6,
    /// How long a voter without a leader is patient.
    Agreement = 7,
    /// What a capsule finds when it asks for something random in a run that can be repeated.
    Capsule = 8,
    /// Bits that flip, in messages and in memory.
    Flips = 9,
}

/// A reproducible sequence of random numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    state: u64,
}

/// The odd number closest to 2⁶⁴ divided by the golden ratio (OOPSLA 2014, § 3).
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

const fn mix(z: u64) -> u64 {
    // Stafford's variant 13 of the MurmurHash3 finaliser, as in the paper.
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Stream {
    /// The stream of one owner for one purpose under a run's seed.
    #[must_use]
    pub const fn new(seed: u64, owner: Tile, purpose: Purpose) -> Self {
        let a = mix(seed.wrapping_add(GOLDEN_GAMMA));
        let b = mix(a ^ owner.0.wrapping_mul(GOLDEN_GAMMA));
        Self {
            state: mix(b ^ (purpose as u64).wrapping_mul(0xd1b5_4a32_d192_ed03)),
        }
    }

    /// 64 uniform bits.
    #[inline]
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        mix(self.state)
    }

    /// Uniform below `bound`; 0 if `bound` is 0. Bias is below 2⁻³² for bounds
    /// under 2³² (Lemire's multiplication without the rejection step).
    #[inline]
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// Uniform in [0, 1) with 53 bits.
    #[inline]
    pub const fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// True with this probability.
    #[inline]
    pub const fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform below a span.
    #[inline]
    pub const fn span(&mut self, below: Nanos) -> Nanos {
        Nanos(self.below(below.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_purposes_do_not_share_a_sequence() {
        let first = |owner, purpose| Stream::new(7, Tile(owner), purpose).next_u64();
        let a = first(1, Purpose::Links);
        assert_eq!(a, first(1, Purpose::Links));
        assert_ne!(a, first(2, Purpose::Links));
        assert_ne!(a, first(1, Purpose::Faults));
    }

    /// Mean and variance of 10⁵ draws lie within five standard errors.
    #[test]
    fn unit_draws_are_uniform() {
        let mut stream = Stream::new(1, Tile(0), Purpose::Work);
        let n = 100_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..n {
            let u = stream.unit();
            sum += u;
            squares += u * u;
        }
        let mean = sum / f64::from(n);
        let variance = squares / f64::from(n) - mean * mean;
        assert!((mean - 0.5).abs() < 5.0 * 0.289 / 316.2, "{mean}");
        assert!((variance - 1.0 / 12.0).abs() < 0.002, "{variance}");
    }
}
