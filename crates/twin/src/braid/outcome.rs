//! What came of a braid: whether all work was done once, whether what was rebuilt is what was lost, and what it cost.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use runtime::drill::{Conductor, Plan, Work, Wrong};
use runtime::{PROJECTION_BYTES_MAX, Strand};
use wire::{Instant, Nanos};

use super::config::{Config, Lines, What, name};
use super::world::{Rebuild, World};
use crate::engine::history;
use crate::observer::{Observer, Progress};
use crate::record::summary::{
    Braid, Fault, Invariant, Kind, Quantiles, Rebuilds, Scale, Violation,
};
use crate::record::{Group, Sample, Series, Summary};

/// Points of a chart.
const SAMPLES: u64 = 500;
/// A braid of any size is quiet by then, or will never be.
const SETTLES: Nanos = Nanos::from_secs(60);
/// What is counted of each size.
const COUNTED: Nanos = Nanos::from_millis(500);
/// The same work at every size: a piece so often, of so many stops.
const PIECE_EVERY: Nanos = Nanos(100_000);
const STOPS: u32 = 6;

/// What a run left in memory.
#[derive(Debug)]
pub struct Outcome {
    /// All but what only a host knows.
    pub summary: Summary,
    /// Load of the tori over time, and what befell them.
    pub series: Series,
}

/// Runs a braid, or until the observer says stop.
pub fn run(config: &Config, seed: u64, observer: &mut dyn Observer) -> Outcome {
    let conductor = Conductor::new(Plan {
        seed,
        ..config.plan
    });
    let mut world = World::new(config, conductor, seed);
    let share = u64::from(config.plan.players) / 3;
    let groups = Strand::ALL.map(|strand| Group::new(name(strand), share, f32::NAN, f32::NAN));
    let mut series = Series::new(groups.into(), None);
    let end = Instant::EPOCH + config.end;
    let step = Nanos((config.end.0 / SAMPLES).max(1));
    let mut turns = [0; 3];
    let mut complete = true;
    while world.now < end {
        let until = (world.now + step).min(end);
        let closes = Instant::EPOCH + config.until;
        if world.now < closes && closes <= until {
            world.run(closes);
            world.conductor.close();
        }
        world.run(until);
        sample(&mut series, &world, config, step, &mut turns);
        for event in std::mem::take(&mut world.events) {
            let subject = event.strand.map(|strand| strand as u64);
            observer.event(event.at, event.kind, subject, &event.text);
            series.note(event.at.as_secs_f64(), event.text);
        }
        let now = world.now;
        let events = turns.iter().sum::<u64>() + world.carried.packets;
        let progress = Progress { now, end, events };
        if observer.progress(progress) == ControlFlow::Break(()) {
            complete = world.now >= end;
            break;
        }
    }
    let scale = if complete {
        config
            .scale
            .iter()
            .map(|size| measure(config, *size, seed))
            .collect()
    } else {
        Vec::new()
    };
    let summary = summary(config, &world, seed, complete, scale);
    Outcome { summary, series }
}

fn sample(
    series: &mut Series,
    world: &World<'_>,
    config: &Config,
    step: Nanos,
    turns: &mut [u64; 3],
) {
    let samples = Strand::ALL.map(|strand| {
        let torus = world.torus(strand);
        let done = torus.map_or(0, |torus| torus.lattice().tally().events);
        let before = std::mem::replace(&mut turns[strand as usize], done);
        let busy = config.braid.turn_time * done.saturating_sub(before);
        Sample {
            utilisation: (busy.as_secs_f64() / step.as_secs_f64()) as f32,
            waiting: torus.map_or(0, |torus| torus.lattice().ready()) as f32,
            dark: f32::from(u8::from(torus.is_none())),
            ..Sample::UNKNOWN
        }
    });
    series.push(world.now.as_secs_f64(), &samples);
}

/// What an interval costs among so many players, if as many messages as ever are under way.
fn measure(config: &Config, players: u32, seed: u64) -> (Scale, u128) {
    let plan = Plan {
        players,
        work: Work::Errands {
            stops: STOPS,
            hurry: Nanos::ZERO,
        },
        pieces: 0,
        at_once: 1_000,
        every: PIECE_EVERY,
        seed,
    };
    let mut limits = config.braid.limits;
    limits.processes = limits.processes.max(players.saturating_mul(2));
    let calm = Config {
        plan,
        braid: runtime::Config {
            limits,
            ..config.braid.clone()
        },
        lines: Lines {
            delay: config.lines.delay,
            ..Lines::default()
        },
        blows: Vec::new(),
        ..config.clone()
    };
    let mut world = World::new(&calm, Conductor::new(plan), seed);
    let latest = Instant::EPOCH + SETTLES;
    // Until all stand there and the first copies of them are made.
    while world.now < latest && !(world.conductor.is_settled() && world.is_quiet()) {
        world.run(world.now + Nanos::MILLISECOND);
    }
    world.conductor.open(u64::MAX);
    world.run(world.now + COUNTED);
    let before = world.carried;
    world.run(world.now + COUNTED);
    let after = world.carried;
    let intervals = (after.projections - before.projections) as f64;
    let scale = Scale {
        players: players.into(),
        bytes: (after.bytes - before.bytes) as f64 / intervals,
        packets: (after.packets - before.packets) as f64 / intervals,
        projection_bytes: after.projection_bytes_max,
    };
    (scale, history::combine((0..).zip(world.hashes)))
}

fn summary(
    config: &Config,
    world: &World<'_>,
    seed: u64,
    complete: bool,
    scale: Vec<(Scale, u128)>,
) -> Summary {
    let sums = world.sums();
    let sum = |of: fn(&runtime::drill::Sums) -> u64| sums.iter().map(of).sum::<u64>();
    let turns = sum(|s| s.turns);
    let mut hash = history::combine((0..).zip(world.hashes));
    for (_, of) in &scale {
        hash = hash.rotate_left(1).wrapping_add(*of);
    }
    let scale: Vec<_> = scale.into_iter().map(|(scale, _)| scale).collect();
    let mut faults: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (what, fired) in world.fired() {
        let counts = faults.entry(what.name()).or_default();
        counts.0 += 1;
        counts.1 += u64::from(fired);
    }
    let carried = world.carried;
    let braid = Braid {
        players: config.plan.players.into(),
        begun: world.conductor.begun(),
        ended: world.conductor.ended(),
        turns,
        passes: sum(|s| s.passed),
        missed: sum(|s| s.missed),
        migrated: world.migrated,
        refused: world.refused,
        rejected: world.rejected,
        packets: carried.packets,
        packets_lost: carried.lost,
        bytes: carried.bytes,
        intervals: carried.projections,
        projection_bytes: carried.projection_bytes_max,
        rebuilds: rebuilds(world),
        replayed_max: world.rebuilds.iter().map(|r| r.replayed).max().unwrap_or(0),
        unrebuilt: world.unrebuilt.len() as u64,
        found_seconds: quantiles(world.found.clone()),
        scale,
    };
    Summary {
        universe: config.name.clone(),
        intent: config.intent.clone(),
        kind: Kind::Braid,
        seed,
        threads: 1,
        tiles: config.plan.players.into(),
        simulated_seconds: world.now.as_secs_f64(),
        events: turns + carried.packets,
        history_hash: hash,
        complete,
        invariants: invariants(config, world, &braid, complete),
        faults: faults
            .into_iter()
            .map(|(kind, (injected, fired))| Fault {
                kind: kind.to_owned(),
                injected,
                fired,
            })
            .collect(),
        braid: Some(braid),
        ..Summary::default()
    }
}

/// What a torus was given up for, in this order.
const CAUSES: [(&str, Option<&str>); 4] = [
    ("kill", Some("kill")),
    ("partition", Some("partition")),
    ("corrupt", Some("corrupt")),
    ("mistake", None),
];

fn rebuilds(world: &World<'_>) -> Vec<Rebuilds> {
    let of = |(after, cause): (&str, Option<&str>)| {
        let all = world.rebuilds.iter().filter(move |r| r.of == cause);
        Rebuilds {
            after: after.to_owned(),
            times: all.clone().count() as u64,
            seconds: quantiles(all.filter_map(|r| r.took).collect()),
        }
    };
    let all = CAUSES.into_iter().map(of);
    all.filter(|rebuilds| rebuilds.times > 0).collect()
}

/// Of spans that were counted one by one: the value at rank ⌈q·n⌉.
fn quantiles(mut spans: Vec<Nanos>) -> Quantiles {
    spans.sort_unstable();
    let at = |q: f64| {
        let rank = (q * spans.len() as f64).ceil() as usize;
        let span = spans.get(rank.max(1) - 1);
        span.map_or(f64::NAN, |span| span.as_secs_f64())
    };
    Quantiles {
        p50: at(0.5),
        p95: at(0.95),
        p99: at(0.99),
        max: at(1.0),
    }
}

fn invariants(config: &Config, world: &World<'_>, braid: &Braid, complete: bool) -> Vec<Invariant> {
    let mut all = Vec::new();
    let mut must = |name: &str, first_violation: Option<Violation>| {
        all.push(Invariant {
            name: name.to_owned(),
            held: first_violation.is_none(),
            first_violation,
        });
    };
    let violation =
        |at: Instant, subject: &str, found: f64, bound: f64, unit: &str, text: String| Violation {
            seconds: at.as_secs_f64(),
            subject: subject.to_owned(),
            found,
            bound,
            unit: unit.to_owned(),
            text,
        };
    let count = |at, subject, found: u64, text| violation(at, subject, found as f64, 0.0, "", text);
    let unequal: Vec<&Rebuild> = world.rebuilds.iter().filter(|r| !r.equal).collect();
    must(
        "state_equal_after_rebuild",
        unequal.first().map(|first| {
            let text = format!(
                "was rebuilt as something else than it was, as were {} of {}",
                unequal.len(),
                world.rebuilds.len()
            );
            count(first.at, name(first.strand), unequal.len() as u64, text)
        }),
    );
    let lost = world.unrebuilt.first().copied();
    let gone = Strand::ALL.into_iter().find(|s| world.torus(*s).is_none());
    let gone = gone.filter(|_| complete).map(|strand| (world.now, strand));
    must(
        "every_torus_rebuilt",
        lost.or(gone).map(|(at, strand)| {
            count(
                at,
                name(strand),
                1.max(braid.unrebuilt),
                "was lost for good".to_owned(),
            )
        }),
    );
    let (lost, doubled) = judged(world, complete);
    let said = |wrong: Option<Wrong>| {
        wrong.map(|wrong| count(world.now, "the work", 1, wrong.to_string()))
    };
    must("no_event_lost", said(lost));
    must("no_event_doubled", said(doubled));
    let (bytes, most) = (braid.projection_bytes, PROJECTION_BYTES_MAX as u64);
    let large = (bytes > most).then(|| {
        let text = "a projection was too long".to_owned();
        violation(
            world.now,
            "the braid",
            bytes as f64,
            most as f64,
            "bytes",
            text,
        )
    });
    must("projections_small", large);
    let bound = config.bounds.rebuild;
    let late = world
        .rebuilds
        .iter()
        .find(|r| r.took.is_some_and(|took| took > bound));
    must(
        "rebuilt_in_time",
        late.map(|late| {
            let took = late.took.unwrap_or_default().as_secs_f64();
            let text = format!("ran again late, with {} turns run again", late.replayed);
            violation(
                late.at,
                name(late.strand),
                took,
                bound.as_secs_f64(),
                "s",
                text,
            )
        }),
    );
    if config
        .blows
        .iter()
        .any(|blow| matches!(blow.what, What::Corrupt(_)))
    {
        must(
            "damage_found",
            world.unfound().next().map(|(strand, at)| {
                count(
                    at,
                    name(strand),
                    1,
                    "its memory was written into, and nothing found it".to_owned(),
                )
            }),
        );
    }
    if let Some(bound) = config.bounds.missed {
        let share = braid.missed as f64 / braid.turns.max(1) as f64;
        let missed = (share > bound).then(|| {
            let text = format!("{} of {} turns came too late", braid.missed, braid.turns);
            violation(world.now, "deadlines", share, bound, "", text)
        });
        must("deadlines_kept", missed);
    }
    if !braid.scale.is_empty() {
        let by = |a: &&Scale, b: &&Scale| a.bytes.total_cmp(&b.bytes);
        let least = braid.scale.iter().min_by(by).expect("one at least");
        let most = braid.scale.iter().max_by(by).expect("one at least");
        let bound = least.bytes * (1.0 + config.bounds.growth);
        // Of one that was never counted nothing is known.
        let dear = most.bytes.is_nan() || most.bytes > bound;
        let longer = braid
            .scale
            .iter()
            .any(|s| s.projection_bytes != least.projection_bytes);
        let found = (dear || longer).then(|| {
            let text = format!(
                "an interval costs {:.0} bytes among {} players, {:.0} among {}",
                least.bytes, least.players, most.bytes, most.players
            );
            violation(world.now, "the braid", most.bytes, bound, "bytes", text)
        });
        must("coordination_constant", found);
    }
    all
}

/// The first sign that something was lost, and that something was done twice.
fn judged(world: &World<'_>, complete: bool) -> (Option<Wrong>, Option<Wrong>) {
    let more = |wrong: &Wrong| match *wrong {
        Wrong::Doubled(_) | Wrong::Miscounted(_) => true,
        Wrong::Passed { found, owed } | Wrong::Players { found, owed } => found > owed,
        Wrong::Lost(_) | Wrong::Astray(_) => false,
    };
    // Before the end things are under way.
    let counts =
        |wrong: &Wrong| complete || matches!(wrong, Wrong::Doubled(_) | Wrong::Miscounted(_));
    let wrong = world.conductor.judge(&world.sums());
    let wrong: Vec<_> = wrong.into_iter().filter(counts).collect();
    let of = |is_more: bool| wrong.iter().copied().find(|wrong| more(wrong) == is_more);
    (of(false), of(true))
}
