//! One voter, told by hand what the others say: the rules that chance breaks too seldom to be seen.

use consensus::lease::{Answer, Duty};
use consensus::tenant::{Event, Order};
use consensus::{
    Ask, Author, Config, Effect, Entry, Index, Input, Kind, Lease, Leases, Matched, Message,
    Outcome, Payload, Tenant, Term, Terms, Voter, Voters,
};
use machine::{Machine, Persisted, Purpose, Stream};
use wire::{Cell, Encode, Instant, Nanos, Tile};

const CELL: Cell = Cell(3);
const NOW: Instant = Instant(1_000_000_000);

struct Rig {
    voter: Voter<Leases>,
    now: Instant,
    disk: Vec<Vec<u8>>,
    sent: Vec<Message>,
    /// Writes that are not finished, if the disk is stuck.
    stuck: Option<Vec<(u64, Vec<u8>)>>,
}

fn stream() -> Stream {
    Stream::new(1, Tile(0), Purpose::Agreement)
}

impl Rig {
    /// Voter 0 of three, given the fleet's beginning by 1, which leads term 1.
    fn new() -> Self {
        let mut rig = Self {
            voter: Voter::join(Config::new(CELL), Tile(0), stream(), NOW),
            now: NOW,
            disk: Vec::new(),
            sent: Vec::new(),
            stuck: None,
        };
        let mut bytes = Voters::new((0..3).map(Tile)).unwrap().to_bytes();
        bytes.push(0);
        Leases::new(Terms::default()).encode(&mut bytes);
        rig.hear(
            1,
            Kind::Piece {
                term: Term(1),
                round: 1,
                index: Index(1),
                index_term: Term(0),
                total: bytes.len() as u64,
                offset: 0,
                bytes: bytes.into(),
            },
        );
        rig
    }

    fn hear(&mut self, from: u64, kind: Kind) {
        let message = Message {
            cell: CELL,
            from: Tile(from),
            to: Tile(0),
            kind,
        };
        self.give(Some(Input::Received(message)));
    }

    fn give(&mut self, input: Option<Input>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut effects = Vec::new();
            let mut out = |effect| effects.push(effect);
            match input {
                Some(input) => self.voter.handle(self.now, input, &mut out),
                None => self.voter.wake(self.now, &mut out),
            }
            for effect in effects {
                match effect {
                    Effect::Send { message, .. } => self.sent.push(message),
                    Effect::Persist(write) | Effect::Replace(write) => match &mut self.stuck {
                        Some(stuck) => stuck.push((write.token, write.bytes)),
                        None => {
                            self.disk.push(write.bytes);
                            let token = write.token;
                            inputs.push(Some(Input::Persisted(Persisted { token })));
                        }
                    },
                    _ => {}
                }
            }
        }
    }

    fn wait(&mut self) {
        self.now = self.now.max(self.voter.deadline().expect("it has a vote"));
        self.give(None);
    }

    fn said(&mut self) -> Vec<Kind> {
        self.sent.drain(..).map(|message| message.kind).collect()
    }

    /// It loses patience and is elected by 2.
    fn leads(&mut self) -> Term {
        self.wait();
        for canvass in [true, false] {
            let asked = self.said();
            let asked = asked.iter().find_map(|kind| match kind {
                Kind::Vote { term, .. } => Some(*term),
                _ => None,
            });
            let term = asked.expect("it asks for votes");
            let granted = true;
            self.hear(
                2,
                Kind::Voted {
                    term,
                    canvass,
                    granted,
                },
            );
        }
        assert!(self.voter.leads());
        self.voter.term()
    }

    fn acknowledge(&mut self, term: Term, round: u64, index: u64) {
        let matched = Matched::To(Index(index));
        self.hear(
            2,
            Kind::Appended {
                term,
                round,
                matched,
            },
        );
    }

    fn ask(&mut self, number: u64, ask: Ask) -> Option<Outcome> {
        self.said();
        let author = Author {
            tile: Tile(0),
            desk: 0,
            life: 1,
        };
        self.hear(
            0,
            Kind::Request {
                author,
                number,
                ask,
            },
        );
        self.reply()
    }

    fn reply(&self) -> Option<Outcome> {
        self.sent.iter().find_map(|message| match &message.kind {
            Kind::Reply { outcome, .. } => Some(outcome.clone()),
            _ => None,
        })
    }

    fn round(&self) -> u64 {
        let rounds = self.sent.iter().filter_map(|message| match message.kind {
            Kind::Append { round, .. } if message.to == Tile(2) => Some(round),
            _ => None,
        });
        rounds.max().expect("it sends to 2")
    }
}

fn vote(from: u64, rig: &mut Rig) -> Vec<Kind> {
    rig.said();
    rig.hear(
        from,
        Kind::Vote {
            term: Term(5),
            canvass: false,
            last: Index(9),
            last_term: Term(4),
        },
    );
    rig.said()
}

fn voted(granted: bool) -> Kind {
    Kind::Voted {
        term: Term(5),
        canvass: false,
        granted,
    }
}

#[test]
fn a_vote_is_given_once_also_across_a_crash_and_not_before_it_is_durable() {
    let mut rig = Rig::new();
    rig.now += Nanos::SECOND;
    rig.stuck = Some(Vec::new());
    assert_eq!(vote(1, &mut rig), [], "the disk is stuck");
    let (token, bytes) = rig.stuck.take().unwrap().remove(0);
    rig.disk.push(bytes);
    rig.give(Some(Input::Persisted(Persisted { token })));
    assert_eq!(rig.said(), [voted(true)]);
    assert_eq!(vote(2, &mut rig), [voted(false)]);
    let records = rig.disk.iter().map(Vec::as_slice);
    rig.voter = Voter::again(Config::new(CELL), Tile(0), records, stream(), rig.now).unwrap();
    assert_eq!(vote(2, &mut rig), [voted(false)]);
    assert_eq!(vote(1, &mut rig), [voted(true)], "to the same one, again");
}

/// Figure 8 of Ongaro and Ousterhout, ATC 2014.
#[test]
fn an_entry_of_an_older_term_is_agreed_only_with_one_of_this() {
    let mut rig = Rig::new();
    rig.hear(
        1,
        Kind::Append {
            term: Term(1),
            round: 2,
            prev: Index(1),
            prev_term: Term(0),
            commit: Index(1),
            entries: vec![Entry {
                term: Term(1),
                payload: Payload::Opening,
            }],
        },
    );
    rig.now += Nanos::SECOND;
    let term = rig.leads();
    let round = rig.round();
    rig.acknowledge(term, round, 2);
    assert_eq!(rig.voter.commit(), Index(1));
    rig.acknowledge(term, round, 3);
    assert_eq!(rig.voter.commit(), Index(3));
}

//= requirements C3
#[test]
fn a_question_is_answered_after_another_was_asked_who_leads() {
    let mut rig = Rig::new();
    rig.now += Nanos::SECOND;
    let term = rig.leads();
    let before = rig.round();
    assert_eq!(rig.ask(1, Ask::Read([0].into())), None);
    rig.acknowledge(term, before, 2);
    assert_eq!(rig.voter.commit(), Index(2));
    assert_eq!(
        rig.reply(),
        None,
        "that answer may be older than the question"
    );
    let after = rig.round();
    assert!(after > before);
    rig.acknowledge(term, after, 2);
    assert!(matches!(rig.reply(), Some(Outcome::Done(_))));
}

/// The two rules whose lack lets two leaders each have a quorum of their own.
#[test]
fn voters_change_one_at_a_time_and_not_before_the_term_is_known() {
    let mut rig = Rig::new();
    rig.now += Nanos::SECOND;
    let term = rig.leads();
    let round = rig.round();
    assert_eq!(rig.ask(1, Ask::Retire(Tile(1))), Some(Outcome::Busy));
    rig.acknowledge(term, round, 2);
    assert_eq!(rig.ask(2, Ask::Retire(Tile(1))), None);
    assert_eq!(rig.voter.voters().map(Voters::len), Some(2));
    assert_eq!(rig.ask(3, Ask::Retire(Tile(2))), Some(Outcome::Busy));
    assert_eq!(rig.ask(4, Ask::Admit(Tile(9))), Some(Outcome::Busy));
    rig.acknowledge(term, round, 3);
    assert!(rig.sent.iter().any(|m| matches!(
        &m.kind,
        Kind::Reply {
            number: 2,
            outcome: Outcome::Done(_),
            ..
        }
    )));
}

//= requirements S2
#[test]
fn a_lease_counts_from_the_question_and_ends_by_the_holders_clock() {
    let author = Author {
        tile: Tile(4),
        desk: 0,
        life: 1,
    };
    let terms = Terms::default();
    let (halt, lease) = (
        Nanos::from_millis(200),
        Lease {
            program: 7,
            replica: 0,
        },
    );
    let mut tenant = Tenant::new(CELL, author, vec![Tile(0)], terms.term, halt, NOW);
    tenant.wake(NOW, &mut |_| {});
    let late = NOW + Nanos::from_millis(700);
    let answer = Answer::Renewed {
        term: terms.term,
        duty: Duty::Serving,
        leases: vec![(lease, Index(5))],
        recalled: vec![lease],
    };
    let kind = Kind::Reply {
        author,
        number: 1,
        outcome: Outcome::Done(answer.to_bytes().into()),
    };
    let message = Message {
        cell: CELL,
        from: Tile(0),
        to: Tile(4),
        kind,
    };
    let mut orders = Vec::new();
    tenant.handle(late, Event::Received(message), &mut |order| {
        orders.push(order)
    });
    assert!(matches!(orders[0], Order::Begin { .. }), "{orders:?}");
    assert_eq!(orders[1], Order::Recall { lease });
    let end = NOW + Nanos(terms.term.0 - halt.0);
    assert!(tenant.holds(Instant(end.0 - 1), lease));
    assert!(!tenant.holds(end, lease));
    let mut orders = Vec::new();
    tenant.wake(end, &mut |order| orders.push(order));
    assert!(matches!(orders[0], Order::End { .. }), "{orders:?}");
}
