//! How fast one region's writes come to the other. Printed only.

use std::time::{Duration, Instant};

use super::regions::{do_at, expect, regions};
use super::support::until;

const COMMANDS: usize = 100_000;
const DEADLINE: Duration = Duration::from_secs(20);

#[test]
#[ignore = "measures; run it alone"]
fn throughput_is_printed() {
    let (eu, us) = regions(1, 1);
    for size in [100, 1000] {
        let value = "x".repeat(size);
        let mut client = us.sidecar.memcache();
        let begin = Instant::now();
        for part in 0..COMMANDS / 100 {
            let key = |index| part * 100 + index;
            let sets = (0..100).map(|i| format!("set k:{} 0 0 {size}\r\n{value}\r\n", key(i)));
            let reply = client.lines(sets.collect::<String>().as_bytes());
            assert!(reply.starts_with(b"STORED"));
        }
        let written = begin.elapsed();
        let last = format!("k:{}", COMMANDS - 1);
        let expected = format!("VA {size} f0\r\n{value}\r\n");
        expect(&eu, &last, &expected);
        let applied = begin.elapsed();
        println!("{COMMANDS} sets of {size} bytes: written in {written:?}, applied in {applied:?}");
    }
    until("the lag to be small", DEADLINE, || {
        let lag = eu.sidecar.metric("wal_sidecar_replication_lag_records", "");
        (lag == 0.0).then_some(())
    });
    let mut times: Vec<Duration> = (0..200)
        .map(|round| {
            do_at(
                &us,
                &format!("set one 0 0 3\r\n{:03}\r\n", round),
                "STORED\r\n",
            );
            let begin = Instant::now();
            expect(&eu, "one", &format!("VA 3 f0\r\n{round:03}\r\n"));
            begin.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "one set, applied after it was answered: median {:?}, 99 % {:?}",
        times[100], times[198]
    );
}
