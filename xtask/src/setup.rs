//! Which tools can verify use, and which are missing?

use std::fs;

use anyhow::{Context, Result};
use toml::Table;
use xtask::root;

use crate::{answers, browser, command, stream};

/// Installs what is missing, or with `check` only reports it.
pub(crate) fn setup(check: bool) -> Result<()> {
    let toolchain = fs::read_to_string(root().join("rust-toolchain.toml"))
        .context("reading rust-toolchain.toml")?;
    let toolchain: Table = toolchain.parse().context("rust-toolchain.toml")?;
    let channel = toolchain["toolchain"]["channel"].as_str();
    let channel = channel.context("rust-toolchain.toml: toolchain.channel is not a text")?;
    let targets = toolchain["toolchain"].get("targets");
    let targets = targets.and_then(|targets| targets.as_array());
    for target in targets.into_iter().flatten().filter_map(|t| t.as_str()) {
        let rustup = ["target", "add", "--toolchain", channel, target];
        tool(
            &format!("{target}, to build the cores for"),
            has_target(target),
            check,
            || stream(&mut command("rustup", &rustup)),
        )?;
    }
    tool(
        "cargo-deny, to check licences (takes minutes to build)",
        answers("cargo", &["deny", "--version"]),
        check,
        || {
            stream(&mut command(
                "cargo",
                &["install", "cargo-deny", "--locked"],
            ))
        },
    )?;
    let present = browser::find().is_some();
    tool("chromium, to look at reports", present, check, chromium)
}

fn tool(
    what: &str,
    present: bool,
    check: bool,
    install: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let state = match (present, check) {
        (true, _) => "present",
        (false, true) => "missing",
        (false, false) => "installing",
    };
    println!("{state:<11} {what}");
    if state == "installing" {
        install()?;
    }
    Ok(())
}

/// Asked of rustc, not of rustup: a distribution's compiler may have the target too.
fn has_target(target: &str) -> bool {
    let printed = command("rustc", &["--print", "target-libdir", "--target", target]).output();
    printed.is_ok_and(|printed| {
        let folder = String::from_utf8_lossy(&printed.stdout).trim().to_owned();
        printed.status.success() && fs::exists(folder).unwrap_or(false)
    })
}

/// Only where it needs no password and no guess about the package's name.
fn chromium() -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let debian = release.lines().any(|line| line == "ID=debian");
    let user = command("id", &["-u"]).output();
    let root = user.is_ok_and(|user| user.stdout == b"0\n");
    if !debian || !root {
        println!(
            "            left to you: it needs root, and its package's name differs by system"
        );
        return Ok(());
    }
    stream(&mut command("apt-get", &["update"]))?;
    let install = ["install", "--yes", "--no-install-recommends", "chromium"];
    stream(command("apt-get", &install).env("DEBIAN_FRONTEND", "noninteractive"))
}
