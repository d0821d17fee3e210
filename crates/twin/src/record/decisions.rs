//! What was decided, for those who ask with their own tools?
//!
//! `decisions.parquet`: a row for each decision, in the order in which they were made, in the
//! columnar format that every data frame reads. Nothing is packed beyond the format's own
//! dictionaries, which keep the few words of actions and reasons at a byte each.
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `time_ns` | `INT64` | when, nanoseconds since the run began |
//! | `action`, `reason` | `STRING` | what was done and why, in telemetry's words |
//! | `job` | `INT64`, optional | the piece of work, if there is one |
//! | `node` | `INT64` | the node that decided or was decided on |
//! | `found`, `bound` | `DOUBLE` | the two numbers that settled it |

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{ConvertedType, Encoding, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use telemetry::Decision;

use super::RecordError;

/// Decisions on their way into a file. Without [`Decisions::finish`] the file is no
/// Parquet file.
#[derive(Debug)]
pub struct Decisions {
    writer: SerializedFileWriter<File>,
    rows: Vec<Decision>,
    path: PathBuf,
}

/// Rows per group: half a megabyte until they are written, and what a reader skips at once.
const GROUP: usize = 1 << 13;

impl Decisions {
    /// Begins a file that does not exist yet.
    pub fn create(path: &Path) -> Result<Self, RecordError> {
        let file = File::create_new(path).map_err(|source| RecordError::File {
            doing: "create",
            path: path.to_owned(),
            source,
        })?;
        let properties = WriterProperties::builder()
            .set_encoding(Encoding::PLAIN)
            .set_created_by("cosmos".to_owned())
            .build();
        let writer = schema()
            .and_then(|schema| {
                SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))
            })
            .map_err(refused("create", path))?;
        Ok(Self {
            writer,
            rows: Vec::with_capacity(GROUP),
            path: path.to_owned(),
        })
    }

    /// Records a decision.
    //= requirements S7
    pub fn push(&mut self, decision: &Decision) -> Result<(), RecordError> {
        self.rows.push(*decision);
        if self.rows.len() < GROUP {
            return Ok(());
        }
        self.flush()
    }

    /// Ends the file.
    pub fn finish(mut self) -> Result<(), RecordError> {
        self.flush()?;
        self.writer
            .close()
            .map(|_| ())
            .map_err(refused("finish", &self.path))
    }

    fn flush(&mut self) -> Result<(), RecordError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        let mut write = || {
            let mut group = self.writer.next_row_group()?;
            let all = || rows.iter();
            let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            let word = |word: &'static str| ByteArray::from(word);
            column::<Int64Type>(&mut group, all().map(|d| number(d.at.0)), None)?;
            column::<ByteArrayType>(&mut group, all().map(|d| word(d.action.name())), None)?;
            column::<ByteArrayType>(&mut group, all().map(|d| word(d.reason.name())), None)?;
            let known = |d: &&Decision| d.work != Decision::NO_WORK;
            let levels: Vec<i16> = all().map(|d| i16::from(known(&d))).collect();
            let jobs = all().filter(known).map(|d| number(d.work));
            column::<Int64Type>(&mut group, jobs, Some(&levels))?;
            column::<Int64Type>(&mut group, all().map(|d| number(d.subject.0)), None)?;
            column::<DoubleType>(&mut group, all().map(|d| d.found), None)?;
            column::<DoubleType>(&mut group, all().map(|d| d.bound), None)?;
            group.close()
        };
        let done = write().map(|_| ());
        self.rows = rows;
        self.rows.clear();
        done.map_err(refused("write decisions to", &self.path))
    }
}

fn schema() -> Result<Type, ParquetError> {
    let field = |name: &str, of: Physical, repeated: Repetition| {
        let field = Type::primitive_type_builder(name, of).with_repetition(repeated);
        let text = of == Physical::BYTE_ARRAY;
        let field = if text {
            field.with_converted_type(ConvertedType::UTF8)
        } else {
            field
        };
        field.build().map(Arc::new)
    };
    let fields = vec![
        field("time_ns", Physical::INT64, Repetition::REQUIRED)?,
        field("action", Physical::BYTE_ARRAY, Repetition::REQUIRED)?,
        field("reason", Physical::BYTE_ARRAY, Repetition::REQUIRED)?,
        field("job", Physical::INT64, Repetition::OPTIONAL)?,
        field("node", Physical::INT64, Repetition::REQUIRED)?,
        field("found", Physical::DOUBLE, Repetition::REQUIRED)?,
        field("bound", Physical::DOUBLE, Repetition::REQUIRED)?,
    ];
    Type::group_type_builder("decisions")
        .with_fields(fields)
        .build()
}

fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: impl Iterator<Item = T::T>,
    levels: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("a column too many".to_owned()));
    };
    let values: Vec<T::T> = values.collect();
    column.typed::<T>().write_batch(&values, levels, None)?;
    column.close()
}

fn refused(doing: &'static str, path: &Path) -> impl FnOnce(ParquetError) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Parquet {
        doing,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;
    use telemetry::{Action, Reason};
    use wire::{Instant, Tile};

    //= requirements S7
    #[test]
    fn what_was_written_is_read_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.parquet");
        let decision = |i: u64| Decision {
            at: Instant(i * 1_000),
            action: if i.is_multiple_of(3) {
                Action::Place
            } else {
                Action::Park
            },
            reason: Reason::BestScore,
            subject: Tile(i % 7),
            work: if i.is_multiple_of(3) {
                i
            } else {
                Decision::NO_WORK
            },
            found: i as f64 / 3.0,
            bound: -1.0,
        };
        let mut decisions = Decisions::create(&path).unwrap();
        let count = GROUP as u64 + 10;
        for i in 0..count {
            decisions.push(&decision(i)).unwrap();
        }
        decisions.finish().unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 2);
        let mut read = 0;
        for (row, i) in reader.get_row_iter(None).unwrap().zip(0_u64..) {
            let (row, written) = (row.unwrap(), decision(i));
            assert_eq!(row.get_long(0).unwrap(), written.at.0 as i64);
            assert_eq!(row.get_string(1).unwrap(), written.action.name());
            assert_eq!(row.get_string(2).unwrap(), written.reason.name());
            assert_eq!(
                row.get_long(3).ok(),
                i.is_multiple_of(3).then_some(i as i64)
            );
            assert_eq!(row.get_long(4).unwrap(), written.subject.0 as i64);
            assert_eq!(row.get_double(5).unwrap(), written.found);
            assert_eq!(row.get_double(6).unwrap(), written.bound);
            read += 1;
        }
        assert_eq!(read, count);
        let again = Decisions::create(&path).unwrap_err().to_string();
        assert!(again.contains("cannot create"), "{again}");
    }
}
