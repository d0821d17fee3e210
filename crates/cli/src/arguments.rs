//! What can be asked on the command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use scheduler::Policy;
use twin::site::whatif::{self, Submission};
use twin::universe::{Override, SettingError, Sweep};
use wire::Nanos;

const EXIT_CODES: &str = "\
Exit codes:
  0    fine
  1    the rehearsal ended, and an invariant of the universe failed (of a sweep: other than
       loop_damped past the edge of overshoot, if it found that and the edge of stability)
  2    the request was wrong; nothing was run, or what was found could not be written or printed
  130  stopped by Ctrl-C";

const PACK: &str = "\
Examples:
  cosmos twin pack --trace DIR --pods openb_pod_list_default.csv --seed 1 --policy fgd
                                               one policy, an order drawn from a seed
  cosmos twin pack --trace DIR --pods openb_pod_list_default.csv \\
      --order DIR/orders --policy all          all policies on the published orders

Pods arrive until what they ask for is worth 130 % of the cluster's GPU. Each is placed
at once or dropped; none leaves.

Exit codes:
  0  fine
  2  the request was wrong; nothing was run";
const COMPLETIONS: &str = "\
Examples:
  source <(cosmos completions bash)                              for this shell
  cosmos completions bash > ~/.local/share/bash-completion/completions/cosmos
  cosmos completions zsh > ~/.zfunc/_cosmos
  cosmos completions fish > ~/.config/fish/completions/cosmos.fish";

const WHY: &str = "\
Where it looks:
  A name is a program's if a node runs and knows it, and otherwise a job's in the newest run of a site in ./runs.
  --run, --at and --records ask for a run, --data for a node. Without a name it is the machine that is asked about.

Exit codes:
  0    there is an answer
  2    the request was wrong, or the run cannot be read or simulated again
  130  stopped by Ctrl-C";
const WHY_EXIT_CODES: &str = "\
Exit codes:
  0    there is an answer
  2    the request was wrong, or the run cannot be read or simulated again
  130  stopped by Ctrl-C";

const EXAMPLES: &str = "\
Examples:
  cosmos run hello.wasm                        a program, here and now
  cosmos universes                             which universes there are
  cosmos universes --keys                      what a universe file can say
  cosmos twin run matroska                     a million tiles, ten days
  cosmos twin run matroska --set thermos.enabled=false
                                               the same without Thermos: they burn
  cosmos twin run openb --trace DIR            a GPU cluster's trace, with heat
  cosmos twin pack --trace DIR --pods FILE --seed 1 --policy all
                                               how policies pack a list of pods
  cosmos twin replay gpu-1024 --trace DIR      a day of 1,024 nodes, job by job
  cosmos twin replay gpu-1024 --trace DIR --jobs log.swf.gz
                                               the same with your own jobs
  cosmos twin live gpu-1024 --trace DIR --at 14h --pace 60
                                               the same in a browser, as it happens
  cosmos why JOB                               why it waited, in the newest run
  cosmos why JOB --at 14h                      the same at one moment, with a forecast
  cosmos twin whatif runs/gpu-1024-seed1 --at 14h --remove-node h100-007
                                               two futures, and how they differ
  cosmos twin run ./mine.toml --seed 7         your own, with other chance
  cosmos twin sweep loop --set thermos.gain=0.1/h..2.4/h:24
                                               one run for each of 24 values
  cosmos twin compare runs/openb-seed1 runs/openb-seed1-2
                                               what differs, as a table and a page

What a run leaves, in ./runs or where --out says:
  report.html   pictures first; open it in a browser, it needs no network
  summary.json  the outcome for scripts
  history.db    every decision, event and sample, for any SQLite; its BLAKE3 is in
                history.db.b3

Universes:
  A universe is a TOML file that describes a fleet: its machines, links, heat,
  work, faults and invariants. A name is looked up in ./universes/NAME.toml,
  then among those built into this command. Every number that has a dimension
  is written with its unit, \"350 K\" or \"2.5 kWh\".";

/// Run fleets of machines that heat up, fail and sit far apart; rehearse them first.
#[derive(Debug, Parser)]
#[command(
    name = "cosmos",
    version,
    after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
    disable_help_subcommand = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[expect(clippy::large_enum_variant, reason = "there is one in all, read once")]
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Living(crate::living::arguments::Asked),
    /// Rehearse a universe on the twin: virtual time, the code that runs.
    #[command(subcommand, disable_help_subcommand = true, after_help = EXIT_CODES)]
    Twin(Rehearsal),
    /// Say why a program of the node runs, does not, or was slowed, or why the machine is as it is; or of a run that was
    /// rehearsed, why a job waited, ran where it ran, moved or was refused.
    #[command(after_help = WHY)]
    Why(Why),
    /// List the universes, each with its intent.
    Universes(Universes),
    /// Print what a shell needs to complete this command's words.
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder, one for each command; `man -l DIR/cosmos.1` shows the first.
    Man {
        /// The folder, which is made if need be
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Rehearsal {
    /// Rehearse a universe once.
    #[command(after_help = EXIT_CODES)]
    Run(Run),
    /// Say what a universe of hosts does to them, and when: every fault at its time.
    #[command(after_help = EXIT_CODES)]
    Plan(Plan),
    /// Rehearse a site with work that was recorded, and keep jobs and decisions for other tools.
    #[command(after_help = EXIT_CODES)]
    Replay(Replay),
    /// Rehearse a site as slowly as a node lives, and show it on the dashboard that a node has.
    #[command(after_help = EXIT_CODES)]
    Live(Live),
    /// Rehearse a universe once for each value of one key, and find where its behaviour changes.
    #[command(after_help = EXIT_CODES)]
    Sweep(SweepRun),
    /// Lay runs that are on disk over each other: what of them differs, as a table and a page.
    #[command(after_help = EXIT_CODES)]
    Compare(Compare),
    /// Pack a list of pods into an empty cluster, one arrival at a time, and see how
    /// much of its GPU is allocated and how much of the rest is of no use.
    #[command(after_help = PACK)]
    Pack(Pack),
    /// Take a moment of a run of a site, change one thing, and show the difference it makes.
    #[command(name = "whatif", after_help = WHY_EXIT_CODES)]
    WhatIf(WhatIf),
}

#[derive(Debug, Args)]
pub(crate) struct Why {
    /// The program; or the job: its name, or its number, as in #17 [default: the machine itself]
    pub(crate) name: Option<String>,

    /// The run: the folder it left [default: the newest of a site in ./runs]
    #[arg(long, value_name = "DIR")]
    pub(crate) run: Option<PathBuf>,

    /// Ask at this moment of the run, such as 14h or "3d 4h", and not about the whole life
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<Time>,

    /// Read only what was recorded: nothing is simulated again
    #[arg(long, conflicts_with = "at")]
    pub(crate) records: bool,

    #[command(flatten)]
    pub(crate) data: crate::living::arguments::Data,

    #[command(flatten)]
    pub(crate) visit: Visit,
}

/// What is the same for every visit to a run that is on disk.
#[derive(Debug, Args)]
pub(crate) struct Visit {
    /// Where the workload traces of the run are now [default: where they were]
    #[arg(long, value_name = "DIR")]
    pub(crate) trace: Option<PathBuf>,

    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Show no progress
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WhatIf {
    /// The run: the folder it left
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run: PathBuf,

    /// From which moment on, such as 14h or "3d 4h"
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Time,

    /// Up to which moment [default: the end of the run]
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Time>,

    /// A node is gone, and what ran on it
    #[arg(long, value_name = "NAME|N")]
    pub(crate) remove_node: Vec<String>,

    /// A tenant is guaranteed so many GPUs
    #[arg(long, value_name = "TENANT=GPUS", value_parser = pair::<u32>)]
    pub(crate) quota: Vec<(String, u32)>,

    /// A tenant may have so many GPUs at most
    #[arg(long, value_name = "TENANT=GPUS", value_parser = pair::<u32>)]
    pub(crate) ceiling: Vec<(String, u32)>,

    /// A tenant has this weight
    #[arg(long, value_name = "TENANT=W", value_parser = pair::<f64>)]
    pub(crate) weight: Vec<(String, f64)>,

    /// Nodes are chosen by this policy
    #[arg(long, value_name = "NAME")]
    pub(crate) policy: Option<String>,

    /// Whether the scheduler looks at heat
    #[arg(long, value_name = "BOOL")]
    pub(crate) heat_aware: Option<bool>,

    /// A cooling loop carries this share of what it did when sound: 3=50%
    #[arg(long, value_name = "LOOP=SHARE", value_parser = capacity)]
    pub(crate) loop_capacity: Vec<(u16, f64)>,

    /// Neighbours take this share of what they would take from the cooling loops: 0%
    #[arg(long, value_name = "SHARE", value_parser = share, allow_hyphen_values = true)]
    pub(crate) neighbour: Option<f64>,

    /// One more job comes, such as gpus=8,tasks=2,model=H200,runs=2h,tenant=NAME; also cpu,
    /// memory, limit, priority, quality
    #[arg(long, value_name = "JOB")]
    pub(crate) submit: Vec<Submission>,

    /// Another key of `scheduler` or `tenant` has this value
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<Override>,

    /// Leave whatif.json and whatif.txt in this new folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) visit: Visit,
}

/// A moment of a run: the time since its beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time(pub(crate) Nanos);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = whatif::time(text).map(Self);
        time.ok_or_else(|| format!("found \"{text}\", expected a time, such as 14h or \"3d 4h\""))
    }
}

fn pair<T: FromStr>(text: &str) -> Result<(String, T), String> {
    let (name, value) = text.rsplit_once('=').unwrap_or((text, ""));
    let value = value.trim().parse().ok();
    value
        .map(|value| (name.trim().to_owned(), value))
        .ok_or_else(|| {
            format!("found \"{text}\", expected a name and a number, such as research=64")
        })
}

fn capacity(text: &str) -> Result<(u16, f64), String> {
    let wrong = || format!("found \"{text}\", expected a loop and a share, such as 3=50%");
    let (coolant, share) = text.split_once('=').ok_or_else(wrong)?;
    let coolant = coolant.trim().parse().map_err(|_| wrong())?;
    Ok((coolant, self::share(share)?))
}

fn share(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let (number, whole) = text
        .strip_suffix('%')
        .map_or((text, 1.0), |n| (n.trim(), 100.0));
    let share = number.parse::<f64>().ok().map(|n| n / whole);
    share.filter(|s| (0.0..=1.0).contains(s)).ok_or_else(|| {
        format!("found \"{text}\", expected a share from 0 to 1, or from 0% to 100%")
    })
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) settled: Settled,

    /// Change a key of the universe for this run: thermos.enabled=false,
    /// time.end=2d, shell.2.limit=350K. The last one holds
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<Override>,

    /// Of a fleet: the history of real hosts that lived through the same file, as cargo xtask fleet
    /// writes it; set beside what was rehearsed
    #[arg(long, value_name = "FILE")]
    pub(crate) measured: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The universe: a path, or a name that `cosmos universes` lists
    pub(crate) universe: String,

    /// Change a key of the universe, as for a rehearsal
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<Override>,

    /// Print it as JSON, times in nanoseconds, hosts counted from 0
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(crate) run: Run,

    /// Replay these jobs in place of the universe's own: openb or Philly lists, or logs in
    /// the Standard Workload Format, plain or .gz
    #[arg(long, value_name = "FILE")]
    pub(crate) jobs: Vec<PathBuf>,

    /// How they are written [default: by their names and first lines]
    #[arg(long, requires = "jobs")]
    pub(crate) format: Option<Format>,

    /// Where the jobs go as they ran, in the Standard Workload Format
    /// [default: jobs.swf among the results]
    #[arg(long, value_name = "FILE")]
    pub(crate) swf: Option<PathBuf>,

    /// Where the decisions go [default: decisions.parquet among the results]
    #[arg(long, value_name = "FILE")]
    pub(crate) decisions: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Live {
    /// The universe of a site: a path, or a name that `cosmos universes` lists
    pub(crate) universe: String,

    /// A folder of workload traces, where the universe replays one
    #[arg(long, value_name = "DIR")]
    pub(crate) trace: Option<PathBuf>,

    /// Live these jobs in place of the universe's own, as for a replay
    #[arg(long, value_name = "FILE")]
    pub(crate) jobs: Vec<PathBuf>,

    /// Begin at this moment, such as 14h or "3d 4h"; what comes before is rehearsed at once
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<Time>,

    /// So many seconds of the rehearsal pass in one
    #[arg(long, value_name = "N", default_value = "1", value_parser = pace)]
    pub(crate) pace: f64,

    /// Where to serve the dashboard; the address with its key is printed
    /// [default: 127.0.0.1:7600, or another port if that is taken]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http: Option<std::net::SocketAddr>,

    /// Where all chance comes from [default: the universe's own]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Change a key of the universe, as for a rehearsal
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<Override>,

    /// Show no progress on the way to the first moment
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// More than an hour in a second is nothing to look at.
const PACE_MAX: f64 = 3_600.0;

fn pace(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(pace) if (0.01..=PACE_MAX).contains(&pace) => Ok(pace),
        _ => Err(format!(
            "found \"{text}\", expected a number from 0.01 to {PACE_MAX}"
        )),
    }
}

/// [`twin::site::jobs::Format`] as a word on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Openb,
    Philly,
    Swf,
}

impl From<Format> for twin::site::jobs::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Openb => Self::Openb,
            Format::Philly => Self::Philly,
            Format::Swf => Self::Swf,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// Directories that runs left, two or more; or files of `cosmos twin pack --json`, whose
    /// curves are drawn
    #[arg(required = true, value_name = "RUN")]
    pub(crate) what: Vec<PathBuf>,

    /// Published results to hold curves against: CSV with pod_list, policy, arrived_percent,
    /// allocated_percent_mean and fragmented_of_idle_percent_mean
    #[arg(long, value_name = "FILE")]
    pub(crate) published: Option<PathBuf>,

    /// Where the page goes [default: a new folder in ./runs]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Print the differences as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SweepRun {
    #[command(flatten)]
    pub(crate) settled: Settled,

    /// Sweep a key from one value to another, both included, or set it:
    /// thermos.gain=0.1/h..2/h:20, time.end=2d
    #[arg(long = "set", value_name = "KEY=FROM..TO:STEPS", required = true)]
    pub(crate) settings: Vec<Setting>,
}

/// What is the same for one run and for many.
#[derive(Debug, Args)]
pub(crate) struct Settled {
    /// The universe: a path, or a name that `cosmos universes` lists
    pub(crate) universe: String,

    /// Where all chance comes from; the same seed gives the same history
    /// [default: the universe's own]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// How many threads work; never changes the result [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// A folder of workload traces, where the universe replays one
    #[arg(long, value_name = "DIR")]
    pub(crate) trace: Option<PathBuf>,

    /// Where the results go [default: a new folder in ./runs]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Show no progress
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Pack {
    /// A folder with lists of nodes and pods in the format of the openb trace
    #[arg(long, value_name = "DIR")]
    pub(crate) trace: PathBuf,

    /// The list of pods: the name of a file in DIR, or a path
    #[arg(long, value_name = "FILE")]
    pub(crate) pods: PathBuf,

    /// The list of nodes, likewise
    #[arg(
        long,
        value_name = "FILE",
        default_value = "openb_node_list_gpu_node.csv"
    )]
    pub(crate) nodes: PathBuf,

    /// Who arrives when: a list of pod names, plain or gzipped; a folder stands for
    /// those in it that begin with the last word of the pods' list. May be repeated
    #[arg(long = "order", value_name = "FILE")]
    pub(crate) orders: Vec<PathBuf>,

    /// Where chance comes from: ties, the policy `random` and, without --order, the
    /// order itself [default: with --order the number behind `seed` in its name, else 42]
    #[arg(long = "seed", value_name = "N", value_delimiter = ',')]
    pub(crate) seeds: Vec<u64>,

    /// Who decides; several compare themselves
    #[arg(
        long = "policy",
        value_name = "NAME",
        default_value = "cosmos",
        value_delimiter = ','
    )]
    pub(crate) policies: Vec<Policies>,

    /// How many placed pods `cosmos` may move for each hundred arrivals, to where they cost
    /// less; what is not used is saved up. No other policy moves any
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100))]
    pub(crate) migrate: u32,

    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A `--policy`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Policies {
    One(Policy),
    All,
}

impl FromStr for Policies {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == "all" {
            return Ok(Self::All);
        }
        let policy = name.parse().map(Self::One);
        policy.map_err(|scheduler::policy::UnknownPolicy| {
            let names = Policy::ALL.map(Policy::name).join(", ");
            format!("expected {names} or all")
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct Universes {
    /// Print every key a universe file can have: unit, range, default, meaning
    #[arg(long, conflicts_with = "json")]
    pub(crate) keys: bool,

    /// Print the list as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A `--set` of a sweep.
#[derive(Clone, Debug)]
pub(crate) enum Setting {
    One(Override),
    Range(Sweep),
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(one) => one.fmt(f),
            Self::Range(range) => {
                let Sweep { path, unit, values } = range;
                let (first, last) = (values.first(), values.last());
                let (first, last) = (first.copied().unwrap_or(0.0), last.copied().unwrap_or(0.0));
                write!(f, "{path}={first}{unit}..{last}{unit}:{}", values.len())
            }
        }
    }
}

impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        if Sweep::is_range(text) {
            text.parse().map(Self::Range)
        } else {
            text.parse().map(Self::One)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn no_two_arguments_contradict_each_other() {
        super::Arguments::command().debug_assert();
    }
}
