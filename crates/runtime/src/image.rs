//! A lattice as bytes: whole, or what has changed.
//!
//! A slot has one spelling: standing, generation, and for a process that is here
//! its weight, its place in the order of turns, itself and its mail. Everything
//! else in a lattice (which sites are free, who waits, the face, the sums) follows
//! from the slots and the header, so it is neither sent nor compared.

use alloc::vec::Vec;

use wire::{Decode, DecodeError, Encode, Instant, Reader};

use crate::lane::LANES;
use crate::lattice::{Lattice, Slot, Standing, Tally};
use crate::mail;
use crate::pid::{GENERATIONS, Pid, Strand, Weight};
use crate::post::{Post, decode_due, encode_due};
use crate::process::Process;
use crate::ready::Round;
use crate::seal::seal;

/// The header's role beside the slots', which are their sites.
const HEADER: u64 = 1 << 32;

impl<P: Process> Lattice<P> {
    fn encode_slot(&self, site: u32, out: &mut Vec<u8>) {
        let slot = &self.slots[site as usize];
        let standing = match slot.standing {
            Standing::Free => 0,
            Standing::Here => 1,
            Standing::Guest => 2,
            Standing::Away(strand) => 3 + strand as u8,
        };
        out.push(standing);
        slot.generation.encode(out);
        let Some(process) = &slot.process else {
            return;
        };
        if slot.standing == Standing::Guest {
            self.homes[&site].encode(out);
        }
        slot.weight.encode(out);
        slot.ordinal.encode(out);
        process.encode(out);
        slot.queued.encode(out);
        for (message, due) in self.mail.iter(slot.last) {
            encode_due(due, out);
            message.encode(out);
        }
    }

    /// Whether a slot is what its seal says. One that has none was never used.
    pub(crate) fn is_whole(&mut self, site: u32) -> bool {
        let expected = self.seals[site as usize];
        if expected == 0 {
            return true;
        }
        let mut bytes = core::mem::take(&mut self.scratch);
        bytes.clear();
        self.encode_slot(site, &mut bytes);
        let found = seal(site.into(), &bytes);
        self.scratch = bytes;
        found == expected
    }

    /// Looks at the next few slots that nothing has touched, so that damage to a
    /// process that never runs is found too. False if one is damaged.
    pub(crate) fn scrub(&mut self, slots: u32) -> bool {
        for _ in 0..slots.min(self.slots.len() as u32) {
            let site = self.scrubbed % self.slots.len() as u32;
            self.scrubbed = site + 1;
            if !self.slots[site as usize].dirty && !self.is_whole(site) {
                self.broken = Some(site);
                return false;
            }
        }
        true
    }

    /// Seals what has changed since the last time, telling each slot's bytes.
    pub(crate) fn seal_changes(&mut self, mut each: impl FnMut(u32, &[u8])) {
        let mut bytes = core::mem::take(&mut self.scratch);
        let mut dirty = core::mem::take(&mut self.dirty);
        for &site in &dirty {
            bytes.clear();
            self.encode_slot(site, &mut bytes);
            self.reseal(site, &bytes);
            self.slots[site as usize].dirty = false;
            each(site, &bytes);
        }
        dirty.clear();
        self.dirty = dirty;
        self.scratch = bytes;
        self.tidy();
    }

    fn reseal(&mut self, site: u32, bytes: &[u8]) {
        let new = seal(site.into(), bytes);
        let old = core::mem::replace(&mut self.seals[site as usize], new);
        self.sum = self.sum.wrapping_sub(old).wrapping_add(new);
    }

    fn tidy(&mut self) {
        let slots = &self.slots;
        self.ready
            .tidy(|site, ordinal| slots[site as usize].ordinal == ordinal);
    }

    /// Forgets all seals: the next snapshot is a whole one.
    pub(crate) fn unseal_all(&mut self) {
        for site in 0..self.slots.len() as u32 {
            let slot = &mut self.slots[site as usize];
            let used = slot.standing != Standing::Free || slot.generation > 0;
            if used && !slot.dirty {
                slot.dirty = true;
                self.dirty.push(site);
            }
        }
        self.seals.fill(0);
        self.sum = 0;
        for lane in &mut self.lanes {
            lane.sealed = 0;
        }
    }

    /// The header, with the posts that the last snapshot does not have.
    pub(crate) fn seal_header(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_header(&mut out);
        for lane in &mut self.lanes {
            lane.sealed = lane.end();
        }
        out
    }

    fn encode_header(&self, out: &mut Vec<u8>) {
        self.clock.0.encode(out);
        self.ordinal.encode(out);
        self.tally.events.encode(out);
        self.tally.missed.encode(out);
        self.tally.astray.encode(out);
        let Round {
            class,
            credit,
            urgent_run,
        } = self.ready.round;
        out.extend([class, credit, urgent_run]);
        for lane in &self.lanes {
            lane.taken.encode(out);
            lane.base.encode(out);
            let first = lane.sealed.max(lane.base);
            (lane.end() - first).encode(out);
            for post in lane.from(first) {
                post.encode(out);
            }
        }
    }

    /// What the state amounts to: the seals of the slots and of the header.
    pub(crate) fn digest(&self, header: &[u8]) -> u64 {
        self.sum.wrapping_add(seal(HEADER, header))
    }

    /// What [`Lattice::digest`] will be once these changes are loaded.
    pub(crate) fn digest_after<'a>(
        &self,
        slots: impl Iterator<Item = (u32, &'a [u8])>,
        header: &[u8],
    ) -> u64 {
        let sum = slots.fold(self.sum, |sum, (site, bytes)| {
            let old = self.seals.get(site as usize).copied().unwrap_or(0);
            let new = seal(site.into(), bytes);
            sum.wrapping_sub(old).wrapping_add(new)
        });
        sum.wrapping_add(seal(HEADER, header))
    }

    /// The whole state in its one spelling: two lattices are equal if these are.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut whole = self.clone();
        whole.unseal_all();
        whole.dirty.sort_unstable();
        let mut out = Vec::new();
        whole.encode_header(&mut out);
        whole.seal_changes(|site, bytes| {
            site.encode(&mut out);
            out.extend_from_slice(bytes);
        });
        out
    }

    /// Puts a slot in the place of what is on its site.
    pub(crate) fn load_slot(&mut self, site: u32, bytes: &[u8]) -> Result<(), DecodeError> {
        if site >= self.shape.sites() {
            return Err(DecodeError::Invalid {
                at: 0,
                what: "site",
                found: site.into(),
            });
        }
        let from = &mut Reader::new(bytes);
        let found = from.byte()?;
        let standing = match found {
            0 => Standing::Free,
            1 => Standing::Here,
            2 => Standing::Guest,
            3 => Standing::Away(Strand::Compute),
            4 => Standing::Away(Strand::Io),
            5 => Standing::Away(Strand::Accelerator),
            _ => {
                return Err(DecodeError::Invalid {
                    at: 0,
                    what: "standing",
                    found: found.into(),
                });
            }
        };
        let generation = u32::decode(from)? % GENERATIONS;
        let before = self.clear(site);
        if standing != Standing::Free {
            self.sites.take(site);
        }
        if matches!(standing, Standing::Here | Standing::Guest) {
            if standing == Standing::Guest {
                let home = Pid::decode(from)?;
                self.guests.insert(home, site);
                self.homes.insert(site, home);
            }
            let weight = Weight::decode(from)?;
            let ordinal = u64::decode(from)?;
            let process = P::decode(from)?;
            let queued = u16::decode(from)?;
            let (mut last, mut due) = (mail::NONE, Instant::END);
            for _ in 0..queued {
                let this_due = decode_due(from)?;
                let message = P::Message::decode(from)?;
                self.mail.push(&mut last, message, this_due);
                due = due.min(this_due);
            }
            self.slots[site as usize] = Slot {
                process: Some(process),
                due,
                ordinal,
                last,
                generation,
                queued,
                weight,
                standing,
                dirty: false,
            };
            self.processes += 1;
            self.face[self.shape.region(site)] += 1;
        } else {
            let slot = &mut self.slots[site as usize];
            (slot.standing, slot.generation) = (standing, generation);
        }
        // Who waits as before keeps the place in the queue.
        if before.0 != 0 && before.0 != self.slots[site as usize].ordinal {
            self.ready.leave(before.1, before.2);
        }
        self.reseal(site, bytes);
        Ok(())
    }

    /// Who has begun to wait since the last snapshot takes a place behind those
    /// who waited then. To be called before the header is loaded.
    pub(crate) fn line_up(&mut self, loaded: impl Iterator<Item = u32>) {
        let waits = |site| Some((self.slots[site as usize].ordinal, site));
        let waits = |site| waits(site).filter(|&(ordinal, _)| ordinal > self.ordinal);
        let mut waiting: Vec<_> = loaded.filter_map(waits).collect();
        waiting.sort_unstable();
        for (ordinal, site) in waiting {
            let slot = &self.slots[site as usize];
            self.ready.enter(site, ordinal, slot.weight, slot.due);
        }
        self.tidy();
    }

    /// Empties a site and tells how its process waited.
    fn clear(&mut self, site: u32) -> (u64, Weight, Instant) {
        self.reach(site);
        let slot = &mut self.slots[site as usize];
        let waited = (slot.ordinal, slot.weight, slot.due);
        while self.mail.pop(&mut slot.last).is_some() {}
        if slot.process.take().is_some() {
            self.processes -= 1;
            self.face[self.shape.region(site)] -= 1;
        }
        if slot.standing != Standing::Free {
            self.sites.release(site);
        }
        if let Some(home) = self.homes.remove(&site) {
            self.guests.remove(&home);
        }
        *slot = Slot::FREE;
        waited
    }

    /// Takes over a header and its posts.
    pub(crate) fn load_header(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let from = &mut Reader::new(bytes);
        self.clock = Instant(u64::decode(from)?);
        self.ordinal = u64::decode(from)?;
        self.tally = Tally {
            events: u64::decode(from)?,
            missed: u64::decode(from)?,
            astray: u64::decode(from)?,
        };
        let at = from.position();
        let round = Round {
            class: from.byte()?,
            credit: from.byte()?,
            urgent_run: from.byte()?,
        };
        if usize::from(round.class) >= Weight::CLASSES {
            return Err(DecodeError::Invalid {
                at,
                what: "class of the round",
                found: round.class.into(),
            });
        }
        self.ready.round = round;
        for of in 0..LANES {
            let taken = u64::decode(from)?;
            let base = u64::decode(from)?;
            let count = from.count(1)?;
            let mut posts = Vec::new();
            for _ in 0..count {
                posts.push(Post::decode(from)?);
            }
            let lane = &mut self.lanes[of];
            lane.taken = taken;
            lane.trim(base);
            // Posts may have come and gone since the last snapshot.
            lane.base = base;
            lane.outbox.extend(posts);
            lane.sealed = lane.end();
        }
        match from.remaining() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing {
                at: from.position(),
                extra,
            }),
        }
    }

    /// Whether every slot is what its seal says: before a copy is relied on, and
    /// before one is made from nothing.
    pub(crate) fn is_all_whole(&mut self) -> bool {
        for site in 0..self.slots.len() as u32 {
            if !self.slots[site as usize].dirty && !self.is_whole(site) {
                self.broken = Some(site);
            }
        }
        self.broken.is_none()
    }

    /// Damages one process's memory as a stray write would: its bytes change and
    /// nothing is told. For tests of what then happens; false if nothing is there.
    pub fn damage(&mut self, site: u32, write: impl FnOnce(&mut P)) -> bool {
        let slot = self.slots.get_mut(site as usize);
        slot.and_then(|slot| slot.process.as_mut())
            .map(write)
            .is_some()
    }

    /// As [`Lattice::damage`], of the first message that waits for a process.
    pub fn damage_mail(&mut self, site: u32, write: impl FnOnce(&mut P::Message)) -> bool {
        let Some(slot) = self.slots.get(site as usize) else {
            return false;
        };
        self.mail.first_mut(slot.last).map(write).is_some()
    }
}
