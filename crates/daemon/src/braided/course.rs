//! Who gives the work of a drill, and judges: the machine that was asked for it, outside the braid.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant as Clock};

use runtime::drill::{Conductor, Plan, Player, Sums, Work};
use runtime::{Offer, Strand};
use serde::{Deserialize, Serialize};
use wire::{Instant, Nanos, Tile};

use super::lines::Lines;
use super::word::{Terms, Word};
use super::{BRAIDS_MAX, DESERTED, Id, PLAYERS_MAX, now, put};
use crate::fleet::FleetError;
use crate::fleet::member::random;

/// Words in front of whoever judges.
const QUEUE: usize = 4_096;
/// What was not acknowledged is offered again after so long, and everybody is told that somebody is there.
const INSISTS: Duration = Duration::from_millis(200);
/// Offers of one strand under way at once.
const OFFERS_MAX: usize = 128;
/// A machine that was asked for a seat has given it after so long, or is not there.
const SITS_WITHIN: Duration = Duration::from_secs(10);
/// With all work done, messages are given so long to settle before what is wrong is wrong.
const SETTLES: Duration = Duration::from_secs(10);
/// While work is under way something moves in that time.
const MOVES_WITHIN: Duration = Duration::from_secs(30);
/// A drill that is over can be asked about for so long.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// Processes on all three tori together.
    pub players: u32,
    /// What they do.
    pub work: Kind,
    /// Pieces of work.
    pub pieces: u64,
    /// Pieces under way at once, at most.
    pub at_once: u64,
    /// Hops of a piece around the ring; stops of an errand; leaves of a tree.
    pub length: u64,
    /// Chance of who is thrown what.
    pub seed: u64,
    /// Whether each machine writes down what its torus amounts to, sheet by sheet.
    pub witness: bool,
}

/// The kinds of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Around a ring of all.
    Ring,
    /// Trees that grow and add up.
    Tree,
    /// From anybody to anybody.
    Errands,
}

/// How a drill stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Which braid: 16 hexadecimal digits.
    pub braid: String,
    /// `settling`, `working`, `over`, or `failed`.
    pub state: String,
    /// Seconds since it began; until its end once it is over.
    pub seconds: f64,
    /// Pieces of work that began.
    pub begun: u64,
    /// That ended.
    pub ended: u64,
    /// Pieces there are.
    pub pieces: u64,
    /// Messages that players passed on their way, in the pieces that ended.
    pub passes: u64,
    /// The tori, in the order in which they hold each other.
    pub tori: Vec<Seated>,
    /// Tori that were lost for good.
    pub lost: Vec<String>,
    /// What is wrong with how it ended.
    pub wrong: Vec<String>,
}

/// One torus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seated {
    /// Which.
    pub strand: String,
    /// The machine it sits on.
    pub machine: String,
    /// How often it has been rebuilt.
    pub rebuilt: u32,
    /// Seconds from the last word of it before it was rebuilt, the last time, or from the beginning if there was none, to the first word after that; 0 if it never was.
    pub away: f64,
    /// Players on it when it was last asked.
    pub players: u64,
    /// Messages that players passed on it until then.
    pub passed: u64,
    /// Turns taken until then.
    pub turns: u64,
}

impl Drill {
    /// Whether it can be done.
    ///
    /// # Errors
    /// Why not: found, expected.
    pub fn check(&self) -> Result<(), String> {
        let within = |what: &str, found: u64, least: u64, most: u64| {
            if (least..=most).contains(&found) {
                return Ok(());
            }
            Err(format!("{what}: found {found}, expected {least} to {most}"))
        };
        within("players", self.players.into(), 3, PLAYERS_MAX.into())?;
        within("pieces", self.pieces, 1, 1_000_000_000)?;
        within("pieces at once", self.at_once, 1, 1_000)?;
        match self.work {
            Kind::Ring => within("hops", self.length, 1, 1_000_000_000),
            Kind::Errands => within("stops", self.length, 1, 1_000),
            Kind::Tree => within("leaves", self.length, 1, 100_000),
        }
    }

    const fn plan(&self) -> Plan {
        let length = self.length;
        Plan {
            players: self.players,
            work: match self.work {
                Kind::Ring => Work::Ring { hops: length },
                Kind::Tree => Work::Tree {
                    branches: 10,
                    leaves: length,
                },
                Kind::Errands => Work::Errands {
                    stops: length as u32,
                    hurry: Nanos::ZERO,
                },
            },
            pieces: self.pieces,
            at_once: self.at_once,
            every: Nanos::ZERO,
            seed: self.seed,
        }
    }

    /// Everybody may come to be on one torus, and trees grow beside them.
    fn room(&self) -> u32 {
        let trees = match self.work {
            Kind::Tree => self.length * 2 * self.at_once,
            Kind::Ring | Kind::Errands => 0,
        };
        u32::try_from(u64::from(self.players) * 2 + trees).unwrap_or(u32::MAX)
    }
}

/// A drill that was started here.
#[derive(Clone, Debug)]
pub(super) struct Course {
    id: Id,
    words: SyncSender<(Tile, Word)>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    progress: Progress,
    ends: bool,
    /// When somebody last asked how it stands.
    asked_at: Clock,
    over_since: Option<Clock>,
}

impl Course {
    pub(super) fn start(
        lines: Lines,
        hosts: [Tile; 3],
        names: BTreeMap<Tile, String>,
        drill: &Drill,
    ) -> Result<Self, FleetError> {
        // See [`Id`].
        let id = Id::from_le_bytes(random()?) & !0xff | lines.here().0;
        let terms = Terms {
            key: random()?,
            players: drill.room().min(PLAYERS_MAX),
            hosts,
            witness: drill.witness,
        };
        let (words, heard) = sync_channel(QUEUE);
        let progress = Progress {
            braid: format!("{id:016x}"),
            state: "settling".to_owned(),
            pieces: drill.pieces,
            ..Progress::default()
        };
        let state = Arc::new(Mutex::new(State {
            progress,
            ends: false,
            asked_at: now(),
            over_since: None,
        }));
        let course = Self { id, words, state };
        let mut stand = Stand {
            course: course.clone(),
            lines,
            names,
            terms,
            conductor: Conductor::new(drill.plan()),
            gates: Strand::ALL.map(|_| Gate::default()),
            routes: hosts.map(Route::to),
            sums: [None; 3],
            turns: [0; 3],
            moved_at: now(),
            failed: None,
            lost: Vec::new(),
            began: now(),
        };
        thread::Builder::new()
            .name("drill".into())
            .spawn(move || stand.conduct(&heard))?;
        Ok(course)
    }

    pub(super) const fn id(&self) -> Id {
        self.id
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress(&self) -> Progress {
        let mut state = self.state();
        state.asked_at = now();
        state.progress.clone()
    }

    pub(super) fn is_over(&self) -> bool {
        let state = self.state();
        state.ends || state.over_since.is_some()
    }

    pub(super) fn over_since(&self) -> Option<Clock> {
        self.state().over_since
    }

    fn is_left_alone(&self) -> bool {
        now().duration_since(self.state().asked_at) > DESERTED
    }

    pub(super) fn is_forgotten(&self) -> bool {
        let over = self.state().over_since;
        over.is_some_and(|since| now().duration_since(since) > REMEMBERED)
    }

    pub(super) fn end(&self) {
        self.state().ends = true;
    }

    pub(super) fn hear(&self, from: Tile, word: Word) {
        // What finds no room is said again.
        put(&self.words, (from, word));
    }
}

/// Between a strand and the conductor: it outlives every torus.
#[derive(Default)]
struct Gate {
    first: u64,
    offers: VecDeque<Offer<Player>>,
    /// The next to offer.
    offered: u64,
    /// Reports below this number were heard.
    heard: u64,
}

impl Gate {
    /// Whether a report of this number is the next: it counts then, and not again.
    const fn hears(&mut self, number: u64) -> bool {
        let next = number == self.heard;
        self.heard += next as u64;
        next
    }

    /// All offers below this number will happen; nobody can have accepted what was not offered.
    fn accepted(&mut self, upto: u64) {
        let known = upto.saturating_sub(self.first);
        let known = known.min(self.offers.len() as u64);
        self.offers.drain(..known as usize);
        self.first += known;
    }
}

/// Where a torus sits.
struct Route {
    at: Tile,
    /// Once it was heard of.
    incarnation: Option<u32>,
    heard_at: Clock,
    away: Duration,
}

impl Route {
    fn to(at: Tile) -> Self {
        Self {
            at,
            incarnation: None,
            heard_at: now(),
            away: Duration::ZERO,
        }
    }

    fn is_silent_for(&self, long: Duration) -> bool {
        now().duration_since(self.heard_at) > long
    }
}

struct Stand {
    course: Course,
    lines: Lines,
    names: BTreeMap<Tile, String>,
    terms: Terms,
    conductor: Conductor,
    gates: [Gate; 3],
    routes: [Route; 3],
    sums: [Option<Sums>; 3],
    /// Turns of each torus when it was last asked, and when that was last another number.
    turns: [u64; 3],
    moved_at: Clock,
    /// What ends the drill before its end.
    failed: Option<String>,
    lost: Vec<Strand>,
    began: Clock,
}

impl Stand {
    fn conduct(&mut self, heard: &Receiver<(Tile, Word)>) {
        let mut insists_at = now();
        let mut over_since = None;
        loop {
            if let Ok((from, word)) = heard.recv_timeout(Duration::from_millis(5)) {
                self.hear(from, word);
                while let Ok((from, word)) = heard.try_recv() {
                    self.hear(from, word);
                }
            }
            if self.course.state().ends {
                return self.finish("failed", vec!["it was ended before its end".to_owned()]);
            }
            if let Some(wrong) = self.failed.take().or_else(|| self.silent()) {
                return self.finish("failed", vec![wrong]);
            }
            if self.course.is_left_alone() {
                let wrong = format!("nobody has asked about it for {} s", DESERTED.as_secs());
                return self.finish("failed", vec![wrong]);
            }
            if !self.conductor.is_over() && now().duration_since(self.moved_at) > MOVES_WITHIN {
                return self.finish("failed", self.stuck());
            }
            let clock = self.now();
            while let Some((strand, offer)) = self.conductor.next(clock) {
                self.gates[strand as usize].offers.push_back(offer);
            }
            let insists = insists_at <= now();
            if insists {
                insists_at = now() + INSISTS;
                self.insist();
            }
            Strand::ALL
                .into_iter()
                .for_each(|strand| self.offer(strand));
            self.show(if self.conductor.is_settled() {
                "working"
            } else {
                "settling"
            });
            if self.conductor.is_over() {
                let since = *over_since.get_or_insert_with(now);
                if let [Some(a), Some(b), Some(c)] = self.sums {
                    let wrong = self.conductor.judge(&[a, b, c]);
                    if wrong.is_empty() || now().duration_since(since) > SETTLES {
                        let wrong: Vec<_> = wrong.iter().map(ToString::to_string).collect();
                        let state = if wrong.is_empty() { "over" } else { "failed" };
                        return self.finish(state, wrong);
                    }
                }
                if insists {
                    self.sums = [None; 3];
                }
            }
        }
    }

    fn name(&self, at: Tile) -> &str {
        self.names
            .get(&at)
            .map_or("a machine that left", |name| name)
    }

    /// What is wrong with a torus of which nothing is heard.
    fn silent(&self) -> Option<String> {
        let mut all = Strand::ALL.into_iter().zip(&self.routes);
        all.find_map(|(strand, route)| {
            let name = self.name(route.at);
            match route.incarnation {
                None if route.is_silent_for(SITS_WITHIN) => Some(format!(
                    "{name} has given {strand} no seat for {} s",
                    SITS_WITHIN.as_secs()
                )),
                Some(_) if route.is_silent_for(DESERTED) => Some(format!(
                    "nothing was heard of {strand} on {name} for {} s, and it was not rebuilt",
                    DESERTED.as_secs()
                )),
                _ => None,
            }
        })
    }

    /// What is wrong when nothing moves although there is something to do.
    fn stuck(&self) -> Vec<String> {
        let mut wrong = vec![format!(
            "nothing has moved for {} s, and {} of {} pieces have ended",
            MOVES_WITHIN.as_secs(),
            self.conductor.ended(),
            self.course.state().progress.pieces
        )];
        if let [Some(a), Some(b), Some(c)] = self.sums {
            let judged = self.conductor.judge(&[a, b, c]);
            wrong.extend(judged.iter().map(ToString::to_string));
        }
        wrong
    }

    fn now(&self) -> Instant {
        let nanos = now().duration_since(self.began).as_nanos();
        Instant(u64::try_from(nanos).unwrap_or(u64::MAX - 1))
    }

    fn say(&self, strand: Strand, word: Word) {
        let at = self.routes[strand as usize].at;
        self.lines.say(at, self.course.id, word);
    }

    /// Says again what may not have been heard.
    fn insist(&mut self) {
        for strand in Strand::ALL {
            if self.routes[strand as usize].incarnation.is_none() {
                let terms = self.terms.clone();
                self.say(strand, Word::Sit { terms, strand });
                continue;
            }
            let gate = &mut self.gates[strand as usize];
            gate.offered = gate.first;
            let upto = gate.heard;
            self.say(strand, Word::Taken { strand, upto });
            self.say(strand, Word::Ask { strand });
        }
    }

    fn offer(&mut self, strand: Strand) {
        if self.routes[strand as usize].incarnation.is_none() {
            return;
        }
        loop {
            let gate = &mut self.gates[strand as usize];
            let number = gate.offered.max(gate.first);
            let nth = (number - gate.first) as usize;
            let Some(offer) = gate.offers.get(nth).filter(|_| nth < OFFERS_MAX) else {
                return;
            };
            let offer = offer.clone();
            gate.offered = number + 1;
            self.say(
                strand,
                Word::Offered {
                    strand,
                    number,
                    offer,
                },
            );
        }
    }

    fn hear(&mut self, from: Tile, word: Word) {
        // No torus sits anywhere else, rebuilt or not.
        if !self.terms.hosts.contains(&from) {
            return;
        }
        match word {
            Word::Here {
                strand,
                incarnation,
            } => {
                let route = &mut self.routes[strand as usize];
                let known = route.incarnation;
                if known == Some(incarnation) && route.at == from {
                    route.heard_at = now();
                } else if known.is_none_or(|known| known < incarnation) {
                    let heard_at = std::mem::replace(&mut route.heard_at, now());
                    if incarnation > 0 {
                        route.away = route.heard_at.duration_since(heard_at);
                    }
                    (route.at, route.incarnation) = (from, Some(incarnation));
                    let gate = &mut self.gates[strand as usize];
                    gate.offered = gate.first;
                    self.sums[strand as usize] = None;
                }
            }
            Word::Accepted { strand, upto } => {
                self.gates[strand as usize].accepted(upto);
            }
            Word::Told {
                strand,
                number,
                report,
            } => {
                if self.gates[strand as usize].hears(number) {
                    self.conductor.hear(strand, report);
                }
                let upto = self.gates[strand as usize].heard;
                self.say(strand, Word::Taken { strand, upto });
            }
            Word::Sums {
                strand,
                incarnation,
                sums,
            } if self.routes[strand as usize].incarnation == Some(incarnation) => {
                self.sums[strand as usize] = Some(sums);
                let turns = std::mem::replace(&mut self.turns[strand as usize], sums.turns);
                if turns != sums.turns {
                    self.moved_at = now();
                }
            }
            Word::Lost { strand } => {
                let route = &self.routes[strand as usize];
                let name = self.name(route.at);
                self.failed = Some(match route.incarnation {
                    None => format!("{name} has not given {strand} a seat"),
                    Some(_) => format!(
                        "{strand} was lost with {name}, and there was no whole copy to rebuild it from"
                    ),
                });
                self.lost.push(strand);
            }
            Word::Full { strand } => {
                let name = self.name(from);
                self.failed = Some(format!(
                    "{name} gives {strand} no seat: it has part in {BRAIDS_MAX} braids"
                ));
            }
            _ => {}
        }
    }

    fn show(&self, state: &str) {
        let tori = Strand::ALL.map(|strand| {
            let route = &self.routes[strand as usize];
            let before = self
                .course
                .state()
                .progress
                .tori
                .get(strand as usize)
                .cloned();
            let mut seated = before.unwrap_or_default();
            if let Some(sums) = self.sums[strand as usize] {
                seated.players = sums.players;
                seated.passed = sums.passed;
                seated.turns = sums.turns;
            }
            Seated {
                strand: strand.to_string(),
                machine: self.name(route.at).to_owned(),
                rebuilt: route.incarnation.unwrap_or(0),
                away: route.away.as_secs_f64(),
                ..seated
            }
        });
        let mut shown = self.course.state();
        let progress = &mut shown.progress;
        state.clone_into(&mut progress.state);
        progress.seconds = now().duration_since(self.began).as_secs_f64();
        (progress.begun, progress.ended) = (self.conductor.begun(), self.conductor.ended());
        progress.passes = self.conductor.ended() * self.conductor.passes();
        progress.tori = tori.into();
        progress.lost = self.lost.iter().map(ToString::to_string).collect();
    }

    fn finish(&self, state: &str, wrong: Vec<String>) {
        let mut all = self.terms.hosts.to_vec();
        all.extend(self.routes.iter().map(|route| route.at));
        all.sort_unstable();
        all.dedup();
        for to in all {
            self.lines.say(to, self.course.id, Word::End);
        }
        self.show(state);
        let mut shown = self.course.state();
        shown.progress.wrong = wrong;
        shown.over_since = Some(now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::Weight;

    #[test]
    fn a_report_counts_once_whoever_repeats_it_and_none_is_left_out() {
        let mut gate = Gate::default();
        let heard = [0, 0, 2, 1, 0, 1, u64::MAX, 2, 3].map(|number| gate.hears(number));
        assert_eq!(
            heard,
            [true, false, false, true, false, false, false, true, true]
        );
        assert_eq!(gate.heard, 4);
    }

    #[test]
    fn what_was_accepted_is_offered_no_more_and_what_was_not_offered_is_not_accepted() {
        let mut gate = Gate::default();
        let offer = || Offer::Spawn {
            process: Player::default(),
            weight: Weight::MOST,
        };
        gate.offers.extend((0..5).map(|_| offer()));
        for (upto, first) in [(0, 0), (2, 2), (1, 2), (2, 2), (u64::MAX, 5), (3, 5)] {
            gate.accepted(upto);
            assert_eq!((gate.first, gate.offers.len() as u64), (first, 5 - first));
        }
    }
}
