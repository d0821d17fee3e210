//! What machine is this, and what is it held to?
//!
//! A universe of hosts describes the machines of a fleet, and a rehearsal goes by it. So does a node that is started with the same file: it takes
//! from it what its machine is, how hot that may become, and how long members of the fleet wait for each other. What befalls the hosts, what lies between them
//! and what they run is for rehearsals and trials; a node has all that for real.
//!
//! Without a file it is what rehearsed hosts are when theirs says nothing: a server of the most common kind.

use std::path::PathBuf;

use membership::config::Timings;
use physics::devices::{CPU_NODE, Device};
use scheduler::guard::Limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::{Kelvin, Nanos};

use crate::{gpu, nvml};

/// A machine and the limits it is held to.
#[derive(Clone, Debug, PartialEq)]
pub struct Make {
    /// The universe that says so; none if nobody said anything.
    pub universe: Option<String>,
    /// What it is: its power, and how it warms where no sensor says.
    pub device: Device,
    /// Where its GPUs' device nodes lie.
    pub devices: PathBuf,
    /// Where the kernel shows its sensors and what can be set.
    pub system: PathBuf,
    /// NVML, as the dynamic linker is to look for it.
    pub nvml: PathBuf,
    /// How long members wait for each other.
    pub timings: Timings,
    /// How soon 99 of 100 dead machines are to be noticed. A node cannot know whether they were: rehearsals and trials judge it.
    pub detection_p99: Option<Nanos>,
}

impl Default for Make {
    fn default() -> Self {
        Self {
            universe: None,
            device: CPU_NODE,
            devices: gpu::DEVICES.into(),
            system: "/sys".into(),
            nvml: nvml::LIBRARY.into(),
            timings: Timings::SPARSE,
            detection_p99: None,
        }
    }
}

/// The same, for people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Told {
    /// The universe that says so; none if nobody said anything.
    pub universe: Option<String>,
    /// The kind of machine.
    pub device: String,
    /// From this temperature on its programs are slowed, in degrees Celsius.
    pub throttle_celsius: f64,
    /// At this one the node ends, in degrees Celsius.
    pub shutdown_celsius: f64,
    /// Members probe one another this often, in milliseconds.
    pub period_ms: u64,
    /// A suspicion lasts so long if others share it, in milliseconds.
    pub suspicion_min_ms: u64,
    /// And so long if nobody does.
    pub suspicion_max_ms: u64,
    /// How soon 99 of 100 dead machines are to be noticed, in milliseconds.
    pub detection_p99_ms: Option<u64>,
}

impl Make {
    /// What the guard holds this machine to.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            throttle_kelvin: self.device.throttle.0,
            limit_kelvin: self.device.shutdown.0,
            clock_min: 0.05,
            clock_exponent: 1.0,
            throttles: true,
        }
    }

    /// For people.
    #[must_use]
    pub fn told(&self) -> Told {
        let celsius = |kelvin: Kelvin| kelvin.as_celsius();
        let ms = |span: Nanos| span.0 / Nanos::MILLISECOND.0;
        Told {
            universe: self.universe.clone(),
            device: self.device.name.to_owned(),
            throttle_celsius: celsius(self.device.throttle),
            shutdown_celsius: celsius(self.device.shutdown),
            period_ms: ms(self.timings.period),
            suspicion_min_ms: ms(self.timings.suspicion_min),
            suspicion_max_ms: ms(self.timings.suspicion_max),
            detection_p99_ms: self.detection_p99.map(ms),
        }
    }
}
