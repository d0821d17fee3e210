//! What knocks at a fleet's door and is not let in, on real sockets: each refused by its name, counted, and of no
//! consequence to those who are in.

mod waiting;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use consensus::{Ask, Author, Kind, Message};
use daemon::fleet::archive::{Archive, Standing};
use daemon::fleet::identity::{
    Authority, Identity, MEMBERS, Secret, Validity, host_name, knocking,
};
use daemon::fleet::joining::{self, Request, Welcome};
use daemon::fleet::transport::frame_key;
use daemon::fleet::{self, Fleet, FleetError, PROTOCOL_FREE, Wishes, council, parcel};
use node::council::Room;
use quinn::{Connection, Endpoint};
use rustls::RootCertStore;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use trust::Key;
use trust::envelope::{SEALED_BYTES_MAX, Sealing, seal};
use trust::invitation::{Fingerprint, Invitation};
use wire::frame::PAYLOAD_BYTES_MAX;
use wire::{Cell, Class, Encode as _, Frame, Tile, Version};

use waiting::wait_until;

/// A fleet of one, whose authority the test knows, and a runtime for those who knock.
struct Door {
    fleet: Fleet,
    authority: Authority,
    secret: [u8; 32],
    runtime: Runtime,
    endpoint: Endpoint,
    _folder: TempDir,
}

fn now() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "certificates live by the host's clock"
    )]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs()
}

fn open(folder: &Path) -> Archive {
    Archive::open(&folder.join("fleet.redb")).unwrap()
}

impl Door {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let archive = open(folder.path());
        let (authority, key, secret) = (
            Authority::found(now()).unwrap(),
            Secret::generate().unwrap(),
            [9; 32],
        );
        let certificate =
            authority.admit(&key.public(), Tile(0), "first", Validity::of_member(now()));
        let standing = Standing {
            key: key.as_pkcs8().to_vec(),
            certificate: certificate.unwrap().to_vec(),
            authority: authority.certificate().to_vec(),
            tile: Tile(0),
            name: "first".into(),
            secret,
        };
        archive
            .enter(&standing, Some(authority.as_pkcs8()), &[])
            .unwrap();
        let fleet = fleet::start(folder.path(), archive, Wishes::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let endpoint = {
            let _within = runtime.enter();
            Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
        };
        Self {
            fleet,
            authority,
            secret,
            runtime,
            endpoint,
            _folder: folder,
        }
    }

    fn address(&self) -> SocketAddr {
        self.fleet.status().unwrap().address
    }

    fn refused(&self, name: &str) -> u64 {
        self.fleet
            .status()
            .unwrap()
            .refused
            .get(name)
            .copied()
            .unwrap_or(0)
    }

    #[track_caller]
    fn counts(&self, name: &str, times: u64) {
        wait_until(
            &format!(
                "{name} was counted {times} times: {:?}",
                self.fleet.status()
            ),
            || self.refused(name) == times,
        );
    }

    /// Another member, in this folder.
    fn second(&self, folder: &TempDir) -> Fleet {
        let wishes = Wishes {
            join: Some(self.invite(600)),
            name: Some("second".into()),
            ..Wishes::default()
        };
        fleet::start(folder.path(), open(folder.path()), wishes).unwrap()
    }

    fn invite(&self, seconds: u64) -> Invitation {
        self.fleet.invite(Duration::from_secs(seconds)).unwrap()
    }

    fn join(&self, invitation: &Invitation, key: &Secret) -> Result<Welcome, FleetError> {
        self.runtime
            .block_on(joining::join(&self.endpoint, invitation, key, "guest"))
    }

    #[track_caller]
    fn join_is_refused(&self, invitation: &Invitation, key: &Secret, word: &str) {
        match self.join(invitation, key) {
            Err(FleetError::Refused { because, .. }) => assert_eq!(because, word),
            other => panic!("{word}: {other:?}"),
        }
    }

    /// Somebody whom this authority, or that one, certified like this.
    fn identity(&self, by: &Authority, tile: u64, validity: Validity) -> Identity {
        let secret = Secret::generate().unwrap();
        Identity {
            certificate: by
                .admit(&secret.public(), Tile(tile), "guest", validity)
                .unwrap(),
            authority: self.authority.certificate().clone(),
            secret,
        }
    }

    /// Calls as a member. The caller's side is through before its certificate has been looked at.
    fn call(&self, identity: &Identity) -> Connection {
        let _within = self.runtime.enter();
        let config = quinn::ClientConfig::new(Arc::new(identity.calling().unwrap()));
        let calling = self
            .endpoint
            .connect_with(config, self.address(), &host_name(Tile(0)));
        self.runtime.block_on(calling.unwrap()).unwrap()
    }

    /// A member in good standing, on tile 5.
    fn member(&self) -> Connection {
        self.call(&self.identity(&self.authority, 5, Validity::of_member(now())))
    }
}

fn frame(sequence: u64) -> Frame {
    Frame {
        version: Version::CURRENT,
        class: Class::A,
        protocol: PROTOCOL_FREE,
        source: Tile(5),
        destination: Tile(0),
        sequence,
        payload: b"words".to_vec(),
    }
}

#[test]
fn an_invitation_takes_in_one_machine_for_a_while_and_only_here() {
    let door = Door::new();
    let (guest, thief) = (Secret::generate().unwrap(), Secret::generate().unwrap());
    let invitation = door.invite(600);
    // Somebody with the right secret who expects another fleet shows nothing.
    let elsewhere = Invitation {
        fingerprint: Fingerprint([3; 32]),
        ..invitation
    };
    let refused = door.join(&elsewhere, &thief);
    assert!(
        matches!(refused, Err(FleetError::WrongFingerprint { .. })),
        "{refused:?}"
    );
    door.counts("invitation-of-another-fleet", 1);

    let welcome = door.join(&invitation, &guest).unwrap();
    assert_eq!((welcome.tile, welcome.name.as_str()), (Tile(1), "guest"));
    // The answer may have been lost: the same machine may come again, another may not.
    let again = door.join(&invitation, &guest).unwrap();
    assert_eq!((again.tile, again.name.as_str()), (Tile(1), "guest"));
    door.join_is_refused(&invitation, &thief, "invitation-used");
    door.counts("invitation-used", 1);

    let unknown = Invitation {
        secret: trust::invitation::Secret([1; 16]),
        ..invitation
    };
    door.join_is_refused(&unknown, &thief, "invitation-unknown");
    door.counts("invitation-unknown", 1);

    let short = door.invite(1);
    wait_until("it has expired", || now() > short.expires);
    door.join_is_refused(&short, &thief, "invitation-expired");
    door.counts("invitation-expired", 1);

    // Two of a name are told apart.
    let other = door.join(&door.invite(600), &thief).unwrap();
    assert_eq!((other.tile, other.name.as_str()), (Tile(2), "guest-2"));
}

#[test]
fn who_does_not_hold_the_key_it_names_does_not_join_and_spends_no_invitation() {
    let door = Door::new();
    let invitation = door.invite(600);
    let (victim, thief) = (Secret::generate().unwrap(), Secret::generate().unwrap());
    let heard = door.runtime.block_on(async {
        let config = quinn::ClientConfig::new(Arc::new(knocking(invitation.fingerprint).unwrap()));
        let calling = door
            .endpoint
            .connect_with(config, invitation.address, &host_name(Tile(0)));
        let connection = calling.unwrap().await.unwrap();
        let (mut saying, mut hearing) = connection.open_bi().await.unwrap();
        let request = Request {
            secret: invitation.secret,
            key: victim.public(),
            proof: thief.sign(b"something"),
            name: "thief".into(),
        };
        saying.write_all(&request.to_bytes()).await.unwrap();
        saying.finish().unwrap();
        hearing.read_to_end(1000).await
    });
    assert!(heard.is_err(), "{heard:?}");
    door.counts("join-malformed", 1);
    assert!(door.join(&invitation, &victim).is_ok());
}

#[test]
fn only_the_authority_takes_newcomers_in() {
    let door = Door::new();
    let folder = TempDir::new().unwrap();
    let second = door.second(&folder);
    let refused = second.invite(Duration::from_secs(60)).unwrap_err();
    assert!(refused.contains("only first can invite"), "{refused}");
    let status = second.status().unwrap();
    let there = Invitation {
        address: status.address,
        tile: Tile(status.tile),
        ..door.invite(600)
    };
    door.join_is_refused(&there, &Secret::generate().unwrap(), "not-the-authority");
    assert_eq!(second.status().unwrap().refused["not-the-authority"], 1);
}

#[test]
fn certificates_that_are_missing_wrong_expired_or_of_oneself_open_nothing() {
    let door = Door::new();
    let good = Validity::of_member(now());
    let other = Authority::found(now()).unwrap();
    let past = Validity {
        from: now() - 7_200,
        to: now() - 3_600,
    };
    let future = Validity {
        from: now() + 3_600,
        to: now() + 7_200,
    };
    let tried = [
        (door.identity(&other, 5, good), "certificate-wrong", 1),
        (
            door.identity(&door.authority, 0, good),
            "certificate-wrong",
            2,
        ),
        (
            door.identity(&door.authority, 5, past),
            "certificate-expired",
            1,
        ),
        (
            door.identity(&door.authority, 5, future),
            "certificate-expired",
            2,
        ),
        (
            door.identity(&door.authority, 64, good),
            "certificate-wrong",
            3,
        ),
    ];
    for (identity, word, times) in tried {
        let connection = door.call(&identity);
        door.counts(word, times);
        drop(connection);
    }
    let mut roots = RootCertStore::empty();
    roots.add(door.authority.certificate().clone()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_protocol_versions(&[&rustls::version::TLS13])
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    config.alpn_protocols = vec![MEMBERS.to_vec()];
    let _within = door.runtime.enter();
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(config));
    let calling = door
        .endpoint
        .connect_with(config, door.address(), &host_name(Tile(0)));
    let connection = door.runtime.block_on(calling.unwrap()).unwrap();
    let ended = door.runtime.block_on(connection.closed());
    assert!(ended.to_string().contains("certificate-missing"), "{ended}");
    door.counts("certificate-missing", 1);
    // Nobody of these was taken for a member.
    assert_eq!(door.fleet.members().unwrap().len(), 1);
}

#[test]
fn what_a_member_says_to_the_council_is_bounded_and_refused_by_name() {
    let door = Door::new();
    let folder = TempDir::new().unwrap();
    let sat = door.fleet.sit(folder.path(), Room::default());
    let (_orders, damaged) = sat.unwrap();
    assert_eq!(damaged, []);
    let connection = door.member();
    let key = frame_key(&connection, true).unwrap();
    let mut sequence = 0;
    let mut say = |payload: Vec<u8>| {
        let said = Frame {
            protocol: council::PROTOCOL,
            payload,
            ..frame(sequence)
        };
        sequence += 1;
        connection.send_datagram(seal(&said, &key).into()).unwrap();
    };
    let parcel = |number, message: &Message| {
        let mut pieces = parcel::pack(number, &message.to_bytes()).unwrap();
        assert_eq!(pieces.len(), 1);
        pieces.remove(0)
    };
    let message = |cell, from, author| Message {
        cell: Cell(cell),
        from: Tile(from),
        to: Tile(0),
        kind: Kind::Request {
            author: Author {
                tile: Tile(author),
                desk: 1,
                life: 1,
            },
            number: 1,
            ask: Ask::Read(Arc::from(*b"")),
        },
    };
    say(b"\xff".to_vec());
    door.counts("frame-nonsense", 1);
    // More than anybody may say, and a piece of what was never begun.
    let announced = |total: u64, begin: u64| {
        let mut payload = 1_u64.to_bytes();
        total.encode(&mut payload);
        begin.encode(&mut payload);
        payload.push(0);
        payload
    };
    say(announced(1 << 40, 0));
    door.counts("frame-nonsense", 2);
    say(announced(1_000, 500));
    door.counts("frame-nonsense", 3);
    // In another's name, by its head and by who asks.
    say(parcel(2, &message(0, 4, 4)));
    door.counts("frame-nonsense", 4);
    say(parcel(3, &message(0, 5, 4)));
    door.counts("council-not-its-author", 1);
    say(parcel(4, &message(7, 5, 5)));
    door.counts("council-wrong-cell", 1);
    // Its own is answered, not refused.
    say(parcel(5, &message(0, 5, 5)));
    say(parcel(6, &message(7, 5, 5)));
    door.counts("council-wrong-cell", 2);
    let refused = door.fleet.status().unwrap().refused;
    assert_eq!(refused.values().sum::<u64>(), 7, "{refused:?}");
}

#[test]
fn frames_that_are_wrong_are_refused_by_name_and_the_next_right_one_is_heard() {
    let door = Door::new();
    let heard = door.fleet.listen(PROTOCOL_FREE);
    let connection = door.member();
    let key = frame_key(&connection, true).unwrap();
    let say = |bytes: Vec<u8>| connection.send_datagram(bytes.into()).unwrap();
    say(seal(&frame(0), &key));
    assert_eq!(
        heard.recv_timeout(Duration::from_secs(60)).unwrap().payload,
        b"words"
    );

    say(seal(&frame(0), &key));
    door.counts("frame-replayed", 1);
    say(seal(
        &Frame {
            version: Version(2),
            ..frame(1)
        },
        &key,
    ));
    door.counts("frame-version", 1);
    // The longest datagram the path carries is longer than any frame.
    let longest = connection.max_datagram_size().unwrap();
    assert!(longest > SEALED_BYTES_MAX, "{longest}");
    say(vec![0; longest]);
    door.counts("frame-oversize", 1);
    let long = Frame {
        payload: vec![0; PAYLOAD_BYTES_MAX + 1],
        ..frame(1)
    };
    say(seal(&long, &key));
    door.counts("frame-oversize", 2);
    let mut cut = seal(&frame(1), &key);
    cut.pop();
    say(cut);
    door.counts("frame-truncated", 1);
    say(seal(&frame(1), &Key::new([1; 32])));
    door.counts("frame-wrong-tag", 1);
    // A frame recorded on another connection of the same two proves nothing on this one.
    let elsewhere = door.member();
    say(seal(&frame(1), &frame_key(&elsewhere, true).unwrap()));
    door.counts("frame-wrong-tag", 2);
    // Nor one that is thrown back in its sender's face.
    say(seal(&frame(1), &frame_key(&connection, false).unwrap()));
    door.counts("frame-wrong-tag", 3);
    say(seal(
        &Frame {
            source: Tile(6),
            ..frame(1)
        },
        &key,
    ));
    door.counts("frame-wrong-parties", 1);
    say(seal(
        &Frame {
            class: Class::C,
            ..frame(1)
        },
        &key,
    ));
    door.counts("frame-wrong-way", 1);
    say(seal(
        &Frame {
            protocol: PROTOCOL_FREE + 1,
            ..frame(1)
        },
        &key,
    ));
    door.counts("frame-nonsense", 1);

    // On streams a frame stands behind its length.
    let stream = |bytes: Vec<u8>| {
        door.runtime.block_on(async {
            let mut stream = connection.open_uni().await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            stream.finish().unwrap();
        });
    };
    let behind = |length: usize, rest: &[u8]| {
        let mut bytes = u16::try_from(length).unwrap().to_be_bytes().to_vec();
        bytes.extend(rest);
        bytes
    };
    stream(behind(SEALED_BYTES_MAX + 1, b""));
    door.counts("frame-oversize", 3);
    let sealed = seal(
        &Frame {
            class: Class::C,
            ..frame(2)
        },
        &key,
    );
    stream(behind(sealed.len(), &sealed[..9]));
    door.counts("frame-truncated", 2);
    stream(vec![0]);
    door.counts("frame-truncated", 3);
    stream(behind(sealed.len(), &sealed));
    let said = heard.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!((said.from, said.class), (Tile(5), Class::C));
    stream(behind(sealed.len(), &sealed));
    door.counts("frame-replayed", 2);
    say(seal(&frame(3), &key));
    assert_eq!(
        heard.recv_timeout(Duration::from_secs(60)).unwrap().class,
        Class::A
    );
}

#[test]
fn a_member_speaks_for_itself_only_and_under_the_fleets_secret() {
    use membership::{Content, Kind, Message, Peer, Updates};
    let door = Door::new();
    let connection = door.member();
    let key = frame_key(&connection, true).unwrap();
    let mut sealing = Sealing::new(key, Tile(5), Tile(0));
    let grid = wire::Hexagons::of(fleet::SEATS).unwrap();
    let config = membership::Config::new(wire::Cell(0), grid, &Key::new(door.secret));
    let message = |from| Message {
        cell: wire::Cell(0),
        from: Peer(from),
        to: Peer(0),
        kind: Kind::Ping,
        number: 1 << 32,
        incarnation: 1,
        digest: 0,
        content: Content::Claims(Updates::NONE),
        tag: trust::Tag::from_bytes([0; 16]),
    };
    let mut say = |message: Message| {
        let sealed = sealing.seal(Class::A, 1, &message.to_bytes());
        connection.send_datagram(sealed.into()).unwrap();
    };
    say(message(4).sealed(&config.key));
    door.counts("frame-nonsense", 1);
    say(message(5));
    door.counts("message-forged", 1);
    say(message(5).sealed(&config.key));
    let answer = door.runtime.block_on(connection.read_datagram()).unwrap();
    assert!(answer.len() > 16, "it answers who it can prove");
}

#[test]
fn bytes_of_every_class_arrive_whole_in_the_order_of_their_class() {
    const MANY: u16 = 500;
    let door = Door::new();
    let folder = TempDir::new().unwrap();
    let second = door.second(&folder);
    let (here, there) = (
        door.fleet.listen(PROTOCOL_FREE),
        second.listen(PROTOCOL_FREE),
    );
    assert!(
        door.fleet
            .send(Tile(9), Class::C, PROTOCOL_FREE, Vec::new())
            .is_err(),
        "nobody is there"
    );
    wait_until("both know each other", || {
        [&door.fleet, &second]
            .iter()
            .all(|fleet| fleet.status().unwrap().alive == 2)
    });
    for (from, to, heard) in [(&door.fleet, Tile(1), &there), (&second, Tile(0), &here)] {
        for class in [Class::B, Class::C, Class::D] {
            for number in 0..MANY {
                let payload = number.to_be_bytes().repeat(500);
                // A full queue is said, not hidden; whoever must send waits.
                wait_until("there is room", || {
                    from.send(to, class, PROTOCOL_FREE, payload.clone()).is_ok()
                });
                if number % 64 == 63 || number + 1 == MANY {
                    for expected in number / 64 * 64..=number {
                        let said = heard.recv_timeout(Duration::from_secs(60)).unwrap();
                        assert_eq!(said.class, class);
                        assert_eq!(said.payload, expected.to_be_bytes().repeat(500));
                    }
                }
            }
        }
    }
    // Class A is a datagram: it may be lost, so it is said until it is heard.
    wait_until("a word of class A came", || {
        second
            .send(Tile(0), Class::A, PROTOCOL_FREE, b"now".to_vec())
            .unwrap();
        here.recv_timeout(Duration::from_millis(200))
            .is_ok_and(|said| said.class == Class::A)
    });
    for fleet in [&door.fleet, &second] {
        assert_eq!(fleet.status().unwrap().refused, Default::default());
    }
}
