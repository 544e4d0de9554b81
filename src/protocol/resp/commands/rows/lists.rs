//! Lists.

use super::super::Effect::{Resolved, Verbatim};
use super::super::Resolve;
use super::super::keys::{BUT_LAST, ONE, TWO, counted};
use super::super::specification::Row;

pub(super) const ROWS: &[Row] = &[
    Row::write("BLMOVE", 6, TWO, Resolved(Resolve::BlockingMove)).blocking(),
    Row::write("BLMPOP", -5, counted(2), Resolved(Resolve::LMPop)).blocking(),
    Row::write("BLPOP", -3, BUT_LAST, Resolved(Resolve::BlockingPop)).blocking(),
    Row::write("BRPOP", -3, BUT_LAST, Resolved(Resolve::BlockingPop)).blocking(),
    Row::write("BRPOPLPUSH", 4, TWO, Resolved(Resolve::BlockingMove)).blocking(),
    Row::read("LINDEX", 3, ONE),
    Row::write("LINSERT", 5, ONE, Verbatim),
    Row::read("LLEN", 2, ONE),
    Row::write("LMOVE", 5, TWO, Verbatim),
    Row::write("LMPOP", -4, counted(1), Resolved(Resolve::LMPop)),
    Row::write("LPOP", -2, ONE, Verbatim),
    Row::read("LPOS", -3, ONE),
    Row::write("LPUSH", -3, ONE, Verbatim),
    Row::write("LPUSHX", -3, ONE, Verbatim),
    Row::read("LRANGE", 4, ONE),
    Row::write("LREM", 4, ONE, Verbatim),
    Row::write("LSET", 4, ONE, Verbatim),
    Row::write("LTRIM", 4, ONE, Verbatim),
    Row::write("RPOP", -2, ONE, Verbatim),
    Row::write("RPOPLPUSH", 3, TWO, Verbatim),
    Row::write("RPUSH", -3, ONE, Verbatim),
    Row::write("RPUSHX", -3, ONE, Verbatim),
];
