//! What a universe of hosts is, and how its file says it: every key, its unit and its range.

use membership::config::Timings;
use physics::devices::{self, Device};
use serde::Serialize;
use wire::{Kelvin, Nanos};

use crate::universe::BitsPerSecond;
use crate::universe::table::{Field, Measure, Table};

/// Hosts on one switch, and what befalls them.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// What the run is called.
    pub name: String,
    /// What it is meant to show, in a sentence.
    pub intent: String,
    /// Chance of everything, unless the command line says otherwise.
    pub seed: u64,
    /// How long one rehearsal is, in nanoseconds.
    #[serde(rename = "end_ns", serialize_with = "nanos")]
    pub end: Nanos,
    /// How often it is rehearsed.
    pub rehearsals: u32,
    /// How many hosts there are.
    pub hosts: u32,
    /// From being started to the first word.
    #[serde(skip)]
    pub boot: Nanos,
    /// What each of them is, with the limits it is held to.
    #[serde(skip)]
    pub device: Device,
    /// How long they wait for each other.
    #[serde(skip)]
    pub timings: Timings,
    /// By how many nanoseconds each host's clock is ahead of the world's.
    pub ahead_ns: Vec<i64>,
    /// What lies between two hosts.
    pub links: Links,
    /// What the fleet runs.
    pub programs: Vec<Program>,
    /// What goes wrong, in order of time.
    pub blows: Vec<Blow>,
    /// What must hold.
    #[serde(skip)]
    pub bounds: Bounds,
}

/// What the fleet runs, wherever it places it.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    /// What it is called.
    pub name: String,
    /// How many of it.
    pub replicas: u32,
    /// What real hosts run; nothing for a server under load, which whoever does it to them brings along.
    pub command: Vec<String>,
    /// Of a server under load: how long a request takes, of which a replica answers one at a time. As many ask as there are replicas, each
    /// again as soon as it is answered.
    #[serde(rename = "takes_ns", serialize_with = "nanos_if_any")]
    pub takes: Option<Nanos>,
}

/// The way from one host to another.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Links {
    /// One way, beyond what the switch takes.
    #[serde(rename = "delay_ns", serialize_with = "nanos")]
    pub delay: Nanos,
    /// Chance that a message is lost.
    pub loss: f64,
    /// What a host can send, in bits per second; without limit if absent.
    pub rate: Option<u64>,
    /// Time a write takes until it is durable.
    #[serde(skip)]
    pub persist: Nanos,
}

/// Something that goes wrong once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Blow {
    /// When.
    #[serde(rename = "at_ns", serialize_with = "nanos")]
    pub at: Nanos,
    /// When it is over; never if absent.
    #[serde(rename = "until_ns", serialize_with = "nanos_if_any")]
    pub until: Option<Nanos>,
    /// Whom it befalls, counted from 0; of a partition one side.
    pub hosts: Vec<u32>,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// The daemon dies without a word, and is started again.
    Kill,
    /// The daemon is stopped, and goes on.
    Pause,
    /// These hosts and the others do not hear each other.
    Partition,
    /// Of what they send and of what is sent to them this share is lost.
    Loss {
        /// The share.
        share: f64,
    },
    /// What they send and what is sent to them takes longer.
    Delay {
        /// By so much, one way.
        #[serde(rename = "more_ns", serialize_with = "nanos")]
        more: Nanos,
    },
    /// They can send no more than this.
    Rate {
        /// In bits per second.
        bits_per_second: u64,
    },
    /// Nothing more can be written.
    FullDisk,
    /// They are given nothing more and hand over what they run, until they serve again.
    Drain,
}

/// What must hold for a run to be good.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// 99 of 100 times a host notices a dead one within this.
    pub detection_p99: Nanos,
    /// By how much the median of what was measured may differ from what was predicted, as a share of it; any
    /// difference is fine if absent.
    pub prediction: Option<f64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn nanos<S: serde::Serializer>(span: &Nanos, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(span.0)
}

#[expect(clippy::ref_option, reason = "serde asks for it")]
fn nanos_if_any<S: serde::Serializer>(span: &Option<Nanos>, to: S) -> Result<S::Ok, S::Error> {
    span.map(|span| span.0).serialize(to)
}

impl What {
    /// The word for it, as in the universe file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::Loss { .. } => "loss",
            Self::Delay { .. } => "delay",
            Self::Rate { .. } => "rate",
            Self::FullDisk => "full_disk",
            Self::Drain => "drain",
        }
    }

    /// Whether a host cannot have both at once.
    const fn excludes(self, other: Self) -> bool {
        use What::{Delay, Drain, FullDisk, Kill, Loss, Partition, Pause, Rate};
        matches!(
            (self, other),
            (Kill | Pause, Kill | Pause)
                | (Partition, Partition)
                | (Loss { .. }, Loss { .. })
                | (Delay { .. }, Delay { .. })
                | (Rate { .. }, Rate { .. })
                | (FullDisk, FullDisk)
                | (Drain, Drain)
        )
    }
}

impl Blow {
    /// Whether it lasts at a time.
    #[must_use]
    pub fn covers(&self, at: Nanos) -> bool {
        at >= self.at && self.until.is_none_or(|until| at < until)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let before = |a: &Self, b: &Self| a.until.is_some_and(|until| until <= b.at);
        !before(self, other) && !before(other, self)
    }

    fn clashes(&self, other: &Self) -> bool {
        let same = self.hosts.iter().any(|host| other.hosts.contains(host));
        // There are two sides, not four.
        let same = same || self.what == What::Partition;
        self.what.excludes(other.what) && same && self.overlaps(other)
    }
}

/// A fleet's one cell has no more seats.
const HOSTS_MAX: u64 = 64;

/// Reads everything but the name, the intent and the kind.
#[must_use]
pub fn read(root: &Table<'_>, name: String, intent: String) -> Config {
    let seed = (root.count("seed", "Chance of everything.")).or(1);
    let time = root.table(
        "time",
        "How long a rehearsal lasts, and how often it is one.",
    );
    let end = (time.time("end", "When a rehearsal ends."))
        .range(Nanos::SECOND..=Nanos::DAY)
        .required();
    let rehearsals = time
        .count(
            "rehearsals",
            "How often it is rehearsed, each time with other chance.",
        )
        .range(1..=100_000)
        .or(200) as u32;
    let table = root.table("hosts", "The machines.");
    let hosts = (table.count("count", "How many there are."))
        .range(2..=HOSTS_MAX)
        .required();
    let boot = table
        .time("boot", "From being started to the first word.")
        .range(Nanos::ZERO..=Nanos::MINUTE)
        .or(Nanos::from_millis(60));
    Config {
        name,
        intent,
        seed,
        end,
        rehearsals,
        hosts: hosts as u32,
        boot,
        device: device(&table),
        timings: timings(root),
        ahead_ns: clocks(root, hosts),
        links: links(root),
        programs: programs(root),
        blows: blows(root, hosts, end),
        bounds: bounds(root),
    }
}

/// Kinds of which a whole machine is: their heat is what the sensors of its processors tell.
const MACHINES: [&Device; 2] = [&devices::CPU_NODE, &devices::EPYC_7763];

/// Refuses what a node that is one of these hosts cannot be.
pub fn honour(root: &Table<'_>, config: &Config) {
    if !MACHINES
        .iter()
        .any(|device| device.name == config.device.name)
    {
        let names = MACHINES.map(|device| format!("\"{}\"", device.name));
        let reason = format!(
            "a node reads the sensors of its processors; expected {}",
            names.join(" or ")
        );
        root.table("hosts", "The machines.")
            .refuse("device", reason);
    }
}

fn device(table: &Table<'_>) -> Device {
    let kinds = devices::ALL.map(|device| (device.name, device));
    let kind = table
        .choice(
            "device",
            &kinds,
            "What each machine is: its power, and its limits of heat unless said here.",
        )
        .or(&devices::CPU_NODE);
    let bearable = Kelvin(280.0)..=Kelvin(420.0);
    let throttle = table
        .temperature(
            "throttle",
            "From this temperature on a machine slows its programs.",
        )
        .range(bearable.clone())
        .or_derived(kind.throttle, "hosts.device");
    let shutdown = table
        .temperature("shutdown", "At this temperature a machine goes dark.")
        .range(bearable)
        .or_derived(kind.shutdown, "hosts.device");
    if shutdown <= throttle {
        table.refuse("shutdown", "must be above `hosts.throttle`");
    }
    Device {
        throttle,
        shutdown,
        ..*kind
    }
}

fn timings(root: &Table<'_>) -> Timings {
    let table = root.table(
        "membership",
        "How long hosts wait for each other; all of a fleet must go by the same.",
    );
    let usual = Timings::SPARSE;
    let span = |key, doc, usual| {
        let most = Nanos::from_millis(10)..=Nanos::MINUTE;
        table.time(key, doc).range(most).or(usual)
    };
    let found = Timings {
        period: span(
            "period",
            "Each host probes one other this often.",
            usual.period,
        ),
        ack_timeout: span(
            "ack_timeout",
            "How long a direct answer may take before others are asked to try.",
            usual.ack_timeout,
        ),
        window: span(
            "window",
            "How long an answer by any way may take before a host is suspected.",
            usual.window,
        ),
        suspicion_min: span(
            "suspicion_min",
            "A suspicion that enough others share lasts this long.",
            usual.suspicion_min,
        ),
        suspicion_max: span(
            "suspicion_max",
            "A suspicion that nobody shares lasts this long.",
            usual.suspicion_max,
        ),
    };
    if found.window >= found.period {
        table.refuse(
            "window",
            format!("must be below `membership.period`, {}", found.period),
        );
    }
    if found.ack_timeout >= found.window {
        table.refuse(
            "ack_timeout",
            format!("must be below `membership.window`, {}", found.window),
        );
    }
    if found.suspicion_max < found.suspicion_min {
        table.refuse(
            "suspicion_max",
            format!(
                "must be no less than `membership.suspicion_min`, {}",
                found.suspicion_min
            ),
        );
    }
    found
}

fn host(table: &Table<'_>, hosts: u64) -> u64 {
    let number = table
        .count("host", "Which host, counted from 1.")
        .range(1..);
    number.up_to(hosts.max(1), "`hosts.count`").required()
}

fn clocks(root: &Table<'_>, hosts: u64) -> Vec<i64> {
    let mut ahead = vec![0; hosts as usize];
    let most = Nanos::ZERO..=Nanos::HOUR;
    for table in root.tables("clock", 0..=HOSTS_MAX as usize, "A clock that is wrong.") {
        let host = host(&table, hosts);
        let early = table.time("ahead", "By how much it is ahead.");
        let early = early.range(most.clone()).or(Nanos::ZERO);
        let late = table.time("behind", "By how much it is behind.");
        let late = late.range(most.clone()).or(Nanos::ZERO);
        if early > Nanos::ZERO && late > Nanos::ZERO {
            table.refuse("behind", "cannot be both ahead and behind");
        }
        if let Some(clock) = ahead.get_mut(host as usize - 1) {
            *clock = early.0 as i64 - late.0 as i64;
        }
    }
    ahead
}

fn programs(root: &Table<'_>) -> Vec<Program> {
    let mut served = false;
    let mut read = |table: &Table<'_>| {
        let name = table.text("name", "What it is called.").required();
        let replicas = table
            .count("replicas", "How many of it.")
            .range(1..=HOSTS_MAX)
            .or(1) as u32;
        let takes = table
            .time(
                "takes",
                "It is a server under load in place of a command: how long a request takes, of which a replica answers one at a time.",
            )
            .range(Nanos::MILLISECOND..=Nanos::from_secs(1))
            .optional();
        if takes.is_some() && std::mem::replace(&mut served, true) {
            table.refuse("takes", "expected one server under load, found a second");
        }
        let command = match takes {
            Some(_) => Vec::new(),
            None => table
                .text("command", "What real hosts run, word by word.")
                .list(1..=100),
        };
        Program {
            name,
            replicas,
            command,
            takes,
        }
    };
    let tables = root.tables(
        "program",
        0..=100,
        "What the fleet runs, wherever it places it.",
    );
    tables.iter().map(&mut read).collect()
}

fn links(root: &Table<'_>) -> Links {
    let table = root.table("links", "The way from one host to another.");
    Links {
        delay: table
            .time("delay", "One way, beyond what the switch takes.")
            .range(Nanos::ZERO..=Nanos::from_secs(5))
            .or(Nanos::ZERO),
        loss: table
            .fraction("loss", "Chance that a message is lost.")
            .range(0.0..=0.9)
            .or(0.0),
        rate: rate(&table, "What a host can send; without limit if absent.")
            .optional()
            .map(|rate| rate.0),
        persist: table
            .time("persist", "Until a write is durable.")
            .range(Nanos::ZERO..=Nanos::MINUTE)
            .or(Nanos::from_millis(5)),
    }
}

fn rate<'t, 'd>(table: &'t Table<'d>, doc: &'static str) -> Field<'t, 'd, Measure<BitsPerSecond>> {
    let most = BitsPerSecond(100_000_000_000);
    table
        .bandwidth("rate", doc)
        .range(BitsPerSecond(8_000)..=most)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Kill,
    Pause,
    Partition,
    Loss,
    Delay,
    Rate,
    FullDisk,
    Drain,
}

const KINDS: [(&str, Kind); 8] = [
    ("kill", Kind::Kill),
    ("pause", Kind::Pause),
    ("partition", Kind::Partition),
    ("loss", Kind::Loss),
    ("delay", Kind::Delay),
    ("rate", Kind::Rate),
    ("full_disk", Kind::FullDisk),
    ("drain", Kind::Drain),
];

fn blows(root: &Table<'_>, hosts: u64, end: Nanos) -> Vec<Blow> {
    let mut all: Vec<Blow> = Vec::new();
    for table in root.tables("fault", 0..=100, "Something that goes wrong.") {
        for blow in fault(&table, hosts, end) {
            if let Some(other) = all.iter().find(|other| blow.clashes(other)) {
                let (at, name) = (other.at, other.what.name());
                let reason = format!(
                    "a {name} of {at} into the rehearsal still lasts {} into it",
                    blow.at
                );
                table.refuse("hosts", reason);
                break;
            }
            all.push(blow);
        }
    }
    all.sort_by_key(|blow| blow.at);
    all
}

/// One table's, as often as it says.
fn fault(table: &Table<'_>, hosts: u64, end: Nanos) -> Vec<Blow> {
    let kind = table.choice("kind", &KINDS, "What goes wrong.").required();
    let at = (table.time("at", "When it happens."))
        .up_to(end.max(Nanos(1)), "`time.end`")
        .required();
    let lasts = table
        .time(
            "lasts",
            "For how long; to the end if absent. Who was killed is started again then, who drained serves again.",
        )
        .range(Nanos::MILLISECOND..=Nanos::DAY)
        .optional();
    let struck = table
        .count(
            "hosts",
            "Whom it befalls, counted from 1; of a partition one side.",
        )
        .range(1..)
        .up_to(hosts.max(1), "`hosts.count`")
        .list(1..=HOSTS_MAX as usize);
    let times = table
        .count(
            "times",
            "How often it happens, each time to the next hosts: those numbered one higher, after the last the first.",
        )
        .range(1..=1_000)
        .or(1);
    let every = table
        .time("every", "From one time to the next.")
        .range(Nanos::MILLISECOND..=Nanos::DAY)
        .or(Nanos::DAY);
    let what = match kind {
        Kind::Kill => What::Kill,
        Kind::Pause => What::Pause,
        Kind::Partition => What::Partition,
        Kind::Loss => What::Loss {
            share: (table.fraction("share", "Share of messages that is lost."))
                .range(0.0..=1.0)
                .required(),
        },
        Kind::Delay => What::Delay {
            more: (table.time("more", "One way, beyond what it takes else."))
                .range(Nanos::ZERO..=Nanos::from_secs(5))
                .required(),
        },
        Kind::Rate => What::Rate {
            bits_per_second: rate(table, "What they can send.").required().0,
        },
        Kind::FullDisk => What::FullDisk,
        Kind::Drain => What::Drain,
    };
    if kind == Kind::Partition && struck.len() as u64 >= hosts {
        table.refuse("hosts", "must leave somebody on the other side");
    }
    let last = at + every * (times - 1);
    if times > 1 && last > end {
        table.refuse(
            "every",
            format!("the last of {times} would be {last} into a rehearsal of {end}"),
        );
        return Vec::new();
    }
    let blow = |nth: u64| {
        let at = at + every * nth;
        let mut hosts: Vec<u32> = struck
            .iter()
            .map(|host| ((host - 1 + nth) % hosts.max(1)) as u32)
            .collect();
        hosts.sort_unstable();
        hosts.dedup();
        Blow {
            at,
            until: lasts.map(|lasts| at + lasts).filter(|until| *until < end),
            hosts,
            what,
        }
    };
    (0..times).map(blow).collect()
}

fn bounds(root: &Table<'_>) -> Bounds {
    let table = root.table("bounds", "What must hold for the run to be good.");
    Bounds {
        detection_p99: table
            .time("detection_p99", "99 of 100 times a host notices a dead one within this.")
            .range(Nanos::MILLISECOND..=Nanos::DAY)
            .or(Nanos::from_secs(10)),
        prediction: table
            .fraction(
                "prediction",
                "By how much a measured median may differ from the predicted one; not judged if absent.",
            )
            .range(0.0..=10.0)
            .optional(),
    }
}
