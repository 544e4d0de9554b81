//! Which keys a server has, on a connection of its own.
//!
//! `lru_crawler metadump hash` answers with a line for each key that ends with a
//! line feed alone, `key=NAME exp=.. la=.. ..` with the name URI-encoded, and then
//! `END`; with `BUSY ..` while the server crawls for something else, itself
//! perhaps. A reader that does not keep up gets a part of a line again: the name is
//! what follows the last `key=` of a line, as no encoded name has a `=`.
//! (memcached 1.6, `crawler.c`.)

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use super::CacheError;
use crate::datastore::handshake;
use crate::datastore::{LinkKey, Options, Wire};
use crate::platform::stream::Stream;

/// What one read asks for.
const READ_BYTES: usize = 256 * 1024;

/// A line has a key of 250 bytes, three times as long when encoded, and numbers.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// A server that is busy is asked again after so long, and so often.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
const BUSY_MAX: usize = 100;

/// How many keys a server has, about. Each reply has to come within `timeout`.
pub async fn items(server: &Options, timeout: Duration) -> Result<u64, CacheError> {
    let mut items = None;
    let mut connection = Connection::open(server, timeout).await?;
    connection.send(b"stats\r\n").await?;
    loop {
        let line = connection.line().await?;
        if &line[..] == b"END" {
            return items.ok_or_else(|| CacheError("memcached does not count its items".into()));
        }
        let number = line.strip_prefix(b"STAT curr_items ");
        if let Some(text) = number.and_then(|number| std::str::from_utf8(number).ok()) {
            items = text.parse().ok();
        } else if !line.starts_with(b"STAT ") {
            return Err(unexpected(&line));
        }
    }
}

/// The keys of a server that are wanted.
pub async fn keys(
    server: &Options,
    timeout: Duration,
    is_wanted: impl Fn(&[u8]) -> bool,
) -> Result<Vec<Bytes>, CacheError> {
    let mut connection = Connection::open(server, timeout).await?;
    let mut keys = Vec::new();
    for _ in 0..BUSY_MAX {
        connection.send(b"lru_crawler metadump hash\r\n").await?;
        loop {
            let line = connection.line().await?;
            if let Some(key) = key_of(&line) {
                if is_wanted(&key) {
                    keys.push(key);
                }
            } else if &line[..] == b"END" {
                return Ok(keys);
            } else if line.starts_with(b"BUSY") {
                break;
            } else {
                return Err(unexpected(&line));
            }
        }
        tokio::time::sleep(BUSY_PAUSE).await;
    }
    Err(CacheError(
        "memcached is busy crawling and lists no keys".into(),
    ))
}

fn unexpected(line: &[u8]) -> CacheError {
    let said = String::from_utf8_lossy(line);
    CacheError(format!("memcached does not list its keys, it says {said}"))
}

fn key_of(line: &[u8]) -> Option<Bytes> {
    line.strip_prefix(b"key=")?;
    let start = memchr::memmem::rfind(line, b"key=")? + b"key=".len();
    let name = line[start..].split(|byte| *byte == b' ').next()?;
    let mut key = Vec::with_capacity(name.len());
    let mut rest = name.iter();
    while let Some(byte) = rest.next() {
        key.push(match byte {
            b'%' => {
                let digits = [*rest.next()?, *rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => *byte,
        });
    }
    Some(Bytes::from(key))
}

struct Connection {
    stream: Stream,
    input: BytesMut,
    timeout: Duration,
}

impl Connection {
    async fn open(server: &Options, timeout: Duration) -> Result<Connection, CacheError> {
        let key = LinkKey {
            wire: Wire::MemcachedText,
            database: 0,
            identity: server.identity.clone(),
        };
        let opened = handshake::open(server, &key, b"").await;
        Ok(Connection {
            stream: opened
                .map_err(|error| CacheError(error.to_string()))?
                .stream,
            input: BytesMut::new(),
            timeout,
        })
    }

    async fn send(&mut self, command: &[u8]) -> Result<(), CacheError> {
        self.stream.write_all(command).await.map_err(failed)
    }

    /// The next line, without its end.
    async fn line(&mut self) -> Result<Bytes, CacheError> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.input) {
                let mut line = self.input.split_to(end).freeze();
                self.input.advance(1);
                if line.ends_with(b"\r") {
                    line.truncate(end - 1);
                }
                return Ok(line);
            }
            if LINE_BYTES_MAX < self.input.len() {
                return Err(CacheError("memcached's reply: a line has no end".into()));
            }
            self.input.reserve(READ_BYTES);
            let read = tokio::time::timeout(self.timeout, self.stream.read(&mut self.input)).await;
            match read {
                Ok(Ok(0)) => return Err(CacheError("memcached closed the connection".into())),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(failed(error)),
                Err(_) => {
                    let text = "memcached did not list its keys in time".to_owned();
                    return Err(CacheError(text));
                }
            }
        }
    }
}

fn failed(error: std::io::Error) -> CacheError {
    CacheError(format!("memcached connection: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_keys() {
        for (line, expected) in [
            ("key=plain exp=-1 la=17 cas=2", Some(&b"plain"[..])),
            ("key=a%20b%00%ff%3D exp=9", Some(b"a b\0\xff=")),
            ("key=par key=k exp=9", Some(b"k")),
            ("key=parkey=k exp=9", Some(b"k")),
            ("key=bad%2", None),
            ("END", None),
            ("BUSY key=", None),
        ] {
            assert_eq!(key_of(line.as_bytes()).as_deref(), expected, "{line}");
        }
    }
}
