//! A clock that is wrong: by an offset, by a rate, and by being set.

use machine::Stream;
use wire::{Instant, Nanos};

const MILLION: i128 = 1_000_000;

/// Reads what it does as a line through a point, and never backwards.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    truth: i128,
    reading: i128,
    /// In millionths.
    rate: i128,
    shown: Instant,
}

impl Clock {
    pub(crate) fn new(offset: i64, rate_ppm: i64) -> Self {
        Self {
            truth: 0,
            reading: offset.into(),
            rate: rate_ppm.into(),
            shown: Instant::EPOCH,
        }
    }

    fn raw(&self, truth: Instant) -> i128 {
        let passed = i128::from(truth.0) - self.truth;
        self.reading + passed * (MILLION + self.rate) / MILLION
    }

    pub(crate) fn read(&mut self, truth: Instant) -> Instant {
        let raw = u64::try_from(self.raw(truth)).expect("worlds begin late enough");
        self.shown = self.shown.max(Instant(raw));
        self.shown
    }

    /// The truth when it will show this, if nobody sets it.
    pub(crate) fn when(&self, reading: Instant) -> Instant {
        let ahead = i128::from(reading.0) - self.reading;
        let truth = self.truth + ahead * MILLION / (MILLION + self.rate) + 2;
        Instant(u64::try_from(truth.max(0)).expect("an instant"))
    }

    /// Sets it to so far from the truth.
    pub(crate) fn set(&mut self, truth: Instant, offset: i64, rate_ppm: i64) {
        self.truth = truth.0.into();
        self.reading = i128::from(truth.0) + i128::from(offset);
        self.rate = rate_ppm.into();
    }

    /// Any error within these bounds.
    pub(crate) fn error(chance: &mut Stream, skew: Nanos, rate_ppm: u64) -> (i64, i64) {
        let offset = chance.below(2 * skew.0 + 1) as i64 - skew.0 as i64;
        let rate = chance.below(2 * rate_ppm + 1) as i64 - rate_ppm as i64;
        (offset, rate)
    }
}
