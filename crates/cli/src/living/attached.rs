//! `cosmos run`: a program in the foreground, with this process's streams, to its end.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use daemon::capsule::events::{self, Life};
use daemon::capsule::{self, Home, Origin};
use daemon::control::{self, Answer, Request};
use daemon::foreground;
use daemon::gpu;
use daemon::program::{self, Folder, Kind, Limits, NoProgram, Program};

use super::arguments::{Exec, Run};
use crate::complaint;

/// Says what a program ended with, in a line of its own: standard output is the program's.
pub(super) fn tell(program: &str, code: u8) {
    anstream::eprintln!(
        "{}",
        serde_json::json!({ "program": program, "code": code })
    );
}

pub(crate) fn run(asked: &Run) -> Result<u8> {
    let data = asked.data.directory()?;
    let (program, kind) = match read(asked)? {
        Ok(found) => found,
        Err(error) => {
            let code = error.exit_code();
            complaint::print(&error.into(), false);
            return Ok(code);
        }
    };
    match kind {
        Kind::Module | Kind::Component => {
            if let Some(deadline) = asked.deadline {
                end_after(deadline, &program.name, asked.json);
            }
            Ok(run_capsule(&program, kind, &data, asked)?)
        }
        Kind::Native => {
            let there = gpu::Gpus::of(Path::new(gpu::DEVICES)).there();
            let wanted = program.gpus();
            anyhow::ensure!(
                wanted <= there,
                "{}: {}",
                program.name,
                gpu::lack(there, there, wanted)
            );
            anyhow::ensure!(
                wanted == 0,
                "{}: found {there} GPUs on this machine; who has which a node says, expected --detach (--gpu)",
                program.name
            );
            let lives = asked.state.is_none();
            anyhow::ensure!(
                lives,
                "{} is no capsule, its state cannot be seen (--state)",
                program.name
            );
            run_native(program, &data, asked.deadline)
        }
    }
}

/// The program that was asked for. What is wrong with the request is the outer error.
pub(super) fn read(asked: &Run) -> Result<Result<(Program, Kind), NoProgram>> {
    let directory = match &asked.directory {
        Some(directory) => directory.clone(),
        None => std::env::current_dir().context("the current folder")?,
    };
    let folders = asked
        .folders
        .iter()
        .map(|text| Folder::read(text, &directory).with_context(|| format!("--dir {text}")));
    let folders = folders.collect::<Result<Vec<_>>>()?;
    let (word, arguments) = asked.words.split_first().context("no program")?;
    let place = match word.contains('/') {
        true => directory.join(word).to_string_lossy().into_owned(),
        false => word.clone(),
    };
    let found = program::find(&place, std::env::var("PATH").ok().as_deref())
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
            gpus: asked.gpus,
            fuel: asked.fuel,
            class: asked.class,
        },
        network: asked.network.into(),
        ports: asked.ports.clone(),
        health: asked.health.clone(),
        seed: asked.deterministic.then_some(asked.seed),
        devices: Vec::new(),
    };
    program.check(kind).map_err(anyhow::Error::msg)?;
    Ok(Ok((program, kind)))
}

/// With what of our environment goes without saying; what was asked for comes last and holds.
pub(super) fn with_inherited(mut program: Program) -> Program {
    program.environment = program::inherited().chain(program.environment).collect();
    program
}

/// What `timeout` of the GNU tools says of who was too slow.
const LATE: u8 = 124;

fn late(name: &str, deadline: Duration) {
    let seconds = deadline.as_secs_f64();
    let said = anyhow::anyhow!("{name} was ended: it had not ended after {seconds} s (--deadline)");
    complaint::print(&said, false);
}

/// A capsule in the foreground is this process, and has nothing to put in order.
fn end_after(deadline: Duration, name: &str, json: bool) {
    let name = name.to_owned();
    std::thread::spawn(move || {
        std::thread::park_timeout(deadline);
        late(&name, deadline);
        if json {
            tell(&name, LATE);
        }
        std::process::exit(LATE.into());
    });
}

fn run_native(program: Program, data: &Path, deadline: Option<Duration>) -> Result<u8> {
    let program = with_inherited(program);
    let ended = match foreground::run(&program, data, deadline) {
        Ok(ended) => ended,
        Err(error) => {
            let error = anyhow::Error::from(error).context(format!("running {}", program.name));
            complaint::print(&error, false);
            return Ok(125);
        }
    };
    if let (true, Some(limit)) = (ended.out_of_memory, program.limits.memory) {
        let said = anyhow::Error::msg(program::used_up_memory(&program.name, limit));
        complaint::print(&said, false);
    }
    if let (true, Some(deadline)) = (ended.late, deadline) {
        late(&program.name, deadline);
        return Ok(LATE);
    }
    Ok(ended.code)
}

/// In another program, as the node knows it.
pub(crate) fn exec(asked: &Exec) -> Result<u8> {
    let data = asked.data.directory()?;
    let request = Request::Inside {
        name: asked.name.clone(),
    };
    let host = match control::ask(&data, &request)?.0 {
        Answer::Inside(host) => host,
        Answer::Refused { because } => anyhow::bail!(because),
        other => anyhow::bail!("the node answered something else than was asked: {other:?}"),
    };
    let (word, arguments) = asked.words.split_first().context("no program")?;
    let mut program = host.program.clone();
    let path = program.environment.iter().rfind(|(key, _)| key == "PATH");
    // A name with a slash is one inside, which need not be there outside.
    program.path = match word.contains('/') {
        true => program.directory.join(word),
        false => match program::find(word, path.map(|(_, path)| path.as_str())) {
            Ok(path) => path,
            Err(error) => {
                let code = error.exit_code();
                complaint::print(&error.into(), false);
                return Ok(code);
            }
        },
    };
    program.name.clone_from(word);
    program.arguments = arguments.to_vec();
    program
        .environment
        .extend(asked.environment.iter().cloned());
    (program.ports, program.health) = (Vec::new(), None);
    match foreground::run_inside(&host, &program, &data) {
        Ok(code) => Ok(code),
        Err(error) => {
            let error = anyhow::Error::from(error).context(format!("running {word}"));
            complaint::print(&error, false);
            Ok(125)
        }
    }
}

fn run_capsule(program: &Program, kind: Kind, data: &Path, asked: &Run) -> Result<u8> {
    let ended = match &asked.state {
        None => capsule::run(program, kind, data, None),
        Some(state) if !program.ports.is_empty() => {
            let home = Home {
                state: std::path::absolute(state).context("--state")?,
                lease: None,
            };
            capsule::run(program, kind, data, Some(&home))
        }
        Some(state) => {
            let life = Life {
                state: std::path::absolute(state).context("--state")?,
                first: asked.first,
            };
            events::live(
                program,
                kind,
                data,
                &life,
                io::stdin().lock(),
                &mut io::stdout().lock(),
            )
        }
    };
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            let code = error.exit_code();
            complaint::print(&error.into(), false);
            return Ok(code);
        }
    };
    if ended.code_from == Origin::Recompiled {
        anstream::eprintln!(
            "note: the compiled code kept for {} was damaged; it was compiled anew",
            program.name
        );
    }
    if let Some(used) = ended.used {
        anstream::eprintln!("note: {} used {used}", program.name);
    }
    Ok(ended.code)
}
