//! The state of the tests: registers and leases side by side, as a host would compose them. What is
//! applied is noted for the world, which compares it among voters.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use consensus::lease::Seen;
use consensus::{Author, Index, Leases, State, Terms};
use wire::codec::decode_all;
use wire::{Decode, DecodeError, Encode, Instant, Reader};

thread_local! {
    static APPLIED: RefCell<Vec<(Index, u64, Option<u64>)>> = const { RefCell::new(Vec::new()) };
}

/// What has been applied on this thread since the last call: where, the hash of the command, and the
/// value if it writes one. Values are never written twice by the tests, so each names one command.
pub(crate) fn applied() -> Vec<(Index, u64, Option<u64>)> {
    APPLIED.take()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Book {
    pub(crate) registers: BTreeMap<u8, u64>,
    pub(crate) leases: Leases,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Puts a value in a register; the answer is the value before.
    Swap {
        register: u8,
        value: u64,
    },
    Lease(consensus::lease::Command),
}

impl Book {
    pub(crate) fn new(terms: Terms) -> Self {
        Self {
            registers: BTreeMap::new(),
            leases: Leases::new(terms),
        }
    }
}

impl State for Book {
    type Memory = Seen;

    fn apply(&mut self, at: Index, by: Option<Author>, command: &[u8]) -> Vec<u8> {
        let mut hasher = DefaultHasher::new();
        (by, command).hash(&mut hasher);
        let line = decode_all::<Line>(command);
        let value = match line {
            Ok(Line::Swap { value, .. }) => Some(value),
            _ => None,
        };
        APPLIED.with_borrow_mut(|all| all.push((at, hasher.finish(), value)));
        match line {
            Ok(Line::Swap { register, value }) => {
                let before = self.registers.insert(register, value);
                before.unwrap_or_default().to_bytes()
            }
            // A tenant sends the leases' own commands.
            _ => self.leases.apply(at, by, command),
        }
    }

    fn read(&self, _: &Seen, _: Instant, query: &[u8]) -> Vec<u8> {
        let value = self.registers.get(&query[0]).copied();
        value.unwrap_or_default().to_bytes()
    }

    fn look(
        &self,
        seen: &mut Seen,
        now: Instant,
        decree: &mut impl FnMut(Vec<u8>),
    ) -> Option<Instant> {
        self.leases.look(seen, now, decree)
    }
}

/// Not a tag of the leases' commands.
const SWAP: u8 = 100;

impl Encode for Line {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Swap { register, value } => {
                out.push(SWAP);
                register.encode(out);
                value.encode(out);
            }
            Self::Lease(command) => command.encode(out),
        }
    }
}

impl Decode for Line {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut ahead = from.clone();
        if ahead.byte()? != SWAP {
            return consensus::lease::Command::decode(from).map(Self::Lease);
        }
        *from = ahead;
        Ok(Self::Swap {
            register: u8::decode(from)?,
            value: u64::decode(from)?,
        })
    }
}

impl Encode for Book {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.registers.len() as u64).encode(out);
        for (register, value) in &self.registers {
            register.encode(out);
            value.encode(out);
        }
        self.leases.encode(out);
    }
}

impl Decode for Book {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut registers = BTreeMap::new();
        for _ in 0..from.count(2)? {
            registers.insert(u8::decode(from)?, u64::decode(from)?);
        }
        let leases = Leases::decode(from)?;
        Ok(Self { registers, leases })
    }
}
