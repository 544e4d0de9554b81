//! A blocking Redis client that hides nothing: raw bytes out, raw replies in.
//!
//! Replies are cut by a reader of its own, not by the crate's scanner, so that
//! a mistake there can't hide itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// No reply a test waits for takes longer; a missing one fails the test.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How many bytes one read asks for.
const READ_SIZE: usize = 64 * 1024;

/// A connection to 127.0.0.1.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects, or fails the test.
    pub fn connect(port: u16) -> Client {
        Client::try_connect(port).unwrap_or_else(|error| panic!("connect to {port}: {error}"))
    }

    /// Connects; an error where nobody listens.
    pub fn try_connect(port: u16) -> std::io::Result<Client> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Client {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// Sends one command and gives its reply as raw bytes.
    pub fn command<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Vec<u8> {
        self.send(&encode(arguments));
        self.reply()
    }

    /// The next reply (or push message) as raw bytes.
    pub fn reply(&mut self) -> Vec<u8> {
        self.try_reply().expect("a reply arrives")
    }

    /// The next `count` replies as raw bytes, one after the other.
    pub fn replies(&mut self, count: usize) -> Vec<u8> {
        (0..count).flat_map(|_| self.reply()).collect()
    }

    /// The next reply, or why there is none: `UnexpectedEof` where the server
    /// closed, `WouldBlock` where it stayed silent for too long.
    pub fn try_reply(&mut self) -> std::io::Result<Vec<u8>> {
        loop {
            if let Some(length) = reply_length(&self.buffer) {
                return Ok(self.buffer.drain(..length).collect());
            }
            let filled = self.buffer.len();
            self.buffer.resize(filled + READ_SIZE, 0);
            let read = self.stream.read(&mut self.buffer[filled..]);
            self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Whether nothing at all arrives for `time`.
    pub fn silent_for(&mut self, time: Duration) -> bool {
        if !self.buffer.is_empty() {
            return false;
        }
        self.stream
            .set_read_timeout(Some(time))
            .expect("a timeout above zero");
        let silent = matches!(
            self.stream.peek(&mut [0]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
        );
        self.stream
            .set_read_timeout(Some(TIMEOUT))
            .expect("a timeout above zero");
        silent
    }

    /// Everything the server still sends until it closes the connection.
    pub fn rest(mut self) -> Vec<u8> {
        self.stream
            .read_to_end(&mut self.buffer)
            .expect("the server closes");
        self.buffer
    }

    /// The connection itself, for what the methods above do not do.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// A command as an array of bulk strings.
pub fn encode<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        let argument = argument.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The length of the first reply in `bytes`; none while it is incomplete.
/// Panics on bytes that are no RESP2 or RESP3 reply.
pub fn reply_length(bytes: &[u8]) -> Option<usize> {
    let mut position = 0;
    // Counts down to the end of the outermost reply instead of recursing.
    let mut missing = 1_usize;
    while missing > 0 {
        let line = bytes.get(position..)?;
        let end = line.windows(2).position(|pair| pair == b"\r\n")?;
        let (kind, text) = (line[0], &line[1..end]);
        position += end + 2;
        missing -= 1;
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {}
            b'$' | b'!' | b'=' => {
                if let Ok(length) = usize::try_from(number(text)) {
                    position += length + 2;
                    if bytes.len() < position {
                        return None;
                    }
                }
            }
            b'*' | b'~' | b'>' => missing += usize::try_from(number(text)).unwrap_or(0),
            b'%' => missing += 2 * usize::try_from(number(text)).unwrap_or(0),
            // An attribute precedes the reply it belongs to.
            b'|' => missing += 1 + 2 * usize::try_from(number(text)).unwrap_or(0),
            other => panic!(
                "no reply starts with {:?}: {:?}",
                other as char,
                String::from_utf8_lossy(&bytes[..bytes.len().min(200)])
            ),
        }
    }
    Some(position)
}

fn number(text: &[u8]) -> i64 {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("not a length: {:?}", String::from_utf8_lossy(text)))
}
