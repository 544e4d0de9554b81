//! Accepts clients.

use std::rc::Rc;
use std::time::Duration;

use super::Context;
use super::connection::Connection;
use crate::platform::stream::Listener;

/// After an accept that failed (no file descriptors left, as a rule), so much
/// time passes before the next.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Accepts until it is dropped; each client is a task of its own.
pub async fn accept(listener: Listener, context: Rc<Context>) {
    loop {
        let mut stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a client failed");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        let metrics = &context.metrics;
        if context.options.client_limit <= metrics.clients.get().max(0) as usize {
            metrics.refused.add(1);
            // A new socket takes this much at once; a client that is gone by
            // now does not matter.
            let _ = stream
                .write_all(b"-ERR max number of clients reached\r\n")
                .await;
            continue;
        }
        metrics.accepted.add(1);
        tokio::task::spawn_local(Connection::new(stream, Rc::clone(&context)).run());
    }
}
