//! Random actions against a list of records. After anything at all: what was
//! acknowledged is there, what was refused is not, what is unknown is there as
//! a prefix or not at all, and no open takes a crash for damage.

use proptest::prelude::*;

use super::*;
use crate::platform::simulated::SeededRandom;

#[derive(Debug, Clone)]
enum Action {
    /// One group of these batches of records of these lengths.
    Append(Vec<Vec<usize>>),
    /// The power goes after so many further changing calls, or at once.
    PowerCut {
        calls: Option<u64>,
        seed: u64,
    },
    /// The process dies, the system goes on.
    Kill,
    Close,
    PrepareSpare,
    Retain,
    FailSync,
    /// The next write stops after so many bytes.
    ShortWrite {
        bytes: usize,
        full: bool,
    },
    /// So many bytes can be reserved; None: any number.
    Space(Option<u64>),
    Read,
}

fn action() -> impl Strategy<Value = Action> {
    let lengths = prop::collection::vec(prop_oneof![9 => 0..300usize, 1 => 0..6000usize], 0..6);
    let group = prop::collection::vec(lengths, 1..4);
    prop_oneof![
        12 => group.prop_map(Action::Append),
        3 => (prop::option::weighted(0.8, 1..12u64), any::<u64>())
            .prop_map(|(calls, seed)| Action::PowerCut { calls, seed }),
        1 => Just(Action::Kill),
        1 => Just(Action::Close),
        2 => Just(Action::PrepareSpare),
        1 => Just(Action::Retain),
        1 => Just(Action::FailSync),
        1 => (0..500usize, any::<bool>())
            .prop_map(|(bytes, full)| Action::ShortWrite { bytes, full }),
        1 => prop::option::of(0..20_000u64).prop_map(Action::Space),
        2 => Just(Action::Read),
    ]
}

struct World {
    disk: SimulatedDisk,
    log: Option<SegmentLog>,
    /// All records that are in the journal, by offset, removed ones included.
    records: Vec<Vec<u8>>,
    /// Records that may come after them.
    unknown: Vec<Vec<u8>>,
    /// The power is about to go; the seed says what is kept.
    power: Option<u64>,
}

impl World {
    fn options() -> LocalOptions {
        LocalOptions {
            retention_bytes: Some(30_000),
            ..options()
        }
    }

    fn new() -> World {
        let mut world = World {
            disk: SimulatedDisk::new(),
            log: None,
            records: Vec::new(),
            unknown: Vec::new(),
            power: None,
        };
        world.reopen();
        world
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Append(batches) => self.append(&batches),
            Action::PowerCut { calls, seed } => {
                self.power = Some(seed);
                self.disk
                    .fault(|faults| faults.power_calls = Some(calls.unwrap_or(0)));
                if calls.is_none() {
                    self.crash();
                }
            }
            Action::Kill => self.reopen(),
            Action::Close => {
                // It fails where the power goes meanwhile, or the disk is full.
                let closed = self.log().close();
                assert!(closed.is_ok() || self.power.is_some() || self.is_limited());
                self.reopen();
            }
            Action::PrepareSpare => {
                let prepared = self.log().stream().prepare_spare();
                assert!(prepared.is_ok() || self.power.is_some() || self.is_limited());
            }
            Action::Retain => {
                let retained = self.log().stream().retain();
                assert!(retained.is_ok() || self.power.is_some());
            }
            Action::FailSync => self.disk.fault(|faults| faults.failing_syncs = 1),
            Action::ShortWrite { bytes, full } => {
                let kind = match full {
                    true => std::io::ErrorKind::StorageFull,
                    false => std::io::ErrorKind::Other,
                };
                self.disk
                    .fault(|faults| faults.next_write = Some((bytes, kind)));
            }
            Action::Space(free) => self.disk.fault(|faults| faults.free_bytes = free),
            Action::Read => {
                let stream = Arc::clone(self.log().stream());
                if let Ok(records) = read_all(&stream) {
                    self.check(&records, stream.catalog().first_offset());
                } else {
                    assert!(self.power.is_some());
                }
            }
        }
    }

    fn log(&mut self) -> &mut SegmentLog {
        self.log.as_mut().expect("open between actions")
    }

    fn is_limited(&self) -> bool {
        let mut limited = false;
        self.disk.fault(|faults| {
            limited = faults.free_bytes.is_some()
                || faults.next_write.is_some()
                || faults.failing_syncs != 0;
        });
        // The fault may have been used up by the call that failed.
        limited || self.disk.syncs() != 0
    }

    fn append(&mut self, batches: &[Vec<usize>]) {
        let mut group = Vec::new();
        let mut outcome = Ok(());
        for lengths in batches {
            let mut records = Vec::new();
            for length in lengths {
                records.push(record((self.records.len() + group.len()) as u64, *length));
                group.push(records[records.len() - 1].clone());
            }
            let expected = (self.records.len() + group.len() - records.len()) as u64;
            match self.log().stage(&batch(&records)) {
                Ok(first) => assert_eq!(first, expected),
                Err(error) => outcome = Err(error),
            }
        }
        match outcome.and_then(|()| self.log().commit()) {
            Ok(()) => self.records.append(&mut group),
            Err(AppendError::NotAppended(_)) => {}
            Err(AppendError::Skipped(_)) => panic!("there is nothing to skip"),
            Err(AppendError::Unknown(_)) => {
                assert!(self.unknown.is_empty(), "a poisoned journal takes nothing");
                self.unknown = group;
            }
        }
    }

    fn crash(&mut self) {
        let seed = self.power.take().unwrap_or(0);
        self.log = None;
        self.disk.power_cut(&SeededRandom::new(seed));
        self.reopen();
    }

    /// Opens again; where the power goes or a fault strikes meanwhile, again.
    fn reopen(&mut self) {
        for _ in 0..4 {
            self.log = None;
            match recovery::open(World::options(), self.disk.platform(7)) {
                Ok(log) => return self.check_opened(log),
                Err(OpenError::Damaged(damage)) => panic!("no damage was done, but: {damage}"),
                Err(OpenError::Locked { .. }) => panic!("nobody has it"),
                Err(OpenError::Kafka { .. }) => panic!("there is no Kafka in it"),
                Err(OpenError::Io { .. }) => {
                    if let Some(seed) = self.power.take() {
                        self.disk.power_cut(&SeededRandom::new(seed));
                    }
                    self.disk.fault(|faults| *faults = Default::default());
                }
            }
        }
        panic!("it does not open without faults");
    }

    fn check_opened(&mut self, log: SegmentLog) {
        let next = log.stream().durable_next() as usize;
        assert!(self.records.len() <= next, "acknowledged records are lost");
        let kept = next - self.records.len();
        assert!(kept <= self.unknown.len(), "refused records are back");
        self.records.extend(self.unknown.drain(..kept));
        self.unknown.clear();
        let records = read_all(log.stream()).expect("what was just opened can be read");
        self.check(&records, log.stream().catalog().first_offset());
        let (walked, damages) = walk_all(&self.disk);
        assert_eq!(damages, []);
        self.check(&walked, walked.first().map_or(next as u64, |first| first.0));
        self.log = Some(log);
    }

    /// `records` are all that there are, from `first` on.
    fn check(&self, records: &[(Offset, Vec<u8>)], first: Offset) {
        let expected = self.records.iter().enumerate().skip(first as usize);
        let expected: Vec<_> = expected.map(|(i, r)| (i as u64, r.clone())).collect();
        assert_eq!(records, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn keeps_what_it_acknowledged(actions in prop::collection::vec(action(), 1..60)) {
        let mut world = World::new();
        for action in actions {
            world.act(action);
        }
        world.crash();
    }
}
