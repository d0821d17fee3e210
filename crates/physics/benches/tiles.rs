//! What does a step cost? Run with `cargo bench -p physics`; divan prints items
//! per second, where an item is one tile for one step.

use divan::Bencher;
use divan::counter::ItemsCount;
use physics::tiles::Scratch;
use physics::{TileModel, Tiles};
use wire::{Hexagons, Kelvin, Seconds};

fn main() {
    divan::main();
}

/// Cells of a thousand tiles at work, no two alike; 1 cell fits in the
/// cache, 1,000 do not.
#[divan::bench(args = [1, 100, 1_000])]
fn tiles(bencher: Bencher<'_, '_>, cells: u32) {
    let lattice = Hexagons::of(1_000).unwrap();
    let mut all: Vec<_> = (0..cells)
        .map(|cell| {
            let mut tiles = Tiles::new(TileModel::STANDARD, &lattice, Kelvin(305.0));
            for (i, watts) in tiles.watts.iter_mut().enumerate() {
                *watts = 200.0 + f64::from((i as u32 * 7919 + cell * 31) % 250);
            }
            tiles
        })
        .collect();
    let mut scratch = Scratch::default();
    bencher
        .counter(ItemsCount::new(u64::from(cells) * 1_000))
        .bench_local(|| {
            for tiles in &mut all {
                divan::black_box(tiles.step_in(Seconds(300.0), &mut scratch));
            }
        });
}
