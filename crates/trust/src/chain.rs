//! What was said, in which order, and is that all of it?
//!
//! A chain is a row of *commits*, each a few records and a seal. The seal is BLAKE3 over the commit, keyed with the
//! seal before it, so it speaks for everything since the beginning: whoever knows the last seal knows whether a
//! byte was changed, left out, added or moved anywhere, and a reader who starts at the front knows *where*.
//!
//! Records that became true together are sealed together. That is what makes a chain fast, too: a hash for a
//! thousand small records costs little more than one for their bytes.
//!
//! ```text
//! commit = length: u32, least first · records · seal: 32 bytes
//! record = length: u32, least first · bytes          (length of a commit: that of its records, at least 4)
//! ```
//!
//! Against accidents a chain needs nothing else. Against enemies its last seal must be kept where they cannot write:
//! whoever can rewrite all of a chain can seal it anew.
//!
//! Deliberately absent: files, and what to do about damage. The first good part of a chain is a chain.

use alloc::vec::Vec;
use core::fmt;

/// A commit is no longer than this without its seal, in bytes: a length beyond is damage and takes no memory.
pub const COMMIT_MAX: usize = 64 << 20;

const LENGTH: usize = size_of::<u32>();

/// What a chain has come to: a seal over everything in it so far.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seal(pub [u8; Seal::BYTES]);

impl Seal {
    /// How long one is.
    pub const BYTES: usize = blake3::OUT_LEN;

    /// Where a chain begins: its first seal, over whatever distinguishes it from others.
    #[must_use]
    pub fn of(purpose: &str, beginning: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        hasher.update(beginning);
        Self(*hasher.finalize().as_bytes())
    }

    fn over(self, length: [u8; LENGTH], records: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&length).update(records);
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for Seal {
    /// The first eight bytes, enough to tell two apart by eye.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Adds a commit of these records to `out`; the seal to go on from.
///
/// # Panics
/// If there are no records, or together they are longer than [`COMMIT_MAX`].
#[must_use = "the next commit is sealed with it"]
pub fn commit<'a>(
    from: Seal,
    records: impl IntoIterator<Item = &'a [u8]>,
    out: &mut Vec<u8>,
) -> Seal {
    let begin = out.len();
    out.extend([0; LENGTH]);
    for record in records {
        let length = u32::try_from(record.len()).expect("a record fits a commit");
        out.extend(length.to_le_bytes());
        out.extend(record);
    }
    let records = begin + LENGTH;
    let length = out.len() - records;
    assert!((LENGTH..=COMMIT_MAX).contains(&length), "{length} bytes");
    let length = u32::try_from(length).expect("checked above").to_le_bytes();
    out[begin..records].copy_from_slice(&length);
    let seal = from.over(length, &out[records..]);
    out.extend(seal.0);
    seal
}

/// Reads a chain from its front.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    seal: Seal,
}

/// Why a chain goes no further, and where: its bytes before this place are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where the first commit that is not good begins, in bytes.
    pub place: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The bytes end before it does.
    Torn {
        /// How many there are.
        found: usize,
        /// How many there should be, as far as can be said.
        expected: usize,
    },
    /// It says of itself that it is this long, which no commit is.
    Length(u32),
    /// Its bytes are not those that were sealed, or not in this place.
    Seal {
        /// What it says.
        found: Seal,
        /// What its bytes say.
        expected: Seal,
    },
    /// It is sealed, and its records do not fill it: whoever wrote it did not keep to the format.
    Records,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn { found, expected } => {
                write!(f, "found {found} bytes, expected {expected}")
            }
            Self::Length(length) => {
                write!(
                    f,
                    "found a length of {length}, expected {LENGTH} to {COMMIT_MAX}"
                )
            }
            Self::Seal { found, expected } => write!(f, "found seal {found}, expected {expected}"),
            Self::Records => write!(f, "found records that do not fill their commit"),
        }
    }
}

impl<'a> Reader<'a> {
    /// From the first commit on; `seal` is where the chain begins.
    #[must_use]
    pub fn new(bytes: &'a [u8], seal: Seal) -> Self {
        Self { bytes, at: 0, seal }
    }

    /// The next commit; `None` at the end. After damage it stays where it is.
    ///
    /// # Errors
    /// If what follows is no commit of this chain.
    pub fn read(&mut self) -> Result<Option<Records<'a>>, Damage> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        let place = self.at;
        let damage = |fault| Damage { place, fault };
        let torn = |expected| {
            let found = rest.len();
            damage(Fault::Torn { found, expected })
        };
        let (length, rest) = rest
            .split_first_chunk::<LENGTH>()
            .ok_or_else(|| torn(LENGTH))?;
        let said = u32::from_le_bytes(*length);
        let long = said as usize;
        if !(LENGTH..=COMMIT_MAX).contains(&long) {
            return Err(damage(Fault::Length(said)));
        }
        let whole = LENGTH + long + Seal::BYTES;
        let (records, rest) = rest.split_at_checked(long).ok_or_else(|| torn(whole))?;
        let found = rest
            .first_chunk::<{ Seal::BYTES }>()
            .ok_or_else(|| torn(whole))?;
        let (found, expected) = (Seal(*found), self.seal.over(*length, records));
        if found != expected {
            return Err(damage(Fault::Seal { found, expected }));
        }
        let mut checked = Records(records);
        if checked.by_ref().count() == 0 || !checked.0.is_empty() {
            return Err(damage(Fault::Records));
        }
        self.at += whole;
        self.seal = found;
        Ok(Some(Records(records)))
    }

    /// The end of what has been read, in bytes from the front.
    #[must_use]
    pub fn place(&self) -> usize {
        self.at
    }

    /// The seal over what has been read.
    #[must_use]
    pub fn seal(&self) -> Seal {
        self.seal
    }
}

/// The records of one commit.
#[derive(Clone, Debug)]
pub struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<LENGTH>()?;
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.0 = rest;
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn begin() -> Seal {
        Seal::of("a test", b"")
    }

    /// Three commits: where each begins, and their bytes.
    fn chain() -> (Vec<usize>, Vec<u8>) {
        let (mut bytes, mut seal, mut places) = (Vec::new(), begin(), Vec::new());
        for records in [&[&b"one"[..], b""][..], &[b"two"], &[b"three", b"four"]] {
            places.push(bytes.len());
            seal = commit(seal, records.iter().copied(), &mut bytes);
        }
        (places, bytes)
    }

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Option<Damage>) {
        let (mut reader, mut records) = (Reader::new(bytes, begin()), Vec::new());
        loop {
            match reader.read() {
                Ok(Some(commit)) => records.extend(commit.map(<[u8]>::to_vec)),
                Ok(None) => return (records, None),
                Err(damage) => {
                    assert_eq!(damage.place, reader.place());
                    return (records, Some(damage));
                }
            }
        }
    }

    #[test]
    fn a_chain_is_read_as_it_was_written() {
        let (_, bytes) = chain();
        let expected: [&[u8]; 5] = [b"one", b"", b"two", b"three", b"four"];
        let (records, damage) = read(&bytes);
        assert_eq!(
            (records, damage),
            (expected.map(<[u8]>::to_vec).into(), None)
        );
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen_in_its_commit() {
        let (places, bytes) = chain();
        let commit_of = |byte: usize| places.iter().rev().find(|place| **place <= byte);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (records, damage) = read(&flipped);
            assert_eq!(
                damage.map(|damage| damage.place).as_ref(),
                commit_of(bit / 8)
            );
            assert!(records.len() < 5);
        }
        for length in 1..bytes.len() {
            let damage = read(&bytes[..length]).1.map(|damage| damage.place);
            match places.contains(&length) {
                // The front of a chain is a chain; how long it was is for others to know.
                true => assert_eq!(damage, None),
                false => assert_eq!(damage.as_ref(), commit_of(length)),
            }
        }
    }

    #[test]
    fn a_commit_in_another_place_is_damage() {
        let (places, bytes) = chain();
        let (one, rest) = bytes.split_at(places[1]);
        let (two, three) = rest.split_at(places[2] - places[1]);
        for wrong in [[one, three], [two, three], [one, one]] {
            let damage = read(&wrong.concat()).1.expect("damage");
            assert!(matches!(damage.fault, Fault::Seal { .. }), "{damage:?}");
        }
        assert!(read(&[one, two].concat()).1.is_none());
    }

    #[test]
    fn lengths_that_no_commit_has_are_named() {
        let fault = |bytes: &[u8]| read(bytes).1.map(|damage| damage.fault);
        assert_eq!(fault(&[0; 100]), Some(Fault::Length(0)));
        assert_eq!(fault(&[255; 100]), Some(Fault::Length(u32::MAX)));
        assert_eq!(
            fault(&[4, 0, 0]),
            Some(Fault::Torn {
                found: 3,
                expected: 4
            })
        );
        // Sealed by somebody who miscounted.
        let mut bytes = vec![4, 0, 0, 0, 9, 0, 0, 0];
        bytes.extend(begin().over([4, 0, 0, 0], &[9, 0, 0, 0]).0);
        assert_eq!(fault(&bytes), Some(Fault::Records));
    }
}
