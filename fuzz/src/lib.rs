//! What must hold of every decoder, whatever bytes arrive, and of every machine, whatever happens
//! to it and whenever.
//!
//! [`is_canonical`] bytes and values · [`contract`] any machine and time · [`speech`] a member and what it may say ·
//! [`tally`] a process for a torus.

use wire::codec::decode_all;
use wire::{Decode, Encode};

pub mod contract;
pub mod speech;
pub mod tally;

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

/// Bytes are a list of jobs in this format, or one error that says where.
///
/// # Panics
/// If an error does not name the list.
pub fn is_read_or_refused(format: twin::site::jobs::Format, bytes: &[u8]) {
    use twin::site::jobs::{Jobs, Source};
    let source = Source {
        format: Some(format),
        ..Source::default()
    };
    if let Err(error) = Jobs::parse(bytes, "fuzzed.list".as_ref(), &source, &[]) {
        assert!(error.to_string().starts_with("fuzzed.list:"), "{error}");
    }
}
