//! Throws dice, and says when: which is never the same, unless it is run the same way twice.
//!
//! ```sh
//! cosmos run dice.wasm 5
//! cosmos run --deterministic --seed 7 dice.wasm 5
//! ```

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

fn main() {
    let throws = std::env::args()
        .nth(1)
        .map_or(3, |word| word.parse().expect("a number"));
    let begun = Instant::now();
    for throw in 0..throws {
        // What a hash map takes its chance from is the only source of it that the standard library shows.
        let die = RandomState::new().hash_one(throw) % 6 + 1;
        sleep(Duration::from_millis(10));
        println!("{die} after {} ns", begun.elapsed().as_nanos());
    }
    let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    println!("at {} ns", today.expect("after 1970").as_nanos());
    // The bits of this are the processor's, unless somebody says which they are.
    let nothing = std::hint::black_box(0.0_f64) / std::hint::black_box(0.0);
    println!("{:x}", nothing.to_bits());
}
