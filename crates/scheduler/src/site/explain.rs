//! Why does this job wait, or run where it runs?
//!
//! The library behind `cosmos why`. It gives data; words are made from it elsewhere.
//!
//! What a job runs for was written down when it was placed. Why it waits is found by
//! trying: a copy of the scheduler is asked to start it and says what is in the way. When
//! it will start is found by letting a copy live on, where nobody else comes and
//! everybody ends as promised, or as they tend to; and what would help, by doing the
//! same with a changed job, with other rights of its tenant, with a loop that is sound again, or without the look at
//! heat. So no answer can differ from what the scheduler would do.
//!
//! An explanation costs some copies of the scheduler, milliseconds each; it is for
//! people and not for every event.

use alloc::boxed::Box;
use alloc::vec::Vec;

use alloc::collections::{BTreeMap, BTreeSet};
use core::cmp::Reverse;
use core::mem::discriminant;

use telemetry::Reason;
use wire::{Instant, Nanos};

use crate::ledger::{Models, State, WHOLE};

use super::evidence::{Evidence, Funnel, Test};
use super::future::{Ends, Future, Loops};
use super::job::{Job, Resources, Spread, Tenant};
use super::queue::Waiting;
use super::topology::{Shape, Tally};
use super::{Obstacle, Outlook, SiteScheduler, Task, order};

pub use super::future::ENDS_MAX;

/// Jobs ahead that are named; the others are counted.
pub const AHEAD_MAX: usize = 8;

/// What can be said of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Explanation {
    /// The scheduler holds no such job: it never came, or it is gone. What became
    /// of it is in the history.
    Unknown,
    /// It waits.
    Pending(Box<Pending>),
    /// It runs.
    Running(Box<Running>),
}

/// Why a job waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// Which.
    pub job: Job,
    /// When it came.
    pub since: Instant,
    /// How often it was preempted.
    pub preempted: u8,
    /// The one reason that stands above the others.
    pub reason: Reason,
    /// What was found, and what it was held against, in the unit of the reason.
    pub found: f64,
    /// See `found`.
    pub bound: f64,
    /// Which of the nodes could take one of its tasks now, and what the others fell to.
    pub funnel: Funnel,
    /// The nodes that fell, in order, and to which test each.
    pub fallen: Vec<(u32, Test)>,
    /// How many of its tasks the site could take now, wherever they would stand and
    /// whatever their heat.
    pub tasks_that_fit: u64,
    /// GPU that is free on nodes that are on and of its models, in thousandths.
    pub gpu_milli_free: u64,
    /// What its tenant's jobs hold now, and may.
    pub used: Resources,
    /// See `used`.
    pub terms: Tenant,
    /// Who stands before it.
    pub ahead: Ahead,
    /// Who holds GPU of the site now, in thousandths, the most first, where GPU is what it lacks.
    pub holders: Vec<(u16, u64)>,
    /// Whether it is heat, and there would be room on nodes that are off for it.
    pub is_room_off: bool,
    /// For whom what it would take is kept, if it is.
    pub kept_for: Option<u64>,
    /// What keeps loops from carrying what they were built for, where heat keeps the job waiting.
    pub loops: LoopsNow,
    /// When it starts as things are.
    pub start: Prediction,
    /// What would start it sooner, the cheapest first.
    pub changes: Vec<Alternative>,
}

/// What of cooling loops is not there for our heat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoopsNow {
    /// The part of what they carry that others take: of the loop of which they take most.
    pub others: f64,
    /// The loops that are not sound, and which part of what they carry when sound they have left.
    pub faulty: Vec<(u16, f64)>,
}

/// Jobs that wait and stand before another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// How many.
    pub jobs: u64,
    /// GPU they ask for, in thousandths.
    pub gpu_milli: u64,
    /// The first of them, at most [`AHEAD_MAX`].
    pub first: Vec<u64>,
}

/// When a job starts if nobody else comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prediction {
    /// If those who run end as the tenant's jobs tended to, against what they promised, and a cooling loop that
    /// carries less than when it is sound does so for as long again as it has; none if that cannot be said.
    pub likely: Option<Instant>,
    /// If they all take the time they promised, and cooling loops stay as they are; none if one it needs promised nothing,
    /// or it would never start then.
    pub latest: Option<Instant>,
    /// If those who run end as they tend to and every cooling loop carries at once what it carries
    /// when it is sound and ours alone; none if all do, or it would not start then either.
    pub eased: Option<Instant>,
    /// It has not started by then if those who run end as they tend to, and nobody looked
    /// further: [`ENDS_MAX`] jobs end before. None if the look went to its end.
    pub not_before: Option<Instant>,
}

/// A change to a job, or to what the site makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// This many GPUs per task.
    Gpus(u8),
    /// This share of a GPU, in thousandths.
    Share(u16),
    /// This many tasks.
    Tasks(u16),
    /// Any GPU model.
    AnyModel,
    /// This much CPU per task, in thousandths.
    Cpu(u32),
    /// This much memory per task, in MiB.
    Memory(u32),
    /// Wider apart.
    Spread(Spread),
    /// A shorter promised run time.
    Limit(Nanos),
    /// So much more GPU guaranteed to its tenant, in thousandths; CPU and memory are not counted where
    /// nothing was guaranteed before.
    Quota(u64),
    /// So much more GPU that its tenant may hold at all, in thousandths.
    Ceiling(u64),
    /// This cooling loop is at once as sound as it was; others go on taking their part of it.
    Sound(u16),
    /// Others take nothing from the cooling loops at once.
    Alone,
    /// Heat is not looked at.
    Blind,
}

/// A change, and when the job would start with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// What to change.
    pub change: Change,
    /// When it would start.
    pub start: Prediction,
}

/// Why a job runs where it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// Which.
    pub job: Job,
    /// When it came.
    pub arrived: Instant,
    /// When it last started.
    pub started: Instant,
    /// When it will have run for as long as it promised.
    pub promised_end: Option<Instant>,
    /// How often it was preempted before.
    pub preempted: u8,
    /// Where.
    pub tasks: Vec<Task>,
    /// What was considered when it was placed.
    pub evidence: Evidence,
}

/// See [`SiteScheduler::stamp`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    changes: (u64, u64),
    head: Option<u64>,
    impatient: usize,
    is_let_by: bool,
    loops: Vec<i32>,
}

/// The futures that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Likely,
    Latest,
    Eased,
}

/// What a look ahead saw of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Starts(Instant),
    /// It had not started by then, and nobody looked further.
    NotBefore(Instant),
    /// Nothing in it lets the job start.
    Never,
}

/// Which starts a change is worth telling for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Only one at once, for which nobody need look ahead.
    AtOnce,
    /// Any that is sooner.
    Sooner,
}

impl Look {
    const ALL: [Self; 3] = [Self::Likely, Self::Latest, Self::Eased];

    const fn of(self) -> (Ends, Loops) {
        match self {
            Self::Likely => (Ends::Likely, Loops::AsLongAgain),
            Self::Latest => (Ends::Promised, Loops::AsTheyAre),
            Self::Eased => (Ends::Likely, Loops::Sound),
        }
    }
}

impl Change {
    /// The job with this change; the same job if it is one to the site.
    #[must_use]
    pub const fn apply(self, mut job: Job) -> Job {
        match self {
            // One of several that were taken whole is taken whole as well.
            Self::Gpus(gpus) => (job.demand.gpus, job.demand.gpu_milli) = (gpus, WHOLE),
            Self::Share(share) => job.demand.gpu_milli = share,
            Self::Tasks(tasks) => job.tasks = tasks,
            Self::AnyModel => job.demand.models = Models::ANY,
            Self::Cpu(cpu) => job.demand.cpu_milli = cpu,
            Self::Memory(memory) => job.demand.memory_mib = memory,
            Self::Spread(spread) => job.spread = spread,
            Self::Limit(limit) => job.limit = Some(limit),
            Self::Quota(_) | Self::Ceiling(_) | Self::Sound(_) | Self::Alone | Self::Blind => {}
        }
        job
    }

    /// How much it gives up: the part of its GPUs first, then of the other things.
    fn price(self, job: &Job) -> (f64, f64) {
        let part = |left: f64, of: f64| 1.0 - left / of.max(f64::MIN_POSITIVE);
        let demand = &job.demand;
        match self {
            Self::Gpus(n) => (part(n.into(), demand.gpus.into()), 0.0),
            Self::Share(n) => (part(n.into(), demand.gpu_milli.into()), 0.0),
            Self::Tasks(n) => (part(n.into(), job.tasks.into()), 0.0),
            Self::AnyModel | Self::Spread(_) => (0.0, 0.0),
            Self::Cpu(n) => (0.0, part(n.into(), demand.cpu_milli.into())),
            Self::Memory(n) => (0.0, part(n.into(), demand.memory_mib.into())),
            Self::Limit(n) => {
                let promised = job.limit.map_or(f64::INFINITY, |l| l.as_secs_f64());
                (0.0, part(n.as_secs_f64(), promised))
            }
            // Not the owner's to give: after all that is.
            Self::Quota(n) | Self::Ceiling(n) => (2.0, n as f64),
            Self::Sound(_) => (3.0, 0.0),
            Self::Alone => (4.0, 0.0),
            Self::Blind => (5.0, 0.0),
        }
    }
}

impl Prediction {
    fn of([likely, latest, eased]: [Option<Seen>; 3]) -> Self {
        let starts = |seen| match seen {
            Some(Seen::Starts(at)) => Some(at),
            _ => None,
        };
        Self {
            likely: starts(likely),
            latest: starts(latest),
            eased: starts(eased),
            not_before: match likely {
                Some(Seen::NotBefore(at)) => Some(at),
                _ => None,
            },
        }
    }

    /// Whether the start that is told first is sooner by more than a hundredth of the wait, less is not worth giving
    /// something up for, or comes even if loops that are weak stay so, where it would not; and whether neither is later.
    fn is_sooner(&self, other: &Self, now: Instant) -> bool {
        let told = |of: &Self| of.likely.or(of.latest);
        let is_later = or_never(told(self)) > or_never(told(other))
            || or_never(self.latest) > or_never(other.latest);
        let is_surer = self.latest.is_some() && other.latest.is_none();
        !is_later && (is_surer || is_clearly_before(told(self), told(other), now))
    }
}

/// Whether it is heat that keeps a job waiting.
pub(super) const fn is_heat(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoHeadroomOutward | Reason::NoHeadroomHere | Reason::Backpressure
    )
}

/// Whether nodes fell to heat, be it that they are off because of it.
const fn is_heat_in_the_way(funnel: &Funnel) -> bool {
    funnel.fell[Test::Heat as usize] > 0 || funnel.fell[Test::Parked as usize] > 0
}

fn is_clearly_before(a: Option<Instant>, b: Option<Instant>, now: Instant) -> bool {
    let (a, b) = (or_never(a), or_never(b));
    a < b && b.since(a).0 >= b.since(now).0 / 100
}

fn or_never(start: Option<Instant>) -> Instant {
    start.unwrap_or(Instant(u64::MAX))
}

impl SiteScheduler {
    /// Why a job is where it is.
    //= requirements S7
    #[must_use]
    pub fn explain(&self, job: u64, now: Instant) -> Explanation {
        if let Some(running) = self.running.get(&job) {
            return Explanation::Running(Box::new(Running {
                job: running.job,
                arrived: running.arrived,
                started: running.started,
                promised_end: running.promised,
                preempted: running.preempted,
                tasks: running.tasks.clone(),
                evidence: (*running.evidence).clone(),
            }));
        }
        match self.queue.get(job) {
            Some(waiting) => {
                let ahead = self.looked_ahead(now, job);
                let mut pending = self.what_holds(waiting, &ahead, now);
                pending.start = self.predict(now, job);
                pending.changes = ahead.changes(now, &pending, Until::Sooner);
                Explanation::Pending(Box::new(pending))
            }
            None => Explanation::Unknown,
        }
    }

    /// Why a job waits, and which changes would start it at once: [`SiteScheduler::explain`] without looks
    /// ahead, at a small part of the price. Nothing is said of its start. None if it does not wait.
    #[must_use]
    pub fn explain_at_once(&self, job: u64, now: Instant) -> Option<Pending> {
        let waiting = self.queue.get(job)?;
        let ahead = self.looked_ahead(now, job);
        let mut pending = self.what_holds(waiting, &ahead, now);
        // It starts with the next thing that happens, whatever it asks for.
        if pending.reason == Reason::BestScore {
            return Some(pending);
        }
        pending.changes = ahead.changes(now, &pending, Until::AtOnce);
        Some(pending)
    }

    /// A copy in which it is worked out when whoever stands before a job starts: its own copies need not do so again.
    fn looked_ahead(&self, now: Instant, job: u64) -> Self {
        let mut ahead = self.clone();
        if let Some(head) = self.head(now).filter(|&head| head != job) {
            ahead.look_ahead(now, head);
        }
        ahead
    }

    /// Why a job waits, without looking ahead: [`SiteScheduler::explain`] without the start
    /// and the changes, at a small part of the price. None if it does not wait.
    #[must_use]
    pub fn holds(&self, job: u64, now: Instant) -> Option<Pending> {
        let waiting = self.queue.get(job)?;
        Some(self.what_holds(waiting, &self.looked_ahead(now, job), now))
    }

    /// Equal at two moments if nothing between them could have changed why a job waits: which
    /// nodes have room, who waits, who has waited too long to be passed, and how many of its tasks each
    /// loop could take. At a small part of the price of [`SiteScheduler::holds`]; none if it does not wait.
    #[must_use]
    pub fn stamp(&self, job: u64, now: Instant) -> Option<Stamp> {
        let job = &self.queue.get(job)?.job;
        let patience = self.config.patience;
        let waited = |w: &Waiting| now.since(w.arrived);
        let head = self.head(now);
        let kinds = self.topology.kinds().map(|node| {
            let node = &self.ledger.nodes()[node as usize];
            job.demand.watts_on(node)
        });
        let watts: Vec<f64> = kinds.collect();
        let loops = self.cooling.iter().filter(|_| self.config.heat_aware);
        let loops = loops.flat_map(|cooling| {
            let room = self.config.setpoint - cooling.predicted(0.0);
            let room = room * cooling.capacity_watts();
            let is_open = cooling.budget() >= 1.0;
            let tasks = |&watts: &f64| (room / watts).clamp(-1.0, f64::from(u16::MAX)) as i32;
            let tasks: Vec<i32> = watts.iter().map(tasks).collect();
            tasks.into_iter().chain([i32::from(is_open)])
        });
        Some(Stamp {
            changes: (self.ledger.changes(), self.queue.changes()),
            head,
            impatient: self.queue.jobs().filter(|w| waited(w) > patience).count(),
            is_let_by: head.is_some_and(|head| self.is_let_by(now, head)),
            loops: loops.collect(),
        })
    }

    /// Until when what a job would take is kept for the head of the queue, if it is.
    fn reserved_until(&self, now: Instant, job: &Job) -> Option<Instant> {
        let head = self.head(now).filter(|&head| head != job.id)?;
        self.reservation_for(now, job, head).map(|kept| kept.at)
    }

    /// `ahead` is its copy that has looked ahead.
    fn what_holds(&self, waiting: &Waiting, ahead: &Self, now: Instant) -> Pending {
        let job = waiting.job;
        let held = self.clone().admit(now, job.id, &mut |_| {});
        let obstacle = match held {
            Err((obstacle, _)) => self.whose_turn(&job, obstacle, now),
            // It starts with the next thing that happens.
            Ok(_) => Obstacle::general(Reason::BestScore, (0.0, 0.0)),
        };
        let head = self.head(now).filter(|&head| head != job.id);
        let reservation = head.and_then(|head| ahead.reservation_for(now, &job, head));
        let tally = Tally::new(&self.topology, &self.ledger, &Shape::of(&job));
        let view = self.view(reservation);
        let (funnel, fallen) = (
            view.funnel_of(&job, &tally),
            view.fallen(&job, &tally).collect(),
        );
        let copies = (0..funnel.nodes).map(|n| u64::from(self.ledger.copies(n, &job.demand)));
        Pending {
            job,
            since: waiting.arrived,
            preempted: waiting.preempted,
            reason: obstacle.reason,
            found: obstacle.found,
            bound: obstacle.bound,
            fallen,
            tasks_that_fit: copies.sum(),
            gpu_milli_free: order::free_gpu(&self.ledger, &job),
            used: self.used(job.tenant),
            terms: *self.accounts.terms(job.tenant),
            ahead: self.ahead_of(waiting),
            holders: match obstacle.reason {
                Reason::NoCapacity | Reason::Fragmented | Reason::Model | Reason::Topology
                    if job.demand.gpus > 0 =>
                {
                    self.holders()
                }
                _ => Vec::new(),
            },
            is_room_off: is_heat(obstacle.reason)
                && self.ledger.state(obstacle.node) == State::Parked,
            kept_for: head.filter(|_| obstacle.reason == Reason::Reserved),
            loops: match is_heat(obstacle.reason) || is_heat_in_the_way(&funnel) {
                true => self.loops_now(),
                false => LoopsNow::default(),
            },
            funnel,
            start: Prediction::default(),
            changes: Vec::new(),
        }
    }

    /// Tenants that hold GPU, the most first.
    fn holders(&self) -> Vec<(u16, u64)> {
        let tenants = 0..self.config.tenants.len() as u16;
        let holds = tenants.map(|tenant| (tenant, self.used(tenant).gpu_milli));
        let mut holds: Vec<_> = holds.filter(|(_, gpu)| *gpu > 0).collect();
        holds.sort_by_key(|&(tenant, gpu)| (Reverse(gpu), tenant));
        holds
    }

    fn loops_now(&self) -> LoopsNow {
        let parts = (0..self.cooling.len()).map(|coolant| self.part_of_others(coolant));
        let faulty = self.faulty().map(|(coolant, left)| (coolant as u16, left));
        LoopsNow {
            others: parts.fold(0.0, f64::max),
            faulty: faulty.collect(),
        }
    }

    /// Who goes first if it is a matter of turns, and by which right.
    fn whose_turn(&self, job: &Job, obstacle: Obstacle, now: Instant) -> Obstacle {
        let head = self.head(now).and_then(|head| self.queue.get(head));
        match head {
            Some(Waiting { job: head, .. }) if obstacle.reason == Reason::NotItsTurn => {
                if head.priority > job.priority {
                    let both = (job.priority.into(), head.priority.into());
                    Obstacle::general(Reason::Priority, both)
                } else if head.tenant != job.tenant {
                    let shares = (self.share(job.tenant), self.share(head.tenant));
                    Obstacle::general(Reason::FairShare, shares)
                } else {
                    obstacle
                }
            }
            _ => obstacle,
        }
    }

    fn ahead_of(&self, waiting: &Waiting) -> Ahead {
        let own = self.rank(waiting);
        let is_at_ceiling = self.accounts.admits(&waiting.job).is_err();
        let mut ahead = Ahead::default();
        let mut first = BTreeSet::new();
        for other in self.queue.jobs() {
            let rank = self.rank(other);
            // Who may not start yet stands in nobody's way, but in that of those who wait for the same.
            let is_alike = || is_at_ceiling && other.job.tenant == waiting.job.tenant;
            if rank >= own || (self.accounts.admits(&other.job).is_err() && !is_alike()) {
                continue;
            }
            ahead.jobs += 1;
            ahead.gpu_milli += other.job.total().gpu_milli;
            first.insert((rank, other.job.id));
            if first.len() > AHEAD_MAX {
                first.pop_last();
            }
        }
        ahead.first = first.into_iter().map(|(_, id)| id).collect();
        ahead
    }

    /// When a waiting job starts if nobody else comes.
    fn predict(&self, now: Instant, job: u64) -> Prediction {
        Prediction::of(Look::ALL.map(|look| {
            self.is_worth(look)
                .then(|| self.live_on(now, job, look, None))
        }))
    }

    /// When it starts with something changed; none if that is not sooner. Most changes are none that help, so the
    /// nearest future is looked at first, and only as long as it can still turn out sooner.
    fn predict_sooner(
        &self,
        now: Instant,
        job: &Job,
        change: Change,
        than: &Prediction,
        until: Until,
    ) -> Option<Prediction> {
        let mut copy = self.with(now, job, change);
        let is_worth = |look| self.is_worth(look);
        if copy.is_let_in(now, job.id) {
            let seen = Look::ALL.map(|look| is_worth(look).then_some(Seen::Starts(now)));
            return Some(Prediction::of(seen)).filter(|start| start.is_sooner(than, now));
        }
        if until == Until::AtOnce {
            return None;
        }
        let likely = copy.live_on(now, job.id, Look::Likely, than.likely);
        let mut seen = [Some(likely), None, None];
        // So far it is as sure as it can be made.
        let surest = Prediction {
            latest: than.latest.or(Some(now)),
            ..Prediction::of(seen)
        };
        if than.likely.is_some() && (surest.likely.is_none() || !surest.is_sooner(than, now)) {
            return None;
        }
        let latest = copy.live_on(now, job.id, Look::Latest, than.latest);
        seen[Look::Latest as usize] = Some(latest);
        if !Prediction::of(seen).is_sooner(than, now) {
            return None;
        }
        if is_worth(Look::Eased) {
            seen[Look::Eased as usize] = Some(copy.live_on(now, job.id, Look::Eased, None));
        }
        Some(Prediction::of(seen))
    }

    /// Lets a copy live on until a job that waits in it starts, or until then.
    fn live_on(&self, now: Instant, job: u64, look: Look, until: Option<Instant>) -> Seen {
        if self.queue.get(job).is_none() {
            return Seen::Never;
        }
        let (ends, loops) = look.of();
        let (mut future, mut started) = Future::new(self.clone(), now, ends, loops);
        loop {
            if started.contains(&job) {
                return Seen::Starts(future.now());
            }
            if until.is_some_and(|until| future.now() > until) {
                return Seen::NotBefore(future.now());
            }
            started = match future.step() {
                Some(started) => started,
                None if future.is_cut_short() => return Seen::NotBefore(future.now()),
                None => return Seen::Never,
            };
        }
    }

    /// A copy in which something is changed for a job that waits.
    fn with(&self, now: Instant, job: &Job, change: Change) -> Self {
        let mut copy = self.clone();
        let mut rules = match change {
            Change::Quota(_) | Change::Ceiling(_) | Change::Blind => copy.config.clone(),
            Change::Sound(coolant) => {
                copy.repair(now, coolant.into(), &mut Vec::new());
                return copy;
            }
            Change::Alone => {
                copy.part_from_others(now, &mut Vec::new());
                return copy;
            }
            of_the_job => {
                if let Some(was) = copy.queue.remove(job.id) {
                    let job = of_the_job.apply(*job);
                    copy.enqueue(Waiting { job, ..was });
                    copy.forget_outlook_of(job.id);
                }
                return copy;
            }
        };
        let terms = &mut rules.tenants[usize::from(job.tenant)];
        match change {
            Change::Quota(more) => {
                if terms.quota == Resources::NONE {
                    terms.quota = Resources {
                        gpu_milli: 0,
                        ..Resources::UNBOUNDED
                    };
                }
                terms.quota.gpu_milli = terms.quota.gpu_milli.saturating_add(more);
            }
            Change::Ceiling(more) => {
                terms.ceiling.gpu_milli = terms.ceiling.gpu_milli.saturating_add(more);
            }
            _ => rules.heat_aware = false,
        }
        copy.reconfigure(now, rules, &mut |_| {});
        copy
    }

    /// Whether a job of a copy runs, or is let in if it is asked again.
    fn is_let_in(&mut self, now: Instant, job: u64) -> bool {
        self.running.contains_key(&job)
            || (self.queue.get(job).is_some() && self.admit(now, job, &mut |_| {}).is_ok())
    }

    /// When each job that waits starts if nobody else comes: for all of them at the price of
    /// three looks ahead, and the same as [`SiteScheduler::explain`] says of each.
    #[must_use]
    pub fn starts(&self, now: Instant) -> BTreeMap<u64, Prediction> {
        let of = |(ends, loops)| {
            let (mut future, mut started) = Future::new(self.clone(), now, ends, loops);
            let mut first = BTreeMap::new();
            let mut left: BTreeSet<u64> = self.queue.jobs().map(|w| w.job.id).collect();
            loop {
                for id in started {
                    if left.remove(&id) {
                        first.insert(id, Seen::Starts(future.now()));
                    }
                }
                if left.is_empty() {
                    break;
                }
                started = match future.step() {
                    Some(started) => started,
                    None => break,
                };
            }
            let rest = match future.is_cut_short() {
                true => Seen::NotBefore(future.now()),
                false => Seen::Never,
            };
            (first, rest)
        };
        let looks = Look::ALL.map(|look| self.is_worth(look).then(|| of(look.of())));
        let waiting = self.queue.jobs().map(|waiting| {
            let id = waiting.job.id;
            let seen = |look: &Option<(BTreeMap<u64, Seen>, Seen)>| {
                let look = look.as_ref();
                look.map(|(first, rest)| first.get(&id).copied().unwrap_or(*rest))
            };
            (id, Prediction::of([0, 1, 2].map(|i| seen(&looks[i]))))
        });
        waiting.collect()
    }

    fn is_worth(&self, look: Look) -> bool {
        look != Look::Eased || self.is_weakened()
    }

    fn starts_now(&self, now: Instant, job: &Job, change: Change) -> bool {
        self.with(now, job, change).is_let_in(now, job.id)
    }

    /// What was reserved for this job was for the job as it was. What is reserved for
    /// another stays: it would be in force had this one come changed.
    fn forget_outlook_of(&mut self, job: u64) {
        let of = match &self.outlook {
            Outlook::Known(kept) => kept.job,
            Outlook::Unknown { head, .. } => *head,
            Outlook::Stale => return,
        };
        if of == job {
            self.outlook = Outlook::Stale;
        }
    }

    /// Changes that start the job sooner than it would, the cheapest first, and each only if it does when it is
    /// tried. What gives up more of the same has to start sooner than what gives up less.
    fn changes(&self, now: Instant, pending: &Pending, until: Until) -> Vec<Alternative> {
        let job = &pending.job;
        let reserved_at = self.reserved_until(now, job);
        let mut worth = self.worth_trying(now, job, &pending.funnel, reserved_at);
        worth.extend(self.worth_asking_for(now, pending));
        let mut better: Vec<Alternative> = Vec::new();
        for change in cheapest_first(job, worth) {
            if self.never(&change.apply(*job)).is_some() {
                continue;
            }
            let is_alike = |it: &&Alternative| discriminant(&it.change) == discriminant(&change);
            let less = better.iter().rev().find(is_alike);
            let than = less.map_or(pending.start, |it| it.start);
            if let Some(start) = self.predict_sooner(now, job, change, &than, until) {
                better.push(Alternative { change, start });
            }
        }
        better
    }

    /// What others than the job's owner could change: rights, and heat, where they are in its way.
    fn worth_asking_for(&self, now: Instant, pending: &Pending) -> Vec<Change> {
        let job = &pending.job;
        let mut worth = Vec::new();
        let whole = u64::from(WHOLE);
        let after = pending.used.plus(&job.total()).gpu_milli;
        let lacks = |bound: u64| after.saturating_sub(bound).div_ceil(whole) * whole;
        let ceiling = lacks(pending.terms.ceiling.gpu_milli);
        if ceiling > 0 {
            worth.push(Change::Ceiling(ceiling));
            // And with it all who stand before it and wait for the same.
            let all = ceiling + self.own_before(pending).div_ceil(whole) * whole;
            worth.extend((all > ceiling).then_some(Change::Ceiling(all)));
        }
        let quota = lacks(pending.terms.quota.gpu_milli);
        // Of what nobody is guaranteed yet.
        let unpromised = self.accounts.unpromised().gpu_milli;
        if self.accounts.is_bounded() && (1..=unpromised).contains(&quota) {
            worth.push(Change::Quota(quota));
        }
        if self.config.heat_aware
            && (is_heat(pending.reason) || is_heat_in_the_way(&pending.funnel))
        {
            // Of those that are enough alone the first; with all of them, see Prediction::eased.
            let mut one = (self.faulty()).map(|(coolant, _)| Change::Sound(coolant as u16));
            worth.extend(one.find(|change| self.starts_now(now, job, *change)));
            worth.extend(self.is_shared().then_some(Change::Alone));
            worth.push(Change::Blind);
        }
        worth
    }

    /// GPU that jobs of the same tenant ask for that stand before one, in thousandths.
    fn own_before(&self, pending: &Pending) -> u64 {
        let job = &pending.job;
        let Some(own) = self.queue.get(job.id).map(|waiting| self.rank(waiting)) else {
            return 0;
        };
        let before = (self.queue.jobs())
            .filter(|other| other.job.tenant == job.tenant && self.rank(other) < own);
        before.map(|other| other.job.total().gpu_milli).sum()
    }

    fn worth_trying(
        &self,
        now: Instant,
        job: &Job,
        funnel: &Funnel,
        reserved_at: Option<Instant>,
    ) -> Vec<Change> {
        let demand = &job.demand;
        let mut worth = Vec::new();
        if let Some(at) = reserved_at
            && at > now
            && self.limit(job).is_none_or(|limit| limit > at.since(now))
        {
            worth.push(Change::Limit(at.since(now)));
        }
        let wider = Spread::ALL
            .into_iter()
            .filter(|s| *s > job.spread && job.tasks > 1);
        worth.extend(wider.map(Change::Spread));
        if demand.models != Models::ANY && demand.gpus > 0 {
            worth.push(Change::AnyModel);
        }
        if funnel.fell[Test::Cpu as usize] > 0 {
            let fits = |cpu| self.starts_now(now, job, Change::Cpu(cpu));
            worth.push(Change::Cpu(most(demand.cpu_milli, fits)));
        }
        if funnel.fell[Test::Memory as usize] > 0 {
            let fits = |memory| self.starts_now(now, job, Change::Memory(memory));
            worth.push(Change::Memory(most(demand.memory_mib, fits)));
        }
        if demand.gpus > 1 {
            let fits = |gpus| self.starts_now(now, job, Change::Gpus(gpus as u8));
            let less = less(demand.gpus.into(), fits).into_iter();
            worth.extend(less.map(|gpus| Change::Gpus(gpus as u8)));
        }
        if demand.gpus == 1 && demand.gpu_milli > 1 {
            let fits = |share| self.starts_now(now, job, Change::Share(share as u16));
            worth.push(Change::Share(most(demand.gpu_milli.into(), fits) as u16));
        }
        if job.tasks > 1 {
            let fits = |tasks| self.starts_now(now, job, Change::Tasks(tasks as u16));
            let less = less(job.tasks.into(), fits).into_iter();
            worth.extend(less.map(|tasks| Change::Tasks(tasks as u16)));
        }
        worth
    }
}

fn cheapest_first(job: &Job, mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort_by(|a, b| {
        let (a, b) = (a.price(job), b.price(job));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    changes
}

/// What is worth asking for in place of `asked`: the most with which it works, or, if it works with nothing, three quarters,
/// half and a quarter, because less may still work sooner.
fn less(asked: u32, works: impl Fn(u32) -> bool) -> BTreeSet<u32> {
    if works(1) {
        return [most(asked, works)].into();
    }
    let parts = [asked * 3 / 4, asked / 2, asked / 4];
    parts
        .into_iter()
        .filter(|n| (1..asked).contains(n))
        .collect()
}

/// The most below `asked`, and at least 1, with which it works, to the unit, if less always
/// works better; half of it if nothing does. It tries as often as `asked` has bits.
pub(super) fn most(asked: u32, works: impl Fn(u32) -> bool) -> u32 {
    if !works(1) {
        return (asked / 2).max(1);
    }
    let (mut yes, mut no) = (1, asked.max(2));
    while no - yes > 1 {
        let mid = yes + (no - yes) / 2;
        if works(mid) {
            yes = mid;
        } else {
            no = mid;
        }
    }
    yes
}
