//! What is the most that any node has left?
//!
//! Of everybody who waits at a full site nearly everybody asks for more than any node
//! has. A [`Skyline`] says so without a look at a node or at what was counted of one: for as many
//! whole GPUs, or for such a share of one, the most CPU that is left on a node that has
//! them, and for gangs what the whole site has of them. It may say that something fits which
//! does not, because of memory or models or because what is left is scattered, and never
//! the opposite.
//!
//! What a node gains lifts it at once. What a node loses is left standing until somebody
//! asks for a fresh look, which costs a few nanoseconds a node.

use crate::ledger::{Demand, GPUS_MAX, Ledger, Room, WHOLE};

/// Shares of a GPU are told apart by steps of this many thousandths.
const STEP: u16 = 125;
const STEPS: usize = (WHOLE / STEP) as usize + 1;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Skyline {
    /// By number of whole GPUs: the most CPU of a node that has at least so many, none if no
    /// node has.
    by_whole: [Option<u32>; GPUS_MAX + 1],
    /// By steps of the widest share: likewise.
    by_share: [Option<u32>; STEPS],
    /// By number of whole GPUs: how many tasks of so many the site holds, CPU aside. At 0
    /// stands nothing.
    sets: [u32; GPUS_MAX + 1],
    gpu_milli: u64,
    cpu_milli: u64,
    is_too_high: bool,
}

impl Skyline {
    pub(super) fn of(ledger: &Ledger) -> Self {
        let mut skyline = Self {
            by_whole: [None; GPUS_MAX + 1],
            by_share: [None; STEPS],
            sets: [0; GPUS_MAX + 1],
            gpu_milli: 0,
            cpu_milli: 0,
            is_too_high: true,
        };
        for node in 0..ledger.nodes().len() as u32 {
            skyline.count(ledger.room(node), true);
        }
        skyline.refresh(ledger);
        skyline
    }

    /// A node's books changed.
    pub(super) fn node_changed(&mut self, before: &Room, after: &Room) {
        self.count(before, false);
        self.count(after, true);
        self.lift(after);
        self.is_too_high = true;
    }

    /// Makes it as low as it is.
    pub(super) fn refresh(&mut self, ledger: &Ledger) {
        if !self.is_too_high {
            return;
        }
        self.is_too_high = false;
        self.by_whole = [None; GPUS_MAX + 1];
        self.by_share = [None; STEPS];
        for node in 0..ledger.nodes().len() as u32 {
            let room = ledger.room(node);
            if room.is_open() {
                let cpu = Some(room.cpu_milli);
                let whole = &mut self.by_whole[usize::from(room.gpu_whole)];
                *whole = cpu.max(*whole);
                let share = &mut self.by_share[usize::from(room.gpu_widest / STEP)];
                *share = cpu.max(*share);
            }
        }
        // Who has more has as much.
        for at in (0..GPUS_MAX).rev() {
            self.by_whole[at] = self.by_whole[at].max(self.by_whole[at + 1]);
        }
        for at in (0..STEPS - 1).rev() {
            self.by_share[at] = self.by_share[at].max(self.by_share[at + 1]);
        }
    }

    /// Whether the site may hold so many tasks; if not, it does not.
    pub(super) fn may_hold(&self, demand: &Demand, tasks: u16) -> bool {
        let highest = match demand.gpus {
            1 => self.by_share[usize::from(demand.gpu_milli / STEP).min(STEPS - 1)],
            n => self.by_whole[usize::from(n).min(GPUS_MAX)],
        };
        if highest.is_none_or(|cpu| cpu < demand.cpu_milli) {
            return false;
        }
        let tasks = u32::from(tasks);
        let gpus = match demand.gpus {
            0 => true,
            1 => u64::from(tasks) * u64::from(demand.gpu_milli) <= self.gpu_milli,
            n => tasks <= self.sets[usize::from(n).min(GPUS_MAX)],
        };
        gpus && u64::from(tasks) * u64::from(demand.cpu_milli) <= self.cpu_milli
    }

    fn lift(&mut self, room: &Room) {
        if !room.is_open() {
            return;
        }
        let cpu = Some(room.cpu_milli);
        for highest in &mut self.by_whole[..=usize::from(room.gpu_whole)] {
            *highest = cpu.max(*highest);
        }
        for highest in &mut self.by_share[..=usize::from(room.gpu_widest / STEP)] {
            *highest = cpu.max(*highest);
        }
    }

    fn count(&mut self, room: &Room, comes: bool) {
        if !room.is_open() {
            return;
        }
        let (gpu, cpu) = (u64::from(room.gpu_total), u64::from(room.cpu_milli));
        let sets = (1..=GPUS_MAX).map(|n| u32::from(room.gpu_whole) / n as u32);
        if comes {
            self.gpu_milli += gpu;
            self.cpu_milli += cpu;
            (self.sets[1..].iter_mut().zip(sets)).for_each(|(sum, more)| *sum += more);
        } else {
            self.gpu_milli -= gpu;
            self.cpu_milli -= cpu;
            (self.sets[1..].iter_mut().zip(sets)).for_each(|(sum, less)| *sum -= less);
        }
    }
}
