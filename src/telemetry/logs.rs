//! Where log lines go and which of them.

use anyhow::Context;
use std::io::IsTerminal;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; in colour on a terminal.
    Text,
    /// One JSON object a line, fields at its top level.
    Json,
}

/// The least severe lines that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// A human must act.
    Error,
    /// Something is off.
    Warn,
    /// What operators follow.
    Info,
    /// What developers follow.
    Debug,
    /// Everything.
    Trace,
}

/// Changes the level while the program runs.
#[derive(Debug, Clone)]
pub struct LogHandle {
    level: reload::Handle<LevelFilter, Registry>,
}

impl LogHandle {
    /// Logs lines of this level and above from now on.
    pub fn set_level(&self, level: LogLevel) {
        // It fails only when the subscriber is gone, and with it all lines.
        let _ = self.level.modify(|filter| *filter = filter_of(level));
    }
}

/// Sends this process's log lines to standard error. Fails when that has
/// been done before.
pub fn init_logs(format: LogFormat, level: LogLevel) -> anyhow::Result<LogHandle> {
    let (filter, handle) = reload::Layer::new(filter_of(level));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .boxed(),
    };
    // The filter is outermost: what it stops costs no more than its check.
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .context("set up logging")?;
    Ok(LogHandle { level: handle })
}

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The only test that sets up the process's logging.
    #[test]
    fn the_level_can_change_and_setup_happens_once() {
        let handle = init_logs(LogFormat::Json, LogLevel::Error).unwrap();
        assert!(!tracing::enabled!(tracing::Level::DEBUG));
        assert!(tracing::enabled!(tracing::Level::ERROR));
        handle.set_level(LogLevel::Debug);
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        assert!(!tracing::enabled!(tracing::Level::TRACE));
        handle.set_level(LogLevel::Error);
        assert!(!tracing::enabled!(tracing::Level::WARN));
        assert!(init_logs(LogFormat::Text, LogLevel::Error).is_err());
    }
}
