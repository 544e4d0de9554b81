//! What a key holds, whatever it is stored as: encodings differ between servers
//! that were told the same, and sets and hashes have no order.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::target::redis::Redis;
use super::super::target::{DatabaseKey, TargetError, Value};
use crate::datastore::client::{elements, text};

/// Bytes of a value that are shown.
const SHOWN: usize = 40;

/// What ends a DUMP: the version of its format and a checksum.
const DUMP_FOOTER: usize = 10;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// There is no such key, any more.
    Absent,
    /// A string; of memcached, with its flags.
    Text(Bytes, Option<u32>),
    /// Members, or fields, or groups, with what each of them has. Of a type.
    Map(&'static str, BTreeMap<Bytes, Bytes>),
    /// Elements in order. Of a type.
    List(&'static str, Vec<Bytes>),
    /// A type of a module.
    Other(String, Bytes),
}

impl Content {
    fn name(&self) -> &str {
        match self {
            Content::Absent => "nothing",
            Content::Text(..) => "string",
            Content::Map(name, _) | Content::List(name, _) => name,
            Content::Other(name, _) => name,
        }
    }
}

pub(super) fn of_memcached(value: &Value) -> Content {
    let Some(bytes) = &value.bytes else {
        return Content::Absent;
    };
    let flags = bytes.first_chunk::<4>().copied().unwrap_or_default();
    let data = bytes.slice(bytes.len().min(4)..);
    Content::Text(data, Some(u32::from_be_bytes(flags)))
}

/// Reads what a key holds. What is read of it one after the other need not be of
/// one moment: the key is read again then, as for anything that differs.
pub(super) async fn read(
    store: &mut Redis,
    key: &DatabaseKey,
    value: &Value,
) -> Result<Content, TargetError> {
    let (database, name) = key;
    let ask = |words: &[&'static str]| {
        let mut all: Vec<Bytes> = words
            .iter()
            .map(|word| Bytes::from_static(word.as_bytes()))
            .collect();
        let at = usize::from(words[0] == "XINFO") + 1;
        all.insert(at, name.clone());
        (*database, all)
    };
    let kind = store.ask_all(&[ask(&["TYPE"])]).await?.swap_remove(0);
    let kind = text(&kind).unwrap_or_default();
    let questions: Vec<(u32, Vec<Bytes>)> = match &kind[..] {
        b"none" => return Ok(Content::Absent),
        b"string" => vec![ask(&["GET"])],
        b"hash" => vec![ask(&["HGETALL"])],
        b"set" => vec![ask(&["SMEMBERS"])],
        b"list" => vec![ask(&["LRANGE", "0", "-1"])],
        b"zset" => vec![ask(&["ZRANGE", "0", "-1", "WITHSCORES"])],
        b"stream" => vec![
            ask(&["XRANGE", "-", "+"]),
            ask(&["XINFO", "STREAM"]),
            ask(&["XINFO", "GROUPS"]),
        ],
        other => {
            let dump = value.bytes.clone().unwrap_or_default();
            let end = dump.len().saturating_sub(DUMP_FOOTER);
            let name = String::from_utf8_lossy(other).into_owned();
            return Ok(Content::Other(name, dump.slice(..end)));
        }
    };
    let replies = store.ask_all(&questions).await?;
    let parts = |at: usize| elements(&replies[at]).unwrap_or_default();
    let texts = |at: usize| parts(at).iter().filter_map(text).collect::<Vec<Bytes>>();
    Ok(match &kind[..] {
        b"string" => match text(&replies[0]) {
            Some(found) => Content::Text(found, None),
            None => Content::Absent,
        },
        b"hash" => Content::Map("hash", pairs(&texts(0))),
        b"zset" => Content::Map("sorted set", pairs(&texts(0))),
        b"set" => {
            let members = texts(0).into_iter().map(|one| (one, Bytes::new()));
            Content::Map("set", members.collect())
        }
        b"list" => Content::List("list", texts(0)),
        _ => Content::Map("stream", stream(parts(0), parts(1), parts(2))),
    })
}

fn pairs(all: &[Bytes]) -> BTreeMap<Bytes, Bytes> {
    let each = all.chunks_exact(2);
    each.map(|pair| (pair[0].clone(), pair[1].clone()))
        .collect()
}

/// Its entries by id, and what else tells two streams apart: the last id and, of
/// each group, how far it is.
fn stream(entries: Vec<Bytes>, about: Vec<Bytes>, groups: Vec<Bytes>) -> BTreeMap<Bytes, Bytes> {
    let mut all = BTreeMap::new();
    for entry in entries {
        if let [id, fields] = &elements(&entry).unwrap_or_default()[..] {
            all.insert(text(id).unwrap_or_default(), flat(fields));
        }
    }
    let field = |reply: &[Bytes], name: &str| {
        let mut pairs = reply.chunks_exact(2);
        let found = pairs.find(|pair| text(&pair[0]).is_some_and(|found| found == name));
        found.and_then(|pair| text(&pair[1])).unwrap_or_default()
    };
    let last = field(&about, "last-generated-id");
    all.insert(Bytes::from_static(b"last id"), last);
    for group in groups {
        let group = elements(&group).unwrap_or_default();
        let name = [b"group ", &field(&group, "name")[..]].concat();
        let (last, pending) = (field(&group, "last-delivered-id"), field(&group, "pending"));
        let state = [&last[..], b", pending ", &pending[..]].concat();
        all.insert(Bytes::from(name), Bytes::from(state));
    }
    all
}

/// The fields of an entry, with their lengths: no two lists look the same.
fn flat(fields: &Bytes) -> Bytes {
    let all = elements(fields).unwrap_or_default();
    let all: Vec<Bytes> = all.iter().filter_map(text).collect();
    let shown = all.chunks(2).map(|pair| {
        let words = pair.iter().map(|word| short(word));
        words.collect::<Vec<_>>().join("=")
    });
    let shown = shown.collect::<Vec<_>>().join(" ");
    let whole = all.iter().fold(Vec::new(), |mut whole, word| {
        whole.extend_from_slice(&(word.len() as u64).to_le_bytes());
        whole.extend_from_slice(word);
        whole
    });
    // What is too long to be shown differs in its hash.
    Bytes::from(format!(
        "{shown} #{:016x}",
        xxhash_rust::xxh3::xxh3_64(&whole)
    ))
}

/// What is different about two values, for people; none where they are equal.
pub(super) fn difference(ours: &Content, theirs: &Content) -> Option<String> {
    if ours == theirs {
        return None;
    }
    Some(match (ours, theirs) {
        (Content::Text(one, flags), Content::Text(other, others)) => match one == other {
            true => format!("flags {} here, {} there", number(*flags), number(*others)),
            false => {
                let (one, other) = around(one, other);
                format!("string {one} here, {other} there")
            }
        },
        (Content::Map(name, one), Content::Map(other_name, other)) if name == other_name => {
            of_maps(name, one, other)
        }
        (Content::List(name, one), Content::List(_, other)) => of_lists(name, one, other),
        (Content::Other(name, _), Content::Other(other, _)) if name == other => {
            format!("{name}: differs")
        }
        _ => format!("{} here, {} there", ours.name(), theirs.name()),
    })
}

fn number(flags: Option<u32>) -> String {
    flags.map_or_else(|| "none".to_owned(), |flags| flags.to_string())
}

fn of_maps(name: &str, one: &BTreeMap<Bytes, Bytes>, other: &BTreeMap<Bytes, Bytes>) -> String {
    let lacking = |from: &BTreeMap<Bytes, Bytes>, what: &BTreeMap<Bytes, Bytes>| {
        what.keys().filter(|key| !from.contains_key(*key)).count()
    };
    let (here, there) = (lacking(one, other), lacking(other, one));
    let both = one
        .iter()
        .filter_map(|(key, value)| Some((key, value, other.get(key)?)));
    let mut differing = both.filter(|(_, value, other)| value != other);
    let first = differing.next();
    let rest = differing.count();
    let mut parts = Vec::new();
    if let Some((key, value, other)) = first {
        let (value, other) = around(value, other);
        parts.push(format!("{} is {value} here, {other} there", short(key)));
    }
    if 0 < rest {
        parts.push(format!("{rest} more differ"));
    }
    for (count, from, what, side) in [(here, one, other, "here"), (there, other, one, "there")] {
        if let Some(key) = what.keys().find(|key| !from.contains_key(*key)) {
            let more = match count {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            parts.push(format!("{}{more} missing {side}", short(key)));
        }
    }
    format!("{name}: {}", parts.join("; "))
}

fn of_lists(name: &str, one: &[Bytes], other: &[Bytes]) -> String {
    let at = one.iter().zip(other).position(|(one, other)| one != other);
    match at {
        Some(at) => {
            let (ours, theirs) = around(&one[at], &other[at]);
            let lengths = match one.len() == other.len() {
                true => String::new(),
                false => format!("; {} elements here, {} there", one.len(), other.len()),
            };
            format!("{name}: element {at} is {ours} here, {theirs} there{lengths}")
        }
        None => format!("{name}: {} elements here, {} there", one.len(), other.len()),
    }
}

/// Two values from where they begin to differ.
fn around(one: &Bytes, other: &Bytes) -> (String, String) {
    let same = one
        .iter()
        .zip(other)
        .take_while(|(one, other)| one == other)
        .count();
    let from = match same < SHOWN / 2 {
        true => 0,
        false => same - SHOWN / 4,
    };
    let part = |bytes: &Bytes| {
        let mut shown = short(&bytes.slice(from.min(bytes.len())..));
        if 0 < from {
            shown.insert_str(0, "...");
        }
        shown
    };
    (part(one), part(other))
}

fn short(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN)];
    let more = match SHOWN < bytes.len() {
        true => "...",
        false => "",
    };
    format!("\"{}\"{more}", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn differences_are_told() {
        let map = |name, all: &[(&'static str, &'static str)]| {
            let all = all.iter().map(|(key, value)| (bytes(key), bytes(value)));
            Content::Map(name, all.collect())
        };
        let list = |all: &[&'static str]| {
            Content::List("list", all.iter().map(|one| bytes(one)).collect())
        };
        let string = |text| Content::Text(bytes(text), None);
        for (one, other, expected) in [
            (string("a"), string("a"), None),
            (
                string("a"),
                string("b"),
                Some("string \"a\" here, \"b\" there"),
            ),
            (string("a"), list(&["a"]), Some("string here, list there")),
            (
                string("a"),
                Content::Absent,
                Some("string here, nothing there"),
            ),
            (
                Content::Text(bytes("a"), Some(1)),
                Content::Text(bytes("a"), Some(2)),
                Some("flags 1 here, 2 there"),
            ),
            (
                map("hash", &[("f", "1"), ("g", "2"), ("h", "3")]),
                map("hash", &[("f", "1"), ("g", "3"), ("i", "3"), ("j", "3")]),
                Some(
                    "hash: \"g\" is \"2\" here, \"3\" there; \"i\" and 1 more missing here; \"h\" missing there",
                ),
            ),
            (
                list(&["a", "b"]),
                list(&["a", "c", "d"]),
                Some("list: element 1 is \"b\" here, \"c\" there; 2 elements here, 3 there"),
            ),
            (
                list(&["a"]),
                list(&["a", "b"]),
                Some("list: 1 elements here, 2 there"),
            ),
        ] {
            assert_eq!(difference(&one, &other).as_deref(), expected);
        }
        let long = |end: &str| Bytes::from(format!("{}{end}", "x".repeat(100)));
        let (one, other) = around(&long("1"), &long("2"));
        assert_eq!(
            (&one[..], &other[..]),
            ("...\"xxxxxxxxxx1\"", "...\"xxxxxxxxxx2\"")
        );
    }
}
