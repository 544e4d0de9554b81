//! `wal-sidecar check`

use super::{BAD_USAGE, check_outside, load};
use crate::config::{
    Backend, Config, Namespace, Position, Problem, Replicate, format_duration, format_size,
};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

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
    check_outside(&config).map_err(|wrong| wrong.usage(file))?;
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
    let (object, code) = match Config::load(file) {
        Ok(config) => match check_outside(&config) {
            Ok(()) => {
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
            Err(wrong) => {
                let errors = [json!({ "key": wrong.key, "message": wrong.message })];
                let object =
                    json!({ "file": name, "valid": false, "errors": errors, "warnings": [] });
                (object, ExitCode::from(BAD_USAGE))
            }
        },
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
    if let Some(serve) = &journal.serve {
        let encrypted = if serve.tls.is_some() {
            ", encrypted"
        } else {
            ""
        };
        let token = if serve.token.is_some() {
            ", with a token"
        } else {
            ""
        };
        writeln!(out, "journal served on {}{encrypted}{token}", serve.listen)?;
    }
    for source in &config.replication.sources {
        writeln!(
            out,
            "applies {} of region {}",
            source.journal, source.region
        )?;
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
        match listen.is_empty() {
            true => "no clients".to_owned(),
            false => listen.join(", "),
        },
        namespace.upstream,
        namespace.connection,
        namespace.durability,
        namespace.on_journal_unavailable,
    )?;
    if namespace.replicate != Replicate::Value || !namespace.replicate_ttl_min.is_zero() {
        let what = replicated(namespace.replicate, namespace.replicate_ttl_min);
        writeln!(out, "  {what}")?;
    }
    for (index, zone) in namespace.replicas.iter().enumerate() {
        writeln!(out, "  copies in zone {}: {zone}", index + 1)?;
    }
    let own = replicated(namespace.replicate, namespace.replicate_ttl_min);
    for policy in &namespace.prefixes {
        let replication = match replicated(policy.replicate, policy.replicate_ttl_min) {
            same if same == own => String::new(),
            other => format!(", {other}"),
        };
        writeln!(
            out,
            "  prefix {:?}: writes {}, {} without journal{}",
            policy.prefix, policy.durability, policy.on_journal_unavailable, replication,
        )?;
    }
    Ok(())
}

fn replicated(replicate: Replicate, ttl_min: Duration) -> String {
    let what = match replicate {
        Replicate::Value => "replicated",
        Replicate::Invalidate => "deleted in other regions",
        Replicate::Off => return "not replicated".to_owned(),
    };
    match ttl_min.is_zero() {
        true => what.to_owned(),
        false => format!("{what} if it lives for {}", format_duration(ttl_min)),
    }
}
