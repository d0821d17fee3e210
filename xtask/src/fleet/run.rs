//! Doing what a plan says, and writing down what comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::hosts::{self, Switch, Weather, name};
use super::load::{self, Load};
use super::plan::{Plan, What};
use super::relay::{self, Delays};
use super::{Asked, place};

/// What the twin reads: `twin::fleet::History`.
#[derive(Default, Serialize)]
struct History {
    struck: Vec<Struck>,
    changes: Vec<Change>,
    leases: Vec<Leases>,
    began_boottime_ns: u64,
    requests: Vec<load::Asked>,
}

/// What a daemon wrote down, and when it was killed, by the clock since boot.
#[derive(Default, Serialize)]
struct Leases {
    text: String,
    deaths_ns: Vec<u64>,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Struck {
    at_ns: u64,
    until_ns: Option<u64>,
}

#[derive(Serialize)]
struct Change {
    at_ns: u64,
    observer: u32,
    subject: u32,
    state: String,
}

/// What `cosmos members --json` says, as far as it is needed.
#[derive(Deserialize)]
struct Members {
    members: Vec<Member>,
}

#[derive(Clone, Deserialize, PartialEq)]
struct Member {
    name: String,
    state: String,
    since_ms: u64,
}

/// How often each daemon is asked. When a belief changed it says itself, to the millisecond; what lasts no longer than this
/// may not be seen.
const ROUND: Duration = Duration::from_millis(500);
/// How long the hosts may take to find each other.
const GATHERING: Duration = Duration::from_secs(60);
/// They are left alone for as long before anything befalls them.
const SETTLING: Duration = Duration::from_secs(5);

#[expect(clippy::disallowed_methods, reason = "real hosts live by the clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "daemons say since when by the wall clock"
)]
fn unix() -> Duration {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "real hosts are waited for")]
pub(super) fn pause(span: Duration) {
    std::thread::sleep(span);
}

fn since_boot_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanos = now.tv_sec as u64 * 1_000_000_000;
    nanos + now.tv_nsec as u64
}

/// One thing to do at one time.
#[derive(Clone, Copy)]
struct Act {
    at: Duration,
    blow: usize,
    over: bool,
}

/// Builds the hosts, does what the plan says, and leaves the history.
pub(super) fn run(asked: &Asked) -> Result<()> {
    let cosmos = asked.cosmos.clone().context("--cosmos")?;
    let out = asked.out.clone().context("--out")?;
    let plan = Plan::read(&cosmos, &asked.scenario, asked.hosts)?;
    let (mut switch, plan, delays) = assemble(plan, &cosmos, &out)?;
    let mut stage = Stage::begin(&switch, &plan, delays);
    stage.play(&mut switch, &plan)?;
    let history = stage.end(&switch)?;
    let text = serde_json::to_string(&history)?;
    fs::write(out.join("history.json"), text).context("writing history.json")
}

/// Builds the hosts of a plan, starts their daemons, and returns when all hold all alive.
pub(super) fn assemble(plan: Plan, cosmos: &Path, out: &Path) -> Result<(Switch, Plan, Delays)> {
    ensure!(
        std::process::id() == 1,
        "--within is for the program itself"
    );
    hide_cgroups();
    let place = place();
    mount(&place)?;
    let (mut switch, plan) = Switch::build(plan, &place, out, cosmos)?;
    let delays = far(&plan)?;
    gather(&mut switch, &plan)?;
    eprintln!("{} hosts hold each other alive", plan.hosts);
    hand_over(&mut switch, &plan, &out.join("xtask"))?;
    pause(SETTLING);
    Ok((switch, plan, delays))
}

fn mount(at: &Path) -> Result<()> {
    let mut mount = Command::new("mount");
    let said = mount.args(["-t", "tmpfs", "tmpfs"]).arg(at).output()?;
    ensure!(
        said.status.success(),
        "mount: {}",
        String::from_utf8_lossy(&said.stderr)
    );
    Ok(())
}

/// Groups outlive the processes in them, so the daemons see none.
fn hide_cgroups() {
    let at = Path::new("/sys/fs/cgroup");
    if at.is_dir() {
        // Where it cannot be hidden, an empty group may stay.
        let _ = mount(at);
    }
}

/// Begins the relay, if any host is ever far from another.
fn far(plan: &Plan) -> Result<Delays> {
    let pairs = (0..plan.hosts).flat_map(|one| (0..plan.hosts).map(move |other| (one, other)));
    let pairs: Vec<_> = pairs
        .filter(|&(one, other)| one != other && plan.lags(one, other))
        .collect();
    let base = Duration::from_nanos(plan.links.delay_ns);
    let delays = Arc::new(Mutex::new(pairs.iter().map(|pair| (*pair, base)).collect()));
    if !pairs.is_empty() {
        relay::begin(&pairs, Arc::clone(&delays))?;
    }
    Ok(delays)
}

/// Starts every daemon, and waits until all hold all alive.
fn gather(switch: &mut Switch, plan: &Plan) -> Result<()> {
    switch.host(0).up(None)?;
    for number in 1..plan.hosts {
        let invitation = switch.host(0).ask(&["invite"])?;
        switch.host(number).up(Some(&invitation))?;
        eprintln!("{} is up", name(number));
    }
    let until = now() + GATHERING;
    loop {
        let all_hold_all = switch.hosts().all(|host| {
            members(&host.cosmos()).is_ok_and(|members| {
                members.len() == plan.hosts as usize
                    && members.iter().all(|member| member.state == "alive")
            })
        });
        if all_hold_all {
            return Ok(());
        }
        if now() > until {
            bail!(
                "the hosts did not find each other within {} s",
                GATHERING.as_secs()
            );
        }
        pause(Duration::from_millis(100));
    }
}

/// What `cosmos members --leases --json` says, as far as it is needed.
#[derive(Deserialize)]
struct Leased {
    affairs: Affairs,
}

#[derive(Deserialize)]
struct Affairs {
    programs: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    standing: Vec<Replica>,
}

#[derive(Deserialize)]
struct Replica {
    state: String,
}

/// Gives the fleet its programs, and waits until every replica runs.
fn hand_over(switch: &mut Switch, plan: &Plan, this: &Path) -> Result<()> {
    let until = now() + GATHERING;
    for program in &plan.programs {
        let replicas = program.replicas.to_string();
        let mut words = vec!["run", "--detach", "--restart", "always"];
        words.extend(["--replicas", &replicas, "--name", &program.name]);
        let port = format!("0.0.0.0:{0}:{0}", load::PORT);
        let command = match program.takes_ns {
            Some(takes_ns) => {
                words.extend(["--port", &port]);
                let takes_ms = (takes_ns / 1_000_000).to_string();
                let this = this.display().to_string();
                let words = [&this, "fleet", "--answer", &takes_ms];
                words.map(str::to_owned).to_vec()
            }
            None => program.command.clone(),
        };
        loop {
            // Who votes is still being agreed.
            match switch.host(0).run(&words, &command) {
                Ok(()) => break,
                Err(error) if now() > until => return Err(error),
                Err(_) => pause(Duration::from_millis(500)),
            }
        }
    }
    let wanted: u32 = plan.programs.iter().map(|program| program.replicas).sum();
    if wanted == 0 {
        return Ok(());
    }
    loop {
        let said = switch.host(0).ask(&["members", "--leases", "--json"]);
        let leased = said.map(|said| serde_json::from_str::<Leased>(&said));
        let programs = leased
            .ok()
            .and_then(Result::ok)
            .map_or(Vec::new(), |leased| leased.affairs.programs);
        let standing = programs.iter().flat_map(|program| &program.standing);
        let running = standing
            .filter(|replica| replica.state == "running")
            .count();
        if running == wanted as usize {
            eprintln!("{running} replicas run");
            return Ok(());
        }
        ensure!(
            now() < until,
            "of {wanted} replicas {running} run after {} s",
            GATHERING.as_secs()
        );
        pause(Duration::from_millis(200));
    }
}

fn members((cosmos, data): &(PathBuf, PathBuf)) -> Result<Vec<Member>> {
    let said = hosts::ask(cosmos, data, &["members", "--json"])?;
    let said: Members = serde_json::from_str(&said)?;
    Ok(said.members)
}

/// What goes on while the plan is played.
struct Stage {
    began: Instant,
    began_boottime_ns: u64,
    struck: Vec<Struck>,
    seen: Arc<Seen>,
    watchers: Vec<std::thread::JoinHandle<()>>,
    delays: Delays,
    deaths_ns: Vec<Vec<u64>>,
    load: Option<Load>,
}

/// What the watchers share.
struct Seen {
    changes: Mutex<Vec<Change>>,
    /// Which daemons can be asked.
    up: Vec<AtomicBool>,
    over: AtomicBool,
}

impl Stage {
    fn begin(switch: &Switch, plan: &Plan, delays: Delays) -> Self {
        let (began, began_unix, began_boottime_ns) = (now(), unix(), since_boot_ns());
        let seen = Arc::new(Seen {
            changes: Mutex::default(),
            up: (0..plan.hosts).map(|_| AtomicBool::new(true)).collect(),
            over: AtomicBool::new(false),
        });
        let watchers =
            (0..)
                .zip(switch.hosts())
                .zip(&plan.ahead_ns)
                .map(|((number, host), ahead_ns)| {
                    let (host, seen) = (host.cosmos(), Arc::clone(&seen));
                    // What its wall clock said when the play began.
                    let zero_ns = began_unix.as_nanos() as i128 + i128::from(*ahead_ns);
                    std::thread::spawn(move || watch(number, &host, zero_ns, &seen))
                });
        Self {
            began,
            began_boottime_ns,
            struck: vec![Struck::default(); plan.blows.len()],
            watchers: watchers.collect(),
            seen,
            delays,
            deaths_ns: vec![Vec::new(); plan.hosts as usize],
            load: plan
                .programs
                .iter()
                .find(|program| program.takes_ns.is_some())
                .map(|program| Load::begin(switch, &program.name, program.replicas, began)),
        }
    }

    fn play(&mut self, switch: &mut Switch, plan: &Plan) -> Result<()> {
        let mut acts: Vec<Act> = Vec::new();
        for (blow, told) in plan.blows.iter().enumerate() {
            let act = |at_ns, over| Act {
                at: Duration::from_nanos(at_ns),
                blow,
                over,
            };
            acts.push(act(told.at_ns, false));
            acts.extend(told.until_ns.map(|until_ns| act(until_ns, true)));
        }
        // What ends makes way for what begins at the same time.
        acts.sort_by_key(|act| (act.at, !act.over));
        let mut lasting = BTreeSet::new();
        for act in acts {
            self.wait(act.at);
            let blow = &plan.blows[act.blow];
            let who: Vec<_> = blow.hosts.iter().map(|host| name(*host)).collect();
            let verb = if act.over { "ends" } else { "begins" };
            eprintln!(
                "{:>7.1} s  {} of {} {verb}",
                act.at.as_secs_f64(),
                blow.what.word(),
                who.join(", ")
            );
            if act.over {
                lasting.remove(&act.blow);
            } else {
                lasting.insert(act.blow);
            }
            let at_ns = self.act(switch, plan, act, &lasting)?;
            let struck = &mut self.struck[act.blow];
            if act.over {
                struck.until_ns = Some(at_ns);
            } else {
                struck.at_ns = at_ns;
            }
        }
        self.wait(Duration::from_nanos(plan.end_ns));
        Ok(())
    }

    fn wait(&self, until: Duration) {
        pause((self.began + until).saturating_duration_since(now()));
    }

    fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Does it; says when it was done.
    fn act(
        &mut self,
        switch: &mut Switch,
        plan: &Plan,
        act: Act,
        lasting: &BTreeSet<usize>,
    ) -> Result<u64> {
        let blow = &plan.blows[act.blow];
        let mut at_ns = self.elapsed_ns();
        if hosts::is_weather(blow.what) {
            let lasting = lasting.iter().map(|number| &plan.blows[*number]);
            let mut weather = Weather::default();
            for blow in lasting {
                let who = blow.hosts.iter().copied().collect();
                match blow.what {
                    What::Partition => weather.cuts.push(who),
                    What::Loss { share } => weather.losses.push((who, share)),
                    _ => {}
                }
            }
            switch.weather(&weather)?;
            return Ok(self.elapsed_ns());
        }
        for &number in &blow.hosts {
            let up = &self.seen.up[number as usize];
            match blow.what {
                What::Kill if act.over => {
                    at_ns = self.elapsed_ns();
                    switch.host(number).up(None)?;
                    up.store(true, Ordering::Relaxed);
                }
                What::Kill => {
                    up.store(false, Ordering::Relaxed);
                    switch.host(number).kill()?;
                    self.deaths_ns[number as usize].push(since_boot_ns());
                }
                What::Pause if act.over => {
                    switch.host(number).signal(Signal::CONT)?;
                    up.store(true, Ordering::Relaxed);
                }
                What::Pause => {
                    up.store(false, Ordering::Relaxed);
                    switch.host(number).signal(Signal::STOP)?;
                }
                What::FullDisk => switch.host(number).fill(!act.over)?,
                What::Drain => {
                    let undo = act.over.then_some("--undo");
                    let words: Vec<_> = ["drain"].into_iter().chain(undo).collect();
                    switch.host(number).ask(&words)?;
                }
                What::Rate { bits_per_second } => {
                    let base = switch.rate();
                    let rate = if act.over {
                        base
                    } else {
                        Some(bits_per_second)
                    };
                    switch.host(number).limit(rate)?;
                }
                What::Delay { more_ns } => {
                    self.lag(number, Duration::from_nanos(more_ns), !act.over)
                }
                What::Partition | What::Loss { .. } => {}
            }
        }
        Ok(at_ns)
    }

    /// Moves a host further away, or back.
    fn lag(&self, host: u32, more: Duration, further: bool) {
        let mut delays = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
        for ((from, to), delay) in &mut *delays {
            if *from == host || *to == host {
                *delay = if further {
                    *delay + more
                } else {
                    delay.saturating_sub(more)
                };
            }
        }
    }

    fn end(self, switch: &Switch) -> Result<History> {
        let requests = self.load.map_or(Ok(Vec::new()), Load::end)?;
        self.seen.over.store(true, Ordering::Relaxed);
        for watcher in self.watchers {
            watcher.join().ok().context("a watcher")?;
        }
        let mut changes = std::mem::take(
            &mut *self
                .seen
                .changes
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        changes.sort_by_key(|change| change.at_ns);
        let told = switch
            .hosts()
            .zip(self.deaths_ns)
            .map(|(host, deaths_ns)| Leases {
                text: ["leases.jsonl.old", "leases.jsonl"]
                    .map(|part| fs::read_to_string(host.data.join(part)).unwrap_or_default())
                    .concat(),
                deaths_ns,
            });
        let leases: Vec<_> = told.collect();
        // A fleet whose programs have no leases says nothing of them.
        let told = leases.iter().any(|leases| !leases.text.is_empty());
        Ok(History {
            struck: self.struck,
            changes,
            leases: if told { leases } else { Vec::new() },
            began_boottime_ns: self.began_boottime_ns,
            requests,
        })
    }
}

/// Asks one daemon again and again what it holds of the others.
fn watch(observer: u32, host: &(PathBuf, PathBuf), zero_ns: i128, seen: &Seen) {
    let mut held: BTreeMap<String, Member> = BTreeMap::new();
    loop {
        let last = seen.over.load(Ordering::Relaxed);
        let up = || seen.up[observer as usize].load(Ordering::Relaxed);
        // A daemon that dies while it is asked is asked again when it is back.
        if up()
            && let Ok(members) = members(host)
        {
            for member in members {
                // Said by who hears nobody: of one it holds alive.
                if member.state == "unheard" {
                    continue;
                }
                let Some(subject) = member
                    .name
                    .strip_prefix("host")
                    .and_then(|number| number.parse::<u32>().ok())
                else {
                    continue;
                };
                let before = held.insert(member.name.clone(), member.clone());
                let at_ns = i128::from(member.since_ms) * 1_000_000 - zero_ns;
                if subject == observer + 1 || before.as_ref() == Some(&member) || at_ns < 0 {
                    continue;
                }
                let mut changes = seen.changes.lock().unwrap_or_else(PoisonError::into_inner);
                changes.push(Change {
                    at_ns: u64::try_from(at_ns).unwrap_or(0),
                    observer,
                    subject: subject - 1,
                    state: member.state,
                });
            }
        }
        if last {
            return;
        }
        pause(ROUND);
    }
}
