//! How much may be under way to a member?
//!
//! A line's queue is delay for everybody behind it, urgent or not, and it stands in the kernel or in a router, where no class
//! of ours is known. A sender that goes by losses (NewReno, Cubic) fills it to the brim before it notices: what
//! floods class D would then hold up class A by all that fits into the queue. So what is under way here goes by delay,
//! after Copa (Arun and Balakrishnan, *Copa: Practical Delay-Based Congestion Control for the Internet*, NSDI 2018): with `d` the time
//! spent in queues, the least round trip of late less the least that there ever was, a sender aims at
//! `1/(δ·d)` packets per second. Alone on a line that comes to rest with about `1/δ` packets in the queue; several
//! share it fairly.
//!
//! What differs from the paper: the round trip of late is the least of at least [`LATELY`], not of half a round trip, because on a short
//! line what answers is a thread that is woken, and its lateness is no queue; and changes are slower by as much, lest what is not seen yet is done again. A loss takes three tenths off what may be
//! under way, at most once a round trip: the paper does without, but a queue shorter than `1/δ` packets shows only in losses. There is no mode that competes
//! with those who fill queues: bulk between machines of a fleet gives way to them, down to [`PACKETS_MIN`] in a round trip.
//!
//! Why not by losses, or by BBR: [decision](../../../../docs/decisions/2026-11-21-what-is-under-way-goes-by-delay.md).

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

/// `1/δ`: so many packets stand in the queue of a line that one sender fills; the paper's default.
const STANDING_PACKETS: f64 = 2.0;
/// The least that may be under way, in packets: one that is acknowledged, one that waits for that, and as many again.
const PACKETS_MIN: u64 = 4;
/// The most: 100 Gbit/s over 10 ms.
const WINDOW_MAX: u64 = 128 << 20;
/// Before anything is known of a line (RFC 9002, § 7.2).
const PACKETS_INITIAL: u64 = 10;
/// The least round trip of late is that of half a round trip, and of no less than this.
const LATELY: Duration = Duration::from_millis(5);
/// A least round trip that was not seen again for so long is forgotten, for the way may be another: the paper's 10 s.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// The speed of change doubles each round trip in which the direction stays, but for the first so many; as in the paper.
const PATIENT_ROUNDS: u32 = 3;
/// It stops doubling there, so that a change of the line is not overshot by more than this many packets a round trip.
const SPEED_MAX: f64 = 32.0;

/// Makes one of these for each connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Courtesy;

/// What may be under way on one connection.
#[derive(Clone, Debug)]
struct Copa {
    packet: f64,
    /// In bytes.
    window: f64,
    /// Doubling each round trip, until there is a queue for the first time.
    searching: bool,
    least: Least,
    lately: Lately,
    /// By how many packets per round trip the window changes, over `1/δ`.
    speed: f64,
    rounds_alike: u32,
    was_growing: bool,
    round: Round,
    /// What was sent before this is not held against the window twice.
    lost_before: Option<Instant>,
}

/// One round trip, over which the direction is judged.
#[derive(Clone, Copy, Debug)]
struct Round {
    began: Instant,
    window: f64,
}

/// The least of all round trips since at most twice [`FORGOTTEN`].
#[derive(Clone, Debug, Default)]
struct Least {
    now: Option<(Instant, Duration)>,
    before: Option<Duration>,
}

/// Round trips of late, of which only those shorter than all after them can ever be the least.
#[derive(Clone, Debug, Default)]
struct Lately(VecDeque<(Instant, Duration)>);

impl Least {
    fn note(&mut self, now: Instant, took: Duration) -> Duration {
        match &mut self.now {
            Some((since, least)) if now.duration_since(*since) < FORGOTTEN => {
                *least = took.min(*least);
            }
            current => {
                self.before = current.map(|(_, least)| least);
                *current = Some((now, took));
            }
        }
        let least = self.now.map_or(took, |(_, least)| least);
        self.before.map_or(least, |before| before.min(least))
    }
}

impl Lately {
    fn note(&mut self, now: Instant, took: Duration, span: Duration) -> Duration {
        while self.0.back().is_some_and(|(_, other)| *other >= took) {
            self.0.pop_back();
        }
        self.0.push_back((now, took));
        while self
            .0
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) > span)
        {
            self.0.pop_front();
        }
        self.0.front().map_or(took, |(_, least)| *least)
    }
}

impl Copa {
    fn new(now: Instant, packet: u16) -> Self {
        let packet = f64::from(packet);
        let window = PACKETS_INITIAL as f64 * packet;
        Self {
            packet,
            window,
            searching: true,
            least: Least::default(),
            lately: Lately::default(),
            speed: 1.0,
            rounds_alike: 0,
            was_growing: true,
            round: Round { began: now, window },
            lost_before: None,
        }
    }

    fn acknowledged(
        &mut self,
        now: Instant,
        took: Duration,
        smoothed: Duration,
        bytes: f64,
        idle: bool,
    ) {
        let least = self.least.note(now, took);
        let lately = self.lately.note(now, took, (smoothed / 2).max(LATELY));
        // A search ends at the first sign of a queue, for it goes too fast to wait and see.
        let lately = if self.searching { took } else { lately };
        // What is done now shows in the round trip of late only when it is the only one of late.
        let until_it_shows = lately.max(LATELY);
        // What is not used says nothing of what would be too much.
        if idle {
            return;
        }
        let queued = lately.saturating_sub(least).as_secs_f64();
        let packets = self.window / self.packet;
        let aims_at = if queued > 0.0 {
            STANDING_PACKETS / queued
        } else {
            f64::INFINITY
        };
        let grows = packets / lately.as_secs_f64().max(1e-9) <= aims_at;
        if self.searching {
            if grows {
                self.window += bytes;
                self.bound();
                return;
            }
            self.searching = false;
        }
        if now.duration_since(self.round.began) >= until_it_shows {
            self.turn(now);
        }
        let share = lately.as_secs_f64() / until_it_shows.as_secs_f64();
        let step = self.speed * STANDING_PACKETS * bytes / packets * share;
        self.window += if grows { step } else { -step };
        if grows != self.was_growing {
            (self.speed, self.rounds_alike, self.was_growing) = (1.0, 0, grows);
        }
        self.bound();
    }

    /// A round trip is over: changes go on faster if they went the same way.
    fn turn(&mut self, now: Instant) {
        let grew = self.window > self.round.window;
        if grew == self.was_growing {
            self.rounds_alike += 1;
            if self.rounds_alike > PATIENT_ROUNDS {
                self.speed = (self.speed * 2.0).min(SPEED_MAX);
            }
        } else {
            (self.speed, self.rounds_alike) = (1.0, 0);
        }
        self.round = Round {
            began: now,
            window: self.window,
        };
    }

    fn lost(&mut self, now: Instant, sent: Instant, persistent: bool) {
        if self.lost_before.is_some_and(|before| sent <= before) {
            return;
        }
        self.lost_before = Some(now);
        self.searching = false;
        self.window = if persistent { 0.0 } else { self.window * 0.7 };
        (self.speed, self.rounds_alike) = (1.0, 0);
        self.bound();
    }

    fn bound(&mut self) {
        let least = PACKETS_MIN as f64 * self.packet;
        self.window = self.window.clamp(least, WINDOW_MAX as f64);
    }
}

impl Controller for Copa {
    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        let took = now.saturating_duration_since(sent);
        self.acknowledged(now, took, rtt.get(), bytes as f64, app_limited);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        _: u64,
    ) {
        self.lost(now, sent, is_persistent_congestion);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.packet = f64::from(new_mtu);
        self.bound();
    }

    fn window(&self) -> u64 {
        self.window as u64
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        PACKETS_INITIAL * self.packet as u64
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl ControllerFactory for Courtesy {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Copa::new(now, current_mtu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u16 = 1_250;

    /// A line that carries so many packets a second behind a queue without end, filled by one sender. Gives the mean queue in
    /// packets and the share of the line that was used, over the second half of so many round trips.
    fn fill(per_second: f64, way: Duration, packets: u32) -> (f64, f64) {
        #[expect(
            clippy::disallowed_methods,
            reason = "an instant to count from; nothing waits"
        )]
        let epoch = Instant::now();
        let at = |seconds: f64| epoch + Duration::from_secs_f64(seconds);
        let mut copa = Copa::new(epoch, PACKET);
        let (service, way) = (1.0 / per_second, way.as_secs_f64());
        // When each packet under way was sent and will be acknowledged.
        let mut flying: VecDeque<(f64, f64)> = VecDeque::new();
        let (mut now, mut free, mut busy, mut queued, mut counted, mut from) =
            (0.0_f64, 0.0_f64, 0.0, 0.0, 0.0, 0.0);
        for number in 0..packets {
            while (flying.len() as u64 + 1) * u64::from(PACKET) <= copa.window() {
                let starts = free.max(now);
                if number > packets / 2 {
                    queued += (starts - now) / service;
                    counted += 1.0;
                    busy += service;
                }
                free = starts + service;
                flying.push_back((now, free + way));
            }
            let (sent, acknowledged) = flying.pop_front().expect("something is under way");
            now = acknowledged;
            if number == packets / 2 {
                from = now;
            }
            let took = Duration::from_secs_f64(now - sent);
            copa.acknowledged(at(now), took, took, PACKET.into(), false);
        }
        (queued / counted, busy / (now - from))
    }

    #[test]
    fn a_line_is_filled_and_its_queue_stays_short() {
        for (per_second, way_us) in [
            (10_000.0, 300),
            (10_000.0, 20_000),
            (100.0, 10_000),
            (1_000.0, 200_000),
        ] {
            let (queue, used) = fill(per_second, Duration::from_micros(way_us), 200_000);
            assert!(used > 0.9, "{per_second}/s over {way_us} µs: {used}");
            assert!(
                queue < 12.0,
                "{per_second}/s over {way_us} µs: {queue} packets"
            );
        }
    }

    #[test]
    fn losses_of_one_round_trip_count_once_and_leave_the_least() {
        #[expect(
            clippy::disallowed_methods,
            reason = "an instant to count from; nothing waits"
        )]
        let epoch = Instant::now();
        let mut copa = Copa::new(epoch, PACKET);
        let before = copa.window();
        let later = epoch + Duration::from_millis(10);
        copa.lost(later, epoch, false);
        copa.lost(later, epoch, false);
        assert_eq!(copa.window(), before * 7 / 10);
        copa.lost(
            later + Duration::from_secs(1),
            later + Duration::from_millis(1),
            true,
        );
        assert_eq!(copa.window(), PACKETS_MIN * u64::from(PACKET));
    }

    #[test]
    fn the_least_round_trip_is_forgotten_when_the_way_is_another() {
        #[expect(
            clippy::disallowed_methods,
            reason = "an instant to count from; nothing waits"
        )]
        let epoch = Instant::now();
        let ms = Duration::from_millis;
        let mut least = Least::default();
        assert_eq!(least.note(epoch, ms(5)), ms(5));
        assert_eq!(least.note(epoch + ms(1), ms(9)), ms(5));
        assert_eq!(least.note(epoch + FORGOTTEN, ms(9)), ms(5));
        assert_eq!(least.note(epoch + FORGOTTEN * 2, ms(9)), ms(9));
    }
}
