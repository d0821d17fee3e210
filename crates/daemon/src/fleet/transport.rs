//! Bytes of a class to a member, and from whom they came.
//!
//! Between two members there is a QUIC connection, made when one first has something to say to the
//! other. Class A travels in datagrams, which overtake everything and are not sent again: what is urgent is
//! stale by the time a loss is noticed, and those who speak in it repeat themselves anyway. Classes B to
//! D each have a stream, reliable and in order, and QUIC serves the more urgent first.
//! So what floods one class delays the others by a packet at most, on this side of the wire; and lest it does so
//! beyond, what is under way goes by delay (`copa`).
//!
//! What travels is always a [`wire::Frame`] in its [`trust::envelope`], though TLS has proven already who
//! speaks. The envelope's key comes out of the handshake (a TLS exporter, RFC 5705), one for each connection and
//! direction: so it needs no distribution, dies with the connection, and a frame that is carried over
//! from another, or sent back, is refused. What it adds to TLS is the sequence, a source that is
//! held against the certificate, and frames that prove themselves beyond the socket.
//!
//! If both call at the same time there are two connections. Each side speaks on the one it has heard
//! of last and listens on both; the one nobody speaks on ends by [`IDLE_MAX`]. The same rule replaces the
//! connection of a machine that was killed as soon as it is back.
//!
//! Every queue is bounded: a full one is told to whoever sends ([`NotSent::NoRoom`]), except that of datagrams,
//! where the oldest give way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{Connection, Endpoint, IdleTimeout, Incoming, RecvStream, Side, TransportConfig};
use rustls::pki_types::CertificateDer;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use trust::Key;
use trust::envelope::{Opening, SEALED_BYTES_MAX, Sealing};
use wire::{Class, Frame, Tile};

use super::copa::Courtesy;
use super::identity::{self, Identity, IdentityError};
use super::joining::{self, Request};
use super::refusal::Refusal;

/// A connection on which nothing was heard for so long has ended.
pub const IDLE_MAX: Duration = Duration::from_secs(30);
/// So many may be at the door at a time.
pub const AT_THE_DOOR_MAX: usize = 64;
/// So many frames wait for a connection that is being made, and as many in each stream.
pub const WAITING_MAX: usize = 64;
/// So many bytes of datagrams may wait in a connection.
const DATAGRAMS_BYTES_MAX: usize = 256 << 10;
/// So much of what was said in classes B to D may wait for its acknowledgement: what fills a line of 1 Gbit/s for 8 ms.
const UNACKNOWLEDGED_BYTES_MAX: u64 = 1 << 20;
/// So many streams may a member have open towards another; three are needed.
const STREAMS_MAX: u32 = 8;
/// So many things that happened wait for the member; then the sockets wait.
const HAPPENINGS_MAX: usize = 1_024;

const LABEL: &[u8] = b"cosmos frame v1";

/// What the transport tells.
pub(super) enum Happening {
    /// A member is connected; to be handed to [`Transport::opened`].
    Connected { tile: Tile, connection: Connection },
    /// A call to a member failed.
    Unreachable { tile: Tile },
    /// A member said this.
    Heard { tile: Tile, frame: Frame },
    /// A member ended the conversation because this machine was expelled.
    Expelled,
    /// A connection ended.
    Gone { tile: Tile, connection: usize },
    /// Somebody was turned away.
    Refused(Refusal),
    /// Somebody would like to join, and holds the key it names.
    Newcomer {
        request: Box<Request>,
        connection: Connection,
        answering: quinn::SendStream,
    },
}

/// Why bytes were not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// Nobody knows where that tile is.
    #[error("tile {} is not known here", .0.0)]
    Nowhere(Tile),
    /// Too much waits for it already.
    #[error("too much waits for tile {} already", .0.0)]
    NoRoom(Tile),
    /// Longer than one frame carries.
    #[error("{0} bytes, expected at most {max}", max = wire::frame::PAYLOAD_BYTES_MAX)]
    TooLong(usize),
    /// This machine has left the fleet.
    #[error("this machine has left the fleet")]
    Left,
}

/// The member's side of every connection.
pub(super) struct Transport {
    me: Tile,
    endpoint: Endpoint,
    calling: quinn::ClientConfig,
    lines: BTreeMap<Tile, Line>,
    happenings: mpsc::Sender<Happening>,
}

enum Line {
    /// It is being called; this is to be said first.
    Calling(Vec<(Class, u8, Vec<u8>)>),
    Open(Open),
}

struct Open {
    connection: Connection,
    sealing: Sealing,
    /// Of classes B to D, once something was said in them.
    streams: BTreeMap<Class, mpsc::Sender<Vec<u8>>>,
}

fn settings() -> Arc<TransportConfig> {
    let mut settings = TransportConfig::default();
    settings
        .max_idle_timeout(Some(
            IdleTimeout::try_from(IDLE_MAX).expect("half a minute can be said"),
        ))
        .datagram_send_buffer_size(DATAGRAMS_BYTES_MAX)
        .congestion_controller_factory(Arc::new(Courtesy))
        .send_window(UNACKNOWLEDGED_BYTES_MAX)
        .max_concurrent_uni_streams(STREAMS_MAX.into())
        .max_concurrent_bidi_streams(1_u8.into());
    Arc::new(settings)
}

/// A socket that can call, and, once it knows as whom, answer.
pub(super) fn bind(at: SocketAddr) -> std::io::Result<Endpoint> {
    let socket = std::net::UdpSocket::bind(at)?;
    let runtime = Arc::new(quinn::TokioRuntime);
    Endpoint::new(quinn::EndpointConfig::default(), None, socket, runtime)
}

fn answering(config: QuicServerConfig) -> quinn::ServerConfig {
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(config));
    config.transport_config(settings());
    config
}

impl Transport {
    /// Answers on a socket from now on; what happens comes out of the receiver.
    pub(super) fn new(
        me: Tile,
        endpoint: Endpoint,
        identity: &Identity,
    ) -> Result<(Self, mpsc::Receiver<Happening>), IdentityError> {
        endpoint.set_server_config(Some(answering(identity.answering()?)));
        let mut calling = quinn::ClientConfig::new(Arc::new(identity.calling()?));
        calling.transport_config(settings());
        let (happenings, happened) = mpsc::channel(HAPPENINGS_MAX);
        tokio::spawn(keep_the_door(me, endpoint.clone(), happenings.clone()));
        let lines = BTreeMap::new();
        let transport = Self {
            me,
            endpoint,
            calling,
            lines,
            happenings,
        };
        Ok((transport, happened))
    }

    /// Calls a member unless there is a connection, or one is being made.
    pub(super) fn call(&mut self, tile: Tile, at: SocketAddr) {
        if self.lines.contains_key(&tile) {
            return;
        }
        self.lines.insert(tile, Line::Calling(Vec::new()));
        let (endpoint, calling) = (self.endpoint.clone(), self.calling.clone());
        let happenings = self.happenings.clone();
        tokio::spawn(async move {
            let host = identity::host_name(tile);
            let called = async {
                let calling = endpoint.connect_with(calling, at, &host).ok()?;
                calling.await.ok()
            };
            let happened = match timeout(joining::PATIENCE, called).await.ok().flatten() {
                Some(connection) => Happening::Connected { tile, connection },
                None => Happening::Unreachable { tile },
            };
            let _ = happenings.send(happened).await;
        });
    }

    /// Sends bytes of a class and protocol to a member that is, or will be, found there.
    pub(super) fn send(
        &mut self,
        to: Tile,
        at: Option<SocketAddr>,
        (class, protocol): (Class, u8),
        payload: Vec<u8>,
    ) -> Result<(), NotSent> {
        if payload.len() > wire::frame::PAYLOAD_BYTES_MAX {
            return Err(NotSent::TooLong(payload.len()));
        }
        if !self.lines.contains_key(&to) {
            self.call(to, at.ok_or(NotSent::Nowhere(to))?);
        }
        match self.lines.get_mut(&to) {
            Some(Line::Open(open)) => open.send(to, class, protocol, &payload),
            Some(Line::Calling(waiting)) if waiting.len() < WAITING_MAX => {
                waiting.push((class, protocol, payload));
                Ok(())
            }
            Some(Line::Calling(_)) => Err(NotSent::NoRoom(to)),
            None => Err(NotSent::Nowhere(to)),
        }
    }

    /// Sends all of these in this order, or none.
    pub(super) fn send_together(
        &mut self,
        to: Tile,
        at: Option<SocketAddr>,
        (class, protocol): (Class, u8),
        payloads: Vec<Vec<u8>>,
    ) -> Result<(), NotSent> {
        let room = match self.lines.get(&to) {
            Some(Line::Open(open)) => open.room(class),
            Some(Line::Calling(waiting)) => WAITING_MAX - waiting.len(),
            None => WAITING_MAX,
        };
        if payloads.len() > room {
            return Err(NotSent::NoRoom(to));
        }
        for payload in payloads {
            self.send(to, at, (class, protocol), payload)?;
        }
        Ok(())
    }

    /// Talks on this connection from now on.
    pub(super) fn opened(&mut self, tile: Tile, connection: Connection) {
        let (Some(saying), Some(hearing)) =
            (frame_key(&connection, true), frame_key(&connection, false))
        else {
            return;
        };
        let mut open = Open {
            sealing: Sealing::new(saying, self.me, tile),
            streams: BTreeMap::new(),
            connection: connection.clone(),
        };
        let opening = Opening::new(hearing, tile, self.me);
        tokio::spawn(listen(tile, connection, opening, self.happenings.clone()));
        if let Some(Line::Calling(waiting)) = self.lines.remove(&tile) {
            for (class, protocol, payload) in waiting {
                // There is room for as much as waited.
                let _ = open.send(tile, class, protocol, &payload);
            }
        }
        self.lines.insert(tile, Line::Open(open));
    }

    /// A call failed: what waited for it is lost.
    pub(super) fn unreachable(&mut self, tile: Tile) {
        if let Some(Line::Calling(_)) = self.lines.get(&tile) {
            self.lines.remove(&tile);
        }
    }

    /// Says no more to a member, and hears it no more where it was spoken with.
    pub(super) fn turn_out(&mut self, tile: Tile, refusal: Refusal) {
        if let Some(Line::Open(open)) = self.lines.remove(&tile) {
            open.connection
                .close(1_u8.into(), refusal.name().as_bytes());
        }
    }

    /// A connection ended; if it was the one spoken on, the next word makes another.
    pub(super) fn gone(&mut self, tile: Tile, connection: usize) {
        if let Some(Line::Open(open)) = self.lines.get(&tile)
            && open.connection.stable_id() == connection
        {
            self.lines.remove(&tile);
        }
    }

    /// Those with whom there is a connection.
    pub(super) fn connected(&self) -> Vec<Tile> {
        let open = |line: &Line| matches!(line, Line::Open(_));
        let lines = self.lines.iter().filter(|(_, line)| open(line));
        lines.map(|(tile, _)| *tile).collect()
    }

    /// Waits until the datagrams that were sent are on the wire, then ends every connection.
    pub(super) async fn close(&mut self) {
        const STEP: Duration = Duration::from_millis(5);
        for _ in 0..100 {
            let waiting = self.lines.values().any(|line| match line {
                Line::Open(open) => {
                    open.connection.datagram_send_buffer_space() < DATAGRAMS_BYTES_MAX
                }
                Line::Calling(_) => false,
            });
            if !waiting {
                break;
            }
            tokio::time::sleep(STEP).await;
        }
        self.lines.clear();
        self.endpoint.close(0_u8.into(), b"left");
        let _ = timeout(Duration::from_millis(500), self.endpoint.wait_idle()).await;
    }
}

/// The key of a connection's frames, of those this side says or of those it hears; `None` if TLS exports none.
#[must_use]
pub fn frame_key(connection: &Connection, said: bool) -> Option<Key> {
    let called = connection.side() == Side::Client;
    let context: &[u8] = if called == said { b"caller" } else { b"called" };
    let mut secret = [0; 32];
    connection
        .export_keying_material(&mut secret, LABEL, context)
        .ok()?;
    Some(Key::new(secret))
}

impl Open {
    /// How many frames of a class can be sent now. Nobody else sends meanwhile.
    fn room(&self, class: Class) -> usize {
        let stream = self.streams.get(&class);
        stream.map_or(WAITING_MAX, mpsc::Sender::capacity)
    }

    fn send(
        &mut self,
        to: Tile,
        class: Class,
        protocol: u8,
        payload: &[u8],
    ) -> Result<(), NotSent> {
        if class == Class::A {
            let sealed = self.sealing.seal(class, protocol, payload);
            // That it ended is told apart from this; lost is lost.
            let _ = self.connection.send_datagram(sealed.into());
            return Ok(());
        }
        let connection = &self.connection;
        let stream = self.streams.entry(class).or_insert_with(|| {
            let (stream, waiting) = mpsc::channel(WAITING_MAX);
            tokio::spawn(say(connection.clone(), class, waiting));
            stream
        });
        let place = stream.try_reserve().map_err(|_| NotSent::NoRoom(to))?;
        let sealed = self.sealing.seal(class, protocol, payload);
        place.send(sealed);
        Ok(())
    }
}

/// Writes what waits to the stream of a class, each frame behind its length.
async fn say(connection: Connection, class: Class, mut waiting: mpsc::Receiver<Vec<u8>>) {
    let Ok(mut stream) = connection.open_uni().await else {
        return;
    };
    let urgency = Class::D as i32 - class as i32;
    if stream.set_priority(urgency).is_err() {
        return;
    }
    while let Some(sealed) = waiting.recv().await {
        let length = u16::try_from(sealed.len()).expect("a sealed frame is shorter");
        let said = stream.write_all(&length.to_be_bytes()).await;
        if said.is_err() || stream.write_all(&sealed).await.is_err() {
            return;
        }
    }
}

/// Hears everything said on a connection until it ends.
async fn listen(
    tile: Tile,
    connection: Connection,
    mut opening: Opening,
    happenings: mpsc::Sender<Happening>,
) {
    let (said, mut heard) = mpsc::channel(WAITING_MAX);
    loop {
        let (datagram, sealed) = tokio::select! {
            datagram = connection.read_datagram() => match datagram {
                Ok(datagram) => (true, Ok(datagram.to_vec())),
                Err(_) => break,
            },
            stream = connection.accept_uni() => match stream {
                Ok(stream) => {
                    tokio::spawn(read(stream, said.clone()));
                    continue;
                }
                Err(_) => break,
            },
            Some(sealed) = heard.recv() => (false, sealed),
        };
        let opened = sealed.and_then(|sealed| opening.open(&sealed));
        let happened = match opened {
            Ok(frame) if (frame.class == Class::A) != datagram => {
                Happening::Refused(Refusal::FrameWrongWay)
            }
            Ok(frame) => Happening::Heard { tile, frame },
            Err(refused) => Happening::Refused(Refusal::Frame(refused)),
        };
        if happenings.send(happened).await.is_err() {
            return;
        }
    }
    if let Some(quinn::ConnectionError::ApplicationClosed(close)) = connection.close_reason()
        && close.reason == Refusal::CertificateRevoked.name().as_bytes()
    {
        let _ = happenings.send(Happening::Expelled).await;
    }
    let connection = connection.stable_id();
    let _ = happenings.send(Happening::Gone { tile, connection }).await;
}

type Sealed = Result<Vec<u8>, trust::envelope::Refused>;

/// Reads frames off a stream; whoever breaks off or announces too much is heard no further there.
async fn read(mut stream: RecvStream, said: mpsc::Sender<Sealed>) {
    use trust::envelope::Refused;
    loop {
        let mut length = [0; 2];
        match stream.read_exact(&mut length).await {
            Ok(()) => {}
            Err(quinn::ReadExactError::FinishedEarly(0)) => return,
            Err(quinn::ReadExactError::FinishedEarly(_)) => {
                let _ = said.send(Err(Refused::Truncated)).await;
                return;
            }
            Err(quinn::ReadExactError::ReadError(_)) => return,
        }
        let length = usize::from(u16::from_be_bytes(length));
        if length > SEALED_BYTES_MAX {
            let length = length as u64;
            let _ = said.send(Err(Refused::Oversize { length })).await;
            let _ = stream.stop(0_u8.into());
            return;
        }
        let mut sealed = vec![0; length];
        let read = match stream.read_exact(&mut sealed).await {
            Ok(()) => Ok(sealed),
            Err(quinn::ReadExactError::FinishedEarly(_)) => Err(Refused::Truncated),
            Err(quinn::ReadExactError::ReadError(_)) => return,
        };
        let last = read.is_err();
        if said.send(read).await.is_err() || last {
            return;
        }
    }
}

/// Lets in who comes, a bounded number at a time.
async fn keep_the_door(me: Tile, endpoint: Endpoint, happenings: mpsc::Sender<Happening>) {
    let places = Arc::new(Semaphore::new(AT_THE_DOOR_MAX));
    while let Some(incoming) = endpoint.accept().await {
        let happenings = happenings.clone();
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(async move {
                    let came = timeout(joining::PATIENCE * 2, meet(me, incoming)).await;
                    drop(place);
                    let happened = match came {
                        Ok(Ok(happened)) => happened,
                        Ok(Err(Some(refusal))) => Happening::Refused(refusal),
                        Ok(Err(None)) => return,
                        Err(_) => Happening::Refused(Refusal::Handshake),
                    };
                    let _ = happenings.send(happened).await;
                });
            }
            Err(_) => {
                incoming.refuse();
                let _ = happenings.try_send(Happening::Refused(Refusal::Crowd));
            }
        }
    }
}

/// Finds out who came: a member of this fleet, a newcomer, or somebody to be turned away.
async fn meet(me: Tile, incoming: Incoming) -> Result<Happening, Option<Refusal>> {
    let failed = |error| Refusal::of_handshake(&error);
    let connection = incoming.accept().map_err(failed)?.await.map_err(failed)?;
    let turn_away = |refusal: Refusal| {
        connection.close(1_u8.into(), refusal.name().as_bytes());
        Err(Some(refusal))
    };
    let speaks = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .and_then(|data| data.protocol);
    if speaks.as_deref() == Some(identity::NEWCOMERS) {
        return match joining::hear(&connection).await {
            Some((request, answering)) => Ok(Happening::Newcomer {
                request: Box::new(request),
                connection,
                answering,
            }),
            None => {
                // Whoever saw another fleet than the one invited to says so and hangs up.
                let refusal = connection
                    .close_reason()
                    .and_then(|error| Refusal::of_handshake(&error));
                turn_away(refusal.unwrap_or(Refusal::JoinMalformed))
            }
        };
    }
    let shown = connection
        .peer_identity()
        .and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
    let Some(certificate) = shown.as_ref().and_then(|chain| chain.first()) else {
        return turn_away(Refusal::CertificateMissing);
    };
    match identity::tile_of(certificate) {
        Some(tile) if tile != me => Ok(Happening::Connected { tile, connection }),
        _ => turn_away(Refusal::CertificateWrong),
    }
}
