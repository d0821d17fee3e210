//! What came of it.

use std::collections::BTreeMap;

use physics::site::Flows;
use telemetry::{Action, Decision, Reason, Sketch};
use wire::Nanos;

use super::config::Config;
use crate::record::summary::{self, DecisionCount, Fault, Heat, Quantiles};
use crate::record::{Series, Summary};

/// A run that is over.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it went over time: the whole site, then each cooling loop.
    pub series: Series,
    /// What had to hold.
    pub invariants: Vec<summary::Invariant>,
    /// How often each thing was decided for each reason.
    pub decisions: BTreeMap<(Action, Reason), u64>,
    /// From arrival to first start, in nanoseconds.
    pub waiting: Sketch,
    /// Jobs by what became of them.
    pub jobs: Jobs,
    /// GPU time claimed, as a share of all GPU time.
    pub gpu_allocated: f64,
    /// The same with slowed devices counted by their clock.
    pub gpu_utilised: f64,
    /// The highest temperature of any device, in kelvin, and by how much it was
    /// above the device's shutdown temperature; negative below.
    pub max_kelvin: f64,
    /// See [`Outcome::max_kelvin`], over all devices.
    pub max_kelvin_over_limit: f64,
    /// The highest load of any loop, as a share of the capacity it had then. A
    /// loop without any counts as [`scheduler::cooling::LOAD_MAX`].
    pub max_load: f64,
    /// Device-seconds, with work, below full clock.
    pub throttled_device_seconds: f64,
    /// The part of it in which the device's own temperature was the cause.
    pub throttled_hot_device_seconds: f64,
    /// Seconds in which a loop was given more than it can carry, over all loops.
    pub overload_seconds: f64,
    /// Nodes that went dark.
    pub nodes_lost: u64,
    /// Work executed and lost with its place, in seconds at full clock.
    pub discarded_seconds: f64,
    /// Where the energy went.
    pub flows: Flows,
    /// Relative error of the energy balance.
    pub energy_error: f64,
    /// Faults asked for, and those that met a loop with work or heat on it.
    pub faults: (u64, u64),
    /// Devices simulated.
    pub devices: u64,
    /// Arrivals, departures, heat steps, meter readings.
    pub events: u64,
    /// How far it got.
    pub simulated: Nanos,
    /// Whether it got to its end.
    pub complete: bool,
    /// Equal for equal runs.
    pub history_hash: u128,
}

/// Jobs by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jobs {
    /// Came.
    pub arrived: u64,
    /// Started at least once.
    pub placed: u64,
    /// Turned away.
    pub refused: u64,
    /// Ran to their end.
    pub finished: u64,
    /// Lost, since nothing that is left could hold them.
    pub lost: u64,
    /// Started again elsewhere.
    pub restarted: u64,
    /// Run at the end.
    pub running: u64,
    /// Wait at the end.
    pub waiting: u64,
}

impl Outcome {
    pub(super) fn count(&mut self, decision: &Decision) {
        let entry = self.decisions.entry((decision.action, decision.reason));
        *entry.or_default() += 1;
        match decision.action {
            Action::Refuse => self.jobs.refused += 1,
            Action::Lose => self.jobs.lost += 1,
            _ => {}
        }
    }

    /// The run's summary. What only the host knows (wall time, memory, the command, the
    /// overrides) is left unknown for it to fill in.
    #[must_use]
    pub fn summary(&self, config: &Config, seed: u64) -> Summary {
        let decisions = self.decisions.iter();
        let decisions = decisions.map(|(&(a, r), &n)| DecisionCount::new(a, r, n));
        Summary {
            universe: config.name.clone(),
            intent: config.intent.clone(),
            kind: summary::Kind::Site,
            seed,
            threads: 1,
            tiles: self.devices,
            simulated_seconds: self.simulated.as_secs_f64(),
            wall_seconds: f64::NAN,
            events: self.events,
            events_per_second: f64::NAN,
            history_hash: self.history_hash,
            complete: self.complete,
            invariants: self.invariants.clone(),
            heat: Some(Heat {
                max_kelvin: self.max_kelvin,
                max_kelvin_over_limit: self.max_kelvin_over_limit,
                max_load: self.max_load,
                tiles_lost: self.nodes_lost,
                overshoot: f64::NAN,
                energy_error: self.energy_error,
                throttled_tile_seconds: self.throttled_device_seconds,
                work_tile_seconds: f64::NAN,
            }),
            faults: vec![Fault {
                kind: "cooling_loop".to_owned(),
                injected: self.faults.0,
                fired: self.faults.1,
            }],
            decisions: decisions.collect(),
            site: Some(summary::Site {
                utilisation: self.gpu_utilised,
                gpu_allocated_fraction: self.gpu_allocated,
                waiting_seconds: Quantiles::of(&self.waiting, 1e-9),
                arrived: self.jobs.arrived,
                placed: self.jobs.placed,
                refused: self.jobs.refused,
                finished: self.jobs.finished,
                lost: self.jobs.lost,
                throttled_device_seconds: self.throttled_device_seconds,
                device_max_kelvin: self.max_kelvin,
                loop_overload_seconds: self.overload_seconds,
            }),
            ..Summary::default()
        }
    }
}
