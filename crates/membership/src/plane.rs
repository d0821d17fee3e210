//! A few bits about each of many.
//!
//! When half a cell is cut off, everybody has something to hold of everybody else. A list
//! of exceptions is then longer than a table: what takes twenty bytes in lists takes ten
//! bits here, and is found, counted and counted down sixteen at a time.

use alloc::boxed::Box;
use alloc::vec;
use core::ops::Range;

use crate::message::Peer;
use crate::search::bytes;

/// A number of so many bits, two or four, for each peer; at first 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Plane<const BITS: u32> {
    words: Box<[u64]>,
    tiles: u16,
    /// How many have each value.
    counts: [u16; 16],
}

impl<const BITS: u32> Plane<BITS> {
    const LANES: usize = (u64::BITS / BITS) as usize;
    /// The greatest number.
    pub(crate) const MAX: u8 = (1 << BITS) - 1;
    /// The lowest bit of every lane.
    const LOW: u64 = u64::MAX / Self::MAX as u64;

    pub(crate) fn new(tiles: u32) -> Self {
        let words = (tiles as usize).div_ceil(Self::LANES);
        let mut counts = [0; 16];
        counts[0] = tiles as u16;
        Self {
            words: vec![0; words].into_boxed_slice(),
            tiles: tiles as u16,
            counts,
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
        self.counts[usize::from(old)] -= 1;
        self.counts[usize::from(value)] += 1;
        self.words[word] ^= u64::from(old ^ value) << shift;
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

    pub(crate) const fn count(&self, value: u8) -> usize {
        self.counts[value as usize] as usize
    }

    /// How many are not 0.
    pub(crate) const fn len(&self) -> usize {
        (self.tiles - self.counts[0]) as usize
    }

    /// Takes one from every number of at least two.
    pub(crate) fn count_down(&mut self) {
        for word in &mut self.words {
            let two_or_more = (1..BITS).fold(0, |found, bit| found | *word >> bit) & Self::LOW;
            *word -= two_or_more;
        }
        self.counts[1] += self.counts[2];
        self.counts.copy_within(3.., 2);
        self.counts[15] = 0;
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
        let words = self.words.len();
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
