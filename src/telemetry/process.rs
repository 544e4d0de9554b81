//! Metrics of the process itself, as Linux's `/proc` has them (proc_pid_stat(5),
//! proc_pid_status(5)). Where there is no `/proc` there are no such metrics.

use std::fmt::Write;
use std::fs;

/// Clock ticks per second where the kernel does not tell; so it is on every
/// architecture this is built for.
const TICKS_PER_SECOND: u64 = 100;

/// The auxiliary vector's entry with the ticks per second (getauxval(3)).
const AT_CLKTCK: u64 = 17;

/// Fields of `/proc/self/stat`, counted from 1 as its manual page does.
const STAT_UTIME: usize = 14;
const STAT_STIME: usize = 15;
const STAT_THREADS: usize = 20;
const STAT_START: usize = 22;

/// Appends the process's metrics to `text`. What cannot be read is left out.
pub fn render(text: &mut String) {
    let ticks = match fs::read("/proc/self/auxv") {
        Ok(auxv) => ticks_per_second(&auxv),
        Err(_) => TICKS_PER_SECOND,
    };
    let mut add = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let name = format!("wal_sidecar_process_{name}");
            let help = format!("# HELP {name} {help}\n# TYPE {name} {kind}");
            writeln!(text, "{help}\n{name} {value}\n").expect("a String takes any text");
        }
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = kib_field(&status, "VmRSS:").map(|kib| kib as f64 * 1024.0);
    add(
        "resident_memory_bytes",
        "gauge",
        "Resident memory.",
        resident,
    );

    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let seconds = |field| stat_field(&stat, field).map(|value| value as f64 / ticks as f64);
    let cpu = seconds(STAT_UTIME)
        .zip(seconds(STAT_STIME))
        .map(|(user, system)| user + system);
    add(
        "cpu_seconds_total",
        "counter",
        "CPU time, user and system.",
        cpu,
    );
    let threads = stat_field(&stat, STAT_THREADS).map(|threads| threads as f64);
    add("threads", "gauge", "Threads.", threads);

    let boot = fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|text| boot_seconds(&text));
    let start = boot
        .zip(seconds(STAT_START))
        .map(|(boot, after)| boot as f64 + after);
    add(
        "start_time_seconds",
        "gauge",
        "Start, in seconds since 1970.",
        start,
    );

    // Reading the directory opens a file too, which is not the process's.
    let open = fs::read_dir("/proc/self/fd")
        .ok()
        .map(|files| files.count().saturating_sub(1) as f64);
    add("open_fds", "gauge", "Open file descriptors.", open);
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let max = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let max = max.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    add(
        "max_fds",
        "gauge",
        "File descriptors that may be open.",
        max,
    );
}

/// A field of `/proc/self/stat`. The second is the program's name in
/// parentheses, which may hold anything, so counting starts after its end.
fn stat_field(stat: &str, field: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(field - 3)?.parse().ok()
}

fn kib_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn boot_seconds(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// Looks the ticks up in the auxiliary vector: pairs of machine words.
fn ticks_per_second(auxv: &[u8]) -> u64 {
    let words = auxv.chunks_exact(size_of::<usize>()).map(|word| {
        usize::from_ne_bytes(word.try_into().expect("chunks have the size of a word")) as u64
    });
    let words: Vec<u64> = words.collect();
    let entry = words.chunks_exact(2).find(|pair| pair[0] == AT_CLKTCK);
    match entry {
        Some(pair) if pair[1] > 0 => pair[1],
        _ => TICKS_PER_SECOND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_the_name_is() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 3 0 9000 11 12";
        for (field, expected) in [
            (STAT_UTIME, Some(150)),
            (STAT_STIME, Some(50)),
            (STAT_THREADS, Some(3)),
            (STAT_START, Some(9000)),
            (60, None),
        ] {
            assert_eq!(stat_field(stat, field), expected, "{field}");
        }
        assert_eq!(stat_field("", STAT_UTIME), None);
        assert_eq!(
            kib_field("VmSize:\t 9 kB\nVmRSS:\t  1234 kB\n", "VmRSS:"),
            Some(1234)
        );
        assert_eq!(
            boot_seconds("cpu 1\nbtime 1700000000\n"),
            Some(1_700_000_000)
        );
    }

    #[test]
    fn ticks_are_looked_up() {
        let bytes = |words: &[usize]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_ne_bytes()).collect()
        };
        assert_eq!(ticks_per_second(&bytes(&[6, 4096, 17, 250, 0, 0])), 250);
        assert_eq!(ticks_per_second(&bytes(&[6, 17, 0, 0])), TICKS_PER_SECOND);
        assert_eq!(ticks_per_second(&[]), TICKS_PER_SECOND);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_them_all() {
        let mut text = String::new();
        render(&mut text);
        let value = |name: &str| -> f64 {
            let name = format!("wal_sidecar_process_{name} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            line.unwrap_or_else(|| panic!("{name} in\n{text}"))
                .parse()
                .unwrap()
        };
        assert!(value("resident_memory_bytes") > 100_000.0);
        assert!(value("cpu_seconds_total") >= 0.0);
        assert!(value("threads") >= 1.0);
        assert!(value("open_fds") >= 3.0 && value("open_fds") <= value("max_fds"));
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let age = now.as_secs_f64() - value("start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }
}
