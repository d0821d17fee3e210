//! What the machine, the node and its programs have used so far.
//!
//! Use of the processor is a sum that grows: who wants to know how busy something is looks twice and divides. So nothing
//! is measured while nobody looks, and two who look at different paces do not disturb each other.

use std::fs;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::control::{Answer, Listed, Request, Status};
use crate::node::Handle;
use crate::sensors::{Use, use_of};

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    /// How the node is; its `seconds` are the clock by which to divide.
    pub status: Status,
    /// Memory of the machine.
    pub memory: Memory,
    /// Of the node's process and all that descend from it, programs included.
    pub node: Use,
    /// Heat that a core gives off when it is busy all the time and did nothing before, in watts: by the model, as no
    /// sensor tells one program's heat from another's.
    pub watts_per_core: f64,
    /// Every program that is known, by name, and what those that run have used.
    pub programs: Vec<(Listed, Option<Use>)>,
}

/// Memory of the machine, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// In use.
    pub used_bytes: u64,
    /// There is.
    pub total_bytes: u64,
}

/// Looks; what the deciding thread would say instead is the error.
pub(crate) fn look(node: &Handle) -> Result<Load, Answer> {
    let programs = match node.ask(Request::List) {
        Answer::List { programs } => programs,
        other => return Err(other),
    };
    let programs = programs.into_iter().map(|listed| {
        let used = listed.process.map(use_of);
        (listed, used)
    });
    let programs = programs.collect();
    let node_used = use_of(std::process::id());
    // Last, so that its clock is no earlier than what was read.
    let status = match node.ask(Request::Status) {
        Answer::Status(status) => *status,
        other => return Err(other),
    };
    let device = node.heat.make().device;
    Ok(Load {
        watts_per_core: (device.max.0 - device.idle.0) / status.cores as f64,
        status,
        memory: memory(),
        node: node_used,
        programs,
    })
}

/// Of the machine, as the kernel counts it.
#[must_use]
pub fn memory() -> Memory {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        number.unwrap_or(0) << 10
    };
    let total_bytes = bytes("MemTotal:");
    Memory {
        used_bytes: total_bytes.saturating_sub(bytes("MemAvailable:")),
        total_bytes,
    }
}
