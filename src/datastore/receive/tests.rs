use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;

use super::Receiver;
use crate::datastore::link::{Link, Response, Unasked};
use crate::protocol::{Batch, Class, Command, Expect, Pool, Replies};

/// A link without a driver: the test is the datastore.
struct Wire {
    link: Link,
    receiver: Receiver,
    input: BytesMut,
}

impl Wire {
    fn new(exclusive: bool) -> Wire {
        let link = Link::new(Rc::new(Pool::default()), 1 << 20, exclusive);
        link.set_up();
        Wire {
            link,
            receiver: Receiver::new(crate::datastore::Wire::Resp2),
            input: BytesMut::new(),
        }
    }

    fn send(&self, commands: usize, expect: Expect) -> Response {
        let mut batch = Batch {
            expect,
            kept: true,
            ..Batch::default()
        };
        for _ in 0..commands {
            let start = batch.bytes.len() as u32;
            batch
                .bytes
                .extend_from_slice(b"*2\r\n$4\r\nNAME\r\n$1\r\na\r\n");
            batch.push(Command {
                start,
                end: batch.bytes.len() as u32,
                specification: Command::UNKNOWN,
                class: Class::Read,
            });
        }
        self.link.send(batch)
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let mut inner = self.link.inner.borrow_mut();
        self.receiver
            .receive(&mut self.input, &mut inner)
            .expect("well-formed");
    }

    /// What came unasked and was not put among replies.
    fn unasked(&self) -> BytesMut {
        let mut bytes = BytesMut::new();
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Ok(())) = self.link.poll_unsolicited(&mut cx, &mut bytes) {}
        bytes
    }
}

fn poll(response: &mut Response) -> Option<Replies> {
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(response).poll(&mut cx) {
        Poll::Ready(replies) => Some(replies),
        Poll::Pending => None,
    }
}

fn ready(response: &mut Response) -> Replies {
    poll(response).expect("answered")
}

const PUSH: &[u8] = b">2\r\n+invalidate\r\n*1\r\n+k\r\n";
const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n";
const SUBSCRIBED: &[u8] = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";

/// The same input cut at every byte gives the same.
fn cut_everywhere(input: &[u8], check: impl Fn(&[&[u8]])) {
    for cut in 0..=input.len() {
        let (first, second) = input.split_at(cut);
        check(&[first, second]);
    }
}

#[test]
fn a_push_on_a_shared_link_is_nobodys_reply() {
    let input = [PUSH, b"+1\r\n", PUSH, PUSH, b"+2\r\n+3\r\n", PUSH].concat();
    cut_everywhere(&input, |parts| {
        let mut wire = Wire::new(false);
        let mut responses = [wire.send(2, Expect::Each), wire.send(1, Expect::Each)];
        for part in parts {
            wire.receive(part);
        }
        let [first, second] = responses.each_mut().map(ready);
        assert_eq!(first.bytes, b"+1\r\n+2\r\n"[..]);
        assert_eq!(first.reply(1), Some(&b"+2\r\n"[..]));
        assert_eq!(second.bytes, b"+3\r\n"[..]);
        assert!(wire.input.is_empty());
    });
}

#[test]
fn pushes_keep_their_place_and_are_no_part_of_a_reply() {
    let input = [PUSH, b"+QUEUED\r\n", PUSH, b"-ERR no\r\n"].concat();
    cut_everywhere(&input, |parts| {
        let mut wire = Wire::new(true);
        let mut response = wire.send(2, Expect::Each);
        for part in parts {
            wire.receive(part);
        }
        let replies = ready(&mut response);
        assert_eq!(replies.bytes, input);
        assert_eq!(replies.reply(0), Some(&b"+QUEUED\r\n"[..]));
        assert_eq!(replies.reply(1), Some(&b"-ERR no\r\n"[..]));
        assert!(replies.errors);
        assert!(wire.unasked().is_empty());
    });
}

#[test]
fn what_came_before_a_reply_goes_out_before_it() {
    let mut wire = Wire::new(true);
    wire.receive(PUSH);
    let mut response = wire.send(1, Expect::Each);
    wire.receive(b"+1\r\n");
    wire.receive(PUSH);
    assert_eq!(ready(&mut response).bytes, [PUSH, b"+1\r\n"].concat());
    assert_eq!(wire.unasked(), PUSH);
}

#[test]
fn a_push_does_not_wait_for_a_command_that_blocks() {
    let mut wire = Wire::new(true);
    let mut response = wire.send(1, Expect::Each);
    wire.receive(PUSH);
    assert_eq!(wire.unasked(), PUSH);
    assert!(poll(&mut response).is_none());
    wire.receive(b"*-1\r\n");
    assert_eq!(ready(&mut response).bytes, b"*-1\r\n"[..]);
}

#[test]
fn a_reply_nobody_waits_for_takes_no_push_with_it() {
    let mut wire = Wire::new(true);
    drop(wire.send(2, Expect::Each));
    let response = wire.send(2, Expect::Each);
    wire.receive(&[PUSH, b"+1\r\n", PUSH, b"+2\r\n"].concat());
    assert_eq!(wire.unasked(), [PUSH, PUSH].concat());
    wire.receive(&[b"+1\r\n", PUSH].concat());
    drop(response);
    wire.receive(b"+2\r\n");
    assert_eq!(wire.unasked(), PUSH);
    assert!(wire.link.is_idle());
}

#[test]
fn messages_are_told_from_replies_once_subscribed() {
    let mut wire = Wire::new(true);
    let mut before = wire.send(1, Expect::Each);
    // A list of a client's own that looks like one.
    wire.receive(MESSAGE);
    assert_eq!(ready(&mut before).bytes, MESSAGE);
    let mut subscribe = wire.send(1, Expect::Confirmations);
    wire.receive(SUBSCRIBED);
    assert_eq!(ready(&mut subscribe).bytes, SUBSCRIBED);
    let mut ping = wire.send(1, Expect::Each);
    let pong = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n";
    wire.receive(&[MESSAGE, pong].concat());
    let replies = ready(&mut ping);
    assert_eq!(replies.bytes, [MESSAGE, pong].concat());
    assert_eq!(replies.reply(0), Some(&pong[..]));
}

#[test]
fn what_can_come_unasked_has_to_be_expected() {
    const LINE: &[u8] = b"+1700000000.5 [0 127.0.0.1:1] \"PING\"\r\n";
    for (unasked, bytes) in [
        (
            Unasked {
                monitor_lines: true,
                messages: false,
            },
            LINE,
        ),
        (
            Unasked {
                monitor_lines: false,
                messages: true,
            },
            MESSAGE,
        ),
    ] {
        let mut wire = Wire::new(true);
        let mut first = wire.send(1, Expect::Each);
        wire.receive(bytes);
        assert_eq!(ready(&mut first).bytes, bytes, "a reply of a script, say");
        wire.link.expect_unasked(unasked);
        let mut second = wire.send(1, Expect::Each);
        wire.receive(bytes);
        assert!(poll(&mut second).is_none());
        assert_eq!(wire.unasked(), bytes);
    }
}

#[test]
fn a_large_reply_changes_hands() {
    for exclusive in [false, true] {
        let mut wire = Wire::new(exclusive);
        let mut response = wire.send(1, Expect::Each);
        let value = vec![b'x'; 100_000];
        let reply = [b"$100000\r\n", &value[..], b"\r\n"].concat();
        wire.receive(&reply);
        let replies = ready(&mut response);
        assert_eq!(replies.reply(0), Some(&reply[..]));
        let mut next = wire.send(1, Expect::Each);
        wire.receive(b":1\r\n");
        assert_eq!(ready(&mut next).bytes, b":1\r\n"[..]);
    }
}
