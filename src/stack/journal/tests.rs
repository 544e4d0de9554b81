//! The journal layer between a journal that does what it is told and a
//! datastore that answers when it is told.

use super::super::deadline::{Deadline, Deadlines};
use super::super::policy::{Durability, KeyPolicy, OnUnavailable};
use super::*;
use crate::journal::{self, AppendError, LocalJournal};
use crate::mutation::v1::{self, record::Body};

mod accounts;
mod worker;

use worker::{DURABLE, Fake, Worker, text};

/// Runs a test on a worker's runtime.
fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// Lets every task go as far as it can: all of it is on this thread.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// The answer, which is there by now.
fn answered<S: Below>(future: &mut Journaling<S>) -> Replies {
    let mut context = Context::from_waker(std::task::Waker::noop());
    match Pin::new(future).poll(&mut context) {
        Poll::Ready(Ok(replies)) => replies,
        Poll::Pending => panic!("there is no answer"),
    }
}

fn lines<S: Below>(future: &mut Journaling<S>) -> Vec<String> {
    let replies = answered(future);
    let text = String::from_utf8_lossy(&replies.bytes).into_owned();
    text.lines().map(str::to_owned).collect()
}

fn is_pending<S: Below>(future: &mut Journaling<S>) -> bool {
    let mut context = Context::from_waker(std::task::Waker::noop());
    Pin::new(future).poll(&mut context).is_pending()
}

fn not_appended() -> AppendError {
    AppendError::NotAppended("no space".to_owned())
}

#[test]
fn nothing_of_a_connection_overtakes_its_held_write() {
    on_worker(async {
        let worker = Worker::start(DURABLE, &[]);
        let (mut one, mut other) = (worker.connection(), worker.connection());
        worker.journal.hold();
        let mut write = one.call(worker.batch(&["SET a 1"]));
        let mut read = one.call(worker.batch(&["GET a"]));
        let mut off = one.call(worker.batch(&["PING"]));
        let mut elsewhere = other.call(worker.batch(&["GET a"]));
        settle().await;
        assert_eq!(worker.datastore.sent(), ["GET a"], "the other's");
        worker.datastore.answer(&["$-1"]);
        assert_eq!(lines(&mut elsewhere), ["$-1"]);
        assert!(is_pending(&mut write) && is_pending(&mut read) && is_pending(&mut off));
        worker.journal.release_all();
        settle().await;
        assert_eq!(worker.datastore.sent(), ["SET a 1", "GET a", "PING"]);
        worker.datastore.answer(&["+OK"]);
        worker.datastore.answer(&[":1"]);
        worker.datastore.answer(&["+PONG"]);
        assert_eq!(lines(&mut write), ["+OK"]);
        assert_eq!(lines(&mut read), [":1"]);
        assert_eq!(lines(&mut off), ["+PONG"]);
        settle().await;
        assert!(worker.shared.is_idle());
    });
}

#[test]
fn writes_of_all_connections_are_forwarded_in_the_order_of_the_journal() {
    on_worker(async {
        let worker = Worker::start(DURABLE, &[]);
        worker.journal.hold();
        let mut connections: Vec<_> = (0..3).map(|_| worker.connection()).collect();
        let mut futures = Vec::new();
        for round in 0..4 {
            for (index, connection) in connections.iter_mut().enumerate() {
                let command = format!("SET key {round}:{index}");
                futures.push(connection.call(worker.batch(&[&command])));
            }
            // Each round is a hand-over of its own.
            settle().await;
        }
        while 0 < worker.journal.release(1) {
            settle().await;
        }
        let sent = worker.datastore.sent();
        assert_eq!(sent.len(), futures.len());
        assert_eq!(sent, worker.journaled());
    });
}

#[test]
fn policies_decide_what_waits_and_what_is_recorded() {
    let policy = |durability| KeyPolicy {
        durability,
        ..DURABLE
    };
    let prefixes = [
        ("off:", policy(Durability::Off)),
        ("soon:", policy(Durability::Enqueued)),
    ];
    // What is sent while the journal holds everything, and what is recorded.
    let check = |commands: &[&str], sent: &[&str], recorded: &[&str]| {
        on_worker(async {
            let worker = Worker::start(DURABLE, &prefixes);
            worker.journal.hold();
            let mut connection = worker.connection();
            let future = connection.call(worker.batch(commands));
            settle().await;
            assert_eq!(worker.datastore.sent(), sent, "{commands:?}");
            worker.journal.release_all();
            settle().await;
            assert_eq!(worker.journaled(), recorded, "{commands:?}");
            drop(future);
        });
    };
    check(&["SET a 1"], &[], &["SET a 1"]);
    check(&["SET off:a 1"], &["SET off:a 1"], &[]);
    check(&["SET soon:a 1"], &["SET soon:a 1"], &["SET soon:a 1"]);
    check(
        &["SET off:a 1", "SET soon:a 1"],
        &["SET off:a 1", "SET soon:a 1"],
        &["SET soon:a 1"],
    );
    check(&["SET off:a 1", "SET a 1"], &[], &["SET a 1"]);
    check(&["MSET off:a 1 a 1"], &[], &["MSET off:a 1 a 1"]);
}

#[test]
fn what_the_journal_refuses_is_answered_among_what_is_forwarded() {
    let bypass = KeyPolicy {
        on_unavailable: OnUnavailable::Bypass,
        ..DURABLE
    };
    let check = |error: AppendError, commands: &[&str], sent: &[&str], expected: &[&str]| {
        on_worker(async {
            let worker = Worker::start(DURABLE, &[("pass:", bypass)]);
            // What may be in the journal is told not to have been forwarded.
            let outcomes = match error {
                AppendError::NotAppended(_) | AppendError::Skipped(_) => 0,
                AppendError::Unknown(_) => commands.iter().filter(|c| c.starts_with("SET")).count(),
            };
            worker.journal.fail_next(error);
            let mut connection = worker.connection();
            let mut future = connection.call(worker.batch(commands));
            settle().await;
            assert_eq!(worker.datastore.sent(), sent, "{commands:?}");
            if !sent.is_empty() {
                let replies: Vec<String> = (0..sent.len()).map(|n| format!(":{n}")).collect();
                let replies: Vec<&str> = replies.iter().map(String::as_str).collect();
                worker.datastore.answer(&replies);
            }
            assert_eq!(lines(&mut future), expected, "{commands:?}");
            assert_eq!(worker.journal.records().len(), outcomes);
            settle().await;
            assert!(worker.shared.is_idle());
        });
    };
    let unknown = || AppendError::Unknown("sync failed".to_owned());
    check(
        not_appended(),
        &["GET a", "SET b 1", "GET c", "SET d 1"],
        &["GET a", "GET c"],
        &[
            ":0",
            "-NOTJOURNALED no space",
            ":1",
            "-NOTJOURNALED no space",
        ],
    );
    check(
        not_appended(),
        &["SET b 1"],
        &[],
        &["-NOTJOURNALED no space"],
    );
    check(
        not_appended(),
        &["SET a 1", "SET pass:b 1", "SET pass:c 1"],
        &["SET pass:b 1", "SET pass:c 1"],
        &["-NOTJOURNALED no space", ":0", ":1"],
    );
    check(
        unknown(),
        &["SET pass:a 1", "GET b", "SET c 1"],
        &["GET b"],
        &[
            "-UNCERTAIN 0000000000000abc-1 sync failed",
            ":0",
            "-UNCERTAIN 0000000000000abc-2 sync failed",
        ],
    );
}

#[test]
fn a_refused_transaction_is_discarded() {
    on_worker(async {
        let worker = Worker::start(DURABLE, &[]);
        worker.journal.fail_next(not_appended());
        let exec = worker.transaction(&["SET a 1", "GET a", "INCR b"]);
        let mut future = worker.connection().call(exec);
        settle().await;
        assert_eq!(worker.datastore.sent(), ["DISCARD"]);
        worker.datastore.answer(&["+OK"]);
        assert_eq!(lines(&mut future), ["-NOTJOURNALED no space"]);
    });
}

#[test]
fn a_transaction_that_watched_is_told_by_its_outcome() {
    for (reply, outcome) in [
        (&["*2\r\n+OK\r\n:1"], "1 did SET a 1 INCR b"),
        (&["*-1"], "1 rejected"),
    ] {
        on_worker(async {
            let worker = Worker::start(DURABLE, &[]);
            let mut exec = worker.transaction(&["SET a 1", "INCR b"]);
            let transaction = exec.transaction.as_mut().expect("it is one");
            transaction.watched = true;
            let mut future = worker.connection().call(exec);
            settle().await;
            assert_eq!(worker.datastore.sent(), ["EXEC"]);
            worker.datastore.answer(reply);
            assert!(lines(&mut future)[0].starts_with('*'));
            settle().await;
            let records = worker.records();
            let [mutation, told] = &records[..] else {
                panic!("{records:?}")
            };
            let Some(Body::Mutation(mutation)) = &mutation.body else {
                panic!("{mutation:?}")
            };
            assert!(!mutation.r#final);
            assert_eq!(text(told), outcome);
        });
    }
}

#[test]
fn what_cannot_be_forwarded_is_not_recorded() {
    on_worker(async {
        let worker = Worker::start(DURABLE, &[]);
        worker.datastore.0.borrow_mut().away = Some(Rc::from("gone"));
        let mut future = worker
            .connection()
            .call(worker.batch(&["SET a 1", "GET a"]));
        let expected = ["-NOTJOURNALED gone", "-UNAVAILABLE gone"];
        assert_eq!(lines(&mut future), expected);
        assert_eq!(worker.journaled(), [""; 0]);
    });
}

#[test]
fn lost_hand_overs_leave_no_gap_and_their_outcomes_are_told_again() {
    on_worker(async {
        let worker = Worker::start(DURABLE, &[]);
        let mut connection = worker.connection();
        let mut intent = connection.call(worker.batch(&["INCRBYFLOAT a 1.5"]));
        settle().await;
        assert_eq!(worker.datastore.sent(), ["INCRBYFLOAT a 1.5"]);
        // The outcome's hand-over fails, and so do those behind it.
        worker.journal.hold();
        worker.datastore.answer(&["$3\r\n1.5"]);
        assert_eq!(lines(&mut intent), ["$3", "1.5"]);
        settle().await;
        let mut lost: Vec<_> = (0..3)
            .map(|n| connection.call(worker.batch(&[&format!("SET lost {n}")])))
            .collect();
        settle().await;
        worker.journal.fail_next(not_appended());
        assert_eq!(worker.journal.release_all(), 2);
        settle().await;
        for future in &mut lost {
            assert_eq!(lines(future), ["-NOTJOURNALED no space"]);
        }
        assert_eq!(worker.datastore.sent(), [""; 0]);
        let mut kept = connection.call(worker.batch(&["SET kept 1"]));
        settle().await;
        worker.datastore.answer(&["+OK"]);
        assert_eq!(lines(&mut kept), ["+OK"]);
        let journaled = worker.journaled();
        assert_eq!(journaled.len(), 3, "{journaled:?}");
        assert_eq!(journaled[0], "INCRBYFLOAT a 1.5");
        assert!(journaled[1].starts_with("1 did SET a 1.5"), "{journaled:?}");
        assert_eq!(journaled[2], "SET kept 1");
        settle().await;
        assert!(worker.shared.is_idle());
    });
}

#[test]
fn more_may_be_lost_at_once_than_the_writer_keeps_track_of_in_its_ring() {
    const BATCHES: usize = 100;
    const EACH: usize = 100;
    on_worker(async {
        let worker = Worker::start(DURABLE, &[]);
        let mut open = worker.connection().call(worker.batch(&["SET open 1"]));
        settle().await;
        worker.journal.hold();
        let commands = vec!["SET lost 1"; EACH];
        let mut lost: Vec<_> = (0..BATCHES)
            .map(|_| worker.connection().call(worker.batch(&commands)))
            .collect();
        settle().await;
        worker.journal.fail_next(not_appended());
        worker.journal.release_all();
        settle().await;
        for future in &mut lost {
            assert_eq!(lines(future), vec!["-NOTJOURNALED no space"; EACH]);
        }
        // What is still unsettled is the first write, and it is remembered.
        let mut kept = worker.connection().call(worker.batch(&["SET kept 1"]));
        settle().await;
        assert_eq!(worker.datastore.sent(), ["SET open 1", "SET kept 1"]);
        assert_eq!(worker.records()[1].settled_through, 0);
        worker.datastore.answer(&["+OK"]);
        worker.datastore.answer(&["+OK"]);
        assert_eq!(lines(&mut open), ["+OK"]);
        assert_eq!(lines(&mut kept), ["+OK"]);
    });
}

#[test]
fn while_the_journal_fails_nothing_is_forwarded_on_trust() {
    let enqueued = KeyPolicy {
        durability: Durability::Enqueued,
        ..DURABLE
    };
    on_worker(async {
        let worker = Worker::start(enqueued, &[]);
        let mut connection = worker.connection();
        for _ in 0..3 {
            worker.journal.fail_next(not_appended());
        }
        // The first is forwarded before the journal's answer is known.
        let mut first = connection.call(worker.batch(&["SET a 0"]));
        settle().await;
        assert_eq!(worker.datastore.sent(), ["SET a 0"]);
        worker.datastore.answer(&["+OK"]);
        assert_eq!(lines(&mut first), ["+OK"]);
        for _ in 0..2 {
            let mut refused = connection.call(worker.batch(&["SET a 1"]));
            settle().await;
            assert_eq!(lines(&mut refused), ["-NOTJOURNALED no space"]);
        }
        assert_eq!(worker.datastore.sent(), [""; 0]);
        // The next is the one that finds out that it works again.
        let mut probing = connection.call(worker.batch(&["SET a 2"]));
        settle().await;
        worker.datastore.answer(&["+OK"]);
        assert_eq!(lines(&mut probing), ["+OK"]);
        worker.journal.hold();
        let trusting = connection.call(worker.batch(&["SET a 3"]));
        assert_eq!(worker.datastore.sent(), ["SET a 2", "SET a 3"]);
        drop(trusting);
        worker.journal.release_all();
        settle().await;
        assert_eq!(worker.journaled(), ["SET a 2", "SET a 3"]);
    });
}

#[test]
fn a_batch_goes_on_without_its_client() {
    // Whether the client gives up before or after the batch was forwarded.
    for is_forwarded in [false, true] {
        on_worker(async {
            let worker = Worker::start(DURABLE, &[]);
            worker.journal.hold();
            let mut connection = worker.connection();
            let mut future = connection.call(worker.batch(&["GET b", "INCRBYFLOAT a 1.5"]));
            settle().await;
            if is_forwarded {
                worker.journal.release_all();
                settle().await;
            }
            let replies = future.expire("late");
            let text = String::from_utf8_lossy(&replies.bytes).into_owned();
            assert_eq!(
                text,
                "-UNAVAILABLE late\r\n-UNCERTAIN 0000000000000abc-1 late\r\n"
            );
            drop(future);
            worker.journal.release_all();
            settle().await;
            assert!(!worker.shared.is_idle());
            assert_eq!(worker.datastore.sent(), ["GET b", "INCRBYFLOAT a 1.5"]);
            worker.datastore.answer(&["$-1", "$3\r\n1.5"]);
            settle().await;
            let journaled = worker.journaled();
            assert!(journaled[1].starts_with("1 did SET a 1.5"), "{journaled:?}");
            assert!(worker.shared.is_idle());
        });
    }
}

#[test]
fn a_batch_is_answered_when_its_time_is_up() {
    const TIMEOUT: std::time::Duration = std::time::Duration::from_millis(40);
    on_worker(async {
        let worker = Worker::start(DURABLE, &[]);
        let deadlines = Deadlines::start(TIMEOUT, Rc::clone(&worker.metrics));
        let layer = super::super::deadline::DeadlineLayer(deadlines);
        let mut service: Deadline<Journal<Fake>> = tower::Layer::layer(&layer, worker.connection());
        let started = std::time::Instant::now();
        let first = service.call(worker.batch(&["SET a 1"]));
        let second = service.call(worker.batch(&["GET a"]));
        let Ok(replies) = first.await;
        assert!(replies.bytes.starts_with(b"-UNCERTAIN 0000000000000abc-1 "));
        let Ok(replies) = second.await;
        assert!(replies.bytes.starts_with(b"-UNAVAILABLE "));
        // The coarse clock is good to a tick or two.
        let elapsed = started.elapsed();
        assert!(
            TIMEOUT / 2 < elapsed && elapsed < 20 * TIMEOUT,
            "{elapsed:?}"
        );
        // A blocking command may take as long as it likes.
        let mut batch = worker.batch(&["BLPOP list 0"]);
        batch.blocking = true;
        let blocking = service.call(batch);
        let waited = tokio::time::timeout(2 * TIMEOUT, blocking).await;
        assert!(waited.is_err());
    });
}

#[test]
fn a_failed_sync_makes_what_waited_uncertain_and_refuses_what_follows() {
    let bypass = KeyPolicy {
        on_unavailable: OnUnavailable::Bypass,
        ..DURABLE
    };
    on_worker(async {
        let (local, fail_next_sync) = LocalJournal::simulated();
        let local = journal::Journal::Local(Arc::new(local));
        let worker = Worker::start_on(&local, DURABLE, &[("pass:", bypass)]);
        let mut connection = worker.connection();
        // The journal writes on a thread of its own: its results are awaited.
        let mut answer = async |commands: &[&str], sent: &[&str]| {
            let future = connection.call(worker.batch(commands));
            let answering = async {
                while worker.datastore.0.borrow().waiting.is_empty() && !sent.is_empty() {
                    tokio::task::yield_now().await;
                }
                assert_eq!(worker.datastore.sent(), sent, "{commands:?}");
                if !sent.is_empty() {
                    worker.datastore.answer(&vec![":1"; sent.len()]);
                }
            };
            let both = async { tokio::join!(future, answering) };
            let both = tokio::time::timeout(std::time::Duration::from_secs(20), both).await;
            let (Ok(replies), ()) = both.expect("it is answered");
            let text = String::from_utf8_lossy(&replies.bytes).into_owned();
            let first = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
            text.lines().map(first).collect::<Vec<_>>()
        };
        assert_eq!(answer(&["SET a 1"], &["SET a 1"]).await, [":1"]);
        fail_next_sync();
        assert_eq!(
            answer(&["SET a 2", "GET a", "SET pass:a 2"], &["GET a"]).await,
            ["-UNCERTAIN", ":1", "-UNCERTAIN"]
        );
        assert_eq!(
            answer(
                &["SET a 3", "GET a", "SET pass:a 3"],
                &["GET a", "SET pass:a 3"]
            )
            .await,
            ["-NOTJOURNALED", ":1", ":1"]
        );
        assert_eq!(answer(&["GET a"], &["GET a"]).await, [":1"]);
    });
}
