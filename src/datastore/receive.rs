//! Hands what the datastore sends to the batches that wait for it.

use bytes::{Buf, BytesMut};

use super::Wire;
use super::link::{Inner, Slot};
use crate::protocol::Expect;
use crate::protocol::memcached;
use crate::protocol::resp::replies::{
    self, ReplyError, ReplyFrame, ReplyScanner, SubscriptionKind,
};

/// Tells replies from what was not asked for, and knows how many channels the
/// connection is subscribed to: an UNSUBSCRIBE without channels is confirmed
/// once for each.
pub(super) struct Receiver(Language);

enum Language {
    Resp(RespReceiver),
    Memcached(memcached::replies::ReplyScanner),
}

/// What is no reply, or answers nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReceiveError {
    #[error(transparent)]
    Resp(#[from] ReplyError),
    #[error(transparent)]
    Memcached(#[from] memcached::replies::ReplyError),
    #[error("the datastore said {0:?} to no command")]
    Unasked(String),
}

/// The RESP half.
#[derive(Default)]
struct RespReceiver {
    scanner: ReplyScanner,
    subscribed: Subscribed,
    confirmations: Option<Confirmations>,
}

/// How many channels, patterns and shard channels there are subscriptions to.
#[derive(Default)]
struct Subscribed {
    counts: [usize; 3],
}

/// What is still to come for the (un)subscribe command at the head.
struct Confirmations {
    kind: SubscriptionKind,
    left: usize,
}

/// What a frame is to the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// Answers the command at the head.
    Reply,
    /// Confirms a subscription, or its end.
    Confirmation,
    /// Was not asked for.
    Push,
}

/// A buffer of at least this many bytes changes hands instead of being copied.
const SWAPPED_BYTES_MIN: usize = 64 * 1024;

impl Receiver {
    pub(super) fn new(wire: Wire) -> Receiver {
        Receiver(match wire {
            Wire::Resp2 | Wire::Resp3 => Language::Resp(RespReceiver::default()),
            Wire::MemcachedText | Wire::MemcachedBinary => Language::Memcached(Default::default()),
        })
    }

    /// Takes all complete frames off the front of `input`.
    pub(super) fn receive(
        &mut self,
        input: &mut BytesMut,
        inner: &mut Inner,
    ) -> Result<(), ReceiveError> {
        match &mut self.0 {
            Language::Resp(receiver) => Ok(receiver.receive(input, inner)?),
            Language::Memcached(scanner) => receive_memcached(scanner, input, inner),
        }
    }
}

/// Nothing comes unasked but a farewell. What a reply looks like is known from
/// the command that it answers.
fn receive_memcached(
    scanner: &mut memcached::replies::ReplyScanner,
    input: &mut BytesMut,
    inner: &mut Inner,
) -> Result<(), ReceiveError> {
    let mut position = 0;
    while let Some(&key) = inner.pending.front() {
        let replies = &mut inner.slots[key].replies;
        let copied = position;
        let before = replies.bytes.len();
        while let Some(command) = replies.batch.commands.get(replies.ends.len()) {
            let specification = memcached::verbs::Specification(command.specification);
            let shape = specification
                .row()
                .map_or(memcached::verbs::Shape::Nothing, |row| row.shape);
            let Some(frame) = scanner.next(shape, &input[position..])? else {
                break;
            };
            position += frame.end;
            replies.ends.push((before + position - copied) as u32);
            replies.errors |= frame.error;
        }
        let is_complete = replies.ends.len() == replies.batch.commands.len();
        position = take_bytes(&mut replies.bytes, input, copied, position);
        if !is_complete {
            break;
        }
        inner.pending.pop_front();
        inner.finish(key);
    }
    if inner.pending.is_empty() && position < input.len() {
        const SHOWN: usize = 100;
        let rest = &input[position..input.len().min(position + SHOWN)];
        return Err(ReceiveError::Unasked(rest.escape_ascii().to_string()));
    }
    input.advance(position);
    Ok(())
}

impl RespReceiver {
    fn receive(&mut self, input: &mut BytesMut, inner: &mut Inner) -> Result<(), ReplyError> {
        match inner.unsolicited {
            None => self.receive_shared(input, inner),
            Some(_) => self.receive_exclusive(input, inner),
        }
    }

    /// No client of a shared link has asked for more than replies. A push can
    /// come all the same: a client of another server may name this connection
    /// as the one to tell of changed keys.
    fn receive_shared(
        &mut self,
        input: &mut BytesMut,
        inner: &mut Inner,
    ) -> Result<(), ReplyError> {
        let mut position = 0;
        while let Some(&slot) = inner.pending.front() {
            let is_complete = self.take_replies(&mut inner.slots[slot], input, &mut position)?;
            if !is_complete {
                break;
            }
            inner.pending.pop_front();
            inner.finish(slot);
        }
        while inner.pending.is_empty()
            && let Some(frame) = self.scanner.next(&input[position..])?
        {
            position += frame.end;
        }
        input.advance(position);
        Ok(())
    }

    /// Takes replies for the batch at the head; whether it has all of them.
    fn take_replies(
        &mut self,
        slot: &mut Slot,
        input: &mut BytesMut,
        position: &mut usize,
    ) -> Result<bool, ReplyError> {
        let replies = &mut slot.replies;
        let mut copied = *position;
        while replies.ends.len() < slot.expected {
            let Some(frame) = self.scanner.next(&input[*position..])? else {
                break;
            };
            if frame.kind == b'>' {
                replies.bytes.extend_from_slice(&input[copied..*position]);
                *position += frame.end;
                copied = *position;
                continue;
            }
            *position += frame.end;
            let end = replies.bytes.len() + *position - copied;
            replies.ends.push(end as u32);
            replies.errors |= is_error(&frame);
        }
        *position = take_bytes(&mut replies.bytes, input, copied, *position);
        Ok(replies.ends.len() == slot.expected)
    }

    /// Takes one frame after another, and tells replies from what was not
    /// asked for.
    fn receive_exclusive(
        &mut self,
        input: &mut BytesMut,
        inner: &mut Inner,
    ) -> Result<(), ReplyError> {
        let mut position = 0;
        while let Some(frame) = self.scanner.next(&input[position..])? {
            let end = position + frame.end;
            let bytes = &input[position..end];
            let Some(&key) = inner.pending.front() else {
                self.count(bytes);
                inner.push_unasked(bytes);
                position = end;
                continue;
            };
            let expect = inner.slots[key].expect;
            let kind = self.kind_of(&frame, bytes, expect, inner);
            if kind == Frame::Push {
                inner.push_unasked(bytes);
                position = end;
                continue;
            }
            let slot = &mut inner.slots[key];
            let is_last = match kind {
                Frame::Confirmation => self.confirm(&slot.replies.batch, bytes),
                _ if expect == Expect::Confirmations => {
                    self.confirmations = None;
                    true
                }
                _ => slot.replies.ends.len() + 1 == slot.expected,
            };
            inner.take_unasked(key);
            let replies = &mut inner.slots[key].replies;
            position = take_bytes(&mut replies.bytes, input, position, end);
            if kind == Frame::Reply || is_last {
                replies.ends.push(replies.bytes.len() as u32);
                replies.errors |= is_error(&frame);
            }
            if is_last {
                inner.pending.pop_front();
                inner.subscriptions = self.subscribed.counts.iter().sum();
                inner.finish(key);
            }
        }
        input.advance(position);
        inner.subscriptions = self.subscribed.counts.iter().sum();
        Ok(())
    }

    fn kind_of(&self, frame: &ReplyFrame, bytes: &[u8], expect: Expect, inner: &Inner) -> Frame {
        let is_monitor_line = inner.unasked.monitor_lines
            && frame.kind == b'+'
            && bytes.get(1).is_some_and(u8::is_ascii_digit);
        if is_monitor_line {
            return Frame::Push;
        }
        let is_subscribed = self.subscribed.any() || inner.unasked.messages;
        let may_be_message = frame.kind == b'>'
            || (frame.kind == b'*' && (expect == Expect::Confirmations || is_subscribed));
        if !may_be_message {
            return Frame::Reply;
        }
        match replies::subscription(bytes) {
            Some(message) if is_message(message.kind) => Frame::Push,
            Some(_) if expect == Expect::Confirmations => Frame::Confirmation,
            // The server ends subscriptions by itself when a slot moves away.
            Some(_) => Frame::Push,
            None if frame.kind == b'>' => Frame::Push,
            None => Frame::Reply,
        }
    }

    /// Counts one confirmation; whether it is the last of its command.
    fn confirm(&mut self, batch: &crate::protocol::Batch, bytes: &[u8]) -> bool {
        let Some(message) = replies::subscription(bytes) else {
            return false;
        };
        if self.confirmations.is_none() {
            let mut scratch = Vec::new();
            let arguments =
                crate::protocol::resp::arguments::parse(&batch.bytes, &mut scratch).len();
            let left = match arguments {
                0 | 1 => self.subscribed.of(message.kind).max(1),
                _ => arguments - 1,
            };
            self.confirmations = Some(Confirmations {
                kind: message.kind,
                left,
            });
        }
        self.count(bytes);
        let Some(confirmations) = &mut self.confirmations else {
            return false;
        };
        if confirmations.kind == message.kind {
            confirmations.left -= 1;
        }
        let last = confirmations.left == 0;
        if last {
            self.confirmations = None;
        }
        last
    }

    fn count(&mut self, bytes: &[u8]) {
        if matches!(bytes.first(), Some(b'*' | b'>'))
            && let Some(message) = replies::subscription(bytes)
            && let Some(count) = message.count
        {
            self.subscribed.update(message.kind, count);
        }
    }
}

impl Subscribed {
    fn any(&self) -> bool {
        self.counts.iter().any(|count| *count > 0)
    }

    fn index(kind: SubscriptionKind) -> usize {
        match kind {
            SubscriptionKind::Subscribe
            | SubscriptionKind::Unsubscribe
            | SubscriptionKind::Message => 0,
            SubscriptionKind::PSubscribe
            | SubscriptionKind::PUnsubscribe
            | SubscriptionKind::PMessage => 1,
            SubscriptionKind::SSubscribe
            | SubscriptionKind::SUnsubscribe
            | SubscriptionKind::SMessage => 2,
        }
    }

    fn of(&self, kind: SubscriptionKind) -> usize {
        self.counts[Self::index(kind)]
    }

    /// Confirmations carry the sum of channels and patterns (shard channels
    /// are counted apart), so the part that changed is the sum less the other.
    fn update(&mut self, kind: SubscriptionKind, sum: i64) {
        let index = Self::index(kind);
        let other = match index {
            0 => self.counts[1],
            1 => self.counts[0],
            _ => 0,
        };
        self.counts[index] = usize::try_from(sum).unwrap_or(0).saturating_sub(other);
    }
}

/// Moves a part of `input` to the end of `into`; returns what is the end of
/// that part in `input` afterwards. All of a large input is not copied.
fn take_bytes(into: &mut BytesMut, input: &mut BytesMut, start: usize, end: usize) -> usize {
    let is_all = start == 0 && end == input.len();
    if is_all && SWAPPED_BYTES_MIN <= end && into.is_empty() {
        std::mem::swap(input, into);
        return 0;
    }
    into.extend_from_slice(&input[start..end]);
    end
}

fn is_error(frame: &ReplyFrame) -> bool {
    matches!(frame.kind, b'-' | b'!')
}

fn is_message(kind: SubscriptionKind) -> bool {
    matches!(
        kind,
        SubscriptionKind::Message | SubscriptionKind::PMessage | SubscriptionKind::SMessage
    )
}

#[cfg(test)]
mod tests;
