//! Messages between the tiles of a cell, while they are under way.
//!
//! Here the members' tags are made and checked. On a live node each member does that for itself,
//! one tag after the other; at a million tiles that was half of what quiet probing cost. Nothing
//! arrives sooner than the shortest link allows, so by the time one message is due many others
//! are under way, and sixteen tags side by side cost little more than one
//! (`docs/decisions/2026-11-21-tags-side-by-side.md`).

use std::cell::RefCell;

use membership::{Batch, Message};
use trust::Key;
use wire::Instant;

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

/// A message under way.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) sent: Instant,
    pub(super) from: u32,
    /// Whether its tag proves it.
    proven: bool,
    pub(super) message: Message,
}

impl Flight {
    pub(super) const fn new(sent: Instant, from: u32, message: Message) -> Self {
        Self {
            sent,
            from,
            proven: false,
            message,
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

    /// Hands a message over; none if its tag does not prove it.
    pub(super) fn take(&mut self, slot: u64) -> Option<Flight> {
        let Some(key) = &self.key else {
            return Some(self.flights.take(slot));
        };
        let due = self.flights.at(slot).as_ref();
        if !due.is_some_and(|flight| flight.proven) {
            BATCH.with_borrow_mut(|batch| {
                let flights = &mut self.flights;
                seal(flights, &self.untagged, key, batch);
                prove(flights, &self.untagged, key, batch);
            });
            self.untagged.clear();
        }
        let flight = self.flights.take(slot);
        flight.proven.then_some(flight)
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
        flight.proven = flight.message.tag == tag;
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use membership::{Content, Kind, Peer, Updates};
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
        Flight::new(Instant::EPOCH, 1, message)
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
                assert_eq!(flight.is_some(), number != 0, "{number} of {count}");
                assert!(flight.is_none_or(|flight| flight.message.is_proven(&key)));
            }
        }
    }

    #[test]
    fn without_a_key_messages_go_as_they_are() {
        let mut post = Post::new(None);
        let slot = post.put(flight(9));
        let flight = post.take(slot).expect("nothing is asked of it");
        assert_eq!(flight.message.tag, Tag::from_bytes([0; Tag::BYTES]));
    }
}
