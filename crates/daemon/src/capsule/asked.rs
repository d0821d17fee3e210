//! How is a capsule asked that lives from event to event?
//!
//! Over HTTP, on the ports it was given: the body of a `POST` is an event, and the body of the answer is its answer. Events of all who ask are put in one row,
//! and each has a number in it, which the answer names (`Event-Number`). What lies ready together shares a snapshot, as events of a file do, and is
//! answered once that is kept ([`events`](super::events)). `GET` says how many events there were, and asks nothing.
//!
//! # Once, for many
//! Who asks and hears nothing does not know whether it was done. An event that is given a name of its own, with `Idempotency-Key` (the header of the IETF's draft
//! *The Idempotency-Key HTTP Header Field*), may be asked again by that name: it is done once, and the answer is said again, with `Idempotent-Replayed: true`.
//! Names are kept with the state for the last [`ANSWERS_KEPT`] events, on whatever machine it goes on. Answers too, as many as fit: who asks again for one that
//! did not is told that it was done (410). A name is one event's: who gives it to another is refused (422).
//!
//! An event that ends in a trap has not taken place and is answered with 500; the next finds the capsule as it was before. If its state cannot be kept the
//! answer is 503 and the capsule ends: whether that event took place is known to whoever goes on with it, and asking again by name finds out.
//!
//! Bounds are those of any capsule that answers HTTP ([`served`](super::served)), and a body is no longer than an event ([`EVENT_MAX`]).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::events::{self, BATCH_MAX, EVENT_MAX, Keeper, Living, Stop, with_living};
use super::served::{self, ANSWER_PATIENCE, Answers};
use super::{Ended, Failed, Home};
use crate::cache::make_private;
use crate::program::{Kind, Program};

/// The answers to so many events are kept for who asks again.
const ANSWERS_KEPT: usize = 1_024;
/// No name of an event is longer, in bytes.
const KEY_MAX: usize = 128;

const NUMBER: HeaderName = HeaderName::from_static("event-number");
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An event on its way to the capsule.
struct Asked {
    /// See [`key_of`]; empty if it was given no name.
    key: Vec<u8>,
    event: Vec<u8>,
    answer: oneshot::Sender<Said>,
}

/// What came of it.
enum Said {
    Answered {
        number: u64,
        said: Vec<u8>,
        again: bool,
    },
    /// It was done, and what it answered is no longer kept.
    Past(u64),
    /// Its name is that of another event, which has this number.
    Taken(u64),
    Failed(String),
    NotKept(String),
}

/// What ends a name: no value of a header holds it.
const END: u8 = 0;

/// What an event is known by: its name, and a hash of what it is.
fn key_of(name: &[u8], event: &[u8]) -> Vec<u8> {
    [name, &[END], blake3::hash(event).as_bytes()].concat()
}

/// The name in that, with its end.
fn name_in(key: &[u8]) -> &[u8] {
    let end = key.iter().position(|byte| *byte == END);
    &key[..end.map_or(0, |end| end + 1)]
}

/// The side that is asked.
struct Desk {
    program: Program,
    to: SyncSender<Asked>,
    seen: Arc<AtomicU64>,
}

/// Lets a capsule live from what it is asked until this process is told to end.
pub(super) fn serve(
    program: &Program,
    kind: Kind,
    data: &Path,
    home: Option<&Home>,
) -> Result<Ended, Failed> {
    let unreachable = |because: std::io::Error| served::unreachable(program, because);
    let Some(home) = home else {
        let because = "what it becomes must be kept somewhere: expected --state FILE, or --detach, where the node keeps it";
        return Err(served::unreachable(program, because));
    };
    let (end, told) = served::told_to_end().map_err(unreachable)?;
    if let Some(folder) = home.state.parent() {
        make_private(folder).map_err(|error| Failed::State {
            path: folder.to_owned(),
            because: format!("making it: {error}"),
        })?;
    }
    let place = events::Home {
        state: &home.state,
        keeper: (home.lease.as_ref()).map(|tenancy| Keeper { data, tenancy }),
    };
    with_living(program, kind, data, &place, |living| {
        let doors = served::listen(program)?;
        let (to, asked) = sync_channel(BATCH_MAX);
        let seen = Arc::new(AtomicU64::new(living.seen()));
        let desk = Desk {
            program: program.clone(),
            to,
            seen: Arc::clone(&seen),
        };
        let serving = thread::Builder::new().name("asked".into());
        let serving = serving
            .spawn(move || served::serve_until_told(Arc::new(desk), doors, told))
            .map_err(unreachable)?;
        let ended = answer_all(living, program, &asked, &seen);
        drop(asked);
        // It may end by itself. Those who wait hear why, and nobody else comes. A signal would not do: where one has
        // come already, the second ends this process at once.
        end.begin(libc::SIGTERM);
        match serving.join() {
            Ok(served) => served.map_err(unreachable)?,
            Err(panicked) => std::panic::resume_unwind(panicked),
        }
        ended
    })
}

/// Until nobody can ask any more, or it ends itself: with which code.
fn answer_all(
    living: &mut Living<'_>,
    program: &Program,
    asked: &Receiver<Asked>,
    seen: &AtomicU64,
) -> Result<u8, Failed> {
    while let Ok(first) = asked.recv() {
        let mut batch = vec![first];
        batch.extend(asked.try_iter().take(BATCH_MAX - 1));
        let mut later = Vec::new();
        let mut names = std::collections::BTreeSet::new();
        batch.retain_mut(|one| {
            if one.key.is_empty() {
                return true;
            }
            let known = known(living, &one.key);
            if known.is_none() && names.insert(name_in(&one.key).to_vec()) {
                return true;
            }
            let (gone, _) = oneshot::channel();
            let answer = std::mem::replace(&mut one.answer, gone);
            match known {
                // Who asked may have gone.
                Some(known) => drop(answer.send(known)),
                // Asked twice at once it is done once, with this batch.
                None => later.push((std::mem::take(&mut one.key), answer)),
            }
            false
        });
        let ended = answer_batch(living, program, batch, seen);
        for (key, answer) in later {
            let failed = || Said::Failed("it was asked twice at once, and failed\n".to_owned());
            let said = known(living, &key).unwrap_or_else(failed);
            // Who asked may have gone.
            let _ = answer.send(said);
        }
        if let Some(code) = ended? {
            return Ok(code);
        }
    }
    Ok(0)
}

/// What came of the event of that name, if it was done.
fn known(living: &Living<'_>, key: &[u8]) -> Option<Said> {
    let (number, answered) = living.answer_for(name_in(key))?;
    Some(match answered.said.clone() {
        _ if answered.key != key => Said::Taken(number),
        Some(said) => Said::Answered {
            number,
            said,
            again: true,
        },
        None => Said::Past(number),
    })
}

/// Answers new events; the code it ended itself with, if it did.
fn answer_batch(
    living: &mut Living<'_>,
    program: &Program,
    batch: Vec<Asked>,
    seen: &AtomicU64,
) -> Result<Option<u8>, Failed> {
    let (mut events, mut keys, mut askers) = (Vec::new(), Vec::new(), Vec::new());
    for (asked, number) in batch.into_iter().zip(living.seen() + 1..) {
        events.push((number, asked.event));
        keys.push(asked.key);
        askers.push(asked.answer);
    }
    let mut askers = askers.into_iter();
    let mut from = 0;
    while from < events.len() {
        // One that failed took no number.
        for (event, number) in events[from..].iter_mut().zip(living.seen() + 1..) {
            event.0 = number;
        }
        let answered = living.answer(&events[from..], &keys[from..], ANSWERS_KEPT);
        let (count, stop) = match answered {
            Ok(answered) => answered,
            Err(failed) => {
                for asker in askers {
                    let _ = asker.send(Said::NotKept(format!("{failed}\n")));
                }
                return Err(failed);
            }
        };
        seen.store(living.seen(), Ordering::Relaxed);
        for (number, _) in &events[from..from + count] {
            let said = living.answer_to(*number).map(<[u8]>::to_vec);
            if let Some(asker) = askers.next() {
                let _ = asker.send(Said::Answered {
                    number: *number,
                    said: said.unwrap_or_default(),
                    again: false,
                });
            }
        }
        from += count;
        let because = match stop {
            None => continue,
            Some(Stop::Ended(code)) => {
                let because = format!("{} ended itself with code {code}\n", program.name);
                for asker in askers {
                    let _ = asker.send(Said::Failed(because.clone()));
                }
                return Ok(Some(code));
            }
            Some(Stop::Failed(failed)) => failed.to_string(),
        };
        eprintln!("error: event {}: {because}", living.seen() + 1);
        if let Some(asker) = askers.next() {
            let _ = asker.send(Said::Failed(format!("{because}\n")));
        }
        from += 1;
    }
    Ok(None)
}

impl Answers for Desk {
    type Body = Full<Bytes>;

    fn program(&self) -> &Program {
        &self.program
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
            return plainly(StatusCode::BAD_REQUEST, "found no Host, expected one\n");
        }
        match *request.method() {
            Method::POST => {}
            Method::GET | Method::HEAD => {
                let events = self.seen.load(Ordering::Relaxed);
                let said = serde_json::json!({"program": self.program.name, "events": events});
                let mut response = plainly(StatusCode::OK, format!("{said}\n"));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, json);
                return response;
            }
            ref other => {
                let said = format!(
                    "found {other}, expected POST with an event, or GET to learn how many there were\n"
                );
                let mut response = plainly(StatusCode::METHOD_NOT_ALLOWED, said);
                let allowed = HeaderValue::from_static("GET, HEAD, POST");
                response.headers_mut().insert(ALLOW, allowed);
                return response;
            }
        }
        let name = match request.headers().get(KEY) {
            None => None,
            Some(name) if (1..=KEY_MAX).contains(&name.len()) => Some(name.clone()),
            Some(name) => {
                let said = format!(
                    "found an Idempotency-Key of {} bytes, expected 1 to {KEY_MAX}\n",
                    name.len()
                );
                return plainly(StatusCode::BAD_REQUEST, said);
            }
        };
        let body = Limited::new(request.into_body(), EVENT_MAX - 1).collect();
        let mut event = match timeout(ANSWER_PATIENCE, body).await {
            Ok(Ok(body)) => body.to_bytes().to_vec(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let said = format!(
                    "found an event of more than {} bytes, expected at most that\n",
                    EVENT_MAX - 1
                );
                return plainly(StatusCode::PAYLOAD_TOO_LARGE, said);
            }
            Ok(Err(error)) => {
                let said = format!("the event was cut off, and did not take place: {error}\n");
                return plainly(StatusCode::BAD_REQUEST, said);
            }
            Err(_) => {
                let said = "the event did not come to its end in time, and did not take place\n";
                return plainly(StatusCode::REQUEST_TIMEOUT, said);
            }
        };
        // As a line of a file is.
        if !event.ends_with(b"\n") {
            event.push(b'\n');
        }
        let (answer, answered) = oneshot::channel();
        let key = name.map_or_else(Vec::new, |name| key_of(name.as_bytes(), &event));
        let asked = Asked { key, event, answer };
        let busy = |because: String| {
            let mut response = plainly(StatusCode::SERVICE_UNAVAILABLE, because);
            let at_once = HeaderValue::from_static("1");
            response.headers_mut().insert(RETRY_AFTER, at_once);
            response
        };
        match self.to.try_send(asked) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return busy(format!(
                    "{BATCH_MAX} events wait already; this one did not take place\n"
                ));
            }
            Err(TrySendError::Disconnected(_)) => {
                return busy("it is ending; the event did not take place\n".to_owned());
            }
        }
        match answered.await {
            Ok(Said::Answered {
                number,
                said,
                again,
            }) => {
                let kind = match std::str::from_utf8(&said) {
                    Ok(_) => "text/plain; charset=utf-8",
                    Err(_) => "application/octet-stream",
                };
                let mut response = Response::new(Full::new(Bytes::from(said)));
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
                headers.insert(NUMBER, number.into());
                if again {
                    headers.insert(REPLAYED, HeaderValue::from_static("true"));
                }
                response
            }
            Ok(Said::Past(number)) => {
                let said =
                    format!("it was done as event {number}; what it answered is no longer kept\n");
                let mut response = plainly(StatusCode::GONE, said);
                response.headers_mut().insert(NUMBER, number.into());
                response
            }
            Ok(Said::Taken(number)) => {
                let said = format!(
                    "found the Idempotency-Key of event {number}, which was another; expected one of its own\n"
                );
                let mut response = plainly(StatusCode::UNPROCESSABLE_ENTITY, said);
                response.headers_mut().insert(NUMBER, number.into());
                response
            }
            Ok(Said::Failed(because)) => plainly(StatusCode::INTERNAL_SERVER_ERROR, because),
            Ok(Said::NotKept(because)) => busy(because),
            Err(_) => busy("it ended; whether the event took place is not known\n".to_owned()),
        }
    }
}

fn plainly(status: StatusCode, said: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(said.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
