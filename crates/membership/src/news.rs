//! What is there to tell, and how often has it been told?
//!
//! A queue of peers about whom something was learned, least told first. Only
//! the peer is queued; what is told about it is whatever the roster holds when a
//! message leaves, so a refutation overtakes the suspicion it answers and old
//! news is never told. Each piece is told λ·log n times, which reaches all but
//! a fraction n^−λ of the cell (Das, Gupta, Motivala: *SWIM*, DSN 2002, § 4.1);
//! the digests find the rest.
//!
//! More than a crowd are no queue but four bits for each peer. Each is told [`FIRST`] times, least told first, and from then on
//! in turn, and each time the odds are one in what is left of λ·log n, and two more, that it was the last (Demers and others:
//! *Epidemic Algorithms*, PODC 1987, § 1.4: "coin"), so that no more need be counted. The two more make
//! up for what the coin ends too soon. That what is fresh goes first matters when halves of a cell have met again: for most of a minute
//! everybody tells of everybody, and who dies meanwhile would wait for its turn among them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use machine::Stream;

use crate::config::Config;
use crate::message::{Peer, SEATS};
use crate::plane::Plane;
use crate::search::bytes;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Item {
    peer: Peer,
    told: u8,
}

/// So many tellings more a refutation gets, and gets first.
const HEAD_START: u8 = 2;

/// So many tellings more, on average, where a coin decides.
const COIN: u8 = 2;

/// The most that are told at once: every seat, and as many again that turn out to
/// be seated already.
const TAKEN_MAX: usize = 2 * SEATS;

//= spec 11
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum News {
    /// Sorted by `told`.
    Queue(Vec<Item>),
    /// In place of a queue that would be too long.
    Crowd(Box<Crowd>),
}

impl Default for News {
    fn default() -> Self {
        Self::Queue(Vec::new())
    }
}

/// Of each peer, nothing, [`NEWS`], or by how much more than that it is still to be told before a coin decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Crowd {
    plane: Plane<4>,
    /// Whose turn it is.
    turn: Peer,
}

const NEWS: u8 = 1;

/// So often, least told first, is everything told of a crowd before a coin decides.
const FIRST: u8 = 8;
const _: () = assert!(NEWS + FIRST + HEAD_START <= Plane::<4>::MAX);

impl News {
    pub(crate) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) const fn len(&self) -> usize {
        match self {
            Self::Queue(queue) => queue.len(),
            Self::Crowd(crowd) => crowd.plane.len(),
        }
    }

    /// How many of a crowd have been told less than four times. With less than two, a cut of every cell ended in 2, 0 and 3 removals by the removed one's own side among
    /// 20,000 members (seeds 1 to 3); with this it is 1, 0 and 0; with all that was not told [`FIRST`] times deaths after the cut are known late.
    pub(crate) fn fresh(&self) -> usize {
        match self {
            Self::Queue(_) => 0,
            Self::Crowd(crowd) => {
                let fresh = NEWS + FIRST - 3..=Plane::<4>::MAX;
                fresh.map(|freshness| crowd.plane.count(freshness)).sum()
            }
        }
    }

    /// Something new about this peer: begin telling it afresh. A refutation goes
    /// before everything that was not told twice yet: while half a cell is
    /// suspected, a life hangs on it.
    pub(crate) fn add(&mut self, peer: Peer, refutes: bool, config: &Config) {
        let queue = match self {
            Self::Queue(queue) => queue,
            Self::Crowd(crowd) => return crowd.add(peer, refutes),
        };
        let told = if refutes { 0 } else { HEAD_START };
        let at = queue.partition_point(|item| item.told < told);
        let item = Item { peer, told };
        match find(queue, peer) {
            Some(old) if old < at => {
                queue.copy_within(old + 1..at, old);
                queue[at - 1] = item;
            }
            Some(old) => {
                queue.copy_within(at..old, at + 1);
                queue[at] = item;
            }
            None if queue.len() > config.crowd() => {
                let mut crowd = Crowd::of(queue, peer, config);
                crowd.add(peer, refutes);
                *self = Self::Crowd(Box::new(crowd));
            }
            None => {
                if queue.len() == queue.capacity() {
                    // By little at a time: in a burst a million members grow together.
                    queue.reserve_exact(8);
                }
                queue.insert(at, item);
            }
        }
    }

    /// No more of this peer.
    pub(crate) fn drop(&mut self, peer: Peer) {
        match self {
            Self::Queue(queue) => {
                if let Some(at) = find(queue, peer) {
                    queue.remove(at);
                }
            }
            Self::Crowd(crowd) => crowd.plane.set(peer, 0),
        }
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Offers peers, least told first, with how often each was told, until
    /// `take` declines. Those taken were told once more, and are dropped when
    /// that was the last time.
    pub(crate) fn tell(
        &mut self,
        config: &Config,
        stream: &mut Stream,
        mut take: impl FnMut(Peer, u8) -> bool,
    ) {
        let queue = match self {
            Self::Queue(queue) => queue,
            Self::Crowd(crowd) => {
                crowd.tell(config.tellings(), stream, take);
                if crowd.plane.len() <= config.crowd() / 4 {
                    *self = Self::Queue(crowd.queue());
                }
                return;
            }
        };
        let taken = queue
            .iter()
            .take(TAKEN_MAX)
            .take_while(|item| take(item.peer, item.told))
            .count();
        told_once_more(queue, taken);
        let left = queue.partition_point(|item| item.told < config.tellings() + HEAD_START);
        queue.truncate(left);
        if queue.is_empty() {
            *queue = Vec::new();
        }
    }

    pub(crate) const fn list(&self) -> Range<*const u8> {
        match self {
            Self::Queue(queue) => bytes(queue.as_slice()),
            Self::Crowd(crowd) => crowd.plane.list(),
        }
    }

    pub(crate) const fn heap(&self) -> usize {
        match self {
            Self::Queue(queue) => queue.capacity() * size_of::<Item>(),
            Self::Crowd(crowd) => size_of::<Crowd>() + crowd.plane.heap(),
        }
    }
}

fn find(queue: &[Item], peer: Peer) -> Option<usize> {
    queue.iter().position(|item| item.peer == peer)
}

/// Counts a telling of the first so many and merges them back among the rest:
/// both runs are in order, so one pass will do.
fn told_once_more(queue: &mut [Item], taken: usize) {
    let mut first = [Item {
        peer: Peer(0),
        told: 0,
    }; TAKEN_MAX];
    let first = &mut first[..taken];
    first.copy_from_slice(&queue[..taken]);
    first.iter_mut().for_each(|item| item.told += 1);
    let (mut from_first, mut from_rest) = (0, taken);
    for at in 0..queue.len() {
        let rest = queue.get(from_rest);
        let Some(&next) = first.get(from_first) else {
            break;
        };
        queue[at] = match rest {
            Some(&item) if item.told <= next.told => {
                from_rest += 1;
                item
            }
            _ => {
                from_first += 1;
                next
            }
        };
    }
}

impl Crowd {
    fn of(queue: &[Item], turn: Peer, config: &Config) -> Self {
        let mut plane = Plane::new(config.tiles());
        for item in queue {
            plane.set(
                item.peer,
                NEWS + (FIRST + HEAD_START).saturating_sub(item.told),
            );
        }
        Self { plane, turn }
    }

    fn queue(&self) -> Vec<Item> {
        let left = self.plane.marked(self.turn);
        let items = left.map(|(peer, freshness)| Item {
            peer,
            told: FIRST + HEAD_START - (freshness - NEWS),
        });
        let mut items: Vec<Item> = items.collect();
        items.sort_by_key(|item| item.told);
        items
    }

    fn add(&mut self, peer: Peer, refutes: bool) {
        let fresh = if refutes { HEAD_START } else { 0 };
        self.plane.set(peer, NEWS + FIRST + fresh);
    }

    fn tell(&mut self, tellings: u8, stream: &mut Stream, mut take: impl FnMut(Peer, u8) -> bool) {
        let mut told = [(Peer(0), 0); TAKEN_MAX];
        let in_turn = (NEWS..=Plane::<4>::MAX).rev();
        let in_turn = in_turn
            .flat_map(|freshness| {
                let peers = self.plane.with(freshness, self.turn);
                peers.map(move |peer| (peer, freshness))
            })
            .take(TAKEN_MAX)
            .take_while(|&(peer, freshness)| take(peer, NEWS + FIRST + HEAD_START - freshness));
        let mut count = 0;
        for one in in_turn {
            told[count] = one;
            count += 1;
        }
        for &(peer, freshness) in &told[..count] {
            if freshness > NEWS {
                self.plane.set(peer, freshness - 1);
                continue;
            }
            self.turn = self.plane.after(peer);
            if stream.below(u64::from((tellings + COIN).saturating_sub(FIRST).max(1))) == 0 {
                self.plane.set(peer, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::Purpose;
    use trust::Key;
    use wire::{Cell, Hexagons, Tile};

    const TELLINGS: usize = 4;

    fn config(tiles: u32) -> Config {
        Config::new(Cell(0), Hexagons::of(tiles).unwrap(), &Key::new([0; 32]))
    }

    fn told(news: &mut News, seats: usize) -> Vec<u16> {
        let mut seated = Vec::new();
        let mut stream = Stream::new(1, Tile(0), Purpose::Membership);
        let config = config(9);
        assert_eq!(usize::from(config.tellings()), TELLINGS);
        news.tell(&config, &mut stream, |peer, _| {
            let room = seated.len() < seats;
            if room {
                seated.push(peer.0);
            }
            room
        });
        seated
    }

    //= spec 11
    #[test]
    fn the_least_told_goes_first_and_each_is_told_four_times() {
        let mut news = News::default();
        for peer in [1, 2, 3] {
            news.add(Peer(peer), false, &config(9));
        }
        let mut counts = [0; 5];
        let mut rounds = Vec::new();
        while !news.is_empty() {
            if rounds.len() == 2 {
                news.add(Peer(4), false, &config(9));
            }
            let seated = told(&mut news, 2);
            for &peer in &seated {
                counts[usize::from(peer)] += 1;
            }
            rounds.push(seated);
        }
        assert_eq!(counts, [0, 4, 4, 4, 4]);
        assert!(rounds[2].contains(&4), "new news waits for old: {rounds:?}");
        assert_eq!(news.heap(), 0);
    }

    #[test]
    fn a_refutation_goes_first_and_is_told_more_often() {
        let mut news = News::default();
        news.add(Peer(1), true, &config(9));
        news.add(Peer(2), false, &config(9));
        news.add(Peer(3), false, &config(9));
        for _ in 0..HEAD_START {
            assert_eq!(told(&mut news, 1), [1]);
        }
        let mut rest = 0;
        while !news.is_empty() {
            rest += told(&mut news, 1).len();
        }
        assert_eq!(rest, 3 * TELLINGS);
    }

    #[test]
    fn fresh_news_of_a_peer_starts_over() {
        let mut news = News::default();
        news.add(Peer(1), false, &config(9));
        told(&mut news, 1);
        told(&mut news, 1);
        news.add(Peer(1), false, &config(9));
        assert_eq!(news.len(), 1);
        for _ in 0..TELLINGS {
            assert_eq!(told(&mut news, 1), [1]);
        }
        assert!(news.is_empty());
    }

    /// A crowd's news is told about as often on average, refutations first and each in turn.
    //= spec 11
    #[test]
    fn of_a_crowd_all_are_told_and_refutations_first() {
        let config = config(1_000);
        let mut stream = Stream::new(1, Tile(0), Purpose::Membership);
        let mut news = News::default();
        for peer in 0..400 {
            news.add(Peer(peer), peer >= 390, &config);
        }
        assert!(matches!(news, News::Crowd(_)));
        assert_eq!(news.len(), 400);
        let mut counts = [0_usize; 400];
        let mut told = Vec::new();
        while !news.is_empty() {
            let mut seats = 10;
            news.tell(&config, &mut stream, |peer, _| {
                if seats > 0 {
                    counts[usize::from(peer.0)] += 1;
                    told.push(peer.0);
                }
                seats -= usize::from(seats > 0);
                seats > 0
            });
        }
        let (first, rest) = told.split_at(20);
        assert!(first.iter().all(|&peer| peer >= 390), "{first:?}");
        assert!(rest.iter().take(350).all(|&peer| peer < 400));
        assert!(counts.iter().all(|&count| count > 0));
        let mean = told.len() as f64 / 400.0;
        let tellings = f64::from(config.tellings());
        // The last quarter of a crowd is a queue and told from the start.
        let coined = tellings + f64::from(COIN);
        assert!((coined * 0.9..coined * 1.2).contains(&mean), "{mean}");
    }
}
