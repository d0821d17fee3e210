//! Which node of a GPU site takes this job?
//!
//! One scheduler for a site of some thousand nodes on some cooling loops. A job
//! names what it needs at once, on one node ([`Demand`]), and how it may be treated
//! ([`Quality`]); how long it will run it does not say, and nothing here would
//! believe it.
//!
//! **Placement.** Among the nodes where the job fits, the lowest score wins, the
//! first of equals. Blind to heat the score is the looseness of the fit
//! ([`Ledger::looseness`]), so nodes fill up tightly. Aware of heat, loops that
//! would pass the setpoint, or whose nodes are being slowed, are left out, and
//! `heat_weight` × the loop's predicted load is added: among nearly equal fits the
//! loop with the most headroom wins.
//!
//! **Waiting.** What fits nowhere waits in order of arrival. Work may start although
//! earlier work waits, but it overtakes at most [`Config::overtake_max`] jobs, and
//! none that has waited longer than [`Config::patience`]: small jobs fill the gaps
//! without starving the large one in front.
//!
//! **Backpressure.** Per loop, see [`crate::cooling`]. Budgets fall on best-effort
//! work first. A loop that is overloaded nonetheless is unloaded: idle nodes are
//! parked, which costs nothing; then best-effort jobs leave, the youngest first,
//! because a job that moves *starts again from its beginning*. There are no
//! checkpoints here; the youngest have the least to lose. Latency-sensitive jobs
//! stay, however slow, until one of their node's devices nears its limit in spite of
//! all that, or the node is lost. They move only to where they can start at once.
//!
//! Every placement, refusal, wait, move, throttle and parking is a [`Decision`]. For a
//! placement the two numbers are the winner's score and the runner-up's.
//!
//! The order, with what each step is worth: docs/decisions/2026-11-21-a-failed-loop-is-emptied-in-an-order.md.
//!
//! Deliberately absent: priorities within a quality, gangs across nodes, preemption
//! of a latency-sensitive job for any reason, and defragmentation.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use machine::Machine;
use telemetry::{Action, Decision, Reason};
use wire::{Instant, Nanos, Tile};

use crate::cooling::{self, Cooling};
use crate::ledger::{Claim, Demand, Ledger, Node, State};

mod evidence;
pub mod explain;
mod job;

pub use evidence::{CANDIDATES_MAX, Candidate, Evidence, Funnel, Test};
pub use job::{Job, Quality, Resources, Spread, Tenant};

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
    /// What a loop at full load adds to a score; scores lie between 0 and 1.
    pub heat_weight: f64,
    /// The load above which a loop gets no more work and its nodes slow down.
    pub setpoint: f64,
    /// Time between two readings of a loop's meter.
    pub period: Nanos,
    /// The share of its dynamic power that a node at its lowest clock still spends.
    pub budget_min: f64,
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
        /// The heat it can carry now, in watts.
        capacity_watts: f64,
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

#[derive(Clone, Copy, Debug)]
struct Running {
    job: Job,
    arrived: Instant,
    started: Instant,
    node: u32,
    claim: Claim,
    watts: f64,
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

/// Place in the queue: when it came, and its number among equals.
type Turn = (Instant, u64);

#[derive(Clone, Copy, Debug)]
struct Waiting {
    job: Job,
    /// Whether heat or earlier work stood in its way when last tried; if not, only
    /// freed room can help.
    for_heat: bool,
}

/// Where a job would go, and the two scores that settled it.
#[derive(Clone, Copy, Debug)]
struct Choice {
    node: u32,
    score: f64,
    runner_up: f64,
}

/// Why a job cannot start: at which node it came nearest, what was found there,
/// and what it was held against.
#[derive(Clone, Copy, Debug)]
struct Obstacle {
    reason: Reason,
    node: u32,
    found: f64,
    bound: f64,
}

/// Budgets are not touched for less: see the same constant of [`crate::Guard`].
const SHARE_STEP_MIN: f64 = 0.005;

/// The scheduler of one site.
#[derive(Clone, Debug)]
pub struct SiteScheduler {
    config: Config,
    ledger: Ledger,
    cooling: Vec<Cooling>,
    running: BTreeMap<u64, Running>,
    /// Bounded by [`Config::queue_max`], save for jobs that lost their node.
    waiting: BTreeMap<Turn, Waiting>,
    waiting_for_heat: usize,
    loads: Vec<Load>,
    parked: Vec<BTreeSet<u32>>,
}

impl SiteScheduler {
    /// A site of idle nodes, all switched on.
    ///
    /// # Panics
    /// If a node names a loop that there is not.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        let loops = config.loop_watts.len();
        let mut members = vec![Vec::new(); loops];
        let mut idle = vec![0.0; loops];
        for (node, i) in config.nodes.iter().zip(0_u32..) {
            members[usize::from(node.coolant)].push(i);
            idle[usize::from(node.coolant)] += node.idle_watts;
        }
        let cooling = members.into_iter().zip(idle).zip(&config.loop_watts);
        let cooling = cooling.map(|((nodes, idle), &watts)| {
            Cooling::new(watts, idle, nodes, config.setpoint, config.period, now)
        });
        let fresh = Load {
            watts: 0.0,
            latency_sensitive: 0,
            share: 1.0,
        };
        Self {
            cooling: cooling.collect(),
            ledger: Ledger::new(config.nodes.clone()),
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            waiting_for_heat: 0,
            loads: vec![fresh; config.nodes.len()],
            parked: vec![BTreeSet::new(); loops],
            config,
        }
    }

    /// Jobs that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
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

    fn coolant_of(&self, node: u32) -> usize {
        usize::from(self.ledger.nodes()[node as usize].coolant)
    }

    /// The best node for a demand; otherwise the least of the heat obstacles, or
    /// none if no node has the room. Looks at every node: some microseconds for
    /// 1,500 of them.
    //= requirements H2
    fn choose(&self, demand: &Demand) -> Result<Choice, Option<Obstacle>> {
        let (mut best, mut runner_up) = (None, f64::INFINITY);
        let mut too_hot: Option<Obstacle> = None;
        for (node, i) in self.ledger.nodes().iter().zip(0_u32..) {
            if !self.ledger.fits(i, demand) {
                continue;
            }
            let mut score = self.ledger.looseness(i, demand);
            if self.config.heat_aware {
                let cooling = &self.cooling[usize::from(node.coolant)];
                let predicted = cooling.predicted(demand.watts_on(node));
                if let Some(obstacle) = self.too_hot(cooling, i, predicted) {
                    if too_hot.is_none_or(|o| obstacle.found < o.found) {
                        too_hot = Some(obstacle);
                    }
                    continue;
                }
                score += self.config.heat_weight * predicted;
            }
            match best {
                Some((_, lowest)) if score >= lowest => runner_up = runner_up.min(score),
                Some((_, lowest)) => (best, runner_up) = (Some((i, score)), lowest),
                None => best = Some((i, score)),
            }
        }
        if let Some((node, score)) = best {
            // A sole candidate is its own runner-up.
            let runner_up = if runner_up.is_finite() {
                runner_up
            } else {
                score
            };
            return Ok(Choice {
                node,
                score,
                runner_up,
            });
        }
        Err(too_hot)
    }

    /// In words what [`Self::choose`] found in the way.
    fn obstacle(&self, demand: &Demand, too_hot: Option<Obstacle>) -> Obstacle {
        too_hot.unwrap_or_else(|| self.shortage(demand, Reason::NoCapacity))
    }

    fn shortage(&self, demand: &Demand, reason: Reason) -> Obstacle {
        let (node, found, bound) = self.ledger.nearest(demand);
        Obstacle {
            reason,
            node,
            found,
            bound,
        }
    }

    fn too_hot(&self, cooling: &Cooling, node: u32, predicted: f64) -> Option<Obstacle> {
        if predicted > self.config.setpoint {
            Some(Obstacle {
                reason: Reason::NoHeadroomOutward,
                node,
                found: predicted,
                bound: self.config.setpoint,
            })
        } else if cooling.budget() < 1.0 {
            // Cool because it is being slowed is not cool.
            Some(Obstacle {
                reason: Reason::Backpressure,
                node,
                found: predicted,
                bound: self.config.setpoint,
            })
        } else {
            None
        }
    }

    fn start(
        &mut self,
        now: Instant,
        (arrived, job): (Instant, Job),
        node: u32,
        out: &mut impl FnMut(Effect),
    ) {
        let claim = self.ledger.claim(node, &job.demand);
        let claim = claim.expect("chosen among the nodes it fits");
        let watts = job.demand.watts_on(&self.ledger.nodes()[node as usize]);
        let coolant = self.coolant_of(node);
        self.cooling[coolant].book(watts);
        let load = &mut self.loads[node as usize];
        load.watts += watts;
        load.latency_sensitive += u16::from(job.quality == Quality::LatencySensitive);
        let running = Running {
            job,
            arrived,
            started: now,
            node,
            claim,
            watts,
        };
        let before = self.running.insert(job.id, running);
        assert!(before.is_none(), "job {} runs already", job.id);
        out(Effect::Start {
            job: job.id,
            tasks: vec![Task { node, claim }],
        });
    }

    /// Takes a job off its node and the books.
    fn end(&mut self, id: u64) -> Option<Running> {
        let running = self.running.remove(&id)?;
        let node = running.node as usize;
        self.ledger.release(running.node, &running.claim);
        let coolant = self.coolant_of(running.node);
        self.cooling[coolant].book(-running.watts);
        let load = &mut self.loads[node];
        load.watts -= running.watts;
        load.latency_sensitive -= u16::from(running.job.quality == Quality::LatencySensitive);
        if self.ledger.claims(running.node) == 0 {
            // What binary fractions left over is not heat.
            load.watts = 0.0;
        }
        Some(running)
    }

    fn enqueue(&mut self, turn: Instant, job: Job, for_heat: bool) {
        self.waiting_for_heat += usize::from(for_heat);
        self.waiting
            .insert((turn, job.id), Waiting { job, for_heat });
    }

    fn dequeue(&mut self, turn: Turn) {
        if let Some(waiting) = self.waiting.remove(&turn) {
            self.waiting_for_heat -= usize::from(waiting.for_heat);
        }
    }

    /// Why work that came now may not even try, if so.
    fn out_of_turn(&self, now: Instant) -> Option<Obstacle> {
        let (&(first, _), _) = self.waiting.first_key_value()?;
        let obstacle = |found, bound| Obstacle {
            reason: Reason::NotItsTurn,
            node: 0,
            found,
            bound,
        };
        let waited = now.since(first);
        if self.waiting.len() > self.config.overtake_max {
            Some(obstacle(
                self.waiting.len() as f64,
                self.config.overtake_max as f64,
            ))
        } else if waited > self.config.patience {
            let patience = self.config.patience.as_secs_f64();
            Some(obstacle(waited.as_secs_f64(), patience))
        } else {
            None
        }
    }

    fn arrived(&mut self, now: Instant, job: Job, out: &mut impl FnMut(Effect)) {
        if !self.ledger.could_ever_fit(&job.demand) {
            let obstacle = self.shortage(&job.demand, Reason::Impossible);
            return decided(now, Action::Refuse, job.id, obstacle, out);
        }
        let tried = match self.out_of_turn(now) {
            Some(obstacle) => Err(obstacle),
            None => self
                .choose(&job.demand)
                .map_err(|too_hot| self.obstacle(&job.demand, too_hot)),
        };
        match tried {
            Ok(choice) => {
                decided(now, Action::Place, job.id, choice.into(), out);
                self.start(now, (now, job), choice.node, out);
            }
            Err(obstacle) if self.waiting.len() < self.config.queue_max => {
                decided(now, Action::Queue, job.id, obstacle, out);
                self.enqueue(now, job, obstacle.is_heat());
            }
            Err(obstacle) => decided(now, Action::Refuse, job.id, obstacle, out),
        }
    }

    /// Starts what waits and can start, in order of arrival. Without `room` only
    /// heat has changed, and only who waits for that is tried.
    fn retry(&mut self, now: Instant, room: bool, out: &mut impl FnMut(Effect)) {
        if !room && self.waiting_for_heat == 0 {
            return;
        }
        let first = self.waiting.iter().take(self.config.overtake_max + 1);
        let turns: Vec<(Turn, Waiting)> = first.map(|(&turn, &w)| (turn, w)).collect();
        for (turn, Waiting { job, for_heat }) in turns {
            let tried = (room || for_heat).then(|| self.choose(&job.demand));
            if let Some(Ok(choice)) = tried {
                self.dequeue(turn);
                decided(now, Action::Place, job.id, choice.into(), out);
                self.start(now, (turn.0, job), choice.node, out);
                continue;
            }
            if let Some(Err(too_hot)) = tried {
                self.dequeue(turn);
                self.enqueue(turn.0, job, too_hot.is_some());
            }
            if now.since(turn.0) > self.config.patience {
                return;
            }
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
            self.cooling[coolant].book(-idle);
        }
        self.ledger.set_state(node, State::Lost);
        let here = self.running.values().filter(|r| r.node == node);
        let mut homeless: Vec<Turn> = here.map(|r| (r.arrived, r.job.id)).collect();
        homeless.sort_unstable();
        for (_, id) in homeless {
            let lost = self.end(id).expect("listed above");
            out(Effect::Stop {
                job: id,
                reason: Reason::HostLost,
            });
            let host_lost = |node, found, bound| Obstacle {
                reason: Reason::HostLost,
                node,
                found,
                bound,
            };
            match self.choose(&lost.job.demand) {
                Ok(c) => {
                    let cause = host_lost(c.node, c.score, c.runner_up);
                    decided(now, Action::Migrate, id, cause, out);
                    self.start(now, (lost.arrived, lost.job), c.node, out);
                }
                Err(too_hot) => {
                    let o = self.obstacle(&lost.job.demand, too_hot);
                    let hope = self.ledger.could_ever_fit(&lost.job.demand);
                    let action = if hope { Action::Queue } else { Action::Lose };
                    decided(now, action, id, host_lost(o.node, o.found, o.bound), out);
                    if hope {
                        // It was let in before, so it waits however long the queue is.
                        self.enqueue(lost.arrived, lost.job, o.is_heat());
                    }
                }
            }
        }
        // What could only have run there need not wait for it.
        let hopeless = self.waiting.iter();
        let hopeless = hopeless.filter(|(_, w)| !self.ledger.could_ever_fit(&w.job.demand));
        let hopeless: Vec<(Turn, Job)> = hopeless.map(|(&turn, w)| (turn, w.job)).collect();
        for (turn, job) in hopeless {
            self.dequeue(turn);
            let obstacle = self.shortage(&job.demand, Reason::Impossible);
            decided(now, Action::Lose, job.id, obstacle, out);
        }
    }

    fn metered(&mut self, now: Instant, coolant: usize, out: &mut impl FnMut(Effect)) {
        let load = self.cooling[coolant].load();
        if load > cooling::OVERLOAD {
            self.unload(now, coolant, load, out);
        } else {
            self.unpark(now, coolant, out);
        }
        self.hand_out(now, coolant, out);
        if self.cooling[coolant].predicted(0.0) <= self.config.setpoint {
            self.retry(now, false, out);
        }
    }

    /// Parks idle nodes and moves best-effort jobs away until the loop is eased.
    //= requirements S3
    fn unload(&mut self, now: Instant, coolant: usize, load: f64, out: &mut impl FnMut(Effect)) {
        let nodes: Vec<u32> = self.cooling[coolant].nodes().to_vec();
        for &node in &nodes {
            if self.eased(coolant) {
                return;
            }
            self.park(now, node, load, out);
        }
        let here = self.running.values();
        let here = here
            .filter(|r| r.job.quality == Quality::BestEffort && self.coolant_of(r.node) == coolant);
        let mut leaving: Vec<(Instant, u64)> = here.map(|r| (r.started, r.job.id)).collect();
        leaving.sort_unstable_by(|a, b| b.cmp(a));
        for (_, id) in leaving {
            if self.eased(coolant) {
                return;
            }
            let node = self.running[&id].node;
            self.evict(
                now,
                id,
                (Reason::Backpressure, load, cooling::OVERLOAD),
                out,
            );
            self.park(now, node, load, out);
        }
    }

    /// Moves a job off its overloaded loop, if it can start elsewhere at once; one of
    /// best effort may also wait.
    //= requirements S3
    fn evict(
        &mut self,
        now: Instant,
        id: u64,
        (reason, found, bound): (Reason, f64, f64),
        out: &mut impl FnMut(Effect),
    ) {
        let Running {
            job, arrived, node, ..
        } = self.running[&id];
        let cause = |node| Obstacle {
            reason,
            node,
            found,
            bound,
        };
        // This loop is far above the setpoint, so what is chosen lies elsewhere.
        match self.choose(&job.demand) {
            Ok(to) => {
                decided(now, Action::Migrate, id, cause(to.node), out);
                self.end(id);
                out(Effect::Stop { job: id, reason });
                self.start(now, (arrived, job), to.node, out);
            }
            Err(_)
                if job.quality == Quality::BestEffort
                    && self.waiting.len() < self.config.queue_max =>
            {
                decided(now, Action::Queue, id, cause(node), out);
                self.end(id);
                out(Effect::Stop { job: id, reason });
                self.enqueue(arrived, job, true);
            }
            Err(_) => {}
        }
    }

    /// Slowing the node was not enough: everything leaves that can.
    fn near_limit(
        &mut self,
        now: Instant,
        node: u32,
        (kelvin, bound): (f64, f64),
        out: &mut impl FnMut(Effect),
    ) {
        if !self.config.heat_aware || node as usize >= self.loads.len() {
            return;
        }
        let load = self.cooling[self.coolant_of(node)].load();
        if load <= cooling::OVERLOAD {
            // Its own cooler is weak, not its loop: its guard will do.
            return;
        }
        let here = self.running.values().filter(|r| r.node == node);
        let mut leaving: Vec<(Instant, u64)> = here.map(|r| (r.started, r.job.id)).collect();
        leaving.sort_unstable_by(|a, b| b.cmp(a));
        for (_, id) in leaving {
            self.evict(now, id, (Reason::NearLimit, kelvin, bound), out);
        }
        self.park(now, node, load, out);
    }

    fn eased(&self, coolant: usize) -> bool {
        self.cooling[coolant].excess_watts(cooling::EASE) <= 0.0
    }

    /// Switches a node off if nothing runs on it.
    fn park(&mut self, now: Instant, node: u32, load: f64, out: &mut impl FnMut(Effect)) {
        if self.ledger.claims(node) > 0 || self.ledger.state(node) != State::Open {
            return;
        }
        let coolant = self.coolant_of(node);
        self.ledger.set_state(node, State::Parked);
        self.parked[coolant].insert(node);
        self.cooling[coolant].book(-self.ledger.nodes()[node as usize].idle_watts);
        let cause = Obstacle {
            reason: Reason::Backpressure,
            node,
            found: load,
            bound: cooling::OVERLOAD,
        };
        decided(now, Action::Park, Decision::NO_WORK, cause, out);
        out(Effect::Power { node, on: false });
    }

    /// Switches parked nodes on again, in order, while their loop stays eased.
    fn unpark(&mut self, now: Instant, coolant: usize, out: &mut impl FnMut(Effect)) {
        while let Some(&node) = self.parked[coolant].first() {
            let idle = self.ledger.nodes()[node as usize].idle_watts;
            let predicted = self.cooling[coolant].predicted(idle);
            if predicted > cooling::EASE {
                return;
            }
            self.parked[coolant].remove(&node);
            self.ledger.set_state(node, State::Open);
            self.cooling[coolant].book(idle);
            let cause = Obstacle {
                reason: Reason::PressureEased,
                node,
                found: predicted,
                bound: cooling::EASE,
            };
            decided(now, Action::Unpark, Decision::NO_WORK, cause, out);
            out(Effect::Power { node, on: true });
            self.retry(now, true, out);
        }
    }

    /// Hands the loop's budget to its nodes, best-effort work first to give way.
    //= requirements H3
    fn hand_out(&mut self, now: Instant, coolant: usize, out: &mut impl FnMut(Effect)) {
        let cooling = &self.cooling[coolant];
        let (budget, load) = (cooling.budget(), cooling.load());
        let (mut best_effort, mut sensitive) = (0.0, 0.0);
        let mut at_ease = budget == 1.0;
        for &node in cooling.nodes() {
            let node = &self.loads[node as usize];
            at_ease &= node.share == 1.0;
            if node.latency_sensitive > 0 {
                sensitive += node.watts;
            } else {
                best_effort += node.watts;
            }
        }
        if at_ease {
            return;
        }
        let (first, last) = cooling::split(budget, best_effort, sensitive, self.config.budget_min);
        for i in 0..cooling.nodes().len() {
            let node = self.cooling[coolant].nodes()[i];
            let entry = &mut self.loads[node as usize];
            let share = match entry {
                _ if self.ledger.claims(node) == 0 => 1.0,
                Load {
                    latency_sensitive: 0,
                    ..
                } => first,
                _ => last,
            };
            let (was_free, free) = (entry.share == 1.0, share == 1.0);
            if was_free == free && (share - entry.share).abs() < SHARE_STEP_MIN {
                continue;
            }
            entry.share = share;
            if was_free != free {
                let (action, reason) = if free {
                    (Action::Release, Reason::PressureEased)
                } else {
                    (Action::Throttle, Reason::Backpressure)
                };
                let cause = Obstacle {
                    reason,
                    node,
                    found: load,
                    bound: self.config.setpoint,
                };
                decided(now, action, Decision::NO_WORK, cause, out);
            }
            out(Effect::Budget { node, share });
        }
    }
}

impl Obstacle {
    const fn is_heat(&self) -> bool {
        matches!(
            self.reason,
            Reason::NoHeadroomOutward | Reason::Backpressure | Reason::NotItsTurn
        )
    }
}

impl From<Choice> for Obstacle {
    fn from(choice: Choice) -> Self {
        Self {
            reason: Reason::BestScore,
            node: choice.node,
            found: choice.score,
            bound: choice.runner_up,
        }
    }
}

//= requirements S7
fn decided(now: Instant, action: Action, work: u64, cause: Obstacle, out: &mut impl FnMut(Effect)) {
    out(Effect::Decided(
        Decision {
            at: now,
            action,
            reason: cause.reason,
            subject: Tile(cause.node.into()),
            work,
            found: cause.found,
            bound: cause.bound,
        },
        None,
    ));
}

impl Machine for SiteScheduler {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Instant, input: Input, out: &mut impl FnMut(Effect)) {
        match input {
            Input::Arrived(job) => self.arrived(now, job, out),
            Input::Finished { job } => {
                if self.end(job).is_some() {
                    self.retry(now, true, out);
                }
            }
            Input::Metered {
                coolant,
                heat_watts,
                capacity_watts,
            } => {
                let coolant = usize::from(coolant);
                if self.config.heat_aware && coolant < self.cooling.len() {
                    self.cooling[coolant].metered(now, heat_watts, capacity_watts);
                    self.metered(now, coolant, out);
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

    /// A meter has been silent for too long.
    fn wake(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        if !self.config.heat_aware {
            return;
        }
        for coolant in 0..self.cooling.len() {
            if self.cooling[coolant]
                .deadline()
                .is_some_and(|due| due <= now)
            {
                self.cooling[coolant].wake(now);
                self.hand_out(now, coolant, out);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let meters = self.cooling.iter().filter_map(Cooling::deadline);
        meters.min().filter(|_| self.config.heat_aware)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Models;
    use machine::{Purpose, Stream};

    fn node(coolant: u16) -> Node {
        Node {
            cpu_milli: 32_000,
            memory_mib: 131_072,
            gpus: 4,
            model: 0,
            coolant,
            rack: coolant.into(),
            row: 0,
            idle_watts: 200.0,
            gpu_watts: 200.0,
            cpu_watts: 0.0,
        }
    }

    fn config(nodes: Vec<Node>, loop_watts: Vec<f64>) -> Config {
        Config {
            nodes,
            loop_watts,
            heat_aware: true,
            heat_weight: 0.25,
            setpoint: 0.9,
            period: Nanos::MINUTE,
            budget_min: 0.001,
            queue_max: 100,
            overtake_max: 2,
            patience: Nanos::HOUR,
            tenants: vec![Tenant::default()],
            limit: None,
            overrun: Overrun::Ended,
            preempt_max: 3,
        }
    }

    fn job(id: u64, gpus: u8, quality: Quality) -> Job {
        let demand = Demand {
            cpu_milli: 1_000,
            memory_mib: 1_024,
            gpus,
            gpu_milli: 1_000,
            models: Models::ANY,
        };
        Job::single(id, quality, demand)
    }

    fn at(minutes: u64) -> Instant {
        Instant::EPOCH + Nanos::MINUTE * minutes
    }

    /// A site, its time, and what it asked for: reads like a script.
    struct Site {
        scheduler: SiteScheduler,
        now: Instant,
    }

    impl Site {
        fn new(config: Config) -> Self {
            Self {
                scheduler: SiteScheduler::new(config, Instant::EPOCH),
                now: Instant::EPOCH,
            }
        }

        fn after(&mut self, input: Input) -> Vec<Effect> {
            let mut effects = vec![];
            self.scheduler
                .handle(self.now, input, &mut |e| effects.push(e));
            effects
        }

        /// What was decided, for which job or none, at which node.
        fn decided(&mut self, input: Input) -> Vec<(Action, Reason, u64, u64)> {
            let effects = self.after(input).into_iter();
            let decisions = effects.filter_map(|e| match e {
                Effect::Decided(d, _) => Some((d.action, d.reason, d.work, d.subject.0)),
                _ => None,
            });
            decisions.collect()
        }

        fn arrive(&mut self, id: u64, gpus: u8, quality: Quality) -> (Action, Reason, u64) {
            let decided = self.decided(Input::Arrived(job(id, gpus, quality)));
            assert_eq!((decided.len(), decided[0].2), (1, id));
            (decided[0].0, decided[0].1, decided[0].3)
        }
    }

    fn metered(coolant: u16, heat_watts: f64, capacity_watts: f64) -> Input {
        Input::Metered {
            coolant,
            heat_watts,
            capacity_watts,
        }
    }

    use Action::{Migrate, Park, Place, Queue, Refuse, Release, Throttle, Unpark};
    use Quality::{BestEffort, LatencySensitive};
    use Reason::{
        Backpressure, BestScore, HostLost, Impossible, NearLimit, NoCapacity, NoHeadroomOutward,
        NotItsTurn, PressureEased,
    };

    #[test]
    fn blind_to_heat_nodes_fill_up_and_aware_of_it_loops_share() {
        let nodes = || vec![node(0), node(0), node(1)];
        let mut blind = Site::new(Config {
            heat_aware: false,
            ..config(nodes(), vec![1_000.0, 1_000.0])
        });
        let placed = (0..4).map(|id| blind.arrive(id, 1, BestEffort));
        assert!(placed.eq([(Place, BestScore, 0); 4]));

        let mut aware = Site::new(Config {
            heat_weight: 1.0,
            ..config(nodes(), vec![1_500.0, 1_500.0])
        });
        let placed: Vec<u64> = (0..4).map(|id| aware.arrive(id, 1, BestEffort).2).collect();
        assert_eq!(placed, [2, 2, 2, 0], "loop 1 idles cooler than loop 0");
    }

    //= requirements H2
    #[test]
    fn nothing_is_placed_on_a_loop_that_would_pass_its_setpoint() {
        // Idle 200 W of 500 W; one GPU more is 0.8, two would be 1.2.
        let mut site = Site::new(config(vec![node(0)], vec![500.0]));
        assert_eq!(site.arrive(1, 1, BestEffort), (Place, BestScore, 0));
        assert_eq!(site.arrive(2, 1, BestEffort), (Queue, NoHeadroomOutward, 0));
        // The loop gets stronger: who waited for heat starts with the next reading.
        assert_eq!(
            site.decided(metered(0, 400.0, 1_000.0)),
            [(Place, BestScore, 2, 0)]
        );
    }

    #[test]
    fn what_no_node_could_ever_hold_is_refused_and_a_full_queue_refuses_too() {
        let mut site = Site::new(Config {
            queue_max: 1,
            ..config(vec![node(0)], vec![1e6])
        });
        assert_eq!(site.arrive(1, 5, BestEffort), (Refuse, Impossible, 0));
        assert_eq!(site.arrive(2, 4, BestEffort), (Place, BestScore, 0));
        assert_eq!(site.arrive(3, 1, BestEffort), (Queue, NoCapacity, 0));
        assert_eq!(site.arrive(4, 1, BestEffort), (Refuse, NoCapacity, 0));
        assert_eq!(
            site.decided(Input::Finished { job: 2 }),
            [(Place, BestScore, 3, 0)]
        );
    }

    #[test]
    fn small_jobs_overtake_a_large_one_until_it_has_waited_long_enough() {
        let mut site = Site::new(config(vec![node(0)], vec![1e6]));
        site.arrive(1, 2, BestEffort);
        assert_eq!(site.arrive(2, 4, BestEffort), (Queue, NoCapacity, 0));
        assert_eq!(site.arrive(3, 1, BestEffort), (Place, BestScore, 0));
        site.now = at(61);
        assert_eq!(site.arrive(4, 1, BestEffort), (Queue, NotItsTurn, 0));
        assert_eq!(site.decided(Input::Finished { job: 3 }), []);
        assert_eq!(
            site.decided(Input::Finished { job: 1 }),
            [(Place, BestScore, 2, 0)]
        );
        assert_eq!(
            site.decided(Input::Finished { job: 2 }),
            [(Place, BestScore, 4, 0)]
        );
    }

    #[test]
    fn nobody_overtakes_more_than_the_bound() {
        let mut site = Site::new(config(vec![node(0)], vec![1e6]));
        site.arrive(1, 3, BestEffort);
        for id in 2..5 {
            assert_eq!(site.arrive(id, 4, BestEffort), (Queue, NoCapacity, 0));
        }
        assert_eq!(site.arrive(5, 1, BestEffort), (Queue, NotItsTurn, 0));
    }

    //= requirements H3
    //= requirements S3
    #[test]
    fn an_overloaded_loop_parks_idle_nodes_moves_best_effort_jobs_and_keeps_the_others() {
        let nodes = vec![node(0), node(0), node(0), node(1)];
        let mut site = Site::new(Config {
            heat_weight: 0.0,
            ..config(nodes, vec![4_000.0, 4_000.0])
        });
        assert_eq!(site.arrive(1, 4, BestEffort).2, 0);
        assert_eq!(site.arrive(2, 4, LatencySensitive).2, 1);
        // 600 W idle and 1,600 W of jobs meet half of what they need.
        let decided = site.decided(metered(0, 2_200.0, 1_100.0));
        assert_eq!(
            decided,
            [
                (Park, Backpressure, Decision::NO_WORK, 2),
                (Migrate, Backpressure, 1, 3),
                (Park, Backpressure, Decision::NO_WORK, 0),
                (Throttle, Backpressure, Decision::NO_WORK, 1),
            ]
        );
        // Some readings later the loop is sound again and everything is on.
        let mut eased = vec![];
        for minute in 1..200 {
            site.now = at(minute);
            eased.extend(site.decided(metered(0, 1_000.0, 4_000.0)));
        }
        assert_eq!(
            eased,
            [
                (Unpark, PressureEased, Decision::NO_WORK, 0),
                (Unpark, PressureEased, Decision::NO_WORK, 2),
                (Release, PressureEased, Decision::NO_WORK, 1),
            ]
        );
        assert_eq!(site.scheduler.running(), 2);
    }

    //= requirements H3
    #[test]
    fn the_budget_falls_on_best_effort_nodes_before_the_others() {
        let mut site = Site::new(Config {
            heat_weight: 0.0,
            ..config(vec![node(0), node(0)], vec![2_600.0])
        });
        site.arrive(1, 4, BestEffort);
        site.arrive(2, 4, LatencySensitive);
        let mut budgets = [1.0, 1.0];
        for minute in 1..400 {
            site.now = at(minute);
            let heat = 400.0 + 800.0 * (budgets[0] + budgets[1]);
            for effect in site.after(metered(0, heat, 2_000.0)) {
                if let Effect::Budget { node, share } = effect {
                    budgets[node as usize] = share;
                }
            }
        }
        // 1,800 W are left for a load of 0.9: 800 for the sensitive, 600 for the other.
        assert_eq!(budgets[1], 1.0);
        assert!((budgets[0] - 0.75).abs() < 0.01, "{budgets:?}");
    }

    //= requirements S3
    #[test]
    fn near_its_limit_on_an_overloaded_loop_a_node_is_left_by_those_who_can_start_elsewhere() {
        let mut site = Site::new(Config {
            heat_weight: 0.0,
            ..config(vec![node(0), node(1)], vec![2_000.0, 1_000.0])
        });
        let near = Input::NearLimit {
            node: 0,
            kelvin: 361.0,
            bound: 356.0,
        };
        assert_eq!(site.arrive(1, 2, LatencySensitive).2, 0);
        assert_eq!(site.arrive(2, 2, LatencySensitive).2, 0);
        assert_eq!(site.after(near), [], "its loop is fine");
        site.after(metered(0, 1_000.0, 500.0));
        // The other loop has room for the heat of one.
        assert_eq!(site.decided(near), [(Migrate, NearLimit, 2, 1)]);
        assert_eq!(
            site.scheduler.running(),
            2,
            "the other stays and does not wait"
        );
        site.decided(Input::Finished { job: 2 });
        assert_eq!(
            site.decided(near),
            [
                (Migrate, NearLimit, 1, 1),
                (Park, Backpressure, Decision::NO_WORK, 0)
            ]
        );
    }

    #[test]
    fn jobs_of_a_lost_node_start_again_elsewhere_wait_or_are_lost() {
        let big = Node { gpus: 8, ..node(0) };
        let mut site = Site::new(config(vec![big, node(0)], vec![1e6]));
        site.arrive(1, 8, LatencySensitive);
        site.arrive(2, 1, BestEffort);
        assert_eq!(site.arrive(3, 8, BestEffort), (Queue, NoCapacity, 1));
        assert_eq!(site.arrive(4, 4, BestEffort), (Queue, NoCapacity, 1));
        let effects = site.after(Input::NodeLost { node: 0 });
        assert!(effects.contains(&Effect::Stop {
            job: 1,
            reason: HostLost
        }));
        let lost = |e: &Effect| matches!(e, Effect::Decided(d, _) if d.action == Action::Lose);
        assert_eq!(
            effects.iter().filter(|e| lost(e)).count(),
            2,
            "jobs 1 and 3"
        );
        assert_eq!(site.after(Input::NodeLost { node: 0 }), []);
        assert_eq!(
            site.decided(Input::Finished { job: 2 }),
            [(Place, BestScore, 4, 1)]
        );
        let mut site = Site::new(config(vec![node(0), node(0)], vec![1e6]));
        let first = site.arrive(1, 4, LatencySensitive).2 as u32;
        assert_eq!(
            site.decided(Input::NodeLost { node: first }),
            [(Migrate, HostLost, 1, u64::from(1 - first))]
        );
    }

    #[test]
    fn meters_mean_nothing_to_a_scheduler_that_is_blind_to_heat() {
        let mut site = Site::new(Config {
            heat_aware: false,
            ..config(vec![node(0)], vec![500.0])
        });
        site.arrive(1, 4, BestEffort);
        assert_eq!(site.after(metered(0, 1_000.0, 10.0)), []);
        assert_eq!(site.scheduler.deadline(), None);
    }

    /// Every claim is in exactly one place, whatever happens in whatever order.
    #[test]
    fn a_long_random_life_leaves_the_books_even() {
        let mut stream = Stream::new(1, Tile(0), Purpose::Work);
        let nodes = (0..40).map(|i| node(i % 4)).collect();
        let mut site = Site::new(config(nodes, vec![9_000.0; 4]));
        let mut alive: BTreeSet<u64> = BTreeSet::new();
        for step in 0..20_000 {
            site.now = Instant::EPOCH + Nanos::SECOND * step;
            let quality = [BestEffort, LatencySensitive][stream.below(2) as usize];
            let input = match stream.below(100) {
                0..45 => Input::Arrived(job(step, stream.below(5) as u8, quality)),
                45..89 => {
                    let running = site.scheduler.running.keys().copied();
                    let pick = stream.below(site.scheduler.running().max(1) as u64);
                    let Some(job) = running.into_iter().nth(pick as usize) else {
                        continue;
                    };
                    alive.remove(&job);
                    Input::Finished { job }
                }
                89..99 => {
                    let coolant = stream.below(4) as u16;
                    metered(coolant, 9_000.0 * stream.unit(), 9_000.0 * stream.unit())
                }
                _ => Input::NodeLost {
                    node: stream.below(4_000) as u32,
                },
            };
            if let Input::Arrived(job) = input {
                alive.insert(job.id);
            }
            for effect in site.after(input) {
                if let Effect::Decided(d, _) = effect
                    && matches!(d.action, Refuse | Action::Lose)
                {
                    alive.remove(&d.work);
                }
            }
            let scheduler = &site.scheduler;
            assert_eq!(
                scheduler.running() + scheduler.waiting(),
                alive.len(),
                "step {step}"
            );
        }
        let scheduler = &mut site.scheduler;
        let running: Vec<u64> = scheduler.running.keys().copied().collect();
        for id in running {
            scheduler.end(id);
        }
        assert!((0..40).all(|n| scheduler.ledger.claims(n) == 0));
        assert!(scheduler.loads.iter().all(|l| l.latency_sensitive == 0));
    }
}
