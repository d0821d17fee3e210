//! `cosmos why` and `cosmos twin whatif`.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use twin::observer::Progress;
use twin::record::{Past, PastError, RunDirectory};
use twin::site::whatif::{self, Wish};
use twin::site::why::{self, WhyError};
use wire::Instant;

use crate::arguments::{WhatIf, Why};
use crate::living;
use crate::progress::Display;
use crate::run::{INTERRUPTED, watch_for_interrupt};

/// Where runs are looked for when none is named.
const RUNS: &str = "runs";

/// Of what lives, or of a run.
pub(crate) fn why(asked: &Why) -> Result<ExitCode> {
    let rehearsed =
        asked.run.is_some() || asked.at.is_some() || asked.records || asked.visit.trace.is_some();
    let name = asked.name.as_deref();
    if rehearsed {
        let job = name.context("of a run, why needs the name or number of a job")?;
        return of_run(asked, job);
    }
    let living = living::why::why(name, &asked.data, asked.visit.json);
    let (Err(not_living), Some(job)) = (&living, name) else {
        return living;
    };
    // A name that no node knows may be a job's.
    match of_run(asked, job) {
        Err(error) if matches!(error.downcast_ref(), Some(PastError::None { .. })) => {
            Err(anyhow::anyhow!("{not_living}; and {error}"))
        }
        answered => answered,
    }
}

fn of_run(asked: &Why, job: &str) -> Result<ExitCode> {
    let past = match &asked.run {
        Some(directory) => Past::open(directory)?,
        None => Past::newest(Path::new(RUNS))?,
    };
    if asked.run.is_none() && !asked.visit.quiet {
        anstream::eprintln!("run: {}", past.directory().display());
    }
    let question = why::Asked {
        job,
        at: asked.at.map(|at| Instant::EPOCH + at.0),
        folder: asked.visit.trace.as_deref(),
        records_only: asked.records,
    };
    let answer = watched(asked.visit.quiet, |watch| why::why(&past, &question, watch))?;
    match answer {
        Ok(answer) => {
            crate::print(&if asked.visit.json {
                format!("{:#}\n", answer.json)
            } else {
                answer.text
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Err(WhyError::Stopped) => Ok(ExitCode::from(INTERRUPTED)),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn whatif(asked: &WhatIf) -> Result<ExitCode> {
    let past = Past::open(&asked.run)?;
    let out = asked
        .out
        .as_deref()
        .map(RunDirectory::begin_at)
        .transpose()?;
    let question = whatif::Asked {
        at: Instant::EPOCH + asked.at.0,
        until: asked.until.map(|until| Instant::EPOCH + until.0),
        changes: wishes(asked)?,
        folder: asked.visit.trace.as_deref(),
    };
    let found = watched(asked.visit.quiet, |watch| {
        whatif::whatif(&past, &question, watch)
    })?;
    let difference = match found {
        Ok(difference) => difference,
        Err(whatif::WhatIfError::Stopped) => return Ok(ExitCode::from(INTERRUPTED)),
        Err(error) => return Err(error.into()),
    };
    let json = format!("{:#}\n", difference.json());
    if let Some(folder) = out {
        // Whole or not at all, as a run.
        folder.write("whatif.json", &json)?;
        folder.write("whatif.txt", &difference.text())?;
        folder.keep()?;
    }
    crate::print(&if asked.visit.json {
        json
    } else {
        difference.text()
    })?;
    Ok(ExitCode::SUCCESS)
}

fn wishes(asked: &WhatIf) -> Result<Vec<Wish>> {
    let mut wishes: Vec<Wish> = Vec::new();
    let nodes = asked.remove_node.iter().cloned();
    wishes.extend(nodes.map(Wish::RemoveNode));
    let quotas = asked.quota.iter();
    wishes.extend(quotas.map(|(tenant, n)| Wish::Quota(tenant.clone(), *n)));
    let ceilings = asked.ceiling.iter();
    wishes.extend(ceilings.map(|(tenant, n)| Wish::Ceiling(tenant.clone(), *n)));
    let weights = asked.weight.iter();
    wishes.extend(weights.map(|(tenant, w)| Wish::Weight(tenant.clone(), *w)));
    let loops = asked.loop_capacity.iter();
    wishes.extend(loops.map(|&(coolant, left)| Wish::LoopCapacity(coolant, left)));
    wishes.extend(asked.neighbour.map(Wish::Neighbour));
    if let Some(aware) = asked.heat_aware {
        let setting = format!("scheduler.heat_aware={aware}");
        wishes.push(Wish::Set(setting.parse()?));
    }
    if let Some(policy) = &asked.policy {
        wishes.push(Wish::Set(format!("scheduler.policy={policy}").parse()?));
    }
    wishes.extend(asked.settings.iter().cloned().map(Wish::Set));
    wishes.extend(asked.submit.iter().cloned().map(Wish::Submit));
    Ok(wishes)
}

/// Does something that takes a while, with its progress shown and Ctrl-C heard.
fn watched<T>(quiet: bool, work: impl FnOnce(why::Watch<'_>) -> T) -> Result<T> {
    let stop = watch_for_interrupt()?;
    let stop: &AtomicBool = &stop;
    let mut display = Display::new(quiet, "simulating the run again");
    let done = work(&mut |progress: Progress| {
        display.update(progress);
        if stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    display.finish();
    Ok(done)
}
