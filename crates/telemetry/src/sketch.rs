//! A distribution in fixed memory.
//!
//! Log-linear buckets, as in HdrHistogram: below 64 every value has its own
//! bucket; above, each power of two is cut into 32, so a quantile is never wrong
//! by more than 1 part in 32 of its value. Sketches of parts add up to the sketch of the whole in any
//! order, which is what makes a statistic equal for any number of threads.

use alloc::vec::Vec;

/// Buckets per power of two.
const PER_OCTAVE: u64 = 32;
const SHIFT: u32 = PER_OCTAVE.trailing_zeros();

/// Counts of non-negative whole numbers: latencies in nanoseconds, say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Sketch {
    /// Nothing seen yet; allocates on the first value.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            counts: Vec::new(),
            total: 0,
            max: 0,
        }
    }

    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.record_many(value, 1);
    }

    /// Counts one value `times` times.
    pub fn record_many(&mut self, value: u64, times: u64) {
        if times == 0 {
            return;
        }
        let bucket = bucket(value);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += times;
        self.total += times;
        self.max = self.max.max(value);
    }

    /// Adds another sketch's counts.
    pub fn merge(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// How many values were counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.total
    }

    /// The largest value, exactly; 0 if there is none.
    #[must_use]
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// The value that a share `q` of all values does not exceed, rounded up by at
    /// most 1/32; `None` if there are none.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<u64> {
        if self.total == 0 {
            return None;
        }
        // The nearest rank: the smallest number of values that is at least this share.
        let share = q.clamp(0.0, 1.0) * self.total as f64;
        let whole = share as u64;
        let wanted = whole + u64::from(share > whole as f64);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted.max(1) {
                return Some(upper(bucket).min(self.max));
            }
        }
        Some(self.max)
    }
}

const fn bucket(value: u64) -> usize {
    if value < 2 * PER_OCTAVE {
        return value as usize;
    }
    let octave = 63 - value.leading_zeros();
    let within = (value >> (octave - SHIFT)) - PER_OCTAVE;
    ((octave - SHIFT) as u64 * PER_OCTAVE + PER_OCTAVE + within) as usize
}

/// The largest value of a bucket.
const fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * PER_OCTAVE {
        return bucket;
    }
    let shift = bucket / PER_OCTAVE - 1;
    let low = (bucket % PER_OCTAVE + PER_OCTAVE) << shift;
    low + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_holds_its_values_within_one_part_in_32(value in 0..u64::MAX / 2) {
            let top = upper(bucket(value));
            prop_assert!(top >= value);
            prop_assert!(top - value <= value / PER_OCTAVE);
            prop_assert_eq!(bucket(top), bucket(value));
            prop_assert_eq!(bucket(top + 1), bucket(value) + 1);
        }

        #[test]
        fn the_whole_is_the_sum_of_its_parts(
            values in prop::collection::vec(0..1_u64 << 40, 0..200),
            cut in 0..200_usize,
        ) {
            let sketch = |part: &[u64]| {
                let mut s = Sketch::new();
                part.iter().for_each(|&v| s.record(v));
                s
            };
            let (a, b) = values.split_at(cut.min(values.len()));
            let mut merged = sketch(b);
            merged.merge(&sketch(a));
            prop_assert_eq!(merged, sketch(&values));
        }

        #[test]
        fn quantiles_bracket_the_exact_ones(mut values in prop::collection::vec(0..1_u64 << 40, 1..200)) {
            let mut sketch = Sketch::new();
            values.iter().for_each(|&v| sketch.record(v));
            values.sort_unstable();
            for q in [0.01, 0.5, 0.99, 1.0] {
                let rank = ((q * values.len() as f64).ceil() as usize).max(1) - 1;
                let (exact, found) = (values[rank], sketch.quantile(q).unwrap());
                prop_assert!(found >= exact && found - exact <= exact / PER_OCTAVE, "{} {}", exact, found);
            }
        }
    }
}
