//! Whose turn is it?
//!
//! Processes that have mail wait in one of two ways. What carries a deadline is
//! taken earliest deadline first (Liu and Layland, *Scheduling algorithms for
//! multiprogramming in a hard-real-time environment*, 1973). Everything else
//! waits in a queue of its weight, and the queues are served in rounds, each as
//! often as it weighs (Shreedhar and Varghese, *Efficient fair queuing using
//! deficit round robin*, 1995; an event is the unit). While others wait, one turn
//! in four is theirs however many deadlines press, so nobody starves.
//!
//! A process that becomes urgent while it waits is entered a second time; an
//! entry whose ordinal is no longer the process's own is skipped. Such leftovers
//! influence nothing: what is chosen depends on the counts and on valid entries
//! alone, and those can be recomputed from the processes.

use alloc::collections::{BinaryHeap, VecDeque};
use core::cmp::Reverse;

use wire::Instant;

use crate::pid::Weight;

/// Turns for deadlines in a row while somebody else waits.
const URGENT_RUN_MAX: u8 = 3;

/// Where the rounds stand; part of a lattice's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    /// The class being served.
    pub(crate) class: u8,
    /// Turns left to it.
    pub(crate) credit: u8,
    /// Turns that deadlines have had in a row.
    pub(crate) urgent_run: u8,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Ready {
    pub(crate) round: Round,
    classes: [VecDeque<(u32, u64)>; Weight::CLASSES],
    urgent: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    counts: [u32; Weight::CLASSES],
    plain_count: u32,
    urgent_count: u32,
}

impl Ready {
    /// Processes that wait for a turn.
    #[inline]
    pub(crate) const fn count(&self) -> u32 {
        self.urgent_count + self.plain_count
    }

    /// Those without a deadline, by weight.
    pub(crate) const fn by_weight(&self) -> &[u32; Weight::CLASSES] {
        &self.counts
    }

    /// A process has mail; `due` is [`Instant::END`] if none of it is due.
    #[inline]
    pub(crate) fn enter(&mut self, site: u32, ordinal: u64, weight: Weight, due: Instant) {
        if due == Instant::END {
            self.counts[weight.class()] += 1;
            self.plain_count += 1;
            self.classes[weight.class()].push_back((site, ordinal));
        } else {
            self.urgent_count += 1;
            self.urgent.push(Reverse((due, ordinal, site)));
        }
    }

    /// A process that was entered so no longer waits so; its entry is left behind.
    pub(crate) fn leave(&mut self, weight: Weight, due: Instant) {
        if due == Instant::END {
            self.counts[weight.class()] -= 1;
            self.plain_count -= 1;
        } else {
            self.urgent_count -= 1;
        }
    }

    /// The next process; `valid` says whether an entry is its process's latest. If
    /// nobody waits, nothing changes.
    #[inline]
    pub(crate) fn next(&mut self, valid: impl Fn(u32, u64) -> bool) -> Option<u32> {
        if self.count() == 0 {
            return None;
        }
        if self.urgent_count > 0
            && (self.round.urgent_run < URGENT_RUN_MAX || self.plain_count == 0)
        {
            // Saturating: with nobody else waiting a run has no end.
            self.round.urgent_run = self.round.urgent_run.saturating_add(1);
            self.urgent_count -= 1;
            while let Some(Reverse((_, ordinal, site))) = self.urgent.pop() {
                if valid(site, ordinal) {
                    return Some(site);
                }
            }
            unreachable!("urgent processes were counted that are not there");
        }
        self.round.urgent_run = 0;
        let mut class = usize::from(self.round.class);
        if self.round.credit == 0 || self.counts[class] == 0 {
            let ahead = (1..=Weight::CLASSES).map(|step| (class + step) % Weight::CLASSES);
            let waits = |class: &usize| self.counts[*class] > 0;
            class = ahead.into_iter().find(waits).expect("somebody waits");
            self.round.class = class as u8;
            self.round.credit = Weight::new(class as u8).share() as u8;
        }
        self.round.credit -= 1;
        self.counts[class] -= 1;
        self.plain_count -= 1;
        while let Some((site, ordinal)) = self.classes[class].pop_front() {
            if valid(site, ordinal) {
                return Some(site);
            }
        }
        unreachable!("processes of weight {class} were counted that are not there");
    }

    /// Drops what is left behind once it is most of what is kept.
    pub(crate) fn tidy(&mut self, valid: impl Fn(u32, u64) -> bool) {
        for (queue, &count) in self.classes.iter_mut().zip(&self.counts) {
            if queue.len() > 64 + 2 * count as usize {
                queue.retain(|&(site, ordinal)| valid(site, ordinal));
            }
        }
        if self.urgent.len() > 64 + 2 * self.urgent_count as usize {
            self.urgent
                .retain(|&Reverse((_, ordinal, site))| valid(site, ordinal));
        }
    }

    /// The earliest deadline that somebody waits with. An entry left behind may
    /// make it seem earlier than it is.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        (self.urgent_count > 0)
            .then(|| self.urgent.peek())
            .flatten()
            .map(|Reverse((due, ..))| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    //= requirements B4
    #[test]
    fn turns_fall_as_weights_say() {
        let mut ready = Ready::default();
        let mut turns = [0; Weight::CLASSES];
        for site in 0..8 {
            ready.enter(site, 1, Weight::new(site as u8), Instant::END);
        }
        for _ in 0..255 * 4 {
            let site = ready.next(|_, _| true).unwrap();
            turns[site as usize] += 1;
            ready.enter(site, 1, Weight::new(site as u8), Instant::END);
        }
        assert_eq!(turns, [4, 8, 16, 32, 64, 128, 256, 512]);
    }

    #[test]
    fn the_earliest_deadline_goes_first_and_starves_nobody() {
        let mut ready = Ready::default();
        for (site, due) in [(1, 50), (2, 10), (3, 40), (4, 20), (5, 30)] {
            ready.enter(site, 1, Weight::LEAST, Instant(due));
        }
        ready.enter(9, 1, Weight::LEAST, Instant::END);
        let order: Vec<_> = core::iter::from_fn(|| ready.next(|_, _| true)).collect();
        assert_eq!(order, [2, 4, 5, 9, 3, 1]);
    }

    #[test]
    fn an_entry_left_behind_is_skipped() {
        let mut ready = Ready::default();
        ready.enter(1, 1, Weight::MOST, Instant::END);
        ready.leave(Weight::MOST, Instant::END);
        ready.enter(1, 2, Weight::MOST, Instant(7));
        ready.enter(2, 3, Weight::MOST, Instant::END);
        let valid = |site, ordinal| (site, ordinal) != (1, 1);
        assert_eq!(ready.next(valid), Some(1));
        assert_eq!(ready.next(valid), Some(2));
        assert_eq!(ready.count(), 0);
    }
}
