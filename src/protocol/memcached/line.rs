//! A command line: where it ends and which tokens it has.

use super::KEY_BYTES_MAX;

/// The most tokens that memcached splits a line into at once, the closing one
/// not counted (`MAX_TOKENS`). Only the keys of a get may be more.
pub const TOKENS_MAX: usize = 23;

/// The last token of a classic command that is not to be answered.
pub const NOREPLY: &[u8] = b"noreply";

/// The line without its end, as all versions see it: `\n`, or `\r\n` unless
/// nothing comes before it.
pub fn without_end(line: &[u8]) -> &[u8] {
    let Some(line) = line.strip_suffix(b"\n") else {
        return line;
    };
    match line.strip_suffix(b"\r") {
        Some(rest) if !rest.is_empty() => rest,
        _ => line,
    }
}

/// The tokens of a line: what is between spaces. Other white space is part of
/// a token.
#[derive(Debug, Clone)]
pub struct Words<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Words<'a> {
    /// The tokens of `line`, which has no end of line.
    #[inline]
    pub fn new(line: &'a [u8]) -> Words<'a> {
        Words { line, at: 0 }
    }

    /// The next token with where it starts in the line.
    #[inline]
    pub fn next_at(&mut self) -> Option<(usize, &'a [u8])> {
        while *self.line.get(self.at)? == b' ' {
            self.at += 1;
        }
        let start = self.at;
        while self.line.get(self.at).is_some_and(|byte| *byte != b' ') {
            self.at += 1;
        }
        Some((start, &self.line[start..self.at]))
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.next_at().map(|(_, word)| word)
    }
}

/// The first tokens of a line, on the stack.
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    words: [&'a [u8]; TOKENS_MAX],
    count: usize,
    /// Whether there are more than [`TOKENS_MAX`].
    pub more: bool,
}

impl<'a> Tokens<'a> {
    /// Splits `line`, which has no end of line.
    #[inline]
    pub fn new(line: &'a [u8]) -> Tokens<'a> {
        let mut words = Words::new(line);
        let mut tokens = Tokens {
            words: [&[]; TOKENS_MAX],
            count: 0,
            more: false,
        };
        for word in &mut words {
            if tokens.count == TOKENS_MAX {
                tokens.more = true;
                break;
            }
            tokens.words[tokens.count] = word;
            tokens.count += 1;
        }
        tokens
    }

    /// All of them.
    #[inline]
    pub fn all(&self) -> &[&'a [u8]] {
        &self.words[..self.count]
    }

    /// Token `index`.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.all().get(index).copied()
    }

    /// Token `index` where it can be a key.
    #[inline]
    pub fn key(&self, index: usize) -> Option<&'a [u8]> {
        self.get(index).filter(|key| key.len() <= KEY_BYTES_MAX)
    }

    /// How many there are, [`TOKENS_MAX`] at most.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether the last one is `noreply`.
    #[inline]
    pub fn ends_with_noreply(&self) -> bool {
        self.all().last().is_some_and(|word| *word == NOREPLY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_memcached_ends_them() {
        let check = |line: &[u8], expected: &[u8]| assert_eq!(without_end(line), expected);
        check(b"get a\r\n", b"get a");
        check(b"get a\n", b"get a");
        check(b"get a\r\r\n", b"get a\r");
        check(b"\r\n", b"\r");
        check(b"\n", b"");
        check(b"get a", b"get a");
    }

    #[test]
    fn tokens_are_what_is_between_spaces() {
        let check = |line: &[u8], expected: &[&[u8]]| {
            let tokens = Tokens::new(line);
            assert_eq!(tokens.all(), expected);
            assert!(!tokens.more);
        };
        check(b"", &[]);
        check(b"   ", &[]);
        check(b"a", &[b"a"]);
        check(b"  a  b\tc ", &[b"a", b"b\tc"]);
        let many = b"x ".repeat(TOKENS_MAX);
        assert!(!Tokens::new(&many).more);
        let many = b"x ".repeat(TOKENS_MAX + 1);
        let tokens = Tokens::new(&many);
        assert!(tokens.more);
        assert_eq!(tokens.count(), TOKENS_MAX);
    }
}
