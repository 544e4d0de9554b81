//! Two regions of memcached servers, each behind a sidecar that replicates.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::support::process::free_port;
use super::support::{Memcache, Memcached, Random, Sidecar, SidecarOptions, until};

const DEADLINE: Duration = Duration::from_secs(20);
/// A lease has to run out, and then the writers that were killed to be taken for
/// dead, 10 s each.
const TAKEOVER: Duration = Duration::from_secs(60);
const HOT_CLIENTS: usize = 3;
const HOT_TIME: Duration = Duration::from_secs(4);
const HOT_KEYS: usize = 6;

/// The servers of a region, and the sidecar before them.
pub struct Region {
    pub sidecar: Sidecar,
    pub servers: Vec<Memcached>,
}

/// Regions `eu` and `us`, with so many servers each.
pub fn regions(eu: usize, us: usize) -> (Region, Region) {
    let ports = [free_port(), free_port()];
    let names = ["eu", "us"];
    let region = |own: usize, count: usize| {
        let other = 1 - own;
        let servers: Vec<Memcached> = (0..count).map(|_| Memcached::start()).collect();
        let mut options = SidecarOptions::memcached(&servers)
            .journal(&format!("serve = \"127.0.0.1:{}\"", ports[own]));
        options.region = names[own].to_owned();
        options.roles = vec!["proxy".to_owned(), "replicator".to_owned()];
        options.tables = format!(
            "[replication]\nretry_backoff_max = \"200ms\"\n\
             [[replication.source]]\nregion = \"{}\"\njournal = \"wal://127.0.0.1:{}\"\n",
            names[other], ports[other]
        );
        let sidecar = Sidecar::with(options);
        Region { sidecar, servers }
    };
    (region(0, eu), region(1, us))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the one server that has a key says of it.
fn held(servers: &[Memcached], key: &str, flags: &str) -> String {
    let found: Vec<String> = servers
        .iter()
        .map(|server| {
            text(
                &server
                    .client()
                    .lines(format!("mg {key} {flags}\r\n").as_bytes()),
            )
        })
        .filter(|reply| !reply.starts_with("EN"))
        .collect();
    assert!(found.len() <= 1, "{key} is on several servers: {found:?}");
    found.concat()
}

/// Waits until a key's value and flags are the expected reply.
pub fn expect(region: &Region, key: &str, expected: &str) {
    let mut last = String::new();
    let is_there = |last: &mut String| {
        *last = held(&region.servers, key, "v f");
        (last.replace("MN\r\n", "") == expected).then_some(())
    };
    let end = Instant::now() + DEADLINE;
    until(key, DEADLINE + Duration::from_secs(5), || {
        assert!(Instant::now() < end, "{key}: {last:?}, not {expected:?}");
        is_there(&mut last)
    });
}

pub fn do_at(region: &Region, commands: &str, expected: &str) {
    let reply = region.sidecar.memcache().lines(commands.as_bytes());
    assert_eq!(text(&reply).replace("MN\r\n", ""), expected, "{commands}");
}

/// Every kind of mutation from one region to the other.
fn every_kind(from: &Region, to: &Region) {
    let check = |commands: &str, reply: &str, key: &str, expected: &str| {
        do_at(from, commands, reply);
        expect(to, key, expected);
    };
    let stored = "STORED\r\n";
    check("set k 7 0 3\r\nabc\r\n", stored, "k", "VA 3 f7\r\nabc\r\n");
    check(
        "append k 0 0 2\r\nde\r\n",
        stored,
        "k",
        "VA 5 f7\r\nabcde\r\n",
    );
    check(
        "prepend k 0 0 1\r\n_\r\n",
        stored,
        "k",
        "VA 6 f7\r\n_abcde\r\n",
    );
    check("replace k 1 0 1\r\nr\r\n", stored, "k", "VA 1 f1\r\nr\r\n");
    check("delete k\r\n", "DELETED\r\n", "k", "");
    check("add k 0 0 1\r\n5\r\n", stored, "k", "VA 1 f0\r\n5\r\n");
    check("incr k 7\r\n", "12\r\n", "k", "VA 2 f0\r\n12\r\n");
    // memcached leaves spaces where digits go.
    check("decr k 10\r\n", "2\r\n", "k", "VA 2 f0\r\n2 \r\n");
    let unique = text(&from.sidecar.memcache().lines(b"gets k\r\n"));
    let unique = unique
        .lines()
        .next()
        .and_then(|line| line.rsplit(' ').next());
    let cas = format!("cas k 3 0 1 {}\r\nc\r\n", unique.expect("a number"));
    check(&cas, stored, "k", "VA 1 f3\r\nc\r\n");
    check("ms k 2 F9\r\nms\r\n", "HD\r\n", "k", "VA 2 f9\r\nms\r\n");
    check("md k\r\n", "HD\r\n", "k", "");
    check(
        "ms YSBi 2 b F1\r\nsp\r\n",
        "HD\r\n",
        "YSBi b",
        "VA 2 f1\r\nsp\r\n",
    );
    check(
        "set l 0 0 1\r\na\r\nset l 0 0 1\r\nb\r\ndelete l\r\nset l 0 0 0\r\n\r\n",
        "STORED\r\nSTORED\r\nDELETED\r\nSTORED\r\n",
        "l",
        "VA 0 f0\r\n\r\n",
    );
}

/// Seconds since the epoch at which a key goes, or none if it stays.
fn ends_at(region: &Region, key: &str) -> Option<i64> {
    let reply = held(&region.servers, key, "t");
    let lives = reply.split_ascii_whitespace().nth(1)?;
    let lives: i64 = lives.strip_prefix('t')?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later");
    (0 <= lives).then(|| now.as_secs() as i64 + lives)
}

fn same_time(from: &Region, to: &Region, key: &str, about: i64) {
    until("the same time to live", DEADLINE, || {
        let (one, other) = (ends_at(from, key)?, ends_at(to, key)?);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later");
        let is_due = (one - now.as_secs() as i64 - about).abs() <= 10;
        (is_due && (one - other).abs() <= 1).then_some(())
    });
}

#[test]
fn every_mutation_is_seen_in_the_other_region() {
    let (eu, us) = regions(1, 1);
    every_kind(&eu, &us);
    every_kind(&us, &eu);
    for (from, to) in [(&eu, &us), (&us, &eu)] {
        do_at(from, "set t 4 1000 1\r\nx\r\n", "STORED\r\n");
        expect(to, "t", "VA 1 f4\r\nx\r\n");
        same_time(from, to, "t", 1000);
        do_at(from, "touch t 500\r\n", "TOUCHED\r\n");
        same_time(from, to, "t", 500);
        do_at(from, "gat 3000 t\r\n", "VALUE t 4 1\r\nx\r\nEND\r\n");
        same_time(from, to, "t", 3000);
        do_at(from, "append t 0 0 1\r\ny\r\n", "STORED\r\n");
        expect(to, "t", "VA 2 f4\r\nxy\r\n");
        same_time(from, to, "t", 3000);
        do_at(from, "touch t -1\r\n", "TOUCHED\r\n");
        expect(to, "t", "");
        do_at(from, "set gone 0 0 1\r\nx\r\n", "STORED\r\n");
        expect(to, "gone", "VA 1 f0\r\nx\r\n");
        do_at(from, "flush_all\r\n", "OK\r\n");
        expect(to, "gone", "");
    }
}

#[test]
fn a_ring_replicates_with_one_server() {
    let (eu, us) = regions(2, 1);
    every_kind(&eu, &us);
    every_kind(&us, &eu);
    for (from, to) in [(&eu, &us), (&us, &eu)] {
        for key in 0..30 {
            let set = format!(
                "set key:{key} 0 0 2\r\n{}\r\n",
                from.sidecar.port() % 90 + 10
            );
            do_at(from, &set, "STORED\r\n");
        }
        for key in 0..30 {
            let value = from.sidecar.port() % 90 + 10;
            expect(
                to,
                &format!("key:{key}"),
                &format!("VA 2 f0\r\n{value}\r\n"),
            );
        }
    }
    let share = |server: &Memcached| {
        let keys = (0..30).map(|key| format!("mg key:{key}\r\n"));
        let mut client = server.client();
        keys.filter(|get| client.lines(get.as_bytes()).starts_with(b"HD"))
            .count()
    };
    let shares: Vec<usize> = eu.servers.iter().map(share).collect();
    assert!(shares.iter().all(|share| 3 < *share), "{shares:?}");
}

/// Keys with their values, flags and times.
type Hot = BTreeMap<String, (String, Option<i64>)>;

fn hot_key(key: usize) -> String {
    format!("hot:{key}")
}

/// All hot keys of a region: value, flags, and when they go (in units of the
/// times that are given: what is left of one differs by a second at most).
fn all_hot(region: &Region) -> Hot {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later");
    let of = |key: String| {
        let time = ends_at(region, &key).map(|ends| (ends - now.as_secs() as i64 + 300) / 1000);
        let value = held(&region.servers, &key, "v f");
        (key, (value, time))
    };
    (0..HOT_KEYS).map(hot_key).map(of).collect()
}

/// Commands on hot keys until told to stop; how many.
fn write_hot(mut client: Memcache, mut random: Random, stop: &AtomicBool) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = hot_key(random.below(HOT_KEYS));
        let number = random.below(1000);
        let command = match random.below(10) {
            0 => format!("delete {key}\r\n"),
            1 => format!("incr {key} 7\r\n"),
            2 => format!("append {key} 0 0 1\r\n1\r\n"),
            3 => format!("add {key} 3 0 3\r\n{number:03}\r\n"),
            4 => format!("touch {key} {}000\r\n", random.below(9) + 1),
            5 => format!("decr {key} 3\r\n"),
            _ => format!("set {key} {} 0 3\r\n{number:03}\r\n", random.below(9)),
        };
        client.lines(command.as_bytes());
        count += 1;
    }
    count
}

/// Waits until both regions have the same of every key, and keep it.
fn converge(eu: &Region, us: &Region) {
    const QUIET: Duration = Duration::from_millis(1500);
    let mut since: Option<(Instant, Hot)> = None;
    let end = Instant::now() + DEADLINE;
    until("both regions to be the same", DEADLINE * 2, || {
        let (one, other) = (all_hot(eu), all_hot(us));
        assert!(Instant::now() < end, "eu: {one:#?}\nus: {other:#?}");
        match &since {
            Some((at, known)) if one == other && *known == one => {
                (QUIET <= at.elapsed()).then_some(())
            }
            _ => {
                since = (one == other).then(|| (Instant::now(), one));
                None
            }
        }
    });
}

fn write_in(regions: &[&Region], meanwhile: impl FnOnce()) -> usize {
    let mut random = Random::from_environment();
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for region in regions {
        for _ in 0..HOT_CLIENTS {
            let (client, stop) = (region.sidecar.memcache(), Arc::clone(&stop));
            let random = Random::new(random.next());
            clients.push(std::thread::spawn(move || write_hot(client, random, &stop)));
        }
    }
    meanwhile();
    stop.store(true, Ordering::Relaxed);
    let counts = clients
        .into_iter()
        .map(|one| one.join().expect("it writes"));
    counts.sum()
}

fn for_some_time() {
    let end = Instant::now() + HOT_TIME;
    until("enough writes", DEADLINE, || {
        (end <= Instant::now()).then_some(())
    });
}

#[test]
fn concurrent_writes_in_both_regions_converge() {
    for (eu, us) in [(1, 1), (2, 1)] {
        let (eu, us) = regions(eu, us);
        let count = write_in(&[&eu, &us], for_some_time);
        let quiet = Instant::now();
        converge(&eu, &us);
        println!("{count} commands, the same {:?} later", quiet.elapsed());
        for region in [&eu, &us] {
            let names = "races snapshots conflicts applied_records skipped_records dead_letters";
            for name in names.split(' ') {
                let name = format!("wal_sidecar_replication_{name}_total");
                println!("{name} {}", region.sidecar.metric(&name, ""));
            }
        }
    }
}

#[test]
fn a_replicator_goes_on_after_a_restart_and_a_kill() {
    let (mut eu, us) = regions(1, 1);
    do_at(&us, "set before 0 0 1\r\nx\r\n", "STORED\r\n");
    expect(&eu, "before", "VA 1 f0\r\nx\r\n");
    for round in 0..4 {
        match round % 2 {
            0 => assert!(eu.sidecar.stop().success()),
            _ => eu.sidecar.kill(),
        }
        let set = format!("set during 0 0 1\r\n{round}\r\ndelete before\r\n");
        let client = us.sidecar.memcache().lines(set.as_bytes());
        assert!(client.starts_with(b"STORED"), "{}", text(&client));
        eu.sidecar.restart();
        expect(&eu, "during", &format!("VA 1 f0\r\n{round}\r\n"));
        expect(&eu, "before", "");
        // What is older is not applied over what is newer.
        do_at(&eu, &format!("set own 0 0 1\r\n{round}\r\n"), "STORED\r\n");
        expect(&us, "own", &format!("VA 1 f0\r\n{round}\r\n"));
    }
    let file = eu.sidecar.journal().join("_checkpoints").join("test");
    let kept = std::fs::read_to_string(&file).expect("there are checkpoints");
    // One partition, whose number is made of the journal's identity.
    let names: Vec<&str> = kept
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, _)| name)
        .collect();
    // Beside it there is what was forgotten.
    let names: Vec<&str> = names.into_iter().filter(|one| *one != ":horizon").collect();
    let number = |name: &str| name.strip_prefix("us/")?.parse::<u32>().ok();
    assert!(
        matches!(names[..], [name] if number(name).is_some_and(|one| one >= 1 << 31)),
        "{kept}"
    );
}

#[test]
fn a_killed_replicator_comes_to_the_same_while_the_other_region_writes() {
    let (mut eu, us) = regions(1, 1);
    let count = write_in(&[&eu, &us], || {
        until("writes in both", DEADLINE, || {
            let applied = |region: &Region| {
                let name = "wal_sidecar_replication_applied_records_total";
                region.sidecar.metric(name, "")
            };
            (500.0 < applied(&eu) && 500.0 < applied(&us)).then_some(())
        });
    });
    let more = write_in(&[&us], || {
        eu.sidecar.kill();
        eu.sidecar.restart();
        until("more to be applied", TAKEOVER, || {
            let name = "wal_sidecar_replication_applied_records_total";
            (200.0 < eu.sidecar.metric(name, "")).then_some(())
        });
    });
    converge(&eu, &us);
    println!("{count} commands, and {more} more");
}

#[test]
fn nothing_ends_when_memcached_does() {
    let (mut eu, us) = regions(1, 1);
    do_at(&us, "set k 0 0 1\r\na\r\n", "STORED\r\n");
    expect(&eu, "k", "VA 1 f0\r\na\r\n");
    let mut client = us.sidecar.memcache();
    for round in 0..3 {
        eu.servers[0].kill();
        for key in 0..20 {
            let set = format!("set k:{key} 0 0 1\r\n{round}\r\n");
            assert!(client.lines(set.as_bytes()).starts_with(b"STORED"));
        }
        eu.servers[0].restart();
        for key in 0..20 {
            expect(&eu, &format!("k:{key}"), &format!("VA 1 f0\r\n{round}\r\n"));
        }
        until("the sidecar to be connected", DEADLINE, || {
            let client = eu.sidecar.memcache();
            let mut stream = client.stream();
            let set = format!("set back 0 0 1\r\n{round}\r\n");
            stream.write_all(set.as_bytes()).ok()?;
            let mut reply = [0; 6];
            stream.read_exact(&mut reply).ok()?;
            (&reply == b"STORED").then_some(())
        });
        expect(&us, "back", &format!("VA 1 f0\r\n{round}\r\n"));
    }
}
