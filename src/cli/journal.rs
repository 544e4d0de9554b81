//! `wal-sidecar journal tail|verify|stats`: placeholder until the journal's
//! own is joined.

use std::io::Write;
use std::path::Path;

/// What `tail` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailOptions {
    /// The first offset.
    pub from: u64,
    /// Whether to go on with records as they are written.
    pub follow: bool,
    /// Whether to write one JSON object a line.
    pub json: bool,
}

/// Shows records, the oldest first.
pub fn tail(_: &Path, _: &TailOptions, _: &mut impl Write) -> anyhow::Result<()> {
    anyhow::bail!("not available")
}

/// Checks every record; false where one is wrong.
pub fn verify(_: &Path, _: bool, _: &mut impl Write) -> anyhow::Result<bool> {
    anyhow::bail!("not available")
}

/// Shows how much there is.
pub fn stats(_: &Path, _: bool, _: &mut impl Write) -> anyhow::Result<()> {
    anyhow::bail!("not available")
}
