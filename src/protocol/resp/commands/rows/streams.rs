//! Streams.

use super::super::Effect::Verbatim;
use super::super::KeySpecification::Streams;
use super::super::Rule;
use super::super::keys::{ONE, SECOND};
use super::super::rules::SNAPSHOT;
use super::super::specification::Row;

pub(super) const ROWS: &[Row] = &[
    Row::write("XACK", -4, ONE, Verbatim),
    Row::write("XACKDEL", -6, ONE, Verbatim),
    Row::write("XADD", -5, ONE, Verbatim).rule(Rule::XAdd),
    Row::write("XAUTOCLAIM", -6, ONE, SNAPSHOT),
    Row::write("XCFGSET", -2, ONE, Verbatim),
    Row::write("XCLAIM", -6, ONE, SNAPSHOT),
    Row::write("XDEL", -3, ONE, Verbatim),
    Row::write("XDELEX", -5, ONE, Verbatim),
    Row::container("XGROUP", -2),
    Row::write("XGROUP CREATE", -5, SECOND, Verbatim),
    Row::write("XGROUP CREATECONSUMER", 5, SECOND, Verbatim),
    Row::write("XGROUP DELCONSUMER", 5, SECOND, Verbatim),
    Row::write("XGROUP DESTROY", 4, SECOND, Verbatim),
    Row::other("XGROUP HELP", 2),
    Row::write("XGROUP SETID", -5, SECOND, Verbatim),
    Row::container("XINFO", -2),
    Row::read("XINFO CONSUMERS", 4, SECOND),
    Row::read("XINFO GROUPS", 3, SECOND),
    Row::other("XINFO HELP", 2),
    Row::read("XINFO STREAM", -3, SECOND),
    Row::read("XLEN", 2, ONE),
    Row::write("XNACK", -5, ONE, SNAPSHOT),
    Row::read("XPENDING", -3, ONE),
    Row::read("XRANGE", -4, ONE),
    Row::read("XREAD", -4, Streams).rule(Rule::XRead),
    Row::write("XREADGROUP", -7, Streams, SNAPSHOT).rule(Rule::XRead),
    Row::read("XREVRANGE", -4, ONE),
    Row::write("XSETID", -3, ONE, Verbatim),
    Row::write("XTRIM", -4, ONE, Verbatim).rule(Rule::XTrim),
];
