//! Runs the fuzz targets of `fuzz/`, which need a nightly compiler and cargo-fuzz.

use anyhow::{Result, ensure};
use xtask::root;

use crate::{answers, command, names, stream};

/// Runs one target, or each in turn, for this long.
pub(crate) fn fuzz(target: Option<&str>, seconds: u32) -> Result<()> {
    let targets = names(&root().join("fuzz/fuzz_targets"))?;
    let targets: Vec<_> = targets
        .iter()
        .filter_map(|t| t.strip_suffix(".rs"))
        .collect();
    ensure!(
        target.is_none_or(|target| targets.contains(&target)),
        "no fuzz target is called {}; there are: {}",
        target.unwrap_or_default(),
        targets.join(", ")
    );
    ensure!(
        answers("rustup", &["run", "nightly", "rustc", "--version"]),
        "fuzzing needs a nightly compiler: rustup toolchain install nightly --profile minimal"
    );
    ensure!(
        answers("cargo", &["fuzz", "--version"]),
        "fuzzing needs cargo-fuzz: cargo install cargo-fuzz --locked"
    );
    let limit = format!("-max_total_time={seconds}");
    let chosen = targets
        .iter()
        .filter(|t| target.is_none_or(|only| only == **t));
    for target in chosen {
        // Through rustup, because cargo set RUSTUP_TOOLCHAIN when it ran xtask.
        let cargo = [
            "run", "nightly", "cargo", "fuzz", "run", target, "--", &limit,
        ];
        stream(&mut command("rustup", &cargo))?;
    }
    Ok(())
}
