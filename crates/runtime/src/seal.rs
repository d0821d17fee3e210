//! Has this memory changed since it was last looked at?
//!
//! A 64-bit hash by multiplication (the folded product of wyhash, Wang Yi 2019):
//! a few nanoseconds for the bytes of a process. It guards against accident, a
//! flipped bit or a stray write, of which it misses one in 2⁶⁴. What strangers
//! could forge crosses under a [`trust::Tag`].

/// The first two words of wyhash's default secret: odd, half of their bits set.
const KEYS: [u64; 2] = [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db];

const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// The seal of these bytes in this role. A role keeps equal bytes in two places
/// apart.
pub(crate) fn seal(role: u64, bytes: &[u8]) -> u64 {
    let mut hash = fold(role ^ KEYS[1], KEYS[0]);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word), KEYS[0]);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    hash = fold(hash ^ u64::from_le_bytes(last), KEYS[1]);
    fold(hash ^ bytes.len() as u64, KEYS[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_breaks_the_seal() {
        let bytes: [u8; 37] = core::array::from_fn(|i| i as u8);
        let whole = seal(5, &bytes);
        assert_ne!(whole, seal(6, &bytes));
        for bit in 0..bytes.len() * 8 {
            let mut torn = bytes;
            torn[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(seal(5, &torn), whole);
        }
    }
}
