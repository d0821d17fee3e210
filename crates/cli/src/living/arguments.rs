//! What can be asked of a node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use daemon::fleet;
use daemon::store::Membership;
use daemon::supervision::Intensity;
use trust::invitation::{Invitation, NoInvitation};
use wire::Class;

const EXAMPLES: &str = "\
Examples:
  cosmos run hello.wasm                        a capsule: it sees what it is given, nothing else
  cosmos run --dir docs count.wasm docs/a.md   with a folder
  cosmos run --mem 64MiB --fuel 1000000000 hello.wasm
                                               and with limits
  cosmos run --port 8080:80 http.wasm          a component that answers HTTP, until Ctrl-C
  cosmos run --deterministic --seed 7 dice.wasm
                                               the same way whenever the seed is the same
  cosmos run --state count.state counter.wasm < events.txt
                                               a capsule that lives from line to line, through kill -9 too
  cosmos run -d --name web --restart always --dir site --port 8080:80 ./server
                                               on the node that `cosmos up` started
  cosmos run -d -f app.toml                    as a file says
  cosmos run -d --name web --replicas 3 --restart always ./server
                                               on three machines of the fleet, wherever they are

Exit codes:
  the program's own, or 128 + the number of the signal that ended it
  2    the request was wrong; nothing was run
  124  its deadline passed
  125  cosmos could not do its part
  126  the file is there and cannot be run
  127  there is no such program
  134  a capsule ended in a trap
  137  a limit was reached";

#[expect(clippy::large_enum_variant, reason = "there is one in all, read once")]
#[derive(Debug, Subcommand)]
pub(crate) enum Asked {
    /// Run a program: WebAssembly (WASI modules and components), or one of this host.
    #[command(after_help = EXAMPLES)]
    Run(Run),
    /// Start a node on this machine, in the foreground; Ctrl-C or SIGTERM ends its programs and it.
    #[command(after_help = UP)]
    Up(Up),
    /// Run a program inside another one that runs: in its namespaces, folders, network and limits.
    Exec(Exec),
    /// List the programs of the node, or of the whole fleet.
    Ps(Ps),
    /// Print what a program said.
    Logs(Logs),
    /// End programs: ask them, and force those that have not ended after 10 s.
    Stop(Named),
    /// Forget programs that have ended, with what they said.
    Rm(Named),
    /// Wait until programs have ended for good.
    Wait(Chosen),
    /// Say how the node is, how hot, and who keeps its programs within their limits.
    Status(Ask),
    /// Show the node and its programs as they are: processor, memory, heat, restarts; for as long as you look.
    #[command(after_help = TOP)]
    Top(Top),
    /// List the layers of the system by their names, how each is on this node, and what it does.
    #[command(after_help = SERVICES)]
    Services(Ask),
    /// Print the address of the node's dashboard, with the key to it.
    #[command(after_help = DASHBOARD)]
    Dashboard(Ask),
    /// Tell a node whose temperature is modelled how warm it is outside, to see what it would do.
    Outside(Outside),
    /// Print an invitation: one line that takes one machine into the fleet, for a short time.
    Invite(Invite),
    /// List the machines of the fleet, as this node believes them to be, or what they hold and why.
    Members(Members),
    /// Measure how long a word takes to another machine and back, in the class of what is urgent.
    Ping(Ping),
    /// Drill a braid whose three tori sit on three machines: work whose outcome is known, judged at the end, whichever of them dies.
    #[command(after_help = BRAID)]
    Braid(Braid),
    /// Let a machine be given nothing more by the fleet, and hand over what it runs for it.
    #[command(after_help = DRAIN)]
    Drain(Drain),
    /// Take leave of the fleet: hand over what this machine runs for it, as `drain` does, what it keeps of capsules, and its vote, for at most 25 s and what was asked by then; then go, and say what was not handed over (exit code 1). What it runs for itself runs on, and the next `cosmos up` comes back.
    Leave(Ask),
    /// Throw a machine out of the fleet for good: its certificate counts no more, and its seat stays empty. Where the fleet was founded.
    Expel(Expel),
}

const TOP: &str = "\
On a terminal it goes on until q or Ctrl-C; keys choose what to sort by. Into a pipe or a file it says once what was
used between two looks.

A program's heat is its part of what the processor gives off, by the model of the twin: no sensor tells one program's
heat from another's.";

const SERVICES: &str = "\
  well    it does what it should, as far as can be seen at this moment
  unwell  it does not, or not all of it
  absent  this node has none

Exit codes:
  0  none is unwell
  1  at least one is";

const DRAIN: &str = "\
Of a program with several replicas each is started elsewhere first, and ended here once that is well and all the others are: one at a time.
A program with one replica is promised to be alone, so it is ended first, and waits where nothing else has room. Of several, those stay that have nowhere to go.
`cosmos ps --fleet` shows how far it is. The machine remembers it, also when it starts again, until `--undo`.";

const DASHBOARD: &str = "\
Whoever has the address with its key may command the node: it is for its owner's browser. The key is in the file
`key` of the node's directory; after removing it and starting the node again there is a new one.

The same key serves as bearer token of the API, which describes itself:
  curl -H \"Authorization: Bearer $(cat DIR/key)\" http://127.0.0.1:7600/api/openapi.json";

const UP: &str = "\
The node keeps everything in its directory, which only its owner can read. A second start resumes what was
running. Programs end with it, however it ends: asked first, forced after 10 s; at once if the node is killed or the
machine too hot.

A node that starts alone is a fleet of one. `cosmos invite` prints a line there with which one other machine becomes
a member; from then on it needs no invitation.

Examples:
  cosmos up                                             alone, on loopback
  cosmos up --listen 192.0.2.7:4433                     where others can reach it
  cosmos up --universe five                             held to what the rehearsed hosts are held to
  cosmos up --listen 192.0.2.8:4433 --join cosmos1-...  with the line from there

Exit codes:
  0  it was told to end, and every program has ended
  2  it could not start, or the machine was too hot to go on; nothing runs";

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Where to serve the dashboard, the API and /metrics, or `off` [default: 127.0.0.1:7600, or another port of
    /// it if that one is taken]
    #[arg(long, value_name = "ADDR", value_parser = http)]
    pub(crate) http: Option<daemon::node::Asked>,
    /// Where other machines reach this one (UDP); port 0 takes the last, or a free one [default: the last address, or
    /// 127.0.0.1:0]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,

    /// Become a member of the fleet that printed this line; a fleet of one that was given programs must be rid of them first
    #[arg(long, value_name = "INVITATION", value_parser = invitation)]
    pub(crate) join: Option<Invitation>,

    /// What to be called when it founds or joins a fleet [default: the host's name]
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// What this machine is, how hot it may become, and how long members wait for each other, as a universe of kind
    /// `fleet` says: a path, or a name that `cosmos universes` lists [default: a common server]
    #[arg(long, value_name = "FILE")]
    pub(crate) universe: Option<String>,

    /// For tests: where device nodes of GPUs are looked for
    #[arg(long, hide = true, value_name = "DIR")]
    pub(crate) devices: Option<PathBuf>,

    /// For tests: where the kernel shows sensors, and what can be set
    #[arg(long, hide = true, value_name = "DIR")]
    pub(crate) system: Option<PathBuf>,

    /// For tests: the library that tells of GPUs
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) nvml: Option<PathBuf>,

    /// For tests of a fleet: let this node's clock be ahead by so many nanoseconds, or behind
    #[arg(long, hide = true, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) skew_ns: i64,
    /// Print where it is as JSON, once it is ready
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) data: Data,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// What comes first
    #[arg(long, value_name = "WHAT", default_value = "cpu")]
    pub(crate) sort: Sort,

    /// Between one look and the next, from 100ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = pace)]
    pub(crate) every: Duration,

    /// Say it once and end
    #[arg(long)]
    pub(crate) once: bool,

    #[command(flatten)]
    pub(crate) ask: Ask,
}

/// What `cosmos top` sorts by: the most first, names and states by the alphabet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sort {
    Cpu,
    Memory,
    Heat,
    Restarts,
    State,
    Uptime,
    Name,
}

impl Sort {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Heat => "heat",
            Self::Restarts => "restarts",
            Self::State => "state",
            Self::Uptime => "uptime",
            Self::Name => "name",
        }
    }
}

/// Programs by their names, or by their group's.
#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// The programs
    #[arg(required_unless_present = "group", value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// All of this group
    #[arg(long, value_name = "GROUP", conflicts_with = "names")]
    pub(crate) group: Option<String>,

    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
pub(crate) struct Invite {
    /// For how long it is good, such as 10min; at most a week
    #[arg(long, value_name = "TIME", default_value = "10min", value_parser = span)]
    pub(crate) lasts: Duration,

    #[command(flatten)]
    pub(crate) ask: Ask,
}

const BRAID: &str = "\
Examples:
  cosmos braid --on ada,ben,cleo                    a ring of 3,000 processes through three machines
  cosmos braid --on ada,ben,cleo --work errands --length 6 --pieces 10000
  cosmos braid --on ada,ben,cleo --work tree --length 1000 --pieces 50

Kill one of the machines meanwhile, with kill -9 if you like: the one that keeps the copy of its torus rebuilds it.
The machine that is asked (--data) gives the work and must live. Only one of the three may die.

Exit codes:
  0    every piece of work ended, once, and all that was counted is right
  1    not so; what is wrong is said
  2    the request was wrong (machines that are not there, numbers out of range), or the node answers no more
  130  it was interrupted, and ended on all machines";

#[derive(Debug, Args)]
pub(crate) struct Braid {
    /// Three machines, as `cosmos members` calls them: one torus on each
    #[arg(long, value_name = "MACHINES", required = true, value_delimiter = ',')]
    pub(crate) on: Vec<String>,

    /// What the processes do: messages around a ring of all, from anybody to anybody, or trees of processes that add up
    #[arg(long, value_name = "WORK", default_value = "ring", value_parser = ["ring", "errands", "tree"])]
    pub(crate) work: String,

    /// Processes on all three tori together
    #[arg(long, value_name = "N", default_value_t = 3_000)]
    pub(crate) players: u32,

    /// Pieces of work
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    pub(crate) pieces: u64,

    /// Pieces under way at once
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) at_once: u64,

    /// Hops of a message around the ring (10,000 unless said), stops of an errand (6), or leaves of a tree (1,000)
    #[arg(long, value_name = "N")]
    pub(crate) length: Option<u64>,

    /// Chance of who is thrown what
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Let each machine write down what its torus amounts to, sheet by sheet, in DATA/braids; slow
    #[arg(long)]
    pub(crate) witness: bool,

    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
pub(crate) struct Ping {
    /// The machine, as `cosmos members` calls it
    pub(crate) member: String,

    /// For how long, up to 20s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = span)]
    pub(crate) lasts: Duration,

    /// Send as much of class D meanwhile as the line takes
    #[arg(long)]
    pub(crate) beside_bulk: bool,

    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
pub(crate) struct Members {
    /// What the fleet runs for whom, who votes, and what was decided last
    #[arg(long)]
    pub(crate) leases: bool,

    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The machine [default: this one]
    pub(crate) machine: Option<String>,

    /// Give it work again
    #[arg(long)]
    pub(crate) undo: bool,

    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// What the fleet runs, and what each of its machines does that is held to be alive
    #[arg(long)]
    pub(crate) fleet: bool,

    #[command(flatten)]
    pub(crate) ask: Ask,
}

/// A question to a node.
#[derive(Debug, Args)]
pub(crate) struct Ask {
    #[command(flatten)]
    pub(crate) data: Data,

    /// Print the answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Outside {
    /// In degrees Celsius; a node begins with 20
    #[arg(allow_negative_numbers = true, value_parser = celsius)]
    pub(crate) celsius: f64,

    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Add to the environment, which is that of the other
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = variable)]
    pub(crate) environment: Vec<(String, String)>,

    /// Print what it ended with as JSON, as the last line on standard error
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) data: Data,

    /// The program that runs
    pub(crate) name: String,

    /// The program to run, and its words
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "PROGRAM [ARGS]"
    )]
    pub(crate) words: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The program
    pub(crate) name: String,

    /// Go on as it says more, until it has ended for good
    #[arg(long, short)]
    pub(crate) follow: bool,

    /// On another machine of the fleet, by its name; `cosmos ps --fleet` says which runs what
    #[arg(long, value_name = "MACHINE")]
    pub(crate) on: Option<String>,

    /// Print each line as JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) data: Data,
}

#[derive(Debug, Args)]
pub(crate) struct Expel {
    /// The machine
    pub(crate) machine: String,

    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    #[command(flatten)]
    pub(crate) chosen: Chosen,

    /// On another machine of the fleet, by its name
    #[arg(long, value_name = "MACHINE", conflicts_with = "group")]
    pub(crate) on: Option<String>,

    /// What the fleet runs under that name, not what this machine runs for itself
    #[arg(long, conflicts_with_all = ["group", "on"])]
    pub(crate) fleet: bool,
}

/// [`daemon::supervision::Restart`] as a word on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Restart {
    Never,
    OnFailure,
    Always,
}

impl From<Restart> for daemon::supervision::Restart {
    fn from(restart: Restart) -> Self {
        match restart {
            Restart::Never => Self::Never,
            Restart::OnFailure => Self::OnFailure,
            Restart::Always => Self::Always,
        }
    }
}

/// [`daemon::program::Network`] as a word on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Network {
    Own,
    Host,
}

impl From<Network> for daemon::program::Network {
    fn from(network: Network) -> Self {
        match network {
            Network::Own => Self::Own,
            Network::Host => Self::Host,
        }
    }
}

/// [`daemon::supervision::Strategy`] as a word on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Strategy {
    OneForOne,
    AllForOne,
}

impl From<Strategy> for daemon::supervision::Strategy {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::OneForOne => Self::OneForOne,
            Strategy::AllForOne => Self::AllForOne,
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    /// Read what to run, and how, from a TOML file
    #[arg(
        long,
        short,
        value_name = "FILE",
        conflicts_with_all = ["environment", "folders", "memory", "cores", "fuel", "seed", "deterministic", "state", "class", "network", "ports", "restart", "group", "batch", "words", "gpus", "deadline", "first"]
    )]
    pub(crate) file: Option<PathBuf>,

    /// Where the paths of a file begin.
    #[arg(skip)]
    pub(crate) directory: Option<PathBuf>,

    /// Of a file with several programs: which group they are.
    #[arg(skip)]
    pub(crate) membership: Option<Membership>,

    /// Only a file says how to find out whether it is well.
    #[arg(skip)]
    pub(crate) health: Option<daemon::health::Health>,

    /// Add to its environment
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = variable)]
    pub(crate) environment: Vec<(String, String)>,

    /// Let it read and write a folder, which it also finds under the name GUEST; a colon in a name is written \:
    #[arg(long = "dir", value_name = "PATH[:GUEST]")]
    pub(crate) folders: Vec<String>,

    /// How much memory it may have, such as 64MiB
    #[arg(long = "mem", value_name = "SIZE")]
    pub(crate) memory: Option<Bytes>,

    /// How many cores a program of the host may use, such as 0.5
    #[arg(long = "cpu", value_name = "CORES", value_parser = cores)]
    pub(crate) cores: Option<f64>,

    /// How many instructions a capsule may execute, as wasmtime counts fuel
    #[arg(long, value_name = "N")]
    pub(crate) fuel: Option<u64>,

    /// How much it is given where others want the same: A the most, then B, C and D, each a quarter of the one before;
    /// who says nothing is as C. Processor, and disk where the host shares that out
    #[arg(long, value_name = "CLASS", value_parser = class)]
    pub(crate) class: Option<Class>,

    /// How many whole GPUs it is given, which are its own until it has ended for good; with --detach
    #[arg(long = "gpu", value_name = "N")]
    pub(crate) gpus: Option<u32>,

    /// It has to have ended after so long, such as 90s or 10min; otherwise it is asked to end, forced 10 s later, and
    /// not started again
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) deadline: Option<Duration>,

    /// Let a capsule run the same way twice: with a clock of its own, which only moves when it waits or looks, and
    /// chance from --seed. Its input is read to the end before it starts
    #[arg(long, conflicts_with_all = ["folders", "ports"])]
    pub(crate) deterministic: bool,

    /// Where its chance comes from
    #[arg(
        long,
        value_name = "N",
        requires = "deterministic",
        default_value_t = 1
    )]
    pub(crate) seed: u64,

    /// Let a capsule live from event to event, and keep what it is between them in this file: its function on_event is
    /// called for each line of standard input, and its answers bear the line's number; or with --port, for each POST there.
    /// With --detach the node keeps it, and with --replicas 1 several machines do
    #[arg(long, value_name = "FILE", conflicts_with_all = ["detach", "folders"])]
    pub(crate) state: Option<PathBuf>,

    /// Which event the first line is; those it has seen are passed over
    #[arg(
        long,
        value_name = "N",
        requires = "state",
        conflicts_with = "ports",
        default_value_t = 1
    )]
    pub(crate) first: u64,

    /// Whose network it is in: one of its own, which only --port leads into, or the host's
    #[arg(long = "net", value_name = "WHOSE", default_value = "own")]
    pub(crate) network: Network,

    /// Let a port of the host lead to one of the program's own network, or to a capsule that answers HTTP or lives from event to event
    #[arg(
        long = "port",
        value_name = "[ADDRESS:]HOST:GUEST",
        conflicts_with = "network"
    )]
    pub(crate) ports: Vec<daemon::program::Port>,

    /// Hand it to the node, and return once that has taken it
    #[arg(long, short)]
    pub(crate) detach: bool,

    /// Hand it to another machine of the fleet, by its name; its files must lie there under the same paths
    #[arg(long, requires = "detach", value_name = "MACHINE")]
    pub(crate) on: Option<String>,

    /// Hand it to the fleet, which runs so many of it on its machines and others in their place when machines die; its files must lie on each under
    /// the same paths
    #[arg(long, requires = "detach", conflicts_with = "on", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) replicas: Option<u32>,

    /// What the node calls it [default: after its file]
    #[arg(long, requires = "detach")]
    pub(crate) name: Option<String>,

    /// When the node starts it again, after a pause that doubles from 0.1 s to a minute
    #[arg(
        long,
        requires = "detach",
        value_name = "WHEN",
        default_value = "never"
    )]
    pub(crate) restart: Restart,

    /// Let it belong to a group, whose members are supervised together
    #[arg(long, requires = "detach", value_name = "NAME")]
    pub(crate) group: Option<String>,

    /// What it means for the others of the group when one is to be started again: nothing, or that all are
    #[arg(
        long,
        requires = "group",
        value_name = "STRATEGY",
        default_value = "one-for-one"
    )]
    pub(crate) strategy: Strategy,

    /// How often members may be started again within which time, before the group is given up [default: 5/10s]
    #[arg(long, requires = "group", value_name = "N/TIME", value_parser = intensity)]
    pub(crate) intensity: Option<Intensity>,

    /// How many of the group run at a time; the others wait for their turn [default: all; of --count and --batch as many
    /// as there are cores]
    #[arg(long, requires = "detach", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) at_once: Option<u32>,

    /// Run it so many times, each with its number from 1 on in COSMOS_INDEX
    #[arg(long, requires = "detach", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) count: Option<u32>,

    /// Run what each line of a file says, taken apart as a shell would; - is standard input
    #[arg(long, requires = "detach", value_name = "FILE", conflicts_with_all = ["count", "words"])]
    pub(crate) batch: Option<PathBuf>,

    /// Print its name as JSON; in the foreground, what it ended with, as the last line on standard error
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) data: Data,

    /// The program and its words: a WebAssembly file, an executable file, or a name on PATH
    #[arg(
        required_unless_present_any = ["file", "batch"],
        trailing_var_arg = true,
        value_name = "PROGRAM [ARGS]"
    )]
    pub(crate) words: Vec<String>,
}

/// Which node.
#[derive(Clone, Debug, Args)]
pub(crate) struct Data {
    /// The node's directory [default: $XDG_DATA_HOME/cosmos, or ~/.local/share/cosmos]
    #[arg(long = "data", env = "COSMOS_DATA", value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Data {
    /// Absolute, and perhaps not there yet.
    pub(crate) fn directory(&self) -> anyhow::Result<PathBuf> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = || Some(PathBuf::from(set("HOME")?).join(".local/share"));
        let default = || {
            Some(
                set("XDG_DATA_HOME")
                    .map(PathBuf::from)
                    .or_else(home)?
                    .join("cosmos"),
            )
        };
        let found = self.directory.clone().or_else(default);
        let found = found.ok_or_else(|| {
            anyhow::anyhow!(
                "neither --data, COSMOS_DATA nor HOME says where the node's directory is"
            )
        })?;
        Ok(std::path::absolute(found)?)
    }
}

/// A `--mem`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "found \"{text}\", expected a size, such as 64MiB; units: B, kB, MB, GB, KiB, MiB, GiB"
            )
        };
        let end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let unit: u64 = match text[end..].trim() {
            "B" => 1,
            "kB" => 1000,
            "MB" => 1000 * 1000,
            "GB" => 1000 * 1000 * 1000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        let number: u64 = text[..end].parse().map_err(|_| wrong())?;
        number.checked_mul(unit).map(Self).ok_or_else(wrong)
    }
}

/// What the node takes, so that what is no temperature at all is refused as what it is.
fn celsius(text: &str) -> Result<f64, String> {
    let celsius = text
        .parse()
        .ok()
        .filter(|celsius: &f64| celsius.is_finite());
    celsius.ok_or_else(|| format!("found \"{text}\", expected a temperature in °C, such as 35"))
}

fn class(text: &str) -> Result<Class, String> {
    let found = Class::ALL
        .into_iter()
        .find(|class| class.to_string() == text);
    found.ok_or_else(|| format!("found \"{text}\", expected A, B, C or D"))
}

/// An `--intensity`.
fn intensity(text: &str) -> Result<Intensity, String> {
    let wrong = || format!("found \"{text}\", expected restarts and a time, such as 5/10s");
    let (restarts, within) = text.split_once('/').ok_or_else(wrong)?;
    let within = span(within).map_err(|_| wrong())?;
    Ok(Intensity {
        restarts: restarts.parse().map_err(|_| wrong())?,
        within_ms: u64::try_from(within.as_millis()).map_err(|_| wrong())?,
    })
}

/// An `--every`.
fn pace(text: &str) -> Result<Duration, String> {
    let wrong = || format!("found \"{text}\", expected a time from 100ms to 1h, such as 2s");
    let span = match text.strip_suffix("ms") {
        Some(number) => Duration::from_millis(number.trim().parse().map_err(|_| wrong())?),
        None => span(text).map_err(|_| wrong())?,
    };
    let possible = Duration::from_millis(100)..=Duration::from_secs(3600);
    Some(span)
        .filter(|span| possible.contains(span))
        .ok_or_else(wrong)
}

fn http(text: &str) -> Result<daemon::node::Asked, String> {
    if text == "off" {
        return Ok(daemon::node::Asked::Nowhere);
    }
    let address = text.parse().map(daemon::node::Asked::At);
    address.map_err(|_| {
        format!("found \"{text}\", expected an address with a port, such as 127.0.0.1:7600, or off")
    })
}

fn invitation(line: &str) -> Result<Invitation, String> {
    line.trim()
        .parse()
        .map_err(|error: NoInvitation| error.to_string())
}

/// A `--lasts`.
fn span(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "found \"{text}\", expected a time from 1s to 7d, such as 10min; units: s, min, h, d"
        )
    };
    let end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let unit = match text[end..].trim() {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..end].parse().map_err(|_| wrong())?;
    let span = number.checked_mul(unit).map(Duration::from_secs);
    let possible = Duration::from_secs(1)..=fleet::INVITATION_LASTS_MAX;
    span.filter(|span| possible.contains(span))
        .ok_or_else(wrong)
}

pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("found \"{text}\", expected KEY=VALUE")),
    }
}

/// What `--cpu` takes: less the kernel does not deal out, and more no host has.
pub(super) fn cores_allowed() -> std::ops::RangeInclusive<f64> {
    0.01..=1024.0
}

fn cores(text: &str) -> Result<f64, String> {
    let cores = text
        .parse()
        .ok()
        .filter(|cores| cores_allowed().contains(cores));
    cores.ok_or_else(|| format!("found \"{text}\", expected cores from 0.01 to 1024"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_lasts_from_a_second_to_a_week() {
        assert_eq!(span("10min"), Ok(fleet::INVITATION_LASTS));
        assert_eq!(span("7d"), Ok(fleet::INVITATION_LASTS_MAX));
        for wrong in [
            "",
            "10",
            "min",
            "0s",
            "8d",
            "-1s",
            "1.5h",
            "99999999999999999d",
        ] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_size_has_a_unit() {
        let read = |text: &str| text.parse::<Bytes>().ok().map(|bytes| bytes.0);
        assert_eq!(read("64MiB"), Some(64 << 20));
        assert_eq!(read("1 GB"), Some(1_000_000_000));
        for wrong in ["", "64", "MiB", "64M", "-1B", "99999999999GiB", "1.5GiB"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
