//! What does a capsule cost? Prints the table of `docs/bench/capsules.md`.
//! `cargo bench -p daemon --bench capsules`, or with words of the wanted lines after `--`.
//!
//! Times are processor time of the one thread that does all the work, the fastest of several rounds: the machine has
//! other users. What is compared, a capsule's call of its host with `getpid` of Linux, is measured in turns in the same
//! run.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use daemon::capsule::events::{self, Life};
use daemon::capsule::{self, served};
use daemon::program::{Kind, Limits, Network, Program};
use wasmtime::{Caller, Config, Engine, Instance, Linker, Module, Store};

fn processor() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec of ours.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0, "the host has no clock of processor time");
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

const ROUNDS: u32 = 7;

/// The fastest of several rounds, in seconds each for `count` things done by `all`.
fn each(count: u64, mut all: impl FnMut(u64)) -> f64 {
    let mut fastest = f64::INFINITY;
    for _ in 0..ROUNDS {
        let begun = processor();
        all(count);
        fastest = fastest.min(processor() - begun);
    }
    fastest / count as f64
}

fn line(wanted: &[String], what: &str, measure: impl FnOnce() -> String) {
    if wanted.iter().all(|word| what.contains(word.as_str())) {
        println!("| {what} | {} |", measure());
    }
}

/// A capsule that asks its host, and one that is asked.
const CALLS: &str = r#"(module
  (import "host" "next" (func $next (param i64) (result i64)))
  (memory (export "memory") 17)
  (data (i32.const 65536) "a program has some data of its own")
  (global $seen (mut i64) (i64.const 0))
  (func (export "ask") (param $times i64) (result i64)
    (local $last i64)
    (loop $again
      (local.set $last (call $next (local.get $last)))
      (br_if $again (i64.lt_u (local.get $last) (local.get $times))))
    (local.get $last))
  (func (export "on_event") (param $what i64) (result i64)
    (global.set $seen (i64.add (global.get $seen) (i64.const 1)))
    (i64.store (i32.const 65600) (i64.add (i64.load (i32.const 65600)) (local.get $what)))
    (global.get $seen))
  (func (export "_start")))"#;

/// Counts the lines it is told of; speaks WASI, as any program does.
const COUNTER: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 17)
  (global $seen (mut i32) (i32.const 0))
  (func (export "on_event")
    (global.set $seen (i32.add (global.get $seen) (i32.const 1)))
    (i32.store8 (i32.const 64) (i32.add (i32.const 48) (i32.rem_u (global.get $seen) (i32.const 10))))
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 1))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"#;

fn program(path: PathBuf, fuel: Option<u64>) -> Program {
    Program {
        path,
        name: "bench".to_owned(),
        arguments: Vec::new(),
        environment: Vec::new(),
        directory: PathBuf::from("/"),
        folders: Vec::new(),
        limits: Limits {
            fuel,
            ..Limits::default()
        },
        network: Network::Own,
        ports: Vec::new(),
        health: None,
        seed: None,
        devices: Vec::new(),
    }
}

fn counting(counts: bool) -> Engine {
    let mut config = Config::new();
    config.consume_fuel(counts);
    Engine::new(&config).expect("an engine")
}

fn born(engine: &Engine) -> (Store<u64>, Instance) {
    let module = Module::new(engine, wat::parse_str(CALLS).expect("text")).expect("a module");
    let mut linker = Linker::new(engine);
    let next = |mut caller: Caller<'_, u64>, last: i64| {
        *caller.data_mut() += 1;
        last + 1
    };
    linker.func_wrap("host", "next", next).expect("a new name");
    let mut store = Store::new(engine, 0);
    let _ = store.set_fuel(u64::MAX);
    let instance = linker
        .instantiate(&mut store, &module)
        .expect("an instance");
    (store, instance)
}

fn host_call(counts: bool) -> f64 {
    let (mut store, instance) = born(&counting(counts));
    let ask = instance.get_typed_func::<i64, i64>(&mut store, "ask");
    let ask = ask.expect("a function");
    each(5_000_000, |count| {
        let _ = store.set_fuel(u64::MAX);
        let done = ask.call(&mut store, count.cast_signed()).expect("it ends");
        assert_eq!(done.cast_unsigned(), count);
    })
}

fn getpid() -> f64 {
    each(1_000_000, |count| {
        for _ in 0..count {
            // SAFETY: it takes nothing and changes nothing.
            black_box(unsafe { libc::syscall(libc::SYS_getpid) });
        }
    })
}

fn event(counts: bool) -> f64 {
    let (mut store, instance) = born(&counting(counts));
    let on_event = instance.get_typed_func::<i64, i64>(&mut store, "on_event");
    let on_event = on_event.expect("a function");
    each(3_000_000, |count| {
        for what in 0..count {
            if counts {
                let _ = store.set_fuel(1_000);
            }
            black_box(
                on_event
                    .call(&mut store, what.cast_signed())
                    .expect("it ends"),
            );
        }
    })
}

/// A fresh instance, one event, and its end.
fn start(engine: &Engine) -> f64 {
    let module = Module::new(engine, wat::parse_str(CALLS).expect("text")).expect("a module");
    let mut linker = Linker::<u64>::new(engine);
    let next = |last: i64| last + 1;
    linker.func_wrap("host", "next", next).expect("a new name");
    let prepared = linker.instantiate_pre(&module).expect("it fits");
    each(20_000, |count| {
        for _ in 0..count {
            let mut store = Store::new(engine, 0);
            // Where turns are taken, one is taken here.
            store.set_epoch_deadline(u64::MAX / 2);
            let instance = prepared.instantiate(&mut store).expect("an instance");
            let on_event = instance.get_typed_func::<i64, i64>(&mut store, "on_event");
            let seen = on_event
                .expect("a function")
                .call(&mut store, 1)
                .expect("it ends");
            assert_eq!(seen, 1, "an instance that is not fresh");
        }
    })
}

fn main() {
    let wanted: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, wat::parse_str(text).expect("text")).expect("a file");
        path
    };
    println!("| what | measured |\n|---|---|");
    line(&wanted, "a call of the host, and getpid of Linux", || {
        // In turns, so that both meet the same machine.
        let (mut call, mut pid) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..3 {
            (call, pid) = (call.min(host_call(false)), pid.min(getpid()));
        }
        let ratio = pid / call;
        format!(
            "{:.2} ns, {:.1} ns: {ratio:.0} × the rate",
            call * 1e9,
            pid * 1e9
        )
    });
    line(&wanted, "a call of the host where fuel is counted", || {
        format!("{:.2} ns", host_call(true) * 1e9)
    });
    for (what, counts) in [("", false), (" where fuel is counted", true)] {
        line(&wanted, &format!("an event into an instance{what}"), || {
            let seconds = event(counts);
            format!(
                "{:.1} ns, {:.1} M events/s per core",
                seconds * 1e9,
                1e-6 / seconds
            )
        });
    }
    line(
        &wanted,
        "a fresh instance, its first event and its end, from the pool",
        || {
            let engine = served::engine(&program(PathBuf::new(), None)).expect("a pool");
            format!("{:.1} µs", start(&engine) * 1e6)
        },
    );
    line(&wanted, "the same without a pool", || {
        format!("{:.1} µs", start(&counting(false)) * 1e6)
    });
    line(
        &wanted,
        "a warm capsule from its file to its end, in a process that is there",
        || {
            let program = program(
                write("calls.wasm", "(module (func (export \"_start\")))"),
                None,
            );
            let run = |_| {
                for _ in 0..20 {
                    capsule::run(&program, Kind::Module, &data, None).expect("it ends");
                }
            };
            run(0);
            format!("{:.0} µs", each(1, run) / 20.0 * 1e6)
        },
    );
    for batch in [1, events::BATCH_MAX] {
        line(
            &wanted,
            &format!("an event of a capsule that is kept on disk, {batch} at a time"),
            || {
                let program = program(write("counter.wasm", COUNTER), None);
                let state = folder.path().join(format!("{batch}.state"));
                let seconds = kept(&program, &data, &state, batch);
                let size = std::fs::metadata(&state).map_or(0, |found| found.len());
                format!(
                    "{:.1} µs of processor, {:.0} k events/s per core, a snapshot of {size} bytes",
                    seconds * 1e6,
                    1e-3 / seconds
                )
            },
        );
    }
}

/// Hands over so many lines at a time.
struct Pieces {
    left: u64,
    batch: usize,
}

impl std::io::Read for Pieces {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let count = self.left.min(self.batch as u64).min(to.len() as u64);
        self.left -= count;
        let count = usize::try_from(count).expect("it fits");
        to[..count].fill(b'\n');
        Ok(count)
    }
}

fn kept(program: &Program, data: &Path, state: &Path, batch: usize) -> f64 {
    let count = if batch == 1 { 200 } else { 20 * batch as u64 };
    let mut first = 1;
    each(count, |count| {
        let life = Life {
            state: state.to_owned(),
            first,
        };
        let left = count;
        let input = Pieces { left, batch };
        events::live(
            program,
            Kind::Module,
            data,
            &life,
            input,
            &mut std::io::sink(),
        )
        .expect("it lives");
        first += count;
    })
}
