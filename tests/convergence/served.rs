//! Journals that two regions serve each other: encrypted, to those alone who show the
//! token, and compressed on the way.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::sync::oneshot;

use super::steady::{DEADLINE, PIPELINE};
use super::support::certificates::Certificates;
use super::support::line::Line;
use super::support::process::free_port;
use super::support::resp::encode;
use super::support::{Random, Redis, Sidecar, SidecarOptions, until};

const NAMES: [&str; 2] = ["eu", "us"];

/// What both want to be shown.
const TOKEN: &str = "hush";

/// What is not that.
const WRONG: &str = "mistaken";

/// Whoever is let in needs fewer connections: so many are made by one that is refused,
/// again and again.
const ATTEMPTS: u64 = 6;

/// How many values are sent, and how long each is.
const VALUES: usize = 1_000;
const VALUE_BYTES: usize = 1_000;
const SENT: u64 = (VALUES * VALUE_BYTES) as u64;

/// Each is a proxy and a replicator, and has certificates of an authority of its own.
struct Regions {
    sidecars: [Sidecar; 2],
    redis: [Redis; 2],
    /// Over which the second one reads the journal of the first.
    line: Line,
    _certificates: [Certificates; 2],
    /// What goes over the line is passed on until this is dropped.
    _passing: oneshot::Sender<()>,
}

impl Regions {
    /// Both, and the token that each shows the other one.
    fn start(shown: [&str; 2]) -> Regions {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let handle = runtime.handle().clone();
        let (passing, dropped) = oneshot::channel();
        std::thread::spawn(move || runtime.block_on(dropped));
        let redis = [Redis::start(), Redis::start()];
        let certificates = [Certificates::new(), Certificates::new()];
        let served =
            [free_port(), free_port()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let line = handle.block_on(Line::to(served[0]));
        let read_at = [served[1], line.address()];
        let sidecars = [0, 1].map(|own: usize| {
            let other = 1 - own;
            let (certificate, key) = (certificates[own].certificate(), certificates[own].key());
            let authority = certificates[other].authority();
            let options = SidecarOptions::new(&redis[own])
                .region(NAMES[own], &["proxy", "replicator"])
                .journal(&format!(
                    "serve = \"{}\"\nserve_token = \"{TOKEN}\"\n\
                     serve_certificate = {certificate:?}\nserve_key = {key:?}",
                    served[own]
                ));
            let tables = format!(
                "[[replication.source]]\nregion = \"{}\"\njournal = \"wals://{}\"\n\
                 certificate_authority = {authority:?}\ntoken = \"{}\"\n",
                NAMES[other], read_at[own], shown[own]
            );
            Sidecar::with(SidecarOptions { tables, ..options })
        });
        Regions {
            sidecars,
            redis,
            line,
            _certificates: certificates,
            _passing: passing,
        }
    }

    /// A client of one region sets a key.
    fn set(&self, region: usize, key: &str) {
        let reply = self.sidecars[region].client().command(&["SET", key, "v"]);
        assert_eq!(reply, b"+OK\r\n");
    }

    /// Waits until a key is in the datastore of a region.
    fn until_there(&self, region: usize, key: &str) {
        until(&format!("{key} in {}", NAMES[region]), DEADLINE, || {
            self.is_there(region, key).then_some(())
        });
    }

    fn is_there(&self, region: usize, key: &str) -> bool {
        let found = self.redis[region].client().command(&["GET", key]);
        found == b"$1\r\nv\r\n"
    }

    /// Sets a key for each value in the first region and waits until the second one has
    /// the last of them: how many bytes of records were served, and how many came over
    /// the line.
    fn send(&self, name: &str, values: &[Vec<u8>]) -> (u64, u64) {
        let metric = "wal_sidecar_journal_served_bytes_total";
        let served = || self.sidecars[0].metric(metric, "") as u64;
        let (served_before, passed_before) = (served(), self.line.bytes());
        let mut commands = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let key = format!("{name}:{index}");
            commands.push(encode(&[&b"SET"[..], key.as_bytes(), &value[..]]));
        }
        let mut client = self.sidecars[0].client();
        for part in commands.chunks(PIPELINE) {
            client.send(&part.concat());
            assert_eq!(client.replies(part.len()), b"+OK\r\n".repeat(part.len()));
        }
        let key = format!("{name}:{}", values.len() - 1);
        let value = values.last().expect("some");
        let header = format!("${}\r\n", value.len());
        let expected = [header.as_bytes(), &value[..], &b"\r\n"[..]].concat();
        until(&format!("{key} to arrive"), DEADLINE, || {
            let found = self.redis[1].client().command(&["GET", &key]);
            (found == expected).then_some(())
        });
        (served() - served_before, self.line.bytes() - passed_before)
    }
}

/// Whether a source can be read: 1 or 0; none where nothing is said of it.
fn source_up(sidecar: &Sidecar, source: &str) -> Option<f64> {
    let (_, metrics) = sidecar.admin("/metrics");
    let label = format!("source=\"{source}\"");
    let is_meant = |line: &&str| {
        line.starts_with("wal_sidecar_replication_source_up{") && line.contains(&label)
    };
    let line = metrics.lines().find(is_meant)?;
    line.rsplit(' ').next()?.parse().ok()
}

fn until_up(sidecar: &Sidecar, source: &str) {
    until(&format!("{source} to be read"), DEADLINE, || {
        (source_up(sidecar, source) == Some(1.0)).then_some(())
    });
}

/// Waits for a log line that has all these parts.
fn until_said(sidecar: &Sidecar, parts: &[&str]) {
    until(&format!("a log line with {parts:?}"), DEADLINE, || {
        let has_all = |line: &String| parts.iter().all(|part| line.contains(*part));
        sidecar.lines().iter().any(has_all).then_some(())
    });
}

/// What the configuration says of TLS and tokens is what reader and server go by: a
/// change arrives in each region.
#[test]
fn encrypted_journals_are_read_with_the_token() {
    let regions = Regions::start([TOKEN; 2]);
    for (own, other) in [(0, 1), (1, 0)] {
        let parts = ["serving the journal", "encrypted=true token=true"];
        until_said(&regions.sidecars[own], &parts);
        let key = format!("of:{}", NAMES[own]);
        regions.set(own, &key);
        regions.until_there(other, &key);
        until_up(&regions.sidecars[other], NAMES[own]);
    }
}

/// A region that shows a wrong token gets nothing, and both sides say so; the other
/// direction is not concerned. With the right one it gets what it has missed.
#[test]
fn a_wrong_token_is_refused_and_said() {
    let mut regions = Regions::start([TOKEN, WRONG]);
    let [eu, us] = &regions.sidecars;
    let parts = [
        "WARN",
        "refused a reader of the journal",
        "the token is wrong",
    ];
    until_said(eu, &parts);
    let parts = ["WARN", "a journal can't be read", "the token is wrong"];
    until_said(us, &parts);

    regions.set(0, "of:eu");
    let before = regions.line.connections();
    until("it to try again and again", DEADLINE, || {
        (before + ATTEMPTS <= regions.line.connections()).then_some(())
    });
    assert_eq!(source_up(us, NAMES[0]), Some(0.0));
    let served = eu.metric("wal_sidecar_journal_served_records_total", "");
    assert_eq!(served, 0.0);
    assert!(!regions.is_there(1, "of:eu"));
    regions.set(1, "of:us");
    regions.until_there(0, "of:us");
    until_up(eu, NAMES[1]);

    let us = &mut regions.sidecars[1];
    assert!(us.stop().success());
    let config = std::fs::read_to_string(us.config()).expect("it is there");
    std::fs::write(us.config(), config.replace(WRONG, TOKEN)).expect("written");
    us.restart();
    regions.until_there(1, "of:eu");
    until_up(&regions.sidecars[1], NAMES[0]);
}

/// Text takes a part of its bytes on the way. Noise can't be compressed and takes a little
/// more than its own, so they are counted right.
#[test]
fn batches_are_compressed_on_the_way() {
    let regions = Regions::start([TOKEN; 2]);
    until_up(&regions.sidecars[1], NAMES[0]);
    let mut random = Random::new(1);
    let words = "one word after another, ".repeat(VALUE_BYTES);
    let about = |index: usize| format!("{index}: {words}").as_bytes()[..VALUE_BYTES].to_vec();
    let text: Vec<Vec<u8>> = (0..VALUES).map(about).collect();
    let noise: Vec<Vec<u8>> = (0..VALUES).map(|_| random.bytes(VALUE_BYTES)).collect();

    let (served, passed) = regions.send("text", &text);
    println!("{served} bytes of records with text took {passed}");
    assert!(SENT < served, "{served}");
    assert!(passed * 3 < SENT, "{passed} of {SENT}");

    let (served, passed) = regions.send("noise", &noise);
    println!("{served} bytes of records with noise took {passed}");
    assert!(SENT < served && SENT < passed, "{served}, {passed}");
}
