//! The own region's datastore, as the replicator writes to it.

use bytes::Bytes;

use super::engine::Command;

pub mod memcached;
pub mod redis;

/// A key of a database.
pub type DatabaseKey = (u32, Bytes);

/// A key's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// What a snapshot holds; none where the key does not exist.
    pub bytes: Option<Bytes>,
    /// Milliseconds since the Unix epoch; 0 for never.
    pub expires_at_ms: i64,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// It was executed, and the checkpoint is with it; but for these commands,
    /// which were refused, for the given reasons.
    Done(Vec<(usize, String)>),
    /// A key was changed by another after it was watched: nothing was done.
    Raced,
    /// A command can't be executed: nothing was done.
    Refused(usize, String),
}

/// Some of the keys there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Where to go on; none at the end.
    pub next: Option<String>,
    /// None, too, while they are being looked for.
    pub keys: Vec<DatabaseKey>,
}

/// Why the datastore does not do as it is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It does not answer, or answers nonsense. What was under way is done or
    /// not; the checkpoint tells.
    #[error("{0}")]
    Away(String),
    /// It can't for now: out of memory, loading, a replica. Nothing was done.
    #[error("{0}")]
    Busy(String),
    /// It refuses what was asked of these keys, and would again: a database that it
    /// does not have, keys that this user may not touch. Nothing was done.
    #[error("{0}")]
    Refused(String),
    /// Another replicator of the namespace has taken over.
    #[error("another replicator has taken over")]
    Superseded,
}

/// A datastore that changes are applied to.
///
/// # Invariants
/// - What [`Target::commit`] does is done with the checkpoint, or not at all,
///   where the datastore has transactions; else all commands are idempotent.
/// - A commit that was not [`Committed::Raced`] was not preceded by a change of
///   a key by others after [`Target::watch`] returned.
#[allow(async_fn_in_trait)]
pub trait Target {
    /// Becomes the only one of its namespace that writes, or stays it; whether
    /// it is. A commit that was begun before and given up is not executed after.
    async fn lead(&mut self) -> Result<bool, TargetError>;

    /// Gives that up.
    async fn resign(&mut self);

    /// The checkpoints that were committed, by name.
    async fn load(&mut self) -> Result<Vec<(String, String)>, TargetError>;

    /// Watches keys until the next commit.
    async fn watch(&mut self, keys: &[DatabaseKey]) -> Result<(), TargetError>;

    /// Has the next commit watch these keys when it is done: a [`Target::watch`] of
    /// the same keys that comes next then waits for nothing. Only a hint.
    fn watch_after(&mut self, _keys: Vec<DatabaseKey>) {}

    /// Executes commands, together with the checkpoints.
    async fn commit(
        &mut self,
        commands: &[Command],
        checkpoints: &[(String, String)],
    ) -> Result<Committed, TargetError>;

    /// The values of keys.
    async fn read(&mut self, keys: &[DatabaseKey]) -> Result<Vec<Value>, TargetError>;

    /// Empties everything at once, where keys can't be deleted one by one; whether
    /// it has.
    async fn empty(&mut self) -> Result<bool, TargetError>;

    /// The keys from a place on; from the beginning, where it is empty. A key that
    /// is there from the first page to the last is on one of them, or on several.
    /// A place is good for another process too, and after a restart of the
    /// datastore: then some keys come again.
    async fn scan(&mut self, place: &str) -> Result<Page, TargetError>;

    /// How many keys there are, about.
    async fn count(&mut self) -> Result<u64, TargetError>;

    /// What was asked of the leader, as [`Desk::ask`] has it.
    async fn asked(&mut self) -> Result<Option<String>, TargetError>;

    /// Takes keys that are to be told, so many at most.
    async fn take_keys(&mut self, count: usize) -> Result<Vec<DatabaseKey>, TargetError>;
}

/// Where the command line leaves what it wants of the leader: in the datastore, or
/// beside the leader's checkpoints.
#[allow(async_fn_in_trait)]
pub trait Desk {
    /// Whether there is a leader.
    async fn is_led(&mut self) -> Result<bool, TargetError>;

    /// Asks the leader for something, in place of what was asked before.
    async fn ask(&mut self, request: &str) -> Result<(), TargetError>;

    /// How far the leader is, as it has noted under
    /// [`PROGRESS`](super::request::PROGRESS).
    async fn progress(&mut self) -> Result<Option<String>, TargetError>;

    /// Asks it to tell these keys.
    async fn ask_for_keys(&mut self, keys: &[DatabaseKey]) -> Result<(), TargetError>;

    /// Whether there are keys that it has not taken.
    async fn has_keys_left(&mut self) -> Result<bool, TargetError>;
}
