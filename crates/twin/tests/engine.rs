//! The engine seen from outside: one order, whatever runs it.

use std::collections::{BTreeMap, BinaryHeap};
use std::ops::ControlFlow;
use std::sync::{Arc, Barrier};
use std::thread::{self, ThreadId};

use machine::{Purpose, Stream};
use proptest::prelude::*;
use twin::engine::phold::{self, Model, Reach};
use twin::engine::{Engine, Event, Outcome, Process, Schedule, history, key};
use wire::{Class, Instant, Nanos, Tile};

const LOOKAHEAD: Nanos = Nanos(100);

/// A process that does whatever could disturb an order: many events at the same
/// instant, events at once, messages that arrive exactly at the end of a window,
/// messages to itself, classes at random, and messages kept under handles.
#[derive(Clone)]
struct Gossip {
    number: u32,
    cells: u32,
    chance: Stream,
    heard: BTreeMap<u64, Rumour>,
    next_handle: u64,
    history: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct Rumour {
    about: u64,
    target: u32,
}

const A_RUMOUR: u32 = 1 << 31;

/// What [`Gossip`] asks for, so that something that is not the engine can run it.
trait Ask {
    fn local(&mut self, at: Instant, class: Class, target: u32, payload: u64);
    fn send(&mut self, to: u32, at: Instant, class: Class, rumour: Rumour);
}

impl Ask for Schedule<'_, Rumour> {
    fn local(&mut self, at: Instant, class: Class, target: u32, payload: u64) {
        Schedule::local(self, at, class, target, payload);
    }
    fn send(&mut self, to: u32, at: Instant, class: Class, rumour: Rumour) {
        Schedule::send(self, to, at, class, rumour);
    }
}

impl Gossip {
    fn all(seed: u64, cells: u32) -> Vec<Self> {
        (0..cells)
            .map(|number| Self {
                number,
                cells,
                chance: Stream::new(seed, Tile(number.into()), Purpose::Work),
                heard: BTreeMap::new(),
                next_handle: 0,
                history: 0,
            })
            .collect()
    }

    fn hear(&mut self, rumour: Rumour) -> (u32, u64) {
        let handle = self.next_handle;
        self.next_handle += 1;
        let target = rumour.target | A_RUMOUR;
        self.heard.insert(handle, rumour);
        (target, handle)
    }

    fn act(&mut self, event: Event, ask: &mut impl Ask) {
        // What the handle stands for is history; the handle is not.
        let about = if event.target & A_RUMOUR != 0 {
            let rumour = self.heard.remove(&event.payload).expect("fires once");
            assert_eq!(rumour.target | A_RUMOUR, event.target);
            rumour.about
        } else {
            event.payload
        };
        self.history = history::fold(self.history, event.at, event.key, about);
        let chance = &mut self.chance;
        // On average one successor, so that neither silence nor a flood ensues;
        // more while there are few.
        let successors = chance.below(3) + u64::from(about.is_multiple_of(16));
        for _ in 0..successors.min(2) {
            let class = Class::ALL[chance.below(4) as usize];
            let target = chance.below(8) as u32;
            // Few distinct delays: many events coincide.
            let delay = Nanos(chance.below(4) * 25);
            let about = about + chance.below(5);
            if chance.chance(0.4) {
                let to = chance.below(self.cells.into()) as u32;
                // The lookahead exactly, from an instant on the window's edge as
                // often as not.
                let at = event.at + LOOKAHEAD + delay;
                ask.send(to, at, class, Rumour { about, target });
            } else {
                // Mostly soon, sometimes at once, rarely very late.
                let delay = if chance.chance(0.02) {
                    Nanos(chance.below(1 << 20))
                } else {
                    delay
                };
                ask.local(event.at + delay, class, target, about);
            }
        }
    }
}

impl Process for Gossip {
    type Message = Rumour;

    fn fire(&mut self, event: Event, schedule: &mut Schedule<'_, Rumour>) {
        assert_eq!(schedule.now(), event.at);
        assert_eq!(schedule.process(), self.number);
        self.act(event, schedule);
    }

    fn receive(&mut self, _at: Instant, rumour: Rumour) -> (u32, u64) {
        self.hear(rumour)
    }
}

fn start_of(cell: u32) -> impl Iterator<Item = (Instant, Class, u32, u64)> {
    (0..6).map(move |n| {
        let at = Instant(u64::from(n % 3) * 100);
        (at, Class::ALL[n as usize % 4], n, u64::from(n * cell))
    })
}

fn gossip(seed: u64, cells: u32, chunk: usize, threads: usize) -> Engine<Gossip> {
    let mut engine = Engine::with_chunks_of(chunk, Gossip::all(seed, cells), LOOKAHEAD, threads);
    for cell in 0..cells {
        for (at, class, target, payload) in start_of(cell) {
            engine.schedule_initial(cell, at, class, target, payload);
        }
    }
    engine
}

/// Events fired and what each process lived through.
type Account = (u64, Vec<u64>);

fn account(engine: &Engine<Gossip>) -> Account {
    let histories = engine.processes().map(|cell| cell.history).collect();
    (engine.events(), histories)
}

/// One heap for all, in the plainest words. Knows nothing of windows, so it
/// receives every message when it is sent.
fn one_heap(seed: u64, cells: u32, until: Instant) -> Account {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct Pending {
        order: std::cmp::Reverse<(Instant, u64)>,
        process: u32,
        target: u32,
        payload: u64,
    }
    struct Asked {
        process: u32,
        sequence: u64,
        local: Vec<Pending>,
        sent: Vec<(u32, Instant, u64, Rumour)>,
    }
    impl Asked {
        fn key(&mut self, class: Class) -> u64 {
            self.sequence += 1;
            key(class, self.process, self.sequence - 1)
        }
    }
    impl Ask for Asked {
        fn local(&mut self, at: Instant, class: Class, target: u32, payload: u64) {
            let order = std::cmp::Reverse((at, self.key(class)));
            self.local.push(Pending {
                order,
                process: self.process,
                target,
                payload,
            });
        }
        fn send(&mut self, to: u32, at: Instant, class: Class, rumour: Rumour) {
            let key = self.key(class);
            self.sent.push((to, at, key, rumour));
        }
    }

    let mut processes = Gossip::all(seed, cells);
    let mut sequences = vec![0; cells as usize];
    let mut heap = BinaryHeap::new();
    let mut events = 0;
    for cell in 0..cells {
        for (at, class, target, payload) in start_of(cell) {
            let sequence = &mut sequences[cell as usize];
            heap.push(Pending {
                order: std::cmp::Reverse((at, key(class, cell, *sequence))),
                process: cell,
                target,
                payload,
            });
            *sequence += 1;
        }
    }
    while let Some(next) = heap.pop_if_before(until) {
        let Pending {
            order: std::cmp::Reverse((at, key)),
            process,
            target,
            payload,
        } = next;
        events += 1;
        let mut asked = Asked {
            process,
            sequence: sequences[process as usize],
            local: Vec::new(),
            sent: Vec::new(),
        };
        let event = Event {
            at,
            key,
            target,
            payload,
        };
        processes[process as usize].act(event, &mut asked);
        sequences[process as usize] = asked.sequence;
        heap.extend(asked.local);
        for (to, at, key, rumour) in asked.sent {
            let (target, payload) = processes[to as usize].hear(rumour);
            heap.push(Pending {
                order: std::cmp::Reverse((at, key)),
                process: to,
                target,
                payload,
            });
        }
    }

    trait PopIfBefore<T> {
        fn pop_if_before(&mut self, until: Instant) -> Option<T>;
    }
    impl PopIfBefore<Pending> for BinaryHeap<Pending> {
        fn pop_if_before(&mut self, until: Instant) -> Option<Pending> {
            (self.peek()?.order.0.0 < until).then(|| self.pop())?
        }
    }
    let histories = processes.into_iter().map(|cell| cell.history).collect();
    (events, histories)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    //= requirements W1
    #[test]
    fn any_threads_and_chunks_do_what_one_heap_does(
        seed: u64,
        cells in 1_u32..40,
        chunk in 1_usize..9,
        threads in 1_usize..4,
        until in 1_u64..6_000,
    ) {
        let until = Instant(until);
        let mut engine = gossip(seed, cells, chunk, threads);
        engine.run(until);
        prop_assert_eq!(engine.now(), until);
        prop_assert_eq!(account(&engine), one_heap(seed, cells, until));
    }

    /// Not the histories alone: processes themselves are alike to the last
    /// handle, though which worker a message came from differs.
    #[test]
    fn the_number_of_threads_leaves_no_trace(seed: u64, chunk in 1_usize..5) {
        let kept = |chunk, threads| {
            let mut engine = gossip(seed, 20, chunk, threads);
            engine.run(Instant(2_050));
            let kept = engine.processes().map(|cell| (cell.next_handle, cell.heard.clone()));
            kept.collect::<Vec<_>>()
        };
        let expected = kept(32, 1);
        prop_assert_eq!(&kept(chunk, 2), &expected);
        prop_assert_eq!(&kept(chunk, 3), &expected);
    }

    /// Stopping to look, cloning and throwing the original away changes nothing.
    #[test]
    fn a_clone_goes_on_as_the_original_would(
        seed: u64,
        threads in 1_usize..4,
        stops in proptest::collection::vec(0_u64..3_000, 0..6),
    ) {
        let until = Instant(4_000);
        let mut engine = gossip(seed, 12, 2, threads);
        for stop in stops {
            let stop = Instant(stop).max(engine.now());
            engine.run(stop);
            prop_assert_eq!(engine.now(), stop);
            let fork = engine.clone();
            // The original runs ahead: it must share nothing with the fork.
            engine.run(until);
            engine = fork;
        }
        engine.run(until);
        prop_assert_eq!(account(&engine), one_heap(seed, 12, until));
    }
}

/// Letters received when the run stopped were due before everything else, and the
/// next window began behind them.
#[test]
fn a_run_goes_on_from_the_letters_it_stopped_with() {
    let seed = 17_843_833_379_624_416_475;
    let mut engine = gossip(seed, 12, 2, 1);
    engine.run(Instant(1_976));
    engine.run(Instant(4_000));
    assert_eq!(account(&engine), one_heap(seed, 12, Instant(4_000)));
}

#[test]
fn gossip_neither_dies_out_nor_stays_in_its_cell() {
    let (events, histories) = one_heap(1, 12, Instant(4_000));
    assert!(events > 1_000, "{events}");
    assert!(!histories.contains(&0));
}

//= requirements W1
#[test]
fn phold_has_one_history() {
    for (remote, reach) in [
        (0.0, Reach::Everywhere),
        (0.25, Reach::Everywhere),
        (1.0, Reach::Everywhere),
        (1.0, Reach::Cell),
    ] {
        let model = Model {
            cells: 24,
            members: 50,
            remote,
            reach,
            seed: 7,
        };
        let until = Instant::EPOCH + Nanos::from_secs(20);
        let mut reference = phold::Reference::new(model);
        reference.run_until(until);
        let expected = (reference.events(), reference.history());
        assert!(expected.0 > 20_000, "{}", expected.0);
        for (threads, chunk) in [(1, 1), (1, 24), (2, 1), (2, 4), (3, 2), (3, 8), (2, 4)] {
            let mut engine = model.engine_with_chunks_of(chunk, phold::LOOKAHEAD, threads);
            assert_eq!(engine.run(until), Outcome::Reached);
            let found = (engine.events(), model.history(engine.processes()));
            assert_eq!(
                found, expected,
                "{model:?} {threads} threads, {chunk} cells a chunk"
            );
            // As many events are pending as there are logical processes.
            assert_eq!(engine.pending(), 1_200);
        }
    }
}

/// Notes what fires and does nothing else.
#[derive(Clone, Default)]
struct Notes {
    fired: Vec<(u64, u32)>,
    windows: Vec<u64>,
}

impl Process for Notes {
    type Message = u32;

    fn fire(&mut self, event: Event, schedule: &mut Schedule<'_, u32>) {
        self.fired.push((event.at.0, event.target));
        match event.payload {
            0 => {}
            1 => schedule.send(1, event.at + LOOKAHEAD, Class::C, event.target),
            // A delay one shorter than was promised.
            _ => schedule.send(
                1,
                event.at + LOOKAHEAD.saturating_sub(Nanos(1)),
                Class::C,
                0,
            ),
        }
    }

    fn receive(&mut self, _at: Instant, message: u32) -> (u32, u64) {
        (message, 0)
    }

    fn end_of_window(&mut self, until: Instant, _: &mut Schedule<'_, u32>) {
        self.windows.push(until.0);
    }
}

fn notes(threads: usize) -> Engine<Notes> {
    Engine::with_chunks_of(1, vec![Notes::default(); 3], LOOKAHEAD, threads)
}

#[test]
fn what_happens_at_once_happens_by_class_then_in_order_of_scheduling() {
    let mut engine = notes(1);
    for (target, class) in [Class::D, Class::B, Class::A, Class::C, Class::A]
        .into_iter()
        .enumerate()
    {
        engine.schedule_initial(0, Instant(50), class, target as u32, 0);
    }
    engine.run(Instant(51));
    let order = engine.processes().next().map(|notes| {
        notes
            .fired
            .iter()
            .map(|&(_, target)| target)
            .collect::<Vec<_>>()
    });
    assert_eq!(order, Some(vec![2, 4, 1, 3, 0]));
}

#[test]
fn a_stop_lies_before_the_events_of_its_instant() {
    let mut engine = notes(2);
    for (n, at) in [99, 100, 101, 250, 350].into_iter().enumerate() {
        engine.schedule_initial(0, Instant(at), Class::C, n as u32, 0);
    }
    let mut fired_until = |until| {
        let outcome = engine.run(Instant(until));
        assert_eq!(engine.now(), Instant(until));
        (outcome, engine.events())
    };
    assert_eq!(fired_until(100), (Outcome::Reached, 1));
    assert_eq!(fired_until(100), (Outcome::Reached, 1));
    assert_eq!(fired_until(101), (Outcome::Reached, 2));
    assert_eq!(fired_until(350), (Outcome::Reached, 4));
    assert_eq!(fired_until(351), (Outcome::Exhausted, 5));
    assert_eq!(fired_until(1000), (Outcome::Exhausted, 5));
}

#[test]
fn a_message_may_arrive_exactly_when_the_next_window_begins() {
    for threads in [1, 2, 3] {
        let mut engine = notes(threads);
        // Sent on the first and on the last instant of a window.
        engine.schedule_initial(0, Instant(100), Class::C, 7, 1);
        engine.schedule_initial(2, Instant(199), Class::C, 8, 1);
        assert_eq!(engine.run(Instant(1000)), Outcome::Exhausted);
        let receiver = engine.processes().nth(1).expect("three processes");
        assert_eq!(receiver.fired, [(200, 7), (299, 8)]);
        assert_eq!(receiver.windows, [300]);
    }
}

#[test]
fn a_delay_shorter_than_the_lookahead_is_found_out() {
    for threads in [1, 2] {
        let violation = std::panic::catch_unwind(|| {
            let mut engine = notes(threads);
            engine.schedule_initial(0, Instant(100), Class::C, 0, 2);
            // Enough to do for a second worker.
            engine.schedule_initial(1, Instant(100), Class::C, 0, 0);
            engine.run(Instant(1000));
        });
        assert!(violation.is_err(), "{threads} threads");
    }
}

/// Two of these can only be run by two threads at once.
struct Meeting {
    met: Arc<Barrier>,
    coordinator: ThreadId,
    coordinator_fails: bool,
}

impl Process for Meeting {
    type Message = ();

    fn fire(&mut self, _: Event, _: &mut Schedule<'_, ()>) {
        self.met.wait();
        let coordinates = thread::current().id() == self.coordinator;
        assert_ne!(coordinates, self.coordinator_fails, "on purpose");
    }

    fn receive(&mut self, _: Instant, (): ()) -> (u32, u64) {
        (0, 0)
    }
}

#[test]
fn a_panic_on_any_thread_ends_the_run_instead_of_hanging_it() {
    for coordinator_fails in [false, true] {
        let crash = std::panic::catch_unwind(|| {
            let met = Arc::new(Barrier::new(2));
            let meeting = || Meeting {
                met: met.clone(),
                coordinator: thread::current().id(),
                coordinator_fails,
            };
            let both = vec![meeting(), meeting()];
            let mut engine = Engine::with_chunks_of(1, both, LOOKAHEAD, 2);
            for process in 0..2 {
                engine.schedule_initial(process, Instant(100), Class::C, 0, 0);
            }
            engine.run(Instant(1000));
        });
        assert!(crash.is_err());
    }
    let crash = std::panic::catch_unwind(|| {
        let mut engine = notes(2);
        engine.schedule_initial(0, Instant(100), Class::C, 0, 0);
        engine.run_until(Instant(1000), &mut |_, _| panic!("whoever watches"));
    });
    assert!(crash.is_err());
}

#[test]
fn empty_windows_are_skipped_and_the_rest_lie_on_a_grid() {
    let mut engine = notes(2);
    for at in [5, 1_000_000_050, 1_000_000_099, 1_000_000_100] {
        engine.schedule_initial(0, Instant(at), Class::C, 0, 0);
    }
    let mut barriers = Vec::new();
    let until = Instant(1_000_000_150);
    engine.run_until(until, &mut |_, progress| {
        assert_eq!(progress.until, until);
        barriers.push((progress.now.0, progress.events));
        ControlFlow::Continue(())
    });
    assert_eq!(barriers, [(100, 1), (1_000_000_100, 3), (1_000_000_150, 4)]);
}

#[test]
fn whoever_watches_may_act_and_may_stop() {
    for threads in [1, 2] {
        let mut engine = notes(threads);
        engine.schedule_initial(0, Instant(0), Class::C, 0, 0);
        engine.schedule_initial(0, Instant(5_000), Class::C, 1, 0);
        let outcome = engine.run_until(Instant(9_000), &mut |world, progress| {
            if progress.now == Instant(100) {
                assert_eq!((world.len(), world.process(0).fired.len()), (3, 1));
                // Into windows that would otherwise have been skipped.
                world.schedule(2, Instant(100), Class::C, 4, 0);
                world.send(1, Instant(450), Class::A, 9);
                world.process_mut(2).fired.clear();
            }
            if progress.now >= Instant(500) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert_eq!(
            (outcome, engine.now()),
            (Outcome::Interrupted, Instant(500))
        );
        let fired = engine.processes().map(|notes| notes.fired.clone());
        assert_eq!(
            fired.collect::<Vec<_>>(),
            [vec![(0, 0)], vec![(450, 9)], vec![(100, 4)]]
        );
        assert_eq!(engine.run(Instant(9_000)), Outcome::Exhausted);
        assert_eq!(engine.events(), 4);
    }
}
