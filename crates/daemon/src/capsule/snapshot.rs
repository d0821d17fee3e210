//! What is a capsule between two events?
//!
//! Its memories and its globals: nothing of it is on a stack, and what the host kept for it was thrown away with the
//! event ([`events`](super::events)). A [`Snapshot`] is that, with the module it belongs to, the number of events that
//! went into it, and the answers that may not have been heard. As a file it is a row of sections:
//!
//! ```text
//! "cosmos capsule 1\n"   head  glob  answ… or keyd… or past…  memo page…  memo page…  done
//! section = kind (4)  length (u32, little-endian)  bytes  seal (16: of kind, length and bytes)
//! ```
//!
//! A page is 4 KiB of memory that are not all zero, with its place in front. `done` seals the seals, so that a section
//! that is missing or in another's place is noticed too. What does not match is refused with the place where it is:
//! there is nothing to fall back to, because what an older snapshot lacks was promised.
//!
//! Seals are the first half of BLAKE3 and find accidents. Who can write the file decides what the capsule remembers,
//! and no more: it is data of the capsule, whose walls are elsewhere.

use std::fmt;

/// Of memory that is kept or left out together, in bytes.
pub const PAGE: usize = 4096;

/// A page of WebAssembly, the unit in which memory grows, in bytes.
const WASM_PAGE: u64 = 65536;

/// No module with 32-bit memories has more of them, and none has so many memories or globals by far.
const WASM_PAGES_MAX: u64 = 65536;
const MEMORIES_MAX: usize = 64;
const GLOBALS_MAX: usize = 1 << 16;

const MAGIC: &[u8; 17] = b"cosmos capsule 1\n";
const SEAL: usize = 16;
/// Kind and length.
const FRONT: usize = 8;

/// A capsule between two events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// BLAKE3 of the module's file.
    pub module: [u8; 32],
    /// How many events it has seen.
    pub events: u64,
    /// What its clock shows, in nanoseconds, where it has one of its own.
    pub clock: u64,
    /// The answers to the last events, which may not have reached anybody.
    pub answers: Vec<Answered>,
    /// Its mutable globals, in order.
    pub globals: Vec<Value>,
    /// Its memories, in order.
    pub memories: Vec<Memory>,
}

/// An event that took place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// What whoever asked called it, if anything: asked again by that name, it is not done again.
    pub key: Vec<u8>,
    /// What was answered; none if that is no longer kept.
    pub said: Option<Vec<u8>>,
}

impl Answered {
    /// To an event without a name.
    #[must_use]
    pub const fn of(said: Vec<u8>) -> Self {
        Self {
            key: Vec::new(),
            said: Some(said),
        }
    }
}

/// What a global holds; floating point as its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// 32 bits.
    I32(u32),
    /// 64 bits.
    I64(u64),
    /// 32 bits of floating point.
    F32(u32),
    /// 64 bits of floating point.
    F64(u64),
    /// A vector.
    V128(u128),
}

/// A linear memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// How long it is, in pages of WebAssembly (64 KiB).
    pub length: u64,
    /// What of it is not zero: which [`PAGE`], and its bytes.
    pub pages: Vec<(u32, Box<[u8; PAGE]>)>,
}

impl Memory {
    /// What is not zero of these bytes, which are all of a memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let (pages, rest) = bytes.as_chunks::<PAGE>();
        assert!(rest.is_empty(), "a memory is so many pages long");
        let filled = pages
            .iter()
            .zip(0..)
            .filter(|(page, _)| **page != [0; PAGE]);
        Self {
            length: bytes.len() as u64 / WASM_PAGE,
            pages: filled.map(|(page, at)| (at, Box::new(*page))).collect(),
        }
    }

    /// Writes it over a memory that is as long.
    ///
    /// # Panics
    /// If that is shorter.
    pub fn write_over(&self, bytes: &mut [u8]) {
        bytes.fill(0);
        for (at, page) in &self.pages {
            bytes[*at as usize * PAGE..][..PAGE].copy_from_slice(&**page);
        }
    }
}

/// What is wrong with a file that should be a snapshot, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// How many bytes of it are in front of the place.
    pub at: usize,
    /// What is there.
    pub found: String,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.found)
    }
}

impl std::error::Error for Damaged {}

fn seal(section: &[u8]) -> [u8; SEAL] {
    let hash = blake3::hash(section);
    *hash.as_bytes().first_chunk().expect("a hash is longer")
}

/// Sections, one after the other.
struct Writer {
    bytes: Vec<u8>,
    seals: blake3::Hasher,
}

impl Writer {
    fn section(&mut self, kind: &[u8; 4], parts: &[&[u8]]) {
        let start = self.bytes.len();
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let length = u32::try_from(length).expect("no section is that long");
        self.bytes.extend_from_slice(kind);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        let seal = seal(&self.bytes[start..]);
        self.seals.update(&seal);
        self.bytes.extend_from_slice(&seal);
    }
}

impl Snapshot {
    /// As a file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let pages: usize = self.memories.iter().map(|memory| memory.pages.len()).sum();
        let mut writer = Writer {
            bytes: Vec::with_capacity(pages * (PAGE + 64) + 4096),
            seals: blake3::Hasher::new(),
        };
        writer.bytes.extend_from_slice(MAGIC);
        let (events, clock) = (self.events.to_le_bytes(), self.clock.to_le_bytes());
        writer.section(b"head", &[&self.module, &events, &clock]);
        let mut globals = Vec::new();
        for global in &self.globals {
            let (tag, bits) = match *global {
                Value::I32(bits) => (0, bits.into()),
                Value::I64(bits) => (1, bits.into()),
                Value::F32(bits) => (2, bits.into()),
                Value::F64(bits) => (3, bits.into()),
                Value::V128(bits) => (4, bits),
            };
            globals.push(tag);
            globals.extend_from_slice(&u128::to_le_bytes(bits));
        }
        writer.section(b"glob", &[&globals]);
        for answer in &self.answers {
            let length = u16::try_from(answer.key.len()).expect("keys are short");
            match &answer.said {
                Some(said) if length == 0 => writer.section(b"answ", &[said]),
                Some(said) => {
                    writer.section(b"keyd", &[&length.to_le_bytes(), &answer.key, said]);
                }
                None => writer.section(b"past", &[&answer.key]),
            }
        }
        for memory in &self.memories {
            writer.section(b"memo", &[&memory.length.to_le_bytes()]);
            for (at, page) in &memory.pages {
                writer.section(b"page", &[&at.to_le_bytes(), &**page]);
            }
        }
        let seals = writer.seals.finalize();
        writer.section(b"done", &[seals.as_bytes()]);
        writer.bytes
    }

    /// From a file.
    ///
    /// # Errors
    /// If that is not what [`Snapshot::to_bytes`] gave, down to the last bit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut reader = Reader::begin(bytes)?;
        let head = reader.next()?;
        let damaged = |section: &Section<'_>, found: &str| Damaged {
            at: section.at,
            found: found.to_owned(),
        };
        let (b"head", Ok(fields)) = (&head.kind, <&[u8; 48]>::try_from(head.bytes)) else {
            return Err(damaged(&head, "found no head, expected one of 48 bytes"));
        };
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let mut snapshot = Self {
            module: fields[..32].try_into().expect("the first of 48"),
            events: number(&fields[32..40]),
            clock: number(&fields[40..]),
            answers: Vec::new(),
            globals: Vec::new(),
            memories: Vec::new(),
        };
        let globals = reader.next()?;
        let (values, rest) = globals.bytes.as_chunks::<17>();
        if globals.kind != *b"glob" || !rest.is_empty() || values.len() > GLOBALS_MAX {
            return Err(damaged(
                &globals,
                "found no globals, expected 17 bytes for each",
            ));
        }
        for [tag, bits @ ..] in values {
            let value = value(*tag, u128::from_le_bytes(*bits));
            let value = value.ok_or_else(|| damaged(&globals, "found no value of any type"))?;
            snapshot.globals.push(value);
        }
        loop {
            let section = reader.next()?;
            match &section.kind {
                b"answ" if snapshot.memories.is_empty() => {
                    let said = section.bytes.to_vec();
                    snapshot.answers.push(Answered::of(said));
                }
                b"keyd" if snapshot.memories.is_empty() => {
                    let length = section.bytes.split_first_chunk();
                    let parts = length.and_then(|(length, rest)| {
                        let length = usize::from(u16::from_le_bytes(*length));
                        (length > 0).then(|| rest.split_at_checked(length))?
                    });
                    let (key, said) =
                        parts.ok_or_else(|| damaged(&section, "found no key of an event"))?;
                    snapshot.answers.push(Answered {
                        key: key.to_vec(),
                        said: Some(said.to_vec()),
                    });
                }
                b"past" if snapshot.memories.is_empty() => snapshot.answers.push(Answered {
                    key: section.bytes.to_vec(),
                    said: None,
                }),
                b"memo" => {
                    let length = <[u8; 8]>::try_from(section.bytes).map(u64::from_le_bytes);
                    let length = length.ok().filter(|length| *length <= WASM_PAGES_MAX);
                    let length = length.filter(|_| snapshot.memories.len() < MEMORIES_MAX);
                    let length =
                        length.ok_or_else(|| damaged(&section, "found no length of a memory"))?;
                    let pages = Vec::new();
                    snapshot.memories.push(Memory { length, pages });
                }
                b"page" => {
                    page(&mut snapshot, &section).map_err(|found| damaged(&section, found))?
                }
                b"done" => {
                    reader.end(&section)?;
                    break;
                }
                _ => {
                    return Err(damaged(
                        &section,
                        "found a section of no kind that belongs there",
                    ));
                }
            }
        }
        if snapshot.answers.len() as u64 > snapshot.events {
            return Err(damaged(&head, "found more answers than events"));
        }
        Ok(snapshot)
    }
}

/// The parts of a snapshot's file, each as long as its section: together they are all of it. What is no snapshot is one part.
#[must_use]
pub(crate) fn parts(bytes: &[u8]) -> Vec<&[u8]> {
    let mut ends = vec![MAGIC.len().min(bytes.len())];
    let mut at = ends[0];
    while let Some(front) = bytes.get(at..at + FRONT) {
        let [.., l0, l1, l2, l3] = *front else {
            break;
        };
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        at = (at + FRONT + SEAL).saturating_add(length).min(bytes.len());
        ends.push(at);
    }
    if at < bytes.len() {
        ends.push(bytes.len());
    }
    let begins = std::iter::once(0).chain(ends.iter().copied());
    begins
        .zip(&ends)
        .map(|(from, to)| &bytes[from..*to])
        .collect()
}

fn value(tag: u8, bits: u128) -> Option<Value> {
    let short = || u32::try_from(bits).ok();
    let long = || u64::try_from(bits).ok();
    Some(match tag {
        0 => Value::I32(short()?),
        1 => Value::I64(long()?),
        2 => Value::F32(short()?),
        3 => Value::F64(long()?),
        4 => Value::V128(bits),
        _ => return None,
    })
}

fn page(snapshot: &mut Snapshot, section: &Section<'_>) -> Result<(), &'static str> {
    let (at, page) = section.bytes.split_first_chunk().ok_or("found no page")?;
    let (at, page) = (u32::from_le_bytes(*at), <&[u8; PAGE]>::try_from(page));
    let page = page.map_err(|_| "found a page of another length than 4096 bytes")?;
    let memory = snapshot.memories.last_mut();
    let memory = memory.ok_or("found a page of no memory")?;
    if u64::from(at) >= memory.length * (WASM_PAGE / PAGE as u64) {
        return Err("found a page behind the end of its memory");
    }
    if memory.pages.last().is_some_and(|(before, _)| *before >= at) || *page == [0; PAGE] {
        return Err("found a page that is empty, or not behind the one before it");
    }
    memory.pages.push((at, Box::new(*page)));
    Ok(())
}

struct Section<'a> {
    /// Where it begins.
    at: usize,
    kind: [u8; 4],
    bytes: &'a [u8],
}

struct Reader<'a> {
    all: &'a [u8],
    at: usize,
    /// Of every section but the last that was read.
    seals: blake3::Hasher,
    last: Option<[u8; SEAL]>,
}

impl<'a> Reader<'a> {
    fn begin(all: &'a [u8]) -> Result<Self, Damaged> {
        if !all.starts_with(MAGIC) {
            return Err(Damaged {
                at: 0,
                found: "found no snapshot of a capsule, or one of another version than 1"
                    .to_owned(),
            });
        }
        Ok(Self {
            all,
            at: MAGIC.len(),
            seals: blake3::Hasher::new(),
            last: None,
        })
    }

    fn next(&mut self) -> Result<Section<'a>, Damaged> {
        if let Some(seal) = self.last.take() {
            self.seals.update(&seal);
        }
        let at = self.at;
        let left = &self.all[at..];
        let cut = || Damaged {
            at,
            found: format!("found {} bytes, expected a whole section", left.len()),
        };
        let (front, behind) = left.split_first_chunk::<FRONT>().ok_or_else(cut)?;
        let [kind @ .., l0, l1, l2, l3] = *front;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let bytes = behind.get(..length).ok_or_else(cut)?;
        let found = behind[length..].first_chunk::<SEAL>().ok_or_else(cut)?;
        if seal(&left[..FRONT + length]) != *found {
            let kind = String::from_utf8_lossy(&kind).escape_default().to_string();
            return Err(Damaged {
                at,
                found: format!(
                    "found a section ({kind}, {length} bytes) that does not match its seal"
                ),
            });
        }
        self.last = Some(*found);
        self.at = at + FRONT + length + SEAL;
        Ok(Section { at, kind, bytes })
    }

    /// That this section is the last and seals all others.
    fn end(&self, done: &Section<'_>) -> Result<(), Damaged> {
        let found = match () {
            () if self.seals.finalize().as_bytes() != done.bytes => {
                "found other sections before it than it seals"
            }
            () if self.at != self.all.len() => "found bytes behind it, expected the end",
            () => return Ok(()),
        };
        Err(Damaged {
            at: done.at,
            found: found.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<u32>().prop_map(Value::I32),
            any::<u64>().prop_map(Value::I64),
            any::<u32>().prop_map(Value::F32),
            any::<u64>().prop_map(Value::F64),
            any::<u128>().prop_map(Value::V128),
        ]
    }

    fn memories() -> impl Strategy<Value = Memory> {
        btree_map(0_usize..64, 1_u8.., 0..4).prop_map(|filled| {
            let mut bytes = vec![0; 4 * WASM_PAGE as usize];
            for (page, byte) in filled {
                bytes[page * PAGE + usize::from(byte)] = byte;
            }
            Memory::of(&bytes)
        })
    }

    fn snapshots() -> impl Strategy<Value = Snapshot> {
        let said = proptest::option::of(vec(any::<u8>(), 0..20));
        let answered = (vec(any::<u8>(), 0..3), said);
        let answered = answered.prop_map(|(key, said)| Answered { key, said });
        let answers = vec(answered, 0..4);
        let small = (any::<[u8; 32]>(), 4_u64.., any::<u64>());
        (small, answers, vec(values(), 0..5), vec(memories(), 0..3)).prop_map(
            |((module, events, clock), answers, globals, memories)| Snapshot {
                module,
                events,
                clock,
                answers,
                globals,
                memories,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_written_is_read(snapshot in snapshots()) {
            let bytes = snapshot.to_bytes();
            let read = Snapshot::from_bytes(&bytes).unwrap();
            prop_assert_eq!(&read, &snapshot);
            let parts = parts(&bytes);
            let pages: usize = snapshot.memories.iter().map(|memory| memory.pages.len()).sum();
            let sections = 3 + snapshot.answers.len() + snapshot.memories.len() + pages;
            prop_assert_eq!(parts.len(), 1 + sections);
            prop_assert_eq!(parts.concat(), bytes);
            for (memory, again) in snapshot.memories.iter().zip(&read.memories) {
                let mut over = vec![0xaa; 4 * WASM_PAGE as usize];
                again.write_over(&mut over);
                prop_assert_eq!(&Memory::of(&over), memory);
            }
        }

        #[test]
        fn any_flipped_bit_and_any_cut_is_found_at_its_place(
            snapshot in snapshots(), place: prop::sample::Index, bit in 0_u8..8,
        ) {
            let whole = snapshot.to_bytes();
            let place = place.index(whole.len());
            let mut flipped = whole.clone();
            flipped[place] ^= 1 << bit;
            let damaged = Snapshot::from_bytes(&flipped).unwrap_err();
            // The section that is named begins at or before the place.
            prop_assert!(damaged.at <= place, "{damaged}, flipped {place}");
            prop_assert!(damaged.at + FRONT + 4 + PAGE + SEAL > place, "{damaged}, flipped {place}");
            prop_assert!(Snapshot::from_bytes(&whole[..place]).is_err());
        }

        #[test]
        fn anything_is_read_or_refused(bytes in vec(any::<u8>(), 0..300), sealed: bool) {
            let mut file = MAGIC.to_vec();
            if sealed {
                // With a seal that matches, so that what lies behind it is read.
                let mut writer = Writer { bytes: file, seals: blake3::Hasher::new() };
                for piece in bytes.chunks(60) {
                    let kinds = [b"head", b"glob", b"answ", b"keyd", b"past", b"memo", b"page", b"done"];
                    writer.section(kinds[usize::from(piece[0]) % 8], &[&piece[1..]]);
                }
                file = writer.bytes;
            } else {
                file.extend(bytes);
            }
            prop_assert_eq!(parts(&file).concat(), &file[..]);
            if let Ok(read) = Snapshot::from_bytes(&file) {
                prop_assert_eq!(read.to_bytes(), file);
            }
        }
    }

    #[test]
    fn a_section_that_is_missing_or_moved_is_noticed() {
        let mut bytes = vec![0; WASM_PAGE as usize];
        (bytes[1], bytes[PAGE]) = (1, 2);
        let snapshot = Snapshot {
            module: [7; 32],
            events: 3,
            clock: 0,
            answers: vec![
                Answered::of(b"one".to_vec()),
                Answered {
                    key: b"k".to_vec(),
                    said: Some(b"two".to_vec()),
                },
            ],
            globals: vec![Value::I32(5)],
            memories: vec![Memory::of(&bytes)],
        };
        let whole = snapshot.to_bytes();
        let mut reader = Reader::begin(&whole).unwrap();
        let mut starts = Vec::new();
        while reader.at < whole.len() {
            starts.push(reader.at);
            reader.next().unwrap();
        }
        starts.push(whole.len());
        for pair in starts.windows(2) {
            let without = [&whole[..pair[0]], &whole[pair[1]..]].concat();
            assert!(Snapshot::from_bytes(&without).is_err(), "without {pair:?}");
        }
        for three in starts.windows(3) {
            let [a, b, c] = *three else { unreachable!() };
            let swapped = [&whole[..a], &whole[b..c], &whole[a..b], &whole[c..]].concat();
            assert!(Snapshot::from_bytes(&swapped).is_err(), "{three:?} swapped");
        }
    }
}
