//! PHOLD at a million logical processes, beside one binary heap on the same
//! machine. Prints a page for `docs/bench/phold.md`, or JSON.
//!
//! Every measurement is a process of its own, so that memory freed by one does
//! not hide what the next one needs. The measurements take turns, several rounds
//! of them, because the machine has other users; the fastest round counts.

use std::fmt::Write as _;
use std::process::{Command, ExitCode};
use std::{env, fs};

use twin::engine::phold::{self, Model, Reach, Reference};
use wire::{Instant, Nanos};

mod host;

/// Members of a cell.
const MEMBERS: u32 = 1_000;

/// Virtual time before the clock starts, so that queues have found their shape.
const WARM_UP: Nanos = Nanos::from_secs(3);

#[derive(Clone, Copy)]
struct Variant {
    name: &'static str,
    remote: f64,
    reach: Reach,
    lookahead: Nanos,
}

const VARIANTS: [Variant; 5] = [
    Variant {
        name: "cell-local, windows of 10 s",
        remote: 1.0,
        reach: Reach::Cell,
        lookahead: Nanos::from_secs(10),
    },
    Variant {
        name: "cell-local",
        remote: 1.0,
        reach: Reach::Cell,
        lookahead: phold::LOOKAHEAD,
    },
    Variant {
        name: "remote 0",
        remote: 0.0,
        reach: Reach::Everywhere,
        lookahead: phold::LOOKAHEAD,
    },
    Variant {
        name: "remote 0.25",
        remote: 0.25,
        reach: Reach::Everywhere,
        lookahead: phold::LOOKAHEAD,
    },
    Variant {
        name: "uniform (remote 1.0)",
        remote: 1.0,
        reach: Reach::Everywhere,
        lookahead: phold::LOOKAHEAD,
    },
];

/// Threads, 0 for the rival: one binary heap.
type Runner = usize;

struct Options {
    lps: u32,
    seconds: u64,
    rounds: usize,
    threads: usize,
    json: bool,
    /// Only this variant and this runner, in this process.
    only: Option<(usize, Runner)>,
}

#[derive(Clone, Copy)]
struct Figures {
    events: u64,
    wall_s: f64,
    cpu_s: f64,
    /// At the worst moment of the run.
    bytes_per_lp: f64,
    history: u128,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!(
                "{wrong}\nusage: phold [--lps N] [--seconds VIRTUAL] [--rounds N] [--threads MOST] [--json]"
            );
            return ExitCode::from(2);
        }
    };
    if let Some((variant, runner)) = options.only {
        let Figures {
            events,
            wall_s,
            cpu_s,
            bytes_per_lp,
            history,
        } = measure(&options, VARIANTS[variant], runner);
        println!("{events} {wall_s} {cpu_s} {bytes_per_lp} {history}");
        return ExitCode::SUCCESS;
    }

    let cases = (0..VARIANTS.len())
        .flat_map(|variant| (0..=options.threads).map(move |runner| (variant, runner)))
        // The rival has no windows: their width makes no difference to it.
        .filter(|&(variant, runner)| variant != 0 || runner != 0)
        .collect::<Vec<_>>();
    let mut rounds = vec![Vec::new(); cases.len()];
    for round in 0..options.rounds {
        for (case, &(variant, runner)) in cases.iter().enumerate() {
            eprint!(
                "\rround {} of {}, {} of {}   ",
                round + 1,
                options.rounds,
                case + 1,
                cases.len()
            );
            rounds[case].push(in_a_process(&options, variant, runner));
        }
    }
    eprintln!();
    let rows = cases.iter().zip(&rounds).collect::<Vec<_>>();
    for &(&(variant, _), figures) in &rows {
        let agreed = &rounds[cases.iter().position(|c| c.0 == variant).unwrap_or(0)][0];
        assert!(
            figures
                .iter()
                .all(|f| f.history == agreed.history && f.events == agreed.events),
            "{}: two runners disagree about what happened",
            VARIANTS[variant].name
        );
    }
    if options.json {
        println!("{}", json(&options, &rows));
    } else {
        println!("{}", page(&options, &rows));
    }
    ExitCode::SUCCESS
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        lps: 1_000_000,
        seconds: 10,
        rounds: 3,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        json: false,
        only: None,
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().unwrap_or_default();
            value
                .parse::<usize>()
                .map_err(|_| format!("{word} {value:?}: a number is expected"))
        };
        match word.as_str() {
            "--lps" => options.lps = (number()?.div_ceil(MEMBERS as usize)) as u32 * MEMBERS,
            "--seconds" => options.seconds = number()? as u64,
            "--rounds" => options.rounds = number()?.max(1),
            "--threads" => options.threads = number()?.max(1),
            "--only" => options.only = Some((number()?, number()?)),
            "--json" => options.json = true,
            // `cargo bench` says so to every benchmark.
            "--bench" => {}
            _ => return Err(format!("{word}: no such option")),
        }
    }
    Ok(options)
}

fn in_a_process(options: &Options, variant: usize, runner: Runner) -> Figures {
    let arguments = [
        ("--lps", options.lps as usize),
        ("--seconds", options.seconds as usize),
        ("--only", variant),
    ];
    let output = Command::new(env::current_exe().expect("this program has a path"))
        .args(
            arguments
                .iter()
                .flat_map(|(flag, n)| [(*flag).to_owned(), n.to_string()]),
        )
        .arg(runner.to_string())
        .output()
        .expect("this program can be started again");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("figures are ASCII");
    let words = text.split_whitespace().collect::<Vec<_>>();
    let [events, wall_s, cpu_s, bytes_per_lp, history] = words[..] else {
        panic!("five figures expected, found {text:?}");
    };
    let float = |word: &str| word.parse::<f64>().expect("a figure");
    Figures {
        events: events.parse().expect("a count"),
        wall_s: float(wall_s),
        cpu_s: float(cpu_s),
        bytes_per_lp: float(bytes_per_lp),
        history: history.parse().expect("a hash"),
    }
}

fn measure(options: &Options, variant: Variant, runner: Runner) -> Figures {
    let model = Model {
        cells: options.lps / MEMBERS,
        members: MEMBERS,
        remote: variant.remote,
        reach: variant.reach,
        seed: 1,
    };
    let warm = Instant::EPOCH + WARM_UP;
    let until = warm + Nanos::from_secs(options.seconds);
    let memory_before = status_kib("VmRSS:");
    let (events, wall_s, cpu_s, history);
    if runner == 0 {
        let mut rival = Reference::new(model);
        rival.run_until(warm);
        let events_before = rival.events();
        (wall_s, cpu_s) = clocked(|| rival.run_until(until));
        events = rival.events() - events_before;
        history = rival.history();
    } else {
        let mut engine = model.engine(variant.lookahead, runner);
        engine.run(warm);
        let events_before = engine.events();
        (wall_s, cpu_s) = clocked(|| {
            engine.run(until);
        });
        events = engine.events() - events_before;
        history = model.history(engine.processes());
    }
    let grown = status_kib("VmHWM:") - memory_before;
    Figures {
        events,
        wall_s,
        cpu_s,
        bytes_per_lp: grown * 1024.0 / f64::from(options.lps),
        history,
    }
}

/// Seconds by the wall, and seconds of processor time in all threads.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark is about the host's time"
)]
fn clocked(work: impl FnOnce()) -> (f64, f64) {
    let (wall, cpu) = (std::time::Instant::now(), processor_s());
    work();
    (wall.elapsed().as_secs_f64(), processor_s() - cpu)
}

/// Processor time of this process including threads that have ended, to the
/// kernel's hundredth of a second.
fn processor_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field, the program's name, may contain anything up to the last
    // parenthesis. Fields 14 and 15 are user and system time.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |field: usize| {
        let word = after_name.split_whitespace().nth(field - 3);
        word.and_then(|word| word.parse::<f64>().ok())
            .unwrap_or(f64::NAN)
    };
    (ticks(14) + ticks(15)) / 100.0
}

fn status_kib(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    value
        .and_then(|value| value.split_whitespace().next())
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(f64::NAN)
}

type Row<'a> = (&'a (usize, Runner), &'a Vec<Figures>);

impl Figures {
    fn rate(&self) -> f64 {
        self.events as f64 / self.wall_s
    }

    /// Events for each second a core worked on them. Other users of the machine
    /// make the wall's seconds longer, but hardly these.
    fn rate_per_core(&self) -> f64 {
        self.events as f64 / self.cpu_s
    }
}

fn best(figures: &[Figures], rate: impl Fn(&Figures) -> f64) -> f64 {
    figures.iter().map(rate).fold(0.0, f64::max)
}

fn median(figures: &[Figures], rate: impl Fn(&Figures) -> f64) -> f64 {
    let mut rates = figures.iter().map(rate).collect::<Vec<_>>();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn runner_name(runner: Runner) -> String {
    match runner {
        0 => "binary heap".to_owned(),
        1 => "1 thread".to_owned(),
        n => format!("{n} threads"),
    }
}

fn page(options: &Options, rows: &[Row<'_>]) -> String {
    let Options {
        lps,
        seconds,
        rounds,
        ..
    } = options;
    let mut page = format!(
        "# PHOLD\n\n\
         `cargo bench -p twin --bench phold -- --lps {lps} --seconds {seconds} --rounds {rounds}`\n\n\
         {}. Shared with other users, so the best of {rounds} rounds counts; the median is given beside it.\n\n\
         {lps} logical processes in cells of {MEMBERS}, one event each at the start, delay 0.1 s + Exp(0.9 s), \
         {seconds} virtual seconds after {} of warming up. Windows are 0.1 s wide, the lookahead, unless said otherwise. \
         *Per core* is events for each second of processor time over all threads; the ratio to the binary heap is of these, \
         because the other users make the wall's seconds longer. *Bytes per LP* is the growth of \
         resident memory at its peak. The *binary heap* is the same model on one `std` heap, in global order. All \
         runners of a model end with the same history, which the benchmark asserts.\n\n\
         The figure to leave ten times behind is that of ROSS at 10⁶ logical processes, in the order of 0.1–0.2 M events/s \
         on two cores; it was not run here.\n\n\
         | model | runner | events | wall s | M events/s | median | M events/s per core | × binary heap | bytes per LP | history |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|---|\n",
        host::machine(),
        WARM_UP,
    );
    for &(&(variant, runner), figures) in rows {
        // The first variant differs from the second by its windows alone.
        let rival = (rows.iter())
            .find(|((v, r), _)| *v == variant.max(1) && *r == 0)
            .map_or(f64::NAN, |(_, figures)| {
                best(figures, Figures::rate_per_core)
            });
        let rate = best(figures, Figures::rate);
        let per_core = best(figures, Figures::rate_per_core);
        let first = figures[0];
        let memory = figures.iter().map(|f| f.bytes_per_lp).fold(0.0, f64::max);
        writeln!(
            page,
            "| {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {memory:.0} | `{:08x}…` |",
            VARIANTS[variant].name,
            runner_name(runner),
            first.events,
            first.events as f64 / rate,
            rate / 1e6,
            median(figures, Figures::rate) / 1e6,
            per_core / 1e6,
            per_core / rival,
            first.history >> 96,
        )
        .expect("a string takes everything");
    }
    page
}

fn json(options: &Options, rows: &[Row<'_>]) -> String {
    let rows = rows.iter().map(|&(&(variant, runner), figures)| {
        let first = figures[0];
        // Processor time is counted in hundredths of a second: a small model may
        // have used none, and JSON has no infinity.
        let per_core = best(figures, Figures::rate_per_core);
        let per_core = if per_core.is_finite() {
            format!("{per_core:.0}")
        } else {
            "null".to_owned()
        };
        let memory = figures.iter().map(|f| f.bytes_per_lp).fold(0.0, f64::max);
        format!(
            "{{\"model\":\"{}\",\"threads\":{runner},\"events\":{},\"events_per_s\":{:.0},\
             \"events_per_s_median\":{:.0},\"events_per_s_per_core\":{},\"bytes_per_lp\":{memory:.1},\
             \"history\":\"{:032x}\"}}",
            VARIANTS[variant].name,
            first.events,
            best(figures, Figures::rate),
            median(figures, Figures::rate),
            per_core,
            first.history,
        )
    });
    format!(
        "{{\"machine\":\"{}\",\"lps\":{},\"seconds\":{},\"rounds\":{},\"rows\":[{}]}}",
        host::machine(),
        options.lps,
        options.seconds,
        options.rounds,
        rows.collect::<Vec<_>>().join(","),
    )
}
