//! What did every node look like, and who had the site?
//!
//! A few hundred pictures of a whole run, a byte for each thing shown of each node: a
//! cluster map with a slider has no more colours. When there are too many pictures every second one
//! goes, and from then on half as many are kept: the film of a year is as long as that
//! of an hour.

/// Pictures of all nodes over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Film {
    nodes: usize,
    tenants: Vec<String>,
    pictures: Vec<Picture>,
    every: u64,
    offered: u64,
}

/// All nodes at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// When.
    pub seconds: f64,
    /// Claimed share of each node's GPUs, of its CPUs if it has none: 0 to 200 in half
    /// per cents, [`Picture::DARK`] if it is dark.
    pub utilisation: Vec<u8>,
    /// Its hottest device in half degrees Celsius, at most 254, which are 127 °C;
    /// [`Picture::DARK`] if it is dark.
    pub half_celsius: Vec<u8>,
    /// GPUs of which nothing is claimed, times 16, and GPUs of which something is left.
    pub free: Vec<u8>,
    /// The share of all GPUs that each tenant has, 0 to 1.
    pub shares: Vec<f32>,
    /// Jobs that wait.
    pub queued: u32,
    /// How long the one has waited that has waited longest for its first start, s; 0 if
    /// none does.
    pub waited: f32,
}

impl Picture {
    /// In place of a number, for a node that is dark.
    pub const DARK: u8 = u8::MAX;

    /// A picture of dark nodes, of nobody.
    #[must_use]
    pub fn dark(seconds: f64, nodes: usize) -> Self {
        Self {
            seconds,
            utilisation: vec![Self::DARK; nodes],
            half_celsius: vec![Self::DARK; nodes],
            free: vec![0; nodes],
            shares: Vec::new(),
            queued: 0,
            waited: 0.0,
        }
    }

    /// Draws a node that is on: the claimed share, 0 to 1, its hottest device, and how many of
    /// its GPUs are free and how many in part.
    pub fn set(&mut self, node: usize, used: f64, celsius: f64, idle: usize, shared: usize) {
        self.utilisation[node] = (used * 200.0).clamp(0.0, 200.0) as u8;
        self.half_celsius[node] = (celsius * 2.0).clamp(0.0, 254.0) as u8;
        self.free[node] = (idle.min(15) << 4 | shared.min(15)) as u8;
    }
}

impl Film {
    /// More pictures than this no slider can show.
    pub const PICTURES_MAX: usize = 300;

    /// A film without pictures.
    #[must_use]
    pub const fn new(nodes: usize, tenants: Vec<String>) -> Self {
        Self {
            nodes,
            tenants,
            pictures: Vec::new(),
            every: 1,
            offered: 0,
        }
    }

    /// What was kept.
    #[must_use]
    pub fn pictures(&self) -> &[Picture] {
        &self.pictures
    }

    /// Whose [`Picture::shares`] are shown.
    #[must_use]
    pub fn tenants(&self) -> &[String] {
        &self.tenants
    }

    /// Whether the next picture would be kept: one that would not need not be drawn.
    #[must_use]
    pub const fn wants(&self) -> bool {
        self.offered.is_multiple_of(self.every)
    }

    /// Lets a picture pass that was not wanted.
    pub const fn skip(&mut self) {
        self.offered += 1;
    }

    /// Takes a picture if it is wanted.
    ///
    /// # Panics
    /// If it shows another number of nodes or tenants.
    pub fn push(&mut self, picture: Picture) {
        assert_eq!(
            (picture.utilisation.len(), picture.shares.len()),
            (self.nodes, self.tenants.len()),
            "a picture shows every node and every tenant"
        );
        if self.wants() {
            self.pictures.push(picture);
        }
        self.offered += 1;
        if self.pictures.len() > Self::PICTURES_MAX {
            let mut index = 0;
            self.pictures.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.every *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_film_of_any_length_keeps_a_bounded_even_spread() {
        let mut film = Film::new(1, vec!["a".to_owned()]);
        for i in 0..10_000_u32 {
            let mut picture = Picture::dark(f64::from(i), 1);
            picture.shares.push(0.5);
            picture.set(0, 0.5, 61.3, 3, 1);
            film.push(picture);
        }
        let pictures = film.pictures();
        assert!(pictures.len() <= Film::PICTURES_MAX && pictures.len() > Film::PICTURES_MAX / 3);
        let gap = pictures[1].seconds - pictures[0].seconds;
        assert!(
            pictures
                .windows(2)
                .all(|p| p[1].seconds - p[0].seconds == gap)
        );
        assert_eq!(
            (pictures[0].utilisation[0], pictures[0].half_celsius[0]),
            (100, 122)
        );
        assert_eq!(pictures[0].free[0], 0x31);
    }
}
