//! What can this cooling loop still take?
//!
//! A site's heat leaves through loops: pumps and heat exchangers that each carry
//! away so many watts and no more. A loop's meter is read once a period. What was
//! started or stopped since the last reading is not in it, so the books add it:
//! the same reckoning as [`crate::Admission`] makes for distant layers, with one
//! period in place of the light time.
//!
//! Three bounds on a loop's load (its heat over its capacity), in this order:
//!
//! | load | what happens |
//! |---|---|
//! | would exceed the setpoint, 0.9 | nothing more is placed on it (H2) |
//! | exceeds the setpoint, 0.9 | its [`Thermos`] lowers the budget of its nodes (H3) |
//! | exceeds [`OVERLOAD`], 1.0 | heat is moved off it until [`EASE`], 0.8 |
//!
//! The last step goes well below the setpoint because the budget recovers in
//! proportion to the distance from it: a loop unloaded to just under 0.9 would
//! keep its nodes slow for hours.

use alloc::vec::Vec;
use machine::Machine;
use wire::{Instant, Nanos};

use crate::thermos::{self, Link, Signal, Thermos};

/// More heat than the loop can carry: its coolant is warming up.
pub const OVERLOAD: f64 = 1.0;
/// How far a loop is unloaded once it was overloaded.
pub const EASE: f64 = 0.8;
/// A loop that carries nothing at all reads as this, not as infinity: a number
/// that a decision can record and a controller can integrate.
pub const LOAD_MAX: f64 = 10.0;

/// What the scheduler believes of one loop.
#[derive(Clone, Debug)]
pub struct Cooling {
    thermos: Thermos,
    setpoint: f64,
    /// At the last reading.
    load: f64,
    capacity_watts: f64,
    /// Heat by the books at full clock, and how much of it was on the books when
    /// the meter was read.
    booked_watts: f64,
    metered_watts: f64,
    /// Its nodes, in order.
    nodes: Vec<u32>,
}

impl Cooling {
    /// A loop whose nodes idle.
    #[must_use]
    pub fn new(
        capacity_watts: f64,
        idle_watts: f64,
        nodes: Vec<u32>,
        setpoint: f64,
        period: Nanos,
        now: Instant,
    ) -> Self {
        // To its own nodes a loop is the one layer outward, next door: the dead
        // time is the period of its meter.
        let outward = Link {
            layer: 0,
            light_time: Nanos::ZERO,
            gain: None,
        };
        let config = thermos::Config {
            setpoint,
            budget_min: 0.0,
            resolution: 0.0,
            period,
            outward: alloc::vec![outward],
        };
        Self {
            thermos: Thermos::new(&config, now),
            setpoint,
            load: load(idle_watts, capacity_watts),
            capacity_watts,
            booked_watts: idle_watts,
            metered_watts: idle_watts,
            nodes,
        }
    }

    /// Its nodes, in order.
    #[must_use]
    pub fn nodes(&self) -> &[u32] {
        &self.nodes
    }

    /// The load at the last reading.
    #[must_use]
    pub const fn load(&self) -> f64 {
        self.load
    }

    /// The load it would have with this much more heat, in watts, counting what
    /// was booked since the last reading.
    #[inline]
    #[must_use]
    pub fn predicted(&self, extra_watts: f64) -> f64 {
        let unmetered = self.booked_watts - self.metered_watts + extra_watts;
        if self.capacity_watts > 0.0 {
            (self.load + unmetered / self.capacity_watts).clamp(0.0, LOAD_MAX)
        } else {
            self.load
        }
    }

    /// The heat, in watts, by which the predicted load lies above this one.
    #[must_use]
    pub fn excess_watts(&self, above: f64) -> f64 {
        if self.capacity_watts > 0.0 {
            (self.predicted(0.0) - above) * self.capacity_watts
        } else {
            f64::INFINITY
        }
    }

    /// Puts heat on the books, or takes it off, in watts.
    pub const fn book(&mut self, watts: f64) {
        self.booked_watts += watts;
    }

    /// The share of their dynamic power its nodes may spend together.
    #[must_use]
    pub fn budget(&self) -> f64 {
        self.thermos.budget()
    }

    /// The meter was read.
    //= requirements H3
    pub fn metered(&mut self, now: Instant, heat_watts: f64, capacity_watts: f64) {
        self.capacity_watts = capacity_watts;
        self.load = load(heat_watts, capacity_watts);
        self.metered_watts = self.booked_watts;
        let signal = Signal {
            layer: 0,
            load: self.load,
            measured: now,
        };
        // Its decisions are recorded per node by whoever hands the budget out.
        self.thermos.handle(now, signal, &mut |_| {});
    }

    /// When silence of the meter becomes news.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.thermos.deadline()
    }

    /// The meter has been silent.
    pub fn wake(&mut self, now: Instant) {
        self.thermos.wake(now, &mut |_| {});
    }

    /// The load it may reach by placing.
    #[must_use]
    pub const fn setpoint(&self) -> f64 {
        self.setpoint
    }
}

fn load(heat_watts: f64, capacity_watts: f64) -> f64 {
    if capacity_watts > 0.0 {
        (heat_watts / capacity_watts).clamp(0.0, LOAD_MAX)
    } else {
        LOAD_MAX
    }
}

/// Splits a budget between best-effort and latency-sensitive heat, in watts: the
/// one gives way first, down to `floor`, and the other only for what is left.
/// Gives the share of its own dynamic power each may spend.
#[must_use]
pub fn split(budget: f64, best_effort: f64, latency_sensitive: f64, floor: f64) -> (f64, f64) {
    let allowed = budget * (best_effort + latency_sensitive);
    let share = |left: f64, of: f64| {
        if of > 0.0 {
            (left / of).clamp(floor, 1.0)
        } else {
            1.0
        }
    };
    let first = share(allowed - latency_sensitive, best_effort);
    let second = share(allowed - first * best_effort, latency_sensitive);
    (first, second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cooling() -> Cooling {
        Cooling::new(
            1_000.0,
            200.0,
            alloc::vec![0],
            0.9,
            Nanos::MINUTE,
            Instant::EPOCH,
        )
    }

    fn at(minutes: u64) -> Instant {
        Instant::EPOCH + Nanos::MINUTE * minutes
    }

    #[test]
    fn what_was_booked_since_the_reading_counts_until_the_meter_shows_it() {
        let mut cooling = cooling();
        cooling.book(300.0);
        assert!((cooling.predicted(100.0) - 0.6).abs() < 1e-12);
        cooling.metered(at(1), 480.0, 1_000.0);
        assert!((cooling.predicted(0.0) - 0.48).abs() < 1e-12);
        cooling.book(-300.0);
        assert!((cooling.predicted(0.0) - 0.18).abs() < 1e-12);
    }

    #[test]
    fn a_loop_that_carries_nothing_has_a_load_that_can_be_written_down() {
        let mut cooling = cooling();
        cooling.metered(at(1), 500.0, 0.0);
        assert_eq!(cooling.predicted(-1e9), LOAD_MAX);
        assert_eq!(cooling.budget(), 0.0);
        assert_eq!(cooling.excess_watts(EASE), f64::INFINITY);
    }

    #[test]
    fn a_silent_meter_is_a_hot_one() {
        let mut cooling = cooling();
        for _ in 0..100 {
            let due = cooling.deadline().unwrap();
            cooling.wake(due);
        }
        assert!(cooling.budget() < 0.01, "{}", cooling.budget());
    }

    //= requirements H3
    #[test]
    fn best_effort_heat_gives_way_first_and_latency_sensitive_heat_last() {
        for (budget, expected) in [
            (1.0, (1.0, 1.0)),
            (0.75, (0.5, 1.0)),
            (0.5, (0.0, 1.0)),
            (0.25, (0.0, 0.5)),
            (0.0, (0.0, 0.0)),
        ] {
            assert_eq!(
                split(budget, 100.0, 100.0, 0.0),
                expected,
                "budget {budget}"
            );
        }
        // A floor under the one is paid for by the other.
        let (best_effort, sensitive) = split(0.5, 100.0, 100.0, 0.1);
        assert!((best_effort - 0.1).abs() < 1e-12 && (sensitive - 0.9).abs() < 1e-12);
        assert_eq!(split(0.3, 0.0, 100.0, 0.0), (1.0, 0.3));
    }
}
