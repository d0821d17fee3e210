//! What only a leader knows.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::{Instant, Tile};

use crate::log::{Author, Index};
use crate::state::State;
use crate::voters::Voters;

#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct Lead<S: State> {
    /// Everybody this leader sends the log to: the other voters and a newcomer.
    pub(crate) peers: BTreeMap<Tile, Progress>,
    pub(crate) newcomer: Option<Newcomer>,
    /// How many messages it has sent that want an answer.
    pub(crate) round: u64,
    /// Where the entry is with which the term began.
    pub(crate) opened: Index,
    pub(crate) next_beat: Instant,
    /// When to count whom it has heard.
    pub(crate) next_count: Instant,
    /// When the state wants to look at the time.
    pub(crate) alarm: Option<Instant>,
    pub(crate) memory: S::Memory,
    /// Who waits for which entry.
    pub(crate) askers: BTreeMap<Index, Asker>,
    /// The command each author has under way.
    pub(crate) under_way: BTreeMap<Author, u64>,
    /// Commands that wait for the next beat, or for the next that does not wait.
    pub(crate) patient: Vec<(Asker, Arc<[u8]>)>,
    pub(crate) reads: VecDeque<Read>,
    /// The first round of the latest that went to everybody.
    pub(crate) asked: u64,
}

/// How far a follower is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Progress {
    /// Its log is the leader's up to here, on its disk.
    pub(crate) matched: Index,
    /// What to try next.
    pub(crate) next: Index,
    /// The message under way with entries or a piece: its round, and when it is given up for lost.
    pub(crate) sent: Option<(u64, Instant)>,
    /// The latest round it has answered.
    pub(crate) answered: u64,
    pub(crate) heard: Instant,
    /// The snapshot it is being sent, and the first byte it lacks.
    pub(crate) piece: Option<(Index, u64)>,
}

/// A tile on its way to a vote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Newcomer {
    pub(crate) tile: Tile,
    pub(crate) asker: Asker,
    /// When it is given up.
    pub(crate) until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asker {
    pub(crate) author: Author,
    pub(crate) number: u64,
}

/// A question that waits until it is certain that this leader still led after it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Read {
    /// An answer to a message of this round or a later one is that certainty.
    pub(crate) round: u64,
    /// The state must have come so far.
    pub(crate) index: Index,
    pub(crate) asker: Asker,
    pub(crate) query: Arc<[u8]>,
}

impl<S: State> Lead<S> {
    pub(crate) fn new(now: Instant, opened: Index, beat: Instant, count: Instant) -> Self {
        Self {
            peers: BTreeMap::new(),
            newcomer: None,
            round: 0,
            opened,
            next_beat: beat,
            next_count: count,
            alarm: Some(now),
            memory: S::Memory::default(),
            askers: BTreeMap::new(),
            under_way: BTreeMap::new(),
            patient: Vec::new(),
            reads: VecDeque::new(),
            asked: 0,
        }
    }

    /// Sends the log to these and a newcomer, and to nobody else.
    pub(crate) fn serve(&mut self, now: Instant, voters: &Voters, me: Tile, next: Index) {
        let newcomer = self.newcomer.as_ref().map(|n| n.tile);
        let wanted = |tile: Tile| tile != me && (voters.contains(tile) || newcomer == Some(tile));
        self.peers.retain(|tile, _| wanted(*tile));
        for tile in voters.iter().chain(newcomer).filter(|t| wanted(*t)) {
            self.peers.entry(tile).or_insert(Progress {
                matched: Index(0),
                next,
                sent: None,
                answered: 0,
                heard: now,
                piece: None,
            });
        }
    }

    /// The most that a quorum has, each voter having what `of` says and this one `mine`.
    pub(crate) fn quorum_has<T: Copy + Ord + Default>(
        &self,
        voters: &Voters,
        me: Tile,
        mine: T,
        of: impl Fn(&Progress) -> T,
    ) -> T {
        let mut have = [T::default(); crate::voters::VOTERS_MAX];
        for (tile, seat) in voters.iter().zip(&mut have) {
            *seat = match self.peers.get(&tile) {
                _ if tile == me => mine,
                Some(progress) => of(progress),
                None => T::default(),
            };
        }
        have.sort_unstable_by(|a, b| b.cmp(a));
        have[voters.quorum() - 1]
    }
}
