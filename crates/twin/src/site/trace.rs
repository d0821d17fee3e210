//! What ran on the real cluster?
//!
//! Two lists of comma-separated values, as the openb trace (Alibaba, v2023) has
//! them: nodes with what they are made of, pods with what they asked for and when
//! they came and went. Columns are found by their names in the first line, in any
//! order; columns nobody needs are not read.
//!
//! A trace replayed wrongly looks like one replayed well, so nothing is guessed. A
//! line that ends early and a number that cannot be are errors that say where,
//! what was found and what was expected; then nothing is replayed.
//!
//! What is read into it:
//! * `qos`: `LS` and `Guaranteed` are latency-sensitive, `BE` and `Burstable` best
//!   effort, as is a pod of a list without that column.
//! * `num_gpu` of one takes `gpu_milli` of it, at least a thousandth; more take whole ones, of 1000 each; none take none.
//! * Without `creation_time` (the list `multigpu20` has none) pods come one a second in
//!   the order of the list; without `deletion_time` they stay.
//! * `pod_phase` and `scheduled_time` tell how the real scheduler fared, and are not
//!   used: ours has to fare by itself. A pod scheduled before it was created is an error.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use scheduler::ledger::{Demand, GPUS_MAX, Models, WHOLE};
use scheduler::site::Quality;
use wire::{Instant, Nanos};

use super::jobs::{self, Listed};

/// A cluster and its work.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// In the order of the list.
    pub nodes: Vec<Node>,
    /// In order of arrival, those of one instant in the order of the list.
    pub pods: Vec<Pod>,
    /// Names of GPU models; a node and a demand know them by their index.
    pub models: Vec<String>,
}

/// A node of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its serial number.
    pub name: String,
    /// Thousandths of a CPU.
    pub cpu_milli: u32,
    /// Memory.
    pub memory_mib: u32,
    /// GPUs, all of one model.
    pub gpus: u8,
    /// Which; none without GPUs.
    pub model: Option<u8>,
}

/// A pod of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// What it asks for.
    pub demand: Demand,
    /// How it may be treated.
    pub quality: Quality,
    /// When it came.
    pub arrives: Instant,
    /// How long it stayed: the work it has, at full clock. None stays for good.
    pub runs: Option<Nanos>,
}

/// Why a trace cannot be replayed. Nothing was.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The operating system refused.
    #[error("cannot read {}: {source}; expected a list of {what} in the folder given by --trace", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// Of what.
        what: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The first line lacks a column.
    #[error("{}:1: found the columns {found}; expected {column} among them", file.display())]
    Column {
        /// Which file.
        file: PathBuf,
        /// What is there.
        found: String,
        /// What is not.
        column: &'static str,
    },
    /// A line has fewer or more values than the first.
    #[error("{}:{line}: found {found} values; expected {expected}, one per column", file.display())]
    Truncated {
        /// Which file.
        file: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// How many values it has.
        found: usize,
        /// How many columns there are.
        expected: usize,
    },
    /// A value that cannot be.
    #[error("{}:{line}: {column}: found {found:?}; expected {expected}", file.display())]
    Value {
        /// Which file.
        file: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// Under which column.
        column: &'static str,
        /// What stands there.
        found: String,
        /// What could.
        expected: String,
    },
    /// A name that stands in the list before.
    #[error("{}:{line}: {column}: found {found:?}, which stands in line {first} already; expected each name once", file.display())]
    Twice {
        /// Which file.
        file: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// Under which column.
        column: &'static str,
        /// The name.
        found: String,
        /// The line it was found in first.
        first: u64,
    },
    /// Bytes that are no text, or a list without lines.
    #[error("{}:{line}: {found}; expected {expected}", file.display())]
    Text {
        /// Which file.
        file: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is there.
        found: String,
        /// What should be.
        expected: &'static str,
    },
}

/// A demand names its models in 32 bits.
const MODELS_MAX: usize = 32;
/// A thousand times more than any node has: what is above is a slip of the pen.
pub(super) const CPU_MILLI_MAX: u64 = 100_000_000;
/// 1 PiB, likewise.
pub(super) const MEMORY_MIB_MAX: u64 = 1 << 30;
/// 30 years: what is above is a date and not a time since the trace began.
pub(super) const SECONDS_MAX: u64 = 946_080_000;

impl Trace {
    /// Reads both lists from a folder, plain or gzipped; absolute paths from where they say.
    ///
    /// # Errors
    /// The first thing that is wrong; see [`TraceError`].
    pub fn read(
        folder: &Path,
        nodes: impl AsRef<Path>,
        pods: impl AsRef<Path>,
    ) -> Result<Self, TraceError> {
        let open = |name: &Path, what| {
            let file = folder.join(name);
            Ok::<_, TraceError>((jobs::open(&file, what)?, file))
        };
        let (nodes, nodes_file) = open(nodes.as_ref(), "nodes")?;
        let (pods, pods_file) = open(pods.as_ref(), "pods")?;
        Self::parse((nodes, &nodes_file), (pods, &pods_file))
    }

    /// Reads both lists from anywhere; the paths are for errors.
    ///
    /// # Errors
    /// The first thing that is wrong; see [`TraceError`].
    pub fn parse(
        (nodes, nodes_file): (impl Read, &Path),
        (pods, pods_file): (impl Read, &Path),
    ) -> Result<Self, TraceError> {
        let mut models = Vocabulary::default();
        let nodes = read_nodes(nodes, nodes_file, &mut models)?;
        let pods = read_pods(pods, pods_file, &mut models)?;
        Ok(Self {
            nodes,
            pods,
            models: models.words,
        })
    }

    /// How many pods ask only for GPU models that no node has, and which those are.
    #[must_use]
    pub fn homeless(&self) -> (usize, Vec<&str>) {
        let here = (self.nodes.iter())
            .filter_map(|node| node.model)
            .fold(0_u32, |all, model| all | 1 << model);
        let asks_for_none = |pod: &&Pod| pod.demand.gpus > 0 && pod.demand.models.0 & here == 0;
        let (mut pods, mut asked) = (0, 0_u32);
        for pod in self.pods.iter().filter(asks_for_none) {
            pods += 1;
            asked |= pod.demand.models.0;
        }
        let named = self.models.iter().enumerate();
        let named = named.filter(|(model, _)| asked >> model & 1 == 1);
        (pods, named.map(|(_, name)| name.as_str()).collect())
    }
}

#[derive(Default)]
struct Vocabulary {
    words: Vec<String>,
    numbers: BTreeMap<String, u8>,
}

impl Vocabulary {
    fn number(&mut self, word: &str) -> Option<u8> {
        if let Some(&number) = self.numbers.get(word) {
            return Some(number);
        }
        let number = u8::try_from(self.words.len()).ok()?;
        if usize::from(number) >= MODELS_MAX {
            return None;
        }
        self.words.push(word.to_owned());
        self.numbers.insert(word.to_owned(), number);
        Some(number)
    }
}

/// A list without the returns before the ends of its lines: with them the reader of records counts lines one short.
struct WithoutReturns<R>(R);

impl<R: Read> Read for WithoutReturns<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let read = self.0.read(into)?;
            let mut kept = 0;
            for at in 0..read {
                if into[at] != b'\r' {
                    into[kept] = into[at];
                    kept += 1;
                }
            }
            // Nothing is the end, to whoever reads.
            if kept > 0 || read == 0 {
                return Ok(kept);
            }
        }
    }
}

/// A list being read, line by line.
pub(super) struct List<'f, R> {
    file: &'f Path,
    reader: csv::Reader<WithoutReturns<R>>,
    columns: csv::StringRecord,
    record: csv::StringRecord,
}

/// Where a column stands in each line.
#[derive(Clone, Copy)]
pub(super) struct Column {
    name: &'static str,
    index: usize,
}

impl<'f, R: Read> List<'f, R> {
    pub(super) fn open(file: &'f Path, from: R) -> Result<Self, TraceError> {
        // Flexible, because it is for us to say how a line is too short.
        let mut reader = csv::ReaderBuilder::new();
        let mut reader = reader.flexible(true).from_reader(WithoutReturns(from));
        let columns = reader.headers();
        let columns = columns.cloned().map_err(|e| unreadable(file, &e))?;
        Ok(Self {
            file,
            reader,
            columns,
            record: csv::StringRecord::new(),
        })
    }

    pub(super) fn optional(&self, name: &'static str) -> Option<Column> {
        let index = self.columns.iter().position(|c| c.trim() == name)?;
        Some(Column { name, index })
    }

    /// Those called `name` or `name[…]`.
    pub(super) fn columns_like(&self, name: &'static str) -> Vec<Column> {
        let is_it = |column: &str| {
            let rest = column.trim().strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
        };
        let all = self.columns.iter().enumerate();
        let found = all.filter(|(_, column)| is_it(column));
        found.map(|(index, _)| Column { name, index }).collect()
    }

    pub(super) fn ends_here(&self, what: &'static str) -> TraceError {
        nothing(self.file, what)
    }

    pub(super) fn column(&self, name: &'static str) -> Result<Column, TraceError> {
        self.optional(name).ok_or_else(|| TraceError::Column {
            file: self.file.to_owned(),
            found: format!("{:?}", self.columns.iter().collect::<Vec<_>>().join(",")),
            column: name,
        })
    }

    /// Goes to the next line, if there is one.
    pub(super) fn next(&mut self) -> Result<bool, TraceError> {
        let read = self.reader.read_record(&mut self.record);
        if !read.map_err(|e| unreadable(self.file, &e))? {
            return Ok(false);
        }
        let (found, expected) = (self.record.len(), self.columns.len());
        if found != expected {
            return Err(TraceError::Truncated {
                file: self.file.to_owned(),
                line: self.line(),
                found,
                expected,
            });
        }
        Ok(true)
    }

    pub(super) fn line(&self) -> u64 {
        self.record.position().map_or(0, csv::Position::line)
    }

    pub(super) fn text(&self, column: Column) -> &str {
        self.record.get(column.index).unwrap_or("").trim()
    }

    pub(super) fn wrong(&self, column: Column, expected: impl Into<String>) -> TraceError {
        TraceError::Value {
            file: self.file.to_owned(),
            line: self.line(),
            column: column.name,
            found: self.text(column).to_owned(),
            expected: expected.into(),
        }
    }

    /// Notes the name that stands here; refused if an earlier line has it.
    fn once(&self, column: Column, seen: &mut BTreeMap<String, u64>) -> Result<(), TraceError> {
        let (name, line) = (self.text(column).to_owned(), self.line());
        // It is printed on terminals.
        if name.chars().any(char::is_control) {
            return Err(self.wrong(column, "a name without control characters"));
        }
        match seen.insert(name, line) {
            None => Ok(()),
            Some(first) => Err(TraceError::Twice {
                file: self.file.to_owned(),
                line,
                column: column.name,
                found: self.text(column).to_owned(),
                first,
            }),
        }
    }

    pub(super) fn number(&self, column: Column, least: u64, most: u64) -> Result<u64, TraceError> {
        let number = self.text(column).parse::<u64>().ok();
        let expected = || match least == most {
            true => least.to_string(),
            false => format!("a whole number from {least} to {most}"),
        };
        number
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(|| self.wrong(column, expected()))
    }

    pub(super) fn decimal(&self, column: Column, least: f64, most: f64) -> Result<f64, TraceError> {
        let number = self.text(column).parse::<f64>().ok();
        number
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(|| self.wrong(column, format!("a number from {least} to {most}")))
    }
}

fn unreadable(file: &Path, error: &csv::Error) -> TraceError {
    TraceError::Text {
        file: file.to_owned(),
        line: error.position().map_or(1, csv::Position::line),
        found: error.to_string(),
        expected: "comma-separated values in UTF-8",
    }
}

/// The same for lists that are no comma-separated values.
pub(super) fn unreadable_text(file: &Path, line: u64, error: &std::io::Error) -> TraceError {
    TraceError::Text {
        file: file.to_owned(),
        line,
        found: error.to_string(),
        expected: "text that can be read to its end",
    }
}

/// The pods of a list as jobs of a site with these models. A pod that names models of
/// which the site has none takes any if `any_model`, and fits nowhere otherwise. Such models are
/// added to `others`, so that it can be told what was asked for.
pub(super) fn read_jobs(
    from: impl Read,
    file: &Path,
    any_model: bool,
    here: &[String],
    others: &mut Vec<String>,
) -> Result<Vec<Listed>, TraceError> {
    let mut models = Vocabulary::default();
    // To whom any model will do, those that are not here are nothing.
    let known_already: &[String] = if any_model { &[] } else { others };
    for model in here.iter().chain(known_already) {
        models.number(model);
    }
    let known = Models(
        1_u32
            .checked_shl(here.len() as u32)
            .map_or(u32::MAX, |bit| bit - 1),
    );
    let listed = |pod: Pod| {
        let mut demand = pod.demand;
        if any_model && demand.models != Models::ANY {
            demand.models = match demand.models.0 & known.0 {
                0 => Models::ANY,
                some => Models(some),
            };
        }
        Listed {
            name: pod.name.into(),
            arrives: pod.arrives.as_secs_f64(),
            runs: pod.runs.map(|r| r.as_secs_f64()),
            limit: None,
            tenant: None,
            quality: pod.quality,
            tasks: 1,
            demand,
            labels: None,
        }
    };
    let pods = read_pods(from, file, &mut models)?;
    if !any_model {
        *others = models.words.split_off(here.len().min(models.words.len()));
    }
    Ok(pods.into_iter().map(listed).collect())
}

fn nothing(file: &Path, what: &'static str) -> TraceError {
    ends_at(file, 2, what)
}

/// A list ends before it has what it should.
pub(super) fn ends_at(file: &Path, line: u64, what: &'static str) -> TraceError {
    TraceError::Text {
        file: file.to_owned(),
        line,
        found: "the list ends here".to_owned(),
        expected: what,
    }
}

fn read_nodes(
    from: impl Read,
    file: &Path,
    models: &mut Vocabulary,
) -> Result<Vec<Node>, TraceError> {
    let mut list = List::open(file, from)?;
    let name = list.column("sn")?;
    let cpu = list.column("cpu_milli")?;
    let memory = list.column("memory_mib")?;
    let gpu = list.column("gpu")?;
    let model = list.column("model")?;
    let (mut nodes, mut names) = (Vec::new(), BTreeMap::new());
    while list.next()? {
        list.once(name, &mut names)?;
        let gpus = list.number(gpu, 0, GPUS_MAX as u64)? as u8;
        let is = match (gpus, list.text(model)) {
            (0, _) => None,
            (_, "") => return Err(list.wrong(model, "the model of the node's GPUs")),
            (_, word) => Some(models.number(word).ok_or_else(|| too_many(&list, model))?),
        };
        nodes.push(Node {
            name: list.text(name).to_owned(),
            cpu_milli: list.number(cpu, 1, CPU_MILLI_MAX)? as u32,
            memory_mib: list.number(memory, 1, MEMORY_MIB_MAX)? as u32,
            gpus,
            model: is,
        });
    }
    if nodes.is_empty() {
        return Err(nothing(file, "at least one node"));
    }
    Ok(nodes)
}

fn too_many<R: Read>(list: &List<'_, R>, column: Column) -> TraceError {
    list.wrong(column, format!("at most {MODELS_MAX} different models"))
}

fn read_pods(
    from: impl Read,
    file: &Path,
    models: &mut Vocabulary,
) -> Result<Vec<Pod>, TraceError> {
    let mut list = List::open(file, from)?;
    let name = list.column("name")?;
    let cpu = list.column("cpu_milli")?;
    let memory = list.column("memory_mib")?;
    let gpu = list.column("num_gpu")?;
    let milli = list.column("gpu_milli")?;
    let spec = list.optional("gpu_spec");
    let qos = list.optional("qos");
    let created = list.optional("creation_time");
    let deleted = list.optional("deletion_time");
    let scheduled = list.optional("scheduled_time");
    let (mut pods, mut names) = (Vec::new(), BTreeMap::new());
    while list.next()? {
        list.once(name, &mut names)?;
        let gpus = list.number(gpu, 0, GPUS_MAX as u64)? as u8;
        // A part can only be of one; of several each is taken whole.
        let (least, most) = match gpus {
            0 => (0, 0),
            1 => (1, u64::from(WHOLE)),
            _ => (WHOLE.into(), WHOLE.into()),
        };
        let mut allowed = Models::ANY;
        if let Some(spec) = spec
            && !list.text(spec).is_empty()
        {
            allowed = Models(0);
            for word in list.text(spec).split('|') {
                if word.is_empty() || word.chars().any(char::is_control) {
                    return Err(list.wrong(spec, "GPU models with | between them"));
                }
                let number = models.number(word).ok_or_else(|| too_many(&list, spec))?;
                allowed.0 |= 1 << number;
            }
        }
        let quality = match qos {
            None => Quality::BestEffort,
            Some(qos) => match list.text(qos) {
                "LS" | "Guaranteed" => Quality::LatencySensitive,
                "BE" | "Burstable" => Quality::BestEffort,
                _ => return Err(list.wrong(qos, "LS, Guaranteed, BE or Burstable")),
            },
        };
        let arrives = match created {
            Some(created) => list.number(created, 0, SECONDS_MAX)?,
            None => pods.len() as u64,
        };
        let runs = match deleted {
            Some(deleted) if !list.text(deleted).is_empty() => {
                Some(list.number(deleted, arrives, SECONDS_MAX)? - arrives)
            }
            _ => None,
        };
        // Not used; but the last column, cut short, shows that a list was.
        if let Some(scheduled) = scheduled
            && created.is_some()
            && !list.text(scheduled).is_empty()
        {
            list.number(scheduled, arrives, SECONDS_MAX)?;
        }
        pods.push(Pod {
            name: list.text(name).to_owned(),
            demand: Demand {
                cpu_milli: list.number(cpu, 0, CPU_MILLI_MAX)? as u32,
                memory_mib: list.number(memory, 0, MEMORY_MIB_MAX)? as u32,
                gpus,
                gpu_milli: list.number(milli, least, most)? as u16,
                models: allowed,
            },
            quality,
            arrives: Instant::EPOCH + Nanos::from_secs(arrives),
            runs: runs.map(Nanos::from_secs),
        });
    }
    if pods.is_empty() {
        return Err(nothing(file, "at least one pod"));
    }
    pods.sort_by_key(|pod| pod.arrives);
    Ok(pods)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str =
        "sn,cpu_milli,memory_mib,gpu,model\nn0,32000,262144,0,\nn1,64000,262144,2,P100\n";
    const PODS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n\
        p0,12000,16384,1,460,T4|P100,LS,Running,100,160,100\n\
        p1,6000,12288,2,1000,,BE,Pending,20,20,\n";

    fn parse(nodes: &str, pods: &str) -> Result<Trace, String> {
        let nodes = (nodes.as_bytes(), Path::new("nodes.csv"));
        Trace::parse(nodes, (pods.as_bytes(), Path::new("pods.csv"))).map_err(|e| e.to_string())
    }

    //= requirements W3
    #[test]
    fn pods_come_in_order_of_arrival_with_what_they_asked_for() {
        let trace = parse(NODES, PODS).unwrap();
        assert_eq!(trace.models, ["P100", "T4"]);
        assert_eq!(trace.nodes[1].model, Some(0));
        let names: Vec<&str> = trace.pods.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["p1", "p0"]);
        let (pair, shared) = (&trace.pods[0], &trace.pods[1]);
        assert_eq!(pair.runs, Some(Nanos::ZERO));
        assert_eq!((pair.demand.gpus, pair.demand.share()), (2, WHOLE));
        assert_eq!(shared.runs, Some(Nanos::MINUTE));
        assert_eq!(shared.demand.models, Models(0b11));
        assert_eq!(shared.quality, Quality::LatencySensitive);
    }

    #[test]
    fn a_list_cut_short_in_its_last_value_is_an_error() {
        let (cut, _) = PODS.split_once("00\n").unwrap();
        let error = parse(NODES, cut).unwrap_err();
        assert!(error.contains("scheduled_time: found \"1\""), "{error}");
    }

    #[test]
    fn a_name_that_stands_in_a_list_twice_is_an_error_that_names_both_lines() {
        let twice = format!("{PODS}p0,6000,12288,2,1000,,BE,Pending,20,20,\n");
        assert_eq!(
            parse(NODES, &twice).unwrap_err(),
            "pods.csv:4: name: found \"p0\", which stands in line 2 already; expected each name once"
        );
        let twice = format!("{NODES}n1,64000,262144,2,P100\n");
        assert_eq!(
            parse(&twice, PODS).unwrap_err(),
            "nodes.csv:4: sn: found \"n1\", which stands in line 3 already; expected each name once"
        );
    }

    #[test]
    fn who_asks_only_for_models_that_are_nowhere_is_counted() {
        let trace = parse(NODES, PODS).unwrap();
        assert_eq!(trace.homeless(), (0, vec![]));
        let pods = format!(
            "{PODS}p2,1,1,1,500,T4|A10,BE,Pending,20,20,\np3,1,1,0,0,A10,BE,Pending,20,20,\n"
        );
        let trace = parse(NODES, &pods).unwrap();
        assert_eq!(trace.homeless(), (1, vec!["T4", "A10"]));
    }

    #[test]
    fn a_list_without_times_comes_one_a_second_and_stays() {
        let pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,1,1,0,0\nb,1,1,8,1000\n";
        let trace = parse(NODES, pods).unwrap();
        let times: Vec<_> = trace.pods.iter().map(|p| (p.arrives.0, p.runs)).collect();
        assert_eq!(times, [(0, None), (1_000_000_000, None)]);
        assert_eq!(trace.pods[1].quality, Quality::BestEffort);
    }

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let nodes = "gpu,model,memory_mib,cpu_milli,sn\n8,G2,1,2,n\n";
        let trace = parse(nodes, PODS).unwrap();
        let node = &trace.nodes[0];
        assert_eq!((node.cpu_milli, node.memory_mib, node.gpus), (2, 1, 8));
    }

    #[test]
    fn what_is_wrong_is_named_with_file_line_and_what_was_expected() {
        let pod = |line: &str| format!("{}{line}\n", PODS);
        for (nodes, pods, message) in [
            (
                "sn,cpu_milli,gpu,model\n",
                PODS,
                r#"nodes.csv:1: found the columns "sn,cpu_milli,gpu,model"; expected memory_mib among them"#,
            ),
            (
                "sn,cpu_milli,memory_mib,gpu,model\nn0,32000,262144\n",
                PODS,
                "nodes.csv:2: found 3 values; expected 5, one per column",
            ),
            (
                "sn,cpu_milli,memory_mib,gpu,model\n",
                PODS,
                "nodes.csv:2: the list ends here; expected at least one node",
            ),
            (
                "sn,cpu_milli,memory_mib,gpu,model\nn0,0,262144,0,\n",
                PODS,
                r#"nodes.csv:2: cpu_milli: found "0"; expected a whole number from 1 to 100000000"#,
            ),
            (
                "sn,cpu_milli,memory_mib,gpu,model\nn0,1,262144,1,\n",
                PODS,
                r#"nodes.csv:2: model: found ""; expected the model of the node's GPUs"#,
            ),
            (
                "sn,cpu_milli,memory_mib,gpu,model\nn0,1,262144,9,G2\n",
                PODS,
                r#"nodes.csv:2: gpu: found "9"; expected a whole number from 0 to 8"#,
            ),
            (
                NODES,
                &pod("p2,6000,12288,1,1001,,BE,Pending,20,20,"),
                r#"pods.csv:4: gpu_milli: found "1001"; expected a whole number from 1 to 1000"#,
            ),
            // A share of nothing fits nowhere and everywhere.
            (
                NODES,
                &pod("p2,6000,12288,1,0,,BE,Pending,20,20,"),
                r#"pods.csv:4: gpu_milli: found "0"; expected a whole number from 1 to 1000"#,
            ),
            (
                NODES,
                &pod("p2,-6,12288,1,100,,BE,Pending,20,20,"),
                r#"pods.csv:4: cpu_milli: found "-6"; expected a whole number from 0 to 100000000"#,
            ),
            (
                NODES,
                &pod("p2,6,12288,1,100,,BE,Pending,20,19,"),
                r#"pods.csv:4: deletion_time: found "19"; expected a whole number from 20 to 946080000"#,
            ),
            (
                NODES,
                &pod("p2,6,12288,1,100,,VIP,Pending,20,21,"),
                r#"pods.csv:4: qos: found "VIP"; expected LS, Guaranteed, BE or Burstable"#,
            ),
            (
                NODES,
                &pod("p2,6,12288,2,500,,BE,Pending,20,21,"),
                r#"pods.csv:4: gpu_milli: found "500"; expected 1000"#,
            ),
            (
                NODES,
                &pod("p2,6,12288,0,500,,BE,Pending,20,21,"),
                r#"pods.csv:4: gpu_milli: found "500"; expected 0"#,
            ),
            (
                NODES,
                &pod("p2,6,12288,1,500,T4||P100,BE,Pending,20,21,"),
                r#"pods.csv:4: gpu_spec: found "T4||P100"; expected GPU models with | between them"#,
            ),
            (
                NODES,
                &pod("\u{1b}[31mp2,6,12288,1,500,,BE,Pending,20,21,"),
                r#"pods.csv:4: name: found "\u{1b}[31mp2"; expected a name without control characters"#,
            ),
            (
                NODES,
                &pod("p2,6,12288,1"),
                "pods.csv:4: found 4 values; expected 11, one per column",
            ),
        ] {
            assert_eq!(parse(nodes, pods).unwrap_err(), message);
            // As written by others.
            let [nodes, pods] = [nodes, pods].map(|list| list.replace('\n', "\r\n"));
            assert_eq!(parse(&nodes, &pods).unwrap_err(), message);
        }
        let not_text = (
            &b"sn,cpu_milli,memory_mib,gpu,model\nn\xff,1,1,0,\n"[..],
            Path::new("n.csv"),
        );
        let error = Trace::parse(not_text, (PODS.as_bytes(), Path::new("p.csv"))).unwrap_err();
        assert!(error.to_string().starts_with("n.csv:2: "), "{error}");
    }

    #[test]
    fn a_missing_trace_says_which_file_was_wanted() {
        let error = Trace::read(Path::new("/no/such"), "nodes.csv", "pods.csv").unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read /no/such/nodes.csv: No such file or directory (os error 2); \
             expected a list of nodes in the folder given by --trace"
        );
    }
}
