//! Random numbers that print their seed, so that a failing run can be repeated.

use std::time::{SystemTime, UNIX_EPOCH};

/// The environment variable that repeats a run.
const SEED_VARIABLE: &str = "SIDECAR_TEST_SEED";

/// A splitmix64 generator: small, and the same on every machine and version.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Takes its seed from `SIDECAR_TEST_SEED`, else from the clock, and
    /// prints it: the test runner shows it where the test fails.
    pub fn from_environment() -> Random {
        let seed = match std::env::var(SEED_VARIABLE) {
            Ok(text) => text
                .parse()
                .unwrap_or_else(|_| panic!("{SEED_VARIABLE} is not a number: {text:?}")),
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .expect("the clock is past 1970")
                .as_nanos() as u64,
        };
        println!("seed: repeat with {SEED_VARIABLE}={seed}");
        Random::new(seed)
    }

    /// Starts from a given seed.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        assert!(limit > 0, "nothing is below 0");
        (self.next() % limit as u64) as usize
    }

    /// One of `items`.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// `length` random bytes, CR, LF and NUL among them.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}
