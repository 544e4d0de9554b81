//! Which keys are replicated, and how.

use std::time::Duration;

/// What becomes of other regions' changes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// They are made here, too.
    Value,
    /// The key is deleted here.
    Invalidate,
    /// Nothing.
    Off,
}

/// What counts for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPolicy {
    /// How it is replicated.
    pub mode: Mode,
    /// Values with a shorter time to live are not.
    pub ttl_min: Duration,
}

impl KeyPolicy {
    const PLAIN: KeyPolicy = KeyPolicy {
        mode: Mode::Value,
        ttl_min: Duration::ZERO,
    };
}

/// What counts for the keys of a namespace; a reload replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    default: KeyPolicy,
    /// Longest prefix first.
    prefixes: Vec<(Vec<u8>, KeyPolicy)>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy::new(KeyPolicy::PLAIN, Vec::new())
    }
}

impl Policy {
    /// `default` for all keys but those that start with one of `prefixes`; the
    /// longest that fits counts.
    pub fn new(default: KeyPolicy, mut prefixes: Vec<(Vec<u8>, KeyPolicy)>) -> Policy {
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Policy { default, prefixes }
    }

    /// Whether all keys are replicated as they are.
    pub fn is_plain(&self) -> bool {
        self.default == KeyPolicy::PLAIN && self.prefixes.is_empty()
    }

    /// What counts for a key.
    pub fn of(&self, key: &[u8]) -> KeyPolicy {
        let fits = |(prefix, _): &&(Vec<u8>, KeyPolicy)| key.starts_with(prefix);
        let found = self.prefixes.iter().find(fits);
        found.map_or(self.default, |(_, policy)| *policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_counts() {
        let mode = |mode| KeyPolicy {
            mode,
            ..KeyPolicy::PLAIN
        };
        let prefixes = vec![
            (b"a".to_vec(), mode(Mode::Off)),
            (b"a:b".to_vec(), mode(Mode::Invalidate)),
        ];
        let policy = Policy::new(KeyPolicy::PLAIN, prefixes);
        assert!(!policy.is_plain() && Policy::default().is_plain());
        assert_eq!(policy.of(b"a:b:c").mode, Mode::Invalidate);
        assert_eq!(policy.of(b"a:c").mode, Mode::Off);
        assert_eq!(policy.of(b"b").mode, Mode::Value);
    }
}
