//! How long does a word take to another machine and back?
//!
//! A question in class A, answered at once by the other side's fleet thread: what any protocol on this transport would
//! measure, hops between threads included. Beside it, if asked for, as much of class D as the line takes, to see what the classes are
//! worth: urgent words must not wait behind bulk.
//!
//! A question costs one answer of the same length and bulk costs none, so a member can make nobody say more than it says itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use telemetry::Sketch;
use wire::frame::PAYLOAD_BYTES_MAX;
use wire::{Class, Decode as _, Encode as _, Reader, Tile};

use super::member::random;
use super::transport::NotSent;
use super::{Fleet, Heard};

/// The protocol of echoes, in a frame.
pub(super) const PROTOCOL: u8 = 3;

/// No longer, so that whoever waits for the answer does not give up.
pub const LASTS_MAX: Duration = Duration::from_secs(20);
/// From one question to the next.
const PAUSE: Duration = Duration::from_millis(5);
/// Class D runs so long before anything is counted: what buffers take in the beginning is no throughput.
const WARM_UP: Duration = Duration::from_secs(3);
/// A question that is not answered by then is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// So many hear the answers at a time; the one after that takes the place of the first.
pub(super) const ASKERS_MAX: usize = 16;

const ASKS: u8 = 0;
const ANSWERS: u8 = 1;
const BULK: u8 = 2;

/// Round trips in class A.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Echoes {
    /// Questions asked.
    pub asked: u64,
    /// Those never answered.
    pub lost: u64,
    /// Half took no longer, in microseconds.
    pub p50_us: u64,
    /// Ninety-nine of a hundred took no longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
    /// What class D took meanwhile, payload alone, in bits per second; none if nothing was sent.
    pub bulk_bits_per_second: Option<u64>,
}

/// What a member says to a frame of this protocol.
pub(super) enum Reply {
    /// This, in class A.
    Say(Vec<u8>),
    /// Nothing: it was bulk.
    Nothing,
    /// Nothing, but who asked here wants to know.
    Hand,
}

/// What is to be done with a payload; `None` if it is nonsense.
pub(super) fn reply(class: Class, payload: &[u8]) -> Option<Reply> {
    match (class, payload.split_first()?) {
        (Class::A, (&ASKS, rest)) => {
            let mut answer = vec![ANSWERS];
            answer.extend(rest);
            Some(Reply::Say(answer))
        }
        (Class::A, (&ANSWERS, _)) => Some(Reply::Hand),
        (Class::D, (&BULK, _)) => Some(Reply::Nothing),
        _ => None,
    }
}

/// Asks a member again and again. Several may at a time, and each knows its answers by their numbers.
///
/// # Errors
/// If it cannot be asked at all.
pub fn listen(
    fleet: &Fleet,
    to: Tile,
    lasts: Duration,
    beside_bulk: bool,
) -> Result<Echoes, NotSent> {
    let lasts = lasts.min(LASTS_MAX);
    let answers = fleet.listen(PROTOCOL);
    let (over, taken) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        if beside_bulk {
            scope.spawn(|| flood(fleet, to, &over, &taken));
            pause(WARM_UP);
        }
        let before = taken.load(Ordering::Relaxed);
        let began = now();
        let echoes = ask(fleet, to, lasts, &answers);
        let span = began.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        let bytes = taken.load(Ordering::Relaxed) - before;
        let rate = (bytes as f64 * 8.0 / span) as u64;
        echoes.map(|echoes| Echoes {
            bulk_bits_per_second: beside_bulk.then_some(rate),
            ..echoes
        })
    })
}

fn ask(
    fleet: &Fleet,
    to: Tile,
    lasts: Duration,
    answers: &Receiver<Heard>,
) -> Result<Echoes, NotSent> {
    let mut sketch = Sketch::default();
    let mut echoes = Echoes {
        asked: 0,
        lost: 0,
        p50_us: 0,
        p99_us: 0,
        max_us: 0,
        bulk_bits_per_second: None,
    };
    let until = now() + lasts;
    // Others may ask as well, and hear the same answers.
    let first = random().map_or(0, u64::from_le_bytes);
    while now() < until {
        let number = first.wrapping_add(echoes.asked);
        let mut question = vec![ASKS];
        number.encode(&mut question);
        let asked = now();
        fleet.send(to, Class::A, PROTOCOL, question)?;
        echoes.asked += 1;
        loop {
            let patience = LOST_AFTER.saturating_sub(asked.elapsed());
            match answers.recv_timeout(patience) {
                // An answer that comes after it was given up counts as lost.
                Ok(Heard { payload, .. }) if number_of(&payload) == Some(number) => {
                    let took = asked.elapsed();
                    sketch.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
                    break;
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    echoes.lost += 1;
                    break;
                }
                Err(RecvTimeoutError::Disconnected) => return Err(NotSent::Left),
            }
        }
        pause(PAUSE);
    }
    let at = |q| sketch.quantile(q).unwrap_or(0) / 1_000;
    (echoes.p50_us, echoes.p99_us, echoes.max_us) = (at(0.5), at(0.99), at(1.0));
    Ok(echoes)
}

fn number_of(payload: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(payload.get(1..)?);
    u64::decode(&mut reader).ok()
}

/// Says as much in class D as is taken.
fn flood(fleet: &Fleet, to: Tile, over: &AtomicBool, taken: &AtomicU64) {
    let bulk = vec![BULK; PAYLOAD_BYTES_MAX];
    while !over.load(Ordering::Relaxed) {
        match fleet.send(to, Class::D, PROTOCOL, bulk.clone()) {
            Ok(()) => {
                taken.fetch_add(bulk.len() as u64, Ordering::Relaxed);
            }
            Err(NotSent::NoRoom(_)) => pause(Duration::from_millis(1)),
            Err(_) => return,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "round trips are measured by the host's clock"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "questions are asked at a pace")]
fn pause(span: Duration) {
    thread::sleep(span);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_with_itself_and_nonsense_is_none() {
        let Some(Reply::Say(answer)) = reply(Class::A, &[ASKS, 7, 8]) else {
            panic!("no answer");
        };
        assert_eq!(answer, [ANSWERS, 7, 8]);
        assert!(matches!(reply(Class::A, &answer), Some(Reply::Hand)));
        assert!(matches!(reply(Class::D, &[BULK; 9]), Some(Reply::Nothing)));
        // In another class it would let somebody have more said than it says, or said with more urgency.
        for (class, payload) in [
            (Class::B, &[ASKS, 7][..]),
            (Class::D, &[ASKS, 7]),
            (Class::D, &answer),
            (Class::A, &[BULK, 7]),
            (Class::A, &[3]),
            (Class::A, &[]),
        ] {
            assert!(reply(class, payload).is_none(), "{class:?} {payload:?}");
        }
    }
}
