//! `wal-sidecar verify`: whether two regions' datastores hold the same.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;

use super::{BadUsage, directory, load, replicate};
use crate::app;
use crate::config::{Config, Namespace, Protocol};
use crate::replication::target::{Desk, TargetError};
use crate::replication::verify::{self, Difference, Side, Verify};
use report::Report;

mod other;
mod report;

/// Keys that are repaired at once, at most: more are a case for a copy of all.
const REPAIRED_MAX: usize = 10_000;

/// How long the leader may take to tell keys.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// memcached tells expiries in seconds, and each server counts its own.
const SECONDS: Duration = Duration::from_secs(2);

/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(200);

pub(super) const EXAMPLES: &str = "\
Examples:
  wal-sidecar verify --with redis://10.1.0.5:6379
  wal-sidecar verify --with eu.toml --sample 1         the other region's configuration file
  wal-sidecar verify --with memcached://h1 --with memcached://h2 --prefix user:
  wal-sidecar verify --with redis://10.1.0.5 --password-file /run/secrets/redis --json
  wal-sidecar verify --with redis://10.1.0.5 --repair

Run it with the configuration of one region, whose keys it reads on both sides; of
the other side it looks for keys that are missing here. With rediss:// it trusts, and
shows, what the namespace does to its own datastore. What differs is read again
up to three times before it counts, as it may be on its way.

--repair has this region's leading replicator tell what it has of each key that
differs. Every region takes that by the rules for all changes: a newer change that
is known there wins. Where none is known, which is so a minute after it was made,
what is told wins: a value that is missing there is put there, and one that is
missing here is deleted there. Run it in the region that has it right.";

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The other region's datastore, as upstream in the configuration has it, or
    /// its configuration file. Several times for servers of memcached
    #[arg(long, value_name = "URL|FILE", required = true)]
    with: Vec<String>,
    /// The namespace; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// The user at the other datastore, where it wants one
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The file that has its password
    #[arg(long, value_name = "FILE", conflicts_with = "password_env")]
    password_file: Option<PathBuf>,
    /// The environment variable that has its password
    #[arg(long, value_name = "VARIABLE")]
    password_env: Option<String>,
    /// Compare so many percent of the keys only, drawn by their hash
    #[arg(long, value_name = "PERCENT", conflicts_with = "keys")]
    sample: Option<f64>,
    /// Compare about so many keys only, drawn by their hash
    #[arg(long, value_name = "COUNT")]
    keys: Option<u64>,
    /// Compare keys that begin with this only
    #[arg(long, value_name = "PREFIX", default_value = "")]
    prefix: String,
    /// How long what differs may take to become equal, each of three times
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    settle: f64,
    /// Times of expiry may differ by so much; one given as a time to live counts
    /// from a little later in the region it was given in
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    tolerance: f64,
    /// Keys a second that are read, at most
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Have keys that differ told by this region
    #[arg(long)]
    repair: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(
    options: &Options,
    file: &Path,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let config = load(file)?;
    let namespace = directory::find(&config, options.namespace.as_deref(), file)?;
    options.check()?;
    if options.repair {
        replicate::check_role(&config, file)?;
    }
    let other = other::namespace(options, namespace)?;
    super::run_locally(run(options, &config, namespace, &other, out))
}

async fn run(
    options: &Options,
    config: &Config,
    namespace: &Namespace,
    other: &Namespace,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    if options.repair {
        // Before an hour of reading.
        let mut desk = Leader::of(config, namespace);
        match &mut desk {
            Leader::Redis(desk) => replicate::check_led(desk, namespace).await?,
            Leader::Memcached(desk) => replicate::check_led(desk, namespace).await?,
        }
    }
    let (mut here, mut there) = (side(config, namespace), side(config, other));
    let count =
        (here.count().await).with_context(|| format!("look into {}", namespace.upstream))?;
    let count_there =
        (there.count().await).with_context(|| format!("look into {}", other.upstream))?;
    let mut report = Report::new(options.json, count + count_there, out);
    let (mut differing, mut failed) = (Vec::new(), None);
    let report_cell = std::cell::RefCell::new(&mut report);
    let mut on_difference = |one: &Difference| {
        if differing.len() < REPAIRED_MAX {
            differing.push(one.key.clone());
        }
        failed = failed
            .take()
            .or(report_cell.borrow_mut().difference(one).err());
    };
    let mut on_progress = |counts: &verify::Counts| report_cell.borrow_mut().progress(counts);
    let found = {
        let chosen = options.chosen(namespace, count.max(count_there));
        let mut verify = Verify::new(here, there, chosen, &mut on_difference, &mut on_progress);
        verify.run().await?
    };
    if let Some(error) = failed {
        return Err(error.into());
    }
    let mut unequal = found.unequal();
    let mut repaired = None;
    if options.repair && !differing.is_empty() {
        let asked = differing.len() as u64;
        report.repairing(asked)?;
        let left = repair(options, config, namespace, other, differing).await?;
        for one in &left {
            report.not_repaired(one)?;
        }
        let done = asked - left.len() as u64;
        repaired = Some((done, unequal - asked));
        unequal -= done;
    }
    report.summary(&found, repaired)?;
    Ok(match unequal {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Has keys told, and compares them again; those that still differ.
async fn repair(
    options: &Options,
    config: &Config,
    namespace: &Namespace,
    other: &Namespace,
    keys: Vec<(u32, Bytes)>,
) -> anyhow::Result<Vec<Difference>> {
    match Leader::of(config, namespace) {
        Leader::Redis(desk) => tell(desk, &keys).await?,
        Leader::Memcached(desk) => tell(desk, &keys).await?,
    }
    let chosen = options.chosen(namespace, 0);
    let (mut on_difference, mut on_progress) = (|_: &Difference| {}, |_: &verify::Counts| {});
    let (here, there) = (side(config, namespace), side(config, other));
    let mut verify = Verify::new(here, there, chosen, &mut on_difference, &mut on_progress);
    Ok(verify.run_on(keys).await?)
}

/// Has the leader tell keys; done when it has taken them.
async fn tell(mut desk: impl Desk, keys: &[(u32, Bytes)]) -> anyhow::Result<()> {
    desk.ask_for_keys(keys).await?;
    let taken = async {
        while desk.has_keys_left().await? {
            tokio::time::sleep(LOOK).await;
        }
        Ok::<(), TargetError>(())
    };
    match tokio::time::timeout(TOLD_WITHIN, taken).await {
        Ok(taken) => Ok(taken?),
        Err(_) => anyhow::bail!(
            "the leading replicator has not taken the keys within {} s; is it of this version, and \
             has it reached all sources since its start?",
            TOLD_WITHIN.as_secs()
        ),
    }
}

/// Where the own region's leader is asked.
enum Leader {
    Redis(crate::replication::target::redis::Redis),
    Memcached(crate::replication::target::memcached::Memcached),
}

impl Leader {
    fn of(config: &Config, namespace: &Namespace) -> Leader {
        match namespace.protocol {
            Protocol::Redis => Leader::Redis(replicate::redis(namespace)),
            Protocol::Memcached => Leader::Memcached(replicate::memcached(config, namespace)),
        }
    }
}

fn side(config: &Config, namespace: &Namespace) -> Side {
    match Leader::of(config, namespace) {
        Leader::Redis(store) => Side::redis(store),
        Leader::Memcached(store) => Side::memcached(store),
    }
}

impl Options {
    fn check(&self) -> Result<(), BadUsage> {
        let is_time = |seconds: f64| (0.0..=3600.0).contains(&seconds);
        if self
            .sample
            .is_some_and(|percent| !(0.0 < percent && percent <= 100.0))
        {
            return Err(BadUsage(
                "--sample is a percentage above 0, up to 100".to_owned(),
            ));
        }
        match is_time(self.settle) && is_time(self.tolerance) {
            true => Ok(()),
            false => Err(BadUsage(
                "--settle and --tolerance are seconds, up to 3600".to_owned(),
            )),
        }
    }

    fn chosen(&self, namespace: &Namespace, count: u64) -> verify::Options {
        let tolerance = Duration::from_secs_f64(self.tolerance);
        verify::Options {
            policy: app::replication_policy(namespace),
            share: match (self.sample, self.keys) {
                (Some(percent), _) => verify::Options::share_of_percent(percent),
                (None, Some(keys)) => verify::Options::share_of_keys(keys, count),
                (None, None) => verify::Options::share_of_percent(100.0),
            },
            prefix: Bytes::from(self.prefix.clone()),
            settle: Duration::from_secs_f64(self.settle),
            rate: self.rate,
            tolerance: match namespace.protocol {
                Protocol::Redis => tolerance,
                Protocol::Memcached => tolerance.max(SECONDS),
            },
        }
    }
}
