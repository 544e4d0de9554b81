//! Regions that converge: applies other regions' journals to the own datastore.
//!
//! One replicator of a namespace reads the own region's journal and those of
//! all other regions, and writes to the own region's datastore only, directly:
//! nothing it applies is journaled again, so nothing goes round in circles.
//! Which of several replicators that is, is settled by a lease in the datastore.
//!
//! | file | what it does |
//! |---|---|
//! | `engine` | which changes are applied: versions, conflicts, snapshots |
//! | `feed`, `inlet` | a partition of a journal: records, then changes in order |
//! | `driver` | the loop: watch, catch up with the own journal, decide, commit |
//! | `target` | the datastore |
//! | `included` | how much of each journal a value includes |
//! | `policy` | which keys are replicated, and how |
//! | `refusals` | counters that a datastore refused to change |
//! | `letters` | what was not applied |
//! | `outlet` | snapshots and progress in the own journal |
//! | `request` | what the command line asks the leader for, and how far it is |
//! | `verify` | compares two regions' datastores |
//! | `checkpoint` | how far it is, kept in the datastore with what is applied |

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::journal::Journal;
use crate::mutation::v1;

mod checkpoint;
mod driver;
pub mod engine;
mod feed;
mod included;
mod inlet;
mod keys;
pub mod letters;
mod metrics;
mod outlet;
mod pace;
pub mod policy;
mod refusals;
pub mod request;
pub mod target;
pub mod verify;
mod version;
mod writers;

pub use crate::mutation::operation::Table;
pub use driver::{Driver, Stop};
pub use feed::Origin;

/// What the keys begin with that this program keeps in the datastore.
pub const OWN_KEYS: &[u8] = b"wal-sidecar:";

/// What is replicated, from where.
pub struct Options {
    /// The region this process is in.
    pub region: String,
    /// The namespace.
    pub namespace: String,
    /// What its datastore is.
    pub store: v1::Store,
    /// The own region's journal.
    pub own: Journal,
    /// Other journals; those of the own region are read for what its other
    /// sidecars do.
    pub sources: Vec<Source>,
    /// The command table, as far as it is known.
    pub table: Arc<ArcSwap<Table>>,
    /// Records applied at once, at most.
    pub batch_records: usize,
    /// After so many transactions in a row that own clients' changes have made
    /// fail, the keys they change are not watched, but told; at least 1.
    pub races_max: u32,
    /// A source whose clock is further ahead is held to this.
    pub clock_skew_max: Duration,
    /// How often progress is written to the own journal.
    pub progress_interval: Duration,
    /// The longest pause between attempts.
    pub backoff_max: Duration,
    /// Which keys are replicated, and how.
    pub policy: Arc<ArcSwap<policy::Policy>>,
    /// Where dead letters are kept; none where they are only counted.
    pub dead_letters: Option<std::path::PathBuf>,
    /// Where conflicts are kept, likewise.
    pub conflicts: Option<std::path::PathBuf>,
    /// Whether conflicts are kept with the values that lost.
    pub conflict_values: bool,
    /// Keys whose versions are remembered, at most, about.
    pub key_versions_max: usize,
    /// What is older than all that regions have applied by this many milliseconds
    /// can't be contradicted any more, and is forgotten.
    pub remembered_ms: u64,
    /// This replicator's identity, and that of its records; drawn at random.
    pub writer: u64,
    /// Whether own changes may be executed before they are in the journal that is read:
    /// with a spool, or where they don't wait for the journal.
    pub is_ahead: bool,
    /// A rule to leave out, for tests.
    #[doc(hidden)]
    pub sabotage: engine::Sabotage,
}

/// What [`Options::races_max`] is where nothing else is asked for.
pub const RACES_MAX: u32 = 12;

/// What [`Options::remembered_ms`] is likewise.
pub const REMEMBERED_MS: u64 = 60_000;

/// A journal that is applied.
#[derive(Debug, Clone)]
pub struct Source {
    /// The region whose it is.
    pub region: String,
    /// Tells it from others, also after a restart.
    pub name: String,
    /// Where its records come from.
    pub origin: Origin,
}
