//! A universe of shells as its file says it: every key, its unit and its range.

use std::num::NonZero;

use physics::tiles::{Leakage, Operation, TileModel};
use scheduler::Service;
use scheduler::lease::ServiceLevel;
use wire::{
    Fanout, Hexagons, Joules, JoulesPerKelvin, Kelvin, Metres, Nanos, Seconds, SquareMetres, Watts,
    WattsPerKelvin,
};

use super::config::{
    Bounds, Burst, Config, Fault, FaultKind, Flips, Links, Membership, Shell, Thermos, Trunks,
    WorkStream,
};
use crate::universe::{BitsPerSecond, Bytes, PerSecond, Table};

/// More tiles than this on one machine are simulated in aggregate, or not at all.
const TILES_MAX: u64 = 20_000_000;

/// Heat on its way to a cell is kept per step: 8 bytes each, a megabyte a cell at most.
const STEPS_ON_THE_WAY_MAX: u64 = 131_072;

/// A step of the heat model that needs more of its own is refused: nothing else, an interruption included, happens meanwhile.
const SUBSTEPS_MAX: f64 = 1e4;

/// Reads everything but the name, the intent and the kind.
#[must_use]
pub fn read(root: &Table<'_>, name: String, intent: String) -> Config {
    let time = root.table(
        "time",
        "How long the run lasts and how often it is looked at.",
    );
    let end = (time.time("end", "When the run ends."))
        .range(Nanos::SECOND..=Nanos::DAY * 3_660)
        .required();
    let sample = time
        .time(
            "sample",
            "Time between two samples of charts and invariants.",
        )
        .range(Nanos::MILLISECOND..=Nanos::DAY * 30)
        .or_derived(end / 200, "a 200th of `end`");
    let shells: Vec<Shell> = root
        .tables(
            "shell",
            1..=64,
            "One shell around the star, innermost first.",
        )
        .iter()
        .map(shell)
        .collect();
    for pair in 1..shells.len() {
        if shells[pair].distance <= shells[pair - 1].distance {
            root.refuse(
                "shell",
                "each shell must lie farther out than the one before",
            );
        }
    }
    let (fanout, grid) = holons(root, shells.len());
    let heat = root.table("heat", "The heat model.");
    let heat_step = heat
        .time(
            "step",
            "Step of the heat model; results must not depend on it.",
        )
        .range(Nanos::MILLISECOND..=Nanos::HOUR * 6)
        .or(Nanos::MINUTE);
    let config = Config {
        name,
        intent,
        seed: root
            .count(
                "seed",
                "Chance of everything, unless --seed says otherwise.",
            )
            // TOML has no larger numbers.
            .range(..=i64::MAX as u64)
            .or(1),
        end,
        sample,
        fanout,
        grid,
        heat_step,
        thermos: thermos(root),
        membership: root
            .has("membership")
            .then(|| membership(&root.table("membership", "Who watches whom."), shells.len())),
        links: links(root),
        trunks: (root.has("trunks")).then(|| {
            trunks(&root.table("trunks", "Lines between facing cells of different shells."))
        }),
        work: work(root, shells.len()),
        faults: faults(root, shells.len(), end),
        failures_per_second: root
            .table("failures", "Wear: tiles that fail by themselves.")
            .rate("rate", "Chance of a tile's hard failure per time.")
            .range(PerSecond(0.0)..=PerSecond(1.0))
            .or(PerSecond(0.0))
            .0,
        flips: flips(root),
        bounds: bounds(root),
        shells,
    };
    let way = match config.shells.len() {
        // Their absence was complained about.
        0 => Nanos::ZERO,
        shells => config.light_time(0, shells - 1),
    };
    let steps = way.0 / config.heat_step.0;
    if steps > STEPS_ON_THE_WAY_MAX {
        heat.refuse(
            "step",
            format!(
                "the step {} is too short: {steps} of them are under way between the innermost \
                 and the outermost shell, and each cell keeps them; at most {STEPS_ON_THE_WAY_MAX}",
                config.heat_step
            ),
        );
    }
    for shell in &config.shells {
        let substeps = shell.model.substeps(Seconds::from(config.heat_step));
        if substeps > SUBSTEPS_MAX {
            heat.refuse(
                "step",
                format!(
                    "the step {} is too long for {}: with its neighbour_conductance and heat_capacity neighbours even out so fast \
                     that {substeps:.0} steps of the model must be taken in each, expected at most {SUBSTEPS_MAX:.0}",
                    config.heat_step, shell.name
                ),
            );
        }
    }
    if let Err(light_time) = config.lookahead() {
        heat.refuse(
            "step",
            format!(
                "the step {} is too long: light needs {light_time} between two shells, \
                 and more than two steps must fit into that",
                config.heat_step
            ),
        );
    }
    config
}

fn holons(root: &Table<'_>, shells: usize) -> (Fanout, Hexagons) {
    let holons = root.table("holons", "The tree of holons; each shell is a region.");
    let tiles = holons
        .count(
            "tiles_per_cell",
            "Tiles in a cell; its sides must be at least 3 long.",
        )
        .range(9..=65_535)
        .or(1_000);
    let cells = (holons.count("cells_per_cluster", "Cells in a cluster."))
        .range(1..=1_000_000)
        .or(1);
    let clusters = (holons.count("clusters_per_region", "Clusters in a region."))
        .range(1..=1_000_000)
        .or(1);
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let grid = Hexagons::of(small(tiles)).unwrap_or_else(|| {
        holons.refuse(
            "tiles_per_cell",
            format!("{tiles} tiles form no lattice with sides of 3 or more"),
        );
        Hexagons::of(9).expect("three by three")
    });
    let fanout = Fanout::new(
        small(tiles),
        small(cells),
        small(clusters),
        small(shells.max(1) as u64),
    )
    .filter(|fanout| fanout.tiles() <= TILES_MAX)
    .unwrap_or_else(|| {
        holons.refuse(
            "cells_per_cluster",
            format!("more than {TILES_MAX} tiles in all"),
        );
        Fanout::new(small(tiles), 1, 1, small(shells.max(1) as u64)).expect("small")
    });
    (fanout, grid)
}

fn shell(table: &Table<'_>) -> Shell {
    let temperature = Kelvin(3.0)..=Kelvin(2_000.0);
    let limit = (table.temperature(
        "limit",
        "What a tile must not pass; there it cuts its power.",
    ))
    .range(temperature.clone())
    .required();
    let throttle = table
        .temperature("throttle", "Where a tile starts to slow down by itself.")
        .range(temperature.clone())
        .or_derived(limit * 0.975, "97.5 % of `limit`");
    // A limit that is missing or wrong has been complained about already.
    if table.has("limit") && throttle >= limit {
        table.refuse(
            "throttle",
            format!("{throttle} is not below the limit, {limit}"),
        );
    }
    let power = Watts(0.0)..=Watts(1e9);
    let leakage = table.table(
        "leakage",
        "Power that leaks, growing exponentially with temperature.",
    );
    let operation = table.table("operation", "What dynamic power is spent on.");
    let model = TileModel {
        heat_capacity: table
            .heat_capacity("heat_capacity", "Energy that warms a tile by one kelvin.")
            .range(JoulesPerKelvin(1e-6)..=JoulesPerKelvin(1e15))
            .required(),
        radiator: table
            .area("radiator", "Radiating area of a tile.")
            .range(SquareMetres(1e-9)..=SquareMetres(1e12))
            .required(),
        emissivity: table
            .fraction("emissivity", "Of the radiator.")
            .range(0.01..=1.0)
            .or(0.9),
        idle: table
            .power("idle", "Drawn at rest.")
            .range(power.clone())
            .required(),
        dynamic: (table.power(
            "dynamic",
            "Drawn on top of that at full clock and activity.",
        ))
        .range(power.clone())
        .required(),
        operation: Operation {
            energy: operation
                .energy("energy", "What one costs at full clock, by its technology.")
                .range(Joules(1e-24)..=Joules(1.0))
                .or(Operation::STANDARD.energy),
            bits: operation
                .number("bits", "How many it erases, unless it is done reversibly.")
                .range(0.0..=1e6)
                .or(Operation::STANDARD.bits),
            reversible: operation
                .fraction("reversible", "Share of them done so, which erase nothing.")
                .range(0.0..=1.0)
                .or(Operation::STANDARD.reversible),
        },
        clock_exponent: table
            .number(
                "clock_exponent",
                "x in dynamic power ∝ clock^x; 3 where voltage follows frequency.",
            )
            .range(1.0..=4.0)
            .or(3.0),
        leakage: Leakage {
            at_reference: leakage
                .power("power", "At the reference temperature.")
                .range(power.clone())
                .or(Watts(0.0)),
            reference: (leakage.temperature("reference", "Where `power` was measured."))
                .range(temperature.clone())
                .or(Kelvin(300.0)),
            e_fold: leakage
                .temperature_difference("e_fold", "Warming that multiplies leakage by e.")
                .range(Kelvin(1.0)..=Kelvin(1_000.0))
                .or(Kelvin(30.0)),
        },
        neighbour_conductance: table
            .conductance(
                "neighbour_conductance",
                "Heat to each of the six neighbours per kelvin.",
            )
            .range(WattsPerKelvin(0.0)..=WattsPerKelvin(1e12))
            .or(WattsPerKelvin(0.0)),
        sky: table
            .temperature("sky", "What the radiator sees.")
            .range(Kelvin(0.0)..=Kelvin(2_000.0))
            .or(physics::constants::SKY),
    };
    Shell {
        name: table
            .text("name", "What it is called in reports.")
            .required(),
        distance: table
            .length("distance", "From the star.")
            .range(Metres(1e6)..=Metres::from_au(100_000.0))
            .required(),
        model,
        limit,
        throttle,
        initial: (table.temperature("initial", "Of every tile when the run begins."))
            .range(temperature)
            .or_derived(throttle * 0.9, "90 % of `throttle`"),
        coverage: table
            .fraction(
                "coverage",
                "Share of what the shell inside radiates that this one absorbs.",
            )
            .range(0.0..=1.0)
            .or(0.0),
        sunlight: table
            .power("sunlight", "Heat each tile takes up from the star.")
            .range(power)
            .or(Watts(0.0)),
        clock_min: table
            .fraction("clock_min", "The lowest clock a tile can be set to.")
            .range(0.0..=1.0)
            .or(0.1),
        memory: table
            .data("memory", "Of a tile, for work that asks for some.")
            .range(..=Bytes(1 << 50))
            .or(Bytes(128 << 30)),
    }
}

fn thermos(root: &Table<'_>) -> Thermos {
    let table = root.table("thermos", "The backpressure loop between shells.");
    Thermos {
        enabled: table
            .flag(
                "enabled",
                "Without it tiles only cut their power at the limit.",
            )
            .or(true),
        admission: table
            .flag(
                "admission",
                "Whether work is refused that the shells outside have no headroom for.",
            )
            .or(true),
        gain: table
            .rate(
                "gain",
                "Of the loop; derived from the light time if absent.",
            )
            .range(PerSecond(0.0)..=PerSecond(1e3))
            .optional()
            .map(|rate| rate.0),
        setpoint: table
            .fraction(
                "setpoint",
                "The load above which the shells inside slow down.",
            )
            .range(0.1..=1.0)
            .or(0.9),
        period: table
            .time("period", "Time between two measurements of a cell.")
            .range(Nanos::MILLISECOND..=Nanos::DAY)
            .or(Nanos::MINUTE * 10),
        budget_min: table
            .fraction("budget_min", "The heat budget is never lowered below this.")
            .range(0.0..=1.0)
            .or(0.02),
        resolution: table
            .fraction(
                "resolution",
                "A smaller change of budget is kept back until it has grown.",
            )
            .range(0.0..=0.5)
            .or(0.005),
        migrate_below: table
            .fraction(
                "migrate_below",
                "Priority work moves inward below this budget.",
            )
            .range(0.0..=1.0)
            .or(0.7),
        load_quantile: table
            .fraction(
                "load_quantile",
                "The quantile of its tiles' loads that a cell reports.",
            )
            .range(0.0..=1.0)
            .or(0.95),
    }
}

fn membership(table: &Table<'_>, shells: usize) -> Membership {
    let short = Nanos::MILLISECOND..=Nanos::HOUR;
    let period = table
        .time("period", "Each tile probes one other this often.")
        .range(short.clone())
        .or(Nanos::SECOND);
    let part = |of_a_second: u64| period * of_a_second / 1_000;
    let membership = Membership {
        shells: shell_list(
            table,
            shells,
            "The shells that run it, counted outward from 1; all if absent.",
        ),
        cells_per_shell: table
            .count(
                "cells_per_shell",
                "So many cells of each of those run it; all if absent.",
            )
            .range(1..=u64::from(u32::MAX))
            .or(u64::from(u32::MAX)) as u32,
        authenticate: table
            .flag("authenticate", "Whether messages carry tags.")
            .or(true),
        period,
        ack_timeout: table
            .time("ack_timeout", "How long a direct answer may take.")
            .range(short.clone())
            .or_derived(part(200), "a fifth of `period`"),
        window: table
            .time("window", "How long an answer by any way may take.")
            .range(short.clone())
            .or_derived(part(600), "three fifths of `period`"),
        suspicion_min: table
            .time("suspicion_min", "The shortest suspicion.")
            .range(short.clone())
            .or_derived(period * 2, "twice `period`"),
        suspicion_max: table
            .time("suspicion_max", "The longest suspicion.")
            .range(short.clone())
            .or_derived(period * 4, "four times `period`"),
        gossip_interval: table
            .time(
                "gossip_interval",
                "While there is news it is told this often.",
            )
            .range(short)
            .or_derived(part(250), "a quarter of `period`"),
    };
    let Membership {
        ack_timeout,
        window,
        suspicion_min,
        suspicion_max,
        ..
    } = membership;
    if window >= period {
        let reason = format!("must be shorter than `period`, {period}: one probe at a time");
        table.refuse("window", reason);
    }
    if ack_timeout >= window {
        let reason = format!("must be shorter than `window`, {window}: relays need time too");
        table.refuse("ack_timeout", reason);
    }
    if suspicion_min > suspicion_max {
        let reason = format!("must not be longer than `suspicion_max`, {suspicion_max}");
        table.refuse("suspicion_min", reason);
    }
    membership
}

fn links(root: &Table<'_>) -> Links {
    let table = root.table("links", "Links between the tiles of a cell.");
    let delay_min = table
        .time("delay_min", "The shortest one-way delay.")
        .range(Nanos::MICROSECOND..=Nanos::MINUTE)
        .or(Nanos::from_millis(2));
    Links {
        delay_min,
        delay_max: table
            .time("delay_max", "The longest one-way delay.")
            .range(..=Nanos::MINUTE)
            .at_least(delay_min, "`delay_min`")
            .or_derived(delay_min * 10, "ten times `delay_min`"),
        loss: table
            .fraction("loss", "Chance that a message is lost.")
            .range(0.0..=0.9)
            .or(0.0),
        persist: table
            .time("persist", "Until a write is durable.")
            .range(Nanos::ZERO..=Nanos::MINUTE)
            .or(Nanos::from_millis(5)),
    }
}

/// A throttle signal on the line at its longest: 57 bytes in the canonical codec with
/// its envelope, a tag of 16, and 48 of headers that carry it over IPv6 and UDP.
const SIGNAL: Bytes = Bytes(121);

/// A frame of the largest payload with its headers: one IPv6 packet of the least size
/// every link carries whole (RFC 8200 § 5; requirements N1).
const FRAME: Bytes = Bytes(1_280);

/// How many messages of a class wait at a trunk before it refuses more.
const TRUNK_WAITING_MAX: usize = 1_024;

fn trunks(table: &Table<'_>) -> Trunks {
    let rate = table
        .bandwidth("rate", "How fast each is, one way.")
        .range(BitsPerSecond(1_000)..=BitsPerSecond(1_000_000_000_000_000))
        .required();
    let frame = table
        .data(
            "frame",
            "The longest piece that has the line without a break.",
        )
        .range(Bytes(64)..=Bytes(1 << 24))
        .or(FRAME);
    Trunks {
        line: transit::line::Config {
            bits_per_second: NonZero::new(rate.0).unwrap_or(NonZero::<u64>::MIN),
            frame_bytes: NonZero::new(frame.0 as u32).unwrap_or(NonZero::<u32>::MIN),
            waiting_max: TRUNK_WAITING_MAX,
        },
        signal: SIGNAL,
        state: table
            .data(
                "state",
                "What each shard of work takes along when it is passed on.",
            )
            .range(Bytes(0)..=Bytes(1 << 50))
            .or(Bytes(1 << 20)),
    }
}

fn shell_number(table: &Table<'_>, shells: usize) -> usize {
    let number = table
        .count("shell", "Which shell, counted outward from 1.")
        .range(1..)
        .up_to(shells.max(1) as u64, "the number of shells")
        .required();
    number as usize - 1
}

/// Shells by number, every one of them if none is listed.
fn shell_list(table: &Table<'_>, shells: usize, doc: &'static str) -> Vec<usize> {
    let shell = table.count("shells", doc).range(1..);
    let shell = shell.up_to(shells.max(1) as u64, "the number of shells");
    let listed = shell.list(0..=64);
    if listed.is_empty() {
        return (0..shells).collect();
    }
    listed.into_iter().map(|shell| shell as usize - 1).collect()
}

fn work(root: &Table<'_>, shells: usize) -> Vec<WorkStream> {
    let streams = root.tables("work", 0..=100, "Work that keeps coming.");
    let read = |table: &Table<'_>| {
        let burst = table.has("burst").then(|| {
            let table = table.table("burst", "A regular rush.");
            let every = (table.time("every", "From the start of one to the start of the next."))
                .range(Nanos::SECOND..=Nanos::DAY * 366)
                .required();
            Burst {
                every,
                lasts: table
                    .time("lasts", "How long each lasts.")
                    .range(Nanos::SECOND..)
                    .up_to(every, "`every`")
                    .required(),
                factor: table
                    .number("factor", "By how much more work arrives meanwhile.")
                    .range(0.0..=100.0)
                    .required(),
            }
        });
        let hot = table
            .choice(
                "kind",
                &[("hot", true), ("cold", false)],
                "Hot and fast, or cold and deep.",
            )
            .required();
        let by_kind = if hot {
            ServiceLevel::LatencySensitive
        } else {
            ServiceLevel::BestEffort
        };
        let levels = ServiceLevel::ALL.map(|level| (level.name(), level));
        let level = table
            .choice("service", &levels, "What its leases promise.")
            .or_derived(by_kind, "\"latency-sensitive\" for hot work");
        let by_level = match level {
            ServiceLevel::LatencySensitive => 0.8,
            ServiceLevel::BestEffort => 0.0,
        };
        WorkStream {
            hot,
            service: Service {
                level,
                speed: table
                    .fraction("promised", "Share of full clock promised, on average.")
                    .range(0.0..=1.0)
                    .or_derived(by_level, "80 % if latency-sensitive, else nothing"),
            },
            memory: table
                .data("memory", "What it uses on each tile.")
                .range(..=Bytes(1 << 50))
                .or(Bytes(0)),
            shells: shell_list(
                table,
                shells,
                "The shells in which it arrives, counted outward from 1; all if absent.",
            ),
            utilisation: table
                .fraction(
                    "utilisation",
                    "Share of those shells' tiles it keeps busy on average.",
                )
                .range(0.0..=4.0)
                .or(0.5),
            shards: table
                .count("shards", "Tiles each piece takes at once, on average.")
                .range(1..=65_535)
                .or(100) as u32,
            activity: table
                .fraction("activity", "Share of each tile's compute it uses.")
                .range(0.0..=1.0)
                .or(1.0),
            term: (table.time("term", "How long a piece runs, on average."))
                .range(Nanos::SECOND..=Nanos::DAY * 3_660)
                .or(Nanos::HOUR * 12),
            priority: table
                .count("priority", "Higher moves inward first; 0 never does.")
                .range(0..=9)
                .or(0) as u8,
            burst,
            constant: table
                .flag("constant", "All of it arrives at the start, once.")
                .or(false),
        }
    };
    streams.iter().map(read).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Blow {
    Burst,
    Partition,
    Radiators,
}

fn faults(root: &Table<'_>, shells: usize, end: Nanos) -> Vec<Fault> {
    let kinds = [
        ("burst", Blow::Burst),
        ("partition", Blow::Partition),
        ("radiators", Blow::Radiators),
    ];
    let read = |table: &Table<'_>| {
        let at = (table.time("at", "When it happens."))
            .up_to(end.max(Nanos(1)), "`time.end`")
            .required();
        let share = table
            .fraction(
                "share",
                "Share of tiles (burst: of all; radiators: of the shell) or of cells (partition).",
            )
            .range(0.0..=1.0)
            .required();
        let kind = match table.choice("kind", &kinds, "What goes wrong.").required() {
            Blow::Burst => FaultKind::Burst { share },
            Blow::Partition => FaultKind::Partition {
                share,
                lasts: (table.time("lasts", "For how long."))
                    .range(Nanos::MILLISECOND..=Nanos::DAY * 366)
                    .required(),
            },
            Blow::Radiators => FaultKind::Radiators {
                shell: shell_number(table, shells),
                share,
                remaining: table
                    .fraction("remaining", "What is left of each radiator.")
                    .range(0.0..=1.0)
                    .required(),
            },
        };
        Fault { at, kind }
    };
    root.tables("fault", 0..=1_000, "Something that goes wrong.")
        .iter()
        .map(read)
        .collect()
}

fn flips(root: &Table<'_>) -> Flips {
    let table = root.table(
        "bit_flips",
        "Bits that flip by themselves, in messages under way and in memory.",
    );
    let rate = |key, doc| {
        let rate = table.rate(key, doc).range(PerSecond(0.0)..=PerSecond(1.0));
        rate.or(PerSecond(0.0)).0
    };
    Flips {
        messages: table
            .fraction("messages", "Chance that a message loses one bit under way.")
            .range(0.0..=1.0)
            .or(0.0),
        corrected_per_second: rate(
            "corrected",
            "How often a tile's memory loses a single bit, which its code corrects.",
        ),
        uncorrectable_per_second: rate(
            "uncorrectable",
            "How often it loses more than its code corrects; the tile cuts its power.",
        ),
    }
}

fn bounds(root: &Table<'_>) -> Bounds {
    let table = root.table("bounds", "What must hold for the run to be good.");
    Bounds {
        runaway_share: table
            .fraction(
                "runaway_share",
                "Heat may cost at most this share of a shell's tiles.",
            )
            .or(0.01),
        detection_p99: table
            .time(
                "detection_p99",
                "99 of 100 cell-mates know of a failure within this.",
            )
            .or(Nanos::from_secs(10)),
        locality: table
            .fraction(
                "locality",
                "Share of messages that stay inside their cluster.",
            )
            .or(0.9999),
        energy_error: table
            .fraction(
                "energy_error",
                "Energy that may go missing, of what came in.",
            )
            .or(1e-6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scheduler::Signal;
    use wire::{Class, Encode, Frame, Instant, Tile, Version};

    #[test]
    fn a_signal_on_the_line_is_as_long_as_is_reckoned() {
        let mut payload = Vec::new();
        Signal {
            layer: u8::MAX,
            load: f64::MAX,
            measured: Instant::END,
        }
        .encode(&mut payload);
        let mut frame = Vec::new();
        Frame {
            version: Version(u16::MAX),
            class: Class::A,
            protocol: u8::MAX,
            source: Tile(u64::MAX),
            destination: Tile(u64::MAX),
            sequence: u64::MAX,
            payload,
        }
        .encode(&mut frame);
        assert_eq!(frame.len() as u64 + 16 + 48, SIGNAL.0);
    }
}
