//! The keys of all servers of the own zone, which memcached lists all at once:
//! `lru_crawler metadump hash`, of each server in turn.
//!
//! Who reads that listing slowly gets parts of it twice and keeps the server's
//! hash table from growing, so it is read as fast as it comes. So that it need not
//! be kept as a whole, it is asked for several times where there are many keys,
//! and each time those are kept whose hash falls into one part.
//!
//! A place is `server part parts`; what has not been taken of a part is known to
//! this process only, so another one begins the part again.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use xxhash_rust::xxh3::xxh3_64;

use super::super::{Page, TargetError};
use super::{Memcached, TIMEOUT};
use crate::datastore::Options;
use crate::datastore::cache::dump;

/// Keys of a part, about.
const PART_KEYS: u64 = 250_000;

/// Keys of a page.
const PAGE_KEYS: usize = 1000;

/// How long a page waits for keys that are being looked for.
const WAIT: Duration = Duration::from_millis(5);

/// A part that is listed.
pub(super) struct Dumping {
    place: Place,
    found: Found,
}

enum Found {
    NotYet(JoinHandle<Result<Vec<Bytes>, TargetError>>),
    Keys(Vec<Bytes>),
}

impl Drop for Dumping {
    fn drop(&mut self) {
        if let Found::NotYet(task) = &self.found {
            task.abort();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    server: usize,
    part: u64,
    /// None before it is known how many keys there are.
    parts: Option<u64>,
}

impl Place {
    fn parse(text: &str) -> Option<Place> {
        let mut words = text.split(' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let (server, part, parts) = (number()?, number()?, number()?);
        Some(Place {
            server: usize::try_from(server).ok()?,
            part,
            parts: Some(parts).filter(|parts| part < *parts),
        })
    }

    fn format(self) -> String {
        let Place {
            server,
            part,
            parts,
        } = self;
        format!("{server} {part} {}", parts.unwrap_or(0))
    }

    fn first(server: usize) -> Place {
        Place {
            server,
            part: 0,
            parts: None,
        }
    }

    /// The next one of so many servers.
    fn next(self, servers: usize) -> Option<Place> {
        let part = self.part + 1;
        match self.parts {
            Some(parts) if part < parts => Some(Place { part, ..self }),
            _ => Some(self.server + 1)
                .filter(|server| *server < servers)
                .map(Place::first),
        }
    }
}

/// How many keys a server has.
pub(super) async fn items(server: &Options) -> Result<u64, TargetError> {
    let found = dump::items(server, TIMEOUT).await;
    found.map_err(|error| TargetError::Away(error.to_string()))
}

async fn list(server: Options, place: Place) -> Result<Vec<Bytes>, TargetError> {
    let parts = place.parts.unwrap_or(1);
    let is_wanted = |key: &[u8]| xxh3_64(key) % parts == place.part;
    let found = dump::keys(&server, TIMEOUT, is_wanted).await;
    // Busy, not away: nothing that was under way depends on it.
    found.map_err(|error| TargetError::Busy(error.to_string()))
}

impl Memcached {
    pub(super) async fn scan_from(&mut self, place: &str) -> Result<Page, TargetError> {
        let mut place = Place::parse(place).unwrap_or(Place::first(0));
        let servers = self.cache.servers().count();
        let Some(server) = self.cache.servers().nth(place.server).cloned() else {
            let keys = Vec::new();
            return Ok(Page { next: None, keys });
        };
        if place.parts.is_none() {
            let parts = items(&server).await? / PART_KEYS + 1;
            place = Place {
                part: 0,
                parts: Some(parts),
                ..place
            };
        }
        let mut dumping = match self.dumping.take() {
            Some(known) if known.place == place => known,
            _ => Dumping {
                place,
                found: Found::NotYet(tokio::task::spawn_local(list(server, place))),
            },
        };
        if let Found::NotYet(task) = &mut dumping.found {
            match tokio::time::timeout(WAIT, task).await {
                Err(_) => {}
                Ok(Ok(found)) => dumping.found = Found::Keys(found?),
                Ok(Err(error)) => return Err(TargetError::Busy(error.to_string())),
            }
        }
        let mut page = Page {
            next: Some(place.format()),
            keys: Vec::new(),
        };
        if let Found::Keys(keys) = &mut dumping.found {
            let rest = keys.len().saturating_sub(PAGE_KEYS);
            page.keys = keys.drain(rest..).map(|key| (0, key)).collect();
            if keys.is_empty() {
                page.next = place.next(servers).map(Place::format);
                return Ok(page);
            }
        }
        self.dumping = Some(dumping);
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lead_through_all_parts_of_all_servers() {
        let mut place = Place::first(0);
        let mut seen = Vec::new();
        for parts in [2, 2, 1] {
            place.parts = Some(parts);
            seen.push(place.format());
            let Some(next) = place.next(2) else { break };
            place = Place::parse(&next.format()).expect("as it was written");
            assert_eq!(place, next);
        }
        assert_eq!(seen, ["0 0 2", "0 1 2", "1 0 1"]);
        assert_eq!(place.next(2), None);
        assert_eq!(Place::parse("elsewhere"), None);
    }
}
