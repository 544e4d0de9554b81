use super::*;
use crate::protocol::memcached::BINARY_RESPONSE;
use crate::protocol::memcached::text::SILENT;
use crate::protocol::memcached::verbs::Shape;

const VALUE_BYTES_MAX: u32 = 1000;

fn header(opcode: u8, extras: u8, key: u16, value: u32) -> Header {
    Header {
        magic: BINARY_REQUEST,
        opcode,
        key_bytes: key,
        extras_bytes: extras,
        status: 0,
        body_bytes: u32::from(extras) + u32::from(key) + value,
        opaque: *b"OPAQ",
        cas: 0,
    }
}

#[track_caller]
fn check(header: Header, verb: Verb, quiet: bool) {
    let (specification, class) = judge(&header, VALUE_BYTES_MAX).expect("a well-formed packet");
    let row = specification.row().expect("a row");
    assert_eq!(row.verb, verb, "{header:?}");
    assert_eq!(class, row.class, "{header:?}");
    assert_eq!(specification.is_quiet(), quiet, "{header:?}");
    assert_eq!(specification.is_rewritten(), quiet, "{header:?}");
}

#[track_caller]
fn check_refused(header: Header, text: &str) {
    let error = judge(&header, VALUE_BYTES_MAX).expect_err("refused");
    assert_eq!(error.0, text, "{header:?}");
}

/// What a well-formed packet of a verb has: extras, a key, a value.
fn form(verb: Verb) -> (u8, u16, u32) {
    match verb {
        Verb::BinarySet | Verb::BinarySetConditional | Verb::BinaryAdd | Verb::BinaryReplace => {
            (8, 3, 5)
        }
        Verb::BinaryAppend | Verb::BinaryPrepend => (0, 3, 5),
        Verb::BinarySaslStart | Verb::BinarySaslStep => (0, 5, 9),
        Verb::BinaryGet
        | Verb::BinaryGetKey
        | Verb::BinaryDelete
        | Verb::BinaryDeleteConditional => (0, 3, 0),
        Verb::BinaryIncrement | Verb::BinaryDecrement => (20, 3, 0),
        Verb::BinaryTouch | Verb::BinaryGetAndTouch | Verb::BinaryGetAndTouchKey => (4, 3, 0),
        _ => (0, 0, 0),
    }
}

#[test]
fn a_header_is_read() {
    let mut bytes = vec![0x81, 0x0c, 0x01, 0x02, 0x03, 0x00, 0x00, 0x86];
    bytes.extend([0x00, 0x00, 0x02, 0x00]);
    bytes.extend(b"OPAQ");
    bytes.extend(0x0102_0304_0506_0708u64.to_be_bytes());
    for end in 0..HEADER_BYTES {
        assert_eq!(Header::of(&bytes[..end]), None);
    }
    let expected = Header {
        magic: BINARY_RESPONSE,
        opcode: 0x0c,
        key_bytes: 258,
        extras_bytes: 3,
        status: 0x86,
        body_bytes: 512,
        opaque: *b"OPAQ",
        cas: 0x0102_0304_0506_0708,
    };
    assert_eq!(Header::of(&bytes), Some(expected));
    assert_eq!(expected.packet_bytes(), 536);
    bytes.resize(HEADER_BYTES + 512, b'x');
    assert_eq!(Header::of(&bytes), Some(expected));
}

#[test]
fn parts_are_extras_key_and_value() {
    let packet = |extras: u8, key: u16, body: u32| {
        let mut header = header(1, extras, key, 0);
        header.body_bytes = body;
        header
    };
    let bytes = [&[0; HEADER_BYTES][..], b"extkeyvalue!"].concat();
    assert_eq!(
        packet(3, 3, 11).parts(&bytes),
        Some((&b"ext"[..], &b"key"[..], &b"value"[..]))
    );
    assert_eq!(
        packet(0, 0, 0).parts(&bytes),
        Some((&b""[..], &b""[..], &b""[..]))
    );
    assert_eq!(packet(3, 3, 13).parts(&bytes), None);
    assert_eq!(packet(3, 3, 5).parts(&bytes), None);
    assert_eq!(packet(7, 0, 6).parts(&bytes), None);
}

#[test]
fn every_opcode_has_its_verb() {
    for row in ROWS.iter().filter(|row| row.opcode.is_some()) {
        let (extras, key, value) = form(row.verb);
        let is_second = row.effect == Effect::Conditional
            && [Verb::BinarySetConditional, Verb::BinaryDeleteConditional].contains(&row.verb);
        for (opcode, quiet) in [(row.opcode, false), (row.quiet_opcode, true)] {
            let Some(opcode) = opcode else { continue };
            let mut header = header(opcode, extras, key, value);
            header.cas = u64::from(is_second);
            check(header, row.verb, quiet);
        }
    }
}

#[test]
fn unknown_opcodes_are_answered_here() {
    let mut unknown = 0;
    for opcode in 0..=255 {
        if VERBS[usize::from(opcode)] != Verb::LocalUnknownPacket {
            continue;
        }
        unknown += 1;
        check(header(opcode, 0, 0, 0), Verb::LocalUnknownPacket, false);
        check(header(opcode, 7, 9, 11), Verb::LocalUnknownPacket, false);
    }
    assert_eq!(unknown, 256 - 0x25 + 2);
    assert_eq!(Verb::LocalUnknownPacket.row().shape, Shape::Local);
}

#[test]
fn packets_of_another_form_are_refused() {
    for row in ROWS.iter().filter(|row| row.opcode.is_some()) {
        let (extras, key, value) = form(row.verb);
        let opcode = row.opcode.expect("it was looked for");
        let refused = |extras: u8, key: u16, value: u32| {
            check_refused(header(opcode, extras, key, value), INVALID_ARGUMENTS);
        };
        refused(extras + 1, key, value);
        if extras > 0 {
            refused(extras - 1, key, value);
        }
        if key > 0 {
            refused(extras, 0, value);
            refused(extras, KEY_BYTES_MAX as u16 + 1, value);
            check(
                header(opcode, extras, KEY_BYTES_MAX as u16, value),
                verb(&header(opcode, 0, 0, 0)),
                false,
            );
        } else if row.verb != Verb::BinaryStatistics {
            refused(extras, 1, value);
        }
        if value == 0 {
            refused(extras, key, 1);
        }
    }
}

#[test]
fn some_forms_are_free() {
    check(header(0x10, 0, 5, 0), Verb::BinaryStatistics, false);
    check(header(0x08, 4, 0, 0), Verb::BinaryFlush, false);
    check(header(0x18, 4, 0, 0), Verb::BinaryFlush, true);
    check_refused(header(0x08, 8, 0, 0), INVALID_ARGUMENTS);
    check(header(0x01, 8, 1, 0), Verb::BinarySet, false);
    check(header(0x0e, 0, 1, 0), Verb::BinaryAppend, false);
}

#[test]
fn a_number_to_compare_with_makes_it_conditional() {
    let conditional = |opcode: u8, extras: u8| Header {
        cas: 1,
        ..header(opcode, extras, 1, 0)
    };
    check(conditional(0x01, 8), Verb::BinarySetConditional, false);
    check(conditional(0x11, 8), Verb::BinarySetConditional, true);
    check(conditional(0x04, 0), Verb::BinaryDeleteConditional, false);
    check(conditional(0x14, 0), Verb::BinaryDeleteConditional, true);
    check(conditional(0x02, 8), Verb::BinaryAdd, false);
    check(conditional(0x00, 0), Verb::BinaryGet, false);
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    let mut short = header(1, 8, 3, 0);
    short.body_bytes = 10;
    check_refused(short, UNKNOWN_COMMAND);
    let mut long = header(1, 8, 3, 0);
    long.body_bytes = BODY_BYTES_MAX + 1;
    check_refused(long, INVALID_ARGUMENTS);
    long.body_bytes = u32::MAX;
    check_refused(long, INVALID_ARGUMENTS);
    check(header(1, 8, 3, VALUE_BYTES_MAX), Verb::BinarySet, false);
    check_refused(header(1, 8, 3, VALUE_BYTES_MAX + 1), TOO_LARGE);
    check_refused(header(0x40, 0, 0, VALUE_BYTES_MAX + 1), TOO_LARGE);
    let mut response = header(1, 8, 3, 0);
    response.magic = BINARY_RESPONSE;
    check_refused(response, SILENT);
}
