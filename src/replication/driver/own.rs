//! Reads the own region's journals.

use super::*;

/// All partitions of a topic are said to be unreachable for so long.
const PATIENCE: Duration = Duration::from_millis(500);

/// A topic whose brokers don't say where it ends is asked again after this.
const PAUSE: Duration = Duration::from_millis(100);

/// A part of the own journal that can't be read keeps everything from being applied,
/// and values from being told, for so long: who takes over meanwhile has to know of
/// them, see [`super::open`].
pub(super) const INEXACT: Duration = Duration::from_secs(20);

/// Reading again takes long after this.
const LONG: Duration = Duration::from_secs(10);

/// The same part is not waited for any longer each time, once it was for that.
const GIVEN_UP: Duration = Duration::from_millis(50);

/// Where fewer records than this come a second, and more than [`LONG`] is left, it is
/// slow: a link that hardly passes anything, not a processor that has much to do.
const SLOW: u64 = 2000;

/// How often it is looked at how fast something is read.
const WINDOW: Duration = Duration::from_secs(1);

/// What is slow for so long is gone on without.
const WINDOWS: u32 = (CATCH_UP.as_secs() / WINDOW.as_secs()) as u32;

/// How fast something is read.
pub(super) struct Pace {
    /// Records that were read at the begin of the window.
    read: u64,
    since: Instant,
    /// So many windows before were slow.
    slow: u32,
}

impl Pace {
    pub(super) fn begun(at: Instant) -> Pace {
        Pace {
            read: 0,
            since: at,
            slow: 0,
        }
    }

    /// So many records are read, and so many are to be; whether it is slow.
    fn is_slow(&mut self, read: u64, left: u64) -> bool {
        let elapsed = self.since.elapsed();
        if WINDOW <= elapsed {
            let records = read.saturating_sub(self.read) as f64;
            let each_second = records / elapsed.as_secs_f64();
            let is_long = each_second * LONG.as_secs_f64() < left as f64;
            self.slow = match is_long && each_second < SLOW as f64 {
                true => self.slow + 1,
                false => 0,
            };
            (self.read, self.since) = (read, self.since + elapsed);
        }
        WINDOWS <= self.slow
    }
}

/// Reading again what was applied of other regions before.
pub(super) struct ReadAgain {
    pub(super) is_done: bool,
    /// Whether it was gone on without a part of it.
    pub(super) goes_without: bool,
    began: Instant,
    pace: Pace,
    /// It was told that it takes long.
    is_told: bool,
}

impl ReadAgain {
    pub(super) fn begun(at: Instant) -> ReadAgain {
        ReadAgain {
            is_done: false,
            goes_without: false,
            began: at,
            pace: Pace::begun(at),
            is_told: false,
        }
    }

    /// There is more to be read.
    pub(super) fn begin(&mut self) {
        let now = Instant::now();
        self.pace = Pace::begun(now);
        if self.is_done {
            self.is_done = false;
            self.began = now;
            self.is_told = false;
        }
    }

    /// Whether it is to be told that it takes long.
    fn is_to_be_told(&mut self) -> bool {
        let is_told = std::mem::replace(&mut self.is_told, LONG <= self.began.elapsed());
        !is_told && self.is_told
    }
}

impl<T: Target> Driver<T> {
    pub(super) fn note_own(&mut self, at: usize, found: Vec<Found>) {
        let (partition, late_through) = (self.own[at].partition, self.own[at].late_through);
        for Found { offset, record } in found {
            let seen = self.own_seen.entry((partition, record.writer)).or_insert(0);
            if record.sequence <= *seen {
                continue;
            }
            *seen = record.sequence;
            self.engine.is_late = offset < late_through;
            self.outlet.observe(record.hlc);
            self.engine.own(partition, offset, &record);
        }
    }

    /// Reads what the own journals have, before anything is decided: it may be
    /// much, as after a region was away for long. In turns, so that the lease is
    /// renewed meanwhile. Whether there was anything.
    pub(super) async fn read_ahead(&mut self) -> bool {
        let before = self.own_read();
        let turn = Instant::now() + READ_AHEAD;
        let ends = self.ends_of_own(turn).await;
        let left =
            |(end, feed): (&Option<u64>, &Feed)| end.map(|end| end.saturating_sub(feed.next));
        let left = ends.iter().zip(&self.own).filter_map(left).sum();
        if self.own_pace.is_slow(before, left) {
            // What is read later is told.
            self.is_read_ahead = true;
            return true;
        }
        let is_any_unknown = ends.iter().any(Option::is_none);
        for (at, end) in ends.into_iter().enumerate() {
            while end.is_some_and(|end| self.own[at].next < end) {
                match tokio::time::timeout_at(turn, self.own[at].next()).await {
                    Ok(Some(found)) => {
                        self.stalled = None;
                        self.note_own(at, found);
                    }
                    Ok(None) => break,
                    Err(_) => {
                        self.has_stalled(turn);
                        return before != self.own_read();
                    }
                }
                if turn <= Instant::now() {
                    return true;
                }
            }
        }
        match is_any_unknown {
            true => self.has_stalled(turn),
            false => self.is_read_ahead = true,
        }
        self.is_read_ahead || before != self.own_read()
    }

    /// How far the own journals are read, all of them.
    fn own_read(&self) -> u64 {
        self.own.iter().map(|feed| feed.next).sum()
    }

    /// Who can't be read is not waited for long: what is read later is told.
    fn has_stalled(&mut self, since: Instant) {
        let since = *self.stalled.get_or_insert(since);
        self.is_read_ahead = CATCH_UP <= since.elapsed();
    }

    /// Whether what was applied of other regions before this one led was read
    /// again, so that it is known how old their keys are. One that can't be read
    /// is not waited for long: then what looks like the newest change of a key is
    /// perhaps not, and its key is told instead of having that made again. Nor is one
    /// whose link hardly passes anything.
    pub(super) fn is_read_again(&mut self) -> bool {
        if self.read_again.is_done {
            return true;
        }
        // Others that go on are no progress.
        let again = |(feed, inlet, _): &(Feed, Inlet, _)| feed.next.min(inlet.applied);
        let read = self.inlets.iter().map(again).sum();
        let left = |(feed, inlet, _): &(Feed, Inlet, _)| inlet.applied.saturating_sub(feed.next);
        let left = self.inlets.iter().map(left).sum::<u64>();
        // What can't be read yet is waited for as long.
        let left = left.max(u64::from(!self.closed.is_empty()));
        let is_slow = self.read_again.pace.is_slow(read, left);
        let is_to_be_told = self.read_again.is_to_be_told();
        let behind = self.behind();
        let is_behind = behind.is_some();
        if let Some(source) = behind.filter(|_| is_to_be_told) {
            tracing::warn!(
                namespace = self.options.namespace,
                source,
                "nothing is applied until what was applied of this source before is read again, \
                 which takes long"
            );
        }
        let is_whole = self.closed.is_empty() && !is_behind;
        let is_enough = self.is_going_without() && !is_behind;
        if is_whole || is_enough || is_slow {
            self.read_again.is_done = true;
            self.read_again.goes_without |= !is_whole;
            let closed = self.closed.iter().map(|one| (one.partition, one.applied));
            let mut unread: Vec<_> = closed.collect();
            for (feed, inlet, _) in &mut self.inlets {
                if feed.next < inlet.applied {
                    inlet.is_late = true;
                    unread.push((inlet.partition, inlet.applied));
                }
            }
            self.engine.goes_without(unread);
        }
        self.read_again.is_done
    }

    /// Reads the own journal to its end.
    pub(super) async fn catch_up(&mut self) {
        self.engine.now = self.started.elapsed();
        let is_given_up = self.inexact.is_some_and(|since| INEXACT <= since.elapsed());
        let patience = match (self.is_blind, is_given_up) {
            (true, _) => PATIENCE,
            (false, true) => GIVEN_UP,
            (false, false) => CATCH_UP,
        };
        let deadline = Instant::now() + patience;
        let ends = self.ends_of_own(deadline).await;
        self.is_blind = ends.iter().all(Option::is_none);
        // Those that are late last: they may take all the time.
        let mut order: Vec<usize> = (0..self.own.len()).collect();
        order.sort_by_key(|at| self.own[*at].late_through == u64::MAX);
        for at in order {
            let feed = &mut self.own[at];
            let Some(end) = ends[at] else {
                feed.late_through = u64::MAX;
                continue;
            };
            if feed.late_through == u64::MAX {
                feed.late_through = end;
            }
            while self.own[at].next < end {
                let next = tokio::time::timeout_at(deadline, self.own[at].next()).await;
                let Ok(Some(found)) = next else {
                    self.own[at].late_through = u64::MAX;
                    break;
                };
                self.note_own(at, found);
            }
        }
        let unread = self.own.iter().find(|feed| feed.late_through == u64::MAX);
        if self.own_unopened == 0 && unread.is_none() {
            self.inexact = None;
        } else if self.inexact.is_none() {
            self.inexact = Some(Instant::now());
            tracing::warn!(
                namespace = self.options.namespace,
                source = unread.map(|feed| &feed.name),
                "a part of this region's own journal can't be read; nothing is applied until it \
                 can, for {} s at most",
                INEXACT.as_secs()
            );
        }
        self.engine.is_inexact = !self.is_exact();
        // What could not be read is late, and its keys are told when it is.
        self.engine.is_caught_up();
    }

    /// Whether the own journal was read to its end, all of it. What can't be read for
    /// very long is not waited for: its keys are told once more when it is.
    pub(super) fn is_exact(&self) -> bool {
        let is_ignored = self.options.sabotage == Sabotage::Inexact;
        self.inexact
            .is_none_or(|since| INEXACT <= since.elapsed() || is_ignored)
    }

    /// Where they end; none of those that don't say. Where no broker answers it is
    /// tried again until then.
    pub(super) async fn ends_of_own(&self, deadline: Instant) -> Vec<Option<u64>> {
        let is_topic = matches!(self.options.own, Journal::Kafka(_) | Journal::Spool(_));
        loop {
            let asked = tokio::time::timeout_at(deadline, feed::ends(&self.own)).await;
            let ends = asked.unwrap_or_else(|_| vec![None; self.own.len()]);
            let is_known = !is_topic || ends.iter().any(Option::is_some);
            if is_known || deadline <= Instant::now() + PAUSE {
                return ends;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_link_that_hardly_passes_anything_is_slow_and_much_to_read_is_not() {
        // Records a second, records that are left, and after how many seconds it is slow.
        for (each_second, left, expected) in [
            (0, 1, Some(5)),
            (100, 1001, Some(5)),
            (100, 1000, None),
            (SLOW, u64::MAX, None),
            (SLOW - 1, 100_000, Some(5)),
        ] {
            let mut pace = Pace::begun(Instant::now());
            let mut read = 0;
            let mut slow = None;
            for second in 1..20 {
                tokio::time::advance(WINDOW).await;
                read += each_second;
                if pace.is_slow(read, left) {
                    slow = slow.or(Some(second));
                }
            }
            assert_eq!(slow, expected, "{each_second} a second, {left} left");
        }
    }
}
