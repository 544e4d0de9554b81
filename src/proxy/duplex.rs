//! A replication stream, for a client that is a replica: what the datastore
//! sends is copied, what the client sends is looked at.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use bytes::{Buf, BytesMut};

use super::connection::Connection;
use crate::platform::stream::Stream;
use crate::protocol::Batch;
use crate::protocol::resp::commands::{Control, Table};
use crate::protocol::resp::scanner::Scanner;

const BUFFER_BYTES: usize = 64 * 1024;

impl Connection {
    /// Opens a connection of the client's own for SYNC, PSYNC or REPLCONF and
    /// copies both ways until either side ends.
    pub(super) async fn stream_replication(&mut self, batch: Batch) {
        let opened = self.context.links.raw(&self.session.key).await;
        let mut upstream = match opened {
            Ok(upstream) => upstream,
            Err(error) => {
                self.reply(format!("-UNAVAILABLE {error}\r\n").as_bytes());
                return;
            }
        };
        if upstream.write_all(&batch.bytes).await.is_ok() {
            let mut uplink = Uplink {
                scanner: Scanner::new(self.context.options.get().scanner),
                unsent: self.take_rest(),
            };
            let table = self.context.table.load_full();
            copy_both(self.stream_mut(), &mut upstream, &mut uplink, &table).await;
        }
        self.abort();
    }
}

/// What the client has sent that has not been sent on.
struct Uplink {
    scanner: Scanner,
    unsent: BytesMut,
}

impl Uplink {
    /// How many of the bytes are commands of a replica, and whether something
    /// else follows them. A datastore takes writes from a client that has only
    /// said REPLCONF, and from replicas too: none may pass unjournaled.
    fn allowed(&mut self, table: &Table) -> (usize, bool) {
        let mut end = 0;
        loop {
            let rest = &self.unsent[end..];
            let Ok(found) = self.scanner.next(rest) else {
                return (end, true);
            };
            let Some(frame) = found else {
                return (end, false);
            };
            let name = &rest[frame.name.0..frame.name.1];
            let is_replica = table.classify(rest, &frame).control == Some(Control::Sync)
                || name.eq_ignore_ascii_case(b"PING")
                || frame.arguments == 0;
            if !is_replica {
                return (end, true);
            }
            end += frame.end;
        }
    }
}

/// Copies until either side ends or fails; that is the end of both.
async fn copy_both(client: &mut Stream, upstream: &mut Stream, uplink: &mut Uplink, table: &Table) {
    let mut down = BytesMut::new();
    loop {
        let (end, is_foreign) = uplink.allowed(table);
        let written = async {
            upstream.write_all(&uplink.unsent[..end]).await?;
            client.write_all(&down).await
        };
        if written.await.is_err() || is_foreign {
            return;
        }
        uplink.unsent.advance(end);
        down.clear();
        uplink.unsent.reserve(BUFFER_BYTES);
        down.reserve(BUFFER_BYTES);
        let (client_ended, upstream_ended) = {
            let mut from_client = pin!(client.read(&mut uplink.unsent));
            let mut from_upstream = pin!(upstream.read(&mut down));
            poll_fn(|cx| {
                let first = from_client.as_mut().poll(cx);
                let second = from_upstream.as_mut().poll(cx);
                match (first, second) {
                    (Poll::Pending, Poll::Pending) => Poll::Pending,
                    (first, second) => Poll::Ready((has_ended(&first), has_ended(&second))),
                }
            })
            .await
        };
        if client_ended {
            return;
        }
        if upstream_ended {
            let _ = client.write_all(&down).await;
            return;
        }
    }
}

fn has_ended(read: &Poll<std::io::Result<usize>>) -> bool {
    matches!(read, Poll::Ready(Ok(0) | Err(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::resp::scanner::Limits;

    #[test]
    fn only_what_replicas_say_passes() {
        let check = |sent: &[u8], expected: (usize, bool)| {
            let mut uplink = Uplink {
                scanner: Scanner::new(Limits::default()),
                unsent: BytesMut::from(sent),
            };
            let table = Table::built_in();
            assert_eq!(uplink.allowed(&table), expected, "{}", sent.escape_ascii());
        };
        const ACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$1\r\n5\r\n";
        const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
        check(ACK, (ACK.len(), false));
        check(&[ACK, ACK].concat(), (2 * ACK.len(), false));
        check(&[ACK, &ACK[..7]].concat(), (ACK.len(), false));
        check(&[ACK, SET].concat(), (ACK.len(), true));
        check(SET, (0, true));
        check(b"psync ? -1\r\nping\r\n\r\n", (20, false));
        check(b"PING\r\nset k v\r\n", (6, true));
        check(b"*1\r\n$x\r\n", (0, true));
    }
}
