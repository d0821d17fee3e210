//! What does the file say, and where is it wrong?
//!
//! A universe file is written by hand, often in a hurry, and a wrong number in
//! it costs hours of rehearsal before anyone doubts it. So this layer reads
//! TOML as a careful colleague would. Every number that has a dimension is
//! written with its unit and checked against a stated range; a key nobody asked
//! for is an error with the nearest key that exists; everything wrong is said
//! at once, each with its line; and `--set` on the command line goes through
//! the same checks as the file.
//!
//! A *schema* is an ordinary function from the root [`Table`] to whatever the
//! caller wants to know:
//!
//! ```
//! use twin::universe::{Document, Table};
//! use wire::{Kelvin, Nanos};
//!
//! fn limits(root: &Table<'_>) -> (Nanos, Kelvin) {
//!     let time = root.table("time", "How long to rehearse.");
//!     let heat = root.table("heat", "What the machines withstand.");
//!     (
//!         time.time("end", "When the rehearsal stops.")
//!             .range(Nanos::SECOND..=Nanos::DAY * 3650)
//!             .required(),
//!         heat.temperature("limit", "Above it a machine is damaged.")
//!             .range(Kelvin(200.0)..=Kelvin(500.0))
//!             .or(Kelvin(350.0)),
//!     )
//! }
//!
//! let text = "[time]\nend = \"2 d\"\n[heat]\nlimt = \"3 W\"\n";
//! let problems = Document::parse("x.toml", text, &[])?.read(limits).unwrap_err();
//! assert_eq!(
//!     problems.to_string(),
//!     "x.toml:4: heat.limt: unknown key; did you mean `limit`?\n\
//!      4 | limt = \"3 W\"\n  | ^^^^\n",
//! );
//!
//! let flag = ["heat.limt=1".parse()?];
//! let problems = Document::parse("x.toml", "time.end = \"1h\"", &flag)?.read(limits).unwrap_err();
//! assert_eq!(
//!     problems.to_string(),
//!     "--set heat.limt=1: unknown key; did you mean `heat.limit`?\n",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A read that fails hands back a placeholder inside the stated range and goes
//! on, so one pass finds every problem; [`Document::read`] then returns the
//! problems and the placeholders never leave. The same schema, run over
//! nothing, writes its own [`Reference`].
//!
//! Deliberately absent: any particular key, any notion of a shell or a site,
//! includes, variables and expressions. A universe is data.
//!
//! Tour: [`document`] the tree with the origin of every value · [`table`] how a
//! schema reads it · [`quantity`] numbers with units · [`setting`] `--set` and
//! sweeps · [`reference`](mod@reference) the keys a schema knows · [`error`] what can be wrong.

pub mod document;
pub mod error;
pub mod quantity;
pub mod reference;
pub mod setting;
pub mod table;

pub use document::{Document, Origin, Value};
pub use error::{Fault, Place, Problem, Problems};
pub use quantity::{BitsPerSecond, Bytes, Dimension, PerSecond};
pub use reference::Reference;
pub use setting::{Override, SettingError, Sweep};
pub use table::{Field, Table};
