//! Whole rehearsals at a million tiles: what they cost in time and memory. Writes
//! `docs/bench/universes.md`.
//!
//! Every rehearsal is a process of its own, so that the most memory it held is its
//! own. None is repeated to find a best time: each takes minutes, and a person
//! waits for the first.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use serde_json::{Value, json};
use twin::observer::Nobody;
use twin::rehearsal::{Request, Universe, simulate};
use twin::universe::{Document, Override};

/// A universe and what is changed in it.
struct Case {
    name: &'static str,
    universe: &'static str,
    settings: &'static [&'static str],
}

const CASES: [Case; 3] = [
    Case {
        name: "matroska",
        universe: "matroska",
        settings: &[],
    },
    Case {
        name: "matroska without Thermos",
        universe: "matroska",
        settings: &["thermos.enabled=false"],
    },
    Case {
        name: "swarm",
        universe: "swarm",
        settings: &[],
    },
];

struct Options {
    threads: usize,
    /// Each rehearsal again on one thread, to compare histories.
    threads_check: bool,
    /// On top of a case's own, to try this benchmark on something small.
    settings: Vec<String>,
    /// Where the page goes; `None` prints it alone.
    page: Option<PathBuf>,
    /// Only this case, in this process.
    only: Option<usize>,
}

const USAGE: &str =
    "usage: universes [--threads N] [--threads-check] [--set KEY=VALUE]... [--page FILE|-]";

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Some(case) = options.only {
        println!("{}", rehearse(&options, &CASES[case]));
        return ExitCode::SUCCESS;
    }
    let mut rows = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        eprintln!("{} on {} threads", case.name, options.threads);
        let figures = in_a_process(&options, number, options.threads);
        let alone = options.threads_check.then(|| {
            eprintln!("{} on 1 thread", case.name);
            let alone = in_a_process(&options, number, 1);
            assert_eq!(
                alone["history_hash"], figures["history_hash"],
                "{}: the number of threads changed the history",
                case.name
            );
            alone
        });
        rows.push((case, figures, alone));
    }
    let page = page(&options, &rows);
    println!("{page}");
    if let Some(path) = &options.page
        && let Err(error) = fs::write(path, &page)
    {
        eprintln!("cannot write {}: {error}", path.display());
        return ExitCode::from(1);
    }
    ExitCode::SUCCESS
}

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        threads_check: false,
        settings: Vec::new(),
        page: Some(root().join("docs/bench/universes.md")),
        only: None,
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        let number = |value: String| {
            value
                .parse::<usize>()
                .map_err(|_| format!("{word} {value:?}: a number is expected"))
        };
        match word.as_str() {
            "--threads" => options.threads = number(value())?.max(1),
            "--threads-check" => options.threads_check = true,
            "--set" => options.settings.push(value()),
            "--page" => options.page = Some(value()).filter(|path| path != "-").map(PathBuf::from),
            "--only" => {
                let case = number(value())?;
                options.only = Some(case).filter(|&case| case < CASES.len());
            }
            // `cargo bench` says so to every benchmark.
            "--bench" => {}
            _ => return Err(format!("{word}: no such option")),
        }
    }
    Ok(options)
}

fn in_a_process(options: &Options, case: usize, threads: usize) -> Value {
    let mut command = Command::new(env::current_exe().expect("this program has a path"));
    let numbers = [("--only", case), ("--threads", threads)];
    for (flag, number) in numbers {
        command.args([flag, &number.to_string()]);
    }
    for setting in &options.settings {
        command.args(["--set", setting]);
    }
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.expect("this program can be started again");
    assert!(output.status.success(), "{}", CASES[case].name);
    serde_json::from_slice(&output.stdout).expect("figures in JSON")
}

/// One rehearsal in this process, as figures.
fn rehearse(options: &Options, case: &Case) -> Value {
    let file = root().join(format!("universes/{}.toml", case.universe));
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let overrides: Vec<String> = (case.settings.iter().map(|&setting| setting.to_owned()))
        .chain(options.settings.iter().cloned())
        .collect();
    let settings: Vec<Override> = (overrides.iter())
        .map(|text| text.parse().unwrap_or_else(|e| panic!("{text}: {e}")))
        .collect();
    let universe = Document::parse(case.universe, &text, &settings)
        .and_then(|document| Universe::read(&document))
        .unwrap_or_else(|problems| panic!("{problems}"));
    let request = Request {
        seed: universe.seed(),
        threads: options.threads,
        out: None,
        overrides,
        command: String::new(),
        replay: None,
        inputs: None,
    };
    let summary = simulate(universe, &request, &mut Nobody).summary;
    // The summary tells processor time as a share of all tiles' time.
    let tile_seconds = summary.tiles as f64 * summary.simulated_seconds;
    let cpu_seconds = summary
        .os_overhead_fraction
        .map(|share| share * tile_seconds);
    let broken = summary.invariants.iter().filter(|i| !i.held);
    let broken: Vec<&str> = broken.map(|i| i.name.as_str()).collect();
    json!({
        "tiles": summary.tiles,
        "simulated_seconds": summary.simulated_seconds,
        "wall_seconds": summary.wall_seconds,
        "cpu_seconds": cpu_seconds,
        "events": summary.events,
        "peak_rss_bytes": summary.peak_rss_bytes,
        "history_hash": format!("{:032x}", summary.history_hash),
        "broken": broken,
    })
}

fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = (cpuinfo.lines())
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim());
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = (memory.lines())
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next())
        .and_then(|kib| kib.parse::<f64>().ok())
        .map_or(f64::NAN, |kib| kib / f64::from(1 << 20));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let rustc = Command::new("rustc").arg("-V").output();
    let rustc = rustc.map_or_else(
        |_| "unknown rustc".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    );
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("{cores} cores, {model}, {memory:.0} GiB, {rustc}, load average {load} at the end")
}

type Row<'a> = (&'a Case, Value, Option<Value>);

fn page(options: &Options, rows: &[Row<'_>]) -> String {
    let mut command = "cargo bench -p twin --bench universes --".to_owned();
    if options.threads_check {
        command.push_str(" --threads-check");
    }
    for setting in &options.settings {
        write!(command, " --set '{setting}'").expect("a string takes everything");
    }
    let mut page = format!(
        "# Universes\n\n\
         `{}`\n\n\
         {}.\n\n\
         Whole rehearsals of files in [universes](../../universes), on {} threads, each once and in a process of its \
         own. *CPU s* is processor time over all threads; *bytes per tile* is the most memory the process held over \
         the number of tiles. Nothing is recorded but what a report needs. *Broken* are the invariants that did \
         not hold; without Thermos some are meant to.{}\n\n\
         | universe | tiles | simulated | threads | wall s | CPU s | events | M events/s | peak RSS | bytes per tile | history | broken |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|---|\n",
        command.trim_end_matches(" --"),
        machine(),
        options.threads,
        if options.threads_check {
            " Each ran again on one thread and ended with the same history, which the benchmark asserts."
        } else {
            ""
        }
    );
    for (case, figures, alone) in rows {
        line(&mut page, case, figures, options.threads);
        if let Some(alone) = alone {
            line(&mut page, case, alone, 1);
        }
    }
    page
}

fn line(page: &mut String, case: &Case, figures: &Value, threads: usize) {
    let number = |key: &str| figures[key].as_f64().unwrap_or(f64::NAN);
    let (tiles, wall, memory) = (
        number("tiles"),
        number("wall_seconds"),
        number("peak_rss_bytes"),
    );
    let broken: Vec<&str> = (figures["broken"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    writeln!(
        page,
        "| {} | {tiles} | {} | {threads} | {wall:.1} | {:.1} | {} | {:.2} | {:.2} GB | {:.0} | `{:.8}…` | {} |",
        case.name,
        wire::Nanos::from_secs_f64(number("simulated_seconds")),
        number("cpu_seconds"),
        number("events"),
        number("events") / wall / 1e6,
        memory / 1e9,
        memory / tiles,
        figures["history_hash"].as_str().unwrap_or_default(),
        broken.join(", "),
    )
    .expect("a string takes everything");
}
