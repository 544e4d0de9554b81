//! Accepts clients.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::Context;
use super::connection::Connection;
use super::memcached;
use crate::platform::stream::{Listener, Stream};
use crate::protocol::Protocol;

/// After an accept that failed (no file descriptors left, as a rule), so much
/// time passes before the next.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// When draining, clients that have connected are waited for this long.
const LAST_WAIT: Duration = Duration::from_millis(2);
/// So many more clients are accepted when draining: all that the kernel holds.
const LAST_MAX: usize = 1024;

/// Accepts until the context drains, and then whoever has connected by then,
/// for they may have sent something; each client is a task of its own.
pub async fn accept(listener: Listener, context: Rc<Context>) {
    // Events: a client, the drain.
    while !context.draining.get() {
        tokio::select! {
            accepted = listener.accept() => begin(accepted, &context).await,
            () = context.drained.notified() => {}
        }
    }
    for _ in 0..LAST_MAX {
        let Ok(accepted) = tokio::time::timeout(LAST_WAIT, listener.accept()).await else {
            return;
        };
        begin(accepted, &context).await;
    }
}

async fn begin(accepted: io::Result<Stream>, context: &Rc<Context>) {
    let mut stream = match accepted {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "accepting a client failed");
            return tokio::time::sleep(ACCEPT_BACKOFF).await;
        }
    };
    let metrics = &context.metrics;
    let protocol = context.options.get().protocol;
    if context.options.get().client_limit <= metrics.clients.get().max(0) as usize {
        metrics.refused.add(1);
        // A new socket takes this much at once; a client that is gone by
        // now does not matter.
        let text: &[u8] = match protocol {
            Protocol::Redis => b"-ERR max number of clients reached\r\n",
            Protocol::Memcached => b"ERROR Too many open connections\r\n",
        };
        let _ = stream.write_all(text).await;
        return;
    }
    metrics.accepted.add(1);
    let context = Rc::clone(context);
    match protocol {
        Protocol::Redis => tokio::task::spawn_local(Connection::new(stream, context).run()),
        Protocol::Memcached => {
            tokio::task::spawn_local(memcached::Connection::new(stream, context).run())
        }
    };
}
