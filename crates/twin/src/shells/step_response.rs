//! What does the backpressure loop do when it is given a step?
//!
//! For a delayed integral loop, y′(t) = −k·y(t − τ), theory gives two edges in
//! k·τ: 1/e, up to which nothing overshoots, and π/2, from which swings grow
//! (Hayes, J. London Math. Soc., 1950). A twin must find them where they are.

use std::f64::consts::FRAC_PI_2;

use super::config::Config;

/// One loop's answer to full load from the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepResponse {
    /// Gain × dead time: what the loop's behaviour depends on.
    pub gain_times_delay: f64,
    /// How far the budget fell below where it came to rest, in units of the step.
    pub overshoot: f64,
    /// Whether its swings die out.
    pub stable: bool,
}

/// A smaller overshoot than this is the arithmetic's: budgets reach a tile's
/// clock as 32-bit numbers, 6 × 10⁻⁸ apart.
pub const OVERSHOOT_MIN: f64 = 1e-5;

/// A budget that moves by less in the last quarter has come to rest.
const SETTLED: f64 = 0.01;

impl StepResponse {
    /// Reads the response of the innermost shell's loop with the next shell from
    /// its budgets, one per measurement; `None` if nothing was ever throttled or
    /// there is no second shell. `busy` is the mean activity per tile inside.
    #[must_use]
    pub fn of(config: &Config, budgets: &[f64], busy: f64) -> Option<Self> {
        if config.shells.len() < 2 || budgets.iter().all(|&b| b == 1.0) {
            return None;
        }
        let delay = config.light_time(0, 1) * 2;
        let dead_time = delay + config.lag(0, 1) + config.thermos.period;
        let derived = scheduler::Thermos::DAMPING / dead_time.as_secs_f64();
        let gain = config.thermos.gain.unwrap_or(derived);
        // Load outside per unit of budget inside.
        let plant = config.load_per_watt(1) * config.shells[0].model.dynamic.0 * busy;
        let lowest = budgets.iter().copied().fold(1.0, f64::min);
        let last = *budgets.last()?;
        let quarter = budgets.len() / 4;
        let swing = |part: &[f64]| {
            let low = part.iter().copied().fold(f64::INFINITY, f64::min);
            part.iter().copied().fold(f64::NEG_INFINITY, f64::max) - low
        };
        let (third, fourth) = (&budgets[2 * quarter..3 * quarter], &budgets[3 * quarter..]);
        // A swing that grew to the ends of its range no longer grows.
        let stable = swing(fourth) < 0.95 * swing(third) || swing(fourth) < OVERSHOOT_MIN;
        // Where it still swings at the end, it will come to rest in the middle of that.
        let rest = match swing(fourth) < SETTLED {
            true => last,
            false => fourth.iter().sum::<f64>() / fourth.len() as f64,
        };
        Some(Self {
            gain_times_delay: gain * plant * delay.as_secs_f64(),
            overshoot: (rest - lowest).max(0.0) / (1.0 - rest).max(f64::EPSILON),
            stable,
        })
    }

    /// Whether it swung past where it came to rest.
    #[must_use]
    pub fn overshoots(&self) -> bool {
        !self.stable || self.overshoot > OVERSHOOT_MIN
    }
}

/// The two edges theory gives, as gain × delay: overshoot begins, swings grow.
pub const THEORY: (f64, f64) = (1.0 / std::f64::consts::E, FRAC_PI_2);
