//! Runs the fuzz targets of `fuzz/`, which need a nightly compiler.
//!
//! A target is a program: libFuzzer with one function. It is built here with what libFuzzer needs to see which way each input
//! takes (what cargo-fuzz passes to the compiler, but for the address sanitizer: there is next to no unsafe code to find out), and with
//! every overflow and debug assertion an end. What it learns is kept from one run to the next in `fuzz/corpus`, and what ends it in
//! `fuzz/artifacts`: `cargo xtask fuzz TARGET --input FILE` shows that again.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use xtask::root;

use crate::{answers, command, names, stream};

/// So that libFuzzer sees edges and comparisons.
const SEEN: [&str; 9] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// What they are built for: named, so that build scripts are built without the above.
const HOST: &str = "x86_64-unknown-linux-gnu";

/// Runs one target, or each in turn, for this long; or one with a single input.
pub(crate) fn fuzz(target: Option<&str>, seconds: u32, input: Option<&Path>) -> Result<()> {
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
    let chosen = targets
        .iter()
        .filter(|t| target.is_none_or(|only| only == **t));
    for target in chosen {
        // Through rustup, because cargo set RUSTUP_TOOLCHAIN when it ran xtask.
        let cargo = [
            "run",
            "nightly",
            "cargo",
            "build",
            "--release",
            "--manifest-path",
            "fuzz/Cargo.toml",
            "--target",
            HOST,
            "--bin",
            target,
        ];
        let mut build = command("rustup", &cargo);
        if is_of_hosts(target)? {
            build.args(["--features", "hosts"]);
        }
        stream(build.env("RUSTFLAGS", SEEN.join(" ")))?;
        let folder = |kind: &str| root().join("fuzz").join(kind).join(target);
        for kind in ["corpus", "artifacts"] {
            fs::create_dir_all(folder(kind))?;
        }
        let built = format!("fuzz/target/{HOST}/release/{target}");
        let mut run = command(&built, &[]);
        run.arg(format!(
            "-artifact_prefix={}/",
            folder("artifacts").display()
        ));
        match input {
            Some(input) => run.arg(input),
            None => run
                .arg(format!("-max_total_time={seconds}"))
                .arg(folder("corpus")),
        };
        stream(&mut run)?;
    }
    Ok(())
}

/// Whether a target needs the daemon, as its manifest says.
fn is_of_hosts(target: &str) -> Result<bool> {
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml"))?;
    let name = format!("name = \"{target}\"");
    let own = manifest.split("[[bin]]").find(|part| part.contains(&name));
    Ok(own.is_some_and(|own| own.contains("required-features")))
}
