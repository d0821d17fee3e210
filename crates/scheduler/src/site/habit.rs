//! How long do jobs run, against what they promise?
//!
//! People promise too much: on the field's machines half of all jobs end within a
//! fraction of what they asked for (Mu'alem and Feitelson, IEEE TPDS 12(6), 2001). Each
//! tenant's ratios of run time to promise are counted in twenty steps of 5 %, which is
//! all that is kept of jobs that are gone, and enough for a guess with the promise as
//! its upper bound.

use alloc::vec;
use alloc::vec::Vec;

/// Steps of the ratio.
const STEPS: usize = 20;
/// With fewer ends a tenant's own habit says less than everybody's.
const ENDS_MIN: u32 = 20;

/// How often jobs ended at which share of their promise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Habit {
    ends: [u32; STEPS],
}

impl Habit {
    fn count(&self) -> u32 {
        self.ends.iter().sum()
    }

    /// The median ratio of those that ran longer than `elapsed`; none if none did.
    fn median_beyond(&self, elapsed: f64) -> Option<f64> {
        let from = ((elapsed * STEPS as f64) as usize).min(STEPS - 1);
        let beyond: u32 = self.ends[from..].iter().sum();
        let mut left = beyond.div_ceil(2);
        for step in from..STEPS {
            let here = self.ends[step];
            if here >= left && left > 0 {
                return Some((step + 1) as f64 / STEPS as f64);
            }
            left -= here.min(left);
        }
        None
    }
}

/// Everybody's habits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Habits {
    each: Vec<Habit>,
    all: Habit,
}

impl Habits {
    pub(super) fn new(tenants: usize) -> Self {
        Self {
            each: vec![Habit::default(); tenants],
            all: Habit::default(),
        }
    }

    /// A job ended after this share of what it promised.
    pub(super) fn ended(&mut self, tenant: u16, ratio: f64) {
        let step = ((ratio * STEPS as f64) as usize).min(STEPS - 1);
        for habit in [&mut self.each[usize::from(tenant)], &mut self.all] {
            if habit.ends[step] == u32::MAX {
                // Old ends fade when the count is full.
                habit.ends.iter_mut().for_each(|n| *n /= 2);
            }
            habit.ends[step] += 1;
        }
    }

    /// The share of its promise after which a job that has run for `elapsed` of it
    /// probably ends; the promise itself where nothing is known.
    pub(super) fn likely(&self, tenant: u16, elapsed: f64) -> f64 {
        let own = &self.each[usize::from(tenant)];
        let habit = if own.count() >= ENDS_MIN {
            own
        } else {
            &self.all
        };
        habit.median_beyond(elapsed).unwrap_or(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_run_longer_than_most_is_believed_to_run_as_long_as_the_others_who_did() {
        let mut habits = Habits::new(2);
        assert_eq!(habits.likely(0, 0.0), 1.0);
        for _ in 0..60 {
            habits.ended(0, 0.08);
        }
        for _ in 0..40 {
            habits.ended(0, 0.77);
        }
        assert_eq!(habits.likely(0, 0.0), 0.1);
        assert_eq!(habits.likely(0, 0.5), 0.8);
        assert_eq!(habits.likely(0, 0.9), 1.0);
        // Who has no habits of its own is like everybody.
        assert_eq!(habits.likely(1, 0.0), 0.1);
    }
}
