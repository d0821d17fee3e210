//! Keeping the machine below its limit.
//!
//! A thread reads the sensors ([`crate::sensors`]) each [`EVERY`] and tells the fleet's node machine, the same that the
//! twin drives, how hot it is; its guard answers with a share of full clock, and [`crate::node`] gives programs together that
//! share of the processor. The kernel deals out time, not voltage, so power falls as the share does: the guard's exponent
//! is 1 here, not the 3 of a clock that voltage follows.
//!
//! Limits are those of the machine's [`Make`]: what its own processor bears is not read.
//!
//! `cosmos run` in the foreground joins the group of the node of its directory, if one runs, and is slowed with the rest.
//!
//! Deliberately absent: slowing where the kernel deals out no processor time (no control group for cpu). There only the
//! limit protects.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::{Kelvin, Seconds};

use crate::make::Make;
use crate::sensors::{Sensors, Temperature};

/// Between one reading and the next.
pub const EVERY: Duration = Duration::from_secs(1);

/// The machine as it was read last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reading {
    /// Share of all cores in use since the reading before, 0 to 1.
    pub busy: f64,
    /// Of the processor.
    pub temperature: Temperature,
    /// The share of the processor that programs are given, 0 to 1.
    pub clock: f64,
}

/// The last reading, shared with who shows it, and what the model is told.
#[derive(Clone, Debug, Default)]
pub struct Heat {
    state: Arc<Mutex<State>>,
    make: Arc<Make>,
}

#[derive(Debug, Default)]
struct State {
    latest: Option<(f64, Temperature)>,
    read: Option<std::time::Instant>,
    clock: Option<f64>,
    outside: Option<Kelvin>,
}

impl Heat {
    fn with<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        what(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Of a machine that nobody has looked at yet.
    #[must_use]
    pub fn of(make: Make) -> Self {
        let make = Arc::new(make);
        Self {
            make,
            ..Self::default()
        }
    }

    /// The machine.
    #[must_use]
    pub fn make(&self) -> &Make {
        &self.make
    }

    /// The last reading; none in the first second.
    #[must_use]
    pub fn latest(&self) -> Option<Reading> {
        self.with(|state| {
            let (busy, temperature) = state.latest?;
            Some(Reading {
                busy,
                temperature,
                clock: state.clock(),
            })
        })
    }

    /// The last reading, and how long ago it was.
    #[must_use]
    pub fn latest_and_age(&self) -> Option<(Reading, Duration)> {
        let read = self.with(|state| state.read)?;
        Some((self.latest()?, clock() - read))
    }

    /// The share of the processor that programs are given.
    #[must_use]
    pub fn clock(&self) -> f64 {
        self.with(|state| state.clock())
    }

    /// Notes what the guard decided.
    pub fn set_clock(&self, clock: f64) {
        self.with(|state| state.clock = Some(clock));
    }

    /// Lets the model be cooled by air of this temperature from now on.
    pub fn set_outside(&self, outside: Kelvin) {
        self.with(|state| state.outside = Some(outside));
    }

    /// Reads the sensors for as long as `sense`, which is told each temperature, says that somebody listens.
    ///
    /// # Errors
    /// If the kernel gives no thread.
    pub fn watch(&self, mut sense: impl FnMut(Kelvin) -> bool + Send + 'static) -> io::Result<()> {
        let heat = self.clone();
        thread::Builder::new()
            .name("sensors".into())
            .spawn(move || {
                let mut sensors = Sensors::of_this_host(&heat.make.device);
                let mut before = clock();
                loop {
                    if let Some(outside) = heat.with(|state| state.outside.take()) {
                        sensors.set_outside(outside);
                    }
                    let now = clock();
                    let since = now - std::mem::replace(&mut before, now);
                    if let Some((busy, temperature)) = sensors.read(Seconds(since.as_secs_f64())) {
                        if let Some(temperature) = temperature {
                            heat.with(|state| {
                                (state.latest, state.read) = (Some((busy, temperature)), Some(now));
                            });
                        }
                        // No number where sensors are silent: the guard holds on for a while, then slows.
                        let found = temperature.map_or(f64::NAN, |found| found.celsius);
                        if !sense(Kelvin::from_celsius(found)) {
                            return;
                        }
                    }
                    pause();
                }
            })?;
        Ok(())
    }
}

impl State {
    fn clock(&self) -> f64 {
        self.clock.unwrap_or(1.0)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "sensors are read by the host's clock"
)]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "sensors are read by the host's clock"
)]
fn pause() {
    thread::sleep(EVERY);
}
