//! The hybrid logical clock that orders records across writers and regions.

/// How many of a timestamp's low bits count records within a millisecond.
pub const COUNTER_BITS: u32 = 16;

/// Never goes backwards, whatever the wall clock does. Not shared between threads.
///
/// A timestamp is milliseconds since the Unix epoch in the upper 48 bits and a
/// counter in the lower 16. Where the counter is used up it carries into the
/// milliseconds, so a writer making more than 65,536 records a millisecond
/// runs ahead of its wall clock instead of repeating a timestamp.
#[derive(Debug, Default)]
pub struct HybridClock {
    last: u64,
}

impl HybridClock {
    /// The next timestamp: greater than every one before it and not behind
    /// `now_ms`, milliseconds since the Unix epoch.
    pub fn tick(&mut self, now_ms: u64) -> u64 {
        self.last = (now_ms << COUNTER_BITS).max(self.last + 1);
        self.last
    }

    /// Goes on from another clock's timestamp, if that is ahead.
    pub fn observe(&mut self, hlc: u64) {
        self.last = self.last.max(hlc);
    }
}

/// The milliseconds since the Unix epoch in a timestamp.
pub fn milliseconds(hlc: u64) -> u64 {
    hlc >> COUNTER_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_standing_still_or_going_back_counts_on() {
        let mut clock = HybridClock::default();
        assert_eq!(clock.tick(5), 5 << 16);
        assert_eq!(clock.tick(5), (5 << 16) | 1);
        assert_eq!(clock.tick(4), (5 << 16) | 2);
        assert_eq!(clock.tick(6), 6 << 16);
    }

    #[test]
    fn a_full_counter_carries_into_the_milliseconds() {
        let mut clock = HybridClock::default();
        let mut last = clock.tick(7);
        for _ in 0..=u16::MAX {
            let next = clock.tick(7);
            assert!(next > last);
            last = next;
        }
        assert_eq!(milliseconds(last), 8);
        assert_eq!(last & 0xffff, 0);
        assert!(clock.tick(8) > last);
    }
}
