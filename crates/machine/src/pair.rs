//! Two machines, one virtual time, and a wire between them that a test can cut.
//!
//! The harness every protocol crate tests with: a test injects inputs, lets time
//! run, and reads what happened. The protocol says how one side's effect becomes
//! the other side's input; everything else it emits is kept for the test.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use wire::{Instant, Nanos};

use crate::Machine;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first machine.
    Left,
    /// The second.
    Right,
}

impl Side {
    /// The one across.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

/// Two machines of one kind and the wire between them.
pub struct Pair<M: Machine, F> {
    machines: [M; 2],
    /// Turns an effect of one side into an input of the other; hands back an
    /// effect that is not a message.
    route: F,
    now: Instant,
    delay: Nanos,
    cut: bool,
    wire: VecDeque<(Instant, Side, M::Input)>,
    /// Effects that were not messages, with when and whose.
    pub seen: Vec<(Instant, Side, M::Effect)>,
}

impl<M, F> Pair<M, F>
where
    M: Machine,
    F: FnMut(Side, M::Effect) -> Result<M::Input, M::Effect>,
{
    /// Joins two machines by a wire of this one-way delay.
    pub const fn new(left: M, right: M, delay: Nanos, route: F) -> Self {
        Self {
            machines: [left, right],
            route,
            now: Instant::EPOCH,
            delay,
            cut: false,
            wire: VecDeque::new(),
            seen: Vec::new(),
        }
    }

    /// The virtual time.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// One of the machines.
    pub const fn machine(&self, side: Side) -> &M {
        &self.machines[side as usize]
    }

    /// While cut, messages vanish: those on the wire and those sent.
    pub fn cut(&mut self, cut: bool) {
        self.cut = cut;
        if cut {
            self.wire.clear();
        }
    }

    /// Hands an input to one side now.
    pub fn give(&mut self, side: Side, input: M::Input) {
        let mut effects = Vec::new();
        self.machines[side as usize].handle(self.now, input, &mut |e| effects.push(e));
        self.take(side, effects);
    }

    /// Lets time run, delivering messages and waking machines, up to and
    /// including `until`.
    ///
    /// # Panics
    /// If a machine keeps a deadline that does not advance: it would loop for ever.
    pub fn run(&mut self, until: Instant) {
        let mut idle_steps = 0;
        while let Some(next) = self.next_instant().filter(|&t| t <= until) {
            idle_steps = if next > self.now { 0 } else { idle_steps + 1 };
            assert!(idle_steps < 100_000, "time stands still at {}", self.now);
            self.now = self.now.max(next);
            if self.wire.front().is_some_and(|(at, ..)| *at <= self.now) {
                let (_, side, input) = self.wire.pop_front().expect("checked above");
                self.give(side, input);
                continue;
            }
            for side in [Side::Left, Side::Right] {
                let machine = &mut self.machines[side as usize];
                if machine.deadline().is_some_and(|at| at <= self.now) {
                    let mut effects = Vec::new();
                    machine.wake(self.now, &mut |e| effects.push(e));
                    self.take(side, effects);
                }
            }
        }
        self.now = self.now.max(until);
    }

    fn next_instant(&self) -> Option<Instant> {
        let message = self.wire.front().map(|(at, ..)| *at);
        let deadlines = self.machines.iter().filter_map(Machine::deadline);
        message.into_iter().chain(deadlines).min()
    }

    fn take(&mut self, side: Side, effects: Vec<M::Effect>) {
        for effect in effects {
            match (self.route)(side, effect) {
                Ok(_) if self.cut => {}
                // One delay for all keeps the queue in order of arrival.
                Ok(input) => self
                    .wire
                    .push_back((self.now + self.delay, side.peer(), input)),
                Err(other) => self.seen.push((self.now, side, other)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a greeting every second until it hears one.
    struct Greeter {
        next: Option<Instant>,
    }
    #[derive(Debug, PartialEq)]
    enum Said {
        Hello,
        Heard,
    }
    impl Machine for Greeter {
        type Input = ();
        type Effect = Said;
        fn handle(&mut self, _: Instant, (): (), out: &mut impl FnMut(Said)) {
            self.next = None;
            out(Said::Heard);
        }
        fn wake(&mut self, now: Instant, out: &mut impl FnMut(Said)) {
            if self.next.is_some_and(|at| at <= now) {
                self.next = Some(now + Nanos::SECOND);
                out(Said::Hello);
            }
        }
        fn deadline(&self) -> Option<Instant> {
            self.next
        }
    }

    #[test]
    fn a_cut_wire_carries_nothing_and_a_mended_one_everything() {
        let greeter = || Greeter {
            next: Some(Instant::EPOCH),
        };
        let mut pair = Pair::new(
            greeter(),
            greeter(),
            Nanos::MILLISECOND,
            |_, said| match said {
                Said::Hello => Ok(()),
                Said::Heard => Err(Said::Heard),
            },
        );
        pair.cut(true);
        pair.run(Instant::EPOCH + Nanos::from_millis(2_500));
        assert_eq!(pair.seen, []);
        pair.cut(false);
        pair.run(Instant::EPOCH + Nanos::from_secs(10));
        let heard_at = Instant::EPOCH + Nanos::from_millis(3_001);
        assert_eq!(
            pair.seen,
            [
                (heard_at, Side::Right, Said::Heard),
                (heard_at, Side::Left, Said::Heard)
            ]
        );
        assert_eq!(pair.machine(Side::Left).deadline(), None);
    }
}
