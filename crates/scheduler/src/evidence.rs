//! Which tests did the nodes fall to, and which were left?
//!
//! Every node is held against the same tests in the same order and falls to the first
//! it fails; what is left competes by score. The counts are a [`Funnel`], the best of
//! what was left are candidates, and both together are what a decision rests on. It is small
//! and bounded, is taken when the decision is made, and so stays true afterwards.
//!
//! A [site](crate::site) and a [fleet](crate::fleet) share the tests, the funnel and the words; each has its own tests
//! beside those of the [`Ledger`](crate::Ledger), and its own terms of a score ([`Evidence`] is a site's).

use alloc::vec::Vec;

use crate::ledger::Lack;
use crate::policy::Terms;

/// Candidates kept per decision.
pub const CANDIDATES_MAX: usize = 5;

/// What a node is tested for, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// Not lost.
    Lost,
    /// Not switched off for its cooling loop's sake.
    Parked,
    /// Heard from a moment ago.
    Silent,
    /// Not told to hand over what it runs.
    Draining,
    /// One of the GPU models asked for.
    Model,
    /// Enough free CPU.
    Cpu,
    /// Enough free memory.
    Memory,
    /// Enough free GPU: whole ones, or a share of a single one.
    Gpu,
    /// Free ports where it has to be reached.
    Port,
    /// Not resting because it could not run it a moment ago.
    Resting,
    /// At a site that has room for the whole gang, wherever its tasks would stand.
    Number,
    /// In a rack, row or site that has room for the whole gang.
    Topology,
    /// On a cooling loop with headroom for the heat.
    Heat,
    /// Not needed by what is due before.
    Reservation,
}

impl Test {
    /// In their order.
    pub const ALL: [Self; 14] = [
        Self::Lost,
        Self::Parked,
        Self::Silent,
        Self::Draining,
        Self::Model,
        Self::Cpu,
        Self::Memory,
        Self::Gpu,
        Self::Port,
        Self::Resting,
        Self::Number,
        Self::Topology,
        Self::Heat,
        Self::Reservation,
    ];

    /// Those that the nodes of a site are held against.
    pub const OF_A_SITE: [Self; 10] = [
        Self::Lost,
        Self::Parked,
        Self::Model,
        Self::Cpu,
        Self::Memory,
        Self::Gpu,
        Self::Number,
        Self::Topology,
        Self::Heat,
        Self::Reservation,
    ];

    /// Those that the machines of a fleet are held against.
    pub const OF_A_FLEET: [Self; 7] = [
        Self::Silent,
        Self::Draining,
        Self::Cpu,
        Self::Memory,
        Self::Gpu,
        Self::Port,
        Self::Resting,
    ];

    /// What a node lacks that falls to it, in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Parked => "switched off because their loop is too warm",
            Self::Silent => "not heard from",
            Self::Draining => "draining",
            Self::Model => "other GPU model",
            Self::Cpu => "too little CPU free",
            Self::Memory => "too little memory free",
            Self::Gpu => "too little GPU free",
            Self::Port => "run something that takes one of its ports",
            Self::Resting => "resting, as they could not run it a moment ago",
            Self::Number => "too few like it for the whole gang",
            Self::Topology => "too far apart for the gang",
            Self::Heat => "no heat headroom",
            Self::Reservation => "reserved for the head of the queue",
        }
    }
}

impl From<Lack> for Test {
    fn from(lack: Lack) -> Self {
        match lack {
            Lack::Lost => Self::Lost,
            Lack::Parked => Self::Parked,
            Lack::Model => Self::Model,
            Lack::Cpu => Self::Cpu,
            Lack::Memory => Self::Memory,
            Lack::Gpu => Self::Gpu,
        }
    }
}

/// How many nodes fell to which test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Funnel {
    /// Nodes there are.
    pub nodes: u32,
    /// How many fell to each of [`Test::ALL`].
    pub fell: [u32; Test::ALL.len()],
}

impl Funnel {
    /// How many were left after a test.
    #[must_use]
    pub fn left_after(&self, test: Test) -> u32 {
        self.nodes - self.fell[..=test as usize].iter().sum::<u32>()
    }

    /// How many passed all.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.left_after(Test::Reservation)
    }

    /// The last test that any fell to: what keeps those away that came nearest. None if none fell.
    #[must_use]
    pub fn furthest(&self) -> Option<Test> {
        let mut tests = Test::ALL.into_iter();
        tests.rfind(|test| self.fell[*test as usize] > 0)
    }

    pub(crate) const fn falls(&mut self, test: Test) {
        self.fell[test as usize] += 1;
    }
}

/// A node that could take a task, and the terms of its score; the lowest sum wins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Which.
    pub node: u32,
    /// What the placement policy thinks of it, about 0 for the best; see
    /// [`Fit`](crate::policy::Fit).
    pub fit: f64,
    /// What the fit is the sum of, if the policy says so.
    pub terms: Option<Terms>,
    /// What the load of its cooling loop adds.
    pub heat: f64,
}

impl Candidate {
    /// The sum.
    #[must_use]
    pub const fn score(&self) -> f64 {
        self.fit + self.heat
    }
}

/// What a decision rests on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// The nodes.
    pub funnel: Funnel,
    /// The best that were left, from the best; at most [`CANDIDATES_MAX`].
    pub candidates: Vec<Candidate>,
    /// The jobs that brought it about: for whom a victim made room, who is ahead.
    pub because_of: Vec<u64>,
}
