//! Channels. They are no keys: what is published is not kept.

use super::super::Control;
use super::super::specification::Row;

pub(super) const ROWS: &[Row] = &[
    Row::control("PSUBSCRIBE", -2, Control::Subscribe),
    Row::other("PUBLISH", 3),
    Row::container("PUBSUB", -2),
    Row::other("PUBSUB CHANNELS", -2),
    Row::other("PUBSUB HELP", 2),
    Row::other("PUBSUB NUMPAT", 2),
    Row::other("PUBSUB NUMSUB", -2),
    Row::other("PUBSUB SHARDCHANNELS", -2),
    Row::other("PUBSUB SHARDNUMSUB", -2),
    Row::control("PUNSUBSCRIBE", -1, Control::Unsubscribe),
    Row::other("SPUBLISH", 3),
    Row::control("SSUBSCRIBE", -2, Control::Subscribe),
    Row::control("SUBSCRIBE", -2, Control::Subscribe),
    Row::control("SUNSUBSCRIBE", -1, Control::Unsubscribe),
    Row::control("UNSUBSCRIBE", -1, Control::Unsubscribe),
];
