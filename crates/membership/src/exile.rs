//! When may one that was removed come back?
//!
//! The first time at once: a partition has healed. But a member so slow that its
//! refutations come too late would be removed and return for ever, and the whole
//! cell would talk of nothing else. So each further removal doubles the time
//! before it rises above what is said of it. It needs no timer: whoever it
//! speaks to answers that it is removed, and one of those answers falls after the wait.

use wire::{Instant, Nanos};

/// A member's own count of its removals.
//= spec 16
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Exile {
    /// When it last heard of a removal it did not know of.
    heard: Instant,
    /// The lowest incarnation whose removal it has not heard of.
    above: u32,
    removals: u8,
}

impl Exile {
    /// The longest wait is 64 times the longest suspicion: four minutes by default.
    const DOUBLINGS_MAX: u8 = 6;

    /// Of a member that starts at this incarnation; what befell earlier lives
    /// does not count.
    pub(crate) const fn new(incarnation: u32) -> Self {
        Self {
            heard: Instant::EPOCH,
            above: incarnation,
            removals: 0,
        }
    }

    /// Takes note that it was removed at this incarnation.
    pub(crate) fn note(&mut self, now: Instant, incarnation: u32, suspicion: Nanos) {
        if incarnation < self.above {
            return;
        }
        if now > self.heard + suspicion * (2 << Self::DOUBLINGS_MAX) {
            self.removals = 0;
        }
        self.heard = now;
        self.above = incarnation + 1;
        self.removals = self.removals.saturating_add(1);
    }

    /// Whether it may raise its incarnation.
    pub(crate) fn is_over(&self, now: Instant, suspicion: Nanos) -> bool {
        let doublings = self.removals.saturating_sub(1).min(Self::DOUBLINGS_MAX);
        doublings == 0 || now >= self.heard + suspicion * (1 << doublings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= spec 16
    #[test]
    fn each_removal_doubles_the_wait_and_a_long_peace_forgives() {
        let longest = Nanos::from_secs(4);
        let mut exile = Exile::new(0);
        let mut now = Instant::EPOCH + Nanos::from_secs(1);
        for (incarnation, wait) in [
            (0, 0),
            (1, 8),
            (2, 16),
            (3, 32),
            (4, 64),
            (5, 128),
            (6, 256),
            (7, 256),
        ] {
            exile.note(now, incarnation, longest);
            let over = now + Nanos::from_secs(wait);
            exile.note(over, incarnation, longest);
            assert!(wait == 0 || !exile.is_over(Instant(over.0 - 1), longest));
            assert!(exile.is_over(over, longest), "told twice of one removal");
            now = over;
        }
        now += Nanos::from_secs(513);
        exile.note(now, 8, longest);
        assert!(exile.is_over(now, longest));
    }
}
