//! A golden trace: how a layer and one of its tiles answer when the load outward rises by a step.
//! `UPDATE_EXPECT=1 cargo test -p scheduler --test golden` writes it anew after a change
//! that is meant.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;

use expect_test::expect_file;
use machine::Machine;
use scheduler::guard::{self, Guard, Limits};
use scheduler::thermos::{self, Config, Link, Signal, Thermos};
use wire::{Instant, Nanos};

const PERIOD: Nanos = Nanos(10 * Nanos::MINUTE.0);
const LIGHT_TIME: Nanos = Nanos(30 * Nanos::MINUTE.0);

/// Half an hour out as heat, half an hour back as news: what is heard now was spent an hour ago.
const DELAY: usize = 6;

/// The load of the layer outward over the budget of the inner one, and the temperature at which a
/// tile of the inner layer would come to rest at full clock, before and after the step.
const CALM: (f64, f64) = (0.7, 370.0);
const STEP: (f64, f64) = (1.2, 412.0);
const STEP_AT: u64 = 12;

//= requirements H3
//= requirements H4
#[test]
fn a_step_in_load_is_answered_by_the_guard_at_once_and_by_thermos_without_overshoot() {
    let mut thermos = Thermos::new(
        &Config {
            setpoint: 0.9,
            budget_min: 0.05,
            resolution: 0.02,
            period: PERIOD,
            outward: vec![Link {
                layer: 1,
                light_time: LIGHT_TIME,
                lag: Nanos::ZERO,
                gain: None,
            }],
        },
        Instant::EPOCH,
    );
    let mut guard = Guard::new(Arc::new(Limits {
        throttle_kelvin: 390.0,
        limit_kelvin: 400.0,
        clock_min: 0.1,
        clock_exponent: 3.0,
        throttles: true,
    }));

    let mut text = String::from("  time    load heard  budget  tile       clock\n");
    let mut spent: VecDeque<f64> = [1.0; DELAY].into();
    let mut kelvin = CALM.1;
    for step in 1..=144 {
        let measured = Instant::EPOCH + PERIOD * step;
        let now = measured + LIGHT_TIME;
        let (load, rest) = if step < STEP_AT { CALM } else { STEP };
        spent.push_back(thermos.budget());
        let signal = Signal {
            layer: 1,
            load: load * spent.pop_front().expect("always six"),
            measured,
        };
        // A tile rests at 300 K without work, warms with its power, and takes 20 minutes.
        let target = 300.0 + (rest - 300.0) * guard.clock().powi(3);
        kelvin += (target - kelvin) * 0.4;

        let (mut budgets, mut happened) = (Vec::new(), Vec::new());
        thermos.handle(now, signal, &mut |effect| match effect {
            thermos::Effect::Budget(budget) => budgets.push(budget),
            thermos::Effect::Decided(action, reason, found, bound) => {
                happened.push(format!(
                    "thermos: {action} ({reason}): {found:.2} against {bound:.2}"
                ));
            }
        });
        let mut tell = |input| {
            guard.handle(now, input, &mut |effect| match effect {
                guard::Effect::Decided(action, reason, found, bound) => {
                    happened.push(format!(
                        "guard: {action} ({reason}): {found:.1} K against {bound:.1} K"
                    ));
                }
                guard::Effect::SetClock(_) => {}
                guard::Effect::Panic => happened.push("guard: cuts the power".to_owned()),
            });
        };
        for budget in budgets {
            tell(guard::Input::Budget(budget));
        }
        tell(guard::Input::Sensed(kelvin));

        let hours = measured.as_secs_f64() / 3_600.0;
        for line in &happened {
            writeln!(text, "{hours:>5.2} h  {line}").unwrap();
        }
        let busy = (STEP_AT - 1..STEP_AT + 12).contains(&step);
        if busy || step % 12 == 0 {
            let (budget, clock) = (thermos.budget(), guard.clock());
            writeln!(
                text,
                "{hours:>5.2} h  {:>10.2}  {budget:>6.2}  {kelvin:>6.1} K  {clock:>6.2}",
                signal.load
            )
            .unwrap();
        }
    }
    expect_file!["golden/step.txt"].assert_eq(&text);
}
