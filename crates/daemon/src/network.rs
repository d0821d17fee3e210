//! What reaches a program in a network of its own, and what does it reach?
//!
//! Nothing, but through the ports it was given: a new network namespace has a loopback and no way out. So a program
//! that listens on a port nobody asked for opens no door of the host, and one that was broken into calls nobody.
//! A port of the host is carried in by its warden, which was given the host's listening socket before it left the
//! host's network, and stands inside the other: it takes each connection and makes one to the program's loopback.
//! That needs no privilege, no bridge and no rules of the host's firewall. It costs a copy of every byte, made by
//! the program's own share of the processor; a program that cannot pay it has `--net host`.
//! Why: docs/decisions/2026-11-21-a-program-has-a-network-of-its-own.md.
//!
//! **Shutting a port** takes care that nobody who was let in is turned out ([`Doors::shut`]): a client that had its connection and sent its request may not
//! send it again elsewhere, one that was refused may. Closing a listening socket resets whoever waits in its queue, and whoever's handshake is not
//! over. So first a filter of the kernel's drops what asks for a new connection, then those on the way in are let in, and only then is it closed; who
//! asked meanwhile asks again, a second later, and is refused. Why: docs/decisions/2026-11-29-a-port-is-shut-before-its-program-ends.md.
//!
//! Deliberately absent: a way out that is not all of the host's network, and UDP.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};

use crate::calls::bpf;

/// Connections that are carried at a time for each port; who comes after waits until one ends.
pub const CARRIED_MAX: usize = 1024;

/// As long as a handshake may take that was begun before a port was shut: far less than the second after which a client asks again.
const ON_THE_WAY_IN: Duration = Duration::from_millis(500);
/// Between two looks at whether somebody is still in.
const PAUSE: Duration = Duration::from_millis(10);

/// Brings up the loopback of the network this process is in.
///
/// # Errors
/// As the kernel.
pub fn bring_up_loopback() -> io::Result<()> {
    // There is nobody else here who could want one of the low ports; a program's own image may expect one.
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: zeros are a request that names no interface.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).expect("the flag fits");
    // SAFETY: this call reads a request of this kind and keeps nothing of it.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ports of the host that are carried to a program.
#[derive(Debug, Default)]
pub struct Doors(Vec<Door>);

#[derive(Debug)]
struct Door {
    outside: TcpListener,
    carried: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Doors {
    /// Carries what comes to a port of the host to one of the loopback of this process's network, from now on.
    ///
    /// # Errors
    /// If the kernel gives no thread.
    pub fn carry(&mut self, from: TcpListener, to: u16) -> io::Result<()> {
        let outside = from.try_clone()?;
        let carried = Arc::new(AtomicUsize::new(0));
        let thread = carry(from, to, Arc::clone(&carried))?;
        self.0.push(Door {
            outside,
            carried,
            thread,
        });
        Ok(())
    }

    /// Lets nobody in any more, and returns when everybody has left who was in or on the way in.
    pub fn shut(self) {
        for door in &self.0 {
            // Where that is refused, who comes in the very moment of closing is turned out.
            let _ = turn_away(&door.outside);
        }
        wait(ON_THE_WAY_IN);
        for door in self.0 {
            // Whoever waits for the next wakes, and finds that there is none.
            let _ = rustix::net::shutdown(&door.outside, rustix::net::Shutdown::Read);
            let _ = door.thread.join();
            while door.carried.load(Ordering::Acquire) > 0 {
                wait(PAUSE);
            }
        }
    }
}

/// Drops what asks for a new connection; whoever has begun a handshake may end it.
fn turn_away(listener: &TcpListener) -> io::Result<()> {
    // A socket of TCP sees a packet from its header on, in which the flags are the fourteenth byte (RFC 9293 § 3.1): SYN is 2, ACK 16.
    let mut words = [
        bpf(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 13),
        bpf(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0x12),
        bpf(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, 0x02),
        bpf(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        bpf(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let program = libc::sock_fprog {
        len: u16::try_from(words.len()).expect("they are five"),
        filter: words.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the words during the call, and they live until it returns.
    let done = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            u32::try_from(size_of::<libc::sock_fprog>()).expect("it is small"),
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the kernel tells nobody when a handshake or a copy is over"
)]
fn wait(span: Duration) {
    thread::sleep(span);
}

fn carry(from: TcpListener, to: u16, carried: Arc<AtomicUsize>) -> io::Result<JoinHandle<()>> {
    let thread = thread::Builder::new()
        .name("port".into())
        .stack_size(64 << 10);
    thread.spawn(move || {
        loop {
            let here = thread::current();
            while carried.load(Ordering::Acquire) >= CARRIED_MAX {
                thread::park();
            }
            let outside = match from.accept() {
                Ok((outside, _)) => outside,
                // It was shut.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
                Err(_) => {
                    // Too many files are open, perhaps: that passes when a connection ends.
                    thread::park_timeout(Duration::from_millis(50));
                    continue;
                }
            };
            let place = Place::take(&carried, here);
            // Who finds nobody inside finds the connection closed, as it would without us.
            let Ok(inside) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else {
                continue;
            };
            let _ = both_ways(outside, inside, place);
        }
    })
}

/// One of the connections that may be carried; whoever waits for it is woken when it ends.
struct Place(Arc<AtomicUsize>, thread::Thread);

impl Place {
    fn take(carried: &Arc<AtomicUsize>, waiting: thread::Thread) -> Arc<Self> {
        carried.fetch_add(1, Ordering::AcqRel);
        Arc::new(Self(Arc::clone(carried), waiting))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
        self.1.unpark();
    }
}

fn both_ways(outside: TcpStream, inside: TcpStream, place: Arc<Place>) -> io::Result<()> {
    // Small words should not wait for company: that is for the two who talk to decide.
    outside.set_nodelay(true)?;
    inside.set_nodelay(true)?;
    let (outside_too, inside_too) = (outside.try_clone()?, inside.try_clone()?);
    for (from, to) in [(outside, inside), (inside_too, outside_too)] {
        let place = Arc::clone(&place);
        let thread = thread::Builder::new()
            .name("port".into())
            .stack_size(128 << 10);
        thread.spawn(move || {
            let _ = one_way(from, to);
            drop(place);
        })?;
    }
    Ok(())
}

/// Until nothing more comes, which the other side is told, or cannot be handed on.
fn one_way(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let mut piece = vec![0; 64 << 10];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return to.shutdown(Shutdown::Write),
            Ok(length) => {
                if let Err(error) = to.write_all(&piece[..length]) {
                    // Or whoever sends would never learn it.
                    let _ = from.shutdown(Shutdown::Both);
                    return Err(error);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let _ = to.shutdown(Shutdown::Both);
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_to_one_port_is_carried_to_the_other_and_its_end_too() {
        let inside = TcpListener::bind("127.0.0.1:0").unwrap();
        let outside = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = outside.local_addr().unwrap();
        let mut doors = Doors::default();
        doors
            .carry(outside, inside.local_addr().unwrap().port())
            .unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = inside.accept().unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            heard.reverse();
            stream.write_all(&heard).unwrap();
        });
        let mut client = TcpStream::connect(address).unwrap();
        let said: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        client.write_all(&said).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        answer.reverse();
        assert!(answer == said, "{} bytes came back", answer.len());
        server.join().unwrap();
    }

    #[test]
    fn a_door_that_is_shut_refuses_the_next_and_loses_nobody_who_was_let_in() {
        let inside = TcpListener::bind("127.0.0.1:0").unwrap();
        let outside = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = outside.local_addr().unwrap();
        let mut doors = Doors::default();
        doors
            .carry(outside, inside.local_addr().unwrap().port())
            .unwrap();
        // Nobody inside has taken these yet when the port is shut.
        let mut clients: Vec<_> = (0..50)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let shutting = thread::spawn(move || doors.shut());
        // Who comes before it is shut is let in and leaves; who comes after is refused, and not before the second try.
        let refused = loop {
            if let Err(error) = TcpStream::connect(address) {
                break error.kind();
            }
        };
        assert_eq!(refused, io::ErrorKind::ConnectionRefused);
        assert!(!shutting.is_finished(), "fifty are still in");
        let server = thread::spawn(move || {
            for _ in 0..50 {
                let (mut stream, _) = inside.accept().unwrap();
                let mut asked = [0; 4];
                stream.read_exact(&mut asked).unwrap();
                stream.write_all(&asked).unwrap();
            }
        });
        for client in &mut clients {
            let mut answer = [0; 4];
            client.write_all(b"ping").unwrap();
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"ping");
        }
        drop(clients);
        server.join().unwrap();
        shutting.join().unwrap();
    }
}
