//! Messages between the tiles of a cell, while they are under way.
//!
//! Here the members' tags are made and checked. On a live node each member does that for itself,
//! one tag after the other; at a million tiles that was half of what quiet probing cost. Nothing
//! arrives sooner than the shortest link allows, so by the time one message is due many others
//! are under way, and sixteen tags side by side cost little more than one
//! (`docs/decisions/2026-11-21-tags-side-by-side.md`).
//!
//! Messages cross as values, but for one of which a bit flips: that bit is one of its spelling, and
//! what the recipient makes of the bytes is what it gets.

use std::cell::RefCell;
use std::num::NonZero;

use membership::{Batch, Message};
use trust::Key;
use wire::codec::decode_all;
use wire::{Encode, Instant};

/// Things kept under a number while an event is on its way to them.
#[derive(Clone, Debug)]
pub(super) struct Slots<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    pub(super) const fn new() -> Self {
        Self {
            items: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn put(&mut self, item: T) -> u64 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.items.push(None);
            (self.items.len() - 1) as u32
        });
        self.items[slot as usize] = Some(item);
        u64::from(slot)
    }

    pub(super) fn at(&self, slot: u64) -> &Option<T> {
        &self.items[slot as usize]
    }

    fn get_mut(&mut self, slot: u32) -> &mut T {
        let item = self.items[slot as usize].as_mut();
        item.expect("it is taken only when it fires")
    }

    pub(super) fn take(&mut self, slot: u64) -> T {
        self.free.push(slot as u32);
        self.items[slot as usize]
            .take()
            .expect("each event is fired once")
    }
}

/// The bit of a message that flips, as a share of its length in 65,536ths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flip(NonZero<u16>);

impl Flip {
    /// Any of them, from 64 uniform bits.
    pub(super) fn of(drawn: u64) -> Self {
        Self(NonZero::new((drawn >> 48) as u16).unwrap_or(NonZero::<u16>::MIN))
    }

    fn strike(self, bytes: &mut [u8]) {
        let bit = (bytes.len() * 8 * usize::from(self.0.get())) >> 16;
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// What its recipient can make of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nobody has looked yet.
    Unopened,
    /// A message, and its tag proves it if there is one.
    Good,
    /// A message, and its tag is not its own.
    Untrue,
    /// No message.
    Garbled,
}

/// A message under way.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) sent: Instant,
    pub(super) from: u32,
    pub(super) flip: Option<Flip>,
    pub(super) look: Look,
    pub(super) message: Message,
}

const _: () = assert!(size_of::<Flight>() == 80, "a million are under way");

impl Flight {
    pub(super) const fn new(
        sent: Instant,
        from: u32,
        flip: Option<Flip>,
        message: Message,
    ) -> Self {
        Self {
            sent,
            from,
            flip,
            look: Look::Unopened,
            message,
        }
    }

    /// Lets the bit flip that is to flip.
    fn suffer(&mut self) {
        let Some(flip) = self.flip else { return };
        let mut bytes = self.message.to_bytes();
        flip.strike(&mut bytes);
        match decode_all(&bytes) {
            Ok(message) => self.message = message,
            Err(_) => self.look = Look::Garbled,
        }
    }
}

/// All messages under way in a cell.
#[derive(Clone, Debug)]
pub(super) struct Post {
    flights: Slots<Flight>,
    /// What tags are made with; without it there are none.
    key: Option<Key>,
    /// Handed in since tags were last made.
    untagged: Vec<u32>,
}

thread_local! {
    /// Working memory, one per worker: it stays in the cache.
    static BATCH: RefCell<Batch> = RefCell::default();
}

impl Post {
    pub(super) const fn new(key: Option<Key>) -> Self {
        Self {
            flights: Slots::new(),
            key,
            untagged: Vec::new(),
        }
    }

    /// Takes a message and gives its number.
    pub(super) fn put(&mut self, flight: Flight) -> u64 {
        let slot = self.flights.put(flight);
        if self.key.is_some() {
            self.untagged.push(slot as u32);
        }
        slot
    }

    pub(super) fn at(&self, slot: u64) -> &Option<Flight> {
        self.flights.at(slot)
    }

    /// Hands a message over as it arrives.
    pub(super) fn take(&mut self, slot: u64) -> Flight {
        let Some(key) = &self.key else {
            let mut flight = self.flights.take(slot);
            flight.look = Look::Good;
            flight.suffer();
            return flight;
        };
        let due = self.flights.at(slot).as_ref();
        if due.is_some_and(|flight| flight.look == Look::Unopened) {
            BATCH.with_borrow_mut(|batch| {
                let flights = &mut self.flights;
                seal(flights, &self.untagged, key, batch);
                (self.untagged.iter()).for_each(|&slot| flights.get_mut(slot).suffer());
                prove(flights, &self.untagged, key, batch);
            });
            self.untagged.clear();
        }
        self.flights.take(slot)
    }
}

fn seal(flights: &mut Slots<Flight>, slots: &[u32], key: &Key, batch: &mut Batch) {
    for &slot in slots {
        batch.add(&flights.get_mut(slot).message);
    }
    batch.tags(key, |at, tag| flights.get_mut(slots[at]).message.tag = tag);
}

fn prove(flights: &mut Slots<Flight>, slots: &[u32], key: &Key, batch: &mut Batch) {
    for &slot in slots {
        batch.add(&flights.get_mut(slot).message);
    }
    batch.tags(key, |at, tag| {
        let flight = flights.get_mut(slots[at]);
        if flight.look == Look::Unopened {
            let proven = flight.message.tag == tag;
            flight.look = if proven { Look::Good } else { Look::Untrue };
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use membership::{Claim, Content, Kind, Peer, Update, Updates};
    use trust::Tag;
    use wire::Cell;

    fn flight(number: u64) -> Flight {
        let message = Message {
            cell: Cell(3),
            from: Peer(1),
            to: Peer(2),
            kind: Kind::Ping,
            number,
            incarnation: 0,
            digest: 0,
            content: Content::Claims(Updates::NONE),
            tag: Tag::from_bytes([0; Tag::BYTES]),
        };
        Flight::new(Instant::EPOCH, 1, None, message)
    }

    /// Every message carries the tag its sender would have made, and one that was changed after
    /// that arrives nowhere.
    //= requirements M1
    #[test]
    fn what_was_changed_under_way_does_not_arrive() {
        for count in [1, 2, 3, 16, 40] {
            let key = Key::new([5; 32]);
            let mut post = Post::new(Some(key.clone()));
            let slots: Vec<u64> = (0..count).map(|number| post.put(flight(number))).collect();
            let untagged = std::mem::take(&mut post.untagged);
            let mut batch = Batch::default();
            seal(&mut post.flights, &untagged, &key, &mut batch);
            post.flights.get_mut(0).message.number += 1;
            prove(&mut post.flights, &untagged, &key, &mut batch);
            for (number, slot) in (0..count).zip(slots) {
                let flight = post.take(slot);
                let expected = [Look::Good, Look::Untrue][usize::from(number == 0)];
                assert_eq!(flight.look, expected, "{number} of {count}");
                assert_eq!(flight.message.is_proven(&key), number != 0);
            }
        }
    }

    /// Whichever bit it is: of a number, of a claim, of the tag, or one without which the rest
    /// cannot be read.
    //= requirements M4
    #[test]
    fn a_message_of_which_a_bit_flipped_is_never_taken_for_good() {
        let mut claims = Updates::NONE;
        for peer in 0..3 {
            let (peer, accuser, claim) = (Peer(peer), Peer(9), Claim::from_bits(1));
            assert!(claims.push(Update {
                peer,
                accuser,
                claim
            }));
        }
        let mut long = flight(1 << 40);
        long.message.content = Content::Claims(claims);
        let (mut garbled, mut untrue) = (0, 0);
        let mut post = Post::new(Some(Key::new([5; 32])));
        for whole in [flight(7), long] {
            let bits = whole.message.encoded_len() as u64 * 8;
            for bit in 0..bits {
                let drawn = (bit * 65_536).div_ceil(bits) << 48;
                let flip = Some(Flip::of(drawn));
                let slot = post.put(Flight {
                    flip,
                    ..whole.clone()
                });
                match post.take(slot).look {
                    Look::Garbled => garbled += 1,
                    Look::Untrue => untrue += 1,
                    look => panic!("bit {bit} of {bits}: {look:?}"),
                }
            }
        }
        assert!(garbled > 20 && untrue > 300, "{garbled}, {untrue}");
        // With no tag to hold it against, nothing but its shape could tell.
        let mut trusting = Post::new(None);
        let flip = Some(Flip::of(1 << 63));
        let slot = trusting.put(Flight { flip, ..flight(7) });
        let taken = trusting.take(slot);
        assert_eq!(taken.look, Look::Good);
        assert_ne!(taken.message, flight(7).message);
    }

    #[test]
    fn without_a_key_messages_go_as_they_are() {
        let mut post = Post::new(None);
        let slot = post.put(flight(9));
        let flight = post.take(slot);
        assert_eq!(flight.look, Look::Good);
        assert_eq!(flight.message.tag, Tag::from_bytes([0; Tag::BYTES]));
    }
}
