//! A sidecar that journals to a cluster of three while that suffers: what was
//! acknowledged is in the topic, what was refused is not, and each key's writes
//! are there in the order Redis has them.
//!
//! `OUTAGE_SECONDS` says how long all brokers are away (6).

mod support;

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wal_sidecar::mutation::v1::outcome::Result as Told;
use wal_sidecar::mutation::v1::record::Body;

use support::process::Signal;
use support::resp::encode;
use support::topic::{self, Entry};
use support::{Client, Cluster, Random, Redis, Sidecar, SidecarOptions, until};

const TOPIC: &str = "wal-sidecar.test.test";
const CLIENTS: usize = 4;
const LISTS: usize = 10;
/// A client has so many writes under way.
const PIPELINE: usize = 4;
/// `journal.kafka.timeout`.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How much later than that a client may hear of it: librdkafka looks once a
/// second, and the machine is busy.
const SLACK: Duration = Duration::from_secs(4);
const DEADLINE: Duration = Duration::from_secs(90);

/// What the clients were told.
#[derive(Default)]
struct Answers {
    acknowledged: Vec<String>,
    refused: Vec<String>,
    uncertain: usize,
    slowest: Duration,
}

struct Load {
    answers: Arc<Mutex<Answers>>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(port: u16, random: &mut Random) -> Load {
        let answers = Arc::new(Mutex::new(Answers::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|_| {
            let (answers, stop) = (Arc::clone(&answers), Arc::clone(&stop));
            let mut random = Random::new(random.next());
            // Different in every load of a test.
            let name = format!("id:{:x}", random.next());
            std::thread::spawn(move || {
                let mut client = Client::connect(port);
                let mut count = 0;
                // Ends when the sidecar does, too.
                while !stop.load(Ordering::Relaxed)
                    && write_some(&mut client, &name, &mut count, &mut random, &answers).is_ok()
                {
                    std::thread::park_timeout(Duration::from_millis(1));
                }
            })
        });
        Load {
            clients: clients.collect(),
            answers,
            stop,
        }
    }

    /// Waits for so many more acknowledgements.
    fn run_for(&self, more: usize) {
        let target = self.acknowledged() + more;
        until("acknowledgements", DEADLINE, || {
            (target <= self.acknowledged()).then_some(())
        });
    }

    fn acknowledged(&self) -> usize {
        self.answers.lock().unwrap().acknowledged.len()
    }

    fn end(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("clients hear nothing that is wrong");
        }
        std::mem::take(&mut self.answers.lock().unwrap())
    }
}

fn write_some(
    client: &mut Client,
    name: &str,
    count: &mut usize,
    random: &mut Random,
    answers: &Mutex<Answers>,
) -> std::io::Result<()> {
    let ids: Vec<String> = (0..PIPELINE)
        .map(|index| format!("{name}:{}", *count + index))
        .collect();
    *count += PIPELINE;
    let commands = ids.iter().map(|id| match random.below(3) {
        0 => encode(&["SET", &format!("key:{id}"), id]),
        _ => encode(&["RPUSH", &format!("list:{}", random.below(LISTS)), id]),
    });
    let bytes = commands.collect::<Vec<_>>().concat();
    let sent = Instant::now();
    client.stream().write_all(&bytes)?;
    for id in ids {
        let reply = client.try_reply()?;
        let text = String::from_utf8_lossy(&reply).into_owned();
        let mut answers = answers.lock().unwrap();
        answers.slowest = answers.slowest.max(sent.elapsed());
        match text.as_str() {
            text if text.starts_with("-NOTJOURNALED") => answers.refused.push(id),
            text if text.starts_with("-UNCERTAIN") => answers.uncertain += 1,
            text => {
                assert!(!text.starts_with('-'), "{text}");
                answers.acknowledged.push(id);
            }
        }
    }
    Ok(())
}

/// One at a time: three brokers are enough for a machine.
static ALONE: Mutex<()> = Mutex::new(());

/// Everything one scenario needs.
struct Setting {
    cluster: Cluster,
    redis: Redis,
    sidecar: Sidecar,
    /// The last to go.
    _alone: std::sync::MutexGuard<'static, ()>,
}

impl Setting {
    fn new(unavailable: &str) -> Setting {
        let alone = ALONE.lock();
        let alone = alone.unwrap_or_else(std::sync::PoisonError::into_inner);
        let cluster = Cluster::start(3);
        let redis = Redis::start();
        let options = SidecarOptions::new(&redis)
            .backend("kafka")
            .journal(&format!("brokers = {:?}", cluster.bootstrap()))
            .journal(&format!(
                "[journal.kafka]\npartitions = 6\ntimeout = \"{}s\"\nspool_after = \"500ms\"",
                TIMEOUT.as_secs()
            ))
            .namespace(&format!("on_journal_unavailable = \"{unavailable}\""))
            .namespace("request_timeout = \"20s\"");
        let sidecar = Sidecar::with(options);
        Setting {
            _alone: alone,
            cluster,
            redis,
            sidecar,
        }
    }

    fn restart_all(&mut self) {
        self.cluster.restart_all();
    }

    /// Waits until the spool, if there is one, is shipped, and the last
    /// heartbeat has said what is missing; then compares everything.
    fn check(&self, answers: &Answers) {
        until("the spool to drain", DEADLINE, || {
            (self.sidecar.metric("wal_sidecar_spool_records", "") == 0.0).then_some(())
        });
        let partitions = until("heartbeats", DEADLINE, || {
            let partitions = topic::read(&self.cluster.bootstrap(), TOPIC);
            is_told(&partitions).then_some(partitions)
        });
        let copies = topic::check(&partitions);
        let journaled = ids(&partitions);
        for id in &answers.acknowledged {
            assert!(journaled.contains(id.as_str()), "{id} was acknowledged");
        }
        for id in &answers.refused {
            assert!(!journaled.contains(id.as_str()), "{id} was refused");
        }
        self.check_order(&partitions);
        let verified = self.sidecar.command(&["journal", "verify"]);
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(verified.status.success(), "{said}");
        print!("{said}");
        println!(
            "{} acknowledged, {} refused, {} uncertain, slowest {:?}, {copies} copies",
            answers.acknowledged.len(),
            answers.refused.len(),
            answers.uncertain,
            answers.slowest,
        );
    }

    /// Redis's lists have the topic's order, and nothing that is not there.
    fn check_order(&self, partitions: &[Vec<Entry>]) {
        let mut places: HashMap<String, usize> = HashMap::new();
        for partition in topic::deduplicated(partitions) {
            for (place, entry) in partition.iter().enumerate() {
                if let Some(id) = id(entry) {
                    places.insert(id, place);
                }
            }
        }
        let mut client = self.redis.client();
        for list in 0..LISTS {
            let reply = client.command(&["LRANGE", &format!("list:{list}"), "0", "-1"]);
            let text = String::from_utf8(reply).expect("ids are text");
            let ids = text.split("\r\n").filter(|line| line.starts_with("id:"));
            let mut last = None;
            for id in ids {
                let place = places.get(id);
                let place = place.unwrap_or_else(|| panic!("Redis holds {id}, the topic does not"));
                assert!(last < Some(*place), "list {list}: {id} is out of order");
                last = Some(*place);
            }
        }
    }
}

/// Whether the writer that still writes has declared what is not acknowledged:
/// some record of it says that all its mutations are settled.
fn is_told(partitions: &[Vec<Entry>]) -> bool {
    let all = || partitions.iter().flatten().map(|entry| &entry.record);
    let Some(newest) = all().max_by_key(|record| record.hlc) else {
        return false;
    };
    let records = || all().filter(|record| record.writer == newest.writer);
    let mutations = records().filter(|one| matches!(one.body, Some(Body::Mutation(_))));
    let last = mutations.map(|one| one.sequence).max().unwrap_or(0);
    records().any(|one| last <= one.settled_through)
}

fn id(entry: &Entry) -> Option<String> {
    let Some(Body::Mutation(mutation)) = &entry.record.body else {
        return None;
    };
    let arguments = &mutation.commands.first()?.arguments;
    String::from_utf8(arguments.get(2)?.to_vec()).ok()
}

/// What the topic has and no outcome takes back.
fn ids(partitions: &[Vec<Entry>]) -> HashSet<String> {
    partitions.iter().flatten().filter_map(id).collect()
}

fn rejected(partitions: &[Vec<Entry>]) -> usize {
    let is_rejected = |entry: &&Entry| match &entry.record.body {
        Some(Body::Outcome(outcome)) => matches!(outcome.result, Some(Told::Rejected(_))),
        _ => false,
    };
    partitions.iter().flatten().filter(is_rejected).count()
}

#[test]
fn a_leader_is_killed_and_brokers_are_restarted_one_by_one() {
    let mut random = Random::from_environment();
    let mut setting = Setting::new("reject");
    let load = Load::start(setting.sidecar.port(), &mut random);
    load.run_for(500);
    let leader = setting.cluster.leader_of(TOPIC, 0);
    setting.cluster.kill(leader);
    load.run_for(2_000);
    setting.cluster.restart(leader);
    load.run_for(500);
    for node in 0..3 {
        setting.cluster.stop(node);
        load.run_for(500);
        setting.cluster.restart(node);
        load.run_for(500);
    }
    // Each leads what it led at first.
    setting.cluster.elect_preferred_leaders();
    load.run_for(1_000);
    let answers = load.end();
    assert!(answers.slowest < TIMEOUT + SLACK, "{:?}", answers.slowest);
    setting.check(&answers);
}

#[test]
fn all_brokers_are_away_and_writes_are_refused_quickly() {
    let mut random = Random::from_environment();
    let mut setting = Setting::new("reject");
    let load = Load::start(setting.sidecar.port(), &mut random);
    load.run_for(500);
    for node in 0..3 {
        setting.cluster.kill(node);
    }
    std::thread::park_timeout(outage());
    // Reads go on meanwhile.
    let mut reader = setting.sidecar.client();
    let started = Instant::now();
    assert_eq!(reader.command(&["GET", "nothing"]), b"$-1\r\n");
    assert!(started.elapsed() < Duration::from_secs(1));
    setting.restart_all();
    load.run_for(1_000);
    let answers = load.end();
    assert!(!answers.refused.is_empty(), "somebody noticed");
    assert!(answers.slowest < TIMEOUT + SLACK, "{:?}", answers.slowest);
    setting.check(&answers);
    let partitions = topic::read(&setting.cluster.bootstrap(), TOPIC);
    println!("{} taken back", rejected(&partitions));
}

#[test]
fn all_brokers_are_away_and_with_a_spool_nobody_notices() {
    let mut random = Random::from_environment();
    let mut setting = Setting::new("spool");
    let load = Load::start(setting.sidecar.port(), &mut random);
    load.run_for(500);
    for node in 0..3 {
        setting.cluster.kill(node);
    }
    load.run_for(2_000);
    std::thread::park_timeout(outage());
    assert!(0.0 < setting.sidecar.metric("wal_sidecar_spool_records", ""));
    assert!(
        1.0 < setting
            .sidecar
            .metric("wal_sidecar_spool_oldest_age_seconds", "")
    );
    // What was spooled survives the sidecar, too.
    let answers = load.end();
    setting.sidecar.kill();
    setting.sidecar.restart();
    let load = Load::start(setting.sidecar.port(), &mut random);
    load.run_for(500);
    setting.restart_all();
    until("the spool to drain", DEADLINE, || {
        (setting.sidecar.metric("wal_sidecar_spool_active", "") == 0.0).then_some(())
    });
    load.run_for(500);
    let later = load.end();
    for answers in [&answers, &later] {
        assert_eq!((answers.refused.len(), answers.uncertain), (0, 0));
        assert!(answers.slowest < SLACK, "{:?}", answers.slowest);
        setting.check(answers);
    }
}

#[test]
fn a_broker_hangs_and_another_has_no_room_on_its_disk() {
    let mut random = Random::from_environment();
    let setting = Setting::new("spool");
    let load = Load::start(setting.sidecar.port(), &mut random);
    load.run_for(500);
    let leader = setting.cluster.leader_of(TOPIC, 0);
    setting.cluster.signal(leader, Signal::Stop);
    load.run_for(2_000);
    setting.cluster.signal(leader, Signal::Continue);
    load.run_for(1_000);
    let full = setting.cluster.leader_of(TOPIC, 1);
    setting.cluster.limit_file_size(full, 1 << 16);
    load.run_for(4_000);
    let answers = load.end();
    assert_eq!((answers.refused.len(), answers.uncertain), (0, 0));
    assert!(answers.slowest < SLACK, "{:?}", answers.slowest);
    setting.check(&answers);
}

#[test]
fn a_topic_is_deleted_and_made_again() {
    let mut random = Random::from_environment();
    let setting = Setting::new("reject");
    let load = Load::start(setting.sidecar.port(), &mut random);
    load.run_for(500);
    setting.cluster.delete_topic(TOPIC);
    until("somebody to notice", DEADLINE, || {
        let answers = load.answers.lock().unwrap();
        (!answers.refused.is_empty() || 0 < answers.uncertain).then_some(())
    });
    until("the topic to be back", DEADLINE, || {
        let accepting = setting.sidecar.metric("wal_sidecar_journal_accepting", "");
        (accepting == 1.0).then_some(())
    });
    let before = load.acknowledged();
    load.run_for(1_000);
    let mut answers = load.end();
    let after = answers.acknowledged.split_off(before);
    assert!(
        answers.slowest < TIMEOUT + 2 * SLACK,
        "{:?}",
        answers.slowest
    );
    let partitions = topic::read(&setting.cluster.bootstrap(), TOPIC);
    let journaled = ids(&partitions);
    for id in &after {
        assert!(journaled.contains(id.as_str()), "{id} was acknowledged");
    }
    println!(
        "{} before, {} after",
        answers.acknowledged.len(),
        after.len()
    );
}

#[test]
fn sidecars_are_killed_again_and_again() {
    const ROUNDS: usize = 6;
    let mut random = Random::from_environment();
    let mut setting = Setting::new("spool");
    let mut all = Answers::default();
    for round in 0..ROUNDS {
        let load = Load::start(setting.sidecar.port(), &mut random);
        load.run_for(200 + random.below(500));
        // Killed while it spools, and while it does not.
        let is_away = round % 2 == 1;
        if is_away {
            (0..3).for_each(|node| setting.cluster.kill(node));
            load.run_for(200 + random.below(500));
        }
        setting.sidecar.kill();
        let answers = load.end();
        assert_eq!((answers.refused.len(), answers.uncertain), (0, 0));
        all.acknowledged.extend(answers.acknowledged);
        all.slowest = all.slowest.max(answers.slowest);
        setting.sidecar.restart();
        if is_away {
            setting.restart_all();
        }
    }
    // The last one has to tell that it has settled what it has.
    let load = Load::start(setting.sidecar.port(), &mut random);
    load.run_for(100);
    all.acknowledged.extend(load.end().acknowledged);
    setting.check(&all);
}

#[test]
fn a_topic_that_can_lose_acknowledged_records_is_warned_of() {
    let setting = Setting::new("reject");
    let topic = "wal-sidecar.test.risky";
    let cluster = &setting.cluster;
    cluster.create_topic(topic, 3, 2, &[("min.insync.replicas", "1")]);
    let options = SidecarOptions::new(&setting.redis)
        .backend("kafka")
        .journal(&format!("brokers = {:?}", cluster.bootstrap()))
        .journal(&format!("[journal.kafka]\ntopic = {topic:?}"));
    let sidecar = Sidecar::with(options);
    let lines = sidecar.lines().join("\n");
    for expected in [
        "the topic's min.insync.replicas is 1",
        "key=\"partitions\" configured=\"12\" found=\"3\"",
        "key=\"replication_factor\" configured=\"3\" found=\"2\"",
    ] {
        assert!(lines.contains(expected), "{expected}\n{lines}");
    }
}

/// How long all brokers are away.
fn outage() -> Duration {
    let seconds = std::env::var("OUTAGE_SECONDS");
    Duration::from_secs(seconds.map_or(6, |text| text.parse().expect("a number")))
}
