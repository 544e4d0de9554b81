//! The keys of all databases, page by page.
//!
//! A place is `run database cursor`. Cursors are of one run of the server: another
//! run hashes keys otherwise, so its cursors would lead past some. In another run
//! the database begins again.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::{Page, TargetError};
use super::{Redis, SCAN_COUNT};
use crate::datastore::client::{elements, text};

/// Where SCAN begins, and where it says that it is at the end.
const BEGIN: &str = "0";

impl Redis {
    /// The databases that have keys, and how many.
    pub(super) async fn databases(&mut self) -> Result<BTreeMap<u32, u64>, TargetError> {
        let info = self.info(b"keyspace").await?;
        Ok(info.lines().filter_map(database_of).collect())
    }

    async fn info(&mut self, section: &[u8]) -> Result<String, TargetError> {
        self.client().await?.push(&[b"INFO", section]);
        let replies = self.exchange().await?;
        let info = text(&replies[0]).ok_or_else(|| self.unexpected(&replies[0]))?;
        Ok(String::from_utf8_lossy(&info).into_owned())
    }

    pub(super) async fn scan_from(&mut self, place: &str) -> Result<Page, TargetError> {
        let server = self.info(b"server").await?;
        let run = server.lines().find_map(|line| line.strip_prefix("run_id:"));
        let run = run.unwrap_or_default().trim();
        let databases = self.databases().await?;
        let first = || databases.keys().next().map(|first| (*first, BEGIN));
        let (database, cursor) = match parse(place) {
            Some((known, database, cursor)) if known == run => (database, cursor),
            Some((_, database, _)) => (database, BEGIN),
            None => match first() {
                Some(first) => first,
                None => {
                    let keys = Vec::new();
                    return Ok(Page { next: None, keys });
                }
            },
        };
        let (number, cursor) = (database.to_string(), cursor.to_owned());
        let client = self.client().await?;
        client.push(&[b"SELECT", number.as_bytes()]);
        client.push(&[b"SCAN", cursor.as_bytes(), b"COUNT", SCAN_COUNT]);
        client.push(&[b"SELECT", b"0"]);
        let replies = self.exchange().await?;
        let found = elements(&replies[1]).unwrap_or_default();
        let [next, keys] = &found[..] else {
            return Err(self.unexpected(&replies[1]));
        };
        let next = text(next).unwrap_or_default();
        let next = match String::from_utf8_lossy(&next) {
            end if end == BEGIN => {
                let others = databases.range(database + 1..);
                let next = others.map(|(database, _)| *database).next();
                next.map(|database| format!("{run} {database} {BEGIN}"))
            }
            cursor => Some(format!("{run} {database} {cursor}")),
        };
        let keys: Vec<Bytes> = elements(keys).unwrap_or_default();
        let keys = keys.iter().filter_map(text).map(|key| (database, key));
        Ok(Page {
            next,
            keys: keys.collect(),
        })
    }
}

fn parse(place: &str) -> Option<(&str, u32, &str)> {
    let mut words = place.split(' ');
    let (run, database, cursor) = (words.next()?, words.next()?, words.next()?);
    Some((run, database.parse().ok()?, cursor))
}

/// Of a line such as `db3:keys=17,expires=2,avg_ttl=0`: 3 and 17.
fn database_of(line: &str) -> Option<(u32, u64)> {
    let (database, counts) = line.strip_prefix("db")?.split_once(':')?;
    let keys = counts.split(',').find_map(|one| one.strip_prefix("keys="));
    Some((database.parse().ok()?, keys?.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_places_are_taken_apart() {
        let line = "db3:keys=17,expires=2,avg_ttl=0";
        assert_eq!(database_of(line), Some((3, 17)));
        for line in ["# Keyspace", "", "db", "dbx:keys=1", "db0:expires=1"] {
            assert_eq!(database_of(line), None, "{line}");
        }
        assert_eq!(parse("ab12 3 1024"), Some(("ab12", 3, "1024")));
        for place in ["", "ab12", "ab12 x 0", "ab12 3"] {
            assert_eq!(parse(place), None, "{place}");
        }
    }
}
