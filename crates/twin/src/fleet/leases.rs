//! Did two hosts ever hold one lease?
//!
//! Each daemon writes down when it begins to hold the lease of a program's replica and when it ceases to, by the clock since boot, which
//! all hosts on one machine share however wrong their wall clocks are. What one holds it holds until it says that it has ceased, or
//! until it died, for its programs die with it. Holding is a half-open interval: who begins at the instant at which another ceases, holds
//! it alone.
//!
//! Besides, the number that fences a lease grows with each new holder: what an earlier one still has under way can then be told from
//! what counts.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A line of a daemon's `leases.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, by the clock since boot.
    pub boottime_ns: u64,
    /// When, by the daemon's wall clock.
    pub unix_ns: u64,
    /// What happened.
    pub event: Event,
    /// Of which program.
    pub program: String,
    /// The entry that gave it.
    #[serde(default)]
    pub number: u64,
    /// Which of its replicas.
    pub replica: u32,
    /// The number that fences it.
    pub fence: u64,
}

/// What happened to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// It is held from here on.
    Begin,
    /// It is no longer.
    End,
}

/// What is wrong with a history of leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Two held one lease at once.
    Two {
        /// Which.
        lease: Lease,
        /// The hosts.
        hosts: (u32, u32),
        /// From when on, in nanoseconds since boot.
        from_ns: u64,
        /// Until when.
        until_ns: u64,
    },
    /// A later holder has a number that is no larger.
    Fence {
        /// Which.
        lease: Lease,
        /// Who.
        host: u32,
        /// Its number.
        found: u64,
        /// The number before.
        before: u64,
    },
    /// A host ceased to hold what it did not hold, or began to hold what it held.
    Nonsense {
        /// Who.
        host: u32,
        /// The line, counted from 1.
        line: usize,
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Two {
                lease: (program, _, replica),
                hosts: (one, other),
                from_ns,
                until_ns,
            } => write!(
                f,
                "hosts {} and {} both held {program}/{replica} for {} ns from {from_ns} ns since boot",
                one + 1,
                other + 1,
                until_ns - from_ns
            ),
            Self::Fence {
                lease: (program, _, replica),
                host,
                found,
                before,
            } => write!(
                f,
                "host {} began to hold {program}/{replica} under {found}, expected more than {before}",
                host + 1
            ),
            Self::Nonsense { host, line } => {
                write!(
                    f,
                    "host {}, line {line}: found an end without a beginning, or a second beginning",
                    host + 1
                )
            }
        }
    }
}

/// Why a file of leases cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {source}")]
pub struct Unreadable {
    /// Counted from 1.
    line: usize,
    source: serde_json::Error,
}

/// Reads a daemon's `leases.jsonl`. A last line without its end was being written when the daemon died, and is left out.
///
/// # Errors
/// The first line that is none.
pub fn read(text: &str) -> Result<Vec<Line>, Unreadable> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let line = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|source| Unreadable {
            line: number + 1,
            source,
        })
    };
    whole.lines().enumerate().map(line).collect()
}

/// One program's replica: its name, the number of the entry that gave it, and which replica.
pub type Lease = (String, u64, u32);

/// How long one host held a lease, in nanoseconds since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who.
    pub host: u32,
    /// From when on.
    pub from: u64,
    /// Until when; the end of time if nobody said.
    pub until: u64,
    /// Under which number.
    pub fence: u64,
}

/// What a host wrote down, and the moments at which it died, in nanoseconds since boot and in order.
pub type Told = (Vec<Line>, Vec<u64>);

/// Who held what and when, in order of time, and the lines that make no sense.
#[must_use]
pub fn held(hosts: &[Told]) -> (BTreeMap<Lease, Vec<Held>>, Vec<Wrong>) {
    let mut wrong = Vec::new();
    let mut all: BTreeMap<Lease, Vec<Held>> = BTreeMap::new();
    for (host, (lines, deaths)) in (0..).zip(hosts) {
        let mut open: BTreeMap<Lease, (u64, u64)> = BTreeMap::new();
        let dies_after = |at: u64| {
            let mut later = deaths.iter().copied().filter(|death| *death >= at);
            later.next().unwrap_or(u64::MAX)
        };
        let mut close = |lease: Lease, (from, fence): (u64, u64), until: u64| {
            let until = until.min(dies_after(from));
            let held = Held {
                host,
                from,
                until,
                fence,
            };
            all.entry(lease).or_default().push(held);
        };
        for (number, line) in (1..).zip(lines) {
            let lease = (line.program.clone(), line.number, line.replica);
            let held = open.get(&lease).copied();
            let held = held.filter(|(from, _)| dies_after(*from) > line.boottime_ns);
            match (line.event, held) {
                (Event::Begin, None) => {
                    // What it held when it died, it holds no more.
                    let begun = (line.boottime_ns, line.fence);
                    if let Some(before) = open.insert(lease.clone(), begun) {
                        close(lease, before, u64::MAX);
                    }
                }
                (Event::End, Some(held)) => {
                    open.remove(&lease);
                    close(lease, held, line.boottime_ns);
                }
                // A program outlives its node by as long as it takes to kill it.
                (Event::End, None) if open.contains_key(&lease) => {}
                (Event::Begin, Some(_)) | (Event::End, None) => {
                    wrong.push(Wrong::Nonsense { host, line: number });
                }
            }
        }
        for (lease, held) in open {
            close(lease, held, u64::MAX);
        }
    }
    for held in all.values_mut() {
        held.sort_by_key(|held| (held.from, held.fence));
    }
    (all, wrong)
}

/// Everything wrong with what hosts wrote down.
#[must_use]
pub fn check(hosts: &[Told]) -> Vec<Wrong> {
    let (all, mut wrong) = held(hosts);
    for (lease, held) in all {
        for (number, one) in held.iter().enumerate() {
            for other in &held[number + 1..] {
                let (from, until) = (one.from.max(other.from), one.until.min(other.until));
                if from < until && one.host != other.host {
                    wrong.push(Wrong::Two {
                        lease: lease.clone(),
                        hosts: (one.host, other.host),
                        from_ns: from,
                        until_ns: until,
                    });
                }
            }
        }
        for pair in held.windows(2) {
            // Who holds a lease may end what runs under it and begin again.
            let same = pair[1].host == pair[0].host && pair[1].fence == pair[0].fence;
            if pair[1].fence <= pair[0].fence && !same {
                wrong.push(Wrong::Fence {
                    lease: lease.clone(),
                    host: pair[1].host,
                    found: pair[1].fence,
                    before: pair[0].fence,
                });
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: u64, event: Event, fence: u64) -> Line {
        Line {
            boottime_ns: at,
            unix_ns: 0,
            event,
            program: "web".to_owned(),
            number: 0,
            replica: 0,
            fence,
        }
    }

    fn held(from: u64, until: u64, fence: u64) -> Vec<Line> {
        vec![
            line(from, Event::Begin, fence),
            line(until, Event::End, fence),
        ]
    }

    #[test]
    fn one_after_the_other_is_fine_even_at_the_same_instant() {
        let good = [(held(10, 20, 1), vec![]), (held(20, 30, 2), vec![])];
        assert_eq!(check(&good), []);
        let back = [
            ([held(10, 20, 1), held(40, 50, 3)].concat(), vec![]),
            (held(20, 30, 2), vec![]),
        ];
        assert_eq!(check(&back), []);
    }

    #[test]
    fn two_at_once_are_found_for_as_long_as_it_lasted() {
        let bad = [(held(10, 21, 1), vec![]), (held(20, 30, 2), vec![])];
        let two = Wrong::Two {
            lease: ("web".to_owned(), 0, 0),
            hosts: (0, 1),
            from_ns: 20,
            until_ns: 21,
        };
        assert_eq!(check(&bad), [two]);
        // Nobody said that it ceased.
        let open = [
            (vec![line(10, Event::Begin, 1)], vec![]),
            (held(20, 30, 2), vec![]),
        ];
        assert_eq!(check(&open).len(), 1);
    }

    #[test]
    fn the_dead_hold_nothing_from_their_death_on() {
        let begun = || vec![line(10, Event::Begin, 1)];
        assert_eq!(check(&[(begun(), vec![15]), (held(20, 30, 2), vec![])]), []);
        assert_eq!(
            check(&[(begun(), vec![21]), (held(20, 30, 2), vec![])]).len(),
            1
        );
        // It died before it began, which does not count; and it begins again after a death.
        assert_eq!(
            check(&[(begun(), vec![5]), (held(20, 30, 2), vec![])]).len(),
            1
        );
        let again = [begun(), held(40, 50, 3)].concat();
        assert_eq!(check(&[(again, vec![15]), (held(20, 30, 2), vec![])]), []);
    }

    #[test]
    fn another_replica_is_another_lease() {
        let mut other = held(15, 25, 1);
        for line in &mut other {
            line.replica = 1;
        }
        assert_eq!(check(&[(held(10, 20, 1), vec![]), (other, vec![])]), []);
    }

    #[test]
    fn a_number_that_does_not_grow_and_an_end_without_a_beginning_are_found() {
        let same = [(held(10, 20, 2), vec![]), (held(20, 30, 2), vec![])];
        assert!(matches!(
            check(&same)[..],
            [Wrong::Fence {
                found: 2,
                before: 2,
                host: 1,
                ..
            }]
        ));
        let again = [([held(10, 20, 2), held(21, 30, 2)].concat(), vec![])];
        assert_eq!(check(&again), []);
        let ends = [(vec![line(10, Event::End, 1)], vec![])];
        assert_eq!(check(&ends), [Wrong::Nonsense { host: 0, line: 1 }]);
        let twice = [(
            vec![line(10, Event::Begin, 1), line(11, Event::Begin, 2)],
            vec![],
        )];
        assert_eq!(check(&twice), [Wrong::Nonsense { host: 0, line: 2 }]);
    }

    #[test]
    fn a_line_that_was_being_written_is_left_out_and_any_other_is_refused() {
        let whole = serde_json::to_string(&line(10, Event::Begin, 1)).unwrap();
        assert_eq!(
            read(&format!("{whole}\n{{\"boot")).unwrap(),
            [line(10, Event::Begin, 1)]
        );
        assert_eq!(read("").unwrap(), []);
        let refused = read(&format!("{whole}\n{{\"boot\n")).unwrap_err();
        assert!(refused.to_string().starts_with("line 2: "), "{refused}");
    }
}
