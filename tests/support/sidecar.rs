//! The sidecar's own binary with a generated configuration.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use tempfile::TempDir;

use super::process::{Process, Signal, free_port};
use super::resp::Client;
use super::wait::{READY_DEADLINE, until};
use super::{http, memcached::Memcached, redis::Redis};

/// How many ports are tried before a start is given up.
const START_ATTEMPTS: usize = 5;

/// What a test wants in the configuration file.
#[derive(Debug, Clone)]
pub struct SidecarOptions {
    /// `region`.
    pub region: String,
    /// `roles`, as TOML has it.
    pub roles: String,
    /// `[[namespace]] protocol`.
    pub protocol: String,
    /// `[[namespace]] upstream`, as TOML has it.
    pub upstream: String,
    /// `[[namespace]] connection`: `shared` or `dedicated`.
    pub connection: String,
    /// `[[namespace]] durability`: `durable`, `enqueued` or `off`.
    pub durability: String,
    /// Further lines at the start of the file (`drain_timeout = "5s"`).
    pub root_lines: String,
    /// `[journal] backend`.
    pub backend: String,
    /// Further lines of the journal's table.
    pub journal_lines: String,
    /// Where the journal is; below the sidecar's own directory if not said.
    pub journal_directory: Option<PathBuf>,
    /// Further lines of the namespace's table.
    pub namespace_lines: String,
    /// Further tables, at the end of the file.
    pub tables: String,
    /// Parts of log lines at level ERROR that the test expects.
    pub expected_errors: Vec<String>,
}

impl SidecarOptions {
    /// Shared connections and durable writes in front of `redis`.
    pub fn new(redis: &Redis) -> SidecarOptions {
        SidecarOptions {
            region: "test".to_owned(),
            roles: "[\"proxy\"]".to_owned(),
            protocol: "redis".to_owned(),
            upstream: format!("{:?}", redis.url()),
            connection: "shared".to_owned(),
            durability: "durable".to_owned(),
            root_lines: String::new(),
            backend: "local".to_owned(),
            journal_lines: String::new(),
            journal_directory: None,
            namespace_lines: String::new(),
            tables: String::new(),
            expected_errors: Vec::new(),
        }
    }

    /// Durable writes in front of servers of memcached.
    pub fn memcached(servers: &[Memcached]) -> SidecarOptions {
        let urls: Vec<String> = servers.iter().map(Memcached::url).collect();
        SidecarOptions {
            region: "test".to_owned(),
            roles: "[\"proxy\"]".to_owned(),
            protocol: "memcached".to_owned(),
            upstream: format!("{urls:?}"),
            connection: "shared".to_owned(),
            durability: "durable".to_owned(),
            root_lines: String::new(),
            backend: "local".to_owned(),
            journal_lines: String::new(),
            journal_directory: None,
            namespace_lines: String::new(),
            tables: String::new(),
            expected_errors: Vec::new(),
        }
    }

    /// The same with another `connection`.
    pub fn connection(mut self, connection: &str) -> SidecarOptions {
        self.connection = connection.to_owned();
        self
    }

    /// The same with another `durability`.
    pub fn durability(mut self, durability: &str) -> SidecarOptions {
        self.durability = durability.to_owned();
        self
    }

    /// The same with another journal.
    pub fn backend(mut self, backend: &str) -> SidecarOptions {
        self.backend = backend.to_owned();
        self
    }

    /// The same with further lines of the namespace's table.
    pub fn namespace(mut self, lines: &str) -> SidecarOptions {
        self.namespace_lines.push_str(lines);
        self.namespace_lines.push('\n');
        self
    }

    /// The same with further lines of the journal's table.
    pub fn journal(mut self, lines: &str) -> SidecarOptions {
        self.journal_lines.push_str(lines);
        self.journal_lines.push('\n');
        self
    }

    /// The same with further lines at the start of the file.
    pub fn root(mut self, lines: &str) -> SidecarOptions {
        self.root_lines.push_str(lines);
        self.root_lines.push('\n');
        self
    }

    /// The same with an ERROR line that is no failure.
    pub fn expect_error(mut self, part: &str) -> SidecarOptions {
        self.expected_errors.push(part.to_owned());
        self
    }

    fn file(&self, journal: &Path, port: u16, admin_port: u16) -> String {
        let mut text = String::new();
        write!(
            text,
            "region = \"{}\"\nroles = {}\n{}\n\n\
             [journal]\nbackend = \"{}\"\ndirectory = \"{}\"\n{}\n\n\
             [[namespace]]\nname = \"test\"\nprotocol = \"{}\"\n\
             listen = \"127.0.0.1:{port}\"\nupstream = {}\n\
             connection = \"{}\"\ndurability = \"{}\"\n{}\n\n\
             [admin]\nlisten = \"127.0.0.1:{admin_port}\"\n\n{}\n",
            self.region,
            self.roles,
            self.root_lines,
            self.backend,
            journal.display(),
            self.journal_lines,
            self.protocol,
            self.upstream,
            self.connection,
            self.durability,
            self.namespace_lines,
            self.tables,
        )
        .expect("strings take everything");
        text
    }
}

/// A running sidecar. Dropped, it is killed and its directory removed; a log
/// line at level ERROR that was not expected fails the test then.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
    directory: TempDir,
    options: SidecarOptions,
    port: u16,
    admin_port: u16,
    earlier_lines: Vec<String>,
}

impl Sidecar {
    /// Starts one in front of `redis`; it is ready when this returns.
    pub fn start(redis: &Redis) -> Sidecar {
        Sidecar::with(SidecarOptions::new(redis))
    }

    /// Starts one with options; it is ready when this returns.
    pub fn with(options: SidecarOptions) -> Sidecar {
        Sidecar::with_status(options, 200)
    }

    /// Starts one whose `/readyz` answers `status` when this returns.
    pub fn with_status(options: SidecarOptions, status: u16) -> Sidecar {
        let directory = TempDir::new().expect("a temporary directory");
        for _ in 0..START_ATTEMPTS {
            let (port, admin_port) = (free_port(), free_port());
            let journal = journal_path(&options, &directory);
            let text = options.file(&journal, port, admin_port);
            std::fs::write(config_path(&directory), text).expect("write the configuration");
            match spawn(&directory, admin_port, status) {
                Ok(process) => {
                    return Sidecar {
                        process,
                        directory,
                        options,
                        port,
                        admin_port,
                        earlier_lines: Vec::new(),
                    };
                }
                Err(lines) => assert!(
                    address_in_use(&lines),
                    "the sidecar ended before it was ready:\n{lines}"
                ),
            }
        }
        panic!("the sidecar did not start on any of {START_ATTEMPTS} ports");
    }

    /// Starts one that cannot serve, and waits for its end: exit status and
    /// all it printed. It is to listen on `port` and `admin_port`.
    pub fn failing(options: &SidecarOptions, port: u16, admin_port: u16) -> Output {
        let directory = TempDir::new().expect("a temporary directory");
        let text = options.file(&journal_path(options, &directory), port, admin_port);
        std::fs::write(config_path(&directory), text).expect("write the configuration");
        let mut process = Process::start("the sidecar", &mut run(&directory));
        let status = process.wait(READY_DEADLINE);
        Output {
            status,
            stdout: Vec::new(),
            stderr: process.lines().join("\n").into_bytes(),
        }
    }

    /// The port clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of the admin pages.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// The journal's directory.
    pub fn journal(&self) -> PathBuf {
        journal_path(&self.options, &self.directory)
    }

    /// The configuration file, for tests that change it while it runs.
    pub fn config(&self) -> PathBuf {
        config_path(&self.directory)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// A connection through it.
    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// A connection of memcached's through it.
    pub fn memcache(&self) -> super::Memcache {
        super::Memcache::connect(self.port)
    }

    /// One admin page: status and body.
    pub fn admin(&self, path: &str) -> (u16, String) {
        http::get(self.admin_port, path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// The value of a metric: the sum over the lines whose name is `name` and
    /// whose labels contain `labels`; 0 where there is none.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let (status, text) = self.admin("/metrics");
        assert_eq!(status, 200, "/metrics: {text}");
        text.lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(labels))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Runs another subcommand against the same configuration and waits for
    /// its end: `["journal", "verify"]` runs `wal-sidecar journal verify --config FILE`.
    pub fn command(&self, arguments: &[&str]) -> Output {
        Command::new(binary())
            .args(arguments)
            .arg("--config")
            .arg(self.config())
            .output()
            .expect("run the binary")
    }

    /// Every log line so far, of all its incarnations.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.earlier_lines.clone();
        lines.extend(self.process.lines());
        lines
    }

    /// How it ended, once it has; what it printed is complete then.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        self.process.wait(deadline)
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// SIGTERM: an orderly end, and its exit status.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.stop()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after `stop` or `kill`: same ports, same configuration,
    /// same journal. Ready when this returns.
    pub fn restart(&mut self) {
        self.process.kill();
        self.earlier_lines.extend(self.process.lines());
        self.process = spawn(&self.directory, self.admin_port, 200)
            .unwrap_or_else(|lines| panic!("the sidecar did not start again:\n{lines}"));
    }

    /// Fails where a log line is at level ERROR and not expected.
    pub fn check_log(&self) {
        let unexpected = unexpected_errors(&self.lines(), &self.options.expected_errors);
        assert!(
            unexpected.is_empty(),
            "unexpected errors in the sidecar's log:\n{}",
            unexpected.join("\n")
        );
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.process.kill();
        if std::thread::panicking() {
            // The test has failed already: its log tells why.
            println!("the sidecar's log:\n{}", self.lines().join("\n"));
        } else {
            self.check_log();
        }
    }
}

/// The lines at level ERROR, or that tell of a panic, that contain none of `expected`.
pub fn unexpected_errors(lines: &[String], expected: &[String]) -> Vec<String> {
    lines
        .iter()
        .filter(|line| is_error(line))
        .filter(|line| !expected.iter().any(|part| line.contains(part.as_str())))
        .cloned()
        .collect()
}

/// Whether a log line, as text or JSON, is at level ERROR.
fn is_error(line: &str) -> bool {
    let json = line.starts_with('{') && line.contains("\"level\":\"ERROR\"");
    // As text the level follows the time, before any target or field.
    let text = line.split_ascii_whitespace().take(3).any(|word| {
        // Colours surround the word where the log goes to a terminal.
        word == "ERROR" || word.ends_with("mERROR\u{1b}[0m")
    });
    json || text || line.contains("panicked at")
}

/// The binary under test: the one cargo built for these tests, or another one
/// (a release build) named by `SIDECAR_BINARY`. Not `WAL_SIDECAR_...`: those
/// are settings to the program, and one it does not know is an error.
pub fn binary() -> PathBuf {
    std::env::var_os("SIDECAR_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_wal-sidecar").into(), PathBuf::from)
}

fn config_path(directory: &TempDir) -> PathBuf {
    directory.path().join("sidecar.toml")
}

fn run(directory: &TempDir) -> Command {
    let mut command = Command::new(binary());
    command
        .arg("run")
        .arg("--config")
        .arg(config_path(directory))
        .env("RUST_BACKTRACE", "1")
        .env("NO_COLOR", "1");
    command
}

fn journal_path(options: &SidecarOptions, directory: &TempDir) -> PathBuf {
    let chosen = options.journal_directory.clone();
    chosen.unwrap_or_else(|| directory.path().join("journal"))
}

/// Starts the binary and waits until `/readyz` answers `status`. Where it ended
/// before that: all it printed.
fn spawn(directory: &TempDir, admin_port: u16, status: u16) -> Result<Process, String> {
    let mut process = Process::start("the sidecar", &mut run(directory));
    let ready = until("the sidecar to be ready", READY_DEADLINE, || {
        // The end is looked at first: a stranger on the same port would answer too.
        if process.ended().is_some() {
            return Some(false);
        }
        matches!(http::get(admin_port, "/readyz"), Ok((now, _)) if now == status).then_some(true)
    });
    if ready {
        return Ok(process);
    }
    process.kill();
    Err(process.lines().join("\n"))
}

fn address_in_use(lines: &str) -> bool {
    lines.to_lowercase().contains("address already in use")
        || lines.to_lowercase().contains("address in use")
}
