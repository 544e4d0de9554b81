//! Keys of any type.

use super::super::Effect::{Resolved, Rewritten, Verbatim};
use super::super::KeySpecification::{Migrate, Sort};
use super::super::keys::{ALL, NONE, ONE, SECOND, TWO};
use super::super::specification::Row;
use super::super::{Resolve, Rewrite, Rule};

pub(super) const ROWS: &[Row] = &[
    Row::write("COPY", -3, TWO, Verbatim),
    Row::write("DEL", -2, ALL, Verbatim),
    Row::read("DUMP", 2, ONE),
    Row::read("EXISTS", -2, ALL),
    Row::write("EXPIRE", -3, ONE, Rewritten(Rewrite::Expire)).rule(Rule::Expire),
    Row::write("EXPIREAT", -3, ONE, Rewritten(Rewrite::Expire)).rule(Rule::Expire),
    Row::read("EXPIRETIME", 2, ONE),
    Row::read("KEYS", 2, NONE),
    Row::write("MIGRATE", -6, Migrate, Resolved(Resolve::Migrate)).rule(Rule::Migrate),
    Row::write("MOVE", 3, ONE, Verbatim),
    Row::container("OBJECT", -2),
    Row::read("OBJECT ENCODING", 3, SECOND),
    Row::read("OBJECT FREQ", 3, SECOND),
    Row::other("OBJECT HELP", 2),
    Row::read("OBJECT IDLETIME", 3, SECOND),
    Row::read("OBJECT REFCOUNT", 3, SECOND),
    Row::write("PERSIST", 2, ONE, Verbatim),
    Row::write("PEXPIRE", -3, ONE, Rewritten(Rewrite::Expire)).rule(Rule::Expire),
    Row::write("PEXPIREAT", -3, ONE, Rewritten(Rewrite::Expire)).rule(Rule::Expire),
    Row::read("PEXPIRETIME", 2, ONE),
    Row::read("PTTL", 2, ONE),
    Row::read("RANDOMKEY", 1, NONE),
    Row::write("RENAME", 3, TWO, Verbatim),
    Row::write("RENAMENX", 3, TWO, Resolved(Resolve::Conditional)),
    Row::write("RESTORE", -4, ONE, Rewritten(Rewrite::Restore)),
    Row::read("SCAN", -2, NONE),
    Row::write("SORT", -2, Sort, Verbatim).rule(Rule::Sort),
    Row::read("SORT_RO", -2, ONE),
    Row::read("TOUCH", -2, ALL),
    Row::read("TTL", 2, ONE),
    Row::read("TYPE", 2, ONE),
    Row::write("UNLINK", -2, ALL, Verbatim),
    Row::other("WAIT", 3).blocking(),
    Row::other("WAITAOF", 4).blocking(),
];
