//! One life of a capsule that runs under a lease, as this machine keeps it with others.
//!
//! [`Holder`] decides; this is its world: a thread for each keeper that asks it until it has answered, and whoever waits for what
//! they answered. Bytes of a version are shared, never copied, and each thread remembers the last its keeper took, so that it can say what is new.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use consensus::Lease;
use consensus::keep::{Effect, Holder, Input, Keeper, Mark, Stint, Version};
use node::council::register::{Command, Keepers, Query, Refusal, Reply};
use node::council::{self};
use wire::Tile;
use wire::codec::decode_all;

use super::letter::{Answer, Letter, PIECE_BYTES_MAX, Recipe, recipe_for};
use super::{KEEPERS, Keeping};
use crate::capsule::snapshot::parts;
use crate::lease::boottime;

/// After this a keeper that has not answered is asked again.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two attempts, …
const PAUSE: Duration = Duration::from_millis(100);
/// … doubled with each that fails, up to this.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A capsule waits so long for a majority of its keepers at most; its lease is over before, if nobody is to be reached.
const LONGEST: Duration = Duration::from_secs(30);
/// A keeper that is behind for longer is replaced, if another is there.
const MISSED: Duration = Duration::from_secs(4);

/// Why something is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotKept {
    /// Somebody else goes on with it.
    #[error("it runs elsewhere by now: its lease here is over")]
    Lost,
    /// Too few keepers answered.
    #[error(
        "of its keepers ({keepers}) {had} answered within {waited} s, expected {most}; whether it was kept is not known"
    )]
    TooFew {
        /// How many have it.
        had: usize,
        /// How many must.
        most: usize,
        /// Who they are.
        keepers: String,
        /// How long was waited.
        waited: u64,
    },
    /// The voters did not say who keeps it.
    #[error("the fleet's voters do not say who keeps it: {0}")]
    Unnamed(String),
    /// It is longer than what is kept.
    #[error("found a state of {found} bytes, expected at most {most}")]
    TooLong {
        /// Its length.
        found: usize,
        /// The most.
        most: usize,
    },
}

/// What a keeper is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Promise,
    Take(Version),
}

/// What something has become, shared by all who hand it on.
type Bytes = Arc<[u8]>;

#[derive(Debug)]
struct State {
    holder: Holder,
    wishes: BTreeMap<Tile, Wish>,
    /// For whom there is a thread.
    attended: Vec<Tile>,
    /// What the newest version is.
    newest: Bytes,
    resume: Option<Option<(Tile, Version)>>,
    agree: Option<(u32, Vec<Keeper>)>,
    /// What each keeper has taken of this stint.
    taken: BTreeMap<Tile, u64>,
    /// Who has promised itself to this stint.
    promised: BTreeSet<Tile>,
    /// Who could not do what it was asked last, and why.
    unable: BTreeMap<Tile, String>,
    /// Of whom it was said that what it kept is gone.
    emptied: BTreeSet<Tile>,
    kept: Option<u64>,
    lost: bool,
}

/// One life.
#[derive(Debug)]
pub(super) struct Custody {
    keeping: Keeping,
    lease: Lease,
    stint: Stint,
    state: Mutex<State>,
    changed: Condvar,
}

impl Custody {
    /// Asks the voters who keeps it and those what it has become: all of that, or none if it is at its beginning.
    pub(super) fn begin(
        keeping: &Keeping,
        lease: Lease,
        fence: consensus::Index,
    ) -> Result<(Arc<Self>, Option<Bytes>), NotKept> {
        let keepers = named(keeping, lease.program)?;
        let start = boottime();
        let stint = Stint { fence, start };
        let others = keeping.others(&[]);
        let mut effects = Vec::new();
        let holder = Holder::begin(
            stint,
            (keepers.changes, keepers.all),
            others,
            &mut |effect| effects.push(effect),
        );
        let custody = Arc::new(Self {
            keeping: keeping.clone(),
            lease,
            stint,
            state: Mutex::new(State {
                holder,
                wishes: BTreeMap::new(),
                attended: Vec::new(),
                newest: Arc::from([]),
                resume: None,
                agree: None,
                taken: BTreeMap::new(),
                promised: BTreeSet::new(),
                unable: BTreeMap::new(),
                emptied: BTreeSet::new(),
                kept: None,
                lost: false,
            }),
            changed: Condvar::new(),
        });
        custody.obey(&mut custody.lock(), effects);
        match custody.recover() {
            Ok(bytes) => Ok((custody, bytes)),
            Err(because) => {
                custody.end();
                Err(because)
            }
        }
    }

    fn recover(self: &Arc<Self>) -> Result<Option<Bytes>, NotKept> {
        let resume = self.wait(|state| state.resume)?;
        let Some((from, version)) = resume else {
            return Ok(None);
        };
        let bytes: Bytes = self.fetch(from, version)?.into();
        let mut state = self.lock();
        state.newest = Arc::clone(&bytes);
        self.tell(&mut state, Input::AtHand);
        drop(state);
        self.wait(|state| state.kept.filter(|kept| *kept >= version.number))?;
        Ok(Some(bytes))
    }

    /// Keeps this, which so many events have gone into; returns once it may be told.
    pub(super) fn keep(self: &Arc<Self>, events: u64, bytes: Vec<u8>) -> Result<(), NotKept> {
        let mut state = self.lock();
        state.newest = bytes.into();
        self.tell(&mut state, Input::Keep(events));
        drop(state);
        self.wait(|state| state.kept.filter(|kept| *kept >= events))
            .map(drop)
    }

    pub(super) fn fence(&self) -> consensus::Index {
        self.stint.fence
    }

    /// Nobody of this life waits for anything any more.
    pub(super) fn end(&self) {
        self.lock().lost = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(self: &Arc<Self>, state: &mut State, input: Input) {
        let mut effects = Vec::new();
        state
            .holder
            .handle(input, &mut |effect| effects.push(effect));
        self.obey(state, effects);
    }

    fn obey(self: &Arc<Self>, state: &mut State, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Ask(tile) => self.wish(state, tile, Wish::Promise),
                Effect::Give(tile, version) => self.wish(state, tile, Wish::Take(version)),
                Effect::Resume(from) => state.resume = Some(from),
                Effect::Agree(change, keepers) => state.agree = Some((change, keepers)),
                Effect::Kept(number) => state.kept = Some(number),
                Effect::Lost(_) => state.lost = true,
            }
        }
        self.changed.notify_all();
    }

    fn wish(self: &Arc<Self>, state: &mut State, tile: Tile, wish: Wish) {
        state.wishes.insert(tile, wish);
        if state.attended.contains(&tile) {
            return;
        }
        let custody = Arc::clone(self);
        let thread = thread::Builder::new().name("keeper".into());
        // Where there is no thread for it this keeper does not answer, and is replaced if others do.
        if thread.spawn(move || custody.attend(tile)).is_ok() {
            state.attended.push(tile);
        }
    }

    /// Waits for something, and asks the voters and replaces keepers meanwhile.
    fn wait<T>(self: &Arc<Self>, come: impl Fn(&State) -> Option<T>) -> Result<T, NotKept> {
        let begun = boottime();
        loop {
            let waited = Duration::from_nanos(boottime().saturating_sub(begun));
            let mut state = self.lock();
            if state.lost {
                return Err(NotKept::Lost);
            }
            if let Some(come) = come(&state) {
                return Ok(come);
            }
            if waited > LONGEST {
                return Err(self.too_few(&state, waited));
            }
            if let Some((change, keepers)) = state.agree.clone() {
                drop(state);
                self.agree(change, keepers);
                continue;
            }
            if waited > MISSED {
                self.replace(&mut state);
            }
            let waiting = self.changed.wait_timeout(state, PAUSE);
            drop(waiting.unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn too_few(&self, state: &State, waited: Duration) -> NotKept {
        let keepers = state.holder.keepers();
        let emptied: Vec<_> = state.holder.emptied().collect();
        let names = keepers.iter().map(|Keeper { tile, .. }| {
            let name = self.keeping.name(*tile);
            match state.unable.get(tile) {
                _ if emptied.contains(tile) => format!("{name}: {GONE}"),
                Some(because) => format!("{name}: {because}"),
                None => name,
            }
        });
        let newest = state.taken.values().max();
        let has = |Keeper { tile, .. }: &&Keeper| match newest {
            _ if emptied.contains(tile) => false,
            Some(_) => state.taken.get(tile) == newest,
            None => state.promised.contains(tile),
        };
        NotKept::TooFew {
            had: keepers.iter().filter(has).count(),
            most: consensus::keep::majority(keepers.len()),
            keepers: names.collect::<Vec<_>>().join(", "),
            waited: waited.as_secs(),
        }
    }

    /// Tells the voters who keeps it from now on.
    fn agree(self: &Arc<Self>, change: u32, keepers: Vec<Keeper>) {
        let command = Command::Keep {
            lease: self.lease,
            stint: self.stint,
            change,
            keepers: keepers.clone(),
        };
        let answer = self.keeping.fleet.agree(council::apply(&command));
        let done = match answer.map(|bytes| decode_all::<Reply>(&bytes)) {
            Ok(Ok(Reply::Done)) => true,
            Ok(Ok(Reply::Refused(Refusal::Unknown))) => false,
            // Whether it was heard is not known, so it is said again.
            _ => return pause(PAUSE),
        };
        let mut state = self.lock();
        if state.agree.as_ref() == Some(&(change, keepers)) {
            state.agree = None;
        }
        self.tell(&mut state, Input::Agreed(change, done));
    }

    /// Puts others in the place of keepers that do not answer, if there are any.
    fn replace(self: &Arc<Self>, state: &mut State) {
        let keepers = state.holder.keepers().to_vec();
        let newest = state.taken.values().max().copied();
        let unheard: Vec<_> = state.holder.unheard().collect();
        let behind = keepers
            .iter()
            .map(|keeper| keeper.tile)
            .filter(|tile| newest.is_some() && state.taken.get(tile).copied() < newest);
        let silent: Vec<_> = behind.chain(unheard.iter().copied()).collect();
        if silent.is_empty() || state.holder.moves() && unheard.is_empty() {
            return;
        }
        let next = self.keeping.others(&silent);
        let same = keepers
            .iter()
            .map(|keeper| keeper.tile)
            .eq(next.iter().copied());
        if next.len() >= keepers.len() && !next.is_empty() && !same {
            self.tell(state, Input::Move(next));
        }
    }

    /// After something was kept: whether a keeper should be replaced that was behind all the while, or has lost what it kept.
    pub(super) fn tend(self: &Arc<Self>) {
        let (keepers, behind, emptied, moves) = {
            let state = self.lock();
            let newest = state.taken.values().max().copied();
            let keepers = state.holder.keepers().to_vec();
            let tiles = keepers.iter().map(|keeper| keeper.tile);
            let unheard: Vec<_> = state.holder.unheard().collect();
            let behind = tiles.filter(|tile| state.taken.get(tile).copied() < newest);
            let behind: Vec<_> = behind
                .chain(unheard.iter().copied())
                .map(|tile| (tile, state.unable.contains_key(&tile)))
                .collect();
            let moves = state.holder.moves() && unheard.is_empty();
            let emptied = state.holder.emptied().next().is_some();
            (keepers, behind, emptied, moves)
        };
        // Who is there and cannot keep it is no better than who is not.
        let gone: Vec<_> = behind
            .into_iter()
            .filter(|(tile, unable)| *unable || !self.keeping.is_there(*tile))
            .map(|(tile, _)| tile)
            .collect();
        let next = self.keeping.others(&gone);
        // A fleet that has grown since keeps more copies; one that has lost somebody keeps as many as before.
        let better = (emptied || !gone.is_empty()) && next.len() >= keepers.len()
            || next.len() > keepers.len() && keepers.len() < KEEPERS;
        if better && !moves {
            self.tell(&mut self.lock(), Input::Move(next));
        }
        let agree = self.lock().agree.clone();
        if let Some((change, keepers)) = agree {
            self.agree(change, keepers);
        }
    }

    /// A keeper is about to go: another is to keep it, or one fewer. Whether that is so already.
    pub(super) fn relieve(self: &Arc<Self>, of: Tile) -> bool {
        let next = self.keeping.others(&[]);
        let agree = {
            let mut state = self.lock();
            let keeps = keeps(&state.holder, of);
            if keeps && !next.is_empty() && !state.holder.moves() {
                self.tell(&mut state, Input::Move(next));
            }
            state.agree.clone()
        };
        if let Some((change, keepers)) = agree {
            self.agree(change, keepers);
        }
        !keeps(&self.lock().holder, of)
    }

    /// Asks one keeper whatever it is to be asked, until this life is over.
    fn attend(self: Arc<Self>, tile: Tile) {
        let mut had: Option<(Version, Bytes)> = None;
        let mut patience = PAUSE;
        loop {
            let (wish, newest) = {
                let mut state = self.lock();
                loop {
                    if state.lost {
                        return;
                    }
                    if let Some(wish) = state.wishes.get(&tile) {
                        break (*wish, Arc::clone(&state.newest));
                    }
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            };
            let input = match wish {
                Wish::Promise => self.promise(tile),
                Wish::Take(version) => self.give(tile, version, &newest, &mut had),
            };
            let input = match input {
                Ok(input) => input,
                Err(because) => {
                    self.note(tile, because);
                    pause(patience);
                    patience = (patience * 2).min(PAUSE_MAX);
                    continue;
                }
            };
            patience = PAUSE;
            let mut state = self.lock();
            state.unable.remove(&tile);
            if let Input::Answered(_, Ok(_)) = &input {
                state.promised.insert(tile);
            }
            if state.wishes.get(&tile) == Some(&wish) {
                state.wishes.remove(&tile);
            }
            if let Input::Took(_, Ok(version)) = &input {
                state.taken.insert(tile, version.number);
            }
            self.tell(&mut state, input);
            let emptied = state.holder.emptied().any(|emptied| emptied == tile);
            if emptied && state.emptied.insert(tile) {
                drop(state);
                self.warn(tile, GONE);
            }
        }
    }

    /// Remembers why a keeper does not keep it, and says so the first time.
    fn note(&self, tile: Tile, because: String) {
        let mut state = self.lock();
        if state.unable.insert(tile, because.clone()).is_none() && !state.lost {
            drop(state);
            self.warn(tile, &because);
        }
    }

    fn warn(&self, tile: Tile, because: &str) {
        let name = self.keeping.name(tile);
        eprintln!(
            "warning: {name} does not keep what program {} becomes: {because}",
            self.lease.program
        );
    }

    fn ask(&self, tile: Tile, letter: Letter) -> Result<Answer, String> {
        match self.keeping.ask(tile, letter, PATIENCE) {
            Some(Answer::Unable(because)) => Err(because),
            Some(answer) => Ok(answer),
            None => Err("it does not answer".to_owned()),
        }
    }

    fn promise(&self, tile: Tile) -> Result<Input, String> {
        let letter = Letter::Ask {
            program: self.lease.program,
            stint: self.stint,
        };
        match self.ask(tile, letter)? {
            Answer::Has(mark, has) => Ok(Input::Answered(Keeper { tile, mark }, Ok(has))),
            Answer::Later(later) => Ok(Input::Answered(unmarked(tile), Err(later))),
            other => Err(unasked(&other)),
        }
    }

    fn give(
        &self,
        tile: Tile,
        version: Version,
        bytes: &Bytes,
        had: &mut Option<(Version, Bytes)>,
    ) -> Result<Input, String> {
        let program = self.lease.program;
        let hash = *blake3::hash(bytes).as_bytes();
        let give = |recipe| Letter::Give {
            program,
            version,
            hash,
            recipe,
        };
        let words = had.as_ref().and_then(|(base, old)| {
            let words = recipe_for(&parts(old), &parts(bytes))?;
            Some(Recipe::From(*base, words))
        });
        let mut answer = match words {
            Some(recipe) => self.ask(tile, give(recipe))?,
            None => Answer::Lacks,
        };
        if answer == Answer::Lacks {
            let pieces = bytes
                .chunks(PIECE_BYTES_MAX)
                .zip((0_u64..).step_by(PIECE_BYTES_MAX));
            for (piece, from) in pieces {
                let piece = Letter::Bring {
                    program,
                    version,
                    from,
                    bytes: piece.to_vec(),
                };
                answer = self.ask(tile, piece)?;
                if answer != Answer::Taken {
                    break;
                }
            }
            if answer == Answer::Taken {
                answer = self.ask(tile, give(Recipe::Brought))?;
            }
        }
        match answer {
            Answer::Kept(mark) => {
                *had = Some((version, Arc::clone(bytes)));
                Ok(Input::Took(Keeper { tile, mark }, Ok(version)))
            }
            Answer::Later(later) => Ok(Input::Took(unmarked(tile), Err(later))),
            other => {
                *had = None;
                Err(unasked(&other))
            }
        }
    }

    /// What a keeper has.
    fn fetch(&self, from: Tile, version: Version) -> Result<Vec<u8>, NotKept> {
        let mut all = Vec::new();
        let begun = boottime();
        loop {
            let letter = Letter::Fetch {
                program: self.lease.program,
                version,
                from: all.len() as u64,
            };
            match self.ask(from, letter) {
                Ok(Answer::Piece(length, bytes)) => {
                    let stuck = bytes.is_empty();
                    all.extend(bytes);
                    if all.len() as u64 >= length {
                        return Ok(all);
                    }
                    if !stuck {
                        continue;
                    }
                }
                // It has something newer: somebody goes on with it.
                Ok(Answer::Lacks) => return Err(NotKept::Lost),
                _ => {}
            }
            let waited = Duration::from_nanos(boottime().saturating_sub(begun));
            let state = self.lock();
            if state.lost {
                return Err(NotKept::Lost);
            }
            if waited > PATIENCE * 2 {
                // Asked again, another of the majority may be the one that has it.
                return Err(self.too_few(&state, waited));
            }
            drop(state);
            pause(PAUSE);
        }
    }
}

/// What is said of a keeper whose shelf is not the one that was named.
const GONE: &str = "what it kept is gone, so it counts no more until it is named again";

/// Whether a machine is one of the keepers.
fn keeps(holder: &Holder, tile: Tile) -> bool {
    holder.keepers().iter().any(|keeper| keeper.tile == tile)
}

fn unasked(answer: &Answer) -> String {
    match answer {
        Answer::Lacks => "it lacks what it was brought".to_owned(),
        _ => "it answers something else than was asked".to_owned(),
    }
}

/// Who is promised to another says so, whatever its shelf.
fn unmarked(tile: Tile) -> Keeper {
    let mark = Mark::default();
    Keeper { tile, mark }
}

/// Who keeps a program, by the voters.
pub(super) fn named(keeping: &Keeping, program: u64) -> Result<Keepers, NotKept> {
    let answer = keeping.fleet.agree(council::read(Query::Keepers(program)));
    match answer.map(|bytes| decode_all::<Reply>(&bytes)) {
        Ok(Ok(Reply::Keepers(keepers))) => Ok(keepers),
        Ok(Ok(Reply::Refused(refusal))) => Err(NotKept::Unnamed(refusal.words().to_owned())),
        Ok(_) => Err(NotKept::Unnamed(Refusal::Unreadable.words().to_owned())),
        Err(_) => Err(NotKept::Unnamed("no majority of them answers".to_owned())),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "nobody says when another machine can be reached again"
)]
fn pause(span: Duration) {
    thread::sleep(span);
}
