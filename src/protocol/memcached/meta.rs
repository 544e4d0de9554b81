//! Meta commands: their flags, and which verb the flags make of them.

use super::key::Key;
use super::line::Tokens;
use super::number;
use super::verbs::{Specification, Verb};
use super::{KEY_BYTES_MAX, OPAQUE_BYTES_MAX};

/// From so many tokens on 1.6.18 says that there are too many flags; 1.6.45
/// takes one more (`MFLAG_MAX_OPT_LENGTH`).
pub const TOKENS_REFUSED: usize = 20;

/// The flags that are known of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    seen: u128,
    /// Whether a version of memcached takes them all.
    pub valid: bool,
    /// The mode that flag `M` asks for.
    pub mode: Option<u8>,
    /// Whether the opaque token is too long to be given back.
    pub is_opaque_too_long: bool,
}

impl Flags {
    /// Looks at all `flags` of a command. `F` is checked as a number; so are
    /// the others that are numbers.
    pub fn of(flags: &[&[u8]]) -> Flags {
        let mut found = Flags {
            seen: 0,
            valid: true,
            mode: None,
            is_opaque_too_long: false,
        };
        for flag in flags {
            found.add(flag);
        }
        found
    }

    fn add(&mut self, flag: &[u8]) {
        let Some((&letter, argument)) = flag.split_first() else {
            return;
        };
        if letter >= 127 || self.has(letter) {
            self.valid = false;
            return;
        }
        self.seen |= 1 << letter;
        self.valid &= match letter {
            b'N' | b'T' | b'R' => time(argument).is_some(),
            b'F' | b'C' | b'E' | b'J' | b'D' => number::lenient_unsigned(argument).is_some(),
            b'M' => {
                self.mode = argument.first().copied();
                self.mode.is_some()
            }
            b'O' => {
                self.is_opaque_too_long = flag.len() > OPAQUE_BYTES_MAX;
                true
            }
            b'b' | b'c' | b'f' | b'h' | b'k' | b'l' | b'q' | b's' | b't' | b'u' | b'v' | b'x'
            | b'I' | b'L' | b'P' => true,
            _ => false,
        };
    }

    /// Whether there is a flag of that letter.
    #[inline]
    pub fn has(&self, letter: u8) -> bool {
        letter < 128 && self.seen & 1 << letter != 0
    }
}

/// A time to live as one version or the other reads it.
pub fn time(argument: &[u8]) -> Option<i32> {
    // 1.6.45 takes a lone minus sign for zero.
    if argument == b"-" {
        return Some(0);
    }
    number::lenient_cut(argument)
}

/// What a meta command other than `ms` is.
pub fn judge(name: u8, tokens: &Tokens<'_>) -> (Specification, bool) {
    let invalid = |verb: Verb| (Specification::new(verb), false);
    if name == b'n' {
        return (Specification::new(Verb::MetaNoop), true);
    }
    let verb = match name {
        b'g' => Verb::MetaGet,
        b'd' => Verb::MetaDelete,
        b'a' => Verb::MetaArithmetic,
        b'e' => return debug(tokens),
        _ => return invalid(Verb::LocalUnknown),
    };
    let Some(written) = tokens.key(1) else {
        return invalid(verb);
    };
    if tokens.count() >= TOKENS_REFUSED {
        return invalid(Verb::LocalTooManyFlags);
    }
    let flags = Flags::of(&tokens.all()[2..]);
    if !flags.valid {
        return invalid(verb);
    }
    let key = Key {
        written,
        is_base64: flags.has(b'b'),
    };
    let mut buffer = [0; KEY_BYTES_MAX];
    let Some(stored) = key.stored(&mut buffer) else {
        return invalid(verb);
    };
    // `ma` is done before its opaque token is found to be too long: it changes
    // the number and answers with an error.
    if flags.is_opaque_too_long {
        return invalid(Verb::LocalOpaqueTooLong);
    }
    let verb = match verb {
        Verb::MetaGet => get(&flags, stored),
        Verb::MetaDelete if [b'C', b'I', b'x'].iter().any(|flag| flags.has(*flag)) => {
            Verb::MetaDeleteConditional
        }
        Verb::MetaArithmetic if !matches!(flags.mode, None | Some(b'I' | b'D' | b'+' | b'-')) => {
            return invalid(verb);
        }
        other => other,
    };
    let quiet = flags.has(b'q');
    let specification = Specification::new(verb)
        .with_quiet(quiet)
        .with_rewritten(quiet);
    (specification, true)
}

/// `mg` by its flags. A key that was stored by a packet is given back as it is,
/// though it was asked for in base64: with an end of line in it, it would end
/// the reply.
fn get(flags: &Flags, stored: &[u8]) -> Verb {
    let changes = flags.has(b'N') || flags.has(b'T');
    let alone = flags.has(b'b') && flags.has(b'k') && stored.contains(&b'\n');
    match (alone, changes) {
        (true, true) => Verb::LocalBadFormat,
        (true, false) => Verb::MetaGetAlone,
        (false, true) if flags.has(b'N') => Verb::MetaGetVivify,
        (false, true) => Verb::MetaGetTouch,
        (false, false) => Verb::MetaGet,
    }
}

fn debug(tokens: &Tokens<'_>) -> (Specification, bool) {
    let verb = if tokens.more {
        Verb::LocalTooManyFlags
    } else {
        Verb::MetaDebug
    };
    let Some(written) = tokens.key(1) else {
        return (Specification::new(verb), true);
    };
    let key = Key {
        written,
        is_base64: tokens.get(2) == Some(b"b"),
    };
    let mut buffer = [0; KEY_BYTES_MAX];
    let alone = key
        .stored(&mut buffer)
        .is_some_and(|key| key.contains(&b'\n'));
    let verb = if alone && verb == Verb::MetaDebug {
        Verb::MetaDebugAlone
    } else {
        verb
    };
    (Specification::new(verb), true)
}

/// What `ms` is, its length being right; the flag tells whether it may change
/// anything.
pub fn judge_set(tokens: &Tokens<'_>) -> (Specification, bool) {
    let flags = Flags::of(&tokens.all()[3..]);
    let key = Key {
        written: tokens.get(1).unwrap_or_default(),
        is_base64: flags.has(b'b'),
    };
    let is_mode = matches!(flags.mode, None | Some(b'E' | b'A' | b'P' | b'R' | b'S'));
    let mut buffer = [0; KEY_BYTES_MAX];
    let valid = flags.valid && is_mode && key.stored(&mut buffer).is_some();
    let overwrites = matches!(flags.mode, None | Some(b'S')) && !flags.has(b'C');
    let verb = if overwrites {
        Verb::MetaSet
    } else {
        Verb::MetaSetConditional
    };
    let quiet = flags.valid && flags.has(b'q');
    let specification = Specification::new(verb)
        .with_quiet(quiet)
        .with_rewritten(quiet);
    (specification, valid && !flags.is_opaque_too_long)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_make_the_verb() {
        let check = |line: &str, verb: Verb, valid: bool, quiet: bool| {
            let tokens = Tokens::new(line.as_bytes());
            let (specification, changes) = match line.as_bytes()[1] {
                b's' => judge_set(&tokens),
                name => judge(name, &tokens),
            };
            assert_eq!(
                specification.row().map(|row| row.verb),
                Some(verb),
                "{line}"
            );
            assert_eq!(changes, valid, "{line}");
            assert_eq!(specification.is_quiet(), quiet, "{line}");
            assert_eq!(specification.is_rewritten(), quiet, "{line}");
        };
        check("mg k", Verb::MetaGet, true, false);
        check("mg k v q", Verb::MetaGet, true, true);
        check("mg k v T30", Verb::MetaGetTouch, true, false);
        check("mg k v N30 T30", Verb::MetaGetVivify, true, false);
        check("mg k Tx", Verb::MetaGet, false, false);
        check("mg k q q", Verb::MetaGet, false, false);
        check("mg k b k", Verb::MetaGet, false, false);
        check("mg Cg== b k", Verb::MetaGetAlone, true, false);
        check("mg Cg== b", Verb::MetaGet, true, false);
        check("mg Cg== b k T1", Verb::LocalBadFormat, true, false);
        check("mg", Verb::MetaGet, false, false);
        check("mn", Verb::MetaNoop, true, false);
        check("me Cg== b", Verb::MetaDebugAlone, true, false);
        check("me k", Verb::MetaDebug, true, false);
        check("md k", Verb::MetaDelete, true, false);
        check("md k C1 q", Verb::MetaDeleteConditional, true, true);
        check("md k I T30", Verb::MetaDeleteConditional, true, false);
        check("ma k MX", Verb::MetaArithmetic, false, false);
        check("ma k M- D5 q", Verb::MetaArithmetic, true, true);
        check("ms k 2", Verb::MetaSet, true, false);
        check("ms k 2 MS T30 F5", Verb::MetaSet, true, false);
        check("ms k 2 C5", Verb::MetaSetConditional, true, false);
        check("ms k 2 MA", Verb::MetaSetConditional, true, false);
        check("ms k 2 MX", Verb::MetaSetConditional, false, false);
        check("ms k 2 Fx q", Verb::MetaSet, false, false);
        let long = format!("ma k O{}", "x".repeat(OPAQUE_BYTES_MAX));
        check(&long, Verb::LocalOpaqueTooLong, false, false);
        let many = "mg k v s t c f h l u a b d e g i j m n";
        check(many, Verb::MetaGet, false, false);
        check(&format!("{many} o"), Verb::LocalTooManyFlags, false, false);
    }
}
