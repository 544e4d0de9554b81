//! Any bytes as a client's commands: however they are split they give the same
//! commands, and what is a well-formed array of bulk strings has the arguments
//! that redis-protocol finds in it.
//!
//! The first byte chooses the limits, the next four where the bytes are split.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame};
use wal_sidecar::protocol::resp::arguments;
use wal_sidecar::protocol::resp::scanner::{Frame, Limits, Scanner};

const SPLITS: usize = 4;

fuzz_target!(|data: &[u8]| {
    let Some((head, bytes)) = data.split_at_checked(1 + SPLITS) else {
        return;
    };
    let limits = match head[0] {
        0..128 => Limits::default(),
        _ => Limits {
            inline_bytes_max: 12,
            arguments_max: 3,
            bulk_bytes_max: 20,
            command_bytes_max: 48,
        },
    };
    let mut splits = [0; SPLITS];
    for (split, byte) in splits.iter_mut().zip(&head[1..]) {
        *split = usize::from(*byte).min(bytes.len());
    }
    splits.sort_unstable();

    let whole = scan(limits, bytes, &[]);
    assert_eq!(scan(limits, bytes, &splits), whole);
    let every: Vec<usize> = (0..bytes.len().min(128)).collect();
    assert_eq!(scan(limits, bytes, &every), whole);

    let mut at = 0;
    for frame in &whole.frames {
        check_arguments(&bytes[at..at + frame.end], frame);
        at += frame.end;
    }
});

#[derive(Debug, PartialEq)]
struct Scanned {
    frames: Vec<Frame>,
    error: Option<String>,
    needed: usize,
}

fn scan(limits: Limits, bytes: &[u8], ends: &[usize]) -> Scanned {
    let mut scanner = Scanner::new(limits);
    let mut frames = Vec::new();
    let mut at = 0;
    // How far the bytes have to reach at least before the command is complete.
    let mut earliest = 0;
    for end in ends.iter().copied().chain([bytes.len()]) {
        loop {
            match scanner.next(&bytes[at..end]) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    assert!(frame.end > 0);
                    at += frame.end;
                    assert!(at <= end && earliest <= at);
                    frames.push(frame);
                    earliest = 0;
                }
                Err(error) => {
                    let error = Some(error.to_string());
                    return Scanned {
                        frames,
                        error,
                        needed: 0,
                    };
                }
            }
        }
        assert!(scanner.needed() > 0);
        earliest = end + scanner.needed();
    }
    Scanned {
        frames,
        error: None,
        needed: scanner.needed(),
    }
}

fn check_arguments(command: &[u8], frame: &Frame) {
    let mut scratch = Vec::new();
    let found = arguments::parse(command, &mut scratch);
    assert_eq!(found.len(), frame.arguments as usize);
    let mut name = Vec::new();
    assert_eq!(arguments::name(command, &mut name), found.first().copied());
    if found.is_empty() {
        return;
    }
    if !frame.inline {
        assert_eq!(&command[frame.name.0..frame.name.1], found[0]);
    }

    let mut encoded = format!("*{}\r\n", found.len()).into_bytes();
    for argument in &found {
        encoded.extend(format!("${}\r\n", argument.len()).into_bytes());
        encoded.extend(*argument);
        encoded.extend(b"\r\n");
    }
    // Framing bytes that nobody looks at may be anything; else the command
    // is what would be sent anew.
    if !frame.inline && encoded.len() == command.len() {
        let mut same = Scanner::new(Limits::default());
        let again = same.next(&encoded).expect("a well-formed command");
        assert_eq!(again, Some(*frame));
    }
    let (oracle, length) = decode(&encoded)
        .expect("a valid frame")
        .expect("a complete frame");
    assert_eq!(length, encoded.len());
    let OwnedFrame::Array(oracle) = oracle else {
        panic!("not an array: {oracle:?}");
    };
    let oracle: Vec<_> = oracle
        .iter()
        .map(|argument| argument.as_bytes().expect("bytes"))
        .collect();
    assert_eq!(oracle, found.as_slice());
}
