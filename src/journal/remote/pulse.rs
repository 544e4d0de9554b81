//! Whether the other side is there, and whether to tell it that we are.

use tokio::time::{Duration, Instant};

use super::PING_INTERVAL;
use super::wire::Traffic;

/// Looks at a connection's traffic now and then.
#[derive(Debug)]
pub(super) struct Pulse {
    silence_max: Duration,
    seen: Traffic,
    received_at: Instant,
    sent_at: Instant,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    Nothing,
    /// Say that we are there.
    Ping,
    /// The other side is gone.
    Silent,
}

impl Pulse {
    pub(super) fn new(silence_max: Duration) -> Pulse {
        let now = Instant::now();
        Pulse {
            silence_max,
            seen: Traffic::default(),
            received_at: now,
            sent_at: now,
        }
    }

    /// To be called at every tick. `unsent`: whether something waits to be sent
    /// already, behind which a ping would wait too.
    pub(super) fn beat(&mut self, traffic: Traffic, unsent: bool) -> Beat {
        let now = Instant::now();
        if traffic.received != self.seen.received {
            self.received_at = now;
        }
        if traffic.sent != self.seen.sent {
            self.sent_at = now;
        }
        self.seen = traffic;
        if self.silence_max <= now - self.received_at {
            return Beat::Silent;
        }
        if !unsent && PING_INTERVAL <= now - self.sent_at {
            self.sent_at = now;
            return Beat::Ping;
        }
        Beat::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_answered_by_pings_and_then_by_the_end() {
        let mut pulse = Pulse::new(Duration::from_secs(5));
        let mut traffic = Traffic::default();
        let mut beats = Vec::new();
        for quarter in 0..40 {
            tokio::time::advance(Duration::from_millis(250)).await;
            if quarter < 8 {
                traffic.received += 1;
            }
            beats.push(pulse.beat(traffic, false));
        }
        let pings = |beats: &[Beat]| beats.iter().filter(|beat| **beat == Beat::Ping).count();
        assert_eq!(pings(&beats[..8]), 2);
        let silent = beats.iter().position(|beat| *beat == Beat::Silent);
        assert_eq!(silent, Some(7 + 20), "5 s after the last byte");
    }
}
