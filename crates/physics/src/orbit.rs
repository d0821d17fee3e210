//! Where is it, how fast does its clock run?
//!
//! Two bodies and Newton: an [`Orbit`] is an ellipse with the Sun (or another
//! centre) at a focus, swept at the pace Kepler's equation gives. That is good to
//! some 10⁻⁴ of the distance for planets over decades, hence to minutes of arc and,
//! between shells, to seconds of light; contact plans carry margins far above that.
//!
//! Deliberately absent: perturbations, precession, and an ephemeris. A world that
//! needs them moves the elements from time to time.

use crate::constants::{GM_SUN, SPEED_OF_LIGHT};
use crate::light::light_time;
use core::f64::consts::{PI, TAU};
use wire::{Instant, Metres, Nanos, Seconds};

/// A point in the frame of the orbit's centre: x towards the reference direction
/// (the equinox, for planets), z out of the reference plane (the ecliptic).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Position {
    /// Towards the reference direction.
    pub x: Metres,
    /// A quarter turn along.
    pub y: Metres,
    /// Out of the plane.
    pub z: Metres,
}

impl Position {
    /// How far it is to another point.
    #[must_use]
    pub fn distance(&self, to: &Self) -> Metres {
        let (x, y, z) = (self.x.0 - to.x.0, self.y.0 - to.y.0, self.z.0 - to.z.0);
        Metres(libm::sqrt(x * x + y * y + z * z))
    }
}

/// A Keplerian ellipse, by the classical elements. Angles in radians.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Orbit {
    /// Mass parameter of the centre, m³/s²; [`GM_SUN`] for the shells.
    pub gm: f64,
    /// Half the long axis.
    pub semi_major: Metres,
    /// 0 for a circle, below 1.
    pub eccentricity: f64,
    /// Tilt against the reference plane.
    pub inclination: f64,
    /// Longitude where the orbit crosses the plane going up.
    pub ascending_node: f64,
    /// From the ascending node to the nearest point, along the orbit.
    pub argument_of_periapsis: f64,
    /// Mean anomaly at [`Instant::EPOCH`].
    pub mean_anomaly: f64,
}

/// A planet by name and its orbit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planet {
    /// As in English.
    pub name: &'static str,
    /// Its mean orbit; the epoch of universes is taken as J2000.
    pub orbit: Orbit,
}

impl Orbit {
    /// A circle around the Sun in the reference plane, at a longitude when time begins.
    #[must_use]
    pub const fn circular(radius: Metres, longitude: f64) -> Self {
        Self {
            gm: GM_SUN,
            semi_major: radius,
            eccentricity: 0.0,
            inclination: 0.0,
            ascending_node: 0.0,
            argument_of_periapsis: 0.0,
            mean_anomaly: longitude,
        }
    }

    /// Time for one turn: 2π √(a³/GM), Kepler's third law.
    #[must_use]
    pub fn period(&self) -> Seconds {
        Seconds(TAU / self.mean_motion())
    }

    /// Where it is. Exact to the two-body problem and, over centuries, to the
    /// rounding of time to 53 bits (under a microsecond).
    #[must_use]
    pub fn position(&self, at: Instant) -> Position {
        let e = self.eccentricity;
        let (sin, cos) = libm::sincos(self.eccentric_anomaly(at));
        let a = self.semi_major.0;
        let (x, y) = (a * (cos - e), a * libm::sqrt(1.0 - e * e) * sin);
        let (sin_w, cos_w) = libm::sincos(self.argument_of_periapsis);
        let (sin_n, cos_n) = libm::sincos(self.ascending_node);
        let (sin_i, cos_i) = libm::sincos(self.inclination);
        let (along, across) = (x * cos_w - y * sin_w, x * sin_w + y * cos_w);
        Position {
            x: Metres(along * cos_n - across * cos_i * sin_n),
            y: Metres(along * sin_n + across * cos_i * cos_n),
            z: Metres(across * sin_i),
        }
    }

    /// Distance from the centre.
    #[must_use]
    pub fn radius(&self, at: Instant) -> Metres {
        self.semi_major * (1.0 - self.eccentricity * libm::cos(self.eccentric_anomaly(at)))
    }

    /// Speed in m/s: v² = GM (2/r − 1/a), the vis-viva equation.
    #[must_use]
    pub fn speed(&self, at: Instant) -> f64 {
        libm::sqrt(self.gm * (2.0 / self.radius(at).0 - 1.0 / self.semi_major.0))
    }

    //= requirements T4
    /// By how much a clock here runs slow at this moment; see [`clock_lag`].
    #[must_use]
    pub fn clock_lag(&self, at: Instant) -> f64 {
        clock_lag(self.gm, self.radius(at), self.speed(at))
    }

    /// [`Orbit::clock_lag`] averaged over a turn: 3 GM / (2 a c²), whatever the eccentricity, since both
    /// 1/r and v² average to what they are on the circle of the same a.
    #[must_use]
    pub fn mean_clock_lag(&self) -> f64 {
        1.5 * self.gm / (self.semi_major.0 * SPEED_OF_LIGHT * SPEED_OF_LIGHT)
    }

    fn mean_motion(&self) -> f64 {
        let a = self.semi_major.0;
        libm::sqrt(self.gm / (a * a * a))
    }

    fn eccentric_anomaly(&self, at: Instant) -> f64 {
        let mean = self.mean_anomaly + self.mean_motion() * at.as_secs_f64();
        eccentric_anomaly(mean, self.eccentricity)
    }
}

/// Solves Kepler's equation E − e sin E = M for E, by Newton's method.
///
/// For M between 0 and π (the rest is symmetry) the left side is convex in E, and
/// E lies at or below both M + e and π. From there every step of Newton's leads
/// down and none too far, so there is nothing to guard against; 64 steps are enough for any e
/// below 1, and five or six are usual.
#[must_use]
pub fn eccentric_anomaly(mean: f64, eccentricity: f64) -> f64 {
    debug_assert!(
        (0.0..1.0).contains(&eccentricity),
        "an ellipse, not {eccentricity}"
    );
    let turns = libm::floor(mean / TAU + 0.5) * TAU;
    let m = (mean - turns).abs();
    let mut anomaly = (m + eccentricity).min(PI);
    for _ in 0..64 {
        let (sin, cos) = libm::sincos(anomaly);
        let step = (anomaly - eccentricity * sin - m) / (1.0 - eccentricity * cos);
        // Rounding has the last word: not down any more means arrived.
        if anomaly - step >= anomaly {
            break;
        }
        anomaly -= step;
    }
    turns + anomaly.copysign(mean - turns)
}

/// How long light takes that leaves `from` at a moment, until it meets `to`
/// where that will then be. In flat space; the Sun's own delay (Shapiro's, some 10⁻⁴ s at
/// most) is left out.
#[must_use]
pub fn light_time_between(from: &Orbit, to: &Orbit, leaving: Instant) -> Nanos {
    let start = from.position(leaving);
    let mut took = Nanos::ZERO;
    // Each round is better by speed over c, at worst 1/3,000 for what passes the
    // Sun's surface: five rounds leave less than a nanosecond of a day.
    for _ in 0..5 {
        let next = light_time(start.distance(&to.position(leaving + took)));
        if next == took {
            break;
        }
        took = next;
    }
    took
}

//= requirements T4
/// By how much a clock runs slow against one at rest and far away, as a pure
/// number: seconds lost per second. First order of general relativity: GM/(rc²) for
/// depth and v²/(2c²) for speed; what is left out is of the square of these, 10⁻¹⁵ at Mercury.
/// Source: Petit and Luzum (eds.), IERS Conventions (2010), chapter 10.
#[must_use]
pub fn clock_lag(gm: f64, radius: Metres, speed_metres_per_second: f64) -> f64 {
    let c2 = SPEED_OF_LIGHT * SPEED_OF_LIGHT;
    (gm / radius.0 + 0.5 * speed_metres_per_second * speed_metres_per_second) / c2
}

/// The eight planets by their mean elements at J2000, ecliptic and equinox of J2000
/// (for the Earth, the barycentre with the Moon). Source: E. M. Standish, "Approximate Positions of the
/// Planets", JPL Solar System Dynamics, table 1 (valid 1800–2050).
pub const PLANETS: [Planet; 8] = [
    planet(
        "Mercury",
        0.387_099_27,
        0.205_635_93,
        7.004_979_02,
        252.250_323_50,
        77.457_796_28,
        48.330_765_93,
    ),
    planet(
        "Venus",
        0.723_335_66,
        0.006_776_72,
        3.394_676_05,
        181.979_099_50,
        131.602_467_18,
        76.679_842_55,
    ),
    planet(
        "Earth",
        1.000_002_61,
        0.016_711_23,
        -0.000_015_31,
        100.464_571_66,
        102.937_681_93,
        0.0,
    ),
    planet(
        "Mars",
        1.523_710_34,
        0.093_394_10,
        1.849_691_42,
        -4.553_432_05,
        -23.943_629_59,
        49.559_538_91,
    ),
    planet(
        "Jupiter",
        5.202_887_00,
        0.048_386_24,
        1.304_396_95,
        34.396_440_51,
        14.728_479_83,
        100.473_909_09,
    ),
    planet(
        "Saturn",
        9.536_675_94,
        0.053_861_79,
        2.485_991_87,
        49.954_244_23,
        92.598_878_31,
        113.662_424_48,
    ),
    planet(
        "Uranus",
        19.189_164_64,
        0.047_257_44,
        0.772_637_83,
        313.238_104_51,
        170.954_276_30,
        74.016_925_03,
    ),
    planet(
        "Neptune",
        30.069_922_76,
        0.008_590_48,
        1.770_043_47,
        -55.120_029_69,
        44.964_762_27,
        131.784_225_74,
    ),
];

/// From the elements as the table lists them, in degrees: mean longitude and
/// longitude of perihelion instead of the anomaly and the argument.
const fn planet(
    name: &'static str,
    au: f64,
    eccentricity: f64,
    inclination: f64,
    mean_longitude: f64,
    perihelion: f64,
    node: f64,
) -> Planet {
    Planet {
        name,
        orbit: Orbit {
            gm: GM_SUN,
            semi_major: Metres::from_au(au),
            eccentricity,
            inclination: inclination.to_radians(),
            ascending_node: node.to_radians(),
            argument_of_periapsis: (perihelion - node).to_radians(),
            mean_anomaly: (mean_longitude - perihelion).to_radians(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constants::{EARTH_CENTRE_RATE, GEOID_RATE, GM_EARTH};
    use proptest::prelude::*;

    const DAY: f64 = 86_400.0;

    #[test]
    fn planets_take_the_years_they_take() {
        // Sidereal periods in days. Source: NASA planetary fact sheets.
        let days = [
            87.969, 224.701, 365.256, 686.980, 4_332.589, 10_759.22, 30_685.4, 60_189.0,
        ];
        for (planet, days) in PLANETS.iter().zip(days) {
            let period = planet.orbit.period().0 / DAY;
            assert!(
                (period / days - 1.0).abs() < 2e-3,
                "{}: {period} d, known {days} d",
                planet.name
            );
        }
    }

    #[test]
    fn the_earth_is_nearest_in_early_january() {
        let earth = &PLANETS[2].orbit;
        let nearest = (0..365)
            .min_by(|a, b| {
                let r = |day: &u64| earth.radius(Instant::EPOCH + Nanos::DAY * *day).0;
                r(a).total_cmp(&r(b))
            })
            .unwrap();
        // J2000 is noon on 1 January; perihelion was on 3 January 2000.
        assert!((1..=4).contains(&nearest), "day {nearest}");
    }

    #[test]
    fn a_turn_later_it_is_back_and_half_a_turn_later_opposite() {
        for Planet { name, orbit } in PLANETS {
            let turn = orbit.period().0;
            let at = |turns: f64| orbit.position(Instant(Nanos::from_secs_f64(turns * turn).0));
            let off = at(1.0).distance(&at(0.0)) / orbit.semi_major;
            assert!(off < 1e-9, "{name} missed itself by {off}");
        }
        let circle = Orbit::circular(Metres::from_au(1.0), 0.0);
        let half = Instant(Nanos::from_secs_f64(circle.period().0 / 2.0).0);
        let across = circle
            .position(half)
            .distance(&circle.position(Instant::EPOCH));
        assert!((across.as_au() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn shells_in_conjunction_are_the_difference_of_their_radii_apart() {
        let inner = Orbit::circular(Metres::from_au(0.5), 0.0);
        let outer = Orbit::circular(Metres::from_au(25.0), 0.0);
        let hours = light_time_between(&inner, &outer, Instant::EPOCH).as_secs_f64() / 3600.0;
        assert!((hours - 3.396).abs() < 1e-3, "{hours} h outward");
        // Inward the target moves 72 times faster along its circle than the other way round: by a quarter of
        // a million km while the light is on its way, sideways, so it still arrives in about the same time.
        let back = light_time_between(&outer, &inner, Instant::EPOCH).as_secs_f64() / 3600.0;
        assert!((back - 3.396).abs() < 1e-3, "{back} h inward");
    }

    #[test]
    fn light_meets_its_target_where_it_will_be() {
        let (earth, mars) = (&PLANETS[2].orbit, &PLANETS[3].orbit);
        for day in [0, 100, 400, 700] {
            let leaving = Instant::EPOCH + Nanos::DAY * day;
            let took = light_time_between(earth, mars, leaving);
            let there = mars.position(leaving + took);
            let path = earth.position(leaving).distance(&there);
            assert!(light_time(path).0.abs_diff(took.0) <= 1, "day {day}");
        }
    }

    //= requirements T4
    #[test]
    fn clocks_run_as_slow_as_they_are_known_to() {
        // The Earth around the Sun. The remaining 1.5 in 10,000 is the planets' own pull.
        let earth = PLANETS[2].orbit.mean_clock_lag();
        assert!((earth / EARTH_CENTRE_RATE - 1.0).abs() < 3e-4, "{earth}");
        // GPS satellites gain 38.6 µs a day on the ground (IS-GPS-200: 4.4647e-10).
        let gps = Orbit {
            gm: GM_EARTH,
            ..Orbit::circular(Metres(26_561_750.0), 0.0)
        };
        let gain = GEOID_RATE - gps.clock_lag(Instant::EPOCH);
        assert!((gain / 4.4647e-10 - 1.0).abs() < 1e-3, "{gain}");
    }

    #[test]
    fn the_mean_lag_is_the_mean_of_the_lags() {
        let mercury = &PLANETS[0].orbit;
        let (turn, parts) = (mercury.period().0, 1000);
        let mean = (0..parts)
            .map(|i| {
                let at = turn * f64::from(i) / f64::from(parts);
                mercury.clock_lag(Instant(Nanos::from_secs_f64(at).0))
            })
            .sum::<f64>()
            / f64::from(parts);
        assert!((mean / mercury.mean_clock_lag() - 1.0).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn keplers_equation_holds(mean in -100.0..100.0, e in 0.0..0.9999) {
            let anomaly = eccentric_anomaly(mean, e);
            prop_assert!((anomaly - e * libm::sin(anomaly) - mean).abs() < 1e-12 * (1.0 + mean.abs()));
        }

        #[test]
        fn radius_speed_and_position_belong_together(
            e in 0.0..0.95, i in 0.0..PI, node in 0.0..TAU, w in 0.0..TAU, m in 0.0..TAU, at in 0_u64..1 << 62,
        ) {
            let orbit = Orbit {
                eccentricity: e, inclination: i, ascending_node: node, argument_of_periapsis: w,
                ..Orbit::circular(Metres::from_au(1.0), m)
            };
            let at = Instant(at);
            let r = orbit.position(at).distance(&Position::default());
            prop_assert!((r / orbit.radius(at) - 1.0).abs() < 1e-9);
            // Speed by moving on for a few seconds.
            let later = Instant(at.0 + 4_096_000_000);
            let span = later.as_secs_f64() - at.as_secs_f64();
            let moved = orbit.position(later).distance(&orbit.position(at)).0 / span;
            prop_assert!((moved / orbit.speed(at) - 1.0).abs() < 1e-3, "{moved} {}", orbit.speed(at));
        }
    }
}
