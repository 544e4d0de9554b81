//! Cuts complete replies out of what a datastore sent.

/// One complete reply at the start of the scanned bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyFrame {
    /// Its length in bytes: the next reply starts here.
    pub end: usize,
    /// Its type byte (`+ - : $ * _ # , ( ! = % ~ >`), that of the value behind
    /// any RESP3 attribute.
    pub kind: u8,
}

/// The datastore sent what is not RESP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the datastore sent an invalid reply: {0}")]
pub struct ReplyError(pub &'static str);

/// A resumable scanner: what it has seen of an incomplete reply is not looked
/// at again.
#[derive(Debug, Default)]
pub struct ReplyScanner {}

impl ReplyScanner {
    /// Finds the end of the reply at the start of `bytes`; `None` where it is
    /// not complete. The next call must pass the same bytes with more after
    /// them, or, after a frame, the bytes that follow it.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<ReplyFrame>, ReplyError> {
        let _ = bytes;
        Ok(None)
    }
}
