//! How is it told where a replica goes, or why nowhere?
//!
//! As [a site tells it](crate::site::words), with [the same words](crate::words) where the two say the same thing.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::evidence::{Funnel, Test};
use crate::ledger::WHOLE;
use crate::policy::Apart;
use crate::words::{Seeker, Unit, count, first_of, funnel, funnel_of, span};

use super::{Amounts, Candidate, Change, Evidence, MIB, Pending, Wanted};

/// Whoever knows what a machine is called.
pub type Names<'a> = &'a dyn Fn(u32) -> String;

fn whole(gpus: u64) -> u64 {
    gpus.saturating_mul(WHOLE.into())
}

/// What is asked for: `3 × 2 CPUs, 512 MiB, port 8080`.
#[must_use]
pub fn wants(wanted: &Wanted) -> String {
    let Amounts {
        cpu_milli,
        memory,
        gpus,
    } = wanted.each;
    let amounts = [
        (Unit::Cpu, cpu_milli),
        (Unit::Memory, memory.div_ceil(MIB)),
        (Unit::Gpu, whole(gpus)),
    ];
    let amounts = amounts.into_iter().filter(|(_, amount)| *amount > 0);
    let ports = wanted.ports.iter().map(|port| format!("port {port}"));
    let all = amounts.map(|(unit, amount)| unit.tell(amount)).chain(ports);
    let all: Vec<String> = all.collect();
    match all.as_slice() {
        [] => format!("{} × nothing in particular", wanted.replicas),
        all => format!("{} × {}", wanted.replicas, all.join(", ")),
    }
}

/// The one reason why a replica has no place, from what the machines fell to alone, in a sentence without its full stop.
#[must_use]
pub fn nowhere(seen: &Funnel) -> &'static str {
    match seen.furthest() {
        None => "no machine is known to whoever decides",
        Some(Test::Silent) => "no machine is heard from",
        Some(Test::Draining) => "no machine is there that serves",
        Some(Test::Cpu) => "no machine has enough CPU free",
        Some(Test::Memory) => "no machine has enough memory free",
        Some(Test::Gpu) => "no machine has enough GPUs free",
        Some(Test::Port) => {
            "every machine that has room runs something that takes one of its ports"
        }
        Some(Test::Resting) => {
            "every machine that has room could not run it, and rests before it tries again"
        }
        Some(other) => other.name(),
    }
}

/// The tests in a clause: `of 3 machines 1 draining, 2 too little CPU free`; empty where there are no machines.
#[must_use]
pub fn in_short(seen: &Funnel) -> String {
    let tests = funnel(seen).into_iter();
    let tests = tests.map(|(test, fell, _)| format!("{fell} {}", test.name()));
    let tests: Vec<String> = tests.collect();
    match seen.nodes {
        0 => String::new(),
        nodes => format!("of {} {}", count(nodes.into(), "machine"), tests.join(", ")),
    }
}

/// The one reason why some of a program waits, in a sentence without its full stop.
#[must_use]
pub fn dominant(pending: &Pending, wanted: &Wanted, names: Names<'_>) -> String {
    let said = nowhere(&pending.funnel);
    let Amounts {
        cpu_milli,
        memory,
        gpus,
    } = wanted.each;
    let short = |unit: Unit, asked: u64, free: u64, machine: u32| {
        format!(
            "{said}: {}, which comes nearest, has {} where {} are asked for",
            names(machine),
            unit.tell(free),
            unit.tell(asked)
        )
    };
    match (pending.funnel.furthest(), pending.nearest) {
        (Some(Test::Cpu), Some((machine, free))) => short(Unit::Cpu, cpu_milli, free, machine),
        (Some(Test::Memory), Some((machine, free))) => {
            short(Unit::Memory, memory.div_ceil(MIB), free / MIB, machine)
        }
        (Some(Test::Gpu), Some((machine, free))) => {
            short(Unit::Gpu, whole(gpus), whole(free), machine)
        }
        _ => said.to_string(),
    }
}

/// What to change: `with 2 instead of 4 CPUs`, `without port 8080`.
#[must_use]
pub fn change(wanted: &Wanted, change: Change, names: Names<'_>) -> String {
    let Amounts {
        cpu_milli,
        memory,
        gpus,
    } = wanted.each;
    match change {
        Change::Serving(machine) => format!("with {} serving again", names(machine)),
        Change::WithoutPort(port) => format!("without port {port}"),
        Change::Cpu(n) => Unit::Cpu.instead(n, cpu_milli),
        Change::Memory(n) => Unit::Memory.instead(n / MIB, memory.div_ceil(MIB)),
        Change::Gpus(n) => Unit::Gpu.instead(whole(n), whole(gpus)),
        Change::Replicas(n) => format!("with {n} instead of {} replicas", wanted.replicas),
    }
}

/// Why some of a program waits, whole but for what it is called: what it rests on, when it starts, and what would help.
#[must_use]
pub fn pending(pending: &Pending, wanted: &Wanted, names: Names<'_>) -> String {
    let mut text = funnel_of("machines", &pending.funnel, Seeker::Waits("it"), |test| {
        let fell = pending.fallen.iter().filter(|(_, of)| *of == test);
        Some(first_of(fell.map(|(machine, _)| names(*machine))))
    });
    let starts = match pending.rested {
        Some((machine, left)) => format!("in {}, when {} has rested", span(left), names(machine)),
        None => "cannot be said: what a fleet runs promises no end".to_string(),
    };
    text.push_str(&format!("  starts   {starts}\n"));
    for (i, better) in pending.changes.iter().enumerate() {
        let head = if i == 0 { "sooner" } else { "" };
        let change = change(wanted, *better, names);
        text.push_str(&format!("  {head:8} {change}: now\n"));
    }
    text
}

/// What speaks against a place: `1 replica of it, 25.0 % taken, 2 replicas in all`.
#[must_use]
pub fn score(score: &Apart) -> String {
    let Apart {
        beside,
        taken,
        claims,
    } = *score;
    format!(
        "{} of it, {}.{} % taken, {} in all",
        count(beside.into(), "replica"),
        taken / 10,
        taken % 10,
        count(claims.into(), "replica")
    )
}

/// What was considered when a replica was placed: who was ruled out, and the best of the others, from the one that has it.
#[must_use]
pub fn placed(evidence: &Evidence, names: Names<'_>) -> String {
    let seen = &evidence.funnel;
    let mut text = format!("  machines {:>6} there were\n", seen.nodes);
    for (test, fell, left) in funnel(seen) {
        let fell = format!("-{fell}");
        text.push_str(&format!(
            "           {fell:>6} {}, {left} left\n",
            test.name()
        ));
    }
    for (i, Candidate { machine, score: of }) in evidence.candidates.iter().enumerate() {
        let head = if i == 0 { "score" } else { "" };
        text.push_str(&format!("  {head:8} {}: {}\n", names(*machine), score(of)));
    }
    text
}
