//! What one torus keeps of the one before it.
//!
//! A lattice as it was at the last snapshot, and the log since. The copy does not
//! run. To rebuild the lost torus it is copied, which for a hundred thousand
//! processes is copying memory, and runs the log.
//!
//! A snapshot changes only what has changed, and only if afterwards everything
//! together amounts to the digest that came with it. Now and then there is no
//! snapshot but an audit: the keeper runs the log itself, and what comes out must
//! amount to what the other says it is. An audit that fails convicts the other.
//! Its log was written from outside and its memory was not.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use wire::{Decode, Reader};

use crate::lattice::{Lattice, Limits};
use crate::pid::Strand;
use crate::process::Process;
use crate::record::{Record, Sheet, slots};
use crate::stream::WINDOW;

/// What has been kept of a torus.
#[derive(Clone, Debug)]
pub(crate) struct Ward<P: Process> {
    copy: Lattice<P>,
    /// The number of the sheet to be filed next.
    pub(crate) next: u64,
    /// Log since the snapshot.
    log: VecDeque<Vec<u8>>,
    /// Slots of a snapshot that is not complete.
    pending: Vec<Vec<u8>>,
    /// Sheets that overtook the next one, of this incarnation of the torus.
    early: BTreeMap<u64, Sheet>,
    /// Between a beginning and its snapshot there is nothing to rebuild from.
    whole: bool,
}

/// What became of a sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filed {
    /// It is kept, or was before.
    Kept,
    /// Another one is missing before it.
    Early,
    /// The torus that wrote it is not what its log makes it.
    Convicted,
}

/// A ward cannot be relied on: what it keeps has itself been damaged, or does not
/// make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl<P: Process> Ward<P> {
    /// Of a torus that has not done anything yet.
    pub(crate) fn of_newborn(strand: Strand, limits: Limits) -> Self {
        Self {
            copy: Lattice::new(strand, limits),
            next: 0,
            log: VecDeque::new(),
            pending: Vec::new(),
            early: BTreeMap::new(),
            whole: true,
        }
    }

    /// Of a torus that says that it begins again at this sheet.
    pub(crate) fn beginning_at(strand: Strand, limits: Limits, position: u64) -> Self {
        Self {
            next: position + 1,
            whole: false,
            ..Self::of_newborn(strand, limits)
        }
    }

    /// Whether a lost torus could be rebuilt from it.
    pub(crate) const fn is_whole(&self) -> bool {
        self.whole
    }

    pub(crate) fn file(&mut self, position: u64, sheet: Sheet) -> Result<Filed, Broken> {
        let Some(ahead) = position.checked_sub(self.next) else {
            return Ok(Filed::Kept);
        };
        if ahead > 0 {
            // More are never under way.
            if ahead < WINDOW {
                self.early.insert(position, sheet);
            }
            return Ok(Filed::Early);
        }
        let mut sheet = sheet;
        loop {
            let filed = self.file_next(sheet)?;
            if filed != Filed::Kept {
                return Ok(filed);
            }
            match self.early.remove(&self.next) {
                Some(next) => sheet = next,
                None => return Ok(Filed::Kept),
            }
        }
    }

    fn file_next(&mut self, sheet: Sheet) -> Result<Filed, Broken> {
        match sheet {
            Sheet::Log(bytes) => self.log.push_back(bytes),
            Sheet::Slots(bytes) => self.pending.push(bytes),
            Sheet::Cut { header, digest } => {
                if !self.load(&header, digest)? {
                    return Ok(Filed::Convicted);
                }
            }
            Sheet::Audit { digest } => {
                play_all(&mut self.copy, &self.log)?;
                self.log.clear();
                self.copy.seal_changes(|_, _| ());
                let header = self.copy.seal_header();
                if self.copy.digest(&header) != digest {
                    return Ok(Filed::Convicted);
                }
            }
            Sheet::Begin => return Err(Broken),
        }
        self.next += 1;
        Ok(Filed::Kept)
    }

    /// False if the snapshot does not amount to its digest; then nothing changed.
    fn load(&mut self, header: &[u8], digest: u64) -> Result<bool, Broken> {
        let mut changed = Vec::new();
        for bytes in &self.pending {
            changed.extend(slots(bytes).map_err(|_| Broken)?);
        }
        let slots = changed.iter().copied();
        if self.copy.digest_after(slots, header) != digest {
            self.pending.clear();
            return Ok(false);
        }
        for &(site, bytes) in &changed {
            self.copy.load_slot(site, bytes).map_err(|_| Broken)?;
        }
        self.copy.line_up(changed.iter().map(|&(site, _)| site));
        self.copy.load_header(header).map_err(|_| Broken)?;
        self.pending.clear();
        self.log.clear();
        self.whole = true;
        Ok(true)
    }

    /// The lattice as it was when the last sheet filed was written.
    //= requirements B3
    pub(crate) fn rebuild(&mut self) -> Result<Lattice<P>, Broken> {
        self.pending.clear();
        // What the successor writes there is something else.
        self.early.clear();
        if !self.whole || !self.copy.is_all_whole() {
            return Err(Broken);
        }
        let mut lattice = self.copy.clone();
        play_all(&mut lattice, &self.log)?;
        Ok(lattice)
    }

    /// For tests of what a damaged keeper does.
    pub(crate) const fn copy_mut(&mut self) -> &mut Lattice<P> {
        &mut self.copy
    }
}

/// Does what a sheet of the log says.
pub(crate) fn play<P: Process>(lattice: &mut Lattice<P>, sheet: &[u8]) -> Result<(), Broken> {
    let mut from = Reader::new(sheet);
    while from.remaining() > 0 {
        let record = Record::decode(&mut from).map_err(|_| Broken)?;
        lattice.replay(record);
    }
    if lattice.broken.is_some() {
        return Err(Broken);
    }
    Ok(())
}

fn play_all<P: Process>(lattice: &mut Lattice<P>, log: &VecDeque<Vec<u8>>) -> Result<(), Broken> {
    log.iter().try_for_each(|sheet| play(lattice, sheet))
}
