//! Whose turn is it, and who may go ahead?
//!
//! Each tenant's jobs stand by priority, then arrival. Between tenants goes first what
//! is due by quota, then the higher priority, then the lower weighted dominant share
//! (see [`super::quota`]), then who came first. A job that its quota or ceiling holds back
//! stands aside and does not hold others up; but once it has waited for
//! [`Config::patience`](super::Config::patience) nobody of its tenant passes it.
//!
//! An event lets the first in this order start until one cannot. That one is the
//! *head*. Then each group that would find room is tried once, in the same order and to a
//! bounded depth, as far as the head's reservation allows ([`super::reserve`]). One pass is enough: a start
//! only takes, so what failed before it still fails, unless it
//! changed who stands first.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use telemetry::{Action, Reason};
use wire::Instant;

use crate::ledger::{Ledger, State};

use super::choose::{Nowhere, View, too_hot};
use super::evidence::{Evidence, Funnel, Test};
use super::job::Job;
use super::queue::{Front, Turn, Waiting};
use super::reserve::Reservation;
use super::{Effect, Obstacle, Outlook, Overrun, SiteScheduler, decided, won};

/// Groups that would find room and are tried behind a head, per pass: as deep as the
/// field's schedulers look (Slurm's `default_queue_depth`). It bounds what an event costs.
const DEPTH: usize = 100;

/// What the order goes by: the lowest first.
pub(super) type Rank = (bool, Reverse<u8>, u64, Turn);

/// What keeps a job from starting.
enum Hold {
    /// No domain has room for it.
    Room,
    /// Others come first.
    Turn(Obstacle),
    /// All the room there is, is reserved.
    Reserved,
    /// The nodes with room fell to something else.
    Nowhere(Nowhere),
}

/// Why a job does not start, and what was seen of the nodes if they were looked at.
pub(super) type Held = (Obstacle, Option<Box<Evidence>>);

impl SiteScheduler {
    pub(super) fn rank(&self, waiting: &Waiting) -> Rank {
        let job = &waiting.job;
        let turn = (waiting.arrived, job.id);
        // Shares are not negative, so their bits are in their order.
        let share = self.accounts.share(job.tenant).to_bits();
        (
            !self.accounts.is_due(job),
            Reverse(job.priority),
            share,
            turn,
        )
    }

    /// A tenant's first job that its quota admits.
    pub(super) fn first_of(&self, tenant: usize, now: Instant) -> Option<&Waiting> {
        for waiting in self.queue.fronts(tenant) {
            if self.accounts.admits(&waiting.job).is_ok() {
                return Some(waiting);
            }
            if now.since(waiting.arrived) > self.config.patience {
                return None;
            }
        }
        None
    }

    /// Who stands first.
    pub(super) fn head(&self, now: Instant) -> Option<u64> {
        let tenants = 0..self.config.tenants.len();
        let firsts = tenants.filter_map(|tenant| self.first_of(tenant, now));
        let head = firsts.min_by_key(|waiting| self.rank(waiting))?;
        Some(head.job.id)
    }

    /// The place behind which a tenant's jobs wait for one that its quota holds back.
    fn barrier(&self, tenant: usize, now: Instant) -> Option<Front> {
        if !self.accounts.is_bounded() {
            return None;
        }
        let mut fronts = self.queue.fronts(tenant);
        let impatient = fronts.find(|w| {
            now.since(w.arrived) > self.config.patience && self.accounts.admits(&w.job).is_err()
        })?;
        let job = &impatient.job;
        Some((Reverse(job.priority), (impatient.arrived, job.id)))
    }

    /// Starts a job that has just been put into the queue, if it may start now; gives
    /// whether others were preempted for it.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        id: u64,
        out: &mut impl FnMut(Effect),
    ) -> Result<bool, Held> {
        let waiting = self.queue.get(id).expect("put there before");
        let job = waiting.job;
        if let Err(sums) = self.accounts.admits(&job) {
            return Err((Obstacle::general(Reason::Quota, sums), None));
        }
        let tenant = usize::from(job.tenant);
        let place = (Reverse(job.priority), (waiting.arrived, id));
        if let Some(barrier) = self.barrier(tenant, now)
            && barrier < place
        {
            let waited = now.since(barrier.1.0).as_secs_f64();
            let bound = self.config.patience.as_secs_f64();
            return Err((Obstacle::general(Reason::NotItsTurn, (waited, bound)), None));
        }
        let head = self.head(now).expect("it waits and is admitted");
        match self.try_start(now, id, head, out) {
            Ok(()) => Ok(false),
            Err(_) if self.may_take_back(now, &job, head) && self.preempt(now, id, head, out) => {
                Ok(true)
            }
            Err(hold) => {
                self.queue.tally(&job, &self.topology, &self.ledger);
                Err(self.held(now, &job, head, hold))
            }
        }
    }

    /// Starts everything that can start, in order.
    pub(super) fn sweep(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        // Starting changes shares, so another may stand first then, for whom other
        // things are reserved.
        while let Some(head) = self.pass(now, out)
            && self.head(now) != Some(head)
        {}
    }

    /// One pass over the queue; gives the head it stopped at.
    fn pass(&mut self, now: Instant, out: &mut impl FnMut(Effect)) -> Option<u64> {
        let head = loop {
            let head = self.head(now)?;
            if self.try_start(now, head, head, out).is_err() && !self.preempt(now, head, head, out)
            {
                break head;
            }
        };
        self.take_back(now, head, out);
        if self.is_all_hot() {
            return Some(head);
        }
        self.queue.look_up(&self.ledger);
        // The first of each tenant that would find room, and how it ranks.
        let mut next: Vec<Option<(Rank, Front)>> = Vec::new();
        for tenant in 0..self.config.tenants.len() {
            next.push(self.possible_after(tenant, None));
        }
        let any = next.iter().any(Option::is_some);
        let barriers: Vec<Option<Front>> = (0..if any { next.len() } else { 0 })
            .map(|tenant| self.barrier(tenant, now))
            .collect();
        for _ in 0..DEPTH {
            let first = next
                .iter()
                .zip(0..)
                .filter_map(|(next, t)| Some(((*next)?, t)));
            let Some(((_, front), tenant)) = first.min() else {
                break;
            };
            let id = front.1.1;
            let behind = barriers[tenant].is_some_and(|barrier| barrier < front);
            let job = self.queue.get(id).expect("it is possible, so it waits").job;
            if id != head
                && !behind
                && self.is_possible(&job)
                && self.accounts.admits(&job).is_ok()
                && self.some_loop_takes(&job)
            {
                let _ = self.try_start(now, id, head, out);
            }
            next[tenant] = self.possible_after(tenant, Some(front));
        }
        Some(head)
    }

    /// The next of a tenant's fronts that would find room, and how it ranks.
    fn possible_after(&mut self, tenant: usize, front: Option<Front>) -> Option<(Rank, Front)> {
        let (topology, ledger) = (&self.topology, &self.ledger);
        let next = self.queue.possible_after(tenant, front, topology, ledger)?;
        let waiting = self.queue.get(next.1.1).expect("a front waits");
        Some((self.rank(waiting), next))
    }

    /// Whether a job that waits would find room, its heat and everybody else's rights aside.
    pub(super) fn is_possible(&mut self, job: &Job) -> bool {
        self.queue.is_possible(job, &self.topology, &self.ledger)
    }

    /// Starts a job if it fits and does not go before its turn.
    fn try_start(
        &mut self,
        now: Instant,
        id: u64,
        head: u64,
        out: &mut impl FnMut(Effect),
    ) -> Result<(), Hold> {
        let job = self.queue.get(id).expect("it waits").job;
        if !self.is_possible(&job) {
            return Err(Hold::Room);
        }
        if id != head {
            self.look_ahead(now, head);
            // Where the head's start is not known, going ahead is a matter of turns.
            if let Outlook::Unknown { .. } = self.outlook
                && let Some(obstacle) = self.out_of_turn(now, &job, head)
            {
                return Err(Hold::Turn(obstacle));
            }
        }
        let reservation = self.reservation_for(now, &job, head);
        if let Some(kept) = reservation
            && !self.leaves_room(&job, kept)
        {
            return Err(Hold::Reserved);
        }
        self.weigh(&job.demand);
        let view = View {
            tally: Some(self.queue.counted(&job)),
            ..self.view(self.reservation_for(now, &job, head))
        };
        let (places, evidence) = view.choose(&job).map_err(Hold::Nowhere)?;
        let waiting = self.queue.remove(id).expect("it waits");
        let evidence = Box::new(evidence);
        decided(now, Action::Place, id, won(&evidence), Some(&evidence), out);
        self.start(now, waiting, &places, evidence, out);
        Ok(())
    }

    /// What a job has to leave alone, if it would still run then.
    pub(super) fn reservation_for(
        &self,
        now: Instant,
        job: &Job,
        head: u64,
    ) -> Option<&Reservation> {
        let end = self.limit(job).map(|limit| now + limit);
        match &self.outlook {
            Outlook::Known(kept) if head != job.id => {
                end.is_none_or(|end| end > kept.at).then_some(&**kept)
            }
            _ => None,
        }
    }

    /// In words and numbers what keeps a job from starting.
    fn held(&self, now: Instant, job: &Job, head: u64, hold: Hold) -> Held {
        let reservation = self.reservation_for(now, job, head);
        let fell = |kept| self.view(kept).funnel_of(job, self.queue.counted(job));
        let (obstacle, funnel) = match (hold, reservation) {
            (Hold::Turn(obstacle), _) => return (obstacle, None),
            (Hold::Nowhere(nowhere), None) => {
                let funnel = fell(None);
                (self.obstacle(job, nowhere, &funnel), funnel)
            }
            (Hold::Nowhere(Nowhere(too_hot)), Some(kept)) => {
                let obstacle = too_hot.unwrap_or_else(|| self.reserved(now, job, kept));
                (obstacle, fell(reservation))
            }
            (Hold::Reserved, Some(kept)) => (self.reserved(now, job, kept), fell(reservation)),
            (Hold::Room | Hold::Reserved, _) => {
                let funnel = fell(None);
                (self.lacking(job, &funnel), funnel)
            }
        };
        let evidence = Evidence {
            funnel,
            candidates: Vec::new(),
            because_of: reservation.iter().map(|kept| kept.job).collect(),
        };
        (obstacle, Some(Box::new(evidence)))
    }

    /// Works out when and where the head starts, unless that is known.
    pub(super) fn look_ahead(&mut self, now: Instant, head: u64) {
        match &self.outlook {
            Outlook::Unknown { head: of, .. } if *of == head => return,
            Outlook::Known(kept) if kept.job == head => return,
            _ => {}
        }
        self.extend_overruns(now);
        let job = self.queue.get(head).expect("the head waits").job;
        let ends = self.ends.iter();
        let ends = ends.map(|&(end, id)| (end, &*self.running[&id].tasks));
        let kept = Reservation::new(
            &self.config,
            &self.topology,
            &self.ledger,
            self.queue.tally(&job, &self.topology, &self.ledger),
            &job,
            ends,
        );
        self.outlook = match kept {
            Some(kept) => Outlook::Known(Box::new(kept)),
            None => Outlook::Unknown {
                head,
                is_for_heat: self.is_possible(&job) || self.parked.iter().any(|p| !p.is_empty()),
            },
        };
    }

    /// Whoever runs beyond its promise is believed to need as long again.
    fn extend_overruns(&mut self, now: Instant) {
        if self.config.overrun == Overrun::Ended {
            return;
        }
        while let Some(&(end, id)) = self.ends.first()
            && end <= now
        {
            Arc::make_mut(&mut self.ends).remove(&(end, id));
            let running = Arc::make_mut(&mut self.running)
                .get_mut(&id)
                .expect("it has an end");
            let running = Arc::make_mut(running);
            let ran = now.since(running.started);
            // At least a nanosecond on, or a job of no length would never get there.
            let end = now + ran.max(wire::Nanos(1));
            running.promised = Some(end);
            Arc::make_mut(&mut self.ends).insert((end, id));
        }
    }

    /// A quick look whether a job may find room that is not reserved.
    fn leaves_room(&self, job: &Job, kept: &Reservation) -> bool {
        let tally = self.queue.counted(job);
        let demand = &job.demand;
        let reserved = kept.nodes().map(|node| {
            let here = match job.tasks {
                1 => u32::from(self.ledger.fits(node, demand)),
                _ => self.ledger.copies(node, demand),
            };
            let tasks = here.min(job.tasks.into()) as u16;
            here - u32::from(kept.spare(&self.ledger, node, demand, tasks)).min(here)
        });
        tally.site() - reserved.sum::<u32>() >= u32::from(job.tasks)
    }

    fn reserved(&self, now: Instant, job: &Job, kept: &Reservation) -> Obstacle {
        let until = kept.at.since(now).as_secs_f64();
        let limit = self.limit(job);
        let runs = limit.map_or(f64::INFINITY, |limit| limit.as_secs_f64());
        Obstacle {
            reason: Reason::Reserved,
            node: kept.nodes().next().unwrap_or(0),
            found: runs,
            bound: until,
        }
    }

    /// Why a job may not go ahead of a head whose start is unknown, if so.
    pub(super) fn out_of_turn(&self, now: Instant, job: &Job, head: u64) -> Option<Obstacle> {
        if self.is_let_by(now, head) {
            return None;
        }
        let turn = |id: u64| self.queue.get(id).map(|w| (w.arrived, id));
        let own = turn(job.id)?;
        let (first, _) = turn(head)?;
        let class = self.queue.class(job);
        let before = class.iter().take(self.config.overtake_max + 1);
        let before = before.take_while(|&&t| t < own).count();
        if before > self.config.overtake_max {
            let sums = (
                self.queue.len() as f64 - 1.0,
                self.config.overtake_max as f64,
            );
            return Some(Obstacle::general(Reason::NotItsTurn, sums));
        }
        let ahead = class.first().filter(|&&t| t < own).map(|&(at, _)| at);
        let waited = now.since(ahead.map_or(first, |at| at.min(first)));
        (waited > self.config.patience).then(|| {
            let patience = self.config.patience.as_secs_f64();
            Obstacle::general(Reason::NotItsTurn, (waited.as_secs_f64(), patience))
        })
    }

    /// Whether a head for which there is no room, and no promise of any, lets others by again:
    /// emptying the site has not helped it so far. Times to hold up and to let by take turns, each
    /// twice as long as the one before. So in the end it holds up for longer than any job
    /// runs that ends at all, and those that never do cannot stop the site for its sake
    /// (docs/decisions/2026-11-21-a-stuck-head-lets-others-by-in-turns.md).
    pub(super) fn is_let_by(&self, now: Instant, head: u64) -> bool {
        let is_stuck =
            matches!(self.outlook, Outlook::Unknown { head: of, is_for_heat: false } if of == head);
        let Some(waiting) = self.queue.get(head).filter(|_| is_stuck) else {
            return false;
        };
        let times = now.since(waiting.arrived).0 / self.config.patience.0.max(1);
        times
            .checked_ilog2()
            .is_some_and(|doubled| doubled % 2 == 1)
    }

    /// Whether no loop takes any heat.
    fn is_all_hot(&self) -> bool {
        let setpoint = self.config.setpoint;
        self.config.heat_aware
            && (self.cooling.iter()).all(|c| too_hot(c, c.predicted(0.0), setpoint).is_some())
    }

    /// A quick look whether some loop that has room for a task may take its heat.
    fn some_loop_takes(&self, job: &Job) -> bool {
        if !self.config.heat_aware {
            return true;
        }
        let watts = self.topology.watts_min(&self.ledger, &job.demand);
        let tally = self.queue.counted(job);
        let mut loops = self.cooling.iter().enumerate();
        loops.any(|(i, cooling)| {
            let predicted = cooling.predicted(watts);
            tally.on_loop(i) > 0 && too_hot(cooling, predicted, self.config.setpoint).is_none()
        })
    }
}

/// Which kind of shortage it is that keeps a job off nodes that fell like this.
pub(super) fn shortage(ledger: &Ledger, job: &Job, funnel: &Funnel) -> Reason {
    let demand = &job.demand;
    if funnel.fell[Test::Topology as usize] > 0 {
        return Reason::Topology;
    }
    if funnel.fell[Test::Gpu as usize] > 0 {
        let free = free_gpu(ledger, job);
        if free >= job.total().gpu_milli {
            return Reason::Fragmented;
        }
    }
    if funnel.fell[Test::Number as usize] > 0 {
        return Reason::NoCapacity;
    }
    let anywhere = crate::Demand {
        models: crate::Models::ANY,
        ..*demand
    };
    let mut nodes = 0..funnel.nodes;
    if demand.gpus > 0 && nodes.any(|node| ledger.fits(node, &anywhere)) {
        return Reason::Model;
    }
    Reason::NoCapacity
}

/// GPU that is free on nodes that are on and of the job's models, in thousandths.
pub(super) fn free_gpu(ledger: &Ledger, job: &Job) -> u64 {
    let nodes = ledger.nodes().iter().zip(0_u32..);
    let allowed = nodes.filter(|(node, i)| {
        ledger.state(*i) == State::Open && job.demand.models.contains(node.model)
    });
    let free = allowed.map(|(_, i)| u64::from(ledger.room(i).gpu_total));
    free.sum()
}
