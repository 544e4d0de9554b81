//! Whether a region says in its journal that its data is being copied to the
//! others.
//!
//! What it says begins to count when it is read, and ceases to when all before it
//! is applied: early is safe, and so is late.

use std::collections::{HashMap, VecDeque};

use super::Progress;
use crate::journal::Offset;

/// How far each partition of each region's journal is applied, by name.
pub type Through = HashMap<(String, u32), Offset>;

/// See the module.
#[derive(Debug, Default)]
pub struct Copying {
    /// It has said anything of it since it is read.
    is_heard: bool,
    is_running: bool,
    /// It is over when all before this is applied.
    until: Option<Offset>,
    /// What was said of progress at places that are not applied.
    said: VecDeque<(Offset, Progress)>,
    through: Through,
}

impl Copying {
    /// Takes up what a replicator's heartbeat says; those of others say nothing.
    pub fn note(
        &mut self,
        offset: Offset,
        applied: Offset,
        copying: Option<bool>,
        progress: &Progress,
    ) {
        self.is_heard |= copying.is_some();
        match copying {
            None => return,
            Some(true) => {
                self.is_running = true;
                self.until = None;
                self.said.push_back((offset, progress.clone()));
            }
            Some(false) => self.until = self.until.or(Some(offset)),
        }
        self.applied(applied);
    }

    /// All before an offset is applied.
    pub fn applied(&mut self, applied: Offset) {
        if !self.is_running {
            self.until = None;
            return;
        }
        while self.said.front().is_some_and(|(at, _)| *at < applied) {
            for (region, partition, offset) in
                self.said.pop_front().into_iter().flat_map(|one| one.1)
            {
                self.through.insert((region, partition), offset);
            }
        }
        if self.until.is_some_and(|until| until < applied) {
            *self = Copying {
                is_heard: self.is_heard,
                ..Copying::default()
            };
        }
    }

    /// Whether it has said that it is being copied, or that it is not.
    pub fn is_heard(&self) -> bool {
        self.is_heard
    }

    /// While it is being copied: what its snapshots include of others, at least,
    /// from the next one on.
    pub fn through(&self) -> Option<&Through> {
        self.is_running.then_some(&self.through)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_when_read_and_ends_when_applied() {
        let mut copying = Copying::default();
        let progress = |offset| vec![("us".to_owned(), 0, offset)];
        let known = |copying: &Copying| {
            let through = copying.through()?;
            Some(through.get(&("us".to_owned(), 0)).copied())
        };
        copying.note(2, 0, None, &progress(1));
        assert!(!copying.is_heard());
        copying.note(3, 0, Some(false), &progress(1));
        copying.note(4, 0, None, &progress(1));
        assert!(copying.is_heard());
        assert_eq!(known(&copying), None);
        copying.note(5, 0, Some(true), &progress(7));
        assert_eq!(known(&copying), Some(None));
        copying.note(9, 0, Some(false), &progress(8));
        copying.note(12, 0, Some(false), &progress(9));
        copying.applied(9);
        assert_eq!(known(&copying), Some(Some(7)));
        copying.applied(10);
        assert_eq!(known(&copying), None);
        assert!(copying.is_heard());
        // Read again after a restart.
        copying.note(5, 10, Some(true), &progress(7));
        assert_eq!(known(&copying), Some(Some(7)));
        copying.note(9, 10, Some(false), &progress(7));
        assert_eq!(known(&copying), None);
    }
}
