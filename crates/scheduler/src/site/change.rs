//! What if the rules change while jobs run?
//!
//! An operator gives a tenant more, turns the look at heat on or off, or changes a
//! weight. What runs goes on where it runs, under the promises it was placed with;
//! the new rules hold from the next start on. Who can never start under them is told
//! so at once, and who can start now does.
//!
//! Deliberately absent: other nodes, loops or tenants. Those are other sites.

use alloc::vec;
use alloc::vec::Vec;

use telemetry::{Action, Decision, Reason};
use wire::Instant;

use crate::cooling::Cooling;
use crate::ledger::State;

use super::heat::Slowness;
use super::{Config, Effect, Job, Obstacle, Outlook, SiteScheduler, decided, ranking};

impl SiteScheduler {
    /// What it was told, with later changes.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Goes on under other rules.
    ///
    /// A site that is no longer looked at for heat gives every node its full clock and
    /// its power back; one that is looked at again, or against another setpoint, begins
    /// with nothing measured.
    ///
    /// # Panics
    /// If nodes, loops, their number of tenants, or the period of meters differ, or a
    /// weight is not above 0.
    pub fn reconfigure(&mut self, now: Instant, config: Config, out: &mut impl FnMut(Effect)) {
        let old = &self.config;
        let same = old.nodes == config.nodes && old.loop_watts == config.loop_watts;
        let same = same && old.tenants.len() == config.tenants.len() && old.period == config.period;
        assert!(same, "other nodes, loops or tenants are another site");
        assert!(
            config.tenants.iter().all(|t| t.weight > 0.0),
            "every tenant has a weight above 0"
        );
        let was_aware = old.heat_aware;
        let other_policy = old.policy != config.policy;
        let other_setpoint = old.setpoint.to_bits() != config.setpoint.to_bits();
        self.config = config;
        self.accounts.set_terms(&self.config.tenants);
        if other_policy {
            self.ranking = ranking(self.config.policy, &self.ledger);
            // Of what came before it, what is still here is known.
            let waiting = self.queue.jobs().map(|w| w.job);
            let here: Vec<Job> = (self.running.values().map(|r| r.job).chain(waiting)).collect();
            here.iter().for_each(|job| self.learn(job));
        }
        self.outlook = Outlook::Stale;
        self.vain.clear();
        if was_aware && !self.config.heat_aware {
            self.forget_heat(now, out);
        } else if self.config.heat_aware && (!was_aware || other_setpoint) {
            self.measure_anew(now);
        }
        self.give_up_hopeless(now, out);
        self.sweep(now, out);
    }

    /// Every node has its power and its clock back.
    fn forget_heat(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        let note = |action, node, out: &mut _| {
            let eased = Obstacle {
                reason: Reason::PressureEased,
                node,
                found: 0.0,
                bound: 0.0,
            };
            decided(now, action, Decision::NO_WORK, eased, None, out);
        };
        for coolant in 0..self.parked.len() {
            while let Some(node) = self.parked[coolant].pop_first() {
                self.on_node(node, |books| books.set_state(node, State::Open));
                let idle = self.ledger.nodes()[node as usize].idle_watts;
                self.cooling[coolant].book_idle(idle);
                note(Action::Unpark, node, out);
                out(Effect::Power { node, on: true });
            }
        }
        for node in 0..self.loads.len() as u32 {
            if core::mem::replace(&mut self.loads[node as usize].share, 1.0) < 1.0 {
                note(Action::Release, node, out);
                out(Effect::Budget { node, share: 1.0 });
            }
        }
    }

    /// Loops as they would be if the scheduler began now, with what is on their books.
    fn measure_anew(&mut self, now: Instant) {
        let mut watts = vec![(0.0, 0.0); self.cooling.len()];
        for (node, load) in (0_u32..).zip(&self.loads) {
            if self.ledger.state(node) == State::Open {
                let (idle, jobs) = &mut watts[self.coolant_of(node)];
                *idle += self.ledger.nodes()[node as usize].idle_watts;
                *jobs += load.watts;
            }
        }
        self.slowness.fill(Slowness::none(now));
        for ((cooling, watts), &capacity) in
            (self.cooling.iter_mut().zip(watts)).zip(&self.config.loop_watts)
        {
            let nodes = cooling.nodes().to_vec();
            let bounds = (self.config.setpoint, self.config.budget_min);
            *cooling = Cooling::new(capacity, watts, nodes, bounds, self.config.period, now);
        }
    }
}
