//! Where a setting was given, and the list of everything that is wrong.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Position {
    /// A line of the file, counted from 1.
    Line(usize),
    /// An environment variable.
    Variable(String),
}

/// One thing that is wrong (or, as a warning, doubtful) in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was given.
    pub position: Position,
    /// The key's path, such as `namespace[0].durability`; empty where the
    /// problem is the file's syntax.
    pub key: String,
    /// What is wrong, in words.
    pub message: String,
}

impl Problem {
    /// The problem in one line: `sidecar.toml:12: journal.backend: expected ...`.
    pub fn line(&self, file: &Path) -> String {
        let place = match &self.position {
            Position::Line(line) => format!("{}:{line}", file.display()),
            Position::Variable(name) => name.clone(),
        };
        match self.key.as_str() {
            "" => format!("{place}: {}", self.message),
            key => format!("{place}: {key}: {}", self.message),
        }
    }
}

/// Problems collected while a file is read; reading goes on after each.
#[derive(Debug, Default)]
pub(super) struct Problems {
    pub errors: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

impl Problems {
    pub fn error(&mut self, at: &Position, key: impl Into<String>, message: impl Into<String>) {
        self.errors.push(Problem {
            position: at.clone(),
            key: key.into(),
            message: message.into(),
        });
    }

    pub fn warning(&mut self, at: &Position, key: impl Into<String>, message: impl Into<String>) {
        self.warnings.push(Problem {
            position: at.clone(),
            key: key.into(),
            message: message.into(),
        });
    }
}

/// Why there is no configuration. Its text has one line per problem.
#[derive(Debug)]
pub enum LoadError {
    /// The file could not be read.
    Unreadable {
        /// The file that was asked for.
        file: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// The file, or the environment, says something that cannot be.
    Invalid {
        /// The file that was read.
        file: PathBuf,
        /// Everything that is wrong, ordered by line, then by variable.
        errors: Vec<Problem>,
    },
}

impl LoadError {
    /// Everything that is wrong in the file; empty where it could not be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            LoadError::Unreadable { .. } => &[],
            LoadError::Invalid { errors, .. } => errors,
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Unreadable { file, error } => {
                write!(f, "cannot read the configuration {}: ", file.display())?;
                match error.kind() {
                    std::io::ErrorKind::NotFound => write!(
                        f,
                        "there is no such file; give one with --config FILE or WAL_SIDECAR_CONFIG \
                         (the project's sidecar.toml is a commented sample)"
                    ),
                    _ => write!(f, "{error}"),
                }
            }
            LoadError::Invalid { file, errors } => {
                let lines: Vec<String> = errors.iter().map(|error| error.line(file)).collect();
                write!(f, "{}", lines.join("\n"))
            }
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LoadError::Unreadable { error, .. } => Some(error),
            LoadError::Invalid { .. } => None,
        }
    }
}

/// Turns byte offsets of a text into line numbers.
pub(super) struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    pub fn new(text: &str) -> Self {
        let after_newlines = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        Lines {
            starts: std::iter::once(0).chain(after_newlines).collect(),
        }
    }

    /// The line, counted from 1, that holds the byte at `offset`.
    pub fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// The byte at `offset` as a column of its line, both counted from 1.
    pub fn column(&self, offset: usize) -> usize {
        offset - self.starts[self.line(offset) - 1] + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one() {
        let lines = Lines::new("ab\n\ncd\n");
        for (offset, line, column) in [
            (0, 1, 1),
            (2, 1, 3),
            (3, 2, 1),
            (4, 3, 1),
            (5, 3, 2),
            (7, 4, 1),
        ] {
            assert_eq!((lines.line(offset), lines.column(offset)), (line, column));
        }
    }
}
