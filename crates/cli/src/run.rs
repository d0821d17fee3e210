//! `cosmos twin run` and `cosmos twin sweep`.
//!
//! Everything that can be wrong with a request is found before the first event:
//! every universe of a sweep is read before any of them runs.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use twin::universe::{Document, Override, Sweep};

use crate::arguments::{Run, Setting, Settled, SweepRun};
use crate::progress::{Display, Progress};
use crate::universes::{self, Universe};

/// How a rehearsal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(dead_code, reason = "the twin, when it is plugged in, makes these")]
enum Outcome {
    /// Every invariant held to the end.
    Held,
    /// An invariant failed.
    Broken,
    /// Ctrl-C came first.
    Interrupted,
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
    let document = prepare(&universe, &asked.settings)?;
    let stop = watch_for_interrupt()?;
    rehearse_shown(&document, &asked.settled, &stop).map(ExitCode::from)
}

pub(crate) fn sweep(asked: &SweepRun) -> Result<ExitCode> {
    let universe = universes::find(&asked.settled.universe)?;
    let combinations = combinations(&asked.settings)?;
    let documents = combinations
        .iter()
        .map(|settings| prepare(&universe, settings))
        .collect::<Result<Vec<_>>>()?;
    let stop = watch_for_interrupt()?;
    let mut worst = Outcome::Held;
    for document in &documents {
        match rehearse_shown(document, &asked.settled, &stop)? {
            Outcome::Held => {}
            Outcome::Broken => worst = Outcome::Broken,
            Outcome::Interrupted => return Ok(Outcome::Interrupted.into()),
        }
    }
    Ok(worst.into())
}

/// Reads a universe with settings in place; nothing runs yet.
fn prepare(universe: &Universe, settings: &[Override]) -> Result<Document> {
    Ok(Document::parse(&universe.file, &universe.text, settings)?)
}

fn rehearse_shown(document: &Document, asked: &Settled, stop: &AtomicBool) -> Result<Outcome> {
    let mut display = Display::new(asked.quiet);
    let outcome = rehearse(
        document,
        asked,
        &mut |progress| display.update(progress),
        stop,
    );
    display.finish();
    outcome
}

/// The one place where the twin is called.
fn rehearse(
    _document: &Document,
    asked: &Settled,
    _progress: &mut dyn FnMut(Progress),
    _stop: &AtomicBool,
) -> Result<Outcome> {
    bail!(
        "this build has no twin to rehearse {} in; the file was read and nothing was run",
        asked.universe
    )
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
