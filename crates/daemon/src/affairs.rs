//! What the fleet runs, asked for and told in words.
//!
//! The voters agree on numbers and bytes ([`node::council`]); people know names, JSON and sentences. This is between the two, on whatever machine somebody
//! asks: it says what is wanted as a command of the council, waits for what became of it, and puts names to tiles.
//!
//! Deliberately absent: any decision.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use ::node::council::register::{
    Command, DOORS_MAX, Decision, Door, Machine, NAME_BYTES_MAX, Query, Refusal, Reply, Room,
    SPEC_BYTES_MAX, Standing, What, Why,
};
use ::node::council::{self, Unanswered};
use consensus::lease::{self, Duty};
use scheduler::Funnel;
use scheduler::fleet::words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::codec::decode_all;
use wire::{Class, Tile};

use crate::capsule;
use crate::control::Answer;
use crate::fleet::council::PATIENCE;
use crate::fleet::{self, Fleet};
use crate::keeping::Keeping;
use crate::lease::boottime;
use crate::program::{self, Program};
use crate::supervision::Restart;

/// How a program that the fleet runs was given to it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    pub(crate) program: Program,
    pub(crate) restart: Restart,
}

/// How everything that the fleet has agreed on stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Affairs {
    /// What the fleet runs, in the order in which it was given.
    pub programs: Vec<Shared>,
    /// What its machines have and do.
    pub machines: Vec<Place>,
    /// What was decided last, oldest first.
    pub decisions: Vec<Decided>,
}

/// A program that the fleet runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shared {
    /// Its name.
    pub name: String,
    /// Tells it from others that had the name.
    pub number: u64,
    /// How many of it there should be; 0 once it was stopped.
    pub replicas: u32,
    /// Those there are.
    pub standing: Vec<Replica>,
}

/// A replica of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replica {
    /// Its number, used once.
    pub replica: u32,
    /// `waiting`, `starting`, `running`, `restarting`, `stopping` or `ended`.
    pub state: String,
    /// Where.
    pub machine: Option<String>,
    /// Since which entry of the log: the later of two holders has the higher one.
    pub fence: Option<u64>,
    /// Why it waits or is started again, or its exit code, in words.
    pub because: Option<String>,
    /// Where other machines reach it: at the ports it was given that are not of its machine's loopback.
    pub addresses: Vec<SocketAddr>,
}

/// A machine, as the council has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Where it sits.
    pub tile: u64,
    /// `serving`, `draining`, `leaving` or `removed`.
    pub duty: String,
    /// Whether it renews what it holds.
    pub present: bool,
    /// What it has for programs, in thousandths of a core.
    pub cpu_milli: u64,
    /// And in bytes of memory.
    pub memory: u64,
    /// And in whole GPUs.
    #[serde(default)]
    pub gpus: u64,
}

/// Something that was decided, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decided {
    /// The entry of the log that says so.
    pub at: u64,
    /// What and why, in a sentence.
    pub sentence: String,
}

fn refused(because: impl Into<String>) -> Answer {
    Answer::Refused {
        because: because.into(),
    }
}

pub(crate) fn names(fleet: &Fleet) -> impl Fn(Tile) -> String {
    let members = fleet.members().unwrap_or_default();
    move |tile| {
        let member = members.iter().find(|member| member.tile == tile.0);
        member.map_or_else(|| format!("tile {}", tile.0), |member| member.name.clone())
    }
}

fn addresses(fleet: &Fleet) -> impl Fn(Tile) -> Option<IpAddr> {
    let members = fleet.members().unwrap_or_default();
    move |tile| {
        let member = members.iter().find(|member| member.tile == tile.0)?;
        member.address.map(|address| address.ip())
    }
}

/// What the voters say to something, or why they cannot.
pub(crate) fn agreed(fleet: &Fleet, ask: consensus::Ask) -> Result<Reply, String> {
    let unanswered = |unanswered| match unanswered {
        Unanswered::Silence => {
            let voters = fleet
                .status()
                .and_then(|status| status.council)
                .unwrap_or_default()
                .voters;
            let name = names(fleet);
            let voters: Vec<_> = voters.into_iter().map(|tile| name(Tile(tile))).collect();
            let voters = match voters.as_slice() {
                [] => String::new(),
                voters => format!(" (as far as this machine knows: {})", voters.join(", ")),
            };
            format!(
                "no majority of the machines that vote{voters} answered within {} s; if one was reached it may yet be done, and \
                 `cosmos ps --fleet` will say so",
                PATIENCE.as_secs()
            )
        }
        Unanswered::Crowd => {
            "too many wait for the fleet's voters here already; nothing was done".to_owned()
        }
        Unanswered::Impossible => "the fleet's voters cannot do it; nothing was done".to_owned(),
    };
    let bytes = fleet.agree(ask).map_err(unanswered)?;
    // What is about leases alone has answers of its own.
    let done = |_| {
        decode_all::<lease::Answer>(&bytes).map(|answer| match answer {
            lease::Answer::Unreadable => Reply::Refused(Refusal::Unreadable),
            _ => Reply::Done,
        })
    };
    decode_all(&bytes)
        .or_else(done)
        .map_err(|_| Refusal::Unreadable.words().to_owned())
}

fn answer(fleet: &Fleet, command: &Command, name: &str) -> Answer {
    match agreed(fleet, council::apply(command)) {
        Ok(Reply::Refused(refusal)) => refused(format!("{name}: {}", refusal.words())),
        Ok(_) => Answer::Done {
            name: name.to_owned(),
        },
        Err(because) => refused(because),
    }
}

/// Hands a program to the fleet.
pub(crate) fn give(
    fleet: &Fleet,
    name: Option<String>,
    program: Program,
    restart: Restart,
    replicas: u32,
) -> Answer {
    let name = match name.map_or_else(|| free_name(fleet, &program.path), Ok) {
        Ok(name) => name,
        Err(because) => return refused(because),
    };
    if !crate::node::is_name(&name) || name.len() > NAME_BYTES_MAX {
        return refused(format!(
            "the name {name:?}: expected at most {NAME_BYTES_MAX} letters, digits, '.', '_' and '-', the first a letter or digit"
        ));
    }
    let lives = !matches!(program::kind(&program.path), Ok(program::Kind::Native))
        && capsule::lives(&program.path);
    if lives && program.ports.is_empty() {
        return refused(format!(
            "{name} lives from event to event, and nobody could ask it: expected --port"
        ));
    }
    if lives && replicas > 1 {
        return refused(format!(
            "{name} lives from event to event, and what it becomes is one: found {replicas} replicas, expected 1"
        ));
    }
    let demand = Room {
        cpu_milli: program
            .limits
            .cores
            .map_or(0, |cores| (cores * 1_000.0).ceil() as u64),
        memory: program.limits.memory.unwrap_or(0),
        gpus: program.gpus() as u64,
    };
    let class = program.limits.class.unwrap_or(Class::C);
    let doors: Vec<_> = (program.ports.iter())
        .map(|port| Door {
            port: port.host.port(),
            outside: !port.host.ip().is_loopback(),
        })
        .collect();
    if doors.len() > DOORS_MAX {
        return refused(format!(
            "{name}: found {} ports, expected at most {DOORS_MAX} of what the fleet runs",
            doors.len()
        ));
    }
    let spec = serde_json::to_vec(&Spec { program, restart }).expect("a program is plain data");
    if spec.len() > SPEC_BYTES_MAX {
        return refused(format!(
            "{name}: its words, environment and settings take {} bytes, expected at most {SPEC_BYTES_MAX}",
            spec.len()
        ));
    }
    let command = Command::Give {
        name: name.clone(),
        spec: spec.into(),
        replicas,
        demand,
        class,
        doors,
    };
    answer(fleet, &command, &name)
}

fn free_name(fleet: &Fleet, path: &Path) -> Result<String, String> {
    let Reply::Affairs(affairs) = agreed(fleet, council::read(Query::Affairs))? else {
        return Err(Refusal::Unreadable.words().to_owned());
    };
    let taken = |name: &str| affairs.programs.iter().any(|program| program.name == name);
    Ok(program::free_name(path, NAME_BYTES_MAX - 8, taken))
}

/// Lets a program of the fleet run no more; answered when none of it runs, or after half a minute. `None` if the fleet has none of that name.
pub(crate) fn stop(fleet: &Fleet, name: &str) -> Option<Answer> {
    const PAUSE: Duration = Duration::from_millis(100);
    const PAUSES_MAX: u32 = 250;
    let command = Command::Stop {
        name: name.to_owned(),
    };
    match agreed(fleet, council::apply(&command)) {
        Ok(Reply::Refused(Refusal::Unknown)) => return None,
        Ok(Reply::Refused(refusal)) => {
            return Some(refused(format!("{name}: {}", refusal.words())));
        }
        Ok(_) => {}
        Err(because) => return Some(refused(because)),
    }
    for _ in 0..PAUSES_MAX {
        match agreed(fleet, council::read(Query::Affairs)) {
            Ok(Reply::Affairs(affairs)) => {
                let program = affairs.programs.iter().find(|program| program.name == name);
                let held =
                    |(_, standing): &(u32, Standing)| matches!(standing, Standing::Held { .. });
                if !program.is_some_and(|program| program.standing.iter().any(held)) {
                    return Some(Answer::Done {
                        name: name.to_owned(),
                    });
                }
            }
            Ok(_) => return Some(refused(Refusal::Unreadable.words())),
            Err(because) => return Some(refused(because)),
        }
        pause(PAUSE);
    }
    Some(refused(format!(
        "{name} is to end everywhere and has not ended yet; `cosmos ps --fleet` says where"
    )))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the voters say what is so, not when it changes"
)]
fn pause(span: Duration) {
    thread::sleep(span);
}

/// What is said of a name that the fleet has no program of.
pub(crate) fn unknown(name: &str) -> Answer {
    refused(format!("{name}: {}", Refusal::Unknown.words()))
}

/// Forgets a program of the fleet; `None` if it has none of that name.
pub(crate) fn forget(fleet: &Fleet, name: &str) -> Option<Answer> {
    let command = Command::Forget {
        name: name.to_owned(),
    };
    Some(match agreed(fleet, council::apply(&command)) {
        Ok(Reply::Refused(Refusal::Unknown)) => return None,
        Ok(Reply::Refused(refusal)) => refused(format!("{name}: {}", refusal.words())),
        Ok(_) => Answer::Done {
            name: name.to_owned(),
        },
        Err(because) => refused(because),
    })
}

/// Lets a machine be given nothing more and hand over what it has, or takes that back.
pub(crate) fn drain(fleet: &Fleet, member: Option<String>, undo: bool) -> Answer {
    let members = fleet.members().unwrap_or_default();
    let found = members.into_iter().find(|listed| match &member {
        Some(name) => listed.name == *name,
        None => listed.here,
    });
    let Some(found) = found else {
        let name = member.unwrap_or_default();
        return refused(format!(
            "there is no machine named {name:?} in the fleet; `cosmos members` lists them"
        ));
    };
    let duty = if undo { Duty::Serving } else { Duty::Draining };
    let tile = Tile(found.tile);
    answer(
        fleet,
        &Command::Lease(lease::Command::Assign { tile, duty }),
        &found.name,
    )
}

/// Takes the seat of a machine away, and what it holds as soon as its leases end.
pub(crate) fn expel(fleet: &Fleet, name: &str) -> Answer {
    let tile = match fleet.expel(name.to_owned()) {
        Ok(tile) => tile,
        Err(because) => return refused(because),
    };
    if any(fleet) {
        let duty = Duty::Removed;
        let assign = Command::Lease(lease::Command::Assign { tile, duty });
        if let Err(because) = agreed(fleet, council::apply(&assign)) {
            return refused(format!(
                "{name} is expelled, and nobody speaks with it any more; that it is given nothing more was not agreed: {because}"
            ));
        }
    }
    Answer::Done {
        name: name.to_owned(),
    }
}

/// A machine that leaves has so long to hand over what it has.
pub const LEAVING_MAX: Duration = Duration::from_secs(25);

/// Until when what it runs, what it keeps and its vote are waited for: what nobody can take must not cost the rest.
const LEAVING_BY: [Duration; 3] = [
    Duration::from_secs(15),
    Duration::from_secs(20),
    LEAVING_MAX,
];

/// Lets this machine hand over what it has of the fleet before it takes leave, as far as others can take it: what it runs, then what it keeps, then its vote. It is to
/// serve again when it comes back. `say` hears what is waited for, whenever that changes; what was not handed over is returned, in sentences.
pub(crate) fn hand_over(
    fleet: &Fleet,
    keeping: &Keeping,
    say: &mut dyn FnMut(&str),
) -> Vec<String> {
    let Some(status) = fleet.status().filter(|status| status.council.is_some()) else {
        return Vec::new();
    };
    let alone = status.alive < 2;
    let began = boottime();
    let [runs_by, keeps_by, votes_by] =
        LEAVING_BY.map(|by| began + u64::try_from(by.as_nanos()).unwrap_or(u64::MAX));
    let mut said = String::new();
    let mut waits = |left: &[String], until: u64| {
        let waits = left.join("; ");
        if !left.is_empty() && waits != said {
            say(&waits);
            said = waits;
        }
        let goes_on = !left.is_empty() && !alone && boottime() < until;
        if goes_on {
            pause(Duration::from_millis(100));
        }
        goes_on
    };
    let asked = |left: Result<Vec<String>, String>| left.unwrap_or_else(|because| vec![because]);
    let tile = Tile(status.tile);
    if !alone && let Err(because) = leaves(fleet, tile) {
        return vec![format!("nothing was handed over: {because}")];
    }
    let runs = loop {
        let left = asked(still_runs(fleet, tile));
        if !waits(&left, runs_by) {
            break left;
        }
    };
    let keeps = loop {
        let left = asked(keeping.still_kept(tile, keeps_by));
        if !waits(&left, keeps_by) {
            break left;
        }
    };
    let votes = loop {
        let left = match alone {
            // There is nobody to whom it could go.
            true => Vec::new(),
            false => still_votes(fleet, tile),
        };
        if !waits(&left, votes_by) {
            break left;
        }
    };
    [runs, keeps, votes].concat()
}

/// Says that a machine is to go, also if it drained: one that drains keeps its vote.
fn leaves(fleet: &Fleet, tile: Tile) -> Result<(), String> {
    let duty = Duty::Leaving;
    let assign = Command::Lease(lease::Command::Assign { tile, duty });
    agreed(fleet, council::apply(&assign)).map(drop)
}

/// What a machine still runs that drains, or nobody else has taken yet.
fn still_runs(fleet: &Fleet, tile: Tile) -> Result<Vec<String>, String> {
    let Reply::Affairs(affairs) = agreed(fleet, council::read(Query::Affairs))? else {
        return Err(Refusal::Unreadable.words().to_owned());
    };
    let standing = affairs.programs.iter().flat_map(|program| {
        let name = |replica: &u32| format!("{}~{replica}", program.name);
        (program.standing.iter()).map(move |(replica, standing)| (name(replica), *standing))
    });
    let left = standing.filter_map(|(name, standing)| match standing {
        Standing::Held { by, .. } if by == tile => Some(format!("nobody has taken {name} yet")),
        Standing::Waits(None) => Some(format!("{name} has no other machine yet")),
        _ => None,
    });
    let mut left: Vec<_> = left.collect();
    // What was let go, and is about to be opened again.
    let opens =
        |program: &&council::register::Listed| program.standing.len() < program.replicas as usize;
    let opens = affairs.programs.iter().filter(opens);
    left.extend(opens.map(|program| format!("{} has no other machine yet", program.name)));
    Ok(left)
}

/// Gives the vote of a machine back, if it has one.
fn still_votes(fleet: &Fleet, tile: Tile) -> Vec<String> {
    match fleet.agree(consensus::Ask::Retire(tile)) {
        Ok(_) => Vec::new(),
        Err(Unanswered::Impossible) => {
            vec!["its vote is the only one: nobody else has any yet".to_owned()]
        }
        Err(_) => vec![format!(
            "its vote was not given back: no majority of the machines that vote answered within {} s",
            PATIENCE.as_secs()
        )],
    }
}

/// How everything stands.
pub(crate) fn all(fleet: &Fleet) -> Answer {
    match agreed(fleet, council::read(Query::Affairs)) {
        Ok(Reply::Affairs(affairs)) => {
            let told = told(&affairs, &names(fleet), &addresses(fleet));
            Answer::Affairs(Box::new(told))
        }
        Ok(_) => refused(Refusal::Unreadable.words()),
        Err(because) => refused(because),
    }
}

fn told(
    affairs: &council::Affairs,
    name: &impl Fn(Tile) -> String,
    address: &impl Fn(Tile) -> Option<IpAddr>,
) -> Affairs {
    let programs = affairs.programs.iter().map(|program| Shared {
        name: program.name.clone(),
        number: program.number,
        replicas: program.replicas,
        standing: program
            .standing
            .iter()
            .map(|(replica, standing)| {
                let mut told = told_of(*replica, *standing, name);
                if let Standing::Held { by, .. } = standing {
                    let outside = program.doors.iter().filter(|door| door.outside);
                    let at = |door: &Door| Some(SocketAddr::new(address(*by)?, door.port));
                    told.addresses = outside.filter_map(at).collect();
                }
                told
            })
            .collect(),
    });
    let machines = affairs.machines.iter().map(
        |Machine {
             tile,
             duty,
             present,
             room,
         }| Place {
            name: name(*tile),
            tile: tile.0,
            duty: word(*duty).to_owned(),
            present: *present,
            cpu_milli: room.cpu_milli,
            memory: room.memory,
            gpus: room.gpus,
        },
    );
    let decisions = affairs.decisions.iter().map(|decision| Decided {
        at: decision.at.0,
        sentence: sentence(decision, name),
    });
    Affairs {
        programs: programs.collect(),
        machines: machines.collect(),
        decisions: decisions.collect(),
    }
}

pub(crate) fn told_of(replica: u32, standing: Standing, name: &impl Fn(Tile) -> String) -> Replica {
    let mut told = Replica {
        replica,
        state: "waiting".to_owned(),
        machine: None,
        fence: None,
        because: None,
        addresses: Vec::new(),
    };
    match standing {
        Standing::Waits(on) => told.because = on.map(|on| lack(&on)),
        Standing::Held {
            by,
            fence,
            up,
            fell,
            recalled,
        } => {
            let state = match (recalled, up, fell) {
                (true, ..) => "stopping",
                (false, true, _) => "running",
                (false, false, Some(_)) => "restarting",
                (false, false, None) => "starting",
            };
            told.because = fell.map(|code| format!("fell with exit code {code}"));
            told.state = state.to_owned();
            (told.machine, told.fence) = (Some(name(by)), Some(fence.0));
        }
        Standing::Ended(code) => {
            told.state = "ended".to_owned();
            told.because = Some(format!("exit code {code}"));
        }
    }
    told
}

const fn word(duty: Duty) -> &'static str {
    match duty {
        Duty::Serving => "serving",
        Duty::Draining => "draining",
        Duty::Removed => "removed",
        Duty::Leaving => "leaving",
    }
}

/// Why it has no place, in short.
fn lack(on: &Funnel) -> String {
    let (reason, tests) = (words::nowhere(on), words::in_short(on));
    match tests.is_empty() {
        true => reason.to_owned(),
        false => format!("{reason}; {tests}"),
    }
}

pub(crate) fn sentence(decision: &Decision, name: &impl Fn(Tile) -> String) -> String {
    let Decision {
        program,
        replica,
        what,
        ..
    } = decision;
    let what_of = match replica {
        Some(replica) => format!("{program}~{replica}"),
        None => program.clone(),
    };
    match what {
        What::Given(replicas) => format!("{what_of} was given, to run {replicas} times"),
        What::Stopped => format!("{what_of} was stopped"),
        What::Placed(tile, fit) => format!(
            "{what_of} was placed on {}: of the {fit} that could run it, it has the fewest of its replicas, then the least load",
            name(*tile)
        ),
        What::Waits(on) => format!("{what_of} waits: {}", lack(on)),
        What::Up(tile) => format!("{what_of} is well on {}", name(*tile)),
        What::Fell(tile, code) => format!(
            "{what_of} fell on {} with exit code {code}, where it is started again",
            name(*tile)
        ),
        What::Recalled(tile, why) => {
            let why = match why {
                Why::Stopped => "its program was stopped",
                Why::Drained => {
                    "the machine drains, and enough of it serves elsewhere or it must be alone"
                }
                Why::Surplus => "there was one more than asked for",
            };
            format!("{what_of} is recalled from {}: {why}", name(*tile))
        }
        What::Released(tile) => format!("{what_of} was let go by {}", name(*tile)),
        What::Expired(tile) => format!(
            "{what_of} was taken from {}: nothing was heard from there for longer than a lease lasts",
            name(*tile)
        ),
        What::Ended(tile, code) => {
            format!("{what_of} ended by itself on {}, with {code}", name(*tile))
        }
        What::Unable(tile, words) => {
            format!("{what_of} could not be run on {}: {words}", name(*tile))
        }
        What::Assigned(tile, duty) => format!("{} is {} from now on", name(*tile), word(*duty)),
    }
}

/// What was decided last about a machine, if anything was ever agreed on and enough of those who vote answer.
pub(crate) fn about(fleet: &Fleet, tile: Tile) -> Vec<Decided> {
    if !any(fleet) {
        return Vec::new();
    }
    let Ok(Reply::Affairs(affairs)) = agreed(fleet, council::read(Query::Affairs)) else {
        return Vec::new();
    };
    let name = names(fleet);
    let about = affairs
        .decisions
        .iter()
        .filter(|one| of(&one.what) == Some(tile));
    about
        .map(|decision| Decided {
            at: decision.at.0,
            sentence: sentence(decision, &name),
        })
        .collect()
}

/// The machine that a decision is about, if about one.
const fn of(what: &What) -> Option<Tile> {
    match what {
        What::Given(_) | What::Stopped | What::Waits(_) => None,
        What::Placed(tile, _)
        | What::Up(tile)
        | What::Fell(tile, _)
        | What::Recalled(tile, _)
        | What::Released(tile)
        | What::Expired(tile)
        | What::Ended(tile, _)
        | What::Unable(tile, _)
        | What::Assigned(tile, _) => Some(*tile),
    }
}

/// Whether this machine is in a fleet that has agreed on anything.
pub(crate) fn any(fleet: &Fleet) -> bool {
    let council = |status: fleet::FleetStatus| status.council;
    fleet.status().and_then(council).is_some()
}
