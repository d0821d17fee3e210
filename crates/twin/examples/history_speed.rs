//! How many decisions per second does a history take?
//! `cargo run --release -p twin --example history_speed -- 3000000`
#![expect(clippy::disallowed_methods, reason = "it measures the wall clock")]

use telemetry::{Action, Decision, Reason};
use twin::observer::Link;
use twin::record::{History, Summary};
use wire::{Instant, Tile};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rows: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(3_000_000), |n| n.parse())?;
    let place = tempfile::tempdir_in(".")?;
    let path = place.path().join("history.db");
    let began = std::time::Instant::now();
    let mut history = History::create(&path)?;
    for i in 0..rows {
        let decision = Decision {
            at: Instant(i * 1_000_003),
            action: Action::ALL[i as usize % 9],
            reason: Reason::ALL[i as usize % 13],
            subject: Tile(i.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 1_000_000),
            work: if i % 3 == 0 { Decision::NO_WORK } else { i / 3 },
            found: 0.9 + (i % 100) as f64 / 1_000.0,
            bound: 0.9,
        };
        history.decision(
            &decision,
            Some(decision.subject.0 / 1_000),
            1,
            "",
            Link::default(),
        )?;
    }
    let written = began.elapsed().as_secs_f64();
    history.finish(&Summary::default())?;
    let finished = began.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(&path)?.len();
    println!(
        "{rows} decisions: {:.0} rows/s, with indexes {:.0} rows/s, {} B per row",
        rows as f64 / written,
        rows as f64 / finished,
        bytes / rows
    );
    Ok(())
}
