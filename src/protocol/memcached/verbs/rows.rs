//! The rows themselves. A new verb is a variant of [`Verb`] and a row here.

use super::{Effect, Row, Shape, Verb};
use crate::protocol::Class;
use crate::protocol::memcached::Dialect;

/// A row of the text dialect.
const fn text(verb: Verb, name: &'static str, class: Class, shape: Shape, effect: Effect) -> Row {
    Row {
        verb,
        name,
        dialect: Dialect::Text,
        class,
        shape,
        effect,
        opcode: None,
        quiet_opcode: None,
    }
}

/// A row of the binary dialect: its opcodes, loud and quiet.
const fn packet(
    verb: Verb,
    name: &'static str,
    class: Class,
    effect: Effect,
    opcode: Option<u8>,
    quiet_opcode: Option<u8>,
) -> Row {
    Row {
        verb,
        name,
        dialect: Dialect::Binary,
        class,
        shape: Shape::Packet,
        effect,
        opcode,
        quiet_opcode,
    }
}

/// The row of a packet that is answered in another shape than one packet.
const fn shaped(row: Row, shape: Shape) -> Row {
    Row { shape, ..row }
}

use Class::{Control, Mutation, Read};

/// All verbs, in the order of [`Verb`].
#[rustfmt::skip]
pub const ROWS: [Row; 70] = [
    text(Verb::Get, "get", Read, Shape::Values, Effect::None),
    text(Verb::Gets, "gets", Read, Shape::Values, Effect::None),
    text(Verb::Gat, "gat", Mutation, Shape::Values, Effect::Touch),
    text(Verb::Gats, "gats", Mutation, Shape::Values, Effect::Touch),
    text(Verb::Set, "set", Mutation, Shape::Line, Effect::Overwrite),
    text(Verb::Add, "add", Mutation, Shape::Line, Effect::Conditional),
    text(Verb::Replace, "replace", Mutation, Shape::Line, Effect::Conditional),
    text(Verb::Append, "append", Mutation, Shape::Line, Effect::Conditional),
    text(Verb::Prepend, "prepend", Mutation, Shape::Line, Effect::Conditional),
    text(Verb::Cas, "cas", Mutation, Shape::Line, Effect::Conditional),
    text(Verb::Delete, "delete", Mutation, Shape::Line, Effect::Delete),
    text(Verb::Increment, "incr", Mutation, Shape::Line, Effect::Arithmetic),
    text(Verb::Decrement, "decr", Mutation, Shape::Line, Effect::Arithmetic),
    text(Verb::Touch, "touch", Mutation, Shape::Line, Effect::Touch),
    text(Verb::FlushAll, "flush_all", Mutation, Shape::Line, Effect::Flush),
    text(Verb::Version, "version", Read, Shape::Line, Effect::None),
    text(Verb::Statistics, "stats", Read, Shape::Statistics, Effect::None),
    text(Verb::StatisticsOfKeys, "stats (of keys)", Control, Shape::Statistics, Effect::None),
    text(Verb::Verbosity, "verbosity", Read, Shape::Line, Effect::None),
    text(Verb::CacheMemlimit, "cache_memlimit", Read, Shape::Line, Effect::None),
    text(Verb::Slabs, "slabs", Read, Shape::Line, Effect::None),
    text(Verb::Lru, "lru", Read, Shape::Line, Effect::None),
    text(Verb::LruCrawler, "lru_crawler", Read, Shape::Line, Effect::None),
    text(Verb::LruCrawlerDump, "lru_crawler (dump)", Control, Shape::Dump, Effect::None),
    text(Verb::Extstore, "extstore", Read, Shape::Line, Effect::None),
    text(Verb::Misbehave, "misbehave", Read, Shape::Line, Effect::None),
    text(Verb::RefreshCertificates, "refresh_certs", Control, Shape::Line, Effect::None),
    text(Verb::Watch, "watch", Control, Shape::Stream, Effect::None),
    text(Verb::Quit, "quit", Control, Shape::Nothing, Effect::None),
    text(Verb::Shutdown, "shutdown", Control, Shape::Line, Effect::None),
    text(Verb::MetaNoop, "mn", Read, Shape::Line, Effect::None),
    text(Verb::MetaGet, "mg", Read, Shape::Meta, Effect::None),
    text(Verb::MetaGetTouch, "mg (touch)", Mutation, Shape::Meta, Effect::Touch),
    text(Verb::MetaGetVivify, "mg (vivify)", Mutation, Shape::Meta, Effect::Conditional),
    text(Verb::MetaGetAlone, "mg (alone)", Control, Shape::Meta, Effect::None),
    text(Verb::MetaSet, "ms", Mutation, Shape::Line, Effect::Overwrite),
    text(Verb::MetaSetConditional, "ms (conditional)", Mutation, Shape::Line, Effect::Conditional),
    text(Verb::MetaDelete, "md", Mutation, Shape::Line, Effect::Delete),
    text(Verb::MetaDeleteConditional, "md (conditional)", Mutation, Shape::Line, Effect::Conditional),
    text(Verb::MetaArithmetic, "ma", Mutation, Shape::Meta, Effect::Arithmetic),
    text(Verb::MetaDebug, "me", Read, Shape::Line, Effect::None),
    text(Verb::MetaDebugAlone, "me (alone)", Control, Shape::Line, Effect::None),
    packet(Verb::BinaryGet, "Get", Read, Effect::None, Some(0x00), Some(0x09)),
    packet(Verb::BinaryGetKey, "GetK", Read, Effect::None, Some(0x0c), Some(0x0d)),
    packet(Verb::BinaryGetAndTouch, "GAT", Mutation, Effect::Touch, Some(0x1d), Some(0x1e)),
    packet(Verb::BinaryGetAndTouchKey, "GATK", Mutation, Effect::Touch, Some(0x23), Some(0x24)),
    packet(Verb::BinarySet, "Set", Mutation, Effect::Overwrite, Some(0x01), Some(0x11)),
    packet(Verb::BinarySetConditional, "Set (cas)", Mutation, Effect::Conditional, Some(0x01), Some(0x11)),
    packet(Verb::BinaryAdd, "Add", Mutation, Effect::Conditional, Some(0x02), Some(0x12)),
    packet(Verb::BinaryReplace, "Replace", Mutation, Effect::Conditional, Some(0x03), Some(0x13)),
    packet(Verb::BinaryAppend, "Append", Mutation, Effect::Conditional, Some(0x0e), Some(0x19)),
    packet(Verb::BinaryPrepend, "Prepend", Mutation, Effect::Conditional, Some(0x0f), Some(0x1a)),
    packet(Verb::BinaryDelete, "Delete", Mutation, Effect::Delete, Some(0x04), Some(0x14)),
    packet(Verb::BinaryDeleteConditional, "Delete (cas)", Mutation, Effect::Conditional, Some(0x04), Some(0x14)),
    packet(Verb::BinaryIncrement, "Increment", Mutation, Effect::Arithmetic, Some(0x05), Some(0x15)),
    packet(Verb::BinaryDecrement, "Decrement", Mutation, Effect::Arithmetic, Some(0x06), Some(0x16)),
    packet(Verb::BinaryTouch, "Touch", Mutation, Effect::Touch, Some(0x1c), None),
    packet(Verb::BinaryFlush, "Flush", Mutation, Effect::Flush, Some(0x08), Some(0x18)),
    packet(Verb::BinaryNoop, "Noop", Read, Effect::None, Some(0x0a), None),
    packet(Verb::BinaryVersion, "Version", Read, Effect::None, Some(0x0b), None),
    shaped(packet(Verb::BinaryStatistics, "Stat", Read, Effect::None, Some(0x10), None), Shape::Packets),
    packet(Verb::BinaryQuit, "Quit", Control, Effect::None, Some(0x07), Some(0x17)),
    packet(Verb::BinarySaslMechanisms, "SASL list mechanisms", Control, Effect::None, Some(0x20), None),
    packet(Verb::BinarySaslStart, "SASL start", Control, Effect::None, Some(0x21), None),
    packet(Verb::BinarySaslStep, "SASL step", Control, Effect::None, Some(0x22), None),
    text(Verb::LocalUnknown, "unknown command", Control, Shape::Local, Effect::None),
    text(Verb::LocalBadFormat, "bad command line", Control, Shape::Local, Effect::None),
    text(Verb::LocalTooManyFlags, "too many flags", Control, Shape::Local, Effect::None),
    text(Verb::LocalOpaqueTooLong, "opaque too long", Control, Shape::Local, Effect::None),
    shaped(packet(Verb::LocalUnknownPacket, "unknown opcode", Control, Effect::None, None, None), Shape::Local),
];
