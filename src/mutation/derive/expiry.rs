//! Times to live as commands give them, and as the journal keeps them.

use super::super::number::parse_integer;

/// When a value expires, as an option of SET and its relatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mutation) enum Expiry {
    /// `EX`, `PX`, `EXAT`, `PXAT`: milliseconds since the Unix epoch.
    At(i64),
    /// `KEEPTTL`: what the key had.
    Keep,
    /// `PERSIST`: none (GETEX and HGETEX).
    Persist,
}

/// Collects the expiry options of a command, of which there may be one kind.
#[derive(Debug, Default)]
pub(in crate::mutation) struct ExpiryOption {
    /// The option's name in the table below, to tell kinds apart.
    kind: Option<&'static str>,
    pub(in crate::mutation) expiry: Option<Expiry>,
}

/// Name, milliseconds in a unit, whether counted from now.
const TIMED: [(&str, i64, bool); 4] = [
    ("EX", 1000, true),
    ("PX", 1, true),
    ("EXAT", 1000, false),
    ("PXAT", 1, false),
];

impl ExpiryOption {
    /// Takes the option at the start of `options`: how many arguments it has,
    /// its name included, 0 where it is none. `None` where it is invalid. The
    /// datastore lets the same option come twice; the last one counts.
    pub(in crate::mutation) fn take(&mut self, options: &[&[u8]], now: i64) -> Option<usize> {
        let Some((name, rest)) = options.split_first() else {
            return Some(0);
        };
        for (option, unit, relative) in TIMED {
            if name.eq_ignore_ascii_case(option.as_bytes()) {
                self.of_kind(option)?;
                let amount = parse_integer(rest.first()?)?;
                let at = absolute(amount, unit, if relative { now } else { 0 })?;
                if amount <= 0 {
                    return None;
                }
                self.expiry = Some(Expiry::At(at));
                return Some(2);
            }
        }
        for (option, expiry) in [("KEEPTTL", Expiry::Keep), ("PERSIST", Expiry::Persist)] {
            if name.eq_ignore_ascii_case(option.as_bytes()) {
                self.of_kind(option)?;
                self.expiry = Some(expiry);
                return Some(1);
            }
        }
        Some(0)
    }

    fn of_kind(&mut self, kind: &'static str) -> Option<()> {
        let first = *self.kind.get_or_insert(kind);
        (first == kind).then_some(())
    }
}

/// `amount` units of `unit` milliseconds after `base`; `None` on overflow.
pub(super) fn absolute(amount: i64, unit: i64, base: i64) -> Option<i64> {
    amount.checked_mul(unit)?.checked_add(base)
}

/// When `EXPIRE`, `PEXPIRE`, `EXPIREAT` and `PEXPIREAT` (and the same of hash
/// fields, with an `H` before the name) say the second argument is due. May be
/// negative: the datastore takes that as long past.
pub(in crate::mutation) fn expire_at(arguments: &[&[u8]], now: i64) -> Option<i64> {
    let name = *arguments.first()?;
    let name = match name.split_first() {
        Some((b'h' | b'H', rest)) => rest,
        _ => name,
    };
    let unit = match name.first()? {
        b'p' | b'P' => 1,
        _ => 1000,
    };
    let is_absolute = name.len() > 2 && name[name.len() - 2..].eq_ignore_ascii_case(b"AT");
    let amount = parse_integer(arguments.get(2)?)?;
    absolute(amount, unit, if is_absolute { 0 } else { now })
}
