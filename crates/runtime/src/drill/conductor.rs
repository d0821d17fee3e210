//! Who throws the balls of a drill, and counts what comes back.
//!
//! The outside of a braid: it offers what waits in order, hears reports, and never
//! asks a torus anything. So it neither knows nor cares which of them died.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use machine::{Purpose, Stream};
use wire::{Instant, Nanos, Tile};

use super::player::{Ball, Player};
use crate::lattice::Lattice;
use crate::pid::{Pid, Strand, Weight};
use crate::post::{Offer, Report};

/// What kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Balls that go around a ring of all players, through all three strands.
    Ring {
        /// How far each goes.
        hops: u64,
    },
    /// Trees (*skynet*): each process starts so many, down to the leaves, whose numbers
    /// add up on the way back.
    Tree {
        /// Branches of a branch.
        branches: u64,
        /// Leaves of each tree.
        leaves: u64,
    },
    /// Balls that go from player to player anywhere.
    Errands {
        /// Players on the way, beside the first.
        stops: u32,
        /// Time for each stop; as long as it takes if zero.
        hurry: Nanos,
    },
}

/// A drill.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Players on all three strands together, one on each at least.
    pub players: u32,
    /// What they do.
    pub work: Work,
    /// Pieces of it.
    pub pieces: u64,
    /// Pieces under way at once, at most.
    pub at_once: u64,
    /// From the beginning of one piece to that of the next, at least.
    pub every: Nanos,
    /// Chance of who is thrown what.
    pub seed: u64,
}

/// Throws and counts.
#[derive(Clone, Debug)]
pub struct Conductor {
    plan: Plan,
    chance: Stream,
    offers: VecDeque<(Strand, Offer<Player>)>,
    /// Players to be on each strand, and their names as they become known, the first of
    /// whom is the one that started the others.
    wanted: [u32; 3],
    names: [Vec<Pid>; 3],
    ring_is_closed: bool,
    begun: u64,
    next_at: Instant,
    /// When each piece under way began.
    under_way: BTreeMap<u64, Instant>,
    ended: u64,
    doubled: u64,
    miscounted: u64,
    nobody: u64,
}

/// What the players on one torus amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Players that are there.
    pub players: u64,
    /// Balls they passed.
    pub passed: u64,
    /// Turns taken since the beginning.
    pub turns: u64,
    /// Deadlines missed.
    pub missed: u64,
    /// Messages that found nobody.
    pub astray: u64,
    /// Messages that wait.
    pub mail: u64,
}

/// What is wrong with how a drill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Work that was begun and never ended.
    #[error("{0} pieces of work never ended")]
    Lost(u64),
    /// Work that ended twice.
    #[error("{0} pieces of work ended more than once")]
    Doubled(u64),
    /// Trees whose leaves add up to something else.
    #[error("{0} trees have other leaves than they should")]
    Miscounted(u64),
    /// Balls passed more often or less.
    #[error("balls were passed {found} times, expected {owed}")]
    Passed {
        /// How often.
        found: u64,
        /// How often they should have been.
        owed: u64,
    },
    /// More players or fewer.
    #[error("{found} players are there, expected {owed}")]
    Players {
        /// How many.
        found: u64,
        /// How many should be.
        owed: u64,
    },
    /// Messages for nobody.
    #[error("{0} messages found nobody")]
    Astray(u64),
}

impl Sums {
    /// Of one torus.
    #[must_use]
    pub fn of(lattice: &Lattice<Player>) -> Self {
        let tally = lattice.tally();
        Self {
            players: lattice.processes().into(),
            passed: lattice.passed(),
            turns: tally.events,
            missed: tally.missed,
            astray: tally.astray,
            mail: lattice.mail().into(),
        }
    }
}

impl Conductor {
    /// Before anybody stands anywhere.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let players = plan.players.max(3);
        let wanted = core::array::from_fn(|s| players / 3 + u32::from(players % 3 > s as u32));
        let founder = || Offer::Spawn {
            process: Player::default(),
            weight: Weight::MOST,
        };
        Self {
            chance: Stream::new(plan.seed, Tile(0), Purpose::Work),
            offers: Strand::ALL.map(|strand| (strand, founder())).into(),
            plan,
            wanted,
            names: Default::default(),
            ring_is_closed: false,
            begun: 0,
            next_at: Instant::EPOCH,
            under_way: BTreeMap::new(),
            ended: 0,
            doubled: 0,
            miscounted: 0,
            nobody: 0,
        }
    }

    /// What is to be offered next, and to whom: in this order for each strand.
    pub fn next(&mut self, now: Instant) -> Option<(Strand, Offer<Player>)> {
        if self.offers.is_empty() && self.may_begin() && self.next_at <= now {
            self.next_at = now + self.plan.every;
            self.begin(now);
        }
        self.offers.pop_front()
    }

    /// When to ask for the next, if not only after the next report.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if !self.offers.is_empty() {
            return Some(Instant::EPOCH);
        }
        self.may_begin().then_some(self.next_at)
    }

    fn may_begin(&self) -> bool {
        self.ring_is_closed
            && self.begun < self.plan.pieces
            && (self.under_way.len() as u64) < self.plan.at_once
    }

    fn anybody(&mut self) -> Pid {
        let all: usize = self.names.iter().map(Vec::len).sum();
        let mut nth = self.chance.below(all as u64) as usize;
        for names in &self.names {
            match names.get(nth) {
                Some(name) => return *name,
                None => nth -= names.len(),
            }
        }
        unreachable!("fewer than there are")
    }

    fn begin(&mut self, now: Instant) {
        let number = self.begun;
        self.begun += 1;
        self.under_way.insert(number, now);
        let to = self.anybody();
        let ball = match self.plan.work {
            Work::Ring { hops } => Ball::Roll { number, hops },
            Work::Tree { branches, leaves } => Ball::Plant {
                number,
                leaves,
                branches,
            },
            Work::Errands { stops, hurry } => Ball::Errand {
                number,
                hurry,
                stops: (0..stops).map(|_| self.anybody()).collect(),
            },
        };
        self.say(to, ball);
    }

    fn say(&mut self, to: Pid, message: Ball) {
        let due = Instant::END;
        let offer = Offer::Message { to, message, due };
        self.offers.push_back((to.strand(), offer));
    }

    /// A strand has told something, each of which is to be handed in once.
    pub fn hear(&mut self, strand: Strand, report: Report<Ball>) {
        let at = strand as usize;
        match report {
            Report::Spawned { pid, .. } => {
                self.names[at].push(pid);
                let left = self.wanted[at] - 1;
                if left > 0 {
                    self.say(pid, Ball::Build { left });
                }
            }
            Report::Said { message, .. } => match message {
                Ball::Names(names) => self.names[at].extend(names),
                Ball::Done { number, sum } => {
                    if self.under_way.remove(&number).is_some() {
                        self.ended += 1;
                        self.miscounted += u64::from(sum != self.sum());
                    } else {
                        self.doubled += 1;
                    }
                }
                _ => {}
            },
            Report::Nobody { .. } => self.nobody += 1,
        }
        let are_there = |of: usize| self.names[of].len() as u64 >= self.wanted[of].into();
        if !self.ring_is_closed && (0..3).all(are_there) {
            self.ring_is_closed = true;
            for of in 0..3 {
                let first = self.names[of][0];
                let last = *self.names[(of + 1) % 3].last().expect("one at least");
                self.say(first, Ball::Next(last));
            }
        }
    }

    /// What a piece should add up to.
    const fn sum(&self) -> u64 {
        match self.plan.work {
            Work::Tree { leaves, .. } => leaves * (leaves - 1) / 2,
            Work::Ring { .. } | Work::Errands { .. } => 0,
        }
    }

    /// Whether all players are there.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.ring_is_closed
    }

    /// So many more pieces may begin.
    pub const fn open(&mut self, pieces: u64) {
        self.plan.pieces = self.begun.saturating_add(pieces);
    }

    /// No piece begins any more.
    pub fn close(&mut self) {
        self.plan.pieces = self.begun;
    }

    /// Whether every piece has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ring_is_closed && self.ended == self.plan.pieces
    }

    /// Pieces begun.
    #[must_use]
    pub const fn begun(&self) -> u64 {
        self.begun
    }

    /// Pieces that have ended.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.ended
    }

    /// Balls that are passed while one piece is done.
    #[must_use]
    pub const fn passes(&self) -> u64 {
        match self.plan.work {
            Work::Ring { hops } => hops + 1,
            Work::Errands { stops, .. } => stops as u64 + 1,
            Work::Tree { .. } => 0,
        }
    }

    /// Everything that is wrong, once nothing is to be waited for any more.
    #[must_use]
    pub fn judge(&self, tori: &[Sums; 3]) -> Vec<Wrong> {
        let sum = |of: fn(&Sums) -> u64| tori.iter().map(of).sum::<u64>();
        let (passed, owed) = (sum(|s| s.passed), self.begun * self.passes());
        let (found, players) = (sum(|s| s.players), self.plan.players.max(3).into());
        let astray = sum(|s| s.astray) + self.nobody;
        let lost = self.begun - self.ended;
        [
            (lost > 0).then_some(Wrong::Lost(lost)),
            (self.doubled > 0).then_some(Wrong::Doubled(self.doubled)),
            (self.miscounted > 0).then_some(Wrong::Miscounted(self.miscounted)),
            (passed != owed).then_some(Wrong::Passed {
                found: passed,
                owed,
            }),
            (found != players).then_some(Wrong::Players {
                found,
                owed: players,
            }),
            (astray > 0).then_some(Wrong::Astray(astray)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
