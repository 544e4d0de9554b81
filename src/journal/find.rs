//! Finding a place in a journal by time.

use prost::Message;

use super::{Journal, Offset, ReadBatch, ReadError};

/// The one field of a record that is looked at; the others are skipped.
#[derive(Clone, PartialEq, Message)]
struct Stamp {
    #[prost(fixed64, tag = "1")]
    hlc: u64,
}

impl Journal {
    /// The first offset whose record has this hybrid logical clock or a later
    /// one; one past the last durable record where there is none. Clocks of a
    /// journal's writers may differ, and so do neighbouring records: what is
    /// found is off by as much. A record that can't be decoded counts as older
    /// than all. May block on the disk: one record is read for each halving of
    /// what there is.
    pub fn find(&self, hlc: u64) -> Result<Offset, ReadError> {
        let mut low = self.first_offset();
        let mut high = self.durable_through().map_or(0, |last| last + 1);
        // Records below `low` are older, those from `high` on are not.
        while low < high {
            let middle = low + (high - low) / 2;
            match self.hlc_at(middle) {
                Ok(found) if found < hlc => low = middle + 1,
                Ok(_) => high = middle,
                // Retention goes on meanwhile.
                Err(ReadError::Removed { first }) if middle < first => low = first,
                Err(error) => return Err(error),
            }
        }
        Ok(low)
    }

    fn hlc_at(&self, offset: Offset) -> Result<u64, ReadError> {
        let mut record = ReadBatch::default();
        self.reader(offset).next_batch(&mut record, 1)?;
        let stamp = record.iter().next().map(|(_, bytes)| Stamp::decode(bytes));
        Ok(stamp.and_then(Result::ok).map_or(0, |stamp| stamp.hlc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{LocalJournal, LocalOptions, MemoryJournal, MemoryOptions};
    use crate::mutation::{RecordBatch, v1};
    use std::sync::Arc;

    fn fill(journal: &Journal, clocks: impl Iterator<Item = u64>) {
        let mut appender = journal.appender();
        for hlc in clocks {
            let record = v1::Record {
                hlc,
                region: "eu".to_owned(),
                ..Default::default()
            };
            let mut batch = RecordBatch::default();
            batch.push_encoded(&record.encode_to_vec()).unwrap();
            appender.submit(batch);
            // In groups that fit small segments.
            journal.flush().unwrap();
        }
    }

    #[test]
    fn a_time_leads_to_the_first_record_at_or_after_it() {
        let journal = Journal::Memory(Arc::new(MemoryJournal::new(MemoryOptions::default())));
        assert_eq!(journal.find(5).unwrap(), 0);
        fill(&journal, [10, 10, 20, 30, 30, 30, 40].into_iter());
        for (hlc, expected) in [(0, 0), (10, 0), (11, 2), (20, 2), (30, 3), (31, 6), (41, 7)] {
            assert_eq!(journal.find(hlc).unwrap(), expected, "{hlc}");
        }
    }

    #[test]
    fn what_retention_removed_is_not_looked_for() {
        let directory = tempfile::tempdir().unwrap();
        let options = LocalOptions {
            segment_bytes: 4096,
            retention_bytes: Some(3 * 4096),
            ..LocalOptions::new(directory.path())
        };
        let local = LocalJournal::open(options).unwrap();
        let journal = Journal::Local(Arc::new(local));
        fill(&journal, (1..=2000).map(|number| number * 2));
        let Journal::Local(local) = &journal else {
            unreachable!("made above")
        };
        local.retain().unwrap();
        let first = journal.first_offset();
        assert!(0 < first && first < 2000, "{first}");
        for offset in [first, first + 1, 1500, 1999] {
            let expected = offset.max(first);
            assert_eq!(journal.find((offset + 1) * 2).unwrap(), expected);
            assert_eq!(journal.find((offset + 1) * 2 - 1).unwrap(), expected);
        }
        assert_eq!(journal.find(3).unwrap(), first);
        assert_eq!(journal.find(5000).unwrap(), 2000);
    }
}
