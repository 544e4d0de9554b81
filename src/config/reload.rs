//! Taking up a changed file while the program runs.
//!
//! The file is read again on SIGHUP and when something happens in its
//! directory. The directory is watched, not the file: editors replace files,
//! and a mounted ConfigMap is a chain of symbolic links of which only one, a
//! directory's, is ever exchanged. A file that cannot be used changes
//! nothing and is reported.

use super::{Config, Environment, Journal, Log, Namespace, OnJournalUnavailable};
use notify::Watcher as _;
use notify::event::{AccessKind, AccessMode, EventKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

/// One change of a file is several events; reading waits until there have
/// been none for so long.
const QUIET: Duration = Duration::from_millis(100);
/// But no longer than this, in case there is always something going on.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(2);

/// What a changed configuration comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct ReloadPlan {
    /// The keys that changed and take effect at once, as
    /// `namespace.sessions.durability`.
    pub applied: Vec<String>,
    /// The keys that changed and need a restart to take effect.
    pub needs_restart: Vec<String>,
    /// What is in effect from now on: the new values of the applied keys,
    /// the old ones of all others.
    pub effective: Config,
}

/// A key of `T`: whether it can change while the program runs.
struct Key<T> {
    name: &'static str,
    live: bool,
    same: fn(&T, &T) -> bool,
    take: fn(&mut T, &T),
}

/// Lists keys as `key: live` or `key: restart`.
macro_rules! keys {
    ($type:ty { $($($field:ident).+ as $name:literal: $when:ident,)* }) => {
        &[$(Key {
            name: $name,
            live: keys!(@ $when),
            same: |a: &$type, b: &$type| a.$($field).+ == b.$($field).+,
            take: |to: &mut $type, from: &$type| to.$($field).+ = from.$($field).+.clone(),
        }),*]
    };
    (@ live) => { true };
    (@ restart) => { false };
}

const ROOT: &[Key<Config>] = keys!(Config {
    region as "region": restart,
    roles as "roles": restart,
    workers as "workers": restart,
    drain_timeout as "drain_timeout": restart,
    replication.batch_records as "replication.batch_records": restart,
    replication.clock_skew_max as "replication.clock_skew_max": restart,
    replication.key_versions_max as "replication.key_versions_max": restart,
    replication.progress_interval as "replication.progress_interval": restart,
    replication.retry_backoff_max as "replication.retry_backoff_max": restart,
    replication.conflict_values as "replication.conflict_values": restart,
    replication.sources as "replication.source": restart,
    admin.listen as "admin.listen": restart,
});

const JOURNAL: &[Key<Journal>] = keys!(Journal {
    backend as "journal.backend": restart,
    directory as "journal.directory": restart,
    segment_bytes as "journal.segment_bytes": restart,
    retention_bytes as "journal.retention_bytes": live,
    retention_age as "journal.retention_age": live,
    hard_cap_bytes as "journal.hard_cap_bytes": live,
    heartbeat_interval as "journal.heartbeat_interval": restart,
    serve as "journal.serve": restart,
    brokers as "journal.brokers": restart,
    kafka.topic as "journal.kafka.topic": restart,
    kafka.create_topics as "journal.kafka.create_topics": restart,
    kafka.partitions as "journal.kafka.partitions": restart,
    kafka.replication_factor as "journal.kafka.replication_factor": restart,
    kafka.timeout as "journal.kafka.timeout": restart,
    kafka.spool_after as "journal.kafka.spool_after": restart,
    kafka.properties as "journal.kafka.properties": restart,
});

const LOG: &[Key<Log>] = keys!(Log {
    format as "log.format": restart,
    level as "log.level": live,
});

const NAMESPACE: &[Key<Namespace>] = keys!(Namespace {
    protocol as "protocol": restart,
    listen as "listen": restart,
    upstream as "upstream": restart,
    upstream_tls.certificate_authority as "upstream_certificate_authority": restart,
    upstream_tls.server_name as "upstream_server_name": restart,
    upstream_tls.identity as "upstream_certificate": restart,
    replicas as "replica": restart,
    placement as "placement": restart,
    eject_after as "eject_after": restart,
    connection as "connection": restart,
    durability as "durability": live,
    on_journal_unavailable as "on_journal_unavailable": live,
    request_timeout as "request_timeout": live,
    connect_timeout as "connect_timeout": restart,
    client_limit as "client_limit": live,
    in_flight_bytes_max as "in_flight_bytes_max": live,
    in_flight_batches_max as "in_flight_batches_max": live,
    value_bytes_max as "value_bytes_max": live,
    client_output_bytes_max as "client_output_bytes_max": live,
    replicate as "replicate": live,
    replicate_ttl_min as "replicate_ttl_min": live,
    prefixes as "prefix": live,
});

impl Config {
    /// What changing from this configuration to `new` comes to.
    pub fn reload_plan(&self, new: &Config) -> ReloadPlan {
        let mut effective = self.clone();
        effective.warnings = new.warnings.clone();
        let mut plan = ReloadPlan {
            applied: Vec::new(),
            needs_restart: Vec::new(),
            effective: self.clone(),
        };
        plan.compare(ROOT, "", &mut effective, new);
        plan.compare(JOURNAL, "", &mut effective.journal, &new.journal);
        plan.compare(LOG, "", &mut effective.log, &new.log);
        for namespace in &mut effective.namespaces {
            let name = namespace.name.clone();
            match new.namespaces.iter().find(|other| other.name == name) {
                Some(other) => {
                    let path = format!("namespace.{name}.");
                    let mut other = other.clone();
                    // A spool is made at the start, or not at all.
                    let spool = OnJournalUnavailable::Spool;
                    let (old, new) = (
                        namespace.on_journal_unavailable,
                        other.on_journal_unavailable,
                    );
                    if old != new && (old == spool || new == spool) {
                        other.on_journal_unavailable = old;
                        plan.needs_restart
                            .push(format!("{path}on_journal_unavailable"));
                    }
                    plan.compare(NAMESPACE, &path, namespace, &other);
                }
                None => plan.needs_restart.push(format!("namespace.{name}")),
            }
        }
        let is_new = |other: &&Namespace| self.namespaces.iter().all(|old| old.name != other.name);
        for namespace in new.namespaces.iter().filter(is_new) {
            plan.needs_restart
                .push(format!("namespace.{}", namespace.name));
        }
        plan.effective = effective;
        plan
    }
}

impl ReloadPlan {
    fn compare<T>(&mut self, keys: &[Key<T>], path: &str, old: &mut T, new: &T) {
        for key in keys {
            if (key.same)(old, new) {
                continue;
            }
            let name = format!("{path}{}", key.name);
            match key.live {
                true => {
                    (key.take)(old, new);
                    self.applied.push(name);
                }
                false => self.needs_restart.push(name),
            }
        }
    }
}

/// Waits for changes of the configuration's file.
pub struct Watcher {
    file: PathBuf,
    environment: Environment,
    effective: Config,
    /// The text that was read last, so that events which change nothing
    /// (another file of the directory, say) are not reported.
    text: Option<String>,
    events: Arc<Notify>,
    hangup: Signal,
    /// Dropping it ends the watch. `None` where the system has no more
    /// watches to give: SIGHUP still works.
    _directory: Option<notify::RecommendedWatcher>,
}

impl Watcher {
    /// Starts watching `file`, whose configuration in effect is `effective`.
    /// From here on SIGHUP does not end the process. Must be called within a
    /// tokio runtime with I/O and time; an error means that it has neither,
    /// or that the signal cannot be handled.
    pub fn start(
        file: &Path,
        environment: Environment,
        effective: Config,
    ) -> std::io::Result<Watcher> {
        let events = Arc::new(Notify::new());
        let directory = match watch_directory(file, events.clone()) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(
                    %error,
                    file = %file.display(),
                    "changes of the configuration are not seen; send SIGHUP after a change"
                );
                None
            }
        };
        Ok(Watcher {
            file: file.to_owned(),
            environment,
            effective,
            text: std::fs::read_to_string(file).ok(),
            events,
            hangup: signal(SignalKind::hangup())?,
            _directory: directory,
        })
    }

    /// Waits for a change that can be used, and makes it the one in effect.
    /// What changed and what is wrong is logged. Cancel-safe: a change is
    /// either returned or will be seen by the next call.
    pub async fn next(&mut self) -> ReloadPlan {
        loop {
            // Two events: a signal, or something in the directory.
            let asked = tokio::select! {
                Some(()) = self.hangup.recv() => true,
                () = self.events.notified() => {
                    self.settle().await;
                    false
                }
            };
            let text = self.read().await;
            if let Some(plan) = self.reload(text, asked) {
                return plan;
            }
        }
    }

    /// Publishes every change for as long as somebody listens.
    pub async fn publish(mut self, sender: watch::Sender<Arc<Config>>) {
        while !sender.is_closed() {
            let plan = tokio::select! {
                plan = self.next() => plan,
                () = sender.closed() => return,
            };
            sender.send_replace(Arc::new(plan.effective));
        }
    }

    async fn settle(&self) {
        let start = Instant::now();
        // A call that is cancelled here must not lose the event.
        let guard = Restore(Some(&self.events));
        while start.elapsed() < QUIET_WAIT_MAX {
            if timeout(QUIET, self.events.notified()).await.is_err() {
                break;
            }
        }
        guard.disarm();
    }

    /// Reads the file. One that is written in place is empty or cut off for a
    /// moment: what is wrong is read again until it stays as it is. The file is
    /// small and read seldom, so reading does not leave the thread.
    async fn read(&self) -> std::io::Result<String> {
        let guard = Restore(Some(&self.events));
        let start = Instant::now();
        let mut text = std::fs::read_to_string(&self.file);
        while let Ok(read) = &text
            && Config::parse(read, &self.file, &self.environment).is_err()
            && start.elapsed() < QUIET_WAIT_MAX
        {
            sleep(QUIET).await;
            let again = std::fs::read_to_string(&self.file);
            if again.as_ref().is_ok_and(|again| again == read) {
                break;
            }
            text = again;
        }
        guard.disarm();
        text
    }

    /// What the file's text comes to. `None` where nothing changes.
    fn reload(&mut self, text: std::io::Result<String>, asked: bool) -> Option<ReloadPlan> {
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                // Reported once, as a file that stays away causes no events.
                tracing::error!(
                    %error,
                    file = %self.file.display(),
                    "cannot read the configuration, the old one stays in effect"
                );
                self.text = None;
                return None;
            }
        };
        if !asked && self.text.as_ref() == Some(&text) {
            return None;
        }
        let new = Config::parse(&text, &self.file, &self.environment);
        self.text = Some(text);
        let new = match new {
            Ok(new) => new,
            Err(error) => {
                for line in error.to_string().lines() {
                    tracing::error!(
                        problem = line,
                        "the new configuration is wrong, the old one stays in effect"
                    );
                }
                return None;
            }
        };
        for line in new.warning_lines(&self.file) {
            tracing::warn!(problem = line, "doubtful configuration");
        }
        let plan = self.effective.reload_plan(&new);
        tracing::info!(applied = ?plan.applied, "configuration reloaded");
        if !plan.needs_restart.is_empty() {
            tracing::warn!(
                keys = ?plan.needs_restart,
                "these keys changed and take effect at the next start"
            );
        }
        self.effective = plan.effective.clone();
        Some(plan)
    }
}

/// Puts an event back where its handling was cancelled.
struct Restore<'a>(Option<&'a Notify>);

impl Restore<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        if let Some(events) = self.0 {
            events.notify_one();
        }
    }
}

fn watch_directory(file: &Path, events: Arc<Notify>) -> notify::Result<notify::RecommendedWatcher> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error means that events may have been lost: look.
        if event.map_or(true, |event| is_change(&event.kind)) {
            events.notify_one();
        }
    })?;
    watcher.watch(directory, notify::RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Reading the file is an event too; acting on it would never end.
fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
