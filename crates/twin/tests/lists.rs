//! The packing experiment on lists that `cosmos` was not made for: made up from the
//! published one, with FGD beside it.

use std::path::Path;
use std::time::Duration;

use scheduler::Policy;
use scheduler::site::Quality;
use twin::pack::{Cluster, Draw, Experiment};
use twin::site::Trace;
use twin::site::trace::Pod;

/// Points that `cosmos` allocates beyond FGD when 100 % has arrived, on the default list
/// changed like this, in the mean of so many orders; none where there is no data.
fn gain(seeds: std::ops::RangeInclusive<u64>, change: impl Fn(&mut Vec<Pod>)) -> Option<f64> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/openb");
    if !folder.is_dir() {
        eprintln!("skipped: there is no {}", folder.display());
        return None;
    }
    let (nodes, pods) = ("openb_node_list_gpu_node.csv", "openb_pod_list_default.csv");
    let mut trace = Trace::read(&folder, nodes, pods).unwrap();
    change(&mut trace.pods);
    let cluster = Cluster::new(&trace, nodes.as_ref(), pods.as_ref()).unwrap();
    let orders = seeds.clone().count() as f64;
    let gains = seeds.map(|seed| {
        let draw = Draw::new(&trace, seed);
        let allocated = |policy| {
            let experiment = Experiment {
                cluster: &cluster,
                order: &draw.order,
                preference: &draw.preference,
                policy,
                seed,
                migrate: 0,
            };
            let outcome = experiment.run(|| Duration::ZERO);
            outcome.at(100).unwrap().allocated_percent
        };
        allocated(Policy::Cosmos) - allocated(Policy::Fgd)
    });
    Some(gains.sum::<f64>() / orders)
}

//= requirements S4
#[test]
fn where_all_are_gangs_room_is_left_for_those_that_few_nodes_hold() {
    // FGD leaves nothing to win; a gang of eight is worth 0.13 points.
    let gangs = |pods: &mut Vec<Pod>| pods.retain(|pod| pod.demand.gpus > 1);
    if let Some(gain) = gain(42..=51, gangs) {
        assert!(gain > -0.2, "{gain:+.3} points");
    }
}

//= requirements S4
#[test]
fn where_cpus_run_out_first_their_use_is_what_counts() {
    let thrice = |pods: &mut Vec<Pod>| pods.iter_mut().for_each(|p| p.demand.cpu_milli *= 3);
    if let Some(gain) = gain(42..=43, thrice) {
        assert!(gain > 1.0, "{gain:+.3} points");
    }
}

//= requirements S4
#[test]
fn shares_of_different_size_are_kept_apart() {
    let best_effort = |pods: &mut Vec<Pod>| pods.retain(|pod| pod.quality == Quality::BestEffort);
    if let Some(gain) = gain(42..=43, best_effort) {
        assert!(gain > 0.2, "{gain:+.3} points");
    }
}
