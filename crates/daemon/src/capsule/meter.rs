//! How much does a capsule hold, and how much may it?

use wasmtime::{Engine, ResourceLimiter, Store};

use crate::program::Program;

/// Counts what memories and tables hold, and refuses more than was promised.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) limit: Option<u64>,
    held: u64,
    /// The first time more was asked for: how much it would have been.
    pub(super) refused: Option<u64>,
}

/// wasmtime takes two words for a reference in a table.
const TABLE_ELEMENT_BYTES: usize = 16;

impl Meter {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self {
            limit,
            held: 0,
            refused: None,
        }
    }

    fn grows(&mut self, current: usize, desired: usize) -> bool {
        let more = desired.saturating_sub(current) as u64;
        let asked = self.held.saturating_add(more);
        if self.limit.is_some_and(|limit| asked > limit) {
            self.refused.get_or_insert(asked);
            return false;
        }
        self.held = asked;
        true
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grows(current, desired))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(TABLE_ELEMENT_BYTES);
        Ok(self.grows(bytes(current), bytes(desired)))
    }
}

/// The fuel a capsule starts with, where it is counted: a rehearsed one counts what it is not limited in.
pub(super) fn fuel(program: &Program) -> Option<u64> {
    program.limits.fuel.or(program.seed.map(|_| u64::MAX))
}

/// Something to run a capsule in, with all the fuel it may use.
pub(super) fn store<T: 'static>(
    engine: &Engine,
    state: T,
    fuel: Option<u64>,
    meter: fn(&mut T) -> &mut dyn ResourceLimiter,
) -> Store<T> {
    let mut store = Store::new(engine, state);
    store.limiter(meter);
    if let Some(fuel) = fuel {
        store.set_fuel(fuel).expect("the engine counts fuel");
    }
    store
}
