//! Which sites are taken, and which free one is nearest?
//!
//! A bit for each site, and above every 64 words a word that says which of them
//! are full, up to one word. A child looks in the 8 × 8 square of its parent
//! first, then onward along the curve of [`crate::place`], around the torus if
//! need be: four words for a million sites, however full they are. What is free
//! decides where the next process goes, and nothing else does; a lattice rebuilt
//! from its processes places the next one where the lost one would have.

use alloc::vec;
use alloc::vec::Vec;

const WORD: u32 = u64::BITS;

#[derive(Clone, Debug)]
pub(crate) struct Sites {
    /// Lowest first: a bit for each site, then for each full word below.
    levels: Vec<Vec<u64>>,
    free: u32,
}

impl Sites {
    /// All free. `count` is a multiple of 64.
    pub(crate) fn new(count: u32) -> Self {
        let mut levels = Vec::new();
        let mut bits = count;
        loop {
            let words = bits.div_ceil(WORD);
            let mut level = vec![0_u64; words as usize];
            // What is beyond the end is never free.
            if !bits.is_multiple_of(WORD) {
                level[words as usize - 1] = u64::MAX << (bits % WORD);
            }
            levels.push(level);
            if words == 1 {
                break;
            }
            bits = words;
        }
        Self {
            levels,
            free: count,
        }
    }

    pub(crate) const fn free(&self) -> u32 {
        self.free
    }

    pub(crate) fn is_taken(&self, site: u32) -> bool {
        self.levels[0][(site / WORD) as usize] >> (site % WORD) & 1 == 1
    }

    pub(crate) fn take(&mut self, site: u32) {
        debug_assert!(!self.is_taken(site), "site {site} was taken");
        self.free -= 1;
        let mut at = site;
        for level in &mut self.levels {
            let word = &mut level[(at / WORD) as usize];
            *word |= 1 << (at % WORD);
            if *word != u64::MAX {
                break;
            }
            at /= WORD;
        }
    }

    pub(crate) fn release(&mut self, site: u32) {
        debug_assert!(self.is_taken(site), "site {site} was free");
        self.free += 1;
        let mut at = site;
        for level in &mut self.levels {
            let word = &mut level[(at / WORD) as usize];
            let was_full = *word == u64::MAX;
            *word &= !(1 << (at % WORD));
            if !was_full {
                break;
            }
            at /= WORD;
        }
    }

    /// The free site nearest to another along the curve, its own square first.
    pub(crate) fn near(&self, site: u32) -> Option<u32> {
        let block = site / WORD;
        self.at_or_after(block).or_else(|| self.at_or_after(0))
    }

    /// The first free site in this word or a later one.
    fn at_or_after(&self, word: u32) -> Option<u32> {
        let mut index = word;
        for (height, level) in self.levels.iter().enumerate() {
            // At the lowest level look at one word; above, at what follows in it.
            let (at, from) = if height == 0 {
                (index, 0)
            } else {
                (index / WORD, index % WORD)
            };
            if let Some(&word) = level.get(at as usize) {
                let open = !word & (u64::MAX << from);
                if open != 0 {
                    return Some(self.descend(height, at * WORD + open.trailing_zeros()));
                }
            }
            index = at + 1;
        }
        None
    }

    /// From a bit that says there is room below it to the first free site there.
    fn descend(&self, height: usize, mut bit: u32) -> u32 {
        for level in self.levels[..height].iter().rev() {
            bit = bit * WORD + (!level[bit as usize]).trailing_zeros();
        }
        bit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_child_settles_in_the_square_of_its_parent() {
        let mut sites = Sites::new(1 << 14);
        assert_eq!(sites.near(130), Some(128));
        (128..192).for_each(|site| sites.take(site));
        assert_eq!(sites.near(130), Some(192));
        sites.release(150);
        assert_eq!(sites.near(190), Some(150));
    }

    proptest! {
        /// Against a scan of all sites.
        #[test]
        fn the_nearest_free_site_is_found_however_full(
            seed in prop::collection::vec(any::<u16>(), 0..400), from in 0_u32..1 << 13, fill: bool,
        ) {
            let count = 1_u32 << 13;
            let mut sites = Sites::new(count);
            if fill {
                (0..count).for_each(|site| sites.take(site));
            }
            for &s in &seed {
                let site = u32::from(s) % count;
                if sites.is_taken(site) { sites.release(site) } else { sites.take(site) }
            }
            let start = from / 64 * 64;
            let expected = (0..count).map(|i| (start + i) % count).find(|&s| !sites.is_taken(s));
            prop_assert_eq!(sites.near(from), expected);
            let free = (0..count).filter(|&s| !sites.is_taken(s)).count();
            prop_assert_eq!(sites.free() as usize, free);
        }
    }
}
