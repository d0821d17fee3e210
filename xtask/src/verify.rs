//! May this change go in?
//!
//! Every check runs even after one has failed, so that one run shows everything.
//! The checks share one profile and one target folder: what clippy has checked,
//! the documentation does not check again, and a fresh two-core machine stays
//! within minutes. Cargo is told `--locked` throughout, so that no check can
//! pass by changing the tree.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use xtask::architecture::Workspace;
use xtask::root;

use crate::{MANIFESTS, answers, browser, command, fleet, stream};

/// A check that did not fail.
enum Outcome {
    Passed,
    /// Not run, and what would make it run.
    Skipped(String),
}

/// One question about the tree; an error is a no.
type Check = fn() -> Result<Outcome>;

/// In order: what fails soonest comes first, what can be skipped last.
const CHECKS: [(&str, Check); 10] = [
    ("format", format),
    ("clippy", clippy),
    ("tests", tests),
    ("doc tests", doc_tests),
    ("bare metal", bare_metal),
    ("documentation", documentation),
    ("fuzz targets", fuzz_targets),
    ("licences", licences),
    ("hosts", hosts),
    ("report in a browser", report),
];

/// Runs every check; true if none failed.
pub(crate) fn verify() -> Result<bool> {
    let mut done = Vec::new();
    for (number, (name, check)) in (1..).zip(CHECKS) {
        println!("\n━━ {number}/{} {name}", CHECKS.len());
        let started = now();
        let outcome = check();
        match &outcome {
            Ok(Outcome::Passed) => {}
            Ok(Outcome::Skipped(reason)) => println!("skipped: {reason}"),
            Err(error) => println!("failed: {error:#}"),
        }
        done.push((name, outcome, started.elapsed()));
    }
    println!("\n━━ summary");
    let [mut passed, mut failed, mut skipped] = [0; 3];
    for (name, outcome, took) in &done {
        match outcome {
            Ok(Outcome::Passed) => {
                passed += 1;
                println!("passed   {name:<19} {:>7}", seconds(*took));
            }
            Ok(Outcome::Skipped(reason)) => {
                skipped += 1;
                println!("skipped  {name:<19} {:>7}  {reason}", seconds(*took));
            }
            Err(error) => {
                failed += 1;
                println!("FAILED   {name:<19} {:>7}  {error:#}", seconds(*took));
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0)
}

#[expect(
    clippy::disallowed_methods,
    reason = "xtask runs on a person's machine and tells how long they waited"
)]
fn now() -> Instant {
    Instant::now()
}

fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

fn cargo(arguments: &[&str]) -> Result<Outcome> {
    stream(&mut command("cargo", arguments))?;
    Ok(Outcome::Passed)
}

fn format() -> Result<Outcome> {
    for manifest in MANIFESTS {
        cargo(&["fmt", "--manifest-path", manifest, "--all", "--check"])?;
    }
    Ok(Outcome::Passed)
}

fn clippy() -> Result<Outcome> {
    let what = ["clippy", "--locked", "--workspace", "--all-targets"];
    cargo(&[&what[..], &["--", "-D", "warnings"]].concat())
}

/// nextest where it is installed: it runs the tests of all crates at once, and
/// each in its own process.
fn tests() -> Result<Outcome> {
    if answers("cargo", &["nextest", "--version"]) {
        cargo(&[
            "nextest",
            "run",
            "--locked",
            "--workspace",
            "--no-fail-fast",
        ])
    } else {
        cargo(&[
            "test",
            "--locked",
            "--workspace",
            "--tests",
            "--no-fail-fast",
        ])
    }
}

fn doc_tests() -> Result<Outcome> {
    cargo(&["test", "--locked", "--doc", "--workspace"])
}

/// The cores together for a machine without an operating system.
fn bare_metal() -> Result<Outcome> {
    let workspace = Workspace::read(root())?;
    let mut arguments = vec!["build", "--locked", "--target", "x86_64-unknown-none"];
    for core in workspace.cores() {
        arguments.extend(["--package", &core.name]);
    }
    cargo(&arguments)
}

/// With examples, because of which cargo takes dependencies as clippy has checked them; see [`crate::built`].
fn documentation() -> Result<Outcome> {
    let what = ["doc", "--locked", "--workspace", "--no-deps"];
    let mut doc = command("cargo", &what);
    doc.args(["--lib", "--bins", "--examples"]);
    stream(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Outcome::Passed)
}

/// That the fuzz targets still fit the decoders; running them is `cargo xtask fuzz`.
fn fuzz_targets() -> Result<Outcome> {
    let what = ["clippy", "--locked", "--manifest-path", "fuzz/Cargo.toml"];
    let all = ["--features", "hosts", "--", "-D", "warnings"];
    cargo(&[&what[..], &all].concat())
}

fn licences() -> Result<Outcome> {
    if !answers("cargo", &["deny", "--version"]) {
        return unavailable("cargo-deny is not installed; cargo xtask setup installs it");
    }
    cargo(&["deny", "--locked", "check", "licenses", "bans", "sources"])
}

/// That real daemons live through what the twin rehearses; see [`fleet`].
fn hosts() -> Result<Outcome> {
    if let Err(missing) = fleet::ready() {
        return unavailable(&missing);
    }
    match fleet::fleet(&fleet::Asked::short())? {
        true => Ok(Outcome::Passed),
        false => bail!("what happened is not as it must be; see above"),
    }
}

/// That pages show what their runs found; see [`browser`].
fn report() -> Result<Outcome> {
    match browser::Tools::find().ready() {
        Ok(chromium) => browser::check(chromium).map(|()| Outcome::Passed),
        Err(missing) => unavailable(&missing),
    }
}

/// Skipped on a person's machine. A build server has run `setup`, so there a
/// missing tool is a failure: a check that silently stops running protects nothing.
fn unavailable(reason: &str) -> Result<Outcome> {
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        bail!("{reason}");
    }
    Ok(Outcome::Skipped(reason.to_owned()))
}
