//! A GPU site through its public face: small halls made by hand, and the real trace.

use std::ops::ControlFlow;
use std::path::Path;

use machine::{Purpose, Stream};
use scheduler::ledger::{Demand, Models};
use scheduler::site::Quality;
use telemetry::{Action, Reason};
use twin::record::cluster::State;
use twin::rehearsal::Universe;
use twin::site::config::{Config, LoopFault};
use twin::site::jobs::Workload;
use twin::site::trace::{Node, Pod, Trace};
use twin::site::{self, Outcome, Record, Scene};
use twin::universe::{Document, Reference};
use wire::{Instant, Nanos, Tile};

const UNIVERSE: &str = include_str!("../../../universes/openb.toml");

fn openb() -> Config {
    let document = Document::parse("openb.toml", UNIVERSE, &[]).unwrap();
    match Universe::read(&document).unwrap_or_else(|e| panic!("{e}")) {
        Universe::Site(config, _) => *config,
        _ => panic!("openb is a site"),
    }
}

/// Four loops of ten nodes with four V100 each; every half hour comes a job.
fn hall() -> (Config, Trace) {
    let mut config = openb();
    config.building.nodes_per_rack = 5;
    config.building.racks_per_row = 2;
    config.building.loops = 4;
    config.end = Some(Nanos::DAY);
    config.faults = vec![LoopFault {
        coolant: Some(0),
        at: Nanos::HOUR * 10,
        lasts: Nanos::HOUR * 6,
        capacity_left: 0.0,
        takes: Nanos::ZERO,
    }];
    let node = |i| Node {
        name: format!("n{i}"),
        cpu_milli: 32_000,
        memory_mib: 131_072,
        gpus: 4,
        model: Some(0),
    };
    let mut stream = Stream::new(1, Tile(0), Purpose::Work);
    let pods = (0..60).map(|i| pod(&mut stream, i));
    let trace = Trace {
        nodes: (0..40).map(node).collect(),
        pods: pods.collect(),
        models: vec!["V100M32".to_owned()],
    };
    (config, trace)
}

fn pod(stream: &mut Stream, i: u64) -> Pod {
    Pod {
        name: format!("p{i}"),
        demand: Demand {
            cpu_milli: 4_000,
            memory_mib: 8_192,
            gpus: 1 + stream.below(2) as u8,
            gpu_milli: 1_000,
            models: Models::ANY,
        },
        quality: [Quality::BestEffort, Quality::LatencySensitive][stream.below(2) as usize],
        arrives: Instant::EPOCH + Nanos::MINUTE * (10 * i),
        runs: Some(Nanos::HOUR * (1 + stream.below(8)) + stream.span(Nanos::HOUR)),
    }
}

fn run(config: &Config, trace: &Trace, seed: u64) -> Outcome {
    let on = &mut |_: site::Progress| ControlFlow::Continue(());
    site::run(config, &scene(config, trace), seed, on, &mut |_| {})
}

fn scene(config: &Config, trace: &Trace) -> Scene {
    Workload::of(trace.clone(), config.copies.get()).into()
}

fn broken(outcome: &Outcome) -> Vec<&str> {
    let broken = outcome.invariants.iter().filter(|i| !i.held);
    broken.map(|i| i.name.as_str()).collect()
}

fn count(outcome: &Outcome, action: Action, reason: Reason) -> u64 {
    outcome
        .decisions
        .get(&(action, reason))
        .copied()
        .unwrap_or(0)
}

//= requirements W1
#[test]
fn the_same_seed_gives_the_same_history_and_another_seed_another() {
    let (config, trace) = hall();
    let [first, again, other] = [1, 1, 2].map(|seed| run(&config, &trace, seed));
    assert_eq!(first.history_hash, again.history_hash);
    assert_eq!(
        first.summary(&config, &[], 1).to_json(),
        again.summary(&config, &[], 1).to_json()
    );
    assert_ne!(first.history_hash, other.history_hash);
}

//= requirements H2
//= requirements H3
#[test]
fn a_failed_loop_costs_nodes_unless_heat_is_looked_at() {
    let (mut config, trace) = hall();
    let aware = run(&config, &trace, 1);
    assert_eq!(aware.faults, (1, 1), "the fault fired");
    // Those who may not move go on warming a coolant that nobody cools.
    assert_eq!(broken(&aware), ["no_inlet_above_limit"]);
    assert_eq!(aware.nodes_lost, 0);
    assert!(count(&aware, Action::Park, Reason::Backpressure) > 0);
    assert!(count(&aware, Action::Migrate, Reason::Backpressure) > 0);
    // In peace everything is switched on and at full clock again.
    let eased = |action| count(&aware, action, Reason::PressureEased);
    assert_eq!(
        eased(Action::Unpark),
        count(&aware, Action::Park, Reason::Backpressure)
    );
    assert_eq!(
        eased(Action::Release) + count(&aware, Action::Release, Reason::Idle),
        count(&aware, Action::Throttle, Reason::Backpressure)
    );

    config.scheduler.heat_aware = false;
    let blind = run(&config, &trace, 1);
    assert!(blind.nodes_lost > 0);
    let hot = |outcome: &Outcome| outcome.throttled_hot_device_seconds;
    assert!(
        hot(&aware) * 20.0 < hot(&blind),
        "{} and {} s near the limit",
        hot(&aware),
        hot(&blind)
    );
    assert_eq!(
        broken(&blind),
        [
            "no_thermal_runaway",
            "no_tile_above_limit",
            "no_inlet_above_limit"
        ]
    );
    assert!(blind.max_kelvin > aware.max_kelvin + 10.0);
    assert_eq!(
        count(&blind, Action::Darken, Reason::OverLimit),
        blind.nodes_lost
    );
    assert_eq!(
        blind.jobs.arrived,
        blind.jobs.finished + blind.jobs.running + blind.jobs.waiting
    );
}

#[test]
fn nodes_that_go_dark_at_one_instant_lose_their_jobs_and_nothing_else() {
    let (mut config, mut trace) = hall();
    config.scheduler.heat_aware = false;
    // One loop of nodes that do not differ, all busy on three GPUs and half of them on four:
    // the room that is left is on nodes that go dark together with those who look for it.
    config.firmware.spread = 0.0;
    config.building.loops = 1;
    trace.nodes.truncate(10);
    let mut stream = Stream::new(1, Tile(0), Purpose::Work);
    let mut pods = |count: u64, gpus: u8| -> Vec<Pod> {
        let of = |i| {
            let mut pod = pod(&mut stream, i);
            pod.demand.gpus = gpus;
            pod.demand.cpu_milli = 1_000 * u32::from(gpus);
            Pod {
                arrives: Instant::EPOCH,
                runs: Some(Nanos::DAY),
                ..pod
            }
        };
        (0..count).map(of).collect()
    };
    trace.pods = [pods(10, 3), pods(5, 1)].concat();
    let mut dark: Vec<Instant> = Vec::new();
    let on = &mut |_: site::Progress| ControlFlow::Continue(());
    let outcome = site::run(&config, &scene(&config, &trace), 1, on, &mut |record| {
        if let Record::Event {
            at, kind: "dark", ..
        } = record
        {
            dark.push(at);
        }
    });
    assert_eq!(outcome.nodes_lost, 10);
    assert!(dark.windows(2).any(|pair| pair[0] == pair[1]), "{dark:?}");
    assert!(
        outcome.jobs.restarted > 0,
        "some went where it was dark already"
    );
    assert_eq!(
        broken(&outcome),
        [
            "no_thermal_runaway",
            "no_tile_above_limit",
            "no_inlet_above_limit"
        ]
    );
    let jobs = outcome.jobs;
    assert_eq!(
        jobs.arrived,
        jobs.finished + jobs.refused + jobs.lost + jobs.running + jobs.waiting
    );
}

#[test]
fn a_refused_job_never_ended_and_was_refused_when_it_came() {
    let (config, mut trace) = hall();
    let mut stream = Stream::new(1, Tile(0), Purpose::Work);
    let mut large = pod(&mut stream, 0);
    large.demand.gpus = 8;
    let came = Instant::EPOCH + Nanos::HOUR + Nanos::from_millis(7_125);
    trace.pods.push(Pod {
        arrives: came,
        ..large
    });
    trace.pods.sort_by_key(|pod| pod.arrives);
    let mut refused = Vec::new();
    let on = &mut |_: site::Progress| ControlFlow::Continue(());
    let outcome = site::run(&config, &scene(&config, &trace), 1, on, &mut |record| {
        if let Record::Job(job) = record
            && job.fate == site::Fate::Refused
        {
            refused.push((job.id, job.started, job.ended));
        }
    });
    let [(id, None, None)] = refused[..] else {
        panic!("{refused:?}")
    };
    let cluster = outcome.series.cluster().expect("a site has one");
    let told = cluster.jobs.all().nth(id as usize).unwrap();
    assert_eq!(told.state, State::Refused);
    // To the millisecond, and not at the next look at the heat.
    assert_eq!(told.ended, came.as_secs_f64());
}

#[test]
fn a_weakened_loop_slows_its_jobs_and_they_end_later_by_as_much() {
    let (mut config, mut trace) = hall();
    // One job that may not move, on a loop that can carry some of its heat.
    let mut stream = Stream::new(1, Tile(0), Purpose::Work);
    trace.pods = vec![Pod {
        quality: Quality::LatencySensitive,
        arrives: Instant::EPOCH,
        runs: Some(Nanos::HOUR * 12),
        ..pod(&mut stream, 0)
    }];
    trace.nodes.truncate(1);
    config.building.loops = 1;
    config.faults[0].capacity_left = 0.5;
    let mut ended = vec![];
    let mut last = |faults: Vec<LoopFault>| {
        let config = Config {
            faults,
            ..config.clone()
        };
        let on = &mut |_: site::Progress| ControlFlow::Continue(());
        let outcome = site::run(&config, &scene(&config, &trace), 1, on, &mut |record| {
            if let Record::Event {
                at,
                kind: "finished",
                ..
            } = record
            {
                ended.push(at);
            }
        });
        assert_eq!(broken(&outcome), [""; 0]);
        outcome
    };
    let sound = last(vec![]);
    let weak = last(config.faults.clone());
    assert_eq!(sound.throttled_device_seconds, 0.0);
    assert!(weak.throttled_device_seconds > 0.0);
    let [at_ease, slowed] = ended[..] else {
        panic!("{ended:?}")
    };
    assert_eq!(at_ease, Instant::EPOCH + Nanos::HOUR * 12);
    let late = slowed.since(at_ease).as_secs_f64();
    // Not slowed to a standstill: between no time and the two hours it had left.
    assert!(late > 60.0 && late < 7_200.0, "{late} s");
    // What it missed while slowed is what it got later, so it did the same work.
    assert_eq!(weak.jobs.finished, 1);
    assert_eq!(weak.discarded_seconds, 0.0);
}

//= requirements H1
#[test]
fn long_steps_while_nothing_happens_change_nothing_that_can_be_measured() {
    let (quiet, trace) = hall();
    let mut steady = quiet.clone();
    steady.pace.step_quiet = steady.pace.step;
    let [quiet, steady] = [quiet, steady].map(|config| run(&config, &trace, 1));
    assert!(quiet.events < steady.events);
    assert_eq!(quiet.decisions, steady.decisions);
    assert_eq!(quiet.jobs, steady.jobs);
    let close = |a: f64, b: f64, to: f64| assert!((a / b - 1.0).abs() < to, "{a} and {b}");
    close(quiet.flows.supplied.0, steady.flows.supplied.0, 1e-12);
    close(quiet.flows.rejected.0, steady.flows.rejected.0, 1e-4);
    close(quiet.max_kelvin, steady.max_kelvin, 1e-4);
    for outcome in [quiet, steady] {
        assert!(outcome.energy_error < 1e-9, "{}", outcome.energy_error);
    }
}

#[test]
fn a_run_can_be_stopped_and_says_so() {
    let (config, trace) = hall();
    let mut samples = 0;
    let stop = &mut |_: site::Progress| {
        samples += 1;
        if samples < 3 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    let outcome = site::run(&config, &scene(&config, &trace), 1, stop, &mut |_| {});
    assert!(!outcome.complete);
    assert!(outcome.simulated < Nanos::HOUR * 3);
    assert_eq!(outcome.series.seconds().len(), 3);
}

//= requirements S7
#[test]
fn every_job_has_a_decision_for_whatever_became_of_it() {
    let (config, trace) = hall();
    let mut told = vec![0; trace.pods.len()];
    let on = &mut |_: site::Progress| ControlFlow::Continue(());
    let outcome = site::run(&config, &scene(&config, &trace), 1, on, &mut |record| {
        if let Record::Decision(d, ..) = record
            && let Some(told) = told.get_mut(d.work as usize)
        {
            assert!(d.found.is_finite() && d.bound.is_finite(), "{d:?}");
            *told += 1;
        }
    });
    assert!(told.iter().all(|&n| n > 0), "{told:?}");
    assert_eq!(told.iter().sum::<u64>(), {
        let of_jobs = outcome.decisions.iter().filter(|((action, _), _)| {
            matches!(action, Action::Place | Action::Queue | Action::Migrate)
        });
        of_jobs.map(|(_, n)| n).sum::<u64>()
    });
}

#[test]
fn every_key_of_the_universe_says_what_it_means() {
    let reference = Reference::of(Universe::schema);
    for key in &reference.keys {
        assert!(key.doc.len() > 5, "{}.{}", key.table, key.key);
    }
    let config = openb();
    assert_eq!(config.faults[0].lasts, Nanos::HOUR * 6);
    assert_eq!(config.invariants, site::Invariant::USUAL);
    let wrong = UNIVERSE.replace("loop = 3", "loop = 10");
    let document = Document::parse("openb.toml", &wrong, &[]).unwrap();
    let problems = Universe::read(&document).unwrap_err().to_string();
    assert!(problems.contains("there are 10 loops"), "{problems}");
}

//= requirements W3
#[test]
fn the_first_days_of_the_openb_trace() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/openb");
    if !folder.is_dir() {
        println!("skipped: there is no trace in {}", folder.display());
        return;
    }
    let mut config = openb();
    let files = config.trace.clone().unwrap();
    let trace = Trace::read(&folder, &files.nodes, &files.pods).unwrap();
    assert_eq!((trace.nodes.len(), trace.pods.len()), (1_523, 8_152));
    assert_eq!(
        trace.nodes.iter().map(|n| u32::from(n.gpus)).sum::<u32>(),
        6_212
    );
    config.end = Some(Nanos::DAY * 10);
    config.faults[0].at = Nanos::DAY * 5;
    let outcome = run(&config, &trace, 1);
    assert_eq!(broken(&outcome), [""; 0]);
    assert_eq!((outcome.nodes_lost, outcome.faults), (0, (1, 1)));
    let came = trace
        .pods
        .iter()
        .filter(|p| p.arrives <= Instant::EPOCH + Nanos::DAY * 10);
    assert_eq!(outcome.jobs.arrived, came.count() as u64);
    assert_eq!(outcome.jobs.placed, outcome.jobs.arrived);
}
