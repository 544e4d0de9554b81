//! Log lines and metrics: how they are set up and shown. What is logged and
//! counted is up to each module.
//!
//! Log lines go to standard error. ERROR: a human must act. WARN: something
//! is off, and the program copes. INFO: what operators follow. Nothing is
//! logged per command.
//!
//! Metrics are named `wal_sidecar_<area>_<what>_<unit>`; counters end in
//! `_total`; units are base units (`_seconds`, `_bytes`); labels come from
//! fixed sets only, so their number is bounded. Handles are looked up once,
//! when a module starts.

mod logs;
mod metrics;
mod process;

pub use self::logs::{LogFormat, LogHandle, LogLevel, init_logs};
pub use self::metrics::{
    COUNT_BUCKETS, MetricsHandle, SECONDS_BUCKETS, SIZE_BUCKETS, UPKEEP_INTERVAL, init_metrics,
};
