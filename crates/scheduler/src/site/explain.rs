//! Why does this job wait, or run where it runs?
//!
//! The library behind `cosmos why`. It gives data; words are made from it elsewhere.
//!
//! What a job runs for was written down when it was placed. Why it waits is found by
//! trying: a copy of the scheduler is asked to start it and says what is in the way. When
//! it will start is found by letting a copy live on, where nobody else comes and
//! everybody ends as promised, or as they tend to; and what would help, by doing the
//! same with a changed job. So no answer can differ from what the scheduler would do.
//!
//! An explanation costs some copies of the scheduler, milliseconds each; it is for
//! people and not for every event.

use alloc::vec::Vec;

use alloc::collections::{BTreeMap, BTreeSet};

use telemetry::Reason;
use wire::{Instant, Nanos};

use crate::ledger::{Models, WHOLE};

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
    Pending(Pending),
    /// It runs.
    Running(Running),
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
    /// When it starts as things are.
    pub start: Prediction,
    /// What would start it sooner, the cheapest first.
    pub changes: Vec<Alternative>,
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
    /// when sound; none if all do, or it would not start then either.
    pub eased: Option<Instant>,
    /// It has not started by then if those who run end as they tend to, and nobody looked
    /// further: [`ENDS_MAX`] jobs end before. None if the look went to its end.
    pub not_before: Option<Instant>,
}

/// A change to a job.
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
    /// The job with this change.
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

    /// Whether it is sooner by more than a hundredth of the wait: less is not worth giving
    /// something up for.
    fn is_sooner(&self, other: &Self, now: Instant) -> bool {
        let ((a, b), (c, d)) = (self.rank(), other.rank());
        let clearly = |a: Instant, b: Instant| a < b && b.since(a).0 >= b.since(now).0 / 100;
        clearly(a, c) || (a <= c && clearly(b, d))
    }

    /// What it is compared by: what is certain first.
    fn rank(&self) -> (Instant, Instant) {
        let never = Instant(u64::MAX);
        (self.latest.unwrap_or(never), self.likely.unwrap_or(never))
    }
}

impl SiteScheduler {
    /// Why a job is where it is.
    //= requirements S7
    #[must_use]
    pub fn explain(&self, job: u64, now: Instant) -> Explanation {
        if let Some(running) = self.running.get(&job) {
            return Explanation::Running(Running {
                job: running.job,
                arrived: running.arrived,
                started: running.started,
                promised_end: running.promised,
                preempted: running.preempted,
                tasks: running.tasks.clone(),
                evidence: (*running.evidence).clone(),
            });
        }
        match self.queue.get(job) {
            Some(waiting) => {
                let mut pending = self.what_holds(waiting, now);
                let Pending { job, funnel, .. } = pending;
                pending.start = self.predict(now, &job);
                let reserved = self.reserved_until(now, &job);
                pending.changes = self.changes(now, &job, &funnel, pending.start, reserved);
                Explanation::Pending(pending)
            }
            None => Explanation::Unknown,
        }
    }

    /// Why a job waits, without looking ahead: [`SiteScheduler::explain`] without the start
    /// and the changes, at a small part of the price. None if it does not wait.
    #[must_use]
    pub fn holds(&self, job: u64, now: Instant) -> Option<Pending> {
        self.queue.get(job).map(|w| self.what_holds(w, now))
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
        let mut ahead = self.clone();
        ahead.look_ahead(now, head);
        ahead.reservation_for(now, job, head).map(|kept| kept.at)
    }

    fn what_holds(&self, waiting: &Waiting, now: Instant) -> Pending {
        let job = waiting.job;
        let held = self.clone().admit(now, job.id, &mut |_| {});
        let obstacle = match held {
            Err((obstacle, _)) => self.whose_turn(&job, obstacle, now),
            // It starts with the next thing that happens.
            Ok(_) => Obstacle::general(Reason::BestScore, (0.0, 0.0)),
        };
        let mut ahead = self.clone();
        let head = self.head(now).filter(|&head| head != job.id);
        let reservation = head.and_then(|head| {
            ahead.look_ahead(now, head);
            ahead.reservation_for(now, &job, head)
        });
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
            funnel,
            fallen,
            tasks_that_fit: copies.sum(),
            gpu_milli_free: order::free_gpu(&self.ledger, &job),
            used: self.used(job.tenant),
            terms: *self.accounts.terms(job.tenant),
            ahead: self.ahead_of(waiting),
            start: Prediction::default(),
            changes: Vec::new(),
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
        let mut ahead = Ahead::default();
        let mut first = BTreeSet::new();
        for other in self.queue.jobs() {
            let rank = self.rank(other);
            if rank >= own || self.accounts.admits(&other.job).is_err() {
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
    fn predict(&self, now: Instant, job: &Job) -> Prediction {
        Prediction::of(Look::ALL.map(|look| {
            let (ends, loops) = look.of();
            self.is_worth(look)
                .then(|| self.live_on(now, job, ends, loops))
        }))
    }

    /// Lets a copy live on until the job starts, as it is here or was changed.
    fn live_on(&self, now: Instant, job: &Job, ends: Ends, loops: Loops) -> Seen {
        let mut copy = self.clone();
        let Some(&was) = copy.queue.get(job.id) else {
            return Seen::Never;
        };
        if was.job != *job {
            copy.queue.remove(job.id);
            copy.enqueue(Waiting { job: *job, ..was });
            copy.forget_outlook_of(job.id);
            if copy.admit(now, job.id, &mut |_| {}).is_ok() {
                return Seen::Starts(now);
            }
        }
        let (mut future, mut started) = Future::new(copy, now, ends, loops);
        loop {
            if started.contains(&job.id) {
                return Seen::Starts(future.now());
            }
            started = match future.step() {
                Some(started) => started,
                None if future.is_cut_short() => return Seen::NotBefore(future.now()),
                None => return Seen::Never,
            };
        }
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

    fn starts_now(&self, now: Instant, job: &Job) -> bool {
        let mut asked = self.clone();
        let Some(was) = asked.queue.remove(job.id) else {
            return false;
        };
        asked.enqueue(Waiting { job: *job, ..was });
        asked.forget_outlook_of(job.id);
        asked.admit(now, job.id, &mut |_| {}).is_ok()
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

    /// Changes that start the job sooner than it would.
    fn changes(
        &self,
        now: Instant,
        job: &Job,
        funnel: &Funnel,
        as_it_is: Prediction,
        reserved_at: Option<Instant>,
    ) -> Vec<Alternative> {
        let worth = self.worth_trying(now, job, funnel, reserved_at).into_iter();
        let better = worth.filter_map(|change| {
            let changed = change.apply(*job);
            if self.never(&changed).is_some() {
                return None;
            }
            let start = self.predict(now, &changed);
            (start.is_sooner(&as_it_is, now)).then_some(Alternative { change, start })
        });
        cheapest_first(job, better.collect())
    }

    /// Why a job waits and what would start it at once, without looking ahead: at a small
    /// part of the price of [`SiteScheduler::explain`]. None if it does not wait.
    #[must_use]
    pub fn what_helps_now(&self, job: u64, now: Instant) -> Option<Pending> {
        let mut pending = self.holds(job, now)?;
        let Pending { job, funnel, .. } = pending;
        let reserved = self.reserved_until(now, &job);
        let worth = self.worth_trying(now, &job, &funnel, reserved).into_iter();
        let at_once = worth.filter(|change| self.starts_now(now, &change.apply(job)));
        let start = Prediction {
            likely: Some(now),
            latest: Some(now),
            ..Prediction::default()
        };
        let at_once = at_once.map(|change| Alternative { change, start });
        pending.changes = cheapest_first(&job, at_once.collect());
        Some(pending)
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
            let fits = |cpu| self.starts_now(now, &Change::Cpu(cpu).apply(*job));
            worth.push(Change::Cpu(most(demand.cpu_milli, fits)));
        }
        if funnel.fell[Test::Memory as usize] > 0 {
            let fits = |memory| self.starts_now(now, &Change::Memory(memory).apply(*job));
            worth.push(Change::Memory(most(demand.memory_mib, fits)));
        }
        if demand.gpus > 1 {
            let fits = |gpus| self.starts_now(now, &Change::Gpus(gpus as u8).apply(*job));
            let less = less(demand.gpus.into(), fits).into_iter();
            worth.extend(less.map(|gpus| Change::Gpus(gpus as u8)));
        }
        if demand.gpus == 1 && demand.gpu_milli > 1 {
            let fits = |share| self.starts_now(now, &Change::Share(share as u16).apply(*job));
            worth.push(Change::Share(most(demand.gpu_milli.into(), fits) as u16));
        }
        if job.tasks > 1 {
            let fits = |tasks| self.starts_now(now, &Change::Tasks(tasks as u16).apply(*job));
            let less = less(job.tasks.into(), fits).into_iter();
            worth.extend(less.map(|tasks| Change::Tasks(tasks as u16)));
        }
        worth
    }
}

fn cheapest_first(job: &Job, mut changes: Vec<Alternative>) -> Vec<Alternative> {
    changes.sort_by(|a, b| {
        let (a, b) = (a.change.price(job), b.change.price(job));
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
