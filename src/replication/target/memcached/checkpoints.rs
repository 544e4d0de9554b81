//! Checkpoints in a file: memcached may drop what it is given to keep.
//!
//! A line of what the file is, then for each checkpoint `name TAB value`. It is
//! written anew beside the old one and takes its place when it is durable. It
//! may be older than what was applied, as all of that can be applied again.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::platform::{Disk, Platform, read_full_at, write_all_at};

const FIRST_LINE: &str = "wal-sidecar checkpoints 1";

/// Writes are at least so far apart, but for those that are asked for.
const INTERVAL: Duration = Duration::from_secs(1);

/// More than checkpoints of any number of sources have.
const BYTES_MAX: u64 = 64 << 20;

/// The checkpoints of a namespace.
pub(super) struct Checkpoints {
    pub(super) path: PathBuf,
    /// None before it was read.
    known: Option<Vec<(String, String)>>,
    is_written: bool,
    written_at: Option<Instant>,
}

impl Checkpoints {
    /// Those in a file, which need not exist.
    pub(super) fn new(path: PathBuf) -> Checkpoints {
        Checkpoints {
            path,
            known: None,
            is_written: true,
            written_at: None,
        }
    }

    /// All of them.
    pub(super) fn load(&mut self) -> io::Result<&Vec<(String, String)>> {
        let known = match self.known.take() {
            Some(known) => known,
            None => read(&*Platform::system().disk, &self.path)?,
        };
        Ok(self.known.insert(known))
    }

    /// Takes up newer ones, and writes them if it is time to or `now`.
    pub(super) fn advance(&mut self, newer: &[(String, String)], now: bool) -> io::Result<()> {
        self.load()?;
        let known = self.known.get_or_insert_default();
        for (name, value) in newer {
            self.is_written = false;
            match known.iter_mut().find(|(other, _)| other == name) {
                Some((_, old)) => old.clone_from(value),
                None => known.push((name.clone(), value.clone())),
            }
        }
        let is_due = |at: Instant| INTERVAL <= at.elapsed();
        match now || self.written_at.is_none_or(is_due) {
            true => self.write(),
            false => Ok(()),
        }
    }

    /// Writes what is not in the file.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if self.is_written {
            return Ok(());
        }
        let known = self.known.as_deref().unwrap_or_default();
        write(&*Platform::system().disk, &self.path, known)?;
        self.is_written = true;
        self.written_at = Some(Instant::now());
        Ok(())
    }
}

pub(super) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<(String, String)>> {
    let file = match disk.open_to_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.length()?.min(BYTES_MAX);
    let mut bytes = vec![0; length as usize];
    let read = read_full_at(&*file, &mut bytes, 0)?;
    let text = String::from_utf8_lossy(&bytes[..read]);
    match parse(&text) {
        Some(checkpoints) => Ok(checkpoints),
        None => {
            tracing::warn!(
                file = %path.display(),
                "no checkpoints in the file; what was applied is applied again"
            );
            Ok(Vec::new())
        }
    }
}

fn parse(text: &str) -> Option<Vec<(String, String)>> {
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return None;
    }
    let pair = |line: &str| {
        let (name, value) = line.split_once('\t')?;
        Some((name.to_owned(), value.to_owned()))
    };
    lines.map(pair).collect()
}

pub(super) fn write(
    disk: &dyn Disk,
    path: &Path,
    checkpoints: &[(String, String)],
) -> io::Result<()> {
    let mut text = format!("{FIRST_LINE}\n");
    for (name, value) in checkpoints {
        text.push_str(&format!("{name}\t{value}\n"));
    }
    let directory = path.parent().unwrap_or(Path::new("."));
    disk.create_directories(directory)?;
    let new = path.with_extension("new");
    match disk.remove(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(&new)?;
    write_all_at(&*file, text.as_bytes(), 0).map_err(|error| error.source)?;
    file.sync_all()?;
    disk.rename(&new, path)?;
    disk.sync_directory(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_written_is_read_and_seldom_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("below").join("test");
        let load = || Checkpoints::new(path.clone()).load().expect("read").clone();
        assert_eq!(load(), []);
        let mut checkpoints = Checkpoints::new(path.clone());
        let advance = |checkpoints: &mut Checkpoints, value, now| {
            let newer = [pair("eu/0", value)];
            checkpoints.advance(&newer, now).expect("written");
        };
        advance(&mut checkpoints, "1 1 1 ", false);
        assert_eq!(load(), [pair("eu/0", "1 1 1 ")]);
        advance(&mut checkpoints, "2 2 2 ", false);
        assert_eq!(load(), [pair("eu/0", "1 1 1 ")]);
        assert_eq!(checkpoints.load().expect("known")[0].1, "2 2 2 ");
        advance(&mut checkpoints, "3 3 3 ", true);
        assert_eq!(load(), [pair("eu/0", "3 3 3 ")]);
        tokio::time::advance(INTERVAL).await;
        advance(&mut checkpoints, "4 4 4 ", false);
        assert_eq!(load(), [pair("eu/0", "4 4 4 ")]);
        std::fs::write(&path, "something else").expect("written");
        assert_eq!(load(), []);
    }
}
