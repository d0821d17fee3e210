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

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rand_core::{Rng as _, TryRng};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::runtime::Runtime;
use wasmtime::component::{Component, ResourceTable};
use wasmtime::{Engine, Module, Store, Trap};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::sync::Command;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

pub use code::Origin;

use crate::lease::Tenancy;
use crate::program::{Kind, Limits, Network, Program};
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
    run_to_end(program, kind, &bytes, data)
}

fn run_to_end(program: &Program, kind: Kind, bytes: &[u8], data: &Path) -> Result<Ended, Failed> {
    let engine = code::engine_for(program);
    let clock = program.seed.map(|_| Clock::default());
    let _entered = small_runtime().map(Runtime::enter);
    let (code_from, ended) = if kind == Kind::Component {
        let (component, from) = code::code::<Component>(&engine, bytes, program, data)?;
        if served::answers(&engine, &component) {
            return Err(served::needs_a_port(program));
        }
        (from, run_component(&engine, &component, program, clock)?)
    } else {
        let (module, from) = code::code::<Module>(&engine, bytes, program, data)?;
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

/// Words, environment and chance, and nothing else.
fn words(program: &Program) -> WasiCtxBuilder {
    let mut wasi = WasiCtxBuilder::new();
    wasi.arg(&program.name).args(&program.arguments);
    wasi.envs(&program.environment);
    let seed = [FromKernel, FromKernel].map(|mut kernel| u128::from(kernel.next_u64()));
    wasi.secure_random(FromKernel)
        .insecure_random(FromKernel)
        .insecure_random_seed(seed[0] << 64 | seed[1]);
    wasi
}

/// The kernel's chance, asked for whenever some is wanted. What a process has begun to draw from it by itself goes on in
/// each of its forks the same way, and wardens are forks of one.
struct FromKernel;

impl TryRng for FromKernel {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        // A capsule that is given no chance must not go on with less than it asked for.
        SystemRandom::new()
            .fill(bytes)
            .expect("a kernel that is up has chance to give");
        Ok(())
    }
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
    let own;
    let linker = match &clock {
        None if Engine::same(engine, code::usual()) => usual_linker(),
        _ => {
            let mut linker = wasmtime::Linker::new(engine);
            link_module(&mut linker, clock.as_ref());
            own = linker;
            &own
        }
    };
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

/// What modules are given who have no limit of fuel and no clock of their own: the same for all.
fn usual_linker() -> &'static wasmtime::Linker<(WasiP1Ctx, Meter)> {
    static MADE: OnceLock<wasmtime::Linker<(WasiP1Ctx, Meter)>> = OnceLock::new();
    MADE.get_or_init(|| {
        let mut linker = wasmtime::Linker::new(code::usual());
        link_module(&mut linker, None);
        linker
    })
}

/// Makes what most capsules need, in a process that is forked for each of them and has one thread before and after: the
/// engine, what modules are given, and what is found out once about the processor, which in a virtual machine takes
/// longer than all else.
pub(crate) fn warm() {
    drop(WasiCtxBuilder::new().build_p1());
    let _ = (usual_linker(), code::usual_settings());
}

/// What is rehearsed: asks what time it is, and says a byte. As text it stands in the test below.
const REHEARSAL: &[u8] = b"\0asm\x01\0\0\0\x01\x13\x03`\x03\x7f~\x7f\x01\x7f`\x04\x7f\x7f\x7f\x7f\x01\x7f`\0\0\x02K\x02\x16wasi\
    _snapshot_preview1\x0eclock_time_get\0\0\x16wasi_snapshot_preview1\x08fd_write\0\x01\x03\x02\x01\x02\
    \x05\x03\x01\0\x01\x07\x13\x02\x06memory\x02\0\x06_start\0\x02\x0a\x1f\x01\x1d\0A\0B\x01A\x08\x10\0\
    \x1aA\x04A\x016\x02\0A\x01A\0A\x01A\x08\x10\x01\x1a\x0b";

/// Does all that the first capsule in a process does, without one, so that whoever follows finds it done: the pages that
/// are written are this process's own then, and the thread that waits in WASI is there. Standard output is to lead nowhere.
pub(crate) fn rehearse(data: &Path) {
    let program = Program {
        path: PathBuf::new(),
        name: "rehearsal".to_owned(),
        arguments: Vec::new(),
        environment: Vec::new(),
        directory: PathBuf::from("/"),
        folders: Vec::new(),
        limits: Limits::default(),
        network: Network::Own,
        ports: Vec::new(),
        health: None,
        seed: None,
        devices: Vec::new(),
    };
    // Nothing is lost with it but time.
    let _ = run_to_end(&program, Kind::Module, REHEARSAL, data);
}

/// For what waits in WASI. Left to itself it makes a thread for each core, and reads control groups to count them.
fn small_runtime() -> Option<&'static Runtime> {
    static MADE: OnceLock<Option<Runtime>> = OnceLock::new();
    let make = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().ok()
    };
    MADE.get_or_init(make).as_ref()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rehearsed_is_what_stands_here_and_runs() {
        let text = r#"(module
          (import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func (export "_start")
            (drop (call 0 (i32.const 0) (i64.const 1) (i32.const 8)))
            (i32.store (i32.const 4) (i32.const 1))
            (drop (call 1 (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
        assert_eq!(REHEARSAL, wat::parse_str(text).unwrap());
        let data = tempfile::tempdir().unwrap();
        rehearse(data.path());
        let kept = std::fs::read_dir(data.path().join("code")).unwrap();
        assert_eq!(kept.count(), 1);
    }
}
