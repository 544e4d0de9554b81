//! Asks the admin endpoint of one process: `/metrics`, `/readyz` and `/config`
//! over one connection.

use super::exposition::Samples;
use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one process may take to be connected and to answer all of it.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of one answer; metrics of a hundred namespaces have some hundred KiB.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// The port of the admin endpoint where nothing else is said.
const PORT: u16 = 9900;

/// What a process said.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) taken: Instant,
    pub(super) samples: Samples,
    pub(super) readiness: Readiness,
    pub(super) config: Effective,
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    pub(super) checks: Vec<Check>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) ok: bool,
    pub(super) reason: Option<String>,
}

/// What is needed of the answer of `/config`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Effective {
    pub(super) region: String,
    pub(super) roles: Vec<String>,
    #[serde(rename = "namespace")]
    pub(super) namespaces: Vec<EffectiveNamespace>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct EffectiveNamespace {
    pub(super) name: String,
}

/// `HOST:PORT` of an address as people write it: perhaps with `http://`, perhaps
/// without a port.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    if text.starts_with("https://") {
        return Err(format!("{text}: the admin endpoint speaks plain HTTP"));
    }
    let address = text.strip_prefix("http://").unwrap_or(text);
    let address = address.strip_suffix('/').unwrap_or(address);
    let wrong = || format!("{text:?} is no address: HOST:PORT, with :{PORT} if left out");
    if address.parse::<SocketAddr>().is_ok() {
        return Ok(address.to_owned());
    }
    let bare = address
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    if let Ok(ip) = bare {
        return Ok(SocketAddr::new(ip, PORT).to_string());
    }
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
        None => (address, PORT),
    };
    let is_name = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '.' | '_');
    match !host.is_empty() && host.chars().all(is_name) {
        true => Ok(format!("{host}:{port}")),
        false => Err(wrong()),
    }
}

/// Asks for all of it; the error is one line for people.
pub(super) async fn scrape(address: &str) -> Result<Reading, String> {
    match timeout(TIMEOUT, ask(address)).await {
        Ok(answer) => answer.map_err(|error| format!("{error:#}")),
        Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    }
}

async fn ask(address: &str) -> anyhow::Result<Reading> {
    let stream = TcpStream::connect(address).await.context("connect")?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.context("connect")?;
    let answers = async {
        let mut client = Client { sender, address };
        let metrics = client.get("/metrics", &[StatusCode::OK]).await?;
        // Counters are of this moment, whatever the rest takes.
        let taken = Instant::now();
        let either = [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE];
        let readiness = client.get("/readyz", &either).await?;
        let config = client.get("/config", &[StatusCode::OK]).await?;
        anyhow::Ok((taken, metrics, readiness, config))
    };
    // The connection does the work; it ends before the answers where it fails.
    let (taken, metrics, readiness, config) = tokio::select! {
        biased;
        answers = answers => answers?,
        ended = connection => {
            ended.context("read the answer")?;
            bail!("the connection was closed");
        }
    };
    let metrics = std::str::from_utf8(&metrics).context("read /metrics")?;
    let samples = Samples::parse(metrics).context("read /metrics")?;
    if samples.sum("wal_sidecar_build_info", &[]).is_none() {
        bail!("this is not the admin endpoint of a wal-sidecar");
    }
    Ok(Reading {
        taken,
        samples,
        readiness: serde_json::from_slice(&readiness).context("read /readyz")?,
        config: serde_json::from_slice(&config).context("read /config")?,
    })
}

/// One end of the connection.
struct Client<'a> {
    sender: SendRequest<Empty<Bytes>>,
    address: &'a str,
}

impl Client<'_> {
    async fn get(&mut self, path: &str, expected: &[StatusCode]) -> anyhow::Result<BytesMut> {
        let request = Request::get(path).header(HOST, self.address);
        let request = request.body(Empty::new()).context("ask")?;
        let what = || format!("ask for {path}");
        self.sender.ready().await.with_context(what)?;
        let response = self.sender.send_request(request).await.with_context(what)?;
        if !expected.contains(&response.status()) {
            bail!("{path} is answered with {}", response.status());
        }
        let mut body = response.into_body();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.with_context(|| format!("read {path}"))?;
            bytes.extend_from_slice(frame.data_ref().map_or(&[], Bytes::as_ref));
            if ANSWER_BYTES_MAX < bytes.len() {
                bail!("{path} has more than {ANSWER_BYTES_MAX} bytes");
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood() {
        for (text, expected) in [
            ("127.0.0.1:9901", Some("127.0.0.1:9901")),
            ("http://10.0.0.7:9900/", Some("10.0.0.7:9900")),
            ("10.0.0.7", Some("10.0.0.7:9900")),
            ("[::1]:9901", Some("[::1]:9901")),
            ("::1", Some("[::1]:9900")),
            ("[::1]", Some("[::1]:9900")),
            ("cart-0.cart.shop", Some("cart-0.cart.shop:9900")),
            ("localhost:80", Some("localhost:80")),
            ("https://localhost:80", None),
            ("localhost:http", None),
            ("localhost:70000", None),
            ("http://host/path", None),
            (":9900", None),
            ("", None),
        ] {
            assert_eq!(endpoint(text).ok().as_deref(), expected, "{text}");
        }
    }
}
