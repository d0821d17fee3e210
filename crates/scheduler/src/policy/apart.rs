//! Equals are kept apart, and otherwise where least is taken.
//!
//! For work of which several do the same and stay: what one node's end takes of it must be as little as can be. So nodes with the
//! fewest of the same come first, then those of whose largest part least is taken, then those that carry least.
//! The opposite of what the [published policies](super::score) want, who fill one node before they touch the next. A score depends on who else stands
//! where, which no [`Ranking`](super::Ranking) could keep, and it is made of whole numbers: the same books give the same order on any machine.
//!
//! Why: docs/decisions/2026-11-30-the-council-places-by-the-schedulers-ledger.md.

use crate::ledger::{Ledger, WHOLE};

/// What speaks against a node; compared from the first on, the least is the best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Apart {
    /// So many of the same are there already.
    pub beside: u32,
    /// The largest of the shares of its CPU, memory and GPU that are taken, in thousandths.
    pub taken: u32,
    /// So many pieces of work are there, whatever they take.
    pub claims: u32,
}

impl Apart {
    /// Of a node that has so many of the same already.
    #[must_use]
    pub fn of(ledger: &Ledger, node: u32, beside: u32) -> Self {
        let (built, room) = (&ledger.nodes()[node as usize], ledger.room(node));
        let gpu_milli = u32::from(built.gpus) * u32::from(WHOLE);
        let share = |all: u32, free: u32| {
            let taken = u64::from(all.saturating_sub(free)) * 1_000;
            // At most a thousand.
            taken.checked_div(all.into()).unwrap_or(0) as u32
        };
        let taken = share(built.cpu_milli, room.cpu_milli)
            .max(share(built.memory_mib, room.memory_mib))
            .max(share(gpu_milli, room.gpu_total.into()));
        Self {
            beside,
            taken,
            claims: ledger.claims(node).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::cases::{demand, node};
    use alloc::vec;

    #[test]
    fn few_of_the_same_come_before_little_load_and_that_before_few_others() {
        let mut ledger = Ledger::new(vec![node(8_000, 2, 0), node(8_000, 0, 0)]);
        ledger.claim(0, &demand(1_000, 1, 1_000)).unwrap();
        ledger.claim(1, &demand(2_000, 0, 0)).unwrap();
        ledger.claim(1, &demand(2_000, 0, 0)).unwrap();
        let of = |node, beside| Apart::of(&ledger, node, beside);
        // Half of the GPUs and half of the CPUs are taken.
        let equal = |beside, claims| Apart {
            beside,
            taken: 500,
            claims,
        };
        assert_eq!((of(0, 0), of(1, 0)), (equal(0, 1), equal(0, 2)));
        assert!(of(0, 0) < of(1, 0) && of(1, 0) < of(0, 1));
    }
}
