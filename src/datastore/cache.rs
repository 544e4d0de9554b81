//! The servers of a memcached namespace for this process's own commands, in the
//! words of the meta protocol, which memcached has since 1.6.
//!
//! Commands are pushed, each for the server of a zone that has its key, and
//! [`Cache::exchange`] sends them all and waits for all replies. A server that
//! fails fails the exchange: what was under way was done or not.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::OpenError;
use super::ring::RingOptions;
use super::ring::continuum::{Continuum, Name};
use crate::protocol::memcached::KEY_BYTES_MAX;
use connection::Connection;
pub use reply::{Reply, Said};

mod connection;
pub mod dump;
mod reply;

/// A server that was left out is tried this often.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Why there are no replies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CacheError(pub String);

/// What has to be so for a write to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It is done in any case.
    None,
    /// There is no such key.
    Absent,
    /// The key's cas number is this one.
    Unique(u64),
}

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The client's flags.
    pub flags: u32,
    /// Seconds as memcached takes them: 0 for never, -1 for at once, up to 30
    /// days from now, or since the Unix epoch.
    pub time: i64,
    /// The data.
    pub value: Bytes,
}

/// Connections to all servers, opened when they are needed.
pub struct Cache {
    zones: Vec<Zone>,
    eject_after: Option<Duration>,
    timeout: Duration,
    /// The server of each command that was pushed.
    pushed: Vec<(usize, usize)>,
}

struct Zone {
    nodes: Vec<Connection>,
    continuum: Continuum,
}

impl Cache {
    /// The servers of a namespace; a zone has one at least. Replies may take as
    /// long as `timeout`.
    pub fn new(options: RingOptions, timeout: Duration) -> Cache {
        let zones = options.zones.into_iter().map(|servers| {
            let names: Vec<Name> = servers.iter().map(|server| server.name.clone()).collect();
            let nodes = servers.into_iter().map(|one| Connection::new(one.options));
            Zone {
                nodes: nodes.collect(),
                continuum: Continuum::new(&names),
            }
        });
        Cache {
            zones: zones.collect(),
            eject_after: options.eject_after,
            timeout,
            pushed: Vec::new(),
        }
    }

    /// How many zones there are; the first is the own one.
    pub fn zones(&self) -> usize {
        self.zones.len()
    }

    /// The servers of the own zone.
    pub fn servers(&self) -> impl Iterator<Item = &super::Options> {
        let own = self.zones.first().into_iter();
        own.flat_map(|zone| zone.nodes.iter().map(Connection::options))
    }

    /// Asks for a key; `wanted` are the flags of `mg`, as in `v f t`.
    pub fn get(&mut self, zone: usize, key: &[u8], wanted: &str) {
        let out = self.server(zone, key);
        out.extend_from_slice(b"mg ");
        push_key(out, key);
        out.extend_from_slice(format!(" {wanted}\r\n").as_bytes());
    }

    /// Stores an item.
    pub fn set(&mut self, zone: usize, key: &[u8], item: &Item, condition: Condition) {
        let out = self.server(zone, key);
        let Item { flags, time, value } = item;
        let length = value.len();
        out.extend_from_slice(b"ms ");
        push_word_and_flag(out, key, &length.to_string());
        out.extend_from_slice(format!(" F{flags} T{time}").as_bytes());
        push_condition(out, condition);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }

    /// Deletes a key. That it is absent is no condition that can be had.
    pub fn delete(&mut self, zone: usize, key: &[u8], condition: Condition) {
        debug_assert!(condition != Condition::Absent);
        let out = self.server(zone, key);
        out.extend_from_slice(b"md ");
        push_key(out, key);
        push_condition(out, condition);
        out.extend_from_slice(b"\r\n");
    }

    /// Empties all servers of all zones.
    pub fn flush_all(&mut self) {
        for zone in 0..self.zones.len() {
            for node in 0..self.zones[zone].nodes.len() {
                self.pushed.push((zone, node));
                let out = &mut self.zones[zone].nodes[node].out;
                out.extend_from_slice(b"flush_all\r\n");
            }
        }
    }

    /// Sends what was pushed and waits for all replies, in the order of pushing.
    /// Not cancel safe. After an error all connections are opened anew.
    pub async fn exchange(&mut self) -> Result<Vec<Reply>, CacheError> {
        let pushed = std::mem::take(&mut self.pushed);
        let timeout = self.timeout;
        let replies = match tokio::time::timeout(timeout, self.exchange_all(&pushed)).await {
            Ok(replies) => replies,
            Err(_) => Err(CacheError(format!(
                "memcached did not answer within {} ms",
                timeout.as_millis()
            ))),
        };
        if replies.is_err() {
            let nodes = self.zones.iter_mut().flat_map(|zone| &mut zone.nodes);
            nodes.for_each(Connection::close);
        }
        replies
    }

    /// Looks whether servers are back that were left out for being away; does
    /// nothing where none is ever left out.
    pub async fn probe(&mut self) {
        if self.eject_after.is_none() {
            return;
        }
        for node in self.zones.iter_mut().flat_map(|zone| &mut zone.nodes) {
            if node.is_to_be_tried(PROBE_INTERVAL) {
                // Why it is away is told to who needs it.
                let _ = node.open().await;
            }
        }
    }

    async fn exchange_all(&mut self, pushed: &[(usize, usize)]) -> Result<Vec<Reply>, CacheError> {
        let describe = |error: OpenError| CacheError(error.to_string());
        let nodes = self.zones.iter_mut().flat_map(|zone| &mut zone.nodes);
        for node in nodes.filter(|node| !node.out.is_empty()) {
            node.open().await.map_err(describe)?;
            node.send().await?;
        }
        let mut replies = Vec::with_capacity(pushed.len());
        for (zone, node) in pushed {
            replies.push(self.zones[*zone].nodes[*node].receive().await?);
        }
        Ok(replies)
    }

    /// What goes to the server of a zone that has a key.
    fn server(&mut self, zone: usize, key: &[u8]) -> &mut Vec<u8> {
        debug_assert!(is_key(key));
        let Zone { nodes, continuum } = &mut self.zones[zone];
        let now = Instant::now();
        let is_out = |node: usize| match (self.eject_after, nodes[node].away_since) {
            (Some(after), Some(since)) => after <= now.duration_since(since),
            _ => false,
        };
        let node = match nodes.len() {
            1 => 0,
            _ => continuum.server(key, is_out),
        };
        self.pushed.push((zone, node));
        &mut nodes[node].out
    }
}

/// Whether a key can be named in the meta protocol: 1 to 250 bytes, and no more
/// either in base64, which one with spaces, line ends or zeros needs.
pub fn is_key(key: &[u8]) -> bool {
    let length = match needs_base64(key) {
        true => key.len().div_ceil(3) * 4,
        false => key.len(),
    };
    (1..=KEY_BYTES_MAX).contains(&length)
}

fn needs_base64(key: &[u8]) -> bool {
    key.iter()
        .any(|byte| matches!(byte, b' ' | b'\r' | b'\n' | 0))
}

fn push_key(out: &mut Vec<u8>, key: &[u8]) {
    push_word_and_flag(out, key, "");
}

/// The key, the word after it if there is one, and what says how it is written.
fn push_word_and_flag(out: &mut Vec<u8>, key: &[u8], word: &str) {
    let is_base64 = needs_base64(key);
    match is_base64 {
        true => out.extend_from_slice(STANDARD.encode(key).as_bytes()),
        false => out.extend_from_slice(key),
    }
    if !word.is_empty() {
        out.push(b' ');
        out.extend_from_slice(word.as_bytes());
    }
    if is_base64 {
        out.extend_from_slice(b" b");
    }
}

fn push_condition(out: &mut Vec<u8>, condition: Condition) {
    match condition {
        Condition::None => {}
        Condition::Absent => out.extend_from_slice(b" ME"),
        Condition::Unique(unique) => out.extend_from_slice(format!(" C{unique}").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_so_that_memcached_reads_them() {
        for (key, expected) in [
            (&b"plain"[..], "plain 5"),
            (b"a b", "YSBi 5 b"),
            (b"\0", "AA== 5 b"),
            (b"\xff\t", "\u{fffd}\t 5"),
        ] {
            let mut out = Vec::new();
            push_word_and_flag(&mut out, key, "5");
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
        assert!(is_key(&[b'x'; 250]) && !is_key(&[b'x'; 251]) && !is_key(b""));
        assert!(is_key(&[b' '; 186]) && !is_key(&[b' '; 189]));
    }
}
