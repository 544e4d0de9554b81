//! Waiting for a condition with a deadline; nothing here sleeps blindly.

use std::time::{Duration, Instant};

/// How long a server may take to become ready on a busy machine.
pub const READY_DEADLINE: Duration = Duration::from_secs(20);

/// How often a condition that nothing announces is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Calls `condition` until it gives a value, or panics with `what` once
/// `deadline` has passed.
pub fn until<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            Instant::now() < end,
            "waited {deadline:?} in vain for {what}"
        );
        std::thread::park_timeout(POLL_INTERVAL);
    }
}
