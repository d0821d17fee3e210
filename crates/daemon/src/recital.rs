//! What a program said, told to whoever asks on this machine, wherever in the fleet it runs.
//!
//! Of a program here the journal is read. Of one that the fleet runs elsewhere the holder is asked for one piece after another, by letters ([`Request::Piece`]); who follows
//! goes along when another machine holds it.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::control::{Answer, PIECE_MAX, Piece, Request};
use crate::journal::Journal;
use crate::node::Handle;
use crate::reasons::{self, Whereabouts};

/// Who is far away is asked so often for more.
const PAUSE: Duration = Duration::from_millis(300);
/// So often in a row may nobody hold it, or its holder not answer, before that is its end: time for a failover.
const SILENCES_MAX: u32 = 60;

/// What a program of this machine said.
pub(crate) fn here(stream: &mut UnixStream, journal: &Journal, follow: bool) -> io::Result<()> {
    let mut from = 0;
    let mut begun = false;
    loop {
        let piece = journal.read(from, PIECE_MAX)?;
        // What was rotated away before anybody asked is no news.
        if piece.lost > 0 && begun {
            writeln!(stream, "\n[{} bytes are no longer kept]", piece.lost)?;
        }
        begun = true;
        stream.write_all(&piece.bytes)?;
        from = piece.next;
        if piece.bytes.is_empty()
            && (!follow || !journal.wait(from, Duration::from_secs(1)) || is_gone(stream)?)
        {
            return Ok(());
        }
    }
}

/// A reader that has gone would otherwise be noticed with the next word only.
pub(crate) fn is_gone(stream: &mut UnixStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let gone = matches!(stream.read(&mut [0]), Ok(0));
    stream.set_nonblocking(false)?;
    Ok(gone)
}

/// What a replica of the fleet says.
pub(crate) struct Afar<'a> {
    node: &'a Handle,
    /// Which.
    replica: String,
    /// Who holds it.
    machine: String,
}

impl<'a> Afar<'a> {
    /// Finds it: by its own name, or by that of a program of which one replica is held.
    pub(crate) fn find(node: &'a Handle, name: &str) -> Result<Self, String> {
        match reasons::whereabouts(node.fleet(), name)? {
            Whereabouts::On(replica, machine) => Ok(Self {
                node,
                replica,
                machine,
            }),
            Whereabouts::Waits(replica) => Err(format!(
                "{replica} waits for a machine; `cosmos why {replica}` says why"
            )),
            Whereabouts::Nowhere(because) => Err(because),
        }
    }

    fn piece(&self, from: u64) -> Answer {
        self.node.ask(Request::On {
            member: self.machine.clone(),
            request: Box::new(Request::Piece {
                name: self.replica.clone(),
                from,
            }),
        })
    }

    pub(crate) fn tell(mut self, stream: &mut UnixStream, follow: bool) -> io::Result<()> {
        let (mut from, mut silences) = (0, 0);
        loop {
            match self.piece(from) {
                Answer::Piece(Piece {
                    lost,
                    bytes,
                    next,
                    open,
                }) => {
                    if lost > 0 && from > 0 {
                        writeln!(stream, "\n[{lost} bytes are no longer kept]")?;
                    }
                    stream.write_all(&bytes)?;
                    (from, silences) = (next, 0);
                    if !bytes.is_empty() {
                        continue;
                    }
                    if !follow {
                        return Ok(());
                    }
                    if open {
                        if is_gone(stream)? {
                            return Ok(());
                        }
                        pause(PAUSE);
                        continue;
                    }
                }
                Answer::Refused { because } if !follow => {
                    return writeln!(stream, "\n[{because}]");
                }
                _ => {}
            }
            // It is over there, or nobody answers there: perhaps another has it by now.
            silences += 1;
            match reasons::whereabouts(self.node.fleet(), &self.replica) {
                Ok(Whereabouts::On(_, machine)) if machine != self.machine => {
                    writeln!(stream, "\n[{} is on {machine} from here on]", self.replica)?;
                    (self.machine, from) = (machine, 0);
                }
                Ok(Whereabouts::Nowhere(_)) => return Ok(()),
                _ if silences > SILENCES_MAX || is_gone(stream)? => return Ok(()),
                _ => pause(PAUSE),
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a machine that is asked says what was said, not when there is more"
)]
fn pause(span: Duration) {
    thread::sleep(span);
}
