//! Sorted sets and places.

use super::super::Effect::{Resolved, Verbatim};
use super::super::KeySpecification::{GeoRadius, StoreCounted};
use super::super::keys::{ALL_BUT_LAST, ONE, TWO, counted};
use super::super::specification::Row;
use super::super::{Resolve, Rule};

pub(super) const ROWS: &[Row] = &[
    Row::write("BZMPOP", -5, counted(2), Resolved(Resolve::ZMPop)).blocking(),
    Row::write(
        "BZPOPMAX",
        -3,
        ALL_BUT_LAST,
        Resolved(Resolve::BlockingZPop),
    )
    .blocking(),
    Row::write(
        "BZPOPMIN",
        -3,
        ALL_BUT_LAST,
        Resolved(Resolve::BlockingZPop),
    )
    .blocking(),
    Row::write("GEOADD", -5, ONE, Verbatim).rule(Rule::GeoAdd),
    Row::read("GEODIST", -4, ONE),
    Row::read("GEOHASH", -2, ONE),
    Row::read("GEOPOS", -2, ONE),
    Row::write("GEORADIUS", -6, GeoRadius, Verbatim).rule(Rule::GeoRadius),
    Row::write("GEORADIUSBYMEMBER", -5, GeoRadius, Verbatim).rule(Rule::GeoRadius),
    Row::read("GEORADIUSBYMEMBER_RO", -5, ONE),
    Row::read("GEORADIUS_RO", -6, ONE),
    Row::read("GEOSEARCH", -7, ONE),
    Row::write("GEOSEARCHSTORE", -8, TWO, Verbatim),
    Row::write("ZADD", -4, ONE, Verbatim).rule(Rule::ZAdd),
    Row::read("ZCARD", 2, ONE),
    Row::read("ZCOUNT", 4, ONE),
    Row::read("ZDIFF", -3, counted(1)),
    Row::write("ZDIFFSTORE", -4, StoreCounted, Verbatim),
    Row::write("ZINCRBY", 4, ONE, Resolved(Resolve::ZIncrBy)),
    Row::read("ZINTER", -3, counted(1)),
    Row::read("ZINTERCARD", -3, counted(1)),
    Row::write("ZINTERSTORE", -4, StoreCounted, Verbatim),
    Row::read("ZLEXCOUNT", 4, ONE),
    Row::write("ZMPOP", -4, counted(1), Resolved(Resolve::ZMPop)),
    Row::read("ZMSCORE", -3, ONE),
    Row::write("ZPOPMAX", -2, ONE, Resolved(Resolve::ZPop)),
    Row::write("ZPOPMIN", -2, ONE, Resolved(Resolve::ZPop)),
    Row::read("ZRANDMEMBER", -2, ONE),
    Row::read("ZRANGE", -4, ONE),
    Row::read("ZRANGEBYLEX", -4, ONE),
    Row::read("ZRANGEBYSCORE", -4, ONE),
    Row::write("ZRANGESTORE", -5, TWO, Verbatim),
    Row::read("ZRANK", -3, ONE),
    Row::write("ZREM", -3, ONE, Verbatim),
    Row::write("ZREMRANGEBYLEX", 4, ONE, Verbatim),
    Row::write("ZREMRANGEBYRANK", 4, ONE, Verbatim),
    Row::write("ZREMRANGEBYSCORE", 4, ONE, Verbatim),
    Row::read("ZREVRANGE", -4, ONE),
    Row::read("ZREVRANGEBYLEX", -4, ONE),
    Row::read("ZREVRANGEBYSCORE", -4, ONE),
    Row::read("ZREVRANK", -3, ONE),
    Row::read("ZSCAN", -3, ONE),
    Row::read("ZSCORE", 3, ONE),
    Row::read("ZUNION", -3, counted(1)),
    Row::write("ZUNIONSTORE", -4, StoreCounted, Verbatim),
];
