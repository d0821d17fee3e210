//! Where in a short list does a peer stand?
//!
//! A burst has every member look up a thousand claims in lists of fifty. Steps of a binary
//! search wait for each other and an early end is a surprise to the processor; eight
//! comparisons at a time to the end of the list are neither.

use core::ops::Range;

use crate::message::Peer;

const LANES: usize = 8;

/// The place of a peer that is in the list at most once.
#[inline]
pub(crate) fn anywhere(peers: &[Peer], peer: Peer) -> Option<usize> {
    let Some(last) = peers.last_chunk::<LANES>() else {
        return peers.iter().position(|&other| other == peer);
    };
    let mut lots = peers.chunks_exact(LANES);
    // One more than the place, or nothing; each number in a lane of its own.
    let mut found = [0_u16; LANES];
    let mut numbers: [u16; LANES] = core::array::from_fn(|at| at as u16 + 1);
    for lot in &mut lots {
        for lane in 0..LANES {
            found[lane] |= if lot[lane] == peer { numbers[lane] } else { 0 };
            numbers[lane] += LANES as u16;
        }
    }
    // What is left over, and some again.
    let before = (peers.len() - LANES) as u16;
    for lane in 0..LANES {
        let number = before + lane as u16 + 1;
        found[lane] |= if last[lane] == peer { number } else { 0 };
    }
    let found = found.iter().fold(0, |found, number| found | number);
    usize::from(found).checked_sub(1)
}

/// Where a list is in memory.
pub(crate) const fn bytes<T>(list: &[T]) -> Range<*const u8> {
    let Range { start, end } = list.as_ptr_range();
    start.cast()..end.cast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn every_peer_is_found_where_it_stands_and_no_other() {
        for length in 0..200 {
            let peers: Vec<Peer> = (0..length).map(|at| Peer(3 * at + 1)).collect();
            for number in 0..3 * length + 3 {
                let stands = (number % 3 == 1 && number / 3 < length).then_some(number / 3);
                let stands = stands.map(usize::from);
                assert_eq!(anywhere(&peers, Peer(number)), stands);
            }
        }
    }
}
