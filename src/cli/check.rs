//! `wal-sidecar check`

use super::{BAD_USAGE, check_kafka, load};
use crate::config::{Backend, Config, Namespace, Position, Problem, format_duration, format_size};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// One JSON object, with the errors where there are any
    #[arg(long)]
    json: bool,
    /// Show the effective configuration: every key, defaults and variables
    /// included, secrets redacted
    #[arg(long)]
    print: bool,
}

/// Checks the file and says what it comes to. Errors go to standard error,
/// with `--json` into the object.
pub(super) fn check(
    file: &Path,
    options: &Options,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    if options.json {
        return check_json(file, options, out);
    }
    let config = load(file)?;
    check_kafka(&config, file)?;
    match options.print {
        true => write!(out, "{}", config.to_redacted_toml())?,
        false => summary(&config, file, out)?,
    }
    out.flush()?;
    for line in config.warning_lines(file) {
        writeln!(std::io::stderr(), "warning: {line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check_json(file: &Path, options: &Options, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let name = file.display().to_string();
    let list = |problems: &[Problem]| -> Vec<Value> { problems.iter().map(object).collect() };
    let unknown = |config: &Config| check_kafka(config, file).err();
    let (object, code) = match Config::load(file) {
        Ok(config) if unknown(&config).is_some() => {
            let message = unknown(&config).map(|error| error.to_string());
            let errors = [json!({ "key": "journal.kafka.properties", "message": message })];
            let object = json!({ "file": name, "valid": false, "errors": errors, "warnings": [] });
            (object, ExitCode::from(BAD_USAGE))
        }
        Ok(config) => {
            let mut object = json!({
                "file": name,
                "valid": true,
                "errors": [],
                "warnings": list(&config.warnings),
            });
            if options.print {
                object["config"] = serde_json::to_value(&config)?;
            }
            (object, ExitCode::SUCCESS)
        }
        Err(error) => {
            let errors = match error.problems() {
                [] => vec![json!({ "message": error.to_string() })],
                problems => list(problems),
            };
            let object = json!({ "file": name, "valid": false, "errors": errors, "warnings": [] });
            (object, ExitCode::from(BAD_USAGE))
        }
    };
    writeln!(out, "{object}")?;
    Ok(code)
}

fn object(problem: &Problem) -> Value {
    let mut object = json!({ "key": problem.key, "message": problem.message });
    match &problem.position {
        Position::Line(line) => object["line"] = json!(line),
        Position::Variable(name) => object["variable"] = json!(name),
    }
    object
}

fn summary(config: &Config, file: &Path, out: &mut impl Write) -> std::io::Result<()> {
    let journal = &config.journal;
    let roles: Vec<&str> = config.roles.iter().map(|role| role.as_str()).collect();
    writeln!(out, "{} is right", file.display())?;
    writeln!(
        out,
        "region {}, {}, workers: {}",
        config.region,
        roles.join(" and "),
        config.workers
    )?;
    let brokers = journal.brokers.join(",");
    match journal.backend {
        Backend::Local | Backend::Memory => writeln!(
            out,
            "journal {} in {}, kept for {} and up to {}",
            journal.backend,
            journal.directory.display(),
            format_duration(journal.retention_age),
            format_size(journal.retention_bytes),
        )?,
        Backend::Kafka => writeln!(out, "journal kafka at {brokers}")?,
        Backend::Spool => writeln!(
            out,
            "journal spool in {}, shipped to Kafka at {brokers}",
            journal.directory.display(),
        )?,
    }
    for namespace in &config.namespaces {
        namespace_summary(namespace, out)?;
        if !journal.brokers.is_empty() {
            writeln!(out, "  topic {}", config.topic(&namespace.name))?;
        }
    }
    writeln!(out, "admin http://{}", config.admin.listen)
}

fn namespace_summary(namespace: &Namespace, out: &mut impl Write) -> std::io::Result<()> {
    let listen: Vec<String> = namespace.listen.iter().map(ToString::to_string).collect();
    writeln!(
        out,
        "namespace {}: {} -> {} ({} connections), writes {}, {} without journal",
        namespace.name,
        listen.join(", "),
        namespace.upstream,
        namespace.connection,
        namespace.durability,
        namespace.on_journal_unavailable,
    )?;
    for (index, zone) in namespace.replicas.iter().enumerate() {
        writeln!(out, "  copies in zone {}: {zone}", index + 1)?;
    }
    for policy in &namespace.prefixes {
        writeln!(
            out,
            "  prefix {:?}: writes {}, {} without journal",
            policy.prefix, policy.durability, policy.on_journal_unavailable,
        )?;
    }
    Ok(())
}
