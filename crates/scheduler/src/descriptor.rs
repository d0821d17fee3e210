//! What can this tile do?
//!
//! A tile states its resources once, signed, and schedulers believe no other
//! source. The tag is over the canonical encoding, so a descriptor cannot be
//! altered on its way or passed off as another tile's.

use alloc::vec::Vec;
use trust::{Key, Tag};
use wire::{Decode, DecodeError, Encode, Reader, Tile};

/// The resources of one tile.
//= requirements S1
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Whose resources these are.
    pub tile: Tile,
    /// Processor time in thousandths of a core.
    pub cpu_milli: u32,
    /// Accelerators.
    pub accelerators: u16,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Power drawn when idle, in milliwatts.
    pub idle_mw: u64,
    /// Power drawn at full clock and activity without leakage, in milliwatts.
    pub max_mw: u64,
    /// Temperature it must not pass, in millikelvin.
    pub limit_mk: u32,
    /// Chance of a hard failure in a year, in millionths.
    pub failures_per_year_ppm: u32,
}

impl Descriptor {
    /// The tag that proves a holder of the key stated exactly this.
    #[must_use]
    pub fn sign(&self, key: &Key) -> Tag {
        key.tag(&self.to_bytes())
    }

    /// Whether the tag was made for exactly this.
    #[must_use]
    pub fn is_signed(&self, key: &Key, tag: &Tag) -> bool {
        key.verify(&self.to_bytes(), tag)
    }
}

impl Encode for Descriptor {
    fn encode(&self, out: &mut Vec<u8>) {
        self.tile.encode(out);
        self.cpu_milli.encode(out);
        self.accelerators.encode(out);
        self.memory_mib.encode(out);
        self.idle_mw.encode(out);
        self.max_mw.encode(out);
        self.limit_mk.encode(out);
        self.failures_per_year_ppm.encode(out);
    }
}

impl Decode for Descriptor {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            tile: Tile::decode(from)?,
            cpu_milli: u32::decode(from)?,
            accelerators: u16::decode(from)?,
            memory_mib: u32::decode(from)?,
            idle_mw: u64::decode(from)?,
            max_mw: u64::decode(from)?,
            limit_mk: u32::decode(from)?,
            failures_per_year_ppm: u32::decode(from)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::codec::decode_all;

    #[test]
    fn a_descriptor_proves_its_tile_and_its_numbers() {
        let key = Key::new([3; 32]);
        let honest = Descriptor {
            tile: Tile(7),
            cpu_milli: 64_000,
            accelerators: 8,
            memory_mib: 1 << 20,
            idle_mw: 100_000,
            max_mw: 1_000_000,
            limit_mk: 420_000,
            failures_per_year_ppm: 50_000,
        };
        let tag = honest.sign(&key);
        assert!(honest.is_signed(&key, &tag));
        assert_eq!(
            decode_all::<Descriptor>(&honest.to_bytes()).as_ref(),
            Ok(&honest)
        );
        let boaster = Descriptor {
            limit_mk: 500_000,
            ..honest.clone()
        };
        assert!(!boaster.is_signed(&key, &tag));
        let impostor = Descriptor {
            tile: Tile(8),
            ..honest
        };
        assert!(!impostor.is_signed(&key, &tag));
    }
}
