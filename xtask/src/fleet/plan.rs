//! What is to be done: the universe as `cosmos twin plan` tells it, with every number checked there.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// Hosts are counted from 0, times in nanoseconds from the beginning.
#[derive(Deserialize)]
pub(super) struct Plan {
    pub(super) end_ns: u64,
    pub(super) hosts: u32,
    pub(super) ahead_ns: Vec<i64>,
    pub(super) links: Links,
    pub(super) programs: Vec<Program>,
    pub(super) blows: Vec<Blow>,
}

#[derive(Deserialize)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) replicas: u32,
    pub(super) command: Vec<String>,
    /// Of the server under load.
    pub(super) takes_ns: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct Links {
    pub(super) delay_ns: u64,
    pub(super) loss: f64,
    pub(super) rate: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct Blow {
    pub(super) at_ns: u64,
    pub(super) until_ns: Option<u64>,
    pub(super) hosts: Vec<u32>,
    #[serde(flatten)]
    pub(super) what: What,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum What {
    Kill,
    Pause,
    Partition,
    Loss { share: f64 },
    Delay { more_ns: u64 },
    Rate { bits_per_second: u64 },
    FullDisk,
    Drain,
}

/// The words that change how many hosts a universe has.
pub(super) fn count(hosts: Option<u32>) -> Vec<String> {
    let set = |hosts: u32| vec!["--set".to_owned(), format!("hosts.count={hosts}")];
    hosts.map(set).unwrap_or_default()
}

impl Plan {
    pub(super) fn read(cosmos: &Path, scenario: &Path, hosts: Option<u32>) -> Result<Self> {
        let mut plan = Command::new(cosmos);
        plan.args(["twin", "plan", "--json"])
            .arg(scenario)
            .args(count(hosts));
        let said = plan
            .output()
            .with_context(|| format!("starting {}", cosmos.display()))?;
        ensure!(
            said.status.success(),
            "{}",
            String::from_utf8_lossy(&said.stderr).trim_end()
        );
        serde_json::from_slice(&said.stdout).context("what `cosmos twin plan` says")
    }

    /// Whether the way between two hosts is ever longer than the switch.
    pub(super) fn lags(&self, one: u32, other: u32) -> bool {
        let delays = |blow: &Blow| {
            matches!(blow.what, What::Delay { .. })
                && (blow.hosts.contains(&one) || blow.hosts.contains(&other))
        };
        self.links.delay_ns > 0 || self.blows.iter().any(delays)
    }
}

impl What {
    /// In words.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::Loss { .. } => "loss",
            Self::Delay { .. } => "delay",
            Self::Rate { .. } => "rate",
            Self::FullDisk => "full disk",
            Self::Drain => "drain",
        }
    }
}
