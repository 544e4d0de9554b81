//! What is promised for which keys.

/// How far a mutation's record must be before it is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Not journaled.
    Off,
    /// Handed to the journal; forwarded without waiting.
    Enqueued,
    /// Durable.
    Durable,
}

/// What happens to a mutation that the journal does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnUnavailable {
    /// Forwarded without a record, and counted.
    Bypass,
    /// Answered with NOTJOURNALED.
    Reject,
}

/// What is promised for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPolicy {
    /// How far a record must be.
    pub durability: Durability,
    /// What happens if it can't be.
    pub on_unavailable: OnUnavailable,
}

/// The policies of one namespace; a reload replaces them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    default: KeyPolicy,
    /// Longest prefix first.
    prefixes: Vec<(Vec<u8>, KeyPolicy)>,
}

impl Policy {
    /// `default` for all keys but those that start with one of `prefixes`; the
    /// longest that fits counts.
    pub fn new(default: KeyPolicy, mut prefixes: Vec<(Vec<u8>, KeyPolicy)>) -> Policy {
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Policy { default, prefixes }
    }

    /// The strictest policy of a command's keys: a command is journaled whole
    /// or not at all.
    pub fn of<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> KeyPolicy {
        if self.prefixes.is_empty() {
            return self.default;
        }
        keys.map(|key| self.of_key(key))
            .max()
            .unwrap_or(self.default)
    }

    /// Whether there are keys whose mutations are refused while the journal takes
    /// none.
    pub fn refuses(&self) -> bool {
        let all = self.prefixes.iter().map(|(_, policy)| policy);
        all.chain([&self.default]).any(|policy| {
            policy.durability != Durability::Off && policy.on_unavailable == OnUnavailable::Reject
        })
    }

    fn of_key(&self, key: &[u8]) -> KeyPolicy {
        self.prefixes
            .iter()
            .find(|(prefix, _)| key.starts_with(prefix))
            .map_or(self.default, |(_, policy)| *policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_prefix_then_strictest_key() {
        let policy = |durability| KeyPolicy {
            durability,
            on_unavailable: OnUnavailable::Reject,
        };
        let all = Policy::new(
            policy(Durability::Durable),
            vec![
                (b"tmp:".to_vec(), policy(Durability::Off)),
                (b"tmp:kept:".to_vec(), policy(Durability::Enqueued)),
            ],
        );
        let check = |keys: &[&[u8]], expected| {
            assert_eq!(
                all.of(keys.iter().copied()).durability,
                expected,
                "{keys:?}"
            );
        };
        check(&[b"a"], Durability::Durable);
        check(&[b"tmp:a"], Durability::Off);
        check(&[b"tmp:kept:a"], Durability::Enqueued);
        check(&[b"tmp:a", b"tmp:kept:a"], Durability::Enqueued);
        check(&[b"tmp:a", b"a"], Durability::Durable);
        check(&[], Durability::Durable);
    }

    #[test]
    fn some_policies_refuse_nothing() {
        use Durability::{Durable, Enqueued, Off};
        use OnUnavailable::{Bypass, Reject};
        let policy = |durability, on_unavailable| KeyPolicy {
            durability,
            on_unavailable,
        };
        for (default, prefix, expected) in [
            (policy(Durable, Reject), None, true),
            (policy(Enqueued, Reject), None, true),
            (policy(Durable, Bypass), None, false),
            (policy(Off, Reject), None, false),
            (policy(Off, Reject), Some(policy(Durable, Bypass)), false),
            (policy(Off, Reject), Some(policy(Enqueued, Reject)), true),
        ] {
            let prefixes = prefix.map(|policy| (b"a:".to_vec(), policy));
            let all = Policy::new(default, prefixes.into_iter().collect());
            assert_eq!(all.refuses(), expected, "{default:?} {prefix:?}");
        }
    }
}
