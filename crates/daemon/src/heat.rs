//! Keeping the machine below its limit.
//!
//! A thread reads the sensors ([`crate::sensors`]) each [`EVERY`] and tells the fleet's node machine, the same that the
//! twin drives, how hot it is; its guard answers with a share of full clock, and [`crate::node`] gives programs together that
//! share of the processor: by its frequency where that can be set ([`crate::frequency`]), and for the rest by time, which the kernel
//! deals out ([`crate::cgroup`]) or the node itself ([`crate::duty`]). With time power falls as the share does: the guard's exponent
//! is 1 here, not the 3 of a clock that voltage follows. Where frequency does it, that is more careful than need be.
//!
//! The same thread looks after GPUs, each of which has a guard of its own ([`crate::gpu_guard`]).
//!
//! Limits are those of the machine's [`Make`]: what its own processor bears is not read.
//!
//! `cosmos run` in the foreground joins the group of the node of its directory, if one runs, and is slowed with the rest.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::{Kelvin, Seconds};

use crate::gpu_guard::{Decided, Guards};
use crate::make::Make;
use crate::nvml::{self, Library};
use crate::sensors::{How, Part, Power, Sensors, Temperature};

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

/// The physical world of a machine: what is read and what can be set, by what, and what was read last besides the temperature.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Atmosphere {
    /// What is read.
    pub sensors: Vec<Part>,
    /// What can be set.
    pub actuators: Vec<Part>,
    /// What the processor draws; none in the first second.
    pub power: Option<Power>,
    /// How fast it runs, in MHz, if the kernel tells.
    pub frequency_mhz: Option<f64>,
    /// What its GPUs say.
    pub gpus: Vec<nvml::Read>,
}

/// The last reading, shared with who shows it, and what the model is told.
#[derive(Clone, Debug, Default)]
pub struct Heat {
    shared: Arc<(Mutex<State>, Condvar)>,
    make: Arc<Make>,
}

#[derive(Debug, Default)]
struct State {
    latest: Option<(f64, Temperature)>,
    read: Option<std::time::Instant>,
    clock: Option<f64>,
    outside: Option<Kelvin>,
    atmosphere: Atmosphere,
    /// Of the node's own, which were there before the thread.
    actuators: Vec<Part>,
    /// Whether somebody reads.
    watched: bool,
    /// Whether that is to end.
    ending: bool,
}

impl Heat {
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        what(&mut self.state())
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

    /// What is read and what can be set, as far as it is known.
    #[must_use]
    pub fn atmosphere(&self) -> Atmosphere {
        self.with(|state| {
            let mut known = state.atmosphere.clone();
            known.actuators = [state.actuators.clone(), known.actuators].concat();
            known
        })
    }

    /// Notes what the node can set by itself.
    pub fn set_actuators(&self, actuators: Vec<Part>) {
        self.with(|state| state.actuators = actuators);
    }

    /// Reads the sensors for as long as `sense`, which is told each temperature, says that somebody listens; `decided` is told what the guards
    /// of GPUs decide. In the node's directory is kept what their limits were.
    ///
    /// # Errors
    /// If the kernel gives no thread.
    pub fn watch(
        &self,
        data: &Path,
        mut sense: impl FnMut(Kelvin) -> bool + Send + 'static,
        mut decided: impl FnMut(Decided) + Send + 'static,
    ) -> io::Result<()> {
        let (heat, data) = (self.clone(), data.to_owned());
        let thread = thread::Builder::new().name("sensors".into());
        self.with(|state| state.watched = true);
        thread.spawn(move || {
            let mut sensors = Sensors::found(&heat.make.system, &heat.make.device);
            let mut gpus = Library::open(&heat.make.nvml).map(|library| Guards::of(library, &data));
            heat.with(|state| {
                let known = &mut state.atmosphere;
                known.sensors = sensors.told();
                let (read, set) = told_of(gpus.as_ref());
                known.sensors.push(read);
                known.actuators = vec![set];
            });
            let mut before = clock();
            loop {
                if let Some(outside) = heat.with(|state| state.outside.take()) {
                    sensors.set_outside(outside);
                }
                let now = clock();
                let since = now - std::mem::replace(&mut before, now);
                if let Some(look) = sensors.read(Seconds(since.as_secs_f64())) {
                    let gpus = gpus.as_mut().map_or_else(
                        |_| Vec::new(),
                        |gpus| {
                            let (read, all) = gpus.look();
                            all.into_iter().for_each(&mut decided);
                            read
                        },
                    );
                    heat.with(|state| {
                        if let Some(temperature) = look.temperature {
                            state.latest = Some((look.busy, temperature));
                            state.read = Some(now);
                        }
                        state.atmosphere.power = Some(look.power);
                        state.atmosphere.frequency_mhz = look.frequency_mhz;
                        state.atmosphere.gpus = gpus;
                    });
                    // No number where sensors are silent: the guard holds on for a while, then slows.
                    let found = look.temperature.map_or(f64::NAN, |found| found.celsius);
                    if !sense(Kelvin::from_celsius(found)) {
                        break;
                    }
                }
                if heat.pause() {
                    break;
                }
            }
            // What was set is as it was before anybody hears that this has ended.
            drop(gpus);
            heat.with(|state| state.watched = false);
            heat.shared.1.notify_all();
        })?;
        Ok(())
    }

    /// Waits until it is time to read again; tells whether it is time to end instead.
    fn pause(&self) -> bool {
        let state = self.state();
        let waits = |state: &mut State| !state.ending;
        let waited = self.shared.1.wait_timeout_while(state, EVERY, waits);
        waited.unwrap_or_else(PoisonError::into_inner).0.ending
    }

    /// Ends the reading, and waits until everything is as it was that was set meanwhile; no longer than some seconds, if a driver does not answer.
    pub fn finish(&self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let mut state = self.state();
        state.ending = true;
        self.shared.1.notify_all();
        let goes_on = |state: &mut State| state.watched;
        drop(self.shared.1.wait_timeout_while(state, PATIENCE, goes_on));
    }
}

/// Whether GPUs are read, and whether what they draw is limited.
fn told_of(gpus: Result<&Guards, &String>) -> (Part, Part) {
    let part = |what: &str, how, by: String| Part {
        what: what.to_owned(),
        how,
        by,
    };
    match gpus {
        Ok(gpus) => {
            let number = gpus.number();
            let read = match number {
                0 => part("gpus", How::None, "NVML shows none".to_owned()),
                1 => part("gpus", How::Measured, "NVML, 1 GPU".to_owned()),
                _ => part("gpus", How::Measured, format!("NVML, {number} GPUs")),
            };
            let set = match gpus.refused() {
                None => part("gpu power", How::InForce, "NVML".to_owned()),
                Some(why) => part("gpu power", How::None, why.to_owned()),
            };
            (read, set)
        }
        Err(why) => {
            let none = |what| part(what, How::None, why.clone());
            (none("gpus"), none("gpu power"))
        }
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
