//! One client's connection, twice: straight to a server and through the
//! sidecar to another one.

use crate::support::{Client, Random};

/// A connection of each kind, sent the same.
pub struct Pair {
    pub direct: Client,
    pub through: Client,
}

/// The frames each side sent.
pub struct Frames {
    pub direct: Vec<Vec<u8>>,
    pub through: Vec<Vec<u8>>,
}

impl Pair {
    pub fn connect(direct: u16, through: u16) -> Pair {
        Pair {
            direct: Client::connect(direct),
            through: Client::connect(through),
        }
    }

    /// Sends the same bytes to both, cut into the same pieces.
    pub fn send(&mut self, bytes: &[u8], random: &mut Random) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = match random.below(4) {
                0 => 1 + random.below(rest.len().min(200)),
                1 => 1 + random.below(rest.len()),
                _ => rest.len(),
            };
            let (piece, after) = rest.split_at(length);
            self.direct.send(piece);
            self.through.send(piece);
            rest = after;
        }
    }

    /// Reads both sides up to and with the frame that `is_last` says yes to.
    pub fn read(&mut self, is_last: impl Fn(&[Vec<u8>]) -> bool) -> Result<Frames, String> {
        let read = |client: &mut Client, side: &str| {
            let mut frames: Vec<Vec<u8>> = Vec::new();
            while !is_last(&frames) {
                match client.try_reply() {
                    Ok(frame) => frames.push(frame),
                    Err(error) => return (frames, Some(format!("{side}: {error}"))),
                }
            }
            (frames, None)
        };
        let (direct, error) = read(&mut self.direct, "direct");
        if let Some(error) = error {
            return Err(format!("{error} after {}", shown(&direct)));
        }
        let (through, error) = read(&mut self.through, "through the sidecar");
        if let Some(error) = error {
            let (direct, through) = (shown(&direct), shown(&through));
            return Err(format!("{error} after\n{through}\ninstead of\n{direct}"));
        }
        Ok(Frames { direct, through })
    }

    /// Everything both sides send until they close.
    pub fn rest(&mut self) -> (Vec<u8>, Vec<u8>) {
        let rest = |client: &mut Client| {
            let mut frames = Vec::new();
            while let Ok(frame) = client.try_reply() {
                frames.extend(frame);
            }
            frames
        };
        (rest(&mut self.direct), rest(&mut self.through))
    }
}

/// Frames for people.
pub fn shown(frames: &[Vec<u8>]) -> String {
    let shown: Vec<String> = frames
        .iter()
        .map(|frame| {
            let end = frame.len().min(300);
            frame[..end].escape_ascii().to_string()
        })
        .collect();
    shown.join("\n  ")
}
