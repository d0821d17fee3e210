//! What happened to a fleet, and what to make of it.
//!
//! A [`History`] is what can be seen from outside: when each thing went wrong, and when which host came to hold what of which other.
//! A rehearsal leaves one; so do real daemons. [`Samples`] is the one reading of both.

use std::collections::BTreeMap;

use membership::State;
use serde::{Deserialize, Serialize};
use wire::Nanos;

use super::config::{Blow, Config, What};
use super::leases;

/// What happened, in the time of the rehearsal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// What went wrong: each of the universe's, in its order.
    pub struck: Vec<Struck>,
    /// Beliefs as they changed, in order of time.
    pub changes: Vec<Change>,
    /// What each host wrote down of the leases that it held; none if nobody did.
    #[serde(default)]
    pub leases: Vec<Leases>,
    /// What the clock since boot said at the beginning.
    #[serde(default)]
    pub began_boottime_ns: u64,
    /// What was asked of the server under load, in order of time; nothing in rehearsals, in which nobody asks.
    #[serde(default)]
    pub requests: Vec<Asked>,
}

/// A request, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// When.
    pub at_ns: u64,
    /// Until it was answered or given up.
    pub took_ns: u64,
    /// What became of it.
    pub fate: Answered,
    /// How many replicas turned it away before a word of it was said.
    pub turned_away: u32,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answered {
    /// It was answered, whole.
    Whole,
    /// It had been said, and was not answered: whoever asked does not know whether it was done.
    Lost,
    /// Nobody took it while the client had patience.
    Nowhere,
}

/// What one host wrote down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    /// Its `leases.jsonl`.
    pub text: String,
    /// When it died, in nanoseconds since boot, in order.
    pub deaths_ns: Vec<u64>,
}

/// Something that went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Struck {
    /// When it was done.
    pub at_ns: u64,
    /// When it was undone.
    pub until_ns: Option<u64>,
}

/// A belief that changed. Hosts are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When, by the world's clock.
    pub at_ns: u64,
    /// Whose belief.
    pub observer: u32,
    /// About whom.
    pub subject: u32,
    /// In membership's words.
    pub state: String,
}

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// It is not written as one.
    #[error("found no history of a fleet: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is of something else.
    #[error(
        "found a history in which {found} things went wrong, expected {expected} as in the universe"
    )]
    Another {
        /// In the history.
        found: usize,
        /// In the universe.
        expected: usize,
    },
    /// It tells of somebody who is not there.
    #[error("found a change of host {found}, expected hosts below {hosts}")]
    Stranger {
        /// Who.
        found: u32,
        /// How many there are.
        hosts: u32,
    },
    /// What a host wrote down of its leases is not that.
    #[error("leases of host {host}: {source}")]
    Leases {
        /// Counted from 1.
        host: usize,
        /// Where, and why.
        source: leases::Unreadable,
    },
    /// A word that nobody uses.
    #[error("found the state {0:?}, expected alive, suspect, removed or left")]
    Word(String),
}

impl History {
    /// Reads what [`History`]'s JSON says of a universe.
    ///
    /// # Errors
    /// If it is none, or of another universe.
    pub fn read(text: &str, config: &Config) -> Result<Self, HistoryError> {
        let mut history: Self = serde_json::from_str(text)?;
        let (found, expected) = (history.struck.len(), config.blows.len());
        if found != expected {
            return Err(HistoryError::Another { found, expected });
        }
        for change in &history.changes {
            let hosts = config.hosts;
            let found = change.observer.max(change.subject);
            if found >= hosts {
                return Err(HistoryError::Stranger { found, hosts });
            }
            let known = [State::Alive, State::Suspect, State::Removed, State::Left];
            if !known.iter().any(|state| state.name() == change.state) {
                return Err(HistoryError::Word(change.state.clone()));
            }
        }
        history.changes.sort_by_key(|change| change.at_ns);
        history.wrong_with_leases()?;
        Ok(history)
    }

    /// Everything that [`leases::check`] finds wrong.
    ///
    /// # Errors
    /// If what a host wrote down cannot be read.
    pub fn wrong_with_leases(&self) -> Result<Vec<leases::Wrong>, HistoryError> {
        Ok(leases::check(&self.told()?))
    }

    fn told(&self) -> Result<Vec<leases::Told>, HistoryError> {
        let read = |(host, told): (usize, &Leases)| match leases::read(&told.text) {
            Ok(lines) => Ok((lines, told.deaths_ns.clone())),
            Err(source) => Err(HistoryError::Leases {
                host: host + 1,
                source,
            }),
        };
        self.leases.iter().enumerate().map(read).collect()
    }
}

/// How long things took, and what was wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// From a blow until somebody it concerns held another removed, by the kind of blow.
    pub missed: BTreeMap<&'static str, Vec<Nanos>>,
    /// From the end of a blow until it held it alive again, where it did not.
    pub returned: BTreeMap<&'static str, Vec<Nanos>>,
    /// From a blow until what ran where it fell ran somewhere again, by the kind of blow.
    pub failover: BTreeMap<&'static str, Vec<Nanos>>,
    /// Somebody was dead long enough, and another did not hold it removed: which blow, who, whom.
    pub unnoticed: Vec<(Nanos, u32, u32)>,
    /// Somebody was held removed for whom there was no reason: when, by whom, who.
    pub mistaken: Vec<(Nanos, u32, u32)>,
    /// Who held what is not so at the end: by whom, who.
    pub diverged: Vec<(u32, u32)>,
    /// How many deaths there were to notice, by one other each.
    pub deaths: u64,
    /// How a server under load was served, while something went wrong, by its kind, and in peace.
    pub served: BTreeMap<&'static str, Served>,
}

/// How a server under load was served for some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// How long that was.
    pub span: Nanos,
    /// How long replicas of it ran in that, of as many as ask.
    pub ran: Nanos,
    /// Requests that were answered.
    pub answered: u64,
    /// That were said and not answered.
    pub lost: u64,
    /// That nobody took.
    pub nowhere: u64,
    /// How often one was turned away before a word of it was said, and went elsewhere.
    pub turned_away: u64,
}

/// Of several things that go wrong at once, a request is one of the first of these.
const WORST: [&str; 8] = [
    "kill",
    "partition",
    "pause",
    "drain",
    "full_disk",
    "loss",
    "rate",
    "delay",
];
/// When nothing does.
pub const PEACE: &str = "peace";

/// A removal this long after its reason has gone may still be its doing: the longest suspicion, and its spreading.
const GRACE: Nanos = Nanos::from_secs(10);

impl Samples {
    /// What a history says. A death that lasted as long as `bounds.detection_p99` is to be noticed.
    #[must_use]
    pub fn of(config: &Config, history: &History) -> Self {
        let blows: Vec<Blow> = (config.blows.iter().zip(&history.struck))
            .map(|(blow, struck)| Blow {
                at: Nanos(struck.at_ns),
                until: struck.until_ns.map(Nanos),
                ..blow.clone()
            })
            .collect();
        let reading = Reading {
            config,
            history,
            blows: &blows,
        };
        let mut samples = Self::default();
        for blow in &blows {
            reading.blow(blow, &mut samples);
        }
        reading.failovers(&mut samples);
        reading.served(&mut samples);
        for change in &history.changes {
            let at = Nanos(change.at_ns);
            let (observer, subject) = (change.observer, change.subject);
            if change.state == State::Removed.name() && !reading.explained(at, observer, subject) {
                samples.mistaken.push((at, observer, subject));
            }
        }
        for (observer, subject) in reading.pairs() {
            let silent = |host| reading.is_down(host, config.end);
            let cut = reading.cut(config.end, observer, subject);
            if observer == subject || silent(observer) || cut {
                continue;
            }
            let held = reading.held(observer, subject, config.end);
            let truth = if silent(subject) {
                State::Removed
            } else {
                State::Alive
            };
            if held != truth.name() {
                samples.diverged.push((observer, subject));
            }
        }
        samples
    }

    /// Adds another history's.
    pub fn merge(&mut self, other: Self) {
        for (all, more) in [
            (&mut self.missed, other.missed),
            (&mut self.returned, other.returned),
            (&mut self.failover, other.failover),
        ] {
            for (kind, mut spans) in more {
                all.entry(kind).or_default().append(&mut spans);
            }
        }
        for (kind, more) in other.served {
            let all = self.served.entry(kind).or_default();
            (all.span, all.ran) = (all.span + more.span, all.ran + more.ran);
            all.answered += more.answered;
            all.lost += more.lost;
            all.nowhere += more.nowhere;
            all.turned_away += more.turned_away;
        }
        self.unnoticed.extend(other.unnoticed);
        self.mistaken.extend(other.mistaken);
        self.diverged.extend(other.diverged);
        self.deaths += other.deaths;
    }
}

struct Reading<'a> {
    config: &'a Config,
    history: &'a History,
    /// As they really came.
    blows: &'a [Blow],
}

impl Reading<'_> {
    fn pairs(&self) -> impl Iterator<Item = (u32, u32)> + use<> {
        let hosts = self.config.hosts;
        (0..hosts).flat_map(move |observer| (0..hosts).map(move |subject| (observer, subject)))
    }

    fn blow(&self, blow: &Blow, samples: &mut Samples) {
        let end = self.config.end;
        let over = blow.until.unwrap_or(end);
        for (observer, subject) in self.pairs() {
            let (one, other) = (
                blow.hosts.contains(&observer),
                blow.hosts.contains(&subject),
            );
            let concerns = match blow.what {
                What::Kill | What::Pause => other && !one,
                What::Partition => one != other,
                _ => false,
            };
            if !concerns || self.troubled(blow, observer) || self.troubled(blow, subject) {
                continue;
            }
            let first = |state: State, from: Nanos, until: Nanos| {
                self.history.changes.iter().find(|change| {
                    change.observer == observer
                        && change.subject == subject
                        && change.state == state.name()
                        && (from.0..until.0).contains(&change.at_ns)
                })
            };
            let kind = blow.what.name();
            // Who is still held removed for something earlier cannot be missed again.
            let before = Nanos(blow.at.0.saturating_sub(1));
            if self.held(observer, subject, before) == State::Removed.name() {
                continue;
            }
            let missed = first(State::Removed, blow.at, over);
            let lasted = over.saturating_sub(blow.at) >= self.config.bounds.detection_p99;
            if blow.what == What::Kill && (lasted || missed.is_some()) {
                samples.deaths += 1;
            }
            match missed {
                Some(change) => {
                    let took = Nanos(change.at_ns).saturating_sub(blow.at);
                    samples.missed.entry(kind).or_default().push(took);
                }
                None if lasted && blow.what == What::Kill => {
                    samples.unnoticed.push((blow.at, observer, subject));
                }
                None => {}
            }
            if blow.until.is_some() && self.held(observer, subject, over) != State::Alive.name() {
                let next = self.next_trouble(observer, subject, over);
                if let Some(change) = first(State::Alive, over, next) {
                    let took = Nanos(change.at_ns).saturating_sub(over);
                    samples.returned.entry(kind).or_default().push(took);
                }
            }
        }
    }

    /// What was held by whom a blow took away, and when somebody began to hold it again.
    fn failovers(&self, samples: &mut Samples) {
        let told = self.history.told().unwrap_or_default();
        let (held, _) = leases::held(&told);
        for blow in self.blows {
            let gone: Vec<u32> = match blow.what {
                What::Kill => blow.hosts.clone(),
                // The smaller side can agree on nothing.
                What::Partition if blow.hosts.len() * 2 < self.config.hosts as usize => {
                    blow.hosts.clone()
                }
                What::Partition => (0..self.config.hosts)
                    .filter(|host| !blow.hosts.contains(host))
                    .collect(),
                _ => continue,
            };
            let at = self.history.began_boottime_ns + blow.at.0;
            let over = blow.until.unwrap_or(self.config.end);
            let over = self.history.began_boottime_ns + over.0;
            for held in held.values() {
                // Killing takes a moment, by which a death may be written down later than the blow.
                let lost = held
                    .iter()
                    .any(|held| gone.contains(&held.host) && held.from < at && held.until >= at);
                let again = held.iter().find(|held| (at..over).contains(&held.from));
                if let (true, Some(again)) = (lost, again) {
                    let kind = blow.what.name();
                    let took = Nanos(again.from - at);
                    samples.failover.entry(kind).or_default().push(took);
                }
            }
        }
    }

    /// How a server under load was served.
    fn served(&self, samples: &mut Samples) {
        let mut programs = self.config.programs.iter();
        let Some(program) = programs.find(|program| program.takes.is_some()) else {
            return;
        };
        let (began, end) = (self.history.began_boottime_ns, self.config.end.0);
        let told = self.history.told().unwrap_or_default();
        let (held, _) = leases::held(&told);
        let ran: Vec<(u64, u64)> = held
            .iter()
            .filter(|((name, ..), _)| *name == program.name)
            .flat_map(|(_, held)| held)
            .map(|held| {
                (
                    held.from.saturating_sub(began),
                    held.until.saturating_sub(began),
                )
            })
            .collect();
        // Between two of these nothing changes.
        let blows = self
            .blows
            .iter()
            .flat_map(|blow| [Some(blow.at), blow.until]);
        let blows = blows.flatten().map(|at| at.0);
        let mut turns: Vec<u64> = ran
            .iter()
            .flat_map(|(from, until)| [*from, *until])
            .collect();
        turns.extend(blows);
        turns.extend([0, end]);
        turns.retain(|at| *at <= end);
        turns.sort_unstable();
        turns.dedup();
        for turn in turns.windows(2) {
            let span = Nanos(turn[1] - turn[0]);
            let run = ran
                .iter()
                .filter(|(from, until)| (*from..*until).contains(&turn[0]));
            let run = run.count().min(program.replicas as usize) as u64;
            let served = samples
                .served
                .entry(self.worst(turn[0], turn[1]))
                .or_default();
            (served.span, served.ran) = (served.span + span, served.ran + span * run);
        }
        for asked in &self.history.requests {
            let kind = self.worst(asked.at_ns, asked.at_ns + asked.took_ns.max(1));
            let served = samples.served.entry(kind).or_default();
            match asked.fate {
                Answered::Whole => served.answered += 1,
                Answered::Lost => served.lost += 1,
                Answered::Nowhere => served.nowhere += 1,
            }
            served.turned_away += u64::from(asked.turned_away);
        }
    }

    /// The worst of what lasted at some time between two instants.
    fn worst(&self, from: u64, until: u64) -> &'static str {
        let lasts =
            |blow: &&Blow| blow.at.0 < until && blow.until.unwrap_or(self.config.end).0 > from;
        let names = self.blows.iter().filter(lasts).map(|blow| blow.what.name());
        let names: Vec<_> = names.collect();
        let worst = WORST.into_iter().find(|name| names.contains(name));
        worst.unwrap_or(PEACE)
    }

    /// Whether something else befell a host meanwhile, so that nothing follows from what it held.
    fn troubled(&self, blow: &Blow, host: u32) -> bool {
        let over = blow.until.unwrap_or(self.config.end);
        self.blows.iter().any(|other| {
            other != blow
                && matches!(other.what, What::Kill | What::Pause | What::Partition)
                && (other.what == What::Partition || other.hosts.contains(&host))
                && other.at < over
                && other.until.unwrap_or(self.config.end) + GRACE > blow.at
        })
    }

    fn next_trouble(&self, observer: u32, subject: u32, after: Nanos) -> Nanos {
        let concerns = |blow: &&Blow| {
            blow.at > after
                && matches!(blow.what, What::Kill | What::Pause | What::Partition)
                && (blow.what == What::Partition
                    || blow.hosts.contains(&observer)
                    || blow.hosts.contains(&subject))
        };
        let next = self.blows.iter().filter(concerns).map(|blow| blow.at).min();
        next.unwrap_or(self.config.end)
    }

    /// Whether something that lasts, or ended a little while ago, is reason enough to hold somebody removed.
    fn explained(&self, at: Nanos, observer: u32, subject: u32) -> bool {
        self.blows.iter().any(|blow| {
            let concerns = match blow.what {
                What::Kill | What::Pause => {
                    blow.hosts.contains(&observer) || blow.hosts.contains(&subject)
                }
                // Who cannot hear one side may tell the other of it.
                What::Partition => true,
                _ => false,
            };
            concerns && at >= blow.at && blow.until.is_none_or(|until| at < until + GRACE)
        })
    }

    fn is_down(&self, host: u32, at: Nanos) -> bool {
        let down = |blow: &&Blow| matches!(blow.what, What::Kill | What::Pause);
        let mut down = self.blows.iter().filter(down);
        down.any(|blow| blow.hosts.contains(&host) && blow.covers(at))
    }

    fn cut(&self, at: Nanos, one: u32, other: u32) -> bool {
        self.blows.iter().any(|blow| {
            blow.what == What::Partition
                && blow.covers(at)
                && blow.hosts.contains(&one) != blow.hosts.contains(&other)
        })
    }

    /// What somebody held of another at a time. Who was started again began with holding all alive.
    fn held(&self, observer: u32, subject: u32, at: Nanos) -> &str {
        let restarts = self.blows.iter().filter(|blow| blow.what == What::Kill);
        let began = restarts
            .filter(|blow| blow.hosts.contains(&observer))
            .filter_map(|blow| blow.until)
            .filter(|until| *until <= at)
            .max()
            .unwrap_or(Nanos::ZERO);
        let last = self.history.changes.iter().rfind(|change| {
            change.observer == observer
                && change.subject == subject
                && (began.0..=at.0).contains(&change.at_ns)
        });
        last.map_or(State::Alive.name(), |change| &change.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::config;
    use crate::universe::Document;

    const SECOND: u64 = 1_000_000_000;

    fn config() -> Config {
        let text = "[time]\nend = '60 s'\n[hosts]\ncount = 3\n\
                    [[fault]]\nkind = 'kill'\nat = '10 s'\nlasts = '20 s'\nhosts = [3]\n";
        let document = Document::parse("three.toml", text, &[]).unwrap();
        let read = document.read(|root| config::read(root, String::new(), String::new()));
        read.unwrap()
    }

    fn change(at_s: u64, observer: u32, subject: u32, state: &str) -> Change {
        Change {
            at_ns: at_s * SECOND,
            observer,
            subject,
            state: state.to_owned(),
        }
    }

    fn samples(changes: &[Change]) -> Samples {
        let history = History {
            struck: vec![Struck {
                at_ns: 11 * SECOND,
                until_ns: Some(31 * SECOND),
            }],
            changes: changes.to_vec(),
            leases: Vec::new(),
            began_boottime_ns: 0,
            requests: Vec::new(),
        };
        let text = serde_json::to_string(&history).unwrap();
        let history = History::read(&text, &config()).unwrap();
        Samples::of(&config(), &history)
    }

    #[test]
    fn a_death_is_timed_from_when_it_came_and_the_return_from_the_new_start() {
        let samples = samples(&[
            change(13, 0, 2, "suspect"),
            change(14, 0, 2, "removed"),
            change(16, 1, 2, "removed"),
            change(32, 0, 2, "alive"),
            change(33, 1, 2, "alive"),
        ]);
        let seconds = |all: &[u64]| {
            all.iter()
                .copied()
                .map(Nanos::from_secs)
                .collect::<Vec<_>>()
        };
        assert_eq!(samples.missed["kill"], seconds(&[3, 5]));
        assert_eq!(samples.returned["kill"], seconds(&[1, 2]));
        assert_eq!(samples.deaths, 2);
        assert!(
            samples.unnoticed.is_empty()
                && samples.mistaken.is_empty()
                && samples.diverged.is_empty()
        );
    }

    #[test]
    fn what_was_served_is_counted_by_what_went_wrong_meanwhile() {
        let text = "[time]\nend = '60 s'\n[hosts]\ncount = 3\n\
                    [[program]]\nname = 'web'\nreplicas = 2\ntakes = '50 ms'\n\
                    [[fault]]\nkind = 'drain'\nat = '10 s'\nlasts = '20 s'\nhosts = [3]\n\
                    [[fault]]\nkind = 'kill'\nat = '25 s'\nlasts = '20 s'\nhosts = [2]\n";
        let document = Document::parse("three.toml", text, &[]).unwrap();
        let read = document.read(|root| config::read(root, String::new(), String::new()));
        let config = read.unwrap();
        let line = |at_s: u64, event: &str, program: &str, replica: u32| {
            format!(
                "{{\"boottime_ns\":{},\"unix_ns\":0,\"event\":\"{event}\",\"program\":\"{program}\",\"replica\":{replica},\"fence\":1}}\n",
                (1_000 + at_s) * SECOND
            )
        };
        // Three at once for two seconds, of which two are asked; what else runs does not count.
        let text = [
            line(0, "begin", "web", 0),
            line(0, "begin", "web", 1),
            line(0, "begin", "other", 0),
            line(12, "begin", "web", 2),
            line(14, "end", "web", 1),
        ];
        let asked = |at_s: u64, took_s: u64, fate: Answered, turned_away: u32| Asked {
            at_ns: at_s * SECOND,
            took_ns: took_s * SECOND,
            fate,
            turned_away,
        };
        let history = History {
            struck: config
                .blows
                .iter()
                .map(|blow| Struck {
                    at_ns: blow.at.0,
                    until_ns: blow.until.map(|until| until.0),
                })
                .collect(),
            leases: vec![Leases {
                text: text.concat(),
                deaths_ns: vec![1_040 * SECOND],
            }],
            began_boottime_ns: 1_000 * SECOND,
            requests: vec![
                asked(1, 1, Answered::Whole, 0),
                asked(11, 1, Answered::Whole, 2),
                // It began while a machine drained, and was lost to a death.
                asked(24, 2, Answered::Lost, 0),
                asked(46, 1, Answered::Nowhere, 0),
            ],
            ..History::default()
        };
        let samples = Samples::of(&config, &history);
        let counted = |kind: &str| {
            let served = samples.served[kind];
            let seconds = |span: Nanos| span.0 / SECOND;
            (
                (seconds(served.span), seconds(served.ran)),
                (served.answered, served.lost, served.nowhere),
                served.turned_away,
            )
        };
        assert_eq!(counted("drain"), ((15, 30), (1, 0, 0), 2));
        assert_eq!(counted("kill"), ((20, 30), (0, 1, 0), 0));
        assert_eq!(counted(PEACE), ((25, 20), (1, 0, 1), 0));
    }

    #[test]
    fn who_does_not_notice_is_told_of() {
        let samples = samples(&[change(14, 0, 2, "removed"), change(32, 0, 2, "alive")]);
        assert_eq!(samples.unnoticed, [(Nanos::from_secs(11), 1, 2)]);
    }

    #[test]
    fn who_is_held_removed_already_cannot_be_missed_again() {
        let samples = samples(&[change(9, 1, 2, "removed"), change(14, 0, 2, "removed")]);
        assert_eq!((samples.deaths, samples.unnoticed.len()), (1, 0));
        assert_eq!(samples.mistaken, [(Nanos::from_secs(9), 1, 2)]);
    }

    #[test]
    fn who_is_removed_alive_is_a_mistake_and_who_stays_so_at_the_end_diverges() {
        let both = [change(14, 0, 2, "removed"), change(15, 1, 2, "removed")];
        let dead_for_ever = samples(&both);
        assert_eq!(dead_for_ever.diverged, [(0, 2), (1, 2)]);
        let mistaken = samples(&[both.as_slice(), &[change(50, 0, 1, "removed")]].concat());
        assert_eq!(mistaken.mistaken, [(Nanos::from_secs(50), 0, 1)]);
        assert!(mistaken.diverged.contains(&(0, 1)));
    }

    #[test]
    fn a_history_of_something_else_is_refused() {
        let read = |text: &str| History::read(text, &config()).unwrap_err().to_string();
        assert!(read("{").starts_with("found no history of a fleet"));
        assert!(read(r#"{"struck":[],"changes":[]}"#).contains("expected 1"));
        let strange = r#"{"struck":[{"at_ns":1,"until_ns":null}],"changes":[{"at_ns":1,"observer":0,"subject":3,"state":"alive"}]}"#;
        assert!(read(strange).contains("host 3"));
        let word = strange
            .replace("\"subject\":3", "\"subject\":2")
            .replace("alive", "well");
        assert!(read(&word).contains("\"well\""));
    }
}
