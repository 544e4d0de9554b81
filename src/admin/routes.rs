//! What each path answers.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, ORIGIN};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// Prometheus's text format (prometheus.io, "Exposition formats").
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

const INDEX: &str = "\
wal-sidecar

GET  /metrics  metrics in Prometheus's text format
GET  /healthz  200 as long as the process answers
GET  /readyz   200 when it can serve, else 503; each check by name
GET  /config   the effective configuration, secrets redacted
POST /drain    finish what is under way and end
";

/// Whether the process can serve, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether clients should be sent here.
    pub ready: bool,
    /// Each check by its name, and what is wrong where it fails. A check may
    /// fail without making the process unready.
    pub checks: Vec<(String, Result<(), String>)>,
}

/// What the endpoint shows and does. All are called on the endpoint's
/// runtime, so none may block.
#[derive(Clone)]
pub struct State {
    /// All metrics in Prometheus's text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether the process can serve.
    pub ready: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// The effective configuration as JSON, secrets redacted.
    pub config: Arc<dyn Fn() -> String + Send + Sync>,
    /// Starts the drain; does nothing where it has been started.
    pub drain: Arc<dyn Fn() + Send + Sync>,
}

/// Answers one request. Its body is not looked at. `is_local`: it comes from
/// this host; in a pod, from its containers.
pub(super) fn answer<B>(
    request: &Request<B>,
    is_local: bool,
    state: &State,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let allowed = match path {
        "/" | "/metrics" | "/healthz" | "/readyz" | "/config" => "GET, HEAD",
        "/drain" => "POST",
        _ => {
            let text = "no such path; / lists those there are\n";
            return response(StatusCode::NOT_FOUND, TEXT, text);
        }
    };
    if !allowed
        .split(", ")
        .any(|method| method == request.method().as_str())
    {
        let text = format!("use {allowed}\n");
        let mut response = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(allowed));
        return response;
    }
    // Browsers send this along; a page somebody looks at must not drain the
    // process that runs beside the browser.
    if request.method() == Method::POST && request.headers().contains_key(ORIGIN) {
        return response(StatusCode::FORBIDDEN, TEXT, "not for browsers\n");
    }
    // Probes and Prometheus need an address that others can reach too.
    if path == "/drain" && !is_local {
        let text = "only from this host; elsewhere, SIGTERM does the same\n";
        return response(StatusCode::FORBIDDEN, TEXT, text);
    }
    match path {
        "/" => response(StatusCode::OK, TEXT, INDEX),
        "/metrics" => response(StatusCode::OK, METRICS, (state.metrics)()),
        "/healthz" => response(StatusCode::OK, JSON, "{\"alive\":true}\n"),
        "/readyz" => readiness(&(state.ready)()),
        "/config" => response(StatusCode::OK, JSON, (state.config)() + "\n"),
        _ => {
            (state.drain)();
            response(StatusCode::ACCEPTED, JSON, "{\"draining\":true}\n")
        }
    }
}

fn readiness(readiness: &Readiness) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct Check<'a> {
        name: &'a str,
        ok: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
    }
    let checks: Vec<Check> = readiness
        .checks
        .iter()
        .map(|(name, result)| Check {
            name,
            ok: result.is_ok(),
            reason: result.as_ref().err().map(String::as_str),
        })
        .collect();
    let status = match readiness.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = json!({ "ready": readiness.ready, "checks": checks });
    response(status, JSON, format!("{body}\n"))
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
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn only_this_host_can_drain() {
        let drains = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&drains);
        let state = State {
            metrics: Arc::new(String::new),
            ready: Arc::new(|| Readiness {
                ready: true,
                checks: Vec::new(),
            }),
            config: Arc::new(String::new),
            drain: Arc::new(move || {
                count.fetch_add(1, Ordering::SeqCst);
            }),
        };
        let request = |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path);
            request.body(()).expect("it is right")
        };
        for (method, path, is_local, expected, drained) in [
            ("POST", "/drain", false, StatusCode::FORBIDDEN, 0),
            ("GET", "/drain", false, StatusCode::METHOD_NOT_ALLOWED, 0),
            ("GET", "/metrics", false, StatusCode::OK, 0),
            ("POST", "/drain", true, StatusCode::ACCEPTED, 1),
        ] {
            let response = answer(&request(method, path), is_local, &state);
            assert_eq!(response.status(), expected, "{method} {path} {is_local}");
            assert_eq!(drains.load(Ordering::SeqCst), drained);
        }
    }
}
