//! How are amounts, times and funnels told to people?
//!
//! What a [site](crate::site::words) and a [fleet](crate::fleet::words) both say, so that a rehearsal, a live node and a page say
//! the same thing in the same words.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::{Instant, Nanos};

use crate::evidence::{Funnel, Test};

/// A time in the two largest units that matter: `3 d 4 h`, `2 min`, `0.5 s`.
#[must_use]
pub fn span(time: Nanos) -> String {
    if time < Nanos::SECOND * 10 {
        let tenths = (time.0 + Nanos::SECOND.0 / 20) / (Nanos::SECOND.0 / 10);
        return match (tenths / 10, tenths % 10) {
            (whole, 0) => format!("{whole} s"),
            (whole, tenth) => format!("{whole}.{tenth} s"),
        };
    }
    let units = [
        (Nanos::DAY, Nanos::HOUR, "d", "h"),
        (Nanos::HOUR, Nanos::MINUTE, "h", "min"),
        (Nanos::MINUTE, Nanos::SECOND, "min", "s"),
        (Nanos::SECOND, Nanos::SECOND, "s", ""),
    ];
    let (large, small, name, of_it) = (units.into_iter())
        .find(|(large, ..)| time >= *large)
        .unwrap_or(units[3]);
    let rounded = (time.0 + small.0 / 2) / small.0 * small.0;
    let (whole, rest) = (rounded / large.0, rounded % large.0 / small.0);
    match rest {
        0 => format!("{whole} {name}"),
        _ => format!("{whole} {name} {rest} {of_it}"),
    }
}

/// A moment of a run: the time since its beginning.
#[must_use]
pub fn moment(at: Instant) -> String {
    span(at.since(Instant::EPOCH))
}

/// Thousandths of a GPU as GPUs: `8`, `0.25`.
#[must_use]
pub fn gpus(milli: u64) -> String {
    thousandths(milli)
}

/// Thousandths of a CPU or GPU as whole ones: `8`, `0.25`.
pub(crate) fn thousandths(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1_000, milli % 1_000);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_string()
}

/// `512 MiB`, `1.5 GiB`.
pub(crate) fn memory(mib: u64) -> String {
    match mib {
        mib if mib >= 1_024 => format!("{} GiB", thousandths(mib * 1_000 / 1_024)),
        mib => format!("{mib} MiB"),
    }
}

/// `1 job`, `2 jobs`.
#[must_use]
pub fn count(n: u64, one: &str) -> String {
    match n {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    }
}

/// What amounts are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Thousandths of a GPU.
    Gpu,
    /// Thousandths of a CPU.
    Cpu,
    /// MiB.
    Memory,
}

impl Unit {
    pub(crate) const ALL: [Self; 3] = [Self::Gpu, Self::Cpu, Self::Memory];

    pub(crate) fn tell(self, amount: u64) -> String {
        match (self, amount) {
            (Self::Gpu, 1_000) => "1 GPU".to_string(),
            (Self::Gpu, milli) => format!("{} GPUs", thousandths(milli)),
            (Self::Cpu, 1_000) => "1 CPU".to_string(),
            (Self::Cpu, milli) => format!("{} CPUs", thousandths(milli)),
            (Self::Memory, mib) => memory(mib),
        }
    }

    /// What to ask for instead: `with 2 instead of 4 CPUs`.
    pub(crate) fn instead(self, less: u64, asked: u64) -> String {
        let less = match self {
            Self::Gpu | Self::Cpu => thousandths(less),
            Self::Memory => memory(less),
        };
        format!("with {less} instead of {}", self.tell(asked))
    }
}

/// The nodes, test by test: what fell and what was left.
#[must_use]
pub fn funnel(funnel: &Funnel) -> Vec<(Test, u32, u32)> {
    let all = Test::ALL.into_iter();
    let told = all.filter(|test| funnel.fell[*test as usize] > 0);
    told.map(|test| (test, funnel.fell[test as usize], funnel.left_after(test)))
        .collect()
}

/// What nodes are tested for, as it is called.
#[derive(Clone, Copy)]
pub(crate) enum Seeker<'a> {
    /// It looks for a place now.
    Waits(&'a str),
    /// It found one, when they were tested.
    Placed(&'a str),
}

/// So many of those that fell to a test are named to people; a program is told all.
const NAMED_MAX: usize = 3;

/// The first of them: `ada, ben, cleo, …`.
pub(crate) fn first_of(names: impl Iterator<Item = String>) -> String {
    let mut names = names.fuse();
    let mut told: Vec<String> = names.by_ref().take(NAMED_MAX).collect();
    if names.next().is_some() {
        told.push("…".to_string());
    }
    told.join(", ")
}

/// The same in lines, what is tested being called `noun`s, and what looks for a place, or did, `who`; `named` says who fell, if it is known.
pub(crate) fn funnel_of(
    noun: &str,
    seen: &Funnel,
    who: Seeker<'_>,
    named: impl Fn(Test) -> Option<String>,
) -> String {
    if seen.nodes == 0 {
        return String::new();
    }
    let (who, there, then) = match who {
        Seeker::Waits(who) => (who, "there are", "now"),
        Seeker::Placed(who) => (who, "there were when it was placed", "then"),
    };
    let mut text = format!("  {noun:8} {:>6} {there}\n", seen.nodes);
    for (test, fell, left) in funnel(seen) {
        let named = named(test).map_or_else(String::new, |named| format!(": {named}"));
        text.push_str(&format!(
            "           {:>6} {}, {left} left{named}\n",
            format!("-{fell}"),
            test.name()
        ));
    }
    let left = seen.left();
    if left > 0 {
        text.push_str(&format!("           {left:>6} could take {who} {then}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_when_it_was_placed_is_not_told_of_now() {
        let seen = Funnel {
            nodes: 2,
            ..Funnel::default()
        };
        let told = |who| funnel_of("nodes", &seen, who, |_| None);
        assert_eq!(
            told(Seeker::Waits("it")),
            "  nodes         2 there are\n                2 could take it now\n"
        );
        assert_eq!(
            told(Seeker::Placed("it")),
            "  nodes         2 there were when it was placed\n                2 could take it then\n"
        );
    }

    #[test]
    fn times_are_told_in_two_units() {
        for (time, text) in [
            (Nanos::ZERO, "0 s"),
            (Nanos::MILLISECOND * 1_500, "1.5 s"),
            (Nanos::SECOND * 59, "59 s"),
            (Nanos::SECOND * 125, "2 min 5 s"),
            (Nanos::MINUTE * 61, "1 h 1 min"),
            (Nanos::HOUR * 14, "14 h"),
            (Nanos::HOUR * 76 + Nanos::MINUTE * 20, "3 d 4 h"),
        ] {
            assert_eq!(span(time), text);
        }
    }
}
