//! Which nodes of a GPU site take this job, and when?
//!
//! One scheduler for a site of some thousand nodes on some cooling loops. A job is a
//! gang of equal tasks that start together ([`Job`]); it names what each needs on one
//! node ([`crate::Demand`]), who pays ([`Tenant`]), how it may be treated ([`Quality`]) and
//! perhaps how long it runs at most. Only that promise is believed, and only because it
//! can be enforced ([`Overrun`]).
//!
//! **Refused** at once, in time that does not grow with the queue: what the empty site
//! could not hold, what its tenant may never have, and what makes no sense.
//!
//! **Order.** What is due by quota, then higher priority, then the tenant with the
//! lowest weighted dominant share, then who came first (`quota`, `order`).
//!
//! **Placement.** Among the nodes where a task fits, the lowest score wins; a gang
//! goes into the tightest domain that holds it (`choose`). Blind to heat the score is
//! what the placement policy thinks of the node ([`crate::policy`]), which also picks
//! among the GPUs there. Aware of heat, loops that would pass the setpoint, or whose
//! nodes are being slowed, are left out, and `heat_weight` × the loop's predicted load is
//! added: among nearly equal fits the loop with the most headroom wins.
//!
//! **Waiting.** The head of the queue has a reservation; what comes later goes ahead
//! only where it cannot delay it (`reserve`). Of those who cannot start nearly all are
//! passed over at a glance, however many they are (`queue`, `skyline`).
//!
//! **Preemption.** Of best-effort jobs only, by higher priority or by the owner of
//! what was lent (`preempt`). A job in its turn may lose its place to heat or to a
//! lost node (`heat`).
//!
//! Every placement, refusal, wait, move, preemption, throttle and parking is a
//! [`Decision`], most with the [`Evidence`] they rest on; for a placement the two numbers
//! are the winner's score and the runner-up's. [`explain`] answers why a job waits or
//! runs where it does. Nothing is kept of a job that is gone but one count in a small
//! table of how long jobs run against what they promise (`habit`).
//!
//! Why in this order: docs/decisions/2026-11-21-who-goes-first-and-what-a-limit-is-worth.md.
//!
//! Deliberately absent: preemption of a latency-sensitive job for any reason,
//! defragmentation, and jobs whose tasks differ.

mod change;
mod choose;
pub mod explain;
mod future;
mod habit;
mod heat;
mod job;
mod order;
mod preempt;
mod queue;
mod quota;
mod refuse;
mod reserve;
mod skyline;
mod topology;
pub mod words;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use machine::{Machine, Purpose, Stream};
use telemetry::{Action, Decision, Reason};
use wire::{Instant, Nanos, Tile};

use crate::cooling::Cooling;
use crate::evidence;
use crate::ledger::{Claim, Demand, Ledger, Node, State, WHOLE};
use crate::policy::{Policy, Ranking, Typical};

use choose::{Nowhere, Places, View};
use habit::Habits;
use heat::Slowness;
use queue::{Queue, Waiting};
use quota::Accounts;
use reserve::Reservation;
use topology::{Shape, Tally, Topology};

pub use evidence::{CANDIDATES_MAX, Candidate, Evidence, Funnel, Test};
pub use job::{Job, Quality, Resources, Spread, Tenant};
pub use refuse::{Lack, Refusal};

/// What a site's scheduler is told once.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Every node; their order breaks ties.
    pub nodes: Vec<Node>,
    /// Heat each cooling loop can carry when sound, in watts.
    pub loop_watts: Vec<f64>,
    /// Whether heat is looked at; if not, meters are ignored and nothing is
    /// slowed, moved or parked for heat.
    pub heat_aware: bool,
    /// How one node is preferred to another, heat aside. What work is typical it learns
    /// from who arrives.
    pub policy: Policy,
    /// What a loop at full load adds to a score; a fit is about 0 to 1.
    pub heat_weight: f64,
    /// The load above which a loop gets no more work and its nodes slow down.
    pub setpoint: f64,
    /// Time between two readings of a loop's meter.
    pub period: Nanos,
    /// The share of its dynamic power that a node at its lowest clock still spends.
    pub budget_min: f64,
    /// x in: dynamic power is in proportion to the clock to the x. At least 1.
    pub clock_exponent: f64,
    /// Jobs wait at most this many; more are refused.
    pub queue_max: usize,
    /// A job starts ahead of at most this many that came earlier.
    pub overtake_max: usize,
    /// A job that has waited this long is not overtaken any more.
    pub patience: Nanos,
    /// Who shares the site; jobs name them by index. At least one.
    pub tenants: Vec<Tenant>,
    /// The limit of a job that names none itself.
    pub limit: Option<Nanos>,
    /// What becomes of a job that runs past its limit.
    pub overrun: Overrun,
    /// A job that was preempted this often is not preempted any more.
    pub preempt_max: u8,
}

/// What becomes of a job that runs past its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overrun {
    /// It is ended, as most sites do: a promise others may build on.
    #[default]
    Ended,
    /// It goes on, and is believed to need as long again.
    Tolerated,
}

/// What happens at a site.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input {
    /// A job came.
    Arrived(Job),
    /// A job reached its end.
    Finished {
        /// Which.
        job: u64,
    },
    /// A loop's meter was read.
    Metered {
        /// Which loop.
        coolant: u16,
        /// The heat its nodes give it, in watts.
        heat_watts: f64,
        /// The heat of ours it can carry now, in watts.
        capacity_watts: f64,
        /// What others take of what it can carry now, in watts.
        others_watts: f64,
    },
    /// A node's [`crate::Guard`] slows it down because a device is hot.
    NearLimit {
        /// Which.
        node: u32,
        /// The device's temperature.
        kelvin: f64,
        /// Where its guard began.
        bound: f64,
    },
    /// A node is gone, and what ran on it.
    NodeLost {
        /// Which.
        node: u32,
    },
}

/// What a loop's meter shows: see [`Input::Metered`].
#[derive(Clone, Copy, Debug)]
struct Reading {
    heat_watts: f64,
    capacity_watts: f64,
    others_watts: f64,
}

/// What a site's scheduler asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Start a job from its beginning, or from where its world kept it.
    Start {
        /// Which.
        job: u64,
        /// Where, and with what: one per task.
        tasks: Vec<Task>,
    },
    /// Stop all tasks of a job. Those on a lost node have stopped already.
    Stop {
        /// Which.
        job: u64,
        /// [`Reason::Term`] if it came to its limit and does not come back; any
        /// other means that it waits, or starts elsewhere at once, or is lost, as
        /// the decision beside it says.
        reason: Reason,
    },
    /// The node may spend this share of its dynamic power: for its [`crate::Guard`].
    Budget {
        /// Which.
        node: u32,
        /// 0 to 1.
        share: f64,
    },
    /// Switch an idle node on or off.
    Power {
        /// Which.
        node: u32,
        /// On or off.
        on: bool,
    },
    /// For the record, with what it rests on.
    Decided(Decision, Option<Box<Evidence>>),
}

/// A task in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// On which node.
    pub node: u32,
    /// What it holds there.
    pub claim: Claim,
}

/// A job that runs.
#[derive(Clone, Debug)]
struct Running {
    job: Job,
    arrived: Instant,
    started: Instant,
    /// When it has run for as long as it promised.
    promised: Option<Instant>,
    preempted: u8,
    tasks: Vec<Task>,
    evidence: Box<Evidence>,
}

impl Running {
    fn is_on(&self, node: u32) -> bool {
        self.tasks.iter().any(|task| task.node == node)
    }

    const fn as_waiting(&self) -> Waiting {
        Waiting {
            job: self.job,
            arrived: self.arrived,
            preempted: self.preempted,
        }
    }
}

/// What a node's jobs make of it.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// Heat of its jobs by the books, at full clock.
    watts: f64,
    latency_sensitive: u16,
    /// The share of dynamic power it was last given.
    share: f64,
}

/// Why a job cannot start: at which node it came nearest, what was found there,
/// and what it was held against.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Obstacle {
    reason: Reason,
    node: u32,
    found: f64,
    bound: f64,
}

impl Obstacle {
    /// That has to do with no node in particular.
    const fn general(reason: Reason, (found, bound): (f64, f64)) -> Self {
        Self {
            reason,
            node: 0,
            found,
            bound,
        }
    }
}

/// What is known of the start of whoever stands first and cannot start.
#[derive(Clone, Debug)]
enum Outlook {
    /// Nothing: not worked out since something ended.
    Stale,
    /// That no promise leads to it, or nothing but heat is in its way.
    Unknown {
        head: u64,
        /// Whether it waits for heat: there is room for it, or nodes are switched off.
        is_for_heat: bool,
    },
    /// When and where.
    Known(Box<Reservation>),
}

/// The scheduler of one site.
#[derive(Clone, Debug)]
pub struct SiteScheduler {
    config: Config,
    topology: Topology,
    ledger: Ledger,
    /// None for the looseness of the fit, which needs no books. Shared between copies,
    /// which are made to ask "what if", until one of them places something.
    ranking: Option<Arc<Ranking>>,
    cooling: Vec<Cooling>,
    accounts: Accounts,
    habits: Habits,
    /// Shared between copies, which are made to ask "what if", as the next two are: most copies start and end nothing, and of a full
    /// site it would be megabytes.
    running: Arc<BTreeMap<u64, Arc<Running>>>,
    /// Ends that were promised, and best-effort jobs with the youngest last.
    ends: Arc<BTreeSet<(Instant, u64)>>,
    youngest: Arc<BTreeSet<(Instant, u64)>>,
    /// Bounded by [`Config::queue_max`], save for jobs that were stopped.
    queue: Queue,
    outlook: Outlook,
    /// For whom nobody's going would make room, and whether they were due by quota then:
    /// see `preempt`.
    vain: BTreeMap<u64, bool>,
    loads: Vec<Load>,
    parked: Vec<BTreeSet<u32>>,
    /// Since when each loop has carried less of ours than when it is sound and ours alone, if it does.
    weak_since: Vec<Option<Instant>>,
    /// What others took of each when its meter was last read, in watts.
    others_watts: Vec<f64>,
    /// What each loop's best-effort jobs lose by being slowed.
    slowness: Vec<Slowness>,
}

impl SiteScheduler {
    /// A site of idle nodes, all switched on.
    ///
    /// # Panics
    /// If a node names a loop that there is not, if there is no tenant, or a
    /// tenant's weight is not above 0.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        assert!(
            !config.tenants.is_empty() && config.tenants.iter().all(|t| t.weight > 0.0),
            "a site has a tenant, and every tenant a weight above 0"
        );
        let loops = config.loop_watts.len();
        let mut members = vec![Vec::new(); loops];
        let mut idle = vec![0.0; loops];
        for (node, i) in config.nodes.iter().zip(0_u32..) {
            members[usize::from(node.coolant)].push(i);
            idle[usize::from(node.coolant)] += node.idle_watts;
        }
        let cooling = members.into_iter().zip(idle).zip(&config.loop_watts);
        let cooling = cooling.map(|((nodes, idle), &watts)| {
            let bounds = (config.setpoint, config.budget_min);
            Cooling::new(watts, (idle, 0.0), nodes, bounds, config.period, now)
        });
        let fresh = Load {
            watts: 0.0,
            latency_sensitive: 0,
            share: 1.0,
        };
        let ledger = Ledger::new(config.nodes.clone());
        Self {
            cooling: cooling.collect(),
            topology: Topology::new(&config.nodes, loops),
            ranking: ranking(config.policy, &ledger),
            accounts: Accounts::new(&config.nodes, &config.tenants),
            habits: Habits::new(config.tenants.len()),
            running: Arc::default(),
            ends: Arc::default(),
            youngest: Arc::default(),
            queue: Queue::new(config.tenants.len(), &ledger),
            outlook: Outlook::Stale,
            vain: BTreeMap::new(),
            loads: vec![fresh; config.nodes.len()],
            parked: vec![BTreeSet::new(); loops],
            weak_since: vec![None; loops],
            others_watts: vec![0.0; loops],
            slowness: vec![Slowness::none(now); loops],
            ledger,
            config,
        }
    }

    /// Jobs that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Jobs that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// The books.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What it believes of the cooling loops.
    #[must_use]
    pub fn cooling(&self) -> &[Cooling] {
        &self.cooling
    }

    /// Whether nodes of a loop are switched off to spare it.
    #[must_use]
    pub fn has_parked(&self, coolant: usize) -> bool {
        !self.parked[coolant].is_empty()
    }

    /// What a tenant's jobs hold now.
    #[must_use]
    pub fn used(&self, tenant: u16) -> Resources {
        self.accounts.used(tenant)
    }

    /// A tenant's dominant share of the site over its weight.
    #[must_use]
    pub fn share(&self, tenant: u16) -> f64 {
        self.accounts.share(tenant)
    }

    fn coolant_of(&self, node: u32) -> usize {
        usize::from(self.ledger.nodes()[node as usize].coolant)
    }

    fn view<'a>(&'a self, reservation: Option<&'a Reservation>) -> View<'a> {
        View {
            config: &self.config,
            topology: &self.topology,
            ledger: &self.ledger,
            fits: self.ranking.as_ref().map(|ranking| ranking.fits()),
            tally: None,
            cooling: self.config.heat_aware.then_some(&self.cooling),
            relief: &[],
            reservation,
        }
    }

    /// Asks the policy about every node, before a place is chosen for this demand.
    fn weigh(&mut self, demand: &Demand) {
        if let Some(ranking) = &mut self.ranking {
            Arc::make_mut(ranking).weigh(&self.ledger, demand);
        }
    }

    /// Tells the policy what arrived.
    fn learn(&mut self, job: &Job) {
        if let Some(ranking) = &mut self.ranking {
            Arc::make_mut(ranking).learn(&job.demand, job.tasks);
        }
    }

    /// Whether a node's GPUs are picked by the policy. On a node that the head of the
    /// queue needs, what was found to leave it alone takes the snuggest.
    fn picks_gpus(&self, node: u32, job: &Job) -> bool {
        let is_share = job.demand.gpus == 1 && (1..WHOLE).contains(&job.demand.share());
        is_share
            && match &self.outlook {
                Outlook::Known(kept) => kept.job == job.id || !kept.is_on(node),
                _ => true,
            }
    }

    /// The run time a job may count on and others may count with.
    fn limit(&self, job: &Job) -> Option<Nanos> {
        job.limit.or(self.config.limit)
    }

    /// Changes a node's books, and tells who counts by them.
    fn on_node<R>(&mut self, node: u32, change: impl FnOnce(&mut Ledger) -> R) -> R {
        let before = *self.ledger.room(node);
        let result = change(&mut self.ledger);
        self.queue
            .node_changed(node, &before, self.ledger.room(node));
        result
    }

    fn start(
        &mut self,
        now: Instant,
        waiting: Waiting,
        places: &Places,
        evidence: Box<Evidence>,
        out: &mut impl FnMut(Effect),
    ) {
        let Waiting {
            job,
            arrived,
            preempted,
        } = waiting;
        let mut tasks = Vec::with_capacity(job.tasks.into());
        for &(node, count) in places {
            let picks = self.picks_gpus(node, &job);
            let mut ranking = self.ranking.take();
            self.on_node(node, |books| {
                for _ in 0..count {
                    let claim = match &mut ranking {
                        Some(ranking) if picks => {
                            let ranking = Arc::make_mut(ranking);
                            let gpus = ranking.gpus(books, node, &job.demand);
                            books.claim_on(node, &job.demand, gpus)
                        }
                        _ => books.claim(node, &job.demand),
                    };
                    let claim = claim.expect("chosen among the nodes it fits");
                    tasks.push(Task { node, claim });
                }
            });
            self.ranking = ranking;
            let watts = f64::from(count) * job.demand.watts_on(&self.ledger.nodes()[node as usize]);
            let coolant = self.coolant_of(node);
            self.cooling[coolant].book(watts);
            let load = &mut self.loads[node as usize];
            load.watts += watts;
            load.latency_sensitive += u16::from(job.quality == Quality::LatencySensitive);
        }
        self.accounts.book(&job);
        self.vain.remove(&job.id);
        if self.accounts.is_guaranteed(job.tenant) {
            self.vain.clear();
        }
        let promised = self.limit(&job).map(|limit| now + limit);
        if let Some(end) = promised {
            Arc::make_mut(&mut self.ends).insert((end, job.id));
        }
        if job.quality == Quality::BestEffort {
            Arc::make_mut(&mut self.youngest).insert((now, job.id));
        }
        if let Outlook::Known(kept) = &mut self.outlook {
            if kept.job == job.id {
                self.outlook = Outlook::Stale;
            } else if promised.is_none_or(|end| end > kept.at) {
                kept.beside(&tasks);
            }
        }
        out(Effect::Start {
            job: job.id,
            tasks: tasks.clone(),
        });
        let running = Running {
            job,
            arrived,
            started: now,
            promised,
            preempted,
            tasks,
            evidence,
        };
        let before = Arc::make_mut(&mut self.running).insert(job.id, Arc::new(running));
        assert!(before.is_none(), "job {} runs already", job.id);
    }

    /// Takes a job off its nodes and the books.
    fn end(&mut self, id: u64) -> Option<Arc<Running>> {
        if !self.running.contains_key(&id) {
            return None;
        }
        let running = Arc::make_mut(&mut self.running).remove(&id)?;
        let job = &running.job;
        let mut at = 0;
        while let Some(&Task { node, .. }) = running.tasks.get(at) {
            let here = running.tasks[at..].iter().take_while(|t| t.node == node);
            let count = here.count();
            self.on_node(node, |books| {
                for task in &running.tasks[at..at + count] {
                    books.release(node, &task.claim);
                }
            });
            at += count;
            let watts = count as f64 * job.demand.watts_on(&self.ledger.nodes()[node as usize]);
            let coolant = self.coolant_of(node);
            self.cooling[coolant].book(-watts);
            let load = &mut self.loads[node as usize];
            load.watts -= watts;
            load.latency_sensitive -= u16::from(job.quality == Quality::LatencySensitive);
            if self.ledger.claims(node) == 0 {
                // What binary fractions left over is not heat.
                load.watts = 0.0;
            }
        }
        self.try_again_after(&running);
        self.accounts.unbook(job);
        if let Some(end) = running.promised {
            Arc::make_mut(&mut self.ends).remove(&(end, id));
        }
        if job.quality == Quality::BestEffort {
            Arc::make_mut(&mut self.youngest).remove(&(running.started, id));
        }
        self.outlook = Outlook::Stale;
        Some(running)
    }

    fn enqueue(&mut self, waiting: Waiting) {
        // It may be another job than it was, in a copy that asks "what if".
        self.vain.remove(&waiting.job.id);
        self.queue.add(waiting);
    }

    /// Why the site could never run a job, if so.
    fn never(&self, job: &Job) -> Option<Obstacle> {
        let demand = &job.demand;
        let tenants = self.config.tenants.len();
        let counts = (f64::from(job.tenant), tenants as f64);
        if usize::from(job.tenant) >= tenants {
            return Some(Obstacle::general(Reason::Malformed, counts));
        }
        let whole = f64::from(crate::ledger::WHOLE);
        if job.tasks == 0 || demand.share() > crate::ledger::WHOLE {
            let share = f64::from(demand.share());
            return Some(Obstacle::general(Reason::Malformed, (share, whole)));
        }
        if let Err(sums) = self.accounts.could_ever_admit(job) {
            return Some(Obstacle::general(Reason::Quota, sums));
        }
        (!self.topology.could_ever_hold(&self.ledger, job)).then(|| self.impossible(job).1)
    }

    /// What keeps a job off nodes that fell like this, none of which was too warm.
    fn lacking(&self, job: &Job, funnel: &Funnel) -> Obstacle {
        let shortage = || self.shortage(job, order::shortage(&self.ledger, job, funnel));
        self.room_that_is_off(job, funnel).unwrap_or_else(shortage)
    }

    /// The heat that keeps a job waiting, if it would find room on nodes that are switched off for it.
    fn room_that_is_off(&self, job: &Job, funnel: &Funnel) -> Option<Obstacle> {
        if funnel.fell[Test::Parked as usize] == 0 {
            return None;
        }
        let parked = || self.parked.iter().flatten().copied();
        let mut on = self.ledger.clone();
        parked().for_each(|node| on.set_state(node, State::Open));
        let tally = Tally::new(&self.topology, &on, &Shape::of(job));
        if !tally.fits(job.tasks, job.spread) {
            return None;
        }
        let bound = self.config.setpoint;
        let loads = parked().filter(|node| on.fits(*node, &job.demand));
        let loads = loads.map(|node| {
            let built = &on.nodes()[node as usize];
            let watts = built.idle_watts + job.demand.watts_on(built);
            let found = self.cooling[usize::from(built.coolant)].predicted(watts);
            // It may be cool enough and not yet for long enough.
            let reason = match found > bound {
                true => Reason::NoHeadroomOutward,
                false => Reason::Backpressure,
            };
            Obstacle {
                reason,
                node,
                found,
                bound,
            }
        });
        loads.min_by(|a, b| a.found.total_cmp(&b.found))
    }

    fn shortage(&self, job: &Job, reason: Reason) -> Obstacle {
        let (node, found, bound) = self.ledger.nearest(&job.demand);
        Obstacle {
            reason,
            node,
            found,
            bound,
        }
    }

    fn arrived(&mut self, now: Instant, job: Job, out: &mut impl FnMut(Effect)) {
        let known = self.running.contains_key(&job.id) || self.queue.get(job.id).is_some();
        assert!(!known, "job {} came before", job.id);
        if let Some(obstacle) = self.never(&job) {
            return decided(now, Action::Refuse, job.id, obstacle, None, out);
        }
        self.learn(&job);
        let head = self.head(now);
        self.enqueue(Waiting {
            job,
            arrived: now,
            preempted: 0,
        });
        let admitted = self.admit(now, job.id, out);
        let preempted = matches!(admitted, Ok(true));
        if let Err((obstacle, evidence)) = admitted {
            let action = if self.queue.len() > self.config.queue_max {
                self.queue.remove(job.id);
                Action::Refuse
            } else {
                Action::Queue
            };
            decided(now, action, job.id, obstacle, evidence.as_deref(), out);
        }
        if preempted || self.head(now) != head || head.is_some_and(|h| self.is_let_by(now, h)) {
            // Victims leave more room than was needed, or something else is reserved now.
            self.sweep(now, out);
        }
    }

    fn node_lost(&mut self, now: Instant, node: u32, out: &mut impl FnMut(Effect)) {
        let known = (node as usize) < self.loads.len();
        if !known || self.ledger.state(node) == State::Lost {
            return;
        }
        let coolant = self.coolant_of(node);
        if !self.parked[coolant].remove(&node) {
            let idle = self.ledger.nodes()[node as usize].idle_watts;
            self.cooling[coolant].book_idle(-idle);
        }
        self.on_node(node, |books| books.set_state(node, State::Lost));
        self.accounts.lost(&self.ledger.nodes()[node as usize]);
        self.vain.clear();
        self.outlook = Outlook::Stale;
        let here = self.running.values().filter(|r| r.is_on(node));
        let mut homeless: Vec<(Instant, u64)> = here.map(|r| (r.arrived, r.job.id)).collect();
        homeless.sort_unstable();
        for (_, id) in homeless {
            let lost = self.end(id).expect("listed above").as_waiting();
            out(Effect::Stop {
                job: id,
                reason: Reason::HostLost,
            });
            let because = |o: Obstacle| Obstacle {
                reason: Reason::HostLost,
                ..o
            };
            self.weigh(&lost.job.demand);
            match self.view(None).choose(&lost.job) {
                Ok((places, evidence)) => {
                    let (cause, evidence) = (because(won(&evidence)), Box::new(evidence));
                    decided(now, Action::Migrate, id, cause, Some(&evidence), out);
                    self.start(now, lost, &places, evidence, out);
                }
                Err(nowhere) => {
                    let tally = Tally::new(&self.topology, &self.ledger, &Shape::of(&lost.job));
                    let funnel = self.view(None).funnel_of(&lost.job, &tally);
                    let cause = because(self.obstacle(&lost.job, nowhere, &funnel));
                    // It was let in before, so it waits however long the queue is.
                    let hope = self.never(&lost.job).is_none();
                    let action = if hope { Action::Queue } else { Action::Lose };
                    decided(now, action, id, cause, None, out);
                    if hope {
                        self.enqueue(lost);
                    }
                }
            }
        }
        self.give_up_hopeless(now, out);
        self.sweep(now, out);
    }

    /// What can never start any more need not wait for it.
    fn give_up_hopeless(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        let mut alike = BTreeMap::new();
        let hopeless = self.queue.jobs().filter(|w| {
            let kind = queue::Alike::of(&w.job);
            *alike
                .entry(kind)
                .or_insert_with(|| self.never(&w.job).is_some())
        });
        let mut hopeless: Vec<(Instant, Job)> = hopeless.map(|w| (w.arrived, w.job)).collect();
        hopeless.sort_unstable_by_key(|(arrived, job)| (*arrived, job.id));
        for (_, job) in hopeless {
            self.queue.remove(job.id);
            let obstacle = self.never(&job).expect("found hopeless above");
            decided(now, Action::Lose, job.id, obstacle, None, out);
        }
    }

    /// Ends what ran for as long as it promised.
    //= requirements S2
    fn expire(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        if self.config.overrun == Overrun::Tolerated {
            return;
        }
        let mut any = false;
        while let Some(&(end, id)) = self.ends.first()
            && end <= now
        {
            any = true;
            let was = self.end(id).expect("it has an end, so it runs");
            let ran = now.since(was.started).as_secs_f64();
            let limit = end.since(was.started).as_secs_f64();
            self.habits.ended(was.job.tenant, 1.0);
            let cause = Obstacle {
                reason: Reason::Term,
                node: was.tasks[0].node,
                found: ran,
                bound: limit,
            };
            decided(now, Action::Expire, id, cause, None, out);
            out(Effect::Stop {
                job: id,
                reason: Reason::Term,
            });
        }
        if any {
            self.sweep(now, out);
        }
    }

    fn finished(&mut self, now: Instant, job: u64, out: &mut impl FnMut(Effect)) {
        let Some(was) = self.end(job) else {
            return;
        };
        if let Some(limit) = self.limit(&was.job) {
            let ran = now.since(was.started).as_secs_f64();
            let promised = limit.as_secs_f64().max(f64::MIN_POSITIVE);
            self.habits.ended(was.job.tenant, ran / promised);
        }
        self.sweep(now, out);
    }

    /// A loop's meter was read: all that follows from it but for who starts because of it; true if somebody might.
    fn read(
        &mut self,
        now: Instant,
        coolant: usize,
        reading: Reading,
        out: &mut impl FnMut(Effect),
    ) -> bool {
        if !self.config.heat_aware || coolant >= self.cooling.len() {
            return false;
        }
        // What is no number says nothing of others.
        self.others_watts[coolant] = match reading.others_watts.is_finite() {
            true => reading.others_watts.max(0.0),
            false => 0.0,
        };
        let carries = reading.capacity_watts;
        let is_weak = future::is_less(carries, self.config.loop_watts[coolant]);
        let since = &mut self.weak_since[coolant];
        *since = is_weak.then(|| since.unwrap_or(now));
        self.cooling[coolant].metered(now, reading.heat_watts, carries);
        self.metered(now, coolant, out)
    }

    /// In words what choosing found in the way.
    fn obstacle(&self, job: &Job, Nowhere(too_hot): Nowhere, funnel: &Funnel) -> Obstacle {
        too_hot.unwrap_or_else(|| self.lacking(job, funnel))
    }
}

/// What a policy keeps, knowing nothing yet; none for the one that keeps nothing.
fn ranking(policy: Policy, ledger: &Ledger) -> Option<Arc<Ranking>> {
    let preference = (0..ledger.nodes().len() as u32).collect();
    let stream = Stream::new(0, Tile(0), Purpose::Placement);
    let fresh = || Ranking::new(policy, Typical::of([]), ledger, preference, stream);
    (policy != Policy::BestFit).then(|| Arc::new(fresh()))
}

/// The best score, and what it won against; a sole candidate is its own runner-up.
fn won(evidence: &Evidence) -> Obstacle {
    let best = evidence.candidates[0];
    let runner_up = evidence.candidates.get(1).unwrap_or(&best);
    Obstacle {
        reason: Reason::BestScore,
        node: best.node,
        found: best.score(),
        bound: runner_up.score(),
    }
}

//= requirements S7
fn decided(
    now: Instant,
    action: Action,
    work: u64,
    cause: Obstacle,
    evidence: Option<&Evidence>,
    out: &mut impl FnMut(Effect),
) {
    let decision = Decision {
        at: now,
        action,
        reason: cause.reason,
        subject: Tile(cause.node.into()),
        work,
        found: cause.found,
        bound: cause.bound,
    };
    out(Effect::Decided(decision, evidence.cloned().map(Box::new)));
}

impl Machine for SiteScheduler {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Instant, input: Input, out: &mut impl FnMut(Effect)) {
        match input {
            Input::Arrived(job) => self.arrived(now, job, out),
            Input::Finished { job } => self.finished(now, job, out),
            Input::Metered {
                coolant,
                heat_watts,
                capacity_watts,
                others_watts,
            } => {
                let coolant = usize::from(coolant);
                let reading = Reading {
                    heat_watts,
                    capacity_watts,
                    others_watts,
                };
                if self.read(now, coolant, reading, out) {
                    self.sweep(now, out);
                }
            }
            Input::NearLimit {
                node,
                kelvin,
                bound,
            } => self.near_limit(now, node, (kelvin, bound), out),
            Input::NodeLost { node } => self.node_lost(now, node, out),
        }
    }

    /// A limit was reached, or a meter has been silent for too long.
    fn wake(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        self.expire(now, out);
        if !self.config.heat_aware {
            return;
        }
        for coolant in 0..self.cooling.len() {
            if self.cooling[coolant].deadline() <= now {
                self.cooling[coolant].wake(now);
                self.hand_out(now, coolant, out);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let meters = self.cooling.iter().map(Cooling::deadline);
        let meters = meters.min().filter(|_| self.config.heat_aware);
        let ends = self.ends.first().map(|&(end, _)| end);
        let ends = ends.filter(|_| self.config.overrun == Overrun::Ended);
        meters.into_iter().chain(ends).min()
    }
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
