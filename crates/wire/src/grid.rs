//! Who sits next to whom in a cell?
//!
//! Hexagonal tiles on a rhombic lattice with axial coordinates (column, row); the
//! six neighbours are one step along either axis or along the diagonal between
//! them. Opposite edges are joined (a torus), so every tile has six neighbours
//! and no cell has a rim that would need its own physics.

use core::num::NonZeroU32;

/// A cell's lattice of hexagonal tiles, numbered row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hexagons {
    columns: NonZeroU32,
    rows: NonZeroU32,
}

/// The axial steps to the six neighbours, in order around the tile.
const STEPS: [(i8, i8); 6] = [(1, 0), (0, 1), (-1, 1), (-1, 0), (0, -1), (1, -1)];

impl Hexagons {
    /// The most nearly square lattice of exactly this many tiles; `None` unless
    /// both sides can be at least 3, below which a neighbour would be met twice.
    #[must_use]
    pub fn of(tiles: u32) -> Option<Self> {
        let rows = (3..=tiles.isqrt())
            .rev()
            .find(|rows| tiles.is_multiple_of(*rows))?;
        Some(Self {
            columns: NonZeroU32::new(tiles / rows)?,
            rows: NonZeroU32::new(rows)?,
        })
    }

    /// Tiles in the lattice.
    #[must_use]
    pub const fn tiles(&self) -> u32 {
        self.columns.get() * self.rows.get()
    }

    /// Tiles in a row.
    #[must_use]
    pub const fn columns(&self) -> u32 {
        self.columns.get()
    }

    /// Number of rows.
    #[must_use]
    pub const fn rows(&self) -> u32 {
        self.rows.get()
    }

    /// The six neighbours of a tile of this lattice, in order around it: the one
    /// at position `i + 3 mod 6` of a neighbour's list is this tile.
    #[must_use]
    pub fn neighbours(&self, tile: u32) -> [u32; 6] {
        let (columns, rows) = (self.columns.get(), self.rows.get());
        let (column, row) = (tile % columns, tile / columns);
        let wrap = |at: u32, step: i8, size: u32| match step {
            1 if at + 1 == size => 0,
            1 => at + 1,
            -1 if at == 0 => size - 1,
            -1 => at - 1,
            _ => at,
        };
        STEPS.map(|(dc, dr)| wrap(row, dr, rows) * columns + wrap(column, dc, columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_six_different_tiles_that_name_each_other() {
        for tiles in [9, 12, 64, 1_000] {
            let grid = Hexagons::of(tiles).unwrap();
            assert_eq!(grid.tiles(), tiles);
            for tile in 0..tiles {
                let around = grid.neighbours(tile);
                for (i, &n) in around.iter().enumerate() {
                    assert_ne!(n, tile);
                    assert!(!around[..i].contains(&n), "{tile} of {tiles}: {around:?}");
                    assert_eq!(grid.neighbours(n)[(i + 3) % 6], tile);
                }
            }
        }
    }

    #[test]
    fn a_lattice_too_narrow_or_too_prime_is_refused() {
        for tiles in [0, 8, 10, 997] {
            assert_eq!(Hexagons::of(tiles), None, "{tiles}");
        }
        let thousand = Hexagons::of(1_000).unwrap();
        assert_eq!((thousand.columns(), thousand.rows()), (40, 25));
    }
}
