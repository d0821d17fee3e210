//! A whole cell through the public face: bursts, loss, partitions, laggards.

mod common;

use common::{World, config};
use machine::{Purpose, Stream};
use membership::Peer;
use wire::{Nanos, Tile};

/// Different peers out of a cell, by a stream of its own.
fn some(tiles: u32, count: usize, seed: u64) -> Vec<Peer> {
    let mut chance = Stream::new(seed, Tile(0), Purpose::Faults);
    let mut chosen: Vec<Peer> = Vec::new();
    while chosen.len() < count {
        let peer = Peer(chance.below(tiles.into()) as u16);
        if !chosen.contains(&peer) {
            chosen.push(peer);
        }
    }
    chosen
}

#[test]
fn burst() {
    for seed in 0..3 {
        let mut world = World::new(config(1_000), seed);
        world.links.loss = 0.01;
        world.run(Nanos::from_secs(20));
        let quiet = world.sent as f64 / 20.0 / 1000.0;
        let died = world.now;
        let victims = some(1_000, 50, seed);
        for &peer in &victims {
            world.kill(peer);
        }
        let before = world.sent;
        world.run(Nanos::from_secs(20));
        println!(
            "{} quiet {quiet} burst {} false {:?} sus {}",
            world.removal_delays(&victims, died),
            (world.sent - before) as f64 / 20.0 / 1000.0,
            world.removals_but(&victims).len(),
            world.suspicions_but(&victims).len()
        );
        world.run(Nanos::from_secs(60));
        println!("{:?}", world.agrees_with_the_truth());
    }
}
