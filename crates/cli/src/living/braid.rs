//! A drill on a braid of three machines, watched until its end.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use daemon::braided::course::{Drill, Kind, Progress};
use daemon::control::{Answer, Request};
use serde_json::json;

use super::arguments::Braid;
use super::node::{print, print_json, put, unexpected};
use crate::run::{INTERRUPTED, watch_for_interrupt};

/// From one look to the next.
const LOOKS: Duration = Duration::from_millis(100);

pub(super) fn braid(asked: &Braid) -> Result<ExitCode> {
    let data = asked.ask.data.directory()?;
    let (work, length) = match asked.work.as_str() {
        "tree" => (Kind::Tree, 1_000),
        "errands" => (Kind::Errands, 6),
        _ => (Kind::Ring, 10_000),
    };
    let drill = Drill {
        players: asked.players,
        work,
        pieces: asked.pieces,
        at_once: asked.at_once,
        length: asked.length.unwrap_or(length),
        seed: asked.seed,
        witness: asked.witness,
    };
    let on = asked.on.clone();
    let stop = watch_for_interrupt()?;
    let mut progress = match put(&data, &Request::Braid { on, drill })? {
        Answer::Braid(progress) => *progress,
        other => return unexpected(&other),
    };
    for (nth, name) in asked.on.iter().enumerate() {
        if asked.on[..nth].contains(name) {
            eprintln!("warning: more than one torus sits on {name}; if it dies, the braid ends");
        }
    }
    let mut shown = String::new();
    while !matches!(progress.state.as_str(), "over" | "failed") {
        if stop.load(Ordering::Relaxed) {
            end(&data, &progress)?;
            eprintln!(
                "braid {} was ended after {:.1} s",
                progress.braid, progress.seconds
            );
            return Ok(ExitCode::from(INTERRUPTED));
        }
        pause();
        let braid = progress.braid.clone();
        progress = match put(&data, &Request::BraidProgress { braid })? {
            Answer::Braid(progress) => *progress,
            other => return unexpected(&other),
        };
        // Where the tori sit is news; how far the work is only for who looks on.
        let seats = seats(&progress);
        if shown != seats && progress.state != "settling" {
            eprintln!("{:>7.1} s  {seats}", progress.seconds);
            shown = seats;
        }
        if std::io::stderr().is_terminal() {
            eprint!(
                "\r{:>7.1} s  {} of {} pieces ",
                progress.seconds, progress.ended, progress.pieces
            );
        }
    }
    let good = progress.state == "over";
    if asked.ask.json {
        print_json(&json!(progress))?;
    } else {
        print(&told(&progress))?;
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn end(data: &Path, progress: &Progress) -> Result<()> {
    let braid = progress.braid.clone();
    put(data, &Request::BraidEnd { braid }).map(|_| ())
}

fn seats(progress: &Progress) -> String {
    let seats = progress.tori.iter().map(|torus| {
        let again = match torus.rebuilt {
            0 => String::new(),
            times => format!(" (rebuilt {times})"),
        };
        format!("{} on {}{again}", torus.strand, torus.machine)
    });
    seats.collect::<Vec<_>>().join(", ")
}

fn told(progress: &Progress) -> String {
    let rate = progress.passes as f64 / progress.seconds;
    // Trees pass none on.
    let passes = match progress.passes {
        0 => String::new(),
        passes => format!(", {passes} messages passed ({rate:.0}/s)"),
    };
    let mut text = format!(
        "braid {}: {} of {} pieces ended in {:.1} s{passes}\n  {}\n",
        progress.braid,
        progress.ended,
        progress.pieces,
        progress.seconds,
        seats(progress)
    );
    for torus in progress.tori.iter().filter(|torus| torus.rebuilt > 0) {
        text.push_str(&format!(
            "  {} was rebuilt on {}, {:.1} s after it was last heard of\n",
            torus.strand, torus.machine, torus.away
        ));
    }
    for wrong in &progress.wrong {
        text.push_str(&format!("  wrong: {wrong}\n"));
    }
    if progress.state == "over" {
        text.push_str("  nothing was lost and nothing done twice\n");
    }
    text
}

#[expect(
    clippy::disallowed_methods,
    reason = "a drill is looked at now and then"
)]
fn pause() {
    std::thread::sleep(LOOKS);
}
