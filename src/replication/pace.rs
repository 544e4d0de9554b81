//! How fast a journal is read, where others wait for it.

use std::time::Duration;

use tokio::time::Instant;

use crate::journal::Offset;

/// How often it is looked at.
const WINDOW: Duration = Duration::from_secs(1);

/// What is slow, or stands still, in so many windows one after another is not waited
/// for any more.
const WINDOWS: u32 = 5;

/// It is slow where more than this is left, at its pace,
const LONG: Duration = Duration::from_secs(10);

/// and fewer records than this come a second: because of a link that hardly passes
/// anything, not of a processor that has much to do.
const SLOW: f64 = 2000.0;

/// A record that is longer counts as several.
const RECORD_BYTES: f64 = 500.0;

/// See the module.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the window began, and what was read by then: the next offset, and bytes.
    window: Option<(Instant, Offset, u64)>,
    /// So many windows before were slow.
    slow: u32,
    /// In so many nothing came.
    still: u32,
}

impl Pace {
    /// It is read up to `next`, so many bytes in all, and is to be up to `end`, where
    /// that is known.
    pub fn note(&mut self, next: Offset, bytes: u64, end: Option<Offset>) {
        let now = Instant::now();
        let Some((since, read, read_bytes)) = self.window else {
            self.window = Some((now, next, bytes));
            return;
        };
        let elapsed = now - since;
        if elapsed < WINDOW {
            return;
        }
        self.window = Some((now, next, bytes));
        let each_second = |count: f64| count / elapsed.as_secs_f64();
        let records = next.saturating_sub(read) as f64;
        let more = bytes.saturating_sub(read_bytes) as f64 / RECORD_BYTES;
        self.still = match next == read {
            true => self.still + 1,
            false => 0,
        };
        if let Some(end) = end {
            let left = end.saturating_sub(next) as f64;
            let is_long = each_second(records) * LONG.as_secs_f64() < left;
            self.slow = match is_long && each_second(records + more) < SLOW {
                true => self.slow + 1,
                false => 0,
            };
        }
    }

    /// Whether it has been slow for long.
    pub fn is_slow(&self) -> bool {
        WINDOWS <= self.slow
    }

    /// Whether nothing has come for long.
    pub fn is_still(&self) -> bool {
        WINDOWS <= self.still
    }

    /// How long it was slow before, for who is to be read first.
    pub fn slowness(&self) -> u32 {
        self.slow.max(self.still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_link_that_hardly_passes_anything_is_slow_and_much_to_read_is_not() {
        // Records a second, bytes of each, records that are left, and after how many
        // seconds it is slow.
        for (each_second, bytes, left, expected) in [
            (0, 0, 1, Some(5)),
            (100, 50, 1001, Some(5)),
            (100, 50, 1000, None),
            (100, 20_000, 100_000, None),
            (2000, 0, 1 << 40, None),
            (1999, 0, 100_000, Some(5)),
        ] {
            let mut pace = Pace::default();
            // Offsets begin anywhere.
            let mut next = 1 << 30;
            let mut read = 0;
            pace.note(next, read, Some(next + left));
            let mut slow = None;
            for second in 1..20 {
                tokio::time::advance(WINDOW).await;
                next += each_second;
                read += each_second * bytes;
                pace.note(next, read, Some(next + left));
                if pace.is_slow() {
                    slow = slow.or(Some(second));
                }
                assert_eq!(pace.is_still(), each_second == 0 && 5 <= second);
            }
            assert_eq!(slow, expected, "{each_second} a second, {left} left");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_say_where_it_ends_stands_still_when_nothing_comes() {
        let mut pace = Pace::default();
        for second in 0..10 {
            // Something comes once.
            pace.note(u64::from(3 <= second), 0, None);
            assert!(!pace.is_slow());
            assert_eq!(pace.is_still(), 8 <= second, "{second}");
            tokio::time::advance(WINDOW).await;
        }
    }
}
