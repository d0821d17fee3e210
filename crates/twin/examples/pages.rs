//! Writes every page of the twin from invented data, to look at them:
//! `cargo run -p twin --example pages -- target/pages`
//!
//! Beside the page of each run lies the summary it was made from, for the tests that hold the
//! one against the other (`web/tests`).

use std::path::PathBuf;

use twin::record::report::{
    Boundaries, SweepPoint, comparison_page, packing_page, run_page, sweep_page,
};
use twin::record::{Comparison, Packing, Sweep};

#[path = "../tests/record/sample.rs"]
mod sample;
#[path = "../tests/record/sample_cluster.rs"]
mod sample_cluster;

fn main() -> std::io::Result<()> {
    let to = PathBuf::from(std::env::args().nth(1).expect("a directory to write to"));
    std::fs::create_dir_all(&to)?;
    let (with, without) = (sample::shells(true), sample::shells(false));
    for (name, (summary, series)) in [
        ("shells", &with),
        ("runaway", &without),
        ("site", &sample::site()),
        ("cell", &sample::cell()),
        ("cluster", &sample_cluster::cluster(12_000)),
    ] {
        let place = to.join(name).with_extension("json");
        std::fs::write(place, summary.to_json())?;
        std::fs::write(
            to.join(name).with_extension("html"),
            run_page(summary, series),
        )?;
    }
    let comparison = Comparison {
        title: "five shells: Thermos on or off".to_owned(),
        intent: "The same load, faults and seed, with and without backpressure.".to_owned(),
        command: "cosmos twin compare universes/five-shells.toml --set thermos.enabled=false"
            .to_owned(),
        runs: vec![
            ("Thermos".to_owned(), &with.0, &with.1),
            ("without".to_owned(), &without.0, &without.1),
        ],
        curves: sample_cluster::curves(),
    };
    let packing = Packing {
        title: "Who packs a cluster of 6,212 GPUs best?".to_owned(),
        intent: "Pods arrive one after the other and none leaves; each policy places the same \
                 lists in the same orders."
            .to_owned(),
        command: "cosmos twin compare cosmos.json fgd.json bestfit.json random.json \
                  --published published.csv"
            .to_owned(),
        curves: sample_cluster::curves(),
    };
    std::fs::write(to.join("packing.html"), packing_page(&packing))?;
    std::fs::write(to.join("comparison.html"), comparison_page(&comparison))?;
    let points = (1..=40).map(|i| {
        let x = f64::from(i) * 0.05;
        SweepPoint {
            value: x / 0.5,
            gain_times_delay: Some(x),
            overshoot: Some(if x < 0.38 {
                0.0
            } else {
                (x - 0.37).powf(1.6) * 0.9
            }),
            stable: Some(x < 1.56),
            held: true,
            ..SweepPoint::default()
        }
    });
    let sweep = Sweep {
        universe: "thermal loop under light delay".to_owned(),
        intent: "How strong may backpressure be before the loop swings, and before it breaks?"
            .to_owned(),
        command: "cosmos twin sweep universes/loop.toml thermos.gain 0.1..4.0/40".to_owned(),
        parameter: "thermos.gain".to_owned(),
        unit: "/h".to_owned(),
        points: points.collect(),
        boundaries: Boundaries {
            overshoot_begins: Some(0.38),
            instability_begins: Some(1.56),
        },
    };
    std::fs::write(to.join("sweep.html"), sweep_page(&sweep))
}
