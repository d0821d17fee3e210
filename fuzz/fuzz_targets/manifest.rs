#![no_main]

// Whatever a person writes to be run is programs, or a list of what is wrong with it, each with its place.
libfuzzer_sys::fuzz_target!(|text: &str| {
    match cli::programs_of("app.toml", text) {
        Ok(number) => assert!(number > 0),
        Err(error) => {
            let said = error.to_string();
            assert!(
                said.lines().any(|line| line.starts_with("app.toml")),
                "{said}"
            );
        }
    }
});
