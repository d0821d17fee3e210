//! What an idle member costs: under 256 bytes, no heap, and nothing allocated by probing.

mod simulated;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use machine::Machine;
use membership::{Config, Effect, Input, Kind, Member, Peer, State};
use simulated::{World, at_ms, config, some};
use std::sync::Arc;
use wire::Nanos;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: hands everything on to the system's allocator; counting allocates nothing, since the
// counter is a constant-initialised thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on unchanged.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `System` above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn member(config: &Arc<Config>, peer: Peer) -> Member {
    let owner = wire::Tile(peer.0.into());
    let stream = machine::Stream::new(1, owner, machine::Purpose::Membership);
    Member::new(config.clone(), peer, 0, stream, at_ms(0))
}

//= requirements U6
#[test]
fn an_idle_member_takes_less_than_256_bytes_and_probing_allocates_nothing() {
    let mut config = config(1_000);
    config.authenticate = true;
    let config = Arc::new(config);
    let mut prober = member(&config, Peer(0));
    let mut others: Vec<Member> = (1..1_000).map(|at| member(&config, Peer(at))).collect();
    let before = ALLOCATIONS.get();
    let mut probes = 0;
    for _ in 0..1_000 {
        let now = prober.deadline().unwrap();
        let mut ping = None;
        prober.wake(now, &mut |effect| ping = Some(effect));
        let Some(Effect::Send { to, message }) = ping else {
            panic!("{ping:?}")
        };
        let other = &mut others[usize::from(to.0) - 1];
        // It has slept since the epoch; that is not idleness, so let it keep up.
        while other.deadline().unwrap() < now {
            other.wake(other.deadline().unwrap(), &mut |effect| {
                drop(black_box(effect))
            });
        }
        let mut ack = None;
        other.handle(now, Input::Received(message), &mut |effect| {
            ack = Some(effect)
        });
        let Some(Effect::Send {
            to: Peer(0),
            message,
        }) = ack
        else {
            panic!("{ack:?}")
        };
        assert_eq!(message.kind, Kind::Ack);
        prober.handle(now, Input::Received(message), &mut |effect| {
            panic!("{effect:?}")
        });
        probes += 1;
    }
    assert_eq!(ALLOCATIONS.get() - before, 0, "in {probes} probes");
    println!("an idle member takes {} bytes", prober.footprint());
    assert!(prober.footprint() <= 256, "{}", prober.footprint());
}

#[test]
fn what_a_burst_took_is_given_back() {
    let mut world = World::new(config(1_000), 1);
    world.run(Nanos::from_secs(5));
    for victim in some(1_000, 50, 1) {
        world.kill(victim);
    }
    world.run(Nanos::from_secs(4));
    let footprint = |world: &World| world.living().map(Member::footprint).max().unwrap();
    let during = footprint(&world);
    world.run(Nanos::MINUTE);
    let after = footprint(&world);
    println!("{during} bytes during a burst of 50 deaths, {after} after");
    assert!(during > after);
    // Two bits for each of a thousand, 32 to a word, and a word that counts them.
    assert_eq!(after, size_of::<Member>() + 33 * size_of::<u64>());
    let members = world.living();
    assert!(
        members
            .map(|m| m
                .exceptions()
                .filter(|(_, s, _)| *s == State::Removed)
                .count())
            .all(|n| n == 50)
    );
}

/// `cargo test --release -p membership --test footprint -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a test"]
fn how_long_a_ping_takes() {
    for authenticate in [false, true] {
        let mut config = config(1_000);
        config.authenticate = authenticate;
        let config = Arc::new(config);
        let mut pinged = member(&config, Peer(1));
        let mut prober = member(&config, Peer(0));
        let mut ping = None;
        while ping.is_none() {
            let now = prober.deadline().unwrap();
            prober.wake(now, &mut |effect| match effect {
                Effect::Send {
                    to: Peer(1),
                    message,
                } if message.kind == Kind::Ping => ping = Some(message),
                _ => {}
            });
        }
        let ping = ping.unwrap();
        let now = at_ms(0);
        let rounds = 2_000_000;
        #[expect(
            clippy::disallowed_methods,
            reason = "it measures the machine it runs on"
        )]
        let begun = std::time::Instant::now();
        for _ in 0..rounds {
            let input = Input::Received(black_box(ping.clone()));
            pinged.handle(now, input, &mut |effect| drop(black_box(effect)));
        }
        let each = begun.elapsed().as_nanos() / rounds;
        println!("a ping takes {each} ns, authenticated: {authenticate}");
    }
}
