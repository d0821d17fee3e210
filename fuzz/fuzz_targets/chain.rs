#![no_main]

use trust::chain::{self, Reader, Seal};

/// Whatever bytes: what is read of them is a chain, sealed anew byte for byte, and damage lies where reading stopped.
fn check(bytes: &[u8], begin: Seal) {
    let (mut reader, mut seal, mut again) = (Reader::new(bytes, begin), begin, Vec::new());
    loop {
        match reader.read() {
            Ok(Some(records)) => seal = chain::commit(seal, records, &mut again),
            Ok(None) => {
                assert_eq!(again, bytes);
                break;
            }
            Err(damage) => {
                assert_eq!(damage.place, reader.place());
                assert_eq!(again, bytes[..damage.place]);
                break;
            }
        }
        assert_eq!(seal, reader.seal());
    }
}

libfuzzer_sys::fuzz_target!(|input: (Vec<Vec<Vec<u8>>>, Vec<u8>, u16, u8)| {
    let (commits, tail, at, flip) = input;
    let begin = Seal::of("fuzz", b"");
    let (mut seal, mut bytes) = (begin, Vec::new());
    for records in commits.iter().filter(|records| !records.is_empty()) {
        seal = chain::commit(seal, records.iter().map(Vec::as_slice), &mut bytes);
    }
    check(&bytes, begin);
    bytes.extend(tail);
    if let Some(byte) = bytes.get_mut(usize::from(at)) {
        *byte ^= flip;
    }
    check(&bytes, begin);
});
