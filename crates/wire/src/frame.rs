//! The envelope around every message that leaves a node.
//!
//! A frame says who speaks to whom, how urgent it is, in which version of the
//! vocabulary, and carries the protocol's bytes untouched. What is *not* here is
//! proof of who spoke: that is a tag over the frame's bytes, made by `trust`.

use alloc::vec::Vec;
use core::fmt;

use crate::codec::{Decode, DecodeError, Encode, Reader};
use crate::holon::Tile;

/// How urgent a message is; the order is the order of service.
//= requirements N1
//= requirements H7
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Safety and control: throttle signals, accusations, orders to go dark.
    A = 0,
    /// Time.
    B = 1,
    /// Interactive.
    C = 2,
    /// Bulk.
    D = 3,
}

impl Class {
    /// Every class, most urgent first.
    pub const ALL: [Self; 4] = [Self::A, Self::B, Self::C, Self::D];
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A version of the vocabulary. N and N−1 read each other; anything else is
/// refused by name.
//= requirements C6
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u16);

impl Version {
    /// What this code writes.
    pub const CURRENT: Self = Self(1);
    /// The oldest it still reads. There was nothing before version 1.
    pub const OLDEST: Self = Self(1);
}

/// The largest payload of one frame, in bytes. Chosen so that a frame, its tag
/// and the headers below it fit in the 1,280 bytes every IPv6 link carries
/// whole (RFC 8200 § 5), and a bulk frame delays a class A frame by one such
/// packet at most (requirements N1).
pub const PAYLOAD_BYTES_MAX: usize = 1_100;

/// The longest encoding of a frame, in bytes: every number in front of the payload as long as
/// its type allows.
pub const FRAME_BYTES_MAX: usize = 3 + 1 + 2 + 3 * 10 + 2 + PAYLOAD_BYTES_MAX;

/// What [`DecodeError::Invalid`] calls a version that is not read here.
pub const VERSION_FIELD: &str = "version of the vocabulary";
/// What [`DecodeError::Invalid`] calls a payload longer than [`PAYLOAD_BYTES_MAX`].
pub const PAYLOAD_LENGTH_FIELD: &str = "payload length";

/// One message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The vocabulary the payload is written in.
    pub version: Version,
    /// How urgent it is.
    pub class: Class,
    /// Which protocol the payload belongs to.
    pub protocol: u8,
    /// Who speaks.
    pub source: Tile,
    /// To whom.
    pub destination: Tile,
    /// The speaker's count of frames it has sent in this class.
    pub sequence: u64,
    /// The protocol's own bytes, at most [`PAYLOAD_BYTES_MAX`].
    pub payload: Vec<u8>,
}

impl Encode for Frame {
    fn encode(&self, out: &mut Vec<u8>) {
        self.version.0.encode(out);
        (self.class as u8).encode(out);
        self.protocol.encode(out);
        self.source.encode(out);
        self.destination.encode(out);
        self.sequence.encode(out);
        self.payload.encode(out);
    }
}

impl Decode for Frame {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        let version = Version(u16::decode(from)?);
        if version < Version::OLDEST || version > Version::CURRENT {
            return Err(DecodeError::Invalid {
                at,
                what: VERSION_FIELD,
                found: version.0.into(),
            });
        }
        let class = Class::decode(from)?;
        let protocol = u8::decode(from)?;
        let source = Tile::decode(from)?;
        let destination = Tile::decode(from)?;
        let sequence = u64::decode(from)?;
        let at = from.position();
        let payload = Vec::decode(from)?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(DecodeError::Invalid {
                at,
                what: PAYLOAD_LENGTH_FIELD,
                found: payload.len() as u64,
            });
        }
        Ok(Self {
            version,
            class,
            protocol,
            source,
            destination,
            sequence,
            payload,
        })
    }
}

impl Encode for Class {
    fn encode(&self, out: &mut Vec<u8>) {
        (*self as u8).encode(out);
    }
}

impl Decode for Class {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        let found = u64::decode(from)?;
        Self::ALL
            .into_iter()
            .find(|&class| class as u64 == found)
            .ok_or(DecodeError::Invalid {
                at,
                what: "class",
                found,
            })
    }
}
