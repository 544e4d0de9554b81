//! Redis, Valkey.
//!
//! A commit is WATCH, then MULTI ... EXEC with the checkpoint in a hash. Who
//! writes holds a lease, a key that is watched and renewed with each commit: a
//! replicator that was superseded can't write any more.

use std::time::Duration;

use bytes::Bytes;

use super::{Committed, DatabaseKey, Page, Target, TargetError, Value};
use crate::datastore::Options;
use crate::datastore::client::{Client, elements, error, text};
use crate::replication::OWN_KEYS;
use crate::replication::engine::Command;

mod ask;
mod desk;
mod scan;

/// How long replies may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a lease holds; another replicator waits for as long.
pub const LEASE: Duration = Duration::from_secs(10);

/// Keys that one SCAN asks for.
const SCAN_COUNT: &[u8] = b"1000";

/// Errors that go away by themselves.
const BUSY: [&[u8]; 10] = [
    b"OOM",
    b"LOADING",
    b"READONLY",
    b"MASTERDOWN",
    b"CLUSTERDOWN",
    b"TRYAGAIN",
    b"BUSY",
    b"NOREPLICAS",
    b"MISCONF",
    b"NOTREADY",
];

/// A connection to Redis, opened when it is needed.
pub struct Redis {
    options: Options,
    client: Option<Client>,
    lease: Bytes,
    checkpoints: Bytes,
    /// Where requests are, and keys to be told.
    asked: Bytes,
    to_tell: Bytes,
    /// Who this is, in the lease.
    holder: Bytes,
    /// What the next commit watches when it is done.
    watch_after: Vec<DatabaseKey>,
    /// What is watched, since the last commit; nothing was sent since.
    watched: Vec<DatabaseKey>,
}

impl Redis {
    /// The datastore of a namespace; `holder` is drawn at random.
    pub fn new(options: Options, namespace: &str, holder: u64) -> Redis {
        let own = String::from_utf8_lossy(OWN_KEYS);
        Redis {
            options,
            client: None,
            lease: Bytes::from(format!("{own}lease:{namespace}")),
            checkpoints: Bytes::from(format!("{own}applied:{namespace}")),
            asked: Bytes::from(format!("{own}asked:{namespace}")),
            to_tell: Bytes::from(format!("{own}tell:{namespace}")),
            holder: Bytes::from(format!("{holder:016x}")),
            watch_after: Vec::new(),
            watched: Vec::new(),
        }
    }

    async fn client(&mut self) -> Result<&mut Client, TargetError> {
        self.watched.clear();
        if self.client.is_none() {
            let name = b"wal-sidecar-replicator";
            let client = Client::open(&self.options, name, TIMEOUT).await;
            let client = client.map_err(|error| TargetError::Away(error.to_string()))?;
            self.client = Some(client);
        }
        self.client
            .as_mut()
            .ok_or_else(|| TargetError::Away("not connected".to_owned()))
    }

    async fn exchange(&mut self) -> Result<Vec<Bytes>, TargetError> {
        let client = self.client().await?;
        match client.exchange().await {
            Ok(replies) => Ok(replies),
            Err(error) => {
                self.client = None;
                Err(TargetError::Away(error.to_string()))
            }
        }
    }

    /// An error about keys of changes.
    fn refused(&mut self, reply: &Bytes) -> TargetError {
        let said = error(reply).unwrap_or_default();
        match is_of_key(&said) {
            true => TargetError::Refused(String::from_utf8_lossy(&said).into_owned()),
            false => self.unexpected(reply),
        }
    }

    /// An error where one was not expected.
    fn unexpected(&mut self, reply: &Bytes) -> TargetError {
        let said = String::from_utf8_lossy(reply).trim_end().to_owned();
        match is_busy(reply.get(1..).unwrap_or_default()) {
            true => TargetError::Busy(said),
            false => {
                self.client = None;
                TargetError::Away(format!("the datastore said {said}"))
            }
        }
    }
}

/// Pushes commands that are for the databases given with them; the connection
/// is in database 0 before and after. Returns, for each, the index of its reply.
fn push_in_databases<'a>(
    client: &mut Client,
    commands: impl Iterator<Item = (u32, &'a [Bytes])>,
) -> Vec<usize> {
    let start = client.pushed();
    let mut places = Vec::new();
    let mut current = 0;
    let mut number = itoa::Buffer::new();
    for (database, arguments) in commands {
        if database != current {
            client.push(&[b"SELECT", number.format(database).as_bytes()]);
            current = database;
        }
        places.push(client.pushed() - start);
        client.push_owned(arguments);
    }
    if current != 0 {
        client.push(&[b"SELECT", b"0"]);
    }
    places
}

/// Pushes what watches the keys and the lease, and asks whose that is.
fn push_watch(client: &mut Client, lease: &Bytes, keys: &[DatabaseKey]) {
    let mut by_database: Vec<(u32, Vec<Bytes>)> = Vec::new();
    for (database, key) in keys {
        match by_database.iter_mut().find(|(other, _)| other == database) {
            Some((_, list)) => list.push(key.clone()),
            None => by_database.push((*database, vec![Bytes::from_static(b"WATCH"), key.clone()])),
        }
    }
    client.push(&[b"WATCH", lease]);
    let watches = by_database
        .iter()
        .map(|(database, list)| (*database, &list[..]));
    push_in_databases(client, watches);
    client.push(&[b"GET", lease]);
}

fn is_busy(error: &[u8]) -> bool {
    BUSY.iter().any(|busy| error.starts_with(busy))
}

/// Whether an error says that there is no such database, or that the user may not
/// touch the key. A command that the user may not execute is another matter.
fn is_of_key(error: &[u8]) -> bool {
    let error = String::from_utf8_lossy(error);
    error.starts_with("ERR DB index is out of range")
        || error.starts_with("NOPERM") && error.contains("permissions to access")
}

impl Target for Redis {
    async fn lead(&mut self) -> Result<bool, TargetError> {
        let (lease, holder) = (self.lease.clone(), self.holder.clone());
        let time = LEASE.as_millis().to_string();
        let client = self.client().await?;
        client.push(&[b"SET", &lease, &holder, b"NX", b"PX", time.as_bytes()]);
        client.push(&[b"GET", &lease]);
        let replies = self.exchange().await?;
        if error(&replies[0]).is_some() {
            return Err(self.unexpected(&replies[0]));
        }
        if text(&replies[1]).is_none_or(|found| found != holder) {
            return Ok(false);
        }
        // Changing it fails whatever is on its way through another connection.
        let client = self.client().await?;
        client.push(&[b"WATCH", &lease]);
        client.push(&[b"GET", &lease]);
        let replies = self.exchange().await?;
        if text(&replies[1]).is_none_or(|found| found != holder) {
            return Ok(false);
        }
        let client = self.client().await?;
        client.push(&[b"MULTI"]);
        client.push(&[b"SET", &lease, &holder, b"PX", time.as_bytes()]);
        client.push(&[b"EXEC"]);
        let replies = self.exchange().await?;
        match elements(&replies[2]) {
            Some(_) => Ok(true),
            None if error(&replies[2]).is_none() => Ok(false),
            None => Err(self.unexpected(&replies[2])),
        }
    }

    async fn resign(&mut self) {
        let (lease, holder) = (self.lease.clone(), self.holder.clone());
        let Ok(client) = self.client().await else {
            return;
        };
        client.push(&[b"WATCH", &lease]);
        client.push(&[b"GET", &lease]);
        let Ok(replies) = self.exchange().await else {
            return;
        };
        if text(&replies[1]).is_some_and(|found| found == holder)
            && let Ok(client) = self.client().await
        {
            client.push(&[b"MULTI"]);
            client.push(&[b"DEL", &lease]);
            client.push(&[b"EXEC"]);
            // Whoever waits has the lease when it has run out anyway.
            let _ = self.exchange().await;
        }
    }

    async fn load(&mut self) -> Result<Vec<(String, String)>, TargetError> {
        let checkpoints = self.checkpoints.clone();
        self.client().await?.push(&[b"HGETALL", &checkpoints]);
        let replies = self.exchange().await?;
        let Some(found) = elements(&replies[0]) else {
            return Err(self.unexpected(&replies[0]));
        };
        let as_text = |reply: &Bytes| {
            let text = text(reply).unwrap_or_default();
            String::from_utf8_lossy(&text).into_owned()
        };
        let pairs = found.chunks_exact(2);
        Ok(pairs
            .map(|pair| (as_text(&pair[0]), as_text(&pair[1])))
            .collect())
    }

    fn watch_after(&mut self, keys: Vec<DatabaseKey>) {
        self.watch_after = keys;
    }

    async fn watch(&mut self, keys: &[DatabaseKey]) -> Result<(), TargetError> {
        if !keys.is_empty() && self.watched == keys {
            return Ok(());
        }
        let (lease, holder) = (self.lease.clone(), self.holder.clone());
        let client = self.client().await?;
        // What was watched for a commit that was given up would fail this one.
        client.push(&[b"UNWATCH"]);
        push_watch(client, &lease, keys);
        let replies = self.exchange().await?;
        if let Some(at) = replies.iter().position(|reply| error(reply).is_some()) {
            return Err(match at {
                // The lease's.
                0 | 1 => self.unexpected(&replies[at]),
                _ => self.refused(&replies[at]),
            });
        }
        match replies.last().and_then(text) {
            Some(found) if found == holder => Ok(()),
            // It ran out. Somebody else may have been there meanwhile.
            None => match self.lead().await? {
                true => Err(TargetError::Away("the lease had run out".to_owned())),
                false => Err(TargetError::Superseded),
            },
            Some(_) => Err(TargetError::Superseded),
        }
    }

    async fn commit(
        &mut self,
        commands: &[Command],
        checkpoints: &[(String, String)],
    ) -> Result<Committed, TargetError> {
        let (lease, holder) = (self.lease.clone(), self.holder.clone());
        let hash = self.checkpoints.clone();
        let time = LEASE.as_millis().to_string();
        let next = std::mem::take(&mut self.watch_after);
        let client = self.client().await?;
        client.push(&[b"MULTI"]);
        let all = commands
            .iter()
            .map(|command| (command.database, &command.arguments[..]));
        let places = push_in_databases(client, all);
        if !checkpoints.is_empty() {
            let mut set: Vec<&[u8]> = vec![b"HSET", &hash];
            for (name, value) in checkpoints {
                set.push(name.as_bytes());
                set.push(value.as_bytes());
            }
            client.push(&set);
        }
        client.push(&[b"SET", &lease, &holder, b"PX", time.as_bytes()]);
        let place = client.pushed();
        client.push(&[b"EXEC"]);
        if !next.is_empty() {
            push_watch(client, &lease, &next);
        }
        let replies = self.exchange().await?;
        let executed = &replies[place];
        if let Some(results) = elements(executed) {
            let after = &replies[place + 1..];
            let is_ours = after.last().and_then(text).is_some_and(|one| one == holder);
            if is_ours && after.iter().all(|reply| error(reply).is_none()) {
                self.watched = next;
            }
            let refused = places.iter().enumerate().filter_map(|(index, place)| {
                let said = error(results.get(*place)?)?;
                Some((index, String::from_utf8_lossy(&said).into_owned()))
            });
            return Ok(Committed::Done(refused.collect()));
        }
        if error(executed).is_none() {
            return Ok(Committed::Raced);
        }
        // A command was not queued. The first that was not is why.
        let queued = |index: usize| replies.get(1 + places[index]).and_then(error);
        for index in 0..places.len() {
            if let Some(said) = queued(index) {
                let text = String::from_utf8_lossy(&said).into_owned();
                return match is_busy(&said) {
                    true => Err(TargetError::Busy(text)),
                    false => Ok(Committed::Refused(index, text)),
                };
            }
        }
        let first = replies.iter().find(|reply| error(reply).is_some());
        let first = first.unwrap_or(executed).clone();
        Err(self.unexpected(&first))
    }

    async fn read(&mut self, keys: &[DatabaseKey]) -> Result<Vec<Value>, TargetError> {
        let parts: Vec<(u32, [Bytes; 2])> = keys
            .iter()
            .flat_map(|(database, key)| {
                [&b"DUMP"[..], b"PEXPIRETIME"]
                    .map(|name| (*database, [Bytes::from_static(name), key.clone()]))
            })
            .collect();
        let client = self.client().await?;
        // What was watched for a commit that was given up is no matter here.
        client.push(&[b"UNWATCH"]);
        client.push(&[b"MULTI"]);
        let all = parts
            .iter()
            .map(|(database, arguments)| (*database, &arguments[..]));
        let places = push_in_databases(client, all);
        client.push(&[b"EXEC"]);
        let replies = self.exchange().await?;
        let executed = &replies[replies.len() - 1];
        let Some(results) = elements(executed) else {
            let first = replies.iter().find(|reply| error(reply).is_some());
            let first = first.unwrap_or(executed).clone();
            return Err(self.refused(&first));
        };
        // One that could not be selected has the rest read from another one.
        if let Some(first) = results.iter().find(|reply| error(reply).is_some()) {
            return Err(self.refused(first));
        }
        let mut values = Vec::with_capacity(keys.len());
        for pair in places.chunks_exact(2) {
            let (dump, expires) = (&results[pair[0]], &results[pair[1]]);
            let expires = text(expires).and_then(|digits| {
                let digits = String::from_utf8_lossy(&digits).into_owned();
                digits.parse::<i64>().ok()
            });
            values.push(Value {
                bytes: text(dump),
                expires_at_ms: expires.unwrap_or(0).max(0),
            });
        }
        Ok(values)
    }

    async fn empty(&mut self) -> Result<bool, TargetError> {
        Ok(false)
    }

    async fn scan(&mut self, place: &str) -> Result<Page, TargetError> {
        self.scan_from(place).await
    }

    async fn count(&mut self) -> Result<u64, TargetError> {
        let databases = self.databases().await?;
        Ok(databases.values().sum())
    }

    async fn asked(&mut self) -> Result<Option<String>, TargetError> {
        self.request().await
    }

    async fn take_keys(&mut self, count: usize) -> Result<Vec<DatabaseKey>, TargetError> {
        self.pop_keys(count).await
    }
}
