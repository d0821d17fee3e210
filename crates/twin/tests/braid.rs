//! A braid in virtual time through its public face: what is lost is made again as it was, and what is wrong shows.

use twin::observer::Nobody;
use twin::record::Summary;
use twin::record::summary::Invariant;
use twin::rehearsal::{Request, Universe, simulate};
use twin::universe::Document;

const SMALL: &str = "\
name = 'small'
intent = 'Three tori, each of which dies.'
kind = 'braid'
[time]
end = '900 ms'
until = '600 ms'
[work]
kind = 'errands'
players = 90
every = '100 us'
[braid]
audit_every = 1
[lines]
delay = '20 us'
jitter = '300 us'
loss = '5 %'
doubling = '5 %'
damage = '1 %'
[[fault]]
kind = 'kill'
at = '100 ms'
torus = 'io'
times = 4
every = '130 ms'
";

fn universe(text: &str) -> Result<Universe, String> {
    let document = Document::parse("small.toml", text, &[]).map_err(|e| e.to_string())?;
    Universe::read(&document).map_err(|e| e.to_string())
}

fn rehearse(text: &str, seed: u64) -> Summary {
    let request = Request {
        seed,
        threads: 1,
        out: None,
        overrides: Vec::new(),
        command: String::new(),
        replay: None,
        inputs: None,
    };
    simulate(universe(text).unwrap(), &request, &mut Nobody).summary
}

fn broken(summary: &Summary) -> Vec<&str> {
    let broken = summary.invariants.iter();
    let broken = broken.filter(|invariant| !invariant.held);
    broken.map(|Invariant { name, .. }| name.as_str()).collect()
}

//= requirements B3
#[test]
fn the_dead_are_rebuilt_as_they_were_and_the_same_seed_gives_the_same_history() {
    let summary = rehearse(SMALL, 7);
    assert_eq!(broken(&summary), [""; 0], "{:?}", summary.invariants);
    let braid = summary.braid.as_ref().unwrap();
    assert_eq!(braid.rebuilds[0].after, "kill");
    assert!(braid.rebuilds[0].times >= 4, "{:?}", braid.rebuilds);
    assert!(braid.begun > 500 && braid.ended == braid.begun);
    assert_eq!(rehearse(SMALL, 7).history_hash, summary.history_hash);
    assert_ne!(rehearse(SMALL, 8).history_hash, summary.history_hash);
}

#[test]
fn a_ring_and_trees_come_through_it_as_well() {
    let ring = SMALL.replace(
        "kind = 'errands'",
        "kind = 'ring'\nhops = 300\nat_once = 20",
    );
    let tree = SMALL.replace(
        "kind = 'errands'",
        "kind = 'tree'\nleaves = 137\nbranches = 5\nat_once = 8",
    );
    for text in [ring, tree] {
        let summary = rehearse(&text, 3);
        assert_eq!(broken(&summary), [""; 0], "{:?}", summary.invariants);
        let braid = summary.braid.unwrap();
        assert!(
            braid.rebuilds[0].times >= 4 && braid.ended > 100,
            "{braid:?}"
        );
    }
}

#[test]
fn who_is_cut_off_is_replaced_and_ends_and_who_is_damaged_is_found() {
    for (kind, after) in [("partition", "partition"), ("corrupt", "corrupt")] {
        for seed in 0..20 {
            let text = SMALL.replace("kind = 'kill'", &format!("kind = '{kind}'"));
            let summary = rehearse(&text, seed);
            assert_eq!(
                broken(&summary),
                [""; 0],
                "{seed}: {:?}",
                summary.invariants
            );
            let braid = summary.braid.unwrap();
            let rebuilt = braid.rebuilds.iter().find(|r| r.after == after);
            assert!(
                rebuilt.is_some_and(|r| r.times >= 3),
                "{seed}: {:?}",
                braid.rebuilds
            );
        }
    }
}

/// Two at once are more than a braid bears, and it does not say that it did.
#[test]
fn two_that_die_at_once_are_lost_and_it_shows() {
    let text = SMALL
        .replace("every = '130 ms'", "every = '1 ms'")
        .replace("times = 4", "times = 2");
    let summary = rehearse(&text, 1);
    let broken = broken(&summary);
    assert!(broken.contains(&"every_torus_rebuilt"), "{broken:?}");
    assert!(broken.contains(&"no_event_lost"), "{broken:?}");
    assert!(!broken.contains(&"state_equal_after_rebuild"), "{broken:?}");
}

/// Without audits a stray write between a process's turns is sealed as if it were right.
#[test]
fn damage_that_is_not_looked_for_shows_in_what_was_counted() {
    let text = SMALL
        .replace("kind = 'kill'", "kind = 'corrupt'")
        .replace("audit_every = 1", "audit_every = 0");
    let wrong = (0..5).filter(|seed| {
        let summary = rehearse(&text, *seed);
        broken(&summary).contains(&"no_event_doubled")
    });
    assert!(wrong.count() > 0);
}

//= requirements B2
#[test]
fn an_interval_costs_as_much_among_many() {
    let text = format!("{SMALL}[scale]\nplayers = [300, 30000]\n");
    let summary = rehearse(&text, 1);
    assert_eq!(broken(&summary), [""; 0], "{:?}", summary.invariants);
    let scale = summary.braid.unwrap().scale;
    assert_eq!(scale[0].projection_bytes, scale[1].projection_bytes);
    assert!(
        scale.iter().all(|s| s.bytes > 386.0 && s.packets > 1.0),
        "{scale:?}"
    );
}

#[test]
fn what_makes_no_sense_is_said_with_its_place() {
    for (from, to, says) in [
        ("until = '600 ms'", "until = '2 s'", "up to 900 ms"),
        ("torus = 'io'", "torus = 'moon'", "moon"),
        ("every = '130 ms'", "every = '1 s'", "the last of 4"),
        (
            "[braid]",
            "[braid]\ninterval_min = '50 ms'",
            "`braid.interval_min`",
        ),
        ("players = 90", "players = 2", "2"),
    ] {
        let found = universe(&SMALL.replace(from, to)).unwrap_err();
        assert!(
            found.contains(says) && found.contains("small.toml:"),
            "{found}"
        );
    }
}
