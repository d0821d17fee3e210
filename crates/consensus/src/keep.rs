//! Where is what must outlive its holder?
//!
//! A lease says who runs something; what that has become meanwhile is too long for the log, and changes too often. So it lies with a few
//! *keepers*, and the log only says who they are. What a holder tells anybody, it first gives to a majority of them; whoever holds the lease next asks a majority
//! first. Two majorities share a keeper, so nothing that was told is missing. That is the register of Attiya, Bar-Noy and Dolev
//! (*Sharing Memory Robustly in Message-Passing Systems*, JACM 1995) for one writer at a time.
//!
//! One at a time is what leases promise and what is not built on here. Each life of a holder is a [`Stint`]: the entry that granted the lease, and which of its
//! starts under it. A keeper that has promised itself to a later stint takes nothing from an earlier one ([`Shelf`]), so a holder
//! that does not know yet that it is none can change nothing any more, and say nothing.
//!
//! * **Begin**: ask all keepers; the newest [`Version`] of a majority is what to go on from. It may have reached a minority only, and is about to be told:
//!   so it is first given to a majority anew, under the stint that goes on with it.
//! * **Keep**: give each version to all keepers; it is kept once a majority has it.
//! * **Move**: a keeper that is gone is replaced, while there is still a majority of the old ones. What is kept is given to a majority of the new ones, then the log is
//!   asked to name those, and only takes it from who holds the lease by the log's own account, as the next change. Until it has answered, nothing is kept that has not both majorities.
//!
//! A keeper that was emptied, because its disk was replaced or somebody removed what lay there, must not be heard as one that never had anything: a majority of such
//! answers could hide what was told. So the log does not name machines but shelves: each has a [`Mark`] that was drawn by chance when it was set up and is lost with
//! what lay there. Whatever stands there afterwards has another, which nobody has named: it answers, and counts for nothing until the log names it as well
//! ([`Holder::emptied`]). Where a majority was emptied, nobody goes on: what was told is lost, and that shows.
//!
//! A [`Holder`] decides; how bytes travel, and that a keeper is asked until it answers, is its world's business. Loss, delay and repetition are all one to it.
//!
//! Deliberately absent: the bytes, timers, who should be a keeper.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use wire::Tile;

use crate::Index;

/// One life of a holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stint {
    /// The entry that granted the lease.
    pub fence: Index,
    /// Which start under it: later ones are greater.
    pub start: u64,
}

/// What was kept, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// By whom.
    pub by: Stint,
    /// What it is of that stint's versions: later ones are greater.
    pub number: u64,
}

/// Tells a shelf from any other that stands on the same machine before or after it, for the same program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub u64);

/// A keeper: a machine, and which shelf of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Keeper {
    /// Where.
    pub tile: Tile,
    /// Which.
    pub mark: Mark,
}

/// What a keeper goes by. It must be durable before an answer that rests on it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shelf {
    /// Nothing of an earlier stint is taken any more.
    pub promised: Stint,
    /// What lies there.
    pub has: Option<Version>,
}

impl Shelf {
    /// Promises itself to a stint, and says what lies there.
    ///
    /// # Errors
    /// The later stint to which it is promised already.
    pub fn promise(&mut self, to: Stint) -> Result<Option<Version>, Stint> {
        if to < self.promised {
            return Err(self.promised);
        }
        self.promised = to;
        Ok(self.has)
    }

    /// Whether a version is to be put in the place of what lies there; one that is not newer is there already, as far as its giver cares.
    ///
    /// # Errors
    /// The later stint to which it is promised.
    pub fn take(&mut self, version: Version) -> Result<bool, Stint> {
        if version.by < self.promised {
            return Err(self.promised);
        }
        self.promised = version.by;
        let newer = self.has < Some(version);
        if newer {
            self.has = Some(version);
        }
        Ok(newer)
    }
}

/// What can happen to a holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A keeper answered [`Effect::Ask`]: what it has, or to which later stint it is promised.
    Answered(Keeper, Result<Option<Version>, Stint>),
    /// What [`Effect::Resume`] named is at hand.
    AtHand,
    /// A keeper answered [`Effect::Give`]: it has that version, or is promised to a later stint.
    Took(Keeper, Result<Version, Stint>),
    /// There is something new to be kept; numbers grow.
    Keep(u64),
    /// These should be the keepers instead, or instead of those that should be, as long as the log was not asked.
    Move(Vec<Tile>),
    /// The log has answered [`Effect::Agree`] about that change: whether those are the keepers now.
    Agreed(u32, bool),
}

/// What a holder asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask this keeper to promise itself, until it answers.
    Ask(Tile),
    /// Go on from what this keeper has, or from the beginning. Then, if there is something, say that it is [`Input::AtHand`]; it is the holder's once it is [`Effect::Kept`].
    Resume(Option<(Tile, Version)>),
    /// Give this to that keeper, until it answers or something newer is to be given to it.
    Give(Tile, Version),
    /// Ask the log to name these as the keepers, by their so-manieth change, until it has answered. It may be heard twice: so the log goes by the change.
    Agree(u32, Vec<Keeper>),
    /// All up to this number is kept and may be told.
    Kept(u64),
    /// A later stint goes on with it, or, if it is this one, the log takes nothing from it: then it may begin again as another. Nothing may be told by this one any more, ever.
    Lost(Stint),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing was ever kept, and nobody is named to keep it: the first keepers are asked who they are, and proposed.
    Founding,
    /// What is kept is being found out.
    Asking(BTreeMap<Tile, Option<Version>>),
    /// The newest is being fetched.
    Fetching(Version),
    Keeping,
    Lost,
}

/// A holder's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    stint: Stint,
    /// How often the log was told who they are, and who.
    changes: u32,
    keepers: Vec<Keeper>,
    /// Who should take their place; both count until the log has answered.
    next: Option<Vec<Tile>>,
    /// The same, as the log was asked to name them.
    proposed: Option<Vec<Keeper>>,
    phase: Phase,
    /// Which shelf was found on each machine last.
    found: BTreeMap<Tile, Mark>,
    /// The last number that each has taken of this stint.
    taken: BTreeMap<Keeper, u64>,
    /// The newest that is to be kept, if there is any.
    newest: Option<u64>,
    /// The last that was.
    kept: Option<u64>,
    /// What it began with, which an earlier stint may have told.
    resumed: Option<u64>,
}

/// How many of so many make two of their kind share one.
#[must_use]
pub const fn majority(of: usize) -> usize {
    of / 2 + 1
}

impl Holder {
    /// A stint under a lease whose keepers are those, by the log and so many changes; `others` are to be them if there are none yet.
    pub fn begin(
        stint: Stint,
        (changes, keepers): (u32, Vec<Keeper>),
        others: Vec<Tile>,
        out: &mut impl FnMut(Effect),
    ) -> Self {
        let founds = keepers.is_empty();
        let phase = match founds {
            true => Phase::Founding,
            false => Phase::Asking(BTreeMap::new()),
        };
        let asked = keepers.iter().map(|keeper| keeper.tile);
        let founding = others.iter().copied().filter(|_| founds);
        asked
            .chain(founding)
            .for_each(|tile| out(Effect::Ask(tile)));
        Self {
            stint,
            changes,
            keepers,
            next: founds.then_some(others),
            proposed: None,
            phase,
            found: BTreeMap::new(),
            taken: BTreeMap::new(),
            newest: None,
            kept: None,
            resumed: None,
        }
    }

    /// Who keeps it, by the log.
    #[must_use]
    pub fn keepers(&self) -> &[Keeper] {
        &self.keepers
    }

    /// Whether they are being replaced, or named for the first time.
    #[must_use]
    pub const fn moves(&self) -> bool {
        self.next.is_some()
    }

    /// Who should be one and has not been asked to the log, because it has not answered yet.
    pub fn unheard(&self) -> impl Iterator<Item = Tile> + '_ {
        let next = self.next.iter().flatten();
        let next = next.filter(|_| self.proposed.is_none());
        next.copied().filter(|tile| !self.found.contains_key(tile))
    }

    /// Who of them has another shelf than the one that was named: what it kept is gone.
    pub fn emptied(&self) -> impl Iterator<Item = Tile> + '_ {
        let other = |keeper: &&Keeper| {
            let found = self.found.get(&keeper.tile);
            found.is_some_and(|mark| *mark != keeper.mark)
        };
        self.keepers.iter().filter(other).map(|keeper| keeper.tile)
    }

    /// Something happened.
    pub fn handle(&mut self, input: Input, out: &mut impl FnMut(Effect)) {
        if self.phase == Phase::Lost {
            return;
        }
        match input {
            Input::Answered(_, Err(later)) | Input::Took(_, Err(later)) => {
                self.phase = Phase::Lost;
                out(Effect::Lost(later));
            }
            Input::Answered(from, Ok(has)) => self.answered(from, has, out),
            Input::AtHand => {
                if let Phase::Fetching(version) = self.phase {
                    self.phase = Phase::Keeping;
                    self.resumed = Some(version.number);
                    self.keep(version.number, out);
                }
            }
            Input::Took(from, Ok(version)) if version.by == self.stint => {
                self.found.insert(from.tile, from.mark);
                let taken = self.taken.entry(from).or_default();
                *taken = version.number.max(*taken);
                self.count(out);
            }
            Input::Took(..) => {}
            Input::Keep(number) => {
                if self.phase == Phase::Keeping && self.newest < Some(number) {
                    self.keep(number, out);
                }
            }
            Input::Move(to) => {
                let founds = self.phase == Phase::Founding;
                if (founds || self.phase == Phase::Keeping)
                    && self.proposed.is_none()
                    && !to.is_empty()
                {
                    for tile in to.iter().filter(|tile| !self.found.contains_key(tile)) {
                        out(Effect::Ask(*tile));
                    }
                    self.next = Some(to);
                    self.give(out);
                    self.count(out);
                }
            }
            Input::Agreed(change, done) => self.agreed(change, done, out),
        }
    }

    fn answered(&mut self, from: Keeper, has: Option<Version>, out: &mut impl FnMut(Effect)) {
        self.found.insert(from.tile, from.mark);
        let Phase::Asking(answers) = &mut self.phase else {
            return self.count(out);
        };
        if !self.keepers.contains(&from) {
            return;
        }
        answers.insert(from.tile, has);
        if answers.len() < majority(self.keepers.len()) {
            return;
        }
        let newest = answers
            .iter()
            .filter_map(|(from, has)| Some((*from, (*has)?)));
        let newest = newest.max_by_key(|(_, version)| *version);
        self.phase = match newest {
            Some((_, version)) => Phase::Fetching(version),
            None => Phase::Keeping,
        };
        out(Effect::Resume(newest));
    }

    fn agreed(&mut self, change: u32, done: bool, out: &mut impl FnMut(Effect)) {
        if change != self.changes + 1 {
            return;
        }
        let Some(next) = self.proposed.take() else {
            return;
        };
        self.next = None;
        if !done {
            // Whom the log refuses does not hold the lease any more. It may have heard it before, all the same, and so the old ones may be none now.
            self.phase = Phase::Lost;
            return out(Effect::Lost(self.stint));
        }
        self.changes += 1;
        self.keepers = next;
        if self.phase == Phase::Founding {
            self.phase = Phase::Keeping;
            out(Effect::Resume(None));
        }
        self.count(out);
    }

    fn keep(&mut self, number: u64, out: &mut impl FnMut(Effect)) {
        self.newest = Some(number);
        self.give(out);
    }

    /// To everybody who is not known to have it.
    fn give(&self, out: &mut impl FnMut(Effect)) {
        let Some(number) = self.newest else {
            return;
        };
        let by = self.stint;
        let mut all: Vec<Tile> = self.keepers.iter().map(|keeper| keeper.tile).collect();
        all.extend(self.next.iter().flatten());
        all.sort_unstable();
        all.dedup();
        for tile in all {
            let found = self
                .found
                .get(&tile)
                .map(|mark| Keeper { tile, mark: *mark });
            let taken = found.and_then(|keeper| self.taken.get(&keeper));
            if taken.is_none_or(|taken| *taken < number) {
                out(Effect::Give(tile, Version { by, number }));
            }
        }
    }

    /// Who should take the keepers' place, as far as it has been found: as it was proposed, if it was.
    fn coming(&self) -> Option<Vec<Option<Keeper>>> {
        if let Some(proposed) = &self.proposed {
            return Some(proposed.iter().copied().map(Some).collect());
        }
        let found = |tile: &Tile| {
            let mark = *self.found.get(tile)?;
            Some(Keeper { tile: *tile, mark })
        };
        Some(self.next.as_ref()?.iter().map(found).collect())
    }

    /// The last number that a majority of these has.
    fn with_most(&self, of: impl ExactSizeIterator<Item = Option<Keeper>>) -> Option<u64> {
        let count = of.len();
        let mut taken: Vec<_> = of.map(|keeper| self.taken.get(&keeper?).copied()).collect();
        taken.sort_unstable_by(|a, b| b.cmp(a));
        taken.get(majority(count) - 1).copied().flatten()
    }

    fn count(&mut self, out: &mut impl FnMut(Effect)) {
        let coming = self.coming();
        let there = (coming.as_ref()).map(|coming| self.with_most(coming.iter().copied()));
        // Named are shelves, so all of them must have been found; and what anybody may have been told goes along before the log names others.
        if let (Some(coming), Some(there), None) = (coming, there, &self.proposed)
            && matches!(self.phase, Phase::Founding | Phase::Keeping)
            && let Some(coming) = coming.into_iter().collect::<Option<Vec<_>>>()
            && there >= self.kept.max(self.resumed)
        {
            self.proposed = Some(coming.clone());
            out(Effect::Agree(self.changes + 1, coming));
        }
        if self.keepers.is_empty() {
            return;
        }
        let here = self.with_most(self.keepers.iter().copied().map(Some));
        let both = match there {
            Some(there) => here.min(there),
            None => here,
        };
        if both > self.kept {
            self.kept = both;
            out(Effect::Kept(both.expect("it is more than something")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use machine::{Purpose, Stream};

    const A: Tile = Tile(1);
    const B: Tile = Tile(2);
    const C: Tile = Tile(3);

    fn stint(fence: u64) -> Stint {
        Stint {
            fence: Index(fence),
            start: 0,
        }
    }

    /// On the first shelf of its machine.
    fn keeper(tile: Tile) -> Keeper {
        let mark = Mark(tile.0);
        Keeper { tile, mark }
    }

    fn told(holder: &mut Holder, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        holder.handle(input, &mut |effect| effects.push(effect));
        effects
    }

    #[test]
    fn what_reached_a_minority_is_given_to_a_majority_before_it_is_told() {
        let mut begun = Vec::new();
        let all = [A, B, C].map(keeper).to_vec();
        let mut holder =
            Holder::begin(stint(9), (1, all), vec![], &mut |effect| begun.push(effect));
        assert_eq!(begun, [A, B, C].map(Effect::Ask));
        let old = Version {
            by: stint(3),
            number: 5,
        };
        assert_eq!(told(&mut holder, Input::Answered(keeper(A), Ok(None))), []);
        let resumed = told(&mut holder, Input::Answered(keeper(C), Ok(Some(old))));
        assert_eq!(resumed, [Effect::Resume(Some((C, old)))]);
        let mine = Version {
            by: stint(9),
            number: 5,
        };
        let given = told(&mut holder, Input::AtHand);
        assert_eq!(given, [A, B, C].map(|tile| Effect::Give(tile, mine)));
        assert_eq!(told(&mut holder, Input::Took(keeper(A), Ok(mine))), []);
        assert_eq!(
            told(&mut holder, Input::Took(keeper(B), Ok(mine))),
            [Effect::Kept(5)]
        );
        assert_eq!(
            told(&mut holder, Input::Took(keeper(C), Err(stint(10)))),
            [Effect::Lost(stint(10))]
        );
        assert_eq!(told(&mut holder, Input::Keep(6)), []);
    }

    #[test]
    fn who_was_emptied_counts_for_nothing_until_the_log_names_what_it_has_now() {
        let all = [A, B, C].map(keeper).to_vec();
        let mut holder = Holder::begin(stint(9), (1, all), vec![], &mut |_| {});
        let (by, emptied) = (
            stint(3),
            Keeper {
                tile: A,
                mark: Mark(77),
            },
        );
        let old = Version { by, number: 5 };
        let never = Ok(None);
        assert_eq!(told(&mut holder, Input::Answered(emptied, never)), []);
        assert_eq!(told(&mut holder, Input::Answered(keeper(B), never)), []);
        assert_eq!(holder.emptied().collect::<Vec<_>>(), [A]);
        let resumed = told(&mut holder, Input::Answered(keeper(C), Ok(Some(old))));
        assert_eq!(resumed, [Effect::Resume(Some((C, old)))]);
        told(&mut holder, Input::AtHand);
        let (by, number) = (stint(9), 5);
        let took = |keeper| Input::Took(keeper, Ok(Version { by, number }));
        assert_eq!(told(&mut holder, took(emptied)), []);
        assert_eq!(told(&mut holder, took(keeper(B))), []);
        assert_eq!(told(&mut holder, took(keeper(C))), [Effect::Kept(5)]);
        let next = vec![emptied, keeper(B), keeper(C)];
        let asked = told(&mut holder, Input::Move(vec![A, B, C]));
        assert_eq!(asked, [Effect::Agree(2, next)]);
        assert_eq!(told(&mut holder, Input::Agreed(2, true)), []);
        assert_eq!(holder.emptied().count(), 0);
    }

    #[test]
    fn who_does_not_say_what_shelf_it_has_is_not_named_and_another_may_be() {
        let mut begun = Vec::new();
        let mut holder = Holder::begin(stint(9), (0, vec![]), vec![A, B, C], &mut |effect| {
            begun.push(effect)
        });
        assert_eq!(begun, [A, B, C].map(Effect::Ask));
        for tile in [A, B] {
            assert_eq!(
                told(&mut holder, Input::Answered(keeper(tile), Ok(None))),
                []
            );
        }
        assert_eq!(holder.unheard().collect::<Vec<_>>(), [C]);
        let named = vec![keeper(A)];
        let asked = told(&mut holder, Input::Move(vec![A]));
        assert_eq!(asked, [Effect::Agree(1, named)]);
        assert_eq!(
            told(&mut holder, Input::Agreed(1, true)),
            [Effect::Resume(None)]
        );
    }

    /// A few holders, one after the other and at the same time, and keepers between whom anything is lost, late or doubled. Each version is the list of what was
    /// told: (stint, number) of all versions that led to it.
    struct World {
        chance: Stream,
        shelves: BTreeMap<Tile, Lies>,
        /// Of the last shelf that was set up.
        marks: u64,
        /// By the log.
        keepers: (u32, Stint, Vec<Keeper>),
        granted: u64,
        holders: Vec<Living>,
        /// On their way: to which holder, what.
        answers: Vec<(usize, Input)>,
        /// On their way: from which holder.
        asked: Vec<(usize, Effect)>,
        /// The longest list that anybody was told of.
        told: Vec<Version>,
        kept: usize,
        moved: usize,
        resumed: usize,
        emptied: usize,
        /// Whether keepers are emptied, besides.
        empties: bool,
    }

    /// What a machine has.
    struct Lies {
        mark: Mark,
        shelf: Shelf,
        list: Vec<Version>,
    }

    impl Lies {
        fn new(marks: &mut u64) -> Self {
            *marks += 1;
            Self {
                mark: Mark(*marks),
                shelf: Shelf::default(),
                list: Vec::new(),
            }
        }
    }

    struct Living {
        stint: Stint,
        holder: Holder,
        /// What each of its versions is.
        versions: BTreeMap<u64, Vec<Version>>,
        number: u64,
        ready: bool,
        dead: bool,
    }

    impl World {
        fn below(&mut self, bound: u64) -> u64 {
            self.chance.below(bound)
        }

        fn begin(&mut self) {
            self.granted += 1;
            let stint = stint(self.granted);
            let (at, mut effects) = (self.holders.len(), Vec::new());
            let others = self.some_tiles();
            let (changes, _, keepers) = self.keepers.clone();
            let holder = Holder::begin(stint, (changes, keepers), others, &mut |effect| {
                effects.push((at, effect));
            });
            self.asked.extend(effects);
            self.holders.push(Living {
                stint,
                holder,
                versions: BTreeMap::new(),
                number: 0,
                ready: false,
                dead: false,
            });
        }

        fn some_tiles(&mut self) -> Vec<Tile> {
            let mut all: Vec<_> = self.shelves.keys().copied().collect();
            let count = 1 + self.below(4) as usize;
            while all.len() > count {
                let at = self.below(all.len() as u64) as usize;
                all.remove(at);
            }
            all
        }

        fn tell(&mut self, at: usize, input: Input) {
            if self.holders[at].dead {
                return;
            }
            let mut effects = Vec::new();
            let living = &mut self.holders[at];
            living
                .holder
                .handle(input, &mut |effect| effects.push(effect));
            for effect in effects {
                match effect {
                    Effect::Kept(number) => {
                        let living = &mut self.holders[at];
                        living.ready = true;
                        let list = living.versions[&number].clone();
                        let (shorter, longer) = match list.len() < self.told.len() {
                            true => (&list, &self.told),
                            false => (&self.told, &list),
                        };
                        assert!(
                            longer.starts_with(shorter),
                            "{list:?} after {:?}",
                            self.told
                        );
                        // Who keeps something has all that was told before it, unless that was told by itself, or by one that came later: then the last
                        // answer that it needed was late.
                        assert!(
                            list.len() >= self.told.len()
                                || self.told.last().is_some_and(|last| last.by >= living.stint),
                            "{list:?} after {:?}",
                            self.told
                        );
                        if list.len() > self.told.len() {
                            self.told = list;
                            self.kept += 1;
                        }
                    }
                    Effect::Resume(None) => self.holders[at].ready = true,
                    other => self.asked.push((at, other)),
                }
            }
        }

        /// Carries one thing, loses it, or carries it twice.
        fn carry(&mut self) {
            let all = self.asked.len() + self.answers.len();
            if all == 0 {
                return;
            }
            let at = self.below(all as u64) as usize;
            let (lost, twice) = (self.below(10) == 0, self.below(10) == 0);
            if at < self.asked.len() {
                let (from, effect) = match twice {
                    true => self.asked[at].clone(),
                    false => self.asked.swap_remove(at),
                };
                // The world asks until it is answered, so only the asking of the dead is lost for good.
                if self.holders[from].dead && lost {
                    return;
                }
                self.obey(from, effect);
            } else {
                let at = at - self.asked.len();
                let (to, input) = match twice {
                    true => self.answers[at].clone(),
                    false => self.answers.swap_remove(at),
                };
                self.tell(to, input);
            }
        }

        fn obey(&mut self, from: usize, effect: Effect) {
            let stint = self.holders[from].stint;
            match effect {
                Effect::Ask(tile) => {
                    let lies = self.shelves.get_mut(&tile).unwrap();
                    let (mark, answer) = (lies.mark, lies.shelf.promise(stint));
                    let keeper = Keeper { tile, mark };
                    self.answers.push((from, Input::Answered(keeper, answer)));
                }
                Effect::Give(tile, version) => {
                    let list = self.holders[from].versions[&version.number].clone();
                    let lies = self.shelves.get_mut(&tile).unwrap();
                    let (mark, answer) = (lies.mark, lies.shelf.take(version));
                    if answer == Ok(true) {
                        lies.list = list;
                    }
                    let (keeper, answer) = (Keeper { tile, mark }, answer.map(|_| version));
                    self.answers.push((from, Input::Took(keeper, answer)));
                }
                Effect::Resume(Some((tile, version))) => {
                    // What lies there may be newer by now than what was named: then it is somebody's who came later, and this one is lost.
                    let lies = &self.shelves[&tile];
                    if lies.shelf.has != Some(version) {
                        self.asked
                            .push((from, Effect::Resume(Some((tile, version)))));
                        return;
                    }
                    let living = &mut self.holders[from];
                    living.versions.insert(version.number, lies.list.clone());
                    living.number = version.number;
                    self.resumed += 1;
                    self.tell(from, Input::AtHand);
                }
                Effect::Agree(change, keepers) => {
                    // The log takes it from who holds the lease.
                    let holds = stint.fence == Index(self.granted);
                    let named = (change, stint, keepers);
                    let next = holds && change == self.keepers.0 + 1;
                    let done = next || holds && self.keepers == named;
                    if next {
                        self.moved += usize::from(change > 1);
                        self.keepers = named;
                    }
                    self.answers.push((from, Input::Agreed(change, done)));
                }
                Effect::Resume(None) | Effect::Kept(_) | Effect::Lost(_) => {}
            }
        }

        fn step(&mut self) {
            let count = self.holders.len() as u64;
            if self.empties && self.below(100) == 0 {
                let tile = Tile(self.below(self.shelves.len() as u64));
                self.shelves.insert(tile, Lies::new(&mut self.marks));
                self.emptied += 1;
            }
            match self.below(40) {
                0 => self.begin(),
                1 if count > 0 => {
                    let at = self.below(count) as usize;
                    self.holders[at].dead = true;
                }
                2 | 3 if count > 0 => {
                    let (at, to) = (self.below(count) as usize, self.some_tiles());
                    self.tell(at, Input::Move(to));
                }
                4..=9 if count > 0 => {
                    let at = self.below(count) as usize;
                    let living = &mut self.holders[at];
                    if living.ready && !living.dead {
                        let mut list = living
                            .versions
                            .get(&living.number)
                            .cloned()
                            .unwrap_or_default();
                        living.number += 1;
                        let (by, number) = (living.stint, living.number);
                        list.push(Version { by, number });
                        living.versions.insert(number, list);
                        self.tell(at, Input::Keep(number));
                    }
                }
                _ => self.carry(),
            }
        }
    }

    fn looked_at(empties: bool, seeds: u64) -> [usize; 4] {
        let mut counted = [0; 4];
        for seed in 0..seeds {
            let mut marks = 0;
            let shelves = (0..5).map(|tile| (Tile(tile), Lies::new(&mut marks)));
            let mut world = World {
                chance: Stream::new(seed, Tile(0), Purpose::Placement),
                shelves: shelves.collect(),
                marks: 5,
                keepers: (0, stint(0), Vec::new()),
                granted: 0,
                holders: Vec::new(),
                answers: Vec::new(),
                asked: Vec::new(),
                told: Vec::new(),
                kept: 0,
                moved: 0,
                resumed: 0,
                emptied: 0,
                empties,
            };
            for _ in 0..600 {
                world.step();
            }
            let World {
                kept,
                moved,
                resumed,
                emptied,
                ..
            } = world;
            for (sum, count) in counted.iter_mut().zip([kept, moved, resumed, emptied]) {
                *sum += count;
            }
        }
        counted
    }

    #[test]
    fn nothing_that_was_told_is_missing_whoever_goes_on_with_it() {
        let [kept, moved, resumed, _] = looked_at(false, 3_000);
        // It is about something.
        assert!(
            kept > 3_000 && moved > 300 && resumed > 1_000,
            "{kept} {moved} {resumed}"
        );
    }

    /// Whoever goes on has all of it, or nobody goes on.
    #[test]
    fn nothing_that_was_told_is_missing_though_keepers_are_emptied() {
        let [kept, moved, resumed, emptied] = looked_at(true, 3_000);
        assert!(
            kept > 1_000 && moved > 100 && resumed > 300 && emptied > 3_000,
            "{kept} {moved} {resumed} {emptied}"
        );
    }
}
