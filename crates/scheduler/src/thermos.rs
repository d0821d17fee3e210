//! How does a layer slow down for another layer it cannot see in time?
//!
//! A layer outward measures its thermal load and tells the layers inside it, in
//! class A, what it measured and when. The news is old by the light time, and
//! what is done about it shows only after the light time again: the loop has a
//! dead time of two light times, hours between far shells, and longer by what the
//! tiles on the way take to warm up.
//!
//! Each inner cell integrates what it hears. While the load reported lies above
//! the setpoint (90 %) its budget falls, below it the budget rises, at a rate in
//! proportion to the difference:
//!
//! ```text
//!     d budget / dt = gain · (setpoint − load heard)
//! ```
//!
//! With the load in proportion to the budget this is y′(t) = −k·y(t − τ), the
//! simplest loop with a dead time, and its behaviour is known exactly (Hayes,
//! *Roots of the transcendental equation associated with a certain
//! difference-differential equation*, J. London Math. Soc., 1950): no overshoot
//! for k·τ ≤ 1/e, decaying oscillation up to π/2, growing oscillation beyond. The
//! gain is therefore *derived*: [`Thermos::DAMPING`] over the dead time, safely
//! below 1/e. A gain set by hand exists so that a twin can show those boundaries.
//!
//! A loop that never overshoots is slow: it takes several dead times to answer a
//! step. That is time enough while the load is below one, because whoever reports
//! it is still below its limit and stays there. Above one it is not: that layer
//! warms up, however much it slows down itself. So the part above one is not
//! waited for: three quarters of it are *cut* from the budget at once, and then
//! nothing for two dead times: one until news shows what the cut did, and one until
//! it shows what the loop integrated meanwhile. In a dead time the loop takes off a
//! quarter of what lies above the setpoint ([`Thermos::DAMPING`]); of a load L
//! both take ¾(L − 1) + ¼(L − 0.9) = L − 0.975. So where full budget inside adds at
//! most 1 to the load, which the derived gain supposes too, the cut leaves it above
//! the setpoint and adds no swing of its own.
//!
//! Silence is heat: a layer that is not heard from for several periods is taken
//! to be too hot to speak.
//!
//! Why so: docs/decisions/2026-11-21-gain-derived-from-delay.md and
//! docs/decisions/2026-11-21-a-load-above-one-is-cut-at-once.md.

use alloc::vec::Vec;
use machine::Machine;
use telemetry::{Action, Reason};
use wire::{Decode, DecodeError, Encode, Instant, Nanos, Reader};

/// News of a layer's load, sent inward in class A.
//= requirements H7
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signal {
    /// The layer that measured, counted outward from 0.
    pub layer: u8,
    /// Its thermal load: heat to reject over what it can reject at its limit.
    pub load: f64,
    /// When it was measured there. A reader sees how old the news is.
    pub measured: Instant,
}

/// Resolution of a load on the wire: one billionth, below any sensor's.
const LOAD_UNITS: f64 = 1e9;

/// The largest load on the wire, a million times what can be rejected. Up to 2⁵¹
/// billionths every number survives the way through a double; above, two would
/// share one, and a signal two spellings.
const LOAD_UNITS_MAX: u64 = 1_000_000_000_000_000;
const _: () = assert!(LOAD_UNITS_MAX < 1 << 51);

impl Encode for Signal {
    fn encode(&self, out: &mut Vec<u8>) {
        self.layer.encode(out);
        // Saturates for a negative, NaN or larger load, which no sensor measures.
        let units = (self.load * LOAD_UNITS + 0.5) as u64;
        units.min(LOAD_UNITS_MAX).encode(out);
        self.measured.0.encode(out);
    }
}

impl Decode for Signal {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let layer = u8::decode(from)?;
        let at = from.position();
        let found = u64::decode(from)?;
        if found > LOAD_UNITS_MAX {
            let what = "thermal load";
            return Err(DecodeError::Invalid { at, what, found });
        }
        Ok(Self {
            layer,
            load: found as f64 / LOAD_UNITS,
            measured: Instant(u64::decode(from)?),
        })
    }
}

/// One layer outward, as the controller is told of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// The layer outward.
    pub layer: u8,
    /// Light time to it, one way.
    pub light_time: Nanos,
    /// How long the tiles on the way take to warm up or cool.
    pub lag: Nanos,
    /// Per second; `None` derives it from the dead time.
    pub gain: Option<f64>,
}

/// The controller's constants.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The load above which inner layers slow down.
    pub setpoint: f64,
    /// The budget is never lowered below this.
    pub budget_min: f64,
    /// A change of budget smaller than this is kept back until it has grown:
    /// every change makes each tile of the cell set its clock.
    pub resolution: f64,
    /// Time between two measurements of a layer.
    pub period: Nanos,
    /// Every layer outward of this one.
    pub outward: Vec<Link>,
}

/// One loop: what was heard of a layer, and the budget integrated from it.
#[derive(Clone, Debug, PartialEq)]
struct Loop {
    link: Link,
    gain: f64,
    budget: f64,
    heard: Option<Signal>,
    /// When silence becomes news.
    patience: Instant,
    /// From when on news shows all that the last cut and the loop since then did.
    cut_again: Instant,
    /// Whether it was recorded as slowing the cell down, so that edges are recorded once.
    pressed: bool,
}

/// A cell's controller: the smallest budget any layer outward allows.
#[derive(Clone, Debug)]
pub struct Thermos {
    setpoint: f64,
    budget_min: f64,
    resolution: f64,
    /// The budget last passed on.
    announced: f64,
    period: Nanos,
    loops: Vec<Loop>,
}

/// What a controller asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    /// Every tile of the cell may spend this share of its dynamic power.
    Budget(f64),
    /// For the record: what was heard and what it was held against.
    Decided(Action, Reason, f64, f64),
}

/// A loop is recorded as slowing its cell down below this budget, and as letting go
/// at one again: a hundredth of the power is the least an operator would call slow.
const PRESSED_BELOW: f64 = 0.99;

/// A layer is too hot to speak after this many periods of silence.
pub(crate) const PERIODS_OF_PATIENCE: u64 = 4;

impl Thermos {
    /// Gain × dead time when the gain is derived. 1/e ≈ 0.368 is the most
    /// without overshoot; a third less leaves room for sampling and for loads
    /// that answer more than in proportion (leakage).
    //= requirements H4
    pub const DAMPING: f64 = 0.25;

    /// Full budget, nothing heard yet.
    #[must_use]
    pub fn new(config: &Config, now: Instant) -> Self {
        let loops = config.outward.iter().map(|&link| {
            let dead_time = Self::dead_time(&link, config.period);
            Loop {
                link,
                gain: link.gain.unwrap_or(Self::DAMPING / dead_time.as_secs_f64()),
                budget: 1.0,
                heard: None,
                patience: now + dead_time + config.period * PERIODS_OF_PATIENCE,
                cut_again: now,
                pressed: false,
            }
        });
        Self {
            setpoint: config.setpoint,
            budget_min: config.budget_min,
            resolution: config.resolution,
            announced: 1.0,
            period: config.period,
            loops: loops.collect(),
        }
    }

    /// From a change of budget to news of what it did: out as heat that first warms
    /// tiles, back as a signal, and a period until it is measured.
    #[must_use]
    pub fn dead_time(link: &Link, period: Nanos) -> Nanos {
        link.light_time * 2 + link.lag + period
    }

    /// The share of dynamic power now allowed, 0 to 1.
    #[must_use]
    pub fn budget(&self) -> f64 {
        self.loops.iter().map(|l| l.budget).fold(1.0, f64::min)
    }

    /// The last news of a layer, if any came.
    #[must_use]
    pub fn heard(&self, layer: u8) -> Option<Signal> {
        self.loops.iter().find(|l| l.link.layer == layer)?.heard
    }
}

impl Machine for Thermos {
    type Input = Signal;
    type Effect = Effect;

    fn handle(&mut self, now: Instant, signal: Signal, out: &mut impl FnMut(Effect)) {
        let (period, setpoint, budget_min) = (self.period, self.setpoint, self.budget_min);
        // What is no number says nothing, and silence is heat.
        let told = |l: &&mut Loop| l.link.layer == signal.layer && !signal.load.is_nan();
        let Some(l) = self.loops.iter_mut().find(told) else {
            return;
        };
        // News is integrated over the time it covers, once: late or repeated
        // news of a time already covered changes nothing.
        let covered = l
            .heard
            .map_or(period, |last| signal.measured.since(last.measured));
        if covered == Nanos::ZERO {
            return;
        }
        // What the wire cannot say nobody means.
        let load = signal.load.clamp(0.0, LOAD_UNITS_MAX as f64 / LOAD_UNITS);
        l.heard = Some(signal);
        l.patience = now + period * PERIODS_OF_PATIENCE;
        let change = l.integral(load, covered, setpoint) - l.cut(now, load, period);
        l.change(change, load, setpoint, budget_min, out);
        self.announce(out);
    }

    fn wake(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        let (period, setpoint, budget_min) = (self.period, self.setpoint, self.budget_min);
        for l in self.loops.iter_mut().filter(|l| l.patience <= now) {
            l.patience = now + period;
            // As hot as its limit allows, until it says otherwise.
            l.change(
                l.integral(1.0, period, setpoint),
                1.0,
                setpoint,
                budget_min,
                out,
            );
        }
        self.announce(out);
    }

    fn deadline(&self) -> Option<Instant> {
        self.loops.iter().map(|l| l.patience).min()
    }
}

impl Thermos {
    fn announce(&mut self, out: &mut impl FnMut(Effect)) {
        let now = self.budget();
        let at_an_end = now == 1.0 || now == self.budget_min;
        if now != self.announced && (at_an_end || (now - self.announced).abs() >= self.resolution) {
            self.announced = now;
            out(Effect::Budget(now));
        }
    }
}

impl Loop {
    //= requirements H3
    fn integral(&self, load: f64, covered: Nanos, setpoint: f64) -> f64 {
        self.gain * (setpoint - load) * covered.as_secs_f64()
    }

    /// What must go at once of a load above one. With a gain by hand it is in
    /// proportion, so that a loop of no gain does nothing.
    fn cut(&mut self, now: Instant, load: f64, period: Nanos) -> f64 {
        if load <= 1.0 || now < self.cut_again {
            return 0.0;
        }
        let dead_time = Thermos::dead_time(&self.link, period);
        self.cut_again = now + dead_time * 2;
        let of_derived = self.gain * dead_time.as_secs_f64() / Thermos::DAMPING;
        (load - 1.0) * (1.0 - Thermos::DAMPING) * of_derived.min(1.0)
    }

    fn change(
        &mut self,
        change: f64,
        load: f64,
        setpoint: f64,
        budget_min: f64,
        out: &mut impl FnMut(Effect),
    ) {
        self.budget = (self.budget + change).clamp(budget_min, 1.0);
        let edge = if self.pressed { 1.0 } else { PRESSED_BELOW };
        let pressed = self.budget < edge;
        if pressed != self.pressed {
            self.pressed = pressed;
            let (action, reason) = if pressed {
                (Action::Throttle, Reason::Backpressure)
            } else {
                (Action::Release, Reason::PressureEased)
            };
            out(Effect::Decided(action, reason, load, setpoint));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;

    const PERIOD: Nanos = Nanos::SECOND;

    fn thermos(light_time: Nanos, gain: Option<f64>) -> Thermos {
        let outward = alloc::vec![Link {
            layer: 1,
            light_time,
            lag: Nanos::ZERO,
            gain,
        }];
        let config = Config {
            setpoint: 0.9,
            budget_min: 0.0,
            resolution: 0.0,
            period: PERIOD,
            outward,
        };
        Thermos::new(&config, Instant::EPOCH)
    }

    /// Runs the loop against a layer whose load is `offered` × the budget one
    /// dead time ago; gives the budgets over time.
    fn respond(gain_times_delay: f64, offered: f64) -> Vec<f64> {
        let dead_periods = 400;
        let dead = PERIOD * dead_periods;
        let gain = gain_times_delay / dead.as_secs_f64() / offered;
        let mut thermos = thermos(dead / 2, Some(gain));
        let mut past: VecDeque<f64> = (0..dead_periods).map(|_| 1.0).collect();
        let mut budgets = Vec::new();
        for step in 1..=40 * dead_periods {
            let now = Instant::EPOCH + PERIOD * step;
            past.push_back(thermos.budget());
            let load = offered * past.pop_front().expect("always full");
            thermos.handle(
                now,
                Signal {
                    layer: 1,
                    load,
                    measured: now,
                },
                &mut |_| {},
            );
            budgets.push(thermos.budget());
        }
        budgets
    }

    fn overshoot(budgets: &[f64], settled: f64) -> f64 {
        let lowest = budgets.iter().copied().fold(1.0, f64::min);
        (settled - lowest) / (1.0 - settled)
    }

    //= requirements H4
    #[test]
    fn below_one_over_e_nothing_overshoots_and_above_it_something_does() {
        assert!(overshoot(&respond(0.35, 1.0), 0.9) < 1e-9);
        assert!(overshoot(&respond(0.42, 1.0), 0.9) > 1e-5);
    }

    #[test]
    fn the_derived_gain_settles_at_the_setpoint_without_overshoot() {
        let budgets = respond(Thermos::DAMPING, 1.2);
        let settled = 0.9 / 1.2;
        assert!((budgets.last().unwrap() - settled).abs() < 1e-3);
        assert!(overshoot(&budgets, settled) < 1e-9);
    }

    #[test]
    fn every_load_on_the_wire_has_one_spelling_and_others_are_refused() {
        use wire::codec::decode_all;
        let spelled = |units: u64| {
            let mut bytes = alloc::vec![3];
            units.encode(&mut bytes);
            7_u64.encode(&mut bytes);
            bytes
        };
        for units in [0, 1, 999_999_999, 123_456_789_012_345, LOAD_UNITS_MAX] {
            let signal = decode_all::<Signal>(&spelled(units)).unwrap();
            assert_eq!(signal.to_bytes(), spelled(units), "{units}");
        }
        for units in [LOAD_UNITS_MAX + 1, (1 << 60) + 1, u64::MAX] {
            assert!(decode_all::<Signal>(&spelled(units)).is_err(), "{units}");
        }
        let absurd = Signal {
            layer: 3,
            load: f64::INFINITY,
            measured: Instant(7),
        };
        assert_eq!(absurd.to_bytes(), spelled(LOAD_UNITS_MAX));
    }

    #[test]
    fn silence_is_heat() {
        let mut thermos = thermos(Nanos::from_secs(10), None);
        for _ in 0..1_000 {
            let at = thermos.deadline().unwrap();
            thermos.wake(at, &mut |_| {});
        }
        assert!(thermos.budget() < 0.01, "{}", thermos.budget());
    }

    /// Found by `cargo xtask fuzz thermos`: it gave the whole budget back.
    #[test]
    fn a_load_that_is_no_number_is_silence() {
        let mut thermos = thermos(Nanos::MINUTE, None);
        let news = |s: u64, load| Signal {
            layer: 1,
            load,
            measured: Instant::EPOCH + PERIOD * s,
        };
        let now = Instant::EPOCH + Nanos::MINUTE;
        thermos.handle(now, news(1, 1.5), &mut |_| {});
        let (budget, deadline) = (thermos.budget(), thermos.deadline());
        assert!(budget < 1.0);
        thermos.handle(now + PERIOD, news(2, f64::NAN), &mut |e| panic!("{e:?}"));
        assert_eq!((thermos.budget(), thermos.deadline()), (budget, deadline));
    }

    #[test]
    fn repeated_and_late_news_change_nothing() {
        let mut thermos = thermos(Nanos::from_secs(10), None);
        let at = |s| Instant::EPOCH + Nanos::from_secs(s);
        let news = |s| Signal {
            layer: 1,
            load: 1.0,
            measured: at(s),
        };
        thermos.handle(at(30), news(20), &mut |_| {});
        let budget = thermos.budget();
        assert!(budget < 1.0);
        for repeated in [20, 19, 3] {
            thermos.handle(at(31), news(repeated), &mut |_| {});
        }
        assert_eq!(thermos.budget(), budget);
        // A layer that is not outward has no say.
        thermos.handle(
            at(32),
            Signal {
                layer: 9,
                load: 5.0,
                measured: at(31),
            },
            &mut |_| {},
        );
        assert_eq!(thermos.budget(), budget);
    }

    /// The load after each period where something breaks outside at the beginning:
    /// it jumps to `load`, of which full budget inside makes `slope`.
    fn struck(load: f64, slope: f64, gain: Option<f64>) -> Vec<f64> {
        let dead_periods = 400;
        let mut thermos = thermos(PERIOD * dead_periods / 2, gain);
        let mut past: VecDeque<f64> = (0..dead_periods).map(|_| 1.0).collect();
        let after = |step| {
            let now = Instant::EPOCH + PERIOD * step;
            past.push_back(thermos.budget());
            let budget = past.pop_front().expect("always full");
            let load = load - slope * (1.0 - budget);
            let measured = now;
            let news = Signal {
                layer: 1,
                load,
                measured,
            };
            thermos.handle(now, news, &mut |_| {});
            load
        };
        (1..=40 * dead_periods).map(after).collect()
    }

    //= requirements H4
    #[test]
    fn a_load_above_one_is_cut_at_once_and_never_past_the_setpoint() {
        for load in [1.05, 1.2, 1.5, 2.0] {
            for slope in [0.6, 0.8, 1.0] {
                let loads = struck(load, slope, None);
                let lowest = loads.iter().copied().fold(f64::INFINITY, f64::min);
                // Where a budget of nothing is still too much heat, there is no settling.
                let settled = (load - slope).max(0.9);
                assert!(lowest > settled - 1e-9, "{load}, {slope}: {lowest}");
                // A dead time later most of what can be gone of the excess is.
                let then = loads[420];
                let cut = 0.75 * slope * (load - 1.0);
                assert!(then <= load - cut + 1e-9, "{load}, {slope}: {then}");
            }
        }
        // Without the cut five dead times are not enough for that.
        let slow = struck(1.0, 1.0, None);
        assert!(slow[420] > 0.995, "{}", slow[420]);
    }

    #[test]
    fn a_second_cut_waits_for_news_of_the_first() {
        let mut thermos = thermos(Nanos::MINUTE, None);
        let at = |s| Instant::EPOCH + Nanos::from_secs(s);
        let mut budget_after = |s| {
            let measured = at(s);
            let news = Signal {
                layer: 1,
                load: 1.4,
                measured,
            };
            thermos.handle(at(s), news, &mut |_| {});
            thermos.budget()
        };
        let first = budget_after(1);
        assert!((first - 0.7).abs() < 0.01, "{first}");
        // Two dead times of 121 s, in which only the slow loop acts.
        let (before, after) = (budget_after(242), budget_after(243));
        assert!(before > first - 0.3 && before > 0.4, "{before}");
        assert!((before - after - 0.3).abs() < 0.01, "{before}, {after}");
    }

    #[test]
    fn without_gain_there_is_no_cut_either() {
        let loads = struck(2.0, 1.0, Some(0.0));
        assert!(loads.iter().all(|&load| load == 2.0));
        let mut thermos = thermos(Nanos::MINUTE, Some(0.0));
        let measured = Instant::EPOCH + PERIOD;
        let news = Signal {
            layer: 1,
            load: f64::INFINITY,
            measured,
        };
        thermos.handle(measured, news, &mut |e| panic!("{e:?}"));
        assert_eq!(thermos.budget(), 1.0);
    }

    #[test]
    fn a_budget_a_hair_below_one_is_not_worth_a_decision() {
        let mut thermos = thermos(Nanos::HOUR, None);
        let mut seen = |step: u64, load| {
            let measured = Instant::EPOCH + PERIOD * step;
            let news = Signal {
                layer: 1,
                load,
                measured,
            };
            let mut decided = 0;
            thermos.handle(measured, news, &mut |e| {
                decided += u32::from(matches!(e, Effect::Decided(..)));
            });
            (thermos.budget(), decided)
        };
        let (budget, decided) = seen(1, 0.95);
        assert!(budget < 1.0 && budget > PRESSED_BELOW, "{budget}");
        assert_eq!(decided, 0);
        assert_eq!(seen(2, 0.5), (1.0, 0));
        // An hour and a half of it is.
        assert_eq!((3..9_000).map(|s| seen(s, 0.95).1).sum::<u32>(), 1);
    }

    #[test]
    fn pressure_is_recorded_once_when_it_comes_and_once_when_it_goes() {
        let mut thermos = thermos(Nanos::from_secs(10), None);
        let mut decided = Vec::new();
        let loads = [[1.0; 20], [0.1; 20]].concat();
        for (step, load) in loads.into_iter().enumerate() {
            let now = Instant::EPOCH + PERIOD * (step as u64 + 1);
            thermos.handle(
                now,
                Signal {
                    layer: 1,
                    load,
                    measured: now,
                },
                &mut |e| {
                    if let Effect::Decided(action, reason, ..) = e {
                        decided.push((action, reason));
                    }
                },
            );
        }
        assert_eq!(
            decided,
            [
                (Action::Throttle, Reason::Backpressure),
                (Action::Release, Reason::PressureEased)
            ]
        );
    }
}
