//! What arrives on a connection with subscriptions: confirmations and messages,
//! as arrays in RESP2 and as pushes in RESP3.

use super::{ReplyScanner, short_number};

/// What a message on a subscribed connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubscriptionKind {
    /// A channel was subscribed to.
    Subscribe,
    /// A pattern was subscribed to.
    PSubscribe,
    /// A shard channel was subscribed to.
    SSubscribe,
    /// A channel was unsubscribed from, or there was none.
    Unsubscribe,
    /// A pattern was unsubscribed from, or there was none.
    PUnsubscribe,
    /// A shard channel was unsubscribed from, or there was none.
    SUnsubscribe,
    /// Somebody published to a channel.
    Message,
    /// Somebody published to a channel that a pattern matches.
    PMessage,
    /// Somebody published to a shard channel.
    SMessage,
}

impl SubscriptionKind {
    /// The kind of that name and how many elements its messages have.
    fn named(name: &[u8]) -> Option<(Self, u64)> {
        Some(match name {
            b"subscribe" => (Self::Subscribe, 3),
            b"psubscribe" => (Self::PSubscribe, 3),
            b"ssubscribe" => (Self::SSubscribe, 3),
            b"unsubscribe" => (Self::Unsubscribe, 3),
            b"punsubscribe" => (Self::PUnsubscribe, 3),
            b"sunsubscribe" => (Self::SUnsubscribe, 3),
            b"message" => (Self::Message, 3),
            b"pmessage" => (Self::PMessage, 4),
            b"smessage" => (Self::SMessage, 3),
            _ => return None,
        })
    }
}

/// A confirmation or message on a subscribed connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// Which one.
    pub kind: SubscriptionKind,
    /// How many subscriptions are left; `None` for messages. Channels and
    /// patterns are counted together, shard channels by themselves.
    pub count: Option<i64>,
}

/// The first element of a complete array or push, where it is a bulk or simple
/// string; `None` for anything else.
pub fn first_element(frame: &[u8]) -> Option<&[u8]> {
    let (_, rest) = list(frame)?;
    string(rest).map(|(text, _)| text)
}

/// What a complete array or push is on a subscribed connection; `None` where
/// it is nothing of the kind. In RESP2 other commands' replies can look the
/// same, so the connection's state has to be known.
pub fn subscription(frame: &[u8]) -> Option<Subscription> {
    let (count, rest) = list(frame)?;
    let (name, rest) = string(rest)?;
    let (kind, elements) = SubscriptionKind::named(name)?;
    if count != elements {
        return None;
    }
    use SubscriptionKind::{Message, PMessage, SMessage};
    if matches!(kind, Message | PMessage | SMessage) {
        return Some(Subscription { kind, count: None });
    }
    let left = integer(&rest[skip(rest)?..])?;
    Some(Subscription {
        kind,
        count: Some(left),
    })
}

/// The count of an array or push, behind any attribute, and its elements.
fn list(mut frame: &[u8]) -> Option<(u64, &[u8])> {
    loop {
        let (kind, rest) = frame.split_first()?;
        let (count, end) = short_number(rest)?;
        let mut elements = &rest[end..];
        match kind {
            b'*' | b'>' => return Some((count, elements)),
            b'|' => {
                for _ in 0..2 * count {
                    elements = &elements[skip(elements)?..];
                }
                frame = elements;
            }
            _ => return None,
        }
    }
}

/// The bulk or simple string at the start, and what follows it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = skip(bytes)?;
    let (element, rest) = bytes.split_at(end);
    let (kind, element) = element.split_first()?;
    let start = match kind {
        b'$' => short_number(element)?.1,
        b'+' => 0,
        _ => return None,
    };
    Some((element.get(start..element.len() - 2)?, rest))
}

/// The integer at the start.
fn integer(bytes: &[u8]) -> Option<i64> {
    let element = bytes.get(..skip(bytes)?)?.strip_prefix(b":")?;
    let text = element.strip_suffix(b"\r\n")?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The length of the element at the start.
fn skip(bytes: &[u8]) -> Option<usize> {
    let frame = ReplyScanner::default().next(bytes).ok()??;
    Some(frame.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_first(frame: &[u8], expected: Option<&[u8]>) {
        assert_eq!(first_element(frame), expected, "{}", frame.escape_ascii());
    }

    #[test]
    fn the_first_element_is_found() {
        check_first(b"*1\r\n$3\r\nfoo\r\n", Some(b"foo"));
        check_first(b">2\r\n+foo\r\n:1\r\n", Some(b"foo"));
        check_first(b"*1\r\n$0\r\n\r\n", Some(b""));
        check_first(b"|1\r\n+a\r\n*1\r\n:1\r\n>1\r\n+foo\r\n", Some(b"foo"));
        check_first(b"*1\r\n$-1\r\n", None);
        check_first(b"*1\r\n:1\r\n", None);
        check_first(b"*1\r\n*1\r\n+foo\r\n", None);
        check_first(b"*0\r\n", None);
        check_first(b"*-1\r\n", None);
        check_first(b"~1\r\n+foo\r\n", None);
        check_first(b"+foo\r\n", None);
        check_first(b"*1\r\n$3\r\nfo", None);
        check_first(b"", None);
    }

    fn check(frame: &[u8], expected: Option<(SubscriptionKind, Option<i64>)>) {
        let expected = expected.map(|(kind, count)| Subscription { kind, count });
        assert_eq!(subscription(frame), expected, "{}", frame.escape_ascii());
    }

    #[test]
    fn confirmations_are_recognised() {
        use SubscriptionKind::*;
        let confirmations = [
            ("subscribe", Subscribe),
            ("psubscribe", PSubscribe),
            ("ssubscribe", SSubscribe),
            ("unsubscribe", Unsubscribe),
            ("punsubscribe", PUnsubscribe),
            ("sunsubscribe", SUnsubscribe),
        ];
        for (name, kind) in confirmations {
            for list in ["*", ">"] {
                for channel in ["$1\r\nc\r\n", "$-1\r\n", "_\r\n"] {
                    let length = name.len();
                    let frame = format!("{list}3\r\n${length}\r\n{name}\r\n{channel}:12\r\n");
                    check(frame.as_bytes(), Some((kind, Some(12))));
                }
            }
        }
    }

    #[test]
    fn messages_are_recognised() {
        use SubscriptionKind::*;
        check(
            b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n",
            Some((Message, None)),
        );
        check(
            b">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$1\r\nm\r\n",
            Some((SMessage, None)),
        );
        check(
            b">4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\nc\r\n$1\r\nm\r\n",
            Some((PMessage, None)),
        );
    }

    #[test]
    fn other_replies_are_not() {
        check(b"*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n:1\r\n", None);
        check(b"*2\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n", None);
        check(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n$1\r\n1\r\n", None);
        check(b"*4\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n:1\r\n", None);
        check(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n", None);
        check(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", None);
        check(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n", None);
        check(b"", None);
    }
}
