//! Which machine runs what?
//!
//! A leader looks at the register several times in a lease's wait and decrees what is missing: a machine for each replica that
//! nobody holds, one replica more where one must move, a recall where it may. It asks nobody and remembers little, so whoever
//! leads next goes on where it stopped; and what is decreed twice means nothing the second time.
//!
//! # Where to
//!
//! A machine *fits* if it serves, has renewed within half a term, has room for what the replica demands, runs nothing that takes one of its ports, and is not resting from a failure with
//! the same program. Of those that fit the one is taken that runs the fewest replicas of the same program, then the one that is loaded
//! least (the largest of the shares of processor, memory and GPUs that its replicas demand), then the one with the fewest replicas, then the lowest number:
//! so a death takes as little of a program as can be, and the same state always leads to the same choice. Programs of a more urgent class are placed first.
//!
//! Why this is no policy of the scheduler's: docs/decisions/2026-11-29-replicas-are-spread-and-jobs-are-packed.md.
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

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use consensus::Lease;
use consensus::lease::Duty;
use wire::{Instant, Nanos, Tile};

use super::register::{Command, Door, Lack, Memory, Program, Register, Room, Why};

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

    fn holds(&self, program: u64, tile: Tile, now: Instant) -> bool {
        self.0.get(&(program, tile)).is_some_and(|(often, since)| {
            let doubled = REST_MIN
                .0
                .saturating_mul(1 << often.saturating_sub(1).min(16));
            now.since(*since) < Nanos(doubled).min(REST_MAX)
        })
    }
}

/// What a machine runs already.
#[derive(Clone, Debug, Default)]
struct Load {
    taken: Room,
    ports: BTreeSet<u16>,
    replicas: u32,
}

/// Everything that is missing now.
pub(super) fn look(
    register: &Register,
    memory: &mut Memory,
    now: Instant,
    decree: &mut impl FnMut(Command),
) {
    memory.barred.note(register, now);
    let mut loads: BTreeMap<Tile, Load> = BTreeMap::new();
    for (lease, tile, _) in register.leases.held() {
        // What is forgotten holds nothing.
        if let Some(program) = register.programs.get(&lease.program) {
            loads.entry(tile).or_default().take(program);
        }
    }
    let mut programs: Vec<_> = register.programs.iter().collect();
    programs.sort_by_key(|(number, program)| (program.class, **number));
    for (number, program) in programs {
        if program.replicas > 0 {
            move_on(register, *number, program, decree);
            settle(
                register,
                memory,
                (*number, program),
                &mut loads,
                now,
                decree,
            );
        }
    }
}

impl Load {
    fn take(&mut self, program: &Program) {
        let Room {
            cpu_milli,
            memory,
            gpus,
        } = program.demand;
        self.taken.cpu_milli = self.taken.cpu_milli.saturating_add(cpu_milli);
        self.taken.memory = self.taken.memory.saturating_add(memory);
        self.taken.gpus = self.taken.gpus.saturating_add(gpus);
        self.ports
            .extend(program.doors.iter().map(|door| door.port));
        self.replicas += 1;
    }

    fn leaves(&self, room: Room, demand: Room) -> bool {
        let fits = |taken: u64, more: u64, all: u64| more == 0 || taken.saturating_add(more) <= all;
        fits(self.taken.cpu_milli, demand.cpu_milli, room.cpu_milli)
            && fits(self.taken.memory, demand.memory, room.memory)
            && fits(self.taken.gpus, demand.gpus, room.gpus)
    }

    fn has_free(&self, doors: &[Door]) -> bool {
        !doors.iter().any(|door| self.ports.contains(&door.port))
    }

    /// The larger share that is taken, in thousandths.
    fn share(&self, room: Room) -> u64 {
        let share = |taken: u64, all: u64| u128::from(taken) * 1_000 / u128::from(all.max(1));
        let larger = share(self.taken.cpu_milli, room.cpu_milli)
            .max(share(self.taken.memory, room.memory))
            .max(share(self.taken.gpus, room.gpus));
        u64::try_from(larger).unwrap_or(u64::MAX)
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
        tile.is_some_and(|(duty, _)| duty == Duty::Draining)
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

/// Gives every replica that nobody holds to a machine, or notes why none can have it.
fn settle(
    register: &Register,
    memory: &Memory,
    (number, program): (u64, &Program),
    loads: &mut BTreeMap<Tile, Load>,
    now: Instant,
    decree: &mut impl FnMut(Command),
) {
    let holder = |replica: u32| {
        register.leases.holder(Lease {
            program: number,
            replica,
        })
    };
    let mut beside: BTreeMap<Tile, u32> = BTreeMap::new();
    for (tile, _) in program.slots.keys().filter_map(|replica| holder(*replica)) {
        *beside.entry(tile).or_default() += 1;
    }
    let fresh = register.leases.terms().term / 2;
    for (replica, slot) in &program.slots {
        if slot.ended.is_some() || holder(*replica).is_some() {
            continue;
        }
        let lease = Lease {
            program: number,
            replica: *replica,
        };
        let (mut lack, mut fit, mut best) = (Lack::Machine, 0, None);
        for (tile, duty, present) in register.leases.tiles() {
            let heard = memory
                .seen
                .since(tile)
                .is_some_and(|since| now.since(since) <= fresh);
            if !present || duty != Duty::Serving || !heard {
                continue;
            }
            let load = loads.entry(tile).or_default();
            let room = register.rooms.get(&tile).copied().unwrap_or_default();
            if !load.leaves(room, program.demand) {
                lack = lack.max(Lack::Room);
                continue;
            }
            if !load.has_free(&program.doors) {
                lack = lack.max(Lack::Port);
                continue;
            }
            if memory.barred.holds(number, tile, now) {
                lack = Lack::Rest;
                continue;
            }
            fit += 1;
            let rank = (
                beside.get(&tile).copied().unwrap_or_default(),
                load.share(room),
                load.replicas,
                tile,
            );
            best = Some(best.map_or(rank, |best| rank.min(best)));
        }
        match best {
            Some((.., to)) => {
                decree(Command::Place { lease, to, fit });
                *beside.entry(to).or_default() += 1;
                loads.entry(to).or_default().take(program);
            }
            None if slot.waits != Some(lack) => decree(Command::Wait { lease, why: lack }),
            None => {}
        }
    }
}
