//! The replies that the sidecar gives in memcached's place.

use bytes::{BufMut, BytesMut};

use super::binary::{HEADER_BYTES, Header, INVALID_ARGUMENTS, TOO_LARGE, UNKNOWN_COMMAND};
use super::text::{BAD_FORMAT, UNKNOWN};
use super::verbs::{Specification, Verb};
use super::{BINARY_RESPONSE, Dialect};
use crate::protocol::ParseError;

/// A reason is cut to so many bytes: memcached's own errors are short, and
/// clients have limits of their own for a line.
const REASON_BYTES_MAX: usize = 512;

/// The status of what may be tried again (`PROTOCOL_BINARY_RESPONSE_ETMPFAIL`
/// of the protocol's description).
const STATUS_TEMPORARY_FAILURE: u16 = 0x0086;
const STATUS_TOO_LARGE: u16 = 0x0003;
const STATUS_INVALID: u16 = 0x0004;
const STATUS_UNKNOWN: u16 = 0x0081;

/// Why a command has no reply of memcached's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure<'a> {
    /// A mutation that was not journaled, and not applied: safe to retry.
    NotJournaled(&'a str),
    /// A mutation that is, or may be, in the journal, and whose fate is not
    /// known.
    Uncertain {
        /// Who wrote its record.
        writer: u64,
        /// Which of the writer's records it is.
        sequence: u64,
        /// What happened.
        reason: &'a str,
    },
    /// A command that changes nothing, and could not be answered.
    Unavailable(&'a str),
}

/// Appends the answer to a command that failed, in its loud form.
pub fn failure(
    failure: Failure<'_>,
    command: &[u8],
    specification: Specification,
    out: &mut BytesMut,
) {
    let mut text = BytesMut::with_capacity(128);
    let (head, reason) = match failure {
        Failure::NotJournaled(reason) => (format_args!("not journaled: "), reason),
        Failure::Uncertain {
            writer,
            sequence,
            reason,
        } => {
            let head = format_args!("uncertain: {writer:016x}-{sequence} ");
            push(&mut text, head);
            (format_args!(""), reason)
        }
        Failure::Unavailable(reason) => (format_args!("unavailable: "), reason),
    };
    push(&mut text, head);
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = &reason.as_bytes()[..end];
    text.extend(
        reason
            .iter()
            .map(|byte| if byte.is_ascii_control() { b' ' } else { *byte }),
    );
    match specification.row().map(|row| row.dialect) {
        Some(Dialect::Binary) => packet(command, STATUS_TEMPORARY_FAILURE, &text, out),
        Some(Dialect::Text) | None => {
            out.extend_from_slice(b"SERVER_ERROR ");
            out.extend_from_slice(&text);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends the answer to a command that is not forwarded; false if it is to be
/// ([`super::verbs::Shape::Local`] is not its shape).
pub fn local(command: &[u8], specification: Specification, out: &mut BytesMut) -> bool {
    let text = match specification.row().map(|row| row.verb) {
        Some(Verb::LocalUnknown) => UNKNOWN,
        Some(Verb::LocalBadFormat) => BAD_FORMAT,
        Some(Verb::LocalTooManyFlags) => "CLIENT_ERROR options flags are too long",
        Some(Verb::LocalOpaqueTooLong) => "CLIENT_ERROR opaque token too long",
        Some(Verb::LocalUnknownPacket) => {
            packet(command, STATUS_UNKNOWN, UNKNOWN_COMMAND.as_bytes(), out);
            return true;
        }
        _ => return false,
    };
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
    true
}

/// Appends the answer to a packet that was done, and has nothing to tell.
pub fn done(command: &[u8], out: &mut BytesMut) {
    packet(command, 0, b"", out);
}

/// Appends what a client is told before its connection is closed. `bytes` are
/// those that the scanner refused; nothing is appended where memcached closes
/// without a word.
pub fn refusal(dialect: Dialect, error: &ParseError, bytes: &[u8], out: &mut BytesMut) {
    let text = error.0.as_bytes();
    match dialect {
        _ if text.is_empty() => {}
        Dialect::Text => {
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
        Dialect::Binary => {
            let status = match error.0.as_ref() {
                UNKNOWN_COMMAND => STATUS_UNKNOWN,
                TOO_LARGE => STATUS_TOO_LARGE,
                other => {
                    debug_assert_eq!(other, INVALID_ARGUMENTS);
                    STATUS_INVALID
                }
            };
            packet(bytes, status, text, out);
        }
    }
}

/// Appends a response to the request in `command` with a text as its body.
fn packet(command: &[u8], status: u16, text: &[u8], out: &mut BytesMut) {
    let (opcode, opaque) = match Header::of(command) {
        Some(header) => (header.opcode, header.opaque),
        None => (0, [0; 4]),
    };
    out.reserve(HEADER_BYTES + text.len());
    out.extend_from_slice(&[BINARY_RESPONSE, opcode, 0, 0, 0, 0]);
    out.put_u16(status);
    out.put_u32(text.len() as u32);
    out.extend_from_slice(&opaque);
    out.put_u64(0);
    out.extend_from_slice(text);
}

fn push(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    std::fmt::Write::write_fmt(out, text).expect("memory takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNCERTAIN: Failure<'_> = Failure::Uncertain {
        writer: 0xabc,
        sequence: 7,
        reason: "link\r\nlost",
    };

    #[track_caller]
    fn check(failed: Failure<'_>, specification: Specification, expected: &[u8]) {
        let mut out = BytesMut::new();
        failure(failed, b"", specification, &mut out);
        assert_eq!(out, expected, "{}", out.escape_ascii());
    }

    #[test]
    fn a_failure_is_one_line() {
        let set = Specification::new(Verb::Set);
        check(
            Failure::NotJournaled("disk full"),
            set,
            b"SERVER_ERROR not journaled: disk full\r\n",
        );
        check(
            UNCERTAIN,
            set,
            b"SERVER_ERROR uncertain: 0000000000000abc-7 link  lost\r\n",
        );
        check(
            Failure::Unavailable("late"),
            Specification::new(Verb::MetaGet),
            b"SERVER_ERROR unavailable: late\r\n",
        );
        let quiet = Specification::new(Verb::MetaSet).with_quiet(true);
        check(
            Failure::NotJournaled("x"),
            quiet,
            b"SERVER_ERROR not journaled: x\r\n",
        );
        let long = "é".repeat(REASON_BYTES_MAX);
        let mut out = BytesMut::new();
        failure(Failure::Unavailable(&long), b"", set, &mut out);
        assert_eq!(
            out.len(),
            "SERVER_ERROR unavailable: \r\n".len() + REASON_BYTES_MAX
        );
    }

    #[test]
    fn a_packet_is_answered_with_its_opcode_and_opaque() {
        let mut request = vec![0x80, 0x11];
        request.resize(12, 0);
        request.extend(b"OPAQ12345678");
        let mut out = BytesMut::new();
        let specification = Specification::new(Verb::BinarySet).with_quiet(true);
        failure(
            Failure::NotJournaled("x"),
            &request,
            specification,
            &mut out,
        );
        let expected = b"\x81\x11\0\0\0\0\0\x86\0\0\0\x10OPAQ\0\0\0\0\0\0\0\0not journaled: x";
        assert_eq!(&out[..], expected);
        out.clear();
        let unknown = Specification::new(Verb::LocalUnknownPacket);
        assert!(local(&request, unknown, &mut out));
        assert!(out.ends_with(b"Unknown command"));
        assert_eq!(Header::of(&out).map(|header| header.status), Some(0x81));
        out.clear();
        assert!(!local(&request, specification, &mut out));
        refusal(
            Dialect::Binary,
            &ParseError(TOO_LARGE.into()),
            &request,
            &mut out,
        );
        assert_eq!(Header::of(&out).map(|header| header.status), Some(3));
    }

    #[test]
    fn what_memcached_closes_silently_is_closed_silently() {
        let mut out = BytesMut::new();
        refusal(Dialect::Text, &ParseError("".into()), b"", &mut out);
        assert!(out.is_empty());
        refusal(Dialect::Text, &ParseError(BAD_FORMAT.into()), b"", &mut out);
        assert_eq!(&out[..], b"CLIENT_ERROR bad command line format\r\n");
    }
}
