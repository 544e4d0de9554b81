//! A connection to the datastore for this process's own commands: what is
//! pushed goes out at once, and every command's reply is waited for.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::handshake::{self, push_command};
use super::{LinkKey, OpenError, Options, Wire};
use crate::platform::stream::Stream;
use crate::protocol::resp::replies::ReplyScanner;

/// What one read asks for.
const READ_BYTES: usize = 64 * 1024;

/// Why there is no reply. The connection is of no use any more.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ClientError(pub String);

/// A connection that speaks RESP2.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    out: BytesMut,
    input: BytesMut,
    expected: usize,
    timeout: Duration,
}

impl Client {
    /// Connects. `name` is what the datastore calls the connection; `timeout`
    /// is how long replies may take.
    pub async fn open(
        options: &Options,
        name: &[u8],
        timeout: Duration,
    ) -> Result<Client, OpenError> {
        let key = LinkKey {
            wire: Wire::Resp2,
            database: 0,
            identity: options.identity.clone(),
        };
        let opened = handshake::open(options, &key, name).await?;
        if opened.needs_auth {
            return Err(OpenError::Refused(Rc::from(
                &b"-NOAUTH the datastore wants a password"[..],
            )));
        }
        Ok(Client {
            stream: opened.stream,
            out: BytesMut::new(),
            input: BytesMut::new(),
            expected: 0,
            timeout,
        })
    }

    /// Adds a command to the next exchange.
    pub fn push(&mut self, arguments: &[&[u8]]) {
        push_command(&mut self.out, arguments);
        self.expected += 1;
    }

    /// Adds a command to the next exchange.
    pub fn push_owned(&mut self, arguments: &[Bytes]) {
        let arguments: smallvec::SmallVec<[&[u8]; 8]> =
            arguments.iter().map(|one| &one[..]).collect();
        self.push(&arguments);
    }

    /// How many commands wait for the next exchange.
    pub fn pushed(&self) -> usize {
        self.expected
    }

    /// Sends what was pushed and waits for all replies, which come in order,
    /// each with its line ends. Not cancel safe: a connection whose exchange was
    /// given up is of no use.
    pub async fn exchange(&mut self) -> Result<Vec<Bytes>, ClientError> {
        let timeout = self.timeout;
        match tokio::time::timeout(timeout, self.exchange_all()).await {
            Ok(replies) => replies,
            Err(_) => Err(ClientError(format!(
                "the datastore did not answer within {} ms",
                timeout.as_millis()
            ))),
        }
    }

    async fn exchange_all(&mut self) -> Result<Vec<Bytes>, ClientError> {
        let failed = |error: std::io::Error| ClientError(format!("datastore connection: {error}"));
        let out = self.out.split();
        self.stream.write_all(&out).await.map_err(failed)?;
        let expected = std::mem::take(&mut self.expected);
        let mut replies = Vec::with_capacity(expected);
        let mut scanner = ReplyScanner::default();
        while replies.len() < expected {
            match scanner.next(&self.input) {
                Ok(Some(frame)) => {
                    replies.push(self.input.split_to(frame.end).freeze());
                    continue;
                }
                Ok(None) => {}
                Err(error) => return Err(ClientError(format!("datastore's reply: {error}"))),
            }
            self.input.reserve(READ_BYTES);
            let read = self.stream.read(&mut self.input).await.map_err(failed)?;
            if read == 0 {
                return Err(ClientError("the datastore closed the connection".into()));
            }
        }
        Ok(replies)
    }
}

/// The elements of an array reply; none where it is nil or no array.
pub fn elements(reply: &Bytes) -> Option<Vec<Bytes>> {
    let line_end = memchr::memchr(b'\n', reply)? + 1;
    let count = std::str::from_utf8(reply.get(1..line_end - 2)?).ok()?;
    let count: usize = count.parse().ok()?;
    if reply[0] != b'*' {
        return None;
    }
    let mut rest = reply.slice(line_end..);
    let mut found = Vec::with_capacity(count);
    for _ in 0..count {
        let frame = ReplyScanner::default().next(&rest).ok()??;
        found.push(rest.split_to(frame.end));
    }
    Some(found)
}

/// The text of a bulk or simple string, or the digits of an integer; none where
/// it is nil, an error or an array.
pub fn text(reply: &Bytes) -> Option<Bytes> {
    let line_end = memchr::memchr(b'\n', reply)? + 1;
    match reply[0] {
        b'+' | b':' => Some(reply.slice(1..line_end - 2)),
        b'$' if reply[1] != b'-' => Some(reply.slice(line_end..reply.len() - 2)),
        _ => None,
    }
}

/// The error that a reply is, without its `-` and line end.
pub fn error(reply: &Bytes) -> Option<Bytes> {
    (reply.first() == Some(&b'-')).then(|| reply.slice(1..reply.len().saturating_sub(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_taken_apart() {
        let reply = Bytes::from("*3\r\n+OK\r\n$2\r\nab\r\n*1\r\n-ERR x\r\n");
        let found = elements(&reply).expect("an array");
        assert_eq!(found.len(), 3);
        assert_eq!(text(&found[0]).as_deref(), Some(&b"OK"[..]));
        assert_eq!(text(&found[1]).as_deref(), Some(&b"ab"[..]));
        assert_eq!(text(&found[2]), None);
        let inner = elements(&found[2]).expect("an array");
        assert_eq!(error(&inner[0]).as_deref(), Some(&b"ERR x"[..]));
        assert_eq!(elements(&Bytes::from("*-1\r\n")), None);
        assert_eq!(text(&Bytes::from("$-1\r\n")), None);
        assert_eq!(text(&Bytes::from(":7\r\n")).as_deref(), Some(&b"7"[..]));
    }
}
