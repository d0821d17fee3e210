//! What a universe of shells is, in numbers.

use std::sync::Arc;

use physics::tiles::TileModel;
use scheduler::admission::Outward;
use scheduler::{Descriptor, Service, cell, guard, thermos};
use trust::Key;
use wire::{Cell, Fanout, Hexagons, Kelvin, Level, Metres, Nanos, Tile, Watts};

use crate::universe::Bytes;

/// A universe of concentric shells, one region of the holon tree each.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the run is called.
    pub name: String,
    /// What it is meant to show, in a sentence.
    pub intent: String,
    /// Chance of everything, unless the command line says otherwise.
    pub seed: u64,
    /// How long it runs.
    pub end: Nanos,
    /// Time between two samples of the charts.
    pub sample: Nanos,
    /// The holon tree; each region is a shell.
    pub fanout: Fanout,
    /// Each cell's lattice.
    pub grid: Hexagons,
    /// Innermost first, one per region.
    pub shells: Vec<Shell>,
    /// Step of the heat model.
    pub heat_step: Nanos,
    /// The backpressure loop.
    pub thermos: Thermos,
    /// Who watches whom, if anybody does.
    pub membership: Option<Membership>,
    /// What lies between tiles of a cell.
    pub links: Links,
    /// Lines between facing cells of different shells; none if they have no limit.
    pub trunks: Option<Trunks>,
    /// What there is to do.
    pub work: Vec<WorkStream>,
    /// What goes wrong, and when.
    pub faults: Vec<Fault>,
    /// Chance of a tile's hard failure, per second.
    pub failures_per_second: f64,
    /// Bits that flip.
    pub flips: Flips,
    /// What must hold.
    pub bounds: Bounds,
}

/// A Julian year.
const YEAR_SECONDS: f64 = 31_557_600.0;

/// Whole mebibytes, as descriptors count them.
pub(super) fn mebibytes(bytes: Bytes) -> u32 {
    u32::try_from(bytes.0 >> 20).unwrap_or(u32::MAX)
}

/// One shell.
#[derive(Clone, Debug)]
pub struct Shell {
    /// What it is called in reports.
    pub name: String,
    /// Its distance from the sun.
    pub distance: Metres,
    /// What its tiles are made of.
    pub model: TileModel,
    /// What a tile must not pass.
    pub limit: Kelvin,
    /// Where a tile starts to slow down by itself.
    pub throttle: Kelvin,
    /// What its tiles are at when the run begins.
    pub initial: Kelvin,
    /// Share of the heat the shell inside radiates that this one absorbs.
    pub coverage: f64,
    /// Heat each tile takes up from the sun.
    pub sunlight: Watts,
    /// The lowest clock a tile can be set to.
    pub clock_min: f64,
    /// A tile's memory.
    pub memory: Bytes,
}

/// The backpressure loop's constants.
#[derive(Clone, Debug)]
pub struct Thermos {
    /// Without it: no admission by heat, no throttling, only the cut-off at the limit.
    pub enabled: bool,
    /// Whether work is admitted by the headroom of the shells outside; without
    /// it the loop alone keeps them cool.
    pub admission: bool,
    /// Per second; derived from the delay if absent.
    pub gain: Option<f64>,
    /// The load above which the layers inside slow down.
    pub setpoint: f64,
    /// Time between two measurements of a cell.
    pub period: Nanos,
    /// The budget is never lowered below this.
    pub budget_min: f64,
    /// A change of budget smaller than this is not passed to the tiles.
    pub resolution: f64,
    /// Priority work moves inward below this budget.
    pub migrate_below: f64,
    /// The quantile of tile loads a cell reports.
    pub load_quantile: f64,
}

/// Where membership runs and how; see [`membership::Config`].
#[derive(Clone, Debug)]
pub struct Membership {
    /// The shells whose cells run it, counted outward from 0.
    pub shells: Vec<usize>,
    /// The first so many cells of each of those run it.
    pub cells_per_shell: u32,
    /// Whether messages carry tags.
    pub authenticate: bool,
    /// Each member probes one other this often.
    pub period: Nanos,
    /// How long a direct answer may take.
    pub ack_timeout: Nanos,
    /// How long an answer by any way may take.
    pub window: Nanos,
    /// The shortest suspicion.
    pub suspicion_min: Nanos,
    /// The longest suspicion.
    pub suspicion_max: Nanos,
    /// While there is news it is told this often.
    pub gossip_interval: Nanos,
}

impl Membership {
    /// Whether this cell runs it, the `nth` of its shell.
    pub(super) fn runs_in(&self, shell: usize, nth: u32) -> bool {
        nth < self.cells_per_shell && self.shells.contains(&shell)
    }

    /// What the members of one cell agree on.
    pub(super) fn protocol(&self, cell: Cell, grid: Hexagons, fleet: &Key) -> membership::Config {
        let mut config = membership::Config::new(cell, grid, fleet);
        // The cell's post makes and checks all members' tags, many at a time.
        config.authenticate = false;
        config.period = self.period;
        config.ack_timeout = self.ack_timeout;
        config.window = self.window;
        config.suspicion_min = self.suspicion_min;
        config.suspicion_max = self.suspicion_max;
        config.gossip_interval = self.gossip_interval;
        config
    }
}

/// Links between tiles of a cell.
#[derive(Clone, Debug)]
pub struct Links {
    /// The shortest one-way delay.
    pub delay_min: Nanos,
    /// The longest.
    pub delay_max: Nanos,
    /// Chance that a message is lost.
    pub loss: f64,
    /// Time a write takes until it is durable.
    pub persist: Nanos,
}

/// Lines between facing cells of different shells, one for each pair and way.
#[derive(Clone, Copy, Debug)]
pub struct Trunks {
    /// How fast they are, and in what pieces.
    pub line: transit::line::Config,
    /// A throttle signal on the line, headers and tag included.
    pub signal: Bytes,
    /// What each shard of a piece of work takes along when it is passed on.
    pub state: Bytes,
}

/// Work that keeps coming.
#[derive(Clone, Debug)]
pub struct WorkStream {
    /// Hot and fast, drawn inward; else cold and deep.
    pub hot: bool,
    /// The shells in which it arrives, counted outward from 0.
    pub shells: Vec<usize>,
    /// Share of those shells' tiles it keeps busy on average.
    pub utilisation: f64,
    /// Tiles each piece takes at once; at least half, at most one and a half times.
    pub shards: u32,
    /// Share of each tile's compute it uses.
    pub activity: f64,
    /// How long a piece runs, on average.
    pub term: Nanos,
    /// Memory it uses on each tile.
    pub memory: Bytes,
    /// Higher moves inward first.
    pub priority: u8,
    /// What its leases promise.
    pub service: Service,
    /// When it comes more often, if ever.
    pub burst: Option<Burst>,
    /// All of it arrives at the start and stays.
    pub constant: bool,
}

/// A regular rush.
#[derive(Clone, Debug)]
pub struct Burst {
    /// From the start of one to the start of the next.
    pub every: Nanos,
    /// How long each lasts.
    pub lasts: Nanos,
    /// By how much more work arrives meanwhile.
    pub factor: f64,
}

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    /// When.
    pub at: Nanos,
    /// What.
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum FaultKind {
    /// Tiles fail at once, for good.
    Burst {
        /// Share of all tiles.
        share: f64,
    },
    /// Cells fall apart into two halves that do not hear each other.
    Partition {
        /// Share of cells.
        share: f64,
        /// For how long.
        lasts: Nanos,
    },
    /// Tiles of a shell lose part of their radiators, for good.
    Radiators {
        /// Counted outward from 0.
        shell: usize,
        /// Share of its tiles.
        share: f64,
        /// What is left of each radiator, 0 to 1.
        remaining: f64,
    },
}

impl FaultKind {
    /// The word for it in reports.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Burst { .. } => "burst",
            Self::Partition { .. } => "partition",
            Self::Radiators { .. } => "radiators",
        }
    }
}

/// Bits that flip by themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flips {
    /// Chance that one bit of a message flips on its way.
    pub messages: f64,
    /// In each tile's memory, per second: single ones, which its code corrects.
    pub corrected_per_second: f64,
    /// The same of more than its code corrects.
    pub uncorrectable_per_second: f64,
}

/// What must hold for a run to be good.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Heat may cost at most this share of any shell's tiles.
    pub runaway_share: f64,
    /// A failure is known to 99 of 100 cell-mates within this.
    pub detection_p99: Nanos,
    /// Share of messages that stay inside their cluster.
    pub locality: f64,
    /// Energy that may go missing, as a share of what was supplied.
    pub energy_error: f64,
}

impl Config {
    /// Cells in each shell.
    #[must_use]
    pub fn cells_per_shell(&self) -> u32 {
        let region = self.fanout.tiles_in(Level::Region) / self.fanout.tiles_in(Level::Cell);
        u32::try_from(region).expect("the reader bounds the number of cells")
    }

    /// Cells in all.
    #[must_use]
    pub fn cells(&self) -> u32 {
        self.cells_per_shell() * self.fanout.regions.get()
    }

    /// Light time between facing cells of two shells.
    #[must_use]
    pub fn light_time(&self, a: usize, b: usize) -> Nanos {
        let (a, b) = (self.shells[a].distance, self.shells[b].distance);
        physics::light::light_time(if a < b { b - a } else { a - b })
    }

    /// The shortest light time between any two shells; `None` if there is one.
    #[must_use]
    pub fn light_time_min(&self) -> Option<Nanos> {
        (1..self.shells.len())
            .map(|outer| self.light_time(outer - 1, outer))
            .min()
    }

    /// How long the tiles of the shells from `inner` up to `outer` take to pass on
    /// a change of heat: the sum of their thermal time constants, C / (4εσAT³) at
    /// the throttle temperature.
    #[must_use]
    pub fn lag(&self, inner: usize, outer: usize) -> Nanos {
        let constant = |shell: &Shell| {
            let kelvin = shell.throttle.0;
            let slope = 4.0 * shell.model.radiance(1.0) * kelvin * kelvin * kelvin;
            Nanos::from_secs_f64(shell.model.heat_capacity.0 / slope)
        };
        (self.shells[inner..outer].iter().map(constant)).fold(Nanos::ZERO, |sum, lag| sum + lag)
    }

    /// Width of the engine's windows. Heat radiated in one window must be known
    /// before it is absorbed in another: hence two steps less than the light time.
    ///
    /// # Errors
    /// The light time that is too short for the step of the heat model.
    pub fn lookahead(&self) -> Result<Nanos, Nanos> {
        match self.light_time_min() {
            // Nothing crosses between the cells of one shell.
            None => Ok(self.sample),
            Some(light_time) => match light_time.saturating_sub(self.heat_step * 2) {
                Nanos::ZERO => Err(light_time),
                lookahead => Ok(lookahead),
            },
        }
    }

    /// Heat a sound tile of a shell rejects at its limit.
    #[must_use]
    pub fn capacity(&self, shell: usize) -> Watts {
        let Shell { model, limit, .. } = &self.shells[shell];
        let fourth = |k: Kelvin| k.0 * k.0 * k.0 * k.0;
        Watts(model.radiance(1.0) * (fourth(*limit) - fourth(model.sky)))
    }

    /// Dynamic power of a tile at full clock and activity, as warm as it is to get.
    #[must_use]
    pub fn dynamic(&self, shell: usize) -> Watts {
        let Shell {
            model, throttle, ..
        } = &self.shells[shell];
        model.dynamic * model.speed(1.0, *throttle)
    }

    /// Whether a shell's tiles come so close to Landauer's limit that what they draw depends on
    /// how warm they are.
    //= requirements H8
    pub(super) fn is_near_least(&self, shell: usize) -> bool {
        let Shell {
            model,
            limit,
            clock_min,
            ..
        } = &self.shells[shell];
        // Slower than this, whatever they draw is nothing.
        model.is_near_least(clock_min.max(1e-3), *limit)
    }

    /// By how much an outer shell's load rises when every tile of an inner one
    /// dissipates one watt more: what the shells between let through of it, and
    /// what they absorb of it and radiate again, is all of it.
    #[must_use]
    pub fn load_per_watt(&self, outer: usize) -> f64 {
        self.shells[outer].coverage / self.capacity(outer).0
    }

    pub(super) fn guard(&self, shell: usize) -> Arc<guard::Limits> {
        let Shell {
            model,
            limit,
            throttle,
            clock_min,
            ..
        } = &self.shells[shell];
        Arc::new(guard::Limits {
            throttle_kelvin: throttle.0,
            limit_kelvin: limit.0,
            clock_min: *clock_min,
            clock_exponent: model.clock_exponent,
            throttles: self.thermos.enabled,
        })
    }

    /// What a tile of a shell says of itself. To this world it is one accelerator with its memory.
    //= requirements S1
    pub(super) fn descriptor(&self, shell: usize, tile: Tile) -> Descriptor {
        let Shell {
            model,
            limit,
            memory,
            ..
        } = &self.shells[shell];
        let milli = |value: f64| (value * 1e3).round();
        let failures = self.failures_per_second + self.flips.uncorrectable_per_second;
        Descriptor {
            tile,
            cpu_milli: 0,
            accelerators: 1,
            memory_mib: mebibytes(*memory),
            idle_mw: milli(model.idle.0) as u64,
            max_mw: milli((model.idle + self.dynamic(shell)).0) as u64,
            limit_mk: milli(limit.0) as u32,
            failures_per_year_ppm: (failures * YEAR_SECONDS * 1e6) as u32,
        }
    }

    pub(super) fn scheduler(&self, cell: u32) -> Arc<cell::Config> {
        let shell = (cell / self.cells_per_shell()) as usize;
        let outward = shell + 1..self.shells.len();
        let tiles = self.grid.tiles();
        Arc::new(cell::Config {
            first: Tile(u64::from(cell) * u64::from(tiles)),
            tiles,
            layer: shell as u8,
            layers: self.shells.len() as u8,
            capacity_watts: self.capacity(shell).0,
            throttle_kelvin: self.shells[shell].throttle.0,
            heat_aware: self.thermos.enabled,
            load_quantile: self.thermos.load_quantile,
            queue_max: 64,
            hops_max: 2,
            migrate_below: self.thermos.migrate_below,
            thermos: thermos::Config {
                setpoint: self.thermos.setpoint,
                budget_min: self.thermos.budget_min,
                resolution: self.thermos.resolution,
                period: self.thermos.period,
                outward: (outward.clone())
                    .map(|outer| thermos::Link {
                        layer: outer as u8,
                        light_time: self.light_time(shell, outer),
                        lag: self.lag(shell, outer),
                        gain: self.thermos.gain,
                    })
                    .collect(),
            },
            outward: outward
                .filter(|_| self.thermos.admission)
                .map(|outer| Outward {
                    layer: outer as u8,
                    light_time: self.light_time(shell, outer),
                    lag: self.lag(shell, outer),
                    sharers: outer as u8,
                    load_per_watt: self.load_per_watt(outer),
                    assumed: 0.5,
                })
                .collect(),
        })
    }
}
