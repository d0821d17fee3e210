//! What is asked of a site, and by whom?
//!
//! A job is a *gang* of equal tasks that start together or not at all; a job of one
//! task is a gang of one. It belongs to a *tenant*, who has a weight, a guarantee and a
//! ceiling ([`Tenant`]), and may promise how long it runs ([`Job::limit`]): what
//! others may count on when they are to start after it.

use core::ops::{AddAssign, SubAssign};

use wire::Nanos;

use crate::ledger::{Demand, Node};

/// How a job may be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    /// May be slowed, moved, preempted and started again.
    BestEffort,
    /// Somebody waits for its answers: slowed last, moved only off a lost node,
    /// never preempted.
    LatencySensitive,
}

/// The widest domain whose nodes a gang may share. Tighter is always preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spread {
    /// All tasks on one node.
    Node,
    /// On nodes of one rack.
    Rack,
    /// On nodes of one row of racks.
    Row,
    /// Anywhere.
    #[default]
    Site,
}

impl Spread {
    /// From the tightest.
    pub const ALL: [Self; 4] = [Self::Node, Self::Rack, Self::Row, Self::Site];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Rack => "rack",
            Self::Row => "row",
            Self::Site => "site",
        }
    }
}

/// A job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Unique at its site.
    pub id: u64,
    /// Who pays: an index into the scheduler's tenants.
    pub tenant: u16,
    /// Higher goes first.
    pub priority: u8,
    /// How it may be treated.
    pub quality: Quality,
    /// How many tasks start together; at least 1.
    pub tasks: u16,
    /// What each of them needs, on one node.
    pub demand: Demand,
    /// How far apart they may be.
    pub spread: Spread,
    /// The run time its owner promises not to exceed: the field's "requested time".
    /// Without one the site's default holds, and without that no promise at all.
    pub limit: Option<Nanos>,
    /// Work between two checkpoints: a job that is stopped goes on from the last. Without
    /// any it starts from its beginning.
    pub checkpoint: Option<Nanos>,
}

impl Job {
    /// A job of one task by the first tenant, at the lowest priority, without a limit.
    #[must_use]
    pub const fn single(id: u64, quality: Quality, demand: Demand) -> Self {
        Self {
            id,
            tenant: 0,
            priority: 0,
            quality,
            tasks: 1,
            demand,
            spread: Spread::Site,
            limit: None,
            checkpoint: None,
        }
    }

    /// What all its tasks take together.
    #[must_use]
    pub fn total(&self) -> Resources {
        Resources::of(&self.demand) * u64::from(self.tasks)
    }
}

/// Amounts of the three resources that are shared out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a GPU.
    pub gpu_milli: u64,
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Memory.
    pub memory_mib: u64,
}

impl Resources {
    /// None.
    pub const NONE: Self = Self {
        gpu_milli: 0,
        cpu_milli: 0,
        memory_mib: 0,
    };
    /// More than any site has.
    pub const UNBOUNDED: Self = Self {
        gpu_milli: u64::MAX,
        cpu_milli: u64::MAX,
        memory_mib: u64::MAX,
    };

    /// What one task with this demand takes.
    #[must_use]
    pub fn of(demand: &Demand) -> Self {
        Self {
            gpu_milli: demand.gpu_total().into(),
            cpu_milli: demand.cpu_milli.into(),
            memory_mib: demand.memory_mib.into(),
        }
    }

    /// What a node has.
    #[must_use]
    pub fn in_node(node: &Node) -> Self {
        Self {
            gpu_milli: u64::from(node.gpus) * u64::from(crate::ledger::WHOLE),
            cpu_milli: node.cpu_milli.into(),
            memory_mib: node.memory_mib.into(),
        }
    }

    /// The three amounts.
    #[must_use]
    pub const fn each(&self) -> [u64; 3] {
        [self.gpu_milli, self.cpu_milli, self.memory_mib]
    }

    const fn from_each([gpu_milli, cpu_milli, memory_mib]: [u64; 3]) -> Self {
        Self {
            gpu_milli,
            cpu_milli,
            memory_mib,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let (a, b) = (self.each(), other.each());
        Self::from_each(core::array::from_fn(|i| a[i].saturating_add(b[i])))
    }

    /// What is left, and nothing where more is taken than there is.
    #[must_use]
    pub fn less(&self, other: &Self) -> Self {
        let (a, b) = (self.each(), other.each());
        Self::from_each(core::array::from_fn(|i| a[i].saturating_sub(b[i])))
    }

    /// Without what is [`u64::MAX`], which stands for "not counted".
    #[must_use]
    pub(super) fn counted(&self) -> Self {
        Self::from_each(self.each().map(|r| if r == u64::MAX { 0 } else { r }))
    }

    /// Whether taking `more` on top stays within `bound` in everything it takes.
    /// What it takes nothing of may be exceeded already.
    #[must_use]
    pub fn within(&self, more: &Self, bound: &Self) -> bool {
        let each = self.each().into_iter().zip(more.each()).zip(bound.each());
        each.into_iter()
            .all(|((have, more), bound)| more == 0 || have.saturating_add(more) <= bound)
    }

    /// The largest share it is of `whole` in any resource: the *dominant share*
    /// (Ghodsi et al., *Dominant Resource Fairness*, NSDI 2011, § 4.1).
    #[must_use]
    pub fn dominant_share(&self, whole: &Self) -> f64 {
        let shares = self.each().into_iter().zip(whole.each());
        let shares = shares.filter(|(_, whole)| *whole > 0);
        shares.fold(0.0, |most, (have, whole)| {
            f64::max(most, have as f64 / whole as f64)
        })
    }
}

impl core::ops::Mul<u64> for Resources {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        Self::from_each(self.each().map(|r| r.saturating_mul(times)))
    }
}

impl AddAssign for Resources {
    fn add_assign(&mut self, other: Self) {
        *self = self.plus(&other);
    }
}

impl SubAssign for Resources {
    fn sub_assign(&mut self, other: Self) {
        *self = self.less(&other);
    }
}

/// Who shares the site, and by which right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tenant {
    /// Its part of what is shared by fairness, against the others' weights; above 0.
    pub weight: f64,
    /// What it is guaranteed. Idle, it is lent to others; when its owner's work
    /// comes it is taken back.
    pub quota: Resources,
    /// What it never exceeds, even where nobody else wants it.
    pub ceiling: Resources,
}

impl Default for Tenant {
    /// One of many equals: weight 1, nothing guaranteed, nothing withheld.
    fn default() -> Self {
        Self {
            weight: 1.0,
            quota: Resources::NONE,
            ceiling: Resources::UNBOUNDED,
        }
    }
}
