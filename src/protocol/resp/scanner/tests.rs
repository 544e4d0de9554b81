use proptest::prelude::*;

use super::*;
use crate::protocol::resp::arguments;

/// What a client's bytes come to: every command's frame, the error they stop
/// at, and how many bytes are still needed where they do not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Scanned {
    frames: Vec<Frame>,
    error: Option<String>,
    needed: usize,
}

/// Scans `bytes` as they arrive up to each of `ends`, last the whole of them.
fn scan_pieces(limits: Limits, bytes: &[u8], ends: impl IntoIterator<Item = usize>) -> Scanned {
    let mut scanner = Scanner::new(limits);
    let mut scanned = Scanned::default();
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
                    scanned.frames.push(frame);
                }
                Err(error) => {
                    assert_eq!(
                        scanner.next(&bytes[at..end]),
                        Err(error.clone()),
                        "errors stay"
                    );
                    scanned.error = Some(error.to_string());
                    return scanned;
                }
            }
        }
    }
    scanned.needed = scanner.needed();
    scanned
}

fn scan(limits: Limits, bytes: &[u8]) -> Scanned {
    scan_pieces(limits, bytes, [])
}

/// Checks ends and numbers of arguments of the commands in `bytes`, whole,
/// split at every byte, and byte by byte.
#[track_caller]
fn check_limits(limits: Limits, bytes: &[u8], frames: &[(usize, u32)], error: Option<&str>) {
    let whole = scan(limits, bytes);
    let found: Vec<_> = whole
        .frames
        .iter()
        .map(|frame| (frame.end, frame.arguments))
        .collect();
    assert_eq!(found, frames, "{}", bytes.escape_ascii());
    let error = error.map(|what| format!("Protocol error: {what}"));
    assert_eq!(whole.error, error, "{}", bytes.escape_ascii());
    if bytes.len() > 4096 {
        return;
    }
    for split in 0..bytes.len() {
        let pieces = scan_pieces(limits, bytes, [split]);
        assert_eq!(pieces, whole, "{} split at {split}", bytes.escape_ascii());
    }
    let pieces = scan_pieces(limits, bytes, 0..bytes.len());
    assert_eq!(pieces, whole, "{} byte by byte", bytes.escape_ascii());
}

#[track_caller]
fn check(bytes: &[u8], frames: &[(usize, u32)]) {
    check_limits(Limits::default(), bytes, frames, None);
}

#[track_caller]
fn check_error(bytes: &[u8], error: &str) {
    check_limits(Limits::default(), bytes, &[], Some(error));
}

#[test]
fn multibulk_commands_are_cut() {
    check(b"*1\r\n$4\r\nPING\r\n", &[(14, 1)]);
    check(b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", &[(19, 2)]);
    check(
        b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        &[(14, 1), (20, 2)],
    );
    check(b"*1\r\n$0\r\n\r\n", &[(10, 1)]);
    check(b"*2\r\n$3\r\nGET\r\n$6\r\n\r\n*1\r\n\r\n", &[(25, 2)]);
    check(b"*1\r\n$12\r\nhello\0world!\r\n", &[(23, 1)]);
}

#[test]
fn empty_commands_are_cut() {
    check(b"*0\r\n", &[(4, 0)]);
    check(b"*-1\r\n", &[(5, 0)]);
    check(b"*-5\r\n*0\r\n", &[(5, 0), (4, 0)]);
    check(b"*-9223372036854775808\r\n", &[(23, 0)]);
    check(b"*-922337203685477580\r\n", &[(22, 0)]);
}

#[test]
fn only_the_first_byte_of_a_line_end_counts() {
    check(b"*1\rX$4\rYPINGZZ", &[(14, 1)]);
    check(b"*0\r*PING\n", &[(4, 0), (5, 1)]);
    check(b"*1\r\n$4\r\r\nPIN..", &[(14, 1)]);
}

#[test]
fn incomplete_commands_are_awaited() {
    check(b"", &[]);
    check(b"*", &[]);
    check(b"*1", &[]);
    check(b"*1\r", &[]);
    check(b"*1\n", &[]);
    check(b"*1\n$4\nPING\n", &[]);
    check(b"*1\r\nxyz", &[]);
    check(b"*1\r\nxyz\r", &[]);
    check(b"*1\r\n$", &[]);
    check(b"*1\r\n$4\r\nPING\r", &[]);
    check(b"*2147483647\r\n", &[]);
    check(b"*1\r\n$536870912\r\n", &[]);
    check(b"PING", &[]);
    check(b"PING\r", &[]);
    check(b"PING 'a", &[]);
}

#[test]
fn counts_are_as_strict_as_redis() {
    const INVALID: &str = "invalid multibulk length";
    for count in [
        "",
        " ",
        "x",
        "+1",
        "01",
        "00",
        "-0",
        "-",
        "--1",
        "1 ",
        " 1",
        "1x",
        "0x1",
        "1.0",
        "1\n",
        "\n1",
        "2147483648",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551617",
        "000000000000000000001",
        "111111111111111111111111",
    ] {
        check_error(format!("*{count}\r\n").as_bytes(), INVALID);
    }
}

#[test]
fn lengths_are_as_strict_as_redis() {
    const INVALID: &str = "invalid bulk length";
    for length in [
        "",
        " ",
        "x",
        "+1",
        "01",
        "00",
        "-0",
        "-",
        "-1",
        "1 ",
        " 1",
        "1x",
        "0x1",
        "1\n",
        "536870913",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "111111111111111111111111",
    ] {
        check_error(format!("*1\r\n${length}\r\n").as_bytes(), INVALID);
    }
}

#[test]
fn arguments_have_to_be_bulk_strings() {
    check_error(b"*1\r\nx\r\n", "expected '$', got 'x'");
    check_error(b"*1\r\n\r\n", "expected '$', got ' '");
    check_error(b"*1\r\n\n\r\n", "expected '$', got ' '");
    check_error(b"*1\r\n*1\r\n", "expected '$', got '*'");
    check_error(b"*1\r\n4\r\n", "expected '$', got '4'");
    check_error(b"*1\r\n\xff\r\n", "expected '$', got '\u{fffd}'");
    check_error(b"*2\r\n$4\r\nPING\r\n:1\r\n", "expected '$', got ':'");
}

#[test]
fn inline_commands_are_cut() {
    check(b"PING\r\n", &[(6, 1)]);
    check(b"PING\n", &[(5, 1)]);
    check(b"\r\n\n \t\r\nPING\n", &[(2, 0), (1, 0), (4, 0), (5, 1)]);
    check(b"SET k \"a b\"\r\n", &[(13, 3)]);
    check(b"$4\r\nPING\r\n", &[(4, 1), (6, 1)]);
    check(b"\r\r\n", &[(3, 0)]);
    check(b"a\rb\n", &[(4, 2)]);
    check(b" *1\r\n", &[(5, 1)]);
    check(b"\xff\xfe\n", &[(3, 1)]);
    check_error(b"SET k \"a\r\n", "unbalanced quotes in request");
    check_error(b"'a'b\n", "unbalanced quotes in request");
}

#[test]
fn a_nul_byte_hides_the_end_of_a_line() {
    check(b"PI\0NG\r\n", &[]);
    check(b"*1\0\r\n$4\r\nPING\r\n", &[]);
    check(b"*1\r\n$4\0\r\nPING\r\n", &[]);
    check(b"\0", &[]);
    let hidden = |start: &[u8]| [start, &[b'\n'; 65537]].concat();
    check_error(&hidden(b"\0"), "too big inline request");
    check_error(&hidden(b"*\0"), "too big mbulk count string");
    check_error(&hidden(b"*1\r\n\0"), "too big bulk count string");
}

#[test]
fn lines_are_limited() {
    let line = |start: &str, length: usize, end: &str| {
        format!("{start}{}{end}", "1".repeat(length)).into_bytes()
    };
    const MAX: usize = 64 * 1024;
    check(&line("", MAX, ""), &[]);
    check(&line("", MAX, "\n"), &[(MAX + 1, 1)]);
    check_error(&line("", MAX + 1, ""), "too big inline request");
    check_error(&line("", MAX + 1, "\n"), "too big inline request");
    check(&line("*", MAX - 1, ""), &[]);
    check_error(&line("*", MAX - 1, "\r\n"), "invalid multibulk length");
    check_error(&line("*", MAX, ""), "too big mbulk count string");
    check(&line("*1\r\n", MAX, ""), &[]);
    check_error(&line("*1\r\n$", MAX - 1, "\r\n"), "invalid bulk length");
    check_error(&line("*1\r\n", MAX + 1, ""), "too big bulk count string");
    // What precedes a line does not count.
    let long = format!("*2\r\n$65536\r\n{}\r\n$", "x".repeat(65536));
    check(long.as_bytes(), &[]);
}

#[test]
fn limits_are_kept() {
    let small = Limits {
        inline_bytes_max: 8,
        arguments_max: 3,
        bulk_bytes_max: 16,
        command_bytes_max: 40,
    };
    let check = |bytes: &[u8], frames: &[(usize, u32)], error| {
        check_limits(small, bytes, frames, error);
    };
    check(b"12345678\n", &[(9, 1)], None);
    check(b"123456789\n", &[], Some("too big inline request"));
    check(b"*3\r\n", &[], None);
    check(b"*4\r\n", &[], Some("invalid multibulk length"));
    check(b"*1\r\n$16\r\n0123456789abcdef\r\n", &[(27, 1)], None);
    check(b"*1\r\n$17\r\n", &[], Some("invalid bulk length"));
    check(
        b"*2\r\n$16\r\n0123456789abcdef\r\n$7\r\n0123456\r\n",
        &[(40, 2)],
        None,
    );
    check(
        b"*2\r\n$16\r\n0123456789abcdef\r\n$8\r\n",
        &[],
        Some("too big command"),
    );
}

#[test]
fn who_has_yet_to_authenticate_is_kept_short() {
    let scan = |unauthenticated: bool, bytes: &[u8]| {
        let mut scanner = Scanner::default();
        scanner.set_unauthenticated(unauthenticated);
        scanner.next(bytes).map_err(|error| error.0.into_owned())
    };
    for taken in [&b"*10\r\n"[..], b"*1\r\n$16384\r\n"] {
        assert_eq!(scan(true, taken), Ok(None));
    }
    for (refused, text) in [
        (
            &b"*11\r\n"[..],
            "Protocol error: unauthenticated multibulk length",
        ),
        (
            b"*1\r\n$16385\r\n",
            "Protocol error: unauthenticated bulk length",
        ),
    ] {
        assert_eq!(scan(true, refused), Err(text.to_owned()));
        assert_eq!(scan(false, refused), Ok(None));
    }
}

#[test]
fn names_are_found() {
    let name = |bytes: &'static [u8]| {
        let frame = Scanner::default().next(bytes).unwrap().unwrap();
        (&bytes[frame.name.0..frame.name.1], frame.inline)
    };
    assert_eq!(
        name(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
        (&b"GET"[..], false)
    );
    assert_eq!(name(b"*1\r\n$0\r\n\r\n"), (&b""[..], false));
    assert_eq!(name(b"*0\r\n"), (&b""[..], false));
    assert_eq!(name(b"  GET k\r\n"), (&b"GET"[..], true));
    assert_eq!(name(b" \"GET\" k\r\n"), (&b"\"GET\""[..], true));
    assert_eq!(name(b" \r\n"), (&b""[..], true));
}

#[test]
fn what_is_needed_is_a_lower_bound() {
    let needed = |bytes: &[u8]| scan(Limits::default(), bytes).needed;
    assert_eq!(needed(b""), 1);
    assert_eq!(needed(b"*"), 1);
    assert_eq!(needed(b"*2\r\n"), 12);
    assert_eq!(needed(b"*2\r\n$3\r\n"), 5 + 6);
    assert_eq!(needed(b"*2\r\n$3\r\nGET\r\n$1000000\r\n"), 1_000_002);
    assert_eq!(needed(b"*2\r\n$3\r\nGET\r\n$1000000\r\nabc"), 999_999);
    assert_eq!(needed(b"*1\r\n$4\r\nPING\r\n"), 1);
    assert_eq!(needed(b"PING"), 1);
}

#[test]
fn web_pages_are_recognised() {
    for name in [&b"POST"[..], b"post", b"Host:", b"HOST:", b"post\0anything"] {
        assert!(is_cross_protocol(name), "{}", name.escape_ascii());
    }
    for name in [&b"GET"[..], b"POSTS", b"Host", b"", b"\0post", b"pos\0t"] {
        assert!(!is_cross_protocol(name), "{}", name.escape_ascii());
    }
}

/// Pieces that together come close to commands more often than chance does.
fn nearly_commands() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => proptest::sample::select(vec![
            &b"*"[..], b"$", b"\r\n", b"\r", b"\n", b"0", b"1", b"2", b"3", b"-1", b"PING", b" ",
            b"\"", b"'", b"\\x41", b"\\", b"\0", b"*1\r\n$4\r\nPING\r\n", b"*2\r\n$3\r\nGET\r\n",
            b"$1\r\nk\r\n", b"$0\r\n\r\n", b"*0\r\n", b"PING\r\n", b"99999999999999999999",
        ]).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Limits small enough for generated bytes to reach.
fn limits() -> impl Strategy<Value = Limits> {
    let small = Limits {
        inline_bytes_max: 12,
        arguments_max: 3,
        bulk_bytes_max: 20,
        command_bytes_max: 48,
    };
    proptest::sample::select(vec![Limits::default(), small])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn splits_make_no_difference(
        limits in limits(),
        bytes in nearly_commands(),
        mut ends in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
    ) {
        ends.sort_by_key(|end| end.index(bytes.len() + 1));
        let ends = ends.iter().map(|end| end.index(bytes.len() + 1));
        prop_assert_eq!(scan_pieces(limits, &bytes, ends), scan(limits, &bytes));
    }

    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        scan(Limits::default(), &bytes);
    }

    #[test]
    fn arguments_agree_with_frames(bytes in nearly_commands()) {
        let mut at = 0;
        for frame in scan(Limits::default(), &bytes).frames {
            let command = &bytes[at..at + frame.end];
            let mut scratch = Vec::new();
            let arguments = arguments::parse(command, &mut scratch);
            prop_assert_eq!(arguments.len(), frame.arguments as usize);
            if let (Some(name), false) = (arguments.first(), frame.inline) {
                prop_assert_eq!(*name, &command[frame.name.0..frame.name.1]);
            }
            at += frame.end;
        }
    }

    #[test]
    fn commands_come_back(
        commands in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..12),
            1..4,
        ),
    ) {
        let mut bytes = Vec::new();
        for arguments in &commands {
            bytes.extend(format!("*{}\r\n", arguments.len()).into_bytes());
            for argument in arguments {
                bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
                bytes.extend(argument);
                bytes.extend(b"\r\n");
            }
        }
        // What is needed is never more than what is missing.
        let mut scanner = Scanner::default();
        let first = Scanner::default().next(&bytes).unwrap().unwrap().end;
        for end in 0..first {
            prop_assert_eq!(scanner.next(&bytes[..end]), Ok(None));
            prop_assert!(end + scanner.needed() <= first);
        }
        let mut at = 0;
        let mut found = Vec::new();
        for frame in scan(Limits::default(), &bytes).frames {
            let mut scratch = Vec::new();
            let arguments = arguments::parse(&bytes[at..at + frame.end], &mut scratch);
            found.push(arguments.iter().map(|argument| argument.to_vec()).collect::<Vec<_>>());
            at += frame.end;
        }
        prop_assert_eq!(at, bytes.len());
        prop_assert_eq!(found, commands);
    }
}
