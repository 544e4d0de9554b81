//! A reply as a tree, for the one reply that is read as a whole: `COMMAND`.

/// How deep values may nest. `COMMAND` nests 8 deep (a key specification of a
/// subcommand).
const MAX_DEPTH: usize = 16;

/// A value of RESP2 or RESP3. Maps are lists of keys and values in turn, as
/// RESP2 has them; sets and pushes are lists; attributes are left out.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Text(&'a [u8]),
    Error(&'a [u8]),
    Integer(i64),
    List(Vec<Value<'a>>),
    Null,
}

impl<'a> Value<'a> {
    /// The value in `bytes`, which hold it and nothing else.
    pub(super) fn parse(mut bytes: &'a [u8]) -> Result<Value<'a>, &'static str> {
        let value = parse(&mut bytes, 0)?;
        match bytes {
            [] => Ok(value),
            _ => Err("bytes after the end"),
        }
    }

    pub(super) fn text(&self) -> Option<&'a [u8]> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Value::Integer(integer) => Some(*integer),
            _ => None,
        }
    }

    /// Its parts, none where it is no list.
    pub(super) fn list(&self) -> &[Value<'a>] {
        match self {
            Value::List(list) => list,
            _ => &[],
        }
    }

    /// The value behind `key`, where it is a map.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Value<'a>> {
        let pairs = self.list().chunks_exact(2);
        pairs
            .into_iter()
            .find(|pair| pair[0].text() == Some(key))
            .map(|pair| &pair[1])
    }
}

fn parse<'a>(bytes: &mut &'a [u8], depth: usize) -> Result<Value<'a>, &'static str> {
    if depth > MAX_DEPTH {
        return Err("nested too deep");
    }
    let line = line(bytes)?;
    let (kind, line) = line.split_first().ok_or("an empty line")?;
    match kind {
        b'+' | b',' | b'(' | b'#' => Ok(Value::Text(line)),
        b'-' => Ok(Value::Error(line)),
        b':' => Ok(Value::Integer(integer(line)?)),
        b'_' => Ok(Value::Null),
        b'$' | b'=' | b'!' => {
            let Some(length) = length(line)? else {
                return Ok(Value::Null);
            };
            let text = bytes.get(..length).ok_or("cut off within a string")?;
            *bytes = bytes[length..]
                .strip_prefix(b"\r\n")
                .ok_or("a string is not ended")?;
            Ok(match kind {
                b'$' => Value::Text(text),
                b'!' => Value::Error(text),
                // A verbatim string begins with its format: `txt:`.
                _ => Value::Text(text.get(4..).unwrap_or_default()),
            })
        }
        b'*' | b'~' | b'>' | b'%' | b'|' => {
            let Some(count) = length(line)? else {
                return Ok(Value::Null);
            };
            let parts = match kind {
                b'%' | b'|' => count.checked_mul(2).ok_or("too many parts")?,
                _ => count,
            };
            // Every part takes bytes, so there cannot be more of them; nothing
            // is reserved for what a number alone promises.
            let mut list = Vec::new();
            for _ in 0..parts {
                list.push(parse(bytes, depth + 1)?);
            }
            match kind {
                b'|' => parse(bytes, depth + 1),
                _ => Ok(Value::List(list)),
            }
        }
        _ => Err("an unknown type"),
    }
}

/// Takes a line off `bytes`, its end left out.
fn line<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let end = memchr::memchr(b'\r', bytes).ok_or("cut off within a line")?;
    let line = &bytes[..end];
    *bytes = bytes[end..]
        .strip_prefix(b"\r\n")
        .ok_or("a line is not ended")?;
    Ok(line)
}

fn integer(line: &[u8]) -> Result<i64, &'static str> {
    super::walk::integer(line).ok_or("no integer")
}

/// A length; `None` for RESP2's null, -1.
fn length(line: &[u8]) -> Result<Option<usize>, &'static str> {
    match integer(line)? {
        -1 => Ok(None),
        length => usize::try_from(length)
            .map(Some)
            .map_err(|_| "a negative length"),
    }
}
