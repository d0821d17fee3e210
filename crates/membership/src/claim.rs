//! What may be claimed about a member, and which of two claims holds?
//!
//! Claims are totally ordered: first by incarnation, then by state, alive below
//! suspect below removed below left. Of two, the greater holds. Hearing claims
//! in any order, any number of times, therefore ends in the same belief, and the
//! only way up from a suspicion or a removal is the member's own: a higher
//! incarnation.

use core::fmt;

/// What a member is held to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// There.
    Alive = 0,
    /// Silent when asked; has a few seconds to object.
    Suspect = 1,
    /// Gone, as far as the cell can tell.
    Removed = 2,
    /// Gone by its own word.
    Left = 3,
}

impl State {
    /// The word for it in history and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Removed => "removed",
            Self::Left => "left",
        }
    }

    /// Whether messages are sent to it: the suspect are, so that they can object.
    #[must_use]
    pub const fn is_present(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The highest incarnation: two bits of the word belong to the state. At one
/// restart a second it lasts 34 years.
pub const INCARNATION_MAX: u32 = u32::MAX >> 2;

/// A state and the incarnation it holds for, in four bytes whose order is the
/// order of claims.
//= spec 1
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim(u32);

impl Claim {
    /// Alive at incarnation 0: what is believed of a member nobody spoke about.
    pub const INITIAL: Self = Self(0);

    /// From one incarnation to the same state at the next there are so many claims.
    pub(crate) const STEP: u8 = 4;

    /// A claim.
    ///
    /// # Panics
    /// If the incarnation exceeds [`INCARNATION_MAX`].
    #[must_use]
    pub const fn new(state: State, incarnation: u32) -> Self {
        assert!(incarnation <= INCARNATION_MAX);
        Self(incarnation << 2 | state as u32)
    }

    /// The state.
    #[must_use]
    pub const fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Removed,
            _ => State::Left,
        }
    }

    /// The incarnation it holds for.
    #[must_use]
    pub const fn incarnation(self) -> u32 {
        self.0 >> 2
    }

    /// The same incarnation in another state.
    #[must_use]
    pub const fn but(self, state: State) -> Self {
        Self::new(state, self.incarnation())
    }

    /// As on the wire.
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// From the wire; every word is a claim.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(crate) const fn is_suspicion(self) -> bool {
        matches!(self.state(), State::Suspect)
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.state(), self.incarnation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= spec 1
    #[test]
    fn only_a_higher_incarnation_undoes_a_removal() {
        let rising = [
            Claim::new(State::Alive, 4),
            Claim::new(State::Suspect, 4),
            Claim::new(State::Removed, 4),
            Claim::new(State::Left, 4),
            Claim::new(State::Alive, 5),
        ];
        assert!(rising.is_sorted());
        for claim in rising {
            assert_eq!(Claim::from_bits(claim.to_bits()), claim);
            assert_eq!(Claim::new(claim.state(), claim.incarnation()), claim);
        }
    }
}
