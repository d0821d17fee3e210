//! What happens next in one process?
//!
//! A calendar. Pending events lie in a slab of 32-byte entries, chained into
//! *buckets* of 2ᵏ nanoseconds. The bucket at hand is copied out, sorted and
//! handed over event by event, so that scheduling an event costs one write and
//! one link, and taking it one small sort's share, instead of the two walks
//! through a heap's levels that miss the cache once the heap outgrows it.
//!
//! Three ranges of buckets, each a list head of four bytes and no more:
//!
//! * *near*: the next 2ⁿ buckets, with a bitmap to step over empty ones;
//! * *far*: the 63 turns of 2ⁿ buckets after that, one list a turn, spread over
//!   the near buckets when the turn comes;
//! * *beyond*: the rest in one list, looked through once in 64 turns.
//!
//! An event for a bucket already at hand goes to a small heap beside it. In the
//! worst case (everything in one bucket) the queue is therefore a binary heap.
//!
//! The width of buckets follows the load: too many events in each and they are
//! narrowed, too many events beyond the near range and they are widened. None of
//! this can be seen from outside: events come out by time, then by key.

use std::collections::BinaryHeap;

use wire::{Instant, Nanos};

use super::Event;

#[derive(Clone, Copy)]
struct Entry {
    at: Instant,
    key: u64,
    payload: u64,
    target: u32,
    /// The next entry of the same bucket, or of the free list.
    next: u32,
}
const _: () = assert!(size_of::<Entry>() == 32);

/// The end of a list.
const NONE: u32 = u32::MAX;

/// The far range is one turn at hand and 63 to come: one bit of a `u64` each.
const TURNS: u64 = 64;

/// At most 4,096 near buckets: 16 KiB of heads, half of what first-level caches
/// hold.
const NEAR_BITS_MAX: u32 = 12;
const NEAR_BITS_MIN: u32 = 6;

/// Pending events of one process, by time and key.
#[derive(Clone)]
pub struct Queue {
    slab: Vec<Entry>,
    free: u32,
    len: usize,

    /// log₂ of a bucket's nanoseconds.
    width: u32,
    /// log₂ of the number of near buckets.
    bits: u32,
    /// Everything in buckets before this one is in `current` or `late`. Lies in
    /// `turn` or at its very end.
    cursor: u64,
    /// The turn whose far list was last spread over the near buckets.
    turn: u64,

    near: Vec<u32>,
    near_occupied: Vec<u64>,
    far: [u32; TURNS as usize],
    far_occupied: u64,
    beyond: u32,
    beyond_earliest: Instant,

    /// The bucket at hand, latest first.
    current: Vec<Event>,
    /// Events that were scheduled into it, or before it.
    late: BinaryHeap<Late>,

    load: Load,
}

/// What happened since the shape was last looked at.
#[derive(Clone, Copy, Default)]
struct Load {
    inserted: u32,
    inserted_late: u32,
    inserted_far: u32,
    gathered: u32,
    buckets: u32,
}

impl Queue {
    /// An empty queue whose buckets are at first this wide, rounded down to a
    /// power of two.
    #[must_use]
    pub fn new(bucket: Nanos) -> Self {
        Self {
            slab: Vec::new(),
            free: NONE,
            len: 0,
            // With at most 2⁵⁷ ns, a turn of 64 buckets still fits in 64 bits.
            width: bucket.0.max(1).ilog2().min(57),
            bits: NEAR_BITS_MIN,
            cursor: 0,
            turn: 0,
            near: vec![NONE; 1 << NEAR_BITS_MIN],
            near_occupied: vec![0; 1],
            far: [NONE; TURNS as usize],
            far_occupied: 0,
            beyond: NONE,
            beyond_earliest: Instant::END,
            current: Vec::new(),
            late: BinaryHeap::new(),
            load: Load::default(),
        }
    }

    /// Pending events.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is pending.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an event. Its time may be earlier than that of events already taken;
    /// whether that makes sense is the caller's affair.
    #[inline]
    pub fn insert(&mut self, event: Event) {
        self.len += 1;
        self.load.inserted += 1;
        let bucket = event.at.0 >> self.width;
        if bucket < self.cursor {
            self.load.inserted_late += 1;
            self.late.push(Late(event));
        } else {
            let slot = self.store(event);
            self.link(slot, bucket);
        }
        if self.load.inserted as usize >= 1024.max(2 * self.len) {
            self.reshape();
        }
    }

    /// Takes the earliest event if it is before `limit`.
    #[inline]
    pub fn pop_before(&mut self, limit: Instant) -> Option<Event> {
        loop {
            if self.late.is_empty() {
                if let Some(&event) = self.current.last() {
                    if event.at >= limit {
                        return None;
                    }
                    self.len -= 1;
                    self.current.pop();
                    return Some(event);
                }
            } else {
                return self.pop_with_late(limit);
            }
            if !self.advance(limit) {
                return None;
            }
        }
    }

    /// The event that will probably be taken after `ahead` others; not known of all.
    #[inline]
    #[must_use]
    pub fn upcoming(&self, ahead: usize) -> Option<&Event> {
        self.current.iter().rev().nth(ahead)
    }

    #[cold]
    fn pop_with_late(&mut self, limit: Instant) -> Option<Event> {
        let late = self.late.peek()?.0;
        let from_current = self
            .current
            .last()
            .filter(|event| event.order() < late.order())
            .copied();
        let event = from_current.unwrap_or(late);
        if event.at >= limit {
            return None;
        }
        self.len -= 1;
        if from_current.is_some() {
            self.current.pop();
        } else {
            self.late.pop();
        }
        Some(event)
    }

    /// Brings what about so many events will touch into the cache.
    #[inline]
    pub(super) fn anticipate(&self, events: usize) {
        super::anticipate(&self.slab, events, |entry| entry.next.into());
    }

    /// When the earliest event is due.
    #[must_use]
    pub fn earliest(&self) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        let at_hand = [
            self.current.last().map(|event| event.at),
            self.late.peek().map(|late| late.0.at),
        ];
        if let Some(at) = at_hand.into_iter().flatten().min() {
            return Some(at);
        }
        let near = self.first_near();
        let mut earliest = near.map_or(Instant::END, |bucket| {
            self.earliest_of(self.near[(bucket & self.mask()) as usize])
        });
        // Later turns matter only once this one holds nothing more.
        if near.is_none_or(|bucket| bucket >> self.bits > self.turn) {
            if let Some(turn) = self.first_far() {
                earliest = earliest.min(self.earliest_of(self.far[(turn % TURNS) as usize]));
            }
            earliest = earliest.min(self.beyond_earliest);
        }
        Some(earliest)
    }

    /// Brings the first bucket that starts before `limit` to hand. Called only
    /// when the one at hand is used up.
    fn advance(&mut self, limit: Instant) -> bool {
        debug_assert!(self.current.is_empty() && self.late.is_empty());
        if self.is_empty() || limit == Instant::EPOCH {
            return false;
        }
        let last = (limit.0 - 1) >> self.width;
        loop {
            let near = self.first_near();
            if let Some(bucket) = near
                && bucket >> self.bits == self.turn
            {
                if bucket > last {
                    return false;
                }
                self.gather(bucket);
                return true;
            }
            let mut turn = u64::MAX;
            if near.is_some() {
                turn = self.turn + 1;
            } else if let Some(far) = self.first_far() {
                turn = far;
            }
            if self.beyond != NONE {
                turn = turn.min(self.beyond_earliest.0 >> self.width >> self.bits);
            }
            if turn > last >> self.bits {
                return false;
            }
            self.enter(turn);
        }
    }

    /// Starts a turn: what was known of it only roughly is put into its buckets.
    fn enter(&mut self, turn: u64) {
        debug_assert!(turn > self.turn);
        // What lies beyond was at least `TURNS` ahead when it was put there, so
        // it cannot be due before the next multiple of `TURNS`.
        let sweep = turn / TURNS != self.turn / TURNS;
        self.turn = turn;
        self.cursor = turn << self.bits;
        let here = (turn % TURNS) as usize;
        let spread = std::mem::replace(&mut self.far[here], NONE);
        self.far_occupied &= !(1 << here);
        self.relink(spread);
        if sweep {
            let swept = std::mem::replace(&mut self.beyond, NONE);
            self.beyond_earliest = Instant::END;
            self.relink(swept);
        }
    }

    /// Copies a near bucket out and sorts it.
    fn gather(&mut self, bucket: u64) {
        let here = (bucket & self.mask()) as usize;
        let head = std::mem::replace(&mut self.near[here], NONE);
        self.near_occupied[here / 64] &= !(1 << (here % 64));
        self.cursor = bucket + 1;

        let mut slot = head;
        loop {
            let entry = &mut self.slab[slot as usize];
            self.current.push(Event {
                at: entry.at,
                key: entry.key,
                target: entry.target,
                payload: entry.payload,
            });
            if entry.next == NONE {
                // The whole chain joins the free list in one step.
                entry.next = self.free;
                self.free = head;
                break;
            }
            slot = entry.next;
        }
        self.load.buckets += 1;
        self.load.gathered += self.current.len() as u32;
        if self.current.len() > 1 {
            self.current
                .sort_unstable_by_key(|event| std::cmp::Reverse(event.order()));
        }
    }

    #[inline]
    fn store(&mut self, event: Event) -> u32 {
        let entry = Entry {
            at: event.at,
            key: event.key,
            payload: event.payload,
            target: event.target,
            next: NONE,
        };
        let slot = self.free;
        if let Some(vacant) = self.slab.get_mut(slot as usize) {
            self.free = vacant.next;
            *vacant = entry;
            slot
        } else {
            self.grow(entry)
        }
    }

    /// By an eighth, not by doubling: a million nodes pay for what is unused.
    #[cold]
    fn grow(&mut self, entry: Entry) -> u32 {
        let slot = u32::try_from(self.slab.len()).expect("fewer than 2³² events pend");
        assert!(slot != NONE, "fewer than 2³² events pend");
        if self.slab.len() == self.slab.capacity() {
            self.slab.reserve_exact(4 + self.slab.len() / 8);
        }
        self.slab.push(entry);
        slot
    }

    #[inline]
    fn link(&mut self, slot: u32, bucket: u64) {
        debug_assert!(bucket >= self.cursor);
        let head = if bucket - self.cursor <= self.mask() {
            let here = (bucket & self.mask()) as usize;
            self.near_occupied[here / 64] |= 1 << (here % 64);
            &mut self.near[here]
        } else {
            self.load.inserted_far += 1;
            let turn = bucket >> self.bits;
            debug_assert!(turn > self.turn);
            if turn - self.turn < TURNS {
                let here = turn % TURNS;
                self.far_occupied |= 1 << here;
                &mut self.far[here as usize]
            } else {
                let at = self.slab[slot as usize].at;
                self.beyond_earliest = self.beyond_earliest.min(at);
                &mut self.beyond
            }
        };
        self.slab[slot as usize].next = std::mem::replace(head, slot);
    }

    fn relink(&mut self, mut slot: u32) {
        while slot != NONE {
            let Entry { at, next, .. } = self.slab[slot as usize];
            self.link(slot, at.0 >> self.width);
            slot = next;
        }
    }

    const fn mask(&self) -> u64 {
        (1 << self.bits) - 1
    }

    /// The first near bucket that holds anything, going round from the cursor.
    fn first_near(&self) -> Option<u64> {
        let start = (self.cursor & self.mask()) as usize;
        let words = self.near_occupied.len();
        // The word we start in is looked at twice: its upper bits first, its
        // lower bits, which belong to the next turn, last.
        (0..=words).find_map(|step| {
            let word = (start / 64 + step) % words;
            let visible = match step {
                0 => u64::MAX << (start % 64),
                _ if step == words => !(u64::MAX << (start % 64)),
                _ => u64::MAX,
            };
            let set = self.near_occupied[word] & visible;
            (set != 0).then(|| {
                let here = (word * 64) as u64 + u64::from(set.trailing_zeros());
                self.cursor + (here.wrapping_sub(self.cursor) & self.mask())
            })
        })
    }

    /// The first later turn whose far list holds anything.
    fn first_far(&self) -> Option<u64> {
        let next = self.turn + 1;
        let ahead = self.far_occupied.rotate_right((next % TURNS) as u32);
        (ahead != 0).then(|| next + u64::from(ahead.trailing_zeros()))
    }

    fn earliest_of(&self, mut slot: u32) -> Instant {
        let mut earliest = Instant::END;
        while slot != NONE {
            let entry = &self.slab[slot as usize];
            earliest = earliest.min(entry.at);
            slot = entry.next;
        }
        earliest
    }

    /// Looks at the load and rebuilds the buckets if another shape suits it.
    ///
    /// Sorting four events is nearly free, an event that goes through the far
    /// range is linked twice; so widths from two to eight events a bucket with
    /// at most an eighth of the events far are left alone. A load that has no
    /// such width (a thousand events at the same instant, once a second) swings
    /// between two, at the cost of one relinking for every two insertions.
    #[cold]
    fn reshape(&mut self) {
        let load = std::mem::take(&mut self.load);
        let share = |n: u32| f64::from(n) / f64::from(load.inserted.max(1));
        let crowd = load.gathered / load.buckets.max(1);
        let bits = self.len.max(1).ilog2().clamp(NEAR_BITS_MIN, NEAR_BITS_MAX);
        let far = share(load.inserted_far);
        let width = if bits > self.bits {
            // More buckets of the same width first: that alone reaches farther.
            self.width
        } else if share(load.inserted_late) > 0.25 {
            self.width.saturating_sub(2)
        } else if far > 0.5 {
            self.width + 3
        } else if far > 0.125 && crowd < 16 {
            self.width + 1
        } else if crowd > 8 && far < 0.03 {
            self.width.saturating_sub((crowd / 4).ilog2())
        } else {
            self.width
        };
        let width = width.min(63 - NEAR_BITS_MAX);
        if width != self.width || bits > self.bits {
            self.rebuild(width, bits.max(self.bits));
        }
    }

    fn rebuild(&mut self, width: u32, bits: u32) {
        let heads = (self.near.drain(..))
            .chain(self.far)
            .chain([self.beyond])
            .filter(|&head| head != NONE)
            .collect::<Vec<_>>();
        // Taken, not drained: under the wrong shape they may have grown large.
        let at_hand = std::mem::take(&mut self.current)
            .into_iter()
            .chain(
                std::mem::take(&mut self.late)
                    .into_iter()
                    .map(|late| late.0),
            )
            .collect::<Vec<_>>();
        let earliest = (heads.iter().map(|&head| self.earliest_of(head)))
            .chain(at_hand.iter().map(|event| event.at))
            .min()
            .unwrap_or(Instant(self.cursor << self.width));

        (self.width, self.bits) = (width, bits);
        self.cursor = earliest.0 >> width;
        self.turn = self.cursor >> bits;
        self.near.resize(1 << bits, NONE);
        self.near.shrink_to_fit();
        self.near_occupied.clear();
        self.near_occupied.resize((1 << bits) / 64, 0);
        self.far = [NONE; TURNS as usize];
        self.far_occupied = 0;
        self.beyond = NONE;
        self.beyond_earliest = Instant::END;
        for head in heads {
            self.relink(head);
        }
        for event in at_hand {
            let slot = self.store(event);
            self.link(slot, event.at.0 >> width);
        }
        self.load = Load::default();
    }
}

/// An event whose order is turned round, because [`BinaryHeap`] gives the
/// greatest first.
#[derive(Clone, Copy)]
struct Late(Event);

impl PartialEq for Late {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Late {}
impl PartialOrd for Late {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Late {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.order().cmp(&self.0.order())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn event(at: u64, key: u64) -> Event {
        Event {
            at: Instant(at),
            key,
            target: (key * 3) as u32,
            payload: at ^ key,
        }
    }

    /// The queue and a map, side by side.
    struct Pair {
        queue: Queue,
        model: BTreeMap<(u64, u64), ()>,
        key: u64,
        now: u64,
    }

    impl Pair {
        fn new(bucket: u64) -> Self {
            Self {
                queue: Queue::new(Nanos(bucket)),
                model: BTreeMap::new(),
                key: 0,
                now: 0,
            }
        }

        fn insert(&mut self, at: u64) {
            // A permutation of small numbers: insertion order is not key order.
            let key = self.key ^ 0x55;
            self.key += 1;
            self.queue.insert(event(at, key));
            self.model.insert((at, key), ());
        }

        /// Takes everything before `limit`, checking each; stops at `most`.
        fn drain(&mut self, limit: u64, most: usize) {
            for _ in 0..most {
                let expected = self
                    .model
                    .first_key_value()
                    .map(|(&order, ())| order)
                    .filter(|&(at, _)| at < limit);
                let found = self.queue.pop_before(Instant(limit));
                assert_eq!(
                    found.map(|event| (event.at.0, event.key)),
                    expected,
                    "before {limit}"
                );
                let Some((at, key)) = expected else { break };
                assert_eq!(found, Some(event(at, key)));
                self.model.remove(&(at, key));
                self.now = at;
            }
            assert_eq!(self.queue.len(), self.model.len());
            assert_eq!(
                self.queue.earliest().map(|at| at.0),
                self.model.first_key_value().map(|(&(at, _), ())| at)
            );
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Events this far ahead of the last one taken.
        Insert(Vec<u64>),
        /// Take all events less than this far ahead, at most so many.
        Drain(u64, usize),
    }

    /// Delays on every scale, so that all three ranges and their edges are met.
    fn delay() -> impl Strategy<Value = u64> {
        (0_u32..45, 0_u64..1024).prop_map(|(scale, n)| (n << scale) >> 10)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            proptest::collection::vec(delay(), 1..40).prop_map(Step::Insert),
            (delay(), 1_usize..60).prop_map(|(span, most)| Step::Drain(span, most)),
        ]
    }

    proptest! {
        #[test]
        fn events_come_out_as_from_an_ordered_map(
            bucket in 0_u32..30,
            steps in proptest::collection::vec(step(), 1..80),
        ) {
            let mut pair = Pair::new(1 << bucket);
            for step in steps {
                match step {
                    Step::Insert(delays) => {
                        for delay in delays {
                            pair.insert(pair.now + delay);
                        }
                    }
                    Step::Drain(span, most) => pair.drain(pair.now + span, most),
                }
            }
            pair.drain(u64::MAX, usize::MAX);
            prop_assert!(pair.queue.is_empty());
        }
    }

    /// Long enough that the buckets are reshaped many times, under loads that
    /// pull in different directions.
    #[test]
    fn reshaping_never_shows() {
        let mut chance = machine::Stream::new(1, wire::Tile(0), machine::Purpose::Work);
        for bucket in [1, 1 << 20, 1 << 57] {
            let mut pair = Pair::new(bucket);
            let mut shapes = std::collections::BTreeSet::new();
            for era in 0..24_u32 {
                let span = 1_u64 << (chance.below(40) + 1);
                for _ in 0..1500 {
                    pair.insert(pair.now + chance.below(span));
                }
                for _ in 0..1500 {
                    let again = chance.below(span) * u64::from(era % 3 != 0);
                    pair.insert(pair.now + again);
                    pair.drain(u64::MAX, 1);
                }
                pair.drain(pair.now + span, 1400);
                shapes.insert((pair.queue.width, pair.queue.bits));
            }
            pair.drain(u64::MAX, usize::MAX);
            assert!(shapes.len() > 4, "{shapes:?}");
        }
    }

    #[test]
    fn times_at_either_end_of_the_world_are_kept() {
        let mut pair = Pair::new(1 << 20);
        for at in [0, 1, u64::MAX - 1, u64::MAX - 2, 1 << 63, (1 << 63) - 1] {
            pair.insert(at);
        }
        pair.drain(0, 9);
        pair.drain(1, 9);
        pair.drain(u64::MAX - 1, 9);
        assert_eq!(pair.queue.len(), 1);
        pair.drain(u64::MAX, 9);
    }
}
