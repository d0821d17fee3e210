//! Who stands in whose light, and when?
//!
//! Shells of tiles lie around the Sun one outside the other. What a shell radiates
//! travels outward; the next shell catches the share it covers and the rest passes
//! through its gaps to the one after. Heat given off now therefore becomes a
//! neighbour's load minutes or hours later, whatever has been decided meanwhile,
//! and a controller that ignores that oscillates.
//!
//! Deliberately absent: light sent back inward. Radiators face outward and the
//! inner faces are mirrors; a world with a warm sky sets [`crate::TileModel::sky`].

use crate::light::light_time;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use wire::{Joules, Metres, Nanos, Seconds, Watts};

/// Power on its way: what goes in comes out a fixed time later.
///
/// Time advances in equal steps, and power is constant within a step. A delay that
/// is not a whole number of steps spreads a step's energy over the two that it
/// straddles, in proportion, so what arrives is exact on average and all of it does.
#[derive(Clone, Debug, PartialEq)]
pub struct DelayLine {
    delay: Nanos,
    step: Nanos,
    /// Watts of past steps, latest first; exactly as many as can still arrive.
    past: VecDeque<f64>,
    /// Share of a step's energy that arrives in the later of its two steps.
    late: f64,
}

impl DelayLine {
    /// An empty line, dark so far.
    ///
    /// # Panics
    /// If the step is zero, or so short that the line would hold 2³² of them.
    #[must_use]
    pub fn new(delay: Nanos, step: Nanos) -> Self {
        assert!(
            step > Nanos::ZERO,
            "a delay line needs steps of some length"
        );
        let whole = delay.0 / step.0;
        let held = u32::try_from(whole + 1).expect("fewer than 2^32 steps on the way");
        Self {
            delay,
            step,
            past: core::iter::repeat_n(0.0, held as usize).collect(),
            late: (delay.0 % step.0) as f64 / step.0 as f64,
        }
    }

    /// How long it takes.
    #[must_use]
    pub fn delay(&self) -> Nanos {
        self.delay
    }

    /// Lets one step pass: power that enters during it, for that which leaves during it.
    pub fn pass(&mut self, entering: Watts) -> Watts {
        self.past.push_front(entering.0);
        let later = self.past.pop_back().unwrap_or_default();
        let earlier = self.past.back().copied().unwrap_or_default();
        Watts(earlier * (1.0 - self.late) + later * self.late)
    }

    /// Energy on the way. The oldest step held has delivered its early part already.
    #[must_use]
    pub fn in_flight(&self) -> Joules {
        let oldest = self.past.back().copied().unwrap_or_default();
        let others = self.past.iter().rev().skip(1).sum::<f64>();
        let watts = others + oldest * self.late;
        Watts(watts) * Seconds::from(self.step)
    }
}

/// One shell around the Sun.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shell {
    /// Distance from the Sun.
    pub radius: Metres,
    /// Share of the sphere that its tiles cover, 0 to 1.
    pub coverage: f64,
    /// Share of the light falling on a tile that it takes, 0 to 1.
    pub absorptivity: f64,
}

impl Shell {
    /// Share of the light from inside that the shell takes.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.coverage * self.absorptivity
    }
}

//= requirements H1
/// Concentric shells, innermost first, and the light between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Shells {
    shells: Vec<Shell>,
    /// `between[i]` runs from shell i to shell i + 1.
    between: Vec<DelayLine>,
}

impl Shells {
    /// Shells with no light between them yet, to be advanced in steps of this length.
    ///
    /// # Panics
    /// Unless radii increase and shares lie within 0 and 1.
    #[must_use]
    pub fn new(shells: &[Shell], step: Nanos) -> Self {
        for shell in shells {
            let shares = [shell.coverage, shell.absorptivity];
            assert!(
                shares.iter().all(|share| (0.0..=1.0).contains(share)),
                "a shell cannot take more than all light: {shell:?}"
            );
        }
        let gap = |pair: &[Shell]| {
            let (inner, outer) = (pair[0].radius, pair[1].radius);
            assert!(
                inner < outer,
                "shells innermost first, not {inner} before {outer}"
            );
            DelayLine::new(light_time(outer - inner), step)
        };
        Self {
            shells: shells.to_vec(),
            between: shells.windows(2).map(gap).collect(),
        }
    }

    /// The shells, innermost first.
    #[must_use]
    pub fn shells(&self) -> &[Shell] {
        &self.shells
    }

    /// Lets one step pass. `from_inside` falls on the innermost shell, `emitted[i]`
    /// leaves shell i outward; fills `absorbed[i]` with what shell i takes and returns what
    /// escapes past the last, all as mean power over the step.
    ///
    /// # Panics
    /// Unless there is one number per shell in both slices.
    pub fn step(&mut self, from_inside: Watts, emitted: &[Watts], absorbed: &mut [Watts]) -> Watts {
        assert_eq!(emitted.len(), self.shells.len());
        assert_eq!(absorbed.len(), self.shells.len());
        let mut arriving = from_inside;
        for (i, shell) in self.shells.iter().enumerate() {
            absorbed[i] = arriving * shell.share();
            let outward = arriving - absorbed[i] + emitted[i];
            arriving = match self.between.get_mut(i) {
                Some(line) => line.pass(outward),
                None => outward,
            };
        }
        arriving
    }

    /// Energy between the shells.
    #[must_use]
    pub fn in_flight(&self) -> Joules {
        self.between.iter().map(DelayLine::in_flight).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    #[test]
    fn a_flash_arrives_after_exactly_the_light_time() {
        for (delay, step) in [
            (0, 10),
            (3, 10),
            (10, 10),
            (25, 10),
            (1000, 10),
            (7, 1),
            (499_004_783_836, 300_000_000_000),
        ] {
            let mut line = DelayLine::new(Nanos(delay), Nanos(step));
            let mut mean = 0.0;
            for i in 0..=delay / step + 1 {
                let entering = if i == 0 { Watts(8.0) } else { Watts::ZERO };
                let leaving = line.pass(entering);
                // Each step's power sits at its middle: the middle of what leaves is
                // as much later as the delay says.
                mean += leaving.0 * (i * step) as f64;
                let earliest = delay / step;
                assert!(
                    i >= earliest || leaving == Watts::ZERO,
                    "{delay}/{step}: early"
                );
            }
            assert!(
                (mean / 8.0 - delay as f64).abs() <= 1e-9 * delay as f64,
                "{delay}/{step}: {mean}"
            );
            assert_eq!(line.in_flight(), Joules::ZERO);
        }
    }

    proptest! {
        //= requirements H1
        #[test]
        fn what_goes_in_comes_out_or_is_on_the_way(
            delay in 0_u64..5_000, step in 1_u64..1_000,
            powers in prop::collection::vec(0.0..1e3, 1..200),
        ) {
            let mut line = DelayLine::new(Nanos(delay), Nanos(step));
            let span = Seconds::from(Nanos(step));
            let (mut entered, mut left) = (Joules::ZERO, Joules::ZERO);
            for power in powers {
                entered += Watts(power) * span;
                left += line.pass(Watts(power)) * span;
                let missing = entered - left - line.in_flight();
                prop_assert!(missing.0.abs() <= 1e-12 * entered.0);
            }
        }

        #[test]
        fn shells_lose_nothing(
            shares in prop::collection::vec((0.0..=1.0, 0.0..=1.0), 1..6),
            sun in 0.0..1e3,
            powers in prop::collection::vec(0.0..1e3, 6..60),
        ) {
            let shells: Vec<_> = shares.iter().enumerate().map(|(i, (coverage, absorptivity))| Shell {
                radius: Metres::from_au(0.5 + i as f64 * 1.7),
                coverage: *coverage,
                absorptivity: *absorptivity,
            }).collect();
            let step = Nanos::from_secs(300);
            let mut system = Shells::new(&shells, step);
            let mut absorbed = vec![Watts::ZERO; shells.len()];
            let (mut given, mut taken) = (0.0, 0.0);
            for window in powers.windows(shells.len()) {
                let emitted: Vec<_> = window.iter().copied().map(Watts).collect();
                let escaped = system.step(Watts(sun), &emitted, &mut absorbed);
                given += sun + emitted.iter().copied().sum::<Watts>().0;
                taken += escaped.0 + absorbed.iter().copied().sum::<Watts>().0;
            }
            let flying = system.in_flight() / Seconds::from(step);
            prop_assert!((given - taken - flying.0).abs() <= 1e-12 * given);
        }
    }

    #[test]
    fn an_outer_shell_warms_a_light_time_after_the_inner() {
        let shell = |au| Shell {
            radius: Metres::from_au(au),
            coverage: 0.5,
            absorptivity: 0.9,
        };
        // One astronomical unit is 499 s: with 1 s steps the first light arrives in the step from 499 to 500 s.
        let mut shells = Shells::new(&[shell(0.5), shell(1.5)], Nanos::SECOND);
        let mut absorbed = [Watts::ZERO; 2];
        let first = (0..).find(|_| {
            shells.step(Watts::ZERO, &[Watts(100.0), Watts::ZERO], &mut absorbed);
            absorbed[1] > Watts::ZERO
        });
        assert_eq!(first, Some(499));
        shells.step(Watts::ZERO, &[Watts(100.0), Watts::ZERO], &mut absorbed);
        assert!((absorbed[1].0 - 45.0).abs() < 1e-9);
    }
}
