//! x
mod common;
use common::*;
use runtime::*;
use wire::Nanos;
#[test]
fn dbg() {
    let mut config = config();
    (config.replay_max, config.audit_every) = (20, 1);
    let mut world = World::new(config, 0);
    world.trace = Some(vec![]);
    let names = world.settle(2);
    for n in 0..5 { world.errand(n, &names, 3, 0); }
    world.run_for(Nanos::from_millis(3));
    println!("{}", world.trace.take().unwrap().join("\n"));
    world.trace = Some(vec![]);
    for s in Strand::ALL { println!("{:?}", world.tori[s as usize].as_ref().map(|t| (t.written(), t.held(), t.stopped(), t.incarnation(), t.lattice().ready(), t.lattice().mail(), t.keeps_a_copy()))); }
    world.kill(Strand::Compute);
    world.run_for(Nanos::from_millis(300));
    println!("{}", world.trace.take().unwrap().join("\n"));
    for s in Strand::ALL { println!("{:?}", world.tori[s as usize].as_ref().map(|t| (t.written(), t.held(), t.stopped(), t.incarnation(), t.lattice().ready(), t.lattice().mail(), t.keeps_a_copy()))); }
    panic!();
}
