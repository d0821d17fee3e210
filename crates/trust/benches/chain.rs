//! What does it cost to keep a chain on a disk, and to read it back?
//!
//! As the annals of a node do it: records are appended in groups, each group with one write and one `fdatasync` into
//! room taken beforehand; reading back is a file in the page cache, checked from its first byte to its last and every
//! record looked at. Wall time, because waiting for the disk is part of the answer; the best of five rounds.
//!
//! `cargo bench -p trust --bench chain [-- FOLDER]`: where to write, for the disk is most of it.

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use trust::chain::{self, Reader, Seal};

const RECORD: usize = 100;
const ROUNDS: usize = 5;

#[expect(
    clippy::disallowed_methods,
    reason = "a bench measures the host's time"
)]
fn seconds(work: impl FnOnce()) -> f64 {
    let began = std::time::Instant::now();
    work();
    began.elapsed().as_secs_f64()
}

fn best(mut work: impl FnMut()) -> f64 {
    (0..ROUNDS)
        .map(|_| seconds(&mut work))
        .fold(f64::MAX, f64::min)
}

fn main() {
    let folder = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from);
    let path = folder.join(format!("chain-{}", std::process::id()));
    let record = [7; RECORD];
    let begin = Seal::of("a bench", b"");
    println!("| what | measured |\n|---|---|");
    for group in [1, 10, 100, 1_000, 10_000] {
        let commits = (100_000 / group).clamp(10, 500);
        let took = best(|| {
            let file = File::create(&path).expect("a file");
            file.write_all_at(&vec![0; commits * (group * (RECORD + 4) + 36)], 0)
                .expect("room");
            file.sync_all().expect("a sync");
            let (mut seal, mut end) = (begin, 0);
            let mut bytes = Vec::new();
            for _ in 0..commits {
                bytes.clear();
                seal = chain::commit(seal, (0..group).map(|_| &record[..]), &mut bytes);
                file.write_all_at(&bytes, end).expect("a write");
                file.sync_data().expect("a sync");
                end += bytes.len() as u64;
            }
        });
        let room = best(|| {
            let file = File::create(&path).expect("a file");
            file.write_all_at(&vec![0; commits * (group * (RECORD + 4) + 36)], 0)
                .expect("room");
            file.sync_all().expect("a sync");
        });
        let took = took - room;
        let records = (commits * group) as f64;
        println!(
            "| groups of {group} records of {RECORD} bytes | {:.0} records/s, {:.3} ms a group |",
            records / took,
            took * 1e3 / commits as f64
        );
    }
    for (size, group) in [(RECORD, 1), (RECORD, 100), (RECORD, 1_000), (10_000, 100)] {
        let (record, mut seal, mut bytes) = (vec![7; size], begin, Vec::new());
        while bytes.len() < 256 << 20 {
            seal = chain::commit(seal, (0..group).map(|_| &record[..]), &mut bytes);
        }
        fs::write(&path, &bytes).expect("a file");
        let length = bytes.len() as f64;
        let mut held = Vec::with_capacity(bytes.len());
        drop(bytes);
        let mut records = 0;
        let took = best(|| {
            held.clear();
            let mut file = File::open(&path).expect("the file");
            std::io::Read::read_to_end(&mut file, &mut held).expect("its bytes");
            let mut reader = Reader::new(&held, begin);
            records = 0;
            while let Some(commit) = reader.read().expect("a whole chain") {
                for record in commit {
                    black_box(record[0]);
                    records += 1;
                }
            }
            assert_eq!(reader.seal(), seal);
        });
        println!(
            "| read back: commits of {group} records of {size} bytes | {:.2} GB/s, {:.1} M records/s |",
            length / took / 1e9,
            records as f64 / took / 1e6
        );
    }
    fs::remove_file(&path).expect("the file goes");
}
