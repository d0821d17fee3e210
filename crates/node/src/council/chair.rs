//! Who should have a vote? Whoever leads looks now and then, and asks for one change at a time.

use alloc::collections::{BTreeMap, BTreeSet};

use consensus::lease::Duty;
use consensus::{Ask, Leases, Voters};
use wire::{Instant, Nanos, Tile};

/// Whoever has not been there for so long may lose its vote. Longer than a machine takes to start again.
pub const AWAY: Nanos = Nanos::from_secs(30);

/// Between two looks.
const PAUSE: Nanos = Nanos::SECOND;

/// So many vote where there are enough, and so many where there are not: what survives the loss of two, and of one.
const MANY: usize = 5;
const FEW: usize = 3;

/// The chair of a tile: its view of who is away. It counts only while the tile leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chair {
    next: Instant,
    /// Of what it asked for.
    number: u64,
    away: BTreeMap<Tile, Instant>,
}

impl Chair {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            next: now,
            number: 0,
            away: BTreeMap::new(),
        }
    }

    pub(super) const fn deadline(&self) -> Instant {
        self.next
    }

    pub(super) fn believe(&mut self, now: Instant, tile: Tile, present: bool) {
        if present {
            self.away.remove(&tile);
        } else {
            self.away.entry(tile).or_insert(now);
        }
    }

    /// What is to be asked for, and under which number.
    pub(super) fn look(
        &mut self,
        now: Instant,
        me: Tile,
        voters: &Voters,
        present: &BTreeSet<Tile>,
        leases: &Leases,
    ) -> Option<(u64, Ask)> {
        if now < self.next {
            return None;
        }
        self.next = now + PAUSE;
        let ask = self.change(now, me, voters, present, leases)?;
        self.number += 1;
        Some((self.number, ask))
    }

    fn change(
        &mut self,
        now: Instant,
        me: Tile,
        voters: &Voters,
        present: &BTreeSet<Tile>,
        leases: &Leases,
    ) -> Option<Ask> {
        let leaves = |tile: &Tile| {
            let duty = leases.tile(*tile).map(|(duty, _)| duty);
            duty == Some(Duty::Leaving)
        };
        let stay = present.iter().filter(|tile| !leaves(tile));
        let wanted = match stay.count() {
            0..FEW => 1,
            FEW..MANY => FEW,
            _ => MANY,
        };
        // Whoever renews has a council that works, and can be reached from where the votes are.
        let stands = |tile: &Tile, as_what: Duty| {
            let stands = leases.tile(*tile);
            stands.is_some_and(|(duty, renewed)| duty == as_what && renewed.is_some())
        };
        let first = |duty: Duty| {
            let mut others = present.iter().filter(|tile| !voters.contains(**tile));
            others.find(|tile| stands(tile, duty)).copied()
        };
        let candidate = first(Duty::Serving);
        // The vote of one who leaves is somebody's before it is given back, if there is anybody. Who drains may be gone soon, and has one
        // only rather than nobody.
        if voters.iter().filter(|tile| !leaves(tile)).count() < wanted {
            let goes = voters.iter().any(|tile| leaves(&tile));
            let rather = candidate.or_else(|| first(Duty::Draining).filter(|_| goes));
            return rather.map(Ask::Admit);
        }
        // A new leader has not been told who was away before it led: it waits from when it first looks.
        let mut gone = None;
        for tile in voters
            .iter()
            .filter(|tile| *tile != me && !present.contains(tile))
        {
            let since = *self.away.entry(tile).or_insert(now);
            if now.since(since) >= AWAY {
                gone = gone.or(Some(tile));
            }
        }
        let enough =
            candidate.is_some() || voters.len() > wanted.max(FEW) || voters.len().is_multiple_of(2);
        gone.filter(|_| enough).map(Ask::Retire)
    }
}
