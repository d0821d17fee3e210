//! The contract of `machine`, as far as any machine can be held to it from outside.

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use machine::Machine;
use wire::{Instant, Nanos};

/// How long until the next thing happens: from nothing to weeks, most often about as long as the
/// timers of a protocol.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub enum Pause {
    /// Time stands still.
    None,
    /// Up to four seconds.
    Short(u16),
    /// Up to 18 hours.
    Long(u16),
    /// Until it wants to be woken.
    Deadline,
}

/// A machine, the time, and the rules.
pub struct Rig<M: Machine> {
    /// What is driven.
    pub machine: M,
    /// Now.
    pub now: Instant,
    /// The most effects one call may have.
    pub effects_max: usize,
    /// Wakes that a machine may take to answer what has become due at one instant.
    pub wakes_max: u32,
}

impl<M: Machine> Rig<M> {
    /// Lets time pass; a deadline on the way is answered late or in time, as the world pleases.
    ///
    /// # Panics
    /// If a deadline that has come does not go away by being answered.
    pub fn pass(&mut self, pause: Pause, punctual: bool, mut seen: impl FnMut(&M, M::Effect)) {
        let until = match pause {
            Pause::None => self.now,
            Pause::Short(x) => self.now + Nanos(u64::from(x) * 61_000),
            Pause::Long(s) => self.now + Nanos::from_secs(s.into()),
            Pause::Deadline => self.machine.deadline().unwrap_or(self.now).max(self.now),
        };
        if !punctual {
            self.now = until;
        }
        let (mut at, mut wakes) = (None, 0);
        // A bound on the whole, so that 18 hours of probes do not take one.
        for _ in 0..1_000 {
            let Some(due) = self.machine.deadline().filter(|&due| due <= until) else {
                break;
            };
            self.now = self.now.max(due);
            let now = self.now;
            wakes = if at == Some(now) { wakes + 1 } else { 1 };
            at = Some(now);
            assert!(wakes <= self.wakes_max, "time stands still at {now}");
            self.call(|machine, out| machine.wake(now, &mut |e| out(e)), &mut seen);
        }
        self.now = self.now.max(until);
    }

    /// Hands an input over.
    pub fn give(&mut self, input: M::Input, mut seen: impl FnMut(&M, M::Effect)) {
        let now = self.now;
        self.call(
            |machine, out| machine.handle(now, input, &mut |e| out(e)),
            &mut seen,
        );
    }

    fn call(
        &mut self,
        act: impl FnOnce(&mut M, &mut dyn FnMut(M::Effect)),
        seen: &mut impl FnMut(&M, M::Effect),
    ) {
        let mut effects = Vec::new();
        act(&mut self.machine, &mut |effect| effects.push(effect));
        assert!(
            effects.len() <= self.effects_max,
            "{} effects of one call",
            effects.len()
        );
        for effect in effects {
            seen(&self.machine, effect);
        }
    }
}
