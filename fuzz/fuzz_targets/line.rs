#![no_main]

use std::collections::VecDeque;
use std::num::NonZero;

use fuzz::contract::{Pause, Rig};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use transit::Line;
use transit::line::{Config, Effect, Input};
use wire::{Class, Instant};

const WAITING_MAX: usize = 4;

#[derive(Debug, Arbitrary)]
struct Handed {
    class: u8,
    bytes: Bytes,
}

#[derive(Debug, Arbitrary)]
enum Bytes {
    Few(u16),
    Any(u64),
}

// Whatever is handed in and whenever: a class gives up what it took in the order in which it took
// it, hands back only what it has no room for, nothing leaves sooner than the line carries it, and the line rests
// only when nothing waits.
libfuzzer_sys::fuzz_target!(|plan: Vec<(Pause, bool, Option<Handed>)>| {
    let config = Config {
        bits_per_second: NonZero::new(1_000_000).expect("not zero"),
        frame_bytes: NonZero::new(500).expect("not zero"),
        waiting_max: WAITING_MAX,
    };
    let mut rig = Rig {
        machine: Line::new(config),
        now: Instant::EPOCH,
        effects_max: Class::ALL.len() * WAITING_MAX + 1,
        wakes_max: 1,
    };
    // Of each class, what the line has: number, bytes, and when it was handed in.
    let mut has: [VecDeque<(usize, u64, Instant)>; Class::ALL.len()] = Default::default();
    let mut carried: u128 = 0;
    for (number, (pause, punctual, handed)) in plan.into_iter().enumerate() {
        let mut left = Vec::new();
        rig.pass(pause, punctual, |_, effect| left.push(effect));
        let mut refused = None;
        if let Some(Handed { class, bytes }) = handed {
            let class = Class::ALL[usize::from(class) % Class::ALL.len()];
            let bytes = match bytes {
                Bytes::Few(bytes) => bytes.into(),
                // Up to a terabyte: a line that never ends says nothing.
                Bytes::Any(bytes) => bytes >> 24,
            };
            has[class as usize].push_back((number, bytes, rig.now));
            let input = Input {
                class,
                bytes,
                message: number,
            };
            rig.give(input, |_, effect| match effect {
                Effect::Refused { class, message } => refused = Some((class, message)),
                sent => left.push(sent),
            });
        }
        for effect in left {
            let Effect::Sent {
                class,
                waited,
                message,
            } = effect
            else {
                panic!("{effect:?} of what was never handed in")
            };
            let first = has[class as usize].pop_front();
            let (number, bytes, since) = first.expect("it was handed in");
            assert_eq!(message, number, "out of its turn");
            let under_way = rig.now.since(since);
            let alone = config.time(bytes);
            assert!(waited + alone <= under_way, "{message} left before its end");
            carried += u128::from(bytes);
        }
        if let Some((class, message)) = refused {
            let back = has[class as usize].pop_back().map(|(number, ..)| number);
            assert_eq!(back, Some(message));
            assert_eq!(has[class as usize].len(), WAITING_MAX, "there was room");
        }
        for class in Class::ALL {
            assert_eq!(rig.machine.waiting(class), has[class as usize].len());
        }
        let waits = has.iter().any(|waiting| !waiting.is_empty());
        let due = machine::Machine::deadline(&rig.machine);
        assert_eq!(due.is_some(), waits, "it rests while something waits");
        let elapsed = u128::from(rig.now.since(Instant::EPOCH).0);
        assert!(carried * 8 * 1_000 <= elapsed, "faster than the line");
    }
});
