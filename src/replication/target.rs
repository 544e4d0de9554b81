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

    /// Executes commands, together with the checkpoints.
    async fn commit(
        &mut self,
        commands: &[Command],
        checkpoints: &[(String, String)],
    ) -> Result<Committed, TargetError>;

    /// The values of keys.
    async fn read(&mut self, keys: &[DatabaseKey]) -> Result<Vec<Value>, TargetError>;

    /// Deletes the keys of a database, or of all, that go.
    async fn flush(
        &mut self,
        database: Option<u32>,
        goes: &mut dyn FnMut(u32, &[u8]) -> bool,
    ) -> Result<(), TargetError>;
}
