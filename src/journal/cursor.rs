//! What readers still need, as far as retention has to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Offset;

/// Stands for a reader that needs the records from some offset on. Dropping it
/// gives them up. It lives as long as the process: whoever serves a reader
/// elsewhere registers it again after a start, from what that reader says.
#[derive(Debug)]
pub struct Cursor(pub(super) Arc<CursorState>);

#[derive(Debug)]
pub(super) struct CursorState {
    pub(super) name: String,
    pub(super) needed: AtomicU64,
}

/// Where a registered reader is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorPosition {
    /// The reader's name.
    pub name: String,
    /// The first offset it still needs.
    pub needed: Offset,
}

impl Cursor {
    pub(super) fn new(name: &str, needed: Offset) -> Cursor {
        Cursor(Arc::new(CursorState {
            name: name.to_owned(),
            needed: AtomicU64::new(needed),
        }))
    }

    /// Records before `needed` may go. Moving back has no effect.
    pub fn advance(&self, needed: Offset) {
        self.0.needed.fetch_max(needed, Ordering::Release);
    }

    /// Where the reader is.
    pub fn position(&self) -> CursorPosition {
        self.0.position()
    }
}

impl CursorState {
    pub(super) fn position(&self) -> CursorPosition {
        CursorPosition {
            name: self.name.clone(),
            needed: self.needed.load(Ordering::Acquire),
        }
    }
}
