//! Commands that only read.

use bytes::Bytes;

use super::super::{DatabaseKey, TargetError};
use super::{Redis, push_in_databases};
use crate::datastore::client::text;

impl Redis {
    /// Sends commands, each for a database, and waits for their replies.
    pub(in crate::replication) async fn ask_all(
        &mut self,
        commands: &[(u32, Vec<Bytes>)],
    ) -> Result<Vec<Bytes>, TargetError> {
        let client = self.client().await?;
        let all = commands.iter();
        let places =
            push_in_databases(client, all.map(|(database, words)| (*database, &words[..])));
        let replies = self.exchange().await?;
        Ok(places.iter().map(|place| replies[*place].clone()).collect())
    }

    /// Which of the keys exist.
    pub(in crate::replication) async fn exist(
        &mut self,
        keys: &[DatabaseKey],
    ) -> Result<Vec<bool>, TargetError> {
        let exists = Bytes::from_static(b"EXISTS");
        let commands: Vec<_> = keys
            .iter()
            .map(|(database, key)| (*database, vec![exists.clone(), key.clone()]))
            .collect();
        let replies = self.ask_all(&commands).await?;
        let mut exist = Vec::with_capacity(replies.len());
        for reply in replies {
            match text(&reply) {
                Some(count) => exist.push(count != "0"),
                None => return Err(self.unexpected(&reply)),
            }
        }
        Ok(exist)
    }
}
