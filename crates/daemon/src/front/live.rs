//! What the machine and its programs use, every two seconds, kept for twenty minutes.
//!
//! What single programs use is kept of the latest sample alone: of hundreds of programs it would be most of the node's memory, and of what
//! whoever begins to watch is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;

use crate::control::{Answer, Listed, Request};
use crate::heat::Reading;
use crate::load;
use crate::news::unix_ms;
use crate::node::Handle;
use crate::sensors::use_of;

/// Between one sample and the next.
pub const EVERY: Duration = Duration::from_secs(2);
/// So many are kept: twenty minutes.
const KEPT: usize = 600;

/// The machine at one moment.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Sample {
    /// Counted from 1 since the node started.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// How busy and how hot, and what programs are given for that.
    #[serde(flatten)]
    pub reading: Reading,
    /// Memory of the machine that is in use, in bytes.
    pub memory_used_bytes: u64,
    /// And that there is.
    pub memory_total_bytes: u64,
    /// Of the node's own process.
    pub node: Used,
    /// All programs that run together.
    pub together: Used,
    /// By name, those that run; none in samples that are not the latest.
    pub programs: BTreeMap<String, Used>,
}

/// What something used since the last sample.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct Used {
    /// Processor, in cores.
    pub cores: f64,
    /// Resident memory, in bytes; what processes share is counted for each.
    pub memory_bytes: u64,
    /// Processes, those that stand over the program included.
    pub processes: u32,
}

impl Used {
    /// All of these together.
    #[must_use]
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        all.into_iter().fold(Self::default(), |sum, one| Self {
            cores: sum.cores + one.cores,
            memory_bytes: sum.memory_bytes + one.memory_bytes,
            processes: sum.processes + one.processes,
        })
    }
}

/// The last samples.
#[derive(Debug)]
pub struct Live {
    samples: Mutex<VecDeque<Arc<Sample>>>,
    latest: watch::Sender<u64>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            samples: Mutex::default(),
            latest: watch::Sender::new(0),
        }
    }
}

impl Live {
    /// Those after this number, oldest first.
    pub(crate) fn after(&self, number: u64) -> Vec<Arc<Sample>> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples
            .iter()
            .filter(|sample| sample.number > number)
            .cloned()
            .collect()
    }

    pub(crate) fn latest(&self) -> Option<Arc<Sample>> {
        self.samples
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .back()
            .cloned()
    }

    /// The number of the latest, now and whenever it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// Adds the latest.
    pub fn add(&self, sample: Sample) {
        let number = sample.number;
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = samples.back_mut() {
            Arc::make_mut(before).programs = BTreeMap::new();
        }
        if samples.len() == KEPT {
            samples.pop_front();
        }
        samples.push_back(Arc::new(sample));
        drop(samples);
        self.latest.send_replace(number);
    }
}

/// Takes samples for ever.
pub(super) async fn measure(live: Arc<Live>, node: Handle) {
    let mut seconds = BTreeMap::new();
    let mut number = 0;
    let mut ticks = tokio::time::interval(EVERY);
    let mut before = ticks.tick().await;
    loop {
        let now = ticks.tick().await;
        let since = (now - before).as_secs_f64().max(1e-3);
        before = now;
        // The node answers this at once, but it may have others to answer first.
        let asked = node.clone();
        let listed = tokio::task::spawn_blocking(move || asked.ask(Request::List)).await;
        let Ok(Answer::List { programs }) = listed else {
            continue;
        };
        let Some(reading) = node.heat.latest() else {
            continue;
        };
        number += 1;
        let memory = load::memory();
        let mut next = BTreeMap::new();
        let mut used = |name: &str, process: u32| {
            let used = use_of(process);
            // Who is started again begins anew: then it is less than before.
            let before = seconds.get(name).copied().unwrap_or(used.processor_seconds);
            next.insert(name.to_owned(), used.processor_seconds);
            Used {
                cores: (used.processor_seconds - before).max(0.0) / since,
                memory_bytes: used.memory_bytes,
                processes: used.processes,
            }
        };
        let programs: BTreeMap<_, _> = running(&programs)
            .map(|(name, process)| (name.to_owned(), used(name, process)))
            .collect();
        // Its programs descend from it; no program is called this.
        let mut own = used("", std::process::id());
        let together = Used::sum(programs.values());
        own.cores = (own.cores - together.cores).max(0.0);
        own.memory_bytes = own.memory_bytes.saturating_sub(together.memory_bytes);
        own.processes = own.processes.saturating_sub(together.processes);
        seconds = next;
        live.add(Sample {
            number,
            unix_ms: unix_ms(),
            reading,
            memory_used_bytes: memory.used_bytes,
            memory_total_bytes: memory.total_bytes,
            node: own,
            together,
            programs,
        });
    }
}

fn running(programs: &[Listed]) -> impl Iterator<Item = (&str, u32)> {
    programs
        .iter()
        .filter_map(|program| Some((program.name.as_str(), program.process?)))
}
