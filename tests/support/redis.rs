//! A real redis-server on a free loopback port, with its own directory.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use super::certificates::Certificates;
use super::process::{Process, Signal, free_port};
use super::resp::Client;
use super::wait::{READY_DEADLINE, until};

/// How many ports are tried before a start is given up.
const START_ATTEMPTS: usize = 5;

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// The default user's password.
    pub password: Option<String>,
    /// Listen on a Unix socket in the server's directory as well.
    pub unix_socket: bool,
    /// Keep an append-only file, so that data outlives `kill`.
    pub append_only: bool,
    /// Speak TLS alone, and with those alone who show a certificate of the same
    /// authority.
    pub tls: Option<Arc<Certificates>>,
    /// Any further options, as on redis-server's command line
    /// (`["--maxmemory", "10mb"]`).
    pub arguments: Vec<String>,
}

/// A running server; dropped, it is stopped and its directory removed.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    directory: TempDir,
    port: u16,
    options: RedisOptions,
}

impl Redis {
    /// A server without password and persistence.
    pub fn start() -> Redis {
        Redis::with(RedisOptions::default())
    }

    /// A server with options; it answers when this returns.
    pub fn with(options: RedisOptions) -> Redis {
        let directory = TempDir::new().expect("a temporary directory");
        for _ in 0..START_ATTEMPTS {
            let port = free_port();
            if let Some(process) = spawn(port, &directory, &options) {
                return Redis {
                    process,
                    directory,
                    port,
                    options,
                };
            }
        }
        panic!("redis-server did not start on any of {START_ATTEMPTS} ports");
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address the way `upstream` wants it.
    pub fn url(&self) -> String {
        match self.options.tls {
            None => format!("redis://127.0.0.1:{}", self.port),
            Some(_) => format!("rediss://127.0.0.1:{}", self.port),
        }
    }

    /// Where its Unix socket is, when it was asked for one.
    pub fn unix_socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// A connection straight to it, authenticated where it has a password.
    pub fn client(&self) -> Client {
        let mut client = Client::connect(self.port);
        if let Some(password) = &self.options.password {
            assert_eq!(client.command(&["AUTH", password]), b"+OK\r\n");
        }
        client
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port and directory after `kill`.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(self.port, &self.directory, &self.options)
            .expect("redis-server gets its own port back");
    }
}

/// One attempt: none where the server ended before it answered, because the
/// port was taken meanwhile. Any other reason to end is shown and panics.
fn spawn(port: u16, directory: &TempDir, options: &RedisOptions) -> Option<Process> {
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--save", ""])
        .args([
            "--appendonly",
            if options.append_only { "yes" } else { "no" },
        ])
        .args(["--enable-debug-command", "local"])
        .arg("--dir")
        .arg(directory.path());
    match &options.tls {
        None => command.args(["--port", &port.to_string()]),
        Some(certificates) => command
            .args(["--port", "0", "--tls-port", &port.to_string()])
            .arg("--tls-cert-file")
            .arg(certificates.certificate())
            .arg("--tls-key-file")
            .arg(certificates.key())
            .arg("--tls-ca-cert-file")
            .arg(certificates.authority()),
    };
    if let Some(password) = &options.password {
        command.args(["--requirepass", password]);
    }
    if options.unix_socket {
        command
            .arg("--unixsocket")
            .arg(directory.path().join("redis.sock"));
    }
    command.args(&options.arguments);
    let mut process = Process::start("redis-server", &mut command);
    let accepts = until("redis-server to accept connections", READY_DEADLINE, || {
        // The end is looked at first: a stranger on the same port would answer too.
        if process.ended().is_some() {
            return Some(false);
        }
        let ready = process
            .lines()
            .iter()
            .any(|line| line.contains("Ready to accept connections"));
        ready.then_some(true)
    });
    if accepts {
        return Some(process);
    }
    let lines = process.lines().join("\n");
    assert!(
        lines.contains("Address already in use"),
        "redis-server ended at once:\n{lines}"
    );
    None
}
