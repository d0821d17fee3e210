//! What a node is asked about its fleet.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use daemon::affairs::Affairs;
use daemon::control::{self, Answer, Request};
use serde_json::json;
use trust::invitation::Invitation;

use super::arguments::{Ask, Drain, Expel, Invite, Members, Ping};
use super::node::{on_one_line, print, print_json, put, table, unexpected};

pub(super) fn invite(asked: &Invite) -> Result<ExitCode> {
    let lasts_s = asked.lasts.as_secs();
    match put(&asked.ask.data.directory()?, &Request::Invite { lasts_s })? {
        Answer::Invitation { line } if asked.ask.json => {
            print_json(&json!({ "invitation": line, "lasts_s": lasts_s }))
        }
        Answer::Invitation { line } => {
            let at = line
                .parse()
                .map(|invitation: Invitation| invitation.address);
            let read = std::io::stderr().is_terminal();
            if read && at.is_ok_and(|at| at.ip().is_loopback()) {
                eprintln!(
                    "note: this node listens on loopback, so only nodes of this host can come; start it with --listen ADDRESS where others reach it"
                );
            }
            print(&format!("{line}\n"))
        }
        other => unexpected(&other),
    }
}

pub(super) fn members(asked: &Members) -> Result<ExitCode> {
    let data = asked.ask.data.directory()?;
    if asked.leases {
        return leases(&data, asked.ask.json);
    }
    let members = match put(&data, &Request::Members)? {
        Answer::Members { members, .. } => members,
        other => return unexpected(&other),
    };
    if asked.ask.json {
        return print_json(&json!({ "members": members }));
    }
    let width = members.iter().map(|member| member.name.len());
    let width = width.max().unwrap_or(0).max(4);
    let mut table = format!(
        "{:<width$}  {:>4}  {:<21}  {:<7}  {:>11}  SINCE\n",
        "NAME", "TILE", "ADDRESS", "STATE", "INCARNATION"
    );
    for member in &members {
        let address = member.address.map(|address| address.to_string());
        let (name, tile, state) = (&member.name, member.tile, &member.state);
        let since = ago(member.since_ms);
        let here = if member.here { "  (here)" } else { "" };
        writeln!(
            table,
            "{name:<width$}  {tile:>4}  {:<21}  {state:<7}  {:>11}  {since}{here}",
            address.unwrap_or_default(),
            member.incarnation
        )?;
    }
    print(&table)
}

#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "people ask how long ago it was by their own clock"
)]
pub(super) fn ago(unix_ms: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    match now.saturating_sub(unix_ms / 1000) {
        0 => "just now".to_owned(),
        seconds => format!("{} ago", wire::Nanos::from_secs(seconds)),
    }
}

pub(super) fn ping(asked: &Ping) -> Result<ExitCode> {
    let request = Request::Ping {
        member: asked.member.clone(),
        lasts_ms: u64::try_from(asked.lasts.as_millis()).unwrap_or(u64::MAX),
        beside_bulk: asked.beside_bulk,
    };
    let echoes = match put(&asked.ask.data.directory()?, &request)? {
        Answer::Echoes(echoes) if asked.ask.json => return print_json(&json!(echoes)),
        Answer::Echoes(echoes) => echoes,
        other => return unexpected(&other),
    };
    let ms = |us: u64| us as f64 / 1e3;
    let beside = echoes
        .bulk_bits_per_second
        .map_or_else(String::new, |rate| {
            format!(", beside {:.1} Mbit/s of class D", rate as f64 / 1e6)
        });
    print(&format!(
        "{}: {} asked, {} lost; p50 {:.3} ms, p99 {:.3} ms, longest {:.3} ms{beside}\n",
        asked.member,
        echoes.asked,
        echoes.lost,
        ms(echoes.p50_us),
        ms(echoes.p99_us),
        ms(echoes.max_us)
    ))
}

pub(super) fn leave(asked: &Ask) -> Result<ExitCode> {
    let watched = std::io::stderr().is_terminal();
    let (mut answer, mut stream) = control::ask(&asked.data.directory()?, &Request::Leave)?;
    while let Answer::Leaving { waits } = answer {
        if watched {
            eprintln!("leaving: {waits}");
        }
        answer = control::receive(&mut stream)?;
    }
    let (name, behind) = match answer {
        Answer::Left { name, behind } => (name, behind),
        Answer::Refused { because } => bail!(because),
        other => return unexpected(&other),
    };
    for left in &behind {
        eprintln!("warning: not handed over: {left}");
    }
    match asked.json {
        true => print_json(&json!({ "name": name, "behind": behind }))?,
        false => print(&format!("{name} has left the fleet\n"))?,
    };
    Ok(match behind.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

pub(super) fn expel(asked: &Expel) -> Result<ExitCode> {
    let member = asked.machine.clone();
    match put(&asked.ask.data.directory()?, &Request::Expel { member })? {
        Answer::Done { name } if asked.ask.json => print_json(&json!({ "machine": name })),
        Answer::Done { name } => print(&format!(
            "{name} is expelled: whoever hears of it speaks with it no more\n"
        )),
        other => unexpected(&other),
    }
}

pub(super) fn drain(asked: &Drain) -> Result<ExitCode> {
    let (member, undo) = (asked.machine.clone(), asked.undo);
    match put(
        &asked.ask.data.directory()?,
        &Request::Drain { member, undo },
    )? {
        Answer::Done { name } if asked.ask.json => {
            print_json(&json!({ "machine": name, "draining": !undo }))
        }
        Answer::Done { name } if undo => print(&format!("{name} is given work again\n")),
        Answer::Done { name } => print(&format!(
            "{name} is given nothing more and hands over what it runs for the fleet\n"
        )),
        other => unexpected(&other),
    }
}

fn affairs(data: &Path) -> Result<Affairs> {
    match put(data, &Request::Affairs)? {
        Answer::Affairs(affairs) => Ok(*affairs),
        other => anyhow::bail!("the node answered something else than was asked: {other:?}"),
    }
}

/// Who holds what, and why.
fn leases(data: &Path, json: bool) -> Result<ExitCode> {
    let affairs = affairs(data)?;
    let status = match put(data, &Request::Status)? {
        Answer::Status(status) => status,
        other => return unexpected(&other),
    };
    let council = status.fleet.council.unwrap_or_default();
    if json {
        return print_json(&json!({ "council": council, "affairs": affairs }));
    }
    let mut text = shared(&affairs)?;
    let name = |tile: &u64| {
        let place = affairs.machines.iter().find(|place| place.tile == *tile);
        place.map_or_else(|| format!("tile {tile}"), |place| place.name.clone())
    };
    let voters: Vec<_> = council.voters.iter().map(name).collect();
    if !voters.is_empty() {
        let leader = council
            .leader
            .as_ref()
            .map_or_else(|| "nobody just now".to_owned(), name);
        writeln!(text, "\nvotes: {}; led by {leader}", voters.join(", "))?;
    }
    for place in &affairs.machines {
        let (name, duty) = (&place.name, &place.duty);
        let present = if place.present { "" } else { ", silent" };
        writeln!(text, "{name} is {duty}{present}")?;
    }
    for decided in &affairs.decisions {
        writeln!(
            text,
            "{:>8}  {}",
            decided.at,
            on_one_line(&decided.sentence)
        )?;
    }
    print(&text)
}

/// A table of what the fleet runs.
fn shared(affairs: &Affairs) -> Result<String> {
    let names = affairs
        .programs
        .iter()
        .map(|program| program.name.len() + 4);
    let width = names.max().unwrap_or(0).max(7);
    let mut text = format!("{:<width$}  {:<8}  MACHINE\n", "REPLICA", "STATE");
    for program in &affairs.programs {
        if program.replicas == 0 {
            writeln!(text, "{:<width$}  stopped", program.name)?;
        }
        for replica in &program.standing {
            let name = format!("{}~{}", program.name, replica.replica);
            let machine = replica.machine.as_deref().unwrap_or_default();
            let because = replica
                .because
                .as_ref()
                .map(|because| format!("({})", on_one_line(because)));
            let line = format!(
                "{name:<width$}  {:<8}  {machine}{}",
                replica.state,
                because.unwrap_or_default()
            );
            writeln!(text, "{}", line.trim_end())?;
        }
    }
    Ok(text)
}

/// The programs of everybody who is held to be alive; who does not answer is said, and the others are shown.
pub(super) fn ps(data: &Path, json: bool) -> Result<ExitCode> {
    let members = match put(data, &Request::Members)? {
        Answer::Members { members, .. } => members,
        other => return unexpected(&other),
    };
    let (mut said, mut text) = (Vec::new(), String::new());
    let status = match put(data, &Request::Status)? {
        Answer::Status(status) => status,
        other => return unexpected(&other),
    };
    // Where nothing was ever agreed there is nothing to ask for.
    let agreed = match status.fleet.council {
        Some(_) => affairs(data).map_err(|error| error.to_string()),
        None => Ok(Affairs::default()),
    };
    match &agreed {
        Ok(agreed) if agreed.programs.is_empty() => {}
        Ok(agreed) => write!(text, "the fleet\n{}", indented(&shared(agreed)?))?,
        Err(because) => writeln!(text, "the fleet\n  {because}")?,
    }
    // All at once: who does not answer holds up nobody else.
    let asked = std::thread::scope(|scope| {
        let alive = members.iter().filter(|member| member.state == "alive");
        let asked: Vec<_> = alive
            .map(|member| {
                let name = &member.name;
                let list = match member.here {
                    true => Request::List,
                    false => Request::On {
                        member: name.clone(),
                        request: Box::new(Request::List),
                    },
                };
                (name, scope.spawn(move || put(data, &list)))
            })
            .collect();
        let answered = asked.into_iter().map(|(name, asked)| {
            let answer = asked.join();
            (name, answer.expect("who asks does not panic"))
        });
        answered.collect::<Vec<_>>()
    });
    for (name, answer) in asked {
        match answer {
            Ok(Answer::List { programs }) => {
                write!(text, "{name}\n{}", indented(&table(&programs)))?;
                said.push(json!({ "machine": name, "programs": programs }));
            }
            Ok(other) => return unexpected(&other),
            Err(error) => {
                writeln!(text, "{name}\n  {error}")?;
                said.push(json!({ "machine": name, "unanswered": error.to_string() }));
            }
        }
    }
    if json {
        let (programs, unanswered) = match agreed {
            Ok(agreed) => (Some(agreed.programs), None),
            Err(because) => (None, Some(because)),
        };
        return print_json(
            &json!({ "machines": said, "programs": programs, "unanswered": unanswered }),
        );
    }
    print(&text)
}

fn indented(table: &str) -> String {
    table.lines().map(|line| format!("  {line}\n")).collect()
}
