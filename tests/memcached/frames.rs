//! What holds of any bytes, as a client's commands or a server's replies. The
//! fuzz targets use it too.

use bytes::BytesMut;
use wal_sidecar::protocol::Class;
use wal_sidecar::protocol::memcached::KEY_BYTES_MAX;
use wal_sidecar::protocol::memcached::loud::loud;
use wal_sidecar::protocol::memcached::replies::{ReplyFrame, ReplyScanner};
use wal_sidecar::protocol::memcached::reply::{Values, answer};
use wal_sidecar::protocol::memcached::request::Request;
use wal_sidecar::protocol::memcached::route;
use wal_sidecar::protocol::memcached::scanner::{Frame, Limits, Scanner};
use wal_sidecar::protocol::memcached::silence::silence;
use wal_sidecar::protocol::memcached::verbs::{ROWS, Shape, Specification};

/// Any bytes are the same commands however they arrive; what is forwarded for
/// one is one command that is answered; what is journaled can be read.
pub fn check_commands(bytes: &[u8], ends: &[usize]) {
    let limits = Limits {
        get_line_bytes_max: 4096,
        value_bytes_max: 1 << 16,
    };
    let whole = scan(limits, bytes, &[bytes.len()]);
    assert_eq!(scan(limits, bytes, ends), whole, "cut at {ends:?}");
    let mut at = 0;
    for frame in &whole.0 {
        check_command(limits, &bytes[at..at + frame.end], frame);
        at += frame.end;
    }
}

fn scan(limits: Limits, bytes: &[u8], ends: &[usize]) -> (Vec<Frame>, Option<String>) {
    let mut scanner = Scanner::new(limits);
    let mut frames = Vec::new();
    let mut at = 0;
    for end in ends.iter().copied().chain([bytes.len()]) {
        loop {
            match scanner.next(&bytes[at..end]) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    assert!(0 < frame.end && at + frame.end <= end);
                    at += frame.end;
                    frames.push(frame);
                }
                Err(error) => return (frames, Some(error.to_string())),
            }
        }
        assert!(scanner.needed(end - at) > 0);
    }
    (frames, None)
}

fn check_command(limits: Limits, command: &[u8], frame: &Frame) {
    let specification = frame.specification;
    let row = specification.row().expect("a row");
    let mut buffer = [0; KEY_BYTES_MAX];
    let request = Request::parse(command, specification, &mut buffer);
    if frame.class == Class::Mutation {
        let request = request.expect("a mutation has parts");
        let verb = request.verb.row();
        assert_eq!(verb.class, Class::Mutation, "{}", verb.name);
    }
    let mut buffer = [0; KEY_BYTES_MAX];
    for key in route::keys(command, specification, &mut buffer) {
        assert!(
            key.len() <= KEY_BYTES_MAX || row.shape == Shape::Local || frame.class == Class::Read
        );
    }
    if row.shape == Shape::Local {
        return;
    }
    let mut forwarded = BytesMut::new();
    loud(command, specification, &mut forwarded);
    check_one(limits, &forwarded, row.name);
    if frame.class == Class::Mutation && route::compares(command, specification) {
        let mut delete = BytesMut::new();
        let instead = route::push_delete(command, specification, &mut delete);
        check_one(
            limits,
            &delete,
            instead.and_then(Specification::row).expect("a row").name,
        );
    }
}

/// The bytes are one command of that name, and it is answered.
fn check_one(limits: Limits, bytes: &[u8], name: &str) {
    let found = Scanner::new(limits).next(bytes);
    let frame = found
        .unwrap_or_else(|error| panic!("{error}: {}", bytes.escape_ascii()))
        .unwrap_or_else(|| panic!("a part: {}", bytes.escape_ascii()));
    assert_eq!(frame.end, bytes.len(), "{}", bytes.escape_ascii());
    assert!(!frame.specification.is_quiet(), "{}", bytes.escape_ascii());
    let found = frame.specification.row().expect("a row").name;
    assert_eq!(found, name, "{}", bytes.escape_ascii());
}

/// Any bytes are the same replies however they arrive.
pub fn check_replies(choice: u8, bytes: &[u8], ends: &[usize]) {
    let row = &ROWS[usize::from(choice) % ROWS.len()];
    let whole = replies(row.shape, bytes, &[bytes.len()]);
    assert_eq!(replies(row.shape, bytes, ends), whole, "cut at {ends:?}");
    let mut at = 0;
    for frame in &whole.0 {
        let reply = &bytes[at..at + frame.end];
        at += frame.end;
        let specification = Specification::new(row.verb).with_quiet(choice.is_multiple_of(2));
        let _ = answer(specification, reply);
        assert!(Values(reply).all(|(key, value)| key.len() < value.len()));
        let mut shown = BytesMut::new();
        silence(specification, reply, &mut shown);
        assert!(shown.is_empty() || shown.len() == reply.len());
    }
}

fn replies(shape: Shape, bytes: &[u8], ends: &[usize]) -> (Vec<ReplyFrame>, bool) {
    let mut scanner = ReplyScanner::default();
    let mut frames = Vec::new();
    let mut at = 0;
    for end in ends.iter().copied().chain([bytes.len()]) {
        while at < end {
            match scanner.next(shape, &bytes[at..end]) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    assert!(0 < frame.end && at + frame.end <= end);
                    at += frame.end;
                    frames.push(frame);
                }
                Err(_) => return (frames, true),
            }
            assert!(scanner.needed() > 0);
        }
    }
    (frames, false)
}
