//! `wal-sidecar top`: what sidecars and replicators do, live.
//!
//! It asks the admin endpoints of one or more processes and shows them
//! together: `scrape` asks, `watched` keeps the last two answers of a process,
//! `model` makes numbers of them, `view` tables of these, and `draw` or `plain`
//! shows them.

mod draw;
mod exposition;
mod model;
mod numbers;
mod plain;
mod rates;
mod scrape;
mod screen;
mod table;
mod terminal;
mod view;
mod watched;
mod watcher;

use super::journal::time;
use super::{BadUsage, kube, load};
use model::Model;
use screen::Screen;
use serde::Serialize;
use std::io::{IsTerminal as _, Write, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep_until};
use watcher::Watcher;

pub(super) const EXAMPLES: &str = "\
Examples:
  wal-sidecar top                            the process of ./sidecar.toml
  wal-sidecar top 10.0.1.7:9900 10.0.2.7:9900 --interval 1
  wal-sidecar top $(kubectl get pods -l app=cart -o jsonpath='{.items[*].status.podIP}')
  wal-sidecar top --once --namespace sessions
  wal-sidecar top --json | jq '.replication[].sources[] | {source, lag_seconds}'

Keys: q ends, p pauses, + and - change the interval, Tab and arrows scroll, s sorts
by lag, h explains. NO_COLOR is honoured. Where standard output is no terminal it is
as with --once. With --once the exit code is 1 where none of the addresses answers.";

/// Addresses that are watched at once.
const ADDRESSES_MAX: usize = 256;
/// Less makes the sidecars work for nothing.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Admin endpoints of sidecars and replicators, of whatever regions:
    /// HOST:PORT, with :9900 if left out. None: that of the configuration
    #[arg(value_name = "ADDRESS", value_parser = scrape::endpoint)]
    addresses: Vec<String>,
    /// How often they are asked
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    interval: Duration,
    /// Print one table, of one interval, and end
    #[arg(long)]
    once: bool,
    /// One JSON object each time they are asked
    #[arg(long)]
    json: bool,
    /// Only this namespace
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds: f64| {
        let duration = Duration::try_from_secs_f64(seconds).ok()?;
        (INTERVAL_MIN..=INTERVAL_MAX)
            .contains(&duration)
            .then_some(duration)
    });
    seconds.ok_or_else(|| "an interval is 0.1 to 3600 seconds".to_owned())
}

pub(super) fn execute(options: &Options, file: &Path) -> anyhow::Result<ExitCode> {
    let mut watcher = Watcher::new(addresses(options, file)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        if options.json && !options.once {
            print_all(&mut watcher, options).await
        } else if options.json || options.once || !stdout().is_terminal() {
            print_once(&mut watcher, options).await
        } else {
            let mut screen = Screen::new(options.interval, has_colors());
            let namespace = options.namespace.as_deref();
            terminal::show(&mut watcher, namespace, &mut screen).await?;
            Ok(ExitCode::SUCCESS)
        }
    });
    // A name that is being looked up keeps nobody from ending.
    runtime.shutdown_background();
    ended
}

fn addresses(options: &Options, file: &Path) -> Result<Vec<String>, BadUsage> {
    let mut addresses: Vec<String> = Vec::new();
    for address in &options.addresses {
        if !addresses.contains(address) {
            addresses.push(address.clone());
        }
    }
    if ADDRESSES_MAX < addresses.len() {
        let number = addresses.len();
        return Err(BadUsage(format!(
            "{number} addresses are given; up to {ADDRESSES_MAX} can be watched at once"
        )));
    }
    if addresses.is_empty() {
        let config = load(file)?;
        addresses.push(kube::reachable(config.admin.listen).to_string());
    }
    Ok(addresses)
}

/// no-color.org: set, and not empty.
fn has_colors() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What one line of JSON holds.
#[derive(Serialize)]
struct Object<'a> {
    time: String,
    #[serde(flatten)]
    model: &'a Model,
}

fn print_json(model: &Model) -> anyhow::Result<()> {
    let time = time(now_ms());
    let object = serde_json::to_string(&Object { time, model })?;
    let mut out = stdout();
    writeln!(out, "{object}")?;
    out.flush()?;
    Ok(())
}

/// One object an interval, until it is ended or nobody reads them. The first
/// has no rates.
async fn print_all(watcher: &mut Watcher, options: &Options) -> anyhow::Result<ExitCode> {
    let mut next = Instant::now();
    loop {
        sleep_until(next).await;
        next = Instant::now() + options.interval;
        watcher.read().await;
        print_json(&Model::new(watcher.watched(), options.namespace.as_deref()))?;
    }
}

/// Asks twice, as rates need two readings.
async fn print_once(watcher: &mut Watcher, options: &Options) -> anyhow::Result<ExitCode> {
    let namespace = options.namespace.as_deref();
    let second = Instant::now() + options.interval;
    watcher.read().await;
    let mut model = Model::new(watcher.watched(), namespace);
    if model.any_answered() {
        sleep_until(second).await;
        watcher.read().await;
        model = Model::new(watcher.watched(), namespace);
    }
    match options.json {
        true => print_json(&model)?,
        false => {
            // Lines that a terminal would break are no table.
            let size = ratatui::crossterm::terminal::size().ok();
            let size = size.filter(|_| stdout().is_terminal());
            let width = size.map_or(usize::MAX, |(width, _)| usize::from(width));
            plain::print(&model, &time_of_day(now_ms()), width, &mut stdout())?;
        }
    }
    Ok(match model.any_answered() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}

/// `12:34:56 UTC`
fn time_of_day(ms: u64) -> String {
    let seconds = ms / 1000 % 86_400;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02} UTC")
}
