//! Who said so?
//!
//! Today one answer: whoever holds the cell's key. A [`Key`] makes a [`Tag`] over
//! bytes with keyed BLAKE3 (O'Connor, Aumasson, Neves, Wilcox-O'Hearn: *BLAKE3*,
//! 2020, § 2.3), and only a holder of the same key can make it or check it. The
//! types hide which: per-node signatures take their place here without the
//! protocols above noticing.
//!
//! Deliberately absent: key distribution and expiry. A key is handed in.
//!
//! Said once, is it still so? [`chain`] seals what was written in the order in which it was.
#![no_std]

extern crate alloc;

pub mod chain;

use core::fmt;

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
