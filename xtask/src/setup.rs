//! Which tools can verify use, and which are missing?

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use toml::Table;
use xtask::root;

use crate::{EXAMPLES, answers, browser, command, fleet, stream};

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
        let purpose = match target.starts_with("wasm32") {
            true => "to build the examples for",
            false => "to build the cores for",
        };
        tool(
            &format!("{target}, {purpose}"),
            has_target(target),
            check,
            || stream(&mut command("rustup", &rustup)),
        )?;
    }
    let fetch = ["fetch", "--locked", "--manifest-path", EXAMPLES];
    tool(
        "what the examples are built from, for tests that build them offline",
        command("cargo", &fetch)
            .arg("--offline")
            .output()?
            .status
            .success(),
        check,
        || stream(&mut command("cargo", &fetch)),
    )?;
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
    tool(
        "nginx, Redis, PostgreSQL, SQLite and Python, to run for real",
        SERVERS.iter().all(|(_, sign)| Path::new(sign).exists()),
        check,
        || {
            let packages: Vec<_> = SERVERS.iter().map(|(package, _)| *package).collect();
            packages_of_debian(&packages)
        },
    )?;
    tool(
        "iproute2, nftables and util-linux, for hosts in network namespaces",
        fleet::has_tools(),
        check,
        || packages_of_debian(&fleet::TOOLS.map(|(_, package)| package)),
    )?;
    tool(
        "clang, to build the example in C",
        compiles_c(),
        check,
        || packages_of_debian(&["clang"]),
    )?;
    let tools = browser::Tools::find();
    let present = tools.chromium.is_some();
    tool("chromium, to look at reports", present, check, chromium)?;
    tool(
        "Node.js 20 or newer with npm, to test them",
        tools.node,
        check,
        || left_to_you("its version and its package's name differ by system"),
    )?;
    tool(
        "playwright-core, to drive chromium",
        tools.playwright,
        check,
        || match tools.node {
            true => browser::install_playwright(),
            false => left_to_you("npm installs it, once there is Node.js"),
        },
    )
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
pub(crate) fn has_target(target: &str) -> bool {
    let printed = command("rustc", &["--print", "target-libdir", "--target", target]).output();
    printed.is_ok_and(|printed| {
        let folder = String::from_utf8_lossy(&printed.stdout).trim().to_owned();
        printed.status.success() && fs::exists(folder).unwrap_or(false)
    })
}

/// Whether there is a clang; every one can compile for WebAssembly that was not built without it.
pub(crate) fn compiles_c() -> bool {
    answers(
        "clang",
        &[
            "--target=wasm32-wasi",
            "-c",
            "-x",
            "c",
            "/dev/null",
            "-o",
            "/dev/null",
        ],
    )
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "one of several ways to install, the others of which can fail"
)]
fn left_to_you(because: &str) -> Result<()> {
    println!("            left to you: {because}");
    Ok(())
}

/// Programs that tests run within walls: a package of Debian's, and what is there once it is.
const SERVERS: [(&str, &str); 5] = [
    ("nginx-light", "/usr/sbin/nginx"),
    ("redis-server", "/usr/bin/redis-server"),
    ("postgresql", "/usr/lib/postgresql"),
    ("sqlite3", "/usr/bin/sqlite3"),
    ("python3", "/usr/bin/python3"),
];

fn chromium() -> Result<()> {
    packages_of_debian(&["chromium"])
}

/// Only where it needs no password and no guess about a package's name. Nothing that is installed is started.
fn packages_of_debian(packages: &[&str]) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let debian = release.lines().any(|line| line == "ID=debian");
    let user = command("id", &["-u"]).output();
    let root = user.is_ok_and(|user| user.stdout == b"0\n");
    if !debian || !root {
        return left_to_you("it needs root, and the names of packages differ by system");
    }
    stream(&mut command("apt-get", &["update"]))?;
    let install = ["install", "--yes", "--no-install-recommends"];
    let mut install = command("apt-get", &install);
    install
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    // Debian starts servers as it installs them; not in single-user mode.
    stream(install.env("RUNLEVEL", "1"))
}
