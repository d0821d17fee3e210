//! Why did this job wait, and why does it run there?
//!
//! Two sources answer. The history holds what was decided, with what it rested on, when
//! it was decided ([`detail`]); that is shown as it stands. For what nobody asked at the
//! time, the run is lived again up to the moment ([`crate::again`]) and the scheduler's own
//! [`explain`](scheduler::site::explain) answers there. The words are the scheduler's
//! ([`scheduler::site::words`]).

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::Path;

use scheduler::site::explain::{Explanation, Pending, Prediction};
use scheduler::site::words::{self, Names};
use scheduler::site::{Evidence, Funnel, Job, Refusal, Test};
use serde_json::{Value, json};
use telemetry::{Action, Decision, Reason};
use wire::{Instant, Nanos};

use super::slowed::{Slowed, Throttled};
use super::{Called, Record, Visit};
use crate::again::{Again, AgainError, Differs};
use crate::observer::Progress;
use crate::record::past::{Cause, PastDecision, PastJob};
use crate::record::{Past, PastError};

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Which job: its name, or its number.
    pub job: &'a str,
    /// At which moment; its whole life if none.
    pub at: Option<Instant>,
    /// Where the lists of the run are now, if they have moved.
    pub folder: Option<&'a Path>,
    /// Whether only the history is to be read.
    pub records_only: bool,
}

/// An answer, for people and for programs.
#[derive(Clone, Debug)]
pub struct Answer {
    /// In words.
    pub text: String,
    /// The same as data.
    pub json: Value,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WhyError {
    /// The run cannot be asked.
    #[error(transparent)]
    Past(#[from] PastError),
    /// It cannot be lived again.
    #[error(transparent)]
    Again(#[from] AgainError),
    /// The moment is not in it.
    #[error("the run ends at {end}; there is no moment {asked} in it", end = exactly(*end), asked = exactly(*asked))]
    TooLate {
        /// What was asked for.
        asked: Instant,
        /// Its end.
        end: Instant,
    },
    /// Somebody stopped it.
    #[error("stopped before the moment was reached")]
    Stopped,
}

/// Whoever is told how far a repetition is.
pub type Watch<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// How often the reason of a wait is worked out, each time something changed that could change it. Where
/// more changes, it is looked at as often again at equal distances, and the answer says so.
const LOOKS_MAX: usize = 4_000;

/// What the history keeps of a decision besides its numbers: a sentence, and the evidence.
#[must_use]
pub fn detail(
    decision: &Decision,
    evidence: Option<&Evidence>,
    job: &Job,
    names: &dyn Names,
) -> String {
    let text = words::decision(decision, evidence, job, names);
    let mut told = json!({ "text": text });
    if let Some(evidence) = evidence {
        told["evidence"] = evidence_as_json(evidence, names);
    }
    told.to_string()
}

/// Evidence as data.
#[must_use]
pub fn evidence_as_json(evidence: &Evidence, names: &dyn Names) -> Value {
    let candidates = evidence.candidates.iter().map(|c| {
        let node = names.node(c.node);
        let mut told = json!({ "node": node, "score": c.score(), "fit": c.fit, "heat": c.heat });
        if let Some(terms) = c.terms {
            told["unusable"] = terms.unusable.into();
            told["scarcity"] = terms.scarcity.into();
            told["spread"] = terms.spread.into();
        }
        told
    });
    let others = evidence.because_of.iter().map(|&id| names.job(id));
    json!({
        "nodes": evidence.funnel.nodes,
        "funnel": funnel_as_json(&evidence.funnel, |_| Value::Null),
        "candidates": candidates.collect::<Vec<_>>(),
        "because_of": others.collect::<Vec<_>>(),
    })
}

fn funnel_as_json(funnel: &Funnel, nodes: impl Fn(Test) -> Value) -> Value {
    let steps = words::funnel(funnel).into_iter();
    let steps = steps.map(|(test, fell, left)| {
        json!({ "test": test.name(), "fell": fell, "left": left, "nodes": nodes(test) })
    });
    steps.collect()
}

fn start_as_json(start: &Prediction, now: Instant) -> Value {
    let seconds = |at: Option<Instant>| at.map(Instant::as_secs_f64);
    json!({
        "likely_seconds": seconds(start.likely),
        "latest_seconds": seconds(start.latest),
        "eased_seconds": seconds(start.eased),
        "not_before_seconds": seconds(start.not_before),
        "text": words::start(start, now),
    })
}

/// An explanation as data.
#[must_use]
pub fn explanation_as_json(explanation: &Explanation, now: Instant, names: &dyn Names) -> Value {
    match explanation {
        Explanation::Unknown => json!({ "state": "unknown" }),
        Explanation::Pending(pending) => {
            let job = &pending.job;
            let changes = pending.changes.iter().map(|better| {
                json!({
                    "text": words::change(job, better.change, names),
                    "start": start_as_json(&better.start, now),
                })
            });
            let first = pending.ahead.first.iter().map(|&id| names.job(id));
            json!({
                "state": "pending",
                "reason": pending.reason.name(),
                "sentence": words::dominant(pending, names),
                "found": pending.found.is_finite().then_some(pending.found),
                "bound": pending.bound.is_finite().then_some(pending.bound),
                "since_seconds": pending.since.as_secs_f64(),
                "preempted": pending.preempted,
                "nodes": pending.funnel.nodes,
                "funnel": funnel_as_json(&pending.funnel, |test| {
                    let of = pending.fallen.iter().filter(|(_, of)| *of == test);
                    of.map(|(node, _)| Value::from(names.node(*node))).collect()
                }),
                "tasks_that_fit": pending.tasks_that_fit,
                "gpus_free": pending.gpu_milli_free as f64 / 1_000.0,
                "ahead": {
                    "jobs": pending.ahead.jobs,
                    "gpus": pending.ahead.gpu_milli as f64 / 1_000.0,
                    "first": first.collect::<Vec<_>>(),
                },
                "kept_for": pending.kept_for.map(|id| names.job(id)),
                "holders": pending.holders.iter().map(|&(tenant, gpu)| json!({
                    "tenant": names.tenant(tenant), "gpus": gpu as f64 / 1_000.0,
                })).collect::<Vec<_>>(),
                "loops": {
                    "neighbour_takes": pending.loops.others,
                    "faulty": pending.loops.faulty.iter().map(|&(coolant, left)| json!({
                        "loop": coolant, "left": left,
                    })).collect::<Vec<_>>(),
                },
                "start": start_as_json(&pending.start, now),
                "changes": changes.collect::<Vec<_>>(),
            })
        }
        Explanation::Running(running) => {
            let nodes = running.tasks.iter().map(|task| names.node(task.node));
            json!({
                "state": "running",
                "arrived_seconds": running.arrived.as_secs_f64(),
                "started_seconds": running.started.as_secs_f64(),
                "promised_end_seconds": running.promised_end.map(Instant::as_secs_f64),
                "preempted": running.preempted,
                "nodes": nodes.collect::<Vec<_>>(),
                "evidence": evidence_as_json(&running.evidence, names),
            })
        }
    }
}

/// An explanation in words.
#[must_use]
pub fn explanation_in_words(
    explanation: &Explanation,
    now: Instant,
    names: &dyn Names,
) -> Option<String> {
    match explanation {
        Explanation::Unknown => None,
        Explanation::Pending(pending) => Some(words::pending(pending, now, names)),
        Explanation::Running(running) => Some(words::running(running, now, names)),
    }
}

/// Asks a run about a job.
///
/// # Errors
/// If the run or the job is not there, or the moment cannot be visited.
//= requirements S7
pub fn why(past: &Past, asked: &Asked<'_>, watch: Watch<'_>) -> Result<Answer, WhyError> {
    let job = past.job(asked.job)?;
    let decisions = past.decisions(job.id)?;
    match asked.at {
        Some(at) => at_moment(past, asked, &job, &decisions, at, watch),
        None => whole_life(past, asked, &job, &decisions, watch),
    }
}

fn at(seconds: f64) -> Instant {
    Instant((seconds * 1e9).round() as u64)
}

/// A moment as it is told, and in seconds where that is not all of it: who asks again should find the same.
pub(super) fn exactly(at: Instant) -> String {
    let told = words::moment(at);
    match super::whatif::time(&told) == Some(at.since(Instant::EPOCH)) {
        true => told,
        false => format!("{told} ({} s)", at.as_secs_f64()),
    }
}

fn told(seconds: f64) -> String {
    words::moment(at(seconds))
}

fn job_as_json(past: &Past, job: &PastJob) -> Result<Value, PastError> {
    let nodes = job.nodes.iter().map(|&node| past.node(node));
    let mut nodes = nodes.collect::<Result<Vec<_>, _>>()?;
    nodes.dedup();
    Ok(json!({
        "id": job.id, "name": job.name, "tenant": job.tenant, "wants": job.wants,
        "gpus": job.gpus, "tasks": job.tasks, "arrival_seconds": job.arrival,
        "start_seconds": job.start, "end_seconds": job.end, "outcome": job.outcome,
        "nodes": nodes,
    }))
}

/// A repetition of the run of which one job's decisions are written down.
struct Lived<'a> {
    visit: Visit<'a>,
    seen: &'a RefCell<Vec<(Instant, String)>>,
}

impl Lived<'_> {
    /// Goes to a moment and compares what was decided of the job up to there.
    fn until(
        &mut self,
        again: &Again,
        recorded: &[PastDecision],
        moment: Instant,
        watch: Watch<'_>,
    ) -> Result<(), WhyError> {
        let on = &mut |p: super::Progress| {
            watch(Progress {
                now: p.now,
                end: moment,
                events: p.events,
            })
        };
        if self.visit.until(moment, on).is_break() {
            return Err(WhyError::Stopped);
        }
        let seen = self.seen.borrow();
        let recorded = recorded.iter().filter(|d| at(d.seconds) <= moment);
        let recorded: Vec<(f64, String)> = recorded
            .map(|d| {
                let text = whole(&d.action, &d.reason, u64::from(d.node), (d.found, d.bound));
                (d.seconds, text)
            })
            .collect();
        let nothing = || "nothing".to_owned();
        for i in 0..recorded.len().max(seen.len()) {
            let (now, then) = (seen.get(i), recorded.get(i));
            let same = match (now, then) {
                (Some((a, text)), Some((b, known))) => {
                    at(*b) == at(a.as_secs_f64()) && text == known
                }
                _ => false,
            };
            if !same {
                let when = then.map_or_else(|| now.map_or(0.0, |n| n.0.as_secs_f64()), |t| t.0);
                return Err(AgainError::from(Differs {
                    at: told(when),
                    recorded: then.map_or_else(nothing, |t| format!("{} at {} s", t.1, t.0)),
                    repeated: now
                        .map_or_else(nothing, |n| format!("{} at {} s", n.1, n.0.as_secs_f64())),
                    made_by: again.inputs.version.clone(),
                    this: env!("CARGO_PKG_VERSION").to_owned(),
                })
                .into());
            }
        }
        Ok(())
    }
}

/// All of a decision but its time, to be compared.
fn whole(
    action: &str,
    reason: &str,
    node: u64,
    (found, bound): (Option<f64>, Option<f64>),
) -> String {
    let number = |n: Option<f64>| n.map_or_else(|| "nothing".to_owned(), |n| n.to_string());
    let (found, bound) = (number(found), number(bound));
    format!("{action} on node {node}: {reason}, found {found} against {bound}")
}

/// Lives a run again and hands it over at its beginning.
fn live<T>(
    again: &Again,
    job: u64,
    through: impl FnOnce(&mut Lived<'_>) -> Result<T, WhyError>,
) -> Result<T, WhyError> {
    let seen = RefCell::new(Vec::new());
    let mut write = |record: Record<'_>| {
        if let Record::Decision(decision, ..) = record
            && decision.work == job
        {
            let known = |number: f64| number.is_finite().then_some(number);
            let numbers = (known(decision.found), known(decision.bound));
            let (action, reason) = (decision.action.name(), decision.reason.name());
            let text = whole(action, reason, decision.subject.0, numbers);
            seen.borrow_mut().push((decision.at, text));
        }
    };
    let mut visit = again.begin();
    visit.tell(&mut write);
    through(&mut Lived { visit, seen: &seen })
}

fn at_moment(
    past: &Past,
    asked: &Asked<'_>,
    job: &PastJob,
    decisions: &[PastDecision],
    moment: Instant,
    watch: Watch<'_>,
) -> Result<Answer, WhyError> {
    let end = at(past.seconds);
    if moment > end {
        return Err(WhyError::TooLate { asked: moment, end });
    }
    let again = Again::of(past, asked.folder)?;
    let names = Called(&again.scene.load);
    let (explanation, refusal) = live(&again, job.id, |lived| {
        lived.until(&again, decisions, moment, watch)?;
        let refusal = lived.visit.refusal(job.id);
        Ok((lived.visit.explain(job.id, moment), refusal))
    })?;
    let mut json = json!({
        "run": past.directory().display().to_string(),
        "job": job_as_json(past, job)?,
        "at_seconds": moment.as_secs_f64(),
        "explanation": explanation_as_json(&explanation, moment, &names),
    });
    let text = match explanation_in_words(&explanation, moment, &names) {
        Some(text) => text,
        None => {
            let text = gone(job, moment, refusal.as_ref(), &again, &names);
            if job.outcome == "refused" && at(job.arrival) <= moment {
                json["explanation"]["state"] = "refused".into();
            }
            json["explanation"]["sentence"] = text.clone().into();
            format!("{text}.\n")
        }
    };
    Ok(Answer {
        text: format!(
            "At {} of {}:\n{text}",
            exactly(moment),
            past.directory().display()
        ),
        json,
    })
}

/// What there is to say of a job that neither waits nor runs.
fn gone(
    job: &PastJob,
    moment: Instant,
    refusal: Option<&Refusal>,
    again: &Again,
    names: &dyn Names,
) -> String {
    let name = &job.name;
    if at(job.arrival) > moment {
        let comes = exactly(at(job.arrival));
        return format!("{name} has not come yet: it comes at {comes}");
    }
    match (job.outcome.as_str(), refusal) {
        ("refused", Some(refusal)) => {
            let why = words::refusal(refusal, &request(again, job), names);
            format!(
                "{name} was refused when it came at {}: {why}",
                told(job.arrival)
            )
        }
        (outcome, _) => {
            let when = job
                .end
                .map_or(String::new(), |end| format!(" at {}", told(end)));
            format!("{name} is gone: {}{when}", outcome.replace('_', " "))
        }
    }
}

/// A job of the lists as the scheduler knows it.
fn request(again: &Again, job: &PastJob) -> Job {
    super::world::asked(job.id, &again.scene.load.jobs.jobs[job.id as usize])
}

/// A time in which a job waited.
#[derive(Clone, Copy, Debug)]
struct Wait {
    from: Instant,
    to: Instant,
    /// Whether it still waits then.
    is_open: bool,
}

/// When a job waited, from what was decided of it.
fn waits(decisions: &[PastDecision], end: Instant) -> Vec<Wait> {
    let mut waits = Vec::new();
    let mut since = None;
    for decision in decisions {
        match decision.action.as_str() {
            "queue" | "preempt" => since = since.or(Some(at(decision.seconds))),
            _ => {
                if let Some(from) = since.take() {
                    waits.push(Wait {
                        from,
                        to: at(decision.seconds),
                        is_open: false,
                    });
                }
            }
        }
    }
    if let Some(from) = since {
        waits.push(Wait {
            from,
            to: end,
            is_open: true,
        });
    }
    waits
}

/// A part of a wait with one reason.
struct Stretch {
    /// When the wait began that it is a part of.
    wait: Instant,
    from: Instant,
    to: Instant,
    reason: &'static str,
    text: String,
}

/// What is found by living the run again.
#[derive(Default)]
struct Found {
    stretches: Vec<Stretch>,
    /// Full explanations, with their moments.
    explained: Vec<(Instant, Explanation)>,
    refusal: Option<Refusal>,
    looks: usize,
}

fn look(
    again: &Again,
    job: &PastJob,
    decisions: &[PastDecision],
    waits: &[Wait],
    watch: Watch<'_>,
) -> Result<Found, WhyError> {
    let names = Called(&again.scene.load);
    live(again, job.id, |lived| {
        let mut found = Found::default();
        if job.outcome == "refused" {
            lived.until(again, decisions, at(job.arrival), watch)?;
            found.refusal = lived.visit.refusal(job.id);
        }
        for (n, wait) in waits.iter().enumerate() {
            let length = wait.to.since(wait.from);
            let (mut moment, mut stamp) = (wait.from, None);
            let mut due = wait.from;
            loop {
                lived.until(again, decisions, moment, watch)?;
                if n == 0 && moment == wait.from {
                    let explained = lived.visit.explain(job.id, moment);
                    found.explained.push((moment, explained));
                }
                let now = lived.visit.stamp(job.id, moment);
                if now != stamp && moment >= due {
                    if let Some(pending) = lived.visit.holds(job.id, moment) {
                        stretch(&mut found.stretches, moment, wait, &pending, &names);
                        found.looks += 1;
                        if found.looks > LOOKS_MAX {
                            due = moment + Nanos(length.0 / LOOKS_MAX as u64);
                        }
                    }
                    stamp = now;
                }
                moment = lived.visit.next();
                if moment >= wait.to {
                    break;
                }
            }
            if wait.is_open {
                lived.until(again, decisions, wait.to, watch)?;
                let explained = lived.visit.explain(job.id, wait.to);
                found.explained.push((wait.to, explained));
            }
        }
        Ok(found)
    })
}

fn stretch(
    all: &mut Vec<Stretch>,
    now: Instant,
    wait: &Wait,
    pending: &Pending,
    names: &dyn Names,
) {
    if let Some(last) = all.last_mut().filter(|last| last.from >= wait.from) {
        if last.reason == pending.reason.name() {
            return;
        }
        last.to = now;
    }
    all.push(Stretch {
        wait: wait.from,
        from: now,
        to: wait.to,
        reason: pending.reason.name(),
        text: words::dominant(pending, names),
    });
}

fn whole_life(
    past: &Past,
    asked: &Asked<'_>,
    job: &PastJob,
    decisions: &[PastDecision],
    watch: Watch<'_>,
) -> Result<Answer, WhyError> {
    let end = at(past.seconds);
    let waits = waits(decisions, end);
    let mut note = None;
    let mut found = Found::default();
    let mut again = None;
    let worth_it = !waits.is_empty() || job.outcome == "refused";
    if worth_it && !asked.records_only {
        // What the history holds is told even where the run cannot be lived again.
        match Again::of(past, asked.folder) {
            Ok(made) => again = Some(made),
            Err(error) => note = Some(format!("only what the history holds: {error}")),
        }
        if let Some(again) = &again {
            match look(again, job, decisions, &waits, watch) {
                Ok(seen) => {
                    found = seen;
                    if found.looks > LOOKS_MAX {
                        note = Some(format!(
                            "after {LOOKS_MAX} changes, reasons of a wait are told to a {LOOKS_MAX}th of its length"
                        ));
                    }
                }
                Err(WhyError::Again(AgainError::Differs(error))) => {
                    note = Some(format!("only what the history holds: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
    }
    let life = life(past, job, decisions, &found)?;
    let mut text = format!(
        "{} (#{}) of tenant {} asks for {}. {}.\n",
        job.name,
        job.id,
        job.tenant,
        job.wants,
        in_short(job, end, &found)
    );
    for (seconds, sentence, more) in &life.lines {
        text.push_str(&format!("  {:>14}  {sentence}\n", told(*seconds)));
        for line in more {
            text.push_str(&format!("  {:14}    {line}\n", ""));
        }
    }
    let mut explanations = Vec::new();
    if let Some(again) = &again {
        let names = Called(&again.scene.load);
        for (moment, explanation) in &found.explained {
            if let Some(words) = explanation_in_words(explanation, *moment, &names) {
                text.push_str(&format!("At {}:\n{words}", words::moment(*moment)));
            }
            let mut json = explanation_as_json(explanation, *moment, &names);
            json["at_seconds"] = moment.as_secs_f64().into();
            explanations.push(json);
        }
        if let Some(refusal) = &found.refusal {
            let why = words::refusal(refusal, &request(again, job), &names);
            text.push_str(&format!("Why: {why}.\n"));
            explanations.push(json!({
                "state": "refused", "reason": refusal.reason.name(), "sentence": why,
                "found": refusal.found, "bound": refusal.bound,
                "nearest": refusal.nearest.map(|c| words::change(&request(again, job), c, &names)),
                "at_seconds": job.arrival,
            }));
        }
    }
    if let Some(note) = &note {
        text.push_str(&format!("({note})\n"));
    }
    let waits = found.stretches.iter().map(|s| {
        json!({
            "from_seconds": s.from.as_secs_f64(), "to_seconds": s.to.as_secs_f64(),
            "reason": s.reason, "text": s.text,
        })
    });
    let json = json!({
        "run": past.directory().display().to_string(),
        "job": job_as_json(past, job)?,
        "at_seconds": null,
        "life": life.json,
        "waits": waits.collect::<Vec<_>>(),
        "explanations": explanations,
        "note": note,
    });
    Ok(Answer { text, json })
}

fn in_short(job: &PastJob, end: Instant, found: &Found) -> String {
    let waited = |to: f64| words::span(at(to).since(at(job.arrival)));
    let ran = match (job.start, job.end) {
        (Some(from), Some(to)) => {
            format!(
                "; it ended {} after that",
                words::span(at(to).since(at(from)))
            )
        }
        (Some(from), None) if job.outcome == "running" => format!(
            "; at the end of the run it still ran, {} after that",
            words::span(end.since(at(from)))
        ),
        (Some(_), None) => "; at the end of the run it waited again".to_owned(),
        _ => String::new(),
    };
    let most = found.stretches.iter().max_by_key(|s| s.to.since(s.from));
    let because = most.map_or(String::new(), |s| {
        format!(", mostly for one reason: {}", s.reason)
    });
    match (job.outcome.as_str(), job.start) {
        ("refused", _) => "It was refused".to_owned(),
        ("waiting", None) => format!(
            "At the end of the run it had waited {}{because}",
            words::span(end.since(at(job.arrival)))
        ),
        (_, Some(start)) if start > job.arrival => {
            format!(
                "It waited {} for its first start{because}{ran}",
                waited(start)
            )
        }
        (_, Some(_)) => format!("It started at once{ran}"),
        (outcome, None) => outcome.replace('_', " "),
    }
}

struct Life {
    /// When, what, and more about it.
    lines: Vec<(f64, String, Vec<String>)>,
    json: Value,
}

/// How a job was slowed where it last ran, between two times, and what caused the first of it.
fn slowed(
    past: &Past,
    job: &PastJob,
    from: f64,
    to: f64,
) -> Result<Option<(Slowed, Option<u64>)>, PastError> {
    let mut nodes = job.nodes.clone();
    nodes.sort_unstable();
    nodes.dedup();
    let (mut throttled, mut slowed, mut cause) = (Throttled::default(), None, None);
    let decided = past.slowed(&nodes, 0.0, to)?;
    let split = decided.partition_point(|d| d.seconds < from);
    let apply = |throttled: &mut Throttled, d: &PastDecision| {
        let action = Action::ALL.iter().find(|a| a.name() == d.action)?;
        let reason = Reason::ALL.iter().find(|r| r.name() == d.reason)?;
        let changed = throttled.decided(d.node, *action, *reason)?;
        Some(changed.then_some(*reason))
    };
    for before in &decided[..split] {
        if let Some(reason) = apply(&mut throttled, before) {
            cause = reason.and(before.cause);
        }
    }
    for &node in &nodes {
        if let Some(reason) = throttled.why(node) {
            Slowed::note(&mut slowed, at(from), node, Some(reason));
        }
    }
    for during in &decided[split..] {
        if let Some(reason) = apply(&mut throttled, during) {
            if slowed.is_none() {
                cause = during.cause;
            }
            Slowed::note(&mut slowed, at(during.seconds), during.node, reason);
        }
    }
    Ok(slowed.map(|mut slowed| {
        slowed.passes(at(to));
        (slowed, cause)
    }))
}

/// The reasons of waits, each once at its beginning, however often others came between.
fn reasons(stretches: &[Stretch]) -> Vec<(Instant, String)> {
    let mut told: Vec<(&Stretch, u32, Instant, Nanos)> = Vec::new();
    for stretch in stretches {
        let lasts = stretch.to.since(stretch.from);
        // Another wait begins with a decision of its own.
        let same = |it: &&mut (&Stretch, u32, Instant, Nanos)| {
            it.0.wait == stretch.wait && it.0.reason == stretch.reason
        };
        match told.iter_mut().find(same) {
            Some((_, times, until, in_all)) => {
                *times += 1;
                *until = stretch.to;
                *in_all += lasts;
            }
            None => told.push((stretch, 1, stretch.to, lasts)),
        }
    }
    let told = told.into_iter().map(|(first, times, until, in_all)| {
        let (in_all, text) = (words::span(in_all), &first.text);
        let sentence = match times {
            1 => format!("for {in_all}: {text}"),
            n => format!(
                "{n} times until {}, in all for {in_all}: {text}",
                words::moment(until)
            ),
        };
        (first.from, sentence)
    });
    told.collect()
}

/// What caused something, what caused that, and so on, the nearest first.
fn causes(past: &Past, cause: Option<u64>) -> Result<Vec<Cause>, PastError> {
    let mut causes: Vec<Cause> = Vec::new();
    let mut next = cause;
    while let Some(id) = next
        && let Some(cause) = past.cause(id)?
    {
        // A cause is told before what it causes.
        next = cause.cause.filter(|&before| before < id);
        causes.push(cause);
    }
    Ok(causes)
}

fn because(cause: &Cause) -> String {
    format!(
        "because of #{} at {}: {}",
        cause.id,
        told(cause.seconds),
        cause.text
    )
}

fn as_json(causes: &[Cause]) -> Value {
    let each = causes.iter();
    let each =
        each.map(|c| json!({ "id": c.id, "seconds": c.seconds, "kind": c.kind, "text": c.text }));
    each.collect()
}

fn life(
    past: &Past,
    job: &PastJob,
    decisions: &[PastDecision],
    found: &Found,
) -> Result<Life, PastError> {
    let mut lines = vec![(job.arrival, "comes".to_owned(), Vec::new())];
    let mut all = Vec::new();
    for decision in decisions {
        let kept: Value = decision
            .detail
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let known = format!("{}: {}", decision.action, decision.reason);
        let sentence = kept["text"].as_str().map_or(known, str::to_owned);
        let mut more = more_about(&kept["evidence"]);
        let causes = causes(past, decision.cause)?;
        more.extend(causes.iter().map(because));
        all.push(json!({
            "seconds": decision.seconds, "action": decision.action, "reason": decision.reason,
            "node": past.node(decision.node)?, "found": decision.found, "bound": decision.bound,
            "text": sentence, "evidence": kept["evidence"], "causes": as_json(&causes),
        }));
        lines.push((decision.seconds, sentence, more));
    }
    for (from, text) in reasons(&found.stretches) {
        lines.push((from.as_secs_f64(), text, Vec::new()));
    }
    if let Some(start) = job.start {
        let last = decisions
            .iter()
            .rev()
            .find(|d| matches!(d.action.as_str(), "place" | "migrate"));
        let from = last.map_or(start, |d| d.seconds);
        let to = job.end.unwrap_or(past.seconds);
        if let Some((slowed, cause)) = slowed(past, job, from, to)? {
            let (seconds, text) = (slowed.from.as_secs_f64(), slowed.text());
            let causes = causes(past, cause)?;
            all.push(json!({
                "seconds": seconds, "until_seconds": slowed.until().as_secs_f64(),
                "times": slowed.times(), "in_all_seconds": slowed.in_all().as_secs_f64(),
                "action": Action::Throttle.name(), "reason": slowed.reason.name(),
                "node": past.node(slowed.node)?, "text": text,
                "evidence": null, "causes": as_json(&causes),
            }));
            let more = causes.iter().map(because).collect();
            lines.push((seconds, text, more));
        }
    }
    if let Some(ended) = job.end.filter(|_| job.outcome == "finished") {
        lines.push((ended, "ends".to_owned(), Vec::new()));
    }
    lines.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.sort_by(|a, b| {
        let seconds = |v: &Value| v["seconds"].as_f64().unwrap_or(0.0);
        seconds(a).total_cmp(&seconds(b))
    });
    Ok(Life {
        lines,
        json: all.into(),
    })
}

/// Recorded evidence in words.
fn more_about(evidence: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let each = |key: &str| evidence[key].as_array().cloned().unwrap_or_default();
    let steps = each("funnel");
    if let (Some(nodes), false) = (
        evidence["nodes"].as_u64().filter(|n| *n > 0),
        steps.is_empty(),
    ) {
        let fell = steps.iter().map(|step| {
            let test = step["test"].as_str().unwrap_or_default();
            let is_state = ["lost", "switched", "reserved"]
                .iter()
                .any(|s| test.starts_with(s));
            let with = if is_state { "" } else { "with " };
            format!("{} {with}{test}", step["fell"])
        });
        let fell = fell.collect::<Vec<_>>().join(", ");
        let left = steps.last().map_or(0, |s| s["left"].as_u64().unwrap_or(0));
        lines.push(format!("{left} of {nodes} nodes left; out are {fell}"));
    }
    for candidate in each("candidates") {
        let number = |key: &str| candidate[key].as_f64().unwrap_or(f64::NAN);
        let terms = match candidate.get("unusable") {
            Some(_) => &["unusable", "scarcity", "spread", "heat"][..],
            None => &["fit", "heat"],
        };
        let sum = terms
            .iter()
            .map(|term| format!("{term} {:.4}", number(term)));
        lines.push(format!(
            "{:.4} {}: {}",
            number("score"),
            candidate["node"].as_str().unwrap_or_default(),
            sum.collect::<Vec<_>>().join(" + "),
        ));
    }
    lines
}
