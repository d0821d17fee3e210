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
use std::fmt;
use std::hash::{Hash as _, Hasher as _};
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::ser::{Error as _, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use telemetry::{Action, Reason};

use super::cluster::{Cluster, Jobs, State, Tried, Why};
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

/// Writes the page of one run. What is large in it is made column by column and forgotten once it is
/// written: the page of some days is megabytes, and as one text it would be the most that a
/// run holds.
///
/// # Errors
/// If `to` takes no more.
pub fn write_run_page(
    to: &mut impl Write,
    summary: &Summary,
    series: &Series,
) -> std::io::Result<()> {
    write_page(to, &summary.universe, &RunPage { summary, series })
}

/// [`write_run_page`] as one text.
#[must_use]
pub fn run_page(summary: &Summary, series: &Series) -> String {
    page(&summary.universe, &RunPage { summary, series })
}

struct RunPage<'a> {
    summary: &'a Summary,
    series: &'a Series,
}

impl Serialize for RunPage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { summary, series } = self;
        let mut page = serializer.serialize_map(None)?;
        page.serialize_entry("page", "run")?;
        page.serialize_entry("seed", &summary.seed.to_string())?;
        page.serialize_entry("summary", summary)?;
        page.serialize_entry("series", &charts(series))?;
        // Every node of a cluster says more than its racks.
        let map = series.map().filter(|_| series.cluster().is_none());
        page.serialize_entry("map", &map.map(self::map))?;
        page.serialize_entry("cluster", &series.cluster().map(ClusterPart))?;
        page.end()
    }
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

/// [`write_page`] as one text.
fn page(title: &str, data: &impl Serialize) -> String {
    let mut page = Vec::new();
    write_page(&mut page, title, data).expect("a buffer takes everything");
    String::from_utf8(page).expect("JSON is text, as the rest is")
}

/// Puts style, script and data into the page.
fn write_page(to: &mut impl Write, title: &str, data: &impl Serialize) -> std::io::Result<()> {
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
    for part in [
        before,
        &title,
        head,
        include_str!("../../../../web/report.css"),
        body,
    ] {
        to.write_all(part.as_bytes())?;
    }
    serde_json::to_writer(&mut Harmless(to), data)?;
    for part in [
        between,
        include_str!("../../../../web/report.js"),
        include_str!("../../../../web/cluster.js"),
        include_str!("../../../../web/curves.js"),
        after,
    ] {
        to.write_all(part.as_bytes())?;
    }
    Ok(())
}

/// Inside a script element only `</` and `<!--` mean anything to the browser, and inside
/// JSON a `<` occurs in strings only, where it can be written otherwise.
struct Harmless<'a, W>(&'a mut W);

impl<W: Write> Write for Harmless<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for part in bytes.split_inclusive(|&b| b == b'<') {
            match part.split_last() {
                Some((b'<', text)) => {
                    self.0.write_all(text)?;
                    self.0.write_all(b"\\u003c")?;
                }
                _ => self.0.write_all(part)?,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
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
struct ClusterPart<'a>(&'a Cluster);

impl Serialize for ClusterPart<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cluster = self.0;
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
        let mut part = serializer.serialize_map(None)?;
        part.serialize_entry("film", &FilmPart(&cluster.film))?;
        let seconds = cluster.seconds().iter().map(|&t| rounded(t, 6));
        part.serialize_entry("seconds", &seconds.collect::<Value>())?;
        let queue = json!({
            "jobs": short(&queue.jobs, 0),
            "gpus": short(&queue.gpus, 2),
            "oldest_seconds": short(&queue.oldest_seconds, 1),
        });
        part.serialize_entry("queue", &queue)?;
        part.serialize_entry("tenants", &tenants.collect::<Value>())?;
        part.serialize_entry("loops", &loops.collect::<Value>())?;
        part.serialize_entry("jobs", &JobsPart(&cluster.jobs))?;
        part.end()
    }
}

/// Every node once, then each column of all frames, one frame after the other.
struct FilmPart<'a>(&'a Film);

impl Serialize for FilmPart<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let film = self.0;
        let nodes = || film.nodes().iter();
        let pixels = |of: fn(&film::Frame) -> &[u8]| {
            let bytes = move || film.frames().flat_map(move |frame| of(&frame).to_vec());
            column(bytes, u8::to_le_bytes)
        };
        let mut models = Words::default();
        let model: Vec<u32> = nodes().map(|n| models.index(&n.model)).collect();
        let few = json!({
            "names": nodes().map(|n| n.name.as_str()).collect::<Value>(),
            "model": model,
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
        });
        let mut part = serializer.serialize_map(None)?;
        for (key, value) in few.as_object().expect("written as one above") {
            part.serialize_entry(key, value)?;
        }
        part.serialize_entry("utilisation", &pixels(film::Frame::utilisation))?;
        part.serialize_entry("kelvin", &pixels(film::Frame::kelvin))?;
        part.serialize_entry("free", &pixels(film::Frame::free))?;
        part.serialize_entry("fragmented", &pixels(film::Frame::fragmented))?;
        part.end()
    }
}

/// Jobs, their decisions in the order of the jobs, and their times on nodes. Texts that
/// occur often, such as what is asked for, are numbered.
struct JobsPart<'a>(&'a Jobs);

impl Serialize for JobsPart<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let jobs = self.0;
        let all = || jobs.all();
        let mut part = serializer.serialize_map(None)?;
        part.serialize_entry("untold", &jobs.untold())?;
        part.serialize_entry("terms", &jobs.terms)?;
        part.serialize_entry("states", &State::ALL.map(State::name))?;
        part.serialize_entry("actions", &each(|| Action::ALL.iter().map(|a| a.name())))?;
        part.serialize_entry("reasons", &each(|| Reason::ALL.iter().map(|r| r.name())))?;
        part.serialize_entry("names", &each(|| all().map(|j| j.name)))?;
        part.serialize_entry(
            "id",
            &column(|| all().map(|j| j.id as f64), f64::to_le_bytes),
        )?;
        part.serialize_entry(
            "tenant",
            &column(|| all().map(|j| j.tenant), u32::to_le_bytes),
        )?;
        part.serialize_entry("want", &column(|| all().map(|j| j.wants), u32::to_le_bytes))?;
        part.serialize_entry("wants", &jobs.wants())?;
        let gpu_milli = || all().map(|j| j.gpu_milli as u32);
        part.serialize_entry("gpu_milli", &column(gpu_milli, u32::to_le_bytes))?;
        part.serialize_entry(
            "tasks",
            &column(|| all().map(|j| j.tasks), u32::to_le_bytes),
        )?;
        part.serialize_entry(
            "arrived",
            &column(|| all().map(|j| j.arrived), f64::to_le_bytes),
        )?;
        part.serialize_entry(
            "started",
            &column(|| all().map(|j| j.started), f64::to_le_bytes),
        )?;
        part.serialize_entry(
            "ended",
            &column(|| all().map(|j| j.ended), f64::to_le_bytes),
        )?;
        part.serialize_entry(
            "state",
            &column(|| all().map(|j| j.state as u8), u8::to_le_bytes),
        )?;
        part.serialize_entry("steps", &StepsPart(jobs))?;
        part.serialize_entry("stays", &StaysPart(jobs))?;
        if let Some(error) = jobs.failed() {
            return Err(S::Error::custom(format_args!(
                "jobs that are over: {error}"
            )));
        }
        part.end()
    }
}
struct StaysPart<'a>(&'a Jobs);

impl Serialize for StaysPart<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let jobs = || (0_u32..).zip(self.0.all());
        let job = || jobs().flat_map(|(n, job)| job.stays.into_iter().map(move |_| n));
        let stays = || self.0.all().flat_map(|job| job.stays);
        let mut part = serializer.serialize_map(None)?;
        part.serialize_entry("job", &column(job, u32::to_le_bytes))?;
        let node = || stays().map(|s| s.node);
        part.serialize_entry("node", &column(node, u32::to_le_bytes))?;
        let gpu_milli = || stays().map(|s| s.gpu_milli);
        part.serialize_entry("gpu_milli", &column(gpu_milli, u32::to_le_bytes))?;
        let from = || stays().map(|s| s.from);
        part.serialize_entry("from", &column(from, f64::to_le_bytes))?;
        let to = || stays().map(|s| s.to);
        part.serialize_entry("to", &column(to, f64::to_le_bytes))?;
        part.end()
    }
}

struct StepsPart<'a>(&'a Jobs);

impl Serialize for StepsPart<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let steps = || self.0.all().flat_map(|job| job.steps);
        // The number of a word in its vocabulary.
        let action = |it| {
            Action::ALL
                .iter()
                .position(|&a| a == it)
                .unwrap_or_default()
        };
        let reason = |it| {
            Reason::ALL
                .iter()
                .position(|&r| r == it)
                .unwrap_or_default()
        };
        let mut part = serializer.serialize_map(None)?;
        let of = || self.0.all().map(|j| j.steps.len() as u32);
        part.serialize_entry("of", &column(of, u32::to_le_bytes))?;
        let seconds = || steps().map(|s| s.seconds);
        part.serialize_entry("seconds", &column(seconds, f64::to_le_bytes))?;
        let actions = || steps().map(|s| action(s.action) as u8);
        part.serialize_entry("action", &column(actions, u8::to_le_bytes))?;
        let reasons = || steps().map(|s| reason(s.reason) as u8);
        part.serialize_entry("reason", &column(reasons, u8::to_le_bytes))?;
        let node = || steps().map(|s| s.node.unwrap_or(u32::MAX));
        part.serialize_entry("node", &column(node, u32::to_le_bytes))?;
        let text = || {
            let mut seen = Seen::default();
            steps().map(move |s| seen.number(&s.text).0)
        };
        part.serialize_entry("text", &column(text, u32::to_le_bytes))?;
        let texts = || {
            let mut seen = Seen::default();
            steps().filter_map(move |s| seen.number(&s.text).1.then_some(s.text))
        };
        part.serialize_entry("texts", &each(texts))?;
        let why = || {
            let mut told = 0;
            steps().map(move |step| {
                told += u32::from(step.why.is_some());
                if step.why.is_some() { told } else { 0 }
            })
        };
        part.serialize_entry("why", &column(why, u32::to_le_bytes))?;
        let terms = self.0.terms.len();
        let whys = || steps().filter_map(|step| step.why);
        let whys = || whys().map(|why| grounds(&why, terms));
        part.serialize_entry("whys", &each(whys))?;
        part.serialize_entry("tests", &self.0.tests)?;
        part.end()
    }
}

/// Texts by order of first mention; of each only a hash is kept, as they are megabytes.
#[derive(Default)]
struct Seen(BTreeMap<u64, u32>);

impl Seen {
    /// Its number, and whether it is new.
    fn number(&mut self, text: &str) -> (u32, bool) {
        let mut hash = std::hash::DefaultHasher::new();
        text.hash(&mut hash);
        let next = self.0.len() as u32;
        let number = *self.0.entry(hash.finish()).or_insert(next);
        (number, number == next)
    }
}

/// What an iterator gives, each made when it is written.
fn each<I: Iterator<Item: Serialize>>(all: impl Fn() -> I) -> impl Serialize {
    struct Each<F>(F);
    impl<I: Iterator<Item: Serialize>, F: Fn() -> I> Serialize for Each<F> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq((self.0)())
        }
    }
    Each(all)
}

/// What a decision rests on, without what it has not; a few thousand of them lie in a page.
fn grounds(why: &Why, terms: usize) -> Value {
    let mut told = serde_json::Map::new();
    let mut tell = |key: &str, value: Value| {
        if value.as_array().is_none_or(|all| !all.is_empty()) {
            told.insert(key.to_owned(), value);
        }
    };
    tell("nodes", json!(why.nodes));
    let funnel = why.funnel.iter().enumerate();
    let funnel = funnel.map(|(test, left)| json!([test, left]));
    tell("funnel", funnel.collect());
    tell("ahead", json!(why.ahead));
    if let Some(between) = why.start_seconds {
        tell("start", between.iter().map(|&t| rounded(t, 3)).collect());
    }
    if !why.start_text.is_empty() {
        tell("start_text", (*why.start_text).into());
    }
    if why.tried != Tried::Nothing {
        tell("tried", (why.tried as u8).into());
    }
    let changes = why.changes.iter();
    let changes = changes.map(|c| json!([c.text, rounded(c.start_seconds, 3)]));
    tell("changes", changes.collect());
    let candidates = why.candidates.iter().map(|c| {
        let terms = c.terms[..terms].iter().map(|&t| rounded(t, 4));
        json!([c.node, rounded(c.score, 4), terms.collect::<Value>()])
    });
    tell("candidates", candidates.collect());
    Value::Object(told)
}

/// Numbers as bytes, in base64, made when they are written.
fn column<T, const N: usize, I: Iterator<Item = T>>(
    values: impl Fn() -> I,
    bytes: fn(T) -> [u8; N],
) -> impl Serialize {
    struct Column<F>(F);
    impl<I: Iterator<Item = u8>, F: Fn() -> I> fmt::Display for Column<F> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let mut all = (self.0)();
            // Threes of bytes are fours of letters, so that parts join without padding.
            let (mut part, mut letters) = ([0; 768], [0; 1_024]);
            loop {
                let mut filled = 0;
                for (place, byte) in part.iter_mut().zip(&mut all) {
                    *place = byte;
                    filled += 1;
                }
                let written = BASE64.encode_slice(&part[..filled], &mut letters);
                let written = written.expect("four letters for three bytes");
                f.write_str(std::str::from_utf8(&letters[..written]).expect("letters"))?;
                if filled < part.len() {
                    return Ok(());
                }
            }
        }
    }
    impl<I: Iterator<Item = u8>, F: Fn() -> I> Serialize for Column<F> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }
    Column(move || values().flat_map(bytes))
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
