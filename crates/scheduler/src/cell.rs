//! Where does this work go?
//!
//! One scheduler for a cell of about a thousand tiles. Work arrives, is admitted
//! if its heat can be taken here and outward, is placed on the coolest tiles with
//! room, holds a lease, and leaves. What does not fit is passed on in its own
//! direction, hot work inward and cold work outward, or waits in a bounded queue,
//! or is refused. When a tile is lost its shards move to others. A tile that has
//! more heat than it can reject, because its radiator broke, gives its own work to
//! tiles that can take it: the shells inside are asked to slow down only for the
//! heat that is theirs.
//!
//! What a tile can do it says itself, in a [`Descriptor`] with the tag of the cell's key. Until it has,
//! or if the tag is not its own, it is given nothing.
//!
//! The cell's load, the signal it sends inward, is a high quantile of its tiles'
//! loads rather than their mean: a tenth of the tiles with broken radiators must
//! be able to speak for themselves.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use machine::Machine;
use telemetry::{Action, Decision, Reason};
use trust::{Key, Tag};
use wire::{Instant, Nanos, Tile};

use crate::admission::{Admission, Outward};
use crate::descriptor::Descriptor;
use crate::lease::{Lease, Leases, Service, ServiceLevel};
use crate::thermos::{self, Signal, Thermos};

/// A piece of work: the same activity on a number of tiles for a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// Unique in its universe.
    pub id: u64,
    /// Hot and fast work is drawn inward, cold and deep work outward.
    pub hot: bool,
    /// Tiles it needs at once.
    pub shards: u32,
    /// Share of each tile's compute it uses, 0 to 1.
    pub activity: f64,
    /// Memory it uses on each tile.
    pub memory_mib: u32,
    /// Higher is preempted last.
    pub priority: u8,
    /// What its lease shall promise.
    pub service: Service,
    /// How long it runs.
    pub term: Nanos,
    /// How often it was passed on.
    pub hops: u8,
}

/// What a cell's scheduler is told once.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The cell's first tile.
    pub first: Tile,
    /// How many tiles it has.
    pub tiles: u32,
    /// Its layer, counted outward from 0.
    pub layer: u8,
    /// How many layers there are.
    pub layers: u8,
    /// Heat a sound tile rejects at its limit temperature, in watts.
    pub capacity_watts: f64,
    /// Tiles warmer than this get no new work, in kelvin.
    pub throttle_kelvin: f64,
    /// Whether heat is looked at: without it, work goes to the first tile with room.
    pub heat_aware: bool,
    /// The quantile of its tiles' loads that a cell reports as its load.
    pub load_quantile: f64,
    /// Work waits here at most; more is passed on or refused.
    pub queue_max: usize,
    /// Work is passed on at most this often.
    pub hops_max: u8,
    /// Hot work moves inward while the budget is below this.
    pub migrate_below: f64,
    /// The controller's constants.
    pub thermos: thermos::Config,
    /// What admission knows of the layers outward.
    pub outward: Vec<Outward>,
}

/// What happens to a cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Work came, new or passed on.
    Arrived(Work),
    /// A tile said what it can do.
    Described(Descriptor, Tag),
    /// A tile reported its temperature in kelvin, its thermal load and its clock.
    Sensed {
        /// Which tile of the cell.
        tile: u32,
        /// Its temperature.
        kelvin: f64,
        /// Heat it must reject over what it can reject at its limit.
        load: f64,
        /// The share of full clock it runs at.
        clock: f64,
    },
    /// A tile is gone.
    Lost {
        /// Which tile of the cell.
        tile: u32,
    },
    /// News of a layer outward.
    Heard(Signal),
    /// All tiles have reported: measure, signal, and try what waits.
    Measure,
}

/// What a cell asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The tile now works at this activity in all.
    Assign {
        /// Which tile of the cell.
        tile: u32,
        /// Share of its compute in use.
        activity: f64,
    },
    /// Every tile may spend this share of its dynamic power.
    Budget(f64),
    /// To be sent to the layers inward in class A.
    Signal(Signal),
    /// To be passed to the cell inward or outward of this one.
    Forward {
        /// Towards layer 0.
        inward: bool,
        /// What.
        work: Work,
    },
    /// For the record.
    Decided(Decision),
}

#[derive(Clone, Copy, Debug)]
struct TileBelief {
    activity: f32,
    kelvin: f32,
    load: f32,
    up: bool,
    /// What its descriptor says it must not pass; 0 as long as there is none.
    limit: f32,
    free_mib: u32,
}

/// How long a tile has run, in seconds at full clock, by its reports.
#[derive(Clone, Copy, Debug)]
struct Run {
    until: Instant,
    seconds: f64,
    /// What it reported then.
    clock: f64,
}

impl Run {
    /// A tile runs on as it said, until it says otherwise.
    const fn at(&self, now: Instant) -> f64 {
        self.seconds + self.clock * now.since(self.until).as_secs_f64()
    }
}

/// Leases of one level that are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// All of them.
    pub ended: u64,
    /// Those that gave less than they had promised.
    pub breached: u64,
}

/// The scheduler of one cell.
#[derive(Clone, Debug)]
pub struct CellScheduler {
    config: Arc<Config>,
    /// What tags of descriptors are held against.
    key: Key,
    tiles: Vec<TileBelief>,
    runs: Vec<Run>,
    /// Dynamic power of all tiles that described themselves, in milliwatts, and how many did.
    dynamic_mw: u64,
    described: u32,
    /// The most memory any of them has.
    memory_mib_max: u32,
    served: [Served; ServiceLevel::ALL.len()],
    leases: Leases,
    waiting: VecDeque<Work>,
    thermos: Thermos,
    admission: Admission,
    load_mean: f64,
    /// Sum of assigned activity, in tiles.
    busy: f64,
    scratch: Vec<(f32, u32)>,
}

/// Why work could not start here, with what was found and its bound.
type Obstacle = (Reason, f64, f64);

/// The load above which a tile warms up past its limit, sooner or later. It gets no
/// new work.
const OVERLOAD: f64 = 1.0;

/// Activities add up in binary fractions; a tile counts as full above this.
const FULL: f32 = 1.0 + 1e-4;

impl CellScheduler {
    /// A cell of idle tiles, all up, of which nothing is known yet.
    #[must_use]
    pub fn new(config: Arc<Config>, key: Key, now: Instant) -> Self {
        let idle = TileBelief {
            activity: 0.0,
            kelvin: 0.0,
            load: 0.0,
            up: true,
            limit: 0.0,
            free_mib: 0,
        };
        let run = Run {
            until: now,
            seconds: 0.0,
            clock: 1.0,
        };
        Self {
            key,
            tiles: vec![idle; config.tiles as usize],
            runs: vec![run; config.tiles as usize],
            dynamic_mw: 0,
            described: 0,
            memory_mib_max: 0,
            served: Default::default(),
            leases: Leases::new(),
            waiting: VecDeque::new(),
            thermos: Thermos::new(&config.thermos, now),
            admission: Admission::new(config.thermos.setpoint, config.outward.clone()),
            load_mean: 0.0,
            busy: 0.0,
            scratch: Vec::new(),
            config,
        }
    }

    /// Activity assigned, in tiles.
    #[must_use]
    pub const fn busy(&self) -> f64 {
        self.busy
    }

    /// Pieces of work that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The heat budget its tiles have.
    #[must_use]
    pub fn budget(&self) -> f64 {
        self.thermos.budget()
    }

    /// What its tiles hold.
    #[must_use]
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }

    /// How leases of a level fared that are over.
    #[must_use]
    pub const fn served(&self, level: ServiceLevel) -> Served {
        self.served[level as usize]
    }

    /// Dynamic power of a tile at full activity and clock, in watts; the mean of those that said.
    fn dynamic_watts(&self) -> f64 {
        self.dynamic_mw as f64 / 1e3 / f64::from(self.described.max(1))
    }

    /// Takes a tile at its word, once, if it is its word.
    //= requirements S1
    fn described(&mut self, descriptor: &Descriptor, tag: &Tag) {
        let number = descriptor.tile.0.checked_sub(self.config.first.0);
        let tile = number.and_then(|number| self.tiles.get_mut(usize::try_from(number).ok()?));
        let Some(tile) = tile.filter(|tile| tile.limit == 0.0) else {
            return;
        };
        let computes = descriptor.accelerators > 0 || descriptor.cpu_milli > 0;
        if !computes || !descriptor.is_signed(&self.key, tag) {
            return;
        }
        tile.limit = (f64::from(descriptor.limit_mk) / 1e3) as f32;
        tile.free_mib = descriptor.memory_mib;
        self.memory_mib_max = self.memory_mib_max.max(descriptor.memory_mib);
        self.dynamic_mw += descriptor.max_mw.saturating_sub(descriptor.idle_mw);
        self.described += 1;
    }

    /// Mean extra heat per tile if this ran, in watts.
    fn heat_of(&self, shards: u32, activity: f64) -> f64 {
        f64::from(shards) * activity * self.dynamic_watts() / f64::from(self.config.tiles)
    }

    fn decide(
        &self,
        now: Instant,
        action: Action,
        work: u64,
        (reason, found, bound): Obstacle,
        subject: u32,
        out: &mut impl FnMut(Effect),
    ) {
        out(Effect::Decided(Decision {
            at: now,
            action,
            reason,
            subject: Tile(self.config.first.0 + u64::from(subject)),
            work,
            found,
            bound,
        }));
    }

    /// The coolest tiles with room for this activity and memory and no more load than this, or
    /// the first if heat is not looked at. Leaves them in `scratch`, best first.
    fn candidates(
        &mut self,
        shards: usize,
        (activity, memory_mib): (f64, u32),
        load_max: f64,
    ) -> Result<(), Obstacle> {
        let mut scratch = core::mem::take(&mut self.scratch);
        scratch.clear();
        let aware = self.config.heat_aware;
        let throttle = self.config.throttle_kelvin as f32;
        let (mut roomy, room) = (0, FULL - activity as f32);
        let load_max = load_max as f32;
        for (i, tile) in self.tiles.iter().enumerate() {
            let is_known = tile.limit > 0.0;
            if tile.up && is_known && tile.activity <= room && memory_mib <= tile.free_mib {
                roomy += 1;
                if !aware {
                    scratch.push((0.0, i as u32));
                } else if tile.kelvin < throttle.min(tile.limit) && tile.load <= load_max {
                    scratch.push((tile.kelvin, i as u32));
                }
            }
        }
        let found = scratch.len();
        if found > shards && aware {
            let by_kelvin_then_number =
                |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
            scratch.select_nth_unstable_by(shards, by_kelvin_then_number);
            scratch[..shards].sort_unstable_by(by_kelvin_then_number);
        }
        scratch.truncate(shards);
        self.scratch = scratch;
        if found >= shards {
            Ok(())
        } else if roomy >= shards {
            Err((Reason::NoHeadroomHere, found as f64, shards as f64))
        } else {
            Err((Reason::NoCapacity, roomy as f64, shards as f64))
        }
    }

    fn find_room(&mut self, work: &Work) -> Result<(), Obstacle> {
        if work.shards == 0 || work.shards > self.config.tiles || work.activity > 1.0 {
            return Err((
                Reason::Impossible,
                f64::from(work.shards),
                f64::from(self.config.tiles),
            ));
        }
        if self.described > 0 && work.memory_mib > self.memory_mib_max {
            let (asked, most) = (work.memory_mib.into(), self.memory_mib_max.into());
            return Err((Reason::Impossible, asked, most));
        }
        if self.config.heat_aware {
            let extra = self.heat_of(work.shards, work.activity);
            let setpoint = self.config.thermos.setpoint;
            let here = self.load_mean + extra / self.config.capacity_watts;
            if here > setpoint {
                return Err((Reason::NoHeadroomHere, here, setpoint));
            }
            self.admission
                .check(extra, |layer| self.thermos.heard(layer))
                .map_err(|r| (Reason::NoHeadroomOutward, r.predicted, r.bound))?;
        }
        let needs = (work.activity, work.memory_mib);
        self.candidates(work.shards as usize, needs, OVERLOAD)
    }

    /// Starts the work on the tiles in `scratch`.
    fn start(&mut self, now: Instant, work: &Work, out: &mut impl FnMut(Effect)) {
        let tiles: Vec<u32> = self.scratch.iter().map(|&(_, tile)| tile).collect();
        let best = self.scratch[0];
        let mut ran_before = 0.0;
        for &tile in &tiles {
            self.add(tile, work.activity, out);
            self.tiles[tile as usize].free_mib -= work.memory_mib;
            ran_before += self.runs[tile as usize].at(now);
        }
        // Its heat is on its way although no sensor shows it yet.
        self.load_mean += self.heat_of(work.shards, work.activity) / self.config.capacity_watts;
        self.leases.grant(Lease {
            work: work.id,
            tiles,
            activity: work.activity,
            memory_mib: work.memory_mib,
            priority: work.priority,
            service: work.service,
            from: now,
            until: now + work.term,
            shards: work.shards,
            ran_before,
        });
        self.reckon_heat(now);
        let score = (
            Reason::BestScore,
            f64::from(best.0),
            self.config.throttle_kelvin,
        );
        self.decide(now, Action::Place, work.id, score, best.1, out);
    }

    fn add(&mut self, tile: u32, activity: f64, out: &mut impl FnMut(Effect)) {
        let belief = &mut self.tiles[tile as usize];
        belief.activity = (belief.activity + activity as f32).max(0.0);
        self.busy += activity;
        out(Effect::Assign {
            tile,
            activity: f64::from(belief.activity),
        });
    }

    fn reckon_heat(&mut self, now: Instant) {
        let watts = self.busy * self.dynamic_watts() / f64::from(self.config.tiles);
        self.admission.record(now, watts);
    }

    /// Starts it, passes it on, lets it wait, or refuses it, in this order.
    fn take(&mut self, now: Instant, mut work: Work, out: &mut impl FnMut(Effect)) {
        let obstacle = match self.find_room(&work) {
            Ok(()) => return self.start(now, &work, out),
            Err(obstacle) => obstacle,
        };
        if obstacle.0 == Reason::Impossible {
            return self.decide(now, Action::Refuse, work.id, obstacle, 0, out);
        }
        //= requirements H6
        let inward = work.hot;
        let at_the_edge = if inward {
            self.config.layer == 0
        } else {
            self.config.layer + 1 >= self.config.layers
        };
        if !at_the_edge && work.hops < self.config.hops_max {
            work.hops += 1;
            self.decide(now, Action::Migrate, work.id, obstacle, 0, out);
            out(Effect::Forward { inward, work });
        } else if self.waiting.len() < self.config.queue_max {
            self.decide(now, Action::Queue, work.id, obstacle, 0, out);
            self.waiting.push_back(work);
        } else {
            self.decide(now, Action::Refuse, work.id, obstacle, 0, out);
        }
    }

    /// Starts what waits, in order of arrival, up to the first that cannot start.
    fn retry(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        while let Some(work) = self.waiting.pop_front() {
            if self.find_room(&work).is_err() {
                self.waiting.push_front(work);
                return;
            }
            self.start(now, &work, out);
        }
    }

    fn release(&mut self, now: Instant, lease: &Lease, out: &mut impl FnMut(Effect)) {
        for &tile in &lease.tiles {
            self.add(tile, -lease.activity, out);
            self.tiles[tile as usize].free_mib += lease.memory_mib;
        }
        self.reckon_heat(now);
        self.judge(now, lease, out);
    }

    /// Holds what a lease that is over gave against what it promised.
    //= requirements S2
    fn judge(&mut self, now: Instant, lease: &Lease, out: &mut impl FnMut(Effect)) {
        let Service { level, speed } = lease.service;
        // Without a tile left it did not end, it was lost: its whole term was promised.
        let is_lost = lease.tiles.is_empty();
        let span = if is_lost { lease.until } else { now }.since(lease.from);
        let ran: f64 = (lease.tiles.iter())
            .map(|&tile| self.runs[tile as usize].at(now))
            .sum();
        let promised = f64::from(lease.shards) * span.as_secs_f64();
        let share = (ran - lease.ran_before).max(0.0) / promised;
        let served = &mut self.served[level as usize];
        served.ended += 1;
        // A lease of no time promises nothing. The sums of many tiles lose a little.
        let is_breached = is_lost || share < speed - 1e-6;
        if is_breached {
            served.breached += 1;
            let found = (Reason::ServiceLevel, share, speed);
            let first = lease.tiles.first().copied().unwrap_or(0);
            self.decide(now, Action::Breach, lease.work, found, first, out);
        }
    }

    fn lose(&mut self, now: Instant, lost: u32, out: &mut impl FnMut(Effect)) {
        let Some(belief) = self.tiles.get_mut(lost as usize).filter(|b| b.up) else {
            return;
        };
        belief.up = false;
        belief.activity = 0.0;
        // One entry per shard: a tile may carry several of one piece of work.
        let shards = self.leases.iter().flat_map(|lease| {
            let here = lease.tiles.iter().filter(|&&tile| tile == lost);
            here.map(|_| (lease.work, lease.activity, lease.memory_mib))
        });
        let concerned: Vec<(u64, f64, u32)> = shards.collect();
        let run = self.runs[lost as usize];
        for (work, activity, memory_mib) in concerned {
            self.busy -= activity;
            let found = self.candidates(1, (activity, memory_mib), OVERLOAD);
            let target = found.ok().and_then(|()| self.scratch.first().copied());
            let lease = self.leases.iter_mut().find(|l| l.work == work);
            let Lease {
                tiles,
                ran_before,
                from,
                ..
            } = lease.expect("listed above");
            let at = tiles
                .iter()
                .position(|&t| t == lost)
                .expect("filtered above");
            // What it ran after its last report nobody knows.
            *ran_before -= run.at(run.until.max(*from));
            if let Some((kelvin, to)) = target {
                tiles[at] = to;
                *ran_before += self.runs[to as usize].at(now);
                self.tiles[to as usize].free_mib -= memory_mib;
                self.add(to, activity, out);
                let cause = (
                    Reason::HostLost,
                    f64::from(kelvin),
                    self.config.throttle_kelvin,
                );
                self.decide(now, Action::Migrate, work, cause, to, out);
            } else {
                tiles.swap_remove(at);
                let is_over = tiles.is_empty();
                let cause = found.err().unwrap_or((Reason::NoCapacity, 0.0, 1.0));
                self.decide(now, Action::Lose, work, cause, lost, out);
                if let Some(lease) = is_over.then(|| self.leases.end(work)).flatten() {
                    self.judge(now, &lease, out);
                }
            }
        }
        self.reckon_heat(now);
    }

    //= requirements H3
    fn measure(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        let mut loads = core::mem::take(&mut self.scratch);
        loads.clear();
        loads.extend(self.tiles.iter().filter(|t| t.up).map(|t| (t.load, 0)));
        let count = loads.len();
        if count > 0 {
            self.load_mean =
                loads.iter().map(|&(load, _)| f64::from(load)).sum::<f64>() / count as f64;
            let rank = ((self.config.load_quantile * count as f64) as usize).min(count - 1);
            let (_, &mut (load, _), _) =
                loads.select_nth_unstable_by(rank, |a, b| a.0.total_cmp(&b.0));
            out(Effect::Signal(Signal {
                layer: self.config.layer,
                load: f64::from(load),
                measured: now,
            }));
        }
        self.scratch = loads;
        if self.config.heat_aware {
            self.relieve_overloaded_tiles(now, out);
            self.move_hot_work_inward(now, out);
        }
        self.retry(now, out);
    }

    /// Moves work from tiles that cannot reject the heat they have to tiles that could,
    /// as long as there are any.
    fn relieve_overloaded_tiles(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        let tiles = &self.tiles;
        let overloaded =
            |tile: u32| tiles[tile as usize].up && f64::from(tiles[tile as usize].load) > OVERLOAD;
        let shards = self.leases.iter().flat_map(|lease| {
            let here = (lease.tiles.iter().enumerate()).filter(|&(_, &tile)| overloaded(tile));
            here.map(|(shard, &tile)| {
                let needs = (lease.activity, lease.memory_mib);
                (lease.work, needs, shard, tile)
            })
        });
        let shards: Vec<(u64, (f64, u32), usize, u32)> = shards.collect();
        for (work, needs, shard, from) in shards {
            let (activity, memory_mib) = needs;
            let added = activity * self.dynamic_watts() / self.config.capacity_watts;
            if self.candidates(1, needs, OVERLOAD - added).is_err() {
                return;
            }
            let to = self.scratch[0].1;
            let lease = self.leases.iter_mut().find(|l| l.work == work);
            let lease = lease.expect("listed above");
            lease.tiles[shard] = to;
            let ran = |tile: u32| self.runs[tile as usize].at(now);
            lease.ran_before += ran(to) - ran(from);
            self.tiles[from as usize].free_mib += memory_mib;
            self.tiles[to as usize].free_mib -= memory_mib;
            self.add(from, -activity, out);
            self.add(to, activity, out);
            let load = f64::from(self.tiles[from as usize].load);
            // Until they are measured again. A broken radiator gains more than this.
            self.tiles[from as usize].load -= added as f32;
            self.tiles[to as usize].load += added as f32;
            let cause = (Reason::NoHeadroomHere, load, OVERLOAD);
            self.decide(now, Action::Migrate, work, cause, to, out);
        }
    }

    /// One piece a period, so that what moves can be felt before more does.
    fn move_hot_work_inward(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        let budget = self.thermos.budget();
        if budget >= self.config.migrate_below || self.config.layer == 0 {
            return;
        }
        let hottest = self
            .leases
            .iter()
            .filter(|l| l.priority > 0)
            .max_by_key(|l| l.priority);
        let Some(work) = hottest.map(|l| l.work) else {
            return;
        };
        let lease = self.leases.end(work).expect("just found");
        self.release(now, &lease, out);
        let pressure = (Reason::Backpressure, budget, self.config.migrate_below);
        self.decide(now, Action::Migrate, work, pressure, 0, out);
        out(Effect::Forward {
            inward: true,
            work: Work {
                id: work,
                hot: true,
                shards: lease.tiles.len() as u32,
                activity: lease.activity,
                memory_mib: lease.memory_mib,
                priority: lease.priority,
                service: lease.service,
                term: lease.until.since(now),
                hops: 0,
            },
        });
    }

    fn route(&self, now: Instant, effect: thermos::Effect, out: &mut impl FnMut(Effect)) {
        match effect {
            thermos::Effect::Budget(budget) => out(Effect::Budget(budget)),
            thermos::Effect::Decided(action, reason, found, bound) => {
                self.decide(
                    now,
                    action,
                    Decision::NO_WORK,
                    (reason, found, bound),
                    0,
                    out,
                );
            }
        }
    }
}

impl Machine for CellScheduler {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Instant, input: Input, out: &mut impl FnMut(Effect)) {
        match input {
            Input::Described(descriptor, tag) => self.described(&descriptor, &tag),
            Input::Sensed {
                tile,
                kelvin,
                load,
                clock,
            } => {
                let Some(belief) = self.tiles.get_mut(tile as usize) else {
                    return;
                };
                let run = &mut self.runs[tile as usize];
                *run = Run {
                    until: now,
                    seconds: run.at(now),
                    // What is no number is no work done.
                    clock: clock.clamp(0.0, 1.0).max(0.0),
                };
                // A reading that is no number would let everything in: no bound is below it.
                if kelvin.is_nan() || load.is_nan() {
                    // Its load stays as it was last known, and it gets no new work.
                    belief.kelvin = f32::INFINITY;
                } else {
                    (belief.kelvin, belief.load) = (kelvin as f32, load as f32);
                }
            }
            Input::Arrived(work) => self.take(now, work, out),
            Input::Lost { tile } => self.lose(now, tile, out),
            Input::Heard(signal) => {
                if self.config.heat_aware {
                    let mut effects = Vec::new();
                    self.thermos.handle(now, signal, &mut |e| effects.push(e));
                    effects.into_iter().for_each(|e| self.route(now, e, out));
                }
            }
            Input::Measure => self.measure(now, out),
        }
    }

    fn wake(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        if self.config.heat_aware {
            let mut effects = Vec::new();
            self.thermos.wake(now, &mut |e| effects.push(e));
            effects.into_iter().for_each(|e| self.route(now, e, out));
        }
        loop {
            let mut freed = false;
            while let Some(lease) = self.leases.expire(now) {
                self.release(now, &lease, out);
                let term = (Reason::Term, now.as_secs_f64(), lease.until.as_secs_f64());
                let first = lease.tiles.first().copied().unwrap_or(0);
                self.decide(now, Action::Expire, lease.work, term, first, out);
                freed = true;
            }
            if !freed {
                break;
            }
            // What starts with it may have no term at all, and is over as well.
            self.retry(now, out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let silence = self
            .config
            .heat_aware
            .then(|| self.thermos.deadline())
            .flatten();
        self.leases.next_end().into_iter().chain(silence).min()
    }
}
