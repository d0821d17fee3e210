//! The long way round: datagrams between two hosts, held back for a while.
//!
//! A host that is to be far from another sends what is meant for it to the switch instead (nftables rewrites the address), where
//! this waits at an address of its own for each pair, holds every datagram as long as it should take, and passes it on from an address that
//! stands for the sender. Answers come back the same way. Order is kept, for a delay that
//! shrinks never lets a later datagram overtake an earlier one of the same way.
//!
//! One thread for all pairs, because hundreds of datagrams a second are few.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::hosts::{PORT, address, shadow};
use super::run::now;

/// Where the relay hears what `from` says to `to`.
pub(super) fn ear(from: u32, to: u32) -> SocketAddrV4 {
    SocketAddrV4::new(shadow(to), 20_000 + port(from))
}

fn port(host: u32) -> u16 {
    u16::try_from(host).expect("a fleet has 64 seats")
}

/// How long each way takes beyond the switch, by sender and receiver; changed while the relay runs.
pub(super) type Delays = Arc<Mutex<BTreeMap<(u32, u32), Duration>>>;

/// A pair of sockets: what `from` says to `to` comes in at one and leaves at the other, and back.
struct Way {
    from: u32,
    to: u32,
    ear: UdpSocket,
    mouth: UdpSocket,
    /// Where `from` sends from.
    caller: Option<SocketAddr>,
    /// When the last datagram there, and the last one back, is due.
    last: [Instant; 2],
}

/// Something on its way.
struct Held {
    due: Instant,
    sequence: u64,
    way: usize,
    back: bool,
    bytes: Vec<u8>,
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}
impl Eq for Held {}
impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.sequence).cmp(&(other.due, other.sequence))
    }
}

/// So many datagrams are on their way at most; more are lost, as in any router.
const HELD_MAX: usize = 100_000;

/// Begins to relay between these.
pub(super) fn begin(pairs: &[(u32, u32)], delays: Delays) -> Result<()> {
    let bind = |at: SocketAddrV4| -> Result<UdpSocket> {
        let socket = UdpSocket::bind(at).with_context(|| format!("the relay at {at}"))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let began = now();
    let mut ways = Vec::new();
    for &(from, to) in pairs {
        ways.push(Way {
            from,
            to,
            ear: bind(ear(from, to))?,
            mouth: bind(SocketAddrV4::new(shadow(from), 30_000 + port(to)))?,
            caller: None,
            last: [began; 2],
        });
    }
    std::thread::Builder::new()
        .name("relay".into())
        .spawn(move || relay(&mut ways, &delays))?;
    Ok(())
}

fn relay(ways: &mut [Way], delays: &Delays) {
    let mut held: BinaryHeap<Reverse<Held>> = BinaryHeap::new();
    let mut sequence = 0;
    loop {
        let patience = held
            .peek()
            .map(|Reverse(next)| next.due.saturating_duration_since(now()));
        wait(ways, patience);
        for (number, way) in ways.iter_mut().enumerate() {
            for back in [false, true] {
                let socket = if back { &way.mouth } else { &way.ear };
                let mut bytes = [0; 2_048];
                // Until there is nothing more, or word that the other end is not there.
                while let Ok((length, sender)) = socket.recv_from(&mut bytes) {
                    if !back {
                        way.caller = Some(sender);
                    }
                    if held.len() >= HELD_MAX {
                        continue;
                    }
                    let (one, other) = if back {
                        (way.to, way.from)
                    } else {
                        (way.from, way.to)
                    };
                    let delays = delays.lock().unwrap_or_else(PoisonError::into_inner);
                    let delay = delays.get(&(one, other)).copied().unwrap_or_default();
                    drop(delays);
                    let last = &mut way.last[usize::from(back)];
                    let due = (now() + delay).max(*last);
                    *last = due;
                    sequence += 1;
                    held.push(Reverse(Held {
                        due,
                        sequence,
                        way: number,
                        back,
                        bytes: bytes[..length].to_vec(),
                    }));
                }
            }
        }
        while held.peek().is_some_and(|Reverse(next)| next.due <= now()) {
            let Some(Reverse(next)) = held.pop() else {
                break;
            };
            let way = &ways[next.way];
            // What cannot be sent is lost, as on any line.
            let _ = match (next.back, way.caller) {
                (true, Some(caller)) => way.ear.send_to(&next.bytes, caller),
                (true, None) => Ok(0),
                (false, _) => way.mouth.send_to(&next.bytes, (address(way.to), PORT)),
            };
        }
    }
}

fn wait(ways: &[Way], patience: Option<Duration>) {
    let sockets = ways.iter().flat_map(|way| [&way.ear, &way.mouth]);
    let mut sockets: Vec<_> = sockets
        .map(|socket| PollFd::new(socket, PollFlags::IN))
        .collect();
    let patience = patience.map(|span| Timespec {
        tv_sec: span.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: span.subsec_nanos().into(),
    });
    // Interrupted or not, there may be something to do.
    let _ = poll(&mut sockets, patience.as_ref());
}
