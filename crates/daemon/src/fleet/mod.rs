//! Several machines as one fleet.
//!
//! A machine that starts alone founds a fleet of one. It invites others with a line of text
//! ([`trust::invitation`]); whoever comes with it is given a certificate and a seat, and from then on every two members
//! talk over QUIC, each sure of whom it talks with. Who is there is not written in any list: it is what the membership
//! protocol, the very machine that the twin drives, makes of probes and answers.
//!
//! All of it runs on one thread beside the deciding one, because QUIC's library is `async` and nothing else in the
//! node is. The two speak by bounded channels: [`Fleet`] is the deciding side's end. Other protocols send and hear through it as well
//! ([`Fleet::send`], [`Fleet::listen`]): bytes of a class to a tile, no more.
//!
//! # Tour
//! [`identity`] keys and certificates · [`book`] invitations that still hold · [`joining`] how a stranger becomes a
//! member · [`directory`] where everybody is · [`transport`] bytes of a class to a member · [`member`] the node machine in
//! the real world · [`post`] questions to other nodes · [`council`] who runs what · [`parcel`] what is longer than a frame · [`echo`] how long a word takes ·
//! [`vitals`] how hot and busy everybody is · `copa` how much may be under way · `expulsion` who was thrown out · [`refusal`] what was turned away, by name · [`archive`] what is kept.
//!
//! Deliberately absent: work that takes its state along, more than one cell, and a second authority.

pub mod archive;
pub mod book;
mod copa;
pub mod council;
pub mod directory;
pub mod echo;
mod expulsion;
pub mod identity;
pub mod joining;
pub mod member;
pub mod parcel;
pub mod post;
pub mod refusal;
pub mod transport;
pub mod vitals;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::thread;
use std::time::Duration;

use consensus::{Index, Lease};
use node::council::{Became, Room, Unanswered};
use quinn::Endpoint;
use tokio::runtime;
use tokio::sync::mpsc;
use trust::invitation::{Fingerprint, Invitation};
use wire::{Class, DecodeError, Kelvin, Tile};

use crate::annals::{AnnalsError, Damaged};
use crate::heat::Reading;
use crate::make::Make;
use archive::{Archive, ArchiveError, Standing};
use council::{Log, Order};
use identity::{Authority, Identity, IdentityError, Secret, Validity};
use member::{Ask, Clock, Member, random};
pub use member::{FleetStatus, Guarded, Heard, Holon, Listed, PROTOCOL_FREE, SEATS};
use transport::{NotSent, Transport};

/// An invitation lasts so long unless somebody says otherwise.
pub const INVITATION_LASTS: Duration = Duration::from_secs(600);
/// And no longer than this: a week.
pub const INVITATION_LASTS_MAX: Duration = Duration::from_secs(7 * 86_400);

/// So many questions wait for the member.
const ASKS_MAX: usize = 64;
/// So much that others said waits for whoever listens.
pub const HEARD_MAX: usize = 256;

/// How a machine should be in its fleet.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Where to listen; otherwise where it listened last, or on loopback.
    pub listen: Option<SocketAddr>,
    /// Which fleet to join, if it is in none with others.
    pub join: Option<Invitation>,
    /// What to be called.
    pub name: Option<String>,
    /// What machine it is.
    pub make: Make,
    /// By how many nanoseconds its clock is to be wrong, for tests: ahead, or behind if negative.
    pub skew_ns: i64,
}

/// Why a machine is in no fleet.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// What is kept.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Keys and certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The kernel gives no randomness.
    #[error("the kernel gives no randomness")]
    Randomness,
    /// What is kept of the last incarnation is none.
    #[error("the fleet's state: the last incarnation is damaged: {0}")]
    Incarnation(DecodeError),
    /// A seat that no cell has.
    #[error("found seat {}, expected one below {SEATS}", .0.0)]
    Seat(Tile),
    /// Nothing can be bound there.
    #[error("listening at {at}: {source}")]
    Bind {
        /// Where.
        at: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// An address nobody can be told.
    #[error(
        "--listen {0}: found an address that means every interface, expected the one at which others reach this machine"
    )]
    Unspecified(SocketAddr),
    /// A name nobody can have.
    #[error(
        "--name {0:?}: expected at most 63 letters in lower case, digits and '-', which is neither first nor last"
    )]
    Name(String),
    /// What is kept of its fleet is gone.
    #[error(
        "{kept} knows of no fleet, but this machine was in fleet {fleet}: {traces} is there. Put a copy of {kept} back, or join again with an \
         invitation (--join); to found a new fleet, remove {traces}"
    )]
    Forgotten {
        /// The file that should know.
        kept: String,
        /// The fleet.
        fleet: String,
        /// What shows it.
        traces: String,
    },
    /// The kernel gives no thread.
    #[error("starting the fleet's thread: {0}")]
    Start(#[from] io::Error),
    /// It did not go on.
    #[error("the fleet's thread has ended")]
    Ended,
    /// What its council had written down.
    #[error("the council's log: {0}")]
    Log(#[from] AnnalsError),
    /// The same, and it is whole and of another kind.
    #[error("the council's log: {0}; was it written by another version of cosmos?")]
    Council(consensus::Unreadable),
    /// Nobody who can be understood is there.
    #[error("joining at {at}: {because}")]
    Unanswered {
        /// Where.
        at: SocketAddr,
        /// What happened instead.
        because: String,
    },
    /// One of them can be reached on its own host only.
    #[error(
        "joining at {to} from {from}: one of these is loopback, which nobody reaches from another host; both nodes need --listen with an address at \
         which the other reaches them, or both loopback on one host"
    )]
    Apart {
        /// Where this node listens.
        from: SocketAddr,
        /// Where it was invited to.
        to: SocketAddr,
    },
    /// Another fleet is there.
    #[error(
        "joining at {at}: wrong-fingerprint: found another fleet, expected {expected}; the invitation was not shown"
    )]
    WrongFingerprint {
        /// Where.
        at: SocketAddr,
        /// The invitation's.
        expected: Fingerprint,
    },
    /// The fleet does not take this machine in.
    #[error("joining at {at}: refused: {because}")]
    Refused {
        /// Where.
        at: SocketAddr,
        /// The word for why.
        because: String,
    },
    /// It is over already.
    #[error("joining: invitation-expired: it held until {} s ago", now - expires)]
    Expired {
        /// Until when it held.
        expires: u64,
        /// What time it is.
        now: u64,
    },
    /// This machine is in a fleet already.
    #[error(
        "joining: invitation-of-another-fleet: found an invitation to {invited}, but this machine is one of {known} in fleet {fleet}"
    )]
    Elsewhere {
        /// The fleet that it is in.
        fleet: Fingerprint,
        /// How many it knows there.
        known: usize,
        /// The fleet that it was invited to.
        invited: Fingerprint,
    },
    /// It is a fleet of its own, which has programs.
    #[error(
        "joining: this machine is all there is of fleet {fleet}, whose programs would be lost with it: found {}, expected none. Start it without \
         --join, end and forget each of them (`cosmos stop --fleet NAME`, `cosmos rm --fleet NAME`), and give them to the other fleet once it is \
         joined; the invitation was not shown", programs.join(", ")
    )]
    Laden {
        /// The fleet that it is.
        fleet: Fingerprint,
        /// Their names.
        programs: Vec<String>,
    },
    /// The same, and nobody can say which.
    #[error(
        "joining: this machine is all there is of fleet {fleet}, and which programs would be lost with it cannot be made out from {log}. Start it \
         without --join to see them (`cosmos ps --fleet`), or remove that if none of them is needed; the invitation was not shown"
    )]
    LadenWithUnknown {
        /// The fleet that it is.
        fleet: Fingerprint,
        /// Where it should be written.
        log: String,
    },
}

/// A node's membership, as the rest of the node has it. When the last of these is gone, the member takes
/// leave by itself.
#[derive(Clone, Debug)]
pub struct Fleet {
    asks: mpsc::Sender<Ask>,
}

/// Starts a member, which joins or founds a fleet first if it must.
///
/// # Errors
/// If it is in no fleet then. Nothing has changed, unless the answer to a joining was lost.
pub fn start(data: &Path, archive: Archive, wishes: Wishes) -> Result<Fleet, FleetError> {
    let data = data.to_owned();
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let (started, starting) = sync_channel(1);
    let thread = thread::Builder::new().name("fleet".into());
    thread.spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error.into()))),
        };
        runtime.block_on(async {
            match begin(&data, archive, wishes).await {
                Ok((member, happened)) => {
                    let _ = started.send(Ok(()));
                    member.live(asked, happened).await;
                }
                Err(error) => drop(started.send(Err(error))),
            }
        });
    })?;
    let gone = || io::Error::other("it ended at once");
    starting.recv().map_err(|_| gone())??;
    Ok(Fleet { asks })
}

async fn begin(
    data: &Path,
    archive: Archive,
    wishes: Wishes,
) -> Result<(Member, mpsc::Receiver<transport::Happening>), FleetError> {
    let clock = Clock::start(wishes.skew_ns);
    if let Some(name) = wishes
        .name
        .as_ref()
        .filter(|name| !directory::is_name(name))
    {
        return Err(FleetError::Name(name.clone()));
    }
    let name = wishes.name.unwrap_or_else(host_name);
    let endpoint = bind(&archive, wishes.listen)?;
    let standing = match (archive.standing()?, wishes.join) {
        (standing, Some(invitation)) => {
            join(
                data,
                &archive,
                &endpoint,
                standing,
                &invitation,
                &name,
                clock,
            )
            .await?
        }
        (Some(standing), None) => standing,
        (None, None) => {
            if let Some(fleet) = council::trace(data) {
                return Err(FleetError::Forgotten {
                    kept: data.join("fleet.redb").display().to_string(),
                    traces: data.join("council").join(&fleet).display().to_string(),
                    fleet,
                });
            }
            found(&archive, name, clock)?
        }
    };
    let at = |source| FleetError::Bind {
        at: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        source,
    };
    let address = endpoint.local_addr().map_err(at)?;
    archive.put_address(&address.to_string())?;
    let identity = Identity {
        secret: Secret::from_pkcs8(standing.key.clone())?,
        certificate: standing.certificate.clone().into(),
        authority: standing.authority.clone().into(),
    };
    let (transport, happened) = Transport::new(standing.tile, endpoint, &identity)?;
    let member = Member::new(archive, standing, clock, address, transport, &wishes.make)?;
    Ok((member, happened))
}

/// What people call this host.
fn host_name() -> String {
    let host = rustix::system::uname();
    directory::name_from(&host.nodename().to_string_lossy())
}

/// The port it had last is the one others will look at first, so it is tried before any free one.
fn bind(archive: &Archive, wished: Option<SocketAddr>) -> Result<Endpoint, FleetError> {
    if let Some(at) = wished.filter(|at| at.ip().is_unspecified()) {
        return Err(FleetError::Unspecified(at));
    }
    let last = archive
        .address()?
        .and_then(|at| at.parse::<SocketAddr>().ok());
    let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let at = wished.unwrap_or_else(|| last.map_or(loopback, |last| SocketAddr::new(last.ip(), 0)));
    if let Some(last) = last.filter(|last| at.port() == 0 && at.ip() == last.ip())
        && let Ok(endpoint) = transport::bind(last)
    {
        return Ok(endpoint);
    }
    transport::bind(at).map_err(|source| FleetError::Bind { at, source })
}

fn found(archive: &Archive, name: String, clock: Clock) -> Result<Standing, FleetError> {
    let now = clock.unix();
    let authority = Authority::found(now)?;
    let secret = Secret::generate()?;
    let tile = Tile(0);
    let certificate = authority.admit(&secret.public(), tile, &name, Validity::of_member(now))?;
    let standing = Standing {
        key: secret.as_pkcs8().to_vec(),
        certificate: certificate.to_vec(),
        authority: authority.certificate().to_vec(),
        tile,
        name,
        secret: random()?,
    };
    archive.enter(&standing, Some(authority.as_pkcs8()), &[])?;
    Ok(standing)
}

async fn join(
    data: &Path,
    archive: &Archive,
    endpoint: &Endpoint,
    standing: Option<Standing>,
    invitation: &Invitation,
    name: &str,
    clock: Clock,
) -> Result<Standing, FleetError> {
    let digest = invitation.secret.digest();
    if let Some(standing) = &standing {
        let fleet = Fingerprint::of(&standing.authority);
        if fleet == invitation.fingerprint {
            let shown = archive.shown()?;
            // It came with this before: whoever starts it need not change the command. Another one brings it back if it was expelled.
            if archive.authority()?.is_some() || shown.is_none_or(|shown| shown == digest) {
                return Ok(standing.clone());
            }
        }
        let known = archive.directory()?.len();
        if known > 1 && fleet != invitation.fingerprint {
            let invited = invitation.fingerprint;
            return Err(FleetError::Elsewhere {
                fleet,
                known,
                invited,
            });
        }
        if fleet != invitation.fingerprint {
            let fleet_name = fleet.to_string();
            match council::programs_of_one(data, &fleet_name, standing.tile)? {
                Some(programs) if programs.is_empty() => {}
                Some(programs) => return Err(FleetError::Laden { fleet, programs }),
                None => {
                    let log = data.join("council").join(fleet_name).display().to_string();
                    return Err(FleetError::LadenWithUnknown { fleet, log });
                }
            }
        }
    }
    let from = endpoint.local_addr()?;
    let (here, there) = (
        from.ip().is_loopback(),
        invitation.address.ip().is_loopback(),
    );
    if here != there {
        return Err(FleetError::Apart {
            from,
            to: invitation.address,
        });
    }
    let (now, expires) = (clock.unix(), invitation.expires);
    if now >= expires {
        return Err(FleetError::Expired { expires, now });
    }
    // Kept before it is shown: whoever must come again comes with the same key.
    let secret = match archive.key()? {
        Some(kept) => Secret::from_pkcs8(kept)?,
        None => Secret::generate()?,
    };
    archive.put_key(secret.as_pkcs8())?;
    let came = joining::join(endpoint, invitation, &secret, name).await;
    let welcome = match (came, standing.as_ref()) {
        (Ok(welcome), _) => welcome,
        (Err(error), Some(standing))
            if Fingerprint::of(&standing.authority) == invitation.fingerprint =>
        {
            eprintln!(
                "warning: {error}; this machine goes on as {}, which it is",
                standing.name
            );
            return Ok(standing.clone());
        }
        (Err(error), _) => return Err(error),
    };
    let ours = |standing: &Standing| Fingerprint::of(&standing.authority) == invitation.fingerprint;
    if let Some(standing) = standing.filter(ours) {
        if standing.tile == welcome.tile {
            // It has a seat already, and kept what it knows there.
            archive.put_shown(&digest)?;
            return Ok(standing);
        }
        // A vote belongs to a seat. First, for if this is all that is done it is a vote whose record is lost, which is not cast.
        council::forget(data)?;
    } else {
        // What was kept for a fleet that is given up is nobody's.
        match std::fs::remove_dir_all(data.join(crate::keeping::FOLDER)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let standing = Standing {
        key: secret.as_pkcs8().to_vec(),
        certificate: welcome.certificate,
        authority: welcome.authority,
        tile: welcome.tile,
        name: welcome.name,
        secret: welcome.secret,
    };
    archive.enter(&standing, None, &welcome.directory.0)?;
    archive.put_shown(&digest)?;
    Ok(standing)
}

impl Fleet {
    fn ask<T>(&self, ask: impl FnOnce(std::sync::mpsc::SyncSender<T>) -> Ask) -> Option<T> {
        let (answer, answered) = sync_channel(1);
        self.asks.blocking_send(ask(answer)).ok()?;
        answered.recv().ok()
    }

    /// The fleet as this machine believes it to be; `None` when it has ended.
    #[must_use]
    pub fn members(&self) -> Option<Vec<Listed>> {
        self.ask(Ask::Members)
    }

    /// How this machine is in it; `None` when it has ended.
    #[must_use]
    pub fn status(&self) -> Option<FleetStatus> {
        self.ask(Ask::Status)
    }

    /// Tells the guard how hot this machine is, and the others how it is besides; `None` when the fleet has ended.
    #[must_use]
    pub fn sense(&self, temperature: Kelvin, reading: Option<Reading>) -> Option<Guarded> {
        self.ask(|answer| Ask::Sense(temperature, reading, answer))
    }

    /// Makes an invitation that lasts so long.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub fn invite(&self, lasts: Duration) -> Result<Invitation, String> {
        let answer = self.ask(|answer| Ask::Invite { lasts, answer });
        answer.unwrap_or_else(|| Err("the node is ending".to_owned()))
    }

    /// Takes the seat of a machine away: no certificate for it counts any more.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub fn expel(&self, name: String) -> Result<Tile, String> {
        let answer = self.ask(|answer| Ask::Expel(name, answer));
        answer.unwrap_or_else(|| Err("the node is ending".to_owned()))
    }

    /// Takes leave of the others; returns once they have been told.
    pub fn leave(&self) {
        let _ = self.ask(Ask::Leave);
    }

    /// Takes this machine's seat in the council of the fleet, with what a node's directory holds of it: what is to begin and to end here, and
    /// what was found to be damaged.
    ///
    /// # Errors
    /// If its log cannot be read.
    pub fn sit(
        &self,
        data: &Path,
        room: Room,
    ) -> Result<(Receiver<Order>, Vec<Damaged>), FleetError> {
        let status = self.status().ok_or(FleetError::Ended)?;
        let (log, damaged) = Log::open(data, &status.fleet)?;
        let (orders, ordered) = channel();
        let sat = self.asks.blocking_send(Ask::Sit { log, room, orders });
        sat.map_err(|_| FleetError::Ended)?;
        Ok((ordered, damaged))
    }

    /// Asks the voters, and waits for what they agreed on.
    ///
    /// # Errors
    /// If no majority of them was heard.
    pub fn agree(&self, ask: consensus::Ask) -> Result<Arc<[u8]>, Unanswered> {
        let answer = self.ask(|answer| Ask::Council(ask, answer));
        answer.unwrap_or(Err(Unanswered::Silence))
    }

    /// Says what became of something that runs under a lease.
    pub fn became(&self, lease: Lease, fence: Index, became: Became) {
        let _ = self.asks.blocking_send(Ask::Became(lease, fence, became));
    }

    /// Sends bytes to a member: class A as a datagram, which may be lost, others reliably and in the order of their
    /// class for as long as the connection lives. Protocols below [`PROTOCOL_FREE`] are the fleet's own.
    ///
    /// # Errors
    /// Why they were not sent. Who needs to know whether they arrived asks for an answer.
    pub fn send(
        &self,
        to: Tile,
        class: Class,
        protocol: u8,
        payload: Vec<u8>,
    ) -> Result<(), NotSent> {
        let answer = self.ask(|answer| Ask::Send {
            to,
            class,
            protocol,
            payload,
            answer,
        });
        answer.unwrap_or(Err(NotSent::Left))
    }

    /// Hears what members say in a protocol, from now on and instead of whoever heard it before. What nobody
    /// takes while [`HEARD_MAX`] wait is refused and counted.
    #[must_use]
    pub fn listen(&self, protocol: u8) -> Receiver<Heard> {
        let (to, heard) = sync_channel(HEARD_MAX);
        let _ = self.asks.blocking_send(Ask::Listen { protocol, to });
        heard
    }
}
