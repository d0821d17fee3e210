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
//! Deliberately absent: groups that fall and rise together. Whether a program is [well](crate::health) its warden finds
//! out; one that is not is ended, and what follows is a matter of this machine.

use std::collections::{BTreeMap, BTreeSet};

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

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// This program should run from now on. One that is known already is left as it is, unless it
    /// has ended: then it is started anew.
    Run(Id, Restart),
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
    Became(Id, Phase),
    /// After [`Input::Drain`]: nothing runs any more.
    Drained,
}

/// How a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "phase")]
pub enum Phase {
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

#[derive(Clone, Copy, Debug)]
struct Supervised {
    restart: Restart,
    phase: Phase,
    since: Instant,
    /// The next pause.
    pause: Nanos,
    /// When something is due: the end of a pause, or of the grace.
    due: Option<Instant>,
}

/// The programs of one node, and what should become of them.
#[derive(Clone, Debug, Default)]
pub struct Supervision {
    programs: BTreeMap<Id, Supervised>,
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

    /// Whether it was told to let everything end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Forgets a program that has ended; of others it says `false` and changes nothing.
    pub fn forget(&mut self, id: Id) -> bool {
        let ended = matches!(self.phase(id), Some(Phase::Ended { .. }));
        if ended {
            self.programs.remove(&id);
        }
        ended
    }

    fn become_(
        &mut self,
        now: Instant,
        id: Id,
        phase: Phase,
        due: Option<Instant>,
        out: &mut impl FnMut(Effect),
    ) {
        let alive = |phase| matches!(phase, Phase::Running | Phase::Stopping);
        let program = self
            .programs
            .get_mut(&id)
            .expect("whoever becomes is known");
        match (alive(program.phase), alive(phase)) {
            (false, true) => self.alive += 1,
            (true, false) => self.alive -= 1,
            _ => {}
        }
        if let Some(old) = program.due.take() {
            self.due.remove(&(old, id));
        }
        if let Some(due) = due {
            self.due.insert((due, id));
        }
        (program.phase, program.since, program.due) = (phase, now, due);
        out(Effect::Became(id, phase));
        if self.draining && self.alive == 0 && self.due.is_empty() {
            out(Effect::Drained);
        }
    }

    fn start(&mut self, now: Instant, id: Id, out: &mut impl FnMut(Effect)) {
        self.become_(now, id, Phase::Running, None, out);
        out(Effect::Start(id));
    }

    fn ended(&mut self, now: Instant, id: Id, code: u8, out: &mut impl FnMut(Effect)) {
        let Some(program) = self.programs.get_mut(&id) else {
            return;
        };
        let again = match (program.phase, program.restart) {
            (Phase::Running, Restart::Always) => true,
            (Phase::Running, Restart::OnFailure) => code != 0,
            _ => false,
        };
        if !again || self.draining {
            self.become_(now, id, Phase::Ended { code: Some(code) }, None, out);
            return;
        }
        if now.since(program.since) >= SETTLED {
            program.pause = PAUSE_MIN;
        }
        let until = now + program.pause;
        program.pause = Nanos(program.pause.0.saturating_mul(2)).min(PAUSE_MAX);
        self.become_(now, id, Phase::Pausing { code }, Some(until), out);
    }

    fn stop(&mut self, now: Instant, id: Id, out: &mut impl FnMut(Effect)) {
        match self.phase(id) {
            Some(Phase::Running) => {
                self.become_(now, id, Phase::Stopping, Some(now + GRACE), out);
                out(Effect::Ask(id));
            }
            Some(Phase::Pausing { code }) => {
                self.become_(now, id, Phase::Ended { code: Some(code) }, None, out);
            }
            _ => {}
        }
    }
}

impl Machine for Supervision {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Instant, input: Input, out: &mut impl FnMut(Effect)) {
        match input {
            Input::Run(id, restart) => {
                let rests = self
                    .phase(id)
                    .is_none_or(|phase| matches!(phase, Phase::Ended { .. }));
                if rests && !self.draining {
                    let phase = Phase::Ended { code: None };
                    let (since, pause, due) = (now, PAUSE_MIN, None);
                    let program = Supervised {
                        restart,
                        phase,
                        since,
                        pause,
                        due,
                    };
                    self.programs.insert(id, program);
                    self.start(now, id, out);
                }
            }
            Input::Ended(id, code) => self.ended(now, id, code, out),
            Input::Stop(id) => self.stop(now, id, out),
            Input::Drain => {
                self.draining = true;
                let all: Vec<_> = self.programs.keys().copied().collect();
                let idle = self.alive == 0 && self.due.is_empty();
                all.into_iter().for_each(|id| self.stop(now, id, out));
                if idle {
                    out(Effect::Drained);
                }
            }
        }
    }

    fn wake(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        while let Some((due, id)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            match self.phase(id) {
                Some(Phase::Pausing { .. }) => self.start(now, id, out),
                // Who does not end by force has nothing more to fear.
                _ => {
                    self.due.remove(&(due, id));
                    self.programs.get_mut(&id).expect("who is due is known").due = None;
                    out(Effect::Force(id));
                }
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
            life.on(Input::Run(1, Restart::Always)),
            [Became(1, Phase::Running), Start(1)]
        );
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(
                life.on(Input::Ended(1, 0)),
                [Became(1, Phase::Pausing { code: 0 })]
            );
            let (pause, effects) = life.sleep();
            assert_eq!(effects, [Became(1, Phase::Running), Start(1)]);
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
            life.on(Input::Run(1, restart));
            let phase = match again {
                true => Phase::Pausing { code },
                false => Phase::Ended { code: Some(code) },
            };
            assert_eq!(
                life.on(Input::Ended(1, code)),
                [Became(1, phase)],
                "{restart:?} {code}"
            );
            assert_eq!(life.machine.deadline().is_some(), again);
        }
    }

    #[test]
    fn who_is_to_stop_is_asked_and_then_forced_and_does_not_come_back() {
        let mut life = Life::new();
        life.on(Input::Run(1, Restart::Always));
        assert_eq!(
            life.on(Input::Stop(1)),
            [Became(1, Phase::Stopping), Ask(1)]
        );
        assert_eq!(life.on(Input::Stop(1)), []);
        assert!(!life.machine.forget(1));
        assert_eq!(life.sleep(), (10_000, vec![Force(1)]));
        assert_eq!(life.machine.deadline(), None);
        assert_eq!(
            life.on(Input::Ended(1, 137)),
            [Became(1, Phase::Ended { code: Some(137) })]
        );
        assert_eq!(life.machine.deadline(), None);
        assert!(life.machine.forget(1));
        // In a pause there is nobody to ask.
        life.on(Input::Run(2, Restart::Always));
        life.on(Input::Ended(2, 3));
        assert_eq!(
            life.on(Input::Stop(2)),
            [Became(2, Phase::Ended { code: Some(3) })]
        );
        assert_eq!(life.machine.deadline(), None);
    }

    #[test]
    fn a_drain_ends_with_the_last_process_and_nothing_starts_meanwhile() {
        assert_eq!(Life::new().on(Input::Drain), [Drained]);
        let mut life = Life::new();
        for id in 1..=3 {
            life.on(Input::Run(id, Restart::Always));
        }
        life.on(Input::Ended(3, 1));
        let drained = life.on(Input::Drain);
        assert_eq!(
            drained.iter().filter(|effect| **effect == Drained).count(),
            0
        );
        assert!(drained.contains(&Ask(1)) && drained.contains(&Ask(2)));
        assert_eq!(life.on(Input::Run(4, Restart::Always)), []);
        assert_eq!(
            life.on(Input::Ended(1, 0)),
            [Became(1, Phase::Ended { code: Some(0) })]
        );
        assert_eq!(life.on(Input::Ended(2, 0)).last(), Some(&Drained));
        // Nobody but who pauses: that is no process.
        let mut life = Life::new();
        life.on(Input::Run(1, Restart::Always));
        life.on(Input::Ended(1, 1));
        assert_eq!(
            life.on(Input::Drain),
            [Became(1, Phase::Ended { code: Some(1) }), Drained]
        );
    }
}
