//! Any bytes as a client's commands, see `tests/memcached/frames.rs`.
//!
//! The first four bytes choose where the others are cut.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the other target uses the rest")]
#[path = "../../tests/memcached/frames.rs"]
mod frames;

const CUTS: usize = 4;

fuzz_target!(|data: &[u8]| {
    let Some((head, bytes)) = data.split_at_checked(CUTS) else {
        return;
    };
    let mut ends: Vec<usize> = head.iter().map(|end| usize::from(*end).min(bytes.len())).collect();
    ends.sort_unstable();
    frames::check_commands(bytes, &ends);
    let every: Vec<usize> = (0..bytes.len().min(128)).collect();
    frames::check_commands(bytes, &every);
});
