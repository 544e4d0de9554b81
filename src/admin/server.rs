//! Accepts connections and serves them, within limits.

use super::routes::answer;
use super::{Options, State};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections served at once; others wait in the listener's queue.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's first line and headers. hyper's least buffer.
const HEAD_BYTES_MAX: usize = 8192;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// Time to send a request's head; also how long a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Life of a connection, after which it ends with its next response.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);
/// Time for a connection's last response once it is to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after an accept that failed for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the endpoint cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something else listens there.
    #[error(
        "address {0} is taken (admin.listen); stop what listens there or give admin.listen another port"
    )]
    Taken(SocketAddr),
    /// This machine does not have the address.
    #[error("address {0} is not one of this machine's (admin.listen)")]
    NotLocal(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {listen} (admin.listen): {error}")]
    Other {
        /// The address.
        listen: SocketAddr,
        /// What the operating system said.
        error: std::io::Error,
    },
}

/// The endpoint, listening but not yet answering.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// Starts listening. Connections wait until [`Server::serve`] runs.
pub async fn bind(options: &Options) -> Result<Server, BindError> {
    let listen = options.listen;
    let bound = TcpListener::bind(listen).await;
    let with_address = bound.and_then(|listener| {
        let address = listener.local_addr()?;
        Ok(Server { listener, address })
    });
    with_address.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => BindError::Taken(listen),
        std::io::ErrorKind::AddrNotAvailable => BindError::NotLocal(listen),
        _ => BindError::Other { listen, error },
    })
}

impl Server {
    /// Where it listens, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `shutdown` is done, then finishes the responses
    /// under way, for no longer than a few seconds. Dropping the future cuts
    /// all connections.
    pub async fn serve(self, state: State, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let (closing, closed) = watch::channel(false);
        let mut connections = JoinSet::new();
        loop {
            // Events: the end, a connection that ended, a new one. Biased so
            // that a flood of connections cannot delay the end.
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                    match accepted {
                        Ok((stream, peer)) => {
                            let is_local = peer.ip().to_canonical().is_loopback();
                            connections.spawn(connection(
                                stream, is_local, state.clone(), closed.clone(),
                            ));
                        }
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept an admin connection");
                            sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
            }
        }
        drop(self.listener);
        closing.send_replace(true);
        while connections.join_next().await.is_some() {}
    }
}

/// Serves one connection until it ends, has lived long enough, or the
/// endpoint closes.
async fn connection(
    stream: TcpStream,
    is_local: bool,
    state: State,
    mut closed: watch::Receiver<bool>,
) {
    let service = service_fn(|request| {
        let response = answer(&request, is_local, &state);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        // Errors are the client's: it left, or did not speak HTTP.
        _ = &mut connection => return,
        _ = closed.wait_for(|closing| *closing) => {}
        () = sleep(CONNECTION_LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(CLOSE_TIMEOUT, connection).await;
}

#[cfg(test)]
mod tests;
