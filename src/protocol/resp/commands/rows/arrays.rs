//! Arrays, of Redis 8.8.

use super::super::Effect::Verbatim;
use super::super::keys::ONE;
use super::super::specification::Row;

pub(super) const ROWS: &[Row] = &[
    Row::read("ARCOUNT", -2, ONE),
    Row::write("ARDEL", -3, ONE, Verbatim),
    Row::write("ARDELRANGE", -4, ONE, Verbatim),
    Row::read("ARGET", -2, ONE),
    Row::read("ARGETRANGE", -2, ONE),
    Row::read("ARGREP", -2, ONE),
    Row::read("ARINFO", -2, ONE),
    Row::write("ARINSERT", -3, ONE, Verbatim),
    Row::read("ARLASTITEMS", -2, ONE),
    Row::read("ARLEN", -2, ONE),
    Row::read("ARMGET", -2, ONE),
    Row::write("ARMSET", -4, ONE, Verbatim),
    Row::read("ARNEXT", 2, ONE),
    Row::read("AROP", -2, ONE),
    Row::write("ARRING", -4, ONE, Verbatim),
    Row::read("ARSCAN", -2, ONE),
    Row::write("ARSEEK", 3, ONE, Verbatim),
    Row::write("ARSET", -4, ONE, Verbatim),
];
