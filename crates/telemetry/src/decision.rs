//! What was decided, and why.
//!
//! Each decision names what was done ([`Action`]), why ([`Reason`]), to whom, and
//! the two numbers that settled it: what was measured and what it was held
//! against. The names are what history and reports show.

use wire::{Instant, Tile};

macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// Every word of the vocabulary.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word for it in history and reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

vocabulary!(
    /// What was done.
    //= requirements S7
    Action {
        /// Work was given a lease.
        Place = "place",
        /// Work was turned away; nothing changed.
        Refuse = "refuse",
        /// Work could not start yet and waits.
        Queue = "queue",
        /// Work moved to another place.
        Migrate = "migrate",
        /// A clock was lowered.
        Throttle = "throttle",
        /// A clock was raised again.
        Release = "release",
        /// A machine cut its own power.
        Darken = "darken",
        /// An idle machine was switched off for a while to spare its heat.
        Park = "park",
        /// A parked machine was switched on again.
        Unpark = "unpark",
        /// A lease ended at its term.
        Expire = "expire",
        /// A lease ended that gave less than it had promised.
        Breach = "breach",
        /// Work was lost because nowhere could take it.
        Lose = "lose",
        /// Work was stopped to make room for other work, and waits again.
        Preempt = "preempt",
        /// A program was started.
        Start = "start",
        /// A program that ended is started again after a pause.
        Restart = "restart",
        /// A program was asked to end.
        Stop = "stop",
        /// A program ended and stays so.
        End = "end",
    }
);

vocabulary!(
    /// Why it was done.
    //= requirements S7
    Reason {
        /// The best score among the candidates.
        BestScore = "best score",
        /// No machine has the free capacity asked for.
        NoCapacity = "no free capacity",
        /// Work that came earlier waits too, and is not overtaken.
        NotItsTurn = "earlier work waits",
        /// A layer outward has no headroom for the heat.
        NoHeadroomOutward = "no heat headroom outward",
        /// The place itself has no headroom for the heat.
        NoHeadroomHere = "no heat headroom here",
        /// A signal from outward asked for less heat.
        Backpressure = "backpressure from outward",
        /// A signal from outward gave heat back.
        PressureEased = "outward pressure eased",
        /// The machine's own temperature came near its limit.
        NearLimit = "near its own limit",
        /// A sensor has given no sensible reading for too long.
        SensorLost = "its sensor says nothing sensible",
        /// More of its memory flipped than its code corrects.
        MemoryCorrupt = "an error in its memory beyond correction",
        /// The machine's own temperature fell well below its limit.
        Cooled = "cooled down",
        /// The machine passed the limit it must not pass.
        OverLimit = "over its limit",
        /// The machine it ran on went dark or failed.
        HostLost = "its host was lost",
        /// A hard failure of the machine.
        Failure = "hard failure",
        /// The lease was slower than its service level, or over before its end.
        ServiceLevel = "less than its service level",
        /// The lease ran to its end.
        Term = "end of lease",
        /// No machine of the fleet could ever hold it.
        Impossible = "no machine could ever hold it",
        /// Enough is free in sum, but not on any one machine.
        Fragmented = "free capacity is fragmented",
        /// Enough machines have room, but not close enough together.
        Topology = "no rack or row holds the whole gang",
        /// Only machines of other models have room.
        Model = "no free machine of the models asked for",
        /// Its tenant has what it may have.
        Quota = "its tenant's quota",
        /// Another tenant has less than its share and is served first.
        FairShare = "another tenant's turn",
        /// Work of higher priority.
        Priority = "higher priority",
        /// What it would take is kept for work that is due before.
        Reserved = "reserved for earlier work",
        /// Its owner took back what was lent.
        Lent = "lent capacity was taken back",
        /// The request contradicts itself or names what there is not.
        Malformed = "the request makes no sense",
        /// Somebody wished it.
        Asked = "it was asked for",
        /// The node started, and this ran when it ended.
        Resumed = "it ran when the node ended",
        /// It ended by itself, and said that all went well.
        Finished = "it has done its work",
        /// It ended by itself otherwise, or was ended by a signal.
        Failed = "it failed",
        /// It did not answer when it was asked whether it is well.
        Unwell = "it failed its health check",
        /// It used up its memory.
        MemoryUsed = "its memory was used up",
        /// Its pause after a failure is over.
        Rested = "its pause is over",
        /// As many of its group run as may at a time.
        GroupFull = "as many of its group run as may at a time",
        /// One of its group made room.
        Turn = "its turn has come",
        /// One of its group failed, and all of it is started again.
        GroupFell = "its group falls and rises together",
        /// Starting again did not help.
        TooOften = "it was started again too often",
        /// It had not ended by its deadline.
        Late = "its deadline passed",
        /// The node ends.
        Draining = "the node ends",
        /// Nothing runs on the machine any more.
        Idle = "nothing runs there",
    }
);

/// One recorded decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// When, in the universe's coordinate time.
    pub at: Instant,
    /// What was done.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// Who decided or whom it befell.
    pub subject: Tile,
    /// The piece of work concerned; `u64::MAX` if none.
    pub work: u64,
    /// What was measured: a temperature in kelvin, a load as a fraction, a score.
    pub found: f64,
    /// What it was held against, in the same unit.
    pub bound: f64,
}

impl Decision {
    /// The value of [`Decision::work`] when a decision concerns no piece of work.
    pub const NO_WORK: u64 = u64::MAX;
}
