//! Who is held to be what?
//!
//! By exception: only members about whom something other than "alive at the level" is
//! believed take room, eight bytes each, in order of their number. A quiet cell
//! costs nothing. Nothing is ever
//! forgotten, for a removal forgotten is a dead member revived by the first
//! stale rumour, and a refutation forgotten is a suspicion revived.
//!
//! The level is the roster's own affair. It begins as incarnation 0; after a partition in
//! which everybody had to object, everybody is alive at incarnation 1, and that is then
//! what goes without saying. While one in 32 or more are exceptions, they are no list but
//! two bits for each peer, in which a look-up is one look: by how much its claim stands above the
//! level. After a burst of 50 deaths in a thousand each survivor holds 264 bytes. While a crowd
//! stands higher than two bits can say, they are four.
//!
//! The digest is a sum over all claims that does not depend on the order in
//! which they came nor on the level, so two members that agree show the same four bytes.

use alloc::vec::Vec;
use core::ops::Range;

use crate::claim::Claim;
use crate::config::Config;
use crate::message::{Peer, SECTIONS, Sections};
use crate::plane::Plane;
use crate::search::bytes;

//= spec 2
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Roster {
    /// Exceptions, in ascending order.
    listed: Vec<(Peer, Claim)>,
    /// Of all others, by how much their claims exceed the level.
    heights: Heights,
    /// What is held of everybody else: alive at some incarnation.
    level: Claim,
    digest: u32,
}

/// By how much each peer's claim exceeds the level, as far as there are numbers for it; the
/// greatest number says that the claim is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Heights {
    /// All exceptions are listed.
    #[default]
    None,
    /// Alive, suspect and removed at the level's incarnation.
    Low(Plane<2>),
    /// Three incarnations more.
    High(Plane<4>),
}

impl Heights {
    /// `None` if the claim is listed, or nothing is held of the peer but the level.
    fn get(&self, peer: Peer) -> Option<u8> {
        match self {
            Self::None => None,
            Self::Low(plane) => Some(plane.get(peer)).filter(|&height| height < Plane::<2>::MAX),
            Self::High(plane) => Some(plane.get(peer)).filter(|&height| height < Plane::<4>::MAX),
        }
    }

    /// Whether there is a number for the height.
    fn set(&mut self, peer: Peer, height: Option<u32>) -> bool {
        fn set<const BITS: u32>(plane: &mut Plane<BITS>, peer: Peer, height: Option<u32>) -> bool {
            let fits = height.filter(|&height| height < Plane::<BITS>::MAX.into());
            plane.set(peer, fits.map_or(Plane::<BITS>::MAX, |height| height as u8));
            fits.is_some()
        }
        match self {
            Self::None => false,
            Self::Low(plane) => set(plane, peer, height),
            Self::High(plane) => set(plane, peer, height),
        }
    }

    /// How many may be listed before higher numbers are better.
    fn listed_max(&self, config: &Config) -> usize {
        match self {
            // In bytes about what a plane takes.
            Self::None => (config.tiles() as usize / 32).max(8),
            Self::Low(_) => config.crowd(),
            Self::High(_) => usize::MAX,
        }
    }

    fn heap(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Low(plane) => plane.heap(),
            Self::High(plane) => plane.heap(),
        }
    }
}

impl Roster {
    pub(crate) fn claim(&self, peer: Peer) -> Claim {
        match self.heights.get(peer) {
            Some(height) => Claim::from_bits(self.level.to_bits() + u32::from(height)),
            None => self.place(peer).map_or(self.level, |at| self.listed[at].1),
        }
    }

    /// Where it stands in the list, or should.
    fn place(&self, peer: Peer) -> Result<usize, usize> {
        self.listed
            .binary_search_by_key(&peer, |&(listed, _)| listed)
    }

    /// Whether nothing was ever learned.
    pub(crate) const fn is_blank(&self) -> bool {
        self.exceptions() == 0 && self.level.to_bits() == 0
    }

    const fn exceptions(&self) -> usize {
        match &self.heights {
            Heights::None => self.listed.len(),
            Heights::Low(plane) => plane.len(),
            Heights::High(plane) => plane.len(),
        }
    }

    /// Takes a claim that exceeds the one held.
    pub(crate) fn raise(&mut self, peer: Peer, claim: Claim, config: &Config) {
        let held = self.claim(peer);
        assert!(claim > held, "{claim:?} does not exceed {held:?}");
        self.digest = self.digest.wrapping_sub(fingerprint(peer, held));
        self.digest = self.digest.wrapping_add(fingerprint(peer, claim));
        self.enter(peer, claim, config);
    }

    fn enter(&mut self, peer: Peer, claim: Claim, config: &Config) {
        let height = claim.to_bits().checked_sub(self.level.to_bits());
        let listed = !self.heights.set(peer, height) && claim != self.level;
        match self.place(peer) {
            Ok(at) if listed => self.listed[at].1 = claim,
            Ok(at) => {
                self.listed.remove(at);
            }
            Err(_) if !listed => {}
            Err(at) => {
                if self.listed.len() == self.listed.capacity() {
                    // By little at a time: most lists stay short, and a million grow at once.
                    self.listed.reserve_exact((self.listed.len() / 8).max(8));
                }
                self.listed.insert(at, (peer, claim));
            }
        }
        if self.listed.len() > self.heights.listed_max(config) {
            let heights = match self.heights {
                Heights::None => Heights::Low(Plane::new(config.tiles())),
                _ => Heights::High(Plane::new(config.tiles())),
            };
            self.rest(self.level, heights, config);
        }
    }

    pub(crate) const fn digest(&self) -> u32 {
        self.digest
    }

    /// The digest of each section, for finding where two rosters differ.
    pub(crate) fn sections(&self, tiles: u32) -> Sections {
        let mut sections = [0_u32; SECTIONS];
        for (peer, claim) in self.known(tiles, Peer(0)) {
            let section = &mut sections[section(peer)];
            *section = section.wrapping_add(fingerprint(peer, claim));
        }
        sections
    }

    /// All claims but "alive at incarnation 0", from a peer on round to the one before it.
    pub(crate) fn known(&self, tiles: u32, from: Peer) -> impl Iterator<Item = (Peer, Claim)> + '_ {
        let initial = self.level == Claim::INITIAL;
        // Nobody but those listed or marked need be looked at.
        let (listed, low, high) = match &self.heights {
            Heights::None if initial => (self.listed.as_slice(), None, None),
            Heights::Low(plane) if initial => (&[][..], Some(plane.marked(from)), None),
            Heights::High(plane) if initial => (&[][..], None, Some(plane.marked(from))),
            _ => (&[][..], None, None),
        };
        let (before, after) = listed.split_at(listed.partition_point(|&(peer, _)| peer < from));
        let listed = after.iter().chain(before).map(|&(peer, _)| peer);
        let low = low.into_iter().flatten().map(|(peer, _)| peer);
        let high = high.into_iter().flatten().map(|(peer, _)| peer);
        let everybody = (u32::from(from.0)..tiles).chain(0..from.0.into());
        let everybody = everybody.map(|tile| Peer(tile as u16));
        listed
            .chain(low)
            .chain(high)
            .chain(everybody.take(if initial { 0 } else { usize::MAX }))
            .map(|peer| (peer, self.claim(peer)))
            .filter(|(_, claim)| *claim > Claim::INITIAL)
    }

    /// Gives back what a burst made it reserve, and after a crowd's takes for granted
    /// what is held of most.
    pub(crate) fn release(&mut self, config: &Config) {
        if let Heights::High(plane) = &self.heights {
            let alive = (0..Plane::<4>::MAX).step_by(Claim::STEP.into());
            let most = alive.max_by_key(|&height| plane.count(height));
            let most = u32::from(most.unwrap_or(0));
            if most > 0 || self.exceptions() <= config.crowd() {
                let level = Claim::from_bits(self.level.to_bits() + most);
                self.rest(level, Heights::None, config);
            }
        }
        self.listed.shrink_to_fit();
    }

    /// Holds the same above another level, in numbers as high as need be.
    fn rest(&mut self, level: Claim, heights: Heights, config: &Config) {
        let before = core::mem::take(self);
        (self.level, self.digest, self.heights) = (level, before.digest, heights);
        for peer in (0..config.tiles()).map(|tile| Peer(tile as u16)) {
            self.enter(peer, before.claim(peer), config);
        }
    }

    pub(crate) const fn list(&self) -> Range<*const u8> {
        match &self.heights {
            Heights::None => bytes(self.listed.as_slice()),
            Heights::Low(plane) => plane.list(),
            Heights::High(plane) => plane.list(),
        }
    }

    pub(crate) fn heap(&self) -> usize {
        self.listed.capacity() * size_of::<(Peer, Claim)>() + self.heights.heap()
    }
}

/// Neighbours fail together, so they belong to different sections.
pub(crate) const fn section(peer: Peer) -> usize {
    peer.0 as usize % SECTIONS
}

/// Thirty-two well-mixed bits: two rosters that differ look alike once in four
/// thousand million comparisons, and the next change ends it. What nobody spoke about
/// counts nothing.
const fn fingerprint(peer: Peer, claim: Claim) -> u32 {
    if claim.to_bits() == Claim::INITIAL.to_bits() {
        return 0;
    }
    let word = (peer.0 as u64) << 32 | claim.to_bits() as u64;
    let mixed = (word ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0xd1b5_4a32_d192_ed03);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xaef1_7502_108e_f2d9);
    (mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::State;
    use machine::{Purpose, Stream};
    use trust::Key;
    use wire::{Cell, Hexagons, Tile};

    fn config(tiles: u32) -> Config {
        Config::new(Cell(0), Hexagons::of(tiles).unwrap(), &Key::new([0; 32]))
    }

    #[test]
    fn the_order_of_learning_leaves_no_trace() {
        let claims = [
            (Peer(7), Claim::new(State::Removed, 0)),
            (Peer(2), Claim::new(State::Alive, 3)),
            (Peer(900), Claim::new(State::Left, 1)),
        ];
        let mut forwards = Roster::default();
        let mut backwards = Roster::default();
        for (peer, claim) in claims {
            forwards.raise(peer, claim, &config(1_000));
        }
        backwards.raise(Peer(2), Claim::new(State::Suspect, 2), &config(1_000));
        for (peer, claim) in claims.into_iter().rev() {
            backwards.raise(peer, claim, &config(1_000));
        }
        assert_eq!(forwards, backwards);
        assert_eq!(forwards.claim(Peer(2)), Claim::new(State::Alive, 3));
        assert_eq!(forwards.claim(Peer(3)), Claim::INITIAL);
        assert!(
            forwards
                .known(1_000, Peer(3))
                .map(|(peer, _)| peer.0)
                .eq([7, 900, 2])
        );
    }

    #[test]
    fn one_bit_of_difference_shows_in_the_digest() {
        let digest = |peer, claim| {
            let mut roster = Roster::default();
            roster.raise(Peer(peer), claim, &config(1_000));
            roster.digest()
        };
        let removed = Claim::new(State::Removed, 0);
        assert_ne!(digest(1, removed), digest(2, removed));
        assert_ne!(digest(1, removed), digest(1, removed.but(State::Left)));
        assert_ne!(digest(1, removed), Roster::default().digest());
    }

    /// Whatever its form and its level, a roster holds what a table of claims would hold.
    //= spec 2
    #[test]
    fn a_roster_holds_what_a_table_holds() {
        for (seed, states) in [(1, 4), (2, 1), (3, 2)] {
            let config = config(100);
            let mut chance = Stream::new(seed, Tile(0), Purpose::Faults);
            let mut roster = Roster::default();
            let mut table = [Claim::INITIAL; 100];
            let (mut low, mut high, mut raised) = (false, false, false);
            for round in 0..2_000 {
                let at = chance.below(100) as usize;
                let claim = Claim::from_bits(table[at].to_bits() + 4 / states);
                if chance.below(20) > 0 && claim.incarnation() < 2 + round / 500 {
                    roster.raise(Peer(at as u16), claim, &config);
                    table[at] = claim;
                }
                if round % 97 == 0 {
                    roster.release(&config);
                }
                low |= matches!(roster.heights, Heights::Low(_));
                high |= matches!(roster.heights, Heights::High(_));
                raised |= roster.level > Claim::INITIAL;
                for (at, &claim) in table.iter().enumerate() {
                    assert_eq!(roster.claim(Peer(at as u16)), claim);
                }
                let peers = (0..100).map(|at| Peer(at as u16));
                let known = peers
                    .zip(table)
                    .filter(|(_, claim)| *claim > Claim::INITIAL);
                assert!(roster.known(100, Peer(0)).eq(known.clone()));
                let digest = known.fold(0_u32, |sum, (peer, claim)| {
                    sum.wrapping_add(fingerprint(peer, claim))
                });
                assert_eq!(roster.digest(), digest);
                let sections = roster.sections(100);
                assert_eq!(sections.into_iter().fold(0, u32::wrapping_add), digest);
            }
            assert!(low && high && raised, "{seed}: {low}, {high}, {raised}");
        }
    }
}
