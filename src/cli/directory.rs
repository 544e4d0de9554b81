//! Which journal a `wal-sidecar journal` command is about.

use super::{BadUsage, load};
use crate::config::Backend;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The journal's files, without asking the configuration; with
    /// --namespace, the directory above them
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// The namespace; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
}

/// The directory with the journal's files.
pub(super) fn choose(options: &Options, file: &Path) -> Result<PathBuf, BadUsage> {
    let directory = match (&options.directory, &options.namespace) {
        (Some(directory), Some(namespace)) => directory.join(namespace),
        (Some(directory), None) => directory.clone(),
        (None, namespace) => configured(namespace.as_deref(), file)?,
    };
    match directory.is_dir() {
        true => Ok(directory),
        false => Err(BadUsage(format!(
            "there is no journal in {}: no such directory",
            directory.display()
        ))),
    }
}

fn configured(namespace: Option<&str>, file: &Path) -> Result<PathBuf, BadUsage> {
    let config = load(file)?;
    if config.journal.backend != Backend::Local {
        return Err(BadUsage(format!(
            "the journal of {} is in {} and has no files",
            file.display(),
            config.journal.backend,
        )));
    }
    let names: Vec<&str> = config.namespaces.iter().map(|n| n.name.as_str()).collect();
    let name = match (namespace, names.as_slice()) {
        (Some(name), names) if names.contains(&name) => name,
        (Some(name), names) => {
            let names = names.join(", ");
            return Err(BadUsage(format!(
                "{} has no namespace {name:?}; it has {names}",
                file.display()
            )));
        }
        (None, [only]) => only,
        (None, names) => {
            let names = names.join(", ");
            return Err(BadUsage(format!("choose one with --namespace: {names}")));
        }
    };
    Ok(config.journal_directory(name))
}
