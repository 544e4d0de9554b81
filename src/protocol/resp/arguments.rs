//! A command's arguments, decoded where they lie.

use smallvec::SmallVec;

/// The arguments of one command, its name first, as slices of the command's
/// own bytes (or of a scratch buffer for inline commands, whose quoting has to
/// be undone).
pub type Arguments<'a> = SmallVec<[&'a [u8]; 8]>;
