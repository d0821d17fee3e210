//! What stands where, and what does it draw?
//!
//! A trace names nodes; where they stand it does not say. They are set up in the
//! order of its list, a rack full after the other, racks in rows, and the rows shared
//! out evenly over the cooling loops, neighbours together. Machines bought together
//! stand together in such lists, so loops differ in what they cool as they do in a real hall.
//! With [`Building::rows_alike`] racks are dealt out to the rows in turn instead, as in a hall
//! that was planned so: then every loop has some of everything.
//!
//! # Assumptions
//!
//! * A GPU draws what [`physics::devices`] says for its model. A model that nobody
//!   knows is stood in for by the [`STAND_IN`], and the report says so.
//! * A node's processors, memory and fans are one device, [`devices::CPU_NODE`]
//!   scaled by its number of CPUs: a node with [`Building::cpus_per_node`] of them draws what
//!   is listed there, one with half of them half.
//! * A device is used as much as it is claimed. The trace knows what was asked
//!   for, not how busy it was; most jobs use less, so heat is rather over- than underestimated.
//! * Power beyond idling is in proportion to use and to a power of the clock.
//! * A loop carries a share of the most its own nodes could draw.

use physics::devices::{self, Device};
use physics::site::Loop;
use scheduler::ledger;
use wire::{JoulesPerKelvin, Kelvin, KelvinPerWatt, Watts};

use super::jobs::Workload;

/// For a GPU model that [`physics::devices`] does not know: of those it knows, the
/// middle one in power.
pub const STAND_IN: &Device = &devices::A10;

/// How nodes are set up and cooled.
#[derive(Clone, Debug, PartialEq)]
pub struct Building {
    /// Nodes in a rack.
    pub nodes_per_rack: u32,
    /// Racks in a row.
    pub racks_per_row: u32,
    /// Cooling loops of the site.
    pub loops: u16,
    /// Heat a loop can carry, as a share of the most its nodes draw.
    pub capacity_share: f64,
    /// CPUs of a node whose processors draw what [`devices::CPU_NODE`] says.
    pub cpus_per_node: f64,
    /// Supply temperature the plants aim for.
    pub supply: Kelvin,
    /// Warmest supply the equipment accepts.
    pub supply_max: Kelvin,
    /// Heat capacity of a loop's coolant per watt of its capacity, in J/K.
    pub coolant_per_watt: f64,
    /// How far above the outside wet-bulb temperature a plant's best is.
    pub approach: Kelvin,
    /// Whether racks are dealt out to the rows in turn.
    pub rows_alike: bool,
}

/// A site as built.
#[derive(Clone, Debug)]
pub struct Floor {
    /// One per node, in the order of the trace.
    pub nodes: Vec<Place>,
    /// GPUs of node 0, its processors, GPUs of node 1, and so on.
    pub devices: Vec<Device>,
    /// The node of each device.
    pub node_of: Vec<u32>,
    /// The loop of each device.
    pub cooled_by: Vec<u32>,
    /// The cooling loops.
    pub loops: Vec<Loop>,
    /// The row of each rack.
    pub row_of: Vec<u32>,
    /// The loop of each rack.
    pub loop_of: Vec<u16>,
    /// Models that are unknown and stood in for.
    pub unknown: Vec<String>,
}

/// A node in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// Its rack.
    pub rack: u32,
    /// What cools it.
    pub coolant: u16,
    /// Its first device; its GPUs follow, then its processors.
    pub first: u32,
    /// Number of its GPUs.
    pub gpus: u8,
    /// Thousandths of CPU in all.
    pub cpu_milli: u32,
}

impl Place {
    /// Its devices, the processors last.
    #[must_use]
    pub fn devices(&self) -> std::ops::Range<usize> {
        self.first as usize..self.first as usize + usize::from(self.gpus) + 1
    }

    /// Its processors.
    #[must_use]
    pub fn processors(&self) -> usize {
        self.first as usize + usize::from(self.gpus)
    }
}

impl Floor {
    /// Sets nodes up.
    #[must_use]
    pub fn new(load: &Workload, building: &Building) -> Self {
        let mut unknown = Vec::new();
        let kinds = load.models.iter().map(|model| {
            devices::lookup(model).unwrap_or_else(|| {
                unknown.push(model.clone());
                STAND_IN
            })
        });
        let kinds: Vec<&Device> = kinds.collect();
        let racks = (load.nodes.len() as u32).div_ceil(building.nodes_per_rack);
        let rows = racks.div_ceil(building.racks_per_row);
        let row = |rack: u32| {
            if building.rows_alike {
                rack % rows
            } else {
                rack / building.racks_per_row
            }
        };
        let row_of: Vec<u32> = (0..racks).map(row).collect();
        let loop_of =
            |row: u32| (u64::from(row) * u64::from(building.loops) / u64::from(rows)) as u16;
        let loop_of: Vec<u16> = row_of.iter().map(|&row| loop_of(row)).collect();

        let mut floor = Self {
            nodes: Vec::with_capacity(load.nodes.len()),
            devices: Vec::new(),
            node_of: Vec::new(),
            cooled_by: Vec::new(),
            loops: Vec::new(),
            row_of,
            loop_of,
            unknown,
        };
        let mut watts = vec![0.0; building.loops.into()];
        for (node, i) in load.nodes.iter().zip(0_u32..) {
            let rack = i / building.nodes_per_rack;
            let coolant = floor.loop_of[rack as usize];
            floor.nodes.push(Place {
                rack,
                coolant,
                first: floor.devices.len() as u32,
                gpus: node.gpus,
                cpu_milli: node.cpu_milli,
            });
            let gpus = node.model.map_or(STAND_IN, |m| kinds[usize::from(m)]);
            let gpus = std::iter::repeat_n(*gpus, node.gpus.into());
            let cpus = f64::from(node.cpu_milli) / 1_000.0;
            let host = load.hosts.get(i as usize).copied();
            let host = host.unwrap_or(cpus / building.cpus_per_node);
            let processors = scaled(&devices::CPU_NODE, host);
            for device in gpus.chain([processors]) {
                watts[usize::from(coolant)] += device.max.0;
                floor.devices.push(device);
                floor.node_of.push(i);
                floor.cooled_by.push(coolant.into());
            }
        }
        floor.loops = watts
            .iter()
            // A loop without nodes must still be one that can exist.
            .map(|&watts| building.cool(Watts(watts.max(1.0))))
            .collect();
        floor
    }

    /// The nodes as the scheduler is told of them.
    #[must_use]
    pub fn ledger_nodes(&self, load: &Workload) -> Vec<ledger::Node> {
        let nodes = load.nodes.iter().zip(&self.nodes);
        let nodes = nodes.map(|(node, place)| {
            let all = &self.devices[place.devices()];
            let dynamic = |d: &Device| d.max.0 - d.idle.0;
            ledger::Node {
                cpu_milli: node.cpu_milli,
                memory_mib: node.memory_mib,
                gpus: node.gpus,
                model: node.model.unwrap_or(0),
                coolant: place.coolant,
                rack: place.rack,
                row: self.row_of[place.rack as usize],
                idle_watts: all.iter().map(|d| d.idle.0).sum(),
                gpu_watts: if node.gpus > 0 { dynamic(&all[0]) } else { 0.0 },
                cpu_watts: dynamic(&self.devices[place.processors()]),
            }
        });
        nodes.collect()
    }
}

impl Building {
    fn cool(&self, most: Watts) -> Loop {
        let capacity = Watts(most.0 * self.capacity_share);
        Loop {
            setpoint: self.supply,
            coolant: JoulesPerKelvin(capacity.0 * self.coolant_per_watt),
            approach: self.approach,
            inlet_max: self.supply_max,
            ..Loop::of(capacity)
        }
    }
}

/// A device of the same make and temperatures, this many times as large.
fn scaled(device: &Device, by: f64) -> Device {
    Device {
        idle: Watts(device.idle.0 * by),
        max: Watts(device.max.0 * by),
        resistance: KelvinPerWatt(device.resistance.0 / by),
        heat_capacity: JoulesPerKelvin(device.heat_capacity.0 * by),
        ..*device
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::trace::Node;

    fn load(nodes: usize) -> Workload {
        let node = |i| Node {
            name: format!("n{i}"),
            cpu_milli: 64_000,
            memory_mib: 1,
            gpus: 2,
            model: Some((i % 2) as u8),
        };
        Workload {
            nodes: (0..nodes).map(node).collect(),
            models: vec!["T4".to_owned(), "X9".to_owned()],
            ..Workload::default()
        }
    }

    fn building() -> Building {
        Building {
            nodes_per_rack: 2,
            racks_per_row: 2,
            loops: 2,
            capacity_share: 0.5,
            cpus_per_node: 128.0,
            supply: Kelvin::from_celsius(25.0),
            supply_max: Kelvin::from_celsius(32.0),
            coolant_per_watt: 40.0,
            approach: Kelvin(4.0),
            rows_alike: false,
        }
    }

    #[test]
    fn nodes_fill_racks_racks_fill_rows_and_rows_share_the_loops() {
        let floor = Floor::new(&load(11), &building());
        assert_eq!(floor.row_of, [0, 0, 1, 1, 2, 2]);
        assert_eq!(floor.loop_of, [0, 0, 0, 0, 1, 1]);
        assert_eq!((floor.nodes[10].rack, floor.nodes[10].coolant), (5, 1));
        assert_eq!(floor.nodes[1].devices(), 3..6);
        assert_eq!(floor.node_of[5], 1);
    }

    #[test]
    fn alike_rows_have_some_of_everything() {
        let alike = Building {
            rows_alike: true,
            ..building()
        };
        let floor = Floor::new(&load(11), &alike);
        assert_eq!(floor.row_of, [0, 1, 2, 0, 1, 2]);
        assert_eq!(floor.loop_of, [0, 0, 1, 0, 0, 1]);
    }

    #[test]
    fn an_unknown_model_is_stood_in_for_and_named() {
        let floor = Floor::new(&load(2), &building());
        assert_eq!(floor.unknown, ["X9"]);
        assert_eq!(floor.devices[3].name, STAND_IN.name);
    }

    #[test]
    fn half_the_cpus_draw_half_the_power_and_get_as_hot() {
        let floor = Floor::new(&load(1), &building());
        let (half, whole) = (&floor.devices[2], &devices::CPU_NODE);
        assert_eq!(half.max.0 * 2.0, whole.max.0);
        let rise = |d: &Device| d.resistance.0 * d.max.0;
        assert!((rise(half) - rise(whole)).abs() < 1e-9);
        assert!((floor.loops[0].capacity.0 - 0.5 * (140.0 + 330.0)).abs() < 1e-9);
    }
}
