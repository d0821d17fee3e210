//! `cosmos twin run` and `cosmos twin sweep`.
//!
//! Everything that can be wrong with a request is found before the first event:
//! every universe of a sweep is read before any of them runs.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use twin::rehearsal::{self, Finished, Request, Universe};
use twin::universe::{Document, Override, Sweep};

use crate::arguments::{Run, Setting, Settled, SweepRun};
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
const INTERRUPTED: u8 = 130;

pub(crate) fn run(asked: &Run) -> Result<ExitCode> {
    let universe = universes::find(&asked.settled.universe)?;
    let prepared = prepare(&universe, &asked.settings)?;
    let stop = watch_for_interrupt()?;
    let finished = rehearse(prepared, &asked.settled, &asked.settings, &stop)?;
    if asked.settled.json {
        crate::print(&finished.summary.to_json())?;
    } else {
        crate::print(&tell(&finished))?;
    }
    Ok(Outcome::of(&finished).into())
}

pub(crate) fn sweep(asked: &SweepRun) -> Result<ExitCode> {
    let universe = universes::find(&asked.settled.universe)?;
    let combinations = combinations(&asked.settings)?;
    let prepared = combinations
        .iter()
        .map(|settings| prepare(&universe, settings))
        .collect::<Result<Vec<_>>>()?;
    let stop = watch_for_interrupt()?;
    let mut worst = Outcome::Held;
    for (prepared, settings) in prepared.into_iter().zip(&combinations) {
        let finished = rehearse(prepared, &asked.settled, settings, &stop)?;
        match Outcome::of(&finished) {
            Outcome::Held => {}
            Outcome::Broken => worst = Outcome::Broken,
            Outcome::Interrupted => return Ok(Outcome::Interrupted.into()),
        }
    }
    Ok(worst.into())
}

/// Reads a universe with settings in place; nothing runs yet.
fn prepare(universe: &universes::Universe, settings: &[Override]) -> Result<Universe> {
    let document = Document::parse(&universe.file, &universe.text, settings)?;
    Ok(Universe::read(&document)?)
}

/// The one place where the twin is called.
fn rehearse(
    universe: Universe,
    asked: &Settled,
    settings: &[Override],
    stop: &AtomicBool,
) -> Result<Finished> {
    let seed = asked.seed.unwrap_or(universe.seed());
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let overrides: Vec<String> = settings.iter().map(ToString::to_string).collect();
    let request = Request {
        seed,
        threads: asked.threads.map_or_else(cores, usize::from),
        out: asked.out.clone(),
        command: command(asked, &overrides, seed),
        overrides,
    };
    let mut display = Display::new(asked.quiet);
    let finished = rehearsal::run(universe, &request, &mut |progress| {
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
                "  FAILED  {}: {} ({}: {} found, {} allowed {}) at {}\n",
                invariant.name,
                v.text,
                v.subject,
                digits(v.found),
                digits(v.bound),
                v.unit,
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
        text.push_str(&format!(
            "  members detection p50 {:.2} s, p99 {:.2} s, max {:.2} s; {} false removals\n",
            d.p50, d.p99, d.max, m.false_removals
        ));
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

/// Six significant digits at most.
fn digits(value: f64) -> String {
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

/// Every combination of the ranges' values, in the order of the flags, the last
/// one turning fastest.
fn combinations(settings: &[Setting]) -> Result<Vec<Vec<Override>>> {
    if !settings
        .iter()
        .any(|setting| matches!(setting, Setting::Range(_)))
    {
        bail!("nothing to sweep: no --set is a range, such as thermos.gain=0.1/h..2/h:20");
    }
    let mut all = vec![Vec::new()];
    for setting in settings {
        let values: Vec<_> = match setting {
            Setting::One(one) => vec![one.clone()],
            Setting::Range(range) => range.settings().collect(),
        };
        if all.len() * values.len() > Sweep::STEPS_MAX {
            bail!(
                "these ranges make more than {} combinations",
                Sweep::STEPS_MAX
            );
        }
        all = all
            .iter()
            .flat_map(|before| {
                values.iter().map(|value| {
                    let mut with = before.clone();
                    with.push(value.clone());
                    with
                })
            })
            .collect();
    }
    Ok(all)
}

/// Set by the first Ctrl-C, so that a rehearsal ends in order and keeps what it
/// has; the second one ends the process at once.
fn watch_for_interrupt() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::Relaxed) {
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

    fn all(settings: &[&str]) -> Result<Vec<String>> {
        let settings: Vec<Setting> = settings.iter().map(|text| text.parse().unwrap()).collect();
        let all = combinations(&settings)?;
        Ok(all
            .iter()
            .map(|one| {
                one.iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect())
    }

    #[test]
    fn several_ranges_give_every_combination() {
        assert_eq!(
            all(&["a=1..2:2", "c=x", "b=1 K..3 K:3"]).unwrap(),
            [
                "a=1 c=x b=1 K",
                "a=1 c=x b=2 K",
                "a=1 c=x b=3 K",
                "a=2 c=x b=1 K",
                "a=2 c=x b=2 K",
                "a=2 c=x b=3 K"
            ]
        );
    }

    #[test]
    fn no_range_and_too_many_are_refused() {
        assert_eq!(
            all(&["c=x"]).unwrap_err().to_string(),
            "nothing to sweep: no --set is a range, such as thermos.gain=0.1/h..2/h:20"
        );
        assert_eq!(
            all(&["a=1..2:200", "b=1..2:200"]).unwrap_err().to_string(),
            "these ranges make more than 10000 combinations"
        );
    }
}
