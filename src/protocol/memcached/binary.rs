//! Packets of the binary protocol: their header, and what memcached says of it.

use super::text::refused;
use super::verbs::{Effect, ROWS, Specification, Verb};
use super::{BINARY_REQUEST, KEY_BYTES_MAX};
use crate::protocol::{Class, ParseError};

/// How long a header is.
pub const HEADER_BYTES: usize = 24;

/// The text of a packet that is not well-formed (status 0x0004).
pub const INVALID_ARGUMENTS: &str = "Invalid arguments";

/// The text of a packet that no version knows (status 0x0081).
pub const UNKNOWN_COMMAND: &str = "Unknown command";

/// The text of a value that is larger than may be stored (status 0x0003).
pub const TOO_LARGE: &str = "Too large.";

/// The longest body that 1.6.45 takes, in bytes (`ITEM_SIZE_MAX_UPPER_LIMIT`).
/// 1.6.18 takes longer ones, and reckons wrongly with some of them.
pub const BODY_BYTES_MAX: u32 = 1 << 30;

/// A header, of a request or a response. They differ in one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// 0x80 in a request, 0x81 in a response.
    pub magic: u8,
    /// What is asked for.
    pub opcode: u8,
    /// How long the key is.
    pub key_bytes: u16,
    /// How long the extras are, which come before the key.
    pub extras_bytes: u8,
    /// A response's status; nobody looks at it in a request.
    pub status: u16,
    /// How long extras, key and value are together.
    pub body_bytes: u32,
    /// What the client wants to find in the response.
    pub opaque: [u8; 4],
    /// The compare-and-swap number.
    pub cas: u64,
}

impl Header {
    /// The header at the start of `bytes`, if it is all there.
    #[inline]
    pub fn of(bytes: &[u8]) -> Option<Header> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let (body, opaque, cas) = (&bytes[8..12], &bytes[12..16], &bytes[16..24]);
        Some(Header {
            magic: bytes[0],
            opcode: bytes[1],
            key_bytes: u16::from_be_bytes([bytes[2], bytes[3]]),
            extras_bytes: bytes[4],
            status: u16::from_be_bytes([bytes[6], bytes[7]]),
            body_bytes: u32::from_be_bytes(body.try_into().expect("four bytes")),
            opaque: opaque.try_into().expect("four bytes"),
            cas: u64::from_be_bytes(cas.try_into().expect("eight bytes")),
        })
    }

    /// How long header and body are.
    #[inline]
    pub fn packet_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes as usize
    }

    /// The extras, the key and the value in `packet`; none if they are not
    /// all there.
    #[inline]
    pub fn parts<'a>(&self, packet: &'a [u8]) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
        let body = packet.get(HEADER_BYTES..self.packet_bytes())?;
        let (extras, rest) = body.split_at_checked(usize::from(self.extras_bytes))?;
        let (key, value) = rest.split_at_checked(usize::from(self.key_bytes))?;
        Some((extras, key, value))
    }
}

/// What a request's header says: the packet is as long as its body and no
/// longer. Where memcached would take less or more of it than that, or end the
/// connection, it is refused.
#[inline]
pub fn judge(header: &Header, value_bytes_max: u32) -> Result<(Specification, Class), ParseError> {
    let (extras, key) = (u32::from(header.extras_bytes), u32::from(header.key_bytes));
    let body = header.body_bytes;
    if header.magic != BINARY_REQUEST {
        return Err(refused(super::text::SILENT));
    }
    if extras + key > body {
        return Err(refused(UNKNOWN_COMMAND));
    }
    if body > BODY_BYTES_MAX || key > KEY_BYTES_MAX as u32 {
        return Err(refused(INVALID_ARGUMENTS));
    }
    if body - extras - key > value_bytes_max {
        return Err(refused(TOO_LARGE));
    }
    let verb = verb(header);
    let is_well_formed = match verb {
        Verb::BinarySet | Verb::BinarySetConditional | Verb::BinaryAdd | Verb::BinaryReplace => {
            extras == 8 && key > 0
        }
        Verb::BinaryAppend | Verb::BinaryPrepend => extras == 0 && key > 0,
        Verb::BinarySaslStart | Verb::BinarySaslStep => extras == 0 && key > 0,
        Verb::BinaryGet
        | Verb::BinaryGetKey
        | Verb::BinaryDelete
        | Verb::BinaryDeleteConditional => extras == 0 && key > 0 && body == key,
        Verb::BinaryIncrement | Verb::BinaryDecrement => {
            extras == 20 && key > 0 && body == extras + key
        }
        // memcached leaves what these have after the key for the next packet.
        Verb::BinaryTouch | Verb::BinaryGetAndTouch | Verb::BinaryGetAndTouchKey => {
            extras == 4 && key > 0 && body == extras + key
        }
        Verb::BinaryStatistics => extras == 0 && body == key,
        Verb::BinaryFlush => key == 0 && body == extras && matches!(extras, 0 | 4),
        // memcached swallows more than the body here; as it is answered without
        // being forwarded, that is no matter.
        Verb::LocalUnknownPacket => true,
        _ => body == 0,
    };
    if !is_well_formed {
        return Err(refused(INVALID_ARGUMENTS));
    }
    let row = verb.row();
    let quiet = row.quiet_opcode == Some(header.opcode);
    let specification = Specification::new(verb)
        .with_quiet(quiet)
        .with_rewritten(quiet);
    Ok((specification, row.class))
}

/// The verb of an opcode; with a number to compare with, some are conditional.
#[inline]
fn verb(header: &Header) -> Verb {
    let verb = VERBS[usize::from(header.opcode)];
    match verb {
        Verb::BinarySet if header.cas != 0 => Verb::BinarySetConditional,
        Verb::BinaryDelete if header.cas != 0 => Verb::BinaryDeleteConditional,
        other => other,
    }
}

/// The verb of every opcode, taken from the rows.
static VERBS: [Verb; 256] = {
    let mut verbs = [Verb::LocalUnknownPacket; 256];
    let mut index = 0;
    while index < ROWS.len() {
        let row = &ROWS[index];
        index += 1;
        // The plain verb comes before its conditional one.
        let is_second = matches!(
            row.verb,
            Verb::BinarySetConditional | Verb::BinaryDeleteConditional
        );
        if is_second {
            assert!(matches!(row.effect, Effect::Conditional));
            continue;
        }
        if let Some(opcode) = row.opcode {
            verbs[opcode as usize] = row.verb;
        }
        if let Some(opcode) = row.quiet_opcode {
            verbs[opcode as usize] = row.verb;
        }
    }
    verbs
};

#[cfg(test)]
mod tests;
