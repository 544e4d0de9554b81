//! A connection and a listener, over TCP or a Unix socket, and connections over TLS.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::client::TlsStream;

use super::tls::ClientTls;

/// So many connections wait in the kernel until they are accepted.
const BACKLOG: u32 = 1024;

/// A client that has said nothing for so long is asked whether it is there, as
/// Redis does (`tcp-keepalive`).
const CLIENT_SILENCE: Duration = Duration::from_secs(300);
/// So is a server: it may have vanished without a word, and links would wait.
const SERVER_SILENCE: Duration = Duration::from_secs(15);
/// A question goes unanswered so many times before the connection is given up.
const QUESTIONS: u32 = 3;
/// A connection to a server that does not acknowledge what it was sent for so
/// long is given up; the system's own limit is a quarter of an hour.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

/// Where to listen, or what to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// Host (name or address) and port.
    Tcp(String, u16),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A connected stream socket.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP, with TCP_NODELAY.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
    /// Over TLS on TCP, as the client.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects to `address`. Dropping the future gives the attempt up.
    pub async fn connect(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                let socket = socket2::SockRef::from(&stream);
                notice_silence(&socket, SERVER_SILENCE)?;
                #[cfg(target_os = "linux")]
                socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
                Ok(Stream::Tcp(stream))
            }
            Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        }
    }

    /// Speaks TLS from now on. Dropping the future gives the attempt up.
    pub async fn encrypt(self, tls: &ClientTls) -> io::Result<Stream> {
        match self {
            Stream::Tcp(stream) => Ok(Stream::Tls(Box::new(tls.connect(stream).await?))),
            Stream::Unix(_) | Stream::Tls(_) => {
                Err(io::Error::other("TLS is spoken over TCP alone"))
            }
        }
    }

    /// Ready when a read may give something.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_read_ready(cx),
            Stream::Unix(stream) => stream.poll_read_ready(cx),
            // What was decrypted already can't be seen from here.
            Stream::Tls(_) => Poll::Ready(Ok(())),
        }
    }

    /// Reads into the free capacity of `buffer`; 0 is the end of the stream.
    ///
    /// A read of a plain stream that leaves capacity has emptied the socket, which
    /// the runtime remembers: the next call waits without asking the system once
    /// more.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => pin!(stream.read_buf(buffer)).poll(cx),
            Stream::Unix(stream) => pin!(stream.read_buf(buffer)).poll(cx),
            Stream::Tls(stream) => pin!(stream.read_buf(buffer)).poll(cx).map(ended),
        }
    }

    /// Reads into the free capacity of `buffer`; 0 is the end of the stream.
    /// Cancel-safe.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read_buf(buffer).await,
            Stream::Unix(stream) => stream.read_buf(buffer).await,
            Stream::Tls(stream) => ended(stream.read_buf(buffer).await),
        }
    }

    /// Whether there are bytes to read, as the system says, not as the runtime
    /// remembers; of TLS, encrypted ones.
    pub fn has_input(&self) -> bool {
        let mut first = [std::mem::MaybeUninit::uninit()];
        let peeked = match self {
            Stream::Tcp(stream) => socket2::SockRef::from(stream).peek(&mut first),
            Stream::Unix(stream) => socket2::SockRef::from(stream).peek(&mut first),
            Stream::Tls(stream) => socket2::SockRef::from(stream.get_ref().0).peek(&mut first),
        };
        peeked.is_ok_and(|bytes| 0 < bytes)
    }

    /// Writes all of `bytes`. Not cancel-safe.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.write_all(bytes).await,
            Stream::Unix(stream) => stream.write_all(bytes).await,
            Stream::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Writes what the stream takes. What TLS took is not with the system yet,
    /// see [`Stream::poll_flush`].
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let written = match self {
                Stream::Tcp(stream) => stream.try_write(bytes),
                Stream::Unix(stream) => stream.try_write(bytes),
                Stream::Tls(stream) => return Pin::new(&mut **stream).poll_write(cx, bytes),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_write_ready(cx))?;
                }
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_write_ready(cx),
            Stream::Unix(stream) => stream.poll_write_ready(cx),
            Stream::Tls(_) => Poll::Ready(Ok(())),
        }
    }

    /// Ready when all that the stream took is with the system.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }
}

/// Who ends a connection without a farewell, as Redis does, has ended it: what
/// is spoken tells by itself what is whole.
fn ended(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        read => read,
    }
}

/// A bound socket that accepts connections.
#[derive(Debug)]
pub enum Listener {
    /// Over TCP.
    Tcp(TcpListener),
    /// Over a Unix socket; the file is removed when the listener is dropped.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds a socket without tying it to a runtime. `shared` sets
    /// SO_REUSEPORT, so that each worker has a socket of its own.
    pub fn bind(address: &Address, shared: bool) -> io::Result<BoundSocket> {
        match address {
            Address::Tcp(host, port) => bind_tcp(host, *port, shared).map(BoundSocket::Tcp),
            Address::Unix(path) => bind_unix(path).map(|l| BoundSocket::Unix(l, path.clone())),
        }
    }

    /// Waits for the next connection. Cancel-safe.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                // Fails where the client is gone already, which a read will tell.
                let _ = notice_silence(&socket2::SockRef::from(&stream), CLIENT_SILENCE);
                Ok(Stream::Tcp(stream))
            }
            Listener::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            // The path may be someone else's by now; then there is nothing to do.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A bound socket that is not registered with a runtime yet, so that it can be
/// moved to the worker that accepts from it.
#[derive(Debug)]
pub enum BoundSocket {
    /// Over TCP.
    Tcp(std::net::TcpListener),
    /// Over a Unix socket at the path.
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

impl BoundSocket {
    /// The address bound, with the port the system chose for port 0.
    pub fn address(&self) -> Address {
        match self {
            BoundSocket::Tcp(listener) => match listener.local_addr() {
                Ok(address) => Address::Tcp(address.ip().to_string(), address.port()),
                Err(_) => Address::Tcp(String::new(), 0),
            },
            BoundSocket::Unix(_, path) => Address::Unix(path.clone()),
        }
    }

    /// A second handle on the same socket (Unix sockets have no SO_REUSEPORT).
    pub fn duplicate(&self) -> io::Result<BoundSocket> {
        Ok(match self {
            BoundSocket::Tcp(listener) => BoundSocket::Tcp(listener.try_clone()?),
            BoundSocket::Unix(listener, path) => {
                BoundSocket::Unix(listener.try_clone()?, path.clone())
            }
        })
    }

    /// Registers with the current runtime.
    pub fn listen(self) -> io::Result<Listener> {
        Ok(match self {
            BoundSocket::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener)?),
            BoundSocket::Unix(listener, path) => {
                Listener::Unix(UnixListener::from_std(listener)?, path)
            }
        })
    }
}

/// Has the system find out that the other side is gone though nothing is sent.
fn notice_silence(socket: &socket2::SockRef<'_>, silence: Duration) -> io::Result<()> {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(silence)
        .with_interval(silence / QUESTIONS)
        .with_retries(QUESTIONS);
    socket.set_tcp_keepalive(&keepalive)
}

fn bind_tcp(host: &str, port: u16, shared: bool) -> io::Result<std::net::TcpListener> {
    use std::net::ToSocketAddrs;
    let address: SocketAddr = (host, port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG as i32)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A socket file that nobody answers on is left over from a process that was
/// killed, and is replaced; one that is answered is in use.
fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    if let Ok(metadata) = std::fs::symlink_metadata(path)
        && metadata.file_type().is_socket()
    {
        match UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(_) => std::fs::remove_file(path)?,
        }
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
