//! Where on the torus is a number?
//!
//! Sites are numbered along the Z-order curve (Morton, *A computer oriented
//! geodetic data base*, 1966): the bits of the two coordinates take turns. So a
//! number *is* a place, found by moving bits, without a table; any aligned run of
//! 4ᵏ numbers is a square; and what lies close on the torus lies mostly close in
//! memory. Coordinates wrap, which is masking.

/// A point of a lattice of `side` × `side` sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Around one way.
    pub x: u16,
    /// Around the other.
    pub y: u16,
}

/// A lattice: 2ᵏ by 2ᵏ sites, closed both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    side_bits: u32,
}

/// Bits of an address within the memory of one site: a page of 4 KiB.
pub const PAGE_BITS: u32 = 12;

impl Shape {
    /// The largest has 2³⁰ sites.
    pub const SIDE_BITS_MAX: u32 = 15;

    /// The smallest lattice that has this many sites; at least 8 by 8.
    #[must_use]
    pub const fn holding(sites: u32) -> Self {
        let mut side_bits = 3;
        while (1_u64 << (2 * side_bits)) < sites as u64 && side_bits < Self::SIDE_BITS_MAX {
            side_bits += 1;
        }
        Self { side_bits }
    }

    /// How many sites there are.
    #[must_use]
    pub const fn sites(self) -> u32 {
        1 << (2 * self.side_bits)
    }

    /// How many sites once around.
    #[must_use]
    pub const fn side(self) -> u32 {
        1 << self.side_bits
    }

    /// Where a site lies. Numbers beyond the lattice wrap.
    #[must_use]
    pub const fn place(self, site: u32) -> Place {
        let site = site & (self.sites() - 1);
        Place {
            x: gather(site),
            y: gather(site >> 1),
        }
    }

    /// The site at a place. Coordinates beyond the side wrap.
    #[must_use]
    pub const fn site(self, place: Place) -> u32 {
        let mask = self.side() - 1;
        spread(place.x as u32 & mask) | spread(place.y as u32 & mask) << 1
    }

    /// Steps between two places, the short way around.
    #[must_use]
    pub const fn distance(self, a: Place, b: Place) -> u32 {
        self.around(a.x, b.x) + self.around(a.y, b.y)
    }

    /// Where an address of memory lies, and at which byte of that site's page.
    /// One address space wraps around the torus for ever.
    //= requirements B5
    #[must_use]
    pub const fn locate(self, address: u64) -> (Place, u16) {
        let offset = address & ((1 << PAGE_BITS) - 1);
        (self.place((address >> PAGE_BITS) as u32), offset as u16)
    }

    /// The lowest address of a byte of a site's page; the inverse of
    /// [`Shape::locate`]. Offsets beyond the page wrap within it.
    #[must_use]
    pub const fn address(self, place: Place, offset: u16) -> u64 {
        let offset = offset as u64 & ((1 << PAGE_BITS) - 1);
        (self.site(place) as u64) << PAGE_BITS | offset
    }

    /// Which of the 64 regions of the face a site lies in: the lattice as 8 by 8
    /// squares.
    pub(crate) const fn region(self, site: u32) -> usize {
        (site >> (2 * self.side_bits - 6)) as usize
    }

    /// The sites of a region.
    pub(crate) const fn region_sites(self, region: usize) -> core::ops::Range<u32> {
        let each = self.sites() >> 6;
        region as u32 * each..(region as u32 + 1) * each
    }

    const fn around(self, a: u16, b: u16) -> u32 {
        let mask = self.side() - 1;
        let there = (a as u32).wrapping_sub(b as u32) & mask;
        let back = (b as u32).wrapping_sub(a as u32) & mask;
        if there < back { there } else { back }
    }
}

/// Every second bit, pushed together.
const fn gather(bits: u32) -> u16 {
    let mut x = bits & 0x5555_5555;
    x = (x | x >> 1) & 0x3333_3333;
    x = (x | x >> 2) & 0x0f0f_0f0f;
    x = (x | x >> 4) & 0x00ff_00ff;
    (x | x >> 8) as u16
}

/// The inverse of [`gather`].
const fn spread(bits: u32) -> u32 {
    let mut x = bits & 0xffff;
    x = (x | x << 8) & 0x00ff_00ff;
    x = (x | x << 4) & 0x0f0f_0f0f;
    x = (x | x << 2) & 0x3333_3333;
    (x | x << 1) & 0x5555_5555
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_address_is_a_place_and_a_place_an_address(sites in 1_u32..1 << 30, address: u64) {
            let shape = Shape::holding(sites);
            prop_assert!(shape.sites() >= sites);
            let (place, offset) = shape.locate(address);
            let around = u64::from(shape.sites()) << PAGE_BITS;
            prop_assert_eq!(shape.address(place, offset), address % around);
        }

        #[test]
        fn a_block_of_64_is_a_square(block in 0_u32..1 << 14) {
            let shape = Shape::holding(1 << 20);
            let corner = shape.place(block * 64);
            for site in block * 64..block * 64 + 64 {
                let place = shape.place(site);
                prop_assert!(place.x - corner.x < 8 && place.y - corner.y < 8);
            }
        }
    }

    #[test]
    fn the_short_way_leads_around_the_edge() {
        let shape = Shape::holding(1 << 20);
        let at = |x, y| Place { x, y };
        assert_eq!(shape.side(), 1024);
        assert_eq!(shape.distance(at(0, 0), at(1023, 1023)), 2);
        assert_eq!(shape.distance(at(0, 5), at(512, 5)), 512);
        assert_eq!(shape.site(at(1024, 0)), shape.site(at(0, 0)));
    }
}
