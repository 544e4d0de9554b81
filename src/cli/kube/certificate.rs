//! `wal-sidecar kube certificate`

use super::manifests::{paths, read};
use crate::kube::trust::trust;
use anyhow::Context as _;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Options {
    /// The webhook's manifests: a file, a directory, or - for standard input
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    file: Vec<PathBuf>,
    /// The name of the Secret
    #[arg(
        long,
        value_name = "NAME",
        default_value = "wal-sidecar-webhook-certificate"
    )]
    secret_name: String,
    /// How long the certificate is valid
    #[arg(long, value_name = "NUMBER", default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
}

pub(super) fn certificate(options: &Options, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    for path in paths(&options.file)? {
        let source = read(&path).with_context(|| format!("read {}", path.display()))?;
        if !text.is_empty() && !source.starts_with("---") {
            text.push_str("---\n");
        }
        text.push_str(&source);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    let valid = Duration::from_secs(options.days * 86_400);
    let made = trust(&text, &options.secret_name, valid)?;
    out.write_all(made.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
