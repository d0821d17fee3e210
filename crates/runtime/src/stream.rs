//! What has been written and is not yet held, and what waits for it.
//!
//! A turn's effects may leave once every record that led to them lies with the
//! next torus. So with each sheet goes a mark: the posts sent and taken by then.
//! When the sheet is held, so is the mark, and what it covers may leave.

use alloc::collections::VecDeque;

use crate::lane::LANES;
use crate::record::Sheet;

/// Sheets under way at once.
pub(crate) const WINDOW: u64 = 256;

/// How far the lanes were when a sheet was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The numbers the next posts sent will have.
    pub(crate) sent: [u64; LANES],
    /// The numbers of the next posts taken.
    pub(crate) taken: [u64; LANES],
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    base: u64,
    sheets: VecDeque<Sheet>,
    sent: u64,
    base_before: u64,
    marks: VecDeque<(u64, Mark)>,
    /// What may leave.
    pub(crate) released: Mark,
}

impl Stream {
    /// One whose every sheet before this is held.
    pub(crate) fn resumed(base: u64, released: Mark) -> Self {
        Self {
            base,
            sent: base,
            base_before: base,
            released,
            ..Self::default()
        }
    }

    /// The first sheet that is not known to be held.
    pub(crate) const fn base(&self) -> u64 {
        self.base
    }

    /// The position of the next sheet.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.sheets.len() as u64
    }

    /// A sheet that is not known to be held.
    pub(crate) fn sheet(&self, position: u64) -> Option<&Sheet> {
        let nth = position.checked_sub(self.base)?;
        self.sheets.get(usize::try_from(nth).ok()?)
    }

    pub(crate) fn write(&mut self, sheet: Sheet) {
        self.sheets.push_back(sheet);
    }

    /// What happened until now is covered by the sheets written until now.
    pub(crate) fn mark(&mut self, mark: Mark) {
        self.marks.push_back((self.end(), mark));
    }

    /// Nothing that was written is kept anywhere: from here on a whole snapshot
    /// follows, and covers what the lost sheets did.
    pub(crate) fn begin_again(&mut self) {
        self.base = self.end();
        self.sheets.clear();
        self.sent = self.base;
        self.write(Sheet::Begin);
    }

    /// The snapshot that followed is written, up to here.
    pub(crate) fn begun(&mut self) {
        let end = self.end();
        for (position, _) in &mut self.marks {
            *position = end;
        }
    }

    /// Everything before this sheet is held. True if that is news.
    pub(crate) fn held(&mut self, next: u64) -> bool {
        if next <= self.base || next > self.end() {
            return false;
        }
        self.sheets.drain(..(next - self.base) as usize);
        self.base = next;
        self.sent = self.sent.max(next);
        while let Some(&(_, mark)) = self.marks.front().filter(|(end, _)| *end <= next) {
            self.released = mark;
            self.marks.pop_front();
        }
        true
    }

    /// The next sheet to send, if one may be sent now.
    pub(crate) fn next_to_send(&mut self) -> Option<(u64, Sheet)> {
        if self.sent >= self.end().min(self.base + WINDOW) {
            return None;
        }
        let position = self.sent;
        self.sent += 1;
        Some((
            position,
            self.sheets[(position - self.base) as usize].clone(),
        ))
    }

    /// Once an interval: if nothing has been acknowledged since the last time,
    /// everything under way is taken for lost.
    pub(crate) fn tick(&mut self) {
        if self.base == self.base_before {
            self.sent = self.base;
        }
        self.base_before = self.base;
    }
}
