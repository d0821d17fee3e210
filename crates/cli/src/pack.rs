//! `cosmos twin pack`.
//!
//! One experiment shows its curve; several show their means, a line for each policy.
//! Everything that can be wrong with a request is found before the first arrival.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf, absolute};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use scheduler::Policy;
use serde::Serialize;
use twin::pack::{Cluster, Draw, Experiment, Order, Point, quantile};
use twin::rehearsal::{self, Host};
use twin::site::Trace;

use crate::arguments::{Pack, Policies};

/// Without an order and without a seed, this one: the first of the published.
const SEED: u64 = 42;

/// An order of arrival, and what else is left to chance.
struct Arrivals {
    /// The file it was read from.
    file: Option<PathBuf>,
    draw: Draw,
    seed: u64,
    /// What drawing it took, by the clock on the wall and of processor time, in seconds.
    took: (f64, f64),
}

/// One experiment, as a program reads it. Its keys are a promise.
#[derive(Debug, Serialize)]
struct Packed {
    policy: &'static str,
    pods: String,
    order: Option<String>,
    seed: u64,
    migrate: u32,
    /// All of it but reading files: tables, the order if it is drawn, the run and its curve.
    wall_seconds: f64,
    cpu_seconds: f64,
    peak_rss_bytes: u64,
    decision_p50_us: f64,
    decision_p99_us: f64,
    /// Of the steps that look for a move: null where none may be made.
    move_p99_us: Option<f64>,
    placed: u64,
    dropped: u64,
    moved: u64,
    curve: Vec<Point>,
}

/// Several, likewise.
#[derive(Debug, Serialize)]
struct Compared<'p> {
    experiments: &'p [Packed],
    means: Vec<Mean>,
}

pub(crate) fn pack(asked: &Pack) -> Result<ExitCode> {
    let policies = policies(asked);
    if let ([stays, ..], true) = (&policies[..], asked.migrate > 0)
        && !policies.contains(&Policy::Cosmos)
    {
        bail!(
            "--migrate {}: found --policy {stays}, which never moves what is placed; expected cosmos among the policies",
            asked.migrate
        );
    }
    let nodes_file = located(&asked.trace, &asked.nodes)?;
    let pods_file = located(&asked.trace, &asked.pods)?;
    let trace = Trace::read(&asked.trace, &nodes_file, &pods_file)?;
    let shown = |file: &Path| asked.trace.join(file);
    if let (pods @ 1.., models) = trace.homeless() {
        let of = format!("{pods} of {} pods ask", trace.pods.len());
        let (list, nodes) = (shown(&pods_file), shown(&nodes_file));
        let (list, nodes) = (list.display(), nodes.display());
        match trace.nodes.iter().all(|node| node.gpus == 0) {
            true => anstream::eprintln!(
                "{list}: {of} for GPUs, of which no node of {nodes} has any, and are placed nowhere"
            ),
            false => anstream::eprintln!(
                "{list}: {of} only for GPU models that no node of {nodes} has, and are placed nowhere: {}",
                models.join(", ")
            ),
        }
    }
    let host = Host::now();
    let cluster = Cluster::new(&trace, &shown(&nodes_file), &shown(&pods_file))?;
    let prepared = host.elapsed_seconds();
    let arrivals = arrivals(asked, &trace, &shown(&pods_file))?;
    let name = |file: &Path| {
        let name = file.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let mut results = Vec::new();
    for policy in policies {
        // The others never move what is placed.
        let migrate = match policy {
            Policy::Cosmos => asked.migrate,
            _ => 0,
        };
        for Arrivals {
            file,
            draw,
            seed,
            took,
        } in &arrivals
        {
            let experiment = Experiment {
                cluster: &cluster,
                order: &draw.order,
                preference: &draw.preference,
                policy,
                seed: *seed,
                migrate,
            };
            let host = Host::now();
            let outcome = experiment.run(stopwatch());
            let ran = host.elapsed_seconds();
            let us = |times: &[Duration], q| quantile(times, q).as_nanos() as f64 / 1e3;
            results.push(Packed {
                policy: policy.name(),
                pods: name(&pods_file),
                order: file.as_deref().map(name),
                seed: *seed,
                migrate,
                wall_seconds: prepared.0 + took.0 + ran.0,
                cpu_seconds: prepared.1 + took.1 + ran.1,
                peak_rss_bytes: rehearsal::peak_rss_bytes(),
                decision_p50_us: us(&outcome.decisions, 0.5),
                decision_p99_us: us(&outcome.decisions, 0.99),
                move_p99_us: (migrate > 0).then(|| us(&outcome.steps, 0.99)),
                placed: outcome.placed,
                dropped: outcome.dropped,
                moved: outcome.moved,
                curve: outcome.curve,
            });
        }
    }
    let text = match (&results[..], asked.json) {
        ([one], true) => serde_json::to_string_pretty(one)? + "\n",
        (all, true) => {
            let means = means(all);
            serde_json::to_string_pretty(&Compared {
                experiments: all,
                means,
            })? + "\n"
        }
        ([one], false) => tell_one(one, &trace),
        (all, false) => tell_many(all, &trace),
    };
    crate::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Time since some moment.
#[expect(
    clippy::disallowed_methods,
    reason = "how long a decision takes is a question for the wall clock"
)]
fn stopwatch() -> impl FnMut() -> Duration {
    let began = std::time::Instant::now();
    move || began.elapsed()
}

/// A file of the trace's folder, if it is there, otherwise wherever it is.
fn located(folder: &Path, file: &Path) -> Result<PathBuf> {
    if !folder.join(file).exists() && file.exists() {
        return Ok(absolute(file)?);
    }
    Ok(file.to_owned())
}

fn policies(asked: &Pack) -> Vec<Policy> {
    let mut policies = Vec::new();
    for named in &asked.policies {
        match named {
            Policies::One(policy) => policies.push(*policy),
            Policies::All => policies.extend(Policy::ALL),
        }
    }
    policies.sort_unstable();
    policies.dedup();
    policies
}

fn arrivals(asked: &Pack, trace: &Trace, pods_file: &Path) -> Result<Vec<Arrivals>> {
    if asked.orders.is_empty() {
        let seeds = match &asked.seeds[..] {
            [] => &[SEED],
            seeds => seeds,
        };
        let all = seeds.iter().map(|&seed| {
            let (draw, took) = drawn(trace, seed);
            Arrivals {
                file: None,
                draw,
                seed,
                took,
            }
        });
        return Ok(all.collect());
    }
    ensure!(
        asked.seeds.len() <= 1,
        "--seed: found {} seeds beside --order; expected at most one, since the order is given",
        asked.seeds.len()
    );
    let mut files = Vec::new();
    for path in &asked.orders {
        match path.is_dir() {
            true => files.extend(orders_in(path, pods_file)?),
            false => files.push(path.clone()),
        }
    }
    let read = files.into_iter().map(|file| {
        let order = Order::read(&file, &trace.pods, pods_file)?;
        if let Some(doubt) = doubt(&file, &order, trace, pods_file) {
            anstream::eprintln!("pack: {doubt}");
        }
        let seed = asked.seeds.first().copied();
        let seed = seed.or_else(|| seed_of(&file)).unwrap_or(SEED);
        let (draw, took) = drawn(trace, seed);
        Ok(Arrivals {
            draw: Draw { order, ..draw },
            file: Some(file),
            seed,
            took,
        })
    });
    read.collect()
}

/// What a seed leaves to chance, and what drawing it took.
fn drawn(trace: &Trace, seed: u64) -> (Draw, (f64, f64)) {
    let host = Host::now();
    let draw = Draw::new(trace, seed);
    (draw, host.elapsed_seconds())
}

/// A list's name without what it ends in, plain or gzipped.
fn stem(list: &Path) -> String {
    let name = list.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.rsplit_once('.')
        .map_or(name, |(stem, _)| stem)
        .to_owned()
}

/// What a list is called by the orders that are for it: `default.seed42.names.gz` is for
/// `openb_pod_list_default.csv`.
fn list_name(pods_file: &Path) -> String {
    stem(pods_file)
        .rsplit('_')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Why an order may be one of another list, though all of its names are in this one: lists share most of their names.
fn doubt(file: &Path, order: &Order, trace: &Trace, pods_file: &Path) -> Option<String> {
    let came: BTreeSet<u32> = order.0.iter().copied().collect();
    let (pods, left) = (trace.pods.len(), trace.pods.len() - came.len());
    let called = file.file_name()?.to_string_lossy();
    let of_another = called
        .split_once(".seed")
        .filter(|(list, _)| *list != list_name(pods_file));
    let why = match of_another {
        Some((list, _)) => format!("by its name it is for {list:?}"),
        None if left > 0 => format!("{left} of the {pods} pods never come in it"),
        None => return None,
    };
    let (file, pods_file) = (file.display(), pods_file.display());
    Some(format!("{file}: is it an order of {pods_file}? {why}"))
}

/// The orders in a folder that are for a list.
fn orders_in(folder: &Path, pods_file: &Path) -> Result<Vec<PathBuf>> {
    let stem = stem(pods_file);
    let list = &list_name(pods_file)[..];
    let mut files = Vec::new();
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(list));
        if rest.is_some_and(|rest| rest.starts_with('.')) {
            files.push(entry.path());
        }
    }
    if files.is_empty() {
        bail!(
            "{}: found no order for {stem}; expected files that begin with {list:?} and a dot",
            folder.display()
        );
    }
    files.sort_unstable();
    Ok(files)
}

/// The number behind the last `seed` in a file's name.
fn seed_of(file: &Path) -> Option<u64> {
    let name = file.file_name()?.to_str()?;
    let (_, rest) = name.rsplit_once("seed")?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// The means of one policy.
#[derive(Debug, Serialize)]
struct Mean {
    policy: &'static str,
    experiments: usize,
    wall_seconds: f64,
    decision_p99_us: f64,
    placed: f64,
    moved: f64,
    curve: Vec<Point>,
}

/// One for each policy, in the order of the results.
fn means(results: &[Packed]) -> Vec<Mean> {
    let groups = results.chunk_by(|a, b| a.policy == b.policy);
    let mean = |group: &[Packed]| {
        let mean =
            |of: &dyn Fn(&Packed) -> f64| group.iter().map(of).sum::<f64>() / group.len() as f64;
        // Orders may end at different points.
        let points = group.iter().map(|one| one.curve.len()).min().unwrap_or(0);
        let point = |i: usize| Point {
            arrived_percent: group[0].curve[i].arrived_percent,
            allocated_percent: mean(&|one| one.curve[i].allocated_percent),
            fragmented_of_idle_percent: mean(&|one| one.curve[i].fragmented_of_idle_percent),
        };
        Mean {
            policy: group[0].policy,
            experiments: group.len(),
            wall_seconds: mean(&|one| one.wall_seconds),
            decision_p99_us: mean(&|one| one.decision_p99_us),
            placed: mean(&|one| one.placed as f64),
            moved: mean(&|one| one.moved as f64),
            curve: (0..points).map(point).collect(),
        }
    };
    groups.map(mean).collect()
}

/// The curve at this percent, or at its end.
fn at(curve: &[Point], arrived_percent: u32) -> Option<&Point> {
    let reached = |point: &&Point| point.arrived_percent <= arrived_percent;
    curve.iter().rev().find(reached)
}

fn cluster(trace: &Trace) -> String {
    let gpus: u32 = trace.nodes.iter().map(|node| u32::from(node.gpus)).sum();
    format!("{} nodes with {gpus} GPUs", trace.nodes.len())
}

/// How wide a bar is that stands for all of the GPU.
const BAR: f64 = 50.0;

fn tell_one(one: &Packed, trace: &Trace) -> String {
    let order = match &one.order {
        Some(order) => format!("in the order of {order}, seed {}", one.seed),
        None => format!("in an order drawn from seed {}", one.seed),
    };
    let mut text = format!(
        "{} packs {} into {}, {order}\n\n  arrived  allocated  of the rest fragmented\n",
        one.policy,
        one.pods,
        cluster(trace),
    );
    for point in &one.curve {
        let bar = "█".repeat((point.allocated_percent / 100.0 * BAR).round() as usize);
        let _ = writeln!(
            text,
            "  {:>5} %  {:>7.2} %  {:>20.1} %  {bar}",
            point.arrived_percent, point.allocated_percent, point.fragmented_of_idle_percent,
        );
    }
    let Some(point) = at(&one.curve, 100) else {
        let _ = writeln!(text, "\n{} placed, {} dropped", one.placed, one.dropped);
        return text;
    };
    let _ = writeln!(
        text,
        "\n{:.2} % of the GPU was allocated when {} % had arrived; {} pods placed, {} dropped\n\
         {:.2} s, decisions {:.1} µs in the median and {:.1} µs at p99, {:.0} MB at most",
        point.allocated_percent,
        point.arrived_percent,
        one.placed,
        one.dropped,
        one.wall_seconds,
        one.decision_p50_us,
        one.decision_p99_us,
        one.peak_rss_bytes as f64 / 1e6,
    );
    text
}

fn tell_many(all: &[Packed], trace: &Trace) -> String {
    let means = means(all);
    let Some(first) = all.first() else {
        return String::new();
    };
    let mut text = format!(
        "{} into {}, means of {} experiments for each policy\n\n  \
         policy          allocated at 100 %  at 130 %  of the rest fragmented  seconds  p99 µs\n",
        first.pods,
        cluster(trace),
        means[0].experiments,
    );
    let number =
        |curve: &[Point], percent, of: fn(&Point) -> f64| at(curve, percent).map_or(f64::NAN, of);
    for mean in &means {
        let allocated = |percent| number(&mean.curve, percent, |p| p.allocated_percent);
        let _ = writeln!(
            text,
            "  {:<14}  {:>16.2} %  {:>6.2} %  {:>20.1} %  {:>7.2}  {:>6.1}",
            mean.policy,
            allocated(100),
            allocated(130),
            number(&mean.curve, 100, |p| p.fragmented_of_idle_percent),
            mean.wall_seconds,
            mean.decision_p99_us,
        );
    }
    let allocated = |mean: &&Mean| number(&mean.curve, 100, |p| p.allocated_percent);
    let best = means
        .iter()
        .max_by(|a, b| allocated(a).total_cmp(&allocated(b)));
    let worst = means
        .iter()
        .min_by(|a, b| allocated(a).total_cmp(&allocated(b)));
    if let (Some(best), Some(worst)) = (best, worst)
        && means.len() > 1
    {
        let gain = allocated(&best) - allocated(&worst);
        let gpus: u32 = trace.nodes.iter().map(|node| u32::from(node.gpus)).sum();
        let _ = writeln!(
            text,
            "\n{} allocates most, {gain:.2} points or {:.0} GPUs more than {}",
            best.policy,
            gain / 100.0 * f64::from(gpus),
            worst.policy,
        );
    }
    text
}
