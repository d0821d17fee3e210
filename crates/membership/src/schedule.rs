//! Whose turn is it to be probed?
//!
//! Whom a member probes is a function of the time alone, so nothing is stored and
//! no list is shuffled. Turns come in pairs. In one of each pair a member probes
//! the neighbour in the direction all members look in just then; in the other it
//! probes whoever sits a certain distance further on in the cell's numbering, the
//! same distance for all. The directions go round the six, the distances walk
//! through every number below the cell's size, in an order out of the cell's key.
//!
//! Where members share a clock, which within a cell they do to far better than a
//! period (requirements T3), every tile is therefore probed *exactly once in every
//! turn*, and a dead one is missed within two periods. With probes drawn at random
//! the unluckiest 1 % of victims would wait 4.6 periods. Where clocks differ
//! the schedule degrades into just such a draw; nothing but speed depends on it.
//! Each member starts its turn at its own place within the period, so that a cell
//! does not speak all at once.

use wire::Instant;

use crate::config::Config;
use crate::message::Peer;

/// The start of a member's first turn after `now`.
//= spec 5
pub(crate) const fn turn_after(config: &Config, me: Peer, now: Instant) -> Instant {
    let (phase, period) = (phase(config, me), config.period.0);
    if now.0 < phase {
        return Instant(phase);
    }
    Instant(now.0 + period - (now.0 - phase) % period)
}

/// Whom a member probes in the turn that `now` falls into.
//= spec 5
//= requirements A1
pub(crate) fn target(config: &Config, me: Peer, now: Instant) -> Peer {
    let turn = now.0.saturating_sub(phase(config, me)) / config.period.0;
    let pair = turn / 2;
    // Which of the two comes first is drawn: a member that sits out every other
    // turn, because it is slow, still gets to probe both kinds.
    let swapped = mix(pair) & 1;
    if turn % 2 == swapped {
        return config.neighbours(me)[(pair % 6) as usize];
    }
    let others = u64::from(config.tiles() - 1);
    let (stride, start) = config.walk();
    let distance = 1 + (u64::from(start) + (pair % others) * u64::from(stride)) % others;
    Peer(((u64::from(me.0) + distance) % u64::from(config.tiles())) as u16)
}

const fn phase(config: &Config, me: Peer) -> u64 {
    mix(me.0 as u64) % config.period.0
}

const fn mix(word: u64) -> u64 {
    let word = (word ^ 0x5bf0_3635_d1f1_29e7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word ^ (word >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use trust::Key;
    use wire::{Cell, Hexagons};

    fn config(tiles: u32) -> Config {
        Config::new(Cell(5), Hexagons::of(tiles).unwrap(), &Key::new([9; 32]))
    }

    //= spec 5
    #[test]
    fn every_tile_is_probed_exactly_once_in_every_turn() {
        let config = config(1_000);
        for turn in 10..50 {
            let in_turn = |me: Peer| Instant(phase(&config, me) + turn * config.period.0);
            let targets: BTreeSet<Peer> = (0..1_000)
                .map(Peer)
                .map(|me| target(&config, me, in_turn(me)))
                .collect();
            assert_eq!(targets.len(), 1_000, "turn {turn}");
        }
    }

    //= spec 5
    #[test]
    fn a_member_gets_round_to_everybody() {
        for tiles in [9, 100, 1_000] {
            let config = config(tiles);
            let me = Peer(4);
            let mut now = Instant::EPOCH;
            let mut probed = BTreeSet::new();
            for _ in 0..2 * (tiles - 1) {
                now = turn_after(&config, me, now);
                probed.insert(target(&config, me, now));
            }
            assert!(!probed.contains(&me));
            assert_eq!(probed.len() as u32, tiles - 1);
        }
    }

    //= requirements A1
    #[test]
    fn every_member_watches_its_six_neighbours_in_every_second_turn() {
        let config = config(1_000);
        for me in [Peer(0), Peer(4), Peer(999)] {
            let turns = (0..12).scan(Instant::EPOCH, |now, _| {
                *now = turn_after(&config, me, *now);
                Some(target(&config, me, *now))
            });
            let six: BTreeSet<Peer> = config.neighbours(me).into();
            assert_eq!(six.len(), 6);
            let probed: Vec<Peer> = turns.filter(|peer| six.contains(peer)).collect();
            assert!(probed.len() >= 6, "{probed:?} in twelve turns");
            assert_eq!(BTreeSet::from_iter(probed), six, "{me:?}");
        }
    }

    #[test]
    fn turns_are_a_period_apart_and_members_spread_over_it() {
        let config = config(100);
        let mut phases = BTreeSet::new();
        for me in (0..100).map(Peer) {
            let first = turn_after(&config, me, Instant::EPOCH);
            assert_eq!(turn_after(&config, me, first), first + config.period);
            phases.insert(first.0 / (config.period.0 / 10));
        }
        assert_eq!(
            phases.len(),
            10,
            "every tenth of the period has its members"
        );
    }
}
