//! Instants and durations as whole nanoseconds.
//!
//! Integers, because events are ordered by them: two threads that add the same
//! floating-point numbers in another order disagree, and a history must not.
//! A `u64` of nanoseconds spans 584 years, which is enough for a run.

use core::fmt;
use core::ops::{Add, AddAssign, Div, Mul, Sub};

/// A span of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Nanos(pub u64);

/// A point in a universe's coordinate time: nanoseconds since its epoch.
///
/// A bare instant means something only to whoever drives the machine that was
/// handed it. What travels to others is a [`crate::Stamp`], which says whose
/// time it is and how wrong it may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Instant(pub u64);

impl Nanos {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// One microsecond.
    pub const MICROSECOND: Self = Self(1_000);
    /// One millisecond.
    pub const MILLISECOND: Self = Self(1_000_000);
    /// One second.
    pub const SECOND: Self = Self(1_000_000_000);
    /// One minute.
    pub const MINUTE: Self = Self(60 * Self::SECOND.0);
    /// One hour.
    pub const HOUR: Self = Self(60 * Self::MINUTE.0);
    /// One day of 86,400 s.
    pub const DAY: Self = Self(24 * Self::HOUR.0);

    /// Whole milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * Self::MILLISECOND.0)
    }

    /// Whole seconds.
    #[must_use]
    pub const fn from_secs(s: u64) -> Self {
        Self(s * Self::SECOND.0)
    }

    /// Seconds, rounded to the nearest nanosecond; negative or NaN gives zero,
    /// too long saturates.
    #[must_use]
    pub const fn from_secs_f64(s: f64) -> Self {
        // `as` saturates at both ends and turns NaN into 0.
        Self((s * 1e9 + 0.5) as u64)
    }

    /// In seconds. Exact up to 2⁵³ ns (104 days), rounded to 53 bits beyond.
    #[must_use]
    pub const fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The difference, or zero if `other` is longer.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Instant {
    /// Where a universe's time begins.
    pub const EPOCH: Self = Self(0);
    /// Later than anything that happens.
    pub const END: Self = Self(u64::MAX);

    /// Time since `earlier`; zero if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    /// Seconds since the epoch.
    #[must_use]
    pub const fn as_secs_f64(self) -> f64 {
        Nanos(self.0).as_secs_f64()
    }
}

impl Add<Nanos> for Instant {
    type Output = Self;
    /// Saturates at [`Instant::END`], which nothing reaches.
    fn add(self, span: Nanos) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}
impl AddAssign<Nanos> for Instant {
    fn add_assign(&mut self, span: Nanos) {
        *self = *self + span;
    }
}
impl Add for Nanos {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}
impl AddAssign for Nanos {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
impl Sub for Nanos {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}
impl Mul<u64> for Nanos {
    type Output = Self;
    fn mul(self, by: u64) -> Self {
        Self(self.0.saturating_mul(by))
    }
}
impl Div<u64> for Nanos {
    type Output = Self;
    fn div(self, by: u64) -> Self {
        Self(self.0 / by)
    }
}

impl fmt::Display for Nanos {
    /// In the largest unit that keeps the number above one: `3.4 h`, `250 ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(Nanos, &str); 7] = [
            (Nanos::DAY, "d"),
            (Nanos::HOUR, "h"),
            (Nanos::MINUTE, "min"),
            (Nanos::SECOND, "s"),
            (Nanos::MILLISECOND, "ms"),
            (Nanos::MICROSECOND, "µs"),
            (Nanos(1), "ns"),
        ];
        let (unit, name) = UNITS
            .into_iter()
            .find(|(unit, _)| self.0 >= unit.0)
            .unwrap_or((Nanos(1), "ns"));
        // Three significant decimals, trailing zeros cut, in integers.
        let thousandths = (u128::from(self.0) * 1000 + u128::from(unit.0) / 2) / u128::from(unit.0);
        let (whole, mut rest, mut width) = (thousandths / 1000, thousandths % 1000, 3);
        while rest % 10 == 0 && width > 0 {
            (rest, width) = (rest / 10, width - 1);
        }
        if width == 0 {
            write!(f, "{whole} {name}")
        } else {
            write!(f, "{whole}.{rest:0width$} {name}")
        }
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t+{}", Nanos(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn durations_read_as_people_say_them() {
        for (span, text) in [
            (Nanos::ZERO, "0 ns"),
            (Nanos::from_millis(250), "250 ms"),
            (Nanos::from_secs(90), "1.5 min"),
            (Nanos::DAY * 10, "10 d"),
            (Nanos(1_500), "1.5 µs"),
        ] {
            assert_eq!(span.to_string(), text);
        }
    }

    #[test]
    fn seconds_round_and_saturate() {
        assert_eq!(Nanos::from_secs_f64(0.1), Nanos(100_000_000));
        assert_eq!(Nanos::from_secs_f64(-1.0), Nanos::ZERO);
        assert_eq!(Nanos::from_secs_f64(f64::NAN), Nanos::ZERO);
        assert_eq!(Nanos::from_secs_f64(1e300), Nanos(u64::MAX));
    }
}
