//! Makes the records of one worker.

use super::clock::HybridClock;
use super::codec::{Header, OutcomeOf, Template};
use super::settled::Settled;
use super::{Outcome, RecordBatch, v1};

/// One writer: one incarnation of one worker. Not shared between threads.
///
/// # Invariants
/// Sequences are dense from 1 and shared by all kinds of record;
/// `settled_through <= acknowledged <= last_sequence`; the clock never goes
/// backwards, and no other of them does but by [`Writer::rewind`].
#[derive(Debug)]
pub struct Writer {
    id: u64,
    template: Template,
    clock: HybridClock,
    settled: Settled,
    /// Up to here the journal has said of every record what became of it.
    acknowledged: u64,
    /// The newest mutation.
    last_mutation: u64,
    /// What the newest record said is settled.
    announced: u64,
    /// The connection that mutations go down, and whether they wait there.
    way: Way,
    /// Mutations that wait in the datastore, ascending.
    waiting: Vec<u64>,
}

/// How a mutation gets to the datastore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Way {
    /// The number of the connection, of the writer's; 0 is the one that most use.
    pub link: u32,
    /// Whether it may wait there until there is something for it to do.
    pub waits: bool,
}

/// What all records of a writer have in common.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// The region the writer runs in.
    pub region: String,
    /// The unit of configuration its records belong to.
    pub namespace: String,
    /// The kind of datastore its commands are for.
    pub store: v1::Store,
    /// Its identity, drawn at random at start.
    pub writer: u64,
}

/// A change about to be forwarded.
#[derive(Debug, Clone, Copy)]
pub struct MutationParts<'a> {
    /// The arguments of each command, in final or intent form; more than one
    /// for a transaction.
    pub commands: &'a [&'a [&'a [u8]]],
    /// The keys the commands touch, in order, without repetition. The first
    /// chooses the partition.
    pub keys: &'a [&'a [u8]],
    /// Whether applying `commands` has the effect, unless the datastore rejects them.
    pub is_final: bool,
}

impl Writer {
    /// A writer that has written nothing.
    pub fn new(options: WriterOptions) -> Writer {
        let WriterOptions {
            region,
            namespace,
            store,
            writer,
        } = options;
        Writer {
            id: writer,
            template: Template::new(&region, writer, &namespace, store),
            clock: HybridClock::default(),
            settled: Settled::new(),
            acknowledged: 0,
            last_mutation: 0,
            announced: 0,
            way: Way::default(),
            waiting: Vec::new(),
        }
    }

    /// The writer's identity.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The newest sequence given to a record; 0 before the first.
    pub fn last_sequence(&self) -> u64 {
        self.settled.last()
    }

    /// The greatest sequence up to and including which every record was
    /// acknowledged and every mutation is settled.
    pub fn settled_through(&mut self) -> u64 {
        self.settled.through().min(self.acknowledged)
    }

    /// Notes that up to `through` every record is in the journal, or those that
    /// may not be have been declared in it. Without effect if it was further.
    pub fn acknowledge(&mut self, through: u64) {
        debug_assert!(through <= self.settled.last());
        self.acknowledged = self.acknowledged.max(through);
    }

    /// Takes the sequences after `last` back: none of their records is in the
    /// journal, nor on its way there.
    pub fn rewind(&mut self, last: u64) {
        self.settled.rewind(last);
        self.acknowledged = self.acknowledged.min(last);
        self.last_mutation = self.last_mutation.min(last);
        self.waiting.retain(|waiting| *waiting <= last);
    }

    /// Notes that the datastore's reply to a mutation was seen, in any order.
    ///
    /// A mutation whose outcome is written needs no call: [`Writer::outcome`]
    /// settles it, so that no record covers it with its `settled_through`
    /// before its outcome is told.
    pub fn settle(&mut self, sequence: u64) {
        self.end(sequence);
    }

    /// Settles; returns whether it waited.
    fn end(&mut self, sequence: u64) -> bool {
        self.settled.settle(sequence);
        let waiting = self.waiting.binary_search(&sequence);
        waiting.is_ok_and(|at| {
            self.waiting.remove(at);
            true
        })
    }

    /// Encodes a mutation record at the end of `out` and returns its sequence,
    /// which is unsettled. `now_ms` is milliseconds since the Unix epoch.
    pub fn mutation(
        &mut self,
        out: &mut RecordBatch,
        now_ms: u64,
        database: u32,
        mutation: &MutationParts<'_>,
    ) -> u64 {
        let way = Way {
            waits: self.way.waits && !mutation.is_final,
            ..self.way
        };
        let sequence = match way.waits {
            true => {
                let sequence = self.settled.take_settled();
                self.waiting.push(sequence);
                sequence
            }
            false => self.settled.take(),
        };
        self.last_mutation = sequence;
        let header = self.header(sequence, now_ms, database);
        self.template.mutation(out, header, mutation, way);
        sequence
    }

    /// How the mutations that come next get to the datastore.
    pub fn via(&mut self, way: Way) {
        self.way = way;
    }

    /// Encodes the outcome of the mutation `of_sequence`, settles that, and
    /// returns the record's own sequence. `key` is the mutation's first key,
    /// empty where it has none; the record carries it to get into the
    /// mutation's partition.
    pub fn outcome(
        &mut self,
        out: &mut RecordBatch,
        now_ms: u64,
        database: u32,
        of_sequence: u64,
        key: &[u8],
        outcome: &Outcome,
    ) -> u64 {
        let waited = self.end(of_sequence);
        let sequence = self.settled.take_settled();
        let header = self.header(sequence, now_ms, database);
        let of = OutcomeOf {
            sequence: of_sequence,
            key,
            waited,
        };
        self.template.outcome(out, header, of, outcome);
        sequence
    }

    /// Encodes the whole value of a key and returns the record's sequence.
    pub fn snapshot(
        &mut self,
        out: &mut RecordBatch,
        now_ms: u64,
        database: u32,
        snapshot: &v1::Snapshot,
    ) -> u64 {
        let sequence = self.settled.take_settled();
        let header = self.header(sequence, now_ms, database);
        self.template.snapshot(out, header, snapshot);
        sequence
    }

    /// Encodes a heartbeat that says how far other regions' changes have been
    /// applied and whether the own region's data is being copied to them;
    /// returns its sequence.
    pub fn progress(
        &mut self,
        out: &mut RecordBatch,
        now_ms: u64,
        applied: Vec<v1::Applied>,
        copying: bool,
    ) -> u64 {
        let sequence = self.settled.take_settled();
        let header = self.header(sequence, now_ms, 0);
        let heartbeat = v1::Heartbeat {
            unacknowledged: Vec::new(),
            applied,
            copying: Some(copying),
        };
        self.template.progress(out, header, &heartbeat);
        sequence
    }

    /// Has the clock go on from another's timestamp: what this writer writes
    /// next is newer.
    pub fn observe(&mut self, hlc: u64) {
        self.clock.observe(hlc);
    }

    /// Encodes a record that says that the writer lives, and which of its
    /// sequences the journal did not acknowledge (from, to); returns its own.
    pub fn heartbeat(
        &mut self,
        out: &mut RecordBatch,
        now_ms: u64,
        unacknowledged: &[(u64, u64)],
    ) -> u64 {
        let sequence = self.settled.take_settled();
        let header = self.header(sequence, now_ms, 0);
        self.template.heartbeat(out, header, unacknowledged);
        sequence
    }

    /// Whether mutations are settled and no record says so.
    pub fn is_unannounced(&mut self) -> bool {
        self.announced < self.last_mutation && self.announced < self.settled_through()
    }

    fn header(&mut self, sequence: u64, now_ms: u64, database: u32) -> Header {
        self.announced = self.settled_through();
        Header {
            writer: self.id,
            hlc: self.clock.tick(now_ms),
            sequence,
            database,
            settled_through: self.announced,
        }
    }
}
