//! Asks a sidecar how many clients are connected to it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Clients that are connected.
const CONNECTED: &str = "wal_sidecar_client_connections";
/// Clients that ever were.
const ACCEPTED: &str = "wal_sidecar_clients_accepted_total";
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of all metrics; a hundred namespaces have some hundred KiB.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// What a sidecar has. It brings these numbers up to date a few times a
/// second, not at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// Clients that are connected, and that ever were.
    Served {
        /// Connected now.
        connected: u64,
        /// Since the start.
        accepted: u64,
    },
    /// Nobody listens: it has ended.
    Ended,
}

/// Asks the sidecar whose admin endpoint this is.
///
/// # Errors
/// Whoever listens there does not answer as a sidecar does.
pub async fn clients(admin: SocketAddr) -> io::Result<Clients> {
    let answer = timeout(TIMEOUT, metrics(admin)).await;
    match answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(text) => count(&text),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Clients::Ended),
        Err(error) => Err(error),
    }
}

async fn metrics(admin: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(admin).await?;
    // HTTP/1.0, so that the end of the answer is the end of the connection.
    let request = "GET /metrics HTTP/1.0\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_string(&mut answer)
        .await?;
    Ok(answer)
}

fn count(answer: &str) -> io::Result<Clients> {
    let is_right = answer.contains(" 200 ");
    match (sum(answer, CONNECTED), sum(answer, ACCEPTED)) {
        (Some(connected), Some(accepted)) if is_right => Ok(Clients::Served {
            connected,
            accepted,
        }),
        _ => Err(io::Error::other(
            "this is not the admin endpoint of a sidecar that serves clients",
        )),
    }
}

/// The sum over all namespaces; none where the metric is not there.
fn sum(answer: &str, metric: &str) -> Option<u64> {
    let lines = answer.lines().filter_map(|line| line.strip_prefix(metric));
    let values = lines.filter(|rest| rest.starts_with(['{', ' ']));
    let values: Vec<f64> = values
        .filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
        .collect();
    let sum = values.iter().sum::<f64>().max(0.0);
    (!values.is_empty()).then_some(sum as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_all_namespaces_are_counted() {
        let answer = "HTTP/1.0 200 OK\r\n\r\n# TYPE wal_sidecar_client_connections gauge\n\
            wal_sidecar_client_connections{namespace=\"a\"} 2\n\
            wal_sidecar_client_connections{namespace=\"b\"} 3\n\
            wal_sidecar_client_connections_total 9\n\
            wal_sidecar_clients_accepted_total{namespace=\"a\"} 12\n";
        let expected = Clients::Served {
            connected: 5,
            accepted: 12,
        };
        assert_eq!(count(answer).unwrap(), expected);
        count("HTTP/1.0 200 OK\r\n\r\nhello\n").unwrap_err();
        count("HTTP/1.0 404 Not Found\r\n\r\nwal_sidecar_client_connections 1\n").unwrap_err();
    }
}
