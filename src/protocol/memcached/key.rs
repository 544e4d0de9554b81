//! Keys of meta commands, which may be written in base64.

use super::KEY_BYTES_MAX;

/// A key as the command has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// The bytes in the command.
    pub written: &'a [u8],
    /// Whether they are base64 of the key (flag `b`).
    pub is_base64: bool,
}

impl<'a> Key<'a> {
    /// A key that stands for itself.
    pub fn plain(written: &'a [u8]) -> Key<'a> {
        Key {
            written,
            is_base64: false,
        }
    }

    /// The key that memcached stores under. `buffer` is used where it is
    /// written in base64. None if it is no base64, or too long.
    pub fn stored<'b>(&self, buffer: &'b mut [u8; KEY_BYTES_MAX]) -> Option<&'b [u8]>
    where
        'a: 'b,
    {
        if !self.is_base64 {
            return Some(self.written).filter(|key| key.len() <= KEY_BYTES_MAX);
        }
        let length = decode(self.written, buffer)?;
        Some(&buffer[..length])
    }
}

/// Decodes as memcached does: bytes that are not of the alphabet are skipped,
/// what follows the padding is not looked at, and padding has to fill a group
/// of four. None where memcached would not take it.
fn decode(written: &[u8], out: &mut [u8; KEY_BYTES_MAX]) -> Option<usize> {
    if written.len() > KEY_BYTES_MAX {
        return None;
    }
    let symbols = written
        .iter()
        .filter(|byte| symbol(**byte).is_some())
        .count();
    if symbols == 0 || symbols % 4 != 0 {
        return None;
    }
    let (mut length, mut group, mut filled, mut padding) = (0, 0u32, 0, 0);
    for byte in written {
        let Some(value) = symbol(*byte) else {
            continue;
        };
        padding += usize::from(*byte == b'=');
        group = group << 6 | u32::from(value);
        filled += 1;
        if filled < 4 {
            continue;
        }
        out[length..length + 3].copy_from_slice(&group.to_be_bytes()[1..]);
        length += 3;
        (group, filled) = (0, 0);
        match padding {
            0 => {}
            1 | 2 => {
                length -= padding;
                break;
            }
            _ => return None,
        }
    }
    (length > 0).then_some(length)
}

/// A symbol's six bits; padding counts as zero.
fn symbol(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        b'=' => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn base64_is_read_as_memcached_reads_it() {
        let check = |written: &[u8], expected: Option<&[u8]>| {
            let mut buffer = [0; KEY_BYTES_MAX];
            let key = Key {
                written,
                is_base64: true,
            };
            assert_eq!(key.stored(&mut buffer), expected);
        };
        check(b"Zm9v", Some(b"foo"));
        check(b"Zm8=", Some(b"fo"));
        check(b"Zg==", Some(b"f"));
        check(b"Zg===AAA", Some(b"f"));
        check(b"Z!m9\rv", Some(b"foo"));
        check(b"Zm8=Zm9v", Some(b"fo"));
        check(b"Zm9", None);
        check(b"====", None);
        check(b"Z===", None);
        check(b"", None);
        check(b"!!!!", None);
    }

    #[test]
    fn every_key_survives() {
        for length in 1..=KEY_BYTES_MAX * 3 / 4 {
            let key: Vec<u8> = (0..length).map(|index| (index * 7) as u8).collect();
            let written = STANDARD.encode(&key);
            let mut buffer = [0; KEY_BYTES_MAX];
            let written = Key {
                written: written.as_bytes(),
                is_base64: true,
            };
            let expected = (written.written.len() <= KEY_BYTES_MAX).then_some(&key[..]);
            assert_eq!(written.stored(&mut buffer), expected);
        }
    }
}
