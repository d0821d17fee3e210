//! A frame that proves where it comes from, and counts once.
//!
//! Behind the bytes of a [`Frame`] stands a [`Tag`] over them, made with a key that two
//! machines share for one conversation and one direction. So a frame proves nothing in another conversation,
//! nor sent back to who wrote it, and one that was recorded proves nothing tomorrow.
//!
//! Within a conversation the sequence numbers of each class are seen once: [`Opening`] remembers the highest and which of the
//! [`WINDOW`] below it came (the sliding window of IPsec, RFC 4303 § 3.4.3), because datagrams overtake
//! each other. What is older is refused as a replay: nobody can tell.
//!
//! Bytes from outside are read in this order: length, meaning, tag, parties, sequence. Reading before proving
//! is safe because the decoder is total and takes no more memory than it was given, and it lets a refusal be
//! named: what was cut short in one place and what is of another version in the next would all be "wrong tag"
//! otherwise. Nothing is remembered of a frame that is refused.

use alloc::vec::Vec;

use wire::codec::decode_all;
use wire::frame::{FRAME_BYTES_MAX, PAYLOAD_LENGTH_FIELD, VERSION_FIELD};
use wire::{Class, DecodeError, Encode, Frame, Tile, Version};

use crate::{Key, Tag};

/// No sealed frame is longer, in bytes.
pub const SEALED_BYTES_MAX: usize = FRAME_BYTES_MAX + Tag::BYTES;

/// A frame may come after so many later ones of its class.
pub const WINDOW: u64 = 128;

/// Why a sealed frame was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Longer than anybody may say.
    #[error("a frame of {length} bytes, expected at most {SEALED_BYTES_MAX}")]
    Oversize {
        /// Of the frame or, within it, of its payload.
        length: u64,
    },
    /// It ends inside itself.
    #[error("a frame that is cut short")]
    Truncated,
    /// A vocabulary that is not spoken here.
    #[error("a frame of version {found}, expected {} to {}", Version::OLDEST.0, Version::CURRENT.0)]
    Version {
        /// The version.
        found: u64,
    },
    /// Bytes that spell nothing.
    #[error("a frame that cannot be read: {0}")]
    Malformed(DecodeError),
    /// The key of this conversation did not make its tag.
    #[error("a frame with a wrong tag")]
    WrongTag,
    /// It is from or for somebody else than the two who talk here.
    #[error("a frame from {} to {}, who do not talk here", source_tile.0, destination.0)]
    WrongParties {
        /// From whom it says it is.
        source_tile: Tile,
        /// For whom.
        destination: Tile,
    },
    /// It came before, or so late that nobody can tell.
    #[error("frame {sequence} of class {class} once more")]
    Replayed {
        /// Its class.
        class: Class,
        /// Its number in that class.
        sequence: u64,
    },
}

impl Refused {
    /// The word for it in status and history.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Oversize { .. } => "frame-oversize",
            Self::Truncated => "frame-truncated",
            Self::Version { .. } => "frame-version",
            Self::Malformed(_) => "frame-malformed",
            Self::WrongTag => "frame-wrong-tag",
            Self::WrongParties { .. } => "frame-wrong-parties",
            Self::Replayed { .. } => "frame-replayed",
        }
    }
}

/// One side's pen.
#[derive(Clone, Debug)]
pub struct Sealing {
    key: Key,
    source: Tile,
    destination: Tile,
    sent: [u64; Class::ALL.len()],
}

/// The other side's eye.
#[derive(Clone, Debug)]
pub struct Opening {
    key: Key,
    source: Tile,
    destination: Tile,
    seen: [Seen; Class::ALL.len()],
}

/// Which sequence numbers of a class came.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// One above the highest.
    next: u64,
    /// Bit i: `next - 1 - i` came.
    bits: u128,
}

const _: () = assert!(WINDOW == u128::BITS as u64);

impl Sealing {
    /// Frames from one tile to another, under the key of their conversation in this direction.
    #[must_use]
    pub const fn new(key: Key, source: Tile, destination: Tile) -> Self {
        Self {
            key,
            source,
            destination,
            sent: [0; Class::ALL.len()],
        }
    }

    /// The next frame of a class, sealed.
    ///
    /// # Panics
    /// If the payload is longer than [`wire::frame::PAYLOAD_BYTES_MAX`].
    #[must_use]
    pub fn seal(&mut self, class: Class, protocol: u8, payload: &[u8]) -> Vec<u8> {
        assert!(payload.len() <= wire::frame::PAYLOAD_BYTES_MAX);
        let sent = &mut self.sent[class as usize];
        let frame = Frame {
            version: Version::CURRENT,
            class,
            protocol,
            source: self.source,
            destination: self.destination,
            sequence: *sent,
            payload: payload.into(),
        };
        *sent += 1;
        seal(&frame, &self.key)
    }
}

/// The bytes of a frame with its tag behind them.
#[must_use]
pub fn seal(frame: &Frame, key: &Key) -> Vec<u8> {
    let mut bytes = frame.to_bytes();
    let tag = key.tag(&bytes);
    bytes.extend_from_slice(tag.as_bytes());
    bytes
}

impl Opening {
    /// Frames from one tile to another, under the key of their conversation in this direction.
    #[must_use]
    pub fn new(key: Key, source: Tile, destination: Tile) -> Self {
        Self {
            key,
            source,
            destination,
            seen: [Seen::default(); Class::ALL.len()],
        }
    }

    /// The frame in these bytes, if it proves itself and has not come before.
    ///
    /// # Errors
    /// Why not; nothing is remembered of it then.
    //= requirements C6
    pub fn open(&mut self, sealed: &[u8]) -> Result<Frame, Refused> {
        if sealed.len() > SEALED_BYTES_MAX {
            let length = sealed.len() as u64;
            return Err(Refused::Oversize { length });
        }
        let (bytes, tag) = sealed
            .split_last_chunk::<{ Tag::BYTES }>()
            .ok_or(Refused::Truncated)?;
        let frame: Frame = decode_all(bytes).map_err(refused)?;
        if !self.key.verify(bytes, &Tag::from_bytes(*tag)) {
            return Err(Refused::WrongTag);
        }
        if (frame.source, frame.destination) != (self.source, self.destination) {
            return Err(Refused::WrongParties {
                source_tile: frame.source,
                destination: frame.destination,
            });
        }
        if !self.seen[frame.class as usize].note(frame.sequence) {
            return Err(Refused::Replayed {
                class: frame.class,
                sequence: frame.sequence,
            });
        }
        Ok(frame)
    }
}

fn refused(error: DecodeError) -> Refused {
    match error {
        DecodeError::Truncated { .. } => Refused::Truncated,
        DecodeError::Invalid { what, found, .. } if what == VERSION_FIELD => {
            Refused::Version { found }
        }
        DecodeError::Invalid { what, found, .. } if what == PAYLOAD_LENGTH_FIELD => {
            Refused::Oversize { length: found }
        }
        other => Refused::Malformed(other),
    }
}

impl Seen {
    /// Whether it is the first time.
    fn note(&mut self, sequence: u64) -> bool {
        if sequence >= self.next {
            let ahead = sequence - self.next + 1;
            self.bits = if ahead < WINDOW {
                self.bits << ahead
            } else {
                0
            };
            self.bits |= 1;
            // The last number of all could not be told from the first.
            self.next = sequence.saturating_add(1);
            return sequence < u64::MAX;
        }
        let behind = self.next - 1 - sequence;
        if behind >= WINDOW || self.bits >> behind & 1 == 1 {
            return false;
        }
        self.bits |= 1 << behind;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    const US: (Tile, Tile) = (Tile(3), Tile(4));

    fn both() -> (Sealing, Opening) {
        let key = || Key::new([7; 32]);
        (
            Sealing::new(key(), US.0, US.1),
            Opening::new(key(), US.0, US.1),
        )
    }

    #[test]
    fn a_frame_counts_once_and_only_where_it_was_meant() {
        let (mut sealing, mut opening) = both();
        let sealed = sealing.seal(Class::A, 1, b"there?");
        let mut elsewhere = Opening::new(Key::new([8; 32]), US.0, US.1);
        assert_eq!(elsewhere.open(&sealed), Err(Refused::WrongTag));
        let mut mistaken = Opening::new(Key::new([7; 32]), US.1, US.0);
        let parties = Refused::WrongParties {
            source_tile: US.0,
            destination: US.1,
        };
        assert_eq!(mistaken.open(&sealed), Err(parties));
        let frame = opening.open(&sealed).unwrap();
        assert_eq!(
            (frame.protocol, frame.payload.as_slice()),
            (1, &b"there?"[..])
        );
        let again = Refused::Replayed {
            class: Class::A,
            sequence: 0,
        };
        assert_eq!(opening.open(&sealed), Err(again));
        // Another class counts for itself.
        assert!(opening.open(&sealing.seal(Class::D, 1, b"")).is_ok());
    }

    #[test]
    fn what_is_cut_long_old_or_flipped_is_refused_by_name() {
        let (mut sealing, mut opening) = both();
        let sealed = sealing.seal(Class::C, 1, b"some words");
        for cut in 0..sealed.len() {
            let refused = opening.open(&sealed[..cut]).unwrap_err();
            assert_eq!(refused, Refused::Truncated, "{cut}");
        }
        let long = [0; SEALED_BYTES_MAX + 1];
        assert_eq!(opening.open(&long).unwrap_err().name(), "frame-oversize");
        let mut frame = opening.open(&sealed).unwrap();
        let key = Key::new([7; 32]);
        frame.payload = alloc::vec![0; wire::frame::PAYLOAD_BYTES_MAX + 1];
        frame.sequence = 1;
        let refused = opening.open(&seal(&frame, &key)).unwrap_err();
        assert_eq!(refused, Refused::Oversize { length: 1_101 });
        (frame.payload, frame.version) = (Vec::new(), Version(2));
        let refused = opening.open(&seal(&frame, &key)).unwrap_err();
        assert_eq!(refused, Refused::Version { found: 2 });
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(opening.open(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_longest_frame_fits_what_is_announced() {
        let mut sealing = Sealing::new(Key::new([7; 32]), Tile(u64::MAX), Tile(u64::MAX));
        sealing.sent = [u64::MAX - 1; 4];
        let sealed = sealing.seal(Class::D, 255, &[0; wire::frame::PAYLOAD_BYTES_MAX]);
        // The version in use is shorter than the longest.
        assert_eq!(sealed.len(), SEALED_BYTES_MAX - 2);
        let mut opening = Opening::new(Key::new([7; 32]), Tile(u64::MAX), Tile(u64::MAX));
        assert!(opening.open(&sealed).is_ok());
    }

    proptest! {
        /// In whatever order numbers come, each counts at most once, and each that is not
        /// older than the window counts.
        #[test]
        fn the_window_holds_what_a_set_would(numbers in prop::collection::vec(0..400_u64, 0..300)) {
            let mut seen = Seen::default();
            let mut set = BTreeSet::new();
            for number in numbers {
                let highest = set.last().copied().unwrap_or(0_u64);
                let counts = seen.note(number);
                let first = set.insert(number);
                if number + WINDOW > highest {
                    prop_assert_eq!(counts, first, "{} after {}", number, highest);
                } else {
                    prop_assert!(!counts, "{} after {}", number, highest);
                }
            }
        }
    }
}
