//! One torus's processes, and the order in which they run.
//!
//! The part of a torus that is rebuilt when it is lost. It changes only by the
//! [`crate::record::Record`]s of its log, and the same records make the same lattice: whatever
//! depends on luck, on the network or on a clock is decided outside and written
//! into a record first. What happens between its own processes is not logged at
//! all. A run of a thousand turns is one record, *ran, so many, at this time*,
//! because running them again gives the same.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use wire::Instant;

use crate::lane::{Channel, LANES, Lane, WORLD, between};
use crate::mail::{self, Mail};
use crate::pid::{GENERATIONS, Pid, Strand, Weight};
use crate::place::Shape;
use crate::post::{Offer, Post, Report};
use crate::process::{Process, Refused, Turn};
use crate::ready::Ready;
use crate::sites::Sites;

/// Whoever has no parent here settles as near as possible to this site: processes
/// lie together, and a lattice takes memory for those it has.
const NEWCOMER: u32 = 0;

/// How much a lattice holds; every queue in it ends somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Processes, rounded up to a torus of 4ᵏ sites.
    pub processes: u32,
    /// Messages in one mailbox.
    pub mailbox: u16,
    /// Messages in all mailboxes.
    pub mail: u32,
    /// Posts in one lane that nobody has taken yet.
    pub lane: u32,
}

impl Default for Limits {
    /// A million processes with 256 messages each, but 16 million in all; a lane of
    /// 1,024 is a few packets.
    fn default() -> Self {
        Self {
            processes: 1 << 20,
            mailbox: 256,
            mail: 1 << 24,
            lane: 1_024,
        }
    }
}

/// What is on a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Free,
    /// Born here and here.
    Here,
    /// Here, born elsewhere.
    Guest,
    /// Born here, and now there.
    Away(Strand),
}

#[derive(Clone, Debug)]
pub(crate) struct Slot<P> {
    /// None while it runs.
    pub(crate) process: Option<P>,
    /// The earliest deadline in the mailbox.
    pub(crate) due: Instant,
    /// When it began to wait for a turn, counted in such beginnings; 0 while it
    /// does not wait.
    pub(crate) ordinal: u64,
    /// Its last message.
    pub(crate) last: u32,
    pub(crate) generation: u32,
    pub(crate) queued: u16,
    pub(crate) weight: Weight,
    pub(crate) standing: Standing,
    /// Changed since the last snapshot.
    pub(crate) dirty: bool,
}

impl<P> Slot<P> {
    pub(crate) const FREE: Self = Self {
        process: None,
        due: Instant::END,
        ordinal: 0,
        last: mail::NONE,
        generation: 0,
        queued: 0,
        weight: Weight::LEAST,
        standing: Standing::Free,
        dirty: false,
    };
}

/// What is counted for ever; part of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Turns taken.
    pub events: u64,
    /// Messages taken after their deadline: violated constraints.
    //= requirements B4
    pub missed: u64,
    /// Messages that found nobody, or a process that had taken its last turn.
    pub astray: u64,
}

/// The processes of one torus.
#[derive(Clone, Debug)]
pub struct Lattice<P: Process> {
    pub(crate) limits: Limits,
    pub(crate) shape: Shape,
    pub(crate) strand: Strand,
    pub(crate) slots: Vec<Slot<P>>,
    /// The seal of each slot as the last snapshot has it; 0 if none does.
    pub(crate) seals: Vec<u64>,
    /// The sum of the seals.
    pub(crate) sum: u64,
    pub(crate) dirty: Vec<u32>,
    pub(crate) sites: Sites,
    pub(crate) mail: Mail<P::Message>,
    pub(crate) ready: Ready,
    /// Processes born elsewhere, by name and by site.
    pub(crate) guests: BTreeMap<Pid, u32>,
    pub(crate) homes: BTreeMap<u32, Pid>,
    pub(crate) lanes: [Lane<P>; LANES],
    /// Processes in each region.
    pub(crate) face: [u32; 64],
    pub(crate) processes: u32,
    pub(crate) clock: Instant,
    pub(crate) ordinal: u64,
    pub(crate) tally: Tally,
    /// A site whose bytes are not what they were.
    pub(crate) broken: Option<u32>,
    pub(crate) scrubbed: u32,
    pub(crate) scratch: Vec<u8>,
}

impl<P: Process> Lattice<P> {
    /// Empty.
    #[must_use]
    pub fn new(strand: Strand, limits: Limits) -> Self {
        let shape = Shape::holding(limits.processes);
        Self {
            limits,
            shape,
            strand,
            slots: Vec::new(),
            seals: Vec::new(),
            sum: 0,
            dirty: Vec::new(),
            sites: Sites::new(shape.sites()),
            mail: Mail::new(),
            ready: Ready::default(),
            guests: BTreeMap::new(),
            homes: BTreeMap::new(),
            lanes: core::array::from_fn(|_| Lane::new()),
            face: [0; 64],
            processes: 0,
            clock: Instant::EPOCH,
            ordinal: 0,
            tally: Tally::default(),
            broken: None,
            scrubbed: 0,
            scratch: Vec::new(),
        }
    }

    /// Which of the three.
    #[must_use]
    pub const fn strand(&self) -> Strand {
        self.strand
    }

    /// The torus on which its sites lie.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// When the last run began.
    #[must_use]
    pub const fn clock(&self) -> Instant {
        self.clock
    }

    /// Processes that are here.
    #[must_use]
    pub const fn processes(&self) -> u32 {
        self.processes
    }

    /// Processes that wait for a turn.
    #[must_use]
    pub fn ready(&self) -> u32 {
        self.ready.count()
    }

    /// Messages in mailboxes.
    #[must_use]
    pub const fn mail(&self) -> u32 {
        self.mail.waiting()
    }

    /// What is counted for ever.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// A process that is here, with its name.
    #[must_use]
    pub fn find(&self, pid: Pid) -> Option<&P> {
        let site = match self.guests.get(&pid) {
            Some(&site) => site,
            None if pid.strand() == self.strand => pid.site(),
            None => return None,
        };
        let slot = self.slots.get(site as usize)?;
        let is_it = slot.standing == Standing::Guest || slot.generation == pid.generation();
        slot.process.as_ref().filter(|_| is_it)
    }

    /// Every process that is here, with its name, in the order of sites.
    pub fn iter(&self) -> impl Iterator<Item = (Pid, &P)> {
        let slots = (0..).zip(&self.slots);
        slots.filter_map(|(site, slot)| Some((self.name(site), slot.process.as_ref()?)))
    }

    /// Starts a process that has no parent here. A torus does this only by its
    /// log; a lattice without a torus may be driven directly.
    ///
    /// # Errors
    /// [`Refused::Full`].
    pub fn start(&mut self, process: P, weight: Weight) -> Result<Pid, Refused> {
        self.spawn(NEWCOMER, process, weight)
    }

    /// Sends a message from outside, as [`Lattice::start`] starts a process.
    ///
    /// # Errors
    /// [`Refused::Full`] and [`Refused::Nobody`].
    pub fn send(&mut self, to: Pid, message: P::Message) -> Result<(), Refused> {
        self.post(to, message, Instant::END)
    }

    /// Runs up to `budget` turns; the clock does not go back. Returns how many; if
    /// none, nothing has changed, not even the clock, and nothing need be logged.
    pub fn run(&mut self, now: Instant, budget: u32) -> u32 {
        if self.ready.count() == 0 {
            return 0;
        }
        self.clock = self.clock.max(now);
        let mut ran = 0;
        while ran < budget && self.broken.is_none() {
            let slots = &self.slots;
            let valid = |site: u32, ordinal| slots[site as usize].ordinal == ordinal;
            let Some(site) = self.ready.next(valid) else {
                break;
            };
            self.turn(site);
            ran += 1;
        }
        self.tally.events += u64::from(ran);
        ran
    }

    #[inline]
    fn turn(&mut self, site: u32) {
        self.touch(site);
        let me = self.name(site);
        let slot = &mut self.slots[site as usize];
        slot.ordinal = 0;
        let (message, due) = self.mail.pop(&mut slot.last).expect("it was ready");
        slot.queued -= 1;
        if slot.due != Instant::END {
            let left = self.mail.iter(slot.last).map(|(_, due)| due);
            slot.due = left.min().unwrap_or(Instant::END);
            if due < self.clock {
                self.tally.missed += 1;
            }
        }
        let mut process = slot.process.take().expect("only one turn at a time");
        let mut turn = Turn::new(self, me, site);
        process.handle(message, &mut turn);
        let exits = turn.exits();
        let slot = &mut self.slots[site as usize];
        slot.process = Some(process);
        if exits {
            self.tally.astray += u64::from(slot.queued);
            self.end(site);
        } else if slot.queued > 0 {
            self.wait(site);
        }
    }

    /// A process begins to wait for its turn.
    #[inline]
    fn wait(&mut self, site: u32) {
        self.ordinal += 1;
        let slot = &mut self.slots[site as usize];
        slot.ordinal = self.ordinal;
        self.ready.enter(site, slot.ordinal, slot.weight, slot.due);
    }

    #[inline]
    pub(crate) fn name(&self, site: u32) -> Pid {
        let slot = &self.slots[site as usize];
        if slot.standing == Standing::Guest {
            self.homes[&site]
        } else {
            Pid::new(self.strand, site, slot.generation)
        }
    }

    /// Before a slot changes for the first time since the last snapshot, it is
    /// what the snapshot says, or this lattice is broken.
    #[inline]
    pub(crate) fn touch(&mut self, site: u32) {
        if !self.slots[site as usize].dirty {
            self.unseal(site);
        }
    }

    #[inline(never)]
    fn unseal(&mut self, site: u32) {
        if !self.is_whole(site) {
            self.broken = Some(site);
        }
        self.slots[site as usize].dirty = true;
        self.dirty.push(site);
    }

    /// Where a message to this process would wait.
    #[inline]
    fn room(&self, to: Pid) -> Result<Room, Refused> {
        if to.strand() != self.strand {
            return self.lane_room(to.strand(), Channel::First);
        }
        let slot = self.slots.get(to.site() as usize).ok_or(Refused::Nobody)?;
        if slot.generation != to.generation() {
            return Err(Refused::Nobody);
        }
        match slot.standing {
            Standing::Here => self.mailbox_room(to.site()),
            Standing::Away(strand) => self.lane_room(strand, Channel::Onward),
            Standing::Free | Standing::Guest => Err(Refused::Nobody),
        }
    }

    #[inline]
    fn mailbox_room(&self, site: u32) -> Result<Room, Refused> {
        let slot = &self.slots[site as usize];
        if slot.queued >= self.limits.mailbox || self.mail.waiting() >= self.limits.mail {
            return Err(Refused::Full);
        }
        Ok(Room::Mailbox(site))
    }

    fn lane_room(&self, strand: Strand, channel: Channel) -> Result<Room, Refused> {
        let lane = between(self.strand, strand, channel);
        if self.is_full(lane) {
            return Err(Refused::Full);
        }
        Ok(Room::Lane(lane))
    }

    fn is_full(&self, lane: usize) -> bool {
        self.lanes[lane].outbox.len() >= self.limits.lane as usize
    }

    #[inline]
    pub(crate) fn post(
        &mut self,
        to: Pid,
        message: P::Message,
        due: Instant,
    ) -> Result<(), Refused> {
        match self.room(to)? {
            Room::Mailbox(site) => self.deliver(site, message, due),
            Room::Lane(lane) => self.lanes[lane].outbox.push_back(if lane % 2 == 0 {
                Post::Offer(Offer::Message { to, message, due })
            } else {
                Post::Forward { to, message, due }
            }),
        }
        Ok(())
    }

    #[inline]
    fn deliver(&mut self, site: u32, message: P::Message, due: Instant) {
        self.touch(site);
        let slot = &mut self.slots[site as usize];
        self.mail.push(&mut slot.last, message, due);
        slot.queued += 1;
        let before = slot.due;
        slot.due = before.min(due);
        if slot.ordinal != 0 {
            if slot.due < before {
                self.ready.leave(slot.weight, before);
                self.wait(site);
            }
        } else if slot.process.is_some() {
            self.wait(site);
        }
    }

    pub(crate) fn spawn(&mut self, near: u32, process: P, weight: Weight) -> Result<Pid, Refused> {
        let site = self.sites.near(near).ok_or(Refused::Full)?;
        self.settle(site, process, weight, Standing::Here);
        Ok(self.name(site))
    }

    pub(crate) fn spawn_on(
        &mut self,
        strand: Strand,
        process: P,
        weight: Weight,
    ) -> Result<(), Refused> {
        if strand == self.strand {
            return self.spawn(NEWCOMER, process, weight).map(|_| ());
        }
        let lane = between(self.strand, strand, Channel::First);
        if self.is_full(lane) {
            return Err(Refused::Full);
        }
        let offer = Offer::Spawn { process, weight };
        self.lanes[lane].outbox.push_back(Post::Offer(offer));
        Ok(())
    }

    pub(crate) fn tell(&mut self, from: Pid, message: P::Message) -> Result<(), Refused> {
        if self.is_full(WORLD) {
            return Err(Refused::Full);
        }
        self.report(Report::Said { from, message });
        Ok(())
    }

    fn report(&mut self, report: Report<P::Message>) {
        self.lanes[WORLD].outbox.push_back(Post::Report(report));
    }

    /// Room in memory for the slots up to this one, a square at a time.
    pub(crate) fn reach(&mut self, site: u32) {
        let needed = (site as usize | 63) + 1;
        if self.slots.len() < needed {
            self.slots.resize_with(needed, || Slot::FREE);
            self.seals.resize(needed, 0);
        }
    }

    fn settle(&mut self, site: u32, process: P, weight: Weight, standing: Standing) {
        self.reach(site);
        self.touch(site);
        self.sites.take(site);
        let slot = &mut self.slots[site as usize];
        (slot.process, slot.weight, slot.standing) = (Some(process), weight, standing);
        self.processes += 1;
        self.face[self.shape.region(site)] += 1;
    }

    /// A process is here no more, and its site is free.
    fn end(&mut self, site: u32) {
        self.take_out(site);
        if let Some(home) = self.homes.remove(&site) {
            self.guests.remove(&home);
            let lane = between(self.strand, home.strand(), Channel::Onward);
            // Past the limit if need be: there are no more of these than guests.
            self.lanes[lane].outbox.push_back(Post::Ended { home });
        }
        self.vacate(site);
    }

    fn vacate(&mut self, site: u32) {
        let slot = &mut self.slots[site as usize];
        slot.standing = Standing::Free;
        slot.weight = Weight::LEAST;
        slot.generation = (slot.generation + 1) % GENERATIONS;
        self.sites.release(site);
    }

    /// The process and its mail leave their slot.
    fn take_out(&mut self, site: u32) -> (P, Vec<(P::Message, Instant)>) {
        let slot = &mut self.slots[site as usize];
        if slot.ordinal != 0 {
            self.ready.leave(slot.weight, slot.due);
        }
        (slot.ordinal, slot.due, slot.queued) = (0, Instant::END, 0);
        let process = slot.process.take().expect("it is here");
        let mut mail = Vec::new();
        while let Some(one) = self.mail.pop(&mut slot.last) {
            mail.push(one);
        }
        self.processes -= 1;
        self.face[self.shape.region(site)] -= 1;
        (process, mail)
    }

    /// Whether a post can be taken now; nothing may be logged before it can.
    pub(crate) fn admits(&self, lane: usize, post: &Post<P>) -> Result<(), Refused> {
        if lane == WORLD && self.is_full(WORLD) {
            return Err(Refused::Full);
        }
        let home_room = |to: Pid| match self.room(to) {
            Err(Refused::Full) => Err(Refused::Full),
            _ => Ok(()),
        };
        let onward = |to: Pid| self.lane_room(to.strand(), Channel::Onward).map(|_| ());
        match post {
            Post::Offer(Offer::Message { to, .. }) => home_room(*to),
            Post::Offer(Offer::Spawn { .. }) if self.sites.free() == 0 => Err(Refused::Full),
            Post::Forward { to, .. } => match self.guests.get(to) {
                Some(&site) => self.mailbox_room(site).map(|_| ()),
                None if to.strand() == self.strand => home_room(*to),
                None => onward(*to),
            },
            Post::Arrive { home, process, .. } => {
                if home.strand() == self.strand || self.hosts(process) {
                    Ok(())
                } else {
                    onward(*home)
                }
            }
            Post::Offer(Offer::Spawn { .. }) | Post::Ended { .. } => Ok(()),
            Post::Report(_) => Err(Refused::Nobody),
        }
    }

    fn hosts(&self, process: &P) -> bool {
        self.sites.free() > 0 && process.suits(self.strand)
    }

    /// Takes a post that [`Lattice::admits`].
    pub(crate) fn take(&mut self, lane: usize, post: Post<P>) {
        let number = self.lanes[lane].taken;
        self.lanes[lane].taken += 1;
        match post {
            Post::Offer(Offer::Message { to, message, due }) => {
                if self.post(to, message, due).is_err() {
                    self.tally.astray += 1;
                    if lane == WORLD {
                        self.report(Report::Nobody { offer: number });
                    }
                }
            }
            Post::Offer(Offer::Spawn { process, weight }) => {
                let pid = self.spawn(NEWCOMER, process, weight);
                if lane == WORLD {
                    let pid = pid.expect("a site was free");
                    self.report(Report::Spawned { offer: number, pid });
                }
            }
            Post::Forward { to, message, due } => match self.guests.get(&to) {
                Some(&site) => self.deliver(site, message, due),
                None if to.strand() == self.strand => {
                    if self.post(to, message, due).is_err() {
                        self.tally.astray += 1;
                    }
                }
                // It was sent home again from here, or has ended.
                None => self.pass_on(to.strand(), Post::Forward { to, message, due }),
            },
            Post::Arrive {
                home,
                weight,
                process,
                mail,
            } => self.arrive(home, weight, process, mail),
            Post::Ended { home } => {
                let away = |slot: &Slot<P>| {
                    slot.generation == home.generation()
                        && matches!(slot.standing, Standing::Away(_))
                };
                let site = home.site();
                if self.slots.get(site as usize).is_some_and(away) {
                    self.touch(site);
                    self.vacate(site);
                }
            }
            Post::Report(_) => unreachable!("not admitted"),
        }
    }

    fn pass_on(&mut self, strand: Strand, post: Post<P>) {
        let lane = between(self.strand, strand, Channel::Onward);
        self.lanes[lane].outbox.push_back(post);
    }

    fn arrive(&mut self, home: Pid, weight: Weight, process: P, mail: Vec<(P::Message, Instant)>) {
        let site = if home.strand() == self.strand {
            let site = home.site();
            let is_its = |slot: &Slot<P>| {
                slot.generation == home.generation() && matches!(slot.standing, Standing::Away(_))
            };
            if !self.slots.get(site as usize).is_some_and(is_its) {
                self.tally.astray += mail.len() as u64;
                return;
            }
            self.touch(site);
            self.sites.release(site);
            self.settle(site, process, weight, Standing::Here);
            site
        } else if self.hosts(&process) {
            let site = self.sites.near(NEWCOMER).expect("a site is free");
            self.settle(site, process, weight, Standing::Guest);
            self.guests.insert(home, site);
            self.homes.insert(site, home);
            site
        } else {
            let back = Post::Arrive {
                home,
                weight,
                process,
                mail,
            };
            return self.pass_on(home.strand(), back);
        };
        for (message, due) in mail {
            self.deliver(site, message, due);
        }
    }

    /// Whether the process on a site could move to another strand now. Guests stay
    /// where they are: a process is at most one lane away from its home.
    pub(crate) fn may_depart(&self, site: u32, to: Strand) -> bool {
        let slot = self.slots.get(site as usize);
        slot.is_some_and(|slot| {
            slot.standing == Standing::Here
                && slot.process.as_ref().is_some_and(|p| p.suits(to))
                && self.lane_room(to, Channel::Onward).is_ok()
        })
    }

    /// Sends the process on a site away; [`Lattice::may_depart`] was true.
    pub(crate) fn depart(&mut self, site: u32, to: Strand) {
        self.touch(site);
        let home = self.name(site);
        let weight = self.slots[site as usize].weight;
        let (process, mail) = self.take_out(site);
        let slot = &mut self.slots[site as usize];
        slot.standing = Standing::Away(to);
        slot.weight = Weight::LEAST;
        self.pass_on(
            to,
            Post::Arrive {
                home,
                weight,
                process,
                mail,
            },
        );
    }
}

enum Room {
    Mailbox(u32),
    Lane(usize),
}
