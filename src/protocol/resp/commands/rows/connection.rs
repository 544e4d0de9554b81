//! Connections and transactions.

use super::super::Control;
use super::super::keys::ALL;
use super::super::specification::Row;

pub(super) const ROWS: &[Row] = &[
    Row::control("AUTH", -2, Control::Auth),
    Row::container("CLIENT", -2),
    Row::control("CLIENT CACHING", 3, Control::ConnectionFlag),
    Row::control("CLIENT CAPA", -3, Control::ConnectionFlag),
    Row::control("CLIENT GETNAME", 2, Control::ClientGetName),
    Row::other("CLIENT GETREDIR", 2),
    Row::other("CLIENT HELP", 2),
    Row::control("CLIENT ID", 2, Control::ClientId),
    Row::control("CLIENT IMPORT-SOURCE", 3, Control::ConnectionFlag),
    Row::other("CLIENT INFO", 2),
    Row::control("CLIENT KILL", -3, Control::ClientTarget),
    Row::other("CLIENT LIST", -2),
    Row::control("CLIENT NO-EVICT", 3, Control::ConnectionFlag),
    Row::control("CLIENT NO-TOUCH", 3, Control::ConnectionFlag),
    Row::other("CLIENT PAUSE", -3),
    Row::control("CLIENT REPLY", 3, Control::ClientReply),
    Row::control("CLIENT SETINFO", 4, Control::ClientSetInfo),
    Row::control("CLIENT SETNAME", 3, Control::ClientSetName),
    Row::control("CLIENT TRACKING", -3, Control::ClientTracking),
    Row::other("CLIENT TRACKINGINFO", 2),
    Row::control("CLIENT UNBLOCK", -3, Control::ClientTarget),
    Row::other("CLIENT UNPAUSE", 2),
    Row::control("DISCARD", 1, Control::Discard),
    Row::other("ECHO", 2),
    Row::control("EXEC", 1, Control::Exec),
    Row::control("HELLO", -1, Control::Hello),
    Row::control("MULTI", 1, Control::Multi),
    Row::other("PING", -1),
    Row::control("QUIT", -1, Control::Quit),
    Row::control("RESET", 1, Control::Reset),
    Row::control("SELECT", 2, Control::Select),
    Row::control("UNWATCH", 1, Control::Unwatch),
    Row::control_of("WATCH", -2, ALL, Control::Watch),
];
