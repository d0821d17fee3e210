//! Keeping each GPU below its limit.
//!
//! A GPU slows itself in the end, abruptly and by its own rules. Before that, between the temperature from which it should not
//! work at full speed and the one at which its hardware slows it, its guard (the one of every tile of the twin) lowers what it may
//! draw. Where the driver lets nobody set that, GPUs are only read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use machine::Machine as _;
use scheduler::guard::{Effect, Guard, Input, Limits};
use telemetry::{Action, Reason};
use wire::{Instant, Kelvin};

use crate::before::{Before, Settings};
use crate::nvml::{BEFORE, Library, Read};

/// So far below the temperature at which its hardware slows it a GPU is lowered whose maker does not say from where on, in kelvin: about the
/// distance between both on boards that tell (H100: 87 and 95 °C).
const BAND: f64 = 8.0;

/// The GPUs of a machine, and what they may draw. All limits are as they were when this is dropped.
#[derive(Debug)]
pub struct Guards {
    library: Library,
    guards: BTreeMap<String, Guard>,
    before: Before,
    /// What limits were before, once one was set.
    found: Option<Settings>,
    /// Why limits cannot be set, if they cannot.
    refused: Option<String>,
}

/// What a guard decided, and what of: by which temperature, against which, both in degrees Celsius.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// What.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The temperature.
    pub found: f64,
    /// The one it was held against.
    pub bound: f64,
    /// The same in a sentence.
    pub said: String,
}

impl Guards {
    /// Those whom this library shows; what a node of this directory left behind when it was killed is set back.
    #[must_use]
    pub fn of(library: Library, data: &Path) -> Self {
        let before = Before::at(data.join(BEFORE));
        let mut refused = None;
        if let Some(settings) = before.written() {
            match set_back(&library, &settings) {
                Ok(()) => before.forget(),
                Err(error) => refused = Some(format!("setting them back: {error}")),
            }
        }
        if refused.is_none() {
            // Whether it is permitted is known when it has been done: with the limit that is set nothing changes.
            let all = library.read();
            let tried = all.iter().filter_map(|gpu| {
                library.bounds(&gpu.uuid)?;
                Some(library.set_limit(&gpu.uuid, milliwatts(gpu.limit_watts?)))
            });
            let tried: Vec<_> = tried.collect();
            refused = match tried.iter().find_map(|tried| tried.as_ref().err()) {
                Some(error) => Some(format!("not ours to set: {error}")),
                None if tried.is_empty() => Some("no GPU has one to set".to_owned()),
                None => None,
            };
        }
        Self {
            library,
            guards: BTreeMap::new(),
            before,
            found: None,
            refused,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn number(&self) -> usize {
        self.library.number()
    }

    /// Why limits cannot be set, if they cannot.
    #[must_use]
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Reads all, and sets what has to be. Tells what was read and decided.
    pub fn look(&mut self) -> (Vec<Read>, Vec<Decided>) {
        let (mut all, mut decided) = (self.library.read(), Vec::new());
        if self.refused.is_some() {
            return (all, decided);
        }
        for gpu in &mut all {
            let slowdown = gpu.slowdown_celsius;
            let throttle = gpu.throttle_celsius.or(slowdown.map(|at| at - BAND));
            let limit = slowdown.or(throttle.map(|at| at + BAND));
            let (Some(throttle), Some(limit)) = (throttle, limit) else {
                continue;
            };
            let limit = limit.max(throttle + 1.0);
            let guard = self.guards.entry(gpu.uuid.clone()).or_insert_with(|| {
                Guard::new(Arc::new(Limits {
                    throttle_kelvin: Kelvin::from_celsius(throttle).0,
                    limit_kelvin: Kelvin::from_celsius(limit).0,
                    clock_min: 0.05,
                    // What is set is power itself.
                    clock_exponent: 1.0,
                    throttles: true,
                }))
            });
            // Past that its hardware protects it: the guard is to lower it, and not to take it for lost.
            let most = Kelvin::from_celsius(limit).0 - 0.1;
            let found = gpu
                .celsius
                .map_or(f64::NAN, |at| Kelvin::from_celsius(at).0.min(most));
            let mut share = None;
            guard.handle(Instant(0), Input::Sensed(found), &mut |effect| match effect {
                Effect::SetClock(clock) => share = Some(clock),
                Effect::Panic => {}
                Effect::Decided(action, reason, found, bound) => {
                    let [found, bound] = [found, bound].map(|at| Kelvin(at).as_celsius());
                    let said = match action {
                        Action::Release => format!("GPU {} may draw everything again: found {found:.0} °C, lowered from {bound:.0} °C on", gpu.uuid),
                        _ => format!("GPU {} may draw less: found {found:.0} °C, lowered from {bound:.0} °C on", gpu.uuid),
                    };
                    decided.push(Decided { action, reason, found, bound, said });
                }
            });
            let Some(share) = share else { continue };
            match limited(&self.library, &self.before, &mut self.found, gpu, share) {
                Ok(watts) => gpu.limit_watts = watts,
                Err(error) => {
                    eprintln!(
                        "warning: GPU {} may draw as much as before: {error}",
                        gpu.uuid
                    );
                    self.refused = Some(error);
                    break;
                }
            }
        }
        (all, decided)
    }
}

/// Lets a GPU draw this share of what it might before anything was set; tells how much, in watts.
fn limited(
    library: &Library,
    before: &Before,
    kept: &mut Option<Settings>,
    gpu: &Read,
    share: f64,
) -> Result<Option<f64>, String> {
    let Some((least, most)) = library.bounds(&gpu.uuid) else {
        return Ok(gpu.limit_watts);
    };
    if kept.is_none() {
        let all = library.read().into_iter();
        let found = all.filter_map(|gpu| Some((gpu.uuid, milliwatts(gpu.limit_watts?).into())));
        let found: Settings = found.collect();
        before.write(&found).map_err(|error| error.to_string())?;
        *kept = Some(found);
    }
    let was = kept.as_ref().and_then(|kept| kept.get(&gpu.uuid)).copied();
    let was = was.map_or(f64::from(most), |was| was as f64);
    let wanted = milliwatts(was * share / 1e3).clamp(least, most);
    library.set_limit(&gpu.uuid, wanted)?;
    Ok(Some(f64::from(wanted) / 1e3))
}

fn set_back(library: &Library, settings: &Settings) -> Result<(), String> {
    for (uuid, limit) in settings {
        // A GPU may have been taken out meanwhile.
        if library.bounds(uuid).is_some() {
            library.set_limit(uuid, u32::try_from(*limit).unwrap_or(u32::MAX))?;
        }
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "no GPU draws a million watts, or less than none"
)]
fn milliwatts(watts: f64) -> u32 {
    (watts * 1e3) as u32
}

impl Drop for Guards {
    fn drop(&mut self) {
        let Some(found) = self.found.take() else {
            return;
        };
        match set_back(&self.library, &found) {
            Ok(()) => self.before.forget(),
            // It is written down: the next start tries again.
            Err(error) => {
                eprintln!("warning: the power limits of GPUs are not as they were: {error}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvml::tests::library;

    #[test]
    fn a_hot_gpu_may_draw_less_until_it_is_cool_and_a_killed_node_sets_it_back() {
        let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let Some(path) = library(folder.path()) else {
            return;
        };
        let open = || Guards::of(Library::open(&path).unwrap(), data.path());
        assert_eq!(
            open().refused(),
            Some("not ours to set: Insufficient Permissions")
        );
        std::fs::write(folder.path().join("permitted"), "").unwrap();
        let heat = |celsius: &str| std::fs::write(folder.path().join("celsius"), celsius).unwrap();
        let limit = || {
            let text = std::fs::read_to_string(folder.path().join("limit")).unwrap();
            text.trim().parse::<u32>().unwrap()
        };
        let mut guards = open();
        assert_eq!((guards.refused(), limit()), (None, 700_000));
        heat("91");
        let (read, decided) = guards.look();
        assert!(limit() < 500_000, "{} of 700,000", limit());
        assert_eq!(read[0].limit_watts, Some(f64::from(limit()) / 1e3));
        assert_eq!(decided.len(), 1);
        assert_eq!(
            decided[0].said,
            "GPU GPU-0 may draw less: found 91 °C, lowered from 87 °C on"
        );
        heat("99");
        guards.look();
        assert_eq!(limit(), 200_000, "the least there is");
        heat("50");
        while limit() < 700_000 {
            guards.look();
        }
        heat("92");
        guards.look();
        assert!(limit() < 700_000);
        // As SIGKILL leaves it.
        std::mem::forget(guards);
        let guards = open();
        assert_eq!(limit(), 700_000);
        assert!(!data.path().join(BEFORE).exists());
        drop(guards);
    }
}
