//! Which crate may see which?
//!
//! Every crate has a layer; it sees only layers with a lower number, and siblings
//! never see each other. That is what lets a protocol be tested, replaced and
//! rehearsed alone, and what keeps hosts out of the code the twin has proven.
//! Tests are held to the same rule: a protocol whose tests need another protocol
//! is not separate from it.
//!
//! Layers 0 to 3 must build without an operating system.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The crates of each layer; the position is the layer's number.
const LAYERS: [&[&str]; 6] = [
    &["wire"],
    &["machine", "physics", "clock", "trust", "telemetry"],
    &[
        "transit",
        "membership",
        "causality",
        "consensus",
        "store",
        "scheduler",
        "immune",
        "governance",
        "runtime",
    ],
    &["node"],
    &["twin", "daemon", "kernel"],
    &["cli"],
];

/// Crates of this layer and below are `#![no_std]`.
const HIGHEST_CORE: usize = 3;

/// Drives the build and is seen by nobody.
const OUTSIDE: &str = "xtask";

/// Fewer lines of code than this in a whole library are a promise, not a crate.
const LINES_MIN: usize = 20;

/// The workspace as `cargo metadata --no-deps` tells it.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    /// Its crates, and no others.
    pub packages: Vec<Package>,
}

/// One crate of the workspace.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// What `Cargo.toml` calls it.
    pub name: String,
    /// What it needs, ours and others'.
    pub dependencies: Vec<Dependency>,
    /// What it builds.
    pub targets: Vec<Target>,
}

/// One line of a crate's dependencies.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// The name of the crate needed, before any renaming.
    pub name: String,
    /// Where it lies, if it lies in this repository.
    pub path: Option<PathBuf>,
}

/// A library, binary, test or bench.
#[derive(Debug, Deserialize)]
pub struct Target {
    /// `lib`, `bin`, `test`, …
    pub kind: Vec<String>,
    /// Its root file.
    pub src_path: PathBuf,
}

/// A rule that does not hold.
#[derive(Debug, PartialEq, Eq)]
pub enum Violation {
    /// A crate with no place in the table of layers.
    Unknown {
        /// The crate.
        package: String,
    },
    /// A crate sees one above it.
    Upward {
        /// The crate that looks.
        from: String,
        /// The crate it sees.
        to: String,
    },
    /// A crate sees one beside it.
    Sibling {
        /// The crate that looks.
        from: String,
        /// The crate it sees.
        to: String,
    },
    /// A core that could reach the operating system.
    NeedsStd {
        /// The crate.
        package: String,
    },
    /// A library that offers nothing.
    Empty {
        /// The crate.
        package: String,
        /// Lines of code in it.
        lines: usize,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { package } => write!(
                f,
                "{package} has no layer: give it one in LAYERS (xtask/src/architecture.rs)"
            ),
            Self::Upward { from, to } => write!(
                f,
                "{from} sees {to}, which lies above it: move what it needs down, or hand it in"
            ),
            Self::Sibling { from, to } => write!(
                f,
                "{from} sees its sibling {to}: route one's effects into the other's inputs in node"
            ),
            Self::NeedsStd { package } => {
                write!(f, "{package} is a core but its lib.rs lacks #![no_std]")
            }
            Self::Empty { package, lines } => write!(
                f,
                "{package} has {lines} lines of code and offers nothing yet: \
                 create a crate with its first working protocol"
            ),
        }
    }
}

impl Workspace {
    /// Asks cargo, without touching network or lock file.
    ///
    /// # Errors
    /// If cargo cannot read the workspace. Nothing was changed.
    pub fn read(root: &Path) -> Result<Self> {
        let answer = Command::new("cargo")
            .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
            .current_dir(root)
            .output()
            .context("starting cargo metadata")?;
        ensure!(
            answer.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&answer.stderr)
        );
        serde_json::from_slice(&answer.stdout).context("reading what cargo metadata says")
    }

    /// The crates that must build without an operating system, lowest layer first.
    #[must_use]
    pub fn cores(&self) -> Vec<&Package> {
        let mut cores: Vec<_> = self
            .packages
            .iter()
            .filter_map(|package| Some((layer(&package.name)?, package)))
            .filter(|(layer, _)| *layer <= HIGHEST_CORE)
            .collect();
        cores.sort_by_key(|(layer, package)| (*layer, &package.name));
        cores.into_iter().map(|(_, package)| package).collect()
    }
}

impl Package {
    fn library(&self) -> Option<&Path> {
        self.targets
            .iter()
            .find(|target| target.kind.iter().any(|kind| kind == "lib"))
            .map(|target| target.src_path.as_path())
    }
}

/// The layer of a crate; `None` for a name the table does not know.
#[must_use]
pub fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// Everything wrong with who sees whom.
#[must_use]
pub fn dependencies(workspace: &Workspace) -> Vec<Violation> {
    let mut found = Vec::new();
    for package in &workspace.packages {
        let from = package.name.clone();
        if from == OUTSIDE {
            continue;
        }
        let Some(own) = layer(&from) else {
            found.push(Violation::Unknown { package: from });
            continue;
        };
        let ours = package.dependencies.iter().filter(|d| d.path.is_some());
        for to in ours.map(|dependency| dependency.name.clone()) {
            let from = from.clone();
            // A name without a layer is reported once, where it is defined;
            // what lies outside is above everything.
            match layer(&to) {
                Some(other) if other > own => found.push(Violation::Upward { from, to }),
                Some(other) if other == own && from != to => {
                    found.push(Violation::Sibling { from, to });
                }
                None if to == OUTSIDE => found.push(Violation::Upward { from, to }),
                _ => {}
            }
        }
    }
    found
}

/// Everything wrong with what libraries contain. `sources` gives the text of
/// each file of a library, its root first.
///
/// # Errors
/// As `sources`.
pub fn contents(
    workspace: &Workspace,
    sources: impl Fn(&Path) -> Result<Vec<String>>,
) -> Result<Vec<Violation>> {
    let mut found = Vec::new();
    for package in &workspace.packages {
        let Some(library) = package.library() else {
            continue;
        };
        let files = sources(library)?;
        let package = package.name.clone();
        let is_core = layer(&package).is_some_and(|layer| layer <= HIGHEST_CORE);
        let root = files.first().map_or("", String::as_str);
        if is_core && !root.lines().any(|line| line == "#![no_std]") {
            found.push(Violation::NeedsStd {
                package: package.clone(),
            });
        }
        let lines = files.iter().flat_map(|text| text.lines()).filter(is_code);
        let lines = lines.count();
        let offers = root.lines().any(|line| line.starts_with("pub "));
        if lines < LINES_MIN || !offers {
            found.push(Violation::Empty { package, lines });
        }
    }
    Ok(found)
}

fn is_code(line: &&str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with("//")
}

/// The text of every Rust file of a library on disk, its root first.
///
/// # Errors
/// If a file or folder cannot be read.
pub fn sources(library: &Path) -> Result<Vec<String>> {
    let folder = library.parent().context("a source file lies in a folder")?;
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                files.insert((path != library, path), text);
            }
        }
    }
    Ok(files.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A crate as cargo would describe it, seeing these others.
    fn package(name: &str, sees: &[(&str, Option<&str>)]) -> Value {
        let sees: Vec<_> = sees
            .iter()
            .map(|(name, kind)| json!({"name": name, "kind": kind, "path": format!("/r/{name}")}))
            .collect();
        json!({
            "name": name,
            "dependencies": sees,
            "targets": [{"kind": ["lib"], "src_path": format!("/r/{name}/src/lib.rs")}],
        })
    }

    fn forged(packages: Vec<Value>) -> Workspace {
        serde_json::from_value(json!({ "packages": packages })).unwrap()
    }

    fn upward(from: &str, to: &str) -> Violation {
        let (from, to) = (from.to_owned(), to.to_owned());
        Violation::Upward { from, to }
    }

    fn sibling(from: &str, to: &str) -> Violation {
        let (from, to) = (from.to_owned(), to.to_owned());
        Violation::Sibling { from, to }
    }

    #[test]
    fn looking_down_is_allowed() {
        let tree = forged(vec![
            package("wire", &[]),
            package("machine", &[("wire", None)]),
            package("membership", &[("wire", None), ("machine", Some("dev"))]),
            package("cli", &[("twin", None), ("wire", Some("build"))]),
            package("xtask", &[("cli", None)]),
        ]);
        assert_eq!(dependencies(&tree), []);
    }

    #[test]
    fn looking_up_or_sideways_is_not_even_in_tests_or_build_scripts() {
        for kind in [None, Some("dev"), Some("build")] {
            for (from, to, violation) in [
                ("wire", "machine", upward("wire", "machine")),
                ("scheduler", "twin", upward("scheduler", "twin")),
                ("twin", "xtask", upward("twin", "xtask")),
                (
                    "scheduler",
                    "membership",
                    sibling("scheduler", "membership"),
                ),
                ("daemon", "twin", sibling("daemon", "twin")),
            ] {
                let tree = forged(vec![package(from, &[(to, kind)])]);
                assert_eq!(dependencies(&tree), [violation], "{kind:?}");
            }
        }
    }

    #[test]
    fn a_library_of_the_same_name_from_elsewhere_is_nobodys_sibling() {
        let tree = forged(vec![json!({
            "name": "physics",
            "dependencies": [{"name": "clock", "path": null}],
            "targets": [],
        })]);
        assert_eq!(dependencies(&tree), []);
    }

    #[test]
    fn a_crate_without_a_layer_is_named() {
        let package_named = "utils".to_owned();
        assert_eq!(
            dependencies(&forged(vec![package("utils", &[("cli", None)])])),
            [Violation::Unknown {
                package: package_named
            }]
        );
    }

    #[test]
    fn a_core_with_std_and_an_empty_crate_are_named() {
        let body = "pub fn one() {}\n".repeat(LINES_MIN);
        let core = format!("//! Essay.\n#![no_std]\n{body}");
        let check = |name, text: &str| {
            let tree = forged(vec![package(name, &[])]);
            contents(&tree, |_| Ok(vec![text.to_owned()])).unwrap()
        };
        let named = |name: &str| name.to_owned();
        assert_eq!(check("wire", &core), []);
        assert_eq!(check("twin", &body), []);
        assert_eq!(
            check("node", &body),
            [Violation::NeedsStd {
                package: named("node")
            }]
        );
        let essay = "//! Essay.\n".repeat(50);
        assert_eq!(
            check("twin", &format!("{essay}pub mod soon;\n")),
            [Violation::Empty {
                package: named("twin"),
                lines: 1
            }]
        );
        let hidden = core.replace("pub fn", "fn");
        assert_eq!(
            check("wire", &hidden),
            [Violation::Empty {
                package: named("wire"),
                lines: LINES_MIN + 1
            }]
        );
    }

    #[test]
    fn cores_come_lowest_first_and_hosts_not_at_all() {
        let tree = forged(vec![
            package("twin", &[]),
            package("node", &[]),
            package("wire", &[]),
            package("trust", &[]),
            package("xtask", &[]),
        ]);
        let names: Vec<_> = tree.cores().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["wire", "trust", "node"]);
    }
}
