//! What tests of real machines share.

use std::time::Duration;

/// Looks again and again, for a minute.
#[track_caller]
#[expect(
    clippy::disallowed_methods,
    reason = "machines are waited for, and they live by the host's clock"
)]
pub(crate) fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("waited in vain until {what}");
}
