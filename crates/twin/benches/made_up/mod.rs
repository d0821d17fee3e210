//! Lists of pods that nobody submitted: the default list with one thing changed, to see
//! what a policy made for no list does on others.

use scheduler::ledger::{Demand, WHOLE};
use scheduler::site::Quality;
use twin::site::Trace;

/// A list and how it is made.
pub(crate) struct MadeUp {
    /// As a row of the page and `--only` call it.
    pub(crate) name: &'static str,
    /// In words, for the page.
    pub(crate) says: &'static str,
    make: fn(&mut Trace),
}

/// All of them.
pub(crate) const LISTS: [MadeUp; 7] = [
    MadeUp {
        name: "gangs",
        says: "only pods of several GPUs",
        make: |trace| trace.pods.retain(|pod| pod.demand.gpus > 1),
    },
    MadeUp {
        name: "best-effort",
        says: "only best-effort pods",
        make: |trace| trace.pods.retain(|pod| pod.quality == Quality::BestEffort),
    },
    MadeUp {
        name: "cpu-twice",
        says: "twice the CPU for each pod",
        make: |trace| each(trace, |demand| demand.cpu_milli *= 2),
    },
    MadeUp {
        name: "cpu-thrice",
        says: "three times the CPU for each pod",
        make: |trace| each(trace, |demand| demand.cpu_milli *= 3),
    },
    MadeUp {
        name: "sizes-dealt",
        says: "sizes of single-GPU pods dealt anew among them, so that CPU says nothing of size",
        make: deal_sizes,
    },
    MadeUp {
        name: "sizes-mirrored",
        says: "a share of s becomes one of 1,000 − s",
        make: |trace| {
            each(trace, |demand| {
                if demand.gpus == 1 && (1..WHOLE).contains(&demand.gpu_milli) {
                    demand.gpu_milli = WHOLE - demand.gpu_milli;
                }
            });
        },
    },
    MadeUp {
        name: "middle-shares",
        says: "only shares of 200 to 700",
        make: |trace| {
            let middle =
                |demand: &Demand| demand.gpus == 1 && (200..=700).contains(&demand.gpu_milli);
            trace.pods.retain(|pod| middle(&pod.demand));
        },
    },
];

/// The default list, changed so; none if there is no such list.
pub(crate) fn made(name: &str, mut default: Trace) -> Option<Trace> {
    let list = LISTS.iter().find(|list| list.name == name)?;
    (list.make)(&mut default);
    Some(default)
}

fn each(trace: &mut Trace, change: impl Fn(&mut Demand)) {
    let demands = trace.pods.iter_mut().map(|pod| &mut pod.demand);
    demands.for_each(change);
}

/// Each pod of one GPU takes the size of another, all by the same stride through them, which
/// shares no factor with their number.
fn deal_sizes(trace: &mut Trace) {
    let demands = || trace.pods.iter().map(|pod| pod.demand);
    let sizes: Vec<u16> = demands()
        .filter(|d| d.gpus == 1)
        .map(|d| d.gpu_milli)
        .collect();
    let coprime = |a: usize| {
        let (mut a, mut b) = (a, sizes.len());
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a == 1
    };
    let stride = (sizes.len() * 5 / 8..).find(|&s| coprime(s)).unwrap_or(1);
    let singles = trace.pods.iter_mut().map(|pod| &mut pod.demand);
    for (i, demand) in singles.filter(|d| d.gpus == 1).enumerate() {
        demand.gpu_milli = sizes[(i * stride) % sizes.len()];
    }
}
