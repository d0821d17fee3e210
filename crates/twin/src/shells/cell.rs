//! One cell: the truth about its tiles, and the machines that believe things.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::slice::from_ref;
use std::sync::Arc;

use machine::{Machine, Persisted, Purpose, Stream};
use membership::{Member, Peer, State};
use node::{Effect, Input, Node};
use physics::tiles::{Flows, Scratch, Tiles};
use scheduler::{CellScheduler, Guard, Signal, Work, cell as scheduling};
use telemetry::{Decision, Sketch};
use transit::line::{self, Line};
use trust::Key;
use wire::{Class, Instant, Joules, Kelvin, Nanos, Seconds, Tile, Watts};

use super::config::{Config, WorkStream, mebibytes};
use super::faults::{Blow, CellFault, Flips, UPSETS, cell_name};
use super::post::{Flight, Look, Post, Slots};
use crate::engine::{Event, Process, Schedule, history, prefetch};

/// What crosses between cells.
#[derive(Clone, Debug)]
pub(super) enum Letter {
    Signal(Signal),
    Work(Work),
}

/// What an event's payload means: the low byte says which, the rest is a handle.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// A node's deadline.
    Wake,
    /// A message arrives; the handle is its place among those under way.
    Deliver,
    /// A write is durable; the handle is its token.
    Durable,
    /// The heat model steps.
    Heat,
    /// The cell measures itself.
    Measure,
    /// Work arrives; the handle is the stream's number.
    Arrival,
    /// The scheduler's deadline.
    SchedulerWake,
    /// Something goes wrong; the handle is its place in the plan.
    Fault,
    /// A letter from another cell arrives.
    Letter,
    /// A trunk's deadline; the handle is the shell it leads to.
    Trunk,
    /// Bits flip in a tile's memory; the handle says beyond correction or not.
    Upset,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Wake,
        Self::Deliver,
        Self::Durable,
        Self::Heat,
        Self::Measure,
        Self::Arrival,
        Self::SchedulerWake,
        Self::Fault,
        Self::Letter,
        Self::Trunk,
        Self::Upset,
    ];

    const fn with(self, handle: u64) -> u64 {
        handle << 8 | self as u64
    }
}

/// What became of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Up,
    /// It passed its limit and cut its power.
    Dark(Instant),
    /// It failed, or cut its power for a failure.
    Failed(Instant),
}

impl Fate {
    const fn since(self) -> Option<Instant> {
        match self {
            Self::Up => None,
            Self::Dark(at) | Self::Failed(at) => Some(at),
        }
    }
}

/// When a node is to be woken.
#[derive(Clone, Copy, Debug)]
struct Alarm {
    /// Its deadline when it was last asked.
    wanted: Instant,
    /// The wake-up that is under way; [`Instant::END`] if none is. Most deadlines are of
    /// answers that come in time: the deadline moves on and the wake-up stays.
    armed: Instant,
}

/// The heat of a cell and what the machines set.
#[derive(Clone, Debug)]
pub(super) struct Heat {
    pub(super) tiles: Tiles,
    pub(super) clock: Vec<f32>,
    pub(super) activity: Vec<f32>,
    /// Heat from the shell inside, in watts per tile, for each step to come.
    pub(super) incoming: VecDeque<f64>,
    /// What each step since the last barrier radiated.
    pub(super) radiated: Vec<Joules>,
    pub(super) flows: Flows,
    /// The hottest any tile has been, less its limit.
    pub(super) over_limit_max: f64,
    /// The first tile seen at or above its limit.
    pub(super) over_limit_first: Option<(Instant, u32, f64)>,
    pub(super) throttled_tile_seconds: f64,
    /// Σ activity × clock × seconds.
    pub(super) work_done: f64,
}

/// Operations of some tiles: how fast, how warm, and what they draw. Sums over tiles and samples.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Operating {
    /// Clock × activity.
    pub(super) speed: f64,
    /// That × kelvin.
    pub(super) speed_kelvin: f64,
    /// Dynamic power.
    pub(super) watts: f64,
}

/// Work yet to come of one stream.
#[derive(Clone, Debug)]
struct Source {
    stream: usize,
    chance: Stream,
}

/// What is counted while a cell runs, for the summary.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) messages: u64,
    pub(super) lost_on_links: u64,
    pub(super) lost_in_flight: u64,
    /// Letters by the cell they went to, as a level of the tree.
    pub(super) letters: [u64; 5],
    pub(super) fired: Vec<u64>,
    pub(super) detected: u64,
    pub(super) detection: Sketch,
    pub(super) suspicions: u64,
    pub(super) false_suspicions: u64,
    pub(super) false_removals: u64,
    pub(super) first_false_removal: Option<(Instant, u32, u32)>,
    /// Messages that members refused.
    rejected: u64,
    pub(super) flips: FlipCounts,
    pub(super) dark: u64,
    /// By class.
    pub(super) trunks: [TrunkCounts; Class::ALL.len()],
}

/// What became of bits that flipped.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FlipCounts {
    /// In messages, under way.
    pub(super) sent: u64,
    /// Those that came to somebody who could listen.
    pub(super) arrived: u64,
    /// Of these, those that were no messages any more.
    pub(super) garbled: u64,
    /// And those whose tags were not theirs.
    pub(super) untrue: u64,
    /// And those that a member took for good.
    pub(super) believed: u64,
    /// When the first was, and by whom.
    pub(super) first_believed: Option<(Instant, u32)>,
    /// In memory, in the order of [`UPSETS`]: all of them, and those of tiles that lived.
    pub(super) memory: [(u64, u64); UPSETS.len()],
}

/// What went over a cell's trunks in one class.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TrunkCounts {
    pub(super) sent: u64,
    pub(super) refused: u64,
    pub(super) waited_max: Nanos,
}

/// The line to the facing cell of another shell.
#[derive(Clone, Debug)]
struct Trunk {
    line: Line<Letter>,
    /// The wake-up under way.
    armed: Instant,
}

/// The engine's process: one cell.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    nodes: Vec<Node>,
    scheduler: CellScheduler,
    pub(super) around: Surroundings,
}

/// Everything of a cell that is not a machine.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    config: Arc<Config>,
    id: u32,
    pub(super) shell: usize,
    /// Whether what tiles draw has to be reckoned anew whenever their temperature changes.
    near_least: bool,
    pub(super) heat: Heat,
    pub(super) fates: Vec<Fate>,
    /// Tiles the scheduler has yet to miss.
    missing: Vec<u32>,
    /// Per tile.
    alarms: Vec<Alarm>,
    scheduler_armed: Instant,
    pub(super) histories: Vec<u64>,
    under_way: Post,
    letters: Slots<Letter>,
    /// By the shell they lead to; none if lines have no limit.
    trunks: Vec<Trunk>,
    links: Stream,
    flips: Flips,
    sources: Vec<Source>,
    works: u64,
    pub(super) faults: Vec<CellFault>,
    partitions: Vec<(Instant, Instant)>,
    pub(super) counts: Counts,
    pub(super) decisions: Vec<Decision>,
    /// Tiles that failed by themselves since this was last looked at.
    pub(super) worn_out: Vec<(Instant, u32)>,
    /// The last signal measured, and the smallest and latest budgets.
    pub(super) load: f64,
    pub(super) budgets: Option<Vec<f64>>,
}

thread_local! {
    /// The heat model's working memory, one per worker: it stays in the cache.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Removals this soon after a partition between the two are its doing: the
/// longest suspicion and its spreading.
const PARTITION_GRACE: Nanos = Nanos::from_secs(10);

impl Cell {
    pub(super) fn new(config: &Arc<Config>, seed: u64, id: u32, faults: Vec<CellFault>) -> Self {
        let tiles = config.grid.tiles();
        let shell = (id / config.cells_per_shell()) as usize;
        let place = &config.shells[shell];
        let limits = config.guard(shell);
        let first = u64::from(id) * u64::from(tiles);
        let protocol = config
            .membership
            .as_ref()
            .filter(|m| m.runs_in(shell, id % config.cells_per_shell()))
            .map(|m| {
                let protocol = m.protocol(cell_name(id), config.grid, &Key::new(seed_key(seed)));
                Arc::new(protocol)
            });
        let tagged = config.membership.as_ref().is_some_and(|m| m.authenticate);
        let node = |tile: u32| {
            let member = protocol.as_ref().map(|protocol| {
                let stream = Stream::new(seed, Tile(first + u64::from(tile)), Purpose::Membership);
                let peer = Peer(u16::try_from(tile).expect("the reader bounds a cell's size"));
                Member::new(Arc::clone(protocol), peer, 0, stream, Instant::EPOCH)
            });
            Node::new(Guard::new(Arc::clone(&limits)), member)
        };
        let mut heat = Tiles::new(place.model, &config.grid, place.initial);
        heat.watts.fill(place.model.idle.0);
        let works_here = |(_, w): &(usize, &WorkStream)| w.shells.contains(&shell);
        let sources = config
            .work
            .iter()
            .enumerate()
            .filter(works_here)
            .map(|(stream, _)| Source {
                stream,
                // Owners beyond all tiles, one per cell and stream.
                chance: Stream::new(
                    seed,
                    Tile(u64::MAX - (u64::from(id) << 8) - stream as u64),
                    Purpose::Work,
                ),
            });
        let kinds = super::faults::kinds(config).len();
        let around = Surroundings {
            id,
            shell,
            near_least: config.is_near_least(shell),
            heat: Heat {
                tiles: heat,
                clock: vec![1.0; tiles as usize],
                activity: vec![0.0; tiles as usize],
                incoming: VecDeque::new(),
                radiated: Vec::new(),
                flows: Flows::default(),
                over_limit_max: f64::NEG_INFINITY,
                over_limit_first: None,
                throttled_tile_seconds: 0.0,
                work_done: 0.0,
            },
            fates: vec![Fate::Up; tiles as usize],
            missing: Vec::new(),
            alarms: vec![
                Alarm {
                    wanted: Instant::END,
                    armed: Instant::END
                };
                tiles as usize
            ],
            scheduler_armed: Instant::END,
            histories: vec![0; tiles as usize],
            under_way: Post::new(protocol.as_ref().filter(|_| tagged).map(|p| p.key.clone())),
            letters: Slots::new(),
            trunks: config.trunks.map_or_else(Vec::new, |trunks| {
                let trunk = |_| Trunk {
                    line: Line::new(trunks.line),
                    armed: Instant::END,
                };
                (0..config.shells.len()).map(trunk).collect()
            }),
            links: Stream::new(seed, Tile(u64::MAX - u64::from(id)), Purpose::Links),
            flips: Flips::new(seed, id),
            sources: sources.collect(),
            works: 0,
            faults,
            partitions: Vec::new(),
            counts: Counts {
                fired: vec![0; kinds],
                ..Counts::default()
            },
            decisions: Vec::new(),
            worn_out: Vec::new(),
            load: 0.0,
            budgets: None,
            config: Arc::clone(config),
        };
        let key = Key::new(seed_key(seed)).derive("descriptors", id.into());
        let mut scheduler = CellScheduler::new(config.scheduler(id), key.clone(), Instant::EPOCH);
        for tile in 0..u64::from(tiles) {
            let descriptor = config.descriptor(shell, Tile(first + tile));
            let tag = descriptor.sign(&key);
            let described = scheduling::Input::Described(descriptor, tag);
            // Nothing waits yet for what could be done with it.
            scheduler.handle(Instant::EPOCH, described, &mut |_| {});
        }
        Self {
            nodes: (0..tiles).map(node).collect(),
            scheduler,
            around,
        }
    }

    /// The events a cell starts with, as (when, tile, payload).
    pub(super) fn initial_events(&mut self) -> Vec<(Instant, u32, u64)> {
        let config = Arc::clone(&self.around.config);
        let mut events = vec![
            (Instant::EPOCH + config.heat_step, 0, Kind::Heat.with(0)),
            (
                Instant::EPOCH + config.thermos.period,
                0,
                Kind::Measure.with(0),
            ),
        ];
        for (i, fault) in self.around.faults.iter().enumerate() {
            events.push((fault.at, 0, Kind::Fault.with(i as u64)));
        }
        for i in 0..self.around.sources.len() {
            let at = self.around.next_arrival(i, Instant::EPOCH);
            events.push((at, 0, Kind::Arrival.with(i as u64)));
        }
        for upset in 0..UPSETS.len() {
            let next = (self.around.flips).in_memory(upset, &config, Instant::EPOCH);
            if let Some((at, tile)) = next {
                events.push((at, tile, Kind::Upset.with(upset as u64)));
            }
        }
        for (tile, node) in self.nodes.iter().enumerate() {
            if let Some(at) = node.deadline() {
                self.around.alarms[tile] = Alarm {
                    wanted: at,
                    armed: at,
                };
                events.push((at, tile as u32, Kind::Wake.with(0)));
            }
        }
        events
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) const fn scheduler(&self) -> &CellScheduler {
        &self.scheduler
    }

    fn rearm(&mut self, tile: u32, schedule: &mut Schedule<'_, Letter>) {
        let deadline = self.nodes[tile as usize].deadline();
        self.around.alarms[tile as usize].wanted = deadline.unwrap_or(Instant::END);
        self.around.arm(tile, schedule);
    }

    fn rearm_scheduler(&mut self, schedule: &mut Schedule<'_, Letter>) {
        let armed = &mut self.around.scheduler_armed;
        if let Some(deadline) = self.scheduler.deadline()
            && deadline < *armed
        {
            *armed = deadline.max(schedule.now());
            schedule.local(*armed, Class::C, 0, Kind::SchedulerWake.with(0));
        }
    }

    fn tell_node(&mut self, tile: u32, input: Input, schedule: &mut Schedule<'_, Letter>) {
        let Self { nodes, around, .. } = self;
        let now = schedule.now();
        nodes[tile as usize].handle(now, input, &mut |e| around.take(tile, e, schedule));
        self.rearm(tile, schedule);
    }

    fn tell_scheduler(&mut self, input: scheduling::Input, schedule: &mut Schedule<'_, Letter>) {
        let now = schedule.now();
        let mut budget = None;
        let around = &mut self.around;
        self.scheduler
            .handle(now, input, &mut |e| around.obey(e, &mut budget, schedule));
        self.pass_on(budget, schedule);
        self.rearm_scheduler(schedule);
    }

    /// Hands a new budget to every tile.
    fn pass_on(&mut self, budget: Option<f64>, schedule: &mut Schedule<'_, Letter>) {
        let Some(budget) = budget else { return };
        for tile in 0..self.nodes.len() as u32 {
            if self.around.fates[tile as usize] == Fate::Up {
                self.tell_node(tile, Input::Budget(budget), schedule);
            }
        }
    }

    fn deliver(&mut self, tile: u32, slot: u64, schedule: &mut Schedule<'_, Letter>) {
        let flight = self.around.under_way.take(slot);
        let now = schedule.now();
        let cut = self.around.cut_between(flight.from, tile, flight.sent, now);
        if cut || self.around.fates[tile as usize] != Fate::Up {
            self.around.counts.lost_in_flight += 1;
            return;
        }
        let flips = &mut self.around.counts.flips;
        flips.arrived += u64::from(flight.flip.is_some());
        match flight.look {
            Look::Garbled => return flips.garbled += 1,
            Look::Untrue => return flips.untrue += 1,
            Look::Good | Look::Unopened => {}
        }
        let refused = self.around.counts.rejected;
        self.tell_node(tile, Input::Received(flight.message), schedule);
        let Counts {
            rejected, flips, ..
        } = &mut self.around.counts;
        if flight.flip.is_some() && *rejected == refused {
            flips.believed += 1;
            flips.first_believed.get_or_insert((now, tile));
        }
    }

    /// Bits flip in a tile's memory, and it learns of it.
    fn upset(&mut self, tile: u32, which: usize, schedule: &mut Schedule<'_, Letter>) {
        let Self { nodes, around, .. } = self;
        let now = schedule.now();
        let (all, met) = &mut around.counts.flips.memory[which];
        *all += 1;
        if around.fates[tile as usize] == Fate::Up {
            *met += 1;
            let input = Input::Upset(UPSETS[which]);
            nodes[tile as usize].handle(now, input, &mut |e| match e {
                // Not from heat.
                Effect::Panic => around.power_off(tile, Fate::Failed(now)),
                e => around.take(tile, e, schedule),
            });
        }
        let config = Arc::clone(&around.config);
        if let Some((at, next)) = around.flips.in_memory(which, &config, now) {
            schedule.local(at, Class::C, next, Kind::Upset.with(which as u64));
        }
    }

    fn heat(&mut self, schedule: &mut Schedule<'_, Letter>) {
        let now = schedule.now();
        let config = Arc::clone(&self.around.config);
        let step = config.heat_step;
        self.around.heat_up(&config, Seconds::from(step));
        let limit = config.shells[self.around.shell].limit.0;
        let Self { nodes, around, .. } = self;
        for (tile, node) in nodes.iter_mut().enumerate() {
            let kelvin = around.heat.tiles.kelvin[tile];
            // What is no temperature is within no limit.
            let over = match kelvin.is_finite() {
                true => kelvin - limit,
                false => f64::INFINITY,
            };
            if over > around.heat.over_limit_max && around.fates[tile] == Fate::Up {
                around.heat.over_limit_max = over;
                if over >= 0.0 && around.heat.over_limit_first.is_none() {
                    around.heat.over_limit_first = Some((now, tile as u32, kelvin));
                }
            }
            if around.fates[tile] == Fate::Up {
                let tile = tile as u32;
                node.handle(now, Input::Sensed(kelvin), &mut |e| {
                    around.take(tile, e, schedule)
                });
            }
        }
        if around.near_least {
            let tiles = 0..around.fates.len() as u32;
            tiles.for_each(|tile| around.set_power(tile));
        }
        schedule.local(now + step, Class::C, 0, Kind::Heat.with(0));
    }

    fn measure(&mut self, schedule: &mut Schedule<'_, Letter>) {
        let now = schedule.now();
        for tile in core::mem::take(&mut self.around.missing) {
            self.tell_scheduler(scheduling::Input::Lost { tile }, schedule);
        }
        let around = &self.around;
        let place = &around.config.shells[around.shell];
        let capacity = around.config.capacity(around.shell).0;
        // What leaks just below the throttle temperature: a sensor of power would
        // read less on a cooler tile, and a prediction must not.
        let leakage = place.model.leakage.at(place.throttle).0;
        let tiles = &around.heat.tiles;
        for tile in 0..tiles.kelvin.len() {
            if around.fates[tile] == Fate::Up {
                let heat = tiles.watts[tile] + leakage + tiles.absorbed.0;
                let load = heat / (capacity * tiles.radiator_share[tile].max(1e-3));
                let kelvin = tiles.kelvin[tile];
                let sensed = scheduling::Input::Sensed {
                    tile: tile as u32,
                    kelvin,
                    load,
                    clock: f64::from(around.heat.clock[tile]),
                };
                // Storing a reading has no effect; see the scheduler's own tests.
                self.scheduler.handle(now, sensed, &mut |_| {});
            }
        }
        self.tell_scheduler(scheduling::Input::Measure, schedule);
        if let Some(budgets) = &mut self.around.budgets {
            budgets.push(self.scheduler.budget());
        }
        let period = self.around.config.thermos.period;
        schedule.local(now + period, Class::C, 0, Kind::Measure.with(0));
    }

    fn arrival(&mut self, source: u64, schedule: &mut Schedule<'_, Letter>) {
        let now = schedule.now();
        let work = self.around.draw_work(source as usize);
        self.tell_scheduler(scheduling::Input::Arrived(work), schedule);
        let next = self.around.next_arrival(source as usize, now);
        if next < Instant::END {
            schedule.local(next, Class::C, 0, Kind::Arrival.with(source));
        }
    }

    fn befall(&mut self, slot: u64, now: Instant) {
        let CellFault { blow, kind, .. } = self.around.faults[slot as usize].clone();
        let around = &mut self.around;
        let fired = match blow {
            Blow::Kill { tile } => {
                let alive = around.fates[tile as usize] == Fate::Up;
                if alive {
                    around.power_off(tile, Fate::Failed(now));
                    self.nodes[tile as usize].kill();
                    if super::faults::is_wear(&around.config, kind) {
                        around.worn_out.push((now, tile));
                    }
                }
                alive
            }
            Blow::Radiator { tile, remaining } => {
                around.heat.tiles.radiator_share[tile as usize] *= remaining;
                true
            }
            Blow::Partition { until } => {
                around.partitions.push((now, until));
                true
            }
        };
        self.around.counts.fired[kind] += u64::from(fired);
    }
}

impl Surroundings {
    /// Sees to it that a wake-up is under way no later than it is wanted.
    fn arm(&mut self, tile: u32, schedule: &mut Schedule<'_, Letter>) {
        let Alarm { wanted, armed } = &mut self.alarms[tile as usize];
        if *wanted < *armed {
            *armed = schedule.now().max(*wanted);
            schedule.local(*armed, Class::C, tile, Kind::Wake.with(0));
        }
    }

    /// Does what a node asks for.
    fn take(&mut self, tile: u32, effect: Effect, schedule: &mut Schedule<'_, Letter>) {
        let now = schedule.now();
        match effect {
            Effect::Send { to, class, message } => {
                self.counts.messages += 1;
                let Links {
                    delay_min,
                    delay_max,
                    loss,
                    ..
                } = self.config.links;
                if self.links.chance(loss) {
                    self.counts.lost_on_links += 1;
                    return;
                }
                let delay = delay_min + self.links.span(delay_max.saturating_sub(delay_min));
                let flip = self.flips.in_message(&self.config);
                self.counts.flips.sent += u64::from(flip.is_some());
                let slot = self.under_way.put(Flight::new(now, tile, flip, message));
                schedule.local(
                    now + delay,
                    class,
                    u32::from(to.0),
                    Kind::Deliver.with(slot),
                );
            }
            Effect::Changed { peer, state } => self.believed(tile, u32::from(peer.0), state, now),
            Effect::SetClock(clock) => {
                self.heat.clock[tile as usize] = clock as f32;
                self.set_power(tile);
            }
            Effect::Panic => {
                self.power_off(tile, Fate::Dark(now));
                self.counts.dark += 1;
            }
            Effect::Persist(persist) => {
                let durable = now + self.config.links.persist;
                schedule.local(durable, Class::C, tile, Kind::Durable.with(persist.token));
            }
            Effect::Decided(action, reason, found, bound) => {
                let subject = Tile(self.first() + u64::from(tile));
                let work = Decision::NO_WORK;
                self.decisions.push(Decision {
                    at: now,
                    action,
                    reason,
                    subject,
                    work,
                    found,
                    bound,
                });
            }
            Effect::Rejected(_) => self.counts.rejected += 1,
        }
    }

    /// Does what the scheduler asks for.
    fn obey(
        &mut self,
        effect: scheduling::Effect,
        new_budget: &mut Option<f64>,
        schedule: &mut Schedule<'_, Letter>,
    ) {
        match effect {
            scheduling::Effect::Assign { tile, activity } => {
                self.heat.activity[tile as usize] = activity as f32;
                self.set_power(tile);
            }
            scheduling::Effect::Budget(budget) => *new_budget = Some(budget),
            scheduling::Effect::Signal(signal) => {
                self.load = signal.load;
                for inner in 0..self.shell {
                    self.send(inner, Class::A, Letter::Signal(signal), schedule);
                }
            }
            scheduling::Effect::Forward { inward, work } => {
                let shell = if inward {
                    self.shell - 1
                } else {
                    self.shell + 1
                };
                self.send(shell, Class::D, Letter::Work(work), schedule);
            }
            scheduling::Effect::Decided(decision) => self.decisions.push(decision),
        }
    }

    /// To the facing cell of another shell: over the trunk, if lines have a limit,
    /// and then at the speed of light.
    fn send(
        &mut self,
        shell: usize,
        class: Class,
        letter: Letter,
        schedule: &mut Schedule<'_, Letter>,
    ) {
        let Some(trunks) = self.config.trunks else {
            return self.post(shell, class, letter, schedule);
        };
        let bytes = match &letter {
            Letter::Signal(_) => trunks.signal.0,
            Letter::Work(work) => trunks.state.0.saturating_mul(u64::from(work.shards)),
        };
        let input = line::Input {
            class,
            bytes,
            message: letter,
        };
        self.work_trunk(shell, schedule, |line, now, mut out| {
            line.handle(now, input, &mut out)
        });
    }

    /// Lets a trunk do something, and does what it says.
    fn work_trunk(
        &mut self,
        shell: usize,
        schedule: &mut Schedule<'_, Letter>,
        act: impl FnOnce(&mut Line<Letter>, Instant, &mut dyn FnMut(line::Effect<Letter>)),
    ) {
        let now = schedule.now();
        let mut said = Vec::new();
        act(&mut self.trunks[shell].line, now, &mut |e| said.push(e));
        for effect in said {
            match effect {
                line::Effect::Sent {
                    class,
                    waited,
                    message,
                } => {
                    let counts = &mut self.counts.trunks[class as usize];
                    counts.sent += 1;
                    counts.waited_max = counts.waited_max.max(waited);
                    self.post(shell, class, message, schedule);
                }
                line::Effect::Refused { class, message } => {
                    self.counts.trunks[class as usize].refused += 1;
                    // Fresher news will follow; work is never dropped, and asks
                    // its own cell again.
                    if let Letter::Work(work) = message {
                        let back = self.letters.put(Letter::Work(work));
                        let at = now + self.config.thermos.period;
                        schedule.local(at, Class::C, 0, Kind::Letter.with(back));
                    }
                }
            }
        }
        let trunk = &mut self.trunks[shell];
        if let Some(deadline) = trunk.line.deadline()
            && deadline != trunk.armed
        {
            trunk.armed = deadline;
            schedule.local(deadline, Class::A, 0, Kind::Trunk.with(shell as u64));
        }
    }

    /// To the facing cell of another shell, at the speed of light.
    fn post(
        &mut self,
        shell: usize,
        class: Class,
        letter: Letter,
        schedule: &mut Schedule<'_, Letter>,
    ) {
        let cells = self.config.cells_per_shell();
        let to = shell as u32 * cells + self.id % cells;
        let tile = |cell: u32| Tile(u64::from(cell) * u64::from(self.config.grid.tiles()));
        let level = self.config.fanout.common_level(tile(self.id), tile(to));
        self.counts.letters[level as usize] += 1;
        let at = schedule.now() + self.config.light_time(self.shell, shell);
        schedule.send(to, at, class, letter);
    }

    fn first(&self) -> u64 {
        u64::from(self.id) * u64::from(self.config.grid.tiles())
    }

    fn set_power(&mut self, tile: u32) {
        let tile = tile as usize;
        let model = &self.config.shells[self.shell].model;
        let clock = f64::from(self.heat.clock[tile]);
        let activity = f64::from(self.heat.activity[tile]);
        let watts = physics::power(model, clock, activity, self.tile_kelvin(tile));
        self.heat.tiles.watts[tile] = watts.0;
    }

    fn power_off(&mut self, tile: u32, fate: Fate) {
        self.fates[tile as usize] = fate;
        self.heat.tiles.powered[tile as usize] = 0.0;
        self.missing.push(tile);
    }

    fn heat_up(&mut self, config: &Config, dt: Seconds) {
        let heat = &mut self.heat;
        let from_inside = match self.shell {
            0 => 0.0,
            _ => (heat.incoming.pop_front()).expect("light is slower than the engine's windows"),
        };
        heat.tiles.absorbed = config.shells[self.shell].sunlight + Watts(from_inside);
        let flows = SCRATCH.with_borrow_mut(|scratch| heat.tiles.step_in(dt, scratch));
        heat.radiated.push(flows.radiated);
        heat.flows += flows;
        let (mut throttled, mut done) = (0.0, 0.0);
        let speeds = heat
            .clock
            .iter()
            .zip(&heat.activity)
            .zip(&heat.tiles.powered);
        for ((&clock, &activity), &powered) in speeds {
            throttled += f64::from(u8::from(clock < 1.0)) * powered;
            done += f64::from(clock * activity) * powered;
        }
        heat.throttled_tile_seconds += throttled * dt.0;
        heat.work_done += done * dt.0;
    }

    /// A node came to believe something about a cell-mate: was it right?
    fn believed(&mut self, observer: u32, peer: u32, state: State, now: Instant) {
        let died = self.fates[peer as usize].since();
        match (state, died) {
            (State::Suspect, None) => {
                self.counts.suspicions += 1;
                if !self.lately_cut_between(observer, peer, now) {
                    self.counts.false_suspicions += 1;
                }
            }
            (State::Suspect, Some(_)) => self.counts.suspicions += 1,
            (State::Removed, Some(died)) => {
                self.counts.detected += 1;
                self.counts.detection.record(now.since(died).0);
            }
            (State::Removed, None) if !self.lately_cut_between(observer, peer, now) => {
                self.counts.false_removals += 1;
                self.counts
                    .first_false_removal
                    .get_or_insert((now, observer, peer));
            }
            _ => {}
        }
    }

    /// Whether a partition lies between two tiles at any time of an interval.
    fn cut_between(&self, a: u32, b: u32, from: Instant, to: Instant) -> bool {
        let half = self.config.grid.tiles() / 2;
        (a < half) != (b < half)
            && self
                .partitions
                .iter()
                .any(|&(start, end)| from < end && to >= start)
    }

    fn lately_cut_between(&self, a: u32, b: u32, now: Instant) -> bool {
        let from = Instant(now.0.saturating_sub(PARTITION_GRACE.0));
        self.cut_between(a, b, from, now)
    }

    fn next_arrival(&mut self, source: usize, now: Instant) -> Instant {
        let Source { stream, chance } = &mut self.sources[source];
        let work = &self.config.work[*stream];
        if work.constant {
            // Once, at the start.
            return if self.works == 0 {
                Instant::EPOCH
            } else {
                Instant::END
            };
        }
        let shard_seconds = f64::from(work.shards) * work.term.as_secs_f64();
        let tiles = f64::from(self.config.grid.tiles());
        let per_second = work.utilisation * tiles / shard_seconds;
        // Thinning (Lewis & Shedler 1979): draw at the highest rate, keep each
        // arrival with the chance its own moment deserves.
        let peak = work.burst.as_ref().map_or(1.0, |b| b.factor.max(1.0));
        let mut at = now;
        loop {
            let gap = -libm::log(1.0 - chance.unit()) / (per_second * peak);
            at += Nanos::from_secs_f64(gap).max(Nanos(1));
            let factor = work.burst.as_ref().map_or(1.0, |b| {
                if at.0 % b.every.0 < b.lasts.0 {
                    b.factor
                } else {
                    1.0
                }
            });
            if chance.chance(factor / peak) || at >= Instant::EPOCH + self.config.end {
                return at;
            }
        }
    }

    fn draw_work(&mut self, source: usize) -> Work {
        let Source { stream, chance } = &mut self.sources[source];
        let work = &self.config.work[*stream];
        let around = |mean: f64, chance: &mut Stream| mean * (0.5 + chance.unit());
        let (shards, term) = if work.constant {
            (work.shards, work.term)
        } else {
            let shards = around(f64::from(work.shards), chance) as u32;
            let term = Nanos::from_secs_f64(around(work.term.as_secs_f64(), chance));
            (shards.clamp(1, self.config.grid.tiles()), term)
        };
        self.works += 1;
        Work {
            id: u64::from(self.id) << 32 | self.works,
            hot: work.hot,
            shards,
            activity: work.activity,
            memory_mib: mebibytes(work.memory),
            priority: work.priority,
            service: work.service,
            term,
            hops: 0,
        }
    }

    /// Mean and largest temperature of tiles that live.
    pub(super) fn kelvins(&self) -> (f64, f64, u32) {
        let (mut sum, mut max, mut up) = (0.0, f64::NAN, 0);
        for (kelvin, fate) in self.heat.tiles.kelvin.iter().zip(&self.fates) {
            if *fate == Fate::Up {
                sum += kelvin;
                max = f64::max(max, *kelvin);
                up += 1;
            }
        }
        (sum, max, up)
    }

    /// What living tiles do at this moment.
    pub(super) fn operating(&self) -> Operating {
        let idle = self.config.shells[self.shell].model.idle.0;
        let heat = &self.heat;
        let mut sum = Operating::default();
        for tile in 0..self.fates.len() {
            let speed =
                f64::from(heat.clock[tile] * heat.activity[tile]) * heat.tiles.powered[tile];
            sum.speed += speed;
            sum.speed_kelvin += speed * heat.tiles.kelvin[tile];
            sum.watts += (heat.tiles.watts[tile] - idle) * heat.tiles.powered[tile];
        }
        sum
    }

    pub(super) fn tile_kelvin(&self, tile: usize) -> Kelvin {
        Kelvin(self.heat.tiles.kelvin[tile])
    }
}

use super::config::Links;

impl Process for Cell {
    type Message = Letter;

    fn fire(&mut self, event: Event, schedule: &mut Schedule<'_, Letter>) {
        let tile = event.target;
        let hash = &mut self.around.histories[tile as usize];
        *hash = history::fold(*hash, event.at, event.key, event.payload);
        let handle = event.payload >> 8;
        let kind = Kind::ALL[(event.payload & 0xff) as usize];
        match kind {
            Kind::Wake => {
                let alarm = &mut self.around.alarms[tile as usize];
                if alarm.armed != event.at {
                    return;
                }
                alarm.armed = Instant::END;
                let early = alarm.wanted > event.at;
                if self.around.fates[tile as usize] != Fate::Up {
                    return;
                }
                if early {
                    // Not worth a look at the node, which is far from the cache.
                    self.around.arm(tile, schedule);
                } else {
                    let Self { nodes, around, .. } = self;
                    nodes[tile as usize].wake(event.at, &mut |e| around.take(tile, e, schedule));
                    self.rearm(tile, schedule);
                }
            }
            Kind::Deliver => self.deliver(tile, handle, schedule),
            Kind::Durable => {
                if self.around.fates[tile as usize] == Fate::Up {
                    self.tell_node(
                        tile,
                        Input::Persisted(Persisted { token: handle }),
                        schedule,
                    );
                }
            }
            Kind::Heat => self.heat(schedule),
            Kind::Measure => self.measure(schedule),
            Kind::Arrival => self.arrival(handle, schedule),
            Kind::SchedulerWake => {
                if self.around.scheduler_armed != event.at {
                    return;
                }
                self.around.scheduler_armed = Instant::END;
                let (mut budget, around) = (None, &mut self.around);
                self.scheduler
                    .wake(event.at, &mut |e| around.obey(e, &mut budget, schedule));
                self.pass_on(budget, schedule);
                self.rearm_scheduler(schedule);
            }
            Kind::Fault => self.befall(handle, event.at),
            Kind::Upset => self.upset(tile, handle as usize, schedule),
            Kind::Trunk => {
                let shell = handle as usize;
                if self.around.trunks[shell].armed == event.at {
                    self.around.trunks[shell].armed = Instant::END;
                    (self.around).work_trunk(shell, schedule, |line, now, mut out| {
                        line.wake(now, &mut out)
                    });
                }
            }
            Kind::Letter => match self.around.letters.take(handle) {
                Letter::Signal(signal) => {
                    self.tell_scheduler(scheduling::Input::Heard(signal), schedule);
                }
                Letter::Work(work) => {
                    self.tell_scheduler(scheduling::Input::Arrived(work), schedule);
                }
            },
        }
    }

    #[inline]
    fn prepare(&self, event: &Event, next: bool) {
        let tile = event.target as usize;
        let kind = Kind::ALL[(event.payload & 0xff) as usize];
        let around = &self.around;
        let message = match kind {
            Kind::Wake if around.alarms[tile].wanted <= event.at => None,
            Kind::Deliver => Some(around.under_way.at(event.payload >> 8)),
            _ => return,
        };
        let member = self.nodes[tile].member();
        if next {
            let flight = message.and_then(Option::as_ref);
            let lists = flight.and_then(|flight| flight.message.lies_elsewhere());
            lists.into_iter().for_each(prefetch);
            let lists = member.map(Member::lies_elsewhere);
            lists.into_iter().flatten().for_each(prefetch);
        } else {
            if let Some(slot) = message {
                prefetch(from_ref(slot).as_ptr_range());
            }
            if let Some(member) = member {
                prefetch(from_ref(member).as_ptr_range());
            }
        }
    }

    fn receive(&mut self, _: Instant, letter: Letter) -> (u32, u64) {
        (0, Kind::Letter.with(self.around.letters.put(letter)))
    }
}

/// A fleet key from the seed: as secret as the seed, which is to say not at all.
fn seed_key(seed: u64) -> [u8; 32] {
    let mut stream = Stream::new(seed, Tile(u64::MAX), Purpose::Manufacture);
    let mut key = [0; 32];
    for part in key.chunks_exact_mut(8) {
        part.copy_from_slice(&stream.next_u64().to_le_bytes());
    }
    key
}
