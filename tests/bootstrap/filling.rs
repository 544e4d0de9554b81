//! Redis regions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::regions::{
    DEADLINE, Region, options, regions, start, status, text, until_known, until_led, verify,
};
use super::support::resp::encode;
use super::support::{Client, Random, Redis, Sidecar, SidecarOptions, until};

/// Of each type so many keys, in each of two databases.
const KEYS: usize = 1_700;
const DATABASES: [&str; 2] = ["0", "3"];

/// What counters begin with.
const COUNT: u64 = 1_000_000;
const COUNTERS: usize = 5;

/// Commands sent at once.
const AT_ONCE: usize = 500;

/// Data that is in no journal, of all types, a third of it with a time to live.
fn fill(redis: &Redis) -> usize {
    let mut client = redis.client();
    let mut commands: Vec<Vec<String>> = Vec::new();
    for database in DATABASES {
        commands.push(vec!["SELECT".into(), database.into()]);
        for key in 0..KEYS {
            for line in [
                format!("SET string:{key} value-{key}"),
                format!("HSET hash:{key} base {key} f1 a f2 b"),
                format!("SADD set:{key} base a b {key}"),
                format!("ZADD zset:{key} 1 base 2.5 a {key} b"),
                format!("RPUSH list:{key} base a {key}"),
                format!("XADD stream:{key} 1-{} base {key}", key + 1),
            ] {
                let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
                let name = words[1].clone();
                commands.push(words);
                if key % 3 == 0 {
                    commands.push(vec!["PEXPIRE".into(), name, format!("{}", 1_000_000 + key)]);
                }
            }
        }
        commands.push(vec![
            "XGROUP".into(),
            "CREATE".into(),
            "stream:7".into(),
            "g".into(),
            "0".into(),
        ]);
    }
    commands.push(vec!["SELECT".into(), "0".into()]);
    for key in 0..COUNTERS {
        commands.push(vec![
            "SET".into(),
            format!("count:{key}"),
            COUNT.to_string(),
        ]);
    }
    for part in commands.chunks(AT_ONCE) {
        let bytes: Vec<u8> = part.iter().flat_map(|one| encode(one)).collect();
        client.send(&bytes);
        let replies = text(&client.replies(part.len()));
        assert!(
            !replies.contains("\r\n-") && !replies.starts_with('-'),
            "{replies}"
        );
    }
    DATABASES.len() * KEYS * 6 + COUNTERS
}

/// A command of any kind on some key.
fn command(random: &mut Random) -> String {
    let key = random.below(200);
    let value = random.below(1000);
    match random.below(12) {
        0 => format!("SET string:{key} new-{value}"),
        1 => format!("APPEND string:{key} x{value}"),
        2 => format!("HSET hash:{key} w{} {value}", random.below(5)),
        3 => format!("HDEL hash:{key} f1"),
        4 => format!("SADD set:{key} w{value}"),
        5 => format!("SREM set:{key} a"),
        6 => format!("ZADD zset:{key} {value} w{}", random.below(5)),
        7 => format!("RPUSH list:{key} w{value}"),
        8 => format!("LPOP list:{key}"),
        9 => format!("XADD stream:{key} * w {value}"),
        10 => format!("DEL hash:{}", 150 + random.below(50)),
        _ => format!("SADD fresh:{key} w{value}"),
    }
}

/// Clients that write until they are told to stop; how much they counted.
struct Writing {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<u64>>,
}

impl Writing {
    fn start() -> Writing {
        Writing {
            stop: Arc::default(),
            clients: Vec::new(),
        }
    }

    fn add(&mut self, mut client: Client, mut random: Random) {
        let stop = Arc::clone(&self.stop);
        self.clients.push(std::thread::spawn(move || {
            let mut counted = 0;
            while !stop.load(Ordering::Relaxed) {
                let line = match random.below(8) {
                    0 => format!("INCRBY count:{} 1", random.below(COUNTERS)),
                    _ => command(&mut random),
                };
                let words: Vec<&str> = line.split(' ').collect();
                let reply = client.command(&words);
                // A list that another region emptied, and the like.
                counted += u64::from(words[0] == "INCRBY" && reply[0] == b':');
            }
            counted
        }));
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.clients
            .into_iter()
            .map(|one| one.join().expect("it writes"))
            .sum()
    }
}

/// Equal by the command line; how many keys. If not, what the journals have of
/// keys that differ is shown.
fn assert_equal(from: &Region, with: &Region) -> u64 {
    let url = with.redis.url();
    let found = verify(&from.sidecar, &["--with", &url, "--tolerance", "3"]);
    for (key, said) in found.of("difference").iter().take(3) {
        println!("{key}: {said}");
        for (name, region) in [("from", from), ("with", with)] {
            let tail = region.sidecar.command(&["journal", "tail"]);
            let tail = text(&tail.stdout);
            let word = format!("{key} ");
            for line in tail
                .lines()
                .filter(|line| format!("{line} ").contains(&word))
            {
                println!("{name}: {}", line.chars().take(300).collect::<String>());
            }
        }
    }
    found.assert_equal()
}

fn count(region: &Region) -> u64 {
    let mut client = region.redis.client();
    let number = |key| {
        let reply = text(&client.command(&["GET", &format!("count:{key}")]));
        let digits = reply.lines().nth(1).expect("a bulk string").to_owned();
        digits.parse::<u64>().expect("a number") - COUNT
    };
    (0..COUNTERS).map(number).sum()
}

#[test]
fn an_empty_region_is_filled_while_clients_write_in_both() {
    let redis = [Redis::start(), Redis::start()];
    let keys = fill(&redis[0]);
    let [eu, us] = regions(redis);
    until_led(&eu.sidecar);
    let mut random = Random::from_environment();
    let mut writing = Writing::start();
    for _ in 0..2 {
        writing.add(eu.sidecar.client(), Random::new(random.next()));
    }
    let copying = start(
        &eu.sidecar,
        &["replicate", "--bootstrap", "--json", "--rate", "8000"],
    );
    until_known(&eu.sidecar);
    for _ in 0..2 {
        writing.add(us.sidecar.client(), Random::new(random.next()));
    }
    let copied = copying.wait_with_output().expect("it ends");
    assert!(copied.status.success(), "{}", text(&copied.stderr));
    let counted = writing.stop();
    let out = text(&copied.stdout);
    println!("{out}");
    let last = out.lines().last().expect("it says something");
    let last: serde_json::Value = serde_json::from_str(last).expect("an object");
    assert_eq!(last["phase"], "done");
    assert!(
        keys as u64 * 9 / 10 <= last["told"].as_u64().expect("a number"),
        "{last}"
    );
    let equal = assert_equal(&eu, &us);
    assert!(keys as u64 * 9 / 10 <= equal, "{equal}");
    if count(&eu) != counted {
        for region in [&eu, &us] {
            let told = text(
                &region
                    .sidecar
                    .command(&["journal", "tail", "--json"])
                    .stdout,
            );
            let of_counters = told.lines().filter(|line| line.contains("count:"));
            of_counters.for_each(|line| println!("{line}"));
        }
    }
    assert_eq!((count(&eu), count(&us)), (counted, counted));
    assert!(0 < counted);
    // Nothing is lost of what there was before, in any region.
    for region in [&eu, &us] {
        let mut client = region.redis.client();
        for key in 0..150 {
            for name in ["set", "zset"] {
                let (name, question) = match name {
                    "set" => (format!("set:{key}"), "SISMEMBER"),
                    _ => (format!("zset:{key}"), "ZSCORE"),
                };
                let found = text(&client.command(&[question, &name, "base"]));
                assert!(
                    found == ":1\r\n" || found == "$1\r\n1\r\n",
                    "{name} {found}"
                );
            }
            let found = client.command(&["HEXISTS", &format!("hash:{key}"), "base"]);
            assert_eq!(text(&found), ":1\r\n", "hash:{key}");
        }
    }
    let reason = "reason=\"bootstrap\"";
    let told = eu
        .sidecar
        .metric("wal_sidecar_replication_snapshots_total", reason);
    assert!(keys as f64 * 0.9 <= told, "{told}");
    assert_eq!(
        us.sidecar
            .metric("wal_sidecar_replication_dead_letters", ""),
        0.0
    );
}

/// Changes values so often that the journal does not have the first changes any
/// more: whoever reads it begins in the middle of them.
fn forget_the_beginning(region: &Region) {
    let mut client = region.sidecar.client();
    until("the first records to be removed", DEADLINE, || {
        for key in 0..100 {
            client.command(&["RPUSH", &format!("list:{key}"), "more"]);
            client.command(&["APPEND", &format!("string:{key}"), "more"]);
            client.command(&["HINCRBY", &format!("hash:{key}"), "count", "1"]);
        }
        let tail = region.sidecar.command(&["journal", "stats", "--json"]);
        let stats: serde_json::Value = serde_json::from_slice(&tail.stdout).expect("an object");
        let first = stats["first_offset"].as_u64();
        (0 < first.unwrap_or_else(|| panic!("{stats}"))).then_some(())
    });
}

#[test]
fn a_killed_leader_goes_on_where_it_was() {
    let redis = [Redis::start(), Redis::start()];
    let keys = fill(&redis[0]) as u64;
    let all = options(
        SidecarOptions::new(&redis[0]),
        SidecarOptions::new(&redis[1]),
    );
    let [eu_redis, us_redis] = redis;
    let [eu_options, us_options] = all;
    let small = "segment_bytes = \"16KiB\"\nretention_bytes = \"32KiB\"";
    let mut eu = Region {
        sidecar: Sidecar::with(eu_options.journal(small)),
        redis: eu_redis,
    };
    forget_the_beginning(&eu);
    let us = Region {
        sidecar: Sidecar::with(us_options),
        redis: us_redis,
    };
    until_led(&eu.sidecar);
    let asked = ["replicate", "--bootstrap", "--no-wait", "--rate", "5000"];
    let output = eu.sidecar.command(&asked);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("--status"),
        "{}",
        text(&output.stdout)
    );
    let before = until("a part to be copied", DEADLINE, || {
        let seen = status(&eu.sidecar)["seen"].as_u64()?;
        (4_000 < seen).then_some(seen)
    });
    eu.sidecar.kill();
    let at_kill = status(&eu.sidecar);
    assert_eq!(at_kill["phase"], "copying", "{at_kill}");
    eu.sidecar.restart();
    let last = until("the end", DEADLINE, || {
        let status = status(&eu.sidecar);
        (status["phase"] == "done").then_some(status)
    });
    let seen = last["seen"].as_u64().expect("a number");
    // It does not begin again.
    assert!(
        before <= seen && seen < keys + before,
        "{seen} of {keys}, {before} before"
    );
    assert_eq!(assert_equal(&us, &eu), keys);
    let again = eu
        .sidecar
        .command(&["replicate", "--bootstrap", "--cancel"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("nothing to cancel"));
}

/// A client of one region sets a key, which arrives in the other one.
fn assert_replicates(from: &Region, to: &Region, key: &str) {
    let reply = from.sidecar.client().command(&["SET", key, "value"]);
    assert_eq!(text(&reply), "+OK\r\n");
    until(&format!("{key} to arrive"), DEADLINE, || {
        let found = to.redis.client().command(&["GET", key]);
        (text(&found) == "$5\r\nvalue\r\n").then_some(())
    });
}

/// A copy that is given up ends; regions replicate as before, and it can be begun anew.
#[test]
fn a_copy_that_is_cancelled_ends_and_regions_go_on() {
    let redis = [Redis::start(), Redis::start()];
    let keys = fill(&redis[0]) as u64;
    let [eu, us] = regions(redis);
    until_led(&eu.sidecar);
    // At this rate all of it takes minutes.
    let slowly = ["replicate", "--bootstrap", "--json", "--rate", "200"];
    let copying = start(&eu.sidecar, &slowly);
    until("a part to be copied", DEADLINE, || {
        let told = status(&eu.sidecar)["told"].as_u64()?;
        (100 < told).then_some(())
    });
    let cancel = ["replicate", "--bootstrap", "--cancel"];
    let cancelled = eu.sidecar.command(&cancel);
    assert!(
        cancelled.status.success() && text(&cancelled.stdout).starts_with("cancelled after "),
        "{}{}",
        text(&cancelled.stdout),
        text(&cancelled.stderr)
    );
    let ended = status(&eu.sidecar);
    assert_eq!(ended["phase"], "cancelled", "{ended}");
    let told = ended["told"].as_u64().expect("a number");
    assert!((100..keys / 2).contains(&told), "{ended}");
    // Whoever follows it hears of that, and there is no more to cancel.
    let followed = copying.wait_with_output().expect("it ends");
    assert_eq!(followed.status.code(), Some(1));
    let out = text(&followed.stdout);
    let last = out.lines().last().expect("it says something");
    let last: serde_json::Value = serde_json::from_str(last).expect("an object");
    assert_eq!(last["phase"], "cancelled", "{last}");
    let again = eu.sidecar.command(&cancel);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("nothing to cancel"));

    assert_replicates(&eu, &us, "after:eu");
    assert_replicates(&us, &eu, "after:us");
    let reason = "reason=\"bootstrap\"";
    let name = "wal_sidecar_replication_snapshots_total";
    let copied = eu.sidecar.metric(name, reason);
    assert!(copied < keys as f64 / 2.0, "{copied} of {keys}");

    let anew = ["replicate", "--bootstrap", "--rate", "8000"];
    let copied = eu.sidecar.command(&anew);
    assert!(copied.status.success(), "{}", text(&copied.stderr));
    assert_eq!(assert_equal(&eu, &us), keys + 2);
}
