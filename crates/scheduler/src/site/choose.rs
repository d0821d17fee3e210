//! Where would this job go now?
//!
//! A job of one task goes to the node with the lowest score, the first of equals. A
//! gang goes into the tightest domain that has room for all of it: one node, a rack,
//! a row, the site; among domains of a size the one it fills most, so that wide ones
//! stay whole for wide gangs. Within the domain it fills its best nodes one after the
//! other, so that it touches few.
//!
//! A node's score is what the placement policy thinks of it plus `heat_weight` × the
//! load its cooling loop would have. This is the one place where it is computed. In books
//! that are not those of now, for a time to come, the looseness of the fit stands in for
//! the policy, which knows what it knows of the books of now.

use alloc::vec;
use alloc::vec::Vec;

use telemetry::Reason;

use crate::cooling::Cooling;
use crate::ledger::{Demand, Ledger};
use crate::policy::Fit;

use super::evidence::{CANDIDATES_MAX, Candidate, Evidence, Funnel, Test};
use super::job::{Job, Spread};
use super::reserve::Reservation;
use super::topology::{Shape, Tally, Topology};
use super::{Config, Obstacle};

/// So many tasks on each of these nodes.
pub(super) type Places = Vec<(u32, u16)>;

/// What a job is held against.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) config: &'a Config,
    pub(super) topology: &'a Topology,
    pub(super) ledger: &'a Ledger,
    /// What the policy thinks of each node for this demand; if nothing, the looseness of
    /// the fit counts.
    pub(super) fits: Option<&'a [Fit]>,
    /// How often the demand fits where, if somebody keeps that.
    pub(super) tally: Option<&'a Tally>,
    /// None where heat does not matter.
    pub(super) cooling: Option<&'a [Cooling]>,
    /// Heat that each loop is about to lose, in watts; empty for none.
    pub(super) relief: &'a [f64],
    /// What must be left alone.
    pub(super) reservation: Option<&'a Reservation>,
}

/// It goes nowhere: the least of the heat obstacles, if one stood in the way. What the nodes
/// fell to is for [`View::funnel_of`] to say, as most who try and fail are never told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nowhere(pub(super) Option<Obstacle>);

/// The best candidates, best first.
#[derive(Default)]
struct Best {
    kept: [Option<Candidate>; CANDIDATES_MAX],
}

impl Best {
    fn offer(&mut self, candidate: Candidate) {
        let score = candidate.score();
        let worse = |kept: &Option<Candidate>| kept.is_none_or(|c| score < c.score());
        if let Some(at) = self.kept.iter().position(worse) {
            self.kept[at..].rotate_right(1);
            self.kept[at] = Some(candidate);
        }
    }

    fn into_vec(self) -> Vec<Candidate> {
        self.kept.into_iter().flatten().collect()
    }
}

impl View<'_> {
    /// What a node's score is made of, the lowest sum being the best.
    #[inline]
    fn candidate(&self, node: u32, demand: &Demand, heat: f64) -> Candidate {
        let Fit { cost: fit, terms } = match self.fits {
            Some(fits) => fits[node as usize],
            None => Fit {
                cost: self.ledger.looseness(node, demand),
                terms: None,
            },
        };
        Candidate {
            node,
            fit,
            terms,
            heat,
        }
    }

    /// Where the job goes and why, or why nowhere. Looks at every node.
    pub(super) fn choose(&self, job: &Job) -> Result<(Places, Evidence), Nowhere> {
        if job.tasks == 1 {
            self.choose_one(job)
        } else {
            self.choose_many(job)
        }
    }

    //= requirements H2
    fn choose_one(&self, job: &Job) -> Result<(Places, Evidence), Nowhere> {
        let demand = &job.demand;
        let (mut best, mut too_hot) = (Best::default(), None);
        let mut funnel = self.funnel();
        // Neighbours are alike, so most ask of the same loop about the same watts.
        let mut last = None;
        for (node, i) in self.ledger.nodes().iter().zip(0_u32..) {
            if let Some(lack) = self.ledger.lacks(i, demand) {
                funnel.falls(lack.into());
                continue;
            }
            let asked = (node.coolant, demand.watts_on(node));
            let heat = match last {
                Some((same, heat)) if same == asked => heat,
                _ => self.heat(i, asked.0, asked.1),
            };
            last = Some((asked, heat));
            let heat = match heat {
                Ok(heat) => heat,
                Err(obstacle) => {
                    funnel.falls(Test::Heat);
                    // Of equals the first stays.
                    least(&mut too_hot, obstacle);
                    continue;
                }
            };
            if self.spare(i, job, 1) == 0 {
                funnel.falls(Test::Reservation);
                continue;
            }
            best.offer(self.candidate(i, demand, heat));
        }
        let candidates = best.into_vec();
        let Some(winner) = candidates.first() else {
            return Err(Nowhere(too_hot));
        };
        let places = vec![(winner.node, 1)];
        let evidence = Evidence {
            funnel,
            candidates,
            because_of: Vec::new(),
        };
        Ok((places, evidence))
    }

    //= requirements S4
    fn choose_many(&self, job: &Job) -> Result<(Places, Evidence), Nowhere> {
        let shape = Shape::of(job);
        let counted = match self.tally {
            Some(_) => None,
            None => Some(Tally::new(self.topology, self.ledger, &shape)),
        };
        let tally = self.tally.or(counted.as_ref()).expect("kept or counted");
        let mut too_hot = None;
        for size in Spread::ALL.into_iter().filter(|&size| size <= job.spread) {
            if size == Spread::Node {
                if !tally.fits(job.tasks, Spread::Node) {
                    continue;
                }
                let all = &self.topology.domains(Spread::Site)[0];
                let roomy = |&&i: &&u32| self.ledger.copies(i, &job.demand) >= job.tasks.into();
                let nodes: Vec<u32> = all.iter().filter(roomy).copied().collect();
                // Each of them is a domain; the best of them that takes all wins.
                if let Some(found) = self.fill(job, &nodes, job.tasks, &mut too_hot) {
                    return Ok(self.with_evidence(job, tally, found));
                }
                continue;
            }
            let sums = tally.domains(size).iter().zip(0..);
            let mut wide: Vec<(u32, usize)> = sums
                .filter(|(sum, _)| **sum >= job.tasks.into())
                .map(|(&sum, i)| (sum, i))
                .collect();
            wide.sort_unstable();
            for (_, i) in wide {
                let nodes = &self.topology.domains(size)[i];
                if let Some(found) = self.fill(job, nodes, 1, &mut too_hot) {
                    return Ok(self.with_evidence(job, tally, found));
                }
            }
        }
        Err(Nowhere(too_hot))
    }

    /// Fills nodes from the best on until all tasks have a place; a node that takes
    /// fewer than `least` takes none.
    fn fill(
        &self,
        job: &Job,
        nodes: &[u32],
        at_least: u16,
        too_hot: &mut Option<Obstacle>,
    ) -> Option<(Places, Vec<Candidate>)> {
        let demand = &job.demand;
        let mut candidates = Vec::new();
        for &node in nodes {
            if !self.ledger.fits(node, demand) {
                continue;
            }
            let built = &self.ledger.nodes()[node as usize];
            match self.heat(node, built.coolant, demand.watts_on(built)) {
                Ok(heat) => candidates.push(self.candidate(node, demand, heat)),
                Err(obstacle) => least(too_hot, obstacle),
            }
        }
        candidates.sort_by(|a, b| a.score().total_cmp(&b.score()));
        let mut more = vec![0.0; self.cooling.map_or(0, <[_]>::len)];
        let (mut places, mut left) = (Places::new(), job.tasks);
        for candidate in &candidates {
            let node = candidate.node;
            let built = &self.ledger.nodes()[node as usize];
            let (coolant, watts) = (usize::from(built.coolant), demand.watts_on(built));
            let room = self.ledger.copies(node, demand).min(left.into()) as u16;
            let mut takes = self.spare(node, job, room);
            while takes > 0 && self.cooling.is_some() {
                let all = more[coolant] + watts * f64::from(takes);
                match self.heat(node, built.coolant, all) {
                    Ok(_) => {
                        more[coolant] = all;
                        break;
                    }
                    Err(obstacle) => least(too_hot, obstacle),
                }
                takes -= 1;
            }
            if takes < at_least.min(left) || takes == 0 {
                continue;
            }
            places.push((node, takes));
            left -= takes;
            if left == 0 {
                candidates.truncate(CANDIDATES_MAX);
                return Some((places, candidates));
            }
        }
        None
    }

    fn with_evidence(
        &self,
        job: &Job,
        tally: &Tally,
        (places, candidates): (Places, Vec<Candidate>),
    ) -> (Places, Evidence) {
        let evidence = Evidence {
            funnel: self.funnel_of(job, tally),
            candidates,
            because_of: Vec::new(),
        };
        (places, evidence)
    }

    fn funnel(&self) -> Funnel {
        Funnel {
            nodes: self.ledger.nodes().len() as u32,
            ..Funnel::default()
        }
    }

    /// How many nodes fall to which test, a gang's domains counted.
    pub(super) fn funnel_of(&self, job: &Job, tally: &Tally) -> Funnel {
        let mut funnel = self.funnel();
        let fallen = self.fallen(job, tally);
        fallen.for_each(|(_, test)| funnel.falls(test));
        funnel
    }

    /// The nodes that fall, in order, and to which test.
    pub(super) fn fallen(&self, job: &Job, tally: &Tally) -> impl Iterator<Item = (u32, Test)> {
        let nodes = 0..self.ledger.nodes().len() as u32;
        nodes.filter_map(|node| Some((node, self.falls_to(node, job, tally)?)))
    }

    fn falls_to(&self, i: u32, job: &Job, tally: &Tally) -> Option<Test> {
        let (demand, node) = (&job.demand, &self.ledger.nodes()[i as usize]);
        let tasks = u32::from(job.tasks);
        let domain = match job.spread {
            _ if tasks == 1 => 1,
            Spread::Node => self.ledger.copies(i, demand),
            Spread::Rack => tally.domains(Spread::Rack)[node.rack as usize],
            Spread::Row => tally.domains(Spread::Row)[node.row as usize],
            Spread::Site => tally.site(),
        };
        if let Some(lack) = self.ledger.lacks(i, demand) {
            Some(lack.into())
        } else if tasks > 1 && tally.site() < tasks {
            Some(Test::Number)
        } else if domain < tasks {
            Some(Test::Topology)
        } else if self.heat(i, node.coolant, demand.watts_on(node)).is_err() {
            Some(Test::Heat)
        } else {
            (self.spare(i, job, 1) == 0).then_some(Test::Reservation)
        }
    }

    /// What the load of a node's loop adds to its score, if it may get this heat.
    #[inline]
    fn heat(&self, node: u32, coolant: u16, watts: f64) -> Result<f64, Obstacle> {
        let Some(cooling) = self.cooling else {
            return Ok(0.0);
        };
        let coolant = usize::from(coolant);
        let relief = self.relief.get(coolant).copied().unwrap_or(0.0);
        let cooling = &cooling[coolant];
        let predicted = cooling.predicted(watts - relief);
        match too_hot(cooling, predicted, self.config.setpoint) {
            Some(reason) => Err(Obstacle {
                reason,
                node,
                found: predicted,
                bound: self.config.setpoint,
            }),
            None => Ok(self.config.heat_weight * predicted),
        }
    }

    /// How many of so many tasks the node may take with regard to what is reserved.
    fn spare(&self, node: u32, job: &Job, tasks: u16) -> u16 {
        match self.reservation {
            Some(reservation) => reservation.spare(self.ledger, node, &job.demand, tasks),
            None => tasks,
        }
    }
}

/// Why a loop that would have this load takes no more, if so.
pub(super) fn too_hot(cooling: &Cooling, predicted: f64, setpoint: f64) -> Option<Reason> {
    if predicted > setpoint {
        Some(Reason::NoHeadroomOutward)
    } else {
        // Cool because it is being slowed is not cool.
        (cooling.budget() < 1.0).then_some(Reason::Backpressure)
    }
}

fn least(too_hot: &mut Option<Obstacle>, obstacle: Obstacle) {
    if too_hot.is_none_or(|o| obstacle.found < o.found) {
        *too_hot = Some(obstacle);
    }
}
