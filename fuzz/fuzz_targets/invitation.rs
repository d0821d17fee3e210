#![no_main]

use trust::invitation::{CHECK_BYTES, Invitation, PREFIX};
use wire::codec::decode_all;

// A line is an invitation's one spelling, or is refused; so are the bytes in it, and what they mean can be said again.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(line) = std::str::from_utf8(bytes)
        && let Ok(invitation) = line.parse::<Invitation>()
    {
        assert_eq!(invitation.to_string(), line);
    }
    fuzz::is_canonical::<Invitation>(bytes);
    // A line whose check fits is not found by chance.
    if let Ok(invitation) = decode_all::<Invitation>(bytes) {
        let line = invitation.to_string();
        assert!(line.len() > PREFIX.len() + CHECK_BYTES);
        assert_eq!(line.parse(), Ok(invitation));
    }
});
