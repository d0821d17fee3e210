//! Programs, and the node they run on.
//!
//! Tour: [`arguments`] what can be asked · [`manifest`] as a file · [`attached`] a program in the foreground · [`node`] a node, and
//! what it is asked · [`top`] who uses what · [`why`] why it is so · [`fleet`] the other machines · [`braid`] a drill on three of them.

pub(crate) mod arguments;
mod attached;
mod batch;
mod braid;
mod fleet;
mod manifest;
mod node;
mod top;
pub(crate) mod why;

use std::process::ExitCode;

pub use manifest::programs_of;

use anyhow::Result;

use arguments::{Asked, Run};

pub(crate) fn answer(asked: &Asked) -> Result<ExitCode> {
    match asked {
        Asked::Run(asked) => run(asked),
        Asked::Up(asked) => node::up(asked),
        Asked::Exec(asked) => in_front(asked.json, &asked.words, attached::exec(asked)),
        Asked::Ps(asked) => node::ps(asked),
        Asked::Logs(asked) => node::logs(asked),
        Asked::Stop(asked) => node::stop(asked),
        Asked::Rm(asked) => node::remove(asked),
        Asked::Wait(asked) => node::wait(asked),
        Asked::Status(asked) => node::status(asked),
        Asked::Top(asked) => top::top(asked),
        Asked::Services(asked) => node::services(asked),
        Asked::Dashboard(asked) => node::dashboard(asked),
        Asked::Outside(asked) => node::outside(asked),
        Asked::Invite(asked) => fleet::invite(asked),
        Asked::Members(asked) => fleet::members(asked),
        Asked::Ping(asked) => fleet::ping(asked),
        Asked::Braid(asked) => braid::braid(asked),
        Asked::Drain(asked) => fleet::drain(asked),
        Asked::Leave(asked) => fleet::leave(asked),
        Asked::Expel(asked) => fleet::expel(asked),
    }
}

fn run(asked: &Run) -> Result<ExitCode> {
    let said = match &asked.file {
        Some(file) => manifest::read(file, asked)?,
        None => vec![asked.clone()],
    };
    match said.as_slice() {
        [one] if !asked.detach => in_front(asked.json, &one.words, attached::run(one)),
        _ if !asked.detach => anyhow::bail!("several programs are for a node to run (--detach)"),
        all => node::run(asked, all),
    }
}

/// What a program in the foreground ended with, said if that was asked for.
fn in_front(json: bool, words: &[String], ended: Result<u8>) -> Result<ExitCode> {
    let code = ended?;
    if let (true, [program, ..]) = (json, words) {
        attached::tell(program, code);
    }
    Ok(ExitCode::from(code))
}

impl Asked {
    /// Whether a program reads the answer.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Run(asked) => asked.json,
            Self::Status(asked)
            | Self::Services(asked)
            | Self::Dashboard(asked)
            | Self::Leave(asked) => asked.json,
            Self::Members(asked) => asked.ask.json,
            Self::Drain(asked) => asked.ask.json,
            Self::Expel(asked) => asked.ask.json,
            Self::Outside(asked) => asked.ask.json,
            Self::Ps(asked) => asked.ask.json,
            Self::Invite(asked) => asked.ask.json,
            Self::Ping(asked) => asked.ask.json,
            Self::Braid(asked) => asked.ask.json,
            Self::Stop(asked) | Self::Rm(asked) => asked.chosen.ask.json,
            Self::Wait(asked) => asked.ask.json,
            Self::Top(asked) => asked.ask.json,
            Self::Up(asked) => asked.json,
            Self::Logs(asked) => asked.json,
            Self::Exec(asked) => asked.json,
        }
    }
}
