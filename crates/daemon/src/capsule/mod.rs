//! A program in WebAssembly.
//!
//! A capsule sees what it was given and nothing else: words, an environment, standard streams, and
//! the folders it was promised. There are three kinds, by what the file exports:
//!
//! * One that is **run to its end**, a module of WASI preview 1 or a component of the world `wasi:cli/command`
//!   ([`run`]).
//! * One that **answers HTTP**, a component of the world `wasi:http/proxy`, which is [served] on the ports it was given.
//! * One that **lives from event to event**, a module that exports `on_event`: its state is kept between them
//!   ([`events`], [`snapshot`]). With a port its events are what it is asked there (`asked`).
//!
//! Each capsule is a process of its own and runs in the thread that asks, so a signal ends it as it
//! ends any other program, and no capsule can take another with it. The price is a process each;
//! pooled instances pay only where there are many, which is so for requests.
//!
//! Any kind that is run to its end or lives by events can be [rehearsed]: time and chance are its own then, and the
//! same seed gives the same output for the same fuel.
//!
//! Deliberately absent: a way out to the network (`wasi:sockets` and outgoing requests are there and refuse everything).

mod asked;
mod code;
pub mod events;
mod inside;
mod meter;
pub mod rehearsed;
pub mod served;
pub mod snapshot;

use std::fmt;
use std::path::{Path, PathBuf};

use wasmtime::component::{Component, ResourceTable};
use wasmtime::{Engine, Module, Store, Trap};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::sync::Command;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

pub use code::Origin;

use crate::lease::Tenancy;
use crate::program::{Kind, Program};
use meter::Meter;
use rehearsed::{Clock, Clockwork};

/// How a capsule ended that was run.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code, cut to what a process can say: the lowest eight bits.
    pub code: u8,
    /// Where its compiled code came from.
    pub code_from: Origin,
    /// What a rehearsed one used.
    pub used: Option<Used>,
}

/// What a rehearsed capsule used: the same for the same seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Units of fuel.
    pub fuel: u64,
    /// Of its own time, in nanoseconds.
    pub clock_ns: u64,
}

impl fmt::Display for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} units of fuel and {} ns of its own time",
            self.fuel, self.clock_ns
        )
    }
}

/// Why a capsule did not run, or not to its own end.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The file could not be read.
    #[error("reading {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder it was promised cannot be opened.
    #[error("the folder {host} cannot be shared: {because}")]
    Folder {
        /// The folder of the host.
        host: String,
        /// Why.
        because: String,
    },
    /// It is no valid WebAssembly.
    #[error("{name} is no valid WebAssembly: {because}")]
    Invalid {
        /// The program.
        name: String,
        /// What the compiler says.
        because: String,
    },
    /// It is valid and needs something that is not here, or has no beginning.
    #[error("{name} cannot be started: {because}")]
    Unstartable {
        /// The program.
        name: String,
        /// What is missing.
        because: String,
    },
    /// It did what WebAssembly forbids, such as dividing by zero, or gave itself up.
    #[error("{name} was stopped by a trap: {because}")]
    Trapped {
        /// The program.
        name: String,
        /// Which, with the functions it was in.
        because: String,
    },
    /// It has used up its instructions.
    #[error("{name} was stopped: it has used its {fuel} units of fuel (--fuel)")]
    FuelSpent {
        /// The program.
        name: String,
        /// What it was given.
        fuel: u64,
    },
    /// It was refused memory, and ended because of it.
    #[error(
        "{name} was stopped: it asked for {asked} bytes of memory, its limit is {limit} (--mem)"
    )]
    MemoryLimit {
        /// The program.
        name: String,
        /// How much it would have had, in bytes.
        asked: u64,
        /// How much it may have, in bytes.
        limit: u64,
    },
    /// What it is to be given cannot be read.
    #[error("the input of {name}: {because}")]
    Input {
        /// The program.
        name: String,
        /// What was found, and what was expected.
        because: String,
    },
    /// What it said cannot be handed on.
    #[error("nobody takes what {name} answers: {source}")]
    Unheard {
        /// The program.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// What it was between two events cannot be read or kept.
    #[error("the state in {path}: {because}")]
    State {
        /// The file.
        path: PathBuf,
        /// What was found, and what was expected.
        because: String,
    },
    /// It cannot be reached.
    #[error("serving {name}: {because}")]
    Unreachable {
        /// The program.
        name: String,
        /// Why.
        because: String,
    },
}

impl Failed {
    /// The exit code that stands for it: 126 for what never ran; what ended by a limit looks as if
    /// the kernel had killed it (128 + SIGKILL), a trap as if it had aborted (128 + SIGABRT).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unreadable { .. } | Self::Invalid { .. } | Self::Unstartable { .. } => 126,
            Self::Folder { .. }
            | Self::Input { .. }
            | Self::Unheard { .. }
            | Self::State { .. }
            | Self::Unreachable { .. } => 125,
            Self::Trapped { .. } => 134,
            Self::FuelSpent { .. } | Self::MemoryLimit { .. } => 137,
        }
    }
}

/// Where what a capsule becomes is kept, if it lives from event to event and is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The file.
    pub state: PathBuf,
    /// The lease it runs under.
    pub lease: Option<Tenancy>,
}

/// Whether a file is a module that lives from event to event. What cannot be read does not.
#[must_use]
pub fn lives(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| events::lives(&bytes))
}

/// Runs a capsule in this thread, with the standard streams of this process, until it ends. One that answers HTTP is
/// served until this process is told to end, and one that is asked for events needs a home.
///
/// # Errors
/// If it could not be run, or ended otherwise than by its own will.
pub fn run(
    program: &Program,
    kind: Kind,
    data: &Path,
    home: Option<&Home>,
) -> Result<Ended, Failed> {
    if kind == Kind::Module && !program.ports.is_empty() {
        return asked::serve(program, kind, data, home);
    }
    let bytes = read(program, data)?;
    if kind == Kind::Component && !program.ports.is_empty() {
        return served::serve(program, &bytes, data);
    }
    let engine = code::engine(&code::config(program));
    let clock = program.seed.map(|_| Clock::default());
    let (code_from, ended) = if kind == Kind::Component {
        let (component, from) = code::code::<Component>(&engine, &bytes, program, data)?;
        if served::answers(&engine, &component) {
            return Err(served::needs_a_port(program));
        }
        (from, run_component(&engine, &component, program, clock)?)
    } else {
        let (module, from) = code::code::<Module>(&engine, &bytes, program, data)?;
        (from, run_module(&engine, &module, program, clock)?)
    };
    let (code, used) = ended;
    Ok(Ended {
        code,
        code_from,
        used,
    })
}

/// The file of a program, if it may be run beside this data directory.
fn read(program: &Program, data: &Path) -> Result<Vec<u8>, Failed> {
    if let Some(folder) = crate::confinement::shows(program, data, false) {
        return Err(Failed::Folder {
            host: folder.display().to_string(),
            because: format!(
                "the node's own directory, {}, is in it or around it, and cannot be hidden from a capsule",
                data.display()
            ),
        });
    }
    std::fs::read(&program.path).map_err(|source| Failed::Unreadable {
        path: program.path.clone(),
        source,
    })
}

/// What a capsule that runs to its end is given, with the clock it has if it is rehearsed.
fn surroundings(program: &Program, clock: Option<&Clock>) -> Result<WasiCtxBuilder, Failed> {
    let mut wasi = words(program);
    if let (Some(clock), Some(seed)) = (clock, program.seed) {
        rehearsed::clock_and_chance(&mut wasi, clock, seed, 0);
        rehearsed::streams(&mut wasi, &program.name)?;
    } else {
        wasi.inherit_stdio();
    }
    // Nobody else needs this thread, so it may wait for a disk or a pipe itself.
    wasi.allow_blocking_current_thread(true);
    for folder in &program.folders {
        let opened = wasi.preopened_dir(&folder.host, &folder.guest, FsPerms::ReadWrite);
        opened.map_err(|error| Failed::Folder {
            host: folder.host.display().to_string(),
            because: in_one_line(&error),
        })?;
    }
    Ok(wasi)
}

/// Words and environment, and nothing else.
fn words(program: &Program) -> WasiCtxBuilder {
    let mut wasi = WasiCtxBuilder::new();
    wasi.arg(&program.name).args(&program.arguments);
    wasi.envs(&program.environment);
    wasi
}

/// What a rehearsed capsule has used by now.
fn used<T>(store: &Store<T>, program: &Program, clock: Option<&Clock>) -> Option<Used> {
    let given = meter::fuel(program)?;
    Some(Used {
        fuel: given - store.get_fuel().unwrap_or(given),
        clock_ns: clock?.now(),
    })
}

fn run_module(
    engine: &Engine,
    module: &Module,
    program: &Program,
    clock: Option<Clock>,
) -> Result<(u8, Option<Used>), Failed> {
    let mut linker = wasmtime::Linker::<(WasiP1Ctx, Meter)>::new(engine);
    link_module(&mut linker, clock.as_ref());
    let wasi = surroundings(program, clock.as_ref())?.build_p1();
    let state = (wasi, Meter::new(program.limits.memory));
    let mut store = meter::store(engine, state, meter::fuel(program), |(_, meter)| meter);
    let start = linker
        .instantiate(&mut store, module)
        .and_then(|instance| instance.get_typed_func::<(), ()>(&mut store, "_start"));
    let done = match start {
        Ok(start) => start.call(&mut store, ()),
        Err(error) => return Err(unstartable(program, &error, &store.data().1)),
    };
    let code = ended(program, done.map(|()| 0), &store.data().1)?;
    Ok((code, used(&store, program, clock.as_ref())))
}

/// WASI preview 1, by this clock if there is one.
fn link_module(linker: &mut wasmtime::Linker<(WasiP1Ctx, Meter)>, clock: Option<&Clock>) {
    let all = "an empty linker takes all of WASI";
    wasmtime_wasi::p1::add_to_linker_sync(linker, |(wasi, _)| wasi).expect(all);
    if let Some(clock) = clock {
        rehearsed::wait_in_modules(linker, clock.clone()).expect(all);
    }
}

struct Inside {
    wasi: WasiCtx,
    table: ResourceTable,
    meter: Meter,
    clock: Option<Clock>,
}

impl WasiView for Inside {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

fn run_component(
    engine: &Engine,
    component: &Component,
    program: &Program,
    clock: Option<Clock>,
) -> Result<(u8, Option<Used>), Failed> {
    let mut linker = wasmtime::component::Linker::<Inside>::new(engine);
    let all = "an empty linker takes all of WASI";
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker).expect(all);
    if clock.is_some() {
        rehearsed::wait_in_components(&mut linker, |inside: &mut Inside| Clockwork {
            clock: inside.clock.as_ref().expect("it is rehearsed"),
            table: &mut inside.table,
        })
        .expect(all);
    }
    let inside = Inside {
        wasi: surroundings(program, clock.as_ref())?.build(),
        table: ResourceTable::new(),
        meter: Meter::new(program.limits.memory),
        clock: clock.clone(),
    };
    let mut store = meter::store(engine, inside, meter::fuel(program), |inside| {
        &mut inside.meter
    });
    let done = match Command::instantiate(&mut store, component, &linker) {
        Ok(command) => command.wasi_cli_run().call_run(&mut store),
        Err(error) => return Err(unstartable(program, &error, &store.data().meter)),
    };
    let done = done.map(|result| u8::from(result.is_err()));
    let code = ended(program, done, &store.data().meter)?;
    Ok((code, used(&store, program, clock.as_ref())))
}

fn unstartable(program: &Program, error: &wasmtime::Error, meter: &Meter) -> Failed {
    beyond_memory(program, meter).unwrap_or_else(|| Failed::Unstartable {
        name: program.name.clone(),
        because: in_one_line(error),
    })
}

fn ended(program: &Program, done: wasmtime::Result<u8>, meter: &Meter) -> Result<u8, Failed> {
    let name = || program.name.clone();
    let error = match done {
        Ok(code) => return Ok(code),
        Err(error) => error,
    };
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return Ok(code.to_le_bytes()[0]);
    }
    let spent = error.downcast_ref::<Trap>() == Some(&Trap::OutOfFuel);
    if let (true, Some(fuel)) = (spent, program.limits.fuel) {
        return Err(Failed::FuelSpent { name: name(), fuel });
    }
    Err(
        beyond_memory(program, meter).unwrap_or_else(|| Failed::Trapped {
            name: name(),
            because: in_one_line(&error),
        }),
    )
}

/// A program that is refused memory may live with it. One that ends in a trap after that did not.
fn beyond_memory(program: &Program, meter: &Meter) -> Option<Failed> {
    Some(Failed::MemoryLimit {
        name: program.name.clone(),
        asked: meter.refused?,
        limit: meter.limit?,
    })
}

fn in_one_line(error: &wasmtime::Error) -> String {
    let causes: Vec<_> = error.chain().map(ToString::to_string).collect();
    causes.join(": ").replace('\n', " ")
}
