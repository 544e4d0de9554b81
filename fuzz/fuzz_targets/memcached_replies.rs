//! Any bytes as a server's replies, see `tests/memcached/frames.rs`.
//!
//! The first byte chooses the command that is answered, the next four where the
//! others are cut.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the other target uses the rest")]
#[path = "../../tests/memcached/frames.rs"]
mod frames;

const CUTS: usize = 4;

fuzz_target!(|data: &[u8]| {
    let Some((head, bytes)) = data.split_at_checked(1 + CUTS) else {
        return;
    };
    let mut ends: Vec<usize> = head[1..].iter().map(|end| usize::from(*end).min(bytes.len())).collect();
    ends.sort_unstable();
    frames::check_replies(head[0], bytes, &ends);
    let every: Vec<usize> = (0..bytes.len().min(128)).collect();
    frames::check_replies(head[0], bytes, &every);
});
