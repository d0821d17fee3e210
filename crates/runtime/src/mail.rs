//! Where do messages wait?
//!
//! In one pool for the whole lattice. A process holds the index of its last
//! message and the last points to the first, so a mailbox that is empty costs
//! four bytes and sending allocates nothing once the pool has grown.

use alloc::vec::Vec;

use wire::Instant;

/// No message.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Node<M> {
    next: u32,
    due: Instant,
    message: M,
}

#[derive(Clone, Debug)]
pub(crate) struct Mail<M> {
    nodes: Vec<Node<M>>,
    free: u32,
    waiting: u32,
}

impl<M: Clone + Default> Mail<M> {
    pub(crate) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            free: NONE,
            waiting: 0,
        }
    }

    /// Messages in all mailboxes.
    pub(crate) const fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Puts a message behind the others of a mailbox.
    #[inline]
    pub(crate) fn push(&mut self, last: &mut u32, message: M, due: Instant) {
        let at = self.free;
        let at = if at == NONE {
            self.nodes.push(Node {
                next: NONE,
                due,
                message,
            });
            self.nodes.len() as u32 - 1
        } else {
            let node = &mut self.nodes[at as usize];
            self.free = node.next;
            node.message = message;
            node.due = due;
            at
        };
        if *last == NONE {
            self.nodes[at as usize].next = at;
        } else {
            let before = &mut self.nodes[*last as usize].next;
            let first = *before;
            *before = at;
            self.nodes[at as usize].next = first;
        }
        *last = at;
        self.waiting += 1;
    }

    /// Takes the first message of a mailbox.
    #[inline]
    pub(crate) fn pop(&mut self, last: &mut u32) -> Option<(M, Instant)> {
        if *last == NONE {
            return None;
        }
        let at = self.nodes[*last as usize].next;
        let node = &mut self.nodes[at as usize];
        let (next, due) = (node.next, node.due);
        let message = core::mem::take(&mut node.message);
        node.next = self.free;
        self.free = at;
        self.waiting -= 1;
        if at == *last {
            *last = NONE;
        } else {
            self.nodes[*last as usize].next = next;
        }
        Some((message, due))
    }

    /// The messages of a mailbox, first to last.
    pub(crate) fn iter(&self, last: u32) -> impl Iterator<Item = (&M, Instant)> {
        let mut at = last;
        let mut left = last != NONE;
        core::iter::from_fn(move || {
            if !left {
                return None;
            }
            at = self.nodes[at as usize].next;
            left = at != last;
            let node = &self.nodes[at as usize];
            Some((&node.message, node.due))
        })
    }

    /// For tests of what a damaged memory does.
    pub(crate) fn first_mut(&mut self, last: u32) -> Option<&mut M> {
        let first = self.nodes.get(last as usize)?.next;
        Some(&mut self.nodes[first as usize].message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;
    use proptest::prelude::*;

    proptest! {
        /// Three mailboxes in one pool do as three queues would.
        #[test]
        fn mailboxes_in_one_pool_are_queues(acts in prop::collection::vec((0_usize..3, any::<bool>()), 0..200)) {
            let mut mail = Mail::new();
            let mut lasts = [NONE; 3];
            let mut queues = [const { VecDeque::new() }; 3];
            for (number, (of, push)) in (0_u32..).zip(acts) {
                if push {
                    mail.push(&mut lasts[of], number, Instant(number.into()));
                    queues[of].push_back(number);
                } else {
                    let taken = mail.pop(&mut lasts[of]).map(|(message, _)| message);
                    prop_assert_eq!(taken, queues[of].pop_front());
                }
                for (last, queue) in lasts.iter().zip(&queues) {
                    prop_assert!(mail.iter(*last).map(|(m, _)| m).eq(queue));
                }
                let all: usize = queues.iter().map(VecDeque::len).sum();
                prop_assert_eq!(mail.waiting() as usize, all);
            }
        }
    }
}
