//! Who said so?
//!
//! Today one answer: whoever holds the key. A [`Key`] makes a [`Tag`] over
//! bytes with keyed BLAKE3 (O'Connor, Aumasson, Neves, Wilcox-O'Hearn: *BLAKE3*,
//! 2020, § 2.3), and only a holder of the same key can make it or check it. The
//! types hide which: per-node signatures take their place here without the
//! protocols above noticing.
//!
//! Deliberately absent: key distribution and expiry. A key is handed in. Who may be handed one
//! begins with an [`invitation`].
//!
//! Tour: [`Key`] and [`Tag`] below · [`envelope`] frames that prove themselves and count once · [`invitation`] how a
//! newcomer finds the right fleet and is expected · [`chain`] whether what was said is still so: commits sealed in their order.
#![no_std]

extern crate alloc;

pub mod chain;
pub mod envelope;
pub mod invitation;

use core::array;
use core::fmt;

use blake3::IncrementCounter;
use blake3::platform::{Platform, words_from_le_bytes_32};

/// A shared secret that authenticates a cell's members to each other.
#[derive(Clone)]
pub struct Key([u8; 32]);

/// Proof that a holder of the key wrote some bytes: 128 bits of keyed BLAKE3, so
/// that a forger succeeds once in 2¹²⁸ tries.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag([u8; Tag::BYTES]);

impl Key {
    /// Uses these bytes as the secret.
    #[must_use]
    pub const fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// Derives a key for one purpose and one holder, so that a tag made for one
    /// cell proves nothing in another.
    #[must_use]
    pub fn derive(&self, purpose: &str, holder: u64) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&holder.to_le_bytes());
        hasher.update(purpose.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// The tag of these bytes.
    #[must_use]
    pub fn tag(&self, bytes: &[u8]) -> Tag {
        let hash = blake3::keyed_hash(&self.0, bytes);
        let mut tag = [0; Tag::BYTES];
        tag.copy_from_slice(&hash.as_bytes()[..Tag::BYTES]);
        Tag(tag)
    }

    /// The tags [`Key::tag`] would make of sixteen texts of one length, which is whole blocks of
    /// 64 bytes and at most a kilobyte. BLAKE3 of a short text is a chain in which each step
    /// waits for the last; sixteen chains side by side take little longer than one.
    #[must_use]
    pub fn tags<const N: usize>(&self, texts: &[&[u8; N]; LANES]) -> [Tag; LANES] {
        const {
            assert!(
                N > 0 && N.is_multiple_of(64) && N <= 1024,
                "whole blocks of a chunk"
            )
        };
        let key = words_from_le_bytes_32(&self.0);
        let mut hashes = [0; LANES * blake3::OUT_LEN];
        Platform::detect().hash_many(
            texts,
            &key,
            0,
            IncrementCounter::No,
            flag::KEYED_HASH,
            flag::CHUNK_START,
            flag::CHUNK_END | flag::ROOT,
            &mut hashes,
        );
        let (hashes, _) = hashes.as_chunks::<{ blake3::OUT_LEN }>();
        array::from_fn(|at| Tag(*hashes[at].first_chunk().expect("longer than a tag")))
    }

    /// Whether the tag was made over these bytes with this key. Takes the same
    /// time whichever byte differs.
    #[must_use]
    pub fn verify(&self, bytes: &[u8], tag: &Tag) -> bool {
        let expected = self.tag(bytes);
        let difference = expected
            .0
            .iter()
            .zip(&tag.0)
            .fold(0, |acc, (a, b)| acc | (a ^ b));
        difference == 0
    }
}

/// How many texts [`Key::tags`] takes: what the widest registers hold.
pub const LANES: usize = 16;

/// What a compression is for (*BLAKE3*, table 3).
mod flag {
    pub(super) const CHUNK_START: u8 = 1;
    pub(super) const CHUNK_END: u8 = 2;
    pub(super) const ROOT: u8 = 8;
    pub(super) const KEYED_HASH: u8 = 16;
}

impl Tag {
    /// Length on the wire.
    pub const BYTES: usize = 16;

    /// As read from the wire; it proves nothing until verified.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// As written to the wire.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(")?;
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_proves_its_bytes_under_its_key_and_nothing_else() {
        let key = Key::new([7; 32]);
        let tag = key.tag(b"tile 9 is well");
        assert!(key.verify(b"tile 9 is well", &tag));
        assert!(!key.verify(b"tile 8 is well", &tag));
        assert!(!key.derive("membership", 1).verify(b"tile 9 is well", &tag));
        for bit in 0..Tag::BYTES * 8 {
            let mut forged = *tag.as_bytes();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.verify(b"tile 9 is well", &Tag::from_bytes(forged)));
        }
    }

    fn sixteen_at_once_are_as_one_by_one<const N: usize>() {
        let key = Key::new([9; 32]);
        let texts: [[u8; N]; LANES] = array::from_fn(|text| array::from_fn(|at| (at * text) as u8));
        let tags = key.tags(&texts.each_ref());
        for (text, tag) in texts.iter().zip(tags) {
            assert_eq!(tag, key.tag(text));
        }
    }

    #[test]
    fn tags_made_side_by_side_are_those_made_alone() {
        sixteen_at_once_are_as_one_by_one::<64>();
        sixteen_at_once_are_as_one_by_one::<192>();
        sixteen_at_once_are_as_one_by_one::<1024>();
    }

    #[test]
    fn cells_do_not_share_a_key() {
        let root = Key::new([1; 32]);
        assert_ne!(
            root.derive("membership", 1).0,
            root.derive("membership", 2).0
        );
        assert_ne!(root.derive("membership", 1).0, root.derive("thermos", 1).0);
    }
}
