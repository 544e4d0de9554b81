//! Arguments and replies that make no sense.

use proptest::prelude::*;

use super::NOW;
use crate::mutation::{Journaled, resolve};
use crate::protocol::resp::commands::{Effect, Resolve};

const KINDS: [Resolve; 20] = [
    Resolve::Conditional,
    Resolve::Set,
    Resolve::Expire,
    Resolve::GetEx,
    Resolve::IncrByFloat,
    Resolve::HIncrByFloat,
    Resolve::SPop,
    Resolve::ZPop,
    Resolve::BlockingPop,
    Resolve::LMPop,
    Resolve::BlockingMove,
    Resolve::BlockingZPop,
    Resolve::ZMPop,
    Resolve::ZAddIncr,
    Resolve::ZIncrBy,
    Resolve::XAdd,
    Resolve::Migrate,
    Resolve::DeleteIf,
    Resolve::SnapshotUnlessNothing,
    Resolve::Flush,
];

/// Every kind has an outcome, whatever it is given.
fn survives(arguments: &[&[u8]], reply: &[u8]) {
    for kind in KINDS {
        let journaled = Journaled {
            effect: Effect::Resolved(kind),
            arguments,
            keys: &[],
            is_final: false,
            journaled_at_ms: NOW,
        };
        assert!(resolve(&journaled, reply).is_some(), "{kind:?}");
    }
}

#[test]
fn too_few_arguments_are_survived() {
    let command: Vec<&[u8]> = "BLMPOP 0 1 k LEFT COUNT 2"
        .split(' ')
        .map(str::as_bytes)
        .collect();
    for length in 0..command.len() {
        for reply in [
            "+OK\r\n",
            ":1\r\n",
            "*2\r\n$1\r\nk\r\n*1\r\n$1\r\nv\r\n",
            "*3\r\n+a\r\n+b\r\n+c\r\n",
            "%0\r\n",
            "",
        ] {
            survives(&command[..length], reply.as_bytes());
        }
    }
}

proptest! {
    #[test]
    fn any_arguments_and_reply_are_survived(
        arguments in prop::collection::vec("[A-Z0-9~=*]{0,6}|MAXLEN|COUNT|LEFT|[0-9]|EX|KEYS", 0..8),
        reply in "([-+:$*_#,(!=%~>|][-0-9a-z]{0,2}\r\n){0,6}",
        bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let arguments: Vec<&[u8]> = arguments.iter().map(String::as_bytes).collect();
        survives(&arguments, reply.as_bytes());
        survives(&arguments, &bytes);
    }
}
