//! What a client's connection is to the datastore: who it is, what it has
//! begun, and whether it can share a link.

use crate::datastore::LinkKey;
use crate::protocol::Transaction;
use crate::protocol::resp::commands::Control;

/// Whether a client is answered. The datastore always answers the sidecar,
/// which keeps the replies to itself: without them it would not know what
/// became of mutations, nor of the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReplyMode {
    /// It is.
    #[default]
    On,
    /// It is not (CLIENT REPLY OFF).
    Off,
    /// The next command's reply is left out (CLIENT REPLY SKIP).
    SkipNext,
}

/// A command that was queued, and changes the connection once it is executed.
#[derive(Debug)]
pub struct QueuedControl {
    /// Which of the transaction's commands it is.
    pub index: usize,
    /// What it does.
    pub control: Control,
    /// Its arguments, the name first.
    pub arguments: Vec<Vec<u8>>,
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
    /// What among it changes the connection.
    pub queued_controls: Vec<QueuedControl>,
    /// Whether keys are watched.
    pub watching: bool,
    /// Whether the client is answered.
    pub replies: ReplyMode,
    /// Whether the datastore tells of changed keys (CLIENT TRACKING ON).
    pub tracking: bool,
    /// Whether it ever did on the link in use: it may still tell of keys that
    /// were read then once tracking is on again.
    pub tracked: bool,
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
            queued_controls: Vec::new(),
            watching: false,
            replies: ReplyMode::On,
            tracking: false,
            tracked: false,
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
    /// Commands answered with QUEUED belong to the transaction; the one may
    /// change the connection when it is executed.
    Queue(Option<(Control, Vec<Vec<u8>>)>),
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
    /// OK turns replies on or off.
    ReplyMode(ReplyMode),
    /// A number ends these clients too.
    Kill(Vec<u64>),
    /// Closes the client if the datastore did not answer.
    Shutdown,
}
