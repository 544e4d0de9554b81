//! When a certificate expires: the one field of X.509 that is needed here
//! (RFC 5280, 4.1), read from its DER (X.690).

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The certificate's version, which may be left out.
const VERSION: u8 = 0xa0;

/// Seconds since 1970; none where the bytes are no certificate.
pub fn expires_at(der: &[u8]) -> Option<i64> {
    let (certificate, _) = value(der, SEQUENCE)?;
    let (mut fields, _) = value(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = value(fields, VERSION)?.1;
    }
    // Serial number, signature algorithm, issuer, then the validity.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        fields = value(fields, tag)?.1;
    }
    let (validity, _) = value(fields, SEQUENCE)?;
    let (_, rest) = time(validity)?;
    Some(time(rest)?.0)
}

/// The content of the value with this tag that `der` begins with, and what
/// follows it.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    (found == tag).then_some(())?;
    rest.split_at_checked(length)
}

/// A time, and what follows it. Both kinds end in seconds and `Z`.
fn time(der: &[u8]) -> Option<(i64, &[u8])> {
    let tag = *der.first()?;
    let (content, rest) = value(der, tag)?;
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, tail) = match tag {
        // RFC 5280: two digits up to 49 are of this century.
        UTC_TIME => (
            number(0, 2)? + if number(0, 2)? < 50 { 2000 } else { 1900 },
            2,
        ),
        GENERALIZED_TIME => (number(0, 4)?, 4),
        _ => return None,
    };
    let part = |index: usize| number(tail + 2 * index, tail + 2 * index + 2);
    let days = days_since_1970(year, part(0)?, part(1)?);
    let seconds = part(2)? * 3600 + part(3)? * 60 + part(4)?;
    Some((days * 86_400 + seconds, rest))
}

/// Days of the Gregorian calendar, with years that begin in March, so that
/// the day that comes and goes is the last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year
        - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    #[test]
    fn the_end_of_a_certificate_is_found() {
        let key = KeyPair::generate().unwrap();
        // GeneralizedTime begins in 2050.
        for (year, month, day, expected) in [
            (1999, 12, 31, 946_598_400),
            (2024, 2, 29, 1_709_164_800),
            (2030, 1, 1, 1_893_456_000),
            (2049, 12, 31, 2_524_521_600),
            (2050, 1, 1, 2_524_608_000),
            (2100, 3, 1, 4_107_542_400),
        ] {
            let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
            params.not_before = date_time_ymd(1990, 1, 1);
            params.not_after = date_time_ymd(year, month, day);
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(expires_at(certificate.der()), Some(expected), "{year}");
            for cut in 0..40 {
                assert_eq!(expires_at(&certificate.der()[..cut]), None);
            }
        }
        assert_eq!(expires_at(b"hello, this is no certificate"), None);
    }
}
