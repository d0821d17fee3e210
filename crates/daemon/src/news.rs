//! What happened to programs lately, for whoever watches.
//!
//! The deciding thread tells; any number of watchers read at their own pace, each from the number it
//! has seen last. Only the last [`KEPT`] are kept: who was away longer sees by the numbers how
//! many it missed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;

use crate::supervision::Phase;

/// So many are kept.
pub const KEPT: usize = 1024;

/// Something that happened to a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Item {
    /// Counted from 1 since the node started.
    pub number: u64,
    /// When, in milliseconds since 1970 by the host's clock.
    pub unix_ms: u64,
    /// To which program.
    pub name: String,
    /// How it is since; none once it is forgotten.
    #[serde(flatten)]
    pub phase: Option<Phase>,
}

/// What is kept, and the number of the latest.
#[derive(Debug)]
pub struct News {
    items: Mutex<VecDeque<Item>>,
    latest: watch::Sender<u64>,
}

impl Default for News {
    fn default() -> Self {
        Self {
            items: Mutex::default(),
            latest: watch::Sender::new(0),
        }
    }
}

impl News {
    fn items(&self) -> MutexGuard<'_, VecDeque<Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a program is as `phase` says, or is forgotten.
    pub fn tell(&self, name: &str, phase: Option<Phase>) {
        self.tell_at(unix_ms(), name, phase);
    }

    /// The same by another clock.
    pub fn tell_at(&self, unix_ms: u64, name: &str, phase: Option<Phase>) {
        let number = *self.latest.borrow() + 1;
        let name = name.to_owned();
        let mut items = self.items();
        if items.len() == KEPT {
            items.pop_front();
        }
        items.push_back(Item {
            number,
            unix_ms,
            name,
            phase,
        });
        drop(items);
        self.latest.send_replace(number);
    }

    /// What came after this number, oldest first.
    #[must_use]
    pub fn after(&self, number: u64) -> Vec<Item> {
        let items = self.items();
        let after = items.iter().filter(|item| item.number > number);
        after.cloned().collect()
    }

    /// The number of the latest, now and whenever it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }
}

/// Milliseconds since 1970 by the host's clock.
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "people read their own clocks beside it"
)]
#[must_use]
pub fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_are_kept_and_their_numbers_tell_what_is_missing() {
        let news = News::default();
        let watching = news.watch();
        for _ in 0..KEPT + 3 {
            news.tell("a", Some(Phase::Running));
        }
        news.tell("a", None);
        assert_eq!(*watching.borrow(), KEPT as u64 + 4);
        let kept = news.after(0);
        assert_eq!((kept.len(), kept[0].number), (KEPT, 5));
        assert_eq!(news.after(KEPT as u64 + 3), kept[KEPT - 1..]);
        assert_eq!(kept[KEPT - 1].phase, None);
    }
}
