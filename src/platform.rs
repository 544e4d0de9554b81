//! What the machine gives the program: a disk, a clock and chance, behind
//! traits where tests need control. [`Platform::system`] is the real thing,
//! [`simulated`] a disk that loses power, fills up and fails on demand.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::FallocateFlags;

pub mod simulated;
pub mod stream;
pub mod tls;

/// Zeros are written in pieces of this size where a file system can't reserve
/// space.
const ZEROS_BYTES: usize = 1 << 20;

/// The three things a module may need of the machine.
#[derive(Clone, Debug)]
pub struct Platform {
    /// Files and directories.
    pub disk: Arc<dyn Disk>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Numbers nobody can guess.
    pub random: Arc<dyn Random>,
}

impl Platform {
    /// The machine the program runs on.
    pub fn system() -> Platform {
        Platform {
            disk: Arc::new(SystemDisk),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
        }
    }
}

/// Wall time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Milliseconds since the Unix epoch. May go backwards.
    fn now_ms(&self) -> u64;
}

/// Chance.
pub trait Random: fmt::Debug + Send + Sync {
    /// A number that can't be guessed from outside the process.
    fn next_u64(&self) -> u64;
}

/// Files in directories, named by path.
///
/// # Invariants
/// A file or name that was created, renamed or removed survives a power cut
/// only once `sync_directory` of its directory returned.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Creates a directory and its parents; fine where it exists.
    fn create_directories(&self, directory: &Path) -> io::Result<()>;
    /// The names of the files in a directory, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Creates a file for reading and writing; `AlreadyExists` where there is one.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading alone.
    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, in place of the file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
    /// Takes the exclusive lock that the file at `path` stands for, creating
    /// the file; never waits.
    fn lock(&self, path: &Path) -> io::Result<Locking>;
}

/// What came of [`Disk::lock`].
#[derive(Debug)]
pub enum Locking {
    /// It is ours until the guard is dropped or the process ends.
    Ours(LockGuard),
    /// Another has it, who left this text (its process id) in the file.
    Theirs(String),
}

/// Holds a lock taken by [`Disk::lock`].
#[derive(Debug)]
#[expect(dead_code, reason = "held for its drop")]
pub struct LockGuard(Box<dyn fmt::Debug + Send + Sync>);

/// One open file. All positions are in bytes from its start.
///
/// # Invariants
/// What was written survives a power cut only once `sync_data` or `sync_all`
/// returned. After either failed nobody knows what does, and a later success
/// says nothing about what was written before.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// The file's length.
    fn length(&self) -> io::Result<u64>;
    /// Reads up to `into.len()` bytes; 0 at the end of the file.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes up to `bytes.len()` bytes, at least one.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;
    /// Makes the file at least `length` long with space reserved on the disk,
    /// so that writes below can't run out of it. New bytes are zero.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Makes the file's bytes durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes the file's bytes and metadata durable.
    fn sync_all(&self) -> io::Result<()>;
}

/// A write that ended early.
#[derive(Debug)]
pub struct WriteError {
    /// How many bytes may be in the file, from the first on.
    pub written: usize,
    /// Why there are no more.
    pub source: io::Error,
}

/// Writes all of `bytes`, in as many calls as it takes.
pub fn write_all_at(file: &dyn DiskFile, bytes: &[u8], at: u64) -> Result<(), WriteError> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write_at(&bytes[written..], at + written as u64) {
            Ok(0) => {
                let source = io::ErrorKind::WriteZero.into();
                return Err(WriteError { written, source });
            }
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(WriteError { written, source }),
        }
    }
    Ok(())
}

/// Reads until `into` is full or the file ends; returns how many bytes.
pub fn read_full_at(file: &dyn DiskFile, into: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < into.len() {
        match file.read_at(&mut into[read..], at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Whether an error says that the disk, or the share of it we may use, is full.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as u64)
    }
}

#[derive(Debug)]
struct SystemRandom;

impl Random for SystemRandom {
    /// The standard library keys its hash maps from the system's randomness,
    /// and its hash (SipHash) does not give the key away.
    fn next_u64(&self) -> u64 {
        RandomState::new().build_hasher().finish()
    }
}

#[derive(Debug)]
struct SystemDisk;

impl Disk for SystemDisk {
    fn create_directories(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(SystemFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(SystemFile(file)))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(SystemFile(File::open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Locking> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.rewind()?;
                write!(file, "{}", std::process::id())?;
                Ok(Locking::Ours(LockGuard(Box::new(file))))
            }
            Err(fs::TryLockError::WouldBlock) => {
                let mut owner = String::new();
                file.read_to_string(&mut owner)?;
                Ok(Locking::Theirs(owner.trim().to_owned()))
            }
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct SystemFile(File);

impl DiskFile for SystemFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(into, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.0.write_at(bytes, at)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, length) {
            Err(rustix::io::Errno::OPNOTSUPP) => self.fill_with_zeros(length),
            result => Ok(result?),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

impl SystemFile {
    fn fill_with_zeros(&self, length: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS_BYTES];
        let mut at = self.length()?;
        while at < length {
            let piece = (length - at).min(ZEROS_BYTES as u64);
            self.0.write_all_at(&zeros[..piece as usize], at)?;
            at += piece;
        }
        Ok(())
    }
}
