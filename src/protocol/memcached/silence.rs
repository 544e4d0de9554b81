//! What a client gets to see of the reply to the loud form of its command.
//!
//! - `noreply` hides every reply, errors too.
//! - Flag `q` of a meta command hides what is to be expected: `EN` of `mg`,
//!   `HD` of the others, and the number of `ma`. 1.6.18 shows the latter if the
//!   number was created; that is like 1.6.45 here, as the reply does not tell.
//! - A quiet packet that reads hides that there is nothing, one that writes
//!   hides that it did; other responses come with the quiet opcode.

use bytes::BytesMut;

use super::Dialect;
use super::binary::Header;
use super::verbs::{Row, Specification, Verb};

/// The status of a response that says there is no such key.
const STATUS_NOT_FOUND: u16 = 0x0001;

/// Appends what the client gets of `reply` to `out`: all of it, unless
/// [`Specification::is_quiet`].
#[inline]
pub fn silence(specification: Specification, reply: &[u8], out: &mut BytesMut) {
    if !specification.is_quiet() {
        out.extend_from_slice(reply);
        return;
    }
    let Some(row) = specification.row() else {
        return;
    };
    match row.dialect {
        Dialect::Text if !is_hidden_line(row.verb, reply) => out.extend_from_slice(reply),
        Dialect::Binary if !is_hidden_packet(row.verb, reply) => push_packet(row, reply, out),
        Dialect::Text | Dialect::Binary => {}
    }
}

fn is_hidden_line(verb: Verb, reply: &[u8]) -> bool {
    let is = |status: &[u8]| {
        reply
            .strip_prefix(status)
            .is_some_and(|rest| matches!(rest.first(), None | Some(b' ' | b'\r' | b'\n')))
    };
    match verb {
        Verb::MetaGet | Verb::MetaGetTouch | Verb::MetaGetVivify | Verb::MetaGetAlone => is(b"EN"),
        Verb::MetaSet
        | Verb::MetaSetConditional
        | Verb::MetaDelete
        | Verb::MetaDeleteConditional => is(b"HD"),
        Verb::MetaArithmetic => is(b"HD") || is(b"VA"),
        _ => true,
    }
}

fn is_hidden_packet(verb: Verb, reply: &[u8]) -> bool {
    let Some(header) = Header::of(reply) else {
        return false;
    };
    match verb {
        Verb::BinaryGet
        | Verb::BinaryGetKey
        | Verb::BinaryGetAndTouch
        | Verb::BinaryGetAndTouchKey => header.status == STATUS_NOT_FOUND,
        _ => header.status == 0,
    }
}

fn push_packet(row: &Row, reply: &[u8], out: &mut BytesMut) {
    let start = out.len();
    out.extend_from_slice(reply);
    if let (Some(opcode), Some(byte)) = (row.quiet_opcode, out.get_mut(start + 1)) {
        *byte = opcode;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(verb: Verb, reply: &[u8], expected: &[u8]) {
        let mut out = BytesMut::new();
        silence(Specification::new(verb).with_quiet(true), reply, &mut out);
        assert_eq!(&out[..], expected, "{verb:?} {}", reply.escape_ascii());
        out.clear();
        silence(Specification::new(verb), reply, &mut out);
        assert_eq!(&out[..], reply);
    }

    #[test]
    fn noreply_hides_all_and_q_what_is_expected() {
        check(Verb::Set, b"STORED\r\n", b"");
        check(Verb::Set, b"SERVER_ERROR out of memory\r\n", b"");
        check(Verb::MetaGet, b"EN O1\r\n", b"");
        check(Verb::MetaGet, b"HD\r\n", b"HD\r\n");
        check(Verb::MetaGet, b"VA 1\r\nx\r\n", b"VA 1\r\nx\r\n");
        check(Verb::MetaSet, b"HD k\r\n", b"");
        check(Verb::MetaSet, b"NS\r\n", b"NS\r\n");
        check(Verb::MetaDelete, b"HD\r\n", b"");
        check(Verb::MetaDelete, b"NF\r\n", b"NF\r\n");
        check(Verb::MetaArithmetic, b"VA 1\r\n5\r\n", b"");
        check(Verb::MetaArithmetic, b"EX\r\n", b"EX\r\n");
        check(
            Verb::MetaArithmetic,
            b"CLIENT_ERROR x\r\n",
            b"CLIENT_ERROR x\r\n",
        );
    }

    #[test]
    fn quiet_packets_show_the_unexpected() {
        let packet = |opcode: u8, status: u8| {
            let mut packet = vec![0x81, opcode, 0, 0, 0, 0, 0, status];
            packet.resize(24, 0);
            packet
        };
        check(Verb::BinaryGet, &packet(0, 1), b"");
        check(Verb::BinaryGet, &packet(0, 0), &packet(9, 0));
        check(Verb::BinarySet, &packet(1, 0), b"");
        check(Verb::BinarySet, &packet(1, 2), &packet(0x11, 2));
        check(Verb::BinaryDelete, &packet(4, 1), &packet(0x14, 1));
    }
}
