//! What must hold of every decoder, whatever bytes arrive, and of every machine, whatever happens
//! to it and whenever.
//!
//! [`is_canonical`] bytes and values · [`contract`] any machine and time · [`speech`] a member and what it may say.

use wire::codec::decode_all;
use wire::{Decode, Encode};

pub mod contract;
pub mod speech;

/// Bytes are refused, or they are the one spelling of what they decode to.
///
/// # Panics
/// If a value has a second spelling: two nodes could then agree on a value and
/// disagree on its hash.
pub fn is_canonical<T: Decode + Encode>(bytes: &[u8]) {
    if let Ok(value) = decode_all::<T>(bytes) {
        assert_eq!(value.to_bytes(), bytes);
    }
}
