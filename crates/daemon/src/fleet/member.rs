//! One machine in its fleet: the world around the node that the twin drives.
//!
//! The twin feeds a [`node::Node`] with virtual time and simulated links; here the same machine is fed
//! with the host's clock, datagrams and a disk, and cannot tell. What it wants persisted is on disk before it
//! hears so, what it sends goes out in frames of class A, what it believes is what `cosmos members` shows.
//!
//! A fleet is one cell with [`SEATS`] seats. Those nobody sits on are vacant in every roster from the
//! beginning ([`membership::Member::vacate`]), and a machine's first incarnation is therefore 1.
//! The members' secret gives the cell's key, so a message also proves itself to whom it is relayed;
//! and what a machine says as somebody else is refused here, because the connection it came on has a certificate.
//!
//! Time is the Unix time at the start and `CLOCK_BOOTTIME` from then on: it is never set, goes on while the machine is suspended, and members agree on it as
//! well as their hosts do, which only makes probing even and decides nothing.
//!
//! Everything happens on one thread. A write to disk holds it up for the length of a sync, which is
//! short against the protocol's timeouts and saves a second life of everything that is under way. The council's log, which is written several times a second, has a thread.
//!
//! The machine's seat in the [`council`] is beside the node, and takes from it only who is there.
//!
//! Deliberately absent: more than one cell.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, TrySendError};
use std::time::Duration;

use consensus::{Index, Lease};
use machine::{Machine as _, Persist, Persisted, Purpose, Stream};
use membership::{Message, Peer, State};
use node::council::{Became, Room};
use node::{Effect, Input, Node};
use ring::rand::SecureRandom as _;
use scheduler::Guard;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use telemetry::{Action, Reason};
use tokio::sync::mpsc;
use trust::Key;
use trust::invitation::{Invitation, Secret};
use wire::codec::decode_all;
use wire::{Cell, Class, Encode as _, Hexagons, Instant, Kelvin, Tile};

use super::FleetError;
use super::archive::{Archive, Standing};
use super::book::{Book, Guest};
use super::council::{self, Asker, CouncilStatus, Duty, Log, Order, Seat};
use super::directory::{Directory, ENTRIES_MAX, Entries, Entry};
use super::echo::{self, Reply};
use super::expulsion::{EXPULSIONS_MAX, Expelled, Expulsion, Expulsions};
use super::identity::{Authority, Validity};
use super::joining::{self, Answer, Request, Welcome};
use super::refusal::{Refusal, Refusals};
use super::transport::{Happening, NotSent, Transport};
use super::vitals::{Said, TOLD_EVERY, Vitals};
use crate::heat::Reading;
use crate::lease::boottime;
use crate::make::Make;

/// Seats in a fleet's one cell.
pub const SEATS: u32 = membership::config::SEATS_SPARSE;

/// Who has heard nobody for so long, in milliseconds, says so of all it holds alive. Nobody is there who could be asked about them, so the protocol
/// accuses none.
const ALONE_AFTER_MS: u64 = 20_000;
/// What the disk would not take is tried again so much later.
const TRIED_AGAIN_AFTER: wire::Nanos = wire::Nanos(2 * wire::Nanos::SECOND.0);
/// What it says.
const UNHEARD: &str = "unheard";
/// And of whom it has no dealings with any more.
const EXPELLED: &str = "expelled";

/// The membership protocol's, in a frame.
const MEMBERSHIP: u8 = 1;
/// The directory's.
const DIRECTORY: u8 = 2;
/// How everybody is. The protocol between is that of echoes.
const VITALS: u8 = 4;
/// Of who was thrown out. Three is [`echo::PROTOCOL`].
const EXPULSION: u8 = 5;
/// The first that others may use.
pub const PROTOCOL_FREE: u8 = 16;

/// A machine of the fleet as another believes it to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Listed {
    /// What people call it.
    pub name: String,
    /// On which tile it sits.
    pub tile: u64,
    /// Where it listens, as far as was heard.
    pub address: Option<SocketAddr>,
    /// `alive`, `suspect`, `removed` or `left`; `expelled`, whatever it does; or `unheard`, of one who was alive when last heard, by a machine that has heard nobody at all for a while:
    /// it cannot know whether all others are gone or it is cut off itself.
    pub state: String,
    /// For which of its incarnations.
    pub incarnation: u32,
    /// Since when it is held to be that, in milliseconds of Unix time.
    pub since_ms: u64,
    /// Whether it is the machine that says so.
    pub here: bool,
    /// The holon it is in, by its place among those that are listed beside.
    #[serde(default)]
    pub holon: usize,
    /// How it was when it last said so; none if it has not yet.
    #[serde(default)]
    pub vitals: Option<Vitals>,
}

/// Some machines that belong together, or holons that do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Holon {
    /// What people call it.
    pub name: String,
    /// What it is: a `cell` of real machines; a `site`, a `row` or a `rack` of rehearsed ones.
    pub level: String,
    /// The holon that it is part of, by its place in the list, which is before its own.
    pub parent: Option<usize>,
    /// The heat that whatever cools it is given, as a share of what it can carry; none where nobody measures it.
    pub cooling: Option<f64>,
}

/// How a machine is, as a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FleetStatus {
    /// The first bytes of the fleet's fingerprint.
    pub fleet: String,
    /// What people call this machine.
    pub name: String,
    /// On which tile it sits.
    pub tile: u64,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether newcomers are taken in here.
    pub authority: bool,
    /// How many machines are held to be alive, this one included.
    pub alive: usize,
    /// How many are known.
    pub known: usize,
    /// What was turned away, and how often, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Whether others have said that it was expelled.
    #[serde(default)]
    pub expelled: bool,
    /// How its council is, once it has taken its seat there.
    pub council: Option<CouncilStatus>,
}

/// Bytes that a member said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who.
    pub from: Tile,
    /// How urgently.
    pub class: Class,
    /// What.
    pub payload: Vec<u8>,
}

/// What the guard makes of a temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guarded {
    /// The share of full clock to run at.
    pub clock: f64,
    /// The power is to be cut, for good; the member is silent already.
    pub dark: bool,
    /// What was decided because of it: what was done, why, what was found and what it was held against, in kelvin.
    pub decided: Option<(Action, Reason, f64, f64)>,
}

/// What the rest of the node asks of its membership.
pub(super) enum Ask {
    Members(SyncSender<Vec<Listed>>),
    Status(SyncSender<FleetStatus>),
    Invite {
        lasts: Duration,
        answer: SyncSender<Result<Invitation, String>>,
    },
    Send {
        to: Tile,
        class: Class,
        protocol: u8,
        payload: Vec<u8>,
        answer: SyncSender<Result<(), NotSent>>,
    },
    Listen {
        protocol: u8,
        to: SyncSender<Heard>,
    },
    Sense(Kelvin, Option<Reading>, SyncSender<Guarded>),
    /// Take the seat in the council as soon as there is anything to agree with anybody.
    Sit {
        log: Log,
        room: Room,
        orders: Sender<Order>,
    },
    Council(consensus::Ask, Asker),
    Became(Lease, Index, Became),
    Leave(SyncSender<()>),
    /// Throw this machine out.
    Expel(String, SyncSender<Result<Tile, String>>),
}

/// The host's clock as the protocols read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// In nanoseconds of `CLOCK_BOOTTIME`.
    began: u64,
    unix: Duration,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "a real node lives by the host's clock"
    )]
    pub(super) fn start(skew_ns: i64) -> Self {
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let (unix, skew) = (
            unix.unwrap_or_default(),
            Duration::from_nanos(skew_ns.unsigned_abs()),
        );
        Self {
            began: boottime(),
            unix: match skew_ns {
                0.. => unix + skew,
                _ => unix.saturating_sub(skew),
            },
        }
    }

    fn since_unix(self) -> Duration {
        self.unix + Duration::from_nanos(boottime().saturating_sub(self.began))
    }

    fn now(self) -> Instant {
        Instant(u64::try_from(self.since_unix().as_nanos()).unwrap_or(u64::MAX - 1))
    }

    /// In seconds.
    pub(super) fn unix(self) -> u64 {
        self.since_unix().as_secs()
    }

    fn unix_ms(self) -> u64 {
        u64::try_from(self.since_unix().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long until an instant.
    fn until(self, due: Instant) -> Duration {
        Duration::from_nanos(due.since(self.now()).0)
    }
}

pub(super) struct Member {
    node: Node,
    clock: Clock,
    archive: Archive,
    standing: Standing,
    authority: Option<Authority>,
    book: Book,
    address: SocketAddr,
    directory: Directory,
    expelled: Expelled,
    transport: Transport,
    refusals: Refusals,
    /// What the guard decided last, until it is told on.
    decided: Option<(Action, Reason, f64, f64)>,
    /// What of this machine's next incarnation the disk would not take, and when to try again.
    unkept: Option<(Persist, Instant)>,
    /// Since when each is held to be what it is, in milliseconds of Unix time.
    since: BTreeMap<Tile, u64>,
    began_ms: u64,
    /// How each said it is, and when by `CLOCK_BOOTTIME`.
    vitals: BTreeMap<Tile, (Said, u64)>,
    /// Readings since the others were told.
    untold: u32,
    /// When anybody was heard last.
    heard_ms: u64,
    /// Who hears what other protocols say: one each, but for echoes.
    listeners: BTreeMap<u8, Vec<SyncSender<Heard>>>,
    left: bool,
    /// Whether another said that this machine was expelled.
    is_expelled: bool,
    chair: Chair,
    /// What of the council's log is on the disk.
    written: (mpsc::UnboundedSender<u64>, mpsc::UnboundedReceiver<u64>),
}

/// The place of a member in the council.
enum Chair {
    /// Nobody has said where to write and whom to tell.
    None,
    /// There is nobody to agree with.
    Empty(Box<(Log, Room, Sender<Order>)>),
    Taken(Box<Seat>),
}

/// `buffer` out of the kernel's randomness.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], FleetError> {
    let mut bytes = [0; N];
    let filled = ring::rand::SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| FleetError::Randomness)?;
    Ok(bytes)
}

fn peer(tile: Tile) -> Option<Peer> {
    let number = u16::try_from(tile.0).ok()?;
    (u32::from(number) < SEATS).then_some(Peer(number))
}

impl Member {
    pub(super) fn new(
        archive: Archive,
        standing: Standing,
        clock: Clock,
        address: SocketAddr,
        transport: Transport,
        make: &Make,
    ) -> Result<Self, FleetError> {
        let grid = Hexagons::of(SEATS).expect("eight by eight");
        let secret = Key::new(standing.secret);
        let config = Arc::new(membership::Config::new(Cell(0), grid, &secret).timed(make.timings));
        let incarnation = match archive.incarnation()? {
            // Nought is what a seat has that was never taken.
            None => 1,
            Some(record) => membership::incarnation_after(&record)
                .map_err(FleetError::Incarnation)?
                .max(1),
        };
        let chance = Stream::new(
            u64::from_le_bytes(random()?),
            standing.tile,
            Purpose::Membership,
        );
        let me = peer(standing.tile).ok_or(FleetError::Seat(standing.tile))?;
        let mut member = membership::Member::new(config, me, incarnation, chance, clock.now());
        let mut directory = Directory::default();
        for entry in archive.directory()? {
            directory.learn(entry);
        }
        for tile in (0..u64::from(SEATS)).map(Tile) {
            if let (None, Some(peer)) = (directory.get(tile), peer(tile)) {
                member.vacate(peer);
            }
        }
        let guard = Guard::new(Arc::new(make.limits()));
        let authority = archive.authority()?;
        let authority = authority
            .map(|key| Authority::from_kept(&key, standing.authority.clone()))
            .transpose()?;
        let expelled = archive.expelled()?.0.into_iter();
        Ok(Self {
            node: Node::new(guard, Some(member)),
            clock,
            expelled: expelled.map(|one| (one.tile, one)).collect(),
            book: Book::of(archive.invitations()?),
            archive,
            standing,
            authority,
            address,
            directory,
            transport,
            refusals: Refusals::default(),
            decided: None,
            unkept: None,
            since: BTreeMap::new(),
            began_ms: clock.unix_ms(),
            vitals: BTreeMap::new(),
            untold: 0,
            heard_ms: clock.unix_ms(),
            listeners: BTreeMap::new(),
            left: false,
            is_expelled: false,
            chair: Chair::None,
            written: mpsc::unbounded_channel(),
        })
    }

    /// Lives until nobody can ask any more.
    pub(super) async fn live(
        mut self,
        mut asks: mpsc::Receiver<Ask>,
        mut happened: mpsc::Receiver<Happening>,
    ) {
        self.wake();
        let others: Vec<_> = self.directory.iter().cloned().collect();
        for entry in others
            .iter()
            .filter(|entry| entry.tile != self.standing.tile)
        {
            self.transport.call(entry.tile, entry.address);
        }
        loop {
            let due = self.due();
            let sleep = async {
                match due {
                    Some(due) => tokio::time::sleep(self.clock.until(due)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => self.answer(ask).await,
                    None => break,
                },
                Some(happening) = happened.recv() => self.happen(happening),
                Some(token) = self.written.1.recv() => self.with_seat(|seat, now| seat.written(now, token)),
                () = sleep => {}
            }
            let clock = self.clock;
            let late = |due: Option<Instant>| due.is_some_and(|due| due <= clock.now());
            if late(self.taken().and_then(Seat::deadline)) {
                self.with_seat(Seat::wake);
            }
            if late(self.node.deadline()) {
                self.wake();
            }
            if late(self.unkept.as_ref().map(|(_, again)| *again))
                && let Some((persist, _)) = self.unkept.take()
            {
                self.obey(VecDeque::from([Effect::Persist(persist)]));
            }
        }
        self.leave().await;
    }

    fn due(&self) -> Option<Instant> {
        let seat = self.taken().and_then(Seat::deadline);
        let again = self.unkept.as_ref().map(|(_, again)| *again);
        let all = self.node.deadline().into_iter().chain(seat).chain(again);
        all.min()
    }

    fn taken(&self) -> Option<&Seat> {
        match &self.chair {
            // Also after it has left: what it held ends by its own clock.
            Chair::Taken(seat) => Some(seat),
            _ => None,
        }
    }

    /// Something happens to the council's machine; what it owes is done.
    fn with_seat(&mut self, does: impl FnOnce(&mut Seat, Instant) -> Vec<Duty>) {
        let now = self.clock.now();
        let Chair::Taken(seat) = &mut self.chair else {
            return;
        };
        for duty in does(seat, now) {
            match duty {
                Duty::Send(to, pieces) if !self.left && !self.expelled.contains_key(&to) => {
                    let at = self.directory.get(to).map(|entry| entry.address);
                    let kind = (council::CLASS, council::PROTOCOL);
                    // Lost is lost: the protocol lives with that.
                    let _ = self.transport.send_together(to, at, kind, pieces);
                }
                Duty::Send(..) => {}
                Duty::Refused(reason) => self.refusals.count(Refusal::Council(reason)),
                Duty::Voted(voted) => {
                    if let Err(error) = self.archive.put_voted(voted) {
                        eprintln!("error: that this machine votes is not written down: {error}");
                    }
                }
            }
        }
    }

    /// Takes the seat if there is one to take, and anybody to agree with or `anyway`.
    fn sit(&mut self, anyway: bool) {
        let alone = self.directory.iter().count() < 2;
        let Chair::Empty(empty) = &self.chair else {
            return;
        };
        if alone && !anyway && !empty.0.holds_anything() {
            return;
        }
        let Chair::Empty(empty) = std::mem::replace(&mut self.chair, Chair::None) else {
            return;
        };
        let (log, room, orders) = *empty;
        let taken = || -> Result<Seat, FleetError> {
            let standing = council::Standing {
                tile: self.standing.tile,
                life: self.archive.next_life()?,
                founder: self.authority.is_some(),
                voted: self.archive.voted()?,
                seed: u64::from_le_bytes(random()?),
            };
            let others: Vec<_> = self.directory.iter().map(|entry| entry.tile).collect();
            let written = self.written.0.clone();
            Seat::take(
                log,
                &standing,
                others,
                room,
                orders,
                written,
                self.clock.now(),
            )
        };
        match taken() {
            Ok(seat) => self.chair = Chair::Taken(Box::new(seat)),
            Err(error) => {
                eprintln!("error: this machine has no seat in its fleet's council: {error}")
            }
        }
        // Not only those of the directory: who was heard of as alive may be in it later than its first word to the council, which is more urgent, and
        // only what changes from now on is told.
        let heard_of =
            |tile: &Tile| self.directory.get(*tile).is_some() || self.belief(*tile).0.is_present();
        let known: Vec<_> = (0..u64::from(SEATS)).map(Tile).filter(heard_of).collect();
        for tile in known {
            self.believe(tile);
        }
    }

    /// Tells the council who is there.
    fn believe(&mut self, tile: Tile) {
        let present = self.belief(tile).0.is_present() && !self.expelled.contains_key(&tile);
        self.with_seat(|seat, now| seat.believe(now, tile, present));
    }

    fn wake(&mut self) {
        let mut effects = VecDeque::new();
        self.node
            .wake(self.clock.now(), &mut |effect| effects.push_back(effect));
        self.obey(effects);
    }

    fn tell(&mut self, input: Input) {
        let mut effects = VecDeque::new();
        self.node.handle(self.clock.now(), input, &mut |effect| {
            effects.push_back(effect);
        });
        self.obey(effects);
    }

    fn obey(&mut self, mut effects: VecDeque<Effect>) {
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Send { to, class, message } => {
                    let to = Tile(to.0.into());
                    // Lost is lost: the protocol lives with that.
                    let _ = self.send(to, class, MEMBERSHIP, message.to_bytes());
                }
                Effect::Persist(persist) => match self.archive.put_incarnation(&persist.bytes) {
                    Ok(()) => {
                        let token = persist.token;
                        let done = Input::Persisted(Persisted { token });
                        self.node.handle(self.clock.now(), done, &mut |effect| {
                            effects.push_back(effect);
                        });
                    }
                    Err(error) => {
                        eprintln!(
                            "error: this machine stays silent in its fleet until it can write its next incarnation down: {error}"
                        );
                        self.unkept = Some((persist, self.clock.now() + TRIED_AGAIN_AFTER));
                    }
                },
                Effect::Changed { peer, .. } => self.changed(Tile(peer.0.into())),
                Effect::Rejected(reason) => self.refusals.count(Refusal::Message(reason)),
                // Read from the guard by whoever told it ([`Ask::Sense`]).
                Effect::SetClock(_) | Effect::Panic => {}
                Effect::Decided(action, reason, found, bound) => {
                    self.decided = Some((action, reason, found, bound));
                }
            }
        }
    }

    fn changed(&mut self, tile: Tile) {
        self.since.insert(tile, self.clock.unix_ms());
        if tile != self.standing.tile {
            return self.believe(tile);
        }
        let Some(incarnation) = self.node.member().map(membership::Member::incarnation) else {
            return;
        };
        self.learn(Entry {
            tile,
            name: self.standing.name.clone(),
            address: self.address,
            incarnation,
        });
    }

    /// Takes an entry into the directory, and passes it on if it was news.
    fn learn(&mut self, entry: Entry) {
        if !self.directory.learn(entry.clone()) {
            return;
        }
        if let Err(error) = self.archive.put_entry(&entry) {
            // It will be told again after a restart.
            eprintln!("error: where {} is will be forgotten: {error}", entry.name);
        }
        self.sit(false);
        let bytes = Entries(vec![entry]).to_bytes();
        for tile in self.transport.connected() {
            let _ = self.send(tile, Class::C, DIRECTORY, bytes.clone());
        }
    }

    fn send(
        &mut self,
        to: Tile,
        class: Class,
        protocol: u8,
        payload: Vec<u8>,
    ) -> Result<(), NotSent> {
        if self.left {
            return Err(NotSent::Left);
        }
        if self.expelled.contains_key(&to) {
            return Err(NotSent::Nowhere(to));
        }
        let at = self.directory.get(to).map(|entry| entry.address);
        self.transport.send(to, at, (class, protocol), payload)
    }

    fn happen(&mut self, happening: Happening) {
        if self.left {
            return;
        }
        match happening {
            Happening::Connected { tile, connection } => {
                let refusal = match peer(tile) {
                    None => Some(Refusal::CertificateWrong),
                    Some(_) if self.expelled.contains_key(&tile) => {
                        Some(Refusal::CertificateRevoked)
                    }
                    Some(_) => None,
                };
                if let Some(refusal) = refusal {
                    self.transport.unreachable(tile);
                    connection.close(1_u8.into(), refusal.name().as_bytes());
                    return self.refusals.count(refusal);
                }
                self.transport.opened(tile, connection);
                let all: Vec<_> = self.directory.iter().cloned().collect();
                for some in all.chunks(ENTRIES_MAX) {
                    let bytes = Entries(some.to_vec()).to_bytes();
                    let _ = self.send(tile, Class::C, DIRECTORY, bytes);
                }
                let all: Vec<_> = self.expelled.values().copied().collect();
                for some in all.chunks(EXPULSIONS_MAX) {
                    let bytes = Expulsions(some.to_vec()).to_bytes();
                    let _ = self.send(tile, Class::C, EXPULSION, bytes);
                }
            }
            Happening::Unreachable { tile } => self.transport.unreachable(tile),
            Happening::Gone { tile, connection } => self.transport.gone(tile, connection),
            Happening::Refused(refusal) => self.refusals.count(refusal),
            Happening::Expelled => {
                if !std::mem::replace(&mut self.is_expelled, true) {
                    eprintln!(
                        "error: this machine was expelled from its fleet; a new invitation (`cosmos up --join INVITATION`) gives it another seat"
                    );
                }
            }
            Happening::Heard { tile, frame } => {
                if self.expelled.contains_key(&tile) {
                    return self.refusals.count(Refusal::CertificateRevoked);
                }
                self.heard_ms = self.clock.unix_ms();
                if let Err(refusal) = self.hear(tile, frame) {
                    self.refusals.count(refusal);
                }
            }
            Happening::Newcomer {
                request,
                connection,
                answering,
            } => {
                let answer = self.welcome(&request).unwrap_or_else(|refusal| {
                    self.refusals.count(refusal);
                    refusal.into()
                });
                tokio::spawn(async move {
                    joining::answer(&connection, answering, &answer).await;
                });
            }
        }
    }

    fn hear(&mut self, from: Tile, frame: wire::Frame) -> Result<(), Refusal> {
        let nonsense = |_| Refusal::FrameNonsense;
        match frame.protocol {
            MEMBERSHIP => {
                let message: Message = decode_all(&frame.payload).map_err(nonsense)?;
                if Tile(message.from.0.into()) != from {
                    return Err(Refusal::FrameNonsense);
                }
                self.tell(Input::Received(message));
            }
            DIRECTORY => {
                let Entries(entries) = decode_all(&frame.payload).map_err(nonsense)?;
                for entry in entries {
                    if peer(entry.tile).is_none() {
                        return Err(Refusal::FrameNonsense);
                    }
                    // Where this machine is, it knows best.
                    if entry.tile != self.standing.tile {
                        self.learn(entry);
                    }
                }
            }
            VITALS => {
                let said: Said = decode_all(&frame.payload).map_err(nonsense)?;
                self.vitals.insert(from, (said, boottime()));
            }
            EXPULSION => {
                let Expulsions(all) = decode_all(&frame.payload).map_err(nonsense)?;
                for expulsion in all {
                    self.take_out(expulsion)?;
                }
            }
            council::PROTOCOL => {
                // Whoever speaks is somebody to agree with.
                self.sit(true);
                let mut heard = Err(Refusal::FrameNonsense);
                self.with_seat(|seat, now| {
                    let duties = seat.hear(now, from, &frame.payload);
                    if duties.is_ok() {
                        heard = Ok(());
                    }
                    duties.unwrap_or_default()
                });
                return heard;
            }
            other => {
                if other == echo::PROTOCOL {
                    match echo::reply(frame.class, &frame.payload).ok_or(Refusal::FrameNonsense)? {
                        Reply::Say(answer) => {
                            // Lost is lost: whoever asked counts it.
                            let _ = self.send(from, Class::A, other, answer);
                            return Ok(());
                        }
                        Reply::Nothing => return Ok(()),
                        Reply::Hand => {}
                    }
                }
                let heard = Heard {
                    from,
                    class: frame.class,
                    payload: frame.payload,
                };
                let listeners = self.listeners.get_mut(&other);
                let listeners = listeners.ok_or(Refusal::FrameNonsense)?;
                let mut crowd = false;
                listeners.retain(|listener| match listener.try_send(heard.clone()) {
                    Ok(()) => true,
                    Err(TrySendError::Full(_)) => {
                        crowd = true;
                        true
                    }
                    Err(TrySendError::Disconnected(_)) => false,
                });
                if crowd {
                    return Err(Refusal::Crowd);
                }
                if listeners.is_empty() {
                    return Err(Refusal::FrameNonsense);
                }
            }
        }
        Ok(())
    }

    /// Ends everything with a seat that was taken away, and passes it on if that is news.
    fn take_out(&mut self, expulsion: Expulsion) -> Result<(), Refusal> {
        let tile = expulsion.tile;
        if self.expelled.contains_key(&tile) {
            return Ok(());
        }
        if peer(tile).is_none() || !expulsion.is_of(&self.standing.authority.clone().into()) {
            return Err(Refusal::FrameNonsense);
        }
        self.expelled.insert(tile, expulsion);
        let all = Expulsions(self.expelled.values().copied().collect());
        if let Err(error) = self.archive.put_expelled(&all) {
            // It will be told again after a restart.
            eprintln!(
                "error: that tile {} was expelled will be forgotten: {error}",
                tile.0
            );
        }
        self.since.insert(tile, self.clock.unix_ms());
        self.transport.turn_out(tile, Refusal::CertificateRevoked);
        self.believe(tile);
        let bytes = Expulsions(vec![expulsion]).to_bytes();
        for other in self.transport.connected() {
            let _ = self.send(other, Class::C, EXPULSION, bytes.clone());
        }
        Ok(())
    }

    fn expel(&mut self, name: &str) -> Result<Tile, String> {
        let Some(authority) = &self.authority else {
            return Err(
                "only the machine that founded the fleet can expel: the fleet's key is there"
                    .to_owned(),
            );
        };
        let tile = self.directory.named(name).map(|entry| entry.tile);
        let tile = tile.ok_or_else(|| {
            format!("there is no machine named {name:?} in the fleet; `cosmos members` lists them")
        })?;
        if tile == self.standing.tile {
            return Err("that is this machine, which has the fleet's key".to_owned());
        }
        let expulsion = Expulsion::sign(authority, tile).map_err(|error| error.to_string())?;
        let done = self.take_out(expulsion);
        done.map_err(|refusal| refusal.name().to_owned())?;
        Ok(tile)
    }

    /// Takes a newcomer in, or says why not. Who comes is written down first.
    fn welcome(&mut self, request: &Request) -> Result<Answer, Refusal> {
        let now = self.clock.unix();
        let authority = self.authority.as_ref().ok_or(Refusal::NotTheAuthority)?;
        let before = self.book.check(&request.secret, &request.key, now)?;
        let (tile, name) = match before {
            Some(guest) if self.expelled.contains_key(&guest.tile) => {
                return Err(Refusal::CertificateRevoked);
            }
            Some(guest) => (guest.tile, guest.name.clone()),
            None => self.seat(&request.key, &request.name)?,
        };
        let validity = Validity::of_member(now);
        let certificate = authority.admit(&request.key, tile, &name, validity);
        let certificate = certificate.map_err(|_| Refusal::JoinMalformed)?.to_vec();
        let guest = Guest {
            key: request.key,
            tile,
            name: name.clone(),
        };
        let given = self.book.note(&request.secret, guest);
        let digest = request.secret.digest();
        if let Err(error) = self.archive.put_invitation(&digest, Some(&given)) {
            eprintln!("error: {name} was not taken in: {error}");
            return Err(Refusal::NotTheAuthority);
        }
        let directory = self.directory.iter().filter(|entry| entry.tile != tile);
        Ok(Answer::Welcome(Box::new(Welcome {
            tile,
            name,
            certificate,
            authority: self.standing.authority.clone(),
            secret: self.standing.secret,
            directory: Entries(directory.cloned().collect()),
        })))
    }

    /// A free seat and a free name. Who was here before with the same key, and lost its certificate, gets its own.
    fn seat(&self, key: &[u8; 32], wanted: &str) -> Result<(Tile, String), Refusal> {
        let before = |guest: &&Guest| guest.key == *key && !self.expelled.contains_key(&guest.tile);
        if let Some(guest) = self.book.guests().find(before) {
            return Ok((guest.tile, guest.name.clone()));
        }
        let taken = |tile| {
            let guests = || self.book.guests().any(|guest| guest.tile == tile);
            tile == self.standing.tile
                || self.directory.get(tile).is_some()
                || self.expelled.contains_key(&tile)
                || guests()
        };
        let mut seats = (0..u64::from(SEATS)).map(Tile);
        let tile = seats.find(|tile| !taken(*tile)).ok_or(Refusal::FleetFull)?;
        let named = |name: &str| {
            let guests = || self.book.guests().any(|guest| guest.name == name);
            name == self.standing.name || self.directory.named(name).is_some() || guests()
        };
        let short: String = wanted.chars().take(59).collect();
        let mut names = std::iter::once(wanted.to_owned())
            .chain((2..).map(|number| format!("{}-{number}", short.trim_end_matches('-'))));
        let name = names.find(|name| !named(name)).ok_or(Refusal::FleetFull)?;
        Ok((tile, name))
    }

    async fn answer(&mut self, ask: Ask) {
        // Whoever asked may have gone.
        match ask {
            Ask::Members(answer) => drop(answer.send(self.members())),
            Ask::Status(answer) => drop(answer.send(self.status())),
            Ask::Invite { lasts, answer } => drop(answer.send(self.invite(lasts))),
            Ask::Send {
                to,
                class,
                protocol,
                payload,
                answer,
            } => drop(answer.send(self.send(to, class, protocol, payload))),
            Ask::Listen { protocol, to } => {
                let listeners = self.listeners.entry(protocol).or_default();
                let most = if protocol == echo::PROTOCOL {
                    echo::ASKERS_MAX
                } else {
                    1
                };
                if listeners.len() >= most {
                    listeners.remove(0);
                }
                listeners.push(to);
            }
            Ask::Sense(temperature, reading, answer) => {
                self.tell(Input::Sensed(temperature.0));
                let (clock, dark) = (self.node.guard().clock(), self.node.guard().is_dark());
                if let Some(reading) = reading {
                    self.feel(Reading { clock, ..reading });
                }
                let decided = self.decided.take();
                let _ = answer.send(Guarded {
                    clock,
                    dark,
                    decided,
                });
            }
            Ask::Sit { log, room, orders } => {
                self.chair = Chair::Empty(Box::new((log, room, orders)));
                self.sit(false);
            }
            Ask::Council(ask, asker) => {
                self.sit(true);
                self.with_seat(|seat, now| seat.ask(now, ask, asker));
            }
            Ask::Became(lease, fence, became) => {
                self.with_seat(|seat, now| seat.became(now, lease, fence, became));
            }
            Ask::Expel(name, answer) => drop(answer.send(self.expel(&name))),
            Ask::Leave(answer) => {
                self.leave().await;
                let _ = answer.send(());
            }
        }
    }

    /// Notes how this machine is, and tells the others now and then.
    fn feel(&mut self, reading: Reading) {
        let held = self.taken().map_or(0, |seat| seat.status().held);
        let said = Said::of(&reading, held);
        self.vitals.insert(self.standing.tile, (said, boottime()));
        self.untold += 1;
        if self.untold < TOLD_EVERY {
            return;
        }
        self.untold = 0;
        for tile in self.transport.connected() {
            // Lost is lost: the next is newer.
            let _ = self.send(tile, Class::C, VITALS, said.to_bytes());
        }
    }

    fn invite(&mut self, lasts: Duration) -> Result<Invitation, String> {
        if self.left {
            return Err(NotSent::Left.to_string());
        }
        if self.authority.is_none() {
            let founder = self.directory.iter().next();
            let founder = founder.map_or("the machine that founded the fleet", |entry| &entry.name);
            return Err(format!(
                "only {founder} can invite: the fleet's key is there"
            ));
        }
        let now = self.clock.unix();
        for digest in self.book.forget(now) {
            let forgotten = self.archive.put_invitation(&digest, None);
            forgotten.map_err(|error| error.to_string())?;
        }
        let secret = Secret(random().map_err(|error| error.to_string())?);
        let expires = now + lasts.as_secs();
        let given = self.book.give(&secret, expires).ok_or_else(|| {
            format!(
                "{} invitations are open, expected fewer",
                super::book::OPEN_MAX
            )
        })?;
        let kept = self.archive.put_invitation(&secret.digest(), Some(&given));
        kept.map_err(|error| error.to_string())?;
        Ok(Invitation {
            address: self.address,
            tile: self.standing.tile,
            fingerprint: self.fingerprint(),
            secret,
            expires,
        })
    }

    fn fingerprint(&self) -> trust::invitation::Fingerprint {
        trust::invitation::Fingerprint::of(&self.standing.authority)
    }

    /// What this machine holds of a tile.
    fn belief(&self, tile: Tile) -> (State, u32) {
        let Some((member, peer)) = self.node.member().zip(peer(tile)) else {
            return (State::Left, 0);
        };
        if tile == self.standing.tile {
            let state = if self.left { State::Left } else { State::Alive };
            return (state, member.incarnation());
        }
        let mut exceptions = member.exceptions();
        let exception = exceptions.find(|(other, ..)| *other == peer);
        exception.map_or((State::Alive, 0), |(_, state, incarnation)| {
            (state, incarnation)
        })
    }

    /// The word for what this machine holds of a tile.
    fn word(&self, tile: Tile) -> &'static str {
        if self.expelled.contains_key(&tile) {
            return EXPELLED;
        }
        let alone = self.clock.unix_ms().saturating_sub(self.heard_ms) > ALONE_AFTER_MS;
        match self.belief(tile).0 {
            State::Alive if alone && tile != self.standing.tile => UNHEARD,
            state => state.name(),
        }
    }

    fn members(&self) -> Vec<Listed> {
        let listed = self.directory.iter().map(|entry| {
            let (_, incarnation) = self.belief(entry.tile);
            let since = self.since.get(&entry.tile);
            let vitals = self.vitals.get(&entry.tile).map(|(said, at)| {
                let age = Duration::from_nanos(boottime().saturating_sub(*at));
                said.vitals(age.as_secs_f64())
            });
            Listed {
                name: entry.name.clone(),
                tile: entry.tile.0,
                address: Some(entry.address),
                state: self.word(entry.tile).to_owned(),
                incarnation,
                since_ms: since.copied().unwrap_or(self.began_ms),
                here: entry.tile == self.standing.tile,
                holon: 0,
                vitals,
            }
        });
        listed.collect()
    }

    fn status(&self) -> FleetStatus {
        let alive = self.directory.iter();
        let alive = alive.filter(|entry| self.word(entry.tile) == State::Alive.name());
        FleetStatus {
            fleet: self.fingerprint().to_string(),
            name: self.standing.name.clone(),
            tile: self.standing.tile.0,
            address: self.address,
            authority: self.authority.is_some(),
            alive: alive.count(),
            known: self.directory.iter().count(),
            refused: self.refusals.counted(),
            expelled: self.is_expelled,
            council: self.taken().map(Seat::status),
        }
    }

    /// Says goodbye once, and is silent from then on.
    async fn leave(&mut self) {
        if self.left {
            return;
        }
        self.tell(Input::Leave);
        self.since.insert(self.standing.tile, self.clock.unix_ms());
        self.left = true;
        self.transport.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Wishes, begin};
    use std::sync::mpsc::channel;

    /// What another machine's membership first says to that one.
    fn first_word(config: &membership::Config, from: Peer, to: Peer, now: Instant) -> Message {
        let chance = Stream::new(1, Tile(from.0.into()), Purpose::Membership);
        let mut other = membership::Member::new(Arc::new(config.clone()), from, 1, chance, now);
        for seat in (0..SEATS).filter_map(|seat| peer(Tile(seat.into()))) {
            if seat != to {
                other.vacate(seat);
            }
        }
        let mut words = Vec::new();
        let mut at = now;
        while words.is_empty() {
            let mut persists = Vec::new();
            other.wake(at, &mut |effect| match effect {
                membership::Effect::Send { message, .. } => words.push(message),
                membership::Effect::Persist(persist) => persists.push(persist.token),
                _ => {}
            });
            for token in persists {
                let done = membership::Input::Persisted(Persisted { token });
                other.handle(at, done, &mut |_| {});
            }
            at = other.deadline().expect("it lives");
        }
        words.remove(0)
    }

    /// Membership speaks in datagrams, the council in class B, the directory in class C: so they may come in this order.
    #[test]
    fn who_speaks_before_it_is_in_the_directory_is_there_for_the_council() {
        let place = tempfile::tempdir().unwrap();
        let archive = Archive::open(&place.path().join("fleet.redb")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let wishes = Wishes {
                name: Some("ada".to_owned()),
                ..Wishes::default()
            };
            let (mut ada, _happened) = begin(place.path(), archive, wishes).await.unwrap();
            ada.wake();
            let (log, _) = Log::open(place.path(), "0123").unwrap();
            let (orders, _told) = channel();
            let room = Room::default();
            ada.answer(Ask::Sit { log, room, orders }).await;
            assert!(ada.taken().is_none(), "it is alone");

            let config = ada.node.member().unwrap().config().clone();
            let word = first_word(&config, Peer(1), Peer(0), ada.clock.now());
            ada.tell(Input::Received(word));
            assert_eq!(ada.belief(Tile(1)).0, State::Alive);
            ada.sit(true);
            ada.learn(Entry {
                tile: Tile(1),
                name: "ben".to_owned(),
                address: "127.0.0.1:9".parse().unwrap(),
                incarnation: 1,
            });
            let seat = ada.taken().expect("somebody spoke to the council");
            assert!(seat.holds_present(Tile(0)) && seat.holds_present(Tile(1)));
            assert!(!seat.holds_present(Tile(2)));
        });
    }
}
