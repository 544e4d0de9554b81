//! Command names, folded to upper case and compared as words.

/// The longest name that is compared as words; longer ones take a slow path.
/// The longest one known is `CANCELSLOTMIGRATIONS`, 20 bytes.
pub(super) const LONGEST_FOLDED: usize = 32;

/// A name in upper case, padded with zeros. Two names are equal only if their
/// lengths are as well, so a name with trailing zero bytes is another one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    words: [u64; 4],
    length: u8,
}

impl PartialEq for Name {
    /// Without a branch or a call per word, which the derived one has.
    #[inline]
    fn eq(&self, other: &Name) -> bool {
        let [a, b, c, d] = self.words;
        let [e, f, g, h] = other.words;
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) | u64::from(self.length ^ other.length) == 0
    }
}

impl Name {
    /// What no name is equal to.
    pub(super) const NONE: Name = Name {
        words: [0; 4],
        length: 0,
    };

    /// Folds the name from `start` to `end` in `command`; as [`Name::fold`],
    /// and faster where other bytes follow it, as they nearly always do.
    #[inline]
    pub(super) fn fold_within(command: &[u8], start: usize, end: usize) -> Option<Name> {
        let length = end.wrapping_sub(start);
        if let Some(bytes) = command.get(start..).and_then(<[u8]>::first_chunk::<8>)
            && (1..=8).contains(&length)
        {
            let word = u64::from_le_bytes(*bytes) & (u64::MAX >> (64 - length * 8));
            return Some(Name {
                words: [upper(word), 0, 0, 0],
                length: length as u8,
            });
        }
        Name::fold(command.get(start..end)?)
    }

    /// Folds `name`; `None` where it is empty or over [`LONGEST_FOLDED`] bytes.
    #[inline]
    pub(super) fn fold(name: &[u8]) -> Option<Name> {
        let length = name.len();
        let words = match length {
            1..=8 => [upper(short(name)), 0, 0, 0],
            9..=16 => {
                // The last eight bytes overlap the first eight; shifting the
                // overlap out leaves the rest, padded with zeros.
                let high = word(name, length - 8) >> ((16 - length) * 8);
                [upper(word(name, 0)), upper(high), 0, 0]
            }
            17..=LONGEST_FOLDED => {
                let mut padded = [0; LONGEST_FOLDED];
                padded[..length].copy_from_slice(name);
                [0, 8, 16, 24].map(|at| upper(word(&padded, at)))
            }
            _ => return None,
        };
        Some(Name {
            words,
            length: length as u8,
        })
    }

    /// A cheap hash, its best bits at the top. `parent` is the container a
    /// subcommand's name belongs to.
    #[inline]
    pub(super) fn hash(&self, parent: u16) -> u64 {
        let [a, b, c, d] = self.words;
        let mixed = a ^ b.rotate_left(23) ^ c.rotate_left(41) ^ d.rotate_left(11);
        (mixed ^ u64::from(parent).rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

/// Eight bytes of `bytes` from `at`, the first one lowest.
#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// One to eight bytes, the first one lowest, without a copy of variable length.
#[inline]
fn short(bytes: &[u8]) -> u64 {
    let length = bytes.len();
    if length == 8 {
        return word(bytes, 0);
    }
    if length >= 4 {
        let half = |at: usize| {
            u64::from(u32::from_le_bytes(
                bytes[at..at + 4].try_into().expect("four bytes"),
            ))
        };
        return half(0) | half(length - 4) << ((length - 4) * 8);
    }
    let byte = |at: usize| u64::from(bytes[at]) << (at * 8);
    byte(0) | byte(length / 2) | byte(length - 1)
}

/// Clears bit 5 of every byte that is an ASCII lower-case letter.
#[inline]
fn upper(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES * 0x80;
    let low = word & !HIGH;
    // The high bit of a byte is set where its low seven bits reach the bound.
    let from_a = low + ONES * (0x80 - b'a' as u64);
    let above_z = low + ONES * (0x7f - b'z' as u64);
    let lower = !word & (from_a ^ above_z) & HIGH;
    word ^ (lower >> 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fold_as_ascii_upper_case_does() {
        let alphabet: Vec<u8> = (0..=255).collect();
        for length in 1..=LONGEST_FOLDED {
            for (start, window) in alphabet.windows(length).enumerate() {
                let folded = Name::fold(window).expect("short enough");
                let within = Name::fold_within(&alphabet, start, start + length);
                assert_eq!(within, Some(folded));
                let mut padded = window.to_ascii_uppercase();
                padded.resize(LONGEST_FOLDED, 0);
                let words = [0, 8, 16, 24].map(|at| word(&padded, at));
                assert_eq!(folded.words, words, "{window:?}");
                assert_eq!(usize::from(folded.length), length);
            }
        }
        assert_eq!(Name::fold(b""), None);
        assert_eq!(Name::fold_within(b"12345678", 0, 0), None);
        assert_eq!(Name::fold_within(b"12345678", 4, 2), None);
        assert_eq!(Name::fold_within(b"12345678", 9, 12), None);
        assert_eq!(Name::fold(&[b'A'; LONGEST_FOLDED + 1]), None);
        assert_ne!(Name::fold(b"GET"), Name::fold(b"GET\0"));
    }
}
