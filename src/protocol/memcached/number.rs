//! Numbers in command lines, read the ways memcached reads them.
//!
//! 1.6.18 reads all of them with the C library, which takes white space and a
//! plus sign, and cuts off what does not fit; 1.6.45 takes digits alone for
//! most. What both take, both take as the same number.

/// The most digits that 1.6.45 takes for a number of 32 bits.
const STRICT_DIGITS_MAX: usize = 11;

/// The most digits that 1.6.45 takes for a number of 64 bits.
const STRICT_LONG_DIGITS_MAX: usize = 22;

/// A signed number as the C library's `strtol` finds it at the token's start,
/// if nothing but white space follows.
pub fn lenient(token: &[u8]) -> Option<i64> {
    let (negative, digits) = parts(token)?;
    let magnitude = magnitude(digits)?;
    if negative {
        0i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
}

/// An unsigned number as `strtoull` finds it. A minus sign negates, and the
/// result counts only where its highest bit is not set.
pub fn lenient_unsigned(token: &[u8]) -> Option<u64> {
    let (negative, digits) = parts(token)?;
    let magnitude = magnitude(digits)?;
    let value = if negative {
        magnitude.wrapping_neg()
    } else {
        magnitude
    };
    ((value as i64) >= 0 || !token.contains(&b'-')).then_some(value)
}

/// A signed number of 32 bits: what does not fit is cut off, not refused.
pub fn lenient_cut(token: &[u8]) -> Option<i32> {
    lenient(token).map(|value| value as i32)
}

/// A count of bytes that every version takes as the same one.
pub fn strict_length(token: &[u8]) -> Option<u32> {
    /// Two bytes of line end are added to it (`INT_MAX - 2`).
    const LENGTH_MAX: u64 = i32::MAX as u64 - 2;
    let value = digits(token, STRICT_DIGITS_MAX)?;
    (value <= LENGTH_MAX).then_some(value as u32)
}

/// A number of 64 bits that every version takes as the same one.
pub fn strict_long(token: &[u8]) -> Option<u64> {
    digits(token, STRICT_LONG_DIGITS_MAX)
}

/// Whether 1.6.18 takes the token as a count of bytes, whatever it makes of it.
pub fn is_lenient_length(token: &[u8]) -> bool {
    lenient_cut(token).is_some_and(|value| (0..=i32::MAX - 2).contains(&value))
}

#[inline]
fn digits(token: &[u8], digits_max: usize) -> Option<u64> {
    if token.is_empty() || token.len() > digits_max {
        return None;
    }
    magnitude(token)
}

/// The value of a text of digits alone; none if it does not fit.
#[inline]
fn magnitude(digits: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// The sign and the digits, without the white space that the C library skips
/// before them and that memcached allows after them.
#[inline]
fn parts(token: &[u8]) -> Option<(bool, &[u8])> {
    let start = token.iter().position(|byte| !is_space(*byte))?;
    let token = &token[start..];
    let (negative, token) = match token.first()? {
        b'-' => (true, &token[1..]),
        b'+' => (false, &token[1..]),
        _ => (false, token),
    };
    let end = token
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(token.len());
    let followed = token.get(end).is_none_or(|byte| is_space(*byte));
    (end > 0 && followed).then_some((negative, &token[..end]))
}

/// What C's `isspace` says.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        let check = |token: &[u8], signed: Option<i64>, unsigned: Option<u64>| {
            assert_eq!(lenient(token), signed, "{}", token.escape_ascii());
            assert_eq!(
                lenient_unsigned(token),
                unsigned,
                "{}",
                token.escape_ascii()
            );
        };
        check(b"0", Some(0), Some(0));
        check(b"+5", Some(5), Some(5));
        check(b"-5", Some(-5), None);
        check(b"-0", Some(0), Some(0));
        check(b"\t7", Some(7), Some(7));
        check(b"7\r", Some(7), Some(7));
        check(b"7\rx", Some(7), Some(7));
        check(b"7x", None, None);
        check(b"", None, None);
        check(b"-", None, None);
        check(b"--5", None, None);
        check(b"+-5", None, None);
        check(b"18446744073709551615", None, Some(u64::MAX));
        check(b"18446744073709551616", None, None);
        check(b"-18446744073709551615", None, Some(1));
        check(b"9223372036854775808", None, Some(1 << 63));
        check(b"-9223372036854775808", Some(i64::MIN), None);
        check(b"0x10", None, None);
        assert_eq!(lenient_cut(b"4294967297"), Some(1));
        assert_eq!(
            lenient_cut(b"1700000000000"),
            Some(1_700_000_000_000i64 as i32)
        );
    }

    #[test]
    fn lengths_are_those_that_all_versions_take() {
        let check = |token: &[u8], strict: Option<u32>, lenient: bool| {
            assert_eq!(strict_length(token), strict, "{}", token.escape_ascii());
            assert_eq!(
                is_lenient_length(token),
                lenient,
                "{}",
                token.escape_ascii()
            );
        };
        check(b"0", Some(0), true);
        check(b"00000000005", Some(5), true);
        check(b"000000000005", None, true);
        check(b"2147483645", Some(2_147_483_645), true);
        check(b"2147483646", None, false);
        check(b"4294967297", None, true);
        check(b"-1", None, false);
        check(b"-0", None, true);
        check(b"+1", None, true);
        check(b"1\r", None, true);
        check(b"x", None, false);
        check(b"", None, false);
    }
}
