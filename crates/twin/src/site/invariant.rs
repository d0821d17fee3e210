//! What must hold at a site, from beginning to end?
//!
//! Each is looked at wherever it could break: temperatures after every heat step,
//! claims at every start, the balances at the end. Only the first violation is kept,
//! because what follows it follows from it.

use std::collections::BTreeMap;

use crate::record::summary;

/// Something that must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// No device gets so hot that the lowest clock does not hold it: the last tenth
    /// of the way from throttling to shutdown stays unused.
    NoThermalRunaway,
    /// No device reaches the temperature at which it switches itself off.
    NoTileAboveLimit,
    /// No loop's coolant is warmer than its equipment accepts.
    NoInletAboveLimit,
    /// Electricity in = heat out + heat stored, to 1e-6 of what went in.
    EnergyConserved,
    /// What the site executed is what its jobs executed, to the last unit.
    WorkConserved,
    /// No node gives away more than it has.
    ClaimsWithinNodes,
    /// A latency-sensitive job is stopped only with its node, or to start elsewhere at
    /// the same instant.
    OnlyBestEffortPreempted,
    /// The tasks of a job start together or not at all.
    GangsWhole,
    /// No device gets as hot as where it begins to slow itself down.
    NoTileThrottlesItself,
    /// No loop is given more than it can carry for longer than [`GRACE`].
    LoopsWithinCapacity,
}

/// How long a loop may be given more than it can carry, in seconds. A plant that fails is
/// overloaded before anybody can know. Devices pass heat on with a time constant of 25 s
/// ([`physics::devices::TIME_CONSTANT`]): an answer within a second, down to a load of 0.9, has
/// brought a load L to 1 after 25 s · ln((L − 0.9) / 0.1). Three time constants are enough
/// for L = 2.9.
pub const GRACE: f64 = 75.0;

impl Invariant {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::NoThermalRunaway,
        Self::NoTileAboveLimit,
        Self::NoInletAboveLimit,
        Self::EnergyConserved,
        Self::WorkConserved,
        Self::ClaimsWithinNodes,
        Self::OnlyBestEffortPreempted,
        Self::GangsWhole,
        Self::NoTileThrottlesItself,
        Self::LoopsWithinCapacity,
    ];
    /// Those that hold whatever fails, if heat is looked at.
    pub const USUAL: [Self; 8] = [
        Self::NoThermalRunaway,
        Self::NoTileAboveLimit,
        Self::NoInletAboveLimit,
        Self::EnergyConserved,
        Self::WorkConserved,
        Self::ClaimsWithinNodes,
        Self::OnlyBestEffortPreempted,
        Self::GangsWhole,
    ];

    /// The word for it in universe files and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoThermalRunaway => "no_thermal_runaway",
            Self::NoTileAboveLimit => "no_tile_above_limit",
            Self::NoInletAboveLimit => "no_inlet_above_limit",
            Self::EnergyConserved => "energy_conserved",
            Self::WorkConserved => "work_conserved",
            Self::ClaimsWithinNodes => "claims_within_nodes",
            Self::OnlyBestEffortPreempted => "only_best_effort_preempted",
            Self::GangsWhole => "gangs_whole",
            Self::NoTileThrottlesItself => "no_tile_throttles_itself",
            Self::LoopsWithinCapacity => "loops_within_capacity",
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Self::NoThermalRunaway
            | Self::NoTileAboveLimit
            | Self::NoInletAboveLimit
            | Self::NoTileThrottlesItself => "K",
            Self::WorkConserved | Self::LoopsWithinCapacity => "s",
            Self::EnergyConserved
            | Self::ClaimsWithinNodes
            | Self::OnlyBestEffortPreempted
            | Self::GangsWhole => "",
        }
    }
}

/// What did not hold so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Violations(BTreeMap<Invariant, summary::Violation>);

impl Violations {
    /// Notes a violation if it is the first of its kind.
    pub(super) fn note(
        &mut self,
        broken: Invariant,
        seconds: f64,
        subject: impl FnOnce() -> String,
        found: f64,
        bound: f64,
    ) {
        self.0.entry(broken).or_insert_with(|| {
            let (subject, unit) = (subject(), broken.unit());
            summary::Violation {
                seconds,
                text: format!("{subject}: {found:.6} {unit} against {bound:.6} {unit}"),
                subject,
                found,
                bound,
                unit: unit.to_owned(),
            }
        });
    }

    /// The verdict on those that were asked for.
    pub(super) fn verdict(&self, asked: &[Invariant]) -> Vec<summary::Invariant> {
        let verdict = |&asked: &Invariant| summary::Invariant {
            name: asked.name().to_owned(),
            held: !self.0.contains_key(&asked),
            first_violation: self.0.get(&asked).cloned(),
        };
        asked.iter().map(verdict).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_violation_is_kept_and_only_what_was_asked_for_is_judged() {
        let mut violations = Violations::default();
        for (at, found) in [(7.0, 364.0), (9.0, 399.0)] {
            let subject = || "n1, GPU 0".to_owned();
            violations.note(Invariant::NoTileAboveLimit, at, subject, found, 363.15);
        }
        violations.note(Invariant::EnergyConserved, 1.0, String::new, 1.0, 1e-6);
        let asked = [Invariant::NoTileAboveLimit, Invariant::WorkConserved];
        let [limit, work] = &violations.verdict(&asked)[..] else {
            panic!("one verdict each")
        };
        assert!(work.held && !limit.held);
        let first = limit.first_violation.as_ref().unwrap();
        assert_eq!((first.seconds, first.found), (7.0, 364.0));
        assert_eq!(first.text, "n1, GPU 0: 364.000000 K against 363.150000 K");
    }
}
