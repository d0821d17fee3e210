//! What are the classes worth when the line is full?
//!
//! Two daemons, a line that carries 100 Mbit/s (`tbf` on both ends), and `cosmos ping`: round trips of class A with nothing else on the line,
//! then beside all of class D that the line takes, in turns, so that a machine that is busy with something else is so
//! for both. Asked of the transport: beside class D no longer than twice what 99 of 100 take without it, and one frame.

use std::fs;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::Asked;
use super::plan::{Links, Plan};
use super::run::assemble;

const BITS_PER_SECOND: u64 = 100_000_000;
/// A full Ethernet frame on that line, in microseconds.
const FRAME_US: u64 = 1_500 * 8 * 1_000_000 / BITS_PER_SECOND;
const TURNS: usize = 5;

/// What `cosmos ping --json` says.
#[derive(Clone, Deserialize, Serialize)]
struct Echoes {
    asked: u64,
    lost: u64,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
    bulk_bits_per_second: Option<u64>,
}

#[derive(Serialize)]
struct Outcome {
    idle: Vec<Echoes>,
    beside_bulk: Vec<Echoes>,
    /// The medians over turns.
    idle_p99_us: u64,
    beside_bulk_p99_us: u64,
    allowed_us: u64,
    bulk_bits_per_second: u64,
}

/// Measures, prints, and says whether it is as asked.
pub(super) fn measure(asked: &Asked) -> Result<bool> {
    let cosmos = asked.cosmos.clone().context("--cosmos")?;
    let out = asked.out.clone().context("--out")?;
    let plan = Plan {
        end_ns: 0,
        hosts: 2,
        ahead_ns: vec![0; 2],
        links: Links {
            delay_ns: 0,
            loss: 0.0,
            rate: Some(BITS_PER_SECOND),
        },
        programs: Vec::new(),
        blows: Vec::new(),
    };
    let (mut switch, ..) = assemble(plan, &cosmos, &out)?;
    let mut ping = |more: &[&str]| -> Result<Echoes> {
        let words = [&["ping", "host2", "--lasts", "8s", "--json"], more].concat();
        let said = switch.host(0).ask(&words)?;
        serde_json::from_str(&said).context("what `cosmos ping` says")
    };
    let (mut idle, mut beside_bulk) = (Vec::new(), Vec::new());
    for turn in 1..=TURNS {
        let (alone, beside) = (ping(&[])?, ping(&["--beside-bulk"])?);
        eprintln!(
            "turn {turn} of {TURNS}: p50 {} us, p99 {} us idle; p50 {} us, p99 {} us beside {:.1} Mbit/s",
            alone.p50_us,
            alone.p99_us,
            beside.p50_us,
            beside.p99_us,
            beside.bulk_bits_per_second.unwrap_or(0) as f64 / 1e6
        );
        idle.push(alone);
        beside_bulk.push(beside);
    }
    let p99 = |echoes: &[Echoes]| middle(echoes.iter().map(|echoes| echoes.p99_us));
    let (idle_p99_us, beside_bulk_p99_us) = (p99(&idle), p99(&beside_bulk));
    let bulk = beside_bulk
        .iter()
        .filter_map(|echoes| echoes.bulk_bits_per_second);
    let outcome = Outcome {
        idle_p99_us,
        beside_bulk_p99_us,
        allowed_us: 2 * idle_p99_us + FRAME_US,
        bulk_bits_per_second: middle(bulk),
        idle,
        beside_bulk,
    };
    let json = format!("{:#}\n", serde_json::to_value(&outcome)?);
    fs::write(out.join("classes.json"), &json).context("writing classes.json")?;
    if asked.json {
        print!("{json}");
    } else {
        println!(
            "class A on a line of 100 Mbit/s, p99 of {TURNS} turns in the middle: {} us idle, {} us beside {:.1} Mbit/s of class D; allowed {} us",
            outcome.idle_p99_us,
            outcome.beside_bulk_p99_us,
            outcome.bulk_bits_per_second as f64 / 1e6,
            outcome.allowed_us
        );
    }
    Ok(outcome.beside_bulk_p99_us <= outcome.allowed_us)
}

fn middle(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}
