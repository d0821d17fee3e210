//! How is a value written as bytes, so that it is written in only one way?
//!
//! Unsigned integers are little-endian base-128 groups (LEB128) in the fewest
//! bytes; a longer spelling of the same number is refused. Signed integers are
//! zig-zag folded first. A byte string carries its length. A sequence carries
//! its count. An enum is its tag byte. Nothing is padded, nothing is optional
//! without a byte that says so, and a decoder that has read a value must have
//! read it all ([`decode_all`]).
//!
//! Every decoder is total: any input yields a value or a [`DecodeError`] naming
//! the offset, and none allocates more than the input it was given could fill.

use alloc::vec::Vec;

/// Writes its one canonical byte string.
pub trait Encode {
    /// Appends the bytes to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// The bytes alone.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// Reads what [`Encode`] wrote, and nothing else.
pub trait Decode: Sized {
    /// Takes one value from the front.
    ///
    /// # Errors
    /// If the bytes end early or are not the canonical spelling of a value. The
    /// reader's position is then unspecified; the input is untouched.
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// Why bytes were refused. `at` is the offset of the offending byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a value.
    #[error("byte {at}: the input ends here, {needed} more expected")]
    Truncated {
        /// Offset of the end.
        at: usize,
        /// How many more bytes the value needs at least.
        needed: usize,
    },
    /// A number is spelled longer than it needs to be, or exceeds its type.
    #[error("byte {at}: not the canonical spelling of a {what}")]
    NotCanonical {
        /// Offset of the offending byte.
        at: usize,
        /// The type being read.
        what: &'static str,
    },
    /// A tag or a field outside what the type allows.
    #[error("byte {at}: {found} is not a valid {what}")]
    Invalid {
        /// Offset of the field.
        at: usize,
        /// The type being read.
        what: &'static str,
        /// The number found.
        found: u64,
    },
    /// A value was read and bytes are left over.
    #[error("byte {at}: {extra} bytes after the end of the value")]
    Trailing {
        /// Offset of the first byte too many.
        at: usize,
        /// How many there are.
        extra: usize,
    },
}

/// A cursor over bytes from outside.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the front.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The offset of the next byte.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.bytes(1)?[0])
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer are left.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let left = &self.bytes[self.at..];
        let taken = left.get(..n).ok_or_else(|| DecodeError::Truncated {
            at: self.bytes.len(),
            needed: n - left.len(),
        })?;
        self.at += n;
        Ok(taken)
    }

    /// A count of things that take at least `each` bytes; refuses a count that
    /// the rest of the input could not hold, so a lying length allocates nothing.
    ///
    /// # Errors
    /// As [`u64::decode`], and [`DecodeError::Truncated`] for a count too large.
    pub fn count(&mut self, each: usize) -> Result<usize, DecodeError> {
        let count = u64::decode(self)?;
        let fits = usize::try_from(count)
            .ok()
            .and_then(|n| n.checked_mul(each))
            .filter(|&needed| needed <= self.remaining());
        fits.map(|_| count as usize)
            .ok_or_else(|| DecodeError::Truncated {
                at: self.bytes.len(),
                needed: usize::try_from(count)
                    .unwrap_or(usize::MAX)
                    .saturating_mul(each)
                    .saturating_sub(self.remaining()),
            })
    }
}

/// Reads one value that must take up the whole input.
///
/// # Errors
/// As [`Decode::decode`], and [`DecodeError::Trailing`] for bytes left over.
pub fn decode_all<T: Decode>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = T::decode(&mut reader)?;
    match reader.remaining() {
        0 => Ok(value),
        extra => Err(DecodeError::Trailing {
            at: reader.position(),
            extra,
        }),
    }
}

/// How many bytes [`Encode`] spends on an unsigned integer.
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

impl Encode for u64 {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut rest = *self;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }
}

impl Decode for u64 {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let at = from.position();
            let byte = from.byte()?;
            let group = u64::from(byte & 0x7f);
            let fits = shift < 63 || group <= 1;
            let canonical = byte != 0 || shift == 0;
            if !fits || !canonical {
                return Err(DecodeError::NotCanonical { at, what: "number" });
            }
            value |= group << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::NotCanonical {
            at: from.position() - 1,
            what: "number",
        })
    }
}

macro_rules! narrow {
    ($($t:ty),*) => {$(
        impl Encode for $t {
            fn encode(&self, out: &mut Vec<u8>) {
                u64::from(*self).encode(out);
            }
        }
        impl Decode for $t {
            fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let at = from.position();
                let found = u64::decode(from)?;
                Self::try_from(found).map_err(|_| DecodeError::Invalid {
                    at,
                    what: stringify!($t),
                    found,
                })
            }
        }
    )*};
}
narrow!(u8, u16, u32);

impl Encode for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        // Zig-zag: small magnitudes of either sign stay short.
        (((self << 1) ^ (self >> 63)) as u64).encode(out);
    }
}
impl Decode for i64 {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let folded = u64::decode(from)?;
        Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }
}

impl Encode for [u8] {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u64).encode(out);
        out.extend_from_slice(self);
    }
}
impl Encode for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }
}
impl Decode for Vec<u8> {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = from.count(1)?;
        from.bytes(len).map(<[u8]>::to_vec)
    }
}
