//! A real memcached on a free loopback port, and a raw client for it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use super::process::{Process, Signal, free_port};
use super::wait::{READY_DEADLINE, until};

/// How many ports are tried before a start is given up.
const START_ATTEMPTS: usize = 5;
/// How long a reply may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A running server; dropped, it is stopped.
#[derive(Debug)]
pub struct Memcached {
    process: Process,
    port: u16,
    arguments: Vec<String>,
}

impl Memcached {
    /// A server with memcached's defaults.
    pub fn start() -> Memcached {
        Memcached::with(&[])
    }

    /// A server with further arguments; it answers when this returns.
    pub fn with(arguments: &[&str]) -> Memcached {
        let arguments: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
        for _ in 0..START_ATTEMPTS {
            let port = free_port();
            if let Some(process) = spawn(port, &arguments) {
                return Memcached {
                    process,
                    port,
                    arguments,
                };
            }
        }
        panic!("memcached did not start on any of {START_ATTEMPTS} ports");
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address the way `upstream` wants it.
    pub fn url(&self) -> String {
        format!("memcached://127.0.0.1:{}", self.port)
    }

    /// A connection straight to it.
    pub fn client(&self) -> Memcache {
        Memcache::connect(self.port)
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// kill -9: it forgets everything.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port after `kill`.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(self.port, &self.arguments).expect("memcached gets its port back");
    }
}

fn spawn(port: u16, arguments: &[String]) -> Option<Process> {
    let mut command = Command::new("memcached");
    command
        .args(["-l", "127.0.0.1", "-U", "0", "-u", "nobody"])
        .args(["-p", &port.to_string()])
        .args(arguments);
    let mut process = Process::start("memcached", &mut command);
    let accepts = until("memcached to accept connections", READY_DEADLINE, || {
        // The end is looked at first: a stranger on the same port would answer too.
        if process.ended().is_some() {
            return Some(false);
        }
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .ok()
            .map(|_| true)
    });
    if accepts {
        return Some(process);
    }
    let lines = process.lines().join("\n");
    assert!(
        lines.contains("in use"),
        "memcached ended at once:\n{lines}"
    );
    None
}

/// A client that sends bytes and reads up to what it knows comes last.
#[derive(Debug)]
pub struct Memcache {
    stream: TcpStream,
}

impl Memcache {
    /// Connects to a port of this machine.
    pub fn connect(port: u16) -> Memcache {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        Memcache { stream }
    }

    /// The connection itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends lines and reads all that is answered, up to the reply to an `mn`
    /// of its own or to the end of the connection.
    pub fn lines(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.exchange(&[bytes, b"mn\r\n"].concat(), b"MN\r\n")
    }

    /// Sends packets and reads all that is answered, up to the reply to a Noop
    /// of its own or to the end of the connection.
    pub fn packets(&mut self, bytes: &[u8]) -> Vec<u8> {
        const OPAQUE: [u8; 4] = [0xde, 0xad, 0xbe, 0xef];
        let noop = packet(0x0a, OPAQUE, 0, b"", b"", b"");
        let mut last = noop.clone();
        last[0] = 0x81;
        self.exchange(&[bytes, &noop].concat(), &last)
    }

    fn exchange(&mut self, bytes: &[u8], last: &[u8]) -> Vec<u8> {
        // What is refused may end the connection before all of it is sent.
        let _ = self.stream.write_all(bytes);
        let mut received = Vec::new();
        let mut buffer = [0; 64 * 1024];
        while !received.ends_with(last) {
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => received.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!(
                    "{error} after {} to {}",
                    received.escape_ascii(),
                    bytes.escape_ascii()
                ),
            }
        }
        received
    }
}

/// A request of the binary protocol.
pub fn packet(
    opcode: u8,
    opaque: [u8; 4],
    cas: u64,
    extras: &[u8],
    key: &[u8],
    value: &[u8],
) -> Vec<u8> {
    let body = (extras.len() + key.len() + value.len()) as u32;
    let mut packet = vec![0x80, opcode];
    packet.extend((key.len() as u16).to_be_bytes());
    packet.extend([extras.len() as u8, 0, 0, 0]);
    packet.extend(body.to_be_bytes());
    packet.extend(opaque);
    packet.extend(cas.to_be_bytes());
    packet.extend([extras, key, value].concat());
    packet
}
