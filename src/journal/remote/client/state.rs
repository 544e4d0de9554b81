//! What the caller wants and what has come: shared by the caller and the task
//! that has the connection.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::super::super::{Offset, ReadBatch};
use super::super::v1::query::What;
use super::super::{RECORD_OVERHEAD_BYTES, RemoteError};
use super::RemoteOptions;

/// Queries of one reader that wait for their answers.
const QUERIES_MAX: usize = 64;

/// The state, and who is to look at it.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// The caller wants something of the task.
    pub(super) work: Notify,
    /// The task has something for whoever waits.
    pub(super) news: watch::Sender<()>,
}

/// # Invariants
/// `position + records in chunks == received_next`.
#[derive(Debug)]
pub(super) struct State {
    /// The record that the caller gets next.
    pub(super) position: Offset,
    /// The record that comes over the connection next.
    pub(super) received_next: Offset,
    pub(super) needed: Offset,
    chunks: VecDeque<Chunk>,
    /// What the chunks count against the window.
    buffered: usize,
    /// What was taken, and not given back as credit.
    taken: usize,
    window: usize,
    /// The number of the feed that is wanted, if one is.
    pub(super) feed: Option<u32>,
    /// Why the feed ended, until the caller is told.
    pub(super) failure: Option<RemoteError>,
    pub(super) queries: Vec<Asked>,
    last_number: u32,
    pub(super) durable_next: Offset,
    pub(super) identity: Option<u64>,
    /// The identity of the server's journal, where it is not the one expected.
    replacement: Option<u64>,
    /// None while there is a connection.
    pub(super) down: Option<Down>,
}

/// A question, and its answer when that has come.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) number: u32,
    pub(super) what: What,
    /// Over the connection there is.
    pub(super) is_sent: bool,
    pub(super) answer: Option<Result<Offset, RemoteError>>,
}

/// There is no connection.
#[derive(Debug)]
pub(super) struct Down {
    pub(super) since: Instant,
    pub(super) trouble: Trouble,
    /// How often connecting has failed, or a connection broke, so far.
    pub(super) attempts: u64,
}

/// Why there is none.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// The server does not want us.
    Refused(String),
    /// Anything else.
    Broken(String),
}

/// Records that came in one frame and are not all taken.
#[derive(Debug)]
pub(super) struct Chunk {
    lengths: std::vec::IntoIter<u32>,
    /// From the first that is not taken on.
    records: Bytes,
}

impl Chunk {
    /// None where the lengths are not those of the bytes.
    pub(super) fn new(lengths: Vec<u32>, records: Bytes) -> Option<Chunk> {
        let total: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
        (total == records.len() as u64 && !lengths.is_empty()).then(|| Chunk {
            lengths: lengths.into_iter(),
            records,
        })
    }

    fn count(&self) -> usize {
        self.lengths.len()
    }

    fn cost(&self) -> usize {
        self.records.len() + self.count() * RECORD_OVERHEAD_BYTES
    }
}

impl Shared {
    pub(super) fn new(state: State) -> Shared {
        Shared {
            state: Mutex::new(state),
            work: Notify::new(),
            news: watch::Sender::new(()),
        }
    }

    /// Has whoever waits look at the state.
    pub(super) fn tell(&self) {
        self.news.send_replace(());
    }

    /// There is no connection, or there is still none.
    pub(super) fn lost(&self, trouble: Trouble) {
        self.state().lost(trouble);
        self.tell();
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn new(options: &RemoteOptions, from: Offset) -> State {
        State {
            position: from,
            received_next: from,
            needed: from,
            chunks: VecDeque::new(),
            buffered: 0,
            taken: 0,
            window: options.window_bytes,
            feed: None,
            failure: None,
            queries: Vec::new(),
            last_number: 0,
            durable_next: 0,
            identity: options.identity,
            replacement: None,
            down: Some(Down {
                since: Instant::now(),
                trouble: Trouble::Broken("not connected yet".to_owned()),
                attempts: 0,
            }),
        }
    }

    /// Numbers of feeds and queries; 0 is the connection's.
    fn next_number(&mut self) -> u32 {
        self.last_number = self.last_number.checked_add(1).unwrap_or(1);
        self.last_number
    }

    /// Has records sent, if they are not. True where that is new.
    pub(super) fn start_feed(&mut self) -> bool {
        let is_new = self.feed.is_none() && self.failure.is_none() && self.replacement.is_none();
        if is_new {
            self.feed = Some(self.next_number());
        }
        is_new
    }

    /// Moves records into `into`; false where there are none.
    pub(super) fn take_records(&mut self, into: &mut ReadBatch, bytes_max: usize) -> bool {
        while let Some(chunk) = self.chunks.front_mut() {
            let before = chunk.cost();
            for length in chunk.lengths.by_ref() {
                let record = chunk.records.split_to(length as usize);
                into.push(self.position, &record);
                self.position += 1;
                if bytes_max <= into.bytes() {
                    break;
                }
            }
            let cost = before - chunk.cost();
            self.buffered -= cost;
            self.taken += cost;
            if chunk.count() == 0 {
                self.chunks.pop_front();
            }
            if bytes_max <= into.bytes() {
                break;
            }
        }
        !into.is_empty()
    }

    /// Whether enough was taken to tell the server.
    pub(super) fn owes_credit(&self) -> bool {
        self.window / 4 <= self.taken
    }

    /// The credit to give for what was taken, if it is enough.
    pub(super) fn take_credit(&mut self) -> Option<u64> {
        self.owes_credit()
            .then(|| std::mem::take(&mut self.taken) as u64)
    }

    /// The credit of a feed that begins.
    pub(super) fn whole_credit(&mut self) -> u64 {
        self.taken = 0;
        self.window.saturating_sub(self.buffered) as u64
    }

    /// Records came. False where they are not those that come next.
    pub(super) fn put(&mut self, first: Offset, chunk: Chunk) -> bool {
        if first != self.received_next {
            return false;
        }
        self.received_next += chunk.count() as u64;
        self.buffered += chunk.cost();
        self.chunks.push_back(chunk);
        debug_assert_eq!(
            self.position + self.chunks.iter().map(|c| c.count() as u64).sum::<u64>(),
            self.received_next
        );
        true
    }

    pub(super) fn seek(&mut self, offset: Offset) {
        self.position = offset;
        self.received_next = offset;
        self.needed = self.needed.min(offset);
        self.chunks.clear();
        (self.buffered, self.taken) = (0, 0);
        (self.feed, self.failure) = (None, None);
        if let Some(identity) = self.replacement.take() {
            self.identity = Some(identity);
            self.needed = offset;
        }
    }

    /// The number of a new query.
    pub(super) fn ask(&mut self, what: What) -> Result<u32, RemoteError> {
        if QUERIES_MAX <= self.queries.len() {
            let reason = "too many queries at once".to_owned();
            return Err(RemoteError::Refused { reason });
        }
        let number = self.next_number();
        self.queries.push(Asked {
            number,
            what,
            is_sent: false,
            answer: None,
        });
        Ok(number)
    }

    /// The answer is here; of a query that was forgotten nothing becomes.
    pub(super) fn answer(&mut self, number: u32, answer: Result<Offset, RemoteError>) {
        let mut queries = self.queries.iter_mut();
        if let Some(query) = queries.find(|query| query.number == number) {
            query.answer = Some(answer);
        }
    }

    pub(super) fn take_answer(&mut self, number: u32) -> Option<Result<Offset, RemoteError>> {
        let mut queries = self.queries.iter_mut();
        queries.find(|query| query.number == number)?.answer.take()
    }

    pub(super) fn forget(&mut self, number: u32) {
        self.queries.retain(|query| query.number != number);
    }

    /// The server's journal has this identity; 0: it has none.
    pub(super) fn welcome(&mut self, identity: u64, durable_next: Offset) {
        self.down = None;
        self.durable_next = durable_next;
        for query in &mut self.queries {
            query.is_sent = false;
        }
        match self.identity {
            _ if identity == 0 => {}
            None => self.identity = Some(identity),
            Some(known) if known == identity => self.replacement = None,
            Some(_) => {
                self.replacement = Some(identity);
                self.feed = None;
            }
        }
    }

    /// The error, where the journal is not the one that was read.
    pub(super) fn replaced(&self) -> Option<RemoteError> {
        Some(RemoteError::Replaced {
            was: self.identity?,
            is: self.replacement?,
        })
    }

    fn lost(&mut self, trouble: Trouble) {
        match &mut self.down {
            Some(down) => {
                down.attempts += 1;
                down.trouble = trouble;
            }
            None => {
                self.down = Some(Down {
                    since: Instant::now(),
                    trouble,
                    attempts: 1,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut options = RemoteOptions::new("h:1", "n", "r");
        options.window_bytes = 400;
        State::new(&options, 10)
    }

    fn chunk(records: &[&'static str]) -> Chunk {
        let lengths = records.iter().map(|record| record.len() as u32).collect();
        Chunk::new(lengths, Bytes::from(records.concat())).unwrap()
    }

    fn take(state: &mut State, bytes_max: usize) -> Vec<(Offset, String)> {
        let mut into = ReadBatch::default();
        state.take_records(&mut into, bytes_max);
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        into.iter().map(|(at, bytes)| (at, text(bytes))).collect()
    }

    #[test]
    fn records_are_taken_over_chunks_and_credit_is_given_back_for_them() {
        let mut state = state();
        assert!(state.put(10, chunk(&["abc", "", "de"])));
        assert!(state.put(13, chunk(&["f"])));
        assert!(!state.put(13, chunk(&["g"])) && !state.put(15, chunk(&["g"])));
        assert_eq!(state.whole_credit(), 400 - 6 - 4 * 16);
        assert_eq!(take(&mut state, 1), [(10, "abc".to_owned())]);
        assert_eq!((state.position, state.take_credit()), (11, None));
        let rest = [(11, ""), (12, "de"), (13, "f")].map(|(at, text)| (at, text.to_owned()));
        assert_eq!(take(&mut state, 100), rest);
        assert_eq!(take(&mut state, 100), []);
        assert_eq!((state.buffered, state.taken), (0, 6 + 4 * 16));
        assert!(state.put(14, chunk(&["x"; 2])));
        take(&mut state, 100);
        assert_eq!(state.take_credit(), Some(104));
    }

    #[test]
    fn lengths_have_to_fit() {
        assert!(Chunk::new(vec![1, 1], Bytes::from_static(b"abc")).is_none());
        assert!(Chunk::new(vec![u32::MAX, 4], Bytes::from_static(b"abc")).is_none());
        assert!(Chunk::new(vec![], Bytes::new()).is_none());
    }

    #[test]
    fn another_journal_is_told_until_it_is_accepted() {
        let mut state = state();
        state.welcome(0, 0);
        state.welcome(5, 100);
        assert!(state.start_feed());
        assert!(state.put(10, chunk(&["a"])));
        state.welcome(6, 3);
        let replaced = RemoteError::Replaced { was: 5, is: 6 };
        assert_eq!(state.replaced(), Some(replaced));
        assert!(!state.start_feed());
        assert_eq!(take(&mut state, 9).len(), 1, "what came before is good");
        state.seek(0);
        assert_eq!((state.replaced(), state.identity), (None, Some(6)));
        assert!(state.start_feed());
    }
}
