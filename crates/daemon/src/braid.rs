//! The braid on threads.
//!
//! [`runtime`] says what a torus does and knows no thread. Here each of the three has a thread and a queue of
//! its own; nothing is shared between them but the queues. What a torus wants carried is put into another's
//! queue, and lost if that is full: the tori say again what was not acknowledged.
//!
//! Between a torus and whoever uses the braid stands a gate, which outlives the torus: what was offered
//! waits there until it is acknowledged, what was told until it is taken. So whoever uses a braid sees neither that
//! a torus was lost nor that it was rebuilt, except in [`Braid::counts`].
//!
//! A torus that a keeper rebuilds gets a new thread and a new queue. The old thread, should it only have been
//! slow, finds on its next round that its seat has gone to another, and ends.
//!
//! A handler that panics takes its thread along, and one that never returns keeps it. Either way the torus is rebuilt as if it had
//! been killed, and as what it did last was in nobody's log, meets the same message again. So a strand that was rebuilt
//! [`VAIN_MAX`] times in a row, had something to do and did none of it, is left dead, and [`Counts::dead`] says so.
//!
//! Deliberately absent: tori on other machines, which are in [`crate::braided`].

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use machine::Machine;
use runtime::{Config, Effect, Input, Offer, Process, Report, Strand, Torus};
use wire::{Instant, Nanos};

/// Words in a torus's queue. A sheet window is 256, twice over, and the posts of two lanes.
const QUEUE: usize = 2_048;
/// Words a torus takes before it runs again.
const WORDS_AT_ONCE: usize = 256;
/// Offers that wait at a gate.
pub const OFFERS_MAX: usize = 4_096;
/// Offers given to a torus in one round.
const OFFERS_AT_ONCE: usize = 256;
/// What a torus did not take at once is offered again after so long.
const LOOKS_AGAIN: Nanos = Nanos(100_000);
/// Reports that wait at a gate.
pub const REPORTS_MAX: usize = 4_096;
/// How often in a row a torus is rebuilt that then does nothing of what it has to do.
pub const VAIN_MAX: u32 = 3;

/// What is done to a torus on its own thread.
type Touch<P> = Box<dyn FnOnce(&mut Torus<P>) + Send>;

enum Word<P: Process> {
    /// From another torus.
    Packet(Vec<u8>),
    /// Something waits at the gate.
    Nudge,
    Touch(Touch<P>),
    /// End without a word, as a thread does that is lost.
    Die,
}

/// What stands between a torus and its users.
struct Gate<P: Process> {
    /// Offers not acknowledged, the first of which has this number.
    first: u64,
    offers: VecDeque<Offer<P>>,
    /// Reports nobody took yet, and the number of the next one.
    reports: VecDeque<Report<P::Message>>,
    next: u64,
}

/// Where a torus sits: its gate, and how to reach whoever is the torus now.
struct Seat<P: Process> {
    gate: Mutex<Gate<P>>,
    changed: Condvar,
    queue: Mutex<SyncSender<Word<P>>>,
    /// Which torus, counted from 0; its queue changes with it.
    sitting: AtomicU32,
    reborn: Mutex<Reborn>,
}

/// How far a strand was when it was last rebuilt, in turns taken and offers acknowledged, and how often in a row it was
/// no further.
#[derive(Clone, Copy, Default)]
struct Reborn {
    turns: u64,
    accepted: u64,
    in_vain: u32,
}

/// What befell a braid, counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tori rebuilt.
    pub rebuilt: u64,
    /// Tori that could not be rebuilt.
    pub lost: u64,
    /// Tori that found their own memory damaged.
    pub damaged: u64,
    /// Handlers that panicked.
    pub panicked: u64,
    /// Strands that stay dead.
    pub dead: u64,
    /// Deadlines missed.
    pub missed: u64,
    /// Words lost because a queue was full or its torus gone.
    pub dropped: u64,
    /// Bytes not taken for a packet.
    pub rejected: u64,
}

#[derive(Default)]
struct Counters([AtomicU64; 8]);

#[derive(Clone, Copy)]
enum Of {
    Rebuilt,
    Lost,
    Damaged,
    Panicked,
    Dead,
    Missed,
    Dropped,
    Rejected,
}

impl Counters {
    fn add(&self, of: Of, count: u64) {
        self.0[of as usize].fetch_add(count, Ordering::Relaxed);
    }
}

struct Shared<P: Process> {
    seats: [Seat<P>; 3],
    counters: Counters,
    began: std::time::Instant,
}

/// Three tori, each on a thread. They end when this is dropped.
pub struct Braid<P: Process> {
    shared: Arc<Shared<P>>,
}

impl<P: Process> std::fmt::Debug for Braid<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Braid")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl<P> Braid<P>
where
    P: Process + Send + 'static,
    P::Message: Send,
{
    /// A braid without processes.
    ///
    /// # Errors
    /// If the kernel gives no thread.
    #[expect(
        clippy::disallowed_methods,
        reason = "a real braid lives by the host's clock"
    )]
    pub fn start(config: &Config) -> io::Result<Self> {
        let mut inboxes = Vec::new();
        let seats = Strand::ALL.map(|_| {
            let (queue, inbox) = sync_channel(QUEUE);
            inboxes.push(inbox);
            Seat {
                gate: Mutex::new(Gate {
                    first: 0,
                    offers: VecDeque::new(),
                    reports: VecDeque::new(),
                    next: 0,
                }),
                changed: Condvar::new(),
                queue: Mutex::new(queue),
                sitting: AtomicU32::new(0),
                reborn: Mutex::default(),
            }
        });
        let shared = Arc::new(Shared {
            seats,
            counters: Counters::default(),
            began: std::time::Instant::now(),
        });
        let braid = Self { shared };
        for (strand, inbox) in Strand::ALL.into_iter().zip(inboxes) {
            let torus = Torus::new(config.clone(), strand, braid.shared.now());
            sit(&braid.shared, torus, inbox, 0)?;
        }
        Ok(braid)
    }

    /// Asks something of a strand: it will be done once, whichever torus is lost. The answer is its number, counted
    /// from 0 for each strand.
    ///
    /// # Errors
    /// The offer, if [`OFFERS_MAX`] wait already.
    pub fn offer(&self, strand: Strand, offer: Offer<P>) -> Result<u64, Offer<P>> {
        let seat = &self.shared.seats[strand as usize];
        let mut gate = seat.gate();
        if gate.offers.len() >= OFFERS_MAX {
            return Err(offer);
        }
        gate.offers.push_back(offer);
        let number = gate.first + gate.offers.len() as u64 - 1;
        drop(gate);
        // A full queue is no loss: the gate is looked at in every interval.
        let _ = seat.queue().try_send(Word::Nudge);
        Ok(number)
    }

    /// All offers of a strand below this number are acknowledged.
    #[must_use]
    pub fn accepted(&self, strand: Strand) -> u64 {
        self.shared.seats[strand as usize].gate().first
    }

    /// What a strand has told, oldest first; waits so long for a first word.
    #[must_use]
    pub fn reports(&self, strand: Strand, patience: Duration) -> Vec<Report<P::Message>> {
        let seat = &self.shared.seats[strand as usize];
        let empty = |gate: &mut Gate<P>| gate.reports.is_empty();
        let waited = seat
            .changed
            .wait_timeout_while(seat.gate(), patience, empty);
        let (mut gate, _) = waited.unwrap_or_else(PoisonError::into_inner);
        gate.reports.drain(..).collect()
    }

    /// Does something with a torus on its own thread; `None` if there is nobody, or it was lost meanwhile.
    pub fn touch<T: Send + 'static>(
        &self,
        strand: Strand,
        touch: impl FnOnce(&mut Torus<P>) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = sync_channel(1);
        let touch: Touch<P> = Box::new(move |torus| {
            let _ = answer.send(touch(torus));
        });
        let queue = self.shared.seats[strand as usize].queue();
        queue.send(Word::Touch(touch)).ok()?;
        answered.recv().ok()
    }

    /// For fault injection: ends a strand's thread at once, with all that it knows.
    pub fn kill(&self, strand: Strand) {
        let _ = self.shared.seats[strand as usize].queue().send(Word::Die);
    }
}

impl<P: Process> Braid<P> {
    /// What befell it.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let of = |of: Of| self.shared.counters.0[of as usize].load(Ordering::Relaxed);
        Counts {
            rebuilt: of(Of::Rebuilt),
            lost: of(Of::Lost),
            damaged: of(Of::Damaged),
            panicked: of(Of::Panicked),
            dead: of(Of::Dead),
            missed: of(Of::Missed),
            dropped: of(Of::Dropped),
            rejected: of(Of::Rejected),
        }
    }
}

impl<P: Process> Drop for Braid<P> {
    fn drop(&mut self) {
        for seat in &self.shared.seats {
            seat.sitting.store(ENDED, Ordering::Relaxed);
            let _ = seat.queue().try_send(Word::Die);
        }
    }
}

/// Nobody sits there any more, and nobody will.
const ENDED: u32 = u32::MAX;

impl<P: Process> Seat<P> {
    fn gate(&self) -> MutexGuard<'_, Gate<P>> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether rebuilding it once more would lead nowhere again.
    fn is_in_vain(&self, torus: &Torus<P>) -> bool {
        let gate = self.gate();
        let (accepted, waits) = (gate.first, !gate.offers.is_empty());
        drop(gate);
        let lattice = torus.lattice();
        let turns = lattice.tally().events;
        let mut reborn = self.reborn.lock().unwrap_or_else(PoisonError::into_inner);
        let no_further = (reborn.turns, reborn.accepted) == (turns, accepted);
        let in_vain = if no_further && (waits || lattice.ready() > 0) {
            reborn.in_vain + 1
        } else {
            0
        };
        *reborn = Reborn {
            turns,
            accepted,
            in_vain,
        };
        in_vain >= VAIN_MAX
    }

    fn queue(&self) -> SyncSender<Word<P>> {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl<P: Process> Shared<P> {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX - 1))
    }
}

/// Gives a torus a thread.
fn sit<P>(
    shared: &Arc<Shared<P>>,
    torus: Torus<P>,
    inbox: Receiver<Word<P>>,
    sitting: u32,
) -> io::Result<()>
where
    P: Process + Send + 'static,
    P::Message: Send,
{
    let strand = torus.strand();
    let shared = Arc::clone(shared);
    let thread = thread::Builder::new().name(format!("braid {strand}"));
    thread.spawn(move || {
        let peers = Strand::ALL.map(|s| (0, shared.seats[s as usize].queue()));
        let offered = shared.seats[strand as usize].gate().first;
        let mut life = Life {
            shared,
            strand,
            sitting,
            peers,
            offered,
            wants: Vec::new(),
            took: false,
        };
        let ended = catch_unwind(AssertUnwindSafe(|| life.live(torus, &inbox)));
        if ended.is_err() {
            life.shared.counters.add(Of::Panicked, 1);
        }
    })?;
    Ok(())
}

/// A torus's time on its thread.
struct Life<P: Process> {
    shared: Arc<Shared<P>>,
    strand: Strand,
    sitting: u32,
    /// The queues of all three, and of whom each is.
    peers: [(u32, SyncSender<Word<P>>); 3],
    /// The next offer to give to the torus.
    offered: u64,
    /// What the torus wanted in this round.
    wants: Vec<Effect<P>>,
    /// It told something that it should hear of being taken.
    took: bool,
}

impl<P> Life<P>
where
    P: Process + Send + 'static,
    P::Message: Send,
{
    fn seat(&self) -> &Seat<P> {
        &self.shared.seats[self.strand as usize]
    }

    fn live(&mut self, mut torus: Torus<P>, inbox: &Receiver<Word<P>>) {
        // When to look at the gate unasked: there is more than was taken of it.
        let mut looks_at = self.shared.now();
        while self.seat().sitting.load(Ordering::Relaxed) == self.sitting {
            let Some(due) = torus.deadline() else { return };
            let now = self.shared.now();
            // Only with nothing to do is anything waited for.
            let idle = due.min(looks_at).since(now);
            let mut next = match idle.0 {
                0 => inbox.try_recv(),
                nanos => inbox
                    .recv_timeout(Duration::from_nanos(nanos))
                    .map_err(|e| match e {
                        RecvTimeoutError::Timeout => TryRecvError::Empty,
                        RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
                    }),
            };
            for _ in 0..WORDS_AT_ONCE {
                match next {
                    Ok(Word::Packet(bytes)) => self.tell(&mut torus, Input::Received(bytes)),
                    Ok(Word::Nudge) => looks_at = now,
                    Ok(Word::Touch(touch)) => touch(&mut torus),
                    Ok(Word::Die) | Err(TryRecvError::Disconnected) => return,
                    Err(TryRecvError::Empty) => break,
                }
                next = inbox.try_recv();
            }
            if std::mem::take(&mut self.took) {
                let upto = self.seat().gate().next;
                self.tell(&mut torus, Input::Taken { upto });
            }
            let now = self.shared.now();
            if looks_at <= now {
                let more = self.pass_offers(&mut torus);
                looks_at = if more {
                    now + LOOKS_AGAIN
                } else {
                    Instant::END
                };
            }
            if torus.deadline().is_some_and(|due| due <= now) {
                let wants = &mut self.wants;
                torus.wake(now, &mut |effect| wants.push(effect));
                self.obey();
                // A nudge finds no room in a full queue; so once an interval the gate is looked at unasked.
                looks_at = now;
            }
        }
    }

    fn tell(&mut self, torus: &mut Torus<P>, input: Input<P>) {
        let now = self.shared.now();
        let wants = &mut self.wants;
        torus.handle(now, input, &mut |effect| wants.push(effect));
        self.obey();
    }

    /// Whether there are more.
    fn pass_offers(&mut self, torus: &mut Torus<P>) -> bool {
        let gate = self.seat().gate();
        let begun = self.offered.max(gate.first);
        let skip = (begun - gate.first) as usize;
        let offers: Vec<_> = gate
            .offers
            .iter()
            .skip(skip)
            .take(OFFERS_AT_ONCE)
            .cloned()
            .collect();
        let more = gate.offers.len() > skip + offers.len();
        drop(gate);
        for (number, offer) in (begun..).zip(offers) {
            // A torus that was rebuilt may have taken more than the one before it lived to acknowledge, and says so at
            // the first of these: the others must keep their own numbers, or they would be taken for new ones.
            if number < self.offered {
                continue;
            }
            self.offered = number + 1;
            self.tell(torus, Input::Offered { number, offer });
            if self.offered <= number {
                // It was refused; those behind it would be out of order.
                return true;
            }
        }
        more
    }

    fn obey(&mut self) {
        for effect in std::mem::take(&mut self.wants) {
            match effect {
                Effect::Send { to, bytes } => self.carry(to, bytes),
                Effect::Accepted { upto } => self.accepted(upto),
                Effect::Refused { number, .. } => self.offered = self.offered.min(number),
                Effect::Told { number, report } => self.told(number, report),
                Effect::Missed { deadlines } => self.shared.counters.add(Of::Missed, deadlines),
                Effect::Rebuilt(rebuilt) => self.replace(*rebuilt),
                Effect::Lost(_) => self.shared.counters.add(Of::Lost, 1),
                Effect::Stopped(runtime::Stopped::Damaged { .. }) => {
                    self.shared.counters.add(Of::Damaged, 1);
                }
                Effect::Stopped(runtime::Stopped::Succeeded) => {}
                Effect::Rejected(_) => self.shared.counters.add(Of::Rejected, 1),
            }
        }
    }

    fn carry(&mut self, to: Strand, bytes: Vec<u8>) {
        let seat = &self.shared.seats[to as usize];
        let peer = &mut self.peers[to as usize];
        let sitting = seat.sitting.load(Ordering::Acquire);
        if peer.0 != sitting {
            *peer = (sitting, seat.queue());
        }
        if peer.1.try_send(Word::Packet(bytes)).is_err() {
            self.shared.counters.add(Of::Dropped, 1);
        }
    }

    fn accepted(&mut self, upto: u64) {
        let seat = self.seat();
        let mut gate = seat.gate();
        let known = upto
            .saturating_sub(gate.first)
            .min(gate.offers.len() as u64);
        gate.offers.drain(..known as usize);
        gate.first += known;
        drop(gate);
        self.offered = self.offered.max(upto);
    }

    fn told(&mut self, number: u64, report: Report<P::Message>) {
        let seat = self.seat();
        let mut gate = seat.gate();
        if number == gate.next && gate.reports.len() < REPORTS_MAX {
            gate.reports.push_back(report);
            gate.next += 1;
            seat.changed.notify_all();
        }
        drop(gate);
        self.took = true;
    }

    /// The previous torus was lost and this is it.
    fn replace(&mut self, torus: Torus<P>) {
        let seat = &self.shared.seats[torus.strand() as usize];
        self.shared.counters.add(Of::Rebuilt, 1);
        let before = seat.sitting.load(Ordering::Relaxed);
        if before == ENDED {
            return;
        }
        if seat.is_in_vain(&torus) {
            return self.shared.counters.add(Of::Dead, 1);
        }
        let (queue, inbox) = sync_channel(QUEUE);
        *seat.queue.lock().unwrap_or_else(PoisonError::into_inner) = queue;
        let sitting = before + 1;
        // Whoever sees the new number finds the new queue. The braid may have ended meanwhile.
        let seated =
            (seat.sitting).compare_exchange(before, sitting, Ordering::Release, Ordering::Relaxed);
        if seated.is_err() {
            return;
        }
        if sit(&self.shared, torus, inbox, sitting).is_err() {
            self.shared.counters.add(Of::Lost, 1);
        }
    }
}
