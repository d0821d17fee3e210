//! Which process, and on which strand was it born?
//!
//! A name is given at birth and kept for life. A process that moves is still
//! found under it: its site at home knows which strand it went to.

use core::fmt;

use wire::{Decode, DecodeError, Encode, Reader};

/// One of the three tori, in the order in which they hold each other.
//= requirements B1
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Strand {
    /// Computation.
    Compute = 0,
    /// Input and output.
    Io = 1,
    /// Accelerators.
    Accelerator = 2,
}

impl Strand {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Compute, Self::Io, Self::Accelerator];

    /// To whom this one sends its projections, and who keeps its copy.
    #[must_use]
    pub const fn next(self) -> Self {
        Self::ALL[(self as usize + 1) % 3]
    }

    /// Whose copy this one keeps.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self::ALL[(self as usize + 2) % 3]
    }
}

impl fmt::Display for Strand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compute => "compute",
            Self::Io => "io",
            Self::Accelerator => "accelerator",
        })
    }
}

impl Encode for Strand {
    fn encode(&self, out: &mut alloc::vec::Vec<u8>) {
        (*self as u8).encode(out);
    }
}

impl Decode for Strand {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        let found = from.byte()?;
        (Self::ALL.get(usize::from(found)).copied()).ok_or(DecodeError::Invalid {
            at,
            what: "strand",
            found: found.into(),
        })
    }
}

/// A process by name: the strand and the site it was born on, and how many were
/// born on that site before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(u64);

/// How often a site can be used again before a name comes back.
pub(crate) const GENERATIONS: u32 = 1 << 30;

impl Pid {
    pub(crate) const fn new(strand: Strand, site: u32, generation: u32) -> Self {
        Self((site as u64) << 32 | (generation as u64) << 2 | strand as u64)
    }

    /// Where it was born.
    #[must_use]
    pub const fn strand(self) -> Strand {
        Strand::ALL[(self.0 & 3) as usize]
    }

    /// The site it was born on; [`crate::Place`] says where that lies.
    #[must_use]
    pub const fn site(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) const fn generation(self) -> u32 {
        (self.0 as u32) >> 2
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}.{}", self.strand(), self.site(), self.generation())
    }
}

impl Encode for Pid {
    fn encode(&self, out: &mut alloc::vec::Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for Pid {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        let found = u64::decode(from)?;
        if found & 3 == 3 {
            return Err(DecodeError::Invalid {
                at,
                what: "strand of a process",
                found: 3,
            });
        }
        Ok(Self(found))
    }
}

/// How heavily what a process owes weighs against what others owe: of two
/// classes that both wait, one gets 2^(difference) turns for each of the other's.
//= requirements B4
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u8);

impl Weight {
    /// How many classes there are.
    pub const CLASSES: usize = 8;
    /// The lightest.
    pub const LEAST: Self = Self(0);
    /// The heaviest.
    pub const MOST: Self = Self(Self::CLASSES as u8 - 1);

    /// The class of this number, at most [`Weight::MOST`].
    #[must_use]
    pub const fn new(class: u8) -> Self {
        if class < Self::CLASSES as u8 {
            Self(class)
        } else {
            Self::MOST
        }
    }

    /// Its number.
    #[must_use]
    pub const fn class(self) -> usize {
        self.0 as usize
    }

    /// Turns for each round in which all classes wait.
    pub(crate) const fn share(self) -> u32 {
        1 << self.0
    }
}

impl Encode for Weight {
    fn encode(&self, out: &mut alloc::vec::Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for Weight {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        let found = from.byte()?;
        if usize::from(found) >= Self::CLASSES {
            return Err(DecodeError::Invalid {
                at,
                what: "weight",
                found: found.into(),
            });
        }
        Ok(Self(found))
    }
}
