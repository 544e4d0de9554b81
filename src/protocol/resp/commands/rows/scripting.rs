//! Scripts and functions.

use super::super::Control;
use super::super::Effect::{Opaque, Verbatim};
use super::super::keys::{NONE, counted};
use super::super::specification::Row;

pub(super) const ROWS: &[Row] = &[
    Row::write("EVAL", -3, counted(2), Opaque),
    Row::write("EVALSHA", -3, counted(2), Opaque),
    Row::read("EVALSHA_RO", -3, counted(2)),
    Row::read("EVAL_RO", -3, counted(2)),
    Row::write("FCALL", -3, counted(2), Opaque),
    Row::read("FCALL_RO", -3, counted(2)),
    Row::container("FUNCTION", -2),
    Row::write("FUNCTION DELETE", 3, NONE, Verbatim),
    Row::other("FUNCTION DUMP", 2),
    Row::write("FUNCTION FLUSH", -2, NONE, Verbatim),
    Row::other("FUNCTION HELP", 2),
    Row::other("FUNCTION KILL", 2),
    Row::other("FUNCTION LIST", -2),
    Row::write("FUNCTION LOAD", -3, NONE, Verbatim),
    Row::write("FUNCTION RESTORE", -3, NONE, Verbatim),
    Row::other("FUNCTION STATS", 2),
    Row::container("SCRIPT", -2),
    Row::control("SCRIPT DEBUG", 3, Control::ConnectionFlag),
    Row::other("SCRIPT EXISTS", -3),
    Row::other("SCRIPT FLUSH", -2),
    Row::other("SCRIPT HELP", 2),
    Row::other("SCRIPT KILL", 2),
    Row::other("SCRIPT LOAD", 3),
    Row::other("SCRIPT SHOW", 3),
];
