//! What the tests of Kubernetes share.

#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wal_sidecar::kube::Options;
use wal_sidecar::kube::manifest::{self, Changed, Notice};

/// The directory of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every manifest of the corpus, by its file's name.
pub fn corpus() -> BTreeMap<String, String> {
    files(&root().join("tests/kube/corpus"))
        .into_iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            (name, text)
        })
        .collect()
}

/// The files of a directory and those below it, by their paths.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{} is empty", directory.display());
    found
}

pub fn inject(text: &str, options: &Options) -> Changed {
    manifest::inject(text, options).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

pub fn uninject(text: &str) -> Changed {
    manifest::uninject(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

/// What became of an object, as lines.
pub fn describe(notice: &Notice) -> String {
    let mut text = format!("{} {}\n", notice.object, notice.changed);
    for problem in &notice.problems {
        text += &format!("  error: {problem}\n");
    }
    for warning in &notice.warnings {
        text += &format!("  warning: {warning}\n");
    }
    text
}

/// Compares a text with a file below `tests/kube/golden`.
/// The program's version stands there as `VERSION`.
pub fn golden(name: &str, text: &str) {
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let path = root().join("tests/kube/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text,
        expected,
        "{} differs; UPDATE_GOLDEN=1 writes it anew",
        path.display()
    );
}
