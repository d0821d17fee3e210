//! Programs, and the node they run on.
//!
//! Tour: [`arguments`] what can be asked · [`attached`] a program in the foreground · [`node`] a node, and
//! what it is asked.

pub(crate) mod arguments;
mod attached;
mod node;

use std::process::ExitCode;

use anyhow::Result;
use daemon::control::Request;

use arguments::Asked;

pub(crate) fn answer(asked: &Asked) -> Result<ExitCode> {
    match asked {
        Asked::Run(asked) if asked.detach => node::run(asked),
        Asked::Run(asked) => attached::run(asked),
        Asked::Up(asked) => node::up(asked),
        Asked::Exec(asked) => attached::exec(asked),
        Asked::Ps(asked) => node::ps(asked),
        Asked::Logs(asked) => node::logs(asked),
        Asked::Stop(asked) => node::each(asked, |name| Request::Stop { name }),
        Asked::Rm(asked) => node::each(asked, |name| Request::Remove { name }),
        Asked::Status(asked) => node::status(asked),
    }
}

impl Asked {
    /// Whether a program reads the answer.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Run(asked) => asked.json,
            Self::Ps(asked) | Self::Status(asked) => asked.json,
            Self::Stop(asked) | Self::Rm(asked) => asked.ask.json,
            Self::Up(_) | Self::Logs(_) | Self::Exec(_) => false,
        }
    }
}
