//! What of a run can be looked at afterwards?
//!
//! The world tells this witness what happens; it puts it into the words and columns
//! of [`Cluster`], from which the report is drawn. It changes nothing: a run
//! without it is the same run.
//!
//! What a decision rests on comes with the decision. What it does not say costs copies of the
//! scheduler, so it is asked a bounded number of times, however long a run is. When a job will start and what would let it
//! start sooner is asked when it begins to wait, for at most [`ASKED_MAX`], and answered as `cosmos why` answers at
//! that moment; what would start it at once, for [`TRIED_MAX`] besides. When the others that wait would start is asked for all of them together, at most [`LOOKS_MAX`] times a run.
//! How a job was slowed is told in one line (`slowed`), once it has left its nodes.

use std::collections::{BTreeMap, BTreeSet};

use scheduler::ledger::WHOLE;
use scheduler::policy::Typical;
use scheduler::site::explain::{Explanation, Pending, Prediction};
use scheduler::site::{Evidence, Task, Test, words};
use scheduler::{Policy, SiteScheduler};
use telemetry::{Action, Decision, Reason};
use wire::{Instant, Nanos};

use super::Called;
use super::floor::Floor;
use super::jobs::Workload;
use super::outcome::Fate;
use super::slowed::{Slowed, Throttled};
use crate::record::cluster::{self, Candidate, Cluster, State, Step, Tried, Why};
use crate::record::film::{Film, Node, Still};

/// Jobs of which everything is asked when they begin to wait: when they start, and what would let them start sooner. That
/// is looks ahead of all that waits and runs, tens of milliseconds where that is thousands of jobs.
const ASKED_MAX: usize = 100;
/// So many of them are asked whenever they come, the others with a pause of a part of the run between two: else the first
/// hour of a queue would take them all.
const ASKED_AT_ONCE: usize = 40;
/// See [`ASKED_AT_ONCE`].
const PAUSES: u64 = 500;
/// Jobs of which it is asked at least what would start them at once, for which nobody looks ahead; the rest `cosmos why` tells.
const TRIED_MAX: usize = 1_000;
/// Moments of a run, evenly apart, at which it is asked when those that wait will start.
pub(super) const LOOKS_MAX: u64 = 50;

/// Keeps what the cluster itself does not need to know.
#[derive(Clone, Debug)]
pub(super) struct Witness {
    typical: Typical,
    /// Since when each job waits, by that and by its number.
    waiting: BTreeSet<(Instant, u64)>,
    since: BTreeMap<u64, Instant>,
    waiting_gpu_milli: u64,
    explained: BTreeSet<u64>,
    /// Jobs of which only that was asked what would start them at once.
    tried: BTreeSet<u64>,
    /// When the next may be asked, and the pause before the one after it.
    next_asked: Instant,
    pause: Nanos,
    /// Jobs of which it was asked when they start; those that are gone are forgotten.
    foretold: BTreeSet<u64>,
    /// Jobs that were told to wait at the instant beside them.
    queued: (Instant, Vec<u64>),
    throttled: Throttled,
    /// Of those that run, which were slowed since they started.
    slowed: BTreeMap<u64, Slowed>,
}

/// What every node shows, a value per node in each.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    pub(super) utilisation: Vec<f32>,
    pub(super) kelvin: Vec<f32>,
}

/// A cluster of these nodes, tenants and loops.
pub(super) fn cluster(load: &Workload, floor: &Floor, weights: &[f64], policy: Policy) -> Cluster {
    let nodes = load.nodes.iter().zip(&floor.nodes);
    let nodes = nodes.map(|(node, place)| {
        let devices = &floor.devices[place.devices()];
        let limit = devices.iter().map(|d| d.throttle.0);
        Node {
            name: node.name.clone(),
            model: node
                .model
                .map_or_else(String::new, |m| load.models[usize::from(m)].clone()),
            gpus: place.gpus,
            row: floor.row_of[place.rack as usize],
            rack: place.rack,
            coolant: place.coolant.into(),
            limit_kelvin: limit.fold(f64::INFINITY, f64::min) as f32,
        }
    });
    let names = load.jobs.tenants.iter().cloned();
    let tenants: Vec<_> = names.zip(weights.iter().copied()).collect();
    let loops: Vec<_> = (0..floor.loops.len())
        .map(|l| format!("loop {l}"))
        .collect();
    let mut cluster = Cluster::new(Film::new(nodes.collect()), &tenants, &loops);
    let terms = match policy {
        Policy::Cosmos => &["unusable", "scarcity", "spread", "heat"][..],
        _ => &["fit", "heat"],
    };
    cluster.jobs.terms = terms.iter().copied().map(str::to_owned).collect();
    cluster.jobs.tests = Test::OF_A_SITE.into_iter().map(Test::name).collect();
    cluster
}

impl Witness {
    pub(super) fn new(load: &Workload, end: Instant) -> Self {
        Self {
            typical: Typical::of(load.jobs.jobs.iter().map(|job| &job.demand)),
            waiting: BTreeSet::new(),
            since: BTreeMap::new(),
            waiting_gpu_milli: 0,
            explained: BTreeSet::new(),
            tried: BTreeSet::new(),
            next_asked: Instant::EPOCH,
            pause: Nanos(end.0 / PAUSES),
            foretold: BTreeSet::new(),
            queued: (Instant::EPOCH, Vec::new()),
            throttled: Throttled::default(),
            slowed: BTreeMap::new(),
        }
    }

    pub(super) fn arrived(&mut self, cluster: &mut Cluster, load: &Workload, id: u64) {
        let job = &load.jobs.jobs[id as usize];
        let wants = words::wants(&super::world::asked(id, job), &Called(load));
        let wants = cluster.jobs.want(wants);
        cluster.jobs.arrived(cluster::Job {
            id,
            name: job.name.to_string().into(),
            tenant: job.tenant.into(),
            wants,
            gpu_milli: job.gpu_milli(),
            tasks: job.tasks.into(),
            arrived: job.arrives.as_secs_f64(),
            started: f64::NAN,
            ended: f64::NAN,
            state: State::Waiting,
            steps: Vec::new(),
            stays: Vec::new(),
        });
        self.waits(load, id, job.arrives);
    }

    pub(super) fn started(
        &mut self,
        cluster: &mut Cluster,
        load: &Workload,
        id: u64,
        now: Instant,
        tasks: &[Task],
    ) {
        self.waits_no_more(load, id);
        let mut on: Vec<(u32, u32)> = Vec::new();
        for Task { node, claim } in tasks {
            let milli = claim.gpus.count_ones() * u32::from(claim.share);
            match on.iter_mut().find(|(n, _)| n == node) {
                Some((_, held)) => *held += milli,
                None => on.push((*node, milli)),
            }
        }
        cluster.jobs.started(id, now.as_secs_f64(), &on);
        for (node, _) in on {
            if let Some(reason) = self.throttled.why(node) {
                self.slows(id, now, node, Some(reason));
            }
        }
    }

    /// Something was decided about a node on which these jobs run.
    pub(super) fn decided_of_node(&mut self, decision: &Decision, jobs: &[u64]) {
        let Decision {
            at, action, reason, ..
        } = *decision;
        let node = decision.subject.0 as u32;
        if let Some(is_slowed) = self.throttled.decided(node, action, reason) {
            for &job in jobs {
                self.slows(job, at, node, is_slowed.then_some(reason));
            }
        }
    }

    fn slows(&mut self, job: u64, now: Instant, node: u32, slowed: Option<Reason>) {
        let mut of = self.slowed.remove(&job);
        Slowed::note(&mut of, now, node, slowed);
        self.slowed.extend(of.map(|of| (job, of)));
    }

    /// A job leaves its nodes, or the run is over: tells in one line how it was slowed there.
    fn tell_slowed(&mut self, cluster: &mut Cluster, id: u64, now: Instant) {
        let Some(mut slowed) = self.slowed.remove(&id) else {
            return;
        };
        slowed.passes(now);
        let step = Step {
            seconds: slowed.from.as_secs_f64(),
            action: Action::Throttle,
            reason: slowed.reason,
            node: Some(slowed.node),
            text: slowed.text().into(),
            why: None,
        };
        cluster.jobs.step_between(id, step);
    }

    /// A job is taken off its nodes and waits again.
    pub(super) fn stopped(
        &mut self,
        cluster: &mut Cluster,
        load: &Workload,
        id: u64,
        now: Instant,
    ) {
        self.tell_slowed(cluster, id, now);
        cluster.jobs.left(id, now.as_secs_f64(), State::Waiting);
        self.waits(load, id, now);
    }

    pub(super) fn became(
        &mut self,
        cluster: &mut Cluster,
        load: &Workload,
        id: u64,
        now: Instant,
        fate: Fate,
    ) {
        self.tell_slowed(cluster, id, now);
        let state = match fate {
            Fate::Finished => State::Finished,
            Fate::AtLimit => State::AtLimit,
            Fate::Refused => State::Refused,
            Fate::Lost => State::Lost,
            Fate::Running | Fate::Waiting => return,
        };
        self.waits_no_more(load, id);
        cluster.jobs.left(id, now.as_secs_f64(), state);
    }

    pub(super) fn decided(
        &mut self,
        cluster: &mut Cluster,
        load: &Workload,
        decision: &Decision,
        evidence: Option<&Evidence>,
        because: &str,
    ) {
        if decision.work == Decision::NO_WORK {
            return;
        }
        if matches!(decision.action, Action::Queue | Action::Preempt) {
            let (at, jobs) = &mut self.queued;
            if *at != decision.at {
                jobs.clear();
            }
            *at = decision.at;
            jobs.push(decision.work);
        }
        // Those that are about no node name the first.
        let node = match decision.action {
            Action::Queue | Action::Refuse => None,
            _ => Some(decision.subject.0 as u32),
        };
        let step = Step {
            seconds: decision.at.as_secs_f64(),
            action: decision.action,
            reason: decision.reason,
            node,
            text: load
                .jobs
                .jobs
                .get(decision.work as usize)
                .map_or_else(Box::default, |listed| {
                    let job = super::world::asked(decision.work, listed);
                    let sentence = words::decision(decision, evidence, &job, &Called(load));
                    (sentence + because).into()
                }),
            why: evidence.map(|evidence| Box::new(grounds(evidence))),
        };
        cluster.jobs.step(decision.work, step);
    }

    /// Since when those wait who are to be asked about, if that is before an instant.
    pub(super) fn queued_before(&self, now: Instant) -> Option<Instant> {
        let (at, jobs) = &self.queued;
        (!jobs.is_empty() && *at < now).then_some(*at)
    }

    /// Asks what is to become of those that began to wait at an instant, once all has happened that happens
    /// then: so the answers are those of `cosmos why --at`.
    pub(super) fn explain_queued(
        &mut self,
        cluster: &mut Cluster,
        load: &Workload,
        scheduler: &SiteScheduler,
        now: Instant,
    ) {
        for id in std::mem::take(&mut self.queued.1) {
            let is_known = self.explained.contains(&id) || self.tried.contains(&id);
            if is_known || !cluster.jobs.wants_why(id) {
                continue;
            }
            let is_early = self.explained.len() >= ASKED_AT_ONCE && now < self.next_asked;
            let step = if !is_early && self.explained.len() < ASKED_MAX {
                // The whole answer, the same that `cosmos why` gives of this moment.
                let Explanation::Pending(pending) = scheduler.explain(id, now) else {
                    continue;
                };
                self.explained.insert(id);
                self.next_asked = now + self.pause;
                self.foretold.insert(id);
                let start = asked_then(&pending.start, now);
                outlook(&pending, &Called(load), now, Tried::Sooner, start)
            } else if self.tried.len() < TRIED_MAX {
                let Some(pending) = scheduler.explain_at_once(id, now) else {
                    continue;
                };
                self.tried.insert(id);
                outlook(&pending, &Called(load), now, Tried::AtOnce, String::new())
            } else {
                continue;
            };
            cluster.jobs.outlook(id, step);
        }
    }

    /// Asks when those that wait will start, unless all were asked about before.
    pub(super) fn look_ahead(
        &mut self,
        cluster: &mut Cluster,
        scheduler: &SiteScheduler,
        now: Instant,
    ) {
        let seen = |(_, id): &(Instant, u64)| self.foretold.contains(id);
        if self.waiting.iter().all(seen) {
            return;
        }
        for (id, start) in scheduler.starts(now) {
            if self.foretold.insert(id) {
                cluster
                    .jobs
                    .expects(id, between(start), asked_then(&start, now));
            }
        }
    }

    /// Jobs that wait, GPUs they ask for, and how long the first has waited, in seconds.
    pub(super) fn queue(&self, now: Instant) -> [f32; 3] {
        let oldest = self.waiting.first();
        [
            self.waiting.len() as f32,
            self.waiting_gpu_milli as f32 / f32::from(WHOLE),
            oldest.map_or(0.0, |(since, _)| now.since(*since).as_secs_f64() as f32),
        ]
    }

    /// Takes a frame.
    pub(super) fn film(
        &self,
        film: &mut Film,
        scheduler: &SiteScheduler,
        seconds: f64,
        nodes: &Nodes,
    ) {
        let ledger = scheduler.ledger();
        let of_gpus = |n: usize, milli: f64| match ledger.nodes()[n].gpus {
            0 => 0.0,
            gpus => (milli / f64::from(gpus) / f64::from(WHOLE)) as f32,
        };
        let all = 0..ledger.nodes().len();
        let free = all.clone().map(|n| {
            let room = ledger.room(n as u32);
            of_gpus(n, room.gpu_total.into())
        });
        let weight = self.typical.weight().max(1) as f64;
        let fragmented = all.map(|n| {
            let room = ledger.room(n as u32);
            let lost = self.typical.fragmented(&ledger.nodes()[n], room);
            of_gpus(n, lost as f64 / weight)
        });
        let (free, fragmented): (Vec<f32>, Vec<f32>) = (free.collect(), fragmented.collect());
        film.push(
            seconds,
            Still {
                utilisation: &nodes.utilisation,
                kelvin: &nodes.kelvin,
                free: &free,
                fragmented: &fragmented,
            },
        );
    }

    fn waits(&mut self, load: &Workload, id: u64, since: Instant) {
        if self.since.insert(id, since).is_none() {
            self.waiting.insert((since, id));
            self.waiting_gpu_milli += load.jobs.jobs[id as usize].gpu_milli();
        }
    }

    fn waits_no_more(&mut self, load: &Workload, id: u64) {
        self.foretold.remove(&id);
        if let Some(since) = self.since.remove(&id) {
            self.waiting.remove(&(since, id));
            self.waiting_gpu_milli -= load.jobs.jobs[id as usize].gpu_milli();
        }
    }
}

fn funnel(of: &scheduler::site::Funnel) -> Box<[u32]> {
    Test::OF_A_SITE
        .iter()
        .map(|test| of.left_after(*test))
        .collect()
}

fn grounds(evidence: &Evidence) -> Why {
    let candidates = evidence.candidates.iter().map(|c| Candidate {
        node: c.node,
        score: c.score(),
        terms: match c.terms {
            Some(of) => [of.unusable, of.scarcity, of.spread, c.heat],
            None => [c.fit, c.heat, 0.0, 0.0],
        },
    });
    Why {
        nodes: evidence.funnel.nodes,
        funnel: funnel(&evidence.funnel),
        ahead: evidence.because_of.as_slice().into(),
        candidates: candidates.collect(),
        ..Why::default()
    }
}

/// What is to become of a job that waits, as a step of its life.
fn outlook(
    pending: &Pending,
    names: &Called<'_>,
    now: Instant,
    tried: Tried,
    start: String,
) -> Step {
    let changes = pending.changes.iter().filter_map(|it| {
        Some(cluster::Change {
            text: words::change(&pending.job, it.change, names).into(),
            start_seconds: it.start.likely.or(it.start.latest)?.as_secs_f64(),
        })
    });
    let ahead = pending.ahead.jobs;
    let tasks = pending.job.tasks;
    let before = match ahead {
        0 => "nobody stands before it".to_owned(),
        1 => "one job stands before it".to_owned(),
        n => format!("{n} jobs stand before it"),
    };
    let fit = pending.tasks_that_fit.min(tasks.into());
    let reason = words::dominant(pending, names);
    let text = match tasks {
        1 => format!("{reason}; {before}"),
        _ => format!("{reason}; {before}, and {fit} of its {tasks} tasks would fit"),
    };
    Step {
        seconds: now.as_secs_f64(),
        action: Action::Queue,
        reason: pending.reason,
        node: None,
        text: text.into(),
        why: Some(Box::new(Why {
            nodes: pending.funnel.nodes,
            funnel: funnel(&pending.funnel),
            ahead: pending.ahead.first.as_slice().into(),
            start_seconds: between(pending.start),
            start_text: start.into(),
            tried,
            changes: changes.collect(),
            candidates: Box::default(),
        })),
    }
}

fn asked_then(start: &Prediction, now: Instant) -> String {
    format!(
        "asked at {}: {}",
        words::moment(now),
        words::start(start, now)
    )
}

fn between(start: Prediction) -> Option<[f64; 2]> {
    let likely = start.likely.or(start.latest)?.as_secs_f64();
    let latest = start.latest.or(start.likely)?.as_secs_f64();
    Some([likely.min(latest), likely.max(latest)])
}
