//! `cosmos up`, and what a node is asked.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use daemon::control::{self, Answer, Listed, Request};
use daemon::program::Kind;
use daemon::supervision::Phase;
use serde_json::json;

use super::arguments::{Ask, Logs, Named, Run, Up};
use super::attached;

pub(super) fn up(asked: &Up) -> Result<ExitCode> {
    let data = asked.data.directory()?;
    daemon::node::up(&data, |resumed| {
        let resumes = match resumed {
            0 => String::new(),
            1 => ", resuming 1 program".to_owned(),
            n => format!(", resuming {n} programs"),
        };
        anstream::eprintln!("node: ready on {}{resumes}", data.display());
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run(asked: &Run) -> Result<ExitCode> {
    let (program, kind) = attached::read(asked)??;
    let program = match kind {
        Kind::Native => attached::with_inherited(program),
        _ => program,
    };
    let request = Request::Run {
        name: asked.name.clone(),
        program,
        restart: asked.restart.into(),
    };
    match put(&asked.data.directory()?, &request)? {
        Answer::Done { name } if asked.json => print_json(&json!({ "name": name })),
        Answer::Done { name } => print(&format!("{name}\n")),
        other => unexpected(&other),
    }
}

pub(super) fn ps(asked: &Ask) -> Result<ExitCode> {
    let programs = match put(&asked.data.directory()?, &Request::List)? {
        Answer::List { programs } => programs,
        other => return unexpected(&other),
    };
    if asked.json {
        return print_json(&json!({ "programs": programs }));
    }
    let width = programs
        .iter()
        .map(|program| program.name.len())
        .max()
        .unwrap_or(0)
        .max(4);
    let mut table = format!(
        "{:<width$}  {:<12}  {:>6}  PROGRAM\n",
        "NAME", "STATE", "STARTS"
    );
    for program in &programs {
        let (name, starts) = (&program.name, program.starts);
        let words = std::iter::once(&program.program).chain(&program.arguments);
        let words: Vec<_> = words.map(|word| on_one_line(word)).collect();
        let (state, words) = (state(program), words.join(" "));
        writeln!(table, "{name:<width$}  {state:<12}  {starts:>6}  {words}")?;
    }
    print(&table)
}

/// Line ends and what a terminal would obey are shown instead of done.
fn on_one_line(word: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    word.chars().map(shown).collect()
}

fn state(program: &Listed) -> String {
    match program.phase {
        Phase::Running => "running".to_owned(),
        Phase::Pausing { code } => format!("pausing ({code})"),
        Phase::Stopping => "stopping".to_owned(),
        Phase::Ended { code: Some(code) } if program.out_of_memory => {
            format!("ended ({code}, out of memory)")
        }
        Phase::Ended { code: Some(code) } => format!("ended ({code})"),
        Phase::Ended { code: None } => "stopped".to_owned(),
    }
}

pub(super) fn logs(asked: &Logs) -> Result<ExitCode> {
    let request = Request::Logs {
        name: asked.name.clone(),
        follow: asked.follow,
    };
    let (answer, mut said) = control::ask(&asked.data.directory()?, &request)?;
    match answer {
        Answer::Logs => {}
        Answer::Refused { because } => bail!(because),
        other => return unexpected(&other),
    }
    let mut out = io::stdout().lock();
    let mut piece = vec![0; 64 << 10];
    loop {
        let length = said.read(&mut piece)?;
        let written = out.write_all(&piece[..length]).and_then(|()| out.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::SUCCESS);
            }
            written => written?,
        }
        if length == 0 {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// One request for each name; those after one that was refused are not asked.
pub(super) fn each(asked: &Named, request: impl Fn(String) -> Request) -> Result<ExitCode> {
    let data = asked.ask.data.directory()?;
    for name in &asked.names {
        match put(&data, &request(name.clone()))? {
            Answer::Done { name } if !asked.ask.json => print(&format!("{name}\n"))?,
            Answer::Done { .. } => ExitCode::SUCCESS,
            other => return unexpected(&other),
        };
    }
    if asked.ask.json {
        print_json(&json!({ "names": asked.names }))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn status(asked: &Ask) -> Result<ExitCode> {
    let data = asked.data.directory()?;
    let status = match put(&data, &Request::Status)? {
        Answer::Status(status) => status,
        other => return unexpected(&other),
    };
    if asked.json {
        return print_json(&json!(status));
    }
    let limits = &status.limits;
    let mut state = format!("sealed {}", status.changes);
    if status.unwritten > 0 {
        write!(
            state,
            "; the disk is full: {} ends are not written yet",
            status.unwritten
        )?;
    }
    for damaged in &status.damaged {
        write!(state, "\n           {damaged}")?;
    }
    print(&format!(
        "node       {} (cosmos {}, process {}, up {:.0} s)\n\
         programs   {} running of {}\n\
         limits     memory: {}; cores: {}; processes: {}\n\
         state      {state}\n",
        data.display(),
        status.version,
        status.process,
        status.seconds,
        status.running,
        status.known,
        limits.memory,
        limits.cores,
        limits.processes,
    ))
}

/// What is refused is an error.
fn put(data: &Path, request: &Request) -> Result<Answer> {
    match control::ask(data, request)?.0 {
        Answer::Refused { because } => bail!(because),
        answer => Ok(answer),
    }
}

fn unexpected(answer: &Answer) -> Result<ExitCode> {
    bail!("the node answered something else than was asked: {answer:?}")
}

fn print(text: &str) -> Result<ExitCode> {
    crate::print(text)?;
    Ok(ExitCode::SUCCESS)
}

fn print_json(value: &serde_json::Value) -> Result<ExitCode> {
    print(&format!("{value:#}\n"))
}
