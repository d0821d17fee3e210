//! A run from its epoch to its end: windows, the exchange of heat, samples,
//! invariants, and what is left to tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use membership::{Member, State};
use node::Node;
use physics::shells::Shells;
use physics::tiles::{Flows, Operation};
use scheduler::Guard;
use scheduler::lease::ServiceLevel;
use telemetry::{Action, Reason, Sketch};
use wire::{Class, Hexagons, Instant, Joules, Kelvin, Level, Nanos, Seconds, Watts};

use super::cell::{Cell, Fate, FlipCounts, Operating};
use super::config::{Config, Fault, FaultKind, Flips};
use super::faults;
use super::step_response::StepResponse;
use crate::engine::{Engine, Outcome as EngineOutcome, World, history};
use crate::observer::{Observer, Progress};
use crate::record::series::Frame;
use crate::record::summary::{self, Invariant, Kind, Quantiles, Violation};
use crate::record::{Group, Holon, Layout, Map, Sample, Series, Summary};

/// What a run is asked for besides its universe.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Chance of everything.
    pub seed: u64,
    /// Workers, this one included. The history does not depend on it.
    pub threads: usize,
}

/// What a run leaves in memory.
#[derive(Debug)]
pub struct Outcome {
    /// All but what only a host knows: wall time, memory, the command.
    pub summary: Summary,
    /// Charts and map.
    pub series: Series,
    /// What the innermost loop did, if it ever had to act.
    pub step_response: Option<StepResponse>,
}

/// Runs a universe to its end, or until the observer says stop.
///
/// # Panics
/// If the heat model's step is too long for the light time between two shells;
/// the schema refuses such a universe.
pub fn run(config: Config, options: Options, observer: &mut dyn Observer) -> Outcome {
    let lookahead = config
        .lookahead()
        .expect("checked when the universe was read");
    let config = Arc::new(config);
    let mut injected = vec![0_u64; faults::kinds(&config).len()];
    let cells = (0..config.cells()).map(|id| {
        let plan = faults::plan(&config, options.seed, id);
        plan.iter().for_each(|fault| injected[fault.kind] += 1);
        Cell::new(&config, options.seed, id, plan)
    });
    let mut cells: Vec<Cell> = cells.collect();
    cells[0].around.budgets = Some(Vec::new());
    let starts: Vec<_> = cells.iter_mut().map(Cell::initial_events).collect();
    let mut sky = Sky::over(&config, &mut cells);
    let mut engine = Engine::new(cells, lookahead, options.threads);
    for (cell, events) in starts.into_iter().enumerate() {
        for (at, tile, payload) in events {
            engine.schedule_initial(cell as u32, at, wire::Class::C, tile, payload);
        }
    }

    let end = Instant::EPOCH + config.end;
    let mut watch = Watch::new(&config);
    let mut next = Instant::EPOCH + config.sample;
    let mut stopped = false;
    while engine.now() < end && !stopped {
        let until = next.min(end);
        let outcome = engine.run_until(until, &mut |world, progress| {
            sky.exchange(&config, world);
            observer.progress(Progress {
                now: progress.now,
                end,
                events: progress.events,
            })
        });
        stopped = outcome == EngineOutcome::Interrupted;
        next = until + config.sample;
        watch.look(&config, &mut engine, observer);
    }
    watch.conclude(&config, options, &injected, &engine, !stopped)
}

/// Heat on its way from shell to shell.
struct Sky {
    shells: Shells,
}

impl Sky {
    /// The sky over cells about to begin, who are told what is already on its way.
    fn over(config: &Config, cells: &mut [Cell]) -> Self {
        let per_shell = config.cells_per_shell() as usize;
        let shells = config
            .shells
            .iter()
            .enumerate()
            .map(|(i, shell)| physics::shells::Shell {
                light_time: if i == 0 {
                    Nanos::ZERO
                } else {
                    config.light_time(i - 1, i)
                },
                share: shell.coverage,
                before: (cells[i * per_shell..(i + 1) * per_shell].iter())
                    .map(|c| c.around.heat.tiles.radiating())
                    .sum(),
            });
        let shells = Shells::new(&shells.collect::<Vec<_>>(), config.heat_step);
        for (i, part) in cells.chunks_mut(per_shell).enumerate().skip(1) {
            for watts in shells.known(i) {
                let each = per_tile(config, watts);
                part.iter_mut()
                    .for_each(|c| c.around.heat.incoming.push_back(each));
            }
        }
        Self { shells }
    }

    /// Takes what cells radiated since the last barrier and hands out what will
    /// arrive in the steps for which it is now known.
    fn exchange(&mut self, config: &Config, world: &mut World<'_, Cell>) {
        let mut cells: Vec<&mut Cell> = world.iter_mut().collect();
        let per_shell = config.cells_per_shell() as usize;
        let steps = cells[0].around.heat.radiated.len();
        let mut absorbed = vec![Watts::ZERO; config.shells.len()];
        for step in 0..steps {
            // In the order of cells, whatever thread ran them.
            let emitted = cells.chunks(per_shell).map(|part| {
                let joules: Joules = part.iter().map(|c| c.around.heat.radiated[step]).sum();
                joules / Seconds::from(config.heat_step)
            });
            let emitted: Vec<Watts> = emitted.collect();
            self.shells.step(&emitted, &mut absorbed);
            for (part, &watts) in cells.chunks_mut(per_shell).zip(&absorbed).skip(1) {
                let each = per_tile(config, watts);
                part.iter_mut()
                    .for_each(|c| c.around.heat.incoming.push_back(each));
            }
        }
        cells
            .iter_mut()
            .for_each(|c| c.around.heat.radiated.clear());
    }
}

/// A shell's heat falls evenly on its tiles.
fn per_tile(config: &Config, watts: Watts) -> f64 {
    watts.0 / config.fanout.tiles_in(Level::Region) as f64
}

/// Everything noticed while a run goes on.
struct Watch {
    series: Series,
    /// Mean budget per shell at each sample.
    budgets: Vec<Vec<f64>>,
    /// Mean activity per shell at each sample.
    busy: Vec<Vec<f64>>,
    /// What each shell's tiles did at all samples.
    operating: Vec<Operating>,
    /// Faults not yet told of.
    faults: Vec<(Nanos, String)>,
    decided: BTreeMap<(Action, Reason), u64>,
    runaway: Option<Violation>,
    energy: Option<Violation>,
    load_max: f64,
    budget_min: f64,
    told_dark: Vec<bool>,
    told_pressed: Vec<bool>,
}

impl Watch {
    fn new(config: &Config) -> Self {
        let groups = config.shells.iter().enumerate().map(|(i, shell)| {
            let tiles = config.fanout.tiles_in(Level::Region);
            let group = Group::new(
                shell.name.clone(),
                tiles,
                shell.limit.0 as f32,
                shell.throttle.0 as f32,
            );
            // Nobody lies inside the innermost shell to slow down for it.
            if config.thermos.enabled && i > 0 {
                group.below(config.thermos.setpoint)
            } else {
                group
            }
        });
        let shells = config.shells.len();
        let series = Series::new(groups.collect(), Some(map(config)));
        Self {
            series,
            budgets: vec![Vec::new(); shells],
            busy: vec![Vec::new(); shells],
            operating: vec![Operating::default(); shells],
            faults: (config.faults.iter())
                .map(|fault| (fault.at, describe(config, fault)))
                .collect(),
            decided: BTreeMap::new(),
            runaway: None,
            energy: None,
            load_max: f64::NAN,
            budget_min: f64::NAN,
            told_dark: vec![false; shells],
            told_pressed: vec![false; shells],
        }
    }

    fn look(&mut self, config: &Config, engine: &mut Engine<Cell>, observer: &mut dyn Observer) {
        let now = engine.now().as_secs_f64();
        let per_shell = config.cells_per_shell() as usize;
        let struck = |at: Nanos| Instant::EPOCH + at <= engine.now();
        for (at, text) in self.faults.extract_if(.., |(at, _)| struck(*at)) {
            self.series.note(at.as_secs_f64(), text);
        }
        let mut samples = Vec::new();
        let mut flows = Flows::default();
        let cells: Vec<&mut Cell> = engine.processes_mut().collect();
        for (shell, part) in cells.chunks(per_shell).enumerate() {
            let tiles = part.len() * config.grid.tiles() as usize;
            let sample = sample(config, shell, part);
            self.budgets[shell].push(mean(part.iter().map(|c| c.scheduler().budget())));
            self.busy[shell].push(f64::from(sample.utilisation));
            for cell in part {
                let now = cell.around.operating();
                let sum = &mut self.operating[shell];
                sum.speed += now.speed;
                sum.speed_kelvin += now.speed_kelvin;
                sum.watts += now.watts;
            }
            self.load_max = self.load_max.max(f64::from(sample.load));
            self.budget_min = self.budget_min.min(f64::from(sample.budget_min));
            let dark: u64 = part.iter().map(|c| c.around.counts.dark).sum();
            let bound = config.bounds.runaway_share;
            let share = dark as f64 / tiles as f64;
            if dark > 0 && !std::mem::replace(&mut self.told_dark[shell], true) {
                let text = format!("first tile of {} goes dark", config.shells[shell].name);
                self.series.note(now, text);
            }
            if share > bound && self.runaway.is_none() {
                let name = &config.shells[shell].name;
                self.runaway = Some(Violation {
                    seconds: now,
                    subject: name.clone(),
                    found: share,
                    bound,
                    unit: String::new(),
                    text: format!("{dark} of {tiles} tiles of {name} were lost to heat"),
                });
            }
            samples.push(sample);
            flows += part.iter().map(|c| c.around.heat.flows).sum();
        }
        let error = energy_error(&flows);
        if (error.is_nan() || error > config.bounds.energy_error) && self.energy.is_none() {
            self.energy = Some(Violation {
                seconds: now,
                subject: config.name.clone(),
                found: error,
                bound: config.bounds.energy_error,
                unit: String::new(),
                text: "the books of heat do not balance".to_owned(),
            });
        }
        for (id, cell) in cells.into_iter().enumerate() {
            let shell = id / per_shell;
            for (at, tile) in cell.around.worn_out.drain(..) {
                let number = number(config, id, tile);
                let detail = format!("{} fails by wear", tile_name(config, id, tile));
                observer.event(at, "worn_out", Some(number.0), &detail);
            }
            for decision in cell.around.decisions.drain(..) {
                *self
                    .decided
                    .entry((decision.action, decision.reason))
                    .or_default() += 1;
                if decision.reason == Reason::Backpressure
                    && !std::mem::replace(&mut self.told_pressed[shell], true)
                {
                    let text = format!(
                        "{} slows for the shells outside it",
                        config.shells[shell].name
                    );
                    self.series.note(decision.at.as_secs_f64(), text);
                }
                observer.decision(&decision, Some(id as u64));
            }
        }
        self.series.push(now, &samples);
        if let Some(map) = self.series.map_mut() {
            map.push(frame(config, now, engine));
        }
    }

    fn conclude(
        self,
        config: &Config,
        options: Options,
        injected: &[u64],
        engine: &Engine<Cell>,
        complete: bool,
    ) -> Outcome {
        let cells: Vec<&Cell> = engine.processes().collect();
        let kelvin_bits = |cell: &Cell, tile: usize| cell.around.tile_kelvin(tile).0.to_bits();
        let histories = cells.iter().enumerate().flat_map(|(id, cell)| {
            let first = id as u64 * u64::from(config.grid.tiles());
            cell.around
                .histories
                .iter()
                .enumerate()
                .map(move |(tile, &hash)| {
                    let at = engine.now();
                    (
                        first + tile as u64,
                        history::fold(hash, at, 0, kelvin_bits(cell, tile)),
                    )
                })
        });
        let history_hash = history::combine(histories);
        let membership = config
            .membership
            .as_ref()
            .map(|_| member_summary(engine.now(), &cells));
        let locality = config.membership.as_ref().map(|_| locality(&cells));
        let heat = self.heat_summary(config, &cells);
        let budgets = cells[0].around.budgets.as_deref().unwrap_or_default();
        let busy = cells[0].scheduler().busy() / f64::from(config.grid.tiles());
        let step_response = StepResponse::of(config, budgets, busy);
        let summary = Summary {
            universe: config.name.clone(),
            intent: config.intent.clone(),
            kind: Kind::Shells,
            seed: options.seed,
            threads: options.threads as u32,
            tiles: config.fanout.tiles(),
            simulated_seconds: engine.now().as_secs_f64(),
            events: engine.events(),
            history_hash,
            complete,
            invariants: self.invariants(config, &cells, membership.as_ref(), locality.as_ref()),
            membership,
            locality,
            bit_flips: bit_flips(config, &cells),
            trunks: trunks(config, &cells),
            heat: Some(heat),
            leases: leases(&cells),
            operations: operations(config, &self.operating),
            faults: fault_summary(config, injected, &cells),
            decisions: (self.decided.iter())
                .map(|(&(action, reason), &count)| summary::DecisionCount {
                    action: action.name().to_owned(),
                    reason: reason.name().to_owned(),
                    count,
                })
                .collect(),
            ..Summary::default()
        };
        Outcome {
            summary,
            series: self.series,
            step_response,
        }
    }

    fn heat_summary(&self, config: &Config, cells: &[&Cell]) -> summary::Heat {
        let flows: Flows = cells.iter().map(|c| c.around.heat.flows).sum();
        let over = |c: &&Cell| c.around.heat.over_limit_max;
        let per_shell = config.cells_per_shell() as usize;
        let hottest = cells
            .iter()
            .enumerate()
            .map(|(id, c)| over(c) + config.shells[id / per_shell].limit.0);
        summary::Heat {
            max_kelvin: hottest.fold(f64::NAN, f64::max),
            max_kelvin_over_limit: cells.iter().map(over).fold(f64::NAN, f64::max),
            max_load: self.load_max,
            tiles_lost: cells.iter().map(|c| c.around.counts.dark).sum(),
            overshoot: (self.budgets.iter().enumerate())
                .flat_map(|(shell, b)| undisturbed(config, b).map(move |(_, part)| (shell, part)))
                .map(|(shell, part)| overshoot(part, period_max(config, shell)))
                .fold(0.0, f64::max),
            budget_min: self.budget_min,
            energy_error: energy_error(&flows),
            throttled_tile_seconds: cells
                .iter()
                .map(|c| c.around.heat.throttled_tile_seconds)
                .sum(),
            work_tile_seconds: cells.iter().map(|c| c.around.heat.work_done).sum(),
        }
    }

    fn invariants(
        &self,
        config: &Config,
        cells: &[&Cell],
        membership: Option<&summary::Membership>,
        locality: Option<&summary::Locality>,
    ) -> Vec<Invariant> {
        let mut all = Vec::new();
        let mut must = |name: &str, first_violation: Option<Violation>| {
            let held = first_violation.is_none();
            all.push(Invariant {
                name: name.to_owned(),
                held,
                first_violation,
            });
        };
        let per_shell = config.cells_per_shell() as usize;
        let first_over = cells.iter().enumerate().filter_map(|(id, cell)| {
            let (at, tile, kelvin) = cell.around.heat.over_limit_first?;
            Some((at, id, tile, kelvin))
        });
        must("no_thermal_runaway", self.runaway.clone());
        must(
            "no_tile_above_limit",
            first_over
                .min_by_key(|&(at, id, ..)| (at, id))
                .map(|(at, id, tile, kelvin)| {
                    let shell = &config.shells[id / per_shell];
                    Violation {
                        seconds: at.as_secs_f64(),
                        subject: tile_name(config, id, tile),
                        found: kelvin,
                        bound: shell.limit.0,
                        unit: "K".to_owned(),
                        text: format!(
                            "a tile of {} passed its limit and cut its power",
                            shell.name
                        ),
                    }
                }),
        );
        must("energy_conserved", self.energy.clone());
        if config.flips.messages > 0.0 {
            must("no_flipped_message_believed", believed_flip(config, cells));
        }
        if config.thermos.enabled && config.shells.len() > 1 {
            must("loop_damped", self.undamped(config));
        }
        if let (Some(membership), Some(locality)) = (membership, locality) {
            let false_removal = cells.iter().enumerate().filter_map(|(id, cell)| {
                let (at, observer, peer) = cell.around.counts.first_false_removal?;
                Some((at, id, observer, peer))
            });
            must(
                "no_false_removal",
                false_removal.min_by_key(|&(at, id, ..)| (at, id)).map(
                    |(at, id, observer, peer)| {
                        let count = membership.false_removals as f64;
                        let who = tile_name(config, id, observer);
                        Violation {
                            seconds: at.as_secs_f64(),
                            subject: tile_name(config, id, peer),
                            found: count,
                            bound: 0.0,
                            unit: "removals".to_owned(),
                            text: format!("it lived and could be reached, and {who} removed it"),
                        }
                    },
                ),
            );
            let bound = config.bounds.detection_p99.as_secs_f64();
            let p99 = membership.detection_seconds.p99;
            let missed = membership.undetected > 0;
            must(
                "detection",
                (missed || p99 >= bound).then(|| Violation {
                    seconds: config.end.as_secs_f64(),
                    subject: "failures".to_owned(),
                    found: p99,
                    bound,
                    unit: "s".to_owned(),
                    text: format!("p99 of detection; {} never detected", membership.undetected),
                }),
            );
            must(
                "locality",
                (locality.cluster < config.bounds.locality).then(|| Violation {
                    seconds: config.end.as_secs_f64(),
                    subject: "clusters".to_owned(),
                    found: locality.cluster,
                    bound: config.bounds.locality,
                    unit: String::new(),
                    text: "share of messages that stayed within their cluster".to_owned(),
                }),
            );
        }
        all
    }

    /// The first shell whose budget or activity swings back and forth without dying down.
    //= requirements H4
    fn undamped(&self, config: &Config) -> Option<Violation> {
        // Work comes at random, so the number of pieces that run is Poisson, and
        // activity wanders by its standard deviation, √(shards / tiles) at most,
        // without any loop. Three of those are chance.
        let tiles = config.fanout.tiles_in(Level::Region) as f64;
        let largest = config
            .work
            .iter()
            .map(|work| work.shards)
            .max()
            .unwrap_or(0);
        let by_chance = SWING_MIN.max(3.0 * (f64::from(largest) / tiles).sqrt());
        let budgets = (self.budgets.iter().enumerate())
            .map(|(i, budget)| (i, budget, SWING_MIN, "heat budget"));
        let busy = (self.busy.iter().enumerate()).map(|(i, busy)| (i, busy, by_chance, "activity"));
        budgets
            .chain(busy)
            .find_map(|(shell, series, swing_min, what)| {
                let period = period_max(config, shell);
                let (at, swing) = undisturbed(config, series).find_map(|(first, part)| {
                    let (at, swing) = sustained_oscillation(part, period, swing_min)?;
                    Some((first + at, swing))
                })?;
                Some(Violation {
                    seconds: (config.sample * (at as u64 + 1)).as_secs_f64(),
                    subject: config.shells[shell].name.clone(),
                    found: swing,
                    bound: swing_min,
                    unit: String::new(),
                    text: format!("its {what} swings back and forth without dying down"),
                })
            })
    }
}

/// A swing of the budget smaller than this is load coming and going.
pub const SWING_MIN: f64 = 0.05;

/// Alternating extrema of a series that differ by more than [`SWING_MIN`].
fn extrema(series: &[f64], swing_min: f64) -> Vec<(usize, f64)> {
    let mut turns: Vec<(usize, f64)> = Vec::new();
    let Some(&first) = series.first() else {
        return turns;
    };
    let (mut low, mut high) = ((0, first), (0, first));
    let mut rising = None;
    for (i, &value) in series.iter().enumerate() {
        if value < low.1 {
            low = (i, value);
        }
        if value > high.1 {
            high = (i, value);
        }
        match rising {
            Some(true) | None if value < high.1 - swing_min => {
                turns.push(high);
                (rising, low) = (Some(false), (i, value));
            }
            Some(false) | None if value > low.1 + swing_min => {
                turns.push(low);
                (rising, high) = (Some(true), (i, value));
            }
            _ => {}
        }
    }
    match rising {
        Some(true) => turns.push(high),
        Some(false) => turns.push(low),
        None => {}
    }
    turns
}

/// The longest a loop of this shell takes to swing once, in samples.
fn period_max(config: &Config, shell: usize) -> usize {
    let outermost = config.shells.len() - 1;
    let dead_time = config.light_time(shell, outermost) * 2
        + config.lag(shell, outermost)
        + config.thermos.period;
    (dead_time.0 * 5).div_ceil(config.sample.0) as usize
}

/// A series cut where faults strike, each part with the number of its first
/// sample: what a fault does is a disturbance, and no swing of the loop's.
fn undisturbed<'s>(
    config: &Config,
    series: &'s [f64],
) -> impl Iterator<Item = (usize, &'s [f64])> + use<'s> {
    let strikes = (config.faults.iter()).map(|fault| (fault.at.0 / config.sample.0) as usize);
    let mut cuts: Vec<usize> = strikes.map(|cut| cut.min(series.len())).collect();
    cuts.extend([0, series.len()]);
    cuts.sort_unstable();
    let parts = cuts.windows(2).map(|w| (w[0], &series[w[0]..w[1]]));
    parts.collect::<Vec<_>>().into_iter()
}

/// Four swings in a row none of which is much smaller than the one before, from
/// where they begin, each as fast as the loop itself could swing; the budget must
/// come down twice, because one dip and its recovery is what a rush of work looks
/// like.
fn sustained_oscillation(series: &[f64], within: usize, swing_min: f64) -> Option<(usize, f64)> {
    let turns = extrema(series, swing_min);
    let lasting = |turns: &[(usize, f64)]| {
        let swings: Vec<f64> = (turns.windows(2))
            .map(|w| (w[0].1 - w[1].1).abs())
            .collect();
        // Two whole periods.
        turns[4].0 - turns[0].0 <= 2 * within && swings.windows(2).all(|w| w[1] >= 0.8 * w[0])
    };
    let found = turns.windows(5).find(|turns| lasting(turns))?;
    Some((found[0].0, (found[3].1 - found[4].1).abs()))
}

/// How far the budget fell below where it came to rest, in units of the fall to there: the most of
/// all its falls. Where it would have come to rest shows in what follows a fall, the way back up
/// and the next fall: a loop's swings shrink or grow by one ratio, so a rise and the fall after it
/// are u(1 + r) and u(1 + r)r, and u below the rest is rise² / (rise + fall). A second fall that
/// goes far deeper than the rise before it is a new step, and takes nothing from the first.
///
/// A loop that swings by itself does so within four to five dead times (at the edge of stability
/// the period is four, Hayes 1950); what comes later is the load's own coming and going.
//= requirements H4
fn overshoot(series: &[f64], within: usize) -> f64 {
    let mut top = f64::NEG_INFINITY;
    let mut most = 0.0_f64;
    for turns in extrema(series, SWING_MIN).windows(4) {
        let [before, low, back, again] = [0, 1, 2, 3].map(|i| turns[i].1);
        top = top.max(before);
        if low < before && turns[3].0 - turns[1].0 <= within {
            let (rise, fall) = (back - low, back - again);
            let below = rise * rise / (rise + fall);
            most = most.max(below / (top.max(back) - low - below));
        }
    }
    most
}

/// A fault in words.
fn describe(config: &Config, fault: &Fault) -> String {
    match &fault.kind {
        FaultKind::Burst { share } => {
            format!("{} of all tiles fail at once", percent(*share))
        }
        FaultKind::Partition { share, lasts } => {
            format!(
                "{} of cells fall apart in halves for {lasts}",
                percent(*share)
            )
        }
        FaultKind::Radiators {
            shell,
            share,
            remaining,
        } => format!(
            "{} of {} keep {} of their radiators",
            percent(*share),
            config.shells[*shell].name,
            percent(*remaining)
        ),
    }
}

fn energy_error(flows: &Flows) -> f64 {
    (flows.imbalance() / (flows.supplied + flows.absorbed)).abs()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u64), |(s, n), v| (s + v, n + 1));
    sum / count as f64
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 1e4).round() / 100.0)
}

fn number(config: &Config, cell: usize, tile: u32) -> wire::Tile {
    wire::Tile(cell as u64 * u64::from(config.grid.tiles()) + u64::from(tile))
}

fn tile_name(config: &Config, cell: usize, tile: u32) -> String {
    config
        .fanout
        .path(number(config, cell, tile))
        .map_or_else(String::new, |path| format!("tile {path}"))
}

fn map(config: &Config) -> Map {
    let cells = config.cells();
    if cells == 1 {
        let grid: Hexagons = config.grid;
        let tiles = (0..grid.tiles()).map(|tile| Holon {
            name: String::new(),
            group: 0,
            x: (tile % grid.columns()) as f32,
            y: (tile / grid.columns()) as f32,
        });
        return Map::new(Layout::Hexagons, tiles.collect());
    }
    let per_shell = config.cells_per_shell();
    let holons = (0..cells).map(|cell| Holon {
        name: String::new(),
        group: cell / per_shell,
        x: (cell % per_shell) as f32 / per_shell as f32,
        y: 0.0,
    });
    Map::new(Layout::Rings, holons.collect())
}

fn frame(config: &Config, seconds: f64, engine: &Engine<Cell>) -> Frame {
    let tiles = config.grid.tiles() as usize;
    let (kelvin, dark) = if config.cells() == 1 {
        let cell = engine.processes().next().expect("there is one cell");
        let up = |tile: usize| cell.around.fates[tile] == Fate::Up;
        let kelvin = |t| {
            if up(t) {
                cell.around.tile_kelvin(t).0 as f32
            } else {
                f32::NAN
            }
        };
        let dark = |tile| if up(tile) { 0.0 } else { 1.0 };
        (
            (0..tiles).map(kelvin).collect(),
            (0..tiles).map(dark).collect(),
        )
    } else {
        let looks = engine.processes().map(|cell| {
            let (_, max, up) = cell.around.kelvins();
            (max as f32, 1.0 - up as f32 / tiles as f32)
        });
        looks.unzip()
    };
    Frame {
        seconds,
        kelvin,
        dark,
    }
}

fn sample(config: &Config, shell: usize, cells: &[&mut Cell]) -> Sample {
    let tiles = cells.len() as f64 * f64::from(config.grid.tiles());
    let (mut sum, mut max, mut up, mut clocks) = (0.0, f64::NAN, 0_u64, 0.0);
    for cell in cells {
        let (cell_sum, cell_max, cell_up) = cell.around.kelvins();
        sum += cell_sum;
        max = max.max(cell_max);
        up += u64::from(cell_up);
        let heat = &cell.around.heat;
        clocks += (heat.clock.iter().zip(&heat.tiles.powered))
            .map(|(&clock, &powered)| f64::from(clock) * powered)
            .sum::<f64>();
    }
    // Nobody lies outside the outermost shell to slow down for.
    let slowable = config.thermos.enabled && shell + 1 < config.shells.len();
    let budgets = cells.iter().filter(|_| slowable);
    let budgets = budgets.map(|c| c.scheduler().budget());
    Sample {
        kelvin_mean: (sum / up as f64) as f32,
        kelvin_max: max as f32,
        load: mean(cells.iter().map(|c| c.around.load)) as f32,
        clock: (clocks / up as f64) as f32,
        budget: mean(budgets.clone()) as f32,
        budget_min: budgets.fold(f64::NAN, f64::min) as f32,
        utilisation: (cells.iter().map(|c| c.scheduler().busy()).sum::<f64>() / tiles) as f32,
        dark: (tiles - up as f64) as f32,
        waiting: cells
            .iter()
            .map(|c| c.scheduler().waiting() as f64)
            .sum::<f64>() as f32,
        ..Sample::UNKNOWN
    }
}

fn member_summary(end: Instant, cells: &[&Cell]) -> summary::Membership {
    let mut detection = Sketch::new();
    let mut totals = summary::Membership::default();
    let mut footprint = 0_u64;
    let mut members = 0_u64;
    for cell in cells {
        let mut around = cell.nodes().iter().filter_map(|n| n.member());
        let Some(agreed) = around.next().map(Member::config) else {
            continue;
        };
        let counts = &cell.around.counts;
        detection.merge(&counts.detection);
        totals.false_suspicions += counts.false_suspicions;
        totals.false_removals += counts.false_removals;
        totals.messages += counts.messages;
        // Failures younger than that had no time to be detected.
        let old_enough = |died: Instant| end.since(died) >= agreed.detection_span();
        let dead: Vec<bool> = (cell.around.fates.iter())
            .map(|fate| match fate {
                Fate::Up => false,
                Fate::Dark(at) | Fate::Failed(at) => old_enough(*at),
            })
            .collect();
        let expected = dead.iter().filter(|&&d| d).count() as u64;
        totals.failures += expected;
        for member in cell.nodes().iter().filter_map(|n| n.member()) {
            let gone = member.exceptions().filter(|(peer, state, _)| {
                dead[usize::from(peer.0)] && matches!(state, State::Removed | State::Left)
            });
            totals.undetected += expected - gone.count() as u64;
        }
        for node in cell.nodes() {
            footprint += node.footprint() as u64;
            members += u64::from(node.member().is_some());
        }
    }
    totals.detection_seconds = Quantiles::of(&detection, 1e-9);
    totals.bytes_per_tile = footprint as f64 / members as f64;
    totals
}

/// Where messages of the cells that run every protocol went.
//= requirements U2
fn locality(cells: &[&Cell]) -> summary::Locality {
    let mut by_level = [0_u64; 5];
    for cell in cells
        .iter()
        .filter(|c| c.nodes().iter().any(|n| n.member().is_some()))
    {
        by_level[Level::Cell as usize] += cell.around.counts.messages;
        for (level, count) in cell.around.counts.letters.iter().enumerate() {
            by_level[level] += count;
        }
    }
    let total: u64 = by_level.iter().sum();
    let within =
        |level: Level| by_level[..=level as usize].iter().sum::<u64>() as f64 / total as f64;
    summary::Locality {
        cell: within(Level::Cell),
        cluster: within(Level::Cluster),
        region: within(Level::Region),
        system: within(Level::System),
    }
}

/// What crossed between shells, by class.
//= requirements H7
fn trunks(config: &Config, cells: &[&Cell]) -> Vec<summary::Trunk> {
    if config.trunks.is_none() {
        return Vec::new();
    }
    let class = |class: Class| {
        let counts = || {
            cells
                .iter()
                .map(|c| &c.around.counts.trunks[class as usize])
        };
        summary::Trunk {
            class: ['A', 'B', 'C', 'D'][class as usize],
            sent: counts().map(|c| c.sent).sum(),
            refused: counts().map(|c| c.refused).sum(),
            waited_max_seconds: counts()
                .map(|c| c.waited_max)
                .max()
                .unwrap_or_default()
                .as_secs_f64(),
        }
    };
    Class::ALL.map(class).into()
}

/// How leases that are over fared, by what they had promised.
//= requirements S2
fn leases(cells: &[&Cell]) -> Vec<summary::Leases> {
    let of = |level: ServiceLevel| {
        let served = || cells.iter().map(|c| c.scheduler().served(level));
        summary::Leases {
            level: level.name().to_owned(),
            ended: served().map(|s| s.ended).sum(),
            breached: served().map(|s| s.breached).sum(),
        }
    };
    ServiceLevel::ALL.map(of).into()
}

/// What an operation cost in each shell that did any, beside what it must at the least.
//= requirements H8
fn operations(config: &Config, operating: &[Operating]) -> Vec<summary::Operations> {
    let shells = config.shells.iter().zip(operating);
    let did = shells.filter(|(shell, sum)| sum.speed > 0.0 && shell.model.dynamic.0 > 0.0);
    did.map(|(shell, sum)| {
        let Operation { energy, .. } = shell.model.operation;
        let kelvin = Kelvin(sum.speed_kelvin / sum.speed);
        let joules = energy * (sum.watts / (sum.speed * shell.model.dynamic.0));
        let least = shell.model.operation.least(kelvin);
        summary::Operations {
            shell: shell.name.clone(),
            kelvin: kelvin.0,
            joules: joules.0,
            least_joules: least.0,
            times_least: if least.0 > 0.0 {
                joules / least
            } else {
                f64::NAN
            },
        }
    })
    .collect()
}

/// What became of bits that flipped, if any were to.
//= requirements M4
fn bit_flips(config: &Config, cells: &[&Cell]) -> Option<summary::BitFlips> {
    let Flips {
        messages,
        corrected_per_second,
        uncorrectable_per_second,
    } = config.flips;
    if messages + corrected_per_second + uncorrectable_per_second == 0.0 {
        return None;
    }
    let sum = |of: fn(&FlipCounts) -> u64| cells.iter().map(|c| of(&c.around.counts.flips)).sum();
    let guards = cells.iter().flat_map(|c| c.nodes()).map(Node::guard);
    Some(summary::BitFlips {
        in_messages: sum(|flips| flips.sent),
        arrived: sum(|flips| flips.arrived),
        undecodable: sum(|flips| flips.garbled),
        untrue: sum(|flips| flips.untrue),
        believed: sum(|flips| flips.believed),
        corrected: sum(|flips| flips.memory[0].0),
        corrected_met: sum(|flips| flips.memory[0].1),
        corrected_max: guards.map(Guard::corrected).max().unwrap_or(0).into(),
        uncorrectable: sum(|flips| flips.memory[1].0),
        uncorrectable_met: sum(|flips| flips.memory[1].1),
    })
}

/// The first message of which a bit flipped and that a member took for good.
fn believed_flip(config: &Config, cells: &[&Cell]) -> Option<Violation> {
    let believed = cells.iter().enumerate().filter_map(|(id, cell)| {
        let (at, tile) = cell.around.counts.flips.first_believed?;
        Some((at, id, tile))
    });
    let all: u64 = (cells.iter()).map(|c| c.around.counts.flips.believed).sum();
    let (at, id, tile) = believed.min()?;
    Some(Violation {
        seconds: at.as_secs_f64(),
        subject: tile_name(config, id, tile),
        found: all as f64,
        bound: 0.0,
        unit: "messages".to_owned(),
        text: "it took a message for good in which a bit had flipped".to_owned(),
    })
}

fn fault_summary(config: &Config, injected: &[u64], cells: &[&Cell]) -> Vec<summary::Fault> {
    let kinds = faults::kinds(config)
        .into_iter()
        .enumerate()
        .map(|(kind, name)| summary::Fault {
            kind: name.to_owned(),
            injected: injected[kind],
            fired: cells.iter().map(|c| c.around.counts.fired[kind]).sum(),
        });
    let counted = |kind: &str, fired: u64| summary::Fault {
        kind: kind.to_owned(),
        injected: fired,
        fired,
    };
    let lost_on_links: u64 = cells.iter().map(|c| c.around.counts.lost_on_links).sum();
    let lost_in_flight = cells.iter().map(|c| c.around.counts.lost_in_flight).sum();
    // A loss that nobody asked for would be told, too.
    let loses = config.links.loss > 0.0 || lost_on_links > 0;
    let flips = bit_flips(config, cells).unwrap_or_default();
    let asked = config.flips;
    let flipped = [
        (
            "bit flips in messages",
            asked.messages,
            flips.in_messages,
            flips.arrived,
        ),
        (
            "bit flips corrected",
            asked.corrected_per_second,
            flips.corrected,
            flips.corrected_met,
        ),
        (
            "bit flips beyond correction",
            asked.uncorrectable_per_second,
            flips.uncorrectable,
            flips.uncorrectable_met,
        ),
    ];
    let flipped = flipped.into_iter().filter(|&(_, chance, ..)| chance > 0.0);
    let flipped = flipped.map(|(kind, _, injected, fired)| summary::Fault {
        kind: kind.to_owned(),
        injected,
        fired,
    });
    kinds
        .chain(flipped)
        .chain(loses.then(|| counted("message loss", lost_on_links)))
        .chain([counted("messages in flight", lost_in_flight)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damped(periods: f64, decay: f64) -> Vec<f64> {
        let wave = |i: i32| {
            let t = f64::from(i) / 20.0;
            0.5 + 0.4 * (-decay * t).exp() * (core::f64::consts::TAU * t).cos()
        };
        (0..(periods * 20.0) as i32).map(wave).collect()
    }

    #[test]
    fn an_oscillation_that_lasts_is_told_from_one_that_dies_down() {
        assert!(sustained_oscillation(&damped(5.0, 0.0), 20, SWING_MIN).is_some());
        assert!(sustained_oscillation(&damped(5.0, -0.1), 20, SWING_MIN).is_some());
        assert_eq!(
            sustained_oscillation(&damped(5.0, 0.8), 20, SWING_MIN),
            None
        );
    }

    #[test]
    fn a_dip_and_its_recovery_is_no_oscillation() {
        let dip: Vec<f64> = (0..100)
            .map(|i| if (30..60).contains(&i) { 0.4 } else { 1.0 })
            .collect();
        assert_eq!(sustained_oscillation(&dip, 20, SWING_MIN), None);
        assert_eq!(overshoot(&dip, 100), 0.0);
    }

    #[test]
    fn overshoot_is_what_the_first_fall_went_past_its_rest_and_a_deeper_fall_is_none() {
        // From 0.9 to 0.5, and past it by what half a period leaves of as much.
        for decay in [0.5, 0.8, 1.5] {
            let past: f64 = (-decay / 2.0_f64).exp();
            let found = overshoot(&damped(5.0, decay), 20);
            assert!((found - past).abs() < 0.02, "{decay}: {found}, not {past}");
        }
        let growing = overshoot(&damped(5.0, -0.1), 20);
        assert!(growing > 0.9, "{growing}");
        // As a shell of `matroska` answers the loss of radiators: cut at once, let go a little,
        // and then, while more is asked of it, taken down to where it stays.
        let level = |at: f64| match at {
            ..10.0 => 1.0,
            10.0..20.0 => 1.0 - 0.043 * (at - 10.0),
            20.0..30.0 => 0.57 + 0.007 * (at - 20.0),
            30.0..40.0 => 0.64 - 0.017 * (at - 30.0),
            _ => 0.47,
        };
        let taken_down: Vec<f64> = (0..80).map(|i| level(f64::from(i))).collect();
        let found = overshoot(&taken_down, 100);
        assert!(found < 0.06, "{found}");
    }
}
