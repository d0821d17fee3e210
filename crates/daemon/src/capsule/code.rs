//! What does the processor execute for a capsule?
//!
//! An [`Engine`] is the compiler with its settings. Code is compiled once for the same bytes and the same settings,
//! and kept in the [cache](crate::cache). Counting fuel, and looking at whether time is up, are instructions in that code:
//! who sets no limit does not pay for them.

use std::hash::{Hash as _, Hasher};
use std::path::Path;
use std::sync::OnceLock;

use wasmtime::component::Component;
use wasmtime::{Config, Engine, Module};

use super::{Failed, in_one_line};
use crate::cache::{Cache, Entry, Key};
use crate::program::Program;

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

/// For this program.
pub(super) fn config(program: &Program) -> Config {
    let rehearsed = program.seed.is_some();
    config_of(program.limits.fuel.is_some() || rehearsed, rehearsed)
}

fn config_of(counts_fuel: bool, rehearsed: bool) -> Config {
    let mut config = Config::new();
    config.consume_fuel(counts_fuel);
    // WebAssembly leaves these bits to the processor.
    config.cranelift_nan_canonicalization(rehearsed);
    config.relaxed_simd_deterministic(rehearsed);
    config
}

pub(super) fn engine(config: &Config) -> Engine {
    Engine::new(config).expect("these settings go together on every processor we build for")
}

/// The engine for this program: the usual one, or one of its own.
pub(super) fn engine_for(program: &Program) -> Engine {
    match (program.limits.fuel, program.seed) {
        (None, None) => usual().clone(),
        _ => engine(&config(program)),
    }
}

/// Of programs that count no fuel and are not rehearsed.
pub(super) fn usual() -> &'static Engine {
    static MADE: OnceLock<Engine> = OnceLock::new();
    MADE.get_or_init(|| engine(&config_of(false, false)))
}

/// And its settings.
pub(super) fn usual_settings() -> &'static str {
    static MADE: OnceLock<String> = OnceLock::new();
    MADE.get_or_init(|| settings(usual()))
}

/// What the compiler makes and the cache keeps.
pub(super) trait Code: Sized {
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

/// The code of a program whose file has these bytes, from the cache in a data directory where it is there.
pub(super) fn code<T: Code>(
    engine: &Engine,
    bytes: &[u8],
    program: &Program,
    data: &Path,
) -> Result<(T, Origin), Failed> {
    let cache = Cache::at(data.join("code"));
    let key = match Engine::same(engine, usual()) {
        true => Key::of(bytes, usual_settings()),
        false => Key::of(bytes, &settings(engine)),
    };
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
