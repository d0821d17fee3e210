//! What would have become of this run if one thing had been different from a moment on?
//!
//! The run is lived again up to the moment, copied, and both copies go on: one as it did,
//! the other with the change. Whatever differs afterwards differs because of it. The
//! unchanged copy has to be the run that is in the history, or nothing is said.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::str::FromStr;

use scheduler::ledger::{Demand, Models, WHOLE};
use scheduler::site::{Quality, words};
use serde_json::{Value, json};
use telemetry::{Action, Sketch};
use wire::{Instant, Kelvin, Nanos};

use super::jobs::{BUSY, Job, Workload};
use super::why::Watch;
use super::{Called, Change, Config, Fate, Record, Since, Visit, why};
use crate::again::{Again, AgainError, Differs};
use crate::observer::Progress;
use crate::record::summary::Quantiles;
use crate::record::{Past, PastError};
use crate::universe::quantity::{Amount, Scalar as _};
use crate::universe::{Bytes, Dimension, Override, SettingError};

/// A question.
#[derive(Clone, Debug, Default)]
pub struct Asked<'a> {
    /// From which moment on.
    pub at: Instant,
    /// Up to which; the end of the run if none.
    pub until: Option<Instant>,
    /// What is different.
    pub changes: Vec<Wish>,
    /// Where the lists of the run are now, if they have moved.
    pub folder: Option<&'a Path>,
}

/// Something that is to be different.
#[derive(Clone, Debug)]
pub enum Wish {
    /// A node is gone: its name, or its number.
    RemoveNode(String),
    /// A key of `[scheduler]` or `[tenant]` has another value.
    Set(Override),
    /// A tenant is guaranteed so many GPUs.
    Quota(String, u32),
    /// A tenant may have so many GPUs at most.
    Ceiling(String, u32),
    /// A tenant has this weight.
    Weight(String, f64),
    /// A loop carries this share of what it did when sound.
    LoopCapacity(u16, f64),
    /// Neighbours take this share of what they would.
    Neighbour(f64),
    /// One more job comes.
    Submit(Submission),
}

/// A job as it is written on a command line: `gpus=8,tasks=2,model=H200,runs=2h`.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// GPUs of each task, in thousandths: below a whole one it is a share.
    pub gpu_milli: u32,
    /// Tasks that start together.
    pub tasks: u16,
    /// Models that will do; any if empty.
    pub models: Vec<String>,
    /// CPUs of each task, in thousandths; 12 for each GPU if not said.
    pub cpu_milli: Option<u32>,
    /// Memory of each task, MiB; 64 GiB for each GPU if not said.
    pub memory_mib: Option<u32>,
    /// How long it runs at full clock.
    pub runs: Nanos,
    /// How long it says it runs at most.
    pub limit: Option<Nanos>,
    /// Whose it is; the first tenant's if not said.
    pub tenant: Option<String>,
    /// Higher goes first.
    pub priority: u8,
    /// How it may be treated.
    pub quality: Quality,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WhatIfError {
    /// The run cannot be read.
    #[error(transparent)]
    Past(#[from] PastError),
    /// It cannot be lived again.
    #[error(transparent)]
    Again(#[from] AgainError),
    /// A moment is not in the run, or the end lies before the beginning.
    #[error("found {found} for {what}; expected a moment from {from} to {to}", found = why::exactly(*found), from = why::exactly(*from), to = why::exactly(*to))]
    Moment {
        /// Which of them.
        what: &'static str,
        /// What was asked for.
        found: Instant,
        /// The first that is possible.
        from: Instant,
        /// The last.
        to: Instant,
    },
    /// Nothing was to be different.
    #[error(
        "nothing to change: say what is different, such as --remove-node NAME or --submit gpus=8,runs=2h"
    )]
    Nothing,
    /// Two jobs were to be submitted.
    #[error("found {0} jobs to submit; expected one: each question has one answer")]
    Jobs(usize),
    /// There is no such thing at this site.
    #[error("found {kind} \"{found}\"; expected {expected}")]
    Unknown {
        /// Of which kind.
        kind: &'static str,
        /// What was asked for.
        found: String,
        /// What there is.
        expected: String,
    },
    /// A key cannot change while jobs run.
    #[error(
        "found {0}, which cannot change in the middle of a run; expected a key of `scheduler` or `tenant`"
    )]
    Key(String),
    /// Nobody takes from the plant.
    #[error(
        "found --neighbour, and nobody else draws on this run's plant; expected a universe with a [[fault]] of kind \"neighbour\""
    )]
    NoNeighbour,
    /// A name is no name in a setting.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// Somebody stopped it.
    #[error("stopped before both futures were over")]
    Stopped,
}

/// What one of two futures was like.
#[derive(Clone, Debug)]
pub struct Future {
    /// Work, heat and use.
    pub since: Since,
    /// How long those have waited that first started in it, or wait for that when it ends.
    pub waiting: Quantiles,
    /// How many they were.
    pub started: u64,
    /// Times a job was preempted.
    pub preempted: u64,
    /// Times a job moved.
    pub moved: u64,
    /// Jobs refused.
    pub refused: u64,
    /// Times a job was stopped by heat or with its node, and waited again.
    pub stopped: u64,
    /// Jobs that were lost.
    pub lost: u64,
    /// Nodes that were slowed.
    pub throttled: u64,
    jobs: BTreeMap<u64, Course>,
}

/// When a job started and ended in a future, if it did, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// Its first start.
    pub started: Option<Instant>,
    /// Its end.
    pub ended: Option<Instant>,
    /// What became of it.
    pub fate: Fate,
}

/// A job that starts or ends at another time, or in one future only.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// What it asks for.
    pub wants: String,
    /// What becomes of it if nothing changes; none if that is not told by the end.
    pub unchanged: Option<Course>,
    /// What becomes of it with the change.
    pub changed: Option<Course>,
}

impl Moved {
    /// What is different, in words that follow a name.
    fn text(&self) -> String {
        let told = |pick: fn(&Course) -> Option<Instant>| {
            [self.unchanged, self.changed].map(|course| course.as_ref().and_then(pick))
        };
        let [then, now] = told(|course| course.started);
        if then != now {
            return in_place_of("starts", "started", then, now);
        }
        let [then, now] = told(|course| course.ended);
        let fate = self.changed.map_or(Fate::Running, |course| course.fate);
        match (self.unchanged, now) {
            (Some(course), None) if then.is_none() => {
                let does = |fate| match fate {
                    Fate::Waiting => "waits again",
                    _ => "runs",
                };
                format!(
                    "{} at the end; unchanged it {}",
                    does(fate),
                    does(course.fate)
                )
            }
            (Some(course), Some(now)) if course.fate != fate => {
                let otherwise = then.map_or_else(
                    || "has not ended by the end".to_owned(),
                    |then| format!("is {} at {}", ended_as(course.fate), words::moment(then)),
                );
                format!(
                    "is {} at {}; unchanged it {otherwise}",
                    ended_as(fate),
                    words::moment(now)
                )
            }
            _ => in_place_of("ends", "ended", then, now),
        }
    }
}

/// How a job came to its end.
const fn ended_as(fate: Fate) -> &'static str {
    match fate {
        Fate::AtLimit => "ended at its limit",
        other => other.name(),
    }
}

fn in_place_of(does: &str, done: &str, then: Option<Instant>, now: Option<Instant>) -> String {
    let at = |at: Instant| format!("{does} at {}", words::moment(at));
    match (then, now) {
        (Some(then), Some(now)) if words::moment(then) == words::moment(now) => {
            let (by, how) = match now > then {
                true => (now.since(then), "later"),
                false => (then.since(now), "earlier"),
            };
            format!("{}, {} s {how}", at(now), by.as_secs_f64())
        }
        (Some(then), Some(now)) => format!("{} instead of {}", at(now), words::moment(then)),
        (Some(then), None) => format!("has not {done} by the end; unchanged it {}", at(then)),
        (None, Some(now)) => format!("{}; unchanged it has not {done} by the end", at(now)),
        (None, None) => format!("has not {done} by the end"),
    }
}

/// The difference between both futures.
#[derive(Clone, Debug)]
pub struct Difference {
    /// From when.
    pub at: Instant,
    /// Until when.
    pub until: Instant,
    /// What was different, in words.
    pub changes: Vec<String>,
    /// The future of the run as it was.
    pub unchanged: Future,
    /// The other.
    pub changed: Future,
    /// How many jobs start or end at another time.
    pub affected: Affected,
    /// All of those, the most affected first.
    pub most: Vec<Moved>,
    /// What became of the submitted job: words and data.
    pub submitted: Option<(String, Value)>,
}

/// Jobs that start or end at another time with a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// Start earlier.
    pub start_earlier: u64,
    /// Start later.
    pub start_later: u64,
    /// Start no more by the end.
    pub start_no_more: u64,
    /// Of those that start when they would, end earlier.
    pub end_earlier: u64,
    /// Likewise, later.
    pub end_later: u64,
    /// Likewise, have not ended by the end where they would, ended as something else, or wait again at the end where they
    /// would run.
    pub end_otherwise: u64,
}

/// Jobs named in words among the affected; all are in the data.
pub const MOST: usize = 10;

/// Reads a time with several units, `3d 4h`: each number with its unit. Minutes are `min` or `m` here, as in `14h30m`.
#[must_use]
pub fn time(text: &str) -> Option<Nanos> {
    let mut rest = text.trim();
    let mut sum = Nanos::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))?;
        let (number, tail) = rest.split_at(unit);
        let tail = tail.trim_start();
        let end = tail.find(|c: char| c.is_ascii_digit() || c.is_whitespace());
        let (unit, tail) = tail.split_at(end.unwrap_or(tail.len()));
        let unit = if unit == "m" { "min" } else { unit };
        let amount = Amount::parse(&format!("{number} {unit}"), Dimension::Time)?;
        sum = Nanos(sum.0.checked_add(Nanos::from_amount(&amount).ok()?.0)?);
        rest = tail.trim_start();
    }
    Some(sum)
}

impl FromStr for Submission {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const KEYS: &str =
            "gpus, tasks, model, cpu, memory, runs, limit, tenant, priority, quality";
        let mut job = Self {
            gpu_milli: 0,
            tasks: 1,
            models: Vec::new(),
            cpu_milli: None,
            memory_mib: None,
            runs: Nanos::ZERO,
            limit: None,
            tenant: None,
            priority: 0,
            quality: Quality::BestEffort,
        };
        let mut seen = BTreeSet::new();
        for pair in text.split(',').map(str::trim) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(format!(
                    "found \"{pair}\"; expected KEY=VALUE with one of {KEYS}"
                ));
            };
            let (key, value) = (key.trim(), value.trim());
            let wrong = |expected: &str| format!("{key}: found \"{value}\"; expected {expected}");
            let number = |most: f64| {
                let number = value.parse::<f64>().ok();
                number.filter(|n| (0.0..=most).contains(n))
            };
            let span = || time(value).ok_or_else(|| wrong("a time, such as 2h or \"1h 30min\""));
            match key {
                "gpus" => {
                    // More than one node of any site, which is told why it never starts.
                    let most = f64::from(u8::MAX);
                    let gpus = number(most).filter(|n| *n <= 1.0 || n.fract() == 0.0);
                    let gpus = gpus.ok_or_else(|| {
                        wrong("a whole number of at most 255, or a share of one GPU such as 0.25")
                    })?;
                    job.gpu_milli = (gpus * f64::from(WHOLE)).round() as u32;
                }
                "tasks" => {
                    let tasks = value.parse().ok().filter(|n| *n > 0);
                    job.tasks = tasks.ok_or_else(|| wrong("a whole number from 1 to 65535"))?;
                }
                "model" => job.models = value.split('|').map(|m| m.trim().to_owned()).collect(),
                "cpu" => {
                    let cpus = number(1e6).ok_or_else(|| wrong("a number of CPUs"))?;
                    job.cpu_milli = Some((cpus * 1_000.0).round() as u32);
                }
                "memory" => {
                    let amount = Amount::parse(value, Dimension::Data);
                    let bytes = amount.and_then(|a| Bytes::from_amount(&a).ok());
                    let bytes = bytes.ok_or_else(|| wrong("an amount of data, such as 64GiB"))?;
                    job.memory_mib = Some(u32::try_from(bytes.0 >> 20).unwrap_or(u32::MAX));
                }
                "runs" => job.runs = span()?,
                "limit" => job.limit = Some(span()?),
                "tenant" => job.tenant = Some(value.to_owned()),
                "priority" => {
                    job.priority = value
                        .parse()
                        .map_err(|_| wrong("a whole number from 0 to 255"))?;
                }
                "quality" => {
                    job.quality = match value {
                        "best-effort" => Quality::BestEffort,
                        "latency-sensitive" => Quality::LatencySensitive,
                        _ => return Err(wrong("best-effort or latency-sensitive")),
                    };
                }
                _ => return Err(format!("found key \"{key}\"; expected one of {KEYS}")),
            }
            if !seen.insert(key.to_owned()) {
                return Err(format!("{key} is said twice"));
            }
        }
        if job.runs == Nanos::ZERO {
            return Err(match seen.contains("runs") {
                true => "runs: found no time at all; expected more, such as runs=2h".to_owned(),
                false => {
                    "how long it runs is missing; expected runs=TIME, such as runs=2h".to_owned()
                }
            });
        }
        Ok(job)
    }
}

impl Submission {
    fn listed(&self, at: Instant, load: &Workload) -> Result<Job, WhatIfError> {
        let mut models = Models(0);
        for model in &self.models {
            let known = position(&load.models, model);
            let known = known.ok_or_else(|| unknown("GPU model", model, &load.models))?;
            models.0 |= 1 << known;
        }
        if self.models.is_empty() {
            models = Models::ANY;
        }
        let tenant = match &self.tenant {
            None => 0,
            Some(name) => tenant_of(load, name)?,
        };
        let gpus = self.gpu_milli.div_ceil(WHOLE.into());
        let per_gpu = |each: u32| each.saturating_mul(gpus.max(1));
        Ok(Job {
            name: "submitted".into(),
            arrives: at,
            runs: Some(self.runs),
            limit: self.limit,
            tenant,
            priority: self.priority,
            quality: self.quality,
            tasks: self.tasks,
            demand: Demand {
                cpu_milli: self.cpu_milli.unwrap_or_else(|| per_gpu(12_000)),
                memory_mib: self.memory_mib.unwrap_or_else(|| per_gpu(65_536)),
                gpus: u8::try_from(gpus).expect("read as at most 255"),
                gpu_milli: match self.gpu_milli {
                    0 => 0,
                    milli if milli < WHOLE.into() => milli as u16,
                    _ => WHOLE,
                },
                models,
            },
            habit: 0,
            busy: BUSY,
            labels: None,
        })
    }
}

fn position(names: &[String], name: &str) -> Option<usize> {
    names.iter().position(|known| known == name)
}

fn unknown(kind: &'static str, found: &str, known: &[String]) -> WhatIfError {
    let far = |name: &&String| strsim::damerau_levenshtein(found, name);
    let near = known.iter().min_by_key(far);
    let near = near.filter(|name| far(name) * 2 <= found.chars().count().max(2));
    let expected = match near {
        Some(near) => format!("one such as \"{near}\""),
        None => {
            let few: Vec<&str> = known.iter().take(8).map(String::as_str).collect();
            let dots = if known.len() > few.len() { ", …" } else { "" };
            format!("one of {}{dots}", few.join(", "))
        }
    };
    WhatIfError::Unknown {
        kind,
        found: found.to_owned(),
        expected,
    }
}

fn tenant_of(load: &Workload, name: &str) -> Result<u16, WhatIfError> {
    let known = position(&load.jobs.tenants, name);
    let known = known.ok_or_else(|| unknown("tenant", name, &load.jobs.tenants))?;
    Ok(known as u16)
}

/// What is to be different, checked against the site.
#[derive(Default)]
struct Plan {
    told: Vec<String>,
    nodes: Vec<u32>,
    rules: Option<Config>,
    capacity: Vec<(u16, f64)>,
    neighbour: Option<f64>,
    load: Option<Workload>,
}

impl Plan {
    fn of(again: &Again, asked: &Asked<'_>) -> Result<Self, WhatIfError> {
        let load = &again.scene.load;
        let names = Called(load);
        let mut plan = Self::default();
        let (mut settings, mut jobs) = (Vec::new(), 0);
        let gpus = |n: u32| format!("{n} GPUs");
        for wish in &asked.changes {
            let told = match wish {
                Wish::RemoveNode(name) => {
                    let known = load.nodes.iter().position(|n| n.name == *name);
                    let known =
                        known.or_else(|| name.parse().ok().filter(|n| *n < load.nodes.len()));
                    let all = || {
                        load.nodes
                            .iter()
                            .map(|n| n.name.clone())
                            .collect::<Vec<_>>()
                    };
                    let node = known.ok_or_else(|| unknown("node", name, &all()))?;
                    plan.nodes.push(node as u32);
                    format!("node {} is gone", load.nodes[node].name)
                }
                Wish::Set(setting) => {
                    settings.push(setting.clone());
                    format!("{setting}")
                }
                Wish::Quota(tenant, n) => {
                    settings.push(set(load, tenant, "gpus", n)?);
                    format!("tenant {tenant} is guaranteed {}", gpus(*n))
                }
                Wish::Ceiling(tenant, n) => {
                    settings.push(set(load, tenant, "gpus_max", n)?);
                    format!("tenant {tenant} may have {} at most", gpus(*n))
                }
                Wish::Weight(tenant, weight) => {
                    settings.push(set(load, tenant, "weight", weight)?);
                    format!("tenant {tenant} has weight {weight}")
                }
                Wish::LoopCapacity(coolant, left) => {
                    let loops = again.config.building.loops;
                    if *coolant >= loops {
                        return Err(WhatIfError::Unknown {
                            kind: "loop",
                            found: coolant.to_string(),
                            expected: match loops {
                                1 => "0, the only one".to_owned(),
                                loops => format!("one of 0 to {}", loops - 1),
                            },
                        });
                    }
                    plan.capacity.push((*coolant, *left));
                    format!(
                        "loop {coolant} carries {:.0} % of what it did when sound",
                        left * 100.0
                    )
                }
                Wish::Neighbour(share) => {
                    if again.config.neighbours.is_empty() {
                        return Err(WhatIfError::NoNeighbour);
                    }
                    plan.neighbour = Some(*share);
                    format!(
                        "the neighbour takes {:.0} % of what it would",
                        share * 100.0
                    )
                }
                Wish::Submit(submission) => {
                    jobs += 1;
                    let job = submission.listed(asked.at, load)?;
                    let told = words::wants(&super::world::asked(u64::MAX, &job), &names);
                    plan.load = Some(load.with(job));
                    format!("one more job comes and asks for {told}")
                }
            };
            plan.told.push(told);
        }
        if plan.told.is_empty() {
            return Err(WhatIfError::Nothing);
        }
        if jobs > 1 {
            return Err(WhatIfError::Jobs(jobs));
        }
        if !settings.is_empty() {
            plan.rules = Some(rules(again, &settings)?);
        }
        Ok(plan)
    }

    fn apply<'a>(&'a self, visit: &mut Visit<'a>, now: Instant) {
        if let Some(config) = &self.rules {
            visit.change(now, Change::Rules(config));
        }
        for &node in &self.nodes {
            visit.change(now, Change::NodeGone(node));
        }
        for &(coolant, left) in &self.capacity {
            visit.change(now, Change::Capacity { coolant, left });
        }
        if let Some(share) = self.neighbour {
            visit.change(now, Change::Neighbours(share));
        }
        if let Some(load) = &self.load {
            visit.change(now, Change::Submit(load));
        }
    }
}

fn set(
    load: &Workload,
    tenant: &str,
    key: &str,
    value: impl std::fmt::Display,
) -> Result<Override, WhatIfError> {
    tenant_of(load, tenant)?;
    Ok(format!("tenant.\"{tenant}\".{key}={value}").parse()?)
}

/// The universe with settings that can change while jobs run, and no others.
fn rules(again: &Again, settings: &[Override]) -> Result<Config, WhatIfError> {
    let old = &again.config;
    for setting in settings {
        let alone = again.with(std::slice::from_ref(setting))?;
        let allowed = Config {
            scheduler: alone.scheduler,
            tenants: alone.tenants.clone(),
            ..old.clone()
        };
        if alone != allowed {
            return Err(WhatIfError::Key(setting.to_string()));
        }
        let is_known = |name: &String| {
            again.scene.load.jobs.tenants.contains(name)
                || old.tenants.iter().any(|t| t.name == *name)
        };
        if let Some(stranger) = alone.tenants.iter().find(|t| !is_known(&t.name)) {
            return Err(unknown(
                "tenant",
                &stranger.name,
                &again.scene.load.jobs.tenants,
            ));
        }
    }
    Ok(again.with(settings)?)
}

/// What is written down while a future goes on.
#[derive(Default)]
struct Notes {
    jobs: BTreeMap<u64, Course>,
    preempted: u64,
    moved: u64,
    refused: u64,
    stopped: u64,
    lost: u64,
    throttled: BTreeSet<u64>,
    /// When jobs were first placed in it, be it for the first time or again.
    placed: BTreeMap<u64, Instant>,
}

impl Notes {
    fn write(&mut self, record: &Record<'_>) {
        match record {
            Record::Job(job) => {
                let course = Course {
                    started: job.started,
                    ended: job.ended,
                    fate: job.fate,
                };
                self.jobs.insert(job.id, course);
            }
            Record::Decision(decision, ..) => match decision.action {
                Action::Preempt => self.preempted += 1,
                Action::Migrate => self.moved += 1,
                Action::Refuse => self.refused += 1,
                Action::Lose => self.lost += 1,
                Action::Queue if words::is_stop(decision) => self.stopped += 1,
                Action::Place => {
                    self.placed.entry(decision.work).or_insert(decision.at);
                }
                Action::Throttle => {
                    self.throttled.insert(decision.subject.0);
                }
                _ => {}
            },
            Record::Event { .. } => {}
        }
    }
}

/// Asks what would have become of a run.
///
/// # Errors
/// If the run cannot be lived again, or a change names what there is not. Nothing
/// is simulated then.
pub fn whatif(past: &Past, asked: &Asked<'_>, watch: Watch<'_>) -> Result<Difference, WhatIfError> {
    let end = Instant((past.seconds * 1e9).round() as u64);
    let within = |what, found: Instant, from: Instant| {
        if found < from || found > end {
            return Err(WhatIfError::Moment {
                what,
                found,
                from,
                to: end,
            });
        }
        Ok(())
    };
    within("--at", asked.at, Instant::EPOCH)?;
    let until = asked.until.unwrap_or(end);
    within("--until", until, asked.at)?;
    let again = Again::of(past, asked.folder)?;
    let plan = Plan::of(&again, asked)?;
    let (then, now) = (
        RefCell::new(Notes::default()),
        RefCell::new(Notes::default()),
    );
    let mut write_then = |record: Record<'_>| then.borrow_mut().write(&record);
    let mut write_now = |record: Record<'_>| now.borrow_mut().write(&record);

    // Both futures are as much to be done as one run and a half.
    let future = until.since(asked.at);
    let all = until + future;
    let mut go = |visit: &mut Visit<'_>, to: Instant, done: Nanos| {
        let on = &mut |p: super::Progress| {
            watch(Progress {
                now: p.now + done,
                end: all,
                events: p.events,
            })
        };
        match visit.until(to, on) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(WhatIfError::Stopped),
        }
    };
    let mut before = again.begin();
    before.end_at(until);
    go(&mut before, asked.at, Nanos::ZERO)?;
    before.mark(asked.at);
    let mut unchanged = before.clone();
    let mut changed = before;
    unchanged.tell(&mut write_then);
    go(&mut unchanged, until, Nanos::ZERO)?;
    let unchanged_since = unchanged.since(until);
    let _ = unchanged.finish(true);

    changed.tell(&mut write_now);
    plan.apply(&mut changed, asked.at);
    let id = again.scene.load.jobs.jobs.len() as u64;
    let explained = plan.load.as_ref().map(|load| {
        let names = Called(load);
        let explanation = changed.explain(id, asked.at);
        let text = why::explanation_in_words(&explanation, asked.at, &names);
        let json = why::explanation_as_json(&explanation, asked.at, &names);
        let job = super::world::asked(id, &load.jobs.jobs[id as usize]);
        let refusal = changed.refusal(id);
        let refusal = refusal.filter(|_| text.is_none());
        let refusal = refusal.map(|r| words::refusal(&r, &job, &names));
        (text, json, refusal)
    });
    go(&mut changed, until, future)?;
    let changed_since = changed.since(until);
    let _ = changed.finish(true);

    let load = plan.load.as_ref().unwrap_or(&again.scene.load);
    let unchanged = then
        .into_inner()
        .into_future(unchanged_since, (asked.at, until), load);
    let changed = now
        .into_inner()
        .into_future(changed_since, (asked.at, until), load);
    same_as_recorded(past, &again, &unchanged, asked.at, until)?;
    let submitted = explained.map(|(text, json, refusal)| {
        let course = changed.jobs.get(&id);
        became(course, asked.at, (text, json, refusal))
    });
    let (affected, most) = affected(&unchanged, &changed, load, id, until);
    Ok(Difference {
        at: asked.at,
        until,
        changes: plan.told.clone(),
        unchanged,
        changed,
        affected,
        most,
        submitted,
    })
}

/// What became of a submitted job.
fn became(
    course: Option<&Course>,
    at: Instant,
    (text, mut json, refusal): (Option<String>, Value, Option<String>),
) -> (String, Value) {
    let started = course.and_then(|c| c.started);
    json["started_seconds"] = started.map(Instant::as_secs_f64).into();
    json["ended_seconds"] = course
        .and_then(|c| c.ended)
        .map(Instant::as_secs_f64)
        .into();
    json["outcome"] = course.map(|c| c.fate.name()).into();
    let mut words = text.unwrap_or_default();
    if let Some(refusal) = refusal {
        json["state"] = "refused".into();
        json["sentence"] = refusal.clone().into();
        words.push_str(&format!("It is refused: {refusal}.\n"));
    }
    match started {
        Some(start) if start > at => words.push_str(&format!(
            "It starts {} later, at {}.\n",
            words::span(start.since(at)),
            words::moment(start)
        )),
        Some(_) => words.push_str("It starts at once.\n"),
        None if course.is_some_and(|c| c.fate == Fate::Waiting) => {
            words.push_str("It has not started by the end.\n");
        }
        None => {}
    }
    (words, json)
}

impl Notes {
    fn into_future(self, since: Since, (at, until): (Instant, Instant), load: &Workload) -> Future {
        let mut waiting = Sketch::new();
        let mut started = 0;
        for (&id, course) in &self.jobs {
            if let Some(start) = course.started.filter(|start| *start >= at)
                // What started at the very moment may have done so before.
                && self.placed.get(&id) == Some(&start)
            {
                started += 1;
                waiting.record(start.since(load.jobs.jobs[id as usize].arrives).0);
            }
            // Who never starts would make the others look quick.
            if course.started.is_none() && course.fate == Fate::Waiting {
                waiting.record(until.since(load.jobs.jobs[id as usize].arrives).0);
            }
        }
        Future {
            since,
            waiting: Quantiles::of(&waiting, 1e-9),
            started,
            preempted: self.preempted,
            moved: self.moved,
            refused: self.refused,
            stopped: self.stopped,
            lost: self.lost,
            throttled: self.throttled.len() as u64,
            jobs: self.jobs,
        }
    }
}

/// The unchanged future has to be the one that was recorded.
fn same_as_recorded(
    past: &Past,
    again: &Again,
    future: &Future,
    at: Instant,
    until: Instant,
) -> Result<(), WhatIfError> {
    let seconds = |at: Instant| at.as_secs_f64();
    let within = |start: &f64| *start > seconds(at) && *start <= seconds(until);
    let recorded = past.starts()?;
    let recorded: BTreeMap<u64, f64> = recorded.into_iter().filter(|(_, s)| within(s)).collect();
    let started = |c: &Course| c.started.map(seconds).filter(within);
    let repeated = future.jobs.iter();
    let repeated = repeated.filter_map(|(&id, c)| Some((id, started(c)?)));
    let repeated: BTreeMap<u64, f64> = repeated.collect();
    let all: BTreeSet<u64> = recorded.keys().chain(repeated.keys()).copied().collect();
    for id in all {
        let (then, now) = (recorded.get(&id), repeated.get(&id));
        if then != now {
            let told = |s: Option<&f64>| {
                let job = &again.scene.load.jobs.jobs[id as usize].name;
                s.map_or_else(
                    || format!("{job} does not start"),
                    |s| format!("{job} starts at {s} s"),
                )
            };
            let when = then.or(now).copied().unwrap_or(0.0);
            return Err(AgainError::from(Differs {
                at: words::moment(Instant((when * 1e9) as u64)),
                recorded: told(then),
                repeated: told(now),
                made_by: again.inputs.version.clone(),
                this: env!("CARGO_PKG_VERSION").to_owned(),
            })
            .into());
        }
    }
    Ok(())
}

/// How many start or end at another time, and who most.
fn affected(
    unchanged: &Future,
    changed: &Future,
    load: &Workload,
    submitted: u64,
    until: Instant,
) -> (Affected, Vec<Moved>) {
    let names = Called(load);
    let mut sums = Affected::default();
    let mut all: Vec<(u64, u64)> = Vec::new();
    let ids: BTreeSet<u64> = unchanged
        .jobs
        .keys()
        .chain(changed.jobs.keys())
        .copied()
        .collect();
    // Who has not come so far by the end does so after it.
    let by = |a: Option<Instant>, b: Option<Instant>| {
        let (a, b) = (a.unwrap_or(until), b.unwrap_or(until));
        a.0.abs_diff(b.0)
    };
    for id in ids.into_iter().filter(|&id| id != submitted) {
        let (then, now) = (unchanged.jobs.get(&id), changed.jobs.get(&id));
        let started = |course: Option<&Course>| course.and_then(|c| c.started);
        let ended = |course: Option<&Course>| course.and_then(|c| c.ended);
        let fate = |course: Option<&Course>| course.map(|c| c.fate);
        let (start, end) = ([started(then), started(now)], [ended(then), ended(now)]);
        let by = if start[0] != start[1] {
            *match start {
                [Some(_), None] => &mut sums.start_no_more,
                [Some(then), Some(now)] if now > then => &mut sums.start_later,
                _ => &mut sums.start_earlier,
            } += 1;
            by(start[0], start[1])
        } else if end[0] != end[1] {
            *match end {
                [Some(then_at), Some(now_at)] if fate(then) == fate(now) => {
                    match now_at > then_at {
                        true => &mut sums.end_later,
                        false => &mut sums.end_earlier,
                    }
                }
                [None, Some(_)] if fate(now) == Some(Fate::Finished) => &mut sums.end_earlier,
                _ => &mut sums.end_otherwise,
            } += 1;
            by(end[0], end[1])
        } else if fate(then) != fate(now) {
            sums.end_otherwise += 1;
            0
        } else {
            continue;
        };
        all.push((by, id));
    }
    all.sort_unstable_by_key(|&(by, id)| (std::cmp::Reverse(by), id));
    let most = all.into_iter().map(|(_, id)| {
        let job = &load.jobs.jobs[id as usize];
        Moved {
            id,
            name: job.name.to_string(),
            tenant: load.jobs.tenants[usize::from(job.tenant)].clone(),
            wants: words::wants(&super::world::asked(id, job), &names),
            unchanged: unchanged.jobs.get(&id).copied(),
            changed: changed.jobs.get(&id).copied(),
        }
    });
    (sums, most.collect())
}

impl Affected {
    fn text(&self) -> String {
        let starts = [
            (self.start_earlier, "earlier"),
            (self.start_later, "later"),
            (self.start_no_more, "no more by the end"),
        ];
        let ends = [
            (self.end_earlier, "earlier"),
            (self.end_later, "later"),
            (self.end_otherwise, "not by the end, or as something else"),
        ];
        let told = |parts: &[(u64, &str)]| {
            let parts = parts.iter().filter(|(n, _)| *n > 0);
            let parts: Vec<String> = parts.map(|(n, how)| format!("{n} {how}")).collect();
            (!parts.is_empty()).then(|| parts.join(", "))
        };
        match (told(&starts), told(&ends)) {
            (None, None) => "Every job starts and ends when it would.".to_owned(),
            (Some(starts), None) => format!("Jobs that start at another time: {starts}."),
            (None, Some(ends)) => {
                format!("Every job starts when it would; that end at another time: {ends}.")
            }
            (Some(starts), Some(ends)) => format!(
                "Jobs that start at another time: {starts}; of the others that end at another: {ends}."
            ),
        }
    }
}

impl Difference {
    /// As a table, with what there is to say of a submitted job.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "From {} to {}: {}.\n\n{:34} {:>14} {:>14} {:>14}\n",
            why::exactly(self.at),
            why::exactly(self.until),
            self.changes.join("; "),
            "",
            "unchanged",
            "changed",
            "difference"
        );
        for row in self.rows() {
            let shown = |value: f64| {
                if value.is_finite() {
                    format!("{value:.*}", row.digits)
                } else {
                    "-".to_owned()
                }
            };
            // Of what is shown, so that nobody finds it wrong.
            let whole = |value: f64| {
                let scale = 10_f64.powi(row.digits as i32);
                (value * scale).round() / scale
            };
            let difference = match whole(row.changed) - whole(row.unchanged) {
                d if !d.is_finite() => "-".to_owned(),
                d if whole(d) == 0.0 => "=".to_owned(),
                d => format!("{d:+.*}", row.digits),
            };
            text.push_str(&format!(
                "{:34} {:>14} {:>14} {difference:>14}\n",
                row.name,
                shown(row.unchanged),
                shown(row.changed)
            ));
        }
        text.push_str(&format!("\n{}\n", self.affected.text()));
        for moved in self.most.iter().take(MOST) {
            text.push_str(&format!(
                "  {:24} {:10} {:24} {}\n",
                moved.name,
                moved.tenant,
                moved.wants,
                moved.text()
            ));
        }
        let more = self.most.len().saturating_sub(MOST);
        if more > 0 {
            text.push_str(&format!("  and {more} more, who are all in the JSON\n"));
        }
        if let Some((words, _)) = &self.submitted {
            text.push_str(&format!("\n{words}"));
        }
        text
    }

    /// As data.
    #[must_use]
    pub fn json(&self) -> Value {
        let known = |value: f64| value.is_finite().then_some(value);
        let side = |pick: fn(&Row) -> f64| {
            let rows = self.rows().into_iter();
            let rows = rows.map(|row| (row.key.to_owned(), json!(known(pick(&row)))));
            Value::Object(rows.collect())
        };
        let seconds = |at: Option<Instant>| at.map(Instant::as_secs_f64);
        let most = self.most.iter().map(|m| {
            json!({
                "id": m.id, "name": m.name, "tenant": m.tenant, "wants": m.wants,
                "unchanged_start_seconds": seconds(m.unchanged.and_then(|c| c.started)),
                "changed_start_seconds": seconds(m.changed.and_then(|c| c.started)),
                "unchanged_end_seconds": seconds(m.unchanged.and_then(|c| c.ended)),
                "changed_end_seconds": seconds(m.changed.and_then(|c| c.ended)),
                "unchanged_outcome": m.unchanged.map(|c| c.fate.name()),
                "changed_outcome": m.changed.map(|c| c.fate.name()),
            })
        });
        json!({
            "at_seconds": self.at.as_secs_f64(),
            "until_seconds": self.until.as_secs_f64(),
            "changes": self.changes,
            "unchanged": side(|row| row.unchanged),
            "changed": side(|row| row.changed),
            "start_earlier": self.affected.start_earlier,
            "start_later": self.affected.start_later,
            "start_no_more": self.affected.start_no_more,
            "end_earlier": self.affected.end_earlier,
            "end_later": self.affected.end_later,
            "end_otherwise": self.affected.end_otherwise,
            "most_affected": most.collect::<Vec<_>>(),
            "submitted": self.submitted.as_ref().map(|(_, json)| json.clone()),
        })
    }

    fn rows(&self) -> Vec<Row> {
        let row = |key, name, digits, pick: &dyn Fn(&Future) -> f64| Row {
            key,
            name,
            digits,
            unchanged: pick(&self.unchanged),
            changed: pick(&self.changed),
        };
        let hours = |seconds: f64| seconds / 3_600.0;
        vec![
            row("jobs_started", "jobs started", 0, &|f| f.started as f64),
            row(
                "waiting_p50_seconds",
                "first waits so far, p50, s",
                0,
                &|f| f.waiting.p50,
            ),
            row("waiting_p95_seconds", "  p95, s", 0, &|f| f.waiting.p95),
            row("waiting_p99_seconds", "  p99, s", 0, &|f| f.waiting.p99),
            row("waiting_max_seconds", "  at most, s", 0, &|f| f.waiting.max),
            row("jobs_waiting", "jobs waiting at the end", 0, &|f| {
                f.since.waiting as f64
            }),
            row("jobs_finished", "jobs finished", 0, &|f| {
                f.since.finished as f64
            }),
            row("jobs_refused", "jobs refused", 0, &|f| f.refused as f64),
            row("gpu_hours", "work kept, GPU-hours", 1, &|f| {
                hours(f.since.gpu_seconds)
            }),
            row("gpu_hours_lost", "work lost, GPU-hours", 1, &|f| {
                hours(f.since.gpu_seconds_lost)
            }),
            row("gpu_allocated_percent", "GPUs allocated, %", 2, &|f| {
                f.since.allocated * 100.0
            }),
            row(
                "gpu_utilised_percent",
                "GPUs at work by their clock, %",
                2,
                &|f| f.since.utilised * 100.0,
            ),
            row("stopped", "stopped with a node, or by heat", 0, &|f| {
                f.stopped as f64
            }),
            row("jobs_lost", "jobs lost", 0, &|f| f.lost as f64),
            row("preempted", "preemptions", 0, &|f| f.preempted as f64),
            row("moved", "moves", 0, &|f| f.moved as f64),
            row("nodes_throttled", "nodes slowed", 0, &|f| {
                f.throttled as f64
            }),
            row("nodes_lost", "nodes lost", 0, &|f| {
                f.since.nodes_lost as f64
            }),
            row(
                "throttled_device_seconds",
                "device-seconds below full clock",
                0,
                &|f| f.since.throttled_device_seconds,
            ),
            row("max_celsius", "hottest device, °C", 1, &|f| {
                Kelvin(f.since.max_kelvin).as_celsius()
            }),
            row(
                "max_kelvin_over_throttle",
                "  above where it slows itself, K",
                1,
                &|f| f.since.max_kelvin_over_throttle,
            ),
            row("max_load_percent", "highest load of a loop, %", 1, &|f| {
                f.since.max_load * 100.0
            }),
            row("loop_overload_seconds", "loops overloaded, s", 0, &|f| {
                f.since.loop_overload_seconds
            }),
        ]
    }
}

struct Row {
    key: &'static str,
    name: &'static str,
    digits: usize,
    unchanged: f64,
    changed: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_have_several_units() {
        for (text, time_is) in [
            ("14 h", Some(Nanos::HOUR * 14)),
            ("3d 4h", Some(Nanos::HOUR * 76)),
            ("14h30m", Some(Nanos::MINUTE * 870)),
            ("3 d 4 h 5min", Some(Nanos::HOUR * 76 + Nanos::MINUTE * 5)),
            ("90s", Some(Nanos::SECOND * 90)),
            ("1.5 h", Some(Nanos::MINUTE * 90)),
            ("", None),
            ("14", None),
            ("h", None),
            ("3 kW", None),
            ("-1 h", None),
        ] {
            assert_eq!(time(text), time_is, "{text}");
        }
    }

    #[test]
    fn a_submission_says_what_is_wrong_with_it() {
        let job: Submission = "gpus=8,tasks=2,model=H200|H100,runs=2h,limit=3h,tenant=a"
            .parse()
            .unwrap();
        assert_eq!((job.gpu_milli, job.tasks, job.models.len()), (8_000, 2, 2));
        assert_eq!(
            (job.runs, job.limit),
            (Nanos::HOUR * 2, Some(Nanos::HOUR * 3))
        );
        let share: Submission = "gpus=0.25, runs=1h, memory=4GiB, cpu=1.5".parse().unwrap();
        assert_eq!(share.gpu_milli, 250);
        assert_eq!(
            (share.memory_mib, share.cpu_milli),
            (Some(4_096), Some(1_500))
        );
        for (text, said) in [
            ("gpus=8", "how long it runs is missing"),
            ("gpus", "found \"gpus\"; expected KEY=VALUE"),
            ("gpu=8,runs=1h", "found key \"gpu\"; expected one of gpus"),
            (
                "gpus=2.5,runs=1h",
                "gpus: found \"2.5\"; expected a whole number",
            ),
            (
                "gpus=900,runs=1h",
                "gpus: found \"900\"; expected a whole number of at most 255",
            ),
            ("gpus=1,runs=fast", "runs: found \"fast\"; expected a time"),
            (
                "gpus=1,tasks=0,runs=1h",
                "tasks: found \"0\"; expected a whole number from 1",
            ),
            ("gpus=1,gpus=2,runs=1h", "gpus is said twice"),
            (
                "gpus=1,memory=2,runs=1h",
                "memory: found \"2\"; expected an amount of data",
            ),
        ] {
            let error = text.parse::<Submission>().unwrap_err();
            assert!(error.starts_with(said), "{text}: {error}");
        }
    }
}
