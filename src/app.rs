//! The composition root.

use crate::config::Config;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs the program until it is told to end.
pub fn run(config: Config, config_path: PathBuf) -> anyhow::Result<ExitCode> {
    let _ = (config, config_path);
    anyhow::bail!("not available")
}
