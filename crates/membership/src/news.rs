//! What is there to tell, and how often has it been told?
//!
//! A queue of peers about whom something was learned, least told first. Only
//! the peer is queued; what is told about it is whatever the roster holds when a
//! message leaves, so a refutation overtakes the suspicion it answers and old
//! news is never told. Each piece is told λ·log n times, which reaches all but
//! a fraction n^−λ of the cell (Das, Gupta, Motivala: *SWIM*, DSN 2002, § 4.1);
//! the digests find the rest.

use alloc::vec::Vec;
use core::ops::Range;

use crate::message::{Peer, SEATS};
use crate::search::bytes;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Item {
    peer: Peer,
    told: u8,
}

/// So many tellings more a refutation gets, and gets first.
const HEAD_START: u8 = 2;

/// The most that are told at once: every seat, and as many again that turn out to
/// be seated already.
const TAKEN_MAX: usize = 2 * SEATS;

//= spec 11
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct News {
    /// Sorted by `told`.
    queue: Vec<Item>,
}

impl News {
    pub(crate) const fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) const fn len(&self) -> usize {
        self.queue.len()
    }

    /// Something new about this peer: begin telling it afresh. A refutation goes
    /// before everything that was not told twice yet: while half a cell is
    /// suspected, a life hangs on it.
    pub(crate) fn add(&mut self, peer: Peer, refutes: bool) {
        let told = if refutes { 0 } else { HEAD_START };
        let at = self.queue.partition_point(|item| item.told < told);
        let item = Item { peer, told };
        match self.find(peer) {
            Some(old) if old < at => {
                self.queue.copy_within(old + 1..at, old);
                self.queue[at - 1] = item;
            }
            Some(old) => {
                self.queue.copy_within(at..old, at + 1);
                self.queue[at] = item;
            }
            None => {
                if self.queue.len() == self.queue.capacity() {
                    // By little at a time: in a burst a million members grow together.
                    self.queue.reserve_exact(8);
                }
                self.queue.insert(at, item);
            }
        }
    }

    fn find(&self, peer: Peer) -> Option<usize> {
        self.queue.iter().position(|item| item.peer == peer)
    }

    /// No more of this peer.
    pub(crate) fn drop(&mut self, peer: Peer) {
        if let Some(at) = self.find(peer) {
            self.queue.remove(at);
        }
    }

    /// Offers peers, least told first, with how often each was told, until
    /// `take` declines. Those taken were told once more, and are dropped when
    /// that was the last time.
    pub(crate) fn tell(&mut self, tellings: u8, mut take: impl FnMut(Peer, u8) -> bool) {
        let taken = self
            .queue
            .iter()
            .take(TAKEN_MAX)
            .take_while(|item| take(item.peer, item.told))
            .count();
        self.told_once_more(taken);
        let left = self
            .queue
            .partition_point(|item| item.told < tellings + HEAD_START);
        self.queue.truncate(left);
        if self.queue.is_empty() {
            self.queue = Vec::new();
        }
    }

    /// Counts a telling of the first so many and merges them back among the rest:
    /// both runs are in order, so one pass will do.
    fn told_once_more(&mut self, taken: usize) {
        let mut first = [Item {
            peer: Peer(0),
            told: 0,
        }; TAKEN_MAX];
        let first = &mut first[..taken];
        first.copy_from_slice(&self.queue[..taken]);
        first.iter_mut().for_each(|item| item.told += 1);
        let (mut from_first, mut from_rest) = (0, taken);
        for at in 0..self.queue.len() {
            let rest = self.queue.get(from_rest);
            let Some(&next) = first.get(from_first) else {
                break;
            };
            self.queue[at] = match rest {
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

    pub(crate) const fn list(&self) -> Range<*const u8> {
        bytes(self.queue.as_slice())
    }

    pub(crate) const fn heap(&self) -> usize {
        self.queue.capacity() * size_of::<Item>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(news: &mut News, seats: usize) -> Vec<u16> {
        let mut seated = Vec::new();
        news.tell(3, |peer, _| {
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
    fn the_least_told_goes_first_and_each_is_told_thrice() {
        let mut news = News::default();
        for peer in [1, 2, 3] {
            news.add(Peer(peer), false);
        }
        let mut counts = [0; 5];
        let mut rounds = Vec::new();
        while !news.is_empty() {
            if rounds.len() == 2 {
                news.add(Peer(4), false);
            }
            let seated = told(&mut news, 2);
            for &peer in &seated {
                counts[usize::from(peer)] += 1;
            }
            rounds.push(seated);
        }
        assert_eq!(counts, [0, 3, 3, 3, 3]);
        assert!(rounds[2].contains(&4), "new news waits for old: {rounds:?}");
        assert_eq!(news.heap(), 0);
    }

    #[test]
    fn a_refutation_goes_first_and_is_told_more_often() {
        let mut news = News::default();
        news.add(Peer(1), true);
        news.add(Peer(2), false);
        news.add(Peer(3), false);
        for _ in 0..HEAD_START {
            assert_eq!(told(&mut news, 1), [1]);
        }
        let mut rest = 0;
        while !news.is_empty() {
            rest += told(&mut news, 1).len();
        }
        assert_eq!(rest, 3 * 3);
    }

    #[test]
    fn fresh_news_of_a_peer_starts_over() {
        let mut news = News::default();
        news.add(Peer(1), false);
        told(&mut news, 1);
        told(&mut news, 1);
        news.add(Peer(1), false);
        assert_eq!(news.len(), 1);
        for _ in 0..3 {
            assert_eq!(told(&mut news, 1), [1]);
        }
        assert!(news.is_empty());
    }
}
