use alloc::string::{String, ToString};

use proptest::prelude::*;

use super::*;

const GIB: u64 = 1 << 30;

fn amounts(cores: u64, gib: u64, gpus: u64) -> Amounts {
    Amounts {
        cpu_milli: cores * 1_000,
        memory: gib * GIB,
        gpus,
    }
}

fn machine(number: u32, has: Amounts) -> Machine {
    Machine {
        number,
        has,
        out: None,
    }
}

/// So many replicas that wait, and nothing else of it.
fn wanted(replicas: u32, each: Amounts) -> Wanted {
    Wanted {
        each,
        replicas,
        waiting: replicas,
        ..Wanted::default()
    }
}

/// Where each goes.
fn places(machines: &[Machine], programs: &[Wanted]) -> Vec<Vec<Option<u32>>> {
    let all = settle(machines, programs).into_iter();
    let place = |evidence: Evidence| evidence.candidates.first().map(|best| best.machine);
    all.map(|of| of.into_iter().map(place).collect()).collect()
}

fn name(machine: u32) -> String {
    ["ada", "ben", "cleo", "dan"][machine as usize].to_string()
}

fn helps(machines: &[Machine], programs: &[Wanted], at: usize) -> Vec<String> {
    let pending = explain(machines, programs, at).expect("some of it waits");
    let changes = pending.changes.iter();
    let told = changes.map(|change| words::change(&programs[at], *change, &name));
    told.collect()
}

#[test]
fn replicas_stand_apart_first_and_then_where_least_is_taken() {
    let machines = [0, 1, 2].map(|n| machine(n, amounts(4, 8, 0)));
    let loaded = Wanted {
        standing: vec![0, 2],
        waiting: 0,
        ..wanted(2, amounts(1, 1, 0))
    };
    // The idle one first, then one on each of the others, though the first has less to do by then.
    let web = wanted(4, Amounts::default());
    assert_eq!(
        places(&machines, &[loaded, web])[1],
        [1, 0, 2, 1].map(Some).to_vec()
    );
}

#[test]
fn each_machine_falls_to_the_first_test_that_it_fails() {
    let out = |n, test| Machine {
        out: Some(test),
        ..machine(n, amounts(4, 8, 2))
    };
    let machines = [
        out(0, Test::Silent),
        out(1, Test::Draining),
        machine(2, amounts(1, 1, 0)),
        machine(3, amounts(4, 1, 0)),
        machine(4, amounts(4, 8, 1)),
        machine(5, amounts(4, 8, 2)),
        machine(6, amounts(4, 8, 2)),
        machine(7, amounts(4, 8, 2)),
    ];
    let other = Wanted {
        ports: vec![80],
        standing: vec![5],
        ..wanted(1, Amounts::default())
    };
    let other = Wanted {
        waiting: 0,
        ..other
    };
    let train = Wanted {
        ports: vec![443, 80],
        resting: [(6, Nanos::from_secs(3)), (0, Nanos::SECOND)].into(),
        ..wanted(1, amounts(2, 2, 2))
    };
    let programs = [other, train];
    let [evidence] = settle(&machines, &programs).remove(1).try_into().unwrap();
    let fell = Test::OF_A_FLEET.map(|test| evidence.funnel.fell[test as usize]);
    assert_eq!((evidence.funnel.nodes, fell), (8, [1; 7]));
    let only = Candidate {
        machine: 7,
        score: Apart::default(),
    };
    assert_eq!(evidence.candidates, [only]);
    assert_eq!(explain(&machines, &programs, 1), None, "nothing waits");
    let pending = explain(&machines[..7], &programs, 1).unwrap();
    assert_eq!(pending.rested, Some((6, Nanos::from_secs(3))));
    assert_eq!(pending.fallen.len(), 7);
    assert_eq!(pending.funnel.furthest(), Some(Test::Resting));
    let text = words::pending(&pending, &programs[1], &|n| n.to_string());
    assert!(
        text.contains("-1 too little GPU free, 2 left: 4\n")
            && text.contains("-1 run something that takes one of its ports, 1 left: 5\n")
            && text.contains("starts   in 3 s, when 6 has rested\n"),
        "{text}"
    );
}

#[test]
fn what_would_start_it_now_is_found_to_the_unit_and_the_cheapest_comes_first() {
    let mut machines = [
        machine(0, amounts(4, 8, 0)),
        machine(1, amounts(4, 8, 0)),
        machine(2, amounts(4, 2, 4)),
    ];
    let load = Wanted {
        standing: vec![0, 1],
        waiting: 0,
        ..wanted(2, amounts(2, 3, 0))
    };
    let big = |replicas, each| [load.clone(), wanted(replicas, each)];
    assert_eq!(
        helps(&machines, &big(1, amounts(6, 0, 0)), 1),
        ["with 4 instead of 6 CPUs"]
    );
    assert_eq!(
        helps(&machines, &big(3, amounts(3, 0, 0)), 1),
        ["with 2 instead of 3 CPUs", "with 1 instead of 3 replicas"]
    );
    assert_eq!(
        helps(&machines, &big(1, amounts(0, 6, 0)), 1),
        ["with 5 GiB instead of 6 GiB"]
    );
    assert_eq!(
        helps(&machines, &big(2, amounts(1, 1, 3)), 1),
        ["with 2 instead of 3 GPUs", "with 1 instead of 2 replicas"]
    );
    // Two lacks at once, and no single change that helps.
    assert!(helps(&machines, &big(1, amounts(6, 9, 0)), 1).is_empty());
    let mut door = big(1, amounts(1, 1, 0));
    for wanted in &mut door {
        wanted.ports = vec![80];
    }
    machines[2].out = Some(Test::Draining);
    assert_eq!(
        helps(&machines, &door, 1),
        ["with cleo serving again", "without port 80"]
    );
}

#[test]
fn what_is_asked_of_the_program_holds_for_those_of_it_that_run() {
    // Two of three run with 3 of 4 CPUs each; with 2 each all fit.
    let machines = [0, 1].map(|n| machine(n, amounts(4, 8, 0)));
    let web = Wanted {
        standing: vec![0, 1],
        waiting: 1,
        ..wanted(3, amounts(3, 0, 0))
    };
    assert_eq!(
        helps(&machines, &[web], 0),
        ["with 2 instead of 3 CPUs", "with 2 instead of 3 replicas"]
    );
}

#[test]
fn whoever_comes_first_takes_the_room() {
    let machines = [machine(0, amounts(4, 8, 0))];
    let programs = [wanted(1, amounts(3, 0, 0)), wanted(1, amounts(2, 0, 0))];
    assert_eq!(places(&machines, &programs), [[Some(0)], [None]]);
    let pending = explain(&machines, &programs, 1).unwrap();
    assert_eq!(pending.nearest, Some((0, 1_000)));
    assert_eq!(
        words::dominant(&pending, &programs[1], &name),
        "no machine has enough CPU free: ada, which comes nearest, has 1 CPU where 2 CPUs are asked for"
    );
}

#[test]
fn amounts_beyond_what_the_ledger_counts_in_fit_nowhere_by_mistake() {
    let endless = Amounts {
        cpu_milli: u64::MAX,
        memory: u64::MAX,
        gpus: u64::MAX,
    };
    let machines = [machine(0, endless), machine(1, amounts(4, 8, 0))];
    let cut = |each| places(&machines, &[wanted(1, each)])[0][0];
    assert_eq!(cut(Amounts { gpus: 0, ..endless }), None);
    let large = Amounts {
        cpu_milli: u64::from(u32::MAX) - 1,
        memory: 1 << 50,
        gpus: 0,
    };
    assert_eq!(cut(large), Some(0));
    // As many as are there in eighths, and there is no room for one more.
    let gpus = u64::MAX / 8 * 7;
    let all = wanted(
        2,
        Amounts {
            gpus,
            ..Amounts::default()
        },
    );
    assert_eq!(places(&machines, &[all]), [[Some(0), None]]);
    // A byte is a MiB to a replica, and nothing to a machine.
    let byte = Amounts {
        memory: 1,
        ..Amounts::default()
    };
    assert_eq!(places(&[machine(0, byte)], &[wanted(1, byte)]), [[None]]);
}

#[test]
fn a_machine_of_sixteen_gpus_gives_them_in_pairs_and_halves_of_pairs() {
    let machines = [machine(0, amounts(64, 64, 16))];
    let fit = |gpus| {
        let each = Amounts {
            gpus,
            ..Amounts::default()
        };
        let places = places(&machines, &[wanted(64, each)]).remove(0);
        places.into_iter().flatten().count()
    };
    assert_eq!([1, 2, 4, 8, 16, 17].map(fit), [16, 8, 4, 2, 1, 0]);
    // Three take four.
    assert_eq!([3, 5, 15].map(fit), [4, 2, 1]);
}

#[test]
fn a_machine_that_came_back_smaller_takes_only_what_asks_for_nothing() {
    let machines = [machine(0, amounts(2, 2, 1))];
    let runs = Wanted {
        standing: vec![0],
        waiting: 0,
        ..wanted(1, amounts(4, 1, 2))
    };
    let more = |each| places(&machines, &[runs.clone(), wanted(1, each)])[1][0];
    assert_eq!(more(amounts(1, 0, 0)), None);
    assert_eq!(more(amounts(0, 1, 0)), Some(0));
    assert_eq!(more(amounts(0, 0, 1)), None);
    assert_eq!(more(Amounts::default()), Some(0));
}

/// What the council did before it had a ledger: sums, and comparisons of them.
fn by_sums(machines: &[Machine], programs: &[Wanted]) -> Vec<Vec<Option<u32>>> {
    let mut taken = vec![(Amounts::default(), 0_u64); machines.len()];
    let at = |number: u32| machines.iter().position(|m| m.number == number);
    let take = |taken: &mut (Amounts, u64), each: Amounts| {
        taken.0.cpu_milli += each.cpu_milli;
        taken.0.memory += each.memory;
        taken.0.gpus += each.gpus;
        taken.1 += 1;
    };
    for wanted in programs {
        for node in wanted.standing.iter().filter_map(|number| at(*number)) {
            take(&mut taken[node], wanted.each);
        }
    }
    let mut all = Vec::new();
    for wanted in programs {
        let mut stand = wanted.standing.clone();
        let mut places = Vec::new();
        for _ in 0..wanted.waiting {
            let fits = |node: &usize| {
                let (has, taken) = (machines[*node].has, taken[*node].0);
                let fits = |more: u64, taken: u64, all: u64| more == 0 || taken + more <= all;
                machines[*node].out.is_none()
                    && fits(wanted.each.cpu_milli, taken.cpu_milli, has.cpu_milli)
                    && fits(wanted.each.memory, taken.memory, has.memory)
                    && fits(wanted.each.gpus, taken.gpus, has.gpus)
            };
            let rank = |node: &usize| {
                let (machine, (taken, count)) = (machines[*node], taken[*node]);
                let share = |taken: u64, all: u64| taken * 1_000 / all.max(1);
                let load = share(taken.cpu_milli, machine.has.cpu_milli)
                    .max(share(taken.memory, machine.has.memory))
                    .max(share(taken.gpus, machine.has.gpus));
                let beside = stand.iter().filter(|one| **one == machine.number);
                (beside.count(), load, count, machine.number)
            };
            let best = (0..machines.len()).filter(fits).min_by_key(rank);
            places.push(best.map(|node| machines[node].number));
            if let Some(node) = best {
                take(&mut taken[node], wanted.each);
                stand.push(machines[node].number);
            }
        }
        all.push(places);
    }
    all
}

proptest! {
    /// In whole MiB and with eight GPUs at most the ledger is those sums.
    #[test]
    fn the_ledger_places_as_plain_sums_would(
        has in prop::collection::vec((1..9_u64, 1..9_u64, 0..9_u64, any::<bool>()), 1..6),
        asks in prop::collection::vec(
            (0..5_u64, 0..5_u64, 0..3_u64, 1..5_u32, prop::collection::vec(0..6_u32, 0..2)),
            1..6,
        ),
    ) {
        let machines: Vec<Machine> = has.into_iter().zip(0..).map(|((cores, gib, gpus, out), n)| Machine {
            out: (out && n % 3 == 2).then_some(Test::Draining),
            ..machine(n, amounts(cores, gib, gpus))
        }).collect();
        let mut programs = Vec::new();
        for (cores, gib, gpus, waiting, standing) in asks {
            let program = Wanted { standing, ..wanted(waiting, amounts(cores, gib, gpus)) };
            programs.push(program);
            // What stands has room: of what has not, sums and books differ in how much too much it is.
            let books = Books::new(&machines, &programs);
            let full = (0..).zip(&machines).any(|(node, m)| {
                let sum = programs.iter().flat_map(|p| p.standing.iter().filter(|n| **n == m.number).map(|_| p.each));
                let sum = sum.fold(Amounts::default(), |a, b| Amounts {
                    cpu_milli: a.cpu_milli + b.cpu_milli,
                    memory: a.memory + b.memory,
                    gpus: a.gpus + b.gpus,
                });
                let room = books.ledger.room(node);
                u64::from(room.cpu_milli) + sum.cpu_milli != m.has.cpu_milli
                    || u64::from(room.memory_mib) * MIB + sum.memory != m.has.memory
                    || u64::from(room.gpu_total) + sum.gpus * u64::from(WHOLE) != m.has.gpus * u64::from(WHOLE)
            });
            if full {
                programs.last_mut().unwrap().standing.clear();
            }
        }
        prop_assert_eq!(places(&machines, &programs), by_sums(&machines, &programs));
    }

    /// Each change that is offered starts what waits, and none is offered that takes nothing away.
    #[test]
    fn what_is_said_to_help_does(
        has in prop::collection::vec((1..5_u64, 1..5_u64, 0..5_u64, 0..4_u8), 1..4),
        ask in (0..7_u64, 0..7_u64, 0..7_u64, 1..5_u32, any::<bool>()),
    ) {
        let machines: Vec<Machine> = has.into_iter().zip(0..).map(|((cores, gib, gpus, out), n)| Machine {
            out: (out == 0).then_some(Test::Draining),
            ..machine(n, amounts(cores, gib, gpus))
        }).collect();
        let (cores, gib, gpus, waiting, door) = ask;
        let other = Wanted { ports: vec![80], ..wanted(1, Amounts::default()) };
        let mut program = wanted(waiting, amounts(cores, gib, gpus));
        program.ports.extend(door.then_some(80));
        let programs = [other, program.clone()];
        let Some(pending) = explain(&machines, &programs, 1) else {
            prop_assert_eq!(placed(&machines, &programs, 1), waiting);
            return Ok(());
        };
        for change in pending.changes {
            let (mut machines, mut programs) = (machines.clone(), programs.clone());
            let mut all = waiting;
            match change {
                Change::Serving(number) => machines[number as usize].out = None,
                Change::Replicas(n) => {
                    prop_assert!(n < waiting);
                    (programs[1].waiting, all) = (n, n);
                }
                change => programs[1] = change.apply(program.clone()),
            }
            prop_assert_eq!(placed(&machines, &programs, 1), all, "{:?}", change);
        }
    }
}
