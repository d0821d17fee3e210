//! What must hold of every decoder, whatever bytes arrive.

use wire::codec::decode_all;
use wire::{Decode, Encode};

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
