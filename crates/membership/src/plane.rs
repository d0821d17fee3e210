//! A few bits about each of many.
//!
//! When half a cell is cut off, everybody has something to hold of everybody else. A list
//! of exceptions is then longer than a table: what takes twenty bytes in lists takes a dozen
//! bits here, and is found, counted and counted down sixteen at a time.

use alloc::boxed::Box;
use alloc::vec;
use core::ops::Range;

use crate::message::Peer;
use crate::search::bytes;

/// A number of so many bits, two or four, for each peer; at first 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Plane<const BITS: u32> {
    /// The numbers, and after them how many have each value, four counts a word.
    words: Box<[u64]>,
    tiles: u16,
}

impl<const BITS: u32> Plane<BITS> {
    const LANES: usize = (u64::BITS / BITS) as usize;
    /// The greatest number.
    pub(crate) const MAX: u8 = (1 << BITS) - 1;
    /// The lowest bit of every lane.
    const LOW: u64 = u64::MAX / Self::MAX as u64;
    const COUNTS: usize = (1 << BITS) / 4;

    pub(crate) fn new(tiles: u32) -> Self {
        let numbers = (tiles as usize).div_ceil(Self::LANES);
        let mut words = vec![0; numbers + Self::COUNTS];
        words[numbers] = tiles.into();
        Self {
            words: words.into_boxed_slice(),
            tiles: tiles as u16,
        }
    }

    pub(crate) fn get(&self, peer: Peer) -> u8 {
        let (word, shift) = Self::lane(peer);
        (self.words[word] >> shift) as u8 & Self::MAX
    }

    pub(crate) fn set(&mut self, peer: Peer, value: u8) {
        debug_assert!(value <= Self::MAX && peer.0 < self.tiles);
        let (word, shift) = Self::lane(peer);
        let old = (self.words[word] >> shift) as u8 & Self::MAX;
        self.words[word] ^= u64::from(old ^ value) << shift;
        self.recount(old, value, 1);
    }

    const fn lane(peer: Peer) -> (usize, u32) {
        let at = peer.0 as usize;
        (at / Self::LANES, (at % Self::LANES) as u32 * BITS)
    }

    pub(crate) const fn tiles(&self) -> u16 {
        self.tiles
    }

    /// The next in order.
    pub(crate) const fn after(&self, peer: Peer) -> Peer {
        Peer((peer.0 + 1) % self.tiles)
    }

    const fn numbers(&self) -> usize {
        self.words.len() - Self::COUNTS
    }

    pub(crate) const fn count(&self, value: u8) -> usize {
        let (word, shift) = self.counted(value);
        (self.words[word] >> shift) as u16 as usize
    }

    const fn counted(&self, value: u8) -> (usize, u32) {
        (self.numbers() + value as usize / 4, value as u32 % 4 * 16)
    }

    /// So many have another value than before.
    fn recount(&mut self, old: u8, new: u8, many: usize) {
        let (word, shift) = self.counted(old);
        self.words[word] -= (many as u64) << shift;
        let (word, shift) = self.counted(new);
        self.words[word] += (many as u64) << shift;
    }

    /// How many are not 0.
    pub(crate) const fn len(&self) -> usize {
        self.tiles as usize - self.count(0)
    }

    /// Takes one from every number of at least two.
    pub(crate) fn count_down(&mut self) {
        let numbers = self.numbers();
        for word in &mut self.words[..numbers] {
            let two_or_more = (1..BITS).fold(0, |found, bit| found | *word >> bit) & Self::LOW;
            *word -= two_or_more;
        }
        for value in 2..=Self::MAX {
            self.recount(value, value - 1, self.count(value));
        }
    }

    /// Those that are not 0, in order, from one on round to the one before it.
    pub(crate) fn marked(&self, from: Peer) -> impl Iterator<Item = (Peer, u8)> + '_ {
        let differs = move |word: u64| Self::marks(word);
        self.round(from, self.len(), differs)
    }

    /// Those with this value, other than 0, in the same order.
    pub(crate) fn with(&self, value: u8, from: Peer) -> impl Iterator<Item = Peer> + '_ {
        let equals = move |word: u64| {
            let differs = Self::marks(word ^ (Self::LOW * u64::from(value)));
            Self::LOW & !differs
        };
        let found = self.round(from, self.count(value), equals);
        found.map(|(peer, _)| peer)
    }

    /// The lowest bit of each lane that is not 0.
    fn marks(word: u64) -> u64 {
        (0..BITS).fold(0, |found, bit| found | word >> bit) & Self::LOW
    }

    /// So many that a test of a word picks out by the lowest bits of their lanes.
    fn round(
        &self,
        from: Peer,
        count: usize,
        test: impl Fn(u64) -> u64 + 'static,
    ) -> impl Iterator<Item = (Peer, u8)> + '_ {
        let (first, shift) = Self::lane(from);
        let words = self.numbers();
        // The first word is looked at twice: from the start on, and last up to it.
        let (mut step, mut rest) = (0, 0_u64);
        core::iter::from_fn(move || {
            loop {
                if rest != 0 {
                    let lane = rest.trailing_zeros();
                    rest &= rest - 1;
                    let word = (first + step - 1) % words;
                    let peer = Peer((word * Self::LANES) as u16 + (lane / BITS) as u16);
                    return Some((peer, (self.words[word] >> lane) as u8 & Self::MAX));
                }
                if step > words {
                    return None;
                }
                let found = test(self.words[(first + step) % words]);
                let before = (1_u64 << shift) - 1;
                rest = match step {
                    0 => found & !before,
                    last if last == words => found & before,
                    _ => found,
                };
                step += 1;
            }
        })
        .take(count)
    }

    pub(crate) const fn list(&self) -> Range<*const u8> {
        bytes(&self.words)
    }

    pub(crate) const fn heap(&self) -> usize {
        size_of::<u64>() * self.words.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use machine::{Purpose, Stream};
    use wire::Tile;

    fn holds_what_a_table_holds<const BITS: u32>(tiles: u32) {
        let mut chance = Stream::new(1, Tile(0), Purpose::Faults);
        let mut plane = Plane::<BITS>::new(tiles);
        let mut table = vec![0_u8; tiles as usize];
        for round in 0..200 {
            let at = chance.below(tiles.into()) as u16;
            let value = chance.below(1 << BITS) as u8;
            plane.set(Peer(at), value);
            table[usize::from(at)] = value;
            if round % 50 == 49 {
                plane.count_down();
                let more = table.iter_mut().filter(|value| **value >= 2);
                more.for_each(|value| *value -= 1);
            }
            let from = chance.below(tiles.into()) as usize;
            let order = || (from..table.len()).chain(0..from);
            let marked: Vec<_> = plane.marked(Peer(from as u16)).collect();
            let expected = order().filter(|&at| table[at] != 0);
            let expected: Vec<_> = expected.map(|at| (Peer(at as u16), table[at])).collect();
            assert_eq!(marked, expected);
            assert_eq!(plane.len(), expected.len());
            for value in 1..1 << BITS {
                let with = plane
                    .with(value, Peer(from as u16))
                    .map(|peer| peer.0 as usize);
                assert!(with.eq(order().filter(|&at| table[at] == value)));
                let count = table.iter().filter(|&&other| other == value).count();
                assert_eq!(plane.count(value), count);
            }
        }
        for (at, &value) in table.iter().enumerate() {
            assert_eq!(plane.get(Peer(at as u16)), value);
        }
    }

    #[test]
    fn a_plane_holds_what_a_table_holds() {
        for tiles in [9, 16, 33, 100] {
            holds_what_a_table_holds::<2>(tiles);
            holds_what_a_table_holds::<4>(tiles);
        }
    }
}
