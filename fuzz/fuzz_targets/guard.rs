#![no_main]

use std::sync::Arc;

use fuzz::contract::{Pause, Rig};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use scheduler::guard::{Effect, Guard, Input, Limits};

#[derive(Debug, Arbitrary)]
enum Act {
    Sensed(f64),
    /// In the band, by sixteenths of a kelvin.
    Near(u8),
    Budget(f64),
}

// Whatever its sensor says, a guard sets clocks that exist, and none once it cut the power, which it does
// at the limit.
libfuzzer_sys::fuzz_target!(|plan: (bool, bool, Vec<Act>)| {
    let (throttles, cubic, acts) = plan;
    let mut rig = Rig {
        machine: Guard::new(Arc::new(Limits {
            throttle_kelvin: 390.0,
            limit_kelvin: 400.0,
            clock_min: 0.1,
            clock_exponent: if cubic { 3.0 } else { 2.5 },
            throttles,
        })),
        now: wire::Instant::EPOCH,
        effects_max: 2,
        wakes_max: 1,
    };
    for act in acts {
        let was_dark = rig.machine.is_dark();
        let input = match act {
            Act::Sensed(kelvin) => Input::Sensed(kelvin),
            Act::Near(sixteenths) => Input::Sensed(386.0 + f64::from(sixteenths) / 16.0),
            Act::Budget(budget) => Input::Budget(budget),
        };
        rig.pass(Pause::Deadline, true, |_, _| {});
        rig.give(input, |guard, effect| {
            assert!(!was_dark, "{effect:?} from the dark");
            match effect {
                Effect::SetClock(clock) => {
                    assert!((0.1..=1.0).contains(&clock), "{clock}");
                    assert!((guard.clock() - clock).abs() < 1e-6);
                }
                Effect::Panic => assert!(guard.is_dark()),
                Effect::Decided(..) => {}
            }
        });
        let over = matches!(input, Input::Sensed(kelvin) if kelvin >= 400.0);
        assert_eq!(rig.machine.is_dark(), was_dark || over);
    }
});
