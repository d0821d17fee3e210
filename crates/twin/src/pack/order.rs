//! Who arrives when?
//!
//! An order is a list of pod names, one a line, plain or gzipped. A list of pods is
//! often worth less than 130 % of a cluster's GPU; the published orders fill it up with
//! clones, whose names end in `-tuned-` and a number.
//!
//! Without such a list a [`Draw`] has the order that the published experiment draws
//! from a seed: the pods shuffled, then clones of pods drawn at random until the next
//! would pass 130 %; or, if the list alone is worth more, pods drawn at random leave it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use scheduler::ledger::WHOLE;

use super::chance::Chance;
use super::{ARRIVED_PERCENT_MAX, PackError};
use crate::site::trace::{Pod, Trace};

/// What every gzipped file starts with (RFC 1952, § 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// What stands between the name of a pod and the number of its clone.
const CLONE: &str = "-tuned-";

/// Pods in order of arrival, as positions in their list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order(pub Vec<u32>);

impl Order {
    /// Reads the names of an order; `list` is where the pods came from, for errors.
    ///
    /// # Errors
    /// The first thing that is wrong; see [`PackError`].
    pub fn read(file: &Path, pods: &[Pod], list: &Path) -> Result<Self, PackError> {
        let unreadable = |source| PackError::File {
            file: file.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        let opened = File::open(file).map_err(unreadable);
        opened?.read_to_end(&mut bytes).map_err(unreadable)?;
        let mut text = String::new();
        let read = match bytes.starts_with(&GZIP) {
            true => MultiGzDecoder::new(&*bytes).read_to_string(&mut text),
            false => (&*bytes).read_to_string(&mut text),
        };
        read.map_err(unreadable)?;
        Self::parse(&text, file, pods, list)
    }

    fn parse(text: &str, file: &Path, pods: &[Pod], list: &Path) -> Result<Self, PackError> {
        let names = pods.iter().map(|pod| pod.name.as_str());
        let positions: BTreeMap<&str, u32> = names.zip(0_u32..).collect();
        let mut came = vec![false; pods.len()];
        let mut order = Vec::new();
        for (name, line) in text.lines().zip(1..) {
            let name = name.trim();
            if name.is_empty() {
                continue;
            }
            let (file, found) = (file.to_owned(), name.to_owned());
            if let Some(&pod) = positions.get(name) {
                if std::mem::replace(&mut came[pod as usize], true) {
                    return Err(PackError::Twice { file, line, found });
                }
                order.push(pod);
            } else if let Some(&pod) = original(name).and_then(|name| positions.get(name)) {
                order.push(pod);
            } else {
                let pods = list.to_owned();
                return Err(PackError::Unknown {
                    file,
                    line,
                    found,
                    pods,
                });
            }
        }
        if order.is_empty() {
            let file = file.to_owned();
            return Err(PackError::Nobody { file });
        }
        Ok(Self(order))
    }
}

/// What the published experiment leaves to chance, drawn from a seed as it draws it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Pods worth 130 % of the GPU, in order of arrival.
    pub order: Order,
    /// The nodes, as positions in their list: of several that a policy finds equal the
    /// first of these is taken.
    pub preference: Vec<u32>,
}

/// Numbers that the published simulator spends before it shuffles: one to show it.
const SPENT_BEFORE_ORDER: u32 = 1;
/// Numbers it spends between clones and nodes, as far as one can tell from outside: its
/// ten watchers of the cluster's state draw a time limit each. With any other number
/// from 0 to 39 the results differ from the published ones in the second digit.
const SPENT_BEFORE_NODES: u32 = 10;

impl Draw {
    /// Draws the order and the preference for a trace.
    #[must_use]
    pub fn new(trace: &Trace, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let spend = |chance: &mut Chance, count| (0..count).for_each(|_| _ = chance.next());
        spend(&mut chance, SPENT_BEFORE_ORDER);
        let by_name = by_name(trace.pods.iter().map(|pod| &*pod.name));
        let mut order = by_name.clone();
        chance.shuffle(&mut order);
        let asked = |pod: u32| u64::from(trace.pods[pod as usize].demand.gpu_total());
        let gpus: u64 = trace.nodes.iter().map(|node| u64::from(node.gpus)).sum();
        let most = gpus * u64::from(WHOLE) * u64::from(ARRIVED_PERCENT_MAX) / 100;
        let mut arrived: u64 = order.iter().map(|&pod| asked(pod)).sum();
        let drawn = |chance: &mut Chance| by_name[chance.below(by_name.len() as u32) as usize];
        match arrived.cmp(&most) {
            Ordering::Less if arrived > 0 => loop {
                let pod = drawn(&mut chance);
                // Of several GPUs the published simulator looks at one here.
                if arrived + u64::from(trace.pods[pod as usize].demand.share()) > most {
                    break;
                }
                arrived += asked(pod);
                order.push(pod);
            },
            Ordering::Greater => {
                while arrived > most {
                    let gone = order.remove(chance.below(order.len() as u32) as usize);
                    arrived -= asked(gone);
                }
            }
            _ => {}
        }
        spend(&mut chance, SPENT_BEFORE_NODES);
        let nodes = self::by_name(trace.nodes.iter().map(|node| &*node.name));
        let mut preference = vec![0; nodes.len()];
        let places = chance.permutation(nodes.len() as u32);
        for (&node, place) in nodes.iter().zip(places) {
            preference[place as usize] = node;
        }
        Self {
            order: Order(order),
            preference,
        }
    }
}

/// Positions in a list, by name.
fn by_name<'n>(names: impl Iterator<Item = &'n str>) -> Vec<u32> {
    let mut named: Vec<_> = names.zip(0_u32..).collect();
    named.sort_unstable();
    named.into_iter().map(|(_, position)| position).collect()
}

/// The pod of which a name is the clone.
fn original(name: &str) -> Option<&str> {
    let (name, number) = name.rsplit_once(CLONE)?;
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    digits.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Trace;
    use std::io::Write as _;

    const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\nn,64000,262144,8,T4\n";

    fn trace(count: usize) -> Trace {
        let mut list = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\n".to_owned();
        for pod in 0..count {
            list += &format!("p{pod},1000,1024,1,500\n");
        }
        let files = [Path::new("nodes.csv"), Path::new("pods.csv")];
        let trace = Trace::parse((NODES.as_bytes(), files[0]), (list.as_bytes(), files[1]));
        trace.unwrap()
    }

    fn pods(count: usize) -> Vec<Pod> {
        trace(count).pods
    }

    fn parse(text: &str) -> Result<Vec<u32>, String> {
        let read = Order::parse(text, Path::new("o"), &pods(3), Path::new("pods.csv"));
        read.map(|order| order.0).map_err(|e| e.to_string())
    }

    #[test]
    fn a_clone_is_its_pod_again() {
        assert_eq!(
            parse("p2\np0\r\n\np0-tuned-7\np0-tuned-8\n"),
            Ok(vec![2, 0, 0, 0])
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, says) in [
            (
                "p0\np9\n",
                "o:2: found \"p9\"; expected the name of a pod of pods.csv",
            ),
            ("p0-tuned-\n", "o:1: found \"p0-tuned-\""),
            ("p0\np1\np0\n", "o:3: found \"p0\" a second time"),
            ("\n", "o:1: found no name"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn gzipped_and_plain_are_the_same_order() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, packed) = (folder.path().join("plain"), folder.path().join("packed"));
        std::fs::write(&plain, "p1\np0\n").unwrap();
        let file = File::create(&packed).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(b"p1\np0\n").unwrap();
        encoder.finish().unwrap();
        let read = |file: &Path| Order::read(file, &pods(2), Path::new("pods.csv")).unwrap();
        assert_eq!(read(&plain), Order(vec![1, 0]));
        assert_eq!(read(&packed), read(&plain));
        let missing = Order::read(&folder.path().join("none"), &pods(2), Path::new("l"));
        let missing = missing.unwrap_err().to_string();
        assert!(missing.contains("none: No such file"), "{missing}");
    }

    #[test]
    fn a_drawn_order_has_every_pod_and_clones_up_to_130_percent() {
        // 10 pods are worth 5 GPUs; 130 % of 8 is 10.4: 20 pods fit, 21 do not.
        let draw = |pods, seed| Draw::new(&trace(pods), seed).order;
        let order = draw(10, 1);
        assert_eq!(order.0.len(), 20);
        let mut first = order.0[..10].to_vec();
        first.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
        assert_eq!(order, draw(10, 1));
        assert_ne!(order, draw(10, 2));
        // And of 40 pods, 20 stay.
        assert_eq!(draw(40, 1).0.len(), 20);
    }
}
