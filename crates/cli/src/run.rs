//! `cosmos twin run` and `cosmos twin sweep`.
//!
//! Everything that can be wrong with a request is found before the first event:
//! every universe of a sweep is read before any of them runs.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use telemetry::Decision;
use twin::observer::{Observer, Progress};
use twin::record::report::{self, Boundaries, SweepPoint};
use twin::record::{self, Inputs, RunDirectory};
use twin::rehearsal::{self, Finished, Given, Request, Universe};
use twin::shells::step_response::{OVERSHOOT_MIN, THEORY};
use twin::universe::{Document, Override, Sweep};
use wire::Instant;

use crate::arguments::{self, Run, Setting, Settled, SweepRun};
use crate::progress::Display;
use crate::universes;

/// How a rehearsal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Every invariant held to the end.
    Held,
    /// An invariant failed.
    Broken,
    /// Ctrl-C came first.
    Interrupted,
}

impl Outcome {
    fn of(finished: &Finished) -> Self {
        match (finished.summary.complete, finished.summary.held()) {
            (false, _) => Self::Interrupted,
            (true, true) => Self::Held,
            (true, false) => Self::Broken,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Held => Self::SUCCESS,
            Outcome::Broken => Self::from(1),
            Outcome::Interrupted => Self::from(INTERRUPTED),
        }
    }
}

/// 128 + SIGINT, as shells expect.
pub(crate) const INTERRUPTED: u8 = 130;

pub(crate) fn run(asked: &Run) -> Result<ExitCode> {
    let given = Given {
        folder: asked.settled.trace.as_deref(),
        measured: asked.measured.as_deref(),
        ..Given::default()
    };
    run_with(asked, &given, None)
}

/// What a fleet's universe does to its hosts, for people and for whoever does it to real ones.
pub(crate) fn plan(asked: &arguments::Plan) -> Result<ExitCode> {
    let universe = universes::find(&asked.universe)?;
    let config = match prepare(&universe, &asked.settings, &Given::default())? {
        Universe::Fleet(config, _) => config,
        other => bail!("universe {} is no fleet: it has no hosts", other.name()),
    };
    if asked.json {
        crate::print(&format!("{:#}\n", serde_json::to_value(&config)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("{} hosts for {}\n", config.hosts, config.end);
    for blow in &config.blows {
        let hosts: Vec<_> = blow
            .hosts
            .iter()
            .map(|host| (host + 1).to_string())
            .collect();
        let lasts = blow.until.map_or_else(
            || "to the end".to_owned(),
            |until| format!("for {}", until - blow.at),
        );
        text.push_str(&format!(
            "{:>12}  {:<9}  {}  {lasts}\n",
            blow.at.to_string(),
            blow.what.name(),
            hosts.join(", ")
        ));
    }
    crate::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn replay(asked: &arguments::Replay) -> Result<ExitCode> {
    let given = Given {
        folder: asked.run.settled.trace.as_deref(),
        jobs: &asked.jobs,
        format: asked.format.map(Into::into),
        measured: asked.run.measured.as_deref(),
    };
    for path in asked.swf.iter().chain(&asked.decisions) {
        // Found out now, and not after an hour.
        if path.symlink_metadata().is_ok() {
            bail!("{} already exists and was left as it is", path.display());
        }
    }
    run_with(&asked.run, &given, Some(asked))
}

fn run_with(
    asked: &Run,
    given: &Given<'_>,
    replay: Option<&arguments::Replay>,
) -> Result<ExitCode> {
    let universe = universes::find(&asked.settled.universe)?;
    let prepared = prepare(&universe, &asked.settings, given)?;
    if replay.is_some() && !matches!(prepared, Universe::Site(..)) {
        bail!(
            "universe {} has no jobs to replay: it is no site",
            prepared.name()
        );
    }
    let stop = watch_for_interrupt()?;
    let mut request = request(&prepared, &asked.settled, &asked.settings);
    if let Some(measured) = given.measured {
        request
            .command
            .push_str(&format!(" --measured {}", measured.display()));
    }
    if let Some(replay) = replay {
        request.command = replayed(&request.command, replay);
        request.replay = Some(rehearsal::Replay {
            swf: replay.swf.clone(),
            decisions: replay.decisions.clone(),
        });
    }
    request.inputs = Some(inputs(&universe, &prepared, given, &request)?);
    let finished = rehearse(prepared, &asked.settled, &request, &stop)?;
    if asked.settled.json {
        crate::print(&finished.summary.to_json())?;
    } else {
        crate::print(&tell(&finished))?;
    }
    Ok(Outcome::of(&finished).into())
}

pub(crate) fn sweep(asked: &SweepRun) -> Result<ExitCode> {
    let universe = universes::find(&asked.settled.universe)?;
    let (range, fixed) = one_range(&asked.settings)?;
    let with = |setting: Override| {
        let mut settings = fixed.clone();
        settings.push(setting);
        let given = Given {
            folder: asked.settled.trace.as_deref(),
            ..Given::default()
        };
        let prepared = prepare(&universe, &settings, &given);
        prepared.map(|prepared| (prepared, settings))
    };
    // Every value is read before any of them runs.
    let prepared = (range.settings()).map(with).collect::<Result<Vec<_>>>()?;
    let directory = match &asked.settled.out {
        Some(path) => RunDirectory::begin_at(path)?,
        None => RunDirectory::begin(
            Path::new("runs"),
            &format!("{}-sweep", prepared[0].0.name()),
            asked.settled.seed.unwrap_or(prepared[0].0.seed()),
        )?,
    };
    let stop = watch_for_interrupt()?;
    let mut runs = Runs {
        asked,
        stop: &stop,
        points: Vec::new(),
        intent: String::new(),
        name: String::new(),
    };
    let total = prepared.len();
    for (number, ((universe, settings), &value)) in
        prepared.into_iter().zip(&range.values).enumerate()
    {
        if !runs.run(
            universe,
            &settings,
            value,
            &format!("{} of {total}", number + 1),
        ) {
            return Ok(Outcome::Interrupted.into());
        }
    }
    // Between two values of which only one shows a thing lies its edge.
    let edges: [fn(&SweepPoint) -> bool; 2] = [
        |p| p.stable == Some(false) || p.overshoot.is_some_and(|o| o > OVERSHOOT_MIN),
        |p| p.stable == Some(false),
    ];
    for shows in edges {
        for _ in 0..BISECTIONS {
            let Some((below, above)) = runs.bracket(shows) else {
                break;
            };
            let value = f64::midpoint(below.value, above.value);
            let setting = format!("{}={value}{}", range.path, range.unit).parse()?;
            let (universe, settings) = with(setting)?;
            if !runs.run(universe, &settings, value, "refining an edge") {
                return Ok(Outcome::Interrupted.into());
            }
        }
    }
    let edge = |shows| {
        let (below, above) = runs.bracket(shows)?;
        let either_side = below.gain_times_delay.zip(above.gain_times_delay);
        either_side.map(|(below, above)| f64::midpoint(below, above))
    };
    let boundaries = Boundaries {
        overshoot_begins: edge(edges[0]),
        instability_begins: edge(edges[1]),
    };
    let sweep = record::Sweep {
        universe: runs.name.clone(),
        intent: runs.intent.clone(),
        command: sweep_command(asked),
        parameter: range.path.clone(),
        unit: range.unit.clone(),
        points: runs.points.clone(),
        boundaries,
    };
    let json = format!("{:#}\n", serde_json::to_value(&sweep)?);
    directory.write("sweep.json", &json)?;
    directory.write("report.html", &report::sweep_page(&sweep))?;
    let directory = directory.keep()?;
    if asked.settled.json {
        crate::print(&json)?;
    } else {
        crate::print(&tell_sweep(&sweep, &directory))?;
    }
    Ok(if sweep.held() {
        Outcome::Held
    } else {
        Outcome::Broken
    }
    .into())
}

/// Halvings of the interval an edge lies in: 64 times finer than the steps.
const BISECTIONS: usize = 6;

/// The runs of a sweep so far.
struct Runs<'a> {
    asked: &'a SweepRun,
    stop: &'a AtomicBool,
    /// In order of value.
    points: Vec<SweepPoint>,
    name: String,
    intent: String,
}

impl Runs<'_> {
    /// Runs one value; false if Ctrl-C came first.
    fn run(&mut self, universe: Universe, settings: &[Override], value: f64, which: &str) -> bool {
        let asked = &self.asked.settled;
        let request = request(&universe, asked, settings);
        let mut watcher = Watcher {
            display: Display::new(asked.quiet, which),
            stop: self.stop,
        };
        let outcome = rehearsal::simulate(universe, &request, &mut watcher);
        watcher.display.finish();
        let summary = outcome.summary;
        let response = outcome.step_response;
        let point = SweepPoint {
            value,
            gain_times_delay: response.map(|r| r.gain_times_delay),
            // Of what swings ever wider there is none to tell.
            overshoot: response.filter(|r| r.stable).map(|r| r.overshoot),
            stable: response.map(|r| r.stable),
            held: summary.held(),
            broken: (summary.invariants.iter().filter(|i| !i.held))
                .map(|i| i.name.clone())
                .collect(),
            tiles_lost: summary.heat.as_ref().map_or(0, |heat| heat.tiles_lost),
        };
        let at = self.points.partition_point(|p| p.value < value);
        self.points.insert(at, point);
        (self.name, self.intent) = (summary.universe, summary.intent);
        summary.complete
    }

    /// Two neighbouring values of which only the larger shows a thing.
    fn bracket(&self, shows: fn(&SweepPoint) -> bool) -> Option<(SweepPoint, SweepPoint)> {
        let first = self.points.iter().position(shows)?;
        Some((
            self.points[first.checked_sub(1)?].clone(),
            self.points[first].clone(),
        ))
    }
}

struct Watcher<'a> {
    display: Display,
    stop: &'a AtomicBool,
}

impl Observer for Watcher<'_> {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        self.display.update(progress);
        if self.stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
    fn decision(&mut self, _: &Decision, _: Option<u64>) {}
    fn event(&mut self, _: Instant, _: &'static str, _: Option<u64>, _: &str) {}
}

fn sweep_command(asked: &SweepRun) -> String {
    let mut command = format!("cosmos twin sweep {}", asked.settled.universe);
    for setting in &asked.settings {
        command.push_str(&format!(" --set '{setting}'"));
    }
    command
}

fn tell_sweep(sweep: &record::Sweep, directory: &Path) -> String {
    let mut text = format!(
        "{:>14}  {:>12}  {:>10}  {:>7}  {:>6}  broken\n",
        sweep.parameter, "gain × delay", "overshoot", "stable", "lost"
    );
    for point in &sweep.points {
        text.push_str(&format!(
            "{:>14}  {:>12}  {:>10}  {:>7}  {:>6}  {}\n",
            digits(point.value),
            or_dash(point.gain_times_delay),
            or_dash(point.overshoot),
            match point.stable {
                Some(true) => "yes",
                Some(false) => "no",
                None => "-",
            },
            point.tiles_lost,
            match point.broken.as_slice() {
                [] => "-".to_owned(),
                broken => broken.join(", "),
            },
        ));
    }
    let looped = sweep.points.iter().any(|p| p.gain_times_delay.is_some());
    if !looped {
        text.push_str("no loop between shells had anything to do: nothing to say of its edges\n");
    }
    let (overshoot, instability) = THEORY;
    for (what, found, theory) in [
        (
            "overshoot begins",
            sweep.boundaries.overshoot_begins,
            overshoot,
        ),
        (
            "instability begins",
            sweep.boundaries.instability_begins,
            instability,
        ),
    ] {
        match found {
            Some(found) => text.push_str(&format!(
                "{what} at gain × delay {found:.4}; theory {theory:.4} ({:+.1} %)\n",
                (found / theory - 1.0) * 100.0
            )),
            None if looped => text.push_str(&format!("{what}: not within these values\n")),
            None => {}
        }
    }
    text.push_str(&format!(
        "report: {}\n",
        directory.join("report.html").display()
    ));
    text
}

fn or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), digits)
}

/// The one range of a sweep, and what is set besides.
fn one_range(settings: &[Setting]) -> Result<(&Sweep, Vec<Override>)> {
    let mut ranges = settings.iter().filter_map(|setting| match setting {
        Setting::Range(range) => Some(range),
        Setting::One(_) => None,
    });
    let fixed = settings.iter().filter_map(|setting| match setting {
        Setting::One(one) => Some(one.clone()),
        Setting::Range(_) => None,
    });
    match (ranges.next(), ranges.next()) {
        (Some(range), None) => Ok((range, fixed.collect())),
        (None, _) => {
            bail!("nothing to sweep: no --set is a range, such as thermos.gain=0.1/h..2/h:20")
        }
        (Some(_), Some(second)) => bail!(
            "two ranges: a sweep varies one key, and {} is a second",
            second.path
        ),
    }
}

/// Reads a universe with settings in place; nothing runs yet.
pub(crate) fn prepare(
    universe: &universes::Universe,
    settings: &[Override],
    given: &Given<'_>,
) -> Result<Universe> {
    let document = Document::parse(&universe.file, &universe.text, settings)?;
    let mut universe = Universe::read(&document)?;
    universe.load(given)?;
    Ok(universe)
}

/// What a run is made from, so that it can be made again.
fn inputs(
    universe: &universes::Universe,
    prepared: &Universe,
    given: &Given<'_>,
    request: &Request,
) -> Result<Inputs> {
    let jobs = given.jobs.iter().map(|path| path.canonicalize());
    let mut inputs = Inputs {
        universe: universe.file.clone(),
        text: universe.text.clone(),
        settings: request.overrides.clone(),
        folder: given.folder.map(Path::to_owned),
        jobs: jobs.collect::<Result<_, _>>()?,
        format: given.format,
        files: Vec::new(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let files = prepared.files(given)?;
    inputs
        .read(&files)
        .context("cannot take the fingerprint of what is read")?;
    Ok(inputs)
}

/// The one place where the twin is called.
fn rehearse(
    universe: Universe,
    asked: &Settled,
    request: &Request,
    stop: &AtomicBool,
) -> Result<Finished> {
    let mut display = Display::new(asked.quiet, "");
    let finished = rehearsal::run(universe, request, &mut |progress| {
        display.update(progress);
        if stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    display.finish();
    Ok(finished?)
}

fn request(universe: &Universe, asked: &Settled, settings: &[Override]) -> Request {
    let seed = asked.seed.unwrap_or(universe.seed());
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let overrides: Vec<String> = settings.iter().map(ToString::to_string).collect();
    Request {
        seed,
        threads: asked.threads.map_or_else(cores, usize::from),
        out: asked.out.clone(),
        command: command(asked, &overrides, seed),
        overrides,
        replay: None,
        inputs: None,
    }
}

/// The one command that repeats a run.
fn command(asked: &Settled, overrides: &[String], seed: u64) -> String {
    let mut command = format!("cosmos twin run {} --seed {seed}", asked.universe);
    for setting in overrides {
        command.push_str(&format!(" --set '{setting}'"));
    }
    if let Some(trace) = &asked.trace {
        command.push_str(&format!(" --trace {}", trace.display()));
    }
    command
}

/// The same for a replay.
fn replayed(command: &str, asked: &arguments::Replay) -> String {
    let mut command = command.replacen("twin run", "twin replay", 1);
    for file in &asked.jobs {
        command.push_str(&format!(" --jobs {}", file.display()));
    }
    if let Some(format) = asked.format {
        let word = clap::ValueEnum::to_possible_value(&format);
        let word = word.map_or(String::new(), |w| w.get_name().to_owned());
        command.push_str(&format!(" --format {word}"));
    }
    command
}

/// A run in a few lines.
fn tell(finished: &Finished) -> String {
    let summary = &finished.summary;
    let mut text = format!(
        "{}: {}\n{} tiles, {} simulated in {:.1} s ({} events/s), {:.0} MB\n",
        summary.universe,
        summary.intent,
        summary.tiles,
        wire::Nanos::from_secs_f64(summary.simulated_seconds),
        summary.wall_seconds,
        crate::progress::thousands(summary.events_per_second),
        summary.peak_rss_bytes as f64 / 1e6,
    );
    for invariant in &summary.invariants {
        match &invariant.first_violation {
            None => text.push_str(&format!("  held    {}\n", invariant.name)),
            Some(v) => text.push_str(&format!(
                "  FAILED  {}: {} ({}; found {}, allowed {}) at {}\n",
                invariant.name,
                v.text,
                v.subject,
                with_unit(v.found, &v.unit),
                with_unit(v.bound, &v.unit),
                wire::Nanos::from_secs_f64(v.seconds),
            )),
        }
    }
    if let Some(heat) = &summary.heat {
        text.push_str(&format!(
            "  heat    {} tiles lost, hottest {:+.1} K from its limit\n",
            heat.tiles_lost, heat.max_kelvin_over_limit
        ));
    }
    if let Some(m) = &summary.membership {
        let d = &m.detection_seconds;
        let detection = if d.max.is_nan() {
            "no failure to detect".to_owned()
        } else {
            format!(
                "detection p50 {:.2} s, p99 {:.2} s, max {:.2} s",
                d.p50, d.p99, d.max
            )
        };
        text.push_str(&format!(
            "  members {detection}; {} false removals\n",
            m.false_removals
        ));
    }
    if let Some(fleet) = &summary.fleet {
        text.push_str(&tell_fleet(fleet));
    }
    if let Some(braid) = &summary.braid {
        text.push_str(&tell_braid(braid));
    }
    if let Some(site) = &summary.site {
        let waiting = if site.waiting > 0 {
            format!(
                "; {} still wait at the end, with them p95 is at least {} s",
                site.waiting,
                said(site.waiting_at_least_seconds.p95, 0)
            )
        } else {
            String::new()
        };
        text.push_str(&format!(
            "  site    {} jobs placed, {} refused; those placed waited p95 {} s{waiting}; GPUs {:.2} % allocated; \
             throttled {:.0} device-seconds; loops overloaded {:.0} s\n",
            site.placed,
            site.refused,
            said(site.waiting_seconds.p95, 0),
            site.gpu_allocated_fraction * 100.0,
            site.throttled_device_seconds,
            site.loop_overload_seconds,
        ));
    }
    if let (Some(replay), true) = (&summary.replay, summary.site.is_some()) {
        text.push_str(&tell_replay(replay));
    }
    if !summary.complete {
        text.push_str("stopped before its end; what there is was kept\n");
    }
    text.push_str(&format!(
        "report: {}\n",
        finished.directory.join("report.html").display()
    ));
    text
}

fn tell_fleet(fleet: &record::summary::Fleet) -> String {
    let mut text = format!("  {} rehearsals\n", fleet.rehearsals);
    let row = |name: &str, count: u64, q: &record::summary::Quantiles| {
        format!(
            "    {name:<9}  {count:>7} times  p50 {:>6} s  p99 {:>6} s  max {:>6} s\n",
            said(q.p50, 2),
            said(q.p99, 2),
            said(q.max, 2)
        )
    };
    for span in &fleet.spans {
        text.push_str(&format!("  {}\n", span.what));
        text.push_str(&row("predicted", span.predicted, &span.predicted_seconds));
        if fleet.measured {
            text.push_str(&row("measured", span.measured, &span.measured_seconds));
            text.push_str(&format!(
                "    measured over predicted, p50: {}\n",
                said(span.ratio_p50, 2)
            ));
        }
    }
    for served in &fleet.served {
        text.push_str(&format!(
            "  served in {}: {} replicas ran, which makes {} answers/s",
            served.during,
            said(served.replicas, 2),
            said(served.predicted_per_second, 1)
        ));
        if fleet.measured {
            text.push_str(&format!(
                "; measured {} answers/s: {} answered, {} lost, {} taken by nobody, {} turned away and asked elsewhere",
                said(served.measured_per_second, 1),
                served.answered,
                served.lost,
                served.nowhere,
                served.turned_away
            ));
        }
        text.push('\n');
    }
    text
}

fn tell_braid(braid: &record::summary::Braid) -> String {
    let mut text = format!(
        "  work    {} of {} pieces ended; {} turns, {} too late; {} processes moved\n  lines   {} packets, {} lost; a projection takes {} bytes\n",
        braid.ended,
        braid.begun,
        braid.turns,
        braid.missed,
        braid.migrated,
        braid.packets,
        braid.packets_lost,
        braid.projection_bytes
    );
    for rebuilds in &braid.rebuilds {
        text.push_str(&format!(
            "  rebuilt {} times after {}, running again after p50 {} ms, max {} ms\n",
            rebuilds.times,
            rebuilds.after,
            said(rebuilds.seconds.p50 * 1e3, 1),
            said(rebuilds.seconds.max * 1e3, 1)
        ));
    }
    for scale in &braid.scale {
        text.push_str(&format!(
            "  {:>9} players: {} bytes and {} packets for each interval\n",
            scale.players,
            said(scale.bytes, 0),
            said(scale.packets, 1)
        ));
    }
    text
}

/// A number as people read it; a dash for what nobody measured.
fn said(number: f64, digits: usize) -> String {
    if number.is_finite() {
        format!("{number:.digits$}")
    } else {
        "–".to_owned()
    }
}

fn tell_replay(replay: &record::summary::Replay) -> String {
    let hours = |gpu_seconds: f64| gpu_seconds / 3_600.0;
    let mut text = format!(
        "  work    {:.0} GPU-hours kept, {:.0} lost; {} gangs, {} backfilled, {} preempted, {} started again; \
         slowdown p50 {}, p95 {}\n",
        hours(replay.gpu_seconds),
        hours(replay.gpu_seconds_lost),
        replay.gangs,
        replay.backfilled,
        replay.preempted,
        replay.restarted,
        said(replay.slowdown.p50, 2),
        said(replay.slowdown.p95, 2),
    );
    if replay.left_out > 0 {
        text.push_str(&format!(
            "  left out  {} jobs of the lists never ran, or did not say what they took\n",
            replay.left_out
        ));
    }
    if replay.after_end > 0 {
        text.push_str(&format!(
            "  left out  {} jobs of the lists come after the end of the run (time.end)\n",
            replay.after_end
        ));
    }
    if let Some(window) = &replay.fault_window {
        text.push_str(&format!(
            "  faults  while something was broken {:.0} GPU-hours of work were done, and {:.0} lost with what was stopped, \
             work done before included; hottest device {:+.1} K from where it throttles itself, {:.0} device-seconds \
             throttled so\n",
            // What is kept may be less than nothing: what is lost may have been done before.
            hours(window.gpu_seconds + window.gpu_seconds_lost),
            hours(window.gpu_seconds_lost),
            window.max_kelvin_over_throttle,
            window.throttled_hot_device_seconds,
        ));
    }
    for tenant in replay.tenants.iter().filter(|t| t.arrived > 0) {
        text.push_str(&format!(
            "  tenant  {:8} {:6} jobs, {} wait at the end, {:>5} % of GPUs, waiting p50 {} s, p95 {} s, slowdown p95 {}\n",
            tenant.name,
            tenant.arrived,
            tenant.waiting,
            said(tenant.gpu_share * 100.0, 2),
            said(tenant.waiting_seconds.p50, 0),
            said(tenant.waiting_seconds.p95, 0),
            said(tenant.slowdown.p95, 1),
        ));
    }
    for distance in &replay.distances {
        text.push_str(&format!(
            "  measured  {}, {}: distance {:.3}\n",
            distance.measured, distance.replayed, distance.distance
        ));
    }
    text
}

fn with_unit(value: f64, unit: &str) -> String {
    format!("{} {unit}", digits(value)).trim_end().to_owned()
}

/// Six significant digits at most.
pub(crate) fn digits(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let decimals = (5 - value.abs().log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Set by the first Ctrl-C, so that a rehearsal ends in order and keeps what it
/// has; the second one takes away what is not whole and ends the process at once.
pub(crate) fn watch_for_interrupt() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::Relaxed) {
            for left in RunDirectory::abandon_all() {
                anstream::eprintln!("could not remove {}", left.display());
            }
            std::process::exit(i32::from(INTERRUPTED));
        }
        anstream::eprintln!("\nstopping; once more to stop at once");
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swept(settings: &[&str]) -> Result<String> {
        let settings: Vec<Setting> = settings.iter().map(|text| text.parse().unwrap()).collect();
        one_range(&settings).map(|(range, fixed)| format!("{} {}", range.path, fixed.len()))
    }

    #[test]
    fn a_sweep_varies_exactly_one_key() {
        assert_eq!(swept(&["a=1..2:2", "c=x"]).unwrap(), "a 1");
        assert_eq!(
            swept(&["c=x"]).unwrap_err().to_string(),
            "nothing to sweep: no --set is a range, such as thermos.gain=0.1/h..2/h:20"
        );
        assert_eq!(
            swept(&["a=1..2:2", "b=1..2:2"]).unwrap_err().to_string(),
            "two ranges: a sweep varies one key, and b is a second"
        );
    }

    #[test]
    fn work_lost_in_a_fault_is_never_told_as_less_than_nothing_kept() {
        let hours = |n: f64| n * 3_600.0;
        let replay = record::summary::Replay {
            fault_window: Some(record::summary::FaultWindow {
                // 903 done, and 2,000 lost that had mostly been done before.
                gpu_seconds: hours(-1_097.0),
                gpu_seconds_lost: hours(2_000.0),
                ..Default::default()
            }),
            ..Default::default()
        };
        let text = tell_replay(&replay);
        assert!(
            text.contains(
                "while something was broken 903 GPU-hours of work were done, and 2000 lost with what was stopped, \
                 work done before included"
            ),
            "{text}"
        );
    }

    #[test]
    fn what_nobody_measured_is_a_dash_and_what_was_left_out_is_said() {
        let unknown = record::summary::Quantiles::UNKNOWN;
        let tenant = record::summary::Tenant {
            name: "idle".to_owned(),
            arrived: 1,
            waiting_seconds: unknown,
            slowdown: unknown,
            gpu_share: f64::NAN,
            ..Default::default()
        };
        let replay = record::summary::Replay {
            left_out: 3,
            after_end: 70,
            slowdown: unknown,
            tenants: vec![tenant],
            ..Default::default()
        };
        let text = tell_replay(&replay);
        assert!(!text.contains("NaN"), "{text}");
        assert!(text.contains("slowdown p50 –, p95 –\n"), "{text}");
        assert!(
            text.contains("waiting p50 – s, p95 – s, slowdown p95 –\n"),
            "{text}"
        );
        assert!(
            text.contains("  left out  3 jobs of the lists never ran"),
            "{text}"
        );
        assert!(
            text.contains("  left out  70 jobs of the lists come after the end"),
            "{text}"
        );
        assert!(!tell_replay(&record::summary::Replay::default()).contains("left out"));
    }

    #[test]
    fn numbers_are_told_with_six_digits() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.367_879_44, "0.367879"),
            (123_456.789, "123457"),
        ] {
            assert_eq!(digits(value), text);
        }
    }
}
