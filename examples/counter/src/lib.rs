//! Keeps a count for as long as it lives, through the death of its machine too.
//!
//! Each line it is given adds to the count: a number is added, and an empty line counts as one. The answer is the count.
//!
//! ```sh
//! printf '\n\n5\n' | cosmos run --state count.state counter.wasm      # 1, 2, 7
//! printf '\n' | cosmos run --state count.state --first 4 counter.wasm # 8
//! ```
//!
//! There is nothing in here about files: what is in memory between two events is what is kept.

use std::io::Read;
use std::sync::atomic::{AtomicI64, Ordering};

static COUNT: AtomicI64 = AtomicI64::new(0);

/// Called once for each event, which is all of standard input.
#[unsafe(no_mangle)]
pub extern "C" fn on_event() {
    let mut event = String::new();
    std::io::stdin()
        .read_to_string(&mut event)
        .expect("an event is UTF-8");
    let more = match event.trim() {
        "" => 1,
        number => number.parse().expect("an event is a whole number"),
    };
    let count = COUNT.fetch_add(more, Ordering::Relaxed) + more;
    println!("{count}");
}
