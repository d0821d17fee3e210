//! Why an exponential of our own?
//!
//! Leakage needs eˣ for every tile twice a step, and `libm`'s takes about as long
//! as the rest of the step together: it branches, so the compiler cannot do two
//! tiles at a time. This one has no branch, table or call. It is wrong by less than
//! 1 part in 10¹¹, which is nothing beside how well anybody knows a leakage current,
//! and the same on every machine because it is made of exact operations only.

/// Below this the answer is that of this; e⁻⁵⁰⁰ is 7 × 10⁻²¹⁸.
pub const MIN: f64 = -500.0;
/// Above this the answer is that of this, so it is never infinite.
pub const MAX: f64 = 500.0;

/// Adding and subtracting it rounds to the nearest whole number, which is then
/// also the low bits of the sum: 1.5 × 2⁵².
const ROUND: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts; the first has 21 trailing zero bits, so a whole number
/// below 2²⁰ times it is exact.
const LN2_HIGH: f64 = f64::from_bits(0x3FE6_2E42_FEE0_0000);
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// eˣ, relative error below 10⁻¹¹ between [`MIN`] and [`MAX`]; NaN counts as [`MAX`].
///
/// x = n ln 2 + r with |r| ≤ ½ ln 2; the Taylor series of eʳ to the ninth power
/// leaves r¹⁰/10! < 7 × 10⁻¹²; 2ⁿ is written straight into the exponent's bits.
#[must_use]
#[inline(always)]
pub fn exp(x: f64) -> f64 {
    // Comparisons rather than min and max, whose care for NaN costs three instructions more.
    let x = if x < MAX { x } else { MAX };
    let x = if x > MIN { x } else { MIN };
    let shifted = x * core::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let r2 = r * r;
    let r4 = r2 * r2;
    let low = (1.0 + r) + r2 * (1.0 / 2.0 + r * (1.0 / 6.0));
    let middle = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * (1.0 / 720.0 + r * (1.0 / 5040.0));
    let high = 1.0 / 40_320.0 + r * (1.0 / 362_880.0);
    let series = low + r4 * (middle + r4 * high);
    let power = f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52));
    series * power
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_libm_to_one_part_in_1e11(x in MIN..MAX) {
            prop_assert!((exp(x) / libm::exp(x) - 1.0).abs() < 1e-11);
        }

        #[test]
        fn never_decreases(x in MIN..MAX, step in 1e-9..1.0) {
            prop_assert!(exp(x + step) >= exp(x));
        }
    }

    #[test]
    fn the_ends_are_finite() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(1e9), exp(MAX));
        assert_eq!(exp(f64::NAN), exp(MAX));
        assert_eq!(exp(f64::NEG_INFINITY), exp(MIN));
        assert!(exp(MAX).is_finite() && exp(MIN) > 0.0);
    }
}
