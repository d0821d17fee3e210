//! What came of it.

use std::collections::BTreeMap;

use physics::site::Flows;
use scheduler::site::Task;
use telemetry::{Action, Decision, Reason, Sketch};
use wire::{Instant, Nanos};

use super::config::Config;
use super::jobs::Job;
use super::measured::{Histogram, Measured};
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
    /// The same with those that never started, who waited at least until the end.
    pub waiting_at_least: Sketch,
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
    /// The same for where a device begins to slow itself down.
    pub max_kelvin_over_throttle: f64,
    /// The time in which something was broken, if there was one.
    pub window: Option<Window>,
    /// What each tenant got, and their names.
    pub tenants: Vec<TenantBook>,
    /// See [`Outcome::tenants`].
    pub names: Vec<String>,
    /// From arrival to end over run time at full clock, in thousandths.
    pub slowdown: Sketch,
    /// Gangs of several tasks that started.
    pub gangs: u64,
    /// First starts while a job that came earlier waited for its own.
    pub backfilled: u64,
    /// Work done and kept, in seconds of a GPU at full clock.
    pub gpu_seconds: f64,
    /// Work executed and lost with its place, likewise.
    pub discarded_gpu_seconds: f64,
    /// Lines of lists that were no work.
    pub left_out: u64,
    /// Jobs of lists that were over before the run began.
    pub before_begin: u64,
    /// Jobs of lists that would have come after the end.
    pub after_end: u64,
    /// What GPUs drew, in watts, at samples.
    pub gpu_watts: Histogram,
    /// The same over the maximum of each.
    pub gpu_share: Histogram,
    /// How hot they were.
    pub gpu_celsius: Histogram,
    /// The least the file system left of the speed of any job.
    pub storage_least: f64,
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
    /// Neighbours asked for, and those whose heat came.
    pub surges: (u64, u64),
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

/// The time in which something was broken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// From the first fault, in seconds.
    pub from: f64,
    /// To the last repair, in seconds.
    pub to: f64,
    /// Work done meanwhile and not lost meanwhile, in seconds of a GPU at full clock.
    pub gpu_seconds_kept: f64,
    /// Work lost meanwhile, whenever it was done.
    pub gpu_seconds_lost: f64,
    /// Device-seconds slowed by the device's own temperature.
    pub throttled_hot_device_seconds: f64,
    /// The furthest any device was above where it slows itself down, K.
    pub max_kelvin_over_throttle: f64,
}

/// What a tenant got.
#[derive(Clone, Debug, Default)]
pub struct TenantBook {
    /// Jobs that came.
    pub arrived: u64,
    /// Jobs that ran to their end.
    pub finished: u64,
    /// Times a job of its was stopped to go on later.
    pub stopped: u64,
    /// From arrival to first start, in nanoseconds.
    pub waiting: Sketch,
    /// Jobs that wait for their first start at the end.
    pub unstarted: u64,
    /// See [`Outcome::slowdown`].
    pub slowdown: Sketch,
    /// Thousandths of GPU it has now.
    pub gpu_milli: u64,
    /// Those, integrated over nanoseconds until `since`.
    pub claimed: u128,
    since: Instant,
}

impl TenantBook {
    /// From now on it has this many thousandths of GPU more.
    pub(super) fn runs(&mut self, now: Instant, more: i64) {
        self.claimed += u128::from(now.since(self.since).0) * u128::from(self.gpu_milli);
        self.since = now;
        self.gpu_milli = self.gpu_milli.saturating_add_signed(more);
    }
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Ran to its end.
    Finished,
    /// Ended at its limit.
    AtLimit,
    /// Turned away.
    Refused,
    /// Lost, since nothing that is left could hold it.
    Lost,
    /// Runs at the end.
    Running,
    /// Waits at the end.
    Waiting,
}

impl Fate {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Finished,
        Self::AtLimit,
        Self::Refused,
        Self::Lost,
        Self::Running,
        Self::Waiting,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::AtLimit => "at_limit",
            Self::Refused => "refused",
            Self::Lost => "lost",
            Self::Running => "running",
            Self::Waiting => "waiting",
        }
    }
}

/// What is kept of a job when all is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JobRecord<'a> {
    /// Its number: its place in the order of arrival.
    pub id: u64,
    /// What it was.
    pub job: &'a Job,
    /// Whose.
    pub tenant: &'a str,
    /// When it first started.
    pub started: Option<Instant>,
    /// When it ended.
    pub ended: Option<Instant>,
    /// Where it last ran; empty if it never did, or was lost.
    pub tasks: &'a [Task],
    /// What became of it.
    pub fate: Fate,
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
    /// Ended at their limit.
    pub at_limit: u64,
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

    /// How often something was done, for whatever reason.
    #[must_use]
    pub fn decided(&self, action: Action) -> u64 {
        let all = self.decisions.iter();
        all.filter(|((a, _), _)| *a == action).map(|(_, n)| n).sum()
    }

    /// The run's summary. What only the host knows (wall time, memory, the command, the
    /// overrides) is left unknown for it to fill in.
    #[must_use]
    pub fn summary(&self, config: &Config, measured: &[Measured], seed: u64) -> Summary {
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
                budget_min: f64::NAN,
                throttled_tile_seconds: self.throttled_device_seconds,
                work_tile_seconds: f64::NAN,
            }),
            faults: vec![Fault {
                kind: "cooling_loop".to_owned(),
                injected: self.faults.0,
                fired: self.faults.1,
            }]
            .into_iter()
            .chain((self.surges.0 > 0).then(|| Fault {
                kind: "neighbour".to_owned(),
                injected: self.surges.0,
                fired: self.surges.1,
            }))
            .collect(),
            replay: Some(self.replay(config, measured)),
            decisions: decisions.collect(),
            site: Some(summary::Site {
                utilisation: self.gpu_utilised,
                gpu_allocated_fraction: self.gpu_allocated,
                waiting_seconds: Quantiles::of(&self.waiting, 1e-9),
                waiting: self.tenants.iter().map(|t| t.unstarted).sum(),
                waiting_at_least_seconds: Quantiles::of(&self.waiting_at_least, 1e-9),
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

    fn replay(&self, config: &Config, measured: &[Measured]) -> summary::Replay {
        let books = self.names.iter().zip(&self.tenants);
        let everything: u128 = self.tenants.iter().map(|t| t.claimed).sum();
        let tenant = |(name, book): (&String, &TenantBook)| {
            let named = config.tenants.iter().find(|t| t.name == *name);
            summary::Tenant {
                name: name.clone(),
                weight: named.map_or(1.0, |t| t.rights.weight),
                arrived: book.arrived,
                finished: book.finished,
                stopped: book.stopped,
                gpu_share: self.gpu_allocated * book.claimed as f64 / everything as f64,
                waiting_seconds: Quantiles::of(&book.waiting, 1e-9),
                waiting: book.unstarted,
                slowdown: Quantiles::of(&book.slowdown, 1e-3),
            }
        };
        let distances = measured.iter().flat_map(|m| {
            [
                ("GPU power in W", self.gpu_watts.distance(&m.power, 1.0)),
                (
                    "GPU power over its maximum",
                    self.gpu_share.distance(&m.power, m.max_watts),
                ),
                (
                    "GPU temperature in °C",
                    self.gpu_celsius.distance(&m.celsius, 1.0),
                ),
            ]
            .map(|(replayed, distance)| summary::Distance {
                measured: m.name.clone(),
                replayed: replayed.to_owned(),
                distance,
            })
        });
        summary::Replay {
            left_out: self.left_out,
            before_begin: self.before_begin,
            after_end: self.after_end,
            gangs: self.gangs,
            backfilled: self.backfilled,
            preempted: self.decided(Action::Preempt),
            restarted: self.jobs.restarted,
            at_limit: self.jobs.at_limit,
            slowdown: Quantiles::of(&self.slowdown, 1e-3),
            gpu_seconds: self.gpu_seconds,
            gpu_seconds_lost: self.discarded_gpu_seconds,
            storage_share_min: self.storage_least,
            max_kelvin_over_throttle: self.max_kelvin_over_throttle,
            fault_window: self.window.map(|w| summary::FaultWindow {
                from_seconds: w.from,
                to_seconds: w.to,
                gpu_seconds: w.gpu_seconds_kept,
                gpu_seconds_lost: w.gpu_seconds_lost,
                throttled_hot_device_seconds: w.throttled_hot_device_seconds,
                max_kelvin_over_throttle: w.max_kelvin_over_throttle,
            }),
            tenants: books.map(tenant).collect(),
            distances: distances.collect(),
        }
    }
}
