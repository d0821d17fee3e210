//! What runs?
//!
//! Processes, as events. A process is a value with a message handler; a turn takes
//! one message and runs to its end. Processes live on three toroidal lattices, for
//! computation, input and output, and accelerators, and each lattice decides for
//! itself whose turn it is. There is no queue over all of them and no lock. The
//! three are braided: each tells the next one how it is, and keeps what is needed
//! to make the previous one again.
//!
//! # When is an event acknowledged?
//!
//! Once the sheet of the log that has it lies with the next torus, and not before.
//! Until then nothing it caused leaves the torus: no acknowledgement, no report to
//! the world, no message to another torus (`stream`). So a torus that is lost takes
//! with it only what nobody has seen.
//!
//! # Who says that a torus is lost?
//!
//! Two of three. The keeper, which has heard nothing for some intervals, asks in
//! its projection; the third consents and from then on hears neither the lost
//! torus nor anybody but its successor. A torus that is cut off from both others
//! gives nobody up. One that was given up by mistake is harmless: nobody keeps its
//! log, therefore nothing leaves it, and the first answer it gets tells it to stop.
//! (Without the third, a braid cut in two could run the same torus twice, each kept
//! by another; the model checker found the first step of that.) One that finds its
//! own memory damaged says so and stops; then there is nothing to agree on.
//!
//! # What is in the log?
//!
//! Only what comes from outside the lattice (`record`): messages and processes
//! that arrive, acknowledgements that make room, a decision to move a process, and
//! *so many turns were taken at this time*. Messages between a lattice's own
//! processes are not logged, because turns run again give them again. A run of a
//! thousand turns is a record of some ten bytes, which is why the log costs little,
//! and why a handler may depend on nothing but its arguments.
//!
//! # What is a snapshot, and who holds what?
//!
//! The next torus holds a lattice that does not run: the copy (`ward`). A
//! snapshot is those slots that changed since the one before, put in their places
//! if the whole then amounts to the digest that comes with it. A lost torus is the
//! copy, cloned, with the log since run again. The torus after that one holds
//! nothing of it but what it was sent and has not acknowledged, and what it has
//! sent and was not acknowledged; numbered lanes make both ends agree again
//! (`lane`). All three parts are needed, and two tori have them.
//!
//! One torus may be lost at a time: while a copy is being made anew, after its
//! keeper was lost, nothing of the torus concerned is acknowledged. If it too is
//! lost before the copy is whole, its keeper says [`Effect::Lost`] and starts
//! nothing. Nothing is ever rebuilt from averages, or from a part.
//!
//! # What does it cost?
//!
//! An interval costs the same among a thousand processes and a million, if as many
//! of them have something to do: the projection has a fixed size and its numbers
//! are kept up to date as things happen (`projection`), the log grows with what
//! arrives, a snapshot with what changed. Nothing ever walks over all processes,
//! except to make a copy from nothing. How long a rebuild takes is bounded by
//! [`Config::replay_max`].
//!
//! # How is damage found?
//!
//! Each slot has a seal (`seal`) that is checked before its process first runs
//! after a snapshot; a few others are looked at in each interval. A torus that
//! finds damage stops, and is rebuilt. Damage to a process between its first turn
//! and the next snapshot is sealed with it; audits find that: the keeper runs the
//! log over its copy, and what comes out must amount to what the torus says it is.
//!
//! # Deliberately absent
//!
//! Threads, sockets, clocks: a daemon gives each torus its own thread and carries
//! bytes. Preemption: a handler that does not return stops its torus, and whoever
//! runs untrusted code meters it inside the handler. Order between messages of
//! different senders; those of one sender to one process arrive as sent, unless
//! the process was on its way to a torus that turned out full. Copy-on-write and
//! page faults: [`Shape::locate`] says where an address lies and no more.
//!
//! Tour: `pid` names and weights · `place` where a number lies on the torus ·
//! `sites` the nearest free site · `mail` mailboxes · `ready` whose turn ·
//! `process` what a turn may do · `post` what crosses · `lane` its order ·
//! `lattice` the processes · `image` as bytes · `seal` damage · `record`
//! the log · `stream` what may leave · `ward` the copy · `projection` how it
//! is · `correction` what the next one does about it · `packet` bytes with
//! proof · `event` what a world tells and is told · `torus` all of it as one machine ·
//! [`drill`] work whose outcome is known.
#![no_std]

extern crate alloc;

mod config;
mod correction;
pub mod drill;
mod event;
mod image;
mod lane;
mod lattice;
mod mail;
mod packet;
mod pid;
mod place;
mod post;
mod process;
mod projection;
mod ready;
mod record;
mod seal;
mod sites;
mod stream;
mod torus;
mod ward;

pub use config::Config;
pub use event::{Effect, Input, Stopped};
pub use lattice::{Lattice, Limits, Tally};
pub use packet::{Packet, Says, Unreadable};
pub use pid::{Pid, Strand, Weight};
pub use place::{PAGE_BITS, Place, Shape};
pub use post::{Offer, Report};
pub use process::{Process, Refused, Turn};
pub use projection::{PROJECTION_BYTES_MAX, Projection};
pub use torus::Torus;
