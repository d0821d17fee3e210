//! What was the site like at that moment, and what would have become of it?
//!
//! A run is a function of its universe, its lists and its seed, so each of its moments
//! can be visited again: it is simulated up to there, asked, and goes on. A world can
//! also be copied where it stands; of two copies one goes on as it did and in the other
//! one thing is changed ([`Change`]), and whatever differs afterwards differs
//! because of that.
//!
//! A moment is over when everything that happens at its instant has happened. Stopping
//! there leaves no trace in the history.

use std::ops::ControlFlow;

use scheduler::site::explain::{Explanation, Pending, Stamp};
use scheduler::site::words::{self, Names};
use scheduler::site::{Evidence, Input, Refusal};
use telemetry::{Decision, Reason};
use wire::{Instant, Kelvin};

use super::super::config::Config;
use super::super::jobs::{Habit, Job, Workload};
use super::{Change as Planned, Outcome, Place, Progress, Record, Scene, Sink, What, World};
use super::{asked, rules};

/// A run that can be stopped, asked and copied.
#[derive(Clone)]
pub struct Visit<'a> {
    world: World<'a>,
    /// Since when [`Visit::since`] counts, and what was counted before.
    mark: Mark,
}

/// One thing that is different from a moment on.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A node is gone, and what ran on it.
    NodeGone(u32),
    /// The universe's `[scheduler]` and `[tenant]` are these.
    Rules(&'a Config),
    /// A loop carries this share of what it did when sound.
    Capacity {
        /// Which.
        coolant: u16,
        /// The share.
        left: f64,
    },
    /// Neighbours take this share of what they would take, at once.
    Neighbours(f64),
    /// One more job comes: the last of this workload, which is the run's otherwise.
    Submit(&'a Workload),
}

/// Sums up to a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    at: Instant,
    claimed: u128,
    clocked: u128,
    discarded: u128,
    throttled: f64,
    overload: f64,
    finished: u64,
    nodes_lost: u64,
}

/// What a time was like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Since {
    /// Work done and kept, in seconds of a GPU at full clock.
    pub gpu_seconds: f64,
    /// Work lost with its place, likewise.
    pub gpu_seconds_lost: f64,
    /// GPU time claimed, as a share of all.
    pub allocated: f64,
    /// The same with slowed devices counted by their clock.
    pub utilised: f64,
    /// Jobs that ran to their end.
    pub finished: u64,
    /// Nodes lost.
    pub nodes_lost: u64,
    /// The highest temperature of any device, K; NaN if none was measured.
    pub max_kelvin: f64,
    /// The furthest any device was above where it slows itself down, K.
    pub max_kelvin_over_throttle: f64,
    /// The highest load of any loop.
    pub max_load: f64,
    /// Device-seconds, with work, below full clock.
    pub throttled_device_seconds: f64,
    /// Seconds in which a loop was given more than it can carry, over all loops.
    pub loop_overload_seconds: f64,
    /// Jobs that wait at its end.
    pub waiting: u64,
}

/// Names from the lists of a run.
#[derive(Clone, Copy, Debug)]
pub struct Called<'a>(pub &'a Workload);

impl Names for Called<'_> {
    fn node(&self, node: u32) -> String {
        let node_of = self.0.nodes.get(node as usize);
        node_of.map_or_else(|| format!("node {node}"), |n| n.name.clone())
    }

    fn tenant(&self, tenant: u16) -> String {
        let name = self.0.jobs.tenants.get(usize::from(tenant));
        name.cloned().unwrap_or_else(|| format!("tenant {tenant}"))
    }

    fn model(&self, model: u8) -> Option<String> {
        let load = self.0;
        let mut all = load.models.iter().chain(&load.jobs.other_models);
        all.nth(model.into()).cloned()
    }

    fn models_here(&self) -> Vec<String> {
        let has = |m: &usize| {
            let mut nodes = self.0.nodes.iter();
            nodes.any(|node| node.model.map(usize::from) == Some(*m))
        };
        let here = (0..self.0.models.len()).filter(has);
        here.map(|m| self.0.models[m].clone()).collect()
    }

    fn job(&self, job: u64) -> String {
        let listed = self.0.jobs.jobs.get(job as usize);
        listed.map_or_else(|| format!("job {job}"), |j| j.name.to_string())
    }
}

impl Called<'_> {
    /// What a job of the lists asks for.
    #[must_use]
    pub fn wants(&self, job: u64) -> String {
        let listed = self.0.jobs.jobs.get(job as usize);
        listed.map_or_else(String::new, |listed| {
            words::wants(&asked(job, listed), self)
        })
    }

    /// A decision about a job, in a sentence.
    #[must_use]
    pub fn decision(&self, decision: &Decision, evidence: Option<&Evidence>) -> String {
        match self.0.jobs.jobs.get(decision.work as usize) {
            Some(listed) => {
                words::decision(decision, evidence, &asked(decision.work, listed), self)
            }
            None => self.about_node(decision),
        }
    }

    /// A decision about a node, in a sentence.
    #[must_use]
    pub fn about_node(&self, decision: &Decision) -> String {
        let Decision {
            action,
            reason,
            subject,
            found,
            bound,
            ..
        } = *decision;
        let name = self.node(subject.0 as u32);
        match reason {
            Reason::NearLimit | Reason::OverLimit | Reason::Cooled => {
                let [found, bound] = [found, bound].map(|kelvin| Kelvin(kelvin).as_celsius());
                format!(
                    "{name}: {action}, {reason}: found {found:.1} °C, held against {bound:.1} °C"
                )
            }
            Reason::Backpressure | Reason::PressureEased => {
                let [found, bound] = [found, bound].map(|share| share * 100.0);
                format!("{name}: {action}, {reason}: found {found:.0} %, held against {bound:.0} %")
            }
            _ => format!("{name}: {action}, {reason}"),
        }
    }
}

impl<'a> Visit<'a> {
    /// A run at its beginning, of which nobody is told.
    #[must_use]
    pub fn new(config: &'a Config, scene: &'a Scene, seed: u64) -> Self {
        Self {
            world: World::new(config, scene, seed, Sink(None)),
            mark: Mark::default(),
        }
    }

    pub(super) const fn world(&self) -> &World<'a> {
        &self.world
    }

    /// From now on what happens is told.
    pub fn tell(&mut self, record: &'a mut dyn FnMut(Record<'_>)) {
        self.world.record = Sink(Some(record));
    }

    /// Lets everything happen up to a moment, itself included; breaks if `progress` does.
    pub fn until(
        &mut self,
        moment: Instant,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.world.until(moment, progress)
    }

    /// When the run ends by itself.
    #[must_use]
    pub const fn end(&self) -> Instant {
        self.world.end
    }

    /// Ends it sooner.
    pub fn end_at(&mut self, end: Instant) {
        self.world.end = self.world.end.min(end);
    }

    /// What came and comes.
    #[must_use]
    pub const fn load(&self) -> &'a Workload {
        self.world.load
    }

    /// Why a job is where it is.
    #[must_use]
    pub fn explain(&self, job: u64, now: Instant) -> Explanation {
        self.world.scheduler.explain(job, now)
    }

    /// Why a job waits, without looking ahead; none if it does not wait.
    #[must_use]
    pub fn holds(&self, job: u64, now: Instant) -> Option<Pending> {
        self.world.scheduler.holds(job, now)
    }

    /// Equal at two moments if nothing between them could have changed why a job waits.
    #[must_use]
    pub fn stamp(&self, job: u64, now: Instant) -> Option<Stamp> {
        self.world.scheduler.stamp(job, now)
    }

    /// When something happens next.
    #[must_use]
    pub fn next(&self) -> Instant {
        self.world.next().0
    }

    /// Why a job of the lists would be refused now.
    #[must_use]
    pub fn refusal(&self, job: u64) -> Option<Refusal> {
        let listed = self.world.load.jobs.jobs.get(job as usize)?;
        self.world.scheduler.refusal(&asked(job, listed))
    }

    /// Begins to count what [`Visit::since`] gives, from a moment that was reached.
    pub fn mark(&mut self, now: Instant) {
        let world = &mut self.world;
        world.integrate(now);
        let outcome = &mut world.outcome;
        outcome.max_kelvin = f64::NAN;
        outcome.max_kelvin_over_throttle = f64::NEG_INFINITY;
        outcome.max_load = 0.0;
        self.mark = Mark {
            at: now,
            claimed: world.claimed,
            clocked: world.clocked,
            discarded: world.discarded,
            throttled: world.outcome.throttled_device_seconds,
            overload: world.outcome.overload_seconds,
            finished: world.outcome.jobs.finished,
            nodes_lost: world.outcome.nodes_lost,
        };
    }

    /// Changes one thing at a moment that was reached.
    ///
    /// # Panics
    /// If there is no such node or loop, or the workload is not the run's with one
    /// more job.
    pub fn change(&mut self, now: Instant, change: Change<'a>) {
        let world = &mut self.world;
        match change {
            Change::NodeGone(node) => world.node_gone(now, node),
            Change::Rules(config) => {
                let rules = rules(config, world.load, &world.floor);
                let World {
                    scheduler, effects, ..
                } = world;
                scheduler.reconfigure(now, rules, &mut |e| effects.push(e));
                world.apply(now);
            }
            Change::Capacity { coolant, left } => {
                let what = What::Capacity {
                    coolant: coolant.into(),
                    left,
                    told: Some(left < 1.0),
                };
                world.outcome.faults.0 += u64::from(left < 1.0);
                let planned = Planned { at: now, what };
                world.changes.insert(world.next_change, planned);
                world.change(now);
            }
            Change::Neighbours(share) => {
                let planned = Planned {
                    at: now,
                    what: What::Shares(share),
                };
                world.changes.insert(world.next_change, planned);
                world.change(now);
            }
            Change::Submit(load) => world.submit(now, load),
        }
    }

    /// What the time since [`Visit::mark`] was like, up to a moment that was reached.
    pub fn since(&mut self, now: Instant) -> Since {
        let world = &mut self.world;
        world.heat(now);
        world.integrate(now);
        let gpus: u64 = world.floor.nodes.iter().map(|n| u64::from(n.gpus)).sum();
        let whole = f64::from(super::FULL);
        let possible = gpus as f64 * whole * now.since(self.mark.at).0 as f64;
        let clocked = (world.clocked - self.mark.clocked) as f64;
        let lost = (world.discarded - self.mark.discarded) as f64;
        let outcome = &world.outcome;
        Since {
            gpu_seconds: (clocked - lost) / super::GPU_SECOND,
            gpu_seconds_lost: lost / super::GPU_SECOND,
            allocated: (world.claimed - self.mark.claimed) as f64 / possible,
            utilised: clocked / (possible * whole),
            finished: outcome.jobs.finished - self.mark.finished,
            nodes_lost: outcome.nodes_lost - self.mark.nodes_lost,
            max_kelvin: outcome.max_kelvin,
            max_kelvin_over_throttle: outcome.max_kelvin_over_throttle,
            max_load: outcome.max_load,
            throttled_device_seconds: outcome.throttled_device_seconds - self.mark.throttled,
            loop_overload_seconds: outcome.overload_seconds - self.mark.overload,
            waiting: world.scheduler.waiting() as u64,
        }
    }

    /// The end: every job that is left is told of.
    #[must_use]
    pub fn finish(mut self, complete: bool) -> Outcome {
        let end = self.world.end;
        if complete {
            self.world.heat(end);
        }
        self.world.finish(complete)
    }
}

impl<'a> World<'a> {
    fn node_gone(&mut self, now: Instant, node: u32) {
        if std::mem::replace(&mut self.hosts[node as usize].is_dark, true) {
            return;
        }
        self.outcome.nodes_lost += 1;
        self.restless_until = now + super::QUIET_AFTER;
        for device in self.floor.nodes[node as usize].devices() {
            self.devices.switch(now, device, false);
        }
        let name = &self.load.nodes[node as usize].name;
        let detail = format!("{name} is taken away");
        let gone = self.happened(now, "gone", Some(node), None, detail);
        self.because = super::Because::Record(gone);
        self.tell(now, Input::NodeLost { node });
    }

    fn submit(&mut self, now: Instant, load: &'a Workload) {
        let id = self.load.jobs.jobs.len();
        assert_eq!(load.jobs.jobs.len(), id + 1, "one more job");
        self.load = load;
        let job = &load.jobs.jobs[id];
        self.work.add(job.runs);
        self.places.push(Place::default());
        self.io.resize(load.jobs.habits.len(), (0, super::FULL));
        self.outcome.jobs.arrived += 1;
        self.outcome.tenants[usize::from(job.tenant)].arrived += 1;
        self.unstarted.insert(id as u64);
        let cluster = self.outcome.series.cluster_mut().expect("made with one");
        self.witness.arrived(cluster, load, id as u64);
        let job = self.request(id as u64);
        self.tell(now, Input::Arrived(job));
    }
}

impl Workload {
    /// The same with one more job, which reads and writes nothing.
    #[must_use]
    pub fn with(&self, mut job: Job) -> Self {
        let mut more = self.clone();
        more.jobs.habits.push(Habit::default());
        job.habit = (more.jobs.habits.len() - 1) as u8;
        more.jobs.jobs.push(job);
        more
    }
}
