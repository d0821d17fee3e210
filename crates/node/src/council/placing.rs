//! Which machine runs what?
//!
//! A leader looks at the register several times in a lease's wait and decrees what is missing: a machine for each replica that
//! nobody holds, one replica more where one must move, a recall where it may. It asks nobody and remembers little, so whoever
//! leads next goes on where it stopped; and what is decreed twice means nothing the second time.
//!
//! # Where to
//!
//! That is [`scheduler::fleet`]'s to say: here the register becomes its machines and programs, at each look anew. A machine *fits* if it serves, has renewed within half a
//! term, has room for what the replica demands, runs nothing that takes one of its ports, and is not resting from a failure with the same program. Of those
//! that fit the one is taken that runs the fewest replicas of the same program, then the one that is loaded
//! least, then the one with the fewest replicas, then the lowest number: so a death takes as little of a program as can be, and the same state always leads to
//! the same choice. Programs of a more urgent class are placed first. What a place rests on, or that there is none, is decreed with it; why something waits *now* is
//! asked of the leader ([`Query::Why`](super::Query::Why)), who alone knows whom it heard and who rests.
//!
//! Why: docs/decisions/2026-11-30-the-council-places-by-the-schedulers-ledger.md.
//!
//! # When to move
//!
//! A machine that drains is given nothing and keeps what it has until that can go. Of a program with several replicas one is opened besides them,
//! placed elsewhere and waited for until it and all the others that stay are up; then one of those that must go is recalled. So at every moment as many serve
//! as were asked for, and one program moves one replica at a time. A program with *one* replica is promised to be alone: it is recalled first,
//! and opened elsewhere when it has ended.
//!
//! # After a failure
//!
//! Whoever could not run a replica is not given that program again for [`REST_MIN`], doubled for each failure in a row up to [`REST_MAX`]. How
//! often is in the register; since when each leader notes for itself, which only makes a machine rest longer.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use consensus::Lease;
use consensus::lease::Duty;
use scheduler::Test;
use scheduler::fleet::{self, Machine, Pending, Wanted};
use wire::{Instant, Nanos, Tile};

use super::register::{Command, Memory, Program, Register, TILES_MAX, Why};

/// The rest after a first failure.
pub const REST_MIN: Nanos = Nanos::from_secs(1);
/// The longest rest.
pub const REST_MAX: Nanos = Nanos::from_secs(60);

/// Who rests from which program: after how many failures in a row, and since when that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Barred(BTreeMap<(u64, Tile), (u32, Instant)>);

impl Barred {
    fn note(&mut self, register: &Register, now: Instant) {
        let failures =
            |(program, tile): &(u64, Tile)| register.programs.get(program)?.unable.get(tile);
        self.0.retain(|key, _| failures(key).is_some());
        for (number, program) in &register.programs {
            for (tile, often) in &program.unable {
                let noted = self.0.entry((*number, *tile)).or_insert((*often, now));
                if noted.0 != *often {
                    *noted = (*often, now);
                }
            }
        }
    }

    /// Which machines rest from a program, and for how long yet.
    fn of(&self, program: u64, now: Instant) -> BTreeMap<u32, Nanos> {
        let all = (program, Tile(0))..=(program, Tile(u64::MAX));
        let rests = self.0.range(all).filter_map(|((_, tile), (often, since))| {
            let doubled = REST_MIN
                .0
                .saturating_mul(1 << often.saturating_sub(1).min(16));
            let (rest, gone) = (Nanos(doubled).min(REST_MAX), now.since(*since));
            let number = number_of(*tile)?;
            (gone < rest).then(|| (number, Nanos(rest.0 - gone.0)))
        });
        rests.collect()
    }
}

/// What it is called in a [`scheduler::fleet`].
fn number_of(tile: Tile) -> Option<u32> {
    u32::try_from(tile.0).ok().filter(|_| tile.0 < TILES_MAX)
}

/// Everything that is missing now.
pub(super) fn look(
    register: &Register,
    memory: &mut Memory,
    now: Instant,
    decree: &mut impl FnMut(Command),
) {
    memory.barred.note(register, now);
    for (number, program) in &register.programs {
        if program.replicas > 0 {
            move_on(register, *number, program, decree);
        }
    }
    let fleet = Fleet::new(register, memory, now);
    if !fleet.waiting.iter().all(Vec::is_empty) {
        fleet.settle(register, decree);
    }
}

/// Why some of a program waits now, after all that can be placed is placed; none if nothing of it does.
pub(super) fn explain(
    register: &Register,
    memory: &Memory,
    now: Instant,
    program: u64,
) -> Option<Pending> {
    let fleet = Fleet::new(register, memory, now);
    let at = fleet.order.iter().position(|number| *number == program)?;
    fleet::explain(&fleet.machines, &fleet.programs, at)
}

/// The register as [`scheduler::fleet`] takes it, programs in the order in which they are placed.
struct Fleet {
    machines: Vec<Machine>,
    order: Vec<u64>,
    programs: Vec<Wanted>,
    /// Which replicas of each nobody holds.
    waiting: Vec<Vec<u32>>,
}

impl Fleet {
    fn new(register: &Register, memory: &Memory, now: Instant) -> Self {
        let fresh = register.leases.terms().term / 2;
        let machines = register.leases.tiles().filter_map(|(tile, duty, present)| {
            let since = memory.seen.since(tile);
            let heard = present && since.is_some_and(|since| now.since(since) <= fresh);
            let out = match duty {
                Duty::Removed => return None,
                _ if !heard => Some(Test::Silent),
                Duty::Draining | Duty::Leaving => Some(Test::Draining),
                Duty::Serving => None,
            };
            let room = register.rooms.get(&tile).copied().unwrap_or_default();
            let (number, has) = (number_of(tile)?, room.into());
            Some(Machine { number, has, out })
        });
        let machines = machines.collect();
        let mut standing: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for (lease, tile, _) in register.leases.held() {
            let of = standing.entry(lease.program).or_default();
            of.extend(number_of(tile));
        }
        // What is forgotten holds nothing.
        let mut programs: Vec<_> = register.programs.iter().collect();
        programs.sort_by_key(|(number, program)| (program.class, **number));
        let mut fleet = Self {
            machines,
            order: Vec::new(),
            programs: Vec::new(),
            waiting: Vec::new(),
        };
        for (number, program) in programs {
            let free = |replica: &u32| {
                let lease = Lease {
                    program: *number,
                    replica: *replica,
                };
                register.leases.holder(lease).is_none()
            };
            let open = program
                .slots
                .iter()
                .filter(|(_, slot)| slot.ended.is_none());
            let waits = open.map(|(replica, _)| *replica).filter(free);
            let waits: Vec<u32> = match program.replicas {
                0 => Vec::new(),
                _ => waits.collect(),
            };
            fleet.programs.push(Wanted {
                standing: standing.remove(number).unwrap_or_default(),
                waiting: waits.len() as u32,
                resting: memory.barred.of(*number, now),
                ..program.wanted()
            });
            fleet.order.push(*number);
            fleet.waiting.push(waits);
        }
        fleet
    }

    /// Gives every replica that nobody holds to a machine, or notes why none can have it.
    fn settle(&self, register: &Register, decree: &mut impl FnMut(Command)) {
        let found = fleet::settle(&self.machines, &self.programs);
        for ((number, waiting), found) in self.order.iter().zip(&self.waiting).zip(found) {
            for (replica, on) in waiting.iter().zip(found) {
                let lease = Lease {
                    program: *number,
                    replica: *replica,
                };
                let slot = &register.programs[number].slots[replica];
                let noted = slot.waits.map(|funnel| funnel.furthest());
                match on.candidates.first() {
                    Some(best) => {
                        let to = Tile(best.machine.into());
                        decree(Command::Place { lease, to, on });
                    }
                    // Noted once, however often it is looked at.
                    None if noted != Some(on.funnel.furthest()) => {
                        let on = on.funnel;
                        decree(Command::Wait { lease, on });
                    }
                    None => {}
                }
            }
        }
    }
}

/// Opens and recalls, so that as many as were asked for serve and none stays where it must not.
fn move_on(register: &Register, number: u64, program: &Program, decree: &mut impl FnMut(Command)) {
    let lease = |replica: u32| Lease {
        program: number,
        replica,
    };
    let open = |decree: &mut dyn FnMut(Command)| {
        decree(Command::Open {
            program: number,
            replica: program.next,
        });
    };
    let recall = |replica: u32, why: Why, decree: &mut dyn FnMut(Command)| {
        let lease = lease(replica);
        decree(Command::Recall { lease, why });
    };
    let wanted = program.replicas as usize;
    if program.slots.len() < wanted {
        return open(decree);
    }
    let is_recalled = |replica: &u32| register.leases.is_recalled(lease(*replica));
    if program.slots.keys().any(is_recalled) {
        return;
    }
    let leaves = |replica: &u32| {
        let holder = register.leases.holder(lease(*replica));
        let tile = holder.and_then(|(tile, _)| register.leases.tile(tile));
        tile.is_some_and(|(duty, _)| duty.hands_over())
    };
    let leaving = program.slots.keys().copied().find(leaves);
    match leaving {
        Some(replica) if wanted == 1 => recall(replica, Why::Drained, decree),
        Some(_) if program.slots.len() == wanted => open(decree),
        Some(replica) => {
            let mut stay = program.slots.iter().filter(|(replica, _)| !leaves(replica));
            if stay.all(|(_, slot)| slot.up || slot.ended.is_some()) {
                recall(replica, Why::Drained, decree);
            }
        }
        None if program.slots.len() > wanted => {
            // The drain was called off, or the machine died. What is not up serves nobody.
            let idle = program.slots.iter().rev().find(|(_, slot)| !slot.up);
            let last = idle.or_else(|| program.slots.iter().next_back());
            if let Some((replica, _)) = last {
                recall(*replica, Why::Surplus, decree);
            }
        }
        None => {}
    }
}
