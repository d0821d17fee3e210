//! One strand of the braid: a lattice, its log, and what it keeps for another.
//!
//! The machine that a world drives. Its work comes in turns: it asks to be woken
//! as long as a process waits or a sheet of the log is not sent, and once for each
//! braid interval.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use machine::Machine;
use wire::{Encode, Instant, Nanos};

use crate::config::Config;
use crate::event::{Effect, Input, Stopped};
use crate::lane::{Channel, LANES, WORLD, between};
use crate::lattice::Lattice;
use crate::packet::{Content, Packet};
use crate::pid::{Strand, Weight};
use crate::post::{Offer, Post};
use crate::process::{Process, Refused};
use crate::projection::Projection;
use crate::record::{Record, Sheet};
use crate::stream::{Mark, Stream};
use crate::ward::{Filed, Ward, play};

/// Posts in one packet.
const POSTS_MAX: usize = 64;
/// Posts of a lane under way at once.
const POSTS_WINDOW: u64 = 256;
/// A snapshot that changes no more than this is made each interval.
const DIRTY_FEW: usize = 1_024;
/// Any snapshot is made after so many intervals.
const SNAPSHOT_INTERVALS: u32 = 32;
/// Bytes of slots in one sheet.
const SLOTS_BYTES: usize = 32 << 10;
/// Bytes of log between two snapshots.
const LOG_BYTES_MAX: usize = 1 << 20;

/// One of the three tori.
#[derive(Clone, Debug)]
pub struct Torus<P: Process> {
    pub(crate) config: Config,
    pub(crate) strand: Strand,
    incarnation: u32,
    pub(crate) lattice: Lattice<P>,
    /// The latest incarnation of each strand heard of.
    known: [u32; 3],
    now: Instant,
    /// Records not yet on a sheet.
    open: Vec<u8>,
    stream: Stream,
    /// The next post of each lane to send.
    sent: [u64; LANES],
    /// What each lane began with at the last tick.
    bases: [u64; LANES],
    /// What has been said of posts taken.
    told_taken: [u64; LANES],
    /// Posts that overtook the next one of their lane. A number is one post for ever, whoever sends it.
    early: [BTreeMap<u64, Post<P>>; LANES],
    ward: Option<Ward<P>>,
    heard: Option<Projection>,
    /// How long the previous torus has said nothing while this one was awake.
    silence: Nanos,
    /// The previous torus is not what its log makes it.
    convicted: bool,
    /// Waits for the next torus to consent that the previous one is given up.
    asking: bool,
    began_at: Option<Instant>,
    sequence: u64,
    pub(crate) interval: Nanos,
    braid_at: Instant,
    run_at: Instant,
    cut: Cut,
    pub(crate) floor: Weight,
    pub(crate) moved: u32,
    pub(crate) departed: u64,
    before: Before,
    told_missed: u64,
    stopped: Option<Stopped>,
}

/// The latest snapshot or audit.
#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    position: u64,
    digest: u64,
    /// Turns taken by then.
    events: u64,
    /// Bytes of log since.
    log_bytes: usize,
    /// Intervals begun since.
    intervals: u32,
    count: u32,
}

/// How it was an interval ago.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    ready: u32,
    missed: u64,
}

impl<P: Process> Torus<P> {
    /// One that has done nothing yet, beside two others like it.
    #[must_use]
    pub fn new(config: Config, strand: Strand, now: Instant) -> Self {
        let lattice = Lattice::new(strand, config.limits);
        let ward = Ward::of_newborn(strand.previous(), config.limits);
        let stream = Stream::default();
        Self::with(config, lattice, stream, Some(ward), [0; 3], now)
    }

    fn with(
        config: Config,
        lattice: Lattice<P>,
        stream: Stream,
        ward: Option<Ward<P>>,
        known: [u32; 3],
        now: Instant,
    ) -> Self {
        let bases = core::array::from_fn(|lane| lattice.lanes[lane].base);
        let before = Before {
            ready: lattice.ready(),
            missed: lattice.tally.missed,
        };
        Self {
            strand: lattice.strand,
            incarnation: known[lattice.strand as usize],
            known,
            now,
            open: Vec::new(),
            sent: bases,
            bases,
            told_taken: [0; LANES],
            early: core::array::from_fn(|_| BTreeMap::new()),
            ward,
            heard: None,
            silence: Nanos::ZERO,
            convicted: false,
            asking: false,
            began_at: None,
            sequence: 0,
            interval: config.interval_min,
            braid_at: now,
            run_at: now,
            cut: Cut::default(),
            floor: Weight::LEAST,
            moved: 0,
            departed: 0,
            before,
            told_missed: before.missed,
            stopped: None,
            config,
            lattice,
            stream,
        }
    }

    /// Which of the three.
    #[must_use]
    pub const fn strand(&self) -> Strand {
        self.strand
    }

    /// How often it has been rebuilt.
    #[must_use]
    pub const fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// Its processes.
    #[must_use]
    pub const fn lattice(&self) -> &Lattice<P> {
        &self.lattice
    }

    /// What the previous torus last said of itself.
    #[must_use]
    pub const fn heard(&self) -> Option<&Projection> {
        self.heard.as_ref()
    }

    /// Why it has stopped, if it has.
    #[must_use]
    pub const fn stopped(&self) -> Option<Stopped> {
        self.stopped
    }

    /// Whether it could rebuild the previous torus.
    #[must_use]
    pub fn keeps_a_copy(&self) -> bool {
        self.ward.as_ref().is_some_and(Ward::is_whole)
    }

    /// How many sheets its log has, if they tell everything that has happened; none
    /// while the next one is being filled.
    #[must_use]
    pub fn written(&self) -> Option<u64> {
        self.open.is_empty().then(|| self.stream.end())
    }

    /// How many sheets of its log the next torus has.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.stream.base()
    }

    /// Processes it has sent elsewhere since it began, or was rebuilt.
    #[must_use]
    pub const fn departed(&self) -> u64 {
        self.departed
    }

    /// For whoever judges a rebuild: does to a lattice what this torus has logged since
    /// its sheet `from`, and says which sheet comes next. What a lost torus was when it wrote
    /// its last sheet is what its successor is once it has also done what nobody held of it.
    ///
    /// # Errors
    /// The lattice's sheet, if this torus no longer has those that follow, or they lead
    /// nowhere.
    pub fn replay_onto(&self, lattice: &mut Lattice<P>, from: u64) -> Result<u64, u64> {
        for position in from..self.stream.end() {
            let sheet = self.stream.sheet(position).ok_or(from)?;
            if let Sheet::Log(bytes) = sheet {
                play(lattice, bytes).map_err(|_| from)?;
            }
        }
        Ok(from.max(self.stream.end()))
    }

    /// For fault injection: see [`Lattice::damage`].
    pub const fn lattice_mut(&mut self) -> &mut Lattice<P> {
        &mut self.lattice
    }

    /// For fault injection: what it keeps of the previous torus.
    pub fn copy_mut(&mut self) -> Option<&mut Lattice<P>> {
        self.ward.as_mut().map(Ward::copy_mut)
    }

    /// What it would say of itself now.
    #[must_use]
    pub fn projection(&self) -> Projection {
        let lattice = &self.lattice;
        Projection {
            from: self.strand,
            incarnation: self.incarnation,
            sequence: self.sequence,
            sent: self.now,
            interval: self.interval,
            processes: lattice.processes,
            free: lattice.sites.free(),
            ready: lattice.ready(),
            mail: lattice.mail(),
            events: lattice.tally.events,
            missed: lattice.tally.missed,
            earliest: lattice.ready.earliest().unwrap_or(Instant::END),
            floor: self.floor,
            weights: *lattice.ready.by_weight(),
            face: lattice.face,
            written: self.stream.end(),
            cut: self.cut.position,
            digest: self.cut.digest,
            asking: if self.asking { self.successor() } else { 0 },
        }
    }

    pub(crate) fn log(&mut self, record: &Record<P>) {
        record.encode(&mut self.open);
    }

    fn say(&self, to: Strand, content: Content<P>, out: &mut impl FnMut(Effect<P>)) {
        let packet = Packet {
            from: self.strand,
            to,
            incarnation: self.incarnation,
            content,
        };
        let bytes = packet.sealed(&self.config.key);
        out(Effect::Send { to, bytes });
    }

    fn stop(&mut self, why: Stopped, out: &mut impl FnMut(Effect<P>)) {
        self.stopped = Some(why);
        if matches!(why, Stopped::Damaged { .. }) {
            self.say(self.strand.next(), Content::Dark, out);
        }
        out(Effect::Stopped(why));
    }

    /// Damage that was met on the way; nothing of this wake may leave then.
    fn stop_if_broken(&mut self, out: &mut impl FnMut(Effect<P>)) {
        if let Some(site) = self.lattice.broken {
            self.stop(Stopped::Damaged { site }, out);
        }
    }

    fn receive(&mut self, packet: Packet<P>, out: &mut impl FnMut(Effect<P>)) {
        let Packet {
            from,
            to,
            incarnation,
            content,
        } = packet;
        if to != self.strand || from == self.strand {
            return;
        }
        let known = &mut self.known[from as usize];
        let (next, previous) = (self.strand.next(), self.strand.previous());
        if incarnation < *known {
            if from == previous {
                let incarnation = *known;
                self.say(from, Content::Over { incarnation }, out);
            }
            return;
        }
        *known = incarnation;
        if from == previous {
            self.silence = Nanos::ZERO;
            self.asking = self.convicted;
        }
        match content {
            Content::Projection(theirs) if from == previous => {
                let age = |p: &Projection| (p.incarnation, p.sequence);
                if self
                    .heard
                    .as_ref()
                    .is_none_or(|last| age(last) < age(&theirs))
                {
                    self.correct(&theirs);
                    self.consent(theirs.asking, out);
                    self.heard = Some(*theirs);
                }
                // It may have nothing to log and never learn that nobody keeps it.
                if self.ward.is_none() {
                    self.say_held(out);
                }
            }
            Content::Sheet { position, sheet } if from == previous => {
                self.keep(position, sheet, out);
            }
            Content::Held {
                next: held,
                anything,
                incarnation,
            } if from == next && incarnation == self.incarnation => {
                if anything {
                    if self.stream.held(held) {
                        self.release(out);
                    }
                } else {
                    self.begin_again();
                }
                self.send_sheets(out);
            }
            Content::Posts {
                channel,
                first,
                posts,
            } => {
                let lane = between(self.strand, from, channel);
                self.take_all(lane, first, posts);
                // What said so before may have been lost.
                let upto = self.stream.released.taken[lane];
                if upto > first {
                    self.say(from, Content::Taken { channel, upto }, out);
                }
            }
            Content::Taken { channel, upto } => {
                let lane = between(self.strand, from, channel);
                self.trim(lane, upto, out);
            }
            Content::Consent { incarnation }
                if from == next && self.asking && incarnation == self.successor() =>
            {
                self.rebuild_previous(out);
            }
            Content::Over { incarnation } | Content::Held { incarnation, .. }
                if from == next && incarnation > self.incarnation =>
            {
                self.stop(Stopped::Succeeded, out);
            }
            Content::Dark if from == previous => self.rebuild_previous(out),
            // Meant for another place in the cycle.
            _ => {}
        }
    }

    /// What is refused is sent again, by when there may be room.
    fn take_all(&mut self, lane: usize, first: u64, posts: Vec<Post<P>>) {
        for (number, post) in (first..).zip(posts) {
            let next = self.lattice.lanes[lane].taken;
            if number == next {
                if self.take(lane, post).is_err() {
                    return;
                }
            } else if number > next && number - next < POSTS_WINDOW {
                self.early[lane].insert(number, post);
            }
        }
        while let Some(entry) = self.early[lane].first_entry() {
            let next = self.lattice.lanes[lane].taken;
            if *entry.key() > next {
                break;
            }
            let (number, post) = entry.remove_entry();
            if number == next && self.take(lane, post).is_err() {
                return;
            }
        }
    }

    fn take(&mut self, lane: usize, post: Post<P>) -> Result<(), Refused> {
        self.lattice.admits(lane, &post)?;
        let record = Record::Took {
            lane: lane as u8,
            post,
        };
        self.log(&record);
        self.lattice.replay(record);
        Ok(())
    }

    fn trim(&mut self, lane: usize, upto: u64, out: &mut impl FnMut(Effect<P>)) {
        // Nobody can have what was never sent.
        let upto = upto.min(self.sent[lane]);
        if upto > self.lattice.lanes[lane].base {
            let lane_number = lane as u8;
            let record = Record::Trimmed {
                lane: lane_number,
                upto,
            };
            self.log(&record);
            self.lattice.replay(record);
            self.send_posts(lane, out);
        }
    }

    fn keep(&mut self, position: u64, sheet: Sheet, out: &mut impl FnMut(Effect<P>)) {
        let previous = self.strand.previous();
        let is_next = self.ward.as_ref().is_none_or(|w| position >= w.next);
        if sheet == Sheet::Begin && is_next {
            let ward = Ward::beginning_at(previous, self.config.limits, position);
            self.ward = Some(ward);
        } else if let Some(ward) = &mut self.ward {
            match ward.file(position, sheet) {
                Ok(Filed::Kept | Filed::Early) => {}
                Ok(Filed::Convicted) => {
                    self.convicted = true;
                    return;
                }
                Err(_) => self.ward = None,
            }
        }
        self.say_held(out);
    }

    fn say_held(&self, out: &mut impl FnMut(Effect<P>)) {
        let next = self.ward.as_ref().map_or(0, |ward| ward.next);
        let anything = self.ward.is_some();
        let previous = self.strand.previous();
        let held = Content::Held {
            next,
            anything,
            incarnation: self.known[previous as usize],
        };
        self.say(previous, held, out);
    }

    /// The incarnation that would follow the previous torus.
    const fn successor(&self) -> u32 {
        self.known[self.strand.previous() as usize] + 1
    }

    /// The previous torus gives up the one before it, which is the next after this
    /// one. From here on this torus does not hear that one either, so that of the
    /// three two agree, and no other two can agree on something else.
    fn consent(&mut self, incarnation: u32, out: &mut impl FnMut(Effect<P>)) {
        let given_up = &mut self.known[self.strand.next() as usize];
        if self.asking || incarnation == 0 || incarnation < *given_up {
            return;
        }
        *given_up = incarnation;
        let previous = self.strand.previous();
        self.say(previous, Content::Consent { incarnation }, out);
    }

    //= requirements B3
    fn rebuild_previous(&mut self, out: &mut impl FnMut(Effect<P>)) {
        let previous = self.strand.previous();
        // Either way not again before it had time to speak.
        self.silence = Nanos::ZERO;
        (self.asking, self.convicted) = (false, false);
        let rebuilt = self.ward.as_mut().map(|ward| (ward.rebuild(), ward.next));
        let Some((Ok(lattice), next)) = rebuilt else {
            self.ward = None;
            return out(Effect::Lost(previous));
        };
        self.known[previous as usize] += 1;
        self.heard = None;
        let mark = mark(&lattice);
        let torus = Self::with(
            self.config.clone(),
            lattice,
            Stream::resumed(next, mark),
            None,
            self.known,
            self.now,
        );
        out(Effect::Rebuilt(Box::new(torus)));
    }

    /// The keeper has nothing: it gets everything.
    fn begin_again(&mut self) {
        // It says so for each packet that it cannot use, and once is enough.
        let recently = |at| self.now < at + self.interval;
        if self.began_at.is_some_and(recently) {
            return;
        }
        self.began_at = Some(self.now);
        if !self.lattice.is_all_whole() {
            return;
        }
        self.close_sheet();
        self.stream.begin_again();
        self.lattice.unseal_all();
        self.snapshot(false);
        self.stream.begun();
    }

    fn close_sheet(&mut self) {
        if !self.open.is_empty() {
            let bytes = core::mem::take(&mut self.open);
            self.cut.log_bytes += bytes.len();
            self.stream.write(Sheet::Log(bytes));
            self.stream.mark(mark(&self.lattice));
        }
    }

    fn snapshot(&mut self, audit: bool) {
        self.close_sheet();
        let stream = &mut self.stream;
        let mut slots = Vec::new();
        self.lattice.seal_changes(|site, bytes| {
            if !audit {
                site.encode(&mut slots);
                bytes.encode(&mut slots);
                if slots.len() >= SLOTS_BYTES {
                    stream.write(Sheet::Slots(core::mem::take(&mut slots)));
                }
            }
        });
        if !slots.is_empty() {
            stream.write(Sheet::Slots(slots));
        }
        let header = self.lattice.seal_header();
        let digest = self.lattice.digest(&header);
        self.cut = Cut {
            position: stream.end(),
            digest,
            events: self.lattice.tally.events,
            log_bytes: 0,
            intervals: 0,
            count: self.cut.count.wrapping_add(1),
        };
        stream.write(if audit {
            Sheet::Audit { digest }
        } else {
            Sheet::Cut { header, digest }
        });
    }

    fn snapshot_if_due(&mut self, tick: bool) {
        let turns = self.lattice.tally.events - self.cut.events;
        let nothing_new = self.open.is_empty() && self.cut.log_bytes == 0;
        self.cut.intervals += u32::from(tick);
        let cheap = tick
            && (self.lattice.dirty.len() <= DIRTY_FEW || self.cut.intervals >= SNAPSHOT_INTERVALS);
        let long = turns >= self.config.replay_max || self.cut.log_bytes >= LOG_BYTES_MAX;
        if !nothing_new && (cheap || long) {
            let every = self.config.audit_every;
            self.snapshot(every > 0 && (self.cut.count + 1).is_multiple_of(every));
        }
    }

    fn send_sheets(&mut self, out: &mut impl FnMut(Effect<P>)) {
        while let Some((position, sheet)) = self.stream.next_to_send() {
            let content = Content::Sheet { position, sheet };
            self.say(self.strand.next(), content, out);
        }
    }

    /// What the next torus now holds lets other things leave.
    fn release(&mut self, out: &mut impl FnMut(Effect<P>)) {
        for lane in 0..LANES {
            let upto = self.stream.released.taken[lane];
            if upto > self.told_taken[lane] {
                self.told_taken[lane] = upto;
                match self.other_end(lane) {
                    Some((to, channel)) => self.say(to, Content::Taken { channel, upto }, out),
                    None => out(Effect::Accepted { upto }),
                }
            }
            self.send_posts(lane, out);
        }
    }

    fn other_end(&self, lane: usize) -> Option<(Strand, Channel)> {
        let channel = [Channel::First, Channel::Onward][lane % 2];
        match lane {
            WORLD => None,
            0 | 1 => Some((self.strand.next(), channel)),
            _ => Some((self.strand.previous(), channel)),
        }
    }

    fn send_posts(&mut self, lane: usize, out: &mut impl FnMut(Effect<P>)) {
        let posts = &self.lattice.lanes[lane];
        let first = self.sent[lane].max(posts.base);
        let end = self.stream.released.sent[lane].min(posts.base + POSTS_WINDOW);
        if first >= end {
            return;
        }
        let ready = posts.from(first).take((end - first) as usize).cloned();
        let ready: Vec<_> = ready.collect();
        self.sent[lane] = end;
        let Some((to, channel)) = self.other_end(lane) else {
            for (number, post) in (first..).zip(ready) {
                if let Post::Report(report) = post {
                    out(Effect::Told { number, report });
                }
            }
            return;
        };
        for (batch, posts) in (0..).zip(ready.chunks(POSTS_MAX)) {
            let content = Content::Posts {
                channel,
                first: first + batch * POSTS_MAX as u64,
                posts: posts.to_vec(),
            };
            self.say(to, content, out);
        }
    }

    fn run(&mut self) {
        let turns = self.lattice.run(self.now, self.config.turns);
        if turns > 0 {
            self.run_at = self.now + self.config.turn_time * u64::from(turns);
            let now = self.now;
            self.log(&Record::Ran { now, turns });
        }
    }

    /// Once an interval: looks after itself, says how it is, and sends again what
    /// seems lost.
    fn braid(&mut self, out: &mut impl FnMut(Effect<P>)) {
        if !self.lattice.scrub(self.config.scrub) {
            return;
        }
        self.snapshot_if_due(true);
        self.adapt();
        self.give_up_the_silent();
        self.sequence += 1;
        let projection = Content::Projection(Box::new(self.projection()));
        self.say(self.strand.next(), projection, out);
        self.braid_at = self.now + self.interval;
        self.stream.tick();
        for lane in 0..LANES {
            let base = self.lattice.lanes[lane].base;
            if base == self.bases[lane] {
                self.sent[lane] = base;
            }
            self.bases[lane] = base;
            self.send_posts(lane, out);
        }
    }

    /// Silence is counted in this torus's own intervals. One that was itself asleep,
    /// with its whole machine perhaps, has not heard the others not speak.
    fn give_up_the_silent(&mut self) {
        self.silence += self.interval;
        // One that has said nothing yet is given the longest.
        let theirs = self.heard.as_ref().map(|theirs| theirs.interval);
        let theirs = theirs.unwrap_or(self.config.interval_max);
        let patience = theirs.max(self.interval) * self.config.patience.into();
        self.asking = (self.silence > patience || self.convicted) && self.ward.is_some();
    }

    /// Shorter while something changes, longer while nothing does.
    fn adapt(&mut self) {
        let ready = self.lattice.ready();
        let missed = self.lattice.tally.missed;
        let change = ready.abs_diff(self.before.ready);
        let changes =
            self.moved > 0 || missed > self.before.missed || change > 16.max(self.before.ready / 8);
        let interval = if changes {
            self.interval / 2
        } else {
            self.interval + self.interval / 8
        };
        self.interval = interval.clamp(self.config.interval_min, self.config.interval_max);
        self.before = Before { ready, missed };
        self.moved = 0;
    }
}

fn mark<P: Process>(lattice: &Lattice<P>) -> Mark {
    Mark {
        sent: core::array::from_fn(|lane| lattice.lanes[lane].end()),
        taken: core::array::from_fn(|lane| lattice.lanes[lane].taken),
    }
}

impl<P: Process> Machine for Torus<P> {
    type Input = Input<P>;
    type Effect = Effect<P>;

    fn handle(&mut self, now: Instant, input: Input<P>, out: &mut impl FnMut(Effect<P>)) {
        if self.stopped.is_some() {
            return;
        }
        self.now = self.now.max(now);
        match input {
            Input::Received(bytes) => match Packet::open(&bytes, &self.config.key) {
                Ok(packet) => self.receive(packet, out),
                Err(why) => out(Effect::Rejected(why)),
            },
            Input::Offered { number, offer } => {
                let expected = self.lattice.lanes[WORLD].taken;
                let why = match &offer {
                    // It was accepted, or will be said to be.
                    _ if number < expected => {
                        let upto = self.stream.released.taken[WORLD];
                        return out(Effect::Accepted { upto });
                    }
                    _ if number > expected => Some(Refused::OutOfOrder { expected }),
                    Offer::Spawn { weight, .. } if *weight < self.floor => Some(Refused::TooLight),
                    _ => self.take(WORLD, Post::Offer(offer)).err(),
                };
                if let Some(why) = why {
                    out(Effect::Refused { number, why });
                }
            }
            Input::Taken { upto } => self.trim(WORLD, upto, out),
        }
        self.stop_if_broken(out);
    }

    fn wake(&mut self, now: Instant, out: &mut impl FnMut(Effect<P>)) {
        if self.stopped.is_some() {
            return;
        }
        self.now = self.now.max(now);
        if self.run_at <= self.now {
            self.run();
        }
        if self.lattice.broken.is_none() {
            self.snapshot_if_due(false);
        }
        if self.lattice.broken.is_none() && self.braid_at <= self.now {
            self.braid(out);
        }
        self.stop_if_broken(out);
        if self.stopped.is_some() {
            return;
        }
        let missed = self.lattice.tally.missed;
        if missed > self.told_missed {
            let deadlines = missed - self.told_missed;
            self.told_missed = missed;
            out(Effect::Missed { deadlines });
        }
        self.close_sheet();
        self.send_sheets(out);
    }

    fn deadline(&self) -> Option<Instant> {
        if self.stopped.is_some() {
            return None;
        }
        let mut at = self.braid_at;
        if self.lattice.ready() > 0 {
            at = at.min(self.run_at);
        }
        if !self.open.is_empty() {
            at = at.min(self.now);
        }
        Some(at.max(self.now))
    }
}
