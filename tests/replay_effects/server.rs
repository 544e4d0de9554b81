//! A redis-server of the test's own, and the smallest client that can talk to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a reply may take; a hanging server fails the test.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Stopped when dropped.
pub struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Starts one on a free loopback port, nothing on disk.
    pub fn start() -> Server {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server must be installed to run this test");
        let mut server = Server { process, port };
        let output = server.process.stdout.take().expect("piped above");
        let mut log = Vec::new();
        for line in BufReader::new(output).lines() {
            let line = line.expect("the server's log is text");
            if line.contains("Ready to accept connections") {
                return server;
            }
            log.push(line);
        }
        panic!("redis-server did not start:\n{}", log.join("\n"));
    }

    /// A new connection that speaks RESP version 2 or 3.
    pub fn connect(&self, version: u8) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream
            .set_read_timeout(Some(REPLY_TIMEOUT))
            .expect("a TCP socket");
        let mut client = Client {
            stream: BufReader::new(stream),
        };
        if version == 3 {
            let reply = client.call(&[b"HELLO", b"3"]);
            assert_eq!(reply[0], b'%');
        }
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One connection, blocking.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Sends one command and returns its raw reply.
    pub fn call(&mut self, arguments: &[&[u8]]) -> Vec<u8> {
        let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            request.extend_from_slice(argument);
            request.extend_from_slice(b"\r\n");
        }
        let stream = self.stream.get_mut();
        stream.write_all(&request).expect("the server reads");
        let mut reply = Vec::new();
        self.read_reply(&mut reply);
        reply
    }

    /// The same with the words of a text.
    pub fn say(&mut self, command: &str) -> Vec<u8> {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.call(&words)
    }

    /// The bulk string or integer of a reply; `None` for nil.
    pub fn ask(&mut self, arguments: &[&[u8]]) -> Option<Vec<u8>> {
        let reply = self.call(arguments);
        let line_end = reply
            .iter()
            .position(|byte| *byte == b'\r')
            .expect("a line");
        match reply[0] {
            b'$' if reply.starts_with(b"$-1") => None,
            b'$' => Some(reply[line_end + 2..reply.len() - 2].to_vec()),
            b'_' => None,
            b':' | b'+' => Some(reply[1..line_end].to_vec()),
            _ => panic!("{}", String::from_utf8_lossy(&reply)),
        }
    }

    fn read_reply(&mut self, reply: &mut Vec<u8>) {
        let start = reply.len();
        self.stream
            .read_until(b'\n', reply)
            .expect("a reply in time");
        let line = &reply[start..];
        assert!(line.ends_with(b"\r\n"), "the server hung up");
        let number = || -> i64 {
            let text = std::str::from_utf8(&line[1..line.len() - 2]).expect("a number");
            text.parse().expect("a number")
        };
        match line[0] {
            b'$' | b'!' | b'=' => {
                if let Ok(length) = usize::try_from(number()) {
                    let start = reply.len();
                    reply.resize(start + length + 2, 0);
                    let rest = &mut reply[start..];
                    self.stream.read_exact(rest).expect("a reply in time");
                }
            }
            kind @ (b'*' | b'~' | b'>' | b'%') => {
                let width = if kind == b'%' { 2 } else { 1 };
                for _ in 0..number() * width {
                    self.read_reply(reply);
                }
            }
            _ => {}
        }
    }
}
