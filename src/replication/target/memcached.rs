//! memcached 1.6 or newer, one server or several.
//!
//! There are no transactions. What stands in for them:
//!
//! - Watching a key remembers its cas number, or that it is absent; a commit
//!   writes under that condition. Where one write of a commit fails, others are
//!   done all the same: all commands are idempotent, and the driver decides and
//!   commits again. Where memcached runs without cas numbers (`-C`), writes are
//!   unconditional.
//! - A `touch` is a conditional write of the value that was read, as a plain one
//!   takes no condition: the key has a new cas number then.
//! - Checkpoints are in a file of this process, at most a
//!   second old. Another replicator that takes over goes on from its own.
//! - What the command line asks for is in files beside these, so it has to be
//!   asked where the leader runs.
//! - The lease is a key with a time to live. If it is evicted, or flushed, it is
//!   taken again; that may let two replicators write for a moment, which is as
//!   good as one that writes twice.
//!
//! The own zone decides what is done; the other zones get copies without any
//! condition, so one of these that a client writes at the same moment may differ
//! from the own zone until the key is written next, as when two clients write.
//! A server that is away holds everything, until it is ejected if it ever is.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Committed, DatabaseKey, Page, Target, TargetError, Value};
use crate::datastore::cache::{Cache, Condition, Item, Reply, Said, is_key};
use crate::datastore::ring::RingOptions;
use crate::platform::Platform;
use crate::replication::OWN_KEYS;
use crate::replication::engine::Command;
use checkpoints::Checkpoints;
use scan::Dumping;

mod checkpoints;
mod commit;
mod desk;
mod scan;
mod writes;

/// How long replies may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a lease holds, in seconds; another replicator waits for as long.
const LEASE_SECONDS: i64 = 10;

/// A lease that was renewed so lately is not renewed again.
const RENEW_AFTER: Duration = Duration::from_secs(2);

/// A lease that others take and lose meanwhile is tried so often.
const LEASE_ATTEMPTS: usize = 4;

/// The own zone, which decides and answers.
const OWN_ZONE: usize = 0;

/// Values that are read at once; each has up to 1 MiB as a rule.
const READ_MAX: usize = 64;

/// What a key was when it was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Absent,
    Unique(u64),
}

/// The servers of a namespace, connected to when they are needed.
pub struct Memcached {
    cache: Cache,
    lease: Bytes,
    /// Who this is, in the lease.
    holder: Bytes,
    renewed_at: Option<Instant>,
    watched: HashMap<Bytes, Seen>,
    checkpoints: Checkpoints,
    /// Keys that are looked for, or were found and not taken.
    dumping: Option<Dumping>,
    /// Keys that were asked for and not taken.
    to_tell: Vec<DatabaseKey>,
}

impl Memcached {
    /// The servers of a namespace; `holder` is drawn at random. Checkpoints are
    /// kept in the file of that name, which need not exist.
    pub fn new(
        options: RingOptions,
        namespace: &str,
        holder: u64,
        checkpoints: PathBuf,
    ) -> Memcached {
        let own = String::from_utf8_lossy(OWN_KEYS);
        Memcached {
            cache: Cache::new(options, TIMEOUT),
            lease: Bytes::from(format!("{own}lease:{namespace}")),
            holder: Bytes::from(format!("{holder:016x}")),
            renewed_at: None,
            watched: HashMap::new(),
            checkpoints: Checkpoints::new(checkpoints),
            dumping: None,
            to_tell: Vec::new(),
        }
    }

    /// Sends what was pushed. Of the replies none says that the server can't
    /// for now.
    async fn exchange(&mut self) -> Result<Vec<Reply>, TargetError> {
        let replies = self.cache.exchange().await;
        let replies = replies.map_err(|error| TargetError::Away(error.to_string()))?;
        for reply in &replies {
            match reply.said() {
                Said::Busy => return Err(TargetError::Busy(reply.text())),
                Said::Nonsense => {
                    let said = reply.text();
                    return Err(TargetError::Away(format!("the datastore said {said}")));
                }
                Said::Done | Said::Absent | Said::Differs | Said::Refused => {}
            }
        }
        Ok(replies)
    }

    async fn exchange_one(&mut self) -> Result<Reply, TargetError> {
        let last = self.exchange().await?.pop();
        last.ok_or_else(|| TargetError::Away("no reply".to_owned()))
    }

    /// Which of the keys exist.
    pub(in crate::replication) async fn exist(
        &mut self,
        keys: &[DatabaseKey],
    ) -> Result<Vec<bool>, TargetError> {
        for (_, key) in keys {
            self.cache.get(OWN_ZONE, key, "s");
        }
        let replies = self.exchange().await?;
        Ok(replies.iter().map(|one| one.said() == Said::Done).collect())
    }

    /// Tries to write the lease; whether it was.
    async fn write_lease(&mut self, condition: Condition) -> Result<bool, TargetError> {
        let item = Item {
            flags: 0,
            time: LEASE_SECONDS,
            value: self.holder.clone(),
        };
        self.cache.set(OWN_ZONE, &self.lease, &item, condition);
        let is_written = self.exchange_one().await?.said() == Said::Done;
        if is_written {
            self.renewed_at = Some(Instant::now());
        }
        Ok(is_written)
    }
}

/// What a reply with flag `c` says of a key.
fn seen(reply: &Reply) -> Seen {
    match reply.number(b'c') {
        Some(unique) => Seen::Unique(unique),
        None => Seen::Absent,
    }
}

fn file_error(error: std::io::Error) -> TargetError {
    TargetError::Busy(format!("the file of checkpoints: {error}"))
}

impl Target for Memcached {
    async fn lead(&mut self) -> Result<bool, TargetError> {
        self.cache.probe().await;
        for _ in 0..LEASE_ATTEMPTS {
            if self.write_lease(Condition::Absent).await? {
                return Ok(true);
            }
            self.cache.get(OWN_ZONE, &self.lease, "v c");
            let found = self.exchange_one().await?;
            let Seen::Unique(unique) = seen(&found) else {
                continue;
            };
            if found.value.as_ref() != Some(&self.holder) {
                return Ok(false);
            }
            if self.write_lease(condition(unique)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn resign(&mut self) {
        if let Err(error) = self.checkpoints.write() {
            tracing::warn!(%error, "the last checkpoints were not written");
        }
        self.cache.get(OWN_ZONE, &self.lease, "v c");
        let Ok(found) = self.exchange_one().await else {
            return;
        };
        if found.value.as_ref() == Some(&self.holder)
            && let Seen::Unique(unique) = seen(&found)
        {
            self.cache.delete(OWN_ZONE, &self.lease, condition(unique));
            // Whoever waits has the lease when it has run out anyway.
            let _ = self.exchange_one().await;
        }
        self.renewed_at = None;
    }

    async fn load(&mut self) -> Result<Vec<(String, String)>, TargetError> {
        let known = self.checkpoints.load().map_err(file_error)?;
        Ok(known.clone())
    }

    async fn watch(&mut self, keys: &[DatabaseKey]) -> Result<(), TargetError> {
        self.cache.probe().await;
        self.watched.clear();
        let mut asked: Vec<Bytes> = Vec::with_capacity(keys.len());
        for (_, key) in keys {
            let is_new = !self.watched.contains_key(key);
            if is_new && is_key(key) {
                self.watched.insert(key.clone(), Seen::Absent);
                self.cache.get(OWN_ZONE, key, "c");
                asked.push(key.clone());
            }
        }
        self.cache.get(OWN_ZONE, &self.lease, "v");
        let mut replies = self.exchange().await?;
        let lease = replies.pop().and_then(|reply| reply.value);
        for (key, reply) in asked.into_iter().zip(&replies) {
            self.watched.insert(key, seen(reply));
        }
        match lease {
            Some(holder) if holder == self.holder => Ok(()),
            Some(_) => Err(TargetError::Superseded),
            // It was evicted, or ran out while nobody else was there.
            None => match self.lead().await? {
                true => Ok(()),
                false => Err(TargetError::Superseded),
            },
        }
    }

    async fn commit(
        &mut self,
        commands: &[Command],
        checkpoints: &[(String, String)],
    ) -> Result<Committed, TargetError> {
        let is_fresh = |at: Instant| at.elapsed() < RENEW_AFTER;
        if !self.renewed_at.is_some_and(is_fresh) && !self.lead().await? {
            return Err(TargetError::Superseded);
        }
        let Some(refused) = self.write(commands).await? else {
            return Ok(Committed::Raced);
        };
        // Journals may remove what is before a checkpoint that came alone.
        let now = commands.is_empty();
        self.checkpoints
            .advance(checkpoints, now)
            .map_err(file_error)?;
        Ok(Committed::Done(refused))
    }

    /// The values of keys, as of the own zone. To the second: memcached tells
    /// how many seconds they live on.
    async fn read(&mut self, keys: &[DatabaseKey]) -> Result<Vec<Value>, TargetError> {
        let mut values = Vec::with_capacity(keys.len());
        for part in keys.chunks(READ_MAX) {
            let known = part.iter().map(|(_, key)| key).filter(|key| is_key(key));
            for key in known {
                self.cache.get(OWN_ZONE, key, "v f t");
            }
            let mut replies = self.exchange().await?.into_iter();
            let now_s = Platform::system().clock.now_ms() as i64 / 1000;
            for (_, key) in part {
                let reply = is_key(key).then(|| replies.next()).flatten();
                values.push(value_of(reply, now_s));
            }
        }
        Ok(values)
    }

    /// Empties all servers, whatever goes: memcached does not list its keys, or
    /// slowly. Keys that are newer than the flush are lost with the others, as
    /// keys of a cache may be.
    async fn empty(&mut self) -> Result<bool, TargetError> {
        self.cache.flush_all();
        self.exchange().await?;
        self.watched
            .values_mut()
            .for_each(|one| *one = Seen::Absent);
        self.renewed_at = None;
        Ok(true)
    }

    async fn scan(&mut self, place: &str) -> Result<Page, TargetError> {
        self.scan_from(place).await
    }

    async fn count(&mut self) -> Result<u64, TargetError> {
        let mut sum = 0;
        for server in self.cache.servers() {
            sum += scan::items(server).await?;
        }
        Ok(sum)
    }

    async fn asked(&mut self) -> Result<Option<String>, TargetError> {
        self.checkpoints.request().map_err(file_error)
    }

    async fn take_keys(&mut self, count: usize) -> Result<Vec<DatabaseKey>, TargetError> {
        if self.to_tell.is_empty() {
            self.to_tell = self.checkpoints.take_keys().map_err(file_error)?;
        }
        let rest = self.to_tell.split_off(count.min(self.to_tell.len()));
        Ok(std::mem::replace(&mut self.to_tell, rest))
    }
}

/// The condition that a cas number is; memcached has 0 where it does not count.
fn condition(unique: u64) -> Condition {
    match unique {
        0 => Condition::None,
        unique => Condition::Unique(unique),
    }
}

/// A value as snapshots have it: four bytes of flags, big-endian, then the data.
fn value_of(reply: Option<Reply>, now_s: i64) -> Value {
    let flags = reply.as_ref().and_then(|reply| reply.number::<u32>(b'f'));
    let lives = reply.as_ref().and_then(|reply| reply.number::<i64>(b't'));
    let bytes = reply.and_then(|reply| reply.value).map(|data| {
        let flags = flags.unwrap_or(0).to_be_bytes();
        Bytes::from([&flags[..], &data].concat())
    });
    Value {
        expires_at_ms: match lives {
            Some(lives) if 0 <= lives => (now_s + lives) * 1000,
            _ => 0,
        },
        bytes,
    }
}
