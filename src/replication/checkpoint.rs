//! How far a partition of a journal has been applied, as it is kept in the
//! datastore: `applied resume hlc writer:sequence,...`, in decimal and, the
//! writers, in hexadecimal digits.

use crate::journal::Offset;

/// Writers that are remembered. Copies of a record come soon after it.
pub(super) const WRITERS_MAX: usize = 64;

/// So much is said to be applied of a topic that another one has taken the place of.
pub(super) const ANOTHER: Offset = Offset::MAX;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// All records before it are applied.
    pub applied: Offset,
    /// Where to begin to read: mutations whose outcome is waited for are older.
    pub resume: Offset,
    /// The greatest clock among what is applied.
    pub hlc: u64,
    /// The newest sequence of each writer, those first that were applied last.
    pub writers: Vec<(u64, u64)>,
}

impl Checkpoint {
    /// The form it is kept in.
    pub fn format(&self) -> String {
        let Checkpoint {
            applied,
            resume,
            hlc,
            writers,
        } = self;
        let each = writers.iter().take(WRITERS_MAX);
        let writers: Vec<String> = each
            .map(|(writer, sequence)| format!("{writer:016x}:{sequence}"))
            .collect();
        format!("{applied} {resume} {hlc} {}", writers.join(","))
    }

    /// Reads that form.
    pub fn parse(text: &str) -> Option<Checkpoint> {
        let mut words = text.split(' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let (applied, resume, hlc) = (number()?, number()?, number()?);
        let writers = words.next().unwrap_or_default().split(',');
        let writer = |text: &str| {
            let (writer, sequence) = text.split_once(':')?;
            Some((
                u64::from_str_radix(writer, 16).ok()?,
                sequence.parse().ok()?,
            ))
        };
        let writers = writers.filter(|one| !one.is_empty()).map(writer);
        Some(Checkpoint {
            applied,
            resume,
            hlc,
            writers: writers.collect::<Option<Vec<_>>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read() {
        for writers in [vec![], vec![(u64::MAX, 9), (1, 7)]] {
            let checkpoint = Checkpoint {
                applied: 12,
                resume: 3,
                hlc: 1 << 60,
                writers,
            };
            assert_eq!(Checkpoint::parse(&checkpoint.format()), Some(checkpoint));
        }
        for text in ["", "1", "1 2", "1 2 x ", "1 2 3 z:1", "1 2 3 1"] {
            assert_eq!(Checkpoint::parse(text), None, "{text}");
        }
    }
}
