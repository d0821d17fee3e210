#![no_main]

use std::sync::Arc;

use fuzz::contract::{Pause, Rig};
use fuzz::speech::{Promise, Said, member};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use machine::{Machine, Persisted};
use node::{Effect, Input, Node};
use scheduler::guard::{Guard, Limits};

#[derive(Debug, Arbitrary)]
enum Act {
    Hear(Said),
    Sync,
    Sensed(u8),
    Budget(f32),
    Leave,
}

/// What its protocols promise, and whether it has power.
struct Watch {
    promise: Promise,
    dark: bool,
}

impl Watch {
    fn note(&mut self, effect: Effect) {
        assert!(!self.dark, "{effect:?} from the dark");
        match effect {
            Effect::Send { to, message, .. } => self.promise.said(to, &message),
            Effect::Persist(write) => self.promise.write(write),
            Effect::Panic => self.dark = true,
            Effect::SetClock(clock) => assert!((0.1..=1.0).contains(&clock), "{clock}"),
            Effect::Changed { .. } | Effect::Rejected(_) | Effect::Decided(..) => {}
        }
    }
}

// A node keeps what its protocols promise, and when the guard has cut the power nothing follows.
libfuzzer_sys::fuzz_target!(|plan: (bool, Vec<(Pause, bool, Act)>)| {
    let (again, acts) = plan;
    let (member, promise) = member(again.into());
    let mut watch = Watch {
        promise,
        dark: false,
    };
    let hearer = member.clone();
    let guard = Guard::new(Arc::new(Limits {
        throttle_kelvin: 390.0,
        limit_kelvin: 400.0,
        clock_min: 0.1,
        clock_exponent: 3.0,
        throttles: true,
    }));
    let mut rig = Rig {
        machine: Node::new(guard, Some(member)),
        now: wire::Instant::EPOCH,
        effects_max: 64,
        wakes_max: 8,
    };
    for (pause, punctual, act) in acts {
        rig.pass(pause, punctual, |_, effect| watch.note(effect));
        let input = match act {
            Act::Hear(said) => {
                let hearer = rig.machine.member().unwrap_or(&hearer);
                Input::Received(said.message(hearer, &watch.promise.key))
            }
            Act::Sync => match watch.promise.sync() {
                Some(token) => Input::Persisted(Persisted { token }),
                None => continue,
            },
            Act::Sensed(kelvin) => Input::Sensed(200.0 + f64::from(kelvin)),
            Act::Budget(budget) => Input::Budget(budget.into()),
            Act::Leave => Input::Leave,
        };
        rig.give(input, |_, effect| watch.note(effect));
        if let Some(member) = rig.machine.member() {
            watch.promise.holds(member);
        }
        assert_eq!(watch.dark, rig.machine.member().is_none());
        assert!(!watch.dark || rig.machine.deadline().is_none());
    }
});
