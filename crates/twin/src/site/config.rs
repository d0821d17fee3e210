//! The keys of a universe file with `kind = "site"`.

use std::num::NonZeroU32;

use scheduler::site::Overrun;
use wire::{Kelvin, Nanos};

use super::floor::Building;
use super::invariant::Invariant;
use super::jobs::Source;
use super::plan::{self, Group, Named, Neighbour, Network, Storage};
use crate::universe::Table;

/// A site to rehearse.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The universe's name.
    pub name: String,
    /// What it is for, in a sentence.
    pub intent: String,
    /// File names of the lists in the trace's folder; none if the universe describes its
    /// own nodes.
    pub trace: Option<Files>,
    /// Every pod of the list comes this many times.
    pub copies: NonZeroU32,
    /// The nodes, where no trace lists them.
    pub groups: Vec<Group>,
    /// The work, where no trace lists it.
    pub sources: Vec<Source>,
    /// Who shares the site.
    pub tenants: Vec<Named>,
    /// What gangs wait for.
    pub network: Network,
    /// What everybody reads from and writes to; without limit if none.
    pub storage: Option<Storage>,
    /// When the rehearsal stops; by itself with the last departure of the trace.
    pub end: Option<Nanos>,
    /// How finely time is cut.
    pub pace: Pace,
    /// How nodes are set up and cooled.
    pub building: Building,
    /// The weather.
    pub outside: Outside,
    /// What devices do by themselves.
    pub firmware: Firmware,
    /// How work is placed.
    pub scheduler: Policy,
    /// What breaks.
    pub faults: Vec<LoopFault>,
    /// Whose heat comes on top of ours.
    pub neighbours: Vec<Neighbour>,
    /// What must hold.
    pub invariants: Vec<Invariant>,
}

/// File names within the trace's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The list of nodes.
    pub nodes: String,
    /// The list of pods.
    pub pods: String,
}

/// How finely time is cut. Jobs come and go at their exact times whatever this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two looks at temperatures and meters.
    pub step: Nanos,
    /// The same while a coolant warms up or a device is near its limits. Guards answer
    /// temperature with power; looked at more rarely than a fifth of a device's time
    /// constant (25 s), they swing.
    pub step_hot: Nanos,
    /// The same while nothing changes and everything is far from its limits.
    pub step_quiet: Nanos,
    /// Between two samples.
    pub sample: Nanos,
    /// The same while a loop is overloaded.
    pub sample_hot: Nanos,
}

/// Wet-bulb temperature outside: a daily wave, warmest at three in the afternoon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outside {
    /// Its mean.
    pub mean: Kelvin,
    /// How far it goes above and below.
    pub swing: Kelvin,
}

/// What devices do by themselves, whoever schedules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Firmware {
    /// The lowest clock, as a share of full.
    pub clock_min: f64,
    /// x in P ∝ clockˣ.
    pub clock_exponent: f64,
    /// How much devices of a kind differ in thermal resistance, at most, either way.
    pub spread: f64,
    /// What devices do when they are too hot.
    pub protection: Protection,
}

/// What devices do at the temperature where they begin to slow themselves down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Protection {
    /// Follow the temperature in proportion, as [`scheduler::Guard`] does.
    Guard,
    /// What their makers build in: one lower clock, until they have cooled. NVIDIA's "HW
    /// thermal slowdown" is "reducing the core clocks by a factor of 2 or more" (NVML API
    /// reference, `nvmlClocksEventReasons`).
    Hardware {
        /// That clock, as a share of full.
        clock: f64,
        /// How far they must have cooled, in kelvin.
        hysteresis: Kelvin,
    },
}

/// How work is placed; see [`scheduler::site`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// How one node is preferred to another, heat aside.
    pub placement: scheduler::Policy,
    /// Whether the scheduler looks at heat.
    pub heat_aware: bool,
    /// What a fully loaded loop adds to a node's score.
    pub heat_weight: f64,
    /// The load above which a loop gets no more work and its nodes slow down.
    pub setpoint: f64,
    /// Most jobs that wait.
    pub queue_max: usize,
    /// Most jobs that one may overtake.
    pub overtake_max: usize,
    /// How long a job waits until nobody overtakes it.
    pub patience: Nanos,
    /// What becomes of a job that runs past its limit.
    pub overrun: Overrun,
    /// A job that was preempted this often is not preempted any more.
    pub preempt_max: u8,
}

/// A cooling loop fails and is repaired.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoopFault {
    /// Which loop; drawn from the seed if none.
    pub coolant: Option<u16>,
    /// When.
    pub at: Nanos,
    /// For how long.
    pub lasts: Nanos,
    /// Share of its capacity that is left.
    pub capacity_left: f64,
    /// How long it takes until no more is left, and to come back.
    pub takes: Nanos,
}

#[derive(Clone, Copy, PartialEq)]
enum FaultKind {
    CoolingLoop,
    Neighbour,
}

/// J/(kg K) of water at 25 °C, a litre of which is taken to weigh a kilogram.
/// Source: CRC Handbook of Chemistry and Physics, 97th ed., 6-1 (4,181 J/(kg K)).
const WATER: f64 = 4_181.0;

/// Reads everything of a site but the name, the intent and the kind.
#[must_use]
pub fn schema(root: &Table<'_>, name: String, intent: String) -> Config {
    let groups = plan::groups(root);
    let trace = root.table("trace", "The lists in the folder given by --trace.");
    let files = (groups.is_empty() || trace.is_present()).then(|| Files {
        nodes: trace
            .text("nodes", "File name of the list of nodes.")
            .required(),
        pods: trace
            .text("pods", "File name of the list of pods.")
            .required(),
    });
    let copies = trace
        .count("copies", "How many times each pod comes.")
        .range(1..=1_000)
        .or(1);

    let time = root.table("time", "How long, and how finely.");
    let end = time
        .time(
            "end",
            "When the rehearsal stops; without it, with the last departure of the trace.",
        )
        .range(Nanos::MINUTE..=Nanos::DAY * 10_000)
        .optional();
    let within = Nanos::SECOND..=Nanos::DAY;
    let pace = Pace {
        step: time
            .time("step", "Between two looks at temperatures and meters.")
            .range(within.clone())
            .or(Nanos::MINUTE),
        step_hot: time
            .time(
                "step_hot",
                "The same while a coolant warms up or a device is near its limits.",
            )
            .range(within.clone())
            .or(Nanos::from_secs(5)),
        step_quiet: time
            .time(
                "step_quiet",
                "The same while nothing changes and nothing is hot; a multiple of step.",
            )
            .range(within.clone())
            .or(Nanos::MINUTE * 15),
        sample: time
            .time("sample", "Between two samples for charts.")
            .range(within.clone())
            .or(Nanos::HOUR),
        sample_hot: time
            .time("sample_hot", "The same while a loop is overloaded.")
            .range(within)
            .or(Nanos::MINUTE * 5),
    };
    if !pace.step_quiet.0.is_multiple_of(pace.step.0) {
        time.refuse("step_quiet", "must be a multiple of `step`");
    }

    let site = root.table("site", "How nodes are set up.");
    let cooling = root.table("cooling", "How heat leaves.");
    let per_rack = site
        .count("nodes_per_rack", "Nodes in a rack.")
        .range(1..=1_000);
    let per_row = site
        .count("racks_per_row", "Racks in a row.")
        .range(1..=1_000);
    let loops = cooling
        .count(
            "loops",
            "Cooling loops; rows are shared out evenly over them.",
        )
        .range(1..=1_000)
        .or(10) as u16;
    let litres = cooling
        .number(
            "coolant",
            "Litres of water per kilowatt of a loop's capacity.",
        )
        .range(0.1..=1_000.0)
        .or(10.0);
    let building = Building {
        nodes_per_rack: per_rack.or(20) as u32,
        racks_per_row: per_row.or(8) as u32,
        loops,
        capacity_share: cooling
            .fraction("capacity", "Heat a loop can carry, as a share of the most its nodes draw.")
            .range(0.01..=10.0)
            .or(0.75),
        cpus_per_node: site
            .number("cpus_per_node", "CPUs of a node whose processors draw what the device CPU-NODE does; others in proportion.")
            .range(1.0..=10_000.0)
            .or(128.0),
        supply: cooling
            .temperature("supply", "Supply temperature the plants aim for.")
            .range(Kelvin::from_celsius(5.0)..=Kelvin::from_celsius(60.0))
            .or(Kelvin::from_celsius(25.0)),
        supply_max: cooling
            .temperature("supply_max", "Warmest supply the equipment accepts.")
            .range(Kelvin::from_celsius(5.0)..=Kelvin::from_celsius(80.0))
            .or(Kelvin::from_celsius(32.0)),
        coolant_per_watt: litres * WATER / 1_000.0,
        approach: cooling
            .temperature_difference("approach", "How far above the outside wet bulb a plant's best is.")
            .range(Kelvin(0.0)..=Kelvin(30.0))
            .or(Kelvin(4.0)),
        rows_alike: site
            .flag("rows_alike", "Whether racks are dealt out to the rows in turn; else a row fills after the other.")
            .or(false),
    };
    let outside = Outside {
        mean: cooling
            .temperature("outside_mean", "Mean wet-bulb temperature outside.")
            .range(Kelvin::from_celsius(-30.0)..=Kelvin::from_celsius(35.0))
            .or(Kelvin::from_celsius(18.0)),
        swing: cooling
            .temperature_difference("outside_swing", "How far it goes above and below in a day.")
            .range(Kelvin(0.0)..=Kelvin(30.0))
            .or(Kelvin(5.0)),
    };

    let device = root.table("device", "What devices do by themselves.");
    let firmware = Firmware {
        clock_min: device
            .fraction("clock_min", "Lowest clock, as a share of full.")
            .range(0.01..=1.0)
            .or(0.3),
        clock_exponent: device
            .number(
                "clock_exponent",
                "x in: power beyond idling is in proportion to clock to the x.",
            )
            .range(1.0..=5.0)
            .or(3.0),
        spread: device
            .fraction(
                "spread",
                "How much devices of a kind differ in thermal resistance, either way.",
            )
            .range(0.0..=0.5)
            .or(0.05),
        protection: Protection::Guard,
    };

    let hardware = Protection::Hardware {
        clock: device
            .fraction(
                "slowdown",
                "The clock of a device whose hardware slows it down.",
            )
            .range(0.01..=1.0)
            .or(0.5),
        hysteresis: device
            .temperature_difference("slowdown_until", "How far it must have cooled.")
            .range(Kelvin(0.1)..=Kelvin(50.0))
            .or(Kelvin(5.0)),
    };
    let firmware = Firmware {
        protection: device
            .choice(
                "protection",
                &[("guard", Protection::Guard), ("hardware", hardware)],
                "What a device does when it is too hot: lower its clock in proportion, or to `slowdown` at once.",
            )
            .or(Protection::Guard),
        ..firmware
    };

    let scheduler = root.table("scheduler", "How work is placed.");
    let placements = scheduler::Policy::ALL.map(|policy| (policy.name(), policy));
    let policy = Policy {
        placement: scheduler
            .choice("policy", &placements, "How one node is preferred to another, heat aside.")
            .or(scheduler::Policy::BestFit),
        heat_aware: scheduler
            .flag("heat_aware", "Whether it looks at heat: places by headroom, slows, moves and parks.")
            .or(true),
        heat_weight: scheduler
            .number("heat_weight", "What a fully loaded loop adds to a node's score, which is between 0 and 1 for fit.")
            .range(0.0..=100.0)
            .or(0.25),
        setpoint: scheduler
            .fraction("setpoint", "Load above which a loop gets no more work and its nodes slow down.")
            .range(0.1..=1.0)
            .or(0.9),
        queue_max: scheduler
            .count("queue_max", "Most jobs that wait; more are refused.")
            .range(0..=10_000_000)
            .or(100_000) as usize,
        overtake_max: scheduler
            .count("overtake_max", "Most earlier jobs that one may overtake.")
            .range(0..=10_000)
            .or(32) as usize,
        patience: scheduler
            .time("patience", "How long a job waits until nobody overtakes it any more.")
            .range(Nanos::ZERO..=Nanos::DAY * 365)
            .or(Nanos::HOUR),
        overrun: scheduler
            .choice(
                "overrun",
                &[("ended", Overrun::Ended), ("tolerated", Overrun::Tolerated)],
                "What becomes of a job that runs past its limit.",
            )
            .or(Overrun::Ended),
        preempt_max: scheduler
            .count("preempt_max", "A job that was preempted this often is not preempted any more.")
            .range(0..=255)
            .or(3) as u8,
    };

    let faults = root.tables("fault", 0..=1_000, "Something breaks.");
    let (mut loop_faults, mut neighbours) = (Vec::new(), Vec::new());
    for fault in &faults {
        let kinds = [
            ("cooling_loop", FaultKind::CoolingLoop),
            ("neighbour", FaultKind::Neighbour),
        ];
        let kind = fault.choice("kind", &kinds, "What breaks.").required();
        if kind == FaultKind::Neighbour {
            neighbours.push(plan::neighbour(fault));
            continue;
        }
        let coolant = fault
            .count(
                "loop",
                "Which loop, from 0; drawn from the seed without it.",
            )
            .range(0..=999)
            .optional();
        if coolant.is_some_and(|c| c >= loops.into()) {
            fault.refuse("loop", format!("there are {loops} loops, counted from 0"));
        }
        loop_faults.push(LoopFault {
            coolant: coolant.map(|c| c as u16),
            at: fault.time("at", "When it breaks.").required(),
            lasts: fault
                .time("lasts", "For how long it stays broken.")
                .required(),
            capacity_left: fault
                .fraction("capacity_left", "Share of its capacity that is left.")
                .range(0.0..=1.0)
                .or(0.0),
            takes: fault
                .time(
                    "takes",
                    "How long it takes until no more is left, and to come back.",
                )
                .range(Nanos::ZERO..=Nanos::HOUR)
                .or(Nanos::ZERO),
        });
    }

    let words = Invariant::ALL.map(|i| (i.name(), i));
    let invariants = if root.has("invariants") {
        root.choice(
            "invariants",
            &words,
            "What must hold; if not given, all that hold at a site whose plant may fail.",
        )
        .list(0..=words.len())
    } else {
        Invariant::USUAL.to_vec()
    };
    Config {
        name,
        intent,
        copies: NonZeroU32::new(copies as u32).expect("the range begins at one"),
        end,
        pace,
        building,
        outside,
        firmware,
        scheduler: policy,
        faults: loop_faults,
        neighbours,
        invariants,
        sources: plan::sources(root),
        tenants: plan::tenants(root, files.is_none().then(|| plan::gpus(&groups))),
        groups,
        trace: files,
        network: plan::network(root),
        storage: plan::storage(root),
    }
}
