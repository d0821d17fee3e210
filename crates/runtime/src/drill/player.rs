//! What stands on the lattices of a drill, and what it is thrown.

use alloc::vec::Vec;
use core::slice;

use wire::{Decode, DecodeError, Encode, Nanos, Reader};

use crate::lattice::Lattice;
use crate::pid::{Pid, Weight};
use crate::process::{Process, Refused, Turn};

/// Players one turn starts: a turn is short.
const STARTED_AT_ONCE: u32 = 32;

/// A process of a drill. What it is depends on everything it ever passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Player {
    /// Balls it passed.
    pub(super) passed: u64,
    /// Which, and in which order.
    order: u64,
    /// How often there was no room for what it threw.
    refused: u64,
    /// Its neighbour in the ring; of one that founds a family, the latest child.
    next: Option<Pid>,
    /// Of one that grew in a tree: from whom, in which piece of work, how many branches
    /// are still out, and the sum of those that came back.
    parent: Option<Pid>,
    number: u64,
    waits: u32,
    sum: u64,
    /// What it could not throw yet.
    kept: Vec<Kept>,
    /// It goes once nothing is kept.
    leaves: bool,
}

/// A throw for which there was no room.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    /// The world if nobody.
    to: Option<Pid>,
    hurry: Nanos,
    ball: Ball,
}

/// What is said to players, and by them to the world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ball {
    /// Try again what there was no room for.
    #[default]
    Nudge,
    /// Start so many more players, each the neighbour of the one after it.
    Build {
        /// How many.
        left: u32,
    },
    /// To the world: these have been started.
    Names(Vec<Pid>),
    /// This is your neighbour.
    Next(Pid),
    /// Around the ring.
    Roll {
        /// Which piece of work.
        number: u64,
        /// Hops that are left.
        hops: u64,
    },
    /// From one player to another.
    Errand {
        /// Which piece of work.
        number: u64,
        /// Time for each stop; as long as it takes if zero.
        hurry: Nanos,
        /// Stops that are left, the last of them first.
        stops: Vec<Pid>,
    },
    /// Let a tree grow beside you.
    Plant {
        /// Which piece of work.
        number: u64,
        /// Leaves of the tree.
        leaves: u64,
        /// Branches of a branch.
        branches: u64,
    },
    /// Be a branch of a tree.
    Grow {
        /// Which piece of work.
        number: u64,
        /// The number of the first leaf on it.
        first: u64,
        /// Leaves on it.
        leaves: u64,
        /// Branches of a branch.
        branches: u64,
        /// Those that have grown already.
        grown: u64,
        /// Where it grows from; the world if nowhere.
        parent: Option<Pid>,
    },
    /// From a branch: the numbers of its leaves add up to this.
    Sum(u64),
    /// To the world: a piece of work has ended.
    Done {
        /// Which.
        number: u64,
        /// What the leaves of a tree add up to; else 0.
        sum: u64,
    },
}

impl Ball {
    /// What it carries beside names, for each kind.
    const SCALARS: [usize; 10] = [0, 1, 0, 0, 2, 2, 3, 5, 1, 2];

    fn parts(&self) -> (u8, [u64; 5], &[Pid]) {
        match self {
            Self::Nudge => (0, [0; 5], &[]),
            Self::Build { left } => (1, [u64::from(*left), 0, 0, 0, 0], &[]),
            Self::Names(names) => (2, [0; 5], names),
            Self::Next(next) => (3, [0; 5], slice::from_ref(next)),
            Self::Roll { number, hops } => (4, [*number, *hops, 0, 0, 0], &[]),
            Self::Errand {
                number,
                hurry,
                stops,
            } => (5, [*number, hurry.0, 0, 0, 0], stops),
            Self::Plant {
                number,
                leaves,
                branches,
            } => (6, [*number, *leaves, *branches, 0, 0], &[]),
            Self::Grow {
                number,
                first,
                leaves,
                branches,
                grown,
                parent,
            } => (
                7,
                [*number, *first, *leaves, *branches, *grown],
                parent.as_slice(),
            ),
            Self::Sum(sum) => (8, [*sum, 0, 0, 0, 0], &[]),
            Self::Done { number, sum } => (9, [*number, *sum, 0, 0, 0], &[]),
        }
    }
}

fn encode_names(names: &[Pid], out: &mut Vec<u8>) {
    (names.len() as u64).encode(out);
    names.iter().for_each(|name| name.encode(out));
}

fn decode_names(from: &mut Reader<'_>) -> Result<Vec<Pid>, DecodeError> {
    let count = from.count(1)?;
    (0..count).map(|_| Pid::decode(from)).collect()
}

fn decode_name(from: &mut Reader<'_>) -> Result<Option<Pid>, DecodeError> {
    let at = from.position();
    match decode_names(from)?[..] {
        [] => Ok(None),
        [name] => Ok(Some(name)),
        ref names => Err(DecodeError::Invalid {
            at,
            what: "number of names",
            found: names.len() as u64,
        }),
    }
}

impl Encode for Ball {
    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, scalars, names) = self.parts();
        out.push(kind);
        let count = Self::SCALARS[usize::from(kind)];
        scalars[..count]
            .iter()
            .for_each(|scalar| scalar.encode(out));
        encode_names(names, out);
    }
}

impl Decode for Ball {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        let kind = from.byte()?;
        let wrong = |found| DecodeError::Invalid {
            at,
            what: "ball",
            found,
        };
        let count = *(Self::SCALARS.get(usize::from(kind))).ok_or(wrong(kind.into()))?;
        let mut scalars = [0; 5];
        for scalar in &mut scalars[..count] {
            *scalar = u64::decode(from)?;
        }
        let names = decode_names(from)?;
        let [number, first, leaves, branches, grown] = scalars;
        let may_have = match kind {
            2 | 5 => usize::MAX,
            3 | 7 => 1,
            _ => 0,
        };
        if names.len() > may_have {
            return Err(wrong(kind.into()));
        }
        Ok(match (kind, names.first().copied()) {
            (0, _) => Self::Nudge,
            (1, _) => Self::Build {
                left: u32::try_from(number).map_err(|_| wrong(number))?,
            },
            (2, _) => Self::Names(names),
            (3, Some(next)) => Self::Next(next),
            (4, _) => Self::Roll {
                number,
                hops: first,
            },
            (5, _) => Self::Errand {
                number,
                hurry: Nanos(first),
                stops: names,
            },
            (6, _) => Self::Plant {
                number,
                leaves: first,
                branches: leaves,
            },
            (7, parent) => Self::Grow {
                number,
                first,
                leaves,
                branches,
                grown,
                parent,
            },
            (8, _) => Self::Sum(number),
            (9, _) => Self::Done { number, sum: first },
            _ => return Err(wrong(kind.into())),
        })
    }
}

impl Encode for Player {
    fn encode(&self, out: &mut Vec<u8>) {
        for scalar in [
            self.passed,
            self.order,
            self.refused,
            self.number,
            self.waits.into(),
            self.sum,
            self.leaves.into(),
        ] {
            scalar.encode(out);
        }
        encode_names(self.next.as_slice(), out);
        encode_names(self.parent.as_slice(), out);
        (self.kept.len() as u64).encode(out);
        for Kept { to, hurry, ball } in &self.kept {
            encode_names(to.as_slice(), out);
            hurry.0.encode(out);
            ball.encode(out);
        }
    }
}

impl Decode for Player {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (passed, order) = (u64::decode(from)?, u64::decode(from)?);
        let (refused, number) = (u64::decode(from)?, u64::decode(from)?);
        let (waits, sum) = (u32::decode(from)?, u64::decode(from)?);
        let at = from.position();
        let leaves = match u64::decode(from)? {
            0 => false,
            1 => true,
            found => {
                return Err(DecodeError::Invalid {
                    at,
                    what: "truth value",
                    found,
                });
            }
        };
        let (next, parent) = (decode_name(from)?, decode_name(from)?);
        let count = from.count(3)?;
        let mut kept = Vec::new();
        for _ in 0..count {
            kept.push(Kept {
                to: decode_name(from)?,
                hurry: Nanos(u64::decode(from)?),
                ball: Ball::decode(from)?,
            });
        }
        Ok(Self {
            passed,
            order,
            refused,
            next,
            parent,
            number,
            waits,
            sum,
            kept,
            leaves,
        })
    }
}

impl Process for Player {
    type Message = Ball;

    fn handle(&mut self, ball: Ball, turn: &mut Turn<'_, Self>) {
        for Kept { to, hurry, ball } in core::mem::take(&mut self.kept) {
            self.throw(to, hurry, ball, turn);
        }
        match ball {
            // The last two are for the world.
            Ball::Nudge | Ball::Names(_) | Ball::Done { .. } => {}
            Ball::Build { left } => self.build(left, turn),
            Ball::Next(next) => self.next = Some(next),
            Ball::Roll { number, hops } => {
                self.pass(number);
                match (self.next, hops.checked_sub(1)) {
                    (Some(next), Some(hops)) => {
                        let ball = Ball::Roll { number, hops };
                        self.throw(Some(next), Nanos::ZERO, ball, turn);
                    }
                    _ => self.end(number, 0, turn),
                }
            }
            Ball::Errand {
                number,
                hurry,
                mut stops,
            } => {
                self.pass(number);
                match stops.pop() {
                    Some(next) => {
                        let ball = Ball::Errand {
                            number,
                            hurry,
                            stops,
                        };
                        self.throw(Some(next), hurry, ball, turn);
                    }
                    None => self.end(number, 0, turn),
                }
            }
            Ball::Plant {
                number,
                leaves,
                branches,
            } => {
                let tree = Ball::Grow {
                    number,
                    first: 0,
                    leaves,
                    branches,
                    grown: 0,
                    parent: None,
                };
                match turn.spawn(Self::default(), Weight::LEAST) {
                    Ok(root) => self.throw(Some(root), Nanos::ZERO, tree, turn),
                    Err(_) => {
                        let again = Ball::Plant {
                            number,
                            leaves,
                            branches,
                        };
                        self.throw(Some(turn.me()), Nanos::ZERO, again, turn);
                    }
                }
            }
            Ball::Grow {
                leaves: 1,
                first,
                parent,
                number,
                ..
            } => {
                (self.parent, self.number) = (parent, number);
                self.add(first, turn);
            }
            Ball::Grow {
                number,
                first,
                leaves,
                branches,
                grown,
                parent,
            } => {
                (self.parent, self.number) = (parent, number);
                if grown == 0 {
                    self.waits = branches.min(leaves) as u32;
                }
                self.grow([number, first, leaves, branches, grown], parent, turn);
            }
            Ball::Sum(sum) => {
                self.waits = self.waits.saturating_sub(1);
                self.add(sum, turn);
            }
        }
        if self.leaves && self.kept.is_empty() {
            turn.exit();
        }
    }
}

impl Player {
    fn pass(&mut self, number: u64) {
        self.passed += 1;
        self.order = self.order.wrapping_mul(31).wrapping_add(number);
    }

    /// What there is no room for is kept, and tried again with whatever comes next.
    fn throw(&mut self, to: Option<Pid>, hurry: Nanos, ball: Ball, turn: &mut Turn<'_, Self>) {
        let copy = ball.clone();
        let thrown = match to {
            None => turn.tell(ball),
            Some(to) if hurry > Nanos::ZERO => turn.send_due(to, ball, turn.now() + hurry),
            Some(to) => turn.send(to, ball),
        };
        if thrown == Err(Refused::Full) {
            self.refused += 1;
            self.kept.push(Kept {
                to,
                hurry,
                ball: copy,
            });
            // There is room for it, as this process has just taken one out, unless it is a guest.
            let _ = turn.send(turn.me(), Ball::Nudge);
        }
    }

    fn end(&mut self, number: u64, sum: u64, turn: &mut Turn<'_, Self>) {
        self.throw(None, Nanos::ZERO, Ball::Done { number, sum }, turn);
    }

    fn build(&mut self, left: u32, turn: &mut Turn<'_, Self>) {
        let me = turn.me();
        let mut names = Vec::new();
        for nth in 0..left.min(STARTED_AT_ONCE) {
            let child = Self {
                next: self.next.or(Some(me)),
                ..Self::default()
            };
            let Ok(name) = turn.spawn(child, Weight::new((nth % 4) as u8)) else {
                break;
            };
            self.next = Some(name);
            names.push(name);
        }
        let left = left - names.len() as u32;
        self.throw(None, Nanos::ZERO, Ball::Names(names), turn);
        if left > 0 {
            self.throw(Some(me), Nanos::ZERO, Ball::Build { left }, turn);
        }
    }

    /// The next branches; the leaves are shared out among all of them.
    fn grow(&mut self, tree: [u64; 5], parent: Option<Pid>, turn: &mut Turn<'_, Self>) {
        let [number, first, leaves, branches, grown] = tree;
        let (me, many) = (turn.me(), branches.min(leaves));
        let share = |nth: u64| leaves * nth / many;
        for nth in grown..many {
            let Ok(child) = turn.spawn(Self::default(), Weight::LEAST) else {
                let again = Ball::Grow {
                    number,
                    first,
                    leaves,
                    branches,
                    grown: nth,
                    parent,
                };
                return self.throw(Some(me), Nanos::ZERO, again, turn);
            };
            let branch = Ball::Grow {
                number,
                first: first + share(nth),
                leaves: share(nth + 1) - share(nth),
                branches,
                grown: 0,
                parent: Some(me),
            };
            self.throw(Some(child), Nanos::ZERO, branch, turn);
        }
    }

    fn add(&mut self, sum: u64, turn: &mut Turn<'_, Self>) {
        self.sum += sum;
        if self.waits > 0 {
            return;
        }
        match self.parent {
            Some(parent) => self.throw(Some(parent), Nanos::ZERO, Ball::Sum(self.sum), turn),
            None => self.end(self.number, self.sum, turn),
        }
        self.leaves = true;
    }

    /// Changes what it is as a stray write would, for tests of what then happens.
    pub const fn scribble(&mut self) {
        self.passed ^= 1 << 40;
    }
}

impl Lattice<Player> {
    /// Balls passed by the players that are here.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.iter().map(|(_, player)| player.passed).sum()
    }
}
