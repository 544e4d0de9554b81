//! The harness the other tests stand on, tried out against redis-server alone.

mod support;

use std::time::Duration;

use support::resp::{encode, reply_length};
use support::sidecar::unexpected_errors;
use support::{Random, Redis, RedisOptions};

#[test]
fn a_reply_is_cut_where_it_ends() {
    // Each is one whole reply: it is complete at its last byte and not before.
    let replies: &[&[u8]] = &[
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":-12\r\n",
        b"$-1\r\n",
        b"$0\r\n\r\n",
        b"$7\r\na\r\nb\r\nc\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n$1\r\na\r\n*2\r\n:1\r\n*-1\r\n",
        b"_\r\n",
        b",1.5\r\n",
        b"#t\r\n",
        b"(12345678901234567890\r\n",
        b"=7\r\ntxt:abc\r\n",
        b"!3\r\nERR\r\n",
        b"%1\r\n+key\r\n~2\r\n:1\r\n:2\r\n",
        b">2\r\n+message\r\n+x\r\n",
        b"|1\r\n+ttl\r\n:3\r\n*1\r\n+value\r\n",
    ];
    for reply in replies {
        for end in 0..reply.len() {
            assert_eq!(reply_length(&reply[..end]), None, "{reply:?} cut at {end}");
        }
        let followed = [reply, b"+NEXT\r\n".as_slice()].concat();
        assert_eq!(reply_length(&followed), Some(reply.len()), "{reply:?}");
    }
}

#[test]
fn error_lines_are_told_from_others() {
    let cases = [
        ("2026-01-01T00:00:00Z ERROR wal_sidecar: disk is gone", true),
        ("{\"level\":\"ERROR\",\"fields\":{}}", true),
        ("thread 'main' panicked at src/main.rs:1:1:", true),
        (
            "2026-01-01T00:00:00Z  INFO wal_sidecar: ready errors=0",
            false,
        ),
        (
            "{\"level\":\"INFO\",\"message\":\"ERROR is a word\"}",
            false,
        ),
        ("2026-01-01T00:00:00Z  WARN upstream: replied ERROR", false),
    ];
    for (line, is_error) in cases {
        let lines = [line.to_owned()];
        assert_eq!(
            !unexpected_errors(&lines, &[]).is_empty(),
            is_error,
            "{line}"
        );
    }
    let lines = ["x ERROR journal poisoned".to_owned()];
    assert!(unexpected_errors(&lines, &["poisoned".to_owned()]).is_empty());
}

#[test]
fn random_numbers_repeat_with_their_seed() {
    let (mut first, mut second) = (Random::new(7), Random::new(7));
    for _ in 0..100 {
        assert_eq!(first.next(), second.next());
    }
    // The reference value of splitmix64 for seed 1234567.
    assert_eq!(Random::new(1_234_567).next(), 6_457_827_717_110_365_317);
}

#[test]
fn redis_answers_raw_bytes_and_outlives_a_kill_with_an_append_only_file() {
    let mut redis = Redis::with(RedisOptions {
        append_only: true,
        password: Some("secret".to_owned()),
        unix_socket: true,
        arguments: vec!["--appendfsync".to_owned(), "always".to_owned()],
        ..RedisOptions::default()
    });
    assert!(redis.unix_socket().exists());
    let mut client = redis.client();
    client.send(&[encode(&["SET", "key", "value"]), b"GET key\r\n".to_vec()].concat());
    assert_eq!(client.replies(2), b"+OK\r\n$5\r\nvalue\r\n");
    assert!(client.silent_for(Duration::from_millis(20)));
    redis.kill();
    assert!(client.try_reply().is_err());
    redis.restart();
    assert_eq!(redis.client().command(&["GET", "key"]), b"$5\r\nvalue\r\n");
}
