//! Hashes.

use super::super::Effect::{Resolved, Rewritten, Verbatim};
use super::super::keys::ONE;
use super::super::rules::SNAPSHOT;
use super::super::specification::Row;
use super::super::{Resolve, Rewrite, Rule};

pub(super) const ROWS: &[Row] = &[
    Row::write("HDEL", -3, ONE, Verbatim),
    Row::read("HEXISTS", 3, ONE),
    Row::write("HEXPIRE", -6, ONE, Rewritten(Rewrite::HExpire)).rule(Rule::HExpire),
    Row::write("HEXPIREAT", -6, ONE, Rewritten(Rewrite::HExpire)).rule(Rule::HExpire),
    Row::read("HEXPIRETIME", -5, ONE),
    Row::read("HGET", 3, ONE),
    Row::read("HGETALL", 2, ONE),
    Row::write("HGETDEL", -5, ONE, Rewritten(Rewrite::HGetDel)),
    Row::write("HGETEX", -5, ONE, SNAPSHOT).rule(Rule::HGetEx),
    Row::write("HINCRBY", 4, ONE, Verbatim),
    Row::write("HINCRBYFLOAT", 4, ONE, Resolved(Resolve::HIncrByFloat)),
    Row::read("HKEYS", 2, ONE),
    Row::read("HLEN", 2, ONE),
    Row::read("HMGET", -3, ONE),
    Row::write("HMSET", -4, ONE, Verbatim),
    Row::write("HPERSIST", -5, ONE, Verbatim),
    Row::write("HPEXPIRE", -6, ONE, Rewritten(Rewrite::HExpire)).rule(Rule::HExpire),
    Row::write("HPEXPIREAT", -6, ONE, Rewritten(Rewrite::HExpire)).rule(Rule::HExpire),
    Row::read("HPEXPIRETIME", -5, ONE),
    Row::read("HPTTL", -5, ONE),
    Row::read("HRANDFIELD", -2, ONE),
    Row::read("HSCAN", -3, ONE),
    Row::write("HSET", -4, ONE, Verbatim),
    Row::write("HSETEX", -6, ONE, Rewritten(Rewrite::HSetEx)).rule(Rule::HSetEx),
    Row::write("HSETNX", 4, ONE, Resolved(Resolve::Conditional)),
    Row::read("HSTRLEN", 3, ONE),
    Row::read("HTTL", -5, ONE),
    Row::read("HVALS", 2, ONE),
];
