//! What this machine keeps for others, and for itself.
//!
//! Of each program two files: what it has become, with its version, and to whom this machine has promised itself. Both are written aside, synced and
//! renamed, so they are there or not; both are sealed, and what does not match its seal is not there for anybody: this machine then does
//! not answer about it, as if it were away, because what it had promised is not known.
//!
//! Both bear the shelf's [`Mark`]. Where one of them is gone that should be there, somebody has emptied the shelf or its disk: what stands there from then on is another shelf,
//! with another mark, and counts as such ([`consensus::keep`]).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use consensus::Index;
use consensus::keep::{Mark, Shelf, Stint, Version};

use super::letter::{Answer, KEPT_BYTES_MAX, Letter, PIECE_BYTES_MAX, Recipe, made};
use crate::cache::make_private;
use crate::capsule::snapshot::parts;
use crate::fleet::member::random;

const MAGIC: &[u8; 16] = b"cosmos keeper 2\n";
const SEAL: usize = 32;
/// Mark, fence, start, number. Of a promise the number is 1 if something was ever put on that shelf.
const VERSION: usize = 32;

/// The shelves of a node's directory.
#[derive(Debug)]
pub(super) struct Shelves {
    folder: PathBuf,
    open: Mutex<BTreeMap<u64, Arc<Mutex<Place>>>>,
}

/// One of them.
#[derive(Debug, Default)]
struct Place {
    /// None if it was not looked at yet.
    shelf: Option<Shelf>,
    mark: Mark,
    /// What was brought of a version so far.
    brought: Option<(Version, Vec<u8>)>,
}

impl Shelves {
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        make_private(&folder)?;
        Ok(Self {
            folder,
            open: Mutex::default(),
        })
    }

    fn place(&self, program: u64) -> Arc<Mutex<Place>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(open.entry(program).or_default())
    }

    /// The programs of which there is something.
    pub(super) fn programs(&self) -> Vec<u64> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| {
            let name = entry.file_name();
            let (number, _) = name.to_str()?.split_once('.')?;
            number.parse().ok()
        });
        let mut numbers: Vec<_> = numbers.collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// By whom what lies there was given, if something does.
    pub(super) fn given_by(&self, program: u64) -> Option<Stint> {
        let place = self.place(program);
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        let shelf = self.look(program, &mut place).ok()?;
        shelf.has.map(|version| version.by)
    }

    /// Which shelf is there for a program; a new one if there was none.
    ///
    /// # Errors
    /// Why it cannot be read, in a sentence.
    pub(super) fn mark(&self, program: u64) -> Result<Mark, String> {
        let place = self.place(program);
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        self.look(program, &mut place)?;
        Ok(place.mark)
    }

    /// Forgets a program.
    pub(super) fn clear(&self, program: u64) {
        let place = self.place(program);
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Place::default();
        for file in [self.kept(program), self.promise(program)] {
            // What is left is found again the next time.
            let _ = fs::remove_file(file);
        }
    }

    fn kept(&self, program: u64) -> PathBuf {
        self.folder.join(format!("{program}.kept"))
    }

    fn promise(&self, program: u64) -> PathBuf {
        self.folder.join(format!("{program}.promise"))
    }

    fn look<'a>(&self, program: u64, place: &'a mut Place) -> Result<&'a mut Shelf, String> {
        if place.shelf.is_none() {
            let promise = read(&self.promise(program), VERSION)?;
            let promise = promise.map(|head| (mark(&head), version(&head)));
            let has = read(&self.kept(program), VERSION)?;
            let has = has.map(|head| (mark(&head), version(&head)));
            let whole = match (promise, has) {
                (Some((mark, promise)), Some((of, has))) if of == mark => {
                    let promised = promise.by.max(has.by);
                    if promise.number == 0 {
                        self.write_promise(program, mark, promised, true)?;
                    }
                    Some((mark, promised, Some(has)))
                }
                (Some((mark, promise)), _) if promise.number == 0 => Some((mark, promise.by, None)),
                _ => None,
            };
            let (mark, promised, has) = match whole {
                Some(whole) => whole,
                // There is none yet, or no longer.
                None => {
                    let drawn = random::<8>().map_err(|error| error.to_string())?;
                    let mark = Mark(u64::from_le_bytes(drawn));
                    (mark, Stint::default(), None)
                }
            };
            place.mark = mark;
            place.shelf = Some(Shelf { promised, has });
        }
        Ok(place.shelf.as_mut().expect("it was just looked at"))
    }

    /// What lies there.
    fn bytes(&self, program: u64) -> Result<Vec<u8>, String> {
        let path = self.kept(program);
        let read = read(&path, usize::MAX)?;
        let mut bytes = read.ok_or_else(|| format!("{}: found no file", path.display()))?;
        bytes.drain(..VERSION);
        Ok(bytes)
    }

    /// What this machine answers.
    pub(super) fn answer(&self, letter: Letter) -> Answer {
        let place = self.place(letter.program());
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        match self.try_answer(letter, &mut place) {
            Ok(answer) => answer,
            Err(because) => {
                // It may have been written or not: the disk knows.
                place.shelf = None;
                Answer::Unable(because)
            }
        }
    }

    fn try_answer(&self, letter: Letter, place: &mut Place) -> Result<Answer, String> {
        Ok(match letter {
            Letter::Ask { program, stint } => {
                let shelf = self.look(program, place)?;
                let before = shelf.promised;
                match shelf.promise(stint) {
                    Err(later) => Answer::Later(later),
                    Ok(has) => {
                        if before != stint {
                            self.write_promise(program, place.mark, stint, has.is_some())?;
                        }
                        Answer::Has(place.mark, has)
                    }
                }
            }
            Letter::Fetch {
                program,
                version,
                from,
            } => {
                if self.look(program, place)?.has != Some(version) {
                    return Ok(Answer::Lacks);
                }
                let bytes = self.bytes(program)?;
                let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
                let to = bytes.len().min(from.saturating_add(PIECE_BYTES_MAX));
                Answer::Piece(bytes.len() as u64, bytes[from..to].to_vec())
            }
            Letter::Bring {
                program,
                version,
                from,
                bytes,
            } => {
                let promised = self.look(program, place)?.promised;
                if version.by < promised {
                    return Ok(Answer::Later(promised));
                }
                let (of, brought) = place.brought.get_or_insert_with(|| (version, Vec::new()));
                if from == 0 {
                    (*of, *brought) = (version, Vec::new());
                }
                let is_next = *of == version && brought.len() as u64 == from;
                if !is_next || brought.len() + bytes.len() > KEPT_BYTES_MAX {
                    place.brought = None;
                    return Ok(Answer::Lacks);
                }
                brought.extend(bytes);
                Answer::Taken
            }
            Letter::Give {
                program,
                version,
                hash,
                recipe,
            } => self.take(program, place, version, hash, recipe)?,
            // Not to a keeper, but to who holds the lease.
            Letter::Relieve { .. } => Answer::Lacks,
        })
    }

    fn take(
        &self,
        program: u64,
        place: &mut Place,
        version: Version,
        hash: [u8; 32],
        recipe: Recipe,
    ) -> Result<Answer, String> {
        let mut shelf = *self.look(program, place)?;
        match shelf.take(version) {
            Err(later) => return Ok(Answer::Later(later)),
            Ok(false) => return Ok(Answer::Kept(place.mark)),
            Ok(true) => {}
        }
        let bytes = match recipe {
            Recipe::Brought => {
                let brought = place.brought.take().filter(|(of, _)| *of == version);
                brought.map(|(_, bytes)| bytes)
            }
            Recipe::From(base, words) => {
                let had = place.shelf.and_then(|shelf| shelf.has);
                match had == Some(base) {
                    true => made(&parts(&self.bytes(program)?), &words),
                    false => None,
                }
            }
        };
        let Some(bytes) = bytes.filter(|bytes| *blake3::hash(bytes).as_bytes() == hash) else {
            return Ok(Answer::Lacks);
        };
        // Which shelf it is, what lies there, and then that something does, so that it is missed if it is gone: a machine that dies in between
        // has the same shelf afterwards.
        let is_first = place.shelf.is_some_and(|shelf| shelf.has.is_none());
        if is_first {
            self.write_promise(program, place.mark, shelf.promised, false)?;
        }
        write(&self.kept(program), place.mark, version, &bytes)?;
        if is_first {
            self.write_promise(program, place.mark, shelf.promised, true)?;
        }
        place.shelf = Some(shelf);
        Ok(Answer::Kept(place.mark))
    }

    fn write_promise(&self, program: u64, mark: Mark, by: Stint, has: bool) -> Result<(), String> {
        let number = has.into();
        write(&self.promise(program), mark, Version { by, number }, &[])
    }
}

fn mark(bytes: &[u8]) -> Mark {
    let bytes = bytes.first_chunk().expect("it is so long");
    Mark(u64::from_le_bytes(*bytes))
}

fn version(bytes: &[u8]) -> Version {
    let number = |at: usize| {
        let bytes = bytes[at..].first_chunk().expect("it is so long");
        u64::from_le_bytes(*bytes)
    };
    Version {
        by: Stint {
            fence: Index(number(8)),
            start: number(16),
        },
        number: number(24),
    }
}

/// Version and what is behind it, of which at most so many bytes in all; none if there is no such file.
fn read(path: &Path, most: usize) -> Result<Option<Vec<u8>>, String> {
    let wrong = |because: String| format!("{}: {because}", path.display());
    let mut bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let body = bytes.len().checked_sub(SEAL);
    let whole = body.filter(|body| {
        let (body, seal) = bytes.split_at(*body);
        body.len() >= MAGIC.len() + VERSION
            && body.starts_with(MAGIC)
            && blake3::hash(body).as_bytes() == seal
    });
    let Some(body) = whole else {
        let length = bytes.len();
        return Err(wrong(format!(
            "found {length} bytes that do not match their seal"
        )));
    };
    bytes.truncate(body.min(most.saturating_add(MAGIC.len())));
    bytes.drain(..MAGIC.len());
    Ok(Some(bytes))
}

/// On disk when it returns; on an error what was there before is there, or this.
fn write(path: &Path, mark: Mark, version: Version, bytes: &[u8]) -> Result<(), String> {
    let mut all = Vec::with_capacity(MAGIC.len() + VERSION + bytes.len() + SEAL);
    all.extend_from_slice(MAGIC);
    let Version { by, number } = version;
    for number in [mark.0, by.fence.0, by.start, number] {
        all.extend_from_slice(&number.to_le_bytes());
    }
    all.extend_from_slice(bytes);
    let seal = blake3::hash(&all);
    all.extend_from_slice(seal.as_bytes());
    let aside = path.with_extension("new");
    let folder = path.parent().unwrap_or(Path::new("/"));
    let written = File::create(&aside)
        .and_then(|mut file| {
            file.write_all(&all)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&aside, path))
        .and_then(|()| File::open(folder)?.sync_all());
    written.map_err(|error| format!("writing {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capsule::snapshot::{Answered, Memory, PAGE, Snapshot};
    use crate::keeping::letter::recipe_for;

    fn shelves(folder: &Path) -> Shelves {
        Shelves::open(folder.to_owned()).unwrap()
    }

    fn at(fence: u64, number: u64) -> Version {
        Version {
            by: Stint {
                fence: Index(fence),
                start: 0,
            },
            number,
        }
    }

    /// So many pages, the first of which says which events went into it.
    fn snapshot(events: u64, pages: usize) -> Vec<u8> {
        let mut bytes = vec![0; pages.next_multiple_of(16) * PAGE];
        for (page, byte) in bytes.chunks_mut(PAGE).take(pages).zip(1_u64..) {
            page[..8].copy_from_slice(&(byte * 7).to_le_bytes());
        }
        bytes[8..16].copy_from_slice(&events.to_le_bytes());
        let snapshot = Snapshot {
            module: [1; 32],
            events,
            clock: 0,
            answers: vec![Answered::of(events.to_string().into_bytes())],
            globals: Vec::new(),
            memories: vec![Memory::of(&bytes)],
        };
        snapshot.to_bytes()
    }

    fn bring(shelves: &Shelves, version: Version, bytes: &[u8]) -> Answer {
        for (place, piece) in bytes.chunks(PIECE_BYTES_MAX).enumerate() {
            let brought = shelves.answer(Letter::Bring {
                program: 5,
                version,
                from: (place * PIECE_BYTES_MAX) as u64,
                bytes: piece.to_vec(),
            });
            if brought != Answer::Taken {
                return brought;
            }
        }
        give(shelves, version, bytes, Recipe::Brought)
    }

    fn give(shelves: &Shelves, version: Version, bytes: &[u8], recipe: Recipe) -> Answer {
        shelves.answer(Letter::Give {
            program: 5,
            version,
            hash: *blake3::hash(bytes).as_bytes(),
            recipe,
        })
    }

    fn fetch(shelves: &Shelves, version: Version) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let from = all.len() as u64;
            let program = 5;
            match shelves.answer(Letter::Fetch {
                program,
                version,
                from,
            }) {
                Answer::Piece(length, bytes) => {
                    all.extend(bytes);
                    if all.len() as u64 == length {
                        return Some(all);
                    }
                }
                _ => return None,
            }
        }
    }

    #[test]
    fn what_was_taken_is_there_after_another_start_and_so_is_what_was_promised() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = shelves(folder.path());
        let (first, second) = (snapshot(1, 600), snapshot(2, 600));
        assert!(first.len() > 2 * PIECE_BYTES_MAX);
        let taken = bring(&keeper, at(3, 1), &first);
        let mark = keeper.mark(5).unwrap();
        assert_eq!(taken, Answer::Kept(mark));
        let words = recipe_for(&parts(&first), &parts(&second)).unwrap();
        let recipe = Recipe::From(at(3, 1), words);
        let lacking = Recipe::From(at(2, 9), Vec::new());
        assert_eq!(give(&keeper, at(3, 2), &second, lacking), Answer::Lacks);
        assert_eq!(
            give(&keeper, at(3, 2), &first, recipe.clone()),
            Answer::Lacks,
            "another hash"
        );
        assert_eq!(give(&keeper, at(3, 2), &second, recipe), Answer::Kept(mark));
        let ask = |fence| Letter::Ask {
            program: 5,
            stint: at(fence, 0).by,
        };
        assert_eq!(keeper.answer(ask(4)), Answer::Has(mark, Some(at(3, 2))));
        let again = shelves(folder.path());
        assert_eq!(again.answer(ask(3)), Answer::Later(at(4, 0).by));
        assert_eq!(bring(&again, at(3, 3), &first), Answer::Later(at(4, 0).by));
        assert_eq!(again.answer(ask(4)), Answer::Has(mark, Some(at(3, 2))));
        assert_eq!(fetch(&again, at(3, 2)), Some(second));
        assert_eq!(fetch(&again, at(3, 1)), None);
        assert_eq!(again.programs(), [5]);
        assert_eq!(again.given_by(5), Some(at(3, 0).by));
        again.clear(5);
        let anew = again.answer(ask(1));
        assert!(
            matches!(anew, Answer::Has(other, None) if other != mark),
            "{anew:?}"
        );
    }

    #[test]
    fn a_keeper_whose_file_is_damaged_says_so_and_promises_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = snapshot(1, 3);
        let taken = bring(&shelves(folder.path()), at(3, 1), &bytes);
        assert!(matches!(taken, Answer::Kept(_)), "{taken:?}");
        let path = folder.path().join("5.kept");
        let whole = fs::read(&path).unwrap();
        for place in (0..whole.len()).step_by(101) {
            let mut flipped = whole.clone();
            flipped[place] ^= 4;
            fs::write(&path, flipped).unwrap();
            let keeper = shelves(folder.path());
            let stint = at(9, 0).by;
            let answer = keeper.answer(Letter::Ask { program: 5, stint });
            assert!(
                matches!(&answer, Answer::Unable(because) if because.contains("5.kept")),
                "{answer:?}"
            );
            let answer = bring(&keeper, at(9, 1), &bytes);
            assert!(matches!(answer, Answer::Unable(_)), "{answer:?}");
        }
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let stint = at(9, 0).by;
        let answer = shelves(folder.path()).answer(Letter::Ask { program: 5, stint });
        assert!(matches!(answer, Answer::Unable(_)), "{answer:?}");
    }

    #[test]
    fn a_machine_that_dies_while_it_takes_the_first_version_has_the_same_shelf_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let first = shelves(folder.path());
        let stint = at(3, 0).by;
        let asked = first.answer(Letter::Ask { program: 5, stint });
        let promised = fs::read(folder.path().join("5.promise")).unwrap();
        let Answer::Has(mark, None) = asked else {
            panic!("{asked:?}")
        };
        assert_eq!(bring(&first, at(3, 1), &snapshot(1, 1)), Answer::Kept(mark));
        // It died when what it kept was written, and not yet that it is there.
        fs::write(folder.path().join("5.promise"), &promised).unwrap();
        let again = shelves(folder.path());
        assert_eq!(
            again.answer(Letter::Ask { program: 5, stint }),
            Answer::Has(mark, Some(at(3, 1)))
        );
        // Whatever is removed after that is missed.
        fs::remove_file(folder.path().join("5.kept")).unwrap();
        assert_ne!(shelves(folder.path()).mark(5), Ok(mark));
        // It died before anything was written: nothing is missing.
        fs::write(folder.path().join("5.promise"), &promised).unwrap();
        assert_eq!(shelves(folder.path()).mark(5), Ok(mark));
        // A disk that takes a promise and no more.
        let full = shelves(folder.path());
        assert_eq!(
            full.answer(Letter::Ask { program: 5, stint }),
            Answer::Has(mark, None)
        );
        fs::create_dir(folder.path().join("5.kept")).unwrap();
        let unable = bring(&full, at(3, 1), &snapshot(1, 1));
        assert!(matches!(unable, Answer::Unable(_)), "{unable:?}");
        fs::remove_dir(folder.path().join("5.kept")).unwrap();
        let again = shelves(folder.path());
        assert_eq!(
            again.answer(Letter::Ask { program: 5, stint }),
            Answer::Has(mark, None)
        );
        // The same where nobody asked before something was brought.
        let folder = tempfile::tempdir().unwrap();
        let unasked = shelves(folder.path());
        let mark = unasked.mark(5).unwrap();
        fs::create_dir(folder.path().join("5.kept")).unwrap();
        let unable = bring(&unasked, at(3, 1), &snapshot(1, 1));
        assert!(matches!(unable, Answer::Unable(_)), "{unable:?}");
        fs::remove_dir(folder.path().join("5.kept")).unwrap();
        assert_eq!(shelves(folder.path()).mark(5), Ok(mark));
    }

    #[test]
    fn whatever_is_removed_of_a_shelf_what_is_there_then_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = snapshot(1, 3);
        let stint = |fence| at(fence, 0).by;
        let (mut fence, mut last) = (3, None);
        for gone in [
            &["5.kept"][..],
            &["5.promise"],
            &["5.kept", "5.promise"],
            &[],
        ] {
            let keeper = shelves(folder.path());
            let program = 5;
            keeper.answer(Letter::Ask {
                program,
                stint: stint(fence),
            });
            bring(&keeper, at(fence, 1), &bytes);
            let mark = keeper.mark(5).ok();
            assert_ne!(last.replace(mark), Some(mark), "{gone:?}");
            for file in gone {
                fs::remove_file(folder.path().join(file)).unwrap();
            }
            fence += 1;
            let answer = shelves(folder.path()).answer(Letter::Ask {
                program,
                stint: stint(fence),
            });
            let same = matches!(answer, Answer::Has(found, Some(_)) if Some(found) == mark);
            let other = matches!(answer, Answer::Has(found, None) if Some(found) != mark);
            assert_eq!(
                (same, other),
                (gone.is_empty(), !gone.is_empty()),
                "{answer:?}"
            );
        }
    }
}
