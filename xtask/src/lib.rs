//! Is the tree what its rules say it is?
//!
//! The rules no compiler knows: which crate may see which ([`architecture`]) and
//! what prose may refer to ([`references`]). Each checker is a function from plain
//! data to violations, so that it can be shown a forged tree and seen to object;
//! `tests/architecture.rs` shows it the real one.
//!
//! The command `cargo xtask` is `main.rs` and its modules.

pub mod architecture;
pub mod references;

use std::path::Path;

/// The root of the repository.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies one folder below the root")
}
