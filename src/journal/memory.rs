//! A journal in memory that does what a test says: holds completions back,
//! fails them, refuses records. It keeps everything.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::appender::{Inbox, Staged};
use super::statistics::Counters;
use super::{
    AppendError, Appender, JournalState, JournalStats, Offset, ReadBatch, ReadError, Verdict,
};

/// Options of a [`MemoryJournal`].
#[derive(Debug, Clone)]
pub struct MemoryOptions {
    /// Bytes of records that may wait while completions are held.
    pub inbox_bytes_max: usize,
    /// Whether completions are held from the start.
    pub held: bool,
    /// As a topic has: a record's key says in which it is; one without a key is
    /// in each.
    pub partitions: u32,
    /// The number of the first of them, where all journals of a region have
    /// different ones.
    pub number: u32,
}

impl Default for MemoryOptions {
    fn default() -> MemoryOptions {
        MemoryOptions {
            inbox_bytes_max: super::local::INBOX_BYTES_MAX,
            held: false,
            partitions: 1,
            number: 0,
        }
    }
}

/// The journal, with levers for tests.
#[derive(Debug)]
pub struct MemoryJournal {
    shared: Arc<Shared>,
    /// Which view of it.
    view: usize,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    counters: Counters,
    inbox_bytes_max: usize,
    number: u32,
}

#[derive(Debug, Default)]
struct State {
    partitions: Vec<Vec<Vec<u8>>>,
    waiting: VecDeque<Staged>,
    waiting_bytes: usize,
    held: bool,
    closed: bool,
    failing: VecDeque<(AppendError, Vec<Verdict>)>,
    state: Option<JournalState>,
    /// Through which views it can't be read.
    is_away: Vec<bool>,
    /// Records that readers still get, by view; all, where nothing was said.
    allowed: Vec<u64>,
    watchers: Vec<Waker>,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new(options: MemoryOptions) -> MemoryJournal {
        let state = State {
            held: options.held,
            partitions: vec![Vec::new(); options.partitions.max(1) as usize],
            is_away: vec![false],
            allowed: vec![u64::MAX],
            ..State::default()
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            counters: Counters::default(),
            inbox_bytes_max: options.inbox_bytes_max,
            number: options.number,
        });
        MemoryJournal { shared, view: 0 }
    }

    /// The same journal, as it is read over another link.
    pub fn view(&self) -> MemoryJournal {
        let mut state = self.shared.state();
        state.is_away.push(false);
        state.allowed.push(u64::MAX);
        let view = state.is_away.len() - 1;
        drop(state);
        MemoryJournal {
            shared: Arc::clone(&self.shared),
            view,
        }
    }

    /// From now on hand-overs are taken, but do not become durable.
    pub fn hold(&self) {
        self.shared.state().held = true;
    }

    /// Completes the oldest `hand_overs` held ones; returns how many there were.
    pub fn release(&self, hand_overs: usize) -> usize {
        let (mut released, mut state) = (Vec::new(), self.shared.state());
        for _ in 0..hand_overs {
            released.extend(state.waiting.pop_front());
        }
        self.shared.complete(state, released)
    }

    /// Completes all that are held, and holds no more.
    pub fn release_all(&self) -> usize {
        let mut state = self.shared.state();
        state.held = false;
        let released = Vec::from(std::mem::take(&mut state.waiting));
        self.shared.complete(state, released)
    }

    /// How many hand-overs are held.
    pub fn held(&self) -> usize {
        self.shared.state().waiting.len()
    }

    /// The next hand-over to complete fails with `error`; called again, the
    /// one after it.
    pub fn fail_next(&self, error: AppendError) {
        self.fail_some(error, Vec::new());
    }

    /// As [`MemoryJournal::fail_next`], but with an own verdict on each record:
    /// those that are stored are.
    pub fn fail_some(&self, error: AppendError, verdicts: Vec<Verdict>) {
        self.shared.state().failing.push_back((error, verdicts));
    }

    /// Makes the journal refuse records as one in this state would.
    pub fn set_state(&self, state: JournalState) {
        self.shared.state().state = Some(state);
    }

    /// Has nobody read it until it is back, as one that can't be reached: how many
    /// partitions it has is not known meanwhile.
    pub fn set_away(&self, is_away: bool) {
        let mut state = self.shared.state();
        state.is_away[self.view] = is_away;
        wake_all(&mut state.watchers);
    }

    /// Has readers get so many records more, and no others, as over a link that hardly
    /// passes anything; `None` takes it back.
    pub fn allow(&self, records: Option<u64>) {
        let mut state = self.shared.state();
        let allowed = &mut state.allowed[self.view];
        *allowed = match (records, *allowed) {
            (None, _) => u64::MAX,
            (Some(records), u64::MAX) => records,
            (Some(records), left) => left + records,
        };
        wake_all(&mut state.watchers);
    }

    /// All durable records of the first partition, by offset.
    pub fn records(&self) -> Vec<Vec<u8>> {
        self.records_of(self.shared.number)
    }

    /// All durable records of a partition, by offset.
    pub fn records_of(&self, partition: u32) -> Vec<Vec<u8>> {
        self.shared.state().partitions[self.shared.at(partition)].clone()
    }

    /// Adds a record to a partition, as if it had been handed over.
    pub fn add(&self, partition: u32, record: &[u8]) {
        let mut state = self.shared.state();
        let at = self.shared.at(partition);
        state.partitions[at].push(record.to_vec());
        wake_all(&mut state.watchers);
    }

    pub(super) fn appender(&self) -> Appender {
        Appender::new(Inbox::Memory(Arc::clone(&self.shared)))
    }

    pub(super) fn partitions(&self) -> u32 {
        let state = self.shared.state();
        match state.is_away[self.view] {
            true => 0,
            false => state.partitions.len() as u32,
        }
    }

    /// The number of the first of them.
    pub(super) fn number(&self) -> u32 {
        self.shared.number
    }

    /// First and last-plus-one offset; none while it can't be read.
    pub(super) fn bounds(&self, partition: u32) -> Result<(Offset, Offset), ReadError> {
        let state = self.shared.state();
        match state.is_away[self.view] {
            true => Err(ReadError::Away),
            false => Ok((0, state.partitions[self.shared.at(partition)].len() as u64)),
        }
    }

    pub(super) fn reader(&self, partition: u32, from: Offset) -> MemoryReader {
        MemoryReader {
            shared: Arc::clone(&self.shared),
            view: self.view,
            partition: self.shared.at(partition),
            position: from,
        }
    }

    pub(super) fn flush(&self) -> Result<(), AppendError> {
        let mut state = self.shared.state();
        let released = Vec::from(std::mem::take(&mut state.waiting));
        self.shared.complete(state, released);
        match self.state() {
            JournalState::Accepting | JournalState::Unavailable(_) => Ok(()),
            JournalState::DiskFull => Err(AppendError::NotAppended("disk full".to_owned())),
            JournalState::Poisoned(reason) => Err(AppendError::NotAppended(reason)),
        }
    }

    pub(super) fn durable_through(&self, partition: u32) -> Option<Offset> {
        (self.shared.state().partitions[self.shared.at(partition)].len() as u64).checked_sub(1)
    }

    pub(super) fn state(&self) -> JournalState {
        let state = self.shared.state().state.clone();
        state.unwrap_or(JournalState::Accepting)
    }

    pub(super) fn stats(&self) -> JournalStats {
        JournalStats {
            waiting_bytes: self.shared.state().waiting_bytes as u64,
            ..self.shared.counters.snapshot()
        }
    }

    pub(super) fn close(&self) -> Result<(), AppendError> {
        let flushed = self.flush();
        let mut state = self.shared.state();
        state.closed = true;
        wake_all(&mut state.watchers);
        flushed
    }
}

impl Shared {
    /// Where the partition of this number is.
    fn at(&self, number: u32) -> usize {
        (number - self.number) as usize
    }

    pub(super) fn stage(&self, staged: Staged) -> Result<(), (Staged, AppendError)> {
        let mut state = self.state();
        let refusal = match &state.state {
            _ if state.closed => Some("journal is closed".to_owned()),
            Some(JournalState::DiskFull) => Some("disk full".to_owned()),
            Some(JournalState::Poisoned(reason)) => Some(format!("journal poisoned: {reason}")),
            _ if self.inbox_bytes_max <= state.waiting_bytes => {
                Some(super::local::backlog_text(state.waiting_bytes))
            }
            _ => None,
        };
        if let Some(reason) = refusal {
            return Err((staged, AppendError::NotAppended(reason)));
        }
        state.waiting_bytes += staged.records.bytes.len();
        if state.held {
            state.waiting.push_back(staged);
        } else {
            self.complete(state, vec![staged]);
        }
        Ok(())
    }

    pub(super) fn has_room(&self) -> bool {
        self.state().waiting_bytes < self.inbox_bytes_max
    }

    fn complete(&self, mut state: MutexGuard<'_, State>, group: Vec<Staged>) -> usize {
        let completed = group.len();
        let mut outboxes = Vec::with_capacity(completed);
        for mut staged in group {
            let records = &staged.records;
            state.waiting_bytes -= records.bytes.len();
            let (count, bytes) = (records.entries.len() as u64, records.bytes.len() as u64);
            let fence = staged.fence().map(|error| (error, Vec::new()));
            let mut verdicts = Vec::new();
            let result = match fence.or_else(|| state.failing.pop_front()) {
                Some((error, each)) => {
                    let stored = staged.records.records().zip(&each);
                    let stored = stored.filter(|(_, verdict)| **verdict == Verdict::Stored);
                    for ((entry, bytes), _) in stored {
                        state.store(&records.bytes[entry.key.0..entry.key.1], bytes);
                    }
                    verdicts = each;
                    let failed = &self.counters.failed_records;
                    failed.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
                    Err(error)
                }
                None => {
                    let first = state.partitions[0].len() as u64;
                    for (entry, bytes) in records.records() {
                        state.store(&records.bytes[entry.key.0..entry.key.1], bytes);
                    }
                    self.counters.committed(count, bytes, 0);
                    Ok(first)
                }
            };
            let mut completion = staged.complete(result);
            completion.verdicts = verdicts;
            staged.outbox.push(completion);
            outboxes.push(staged.outbox);
        }
        wake_all(&mut state.watchers);
        drop(state);
        for outbox in outboxes {
            outbox.wake();
        }
        completed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn store(&mut self, key: &[u8], record: &[u8]) {
        let count = self.partitions.len();
        match key {
            [] => {
                for partition in &mut self.partitions {
                    partition.push(record.to_vec());
                }
            }
            key => {
                let hash = xxhash_rust::xxh3::xxh3_64(key);
                self.partitions[(hash % count as u64) as usize].push(record.to_vec());
            }
        }
    }
}

fn wake_all(watchers: &mut Vec<Waker>) {
    for watcher in watchers.drain(..) {
        watcher.wake();
    }
}

/// Reads a [`MemoryJournal`].
#[derive(Debug)]
pub(super) struct MemoryReader {
    shared: Arc<Shared>,
    view: usize,
    partition: usize,
    position: Offset,
}

impl MemoryReader {
    pub(super) fn next_batch(&mut self, into: &mut ReadBatch, bytes_max: usize) {
        let mut state = self.shared.state();
        let state = &mut *state;
        let records = &state.partitions[self.partition];
        while let Some(record) = records
            .get(self.position as usize)
            .filter(|_| !state.is_away[self.view] && 0 < state.allowed[self.view])
        {
            into.push(self.position, record);
            self.position += 1;
            let allowed = &mut state.allowed[self.view];
            // Without a limit it stays without one.
            *allowed -= u64::from(*allowed != u64::MAX);
            if bytes_max <= into.bytes() {
                break;
            }
        }
    }

    pub(super) fn position(&self) -> Offset {
        self.position
    }

    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.shared.state();
        let is_any = self.position < state.partitions[self.partition].len() as u64;
        if is_any && !state.is_away[self.view] && 0 < state.allowed[self.view] {
            return Poll::Ready(true);
        }
        if state.closed {
            return Poll::Ready(false);
        }
        state.watchers.push(context.waker().clone());
        Poll::Pending
    }
}
