use proptest::prelude::*;

use super::*;

type Scanned = (Vec<(usize, u8)>, Option<&'static str>, usize);

/// Ends and types of the replies in `bytes` as they arrive up to each of
/// `ends`, the error they stop at, and how many bytes are still needed.
fn scan_pieces(bytes: &[u8], ends: impl IntoIterator<Item = usize>) -> Scanned {
    let mut scanner = ReplyScanner::default();
    let mut frames = Vec::new();
    let mut at = 0;
    for end in ends.into_iter().chain([bytes.len()]) {
        loop {
            match scanner.next(&bytes[at..end]) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    assert!(
                        frame.end > 0 && at + frame.end <= end,
                        "progress within the bytes"
                    );
                    at += frame.end;
                    frames.push((frame.end, frame.kind));
                }
                Err(ReplyError(error)) => {
                    assert_eq!(scanner.next(&bytes[at..end]), Err(ReplyError(error)));
                    return (frames, Some(error), 0);
                }
            }
        }
    }
    (frames, None, scanner.needed())
}

#[track_caller]
fn check_all(bytes: &[u8], frames: &[(usize, u8)], error: Option<&str>) {
    let whole = scan_pieces(bytes, []);
    assert_eq!(
        (whole.0.as_slice(), whole.1),
        (frames, error),
        "{}",
        bytes.escape_ascii()
    );
    if bytes.len() > 4096 {
        return;
    }
    for split in 0..bytes.len() {
        let pieces = scan_pieces(bytes, [split]);
        assert_eq!(pieces, whole, "{} split at {split}", bytes.escape_ascii());
    }
    let pieces = scan_pieces(bytes, 0..bytes.len());
    assert_eq!(pieces, whole, "{} byte by byte", bytes.escape_ascii());
}

/// A single complete reply of that type.
#[track_caller]
fn check(bytes: &[u8], kind: u8) {
    check_all(bytes, &[(bytes.len(), kind)], None);
    let twice = [bytes, bytes].concat();
    check_all(&twice, &[(bytes.len(), kind); 2], None);
}

#[track_caller]
fn check_incomplete(bytes: &[u8]) {
    check_all(bytes, &[], None);
}

#[track_caller]
fn check_error(bytes: &[u8], error: &str) {
    check_all(bytes, &[], Some(error));
}

#[test]
fn every_type_is_cut() {
    check(b"+OK\r\n", b'+');
    check(b"+\r\n", b'+');
    check(b"+QUEUED\r\n", b'+');
    check(
        b"-ERR unknown command 'a-rather-long-name-of-a-command'\r\n",
        b'-',
    );
    check(b":0\r\n", b':');
    check(b":-9223372036854775808\r\n", b':');
    check(b"$-1\r\n", b'$');
    check(b"$0\r\n\r\n", b'$');
    check(b"$5\r\n\r\n$3\r\r\n", b'$');
    check(b"*-1\r\n", b'*');
    check(b"*0\r\n", b'*');
    check(b"*2\r\n$1\r\na\r\n:1\r\n", b'*');
    check(b"_\r\n", b'_');
    check(b"#t\r\n", b'#');
    check(b"#f\r\n", b'#');
    check(b",3.14\r\n", b',');
    check(b",inf\r\n", b',');
    check(b"(3492890328409238509324850943850943825024385\r\n", b'(');
    check(b"!21\r\nSYNTAX invalid syntax\r\n", b'!');
    check(b"=7\r\ntxt:abc\r\n", b'=');
    check(b"%1\r\n+a\r\n:1\r\n", b'%');
    check(b"%0\r\n", b'%');
    check(b"~2\r\n+a\r\n+b\r\n", b'~');
    check(b">2\r\n+a\r\n+b\r\n", b'>');
}

#[test]
fn replies_nest() {
    check(b"*2\r\n*1\r\n+a\r\n*-1\r\n", b'*');
    check(b"*1\r\n*1\r\n*1\r\n*0\r\n", b'*');
    check(
        b"%2\r\n+a\r\n*2\r\n:1\r\n$-1\r\n+b\r\n%1\r\n~0\r\n_\r\n",
        b'%',
    );
    let deep = [b"*1\r\n".repeat(1000), b":1\r\n".to_vec()].concat();
    check_all(&deep, &[(deep.len(), b'*')], None);
    check_all(
        b"+OK\r\n*1\r\n:1\r\n+OK\r\n",
        &[(5, b'+'), (8, b'*'), (5, b'+')],
        None,
    );
}

#[test]
fn attributes_belong_to_the_value_behind() {
    check(b"|1\r\n+ttl\r\n:3600\r\n+OK\r\n", b'+');
    check(b"|0\r\n:1\r\n", b':');
    check(b"|1\r\n+a\r\n*2\r\n:1\r\n:2\r\n$1\r\nx\r\n", b'$');
    check(b"|1\r\n+a\r\n%1\r\n+b\r\n+c\r\n*1\r\n_\r\n", b'*');
    check(b"|1\r\n+a\r\n+b\r\n|1\r\n+c\r\n+d\r\n~0\r\n", b'~');
    check(b"|1\r\n|1\r\n+a\r\n+b\r\n+c\r\n+d\r\n#t\r\n", b'#');
    check(b"*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n", b'*');
    check_incomplete(b"|1\r\n+ttl\r\n:3600\r\n");
}

#[test]
fn lone_line_ends_are_part_of_a_line() {
    check(b"+a\nb\r\n", b'+');
    check(b"-a\rb\r\r\n", b'-');
    check(b"+0123456789012345678901234567890123456789\n\r\n", b'+');
}

#[test]
fn incomplete_replies_are_awaited() {
    check_incomplete(b"");
    check_incomplete(b"+OK");
    check_incomplete(b"+OK\r");
    check_incomplete(b"+OK\n");
    check_incomplete(b"$5\r\nhello\r");
    check_incomplete(b"*2\r\n:1\r\n");
    check_incomplete(b"*1000000000000\r\n");
    check_incomplete(b"$1000000000000\r\n");
}

#[test]
fn what_is_not_resp_is_refused() {
    for kind in 0..=u8::MAX {
        if !b"+-:$*_#,(!=%~>|".contains(&kind) {
            check_error(&[kind, b'\r', b'\n'], "unknown type");
        }
    }
    for kind in "$*!=%~>|".chars() {
        for length in [
            "",
            "?",
            "x",
            "-2",
            "+1",
            " 1",
            "1 ",
            "-",
            "18446744073709551616",
        ] {
            check_error(format!("{kind}{length}\r\n").as_bytes(), "invalid length");
        }
    }
    check_error(b"$18446744073709551615\r\n", "invalid bulk length");
    check_error(b"$1099511627777\r\n", "invalid bulk length");
    check_error(b"=-1\r\n", "invalid bulk length");
    check_error(b"%-1\r\n", "invalid length");
    check_error(b"*1099511627777\r\n", "too many elements");
    check_error(b"%18446744073709551615\r\n", "too many elements");
    check_error(b"|1099511627776\r\n", "too many elements");
    check_error(b"*2\r\n*1099511627776\r\n", "too many elements");
    check_error(
        b"$3\r\nabcde\r\n",
        "a bulk string does not end where it should",
    );
    check_error(
        b"*2\r\n$1\r\nabc:1\r\n",
        "a bulk string does not end where it should",
    );
    check_error(b"_x\r\n", "invalid null");
    check_error(b"#x\r\n", "invalid boolean");
}

#[test]
fn lines_are_limited() {
    let line = |length| [b"+", "x".repeat(length).as_bytes(), b"\r\n"].concat();
    let longest = line(LINE_BYTES_MAX - 2);
    check_all(&longest, &[(longest.len(), b'+')], None);
    check_error(&line(LINE_BYTES_MAX), "too long a line");
    check_error(
        &line(LINE_BYTES_MAX)[..LINE_BYTES_MAX + 1],
        "too long a line",
    );
    check_incomplete(&line(LINE_BYTES_MAX)[..LINE_BYTES_MAX]);
}

#[test]
fn what_is_needed_is_a_lower_bound() {
    let needed = |bytes: &[u8]| scan_pieces(bytes, []).2;
    assert_eq!(needed(b""), 1);
    assert_eq!(needed(b"+OK"), 1);
    assert_eq!(needed(b"$100\r\nabc"), 99);
    assert_eq!(needed(b"*2\r\n"), 6);
    assert_eq!(needed(b"*2\r\n$5\r\n"), 7 + 3);
    assert_eq!(needed(b"+OK\r\n"), 1);
}

fn nearly_replies() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => proptest::sample::select(vec![
            &b"+OK\r\n"[..], b"-ERR no\r\n", b":1\r\n", b"$-1\r\n", b"$0\r\n\r\n", b"$3\r\nabc\r\n",
            b"*0\r\n", b"*1\r\n", b"*2\r\n", b"%1\r\n", b"~1\r\n", b">1\r\n", b"|1\r\n", b"_\r\n",
            b"#t\r\n", b",1.5\r\n", b"(1\r\n", b"=5\r\ntxt:a\r\n", b"!3\r\nERR\r\n", b"\r\n",
        ]).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

/// A reply with all it holds, and its type behind any attribute.
fn reply() -> impl Strategy<Value = (Vec<u8>, u8)> {
    let leaf = proptest::sample::select(vec![
        &b"+OK\r\n"[..],
        b"-ERR no\r\n",
        b":-1\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"$4\r\na\r\nb\r\n",
        b"_\r\n",
        b"#f\r\n",
        b",nan\r\n",
        b"(1\r\n",
        b"=5\r\ntxt:a\r\n",
        b"!3\r\nERR\r\n",
    ])
    .prop_map(|bytes| (bytes.to_vec(), bytes[0]));
    leaf.prop_recursive(6, 64, 5, |inner| {
        let list = (
            proptest::sample::select(b"*~>".to_vec()),
            proptest::collection::vec(inner.clone(), 0..5),
        );
        let pairs = (
            proptest::sample::select(b"%|".to_vec()),
            proptest::collection::vec((inner.clone(), inner.clone()), 0..3),
            inner,
        );
        prop_oneof![
            list.prop_map(|(kind, elements)| {
                let mut bytes = format!("{}{}\r\n", char::from(kind), elements.len()).into_bytes();
                bytes.extend(elements.into_iter().flat_map(|(element, _)| element));
                (bytes, kind)
            }),
            pairs.prop_map(|(kind, elements, (value, behind))| {
                let mut bytes = format!("{}{}\r\n", char::from(kind), elements.len()).into_bytes();
                for ((key, _), (value, _)) in elements {
                    bytes.extend(key);
                    bytes.extend(value);
                }
                if kind == b'%' {
                    return (bytes, kind);
                }
                bytes.extend(value);
                (bytes, behind)
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn splits_make_no_difference(
        bytes in nearly_replies(),
        mut ends in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
    ) {
        ends.sort_by_key(|end| end.index(bytes.len() + 1));
        let ends = ends.iter().map(|end| end.index(bytes.len() + 1));
        prop_assert_eq!(scan_pieces(&bytes, ends), scan_pieces(&bytes, []));
    }

    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        scan_pieces(&bytes, []);
        first_element(&bytes);
        subscription(&bytes);
    }

    #[test]
    fn whole_replies_are_cut((bytes, kind) in reply()) {
        let mut scanner = ReplyScanner::default();
        for end in 0..bytes.len() {
            prop_assert_eq!(scanner.next(&bytes[..end]), Ok(None));
            prop_assert!(end + scanner.needed() <= bytes.len());
        }
        let frame = ReplyFrame { end: bytes.len(), kind };
        prop_assert_eq!(scanner.next(&bytes), Ok(Some(frame)));
    }
}
