//! Who is held to be what?
//!
//! By exception: only members about whom something other than "alive at the level" is
//! believed take room, six bytes each, in order of their number. A quiet cell
//! costs nothing; after a burst of 50 deaths each survivor holds 300 bytes. Nothing is ever
//! forgotten, for a removal forgotten is a dead member revived by the first
//! stale rumour, and a refutation forgotten is a suspicion revived.
//!
//! The level is the roster's own affair. It begins as incarnation 0; after a partition in
//! which everybody had to object, everybody is alive at incarnation 1, and that is then
//! what goes without saying. While more than a crowd are exceptions, they are no list but
//! four bits for each peer: by how much its claim stands above the level.
//!
//! The digest is a sum over all claims that does not depend on the order in
//! which they came nor on the level, so two members that agree show the same four bytes.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use crate::claim::Claim;
use crate::config::Config;
use crate::message::{Peer, SECTIONS, Sections};
use crate::plane::Plane;
use crate::search::{self, bytes};

//= spec 2
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Roster {
    /// Whom the listed exceptions are about, in ascending order: looked up for every claim heard
    /// or told, so kept close together.
    peers: Vec<Peer>,
    /// What is held of each.
    claims: Vec<Claim>,
    /// Of each peer, by how much its claim exceeds the level, or [`LISTED`].
    heights: Option<Box<Plane<4>>>,
    /// What is held of everybody else: alive at some incarnation.
    level: Claim,
    digest: u32,
}

/// A height that is none: what is held stands in the list.
const LISTED: u8 = Plane::<4>::MAX;

impl Roster {
    pub(crate) fn claim(&self, peer: Peer) -> Claim {
        match self.heights.as_ref().map(|heights| heights.get(peer)) {
            None | Some(LISTED) => {
                search::in_order(&self.peers, peer).map_or(self.level, |at| self.claims[at])
            }
            Some(height) => Claim::from_bits(self.level.to_bits() + u32::from(height)),
        }
    }

    /// Whether nothing was ever learned.
    pub(crate) const fn is_blank(&self) -> bool {
        self.exceptions() == 0 && self.level.to_bits() == 0
    }

    const fn exceptions(&self) -> usize {
        match &self.heights {
            Some(heights) => heights.len(),
            None => self.peers.len(),
        }
    }

    /// Takes a claim that exceeds the one held.
    pub(crate) fn raise(&mut self, peer: Peer, claim: Claim, config: &Config) {
        let held = self.claim(peer);
        assert!(claim > held, "{claim:?} does not exceed {held:?}");
        self.digest = self.digest.wrapping_sub(fingerprint(peer, held));
        self.digest = self.digest.wrapping_add(fingerprint(peer, claim));
        self.enter(peer, claim);
        if self.heights.is_none() && self.peers.len() > config.crowd() {
            self.heights = Some(Box::new(Plane::new(config.tiles())));
            let peers = core::mem::take(&mut self.peers);
            let claims = core::mem::take(&mut self.claims);
            for (peer, claim) in peers.into_iter().zip(claims) {
                self.enter(peer, claim);
            }
        }
    }

    fn enter(&mut self, peer: Peer, claim: Claim) {
        let place = self.peers.binary_search(&peer);
        let mut listed = claim != self.level;
        if let Some(heights) = &mut self.heights {
            let height = claim.to_bits().checked_sub(self.level.to_bits());
            let height = height.and_then(|height| u8::try_from(height).ok());
            let height = height.unwrap_or(LISTED).min(LISTED);
            heights.set(peer, height);
            listed = height == LISTED;
        }
        match place {
            Ok(at) if listed => self.claims[at] = claim,
            Ok(at) => {
                self.peers.remove(at);
                self.claims.remove(at);
            }
            Err(_) if !listed => {}
            Err(at) => {
                if self.peers.len() == self.peers.capacity() {
                    // An eighth more, or eight: most rosters stay short, and a
                    // million of them grow at once.
                    let more = (self.peers.len() / 8).max(8);
                    self.peers.reserve_exact(more);
                    self.claims.reserve_exact(more);
                }
                self.peers.insert(at, peer);
                self.claims.insert(at, claim);
            }
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
        // Nobody but those in the list need be looked at.
        let only_listed = self.heights.is_none() && self.level == Claim::INITIAL;
        let at = self.peers.partition_point(|&peer| peer < from);
        let listed = (at..self.peers.len()).chain(0..at);
        let listed = listed.map(|at| (self.peers[at], self.claims[at]));
        let everybody = (u32::from(from.0)..tiles).chain(0..from.0.into());
        let everybody = everybody.map(|tile| Peer(tile as u16));
        let everybody = everybody.map(|peer| (peer, self.claim(peer)));
        listed
            .take(if only_listed { usize::MAX } else { 0 })
            .chain(everybody.take(if only_listed { 0 } else { usize::MAX }))
            .filter(|(_, claim)| *claim > Claim::INITIAL)
    }

    /// Gives back what a burst made it reserve, and after a crowd's takes for granted
    /// what is held of most.
    pub(crate) fn release(&mut self, config: &Config) {
        if let Some(heights) = &self.heights {
            let most = (0..LISTED).step_by(Claim::STEP.into());
            let most = most.max_by_key(|&height| heights.count(height));
            let most = u32::from(most.unwrap_or(0));
            if most > 0 {
                self.rest_at(Claim::from_bits(self.level.to_bits() + most), config);
            }
            if self.exceptions() <= config.crowd() {
                self.rest_in_lists(config);
            }
        }
        self.peers.shrink_to_fit();
        self.claims.shrink_to_fit();
    }

    fn rest_at(&mut self, level: Claim, config: &Config) {
        let before = self.clone();
        self.level = level;
        for peer in (0..config.tiles()).map(|tile| Peer(tile as u16)) {
            self.enter(peer, before.claim(peer));
        }
    }

    fn rest_in_lists(&mut self, config: &Config) {
        let before = core::mem::take(self);
        (self.level, self.digest) = (before.level, before.digest);
        for peer in (0..config.tiles()).map(|tile| Peer(tile as u16)) {
            self.enter(peer, before.claim(peer));
        }
    }

    pub(crate) fn lists(&self) -> [Range<*const u8>; 2] {
        let peers = match &self.heights {
            Some(heights) => heights.list(),
            None => bytes(self.peers.as_slice()),
        };
        [peers, bytes(self.claims.as_slice())]
    }

    pub(crate) fn heap(&self) -> usize {
        let heights = self
            .heights
            .as_ref()
            .map_or(0, |heights| size_of::<Plane<4>>() + heights.heap());
        let lists =
            self.peers.capacity() * size_of::<Peer>() + self.claims.capacity() * size_of::<Claim>();
        lists + heights
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
            let (mut painted, mut raised) = (false, false);
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
                painted |= roster.heights.is_some();
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
            assert!(painted && raised, "{seed}: {painted}, {raised}");
        }
    }
}
