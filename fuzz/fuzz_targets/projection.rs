#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::is_canonical::<runtime::Projection>(bytes);
});
