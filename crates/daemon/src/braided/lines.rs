//! How words get to other machines: a queue and a thread for each, so that one that is gone keeps nobody waiting.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use wire::{Class, Tile};

use super::word::{Word, pieces};
use super::{Id, PROTOCOL, put};
use crate::fleet::member::random;
use crate::fleet::transport::NotSent;
use crate::fleet::{Fleet, FleetError};

/// Words that wait for one machine.
const WORDS_MAX: usize = 2_048;
/// A stream that is full is tried again after so long,
const PAUSE: Duration = Duration::from_millis(1);
/// and so often; then the word is lost, as whoever is to hear it seems to be.
const TRIES: u32 = 50;

/// The ways to all machines, this one among them.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    fleet: Fleet,
    here: Tile,
    home: SyncSender<(Id, Word)>,
    peers: Arc<Mutex<BTreeMap<Tile, SyncSender<Said>>>>,
    numbers: Arc<AtomicU64>,
}

type Said = (Class, Vec<Vec<u8>>);

impl Lines {
    /// With what this machine says to itself.
    ///
    /// # Errors
    /// If the kernel gives no randomness.
    pub(super) fn new(
        fleet: Fleet,
        here: Tile,
    ) -> Result<(Self, Receiver<(Id, Word)>), FleetError> {
        // From where an earlier life of this machine did not come, so that nobody mends one of its words with one of ours.
        let first = u64::from_le_bytes(random()?) >> 1;
        let (home, said) = sync_channel(WORDS_MAX);
        let lines = Self {
            fleet,
            here,
            home,
            peers: Arc::default(),
            numbers: Arc::new(AtomicU64::new(first)),
        };
        Ok((lines, said))
    }

    pub(super) const fn here(&self) -> Tile {
        self.here
    }

    /// Says a word, unless too many wait already.
    pub(super) fn say(&self, to: Tile, braid: Id, word: Word) {
        if to == self.here {
            put(&self.home, (braid, word));
            return;
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let Some(pieces) = pieces(number, braid, &word) else {
            return;
        };
        let mut class = word.class();
        if pieces.len() > 1 {
            // Datagrams keep no order.
            class = Class::B;
        }
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = peers.entry(to).or_insert_with(|| {
            let (queue, said) = sync_channel(WORDS_MAX);
            let fleet = self.fleet.clone();
            let thread = thread::Builder::new().name(format!("braids to {}", to.0));
            // Without a thread everything for that machine is lost, which it is there for.
            let _ = thread.spawn(move || carry(&fleet, to, &said));
            queue
        });
        put(peer, (class, pieces));
    }
}

fn carry(fleet: &Fleet, to: Tile, said: &Receiver<Said>) {
    for (class, pieces) in said {
        for piece in pieces {
            if !sent(fleet, to, class, piece) {
                break;
            }
        }
    }
}

/// Whether there was room in time.
fn sent(fleet: &Fleet, to: Tile, class: Class, piece: Vec<u8>) -> bool {
    for _ in 0..TRIES {
        match fleet.send(to, class, PROTOCOL, piece.clone()) {
            Ok(()) => return true,
            Err(NotSent::NoRoom(_)) => pause(),
            Err(_) => return false,
        }
    }
    false
}

#[expect(
    clippy::disallowed_methods,
    reason = "a full stream says that it is full, not when there is room"
)]
fn pause() {
    thread::sleep(PAUSE);
}
