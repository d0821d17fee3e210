#![no_main]

use twin::rehearsal::Universe;
use twin::universe::Document;

// Whatever a person writes is a universe or a list of what is wrong with it.
libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(document) = Document::parse("fuzz.toml", text, &[])
        && let Err(problems) = Universe::read(&document)
    {
        assert!(!problems.0.is_empty());
        assert!(!problems.to_string().is_empty());
    }
});
