//! When will the head of the queue start, and what must be left alone until then?
//!
//! Whoever stands first and cannot start gets a *reservation*: with everybody who
//! runs ending when they promised, the first moment at which it fits, and the nodes it
//! will have then. A later job may start now only if it ends by its own promise before
//! that moment, or takes nothing the reservation needs: EASY backfilling (Lifka, *The
//! ANL/IBM SP Scheduling System*, JSSPP 1995). So if promises are kept, the head is
//! never delayed; if jobs end early it starts early.
//!
//! The reservation is worked out anew whenever something ended, and only when somebody
//! could go ahead. It knows nothing of heat: what loops will carry then nobody
//! knows. Where no promise leads to a start, or heat alone stands in the way, there is
//! no moment to protect, and the older rule holds: overtake few
//! ([`super::Config::overtake_max`]) and not for long ([`super::Config::patience`]). One for whom
//! there is no room however long the others are held up lets them by again and again
//! (`order`): else a single job could stop a site where work promises nothing.

use wire::Instant;

use crate::ledger::{Demand, Ledger};

use super::choose::{Places, View};
use super::job::Job;
use super::topology::{Shape, Tally, Topology};
use super::{Config, Task};

/// What is kept for a job.
#[derive(Clone, Debug)]
pub(super) struct Reservation {
    /// For whom.
    pub(super) job: u64,
    /// From when.
    pub(super) at: Instant,
    /// The books at that time, without the job itself.
    books: Ledger,
    /// Its places then, in order of nodes.
    places: Places,
    demand: Demand,
}

impl Reservation {
    /// Releases what runs in the order given until the job fits, and keeps its
    /// places; none if it never does.
    pub(super) fn new<'a>(
        config: &Config,
        topology: &Topology,
        ledger: &Ledger,
        tally: &Tally,
        job: &Job,
        ends: impl Iterator<Item = (Instant, &'a [Task])>,
    ) -> Option<Self> {
        let mut outlook = Outlook::new(topology, ledger, tally, job);
        let mut at = None;
        for (end, tasks) in ends {
            // Those who end together leave together.
            if outlook.fits() && at != Some(end) {
                break;
            }
            at = Some(end);
            outlook.release(tasks);
        }
        if !outlook.fits() {
            return None;
        }
        let (mut places, _) = (outlook.view(config, &[]).choose(job)).ok()?;
        places.sort_unstable();
        Some(Self {
            job: job.id,
            at: at?,
            books: outlook.books,
            places,
            demand: job.demand,
        })
    }

    /// How many of so many tasks may start on a node and run beyond the moment.
    pub(super) fn spare(&self, ledger: &Ledger, node: u32, demand: &Demand, tasks: u16) -> u16 {
        let Ok(at) = self.places.binary_search_by_key(&node, |&(node, _)| node) else {
            return tasks;
        };
        let held = u32::from(self.places[at].1);
        let (mut now, mut then) = (*ledger.room(node), *self.books.room(node));
        for taken in 0..tasks {
            if !now.holds(demand) {
                return taken;
            }
            let claim = now.claim(demand);
            if !then.has(&claim) {
                return taken;
            }
            then.hold(&claim);
            if then.copies(&self.demand) < held {
                return taken;
            }
        }
        tasks
    }

    /// Whether it is for this node too.
    pub(super) fn is_on(&self, node: u32) -> bool {
        (self.places.binary_search_by_key(&node, |&(node, _)| node)).is_ok()
    }

    /// The nodes it is for.
    pub(super) fn nodes(&self) -> impl Iterator<Item = u32> + '_ {
        self.places.iter().map(|&(node, _)| node)
    }

    /// A job is to make room that has promised to end then, if it has.
    pub(super) fn without(&mut self, promised: Option<Instant>, tasks: &[Task]) {
        // Whoever would have ended by then has left these books already.
        if promised.is_none_or(|end| end > self.at) {
            for task in tasks {
                self.books.release(task.node, &task.claim);
            }
        }
    }

    /// A job started beside it and will still be there.
    pub(super) fn beside(&mut self, tasks: &[Task]) {
        for task in tasks {
            self.books.hold(task.node, &task.claim);
        }
    }
}

/// The books as they would be if some jobs had ended, and whether a job fits then.
pub(super) struct Outlook<'a> {
    topology: &'a Topology,
    pub(super) books: Ledger,
    job: &'a Job,
    shape: Shape,
    tally: Tally,
}

impl<'a> Outlook<'a> {
    /// Begins with the books of now and how often the job's demand fits where in them.
    pub(super) fn new(
        topology: &'a Topology,
        ledger: &Ledger,
        tally: &Tally,
        job: &'a Job,
    ) -> Self {
        Self {
            tally: tally.clone(),
            books: ledger.clone(),
            topology,
            job,
            shape: Shape::of(job),
        }
    }

    pub(super) fn fits(&self) -> bool {
        self.tally.fits(self.job.tasks, self.job.spread)
    }

    pub(super) fn release(&mut self, tasks: &[Task]) {
        for task in tasks {
            self.change(task.node, |books| books.release(task.node, &task.claim));
        }
    }

    pub(super) fn hold(&mut self, tasks: &[Task]) {
        for task in tasks {
            self.change(task.node, |books| books.hold(task.node, &task.claim));
        }
    }

    /// Puts so many tasks of the job itself on a node where they fit.
    pub(super) fn place(&mut self, node: u32, tasks: u16) {
        let demand = self.job.demand;
        self.change(node, |books| {
            for _ in 0..tasks {
                let claim = books.claim(node, &demand);
                claim.expect("chosen among the nodes it fits");
            }
        });
    }

    fn change(&mut self, node: u32, change: impl FnOnce(&mut Ledger)) {
        let tasks = |books: &Ledger| {
            let built = &books.nodes()[node as usize];
            self.shape.on(built, books.room(node))
        };
        let before = tasks(&self.books);
        change(&mut self.books);
        let after = tasks(&self.books);
        let built = &self.books.nodes()[node as usize];
        self.tally.change(built, &self.shape, before, after);
    }

    /// For choosing places in these books, whatever the heat.
    pub(super) fn view<'v>(&'v self, config: &'v Config, relief: &'v [f64]) -> View<'v> {
        View {
            config,
            topology: self.topology,
            ledger: &self.books,
            fits: None,
            tally: Some(&self.tally),
            cooling: None,
            relief,
            reservation: None,
        }
    }
}
