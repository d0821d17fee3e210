//! Hosts: a namespace of network each, the switch between them, and a daemon in each.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::plan::{Plan, What};
use super::relay;

/// Where every daemon listens.
pub(super) const PORT: u16 = 7_700;
/// Each host's disk; a daemon needs a few megabytes.
const DISK: &str = "size=64m";
/// A daemon that has not said that it is ready after this never will.
const PATIENCE: Duration = Duration::from_secs(60);
/// What `tbf` lets through at once, and what may wait in it: some packets, and a twentieth of a second at 100 Mbit/s.
const BURST_BYTES: u32 = 16 << 10;
const WAITING_BYTES: u32 = 600 << 10;

/// Where a host is found.
pub(super) fn address(host: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last(host))
}

/// The switch's address that stands for a host to those who are far from it.
pub(super) fn shadow(host: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 1, last(host))
}

fn last(host: u32) -> u8 {
    u8::try_from(host + 1).expect("a fleet has 64 seats")
}

/// Where the client is that asks hosts' programs for something.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 255, 254);

/// What people call it.
pub(super) fn name(host: u32) -> String {
    format!("host{}", host + 1)
}

/// Its port of the switch.
fn line(host: u32) -> String {
    format!("v{}", host + 1)
}

/// What stands between two hosts.
pub(super) struct Switch {
    hosts: Vec<Host>,
    base: super::plan::Links,
}

/// One machine.
pub(super) struct Host {
    number: u32,
    /// Holds its namespace.
    keeper: Child,
    pub(super) data: PathBuf,
    log: PathBuf,
    cosmos: PathBuf,
    ahead_ns: i64,
    daemon: Option<Child>,
}

/// What lasts of what is done to the switch.
#[derive(Default)]
pub(super) struct Weather {
    /// One side of each partition.
    pub(super) cuts: Vec<BTreeSet<u32>>,
    /// Who loses what share.
    pub(super) losses: Vec<(BTreeSet<u32>, f64)>,
}

fn run(command: &mut Command) -> Result<()> {
    let said = command
        .output()
        .with_context(|| format!("starting {}", crate::spelled(command)))?;
    ensure!(
        said.status.success(),
        "{}: {}",
        crate::spelled(command),
        String::from_utf8_lossy(&said.stderr).trim_end()
    );
    Ok(())
}

fn ip(words: &str) -> Result<()> {
    run(Command::new("ip").args(words.split_whitespace()))
}

/// Hands a script to nftables, which does all of it or nothing.
fn nft(command: &mut Command, script: &str) -> Result<()> {
    let mut nft = command
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting nft")?;
    nft.stdin
        .take()
        .context("a pipe")?
        .write_all(script.as_bytes())?;
    let said = nft.wait_with_output()?;
    ensure!(
        said.status.success(),
        "nft: {}\n{script}",
        String::from_utf8_lossy(&said.stderr)
    );
    Ok(())
}

impl Switch {
    /// Sets up the hosts of a plan around the switch, which is this process' namespace.
    pub(super) fn build(
        plan: Plan,
        place: &Path,
        out: &Path,
        cosmos: &Path,
    ) -> Result<(Self, Plan)> {
        ip("link set lo up")?;
        ip("link add name switch type bridge")?;
        ip("link set switch up")?;
        ip(&format!("addr add {CLIENT}/16 dev switch"))?;
        let mut hosts = Vec::new();
        for number in 0..plan.hosts {
            ip(&format!("addr add {}/16 dev switch", shadow(number)))?;
            let data = place.join(name(number));
            fs::create_dir_all(&data)?;
            run(Command::new("mount")
                .args(["-t", "tmpfs", "-o", DISK, "tmpfs"])
                .arg(&data))?;
            let host = Host {
                number,
                keeper: keeper()?,
                data,
                log: out.join(format!("{}.log", name(number))),
                cosmos: cosmos.to_owned(),
                ahead_ns: plan.ahead_ns.get(number as usize).copied().unwrap_or(0),
                daemon: None,
            };
            let (line, holder) = (line(number), host.keeper.id());
            ip(&format!(
                "link add name {line} type veth peer name eth0 netns {holder}"
            ))?;
            ip(&format!("link set {line} master switch up"))?;
            for words in ["link set lo up", "link set eth0 up"] {
                run(host.within("ip").args(words.split(' ')))?;
            }
            let at = format!("{}/16", address(number));
            run(host.within("ip").args(["addr", "add", &at, "dev", "eth0"]))?;
            let far = (0..plan.hosts).filter(|&other| other != number && plan.lags(number, other));
            let rules: String = far
                .map(|other| {
                    let ear = relay::ear(number, other);
                    format!(
                        "ip daddr {} udp dport {PORT} dnat to {}:{}\n",
                        address(other),
                        ear.ip(),
                        ear.port()
                    )
                })
                .collect();
            if !rules.is_empty() {
                let chain = "type nat hook output priority -100;";
                let script = format!("table ip far {{\nchain out {{ {chain}\n{rules}}}\n}}\n");
                nft(&mut host.within("nft"), &script)?;
            }
            host.limit(plan.links.rate)?;
            hosts.push(host);
        }
        let base = super::plan::Links { ..plan.links };
        let switch = Self { hosts, base };
        switch.weather(&Weather::default())?;
        Ok((switch, plan))
    }

    pub(super) fn host(&mut self, number: u32) -> &mut Host {
        &mut self.hosts[number as usize]
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter()
    }

    /// Makes the switch lose what is to be lost, and nothing else.
    pub(super) fn weather(&self, weather: &Weather) -> Result<()> {
        // Named twice so that it can be deleted whether it was there or not: one step, in which nothing gets by.
        let mut script =
            "table netdev weather {}\ndelete table netdev weather\ntable netdev weather {\n"
                .to_owned();
        let lost = |share: f64| {
            let millionths = (share * 1e6).round();
            (millionths > 0.0).then(|| {
                format!("meta protocol ip numgen random mod 1000000 < {millionths} drop\n")
            })
        };
        for host in &self.hosts {
            let number = host.number;
            let mut enters: String = lost(self.base.loss).into_iter().collect();
            let mut leaves = String::new();
            for cut in &weather.cuts {
                let across = self.hosts.iter().map(|host| host.number);
                // The client is with the many.
                let with_cut = cut.len() * 2 > self.hosts.len();
                let client = (cut.contains(&number) != with_cut).then_some(CLIENT);
                let across: Vec<_> = across
                    .filter(|other| cut.contains(other) != cut.contains(&number))
                    .flat_map(|other| [address(other), shadow(other)])
                    .chain(client)
                    .map(|at| at.to_string())
                    .collect();
                enters += &format!("ip daddr {{ {} }} drop\n", across.join(", "));
            }
            for (_, share) in weather
                .losses
                .iter()
                .filter(|(who, _)| who.contains(&number))
            {
                let lost = lost(*share).unwrap_or_default();
                enters += &lost;
                leaves += &lost;
            }
            let line = line(number);
            for (hook, rules) in [("ingress", enters), ("egress", leaves)] {
                if !rules.is_empty() {
                    script += &format!(
                        "chain {line}-{hook} {{ type filter hook {hook} device {line} priority 0;\n{rules}}}\n"
                    );
                }
            }
        }
        script += "}\n";
        nft(&mut Command::new("nft"), &script)
    }

    /// What a host can send when nothing limits it further.
    pub(super) fn rate(&self) -> Option<u64> {
        self.base.rate
    }
}

/// A process that does nothing in a namespace of network of its own.
fn keeper() -> Result<Child> {
    let mut keeper = Command::new("unshare");
    let keeper = keeper
        .args(["--net", "sleep", "infinity"])
        .spawn()
        .context("starting unshare")?;
    let there = format!("/proc/{}/ns/net", keeper.id());
    let ours = fs::read_link("/proc/self/ns/net")?;
    for _ in 0..2_000 {
        if fs::read_link(&there).is_ok_and(|theirs| theirs != ours) {
            return Ok(keeper);
        }
        super::run::pause(Duration::from_millis(1));
    }
    bail!("unshare --net gives no namespace");
}

impl Host {
    /// A command on this host.
    fn within(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.keeper.id()))
            .arg("--")
            .arg(program);
        command
    }

    /// Limits what it sends.
    pub(super) fn limit(&self, bits_per_second: Option<u64>) -> Result<()> {
        // That there is no limit to take away is fine.
        let _ = self
            .within("tc")
            .args(["qdisc", "del", "dev", "eth0", "root"])
            .output();
        let Some(rate) = bits_per_second else {
            return Ok(());
        };
        let words = format!(
            "qdisc add dev eth0 root tbf rate {rate}bit burst {BURST_BYTES} limit {WAITING_BYTES}"
        );
        run(self.within("tc").args(words.split(' ')))
    }

    /// Starts its daemon, and returns when that says that it is ready.
    pub(super) fn up(&mut self, invitation: Option<&str>) -> Result<()> {
        let cosmos = self.cosmos.display().to_string();
        let mut up = self.within(&cosmos);
        up.arg("up").arg("--data").arg(&self.data).args([
            "--name",
            &name(self.number),
            "--http",
            "off",
        ]);
        up.args(["--listen", &format!("{}:{PORT}", address(self.number))]);
        up.args(invitation.iter().flat_map(|line| ["--join", line]));
        if self.ahead_ns != 0 {
            up.arg(format!("--skew-ns={}", self.ahead_ns));
        }
        let mut daemon = up
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting nsenter")?;
        let said = BufReader::new(daemon.stderr.take().context("a pipe")?);
        self.daemon = Some(daemon);
        let mut log = File::options().create(true).append(true).open(&self.log)?;
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                // A log that cannot be written costs nothing but itself.
                let _ = writeln!(log, "{line}");
                if line.starts_with("node: ready on ") {
                    let _ = ready.send(());
                }
            }
        });
        if is_ready.recv_timeout(PATIENCE).is_err() {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            bail!("{} is never ready: {}", name(self.number), said.trim_end());
        }
        Ok(())
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        let mut daemon = self
            .daemon
            .take()
            .with_context(|| format!("{} is not up", name(self.number)))?;
        daemon.kill()?;
        daemon.wait()?;
        Ok(())
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let daemon = self
            .daemon
            .as_ref()
            .with_context(|| format!("{} is not up", name(self.number)))?;
        let pid = Pid::from_child(daemon);
        kill_process(pid, signal).with_context(|| format!("a signal to {}", name(self.number)))
    }

    /// Fills its disk, or makes room again.
    pub(super) fn fill(&self, full: bool) -> Result<()> {
        let filler = self.data.join("filler");
        if !full {
            return fs::remove_file(filler).context("making room");
        }
        let mut file = File::create(filler)?;
        let block = vec![0; 64 << 10];
        for size in [block.len(), 1] {
            // Ends when the disk is full, which is what is wanted.
            while file.write_all(&block[..size]).is_ok() {}
        }
        Ok(())
    }

    /// What its daemon answers.
    pub(super) fn ask(&self, words: &[&str]) -> Result<String> {
        ask(&self.cosmos, &self.data, words)
    }

    /// Hands a program to the fleet.
    pub(super) fn run(&self, words: &[&str], command: &[String]) -> Result<()> {
        let mut run = Command::new(&self.cosmos);
        run.args(words).arg("--data").arg(&self.data).args(command);
        self::run(&mut run)
    }

    pub(super) fn cosmos(&self) -> (PathBuf, PathBuf) {
        (self.cosmos.clone(), self.data.clone())
    }
}

/// What the daemon of a folder answers.
pub(super) fn ask(cosmos: &Path, data: &Path, words: &[&str]) -> Result<String> {
    let said = Command::new(cosmos)
        .args(words)
        .arg("--data")
        .arg(data)
        .output()?;
    ensure!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr).trim_end()
    );
    Ok(String::from_utf8_lossy(&said.stdout).trim_end().to_owned())
}

/// Whether this is done to the switch, and not to a daemon.
pub(super) const fn is_weather(what: What) -> bool {
    matches!(what, What::Partition | What::Loss { .. })
}
