//! `wal-sidecar kube inject` and `uninject`: manifests in, manifests out.
//! What there is to say goes to standard error.

use super::super::BadUsage;
use super::settings::Settings;
use crate::kube::manifest::{self, Changed, Notice};
use crate::kube::yaml::SyntaxError;
use anyhow::Context as _;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bytes of one file. A cluster's objects are at most 1.5 MiB each.
const FILE_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Options {
    /// A file, a directory (its *.yaml, *.yml and *.json), or - for standard input
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    file: Vec<PathBuf>,
    /// Fail, and print nothing, where a pod cannot be changed or an annotation is wrong
    #[arg(long)]
    strict: bool,
    /// One JSON object on standard error for each object with pods
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct InjectOptions {
    #[command(flatten)]
    manifests: Options,
    #[command(flatten)]
    settings: Settings,
}

pub(super) fn inject(options: &InjectOptions, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let settings = options.settings.options()?;
    change(&options.manifests, out, "injected", |text| {
        manifest::inject(text, &settings)
    })
}

pub(super) fn uninject(options: &Options, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    change(options, out, "uninjected", manifest::uninject)
}

fn change(
    options: &Options,
    out: &mut dyn Write,
    done: &str,
    change: impl Fn(&str) -> Result<Changed, SyntaxError>,
) -> anyhow::Result<ExitCode> {
    let (mut text, mut is_right) = (String::new(), true);
    for path in paths(&options.file)? {
        let name = match path.as_os_str() == "-" {
            true => "standard input".to_owned(),
            false => path.display().to_string(),
        };
        let source = read(&path).with_context(|| format!("read {name}"))?;
        let changed = change(&source).map_err(|error| anyhow::anyhow!("{name}, {error}"))?;
        for notice in &changed.notices {
            is_right &= notice.problems.is_empty();
            tell(notice, done, options.json)?;
        }
        let separated = text.is_empty() || changed.text.starts_with("---");
        if !separated {
            text.push_str("---\n");
        }
        text.push_str(&changed.text);
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
    }
    if options.strict && !is_right {
        return Ok(ExitCode::FAILURE);
    }
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn tell(notice: &Notice, done: &str, json: bool) -> std::io::Result<()> {
    let mut errors = std::io::stderr().lock();
    if json {
        let object = serde_json::json!({
            "object": notice.object,
            "changed": notice.changed,
            "problems": notice.problems,
            "warnings": notice.warnings,
        });
        return writeln!(errors, "{object}");
    }
    let what = if notice.changed { done } else { "unchanged" };
    writeln!(errors, "{}: {what}", notice.object)?;
    for problem in &notice.problems {
        writeln!(errors, "  error: {problem}")?;
    }
    for warning in &notice.warnings {
        writeln!(errors, "  warning: {warning}")?;
    }
    Ok(())
}

/// The files; a directory stands for the manifests in it, by name.
pub(super) fn paths(given: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for path in given {
        if !path.is_dir() {
            paths.push(path.clone());
            continue;
        }
        let entries =
            std::fs::read_dir(path).with_context(|| format!("read {}", path.display()))?;
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if path.is_file() && matches!(extension, Some("yaml" | "yml" | "json")) {
                found.push(path);
            }
        }
        if found.is_empty() {
            return Err(BadUsage(format!("{} has no manifests in it", path.display())).into());
        }
        found.sort();
        paths.extend(found);
    }
    Ok(paths)
}

pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin()
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)?,
        false => std::fs::File::open(path)?
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)?,
    };
    anyhow::ensure!(
        read as u64 <= FILE_BYTES_MAX,
        "it is larger than {FILE_BYTES_MAX} bytes"
    );
    Ok(text)
}
