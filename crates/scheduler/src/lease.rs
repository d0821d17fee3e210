//! Who holds what, and until when?
//!
//! Every use of a tile is a lease with an end. Nothing has to be returned: a
//! lease that is not renewed frees itself, so a holder that dies, or is cut off
//! behind a partition, cannot keep a machine for ever.
//!
//! A lease also says how much of its tiles it promises, and whoever granted it
//! keeps count of what they gave, by their own reports: at the end of the lease the one is held
//! against the other.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use wire::Instant;

/// What work may count on.
//= requirements S2
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceLevel {
    /// Somebody waits for it: it is promised a speed.
    LatencySensitive,
    /// It takes what there is.
    #[default]
    BestEffort,
}

impl ServiceLevel {
    /// Both.
    pub const ALL: [Self; 2] = [Self::LatencySensitive, Self::BestEffort];

    /// The word for it in universes and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LatencySensitive => "latency-sensitive",
            Self::BestEffort => "best effort",
        }
    }
}

/// A level with its number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Service {
    /// The level.
    pub level: ServiceLevel,
    /// The share of full clock promised, as a mean over tiles and time.
    pub speed: f64,
}

/// Part of a cell, held by one piece of work until its term.
//= requirements S2
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The piece of work that holds it.
    pub work: u64,
    /// The tiles of the cell it runs on, one shard each.
    pub tiles: Vec<u32>,
    /// Share of each tile's compute it uses.
    pub activity: f64,
    /// Memory it uses on each.
    pub memory_mib: u32,
    /// Higher moves inward first and is preempted last.
    pub priority: u8,
    /// What it promises.
    pub service: Service,
    /// When it was granted.
    pub from: Instant,
    /// When it frees itself.
    pub until: Instant,
    /// Tiles it was granted; where some were lost they count as standing still.
    pub shards: u32,
    /// What its tiles had run before they were its own, in seconds at full clock, all together.
    pub(crate) ran_before: f64,
}

/// All leases of a cell.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    by_work: BTreeMap<u64, Lease>,
    by_end: BTreeSet<(Instant, u64)>,
}

impl Leases {
    /// None held.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            by_work: BTreeMap::new(),
            by_end: BTreeSet::new(),
        }
    }

    /// Grants a lease.
    ///
    /// # Panics
    /// If the work already holds one: granting twice would double its heat.
    pub fn grant(&mut self, lease: Lease) {
        self.by_end.insert((lease.until, lease.work));
        let before = self.by_work.insert(lease.work, lease);
        assert!(before.is_none(), "work holds one lease in a cell");
    }

    /// Ends a lease before its term.
    pub fn end(&mut self, work: u64) -> Option<Lease> {
        let lease = self.by_work.remove(&work)?;
        self.by_end.remove(&(lease.until, work));
        Some(lease)
    }

    /// Ends one lease whose term has come; call until `None`.
    pub fn expire(&mut self, now: Instant) -> Option<Lease> {
        let &(until, work) = self.by_end.first()?;
        if until > now { None } else { self.end(work) }
    }

    /// The next term.
    #[must_use]
    pub fn next_end(&self) -> Option<Instant> {
        self.by_end.first().map(|&(until, _)| until)
    }

    /// Every lease, by work.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.by_work.values()
    }

    /// Every lease, to move its shards. Terms must not be changed here.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lease> {
        self.by_work.values_mut()
    }

    /// How many are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_work.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_work.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Nanos;

    #[test]
    fn a_lease_frees_itself_at_its_term_and_not_before() {
        let mut leases = Leases::new();
        let at = |s| Instant::EPOCH + Nanos::from_secs(s);
        for (work, end) in [(1, 30), (2, 10), (3, 20)] {
            leases.grant(Lease {
                work,
                tiles: alloc::vec![0],
                activity: 1.0,
                memory_mib: 0,
                priority: 0,
                service: Service::default(),
                from: at(0),
                until: at(end),
                shards: 1,
                ran_before: 0.0,
            });
        }
        assert_eq!(leases.expire(at(9)), None);
        assert_eq!(leases.next_end(), Some(at(10)));
        assert_eq!(leases.end(3).map(|l| l.work), Some(3));
        let mut ended = Vec::new();
        while let Some(lease) = leases.expire(at(40)) {
            ended.push(lease.work);
        }
        assert_eq!(ended, [2, 1]);
        assert!(leases.is_empty());
        assert_eq!(leases.next_end(), None);
    }
}
