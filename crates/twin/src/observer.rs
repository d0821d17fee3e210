//! Who watches a run?

use std::ops::ControlFlow;

use scheduler::site::Evidence;
use telemetry::Decision;

use crate::site::JobRecord;
use wire::Instant;

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Every event before this has fired.
    pub now: Instant,
    /// Where the run ends.
    pub end: Instant,
    /// Events fired.
    pub events: u64,
}

/// Whoever is told what happens while a run goes on. Nothing it does but stopping
/// reaches the run.
pub trait Observer {
    /// Called often; break to stop the run where it is.
    fn progress(&mut self, progress: Progress) -> ControlFlow<()>;

    /// Something was decided, in this cell if the universe has cells; in the order
    /// of cells at each sample.
    fn decision(&mut self, decision: &Decision, cell: Option<u64>);

    /// The same of a site's scheduler, with what it rests on and what caused it.
    fn decided(&mut self, decision: &Decision, _: Option<&Evidence>, _: Link) {
        self.decision(decision, None);
    }

    /// Something happened, to this holon if to one.
    fn event(&mut self, at: Instant, kind: &'static str, subject: Option<u64>, detail: &str);

    /// The same at a site, with what caused it.
    fn happened(
        &mut self,
        at: Instant,
        kind: &'static str,
        subject: Option<u64>,
        detail: &str,
        _: Link,
    ) {
        self.event(at, kind, subject, detail);
    }

    /// All is known of a job of a site.
    fn job(&mut self, _: &JobRecord<'_>) {}
}

/// Which record this is, and which other brought it about.
///
/// Decisions and events of a run are numbered together from 1, in the order in which they are
/// told, so a cause has a lower number than what it caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub id: u64,
    /// The number of what brought it about: an event, or a decision; none if nothing that was
    /// told did.
    pub cause: Option<u64>,
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Observer for Nobody {
    fn progress(&mut self, _: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
    fn decision(&mut self, _: &Decision, _: Option<u64>) {}
    fn event(&mut self, _: Instant, _: &'static str, _: Option<u64>, _: &str) {}
}
