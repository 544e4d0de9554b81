//! Tests of the table as a whole, and what they share.

mod completion;
mod meanings;
mod positions;

use super::{Classified, Control, Effect, Table};
use crate::protocol::resp::scanner::Frame;
use crate::protocol::{Class, Command};

/// The words of `line` as a multibulk command, and its frame. `''` is empty.
fn multibulk(line: &str) -> (Vec<u8>, Frame) {
    let words = words(line);
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    let mut name = (0, 0);
    for (index, word) in words.iter().enumerate() {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        if index == 0 {
            name = (bytes.len(), bytes.len() + word.len());
        }
        bytes.extend(*word);
        bytes.extend(b"\r\n");
    }
    let frame = Frame {
        end: bytes.len(),
        arguments: words.len() as u32,
        inline: false,
        name,
    };
    (bytes, frame)
}

/// `line` as an inline command of `arguments` arguments, and its frame.
fn inline(line: &str, arguments: usize) -> (Vec<u8>, Frame) {
    let bytes = format!("{line}\r\n").into_bytes();
    let name = line.find(' ').unwrap_or(line.len());
    let frame = Frame {
        end: bytes.len(),
        arguments: arguments as u32,
        inline: true,
        name: (0, name),
    };
    (bytes, frame)
}

fn words(line: &str) -> Vec<&[u8]> {
    let words = line.split(' ').map(|word| match word {
        "''" => "",
        word => word,
    });
    words.map(str::as_bytes).collect()
}

/// What a line is expected to be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Is {
    Read,
    ReadBlocking,
    Write(Effect),
    WriteBlocking(Effect),
    Control(Control),
    Unknown,
}

/// How `classified` and, for mutations, the effect of `line` are told.
fn told(table: &Table, classified: Classified, line: &str) -> Is {
    let effect = || table.effect(classified.specification, &words(line));
    match (classified.class, classified.control) {
        (Class::Read, None) if classified.specification == Command::UNKNOWN => Is::Unknown,
        (Class::Read, None) => Is::Read,
        (Class::Read, Some(Control::Blocking)) => Is::ReadBlocking,
        (Class::Mutation, None) => Is::Write(effect()),
        (Class::Mutation, Some(Control::Blocking)) => Is::WriteBlocking(effect()),
        (Class::Control, Some(control)) => Is::Control(control),
        impossible => panic!("{line}: {impossible:?}"),
    }
}

/// Checks every line as it is, in lower case, and as an inline command.
fn check(cases: &[(&str, Is)]) {
    let table = Table::built_in();
    for (line, expected) in cases {
        for line in [line.to_string(), line.to_ascii_lowercase()] {
            let (bytes, frame) = multibulk(&line);
            let classified = table.classify(&bytes, &frame);
            assert_eq!(told(&table, classified, &line), *expected, "{line}");
            if !line.contains('\'') {
                let (bytes, frame) = inline(&line, words(&line).len());
                let same = table.classify(&bytes, &frame);
                assert_eq!(same, classified, "inline {line}");
            }
        }
    }
}

/// Checks that the keys of each line are the arguments at these indexes.
fn check_keys(table: &Table, cases: &[(&str, &[usize])]) {
    for (line, expected) in cases {
        let (bytes, frame) = multibulk(line);
        let index = table.classify(&bytes, &frame).specification;
        let mut keys = Vec::new();
        table.keys(index, &words(line), |key| keys.push(key));
        assert_eq!(&keys, expected, "{line}");
    }
}
