//! Who makes room for whom?
//!
//! Only best-effort jobs are preempted, only for the head of the queue or, where that
//! cannot be helped, for the first of another tenant that is due by its quota, and only
//!
//! * by their own tenant's work of higher priority;
//! * by another tenant's work of higher priority, if they hold what is lent to theirs;
//! * by work that is due by its tenant's quota, whatever the priorities, if they hold
//!   what is lent to theirs.
//!
//! So no priority reaches into another's guarantee. Victims are the youngest, who
//! have the least to lose, and only those whose going is needed; they wait again from
//! their old place. Who they go for starts in the same step, so nobody else takes the
//! room; if it is not the head it leaves alone what is reserved for the head; and
//! a job that was preempted [`Config::preempt_max`](super::Config::preempt_max) times is
//! left alone: each job is stopped a bounded number of times, and there is no livelock.
//!
//! Nobody goes for heat: where there is room and only the loops are too warm, a job waits
//! for them, due or not.
//!
//! Where not even everybody's going would make room, that stays so until somebody ends who
//! would not have had to go, a node is switched on, or a tenant with a quota starts or
//! ends something, which changes what is lent. Until then it is not tried again.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use telemetry::{Action, Reason};
use wire::Instant;

use super::choose::View;
use super::evidence::Evidence;
use super::job::{Job, Quality};
use super::queue::Waiting;
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

    /// Whether others may be stopped for a job: for the head, and for the first of its
    /// tenant if it is due.
    pub(super) fn may_take_back(&self, now: Instant, job: &Job, head: u64) -> bool {
        let is_first = || {
            let first = self.first_of(job.tenant.into(), now);
            first.is_some_and(|first| first.job.id == job.id)
        };
        job.id == head || self.accounts.is_due(job) && is_first()
    }

    /// Starts whoever is due by quota and stands first of its tenant behind a head that
    /// cannot be helped, at the cost of those who hold what is lent to them.
    //= requirements S3
    pub(super) fn take_back(&mut self, now: Instant, head: u64, out: &mut impl FnMut(Effect)) {
        if !self.accounts.is_bounded() {
            return;
        }
        // Each that starts stops others a bounded number of times, so this ends.
        loop {
            let tenants = 0..self.config.tenants.len();
            let firsts = tenants.filter_map(|tenant| self.first_of(tenant, now));
            let due = firsts.filter(|w| w.job.id != head && self.accounts.is_due(&w.job));
            let mut due: Vec<_> = due.map(|w| (self.rank(w), w.job.id)).collect();
            due.sort_unstable();
            if !due.iter().any(|&(_, id)| self.preempt(now, id, head, out)) {
                break;
            }
        }
    }

    /// Starts a job, the head or one that is due behind it, at the cost of others;
    /// false if that is not possible.
    //= requirements S3
    pub(super) fn preempt(
        &mut self,
        now: Instant,
        id: u64,
        head: u64,
        out: &mut impl FnMut(Effect),
    ) -> bool {
        let job = self.queue.get(id).expect("it waits").job;
        let is_due = self.accounts.is_due(&job);
        if self.is_possible(&job) || (!is_due && job.priority == 0) {
            // Heat stands in its way, or nobody could stand below it.
            return false;
        }
        if self.vain.get(&id) == Some(&is_due) {
            return false;
        }
        if id != head {
            self.look_ahead(now, head);
            if let super::Outlook::Unknown { .. } = self.outlook
                && self.out_of_turn(now, &job, head).is_some()
            {
                return false;
            }
        }
        // The youngest go until it fits.
        let tally = self.queue.tally(&job, &self.topology, &self.ledger);
        let mut outlook = Outlook::new(&self.topology, &self.ledger, tally, &job);
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
            self.vain.insert(id, is_due);
            return false;
        }
        let mut relief = vec![0.0; self.cooling.len()];
        for (id, _) in &victims {
            self.relieve(*id, &mut relief, 1.0);
        }
        let mut reservation = self.reservation_for(now, &job, head).cloned();
        if let Some(kept) = &mut reservation {
            for running in victims.iter().map(|(id, _)| &self.running[id]) {
                kept.without(running.promised, &running.tasks);
            }
        }
        let view = View {
            cooling: self.config.heat_aware.then_some(&self.cooling),
            reservation: reservation.as_ref(),
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
        for &(victim, reason) in &victims {
            let was = self.end(victim).expect("it runs");
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
                because_of: vec![id],
                ..Evidence::default()
            };
            decided(now, Action::Preempt, victim, cause, Some(&because), out);
            let job = victim;
            out(Effect::Stop { job, reason });
            let was = was.as_waiting();
            self.enqueue(Waiting {
                preempted: was.preempted + 1,
                ..was
            });
        }
        evidence.because_of = victims.iter().map(|&(id, _)| id).collect();
        let waiting = self.queue.remove(id).expect("it waits");
        let evidence = Box::new(evidence);
        decided(now, Action::Place, id, won(&evidence), Some(&evidence), out);
        self.start(now, waiting, &places, evidence, out);
        true
    }

    /// Somebody ended: for whom would trying again be of use?
    pub(super) fn try_again_after(&mut self, gone: &Running) {
        if self.vain.is_empty() {
            return;
        }
        if self.accounts.is_guaranteed(gone.job.tenant) || gone.preempted >= self.config.preempt_max
        {
            self.vain.clear();
            return;
        }
        let (accounts, queue) = (&self.accounts, &self.queue);
        self.vain.retain(|&head, &mut is_due| {
            let head = queue.get(head);
            head.is_some_and(|head| Self::yields(accounts, gone, &head.job, is_due).is_some())
        });
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
