//! Imports between the crate's modules go one way. This test reads every file
//! of `src/` and holds its paths against the tables below, so that a shortcut
//! shows here, with file and line, and not years later as a cycle.
//!
//! It reads tokens, not syntax trees: `crate::` and `super::` paths wherever
//! they stand (in `use`, in groups, inline), after comments and literals are
//! taken out. A path that a macro of another crate puts together escapes it.

use std::fmt;
use std::path::{Path, PathBuf};

/// What a module may name of its own crate.
enum Imports {
    /// These modules and no other.
    Only(&'static [&'static str]),
    /// Every module except these.
    AllBut(&'static [&'static str]),
}
use Imports::{AllBut, Only};

/// One row per top-level module of `src/`.
const MODULES: &[(&str, Imports)] = &[
    ("platform", Only(&[])),
    ("telemetry", Only(&[])),
    ("protocol", Only(&[])),
    ("mutation", Only(&["protocol"])),
    ("journal", Only(&["mutation", "platform"])),
    ("datastore", Only(&["protocol", "platform"])),
    (
        "stack",
        Only(&["protocol", "mutation", "journal", "datastore"]),
    ),
    (
        "proxy",
        Only(&["protocol", "stack", "datastore", "platform"]),
    ),
    (
        "replication",
        Only(&["journal", "mutation", "datastore", "platform"]),
    ),
    // It gets handles and options from `app`.
    ("admin", AllBut(&["app", "cli", "config"])),
    ("kube", Only(&[])),
    ("config", AllBut(&["app", "cli"])),
    ("app", AllBut(&["cli"])),
    ("cli", AllBut(&[])),
];

/// Which files may name a crate of others. A place is a file, or a module with
/// everything below it.
const CRATES: &[(&[&str], Places)] = &[
    (
        &["tower", "tower_layer", "tower_service", "tower_test"],
        Places::Only(&["stack", "proxy", "app"]),
    ),
    (&["rdkafka"], Places::Only(&["journal/kafka"])),
    (&["ratatui"], Places::Only(&["cli/top"])),
    // The protocol does no input and output: it takes bytes and gives bytes.
    (&["tokio", "tokio_util"], Places::AllBut(&["protocol"])),
];

enum Places {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "src/{}:{}: {}", self.file, self.line, self.what)
    }
}

#[test]
fn imports_go_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    assert!(files.len() > 10, "src/ was not found: {files:?}");
    let mut violations = Vec::new();
    for path in files {
        let source = std::fs::read_to_string(&path).expect("source files are UTF-8");
        let file = path
            .strip_prefix(&root)
            .expect("found below it")
            .to_string_lossy()
            .replace('\\', "/");
        violations.extend(check_file(&file, &source));
    }
    let report: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(report.is_empty(), "\n{}\n", report.join("\n"));
}

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(directory).expect("src/ can be read");
    for entry in entries {
        let path = entry.expect("src/ can be read").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

/// Everything in one file that breaks a rule. `file` is relative to `src/`.
fn check_file(file: &str, source: &str) -> Vec<Violation> {
    let stem = file.strip_suffix(".rs").expect("only Rust files are read");
    let tokens = tokens(source);
    let mut violations = Vec::new();
    let mut report = |line: usize, what: String| {
        violations.push(Violation {
            file: file.to_owned(),
            line,
            what,
        });
    };
    // `main` puts the parts together, `lib` lists them.
    let module = stem.split('/').next().expect("a path has a part");
    if !matches!(stem, "main" | "lib") {
        match MODULES.iter().find(|(name, _)| *name == module) {
            None => report(1, format!("`{module}` has no row in tests/imports.rs")),
            Some((_, imports)) => {
                for (line, target) in own_paths(stem, &tokens) {
                    if target != module && !allowed(imports, &target) {
                        report(line, format!("`{module}` must not import `{target}`"));
                    }
                }
            }
        }
    }
    for (line, name) in foreign_crates(&tokens) {
        let forbidden = CRATES
            .iter()
            .any(|(names, places)| names.contains(&name) && !place_allowed(places, stem));
        if forbidden {
            report(line, format!("`{name}` must not be named here"));
        }
    }
    violations
}

fn allowed(imports: &Imports, target: &str) -> bool {
    match imports {
        Only(targets) => targets.contains(&target),
        // A glob would bring in the forbidden ones too.
        AllBut(targets) => !targets.contains(&target) && (target != "*" || targets.is_empty()),
    }
}

fn place_allowed(places: &Places, stem: &str) -> bool {
    let within = |place: &&str| {
        stem == *place
            || stem
                .strip_prefix(*place)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    match places {
        Places::Only(places) => places.iter().any(within),
        Places::AllBut(places) => !places.iter().any(within),
    }
}

/// A word or a punctuation mark, and its line. `::` is one token.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

/// The first segment below the crate's root of every path that starts at the
/// root, by `crate::` or by enough `super::`.
fn own_paths(stem: &str, tokens: &[Token]) -> Vec<(usize, String)> {
    let file_depth = stem.split('/').count();
    // Brace depths at which inline modules (`mod tests {`) began.
    let mut inline_modules: Vec<usize> = Vec::new();
    let mut depth = 0_usize;
    let mut found = Vec::new();
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    for index in 0..tokens.len() {
        let root_at = match text(index) {
            "{" => {
                if index >= 2 && text(index - 2) == "mod" {
                    inline_modules.push(depth);
                }
                depth += 1;
                None
            }
            "}" => {
                depth = depth.saturating_sub(1);
                if inline_modules.last() == Some(&depth) {
                    inline_modules.pop();
                }
                None
            }
            "crate" if text(index + 1) == "::" => Some(index + 2),
            // A chain is looked at once, at its first `super`.
            "super" if index == 0 || text(index - 1) != "::" => {
                let mut end = index;
                let mut count = 0;
                while text(end) == "super" && text(end + 1) == "::" {
                    end += 2;
                    count += 1;
                }
                (count == file_depth + inline_modules.len()).then_some(end)
            }
            _ => None,
        };
        if let Some(start) = root_at {
            first_segments(tokens, start, &mut found);
        }
    }
    found
}

/// `protocol::Batch` is `protocol`; `{journal::Journal, mutation::{A, B}}` is
/// `journal` and `mutation`.
fn first_segments(tokens: &[Token], start: usize, found: &mut Vec<(usize, String)>) {
    let Some(first) = tokens.get(start) else {
        return;
    };
    if first.text != "{" {
        found.push((first.line, first.text.clone()));
        return;
    }
    let mut depth = 0_usize;
    for pair in tokens[start..].windows(2) {
        let (token, next) = (&pair[0], &pair[1]);
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return;
        }
        let entry_follows = token.text == "," || (token.text == "{" && depth == 1);
        if depth == 1 && entry_follows && !matches!(next.text.as_str(), "}" | "self") {
            found.push((next.line, next.text.clone()));
        }
    }
}

/// Words that can stand before `::tower::Service` without being a part of the path.
const KEYWORDS: &[&str] = &[
    "as", "dyn", "else", "for", "impl", "in", "let", "match", "mut", "return", "use", "where",
];

/// Every mention of a crate that has a row in `CRATES`: at the start of a path,
/// or alone in a `use`.
fn foreign_crates(tokens: &[Token]) -> Vec<(usize, &str)> {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let is_word = |text: &str| text.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    (0..tokens.len())
        .filter(|&index| CRATES.iter().any(|(names, _)| names.contains(&text(index))))
        .filter(|&index| {
            // `a::tokio::b` is some module of that name, `::tokio::b` is the crate.
            let inner = index >= 2 && text(index - 1) == "::" && {
                let before = text(index - 2);
                is_word(before) && !KEYWORDS.contains(&before)
            };
            let path = text(index + 1) == "::";
            let alone = index >= 1 && matches!(text(index - 1), "use" | "crate");
            !inner && (path || alone)
        })
        .map(|index| (tokens[index].line, tokens[index].text.as_str()))
        .collect()
}

/// Cuts source into tokens without comments, strings and character literals.
fn tokens(source: &str) -> Vec<Token> {
    let bytes = source.as_bytes();
    let mut tokens = Vec::new();
    let (mut position, mut line) = (0, 1);
    while position < bytes.len() {
        let rest = &source[position..];
        let byte = bytes[position];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment_length(rest)
        } else if let Some(length) = literal_length(rest) {
            length
        } else if byte.is_ascii_alphanumeric() || byte == b'_' {
            let word = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            push(&mut tokens, line, &rest[..word]);
            word
        } else if rest.starts_with("::") {
            push(&mut tokens, line, "::");
            2
        } else {
            let width = rest.chars().next().map_or(1, char::len_utf8);
            if !byte.is_ascii_whitespace() {
                push(&mut tokens, line, &rest[..width]);
            }
            width
        };
        line += rest[..length].matches('\n').count();
        position += length;
    }
    tokens
}

fn push(tokens: &mut Vec<Token>, line: usize, text: &str) {
    tokens.push(Token {
        line,
        text: text.to_owned(),
    });
}

fn block_comment_length(rest: &str) -> usize {
    let (mut depth, mut position) = (0_usize, 0);
    while position < rest.len() {
        let here = &rest.as_bytes()[position..];
        if here.starts_with(b"/*") {
            depth += 1;
            position += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            position += 2;
            if depth == 0 {
                return position;
            }
        } else {
            position += 1;
        }
    }
    rest.len()
}

/// The length of a string, byte string, raw string or character literal at the
/// start of `rest`; none where there is none (`'a` is a lifetime).
fn literal_length(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        rest.strip_prefix(prefix).is_some_and(|after| {
            let raw = prefix.ends_with('r');
            let quoted = after.trim_start_matches('#').starts_with('"');
            (raw && quoted) || (!raw && after.starts_with(['"', '\'']))
        })
    })?;
    let after = &rest[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = after.len() - after.trim_start_matches('#').len();
        let closing = format!("\"{}", "#".repeat(hashes));
        let body = &after[hashes + 1..];
        let end = body
            .find(&closing)
            .map_or(body.len(), |end| end + closing.len());
        return Some(prefix.len() + hashes + 1 + end);
    }
    let quote = after.chars().next()?;
    if quote == '\'' {
        let mut characters = after[1..].chars();
        let first = characters.next()?;
        if first != '\\' && characters.next() != Some('\'') {
            return None;
        }
    }
    let mut escaped = false;
    for (offset, character) in after.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return Some(prefix.len() + offset + character.len_utf8()),
            _ => {}
        }
    }
    Some(rest.len())
}

/// Checks that exactly these lines of `source` are found to break a rule.
fn check(file: &str, source: &str, expected: &[(usize, &str)]) {
    let found: Vec<(usize, String)> = check_file(file, source)
        .into_iter()
        .map(|violation| (violation.line, violation.what))
        .collect();
    let expected: Vec<(usize, String)> = expected
        .iter()
        .map(|(line, what)| (*line, (*what).to_owned()))
        .collect();
    assert_eq!(found, expected, "in {file}:\n{source}");
}

/// A file's path, its source, and the line and text of every violation in it.
type Case<'a> = (&'a str, &'a str, &'a [(usize, &'a str)]);

#[test]
fn planted_violations_are_found() {
    let journal_protocol = "`journal` must not import `protocol`";
    let tower = "`tower` must not be named here";
    let cases: &[Case] = &[
        ("journal.rs", "use crate::mutation::Record;\n", &[]),
        (
            "journal.rs",
            "\nuse crate::protocol::Batch;\n",
            &[(2, journal_protocol)],
        ),
        (
            "journal/local.rs",
            "fn f(b: crate::protocol::Batch) {}\n",
            &[(1, journal_protocol)],
        ),
        (
            "journal/local.rs",
            "use crate::{\n    mutation::{self, Record},\n    protocol::{Batch, Class},\n};\n",
            &[(3, journal_protocol)],
        ),
        (
            "journal.rs",
            "use super::protocol::Batch;",
            &[(1, journal_protocol)],
        ),
        ("journal/local.rs", "use super::protocol::Batch;", &[]),
        (
            "journal/local.rs",
            "use super::super::protocol::Batch;",
            &[(1, journal_protocol)],
        ),
        (
            "journal.rs",
            "mod tests {\n use super::protocol;\n use super::super::protocol;\n}\nuse super::mutation;",
            &[(3, journal_protocol)],
        ),
        ("protocol/resp.rs", "use crate::protocol::Class;", &[]),
        (
            "protocol/resp.rs",
            "use crate::*;",
            &[(1, "`protocol` must not import `*`")],
        ),
        (
            "proxy.rs",
            "use crate::config::Config;",
            &[(1, "`proxy` must not import `config`")],
        ),
        (
            "admin.rs",
            "use crate::app::App;",
            &[(1, "`admin` must not import `app`")],
        ),
        ("cli/run.rs", "use crate::{app, config};", &[]),
        (
            "surprise.rs",
            "",
            &[(1, "`surprise` has no row in tests/imports.rs")],
        ),
        // Comments, strings and lifetimes are not paths.
        (
            "journal.rs",
            "// crate::protocol\n/* crate::protocol /* */ */\n\
             const A: &str = \"crate::protocol \\\" crate::protocol\";\n\
             const B: &str = r#\"\" crate::protocol\"#;\nconst C: char = '\"';\n\
             fn f<'a>(x: &'a str) -> char { '\\'' }\nuse crate::protocol;",
            &[(7, journal_protocol)],
        ),
        // Crates of others.
        ("stack/deadline.rs", "use tower::Service;", &[]),
        ("datastore.rs", "use tower::Service;", &[(1, tower)]),
        (
            "datastore.rs",
            "fn f() -> impl ::tower::Service {}",
            &[(1, tower)],
        ),
        ("datastore.rs", "use tower;", &[(1, tower)]),
        ("datastore.rs", "let tower = bell::tower::Height;", &[]),
        (
            "protocol.rs",
            "use tokio::io;",
            &[(1, "`tokio` must not be named here")],
        ),
        ("datastore.rs", "use tokio::io;", &[]),
        ("journal/kafka.rs", "use rdkafka::producer;", &[]),
        (
            "journal/spool.rs",
            "use rdkafka::producer;",
            &[(1, "`rdkafka` must not be named here")],
        ),
        ("main.rs", "use wal_sidecar::cli;", &[]),
    ];
    for (file, source, expected) in cases {
        check(file, source, expected);
    }
}
