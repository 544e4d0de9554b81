//! The bytes of segment files: one header, then one frame for each record.
//!
//! All numbers are little-endian. Every checksum is CRC-32C, started from the
//! checksum of the journal's identity, a random number. So bytes that a client
//! chose can't pass for a frame, and files of two journals can't be mixed up.
//!
//! Segment header, 64 bytes, at the start of the file:
//! ```text
//!  0  magic "WALSEG" 0 1 (the last byte is the version of the format)
//!  8  identity of the journal, u64
//! 16  segment number, u64, as in the file's name
//! 24  base: offset of the segment's first record, u64
//! 32  when the segment was begun, milliseconds since the Unix epoch, u64
//! 40  epoch that began it, u32
//! 44  zeros
//! 60  checksum of the bytes before, u32
//! ```
//! Frame, at a multiple of 4:
//! ```text
//!  0  checksum of bytes 4 to 28, u32
//!  4  checksum of the record and its padding, u32
//!  8  length of the record in bytes, without padding, u32
//! 12  position: how many records of the same group come before, u32
//! 16  offset of the record, u64
//! 24  epoch: how many times the journal had been opened, u32, never 0
//! 28  the record, then zeros up to a multiple of 4
//! ```
//! A group is what was written in one piece and synced at once, and it is only
//! written when the group before it is durable. So a frame is a witness: when
//! it was written, all records below `offset - position` were durable.

use super::super::{Offset, RECORD_BYTES_MAX};

/// Length of a segment's header.
pub(super) const SEGMENT_HEADER_BYTES: u64 = 64;

/// Length of a frame's header.
pub(super) const FRAME_HEADER_BYTES: usize = 28;

/// Frames begin at multiples of this.
pub(super) const FRAME_ALIGNMENT: u64 = 4;

const MAGIC: &[u8; 8] = b"WALSEG\x00\x01";

/// What all checksums of a journal start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn of(identity: u64) -> Seed {
        Seed(crc32c::crc32c(&identity.to_le_bytes()))
    }

    pub(super) fn checksum(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }
}

/// What stands at the start of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) identity: u64,
    pub(super) number: u64,
    pub(super) base: Offset,
    pub(super) begun_ms: u64,
    pub(super) epoch: u32,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES as usize] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.identity.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.base.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.begun_ms.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.epoch.to_le_bytes());
        let checksum = Seed::of(self.identity).checksum(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// None where the bytes are no header that was written whole.
    pub(super) fn decode(bytes: &[u8]) -> Option<SegmentHeader> {
        let bytes: &[u8; SEGMENT_HEADER_BYTES as usize] = bytes.try_into().ok()?;
        let header = SegmentHeader {
            identity: u64_at(bytes, 8),
            number: u64_at(bytes, 16),
            base: u64_at(bytes, 24),
            begun_ms: u64_at(bytes, 32),
            epoch: u32_at(bytes, 40),
        };
        // Encoding again checks magic, zeros and checksum at once.
        (header.encode() == *bytes).then_some(header)
    }
}

/// The header of a frame, without its checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) length: u32,
    pub(super) position: u32,
    pub(super) offset: Offset,
    pub(super) epoch: u32,
    record_checksum: u32,
}

impl Frame {
    /// None where the bytes, at least [`FRAME_HEADER_BYTES`], begin with no
    /// frame header. The record's checksum is not looked at.
    pub(super) fn decode(bytes: &[u8], seed: Seed) -> Option<Frame> {
        let bytes = bytes.get(..FRAME_HEADER_BYTES)?;
        let frame = Frame {
            record_checksum: u32_at(bytes, 4),
            length: u32_at(bytes, 8),
            position: u32_at(bytes, 12),
            offset: u64_at(bytes, 16),
            epoch: u32_at(bytes, 24),
        };
        let plausible = frame.epoch != 0
            && frame.length as usize <= RECORD_BYTES_MAX
            && u64::from(frame.position) <= frame.offset;
        (plausible && seed.checksum(&bytes[4..]) == u32_at(bytes, 0)).then_some(frame)
    }

    /// Bytes of the whole frame, padding included.
    pub(super) fn bytes(&self) -> u64 {
        frame_bytes(self.length as usize)
    }

    /// All records below this offset were durable when the frame was written.
    pub(super) fn durable_below(&self) -> Offset {
        self.offset - u64::from(self.position)
    }

    /// Whether `padded`, the bytes after the header, are what was written.
    pub(super) fn holds(&self, padded: &[u8], seed: Seed) -> bool {
        seed.checksum(padded) == self.record_checksum
    }
}

/// Bytes of a frame with a record of this length.
pub(super) fn frame_bytes(length: usize) -> u64 {
    (FRAME_HEADER_BYTES + length).next_multiple_of(FRAME_ALIGNMENT as usize) as u64
}

/// Adds a frame to the end of `into`.
pub(super) fn encode_frame(
    into: &mut Vec<u8>,
    seed: Seed,
    epoch: u32,
    offset: Offset,
    position: u32,
    record: &[u8],
) {
    debug_assert!(record.len() <= RECORD_BYTES_MAX);
    let start = into.len();
    let body = start + FRAME_HEADER_BYTES;
    let end = start + frame_bytes(record.len()) as usize;
    let mut header = [0; FRAME_HEADER_BYTES];
    header[8..12].copy_from_slice(&(record.len() as u32).to_le_bytes());
    header[12..16].copy_from_slice(&position.to_le_bytes());
    header[16..24].copy_from_slice(&offset.to_le_bytes());
    header[24..28].copy_from_slice(&epoch.to_le_bytes());
    into.extend_from_slice(&header);
    into.extend_from_slice(record);
    into.resize(end, 0);
    let checksum = seed.checksum(&into[body..end]);
    into[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
    let checksum = seed.checksum(&into[start + 4..body]);
    into[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        let seed = Seed::of(0x1234_5678_9abc_def0);
        for length in [0, 1, 3, 4, 5, 31, 200] {
            let record: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut whole = Vec::new();
            encode_frame(&mut whole, seed, 3, 77, 2, &record);
            assert_eq!(whole.len() as u64, frame_bytes(length));
            let frame = Frame::decode(&whole, seed).expect("just encoded");
            assert_eq!((frame.offset, frame.durable_below()), (77, 75));
            assert!(frame.holds(&whole[FRAME_HEADER_BYTES..], seed));
            for at in 0..whole.len() {
                whole[at] ^= 0x40;
                let good = Frame::decode(&whole, seed)
                    .is_some_and(|frame| frame.holds(&whole[FRAME_HEADER_BYTES..], seed));
                assert!(!good, "byte {at} of a frame of {length}");
                whole[at] ^= 0x40;
            }
            assert_eq!(Frame::decode(&whole, Seed::of(1)), None, "another journal");
        }
    }

    #[test]
    fn no_changed_byte_of_a_segment_header_goes_unnoticed() {
        let header = SegmentHeader {
            identity: 5,
            number: 6,
            base: 7,
            begun_ms: 8,
            epoch: 9,
        };
        let mut bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Some(header));
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(SegmentHeader::decode(&bytes), None, "byte {at}");
            bytes[at] ^= 1;
        }
        assert_eq!(SegmentHeader::decode(&[0; 64]), None);
    }
}
