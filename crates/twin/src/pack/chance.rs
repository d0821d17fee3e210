//! The chance of the published experiment.
//!
//! Its simulator draws the order of arrival, the clones and the order in which nodes
//! are preferred from the generator of Go's `math/rand`, whose sequences Go 1 promises
//! not to change. Drawing from the same one gives the very same experiment for the same
//! seed, and results that agree in their digits and not only in their means.
//!
//! The generator (Mitchell and Reeds, an additive lagged Fibonacci generator) adds two
//! of its earlier numbers: xₙ = xₙ₋₆₀₇ + xₙ₋₂₇₃ mod 2⁶⁴. A seed is spread over its 607
//! words and added without carry to a fixed state: the one it reaches in 7.8 · 10¹²
//! steps from seed 1. Go carries that state as a table. Here it is computed: 7.8 · 10¹²
//! steps of a linear recurrence are one polynomial, x^(7.8 · 10¹²) modulo
//! x⁶⁰⁷ − x³³⁴ − 1, which takes 43 squarings.

use std::sync::OnceLock;

/// How far back the two numbers lie.
const LONG: usize = 607;
const SHORT: usize = 273;
/// Steps from seed 1 to the fixed state.
const STEPS: u64 = 7_800_000_000_000;

type Words = [u64; LONG];

/// The generator.
#[derive(Clone, Debug)]
pub(super) struct Chance {
    words: Words,
    tap: usize,
    feed: usize,
}

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        static FIXED: OnceLock<Words> = OnceLock::new();
        let fixed = FIXED.get_or_init(|| after(&spread(1, [20, 10]), STEPS));
        let spread = spread(seed, [40, 20]);
        Self {
            words: std::array::from_fn(|i| spread[i] ^ fixed[i]),
            tap: 0,
            feed: LONG - SHORT,
        }
    }

    /// 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        let before = |at: usize| at.checked_sub(1).unwrap_or(LONG - 1);
        (self.tap, self.feed) = (before(self.tap), before(self.feed));
        let sum = self.words[self.feed].wrapping_add(self.words[self.tap]);
        self.words[self.feed] = sum;
        sum
    }

    /// Uniform below a bound, as `Intn` draws it: the remainder of 31 bits, drawn
    /// again where remainders would not be equally likely.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        let mut bits = || (self.next() << 1 >> 33) as u32;
        if bound.is_power_of_two() {
            return bits() & (bound - 1);
        }
        let most = (1 << 31) - 1 - (1_u32 << 31) % bound;
        let mut drawn = bits();
        while drawn > most {
            drawn = bits();
        }
        drawn % bound
    }

    /// The same as `Shuffle` draws it: by multiplication (Lemire, *Fast Random Integer
    /// Generation in an Interval*, 2019).
    fn below_by_product(&mut self, bound: u32) -> u32 {
        let mut product = || u64::from((self.next() << 1 >> 32) as u32) * u64::from(bound);
        let mut drawn = product();
        if (drawn as u32) < bound {
            let least = bound.wrapping_neg() % bound;
            while (drawn as u32) < least {
                drawn = product();
            }
        }
        (drawn >> 32) as u32
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below_by_product(last as u32 + 1) as usize);
        }
    }

    /// The numbers below a bound in random order, as `Perm` draws them.
    pub(super) fn permutation(&mut self, count: u32) -> Vec<u32> {
        let mut numbers = vec![0; count as usize];
        for i in 0..count {
            let j = self.below(i + 1);
            numbers[i as usize] = numbers[j as usize];
            numbers[j as usize] = i;
        }
        numbers
    }
}

/// A seed spread over all words: each made of three numbers of the generator of Park
/// and Miller with the multiplier 48,271, shifted by this much and not at all.
fn spread(seed: u64, shifts: [u32; 2]) -> Words {
    const MODULUS: u64 = (1 << 31) - 1;
    let mut x = match seed % MODULUS {
        0 => 89_482_311,
        seed => seed,
    };
    let mut next = || {
        x = 48_271 * x % MODULUS;
        x
    };
    (0..20).for_each(|_| _ = next());
    std::array::from_fn(|_| next() << shifts[0] ^ next() << shifts[1] ^ next())
}

/// The words after so many steps.
fn after(words: &Words, steps: u64) -> Words {
    // The number of step n lies in the word (LONG − SHORT − n) mod LONG.
    let word_of = |n: usize| (2 * LONG - SHORT - n) % LONG;
    let mut numbers: Vec<u64> = (1..=LONG).map(|n| words[word_of(n)]).collect();
    for n in LONG..2 * LONG {
        numbers.push(numbers[n - LONG].wrapping_add(numbers[n - SHORT]));
    }
    let power = power_of_x(steps);
    let mut result = [0; LONG];
    for n in 1..=LONG {
        let terms = power.iter().zip(&numbers[n - 1..]);
        let number = terms.fold(0_u64, |sum, (&p, &number)| {
            sum.wrapping_add(p.wrapping_mul(number))
        });
        // Relative to where tap and feed stand after that many steps.
        result[word_of((n as u64 + steps) as usize % LONG)] = number;
    }
    result
}

/// The coefficients of x to this power modulo x⁶⁰⁷ − x³³⁴ − 1, over integers mod 2⁶⁴.
fn power_of_x(exponent: u64) -> Words {
    let mut power = [0_u64; LONG];
    power[0] = 1;
    for bit in (0..u64::BITS - exponent.leading_zeros()).rev() {
        let mut square = [0_u64; 2 * LONG];
        for (i, &p) in power.iter().enumerate() {
            for (sum, &q) in square[i..].iter_mut().zip(&power) {
                *sum = sum.wrapping_add(p.wrapping_mul(q));
            }
        }
        if exponent >> bit & 1 == 1 {
            square.rotate_right(1);
        }
        for high in (LONG..2 * LONG).rev() {
            let c = std::mem::take(&mut square[high]);
            square[high - LONG] = square[high - LONG].wrapping_add(c);
            square[high - SHORT] = square[high - SHORT].wrapping_add(c);
        }
        power.copy_from_slice(&square[..LONG]);
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every Go programmer has seen: `rand.Intn(100)` without a seed.
    #[test]
    fn seed_one_draws_what_it_draws_in_go() {
        let mut chance = Chance::new(1);
        let drawn: Vec<u32> = (0..10).map(|_| chance.below(100)).collect();
        assert_eq!(drawn, [81, 87, 47, 59, 81, 18, 25, 40, 56, 0]);
    }

    #[test]
    fn a_leap_is_as_many_steps() {
        let words = spread(7, [20, 10]);
        let mut stepped = Chance {
            words,
            tap: 0,
            feed: LONG - SHORT,
        };
        let steps = 5_000;
        (0..steps).for_each(|_| _ = stepped.next());
        assert_eq!(after(&words, steps), stepped.words);
    }

    #[test]
    fn a_permutation_has_every_number_once() {
        let mut numbers = Chance::new(3).permutation(100);
        numbers.sort_unstable();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    }
}
