//! Where do nodes stand, and which domain has room for a whole gang?
//!
//! A *domain* is a node, a rack, a row or the whole site. For one demand a [`Tally`]
//! keeps how many tasks each domain could take. A node's change is added to the
//! domains above it, so keeping a tally true costs the same on any site, and whether
//! a gang fits somewhere is read off it.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::ledger::{Demand, Ledger, Node, Room, State};

use super::job::{Job, Spread};

/// Where nodes stand; shared by everything that counts by domain.
#[derive(Clone, Debug)]
pub(super) struct Topology {
    /// Nodes of each rack and of each row, in order.
    racks: Vec<Vec<u32>>,
    rows: Vec<Vec<u32>>,
    site: Vec<u32>,
    loops: usize,
    /// Nodes that are built alike: the first of each kind, and each node's kind.
    kinds: Vec<u32>,
    kind_of: Vec<u16>,
}

impl Topology {
    pub(super) fn new(nodes: &[Node], loops: usize) -> Self {
        let count = |of: &dyn Fn(&Node) -> u32| nodes.iter().map(of).max().map_or(0, |m| m + 1);
        let mut topology = Self {
            racks: vec![Vec::new(); count(&|n| n.rack) as usize],
            rows: vec![Vec::new(); count(&|n| n.row) as usize],
            site: (0..nodes.len() as u32).collect(),
            loops,
            kinds: Vec::new(),
            kind_of: Vec::new(),
        };
        let mut known = BTreeMap::new();
        for (node, i) in nodes.iter().zip(0..) {
            topology.racks[node.rack as usize].push(i);
            topology.rows[node.row as usize].push(i);
            let watts = (node.gpu_watts.to_bits(), node.cpu_watts.to_bits());
            let built = (
                node.cpu_milli,
                node.memory_mib,
                node.gpus,
                node.model,
                watts,
            );
            let kind = *known.entry(built).or_insert_with(|| {
                topology.kinds.push(i);
                topology.kinds.len() as u16 - 1
            });
            topology.kind_of.push(kind);
        }
        topology
    }

    /// A node of each kind that differs by what it draws.
    pub(super) fn kinds(&self) -> impl Iterator<Item = u32> + '_ {
        self.kinds.iter().copied()
    }

    /// The least heat that one task can make, whichever node takes it, in watts.
    pub(super) fn watts_min(&self, ledger: &Ledger, demand: &Demand) -> f64 {
        let kinds = self.kinds.iter().map(|&i| &ledger.nodes()[i as usize]);
        let allowed = kinds.filter(|n| demand.gpus == 0 || demand.models.contains(n.model));
        let watts = allowed.map(|node| demand.watts_on(node));
        watts.fold(f64::INFINITY, f64::min)
    }

    /// The nodes of each domain of a size above the node.
    pub(super) fn domains(&self, size: Spread) -> &[Vec<u32>] {
        match size {
            Spread::Node => &[],
            Spread::Rack => &self.racks,
            Spread::Row => &self.rows,
            Spread::Site => core::slice::from_ref(&self.site),
        }
    }

    /// Whether the site's nodes, all empty, could take the job, lost ones left out.
    /// Costs some nanoseconds a node, however long the queue is.
    pub(super) fn could_ever_hold(&self, ledger: &Ledger, job: &Job) -> bool {
        let tasks = u32::from(job.tasks);
        let kinds = self.kinds.iter();
        let kinds: Vec<u32> = kinds
            .map(|&node| ledger.copies_when_built(node, &job.demand))
            .collect();
        let on = |node: &u32| match ledger.state(*node) {
            State::Lost => 0,
            State::Open | State::Parked => kinds[usize::from(self.kind_of[*node as usize])],
        };
        if job.spread == Spread::Node {
            return self.site.iter().any(|node| on(node) >= tasks);
        }
        let mut domains = self.domains(job.spread).iter();
        domains.any(|nodes| nodes.iter().map(on).fold(0, u32::saturating_add) >= tasks)
    }
}

/// What is counted of one demand on one node: tasks side by side, or for work of one
/// task whether it fits, which is cheaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    pub(super) demand: Demand,
    pub(super) is_gang: bool,
}

impl Shape {
    pub(super) const fn of(job: &Job) -> Self {
        Self {
            demand: job.demand,
            is_gang: job.tasks > 1,
        }
    }

    /// Tasks on a node that is built like this and has this room.
    pub(super) fn on(&self, node: &Node, room: &Room) -> u32 {
        if self.demand.gpus > 0 && !self.demand.models.contains(node.model) {
            0
        } else if self.is_gang {
            room.copies(&self.demand)
        } else {
            u32::from(room.holds(&self.demand))
        }
    }
}

/// How many tasks of one shape each domain could take.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tally {
    site: u32,
    racks: Vec<u32>,
    rows: Vec<u32>,
    loops: Vec<u32>,
    /// How many nodes could take 0, 1, 2 … tasks, for gangs that want one node; as
    /// long as the most that any could.
    nodes: Vec<u32>,
}

impl Tally {
    pub(super) fn new(topology: &Topology, ledger: &Ledger, shape: &Shape) -> Self {
        let mut tally = Self {
            site: 0,
            racks: vec![0; topology.racks.len()],
            rows: vec![0; topology.rows.len()],
            loops: vec![0; topology.loops],
            nodes: Vec::new(),
        };
        for (node, i) in ledger.nodes().iter().zip(0..) {
            let tasks = shape.on(node, ledger.room(i));
            tally.change(node, shape, 0, tasks);
        }
        tally
    }

    /// A node could take so many tasks and now takes others.
    pub(super) fn change(&mut self, node: &Node, shape: &Shape, before: u32, after: u32) {
        if before == after {
            return;
        }
        for sum in [
            &mut self.site,
            &mut self.racks[node.rack as usize],
            &mut self.rows[node.row as usize],
            &mut self.loops[usize::from(node.coolant)],
        ] {
            *sum = *sum - before + after;
        }
        if shape.is_gang {
            let (before, after) = (before as usize, after as usize);
            if before > 0 {
                self.nodes[before] -= 1;
            }
            if after > 0 {
                let length = self.nodes.len().max(after + 1);
                self.nodes.resize(length, 0);
                self.nodes[after] += 1;
            }
            while self.nodes.last() == Some(&0) {
                self.nodes.pop();
            }
        }
    }

    /// Tasks the site could take, wherever they stand.
    pub(super) const fn site(&self) -> u32 {
        self.site
    }

    /// Tasks that the nodes of a cooling loop could take.
    pub(super) fn on_loop(&self, coolant: usize) -> u32 {
        self.loops[coolant]
    }

    /// How many each domain of a size above the node could take.
    pub(super) fn domains(&self, size: Spread) -> &[u32] {
        match size {
            Spread::Node => &[],
            Spread::Rack => &self.racks,
            Spread::Row => &self.rows,
            Spread::Site => core::slice::from_ref(&self.site),
        }
    }

    /// Whether so many tasks fit a domain of this size.
    pub(super) fn fits(&self, tasks: u16, spread: Spread) -> bool {
        let tasks = u32::from(tasks);
        if self.site < tasks {
            return false;
        }
        match spread {
            _ if tasks == 1 => true,
            Spread::Node => self.nodes.len() > tasks as usize,
            _ => self.domains(spread).iter().any(|&sum| sum >= tasks),
        }
    }
}
