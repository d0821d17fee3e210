//! A change of a program as a decision: in the words of the vocabulary, and in a sentence for people.
//!
//! Supervision says what became of a program and because of what ([`Because`]); this says it so that it can be kept
//! and asked for. Nothing is decided here.

use telemetry::{Action, Reason};

use crate::health;
use crate::history::Draft;
use crate::store::Record;
use crate::supervision::{Because, Phase};

/// A change, and what there is to know about it.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub(crate) phase: Phase,
    pub(crate) because: Because,
    pub(crate) record: &'a Record,
    /// Whether the fleet has it run here.
    pub(crate) shared: bool,
    /// What became of its lease, of what ran under one that is over.
    pub(crate) lapsed: Option<&'a str>,
    /// Why it was asked to end, if it was.
    pub(crate) stopped: Option<Reason>,
    /// The other program that it is because of, and the last decision about that.
    pub(crate) other: Option<(&'a str, Option<u64>)>,
    /// The last decision about the program itself.
    pub(crate) own: Option<u64>,
    /// The decision that the node goes on, or ends.
    pub(crate) turned: Option<u64>,
    /// In how many seconds it is started again.
    pub(crate) pause: Option<f64>,
    /// The share of the processor that programs are given.
    pub(crate) clock: f64,
}

impl Change<'_> {
    /// The decision; its sentence speaks of "it".
    pub(crate) fn decision(&self) -> (Draft, String) {
        let (reason, why, cause) = self.because();
        match self.phase {
            Phase::Waiting => {
                let draft = Draft::new(Action::Queue, reason).because_of(cause);
                (draft, format!("it waits: {why}"))
            }
            Phase::Running => {
                let start = self.record.fate.starts + 1;
                let slowed = match self.clock < 1.0 {
                    true => format!(
                        "; programs get {:.0} % of the processor",
                        self.clock * 100.0
                    ),
                    false => String::new(),
                };
                let draft = Draft::new(Action::Start, reason).found(start as f64);
                let said = format!("it was started (start {start}): {why}{slowed}");
                (draft.because_of(cause), said)
            }
            Phase::Pausing { code } => {
                let when = match (self.pause, self.because) {
                    (Some(pause), Because::Ended) => format!("after a pause of {pause:.1} s"),
                    _ => format!("together with {}", self.group()),
                };
                let draft = Draft::new(Action::Restart, reason).found(f64::from(code));
                let said = format!("it is started again {when}: {why}");
                (draft.because_of(cause), said)
            }
            Phase::Stopping => {
                let draft = Draft::new(Action::Stop, reason).because_of(cause);
                (draft, format!("it was asked to end: {why}"))
            }
            Phase::Ended { code } => {
                let draft = Draft::new(Action::End, reason).because_of(cause);
                match code {
                    None => (draft, format!("it stays ended and never ran: {why}")),
                    Some(code) => {
                        let draft = draft.found(f64::from(code));
                        (draft, format!("it stays ended: {why}"))
                    }
                }
            }
        }
    }

    fn group(&self) -> &str {
        let group = self.record.group.as_ref();
        group.map_or("its group", |group| group.name.as_str())
    }

    /// The reason, in words, and the decision behind it.
    fn because(&self) -> (Reason, String, Option<u64>) {
        let group = self.group();
        let (other, others) = self.other.unwrap_or(("it", self.own));
        let say = |reason, why: &str, cause| (reason, why.to_owned(), cause);
        if let Some(lapsed) = self.lapsed {
            let why = format!("its lease here has {lapsed}");
            return (Reason::Term, why, self.own);
        }
        match self.because {
            Because::Asked if self.shared => {
                let why = match self.phase {
                    Phase::Running | Phase::Waiting => "the fleet placed it here",
                    _ => "the fleet has it run here no more",
                };
                say(Reason::Asked, why, None)
            }
            Because::Asked => match (self.phase, self.turned) {
                (Phase::Running | Phase::Waiting, Some(_)) => {
                    let why = "the node started, and it was to run when that ended";
                    say(Reason::Resumed, why, self.turned)
                }
                _ => say(Reason::Asked, "somebody asked for it", None),
            },
            Because::Full => {
                let why = format!("as many of {group} run as may at a time");
                (Reason::GroupFull, why, self.own)
            }
            Because::Turn => (Reason::Turn, format!("{group} had room for it"), self.own),
            Because::Rested => say(Reason::Rested, "its pause was over", self.own),
            Because::Fell(_) => {
                let why = format!("{other} failed, and {group} falls and rises together");
                (Reason::GroupFell, why, others)
            }
            Because::TooOften(_) => {
                let why = format!("{other} failed too often, and {group} was given up");
                (Reason::TooOften, why, others)
            }
            Because::Late => say(Reason::Late, "its deadline passed", self.own),
            Because::Drain => say(Reason::Draining, "the node ends", self.turned),
            Because::Ended => self.ended(),
        }
    }

    fn ended(&self) -> (Reason, String, Option<u64>) {
        let (Phase::Pausing { code } | Phase::Ended { code: Some(code) }) = self.phase else {
            return (Reason::Failed, "it ended".to_owned(), self.own);
        };
        let fate = &self.record.fate;
        let (reason, why) = match (self.stopped, code) {
            (Some(reason), _) => (reason, format!("it ended with {code}, as it was asked to")),
            (None, _) if fate.out_of_memory => {
                let why = format!("it ended with {code}, its memory used up");
                (Reason::MemoryUsed, why)
            }
            (None, health::UNWELL) if self.record.program.health.is_some() => (
                Reason::Unwell,
                "it failed its health check and was ended".to_owned(),
            ),
            (None, 0) => (Reason::Finished, "it ended with 0".to_owned()),
            (None, 129..=192) => {
                let signal = code - 128;
                let why = format!("it ended with {code}, by signal {signal}");
                (Reason::Failed, why)
            }
            (None, _) => (Reason::Failed, format!("it ended with {code}")),
        };
        (reason, why, self.own)
    }
}
