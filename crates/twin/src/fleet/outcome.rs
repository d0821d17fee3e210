//! Many rehearsals, and what came of all of them, beside what was measured if anything was.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use machine::{Purpose, Stream};
use wire::{Instant, Nanos, Tile};

use super::config::{Config, What};
use super::history::{History, PEACE, Samples};
use super::leases::Wrong;
use super::world::Scene;
use crate::engine::history;
use crate::observer::{Observer, Progress};
use crate::record::summary::{
    Fault, Fleet, Invariant, Kind, Membership, Quantiles, Served, Span, Violation,
};
use crate::record::{Group, Series, Summary};

/// What all rehearsals left in memory.
#[derive(Debug)]
pub struct Outcome {
    /// All but what only a host knows.
    pub summary: Summary,
    /// What went wrong, for the page.
    pub series: Series,
}

/// Rehearses a fleet as often as it says, or until the observer says stop, and holds what was measured against it.
pub fn run(
    config: &Config,
    measured: Option<&History>,
    seed: u64,
    observer: &mut dyn Observer,
) -> Outcome {
    let scene = Scene::new(config);
    let mut chance = Stream::new(seed, Tile(0), Purpose::Manufacture);
    let mut predicted = Samples::default();
    let (mut events, mut messages, mut false_suspicions, mut footprint) = (0, 0, 0, 0);
    let mut hashes = Vec::new();
    let mut wrong_with_leases = Vec::new();
    let mut done = 0;
    for number in 0..u64::from(config.rehearsals) {
        let rehearsed = scene.rehearse(chance.next_u64());
        if number == 0 {
            tell(config, &rehearsed.history, observer);
        }
        predicted.merge(Samples::of(config, &rehearsed.history));
        let wrong = rehearsed.history.wrong_with_leases();
        wrong_with_leases.extend(wrong.expect("its own lines"));
        events += rehearsed.events;
        messages += rehearsed.messages;
        false_suspicions += rehearsed.false_suspicions;
        footprint = rehearsed.footprint;
        let owner = number << 16;
        hashes.extend((owner..).zip(rehearsed.hashes));
        done = number + 1;
        let at = |rehearsals: u64| Instant::EPOCH + config.end * rehearsals;
        let progress = Progress {
            now: at(done),
            end: at(config.rehearsals.into()),
            events,
        };
        if observer.progress(progress) == ControlFlow::Break(()) {
            break;
        }
    }
    let told = measured.filter(|history| !history.leases.is_empty());
    let told = told.map(|history| {
        history
            .wrong_with_leases()
            .expect("read when it was loaded")
    });
    let rehearsed = (!config.programs.is_empty()).then_some(wrong_with_leases);
    let wrong_with_leases = [("", rehearsed), ("measured_", told)];
    let measured = measured.map(|history| Samples::of(config, history));
    let kills = predicted.missed.get("kill").map_or(&[][..], Vec::as_slice);
    let detection = quantiles(kills);
    let membership = Membership {
        detection_seconds: detection,
        failures: predicted.deaths,
        undetected: predicted.unnoticed.len() as u64,
        false_suspicions,
        false_removals: predicted.mistaken.len() as u64,
        messages,
        bytes_per_tile: footprint as f64 / f64::from(config.hosts),
    };
    let spans = spans(&predicted, measured.as_ref());
    let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
    for blow in &config.blows {
        *faults.entry(blow.what.name()).or_default() += done;
    }
    let summary = Summary {
        universe: config.name.clone(),
        intent: config.intent.clone(),
        kind: Kind::Fleet,
        seed,
        threads: 1,
        tiles: config.hosts.into(),
        simulated_seconds: (config.end * done).as_secs_f64(),
        events,
        history_hash: history::combine(hashes),
        complete: done == u64::from(config.rehearsals),
        invariants: invariants(
            config,
            &predicted,
            measured.as_ref(),
            &wrong_with_leases,
            &spans,
        ),
        membership: Some(membership),
        faults: faults
            .into_iter()
            .map(|(kind, injected)| Fault {
                kind: kind.to_owned(),
                injected,
                fired: injected,
            })
            .collect(),
        fleet: Some(Fleet {
            rehearsals: done,
            measured: measured.is_some(),
            served: served(config, &predicted, measured.as_ref()),
            spans,
        }),
        ..Summary::default()
    };
    let group = Group::new("hosts", config.hosts.into(), f32::NAN, f32::NAN);
    let mut series = Series::new(vec![group], None);
    for blow in &config.blows {
        series.note(blow.at.as_secs_f64(), describe(blow.what, &blow.hosts));
    }
    Outcome { summary, series }
}

fn describe(what: What, hosts: &[u32]) -> String {
    let hosts: Vec<_> = hosts.iter().map(|host| (host + 1).to_string()).collect();
    format!("{} of {}", what.name().replace('_', " "), hosts.join(", "))
}

/// The first rehearsal, for the history.
fn tell(config: &Config, history: &History, observer: &mut dyn Observer) {
    let mut events: Vec<(u64, &'static str, u64, String)> = Vec::new();
    for blow in &config.blows {
        let (first, text) = (blow.hosts[0], describe(blow.what, &blow.hosts));
        events.push((blow.at.0, "fault", first.into(), text.clone()));
        if let Some(until) = blow.until {
            events.push((until.0, "repair", first.into(), text));
        }
    }
    for change in &history.changes {
        let text = format!("held {} by {}", change.state, change.observer + 1);
        events.push((change.at_ns, "belief", change.subject.into(), text));
    }
    events.sort_by_key(|(at, ..)| *at);
    for (at, kind, subject, text) in events {
        observer.event(Instant(at), kind, Some(subject), &text);
    }
}

/// Of spans that were counted one by one: the value at rank ⌈q·n⌉.
fn quantiles(spans: &[Nanos]) -> Quantiles {
    let mut spans = spans.to_vec();
    spans.sort_unstable();
    let at = |q: f64| {
        let rank = (q * spans.len() as f64).ceil() as usize;
        spans
            .get(rank.max(1) - 1)
            .map_or(f64::NAN, |span| span.as_secs_f64())
    };
    Quantiles {
        p50: at(0.5),
        p95: at(0.95),
        p99: at(0.99),
        max: at(1.0),
    }
}

/// What is held against what, in these words.
fn spans(predicted: &Samples, measured: Option<&Samples>) -> Vec<Span> {
    let mut all = Vec::new();
    let kinds = [
        (
            "held removed after",
            (|samples| &samples.missed) as fn(&Samples) -> &BTreeMap<_, _>,
        ),
        ("held alive again after", |samples| &samples.returned),
        ("running again after", |samples| &samples.failover),
    ];
    for (words, of) in kinds {
        for kind in ["kill", "pause", "partition"] {
            let counted = |samples: Option<&Samples>| -> Vec<Nanos> {
                samples
                    .and_then(|samples| of(samples).get(kind))
                    .cloned()
                    .unwrap_or_default()
            };
            let (predicted, measured) = (counted(Some(predicted)), counted(measured));
            if predicted.is_empty() && measured.is_empty() {
                continue;
            }
            let (there, here) = (quantiles(&predicted), quantiles(&measured));
            all.push(Span {
                what: format!("{words} {kind}"),
                predicted_seconds: there,
                predicted: predicted.len() as u64,
                measured_seconds: here,
                measured: measured.len() as u64,
                ratio_p50: here.p50 / there.p50,
            });
        }
    }
    all
}

/// How many were served in a second, as follows from where replicas ran, and as was counted.
fn served(config: &Config, predicted: &Samples, measured: Option<&Samples>) -> Vec<Served> {
    let Some(takes) = config.programs.iter().find_map(|program| program.takes) else {
        return Vec::new();
    };
    let rows = predicted.served.iter().map(|(kind, there)| {
        let here = measured.and_then(|measured| measured.served.get(kind));
        let here = here.copied().unwrap_or_default();
        let ran = there.ran.as_secs_f64() / there.span.as_secs_f64();
        Served {
            during: (*kind).to_owned(),
            replicas: ran,
            predicted_per_second: ran / takes.as_secs_f64(),
            measured_per_second: here.answered as f64 / here.span.as_secs_f64(),
            answered: here.answered,
            lost: here.lost,
            nowhere: here.nowhere,
            turned_away: here.turned_away,
        }
    });
    rows.collect()
}

/// The spans that a prediction is judged by.
const JUDGED: [&str; 2] = ["held removed after kill", "running again after kill"];

fn invariants(
    config: &Config,
    predicted: &Samples,
    measured: Option<&Samples>,
    wrong_with_leases: &[(&str, Option<Vec<Wrong>>)],
    spans: &[Span],
) -> Vec<Invariant> {
    let mut all = Vec::new();
    let mut must = |name: String, first_violation: Option<Violation>| {
        all.push(Invariant {
            name,
            held: first_violation.is_none(),
            first_violation,
        });
    };
    let pair = |at: Nanos, observer: u32, subject: u32, text: &str| Violation {
        seconds: at.as_secs_f64(),
        subject: format!("host {}", subject + 1),
        found: f64::NAN,
        bound: f64::NAN,
        unit: String::new(),
        text: format!("{text} by host {}", observer + 1),
    };
    let both = [("", Some(predicted)), ("measured_", measured)];
    for (prefix, samples) in both.into_iter().filter_map(|(p, s)| Some((p, s?))) {
        let unnoticed = samples.unnoticed.first();
        must(
            format!("{prefix}deaths_noticed"),
            unnoticed.map(|&(at, o, s)| pair(at, o, s, "died and was not held removed")),
        );
        let mistaken = samples.mistaken.first();
        must(
            format!("{prefix}no_false_removals"),
            mistaken.map(|&(at, o, s)| pair(at, o, s, "lived and was held removed")),
        );
        let diverged = samples.diverged.first();
        must(
            format!("{prefix}agreement"),
            diverged
                .map(|&(o, s)| pair(config.end, o, s, "is held at the end to be what it is not")),
        );
        let kills = samples.missed.get("kill").map_or(&[][..], Vec::as_slice);
        let p99 = quantiles(kills).p99;
        let bound = config.bounds.detection_p99.as_secs_f64();
        must(
            format!("{prefix}detection_p99"),
            (p99 > bound).then(|| Violation {
                seconds: 0.0,
                subject: "the fleet".to_owned(),
                found: p99,
                bound,
                unit: "s".to_owned(),
                text: "dead hosts were noticed late".to_owned(),
            }),
        );
    }
    for (prefix, wrong) in wrong_with_leases {
        let Some(wrong) = wrong else { continue };
        must(
            format!("{prefix}one_holder"),
            wrong.first().map(|first| Violation {
                seconds: 0.0,
                subject: "leases".to_owned(),
                found: wrong.len() as f64,
                bound: 0.0,
                unit: String::new(),
                text: first.to_string(),
            }),
        );
    }
    // Whoever hands over loses nobody; whoever dies may.
    for kind in ["drain", PEACE] {
        let Some(served) = measured.and_then(|measured| measured.served.get(kind)) else {
            continue;
        };
        let (lost, answered) = (served.lost + served.nowhere, served.answered);
        let found = (lost > 0 || answered == 0).then(|| Violation {
            seconds: 0.0,
            subject: "requests".to_owned(),
            found: lost as f64,
            bound: 0.0,
            unit: String::new(),
            text: format!("of those asked {lost} were lost and {answered} answered"),
        });
        must(format!("measured_none_lost_in_{kind}"), found);
    }
    if let (Some(_), Some(allowed)) = (measured, config.bounds.prediction) {
        let judged = spans
            .iter()
            .filter(|span| JUDGED.contains(&span.what.as_str()));
        // What was predicted and never measured is as far off as can be.
        let off = |span: &&Span| span.ratio_p50.is_nan() || (span.ratio_p50 - 1.0).abs() > allowed;
        let worst = judged
            .filter(off)
            .max_by(|a, b| a.ratio_p50.total_cmp(&b.ratio_p50));
        must(
            "prediction".to_owned(),
            worst.map(|span| Violation {
                seconds: 0.0,
                subject: span.what.clone(),
                found: span.measured_seconds.p50,
                bound: span.predicted_seconds.p50,
                unit: "s".to_owned(),
                text: format!(
                    "the measured median is {:.2} times the predicted one",
                    span.ratio_p50
                ),
            }),
        );
    }
    all
}
