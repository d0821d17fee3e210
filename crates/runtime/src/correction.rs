//! What does a torus change about itself when it sees the one before it?
//!
//! Nothing is negotiated. A torus that has more waiting than the one whose
//! projection it reads sends a few processes there, out of its fullest region; as
//! each torus reads another one's, load flows around the cycle until it is level.
//! What it decides becomes a record, like everything that is not a turn.
//!
//! What a torus admits depends on both: while neither has room, work must weigh
//! more to be taken.

use crate::pid::Weight;
use crate::process::Process;
use crate::projection::Projection;
use crate::record::Record;
use crate::torus::Torus;

/// Processes that move for one projection.
const MOVES_MAX: u32 = 16;
/// Sites looked at to find them: the work for a projection has a bound.
const SITES_SEEN: u32 = 256;
/// Fewer waiting than this more is level.
const SLACK: u32 = 64;

impl<P: Process> Torus<P> {
    //= requirements B2
    //= requirements B4
    pub(crate) fn correct(&mut self, theirs: &Projection) {
        self.shed(theirs);
        self.admit(theirs);
    }

    fn shed(&mut self, theirs: &Projection) {
        let mine = self.lattice.ready();
        let level = theirs.ready.saturating_add(theirs.ready / 4 + SLACK);
        if mine <= level {
            return;
        }
        let moves = ((mine - theirs.ready) / 4).min(MOVES_MAX).min(theirs.free);
        let regions = (0..64).max_by_key(|&region| self.lattice.face[region]);
        let sites = self.lattice.shape.region_sites(regions.unwrap_or(0));
        // Somewhere else in the region each time, and the same after a rebuild.
        let length = sites.len() as u32;
        let start = (self.lattice.tally.events % u64::from(length)) as u32;
        let mut moved = 0;
        for step in 0..SITES_SEEN.min(length) {
            if moved == moves {
                break;
            }
            let site = sites.start + (start + step) % length;
            let waits = |slot: &crate::lattice::Slot<P>| slot.ordinal != 0;
            let to = theirs.from;
            if self.lattice.slots.get(site as usize).is_some_and(waits)
                && self.lattice.may_depart(site, to)
            {
                let record = Record::Departed { site, to };
                self.log(&record);
                self.lattice.replay(record);
                moved += 1;
            }
        }
        self.moved += moved;
        self.departed += u64::from(moved);
    }

    fn admit(&mut self, theirs: &Projection) {
        let sites = self.lattice.shape.sites();
        let few = |free: u32| free < sites / 16;
        let mine = self.lattice.sites.free();
        let class = self.floor.class() as u8;
        self.floor = if few(mine) && few(theirs.free) {
            Weight::new(class + 1)
        } else {
            Weight::new(class.saturating_sub(1))
        };
    }
}
