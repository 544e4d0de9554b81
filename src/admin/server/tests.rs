use super::super::Readiness;
use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

const DEADLINE: Duration = Duration::from_secs(20);

/// A running endpoint and what its handles saw.
struct Endpoint {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    drains: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

async fn start() -> Endpoint {
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = bind(&Options { listen }).await.unwrap();
    let (ready, drains) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (is_ready, count) = (ready.clone(), drains.clone());
    let state = State {
        metrics: Arc::new(|| "wal_sidecar_test_total 1\n".to_owned()),
        ready: Arc::new(move || {
            let ready = is_ready.load(Ordering::SeqCst);
            let datastore = match ready {
                true => Ok(()),
                false => Err("connection refused".to_owned()),
            };
            let checks = vec![
                ("listener".to_owned(), Ok(())),
                ("datastore".to_owned(), datastore),
            ];
            Readiness { ready, checks }
        }),
        config: Arc::new(|| "{\"region\":\"a\"}".to_owned()),
        drain: Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }),
    };
    let (stop, stopped) = oneshot::channel();
    let address = server.address();
    let task = tokio::spawn(server.serve(state, async move {
        let _ = stopped.await;
    }));
    Endpoint {
        address,
        ready,
        drains,
        stop,
        task,
    }
}

/// Sends bytes and reads until the server closes.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut response = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut response)).await;
    let _ = read.expect("the server closes within the deadline");
    String::from_utf8(response).unwrap()
}

async fn ask(address: SocketAddr, line: &str) -> String {
    let request = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    exchange(address, &request).await
}

#[tokio::test]
async fn every_path_answers() {
    let endpoint = start().await;
    for (line, status, part) in [
        ("GET /", 200, "GET  /metrics"),
        ("GET /metrics", 200, "wal_sidecar_test_total 1\n"),
        (
            "GET /metrics?x=1",
            200,
            "content-type: text/plain; version=0.0.4",
        ),
        ("HEAD /metrics", 200, "content-length: 25"),
        ("GET /healthz", 200, "{\"alive\":true}"),
        ("GET /readyz", 200, "\"ready\":true"),
        ("GET /config", 200, "{\"region\":\"a\"}\n"),
        ("POST /drain", 202, "{\"draining\":true}"),
        ("GET /drain", 405, "allow: POST"),
        ("POST /metrics", 405, "allow: GET, HEAD"),
        ("GET /nothing", 404, "/ lists"),
        ("GET /metrics/", 404, "/ lists"),
    ] {
        let response = ask(endpoint.address, line).await;
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{line}: {response}"
        );
        assert!(response.contains(part), "{line}: {response}");
    }
    assert_eq!(endpoint.drains.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn readiness_names_each_check() {
    let endpoint = start().await;
    endpoint.ready.store(false, Ordering::SeqCst);
    let response = ask(endpoint.address, "GET /readyz").await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    let (_, body) = response.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({ "ready": false, "checks": [
            { "name": "listener", "ok": true },
            { "name": "datastore", "ok": false, "reason": "connection refused" },
        ]})
    );
}

#[tokio::test]
async fn browsers_cannot_drain() {
    let endpoint = start().await;
    let request =
        "POST /drain HTTP/1.1\r\nhost: x\r\norigin: http://page\r\nconnection: close\r\n\r\n";
    let response = exchange(endpoint.address, request).await;
    assert!(response.starts_with("HTTP/1.1 403 "), "{response}");
    assert_eq!(endpoint.drains.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn heads_are_limited() {
    let endpoint = start().await;
    let large = format!(
        "GET / HTTP/1.1\r\nx: {}\r\n\r\n",
        "x".repeat(2 * HEAD_BYTES_MAX)
    );
    let many = format!(
        "GET / HTTP/1.1\r\n{}\r\n",
        "x: y\r\n".repeat(HEADERS_MAX + 1)
    );
    for request in [large, many] {
        let response = exchange(endpoint.address, &request).await;
        assert!(
            response.is_empty() || response.starts_with("HTTP/1.1 431 "),
            "{response}"
        );
    }
    assert!(
        exchange(endpoint.address, "nonsense\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400 ")
    );
    assert!(
        ask(endpoint.address, "GET /")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
}

#[tokio::test]
async fn connections_are_limited() {
    let endpoint = start().await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(endpoint.address).await.unwrap();
        // An answer shows that the connection has its place.
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut first = [0; 8];
        timeout(DEADLINE, stream.read_exact(&mut first))
            .await
            .unwrap()
            .unwrap();
        held.push(stream);
    }
    let mut waiting = TcpStream::connect(endpoint.address).await.unwrap();
    waiting
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 8];
    let early = timeout(Duration::from_millis(200), waiting.read_exact(&mut first)).await;
    assert!(early.is_err(), "there is no place for one more");
    held.pop();
    timeout(DEADLINE, waiting.read_exact(&mut first))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&first, b"HTTP/1.1");
}

#[tokio::test]
async fn the_end_closes_idle_connections() {
    let endpoint = start().await;
    let mut stream = TcpStream::connect(endpoint.address).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 8];
    stream.read_exact(&mut first).await.unwrap();
    endpoint.stop.send(()).unwrap();
    timeout(DEADLINE, endpoint.task)
        .await
        .expect("it ends within the deadline")
        .unwrap();
    assert!(TcpStream::connect(endpoint.address).await.is_err());
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let endpoint = start().await;
    let error = bind(&Options {
        listen: endpoint.address,
    })
    .await
    .unwrap_err();
    let expected = format!("address {} is taken (admin.listen); ", endpoint.address);
    assert!(error.to_string().starts_with(&expected), "{error}");
}
