//! The queue of one line: four classes, one frame at a time.
//!
//! Bulk is not simulated frame by frame. A message that has the line runs to its
//! end in one go, as a *run*, unless something more urgent comes: then the run is
//! cut at the end of the frame that is on the line, and what is left of the
//! message goes back to the head of its class. A gigabyte costs one wake-up, and
//! every interruption one more.

use alloc::collections::VecDeque;
use core::num::NonZero;

use machine::Machine;
use wire::{Class, Instant, Nanos};

/// What a line is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How fast it is, in bits per second.
    pub bits_per_second: NonZero<u64>,
    /// The longest piece that has the line without a break, in bytes.
    pub frame_bytes: NonZero<u32>,
    /// How many messages of one class may wait.
    pub waiting_max: usize,
}

impl Config {
    /// How long the line is busy with so many bytes; rounded up to a nanosecond.
    #[must_use]
    pub fn time(&self, bytes: u64) -> Nanos {
        let bits = u128::from(bytes) * 8 * 1_000_000_000;
        let nanos = bits.div_ceil(u128::from(self.bits_per_second.get()));
        Nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The end of the frame that is on the line so long after a run began, as
    /// bytes since then.
    fn frame_end(&self, elapsed: Nanos) -> u64 {
        let bits = u128::from(elapsed.0) * u128::from(self.bits_per_second.get());
        let frame = u128::from(self.frame_bytes.get());
        let frames = bits.div_ceil(frame * 8 * 1_000_000_000);
        u64::try_from(frames * frame).unwrap_or(u64::MAX)
    }
}

/// Something to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input<M> {
    /// How urgent it is.
    pub class: Class,
    /// How long it is on the line, in bytes.
    pub bytes: u64,
    /// What.
    pub message: M,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<M> {
    /// The last bit of a message has left.
    Sent {
        /// Its class.
        class: Class,
        /// The time since it was handed in that it was not itself on the line.
        waited: Nanos,
        /// The message.
        message: M,
    },
    /// The class is full. Nothing of the message was sent; try later.
    Refused {
        /// Its class.
        class: Class,
        /// The message, back.
        message: M,
    },
}

/// A message, or what is left of it.
#[derive(Clone, Debug)]
struct Waiting<M> {
    message: M,
    handed_in: Instant,
    /// The time it needs on an idle line.
    alone: Nanos,
    bytes_left: u64,
}

/// The head of a class has the line.
#[derive(Clone, Copy, Debug)]
struct Run {
    class: Class,
    began: Instant,
    ends: Instant,
    /// How much of the message will have been sent by then.
    bytes: u64,
}

/// One line and what waits for it.
#[derive(Clone, Debug)]
pub struct Line<M> {
    config: Config,
    waiting: [VecDeque<Waiting<M>>; Class::ALL.len()],
    run: Option<Run>,
}

impl<M> Line<M> {
    /// An idle line.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            waiting: [const { VecDeque::new() }; Class::ALL.len()],
            run: None,
        }
    }

    /// Messages of a class that have not left yet.
    #[must_use]
    pub fn waiting(&self, class: Class) -> usize {
        self.waiting[class as usize].len()
    }

    /// Gives the line to the most urgent class that waits.
    fn start(&mut self, now: Instant) {
        debug_assert!(self.run.is_none(), "a line carries one message at a time");
        let next = Class::ALL.into_iter().find_map(|class| {
            let head = self.waiting[class as usize].front()?;
            Some((class, head.bytes_left))
        });
        self.run = next.map(|(class, bytes)| Run {
            class,
            began: now,
            ends: now + self.config.time(bytes),
            bytes,
        });
    }

    /// Shortens the run to the end of its present frame, for something more urgent.
    fn cut(&mut self, now: Instant) {
        let Some(run) = &mut self.run else { return };
        let bytes = self.config.frame_end(now.since(run.began));
        if bytes < run.bytes {
            run.bytes = bytes;
            run.ends = run.began + self.config.time(bytes);
        }
    }

    /// Ends every run that is over by now.
    fn settle(&mut self, now: Instant, out: &mut impl FnMut(Effect<M>)) {
        while let Some(run) = self.run.filter(|run| run.ends <= now) {
            self.run = None;
            let queue = &mut self.waiting[run.class as usize];
            let head = queue.front_mut().expect("a run is of the head of a class");
            head.bytes_left -= run.bytes;
            if head.bytes_left == 0 {
                let sent = queue.pop_front().expect("just seen");
                let under_way = run.ends.since(sent.handed_in);
                out(Effect::Sent {
                    class: run.class,
                    waited: Nanos(under_way.0.saturating_sub(sent.alone.0)),
                    message: sent.message,
                });
            }
            self.start(run.ends);
        }
    }
}

impl<M> Machine for Line<M> {
    type Input = Input<M>;
    type Effect = Effect<M>;

    //= requirements N1
    //= requirements H7
    fn handle(&mut self, now: Instant, input: Input<M>, out: &mut impl FnMut(Effect<M>)) {
        self.settle(now, out);
        let Input {
            class,
            bytes,
            message,
        } = input;
        if self.waiting(class) >= self.config.waiting_max {
            return out(Effect::Refused { class, message });
        }
        self.waiting[class as usize].push_back(Waiting {
            message,
            handed_in: now,
            alone: self.config.time(bytes),
            bytes_left: bytes,
        });
        match self.run {
            None => self.start(now),
            Some(run) if class < run.class => self.cut(now),
            Some(_) => {}
        }
        // A message without bytes, or one that interrupts at the end of a frame.
        self.settle(now, out);
    }

    fn wake(&mut self, now: Instant, out: &mut impl FnMut(Effect<M>)) {
        self.settle(now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        self.run.map(|run| run.ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// Eight bits a microsecond, frames of 1,000 bytes: a frame takes 1 ms.
    const CONFIG: Config = Config {
        bits_per_second: NonZero::new(8_000_000).unwrap(),
        frame_bytes: NonZero::new(1_000).unwrap(),
        waiting_max: 64,
    };
    const FRAME: Nanos = Nanos(1_000_000);

    fn at(micros: u64) -> Instant {
        Instant(micros * 1_000)
    }

    /// Hands in messages at their moments and says what left when, in that order.
    fn carry(
        config: Config,
        mut messages: Vec<(u64, Class, u64)>,
    ) -> Vec<(Instant, Effect<usize>)> {
        messages.sort_by_key(|m| m.0);
        let mut line = Line::new(config);
        let mut left = Vec::new();
        let mut coming = messages.into_iter().enumerate().peekable();
        loop {
            let next = coming.peek().map(|(_, m)| at(m.0));
            let now = match (next, line.deadline()) {
                (None, None) => return left,
                (next, deadline) => next
                    .unwrap_or(Instant::END)
                    .min(deadline.unwrap_or(Instant::END)),
            };
            let mut out = |effect| left.push((now, effect));
            if line.deadline() == Some(now) {
                line.wake(now, &mut out);
            } else if let Some((message, (_, class, bytes))) = coming.next() {
                let input = Input {
                    class,
                    bytes,
                    message,
                };
                line.handle(now, input, &mut out);
            }
        }
    }

    fn sent(class: Class, waited_micros: u64, message: usize) -> Effect<usize> {
        Effect::Sent {
            class,
            waited: Nanos(waited_micros * 1_000),
            message,
        }
    }

    #[test]
    fn an_order_waits_for_the_rest_of_one_frame() {
        let left = carry(
            CONFIG,
            [(0, Class::D, 10_000), (2_300, Class::A, 100)].into(),
        );
        assert_eq!(
            left,
            [
                (at(3_100), sent(Class::A, 700, 1)),
                (at(10_100), sent(Class::D, 100, 0)),
            ]
        );
    }

    #[test]
    fn within_a_class_who_came_first_leaves_first() {
        let left = carry(
            CONFIG,
            [(0, Class::C, 1_500), (10, Class::C, 100), (20, Class::B, 0)].into(),
        );
        let order: Vec<_> = left.iter().map(|(at, _)| *at).collect();
        assert_eq!(order, [at(1_000), at(1_500), at(1_600)]);
        assert_eq!(left[0].1, sent(Class::B, 980, 2));
    }

    #[test]
    fn a_full_class_hands_back_what_it_cannot_take_and_the_others_go_on() {
        let mut line = Line::new(Config {
            waiting_max: 2,
            ..CONFIG
        });
        let mut left = Vec::new();
        for (message, class) in [Class::D, Class::D, Class::D, Class::A]
            .into_iter()
            .enumerate()
        {
            let input = Input {
                class,
                bytes: 5_000,
                message,
            };
            line.handle(at(0), input, &mut |effect| left.push(effect));
        }
        assert_eq!(
            left,
            [Effect::Refused {
                class: Class::D,
                message: 2
            }]
        );
        assert_eq!(line.waiting(Class::A), 1);
    }

    fn class() -> impl Strategy<Value = Class> {
        prop::sample::select(Class::ALL.to_vec())
    }

    proptest! {
        /// Nothing is lost, nothing is faster than the line, and the line never
        /// rests while something waits: it is idle for as long as one that serves
        /// in order of arrival.
        #[test]
        fn a_line_does_all_its_work_and_no_more(
            messages in prop::collection::vec((0..20_000u64, class(), 0..9_000u64), 1..40),
        ) {
            let left = carry(CONFIG, messages.clone());
            prop_assert_eq!(left.len(), messages.len());
            let mut in_order = messages;
            in_order.sort_by_key(|m| m.0);
            let end = in_order.iter().fold(Instant::EPOCH, |free, m| {
                free.max(at(m.0)) + CONFIG.time(m.2)
            });
            prop_assert_eq!(left.last().map(|l| l.0), Some(end));
        }

        /// However much bulk there is, class A waits for its own kind and one frame.
        #[test]
        fn bulk_never_delays_an_order_by_more_than_a_frame(
            bulk in prop::collection::vec(
                (0..20_000u64, prop::sample::select([Class::B, Class::C, Class::D].to_vec()), 1..90_000u64),
                1..20,
            ),
            orders in prop::collection::vec((0..20_000u64, 1..800u64), 1..20),
        ) {
            let orders: Vec<_> = orders.iter().map(|&(at, bytes)| (at, Class::A, bytes)).collect();
            let leave = |messages: &[(u64, Class, u64)]| -> Vec<Instant> {
                carry(CONFIG, messages.to_vec())
                    .into_iter()
                    .filter(|(_, e)| matches!(e, Effect::Sent { class: Class::A, .. }))
                    .map(|(at, _)| at)
                    .collect()
            };
            let alone = leave(&orders);
            let mut all = orders.clone();
            all.extend(bulk);
            for (busy, alone) in leave(&all).into_iter().zip(alone) {
                prop_assert!(busy >= alone && busy.since(alone) <= FRAME, "{busy:?} {alone:?}");
            }
        }
    }
}
