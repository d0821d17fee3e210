//! Does a person who opens a report or a dashboard see one?
//!
//! The twin's tests hold a report's data to account; only a browser can say
//! whether its script draws anything from them. So a small universe is run, every kind
//! of page is made from invented data, and `web/tests` opens them all in a Chromium
//! without a window: console, requests, pictures, every number against `summary.json`, the
//! map while its time is dragged, the jobs by mouse and by keys; a node's dashboard, which
//! must start, show and stop real programs; and the same with a thousand rehearsed nodes behind it.
//!
//! The tests are in JavaScript because what they ask is asked inside the page. Playwright
//! drives the browser; it is the only package, pinned by a lock file, runs no
//! script when it is installed, and never reaches a report.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use xtask::root;

use crate::built::built;
use crate::{answers, command, stream};

/// Where the tests and their one package are.
pub(crate) const TESTS: &str = "web/tests";

/// Names under which a Chromium goes.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// The oldest Node.js whose test runner the tests use.
const NODE_MIN: u32 = 20;

/// What the tests need besides the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tools {
    /// The first Chromium that answers.
    pub(crate) chromium: Option<&'static str>,
    /// A Node.js that is new enough, with npm.
    pub(crate) node: bool,
    /// The package the lock file names.
    pub(crate) playwright: bool,
}

impl Tools {
    /// Looks what is there.
    pub(crate) fn find() -> Self {
        let version = command("node", &["--version"]).output();
        let version = version.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
        Self {
            chromium: NAMES.into_iter().find(|name| answers(name, &["--version"])),
            node: version.is_ok_and(|version| is_new_enough(&version))
                && answers("npm", &["--version"]),
            playwright: playwright_is_installed(),
        }
    }

    /// The Chromium to test with, or what is missing.
    pub(crate) fn ready(self) -> Result<&'static str, String> {
        let mut missing = Vec::new();
        if self.chromium.is_none() {
            missing.push("chromium".to_owned());
        }
        if !self.node {
            missing.push(format!("Node.js {NODE_MIN} or newer with npm"));
        }
        if !self.playwright {
            missing.push("playwright-core as in web/tests/package-lock.json".to_owned());
        }
        match (self.chromium, missing.as_slice()) {
            (Some(chromium), []) => Ok(chromium),
            _ => Err(format!(
                "not installed: {}; cargo xtask setup installs what it can",
                missing.join(", ")
            )),
        }
    }
}

/// `v20.11.1` and the like.
fn is_new_enough(version: &str) -> bool {
    let major = version.trim().trim_start_matches('v').split('.').next();
    major.and_then(|major| major.parse::<u32>().ok()) >= Some(NODE_MIN)
}

/// The version that is there is the one that is locked.
fn playwright_is_installed() -> bool {
    let version = |path: &str, pointer: &str| {
        let text = std::fs::read_to_string(root().join(TESTS).join(path)).ok()?;
        let json: serde_json::Value = serde_json::from_str(&text).ok()?;
        json.pointer(pointer)?.as_str().map(str::to_owned)
    };
    let there = version("node_modules/playwright-core/package.json", "/version");
    let locked = version(
        "package-lock.json",
        "/packages/node_modules~1playwright-core/version",
    );
    there.is_some() && there == locked
}

/// A cell small enough for a build without optimisation that still meets its burst
/// and its partition, which is over after 110 s.
const RUN: &[&str] = &[
    "twin",
    "run",
    "universes/cell.toml",
    "--quiet",
    "--set",
    "holons.tiles_per_cell=100",
    "--set",
    "time.end=2min",
];

/// Makes the pages and runs the tests on them.
pub(crate) fn check(chromium: &str) -> Result<()> {
    let folder = TempDir::new().context("making a temporary folder")?;
    let pages = built("examples/pages")?;
    stream(Command::new(pages).arg(folder.path()).current_dir(root()))?;
    let executable = built("cosmos")?;
    let mut cosmos = Command::new(&executable);
    cosmos.args(RUN).current_dir(root());
    cosmos.arg("--out").arg(folder.path().join("run"));
    println!("$ {}", crate::spelled(&cosmos));
    let status = cosmos.status().context("starting cosmos")?;
    // 1 says that an invariant failed, which is a report worth looking at too.
    ensure!(
        matches!(status.code(), Some(0 | 1)),
        "`{}` ended with {status}",
        crate::spelled(&cosmos)
    );
    let tests = [
        "--test",
        "--test-reporter=spec",
        "web/tests/report.test.mjs",
        "web/tests/dashboard.test.mjs",
        "web/tests/live.test.mjs",
    ];
    let mut node = command("node", &tests);
    node.env("PAGES", folder.path())
        .env("COSMOS", executable)
        .env("CHROMIUM", place(chromium)?);
    stream(&mut node)
}

/// Where a program is: Playwright takes a path, not a name.
fn place(program: &str) -> Result<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(program));
    let found = places.find(|place| place.is_file());
    found.with_context(|| format!("finding {program} in PATH"))
}

/// Installs the locked package, and only that: nothing of it is run.
pub(crate) fn install_playwright() -> Result<()> {
    let npm = [
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--prefix",
        TESTS,
    ];
    stream(&mut command("npm", &npm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let all = Tools {
            chromium: Some("chromium"),
            node: true,
            playwright: true,
        };
        assert_eq!(all.ready(), Ok("chromium"));
        for (tools, says) in [
            (
                Tools {
                    chromium: None,
                    ..all
                },
                "not installed: chromium; ",
            ),
            (
                Tools {
                    node: false,
                    playwright: false,
                    ..all
                },
                "not installed: Node.js 20 or newer with npm, playwright-core as in \
                 web/tests/package-lock.json; ",
            ),
        ] {
            let said = tools.ready().unwrap_err();
            assert!(said.starts_with(says), "{said}");
        }
    }

    #[test]
    fn an_old_node_is_told_from_a_new_one() {
        for (version, is_new) in [
            ("v20.0.0\n", true),
            ("v100.1.0", true),
            ("v18.19.0\n", false),
            ("v9.9.9", false),
            ("", false),
        ] {
            assert_eq!(is_new_enough(version), is_new, "{version:?}");
        }
    }

    #[test]
    fn playwright_core_is_the_only_package_and_is_pinned() {
        let read = |name| {
            let path = root().join(TESTS).join(name);
            let text = std::fs::read_to_string(path).expect("a file of the tests");
            serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
        };
        let (package, lock) = (read("package.json"), read("package-lock.json"));
        let wanted = package["devDependencies"].as_object().expect("packages");
        let version = wanted["playwright-core"].as_str().expect("a version");
        assert!(wanted.len() == 1 && package.get("dependencies").is_none());
        assert!(version.split('.').all(|n| n.parse::<u32>().is_ok()));
        let locked = lock["packages"].as_object().expect("packages");
        let names: Vec<_> = locked.keys().map(String::as_str).collect();
        assert_eq!(names, ["", "node_modules/playwright-core"]);
        let locked = &locked["node_modules/playwright-core"];
        assert_eq!(locked["version"], version);
        assert_eq!(locked["license"], "Apache-2.0");
        assert!(locked["integrity"].is_string());
    }
}
