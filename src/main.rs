//! Flags, then configuration, then the program; no logic of its own.

use std::io::Write;
use std::process::ExitCode;

/// Many small buffers come and go on few threads, which it is fast at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // The allocator's first pages would each be a huge one: 10 MiB for a
    // process that needs 2. Where the kernel has no such switch nothing is lost.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    end(wal_sidecar::cli::main())
}

/// Leaves out what libraries do when a process exits. A Kafka client is closed in the
/// background, as that may wait for its brokers; if OpenSSL cleaned up meanwhile, it
/// would crash.
#[allow(unsafe_code)]
fn end(code: ExitCode) -> ! {
    // Who does not read any more has to be told nothing.
    let _ = std::io::stdout().flush();
    let mut numbers = 0..=u8::MAX;
    let number = numbers.find(|number| ExitCode::from(*number) == code);
    // SAFETY: it takes a number, and does not return.
    unsafe { libc::_exit(number.unwrap_or(1).into()) }
}
