//! A fleet of real daemons on one machine: what the twin rehearses, done for real.
//!
//! Each host is a network namespace with one end of a veth pair; the other ends are ports of a bridge, the switch, in a
//! namespace of its own. A daemon runs in each, with its own directory on a small disk of its own (tmpfs). Then the
//! universe's faults befall them: `cosmos twin plan` says what and when, this does it and writes down when it was really done and
//! what each daemon believed of the others, and `cosmos twin run --measured` sets that beside its rehearsals and judges. Nothing is judged
//! here, and no word of the universe file is read here.
//!
//! # Nothing is left
//!
//! All of it lives in namespaces that nobody has a name for: this program starts itself again behind `unshare`, as the
//! first process of its own namespaces of processes, mounts and network. When that one ends, however it ends, the kernel
//! kills every process in it, and with the last process the bridge, the veth pairs, the disks and the rules are gone. It ends
//! when this one does, because it asked to (`setpriv --pdeathsig`), and so Ctrl-C, a panic and SIGKILL leave as much as a good end: the
//! folder with what was written down.
//!
//! # What does what
//!
//! | fault | by |
//! |---|---|
//! | kill, pause | SIGKILL and a new start, SIGSTOP and SIGCONT |
//! | partition, loss | nftables, where packets enter and leave the switch's ports |
//! | rate | `tbf` on the host's own interface |
//! | delay | a small relay ([`relay`]), because kernels come without `netem` |
//! | a wrong clock | `cosmos up --skew-ns`: a namespace of time moves no wall clock |
//! | full disk | a file that fills the host's disk |
//! | drain | `cosmos drain`, and `--undo` |
//!
//! Cgroups are hidden from the daemons, so that none stay behind; what programs take is not counted here.
//!
//! Tour: [`plan`] what is to be done · [`hosts`] namespaces and daemons · [`relay`] the long way round · [`load`] a server and a client that counts · [`run`] doing it, and writing it down ·
//! [`classes`] what is urgent beside what is bulk.

mod classes;
mod hosts;
mod load;
mod plan;
mod relay;
mod run;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use xtask::root;

use crate::built::built;
use crate::{command, spelled};

/// What can be asked of a fleet.
#[derive(clap::Args, Clone)]
pub(crate) struct Asked {
    /// How many hosts, if not as many as the universe says.
    hosts: Option<u32>,
    /// The universe: a file of kind `fleet`.
    #[arg(long, value_name = "FILE", default_value = "universes/five.toml")]
    scenario: PathBuf,
    /// Where what happened is written down; a new folder in `runs` if absent.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
    /// The `cosmos` to run; if absent, it is built.
    #[arg(long, value_name = "FILE")]
    cosmos: Option<PathBuf>,
    /// In place of the universe: two hosts on a line of 100 Mbit/s, and round trips of class A on it, idle and beside class D.
    #[arg(long, conflicts_with_all = ["hosts", "scenario"])]
    classes: bool,
    /// Within the namespaces: do it.
    #[arg(long, hide = true)]
    within: bool,
    /// On a host: answer requests, each after so many milliseconds.
    #[arg(long, hide = true, value_name = "MS")]
    answer: Option<u64>,
}

impl Asked {
    /// A short fleet, as `verify` wants it.
    pub(crate) fn short() -> Self {
        Self {
            hosts: None,
            scenario: root().join("universes/five-short.toml"),
            out: None,
            json: false,
            cosmos: None,
            classes: false,
            within: false,
            answer: None,
        }
    }
}

/// Where hosts keep what they keep; a mount of its own hides what is there.
fn place() -> PathBuf {
    root().join("target/fleet")
}

/// Does it; true if what happened is as it must be.
pub(crate) fn fleet(asked: &Asked) -> Result<bool> {
    if let Some(takes_ms) = asked.answer {
        return load::answer(Duration::from_millis(takes_ms)).map(|()| true);
    }
    if asked.within {
        return match asked.classes {
            true => classes::measure(asked),
            false => run::run(asked).map(|()| true),
        };
    }
    if let Err(missing) = ready() {
        bail!("{missing}");
    }
    let cosmos = match &asked.cosmos {
        Some(cosmos) => {
            fs::canonicalize(cosmos).with_context(|| format!("reading {}", cosmos.display()))?
        }
        None => built("cosmos")?,
    };
    let scenario = fs::canonicalize(&asked.scenario)
        .with_context(|| format!("reading {}", asked.scenario.display()))?;
    let out = folder(asked.out.as_deref())?;
    fs::create_dir_all(place()).context("making target/fleet")?;
    // A copy: whatever is built meanwhile may put another file in this one's place.
    let program = out.join("xtask");
    fs::copy("/proc/self/exe", &program).context("copying this program")?;
    let mut inside = Command::new("setpriv");
    inside
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--fork",
        ])
        .args([
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
            "--",
        ])
        .arg(&program)
        .args(["fleet", "--within", "--cosmos"])
        .arg(&cosmos)
        .arg("--out")
        .arg(&out);
    if asked.classes {
        inside.arg("--classes").args(asked.json.then_some("--json"));
        let status = inside.status().context("starting setpriv")?;
        let _ = fs::remove_file(&program);
        return match status.code() {
            Some(code @ (0 | 1)) => Ok(code == 0),
            _ => bail!(
                "the hosts' namespaces ended with {status}; what they said is in {}",
                out.display()
            ),
        };
    }
    inside
        .arg("--scenario")
        .arg(&scenario)
        .args(asked.hosts.map(|hosts| hosts.to_string()));
    let status = inside.status().context("starting setpriv")?;
    let _ = fs::remove_file(&program);
    ensure!(
        status.success(),
        "the hosts' namespaces ended with {status}; what they said is in {}",
        out.display()
    );
    judge(asked, &cosmos, &scenario, &out)
}

/// Sets what was measured beside what is predicted.
fn judge(asked: &Asked, cosmos: &Path, scenario: &Path, out: &Path) -> Result<bool> {
    let mut judge = Command::new(cosmos);
    judge
        .args(["twin", "run", "--quiet"])
        .arg(scenario)
        .args(plan::count(asked.hosts))
        .arg("--measured")
        .arg(out.join("history.json"))
        .arg("--out")
        .arg(out.join("rehearsal"));
    if asked.json {
        judge.arg("--json");
    } else {
        println!("$ {}", spelled(&judge));
    }
    let said = judge.output().context("starting cosmos")?;
    let text = String::from_utf8_lossy(&said.stdout);
    print!("{text}");
    fs::write(out.join("report.txt"), text.as_bytes()).context("writing report.txt")?;
    match said.status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => bail!("{}", String::from_utf8_lossy(&said.stderr)),
    }
}

fn folder(asked: Option<&Path>) -> Result<PathBuf> {
    let out = match asked {
        Some(out) => out.to_owned(),
        None => {
            let folders = (1..).map(|number| root().join(format!("runs/fleet-{number}")));
            let mut free = folders.skip_while(|folder| folder.exists());
            free.next().context("finding a free folder in runs")?
        }
    };
    ensure!(!out.exists(), "{} is there already", out.display());
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    fs::canonicalize(&out).with_context(|| format!("finding {}", out.display()))
}

/// Programs it needs, each with the package that has it.
pub(crate) const TOOLS: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
];

/// Whether every tool is there.
pub(crate) fn has_tools() -> bool {
    missing_tool().is_none()
}

fn missing_tool() -> Option<&'static str> {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let is_there = |tool: &str| {
        folders
            .iter()
            .any(|folder| Path::new(folder).join(tool).exists())
    };
    TOOLS
        .iter()
        .map(|(tool, _)| *tool)
        .find(|tool| !is_there(tool))
}

/// Whether this machine can hold such a fleet, or why not.
pub(crate) fn ready() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("a fleet of network namespaces needs root".to_owned());
    }
    if let Some(tool) = missing_tool() {
        return Err(format!(
            "{tool} is not installed; cargo xtask setup installs it"
        ));
    }
    // All it will be asked for, once, where nothing is left of it.
    let try_all = "mount -t tmpfs tmpfs /mnt && ip link add name br type bridge && ip link add name here type veth peer name there && \
         tc qdisc add dev there root tbf rate 1mbit burst 16kb limit 64kb && \
         nft 'table netdev t { chain c { type filter hook ingress device here priority 0; numgen random mod 100 < 1 drop; }; \
         chain d { type filter hook egress device here priority 0; ip daddr 10.0.0.1 drop; }; }' && \
         nft 'table ip t { chain c { type nat hook output priority -100; ip daddr 10.0.0.1 udp dport 1 dnat to 10.0.0.2:2; }; }'";
    let tried = command(
        "unshare",
        &["--net", "--mount", "--pid", "--fork", "sh", "-c", try_all],
    )
    .output();
    match tried {
        Ok(tried) if tried.status.success() => Ok(()),
        Ok(tried) => {
            let said = String::from_utf8_lossy(&tried.stderr);
            let said = said.lines().next().unwrap_or("no reason");
            Err(format!(
                "this machine cannot hold a fleet of network namespaces: {said}"
            ))
        }
        Err(error) => Err(format!("unshare: {error}")),
    }
}
