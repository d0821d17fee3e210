//! What did it look like?
//!
//! `report.html`, one file that needs nothing else: style, script and data lie in
//! it, it asks no server for anything (its content policy forbids it to), and opens
//! from a disk. Its sources are `web/report.{html,css,js}`, `web/cluster.js` and
//! `web/curves.js`; this file only hands them the
//! numbers, rounded to what a screen can show.
//!
//! Why no library: docs/decisions/2026-11-21-a-report-asks-nobody.md.
//!
//! Four pages share them: one run ([`run_page`]), several runs over each other
//! ([`Comparison`]), one parameter through many runs ([`Sweep`]), and placement policies on
//! the same list of pods ([`Packing`]).
//!
//! What is large travels as columns of little-endian numbers in base64: a cluster's film takes
//! four bytes for each node and frame, its jobs about sixty each and thirty for each decision.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::{Value, json};
use telemetry::{Action, Reason};

use super::cluster::{Cluster, Jobs, State, Why};
use super::curve::Curve;
use super::film::{self, Film};
use super::series::{Layout, Map, Metric};
use super::{Series, Summary};

/// Samples per chart: about one per pixel.
const POINTS: usize = 1_000;

/// Runs of equal universes over each other: Thermos on and off, two policies.
#[derive(Clone, Debug)]
pub struct Comparison<'a> {
    /// What is compared, as a heading.
    pub title: String,
    /// Why, in a sentence.
    pub intent: String,
    /// The command that repeats the comparison.
    pub command: String,
    /// Label, outcome and course of each run; at most [`Self::RUNS_MAX`] are drawn.
    pub runs: Vec<(String, &'a Summary, &'a Series)>,
    /// How policies filled the same cluster, if that belongs to it.
    pub curves: Vec<Curve>,
}

/// Placement policies on the same list of pods: the page of `cosmos twin pack`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packing {
    /// What is compared, as a heading.
    pub title: String,
    /// Why, in a sentence.
    pub intent: String,
    /// The command that repeats it.
    pub command: String,
    /// A curve per policy, list and seed.
    pub curves: Vec<Curve>,
}

/// One parameter through many runs of the thermal loop.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sweep {
    /// The universe's name.
    pub universe: String,
    /// What the universe is for.
    pub intent: String,
    /// The command that repeats the sweep.
    pub command: String,
    /// The field that was varied: `thermos.gain`.
    pub parameter: String,
    /// The unit its values were written with: `/h`; empty if none.
    pub unit: String,
    /// A run per value.
    pub points: Vec<SweepPoint>,
    /// What the runs showed.
    pub boundaries: Boundaries,
}

/// One run of a sweep. Where no loop had anything to do, what is told of it is `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SweepPoint {
    /// The parameter's value.
    pub value: f64,
    /// The loop's gain times its delay, which alone decides what it does.
    pub gain_times_delay: Option<f64>,
    /// How far it swung past where it settled, as a fraction of the step.
    pub overshoot: Option<f64>,
    /// Whether the swings die out.
    pub stable: Option<bool>,
    /// Whether every invariant held.
    pub held: bool,
    /// The invariants that did not.
    pub broken: Vec<String>,
    /// Tiles lost to heat.
    pub tiles_lost: u64,
}

/// Where behaviour changes, measured, as gain times delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Boundaries {
    /// Above it there is overshoot; `None` if the sweep saw none.
    pub overshoot_begins: Option<f64>,
    /// Above it swings grow; `None` if the sweep saw none that did.
    pub instability_begins: Option<f64>,
}

impl Sweep {
    /// Whether nothing is wrong. Beyond the edge of overshoot a loop swings, close to the edge of
    /// stability for long and past it for ever. A sweep that found both found what it was run
    /// for: `loop_damped`, broken beyond the first, is its result. Any other broken invariant is
    /// a failure, and so is this one before that edge or where one was not found.
    #[must_use]
    pub fn held(&self) -> bool {
        self.points.iter().all(|point| {
            let Boundaries {
                overshoot_begins,
                instability_begins,
            } = self.boundaries;
            let edge = overshoot_begins.filter(|_| instability_begins.is_some());
            let beyond = (edge.zip(point.gain_times_delay)).is_some_and(|(edge, x)| x >= edge);
            (point.broken.iter()).all(|name| beyond && name == "loop_damped")
        })
    }
}

impl Comparison<'_> {
    /// More lines than this per chart nobody can tell apart.
    pub const RUNS_MAX: usize = 4;
}

/// The page of one run.
#[must_use]
pub fn run_page(summary: &Summary, series: &Series) -> String {
    page(
        &summary.universe,
        &json!({
            "page": "run",
            "seed": summary.seed.to_string(),
            "summary": summary,
            "series": charts(series),
            // Every node of a cluster says more than its racks.
            "map": series.map().filter(|_| series.cluster().is_none()).map(map),
            "cluster": series.cluster().map(cluster),
        }),
    )
}

/// The page of several runs.
#[must_use]
pub fn comparison_page(comparison: &Comparison<'_>) -> String {
    let runs = comparison.runs.iter().take(Comparison::RUNS_MAX);
    let runs: Vec<_> = runs
        .map(|(label, summary, series)| {
            json!({
                "label": label,
                "seed": summary.seed.to_string(),
                "summary": summary,
                "series": charts(series),
            })
        })
        .collect();
    page(
        &comparison.title,
        &json!({
            "page": "comparison",
            "title": comparison.title,
            "intent": comparison.intent,
            "command": comparison.command,
            "runs": runs,
            "curves": comparison.curves,
        }),
    )
}

/// The page of placement policies.
#[must_use]
pub fn packing_page(packing: &Packing) -> String {
    page(
        &packing.title,
        &json!({
            "page": "packing",
            "title": packing.title,
            "intent": packing.intent,
            "command": packing.command,
            "curves": packing.curves,
        }),
    )
}

/// The page of a sweep.
///
/// Theory is that of an integrator with a pure delay: `x' = -k·x(t - τ)` swings from
/// `kτ = 1/e` on and grows from `kτ = π/2` on.
//= requirements H4
#[must_use]
pub fn sweep_page(sweep: &Sweep) -> String {
    page(
        &sweep.universe,
        &json!({
            "page": "sweep",
            "sweep": sweep,
            "theory": {
                "overshoot_begins": 1.0 / std::f64::consts::E,
                "instability_begins": std::f64::consts::FRAC_PI_2,
            },
        }),
    )
}

/// Puts style, script and data into the page.
fn page(title: &str, data: &Value) -> String {
    let title: String = title
        .chars()
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            c => c.to_string(),
        })
        .collect();
    // Filled from the outside in: nothing that was inserted is searched again.
    let (before, rest) = include_str!("../../../../web/report.html")
        .split_once("{{title}}")
        .expect("the page has a title");
    let (head, rest) = rest.split_once("{{style}}").expect("the page has a style");
    let (body, rest) = rest.split_once("{{data}}").expect("the page has data");
    let (between, after) = rest
        .split_once("{{script}}")
        .expect("the page has a script");
    // Into one buffer: a page of a day is megabytes, and each copy of it would be the most that
    // a run holds.
    let mut page = String::new();
    for part in [
        before,
        &title,
        head,
        include_str!("../../../../web/report.css"),
        body,
    ] {
        page.push_str(part);
    }
    let mut bytes = Harmless(page.into_bytes());
    serde_json::to_writer(&mut bytes, data).expect("a buffer takes everything");
    page = String::from_utf8(bytes.0).expect("JSON is text");
    for part in [
        between,
        include_str!("../../../../web/report.js"),
        include_str!("../../../../web/cluster.js"),
        include_str!("../../../../web/curves.js"),
        after,
    ] {
        page.push_str(part);
    }
    page
}

/// Inside a script element only `</` and `<!--` mean anything to the browser, and inside
/// JSON a `<` occurs in strings only, where it can be written otherwise.
struct Harmless(Vec<u8>);

impl std::io::Write for Harmless {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for part in bytes.split_inclusive(|&b| b == b'<') {
            match part.split_last() {
                Some((b'<', text)) => {
                    self.0.extend_from_slice(text);
                    self.0.extend_from_slice(b"\\u003c");
                }
                _ => self.0.extend_from_slice(part),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The charts' columns, without those nobody measured.
fn charts(series: &Series) -> Value {
    let series = series.thinned(POINTS);
    let groups: Vec<_> = series
        .groups()
        .iter()
        .map(|group| {
            let mut columns = serde_json::Map::new();
            for metric in Metric::ALL {
                if group.measured(metric) {
                    let column = short(group.column(metric), decimals(metric));
                    columns.insert(metric.name().to_owned(), column);
                }
            }
            json!({
                "name": group.name,
                "tiles": group.tiles,
                "limit_kelvin": rounded(f64::from(group.limit_kelvin), 2),
                "throttle_kelvin": rounded(f64::from(group.throttle_kelvin), 2),
                "setpoint": rounded(f64::from(group.setpoint), 4),
                "columns": columns,
            })
        })
        .collect();
    // Planned faults are noted before the run, the rest as it comes.
    let mut notables: Vec<_> = series.notables().iter().collect();
    notables.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let notables = notables
        .iter()
        .map(|n| json!({ "seconds": n.seconds, "text": n.text }));
    json!({
        "seconds": series.seconds().iter().map(|&t| rounded(t, 6)).collect::<Value>(),
        "groups": groups,
        "notables": notables.collect::<Value>(),
        "notables_untold": series.notables_untold(),
    })
}

/// The map: per frame 2 bytes of temperature and 1 of darkness for each holon.
fn map(map: &Map) -> Value {
    let kelvin = || map.frames().iter().flat_map(|f| f.kelvin.iter().copied());
    let known = || kelvin().filter(|k| k.is_finite());
    let low = known().fold(f32::INFINITY, f32::min);
    let high = known().fold(f32::NEG_INFINITY, f32::max).max(low + 1e-3);
    let frames = map.frames().iter().map(|frame| {
        let kelvin = frame.kelvin.iter().flat_map(|&k| {
            // 0 says that no tile is alive to have a temperature.
            let step = if k.is_finite() {
                1.0 + (k - low) / (high - low) * 65_534.0
            } else {
                0.0
            };
            (step as u16).to_le_bytes()
        });
        // Up, so that one dark tile in a thousand is not rounded away.
        let dark = frame.dark.iter().map(|&d| (d * 255.0).ceil() as u8);
        json!({
            "seconds": rounded(frame.seconds, 6),
            "kelvin": BASE64.encode(kelvin.collect::<Vec<_>>()),
            "dark": BASE64.encode(dark.collect::<Vec<_>>()),
        })
    });
    let holons = || map.holons().iter();
    let named = holons().any(|h| !h.name.is_empty());
    json!({
        "layout": match map.layout() {
            Layout::Rings => "rings",
            Layout::Rows => "rows",
            Layout::Hexagons => "hexagons",
        },
        "low": rounded(f64::from(low), 3),
        "high": rounded(f64::from(high), 3),
        "names": named.then(|| holons().map(|h| h.name.as_str()).collect::<Value>()),
        "groups": holons().map(|h| h.group).collect::<Value>(),
        "x": holons().map(|h| rounded(f64::from(h.x), 4)).collect::<Value>(),
        "y": holons().map(|h| rounded(f64::from(h.y), 4)).collect::<Value>(),
        "frames": frames.collect::<Value>(),
    })
}

/// What only a cluster has.
fn cluster(cluster: &Cluster) -> Value {
    let queue = cluster.queue();
    let tenants = cluster.tenants().iter().map(|tenant| {
        json!({
            "name": tenant.name,
            "weight": tenant.weight,
            "dominant_share": short(&tenant.dominant_share, 5),
        })
    });
    let loops = cluster.loops().iter().map(|l| {
        json!({
            "name": l.name,
            "watts": short(&l.watts, 0),
            "capacity_watts": short(&l.capacity_watts, 0),
            "faults": l.faults,
        })
    });
    json!({
        "film": film(&cluster.film),
        "seconds": cluster.seconds().iter().map(|&t| rounded(t, 6)).collect::<Value>(),
        "queue": {
            "jobs": short(&queue.jobs, 0),
            "gpus": short(&queue.gpus, 2),
            "oldest_seconds": short(&queue.oldest_seconds, 1),
        },
        "tenants": tenants.collect::<Value>(),
        "loops": loops.collect::<Value>(),
        "jobs": jobs(&cluster.jobs),
    })
}

/// Every node once, then each column of all frames, one frame after the other.
fn film(film: &Film) -> Value {
    let nodes = || film.nodes().iter();
    let column = |of: fn(&film::Frame) -> &[u8]| {
        let bytes = film
            .frames()
            .iter()
            .flat_map(|frame| of(frame).iter().copied());
        BASE64.encode(bytes.collect::<Vec<_>>())
    };
    let mut models = Words::default();
    json!({
        "names": nodes().map(|n| n.name.as_str()).collect::<Value>(),
        "model": nodes().map(|n| models.index(&n.model)).collect::<Value>(),
        "models": models.words,
        "gpus": nodes().map(|n| n.gpus).collect::<Value>(),
        "row": nodes().map(|n| n.row).collect::<Value>(),
        "rack": nodes().map(|n| n.rack).collect::<Value>(),
        "coolant": nodes().map(|n| n.coolant).collect::<Value>(),
        "limit_kelvin": nodes().map(|n| rounded(f64::from(n.limit_kelvin), 2)).collect::<Value>(),
        "seconds": film.seconds().iter().map(|&t| rounded(t, 6)).collect::<Value>(),
        "whole": film::WHOLE,
        "unknown": film::UNKNOWN,
        "kelvin_low": rounded(f64::from(film::KELVIN_LOW), 2),
        "kelvin_step": film::KELVIN_STEP,
        "utilisation": column(film::Frame::utilisation),
        "kelvin": column(film::Frame::kelvin),
        "free": column(film::Frame::free),
        "fragmented": column(film::Frame::fragmented),
    })
}

/// Jobs, their decisions in the order of the jobs, and their times on nodes. Texts that
/// occur often, such as what is asked for, are numbered.
fn jobs(jobs: &Jobs) -> Value {
    let all = || jobs.all().iter();
    let steps = || all().flat_map(|job| &job.steps);
    let stays = || jobs.stays().iter();
    let (mut wants, mut texts) = (Words::default(), Words::default());
    let mut tests = Words::default();
    let mut whys: Vec<Value> = Vec::new();
    let why = steps().map(|step| match &step.why {
        Some(why) => {
            whys.push(grounds(why, &mut tests));
            whys.len() as u32
        }
        None => 0,
    });
    let why = column(why, u32::to_le_bytes);
    // The number of a word in its vocabulary.
    let action = |it| {
        Action::ALL
            .iter()
            .position(|&a| a == it)
            .unwrap_or_default() as u8
    };
    let reason = |it| {
        Reason::ALL
            .iter()
            .position(|&r| r == it)
            .unwrap_or_default() as u8
    };
    json!({
        "untold": jobs.untold(),
        "whys_untold": jobs.whys_untold(),
        "terms": jobs.terms,
        "states": State::ALL.map(State::name),
        "actions": Action::ALL.iter().map(|a| a.name()).collect::<Value>(),
        "reasons": Reason::ALL.iter().map(|r| r.name()).collect::<Value>(),
        "names": all().map(|j| j.name.as_str()).collect::<Value>(),
        "id": column(all().map(|j| j.id as f64), f64::to_le_bytes),
        "tenant": column(all().map(|j| j.tenant), u32::to_le_bytes),
        "want": column(all().map(|j| wants.index(&j.wants)), u32::to_le_bytes),
        "wants": wants.words,
        "gpu_milli": column(all().map(|j| j.gpu_milli as u32), u32::to_le_bytes),
        "tasks": column(all().map(|j| j.tasks), u32::to_le_bytes),
        "arrived": column(all().map(|j| j.arrived), f64::to_le_bytes),
        "started": column(all().map(|j| j.started), f64::to_le_bytes),
        "ended": column(all().map(|j| j.ended), f64::to_le_bytes),
        "state": column(all().map(|j| j.state as u8), u8::to_le_bytes),
        "steps": {
            "of": column(all().map(|j| j.steps.len() as u32), u32::to_le_bytes),
            "seconds": column(steps().map(|s| s.seconds), f64::to_le_bytes),
            "action": column(steps().map(|s| action(s.action)), u8::to_le_bytes),
            "reason": column(steps().map(|s| reason(s.reason)), u8::to_le_bytes),
            "node": column(steps().map(|s| s.node.unwrap_or(u32::MAX)), u32::to_le_bytes),
            "text": column(steps().map(|s| texts.index(&s.text)), u32::to_le_bytes),
            "texts": texts.words,
            "why": why,
            "whys": whys,
            "tests": tests.words,
        },
        "stays": {
            "job": column(stays().map(|s| s.job), u32::to_le_bytes),
            "node": column(stays().map(|s| s.node), u32::to_le_bytes),
            "gpu_milli": column(stays().map(|s| s.gpu_milli), u32::to_le_bytes),
            "from": column(stays().map(|s| s.from), f64::to_le_bytes),
            "to": column(stays().map(|s| s.to), f64::to_le_bytes),
        },
    })
}

/// What a decision rests on, without what it has not; a few thousand of them lie in a page.
fn grounds<'a>(why: &'a Why, tests: &mut Words<'a>) -> Value {
    let mut told = serde_json::Map::new();
    let mut tell = |key: &str, value: Value| {
        if value.as_array().is_none_or(|all| !all.is_empty()) {
            told.insert(key.to_owned(), value);
        }
    };
    tell("nodes", json!(why.nodes));
    let funnel = why.funnel.iter();
    let funnel = funnel.map(|l| json!([tests.index(&l.test), l.left]));
    tell("funnel", funnel.collect());
    tell("ahead", json!(why.ahead));
    if let Some(between) = why.start_seconds {
        tell("start", between.iter().map(|&t| rounded(t, 3)).collect());
    }
    if !why.start_text.is_empty() {
        tell("start_text", why.start_text.as_str().into());
    }
    let changes = why.changes.iter();
    let changes = changes.map(|c| json!([c.text, rounded(c.start_seconds, 3)]));
    tell("changes", changes.collect());
    let candidates = why.candidates.iter().map(|c| {
        let terms = c.terms.iter().map(|&t| rounded(t, 4));
        json!([c.node, rounded(c.score, 4), terms.collect::<Value>()])
    });
    tell("candidates", candidates.collect());
    Value::Object(told)
}

/// Numbers as bytes, in base64.
fn column<T, const N: usize>(values: impl Iterator<Item = T>, bytes: fn(T) -> [u8; N]) -> String {
    BASE64.encode(values.flat_map(bytes).collect::<Vec<u8>>())
}

/// Texts, each once, by order of first mention.
#[derive(Default)]
struct Words<'a> {
    words: Vec<&'a str>,
    numbers: BTreeMap<&'a str, u32>,
}

impl<'a> Words<'a> {
    fn index(&mut self, word: &'a str) -> u32 {
        *self.numbers.entry(word).or_insert_with(|| {
            self.words.push(word);
            self.words.len() as u32 - 1
        })
    }
}

fn short(column: &[f32], decimals: i32) -> Value {
    let column = column.iter();
    column.map(|&v| rounded(f64::from(v), decimals)).collect()
}

const fn decimals(metric: Metric) -> i32 {
    match metric {
        Metric::KelvinMean | Metric::KelvinMax | Metric::KelvinP99 => 2,
        Metric::Load | Metric::Clock | Metric::Budget | Metric::BudgetMin | Metric::Utilisation => {
            4
        }
        Metric::Dark | Metric::Waiting => 1,
    }
}

/// A number short enough to be written ten thousand times; `null` if it is none.
fn rounded(value: f64, decimals: i32) -> Value {
    let scale = 10_f64.powi(decimals);
    let short = (value * scale).round() / scale;
    // A whole number loses its `.0` as well.
    if short == short.trunc() && short.abs() < 1e15 {
        return json!(short as i64);
    }
    json!(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(gain_times_delay: Option<f64>, broken: &[&str]) -> SweepPoint {
        SweepPoint {
            gain_times_delay,
            broken: broken.iter().map(|&name| name.to_owned()).collect(),
            ..SweepPoint::default()
        }
    }

    fn held(points: &[SweepPoint], overshoot_begins: Option<f64>) -> bool {
        let sweep = Sweep {
            universe: String::new(),
            intent: String::new(),
            command: String::new(),
            parameter: String::new(),
            unit: String::new(),
            points: points.to_vec(),
            boundaries: Boundaries {
                overshoot_begins,
                instability_begins: Some(1.57),
            },
        };
        sweep.held()
    }

    #[test]
    fn a_sweep_is_forgiven_the_swings_beyond_the_edge_it_found_and_nothing_else() {
        let calm = point(Some(0.3), &[]);
        let swings = point(Some(1.7), &["loop_damped"]);
        let both = [calm.clone(), swings.clone()];
        assert!(held(&both, Some(0.37)));
        assert!(!held(&both, None), "no edge was found");
        assert!(!held(&both, Some(1.8)), "it swings before the edge");
        let loses = point(Some(1.7), &["loop_damped", "no_tile_above_limit"]);
        assert!(!held(&[calm, loses], Some(0.37)));
        assert!(!held(&[point(None, &["loop_damped"])], Some(0.37)));
        assert!(held(&[point(None, &[])], None));
    }
}
