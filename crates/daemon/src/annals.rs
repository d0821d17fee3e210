//! What was acknowledged, in order, on a disk that may fill up, lose power or rot.
//!
//! Annals are a folder of *segments*. Each begins with everything that still matters (its *base*) and goes on with
//! what happened since, in commits of a [chain]: no byte of it can change, vanish or move unseen, and
//! what is wrong has a place. A segment is built aside and renamed, so one that can be seen begins whole; the one
//! before it stays, because its end is worth as much as the next one's base.
//!
//! ```text
//! 0000000007.segment = magic · number · length of the base · last seal of segment 6 · seal · base · commits …
//! ```
//!
//! What was appended is on the disk when [`Annals::append`] returns. Records that are appended together cost one
//! write and one sync between them, which is all there is to group commit.
//!
//! **Damage.** What is read stops at the last good commit. The rest is *not believed* and *not thrown away*: the
//! whole file is kept beside, as `.damaged`, and whoever opens the annals is told what was found where.
//!
//! **A full disk.** Room is taken from the file system before it is needed. An append says how much must be left
//! after it; so small words that matter (stopped, ended) fit where new work is refused. What could not be written is
//! cut off again, and the next append finds all as it was. Only after a sync that failed does nobody know what the
//! disk holds; then nothing is appended until a new segment has been begun.
//!
//! Deliberately absent: what records mean.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use trust::chain::{self, Fault, Reader, Seal};

use crate::cache::make_private;

/// A segment that is longer should be followed by the next, in bytes.
pub const SEGMENT_MAX: u64 = 16 << 20;

/// Room is taken in pieces of this many bytes.
const PIECE: u64 = 256 << 10;

/// A base is written in commits of about this many bytes.
const BASE_COMMIT: usize = 1 << 20;

const MAGIC: [u8; 16] = *b"cosmos annals 1\n";
const HEADER: usize = MAGIC.len() + 8 + 8 + 2 * Seal::BYTES;
const PURPOSE: &str = "cosmos annals 1";

/// Open annals.
#[derive(Debug)]
pub struct Annals {
    folder: PathBuf,
    /// Of the segment that is appended to; `None` until one has been begun that is known to be sound.
    file: Option<File>,
    number: u64,
    end: u64,
    /// Up to here the file system has promised room.
    room: u64,
    seal: Seal,
    /// To be renamed once another segment holds what of them was good.
    damaged: Vec<PathBuf>,
}

/// What is wrong with a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The file.
    pub file: PathBuf,
    /// The bytes before this place are good.
    pub place: u64,
    /// How many come after it, and are not believed.
    pub lost: u64,
    /// What is wrong there.
    pub because: String,
    /// Whether it ends in the midst of a commit, as a crash leaves it: nobody was told that what is missing is there.
    pub torn: bool,
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} is damaged at byte {}: {}; the {} bytes from there on are not believed, and kept in {}",
            self.file.display(),
            self.place,
            self.because,
            self.lost,
            aside(&self.file).display()
        )
    }
}

/// Why annals could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AnnalsError {
    /// The disk says so. What was to be written is not there; what was written before is.
    #[error("{what} {path}: {source}")]
    Disk {
        /// What was being done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// After a sync that failed, nobody knows what is on the disk until a segment has been begun anew.
    #[error("what {path} holds is not known since it could not be synced")]
    Unsure {
        /// The folder.
        path: PathBuf,
    },
}

fn disk<E: Into<io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> AnnalsError {
    move |source| AnnalsError::Disk {
        what,
        path: path.to_owned(),
        source: source.into(),
    }
}

/// What one segment says.
struct Segment<'a> {
    previous: Seal,
    records: Vec<&'a [u8]>,
    end: usize,
    seal: Seal,
    /// Whether its base is whole.
    whole: bool,
    damage: Option<(usize, String)>,
    /// Whether that is only the end of a commit that is missing.
    torn: bool,
}

impl<'a> Segment<'a> {
    fn read(bytes: &'a [u8], number: u64) -> Self {
        let mut segment = Self {
            previous: beginning(),
            records: Vec::new(),
            end: 0,
            seal: beginning(),
            whole: false,
            damage: None,
            torn: false,
        };
        let Some((header, rest)) = bytes.split_at_checked(HEADER) else {
            let because = format!("found {} bytes, expected a header of {HEADER}", bytes.len());
            segment.damage = Some((0, because));
            return segment;
        };
        let (said, seal) = header.split_at(HEADER - Seal::BYTES);
        let expected = Seal::of(PURPOSE, said);
        let (magic, said) = said.split_at(MAGIC.len());
        let u64_at = |at: usize| u64::from_le_bytes(said[at..at + 8].try_into().expect("8 bytes"));
        let because = if magic != MAGIC {
            Some("found something else than annals of version 1".to_owned())
        } else if expected.0 != *seal {
            Some("found a header that is not the one that was sealed".to_owned())
        } else if u64_at(0) != number {
            Some(format!("found segment {} under this name", u64_at(0)))
        } else {
            None
        };
        if let Some(because) = because {
            segment.damage = Some((0, because));
            return segment;
        }
        segment
            .previous
            .0
            .copy_from_slice(&said[16..16 + Seal::BYTES]);
        let base = u64_at(8);
        let mut reader = Reader::new(rest, expected);
        loop {
            segment.whole |= reader.place() as u64 >= base;
            match reader.read() {
                Ok(Some(records)) => segment.records.extend(records),
                Ok(None) => {
                    if !segment.whole {
                        let place = reader.place();
                        let expected = usize::try_from(base).unwrap_or(usize::MAX);
                        let found = place;
                        let because = Fault::Torn { found, expected }.to_string();
                        segment.damage = Some((HEADER + place, because));
                    }
                    break;
                }
                Err(damage) => {
                    segment.torn = segment.whole && matches!(damage.fault, Fault::Torn { .. });
                    segment.damage = Some((HEADER + damage.place, damage.fault.to_string()));
                    break;
                }
            }
        }
        (segment.end, segment.seal) = (HEADER + reader.place(), reader.seal());
        segment
    }
}

/// Before the first segment.
fn beginning() -> Seal {
    Seal::of(PURPOSE, b"")
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

impl Annals {
    /// Opens the annals in a folder, which is made if need be, and hands every record that still matters to `told`,
    /// in order. What is wrong with them is returned; nothing of it has been touched yet.
    ///
    /// If something is wrong, or there are none, [`Annals::begin_anew`] must come before the first append.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn open(
        folder: &Path,
        mut told: impl FnMut(&[u8]),
    ) -> Result<(Self, Vec<Damaged>), AnnalsError> {
        make_private(folder).map_err(disk("making", folder))?;
        let mut annals = Self {
            folder: folder.to_owned(),
            file: None,
            number: 0,
            end: 0,
            room: 0,
            seal: beginning(),
            damaged: Vec::new(),
        };
        let numbers = annals.numbers()?;
        annals.number = numbers.last().copied().unwrap_or(0);
        let mut wrong = Vec::new();
        // What the segment read before this one expects at its end.
        let mut follows: Option<Seal> = None;
        for number in numbers.iter().rev() {
            let path = annals.path(*number);
            let bytes = fs::read(&path).map_err(disk("reading", &path))?;
            let mut segment = Segment::read(&bytes, *number);
            if let (Some(expected), None) = (follows, &segment.damage)
                && segment.seal != expected
            {
                let because = format!(
                    "found its end sealed {}, the next expects {expected}",
                    segment.seal
                );
                (segment.damage, segment.torn) = (Some((segment.end, because)), false);
            }
            if let Some((place, because)) = &segment.damage {
                wrong.push(Damaged {
                    file: path.clone(),
                    place: *place as u64,
                    lost: (bytes.len() - place) as u64,
                    because: because.clone(),
                    torn: segment.torn && *number == annals.number,
                });
                annals.damaged.push(path.clone());
            }
            if follows.is_some() {
                // Only looked at: a fallback that nobody reads is none.
                break;
            }
            if !segment.whole {
                continue;
            }
            segment.records.iter().for_each(|record| told(record));
            annals.seal = segment.seal;
            if *number == annals.number && segment.damage.is_none() {
                let file = File::options().write(true).open(&path);
                let file = file.map_err(disk("opening", &path))?;
                file.set_permissions(fs::Permissions::from_mode(0o600))
                    .map_err(disk("protecting", &path))?;
                annals.file = Some(file);
                annals.end = segment.end as u64;
                annals.room = annals.end;
            }
            follows = Some(segment.previous);
        }
        Ok((annals, wrong))
    }

    /// Of the segments in the folder, ascending.
    fn numbers(&self) -> Result<Vec<u64>, AnnalsError> {
        let mut numbers = Vec::new();
        let entries = fs::read_dir(&self.folder).map_err(disk("listing", &self.folder))?;
        for entry in entries {
            let name = entry
                .map_err(disk("listing", &self.folder))?
                .file_name()
                .into_string();
            let name = name.unwrap_or_default();
            let number = name.strip_suffix(".segment").filter(|n| n.len() == 10);
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:010}.segment"))
    }

    /// The seal over everything so far.
    #[must_use]
    pub fn seal(&self) -> Seal {
        self.seal
    }

    /// Whether a new segment should be begun, or must be before anything else.
    #[must_use]
    pub fn wants_anew(&self) -> bool {
        self.file.is_none() || self.end > SEGMENT_MAX
    }

    /// Appends these records together; they are on the disk when this returns. `spare` bytes must be left for
    /// appends after it.
    ///
    /// # Errors
    /// If the disk has no room or fails, or [`Annals::begin_anew`] must come first. The annals are as they were.
    ///
    /// # Panics
    /// As [`chain::commit`].
    pub fn append<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a [u8]>,
        spare: u64,
    ) -> Result<(), AnnalsError> {
        let mut bytes = Vec::new();
        let seal = chain::commit(self.seal, records, &mut bytes);
        let end = self.end + bytes.len() as u64;
        let path = self.path(self.number);
        let unsure = || AnnalsError::Unsure {
            path: self.folder.clone(),
        };
        let file = self.file.as_ref().ok_or_else(unsure)?;
        if end + spare > self.room {
            self.room =
                take_room(file, self.end, end + spare).map_err(disk("taking room in", &path))?;
        }
        if let Err(error) = file.write_all_at(&bytes, self.end) {
            // Cutting gives back the room beyond, too.
            match file.set_len(self.end) {
                Ok(()) => self.room = self.end,
                Err(_) => self.file = None,
            }
            return Err(disk("writing", &path)(error));
        }
        if let Err(error) = file.sync_data() {
            self.file = None;
            return Err(disk("syncing", &path)(error));
        }
        (self.end, self.seal) = (end, seal);
        Ok(())
    }

    /// Begins the next segment with these records, which say all that still matters; it is on the disk when this
    /// returns. Of older segments the last stays, and those that are damaged under another name.
    ///
    /// # Errors
    /// If the disk has no room or fails. The annals are as they were.
    pub fn begin_anew<'a>(
        &mut self,
        base: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), AnnalsError> {
        let number = self.number + 1;
        let mut base = base.into_iter().peekable();
        let header = |length: u64| {
            let mut header = MAGIC.to_vec();
            header.extend(number.to_le_bytes());
            header.extend(length.to_le_bytes());
            header.extend(self.seal.0);
            let seal = Seal::of(PURPOSE, &header);
            header.extend(seal.0);
            (header, seal)
        };
        // The chain begins with the header's seal, which speaks for the base's length: so that comes first.
        let mut pieces: Vec<Vec<&[u8]>> = Vec::new();
        let mut length = 0;
        while base.peek().is_some() {
            let (mut piece, mut held) = (Vec::new(), 0);
            while let Some(record) = base.next_if(|_| held < BASE_COMMIT) {
                held += 4 + record.len();
                piece.push(record);
            }
            length += (4 + held + Seal::BYTES) as u64;
            pieces.push(piece);
        }
        let (mut bytes, mut seal) = header(length);
        for piece in pieces {
            seal = chain::commit(seal, piece, &mut bytes);
        }
        debug_assert_eq!(bytes.len() as u64, HEADER as u64 + length);
        let (path, new) = (self.path(number), self.folder.join("new"));
        let end = bytes.len() as u64;
        let written = || -> Result<(File, u64), AnnalsError> {
            let file = File::options()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&new)
                .map_err(disk("making", &new))?;
            let room = take_room(&file, 0, end).map_err(disk("taking room in", &new))?;
            file.write_all_at(&bytes, 0)
                .map_err(disk("writing", &new))?;
            file.sync_all().map_err(disk("syncing", &new))?;
            fs::rename(&new, &path).map_err(disk("naming", &path))?;
            Ok((file, room))
        };
        let (file, room) = written().inspect_err(|_| drop(fs::remove_file(&new)))?;
        (self.file, self.number, self.end) = (Some(file), number, end);
        (self.room, self.seal) = (room, seal);
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        if let Err(error) = synced {
            self.file = None;
            return Err(disk("syncing", &self.folder)(error));
        }
        for path in std::mem::take(&mut self.damaged) {
            // What cannot be kept aside stays where it is, until a later segment is sound.
            let _ = fs::rename(&path, aside(&path));
        }
        for old in self.numbers()?.into_iter().filter(|old| old + 1 < number) {
            let path = self.path(old);
            fs::remove_file(&path).map_err(disk("removing", &path))?;
        }
        Ok(())
    }
}

/// Room from `from` to at least `to`, and a piece more where there is one: up to where it reaches now.
fn take_room(file: &File, from: u64, to: u64) -> Result<u64, Errno> {
    let take = |to: u64| {
        rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, from, to - from).map(|()| to)
    };
    match take(to + PIECE).or_else(|_| take(to)) {
        // Nobody promises anything there; a write will show.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(u64::MAX),
        taken => taken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> (Annals, Vec<String>, Vec<Damaged>) {
        let mut records = Vec::new();
        let told = |record: &[u8]| records.push(String::from_utf8(record.to_vec()).unwrap());
        let (annals, damage) = Annals::open(folder, told).unwrap();
        (annals, records, damage)
    }

    /// Annals with a base of one record and two commits after it.
    fn three(folder: &Path) -> PathBuf {
        let (mut annals, _, _) = open(folder);
        annals.begin_anew([&b"base"[..]]).unwrap();
        annals.append([&b"one"[..], b"two"], 0).unwrap();
        annals.append([&b"three"[..]], 0).unwrap();
        annals.path(annals.number)
    }

    #[test]
    fn what_was_appended_is_there_when_they_are_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        three(folder.path());
        let (mut annals, records, damage) = open(folder.path());
        assert_eq!(records, ["base", "one", "two", "three"]);
        assert_eq!((damage, annals.wants_anew()), (Vec::new(), false));
        annals.append([&b"four"[..]], 0).unwrap();
        let seal = annals.seal();
        let (annals, records, _) = open(folder.path());
        assert_eq!(records, ["base", "one", "two", "three", "four"]);
        assert_eq!(annals.seal(), seal);
    }

    #[test]
    fn a_new_segment_holds_what_still_matters_and_the_old_one_stays_for_one_turn() {
        let folder = tempfile::tempdir().unwrap();
        three(folder.path());
        let (mut annals, _, _) = open(folder.path());
        for _ in 0..3 {
            annals.begin_anew([&b"base"[..], b"three"]).unwrap();
        }
        annals.append([&b"four"[..]], 0).unwrap();
        assert_eq!(annals.numbers().unwrap(), [3, 4]);
        let (annals, records, damage) = open(folder.path());
        assert_eq!(records, ["base", "three", "four"]);
        assert_eq!((damage, annals.number), (Vec::new(), 4));
        // An empty base is one too.
        let (mut annals, _, _) = open(folder.path());
        annals.begin_anew([]).unwrap();
        assert_eq!(open(folder.path()).1, [""; 0]);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_told_and_costs_only_what_follows() {
        let folder = tempfile::tempdir().unwrap();
        let path = three(folder.path());
        let whole = fs::read(&path).unwrap();
        let all = ["base", "one", "two", "three"];
        let mut seen = Vec::new();
        for byte in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[byte] ^= 0x10;
            for bytes in [&flipped[..], &whole[..byte]] {
                fs::write(&path, bytes).unwrap();
                let (_, records, damage) = open(folder.path());
                assert!(all.starts_with(&records.iter().map(String::as_str).collect::<Vec<_>>()));
                // A cut between commits leaves annals that are whole, and shorter.
                let between = bytes.len() < whole.len() && damage.is_empty();
                assert!(between || damage.len() == 1, "{byte}: {damage:?}");
                if let [damage] = &damage[..] {
                    assert!(damage.place as usize <= byte, "{damage}");
                    assert_eq!(damage.place + damage.lost, bytes.len() as u64);
                }
                if between {
                    seen.push(records.len());
                }
            }
        }
        assert_eq!(seen, [1, 3]);
    }

    #[test]
    fn what_is_damaged_is_kept_aside_and_what_was_good_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = three(folder.path());
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let (mut annals, records, damage) = open(folder.path());
        assert_eq!((records.len(), damage.len()), (3, 1));
        assert!(matches!(
            annals.append([&b"x"[..]], 0),
            Err(AnnalsError::Unsure { .. })
        ));
        let records: Vec<_> = records.iter().map(String::as_bytes).collect();
        annals.begin_anew(records).unwrap();
        annals.append([&b"x"[..]], 0).unwrap();
        assert_eq!(fs::read(path.with_extension("damaged")).unwrap(), bytes);
        let (_, records, damage) = open(folder.path());
        assert_eq!(records, ["base", "one", "two", "x"]);
        assert_eq!(damage, []);
    }

    #[test]
    fn a_base_that_is_damaged_is_made_good_by_the_segment_before() {
        let folder = tempfile::tempdir().unwrap();
        three(folder.path());
        let (mut annals, records, _) = open(folder.path());
        let records: Vec<_> = records.iter().map(String::as_bytes).collect();
        annals.begin_anew(records).unwrap();
        let path = annals.path(annals.number);
        let whole = fs::read(&path).unwrap();
        for byte in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1;
            fs::write(&path, flipped).unwrap();
            let (_, records, damage) = open(folder.path());
            assert_eq!(records, ["base", "one", "two", "three"], "byte {byte}");
            assert_eq!(damage.len(), 1, "{damage:?}");
        }
        fs::write(&path, b"").unwrap();
        let (_, records, damage) = open(folder.path());
        assert_eq!(records.len(), 4);
        assert!(damage[0].because.contains("found 0 bytes"), "{damage:?}");
        // The other way round it costs nothing, and is told all the same.
        fs::write(&path, whole).unwrap();
        let before = annals.path(annals.number - 1);
        let mut bytes = fs::read(&before).unwrap();
        bytes[HEADER + 5] ^= 1;
        fs::write(&before, bytes).unwrap();
        let (annals, records, damage) = open(folder.path());
        assert_eq!((records.len(), damage.len()), (4, 1));
        assert!(!annals.wants_anew());
    }
}
