//! The rows, one per command and subcommand.
//!
//! Names, arities and places of keys are facts of the datastores' own command
//! descriptions (`src/commands/*.json` of Redis and Valkey); where versions
//! differ, the most lenient arity stands, so that nothing a datastore would run
//! is taken for an error. Effects are this program's own knowledge.

mod arrays;
mod cluster;
mod connection;
mod generic;
mod hashes;
mod lists;
mod modules;
mod pubsub;
mod scripting;
mod server;
mod sets;
mod sorted_sets;
mod streams;
mod strings;

use super::Specification;
use super::specification::Row;

/// Every family; those with the commands that are used most come first.
const FAMILIES: &[&[Row]] = &[
    strings::ROWS,
    hashes::ROWS,
    lists::ROWS,
    sets::ROWS,
    sorted_sets::ROWS,
    streams::ROWS,
    generic::ROWS,
    connection::ROWS,
    scripting::ROWS,
    pubsub::ROWS,
    server::ROWS,
    cluster::ROWS,
    arrays::ROWS,
    modules::ROWS,
];

/// The built-in specifications, a container before its subcommands.
pub(super) fn specifications() -> Vec<Specification> {
    let rows = FAMILIES.iter().copied().flatten();
    rows.map(Row::specification).collect()
}
