#![no_main]

use daemon::capsule::snapshot::{Answered, Memory, PAGE, Snapshot, Value};
use libfuzzer_sys::arbitrary::{self, Arbitrary};

#[derive(Debug, Arbitrary)]
enum File<'a> {
    /// Anything.
    Bytes(&'a [u8]),
    /// What was written, and what became of it.
    Kept {
        events: u64,
        clock: u64,
        answers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        globals: Vec<(u8, u64)>,
        memories: Vec<(u8, Vec<(u8, u8)>)>,
        harm: Option<Harm>,
    },
}

#[derive(Debug, Arbitrary)]
enum Harm {
    Flipped {
        at: u32,
        bit: u8,
    },
    Cut {
        at: u32,
    },
    Longer(Vec<u8>),
    /// A part of it stands where another does.
    Moved {
        from: u32,
        to: u32,
        length: u16,
    },
}

impl Harm {
    fn of(&self, bytes: &mut Vec<u8>) {
        let within = |at: u32| at as usize % bytes.len();
        match self {
            Self::Flipped { at, bit } => {
                let at = within(*at);
                bytes[at] ^= 1 << (bit % 8);
            }
            Self::Cut { at } => bytes.truncate(*at as usize % bytes.len()),
            Self::Longer(more) => bytes.extend(more),
            Self::Moved { from, to, length } => {
                let (from, to) = (within(*from), within(*to));
                let length = usize::from(*length).min(bytes.len() - from.max(to));
                bytes.copy_within(from..from + length, to);
            }
        }
    }
}

// A file is the snapshot that was written, down to the last bit, or is refused with the place.
libfuzzer_sys::fuzz_target!(|file: File<'_>| {
    match file {
        File::Bytes(bytes) => match Snapshot::from_bytes(bytes) {
            Ok(snapshot) => assert_eq!(snapshot.to_bytes(), bytes),
            Err(damaged) => assert!(damaged.at <= bytes.len(), "{damaged:?}"),
        },
        File::Kept {
            events,
            clock,
            answers,
            globals,
            memories,
            harm,
        } => {
            let globals = globals
                .into_iter()
                .take(32)
                .map(|(tag, bits)| match tag % 5 {
                    0 => Value::I32(bits as u32),
                    1 => Value::I64(bits),
                    2 => Value::F32(bits as u32),
                    3 => Value::F64(bits),
                    _ => Value::V128(u128::from(bits) << 64 | u128::from(bits)),
                });
            let memories = memories.into_iter().take(2).map(|(length, pages)| {
                let most = u64::from(length) * (65_536 / PAGE as u64);
                let mut kept = Vec::new();
                for (at, byte) in pages {
                    let at = u32::from(at);
                    if u64::from(at) < most && kept.last().is_none_or(|(last, _)| *last < at) {
                        kept.push((at, Box::new([byte.max(1); PAGE])));
                    }
                }
                Memory {
                    length: length.into(),
                    pages: kept,
                }
            });
            let answers = answers.into_iter().map(|(mut key, said)| {
                key.truncate(u16::MAX.into());
                Answered { key, said }
            });
            let answers: Vec<_> = answers.collect();
            let snapshot = Snapshot {
                module: [7; 32],
                events: events.max(answers.len() as u64),
                clock,
                answers,
                globals: globals.collect(),
                memories: memories.collect(),
            };
            let whole = snapshot.to_bytes();
            assert_eq!(Snapshot::from_bytes(&whole), Ok(snapshot));
            if let Some(harm) = harm {
                let mut harmed = whole.clone();
                harm.of(&mut harmed);
                match Snapshot::from_bytes(&harmed) {
                    Ok(_) => assert_eq!(harmed, whole),
                    Err(damaged) => assert!(damaged.at <= harmed.len(), "{damaged:?}"),
                }
            }
        }
    }
});
