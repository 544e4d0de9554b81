//! Flags, then configuration, then the program; no logic of its own.

use std::process::ExitCode;

/// Many small buffers come and go on few threads, which it is fast at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator's first pages would each be a huge one: 10 MiB for a
    // process that needs 2. Where the kernel has no such switch nothing is lost.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    wal_sidecar::cli::main()
}
