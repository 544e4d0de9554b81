//! The command line: one file per subcommand.
//!
//! Exit codes: 0 fine, 1 failed, 2 bad usage or configuration.

mod check;
mod directory;
mod dlq;
pub mod journal;
mod kube;
mod replicate;
mod run;
mod top;
mod verify;

use crate::app;
use crate::config::{Backend, Config, Property, SourceJournal};
use crate::journal::KafkaOptions;
use crate::platform::Platform;
use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use directory::Place;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The exit code of bad usage and of a wrong configuration; clap's own too.
const BAD_USAGE: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  wal-sidecar check                          say whether ./sidecar.toml is right
  wal-sidecar run --config /etc/sidecar.toml serve clients until SIGTERM
  wal-sidecar journal tail --follow --json   show records as they are written

Exit codes: 0 fine, 1 failed, 2 bad usage or configuration.";

const RUN_EXAMPLES: &str = "\
Examples:
  wal-sidecar run
  WAL_SIDECAR_LOG_LEVEL=debug wal-sidecar run --config /etc/sidecar.toml

SIGTERM and SIGINT drain: what is under way is finished, the journal is
flushed. SIGHUP reads the configuration again, as a change of its file does.";

const CHECK_EXAMPLES: &str = "\
Examples:
  wal-sidecar check
  wal-sidecar check --print                  show every key with its value
  wal-sidecar check --json --config new.toml && mv new.toml sidecar.toml";

const JOURNAL_EXAMPLES: &str = "\
Examples:
  wal-sidecar journal tail --namespace sessions --from 1000
  wal-sidecar journal verify --directory data/journal/sessions
  wal-sidecar journal stats --json

All of them work beside a running wal-sidecar and on the journal of one that
was stopped. With backend = \"kafka\" or \"spool\" they read the topic.";

/// A sidecar proxy that journals every cache mutation before forwarding it.
#[derive(Debug, Parser)]
#[command(name = "wal-sidecar", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct ConfigArguments {
    /// The configuration
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "WAL_SIDECAR_CONFIG",
        hide_env_values = true,
        default_value = "sidecar.toml"
    )]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients until SIGTERM
    #[command(after_help = RUN_EXAMPLES)]
    Run,
    /// Say whether the configuration is right, and what it comes to
    #[command(after_help = CHECK_EXAMPLES)]
    Check(check::Options),
    /// Look at a journal
    #[command(after_help = JOURNAL_EXAMPLES)]
    Journal {
        #[command(subcommand)]
        command: JournalCommand,
    },
    /// Look at changes of other regions that could not be applied, and decide
    /// what becomes of them
    #[command(after_help = dlq::EXAMPLES)]
    Dlq {
        #[command(subcommand)]
        command: dlq::Command,
    },
    /// Show what sidecars and replicators do, live: regions, lag, conflicts, dead
    /// letters, traffic, journals
    #[command(after_help = top::EXAMPLES)]
    Top(top::Options),
    /// Have this region's data copied to the others
    #[command(after_help = replicate::EXAMPLES)]
    Replicate(replicate::Options),
    /// Compare this region's datastore with another region's, key by key; exit
    /// code 1 where they differ
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::Options),
    /// Put the sidecar into pods of Kubernetes
    Kube {
        #[command(subcommand)]
        command: kube::Command,
    },
}

#[derive(Debug, Subcommand)]
enum JournalCommand {
    /// Show records, the oldest first
    Tail {
        #[command(flatten)]
        journal: directory::Options,
        /// Begin at this offset; the first there is if not given
        #[arg(long, value_name = "OFFSET")]
        from: Option<u64>,
        /// Of a journal in Kafka, only this partition
        #[arg(long, value_name = "NUMBER")]
        partition: Option<u32>,
        /// Go on with records as they are written
        #[arg(long, short)]
        follow: bool,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Check every record's checksum and order, and that none is missing; exit
    /// code 1 where something is wrong
    Verify {
        #[command(flatten)]
        journal: directory::Options,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show how much there is, from when to when
    Stats {
        #[command(flatten)]
        journal: directory::Options,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// A command line or configuration that cannot be followed; its text says why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadUsage(String);

/// Does what this process's arguments say.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // --help and --version arrive here too, with code 0.
            let code = u8::try_from(error.exit_code()).unwrap_or(BAD_USAGE);
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match execute(&arguments) {
        Ok(code) => code,
        // `wal-sidecar ... | head` closes the pipe when it has enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            match error.is::<BadUsage>() {
                true => ExitCode::from(BAD_USAGE),
                false => ExitCode::FAILURE,
            }
        }
    }
}

fn execute(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let file = arguments.config.config.as_path();
    let mut out = std::io::stdout().lock();
    match &arguments.command {
        Command::Run => run::run(file),
        Command::Check(options) => check::check(file, options, &mut out),
        Command::Journal { command } => execute_journal(command, file, &mut out),
        Command::Dlq { command } => dlq::execute(command, file, &mut out),
        Command::Top(options) => {
            // It writes from more than one thread.
            drop(out);
            top::execute(options, file)
        }
        Command::Replicate(options) => replicate::execute(options, file, &mut out),
        Command::Verify(options) => verify::execute(options, file, &mut out),
        Command::Kube { command } => kube::execute(command, &mut out),
    }
}

fn execute_journal(
    command: &JournalCommand,
    file: &Path,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let (JournalCommand::Tail { journal, .. }
    | JournalCommand::Verify { journal, .. }
    | JournalCommand::Stats { journal, .. }) = command;
    let directory = match directory::choose(journal, file)? {
        Place::Directory(directory) => directory,
        Place::Topic(topic) => return look_at_topic(command, &topic, out),
    };
    match *command {
        JournalCommand::Tail {
            partition: Some(_), ..
        } => {
            let message = "--partition is for journals in Kafka; a journal in files has one";
            return Err(BadUsage(message.to_owned()).into());
        }
        JournalCommand::Tail {
            from, follow, json, ..
        } => {
            let options = journal::TailOptions { from, follow, json };
            journal::tail(&directory, &options, out)?;
        }
        JournalCommand::Verify { json, .. } => {
            let options = journal::VerifyOptions { json };
            return Ok(journal::verify(&directory, &options, out)?.into());
        }
        JournalCommand::Stats { json, .. } => {
            journal::stats(&directory, &journal::StatsOptions { json }, out)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn look_at_topic(
    command: &JournalCommand,
    topic: &KafkaOptions,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    match *command {
        JournalCommand::Tail {
            from,
            follow,
            json,
            partition,
            ..
        } => {
            if from.is_some() && partition.is_none() {
                let message = "--from is an offset of one partition; choose it with --partition";
                return Err(BadUsage(message.to_owned()).into());
            }
            let options = journal::TailOptions { from, follow, json };
            journal::topic::tail(topic, partition, &options, out)?;
        }
        JournalCommand::Verify { json, .. } => {
            let options = journal::VerifyOptions { json };
            return Ok(journal::topic::verify(topic, &options, out)?.into());
        }
        JournalCommand::Stats { json, .. } => {
            journal::topic::stats(topic, &journal::StatsOptions { json }, out)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Loads the configuration. Where it is wrong, its problems are the error:
/// one a line, ready to be shown.
fn load(file: &Path) -> Result<Config, BadUsage> {
    Config::load(file).map_err(|error| {
        let count = error.problems().len();
        match count {
            0 => BadUsage(error.to_string()),
            1 => BadUsage(format!("the configuration is wrong\n{error}")),
            _ => BadUsage(format!(
                "the configuration is wrong in {count} places\n{error}"
            )),
        }
    })
}

/// What is wrong with what the configuration only names.
#[derive(Debug)]
struct Outside {
    key: String,
    message: String,
}

impl Outside {
    fn usage(&self, file: &Path) -> BadUsage {
        let Outside { key, message } = self;
        let file = file.display();
        BadUsage(format!(
            "the configuration is wrong\n{file}: {key}: {message}"
        ))
    }
}

/// Says what is wrong with what the configuration names and others read: properties
/// that are passed to librdkafka, which alone knows them, and certificates.
fn check_outside(config: &Config) -> Result<(), Outside> {
    let wrong = |key: &str, message: String| {
        let key = key.to_owned();
        Outside { key, message }
    };
    if matches!(config.journal.backend, Backend::Kafka | Backend::Spool) {
        check_properties(&config.journal.brokers, &config.journal.kafka.properties)
            .map_err(|error| wrong("journal.kafka.properties", error))?;
    }
    for (index, namespace) in config.namespaces.iter().enumerate() {
        let zones = std::iter::once(&namespace.upstream).chain(&namespace.replicas);
        let upstreams = zones.flat_map(|zone| &zone.0);
        for tls in upstreams.filter_map(|one| app::upstream_tls(namespace, one)) {
            let key = format!("namespace[{index}].upstream");
            tls.check()
                .map_err(|error| wrong(&key, error.to_string()))?;
        }
    }
    app::check_serving(config).map_err(|error| wrong("journal.serve", error.to_string()))?;
    for (index, source) in config.replication.sources.iter().enumerate() {
        let key = |key: &str| format!("replication.source[{index}].{key}");
        match &source.journal {
            SourceJournal::Kafka {
                brokers,
                properties,
                ..
            } => check_properties(brokers, properties)
                .map_err(|error| wrong(&key("properties"), error))?,
            SourceJournal::Served(served) => {
                app::remote_options(served, "namespace", "reader")
                    .map_err(|error| wrong(&key("certificate_authority"), error.to_string()))?;
            }
        }
    }
    Ok(())
}

fn check_properties(brokers: &[String], properties: &[Property]) -> Result<(), String> {
    let properties = properties.iter();
    let options = KafkaOptions {
        properties: properties
            .map(|one| (one.name.clone(), one.value.expose().to_owned()))
            .collect(),
        ..KafkaOptions::new(brokers.join(","), "topic")
    };
    options.check().map_err(|error| error.to_string())
}

/// Runs what talks to a datastore.
fn run_locally<T>(task: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    tokio::task::LocalSet::new().block_on(&runtime, task)
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    Platform::system().clock.now_ms()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let error = cause.downcast_ref::<std::io::Error>();
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
