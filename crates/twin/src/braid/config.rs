//! What a universe of tori is, and how its file says it: every key, its unit and its range.

use runtime::drill::{Plan, Work};
use runtime::{Limits, Strand};
use trust::Key;
use wire::Nanos;

use crate::universe::table::Table;

/// Three tori, what they do, and what befalls them.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the run is called.
    pub name: String,
    /// What it is meant to show, in a sentence.
    pub intent: String,
    /// Chance of everything, unless the command line says otherwise.
    pub seed: u64,
    /// When the run ends.
    pub end: Nanos,
    /// When the last piece of work begins.
    pub until: Nanos,
    /// The work; its seed is the run's.
    pub plan: Plan,
    /// What the tori agree on; their key follows from the seed.
    pub braid: runtime::Config,
    /// The lines between them.
    pub lines: Lines,
    /// What goes wrong, in order of time.
    pub blows: Vec<Blow>,
    /// Sizes at which the cost of coordination is measured besides.
    pub scale: Vec<u32>,
    /// What must hold.
    pub bounds: Bounds,
}

/// What lines do to what they carry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines {
    /// One way.
    pub delay: Nanos,
    /// Up to so much more, so that packets overtake each other.
    pub jitter: Nanos,
    /// Share that is lost.
    pub loss: f64,
    /// Share that arrives twice.
    pub doubling: f64,
    /// Share in which a bit flips.
    pub damage: f64,
}

/// Something that goes wrong once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blow {
    /// When.
    pub at: Nanos,
    /// When it is over, if it lasts.
    pub until: Nanos,
    /// What.
    pub what: What,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// A torus is gone, with all that it knows.
    Kill(Strand),
    /// The memory of one of its processes changes.
    Corrupt(Strand),
    /// It hears neither of the others and they do not hear it.
    Partition(Strand),
    /// Packets are lost.
    Loss {
        /// The share.
        share: f64,
        /// Only projections.
        projections: bool,
    },
    /// Packets take longer, each by another span, and so overtake each other.
    Reorder {
        /// By so much at most.
        more: Nanos,
        /// Only projections.
        projections: bool,
    },
}

/// What must hold for a run to be good.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From the loss of a torus until it runs again.
    pub rebuild: Nanos,
    /// By how much an interval may cost more bytes at one size of [`Config::scale`] than at another.
    pub growth: f64,
    /// The share of turns that may come too late; any if absent.
    pub missed: Option<f64>,
}

impl What {
    /// The word for it, as in the universe file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::Corrupt(_) => "corrupt",
            Self::Partition(_) => "partition",
            Self::Loss { .. } => "loss",
            Self::Reorder { .. } => "reorder",
        }
    }

    /// Whom it befalls, if one.
    #[must_use]
    pub const fn strand(self) -> Option<Strand> {
        match self {
            Self::Kill(strand) | Self::Corrupt(strand) | Self::Partition(strand) => Some(strand),
            Self::Loss { .. } | Self::Reorder { .. } => None,
        }
    }
}

/// More has never been tried in the memory of one host.
const PLAYERS_MAX: u64 = 10_000_000;

/// Reads everything but the name, the intent and the kind.
#[must_use]
pub fn read(root: &Table<'_>, name: String, intent: String) -> Config {
    let seed = root.count("seed", "Chance of everything.").or(1);
    let time = root.table("time", "How long it lasts.");
    let end = (time.time("end", "When the run ends."))
        .range(Nanos::from_millis(10)..=Nanos::HOUR)
        .required();
    let until = time
        .time("until", "No work begins after this, so that it can end.")
        .positive()
        .up_to(end.max(Nanos(1)), "`time.end`")
        .required();
    let plan = plan(root);
    Config {
        name,
        intent,
        seed,
        end,
        until,
        plan,
        braid: braid(root, &plan),
        lines: lines(root),
        blows: blows(root, end),
        scale: scale(root),
        bounds: bounds(root),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Ring,
    Tree,
    Errands,
}

fn plan(root: &Table<'_>) -> Plan {
    let table = root.table("work", "What the processes do.");
    let players = table
        .count("players", "Processes on all three tori together.")
        .range(3..=PLAYERS_MAX)
        .required();
    let kinds = [
        ("ring", Kind::Ring),
        ("tree", Kind::Tree),
        ("errands", Kind::Errands),
    ];
    let kind = table
        .choice("kind", &kinds, "Messages around a ring of all; trees of processes that start others and add up; messages from anybody to anybody.")
        .required();
    let many = 1..=1_000_000_000;
    let work = match kind {
        Kind::Ring => Work::Ring {
            hops: table
                .count("hops", "How far a message goes around.")
                .range(many)
                .required(),
        },
        Kind::Tree => Work::Tree {
            branches: table
                .count("branches", "Processes that each starts.")
                .range(2..=1_000)
                .or(10),
            leaves: table
                .count("leaves", "Processes at the end, for each tree.")
                .range(1..=10_000_000)
                .required(),
        },
        Kind::Errands => Work::Errands {
            stops: table
                .count("stops", "Processes on the way, beside the first.")
                .range(0..=1_000)
                .or(6) as u32,
            hurry: table
                .time(
                    "hurry",
                    "The deadline of each stop, from the one before; none if absent.",
                )
                .range(Nanos(1)..=Nanos::HOUR)
                .optional()
                .unwrap_or(Nanos::ZERO),
        },
    };
    Plan {
        players: players as u32,
        work,
        pieces: u64::MAX,
        at_once: table
            .count("at_once", "Pieces of work under way at once, at most.")
            .range(1..=100_000)
            .or(64),
        every: table
            .time(
                "every",
                "From the beginning of one piece to that of the next, at least.",
            )
            .range(Nanos::ZERO..=Nanos::HOUR)
            .or(Nanos::ZERO),
        seed: 0,
    }
}

fn braid(root: &Table<'_>, plan: &Plan) -> runtime::Config {
    let table = root.table("braid", "What the tori agree on.");
    let usual = runtime::Config::new(Key::new([0; 32]));
    let interval = Nanos::MICROSECOND..=Nanos::from_secs(10);
    let interval_min = table
        .time(
            "interval_min",
            "The shortest braid interval, while things change.",
        )
        .range(interval.clone())
        .or(usual.interval_min);
    let interval_max = table
        .time("interval_max", "The longest, while nothing does.")
        .range(interval)
        .or(usual.interval_max);
    if interval_max < interval_min {
        let least = format!("must be no less than `braid.interval_min`, {interval_min}");
        table.refuse("interval_max", least);
    }
    let small = |key, doc, most: u64, usual: u32| {
        let most = 1..=most;
        table.count(key, doc).range(most).or(usual.into()) as u32
    };
    // Everybody may come to be on one torus, and trees grow beside them.
    let trees = match plan.work {
        Work::Tree { leaves, .. } => leaves * 2 * plan.at_once,
        Work::Ring { .. } | Work::Errands { .. } => 0,
    };
    let processes = (u64::from(plan.players) * 2 + trees).clamp(1 << 12, 1 << 26) as u32;
    runtime::Config {
        limits: Limits {
            processes,
            mailbox: small(
                "mailbox",
                "Messages in one mailbox, at most.",
                65_535,
                4_096,
            ) as u16,
            mail: usual.limits.mail,
            lane: small(
                "lane",
                "Messages on one way between tori that nobody has taken yet, at most.",
                1 << 20,
                4_096,
            ),
        },
        interval_min,
        interval_max,
        patience: small(
            "patience",
            "A torus that has said nothing for so many intervals is given up.",
            1_000,
            usual.patience,
        ),
        turns: small("turns", "Turns in a row.", 1 << 20, usual.turns),
        turn_time: table
            .time("turn_time", "How long a turn takes.")
            .range(Nanos(1)..=Nanos::from_secs(1))
            .or(Nanos(100)),
        replay_max: table
            .count(
                "replay_max",
                "Turns between two snapshots at most, and so run again in a rebuild.",
            )
            .range(1..=1 << 32)
            .or(usual.replay_max),
        audit_every: table
            .count(
                "audit_every",
                "Every so many snapshots the keeper runs the log itself and compares; 0 for never.",
            )
            .range(0..=1_000_000)
            .or(usual.audit_every.into()) as u32,
        ..usual
    }
}

fn lines(root: &Table<'_>) -> Lines {
    let table = root.table("lines", "What lies between tori.");
    let share = |key, doc| table.fraction(key, doc).range(0.0..=0.9).or(0.0);
    let span = |key, doc, usual| {
        let most = Nanos::ZERO..=Nanos::from_secs(10);
        table.time(key, doc).range(most).or(usual)
    };
    Lines {
        delay: span("delay", "One way.", Nanos(20_000)),
        jitter: span(
            "jitter",
            "Up to so much more, each time anew: packets overtake each other.",
            Nanos::ZERO,
        ),
        loss: share("loss", "Share of packets that is lost."),
        doubling: share("doubling", "Share of packets that arrives twice."),
        damage: share("damage", "Share of packets in which a bit flips."),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Blows {
    Kill,
    Corrupt,
    Partition,
    Loss,
    Reorder,
}

const BLOWS: [(&str, Blows); 5] = [
    ("kill", Blows::Kill),
    ("corrupt", Blows::Corrupt),
    ("partition", Blows::Partition),
    ("loss", Blows::Loss),
    ("reorder", Blows::Reorder),
];

fn blows(root: &Table<'_>, end: Nanos) -> Vec<Blow> {
    let mut all = Vec::new();
    for table in root.tables("fault", 0..=1_000, "Something that goes wrong.") {
        all.extend(fault(&table, end));
    }
    all.sort_by_key(|blow| blow.at);
    all
}

/// One table's, as often as it says.
fn fault(table: &Table<'_>, end: Nanos) -> Vec<Blow> {
    let kind = table.choice("kind", &BLOWS, "What goes wrong.").required();
    let at = (table.time("at", "When it happens."))
        .up_to(end.max(Nanos(1)), "`time.end`")
        .required();
    let strands = Strand::ALL.map(|strand| (name(strand), strand));
    let one = || {
        table
            .choice("torus", &strands, "Whom it befalls.")
            .or(Strand::Compute)
    };
    let lasts = |usual| {
        table
            .time("lasts", "For how long.")
            .range(Nanos::MICROSECOND..=Nanos::HOUR)
            .or(usual)
    };
    let projections = || {
        table
            .flag("projections", "Whether it befalls projections only.")
            .or(false)
    };
    let (what, lasts) = match kind {
        Blows::Kill => (What::Kill(one()), Nanos::ZERO),
        Blows::Corrupt => (What::Corrupt(one()), Nanos::ZERO),
        Blows::Partition => (What::Partition(one()), lasts(Nanos::from_millis(200))),
        Blows::Loss => {
            let share = (table.fraction("share", "Share of packets that is lost."))
                .range(0.0..=1.0)
                .required();
            let projections = projections();
            let what = What::Loss { share, projections };
            (what, lasts(Nanos::from_millis(200)))
        }
        Blows::Reorder => {
            let more = (table.time("more", "Up to so much longer, each time anew."))
                .range(Nanos(1)..=Nanos::from_secs(10))
                .required();
            let projections = projections();
            let what = What::Reorder { more, projections };
            (what, lasts(Nanos::from_millis(200)))
        }
    };
    let times = table
        .count(
            "times",
            "How often it happens, each time to the next torus.",
        )
        .range(1..=10_000)
        .or(1);
    let every = table
        .time("every", "From one time to the next.")
        .range(Nanos::MICROSECOND..=Nanos::HOUR)
        .or(Nanos::SECOND);
    let last = at + every * (times - 1);
    if times > 1 && last > end {
        table.refuse(
            "every",
            format!("the last of {times} would be {last} into a run of {end}"),
        );
        return Vec::new();
    }
    let mut what = what;
    let mut all = Vec::new();
    for nth in 0..times {
        let at = at + every * nth;
        let until = at + lasts;
        all.push(Blow { at, until, what });
        what = match what {
            What::Kill(strand) => What::Kill(strand.next()),
            What::Corrupt(strand) => What::Corrupt(strand.next()),
            What::Partition(strand) => What::Partition(strand.next()),
            lines => lines,
        };
    }
    all
}

pub(super) const fn name(strand: Strand) -> &'static str {
    match strand {
        Strand::Compute => "compute",
        Strand::Io => "io",
        Strand::Accelerator => "accelerator",
    }
}

fn scale(root: &Table<'_>) -> Vec<u32> {
    let table = root.table(
        "scale",
        "What coordination costs at several sizes, measured beside the run, under the same work for each.",
    );
    let sizes = table
        .count("players", "Processes on all three tori together.")
        .range(3..=PLAYERS_MAX)
        .list(0..=8);
    sizes.into_iter().map(|players| players as u32).collect()
}

fn bounds(root: &Table<'_>) -> Bounds {
    let table = root.table("bounds", "What must hold for the run to be good.");
    Bounds {
        rebuild: table
            .time("rebuild", "From the loss of a torus until it runs again.")
            .range(Nanos::MICROSECOND..=Nanos::HOUR)
            .or(Nanos::from_millis(100)),
        growth: table
            .fraction("growth", "By how much an interval may cost more bytes at one of the sizes of `scale` than at another.")
            .range(0.0..=10.0)
            .or(0.25),
        missed: table
            .fraction("missed", "The share of turns that may come after their deadline; not judged if absent.")
            .range(0.0..=1.0)
            .optional(),
    }
}
