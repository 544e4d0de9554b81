//! Every byte of a small journal flipped, every file cut at every byte.

use super::super::frame::{Frame, SEGMENT_HEADER_BYTES, Seed, SegmentHeader};
use super::super::stream::segment_path;
use super::*;

/// A frame, as the files of the journal have it.
#[derive(Debug)]
struct Placed {
    file: PathBuf,
    at: u64,
    end: u64,
    offset: Offset,
    last_group: bool,
}

/// Two segments; the second has several groups of several records.
fn small_journal(closed: bool) -> (SimulatedDisk, Vec<(Offset, Vec<u8>)>) {
    let disk = SimulatedDisk::new();
    let mut log = open(&disk).unwrap();
    let mut records = Vec::new();
    for (group, lengths) in [
        vec![1500, 10],
        vec![1500],
        vec![1200, 3],
        vec![0, 40],
        vec![70, 1, 80],
        vec![33, 20, 50],
    ]
    .iter()
    .enumerate()
    {
        let first = records.len() as u64;
        let group_records = lengths.iter().enumerate();
        let group_records = group_records.map(|(i, length)| record(first + i as u64, *length));
        let group_records: Vec<_> = group_records.collect();
        assert_eq!(append(&mut log, &group_records), Ok(first), "group {group}");
        records.extend(
            group_records
                .into_iter()
                .enumerate()
                .map(|(i, r)| (first + i as u64, r)),
        );
    }
    if closed {
        log.close().unwrap();
    }
    drop(log);
    (disk, records)
}

fn frames(disk: &SimulatedDisk) -> Vec<Placed> {
    let mut placed = Vec::new();
    for number in [1, 2] {
        let file = segment_path(Path::new(DIRECTORY), number);
        let bytes = disk.contents(&file).unwrap();
        let header = &bytes[..SEGMENT_HEADER_BYTES as usize];
        let seed = Seed::of(SegmentHeader::decode(header).unwrap().identity);
        let mut at = SEGMENT_HEADER_BYTES;
        while let Some(frame) = Frame::decode(&bytes[at as usize..], seed) {
            placed.push(Placed {
                file: file.clone(),
                at,
                end: at + frame.bytes(),
                offset: frame.offset,
                last_group: frame.durable_below() == 10,
            });
            at += frame.bytes();
        }
    }
    assert_eq!(placed.len(), 13);
    assert_eq!(placed.iter().filter(|frame| frame.last_group).count(), 3);
    placed
}

fn damage_of(error: OpenError) -> (PathBuf, u64) {
    match error {
        OpenError::Damaged(damage) => (damage.file, damage.byte),
        error => panic!("{error}"),
    }
}

#[test]
fn every_flipped_byte_is_reported_or_cut() {
    let (whole, records) = small_journal(false);
    let frames = frames(&whole);
    let (first, last) = (
        segment_path(Path::new(DIRECTORY), 1),
        segment_path(Path::new(DIRECTORY), 2),
    );
    for file in whole.paths() {
        let bytes = whole.contents(&file).unwrap();
        for byte in 0..bytes.len() as u64 {
            let disk = whole.copy();
            let mut flipped = bytes.clone();
            flipped[byte as usize] ^= 1 << (byte % 8);
            disk.replace(&file, flipped);
            let hit = |f: &&Placed| f.file == file && f.at <= byte && byte < f.end;
            let frame = frames.iter().find(hit);
            let in_header = byte < SEGMENT_HEADER_BYTES;
            let context = format!("{} byte {byte} frame {frame:?}", file.display());
            let opened = open(&disk);
            match frame {
                None if in_header => {
                    let damage = damage_of(opened.unwrap_err());
                    assert_eq!(damage, (file.clone(), 0), "{context}");
                }
                Some(frame) if file == last && !frame.last_group => {
                    let damage = damage_of(opened.unwrap_err());
                    assert_eq!(damage, (file.clone(), frame.at), "{context}");
                    let (walked, damages) = walk_all(&disk);
                    assert_eq!(damages, [(file.clone(), frame.at)], "{context}");
                    let mut left = records.clone();
                    left.remove(frame.offset as usize);
                    assert_eq!(walked, left, "{context}");
                }
                Some(frame) if file == last => {
                    let read = read_all(opened.unwrap().stream()).unwrap();
                    assert_eq!(read, records[..frame.offset as usize], "{context}");
                }
                Some(frame) => {
                    assert_eq!(file, first);
                    let (_, damages) = walk_all(&disk);
                    assert_eq!(damages, [(file.clone(), frame.at)], "{context}");
                    match read_all(opened.unwrap().stream()) {
                        Err(ReadError::Damaged(damage)) => {
                            assert_eq!((damage.file, damage.byte), (file.clone(), frame.at));
                        }
                        read => panic!("{context}: {read:?}"),
                    }
                }
                None => {
                    let read = read_all(opened.unwrap().stream()).unwrap();
                    assert_eq!(read, records, "{context}");
                }
            }
        }
    }
}

#[test]
fn after_a_close_even_the_last_group_is_vouched_for() {
    let (whole, records) = small_journal(true);
    for frame in frames(&whole).iter().filter(|frame| frame.last_group) {
        for byte in frame.at..frame.end {
            let disk = whole.copy();
            let mut bytes = whole.contents(&frame.file).unwrap();
            bytes[byte as usize] ^= 0x10;
            disk.replace(&frame.file, bytes);
            let (_, damages) = walk_all(&disk);
            assert_eq!(damages, [(frame.file.clone(), frame.at)]);
            match read_all(open(&disk).unwrap().stream()) {
                Err(ReadError::Damaged(damage)) => assert_eq!(damage.byte, frame.at),
                read => panic!("byte {byte}: {read:?} of {records:?}"),
            }
        }
    }
}

#[test]
fn a_file_cut_anywhere_keeps_what_is_before() {
    let (whole, records) = small_journal(false);
    let (closed, _) = small_journal(true);
    let frames = frames(&whole);
    let last = segment_path(Path::new(DIRECTORY), 2);
    let bytes = whole.contents(&last).unwrap();
    let end = frames[frames.len() - 1].end as usize;
    for length in 0..bytes.len() {
        let disk = whole.copy();
        disk.replace(&last, bytes[..length].to_vec());
        let kept = |f: &&Placed| f.file != last || f.end <= length as u64;
        let kept = frames.iter().filter(kept).count();
        let mut log = open(&disk).unwrap_or_else(|error| panic!("{length}: {error}"));
        assert_eq!(read_all(log.stream()).unwrap(), records[..kept], "{length}");
        // And it goes on from there.
        let more = record(kept as u64, 600);
        assert_eq!(
            append(&mut log, std::slice::from_ref(&more)),
            Ok(kept as u64)
        );
        drop(log);
        let read = read_all(open(&disk).unwrap().stream()).unwrap();
        assert_eq!(read.last(), Some(&(kept as u64, more)), "{length}");

        let disk = closed.copy();
        let bytes = closed.contents(&last).unwrap();
        disk.replace(&last, bytes[..length].to_vec());
        match open(&disk) {
            Err(error) => {
                let damage = damage_of(error);
                assert!(length < end, "{length}: {damage:?}");
                assert_eq!(damage.0, last);
            }
            Ok(_) => assert!(end <= length, "{length} is before the end that was noted"),
        }
    }
}

#[test]
fn a_missing_segment_is_named() {
    let disk = SimulatedDisk::new();
    let mut log = open(&disk).unwrap();
    for offset in 0..4 {
        append(&mut log, &[record(offset, 3000)]).unwrap();
    }
    drop(log);
    for number in [2, 3] {
        let gone = segment_path(Path::new(DIRECTORY), number);
        let copy = SimulatedDisk::new();
        for path in disk.paths().into_iter().filter(|path| *path != gone) {
            copy.replace(&path, disk.contents(&path).unwrap());
        }
        let error = open(&copy).unwrap_err();
        assert_eq!(damage_of(error), (gone, 0), "{number}");
    }
}

#[test]
fn damage_is_told_with_file_and_byte() {
    let (disk, _) = small_journal(false);
    let frames = frames(&disk);
    let frame = &frames[8];
    let mut bytes = disk.contents(&frame.file).unwrap();
    bytes[frame.at as usize + 9] ^= 1;
    disk.replace(&frame.file, bytes);
    let text = open(&disk).unwrap_err().to_string();
    let start = format!(
        "journal file {} is damaged at byte {}: ",
        frame.file.display(),
        frame.at
    );
    assert!(text.starts_with(&start), "{text}");
}
