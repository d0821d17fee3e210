//! What is the site like now?
//!
//! For whoever watches a rehearsal while it is lived. Everything is read off the world where it stands, and nothing is
//! changed by looking.

use scheduler::site::Task;
use wire::Instant;

use super::visit::Visit;
use super::{FULL, World, load};

/// A node as it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeNow {
    /// Whether it has power.
    pub power: Power,
    /// Of its device that is closest to where it slows itself down, K.
    pub kelvin: f64,
    /// Where that device does, K.
    pub throttle_kelvin: f64,
    /// The lowest clock of any of its devices.
    pub clock: f64,
    /// The share of its GPUs that is claimed, or of its processors where it has none.
    pub busy: f64,
    /// Jobs that hold some of it.
    pub jobs: u32,
    /// Where it stands: a rack.
    pub rack: u32,
}

/// Whether a node has power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It has.
    On,
    /// It was switched off to spare its heat.
    Parked,
    /// It is lost.
    Dark,
}

/// A row of racks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowNow {
    /// The loop that cools it.
    pub coolant: u16,
    /// The heat that this loop is given, as a share of what it can carry.
    pub load: f64,
}

/// A job that has come and is not gone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JobNow<'a> {
    /// Its number.
    pub id: u64,
    /// Its tasks; none while it waits.
    pub tasks: &'a [Task],
    /// When it first started, if it did.
    pub started: Option<Instant>,
    /// Work it does now, in GPUs at full clock.
    pub gpus: f64,
}

/// All of it together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SiteNow {
    /// GPUs there are.
    pub gpus: u32,
    /// The share of them that is claimed.
    pub busy: f64,
    /// Of the device that is closest to where it slows itself down, K.
    pub kelvin: f64,
    /// Where that device does, K.
    pub throttle_kelvin: f64,
    /// The mean clock of GPUs that are claimed; 1 where none is.
    pub clock: f64,
}

impl Visit<'_> {
    /// Its nodes, in the order of its list.
    pub fn nodes_now(&self) -> impl Iterator<Item = NodeNow> + '_ {
        (0..self.world().floor.nodes.len()).map(|node| self.world().node_now(node))
    }

    /// Its racks: the row of each.
    #[must_use]
    pub fn row_of(&self) -> &[u32] {
        &self.world().floor.row_of
    }

    /// Its rows.
    #[must_use]
    pub fn rows_now(&self) -> Vec<RowNow> {
        let world = self.world();
        let site = world.devices.site();
        let mut rows = Vec::new();
        for (row, coolant) in world.floor.row_of.iter().zip(&world.floor.loop_of) {
            let (row, l) = (*row as usize, usize::from(*coolant));
            let found = RowNow {
                coolant: *coolant,
                load: load(site.load(l).0, site.loops()[l].capacity.0),
            };
            if rows.len() <= row {
                rows.resize(row + 1, found);
            }
            rows[row] = found;
        }
        rows
    }

    /// Jobs that run or wait, in the order in which they came.
    pub fn jobs_now(&self) -> impl Iterator<Item = JobNow<'_>> {
        let world = self.world();
        let places = world.places[..world.next_arrival].iter().zip(0_u64..);
        let here = places.filter(|(place, _)| !place.is_told);
        here.map(|(place, id)| JobNow {
            id,
            tasks: &place.on,
            started: place.started,
            gpus: place.rate as f64 / (f64::from(FULL) * 1_000.0),
        })
    }

    /// All of it together.
    #[must_use]
    pub fn site_now(&self) -> SiteNow {
        let world = self.world();
        let gpus: u32 = world
            .floor
            .nodes
            .iter()
            .map(|node| u32::from(node.gpus))
            .sum();
        let lit = world
            .hosts
            .iter()
            .zip(0_usize..)
            .filter(|(host, _)| !host.is_dark);
        let hottest = lit.map(|(_, node)| world.closest(node));
        let (kelvin, throttle_kelvin) = hottest
            .min_by(|a, b| (a.1 - a.0).total_cmp(&(b.1 - b.0)))
            .unwrap_or((f64::NAN, f64::NAN));
        let claimed = world.claimed_milli as f64;
        SiteNow {
            gpus,
            busy: match gpus {
                0 => 0.0,
                gpus => claimed / (f64::from(gpus) * 1_000.0),
            },
            kelvin,
            throttle_kelvin,
            clock: match world.claimed_milli {
                0 => 1.0,
                _ => world.clocked_rate as f64 / (claimed * f64::from(FULL)),
            },
        }
    }
}

impl World<'_> {
    /// Temperature and throttling of the node's device that is closest to throttling.
    fn closest(&self, node: usize) -> (f64, f64) {
        let all = self.floor.nodes[node].devices();
        let all = all.map(|d| {
            (
                self.devices.site().kelvin()[d],
                self.floor.devices[d].throttle.0,
            )
        });
        all.min_by(|a, b| (a.1 - a.0).total_cmp(&(b.1 - b.0)))
            .expect("a node has processors")
    }

    fn node_now(&self, node: usize) -> NodeNow {
        let (place, host) = (&self.floor.nodes[node], &self.hosts[node]);
        let (kelvin, throttle_kelvin) = self.closest(node);
        let claimed = self.scheduler.ledger().gpu_claimed(node as u32);
        NodeNow {
            power: match (host.is_dark, self.devices.is_on(place.processors())) {
                (true, _) => Power::Dark,
                (false, false) => Power::Parked,
                (false, true) => Power::On,
            },
            kelvin,
            throttle_kelvin,
            clock: place
                .devices()
                .map(|d| self.devices.clock(d))
                .fold(1.0, f64::min),
            busy: match place.gpus {
                _ if host.is_dark => 0.0,
                0 => self.devices.used(place.processors()),
                gpus => f64::from(claimed) / (f64::from(gpus) * f64::from(FULL)),
            },
            jobs: host.jobs.len() as u32,
            rack: place.rack,
        }
    }
}
