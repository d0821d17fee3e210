//! Who has a vote, and how many of them are enough?

use alloc::vec::Vec;

use wire::{Decode, DecodeError, Encode, Reader, Tile};

/// The most that may have a vote. Seven survive the loss of three; each further pair makes every
/// decision wait for one more disk (requirements C3: strong consistency only in small enclaves).
//= requirements C3
pub const VOTERS_MAX: usize = 7;

/// From one to [`VOTERS_MAX`] tiles, in order of their number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Voters(Vec<Tile>);

impl Voters {
    /// A fleet as it begins.
    #[must_use]
    pub fn one(tile: Tile) -> Self {
        Self(Vec::from([tile]))
    }

    /// These; `None` if there are too few or too many. A tile named twice counts once.
    #[must_use]
    pub fn new(tiles: impl IntoIterator<Item = Tile>) -> Option<Self> {
        let mut tiles: Vec<_> = tiles.into_iter().collect();
        tiles.sort_unstable();
        tiles.dedup();
        (1..=VOTERS_MAX)
            .contains(&tiles.len())
            .then_some(Self(tiles))
    }

    /// With one more; `None` if there is no room.
    #[must_use]
    pub fn with(&self, tile: Tile) -> Option<Self> {
        Self::new(self.iter().chain([tile]))
    }

    /// With one fewer; `None` if nobody would be left.
    #[must_use]
    pub fn without(&self, tile: Tile) -> Option<Self> {
        Self::new(self.iter().filter(|t| *t != tile))
    }

    /// How many of them are more than half. Any two sets of so many share a voter, and so do a set
    /// of so many of these and one of so many of [`Voters::with`] or [`Voters::without`]: that is
    /// why voters come and go one at a time.
    #[must_use]
    pub const fn quorum(&self) -> usize {
        self.0.len() / 2 + 1
    }

    /// Whether this tile has a vote.
    #[must_use]
    pub fn contains(&self, tile: Tile) -> bool {
        self.0.contains(&tile)
    }

    /// Each of them, in order of their number.
    pub fn iter(&self) -> impl Iterator<Item = Tile> + '_ {
        self.0.iter().copied()
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }
}

impl Encode for Voters {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.0.len() as u64).encode(out);
        for tile in &self.0 {
            tile.encode(out);
        }
    }
}

impl Decode for Voters {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        let count = from.count(1)?;
        let invalid = |what, found: u64| DecodeError::Invalid { at, what, found };
        if !(1..=VOTERS_MAX).contains(&count) {
            return Err(invalid("number of voters", count as u64));
        }
        let mut tiles: Vec<Tile> = Vec::with_capacity(count);
        for _ in 0..count {
            let tile = Tile::decode(from)?;
            if tiles.last().is_some_and(|last| *last >= tile) {
                return Err(invalid("voter out of order", tile.0));
            }
            tiles.push(tile);
        }
        Ok(Self(tiles))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_of_neighbouring_sets_meet() {
        for n in 1..VOTERS_MAX as u64 {
            let few = Voters::new((0..n).map(Tile)).unwrap();
            let more = few.with(Tile(n)).unwrap();
            assert_eq!(few, more.without(Tile(n)).unwrap());
            assert!(few.quorum() + more.quorum() > more.len(), "{n}");
            assert!(2 * few.quorum() > few.len());
        }
        assert_eq!(Voters::one(Tile(3)).without(Tile(3)), None);
        let full = Voters::new((0..VOTERS_MAX as u64).map(Tile)).unwrap();
        assert_eq!(full.with(Tile(9)), None);
    }
}
