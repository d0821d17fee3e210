//! May this heat be made at all?
//!
//! Whatever a tile dissipates must be taken up by every layer outward of it. So
//! work is let in only while each of them has headroom. What is known of them is
//! old, and all the neighbours know the same old news: if each let in what fits,
//! together they would let in a multiple of it. Admission therefore counts the
//! heat it has itself let in since the news was made, and reckons that everybody
//! did the same, in its own layer and in the others inside. This is a Smith
//! predictor (O. J. M. Smith, *Closer control of loops with dead time*, Chem. Eng.
//! Prog. 53, 1957): what is under way is reckoned with instead of waited for, and
//! it is only as good as its idea of how long the way is. That is why the time
//! tiles take to warm up counts as well as light's.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use wire::{Instant, Nanos};

use crate::thermos::Signal;

/// One layer outward, as admission is told of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outward {
    /// The layer, counted outward from 0.
    pub layer: u8,
    /// Light time to it, one way.
    pub light_time: Nanos,
    /// How long the tiles on the way take to warm up: heat made here is radiated
    /// that much later on average.
    pub lag: Nanos,
    /// How many layers inside it let in work by the same news, this one included.
    pub sharers: u8,
    /// By how much its load rises when every tile of this layer dissipates one
    /// watt more.
    pub load_per_watt: f64,
    /// The load it is taken to have until it is heard from.
    pub assumed: f64,
}

/// Why heat was not let in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refusal {
    /// The layer without headroom.
    pub layer: u8,
    /// The load it would reach.
    pub predicted: f64,
    /// The load it may reach.
    pub bound: f64,
}

/// The heat a cell has let in, and what became known of the layers outward.
#[derive(Clone, Debug)]
pub struct Admission {
    setpoint: f64,
    outward: Vec<Outward>,
    /// Mean heat per tile from admitted work, in watts, each from its instant on.
    /// Bounded by [`HISTORY_MAX`].
    let_in: VecDeque<(Instant, f64)>,
}

/// Changes remembered. Older ones merge into one, which forgets *when* heat was
/// let in, not that it was; the reckoning errs towards having made it recently.
const HISTORY_MAX: usize = 512;

impl Admission {
    /// Nothing let in yet.
    #[must_use]
    pub const fn new(setpoint: f64, outward: Vec<Outward>) -> Self {
        Self {
            setpoint,
            outward,
            let_in: VecDeque::new(),
        }
    }

    /// The mean heat per tile of admitted work, in watts.
    #[must_use]
    pub fn heat(&self) -> f64 {
        self.let_in.back().map_or(0.0, |&(_, watts)| watts)
    }

    /// Work began or ended: the mean heat per tile is now this, in watts.
    pub fn record(&mut self, now: Instant, watts: f64) {
        match self.let_in.back_mut() {
            Some((at, last)) if *at == now => *last = watts,
            _ => self.let_in.push_back((now, watts)),
        }
        if self.let_in.len() > HISTORY_MAX {
            self.let_in.pop_front();
        }
    }

    fn heat_at(&self, at: Instant) -> f64 {
        let later = self.let_in.partition_point(|&(t, _)| t <= at);
        later.checked_sub(1).map_or(0.0, |i| self.let_in[i].1)
    }

    /// Whether every layer outward could take this much more, in watts of mean
    /// heat per tile, if all cells of this layer made it.
    ///
    /// # Errors
    /// The first layer that could not.
    //= requirements H2
    pub fn check(&self, extra: f64, heard: impl Fn(u8) -> Option<Signal>) -> Result<(), Refusal> {
        for outward in &self.outward {
            let (load, seen) = match heard(outward.layer) {
                Some(signal) => {
                    let under_way = outward.light_time + outward.lag;
                    let left = Nanos(signal.measured.0).saturating_sub(under_way);
                    (signal.load, self.heat_at(Instant(left.0)))
                }
                None => (outward.assumed, 0.0),
            };
            let unseen = (self.heat() - seen + extra) * f64::from(outward.sharers);
            let predicted = load + outward.load_per_watt * unseen;
            if predicted > self.setpoint {
                return Err(Refusal {
                    layer: outward.layer,
                    predicted,
                    bound: self.setpoint,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::EPOCH + Nanos::from_secs(s)
    }

    /// A layer 100 s away that is filled by 1,000 W.
    fn admission() -> Admission {
        let outward = Outward {
            layer: 1,
            light_time: Nanos::from_secs(100),
            lag: Nanos::ZERO,
            sharers: 1,
            load_per_watt: 0.001,
            assumed: 0.5,
        };
        Admission::new(0.9, alloc::vec![outward])
    }

    //= requirements H2
    #[test]
    fn heat_is_refused_when_a_layer_outward_has_no_room_for_it() {
        let admission = admission();
        let news = |load| {
            move |_| {
                Some(Signal {
                    layer: 1,
                    load,
                    measured: at(500),
                })
            }
        };
        assert_eq!(admission.check(100.0, news(0.7)), Ok(()));
        let refused = admission.check(100.0, news(0.85)).unwrap_err();
        assert_eq!((refused.layer, refused.bound), (1, 0.9));
        assert!((refused.predicted - 0.95).abs() < 1e-12);
    }

    #[test]
    fn heat_let_in_since_the_news_was_made_counts_although_the_news_cannot_show_it() {
        let mut admission = admission();
        admission.record(at(300), 150.0);
        // Measured at 350: what left here before 250 is in it. The 150 W is not.
        let early = |_| {
            Some(Signal {
                layer: 1,
                load: 0.7,
                measured: at(350),
            })
        };
        assert!(admission.check(100.0, early).is_err());
        // Measured at 450: the 150 W is in it.
        let late = |_| {
            Some(Signal {
                layer: 1,
                load: 0.7,
                measured: at(450),
            })
        };
        assert_eq!(admission.check(100.0, late), Ok(()));
    }

    #[test]
    fn heat_still_warming_tiles_on_the_way_and_that_of_other_layers_counts() {
        let mut slow = admission();
        slow.outward[0].lag = Nanos::from_secs(100);
        slow.record(at(300), 150.0);
        // Measured at 450, and 100 s of light: but it takes 100 s more to radiate.
        let news = |_| {
            Some(Signal {
                layer: 1,
                load: 0.7,
                measured: at(450),
            })
        };
        assert!(slow.check(100.0, news).is_err());
        let mut shared = admission();
        assert_eq!(shared.check(150.0, news), Ok(()));
        shared.outward[0].sharers = 2;
        assert!(shared.check(150.0, news).is_err());
    }

    #[test]
    fn an_unheard_layer_is_not_an_empty_one() {
        let mut admission = admission();
        assert_eq!(admission.check(400.0, |_| None), Ok(()));
        admission.record(at(1), 300.0);
        assert!(admission.check(200.0, |_| None).is_err());
    }
}
