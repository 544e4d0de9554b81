//! Any bytes as a datastore's replies: however they are split they give the
//! same replies, and where redis-protocol finds a reply too it is as long.
//!
//! The first four bytes choose where the bytes are split.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_protocol::resp3::decode::complete::decode;
use wal_sidecar::protocol::resp::replies::{ReplyFrame, ReplyScanner, first_element, subscription};

const SPLITS: usize = 4;

fuzz_target!(|data: &[u8]| {
    let Some((head, bytes)) = data.split_at_checked(SPLITS) else {
        return;
    };
    let mut splits = [0; SPLITS];
    for (split, byte) in splits.iter_mut().zip(head) {
        *split = usize::from(*byte).min(bytes.len());
    }
    splits.sort_unstable();

    let whole = scan(bytes, &[]);
    assert_eq!(scan(bytes, &splits), whole);
    let every: Vec<usize> = (0..bytes.len().min(128)).collect();
    assert_eq!(scan(bytes, &every), whole);

    let mut at = 0;
    for frame in &whole.0 {
        let reply = &bytes[at..at + frame.end];
        at += frame.end;
        first_element(reply);
        subscription(reply);
        check_length(reply);
    }
    first_element(bytes);
    subscription(bytes);
});

type Scanned = (Vec<ReplyFrame>, Option<&'static str>, usize);

fn scan(bytes: &[u8], ends: &[usize]) -> Scanned {
    let mut scanner = ReplyScanner::default();
    let mut frames = Vec::new();
    let mut at = 0;
    // How far the bytes have to reach at least before the reply is complete.
    let mut earliest = 0;
    for end in ends.iter().copied().chain([bytes.len()]) {
        loop {
            match scanner.next(&bytes[at..end]) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    assert!(frame.end > 0);
                    at += frame.end;
                    assert!(at <= end && earliest <= at);
                    frames.push(frame);
                    earliest = 0;
                }
                Err(error) => return (frames, Some(error.0), 0),
            }
        }
        assert!(scanner.needed() > 0);
        earliest = end + scanner.needed();
    }
    (frames, None, scanner.needed())
}

/// The oracle reads numbers more and lines less strictly, and it recurses and
/// reserves, so it is asked only for what it surely takes.
fn check_length(reply: &[u8]) {
    const AGGREGATES_MAX: usize = 32;
    let aggregates = reply.iter().filter(|byte| b"*%~>|".contains(byte)).count();
    if aggregates > AGGREGATES_MAX {
        return;
    }
    if let Ok(Some((_, length))) = decode(reply) {
        assert_eq!(length, reply.len());
    }
}
