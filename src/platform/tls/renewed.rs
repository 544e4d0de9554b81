//! What is read from files that are replaced while the process runs, as
//! certificates are before they expire.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::TlsError;

type Read<T> = dyn Fn(&[PathBuf]) -> Result<T, TlsError> + Send + Sync;

/// A value, and the files it is made of.
pub(super) struct Renewed<T> {
    files: Vec<PathBuf>,
    read: Box<Read<T>>,
    /// With when the files were changed last before it was read; None before that.
    current: Mutex<Option<(Vec<Option<SystemTime>>, T)>>,
}

impl<T: Clone> Renewed<T> {
    /// Reads it when it is needed.
    pub(super) fn new(
        files: Vec<PathBuf>,
        read: impl Fn(&[PathBuf]) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Renewed<T> {
        Renewed {
            files,
            read: Box::new(read),
            current: Mutex::new(None),
        }
    }

    /// Reads it for the first time.
    pub(super) fn read(
        files: Vec<PathBuf>,
        read: impl Fn(&[PathBuf]) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Renewed<T>, TlsError> {
        let renewed = Renewed::new(files, read);
        renewed.get().map(|_| renewed)
    }

    /// The value of what is in the files now. While that can't be used (one of
    /// two files is replaced, say) it is the value before, where there was one.
    pub(super) fn get(&self) -> Result<T, TlsError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = changed(&self.files);
        if let Some((since, value)) = &*current
            && *since == changed
        {
            return Ok(value.clone());
        }
        match ((self.read)(&self.files), &*current) {
            (Ok(value), _) => {
                *current = Some((changed, value.clone()));
                Ok(value)
            }
            (Err(error), Some((_, value))) => {
                tracing::warn!(%error, "could not read what was renewed; going on with what was read before");
                Ok(value.clone())
            }
            (Err(error), None) => Err(error),
        }
    }
}

/// None of a file that is not there.
fn changed(files: &[PathBuf]) -> Vec<Option<SystemTime>> {
    let times = files.iter();
    times
        .map(|file| {
            std::fs::metadata(file)
                .and_then(|found| found.modified())
                .ok()
        })
        .collect()
}

impl<T> fmt::Debug for Renewed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_replaced_is_read_again_unless_it_can_not_be_used() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let read = |files: &[PathBuf]| {
            let text = std::fs::read_to_string(&files[0]).unwrap_or_default();
            match text.as_str() {
                "" => Err(TlsError::Name("nothing".to_owned())),
                _ => Ok(text),
            }
        };
        let write = |text: &str, age: u64| {
            std::fs::write(&file, text).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(age);
            std::fs::File::open(&file)
                .unwrap()
                .set_modified(time)
                .unwrap();
        };
        assert!(Renewed::read(vec![file.clone()], read).is_err());
        write("one", 1);
        let renewed = Renewed::read(vec![file.clone()], read).unwrap();
        assert_eq!(renewed.get().unwrap(), "one");
        write("two", 2);
        assert_eq!(renewed.get().unwrap(), "two");
        write("", 3);
        assert_eq!(renewed.get().unwrap(), "two");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(renewed.get().unwrap(), "two");
        write("three", 4);
        assert_eq!(renewed.get().unwrap(), "three");
    }
}
