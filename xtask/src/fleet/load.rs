//! A server in several replicas, and a client that counts.
//!
//! The server is this program again ([`answer`]), run by the fleet: it answers one request at a time, and each takes as long as the universe says. So what a
//! fleet can answer in a second is how many replicas of it run, over that.
//!
//! The client stands beside the hosts, at the switch, and asks as many requests at a time as there should be replicas, each on a connection of its own. Where
//! replicas are it is told by the fleet. One that turns it away before a word of the request was said costs nothing: it goes to another. What was said
//! and is not answered whole is *lost*, and never said again: who is served by others would not know either whether it was done.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::hosts::{self, Switch};
use super::run::{now, pause};

/// Where replicas are reached on their hosts.
pub(super) const PORT: u16 = 8_080;
/// Between two questions to the fleet where replicas are.
const ROUND: Duration = Duration::from_millis(300);
/// How long a connection may take to come about: it takes a millisecond, or never.
const CONNECTING: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ANSWERING: Duration = Duration::from_secs(5);
/// How long the client looks for somebody who takes a request.
const PATIENCE: Duration = Duration::from_secs(5);

const BODY: &str = "answered\n";

/// Answers HTTP, one request at a time, each after `takes`.
pub(super) fn answer(takes: Duration) -> Result<()> {
    let listener =
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("listening for requests")?;
    for stream in listener.incoming() {
        // Who hangs up is not answered.
        let _ = stream.and_then(|stream| serve(stream, takes));
    }
    Ok(())
}

fn serve(mut stream: TcpStream, takes: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(CONNECTING))?;
    let mut head = Vec::new();
    let mut piece = [0; 1_024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            length => head.extend(&piece[..length]),
        }
    }
    pause(takes);
    let length = BODY.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{BODY}"
    )
}

/// A request, as the twin reads it: `twin::fleet::Asked`.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Asked {
    at_ns: u64,
    took_ns: u64,
    fate: Fate,
    turned_away: u32,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Fate {
    Whole,
    Lost,
    Nowhere,
}

/// What the client's threads share.
#[derive(Default)]
struct Known {
    /// Where replicas are that are well, as the fleet said last.
    replicas: Mutex<Vec<SocketAddr>>,
    /// How many requests are under way where.
    busy: Mutex<BTreeMap<SocketAddr, u32>>,
    over: AtomicBool,
}

/// A client at work.
pub(super) struct Load {
    known: Arc<Known>,
    lines: Vec<JoinHandle<Vec<Asked>>>,
    askers: Vec<JoinHandle<()>>,
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
    name: String,
    standing: Vec<Replica>,
}

#[derive(Deserialize)]
struct Replica {
    state: String,
    addresses: Vec<SocketAddr>,
}

impl Load {
    /// Begins to ask a program of which there should be so many.
    pub(super) fn begin(switch: &Switch, program: &str, replicas: u32, began: Instant) -> Self {
        let known = Arc::new(Known::default());
        let hosts: Vec<_> = switch.hosts().map(hosts::Host::cosmos).collect();
        // Two, because one may wait for a host that has just died.
        let askers = (0..2).map(|first| {
            let (known, hosts, program) = (Arc::clone(&known), hosts.clone(), program.to_owned());
            std::thread::spawn(move || {
                for host in hosts.iter().cycle().skip(first * hosts.len() / 2) {
                    if known.over.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Ok(found) = look(host, &program) {
                        *known
                            .replicas
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner) = found;
                    }
                    pause(ROUND);
                }
            })
        });
        let askers = askers.collect();
        let lines = (0..replicas).map(|_| {
            let known = Arc::clone(&known);
            std::thread::spawn(move || {
                let mut asked = Vec::new();
                while !known.over.load(Ordering::Relaxed) {
                    asked.push(ask(&known, began));
                }
                asked
            })
        });
        let lines = lines.collect();
        Self {
            known,
            lines,
            askers,
        }
    }

    /// Ends, and says what was asked, in order.
    pub(super) fn end(self) -> Result<Vec<Asked>> {
        self.known.over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for line in self.lines {
            all.append(&mut line.join().ok().context("a client")?);
        }
        for asker in self.askers {
            asker.join().ok().context("a client")?;
        }
        all.sort_by_key(|asked| asked.at_ns);
        Ok(all)
    }
}

fn look((cosmos, data): &(PathBuf, PathBuf), program: &str) -> Result<Vec<SocketAddr>> {
    let said = hosts::ask(cosmos, data, &["members", "--leases", "--json"])?;
    let said: Leased = serde_json::from_str(&said)?;
    let programs = said.affairs.programs.into_iter();
    let standing = programs
        .filter(|listed| listed.name == program)
        .flat_map(|listed| listed.standing);
    let well = standing.filter(|replica| replica.state == "running");
    Ok(well.flat_map(|replica| replica.addresses).collect())
}

/// One request, to whoever takes it.
fn ask(known: &Known, began: Instant) -> Asked {
    let at = now();
    let (mut turned_away, mut tried) = (0, Vec::new());
    let fate = loop {
        let Some(replica) = take(known, &tried) else {
            if at.elapsed() > PATIENCE {
                break Fate::Nowhere;
            }
            tried.clear();
            pause(Duration::from_millis(50));
            continue;
        };
        let said = TcpStream::connect_timeout(&replica, CONNECTING).map(say);
        give_back(known, replica);
        match said {
            Ok(true) => break Fate::Whole,
            Ok(false) => break Fate::Lost,
            // Not a word was said.
            Err(_) => {
                turned_away += 1;
                tried.push(replica);
            }
        }
    };
    let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    Asked {
        at_ns: nanos(at.duration_since(began)),
        took_ns: nanos(at.elapsed()),
        fate,
        turned_away,
    }
}

/// The replica with the fewest requests under way of those that were not tried.
fn take(known: &Known, tried: &[SocketAddr]) -> Option<SocketAddr> {
    let replicas = known
        .replicas
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let mut busy = known.busy.lock().unwrap_or_else(PoisonError::into_inner);
    let free = replicas.iter().filter(|replica| !tried.contains(replica));
    let least = free.min_by_key(|replica| busy.get(replica).copied().unwrap_or(0))?;
    *busy.entry(*least).or_default() += 1;
    Some(*least)
}

fn give_back(known: &Known, replica: SocketAddr) {
    let mut busy = known.busy.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(busy) = busy.get_mut(&replica) {
        *busy -= 1;
    }
}

/// Whether it is answered, whole.
fn say(mut stream: TcpStream) -> bool {
    let mut answer = String::new();
    let said = stream
        .set_read_timeout(Some(ANSWERING))
        .and_then(|()| {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
        })
        .and_then(|()| stream.read_to_string(&mut answer));
    said.is_ok() && answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(BODY)
}
