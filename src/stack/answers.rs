//! The replies that the sidecar gives in the datastore's place.

use bytes::BytesMut;

use crate::protocol::memcached::verbs::Specification;
use crate::protocol::memcached::{self, answers};
use crate::protocol::{Class, Failure, Protocol, Replies};

/// Why a command has no reply of the datastore's.
#[derive(Clone, Copy)]
enum Why<'a> {
    NotJournaled(&'a str),
    Uncertain(u64, u64, &'a str),
    Unavailable(&'a str),
}

/// Command `index` is a mutation that was not journaled, and not applied: safe
/// to retry.
pub fn not_journaled(replies: &mut Replies, index: usize, reason: &str) {
    answer(replies, index, Why::NotJournaled(reason));
}

/// Command `index` is a mutation that is, or may be, in the journal, and whose
/// fate is not known.
pub fn uncertain(replies: &mut Replies, index: usize, writer: u64, sequence: u64, reason: &str) {
    answer(replies, index, Why::Uncertain(writer, sequence, reason));
}

/// Command `index` changes nothing, and could not be answered.
pub fn unavailable(replies: &mut Replies, index: usize, reason: &str) {
    answer(replies, index, Why::Unavailable(reason));
}

/// Answers all commands from the first unanswered one on; `mutation` answers
/// those that change data, and is given their index.
pub fn answer_rest(
    replies: &mut Replies,
    reason: &str,
    mut mutation: impl FnMut(&mut Replies, usize),
) {
    // What came of an incomplete reply is no reply.
    replies.cut_incomplete();
    for index in replies.ends.len()..replies.batch.commands.len() {
        match replies.batch.commands[index].class {
            Class::Mutation => mutation(replies, index),
            Class::Read | Class::Control => unavailable(replies, index, reason),
        }
    }
}

/// Answers a batch that was not journaled and not sent.
pub fn refuse(replies: &mut Replies, reason: &str) {
    answer_rest(replies, reason, |replies, index| {
        not_journaled(replies, index, reason);
    });
}

/// The text of a failure.
pub fn reason(failure: &Failure) -> std::rc::Rc<str> {
    match failure {
        Failure::NotSent(reason) | Failure::NoReply(reason) => std::rc::Rc::clone(reason),
    }
}

fn answer(replies: &mut Replies, index: usize, why: Why<'_>) {
    let mut line = BytesMut::with_capacity(128);
    match replies.batch.protocol {
        Protocol::Redis => resp(why, &mut line),
        Protocol::Memcached => {
            let batch = &replies.batch;
            let command = &batch.commands[index];
            let bytes = command.start as usize..command.end as usize;
            let why = match why {
                Why::NotJournaled(reason) => answers::Failure::NotJournaled(reason),
                Why::Uncertain(writer, sequence, reason) => answers::Failure::Uncertain {
                    writer,
                    sequence,
                    reason,
                },
                Why::Unavailable(reason) => answers::Failure::Unavailable(reason),
            };
            // Of text commands the bytes may be gone; of packets they are kept.
            let bytes = batch.bytes.get(bytes).unwrap_or_default();
            let specification = Specification(command.specification);
            memcached::answers::failure(why, bytes, specification, &mut line);
        }
    }
    replies.push(&line);
}

fn resp(why: Why<'_>, line: &mut BytesMut) {
    use std::fmt::Write;
    let written = match why {
        Why::NotJournaled(reason) => write!(line, "-NOTJOURNALED {}\r\n", Line(reason)),
        Why::Uncertain(writer, sequence, reason) => {
            write!(
                line,
                "-UNCERTAIN {writer:016x}-{sequence} {}\r\n",
                Line(reason)
            )
        }
        Why::Unavailable(reason) => write!(line, "-UNAVAILABLE {}\r\n", Line(reason)),
    };
    written.expect("memory takes every byte");
}

/// A reason as part of a line: an error reply ends at the first line end.
struct Line<'a>(&'a str);

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in self.0.split(['\r', '\n']) {
            f.write_str(part)?;
        }
        Ok(())
    }
}
