//! What is on the disk, and what must not be said before it is.
//!
//! Every change of term, vote or log is a new version. One write is under way at a time; what
//! changes meanwhile goes into the next one together, so a slow disk makes writes longer instead of
//! queues. A message that promises something waits until the version it speaks of is dry.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::log::Index;
use crate::message::Message;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ink {
    /// Of what is in memory, …
    version: u64,
    /// … of the write under way, with the last entry in it, …
    wet: Option<(u64, Index)>,
    /// … and of what survives a crash.
    dry: u64,
    /// The first entry no write has contained.
    unwritten: Index,
    /// The last entry that survives a crash.
    dry_through: Index,
    /// The next write takes the place of all before it.
    whole: bool,
    /// What may not be said yet, in order of the version each waits for.
    held: VecDeque<(u64, Message)>,
}

impl Ink {
    /// Everything up to here is on the disk.
    pub(crate) const fn dry(through: Index) -> Self {
        Self {
            version: 0,
            wet: None,
            dry: 0,
            unwritten: through.next(),
            dry_through: through,
            whole: false,
            held: VecDeque::new(),
        }
    }

    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    pub(crate) const fn dry_version(&self) -> u64 {
        self.dry
    }

    pub(crate) const fn dry_through(&self) -> Index {
        self.dry_through
    }

    pub(crate) const fn changed(&mut self) {
        self.version += 1;
    }

    /// The log from here on is another than before; what is under way or dry of it counts no more.
    pub(crate) fn cut(&mut self, from: Index) {
        self.unwritten = self.unwritten.min(from);
        self.dry_through = self.dry_through.min(from.before());
        if let Some((_, through)) = &mut self.wet {
            *through = (*through).min(from.before());
        }
        self.changed();
    }

    /// A snapshot has taken the place of the log up to somewhere.
    pub(crate) const fn replaced(&mut self) {
        self.whole = true;
        self.changed();
    }

    pub(crate) fn hold(&mut self, message: Message) {
        self.held.push_back((self.version, message));
    }

    /// Begins the next write, of a log that ends here, if one is due: its token, whether it
    /// replaces all others, and the first entry in it.
    pub(crate) fn dip(&mut self, last: Index) -> Option<(u64, bool, Index)> {
        if self.wet.is_some() || self.version == self.dry {
            return None;
        }
        let from = core::mem::replace(&mut self.unwritten, last.next());
        let whole = core::mem::take(&mut self.whole);
        self.wet = Some((self.version, last));
        Some((self.version, whole, from))
    }

    /// The write with this token is durable.
    pub(crate) fn dries(&mut self, token: u64) {
        if let Some((version, through)) = self.wet.take_if(|(version, _)| *version == token) {
            self.dry = version;
            self.dry_through = self.dry_through.max(through);
        }
    }

    /// What may be said now.
    pub(crate) fn released(&mut self) -> Vec<Message> {
        let ready = self
            .held
            .partition_point(|(version, _)| *version <= self.dry);
        self.held
            .drain(..ready)
            .map(|(_, message)| message)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_overwritten_while_it_dried_is_not_dry() {
        let mut ink = Ink::dry(Index(5));
        ink.changed();
        let (token, whole, from) = ink.dip(Index(9)).unwrap();
        assert_eq!((whole, from), (false, Index(6)));
        ink.cut(Index(8));
        assert_eq!(ink.dip(Index(8)), None, "one at a time");
        ink.dries(token);
        assert_eq!(ink.dry_through(), Index(7));
        let (token, _, from) = ink.dip(Index(8)).unwrap();
        assert_eq!(from, Index(8));
        ink.dries(token - 1);
        assert_eq!(ink.dry_through(), Index(7), "another token");
        ink.dries(token);
        assert_eq!(ink.dry_through(), Index(8));
        assert_eq!(ink.dip(Index(8)), None, "nothing changed");
    }
}
