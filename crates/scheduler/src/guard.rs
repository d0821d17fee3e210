//! How does a tile keep itself from burning, asking nobody?
//!
//! Between *throttle* and *limit* temperature the guard lowers the tile's own
//! budget in proportion, so a tile that loses its radiator slows down within one
//! sensor period, hours before any signal could reach it. At the limit it cuts
//! the power for good: neighbours see it dark, not flapping.
//!
//! A sensor breaks sooner than a tile, and a reading that is no temperature (no
//! number, or none above absolute zero) must not be taken for a cool one. Heat
//! moves slowly, so the last good reading holds for [`READINGS_HELD`] more; after that
//! the tile is taken to be as hot as it may be and runs at its lowest clock until
//! the sensor speaks again. It does not go dark: that is for good, and a broken
//! sensor is no proof of heat.
//!
//! Its memory corrects one flipped bit of a word by itself and notices two. The first is no more than
//! a sign of health, so it is counted. After the second nothing that the tile says can be relied
//! upon, its own temperature included, so it cuts its power as it does at the limit.
//!
//! The budget is a share of dynamic *power*; the clock is what is set. With
//! voltage following frequency, P ∝ f·V² ∝ f³ (Weste & Harris, *CMOS VLSI
//! Design*, 4th ed., § 5.2), so the clock for a budget is its cube root, or
//! whatever root the tile's exponent says.

use alloc::sync::Arc;
use machine::Machine;
use telemetry::{Action, Reason};
use wire::Instant;

/// What a guard holds its tile to; shared by all tiles of a kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Where the guard starts to lower the clock, in kelvin.
    pub throttle_kelvin: f64,
    /// What the tile must not pass, in kelvin.
    pub limit_kelvin: f64,
    /// The lowest clock it will set, as a share of full clock.
    pub clock_min: f64,
    /// x in P ∝ clockˣ.
    pub clock_exponent: f64,
    /// Without it the guard only cuts the power at the limit, as bare hardware does.
    pub throttles: bool,
}

/// What happens to a guard.
//= requirements K1
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input {
    /// The tile's temperature sensor, in kelvin.
    Sensed(f64),
    /// The heat budget its cell allows, 0 to 1.
    Budget(f64),
    /// Bits of its memory flipped.
    Upset(Upset),
}

/// What memory with a code that corrects one bit of a word and notices two
/// says of bits that flipped.
//= requirements K1
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upset {
    /// One of a word; it holds again what was written.
    Corrected,
    /// More; what was written is gone.
    Uncorrectable,
}

/// What a guard asks for.
//= requirements K1
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    /// Run at this share of full clock.
    SetClock(f64),
    /// Cut the power, for good.
    Panic,
    /// For the record: what was measured and what it was held against.
    Decided(Action, Reason, f64, f64),
}

/// The part of a tile that keeps it below its limit.
#[derive(Clone, Debug)]
pub struct Guard {
    limits: Arc<Limits>,
    /// The cell's budget and the tile's own, each 0 to 1.
    allowed: f32,
    own: f32,
    clock: f32,
    /// Readings in a row that were no temperature.
    senseless: u8,
    /// Bits its memory corrected; 255 may be more.
    corrected: u8,
    /// Whether it was recorded as throttled.
    slowed: bool,
    dark: bool,
}

/// A sensor may say nonsense this often in a row before the worst is assumed. Between
/// two readings a tile moves by less than the band the guard glides in; over three it
/// may cross a good part of it.
pub const READINGS_HELD: u8 = 2;

/// A clock is not touched for less than this: half a percent of heat is below
/// what a sensor resolves, and every change is work.
const STEP_MIN: f32 = 0.005;
/// Below the limit by this share of the band, own budget is zero: the last tenth
/// of the band is there for the heat already stored.
const RESERVE: f64 = 0.1;
/// A tile counts as cooled when it is below the band by this share of it. The
/// clock glides; only the record needs an edge that noise does not cross twice.
const HYSTERESIS: f64 = 0.25;

impl Guard {
    /// A tile at full clock.
    #[must_use]
    pub const fn new(limits: Arc<Limits>) -> Self {
        Self {
            limits,
            allowed: 1.0,
            own: 1.0,
            clock: 1.0,
            // Without any reading yet there is none to hold.
            senseless: READINGS_HELD,
            corrected: 0,
            slowed: false,
            dark: false,
        }
    }

    /// Whether the tile cut its power.
    #[must_use]
    pub const fn is_dark(&self) -> bool {
        self.dark
    }

    /// The clock last set, as a share of full clock.
    #[must_use]
    pub const fn clock(&self) -> f64 {
        self.clock as f64
    }

    /// How many bits its memory corrected, as far as 255: a sign of its health.
    #[must_use]
    pub const fn corrected(&self) -> u8 {
        self.corrected
    }

    fn upset(&mut self, upset: Upset, out: &mut impl FnMut(Effect)) {
        match upset {
            Upset::Corrected => self.corrected = self.corrected.saturating_add(1),
            //= requirements K2
            Upset::Uncorrectable => self.go_dark(Reason::MemoryCorrupt, 2.0, 1.0, out),
        }
    }

    /// For good: what was found, and what was to be borne.
    fn go_dark(&mut self, reason: Reason, found: f64, bound: f64, out: &mut impl FnMut(Effect)) {
        self.dark = true;
        self.clock = 0.0;
        out(Effect::Decided(Action::Darken, reason, found, bound));
        out(Effect::Panic);
    }

    fn sensed(&mut self, kelvin: f64, out: &mut impl FnMut(Effect)) {
        let Limits {
            throttle_kelvin: start,
            limit_kelvin: limit,
            throttles,
            ..
        } = *self.limits;
        if kelvin.is_nan() || kelvin <= 0.0 {
            self.senseless = self.senseless.saturating_add(1);
            if throttles && self.senseless == READINGS_HELD + 1 {
                self.slowed = true;
                self.own = 0.0;
                let cause = Reason::SensorLost;
                out(Effect::Decided(Action::Throttle, cause, kelvin, start));
                self.set_clock(out);
            }
            return;
        }
        self.senseless = 0;
        if kelvin >= limit {
            //= requirements K2
            self.go_dark(Reason::OverLimit, kelvin, limit, out);
            return;
        }
        if !throttles {
            return;
        }
        let band = (limit - start) * (1.0 - RESERVE);
        let own = (1.0 - (kelvin - start) / band).clamp(0.0, 1.0) as f32;
        let at_an_end = own == 0.0 || own == 1.0;
        let moves = own != self.own && (at_an_end || (own - self.own).abs() >= STEP_MIN);
        // Entering and leaving the band are decisions; gliding within it is not.
        if moves && own < 1.0 && !self.slowed {
            self.slowed = true;
            out(Effect::Decided(
                Action::Throttle,
                Reason::NearLimit,
                kelvin,
                start,
            ));
        } else if self.slowed && kelvin < start - HYSTERESIS * band {
            self.slowed = false;
            out(Effect::Decided(
                Action::Release,
                Reason::Cooled,
                kelvin,
                start,
            ));
        }
        if moves {
            self.own = own;
            self.set_clock(out);
        }
    }

    fn set_clock(&mut self, out: &mut impl FnMut(Effect)) {
        let budget = f64::from(self.allowed.min(self.own));
        let root = match self.limits.clock_exponent {
            1.0 => budget,
            3.0 => libm::cbrt(budget),
            x => libm::pow(budget, 1.0 / x),
        };
        let clock = root.clamp(self.limits.clock_min, 1.0);
        if clock as f32 != self.clock {
            self.clock = clock as f32;
            out(Effect::SetClock(clock));
        }
    }
}

impl Machine for Guard {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, _: Instant, input: Input, out: &mut impl FnMut(Effect)) {
        match input {
            _ if self.dark => {}
            Input::Sensed(kelvin) => self.sensed(kelvin, out),
            Input::Budget(budget) => {
                self.allowed = budget.clamp(0.0, 1.0) as f32;
                self.set_clock(out);
            }
            Input::Upset(upset) => self.upset(upset, out),
        }
    }

    fn wake(&mut self, _: Instant, _: &mut impl FnMut(Effect)) {}

    /// A guard acts on readings alone.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    fn guard() -> Guard {
        Guard::new(Arc::new(Limits {
            throttle_kelvin: 390.0,
            limit_kelvin: 400.0,
            clock_min: 0.1,
            clock_exponent: 3.0,
            throttles: true,
        }))
    }

    fn after(guard: &mut Guard, input: Input) -> Vec<Effect> {
        let mut effects = vec![];
        guard.handle(Instant::EPOCH, input, &mut |e| effects.push(e));
        effects
    }

    #[test]
    fn a_warm_tile_slows_and_a_cooled_one_recovers() {
        let mut guard = guard();
        assert_eq!(after(&mut guard, Input::Sensed(389.0)), []);
        let slowed = after(&mut guard, Input::Sensed(394.5));
        assert_eq!(
            slowed[0],
            Effect::Decided(Action::Throttle, Reason::NearLimit, 394.5, 390.0)
        );
        // Half the band left: half the heat, and the cube root of that in clock.
        assert_eq!(slowed[1], Effect::SetClock(libm::cbrt(0.5)));
        assert_eq!(
            after(&mut guard, Input::Sensed(399.5)),
            [Effect::SetClock(0.1)]
        );
        let cooled = after(&mut guard, Input::Sensed(380.0));
        assert_eq!(cooled.last(), Some(&Effect::SetClock(1.0)));
    }

    #[test]
    fn at_the_edge_of_the_band_nothing_is_recorded_twice() {
        let mut guard = guard();
        for kelvin in [390.0, 390.01, 390.02, 390.03] {
            assert_eq!(after(&mut guard, Input::Sensed(kelvin)), [], "{kelvin}");
        }
        let entered = after(&mut guard, Input::Sensed(390.1));
        assert_eq!(entered.len(), 2, "{entered:?}");
        assert_eq!(after(&mut guard, Input::Sensed(390.11)), []);
        // Back at the edge it runs at full clock; recorded as cooled only well below.
        assert_eq!(
            after(&mut guard, Input::Sensed(389.9)),
            [Effect::SetClock(1.0)]
        );
        assert_eq!(after(&mut guard, Input::Sensed(390.1)).len(), 1);
        after(&mut guard, Input::Sensed(389.9));
        let cooled = Effect::Decided(Action::Release, Reason::Cooled, 387.0, 390.0);
        assert_eq!(after(&mut guard, Input::Sensed(387.0)), [cooled]);
    }

    #[test]
    fn a_sensor_that_says_nonsense_is_not_taken_for_a_cool_one() {
        let lost = |kelvin| Effect::Decided(Action::Throttle, Reason::SensorLost, kelvin, 390.0);
        for nonsense in [f64::NEG_INFINITY, 0.0, -40.0] {
            let mut guard = guard();
            after(&mut guard, Input::Sensed(394.5));
            let held = guard.clock();
            for _ in 0..READINGS_HELD {
                assert_eq!(after(&mut guard, Input::Sensed(nonsense)), [], "{nonsense}");
            }
            assert_eq!(guard.clock(), held);
            let worst = [lost(nonsense), Effect::SetClock(0.1)];
            assert_eq!(after(&mut guard, Input::Sensed(nonsense)), worst);
            for _ in 0..300 {
                assert_eq!(after(&mut guard, Input::Sensed(nonsense)), []);
            }
            // Neither a budget from outside nor a warm reading is taken for more than it says.
            assert_eq!(after(&mut guard, Input::Budget(1.0)), []);
            let warm = after(&mut guard, Input::Sensed(394.5));
            assert_eq!(warm, [Effect::SetClock(libm::cbrt(0.5))]);
            let cooled = after(&mut guard, Input::Sensed(380.0));
            assert_eq!(cooled.last(), Some(&Effect::SetClock(1.0)));
            assert!(!guard.is_dark());
        }
    }

    #[test]
    fn a_sensor_that_never_spoke_is_believed_hot_at_once_and_one_that_stutters_is_held() {
        let mut mute = guard();
        let worst = after(&mut mute, Input::Sensed(f64::NAN));
        assert_eq!(worst.last(), Some(&Effect::SetClock(0.1)));
        let mut stutters = guard();
        for _ in 0..10 {
            assert_eq!(after(&mut stutters, Input::Sensed(380.0)), []);
            assert_eq!(after(&mut stutters, Input::Sensed(f64::NAN)), []);
            assert_eq!(after(&mut stutters, Input::Sensed(f64::NAN)), []);
        }
        assert_eq!(stutters.clock(), 1.0);
        // The limit is one, whatever was said before.
        let cut = after(&mut stutters, Input::Sensed(400.0));
        assert_eq!(cut.last(), Some(&Effect::Panic));
    }

    //= requirements K2
    #[test]
    fn at_the_limit_the_power_is_cut_once_and_for_good() {
        let mut guard = guard();
        let cut = after(&mut guard, Input::Sensed(400.0));
        assert_eq!(cut.last(), Some(&Effect::Panic));
        assert_eq!(after(&mut guard, Input::Sensed(300.0)), []);
        assert_eq!(after(&mut guard, Input::Budget(1.0)), []);
        assert!(guard.is_dark());
    }

    //= requirements K2
    //= requirements M4
    #[test]
    fn one_flipped_bit_is_counted_and_two_in_a_word_cut_the_power() {
        let mut guard = guard();
        for corrected in 1..=300_u32 {
            assert_eq!(after(&mut guard, Input::Upset(Upset::Corrected)), []);
            assert_eq!(u32::from(guard.corrected()), corrected.min(255));
        }
        assert!(!guard.is_dark());
        let beyond = Effect::Decided(Action::Darken, Reason::MemoryCorrupt, 2.0, 1.0);
        assert_eq!(
            after(&mut guard, Input::Upset(Upset::Uncorrectable)),
            [beyond, Effect::Panic]
        );
        assert!(guard.is_dark());
        assert_eq!(after(&mut guard, Input::Upset(Upset::Uncorrectable)), []);
    }

    #[test]
    fn the_tighter_of_cell_and_tile_holds() {
        let mut guard = guard();
        assert_eq!(
            after(&mut guard, Input::Budget(0.125)),
            [Effect::SetClock(0.5)]
        );
        after(&mut guard, Input::Sensed(394.5));
        assert!((guard.clock() - 0.5).abs() < 1e-6);
        assert_eq!(
            after(&mut guard, Input::Budget(1.0)),
            [Effect::SetClock(libm::cbrt(0.5))]
        );
    }
}
