//! Is it them, or is it me?
//!
//! A member that is slow, starved or cut off sees everybody else fail. It keeps
//! score of the signs that the fault is its own, and multiplies its own timeouts
//! by one more than the score (Lifeguard, § IV-A). Signs: a relay that did not
//! even say it heard the request, a suspicion it had to refute, a deadline it
//! slept through. A probe answered in time takes one away.

/// The local health score: 0 is well.
//= spec 8
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Health(u8);

impl Health {
    /// Timeouts grow ninefold and no further (Lifeguard's S = 8).
    pub(crate) const WORST: u8 = 8;

    pub(crate) const fn score(self) -> u8 {
        self.0
    }

    pub(crate) const fn factor(self) -> u64 {
        self.0 as u64 + 1
    }

    pub(crate) fn worsen(&mut self, by: u8) {
        self.0 = self.0.saturating_add(by).min(Self::WORST);
    }

    pub(crate) const fn improve(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }
}
