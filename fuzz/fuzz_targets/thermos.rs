#![no_main]

use fuzz::contract::{Pause, Rig};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use scheduler::thermos::{Config, Effect, Link, Signal, Thermos};
use wire::{Instant, Nanos};

#[derive(Debug, Arbitrary)]
struct News {
    layer: u8,
    load: Load,
    /// Measured so many seconds ago.
    age: u16,
}

#[derive(Debug, Arbitrary)]
enum Load {
    Any(f64),
    Hundredths(u8),
}

// Whatever is heard, late, twice or never: a budget is a share, and silence never raises it.
libfuzzer_sys::fuzz_target!(|plan: Vec<(Pause, bool, Option<News>)>| {
    let link = |layer, minutes| Link {
        layer,
        light_time: Nanos::MINUTE * minutes,
        lag: Nanos::SECOND,
        gain: None,
    };
    let config = Config {
        setpoint: 0.9,
        budget_min: 0.05,
        resolution: 0.01,
        period: Nanos::MINUTE,
        outward: vec![link(1, 10), link(2, 100)],
    };
    let mut rig = Rig {
        machine: Thermos::new(&config, Instant::EPOCH),
        now: Instant::EPOCH,
        effects_max: 3,
        wakes_max: 1,
    };
    let mut announced = 1.0;
    for (pause, punctual, news) in plan {
        let before = rig.machine.budget();
        let mut seen = |_: &Thermos, effect| {
            if let Effect::Budget(budget) = effect {
                assert!((0.05..=1.0).contains(&budget), "{budget}");
                assert_ne!(budget, announced);
                announced = budget;
            }
        };
        rig.pass(pause, punctual, &mut seen);
        assert!(rig.machine.budget() <= before, "silence is heat");
        if let Some(News { layer, load, age }) = news {
            let signal = Signal {
                layer,
                load: match load {
                    Load::Any(load) => load,
                    Load::Hundredths(n) => f64::from(n) / 100.0,
                },
                measured: Instant(rig.now.0.saturating_sub(Nanos::from_secs(age.into()).0)),
            };
            let before = rig.machine.budget();
            rig.give(signal, &mut seen);
            if signal.load.is_nan() || signal.load >= 0.9 {
                assert!(rig.machine.budget() <= before, "{signal:?} raised it");
            }
        }
        // NaN is in no range.
        assert!((0.05..=1.0).contains(&rig.machine.budget()));
        assert!((announced - rig.machine.budget()).abs() <= 0.01);
    }
});
