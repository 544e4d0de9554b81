use super::*;
use crate::protocol::memcached::text::{SILENT, UNKNOWN};
use crate::protocol::memcached::verbs::Verb;

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
    // How far the bytes have to reach at least before the command is complete.
    let mut earliest = 0;
    for end in ends.into_iter().chain([bytes.len()]) {
        loop {
            match scanner.next(&bytes[at..end]) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    assert!(frame.end > 0);
                    at += frame.end;
                    assert!(at <= end && earliest <= at, "progress within the bytes");
                    earliest = 0;
                    scanned.frames.push(frame);
                }
                Err(error) => {
                    let again = scanner.next(&bytes[at..end]);
                    assert_eq!(again, Err(error.clone()), "errors stay");
                    scanned.error = Some(error.to_string());
                    scanned.needed = 0;
                    return scanned;
                }
            }
        }
        scanned.needed = scanner.needed(end - at);
        assert!(scanned.needed > 0);
        earliest = end + scanned.needed;
    }
    scanned
}

/// Checks verbs, ends and whether they are quiet of the commands in `bytes`,
/// whole, split at every byte, and byte by byte.
#[track_caller]
fn check_limits(limits: Limits, bytes: &[u8], commands: &[(Verb, usize)], error: Option<&str>) {
    let whole = scan_pieces(limits, bytes, []);
    let found: Vec<_> = whole
        .frames
        .iter()
        .map(|frame| (verb(frame), frame.end))
        .collect();
    let text = bytes[..bytes.len().min(500)].escape_ascii();
    assert_eq!(found, commands, "{text}");
    assert_eq!(whole.error.as_deref(), error, "{text}");
    if bytes.len() > 2 * LINE_BYTES_MAX {
        return;
    }
    for split in 0..bytes.len() {
        let pieces = scan_pieces(limits, bytes, [split]);
        assert_eq!(pieces, whole, "{text} split at {split}");
    }
    let pieces = scan_pieces(limits, bytes, 0..bytes.len());
    assert_eq!(pieces, whole, "{text} byte by byte");
}

fn verb(frame: &Frame) -> Verb {
    frame.specification.row().expect("a row").verb
}

#[track_caller]
fn check(bytes: &[u8], commands: &[(Verb, usize)]) {
    check_limits(Limits::default(), bytes, commands, None);
}

#[track_caller]
fn check_error(bytes: &[u8], error: &str) {
    check_limits(Limits::default(), bytes, &[], Some(error));
}

/// A request packet without a number to compare with.
fn packet(opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = (extras.len() + key.len() + value.len()) as u32;
    let mut packet = vec![0x80, opcode];
    packet.extend((key.len() as u16).to_be_bytes());
    packet.extend([extras.len() as u8, 0, 0, 0]);
    packet.extend(body.to_be_bytes());
    packet.extend(b"OPAQ\0\0\0\0\0\0\0\0");
    packet.extend([extras, key, value].concat());
    packet
}

#[test]
fn lines_are_cut() {
    check(b"get a\r\n", &[(Verb::Get, 7)]);
    check(b"get a\n", &[(Verb::Get, 6)]);
    check(
        b"get a b\r\ngets c\nmn\r\nmg k v\r\n",
        &[
            (Verb::Get, 9),
            (Verb::Gets, 7),
            (Verb::MetaNoop, 4),
            (Verb::MetaGet, 8),
        ],
    );
    check(b"get a\rget b\n", &[(Verb::Get, 12)]);
    check(b"get a\r\r\n", &[(Verb::Get, 8)]);
    check(
        b"\r\n\n \r\n",
        &[
            (Verb::LocalUnknown, 2),
            (Verb::LocalUnknown, 1),
            (Verb::LocalUnknown, 3),
        ],
    );
}

#[test]
fn values_are_part_of_their_command() {
    check(b"set k 0 0 1\r\nx\r\n", &[(Verb::Set, 16)]);
    check(b"set k 0 0 0\r\n\r\n", &[(Verb::Set, 15)]);
    check(b"set k 0 0 1\nx\r\n", &[(Verb::Set, 15)]);
    check(b"cas k 0 0 1 7\r\nx\r\n", &[(Verb::Cas, 18)]);
    check(b"ms k 2\r\nhi\r\n", &[(Verb::MetaSet, 12)]);
    check(
        b"set k 0 0 7\r\nget a\r\n\r\nget b\r\n",
        &[(Verb::Set, 22), (Verb::Get, 7)],
    );
    check(
        b"ms k 12\r\nset k 0 0 1\n\r\nmn\r\n",
        &[(Verb::MetaSet, 23), (Verb::MetaNoop, 4)],
    );
    check(b"set k 0 0 3\r\n\0\n\0\r\n", &[(Verb::Set, 18)]);
    // Whatever takes the place of the line end belongs to the command.
    check(
        b"set k 0 0 1\r\nxyzmn\r\n",
        &[(Verb::Set, 16), (Verb::MetaNoop, 4)],
    );
    check(
        b"ms k 1\r\nx\n\nmn\r\n",
        &[(Verb::MetaSet, 11), (Verb::MetaNoop, 4)],
    );
}

#[test]
fn incomplete_commands_are_awaited() {
    for bytes in [
        &b""[..],
        b"g",
        b"get a",
        b"get a\r",
        b"set k 0 0 1\r\n",
        b"set k 0 0 1\r\nx",
        b"set k 0 0 1\r\nx\r",
        b"ms k 1073741824\r\nx",
        b"\x80",
        b"\x80\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\x80\x00\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0",
    ] {
        check(bytes, &[]);
    }
}

#[test]
fn what_is_needed_is_a_lower_bound() {
    let needed = |bytes: &[u8]| scan_pieces(Limits::default(), bytes, []).needed;
    assert_eq!(needed(b""), 1);
    assert_eq!(needed(b"get a"), 1);
    assert_eq!(needed(b"set k 0 0 5\r\n"), 7);
    assert_eq!(needed(b"set k 0 0 5\r\nhello"), 2);
    assert_eq!(needed(b"mn\r\n"), 1);
    assert_eq!(needed(b"\x80\x0a"), 22);
    let set = packet(1, &[0; 8], b"k", b"value");
    assert_eq!(needed(&set[..HEADER_BYTES]), 14);
    assert_eq!(needed(&set[..HEADER_BYTES + 13]), 1);
    // The command before does not count.
    assert_eq!(needed(b"set k 0 0 5\r\nhello\r\n"), 1);
    assert_eq!(needed(&[&set[..], b"\x80"].concat()), 23);
}

#[test]
fn a_nul_byte_in_a_line_is_refused() {
    check_error(b"get a\0\r\n", BAD_FORMAT);
    check_error(b"\0", BAD_FORMAT);
    check_limits(
        Limits::default(),
        b"mn\r\nmn\0\r\n",
        &[(Verb::MetaNoop, 4)],
        Some(BAD_FORMAT),
    );
}

#[test]
fn lines_are_limited() {
    let line = |start: &str, length: usize, end: &str| {
        let fill = "x".repeat(length - start.len());
        format!("{start}{fill}{end}").into_bytes()
    };
    const MAX: usize = LINE_BYTES_MAX;
    check(&line("mg ", MAX, ""), &[]);
    check(&line("mg ", MAX, "\n"), &[(Verb::MetaGet, MAX + 1)]);
    check(&line("mg ", MAX - 1, "\r\n"), &[(Verb::MetaGet, MAX + 1)]);
    check_error(&line("mg ", MAX, "\r\n"), LINE_TOO_LONG);
    check_error(&line("mg ", MAX + 1, ""), LINE_TOO_LONG);
    check_error(&line("get\t", MAX + 1, ""), LINE_TOO_LONG);
    check_error(&line("gat 0 ", MAX + 1, "\n"), LINE_TOO_LONG);
    check_error(&line("bget ", MAX + 1, "\n"), LINE_TOO_LONG);

    let keys = " key".repeat(1000);
    let get = format!("get{keys}\r\n");
    check(get.as_bytes(), &[(Verb::Get, 4005)]);
    let gets = format!("gets{keys}\n");
    check(gets.as_bytes(), &[(Verb::Gets, 4005)]);
    let spaces = " ".repeat(LEADING_SPACES_MAX);
    let get = format!("{spaces}get{keys}\r\n");
    check(get.as_bytes(), &[(Verb::Get, 4105)]);
    check_error(format!(" {get}").as_bytes(), LINE_TOO_LONG);
}

#[test]
fn limits_are_kept() {
    let small = Limits {
        get_line_bytes_max: 3000,
        value_bytes_max: 5,
    };
    let check = |bytes: &[u8], commands: &[(Verb, usize)], error| {
        check_limits(small, bytes, commands, error);
    };
    check(b"set k 0 0 5\r\nhello\r\n", &[(Verb::Set, 20)], None);
    check(b"set k 0 0 6\r\n", &[], Some(TOO_LARGE));
    check(b"ms k 6\r\n", &[], Some(TOO_LARGE));
    let get = format!("get {}\n", "k ".repeat(1498));
    check(get.as_bytes(), &[(Verb::Get, 3001)], None);
    check(
        format!("get k{}", &get[4..]).as_bytes(),
        &[],
        Some(LINE_TOO_LONG),
    );
    let set = packet(1, &[0; 8], b"k", b"hello");
    check(&set, &[(Verb::BinarySet, set.len())], None);
    let set = packet(1, &[0; 8], b"k", b"hello!");
    check(&set, &[], Some(binary::TOO_LARGE));
    // Extras and key are no part of the value.
    let get = packet(0, b"", b"longer", b"");
    check(&get, &[(Verb::BinaryGet, get.len())], None);
}

#[test]
fn refused_lines_end_the_scan() {
    check_error(b"set k 0 0 +1\r\nx\r\n", BAD_FORMAT);
    check_error(b"set k x 0 1\r\nx\r\n", BAD_FORMAT);
    check_error(b"set k 0 0 1 noreply 3\r\nx\r\n", UNKNOWN);
    check_error(b"GET / HTTP/1.1\r\n", SILENT);
    check_limits(
        Limits::default(),
        b"get a\r\nset k 0 0 1073741825\r\n",
        &[(Verb::Get, 7)],
        Some(TOO_LARGE),
    );
}

#[test]
fn packets_are_cut() {
    let noop = packet(0x0a, b"", b"", b"");
    let set = packet(1, &[0; 8], b"key", b"\r\nget a\r\n");
    let quiet = packet(0x11, &[0; 8], b"key", b"");
    check(&noop, &[(Verb::BinaryNoop, 24)]);
    check(
        &[&noop[..], &set, &quiet, &noop].concat(),
        &[
            (Verb::BinaryNoop, 24),
            (Verb::BinarySet, 44),
            (Verb::BinarySet, 35),
            (Verb::BinaryNoop, 24),
        ],
    );
}

#[test]
fn the_first_byte_chooses_the_dialect() {
    let noop = packet(0x0a, b"", b"", b"");
    check_limits(
        Limits::default(),
        &[&noop[..], &b"get a\r\n".repeat(4)].concat(),
        &[(Verb::BinaryNoop, 24)],
        Some(SILENT),
    );
    check(
        b"mn\r\n\x80\n",
        &[(Verb::MetaNoop, 4), (Verb::LocalUnknown, 2)],
    );
    let dialect = |bytes: &[u8]| {
        let mut scanner = Scanner::new(Limits::default());
        scanner.next(bytes).expect("nothing refused");
        scanner.dialect()
    };
    assert_eq!(dialect(b""), None);
    assert_eq!(dialect(b"\x80"), Some(Dialect::Binary));
    assert_eq!(dialect(b"\x81"), Some(Dialect::Text));
    assert_eq!(dialect(b"g"), Some(Dialect::Text));
}

#[test]
fn quiet_forms_are_told() {
    let forms = |bytes: &[u8]| -> Vec<(bool, bool)> {
        let scanned = scan_pieces(Limits::default(), bytes, []);
        assert_eq!(scanned.error, None);
        let specifications = scanned.frames.iter().map(|frame| frame.specification);
        specifications
            .map(|found| (found.is_quiet(), found.is_rewritten()))
            .collect()
    };
    const LOUD: (bool, bool) = (false, false);
    const QUIET: (bool, bool) = (true, true);
    assert_eq!(
        forms(b"set k 0 0 1 noreply\r\nx\r\nset k 0 0 1\r\nx\r\nmg k q\r\nmg k\r\n"),
        [QUIET, LOUD, QUIET, LOUD]
    );
    let set = |opcode| packet(opcode, &[0; 8], b"k", b"");
    assert_eq!(forms(&[set(1), set(0x11)].concat()), [LOUD, QUIET]);
}
