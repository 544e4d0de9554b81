//! A replication stream: bytes both ways, for a client that is a replica.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use bytes::BytesMut;

use super::connection::Connection;
use crate::platform::stream::Stream;
use crate::protocol::Batch;

const BUFFER_BYTES: usize = 64 * 1024;

impl Connection {
    /// Opens a connection of the client's own for SYNC, PSYNC or REPLCONF and
    /// copies both ways until either side ends. A replica sends only REPLCONF
    /// on it; the datastore takes no writes from one.
    pub(super) async fn stream_replication(&mut self, batch: Batch) {
        let opened = self.context.links.raw(&self.session.key).await;
        let mut upstream = match opened {
            Ok(upstream) => upstream,
            Err(error) => {
                self.reply(format!("-UNAVAILABLE {error}\r\n").as_bytes());
                return;
            }
        };
        let rest = self.take_rest();
        let begun = async {
            upstream.write_all(&batch.bytes).await?;
            upstream.write_all(&rest).await
        };
        if begun.await.is_ok() {
            copy_both(self.stream_mut(), &mut upstream).await;
        }
        self.abort();
    }
}

/// Copies until either side ends or fails; that is the end of both.
async fn copy_both(client: &mut Stream, upstream: &mut Stream) {
    let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
    loop {
        up.reserve(BUFFER_BYTES);
        down.reserve(BUFFER_BYTES);
        let ended = {
            let mut from_client = pin!(client.read(&mut up));
            let mut from_upstream = pin!(upstream.read(&mut down));
            poll_fn(|cx| {
                let first = from_client.as_mut().poll(cx);
                let second = from_upstream.as_mut().poll(cx);
                match (first, second) {
                    (Poll::Pending, Poll::Pending) => Poll::Pending,
                    (first, second) => Poll::Ready(has_ended(first) || has_ended(second)),
                }
            })
            .await
        };
        let written = async {
            upstream.write_all(&up).await?;
            client.write_all(&down).await
        };
        if written.await.is_err() || ended {
            return;
        }
        up.clear();
        down.clear();
    }
}

fn has_ended(read: Poll<std::io::Result<usize>>) -> bool {
    matches!(read, Poll::Ready(Ok(0) | Err(_)))
}
