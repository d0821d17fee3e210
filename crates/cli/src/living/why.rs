//! `cosmos why` of what lives: a program of the node, or the machine.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use daemon::affairs::Decided;
use daemon::control::{Answer, Request};
use daemon::history::{Decision, Why};
use serde_json::json;

use super::arguments::Data;
use super::fleet::ago;
use super::node::{on_one_line, print, print_json, put, unexpected};

/// Asks the node why a program is as it is, or the machine if none is named.
pub(crate) fn why(name: Option<&str>, data: &Data, json: bool) -> Result<ExitCode> {
    let name = name.map(str::to_owned);
    let why = match put(&data.directory()?, &Request::Why { name })? {
        Answer::Why(why) => why,
        other => return unexpected(&other),
    };
    if json {
        return print_json(&json!(why));
    }
    print(&told(&why)?)
}

fn told(why: &Why) -> Result<String> {
    let mut text = format!("{}\n", on_one_line(&why.now));
    if let Some(fleet) = &why.fleet {
        for line in fleet.text.lines() {
            writeln!(text, "{}", on_one_line(line))?;
        }
    }
    let about = why.program.as_ref().map(|program| program.name.as_str());
    decided(&mut text, &why.decisions, about)?;
    for Decided { at, sentence } in &why.agreed {
        let sentence = on_one_line(sentence);
        writeln!(text, "{at:>8}  the fleet agreed: {sentence}")?;
    }
    let Some(earlier) = &why.earlier else {
        return Ok(text);
    };
    // Two stories, of which the one that is so comes first.
    let mut both = format!("what is so now, by whom it concerns:\n{text}\n");
    writeln!(both, "what happened here, on {}:", earlier.machine)?;
    writeln!(both, "{}", on_one_line(&earlier.now))?;
    let mut names = earlier.decisions.iter().map(|one| one.program.as_deref());
    let about = names.next_back().flatten();
    decided(&mut both, &earlier.decisions, about)?;
    Ok(both)
}

fn decided(text: &mut String, decisions: &[Decision], about: Option<&str>) -> Result<()> {
    for decision in decisions {
        let of = match &decision.program {
            Some(program) if Some(program.as_str()) == about => String::new(),
            Some(program) => format!("{program}: "),
            None if about.is_some() => "machine: ".to_owned(),
            None => String::new(),
        };
        let because = match decision.cause {
            Some(cause) => format!(" (because of #{cause})"),
            None => String::new(),
        };
        let (number, when) = (format!("#{}", decision.number), ago(decision.unix_ms));
        let (action, said) = (decision.action.name(), on_one_line(&decision.said));
        writeln!(
            text,
            "  {number:>6}  {when:<14}  {action:<8}  {of}{said}{because}"
        )?;
    }
    Ok(())
}
