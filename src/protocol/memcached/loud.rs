//! The form in which a command is forwarded: one that has a reply.
//!
//! `noreply` is not always just left out, as that can make something else of a
//! line: `flush_all noreply noreply` is an error that `flush_all noreply` is
//! not. Nearly everywhere a word that means nothing takes its place; for the
//! two versions of memcached the line then does what it did before.

use bytes::BytesMut;
use memchr::memchr;

use super::Dialect;
use super::line::{NOREPLY, Words, without_end};
use super::verbs::{Effect, Shape, Specification, Verb};

/// Takes the place of `noreply` in a line. Nothing looks at it.
const MEANINGLESS: &[u8] = b"NOREPLY";

/// Appends what is forwarded for `command` to `out`: its own bytes, unless
/// [`Specification::is_rewritten`].
#[inline]
pub fn loud(command: &[u8], specification: Specification, out: &mut BytesMut) {
    if !specification.is_rewritten() {
        out.extend_from_slice(command);
        return;
    }
    rewrite(command, specification, out);
}

fn rewrite(command: &[u8], specification: Specification, out: &mut BytesMut) {
    let Some(row) = specification.row() else {
        out.extend_from_slice(command);
        return;
    };
    if row.dialect == Dialect::Binary {
        let start = out.len();
        out.extend_from_slice(command);
        if let (Some(opcode), Some(byte)) = (row.opcode, out.get_mut(start + 1)) {
            *byte = opcode;
        }
        return;
    }
    let end = memchr(b'\n', command).map_or(command.len(), |at| at + 1);
    let (whole, value) = command.split_at(end);
    // Without its spaces every version knows the line for what it is.
    let spaces = whole.iter().take_while(|byte| **byte == b' ').count();
    let whole = &whole[spaces..];
    let line = without_end(whole);
    let line_end = &whole[line.len()..];
    match row.verb {
        _ if is_meta(row.verb) => without_quiet(line, row.verb, out),
        _ if heeds_noreply(row.shape, row.verb) => without_noreply(line, row.effect, out),
        _ => out.extend_from_slice(line),
    }
    out.extend_from_slice(line_end);
    out.extend_from_slice(value);
}

fn is_meta(verb: Verb) -> bool {
    (Verb::MetaNoop as u8..=Verb::MetaDebugAlone as u8).contains(&(verb as u8))
}

/// Whether a version of memcached looks for `noreply` in such a line.
fn heeds_noreply(shape: Shape, verb: Verb) -> bool {
    match shape {
        Shape::Values | Shape::Statistics | Shape::Local => false,
        _ => verb != Verb::Version && verb != Verb::Quit,
    }
}

/// The line without its flag `q`, if it has one and no more.
fn without_quiet(line: &[u8], verb: Verb, out: &mut BytesMut) {
    let flags = match verb {
        Verb::MetaSet | Verb::MetaSetConditional => 3,
        _ => 2,
    };
    let mut words = Words::new(line);
    for _ in 0..flags {
        words.next();
    }
    let mut quiet = None;
    while let Some((at, word)) = words.next_at() {
        if word.starts_with(b"q") {
            if quiet.is_some() {
                quiet = None;
                break;
            }
            quiet = Some((at, word.len()));
        }
    }
    match quiet {
        // The space before it goes with it.
        Some((at, length)) => {
            out.extend_from_slice(&line[..at - 1]);
            out.extend_from_slice(&line[at + length..]);
        }
        None => out.extend_from_slice(line),
    }
}

/// The line so that it does not end in `noreply`, and does what it did.
fn without_noreply(line: &[u8], effect: Effect, out: &mut BytesMut) {
    let (mut count, mut last, mut third) = (0, None, &b""[..]);
    let mut words = Words::new(line);
    while let Some((at, word)) = words.next_at() {
        count += 1;
        if count == 3 {
            third = word;
        }
        last = Some((at, word));
    }
    let Some((at, NOREPLY)) = last else {
        out.extend_from_slice(line);
        return;
    };
    // A key of that name; 1.6.18 allows a zero after it, 1.6.45 anything. Other
    // spaces would make a line that is just short enough too long.
    if (effect, count) == (Effect::Delete, 2) {
        out.extend_from_slice(b"delete noreply 0");
        return;
    }
    let instead: &[u8] = match (effect, count) {
        (Effect::Delete, 3) => b"0",
        (Effect::Delete, 4) if third == b"0" => b"",
        // A word would be taken for a delay here.
        (Effect::Flush, 2) => b"",
        _ => MEANINGLESS,
    };
    out.extend_from_slice(&line[..at]);
    out.extend_from_slice(instead);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::memcached::scanner::{LINE_BYTES_MAX, Limits, Scanner};

    fn forwarded(command: &[u8]) -> Vec<u8> {
        let frame = Scanner::new(Limits::default())
            .next(command)
            .expect("a command")
            .expect("a complete command");
        let mut out = BytesMut::new();
        loud(command, frame.specification, &mut out);
        out.to_vec()
    }

    #[track_caller]
    fn check(command: &[u8], expected: &[u8]) {
        let forwarded = forwarded(command);
        assert_eq!(
            forwarded,
            expected,
            "{} is forwarded as {}",
            command.escape_ascii(),
            forwarded.escape_ascii()
        );
    }

    #[test]
    fn loud_commands_stay_as_they_are() {
        for command in [
            &b"set k 0 0 1\r\nx\r\n"[..],
            b"get noreply\r\n",
            b"mg q v\n",
            b"ms q 1\r\nq\r\n",
            b"mg k q q\r\n",
            b"delete k\r\n",
            b"stats noreply\r\n",
            b"nothing noreply\r\n",
        ] {
            check(command, command);
        }
    }

    #[test]
    fn lines_lose_noreply_and_nothing_else() {
        check(
            b"set k 0 0 1 noreply\r\nx\r\n",
            b"set k 0 0 1 NOREPLY\r\nx\r\n",
        );
        check(b"  get k\r\n", b"get k\r\n");
        check(b" set k 0 0 1\nx\r\n", b"set k 0 0 1\nx\r\n");
        check(b"incr k 1  noreply \n", b"incr k 1  NOREPLY\n");
        check(b"touch k 1 noreply\r\n", b"touch k 1 NOREPLY\r\n");
        check(b"delete noreply\r\n", b"delete noreply 0\r\n");
        check(b" delete  noreply \n", b"delete noreply 0\n");
        check(b"delete k noreply\r\n", b"delete k 0\r\n");
        // The longest line stays one that is taken.
        let longest = format!("delete{}noreply\n", " ".repeat(LINE_BYTES_MAX - 13));
        let forwarded = forwarded(longest.as_bytes());
        let mut scanner = Scanner::new(Limits::default());
        let frame = scanner.next(&forwarded).expect("no longer than it may be");
        assert_eq!(frame.map(|frame| frame.end), Some(forwarded.len()));
        check(b"delete noreply noreply\r\n", b"delete noreply 0\r\n");
        check(b"delete k 0 noreply\r\n", b"delete k 0 \r\n");
        check(b"delete k 1 noreply\r\n", b"delete k 1 NOREPLY\r\n");
        check(b"flush_all noreply\r\n", b"flush_all \r\n");
        check(b"flush_all 9 noreply\r\n", b"flush_all 9 NOREPLY\r\n");
        check(
            b"flush_all noreply noreply\r\n",
            b"flush_all noreply NOREPLY\r\n",
        );
        check(b"verbosity 1 noreply\r\n", b"verbosity 1 NOREPLY\r\n");
    }

    #[test]
    fn meta_commands_lose_their_quiet_flag() {
        check(b"mg k q v\r\n", b"mg k v\r\n");
        check(b"mg k v  q\n", b"mg k v \n");
        check(b"  md k q5\r\n", b"md k\r\n");
        check(b"ms q 1 q\r\nq\r\n", b"ms q 1\r\nq\r\n");
        check(b"ms k 1 T0 q I\r\nx\r\n", b"ms k 1 T0 I\r\nx\r\n");
    }

    #[test]
    fn packets_get_their_loud_opcode() {
        let mut quiet = vec![0x80, 0x09, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
        quiet.resize(24, 7);
        quiet.push(b'k');
        let mut expected = quiet.clone();
        expected[1] = 0;
        check(&quiet, &expected);
        check(&expected, &expected);
    }
}
