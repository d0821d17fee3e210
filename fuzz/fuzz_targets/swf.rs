#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::is_read_or_refused(twin::site::jobs::Format::Swf, bytes);
});
