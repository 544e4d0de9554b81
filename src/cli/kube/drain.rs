//! `wal-sidecar kube drain`: a pod's preStop hook.
//!
//! A kubelet runs all preStop hooks of a pod at once, and sends SIGTERM to a
//! container when its own has ended (to a native sidecar not before the
//! application has ended). So the hook does not drain: that would cut off an
//! application that is still finishing its work. It waits until no client has
//! been there for a second; SIGTERM does the rest.

use crate::kube::idle::{Clients, clients};
use anyhow::Context as _;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the sidecar is asked.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long nobody has to have been connected. Some clients connect anew for
/// each request, and what the sidecar shows is up to a quarter of a second old.
const QUIET: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Options {
    /// How long to wait at most
    #[arg(long, value_name = "DURATION", default_value = "18s", value_parser = duration)]
    wait: Duration,
    /// The sidecar's admin endpoint; of an address that means all, loopback is asked
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "WAL_SIDECAR_ADMIN_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:9900"
    )]
    admin: SocketAddr,
}

pub(super) fn drain(options: &Options) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let left = runtime.block_on(wait(reachable(options.admin), options.wait))?;
    if left > 0 {
        writeln!(
            std::io::stderr(),
            "{left} clients are still connected after {:?}",
            options.wait
        )?;
    }
    // A hook that fails is an event of the pod's, and ends nothing sooner.
    Ok(ExitCode::SUCCESS)
}

/// Waits until no client has been connected for a while. How many are at the
/// end.
async fn wait(admin: SocketAddr, limit: Duration) -> anyhow::Result<u64> {
    let end = Instant::now() + limit;
    // Since when nobody is there, and how many had been by then.
    let mut quiet: Option<(Instant, u64)> = None;
    loop {
        let asked = clients(admin).await;
        let (left, all) = match asked.with_context(|| format!("ask {admin} for its clients"))? {
            Clients::Ended => return Ok(0),
            Clients::Served {
                connected,
                accepted,
            } => (connected, accepted),
        };
        let now = Instant::now();
        quiet = match quiet {
            _ if left > 0 => None,
            Some((since, before)) if before == all => Some((since, all)),
            _ => Some((now, all)),
        };
        let is_quiet = quiet.is_some_and(|(since, _)| now - since >= QUIET);
        if is_quiet || now >= end {
            return Ok(left);
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Where one that listens on `address` is asked from the same host.
pub(in crate::cli) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a duration is a number and ms, s, m or h: 18s".to_owned();
    let end = text
        .find(|one: char| !one.is_ascii_digit())
        .ok_or_else(wrong)?;
    let number: u64 = text[..end].parse().map_err(|_| wrong())?;
    let ms = match &text[end..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(ms)
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}
