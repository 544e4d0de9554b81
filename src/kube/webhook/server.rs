//! Serves reviews over TLS, within limits.

use super::certificate::{CertificateError, Pair};
use super::metrics::Metrics;
use super::review::{Policy, Selection, answer};
use crate::kube::Options;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// Connections served at once; others wait in the listener's queue. An API
/// server keeps few.
const CONNECTIONS_MAX: usize = 512;
/// Time for a TLS handshake, and for a request's head.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of a review. The API server takes objects of 3 MiB at most.
const BODY_BYTES_MAX: usize = 8 << 20;
/// Time for a connection's last response once it is to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Looks after which files that cannot be used are broken.
const LOOKS_UNTIL_BROKEN: u32 = 2;
/// Pause after an accept that failed for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the webhook does.
pub struct Webhook {
    /// What pods get, where their annotations say nothing else.
    pub options: Options,
    /// What a bad annotation comes to.
    pub policy: Policy,
    /// Where `tls.crt` and `tls.key` are.
    pub certificates: PathBuf,
    /// How often these are looked at.
    pub reload_interval: Duration,
}

/// The webhook, listening but not yet answering.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    pair: Pair,
    config: Arc<ServerConfig>,
    /// Files that cannot be used, or cannot be read, and how often they were
    /// seen so.
    failing: Option<(Option<Pair>, u32)>,
    state: Arc<State>,
}

struct State {
    webhook: Webhook,
    metrics: Metrics,
}

/// Why the webhook cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// It cannot listen.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
}

/// Reads the certificate and starts listening.
pub async fn bind(listen: SocketAddr, webhook: Webhook) -> Result<Server, StartError> {
    let pair = Pair::read(&webhook.certificates)?;
    let (config, expires_at) = pair.server_config()?;
    let metrics = Metrics::new();
    metrics.certificate(expires_at);
    let bound = TcpListener::bind(listen).await;
    let with_address = bound.and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    let (listener, address) = with_address.map_err(|error| StartError::Listen(listen, error))?;
    let state = Arc::new(State { webhook, metrics });
    Ok(Server {
        listener,
        address,
        pair,
        config,
        failing: None,
        state,
    })
}

impl Server {
    /// Where it listens, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers reviews until `shutdown` is done, then finishes what is under
    /// way, for no longer than a few seconds.
    pub async fn serve(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let (closing, closed) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut looks = interval(self.state.webhook.reload_interval);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Events: the end, time to look at the certificate, a connection
            // that ended, a new one. Biased so that a flood of connections
            // delays neither the end nor a new certificate.
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                _ = looks.tick() => self.reload(),
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                    match accepted {
                        Ok((stream, _)) => {
                            let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
                            let state = Arc::clone(&self.state);
                            connections.spawn(connection(stream, acceptor, state, closed.clone()));
                        }
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept a connection");
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

    /// Takes up changed files. While they are broken, the old ones stay. Two
    /// files cannot be exchanged at once, so a pair is broken only if it is at
    /// the next look too; it is reported once.
    fn reload(&mut self) {
        let read = Pair::read(&self.state.webhook.certificates);
        let seen = read.as_ref().ok().cloned();
        if seen.as_ref() == Some(&self.pair) {
            self.failing = None;
            return;
        }
        let loaded = read.and_then(|pair| pair.server_config().map(|config| (pair, config)));
        match loaded {
            Ok((pair, (config, expires_at))) => {
                (self.pair, self.config, self.failing) = (pair, config, None);
                self.state.metrics.reloaded(true);
                self.state.metrics.certificate(expires_at);
                tracing::info!(expires_at, "certificate read again");
            }
            Err(error) => {
                let looks = match &self.failing {
                    Some((same, looks)) if *same == seen => looks + 1,
                    _ => 1,
                };
                self.failing = Some((seen, looks));
                if looks == LOOKS_UNTIL_BROKEN {
                    self.state.metrics.reloaded(false);
                    tracing::error!(%error, "the new certificate cannot be used; the old one stays");
                }
            }
        }
    }
}

/// Serves one connection until it ends or the webhook does.
async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    state: Arc<State>,
    mut closed: watch::Receiver<bool>,
) {
    // A small answer should not wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let handshake = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    // Errors are the client's: it left, or does not trust the certificate.
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return,
    };
    let service = service_fn(|request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(respond(request, &state).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        _ = &mut connection => return,
        _ = closed.wait_for(|closing| *closing) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(CLOSE_TIMEOUT, connection).await;
}

async fn respond(request: Request<Incoming>, state: &State) -> Response<Full<Bytes>> {
    let selection = match request.uri().path() {
        "/inject" => Selection::Asking,
        "/inject-all" => Selection::All,
        "/healthz" => return text(StatusCode::OK, "alive\n"),
        _ => {
            return text(
                StatusCode::NOT_FOUND,
                "POST a review to /inject or /inject-all\n",
            );
        }
    };
    if request.method() != Method::POST {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use POST\n");
        let headers = response.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let content_type = request.headers().get(CONTENT_TYPE);
    let is_json = content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_json {
        return state.bad(StatusCode::UNSUPPORTED_MEDIA_TYPE, "use application/json");
    }
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX);
    let body = match timeout(BODY_TIMEOUT, body.collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return state.bad(StatusCode::PAYLOAD_TOO_LARGE, "the review is too large");
        }
        Ok(Err(_)) => return state.bad(StatusCode::BAD_REQUEST, "the body broke off"),
        Err(_) => return state.bad(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
    };
    let started = Instant::now();
    let webhook = &state.webhook;
    match answer(&body, &webhook.options, selection, webhook.policy) {
        Ok((decision, answer)) => {
            state.metrics.answered(decision, started.elapsed());
            tracing::debug!(?decision, "review answered");
            response(StatusCode::OK, "application/json", answer.to_string())
        }
        Err(error) => state.bad(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

impl State {
    fn bad(&self, status: StatusCode, message: &str) -> Response<Full<Bytes>> {
        self.metrics.bad_request();
        tracing::warn!(message, "a request that is no review");
        text(status, format!("{message}\n"))
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", body)
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
