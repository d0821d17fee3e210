//! An invented day of a cluster of 1,024 nodes. Jobs really queue and really take nodes, first come,
//! first served, each model on its own; everything else only has the shape real days have.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use telemetry::{Action, Reason};
use twin::record::cluster::{Candidate, Change, Job, Jobs, Moment, State, Step, Tried, Why};
use twin::record::film::{Node, Still};
use twin::record::series::Group;
use twin::record::summary::{
    DecisionCount, Distance, Fault, Heat, Invariant, Kind, Quantiles, Replay, Site, Summary, Tenant,
};
use twin::record::{Cluster, Curve, CurvePoint, Film, Sample, Series};

const ROWS: usize = 8;
const RACKS: usize = 16;
const SLOTS: usize = 8;
const NODES: usize = ROWS * RACKS * SLOTS;
const DAY: f64 = 86_400.0;
/// The loop of row 3 has half its capacity from ten to two o'clock.
const FAULT: (usize, f64, f64) = (2, 36_000.0, 50_400.0);

const TENANTS: [(&str, f64); 5] = [
    ("language", 4.0),
    ("recommendation", 2.0),
    ("vision", 2.0),
    ("speech", 1.0),
    ("students", 1.0),
];

const TESTS: [&str; 5] = [
    "lost",
    "other GPU model",
    "too little CPU free",
    "too little GPU free",
    "too far apart for the gang",
];

/// Model, GPUs of a node, watts of a GPU, and in how many rows.
const MODELS: [(&str, u8, f64); 5] = [
    ("H100", 8, 700.0),
    ("H200", 8, 700.0),
    ("GH200", 4, 900.0),
    ("B200", 8, 1_000.0),
    ("", 0, 0.0),
];

fn model_of(row: usize, rack: usize) -> usize {
    match (row, rack) {
        (7, 12..) => 4,
        (0..=3, _) => 0,
        (4..=5, _) => 1,
        (6, _) => 2,
        _ => 3,
    }
}

fn chance(a: u64, b: u64) -> f64 {
    let mut x = a.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (b + 1) << 32;
    x = (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 32)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x >> 11) as f64 / (1_u64 << 53) as f64
}

struct Asked {
    arrives: f64,
    lasts: f64,
    tenant: usize,
    model: usize,
    /// GPUs per task in thousandths, and tasks.
    each: u32,
    tasks: u32,
}

fn asked(id: u64) -> Asked {
    let r = |i| chance(id, i);
    let tenant = match r(0) {
        x if x < 0.34 => 0,
        x if x < 0.55 => 1,
        x if x < 0.76 => 2,
        x if x < 0.88 => 3,
        _ => 4,
    };
    let (each, tasks) = match r(1) {
        x if x < 0.18 => (250, 1),
        x if x < 0.30 => (500, 1),
        x if x < 0.62 => (1_000, 1),
        x if x < 0.78 => (2_000, 1),
        x if x < 0.89 => (4_000, 1),
        x if x < 0.97 => (8_000, 1),
        x if x < 0.99 => (8_000, 4),
        _ => (8_000, 8),
    };
    let model = match r(2) {
        x if x < 0.50 => 0,
        x if x < 0.78 => 1,
        x if x < 0.90 && (each <= 4_000 || x < 0.782) => 2,
        _ => 3,
    };
    Asked {
        arrives: DAY * r(3).powf(0.9),
        lasts: 840.0 * (1.0 / (1.0 - 0.995 * r(4))).powf(0.95) + 600.0 + 30_000.0 * r(5),
        tenant,
        model,
        each,
        tasks,
    }
}

/// Where it runs, with how much on each node, and what it asked for.
type Runs = (Vec<(u32, u32)>, Asked);

struct Room {
    /// Thousandths of GPU free on each node.
    free: Vec<u32>,
    nodes: [Vec<u32>; 5],
}

impl Room {
    /// The nodes that fit best, if there are enough.
    fn find(&self, job: &Asked) -> Option<Vec<(u32, u32)>> {
        let fits = |&&n: &&u32| self.free[n as usize] >= job.each;
        let mut fitting: Vec<u32> = self.nodes[job.model].iter().filter(fits).copied().collect();
        if fitting.len() < job.tasks as usize {
            return None;
        }
        fitting.sort_by(|&a, &b| self.score(job, a).total_cmp(&self.score(job, b)));
        let on = fitting.into_iter().take(job.tasks as usize);
        Some(on.map(|n| (n, job.each)).collect())
    }

    fn terms(&self, job: &Asked, node: u32) -> [f64; 2] {
        let left = f64::from(self.free[node as usize] - job.each);
        [left / 8_000.0, 0.1 * chance(node.into(), 9)]
    }

    fn score(&self, job: &Asked, node: u32) -> f64 {
        self.terms(job, node).iter().sum()
    }

    fn why(&self, job: &Asked) -> Why {
        let of_model = &self.nodes[job.model];
        let fits = |&&n: &&u32| self.free[n as usize] >= job.each;
        let mut fitting: Vec<u32> = of_model.iter().filter(fits).copied().collect();
        fitting.sort_by(|&a, &b| self.score(job, a).total_cmp(&self.score(job, b)));
        let enough = fitting.len() >= job.tasks as usize;
        Why {
            nodes: NODES as u32,
            funnel: [
                NODES - 1,
                of_model.len(),
                of_model.len() * 9 / 10,
                fitting.len(),
                if enough { fitting.len() } else { 0 },
            ]
            .map(|left| left as u32)
            .into(),
            candidates: fitting
                .iter()
                .take(if enough { 5 } else { 0 })
                .map(|&node| {
                    let [fit, heat] = self.terms(job, node);
                    Candidate {
                        node,
                        score: fit + heat,
                        terms: [fit, heat, 0.0, 0.0],
                    }
                })
                .collect(),
            ..Why::default()
        }
    }
}

fn quantiles(mut of: Vec<f64>) -> Quantiles {
    of.sort_by(f64::total_cmp);
    let at = |q: f64| of.get(((of.len() as f64 * q) as usize).min(of.len().saturating_sub(1)));
    let at = |q| at(q).copied().unwrap_or(f64::NAN);
    Quantiles {
        p50: at(0.5),
        p95: at(0.95),
        p99: at(0.99),
        max: at(1.0),
    }
}

/// A day with this many jobs.
pub(crate) fn cluster(count: u64) -> (Summary, Series) {
    let nodes: Vec<Node> = (0..NODES)
        .map(|i| {
            let (row, rack) = (i / (RACKS * SLOTS), i / SLOTS);
            let (model, gpus, _) = MODELS[model_of(row, rack % RACKS)];
            Node {
                name: format!("r{}-k{:02}-n{}", row + 1, rack % RACKS + 1, i % SLOTS + 1),
                model: model.to_owned(),
                gpus,
                row: row as u32,
                rack: rack as u32,
                coolant: row as u32,
                limit_kelvin: 360.15,
            }
        })
        .collect();
    let watts =
        |i: usize| MODELS[model_of(nodes[i].row as usize, nodes[i].rack as usize % RACKS)].2;
    let mut room = Room {
        free: nodes.iter().map(|n| u32::from(n.gpus) * 1_000).collect(),
        nodes: Default::default(),
    };
    for (i, node) in nodes.iter().enumerate() {
        let model = model_of(node.row as usize, node.rack as usize % RACKS);
        room.nodes[model].push(i as u32);
    }
    let loops: Vec<String> = (0..ROWS).map(|i| format!("loop {}", i + 1)).collect();
    let tenants = TENANTS.map(|(name, weight)| (name.to_owned(), weight));
    let mut cluster = Cluster::new(Film::new(nodes.clone()), &tenants, &loops);
    cluster.jobs.terms = ["fit", "heat"].map(str::to_owned).to_vec();
    cluster.jobs.tests = TESTS.to_vec();
    cluster.loop_changed(FAULT.0, FAULT.1, 0.5);
    cluster.loop_changed(FAULT.0, FAULT.2, 1.0);

    let mut coming: Vec<(u64, Asked)> = (0..count).map(|id| (id, asked(id))).collect();
    coming.sort_by(|a, b| a.1.arrives.total_cmp(&b.1.arrives));
    let mut coming: VecDeque<(u64, Asked)> = coming.into();
    let mut queue: [VecDeque<(u64, Asked)>; 5] = Default::default();
    // By the nanosecond they end at.
    let mut running: BTreeMap<(u64, u64), Runs> = BTreeMap::new();
    let mut held = [0_u64; TENANTS.len()];
    let mut waits: [Vec<f64>; TENANTS.len()] = Default::default();
    let mut slowdowns: [Vec<f64>; TENANTS.len()] = Default::default();
    let mut arrived = [0_u64; TENANTS.len()];
    let (mut finished, mut refused) = (0, 0);
    let mut shares = [0.0; TENANTS.len()];
    let mut moments = 0.0;
    let all_gpus: u64 = nodes.iter().map(|n| u64::from(n.gpus) * 1_000).sum();

    let mut groups = vec![Group::new("site", NODES as u64, 363.15, 360.15)];
    groups.extend((0..ROWS).map(|l| Group::new(format!("loop {}", l + 1), 128, 363.15, 360.15)));
    let mut series = Series::new(groups, None);
    let mut allocated_sum = 0.0;
    let mut hottest = 0.0_f32;
    let mut overload = 0.0;

    let steps = 288;
    for step in 0..=steps {
        let until = DAY * f64::from(step) / f64::from(steps);
        loop {
            let end = running
                .first_key_value()
                .map(|(&(at, _), _)| at as f64 / 1e9);
            let arrival = coming.front().map(|(_, job)| job.arrives);
            let now = match (end, arrival) {
                (Some(e), Some(a)) => e.min(a),
                (Some(t), None) | (None, Some(t)) => t,
                (None, None) => break,
            };
            if now > until {
                break;
            }
            if end == Some(now) {
                let ((_, id), (on, job)) = running.pop_first().unwrap();
                for (node, milli) in on {
                    room.free[node as usize] += milli;
                }
                held[job.tenant] -= u64::from(job.each * job.tasks);
                cluster.jobs.left(id, now, State::Finished);
                slowdowns[job.tenant].push((now - job.arrives) / job.lasts.max(10.0));
                finished += 1;
            } else {
                let (id, job) = coming.pop_front().unwrap();
                arrived[job.tenant] += 1;
                let never = job.each > u32::from(MODELS[job.model].1) * 1_000;
                tell_arrival(&mut cluster.jobs, id, &job, never, now);
                if never {
                    refused += 1;
                } else {
                    let ahead: Vec<u64> = queue[job.model].iter().map(|(id, _)| *id).collect();
                    if !ahead.is_empty() || room.find(&job).is_none() {
                        tell_waiting(&mut cluster.jobs, &room, id, &job, &ahead, now);
                    }
                    queue[job.model].push_back((id, job));
                }
            }
            for line in &mut queue {
                while let Some((_, job)) = line.front() {
                    let Some(on) = room.find(job) else { break };
                    let (id, job) = line.pop_front().unwrap();
                    if now > job.arrives || id % 6 == 0 {
                        let step = Step {
                            seconds: now,
                            action: Action::Place,
                            reason: Reason::BestScore,
                            node: Some(on[0].0),
                            text: Box::default(),
                            why: Some(Box::new(room.why(&job))),
                        };
                        cluster.jobs.step(id, step);
                    }
                    if id % 600 == 0 {
                        cluster.jobs.step_between(id, slowed(now, on[0].0));
                    }
                    cluster.jobs.started(id, now, &on);
                    for &(node, milli) in &on {
                        room.free[node as usize] -= milli;
                    }
                    held[job.tenant] += u64::from(job.each * job.tasks);
                    waits[job.tenant].push(now - job.arrives);
                    running.insert((((now + job.lasts) * 1e9) as u64, id), (on, job));
                }
            }
        }
        let fault = until >= FAULT.1 && until < FAULT.2;
        let busy: Vec<f32> = (0..NODES)
            .map(|i| {
                let gpus = f32::from(nodes[i].gpus) * 1_000.0;
                if i == 333 && until > 20_000.0 {
                    f32::NAN
                } else if gpus == 0.0 {
                    (0.3 + 0.2 * chance(i as u64, step as u64)) as f32
                } else {
                    1.0 - room.free[i] as f32 / gpus
                }
            })
            .collect();
        let slow = |i: usize| fault && nodes[i].coolant as usize == FAULT.0;
        let kelvin: Vec<f32> = (0..NODES)
            .map(|i| {
                let warm = if slow(i) { 62.0 } else { 41.0 };
                let noise = 3.0 * chance(i as u64, 1_000 + step as u64) as f32;
                let k = 303.0 + warm * busy[i] * if slow(i) { 0.8 } else { 1.0 } + noise;
                hottest = hottest.max(if k.is_nan() { 0.0 } else { k });
                k
            })
            .collect();
        let free: Vec<f32> = (0..NODES)
            .map(|i| match nodes[i].gpus {
                0 => 0.0,
                gpus => room.free[i] as f32 / (f32::from(gpus) * 1_000.0),
            })
            .collect();
        let fragmented: Vec<f32> = free
            .iter()
            .enumerate()
            .map(|(i, free)| match room.free[i] % 1_000 {
                0 if *free >= 0.5 => 0.05 * free,
                0 => 0.4 * free,
                part => 0.3 * free + part as f32 / 8_000.0,
            })
            .collect();
        cluster.film.push(
            until,
            Still {
                utilisation: &busy,
                kelvin: &kelvin,
                free: &free,
                fragmented: &fragmented,
            },
        );
        let heat: Vec<f32> = (0..ROWS)
            .map(|l| {
                let of_loop = (0..NODES).filter(|&i| nodes[i].coolant as usize == l);
                let watts = of_loop.map(|i| {
                    let used = if busy[i].is_nan() {
                        0.0
                    } else {
                        f64::from(busy[i])
                    };
                    let used = if slow(i) { used * 0.62 } else { used };
                    700.0 + f64::from(nodes[i].gpus) * watts(i) * (0.12 + 0.88 * used)
                });
                watts.sum::<f64>() as f32
            })
            .collect();
        let sound: Vec<f32> = (0..ROWS)
            .map(|l| {
                let of_loop = (0..NODES).filter(|&i| nodes[i].coolant as usize == l);
                of_loop
                    .map(|i| 700.0 + f64::from(nodes[i].gpus) * watts(i))
                    .sum::<f64>() as f32
                    * 1.04
            })
            .collect();
        let capacity: Vec<f32> = (0..ROWS)
            .map(|l| sound[l] * if fault && l == FAULT.0 { 0.62 } else { 1.0 })
            .collect();
        overload +=
            (0..ROWS).filter(|&l| heat[l] > capacity[l]).count() as f64 * DAY / f64::from(steps);
        let waiting = || queue.iter().flatten();
        let dominant: Vec<f32> = held
            .iter()
            .map(|&h| (h as f64 / all_gpus as f64) as f32)
            .collect();
        for (sum, share) in shares.iter_mut().zip(&dominant) {
            *sum += f64::from(*share);
        }
        moments += 1.0;
        cluster.push(
            until,
            Moment {
                waiting_jobs: waiting().count() as f32,
                waiting_gpus: waiting()
                    .map(|(_, j)| (j.each * j.tasks) as f32 / 1_000.0)
                    .sum(),
                oldest_seconds: waiting()
                    .map(|(_, j)| (until - j.arrives) as f32)
                    .fold(0.0, f32::max),
                dominant_shares: &dominant,
                loop_watts: &heat,
                capacity_watts: &capacity,
            },
        );
        let used: u64 = held.iter().sum();
        allocated_sum += used as f64 / all_gpus as f64;
        let known = |from: usize, to: usize| {
            let of = kelvin[from..to].iter().copied().filter(|k| !k.is_nan());
            let (sum, n, max) = of.fold((0.0, 0.0, 0.0_f32), |(s, n, m), k| {
                (s + k, n + 1.0, m.max(k))
            });
            (sum / n, max)
        };
        let site = Sample {
            kelvin_mean: known(0, NODES).0,
            kelvin_max: known(0, NODES).1,
            load: heat.iter().sum::<f32>() / capacity.iter().sum::<f32>(),
            clock: if fault { 0.953 } else { 1.0 },
            utilisation: used as f32 / all_gpus as f32,
            dark: if until > 20_000.0 { 1.0 } else { 0.0 },
            waiting: waiting().count() as f32,
            ..Sample::UNKNOWN
        };
        let each = (0..ROWS).map(|l| Sample {
            kelvin_mean: known(l * 128, l * 128 + 128).0,
            kelvin_max: known(l * 128, l * 128 + 128).1,
            load: heat[l] / capacity[l],
            clock: if fault && l == FAULT.0 { 0.62 } else { 1.0 },
            ..Sample::UNKNOWN
        });
        let samples: Vec<Sample> = std::iter::once(site).chain(each).collect();
        series.push(until, &samples);
    }
    series.note(20_000.0, "Node r3-k10-n6 fails");
    series.note(FAULT.1, "loop 3 fails: 50 % of its capacity left");
    series.note(FAULT.1 + 400.0, "r3-k02-n1 is the first to slow down");
    series.note(FAULT.2, "loop 3 is repaired");

    let held_up = |name: &str| Invariant {
        name: name.to_owned(),
        held: true,
        first_violation: None,
    };
    let tenants = TENANTS
        .iter()
        .enumerate()
        .map(|(t, (name, weight))| Tenant {
            name: (*name).to_owned(),
            weight: *weight,
            arrived: arrived[t],
            finished: slowdowns[t].len() as u64,
            stopped: 0,
            gpu_share: shares[t] / moments,
            waiting_seconds: quantiles(waits[t].clone()),
            waiting: 0,
            slowdown: quantiles(slowdowns[t].clone()),
        });
    let placed = waits.iter().map(Vec::len).sum::<usize>() as u64;
    let queued = cluster.jobs.all().filter(|j| j.started > j.arrived).count() as u64;
    let summary = Summary {
        universe: "gpu-1024".to_owned(),
        intent:
            "A day of a thousand nodes: who waits, who gets what, and what happens when a loop \
                 loses half its capacity?"
                .to_owned(),
        kind: Kind::Site,
        seed: 7,
        threads: 1,
        tiles: 8_192,
        simulated_seconds: DAY,
        wall_seconds: 6.4,
        events: 1_204_551,
        events_per_second: 188_211.0,
        peak_rss_bytes: 96_000_000,
        history_hash: 0x51ed_2700_0c0f_fee0_51ed_2700_0c0f_fee0,
        complete: true,
        command: "cosmos twin run gpu-1024 --seed 7 --trace philly".to_owned(),
        invariants: [
            "no_device_above_limit",
            "loops_within_capacity",
            "backfill_delays_nobody",
            "energy_conserved",
        ]
        .map(held_up)
        .to_vec(),
        heat: Some(Heat {
            max_kelvin: hottest.into(),
            max_kelvin_over_limit: f64::from(hottest) - 363.15,
            max_load: 0.97,
            energy_error: 2.2e-12,
            ..Heat::default()
        }),
        faults: vec![
            Fault {
                kind: "cooling_loop".to_owned(),
                injected: 1,
                fired: 1,
            },
            Fault {
                kind: "node".to_owned(),
                injected: 1,
                fired: 1,
            },
        ],
        decisions: vec![
            DecisionCount::new(Action::Place, Reason::BestScore, placed),
            DecisionCount::new(Action::Queue, Reason::NoCapacity, queued),
            DecisionCount::new(Action::Throttle, Reason::Backpressure, 1_024),
            DecisionCount::new(Action::Refuse, Reason::Impossible, refused),
        ],
        site: Some(Site {
            utilisation: allocated_sum / moments * 0.98,
            gpu_allocated_fraction: allocated_sum / moments,
            waiting_seconds: quantiles(waits.iter().flatten().copied().collect()),
            waiting: 0,
            waiting_at_least_seconds: quantiles(waits.iter().flatten().copied().collect()),
            arrived: arrived.iter().sum(),
            placed,
            refused,
            finished,
            lost: 0,
            throttled_device_seconds: 1.47e7,
            device_max_kelvin: hottest.into(),
            loop_overload_seconds: overload,
        }),
        replay: Some(Replay {
            gangs: 311,
            backfilled: 0,
            slowdown: quantiles(slowdowns.iter().flatten().copied().collect()),
            gpu_seconds: 4.1e8,
            gpu_seconds_lost: 0.0,
            storage_share_min: 0.93,
            max_kelvin_over_throttle: f64::from(hottest) - 360.15,
            tenants: tenants.collect(),
            distances: vec![Distance {
                measured: "GPU power, a cluster of A100".to_owned(),
                replayed: "GPU power over its maximum".to_owned(),
                distance: 0.31,
            }],
            ..Replay::default()
        }),
        ..Summary::default()
    };
    (summary, series.with_cluster(cluster))
}

/// A job is slowed as soon as it runs.
fn slowed(now: f64, node: u32) -> Step {
    Step {
        seconds: now,
        action: Action::Throttle,
        reason: Reason::Backpressure,
        node: Some(node),
        text: "slowed 3 times between 2 h and 3 h, in all for 12 min: its loop was too warm".into(),
        why: None,
    }
}

fn wants(job: &Asked) -> String {
    let model = MODELS[job.model].0;
    match (job.tasks, job.each) {
        (1, each) if each < 1_000 => format!("{} of a {model}", f64::from(each) / 1_000.0),
        (1, each) => format!("{} {model}", each / 1_000),
        (tasks, each) => format!("{tasks} × {} {model}, in one row", each / 1_000),
    }
}

fn tell_arrival(jobs: &mut Jobs, id: u64, job: &Asked, never: bool, now: f64) {
    let wanted = jobs.want(wants(job));
    jobs.arrived(Job {
        id,
        name: format!("{}-{id:05}", TENANTS[job.tenant].0).into(),
        tenant: job.tenant as u32,
        wants: wanted,
        gpu_milli: u64::from(job.each * job.tasks),
        tasks: job.tasks,
        arrived: now,
        started: f64::NAN,
        ended: f64::NAN,
        state: State::Waiting,
        steps: Vec::new(),
        stays: Vec::new(),
    });
    if never {
        let step = Step {
            seconds: now,
            action: Action::Refuse,
            reason: Reason::Impossible,
            node: None,
            text: format!(
                "{} asks for {} GPUs on one node; no {} node has more than {}",
                wants(job),
                job.each / 1_000,
                MODELS[job.model].0,
                MODELS[job.model].1
            )
            .into(),
            why: None,
        };
        jobs.step(id, step);
        jobs.left(id, now, State::Refused);
    }
}

fn tell_waiting(jobs: &mut Jobs, room: &Room, id: u64, job: &Asked, ahead: &[u64], now: f64) {
    let turn = room.find(job).is_some();
    let why = || Why {
        ahead: ahead.iter().rev().take(8).copied().collect(),
        start_seconds: Some([
            now + 60.0 + 40.0 * ahead.len() as f64,
            now + 400.0 + 160.0 * ahead.len() as f64,
        ]),
        changes: match job.tasks {
            1 => Box::new([Change {
                text: format!("without the restriction to {}", MODELS[job.model].0).into(),
                start_seconds: now,
            }]),
            _ => Box::new([
                Change {
                    text: format!("with {} instead of {} nodes", job.tasks / 2, job.tasks).into(),
                    start_seconds: now,
                },
                Change {
                    text: "spread over two rows".into(),
                    start_seconds: now + 240.0,
                },
            ]),
        },
        candidates: Box::default(),
        ..room.why(job)
    };
    let mut why = jobs.wants_why(id).then(|| Box::new(why()));
    if let Some(why) = &mut why {
        why.tried = Tried::Sooner;
        // Of every third nobody asked more than what would start it at once.
        if id.is_multiple_of(3) {
            why.tried = Tried::AtOnce;
            why.start_seconds = None;
            let at_once = why.changes.iter().filter(|c| c.start_seconds <= now);
            why.changes = at_once.cloned().collect();
        }
    }
    let step = Step {
        seconds: now,
        action: Action::Queue,
        reason: if turn {
            Reason::NotItsTurn
        } else {
            Reason::NoCapacity
        },
        node: None,
        text: if turn {
            format!("{} jobs of its kind came earlier", ahead.len()).into()
        } else {
            let gpus = f64::from(job.each) / 1_000.0;
            format!("no {} has {gpus} GPUs free", MODELS[job.model].0).into()
        },
        why,
    };
    jobs.step(id, step);
}

/// Curves shaped like those of a packing experiment.
pub(crate) fn curves() -> Vec<Curve> {
    let mut curves = Vec::new();
    for pods in ["default", "gpuspec10"] {
        for (policy, migrate, full, published) in [
            ("cosmos", 0, 95.9, false),
            ("cosmos", 5, 97.2, false),
            ("fgd", 0, 94.8, false),
            ("bestfit", 0, 91.6, false),
            ("random", 0, 78.1, false),
            ("FGD", 0, 94.9, true),
            ("DotProd", 0, 90.2, true),
        ] {
            for seed in 42..if published { 43 } else { 45 } {
                let wobble = chance(seed, full as u64) - 0.5;
                let points = (1..=26).map(|i| {
                    let arrived = f64::from(i) * 5.0;
                    let full = full - if pods == "default" { 0.0 } else { 3.0 } + 0.6 * wobble;
                    // From the diagonal to the ceiling, softly.
                    let soft = 7.0;
                    let over = soft * (1.0 + ((arrived - full) / soft).exp()).ln();
                    let idle_lost = 100.0 / (1.0 + ((full + 2.0 - arrived) / 9.0).exp());
                    CurvePoint {
                        arrived_percent: arrived,
                        allocated_percent: arrived - over,
                        fragmented_of_idle_percent: Some(idle_lost),
                    }
                });
                curves.push(Curve {
                    policy: policy.to_owned(),
                    pods: pods.to_owned(),
                    seed: (!published).then_some(seed),
                    migrate,
                    published,
                    points: points.collect(),
                });
            }
        }
    }
    curves.sort_by(|a, b| {
        (a.pods.as_str(), a.published)
            .partial_cmp(&(b.pods.as_str(), b.published))
            .unwrap_or(Ordering::Equal)
    });
    curves
}
