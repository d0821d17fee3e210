//! Did two runs do the same?
//!
//! Each node folds everything that happens to it into 64 bits of its own, in the
//! order in which it happens. The nodes' hashes are then combined by addition,
//! which does not care in which order nodes are visited: the result is the same
//! however the nodes were spread over threads or machines. Equal histories give
//! equal numbers; different ones collide with probability 2⁻⁶⁴ per node. Nothing
//! here resists somebody who wants a collision.

use wire::Instant;

// Four odd constants with about as many ones as zeros: digits of √2, √3, √5, √7.
const SALT: [u64; 4] = [
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
];

/// The two halves of a 128-bit product, xored: every bit of either factor reaches
/// every bit of the result in about four cycles.
#[inline]
const fn multiply_fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// A node's history after one more event.
#[inline]
#[must_use]
pub const fn fold(hash: u64, at: Instant, key: u64, payload: u64) -> u64 {
    // The event's own product does not wait for `hash`, so only the second one
    // is on the path from event to event.
    let event = multiply_fold(at.0 ^ SALT[0], key ^ SALT[1]);
    multiply_fold(hash ^ event ^ SALT[2], payload ^ SALT[3])
}

/// The history of a whole universe from those of its nodes, in any order.
#[must_use]
pub fn combine(nodes: impl IntoIterator<Item = (u64, u64)>) -> u128 {
    nodes.into_iter().fold(0, |sum, (node, hash)| {
        let low = multiply_fold(node ^ SALT[0], hash ^ SALT[1]);
        let high = multiply_fold(node ^ SALT[2], hash.rotate_left(32) ^ SALT[3]);
        // Addition, not xor: two equal terms must not cancel.
        u128::wrapping_add(sum, u128::from(high) << 64 | u128::from(low))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_and_the_order_of_events_count() {
        let one = |at, key, payload| fold(1, Instant(at), key, payload);
        let hashes = [
            one(1, 2, 3),
            one(2, 2, 3),
            one(1, 3, 3),
            one(1, 2, 4),
            fold(2, Instant(1), 2, 3),
            fold(one(1, 2, 3), Instant(4), 5, 6),
            fold(one(4, 5, 6), Instant(1), 2, 3),
        ];
        for (i, a) in hashes.iter().enumerate() {
            assert!(!hashes[..i].contains(a), "{i}");
        }
    }

    #[test]
    fn nodes_combine_in_any_order_but_not_under_each_others_names() {
        assert_eq!(combine([(1, 10), (2, 20)]), combine([(2, 20), (1, 10)]));
        assert_ne!(combine([(1, 10), (2, 20)]), combine([(1, 20), (2, 10)]));
        assert_ne!(combine([(1, 10), (1, 10)]), combine([]));
    }
}
