//! Counters that a datastore refused to change.
//!
//! What is final in a journal is applied before it is known whether the own
//! datastore took it. Where that was refused for a reason that is not the value's
//! (it is loading, has no memory left, was not reached), others have counted what
//! was not to be counted. Its region tells the key; but where clients change it in
//! many regions all the time, a newer value that has it wins over that. So who
//! reads the refusal counts it back: the refusal is a change of its own, as old as
//! what was refused, and a value that includes both includes neither.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::mutation::v1;

/// Changes of a writer that are not settled, at most.
const CHANGES_MAX: usize = 100_000;

/// A change that may still be refused.
#[derive(Debug)]
struct Refusable {
    sequence: u64,
    hlc: u64,
    commands: Vec<v1::Command>,
}

/// A writer's changes of counters that are not settled, in their order.
#[derive(Debug, Default)]
pub(super) struct Refusables(VecDeque<Refusable>);

impl Refusables {
    /// Notes a change, if it counts anything.
    pub(super) fn note(&mut self, sequence: u64, hlc: u64, commands: &[v1::Command]) {
        if !commands.iter().any(counts) {
            return;
        }
        if self.0.len() == CHANGES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Refusable {
            sequence,
            hlc,
            commands: commands.to_vec(),
        });
    }

    /// What a refusal comes to, and how old it is.
    pub(super) fn refuse(&self, sequence: u64, reason: &str) -> Option<(u64, Vec<v1::Command>)> {
        if !is_undone(reason) {
            return None;
        }
        let refused = self.0.iter().find(|one| one.sequence == sequence)?;
        Some((refused.hlc, undo_all(&refused.commands)))
    }

    /// What is settled is refused no more.
    pub(super) fn settle(&mut self, through: u64) {
        while self.0.front().is_some_and(|one| one.sequence <= through) {
            self.0.pop_front();
        }
    }
}

/// Whether others count back what was refused for this reason. What the value is no
/// number for, or too great, it is for them too.
pub(super) fn is_undone(reason: &str) -> bool {
    !reason.is_empty()
        && !["ERR", "WRONGTYPE"]
            .iter()
            .any(|one| reason.starts_with(one))
}

/// The commands that count back what these count.
pub(super) fn undo_all(commands: &[v1::Command]) -> Vec<v1::Command> {
    let undone = commands.iter().filter_map(|command| {
        let name = command.arguments.first()?;
        match name.eq_ignore_ascii_case(b"SELECT") {
            true => Some(command.clone()),
            false => undo(command),
        }
    });
    undone.collect()
}

/// Whether a command is one that [`undo`] knows; each is asked, so this makes nothing.
fn counts(command: &v1::Command) -> bool {
    const NAMES: [&[u8]; 5] = [b"INCR", b"INCRBY", b"DECR", b"DECRBY", b"HINCRBY"];
    let name = command.arguments.first();
    name.is_some_and(|name| NAMES.iter().any(|one| name.eq_ignore_ascii_case(one)))
}

fn undo(command: &v1::Command) -> Option<v1::Command> {
    let number = |text: &Bytes| std::str::from_utf8(text).ok()?.parse::<i64>().ok();
    let [name, arguments @ ..] = &command.arguments[..] else {
        return None;
    };
    // The longest is HINCRBY.
    let mut upper = [0; 8];
    let upper = upper.get_mut(..name.len())?;
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    let by = |delta: Option<i64>| Some(Bytes::from(delta?.to_string()));
    let arguments = match (&*upper, arguments) {
        (b"INCR", [key]) => vec![Bytes::from_static(b"DECRBY"), key.clone(), by(Some(1))?],
        (b"DECR", [key]) => vec![Bytes::from_static(b"INCRBY"), key.clone(), by(Some(1))?],
        (b"INCRBY", [key, delta]) => {
            let back = by(number(delta)?.checked_neg())?;
            vec![Bytes::from_static(b"INCRBY"), key.clone(), back]
        }
        (b"DECRBY", [key, delta]) => {
            let back = by(number(delta))?;
            vec![Bytes::from_static(b"INCRBY"), key.clone(), back]
        }
        (b"HINCRBY", [key, field, delta]) => {
            let back = by(number(delta)?.checked_neg())?;
            let name = Bytes::from_static(b"HINCRBY");
            vec![name, key.clone(), field.clone(), back]
        }
        _ => return None,
    };
    Some(v1::Command { arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(text: &str) -> Vec<v1::Command> {
        let command = |text: &str| v1::Command {
            arguments: text
                .split(' ')
                .map(|word| Bytes::from(word.to_owned()))
                .collect(),
        };
        text.split("; ").map(command).collect()
    }

    #[test]
    fn what_counts_is_counted_back_and_nothing_else() {
        for (text, expected) in [
            ("INCR k", "DECRBY k 1"),
            ("decr k", "INCRBY k 1"),
            ("INCRBY k 5", "INCRBY k -5"),
            ("DECRBY k 5", "INCRBY k 5"),
            ("HIncrBy k f -5", "HINCRBY k f 5"),
            ("SET k v; SELECT 3; INCR k", "SELECT 3; DECRBY k 1"),
        ] {
            assert_eq!(undo_all(&commands(text)), commands(expected), "{text}");
        }
        for text in [
            "SET k v",
            "INCRBY k -9223372036854775808",
            "INCRBY k x",
            "HINCRBYFLOAT k f 1",
        ] {
            assert_eq!(undo_all(&commands(text)), [], "{text}");
        }
    }

    #[test]
    fn only_what_is_not_settled_is_refused() {
        let mut all = Refusables::default();
        all.note(3, 30, &commands("INCR a"));
        all.note(4, 40, &commands("SET a 1"));
        all.note(5, 50, &commands("INCR b"));
        assert_eq!(all.refuse(3, "LOADING"), Some((30, commands("DECRBY a 1"))));
        assert_eq!(all.refuse(4, "LOADING"), None);
        for reason in ["ERR value is not an integer", "WRONGTYPE", ""] {
            assert_eq!(all.refuse(3, reason), None, "{reason}");
        }
        all.settle(4);
        assert_eq!(all.refuse(3, "LOADING"), None);
        assert_eq!(all.refuse(5, "OOM"), Some((50, commands("DECRBY b 1"))));
    }
}
