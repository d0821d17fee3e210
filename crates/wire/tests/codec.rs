//! The encoding is canonical: values and byte strings correspond one to one.

use proptest::prelude::*;
use wire::codec::{decode_all, varint_len};
use wire::{Class, DecodeError, Encode, Fanout, Frame, Level, Nanos, Path, Stamp, Tile, Version};

fn any_frame() -> impl Strategy<Value = Frame> {
    (
        0..4_usize,
        any::<u8>(),
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
        prop::collection::vec(any::<u8>(), 0..64),
    )
        .prop_map(
            |(class, protocol, source, destination, sequence, payload)| Frame {
                version: Version::CURRENT,
                class: Class::ALL[class],
                protocol,
                source: Tile(source),
                destination: Tile(destination),
                sequence,
                payload,
            },
        )
}

proptest! {
    #[test]
    fn numbers_round_trip_in_the_length_foretold(value: u64) {
        let bytes = value.to_bytes();
        prop_assert_eq!(bytes.len(), varint_len(value));
        prop_assert_eq!(decode_all::<u64>(&bytes), Ok(value));
    }

    #[test]
    fn signed_numbers_round_trip(value: i64) {
        prop_assert_eq!(decode_all::<i64>(&value.to_bytes()), Ok(value));
    }

    #[test]
    fn frames_round_trip(frame in any_frame()) {
        prop_assert_eq!(decode_all::<Frame>(&frame.to_bytes()), Ok(frame));
    }

    #[test]
    fn a_cut_frame_is_refused_at_its_end(frame in any_frame(), keep in 0.0..1.0_f64) {
        let bytes = frame.to_bytes();
        let cut = &bytes[..(bytes.len() as f64 * keep) as usize];
        let refused = decode_all::<Frame>(cut);
        let at_end = matches!(refused, Err(DecodeError::Truncated { at, .. }) if at == cut.len());
        prop_assert!(at_end, "{:?}", refused);
    }

    #[test]
    fn stamps_round_trip(epoch: u32, offset: u64, position: u64, uncertainty: u64, logical: u64) {
        let stamp = Stamp {
            epoch,
            offset: Nanos(offset),
            position: Tile(position),
            uncertainty: Nanos(uncertainty),
            logical,
        };
        prop_assert_eq!(decode_all::<Stamp>(&stamp.to_bytes()), Ok(stamp));
    }

    /// Whatever decodes is the one spelling of what it decoded to.
    #[test]
    fn no_value_has_a_second_spelling(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(value) = decode_all::<u64>(&bytes) {
            prop_assert_eq!(value.to_bytes(), bytes.clone());
        }
        if let Ok(frame) = decode_all::<Frame>(&bytes) {
            prop_assert_eq!(frame.to_bytes(), bytes.clone());
        }
        if let Ok(stamp) = decode_all::<Stamp>(&bytes) {
            prop_assert_eq!(stamp.to_bytes(), bytes);
        }
    }

    #[test]
    fn a_tile_and_its_path_name_each_other(
        fanout in (1..2_000_u32, 1..2_000_u32, 1..2_000_u32, 1..2_000_u32),
        seed: u64,
    ) {
        let (a, b, c, d) = fanout;
        let fanout = Fanout::new(a, b, c, d).unwrap();
        let tile = Tile(seed % fanout.tiles());
        let path = fanout.path(tile).unwrap();
        prop_assert_eq!(fanout.tile(path), Some(tile));
    }

    /// Numbers and paths sort alike, so a range of tiles is a holon.
    #[test]
    fn tiles_sort_as_their_paths(a: u64, b: u64) {
        let fanout = Fanout::new(1_000, 1_000, 1_000, 100_000).unwrap();
        let (a, b) = (Tile(a % fanout.tiles()), Tile(b % fanout.tiles()));
        prop_assert_eq!(a.cmp(&b), fanout.path(a).cmp(&fanout.path(b)));
    }
}

#[test]
fn a_longer_spelling_of_a_number_is_refused() {
    let refused = decode_all::<u64>(&[0x80, 0x00]);
    assert_eq!(
        refused,
        Err(DecodeError::NotCanonical {
            at: 1,
            what: "number"
        })
    );
}

#[test]
fn a_length_that_lies_allocates_nothing() {
    let mut bytes = u64::MAX.to_bytes();
    bytes.push(7);
    let refused = decode_all::<Vec<u8>>(&bytes);
    assert!(
        matches!(refused, Err(DecodeError::Truncated { .. })),
        "{refused:?}"
    );
}

#[test]
fn an_unknown_version_is_refused_by_name() {
    let mut bytes = 2_u16.to_bytes();
    bytes.extend([0; 6]);
    assert_eq!(
        decode_all::<Frame>(&bytes),
        Err(DecodeError::Invalid {
            at: 0,
            what: "version of the vocabulary",
            found: 2
        })
    );
}

//= requirements U6
#[test]
fn a_hundred_million_million_tiles_are_addressable() {
    let fanout = Fanout::new(1_000, 1_000, 10_000, 10_000).unwrap();
    assert_eq!(fanout.tiles(), 100_000_000_000_000);
    let last = Tile(fanout.tiles() - 1);
    let path = Path {
        region: 9_999,
        cluster: 9_999,
        cell: 999,
        tile: 999,
    };
    assert_eq!(fanout.path(last), Some(path));
    assert_eq!(fanout.path(Tile(fanout.tiles())), None);
    assert_eq!(Fanout::new(u32::MAX, u32::MAX, 2, 1), None);
}

#[test]
fn the_level_of_a_message_is_the_smallest_holon_around_both_ends() {
    let fanout = Fanout::new(10, 10, 10, 10).unwrap();
    for (a, b, level) in [
        (5, 5, Level::Tile),
        (5, 6, Level::Cell),
        (5, 15, Level::Cluster),
        (5, 105, Level::Region),
        (5, 1_005, Level::System),
    ] {
        assert_eq!(fanout.common_level(Tile(a), Tile(b)), level);
    }
}
