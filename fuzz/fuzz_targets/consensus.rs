#![no_main]

use consensus::lease::{Answer, Command, Leases, Query};
use consensus::{Config, Message, Voter};
use machine::{Purpose, Stream};
use wire::{Cell, Instant, Tile};

// What voters, holders and those who ask say to each other, and what a disk says of a voter.
libfuzzer_sys::fuzz_target!(|input: (u8, Vec<Vec<u8>>)| {
    let (kind, parts) = input;
    let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
    let bytes = parts.first().copied().unwrap_or_default();
    match kind % 6 {
        0 => fuzz::is_canonical::<Message>(bytes),
        1 => fuzz::is_canonical::<Leases>(bytes),
        2 => fuzz::is_canonical::<Command>(bytes),
        3 => fuzz::is_canonical::<Answer>(bytes),
        4 => fuzz::is_canonical::<Query>(bytes),
        _ => {
            let me = Tile(1);
            let stream = Stream::new(1, me, Purpose::Agreement);
            let config = Config::new(Cell(1));
            // It is read or refused.
            let _ = Voter::<Leases>::again(config, me, parts, stream, Instant::EPOCH);
        }
    }
});
