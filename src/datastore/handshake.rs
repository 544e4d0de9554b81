//! Opens a connection and brings it into the state of a [`LinkKey`].

use std::rc::Rc;

use bytes::{Buf, BytesMut};

use super::{Identity, LinkKey, OpenError, Options, Wire};
use crate::platform::stream::Stream;
use crate::protocol::resp::replies::ReplyScanner;

mod memcached;

/// The name links have in the datastore's CLIENT LIST.
pub const LINK_NAME: &str = "wal-sidecar";

/// The replies to a handshake fit into this many bytes, as a rule.
const READ_BYTES: usize = 4096;

/// Appends one command in multibulk form.
pub fn push_command(out: &mut BytesMut, arguments: &[&[u8]]) {
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(b"*");
    out.extend_from_slice(number.format(arguments.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    for argument in arguments {
        out.extend_from_slice(b"$");
        out.extend_from_slice(number.format(argument.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

/// The AUTH command of an identity, if it has one.
pub fn push_auth(out: &mut BytesMut, identity: &Identity) -> bool {
    match identity {
        Identity::Anonymous => return false,
        Identity::Password(password) => push_command(out, &[b"AUTH", password]),
        Identity::User(user, password) => push_command(out, &[b"AUTH", user, password]),
    }
    true
}

/// A connection in the state of a [`LinkKey`].
#[derive(Debug)]
pub struct Opened {
    /// The connection.
    pub stream: Stream,
    /// Whether the datastore takes nothing from it before AUTH, and little of
    /// that: it hangs up on who sends large commands.
    pub needs_auth: bool,
    /// What is spoken on it.
    pub wire: Wire,
    /// What the datastore calls the connection (CLIENT ID), where it says so.
    pub id: Option<u64>,
}

/// Connects and greets within [`Options::connect_timeout`]. `name` is what the
/// connection is called in the datastore's CLIENT LIST.
pub async fn open(options: &Options, key: &LinkKey, name: &[u8]) -> Result<Opened, OpenError> {
    let attempt = async {
        let mut stream = connect(options)
            .await
            .map_err(|error| unreachable(options, &error))?;
        let Greeted { needs_auth, id } = match key.wire {
            Wire::Resp2 | Wire::Resp3 => greet(&mut stream, options, key, name).await?,
            Wire::MemcachedText | Wire::MemcachedBinary => {
                memcached::greet(&mut stream, options, key).await?;
                Greeted::default()
            }
        };
        Ok(Opened {
            stream,
            needs_auth,
            wire: key.wire,
            id,
        })
    };
    match tokio::time::timeout(options.connect_timeout, attempt).await {
        Ok(result) => result,
        Err(_) => Err(unreachable(options, &"connecting timed out")),
    }
}

async fn connect(options: &Options) -> std::io::Result<Stream> {
    let stream = Stream::connect(&options.address).await?;
    match &options.tls {
        // Boxed: every client's task has room for it.
        Some(tls) => Box::pin(stream.encrypt(tls)).await,
        None => Ok(stream),
    }
}

fn unreachable(options: &Options, why: &dyn std::fmt::Display) -> OpenError {
    OpenError::Unreachable(Rc::from(format!(
        "datastore {} unreachable: {why}",
        options.address
    )))
}

/// What the replies to a handshake tell.
#[derive(Default)]
struct Greeted {
    needs_auth: bool,
    id: Option<u64>,
}

/// Sends the handshake and reads one reply to each of its commands. Name and
/// number are a courtesy: a user whose ACL forbids CLIENT gets a link all the
/// same.
async fn greet(
    stream: &mut Stream,
    options: &Options,
    key: &LinkKey,
    name: &[u8],
) -> Result<Greeted, OpenError> {
    let mut out = BytesMut::new();
    let mut required = usize::from(push_auth(&mut out, &key.identity));
    if key.wire == Wire::Resp3 {
        push_command(&mut out, &[b"HELLO", b"3"]);
        required += 1;
    }
    if key.database != 0 {
        let mut number = itoa::Buffer::new();
        let database = number.format(key.database);
        push_command(&mut out, &[b"SELECT", database.as_bytes()]);
        required += 1;
    }
    push_command(&mut out, &[b"CLIENT", b"SETNAME", name]);
    push_command(&mut out, &[b"CLIENT", b"ID"]);
    let last = required + 1;
    stream
        .write_all(&out)
        .await
        .map_err(|error| unreachable(options, &error))?;

    let mut greeted = Greeted::default();
    let mut input = BytesMut::new();
    let mut scanner = ReplyScanner::default();
    for index in 0..=last {
        let frame = loop {
            match scanner.next(&input) {
                Ok(Some(frame)) => break frame,
                Ok(None) => {}
                Err(error) => return Err(unreachable(options, &error)),
            }
            input.reserve(READ_BYTES);
            match stream.read(&mut input).await {
                Ok(0) => return Err(unreachable(options, &"connection closed in handshake")),
                Ok(_) => {}
                Err(error) => return Err(unreachable(options, &error)),
            }
        };
        if frame.kind == b'-' && index < required {
            return Err(OpenError::Refused(Rc::from(&input[..frame.end])));
        }
        greeted.needs_auth = input.starts_with(b"-NOAUTH");
        if index == last && frame.kind == b':' {
            greeted.id = atoi(&input[1..frame.end - b"\r\n".len()]);
        }
        input.advance(frame.end);
    }
    Ok(greeted)
}

fn atoi(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
