//! What a journaled command does to each of its keys, as far as the order of
//! commands matters: whoever applies journals of several regions decides by it
//! which commands may be applied in any order.
//!
//! | kind | commands | two of them, of different regions |
//! |---|---|---|
//! | overwrite | SET, DEL, MSET, RESTORE REPLACE, memcached's set and delete | the newer stays |
//! | element | HSET, HDEL, SADD, SREM, ZADD, ZREM, SETBIT, GEOADD | the newer stays, of each field or member |
//! | counter | INCR, DECR, INCRBY, DECRBY | both, in any order |
//! | element counter | HINCRBY | both, in any order |
//! | register | PFADD | both, in any order |
//! | ordered | all others | their order matters |
//! | flush | FLUSHALL, FLUSHDB, flush_all | empties |

use bytes::Bytes;
use smallvec::SmallVec;

use super::number::parse_integer;
pub use crate::protocol::resp::commands::Table;

/// How a command's effect on a key depends on what came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The key's value afterwards does not depend on the one before.
    Overwrite = 1,
    /// The same, of one field, member or bit of the key.
    Element = 2,
    /// Adds a number to the key's.
    Counter = 4,
    /// Adds a number to one field's.
    ElementCounter = 8,
    /// Adds to a set that nothing is taken from (HyperLogLog).
    Register = 16,
    /// Depends on what came before.
    Ordered = 32,
    /// Empties the database.
    Flush = 64,
}

/// What a command does to one key, or to one element of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation<'a> {
    /// How its effect depends on what came before.
    pub kind: Kind,
    /// The key; empty for [`Kind::Flush`].
    pub key: &'a [u8],
    /// The field, member or bit; empty where it is the whole key.
    pub element: &'a [u8],
    /// What a [`Kind::Counter`] adds.
    pub delta: i64,
}

/// The operations of a command, and how to make a command of some of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operations<'a> {
    /// What it does, in the order of its arguments.
    pub all: SmallVec<[Operation<'a>; 1]>,
    /// Where its items are, where it can be cut: arguments before the first,
    /// arguments of each.
    cut: Option<(usize, usize)>,
}

impl<'a> Operations<'a> {
    /// Whether a command of some of the operations only can be made.
    pub fn can_be_cut(&self) -> bool {
        self.cut.is_some()
    }

    /// The command with the operations that are wanted. `arguments` is the whole one.
    pub fn cut(&self, arguments: &[Bytes], wanted: impl Fn(usize) -> bool) -> Vec<Bytes> {
        let Some((head, stride)) = self.cut else {
            return arguments.to_vec();
        };
        let (head, items) = arguments.split_at(head);
        let items = items.chunks(stride).enumerate();
        let kept = items.filter(|(index, _)| wanted(*index));
        let kept = kept.flat_map(|(_, item)| item.iter());
        head.iter().chain(kept).cloned().collect()
    }
}

/// How the items of a command lie: arguments before the first, arguments of
/// each, and which of these is the element; the items of some are keys.
struct Layout {
    head: usize,
    stride: usize,
    named_by: usize,
    are_keys: bool,
}

const fn layout(head: usize, stride: usize, named_by: usize) -> Layout {
    Layout {
        head,
        stride,
        named_by,
        are_keys: head == 1,
    }
}

/// What a Redis command does, in the form it has in the journal. `arguments`
/// starts with the command's name.
pub fn operations<'a>(table: &Table, arguments: &'a [Bytes]) -> Operations<'a> {
    let mut upper = [0_u8; 16];
    let name = arguments.first().map_or(&[][..], |name| &name[..]);
    let length = name.len().min(upper.len());
    upper[..length].copy_from_slice(&name[..length]);
    upper.make_ascii_uppercase();
    let argument = |index: usize| arguments.get(index).map_or(&[][..], |one| &one[..]);
    let whole = |kind: Kind| Operations {
        all: SmallVec::from_elem(operation(kind, argument(1)), 1),
        cut: None,
    };
    let delta = |delta: Option<i64>| match delta {
        Some(delta) => {
            let mut operations = whole(Kind::Counter);
            operations.all[0].delta = delta;
            operations
        }
        None => whole(Kind::Ordered),
    };
    let found = match &upper[..length] {
        b"SET"
            if !arguments
                .iter()
                .skip(3)
                .any(|one| one.eq_ignore_ascii_case(b"KEEPTTL")) =>
        {
            return whole(Kind::Overwrite);
        }
        b"RESTORE"
            if arguments
                .iter()
                .skip(4)
                .any(|one| one.eq_ignore_ascii_case(b"REPLACE")) =>
        {
            return whole(Kind::Overwrite);
        }
        b"INCR" => return delta(Some(1)),
        b"DECR" => return delta(Some(-1)),
        b"INCRBY" => return delta(parse_integer(argument(2))),
        b"DECRBY" => return delta(parse_integer(argument(2)).and_then(i64::checked_neg)),
        b"PFADD" => return whole(Kind::Register),
        b"HINCRBY" => {
            let mut operations = whole(Kind::ElementCounter);
            operations.all[0].element = argument(2);
            return operations;
        }
        b"FLUSHALL" | b"FLUSHDB" => {
            return Operations {
                all: SmallVec::from_elem(operation(Kind::Flush, b""), 1),
                cut: None,
            };
        }
        b"MSET" => Some(layout(1, 2, 0)),
        b"DEL" | b"UNLINK" => Some(layout(1, 1, 0)),
        b"HSET" | b"HMSET" | b"SETBIT" => Some(layout(2, 2, 0)),
        b"HDEL" | b"SADD" | b"SREM" | b"ZREM" => Some(layout(2, 1, 0)),
        b"ZADD" if is_number(argument(2)) => Some(layout(2, 2, 1)),
        b"GEOADD" if is_number(argument(2)) => Some(layout(2, 3, 2)),
        _ => None,
    };
    let fits = |layout: &Layout| {
        layout.head < arguments.len()
            && (arguments.len() - layout.head).is_multiple_of(layout.stride)
    };
    match found.filter(fits) {
        Some(layout) => {
            let items = arguments[layout.head..].chunks(layout.stride);
            let of = |item: &'a [Bytes]| {
                let named = &item[layout.named_by][..];
                match layout.are_keys {
                    true => operation(Kind::Overwrite, named),
                    false => Operation {
                        element: named,
                        ..operation(Kind::Element, argument(1))
                    },
                }
            };
            Operations {
                all: items.map(of).collect(),
                cut: Some((layout.head, layout.stride)),
            }
        }
        None => ordered(table, arguments),
    }
}

/// What a memcached command does, in the words of the classic protocol.
pub fn memcached_operations<'a>(arguments: &'a [Bytes]) -> Operations<'a> {
    let name = arguments.first().map_or(&[][..], |name| &name[..]);
    let key = arguments.get(1).map_or(&[][..], |key| &key[..]);
    let operation = match name {
        b"set" | b"delete" => operation(Kind::Overwrite, key),
        b"flush_all" => operation(Kind::Flush, b""),
        _ => operation(Kind::Ordered, key),
    };
    Operations {
        all: SmallVec::from_elem(operation, 1),
        cut: None,
    }
}

fn operation(kind: Kind, key: &[u8]) -> Operation<'_> {
    Operation {
        kind,
        key,
        element: b"",
        delta: 0,
    }
}

fn ordered<'a>(table: &Table, arguments: &'a [Bytes]) -> Operations<'a> {
    let plain: SmallVec<[&[u8]; 8]> = arguments.iter().map(|one| &one[..]).collect();
    let mut all: SmallVec<[Operation<'_>; 1]> = SmallVec::new();
    let specification = plain.first().and_then(|name| table.find(name));
    if let Some(specification) = specification {
        table.keys(specification, &plain, |index| {
            if let Some(key) = arguments.get(index)
                && !all.iter().any(|known| known.key == key)
            {
                all.push(operation(Kind::Ordered, key));
            }
        });
    }
    Operations { all, cut: None }
}

fn is_number(text: &[u8]) -> bool {
    let first = text.first().copied().unwrap_or(b'x');
    first.is_ascii_digit()
        || matches!(first, b'-' | b'+' | b'.')
        || text.eq_ignore_ascii_case(b"inf")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &'static str) -> Vec<Bytes> {
        text.split(' ').map(Bytes::from).collect()
    }

    fn show(operations: &Operations<'_>) -> String {
        let show = |one: &Operation<'_>| {
            format!(
                "{:?} {} {} {}",
                one.kind,
                one.key.escape_ascii(),
                one.element.escape_ascii(),
                one.delta
            )
        };
        let all: Vec<String> = operations.all.iter().map(show).collect();
        all.join(", ")
    }

    fn check(command: &'static str, expected: &str) {
        let table = Table::built_in();
        let arguments = words(command);
        assert_eq!(show(&operations(&table, &arguments)), expected, "{command}");
    }

    #[test]
    fn commands_are_of_their_kinds() {
        for (command, expected) in [
            ("SET k v", "Overwrite k  0"),
            ("set k v PXAT 5", "Overwrite k  0"),
            ("SET k v KEEPTTL", "Ordered k  0"),
            ("RESTORE k 0 x REPLACE", "Overwrite k  0"),
            ("RESTORE k 0 x", "Ordered k  0"),
            ("INCR k", "Counter k  1"),
            ("DECRBY k 5", "Counter k  -5"),
            ("DECRBY k -9223372036854775808", "Ordered k  0"),
            ("HINCRBY k f 5", "ElementCounter k f 0"),
            ("MSET a 1 b 2", "Overwrite a  0, Overwrite b  0"),
            ("UNLINK a b", "Overwrite a  0, Overwrite b  0"),
            ("HSET k f 1 g 2", "Element k f 0, Element k g 0"),
            ("SREM k a b", "Element k a 0, Element k b 0"),
            ("ZADD k 1 a inf b", "Element k a 0, Element k b 0"),
            ("ZADD k NX 1 a", "Ordered k  0"),
            ("SETBIT k 7 1", "Element k 7 0"),
            ("RENAME a b", "Ordered a  0, Ordered b  0"),
            ("SUNIONSTORE d a a", "Ordered d  0, Ordered a  0"),
            ("LPUSH k 1", "Ordered k  0"),
            ("FLUSHDB", "Flush   0"),
            ("PFADD k a", "Register k  0"),
        ] {
            check(command, expected);
        }
    }

    #[test]
    fn a_part_of_a_command_is_a_command() {
        let table = Table::built_in();
        for (command, expected) in [
            ("MSET a 1 b 2 c 3", "MSET a 1 c 3"),
            ("HDEL k f g h", "HDEL k f h"),
            ("ZADD k 1 a 2 b 3 c", "ZADD k 1 a 3 c"),
        ] {
            let arguments = words(command);
            let operations = operations(&table, &arguments);
            assert_eq!(
                operations.cut(&arguments, |index| index != 1),
                words(expected)
            );
        }
    }
}
