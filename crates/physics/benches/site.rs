//! What does a step of a GPU site cost? An item is one device for one step.

use divan::Bencher;
use divan::counter::ItemsCount;
use physics::site::Loop;
use physics::{Site, devices};
use wire::{Seconds, Watts};

fn main() {
    divan::main();
}

/// As many devices as the openb trace has, on eight loops, at work.
#[divan::bench(args = [6_212])]
fn site(bencher: Bencher<'_, '_>, devices: u32) {
    let models: Vec<_> = (0..devices as usize)
        .map(|i| devices::ALL[i % devices::ALL.len()])
        .collect();
    let cooled_by: Vec<_> = (0..devices).map(|i| i / 8 % 8).collect();
    let loops = [Loop::of(Watts(1e6)); 8];
    let mut site = Site::new(&loops, &models, &cooled_by).unwrap();
    for (watts, model) in site.watts_mut().iter_mut().zip(&models) {
        *watts = model.max.0;
    }
    bencher
        .counter(ItemsCount::new(devices))
        .bench_local(|| divan::black_box(site.step(Seconds(15.0))));
}
