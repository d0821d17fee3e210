//! Who arrives when?
//!
//! An order is a list of pod names, one a line, plain or gzipped. A list of pods is
//! often worth less than 130 % of a cluster's GPU; the published orders fill it up with
//! clones, whose names end in `-tuned-` and a number.
//!
//! Without a list, [`Order::shuffled`] draws an order as the published experiment does:
//! the pods shuffled, then clones of pods drawn at random until the next would pass
//! 130 %; or, if the list alone is worth more, pods drawn at random leave it. The draw
//! is our own, so the published orders have to come from their files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use machine::{Purpose, Stream};
use wire::Tile;

use super::{ARRIVED_PERCENT_MAX, PackError};
use crate::site::trace::Pod;

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

    /// Draws an order of pods worth 130 % of so much GPU, in thousandths.
    #[must_use]
    pub fn shuffled(pods: &[Pod], capacity_milli: u64, seed: u64) -> Self {
        let mut stream = Stream::new(seed, Tile(0), Purpose::Work);
        let mut order: Vec<u32> = (0..pods.len() as u32).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, stream.below(last as u64 + 1) as usize);
        }
        let asked = |pod: u32| u64::from(pods[pod as usize].demand.gpu_total());
        let most = capacity_milli * u64::from(ARRIVED_PERCENT_MAX) / 100;
        let mut arrived: u64 = order.iter().map(|&pod| asked(pod)).sum();
        if arrived == 0 {
            return Self(order);
        }
        while arrived > most && !order.is_empty() {
            let gone = order.remove(stream.below(order.len() as u64) as usize);
            arrived -= asked(gone);
        }
        let drawn = std::iter::repeat_with(|| stream.below(pods.len() as u64) as u32);
        let clones = drawn.take_while(|&pod| {
            arrived += asked(pod);
            arrived <= most
        });
        order.extend(clones);
        Self(order)
    }
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

    fn pods(count: usize) -> Vec<Pod> {
        let mut list = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\n".to_owned();
        for pod in 0..count {
            list += &format!("p{pod},1000,1024,1,500\n");
        }
        let files = [Path::new("nodes.csv"), Path::new("pods.csv")];
        let trace = Trace::parse((NODES.as_bytes(), files[0]), (list.as_bytes(), files[1]));
        trace.unwrap().pods
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
            ("p0\np9\n", "o:2: found \"p9\"; expected the name of a pod of pods.csv"),
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
        let order = Order::shuffled(&pods(10), 8_000, 1);
        assert_eq!(order.0.len(), 20);
        let mut first = order.0[..10].to_vec();
        first.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
        assert_eq!(order, Order::shuffled(&pods(10), 8_000, 1));
        assert_ne!(order, Order::shuffled(&pods(10), 8_000, 2));
        // And of 40 pods, 20 stay.
        assert_eq!(Order::shuffled(&pods(40), 8_000, 1).0.len(), 20);
    }
}
