//! The file `SHIPPED` beside the segments: up to which offset records were
//! acknowledged by Kafka. It is only ever replaced whole. Where it lags behind,
//! records are shipped again, which whoever reads the topic drops.
//!
//! 32 bytes, little-endian: magic "WALSHIP" 1, the identity of the local
//! journal (u64), the first offset that is not shipped (u64), zeros (u32), the
//! checksum of the bytes before (u32).

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::super::{Cursor, LocalJournal, Offset, OpenError};

const NAME: &str = "SHIPPED";
const NEW_NAME: &str = "SHIPPED.new";
const MAGIC: &[u8; 8] = b"WALSHIP\x01";
const BYTES: usize = 32;

/// How often it is written while records are shipped.
const INTERVAL: Duration = Duration::from_secs(1);

/// How far the files are shipped, held against their retention.
pub(super) struct Shipped {
    directory: PathBuf,
    identity: u64,
    cursor: Cursor,
    /// When the file was written, and what it says.
    written: Mutex<(Instant, Offset)>,
}

impl Shipped {
    /// Reads where it was left off. A file that belongs to other segments, or
    /// is damaged, means that nothing was shipped.
    pub(super) fn open(directory: &Path, local: &LocalJournal) -> Result<Shipped, OpenError> {
        let path = directory.join(NAME);
        let identity = local.identity();
        let found = match std::fs::read(&path) {
            Ok(bytes) => decode(&bytes, identity),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => {
                return Err(OpenError::Io {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        let first = local.first_offset();
        let end = local.durable_through().map_or(0, |last| last + 1);
        let next = match found {
            Some(next) if first <= next && next <= end => next,
            Some(next) if next < first => {
                // A hard cap on the files' size removed what was not shipped.
                tracing::error!(
                    records = first - next,
                    "records were removed from the spool before they were shipped"
                );
                first
            }
            _ => first,
        };
        Ok(Shipped {
            directory: directory.to_owned(),
            identity,
            cursor: local.register_reader("shipper", next),
            written: Mutex::new((Instant::now(), next)),
        })
    }

    /// The first offset that is not shipped.
    pub(super) fn next(&self) -> Offset {
        self.cursor.position().needed
    }

    /// All before `next` are shipped.
    pub(super) fn advance(&self, next: Offset) {
        self.cursor.advance(next);
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = INTERVAL <= written.0.elapsed();
        drop(written);
        if is_due {
            self.write();
        }
    }

    /// Writes the file, if it says something else. An error costs no more than
    /// copies in the topic, and is logged.
    pub(super) fn write(&self) {
        let next = self.next();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.1 == next {
            return;
        }
        match self.replace(next) {
            Ok(()) => *written = (Instant::now(), next),
            Err(error) => {
                written.0 = Instant::now();
                tracing::warn!(%error, "could not note how far the spool is shipped");
            }
        }
    }

    fn replace(&self, next: Offset) -> std::io::Result<()> {
        let new = self.directory.join(NEW_NAME);
        let mut file = File::create(&new)?;
        file.write_all(&encode(self.identity, next))?;
        file.sync_all()?;
        std::fs::rename(&new, self.directory.join(NAME))?;
        File::open(&self.directory)?.sync_all()
    }
}

fn encode(identity: u64, next: Offset) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&identity.to_le_bytes());
    bytes[16..24].copy_from_slice(&next.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8], identity: u64) -> Option<Offset> {
    let next = bytes.get(16..24)?.try_into().ok()?;
    let next = u64::from_le_bytes(next);
    (bytes == encode(identity, next)).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_for_these_segments_counts() {
        let bytes = encode(7, 1000);
        assert_eq!(decode(&bytes, 7), Some(1000));
        assert_eq!(decode(&bytes, 8), None);
        for length in 0..BYTES {
            assert_eq!(decode(&bytes[..length], 7), None);
        }
        for byte in 0..BYTES {
            let mut damaged = bytes;
            damaged[byte] ^= 1;
            assert_eq!(decode(&damaged, 7), None);
        }
    }
}
