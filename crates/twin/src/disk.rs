//! What does a disk keep when the power goes?
//!
//! A tile writes little: at each change one record that replaces the last. So its disk is two
//! slots, written by turns, each with a sequence number and a checksum. A write
//! in progress touches only the older slot; whatever becomes of it, the younger one is whole. After a crash the
//! record with the highest number whose checksum holds is what was kept.
//!
//! Three things go wrong, all drawn from the stream the disk is made with: a write takes its
//! time; a sync may be lost, and is tried again, so that the answer is late by another
//! such time; and a crash finds a write done, not begun, or torn: its first bytes new, the rest as they were.
//!
//! Deliberately absent: a disk that says *done* before it is. Against that no protocol on one machine can
//! defend itself.

use std::collections::VecDeque;

use machine::{Persist, Persisted, Stream};
use thiserror::Error;
use trust::{Key, Tag};
use wire::codec::decode_all;
use wire::{Decode, DecodeError, Encode, Instant, Nanos, Reader};

/// How bad a disk is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temper {
    /// The quickest a write is durable.
    pub latency_min: Nanos,
    /// The slowest, if no sync is lost.
    pub latency_max: Nanos,
    /// The share of syncs that are lost.
    pub lost: f64,
    /// Of writes that a crash finds under way, the share that are torn; of the others, half are done.
    pub torn: f64,
}

/// One tile's disk.
#[derive(Clone, Debug)]
pub struct Disk {
    temper: Temper,
    chance: Stream,
    slots: [Vec<u8>; 2],
    /// The number of the record written last, and so which slot is next.
    sequence: u64,
    writing: Option<Writing>,
    queue: VecDeque<Persist>,
}

#[derive(Clone, Debug)]
struct Writing {
    token: u64,
    slot: Vec<u8>,
    due: Instant,
}

/// Neither slot holds a whole record, though something was written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "read the record of a disk: slot 0: {0}; slot 1: {1}; expected a whole record in one of them; \
     nothing is known of what was written"
)]
pub struct Unreadable(pub Slot, pub Slot);

/// What is wrong with a slot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Slot {
    /// Nothing was ever written to it.
    #[error("blank")]
    Blank,
    /// It is not the form of a record.
    #[error("{found} bytes that are no record ({why})")]
    Garbled {
        /// How many bytes it holds.
        found: usize,
        /// Where reading stopped.
        why: DecodeError,
    },
    /// It has the form of a record and another checksum.
    #[error("record {sequence} is torn: {found} bytes that are not those of its checksum")]
    Torn {
        /// The number it claims.
        sequence: u64,
        /// How many bytes it claims.
        found: usize,
    },
}

/// A slot in full.
struct Record {
    sequence: u64,
    bytes: Vec<u8>,
    checksum: Tag,
}

impl Disk {
    /// A disk that holds this record: what was written when its tile was put into service.
    #[must_use]
    pub fn new(temper: Temper, chance: Stream, record: &[u8]) -> Self {
        Self {
            temper,
            chance,
            slots: [slot(0, record), Vec::new()],
            sequence: 0,
            writing: None,
            queue: VecDeque::new(),
        }
    }

    /// Takes a write; it will be durable some time after those before it.
    pub fn write(&mut self, now: Instant, write: Persist) {
        self.queue.push_back(write);
        self.begin(now);
    }

    /// When something is next durable.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.writing.as_ref().map(|writing| writing.due)
    }

    /// The answer that is due, if one is and its sync was not lost.
    pub fn wake(&mut self, now: Instant) -> Option<Persisted> {
        let writing = self.writing.take_if(|writing| writing.due <= now)?;
        if self.chance.chance(self.temper.lost) {
            let due = now + self.latency();
            self.writing = Some(Writing { due, ..writing });
            return None;
        }
        self.keep(writing.slot);
        self.begin(now);
        let token = writing.token;
        Some(Persisted { token })
    }

    /// The power goes. What was not begun is gone, and what was under way may be torn.
    pub fn crash(&mut self) {
        self.queue.clear();
        let Some(writing) = self.writing.take() else {
            return;
        };
        if self.chance.chance(self.temper.torn) {
            let until = self.chance.below(writing.slot.len() as u64) as usize;
            let under = &mut self.slots[next(self.sequence)];
            let rest = under.get(until..).unwrap_or_default().to_vec();
            *under = [&writing.slot[..until], &rest].concat();
        } else if self.chance.chance(0.5) {
            self.keep(writing.slot);
        }
        // What it has after a crash it learns by reading: a torn write may be whole by luck.
        self.sequence = self
            .youngest()
            .map_or(self.sequence, |record| record.sequence);
    }

    /// The record kept, read as after a crash.
    ///
    /// # Errors
    /// If neither slot holds a whole one: this disk was not made by [`Disk::new`], or lied.
    pub fn kept(&self) -> Result<Vec<u8>, Unreadable> {
        self.youngest().map(|record| record.bytes)
    }

    /// Whether a write is under way.
    #[must_use]
    pub const fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    fn youngest(&self) -> Result<Record, Unreadable> {
        match (read(&self.slots[0]), read(&self.slots[1])) {
            (Ok(a), Ok(b)) => Ok(if a.sequence > b.sequence { a } else { b }),
            (Ok(record), Err(_)) | (Err(_), Ok(record)) => Ok(record),
            (Err(a), Err(b)) => Err(Unreadable(a, b)),
        }
    }

    fn begin(&mut self, now: Instant) {
        if self.writing.is_none()
            && let Some(Persist { token, bytes }) = self.queue.pop_front()
        {
            self.writing = Some(Writing {
                token,
                slot: slot(self.sequence + 1, &bytes),
                due: now + self.latency(),
            });
        }
    }

    fn keep(&mut self, slot: Vec<u8>) {
        self.slots[next(self.sequence)] = slot;
        self.sequence += 1;
    }

    fn latency(&mut self) -> Nanos {
        let Temper {
            latency_min,
            latency_max,
            ..
        } = self.temper;
        latency_min
            + self
                .chance
                .span(latency_max.saturating_sub(latency_min) + Nanos(1))
    }
}

/// Where the record after this one goes.
const fn next(sequence: u64) -> usize {
    (sequence + 1) as usize % 2
}

fn slot(sequence: u64, bytes: &[u8]) -> Vec<u8> {
    let mut slot = Vec::new();
    sequence.encode(&mut slot);
    (bytes.len() as u64).encode(&mut slot);
    slot.extend_from_slice(bytes);
    let checksum = checksum(&slot);
    slot.extend_from_slice(checksum.as_bytes());
    slot
}

fn read(slot: &[u8]) -> Result<Record, Slot> {
    if slot.is_empty() {
        return Err(Slot::Blank);
    }
    let found = slot.len();
    let record: Record = decode_all(slot).map_err(|why| Slot::Garbled { found, why })?;
    if record.checksum != checksum(&slot[..found - Tag::BYTES]) {
        return Err(Slot::Torn {
            sequence: record.sequence,
            found: record.bytes.len(),
        });
    }
    Ok(record)
}

impl Decode for Record {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let sequence = u64::decode(from)?;
        let length = u64::decode(from)? as usize;
        let bytes = from.bytes(length)?.to_vec();
        let checksum = from.bytes(Tag::BYTES)?;
        let checksum = Tag::from_bytes(checksum.try_into().expect("so many were read"));
        Ok(Self {
            sequence,
            bytes,
            checksum,
        })
    }
}

/// The tag of a key that everybody has: it guards against accidents, not against anybody.
fn checksum(bytes: &[u8]) -> Tag {
    Key::new([0; 32]).tag(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::Purpose;
    use wire::Tile;

    fn disk(torn: f64, seed: u64) -> Disk {
        let temper = Temper {
            latency_min: Nanos::MILLISECOND,
            latency_max: Nanos::from_millis(9),
            lost: 0.2,
            torn,
        };
        Disk::new(
            temper,
            Stream::new(seed, Tile(0), Purpose::Faults),
            b"commissioned",
        )
    }

    fn write(token: u64) -> Persist {
        let bytes = format!(
            "record {token}, longer than the last: {}",
            "x".repeat(token as usize)
        );
        Persist {
            token,
            bytes: bytes.into_bytes(),
        }
    }

    /// Runs until it is idle; the tokens in the order they were answered.
    fn settle(disk: &mut Disk) -> Vec<u64> {
        let mut answered = Vec::new();
        while let Some(due) = disk.deadline() {
            answered.extend(disk.wake(due).map(|done| done.token));
        }
        answered
    }

    #[test]
    fn every_write_is_answered_in_order_and_the_last_is_kept() {
        for seed in 0..100 {
            let mut disk = disk(0.5, seed);
            (1..=5).for_each(|token| disk.write(Instant::EPOCH, write(token)));
            assert_eq!(settle(&mut disk), [1, 2, 3, 4, 5]);
            disk.crash();
            assert_eq!(disk.kept(), Ok(write(5).bytes));
        }
    }

    #[test]
    fn a_crash_in_the_middle_keeps_what_was_answered_or_what_was_being_written() {
        let (mut older, mut newer, mut torn) = (0, 0, 0);
        for seed in 0..300 {
            let mut disk = disk(0.5, seed);
            disk.write(Instant::EPOCH, write(1));
            settle(&mut disk);
            for token in 2..20 {
                disk.write(Instant::EPOCH, write(token));
                disk.write(Instant::EPOCH, write(99));
                let before = disk.kept().unwrap();
                disk.crash();
                assert!(settle(&mut disk).is_empty(), "what was not begun is gone");
                torn += u32::from(disk.slots.iter().any(|slot| read(slot).is_err()));
                let kept = disk.kept().unwrap();
                older += u32::from(kept == before);
                newer += u32::from(kept == write(token).bytes);
                assert!(kept == before || kept == write(token).bytes);
            }
        }
        assert!(
            older > 100 && newer > 100 && torn > 100,
            "{older} {newer} {torn}"
        );
    }

    #[test]
    fn a_disk_with_no_whole_record_says_what_it_found() {
        let mut disk = disk(0.0, 1);
        disk.slots[0][9] ^= 1;
        assert_eq!(
            disk.kept().unwrap_err().to_string(),
            "read the record of a disk: slot 0: record 0 is torn: 12 bytes that are not those of its \
             checksum; slot 1: blank; expected a whole record in one of them; nothing is known of \
             what was written"
        );
        disk.slots[0].truncate(9);
        disk.slots[1] = vec![0xff; 3];
        assert_eq!(
            disk.kept().unwrap_err().to_string(),
            "read the record of a disk: slot 0: 9 bytes that are no record (byte 9: the input ends \
             here, 5 more expected); slot 1: 3 bytes that are no record (byte 3: the input ends \
             here, 1 more expected); expected a whole record in one of them; nothing is known of \
             what was written"
        );
    }
}
