//! The file `STATE` of a stream: who the journal is, how often it was opened,
//! and, where it was closed in order, where it ends. It is only ever replaced
//! whole, so it is never torn.
//!
//! 64 bytes, little-endian:
//! ```text
//!  0  magic "WALSTA" 0 1
//!  8  identity of the journal, u64
//! 16  epoch of the last open, u32
//! 20  1 where the journal was closed in order, else 0, u32
//! 24  number of the active segment, u64
//! 32  offset of the next record, u64
//! 40  where in the segment the next record goes, u64
//! 48  zeros
//! 60  checksum of the bytes before, u32
//! ```
//! Where the journal was not closed in order, the last three are those of its
//! last open: it can have moved on, never back.

use std::io;
use std::path::{Path, PathBuf};

use super::super::{Damage, Offset, OpenError};
use super::frame::{Seed, u32_at, u64_at};
use super::io_error;
use crate::platform::{Disk, read_full_at, write_all_at};

const STATE_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"WALSTA\x00\x01";

/// The file's name.
pub(super) const STATE_NAME: &str = "STATE";

/// The name it is written under before it takes the other's place.
pub(super) const NEW_STATE_NAME: &str = "STATE.new";

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) identity: u64,
    pub(super) epoch: u32,
    pub(super) closed: bool,
    pub(super) segment: u64,
    pub(super) next: Offset,
    pub(super) end: u64,
}

impl State {
    fn encode(&self) -> [u8; STATE_BYTES] {
        let mut bytes = [0; STATE_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.identity.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[20..24].copy_from_slice(&u32::from(self.closed).to_le_bytes());
        bytes[24..32].copy_from_slice(&self.segment.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.next.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.end.to_le_bytes());
        let checksum = Seed::of(self.identity).checksum(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; STATE_BYTES]) -> Option<State> {
        let state = State {
            identity: u64_at(bytes, 8),
            epoch: u32_at(bytes, 16),
            closed: u32_at(bytes, 20) == 1,
            segment: u64_at(bytes, 24),
            next: u64_at(bytes, 32),
            end: u64_at(bytes, 40),
        };
        (state.encode() == *bytes).then_some(state)
    }

    /// Reads the state of a stream; none where there is no file.
    pub(super) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<State>, OpenError> {
        let path = directory.join(STATE_NAME);
        let file = match disk.open_to_read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("open", &path, error)),
        };
        let mut bytes = [0; STATE_BYTES];
        let read = read_full_at(&*file, &mut bytes, 0);
        let read = read.map_err(|error| io_error("read", &path, error))?;
        let whole = read == STATE_BYTES && file.length().is_ok_and(|n| n == STATE_BYTES as u64);
        match State::decode(&bytes) {
            Some(state) if whole => Ok(Some(state)),
            _ => Err(OpenError::Damaged(damaged(path))),
        }
    }

    /// Replaces the state of a stream, durably.
    pub(super) fn write(&self, disk: &dyn Disk, directory: &Path) -> Result<(), OpenError> {
        let (new, path) = (directory.join(NEW_STATE_NAME), directory.join(STATE_NAME));
        match disk.remove(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &new, error));
            }
            _ => {}
        }
        let file = disk.create(&new);
        let file = file.map_err(|error| io_error("create", &new, error))?;
        write_all_at(&*file, &self.encode(), 0)
            .map_err(|error| io_error("write", &new, error.source))?;
        file.sync_all()
            .map_err(|error| io_error("sync", &new, error))?;
        disk.rename(&new, &path)
            .map_err(|error| io_error("rename", &new, error))?;
        disk.sync_directory(directory)
            .map_err(|error| io_error("sync", directory, error))
    }
}

fn damaged(file: PathBuf) -> Damage {
    let reason = "not a state file of a journal; without it, all of the newest segment is checked";
    Damage {
        file,
        byte: 0,
        reason: reason.to_owned(),
    }
}
