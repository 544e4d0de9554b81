//! Logs in to memcached: SASL PLAIN in packets, an authenticating `set` in
//! text (memcached's option -Y).

use std::rc::Rc;

use bytes::{BufMut, BytesMut};

use super::{READ_BYTES, unreachable};
use crate::datastore::{Identity, LinkKey, OpenError, Options, Wire};
use crate::platform::stream::Stream;
use crate::protocol::memcached::BINARY_REQUEST;
use crate::protocol::memcached::replies::ReplyScanner;
use crate::protocol::memcached::reply::{Answer, answer};
use crate::protocol::memcached::verbs::{Specification, Verb};

/// The mechanism that takes a user and a password as they are.
const PLAIN: &[u8] = b"PLAIN";

/// Logs in, where there is an identity to log in with. Over TLS the server is asked
/// something in any case: whether it trusts who connects it says after the handshake.
pub(super) async fn greet(
    stream: &mut Stream,
    options: &Options,
    key: &LinkKey,
) -> Result<(), OpenError> {
    let login = match &key.identity {
        Identity::Anonymous => None,
        Identity::Password(password) => Some((&b""[..], password)),
        Identity::User(user, password) => Some((&user[..], password)),
    };
    let (request, verb) = match (login, key.wire) {
        (Some((user, password)), Wire::MemcachedBinary) => {
            (packet(user, password), Verb::BinarySaslStart)
        }
        (Some((user, password)), _) => (line(user, password), Verb::Set),
        (None, _) if options.tls.is_none() => return Ok(()),
        (None, Wire::MemcachedBinary) => (request(Verb::BinaryNoop, &[]), Verb::BinaryNoop),
        (None, _) => (BytesMut::from("version\r\n"), Verb::Version),
    };
    let failed = |error: &dyn std::fmt::Display| unreachable(options, error);
    stream.write_all(&request).await.map_err(|e| failed(&e))?;
    let mut input = BytesMut::new();
    let mut scanner = ReplyScanner::default();
    let frame = loop {
        let found = scanner.next(verb.row().shape, &input);
        if let Some(frame) = found.map_err(|error| failed(&error))? {
            break frame;
        }
        input.reserve(READ_BYTES);
        if stream.read(&mut input).await.map_err(|e| failed(&e))? == 0 {
            return Err(failed(&"connection closed in handshake"));
        }
    };
    if login.is_none() {
        return Ok(());
    }
    let reply = &input[..frame.end];
    match answer(Specification::new(verb), reply) {
        Answer::Done => Ok(()),
        Answer::NotDone => Err(OpenError::Refused(Rc::from(reply))),
        Answer::Refused(text) | Answer::Failed(text) => Err(OpenError::Refused(Rc::from(text))),
    }
}

fn packet(user: &[u8], password: &[u8]) -> BytesMut {
    let value = [&b""[..], user, password].join(&0);
    request(Verb::BinarySaslStart, &[PLAIN, &value])
}

/// A packet with a key and a value, or without.
fn request(verb: Verb, parts: &[&[u8]]) -> BytesMut {
    let body = parts.concat();
    let mut out = BytesMut::new();
    out.extend_from_slice(&[BINARY_REQUEST, verb.row().opcode.unwrap_or_default()]);
    out.put_u16(parts.first().map_or(0, |key| key.len() as u16));
    out.put_u32(0);
    out.put_u32(body.len() as u32);
    out.put_bytes(0, 12);
    out.extend_from_slice(&body);
    out
}

fn line(user: &[u8], password: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let bytes = user.len() + 1 + password.len();
    out.extend_from_slice(format!("set auth 0 0 {bytes}\r\n").as_bytes());
    out.extend_from_slice(user);
    out.put_u8(b' ');
    out.extend_from_slice(password);
    out.extend_from_slice(b"\r\n");
    out
}
