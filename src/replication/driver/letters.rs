//! What is not applied, and what is tried again.

use bytes::Bytes;
use tokio::time::Instant;

use super::super::engine::{Body, Change, Command, Reason};
use super::super::letters::Decision;
use super::super::target::{Committed, Target, TargetError};
use super::super::version::{Partition, Version};
use super::{Chosen, Driver, HOUSEKEEPING};
use crate::mutation::v1::{self, outcome, record};

/// Why a change that lost a conflict was not applied.
const LOST: &str = "a concurrent change of another region was preferred";

/// What errors begin with that do not depend on what a key holds.
const POISON: [&str; 6] = [
    "NOPERM",
    "ERR syntax",
    "ERR unknown",
    "ERR wrong number",
    "ERR unsupported",
    "ERR Unsupported",
];

/// Whether a command would be refused whatever its keys hold.
fn is_poison(command: &Command, reason: &str) -> bool {
    let name = command.arguments.first().map_or(&[][..], |name| &name[..]);
    name.eq_ignore_ascii_case(b"RESTORE") || POISON.iter().any(|start| reason.starts_with(start))
}

impl<T: Target> Driver<T> {
    /// The datastore refused a command when it executed it. As a rule that is for
    /// what the key holds, which is then not what the other region's does: a
    /// conflict, and the key is told by whoever has changed it last. What no value
    /// would make right is a dead letter. Returns what is to be kept of a conflict.
    pub(super) async fn refused(
        &mut self,
        one: &Chosen,
        command: &Command,
        reason: &str,
    ) -> Option<v1::Letter> {
        if is_poison(command, reason) {
            // It is executed already, with what was sent along: there is no way back.
            let _ = self.dead_letter(one, reason).await;
            return None;
        }
        self.inlets[one.inlet].2.conflicts.increment(1);
        let keys = self
            .engine
            .keys_of_command(command.database, &command.arguments);
        // Where the two changes commute no region else would find that.
        for (database, key) in &keys {
            self.engine.tell_surely(*database, key, Reason::Conflict);
        }
        let keys: Vec<Bytes> = keys.into_iter().map(|(_, key)| key).collect();
        self.conflict(one, &keys)
    }

    /// Takes a change out that can't be applied, once it is kept elsewhere.
    pub(super) async fn bury_change(
        &mut self,
        one: &Chosen,
        reason: &str,
    ) -> Result<(), TargetError> {
        self.dead_letter(one, reason).await?;
        if let Some(pending) = self.inlets[one.inlet].1.queue.get_mut(one.at) {
            pending.change = None;
        }
        Ok(())
    }

    async fn dead_letter(&mut self, one: &Chosen, reason: &str) -> Result<(), TargetError> {
        let (feed, inlet, _) = &self.inlets[one.inlet];
        self.metrics.dead_letters.increment(1);
        tracing::error!(
            namespace = self.options.namespace,
            source = feed.name,
            partition = feed.partition,
            offset = inlet.queue[one.at].offset,
            reason,
            "a change can't be applied; it is a dead letter"
        );
        let letter = self.letter(one, reason, Vec::new());
        let Some(letters) = &mut self.letters else {
            return Ok(());
        };
        let kept = letters.add(&[letter]).await;
        kept.map_err(|error| TargetError::Busy(format!("dead letters can't be kept: {error}")))
    }

    /// What is to be kept of a change that lost a conflict, if it is anywhere.
    pub(super) fn conflict(&self, one: &Chosen, lost: &[Bytes]) -> Option<v1::Letter> {
        if lost.is_empty() || self.conflicts.is_none() {
            return None;
        }
        let mut letter = self.letter(one, LOST, lost.to_vec());
        if !self.options.conflict_values {
            letter.record = None;
        }
        Some(letter)
    }

    /// Keeps what lost a conflict, all of a transaction at once.
    pub(super) async fn keep_conflicts(&mut self, letters: &[v1::Letter]) {
        if let Some(conflicts) = &mut self.conflicts
            && !letters.is_empty()
            && let Err(error) = conflicts.add_soon(letters).await
        {
            tracing::warn!(error, "conflicts could not be kept");
        }
    }

    fn letter(&self, one: &Chosen, reason: &str, keys: Vec<Bytes>) -> v1::Letter {
        let (feed, inlet, _) = &self.inlets[one.inlet];
        let pending = &inlet.queue[one.at];
        let version = pending.change.as_ref().map(|change| change.version);
        let version = version.unwrap_or_default();
        let keys = match (keys.is_empty(), &pending.change) {
            (true, Some(change)) => {
                let mut all = Vec::new();
                self.engine.each_key(change, |_, key| all.push(key));
                all
            }
            _ => keys,
        };
        v1::Letter {
            record: Some(pending.record.clone()),
            source: feed.name.clone(),
            partition: feed.partition,
            offset: pending.offset,
            reason: reason.to_owned(),
            at: self.now_ms(),
            hlc: version.hlc,
            writer: version.writer,
            keys,
        }
    }

    /// How many wait for somebody, while another replicator leads.
    pub(super) fn count_letters(&mut self) {
        let now = Instant::now();
        if self.timers.housekeeping <= now
            && let Some(letters) = &self.letters
        {
            self.timers.housekeeping = now + HOUSEKEEPING;
            if let Ok((open, _)) = letters.pending() {
                self.metrics.pending_letters.set(open as f64);
            }
        }
    }

    /// Tries again what somebody has asked for. What is done has its keys told:
    /// where it belongs in the order of changes is not known any more.
    pub(super) async fn retry_letters(&mut self) -> Result<(), TargetError> {
        let Some(letters) = &self.letters else {
            return Ok(());
        };
        let (open, retried) = match letters.pending() {
            Ok(pending) => pending,
            Err(error) => {
                tracing::warn!(%error, "the dead letters can't be read");
                return Ok(());
            }
        };
        self.metrics.pending_letters.set(open as f64);
        for (offset, letter) in retried {
            let is_done = self.retry(&letter).await?;
            let decision = match is_done {
                true => Decision::Done,
                // It stays; whoever asked may ask again.
                false => Decision::Failed,
            };
            if let Some(letters) = &self.letters
                && let Err(error) = letters.decide(offset, decision)
            {
                tracing::warn!(%error, "what became of a dead letter was not noted");
            }
        }
        Ok(())
    }

    async fn retry(&mut self, letter: &v1::Letter) -> Result<bool, TargetError> {
        let Some(change) = self.change_of(letter) else {
            return Ok(false);
        };
        let mut keys = Vec::new();
        self.engine.each_key(&change, |database, key| {
            if self.engine.is_taken(&key) {
                keys.push((database, key));
            }
        });
        match self.target.watch(&keys).await {
            Err(TargetError::Refused(reason)) => {
                self.said_no(letter, &reason);
                return Ok(false);
            }
            watched => watched?,
        }
        self.catch_up().await;
        self.engine.begin();
        let mut decision = self.engine.decide(&change);
        let commands = std::mem::take(&mut decision.commands);
        let committed = match decision.waits {
            true => Ok(Committed::Raced),
            false => self.target.commit(&commands, &[]).await,
        };
        match committed {
            Ok(Committed::Done(refused)) if refused.is_empty() => {
                self.engine.done(decision);
                self.engine.commit();
                for (database, key) in keys {
                    let reason = super::Reason::Conflict;
                    self.engine.tell_surely(database, &key, reason);
                }
                tracing::info!(
                    source = letter.source,
                    offset = letter.offset,
                    "a dead letter was applied"
                );
                Ok(true)
            }
            Ok(failed) => {
                self.engine.rollback();
                let reason = match failed {
                    Committed::Refused(_, reason) => reason,
                    Committed::Done(refused) => refused
                        .into_iter()
                        .map(|one| one.1)
                        .next()
                        .unwrap_or_default(),
                    Committed::Raced => "its keys are being changed".to_owned(),
                };
                self.said_no(letter, &reason);
                Ok(false)
            }
            Err(error) => {
                self.engine.rollback();
                Err(error)
            }
        }
    }

    fn said_no(&self, letter: &v1::Letter, reason: &str) {
        tracing::warn!(
            namespace = self.options.namespace,
            source = letter.source,
            offset = letter.offset,
            reason,
            "a dead letter was tried again, without success"
        );
    }

    fn change_of(&self, letter: &v1::Letter) -> Option<Change> {
        let record = letter.record.as_ref()?;
        let body = match record.body.as_ref()? {
            record::Body::Mutation(mutation) => Body::Commands(mutation.commands.clone()),
            record::Body::Snapshot(snapshot) => Body::Snapshot(snapshot.clone()),
            record::Body::Outcome(one) => match one.result.as_ref()? {
                outcome::Result::Effects(effects) => Body::Commands(effects.commands.clone()),
                _ => return None,
            },
            record::Body::Heartbeat(_) => return None,
        };
        let partition = Partition {
            region: self.region(&record.region),
            number: letter.partition,
        };
        Some(Change {
            place: partition.at(letter.offset),
            version: Version {
                hlc: letter.hlc,
                writer: letter.writer,
                ..Version::default()
            },
            database: record.database,
            body,
        })
    }
}
