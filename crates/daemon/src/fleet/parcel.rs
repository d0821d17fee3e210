//! Messages that are longer than a frame.
//!
//! The streams between two members keep their order, so of each sender at most one message is on its way at a time: a parcel begins with its first
//! piece, goes on with the next, and is dropped with the first that does not fit. A sender that has no room for all pieces sends none. So
//! what is put together is what was sent, and nobody makes another hold more than one message.

use std::collections::BTreeMap;

use wire::frame::PAYLOAD_BYTES_MAX;
use wire::{Decode as _, DecodeError, Encode as _, Reader, Tile};

use super::transport::WAITING_MAX;

/// Before the bytes of a piece: number, length of the whole, where this one begins.
const HEAD_BYTES_MAX: usize = 10 + 4 + 4;
const PIECE: usize = PAYLOAD_BYTES_MAX - HEAD_BYTES_MAX;

/// No message is longer: it fits into an empty stream, and leaves room for some that are short.
pub const MESSAGE_BYTES_MAX: usize = (WAITING_MAX - 8) * PIECE;

/// A message in pieces; `None` if it is too long. The number tells it from the one before.
#[must_use]
pub fn pack(number: u64, message: &[u8]) -> Option<Vec<Vec<u8>>> {
    if message.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    let count = message.len().div_ceil(PIECE).max(1);
    let piece = |at: usize| {
        let (begin, end) = (at * PIECE, message.len().min((at + 1) * PIECE));
        let mut payload = number.to_bytes();
        (message.len() as u64).encode(&mut payload);
        (begin as u64).encode(&mut payload);
        payload.extend(&message[begin..end]);
        payload
    };
    Some((0..count).map(piece).collect())
}

/// Messages on their way in, one of each sender.
#[derive(Debug, Default)]
pub struct Arriving(BTreeMap<Tile, (u64, u64, Vec<u8>)>);

impl Arriving {
    /// Takes a piece; gives the message back when it is whole.
    ///
    /// # Errors
    /// If it is none, or not the one that comes next. What had come of its message is dropped.
    pub fn take(&mut self, from: Tile, payload: &[u8]) -> Result<Option<Vec<u8>>, DecodeError> {
        let begun = self.0.remove(&from);
        let mut reader = Reader::new(payload);
        let (number, total) = (u64::decode(&mut reader)?, u64::decode(&mut reader)?);
        let at = reader.position();
        let begin = u64::decode(&mut reader)?;
        let wrong = |what, found| DecodeError::Invalid { at, what, found };
        if total > MESSAGE_BYTES_MAX as u64 {
            return Err(wrong("length of a message", total));
        }
        let mut message = match begun {
            _ if begin == 0 => Vec::new(),
            Some((of, length, message))
                if (of, length, message.len() as u64) == (number, total, begin) =>
            {
                message
            }
            _ => return Err(wrong("place in a message", begin)),
        };
        let bytes = reader.bytes(reader.remaining())?;
        if bytes.len() as u64 > total - message.len() as u64 || bytes.is_empty() && total > 0 {
            return Err(wrong("length of a piece", bytes.len() as u64));
        }
        message.extend(bytes);
        if message.len() as u64 == total {
            return Ok(Some(message));
        }
        self.0.insert(from, (number, total, message));
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(arriving: &mut Arriving, from: Tile, pieces: &[Vec<u8>]) -> Option<Vec<u8>> {
        let mut whole = None;
        for piece in pieces {
            assert_eq!(whole, None);
            assert!(piece.len() <= PAYLOAD_BYTES_MAX);
            whole = arriving.take(from, piece).unwrap();
        }
        whole
    }

    #[test]
    fn a_message_arrives_as_it_was_sent_whatever_others_send() {
        let (us, them) = (Tile(1), Tile(2));
        let mut arriving = Arriving::default();
        let long: Vec<u8> = (0..MESSAGE_BYTES_MAX).map(|n| n.to_le_bytes()[0]).collect();
        let pieces = pack(7, &long).unwrap();
        let half = pieces.len() / 2;
        assert_eq!(all(&mut arriving, us, &pieces[..half]), None);
        assert_eq!(
            all(&mut arriving, them, &pack(7, b"").unwrap()),
            Some(Vec::new())
        );
        assert_eq!(all(&mut arriving, us, &pieces[half..]), Some(long.clone()));
        assert!(arriving.0.is_empty());
        assert_eq!(pack(8, &[0; MESSAGE_BYTES_MAX + 1]), None);
    }

    #[test]
    fn a_piece_that_does_not_come_next_ends_its_message() {
        let mut arriving = Arriving::default();
        let pieces = pack(7, &[1; 3 * PIECE]).unwrap();
        let other = pack(8, &[2; 3 * PIECE]).unwrap();
        for wrong in [
            &pieces[2],
            &other[1],
            &b"\x07\xff\xff\xff\x7f\x00x".to_vec(),
            &b"\x07".to_vec(),
            &Vec::new(),
        ] {
            assert_eq!(arriving.take(Tile(1), &pieces[0]), Ok(None));
            assert!(arriving.take(Tile(1), wrong).is_err(), "{wrong:?}");
            assert!(
                arriving.take(Tile(1), &pieces[1]).is_err(),
                "it began with what was dropped"
            );
        }
        // A new one may begin at any time.
        arriving.take(Tile(1), &pieces[0]).unwrap();
        assert_eq!(
            all(&mut arriving, Tile(1), &other),
            Some(vec![2; 3 * PIECE])
        );
    }
}
