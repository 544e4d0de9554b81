//! Which journal a `wal-sidecar journal` command is about.

use super::{BadUsage, load};
use crate::app;
use crate::config::{Backend, Config, Namespace};
use crate::journal::KafkaOptions;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The journal's files, without asking the configuration; with
    /// --namespace, the directory above them. Of a spool, what Kafka has not
    /// acknowledged is there
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// The namespace; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
}

/// Where a journal is.
pub(super) enum Place {
    /// In files.
    Directory(PathBuf),
    /// In a topic.
    Topic(Box<KafkaOptions>),
}

/// The journal that is meant.
pub(super) fn choose(options: &Options, file: &Path) -> Result<Place, BadUsage> {
    let directory = match (&options.directory, &options.namespace) {
        (Some(directory), Some(namespace)) => directory.join(namespace),
        (Some(directory), None) => directory.clone(),
        (None, namespace) => match configured(namespace.as_deref(), file)? {
            Place::Directory(directory) => directory,
            topic => return Ok(topic),
        },
    };
    match directory.is_dir() {
        true => Ok(Place::Directory(directory)),
        false => Err(BadUsage(format!(
            "there is no journal in {}: no such directory",
            directory.display()
        ))),
    }
}

fn configured(namespace: Option<&str>, file: &Path) -> Result<Place, BadUsage> {
    let config = load(file)?;
    let namespace = find(&config, namespace, file)?;
    match config.journal.backend {
        Backend::Local => Ok(Place::Directory(config.journal_directory(&namespace.name))),
        Backend::Kafka | Backend::Spool => {
            let options = app::kafka_options(&config, namespace);
            Ok(Place::Topic(Box::new(options)))
        }
        Backend::Memory => Err(BadUsage(format!(
            "the journal of {} is in memory and has no files",
            file.display(),
        ))),
    }
}

pub(super) fn find<'c>(
    config: &'c Config,
    namespace: Option<&str>,
    file: &Path,
) -> Result<&'c Namespace, BadUsage> {
    let names: Vec<&str> = config.namespaces.iter().map(|n| n.name.as_str()).collect();
    let names = names.join(", ");
    match (namespace, config.namespaces.as_slice()) {
        (Some(name), all) => all.iter().find(|one| one.name == name).ok_or_else(|| {
            BadUsage(format!(
                "{} has no namespace {name:?}; it has {names}",
                file.display()
            ))
        }),
        (None, [only]) => Ok(only),
        (None, _) => Err(BadUsage(format!("choose one with --namespace: {names}"))),
    }
}
