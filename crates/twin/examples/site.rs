//! Replays a site's trace and prints what came of it:
//! `cargo run --release -p twin --example site -- UNIVERSE TRACE [KEY=VALUE]...`

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use twin::site::{self, Trace};
use twin::universe::Document;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(universe), Some(folder)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: site UNIVERSE TRACE [KEY=VALUE]...");
        return ExitCode::from(2);
    };
    match replay(&universe, Path::new(&folder), arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{error}");
            ExitCode::from(2)
        }
    }
}

fn replay(
    universe: &str,
    folder: &Path,
    settings: impl Iterator<Item = String>,
) -> Result<(), Box<dyn std::error::Error>> {
    let settings: Vec<_> = settings.map(|s| s.parse()).collect::<Result<_, _>>()?;
    let text = std::fs::read_to_string(universe)?;
    let config = Document::parse(universe, &text, &settings)?.read(site::schema)?;
    let trace = Trace::read(folder, &config.trace.nodes, &config.trace.pods)?;
    let outcome = site::run(
        &config,
        &trace,
        1,
        &mut |_| ControlFlow::Continue(()),
        &mut |_| {},
    );
    println!("{}", outcome.summary(&config, 1).to_json());
    for note in outcome.series.notables() {
        println!("{:>12.0} s  {}", note.seconds, note.text);
    }
    println!(
        "jobs {:?}\nhot device-seconds {:.0}, work lost {:.0} s, supplied {:.1} MWh",
        outcome.jobs,
        outcome.throttled_hot_device_seconds,
        outcome.discarded_seconds,
        outcome.flows.supplied.0 / 3.6e9,
    );
    Ok(())
}
