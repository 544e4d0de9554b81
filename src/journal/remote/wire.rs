//! One connection: a stream, the bytes that came and those that are to go.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::frame::{self, Frame, FrameError};
use super::v1::body::Kind;

/// The kernel holds so much that is not on its way yet: an answer to a query
/// waits behind this much, not behind the megabytes a socket's buffer takes.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 128 << 10;

/// The memory of what came is kept up to this: long frames are seldom.
const KEPT_BYTES_MAX: usize = 2 << 20;

/// A stream that is encrypted or not.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Has small messages go at once, ahead of what is not on its way yet.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES)?;
    Ok(())
}

/// A stream with its buffers.
///
/// # Invariants
/// Bytes leave `output` only as the stream takes them, so nothing is lost or
/// sent twice where an exchange is cancelled.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Transport,
    input: BytesMut,
    output: BytesMut,
    /// The stream took bytes that it may hold back.
    unflushed: bool,
    /// Bodies longer than this are refused.
    body_max: u32,
    /// So much is read at once, and memory is taken in pieces of this size.
    read_bytes: usize,
    traffic: Traffic,
}

/// Bytes that went over a wire so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Wire {
    pub(super) fn new(stream: Transport, body_max: u32, read_bytes: usize) -> Wire {
        Wire {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            body_max,
            read_bytes,
            traffic: Traffic::default(),
        }
    }

    /// Puts a frame behind those that wait to be sent.
    pub(super) fn push(&mut self, number: u32, kind: Kind) {
        frame::encode(&mut self.output, number, kind);
    }

    /// The same of a frame that is encoded.
    pub(super) fn push_encoded(&mut self, frame: BytesMut) {
        match self.output.is_empty() {
            true => self.output = frame,
            false => self.output.extend_from_slice(&frame),
        }
    }

    /// Bytes that wait to be sent.
    pub(super) fn unsent(&self) -> usize {
        self.output.len()
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The next frame of those that came; None where none is whole.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let frame = frame::decode(&mut self.input, self.body_max);
        if self.input.is_empty() && KEPT_BYTES_MAX < self.input.capacity() {
            self.input = BytesMut::new();
        }
        frame
    }

    /// Sends what there is to send, until something came or all is sent: the
    /// caller then looks what there is, and what else to send. The end of the
    /// stream is an error. Cancel-safe.
    pub(super) async fn exchange(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_exchange(cx)).await
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = self.poll_send(cx)?;
        self.input.reserve(self.read_bytes);
        match pin!(self.stream.read_buf(&mut self.input)).poll(cx) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Ok(read)) => {
                self.traffic.received += read as u64;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => match sent {
                Poll::Ready(true) => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            },
        }
    }

    /// Ready when everything is sent: whether there was something.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let any = self.unflushed || !self.output.is_empty();
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.traffic.sent += written as u64;
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(any))
    }

    /// Sends what is left and says that there is no more, then waits until the
    /// other side has read it all and closes; what it sends is let go. Takes as
    /// long as the other side does.
    pub(super) async fn close(mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_send(cx)).await?;
        self.stream.shutdown().await?;
        loop {
            self.input.clear();
            match self.exchange().await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
