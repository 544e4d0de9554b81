//! `wal-sidecar run`

use std::path::Path;
use std::process::ExitCode;

/// Loads the configuration and runs the program with it.
pub(super) fn run(file: &Path) -> anyhow::Result<ExitCode> {
    let config = super::load(file)?;
    super::check_outside(&config).map_err(|wrong| wrong.usage(file))?;
    crate::app::run(config, file)
}
