//! Record to bytes and back.
//!
//! Records are written by hand, field by field in the order of their numbers
//! and with default values left out, which is byte for byte what prost writes;
//! what stays the same for a writer is copied from a template. Lengths are
//! computed first, so a record is written once, into memory reserved at once.
//! They are read with prost: readers are not on a client's path.

use bytes::Bytes;
use prost::Message;

use super::{
    Outcome, RecordBatch, RecordEntry, RecordKind, v1,
    writer::{MutationParts, Way},
};

/// Decodes one record. Fields of later versions are skipped.
pub fn decode(bytes: Bytes) -> Result<v1::Record, prost::DecodeError> {
    v1::Record::decode(bytes)
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH: u8 = 2;

/// The tag of a field whose number is below 16.
const fn tag(field: u8, wire_type: u8) -> u8 {
    debug_assert!(field < 16);
    field << 3 | wire_type
}

/// What is the same in all records of a writer, encoded.
#[derive(Debug)]
pub(super) struct Template {
    /// Fields 2 and 3.
    region_and_writer: Vec<u8>,
    /// Fields 5 and 6.
    namespace_and_store: Vec<u8>,
}

/// Which mutation an outcome is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutcomeOf<'a> {
    pub(super) sequence: u64,
    /// Its first key.
    pub(super) key: &'a [u8],
    /// Whether it waited in the datastore.
    pub(super) waited: bool,
}

/// What is different in each record, but for the body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) writer: u64,
    pub(super) hlc: u64,
    pub(super) sequence: u64,
    pub(super) database: u32,
    pub(super) settled_through: u64,
}

impl Template {
    pub(super) fn new(region: &str, writer: u64, namespace: &str, store: v1::Store) -> Self {
        let mut region_and_writer = Vec::new();
        put_text(&mut region_and_writer, 2, region.as_bytes());
        put_fixed64(&mut region_and_writer, 3, writer);
        let mut namespace_and_store = Vec::new();
        put_text(&mut namespace_and_store, 5, namespace.as_bytes());
        put_varint(&mut namespace_and_store, 6, store as u64);
        Template {
            region_and_writer,
            namespace_and_store,
        }
    }

    pub(super) fn mutation(
        &self,
        out: &mut RecordBatch,
        header: Header,
        parts: &MutationParts,
        way: Way,
    ) {
        let (link, waits) = (u64::from(way.link), u64::from(way.waits));
        let way = varint_field_length(link) + varint_field_length(waits);
        let body = mutation_length(parts) + way;
        self.start(&mut out.bytes, header, 9, body);
        for command in parts.commands {
            put_command(&mut out.bytes, 1, command.iter().copied());
        }
        let mut first_key = None;
        for key in parts.keys {
            let range = put_element(&mut out.bytes, 2, key);
            first_key.get_or_insert(range);
        }
        put_varint(&mut out.bytes, 3, u64::from(parts.is_final));
        put_varint(&mut out.bytes, 4, link);
        put_varint(&mut out.bytes, 5, waits);
        finish(out, header, RecordKind::Mutation, first_key);
    }

    pub(super) fn outcome(
        &self,
        out: &mut RecordBatch,
        header: Header,
        of: OutcomeOf<'_>,
        outcome: &Outcome,
    ) {
        let OutcomeOf {
            sequence: of_sequence,
            key,
            waited,
        } = of;
        let waited = u64::from(waited);
        let result = result_length(outcome);
        let body = varint_field_length(of_sequence)
            + 1
            + varint_length(result as u64)
            + result
            + text_field_length(key)
            + varint_field_length(waited);
        self.start(&mut out.bytes, header, 10, body);
        put_varint(&mut out.bytes, 1, of_sequence);
        put_result(&mut out.bytes, result, outcome);
        let first_key = (!key.is_empty()).then(|| put_element(&mut out.bytes, 5, key));
        put_varint(&mut out.bytes, 6, waited);
        finish(out, header, RecordKind::Outcome, first_key);
    }

    pub(super) fn snapshot(&self, out: &mut RecordBatch, header: Header, snapshot: &v1::Snapshot) {
        self.start(&mut out.bytes, header, 11, snapshot.encoded_len());
        let start = out.bytes.len();
        snapshot
            .encode(&mut out.bytes)
            .expect("a vector takes any number of bytes");
        // The key is the first field, left out where it is empty.
        let key = snapshot.key.len();
        let at = start + element_length(&snapshot.key) - key;
        finish(
            out,
            header,
            RecordKind::Snapshot,
            (key > 0).then_some((at, at + key)),
        );
    }

    pub(super) fn progress(
        &self,
        out: &mut RecordBatch,
        header: Header,
        heartbeat: &v1::Heartbeat,
    ) {
        self.start(&mut out.bytes, header, 12, heartbeat.encoded_len());
        heartbeat
            .encode(&mut out.bytes)
            .expect("a vector takes any number of bytes");
        finish(out, header, RecordKind::Heartbeat, None);
    }

    pub(super) fn heartbeat(
        &self,
        out: &mut RecordBatch,
        header: Header,
        unacknowledged: &[(u64, u64)],
    ) {
        let range =
            |(first, last): &(u64, u64)| varint_field_length(*first) + varint_field_length(*last);
        // A range is shorter than 128 bytes: its length is one byte.
        let body = unacknowledged.iter().map(|one| 2 + range(one)).sum();
        self.start(&mut out.bytes, header, 12, body);
        for one in unacknowledged {
            out.bytes.push(tag(1, LENGTH));
            out.bytes.push(range(one) as u8);
            put_varint(&mut out.bytes, 1, one.0);
            put_varint(&mut out.bytes, 2, one.1);
        }
        finish(out, header, RecordKind::Heartbeat, None);
    }

    /// Writes all that comes before the bytes of the body.
    fn start(&self, out: &mut Vec<u8>, header: Header, field: u8, body: usize) {
        // Four varints and a fixed64, each with its tag, at their longest.
        const HEADER_LENGTH_MAX: usize = 4 * 11 + 9;
        out.reserve(
            HEADER_LENGTH_MAX
                + self.region_and_writer.len()
                + self.namespace_and_store.len()
                + body,
        );
        put_fixed64(out, 1, header.hlc);
        out.extend_from_slice(&self.region_and_writer);
        put_varint(out, 4, header.sequence);
        out.extend_from_slice(&self.namespace_and_store);
        put_varint(out, 7, u64::from(header.database));
        put_varint(out, 8, header.settled_through);
        out.push(tag(field, LENGTH));
        put_raw_varint(out, body as u64);
    }
}

fn finish(
    out: &mut RecordBatch,
    header: Header,
    kind: RecordKind,
    first_key: Option<(usize, usize)>,
) {
    let end = out.bytes.len();
    out.writer = header.writer;
    out.entries.push(RecordEntry {
        end,
        key: first_key.unwrap_or((end, end)),
        kind,
        sequence: header.sequence,
        hlc: header.hlc,
    });
}

fn mutation_length(parts: &MutationParts) -> usize {
    let commands = parts.commands.iter();
    let commands: usize = commands
        .map(|command| command_field_length(command.iter().copied()))
        .sum();
    let keys: usize = parts.keys.iter().map(|key| element_length(key)).sum();
    commands + keys + varint_field_length(u64::from(parts.is_final))
}

/// The length of what the field of the outcome's `oneof` holds.
fn result_length(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Effects(commands) => effects_length(commands, &[]),
        Outcome::Partial {
            effects,
            unknown_keys,
        } => effects_length(effects, unknown_keys),
        Outcome::Rejected(reason) => text_field_length(reason.as_bytes()),
        Outcome::Unknown { reason, keys } => {
            let keys: usize = keys.iter().map(|key| element_length(key)).sum();
            text_field_length(reason.as_bytes()) + keys
        }
    }
}

fn effects_length(commands: &[Vec<Bytes>], unknown_keys: &[Bytes]) -> usize {
    let commands: usize = commands
        .iter()
        .map(|command| command_field_length(command.iter().map(|argument| &argument[..])))
        .sum();
    let keys: usize = unknown_keys.iter().map(|key| element_length(key)).sum();
    commands + keys
}

fn put_result(out: &mut Vec<u8>, length: usize, outcome: &Outcome) {
    let field = match outcome {
        Outcome::Effects(_) | Outcome::Partial { .. } => 2,
        Outcome::Rejected(_) => 3,
        Outcome::Unknown { .. } => 4,
    };
    out.push(tag(field, LENGTH));
    put_raw_varint(out, length as u64);
    match outcome {
        Outcome::Effects(commands) => put_effects(out, commands, &[]),
        Outcome::Partial {
            effects,
            unknown_keys,
        } => put_effects(out, effects, unknown_keys),
        Outcome::Rejected(reason) => put_text(out, 1, reason.as_bytes()),
        Outcome::Unknown { reason, keys } => {
            put_text(out, 1, reason.as_bytes());
            for key in keys {
                put_element(out, 2, key);
            }
        }
    }
}

fn put_effects(out: &mut Vec<u8>, commands: &[Vec<Bytes>], unknown_keys: &[Bytes]) {
    for command in commands {
        put_command(out, 1, command.iter().map(|argument| &argument[..]));
    }
    for key in unknown_keys {
        put_element(out, 2, key);
    }
}

fn command_length<'a>(arguments: impl Iterator<Item = &'a [u8]>) -> usize {
    arguments.map(element_length).sum()
}

fn command_field_length<'a>(arguments: impl Iterator<Item = &'a [u8]>) -> usize {
    let length = command_length(arguments);
    1 + varint_length(length as u64) + length
}

fn put_command<'a>(
    out: &mut Vec<u8>,
    field: u8,
    arguments: impl Iterator<Item = &'a [u8]> + Clone,
) {
    out.push(tag(field, LENGTH));
    put_raw_varint(out, command_length(arguments.clone()) as u64);
    for argument in arguments {
        put_element(out, 1, argument);
    }
}

/// An element of a repeated field, or an optional one that is present: written
/// even where it is empty.
fn put_element(out: &mut Vec<u8>, field: u8, value: &[u8]) -> (usize, usize) {
    out.push(tag(field, LENGTH));
    put_raw_varint(out, value.len() as u64);
    let start = out.len();
    out.extend_from_slice(value);
    (start, out.len())
}

fn element_length(value: &[u8]) -> usize {
    1 + varint_length(value.len() as u64) + value.len()
}

/// A plain string or bytes field: left out where it is empty.
fn put_text(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    if !value.is_empty() {
        put_element(out, field, value);
    }
}

fn text_field_length(value: &[u8]) -> usize {
    if value.is_empty() {
        0
    } else {
        element_length(value)
    }
}

fn put_fixed64(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.push(tag(field, FIXED64));
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn put_varint(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.push(tag(field, VARINT));
        put_raw_varint(out, value);
    }
}

fn varint_field_length(value: u64) -> usize {
    if value == 0 {
        0
    } else {
        1 + varint_length(value)
    }
}

fn put_raw_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_length(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests;
