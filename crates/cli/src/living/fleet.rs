//! What a node is asked about its fleet.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use daemon::control::{Answer, Request};
use serde_json::json;

use super::arguments::{Ask, Invite};
use super::node::{print, print_json, put, table, unexpected};

pub(super) fn invite(asked: &Invite) -> Result<ExitCode> {
    let lasts_s = asked.lasts.as_secs();
    match put(&asked.ask.data.directory()?, &Request::Invite { lasts_s })? {
        Answer::Invitation { line } if asked.ask.json => {
            print_json(&json!({ "invitation": line, "lasts_s": lasts_s }))
        }
        Answer::Invitation { line } => print(&format!("{line}\n")),
        other => unexpected(&other),
    }
}

pub(super) fn members(asked: &Ask) -> Result<ExitCode> {
    let members = match put(&asked.data.directory()?, &Request::Members)? {
        Answer::Members { members } => members,
        other => return unexpected(&other),
    };
    if asked.json {
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

pub(super) fn leave(asked: &Ask) -> Result<ExitCode> {
    match put(&asked.data.directory()?, &Request::Leave)? {
        Answer::Done { name } if asked.json => print_json(&json!({ "name": name })),
        Answer::Done { name } => print(&format!("{name} has left the fleet\n")),
        other => unexpected(&other),
    }
}

/// The programs of everybody who is held to be alive; who does not answer is said, and the others are shown.
pub(super) fn ps(data: &Path, json: bool) -> Result<ExitCode> {
    let members = match put(data, &Request::Members)? {
        Answer::Members { members } => members,
        other => return unexpected(&other),
    };
    let (mut said, mut text) = (Vec::new(), String::new());
    for member in members.iter().filter(|member| member.state == "alive") {
        let name = &member.name;
        let list = if member.here {
            Request::List
        } else {
            Request::On {
                member: name.clone(),
                request: Box::new(Request::List),
            }
        };
        match put(data, &list) {
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
        return print_json(&json!({ "machines": said }));
    }
    print(&text)
}

fn indented(table: &str) -> String {
    table.lines().map(|line| format!("  {line}\n")).collect()
}
