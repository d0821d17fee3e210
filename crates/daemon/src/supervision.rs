//! What should run, and when is it started again?
//!
//! A machine like the protocols': time and what happened come in, what to do comes out as data. It
//! starts no process and reads no clock, so a test lives an hour of crashes in a microsecond, and the
//! twin can rehearse what a node would do.
//!
//! A program that ended is started again if its [`Restart`] says so, after a pause that doubles from
//! [`PAUSE_MIN`] to [`PAUSE_MAX`] and is forgotten once it has run for [`SETTLED`]: a program that
//! cannot live costs a start a minute, one that stumbles once is back at once. The numbers are those
//! Docker has used for years (its reference on restart policies: 100 ms, doubled, at most a minute,
//! reset after ten seconds), so that nobody has to learn others.
//!
//! Who is to stop is asked first and forced after [`GRACE`].
//!
//! # Groups
//! Programs that need each other can be one [`Group`], as the children of a supervisor are in Erlang (its design
//! principles, *Supervisor Behaviour*). **One for one**: who fails is started again alone. **All for one**: if one is
//! to be started again, the others are asked to end, and all that were running are started together, after the pause
//! of the one that fell and once the last has ended. Who ended by itself before, or was stopped, stays as it is. If
//! that happens more often than [`Intensity`] says, starting again does not help: the group is given up, and all of it
//! ends. A group may also say how many of it run at a time; the others wait for their turn, in the order in which
//! they came.
//!
//! A program with a deadline that has not ended by then is asked to end, whatever it was doing, and stays so.
//!
//! Whether a program is [well](crate::health) its warden finds out; one that is not is ended, and what follows is a
//! matter of this machine. Each change says [`Because`] of what, so that what is recorded is what was decided.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use machine::Machine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::{Instant, Nanos};

/// The pause before the first start after a failure.
pub const PAUSE_MIN: Nanos = Nanos::from_millis(100);
/// The longest pause.
pub const PAUSE_MAX: Nanos = Nanos::from_secs(60);
/// Who ran this long has settled; its next failure counts as its first.
pub const SETTLED: Nanos = Nanos::from_secs(10);
/// Between asking a program to end and ending it.
pub const GRACE: Nanos = Nanos::from_secs(10);

/// Names a program for as long as it is known.
pub type Id = u64;

/// When a program that ended by itself is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Once is enough.
    Never,
    /// When its exit code is not 0.
    OnFailure,
    /// Whatever its exit code.
    Always,
}

/// What becomes of the others when one is to be started again.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Nothing.
    #[default]
    OneForOne,
    /// They are stopped, and started with it.
    AllForOne,
}

/// How often starting again is worth trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Intensity {
    /// So many times.
    pub restarts: u32,
    /// Within so long, in milliseconds.
    pub within_ms: u64,
}

/// Pauses double from [`PAUSE_MIN`], so a program that cannot live is given up after its sixth end, 3.1 s after its
/// first; one that fails every two seconds goes on for ever. Erlang's own default, one in five seconds, knows no pauses.
impl Default for Intensity {
    fn default() -> Self {
        Self {
            restarts: 5,
            within_ms: 10_000,
        }
    }
}

/// What the members of a group have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// What one that fails means for the others.
    pub strategy: Strategy,
    /// After how many failures all end.
    pub intensity: Intensity,
    /// How many run at a time; `None` for all.
    pub at_once: Option<u32>,
}

/// Names a group for as long as it has members.
pub type GroupId = u64;

/// On which terms a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// When it is started again.
    pub restart: Restart,
    /// By when it has to have ended.
    pub deadline: Option<Instant>,
    /// Its group; who comes last says what holds for all.
    pub group: Option<(GroupId, Group)>,
}

impl Terms {
    /// Of a program for itself.
    #[must_use]
    pub fn alone(restart: Restart) -> Self {
        Self {
            restart,
            deadline: None,
            group: None,
        }
    }
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// This program should run from now on. One that is known already is left as it is, unless it
    /// has ended: then it is started anew.
    Run(Id, Terms),
    /// It ended, or could not be started, with this exit code.
    Ended(Id, u8),
    /// It should run no more.
    Stop(Id),
    /// Nothing should run here any more, for now.
    Drain,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start it; sooner or later [`Input::Ended`] answers.
    Start(Id),
    /// Ask it to end.
    Ask(Id),
    /// End it.
    Force(Id),
    /// It is as this says now.
    Became(Id, Phase, Because),
    /// After [`Input::Drain`]: nothing runs any more.
    Drained,
}

/// Why a program became what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// Somebody wished it.
    Asked,
    /// As many of its group run as may at a time.
    Full,
    /// One of its group made room.
    Turn,
    /// It ended by itself.
    Ended,
    /// Its pause is over.
    Rested,
    /// This one of its group is to be started again, and the others with it.
    Fell(Id),
    /// This one of its group failed once too often.
    TooOften(Id),
    /// Its deadline passed.
    Late,
    /// Nothing should run here any more.
    Drain,
}

/// How a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "phase")]
pub enum Phase {
    /// It waits for its turn: as many of its group run as may at a time.
    Waiting,
    /// It runs.
    Running,
    /// It ended with this code and will be started again.
    Pausing {
        /// Its exit code.
        code: u8,
    },
    /// It has been asked to end.
    Stopping,
    /// It ended with this code and stays so.
    Ended {
        /// Its exit code; `None` if it was stopped before it was started again.
        code: Option<u8>,
    },
}

impl Phase {
    /// Whether there is a process.
    fn lives(self) -> bool {
        matches!(self, Self::Running | Self::Stopping)
    }
}

#[derive(Clone, Copy, Debug)]
struct Supervised {
    terms: Terms,
    phase: Phase,
    since: Instant,
    /// The next pause.
    pause: Nanos,
    /// When something is due: the end of a pause, of the grace, or the deadline.
    due: Option<Instant>,
    /// Who stops only to be started again with its group, because of whom.
    returns: Option<Id>,
}

#[derive(Clone, Debug, Default)]
struct Members {
    terms: Group,
    ids: BTreeSet<Id>,
    /// Those that wait for their turn.
    waiting: BTreeSet<Id>,
    /// How many have a process.
    alive: u32,
    /// When its members were started again lately.
    restarts: VecDeque<Instant>,
    /// While the last of it end: not before when all rise.
    rises: Option<Instant>,
    /// It was given up, and nobody's turn comes until somebody is added.
    closed: bool,
}

impl Members {
    /// Whether nobody can be started now.
    fn is_full(&self) -> bool {
        self.closed
            || self.rises.is_some()
            || self.terms.at_once.is_some_and(|most| self.alive >= most)
    }

    /// Counts a restart; whether it was one too many.
    fn is_too_often(&mut self, now: Instant) -> bool {
        let Intensity {
            restarts,
            within_ms,
        } = self.terms.intensity;
        let within = Nanos::from_millis(within_ms);
        self.restarts.retain(|then| now.since(*then) < within);
        self.restarts.push_back(now);
        self.restarts.len() > restarts as usize
    }
}

/// The programs of one node, and what should become of them.
#[derive(Clone, Debug, Default)]
pub struct Supervision {
    programs: BTreeMap<Id, Supervised>,
    groups: BTreeMap<GroupId, Members>,
    /// `due` of each program, soonest first.
    due: BTreeSet<(Instant, Id)>,
    /// How many have a process.
    alive: usize,
    draining: bool,
}

impl Supervision {
    /// How a program is; `None` if it is not known.
    #[must_use]
    pub fn phase(&self, id: Id) -> Option<Phase> {
        self.programs.get(&id).map(|program| program.phase)
    }

    /// When something is due for a program that pauses: its next start.
    #[must_use]
    pub fn due(&self, id: Id) -> Option<Instant> {
        self.programs.get(&id)?.due
    }

    /// Whether it was told to let everything end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Forgets a program that has ended; of others it says `false` and changes nothing.
    pub fn forget(&mut self, id: Id) -> bool {
        let ended = matches!(self.phase(id), Some(Phase::Ended { .. }));
        if ended {
            let terms = self.programs.remove(&id).map(|program| program.terms);
            if let Some((group, _)) = terms.and_then(|terms| terms.group)
                && let Some(members) = self.groups.get_mut(&group)
            {
                members.ids.remove(&id);
                if members.ids.is_empty() {
                    self.groups.remove(&group);
                }
            }
        }
        ended
    }

    /// The group of a program.
    fn group(&mut self, id: Id) -> Option<&mut Members> {
        let (group, _) = self.programs.get(&id)?.terms.group?;
        self.groups.get_mut(&group)
    }

    /// The others of its group, in order.
    fn others(&mut self, id: Id) -> Vec<Id> {
        let ids = self.group(id).map(|members| members.ids.clone());
        let ids = ids.unwrap_or_default().into_iter();
        ids.filter(|other| *other != id).collect()
    }

    fn set_due(&mut self, id: Id, due: Option<Instant>) {
        let program = (self.programs.get_mut(&id)).expect("whoever is due is known");
        let pressing = match program.phase {
            Phase::Stopping | Phase::Ended { .. } => None,
            _ => program.terms.deadline,
        };
        let due = due.into_iter().chain(pressing).min();
        if let Some(old) = std::mem::replace(&mut program.due, due) {
            self.due.remove(&(old, id));
        }
        self.due.extend(due.map(|due| (due, id)));
    }

    fn become_(
        &mut self,
        now: Instant,
        id: Id,
        (phase, because): (Phase, Because),
        due: Option<Instant>,
        out: &mut impl FnMut(Effect),
    ) {
        let program = (self.programs.get_mut(&id)).expect("whoever becomes is known");
        let before = std::mem::replace(&mut program.phase, phase);
        program.since = now;
        if phase != Phase::Stopping {
            program.returns = None;
        }
        if let Some(members) = self.group(id) {
            members.alive += u32::from(phase.lives());
            members.alive -= u32::from(before.lives());
            match phase {
                Phase::Waiting => members.waiting.insert(id),
                _ => members.waiting.remove(&id),
            };
        }
        self.alive += usize::from(phase.lives());
        self.alive -= usize::from(before.lives());
        self.set_due(id, due);
        out(Effect::Became(id, phase, because));
        if before.lives() && !phase.lives() {
            self.made_room(now, id, out);
        }
        if self.draining && self.alive == 0 && self.due.is_empty() {
            out(Effect::Drained);
        }
    }

    /// A process of a group has ended: perhaps all of it rises, or somebody's turn has come.
    fn made_room(&mut self, now: Instant, id: Id, out: &mut impl FnMut(Effect)) {
        let draining = self.draining;
        let Some(members) = self.group(id) else {
            return;
        };
        if let Some(rises) = members.rises.filter(|_| members.alive == 0) {
            members.rises = None;
            let ids: Vec<_> = members.ids.iter().copied().collect();
            for id in ids {
                if matches!(self.phase(id), Some(Phase::Pausing { .. } | Phase::Waiting)) {
                    self.set_due(id, Some(rises.max(now)));
                }
            }
        } else if !members.is_full() && !draining {
            let next = members.waiting.first().copied();
            if let Some(next) = next {
                self.start(now, next, Because::Turn, out);
            }
        }
    }

    fn start(&mut self, now: Instant, id: Id, because: Because, out: &mut impl FnMut(Effect)) {
        if self.group(id).is_some_and(|members| members.is_full()) {
            self.become_(now, id, (Phase::Waiting, Because::Full), None, out);
            return;
        }
        self.become_(now, id, (Phase::Running, because), None, out);
        out(Effect::Start(id));
    }

    fn ended(&mut self, now: Instant, id: Id, code: u8, out: &mut impl FnMut(Effect)) {
        let Some(program) = self.programs.get_mut(&id) else {
            return;
        };
        let (again, returns) = match (program.phase, program.terms.restart) {
            (Phase::Running, Restart::Always) => (true, None),
            (Phase::Running, Restart::OnFailure) => (code != 0, None),
            (Phase::Stopping, _) => (program.returns.is_some(), program.returns),
            _ => (false, None),
        };
        let for_good = Phase::Ended { code: Some(code) };
        if !again || self.draining {
            return self.become_(now, id, (for_good, Because::Ended), None, out);
        }
        if let Some(other) = returns {
            let pausing = (Phase::Pausing { code }, Because::Fell(other));
            return self.become_(now, id, pausing, None, out);
        }
        if now.since(program.since) >= SETTLED {
            program.pause = PAUSE_MIN;
        }
        let until = now + program.pause;
        program.pause = Nanos(program.pause.0.saturating_mul(2)).min(PAUSE_MAX);
        let pausing = (Phase::Pausing { code }, Because::Ended);
        let Some(members) = self.group(id) else {
            return self.become_(now, id, pausing, Some(until), out);
        };
        if members.is_too_often(now) {
            let because = Because::TooOften(id);
            members.restarts.clear();
            members.closed = true;
            self.become_(now, id, (for_good, because), None, out);
            for other in self.others(id) {
                self.stop(now, other, because, out);
            }
            return;
        }
        match members.terms.strategy {
            Strategy::OneForOne => self.become_(now, id, pausing, Some(until), out),
            Strategy::AllForOne => {
                members.rises = Some(until);
                let others = self.others(id);
                for other in &others {
                    if matches!(self.phase(*other), Some(Phase::Pausing { .. })) {
                        // It rises with the others.
                        self.set_due(*other, None);
                    }
                }
                self.become_(now, id, pausing, None, out);
                for other in others {
                    if self.phase(other) == Some(Phase::Running) {
                        self.stop(now, other, Because::Fell(id), out);
                        let program = self.programs.get_mut(&other).expect("a member");
                        let comes_back = program.terms.restart != Restart::Never;
                        program.returns = comes_back.then_some(id);
                    }
                }
            }
        }
    }

    fn stop(&mut self, now: Instant, id: Id, because: Because, out: &mut impl FnMut(Effect)) {
        match self.phase(id) {
            Some(Phase::Running) => {
                let grace = Some(now + GRACE);
                self.become_(now, id, (Phase::Stopping, because), grace, out);
                out(Effect::Ask(id));
            }
            Some(Phase::Stopping) => {
                // Who was to come back with its group does not.
                let program = self.programs.get_mut(&id).expect("it has a phase");
                program.returns = None;
            }
            Some(Phase::Pausing { code }) => {
                let ended = Phase::Ended { code: Some(code) };
                self.become_(now, id, (ended, because), None, out);
            }
            Some(Phase::Waiting) => {
                let ended = Phase::Ended { code: None };
                self.become_(now, id, (ended, because), None, out);
            }
            Some(Phase::Ended { .. }) | None => {}
        }
    }
}

impl Machine for Supervision {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Instant, input: Input, out: &mut impl FnMut(Effect)) {
        match input {
            Input::Run(id, terms) => {
                let rests = self
                    .phase(id)
                    .is_none_or(|phase| matches!(phase, Phase::Ended { .. }));
                if rests && !self.draining {
                    if let Some((group, said)) = terms.group {
                        let members = self.groups.entry(group).or_default();
                        members.terms = said;
                        members.closed = false;
                        members.ids.insert(id);
                    }
                    let program = Supervised {
                        terms,
                        phase: Phase::Ended { code: None },
                        since: now,
                        pause: PAUSE_MIN,
                        due: None,
                        returns: None,
                    };
                    self.programs.insert(id, program);
                    self.start(now, id, Because::Asked, out);
                }
            }
            Input::Ended(id, code) => self.ended(now, id, code, out),
            Input::Stop(id) => self.stop(now, id, Because::Asked, out),
            Input::Drain => {
                self.draining = true;
                let all: Vec<_> = self.programs.keys().copied().collect();
                let idle = self.alive == 0 && self.due.is_empty();
                for id in all {
                    self.stop(now, id, Because::Drain, out);
                }
                if idle {
                    out(Effect::Drained);
                }
            }
        }
    }

    fn wake(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        while let Some((_, id)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            let program = &self.programs[&id];
            let late = program.terms.deadline.is_some_and(|by| by <= now);
            match program.phase {
                // Who does not end by force has nothing more to fear.
                Phase::Stopping | Phase::Ended { .. } => {
                    self.set_due(id, None);
                    out(Effect::Force(id));
                }
                _ if late => self.stop(now, id, Because::Late, out),
                _ => self.start(now, id, Because::Rested, out),
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Life {
        machine: Supervision,
        now: Instant,
    }

    impl Life {
        fn new() -> Self {
            Self {
                machine: Supervision::default(),
                now: Instant(0),
            }
        }

        fn on(&mut self, input: Input) -> Vec<Effect> {
            let mut effects = Vec::new();
            self.machine
                .handle(self.now, input, &mut |effect| effects.push(effect));
            effects
        }

        /// To the deadline: how long that took in milliseconds, and what came of it.
        fn sleep(&mut self) -> (u64, Vec<Effect>) {
            let due = self.machine.deadline().expect("something is due");
            let slept = due.since(self.now).0 / 1_000_000;
            self.now = due;
            let mut effects = Vec::new();
            self.machine
                .wake(self.now, &mut |effect| effects.push(effect));
            (slept, effects)
        }
    }

    use Effect::{Ask, Became, Drained, Force, Start};

    #[test]
    fn pauses_double_up_to_a_minute_and_are_forgotten_by_who_settles() {
        let mut life = Life::new();
        assert_eq!(
            life.on(Input::Run(1, Terms::alone(Restart::Always))),
            [Became(1, Phase::Running, Because::Asked), Start(1)]
        );
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(
                life.on(Input::Ended(1, 0)),
                [Became(1, Phase::Pausing { code: 0 }, Because::Ended)]
            );
            let (pause, effects) = life.sleep();
            assert_eq!(
                effects,
                [Became(1, Phase::Running, Because::Rested), Start(1)]
            );
            pauses.push(pause);
        }
        assert_eq!(
            pauses,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000
            ]
        );
        life.now += Nanos(SETTLED.0 - 1);
        life.on(Input::Ended(1, 9));
        assert_eq!(life.sleep().0, 60_000);
        life.now += SETTLED;
        life.on(Input::Ended(1, 9));
        assert_eq!(life.sleep().0, 100);
    }

    #[test]
    fn who_is_started_again_depends_on_policy_and_exit_code() {
        for (restart, code, again) in [
            (Restart::Never, 0, false),
            (Restart::Never, 1, false),
            (Restart::OnFailure, 0, false),
            (Restart::OnFailure, 1, true),
            (Restart::Always, 0, true),
            (Restart::Always, 1, true),
        ] {
            let mut life = Life::new();
            life.on(Input::Run(1, Terms::alone(restart)));
            let phase = match again {
                true => Phase::Pausing { code },
                false => Phase::Ended { code: Some(code) },
            };
            assert_eq!(
                life.on(Input::Ended(1, code)),
                [Became(1, phase, Because::Ended)],
                "{restart:?} {code}"
            );
            assert_eq!(life.machine.deadline().is_some(), again);
        }
    }

    #[test]
    fn who_is_to_stop_is_asked_and_then_forced_and_does_not_come_back() {
        let mut life = Life::new();
        life.on(Input::Run(1, Terms::alone(Restart::Always)));
        assert_eq!(
            life.on(Input::Stop(1)),
            [Became(1, Phase::Stopping, Because::Asked), Ask(1)]
        );
        assert_eq!(life.on(Input::Stop(1)), []);
        assert!(!life.machine.forget(1));
        assert_eq!(life.sleep(), (10_000, vec![Force(1)]));
        assert_eq!(life.machine.deadline(), None);
        assert_eq!(
            life.on(Input::Ended(1, 137)),
            [Became(1, Phase::Ended { code: Some(137) }, Because::Ended)]
        );
        assert_eq!(life.machine.deadline(), None);
        assert!(life.machine.forget(1));
        // In a pause there is nobody to ask.
        life.on(Input::Run(2, Terms::alone(Restart::Always)));
        life.on(Input::Ended(2, 3));
        assert_eq!(
            life.on(Input::Stop(2)),
            [Became(2, Phase::Ended { code: Some(3) }, Because::Asked)]
        );
        assert_eq!(life.machine.deadline(), None);
    }

    #[test]
    fn a_drain_ends_with_the_last_process_and_nothing_starts_meanwhile() {
        assert_eq!(Life::new().on(Input::Drain), [Drained]);
        let mut life = Life::new();
        for id in 1..=3 {
            life.on(Input::Run(id, Terms::alone(Restart::Always)));
        }
        life.on(Input::Ended(3, 1));
        let drained = life.on(Input::Drain);
        assert_eq!(
            drained.iter().filter(|effect| **effect == Drained).count(),
            0
        );
        assert!(drained.contains(&Ask(1)) && drained.contains(&Ask(2)));
        assert_eq!(life.on(Input::Run(4, Terms::alone(Restart::Always))), []);
        assert_eq!(
            life.on(Input::Ended(1, 0)),
            [Became(1, Phase::Ended { code: Some(0) }, Because::Ended)]
        );
        assert_eq!(life.on(Input::Ended(2, 0)).last(), Some(&Drained));
        // Nobody but who pauses: that is no process.
        let mut life = Life::new();
        life.on(Input::Run(1, Terms::alone(Restart::Always)));
        life.on(Input::Ended(1, 1));
        assert_eq!(
            life.on(Input::Drain),
            [
                Became(1, Phase::Ended { code: Some(1) }, Because::Drain),
                Drained
            ]
        );
    }

    fn in_group(strategy: Strategy, at_once: Option<u32>) -> Terms {
        let group = Group {
            strategy,
            at_once,
            intensity: Intensity::default(),
        };
        Terms {
            group: Some((0, group)),
            ..Terms::alone(Restart::OnFailure)
        }
    }

    /// Who was started by these effects.
    fn started(effects: &[Effect]) -> Vec<Id> {
        let started = effects.iter().filter_map(|effect| match effect {
            Start(id) => Some(*id),
            _ => None,
        });
        started.collect()
    }

    #[test]
    fn all_for_one_ends_the_others_and_starts_them_together_when_the_last_has_ended() {
        let mut life = Life::new();
        for id in 1..=4 {
            life.on(Input::Run(id, in_group(Strategy::AllForOne, None)));
        }
        life.on(Input::Ended(4, 0));
        let fell = life.on(Input::Ended(2, 9));
        let stopping = |id| Became(id, Phase::Stopping, Because::Fell(2));
        assert_eq!(
            fell,
            [
                Became(2, Phase::Pausing { code: 9 }, Because::Ended),
                stopping(1),
                Ask(1),
                stopping(3),
                Ask(3)
            ]
        );
        // Nobody rises before the last has ended, and who ended by itself stays so.
        let pausing = Became(3, Phase::Pausing { code: 143 }, Because::Fell(2));
        assert_eq!(life.on(Input::Ended(3, 143)), [pausing]);
        assert_eq!(life.sleep(), (10_000, vec![Force(1)]));
        life.on(Input::Ended(1, 137));
        let (slept, rose) = life.sleep();
        assert_eq!((slept, started(&rose)), (0, vec![1, 2, 3]));
        assert_eq!(life.machine.phase(4), Some(Phase::Ended { code: Some(0) }));
        // Who is stopped while its group falls does not come back with it.
        life.on(Input::Ended(1, 1));
        life.on(Input::Stop(2));
        for id in [2, 3] {
            life.on(Input::Ended(id, 143));
        }
        assert_eq!(started(&life.sleep().1), [1, 3]);
    }

    #[test]
    fn one_for_one_leaves_the_others_alone() {
        let mut life = Life::new();
        for id in 1..=2 {
            life.on(Input::Run(id, in_group(Strategy::OneForOne, None)));
        }
        let pausing = Became(1, Phase::Pausing { code: 1 }, Because::Ended);
        assert_eq!(life.on(Input::Ended(1, 1)), [pausing]);
        assert_eq!(started(&life.sleep().1), [1]);
    }

    #[test]
    fn who_fails_too_often_ends_its_group_and_who_fails_seldom_does_not() {
        for strategy in [Strategy::OneForOne, Strategy::AllForOne] {
            let mut life = Life::new();
            for id in 1..=2 {
                life.on(Input::Run(id, in_group(strategy, None)));
            }
            for _ in 0..5 {
                life.on(Input::Ended(1, 1));
                if strategy == Strategy::AllForOne {
                    life.on(Input::Ended(2, 143));
                }
                assert!(started(&life.sleep().1).contains(&1), "{strategy:?}");
            }
            let because = Because::TooOften(1);
            assert_eq!(
                life.on(Input::Ended(1, 1)),
                [
                    Became(1, Phase::Ended { code: Some(1) }, because),
                    Became(2, Phase::Stopping, because),
                    Ask(2)
                ]
            );
            life.on(Input::Ended(2, 143));
            assert_eq!(life.machine.deadline(), None, "nobody is started again");
            let mut life = Life::new();
            life.on(Input::Run(1, in_group(strategy, None)));
            for _ in 0..50 {
                life.now += Nanos::from_millis(2_000);
                life.on(Input::Ended(1, 1));
                assert_eq!(started(&life.sleep().1), [1]);
            }
        }
    }

    #[test]
    fn no_more_of_a_group_run_at_a_time_than_it_says_and_others_follow_in_order() {
        let mut life = Life::new();
        let terms = in_group(Strategy::OneForOne, Some(2));
        for id in 1..=5 {
            life.on(Input::Run(id, terms));
        }
        assert_eq!(life.machine.phase(3), Some(Phase::Waiting));
        assert_eq!(started(&life.on(Input::Ended(2, 0))), [3]);
        assert_eq!(started(&life.on(Input::Ended(1, 1))), [4]);
        // Its pause is over and its place taken.
        let waits = Became(1, Phase::Waiting, Because::Full);
        assert_eq!(life.sleep().1, [waits]);
        assert_eq!(
            life.on(Input::Stop(5)),
            [Became(5, Phase::Ended { code: None }, Because::Asked)]
        );
        assert_eq!(started(&life.on(Input::Ended(4, 0))), [1]);
    }

    #[test]
    fn a_deadline_ends_who_runs_and_who_pauses_and_nobody_else() {
        let by = Instant(0) + Nanos::from_secs(5);
        let terms = Terms {
            deadline: Some(by),
            ..Terms::alone(Restart::Always)
        };
        let mut life = Life::new();
        life.on(Input::Run(1, terms));
        let late = [Became(1, Phase::Stopping, Because::Late), Ask(1)];
        assert_eq!(life.sleep(), (5_000, late.to_vec()));
        let ended = Became(1, Phase::Ended { code: Some(143) }, Because::Ended);
        assert_eq!(life.on(Input::Ended(1, 143)), [ended]);
        let mut life = Life::new();
        life.on(Input::Run(1, terms));
        life.now = by;
        life.on(Input::Ended(1, 7));
        let late = Became(1, Phase::Ended { code: Some(7) }, Because::Late);
        assert_eq!(life.sleep(), (0, vec![late]));
        assert_eq!(life.machine.deadline(), None);
    }
}
