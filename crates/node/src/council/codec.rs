//! How what is said about a [`Register`](super::Register) is written: one spelling of each value, and bounds on what is read.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use consensus::keep::{Keeper, Mark, Stint};
use consensus::lease::{self, Duty};
use consensus::{Index, Lease, Leases};
use scheduler::evidence::CANDIDATES_MAX;
use scheduler::fleet::{Candidate, Change, Evidence, Pending};
use scheduler::policy::Apart;
use scheduler::{Funnel, Test};
use wire::{Class, Decode, DecodeError, Encode, Nanos, Reader, Tile};

use super::register::{
    Affairs, Command, DECISIONS_MAX, DOORS_MAX, Decision, Door, Explained, Fate, KEEPERS_MAX,
    Keepers, Listed, Machine, NAME_BYTES_MAX, PROGRAMS_MAX, Program, Query, REPLICAS_MAX, Refusal,
    Register, Reply, Room, SPEC_BYTES_MAX, Slot, Standing, TILES_MAX, WORDS_BYTES_MAX, What, Why,
};

/// Tags below are those of [`lease::Command`] and [`lease::Query`].
const FIRST: u8 = 16;

fn byte(from: &mut Reader<'_>, what: &'static str, most: u8) -> Result<u8, DecodeError> {
    let at = from.position();
    let found = from.byte()?;
    let wrong = DecodeError::Invalid {
        at,
        what,
        found: found.into(),
    };
    (found <= most).then_some(found).ok_or(wrong)
}

fn flag(from: &mut Reader<'_>) -> Result<bool, DecodeError> {
    byte(from, "yes or no", 1).map(|found| found == 1)
}

fn bounded(from: &mut Reader<'_>, what: &'static str, most: usize) -> Result<usize, DecodeError> {
    let at = from.position();
    let count = from.count(1)?;
    let found = count as u64;
    (count <= most)
        .then_some(count)
        .ok_or(DecodeError::Invalid { at, what, found })
}

fn text(from: &mut Reader<'_>, what: &'static str, most: usize) -> Result<String, DecodeError> {
    let at = from.position();
    let length = bounded(from, what, most)?;
    let wrong = DecodeError::Invalid {
        at,
        what,
        found: length as u64,
    };
    let bytes = from.bytes(length)?;
    core::str::from_utf8(bytes)
        .map(String::from)
        .map_err(|_| wrong)
}

fn name(from: &mut Reader<'_>) -> Result<String, DecodeError> {
    text(from, "name of a program", NAME_BYTES_MAX)
}

fn spec(from: &mut Reader<'_>) -> Result<Arc<[u8]>, DecodeError> {
    let length = bounded(from, "length of a program's settings", SPEC_BYTES_MAX)?;
    from.bytes(length).map(Arc::from)
}

fn option<T: Encode>(value: Option<&T>, out: &mut Vec<u8>) {
    out.push(value.is_some().into());
    if let Some(value) = value {
        value.encode(out);
    }
}

fn maybe<T: Decode>(from: &mut Reader<'_>) -> Result<Option<T>, DecodeError> {
    flag(from)?.then(|| T::decode(from)).transpose()
}

fn all<'a, T: Encode + 'a>(values: impl ExactSizeIterator<Item = &'a T>, out: &mut Vec<u8>) {
    (values.len() as u64).encode(out);
    values.for_each(|value| value.encode(out));
}

fn many<T: Decode>(
    from: &mut Reader<'_>,
    what: &'static str,
    most: usize,
) -> Result<Vec<T>, DecodeError> {
    let count = bounded(from, what, most)?;
    (0..count).map(|_| T::decode(from)).collect()
}

/// Reads what was written in ascending order of its keys, and refuses another order: there is one spelling.
fn map<K: Ord + Decode, V>(
    from: &mut Reader<'_>,
    what: &'static str,
    most: usize,
    mut value: impl FnMut(&mut Reader<'_>) -> Result<V, DecodeError>,
) -> Result<BTreeMap<K, V>, DecodeError> {
    let mut read = BTreeMap::new();
    for place in 0..bounded(from, what, most)? {
        let at = from.position();
        let key = K::decode(from)?;
        if read.last_key_value().is_some_and(|(last, _)| *last >= key) {
            let found = place as u64;
            return Err(DecodeError::Invalid { at, what, found });
        }
        read.insert(key, value(from)?);
    }
    Ok(read)
}

impl Encode for Room {
    fn encode(&self, out: &mut Vec<u8>) {
        self.cpu_milli.encode(out);
        self.memory.encode(out);
        self.gpus.encode(out);
    }
}

impl Decode for Room {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            cpu_milli: u64::decode(from)?,
            memory: u64::decode(from)?,
            gpus: u64::decode(from)?,
        })
    }
}

impl Encode for Door {
    fn encode(&self, out: &mut Vec<u8>) {
        self.port.encode(out);
        out.push(self.outside.into());
    }
}

impl Decode for Door {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            port: u16::decode(from)?,
            outside: flag(from)?,
        })
    }
}

fn doors(from: &mut Reader<'_>) -> Result<Vec<Door>, DecodeError> {
    many(from, "number of ports", DOORS_MAX)
}

/// Enums without fields, by their place in a list.
macro_rules! words {
    ($($t:ident, $what:literal: $($word:ident),*;)*) => {$(
        impl Encode for $t {
            fn encode(&self, out: &mut Vec<u8>) {
                out.push(*self as u8);
            }
        }
        impl Decode for $t {
            fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
                const ALL: &[$t] = &[$($t::$word),*];
                let found = byte(from, $what, ALL.len() as u8 - 1)?;
                Ok(ALL[usize::from(found)])
            }
        }
    )*};
}
words! {
    Why, "reason to recall": Stopped, Drained, Surplus;
    Refusal, "refusal": NameTaken, Unknown, Runs, Full, Unbounded, Unreadable;
}

/// What the scheduler says, which is bounded by the number of seats.
fn write_funnel(funnel: &Funnel, out: &mut Vec<u8>) {
    funnel.nodes.encode(out);
    for test in Test::OF_A_FLEET {
        funnel.fell[test as usize].encode(out);
    }
}

fn funnel(from: &mut Reader<'_>) -> Result<Funnel, DecodeError> {
    let at = from.position();
    let mut read = Funnel {
        nodes: u32::decode(from)?,
        ..Funnel::default()
    };
    let mut fell = 0;
    for test in Test::OF_A_FLEET {
        let count = u32::decode(from)?;
        fell += u64::from(count);
        read.fell[test as usize] = count;
    }
    let (what, found) = ("machines that fell to a test", fell.max(read.nodes.into()));
    match fell <= u64::from(read.nodes) && u64::from(read.nodes) <= TILES_MAX {
        true => Ok(read),
        false => Err(DecodeError::Invalid { at, what, found }),
    }
}

fn seat(from: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let (at, found) = (from.position(), u32::decode(from)?);
    let wrong = DecodeError::Invalid {
        at,
        what: "seat of a machine",
        found: found.into(),
    };
    (u64::from(found) < TILES_MAX).then_some(found).ok_or(wrong)
}

fn write_evidence(evidence: &Evidence, out: &mut Vec<u8>) {
    write_funnel(&evidence.funnel, out);
    (evidence.candidates.len() as u64).encode(out);
    for Candidate { machine, score } in &evidence.candidates {
        let Apart {
            beside,
            taken,
            claims,
        } = *score;
        [*machine, beside, taken, claims]
            .iter()
            .for_each(|number| number.encode(out));
    }
}

fn evidence(from: &mut Reader<'_>) -> Result<Evidence, DecodeError> {
    let funnel = funnel(from)?;
    let count = bounded(from, "number of candidates", CANDIDATES_MAX)?;
    let candidates = (0..count).map(|_| {
        Ok(Candidate {
            machine: seat(from)?,
            score: Apart {
                beside: u32::decode(from)?,
                taken: u32::decode(from)?,
                claims: u32::decode(from)?,
            },
        })
    });
    Ok(Evidence {
        funnel,
        candidates: candidates.collect::<Result<_, _>>()?,
    })
}

fn write_pair(pair: Option<(u32, u64)>, out: &mut Vec<u8>) {
    out.push(pair.is_some().into());
    if let Some((machine, value)) = pair {
        machine.encode(out);
        value.encode(out);
    }
}

fn pair(from: &mut Reader<'_>) -> Result<Option<(u32, u64)>, DecodeError> {
    flag(from)?
        .then(|| Ok((seat(from)?, u64::decode(from)?)))
        .transpose()
}

/// A change for each of CPU, memory, GPUs, replicas, a machine that serves again, and every port.
const CHANGES_MAX: usize = 5 + DOORS_MAX;

fn write_pending(pending: &Pending, out: &mut Vec<u8>) {
    write_funnel(&pending.funnel, out);
    (pending.fallen.len() as u64).encode(out);
    for (machine, test) in &pending.fallen {
        machine.encode(out);
        let place = Test::OF_A_FLEET.iter().position(|one| one == test);
        out.push(place.unwrap_or_default() as u8);
    }
    write_pair(pending.nearest, out);
    write_pair(pending.rested.map(|(machine, left)| (machine, left.0)), out);
    (pending.changes.len() as u64).encode(out);
    for change in &pending.changes {
        let (tag, amount) = match *change {
            Change::Serving(machine) => (0, machine.into()),
            Change::WithoutPort(port) => (1, port.into()),
            Change::Cpu(cpu) => (2, cpu),
            Change::Memory(memory) => (3, memory),
            Change::Gpus(gpus) => (4, gpus),
            Change::Replicas(replicas) => (5, replicas.into()),
        };
        out.push(tag);
        amount.encode(out);
    }
}

fn pending(from: &mut Reader<'_>) -> Result<Pending, DecodeError> {
    let funnel = funnel(from)?;
    let count = bounded(from, "number of machines", TILES_MAX as usize)?;
    let fallen = (0..count).map(|_| {
        let machine = seat(from)?;
        let test = byte(from, "test of a machine", Test::OF_A_FLEET.len() as u8 - 1)?;
        Ok((machine, Test::OF_A_FLEET[usize::from(test)]))
    });
    let fallen = fallen.collect::<Result<_, DecodeError>>()?;
    let (nearest, rested) = (pair(from)?, pair(from)?);
    let count = bounded(from, "number of changes", CHANGES_MAX)?;
    let changes = (0..count).map(|_| {
        Ok(match byte(from, "change", 5)? {
            0 => Change::Serving(seat(from)?),
            1 => Change::WithoutPort(u16::decode(from)?),
            2 => Change::Cpu(u64::decode(from)?),
            3 => Change::Memory(u64::decode(from)?),
            4 => Change::Gpus(u64::decode(from)?),
            _ => Change::Replicas(u32::decode(from)?),
        })
    });
    let changes = changes.collect::<Result<_, DecodeError>>()?;
    Ok(Pending {
        funnel,
        fallen,
        nearest,
        rested: rested.map(|(machine, left)| (machine, Nanos(left))),
        changes,
    })
}

impl Encode for Fate {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Up => out.push(0),
            Self::Ended(code) => out.extend([1, *code]),
            Self::Unable(words) => {
                out.push(2);
                words.as_bytes().encode(out);
            }
            Self::Fell(code) => out.extend([3, *code]),
        }
    }
}

impl Decode for Fate {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match byte(from, "fate of a program", 3)? {
            0 => Self::Up,
            1 => Self::Ended(from.byte()?),
            3 => Self::Fell(from.byte()?),
            _ => Self::Unable(text(from, "words about a failure", WORDS_BYTES_MAX)?),
        })
    }
}

impl Encode for Command {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Lease(about) => about.encode(out),
            Self::Give {
                name,
                spec,
                replicas,
                demand,
                class,
                doors,
            } => {
                out.push(FIRST);
                name.as_bytes().encode(out);
                spec.encode(out);
                replicas.encode(out);
                demand.encode(out);
                out.push(*class as u8);
                all(doors.iter(), out);
            }
            Self::Stop { name } => {
                out.push(FIRST + 1);
                name.as_bytes().encode(out);
            }
            Self::Forget { name } => {
                out.push(FIRST + 2);
                name.as_bytes().encode(out);
            }
            Self::Offer(room) => {
                out.push(FIRST + 3);
                room.encode(out);
            }
            Self::Report { lease, fence, fate } => {
                out.push(FIRST + 4);
                lease.encode(out);
                fence.encode(out);
                fate.encode(out);
            }
            Self::Open { program, replica } => {
                out.push(FIRST + 5);
                program.encode(out);
                replica.encode(out);
            }
            Self::Place { lease, to, on } => {
                out.push(FIRST + 6);
                lease.encode(out);
                to.encode(out);
                write_evidence(on, out);
            }
            Self::Recall { lease, why } => {
                out.push(FIRST + 7);
                lease.encode(out);
                why.encode(out);
            }
            Self::Wait { lease, on } => {
                out.push(FIRST + 8);
                lease.encode(out);
                write_funnel(on, out);
            }
            Self::Keep {
                lease,
                stint,
                change,
                keepers,
            } => {
                out.push(FIRST + 9);
                lease.encode(out);
                encode_stint(*stint, out);
                change.encode(out);
                encode_keepers(keepers, out);
            }
        }
    }
}

fn encode_stint(stint: Stint, out: &mut Vec<u8>) {
    stint.fence.encode(out);
    stint.start.encode(out);
}

fn stint(from: &mut Reader<'_>) -> Result<Stint, DecodeError> {
    let (fence, start) = (Index::decode(from)?, u64::decode(from)?);
    Ok(Stint { fence, start })
}

fn encode_keepers(keepers: &[Keeper], out: &mut Vec<u8>) {
    (keepers.len() as u64).encode(out);
    for Keeper { tile, mark } in keepers {
        tile.encode(out);
        mark.0.encode(out);
    }
}

fn keepers(from: &mut Reader<'_>) -> Result<Vec<Keeper>, DecodeError> {
    let count = bounded(from, "number of keepers", KEEPERS_MAX)?;
    let keeper = |_| {
        let (tile, mark) = (Tile::decode(from)?, Mark(u64::decode(from)?));
        Ok(Keeper { tile, mark })
    };
    (0..count).map(keeper).collect()
}

impl Encode for Keepers {
    fn encode(&self, out: &mut Vec<u8>) {
        self.changes.encode(out);
        encode_stint(self.by, out);
        encode_keepers(&self.all, out);
    }
}

impl Decode for Keepers {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            changes: u32::decode(from)?,
            by: stint(from)?,
            all: keepers(from)?,
        })
    }
}

fn class(from: &mut Reader<'_>) -> Result<Class, DecodeError> {
    byte(from, "class", 3).map(|found| Class::ALL[usize::from(found)])
}

impl Decode for Command {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut ahead = from.clone();
        let Some(own) = ahead.byte()?.checked_sub(FIRST) else {
            return lease::Command::decode(from).map(Self::Lease);
        };
        byte(from, "command", FIRST + 9)?;
        Ok(match own {
            0 => Self::Give {
                name: name(from)?,
                spec: spec(from)?,
                replicas: u32::decode(from)?,
                demand: Room::decode(from)?,
                class: class(from)?,
                doors: doors(from)?,
            },
            1 => Self::Stop { name: name(from)? },
            2 => Self::Forget { name: name(from)? },
            3 => Self::Offer(Room::decode(from)?),
            4 => Self::Report {
                lease: Lease::decode(from)?,
                fence: Index::decode(from)?,
                fate: Fate::decode(from)?,
            },
            5 => Self::Open {
                program: u64::decode(from)?,
                replica: u32::decode(from)?,
            },
            6 => Self::Place {
                lease: Lease::decode(from)?,
                to: Tile::decode(from)?,
                on: evidence(from)?,
            },
            7 => Self::Recall {
                lease: Lease::decode(from)?,
                why: Why::decode(from)?,
            },
            8 => Self::Wait {
                lease: Lease::decode(from)?,
                on: funnel(from)?,
            },
            _ => Self::Keep {
                lease: Lease::decode(from)?,
                stint: stint(from)?,
                change: u32::decode(from)?,
                keepers: keepers(from)?,
            },
        })
    }
}

impl Encode for Query {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Spec(program) => {
                out.push(FIRST);
                program.encode(out);
            }
            Self::Affairs => out.push(FIRST + 1),
            Self::Keepers(program) => {
                out.push(FIRST + 2);
                program.encode(out);
            }
            Self::Why(name) => {
                out.push(FIRST + 3);
                name.as_bytes().encode(out);
            }
        }
    }
}

impl Decode for Query {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        match from.byte()? {
            FIRST => u64::decode(from).map(Self::Spec),
            found if found == FIRST + 1 => Ok(Self::Affairs),
            found if found == FIRST + 2 => u64::decode(from).map(Self::Keepers),
            found if found == FIRST + 3 => name(from).map(Self::Why),
            found => Err(DecodeError::Invalid {
                at,
                what: "question",
                found: found.into(),
            }),
        }
    }
}

impl Encode for Reply {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Done => out.push(FIRST),
            Self::Given(number) => {
                out.push(FIRST + 1);
                number.encode(out);
            }
            Self::Spec { name, spec } => {
                out.push(FIRST + 2);
                name.as_bytes().encode(out);
                spec.encode(out);
            }
            Self::Affairs(affairs) => {
                out.push(FIRST + 3);
                affairs.encode(out);
            }
            Self::Refused(refusal) => {
                out.push(FIRST + 4);
                refusal.encode(out);
            }
            Self::Keepers(keepers) => {
                out.push(FIRST + 5);
                keepers.encode(out);
            }
            Self::Why(explained) => {
                out.push(FIRST + 6);
                explained.encode(out);
            }
        }
    }
}

impl Decode for Reply {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        Ok(match from.byte()?.wrapping_sub(FIRST) {
            0 => Self::Done,
            1 => Self::Given(u64::decode(from)?),
            2 => Self::Spec {
                name: name(from)?,
                spec: spec(from)?,
            },
            3 => Self::Affairs(Affairs::decode(from)?),
            4 => Self::Refused(Refusal::decode(from)?),
            5 => Self::Keepers(Keepers::decode(from)?),
            6 => Self::Why(Box::new(Explained::decode(from)?)),
            found => {
                return Err(DecodeError::Invalid {
                    at,
                    what: "reply",
                    found: found.into(),
                });
            }
        })
    }
}

impl Encode for Affairs {
    fn encode(&self, out: &mut Vec<u8>) {
        all(self.programs.iter(), out);
        all(self.machines.iter(), out);
        all(self.decisions.iter(), out);
    }
}

impl Decode for Affairs {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            programs: many(from, "number of programs", PROGRAMS_MAX)?,
            machines: many(from, "number of machines", TILES_MAX as usize)?,
            decisions: many(from, "number of decisions", DECISIONS_MAX)?,
        })
    }
}

impl Encode for Explained {
    fn encode(&self, out: &mut Vec<u8>) {
        self.listed.encode(out);
        self.demand.encode(out);
        (self.on.len() as u64).encode(out);
        for (replica, on) in &self.on {
            replica.encode(out);
            write_evidence(on, out);
        }
        out.push(self.pending.is_some().into());
        if let Some(pending) = &self.pending {
            write_pending(pending, out);
        }
        all(self.decisions.iter(), out);
    }
}

impl Decode for Explained {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (listed, demand) = (Listed::decode(from)?, Room::decode(from)?);
        let count = bounded(from, "number of replicas", SLOTS_MAX)?;
        let on = (0..count).map(|_| Ok((u32::decode(from)?, evidence(from)?)));
        let on = on.collect::<Result<_, DecodeError>>()?;
        Ok(Self {
            listed,
            demand,
            on,
            pending: flag(from)?.then(|| pending(from)).transpose()?,
            decisions: many(from, "number of decisions", DECISIONS_MAX)?,
        })
    }
}

impl Encode for Listed {
    fn encode(&self, out: &mut Vec<u8>) {
        self.number.encode(out);
        self.name.as_bytes().encode(out);
        self.replicas.encode(out);
        all(self.doors.iter(), out);
        (self.standing.len() as u64).encode(out);
        for (replica, standing) in &self.standing {
            replica.encode(out);
            standing.encode(out);
        }
    }
}

/// One more than asked for while one is replaced.
const SLOTS_MAX: usize = REPLICAS_MAX as usize + 1;

impl Decode for Listed {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (number, name, replicas) = (u64::decode(from)?, name(from)?, u32::decode(from)?);
        let doors = doors(from)?;
        let count = bounded(from, "number of replicas", SLOTS_MAX)?;
        let standing = (0..count).map(|_| Ok((u32::decode(from)?, Standing::decode(from)?)));
        Ok(Self {
            number,
            name,
            replicas,
            doors,
            standing: standing.collect::<Result<_, _>>()?,
        })
    }
}

impl Encode for Standing {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Waits(on) => {
                out.push(0);
                out.push(on.is_some().into());
                on.iter().for_each(|on| write_funnel(on, out));
            }
            Self::Held {
                by,
                fence,
                up,
                fell,
                recalled,
            } => {
                out.push(1);
                by.encode(out);
                fence.encode(out);
                out.extend([u8::from(*up), u8::from(*recalled)]);
                option(fell.as_ref(), out);
            }
            Self::Ended(code) => out.extend([2, *code]),
        }
    }
}

impl Decode for Standing {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match byte(from, "standing of a replica", 2)? {
            0 => Self::Waits(flag(from)?.then(|| funnel(from)).transpose()?),
            1 => Self::Held {
                by: Tile::decode(from)?,
                fence: Index::decode(from)?,
                up: flag(from)?,
                recalled: flag(from)?,
                fell: maybe(from)?,
            },
            _ => Self::Ended(from.byte()?),
        })
    }
}

impl Encode for Machine {
    fn encode(&self, out: &mut Vec<u8>) {
        self.tile.encode(out);
        self.duty.encode(out);
        out.push(self.present.into());
        self.room.encode(out);
    }
}

impl Decode for Machine {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            tile: Tile::decode(from)?,
            duty: Duty::decode(from)?,
            present: flag(from)?,
            room: Room::decode(from)?,
        })
    }
}

impl Encode for Decision {
    fn encode(&self, out: &mut Vec<u8>) {
        self.at.encode(out);
        self.program.as_bytes().encode(out);
        option(self.replica.as_ref(), out);
        self.what.encode(out);
    }
}

impl Decode for Decision {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            at: Index::decode(from)?,
            program: name(from)?,
            replica: maybe(from)?,
            what: What::decode(from)?,
        })
    }
}

impl Encode for What {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Given(replicas) => {
                out.push(0);
                replicas.encode(out);
            }
            Self::Stopped => out.push(1),
            Self::Placed(tile, fit) => {
                out.push(2);
                tile.encode(out);
                fit.encode(out);
            }
            Self::Waits(on) => {
                out.push(3);
                write_funnel(on, out);
            }
            Self::Up(tile) => {
                out.push(4);
                tile.encode(out);
            }
            Self::Recalled(tile, why) => {
                out.push(5);
                tile.encode(out);
                why.encode(out);
            }
            Self::Released(tile) => {
                out.push(6);
                tile.encode(out);
            }
            Self::Expired(tile) => {
                out.push(7);
                tile.encode(out);
            }
            Self::Ended(tile, code) => {
                out.push(8);
                tile.encode(out);
                out.push(*code);
            }
            Self::Unable(tile, words) => {
                out.push(9);
                tile.encode(out);
                words.as_bytes().encode(out);
            }
            Self::Assigned(tile, duty) => {
                out.push(10);
                tile.encode(out);
                duty.encode(out);
            }
            Self::Fell(tile, code) => {
                out.push(11);
                tile.encode(out);
                out.push(*code);
            }
        }
    }
}

impl Decode for What {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match byte(from, "decision", 11)? {
            0 => Self::Given(u32::decode(from)?),
            1 => Self::Stopped,
            2 => Self::Placed(Tile::decode(from)?, u32::decode(from)?),
            3 => Self::Waits(funnel(from)?),
            4 => Self::Up(Tile::decode(from)?),
            5 => Self::Recalled(Tile::decode(from)?, Why::decode(from)?),
            6 => Self::Released(Tile::decode(from)?),
            7 => Self::Expired(Tile::decode(from)?),
            8 => Self::Ended(Tile::decode(from)?, from.byte()?),
            9 => {
                let tile = Tile::decode(from)?;
                Self::Unable(tile, text(from, "words about a failure", WORDS_BYTES_MAX)?)
            }
            10 => Self::Assigned(Tile::decode(from)?, Duty::decode(from)?),
            _ => Self::Fell(Tile::decode(from)?, from.byte()?),
        })
    }
}

impl Encode for Program {
    fn encode(&self, out: &mut Vec<u8>) {
        self.name.as_bytes().encode(out);
        self.spec.encode(out);
        self.replicas.encode(out);
        self.demand.encode(out);
        out.push(self.class as u8);
        all(self.doors.iter(), out);
        self.next.encode(out);
        (self.slots.len() as u64).encode(out);
        for (replica, slot) in &self.slots {
            replica.encode(out);
            slot.encode(out);
        }
        (self.unable.len() as u64).encode(out);
        for (tile, often) in &self.unable {
            tile.encode(out);
            often.encode(out);
        }
        self.keepers.encode(out);
    }
}

impl Decode for Program {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: name(from)?,
            spec: spec(from)?,
            replicas: u32::decode(from)?,
            demand: Room::decode(from)?,
            class: class(from)?,
            doors: doors(from)?,
            next: u32::decode(from)?,
            slots: map(from, "replica", SLOTS_MAX, Slot::decode)?,
            unable: map(from, "machine that failed", TILES_MAX as usize, u32::decode)?,
            keepers: Keepers::decode(from)?,
        })
    }
}

impl Encode for Slot {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.up.into());
        option(self.fell.as_ref(), out);
        option(self.ended.as_ref(), out);
        out.push(self.waits.is_some().into());
        self.waits.iter().for_each(|on| write_funnel(on, out));
        out.push(self.on.is_some().into());
        self.on.iter().for_each(|on| write_evidence(on, out));
    }
}

impl Decode for Slot {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            up: flag(from)?,
            fell: maybe(from)?,
            ended: maybe(from)?,
            waits: flag(from)?.then(|| funnel(from)).transpose()?,
            on: flag(from)?.then(|| evidence(from)).transpose()?,
        })
    }
}

impl Encode for Register {
    fn encode(&self, out: &mut Vec<u8>) {
        self.leases.encode(out);
        (self.programs.len() as u64).encode(out);
        for (number, program) in &self.programs {
            number.encode(out);
            program.encode(out);
        }
        (self.rooms.len() as u64).encode(out);
        for (tile, room) in &self.rooms {
            tile.encode(out);
            room.encode(out);
        }
        (self.decisions.len() as u64).encode(out);
        self.decisions
            .iter()
            .for_each(|decision| decision.encode(out));
    }
}

impl Decode for Register {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            leases: Leases::decode(from)?,
            programs: map(from, "program", PROGRAMS_MAX, Program::decode)?,
            rooms: map(from, "room of a machine", TILES_MAX as usize, Room::decode)?,
            decisions: VecDeque::from(many::<Decision>(
                from,
                "number of decisions",
                DECISIONS_MAX,
            )?),
        })
    }
}
