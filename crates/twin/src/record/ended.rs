//! Where are the jobs of a run that are over?
//!
//! In a file without a name, written as they end: nobody needs them before the page is drawn,
//! and a run of months has more of them than memory should hold. What stays is where each lies, 16 bytes.
//! The first are kept in memory, so that a short run needs no file.
//!
//! A disk that refuses does not stop a run that may never be drawn: it is told when somebody
//! reads ([`Ended::failed`]).

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use telemetry::{Action, Reason};
use wire::codec::decode_all;
use wire::{Decode, DecodeError, Encode, Reader};

use super::cluster::{Candidate, Change, Job, State, Stay, Step, TERMS_MAX, Tried, Why};

/// Bytes that wait for the file, at most; and what is read of it at once.
const TAIL: usize = 1 << 16;

/// Jobs that are over.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Number and place of each, in the order in which they ended.
    places: Vec<(u64, u64)>,
    file: RefCell<Option<File>>,
    /// Bytes in the file.
    filed: u64,
    /// What comes after them.
    tail: Vec<u8>,
    failed: RefCell<Option<io::Error>>,
}

impl Ended {
    pub(super) fn push(&mut self, job: &Job) {
        self.places
            .push((job.id, self.filed + self.tail.len() as u64));
        let bytes = job.to_bytes();
        (bytes.len() as u64).encode(&mut self.tail);
        self.tail.extend(bytes);
        if self.tail.len() >= TAIL && self.failed.get_mut().is_none() {
            match Self::file(self.file.get_mut(), &self.tail) {
                Ok(()) => self.filed += self.tail.len() as u64,
                Err(error) => *self.failed.get_mut() = Some(error),
            }
            self.tail.clear();
        } else if self.failed.get_mut().is_some() {
            self.tail.clear();
        }
    }

    fn file(file: &mut Option<File>, bytes: &[u8]) -> io::Result<()> {
        if file.is_none() {
            *file = Some(tempfile::tempfile()?);
        }
        let file = file.as_mut().expect("made above");
        file.seek(SeekFrom::End(0))?;
        file.write_all(bytes)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// What went wrong, and is forgotten with it.
    pub(super) fn failed(&self) -> Option<io::Error> {
        self.failed.borrow_mut().take()
    }

    /// All of them by their numbers; fewer if some cannot be read, which [`Ended::failed`] tells.
    pub(super) fn by_number(&self) -> impl Iterator<Item = Job> + '_ {
        let mut places = self.places.clone();
        places.sort_unstable();
        let mut window = Window::default();
        places.into_iter().map_while(move |(_, at)| {
            let read = self.read(at, &mut window);
            read.map_err(|error| *self.failed.borrow_mut() = Some(error))
                .ok()
        })
    }

    fn read(&self, at: u64, window: &mut Window) -> io::Result<Job> {
        if let Some(error) = self.failed.borrow_mut().take() {
            return Err(error);
        }
        // A length is at most ten bytes.
        let head = self.bytes(at, 10, window)?;
        let mut reader = Reader::new(head);
        let length = u64::decode(&mut reader).map_err(io::Error::other)?;
        let begins = reader.position();
        let bytes = self.bytes(at, begins + length as usize, window)?;
        decode_all(&bytes[begins..]).map_err(io::Error::other)
    }

    /// Bytes from a place on: as many as asked for, if there are so many.
    fn bytes<'a>(&'a self, at: u64, most: usize, window: &'a mut Window) -> io::Result<&'a [u8]> {
        if let Some(into) = at.checked_sub(self.filed) {
            let tail = &self.tail[into as usize..];
            return Ok(&tail[..tail.len().min(most)]);
        }
        let within = |w: &Window| at >= w.at && at + most as u64 <= w.at + w.bytes.len() as u64;
        if !within(window) {
            let mut file = self.file.borrow_mut();
            let file = file.as_mut().expect("bytes were filed");
            file.seek(SeekFrom::Start(at))?;
            let want = (most.max(WINDOW) as u64).min(self.filed - at);
            window.at = at;
            window.bytes.resize(want as usize, 0);
            file.read_exact(&mut window.bytes)?;
        }
        let from = (at - window.at) as usize;
        let found = &window.bytes[from..];
        Ok(&found[..found.len().min(most)])
    }
}

/// What is read of the file at once: jobs that came one after the other often end so.
const WINDOW: usize = 1 << 12;

/// A part of the file.
#[derive(Default)]
struct Window {
    at: u64,
    bytes: Vec<u8>,
}

impl Clone for Ended {
    /// A copy has a file of its own.
    fn clone(&self) -> Self {
        let mut copy = Self::default();
        self.by_number().for_each(|job| copy.push(&job));
        copy
    }
}

impl PartialEq for Ended {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.by_number().eq(other.by_number())
    }
}

fn number(value: f64, out: &mut Vec<u8>) {
    out.extend(value.to_bits().to_le_bytes());
}

fn text(value: &str, out: &mut Vec<u8>) {
    value.as_bytes().encode(out);
}

fn several<T>(all: &[T], out: &mut Vec<u8>, mut each: impl FnMut(&T, &mut Vec<u8>)) {
    (all.len() as u64).encode(out);
    all.iter().for_each(|one| each(one, out));
}

fn read_number(from: &mut Reader<'_>) -> Result<f64, DecodeError> {
    let bytes = from.bytes(8)?.try_into().expect("eight were asked for");
    Ok(f64::from_bits(u64::from_le_bytes(bytes)))
}

fn read_text(from: &mut Reader<'_>) -> Result<Box<str>, DecodeError> {
    let at = from.position();
    let bytes = Vec::<u8>::decode(from)?;
    let text = String::from_utf8(bytes);
    text.map(String::into_boxed_str)
        .map_err(|_| invalid(at, "text", 0))
}

fn read_several<T>(
    from: &mut Reader<'_>,
    mut each: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = from.count(1)?;
    (0..count).map(|_| each(from)).collect()
}

const fn invalid(at: usize, what: &'static str, found: u64) -> DecodeError {
    DecodeError::Invalid { at, what, found }
}

/// One of a vocabulary, by its place in it.
fn read_word<T: Copy>(
    from: &mut Reader<'_>,
    all: &[T],
    what: &'static str,
) -> Result<T, DecodeError> {
    let at = from.position();
    let found = from.byte()?;
    let word = all.get(usize::from(found)).copied();
    word.ok_or_else(|| invalid(at, what, found.into()))
}

/// Where it is in a vocabulary, as a byte.
fn word<T: PartialEq>(of: &T, all: &[T]) -> u8 {
    all.iter().position(|it| it == of).unwrap_or_default() as u8
}

impl Encode for Job {
    fn encode(&self, out: &mut Vec<u8>) {
        self.id.encode(out);
        text(&self.name, out);
        for small in [self.tenant, self.wants, self.tasks] {
            small.encode(out);
        }
        self.gpu_milli.encode(out);
        for seconds in [self.arrived, self.started, self.ended] {
            number(seconds, out);
        }
        out.push(word(&self.state, &State::ALL));
        several(&self.steps, out, Step::encode);
        several(&self.stays, out, Stay::encode);
    }
}

impl Decode for Job {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: u64::decode(from)?,
            name: read_text(from)?,
            tenant: u32::decode(from)?,
            wants: u32::decode(from)?,
            tasks: u32::decode(from)?,
            gpu_milli: u64::decode(from)?,
            arrived: read_number(from)?,
            started: read_number(from)?,
            ended: read_number(from)?,
            state: read_word(from, &State::ALL, "state")?,
            steps: read_several(from, Step::decode)?,
            stays: read_several(from, Stay::decode)?,
        })
    }
}

impl Encode for Stay {
    fn encode(&self, out: &mut Vec<u8>) {
        self.node.encode(out);
        self.gpu_milli.encode(out);
        number(self.from, out);
        number(self.to, out);
    }
}

impl Decode for Stay {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            node: u32::decode(from)?,
            gpu_milli: u32::decode(from)?,
            from: read_number(from)?,
            to: read_number(from)?,
        })
    }
}

impl Encode for Step {
    fn encode(&self, out: &mut Vec<u8>) {
        number(self.seconds, out);
        out.push(word(&self.action, Action::ALL));
        out.push(word(&self.reason, Reason::ALL));
        several(self.node.as_slice(), out, u32::encode);
        text(&self.text, out);
        several(self.why.as_slice(), out, |why, out| why.encode(out));
    }
}

impl Decode for Step {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            seconds: read_number(from)?,
            action: read_word(from, Action::ALL, "action")?,
            reason: read_word(from, Reason::ALL, "reason")?,
            node: read_several(from, u32::decode)?.pop(),
            text: read_text(from)?,
            why: read_several(from, Why::decode)?.pop().map(Box::new),
        })
    }
}

impl Encode for Why {
    fn encode(&self, out: &mut Vec<u8>) {
        self.nodes.encode(out);
        several(&self.funnel, out, u32::encode);
        several(&self.ahead, out, u64::encode);
        several(self.start_seconds.as_slice(), out, |between, out| {
            between.iter().for_each(|&seconds| number(seconds, out));
        });
        text(&self.start_text, out);
        out.push(word(&self.tried, &Tried::ALL));
        several(&self.changes, out, |change, out| {
            text(&change.text, out);
            number(change.start_seconds, out);
        });
        several(&self.candidates, out, |candidate, out| {
            candidate.node.encode(out);
            number(candidate.score, out);
            candidate.terms.iter().for_each(|&term| number(term, out));
        });
    }
}

impl Decode for Why {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            nodes: u32::decode(from)?,
            funnel: read_several(from, u32::decode)?.into(),
            ahead: read_several(from, u64::decode)?.into(),
            start_seconds: read_several(from, |from| Ok([read_number(from)?, read_number(from)?]))?
                .pop(),
            start_text: read_text(from)?,
            tried: read_word(from, &Tried::ALL, "what was tried")?,
            changes: read_several(from, |from| {
                Ok(Change {
                    text: read_text(from)?,
                    start_seconds: read_number(from)?,
                })
            })?
            .into(),
            candidates: read_several(from, |from| {
                let (node, score) = (u32::decode(from)?, read_number(from)?);
                let mut terms = [0.0; TERMS_MAX];
                for term in &mut terms {
                    *term = read_number(from)?;
                }
                Ok(Candidate { node, score, terms })
            })?
            .into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: u64) -> Job {
        let why = Why {
            nodes: 1_024,
            funnel: [900, 7, 0].into(),
            ahead: [id + 1, id + 2].into(),
            start_seconds: Some([1.5, 2.5]),
            start_text: "soon".into(),
            tried: Tried::AtOnce,
            changes: [Change {
                text: "6 instead of 8 GPUs".into(),
                start_seconds: 1.25,
            }]
            .into(),
            candidates: [Candidate {
                node: 3,
                score: 0.5,
                terms: [0.25, 0.25, 0.0, -1.0],
            }]
            .into(),
        };
        let step = |why| Step {
            seconds: id as f64,
            action: Action::Place,
            reason: Reason::BestScore,
            node: why,
            text: format!("job {id}, \u{2264} {}", "x".repeat(id as usize % 700)).into(),
            why: None,
        };
        Job {
            id,
            name: format!("job-{id}").into(),
            tenant: 7,
            wants: 300,
            gpu_milli: 64_000,
            tasks: 8,
            arrived: id as f64 / 3.0,
            started: 2.0,
            ended: 3.0,
            state: State::AtLimit,
            steps: vec![
                Step {
                    why: Some(Box::new(why)),
                    ..step(None)
                },
                step(Some(70_000)),
            ],
            stays: vec![Stay {
                node: 3,
                gpu_milli: 500,
                from: 2.0,
                to: 3.0,
            }],
        }
    }

    #[test]
    fn what_was_put_away_comes_back_by_number_from_memory_and_file() {
        // Ended from the last to the first, in a mixed order, across several windows.
        let count = 900_u64;
        let mut ended = Ended::default();
        for i in 0..count {
            ended.push(&job(i * 7 % count));
        }
        assert!(ended.filed > 4 * WINDOW as u64 && !ended.tail.is_empty());
        assert!(ended.tail.len() <= TAIL);
        assert!(ended.by_number().eq((0..count).map(job)));
        let mut copy = ended.clone();
        copy.push(&job(count));
        assert!(copy.by_number().eq((0..=count).map(job)));
        assert!(ended.by_number().eq((0..count).map(job)));
        assert!(copy != ended && ended == ended.clone());
    }

    #[test]
    fn a_disk_that_refuses_is_told_to_whoever_reads() {
        let mut ended = Ended::default();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ended");
        std::fs::write(&path, "").unwrap();
        // It can be read and not written.
        *ended.file.get_mut() = Some(File::open(&path).unwrap());
        (0..900).for_each(|id| ended.push(&job(id)));
        assert!(ended.tail.is_empty());
        assert_eq!(ended.by_number().count(), 0);
        assert!(ended.failed().is_some());
    }
}
