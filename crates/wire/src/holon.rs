//! The tree of holons: tile → cell → cluster → region → system.
//!
//! A tile is known by one number. Its place in the tree is that number written
//! in the mixed radix of the universe's [`Fanout`], so no table of membership
//! exists anywhere and 10¹⁴ tiles need no more memory than ten.
//!
//! The same five levels serve a GPU site as node → rack → row → site →
//! federation; a universe says which words to show.

use core::fmt;
use core::num::NonZeroU32;

use crate::codec::{Decode, DecodeError, Encode, Reader};
use alloc::vec::Vec;

/// The number of a tile in its universe, from 0 without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Tile(pub u64);

/// The number of a cell in its universe, from 0 without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Cell(pub u64);

/// The levels of the tree, innermost first.
//= requirements U1
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// One machine.
    Tile,
    /// About 10³ tiles with sub-second round trips.
    Cell,
    /// About 10⁶ tiles.
    Cluster,
    /// A shell region of 10⁸ to 10¹⁰ tiles, or a site.
    Region,
    /// Everything.
    System,
}

impl Level {
    /// Every level, innermost first.
    pub const ALL: [Self; 5] = [
        Self::Tile,
        Self::Cell,
        Self::Cluster,
        Self::Region,
        Self::System,
    ];

    /// The word for it in files and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tile => "tile",
            Self::Cell => "cell",
            Self::Cluster => "cluster",
            Self::Region => "region",
            Self::System => "system",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How many children a holon has at each level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fanout {
    /// Tiles in a cell.
    pub tiles_per_cell: NonZeroU32,
    /// Cells in a cluster.
    pub cells_per_cluster: NonZeroU32,
    /// Clusters in a region.
    pub clusters_per_region: NonZeroU32,
    /// Regions in the system.
    pub regions: NonZeroU32,
}

/// Where a tile sits, each part counted from 0 within its parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// Region within the system.
    pub region: u32,
    /// Cluster within the region.
    pub cluster: u32,
    /// Cell within the cluster.
    pub cell: u32,
    /// Tile within the cell.
    pub tile: u32,
}

impl Fanout {
    /// A tree with these fan-outs; `None` if one is zero or the tiles of the
    /// whole tree cannot be numbered in 64 bits.
    #[must_use]
    pub fn new(
        tiles_per_cell: u32,
        cells_per_cluster: u32,
        clusters_per_region: u32,
        regions: u32,
    ) -> Option<Self> {
        [
            tiles_per_cell,
            cells_per_cluster,
            clusters_per_region,
            regions,
        ]
        .into_iter()
        .try_fold(1_u64, |product, n| product.checked_mul(u64::from(n)))?;
        Some(Self {
            tiles_per_cell: NonZeroU32::new(tiles_per_cell)?,
            cells_per_cluster: NonZeroU32::new(cells_per_cluster)?,
            clusters_per_region: NonZeroU32::new(clusters_per_region)?,
            regions: NonZeroU32::new(regions)?,
        })
    }

    /// Tiles in one holon of this level.
    #[must_use]
    pub const fn tiles_in(&self, level: Level) -> u64 {
        let cell = self.tiles_per_cell.get() as u64;
        let cluster = cell * self.cells_per_cluster.get() as u64;
        let region = cluster * self.clusters_per_region.get() as u64;
        match level {
            Level::Tile => 1,
            Level::Cell => cell,
            Level::Cluster => cluster,
            Level::Region => region,
            Level::System => region * self.regions.get() as u64,
        }
    }

    /// Tiles in the whole tree.
    #[must_use]
    pub const fn tiles(&self) -> u64 {
        self.tiles_in(Level::System)
    }

    /// The cell a tile belongs to.
    #[must_use]
    pub const fn cell_of(&self, tile: Tile) -> Cell {
        Cell(tile.0 / self.tiles_per_cell.get() as u64)
    }

    /// The number, within the system, of the holon of this level around a tile.
    #[must_use]
    pub const fn holon_of(&self, tile: Tile, level: Level) -> u64 {
        tile.0 / self.tiles_in(level)
    }

    /// Where a tile sits; `None` if the tree is smaller than that.
    #[must_use]
    pub fn path(&self, tile: Tile) -> Option<Path> {
        if tile.0 >= self.tiles() {
            return None;
        }
        let within = |level: Level, parent: Level| {
            let part = (tile.0 % self.tiles_in(parent)) / self.tiles_in(level);
            u32::try_from(part).expect("a fan-out fits in 32 bits, so each part does")
        };
        Some(Path {
            region: within(Level::Region, Level::System),
            cluster: within(Level::Cluster, Level::Region),
            cell: within(Level::Cell, Level::Cluster),
            tile: within(Level::Tile, Level::Cell),
        })
    }

    /// The tile at a path; `None` if a part exceeds its fan-out.
    #[must_use]
    pub const fn tile(&self, path: Path) -> Option<Tile> {
        if path.region >= self.regions.get()
            || path.cluster >= self.clusters_per_region.get()
            || path.cell >= self.cells_per_cluster.get()
            || path.tile >= self.tiles_per_cell.get()
        {
            return None;
        }
        Some(Tile(
            path.region as u64 * self.tiles_in(Level::Region)
                + path.cluster as u64 * self.tiles_in(Level::Cluster)
                + path.cell as u64 * self.tiles_in(Level::Cell)
                + path.tile as u64,
        ))
    }

    /// The smallest holon that holds both tiles. A message between them stays
    /// inside that level.
    //= requirements U2
    #[must_use]
    pub fn common_level(&self, a: Tile, b: Tile) -> Level {
        Level::ALL
            .into_iter()
            .find(|&level| self.holon_of(a, level) == self.holon_of(b, level))
            .unwrap_or(Level::System)
    }
}

impl fmt::Display for Path {
    /// `region/cluster/cell/tile`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}/{}",
            self.region, self.cluster, self.cell, self.tile
        )
    }
}

impl Encode for Tile {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}
impl Decode for Tile {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::decode(from).map(Self)
    }
}
impl Encode for Path {
    fn encode(&self, out: &mut Vec<u8>) {
        for part in [self.region, self.cluster, self.cell, self.tile] {
            part.encode(out);
        }
    }
}
impl Decode for Path {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            region: u32::decode(from)?,
            cluster: u32::decode(from)?,
            cell: u32::decode(from)?,
            tile: u32::decode(from)?,
        })
    }
}
