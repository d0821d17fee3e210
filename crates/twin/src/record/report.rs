//! What did it look like?
//!
//! `report.html`, one file that needs nothing else: style, script and data lie in
//! it, it asks no server for anything (its content policy forbids it to), and opens
//! from a disk. Its sources are `web/report.{html,css,js}`; this file only hands them the
//! numbers, rounded to what a screen can show.
//!
//! Why no library: docs/decisions/2026-11-21-a-report-asks-nobody.md.
//!
//! Three pages share them: one run ([`run_page`]), several runs over each other
//! ([`Comparison`]), and one parameter through many runs ([`Sweep`]).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::{Value, json};

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

/// One run of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SweepPoint {
    /// The parameter's value.
    pub value: f64,
    /// The loop's gain times its delay, which alone decides what it does.
    pub gain_times_delay: f64,
    /// How far it swung past where it settled, as a fraction of the step.
    pub overshoot: f64,
    /// Whether the swings die out.
    pub stable: bool,
    /// Whether every invariant held.
    pub held: bool,
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
            "map": series.map().map(map),
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
    // Inside a script element only `</` and `<!--` mean anything to the browser, and
    // inside JSON a `<` occurs in strings only, where it can be written like this.
    let data = data.to_string().replace('<', "\\u003c");
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
    [
        before,
        &title,
        head,
        include_str!("../../../../web/report.css"),
        body,
        &data,
        between,
        include_str!("../../../../web/report.js"),
        after,
    ]
    .concat()
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
                    let column = group.column(metric).iter();
                    let column = column.map(|&v| rounded(f64::from(v), decimals(metric)));
                    columns.insert(metric.name().to_owned(), column.collect());
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

const fn decimals(metric: Metric) -> i32 {
    match metric {
        Metric::KelvinMean | Metric::KelvinMax | Metric::KelvinP99 => 2,
        Metric::Load | Metric::Clock | Metric::Utilisation => 4,
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
