//! Sets.

use super::super::Effect::{Resolved, Verbatim};
use super::super::Resolve;
use super::super::keys::{ALL, ONE, TWO, counted};
use super::super::specification::Row;

pub(super) const ROWS: &[Row] = &[
    Row::write("SADD", -3, ONE, Verbatim),
    Row::read("SCARD", 2, ONE),
    Row::read("SDIFF", -2, ALL),
    Row::write("SDIFFSTORE", -3, ALL, Verbatim),
    Row::read("SINTER", -2, ALL),
    Row::read("SINTERCARD", -3, counted(1)),
    Row::write("SINTERSTORE", -3, ALL, Verbatim),
    Row::read("SISMEMBER", 3, ONE),
    Row::read("SMEMBERS", 2, ONE),
    Row::read("SMISMEMBER", -3, ONE),
    Row::write("SMOVE", 4, TWO, Verbatim),
    Row::write("SPOP", -2, ONE, Resolved(Resolve::SPop)),
    Row::read("SRANDMEMBER", -2, ONE),
    Row::write("SREM", -3, ONE, Verbatim),
    Row::read("SSCAN", -3, ONE),
    Row::read("SUNION", -2, ALL),
    Row::write("SUNIONSTORE", -3, ALL, Verbatim),
];
