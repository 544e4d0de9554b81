//! What the command line asks of the leader, in files beside its checkpoints and
//! of their form: `NAME.asked` has a request, `NAME.tell` keys in hexadecimal
//! digits. The latter is removed by who takes them.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;

use super::super::{DatabaseKey, Desk, TargetError};
use super::checkpoints::{self, Checkpoints};
use super::{Memcached, OWN_ZONE, file_error};
use crate::platform::Platform;
use crate::replication::request::PROGRESS;

const REQUEST: &str = "request";
const KEY: &str = "key";

impl Checkpoints {
    fn asked_file(&self) -> PathBuf {
        self.path.with_extension("asked")
    }

    fn keys_file(&self) -> PathBuf {
        self.path.with_extension("tell")
    }

    pub(super) fn request(&self) -> io::Result<Option<String>> {
        let found = checkpoints::read(&*Platform::system().disk, &self.asked_file())?;
        Ok(found.into_iter().next().map(|(_, request)| request))
    }

    pub(super) fn take_keys(&self) -> io::Result<Vec<DatabaseKey>> {
        let disk = &*Platform::system().disk;
        let found = checkpoints::read(disk, &self.keys_file())?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        disk.remove(&self.keys_file())?;
        let keys = found.iter().filter_map(|(_, digits)| from_hex(digits));
        Ok(keys.map(|key| (0, key)).collect())
    }
}

fn to_hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(digits: &str) -> Option<Bytes> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.map(byte).collect();
    bytes.map(Bytes::from)
}

impl Desk for Memcached {
    async fn is_led(&mut self) -> Result<bool, TargetError> {
        let lease = self.lease.clone();
        self.cache.get(OWN_ZONE, &lease, "v");
        Ok(self.exchange_one().await?.value.is_some())
    }

    async fn ask(&mut self, request: &str) -> Result<(), TargetError> {
        let pairs = [(REQUEST.to_owned(), request.to_owned())];
        let (disk, file) = (Platform::system().disk, self.checkpoints.asked_file());
        checkpoints::write(&*disk, &file, &pairs).map_err(file_error)
    }

    async fn progress(&mut self) -> Result<Option<String>, TargetError> {
        let disk = &*Platform::system().disk;
        let found = checkpoints::read(disk, &self.checkpoints.path).map_err(file_error)?;
        let mut found = found.into_iter();
        Ok(found.find_map(|(name, text)| (name == PROGRESS).then_some(text)))
    }

    async fn ask_for_keys(&mut self, keys: &[DatabaseKey]) -> Result<(), TargetError> {
        let pairs: Vec<(String, String)> = keys
            .iter()
            .map(|(_, key)| (KEY.to_owned(), to_hex(key)))
            .collect();
        let (disk, file) = (Platform::system().disk, self.checkpoints.keys_file());
        checkpoints::write(&*disk, &file, &pairs).map_err(file_error)
    }

    async fn has_keys_left(&mut self) -> Result<bool, TargetError> {
        let disk = &*Platform::system().disk;
        let left = checkpoints::read(disk, &self.checkpoints.keys_file());
        left.map(|left| !left.is_empty()).map_err(file_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_and_read() {
        for key in [&b"a:b"[..], b"\t\n\0\xff", b""] {
            assert_eq!(from_hex(&to_hex(key)).as_deref(), Some(key));
        }
        assert_eq!(from_hex("zz"), None);
    }
}
