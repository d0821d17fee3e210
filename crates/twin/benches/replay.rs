//! The day of 1,024 nodes: what it costs, whether a day costs more memory than an hour, and
//! what looking at heat is worth. Prints rows for `docs/bench/replay.md`.
//!
//! ```text
//! cargo bench -p twin --bench replay -- DIR [--universe NAME] [--only CASE] [--record] [--set KEY=VALUE]...
//! ```
//!
//! With `--record` everything is recorded as `cosmos twin replay` does it, and thrown away.
//! DIR holds `philly/`, `openb/` and `frontier/`; without it nothing is measured. Every row
//! is a process of its own, so that the most memory it held is its own.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use twin::observer::Nobody;
use twin::rehearsal::{Replay, Request, Universe, peak_rss_bytes, run, simulate};
use twin::universe::{Document, Override};

/// What is changed in the universe for each row.
const CASES: [(&str, &[&str]); 4] = [
    ("an hour", &["time.end=1 h"]),
    ("a day", &[]),
    ("a day, blind to heat", &["scheduler.heat_aware=false"]),
    ("three days", &["time.end=3 d"]),
];

fn main() -> ExitCode {
    let (mut folder, mut settings, mut only, mut records) = (None, Vec::new(), None, false);
    let mut universe = "gpu-1024".to_owned();
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            // `cargo bench` says so to every benchmark.
            "--bench" => {}
            "--set" => settings.extend(words.next()),
            "--record" => records = true,
            "--universe" => universe = words.next().unwrap_or(universe),
            "--only" => only = words.next().and_then(|n| n.parse::<usize>().ok()),
            _ => folder = Some(PathBuf::from(word)),
        }
    }
    let Some(folder) = folder else {
        println!(
            "skipped: say where the recorded work is, a folder with philly, openb and frontier"
        );
        return ExitCode::SUCCESS;
    };
    if let Some(case) = only {
        println!(
            "{}",
            row((&universe, &folder), CASES[case], &settings, records)
        );
        return ExitCode::SUCCESS;
    }
    println!(
        "| run | simulated | wall s | CPU s | peak RSS | jobs | finished | GPUs allocated | kept in window, GPU-h | lost, GPU-h | \
         hottest over throttle, K | waiting p95 s | history | broken | distances |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|---|---|"
    );
    for case in 0..CASES.len() {
        let mut command = Command::new(env::current_exe().expect("this program has a path"));
        command.arg(&folder).args(["--only", &case.to_string()]);
        command.args(["--universe", &universe]);
        for setting in &settings {
            command.args(["--set", setting]);
        }
        if records {
            command.arg("--record");
        }
        let status = command.stdin(Stdio::null()).status();
        if !status.expect("this program can be started again").success() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// One replay in this process.
fn row(
    (universe, folder): (&str, &Path),
    (name, changes): (&str, &[&str]),
    settings: &[String],
    records: bool,
) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../universes");
    let file = file.join(format!("{universe}.toml"));
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let overrides: Vec<String> = changes.iter().map(|&c| c.to_owned()).collect();
    let overrides = [&overrides[..], settings].concat();
    let parsed: Vec<Override> = (overrides.iter())
        .map(|text| text.parse().unwrap_or_else(|e| panic!("{text}: {e}")))
        .collect();
    let mut universe = Document::parse(&file.display().to_string(), &text, &parsed)
        .and_then(|document| Universe::read(&document))
        .unwrap_or_else(|problems| panic!("{problems}"));
    universe
        .load_trace(Some(folder))
        .unwrap_or_else(|e| panic!("{e}"));
    let place = tempfile::tempdir().expect("there is room for a run");
    let request = Request {
        seed: universe.seed(),
        threads: 1,
        out: Some(place.path().join("run")),
        overrides,
        command: String::new(),
        replay: records.then(Replay::default),
        inputs: None,
    };
    let summary = if records {
        let goes_on = &mut |_| ControlFlow::Continue(());
        let finished = run(universe, &request, goes_on).unwrap_or_else(|e| panic!("{e}"));
        // The summary is written before the page is, which may hold more.
        let mut summary = finished.summary;
        summary.peak_rss_bytes = peak_rss_bytes();
        summary
    } else {
        simulate(universe, &request, &mut Nobody).summary
    };
    let tile_seconds = summary.tiles as f64 * summary.simulated_seconds;
    let cpu = summary.os_overhead_fraction.unwrap_or(f64::NAN) * tile_seconds;
    let broken = summary.invariants.iter().filter(|i| !i.held);
    let broken: Vec<&str> = broken.map(|i| i.name.as_str()).collect();
    let replay = summary.replay.expect("a site replays");
    let distances = replay.distances.iter();
    let distances =
        distances.map(|d| format!("{} of {} {:.3}", d.replayed, d.measured, d.distance));
    let distances: Vec<String> = distances.collect();
    let site = summary.site.expect("a site is one");
    let window = replay.fault_window.unwrap_or_default();
    format!(
        "| {name} | {} | {:.1} | {cpu:.1} | {:.0} MB | {} | {} | {:.1} % | {:.0} | {:.0} | {:+.1} | {:.0} | `{:.8}…` | {} | {} |",
        wire::Nanos::from_secs_f64(summary.simulated_seconds),
        summary.wall_seconds,
        summary.peak_rss_bytes as f64 / 1e6,
        site.arrived,
        site.finished,
        site.gpu_allocated_fraction * 100.0,
        window.gpu_seconds / 3_600.0,
        window.gpu_seconds_lost / 3_600.0,
        replay.max_kelvin_over_throttle,
        site.waiting_seconds.p95,
        format!("{:032x}", summary.history_hash),
        broken.join(", "),
        distances.join(", "),
    )
}
