//! A sidecar: journals a command, executes it, and says what became of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use wal_sidecar::journal::{Appender, Completion};
use wal_sidecar::mutation::{MutationParts, Outcome, RecordBatch, Way, Writer, WriterOptions, v1};

use super::random::Random;
use super::spool::Spool;
use super::store::{Reply, Store};

/// What is known of a command that a client sent.
#[derive(Debug, Clone)]
pub struct Sent {
    pub command: Vec<Bytes>,
    /// Its record's clock and writer.
    pub version: (u64, u64),
    /// Virtual microseconds.
    pub began: u64,
    /// When its success was seen; none where it was not.
    pub acknowledged: Option<u64>,
    /// Its sidecar stood still before it was executed.
    pub is_late: bool,
    /// The datastore did not take it, and that was journaled.
    pub is_refused: bool,
}

pub struct Sidecar {
    pub writer: Writer,
    pub appender: Appender,
    /// Where it does not wait for the journal.
    pub spool: Option<Spool>,
    pub store: Rc<RefCell<Store>>,
    pub random: Random,
    /// How far the clock is off, in milliseconds, plus 1000.
    pub skew: u64,
    /// How often of a thousand commands it stands still before one, for longer than
    /// dead ones are waited for.
    pub freezes: u64,
    pub now_us: Rc<dyn Fn() -> u64>,
    pub log: Rc<RefCell<Vec<Sent>>>,
}

impl Sidecar {
    pub fn new(
        region: &str,
        appender: Appender,
        store: Rc<RefCell<Store>>,
        mut random: Random,
        now_us: Rc<dyn Fn() -> u64>,
        log: Rc<RefCell<Vec<Sent>>>,
    ) -> Sidecar {
        Sidecar {
            writer: Writer::new(WriterOptions {
                region: region.to_owned(),
                namespace: "test".to_owned(),
                store: v1::Store::Redis,
                writer: random.next(),
            }),
            appender,
            spool: None,
            store,
            skew: 998 + random.below(5),
            freezes: 0,
            random,
            now_us,
            log,
        }
    }

    fn now_ms(&self) -> u64 {
        (self.now_us)() / 1000 + self.skew - 1000
    }

    async fn append(&mut self, batch: RecordBatch) {
        self.writer.acknowledge(0);
        let last = self.writer.last_sequence();
        self.submit(batch).await;
        self.writer.acknowledge(last);
    }

    async fn submit(&mut self, batch: RecordBatch) {
        if let Some(spool) = &mut self.spool {
            spool.submit(batch);
            return;
        }
        self.appender.submit(batch);
        let mut completions: Vec<Completion> = Vec::new();
        std::future::poll_fn(|cx| self.appender.poll_completions(cx, &mut completions)).await;
    }

    /// Sends a few commands, one after another or overlapping. A crash may end
    /// it wherever it waits.
    pub async fn write(&mut self, commands: Vec<Vec<Bytes>>) {
        let mut batch = RecordBatch::default();
        let mut journaled = Vec::new();
        for command in commands {
            let name = name_of(&command).to_owned();
            let is_final = !matches!(name.as_str(), "SETNX" | "SPOP" | "BLPOP" | "FLUSHALL");
            let keys: Vec<&[u8]> = match name.as_str() {
                "MSET" => command[1..].chunks(2).map(|pair| &pair[0][..]).collect(),
                "RENAME" => command[1..].iter().map(|key| &key[..]).collect(),
                _ => command.get(1).map(|key| &key[..]).into_iter().collect(),
            };
            let arguments: Vec<&[u8]> = command.iter().map(|one| &one[..]).collect();
            let parts = MutationParts {
                commands: &[&arguments],
                keys: &keys,
                is_final,
            };
            let now = self.now_ms();
            let waits = name == "BLPOP";
            let link = match waits {
                true => 2,
                false => u32::from(self.random.permille(100)),
            };
            self.writer.via(Way { link, waits });
            let sequence = self.writer.mutation(&mut batch, now, 0, &parts);
            let hlc = batch.entries.last().expect("just written").hlc;
            self.log.borrow_mut().push(Sent {
                command: command.clone(),
                version: (hlc, self.writer.id()),
                began: (self.now_us)(),
                acknowledged: None,
                is_late: false,
                is_refused: false,
            });
            let place = self.log.borrow().len() - 1;
            journaled.push((link, command, sequence, is_final, place));
        }
        let copy = self.random.permille(60).then(|| batch.clone());
        self.append(batch).await;
        // What goes down one link is executed in order, and what waits at last.
        if self.random.permille(500) {
            journaled.sort_by_key(|one| if one.0 == 0 { 1 } else { one.0 & 2 });
        } else {
            journaled.sort_by_key(|one| one.0);
        }
        let mut is_late = false;
        for (link, command, sequence, is_final, place) in journaled {
            tokio::time::sleep(self.random.micros(1500)).await;
            if link == 2 {
                tokio::time::sleep(self.random.micros(200_000)).await;
            }
            if self.random.permille(self.freezes) {
                is_late = true;
                tokio::time::sleep(FREEZE + self.random.micros(4_000_000)).await;
            }
            self.log.borrow_mut()[place].is_late = is_late;
            if self.random.permille(8) {
                // The connection dies before the command, or after it.
                if self.random.permille(500) {
                    self.store
                        .borrow_mut()
                        .execute(&format!("{:x} {sequence}", self.writer.id()), &command);
                }
                let unknown = Outcome::Unknown {
                    reason: "no reply",
                    keys: Vec::new(),
                };
                self.tell(sequence, key_of(&command), &unknown).await;
                continue;
            }
            // Of counters others take that back exactly.
            let is_counter = matches!(name_of(&command), "INCRBY" | "HINCRBY");
            let is_refused = is_counter && self.random.permille(20);
            let reply = match is_refused {
                true => Reply::Error("LOADING".to_owned()),
                false => self
                    .store
                    .borrow_mut()
                    .execute(&format!("{:x} {sequence}", self.writer.id()), &command),
            };
            tokio::time::sleep(self.random.micros(500)).await;
            let outcome = outcome(&command, is_final, &reply);
            if !matches!(reply, Reply::Error(_)) {
                self.log.borrow_mut()[place].acknowledged = Some((self.now_us)());
            }
            match outcome {
                Some(outcome) => {
                    self.tell(sequence, key_of(&command), &outcome).await;
                    self.log.borrow_mut()[place].is_refused = is_refused;
                    self.store.borrow_mut().flushes_untold -=
                        u64::from(command[0] == b"FLUSHALL"[..]);
                }
                None => self.writer.settle(sequence),
            }
        }
        if let Some(copy) = copy {
            // As a producer whose acknowledgement was lost.
            self.submit(copy).await;
        }
    }

    async fn tell(&mut self, sequence: u64, key: &[u8], outcome: &Outcome) {
        let mut batch = RecordBatch::default();
        let now = self.now_ms();
        self.writer
            .outcome(&mut batch, now, 0, sequence, key, outcome);
        self.append(batch).await;
    }

    pub async fn heartbeat(&mut self) {
        let mut batch = RecordBatch::default();
        let now = self.now_ms();
        self.writer.heartbeat(&mut batch, now, &[]);
        self.append(batch).await;
    }

    pub async fn pause(&mut self) {
        let long = self.random.permille(100);
        let limit = if long { 200_000 } else { 12_000 };
        tokio::time::sleep(self.random.micros(limit)).await;
    }
}

const FREEZE: Duration = Duration::from_secs(4);

pub const HEARTBEAT: Duration = Duration::from_millis(50);

fn name_of(command: &[Bytes]) -> &str {
    std::str::from_utf8(&command[0]).expect("a name")
}

fn key_of(command: &[Bytes]) -> &[u8] {
    command.get(1).map_or(b"", |key| key)
}

fn outcome(command: &[Bytes], is_final: bool, reply: &Reply) -> Option<Outcome> {
    let effect = |arguments: Vec<Bytes>| Some(Outcome::Effects(vec![arguments]));
    match (&command[0][..], reply) {
        (_, Reply::Error(error)) => Some(Outcome::Rejected(error.clone())),
        _ if is_final => None,
        (b"SETNX", Reply::Ok) => effect(vec![
            Bytes::from("SET"),
            command[1].clone(),
            command[2].clone(),
        ]),
        (b"FLUSHALL", Reply::Ok) => effect(command.to_vec()),
        (b"BLPOP", Reply::Text(_)) => effect(vec![Bytes::from("LPOP"), command[1].clone()]),
        (b"SPOP", Reply::Text(member)) => effect(vec![
            Bytes::from("SREM"),
            command[1].clone(),
            Bytes::from(member.clone()),
        ]),
        _ => Some(Outcome::Rejected(String::new())),
    }
}
