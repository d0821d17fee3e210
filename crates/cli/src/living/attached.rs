//! `cosmos run`: a program in the foreground, with this process's streams, to its end.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use daemon::capsule::{self, Origin};
use daemon::foreground;
use daemon::program::{self, Folder, Kind, Limits, NoProgram, Program};

use super::arguments::Run;
use crate::complaint;

pub(crate) fn run(asked: &Run) -> Result<ExitCode> {
    let data = asked.data.directory()?;
    let (program, kind) = match read(asked)? {
        Ok(found) => found,
        Err(error) => {
            let code = error.exit_code();
            complaint::print(&error.into(), false);
            return Ok(ExitCode::from(code));
        }
    };
    match kind {
        Kind::Module | Kind::Component => Ok(run_capsule(&program, kind, &data)),
        Kind::Native => run_native(program, &data),
    }
}

/// The program that was asked for. What is wrong with the request is the outer error.
pub(super) fn read(asked: &Run) -> Result<Result<(Program, Kind), NoProgram>> {
    let directory = std::env::current_dir().context("the current folder")?;
    let folders = asked.folders.iter().map(|text| {
        Folder::read(text, &directory).with_context(|| format!("--dir {text}"))
    });
    let folders = folders.collect::<Result<Vec<_>>>()?;
    let (word, arguments) = asked.words.split_first().context("no program")?;
    let found = program::find(word, std::env::var("PATH").ok().as_deref())
        .and_then(|path| Ok((program::kind(&path)?, path)));
    let (kind, path) = match found {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    let program = Program {
        path,
        name: word.clone(),
        arguments: arguments.to_vec(),
        environment: asked.environment.clone(),
        directory,
        folders,
        limits: Limits {
            memory: asked.memory.map(|bytes| bytes.0),
            cores: asked.cores,
            fuel: asked.fuel,
        },
        network: asked.network.into(),
        ports: asked.ports.clone(),
    };
    let (name, native) = (&program.name, kind == Kind::Native);
    ensure!(
        native || program.limits.cores.is_none(),
        "--cpu: {name} is a capsule, which has one core; its instructions are limited with --fuel"
    );
    ensure!(
        native || (program.ports.is_empty() && program.network == program::Network::Own),
        "--net, --port: {name} is a capsule, which has no network"
    );
    ensure!(
        !native || program.limits.fuel.is_none(),
        "--fuel: {name} is no capsule, its instructions are not counted"
    );
    Ok(Ok((program, kind)))
}

/// What a program of the host finds in its environment besides what was asked for: where programs
/// are, whose they are, and how to talk to a person.
const INHERITED: [&str; 8] = [
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TERM",
];

/// With what of our environment goes without saying; what was asked for comes last and holds.
pub(super) fn with_inherited(mut program: Program) -> Program {
    let inherited = INHERITED
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), std::env::var(key).ok()?)));
    program.environment = inherited.chain(program.environment).collect();
    program
}

fn run_native(program: Program, data: &Path) -> Result<ExitCode> {
    let program = with_inherited(program);
    let ended = match foreground::run(&program, data) {
        Ok(ended) => ended,
        Err(error) => {
            let error = anyhow::Error::from(error).context(format!("running {}", program.name));
            complaint::print(&error, false);
            return Ok(ExitCode::from(125));
        }
    };
    if let (true, Some(limit)) = (ended.out_of_memory, program.limits.memory) {
        let said = anyhow::Error::msg(program::used_up_memory(&program.name, limit));
        complaint::print(&said, false);
    }
    Ok(ExitCode::from(ended.code))
}

fn run_capsule(program: &Program, kind: Kind, data: &Path) -> ExitCode {
    match capsule::run(program, kind, data) {
        Ok(ended) => {
            if ended.code_from == Origin::Recompiled {
                anstream::eprintln!(
                    "note: the compiled code kept for {} was damaged; it was compiled anew",
                    program.name
                );
            }
            ExitCode::from(ended.code)
        }
        Err(error) => {
            let code = error.exit_code();
            complaint::print(&error.into(), false);
            ExitCode::from(code)
        }
    }
}
