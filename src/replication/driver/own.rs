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

/// After that the same part is waited for so long each time.
const GIVEN_UP: Duration = Duration::from_millis(50);

/// Who does not say where it ends is read for so long at the start, if more comes.
const UNKNOWN_MAX: Duration = Duration::from_secs(30);

/// Reading again takes long after this.
const LONG: Duration = Duration::from_secs(10);

/// Reading again what was applied of other regions before.
pub(super) struct ReadAgain {
    pub(super) is_done: bool,
    /// Whether it was gone on without a part of it.
    pub(super) goes_without: bool,
    began: Instant,
    /// It was told that it takes long.
    is_told: bool,
}

impl ReadAgain {
    pub(super) fn begun(at: Instant) -> ReadAgain {
        ReadAgain {
            is_done: false,
            goes_without: false,
            began: at,
            is_told: false,
        }
    }

    /// There is more to be read.
    pub(super) fn begin(&mut self) {
        if self.is_done {
            self.is_done = false;
            self.began = Instant::now();
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
    /// renewed meanwhile. Who can't be read, or hardly, is not waited for long: what
    /// is read of it later is told. Whether there was anything.
    pub(super) async fn read_ahead(&mut self) -> bool {
        let before = self.own_read();
        let turn = Instant::now() + READ_AHEAD;
        let ends = self.ends_of_own(turn).await;
        for (feed, end) in self.own.iter_mut().zip(&ends) {
            feed.note_pace(*end);
        }
        let mut order: Vec<usize> = (0..self.own.len()).collect();
        order.sort_by_key(|at| self.own[*at].pace.slowness());
        for &at in &order {
            while ends[at].is_some_and(|end| self.own[at].next < end) {
                match tokio::time::timeout_at(turn, self.own[at].next()).await {
                    Ok(Some(found)) => self.note_own(at, found),
                    Ok(None) | Err(_) => break,
                }
                if turn <= Instant::now() {
                    break;
                }
            }
        }
        let is_read = |(feed, end): (&Feed, &Option<u64>)| end.is_some_and(|end| end <= feed.next);
        let is_enough = UNKNOWN_MAX <= self.opening.elapsed();
        let is_over = |(feed, end): (&Feed, &Option<u64>)| match end {
            Some(_) => is_read((feed, end)) || feed.pace.is_slow(),
            None => feed.pace.is_still() || is_enough,
        };
        self.is_read_ahead = self.own.iter().zip(&ends).all(is_over);
        if self.is_read_ahead {
            for (feed, end) in self.own.iter_mut().zip(&ends) {
                if !is_read((feed, end)) {
                    feed.late_through = u64::MAX;
                }
            }
        }
        self.is_read_ahead || before != self.own_read()
    }

    /// How far the own journals are read, all of them.
    fn own_read(&self) -> u64 {
        self.own.iter().map(|feed| feed.next).sum()
    }

    /// Whether what was applied of other regions before this one led was read
    /// again, so that it is known how old their keys are. One that can't be read
    /// is not waited for long, nor one whose link hardly passes anything: then what
    /// looks like the newest change of a key is perhaps not, and its key is told
    /// instead of having that made again.
    pub(super) fn is_read_again(&mut self) -> bool {
        if self.read_again.is_done {
            return true;
        }
        let (mut waits_for, mut is_part_left) = (None, false);
        for (feed, inlet, _) in &mut self.inlets {
            // What is kept aside is not waited for.
            if inlet.applied <= feed.next || inlet.is_late && !inlet.is_part {
                continue;
            }
            feed.note_pace(Some(inlet.applied));
            let is_over = match inlet.is_part {
                true => feed.pace.is_still(),
                false => feed.pace.is_slow(),
            };
            match is_over {
                true => is_part_left |= inlet.is_part,
                false => waits_for = waits_for.or(Some(feed.name.clone())),
            }
        }
        if self.read_again.is_to_be_told()
            && let Some(source) = &waits_for
        {
            tracing::warn!(
                namespace = self.options.namespace,
                source,
                "nothing is applied until what was applied of this source before is read again, \
                 which takes long"
            );
        }
        let is_open = self.closed.is_empty() || self.is_going_without();
        if !is_open || waits_for.is_some() {
            return false;
        }
        let closed = self.closed.iter().map(|one| (one.partition, one.applied));
        let mut unread: Vec<_> = closed.collect();
        for (feed, inlet, _) in &mut self.inlets {
            if feed.next < inlet.applied {
                inlet.is_late = true;
                unread.push((inlet.partition, inlet.applied));
            }
        }
        self.read_again.is_done = true;
        self.read_again.goes_without |= !unread.is_empty();
        self.engine.goes_without(unread, is_part_left);
        true
    }

    /// Reads the own journal to its end.
    pub(super) async fn catch_up(&mut self) {
        self.engine.now = self.started.elapsed();
        let patience = match self.is_blind {
            true => PATIENCE,
            false => CATCH_UP,
        };
        // Those that are late were waited for before.
        let is_given_up = self.inexact.is_some_and(|since| INEXACT <= since.elapsed());
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
            let is_late = feed.late_through == u64::MAX;
            if is_late {
                feed.late_through = end;
            }
            let until = match is_given_up && is_late {
                true => deadline.min(Instant::now() + GIVEN_UP),
                false => deadline,
            };
            while self.own[at].next < end {
                let next = tokio::time::timeout_at(until, self.own[at].next()).await;
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
