//! Hands what the datastore sends to the batches that wait for it.

use bytes::{Buf, BytesMut};

use super::link::Inner;
use crate::protocol::Expect;
use crate::protocol::resp::replies::{self, ReplyError, ReplyFrame, ReplyScanner, SubscriptionKind};

/// Tells replies from what was not asked for, and knows how many channels the
/// connection is subscribed to: an UNSUBSCRIBE without channels is confirmed
/// once for each.
#[derive(Default)]
pub(super) struct Receiver {
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
    /// Takes all complete frames off the front of `input`.
    pub(super) fn receive(
        &mut self,
        input: &mut BytesMut,
        inner: &mut Inner,
    ) -> Result<(), ReplyError> {
        let mut position = 0;
        loop {
            let Some(&slot) = inner.pending.front() else {
                position = self.receive_unasked(input, position, inner)?;
                break;
            };
            let start = position;
            let complete = self.receive_for(slot, input, &mut position, inner)?;
            let replies = &mut inner.slots[slot].replies;
            if start == 0 && position == input.len() && position >= SWAPPED_BYTES_MIN
                && replies.bytes.is_empty()
            {
                std::mem::swap(input, &mut replies.bytes);
                position = 0;
            } else {
                replies.bytes.extend_from_slice(&input[start..position]);
            }
            if !complete {
                break;
            }
            inner.pending.pop_front();
            inner.subscriptions = self.subscribed.counts.iter().sum();
            inner.finish(slot);
        }
        input.advance(position);
        inner.subscriptions = self.subscribed.counts.iter().sum();
        Ok(())
    }

    /// Takes frames for the batch at the head; whether it has all of them.
    fn receive_for(
        &mut self,
        slot: usize,
        input: &[u8],
        position: &mut usize,
        inner: &mut Inner,
    ) -> Result<bool, ReplyError> {
        let shared = inner.unsolicited.is_none();
        let slot = &mut inner.slots[slot];
        let before = *position;
        let taken = slot.replies.bytes.len();
        let end_of = |position: usize| (taken + position - before) as u32;
        while slot.replies.ends.len() < slot.expected {
            let Some(frame) = self.scanner.next(&input[*position..])? else {
                return Ok(false);
            };
            let bytes = &input[*position..*position + frame.end];
            if shared {
                // Nothing unasked comes on a shared link: no client of it has
                // asked for any.
                *position += frame.end;
                slot.replies.ends.push(end_of(*position));
                slot.replies.errors |= matches!(frame.kind, b'-' | b'!');
                continue;
            }
            let kind = self.kind_of(&frame, bytes, slot.expect);
            *position += frame.end;
            match kind {
                Frame::Push => {}
                Frame::Reply => {
                    slot.replies.ends.push(end_of(*position));
                    slot.replies.errors |= matches!(frame.kind, b'-' | b'!');
                    if slot.expect == Expect::Confirmations {
                        self.confirmations = None;
                        return Ok(true);
                    }
                }
                Frame::Confirmation => {
                    if self.confirm(&slot.replies.batch, bytes) {
                        slot.replies.ends.push(end_of(*position));
                        return Ok(true);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Takes frames while no batch is in flight.
    fn receive_unasked(
        &mut self,
        input: &[u8],
        mut position: usize,
        inner: &mut Inner,
    ) -> Result<usize, ReplyError> {
        let start = position;
        while let Some(frame) = self.scanner.next(&input[position..])? {
            let bytes = &input[position..position + frame.end];
            self.count(bytes);
            position += frame.end;
        }
        if let Some(unsolicited) = &mut inner.unsolicited
            && start < position
        {
            unsolicited.bytes.extend_from_slice(&input[start..position]);
            if let Some(waker) = unsolicited.waker.take() {
                waker.wake();
            }
        }
        Ok(position)
    }

    fn kind_of(&self, frame: &ReplyFrame, bytes: &[u8], expect: Expect) -> Frame {
        let is_monitor_line = frame.kind == b'+' && bytes.get(1).is_some_and(u8::is_ascii_digit);
        if is_monitor_line {
            return Frame::Push;
        }
        let may_be_message = frame.kind == b'>'
            || (frame.kind == b'*' && (expect == Expect::Confirmations || self.subscribed.any()));
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

fn is_message(kind: SubscriptionKind) -> bool {
    matches!(
        kind,
        SubscriptionKind::Message | SubscriptionKind::PMessage | SubscriptionKind::SMessage
    )
}
