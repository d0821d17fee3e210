//! `cargo xtask`: everything done to the tree that is not plain `cargo`.
//!
//! `verify` answers whether a change may go in, and writes nothing that git
//! tracks; `fix` is its writing twin; `setup` fetches the tools both can use.

mod browser;
mod built;
mod fleet;
mod fuzz;
mod setup;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use xtask::root;

/// The three workspaces: the system, the fuzz targets that need another compiler, and the
/// examples that are built for another machine.
const MANIFESTS: [&str; 3] = ["Cargo.toml", "fuzz/Cargo.toml", EXAMPLES];

const EXAMPLES: &str = "examples/Cargo.toml";

/// Tasks for people who change cosmOS.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every check; write no tracked file.
    Verify,
    /// Format, and apply the changes clippy is sure of.
    Fix,
    /// Run one benchmark, or list them.
    Bench {
        /// Its name, as listed.
        name: Option<String>,
        /// Handed to the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Install the tools that verify can use.
    Setup {
        /// Report what is there and install nothing.
        #[arg(long)]
        check: bool,
    },
    /// Build the examples as WebAssembly: modules (WASI preview 1) and components (preview 2).
    Wasm,
    /// Do to real daemons in network namespaces what a universe of hosts says, and set it beside the prediction.
    Fleet(fleet::Asked),
    /// Throw random bytes at the decoders until one breaks.
    Fuzz {
        /// One target only.
        target: Option<String>,
        /// How long for each target.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Put this file to the target instead, and nothing else.
        #[arg(long, requires = "target")]
        input: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Verify => verify::verify(),
        Task::Fix => fix().map(|()| true),
        Task::Bench { name, arguments } => bench(name.as_deref(), &arguments).map(|()| true),
        Task::Setup { check } => setup::setup(check).map(|()| true),
        Task::Wasm => wasm().map(|()| true),
        Task::Fleet(asked) => fleet::fleet(&asked),
        Task::Fuzz {
            target,
            seconds,
            input,
        } => fuzz::fuzz(target.as_deref(), seconds, input.as_deref()).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// A command run in the root of the repository.
fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// Whether a command can be started and succeeds; its output goes nowhere.
fn answers(program: &str, arguments: &[&str]) -> bool {
    command(program, arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// A command as one would type it.
fn spelled(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// Runs a command with its output streaming by; `Ok` only if it succeeds.
fn stream(command: &mut Command) -> Result<()> {
    let spelled = spelled(command);
    println!("$ {spelled}");
    let status = command
        .status()
        .with_context(|| format!("starting `{spelled}`"))?;
    ensure!(status.success(), "`{spelled}` ended with {status}");
    Ok(())
}

fn fix() -> Result<()> {
    for manifest in MANIFESTS {
        let clippy = [
            "clippy",
            "--manifest-path",
            manifest,
            "--workspace",
            "--all-targets",
        ];
        stream(command("cargo", &clippy).args(["--fix", "--allow-dirty"]))?;
        stream(&mut command(
            "cargo",
            &["fmt", "--manifest-path", manifest, "--all"],
        ))?;
    }
    Ok(())
}

/// Modules and components, each without the examples that only the other kind can be; both compilers come with
/// [`setup`].
const WASM_TARGETS: [(&str, &str); 2] = [("wasm32-wasip1", "http"), ("wasm32-wasip2", "counter")];

/// The example in C, which needs a compiler that not everybody has.
const WASM_IN_C: &str = "examples/target/wasm32-wasip2/release/total.wasm";

fn wasm() -> Result<()> {
    for (target, without) in WASM_TARGETS {
        ensure!(
            setup::has_target(target),
            "the target {target} is not installed; cargo xtask setup installs it"
        );
        let build = [
            "build",
            "--locked",
            "--release",
            "--manifest-path",
            EXAMPLES,
            // Wherever others are built to: who runs them looks for them here.
            "--target-dir",
            "examples/target",
        ];
        let which = ["--target", target, "--workspace", "--exclude", without];
        stream(command("cargo", &build).args(which))?;
        println!("examples/target/{target}/release/*.wasm");
    }
    match setup::compiles_c() {
        true => {
            stream(&mut command("sh", &["examples/total/build.sh", WASM_IN_C]))?;
            println!("{WASM_IN_C}");
        }
        false => println!("left out: the example in C needs clang; cargo xtask setup installs it"),
    }
    Ok(())
}

fn bench(name: Option<&str>, arguments: &[String]) -> Result<()> {
    let known = benches()?;
    let Some(name) = name else {
        for (name, package) in &known {
            println!("{name:<16} crates/{package}/benches");
        }
        if known.is_empty() {
            println!("no crate has a folder benches/ yet");
        }
        return Ok(());
    };
    let names: Vec<_> = known.iter().map(|(name, _)| name.as_str()).collect();
    let Some((_, package)) = known.iter().find(|(known, _)| known == name) else {
        bail!(
            "no benchmark is called {name}; there are: {}",
            names.join(", ")
        );
    };
    let cargo = ["bench", "--package", package, "--bench", name, "--"];
    stream(command("cargo", &cargo).args(arguments))
}

/// The benchmarks by name, each with the crate it belongs to.
fn benches() -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for package in names(&root().join("crates"))? {
        let folder = root().join("crates").join(&package).join("benches");
        if folder.is_dir() {
            let files = names(&folder)?.into_iter();
            let benches = files.filter_map(|file| Some(file.strip_suffix(".rs")?.to_owned()));
            found.extend(benches.map(|name| (name, package.clone())));
        }
    }
    Ok(found)
}

/// What lies in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
