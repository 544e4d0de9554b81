//! The command table: every command of Redis 7.x and 8.x and Valkey 8 and 9,
//! what it means for the journal, and where its keys are.

mod classify;
mod completion;
mod keys;
mod name;
mod reply;
mod rows;
mod rules;
mod specification;
mod table;
mod walk;

#[cfg(test)]
mod tests;

pub use completion::CompletionError;
pub use keys::{Begin, Find, KeySearch, KeySpecification};
pub use specification::{Flags, Rule, Specification};
pub use table::Table;

use crate::protocol::Class;

/// How a mutation's effect is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Not a mutation.
    None,
    /// Final as it stands: replaying the very same arguments has the effect.
    Verbatim,
    /// Final once its arguments are rewritten (relative times to absolute).
    Rewritten(Rewrite),
    /// Journaled as intent; the reply tells the effect.
    Resolved(Resolve),
    /// Journaled as intent; no reply tells the effect, so the keys' values are
    /// taken from the datastore afterwards (scripts, modules).
    Opaque,
}

/// Which arguments have to be rewritten to make a command deterministic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rewrite {
    /// `SET key value [EX|PX|EXAT|PXAT|KEEPTTL] [GET]` without a condition:
    /// `SET key value [PXAT ms|KEEPTTL]`.
    Set,
    /// `SETEX key seconds value`: `SET key value PXAT ms`.
    SetEx,
    /// `PSETEX key ms value`: `SET key value PXAT ms`.
    PSetEx,
    /// `GETSET key value`: `SET key value`.
    GetSet,
    /// `GETDEL key`: `DEL key`.
    GetDel,
    /// `EXPIRE|PEXPIRE|EXPIREAT|PEXPIREAT key time` without a condition: `PEXPIREAT key ms`.
    Expire,
    /// `RESTORE key ttl ...` with a relative ttl: `RESTORE key ms ... ABSTTL`.
    Restore,
    /// `MSETEX` without a condition: expiry as `PXAT`.
    MSetEx,
    /// `HEXPIRE` and family without a condition: `HPEXPIREAT key ms FIELDS ...`.
    HExpire,
    /// `HSETEX` without a condition: expiry as `PXAT`.
    HSetEx,
    /// `HGETDEL key FIELDS n f ...`: `HDEL key f ...`.
    HGetDel,
}

/// How a reply tells the effect of a command that was journaled as intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resolve {
    /// The command's own arguments where the reply is not an error, nil, or 0
    /// (SETNX as SET, MSETNX as MSET, HSETNX as HSET, RENAMENX as RENAME: the
    /// unconditional form).
    Conditional,
    /// SET with NX, XX, IFEQ and the like: reply (and GET) tells whether it was set.
    Set,
    /// EXPIRE family with NX, XX, GT, LT: 1 is `PEXPIREAT key ms`.
    Expire,
    /// GETEX: nil is nothing, else `PEXPIREAT` or `PERSIST`.
    GetEx,
    /// INCRBYFLOAT: `SET key reply KEEPTTL`.
    IncrByFloat,
    /// HINCRBYFLOAT: `HSET key field reply`.
    HIncrByFloat,
    /// SPOP: `SREM key members`, or `DEL` is never used: the set empties by itself.
    SPop,
    /// ZPOPMIN, ZPOPMAX: `ZREM key members`.
    ZPop,
    /// BLPOP, BRPOP: `LPOP key` or `RPOP key` of the key in the reply.
    BlockingPop,
    /// LMPOP, BLMPOP: `LPOP key count` or `RPOP key count`.
    LMPop,
    /// BRPOPLPUSH, BLMOVE: `RPOPLPUSH` or `LMOVE` where the reply is not nil.
    BlockingMove,
    /// BZPOPMIN, BZPOPMAX: `ZREM key member`.
    BlockingZPop,
    /// ZMPOP, BZMPOP: `ZREM key members`.
    ZMPop,
    /// ZADD with INCR (reply is the score): `ZADD key score member`.
    ZAddIncr,
    /// ZINCRBY: `ZADD key score member`.
    ZIncrBy,
    /// XADD with an id the datastore makes: `XADD key id ...`.
    XAdd,
    /// MIGRATE without COPY: `UNLINK keys` where the reply is OK.
    Migrate,
    /// DELEX, DELIFEQ: 1 is `DEL key`.
    DeleteIf,
    /// A reply of nil, 0, -1 or an empty array is nothing; anything else asks
    /// for the keys' values (ZADD NX/XX/GT/LT, XREADGROUP, XCLAIM, XAUTOCLAIM,
    /// approximate trimming, HGETEX, INCREX, conditional HSETEX, MSETEX and
    /// HEXPIRE ...).
    SnapshotUnlessNothing,
    /// FLUSHALL, FLUSHDB: the command itself where the reply is no error. Not
    /// before: who may not empty this datastore shall not empty others.
    Flush,
}

/// What a command does to the connection it is sent on. The proxy decides on
/// it; the command table only names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Control {
    /// HELLO
    Hello,
    /// AUTH
    Auth,
    /// SELECT
    Select,
    /// QUIT
    Quit,
    /// RESET
    Reset,
    /// MULTI
    Multi,
    /// EXEC
    Exec,
    /// DISCARD
    Discard,
    /// WATCH
    Watch,
    /// UNWATCH
    Unwatch,
    /// SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE
    Subscribe,
    /// UNSUBSCRIBE, PUNSUBSCRIBE, SUNSUBSCRIBE
    Unsubscribe,
    /// MONITOR
    Monitor,
    /// SYNC, PSYNC, REPLCONF, CLUSTER SYNCSLOTS: a replication stream follows
    Sync,
    /// CLIENT SETNAME
    ClientSetName,
    /// CLIENT GETNAME
    ClientGetName,
    /// CLIENT SETINFO
    ClientSetInfo,
    /// CLIENT ID
    ClientId,
    /// CLIENT REPLY
    ClientReply,
    /// CLIENT KILL, CLIENT UNBLOCK: about another client
    ClientTarget,
    /// CLIENT TRACKING
    ClientTracking,
    /// CLIENT CACHING, CLIENT NO-EVICT, CLIENT NO-TOUCH, CLIENT IMPORT-SOURCE,
    /// CLIENT CAPA, SCRIPT DEBUG, READONLY, READWRITE, ASKING: connection flags with no way to tell them
    /// off again, so the client keeps a connection of its own from then on
    ConnectionFlag,
    /// Blocks its connection until data or a timeout (BLPOP ..., XREAD BLOCK,
    /// WAIT, WAITAOF)
    Blocking,
    /// SHUTDOWN: no reply on success
    Shutdown,
}

/// What [`Table::classify`] finds out about one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classified {
    /// Index of the (sub)command's row, [`crate::protocol::Command::UNKNOWN`]
    /// for none: the datastore has to be asked what it is.
    pub specification: u16,
    /// What the command means for the journal.
    pub class: Class,
    /// What it does to the connection. `Class::Control` always has one;
    /// `Class::Mutation` and `Class::Read` have one only if they block.
    pub control: Option<Control>,
}
