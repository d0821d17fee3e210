//! One voter: the protocol itself.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::{Machine, Persist, Stream};
use wire::{Encode, Instant, Tile};

use crate::config::Config;
use crate::event::{Effect, Input, Reason};
use crate::ink::Ink;
use crate::lead::{Asker, Lead, Newcomer, Read};
use crate::log::{Entry, Index, Log, Payload, Term};
use crate::message::{Ask, Kind, Matched, Message, Outcome};
use crate::record::{Change, Record, Recovered, Unreadable};
use crate::session::{Sessions, Standing};
use crate::state::{Snapshot, State};
use crate::voters::Voters;

/// One of those who agree, or a tile on its way to be one.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Voter<S: State> {
    config: Config,
    me: Tile,
    stream: Stream,
    term: Term,
    /// Whom it gave its vote in this term.
    voted: Option<Tile>,
    log: Log,
    ink: Ink,
    snapshot: Option<Snapshot>,
    /// Who has a vote from which entry on, the last before the log's begin first. Empty until the
    /// first snapshot.
    changes: Vec<(Index, Voters)>,
    commit: Index,
    applied: Index,
    /// Bytes of entries applied since the last snapshot.
    applied_bytes: usize,
    state: Option<S>,
    sessions: Sessions,
    role: Role<S>,
    leader: Option<Tile>,
    /// When a leader was last heard.
    heard: Option<Instant>,
    /// When it loses patience.
    election: Instant,
    incoming: Option<Incoming>,
}

#[derive(Clone, Debug, PartialEq, Hash)]
enum Role<S: State> {
    Follower,
    /// It asks whether an election would succeed, and who said yes.
    Canvassing(Vec<Tile>),
    /// It stands, and who voted for it. Its own vote counts once this version is dry.
    Candidate(Vec<Tile>, u64),
    Leader(Box<Lead<S>>),
}

/// A snapshot that has arrived in part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Incoming {
    index: Index,
    index_term: Term,
    total: u64,
    bytes: Vec<u8>,
}

/// Where every fleet's log begins: with a snapshot, so that whoever joins must be given one and
/// nobody ever computes a state from assumptions.
const FOUNDED: Index = Index(1);

/// A newcomer gets a vote once it lacks no more than this many entries …
const CAUGHT_UP: u64 = 64;

/// … and is given up after this many times the patience.
const NEWCOMER_PATIENCE: u64 = 60;

/// The largest snapshot that is taken in, in bytes.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

impl<S: State> Voter<S> {
    /// The first voter of a new fleet, alone, with the state it begins with.
    ///
    /// # Panics
    /// If the configuration contradicts itself.
    #[must_use]
    pub fn found(config: Config, me: Tile, state: S, stream: Stream, now: Instant) -> Self {
        let mut voter = Self::blank(config, me, stream, now);
        let (voters, sessions) = (Voters::one(me), Sessions::default());
        let snapshot = Snapshot::new(FOUNDED, Term(0), &voters, &sessions, &state);
        voter.begin(snapshot, state, sessions, voters);
        voter.election = now;
        voter
    }

    /// A tile that is to be given a vote, or follows without one: it knows nothing and says
    /// nothing until a leader speaks to it.
    ///
    /// A tile whose disk was lost must not come back so under its old number while it has a vote:
    /// it might give a vote twice. Retire it first.
    ///
    /// # Panics
    /// If the configuration contradicts itself.
    #[must_use]
    pub fn join(config: Config, me: Tile, stream: Stream, now: Instant) -> Self {
        Self::blank(config, me, stream, now)
    }

    /// One that starts again, from every record that survived, in order: those of
    /// [`Effect::Persist`] since the last durable [`Effect::Replace`], and that.
    ///
    /// # Errors
    /// If the records are not those of a voter of this state.
    ///
    /// # Panics
    /// If the configuration contradicts itself.
    pub fn again<'a>(
        config: Config,
        me: Tile,
        records: impl IntoIterator<Item = &'a [u8]>,
        stream: Stream,
        now: Instant,
    ) -> Result<Self, Unreadable> {
        let mut voter = Self::blank(config, me, stream, now);
        let recovered = Recovered::read(records)?;
        if let Some(snapshot) = &recovered.snapshot {
            let contents = snapshot.contents::<S>().map_err(Unreadable::Snapshot)?;
            voter.state = Some(contents.state);
            voter.sessions = contents.sessions;
            voter.changes.push((snapshot.index, contents.voters));
            (voter.commit, voter.applied) = (snapshot.index, snapshot.index);
        }
        for (at, voters) in recovered.changes_of_voters() {
            voter.changes.push((at, voters.clone()));
        }
        (voter.term, voter.voted) = (recovered.term, recovered.voted);
        voter.ink = Ink::dry(recovered.log.last());
        (voter.log, voter.snapshot) = (recovered.log, recovered.snapshot);
        Ok(voter)
    }

    fn blank(config: Config, me: Tile, stream: Stream, now: Instant) -> Self {
        config.assert_sound();
        let Recovered {
            term,
            voted,
            snapshot,
            log,
        } = Recovered::BLANK;
        let mut voter = Self {
            config,
            me,
            stream,
            term,
            voted,
            ink: Ink::dry(log.last()),
            log,
            snapshot,
            changes: Vec::new(),
            commit: Index(0),
            applied: Index(0),
            applied_bytes: 0,
            state: None,
            sessions: Sessions::default(),
            role: Role::Follower,
            leader: None,
            heard: None,
            election: now,
            incoming: None,
        };
        voter.be_patient(now);
        voter
    }

    /// The state as far as the log is applied here; `None` before the first snapshot. It may be
    /// older than what others have been answered: to be sure, ask ([`Ask::Read`]).
    #[must_use]
    pub const fn state(&self) -> Option<&S> {
        self.state.as_ref()
    }

    /// The term it is in.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.term
    }

    /// Whom it holds to lead this term.
    #[must_use]
    pub const fn leader(&self) -> Option<Tile> {
        self.leader
    }

    /// Whether it leads this term. Another may lead a later one by now.
    #[must_use]
    pub const fn leads(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Who has a vote, committed or not; `None` before the first snapshot.
    #[must_use]
    pub fn voters(&self) -> Option<&Voters> {
        self.changes.last().map(|(_, voters)| voters)
    }

    /// Everything up to here is agreed.
    #[must_use]
    pub const fn commit(&self) -> Index {
        self.commit
    }

    /// Everything up to here is in [`Voter::state`].
    #[must_use]
    pub const fn applied(&self) -> Index {
        self.applied
    }

    /// The place of the last entry.
    #[must_use]
    pub const fn last(&self) -> Index {
        self.log.last()
    }

    /// The entry at a place, unless it lies behind a snapshot or has not been written.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.log.get(index)
    }

    /// Its own number.
    #[must_use]
    pub const fn me(&self) -> Tile {
        self.me
    }

    fn has_vote(&self) -> bool {
        self.voters().is_some_and(|voters| voters.contains(self.me))
    }

    /// Whether it stands for election when it loses patience. One that is about to lose its vote does
    /// until it knows that to be agreed: it may be the only one with the entry that says so, and no
    /// other can then be elected (Ongaro 2014, § 4.2.2).
    fn may_stand(&self) -> bool {
        let unsure = |at: Index| at > self.commit;
        let mut changes = self.changes.iter().rev();
        changes.next().is_some_and(|(at, latest)| {
            latest.contains(self.me)
                || unsure(*at) && changes.next().is_some_and(|(_, v)| v.contains(self.me))
        })
    }

    fn be_patient(&mut self, now: Instant) {
        let patience = self.config.patience;
        self.election = now + patience + self.stream.span(patience);
    }

    fn message(&self, to: Tile, kind: Kind) -> Message {
        Message {
            cell: self.config.cell,
            from: self.me,
            to,
            kind,
        }
    }

    fn send(&self, to: Tile, kind: Kind, out: &mut impl FnMut(Effect)) {
        let message = self.message(to, kind);
        out(Effect::Send { to, message });
    }

    /// Sends it once what it promises is durable.
    fn promise(&mut self, to: Tile, kind: Kind) {
        let message = self.message(to, kind);
        self.ink.hold(message);
    }

    fn reply(&self, asker: Asker, outcome: Outcome, out: &mut impl FnMut(Effect)) {
        let Asker { author, number } = asker;
        let reply = Kind::Reply {
            author,
            number,
            outcome,
        };
        self.send(author.tile, reply, out);
    }

    fn elsewhere(&self) -> Outcome {
        Outcome::Elsewhere {
            leader: self.leader,
            voters: self.voters().cloned(),
        }
    }
}

/// Elections.
impl<S: State> Voter<S> {
    /// Leaves whatever it was for a later term.
    fn defer_to(&mut self, now: Instant, term: Term, out: &mut impl FnMut(Effect)) {
        debug_assert!(term > self.term);
        (self.term, self.voted) = (term, None);
        self.ink.changed();
        self.step_down(now, out);
    }

    fn step_down(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        let role = core::mem::replace(&mut self.role, Role::Follower);
        self.hold_to_lead(None, out);
        if let Role::Leader(lead) = role {
            let patient = lead.patient.into_iter().map(|(asker, _)| asker);
            let askers = lead.askers.into_values().chain(patient);
            let reads = lead.reads.into_iter().map(|read| read.asker);
            for asker in askers.chain(reads).chain(lead.newcomer.map(|n| n.asker)) {
                self.reply(asker, self.elsewhere(), out);
            }
            self.be_patient(now);
        }
    }

    fn hold_to_lead(&mut self, leader: Option<Tile>, out: &mut impl FnMut(Effect)) {
        if self.leader != leader {
            self.leader = leader;
            out(Effect::Led {
                term: self.term,
                by: leader,
            });
        }
    }

    /// Asks whether an election would succeed. Only then does it begin a term, so that one that
    /// was cut off disturbs nobody when it comes back (Ongaro 2014, § 9.6).
    fn canvass(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        self.be_patient(now);
        self.hold_to_lead(None, out);
        self.role = Role::Canvassing(Vec::new());
        let vote = Kind::Vote {
            term: self.term.next(),
            canvass: true,
            last: self.log.last(),
            last_term: self.log.last_term(),
        };
        for peer in self.others() {
            self.send(peer, vote.clone(), out);
        }
        self.count(now, self.me, out);
    }

    fn stand(&mut self, now: Instant) {
        self.be_patient(now);
        (self.term, self.voted) = (self.term.next(), Some(self.me));
        self.ink.changed();
        self.role = Role::Candidate(Vec::new(), self.ink.version());
        let vote = Kind::Vote {
            term: self.term,
            canvass: false,
            last: self.log.last(),
            last_term: self.log.last_term(),
        };
        for peer in self.others() {
            self.promise(peer, vote.clone());
        }
    }

    fn others(&self) -> Vec<Tile> {
        let voters = self.voters().into_iter().flat_map(Voters::iter);
        voters.filter(|tile| *tile != self.me).collect()
    }

    /// Counts a yes.
    fn count(&mut self, now: Instant, from: Tile, out: &mut impl FnMut(Effect)) {
        let Some((_, voters)) = self.changes.last() else {
            return;
        };
        let (Role::Canvassing(votes) | Role::Candidate(votes, _)) = &mut self.role else {
            return;
        };
        if voters.contains(from) && !votes.contains(&from) {
            votes.push(from);
        }
        if votes.len() < voters.quorum() {
            return;
        }
        if matches!(self.role, Role::Canvassing(_)) {
            self.stand(now);
        } else {
            self.lead(now, out);
        }
    }

    /// Somebody wants to lead.
    fn consider(
        &mut self,
        now: Instant,
        from: Tile,
        (term, canvass): (Term, bool),
        log: (Term, Index),
        out: &mut impl FnMut(Effect),
    ) {
        // Whoever hears a leader helps nobody to replace it, and does not even look at the term:
        // a voter that was removed and does not know it cannot disturb the rest.
        let patience = self.config.patience;
        if self.leads() || self.heard.is_some_and(|heard| now < heard + patience) {
            return;
        }
        let is_current = log >= (self.log.last_term(), self.log.last());
        if canvass {
            let granted = term > self.term && is_current;
            let term = if granted { term } else { self.term };
            let voted = Kind::Voted {
                term,
                canvass,
                granted,
            };
            return self.send(from, voted, out);
        }
        if term > self.term {
            self.defer_to(now, term, out);
        }
        let is_free = self.voted.is_none_or(|voted| voted == from);
        let granted = term == self.term && is_free && is_current;
        if granted && self.voted.is_none() {
            self.voted = Some(from);
            self.ink.changed();
            self.be_patient(now);
        }
        let voted = Kind::Voted {
            term: self.term,
            canvass,
            granted,
        };
        self.promise(from, voted);
    }

    fn voted(
        &mut self,
        now: Instant,
        from: Tile,
        (term, canvass, granted): (Term, bool, bool),
        out: &mut impl FnMut(Effect),
    ) {
        if !granted {
            if term > self.term {
                self.defer_to(now, term, out);
            }
            return;
        }
        let awaited = match self.role {
            Role::Canvassing(_) => canvass && term == self.term.next(),
            Role::Candidate(..) => !canvass && term == self.term,
            _ => false,
        };
        if awaited {
            self.count(now, from, out);
        }
    }

    fn lead(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        let opened = self.log.last().next();
        let count = now + self.config.patience;
        self.role = Role::Leader(Box::new(Lead::new(now, opened, now, count)));
        self.hold_to_lead(Some(self.me), out);
        self.serve(now, opened);
        self.write(Payload::Opening);
    }

    fn serve(&mut self, now: Instant, next: Index) {
        if let (Role::Leader(lead), Some((_, voters))) = (&mut self.role, self.changes.last()) {
            lead.serve(now, voters, self.me, next);
        }
    }
}

/// Following.
impl<S: State> Voter<S> {
    /// Somebody speaks as the leader of a term. Whether it is to be believed.
    fn follow(
        &mut self,
        now: Instant,
        from: Tile,
        term: Term,
        out: &mut impl FnMut(Effect),
    ) -> bool {
        if term > self.term {
            self.defer_to(now, term, out);
        }
        if self.leader.is_some_and(|leader| leader != from) {
            out(Effect::Refused {
                from,
                reason: Reason::Rival,
            });
            return false;
        }
        self.role = Role::Follower;
        self.hold_to_lead(Some(from), out);
        self.heard = Some(now);
        self.be_patient(now);
        true
    }

    fn take(
        &mut self,
        from: Tile,
        (mut prev, prev_term): (Index, Term),
        commit: Index,
        mut entries: Vec<Entry>,
        out: &mut impl FnMut(Effect),
    ) -> Matched {
        if self.state.is_none() {
            return Matched::Not(FOUNDED);
        }
        let matched = Index(prev.0.saturating_add(entries.len() as u64));
        if prev < self.log.base() {
            // What lies behind a snapshot was agreed and is the same for all.
            let known = (self.log.base().0 - prev.0).min(entries.len() as u64);
            entries.drain(..known as usize);
            prev = Index(prev.0 + known);
            if prev < self.log.base() {
                return Matched::To(prev);
            }
        } else {
            match self.log.term_at(prev) {
                None => return Matched::Not(self.log.last().next()),
                Some(term) if term != prev_term => {
                    let retry = self.log.start_of_term(prev);
                    return Matched::Not(retry.max(self.commit.next()));
                }
                Some(_) => {}
            }
        }
        for (entry, at) in entries.into_iter().zip(prev.0 + 1..) {
            let at = Index(at);
            match self.log.term_at(at) {
                Some(term) if term == entry.term => continue,
                Some(_) if at <= self.commit => {
                    let reason = Reason::Unsaid;
                    out(Effect::Refused { from, reason });
                    return Matched::Not(self.commit.next());
                }
                Some(_) => {
                    self.log.cut(at);
                    self.ink.cut(at);
                    self.changes.retain(|(from, _)| *from < at);
                }
                None => {}
            }
            self.push(entry);
        }
        self.commit = self.commit.max(commit.min(matched));
        self.apply(out);
        Matched::To(matched)
    }

    #[expect(clippy::too_many_arguments, reason = "they are the message's fields")]
    fn take_piece(
        &mut self,
        from: Tile,
        round: u64,
        (index, index_term): (Index, Term),
        total: u64,
        offset: u64,
        bytes: &[u8],
        out: &mut impl FnMut(Effect),
    ) {
        let term = self.term;
        if self.state.is_some() && index <= self.commit {
            self.incoming = None;
            let matched = Matched::To(index);
            return self.promise(
                from,
                Kind::Appended {
                    term,
                    round,
                    matched,
                },
            );
        }
        let same = |i: &Incoming| (i.index, i.index_term, i.total) == (index, index_term, total);
        if !self.incoming.as_ref().is_some_and(same) {
            if offset != 0 || total > SNAPSHOT_BYTES_MAX {
                let wanted = 0;
                return self.send(
                    from,
                    Kind::Pieced {
                        term,
                        round,
                        index,
                        wanted,
                    },
                    out,
                );
            }
            self.incoming = Some(Incoming {
                index,
                index_term,
                total,
                bytes: Vec::new(),
            });
        }
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        let have = incoming.bytes.len() as u64;
        if offset == have && have + bytes.len() as u64 <= total {
            incoming.bytes.extend_from_slice(bytes);
        }
        let wanted = incoming.bytes.len() as u64;
        if wanted < total {
            let pieced = Kind::Pieced {
                term,
                round,
                index,
                wanted,
            };
            return self.send(from, pieced, out);
        }
        let bytes = self.incoming.take().map(|i| i.bytes).unwrap_or_default();
        let snapshot = Snapshot {
            index,
            term: index_term,
            bytes: bytes.into(),
        };
        let Ok(contents) = snapshot.contents::<S>() else {
            return out(Effect::Refused {
                from,
                reason: Reason::Unreadable,
            });
        };
        self.begin(snapshot, contents.state, contents.sessions, contents.voters);
        out(Effect::Applied { through: index });
        let matched = Matched::To(index);
        self.promise(
            from,
            Kind::Appended {
                term,
                round,
                matched,
            },
        );
    }

    /// Puts a snapshot in the place of all it stands for.
    fn begin(&mut self, snapshot: Snapshot, state: S, sessions: Sessions, voters: Voters) {
        let Snapshot { index, term, .. } = snapshot;
        if self.log.term_at(index) == Some(term) {
            self.log.forget(index);
        } else {
            self.log = Log::after(index, term);
            self.ink.cut(index.next());
            self.changes.clear();
        }
        self.changes.retain(|(at, _)| *at > index);
        self.changes.insert(0, (index, voters));
        (self.commit, self.applied, self.applied_bytes) = (index, index, 0);
        (self.state, self.sessions) = (Some(state), sessions);
        self.snapshot = Some(snapshot);
        self.ink.replaced();
    }
}

/// Leading.
impl<S: State> Voter<S> {
    /// Puts an entry at the end of the log.
    fn push(&mut self, entry: Entry) -> Index {
        let voters = match &entry.payload {
            Payload::Voters(voters) => Some(voters.clone()),
            _ => None,
        };
        let index = self.log.push(entry);
        self.changes.extend(voters.map(|voters| (index, voters)));
        self.ink.changed();
        index
    }

    /// Puts a line of this term at the end of the log, behind those that have waited for one.
    fn write(&mut self, payload: Payload) -> Index {
        self.write_patient();
        let term = self.term;
        self.push(Entry { term, payload })
    }

    /// Puts at the end of the log whatever has waited.
    fn write_patient(&mut self) {
        let term = self.term;
        let Role::Leader(lead) = &mut self.role else {
            return;
        };
        for (asker, bytes) in core::mem::take(&mut lead.patient) {
            let Asker { author, number } = asker;
            let payload = Payload::Command {
                author,
                number,
                bytes,
            };
            let index = self.push(Entry { term, payload });
            self.wait(index, asker);
        }
    }

    fn request(
        &mut self,
        now: Instant,
        from: Tile,
        asker: Asker,
        ask: Ask,
        out: &mut impl FnMut(Effect),
    ) {
        if asker.author.tile != from {
            let reason = Reason::NotItsAuthor;
            return out(Effect::Refused { from, reason });
        }
        if let Some(outcome) = self.undertake(now, asker, ask) {
            self.reply(asker, outcome, out);
        }
    }

    /// Begins to do what is asked, or says why not.
    fn undertake(&mut self, now: Instant, asker: Asker, ask: Ask) -> Option<Outcome> {
        let undecided = self.log.last().0 - self.commit.0;
        let elsewhere = self.elsewhere();
        let Role::Leader(lead) = &mut self.role else {
            return Some(elsewhere);
        };
        let Asker { author, number } = asker;
        let (bytes_max, max) = (self.config.command_bytes_max, self.config.undecided_max);
        match ask {
            Ask::Apply(bytes) | Ask::Read(bytes) if bytes.len() > bytes_max => {
                Some(Outcome::Impossible)
            }
            Ask::Apply(bytes) => {
                match self.sessions.standing(author, number) {
                    Standing::Repeated(answer) => return Some(Outcome::Done(answer)),
                    Standing::Past => return Some(Outcome::Past),
                    Standing::New => {}
                }
                if lead.under_way.get(&author) == Some(&number) {
                    return None;
                }
                if undecided as usize + lead.patient.len() >= max {
                    return Some(Outcome::Busy);
                }
                lead.under_way.insert(author, number);
                lead.patient.push((asker, bytes.clone()));
                let may_wait = |state: &S| state.may_wait(author, &bytes);
                if !self.state.as_ref().is_some_and(may_wait) {
                    self.write_patient();
                }
                None
            }
            Ask::Read(query) => {
                if lead.reads.len() >= max {
                    return Some(Outcome::Busy);
                }
                lead.reads.push_back(Read {
                    round: lead.round + 1,
                    index: self.commit.max(lead.opened),
                    asker,
                    query,
                });
                None
            }
            Ask::Admit(tile) => self.admit(now, tile, asker),
            Ask::Retire(tile) => self.retire(tile, asker),
        }
    }

    fn wait(&mut self, index: Index, asker: Asker) {
        if let Role::Leader(lead) = &mut self.role {
            lead.askers.insert(index, asker);
        }
    }

    /// The voters, if they may be changed now. One change at a time, and none before this leader
    /// has committed an entry of its own term: without the second rule two leaders can each change
    /// the same voters by one and share nobody (Ongaro, *Bug in single-server membership changes*,
    /// raft-dev, 2015).
    fn changeable(&self) -> Option<Voters> {
        let (at, voters) = self.changes.last()?;
        let Role::Leader(lead) = &self.role else {
            return None;
        };
        let settled = *at <= self.commit && lead.opened <= self.commit;
        (settled && lead.newcomer.is_none()).then(|| voters.clone())
    }

    fn admit(&mut self, now: Instant, tile: Tile, asker: Asker) -> Option<Outcome> {
        let Some(voters) = self.changeable() else {
            return Some(Outcome::Busy);
        };
        if voters.contains(tile) {
            return Some(Outcome::Done(Arc::default()));
        }
        if voters.with(tile).is_none() {
            return Some(Outcome::Impossible);
        }
        let next = self.log.last().next();
        if let Role::Leader(lead) = &mut self.role {
            lead.newcomer = Some(Newcomer {
                tile,
                asker,
                until: now + self.config.patience * NEWCOMER_PATIENCE,
            });
        }
        self.serve(now, next);
        None
    }

    fn retire(&mut self, tile: Tile, asker: Asker) -> Option<Outcome> {
        let Some(voters) = self.changeable() else {
            return Some(Outcome::Busy);
        };
        if !voters.contains(tile) {
            return Some(Outcome::Done(Arc::default()));
        }
        let Some(voters) = voters.without(tile) else {
            return Some(Outcome::Impossible);
        };
        let index = self.write(Payload::Voters(voters));
        self.wait(index, asker);
        None
    }

    /// Gives a newcomer its vote once it has caught up, or gives it up.
    fn welcome(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        let (Role::Leader(lead), Some((_, voters))) = (&mut self.role, self.changes.last()) else {
            return;
        };
        let Some(newcomer) = &lead.newcomer else {
            return;
        };
        let matched = lead.peers.get(&newcomer.tile).map(|p| p.matched);
        let caught_up = matched.is_some_and(|m| m.0 > 0 && m.0 + CAUGHT_UP >= self.log.last().0);
        if !caught_up && now < newcomer.until {
            return;
        }
        let (tile, asker) = (newcomer.tile, newcomer.asker);
        lead.newcomer = None;
        match voters.with(tile) {
            Some(voters) if caught_up => {
                let index = self.write(Payload::Voters(voters));
                self.wait(index, asker);
            }
            _ => self.reply(asker, Outcome::Busy, out),
        }
    }

    fn answered(
        &mut self,
        now: Instant,
        from: Tile,
        (term, round): (Term, u64),
        news: impl FnOnce(&mut crate::lead::Progress, Index),
        out: &mut impl FnMut(Effect),
    ) {
        if term > self.term {
            return self.defer_to(now, term, out);
        }
        let last = self.log.last();
        let Role::Leader(lead) = &mut self.role else {
            return;
        };
        let Some(progress) = lead.peers.get_mut(&from).filter(|_| term == self.term) else {
            return;
        };
        progress.heard = now;
        progress.answered = progress.answered.max(round.min(lead.round));
        progress.sent.take_if(|(sent, _)| *sent == round);
        news(progress, last);
    }

    /// Everything a leader does about what it has just learned.
    fn decide(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        self.welcome(now, out);
        let (Role::Leader(lead), Some((_, voters))) = (&self.role, self.changes.last()) else {
            return;
        };
        let agreed = lead.quorum_has(voters, self.me, self.ink.dry_through(), |p| p.matched);
        // An older term's entry is agreed only through one of this term: fig. 8 of Ongaro and
        // Ousterhout, *In Search of an Understandable Consensus Algorithm*, ATC 2014.
        if agreed > self.commit && self.log.term_at(agreed) == Some(self.term) {
            self.commit = agreed;
            self.apply(out);
        }
        let (changed, _) = self.changes.last().expect("there were voters above");
        if *changed <= self.commit && !self.has_vote() {
            return self.step_down(now, out);
        }
        self.answer_reads(now, out);
        self.transmit(now, false, out);
    }

    fn answer_reads(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        let (Role::Leader(lead), Some((_, voters))) = (&mut self.role, self.changes.last()) else {
            return;
        };
        let confirmed = lead.quorum_has(voters, self.me, u64::MAX, |p| p.answered);
        let mut answers = Vec::new();
        while let (Some(read), Some(state)) = (lead.reads.front(), &self.state) {
            if read.round > confirmed || read.index > self.applied {
                break;
            }
            let answer = state.read(&lead.memory, now, &read.query);
            answers.push((read.asker, answer));
            lead.reads.pop_front();
        }
        // One question to everybody at a time; those that come meanwhile share the next.
        let ask = lead.asked <= confirmed
            && lead
                .reads
                .back()
                .is_some_and(|read| read.round > lead.asked.max(confirmed));
        for (asker, answer) in answers {
            self.reply(asker, Outcome::Done(answer.into()), out);
        }
        if ask {
            self.transmit(now, true, out);
        }
    }

    /// Sends everybody what it lacks, and something in any case if it must be `all`.
    fn transmit(&mut self, now: Instant, all: bool, out: &mut impl FnMut(Effect)) {
        let Role::Leader(lead) = &mut self.role else {
            return;
        };
        if all {
            lead.asked = lead.round + 1;
        }
        let (last, base) = (self.log.last(), self.log.base());
        let mut sending = Vec::new();
        for (peer, progress) in &mut lead.peers {
            let waits = progress.sent.is_some_and(|(_, due)| now < due);
            let lacks = progress.next <= last;
            if !all && (waits || !lacks) {
                continue;
            }
            lead.round += 1;
            let (term, round) = (self.term, lead.round);
            if !waits && lacks {
                // Twice the beat: a disk may take as long as a beat.
                progress.sent = Some((round, now + self.config.beat * 2));
            }
            let snapshot = self.snapshot.as_ref().filter(|_| progress.next <= base);
            let kind = match snapshot.filter(|_| !waits) {
                Some(snapshot) => {
                    let at = progress.piece.filter(|(index, _)| *index == snapshot.index);
                    let offset = at.map_or(0, |(_, wanted)| wanted as usize);
                    progress.piece = Some((snapshot.index, offset as u64));
                    let end = offset.saturating_add(self.config.piece_bytes_max);
                    let end = snapshot.bytes.len().min(end);
                    Kind::Piece {
                        term,
                        round,
                        index: snapshot.index,
                        index_term: snapshot.term,
                        total: snapshot.bytes.len() as u64,
                        offset: offset as u64,
                        bytes: snapshot.bytes[offset.min(end)..end].into(),
                    }
                }
                None => {
                    let next = progress.next.max(base.next());
                    let entries = match waits {
                        true => Vec::new(),
                        false => self.log.from(next, self.config.append_bytes_max),
                    };
                    let prev = next.before();
                    Kind::Append {
                        term,
                        round,
                        prev,
                        prev_term: self.log.term_at(prev).expect("at the base or behind it"),
                        commit: self.commit,
                        entries,
                    }
                }
            };
            sending.push((*peer, kind));
        }
        for (peer, kind) in sending {
            self.send(peer, kind, out);
        }
    }

    /// Brings the state up to what is committed.
    fn apply(&mut self, out: &mut impl FnMut(Effect)) {
        let before = self.applied;
        while let (true, Some(state)) = (self.applied < self.commit, &mut self.state) {
            let index = self.applied.next();
            let entry = self
                .log
                .get(index)
                .expect("what is committed is in the log");
            self.applied_bytes += entry.weight();
            self.applied = index;
            let outcome = match &entry.payload {
                Payload::Opening | Payload::Voters(_) => Outcome::Done(Arc::default()),
                Payload::Decree(bytes) => {
                    state.apply(index, None, bytes);
                    Outcome::Done(Arc::default())
                }
                Payload::Command {
                    author,
                    number,
                    bytes,
                } => match self.sessions.standing(*author, *number) {
                    Standing::Past => Outcome::Past,
                    Standing::Repeated(answer) => Outcome::Done(answer),
                    Standing::New => {
                        let answer: Arc<[u8]> = state.apply(index, Some(*author), bytes).into();
                        self.sessions.applied(*author, *number, answer.clone());
                        Outcome::Done(answer)
                    }
                },
            };
            if let Role::Leader(lead) = &mut self.role
                && let Some(asker) = lead.askers.remove(&index)
            {
                let Asker { author, number } = asker;
                if lead.under_way.get(&author) == Some(&number) {
                    lead.under_way.remove(&author);
                }
                self.reply(asker, outcome, out);
            }
        }
        if self.applied > before {
            let through = self.applied;
            out(Effect::Applied { through });
            self.compact();
        }
    }

    /// Puts a snapshot in the place of the log, if that has grown long.
    fn compact(&mut self) {
        let max = self.config.log_bytes_max;
        // A follower that is being sent a snapshot would have to begin again with the next.
        let busy = match &self.role {
            Role::Leader(lead) => lead.peers.values().any(|p| p.piece.is_some()),
            _ => false,
        };
        if self.applied_bytes <= if busy { max * 4 } else { max } {
            return;
        }
        let (index, at) = (self.applied, |(at, _): &&(Index, Voters)| {
            *at <= self.applied
        });
        let (Some(state), Some(term)) = (&self.state, self.log.term_at(index)) else {
            return;
        };
        let known = self.changes.iter().rposition(|change| at(&change));
        let Some(known) = known else {
            return;
        };
        self.changes.drain(..known);
        let voters = &self.changes[0].1;
        self.snapshot = Some(Snapshot::new(index, term, voters, &self.sessions, state));
        self.log
            .forget(Index(index.0.saturating_sub(self.config.trail)));
        self.applied_bytes = 0;
        self.ink.replaced();
    }

    /// Writes what is due, and says what need wait no longer.
    fn flush(&mut self, out: &mut impl FnMut(Effect)) {
        for message in self.ink.released() {
            let to = message.to;
            out(Effect::Send { to, message });
        }
        let Some((token, whole, from)) = self.ink.dip(self.log.last()) else {
            return;
        };
        let change = match &self.snapshot {
            Some(snapshot) if whole => Change::Whole {
                snapshot: snapshot.clone(),
                entries: self.log.from(snapshot.index.next(), usize::MAX),
            },
            _ => Change::Entries {
                from,
                entries: self.log.from(from, usize::MAX),
            },
        };
        let record = Record {
            term: self.term,
            voted: self.voted,
            change,
        };
        let bytes = record.to_bytes();
        let write = Persist { token, bytes };
        out(if whole {
            Effect::Replace(write)
        } else {
            Effect::Persist(write)
        });
    }

    fn persisted(&mut self, now: Instant, token: u64, out: &mut impl FnMut(Effect)) {
        self.ink.dries(token);
        if let Role::Candidate(_, version) = self.role
            && version <= self.ink.dry_version()
        {
            self.count(now, self.me, out);
        }
    }

    /// A leader's timers.
    fn tick(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        let (Role::Leader(lead), Some((_, voters))) = (&mut self.role, self.changes.last()) else {
            return;
        };
        if now >= lead.next_count {
            lead.next_count = now + self.config.patience;
            // Whoever cannot hear a quorum leads nobody, and had better say so.
            let latest = lead.quorum_has(voters, self.me, now, |p| p.heard);
            if now.since(latest) > self.config.patience {
                return self.step_down(now, out);
            }
        }
        if lead.alarm.is_some_and(|alarm| now >= alarm)
            && let Some(state) = &self.state
        {
            let mut decrees = Vec::new();
            lead.alarm = state.look(&mut lead.memory, now, &mut |bytes| decrees.push(bytes));
            for bytes in decrees {
                self.write(Payload::Decree(bytes.into()));
            }
        }
        if let Role::Leader(lead) = &mut self.role
            && now >= lead.next_beat
        {
            lead.next_beat = now + self.config.beat;
            self.write_patient();
            self.transmit(now, true, out);
        }
    }

    fn receive(&mut self, now: Instant, message: Message, out: &mut impl FnMut(Effect)) {
        let Message {
            cell,
            from,
            to,
            kind,
        } = message;
        let refused = |reason| Effect::Refused { from, reason };
        if cell != self.config.cell {
            return out(refused(Reason::WrongCell));
        }
        let from_itself = from == self.me && !matches!(kind, Kind::Request { .. });
        if to != self.me || from_itself {
            return out(refused(Reason::NotForMe));
        }
        match kind {
            Kind::Vote {
                term,
                canvass,
                last,
                last_term,
            } => self.consider(now, from, (term, canvass), (last_term, last), out),
            Kind::Voted {
                term,
                canvass,
                granted,
            } => self.voted(now, from, (term, canvass, granted), out),
            Kind::Append { term, round, .. } | Kind::Piece { term, round, .. }
                if term < self.term =>
            {
                // It learns of the later term by this, and stops leading.
                let matched = Matched::Not(FOUNDED);
                let answer = Kind::Appended {
                    term: self.term,
                    round,
                    matched,
                };
                self.promise(from, answer);
            }
            Kind::Append {
                term,
                round,
                prev,
                prev_term,
                commit,
                entries,
            } => {
                if self.follow(now, from, term, out) {
                    let matched = self.take(from, (prev, prev_term), commit, entries, out);
                    let answer = Kind::Appended {
                        term,
                        round,
                        matched,
                    };
                    self.promise(from, answer);
                }
            }
            Kind::Piece {
                term,
                round,
                index,
                index_term,
                total,
                offset,
                bytes,
            } => {
                if self.follow(now, from, term, out) {
                    let place = (index, index_term);
                    self.take_piece(from, round, place, total, offset, &bytes, out);
                }
            }
            Kind::Appended {
                term,
                round,
                matched,
            } => {
                let news = |p: &mut crate::lead::Progress, last: Index| match matched {
                    Matched::To(index) if index <= last => {
                        p.matched = p.matched.max(index);
                        p.next = p.next.max(p.matched.next());
                        p.piece = None;
                    }
                    Matched::To(_) => {}
                    Matched::Not(retry) => p.next = p.next.min(retry).max(p.matched.next()),
                };
                self.answered(now, from, (term, round), news, out);
            }
            Kind::Pieced {
                term,
                round,
                index,
                wanted,
            } => {
                let news = |p: &mut crate::lead::Progress, _| {
                    if let Some((of, offset)) = &mut p.piece
                        && *of == index
                    {
                        *offset = wanted;
                    }
                };
                self.answered(now, from, (term, round), news, out);
            }
            Kind::Request {
                author,
                number,
                ask,
            } => self.request(now, from, Asker { author, number }, ask, out),
            Kind::Reply { .. } => out(refused(Reason::NotForMe)),
        }
    }

    /// What follows from whatever has just happened.
    fn settle(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        self.serve(now, self.log.last().next());
        self.decide(now, out);
        self.flush(out);
    }
}

impl<S: State> Machine for Voter<S> {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Instant, input: Input, out: &mut impl FnMut(Effect)) {
        match input {
            Input::Received(message) => self.receive(now, message, out),
            Input::Persisted(persisted) => self.persisted(now, persisted.token, out),
        }
        self.settle(now, out);
    }

    fn wake(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        if self.leads() {
            self.tick(now, out);
        } else if now >= self.election && self.may_stand() {
            self.canvass(now, out);
        }
        self.settle(now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.role {
            Role::Leader(lead) => {
                let newcomer = lead.newcomer.as_ref().map(|n| n.until);
                let other = lead.alarm.into_iter().chain(newcomer);
                Some(other.fold(lead.next_beat.min(lead.next_count), Instant::min))
            }
            _ => self.may_stand().then_some(self.election),
        }
    }
}
