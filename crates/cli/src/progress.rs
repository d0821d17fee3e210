//! How far a rehearsal is: a bar on a terminal, now and then a line elsewhere.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant as Wall};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wire::Instant;

/// What a rehearsal tells about itself while it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Where its time stands.
    pub(crate) now: Instant,
    /// Where its time ends.
    pub(crate) end: Instant,
    /// How many events it has handled.
    pub(crate) events: u64,
}

/// Shows it on standard error.
#[derive(Debug)]
pub(crate) struct Display {
    look: Look,
    started: Wall,
    shown: Wall,
}

#[derive(Debug)]
enum Look {
    Bar(ProgressBar),
    Lines,
    Nothing,
}

impl Look {
    /// How long one picture stands before the next.
    const fn patience(&self) -> Duration {
        match self {
            Self::Bar(_) => Duration::from_millis(100),
            // Enough to see that it lives, few enough for a log.
            Self::Lines => Duration::from_secs(10),
            Self::Nothing => Duration::MAX,
        }
    }
}

impl Display {
    pub(crate) fn new(quiet: bool) -> Self {
        let look = if quiet {
            Look::Nothing
        } else if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("[{bar:20}] {msg}");
            bar.set_style(style.expect("the template is right").progress_chars("=> "));
            Look::Bar(bar)
        } else {
            Look::Lines
        };
        let started = wall();
        Self {
            look,
            started,
            shown: started,
        }
    }

    /// May be called as often as one likes; shows only what an eye can follow.
    pub(crate) fn update(&mut self, progress: Progress) {
        let now = wall();
        if now.duration_since(self.shown) < self.look.patience() {
            return;
        }
        self.shown = now;
        let line = describe(progress, now.duration_since(self.started));
        match &self.look {
            Look::Bar(bar) => {
                bar.set_length(progress.end.0);
                bar.set_position(progress.now.0);
                bar.set_message(line);
            }
            Look::Lines => anstream::eprintln!("{line}"),
            Look::Nothing => {}
        }
    }

    /// Takes the bar off the terminal, to make room for the result.
    pub(crate) fn finish(self) {
        if let Look::Bar(bar) = self.look {
            bar.finish_and_clear();
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a person has waited is a question for the wall clock"
)]
fn wall() -> Wall {
    Wall::now()
}

/// `25 %, t+2.5 d of 10 d, 1.2 M events/s, 30 s left`.
fn describe(progress: Progress, elapsed: Duration) -> String {
    let Progress { now, end, events } = progress;
    let done = if end.0 == 0 {
        1.0
    } else {
        (now.0 as f64 / end.0 as f64).min(1.0)
    };
    let seconds = elapsed.as_secs_f64();
    let rate = if seconds > 0.0 {
        events as f64 / seconds
    } else {
        0.0
    };
    let mut text = format!(
        "{:.0} %, {now} of {}, {} events/s",
        // 100 % is only for what is done.
        (done * 100.0).floor(),
        end.since(Instant::EPOCH),
        thousands(rate)
    );
    // Before a hundredth is done, an estimate would mostly be wrong.
    if (0.01..1.0).contains(&done) {
        let left = wire::Nanos::from_secs_f64((seconds * (1.0 - done) / done).ceil());
        text.push_str(&format!(", {left} left"));
    }
    text
}

/// Three digits and a letter: `1.23 M`.
fn thousands(n: f64) -> String {
    let (n, letter) = match n {
        n if n >= 1e9 => (n / 1e9, " G"),
        n if n >= 1e6 => (n / 1e6, " M"),
        n if n >= 1e3 => (n / 1e3, " k"),
        n => (n, ""),
    };
    let digits = match n {
        n if n >= 100.0 || letter.is_empty() => 0,
        n if n >= 10.0 => 1,
        _ => 2,
    };
    format!("{n:.digits$}{letter}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Nanos;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long_still() {
        let at = |now: Nanos, events| Progress {
            now: Instant::EPOCH + now,
            end: Instant::EPOCH + Nanos::DAY * 10,
            events,
        };
        for (progress, seconds, line) in [
            (
                at(Nanos::HOUR * 60, 12_340_000),
                10,
                "25 %, t+2.5 d of 10 d, 1.23 M events/s, 30 s left",
            ),
            (at(Nanos::ZERO, 0), 0, "0 %, t+0 ns of 10 d, 0 events/s"),
            (
                at(Nanos::DAY * 10 + Nanos::SECOND, 45_600),
                1,
                "100 %, t+10 d of 10 d, 45.6 k events/s",
            ),
            (
                at(Nanos::DAY * 10 - Nanos(1), 999),
                1,
                "99 %, t+10 d of 10 d, 999 events/s, 1 s left",
            ),
        ] {
            assert_eq!(describe(progress, Duration::from_secs(seconds)), line);
        }
    }
}
