//! This machine's seat in the council of its fleet: the world around [`node::Council`].
//!
//! The machine decides; this carries what it says in [`parcel`]s of class B, keeps what a voter must not forget in
//! [`Annals`] of its own, and hands what is to begin and end to the thread that owns programs ([`Order`]). It also holds the grips:
//! whenever the machine may go on longer, every program it holds may, and its warden learns so from a [`Grip`], not from a message.
//!
//! **What is written.** One record at a time, on a thread of its own, because a disk may take as long as it likes and probes must not wait. What is
//! read again at the start is whole, or its tail was cut off in the midst of a write that nobody was told of. If it is damaged otherwise, or gone,
//! this machine's vote may have been given for something it no longer knows: it does not vote, asks the others to take its vote away, and comes back as one
//! who never had one. Where it is the only voter nobody can do that, and the council stands still: that is said, not mended.
//!
//! **Time** is the member's clock, which is `CLOCK_BOOTTIME` from a beginning on: never set, not even while suspended at rest. So leases need no
//! margin for clocks that jump ([`Config::of_a_fleet`]).
//!
//! A machine that is alone keeps its seat empty until somebody asks for something, so that a fleet of one writes nothing in vain.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::thread;
use std::time::Duration;

use consensus::{Ask, Index, Lease, Message};
use machine::{Machine as _, Persist, Persisted};
use node::Council;
use node::council::{Became, Config, Effect, Input, Query, Reply, Room, Unanswered, Vote};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use wire::codec::decode_all;
use wire::{Class, Encode as _, Instant, Nanos, Tile};

use super::parcel::{self, Arriving};
use super::{FleetError, PROTOCOL_FREE};
use crate::annals::{Annals, AnnalsError, Damaged};
use crate::cache::make_private;
use crate::lease::Grip;

/// The council's, in a frame.
pub const PROTOCOL: u8 = PROTOCOL_FREE + 1;

/// Behind what is urgent and may be lost, before what people wait for.
pub(super) const CLASS: Class = Class::B;

/// Nobody waits longer for the voters.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What the thread that owns programs is told.
#[derive(Debug)]
pub enum Order {
    /// Run this.
    Begin(Box<Begin>),
    /// Ask it to end, and say when it has.
    Finish(Lease, Index),
    /// Kill it; it is not ours any more. Why, as a word.
    End(Lease, Index, &'static str),
}

/// What is to begin.
#[derive(Debug)]
pub struct Begin {
    /// Which replica.
    pub lease: Lease,
    /// The entry that granted it.
    pub fence: Index,
    /// What its program is called.
    pub name: String,
    /// As it was given.
    pub spec: Arc<[u8]>,
    /// Until when it may run.
    pub grip: Grip,
}

/// How the council is, as this machine sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CouncilStatus {
    /// Who leads it, if that is known here: machines without a vote do not.
    pub leader: Option<u64>,
    /// Who votes, if that is known here.
    pub voters: Vec<u64>,
    /// How many replicas this machine holds.
    pub held: usize,
    /// Whether this machine had a vote whose record was lost, and waits until the others have taken it away.
    pub lost_vote: bool,
}

/// What was found on the disk, and who goes on writing it.
pub(super) struct Log {
    annals: Annals,
    records: Vec<Vec<u8>>,
    /// Whether nothing is missing that was ever told to be written.
    intact: bool,
}

/// The fleet of which a node's directory holds a log of the council, if it does: every member has one.
pub(super) fn trace(data: &Path) -> Option<String> {
    let mut logs = fs::read_dir(data.join("council")).ok()?.flatten();
    let log = logs.next()?;
    Some(log.file_name().to_string_lossy().into_owned())
}

/// Removes what a node's directory holds of any council: this machine sits on another seat now.
pub(super) fn forget(data: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(data.join("council")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Log {
    /// Opens the log of a fleet in a node's directory; logs of other fleets are removed.
    pub(super) fn open(data: &Path, fleet: &str) -> Result<(Self, Vec<Damaged>), AnnalsError> {
        let council = data.join("council");
        let at = |path: &Path, what| {
            let path = path.to_owned();
            move |source| AnnalsError::Disk { what, path, source }
        };
        make_private(&council).map_err(at(&council, "making"))?;
        for entry in fs::read_dir(&council)
            .map_err(at(&council, "listing"))?
            .flatten()
        {
            if entry.file_name() != fleet {
                fs::remove_dir_all(entry.path()).map_err(at(&entry.path(), "removing"))?;
            }
        }
        let mut records = Vec::new();
        let (mut annals, damaged) =
            Annals::open(&council.join(fleet), |record| records.push(record.to_vec()))?;
        let intact = damaged.iter().all(|damaged| damaged.torn);
        if !intact {
            records.clear();
        }
        if annals.wants_anew() {
            annals.begin_anew(records.iter().map(Vec::as_slice))?;
        }
        Ok((
            Self {
                annals,
                records,
                intact,
            },
            damaged,
        ))
    }

    pub(super) fn holds_anything(&self) -> bool {
        !self.records.is_empty() || !self.intact
    }

    fn write(&mut self, bytes: Vec<u8>, replaces: bool) -> Result<(), AnnalsError> {
        if replaces {
            self.annals.begin_anew([bytes.as_slice()])?;
            self.records = vec![bytes];
            return Ok(());
        }
        if self.annals.wants_anew() {
            self.annals
                .begin_anew(self.records.iter().map(Vec::as_slice))?;
        }
        self.annals.append([bytes.as_slice()], 0)?;
        self.records.push(bytes);
        Ok(())
    }

    fn empty(&mut self) -> Result<(), AnnalsError> {
        self.records.clear();
        self.annals.begin_anew([])
    }

    /// Writes what it is told, and tries again where the disk has no room.
    fn keep(mut self, told: &Receiver<Write>, written: &mpsc::UnboundedSender<u64>) {
        const PAUSE: Duration = Duration::from_secs(1);
        for Write { persist, replaces } in told {
            let mut said = false;
            let done = |log: &mut Self| match &persist {
                Some(persist) => log.write(persist.bytes.clone(), replaces),
                None => log.empty(),
            };
            while let Err(error) = done(&mut self) {
                if !std::mem::replace(&mut said, true) {
                    eprintln!(
                        "error: this machine's vote is silent until it can be written down: {error}"
                    );
                }
                thread::park_timeout(PAUSE);
            }
            if let Some(persist) = persist
                && written.send(persist.token).is_err()
            {
                return;
            }
        }
    }
}

/// What the council of a fleet of one has been given to run, by what this machine has of it on its disk; `None` if that does not say. The
/// council is asked as it would be if it lived: in a moment that takes no time, and by a machine that writes nothing.
pub(super) fn programs_of_one(
    data: &Path,
    fleet: &str,
    tile: Tile,
) -> Result<Option<Vec<String>>, FleetError> {
    const STEPS_MAX: usize = 1_000;
    let log = data.join("council").join(fleet);
    if !log.exists() {
        return Ok(Some(Vec::new()));
    }
    // Only read: what is damaged stays so, and is found again.
    let mut records = Vec::new();
    let (_, damaged) = Annals::open(&log, |record| records.push(record.to_vec()))?;
    if damaged.iter().any(|damaged| !damaged.torn) {
        return Ok(None);
    }
    if records.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let (mut now, room) = (Instant(1), Room::default());
    let (me, vote) = ((tile, u64::MAX), Vote::Again(records));
    let mut council = Council::new(Config::of_a_fleet(), me, vote, room, [], 0, now)
        .map_err(FleetError::Council)?;
    let (token, ask) = (0, node::council::read(Query::Affairs));
    let until = now + Nanos::from_secs(600);
    let mut inputs = VecDeque::from([Input::Ask { token, ask, until }]);
    for _ in 0..STEPS_MAX {
        let mut effects = Vec::new();
        match inputs.pop_front() {
            Some(input) => council.handle(now, input, &mut |effect| effects.push(effect)),
            None => {
                now = council.deadline().unwrap_or(until).max(now);
                council.wake(now, &mut |effect| effects.push(effect));
            }
        }
        for effect in effects {
            match effect {
                Effect::Persist(Persist { token, .. }) | Effect::Replace(Persist { token, .. }) => {
                    inputs.push_back(Input::Persisted(Persisted { token }));
                }
                Effect::Answered { answer, .. } => {
                    let reply = answer.ok().map(|bytes| decode_all::<Reply>(&bytes));
                    let Some(Ok(Reply::Affairs(affairs))) = reply else {
                        return Ok(None);
                    };
                    let programs = affairs.programs.into_iter();
                    return Ok(Some(programs.map(|program| program.name).collect()));
                }
                _ => {}
            }
        }
    }
    Ok(None)
}

/// What is to be written; nothing empties the log.
struct Write {
    persist: Option<Persist>,
    replaces: bool,
}

/// What a member knows that its seat is made of.
pub(super) struct Standing {
    pub(super) tile: Tile,
    /// How often this machine has started, this time included.
    pub(super) life: u64,
    pub(super) founder: bool,
    /// Whether a record of its vote was ever durable; `None` if it is not known to have had one, `Some(false)` if it was taken away.
    pub(super) voted: Option<bool>,
    pub(super) seed: u64,
}

/// Who waits for the voters' answer.
pub(super) type Asker = SyncSender<Result<Arc<[u8]>, Unanswered>>;

/// What the member does for its seat.
pub(super) enum Duty {
    /// Carry these pieces.
    Send(Tile, Vec<Vec<u8>>),
    /// Count this.
    Refused(consensus::Reason),
    /// Remember that there is a record of a vote now, or none any more.
    Voted(bool),
}

pub(super) struct Seat {
    machine: Council,
    writes: Sender<Write>,
    orders: Sender<Order>,
    grips: BTreeMap<Lease, (Index, Grip)>,
    until: Instant,
    arriving: Arriving,
    parcels: u64,
    asked: BTreeMap<u64, Asker>,
    tokens: u64,
    has_voted: bool,
    lost_vote: bool,
}

/// An instant of the member's clock as `CLOCK_BOOTTIME`, given a moment as both show it.
fn boottime_of(at: Instant, now: Instant, boottime: u64) -> u64 {
    boottime
        .saturating_add(at.since(now).0)
        .saturating_sub(now.since(at).0)
}

impl Seat {
    /// Takes the seat.
    pub(super) fn take(
        log: Log,
        standing: &Standing,
        others: impl IntoIterator<Item = Tile>,
        room: Room,
        orders: Sender<Order>,
        written: mpsc::UnboundedSender<u64>,
        now: Instant,
    ) -> Result<Self, FleetError> {
        let has_voted = !log.records.is_empty();
        let vote = match standing.voted {
            _ if !log.intact => Vote::Lost,
            _ if has_voted => Vote::Again(log.records.clone()),
            Some(true) => Vote::Lost,
            None if standing.founder => Vote::Found,
            _ => Vote::Never,
        };
        let lost_vote = vote == Vote::Lost;
        let me = (standing.tile, standing.life);
        let machine = Council::new(
            Config::of_a_fleet(),
            me,
            vote,
            room,
            others,
            standing.seed,
            now,
        )
        .map_err(FleetError::Council)?;
        let (writes, told) = channel();
        let thread = thread::Builder::new().name("council".into());
        thread.spawn(move || log.keep(&told, &written))?;
        Ok(Self {
            until: machine.until(),
            machine,
            writes,
            orders,
            grips: BTreeMap::new(),
            arriving: Arriving::default(),
            parcels: standing.seed,
            asked: BTreeMap::new(),
            tokens: 0,
            has_voted,
            lost_vote,
        })
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.machine.deadline()
    }

    #[cfg(test)]
    pub(super) fn holds_present(&self, tile: Tile) -> bool {
        self.machine.present().contains(&tile)
    }

    pub(super) fn status(&self) -> CouncilStatus {
        let voters = self
            .machine
            .voters()
            .into_iter()
            .flat_map(|voters| voters.iter());
        CouncilStatus {
            leader: self.machine.leader().map(|tile| tile.0),
            voters: voters.map(|tile| tile.0).collect(),
            held: self.machine.held().count(),
            lost_vote: self.lost_vote,
        }
    }

    pub(super) fn wake(&mut self, now: Instant) -> Vec<Duty> {
        let mut effects = Vec::new();
        self.machine.wake(now, &mut |effect| effects.push(effect));
        self.obey(now, effects)
    }

    fn tell(&mut self, now: Instant, input: Input) -> Vec<Duty> {
        let mut effects = Vec::new();
        self.machine
            .handle(now, input, &mut |effect| effects.push(effect));
        self.obey(now, effects)
    }

    /// A piece of a message came.
    ///
    /// # Errors
    /// If it is none, or its message is none or in another's name.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        from: Tile,
        payload: &[u8],
    ) -> Result<Vec<Duty>, ()> {
        let Some(whole) = self.arriving.take(from, payload).map_err(drop)? else {
            return Ok(Vec::new());
        };
        let message: Message = decode_all(&whole).map_err(drop)?;
        if message.from != from {
            return Err(());
        }
        Ok(self.tell(now, Input::Received(message)))
    }

    pub(super) fn believe(&mut self, now: Instant, tile: Tile, present: bool) -> Vec<Duty> {
        self.tell(now, Input::Believed(tile, present))
    }

    pub(super) fn became(
        &mut self,
        now: Instant,
        lease: Lease,
        fence: Index,
        became: Became,
    ) -> Vec<Duty> {
        self.tell(now, Input::Became(lease, fence, became))
    }

    pub(super) fn ask(&mut self, now: Instant, ask: Ask, asker: Asker) -> Vec<Duty> {
        self.tokens += 1;
        let (token, patience) = (
            self.tokens,
            u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX),
        );
        self.asked.insert(token, asker);
        let until = now + Nanos(patience);
        self.tell(now, Input::Ask { token, ask, until })
    }

    /// A record is on the disk.
    pub(super) fn written(&mut self, now: Instant, token: u64) -> Vec<Duty> {
        let first = !std::mem::replace(&mut self.has_voted, true);
        let mut duties = Vec::new();
        duties.extend(first.then_some(Duty::Voted(true)));
        duties.extend(self.tell(now, Input::Persisted(Persisted { token })));
        duties
    }

    fn obey(&mut self, now: Instant, effects: Vec<Effect>) -> Vec<Duty> {
        let mut duties = Vec::new();
        let boottime = crate::lease::boottime();
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    self.parcels = self.parcels.wrapping_add(1);
                    // Lost is lost, and what is too long for everybody is never said: the protocol lives with that.
                    if let Some(pieces) = parcel::pack(self.parcels, &message.to_bytes()) {
                        duties.push(Duty::Send(to, pieces));
                    }
                }
                Effect::Persist(persist) => self.write(Some(persist), false),
                Effect::Replace(persist) => self.write(Some(persist), true),
                Effect::Rejoined => {
                    self.write(None, true);
                    (self.lost_vote, self.has_voted) = (false, false);
                    duties.push(Duty::Voted(false));
                }
                Effect::Begin {
                    lease,
                    fence,
                    name,
                    spec,
                } => {
                    let until = boottime_of(self.machine.until(), now, boottime);
                    match Grip::new(until) {
                        Ok(grip) => {
                            self.grips.insert(lease, (fence, grip.clone()));
                            let _ = self.orders.send(Order::Begin(Box::new(Begin {
                                lease,
                                fence,
                                name,
                                spec,
                                grip,
                            })));
                        }
                        Err(error) => {
                            let because = format!("{name} was not begun: {error}");
                            let unable = Became::Fated(node::council::Fate::Unable(because));
                            duties.extend(self.became(now, lease, fence, unable));
                        }
                    }
                }
                Effect::Finish { lease, fence } => {
                    drop(self.orders.send(Order::Finish(lease, fence)))
                }
                Effect::End { lease, fence, why } => {
                    if let Some((_, grip)) = self.grips.remove(&lease) {
                        grip.put_off(0);
                    }
                    let _ = self.orders.send(Order::End(lease, fence, why.name()));
                }
                Effect::Answered { token, answer } => {
                    if let Some(asker) = self.asked.remove(&token) {
                        // Who asked may have gone.
                        let _ = asker.try_send(answer);
                    }
                }
                Effect::Refused { reason, .. } => duties.push(Duty::Refused(reason)),
            }
        }
        self.put_off(now, boottime);
        duties
    }

    /// Tells the wardens how long what is held is held.
    fn put_off(&mut self, now: Instant, boottime: u64) {
        let held: BTreeMap<_, _> = self.machine.held().collect();
        self.grips.retain(|lease, (fence, grip)| {
            let kept = held.get(lease) == Some(fence);
            if !kept {
                grip.put_off(0);
            }
            kept
        });
        let until = self.machine.until();
        if until == self.until {
            return;
        }
        self.until = until;
        let until = boottime_of(until, now, boottime);
        self.grips
            .values()
            .for_each(|(_, grip)| grip.put_off(until));
    }

    fn write(&self, persist: Option<Persist>, replaces: bool) {
        let _ = self.writes.send(Write { persist, replaces });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    fn segment(data: &Path) -> std::path::PathBuf {
        let folder = data.join("council/abcd");
        let all = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        all.filter(|path| path.extension().is_some_and(|end| end == "segment"))
            .max()
            .unwrap()
    }

    fn three(data: &Path) -> Log {
        let (mut log, _) = Log::open(data, "abcd").unwrap();
        log.write(b"base".to_vec(), true).unwrap();
        log.write(b"one".to_vec(), false).unwrap();
        log.write(vec![2; 3000], false).unwrap();
        log
    }

    #[test]
    fn a_vote_is_read_as_it_was_written_and_what_is_of_another_fleet_goes() {
        let data = tempfile::tempdir().unwrap();
        let log = three(data.path());
        let (again, damaged) = Log::open(data.path(), "abcd").unwrap();
        assert_eq!(
            (again.records, damaged, again.intact),
            (log.records, Vec::new(), true)
        );
        let (other, _) = Log::open(data.path(), "ef01").unwrap();
        assert!(!other.holds_anything());
        assert!(!data.path().join("council/abcd").exists());
    }

    #[test]
    fn a_torn_end_is_cut_off_and_said_and_a_flipped_byte_costs_the_vote() {
        let data = tempfile::tempdir().unwrap();
        three(data.path());
        let path = segment(data.path());
        let length = fs::metadata(&path).unwrap().len();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(length - 1)
            .unwrap();
        let (torn, damaged) = Log::open(data.path(), "abcd").unwrap();
        assert_eq!(torn.records, [b"base".to_vec(), b"one".to_vec()]);
        assert!(torn.intact);
        assert_eq!(damaged.len(), 1, "{damaged:?}");
        assert!(damaged[0].to_string().contains("is damaged at byte"));
        drop(torn);
        // What is left goes on.
        let (mut log, damaged) = Log::open(data.path(), "abcd").unwrap();
        assert_eq!((log.records.len(), damaged), (2, Vec::new()));
        log.write(vec![3; 3000], false).unwrap();
        let path = segment(data.path());
        let length = fs::metadata(&path).unwrap().len();
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[9], length - 2000).unwrap();
        let (lost, damaged) = Log::open(data.path(), "abcd").unwrap();
        assert_eq!(
            (lost.records.len(), lost.intact, damaged.len()),
            (0, false, 1)
        );
        assert!(
            lost.holds_anything(),
            "the seat is taken, to give the vote back"
        );
    }
}
