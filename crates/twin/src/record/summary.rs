//! How did it end?
//!
//! `summary.json`, for scripts, dashboards and other runs to be compared with. Its
//! keys are a public promise: one may be added, none changes its name or its meaning
//! (a test holds the list). A number nobody measured is `null`, never 0.

use serde::{Deserialize, Deserializer, Serialize};
use telemetry::{Action, Reason, Sketch};

/// The outcome of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The universe's name.
    pub universe: String,
    /// What the universe is for, in its own sentence.
    pub intent: String,
    /// What its holons are.
    pub kind: Kind,
    /// The seed everything random was drawn from.
    pub seed: u64,
    /// Threads it ran on; the history does not depend on them.
    pub threads: u32,
    /// Tiles (devices, on a site) simulated one by one.
    pub tiles: u64,
    /// How far coordinate time got.
    #[serde(deserialize_with = "null_is_nan")]
    pub simulated_seconds: f64,
    /// How long that took.
    #[serde(deserialize_with = "null_is_nan")]
    pub wall_seconds: f64,
    /// Events processed.
    pub events: u64,
    /// Events per second of wall time.
    #[serde(deserialize_with = "null_is_nan")]
    pub events_per_second: f64,
    /// The most memory the process held.
    pub peak_rss_bytes: u64,
    /// The history's hash: equal for equal seeds, whatever the number of threads.
    /// 32 hexadecimal digits in JSON, where no number has 128 bits.
    #[serde(with = "hexadecimal")]
    pub history_hash: u128,
    /// False if the run was stopped before its end.
    pub complete: bool,
    /// What `--set` changed in the universe, as it was written.
    pub overrides: Vec<String>,
    /// The one command that repeats this run.
    pub command: String,
    /// What had to hold, and whether it did.
    pub invariants: Vec<Invariant>,
    /// How well the fleet knew who was there.
    pub membership: Option<Membership>,
    /// How far messages went.
    pub locality: Option<Locality>,
    /// Bits that flipped by themselves, and what became of them.
    #[serde(default)]
    pub bit_flips: Option<BitFlips>,
    /// What went over the lines between shells, by class; empty if they have no limit.
    pub trunks: Vec<Trunk>,
    /// How hot it got.
    pub heat: Option<Heat>,
    /// Leases that are over, by service level.
    #[serde(default)]
    pub leases: Vec<Leases>,
    /// What an operation cost in each shell, beside what it must.
    #[serde(default)]
    pub operations: Vec<Operations>,
    /// The share of all compute that the operating system itself took.
    pub os_overhead_fraction: Option<f64>,
    /// Faults by kind. A run whose faults did not fire has shown nothing.
    pub faults: Vec<Fault>,
    /// How often each thing was decided for each reason.
    pub decisions: Vec<DecisionCount>,
    /// How a site's machines were used.
    pub site: Option<Site>,
    /// How its tenants and their work fared.
    pub replay: Option<Replay>,
    /// What a fleet of hosts noticed, and how it was really.
    #[serde(default)]
    pub fleet: Option<Fleet>,
    /// What a braid did, and what it cost.
    #[serde(default)]
    pub braid: Option<Braid>,
}

/// What the holons of a universe are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Shells around a star, each of cells, or of one.
    #[default]
    Shells,
    /// Racks in rows, cooled by loops.
    Site,
    /// Hosts on one switch.
    Fleet,
    /// Three tori.
    Braid,
}

/// Something that must hold throughout a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Invariant {
    /// Its name, as in the universe file: `no_thermal_runaway`.
    pub name: String,
    /// Whether it held from beginning to end.
    pub held: bool,
    /// Where it first did not.
    pub first_violation: Option<Violation>,
}

/// The first time an invariant did not hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// When, in coordinate time.
    #[serde(deserialize_with = "null_is_nan")]
    pub seconds: f64,
    /// Who: a tile, cell, shell or loop, in the universe's words.
    pub subject: String,
    /// What was measured.
    #[serde(deserialize_with = "null_is_nan")]
    pub found: f64,
    /// What it was held against.
    #[serde(deserialize_with = "null_is_nan")]
    pub bound: f64,
    /// The unit of both.
    pub unit: String,
    /// The same in words, for people.
    pub text: String,
}

/// A distribution in four numbers; NaN (`null`) where nothing was counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half are at or below.
    #[serde(deserialize_with = "null_is_nan")]
    pub p50: f64,
    /// 19 of 20 are at or below.
    #[serde(deserialize_with = "null_is_nan")]
    pub p95: f64,
    /// 99 of 100 are at or below.
    #[serde(deserialize_with = "null_is_nan")]
    pub p99: f64,
    /// The largest.
    #[serde(deserialize_with = "null_is_nan")]
    pub max: f64,
}

/// One class of what went over the lines between shells (requirements H7, N1).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trunk {
    /// `A` to `D`, the most urgent first.
    pub class: char,
    /// Messages whose last bit left.
    pub sent: u64,
    /// Messages handed back because too many of their class waited.
    pub refused: u64,
    /// The longest any waited for others, its own time on the line apart.
    pub waited_max_seconds: f64,
}

/// How well membership did (requirements M1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Membership {
    /// From a hard failure until its cell knew.
    pub detection_seconds: Quantiles,
    /// Hard failures there were to notice.
    pub failures: u64,
    /// Those never noticed.
    pub undetected: u64,
    /// Living tiles that were suspected for a while.
    pub false_suspicions: u64,
    /// Living tiles that were removed.
    pub false_removals: u64,
    /// Messages of the protocol.
    pub messages: u64,
    /// Memory the protocol held per tile, mean.
    #[serde(deserialize_with = "null_is_nan")]
    pub bytes_per_tile: f64,
}

/// Bits that flipped by themselves, and what became of them (requirements M4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BitFlips {
    /// Messages in which one flipped under way.
    pub in_messages: u64,
    /// Those that reached a tile that lived and could be reached.
    pub arrived: u64,
    /// Of these, those that could not be read any more.
    pub undecodable: u64,
    /// Those that could be read and whose tags were not theirs.
    pub untrue: u64,
    /// Those that a tile took for good.
    pub believed: u64,
    /// Single bits in memory.
    pub corrected: u64,
    /// Those of tiles that lived, which corrected and counted them.
    pub corrected_met: u64,
    /// The most that any tile counted; counts end at 255.
    pub corrected_max: u64,
    /// Words of memory in which more flipped than can be corrected.
    pub uncorrectable: u64,
    /// Those of tiles that lived, each of which cut its power.
    pub uncorrectable_met: u64,
}

/// Shares of all messages that stayed within a holon of each level. Cumulative:
/// what stayed in a cell also stayed in its cluster (requirements U2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Locality {
    /// Within a cell.
    #[serde(deserialize_with = "null_is_nan")]
    pub cell: f64,
    /// Within a cluster.
    #[serde(deserialize_with = "null_is_nan")]
    pub cluster: f64,
    /// Within a region.
    #[serde(deserialize_with = "null_is_nan")]
    pub region: f64,
    /// Within the system; 1, unless messages are unaccounted for.
    #[serde(deserialize_with = "null_is_nan")]
    pub system: f64,
}

/// How hot it got, and what that cost (requirements H).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heat {
    /// The highest temperature of any tile.
    #[serde(deserialize_with = "null_is_nan")]
    pub max_kelvin: f64,
    /// The most any tile was above its limit; negative if all stayed below.
    #[serde(deserialize_with = "null_is_nan")]
    pub max_kelvin_over_limit: f64,
    /// The highest load of any group, as a fraction of its heat capacity.
    #[serde(deserialize_with = "null_is_nan")]
    pub max_load: f64,
    /// Tiles that went dark from heat.
    pub tiles_lost: u64,
    /// How far the loop swung past where it settled, as a fraction of the step.
    #[serde(deserialize_with = "null_is_nan")]
    pub overshoot: f64,
    /// The smallest heat budget that backpressure left any cell, as a fraction of its
    /// dynamic power; NaN where no loop ran.
    #[serde(default = "not_told", deserialize_with = "null_is_nan")]
    pub budget_min: f64,
    /// The relative error of the energy balance over the whole run.
    #[serde(deserialize_with = "null_is_nan")]
    pub energy_error: f64,
    /// Tile-seconds spent below full clock.
    #[serde(deserialize_with = "null_is_nan")]
    pub throttled_tile_seconds: f64,
    /// Work done: activity × clock, summed over tiles and time, in tile-seconds at
    /// full activity and clock.
    #[serde(deserialize_with = "null_is_nan")]
    pub work_tile_seconds: f64,
}

/// How leases of one service level fared that are over (requirements S2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    /// The level: `latency-sensitive` or `best effort`.
    pub level: String,
    /// All of them; one that moves to another cell ends in the first.
    pub ended: u64,
    /// Those whose tiles ran slower, by their own reports, than was promised, or that were lost.
    pub breached: u64,
}

/// What an operation cost on the tiles of one shell (requirements H8), over all samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Operations {
    /// The shell's name.
    pub shell: String,
    /// How warm tiles were, weighted by what they did.
    #[serde(deserialize_with = "null_is_nan")]
    pub kelvin: f64,
    /// Dynamic power over operations, without idle power and leakage.
    #[serde(deserialize_with = "null_is_nan")]
    pub joules: f64,
    /// The least that so many erased bits cost at that temperature (Landauer's limit).
    #[serde(deserialize_with = "null_is_nan")]
    pub least_joules: f64,
    /// The one over the other; NaN where all is reversible and nothing need be paid.
    #[serde(deserialize_with = "null_is_nan")]
    pub times_least: f64,
}

/// A kind of fault, and whether it came about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its kind, as in the universe file: `cooling_loop`.
    pub kind: String,
    /// How many the universe asked for.
    pub injected: u64,
    /// How many met something they could break.
    pub fired: u64,
}

/// How often one thing was decided for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionCount {
    /// What was done, in telemetry's words.
    pub action: String,
    /// Why, in telemetry's words.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// How a site's machines were used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Compute done, as a share of what the machines could have done.
    #[serde(deserialize_with = "null_is_nan")]
    pub utilisation: f64,
    /// Device time under a lease, as a share of all device time.
    #[serde(deserialize_with = "null_is_nan")]
    pub gpu_allocated_fraction: f64,
    /// From arrival to start, of the jobs that started.
    pub waiting_seconds: Quantiles,
    /// Jobs that had arrived and not started at the end.
    #[serde(default)]
    pub waiting: u64,
    /// As [`Self::waiting_seconds`] with those, from arrival to the end: each of them waited at
    /// least so long.
    #[serde(default = "unknown")]
    pub waiting_at_least_seconds: Quantiles,
    /// Jobs that arrived.
    pub arrived: u64,
    /// Jobs that started.
    pub placed: u64,
    /// Jobs turned away.
    pub refused: u64,
    /// Jobs that ran to their end.
    pub finished: u64,
    /// Jobs lost with their machines.
    pub lost: u64,
    /// Device-seconds spent below full clock.
    #[serde(deserialize_with = "null_is_nan")]
    pub throttled_device_seconds: f64,
    /// The highest temperature of any device.
    #[serde(deserialize_with = "null_is_nan")]
    pub device_max_kelvin: f64,
    /// Seconds during which a cooling loop took more heat than it can carry,
    /// summed over loops.
    #[serde(deserialize_with = "null_is_nan")]
    pub loop_overload_seconds: f64,
}

/// How the tenants of a site and their work fared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// Lines of the lists that were no work.
    pub left_out: u64,
    /// Jobs of the lists that were over before the run began.
    #[serde(default)]
    pub before_begin: u64,
    /// Jobs of the lists that would have come after the end.
    #[serde(default)]
    pub after_end: u64,
    /// Gangs of several tasks that started.
    pub gangs: u64,
    /// Starts that came before those of earlier jobs.
    pub backfilled: u64,
    /// Jobs stopped to make room for others.
    pub preempted: u64,
    /// Starts of jobs that had started before.
    pub restarted: u64,
    /// Jobs ended at their limit.
    pub at_limit: u64,
    /// From arrival to end over the run time at full clock, of the jobs that finished; run
    /// times below 10 s count as 10 s.
    pub slowdown: Quantiles,
    /// Work done and kept, in seconds of a GPU at full clock.
    #[serde(deserialize_with = "null_is_nan")]
    pub gpu_seconds: f64,
    /// Work done and lost since it was stopped, likewise.
    #[serde(deserialize_with = "null_is_nan")]
    pub gpu_seconds_lost: f64,
    /// The least that the file system left of the speed of any job.
    #[serde(deserialize_with = "null_is_nan")]
    pub storage_share_min: f64,
    /// The most any device was above where it slows itself down; negative if none got
    /// there.
    #[serde(deserialize_with = "null_is_nan")]
    pub max_kelvin_over_throttle: f64,
    /// The time in which something was broken.
    pub fault_window: Option<FaultWindow>,
    /// Each tenant.
    pub tenants: Vec<Tenant>,
    /// How far GPU power and temperature are from what was measured elsewhere.
    pub distances: Vec<Distance>,
}

/// The time from the first fault to the last repair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FaultWindow {
    /// When it began.
    #[serde(deserialize_with = "null_is_nan")]
    pub from_seconds: f64,
    /// When it ended.
    #[serde(deserialize_with = "null_is_nan")]
    pub to_seconds: f64,
    /// Work done meanwhile, less what was lost meanwhile, in seconds of a GPU at full clock.
    #[serde(deserialize_with = "null_is_nan")]
    pub gpu_seconds: f64,
    /// Work lost meanwhile, whenever it had been done.
    #[serde(deserialize_with = "null_is_nan")]
    pub gpu_seconds_lost: f64,
    /// Device-seconds slowed by the device's own temperature.
    #[serde(deserialize_with = "null_is_nan")]
    pub throttled_hot_device_seconds: f64,
    /// The most any device was above where it slows itself down; negative if none got there.
    #[serde(deserialize_with = "null_is_nan")]
    pub max_kelvin_over_throttle: f64,
}

/// How a tenant fared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Its weight.
    #[serde(deserialize_with = "null_is_nan")]
    pub weight: f64,
    /// Jobs that came.
    pub arrived: u64,
    /// Jobs that finished.
    pub finished: u64,
    /// Times a job of its was stopped to go on later.
    pub stopped: u64,
    /// Its share of all GPU time.
    #[serde(deserialize_with = "null_is_nan")]
    pub gpu_share: f64,
    /// From arrival to first start.
    pub waiting_seconds: Quantiles,
    /// Jobs that had arrived and not started at the end.
    #[serde(default)]
    pub waiting: u64,
    /// See [`Replay::slowdown`].
    pub slowdown: Quantiles,
}

/// How far a distribution is from a measured one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distance {
    /// What was measured where.
    pub measured: String,
    /// What of the replay it is held against.
    pub replayed: String,
    /// Kolmogorov and Smirnov's distance: 0 the same, 1 apart.
    #[serde(deserialize_with = "null_is_nan")]
    pub distance: f64,
}

/// What a fleet of hosts noticed in many rehearsals, beside what real ones did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fleet {
    /// Rehearsals, each with other chance.
    pub rehearsals: u64,
    /// Whether there is a measurement beside them.
    pub measured: bool,
    /// How long what took.
    pub spans: Vec<Span>,
    /// How a server under load was served, if there was one.
    #[serde(default)]
    pub served: Vec<Served>,
}

/// How a server under load was served while something went wrong, or nothing did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// What went wrong, or `peace`.
    pub during: String,
    /// How many replicas ran on average in the rehearsals.
    #[serde(deserialize_with = "null_is_nan")]
    pub replicas: f64,
    /// How many answers in a second follow from that.
    #[serde(deserialize_with = "null_is_nan")]
    pub predicted_per_second: f64,
    /// How many were counted.
    #[serde(deserialize_with = "null_is_nan")]
    pub measured_per_second: f64,
    /// Requests that were answered.
    pub answered: u64,
    /// That had been said and were not answered.
    pub lost: u64,
    /// That no replica took while the client had patience.
    pub nowhere: u64,
    /// How often one was turned away before a word of it was said, and went elsewhere.
    pub turned_away: u64,
}

/// How long one kind of thing took, as was predicted and as was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// From when to when: `held removed after kill`.
    pub what: String,
    /// In all rehearsals together.
    pub predicted_seconds: Quantiles,
    /// How often it happened there.
    pub predicted: u64,
    /// Among real hosts.
    pub measured_seconds: Quantiles,
    /// How often it happened there.
    pub measured: u64,
    /// The measured median over the predicted one.
    #[serde(deserialize_with = "null_is_nan")]
    pub ratio_p50: f64,
}

/// What a braid did, what it lost and made again, and what that cost (requirements B).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Braid {
    /// Processes that stand there throughout.
    pub players: u64,
    /// Pieces of work that began.
    pub begun: u64,
    /// That ended.
    pub ended: u64,
    /// Turns taken, those that were run again not counted twice.
    pub turns: u64,
    /// Messages that players passed on their way.
    pub passes: u64,
    /// Turns that came after their deadline.
    pub missed: u64,
    /// Processes that moved to another torus because it had less to do.
    pub migrated: u64,
    /// Offers that were not taken at once.
    pub refused: u64,
    /// Bytes that were not taken for a packet.
    pub rejected: u64,
    /// Packets sent from one torus to another.
    pub packets: u64,
    /// That did not arrive.
    pub packets_lost: u64,
    /// Bytes in all of them.
    pub bytes: u64,
    /// Braid intervals of all tori together.
    pub intervals: u64,
    /// The longest projection, in bytes.
    pub projection_bytes: u64,
    /// Tori rebuilt, by what the lost one was given up for.
    pub rebuilds: Vec<Rebuilds>,
    /// The most turns that were run again for one of them.
    pub replayed_max: u64,
    /// Tori that could not be rebuilt.
    pub unrebuilt: u64,
    /// From a stray write into a process's memory until it was found.
    pub found_seconds: Quantiles,
    /// What coordination costs at several sizes.
    pub scale: Vec<Scale>,
}

/// Tori rebuilt after one kind of loss.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rebuilds {
    /// The fault, or `mistake` if none was.
    pub after: String,
    /// How often.
    pub times: u64,
    /// From the loss until the torus runs again, of those losses whose moment is known: of damage, from when the torus found it and stopped.
    pub seconds: Quantiles,
}

/// What a braid interval costs among so many processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// How many.
    pub players: u64,
    /// Bytes sent, for each projection sent.
    #[serde(deserialize_with = "null_is_nan")]
    pub bytes: f64,
    /// Packets sent, likewise.
    #[serde(deserialize_with = "null_is_nan")]
    pub packets: f64,
    /// The longest projection.
    pub projection_bytes: u64,
}

impl Summary {
    /// Whether every invariant held. An empty list holds.
    #[must_use]
    pub fn held(&self) -> bool {
        self.invariants.iter().all(|invariant| invariant.held)
    }

    /// The text of `summary.json`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("structs of numbers and strings have no JSON they cannot be written as");
        text.push('\n');
        text
    }
}

impl Quantiles {
    /// Of nothing.
    pub const UNKNOWN: Self = Self {
        p50: f64::NAN,
        p95: f64::NAN,
        p99: f64::NAN,
        max: f64::NAN,
    };

    /// Of what a sketch counted, each value multiplied by `unit`: `1e-9` for
    /// seconds from nanoseconds.
    #[must_use]
    pub fn of(sketch: &Sketch, unit: f64) -> Self {
        let at = |q| sketch.quantile(q).map_or(f64::NAN, |v| v as f64 * unit);
        Self {
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

impl Default for Quantiles {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl Default for Heat {
    fn default() -> Self {
        Self {
            max_kelvin: f64::NAN,
            max_kelvin_over_limit: f64::NAN,
            max_load: f64::NAN,
            tiles_lost: 0,
            overshoot: f64::NAN,
            energy_error: f64::NAN,
            budget_min: f64::NAN,
            throttled_tile_seconds: f64::NAN,
            work_tile_seconds: f64::NAN,
        }
    }
}

impl Default for Site {
    fn default() -> Self {
        Self {
            utilisation: f64::NAN,
            gpu_allocated_fraction: f64::NAN,
            waiting_seconds: Quantiles::UNKNOWN,
            waiting: 0,
            waiting_at_least_seconds: Quantiles::UNKNOWN,
            arrived: 0,
            placed: 0,
            refused: 0,
            finished: 0,
            lost: 0,
            throttled_device_seconds: f64::NAN,
            device_max_kelvin: f64::NAN,
            loop_overload_seconds: f64::NAN,
        }
    }
}

impl DecisionCount {
    /// That `action` was taken for `reason` this often.
    #[must_use]
    pub fn new(action: Action, reason: Reason, count: u64) -> Self {
        Self {
            action: action.name().to_owned(),
            reason: reason.name().to_owned(),
            count,
        }
    }
}

impl Kind {
    /// The word for it in `summary.json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shells => "shells",
            Self::Site => "site",
            Self::Fleet => "fleet",
            Self::Braid => "braid",
        }
    }
}

/// What a record of an earlier version does not tell.
const fn unknown() -> Quantiles {
    Quantiles::UNKNOWN
}

/// JSON has no NaN: serde_json writes `null`, and this reads it back.
fn null_is_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// What a summary written before a number existed says of it.
const fn not_told() -> f64 {
    f64::NAN
}

mod hexadecimal {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(hash: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{hash:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16)
            .map_err(|e| D::Error::custom(format_args!("{text:?} is not a history hash: {e}")))
    }
}
