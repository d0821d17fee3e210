//! What of a run can be looked at afterwards?
//!
//! The world tells this witness what happens; it puts it into the words and columns
//! of [`Cluster`], from which the report is drawn. It changes nothing: a run
//! without it is the same run.
//!
//! What a decision rests on comes with the decision. What it does not say costs copies of the
//! scheduler, so it is asked a bounded number of times, however long a run is. What would let a job
//! start at once is asked when it begins to wait, for the first [`ASKED_MAX`]. When each of those that
//! wait would start is asked for all of them together, at most [`LOOKS_MAX`] times a run.

use std::collections::{BTreeMap, BTreeSet};

use scheduler::ledger::WHOLE;
use scheduler::policy::Typical;
use scheduler::site::explain::{Pending, Prediction};
use scheduler::site::{Evidence, Task, Test, words};
use scheduler::{Policy, SiteScheduler};
use telemetry::{Action, Decision};
use wire::Instant;

use super::Called;
use super::floor::Floor;
use super::jobs::Workload;
use super::outcome::Fate;
use crate::record::cluster::{self, Candidate, Cluster, State, Step, Why};
use crate::record::film::{Film, Node, Still};

/// Jobs of which it is asked what would help when they begin to wait.
const ASKED_MAX: usize = 2_000;
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
    /// Jobs of which it was asked when they start; those that are gone are forgotten.
    foretold: BTreeSet<u64>,
    /// Jobs that were told to wait at this instant.
    queued: Vec<u64>,
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
    pub(super) fn new(load: &Workload) -> Self {
        Self {
            typical: Typical::of(load.jobs.jobs.iter().map(|job| &job.demand)),
            waiting: BTreeSet::new(),
            since: BTreeMap::new(),
            waiting_gpu_milli: 0,
            explained: BTreeSet::new(),
            foretold: BTreeSet::new(),
            queued: Vec::new(),
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
    }

    /// A job is taken off its nodes and waits again.
    pub(super) fn stopped(
        &mut self,
        cluster: &mut Cluster,
        load: &Workload,
        id: u64,
        now: Instant,
    ) {
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
            self.queued.push(decision.work);
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

    /// Asks what is to become of those that began to wait at this instant.
    pub(super) fn explain_queued(
        &mut self,
        cluster: &mut Cluster,
        load: &Workload,
        scheduler: &SiteScheduler,
        now: Instant,
    ) {
        for id in std::mem::take(&mut self.queued) {
            if self.explained.len() >= ASKED_MAX
                || !cluster.jobs.wants_why(id)
                || !self.explained.insert(id)
            {
                continue;
            }
            if let Some(pending) = scheduler.what_helps_now(id, now) {
                cluster
                    .jobs
                    .outlook(id, outlook(&pending, &Called(load), now));
            }
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
                let text = format!(
                    "asked at {}: {}",
                    words::moment(now),
                    words::start(&start, now)
                );
                cluster.jobs.expects(id, between(start), text);
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
fn outlook(pending: &Pending, names: &Called<'_>, now: Instant) -> Step {
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
            start_seconds: None,
            start_text: Box::default(),
            changes: changes.collect(),
            candidates: Box::default(),
        })),
    }
}

fn between(start: Prediction) -> Option<[f64; 2]> {
    let likely = start.likely.or(start.latest)?.as_secs_f64();
    let latest = start.latest.or(start.likely)?.as_secs_f64();
    Some([likely.min(latest), likely.max(latest)])
}
