//! Why the fleet runs a program where it does, or not.
//!
//! Who decides is asked ([`Query::Why`]) and answers from the very ledger that it places by; the sentences are those of
//! [`scheduler::fleet::words`], as data and as text, so that a command, a page and a script are told the same. What the machine that holds a replica decided about it is
//! asked of that machine.

use ::node::council;
use ::node::council::register::{Explained, Query, Refusal, Reply, Standing, What};
use scheduler::fleet::{Candidate, Evidence, Pending, Wanted, words};
use scheduler::{Funnel, Test};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use telemetry::Action;
use wire::Tile;

use crate::affairs::{Decided, agreed, names, sentence, told_of};
use crate::fleet::Fleet;
use crate::history;
use crate::node::unknown_name;

/// Why a program of the fleet is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reasons {
    /// Its name.
    pub name: String,
    /// How many of it there should be; 0 once it was stopped.
    pub replicas: u32,
    /// What it asks for, in words.
    pub asks: String,
    /// Why some of it waits, if some does.
    pub waits: Option<Waits>,
    /// What the place of each that has one rests on.
    pub placed: Vec<Rests>,
    /// All of it in lines for people.
    pub text: String,
}

/// Why some of a program waits now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waits {
    /// How many replicas wait.
    pub replicas: u32,
    /// The one reason, in a sentence.
    pub sentence: String,
    /// How many machines there are.
    pub nodes: u32,
    /// Which of them fell to which test, in the order in which they are held against them.
    pub funnel: Vec<Step>,
    /// In how many milliseconds it is tried again, where a machine but rests.
    pub starts_in_ms: Option<u64>,
    /// With what all of it would start at once, the cheapest first.
    pub changes: Vec<String>,
}

/// A test, and who fell to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// What those lack that fell.
    pub test: String,
    /// How many fell.
    pub fell: u32,
    /// How many were left.
    pub left: u32,
    /// Who fell, where that is known.
    pub nodes: Option<Vec<String>>,
}

/// Why a replica is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rests {
    /// Which.
    pub replica: u32,
    /// Who holds it.
    pub node: String,
    /// How many machines there were when it was placed.
    pub nodes: u32,
    /// How many of them fell to which test.
    pub funnel: Vec<Step>,
    /// The best that were left, from the one that has it.
    pub candidates: Vec<Scored>,
}

/// A machine that could have it, and what spoke against it: compared in this order, the least is the best.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scored {
    /// Its name.
    pub node: String,
    /// So many of the same program it had.
    pub beside: u32,
    /// The largest share of its processor, memory and GPUs that was taken, in thousandths.
    pub taken: u32,
    /// So many replicas of all programs it had.
    pub replicas: u32,
}

/// What is known of a program of the fleet.
#[derive(Debug)]
pub(crate) struct Known {
    /// How it is and why, in a sentence.
    pub(crate) now: String,
    /// What was agreed on about it, or about the replica that was asked for; oldest first.
    pub(crate) agreed: Vec<Decided>,
    pub(crate) reasons: Reasons,
    /// Who holds the replica that was asked for, if one was.
    pub(crate) holder: Option<Tile>,
    /// Which of it fails by itself, if none of it runs and one does.
    pub(crate) failing: Option<Failing>,
}

/// A replica whose program ends by itself, wherever it is placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failing {
    /// The replica's name.
    pub(crate) name: String,
    /// Where it failed last.
    pub(crate) on: Tile,
    /// With which exit code.
    code: u8,
    /// Whether it is started again there.
    again: bool,
}

impl Failing {
    fn sentence(&self, name: &impl Fn(Tile) -> String) -> String {
        let Self {
            name: of,
            on,
            code,
            again,
        } = self;
        let then = match again {
            true => "is started again there; where it is placed is not what is wrong",
            false => {
                "is not started again, as it was given; where it was placed is not what was wrong"
            }
        };
        format!(
            "its program itself fails: {of} ended with exit code {code} on {}, and {then}",
            name(*on)
        )
    }

    /// How often it did so in a row, and since when, by what the machine decided about it.
    pub(crate) fn how_often(&self, decisions: &[history::Decision], now_ms: u64) -> String {
        let ends = decisions.iter().rev().filter(|one| {
            one.program.as_deref() == Some(&self.name)
                && matches!(one.action, Action::Restart | Action::End)
        });
        let fallen = ends.take_while(|one| one.found == Some(f64::from(self.code)));
        let fallen: Vec<_> = fallen.collect();
        let Some(first) = fallen.last() else {
            return String::new();
        };
        let seconds = now_ms.saturating_sub(first.unix_ms) / 1_000;
        match fallen.len() {
            1 => format!("; once, {seconds} s ago"),
            often => format!("; {often} times in the last {seconds} s"),
        }
    }
}

fn failing(explained: &Explained, replica: Option<u32>) -> Option<Failing> {
    let listed = &explained.listed;
    let asked = listed.standing.iter();
    let asked = asked.filter(|(number, _)| replica.is_none_or(|wanted| wanted == *number));
    let mut found = None;
    for (number, standing) in asked {
        let on = |explained: &Explained| {
            let mut decisions = explained.decisions.iter().rev();
            decisions.find_map(|one| match one.what {
                What::Ended(tile, _) if one.replica == Some(*number) => Some(tile),
                _ => None,
            })
        };
        let (on, code, again) = match standing {
            Standing::Held { up: true, .. } => return None,
            Standing::Held {
                by,
                fell: Some(code),
                ..
            } if *code != 0 => (Some(*by), *code, true),
            Standing::Ended(code) if *code != 0 => (on(explained), *code, false),
            _ => continue,
        };
        let name = format!("{}~{number}", listed.name);
        found = found.or(on.map(|on| Failing {
            name,
            on,
            code,
            again,
        }));
    }
    found.filter(|_| listed.replicas > 0)
}

/// A program's name, and the number of one of its replicas if it is one of those that is called so.
pub(crate) fn parts(name: &str) -> (&str, Option<u32>) {
    match name
        .split_once('~')
        .map(|(name, number)| (name, number.parse()))
    {
        Some((name, Ok(number))) => (name, Some(number)),
        _ => (name, None),
    }
}

/// Asks those who vote. `None` if they know no such program, or no such replica of it.
pub(crate) fn ask(fleet: &Fleet, name: &str) -> Result<Option<Known>, String> {
    let (program, replica) = parts(name);
    let mut explained = match agreed(fleet, council::read(Query::Why(program.to_owned())))? {
        Reply::Why(explained) => explained,
        Reply::Refused(Refusal::Unknown) => return Ok(None),
        Reply::Refused(refusal) => return Err(refusal.words().to_owned()),
        _ => return Err(Refusal::Unreadable.words().to_owned()),
    };
    let failing = failing(&explained, replica);
    if let (Some(_), Some(pending)) = (&failing, &mut explained.pending) {
        // No place would help.
        pending.changes.clear();
    }
    let explained = &*explained;
    let there = |number: &u32| {
        explained
            .listed
            .standing
            .iter()
            .any(|(one, _)| one == number)
    };
    let about = |one: &&council::register::Decision| {
        replica.is_none_or(|number| one.replica.is_none_or(|of| of == number))
    };
    // What was decided about a replica outlives it.
    let remembered = explained
        .decisions
        .iter()
        .any(|one| one.replica.is_some() && one.replica == replica);
    if replica.is_some_and(|number| !there(&number) && !remembered) {
        return Ok(None);
    }
    let name_of = names(fleet);
    let agreed = explained
        .decisions
        .iter()
        .filter(about)
        .map(|decision| Decided {
            at: decision.at.0,
            sentence: sentence(decision, &name_of),
        });
    let holder = |number: u32| {
        let standing = explained.listed.standing.iter();
        let held = standing.filter(|(one, _)| *one == number);
        held.filter_map(|(_, standing)| match standing {
            Standing::Held { by, .. } => Some(*by),
            _ => None,
        })
        .next()
    };
    Ok(Some(Known {
        now: match &failing {
            Some(failing) => failing.sentence(&name_of),
            None => now(explained, replica, &name_of),
        },
        agreed: agreed.collect(),
        reasons: reasons(explained, replica, &name_of),
        holder: replica.and_then(holder),
        failing,
    }))
}

fn number_of(name: &impl Fn(Tile) -> String) -> impl Fn(u32) -> String {
    move |number| name(Tile(number.into()))
}

/// How it is, in a sentence.
fn now(explained: &Explained, replica: Option<u32>, name: &impl Fn(Tile) -> String) -> String {
    let listed = &explained.listed;
    let each = listed.standing.iter();
    let each = each.filter(|(number, _)| replica.is_none_or(|wanted| wanted == *number));
    let told: Vec<_> = each
        .map(|(number, standing)| told_of(*number, *standing, name))
        .collect();
    let why = |pending: &Pending| words::dominant(pending, &explained.wanted(), &number_of(name));
    if let (Some(number), Some(told)) = (replica, told.first()) {
        let called = format!("{}~{number}", listed.name);
        return match (&told.machine, &explained.pending) {
            (Some(machine), _) => format!("{called} is {} on {machine}", told.state),
            (None, Some(pending)) if told.state == "waiting" => {
                format!("{called} waits: {}", why(pending))
            }
            (None, _) => format!("{called} is {}", told.state),
        };
    }
    if let Some(number) = replica {
        return format!("{}~{number} is over", listed.name);
    }
    let is = |state: &str| told.iter().filter(|one| one.state == state).count();
    let (running, waiting) = (is("running"), is("waiting"));
    let (called, wanted) = (&listed.name, listed.replicas);
    match (&explained.pending, wanted) {
        (_, 0) => format!("{called} was stopped"),
        (Some(pending), _) => format!(
            "{called} waits: {waiting} of {wanted} have no machine: {}",
            why(pending)
        ),
        (None, _) => format!("{called} has its machines: {running} of {wanted} run and are well"),
    }
}

fn steps(seen: &Funnel, who: impl Fn(Test) -> Option<Vec<String>>) -> Vec<Step> {
    let tests = scheduler::words::funnel(seen).into_iter();
    let steps = tests.map(|(test, fell, left)| Step {
        test: test.name().to_owned(),
        fell,
        left,
        nodes: who(test),
    });
    steps.collect()
}

fn reasons(explained: &Explained, replica: Option<u32>, name: &impl Fn(Tile) -> String) -> Reasons {
    let (listed, wanted, named) = (&explained.listed, explained.wanted(), number_of(name));
    let held = |number: u32| {
        let mut standing = listed.standing.iter().filter(|(one, _)| *one == number);
        standing.find_map(|(_, standing)| match standing {
            Standing::Held { by, .. } => Some(name(*by)),
            _ => None,
        })
    };
    let waits = |(_, standing): &&(u32, Standing)| matches!(standing, Standing::Waits(_));
    let waiting = listed.standing.iter().filter(waits).count();
    let asked = |number: u32| replica.is_none_or(|wanted| wanted == number);
    let pending = explained.pending.as_ref();
    let pending = pending.filter(|_| {
        let mut waiting = listed.standing.iter().filter(waits);
        waiting.any(|(number, _)| asked(*number))
    });
    let placed = explained.on.iter().filter(|(number, _)| asked(*number));
    let placed = placed.filter_map(|(number, on)| Some((*number, held(*number)?, on)));
    let mut text = format!("  asks     {}\n", words::wants(&wanted));
    if let Some(pending) = pending {
        text += &words::pending(pending, &wanted, &named);
    }
    for (number, node, on) in placed.clone() {
        text += &format!("{}~{number} was given to {node}:\n", listed.name);
        text += &words::placed(on, &named);
    }
    Reasons {
        name: listed.name.clone(),
        replicas: listed.replicas,
        asks: words::wants(&wanted),
        waits: pending.map(|pending| told_waits(pending, &wanted, waiting, &named)),
        placed: placed
            .map(|(replica, node, on)| told_rests(replica, node, on, &named))
            .collect(),
        text,
    }
}

fn told_waits(
    pending: &Pending,
    wanted: &Wanted,
    replicas: usize,
    named: &impl Fn(u32) -> String,
) -> Waits {
    let who = |test: Test| {
        let fell = pending.fallen.iter().filter(|(_, of)| *of == test);
        Some(fell.map(|(machine, _)| named(*machine)).collect())
    };
    let changes = pending.changes.iter();
    Waits {
        replicas: u32::try_from(replicas).unwrap_or(u32::MAX),
        sentence: words::dominant(pending, wanted, named),
        nodes: pending.funnel.nodes,
        funnel: steps(&pending.funnel, who),
        starts_in_ms: pending.rested.map(|(_, left)| left.0 / 1_000_000),
        changes: changes
            .map(|change| words::change(wanted, *change, named))
            .collect(),
    }
}

fn told_rests(replica: u32, node: String, on: &Evidence, named: &impl Fn(u32) -> String) -> Rests {
    let scored = |Candidate { machine, score }: &Candidate| Scored {
        node: named(*machine),
        beside: score.beside,
        taken: score.taken,
        replicas: score.claims,
    };
    Rests {
        replica,
        node,
        nodes: on.funnel.nodes,
        funnel: steps(&on.funnel, |_| None),
        candidates: on.candidates.iter().map(scored).collect(),
    }
}

/// Where a replica of the fleet is.
#[derive(Debug)]
pub(crate) enum Whereabouts {
    /// This one is held by the machine of this name.
    On(String, String),
    /// Nobody holds this one yet.
    Waits(String),
    /// There is none any more, or there are several that could be meant: which, in a sentence.
    Nowhere(String),
}

/// Finds a replica by its own name, or by that of a program that has one.
pub(crate) fn whereabouts(fleet: &Fleet, name: &str) -> Result<Whereabouts, String> {
    let (program, replica) = parts(name);
    let affairs = match agreed(fleet, council::read(Query::Affairs))? {
        Reply::Affairs(affairs) => affairs,
        _ => return Err(Refusal::Unreadable.words().to_owned()),
    };
    let Some(listed) = affairs.programs.iter().find(|one| one.name == program) else {
        return Ok(Whereabouts::Nowhere(unknown_name(name)));
    };
    let standing = listed.standing.iter();
    let meant = standing.filter(|(number, _)| replica.is_none_or(|one| one == *number));
    let meant: Vec<_> = meant.collect();
    let called = |number: u32| format!("{program}~{number}");
    let name_of = names(fleet);
    Ok(match meant.as_slice() {
        [] => Whereabouts::Nowhere(format!(
            "there is no {name} any more; `cosmos why {program}` says what became of it"
        )),
        [(number, Standing::Held { by, .. })] => Whereabouts::On(called(*number), name_of(*by)),
        [(number, Standing::Waits(_))] => Whereabouts::Waits(called(*number)),
        [(number, Standing::Ended(code))] => {
            Whereabouts::Nowhere(format!("{} ended by itself, with {code}", called(*number)))
        }
        several => {
            let each = several.iter().map(|(number, _)| called(*number));
            let each: Vec<_> = each.collect();
            Whereabouts::Nowhere(format!(
                "{program} has several replicas, expected one of {}",
                each.join(", ")
            ))
        }
    })
}

/// Why nothing can be started here beside a program that is not here.
pub(crate) fn elsewhere(fleet: &Fleet, name: &str) -> String {
    match whereabouts(fleet, name) {
        Ok(Whereabouts::On(replica, machine)) => {
            format!(
                "{replica} runs on {machine}, and only there something can be started beside it"
            )
        }
        Ok(Whereabouts::Waits(replica)) => {
            format!("{replica} waits for a machine; `cosmos why {replica}` says why")
        }
        Ok(Whereabouts::Nowhere(because)) | Err(because) => because,
    }
}
