//! What does a time mean to somebody who was not there?
//!
//! Nodes light-hours apart share no present. A time that leaves its node says
//! from which external epoch it is counted, by how much, where the clock stood,
//! how wrong it may be, and carries a logical count so that cause comes before
//! effect even when clocks disagree.

use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::codec::{Decode, DecodeError, Encode, Reader};
use crate::holon::Tile;
use crate::time::Nanos;

/// A time with everything needed to judge it.
//= requirements T2
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Count of the external (pulsar) epoch the offset starts from.
    pub epoch: u32,
    /// Nanoseconds since that epoch by the clock at `position`.
    pub offset: Nanos,
    /// Whose clock.
    pub position: Tile,
    /// Half-width of the interval the true time lies in.
    pub uncertainty: Nanos,
    /// Lamport count: above that of everything this stamp has seen.
    pub logical: u64,
}

impl Stamp {
    /// Whether this certainly lies before `other`: the intervals do not touch,
    /// or the logical counts order them at one position. `None` if neither
    /// order can be known.
    #[must_use]
    pub fn order(&self, other: &Self) -> Option<Ordering> {
        if self.position == other.position {
            return Some(self.logical.cmp(&other.logical));
        }
        let key = |s: &Self| (s.epoch, s.offset.0);
        let (earlier, later, order) = if key(self) <= key(other) {
            (self, other, Ordering::Less)
        } else {
            (other, self, Ordering::Greater)
        };
        let apart = earlier.epoch == later.epoch
            && earlier.offset + earlier.uncertainty
                < later.offset.saturating_sub(later.uncertainty);
        apart.then_some(order)
    }
}

impl Encode for Stamp {
    fn encode(&self, out: &mut Vec<u8>) {
        self.epoch.encode(out);
        self.offset.0.encode(out);
        self.position.encode(out);
        self.uncertainty.0.encode(out);
        self.logical.encode(out);
    }
}

impl Decode for Stamp {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            epoch: u32::decode(from)?,
            offset: Nanos(u64::decode(from)?),
            position: Tile::decode(from)?,
            uncertainty: Nanos(u64::decode(from)?),
            logical: u64::decode(from)?,
        })
    }
}
