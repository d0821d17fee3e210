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
//! Deliberately absent: a way out that is not all of the host's network, and UDP.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};

/// Connections that are carried at a time for each port; who comes after waits until one ends.
pub const CARRIED_MAX: usize = 1024;

/// Brings up the loopback of the network this process is in.
///
/// # Errors
/// As the kernel.
pub fn bring_up_loopback() -> io::Result<()> {
    // There is nobody else here who could want one of the low ports; a program's own image may expect one.
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    use std::os::fd::AsRawFd as _;
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

/// Carries what comes to a port of the host to one of the loopback of this process's network, from now on.
///
/// # Errors
/// If the kernel gives no thread.
pub fn carry(from: TcpListener, to: u16) -> io::Result<()> {
    let carried = Arc::new(AtomicUsize::new(0));
    let thread = thread::Builder::new()
        .name("port".into())
        .stack_size(64 << 10);
    thread.spawn(move || {
        loop {
            let here = thread::current();
            while carried.load(Ordering::Acquire) >= CARRIED_MAX {
                thread::park();
            }
            let Ok((outside, _)) = from.accept() else {
                // Too many files are open, perhaps: that passes when a connection ends.
                thread::park_timeout(Duration::from_millis(50));
                continue;
            };
            let place = Place::take(&carried, here);
            // Who finds nobody inside finds the connection closed, as it would without us.
            let Ok(inside) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else {
                continue;
            };
            let _ = both_ways(outside, inside, place);
        }
    })?;
    Ok(())
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
        carry(outside, inside.local_addr().unwrap().port()).unwrap();
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
}
