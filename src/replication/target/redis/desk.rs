//! What the command line asks of the leader: a text, and a list of keys, each
//! after its database and a colon.

use bytes::Bytes;

use super::super::{DatabaseKey, Desk, TargetError};
use super::Redis;
use crate::datastore::client::{elements, error, text};
use crate::replication::request::PROGRESS;

/// Keys that one command adds.
const KEYS_AT_ONCE: usize = 512;

impl Redis {
    async fn one(&mut self, arguments: &[&[u8]]) -> Result<Bytes, TargetError> {
        self.client().await?.push(arguments);
        let reply = self.exchange().await?.swap_remove(0);
        match error(&reply) {
            Some(_) => Err(self.unexpected(&reply)),
            None => Ok(reply),
        }
    }

    pub(super) async fn request(&mut self) -> Result<Option<String>, TargetError> {
        let asked = self.asked.clone();
        let found = text(&self.one(&[b"GET", &asked]).await?);
        Ok(found.map(|found| String::from_utf8_lossy(&found).into_owned()))
    }

    pub(super) async fn pop_keys(&mut self, count: usize) -> Result<Vec<DatabaseKey>, TargetError> {
        let (list, count) = (self.to_tell.clone(), count.to_string());
        let reply = self.one(&[b"LPOP", &list, count.as_bytes()]).await?;
        let found = elements(&reply).unwrap_or_default();
        let found = found.iter().filter_map(text);
        Ok(found.filter_map(|entry| parse(&entry)).collect())
    }
}

fn parse(entry: &Bytes) -> Option<DatabaseKey> {
    let colon = memchr::memchr(b':', entry)?;
    let database = std::str::from_utf8(&entry[..colon]).ok()?.parse().ok()?;
    Some((database, entry.slice(colon + 1..)))
}

impl Desk for Redis {
    async fn is_led(&mut self) -> Result<bool, TargetError> {
        let lease = self.lease.clone();
        Ok(text(&self.one(&[b"GET", &lease]).await?).is_some())
    }

    async fn ask(&mut self, request: &str) -> Result<(), TargetError> {
        let asked = self.asked.clone();
        self.one(&[b"SET", &asked, request.as_bytes()]).await?;
        Ok(())
    }

    async fn progress(&mut self) -> Result<Option<String>, TargetError> {
        let hash = self.checkpoints.clone();
        let found = text(&self.one(&[b"HGET", &hash, PROGRESS.as_bytes()]).await?);
        Ok(found.map(|found| String::from_utf8_lossy(&found).into_owned()))
    }

    async fn ask_for_keys(&mut self, keys: &[DatabaseKey]) -> Result<(), TargetError> {
        for part in keys.chunks(KEYS_AT_ONCE) {
            let entry =
                |(database, key): &DatabaseKey| [format!("{database}:").as_bytes(), key].concat();
            let entries: Vec<Vec<u8>> = part.iter().map(entry).collect();
            let list = self.to_tell.clone();
            let mut push: Vec<&[u8]> = vec![b"RPUSH", &list];
            push.extend(entries.iter().map(|entry| &entry[..]));
            self.one(&push).await?;
        }
        Ok(())
    }

    async fn has_keys_left(&mut self) -> Result<bool, TargetError> {
        let list = self.to_tell.clone();
        let length = text(&self.one(&[b"LLEN", &list]).await?);
        Ok(length.is_some_and(|length| length != "0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_may_have_colons() {
        let entry = Bytes::from("3:a:b");
        assert_eq!(parse(&entry), Some((3, Bytes::from("a:b"))));
        assert_eq!(parse(&Bytes::from("a:b")), None);
        assert_eq!(parse(&Bytes::from("3")), None);
    }
}
