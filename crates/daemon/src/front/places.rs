//! Who has a place, and who gives one up?
//!
//! Connections and streams are bounded. When all places are held and another is wanted, somebody loses theirs: of those who
//! have not shown the key the one who has held it longest, and only if there is none such, the one of all. So whoever fills the places with silence
//! keeps nobody out who has the key, and whoever has it and begins more than may go on loses the oldest of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

/// So many places, and who holds them.
pub(super) struct Places {
    most: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    next: u64,
    /// Those who have shown the key come after those who have not. Who is dropped here has lost their place.
    by: BTreeMap<(bool, u64), oneshot::Sender<()>>,
}

/// A place, until it is dropped or taken away.
pub(super) struct Place {
    pub(super) number: u64,
    places: Arc<Places>,
    kept: oneshot::Receiver<()>,
}

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            held: Mutex::default(),
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, which somebody may have to give up for it.
    pub(super) fn take(self: &Arc<Self>) -> Place {
        let (keeps, kept) = oneshot::channel();
        let mut held = self.held();
        if held.by.len() >= self.most {
            held.by.pop_first();
        }
        let number = held.next;
        held.next += 1;
        held.by.insert((false, number), keeps);
        drop(held);
        Place {
            number,
            places: Arc::clone(self),
            kept,
        }
    }

    /// Whoever holds this place has shown the key.
    pub(super) fn prove(&self, number: u64) {
        let mut held = self.held();
        if let Some(keeps) = held.by.remove(&(false, number)) {
            held.by.insert((true, number), keeps);
        }
    }
}

impl Place {
    /// Returns when somebody else was given it.
    pub(super) async fn lost(&mut self) {
        let _ = (&mut self.kept).await;
    }

    pub(super) fn is_lost(&mut self) -> bool {
        matches!(self.kept.try_recv(), Err(TryRecvError::Closed))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held();
        for proven in [false, true] {
            held.by.remove(&(proven, self.number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_shown_no_key_goes_first_and_the_oldest_of_them() {
        let places = Places::new(3);
        let mut all: Vec<_> = (0..3).map(|_| places.take()).collect();
        places.prove(all[0].number);
        all.push(places.take());
        let lost = |all: &mut Vec<Place>| all.iter_mut().map(Place::is_lost).collect::<Vec<_>>();
        assert_eq!(lost(&mut all), [false, true, false, false]);
        // What was given back is there for the next.
        all.truncate(3);
        all.push(places.take());
        assert_eq!(lost(&mut all), [false, true, false, false]);
        for place in [2, 3] {
            places.prove(all[place].number);
        }
        all.push(places.take());
        assert_eq!(lost(&mut all), [true, true, false, false, false]);
    }
}
