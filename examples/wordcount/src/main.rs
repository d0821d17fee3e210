//! Counts lines, words and bytes of files, or of what it is given to read.
//!
//! ```sh
//! cosmos run wordcount.wasm < README.md
//! cosmos run --dir docs wordcount.wasm docs/glossary.md
//! ```

use std::io::Read;
use std::process::ExitCode;
use std::{fs, io};

fn main() -> ExitCode {
    let files: Vec<_> = std::env::args().skip(1).collect();
    let mut code = ExitCode::SUCCESS;
    let mut read = |name: &str, text: io::Result<Vec<u8>>| match text {
        Ok(text) => println!("{} {name}", count(&text).map(|n| n.to_string()).join(" ")),
        Err(error) => {
            eprintln!("wordcount: {name}: {error}");
            code = ExitCode::FAILURE;
        }
    };
    for file in &files {
        read(file, fs::read(file));
    }
    if files.is_empty() {
        let mut text = Vec::new();
        let done = io::stdin().read_to_end(&mut text);
        read("-", done.map(|_| text));
    }
    code
}

/// Lines, words and bytes; a word is what lies between white space.
fn count(text: &[u8]) -> [usize; 3] {
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    let words = text
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .count();
    [lines, words, text.len()]
}
