//! Who stands in whose light, and when?
//!
//! Shells of tiles lie around the Sun one outside the other. What a shell radiates
//! travels outward; the next shell catches the share it covers and the rest passes
//! through its gaps to the one after. Heat given off now therefore becomes a
//! neighbour's load minutes or hours later, whatever has been decided meanwhile,
//! and a controller that ignores that oscillates.
//!
//! The delay is also a gift: what will arrive is known a light time ahead, so
//! shells can be simulated apart for that long.
//!
//! Why evenly: docs/decisions/2026-11-21-shells-absorb-evenly.md.
//!
//! Deliberately absent: light sent back inward. Radiators face outward and the
//! inner faces are mirrors; a world with a warm sky sets [`crate::TileModel::sky`].

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use wire::{Nanos, Watts};

/// Power on its way: what goes in comes out a fixed time later.
///
/// Time advances in equal steps, and power is constant within a step. A delay that
/// is not a whole number of steps spreads a step's energy over the two that it
/// straddles, in proportion, so what arrives is exact on average and all of it does.
#[derive(Clone, Debug, PartialEq)]
pub struct DelayLine {
    whole: usize,
    /// Share of a step's energy that arrives in the later of its two steps.
    late: f64,
    last: f64,
}

impl DelayLine {
    /// A line into which this power has been entering for ever.
    ///
    /// # Panics
    /// If the step is zero.
    #[must_use]
    pub fn new(delay: Nanos, step: Nanos, before: Watts) -> Self {
        assert!(
            step > Nanos::ZERO,
            "a delay line needs steps of some length"
        );
        Self {
            whole: usize::try_from(delay.0 / step.0).expect("a delay of countable steps"),
            late: (delay.0 % step.0) as f64 / step.0 as f64,
            last: before.0,
        }
    }

    /// Whole steps between a step and the one in which its power arrives.
    #[must_use]
    pub const fn steps(&self) -> usize {
        self.whole
    }

    /// Takes the power that enters during a step and says what will leave during
    /// the step [`DelayLine::steps`] later.
    pub const fn push(&mut self, entering: Watts) -> Watts {
        let leaving = entering.0 * (1.0 - self.late) + self.last * self.late;
        self.last = entering.0;
        Watts(leaving)
    }
}

/// One shell, as light sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shell {
    /// Light time from the shell inside it; none for the innermost.
    pub light_time: Nanos,
    /// Share of the light from inside that it takes, 0 to 1.
    pub share: f64,
    /// What it radiated before the first step.
    pub before: Watts,
}

//= requirements H1
/// Concentric shells, innermost first, and the light between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Shells {
    shares: Vec<f64>,
    /// `between[i]` runs from shell i to shell i + 1.
    between: Vec<DelayLine>,
    /// Per shell, the light known to arrive in the steps to come.
    arriving: Vec<VecDeque<f64>>,
}

impl Shells {
    /// Shells in whose light nothing has changed for ever, to be advanced in steps
    /// of this length.
    ///
    /// # Panics
    /// Unless shares lie within 0 and 1.
    #[must_use]
    pub fn new(shells: &[Shell], step: Nanos) -> Self {
        let mut between = Vec::new();
        let mut arriving = Vec::new();
        let mut outward = 0.0;
        for (i, shell) in shells.iter().enumerate() {
            assert!(
                (0.0..=1.0).contains(&shell.share),
                "a shell cannot take more than all light: {shell:?}"
            );
            let mut known = VecDeque::new();
            if i > 0 {
                let line = DelayLine::new(shell.light_time, step, Watts(outward));
                known.extend(core::iter::repeat_n(outward, line.steps()));
                between.push(line);
            }
            arriving.push(known);
            outward = outward * (1.0 - shell.share) + shell.before.0;
        }
        let shares = shells.iter().map(|shell| shell.share).collect();
        Self {
            shares,
            between,
            arriving,
        }
    }

    /// What a shell will absorb in the steps to come, as far as it is known.
    pub fn known(&self, shell: usize) -> impl Iterator<Item = Watts> + '_ {
        self.arriving[shell]
            .iter()
            .map(move |watts| Watts(watts * self.shares[shell]))
    }

    /// Lets one step pass in which `emitted[i]` left shell i. Fills `absorbed[i]`
    /// with what shell i takes in the one step that has become known by it: for
    /// all but the innermost, [`DelayLine::steps`] after this one. Returns what
    /// escaped past the last shell.
    ///
    /// # Panics
    /// Unless there is one number per shell in both slices.
    pub fn step(&mut self, emitted: &[Watts], absorbed: &mut [Watts]) -> Watts {
        assert_eq!(emitted.len(), self.shares.len());
        assert_eq!(absorbed.len(), self.shares.len());
        let mut outward = Watts::ZERO;
        for (i, share) in self.shares.iter().enumerate() {
            if let Some(line) = i.checked_sub(1).and_then(|gap| self.between.get_mut(gap)) {
                let later = line.push(outward);
                self.arriving[i].push_back(later.0);
                absorbed[i] = later * *share;
            }
            let now = self.arriving[i].pop_front().unwrap_or(0.0);
            outward = Watts(now * (1.0 - share)) + emitted[i];
        }
        outward
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
            let mut line = DelayLine::new(Nanos(delay), Nanos(step), Watts::ZERO);
            let leaving = [
                line.push(Watts(8.0)),
                line.push(Watts::ZERO),
                line.push(Watts::ZERO),
            ];
            assert_eq!(leaving[2], Watts::ZERO);
            assert_eq!(leaving[0] + leaving[1], Watts(8.0));
            // Each step's power sits at its middle: the middle of what leaves is
            // as much later as the delay says.
            let steps = line.steps() as f64 + leaving[1].0 / 8.0;
            let error = steps * step as f64 - delay as f64;
            assert!(
                error.abs() <= 1e-9 * delay as f64,
                "{delay}/{step}: {error}"
            );
        }
    }

    fn shell(seconds: u64, share: f64) -> Shell {
        Shell {
            light_time: Nanos::from_secs(seconds),
            share,
            before: Watts::ZERO,
        }
    }

    proptest! {
        //= requirements H1
        #[test]
        fn every_joule_is_absorbed_or_escapes(
            shells in prop::collection::vec((1_u64..5_000, 0.0..=1.0), 1..6),
            powers in prop::collection::vec(0.0..1e3, 6..60),
        ) {
            let shells: Vec<_> = shells.iter().map(|&(light, share)| shell(light, share)).collect();
            let mut system = Shells::new(&shells, Nanos::from_secs(300));
            let mut absorbed = vec![Watts::ZERO; shells.len()];
            let (mut given, mut taken) = (0.0, 0.0);
            // Emission, then darkness until all light has come through.
            let dark = vec![0.0; 6 * 20 + shells.len()];
            for window in powers.windows(shells.len()).chain(dark.windows(shells.len())) {
                let emitted: Vec<_> = window.iter().copied().map(Watts).collect();
                let escaped = system.step(&emitted, &mut absorbed);
                given += emitted.iter().copied().sum::<Watts>().0;
                taken += escaped.0 + absorbed.iter().copied().sum::<Watts>().0;
            }
            prop_assert!((given - taken).abs() <= 1e-9 * given, "{} {}", given, taken);
        }
    }

    #[test]
    fn an_outer_shell_warms_a_light_time_after_the_inner() {
        // One astronomical unit is 499 s: with 1 s steps the first light arrives in
        // the step from 499 to 500 s.
        let mut shells = Shells::new(&[shell(0, 0.0), shell(499, 0.45)], Nanos::SECOND);
        assert_eq!(shells.known(1).count(), 499);
        assert!(shells.known(1).all(|watts| watts == Watts::ZERO));
        let mut absorbed = [Watts::ZERO; 2];
        shells.step(&[Watts(100.0), Watts::ZERO], &mut absorbed);
        assert_eq!(absorbed[1], Watts(45.0));
        // One step has passed and one has become known.
        assert_eq!(shells.known(1).count(), 499);
    }

    #[test]
    fn what_a_shell_lets_through_falls_on_the_next() {
        let mut shells = [shell(0, 0.0), shell(600, 0.25), shell(600, 1.0)];
        shells[0].before = Watts(100.0);
        let shells = Shells::new(&shells, Nanos::from_secs(300));
        assert_eq!(shells.known(1).next(), Some(Watts(25.0)));
        assert_eq!(shells.known(2).next(), Some(Watts(75.0)));
    }
}
