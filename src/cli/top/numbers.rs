//! Numbers as people read them: in few columns.

/// What is not known.
pub(super) const UNKNOWN: &str = "-";

/// A count: `7`, `12.3k`, `4.1M`.
pub(super) fn count(value: f64) -> String {
    match value {
        value if value < 9_999.5 => format!("{value:.0}"),
        value => scaled(value, 1000.0, &["", "k", "M", "G", "T"]),
    }
}

/// How often a second: `0`, `0.02`, `3.5`, `120`, `12.3k`.
pub(super) fn rate(value: f64) -> String {
    match value {
        value if value <= 0.0 => "0".to_owned(),
        value if value < 0.095 => format!("{:.2}", value.max(0.01)),
        value if value < 99.95 => format!("{value:.1}"),
        value => count(value),
    }
}

/// A number of bytes: `512B`, `1.5KiB`, `20.0MiB`.
pub(super) fn bytes(value: f64) -> String {
    match value {
        value if value < 1023.5 => format!("{value:.0}B"),
        value => scaled(value, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"]),
    }
}

/// A time that somebody waits for: `0.35ms`, `12ms`, `1.2s`.
pub(super) fn latency(seconds: f64) -> String {
    match seconds * 1000.0 {
        ms if ms < 9.995 => format!("{ms:.2}ms"),
        ms if ms < 999.5 => format!("{ms:.0}ms"),
        _ => age(seconds),
    }
}

/// How long ago: `0.12s`, `42s`, `3m20s`, `5h07m`, `2d03h`.
pub(super) fn age(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds < 9.995 => format!("{seconds:.2}s"),
        whole if whole < 60 => format!("{whole}s"),
        whole if whole < 3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        whole if whole < 86_400 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        whole => format!("{}d{:02}h", whole / 86_400, whole / 3600 % 24),
    }
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // What would be rounded up to a whole step is one.
    while step - 0.05 <= value && unit + 1 < units.len() {
        (value, unit) = (value / step, unit + 1);
    }
    format!("{value:.1}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: fn(f64) -> String, table: &[(f64, &str)]) {
        for (value, expected) in table {
            assert_eq!(format(*value), *expected, "{value}");
        }
    }

    #[test]
    fn numbers_are_short() {
        check(
            count,
            &[
                (0.0, "0"),
                (9999.0, "9999"),
                (12_345.0, "12.3k"),
                (999_990.0, "1.0M"),
                (4e6, "4.0M"),
                (7e17, "700000.0T"),
            ],
        );
        check(
            rate,
            &[
                (0.0, "0"),
                (0.001, "0.01"),
                (0.05, "0.05"),
                (0.5, "0.5"),
                (99.9, "99.9"),
                (99.96, "100"),
                (12_345.0, "12.3k"),
            ],
        );
        check(
            bytes,
            &[
                (0.0, "0B"),
                (1023.0, "1023B"),
                (1536.0, "1.5KiB"),
                (1_048_575.0, "1.0MiB"),
            ],
        );
        check(
            latency,
            &[
                (0.00035, "0.35ms"),
                (0.0099, "9.90ms"),
                (0.012, "12ms"),
                (1.25, "1.25s"),
                (75.0, "1m15s"),
            ],
        );
        check(
            age,
            &[
                (0.0, "0.00s"),
                (9.996, "10s"),
                (59.4, "59s"),
                (59.6, "1m00s"),
                (200.0, "3m20s"),
                (18_420.0, "5h07m"),
                (183_600.0, "2d03h"),
            ],
        );
    }
}
