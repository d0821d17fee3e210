//! A program as a file: what `cosmos run` can be told, with a line for whatever is wrong.
//!
//! It is read as universe files are, by the same reader: every key has a range, what nobody asked for is an error with
//! the nearest key there is, and everything wrong is said at once. Paths in it begin where it lies.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use daemon::health::{Check, Health};
use daemon::program::{Folder, Port};
use daemon::store::Membership;
use daemon::supervision::{Group, Intensity};
use twin::universe::{self, Document, Table};
use wire::{Class, Nanos};

use super::arguments::{Bytes, Network, Restart, Run, Strategy, cores_allowed, variable};

/// No manifest is longer, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// So many programs one file may have.
const PROGRAMS_MAX: usize = 1000;

/// What a list in it may hold, and what a command line can.
const WORDS_MAX: usize = 4096;

/// The requests that a manifest makes, with what else was asked.
pub(super) fn read(file: &Path, asked: &Run) -> Result<Vec<Run>> {
    let said = file.display().to_string();
    let opened = fs::File::open(file).with_context(|| said.clone())?;
    let mut text = String::new();
    // A device or a pipe has no length to look at first.
    let read = opened.take(FILE_MAX + 1).read_to_string(&mut text);
    let length = read.with_context(|| said.clone())? as u64;
    anyhow::ensure!(
        length <= FILE_MAX,
        "{said}: found more than {FILE_MAX} bytes, expected at most that"
    );
    let folder = std::path::absolute(file)?;
    let folder = folder.parent().context("a file is in a folder")?;
    understood(&said, &text, folder, asked)
}

fn understood(said: &str, text: &str, folder: &Path, asked: &Run) -> Result<Vec<Run>> {
    let document = Document::parse(said, text, &[])?;
    Ok(document.read(|root| schema(root, folder, asked))?)
}

/// How many programs a manifest asks a node for, which lies under this name in the folder `/`.
///
/// # Errors
/// Everything that is wrong with it, each with its line.
pub fn programs_of(said: &str, text: &str) -> Result<usize> {
    #[derive(clap::Parser)]
    struct Asked {
        #[command(flatten)]
        run: Run,
    }
    let asked = <Asked as clap::Parser>::try_parse_from(["run", "--detach", "--file", said])?;
    let runs = understood(said, text, Path::new("/"), &asked.run)?;
    Ok(runs.len())
}

/// One program, or several as a group.
fn schema(root: &Table<'_>, folder: &Path, asked: &Run) -> Vec<Run> {
    if !root.has("programs") {
        return vec![program(root, folder, asked)];
    }
    let doc = "Programs that are supervised together.";
    let programs = root.tables("programs", 1..=PROGRAMS_MAX, doc);
    let membership = group(&root.table("group", "What holds for all of them."), asked);
    if asked.name.is_some() {
        root.refuse(
            "programs",
            "several cannot all have the name that --name says",
        );
    }
    let runs = programs.iter().map(|table| Run {
        membership: membership.clone(),
        ..program(table, folder, asked)
    });
    runs.collect()
}

fn group(table: &Table<'_>, asked: &Run) -> Option<Membership> {
    if !table.is_present() {
        return None;
    }
    let name = table.text("name", "What the group is called.").required();
    let strategies = [
        ("one-for-one", Strategy::OneForOne),
        ("all-for-one", Strategy::AllForOne),
    ];
    let doc = "What it means for the others when one is to be started again.";
    let strategy = table
        .choice("strategy", &strategies, doc)
        .or(Strategy::OneForOne);
    let usual = Intensity::default();
    let doc = "How often members may be started again before all are given up.";
    let restarts = table.count("restarts", doc);
    let restarts = restarts.range(0..=1_000_000).or(usual.restarts.into());
    let within = table.time("within", "Within which time.");
    let within = within
        .range(Nanos::from_millis(10)..=Nanos::DAY)
        .or(Nanos::from_millis(usual.within_ms));
    let at_once = table.count("at_once", "How many of them run at a time.");
    let at_once = at_once.range(1..=u64::from(u32::MAX)).optional();
    if !asked.detach {
        table.refuse("name", "only a node has groups (--detach)");
    }
    Some(Membership {
        name,
        terms: Group {
            strategy: strategy.into(),
            intensity: Intensity {
                restarts: u32::try_from(restarts).unwrap_or(u32::MAX),
                within_ms: within.0 / 1_000_000,
            },
            at_once: at_once.and_then(|most| u32::try_from(most).ok()),
        },
    })
}

fn program(root: &Table<'_>, folder: &Path, asked: &Run) -> Run {
    let texts = |key, doc| root.text(key, doc).list(0..=WORDS_MAX);
    let program = root
        .text("program", "The program: a file, or a name on PATH.")
        .required();
    let mut words = vec![program];
    words.extend(texts("arguments", "Its words."));
    let name = root.text("name", "What the node calls it.").optional();
    let environment = texts("env", "Added to its environment, each KEY=VALUE.");
    let environment = read_each(root, "env", &environment, variable);
    let folders = texts("dirs", "Folders it may read and write, each PATH[:GUEST].");
    read_each(root, "dirs", &folders, |text| {
        Folder::read(text, folder).map_err(|error| error.to_string())
    });
    let ports = texts(
        "ports",
        "Ports of the host that lead into its own network, each [ADDRESS:]HOST:GUEST.",
    );
    let ports = read_each(root, "ports", &ports, |text| text.parse::<Port>());
    let networks = [("own", Network::Own), ("host", Network::Host)];
    let network = root
        .choice("net", &networks, "Whose network it is in.")
        .or(Network::Own);
    if network == Network::Host && !ports.is_empty() {
        root.refuse("ports", "nothing leads into the host's own network");
    }
    let restarts = [
        ("never", Restart::Never),
        ("on-failure", Restart::OnFailure),
        ("always", Restart::Always),
    ];
    let restart = root
        .choice("restart", &restarts, "When it is started again.")
        .or(Restart::Never);
    if restart != Restart::Never && !asked.detach {
        root.refuse("restart", "only a node starts programs again (--detach)");
    }
    let replicas = root
        .count("replicas", "How many of it the fleet runs.")
        .range(1..=64)
        .optional();
    if replicas.is_some() && (!asked.detach || asked.on.is_some()) {
        root.refuse(
            "replicas",
            "only a fleet runs several, wherever it likes (--detach, and no --on)",
        );
    }
    let replicas = replicas.and_then(|replicas| u32::try_from(replicas).ok());
    let replicas = asked.replicas.or(replicas);
    let deterministic = root
        .flag(
            "deterministic",
            "Whether a capsule runs the same way twice.",
        )
        .or(false);
    let seed = root
        .count("seed", "Where its chance comes from.")
        .range(0..=u64::MAX)
        .optional();
    if seed.is_some() && !deterministic {
        root.refuse("seed", "only what is deterministic has one");
    }
    Run {
        words,
        environment,
        folders,
        ports,
        network,
        restart,
        name: asked.name.clone().or(name),
        on: asked.on.clone(),
        replicas,
        memory: root
            .data("memory", "How much memory it may have.")
            .range(universe::Bytes(1 << 20)..=universe::Bytes(1 << 50))
            .optional()
            .map(|bytes| Bytes(bytes.0)),
        cores: root
            .number("cores", "How many cores a program of the host may use.")
            .range(cores_allowed())
            .optional(),
        gpus: root
            .count(
                "gpus",
                "How many whole GPUs a program of the host is given.",
            )
            .range(0..=1_024)
            .optional()
            .map(|gpus| gpus as u32),
        fuel: root
            .count("fuel", "How many instructions a capsule may execute.")
            .range(1..=u64::MAX)
            .optional(),
        class: class(root),
        deadline: root
            .time("deadline", "After how long it has to have ended.")
            .range(Nanos::from_secs(1)..=Nanos(Nanos::DAY.0 * 7))
            .optional()
            .map(|after| Duration::from_nanos(after.0)),
        deterministic,
        seed: seed.unwrap_or(1),
        // Events come through standard input, and so does the word where their state is.
        state: None,
        first: 1,
        health: health(root),
        directory: Some(PathBuf::from(folder)),
        file: None,
        ..asked.clone()
    }
}

fn class(root: &Table<'_>) -> Option<Class> {
    let classes = [
        ("A", Class::A),
        ("B", Class::B),
        ("C", Class::C),
        ("D", Class::D),
    ];
    let doc = "How much it is given where others want the same.";
    root.choice("class", &classes, doc).optional()
}

fn health(root: &Table<'_>) -> Option<Health> {
    let table = root.table("health", "How to find out whether it is well.");
    if !table.is_present() {
        return None;
    }
    let exec = table.text("exec", "Words that, run beside it, end with 0.");
    let exec = exec.list(0..=WORDS_MAX);
    let port = table.count("port", "A port of its loopback that takes connections.");
    let port = port.range(1..=u64::from(u16::MAX)).optional();
    let path = table.text(
        "path",
        "What is got from that port, with a status from 200 to 399.",
    );
    let path = path.optional();
    let check = match (
        exec.is_empty(),
        port.and_then(|port| u16::try_from(port).ok()),
        path,
    ) {
        (false, None, None) => Check::Exec(exec),
        (true, Some(port), None) => Check::Tcp(port),
        (true, Some(port), Some(path)) => {
            if !path.starts_with('/') || path.contains(char::is_control) || path.contains(' ') {
                table.refuse(
                    "path",
                    "expected one that begins with / and has no blank in it",
                );
            }
            Check::Http { port, path }
        }
        _ => {
            let key = if table.has("exec") { "exec" } else { "port" };
            table.refuse(key, "expected either exec, or port, or port and path");
            Check::Tcp(1)
        }
    };
    let span = |key, doc, default: u64| {
        let span = table
            .time(key, doc)
            .range(Nanos::from_millis(10)..=Nanos::DAY);
        span.or(Nanos::from_millis(default)).0 / 1_000_000
    };
    // The figures are Docker's (its reference on HEALTHCHECK), so that nobody has to learn others; its start period
    // is 0, which ends a database that replays its log, so here it is as long as three questions.
    Some(Health {
        check,
        every_ms: span("every", "Between an answer and the next question.", 30_000),
        patience_ms: span("patience", "An answer that takes longer is none.", 30_000),
        failures: table
            .count(
                "failures",
                "So many times in a row without an answer, and it is ended.",
            )
            .range(1..=1000)
            .or(3)
            .try_into()
            .unwrap_or(3),
        start_ms: span(
            "start",
            "How long one that was never well is left alone.",
            90_000,
        ),
    })
}

/// What each text of a list says; what does not is refused with its place.
fn read_each<T>(
    root: &Table<'_>,
    key: &str,
    texts: &[String],
    read: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    let said = texts.iter().filter_map(|text| match read(text) {
        Ok(said) => Some(said),
        Err(because) => {
            root.refuse(key, format!("{text:?}: {because}"));
            None
        }
    });
    said.collect()
}
