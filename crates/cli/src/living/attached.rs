//! `cosmos run`: a program in the foreground, with this process's streams, to its end.

use std::path::{Path, PathBuf};
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
        _ if kind != Kind::Native && program.limits.cores.is_some() => {
            anyhow::bail!(
                "--cpu: {} is a capsule, which has one core; its instructions are limited with --fuel",
                program.name
            )
        }
        Kind::Module | Kind::Component => Ok(run_capsule(&program, kind, &data)),
        Kind::Native => run_native(program, &data),
    }
}

/// The program that was asked for. What is wrong with the request is the outer error.
pub(super) fn read(asked: &Run) -> Result<Result<(Program, Kind), NoProgram>> {
    let folders = asked.folders.iter().map(|text| folder(text));
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
        directory: std::env::current_dir().context("the current folder")?,
        folders,
        limits: Limits {
            memory: asked.memory.map(|bytes| bytes.0),
            cores: asked.cores,
            fuel: asked.fuel,
        },
    };
    Ok(Ok((program, kind)))
}

fn folder(text: &str) -> Result<Folder> {
    let (host, guest) = text.split_once(':').unwrap_or((text, text));
    ensure!(
        Path::new(host).is_dir(),
        "--dir {text}: found no folder {host}, expected one that is there"
    );
    ensure!(
        !guest.is_empty(),
        "--dir {text}: expected a name after the colon"
    );
    Ok(Folder {
        host: PathBuf::from(host).canonicalize()?,
        guest: guest.to_owned(),
    })
}

/// With what of our environment goes without saying; what was asked for comes last and holds.
pub(super) fn with_inherited(mut program: Program) -> Program {
    program.environment = program::inherited().chain(program.environment).collect();
    program
}

fn run_native(program: Program, data: &Path) -> Result<ExitCode> {
    ensure!(
        program.limits.fuel.is_none(),
        "--fuel: {} is no capsule, its instructions are not counted",
        program.name
    );
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
        let said = anyhow::anyhow!(
            "{} was stopped: it used more than its limit of {limit} bytes of memory (--mem)",
            program.name
        );
        complaint::print(&said, false);
    }
    Ok(ExitCode::from(ended.code))
}

fn run_capsule(program: &Program, kind: Kind, data: &Path) -> ExitCode {
    match capsule::run(program, kind, &capsule::cache_in(data)) {
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
