//! What is lost, late or taken back is told and counted.

use super::*;
use crate::journal::JournalState;
use std::time::Duration;

#[test]
fn a_lost_outcome_is_told_again_but_not_in_a_loop() {
    on_worker(async {
        let worker = Worker::start(DURABLE, &[]);
        let mut pop = worker.connection().call(worker.batch(&["SPOP s"]));
        settle().await;
        worker.journal.set_state(JournalState::DiskFull);
        worker.datastore.answer(&["$1\r\nm"]);
        assert_eq!(lines(&mut pop), ["$1", "m"]);
        // The pump comes to rest each time, though there is something to tell.
        for _ in 0..3 {
            settle().await;
            worker.shared.heartbeat();
            assert!(!worker.shared.is_idle());
        }
        assert_eq!(worker.journaled(), ["SPOP s"]);
        worker.journal.set_state(JournalState::Accepting);
        settle().await;
        assert_eq!(worker.journaled(), ["SPOP s", "1 did SREM s m"]);
        assert!(worker.shared.is_idle());
    });
}

#[test]
fn times_to_live_that_begin_long_after_they_were_journaled_are_told() {
    on_worker(async {
        let worker = Worker::start(DURABLE, &[]);
        worker.journal.hold();
        let commands = [
            "SETEX a 100 v",
            "SET b 1",
            "EXPIRE c 50 NX",
            "PEXPIREAT d 9",
            "INCR e",
        ];
        let mut late = worker.connection().call(worker.batch(&commands));
        let mut transaction = worker
            .connection()
            .call(worker.transaction(&["INCR f", "EXPIRE f 5"]));
        // What the second of them does its reply does not tell.
        let partly_known = ["EXPIRE g 5", "EVAL x 1 h"];
        let mut partly = worker.connection().call(worker.transaction(&partly_known));
        tokio::time::sleep(Duration::from_millis(2_050)).await;
        worker.journal.release_all();
        settle().await;
        let mut soon = worker.connection().call(worker.batch(&["SETEX a 100 v"]));
        let mut partly_soon = worker.connection().call(worker.transaction(&partly_known));
        settle().await;
        worker.datastore.answer(&["+OK", "+OK", ":1", ":1", ":1"]);
        worker.datastore.answer(&["*2\r\n:1\r\n:1"]);
        worker.datastore.answer(&["*2\r\n:1\r\n:1"]);
        worker.datastore.answer(&["+OK"]);
        worker.datastore.answer(&["*2\r\n:1\r\n:1"]);
        assert_eq!(lines(&mut late).len(), 5);
        assert!(!is_pending(&mut transaction) && !is_pending(&mut partly));
        assert!(!is_pending(&mut soon) && !is_pending(&mut partly_soon));
        settle().await;
        let mut told = worker.journaled().split_off(9);
        let last = told.pop().expect("the last one's outcome");
        assert_eq!(told, ["1 unknown", "3 unknown", "6 unknown", "7 unknown"]);
        assert!(last.starts_with("9 did PEXPIREAT g "), "{last}");
        assert!(worker.shared.is_idle());
    });
}

#[test]
fn what_was_forwarded_before_its_record_was_lost_is_counted() {
    let enqueued = KeyPolicy {
        durability: Durability::Enqueued,
        ..DURABLE
    };
    on_worker(async {
        let worker = Worker::start(enqueued, &[]);
        let mut connection = worker.connection();
        let counts = || {
            (
                worker.metrics.journaled.get(),
                worker.metrics.bypassed.get(),
            )
        };
        let _kept = connection.call(worker.batch(&["SET a 1", "SET a 2"]));
        settle().await;
        assert_eq!(counts(), (2, 0));
        worker.journal.fail_next(not_appended());
        let _lost = connection.call(worker.batch(&["SET a 3", "SET a 4"]));
        settle().await;
        assert_eq!(counts(), (2, 2));
        worker.journal.fail_next(not_appended());
        let _refused = connection.call(worker.batch(&["SET a 5"]));
        settle().await;
        assert_eq!((counts(), worker.metrics.not_journaled.get()), ((2, 2), 1));
    });
}

#[test]
fn what_may_be_in_the_journal_and_was_not_forwarded_is_taken_back() {
    on_worker(async {
        let worker = Worker::start(DURABLE, &[]);
        worker
            .journal
            .fail_next(AppendError::Unknown("who knows".to_owned()));
        let exec = worker.transaction(&["GET a", "SET k 1"]);
        let _exec = worker.connection().call(exec);
        settle().await;
        let outcome = worker.kept().remove(0);
        assert_eq!(text(&outcome), "1 rejected");
        // Nothing covers the first one until it is declared.
        assert_eq!((outcome.sequence, outcome.settled_through), (2, 0));
        let Some(Body::Outcome(outcome)) = outcome.body else {
            panic!("an outcome");
        };
        assert_eq!(outcome.key, "k");
    });
}

#[test]
fn what_goes_on_without_its_client_counts_as_in_flight() {
    for is_forwarded in [false, true] {
        on_worker(async {
            let worker = Worker::start(DURABLE, &[]);
            worker.journal.hold();
            let mut future = worker.connection().call(worker.batch(&["SET k 1"]));
            settle().await;
            if is_forwarded {
                worker.journal.release_all();
                settle().await;
            }
            assert!(future.expire("late").failure.is_some());
            drop(future);
            assert_eq!(worker.in_flight.batches(), 1);
            worker.journal.release_all();
            settle().await;
            assert_eq!(worker.in_flight.batches(), 1);
            worker.datastore.answer(&["+OK"]);
            settle().await;
            assert_eq!(worker.in_flight.batches(), 0);
        });
    }
}

#[test]
fn a_transaction_may_select_another_database() {
    let check = |reply: &'static str, expected: &[&str]| {
        on_worker(async {
            let worker = Worker::start(DURABLE, &[]);
            let commands = ["SET a 1", "SELECT 9", "GET a", "SORT l", "SET b 2"];
            let exec = worker.transaction(&commands);
            let mut answer = worker.connection().call(exec);
            settle().await;
            worker.datastore.answer(&[reply]);
            assert!(!is_pending(&mut answer));
            settle().await;
            assert_eq!(worker.journaled(), expected);
        });
    };
    const RECORD: &str = "SET a 1 SELECT 9 SET b 2";
    check("*5\r\n+OK\r\n+OK\r\n$1\r\n1\r\n*0\r\n+OK", &[RECORD]);
    check(
        "*5\r\n+OK\r\n-ERR DB index is out of range\r\n$1\r\n1\r\n*0\r\n+OK",
        &[RECORD, "1 did SET a 1 SET b 2"],
    );
    check(
        "*5\r\n-ERR a\r\n+OK\r\n$1\r\n1\r\n*0\r\n+OK",
        &[RECORD, "1 did SELECT 9 SET b 2"],
    );
}

#[test]
fn a_command_that_is_too_long_fails_alone() {
    on_worker(async {
        let worker = Worker::start(DURABLE, &[]);
        worker.shared.state.borrow_mut().recorder.record_bytes_max = 300;
        let mut connection = worker.connection();
        let mut before = connection.call(worker.batch(&["SET a 1"]));
        let long = format!("SET b {}", "x".repeat(300));
        let mut refused = connection.call(worker.batch(&["SET c 1", &long, "GET a"]));
        let mut after = connection.call(worker.batch(&["SET d 1", "SET e 1", "SET f 1"]));
        let reason = "the command is too long for the journal";
        let not_journaled = format!("-NOTJOURNALED {reason}");
        let unavailable = format!("-UNAVAILABLE {reason}");
        assert_eq!(
            lines(&mut refused),
            [not_journaled.clone(), not_journaled, unavailable]
        );
        settle().await;
        worker.datastore.answer(&["+OK"]);
        worker.datastore.answer(&["+OK", "+OK", "+OK"]);
        assert_eq!(lines(&mut before), ["+OK"]);
        assert_eq!(lines(&mut after), ["+OK", "+OK", "+OK"]);
        let kept = ["SET a 1", "SET d 1", "SET e 1", "SET f 1"];
        assert_eq!(worker.datastore.sent(), kept);
        assert_eq!(worker.journaled(), kept);
    });
}

#[test]
fn a_transaction_that_was_not_discarded_ends_its_connection() {
    for (reply, is_over) in [("+OK", false), ("-NOPERM no", true)] {
        on_worker(async {
            let worker = Worker::start(DURABLE, &[]);
            worker.journal.fail_next(not_appended());
            let exec = worker.transaction(&["SET a 1"]);
            let mut future = worker.connection().call(exec);
            settle().await;
            worker.datastore.answer(&[reply]);
            let replies = answered(&mut future);
            assert_eq!(replies.bytes, "-NOTJOURNALED no space\r\n");
            assert_eq!(replies.failure.is_some(), is_over);
        });
    }
}

#[test]
fn each_batch_hears_of_its_own_records_and_what_is_missing_is_declared() {
    use crate::journal::Verdict::{Absent, Stored, Unknown};
    on_worker(async {
        let worker = Worker::start(DURABLE, &[]);
        let mut kept = worker.connection().call(worker.batch(&["SET a 1"]));
        let mut absent = worker.connection().call(worker.batch(&["SET b 1"]));
        let mut mixed = worker
            .connection()
            .call(worker.batch(&["SET c 1", "SET d 1"]));
        let error = AppendError::Unknown("some failed".to_owned());
        worker
            .journal
            .fail_some(error, vec![Stored, Absent, Stored, Unknown]);
        settle().await;
        assert_eq!(worker.datastore.sent(), ["SET a 1"]);
        worker.datastore.answer(&["+OK"]);
        assert_eq!(lines(&mut kept), ["+OK"]);
        assert_eq!(lines(&mut absent), ["-NOTJOURNALED some failed"]);
        let uncertain = |sequence| format!("-UNCERTAIN 0000000000000abc-{sequence} some failed");
        assert_eq!(lines(&mut mixed), [uncertain(3), uncertain(4)]);
        let journaled: Vec<_> = worker.kept().iter().map(text).collect();
        assert_eq!(
            journaled,
            ["SET a 1", "SET c 1", "3 rejected", "4 rejected"]
        );
        worker.shared.heartbeat();
        settle().await;
        let records = worker.kept();
        // Nothing passes what is missing until it is declared.
        assert_eq!(records.last().expect("five").settled_through, 1);
        let Some(Body::Heartbeat(heartbeat)) = &records.last().expect("five").body else {
            panic!("a heartbeat");
        };
        let told = heartbeat.unacknowledged.iter();
        let told: Vec<_> = told.map(|range| (range.first, range.last)).collect();
        assert_eq!(told, [(2, 2), (4, 4)]);
        worker.shared.heartbeat();
        settle().await;
        let last = worker.kept().pop().expect("six");
        assert_eq!((last.sequence, last.settled_through), (8, 7));
    });
}

#[test]
fn a_skipped_outcome_is_told_again_before_its_absence_is_declared() {
    on_worker(async {
        let worker = Worker::start(DURABLE, &[]);
        let mut pop = worker.connection().call(worker.batch(&["SPOP s"]));
        settle().await;
        let gone = || AppendError::Skipped("gone".to_owned());
        worker.journal.fail_next(gone());
        worker.datastore.answer(&["$1\r\nm"]);
        assert_eq!(lines(&mut pop), ["$1", "m"]);
        settle().await;
        worker.journal.fail_next(gone());
        worker.shared.heartbeat();
        settle().await;
        assert_eq!(worker.journaled(), ["SPOP s"]);
        worker.shared.heartbeat();
        settle().await;
        assert_eq!(worker.kept().len(), 3);
        assert_eq!(text(&worker.kept()[1]), "1 did SREM s m");
        let Some(Body::Heartbeat(heartbeat)) = &worker.kept()[2].body else {
            panic!("a heartbeat");
        };
        // The outcome, and what was to tell it again with its declaration.
        assert_eq!(
            heartbeat.unacknowledged,
            [v1::Sequences { first: 2, last: 4 }]
        );
    });
}
