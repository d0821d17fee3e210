//! For how long was a job slowed down?
//!
//! A job is as slow as the slowest of its nodes, so it is slowed from the first throttle of one of them until the last
//! is let go. A loop at its bound can let nodes go and slow them again many times; whoever asks what became of a
//! job wants that in one line. The page of a run and `cosmos why` both count here, the one as it happens
//! and the other from the history.

use std::collections::BTreeMap;

use scheduler::site::words;
use telemetry::{Action, Reason};
use wire::{Instant, Nanos};

/// How often each node is throttled now, by its scheduler and by each of its devices' guards, and why at first.
#[derive(Clone, Debug, Default)]
pub(super) struct Throttled(BTreeMap<u32, (u32, Reason)>);

impl Throttled {
    /// Something was decided about a node; says whether it is slowed from now on, if that changed.
    pub(super) fn decided(&mut self, node: u32, action: Action, reason: Reason) -> Option<bool> {
        match action {
            Action::Throttle => {
                let (times, _) = self.0.entry(node).or_insert((0, reason));
                *times += 1;
                (*times == 1).then_some(true)
            }
            Action::Release => {
                let (times, _) = self.0.get_mut(&node)?;
                *times -= 1;
                (*times == 0).then(|| self.0.remove(&node)).map(|_| false)
            }
            // What is off is not slow.
            Action::Darken => self.0.remove(&node).map(|_| false),
            _ => None,
        }
    }

    /// Why a node is slowed, if it is.
    pub(super) fn why(&self, node: u32) -> Option<Reason> {
        self.0.get(&node).map(|(_, reason)| *reason)
    }
}

/// The times in which a job was slowed on the nodes it runs on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slowed {
    /// The first of its nodes that was, and why.
    pub(super) node: u32,
    pub(super) reason: Reason,
    pub(super) from: Instant,
    until: Instant,
    times: u32,
    in_all: Nanos,
    /// Of its nodes, how many are slowed now.
    nodes: u32,
}

/// What would be told as no time at all.
const INSTANT: Nanos = Nanos(50_000_000);

impl Slowed {
    /// From now on one of its nodes is slowed.
    pub(super) const fn new(now: Instant, node: u32, reason: Reason) -> Self {
        Self {
            node,
            reason,
            from: now,
            until: now,
            times: 1,
            in_all: Nanos::ZERO,
            nodes: 1,
        }
    }

    /// One more of its nodes is slowed, or one no longer is.
    pub(super) fn changes(&mut self, now: Instant, is_slowed: bool) {
        self.passes(now);
        match is_slowed {
            true => {
                if self.nodes == 0 {
                    self.times += 1;
                    self.until = now;
                }
                self.nodes += 1;
            }
            false => self.nodes = self.nodes.saturating_sub(1),
        }
    }

    /// A node is slowed from now on, and why, or no longer: of a job that perhaps was never slowed before.
    pub(super) fn note(of: &mut Option<Self>, now: Instant, node: u32, slowed: Option<Reason>) {
        match of {
            Some(known) => known.changes(now, slowed.is_some()),
            None => *of = slowed.map(|reason| Self::new(now, node, reason)),
        }
    }

    /// It is seen now, perhaps for the last time.
    pub(super) fn passes(&mut self, now: Instant) {
        if self.nodes > 0 {
            self.in_all += now.since(self.until);
            self.until = now;
        }
    }

    /// In a sentence.
    pub(super) fn text(&self) -> String {
        let because = match self.reason {
            Reason::Backpressure => "its cooling loop could not carry its nodes at full clock",
            Reason::NearLimit => "a device of its nodes was near its limit",
            other => other.name(),
        };
        let (from, until) = (words::moment(self.from), words::moment(self.until));
        let in_all = words::span(self.in_all);
        match self.times {
            1 if self.in_all < INSTANT => format!("slowed for an instant at {from}: {because}"),
            1 => format!("slowed from {from} to {until}, for {in_all}: {because}"),
            n => format!(
                "slowed {n} times between {from} and {until}, in all for {in_all}: {because}"
            ),
        }
    }

    pub(super) const fn times(&self) -> u32 {
        self.times
    }

    pub(super) const fn until(&self) -> Instant {
        self.until
    }

    pub(super) const fn in_all(&self) -> Nanos {
        self.in_all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::EPOCH + Nanos::SECOND * seconds
    }

    #[test]
    fn a_node_is_slowed_until_all_who_throttled_it_let_it_go() {
        let mut nodes = Throttled::default();
        let (hot, warm) = (Reason::NearLimit, Reason::Backpressure);
        assert_eq!(nodes.decided(7, Action::Release, hot), None);
        assert_eq!(nodes.decided(7, Action::Throttle, warm), Some(true));
        assert_eq!(nodes.decided(7, Action::Throttle, hot), None);
        assert_eq!(nodes.decided(7, Action::Release, hot), None);
        assert_eq!((nodes.why(7), nodes.why(8)), (Some(warm), None));
        assert_eq!(nodes.decided(7, Action::Release, warm), Some(false));
        assert_eq!(nodes.decided(7, Action::Throttle, hot), Some(true));
        assert_eq!(nodes.decided(7, Action::Darken, hot), Some(false));
        assert_eq!(nodes.why(7), None);
    }

    #[test]
    fn stretches_count_once_whatever_nodes_they_are_of_and_pauses_not_at_all() {
        let mut slowed = Slowed::new(at(100), 3, Reason::Backpressure);
        slowed.changes(at(110), true);
        slowed.changes(at(120), false);
        slowed.passes(at(125));
        assert!(
            slowed
                .text()
                .starts_with("slowed from 1 min 40 s to 2 min 5 s, for 25 s: ")
        );
        let mut instant = Slowed::new(at(100), 3, Reason::NearLimit);
        instant.changes(at(100), false);
        assert!(
            instant
                .text()
                .starts_with("slowed for an instant at 1 min 40 s: ")
        );
        slowed.changes(at(130), false);
        slowed.passes(at(500));
        assert_eq!(slowed.in_all(), Nanos::SECOND * 30);
        slowed.changes(at(600), true);
        slowed.changes(at(610), false);
        slowed.passes(at(900));
        assert_eq!(
            slowed.text(),
            "slowed 2 times between 1 min 40 s and 10 min 10 s, in all for 40 s: its cooling loop could not carry its nodes at full clock"
        );
    }
}
