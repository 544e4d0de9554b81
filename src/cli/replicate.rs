//! `wal-sidecar replicate`: has the leading replicator of this region copy its data
//! to the others, and shows how far it is.

use std::io::{IsTerminal as _, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::time::Instant;

use super::{BadUsage, directory, load, now_ms};
use crate::app;
use crate::config::{Config, Namespace, Protocol, Role};
use crate::platform::Platform;
use crate::replication::request::{Phase, Progress, RATE, Request};
use crate::replication::target::memcached::Memcached;
use crate::replication::target::redis::Redis;
use crate::replication::target::{Desk, TargetError};
use progress::Line;

mod progress;

/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(250);

/// The leader looks for requests every other second.
const TAKEN_UP: Duration = Duration::from_secs(15);

pub(super) const EXAMPLES: &str = "\
Examples:
  wal-sidecar replicate --bootstrap            copy this region's data to the others, and follow
  wal-sidecar replicate --bootstrap --status   how far that is
  wal-sidecar replicate --bootstrap --cancel
  wal-sidecar replicate --bootstrap --rate 500 --no-wait

To fill a new region: start its replicator, with this region as a source and its
datastore empty, and name it as a source here; run this in a region that has the
data, with that region's configuration; let clients write in the new region once
its name is shown as one that knows. Writes go on everywhere else. The work is
done by this region's leading replicator, through its journal, which grows by the
size of the data; it goes on after a restart.

Where the datastore is memcached, run it on the host of the leading replicator.";

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Have every key told to all other regions
    #[arg(long, required = true)]
    bootstrap: bool,
    /// The namespace; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Keys a second, at most. Every region remembers each for a minute or so,
    /// which takes about a kilobyte
    #[arg(long, value_name = "KEYS", default_value_t = RATE,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Show how far it is
    #[arg(long, conflicts_with_all = ["cancel", "no_wait"])]
    status: bool,
    /// Give it up; what was copied stays. Not once clients write in the new region: what they
    /// changed and was not copied yet would count without what it was changed from
    #[arg(long, conflicts_with = "no_wait")]
    cancel: bool,
    /// Leave it going on
    #[arg(long)]
    no_wait: bool,
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
    check_role(&config, file)?;
    let who = Asking {
        options,
        namespace,
        out,
    };
    super::run_locally(async {
        match namespace.protocol {
            Protocol::Redis => who.ask(redis(namespace)).await,
            Protocol::Memcached => who.ask(memcached(&config, namespace)).await,
        }
    })
}

/// The datastore of a namespace, and what is left there for the leader.
pub(super) fn redis(namespace: &Namespace) -> Redis {
    let servers = app::datastore_options(namespace);
    Redis::new(servers, &namespace.name, 0)
}

/// The same of memcached.
pub(super) fn memcached(config: &Config, namespace: &Namespace) -> Memcached {
    let servers = app::servers_options(namespace);
    let file = app::checkpoints_file(config, namespace);
    Memcached::new(servers, &namespace.name, 0, file)
}

/// Only replicators tell keys.
pub(super) fn check_role(config: &Config, file: &Path) -> Result<(), BadUsage> {
    match config.roles.contains(&Role::Replicator) {
        true => Ok(()),
        false => Err(BadUsage(format!(
            "{} has no role \"replicator\"; use the configuration of this region's replicator",
            file.display()
        ))),
    }
}

/// Fails where nobody would do what is asked for.
pub(super) async fn check_led(desk: &mut impl Desk, namespace: &Namespace) -> anyhow::Result<()> {
    let upstream = &namespace.upstream;
    let name = &namespace.name;
    let is_led = desk.is_led().await;
    match is_led.with_context(|| format!("look for the leader of {name} in {upstream}"))? {
        true => Ok(()),
        false => bail!(
            "no replicator leads namespace {name}: {upstream} has no wal-sidecar:lease:{name}; \
             start one with roles = [\"replicator\"] and run this again"
        ),
    }
}

struct Asking<'a> {
    options: &'a Options,
    namespace: &'a Namespace,
    out: &'a mut dyn Write,
}

async fn known(desk: &mut impl Desk) -> Result<Option<Progress>, TargetError> {
    let found = desk.progress().await?;
    Ok(found.and_then(|text| Progress::parse(&text)))
}

impl Asking<'_> {
    async fn ask(mut self, mut desk: impl Desk) -> anyhow::Result<ExitCode> {
        let upstream = &self.namespace.upstream;
        let found = known(&mut desk).await;
        let found = found.with_context(|| format!("look into {upstream}"))?;
        if self.options.status {
            return self.status(&mut desk, found).await;
        }
        if self.options.cancel {
            return self.cancel(&mut desk, found).await;
        }
        check_led(&mut desk, self.namespace).await?;
        let id = match found.filter(Progress::is_running) {
            Some(running) => {
                self.say("it is under way already")?;
                running.id
            }
            None => {
                let request = Request {
                    id: Platform::system().random.next_u64(),
                    rate: self.options.rate,
                    is_cancelled: false,
                };
                desk.ask(&request.format()).await?;
                request.id
            }
        };
        if self.options.no_wait {
            self.say("asked for; it goes on by itself")?;
            self.say_how_to_look()?;
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            followed = self.follow(&mut desk, id) => return followed,
            interrupted = tokio::signal::ctrl_c() => interrupted.context("wait for Ctrl-C")?,
        }
        self.say("\nthe copying goes on by itself")?;
        self.say_how_to_look()?;
        Ok(ExitCode::SUCCESS)
    }

    async fn follow(&mut self, desk: &mut impl Desk, id: u64) -> anyhow::Result<ExitCode> {
        let mut line = Line::new(self.options.json, std::io::stdout().is_terminal());
        let mut seen_at = Instant::now();
        let mut is_seen = false;
        loop {
            // The datastore may be away for a while; the leader waits for it, too.
            let Ok(found) = known(desk).await else {
                seen_at = Instant::now();
                tokio::time::sleep(LOOK).await;
                continue;
            };
            match &found.filter(|found| found.id == id) {
                Some(progress) if progress.is_running() => {
                    (is_seen, seen_at) = (true, Instant::now());
                    let is_stale = progress.at_ms + 15_000 < now_ms();
                    let is_led = !is_stale || desk.is_led().await.unwrap_or(false);
                    line.show(progress, is_led, self.out)?;
                }
                Some(progress) => {
                    line.end(progress, self.out)?;
                    return Ok(match progress.phase {
                        Phase::Cancelled => ExitCode::FAILURE,
                        _ => ExitCode::SUCCESS,
                    });
                }
                None if is_seen && TAKEN_UP < seen_at.elapsed() => bail!(
                    "the copying has ended: what is known of it is gone from the datastore, which \
                     a client has emptied, or another request has taken its place"
                ),
                None if TAKEN_UP < seen_at.elapsed() => bail!(
                    "the leading replicator has not taken it up within {} s; is it of this \
                     version, and is this the host and the configuration it runs with?",
                    TAKEN_UP.as_secs()
                ),
                None => {}
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn status(
        &mut self,
        desk: &mut impl Desk,
        found: Option<Progress>,
    ) -> anyhow::Result<ExitCode> {
        let Some(progress) = found else {
            match self.options.json {
                true => writeln!(self.out, "{}", serde_json::json!({ "phase": "none" }))?,
                false => writeln!(self.out, "nobody has asked for it")?,
            }
            return Ok(ExitCode::SUCCESS);
        };
        let is_led = desk.is_led().await?;
        let mut line = Line::new(self.options.json, false);
        match progress.is_running() {
            true => line.show(&progress, is_led, self.out)?,
            false => line.end(&progress, self.out)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn cancel(
        &mut self,
        desk: &mut impl Desk,
        found: Option<Progress>,
    ) -> anyhow::Result<ExitCode> {
        let Some(running) = found.filter(Progress::is_running) else {
            bail!("there is nothing to cancel: no copying is under way");
        };
        let request = Request {
            id: running.id,
            rate: running.rate,
            is_cancelled: true,
        };
        desk.ask(&request.format()).await?;
        let asked_at = Instant::now();
        while asked_at.elapsed() < TAKEN_UP {
            let found = known(desk).await?;
            if let Some(ended) = found.filter(|found| !found.is_running()) {
                Line::new(self.options.json, false).end(&ended, self.out)?;
                return Ok(ExitCode::SUCCESS);
            }
            tokio::time::sleep(LOOK).await;
        }
        self.say("asked for; it ends when a replicator leads again")?;
        Ok(ExitCode::SUCCESS)
    }

    /// For people; programs get objects only.
    fn say(&mut self, text: &str) -> std::io::Result<()> {
        match self.options.json {
            true => Ok(()),
            false => writeln!(self.out, "{text}"),
        }
    }

    fn say_how_to_look(&mut self) -> std::io::Result<()> {
        let namespace = match &self.options.namespace {
            Some(name) => format!(" --namespace {name}"),
            None => String::new(),
        };
        self.say(&format!(
            "see how far it is with: wal-sidecar replicate --bootstrap{namespace} --status\n\
             give it up with:        wal-sidecar replicate --bootstrap{namespace} --cancel"
        ))
    }
}
