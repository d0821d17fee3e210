#![no_main]

use fuzz::tally::Tally;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::is_canonical::<runtime::Packet<Tally>>(bytes);
});
