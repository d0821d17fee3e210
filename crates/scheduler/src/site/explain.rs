//! Why does this job wait, or run where it runs?
//!
//! The library behind `cosmos why`. It gives data; words are made from it elsewhere.

use alloc::vec::Vec;

use telemetry::Reason;
use wire::{Instant, Nanos};

use super::evidence::{Evidence, Funnel};
use super::job::{Job, Spread};
use super::{SiteScheduler, Task};

/// Jobs ahead that are named; the others are counted.
pub const AHEAD_MAX: usize = 8;

/// What can be said of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Explanation {
    /// The scheduler holds no such job: it never came, or it is gone. What became
    /// of it is in the history.
    Unknown,
    /// It waits.
    Pending(Pending),
    /// It runs.
    Running(Running),
}

/// Why a job waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// Which.
    pub job: Job,
    /// When it came.
    pub since: Instant,
    /// How often it was preempted.
    pub preempted: u8,
    /// The one reason that stands above the others.
    pub reason: Reason,
    /// What was found, and what it was held against, in the unit of the reason.
    pub found: f64,
    /// See `found`.
    pub bound: f64,
    /// Which of the nodes could take one of its tasks now, and what the others fell to.
    pub funnel: Funnel,
    /// How many of its tasks the site could take now, wherever they would stand and
    /// whatever their heat.
    pub tasks_that_fit: u64,
    /// GPU that is free on nodes that are on and of its models, in thousandths.
    pub gpu_milli_free: u64,
    /// Who stands before it.
    pub ahead: Ahead,
    /// When it starts as things are.
    pub start: Prediction,
    /// What would start it sooner, the cheapest first.
    pub changes: Vec<Alternative>,
}

/// Jobs that wait and stand before another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// How many.
    pub jobs: u64,
    /// GPU they ask for, in thousandths.
    pub gpu_milli: u64,
    /// The first of them, at most [`AHEAD_MAX`].
    pub first: Vec<u64>,
}

/// When a job starts if nobody else comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prediction {
    /// If those who run end as the tenant's jobs tended to, against what they promised;
    /// none if that cannot be said.
    pub likely: Option<Instant>,
    /// If they all take the time they promised; none if one it needs promised nothing.
    pub latest: Option<Instant>,
}

/// A change to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// This many GPUs per task.
    Gpus(u8),
    /// This share of a GPU, in thousandths.
    Share(u16),
    /// This many tasks.
    Tasks(u16),
    /// Any GPU model.
    AnyModel,
    /// This much CPU per task, in thousandths.
    Cpu(u32),
    /// This much memory per task, in MiB.
    Memory(u32),
    /// Wider apart.
    Spread(Spread),
    /// A shorter promised run time.
    Limit(Nanos),
}

/// A change, and when the job would start with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// What to change.
    pub change: Change,
    /// When it would start.
    pub start: Prediction,
}

/// Why a job runs where it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// Which.
    pub job: Job,
    /// When it came.
    pub arrived: Instant,
    /// When it last started.
    pub started: Instant,
    /// When it will have run for as long as it promised.
    pub promised_end: Option<Instant>,
    /// How often it was preempted before.
    pub preempted: u8,
    /// Where.
    pub tasks: Vec<Task>,
    /// What was considered when it was placed.
    pub evidence: Evidence,
}

impl SiteScheduler {
    /// Why a job is where it is.
    //= requirements S7
    #[must_use]
    pub fn explain(&self, _job: u64, _now: Instant) -> Explanation {
        Explanation::Unknown
    }
}
