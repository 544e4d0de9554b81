use super::*;

/// What came of a link's bytes: the frames, and the error they stop at.
type Scanned = (Vec<ReplyFrame>, Option<ReplyError>);

/// Scans `bytes` as they arrive up to each of `ends`, last the whole of them,
/// for replies that are all of one shape.
fn scan_pieces(shape: Shape, bytes: &[u8], ends: impl IntoIterator<Item = usize>) -> Scanned {
    let mut scanner = ReplyScanner::default();
    let mut frames = Vec::new();
    let mut at = 0;
    // How far the bytes have to reach at least before the reply is complete.
    let mut earliest = 0;
    for end in ends.into_iter().chain([bytes.len()]) {
        loop {
            match scanner.next(shape, &bytes[at..end]) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    assert!(frame.end > 0);
                    at += frame.end;
                    assert!(at <= end && earliest <= at, "progress within the bytes");
                    earliest = 0;
                    frames.push(frame);
                }
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(scanner.needed() > 0);
        earliest = end + scanner.needed();
    }
    (frames, None)
}

/// The same frames and error are found whole, split at every byte, and byte by
/// byte.
#[track_caller]
fn check_pieces(shape: Shape, bytes: &[u8]) -> Scanned {
    let whole = scan_pieces(shape, bytes, []);
    let text = bytes.escape_ascii();
    for split in 0..bytes.len() {
        let pieces = scan_pieces(shape, bytes, [split]);
        assert_eq!(pieces, whole, "{shape:?} {text} split at {split}");
    }
    let pieces = scan_pieces(shape, bytes, 0..bytes.len());
    assert_eq!(pieces, whole, "{shape:?} {text} byte by byte");
    whole
}

/// Checks that `reply` is one reply, whole at its last byte and not before,
/// alone and with another one after it.
#[track_caller]
fn check_reply(shape: Shape, reply: &[u8], error: bool) {
    let frame = ReplyFrame {
        end: reply.len(),
        error,
    };
    let text = reply.escape_ascii();
    let alone = check_pieces(shape, reply);
    assert_eq!(alone, (vec![frame], None), "{shape:?} {text}");
    let twice = check_pieces(shape, &[reply, reply].concat());
    assert_eq!(twice, (vec![frame, frame], None), "{shape:?} {text}");
}

#[track_caller]
fn check(shape: Shape, reply: &[u8]) {
    check_reply(shape, reply, false);
}

#[track_caller]
fn check_error(shape: Shape, bytes: &[u8], error: &'static str) {
    let found = check_pieces(shape, bytes);
    let expected = (Vec::new(), Some(ReplyError(error)));
    assert_eq!(found, expected, "{shape:?} {}", bytes.escape_ascii());
}

fn packet(opcode: u8, status: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = (extras.len() + key.len() + value.len()) as u32;
    let mut packet = vec![0x81, opcode];
    packet.extend((key.len() as u16).to_be_bytes());
    packet.extend([extras.len() as u8, 0, 0, status]);
    packet.extend(body.to_be_bytes());
    packet.extend(b"OPAQ\0\0\0\0\0\0\0\x07");
    packet.extend([extras, key, value].concat());
    packet
}

const LINES: [Shape; 5] = [
    Shape::Line,
    Shape::Values,
    Shape::Statistics,
    Shape::Dump,
    Shape::Meta,
];

#[test]
fn lines() {
    for line in [
        &b"STORED\r\n"[..],
        b"NOT_FOUND\r\n",
        b"57\r\n",
        b"HD k5 O1\r\n",
        b"MN\r\n",
        b"ME k exp=-1 la=0\r\n",
        b"OK\n",
        b"\r\n",
        b"VALUE\r\n",
    ] {
        check(Shape::Line, line);
    }
    let list = "a list where a line was to come";
    check_error(Shape::Line, b"VALUE k 0 1\r\n", list);
    check_error(Shape::Line, b"STAT pid 1\r\n", list);
}

#[test]
fn values() {
    for reply in [
        &b"END\r\n"[..],
        b"VALUE k 0 1\r\nx\r\nEND\r\n",
        b"VALUE k 0 0\r\n\r\nEND\r\n",
        b"VALUE k 0 5\r\nEND\r\n\r\nEND\r\n",
        b"VALUE a 0 1 99\r\nx\r\nVALUE b 4294967295 8\r\nERROR\r\n\n\r\nEND\r\n",
        b"VALUE k 0 3\r\n\0\xff\n\r\nEND\r\n",
    ] {
        check(Shape::Values, reply);
    }
    for line in [
        &b"VALUE k 0\r\n"[..],
        b"VALUE k 0 x\r\n",
        b"VALUE k 0 -1\r\n",
        b"VALUE \n",
    ] {
        check_error(Shape::Values, line, "invalid length of a value");
    }
    check_error(
        Shape::Values,
        b"VALUE k 0 1073741825\r\n",
        "invalid length of a value",
    );
    check_error(
        Shape::Values,
        b"VALUE k 0 1\r\nxyz",
        "a value without its end",
    );
    let other = "neither a value nor the end of values";
    check_error(Shape::Values, b"STORED\r\n", other);
    check_error(Shape::Values, b"VALUE k 0 1\r\nx\r\n\r\n", other);
}

#[test]
fn an_error_may_come_after_values() {
    check_reply(
        Shape::Values,
        b"VALUE k 0 1\r\nx\r\nSERVER_ERROR out of memory writing get response\r\n",
        true,
    );
    check_reply(Shape::Statistics, b"STAT a 1\r\nSERVER_ERROR x\r\n", true);
    check_reply(Shape::Dump, b"key=a exp=-1\r\nERROR locked\r\n", true);
}

#[test]
fn statistics() {
    for reply in [
        &b"END\r\n"[..],
        b"RESET\r\n",
        b"OK\r\n",
        b"STAT pid 1\r\nEND\r\n",
        b"STAT pid 1\r\nSTAT version 1.6.18\r\nEND\r\n",
        b"ITEM k [1 b; 0 s]\r\nITEM END [1 b; 0 s]\r\nEND\r\n",
        b"PREFIX a get 1 hit 1 set 1 del 0\r\nEND\r\n",
    ] {
        check(Shape::Statistics, reply);
    }
}

#[test]
fn dumps() {
    for reply in [
        &b"END\r\n"[..],
        b"EN\r\n",
        b"BUSY currently processing crawler request\r\n",
        b"NOTSTARTED\r\n",
        b"key=a exp=-1 la=1 cas=2 fetch=no cls=1 size=64\r\nkey=END exp=-1\r\nEND\r\n",
        b"mg a\r\nmg END\r\nEN\r\n",
    ] {
        check(Shape::Dump, reply);
    }
}

#[test]
fn meta_replies() {
    for reply in [
        &b"EN\r\n"[..],
        b"HD\r\n",
        b"HD O1 kabc\r\n",
        b"NF\r\n",
        b"VA 1\r\nx\r\n",
        b"VA 0\r\n\r\n",
        b"VA 0 t-1 s0\r\n\r\n",
        b"VA 4 kfoo O9\r\nHD\r\n\r\n",
        b"VA 12\r\nVA 1000000\r\n\r\n",
    ] {
        check(Shape::Meta, reply);
    }
    check_error(Shape::Meta, b"VA \r\n", "invalid length of a value");
    check_error(Shape::Meta, b"VA x\r\n", "invalid length of a value");
    check_error(Shape::Meta, b"VA 1\r\nxyz", "a value without its end");
}

#[test]
fn errors_take_the_place_of_any_reply() {
    for shape in LINES {
        for reply in [
            &b"ERROR\r\n"[..],
            b"ERROR unknown command\r\n",
            b"ERROR: shutdown not enabled\r\n",
            b"CLIENT_ERROR bad data chunk\r\n",
            b"SERVER_ERROR out of memory storing object\r\n",
            b"SERVER_ERROR\n",
        ] {
            check_reply(shape, reply, true);
        }
    }
    for text in [&b"ERRORS"[..], b"", b"error", b"XERROR", b"SERVER_ERRORS x"] {
        assert!(!is_error(text), "{}", text.escape_ascii());
    }
}

#[test]
fn lines_are_limited() {
    for shape in LINES {
        let error = [b"ERROR ", &b"x".repeat(LINE_BYTES_MAX - 7)[..], b"\r\n"].concat();
        let end = error.len();
        let found = scan_pieces(shape, &error, []);
        assert_eq!(found, (vec![ReplyFrame { end, error: true }], None));
        for end in [&b"\n"[..], b""] {
            let long = [&b"x".repeat(LINE_BYTES_MAX + 1), end].concat();
            let found = scan_pieces(shape, &long, []);
            assert_eq!(found, (vec![], Some(ReplyError("too long a line"))));
        }
    }
}

#[test]
fn single_packets() {
    check(Shape::Packet, &packet(0x0a, 0, b"", b"", b""));
    check(Shape::Packet, &packet(0x00, 0, &[0; 4], b"", b"value\r\n"));
    check(Shape::Packet, &packet(0x0c, 0, &[0; 4], b"key", b"value"));
    check(Shape::Packet, &packet(0x10, 0, b"", b"pid", b"1"));
    check_reply(
        Shape::Packet,
        &packet(0x00, 1, b"", b"", b"Not found"),
        true,
    );
    // GetK gives the key back even where there is none.
    check_reply(Shape::Packet, &packet(0x0c, 1, b"", b"key", b""), true);
}

#[test]
fn packets_up_to_one_without_a_key() {
    let stat = packet(0x10, 0, b"", b"pid", b"1");
    let empty = packet(0x10, 0, b"", b"prefix", b"");
    let last = packet(0x10, 0, b"", b"", b"");
    check(Shape::Packets, &last);
    check(Shape::Packets, &[&stat[..], &empty, &stat, &last].concat());
    let error = packet(0x10, 1, b"", b"", b"Not found");
    check_reply(Shape::Packets, &error, true);
    check_reply(Shape::Packets, &[&stat[..], &error].concat(), true);
}

#[test]
fn what_is_no_packet_is_an_error() {
    let mut request = packet(0x0a, 0, b"", b"", b"");
    request[0] = 0x80;
    let mut overfull = packet(0x0c, 0, b"", b"key", b"");
    overfull[11] = 2;
    let mut huge = packet(0x00, 0, b"", b"", b"");
    huge[8..12].copy_from_slice(&(VALUE_BYTES_MAX as u32 + 1).to_be_bytes());
    for shape in [Shape::Packet, Shape::Packets] {
        check_error(shape, &request, "no packet where one was to come");
        check_error(shape, b"ERROR\r\n", "no packet where one was to come");
        check_error(shape, &overfull, "invalid length of a packet");
        check_error(shape, &huge, "invalid length of a packet");
    }
    // A second packet of a list is looked at in the same way.
    let stat = packet(0x10, 0, b"", b"pid", b"1");
    check_error(
        Shape::Packets,
        &[&stat[..], b"\x80"].concat(),
        "no packet where one was to come",
    );
}

#[test]
fn what_has_no_reply_has_none() {
    for shape in [Shape::Stream, Shape::Nothing, Shape::Local] {
        check_error(shape, b"OK\r\n", "a reply to what has none");
    }
}

#[test]
fn what_is_needed_is_told() {
    let needed = |shape: Shape, bytes: &[u8]| {
        let mut scanner = ReplyScanner::default();
        assert_eq!(scanner.next(shape, bytes), Ok(None));
        scanner.needed()
    };
    assert_eq!(needed(Shape::Line, b"STO"), 1);
    assert_eq!(needed(Shape::Values, b"VALUE k 0 10\r\nabc"), 9);
    assert_eq!(needed(Shape::Meta, b"VA 10\r\n"), 12);
    assert_eq!(needed(Shape::Meta, b"VA 10\r\n0123456789\r"), 1);
    assert_eq!(needed(Shape::Packet, b""), 24);
    assert_eq!(needed(Shape::Packet, b"\x81"), 23);
    let value = packet(0x00, 0, &[0; 4], b"", b"value");
    assert_eq!(needed(Shape::Packet, &value[..24]), 9);
    let stat = packet(0x10, 0, b"", b"pid", b"1");
    assert_eq!(needed(Shape::Packets, &stat), 24);
}
