#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::is_canonical::<u8>(bytes);
    fuzz::is_canonical::<u16>(bytes);
    fuzz::is_canonical::<u32>(bytes);
    fuzz::is_canonical::<u64>(bytes);
    fuzz::is_canonical::<i64>(bytes);
});
