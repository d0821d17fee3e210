//! Who is held to be what?
//!
//! By exception: only members about whom something other than "alive at
//! incarnation 0" is believed take room, six bytes each, in order of their
//! number. A quiet cell costs nothing; after a burst of 50 deaths each survivor
//! holds 300 bytes. Nothing is ever forgotten, for a removal forgotten is a
//! dead member revived by the first stale rumour.
//!
//! The digest is a sum over the exceptions that does not depend on the order in
//! which they came, so two members that agree show the same four bytes.

use alloc::vec::Vec;
use core::ops::Range;

use crate::claim::Claim;
use crate::message::{Peer, SECTIONS, Sections};
use crate::search::{self, bytes};

//= spec 2
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Roster {
    /// Whom the exceptions are about, in ascending order: looked up for every claim heard
    /// or told, so kept close together.
    peers: Vec<Peer>,
    /// What is held of each.
    claims: Vec<Claim>,
    digest: u32,
}

impl Roster {
    /// Where a peer's exception stands, until there is another.
    pub(crate) fn place(&self, peer: Peer) -> Option<usize> {
        search::in_order(&self.peers, peer)
    }

    /// The exception at a place.
    pub(crate) fn at(&self, place: usize) -> (Peer, Claim) {
        (self.peers[place], self.claims[place])
    }

    /// What is held of whom the exception at a place is about.
    pub(crate) fn held(&self, place: Option<usize>) -> Claim {
        place.map_or(Claim::INITIAL, |at| self.claims[at])
    }

    pub(crate) fn claim(&self, peer: Peer) -> Claim {
        self.held(self.place(peer))
    }

    /// Takes a claim that exceeds the one held; at which place, and whether that is new.
    pub(crate) fn raise(&mut self, peer: Peer, claim: Claim) -> (usize, bool) {
        let (at, new) = self
            .peers
            .binary_search(&peer)
            .map_or_else(|at| (at, true), |at| (at, false));
        if !new {
            let held = &mut self.claims[at];
            assert!(claim > *held, "{claim:?} does not exceed {held:?}");
            self.digest = self.digest.wrapping_sub(fingerprint(peer, *held));
            *held = claim;
        } else {
            assert!(claim > Claim::INITIAL, "{peer:?} is no exception");
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
        self.digest = self.digest.wrapping_add(fingerprint(peer, claim));
        (at, new)
    }

    pub(crate) const fn digest(&self) -> u32 {
        self.digest
    }

    /// The digest of each section, for finding where two rosters differ.
    pub(crate) fn sections(&self) -> Sections {
        let mut sections = [0_u32; SECTIONS];
        for (peer, claim) in self.iter() {
            let section = &mut sections[section(peer)];
            *section = section.wrapping_add(fingerprint(peer, claim));
        }
        sections
    }

    pub(crate) const fn len(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Peer, Claim)> + '_ {
        self.iter_in(0..self.len())
    }

    /// All exceptions once, from the one at `start` round to the one before it.
    pub(crate) fn iter_from(&self, start: usize) -> impl Iterator<Item = (Peer, Claim)> + '_ {
        self.iter_in(start..self.len())
            .chain(self.iter_in(0..start))
    }

    fn iter_in(&self, range: Range<usize>) -> impl Iterator<Item = (Peer, Claim)> + '_ {
        let peers = self.peers[range.clone()].iter().copied();
        peers.zip(self.claims[range].iter().copied())
    }

    /// Gives back what a burst made it reserve.
    pub(crate) fn release(&mut self) {
        self.peers.shrink_to_fit();
        self.claims.shrink_to_fit();
    }

    pub(crate) const fn lists(&self) -> [Range<*const u8>; 2] {
        [bytes(self.peers.as_slice()), bytes(self.claims.as_slice())]
    }

    pub(crate) const fn heap(&self) -> usize {
        self.peers.capacity() * size_of::<Peer>() + self.claims.capacity() * size_of::<Claim>()
    }
}

/// Neighbours fail together, so they belong to different sections.
pub(crate) const fn section(peer: Peer) -> usize {
    peer.0 as usize % SECTIONS
}

/// Thirty-two well-mixed bits: two rosters that differ look alike once in four
/// thousand million comparisons, and the next change ends it.
const fn fingerprint(peer: Peer, claim: Claim) -> u32 {
    let word = (peer.0 as u64) << 32 | claim.to_bits() as u64;
    let mixed = (word ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0xd1b5_4a32_d192_ed03);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xaef1_7502_108e_f2d9);
    (mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::State;

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
            forwards.raise(peer, claim);
        }
        backwards.raise(Peer(2), Claim::new(State::Suspect, 2));
        for (peer, claim) in claims.into_iter().rev() {
            backwards.raise(peer, claim);
        }
        assert_eq!(forwards, backwards);
        assert_eq!(forwards.claim(Peer(2)), Claim::new(State::Alive, 3));
        assert_eq!(forwards.claim(Peer(3)), Claim::INITIAL);
        assert!(
            forwards
                .iter_from(1)
                .map(|(peer, _)| peer.0)
                .eq([7, 900, 2])
        );
    }

    #[test]
    fn one_bit_of_difference_shows_in_the_digest() {
        let digest = |peer, claim| {
            let mut roster = Roster::default();
            roster.raise(Peer(peer), claim);
            roster.digest()
        };
        let removed = Claim::new(State::Removed, 0);
        assert_ne!(digest(1, removed), digest(2, removed));
        assert_ne!(digest(1, removed), digest(1, removed.but(State::Left)));
        assert_ne!(digest(1, removed), Roster::default().digest());
    }
}
