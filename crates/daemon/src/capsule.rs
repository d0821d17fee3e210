//! A program in WebAssembly, run to its end.
//!
//! A capsule sees what it was given and nothing else: words, an environment, standard streams, and
//! the folders it was promised. Modules of WASI preview 1 and components of the world
//! `wasi:cli/command` are run the same way; which it is, its first bytes say.
//!
//! Each capsule is a process of its own and runs in the thread that asks, so a signal ends it as it
//! ends any other program, and no capsule can take another with it. The price is a process each;
//! pooled instances pay only where many capsules share one, which is why they are not used.
//!
//! Deliberately absent: a network (`wasi:sockets` is there and refuses everything), HTTP, virtual time.

use std::hash::{Hash as _, Hasher};
use std::path::Path;

use wasmtime::component::{Component, ResourceTable};
use wasmtime::{Engine, Module, ResourceLimiter, Store, Trap};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::sync::Command;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::cache::{Cache, Entry, Key};
use crate::program::{Kind, Limits, Program};

/// How a capsule ended that was run.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code, cut to what a process can say: the lowest eight bits.
    pub code: u8,
    /// Where its compiled code came from.
    pub code_from: Origin,
}

/// Where compiled code came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the cache.
    Kept,
    /// It was compiled, and is in the cache now if that could be written.
    Compiled,
    /// What the cache had was not what had been put there; it was compiled anew.
    Recompiled,
}

/// Why a capsule did not run, or not to its own end.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The file could not be read.
    #[error("reading {path}: {source}")]
    Unreadable {
        /// The file.
        path: std::path::PathBuf,
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
}

impl Failed {
    /// The exit code that stands for it: 126 for what never ran; what ended by a limit looks as if
    /// the kernel had killed it (128 + SIGKILL), a trap as if it had aborted (128 + SIGABRT).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unreadable { .. } | Self::Invalid { .. } | Self::Unstartable { .. } => 126,
            Self::Folder { .. } => 125,
            Self::Trapped { .. } => 134,
            Self::FuelSpent { .. } | Self::MemoryLimit { .. } => 137,
        }
    }
}

/// Runs a capsule in this thread, with the standard streams of this process, until it ends.
///
/// # Errors
/// If it could not be run, or ended otherwise than by its own will.
pub fn run(program: &Program, kind: Kind, data: &Path) -> Result<Ended, Failed> {
    let cache = &cache_in(data);
    if let Some(folder) = crate::confinement::shows(program, data, false) {
        return Err(Failed::Folder {
            host: folder.display().to_string(),
            because: format!(
                "the node's own directory, {}, is in it or around it, and cannot be hidden from a capsule",
                data.display()
            ),
        });
    }
    let bytes = std::fs::read(&program.path).map_err(|source| Failed::Unreadable {
        path: program.path.clone(),
        source,
    })?;
    let engine = engine(program.limits);
    let wasi = surroundings(program)?;
    let (code_from, ended) = if kind == Kind::Component {
        let (component, from) = code::<Component>(&engine, &bytes, program, cache)?;
        (from, run_component(&engine, &component, wasi, program))
    } else {
        let (module, from) = code::<Module>(&engine, &bytes, program, cache)?;
        (from, run_module(&engine, &module, wasi, program))
    };
    ended.map(|code| Ended { code, code_from })
}

fn engine(limits: Limits) -> Engine {
    let mut config = wasmtime::Config::new();
    // Counting costs every basic block an addition; who sets no limit does not pay for it.
    config.consume_fuel(limits.fuel.is_some());
    Engine::new(&config).expect("these settings go together on every processor we build for")
}

fn surroundings(program: &Program) -> Result<WasiCtxBuilder, Failed> {
    let mut wasi = WasiCtxBuilder::new();
    wasi.inherit_stdio();
    // Nobody else needs this thread, so it may wait for a disk or a pipe itself.
    wasi.allow_blocking_current_thread(true);
    wasi.arg(&program.name).args(&program.arguments);
    wasi.envs(&program.environment);
    for folder in &program.folders {
        let opened = wasi.preopened_dir(&folder.host, &folder.guest, FsPerms::ReadWrite);
        opened.map_err(|error| Failed::Folder {
            host: folder.host.display().to_string(),
            because: in_one_line(&error),
        })?;
    }
    Ok(wasi)
}

/// What the compiler makes and the cache keeps.
trait Code: Sized {
    fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self>;
    fn bytes(&self) -> wasmtime::Result<Vec<u8>>;
    /// # Safety
    /// `bytes` must be what [`Code::bytes`] gave.
    unsafe fn from_bytes(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self>;
}

macro_rules! code {
    ($what:ty) => {
        impl Code for $what {
            fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self> {
                Self::from_binary(engine, bytes)
            }
            fn bytes(&self) -> wasmtime::Result<Vec<u8>> {
                self.serialize()
            }
            unsafe fn from_bytes(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self> {
                // SAFETY: promised by the caller.
                unsafe { Self::deserialize(engine, bytes) }
            }
        }
    };
}
code!(Module);
code!(Component);

fn code<T: Code>(
    engine: &Engine,
    bytes: &[u8],
    program: &Program,
    cache: &Cache,
) -> Result<(T, Origin), Failed> {
    let key = Key::of(bytes, &settings(engine));
    let origin = match cache.read(key) {
        Entry::Whole(code) => {
            // SAFETY: only `Cache::write` below puts entries there, with a hash that has just been
            // checked, in a folder that only its owner can write.
            match unsafe { T::from_bytes(engine, &code) } {
                Ok(code) => return Ok((code, Origin::Kept)),
                Err(_) => Origin::Recompiled,
            }
        }
        Entry::Corrupt => Origin::Recompiled,
        Entry::Absent => Origin::Compiled,
    };
    let code = T::compile(engine, bytes).map_err(|error| Failed::Invalid {
        name: program.name.clone(),
        because: in_one_line(&error),
    })?;
    // A full disk or a foreign folder costs the next start its time, and this one nothing.
    if let Ok(bytes) = code.bytes() {
        let _ = cache.write(key, &bytes);
    }
    Ok((code, origin))
}

/// Compiler, version, settings and processor, as far as compiled code depends on them.
fn settings(engine: &Engine) -> String {
    struct Digest(blake3::Hasher);
    impl Hasher for Digest {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            unreachable!("all of it is asked for, not 64 bits")
        }
    }
    let mut digest = Digest(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut digest);
    digest.0.finalize().to_hex().to_string()
}

/// Counts what memories and tables hold, and refuses more than was promised.
#[derive(Debug)]
struct Meter {
    limit: Option<u64>,
    held: u64,
    /// The first time more was asked for: how much it would have been.
    refused: Option<u64>,
}

/// wasmtime takes two words for a reference in a table.
const TABLE_ELEMENT_BYTES: usize = 16;

impl Meter {
    fn grows(&mut self, current: usize, desired: usize) -> bool {
        let more = desired.saturating_sub(current) as u64;
        let asked = self.held.saturating_add(more);
        if self.limit.is_some_and(|limit| asked > limit) {
            self.refused.get_or_insert(asked);
            return false;
        }
        self.held = asked;
        true
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grows(current, desired))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(TABLE_ELEMENT_BYTES);
        Ok(self.grows(bytes(current), bytes(desired)))
    }
}

fn meter(limits: Limits) -> Meter {
    Meter {
        limit: limits.memory,
        held: 0,
        refused: None,
    }
}

fn store<T: 'static>(
    engine: &Engine,
    state: T,
    limits: Limits,
    meter: fn(&mut T) -> &mut dyn ResourceLimiter,
) -> Store<T> {
    let mut store = Store::new(engine, state);
    store.limiter(meter);
    if let Some(fuel) = limits.fuel {
        store.set_fuel(fuel).expect("the engine counts fuel");
    }
    store
}

fn run_module(
    engine: &Engine,
    module: &Module,
    mut wasi: WasiCtxBuilder,
    program: &Program,
) -> Result<u8, Failed> {
    let mut linker = wasmtime::Linker::<(WasiP1Ctx, Meter)>::new(engine);
    wasmtime_wasi::p1::add_to_linker_sync(&mut linker, |(wasi, _)| wasi)
        .expect("an empty linker takes all of WASI");
    let state = (wasi.build_p1(), meter(program.limits));
    let mut store = store(engine, state, program.limits, |(_, meter)| meter);
    let start = linker
        .instantiate(&mut store, module)
        .and_then(|instance| instance.get_typed_func::<(), ()>(&mut store, "_start"));
    let done = match start {
        Ok(start) => start.call(&mut store, ()),
        Err(error) => return Err(unstartable(program, &error, &store.data().1)),
    };
    ended(program, done.map(|()| 0), &store.data().1)
}

struct Inside {
    wasi: WasiCtx,
    table: ResourceTable,
    meter: Meter,
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
    mut wasi: WasiCtxBuilder,
    program: &Program,
) -> Result<u8, Failed> {
    let mut linker = wasmtime::component::Linker::<Inside>::new(engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker).expect("an empty linker takes all of WASI");
    let inside = Inside {
        wasi: wasi.build(),
        table: ResourceTable::new(),
        meter: meter(program.limits),
    };
    let mut store = store(engine, inside, program.limits, |inside| &mut inside.meter);
    let done = match Command::instantiate(&mut store, component, &linker) {
        Ok(command) => command.wasi_cli_run().call_run(&mut store),
        Err(error) => return Err(unstartable(program, &error, &store.data().meter)),
    };
    let done = done.map(|result| u8::from(result.is_err()));
    ended(program, done, &store.data().meter)
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

/// Where compiled code is kept in a data directory.
#[must_use]
fn cache_in(data: &Path) -> Cache {
    Cache::at(data.join("code"))
}
