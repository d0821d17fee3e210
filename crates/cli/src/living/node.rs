//! `cosmos up`, and what a node is asked.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use daemon::control::{self, Answer, Listed, Request, Status};
use daemon::fleet::{FleetStatus, Wishes};
use daemon::program::Kind;
use daemon::sensors::Source;
use daemon::supervision::Phase;
use serde_json::json;

use super::arguments::{Ask, Logs, Named, Outside, Ps, Run, Up};
use super::{attached, fleet};

pub(super) fn up(asked: &Up) -> Result<ExitCode> {
    let data = asked.data.directory()?;
    let http = asked.http.unwrap_or(daemon::node::Asked::Somewhere);
    let wishes = Wishes {
        listen: asked.listen,
        join: asked.join,
        name: asked.name.clone(),
        skew_ns: asked.skew_ns,
    };
    daemon::node::up(&data, http, wishes, |resumed, dashboard, fleet| {
        let resumes = match resumed {
            0 => String::new(),
            1 => ", resuming 1 program".to_owned(),
            n => format!(", resuming {n} programs"),
        };
        anstream::eprintln!("node: ready on {}{resumes}", data.display());
        if let Some(address) = dashboard {
            anstream::eprintln!(
                "node: dashboard on {address}; `cosmos dashboard` prints the address to open"
            );
        }
        anstream::eprintln!(
            "fleet: {} is tile {} of fleet {}, at {}",
            fleet.name,
            fleet.tile,
            fleet.fleet,
            fleet.address
        );
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run(asked: &Run) -> Result<ExitCode> {
    let (program, kind) = attached::read(asked)??;
    let program = match kind {
        Kind::Native => attached::with_inherited(program),
        _ => program,
    };
    let (name, restart) = (asked.name.clone(), asked.restart.into());
    let request = match asked.replicas {
        Some(replicas) => Request::Give {
            name,
            program,
            restart,
            replicas,
        },
        None => {
            let run = Request::Run {
                name,
                program,
                restart,
            };
            on(asked.on.as_ref(), run)
        }
    };
    match put(&asked.data.directory()?, &request)? {
        Answer::Done { name } if asked.json => print_json(&json!({ "name": name })),
        Answer::Done { name } => print(&format!("{name}\n")),
        other => unexpected(&other),
    }
}

/// The same request, to another machine if one is named.
fn on(member: Option<&String>, request: Request) -> Request {
    match member.cloned() {
        None => request,
        Some(member) => Request::On {
            member,
            request: Box::new(request),
        },
    }
}

pub(super) fn ps(asked: &Ps) -> Result<ExitCode> {
    let data = asked.ask.data.directory()?;
    if asked.fleet {
        return fleet::ps(&data, asked.ask.json);
    }
    let programs = match put(&data, &Request::List)? {
        Answer::List { programs } => programs,
        other => return unexpected(&other),
    };
    if asked.ask.json {
        return print_json(&json!({ "programs": programs }));
    }
    print(&table(&programs))
}

pub(super) fn table(programs: &[Listed]) -> String {
    let width = programs.iter().map(|program| program.name.len());
    let width = width.max().unwrap_or(0).max(4);
    let mut table = format!(
        "{:<width$}  {:<12}  {:>6}  PROGRAM\n",
        "NAME", "STATE", "STARTS"
    );
    for program in programs {
        let (name, starts) = (&program.name, program.starts);
        let words = std::iter::once(&program.program).chain(&program.arguments);
        let words: Vec<_> = words.map(|word| on_one_line(word)).collect();
        let (state, words) = (state(program), words.join(" "));
        let line = format!("{name:<width$}  {state:<12}  {starts:>6}  {words}\n");
        table.push_str(&line);
    }
    table
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
        match put(&data, &on(asked.on.as_ref(), request(name.clone())))? {
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
    let (limits, fleet) = (&status.limits, &status.fleet);
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
         {}\
         state      {state}\n\
         fleet      {}: {} of {} machines alive; this is {}, tile {}, at {}\n{}",
        data.display(),
        status.version,
        status.process,
        status.seconds,
        status.running,
        status.known,
        limits.memory,
        limits.cores,
        limits.processes,
        heat(&status),
        fleet.fleet,
        fleet.alive,
        fleet.known,
        fleet.name,
        fleet.tile,
        fleet.address,
        turned_away(fleet),
    ))
}

pub(super) fn outside(asked: &Outside) -> Result<ExitCode> {
    let celsius = asked.celsius;
    match put(&asked.ask.data.directory()?, &Request::Outside { celsius })? {
        Answer::Done { .. } if asked.ask.json => print_json(&json!({ "outside_celsius": celsius })),
        Answer::Done { name } => print(&format!("outside {name}\n")),
        other => unexpected(&other),
    }
}

fn heat(status: &Status) -> String {
    let Some(reading) = status.heat else {
        return String::new();
    };
    let source = match reading.temperature.source {
        Source::Measured => "measured",
        Source::Modelled => "modelled: this machine shows no sensor",
    };
    format!(
        "heat       {:.1} °C of {:.0} °C ({source}); programs get {}\n",
        reading.temperature.celsius,
        reading.temperature.limit_celsius,
        match status.limits.cores.starts_with("cgroup") {
            true => format!("{:.0} % of the processor", reading.clock * 100.0),
            false => "all of the processor: no control group could slow them".to_owned(),
        }
    )
}

pub(super) fn dashboard(asked: &Ask) -> Result<ExitCode> {
    let data = asked.data.directory()?;
    let status = match put(&data, &Request::Status)? {
        Answer::Status(status) => status,
        other => return unexpected(&other),
    };
    let Some(address) = status.dashboard else {
        bail!(
            "the node of {} serves no dashboard: it was started with `--http off`",
            data.display()
        );
    };
    let key = daemon::front::key(&data)
        .with_context(|| format!("reading its key in {}", data.display()))?;
    // A browser does not send what is behind the #; the page does.
    let url = format!("http://{address}/#{key}");
    if asked.json {
        return print_json(&json!({ "url": url, "address": address, "key": key }));
    }
    print(&format!("{url}\n"))
}

fn turned_away(fleet: &FleetStatus) -> String {
    if fleet.refused.is_empty() {
        return String::new();
    }
    let refused = fleet.refused.iter();
    let refused: Vec<_> = refused
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    format!("refused    {}\n", refused.join(", "))
}

/// What is refused is an error.
pub(super) fn put(data: &Path, request: &Request) -> Result<Answer> {
    match control::ask(data, request)?.0 {
        Answer::Refused { because } => bail!(because),
        answer => Ok(answer),
    }
}

pub(super) fn unexpected(answer: &Answer) -> Result<ExitCode> {
    bail!("the node answered something else than was asked: {answer:?}")
}

pub(super) fn print(text: &str) -> Result<ExitCode> {
    crate::print(text)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn print_json(value: &serde_json::Value) -> Result<ExitCode> {
    print(&format!("{value:#}\n"))
}
