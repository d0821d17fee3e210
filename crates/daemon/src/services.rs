//! The layers of the system by their names, and how each is on this node.
//!
//! The requirements name the layers (P). A node shows all of them: those that work here with what was found when
//! somebody looked, at that moment, and those that this node does not have as [`Health::Absent`]. Nothing here is kept
//! or assumed: each answer is read from a disk, a sensor, the kernel or whoever does the work.

use std::fs;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::annals::Annals;
use crate::control::{Answer, Listed, Request, Status};
use crate::fleet;
use crate::heat;
use crate::node::Handle;
use crate::sensors::Source;
use crate::supervision::Phase;

/// One layer, as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// What it does, in a line.
    pub does: String,
    /// How it is.
    pub health: Health,
    /// What was found.
    pub found: String,
}

/// How a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It does what it should.
    Well,
    /// It does not, or not all of it.
    Unwell,
    /// This node has none.
    Absent,
}

type Found = (Health, String);

const ABSENT: Health = Health::Absent;

/// Everything that is looked at.
struct Looked<'a> {
    node: &'a Handle,
    status: Status,
    programs: Vec<Listed>,
    members: Vec<fleet::Listed>,
}

/// One row of [`LAYERS`]: name, what it does, and how to find out how it is.
type Layer = (&'static str, &'static str, fn(&Looked<'_>) -> Found);

// The names are those of the requirements, section P.
const LAYERS: [Layer; 19] = [
    (
        "cosmOS",
        "the node as a whole: takes requests, decides, serves",
        whole,
    ),
    (
        "logOS",
        "the log of what was acknowledged, sealed commit by commit",
        log,
    ),
    (
        "etymOS",
        "the registry of schemas and their versions",
        |_| {
            (
                ABSENT,
                "formats carry their version; nothing registers them".into(),
            )
        },
    ),
    (
        "atmOS",
        "the physical world: sensors, and the model where there are none",
        sensors,
    ),
    ("chronOS", "time, and how far it may be off", time),
    ("karmOS", "what was decided, and because of what", causes),
    ("chaOS", "faults on purpose", |_| {
        (ABSENT, "faults are injected in the twin alone".into())
    }),
    (
        "theOS",
        "who works within which heat: what programs are given",
        heat_given,
    ),
    ("pneumOS", "the live network between machines", mesh),
    ("aetherOS", "the network across long delays", |_| {
        (ABSENT, "nothing here stores and forwards".into())
    }),
    ("hypnOS", "work for quiet hours", |_| {
        (ABSENT, "nothing waits for quiet hours".into())
    }),
    ("oneirOS", "learning from what was recorded", |_| {
        (ABSENT, "nothing learns from what was recorded".into())
    }),
    (
        "thanatOS",
        "an end for everything: wardens, grace, force, going dark",
        ends,
    ),
    ("mythOS", "agreement on one story", agreed),
    ("nomOS", "rules and policy", |_| {
        (ABSENT, "no policy says what may run where".into())
    }),
    (
        "daemOS",
        "supervision: what runs, and what is started again",
        supervised,
    ),
    ("pandemoniOS", "quarantine of the failed", |_| {
        (
            ABSENT,
            "who fails is removed from the fleet, not diagnosed".into(),
        )
    }),
    ("harmoniOS", "stable releases, widened step by step", |_| {
        (ABSENT, "nothing is rolled out".into())
    }),
    ("anomOS", "watching for what is out of the ordinary", |_| {
        (ABSENT, "nobody watches for the unusual".into())
    }),
];

/// Looks at all of them; what the node would say instead is the error.
pub(crate) fn look(node: &Handle) -> Result<Vec<Service>, Answer> {
    let status = match node.ask(Request::Status) {
        Answer::Status(status) => *status,
        other => return Err(other),
    };
    let programs = match node.ask(Request::List) {
        Answer::List { programs } => programs,
        other => return Err(other),
    };
    let members = match node.ask(Request::Members) {
        Answer::Members { members, .. } => members,
        other => return Err(other),
    };
    let looked = Looked {
        node,
        status,
        programs,
        members,
    };
    let services = LAYERS.iter().map(|(name, does, look)| {
        let (health, found) = look(&looked);
        let (name, does) = ((*name).to_owned(), (*does).to_owned());
        Service {
            name,
            does,
            health,
            found,
        }
    });
    Ok(services.collect())
}

fn well_if(well: bool, found: String) -> Found {
    let health = if well { Health::Well } else { Health::Unwell };
    (health, found)
}

fn whole(looked: &Looked<'_>) -> Found {
    let status = &looked.status;
    match status.ending {
        true => (Health::Unwell, "it ends, and takes nothing new".into()),
        false => (
            Health::Well,
            format!(
                "version {}, process {}, answers for {:.0} s",
                status.version, status.process, status.seconds
            ),
        ),
    }
}

/// Reads the whole log from the disk and checks its chain, as the next start will.
fn log(looked: &Looked<'_>) -> Found {
    /// What is appended while it is read looks torn, at another place each time.
    const LOOKS: usize = 4;
    let status = &looked.status;
    if let Some(damaged) = status.damaged.first() {
        return (Health::Unwell, damaged.clone());
    }
    if status.unwritten > 0 {
        let found = format!(
            "the disk is full: {} ends are not written",
            status.unwritten
        );
        return (Health::Unwell, found);
    }
    let mut places = Vec::new();
    for _ in 0..LOOKS {
        let mut records = 0_u64;
        match Annals::open(&looked.node.data.join("annals"), |_| records += 1) {
            Ok((annals, damaged)) => match damaged.first() {
                None => {
                    let found = format!("{records} records, whole, sealed {}", annals.seal());
                    return (Health::Well, found);
                }
                Some(damaged) => places.push((damaged.place, damaged.to_string())),
            },
            Err(error) => places.push((0, error.to_string())),
        }
    }
    let (first, found) = places.swap_remove(0);
    match places.iter().all(|(place, _)| *place == first) {
        true => (Health::Unwell, found),
        false => (
            Health::Well,
            "it is written to faster than it can be read".into(),
        ),
    }
}

fn sensors(looked: &Looked<'_>) -> Found {
    let Some((reading, age)) = looked.node.heat.latest_and_age() else {
        return (Health::Unwell, "no sensor has said anything yet".into());
    };
    let celsius = reading.temperature.celsius;
    let source = match reading.temperature.source {
        Source::Measured => "measured",
        Source::Modelled => "modelled: this machine shows no sensor",
    };
    let age = age.as_secs_f64();
    let mut found = format!("{celsius:.1} °C ({source}), {age:.1} s ago");
    let known = &looked.status.atmosphere;
    if let Some(power) = known.power {
        let source = match power.source {
            Source::Measured => "measured",
            Source::Modelled => "modelled",
        };
        found += &format!("; {:.0} W ({source})", power.watts);
    }
    if !known.gpus.is_empty() {
        found += &format!("; {} GPUs read", known.gpus.len());
    }
    well_if(age < 5.0 * heat::EVERY.as_secs_f64(), found)
}

fn time(_: &Looked<'_>) -> Found {
    // SAFETY: all zero is a `timex` that asks for nothing to be set; the kernel writes into it and keeps nothing.
    let (state, told) = unsafe {
        let mut told: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut told), told)
    };
    /// The kernel's word for a clock that nothing disciplines (`TIME_ERROR`, adjtimex(2)).
    const UNSYNCHRONISED: i32 = 5;
    match state {
        -1 => {
            let error = std::io::Error::last_os_error();
            (
                Health::Unwell,
                format!("the kernel does not say how exact its clock is: {error}"),
            )
        }
        UNSYNCHRONISED => (
            Health::Unwell,
            "the host's clock is not synchronised, says the kernel".into(),
        ),
        _ => {
            let ms = told.maxerror as f64 / 1000.0;
            (
                Health::Well,
                format!("the host's clock is off by at most {ms:.1} ms, says the kernel"),
            )
        }
    }
}

fn causes(looked: &Looked<'_>) -> Found {
    match looked.node.history.shape() {
        None => (Health::Unwell, "nobody keeps it any more".into()),
        Some(shape) => {
            let (kept, caused) = (shape.kept, shape.caused);
            let failed = shape.failed.map(|failed| format!("; {failed}"));
            let well = failed.is_none();
            let found = format!("{kept} decisions kept, {caused} of them name their cause");
            well_if(well, found + &failed.unwrap_or_default())
        }
    }
}

fn heat_given(looked: &Looked<'_>) -> Found {
    let limits = &looked.status.limits;
    let by = match limits.deals_time() {
        true => format!("kept by {}", limits.cores),
        false => "by stopping them in turns".to_owned(),
    };
    match looked.status.heat {
        None => (
            Health::Unwell,
            "it has not been told how hot the machine is".into(),
        ),
        Some(reading) => {
            let given = reading.clock * 100.0;
            (
                Health::Well,
                format!("programs get {given:.0} % of the processor, {by}"),
            )
        }
    }
}

fn mesh(looked: &Looked<'_>) -> Found {
    let fleet = &looked.status.fleet;
    let others = looked
        .members
        .iter()
        .filter(|member| !member.here && member.state != "left");
    let (mut all, mut lost) = (0, Vec::new());
    for member in others {
        all += 1;
        if member.state != "alive" {
            lost.push(format!("{} is {}", member.name, member.state));
        }
    }
    let refused: u64 = fleet.refused.values().sum();
    let mut found = format!(
        "at {}, {} of {all} others alive",
        fleet.address,
        all - lost.len()
    );
    if refused > 0 {
        found += &format!(", {refused} frames or newcomers refused");
    }
    if !lost.is_empty() {
        found += &format!("; {}", lost.join(", "));
    }
    well_if(lost.is_empty(), found)
}

/// Asked of those who vote: who does not reach enough of them has no answer.
fn agreed(looked: &Looked<'_>) -> Found {
    // Asking would make a council of a machine that has never needed one.
    if looked.status.fleet.council.is_none() {
        return (Health::Well, "nothing has been agreed on yet".to_owned());
    }
    match looked.node.ask(Request::Affairs) {
        Answer::Affairs(affairs) => {
            let present = affairs.machines.iter().filter(|machine| machine.present);
            let (present, all) = (present.count(), affairs.machines.len());
            let programs = affairs.programs.len();
            let found = format!(
                "{present} of {all} machines renew what they hold; {programs} programs are the fleet's"
            );
            (Health::Well, found)
        }
        Answer::Refused { because } => (Health::Unwell, because),
        other => (Health::Unwell, format!("{other:?}")),
    }
}

/// Every program that runs must have a warden, and that must be this node's own child.
fn ends(looked: &Looked<'_>) -> Found {
    if looked.status.ending {
        let left = looked.status.running;
        return (
            Health::Well,
            format!("the node ends: {left} programs are waited for"),
        );
    }
    let running = looked.programs.iter().filter(|p| p.phase == Phase::Running);
    let (mut kept, mut loose) = (0_usize, Vec::new());
    for program in running {
        let parent = program.process.and_then(parent_of);
        match parent == Some(looked.status.process) {
            true => kept += 1,
            false => loose.push(program.name.clone()),
        }
    }
    // Who has just ended, or is not started yet, has none for a moment: ask again before saying so.
    loose.retain(|name| match looked.node.ask(Request::List) {
        Answer::List { programs } => programs.iter().any(|program| {
            program.name == *name
                && program.phase == Phase::Running
                && program.process.and_then(parent_of) != Some(looked.status.process)
        }),
        _ => false,
    });
    match loose.is_empty() {
        true => (
            Health::Well,
            format!("{kept} programs run, each under a warden of this node"),
        ),
        false => (
            Health::Unwell,
            format!("without a warden: {}", loose.join(", ")),
        ),
    }
}

fn parent_of(process: u32) -> Option<u32> {
    let stat =
        fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat")).ok()?;
    // Behind the name, which may hold anything: state, then parent.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn supervised(looked: &Looked<'_>) -> Found {
    let count = |is: fn(&Phase) -> bool| {
        looked
            .programs
            .iter()
            .filter(|program| is(&program.phase))
            .count()
    };
    let running = count(|phase| matches!(phase, Phase::Running | Phase::Stopping));
    let waiting = count(|phase| *phase == Phase::Waiting);
    let pausing = looked
        .programs
        .iter()
        .filter_map(|program| match program.phase {
            Phase::Pausing { code } => Some(format!("{} ended with {code}", program.name)),
            _ => None,
        });
    let pausing: Vec<_> = pausing.collect();
    let known = looked.programs.len();
    let mut found = format!("{running} of {known} programs run, {waiting} wait");
    if !pausing.is_empty() {
        found += &format!("; starts again: {}", pausing.join(", "));
    }
    well_if(pausing.is_empty(), found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_over_a_process_is_read_from_the_kernel() {
        let own = std::process::id();
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_pid());
        assert_eq!(parent_of(own).map(|pid| pid as i32), parent);
        assert_eq!(parent_of(u32::MAX), None);
    }

    #[test]
    fn every_layer_has_one_name_and_one_line() {
        let names: std::collections::BTreeSet<_> = LAYERS.iter().map(|(name, ..)| name).collect();
        assert_eq!(names.len(), LAYERS.len());
        for (name, does, _) in LAYERS {
            assert!(name.ends_with("OS") && does.len() < 70, "{name}: {does}");
        }
    }
}
