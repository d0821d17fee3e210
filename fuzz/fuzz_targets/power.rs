#![no_main]

use twin::site::neighbour::PowerRecord;

// Bytes are power over time, or one error that says where.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    match PowerRecord::parse(bytes, "fuzzed.csv".as_ref()) {
        Ok(record) => assert!(record.at(1e9).0 >= 0.0),
        Err(error) => assert!(error.to_string().starts_with("fuzzed.csv:"), "{error}"),
    }
});
