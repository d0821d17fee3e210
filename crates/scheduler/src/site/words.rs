//! How is a decision told to somebody who did not make it?
//!
//! Plain sentences from what [`super::explain`] and [`super::Evidence`] hold, so that a
//! command and a page say the same thing; what a fleet says too is in [`crate::words`]. Numbers have
//! their units, and names come from whoever has them ([`Names`]); nothing here looks
//! anything up or decides anything.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use telemetry::{Action, Decision, Reason};
use wire::{Instant, Nanos};

use crate::ledger::{Models, WHOLE};
use crate::policy::Terms;
use crate::words::{Seeker, Unit, count, first_of, funnel_of, memory, thousandths};
pub use crate::words::{funnel, gpus, moment, span};

use super::evidence::{Candidate, Evidence};
use super::explain::{Change, ENDS_MAX, LoopsNow, Pending, Prediction, Running, is_heat};
use super::job::{Job, Resources, Spread};
use super::refuse::{Lack, Refusal};

/// Whoever knows what things are called.
pub trait Names {
    /// A node.
    fn node(&self, node: u32) -> String;
    /// A tenant.
    fn tenant(&self, tenant: u16) -> String;
    /// A GPU model; none if there is no such.
    fn model(&self, model: u8) -> Option<String>;
    /// The models that some node has.
    fn models_here(&self) -> Vec<String>;
    /// A job.
    fn job(&self, job: u64) -> String;
}

/// A share in percent, no finer than it needs to be told apart.
fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Two shares in percent, no finer than it needs to be seen which is more.
fn percents(found: f64, bound: f64) -> (String, String) {
    let told = |digits: usize| {
        let told = |share: f64| format!("{:.digits$} %", share * 100.0);
        (told(found), told(bound))
    };
    let is_told = |(a, b): &(String, String)| a != b || found == bound;
    let all = (1..6).map(told);
    all.into_iter().find(is_told).unwrap_or_else(|| told(6))
}

/// The models a job may run on: `H100 or H200`; none if any will do.
fn models(models: Models, names: &dyn Names) -> Option<String> {
    if models == Models::ANY {
        return None;
    }
    let all = (0..32).filter(|&model| models.contains(model));
    let all: Vec<String> = all.filter_map(|model| names.model(model)).collect();
    Some(match all.is_empty() {
        true => "of a model this site has not".to_string(),
        false => all.join(" or "),
    })
}

/// What a job asks for: `2 × 8 H100 within one row`.
#[must_use]
pub fn wants(job: &Job, names: &dyn Names) -> String {
    let demand = &job.demand;
    let each = if demand.gpus == 0 {
        let cpus = thousandths(demand.cpu_milli.into());
        format!("{cpus} CPUs, {}", memory(demand.memory_mib.into()))
    } else {
        let share = demand.share() < WHOLE;
        let number = if share {
            gpus(demand.share().into())
        } else {
            demand.gpus.to_string()
        };
        match models(demand.models, names) {
            Some(models) => format!("{number} {models}"),
            None if demand.gpus == 1 && share => format!("{number} of a GPU"),
            None if demand.gpus == 1 => "1 GPU".to_string(),
            None => format!("{number} GPUs"),
        }
    };
    if job.tasks == 1 {
        return each;
    }
    let within = match job.spread {
        Spread::Site => String::new(),
        size => format!(" within one {}", size.name()),
    };
    format!("{} × {each} at once{within}", job.tasks)
}

/// What a tenant holds and may, where that keeps a job from starting.
fn quota(pending: &Pending, names: &dyn Names) -> String {
    let tenant = names.tenant(pending.job.tenant);
    let more = pending.job.total();
    let amounts = |r: &Resources| r.each();
    let all = amounts(&pending.used).into_iter().zip(amounts(&more));
    let all = all.zip(amounts(&pending.terms.ceiling)).zip(Unit::ALL);
    for (((used, more), ceiling), unit) in all {
        if more > 0 && used.saturating_add(more) > ceiling {
            return format!(
                "tenant {tenant} may hold {} at most, holds {} now, and this job asks for {}",
                unit.tell(ceiling),
                unit.tell(used),
                unit.tell(more)
            );
        }
    }
    let unit = Unit::ALL
        .into_iter()
        .zip(more.each())
        .find(|(_, more)| *more > 0);
    let unit = unit.map_or(Unit::Gpu, |(unit, _)| unit);
    format!(
        "tenant {tenant} asks for work that cannot be taken back: with it, {} would be lent for good, \
         and only {} belong to nobody",
        unit.tell(pending.found as u64),
        unit.tell(pending.bound as u64)
    )
}

/// The first thing a job takes, which is what limits are found in.
const fn unit_of(job: &Job) -> Unit {
    match job.demand {
        demand if demand.gpu_total() > 0 => Unit::Gpu,
        demand if demand.cpu_milli > 0 => Unit::Cpu,
        _ => Unit::Memory,
    }
}

/// What the nearest node lacks, by what is held against it.
fn unit_of_shortage(job: &Job, bound: f64) -> Unit {
    let demand = &job.demand;
    if demand.gpus > 0 && bound == f64::from(demand.gpu_total()) {
        Unit::Gpu
    } else if bound == f64::from(demand.cpu_milli) {
        Unit::Cpu
    } else {
        Unit::Memory
    }
}

/// Why a job waits or is turned away, from a decision's reason and its two numbers.
#[must_use]
pub fn because(job: &Job, reason: Reason, (found, bound): (f64, f64), names: &dyn Names) -> String {
    let nearest = || {
        let unit = unit_of_shortage(job, bound);
        let (found, bound) = (unit.tell(found as u64), unit.tell(bound as u64));
        format!("the node that comes nearest has {found} free where {bound} are asked for")
    };
    let each = Job { tasks: 1, ..*job };
    match reason {
        Reason::Fragmented => format!(
            "enough GPUs are free in all, but scattered: no node has room for {}; {}",
            wants(&each, names),
            nearest()
        ),
        Reason::NoCapacity if job.tasks > 1 && found >= bound => format!(
            "too few nodes have room: all {} tasks have to start together",
            job.tasks
        ),
        Reason::NoCapacity => format!("no node has enough free: {}", nearest()),
        Reason::Topology => format!(
            "enough nodes have room, but no single {} holds all {} tasks",
            job.spread.name(),
            job.tasks
        ),
        Reason::Model => {
            let models = models(job.demand.models, names);
            let models = models.unwrap_or_else(|| "the models it names".to_string());
            format!("it insists on {models}, of which none has room; other models have")
        }
        Reason::Quota => {
            let unit = unit_of(job);
            format!(
                "tenant {} would hold {} with it, and {} is the most it may",
                names.tenant(job.tenant),
                unit.tell(found as u64),
                unit.tell(bound as u64)
            )
        }
        Reason::FairShare => format!(
            "another tenant is served first: {} holds {} of the site for its weight, the other {}",
            names.tenant(job.tenant),
            percent(found),
            percent(bound)
        ),
        Reason::Priority => {
            format!("work of priority {bound} waits too and goes before its {found}")
        }
        Reason::NotItsTurn => {
            "work that came earlier waits too, and has been overtaken often or long enough"
                .to_string()
        }
        Reason::Reserved => {
            let until = span(Nanos::from_secs_f64(bound));
            if found.is_finite() {
                let runs = span(Nanos::from_secs_f64(found));
                format!(
                    "the room it would take is kept for work that starts in {until}, and it may run {runs}"
                )
            } else {
                format!(
                    "the room it would take is kept for work that starts in {until}, and it does not say how long it runs"
                )
            }
        }
        Reason::NoHeadroomOutward | Reason::NoHeadroomHere => {
            let (found, bound) = percents(found, bound);
            format!(
                "heat: the coolest cooling loop whose nodes have room, be they on or off, would carry {found} of its capacity, and {bound} are allowed"
            )
        }
        Reason::Backpressure => {
            "heat: the cooling loops whose nodes have room, be they on or off, have to cool down first"
                .to_string()
        }
        Reason::Impossible => impossible(job, found, bound, names),
        Reason::Malformed => {
            "the request contradicts itself or names what there is not".to_string()
        }
        Reason::BestScore => "nothing: it starts with the next thing that happens".to_string(),
        Reason::HostLost => "its node was lost".to_string(),
        other => other.name().to_string(),
    }
}

fn impossible(job: &Job, found: f64, bound: f64, names: &dyn Names) -> String {
    let demand = &job.demand;
    if (found, bound) == (0.0, 1.0) {
        let models = models(demand.models, names);
        let models = models.unwrap_or_else(|| "GPUs".to_string());
        let here = names.models_here();
        return match here.split_last() {
            None => format!("no node here has {models}, nor any other GPU"),
            Some((only, [])) => format!("no node here has {models}, only {only}"),
            Some((last, others)) => format!(
                "no node here has {models}, only {} or {last}",
                others.join(", ")
            ),
        };
    }
    if bound == f64::from(job.tasks) && job.tasks > 1 {
        return format!(
            "all {bound} tasks have to stand together, and even an empty site has room for only {found}"
        );
    }
    let unit = unit_of_shortage(job, bound);
    let (found, bound) = (unit.tell(found as u64), unit.tell(bound as u64));
    let largest = match models(demand.models, names) {
        Some(models) if demand.gpus > 0 => format!("no node with {models} has more than {found}"),
        _ => format!("no node has more than {found}"),
    };
    format!("it asks for {bound} on one node, and {largest}")
}

/// The one reason why a job waits, in a sentence.
#[must_use]
pub fn dominant(pending: &Pending, names: &dyn Names) -> String {
    let job = &pending.job;
    match pending.reason {
        Reason::Quota => quota(pending, names),
        Reason::Fragmented => {
            let free = gpus(pending.gpu_milli_free);
            let of = models(job.demand.models, names).unwrap_or_else(|| "GPUs".to_string());
            let each = Job { tasks: 1, ..*job };
            let most = Unit::Gpu.tell(pending.found as u64);
            match job.tasks {
                1 if pending.found < 1.0 => format!(
                    "{free} {of} are free, but scattered: no node has room for {}, none has a whole one free",
                    wants(&each, names)
                ),
                1 => format!(
                    "{free} {of} are free, but scattered: no node has room for {}, the best has {most}",
                    wants(&each, names)
                ),
                tasks => format!(
                    "{free} {of} are free, but scattered: only {} of its {tasks} tasks of {} find room",
                    pending.tasks_that_fit,
                    wants(&each, names)
                ),
            }
        }
        Reason::NoCapacity
            if job.demand.gpus > 0 && pending.gpu_milli_free < job.total().gpu_milli =>
        {
            let of = models(job.demand.models, names).unwrap_or_else(|| "GPUs".to_string());
            let (asked, free) = (gpus(job.total().gpu_milli), gpus(pending.gpu_milli_free));
            format!("it asks for {asked} {of}, and {free} are free")
        }
        Reason::Reserved => {
            let text = because(job, Reason::Reserved, (pending.found, pending.bound), names);
            match pending.kept_for {
                Some(head) => text.replacen("for work", &format!("for {}", names.job(head)), 1),
                None => text,
            }
        }
        reason if pending.is_room_off => {
            let off = "heat: it would find room on nodes that are switched off because their cooling loop was too warm";
            let (found, bound) = percents(pending.found, pending.bound);
            match reason {
                Reason::Backpressure => format!("{off}, and is not cool for long enough yet"),
                _ => format!(
                    "{off}: with them and it the coolest of those loops would carry {found} of its capacity, and {bound} are allowed"
                ),
            }
        }
        reason => because(job, reason, (pending.found, pending.bound), names),
    }
}

/// What keeps loops from carrying what they were built for; none if nothing does.
#[must_use]
pub fn loops(loops: &LoopsNow) -> Option<String> {
    let mut told = Vec::new();
    // What is less a meter cannot tell.
    if loops.others >= 0.001 {
        told.push(format!(
            "the neighbour takes {} of what they can carry",
            percent(loops.others)
        ));
    }
    for (coolant, left) in &loops.faulty {
        told.push(format!("loop {coolant} has {} left", percent(*left)));
    }
    (!told.is_empty()).then(|| told.join("; "))
}

/// Who holds GPUs: `a 512, b 30.5, 2 other tenants 12`.
fn holders(holders: &[(u16, u64)], names: &dyn Names) -> String {
    let (first, rest) = holders.split_at(holders.len().min(4));
    let mut told: Vec<String> = (first.iter())
        .map(|&(tenant, gpu)| format!("{} {}", names.tenant(tenant), gpus(gpu)))
        .collect();
    if !rest.is_empty() {
        let sum = rest.iter().map(|(_, gpu)| gpu).sum();
        told.push(format!(
            "{} {}",
            count(rest.len() as u64, "other tenant"),
            gpus(sum)
        ));
    }
    told.join(", ")
}

/// What to change: `with 6 instead of 8 GPUs`, `without the restriction to H200`.
#[must_use]
pub fn change(job: &Job, change: Change, names: &dyn Names) -> String {
    let demand = &job.demand;
    let whole = |gpus: u8| u64::from(gpus) * u64::from(WHOLE);
    let each = |text: String| match job.tasks {
        1 => text,
        _ => format!("{text} per task"),
    };
    match change {
        Change::Gpus(n) => each(Unit::Gpu.instead(whole(n), whole(demand.gpus))),
        Change::Share(n) => format!(
            "with {} of a GPU instead of {}",
            gpus(n.into()),
            gpus(demand.gpu_milli.into())
        ),
        Change::Tasks(n) => format!("with {n} instead of {} tasks", job.tasks),
        Change::AnyModel => {
            let models = models(demand.models, names);
            format!(
                "without the restriction to {}",
                models.unwrap_or_else(|| "its models".to_string())
            )
        }
        Change::Cpu(n) => each(Unit::Cpu.instead(n.into(), demand.cpu_milli.into())),
        Change::Memory(n) => each(Unit::Memory.instead(n.into(), demand.memory_mib.into())),
        Change::Spread(Spread::Site) => "with its tasks anywhere".to_string(),
        Change::Spread(size) => {
            format!(
                "with its tasks within one {} instead of one {}",
                size.name(),
                job.spread.name()
            )
        }
        Change::Limit(limit) => format!("with a promise to end within {}", span(limit)),
        Change::Quota(more) => format!(
            "with a quota of {} more for tenant {}",
            count(more / u64::from(WHOLE), "GPU"),
            names.tenant(job.tenant)
        ),
        Change::Ceiling(more) => format!(
            "with {} more that tenant {} may hold",
            count(more / u64::from(WHOLE), "GPU"),
            names.tenant(job.tenant)
        ),
        Change::Sound(coolant) => {
            format!("once cooling loop {coolant} carries again what it does when sound")
        }
        Change::Alone => "once the neighbour takes nothing from the cooling loops".to_string(),
        Change::Blind => "without the heat bound".to_string(),
    }
}

/// When something starts, seen from now: `now`, `in 4 min (at 14 h 4 min)`.
fn when(at: Instant, now: Instant) -> String {
    if at <= now {
        "now".to_string()
    } else {
        format!("in {} (at {})", span(at.since(now)), moment(at))
    }
}

/// When a job starts, and how sure that is.
#[must_use]
pub fn start(prediction: &Prediction, now: Instant) -> String {
    let sooner = |eased: &Instant| prediction.likely.is_none_or(|likely| *eased < likely);
    let Some(eased) = prediction.eased.filter(sooner) else {
        return as_things_are(prediction, now);
    };
    let told = match (prediction.likely, prediction.latest) {
        (Some(likely), latest) => {
            let latest = latest.filter(|latest| *latest > likely);
            let latest = latest.map_or(String::new(), |latest| {
                let latest = when(latest, now);
                format!("; {latest} if they stay so and all who run need what they promised")
            });
            let likely = when(likely, now);
            format!(
                "probably {likely}, if cooling loops that are weak now stay so for as long again{latest}"
            )
        }
        (None, _) => as_things_are(prediction, now),
    };
    format!(
        "{told}; {} if every cooling loop carried at once what it was built for",
        when(eased, now)
    )
}

fn as_things_are(prediction: &Prediction, now: Instant) -> String {
    match (prediction.likely, prediction.latest) {
        (Some(at), _) | (_, Some(at)) if at <= now => "now".to_string(),
        (None, None) => match prediction.not_before {
            Some(at) => format!(
                "not {}: {ENDS_MAX} jobs probably end before, and nobody looked further",
                when(at, now).replacen("in ", "within ", 1)
            ),
            None => "cannot be said: no end that was promised leads to a start as things are"
                .to_string(),
        },
        (Some(likely), Some(latest)) if span(likely.since(now)) == span(latest.since(now)) => {
            when(latest, now)
        }
        (Some(likely), Some(latest)) => {
            let (first, last) = (likely.min(latest), likely.max(latest));
            format!(
                "probably {}; {} if all who run need what they promised",
                when(first, now),
                when(last, now)
            )
        }
        (Some(at), None) => format!("probably {}; there is no latest", when(at, now)),
        (None, Some(at)) => format!("{} at the latest", when(at, now)),
    }
}

/// Why a job waits, whole: the reason, then what it rests on.
#[must_use]
pub fn pending(pending: &Pending, now: Instant, names: &dyn Names) -> String {
    let job = &pending.job;
    let mut text = format!(
        "{} waits: {}.\n",
        names.job(job.id),
        dominant(pending, names)
    );
    let again = match pending.preempted {
        0 => String::new(),
        1 => ", and was preempted once".to_string(),
        n => format!(", and was preempted {n} times"),
    };
    text.push_str(&format!(
        "  asks     {} for tenant {}; came at {}, {} ago{again}\n",
        wants(job, names),
        names.tenant(job.tenant),
        moment(pending.since),
        span(now.since(pending.since))
    ));
    text.push_str(&funnel_of(
        "nodes",
        &pending.funnel,
        Seeker::Waits(one(job)),
        |test| {
            let fell = pending.fallen.iter().filter(|(_, of)| *of == test);
            Some(first_of(fell.map(|(node, _)| names.node(*node))))
        },
    ));
    if let Some(told) = loops(&pending.loops) {
        text.push_str(&format!("  loops    {told}\n"));
    }
    if !pending.holders.is_empty() {
        text.push_str(&format!(
            "  GPUs     held by {}\n",
            holders(&pending.holders, names)
        ));
    }
    let ahead = &pending.ahead;
    if ahead.jobs == 0 {
        text.push_str("  before   nobody\n");
    } else {
        let first: Vec<String> = ahead.first.iter().map(|&id| names.job(id)).collect();
        let more = match ahead.jobs - first.len() as u64 {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        text.push_str(&format!(
            "  before   {} asking for {} GPUs: {}{more}\n",
            count(ahead.jobs, "job"),
            gpus(ahead.gpu_milli),
            first.join(", ")
        ));
    }
    let told = start(&pending.start, now);
    let Prediction { likely, latest, .. } = pending.start;
    let starts = match is_heat(pending.reason) && pending.start.eased.is_none() {
        _ if likely.or(latest).is_none() => told,
        true => format!("if nobody else comes and loops carry what they do now: {told}"),
        false => format!("if nobody else comes: {told}"),
    };
    text.push_str(&format!("  starts   {starts}\n"));
    for (i, better) in pending.changes.iter().enumerate() {
        let head = if i == 0 { "sooner" } else { "" };
        text.push_str(&format!(
            "  {head:8} {}: {}\n",
            change(job, better.change, names),
            start(&better.start, now)
        ));
    }
    text
}

/// One of a job's tasks.
const fn one(job: &Job) -> &'static str {
    if job.tasks > 1 { "one task" } else { "it" }
}

/// Why a job runs where it runs, whole.
#[must_use]
pub fn running(running: &Running, now: Instant, names: &dyn Names) -> String {
    let job = &running.job;
    let mut text = format!(
        "{} runs on {} since {}, {} after it came.\n",
        names.job(job.id),
        places(running.tasks.iter().map(|t| t.node), names),
        moment(running.started),
        span(running.started.since(running.arrived))
    );
    text.push_str(&format!(
        "  asks     {} for tenant {}\n",
        wants(job, names),
        names.tenant(job.tenant)
    ));
    text.push_str(&evidence(&running.evidence, job, names));
    if let Some(end) = running.promised_end {
        let ends = match end > now {
            true => format!("in {} at the latest, as promised", span(end.since(now))),
            false => format!(
                "should have ended {} ago, as promised",
                span(now.since(end))
            ),
        };
        text.push_str(&format!("  ends     {ends}\n"));
    }
    text
}

/// Nodes, each once: `n1, n2 and 3 more`.
#[must_use]
pub fn places(nodes: impl Iterator<Item = u32>, names: &dyn Names) -> String {
    const NAMED_MAX: usize = 4;
    let mut nodes: Vec<u32> = nodes.collect();
    nodes.sort_unstable();
    nodes.dedup();
    let named = nodes.iter().take(NAMED_MAX).map(|&n| names.node(n));
    let named = named.collect::<Vec<_>>().join(", ");
    match nodes.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// What was considered for a place: who was ruled out, and the best of the others.
#[must_use]
pub fn evidence(evidence: &Evidence, job: &Job, names: &dyn Names) -> String {
    let mut text = funnel_of("nodes", &evidence.funnel, Seeker::Placed(one(job)), |_| {
        None
    });
    for (i, candidate) in evidence.candidates.iter().enumerate() {
        let head = if i == 0 { "score" } else { "" };
        text.push_str(&format!(
            "  {head:8} {:.4} {}: {}\n",
            candidate.score(),
            names.node(candidate.node),
            sum(candidate)
        ));
    }
    text
}

/// What a candidate's score is the sum of.
fn sum(candidate: &Candidate) -> String {
    let fit = match candidate.terms {
        Some(Terms {
            unusable,
            scarcity,
            spread,
        }) => format!("unusable {unusable:.4} + scarcity {scarcity:.4} + spread {spread:.4}"),
        None => format!("fit {:.4}", candidate.fit),
    };
    format!("{fit} + heat {:.4}", candidate.heat)
}

/// Whether a job that ran was stopped, by heat or with its node, and waits again.
#[must_use]
pub fn is_stop(decision: &Decision) -> bool {
    let is_heat = matches!(decision.reason, Reason::Backpressure | Reason::NearLimit);
    decision.action == Action::Queue
        && ((is_heat && decision.found > 1.0) || decision.reason == Reason::HostLost)
}

/// A decision about a job in a sentence without its full stop: what was done, and why.
#[must_use]
pub fn decision(
    decision: &Decision,
    evidence: Option<&Evidence>,
    job: &Job,
    names: &dyn Names,
) -> String {
    let node = || names.node(decision.subject.0 as u32);
    let others = evidence.map_or(&[][..], |e| &e.because_of);
    let others: Vec<String> = others.iter().map(|&id| names.job(id)).collect();
    let others = others.join(", ");
    let (found, bound) = (decision.found, decision.bound);
    let why = || because(job, decision.reason, (found, bound), names);
    let load = || {
        format!(
            "its cooling loop would carry {} of what it can",
            percent(found)
        )
    };
    match (decision.action, decision.reason) {
        (Action::Place, _) => {
            let room = match others.as_str() {
                "" => String::new(),
                _ => format!(", after {others} made room"),
            };
            let best = evidence.map_or(0, |e| e.candidates.len());
            let score = match best {
                0 | 1 => "the only place there was".to_string(),
                _ => format!("the best score, {found:.4} against {bound:.4}"),
            };
            format!("placed on {}: {score}{room}", node())
        }
        (Action::Queue, _) if is_stop(decision) => {
            let because = match decision.reason {
                Reason::NearLimit => format!("a device reached {found:.1} K on {}", node()),
                Reason::HostLost => "its node was lost".to_string(),
                _ => load(),
            };
            format!("stopped, and waits again: {because}")
        }
        (Action::Queue, _) if others.is_empty() => format!("waits: {}", why()),
        (Action::Queue, _) => format!("waits: {} ({others})", why()),
        (Action::Refuse, _) => format!("refused: {}", why()),
        (Action::Lose, Reason::HostLost) => {
            "lost: its node was lost, and no other could ever hold it".to_string()
        }
        (Action::Lose, _) => format!("lost: {}", why()),
        (Action::Preempt, Reason::Priority) => {
            format!("preempted for {others}, whose priority is {bound} over its {found}")
        }
        (Action::Preempt, _) => format!(
            "preempted for {others}: its tenant {} held {} of the site where {} are its own, and the owner took its part back",
            names.tenant(job.tenant),
            percent(found),
            percent(bound)
        ),
        (Action::Migrate, Reason::Backpressure) => format!("moved to {}: {}", node(), load()),
        (Action::Migrate, Reason::NearLimit) => {
            format!("moved to {}: a device reached {found:.1} K", node())
        }
        (Action::Migrate, Reason::HostLost) => format!("moved to {}: its node was lost", node()),
        (Action::Expire, _) => format!(
            "ended at its limit of {}",
            span(Nanos::from_secs_f64(bound))
        ),
        (action, reason) => format!("{action}: {reason}"),
    }
}

/// Why a job is turned away and what would not be, in a sentence without its full stop.
#[must_use]
pub fn refusal(refusal: &Refusal, job: &Job, names: &dyn Names) -> String {
    let both = (refusal.found, refusal.bound);
    let mut text = match refusal.lack {
        Lack::Quota => because(job, Reason::Quota, both, names),
        Lack::Sense => because(job, Reason::Malformed, both, names),
        _ => because(job, refusal.reason, both, names),
    };
    match refusal.nearest {
        Some(nearest) => text.push_str(&format!("; it could run {}", change(job, nearest, names))),
        None => text.push_str("; no single change would let it run"),
    }
    text
}
