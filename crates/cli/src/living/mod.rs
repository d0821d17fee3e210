//! Programs, and the node they run on.
//!
//! Tour: [`arguments`] what can be asked · [`manifest`] as a file · [`attached`] a program in the foreground · [`node`] a node, and
//! what it is asked · [`fleet`] the other machines.

pub(crate) mod arguments;
mod attached;
mod fleet;
mod manifest;
mod node;

use std::process::ExitCode;

use anyhow::Result;
use daemon::control::Request;

use arguments::{Asked, Run};

pub(crate) fn answer(asked: &Asked) -> Result<ExitCode> {
    match asked {
        Asked::Run(asked) => match &asked.file {
            Some(file) => run(&manifest::read(file, asked)?),
            None => run(asked),
        },
        Asked::Up(asked) => node::up(asked),
        Asked::Exec(asked) => attached::exec(asked),
        Asked::Ps(asked) => node::ps(asked),
        Asked::Logs(asked) => node::logs(asked),
        Asked::Stop(asked) => node::each(asked, |name| Request::Stop { name }),
        Asked::Rm(asked) => node::each(asked, |name| Request::Remove { name }),
        Asked::Status(asked) => node::status(asked),
        Asked::Dashboard(asked) => node::dashboard(asked),
        Asked::Outside(asked) => node::outside(asked),
        Asked::Invite(asked) => fleet::invite(asked),
        Asked::Members(asked) => fleet::members(asked),
        Asked::Ping(asked) => fleet::ping(asked),
        Asked::Drain(asked) => fleet::drain(asked),
        Asked::Leave(asked) => fleet::leave(asked),
    }
}

fn run(asked: &Run) -> Result<ExitCode> {
    match asked.detach {
        true => node::run(asked),
        false => attached::run(asked),
    }
}

impl Asked {
    /// Whether a program reads the answer.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Run(asked) => asked.json,
            Self::Status(asked) | Self::Dashboard(asked) | Self::Leave(asked) => asked.json,
            Self::Members(asked) => asked.ask.json,
            Self::Drain(asked) => asked.ask.json,
            Self::Outside(asked) => asked.ask.json,
            Self::Ps(asked) => asked.ask.json,
            Self::Invite(asked) => asked.ask.json,
            Self::Ping(asked) => asked.ask.json,
            Self::Stop(asked) | Self::Rm(asked) => asked.ask.json,
            Self::Up(_) | Self::Logs(_) | Self::Exec(_) => false,
        }
    }
}
