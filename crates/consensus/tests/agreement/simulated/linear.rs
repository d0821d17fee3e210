//! Could these operations on one register have happened one after the other, each between its question
//! and its answer? Wing and Gong's search (*Testing and Verifying Concurrent Objects*, 1993), with
//! Lowe's memory of configurations seen.

use std::collections::BTreeSet;

use wire::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Swap(u64),
    Get,
}

/// One operation; `returned` is `None` if nobody heard what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) deed: Deed,
    pub(crate) called: Instant,
    pub(crate) returned: Option<(Instant, u64)>,
}

/// The most operations on one register.
pub(crate) const OPERATIONS_MAX: usize = 128;

pub(crate) fn is_linear(history: &[Operation]) -> bool {
    // What nobody heard the answer to and nobody saw the value of need not have happened. Values
    // are written once, so one that did is followed by whoever saw it.
    let heard: BTreeSet<_> = history.iter().filter_map(|o| Some(o.returned?.1)).collect();
    let matters = |o: &&Operation| match o.deed {
        _ if o.returned.is_some() => true,
        Deed::Swap(value) => heard.contains(&value),
        Deed::Get => false,
    };
    let history: Vec<_> = history.iter().filter(matters).copied().collect();
    assert!(history.len() <= OPERATIONS_MAX, "{}", history.len());
    let must = history.iter().enumerate();
    let must = must.filter(|(_, o)| o.returned.is_some());
    let must = must.fold(0_u128, |mask, (at, _)| mask | 1 << at);
    let mut seen = BTreeSet::new();
    let mut open = vec![(0_u128, 0_u64)];
    while let Some((done, value)) = open.pop() {
        assert!(
            seen.len() < 2_000_000,
            "too much is open at once to be judged"
        );
        if done & must == must {
            return true;
        }
        if !seen.insert((done, value)) {
            continue;
        }
        let left = |at: &usize| done & (1 << at) == 0;
        let ends = (0..history.len()).filter(left);
        let ends = ends.filter_map(|at| Some(history[at].returned?.0));
        let first_end = ends.min().unwrap_or(Instant::END);
        for at in (0..history.len()).filter(left) {
            let Operation {
                deed,
                called,
                returned,
            } = history[at];
            let agrees = returned.is_none_or(|(_, answer)| answer == value);
            if called <= first_end && agrees {
                let after = match deed {
                    Deed::Swap(value) => value,
                    Deed::Get => value,
                };
                open.push((done | 1 << at, after));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(deed: Deed, called: u64, returned: Option<(u64, u64)>) -> Operation {
        Operation {
            deed,
            called: Instant(called),
            returned: returned.map(|(at, answer)| (Instant(at), answer)),
        }
    }

    #[test]
    fn forged_histories_are_found_out() {
        let swap = |v, called, returned| op(Deed::Swap(v), called, returned);
        let get = |called, returned| op(Deed::Get, called, Some(returned));
        let fine = [swap(1, 0, Some((9, 0))), get(2, (3, 1)), get(4, (5, 1))];
        assert!(is_linear(&fine));
        let early = [swap(1, 0, Some((9, 0))), get(2, (3, 0)), get(4, (5, 1))];
        assert!(is_linear(&early));
        let back = [swap(1, 0, Some((9, 0))), get(2, (3, 1)), get(4, (5, 0))];
        assert!(!is_linear(&back), "what was seen is unseen");
        let stale = [swap(1, 0, Some((1, 0))), get(2, (3, 0))];
        assert!(!is_linear(&stale), "a stale read");
        let lost = [swap(1, 0, Some((1, 0))), swap(2, 2, Some((3, 0)))];
        assert!(!is_linear(&lost), "a lost update");
        let twice = [
            swap(1, 0, Some((1, 0))),
            swap(2, 2, Some((3, 1))),
            get(4, (5, 1)),
        ];
        assert!(!is_linear(&twice), "an update applied again");
        let unheard = [swap(1, 0, None), get(2, (3, 0)), get(4, (5, 1))];
        assert!(is_linear(&unheard), "it may come late");
    }
}
