//! `cosmos`, the operator's command.
//!
//! It finds the universe that was asked for, shows how far the work is, and
//! says what is wrong. What happens in a universe is the twin's affair.
//!
//! Tour: `arguments` what can be asked · `universes` which universes there
//! are · `run` rehearsing them · `live` living one by the clock · `pack` packing a list into a cluster · `why` asking
//! what was rehearsed · `compare` runs over each other · `progress` how far it is · `complaint`
//! how what is wrong is said · `manual` what shells and `man` are told · `living` programs, and the node they run on.
//!
//! A library, so that what it reads can be put to a fuzzer; the executable is [`main`].

mod arguments;
mod compare;
mod complaint;
mod live;
mod living;
mod manual;
mod pack;
mod progress;
mod run;
mod universes;
mod why;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory as _, Parser as _};

use arguments::{Arguments, Command, Rehearsal};

/// The request was wrong; nothing was done.
const WRONG_REQUEST: u8 = 2;

pub use living::programs_of;

/// The command: reads the words of this process, does what they say, and gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    // Before anything else: as a warden this executable is no command.
    let mut words = std::env::args_os().skip(1);
    if words
        .next()
        .is_some_and(|word| word == daemon::warden::WORD)
    {
        return daemon::warden::main(words.filter_map(|word| word.into_string().ok()));
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() && wants_json() => {
            let said = error.to_string();
            let said = said.trim_end().trim_start_matches("error: ");
            complaint::print(&anyhow::Error::msg(said.to_owned()), true);
            return ExitCode::from(WRONG_REQUEST);
        }
        Err(error) => error.exit(),
    };
    let (json, done) = match &arguments.command {
        Command::Twin(Rehearsal::Run(asked)) => (asked.settled.json, run::run(asked)),
        Command::Twin(Rehearsal::Plan(asked)) => (asked.json, run::plan(asked)),
        Command::Twin(Rehearsal::Replay(asked)) => (asked.run.settled.json, run::replay(asked)),
        Command::Twin(Rehearsal::Live(asked)) => (false, live::live(asked)),
        Command::Twin(Rehearsal::Sweep(asked)) => (asked.settled.json, run::sweep(asked)),
        Command::Twin(Rehearsal::Pack(asked)) => (asked.json, pack::pack(asked)),
        Command::Twin(Rehearsal::WhatIf(asked)) => (asked.visit.json, why::whatif(asked)),
        Command::Why(asked) => (asked.visit.json, why::why(asked)),
        Command::Twin(Rehearsal::Compare(asked)) => (asked.json, compare::compare(asked)),
        Command::Living(asked) => (asked.json(), living::answer(asked)),
        Command::Universes(asked) => (asked.json, universes::show(asked)),
        Command::Completions { shell } => (false, manual::completions(*shell)),
        Command::Man { folder } => (false, manual::pages(folder)),
    };
    done.unwrap_or_else(|error| {
        complaint::print(&error, json);
        ExitCode::from(WRONG_REQUEST)
    })
}

/// Of a call that is wrong: whether its own words, not those of a program to be run, ask for JSON.
fn wants_json() -> bool {
    let found = Arguments::command().ignore_errors(true).try_get_matches();
    let mut deepest: Option<&ArgMatches> = found.as_ref().ok();
    while let Some((_, below)) = deepest.and_then(ArgMatches::subcommand) {
        deepest = Some(below);
    }
    let asked = deepest.and_then(|asked| asked.try_get_one::<bool>("json").ok().flatten());
    asked.copied().unwrap_or(false)
}

/// Writes a result to standard output. That nobody reads to its end, as in
/// `cosmos universes | head -1`, is not an error.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}
