//! A child process: its output is kept line by line, and it is stopped by its
//! own process id, never by name.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::wait::until;

/// How long a process may take to end after SIGTERM before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// How often a port is asked for that was not given before.
const PORT_ATTEMPTS: usize = 1000;

/// A signal a test sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ask for an orderly end.
    Term,
    /// End it now.
    Kill,
    /// Read the configuration again.
    Hup,
    /// Stop running, without ending: a hung server.
    Stop,
    /// Run on after `Stop`.
    Continue,
}

impl Signal {
    fn argument(self) -> &'static str {
        match self {
            Signal::Term => "-TERM",
            Signal::Kill => "-KILL",
            Signal::Hup => "-HUP",
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
        }
    }
}

/// A running child and what it has printed so far.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` with standard output and error captured.
    pub fn start(name: &str, command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {name} ({command:?}): {error}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let output = child.stdout.take().expect("output is piped");
        let errors = child.stderr.take().expect("errors are piped");
        let readers = vec![collect(output, &lines), collect(errors, &lines)];
        Process {
            name: name.to_owned(),
            child,
            lines,
            readers,
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Every line printed so far, both streams in the order they were read.
    pub fn lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .expect("no reader panics with the lock held")
            .clone()
    }

    /// How it ended; none while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .expect("the child is ours to wait for")
    }

    /// Sends it a signal by its process id.
    pub fn signal(&self, signal: Signal) {
        let status = Command::new("kill")
            .arg(signal.argument())
            .arg(self.id().to_string())
            .status()
            .expect("kill is part of every system");
        assert!(status.success(), "signal {signal:?} to {}", self.name);
    }

    /// Waits until it has ended, and until all it printed has been read.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let name = format!("{} to end", self.name);
        let status = until(&name, deadline, || self.ended());
        for reader in self.readers.drain(..) {
            reader.join().expect("readers do not panic");
        }
        status
    }

    /// SIGTERM, then the exit status.
    pub fn stop(&mut self) -> ExitStatus {
        if self.ended().is_none() {
            self.signal(Signal::Term);
        }
        self.wait(STOP_DEADLINE)
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        // An error means that it has ended already, which is what is wanted.
        let _ = self.child.kill();
        self.wait(STOP_DEADLINE);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Killed, not asked: a test that cares how its server ends calls `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads one stream of a child to its end, line by line, on a thread of its own.
fn collect(stream: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        // Bytes, not `lines()`: what a crashing program prints need not be UTF-8.
        while matches!(reader.read_until(b'\n', &mut line), Ok(read) if read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            lines
                .lock()
                .expect("no reader panics with the lock held")
                .push(text);
            line.clear();
        }
    })
}

/// A loopback port nobody listens on, and which this process was not given
/// before: those that are not listened on yet are free to the system. Another
/// process may take it before it is used; a server that could not bind then
/// says so, and its start is tried again with another port.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    for _ in 0..PORT_ATTEMPTS {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("loopback has free ports")
            .port();
        if GIVEN.lock().expect("no holder panics").insert(port) {
            return port;
        }
    }
    panic!("{PORT_ATTEMPTS} times a port that was given before");
}
