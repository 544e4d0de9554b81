//! What a client's connection is to the datastore: who it is, what it has
//! begun, and whether it can share a link.

use crate::datastore::LinkKey;
use crate::protocol::Transaction;

/// Whether a client hears the replies to its commands. The datastore is not
/// told: it answers all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReplyMode {
    /// It does.
    #[default]
    On,
    /// It does not (CLIENT REPLY OFF).
    Off,
    /// The next command's reply is left out (CLIENT REPLY SKIP).
    SkipNext,
}

/// The state of one client's connection.
#[derive(Debug)]
pub struct Session {
    /// Protocol version, database and identity: what a link must have in common.
    pub key: LinkKey,
    /// What CLIENT SETNAME said.
    pub name: Option<Vec<u8>>,
    /// What has been queued since MULTI.
    pub transaction: Option<Transaction>,
    /// Every SELECT among what is queued: its index and its database.
    pub queued_databases: Vec<(usize, u32)>,
    /// Whether keys are watched.
    pub watching: bool,
    /// Whether the client hears replies.
    pub replies: ReplyMode,
    /// Whether the datastore tells of changed keys (CLIENT TRACKING ON).
    pub tracking: bool,
    /// Whether there are, or may be, subscriptions.
    pub subscribed: bool,
    /// Whether the connection has state that cannot be told off.
    pub sticky: bool,
}

impl Session {
    /// The state of a connection nothing has been sent on.
    pub fn new(key: LinkKey) -> Session {
        Session {
            key,
            name: None,
            transaction: None,
            queued_databases: Vec::new(),
            watching: false,
            replies: ReplyMode::On,
            tracking: false,
            subscribed: false,
            sticky: false,
        }
    }

    /// Whether any connection of the same key would do.
    pub fn is_stateless(&self) -> bool {
        self.transaction.is_none()
            && !self.watching
            && !self.tracking
            && !self.subscribed
            && !self.sticky
    }
}

/// What the replies to a batch mean for the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Commands answered with QUEUED belong to the transaction.
    Queue,
    /// OK begins a transaction.
    Multi,
    /// The transaction is over, executed or not.
    Exec,
    /// The transaction is over.
    Discard,
    /// OK watches keys.
    Watch,
    /// OK watches none.
    Unwatch,
    /// OK changes what the client is.
    Become(LinkKey),
    /// A map or array changes what the client is, and its name.
    Greet(LinkKey, Option<Vec<u8>>),
    /// OK names the client.
    Name(Vec<u8>),
    /// The number of subscriptions has changed.
    Subscriptions,
    /// OK turns tracking on or off.
    Tracking(bool),
    /// Closes the client if the datastore did not answer.
    Shutdown,
}
