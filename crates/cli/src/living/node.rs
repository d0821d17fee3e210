//! `cosmos up`, and what a node is asked.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use daemon::control::{self, Answer, Listed, Request, Status, Wanted};
use daemon::fleet::{FleetStatus, Wishes};
use daemon::heat::Atmosphere;
use daemon::make::{Make, Told};
use daemon::sensors::{How, Part, Source};
use daemon::services::Health;
use daemon::supervision::Phase;
use serde_json::json;
use twin::rehearsal::Universe;
use twin::universe::Document;

use super::arguments::{Ask, Chosen, Logs, Named, Outside, Ps, Run, Up};
use super::{batch, fleet};
use crate::universes;

pub(super) fn up(asked: &Up) -> Result<ExitCode> {
    let data = asked.data.directory()?;
    let http = asked.http.unwrap_or(daemon::node::Asked::Somewhere);
    let mut make = match asked.universe.as_deref() {
        Some(universe) => described(universe)?,
        None => Make::default(),
    };
    if let Some(devices) = &asked.devices {
        make.devices.clone_from(devices);
    }
    if let Some(system) = &asked.system {
        make.system.clone_from(system);
    }
    if let Some(nvml) = &asked.nvml {
        make.nvml.clone_from(nvml);
    }
    let wishes = Wishes {
        listen: asked.listen,
        join: asked.join,
        name: asked.name.clone(),
        make,
        skew_ns: asked.skew_ns,
    };
    daemon::node::up(&data, http, wishes, |resumed, dashboard, fleet| {
        let resumes = match resumed {
            0 => String::new(),
            1 => ", resuming 1 program".to_owned(),
            n => format!(", resuming {n} programs"),
        };
        anstream::eprintln!("node: ready on {}{resumes}", data.display());
        if asked.json {
            // Nobody who reads it may be there any more.
            let _ = print_json(&json!({
                "data": data, "process": std::process::id(), "resumed": resumed, "dashboard": dashboard, "fleet": fleet,
            }));
        }
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

/// What a universe of hosts says of this machine; what was taken from it is said.
fn described(asked: &str) -> Result<Make> {
    let universe = universes::find(asked)?;
    let document = Document::parse(&universe.file, &universe.text, &[])?;
    let config = Universe::deployed(&document)?;
    let make = Make {
        universe: Some(config.name.clone()),
        device: config.device,
        timings: config.timings,
        detection_p99: Some(config.bounds.detection_p99),
        ..Make::default()
    };
    let left: Vec<_> = [
        (config.programs.len(), "program"),
        (config.blows.len(), "fault"),
        (
            config.ahead_ns.iter().filter(|ahead| **ahead != 0).count(),
            "wrong clock",
        ),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{number} {what}{}", if number == 1 { "" } else { "s" }))
    .collect();
    let left = match left.as_slice() {
        [] => String::new(),
        left => format!("; left to rehearsals: {}", left.join(", ")),
    };
    anstream::eprintln!(
        "universe: {} by {}{left}",
        machine(&make.told()),
        universe.file
    );
    Ok(make)
}

/// `a CPU-NODE, slowed from 90 °C on, …`
fn machine(told: &Told) -> String {
    format!(
        "a {}, slowed from {:.0} °C on, ends at {:.0} °C; members probe every {} ms and suspect for {} to {} ms",
        told.device,
        told.throttle_celsius,
        told.shutdown_celsius,
        told.period_ms,
        told.suspicion_min_ms,
        told.suspicion_max_ms
    )
}

/// About so many bytes of programs are handed over at once; a frame has its limit.
const HANDED_MAX: usize = 2 << 20;

/// Hands programs to the node: all of them or none, unless they are more than a frame holds.
pub(super) fn run(asked: &Run, all: &[Run]) -> Result<ExitCode> {
    let mut wanted = Vec::new();
    for one in all {
        match &one.batch {
            Some(file) => wanted.extend(batch::read(file, one)?),
            None => wanted.extend(batch::wanted(one)?),
        }
    }
    anyhow::ensure!(
        !wanted.is_empty(),
        "found no program in the batch, expected one in each line"
    );
    let data = asked.data.directory()?;
    anyhow::ensure!(
        all.len() == 1 || all.iter().all(|one| one.replicas.is_none()),
        "replicas are for a file of one program, found {} in it",
        all.len()
    );
    if let ([one], Some(replicas)) = (all, all[0].replicas) {
        return give(one, replicas, wanted, &data);
    }
    let mut names = Vec::new();
    let mut given = |programs: Vec<Wanted>| -> Result<()> {
        match put(&data, &on(asked.on.as_ref(), Request::RunAll { programs }))? {
            Answer::Given { names: more } => names.extend(more),
            other => drop(unexpected(&other)?),
        }
        Ok(())
    };
    let (mut part, mut length) = (Vec::new(), 0);
    for one in wanted {
        length += one.program.length() + 1024;
        part.push(one);
        if length > HANDED_MAX {
            given(std::mem::take(&mut part))?;
            length = 0;
        }
    }
    if !part.is_empty() {
        given(part)?;
    }
    match names.as_slice() {
        [name] if asked.json => print_json(&json!({ "name": name })),
        names if asked.json => print_json(&json!({ "names": names })),
        names => print(&(names.join("\n") + "\n")),
    }
}

/// Hands a program to the fleet, which runs so many of it wherever it likes.
fn give(asked: &Run, replicas: u32, mut wanted: Vec<Wanted>, data: &Path) -> Result<ExitCode> {
    let (Some(one), true) = (wanted.pop(), wanted.is_empty()) else {
        bail!("--count and --batch are for one machine, expected them without --replicas");
    };
    anyhow::ensure!(
        one.group.is_none() && one.deadline_unix_ms.is_none(),
        "--group and --deadline are for one machine, expected them without --replicas"
    );
    let give = Request::Give {
        name: one.name,
        program: one.program,
        restart: one.restart,
        replicas,
    };
    match put(data, &give)? {
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
    let group = |program: &Listed| {
        program
            .group
            .as_ref()
            .map_or("", |group| &group.name)
            .to_owned()
    };
    let column = |title: &str, of: &dyn Fn(&Listed) -> String| {
        let width = programs.iter().map(|program| of(program).len()).max();
        width.unwrap_or(0).max(title.len())
    };
    let width = column("NAME", &|program| program.name.clone());
    // Whoever has no groups need not know of them.
    let grouped = programs.iter().any(|program| program.group.is_some());
    let groups = column("GROUP", &group);
    let in_group = |text: &str| match grouped {
        true => format!("{text:<groups$}  "),
        false => String::new(),
    };
    // Nor of a fleet, who gave it nothing.
    let shared = programs.iter().any(|program| program.shared);
    let whose = |text: &str| match shared {
        true => format!("{text:<5}  "),
        false => String::new(),
    };
    let mut table = format!(
        "{:<width$}  {}{}{:<12}  {:>6}  PROGRAM\n",
        "NAME",
        whose("OF"),
        in_group("GROUP"),
        "STATE",
        "STARTS"
    );
    for program in programs {
        let (name, starts) = (&program.name, program.starts);
        let words = std::iter::once(&program.program).chain(&program.arguments);
        let words: Vec<_> = words.map(|word| on_one_line(word)).collect();
        let (state, words) = (state(program), words.join(" "));
        let group = in_group(&group(program));
        let of = whose(if program.shared { "fleet" } else { "here" });
        let line = format!("{name:<width$}  {of}{group}{state:<12}  {starts:>6}  {words}\n");
        table.push_str(&line);
    }
    for program in programs.iter().filter(|program| program.shared) {
        let name = program.name.split('~').next().unwrap_or_default();
        if programs
            .iter()
            .any(|other| !other.shared && other.name == name)
        {
            table.push_str(&format!(
                "{} is of the fleet's {name}, which is another program than {name} here: `cosmos stop {name}` ends the one here, `cosmos stop --fleet {name}` the other\n",
                program.name
            ));
        }
    }
    table
}

/// Line ends and what a terminal would obey are shown instead of done.
pub(super) fn on_one_line(word: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    word.chars().map(shown).collect()
}

pub(super) fn state(program: &Listed) -> String {
    match program.phase {
        Phase::Waiting => "waiting".to_owned(),
        Phase::Running => "running".to_owned(),
        Phase::Pausing { code } => format!("pausing ({code})"),
        Phase::Stopping => "stopping".to_owned(),
        Phase::Ended { code: Some(code) } if program.out_of_memory => {
            format!("ended ({code}, out of memory)")
        }
        Phase::Ended { code: Some(code) } if program.late => format!("ended ({code}, late)"),
        Phase::Ended { code: Some(code) } => format!("ended ({code})"),
        Phase::Ended { code: None } => "stopped".to_owned(),
    }
}

pub(super) fn logs(asked: &Logs) -> Result<ExitCode> {
    let request = |follow| {
        let name = asked.name.clone();
        on(asked.on.as_ref(), Request::Logs { name, follow })
    };
    let (answer, mut said) = control::ask(&asked.data.directory()?, &request(asked.follow))?;
    match answer {
        Answer::Logs => {}
        Answer::Refused { because } => bail!(because),
        other => return unexpected(&other),
    }
    let mut out = io::stdout().lock();
    let mut piece = vec![0; 64 << 10];
    let mut line = Vec::new();
    loop {
        let length = said.read(&mut piece)?;
        let mut shown = piece[..length].to_vec();
        if asked.json {
            line.append(&mut shown);
            // What comes last need not end as a line does.
            let end = match length {
                0 => line.len(),
                _ => line
                    .iter()
                    .rposition(|byte| *byte == b'\n')
                    .map_or(0, |end| end + 1),
            };
            for said in String::from_utf8_lossy(&line[..end]).lines() {
                shown.extend(json!({ "line": said }).to_string().into_bytes());
                shown.push(b'\n');
            }
            line.drain(..end);
        }
        let written = out.write_all(&shown).and_then(|()| out.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::SUCCESS);
            }
            written => written?,
        }
        if length == 0 {
            if asked.follow {
                // The program has ended, or its node: that one is not there to say so.
                control::ask(&asked.data.directory()?, &request(false))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// The programs that are meant, those that wait for their turn first: stopping others would make it come.
fn named(asked: &Chosen, data: &Path) -> Result<Vec<String>> {
    let Some(group) = &asked.group else {
        return Ok(asked.names.clone());
    };
    let mut programs = match put(data, &Request::List)? {
        Answer::List { programs } => programs,
        other => bail!("the node answered something else than was asked: {other:?}"),
    };
    programs.retain(|one| one.group.as_ref().is_some_and(|of| of.name == *group));
    anyhow::ensure!(
        !programs.is_empty(),
        "there is no group named {group:?}; `cosmos ps` lists them"
    );
    programs.sort_by_key(|program| program.phase != Phase::Waiting);
    Ok(programs.into_iter().map(|program| program.name).collect())
}

fn told(asked: &Ask, names: &[String]) -> Result<ExitCode> {
    match asked.json {
        true => print_json(&json!({ "names": names })),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// One request for each name; those after one that was refused are not asked.
pub(super) fn each(asked: &Named, request: impl Fn(String) -> Request) -> Result<ExitCode> {
    let ask = &asked.chosen.ask;
    let data = ask.data.directory()?;
    let names = named(&asked.chosen, &data)?;
    for name in &names {
        match put(&data, &on(asked.on.as_ref(), request(name.clone())))? {
            Answer::Done { name } if !ask.json => print(&format!("{name}\n"))?,
            Answer::Done { .. } => ExitCode::SUCCESS,
            other => return unexpected(&other),
        };
    }
    told(ask, &names)
}

pub(super) fn stop(asked: &Named) -> Result<ExitCode> {
    each(asked, |name| match asked.fleet {
        true => Request::StopShared { name },
        false => Request::Stop { name },
    })
}

pub(super) fn remove(asked: &Named) -> Result<ExitCode> {
    each(asked, |name| match asked.fleet {
        true => Request::RemoveShared { name },
        false => Request::Remove { name },
    })
}

pub(super) fn wait(asked: &Chosen) -> Result<ExitCode> {
    let data = asked.ask.data.directory()?;
    let names = named(asked, &data)?;
    let request = Request::WaitAll {
        names: names.clone(),
    };
    match put(&data, &request)? {
        Answer::Given { .. } => {}
        other => return unexpected(&other),
    }
    told(&asked.ask, &names)
}

pub(super) fn services(asked: &Ask) -> Result<ExitCode> {
    let services = match put(&asked.data.directory()?, &Request::Services)? {
        Answer::Services { services } => services,
        other => return unexpected(&other),
    };
    let unwell = services
        .iter()
        .any(|service| service.health == Health::Unwell);
    if asked.json {
        print_json(&json!({ "services": services }))?;
    } else {
        let mut table = String::new();
        for service in &services {
            let health = match service.health {
                Health::Well => "well",
                Health::Unwell => "unwell",
                Health::Absent => "absent",
            };
            let (name, does, found) = (&service.name, &service.does, on_one_line(&service.found));
            writeln!(table, "{name:<12} {health:<7} {does}\n{:<20} {found}", "")?;
        }
        print(&table)?;
    }
    Ok(ExitCode::from(u8::from(unwell)))
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
         machine    {}{}{}\n\
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
        machine(&status.machine),
        status
            .machine
            .universe
            .as_ref()
            .map_or_else(String::new, |name| format!(" (universe {name})")),
        match status.gpus {
            0 => String::new(),
            there => format!("; {there} GPUs, {} of them free", status.gpus_free),
        },
        heat(&status),
        fleet.fleet,
        fleet.alive,
        fleet.known,
        fleet.name,
        fleet.tile,
        fleet.address,
        fallen(fleet) + &turned_away(fleet),
    ))
}

/// What is not well with it in its fleet.
fn fallen(fleet: &FleetStatus) -> String {
    let lost = fleet
        .council
        .as_ref()
        .is_some_and(|council| council.lost_vote);
    let said = [
        (
            fleet.expelled,
            "was expelled: a new invitation (`cosmos up --join INVITATION`) gives it another seat",
        ),
        (
            lost,
            "the record of its vote is lost: it votes again once the others have taken that vote away",
        ),
    ];
    let said = said.iter().filter(|(so, _)| *so);
    said.map(|(_, words)| format!("           {words}\n"))
        .collect()
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
        "heat       {:.1} °C of {:.0} °C ({source}); programs get {:.0} % of the processor\n{}",
        reading.temperature.celsius,
        reading.temperature.limit_celsius,
        reading.clock * 100.0,
        parts(&status.atmosphere)
    )
}

/// Which sensors and actuators are in force.
fn parts(known: &Atmosphere) -> String {
    let said = |part: &Part| {
        let value = match (part.what.as_str(), known.power, known.frequency_mhz) {
            ("power", Some(power), _) => format!(" {:.0} W", power.watts),
            ("frequency", _, Some(mhz)) if part.how == How::Measured => format!(" {mhz:.0} MHz"),
            _ => String::new(),
        };
        let how = match part.how {
            How::Measured => "measured",
            How::Modelled => "modelled",
            How::InForce => "in force",
            How::None => "none",
        };
        format!("{}{value}: {how} ({})", part.what, on_one_line(&part.by))
    };
    let lines = |title: &str, parts: &[Part]| {
        let parts: Vec<_> = parts.iter().map(said).collect();
        match parts.is_empty() {
            true => String::new(),
            false => format!("{title:<10} {}\n", parts.join("; ")),
        }
    };
    let gpus = known.gpus.iter().map(|gpu| {
        let number = |value: Option<f64>, unit: &str| {
            value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0} {unit}"))
        };
        format!(
            "gpu        {} ({}): {} of {}, {} of {}, {} busy\n",
            on_one_line(&gpu.uuid),
            on_one_line(&gpu.name),
            number(gpu.celsius, "°C"),
            number(gpu.slowdown_celsius, "°C"),
            number(gpu.watts, "W"),
            number(gpu.limit_watts, "W"),
            number(gpu.busy.map(|busy| busy * 100.0), "%"),
        )
    });
    let gpus: String = gpus.collect();
    lines("sensors", &known.sensors) + &lines("actuators", &known.actuators) + &gpus
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
