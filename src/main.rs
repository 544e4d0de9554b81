//! Flags, then configuration, then the program; no logic of its own.

use std::process::ExitCode;

/// Many small buffers come and go on few threads, which it is fast at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    wal_sidecar::cli::main()
}
