//! What a reader shows to be let in.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use subtle::ConstantTimeEq;

/// A shared secret; never shown.
#[derive(Clone)]
pub struct Token(Arc<[u8]>);

impl Token {
    /// Of a text.
    pub fn new(text: &str) -> Token {
        Token(text.as_bytes().into())
    }

    /// Whether it is the same. The time it takes tells no more than the length.
    pub(super) fn matches(&self, shown: &[u8]) -> bool {
        self.0.ct_eq(shown).into()
    }

    pub(super) fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_matches_and_nothing_is_shown() {
        let token = Token::new("hush");
        for (shown, expected) in [("hush", true), ("husk", false), ("hus", false), ("", false)] {
            assert_eq!(token.matches(shown.as_bytes()), expected, "{shown}");
        }
        assert_eq!(format!("{token:?}"), "<redacted>");
    }
}
