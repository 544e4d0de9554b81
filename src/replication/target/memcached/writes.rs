//! What a transaction comes to, key by key.

use std::collections::HashMap;

use bytes::Bytes;

use crate::datastore::cache::{Item, is_key};
use crate::replication::engine::Command;

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Write {
    /// It has this value.
    Set(Item),
    /// It is gone.
    Delete,
    /// Its value lives as long as this, as memcached takes times.
    Touch(i64),
}

/// What becomes of each key, in the order in which they come up first, with the
/// command that is behind it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Writes {
    pub(super) all: Vec<(Bytes, Write, usize)>,
    /// Commands that can't be executed, and why.
    pub(super) refused: Vec<(usize, String)>,
}

/// Several commands on one key come to one write: a second would have to know
/// the cas number that the first has made.
pub(super) fn writes(commands: &[Command]) -> Writes {
    let mut writes = Writes::default();
    let mut places: HashMap<Bytes, usize> = HashMap::new();
    for (index, command) in commands.iter().enumerate() {
        let Some((key, write)) = write_of(&command.arguments) else {
            writes.refused.push((index, refusal(&command.arguments)));
            continue;
        };
        match places.get(&key) {
            Some(place) => {
                let (_, known, cause) = &mut writes.all[*place];
                merge(known, write);
                *cause = index;
            }
            None => {
                places.insert(key.clone(), writes.all.len());
                writes.all.push((key, write, index));
            }
        }
    }
    writes
}

fn merge(known: &mut Write, later: Write) {
    match (known, later) {
        (Write::Set(item), Write::Touch(time)) => item.time = time,
        (Write::Delete, Write::Touch(_)) => {}
        (known, later) => *known = later,
    }
}

fn write_of(arguments: &[Bytes]) -> Option<(Bytes, Write)> {
    let (name, rest) = arguments.split_first()?;
    let (key, rest) = rest.split_first()?;
    let write = match (&name[..], rest) {
        (b"set", [flags, time, value]) => Write::Set(Item {
            flags: number(flags)?,
            time: number(time)?,
            value: value.clone(),
        }),
        (b"delete", []) => Write::Delete,
        (b"touch", [time]) => Write::Touch(number(time)?),
        _ => return None,
    };
    is_key(key).then(|| (key.clone(), write))
}

fn refusal(arguments: &[Bytes]) -> String {
    match arguments.get(1).is_some_and(|key| is_key(key)) {
        true => {
            let name = arguments[0].escape_ascii();
            format!("{name} is not in a form that can be applied")
        }
        false => "the key can't be named in memcached's meta commands".to_owned(),
    }
}

fn number<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(commands: &[&str], expected: &[(&str, Write, usize)], refused: &[usize]) {
        let commands: Vec<Command> = commands
            .iter()
            .map(|text| Command {
                database: 0,
                arguments: text
                    .split(' ')
                    .map(|one| Bytes::from(one.to_owned()))
                    .collect(),
            })
            .collect();
        let found = writes(&commands);
        let owned = |(key, write, index): &(&str, Write, usize)| {
            (Bytes::from((*key).to_owned()), write.clone(), *index)
        };
        assert_eq!(found.all, expected.iter().map(owned).collect::<Vec<_>>());
        let found: Vec<usize> = found.refused.iter().map(|(index, _)| *index).collect();
        assert_eq!(found, refused);
    }

    #[test]
    fn commands_on_one_key_come_to_one_write() {
        let set = |flags, time, value: &'static str| {
            Write::Set(Item {
                flags,
                time,
                value: Bytes::from_static(value.as_bytes()),
            })
        };
        check(
            &["set k 0 0 a", "touch k 70", "set l 7 -1 b"],
            &[("k", set(0, 70, "a"), 1), ("l", set(7, -1, "b"), 2)],
            &[],
        );
        check(&["delete k", "touch k 7"], &[("k", Write::Delete, 1)], &[]);
        check(
            &["touch k 7", "touch k 8"],
            &[("k", Write::Touch(8), 1)],
            &[],
        );
        check(
            &["touch k 7", "delete k", "set k 0 0 c"],
            &[("k", set(0, 0, "c"), 2)],
            &[],
        );
        let long = format!("delete {}", "x".repeat(251));
        check(
            &["incr k 1", "delete k", &long, "set k x 0 a", "delete"],
            &[("k", Write::Delete, 1)],
            &[0, 2, 3, 4],
        );
    }
}
