//! A torus is lost at any moment, and is rebuilt as it was.

use crate::world::{Lines, World, config};
use proptest::prelude::*;
use runtime::Strand;
use wire::Nanos;

const STOPS: u64 = 6;

fn lines() -> impl Strategy<Value = Lines> {
    (0.0..0.3, 0.0..0.3, 0.0..0.1, 0_u64..400, 0_u64..2_000).prop_map(
        |(loss, doubling, damage, delay_us, jitter_us)| Lines {
            loss,
            doubling,
            damage,
            delay: Nanos(delay_us * 1_000),
            jitter: Nanos(jitter_us * 1_000),
        },
    )
}

fn strand() -> impl Strategy<Value = Strand> {
    (0_usize..3).prop_map(|at| Strand::ALL[at])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    //= requirements B3
    #[test]
    fn whoever_dies_whenever_is_rebuilt_and_no_event_is_lost_or_doubled(
        seed: u64,
        lines in lines(),
        victim in strand(),
        at_us in 0_u64..8_000,
        replay_max in prop::sample::select(vec![20_u64, 200, 1 << 19]),
        audit_every in prop::sample::select(vec![0_u32, 1, 3]),
    ) {
        let mut config = config();
        (config.replay_max, config.audit_every) = (replay_max, audit_every);
        let mut world = World::new(config, seed);
        let names = world.settle(12);
        world.lines = lines;
        let begun = world.now;
        let mut number = 0;
        let mut killed = false;
        for step in 0..40_u64 {
            for _ in 0..5 {
                world.errand(number, &names, STOPS, 0);
                number += 1;
            }
            let until = begun + Nanos(step * 250_000);
            let death = begun + Nanos(at_us * 1_000);
            if !killed && death <= until {
                world.run(death.max(world.now));
                world.kill(victim);
                killed = true;
            }
            world.run(until.max(world.now));
            if step % 4 == 0 {
                world.insist();
            }
        }
        world.peace();
        prop_assert!(killed && world.rebuilt >= 1, "the fault did not strike");
        prop_assert_eq!(world.lost, 0);
        world.check_errands(&names, number, STOPS);
    }
}
