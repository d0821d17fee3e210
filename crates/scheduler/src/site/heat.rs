//! What happens when a cooling loop is too warm?
//!
//! Per loop, see [`crate::cooling`], in order of what it costs. Its nodes slow down
//! at once, those without latency-sensitive jobs first. Idle nodes are parked while
//! the loop could not carry its jobs at full clock. Best-effort jobs leave only
//!
//! * if the loop cannot carry them at the lowest clock either: until it can;
//! * if slowness has cost more than leaving does: a job that has lost, by being slowed, the
//!   work it would lose by a restart moves to where it runs at full clock at once. Whoever
//!   follows this rule loses at most twice what somebody would who knew how long the loop stays
//!   warm (Karlin, Manasse, Rudolph and Sleator, *Competitive snoopy caching*, 1988).
//!
//! What leaving costs is the work since a job's last checkpoint, since its start if it writes
//! none; those whom it costs least go first. Latency-sensitive jobs stay, however slow, until
//! one of their node's devices nears its limit in spite of all that, or the node is lost. They
//! move only to where they can start at once. A gang moves whole or not at all.
//!
//! The order, with what each step is worth: docs/decisions/2026-11-21-a-failed-loop-is-emptied-in-an-order.md.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use telemetry::{Action, Decision, Reason};
use wire::{Instant, Nanos};

use crate::cooling::{self, Cooling};
use crate::ledger::State;

use super::choose::too_hot;
use super::job::Quality;
use super::{Effect, Load, Obstacle, SiteScheduler, decided};

/// Budgets are not touched for less: see the same constant of [`crate::Guard`].
const SHARE_STEP_MIN: f64 = 0.005;

/// What the best-effort jobs of a loop lose by being slowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slowness {
    /// Work that each of them lost until `counted`, in seconds at full clock.
    lost: f64,
    counted: Instant,
    /// The speed they go at since then, as a share of full.
    speed: f64,
}

impl Slowness {
    pub(super) const fn none(now: Instant) -> Self {
        Self {
            lost: 0.0,
            counted: now,
            speed: 1.0,
        }
    }

    /// From now on they go at this speed. At full speed what was is forgotten.
    fn goes_at(&mut self, now: Instant, speed: f64) {
        if speed >= 1.0 {
            *self = Self::none(now);
            return;
        }
        self.lost += (1.0 - self.speed) * now.since(self.counted).as_secs_f64();
        (self.counted, self.speed) = (now, speed);
    }
}

impl SiteScheduler {
    /// What follows from a reading of a loop, but for who starts because of it; true if somebody might.
    pub(super) fn metered(
        &mut self,
        now: Instant,
        coolant: usize,
        out: &mut impl FnMut(Effect),
    ) -> bool {
        let predicted = self.cooling[coolant].predicted(0.0);
        if predicted > cooling::OVERLOAD {
            self.unload(now, coolant, predicted, out);
        } else {
            self.unpark(now, coolant, out);
        }
        self.hand_out(now, coolant, out);
        self.spare_the_slowed(now, coolant, out);
        self.cooling[coolant].predicted(0.0) <= self.config.setpoint
    }

    /// Parks idle nodes; best-effort jobs leave while the loop cannot carry what is left
    /// at its slowest.
    //= requirements S3
    fn unload(&mut self, now: Instant, coolant: usize, load: f64, out: &mut impl FnMut(Effect)) {
        let nodes: Vec<u32> = self.cooling[coolant].nodes().to_vec();
        for &node in &nodes {
            if self.cooling[coolant].predicted(0.0) <= self.config.setpoint {
                return;
            }
            self.park(now, node, load, out);
        }
        let least = self.cooling[coolant].least();
        if least <= cooling::OVERLOAD {
            return;
        }
        for (_, id) in self.by_cost_of_leaving(now, coolant) {
            if self.cooling[coolant].least() <= self.config.setpoint {
                return;
            }
            let left: BTreeSet<u32> = self.running[&id].tasks.iter().map(|t| t.node).collect();
            self.evict(
                now,
                id,
                (Reason::Backpressure, least, cooling::OVERLOAD),
                out,
            );
            for node in left {
                if self.coolant_of(node) == coolant {
                    self.park(now, node, load, out);
                }
            }
        }
    }

    /// The best-effort jobs of a loop, and the work in seconds that each loses if it is
    /// stopped now; those that lose least first.
    fn by_cost_of_leaving(&self, now: Instant, coolant: usize) -> Vec<(f64, u64)> {
        let slow = self.slowness[coolant].lost;
        let here = self.running.values().filter(|r| {
            let mut nodes = r.tasks.iter().map(|t| self.coolant_of(t.node));
            r.job.quality == Quality::BestEffort && nodes.any(|c| c == coolant)
        });
        let mut leaving: Vec<(f64, u64)> = here
            .map(|r| {
                let done = (now.since(r.started).as_secs_f64() - slow).max(0.0);
                let since = match r.job.checkpoint {
                    Some(every) if every > Nanos::ZERO => libm::fmod(done, every.as_secs_f64()),
                    _ => done,
                };
                (since, r.job.id)
            })
            .collect();
        // Of those that lose as much, the one that came last.
        leaving.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        leaving
    }

    /// Moves best-effort jobs that have lost more by being slowed than they lose by leaving, as
    /// long as there is somewhere to go.
    //= requirements S3
    fn spare_the_slowed(&mut self, now: Instant, coolant: usize, out: &mut impl FnMut(Effect)) {
        let Slowness { lost, speed, .. } = self.slowness[coolant];
        let open = |c: &Cooling| too_hot(c, c.predicted(0.0), self.config.setpoint).is_none();
        if speed >= 1.0 || !self.cooling.iter().any(open) {
            return;
        }
        let load = self.cooling[coolant].predicted(0.0);
        for (cost, id) in self.by_cost_of_leaving(now, coolant) {
            let cause = (Reason::Backpressure, load, self.config.setpoint);
            if cost >= lost
                || self.cooling[coolant].budget() >= 1.0
                || !self.migrate(now, id, cause, out)
            {
                return;
            }
        }
    }

    /// Moves a job off its loop, if it can start elsewhere at once; says whether.
    fn migrate(
        &mut self,
        now: Instant,
        id: u64,
        (reason, found, bound): (Reason, f64, f64),
        out: &mut impl FnMut(Effect),
    ) -> bool {
        // This loop is far above the setpoint, so what is chosen lies elsewhere.
        let job = self.running[&id].job;
        self.weigh(&job.demand);
        let Ok((places, evidence)) = self.view(None).choose(&job) else {
            return false;
        };
        let cause = Obstacle {
            reason,
            node: places[0].0,
            found,
            bound,
        };
        let evidence = Box::new(evidence);
        decided(now, Action::Migrate, id, cause, Some(&evidence), out);
        let was = self.end(id).expect("it runs");
        out(Effect::Stop { job: id, reason });
        self.start(now, was.as_waiting(), &places, evidence, out);
        true
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
        if self.migrate(now, id, (reason, found, bound), out) {
            return;
        }
        let running = &self.running[&id];
        if running.job.quality == Quality::BestEffort && self.queue.len() < self.config.queue_max {
            let cause = Obstacle {
                reason,
                node: running.tasks[0].node,
                found,
                bound,
            };
            decided(now, Action::Queue, id, cause, None, out);
            let was = self.end(id).expect("it runs");
            out(Effect::Stop { job: id, reason });
            self.enqueue(was.as_waiting());
        }
    }

    /// Slowing the node was not enough: everything leaves that can.
    pub(super) fn near_limit(
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
        let here = self.running.values().filter(|r| r.is_on(node));
        let mut leaving: Vec<(Instant, u64)> = here.map(|r| (r.started, r.job.id)).collect();
        leaving.sort_unstable_by(|a, b| b.cmp(a));
        for (_, id) in leaving {
            self.evict(now, id, (Reason::NearLimit, kelvin, bound), out);
        }
        self.park(now, node, load, out);
    }

    /// Switches a node off if nothing runs on it.
    fn park(&mut self, now: Instant, node: u32, load: f64, out: &mut impl FnMut(Effect)) {
        if self.ledger.claims(node) > 0 || self.ledger.state(node) != State::Open {
            return;
        }
        let coolant = self.coolant_of(node);
        self.on_node(node, |books| books.set_state(node, State::Parked));
        self.parked[coolant].insert(node);
        self.cooling[coolant].book_idle(-self.ledger.nodes()[node as usize].idle_watts);
        let cause = Obstacle {
            reason: Reason::Backpressure,
            node,
            found: load,
            bound: cooling::OVERLOAD,
        };
        decided(now, Action::Park, Decision::NO_WORK, cause, None, out);
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
            self.on_node(node, |books| books.set_state(node, State::Open));
            self.vain.clear();
            self.cooling[coolant].book_idle(idle);
            let cause = Obstacle {
                reason: Reason::PressureEased,
                node,
                found: predicted,
                bound: cooling::EASE,
            };
            decided(now, Action::Unpark, Decision::NO_WORK, cause, None, out);
            out(Effect::Power { node, on: true });
            self.sweep(now, out);
        }
    }

    /// Hands the loop's budget to its nodes, best-effort work first to give way.
    //= requirements H3
    pub(super) fn hand_out(&mut self, now: Instant, coolant: usize, out: &mut impl FnMut(Effect)) {
        let cooling = &self.cooling[coolant];
        let (budget, load) = (cooling.budget(), cooling.predicted(0.0));
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
            self.slowness[coolant].goes_at(now, 1.0);
            return;
        }
        let (first, last) = cooling::split(budget, best_effort, sensitive, self.config.budget_min);
        let mut is_slowed = false;
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
            // Who is at full budget is left there for less than a step above the setpoint, and who is
            // slowed stays so until all of it can be given back: between the two nothing is decided
            // anew with every reading.
            let step = (share - entry.share).abs();
            if step < SHARE_STEP_MIN && (share < 1.0 || step == 0.0) {
                is_slowed |= entry.share < 1.0;
                continue;
            }
            is_slowed |= share < 1.0;
            let (was_free, free) = (entry.share == 1.0, share == 1.0);
            entry.share = share;
            if was_free != free {
                let (action, reason) = match free {
                    true if self.ledger.claims(node) == 0 => (Action::Release, Reason::Idle),
                    true => (Action::Release, Reason::PressureEased),
                    false => (Action::Throttle, Reason::Backpressure),
                };
                let cause = Obstacle {
                    reason,
                    node,
                    found: load,
                    bound: self.config.setpoint,
                };
                decided(now, action, Decision::NO_WORK, cause, None, out);
            }
            out(Effect::Budget { node, share });
        }
        let speed = match is_slowed {
            true => libm::pow(first, 1.0 / self.config.clock_exponent),
            false => 1.0,
        };
        self.slowness[coolant].goes_at(now, speed);
    }
}
