//! A question to another node, and its answer.
//!
//! More bytes than a frame carries, as a letter: frames of class C, each with the letter's number, whether it asks or answers, and
//! whether more follows. Streams keep their order, so a letter is put together by appending. Built on
//! [`Fleet::send`] and [`Fleet::listen`] alone, as any protocol could be.
//!
//! Bounded: letters in length ([`LETTER_BYTES_MAX`]) and number ([`LETTERS_MAX`] arriving, as many being answered); who sends more
//! is not answered, and who is not answered hears so after [`PATIENCE`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use wire::frame::PAYLOAD_BYTES_MAX;
use wire::{Class, Decode as _, DecodeError, Encode as _, Reader, Tile};

use super::member::random;
use super::transport::NotSent;
use super::{Fleet, FleetError, Heard, PROTOCOL_FREE};

/// The protocol of letters between people's commands and nodes, in a frame.
pub const PROTOCOL: u8 = PROTOCOL_FREE;
/// No letter is longer.
pub const LETTER_BYTES_MAX: usize = 1 << 20;
/// So many may be under way to a node at a time, and so many being answered.
pub const LETTERS_MAX: usize = 32;
/// Nobody waits longer for an answer.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Nor for one that nobody has to work for.
pub const PATIENCE_AT_HAND: Duration = Duration::from_secs(3);

/// In front of each piece: number, kind, whether more follows.
const HEAD_BYTES_MAX: usize = 10 + 1 + 1;
const PIECE: usize = PAYLOAD_BYTES_MAX - HEAD_BYTES_MAX;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Nobody is called that.
    #[error("there is no machine named {0:?} in the fleet; `cosmos members` lists them")]
    Nobody(String),
    /// It is not held to be alive.
    #[error("{name} is {state}, as far as this machine knows")]
    NotAlive {
        /// Who.
        name: String,
        /// What it is held to be.
        state: String,
    },
    /// More than one may say.
    #[error("{0} bytes, expected at most {LETTER_BYTES_MAX}")]
    TooLong(usize),
    /// It could not be sent.
    #[error(transparent)]
    NotSent(#[from] NotSent),
    /// Nothing came back.
    #[error("no answer for {} s; whether it was heard is not known", .0.as_secs())]
    Silence(Duration),
}

/// Where letters are sent from, and their answers arrive.
#[derive(Clone, Debug)]
pub struct Post {
    fleet: Fleet,
    protocol: u8,
    desk: Arc<Desk>,
}

/// Who waits for which answer of whom.
type Waiting = BTreeMap<(Tile, u64), SyncSender<Vec<u8>>>;

#[derive(Debug, Default)]
struct Desk {
    /// Of the next letter. They begin anywhere, so that what was asked in an earlier life of this node is
    /// not taken for the answer to something else.
    numbers: AtomicU64,
    waiting: Mutex<Waiting>,
    answering: AtomicUsize,
}

/// One frame's worth of a letter.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Of the letter.
    pub number: u64,
    /// Whether it is the answer to the one of that number.
    pub answers: bool,
    /// Whether more of it follows.
    pub more: bool,
    /// What it says.
    pub bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// From what a frame carried.
    ///
    /// # Errors
    /// If that is no piece.
    pub fn read(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let flag = |reader: &mut Reader<'a>| {
            let at = reader.position();
            match reader.byte()? {
                bit @ (0 | 1) => Ok(bit == 1),
                found => Err(DecodeError::Invalid {
                    at,
                    what: "flag of a letter",
                    found: found.into(),
                }),
            }
        };
        let number = u64::decode(&mut reader)?;
        let (answers, more) = (flag(&mut reader)?, flag(&mut reader)?);
        let bytes = reader.bytes(reader.remaining())?;
        Ok(Self {
            number,
            answers,
            more,
            bytes,
        })
    }

    /// For a frame to carry.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut payload = self.number.to_bytes();
        payload.extend([u8::from(self.answers), u8::from(self.more)]);
        payload.extend(self.bytes);
        payload
    }
}

/// Letters on their way in, by sender, number and kind.
#[derive(Debug, Default)]
pub struct Arriving(BTreeMap<(Tile, u64, bool), Vec<u8>>);

impl Arriving {
    /// How many there are.
    #[must_use]
    pub fn number(&self) -> usize {
        self.0.len()
    }

    /// Takes a piece; gives the letter back when it is whole.
    pub fn take(&mut self, from: Tile, piece: &Piece<'_>) -> Option<Vec<u8>> {
        let key = (from, piece.number, piece.answers);
        if !self.0.contains_key(&key) && self.0.len() >= LETTERS_MAX {
            // The rest of a letter whose sender has gone never comes.
            self.0.pop_first();
        }
        let letter = self.0.entry(key).or_default();
        letter.extend(piece.bytes);
        if letter.len() > LETTER_BYTES_MAX {
            self.0.remove(&key);
            return None;
        }
        if piece.more {
            None
        } else {
            self.0.remove(&key)
        }
    }
}

impl Post {
    /// Opens for letters of a protocol, which is this post's alone; what is asked is answered by `serve`, each time on a thread of its own.
    ///
    /// # Errors
    /// If the kernel gives no thread or no randomness.
    pub fn open(
        fleet: Fleet,
        protocol: u8,
        serve: impl Fn(Vec<u8>) -> Vec<u8> + Clone + Send + 'static,
    ) -> Result<Self, FleetError> {
        let heard = fleet.listen(protocol);
        let desk = Arc::new(Desk {
            numbers: AtomicU64::new(u64::from_le_bytes(random()?)),
            ..Desk::default()
        });
        let post = Self {
            fleet,
            protocol,
            desk,
        };
        let (sorting, thread) = (post.clone(), thread::Builder::new().name("post".into()));
        thread.spawn(move || sorting.sort(&heard, &serve))?;
        Ok(post)
    }

    fn sort(
        &self,
        heard: &Receiver<Heard>,
        serve: &(impl Fn(Vec<u8>) -> Vec<u8> + Clone + Send + 'static),
    ) {
        let mut arriving = Arriving::default();
        for Heard { from, payload, .. } in heard {
            let Ok(piece) = Piece::read(&payload) else {
                continue;
            };
            let Some(letter) = arriving.take(from, &piece) else {
                continue;
            };
            let number = piece.number;
            if piece.answers {
                let mut waiting = self
                    .desk
                    .waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                if let Some(asker) = waiting.remove(&(from, number)) {
                    // Who has lost patience is gone.
                    let _ = asker.send(letter);
                }
                continue;
            }
            if self.desk.answering.fetch_add(1, Ordering::Relaxed) >= LETTERS_MAX {
                self.desk.answering.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (post, serve) = (self.clone(), serve.clone());
            let thread = thread::Builder::new().name("letter".into());
            let answering = thread.spawn(move || {
                // An answer that cannot be sent is silence, which the asker expects.
                let _ = post.send(from, number, true, &serve(letter));
                post.desk.answering.fetch_sub(1, Ordering::Relaxed);
            });
            if answering.is_err() {
                self.desk.answering.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Asks the machine with this name.
    ///
    /// # Errors
    /// If it cannot be asked, or does not answer.
    pub fn ask(
        &self,
        name: &str,
        letter: &[u8],
        patience: Duration,
    ) -> Result<Vec<u8>, Unanswered> {
        let members = self.fleet.members().ok_or(NotSent::Left)?;
        let member = members.into_iter().find(|member| member.name == name);
        let member = member.ok_or_else(|| Unanswered::Nobody(name.to_owned()))?;
        if !matches!(member.state.as_str(), "alive" | "suspect") {
            let (name, state) = (member.name, member.state);
            return Err(Unanswered::NotAlive { name, state });
        }
        self.ask_tile(Tile(member.tile), letter, patience)
    }

    /// Asks the machine on this seat, whatever it is held to be.
    ///
    /// # Errors
    /// If it cannot be asked, or does not answer.
    pub fn ask_tile(
        &self,
        to: Tile,
        letter: &[u8],
        patience: Duration,
    ) -> Result<Vec<u8>, Unanswered> {
        let number = self.desk.numbers.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = sync_channel(1);
        let waiting = || {
            self.desk
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        waiting().insert((to, number), answer);
        let sent = self.send(to, number, false, letter);
        let answer = sent.and_then(|()| {
            answered
                .recv_timeout(patience)
                .map_err(|_| Unanswered::Silence(patience))
        });
        waiting().remove(&(to, number));
        answer
    }

    fn send(&self, to: Tile, number: u64, answers: bool, letter: &[u8]) -> Result<(), Unanswered> {
        const PAUSE: Duration = Duration::from_millis(5);
        if letter.len() > LETTER_BYTES_MAX {
            return Err(Unanswered::TooLong(letter.len()));
        }
        let pieces = letter.len().div_ceil(PIECE).max(1);
        for at in 0..pieces {
            let piece = Piece {
                number,
                answers,
                more: at + 1 < pieces,
                bytes: &letter[at * PIECE..letter.len().min((at + 1) * PIECE)],
            };
            let mut patience = PATIENCE;
            loop {
                match self.fleet.send(to, Class::C, self.protocol, piece.write()) {
                    Err(NotSent::NoRoom(_)) if !patience.is_zero() => {
                        patience = patience.saturating_sub(PAUSE);
                        pause(PAUSE);
                    }
                    sent => break sent?,
                }
            }
        }
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a full stream says that it is full, not when there is room"
)]
fn pause(span: Duration) {
    thread::sleep(span);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(number: u64, more: bool, bytes: &[u8]) -> Piece<'_> {
        Piece {
            number,
            answers: false,
            more,
            bytes,
        }
    }

    #[test]
    fn a_letter_is_whole_when_its_last_piece_has_come_whatever_comes_between() {
        let (us, them) = (Tile(1), Tile(2));
        let mut arriving = Arriving::default();
        assert_eq!(arriving.take(us, &piece(7, true, b"a")), None);
        assert_eq!(arriving.take(them, &piece(7, true, b"x")), None);
        assert_eq!(
            arriving.take(us, &piece(8, false, b"b")),
            Some(b"b".to_vec())
        );
        assert_eq!(
            arriving.take(us, &piece(7, false, b"c")),
            Some(b"ac".to_vec())
        );
        assert_eq!(
            arriving.take(them, &piece(7, false, b"")),
            Some(b"x".to_vec())
        );
    }

    #[test]
    fn letters_without_end_take_no_more_than_their_share() {
        let mut arriving = Arriving::default();
        for number in 0..10 * LETTERS_MAX as u64 {
            arriving.take(Tile(1), &piece(number, true, b"more to come"));
        }
        assert_eq!(arriving.0.len(), LETTERS_MAX);
        let much = vec![0; PIECE];
        for _ in 0..2 * LETTER_BYTES_MAX / PIECE {
            arriving.take(Tile(1), &piece(1_000, true, &much));
            assert!(
                arriving
                    .0
                    .values()
                    .all(|letter| letter.len() <= LETTER_BYTES_MAX)
            );
        }
    }

    #[test]
    fn a_piece_is_read_as_it_was_written_and_nonsense_is_refused() {
        let written = piece(300, true, b"bytes");
        assert_eq!(Piece::read(&written.write()), Ok(written));
        for nonsense in [
            &b""[..],
            b"\x01",
            b"\x01\x00",
            b"\x01\x02\x00",
            b"\x80\x00\x00\x00",
        ] {
            assert!(Piece::read(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
