//! The hot path: from a command's bytes to what it means.

use super::name::LONGEST_FOLDED;
use super::specification::arity_accepts;
use super::table::{Entry, NOTHING, Table};
use super::walk::{Inline, Multibulk, unquote};
use super::{Classified, Control, Effect, Rule, rules};
use crate::protocol::resp::scanner::Frame;
use crate::protocol::{Class, Command};

/// What no specification describes: the datastore has to be asked.
const UNKNOWN: Classified = Classified {
    specification: Command::UNKNOWN,
    class: Class::Read,
    control: None,
};

impl Table {
    /// What the complete command in `command`, cut by `frame`, means. Does not
    /// allocate; looks past the name only where the arguments decide.
    ///
    /// A command the datastore answers with an error because of the number of
    /// its arguments is [`Class::Read`]: it changes neither data nor the
    /// connection. A subcommand that is not in the table is as unknown as a
    /// command that is not.
    #[inline]
    pub fn classify(&self, command: &[u8], frame: &Frame) -> Classified {
        let (start, end) = frame.name;
        if frame.inline {
            return self.classify_inline(command, frame);
        }
        match self.position_within(command, start, end) {
            Some(index) => self.classify_known(index, command, frame),
            None => UNKNOWN,
        }
    }

    #[cold]
    fn classify_inline(&self, command: &[u8], frame: &Frame) -> Classified {
        let (start, end) = frame.name;
        let name = command.get(start..end).unwrap_or_default();
        let mut buffer = [0; LONGEST_FOLDED];
        let quoted = memchr::memchr2(b'"', b'\'', name).is_some();
        let name = match quoted {
            true => unquote(name, &mut buffer).unwrap_or_default(),
            false => name,
        };
        match self.position(NOTHING, name) {
            Some(index) => self.classify_known(index, command, frame),
            None => UNKNOWN,
        }
    }

    #[inline]
    fn classify_known(&self, index: u16, command: &[u8], frame: &Frame) -> Classified {
        let entry = self.entry(index);
        if !arity_accepts(entry.arity, frame.arguments as usize) {
            return harmless(index);
        }
        if entry.rule.decides_class() {
            return self.classify_by_arguments(index, entry, command, frame);
        }
        Classified {
            specification: index,
            class: entry.class,
            control: entry.control,
        }
    }

    #[inline(never)]
    fn classify_by_arguments(
        &self,
        index: u16,
        entry: &Entry,
        command: &[u8],
        frame: &Frame,
    ) -> Classified {
        let after = command.get(frame.name.1..).unwrap_or_default();
        if !frame.inline {
            let mut rest = Multibulk::after_name(after);
            return match entry.rule {
                Rule::Container => {
                    let part = rest.next().unwrap_or_default();
                    self.classify_part(index, part, frame)
                }
                _ => decide(index, entry, &mut rest),
            };
        }
        let mut rest = Inline::after_name(after);
        if entry.rule == Rule::Container {
            let mut buffer = [0; LONGEST_FOLDED];
            let part = unquote(after, &mut buffer).unwrap_or_default();
            return self.classify_part(index, part, frame);
        }
        if rest.quoted() {
            // Quotes could hide any option, so the one that journals and keeps
            // other clients away from the connection is taken to be there.
            let blocks = entry.rule == Rule::XRead;
            return Classified {
                specification: index,
                class: entry.class,
                control: blocks.then_some(Control::Blocking).or(entry.control),
            };
        }
        decide(index, entry, &mut rest)
    }

    /// What the subcommand `part` of the container at `index` means.
    fn classify_part(&self, index: u16, part: &[u8], frame: &Frame) -> Classified {
        if part.is_empty() {
            // COMMAND and a few others are commands of their own without one.
            return harmless(index);
        }
        let Some(part) = self.position(index, part) else {
            return UNKNOWN;
        };
        let entry = self.entry(part);
        if !arity_accepts(entry.arity, frame.arguments as usize) {
            return harmless(part);
        }
        Classified {
            specification: part,
            class: entry.class,
            control: entry.control,
        }
    }
}

/// A command that is answered without changing anything.
fn harmless(index: u16) -> Classified {
    Classified {
        specification: index,
        class: Class::Read,
        control: None,
    }
}

/// What the arguments after the name make of a command.
fn decide(index: u16, entry: &Entry, rest: rules::Rest) -> Classified {
    if entry.rule == Rule::XRead {
        return Classified {
            specification: index,
            class: entry.class,
            control: rules::blocks(rest).then_some(Control::Blocking),
        };
    }
    // Any default but `None` will do: these rules say themselves what it is.
    match rules::effect(entry.rule, Effect::Opaque, rest) {
        Effect::None => harmless(index),
        _ => Classified {
            specification: index,
            class: entry.class,
            control: entry.control,
        },
    }
}
