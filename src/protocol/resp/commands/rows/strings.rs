//! Strings, bitmaps and HyperLogLogs.

use super::super::Effect::{Opaque, Resolved, Rewritten, Verbatim};
use super::super::keys::{ALL, COUNTED_PAIRS, ONE, PAIRS, SECOND, TWO, range};
use super::super::rules::SNAPSHOT;
use super::super::specification::Row;
use super::super::{Resolve, Rewrite, Rule};

pub(super) const ROWS: &[Row] = &[
    Row::write("APPEND", 3, ONE, Verbatim),
    Row::read("BITCOUNT", -2, ONE),
    Row::write("BITFIELD", -2, ONE, Verbatim).rule(Rule::BitField),
    Row::read("BITFIELD_RO", -2, ONE),
    Row::write("BITOP", -4, range(2, -1, 1), Verbatim),
    Row::read("BITPOS", -3, ONE),
    Row::write("DECR", 2, ONE, Verbatim),
    Row::write("DECRBY", 3, ONE, Verbatim),
    Row::write("DELEX", -2, ONE, Resolved(Resolve::DeleteIf)),
    Row::write("DELIFEQ", 3, ONE, Resolved(Resolve::DeleteIf)),
    Row::read("DIGEST", 2, ONE),
    Row::write("GCRA", -5, ONE, SNAPSHOT),
    Row::read("GET", 2, ONE),
    Row::read("GETBIT", 3, ONE),
    Row::write("GETDEL", 2, ONE, Rewritten(Rewrite::GetDel)),
    Row::write("GETEX", -2, ONE, Resolved(Resolve::GetEx)).rule(Rule::GetEx),
    Row::read("GETRANGE", 4, ONE),
    Row::write("GETSET", 3, ONE, Rewritten(Rewrite::GetSet)),
    Row::write("INCR", 2, ONE, Verbatim),
    Row::write("INCRBY", 3, ONE, Verbatim),
    Row::write("INCRBYFLOAT", 3, ONE, Resolved(Resolve::IncrByFloat)),
    Row::write("INCREX", -2, ONE, SNAPSHOT),
    Row::read("LCS", -3, TWO),
    Row::read("MGET", -2, ALL),
    Row::write("MSET", -3, PAIRS, Verbatim),
    Row::write("MSETEX", -4, COUNTED_PAIRS, Rewritten(Rewrite::MSetEx)).rule(Rule::MSetEx),
    Row::write("MSETNX", -3, PAIRS, Resolved(Resolve::Conditional)),
    Row::write("PFADD", -2, ONE, Verbatim),
    Row::read("PFCOUNT", -2, ALL),
    Row::write("PFDEBUG", 3, SECOND, Opaque),
    Row::write("PFMERGE", -2, ALL, Verbatim),
    Row::other("PFSELFTEST", 1),
    Row::write("PSETEX", 4, ONE, Rewritten(Rewrite::PSetEx)),
    Row::write("SET", -3, ONE, Rewritten(Rewrite::Set)).rule(Rule::Set),
    Row::write("SETBIT", 4, ONE, Verbatim),
    Row::write("SETEX", 4, ONE, Rewritten(Rewrite::SetEx)),
    Row::write("SETNX", 3, ONE, Resolved(Resolve::Conditional)),
    Row::write("SETRANGE", 4, ONE, Verbatim),
    Row::read("STRLEN", 2, ONE),
    Row::read("SUBSTR", 4, ONE),
];
