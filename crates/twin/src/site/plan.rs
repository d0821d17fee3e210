//! The keys of a universe that describes its own site: what stands there, who shares it,
//! what work comes, and what besides computing slows it down.

use std::num::NonZeroU32;
use std::path::PathBuf;

use scheduler::ledger::GPUS_MAX;
use scheduler::site::{Resources, Tenant};
use wire::{Nanos, Watts};

use super::jobs::{Format, Habit, Source};
use super::trace::{CPU_MILLI_MAX, MEMORY_MIB_MAX, Node};
use crate::universe::{Bytes, Table};

/// Nodes that are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What they are called, with a number behind it.
    pub name: String,
    /// How many.
    pub count: NonZeroU32,
    /// Thousandths of CPU of each.
    pub cpu_milli: u32,
    /// Memory of each.
    pub memory_mib: u32,
    /// GPUs of each.
    pub gpus: u8,
    /// Their model; empty without GPUs.
    pub model: String,
    /// Processors, memory and fans, in devices CPU-NODE; by its CPUs if not said.
    pub host: Option<f64>,
}

/// A tenant by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// As lists of jobs name it.
    pub name: String,
    /// Its rights.
    pub rights: Tenant,
}

/// How far apart a gang may be without waiting for the network, and what it waits
/// beyond that.
///
/// Leaf switches are per rack, spines per row, a core above. Within a rack every node
/// has its full bandwidth; each level above is narrower by a factor, and what a gang
/// communicates takes that many times as long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Network {
    /// How many times as long communication takes across racks of a row.
    pub across_racks: f64,
    /// The same across rows.
    pub across_rows: f64,
}

/// The parallel file system that all nodes share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Storage {
    /// What it carries, in bytes a second.
    pub bytes_per_second: f64,
}

/// A machine on the same plant. What it draws beyond what its own part of the plant
/// carries is missing from ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// Its recorded power.
    pub record: PathBuf,
    /// When it first takes from us.
    pub at: Nanos,
    /// For how long.
    pub lasts: Nanos,
    /// Where the record is entered.
    pub from: Nanos,
    /// What its own part of the plant carries.
    pub above: Watts,
    /// The share of what is above that is missing from our loops, all together.
    pub share: f64,
    /// What the pipe between its part of the plant and ours carries.
    pub most: Watts,
    /// The time constant of the plant: its basins and pipes hold water that must warm first.
    pub inertia: Nanos,
}

impl Group {
    /// Its nodes, given the number of its model.
    pub(super) fn nodes(&self, model: Option<u8>) -> impl Iterator<Item = Node> + '_ {
        (0..self.count.get()).map(move |i| Node {
            name: format!("{}-{i:03}", self.name),
            cpu_milli: self.cpu_milli,
            memory_mib: self.memory_mib,
            gpus: self.gpus,
            model,
        })
    }
}

const MIB: f64 = 1_048_576.0;

fn mib(bytes: Bytes) -> u32 {
    (bytes.0 as f64 / MIB) as u32
}

/// `[nodes.NAME]`.
pub(super) fn groups(root: &Table<'_>) -> Vec<Group> {
    let tables = root.named_tables("nodes", "Nodes that are alike, if no trace lists them.");
    let group = |(name, table): (String, Table<'_>)| {
        let count = table.count("count", "How many.").range(1..=100_000);
        let gpus = table
            .count("gpus", "GPUs of each.")
            .range(0..=GPUS_MAX as u64)
            .or(0);
        let model = table.text("model", "Their model, as `physics::devices` names it.");
        let model = model.or(String::new());
        if gpus > 0 && model.is_empty() {
            table.refuse("model", "must be said of nodes with GPUs");
        } else if !model.is_empty() && physics::devices::lookup(&model).is_none() {
            let known = physics::devices::ALL.map(|d| d.name).join(", ");
            table.refuse("model", format!("is none of {known}"));
        }
        let cpus = table.count("cpus", "CPUs of each.");
        let memory = table.data("memory", "Memory of each.");
        Group {
            name,
            count: NonZeroU32::new(count.required() as u32).unwrap_or(NonZeroU32::MIN),
            cpu_milli: cpus.range(1..=CPU_MILLI_MAX / 1_000).required() as u32 * 1_000,
            memory_mib: mib(memory
                .range(Bytes(1 << 20)..=Bytes(MEMORY_MIB_MAX << 20))
                .required()),
            gpus: gpus as u8,
            model,
            host: table
                .number("host", "What processors, memory and fans of each draw, in devices CPU-NODE; by its CPUs if not said.")
                .range(0.01..=100.0)
                .optional(),
        }
    };
    tables.into_iter().map(group).collect()
}

/// `[work.NAME]`.
pub(super) fn sources(root: &Table<'_>) -> Vec<Source> {
    let tables = root.named_tables("work", "A list of jobs, and what it does not tell.");
    tables
        .into_iter()
        .map(|(name, t)| source(name, &t))
        .collect()
}

fn source(name: String, table: &Table<'_>) -> Source {
    let format = table
        .choice(
            "format",
            &Format::ALL,
            "How the list is written; found out if not said.",
        )
        .optional();
    let days = Nanos::ZERO..=Nanos::DAY * 10_000;
    let factor = 1e-3..=1e3;
    let mut source = Source {
        format,
        path: table
            .text("path", "The list in the folder given by --trace, or a folder in it of one list for each tenant.")
            .required()
            .into(),
        from: table
            .time("from", "Where the list is entered; what would still run then is there at the beginning.")
            .range(days.clone())
            .or(Nanos::ZERO),
        speed: table
            .number("speed", "How many times as fast jobs come as in the list.")
            .range(factor.clone())
            .or(1.0),
        faster: table
            .number("faster", "By how much run times are shorter than in the list: the site's devices over those of the list.")
            .range(factor)
            .or(1.0),
        copies: table
            .count("copies", "How many times the list comes.")
            .range(1..=1_000)
            .or(1) as u32,
        stagger: table
            .time("stagger", "How much later in the list each copy enters it.")
            .range(days)
            .or(Nanos::ZERO),
        cpu_milli_per_gpu: (table
            .number("cpus_per_gpu", "CPUs that come with a GPU, if the list does not say.")
            .range(0.0..=1_000.0)
            .or(12.0)
            * 1_000.0) as u32,
        memory_mib_per_gpu: mib(table
            .data("memory_per_gpu", "Memory that comes with a GPU, likewise.")
            .range(Bytes(0)..=Bytes(1 << 44))
            .or(Bytes(64 << 30))),
        overestimate: table
            .number("overestimate", "The limit owners give over the run time, if the list has none; no limit if not said.")
            .range(1.0..=1e6)
            .optional(),
        any_model: table
            .flag("any_model", "Whether a GPU model that the site has not is any model.")
            .or(false),
        priority: table
            .count("priority", "The priority of its jobs; higher goes first, and may preempt best effort.")
            .range(0..=255)
            .or(0) as u8,
        habit: Habit::default(),
        busy: table
            .text("busy", "How busy GPUs were measured to be, a list in the folder with the columns util, in per cent, and cdf: each job draws from it, and power goes by it. As busy as claimed if not said.")
            .optional()
            .map(Into::into),
        name,
    };
    source.habit = Habit {
        reads: table
            .bandwidth("reads", "What each GPU reads from the file system, while it runs.")
            .optional()
            .map_or(0.0, |b| b.0 as f64 / 8.0),
        checkpoint_bytes: table
            .data("checkpoint_size", "What each GPU writes at a checkpoint.")
            .or(Bytes(0))
            .0 as f64,
        checkpoint: table
            .time("checkpoint", "Work between two checkpoints; a job that is stopped goes on from the last. None if not said.")
            .range(Nanos::SECOND..=Nanos::DAY * 100)
            .optional(),
        communication: table
            .fraction("communication", "Share of a step that a gang of several nodes communicates, within a rack.")
            .range(0.0..=1.0)
            .or(0.0),
    };
    source
}

/// GPUs of all of them.
pub(super) fn gpus(groups: &[Group]) -> u64 {
    let of = |group: &Group| u64::from(group.count.get()) * u64::from(group.gpus);
    groups.iter().map(of).sum()
}

/// `[tenant.NAME]`, at a site with so many GPUs if the universe says how many.
pub(super) fn tenants(root: &Table<'_>, there_are: Option<u64>) -> Vec<Named> {
    let tables = root.named_tables(
        "tenant",
        "Who shares the site; whoever is not named has weight 1 and no guarantee.",
    );
    let tenant = |(name, table): (String, Table<'_>)| {
        // Whoever is promised GPUs is promised what they need besides.
        let gpus = |gpus: u64| match gpus {
            0 => Resources::NONE,
            _ => Resources {
                gpu_milli: gpus * 1_000,
                ..Resources::UNBOUNDED
            },
        };
        let weight = table
            .number(
                "weight",
                "Its part of what is shared, against the others' weights.",
            )
            .range(1e-3..=1e6)
            .or(1.0);
        let quota = table
            .count(
                "gpus",
                "GPUs it is guaranteed: lent while it does not use them, taken back when it does.",
            )
            .range(0..=10_000_000)
            .or(0);
        if let Some(there_are) = there_are.filter(|&there_are| quota > there_are) {
            let reason = format!("the site has {there_are} GPUs, and can guarantee no more");
            table.refuse("gpus", reason);
        }
        let ceiling = table
            .count("gpus_max", "GPUs it never exceeds.")
            .range(0..=10_000_000)
            .optional();
        let ceiling = ceiling.map_or(Resources::UNBOUNDED, |most| Resources {
            gpu_milli: most * 1_000,
            ..Resources::UNBOUNDED
        });
        Named {
            name,
            rights: Tenant {
                weight,
                quota: gpus(quota),
                ceiling,
            },
        }
    };
    tables.into_iter().map(tenant).collect()
}

/// `[network]`.
pub(super) fn network(root: &Table<'_>) -> Network {
    let table = root.table(
        "network",
        "What a gang waits for that does not fit in a rack.",
    );
    let times = 1.0..=1_000.0;
    Network {
        across_racks: table
            .number(
                "across_racks",
                "How many times as long communication takes across the racks of a row.",
            )
            .range(times.clone())
            .or(1.0),
        across_rows: table
            .number("across_rows", "The same across rows.")
            .range(times)
            .or(1.0),
    }
}

/// `[storage]`.
pub(super) fn storage(root: &Table<'_>) -> Option<Storage> {
    let table = root.table("storage", "The parallel file system.");
    let bandwidth = table.bandwidth(
        "bandwidth",
        "What it carries, reading and writing together; without limit if not said.",
    );
    let bits = bandwidth.positive().optional()?;
    Some(Storage {
        bytes_per_second: bits.0 as f64 / 8.0,
    })
}

/// A `[[fault]]` with `kind = "neighbour"`.
pub(super) fn neighbour(fault: &Table<'_>) -> Neighbour {
    Neighbour {
        record: fault
            .text("record", "The neighbour's power over time, in the folder given by --trace.")
            .required()
            .into(),
        at: fault.time("at", "When it breaks.").required(),
        lasts: fault.time("lasts", "For how long it stays broken.").required(),
        from: fault
            .time("from", "Where the neighbour's record is entered.")
            .range(Nanos::ZERO..=Nanos::DAY * 10_000)
            .or(Nanos::ZERO),
        above: fault
            .power("above", "What the neighbour's own part of the plant carries.")
            .range(Watts(0.0)..=Watts(1e12))
            .or(Watts(0.0)),
        share: fault
            .fraction("share", "The share of what is above that is missing from our loops, all of them together, in proportion to what they carry.")
            .range(0.0..=1.0)
            .or(1.0),
        most: fault
            .power("most", "What the pipe between its part of the plant and ours carries: more is never missing.")
            .range(Watts(0.0)..=Watts(1e12))
            .optional()
            .unwrap_or(Watts(f64::INFINITY)),
        inertia: fault
            .time("inertia", "Time constant of the plant: its water must warm first.")
            .range(Nanos::ZERO..=Nanos::HOUR)
            .or(Nanos::ZERO),
    }
}
