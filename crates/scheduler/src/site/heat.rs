//! What happens when a cooling loop is too warm?
//!
//! Per loop, see [`crate::cooling`]. Budgets fall on best-effort work first. A loop
//! that is overloaded nonetheless is unloaded: idle nodes are parked, which costs
//! nothing; then best-effort jobs leave, the youngest first, because a job that moves
//! *starts again from its beginning* and the youngest have the least to lose.
//! Latency-sensitive jobs stay, however slow, until one of their node's devices nears
//! its limit in spite of all that, or the node is lost. They move only to where they
//! can start at once. A gang moves whole or not at all.
//!
//! The order, with what each step is worth: docs/decisions/2026-11-21-a-failed-loop-is-emptied-in-an-order.md.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use telemetry::{Action, Decision, Reason};
use wire::Instant;

use crate::cooling;
use crate::ledger::State;

use super::job::Quality;
use super::{Effect, Load, Obstacle, SiteScheduler, decided};

/// Budgets are not touched for less: see the same constant of [`crate::Guard`].
const SHARE_STEP_MIN: f64 = 0.005;

impl SiteScheduler {
    pub(super) fn metered(&mut self, now: Instant, coolant: usize, out: &mut impl FnMut(Effect)) {
        let load = self.cooling[coolant].load();
        if load > cooling::OVERLOAD {
            self.unload(now, coolant, load, out);
        } else {
            self.unpark(now, coolant, out);
        }
        self.hand_out(now, coolant, out);
        if self.cooling[coolant].predicted(0.0) <= self.config.setpoint {
            self.sweep(now, out);
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
        let here = self.running.values().filter(|r| {
            let mut nodes = r.tasks.iter().map(|t| self.coolant_of(t.node));
            r.job.quality == Quality::BestEffort && nodes.any(|c| c == coolant)
        });
        let mut leaving: Vec<(Instant, u64)> = here.map(|r| (r.started, r.job.id)).collect();
        leaving.sort_unstable_by(|a, b| b.cmp(a));
        for (_, id) in leaving {
            if self.eased(coolant) {
                return;
            }
            let left: BTreeSet<u32> = self.running[&id].tasks.iter().map(|t| t.node).collect();
            self.evict(
                now,
                id,
                (Reason::Backpressure, load, cooling::OVERLOAD),
                out,
            );
            for node in left {
                if self.coolant_of(node) == coolant {
                    self.park(now, node, load, out);
                }
            }
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
        let job = self.running[&id].job;
        let cause = |node| Obstacle {
            reason,
            node,
            found,
            bound,
        };
        // This loop is far above the setpoint, so what is chosen lies elsewhere.
        self.weigh(&job.demand);
        match self.view(None).choose(&job) {
            Ok((places, evidence)) => {
                let to = places[0].0;
                let evidence = Box::new(evidence);
                decided(now, Action::Migrate, id, cause(to), Some(&evidence), out);
                let was = self.end(id).expect("it runs");
                out(Effect::Stop { job: id, reason });
                self.start(now, was.as_waiting(), &places, evidence, out);
            }
            Err(_)
                if job.quality == Quality::BestEffort
                    && self.queue.len() < self.config.queue_max =>
            {
                let from = self.running[&id].tasks[0].node;
                decided(now, Action::Queue, id, cause(from), None, out);
                let was = self.end(id).expect("it runs");
                out(Effect::Stop { job: id, reason });
                self.enqueue(was.as_waiting());
            }
            Err(_) => {}
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

    fn eased(&self, coolant: usize) -> bool {
        self.cooling[coolant].excess_watts(cooling::EASE) <= 0.0
    }

    /// Switches a node off if nothing runs on it.
    fn park(&mut self, now: Instant, node: u32, load: f64, out: &mut impl FnMut(Effect)) {
        if self.ledger.claims(node) > 0 || self.ledger.state(node) != State::Open {
            return;
        }
        let coolant = self.coolant_of(node);
        self.on_node(node, |books| books.set_state(node, State::Parked));
        self.parked[coolant].insert(node);
        self.cooling[coolant].book(-self.ledger.nodes()[node as usize].idle_watts);
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
            self.cooling[coolant].book(idle);
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
                decided(now, action, Decision::NO_WORK, cause, None, out);
            }
            out(Effect::Budget { node, share });
        }
    }
}
