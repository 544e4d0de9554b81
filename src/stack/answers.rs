//! The replies that the sidecar gives in the datastore's place.

use bytes::BytesMut;

use crate::protocol::{Class, Failure, Replies};

/// A mutation that was not journaled, and not applied: safe to retry.
pub fn not_journaled(replies: &mut Replies, reason: &str) {
    error(replies, format_args!("-NOTJOURNALED {}", Line(reason)));
}

/// A mutation that is, or may be, in the journal, and whose fate is not known.
pub fn uncertain(replies: &mut Replies, writer: u64, sequence: u64, reason: &str) {
    error(
        replies,
        format_args!("-UNCERTAIN {writer:016x}-{sequence} {}", Line(reason)),
    );
}

/// A command that changes nothing, and could not be answered.
pub fn unavailable(replies: &mut Replies, reason: &str) {
    error(replies, format_args!("-UNAVAILABLE {}", Line(reason)));
}

/// Answers all commands from the first unanswered one on; `mutation` answers
/// those that change data, and is given their index.
pub fn answer_rest(
    replies: &mut Replies,
    reason: &str,
    mut mutation: impl FnMut(&mut Replies, usize),
) {
    // What came of an incomplete reply is no reply.
    let end = replies.ends.last().map_or(0, |end| *end as usize);
    replies.bytes.truncate(end);
    for index in replies.ends.len()..replies.batch.commands.len() {
        match replies.batch.commands[index].class {
            Class::Mutation => mutation(replies, index),
            Class::Read | Class::Control => unavailable(replies, reason),
        }
    }
}

/// Answers a batch that was not journaled and not sent.
pub fn refuse(replies: &mut Replies, reason: &str) {
    answer_rest(replies, reason, |replies, _| not_journaled(replies, reason));
}

/// The text of a failure.
pub fn reason(failure: &Failure) -> std::rc::Rc<str> {
    match failure {
        Failure::NotSent(reason) | Failure::NoReply(reason) => std::rc::Rc::clone(reason),
    }
}

fn error(replies: &mut Replies, text: std::fmt::Arguments<'_>) {
    let mut line = BytesMut::with_capacity(128);
    std::fmt::Write::write_fmt(&mut line, text).expect("memory takes every byte");
    line.extend_from_slice(b"\r\n");
    replies.push(&line);
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
