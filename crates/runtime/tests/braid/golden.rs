//! What a braid does, line by line, as a reader would want it told.
//! `UPDATE_EXPECT=1 cargo test -p runtime --test braid golden` writes it anew.

use crate::world::{World, config};
use expect_test::expect_file;
use runtime::Strand;
use wire::Nanos;

#[test]
fn a_torus_is_lost_between_two_errands() {
    let mut world = World::new(config(), 1);
    world.trace = Some(Vec::new());
    let names = world.settle(2);
    for number in 1..=3 {
        world.errand(number, &names, 2, 0);
    }
    // They are under way.
    world.run_for(Nanos(100_000));
    world.kill(Strand::Io);
    world.run_for(Nanos::SECOND);
    for number in 4..=5 {
        world.errand(number, &names, 2, 0);
    }
    world.peace();
    let trace = world.trace.take().unwrap().join("\n") + "\n";
    expect_file!["traces/lost.txt"].assert_eq(&trace);
}
