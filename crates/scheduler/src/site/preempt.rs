//! Who makes room for whom?
//!
//! Only best-effort jobs are preempted, only for the head of the queue, and only
//!
//! * by their own tenant's work of higher priority;
//! * by another tenant's work of higher priority, if they hold what is lent to theirs;
//! * by work that is due by its tenant's quota, whatever the priorities, if they hold
//!   what is lent to theirs.
//!
//! So no priority reaches into another's guarantee. Victims are the youngest, who
//! have the least to lose, and only those whose going is needed; they wait again from
//! their old place. The head starts in the same step, so nobody else takes the room, and
//! a job that was preempted [`Config::preempt_max`](super::Config::preempt_max) times is
//! left alone: each job is stopped a bounded number of times, and there is no livelock.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use telemetry::{Action, Reason};
use wire::Instant;

use super::choose::View;
use super::evidence::Evidence;
use super::job::{Job, Quality};
use super::quota::Accounts;
use super::reserve::Outlook;
use super::{Effect, Obstacle, Running, SiteScheduler, decided, won};

impl SiteScheduler {
    /// Why a running job has to make room for another, if it has to.
    fn yields(accounts: &Accounts, running: &Running, job: &Job, is_due: bool) -> Option<Reason> {
        let victim = &running.job;
        let outranked = victim.priority < job.priority;
        if victim.quality == Quality::LatencySensitive {
            None
        } else if victim.tenant == job.tenant {
            outranked.then_some(Reason::Priority)
        } else if !accounts.borrows(victim) {
            None
        } else if is_due {
            Some(Reason::Lent)
        } else {
            outranked.then_some(Reason::Priority)
        }
    }

    /// Starts the head at the cost of others; false if that is not possible.
    //= requirements S3
    pub(super) fn preempt(
        &mut self,
        now: Instant,
        head: u64,
        out: &mut impl FnMut(Effect),
    ) -> bool {
        let job = self.queue.get(head).expect("the head waits").job;
        let is_due = self.accounts.is_due(&job);
        if self.queue.is_possible(&job) || (!is_due && job.priority == 0) {
            // Heat stands in its way, or nobody could stand below it.
            return false;
        }
        // The youngest go until it fits.
        let mut outlook = Outlook::new(&self.topology, &self.ledger, &job);
        let mut accounts = self.accounts.clone();
        let mut victims: Vec<(u64, Reason)> = Vec::new();
        for &(_, id) in self.youngest.iter().rev() {
            let running = &self.running[&id];
            if running.preempted >= self.config.preempt_max {
                continue;
            }
            let Some(reason) = Self::yields(&accounts, running, &job, is_due) else {
                continue;
            };
            outlook.release(&running.tasks);
            accounts.unbook(&running.job);
            victims.push((id, reason));
            if outlook.fits() {
                break;
            }
        }
        if victims.is_empty() || !outlook.fits() {
            return false;
        }
        let mut relief = vec![0.0; self.cooling.len()];
        for (id, _) in &victims {
            self.relieve(*id, &mut relief, 1.0);
        }
        let view = View {
            cooling: self.config.heat_aware.then_some(&self.cooling),
            ..outlook.view(&self.config, &relief)
        };
        let Ok((places, mut evidence)) = view.choose(&job) else {
            return false;
        };
        // Whoever is not in the way after all is spared, the oldest first.
        for &(node, tasks) in &places {
            outlook.place(node, tasks);
        }
        let mut going: BTreeSet<u64> = victims.iter().map(|&(id, _)| id).collect();
        for &(id, _) in victims.iter().rev() {
            let tasks = &self.running[&id].tasks;
            if tasks.iter().enumerate().all(|(i, task)| {
                // Tasks on one node have to find room together.
                let mut room = *outlook.books.room(task.node);
                let before = tasks[..i].iter().filter(|t| t.node == task.node);
                before.for_each(|t| {
                    if room.has(&t.claim) {
                        room.hold(&t.claim);
                    }
                });
                room.has(&task.claim)
            }) {
                outlook.hold(tasks);
                going.remove(&id);
                self.relieve(id, &mut relief, -1.0);
            }
        }
        if self.is_too_hot_for(&job, &places, &relief) {
            return false;
        }
        victims.retain(|(id, _)| going.contains(id));
        for &(id, reason) in &victims {
            let mut was = self.end(id).expect("it runs");
            was.preempted += 1;
            let (found, bound) = match reason {
                Reason::Priority => (was.job.priority.into(), job.priority.into()),
                // What its tenant still has, and what is its own.
                _ => {
                    let whole = self.accounts.whole();
                    let terms = self.accounts.terms(was.job.tenant);
                    let used = self.accounts.used(was.job.tenant);
                    let used = used.plus(&was.job.total());
                    let quota = terms.quota.dominant_share(whole);
                    (used.dominant_share(whole), quota)
                }
            };
            let cause = Obstacle {
                reason,
                node: was.tasks[0].node,
                found,
                bound,
            };
            let because = Evidence {
                because_of: vec![head],
                ..Evidence::default()
            };
            decided(now, Action::Preempt, id, cause, Some(&because), out);
            out(Effect::Stop { job: id, reason });
            self.enqueue(was.as_waiting());
        }
        evidence.because_of = victims.iter().map(|&(id, _)| id).collect();
        let waiting = self.queue.remove(head).expect("the head waits");
        let evidence = Box::new(evidence);
        decided(
            now,
            Action::Place,
            head,
            won(&evidence),
            Some(&evidence),
            out,
        );
        self.start(now, waiting, &places, evidence, out);
        true
    }

    /// Adds the heat that loops lose when a job goes.
    fn relieve(&self, id: u64, relief: &mut [f64], sign: f64) {
        let running = &self.running[&id];
        for task in &running.tasks {
            let node = &self.ledger.nodes()[task.node as usize];
            relief[usize::from(node.coolant)] += sign * running.job.demand.watts_on(node);
        }
    }

    fn is_too_hot_for(&self, job: &Job, places: &[(u32, u16)], relief: &[f64]) -> bool {
        let mut more: Vec<f64> = relief.iter().map(|watts| -watts).collect();
        for &(node, tasks) in places {
            let node = &self.ledger.nodes()[node as usize];
            more[usize::from(node.coolant)] += f64::from(tasks) * job.demand.watts_on(node);
        }
        let mut loops = self.cooling.iter().zip(more);
        self.config.heat_aware
            && loops.any(|(c, more)| more > 0.0 && c.predicted(more) > self.config.setpoint)
    }
}
