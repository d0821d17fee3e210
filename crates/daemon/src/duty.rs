//! Slowing programs where the kernel deals out no processor time.
//!
//! Without a control group for cpu (a node that is not root's, a host that has none) a hot machine's programs are stopped and let go on in turns
//! (`SIGSTOP` and `SIGCONT`), so that they run for their share of each [`PERIOD`]. What stands below each warden is stopped, and a
//! capsule, which is its own warden. The outer warden of a program never is: it watches a lease, and must be able to end what is stopped.
//!
//! Everything is found anew in each period, parents before their children, so that whoever forks meanwhile is caught in the next at
//! the latest. Looking costs processor time itself; where there is much to look at, periods become longer, so that it stays below a tenth.
//!
//! Whoever had stopped before (a debugger, a person) is left alone, but one that stops *itself* while it is stopped here goes on with the others. A program that asks its parent's
//! kernel for stops of its children (`WUNTRACED`) sees these. Programs in the foreground (`cosmos run`) are not the node's, and are not slowed.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::supervision::Id;

/// In which programs run and stand still: the period in which the kernel deals out time where it does.
pub const PERIOD: Duration = Duration::from_millis(100);

/// Whoever stops programs, on a thread that begins when it is needed.
#[derive(Debug, Default)]
pub struct Duty(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What of each period programs run for; all of it if nobody said anything.
    share: Option<f64>,
    wards: BTreeMap<Id, Ward>,
    begun: bool,
    ended: bool,
}

/// What is to be stopped.
#[derive(Clone, Copy, Debug)]
pub struct Ward {
    /// Its warden.
    pub warden: Pid,
    /// Whether that is the program itself.
    pub itself: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Duty {
    /// A program has been started.
    pub fn add(&self, id: Id, ward: Ward) {
        self.0.state().wards.insert(id, ward);
        self.0.changed.notify_all();
    }

    /// It has ended.
    pub fn remove(&self, id: Id) {
        self.0.state().wards.remove(&id);
    }

    /// From now on programs run for this share of the time.
    pub fn allow(&self, share: f64) {
        let mut state = self.0.state();
        state.share = (share < 1.0).then_some(share);
        if state.share.is_some() && !state.begun {
            let shared = Arc::clone(&self.0);
            let thread = thread::Builder::new().name("duty".into());
            state.begun = match thread.spawn(move || shared.keep()) {
                Ok(_) => true,
                Err(error) => {
                    eprintln!(
                        "warning: the machine is hot and nothing slows its programs: {error}"
                    );
                    false
                }
            };
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn keep(&self) {
        loop {
            let mut state = self.state();
            while !state.ended && (state.share.is_none() || state.wards.is_empty()) {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.ended {
                return;
            }
            let share = state.share.unwrap_or(1.0);
            let wards: Vec<_> = state.wards.values().copied().collect();
            drop(state);
            let begun = clock();
            let stopped = Stopped::of(&wards);
            let period = PERIOD.max((clock() - begun) * 10);
            self.pause(period.mul_f64(1.0 - share));
            drop(stopped);
            self.pause(period.mul_f64(share));
        }
    }

    /// Waits for so long, or until something changes about how much programs are given.
    fn pause(&self, span: Duration) {
        let state = self.state();
        let (share, until) = (state.share, clock() + span);
        let same = |state: &mut State| !state.ended && state.share == share;
        let left = until.saturating_duration_since(clock());
        let waited = self.changed.wait_timeout_while(state, left, same);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Processes that go on when this is dropped.
struct Stopped(Vec<Pid>);

impl Stopped {
    fn of(wards: &[Ward]) -> Self {
        let mut stopped = Vec::new();
        for ward in wards {
            // The number of one that has ended is another's in the worst case: that is not this process's child.
            if parent_and_state(ward.warden).map(|(parent, _)| parent) != Some(own()) {
                continue;
            }
            let mut left = match ward.itself {
                true => vec![ward.warden],
                false => children(ward.warden),
            };
            while let Some(process) = left.pop() {
                // A number is given to another process only after all others were: not within the microseconds since it was read.
                if let Some((_, 'R' | 'S' | 'D' | 'I')) = parent_and_state(process)
                    && rustix::process::kill_process(process, Signal::STOP).is_ok()
                {
                    stopped.push(process);
                }
                left.extend(children(process));
            }
        }
        Self(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Children first: a parent that waits for them finds them running.
        for process in self.0.iter().rev() {
            let _ = rustix::process::kill_process(*process, Signal::CONT);
        }
    }
}

fn own() -> i32 {
    rustix::process::getpid().as_raw_pid()
}

fn parent_and_state(process: Pid) -> Option<(i32, char)> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_pid())).ok()?;
    // Behind the name, which may hold anything: state, then parent.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

fn children(process: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{}/task", process.as_raw_pid()));
    let threads = threads.into_iter().flatten().flatten();
    let told = threads
        .map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    let numbers = told.flat_map(|told| {
        let numbers = told.split_whitespace().map(|number| number.parse().ok());
        numbers.collect::<Vec<_>>()
    });
    numbers.flatten().filter_map(Pid::from_raw).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "programs run by the host's clock"
)]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A shell that stands over another, as a warden does over its program.
    fn pair() -> (Child, Ward) {
        let mut child = Command::new("sh")
            .args(["-c", "sh -c 'sleep 1000 & echo up; wait' & wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.as_mut().unwrap());
        said.read_line(&mut line).unwrap();
        let warden = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        let itself = false;
        (child, Ward { warden, itself })
    }

    fn states(ward: Ward) -> (char, Vec<char>) {
        let state = |process| parent_and_state(process).unwrap().1;
        let mut below = children(ward.warden);
        below.extend(children(below[0]));
        (state(ward.warden), below.into_iter().map(state).collect())
    }

    #[test]
    fn what_stands_below_a_warden_is_stopped_and_goes_on_and_the_warden_never_stops() {
        let (mut child, ward) = pair();
        let stopped = Stopped::of(&[ward]);
        let expected = |state| move || states(ward) == ('S', vec![state, state]);
        // A signal takes its time to arrive.
        let wait = |so: &dyn Fn() -> bool| {
            for _ in 0..500 {
                if so() {
                    return;
                }
                thread::park_timeout(Duration::from_millis(10));
            }
            panic!("{:?}", states(ward));
        };
        wait(&expected('T'));
        // Who stands still already is not ours to wake.
        let again = Stopped::of(&[ward]);
        assert!(again.0.is_empty());
        drop(again);
        assert!(expected('T')());
        drop(stopped);
        wait(&expected('S'));
        let itself = Stopped::of(&[Ward {
            itself: true,
            ..ward
        }]);
        assert_eq!(itself.0.len(), 3);
        drop(itself);
        for process in children(ward.warden) {
            let below = children(process);
            for process in below.into_iter().chain([process]) {
                // It may have ended with the one before.
                let _ = rustix::process::kill_process(process, Signal::KILL);
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            Stopped::of(&[ward]).0.is_empty(),
            "nobody is there any more"
        );
    }
}
