//! What the datastore knows and the table does not: modules, newer versions,
//! renamed commands. Read from its `COMMAND` and `COMMAND INFO` replies.

use std::borrow::Cow;

use super::keys::{Begin, Find, KeySearch, range};
use super::reply::Value;
use super::table::{MAX_SPECIFICATIONS, NOTHING};
use super::{Control, Effect, Flags, KeySpecification, Rule, Specification, Table};
use crate::protocol::Class;

/// Why a table could not be completed; the one there was stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompletionError {
    /// The datastore answered with an error (COMMAND may be forbidden to the
    /// identity that asked).
    #[error("the datastore refused COMMAND: {0}")]
    Refused(String),
    /// The reply is not what COMMAND answers.
    #[error("the datastore's reply to COMMAND is invalid: {0}")]
    Invalid(&'static str),
    /// It names more commands than a table can hold.
    #[error("the datastore has more than {MAX_SPECIFICATIONS} commands")]
    TooMany,
}

impl Table {
    /// A table with everything `command_reply`, the whole reply to `COMMAND`
    /// or to `COMMAND INFO` in RESP2 or RESP3, names and this one lacks.
    ///
    /// Of commands both know, this table's meaning stays and the more lenient
    /// arity counts, as the datastore may be replaced by another version under
    /// the same address. A command only the datastore knows is a mutation of
    /// unknown effect where its flags say `write`, or `may_replicate` without
    /// `readonly`; all others read. Indexes of this table mean the same in the
    /// completed one.
    pub fn completed(&self, command_reply: &[u8]) -> Result<Table, CompletionError> {
        let mut specifications = self.specifications().to_vec();
        for command in commands(command_reply)?.list() {
            // COMMAND INFO has null for a name it does not know.
            if *command != Value::Null {
                self.merge(&mut specifications, &Described::read(command)?);
            }
        }
        checked(specifications)
    }

    /// A table that also has `name`, which a client used and this table lacks,
    /// from the whole reply to `COMMAND INFO name`. Where the datastore's
    /// configuration renamed a command, that reply tells which one it is; the
    /// reply to `COMMAND` never does. The same table where the datastore does
    /// not know `name`.
    pub fn completed_for(&self, name: &[u8], reply: &[u8]) -> Result<Table, CompletionError> {
        let table = self.completed(reply)?;
        let reply = commands(reply)?;
        let Some(command @ Value::List(_)) = reply.list().first() else {
            return Ok(table);
        };
        let original = Described::read(command)?.name;
        let Ok(name) = std::str::from_utf8(name) else {
            return Ok(table);
        };
        let name = name.to_ascii_uppercase();
        if name == original || name.contains(' ') || table.find(name.as_bytes()).is_some() {
            return Ok(table);
        }
        let mut specifications = table.specifications().to_vec();
        for specification in table.specifications() {
            let known = &*specification.name;
            let part = match known.strip_prefix(&*original) {
                Some(part) if part.is_empty() || part.starts_with(' ') => part,
                _ => continue,
            };
            let mut renamed = specification.clone();
            renamed.name = Cow::Owned(format!("{name}{part}"));
            specifications.push(renamed);
        }
        checked(specifications)
    }

    /// Adds `described` and its subcommands to `specifications`, which begin
    /// with this table's.
    fn merge(&self, specifications: &mut Vec<Specification>, described: &Described) {
        let known = self.position(NOTHING, described.name.as_bytes());
        let container = match known {
            Some(index) => index,
            None if specifications.iter().any(|s| s.name == described.name) => return,
            None => {
                specifications.push(described.specification(None));
                (specifications.len() - 1) as u16
            }
        };
        let row = &mut specifications[usize::from(container)];
        row.arity = lenient(row.arity, described.arity);
        if !described.parts.is_empty() && row.rule == Rule::Fixed {
            // Each part has a meaning of its own from now on.
            row.rule = Rule::Container;
            row.flags |= Flags::CONTAINER;
        }
        if row.rule != Rule::Container {
            return;
        }
        let container_name = row.name.clone();
        for part in &described.parts {
            match known.and_then(|parent| self.position(parent, part.name.as_bytes())) {
                None => specifications.push(part.specification(Some(&container_name))),
                Some(index) => {
                    let row = &mut specifications[usize::from(index)];
                    row.arity = lenient(row.arity, part.arity);
                }
            }
        }
    }
}

/// An arity that accepts what either does.
fn lenient(known: i32, described: Option<i32>) -> i32 {
    match described {
        Some(other) if other != known => -known.saturating_abs().min(other.saturating_abs()),
        _ => known,
    }
}

fn checked(specifications: Vec<Specification>) -> Result<Table, CompletionError> {
    match specifications.len() {
        0..=MAX_SPECIFICATIONS => Ok(Table::new(specifications)),
        _ => Err(CompletionError::TooMany),
    }
}

/// The list a reply to COMMAND is.
fn commands(reply: &[u8]) -> Result<Value<'_>, CompletionError> {
    match Value::parse(reply).map_err(CompletionError::Invalid)? {
        list @ Value::List(_) => Ok(list),
        Value::Error(text) => Err(CompletionError::Refused(
            String::from_utf8_lossy(text).into_owned(),
        )),
        _ => Err(CompletionError::Invalid("not a list")),
    }
}

/// One element of a reply to COMMAND: name, arity, flags, first key, last key,
/// step and, since Redis 7, ACL categories, tips, key specifications and
/// subcommands.
struct Described {
    /// In upper case, without its container's.
    name: String,
    /// `None` where it is not a possible one.
    arity: Option<i32>,
    flags: Flags,
    keys: KeySpecification,
    parts: Vec<Described>,
}

impl Described {
    fn read(command: &Value) -> Result<Described, CompletionError> {
        const INVALID: CompletionError = CompletionError::Invalid("a command is not described");
        let fields = command.list();
        let [name, arity, flags, first, last, step, ..] = fields else {
            return Err(INVALID);
        };
        let name = name.text().map(String::from_utf8_lossy).ok_or(INVALID)?;
        // A subcommand's name is `container|name`.
        let name = name.rsplit('|').next().unwrap_or_default();
        let arity = arity.integer().and_then(|arity| i32::try_from(arity).ok());
        let parts = fields.get(9).map(Value::list).unwrap_or_default();
        let [first, last, step] = [first, last, step].map(|place| place.integer().unwrap_or(0));
        Ok(Described {
            // A space would make it look like a subcommand.
            name: name.to_ascii_uppercase().replace(' ', "_"),
            arity: arity.filter(|arity| *arity != 0),
            flags: read_flags(flags),
            keys: read_keys(fields.get(8), first, last, step),
            parts: parts
                .iter()
                .map(Described::read)
                .collect::<Result<_, _>>()?,
        })
    }

    fn specification(&self, container: Option<&str>) -> Specification {
        let writes = self.flags.contains(Flags::WRITE);
        let blocks = self.flags.contains(Flags::BLOCKING);
        let mut flags = self.flags;
        flags.set(Flags::CONTAINER, !self.parts.is_empty());
        Specification {
            name: Cow::Owned(match container {
                None => self.name.clone(),
                Some(container) => format!("{container} {}", self.name),
            }),
            arity: self.arity.unwrap_or(-1),
            flags,
            keys: self.keys.clone(),
            class: if writes { Class::Mutation } else { Class::Read },
            control: blocks.then_some(Control::Blocking),
            effect: if writes { Effect::Opaque } else { Effect::None },
            rule: match self.parts.is_empty() {
                true => Rule::Fixed,
                false => Rule::Container,
            },
        }
    }
}

fn read_flags(flags: &Value) -> Flags {
    let mut read = Flags::empty();
    let mut replicates = false;
    for flag in flags.list() {
        match flag.text().unwrap_or_default() {
            b"write" => read |= Flags::WRITE,
            b"readonly" => read |= Flags::READONLY,
            b"movablekeys" => read |= Flags::MOVABLE_KEYS,
            b"blocking" => read |= Flags::BLOCKING,
            b"may_replicate" => replicates = true,
            _ => {}
        }
    }
    // What may be replicated and does not promise to read only runs scripts of
    // some kind, and those write.
    read.set(
        Flags::WRITE,
        read.contains(Flags::WRITE) || (replicates && !read.contains(Flags::READONLY)),
    );
    read
}

/// The key specifications where there are any and all are known, else the
/// first key, the last one and the step.
fn read_keys(searches: Option<&Value>, first: i64, last: i64, step: i64) -> KeySpecification {
    let small = |place: i64| i32::try_from(place).ok();
    let legacy = match (small(first), small(last), small(step)) {
        (Some(first @ 1..), Some(last), Some(step)) => range(first, last, step.max(1)),
        _ => KeySpecification::None,
    };
    let searches = searches.map(Value::list).unwrap_or_default();
    let keys = searches
        .iter()
        .filter(|search| !has_flag(search, b"not_key"));
    match keys.map(read_search).collect::<Option<Box<[KeySearch]>>>() {
        Some(searches) if simple(&searches, &legacy) => legacy,
        Some(searches) if !searches.is_empty() => KeySpecification::Searched(searches),
        // Only what is no key (channels) has places.
        Some(_) if !searches.is_empty() => KeySpecification::None,
        _ => legacy,
    }
}

/// Whether `searches` say no more than `legacy`, which is found faster.
fn simple(searches: &[KeySearch], legacy: &KeySpecification) -> bool {
    let (
        [
            KeySearch {
                begin: Begin::Index(begin),
                find: Find::Range { last, step, limit },
            },
        ],
        &KeySpecification::Range {
            first,
            last: legacy_last,
            step: legacy_step,
        },
    ) = (searches, legacy)
    else {
        return false;
    };
    let last = if *last < 0 { *last } else { begin + last };
    *begin == i64::from(first)
        && last == i64::from(legacy_last)
        && *step == i64::from(legacy_step)
        && *limit <= 1
}

fn has_flag(search: &Value, flag: &[u8]) -> bool {
    let flags = search.get(b"flags").map(Value::list).unwrap_or_default();
    flags.iter().any(|known| known.text() == Some(flag))
}

/// A key specification; `None` where one of its halves is of an unknown type.
fn read_search(search: &Value) -> Option<KeySearch> {
    let half = |name: &[u8]| {
        let half = search.get(name)?;
        Some((half.get(b"type")?.text()?, half.get(b"spec")?))
    };
    let number = |spec: &Value, name: &[u8]| spec.get(name)?.integer();
    let (kind, spec) = half(b"begin_search")?;
    let begin = match kind {
        b"index" => Begin::Index(number(spec, b"index")?),
        b"keyword" => Begin::Keyword {
            keyword: spec.get(b"keyword")?.text()?.into(),
            from: number(spec, b"startfrom")?,
        },
        _ => return None,
    };
    let (kind, spec) = half(b"find_keys")?;
    let find = match kind {
        b"range" => Find::Range {
            last: number(spec, b"lastkey")?,
            step: number(spec, b"keystep")?,
            limit: number(spec, b"limit")?,
        },
        b"keynum" => Find::Count {
            count: number(spec, b"keynumidx")?,
            first: number(spec, b"firstkey")?,
            step: number(spec, b"keystep")?,
        },
        _ => return None,
    };
    Some(KeySearch { begin, find })
}
