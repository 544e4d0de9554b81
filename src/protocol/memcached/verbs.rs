//! The table of verbs: what each means for the journal, and what answers it.

mod rows;

pub use rows::ROWS;

use super::Dialect;
use crate::protocol::Class;

/// What a mutation does to its key, as far as the command alone tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Not a mutation.
    None,
    /// The key has the value afterwards, whatever it had.
    Overwrite,
    /// Depends on what is stored; the reply tells whether it was done.
    Conditional,
    /// The key is gone afterwards.
    Delete,
    /// A number is changed; the reply tells the result.
    Arithmetic,
    /// The time to live is set, where there is a value.
    Touch,
    /// Everything is gone, at once or after a delay.
    Flush,
}

/// What the datastore answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One line.
    Line,
    /// `VALUE` lines with their data up to `END`, or an error line.
    Values,
    /// `STAT`, `ITEM` or `PREFIX` lines up to `END`, or one other line.
    Statistics,
    /// Any lines up to `END` or `EN`, or one line that tells why not.
    Dump,
    /// `VA <size>` with its data, or one other line.
    Meta,
    /// One packet.
    Packet,
    /// Packets up to one without a key.
    Packets,
    /// Lines without end.
    Stream,
    /// Nothing: the connection ends.
    Nothing,
    /// Not forwarded: [`super::answers::local`] has the answer.
    Local,
}

/// One verb.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What the row is of.
    pub verb: Verb,
    /// The verb as it is written; for packets, a name for it.
    pub name: &'static str,
    /// Which dialect has it.
    pub dialect: Dialect,
    /// What it means for the journal, if its arguments are any good.
    pub class: Class,
    /// What answers it.
    pub shape: Shape,
    /// What it does.
    pub effect: Effect,
    /// The opcode of a packet, in its loud form.
    pub opcode: Option<u8>,
    /// The opcode of its quiet form, where it has one.
    pub quiet_opcode: Option<u8>,
}

/// Every verb there is a row of, in the order of the rows. A verb that means
/// different things by its flags has a row of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the rows say what they are")]
pub enum Verb {
    Get,
    Gets,
    Gat,
    Gats,
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Cas,
    Delete,
    Increment,
    Decrement,
    Touch,
    FlushAll,
    Version,
    Statistics,
    StatisticsOfKeys,
    Verbosity,
    CacheMemlimit,
    Slabs,
    Lru,
    LruCrawler,
    LruCrawlerDump,
    Extstore,
    Misbehave,
    RefreshCertificates,
    Watch,
    Quit,
    Shutdown,
    MetaNoop,
    MetaGet,
    MetaGetTouch,
    MetaGetVivify,
    MetaGetAlone,
    MetaSet,
    MetaSetConditional,
    MetaDelete,
    MetaDeleteConditional,
    MetaArithmetic,
    MetaDebug,
    MetaDebugAlone,
    BinaryGet,
    BinaryGetKey,
    BinaryGetAndTouch,
    BinaryGetAndTouchKey,
    BinarySet,
    BinarySetConditional,
    BinaryAdd,
    BinaryReplace,
    BinaryAppend,
    BinaryPrepend,
    BinaryDelete,
    BinaryDeleteConditional,
    BinaryIncrement,
    BinaryDecrement,
    BinaryTouch,
    BinaryFlush,
    BinaryNoop,
    BinaryVersion,
    BinaryStatistics,
    BinaryQuit,
    BinarySaslMechanisms,
    BinarySaslStart,
    BinarySaslStep,
    LocalUnknown,
    LocalBadFormat,
    LocalTooManyFlags,
    LocalOpaqueTooLong,
    LocalUnknownPacket,
}

impl Verb {
    /// The verb's row.
    #[inline]
    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

/// What [`crate::protocol::Command::specification`] holds of a memcached
/// command: the verb, and whether the client expects silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Specification(pub u16);

impl Specification {
    const QUIET: u16 = 1 << 8;
    const REWRITTEN: u16 = 1 << 9;

    /// The specification of a verb in its loud form.
    #[inline]
    pub fn new(verb: Verb) -> Specification {
        Specification(verb as u16)
    }

    /// The same, and the client sees of the reply only what its quiet form lets
    /// through.
    #[inline]
    pub fn with_quiet(self, quiet: bool) -> Specification {
        Specification(self.0 | if quiet { Self::QUIET } else { 0 })
    }

    /// The same, and the bytes are not what is forwarded.
    #[inline]
    pub fn with_rewritten(self, rewritten: bool) -> Specification {
        Specification(self.0 | if rewritten { Self::REWRITTEN } else { 0 })
    }

    /// The row; none for a number that no scanner gave.
    #[inline]
    pub fn row(self) -> Option<&'static Row> {
        ROWS.get(usize::from(self.0 & 0xff))
    }

    /// Whether the client is to see less than the datastore replies.
    #[inline]
    pub fn is_quiet(self) -> bool {
        self.0 & Self::QUIET != 0
    }

    /// Whether other bytes than the client's are forwarded.
    #[inline]
    pub fn is_rewritten(self) -> bool {
        self.0 & Self::REWRITTEN != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_where_their_verbs_say() {
        for (index, row) in ROWS.iter().enumerate() {
            assert_eq!(row.verb as usize, index, "{}", row.name);
            assert_eq!(
                row.effect == Effect::None,
                row.class != Class::Mutation,
                "{}",
                row.name
            );
        }
        assert_eq!(ROWS.len(), Verb::LocalUnknownPacket as usize + 1);
        assert!(ROWS.len() <= 256);
    }

    #[test]
    fn a_specification_keeps_what_it_is_told() {
        let plain = Specification::new(Verb::Set);
        assert!(!plain.is_quiet() && !plain.is_rewritten());
        let quiet = plain.with_quiet(true);
        assert!(quiet.is_quiet() && !quiet.is_rewritten());
        let both = quiet.with_rewritten(true);
        assert!(both.is_quiet() && both.is_rewritten());
        assert_eq!(both.row().map(|row| row.verb), Some(Verb::Set));
        assert!(Specification(u16::MAX).row().is_none());
    }

    #[test]
    fn opcodes_are_told_apart() {
        let mut seen = std::collections::HashMap::new();
        for row in &ROWS {
            for opcode in row.opcode.into_iter().chain(row.quiet_opcode) {
                seen.entry(opcode).or_insert_with(Vec::new).push(row.verb);
            }
        }
        // 0x1b and 0x1f are opcodes of no command that memcached has.
        let known: Vec<u8> = (0..=0x24)
            .filter(|opcode| seen.contains_key(opcode))
            .collect();
        let expected: Vec<u8> = (0..=0x24)
            .filter(|opcode| ![0x1b, 0x1f].contains(opcode))
            .collect();
        assert_eq!(known, expected);
    }
}
