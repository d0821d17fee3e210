//! What is it that this job asks for and could never have?
//!
//! A refusal names the first thing that is missing even when everything stands empty,
//! how much of it there is, and the nearest request that could start some day. It
//! looks at each node once for each thing that could be changed, however many jobs
//! wait.

use telemetry::Reason;

use crate::ledger::{Demand, Models, State};

use super::explain::{Change, most};
use super::job::{Job, Spread};
use super::{Obstacle, SiteScheduler};

/// Why a job is refused, and what would not be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// What is missing.
    pub lack: Lack,
    /// How much of it there is, and how much is asked for: see [`Lack`].
    pub found: f64,
    /// See `found`.
    pub bound: f64,
    /// The one change that gives up least and makes it possible, if there is one.
    pub nearest: Option<Change>,
}

/// What a job asks for and cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// GPUs on one node, in thousandths.
    Gpu,
    /// CPU on one node, in thousandths.
    Cpu,
    /// Memory on one node, in MiB.
    Memory,
    /// A node of the models it names: nodes.
    Model,
    /// Room for so many tasks together: tasks.
    Tasks,
    /// What its tenant may hold, in the unit of what is exceeded.
    Quota,
    /// Sense.
    Sense,
}

impl SiteScheduler {
    /// Why a job would be refused if it came now, in time that does not grow with the
    /// queue; none if it would be let in.
    //= requirements S7
    #[must_use]
    pub fn refusal(&self, job: &Job) -> Option<Refusal> {
        let obstacle = self.never(job)?;
        let lack = match obstacle.reason {
            Reason::Quota => Lack::Quota,
            Reason::Malformed => Lack::Sense,
            _ => self.impossible(job).0,
        };
        Some(Refusal {
            reason: obstacle.reason,
            lack,
            found: obstacle.found,
            bound: obstacle.bound,
            nearest: (lack != Lack::Sense)
                .then(|| self.nearest_possible(job))
                .flatten(),
        })
    }

    /// What an empty site lacks for a job it could not hold, and where it comes nearest.
    pub(super) fn impossible(&self, job: &Job) -> (Lack, Obstacle) {
        let demand = &job.demand;
        let nodes = self.ledger.nodes().iter().zip(0_u32..);
        let left = nodes.filter(|(_, i)| self.ledger.state(*i) != State::Lost);
        let of_model =
            left.filter(|(node, _)| demand.gpus == 0 || demand.models.contains(node.model));
        let gpu = |gpus: u8| u32::from(gpus) * u32::from(crate::ledger::WHOLE);
        let asked = demand.gpu_total();
        // Enough GPU first, then the most CPU; the first node among equals.
        let best = of_model.max_by_key(|(node, i)| {
            let cpu = node.cpu_milli.min(demand.cpu_milli);
            (
                gpu(node.gpus).min(asked),
                cpu,
                node.memory_mib,
                u32::MAX - i,
            )
        });
        let at = |lack, node, found: f64, bound: f64| {
            let reason = Reason::Impossible;
            let obstacle = Obstacle {
                reason,
                node,
                found,
                bound,
            };
            (lack, obstacle)
        };
        let Some((node, i)) = best else {
            return at(Lack::Model, 0, 0.0, 1.0);
        };
        for (lack, found, asked) in [
            (Lack::Gpu, gpu(node.gpus), asked),
            (Lack::Cpu, node.cpu_milli, demand.cpu_milli),
            (Lack::Memory, node.memory_mib, demand.memory_mib),
        ] {
            if found < asked {
                return at(lack, i, found.into(), asked.into());
            }
        }
        let fits = |tasks: u32| {
            let tasks = tasks as u16;
            self.topology
                .could_ever_hold(&self.ledger, &Job { tasks, ..*job })
        };
        let most = if fits(1) {
            most(job.tasks.into(), fits)
        } else {
            0
        };
        at(Lack::Tasks, i, most.into(), job.tasks.into())
    }

    /// The first of these changes that would be let in: another place, then less.
    fn nearest_possible(&self, job: &Job) -> Option<Change> {
        let demand = &job.demand;
        let possible = |change: &Change| self.never(&change.apply(*job)).is_none();
        let wider = Spread::ALL.into_iter().filter(|s| *s > job.spread);
        let wider = wider.filter(|_| job.tasks > 1).map(Change::Spread);
        let any = (demand.models != Models::ANY && demand.gpus > 0).then_some(Change::AnyModel);
        let most = |asked: u32, make: fn(u32) -> Change| {
            (asked > 1).then(|| make(most(asked, |n| possible(&make(n)))))
        };
        let Demand {
            cpu_milli,
            memory_mib,
            ..
        } = *demand;
        let less = [
            most(cpu_milli, Change::Cpu),
            most(memory_mib, Change::Memory),
            most(demand.gpus.into(), |n| Change::Gpus(n as u8)),
            most(job.tasks.into(), |n| Change::Tasks(n as u16)),
        ];
        let mut all = wider.chain(any).chain(less.into_iter().flatten());
        all.find(possible)
    }
}
