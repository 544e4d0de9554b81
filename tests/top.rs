//! `wal-sidecar top` before two regions that replicate, in pipes and in a
//! terminal.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use support::line::{Line, Manner};
use support::process::free_port;
use support::sidecar::binary;
use support::{Redis, Sidecar, SidecarOptions, until};
use tokio::sync::oneshot;

const DEADLINE: Duration = Duration::from_secs(30);
/// Less than this is no lag on a busy machine.
const LAG_MAX: f64 = 5.0;
const WRITES: u64 = 25;

/// Regions `eu` and `us`, and what is between them.
struct World {
    regions: [(Redis, Sidecar); 2],
    lines: Vec<Line>,
    _passing: Passing,
}

/// A thread that passes on what goes over the lines.
struct Passing {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Passing {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}

impl World {
    fn start() -> World {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let ports = [free_port(), free_port()];
        let target = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let lines: Vec<Line> = ports
            .iter()
            .map(|port| runtime.block_on(Line::to(target(*port))))
            .collect();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let _ = runtime.block_on(stopped);
        });
        let names = ["eu", "us"];
        let regions = [0, 1].map(|own| {
            let other = 1 - own;
            let redis = Redis::start();
            let mut options = SidecarOptions::new(&redis)
                .region(names[own], &["proxy", "replicator"])
                .journal(&format!("serve = \"127.0.0.1:{}\"", ports[own]));
            options.tables = format!(
                "[replication]\nretry_backoff_max = \"200ms\"\n\
                 [[replication.source]]\nregion = \"{}\"\njournal = \"wal://{}\"\n",
                names[other],
                lines[other].address()
            );
            (redis, Sidecar::with(options))
        });
        World {
            regions,
            lines,
            _passing: Passing {
                stop: Some(stop),
                thread: Some(thread),
            },
        }
    }

    fn addresses(&self) -> [String; 2] {
        let of = |index: usize| format!("127.0.0.1:{}", self.regions[index].1.admin_port());
        [of(0), of(1)]
    }

    /// Runs it with both addresses.
    fn top(&self, arguments: &[&str]) -> Output {
        let [eu, us] = self.addresses();
        let all = [&["top", &eu, &us], arguments].concat();
        Command::new(binary()).args(all).output().expect("it runs")
    }

    /// The same as JSON, which it was told to end with 0.
    fn read(&self) -> Value {
        let output = self.top(&["--once", "--json", "--interval", "0.3"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("one object")
    }

    fn set(&self, region: usize, key: &str, value: &str) {
        let mut client = self.regions[region].1.client();
        let reply = client.command(&["SET", key, value]);
        assert_eq!(reply, b"+OK\r\n");
    }

    fn expect(&self, region: usize, key: &str, value: &str) {
        let expected = format!("${}\r\n{value}\r\n", value.len());
        until("a key to be replicated", DEADLINE, || {
            let mut client = self.regions[region].0.client();
            (client.command(&["GET", key]) == expected.as_bytes()).then_some(())
        });
    }

    fn expect_metric(&self, region: usize, name: &str, is_right: fn(f64) -> bool) {
        until(name, DEADLINE, || {
            is_right(self.regions[region].1.metric(name, "")).then_some(())
        });
    }
}

#[test]
fn it_shows_what_regions_do() {
    let mut world = World::start();
    let [eu, us] = world.addresses();
    for index in 0..WRITES {
        world.set(0, &format!("key:{index}"), "value");
    }
    world.expect(1, &format!("key:{}", WRITES - 1), "value");
    let applied = |applied: f64| applied >= WRITES as f64;
    world.expect_metric(1, "wal_sidecar_replication_applied_records_total", applied);
    let shown = world.read();
    for (index, (region, source, address)) in [("eu", "us", &eu), ("us", "eu", &us)]
        .into_iter()
        .enumerate()
    {
        let process = &shown["processes"][index];
        assert_eq!(process["address"], **address);
        assert_eq!(
            (&process["state"], &process["region"]),
            (&"up".into(), &region.into())
        );
        assert_eq!(process["namespaces"][0]["state"], "accepting");
        let replication = &shown["replication"][index];
        assert_eq!(replication["region"], region);
        assert_eq!(replication["leaders"][0], **address);
        let source_shown = &replication["sources"][0];
        assert_eq!(
            (&source_shown["source"], &source_shown["up"]),
            (&source.into(), &true.into())
        );
        assert!(
            source_shown["lag_seconds"].as_f64().unwrap() < LAG_MAX,
            "{shown}"
        );
        assert_eq!(source_shown["conflicts"]["total"], 0);
        // Heartbeats go on.
        assert!(
            source_shown["applied"]["per_second"].as_f64().unwrap() > 0.0,
            "{shown}"
        );
    }
    let writes = |index: usize| shown["processes"][index]["namespaces"][0]["mutations"].clone();
    assert_eq!(
        (&writes(0)["total"], &writes(1)["total"]),
        (&WRITES.into(), &0.into())
    );
    let applied = &shown["replication"][1]["sources"][0]["applied"]["total"];
    assert!(applied.as_u64().unwrap() >= WRITES, "{shown}");

    // Neither region knows of the other's writes. The later overwrite stays, and
    // an increment stays where an earlier overwrite can't be put under it.
    for line in &world.lines {
        line.set(Manner::Stall);
    }
    world.set(0, "both", "older");
    world.set(1, "both", "newer");
    world.set(0, "mixed", "10");
    let increased = world.regions[1].1.client().command(&["INCR", "mixed"]);
    assert_eq!(increased, b":1\r\n");
    let lag = "wal_sidecar_replication_lag_seconds";
    world.expect_metric(1, lag, |lag| lag > 1.5);
    let shown = world.read();
    let lag = &shown["replication"][1]["sources"][0]["lag_seconds"];
    assert!(lag.as_f64().unwrap() > 1.5, "{shown}");
    for line in &world.lines {
        line.set(Manner::Pass);
    }
    world.expect(0, "both", "newer");
    world.expect(0, "mixed", "1");
    let conflicts = "wal_sidecar_replication_conflicts_total";
    world.expect_metric(1, conflicts, |conflicts| conflicts == 2.0);
    let shown = world.read();
    let us = &shown["replication"][1];
    assert_eq!(us["sources"][0]["conflicts"]["total"], 2, "{shown}");
    assert_eq!(us["sources"][0]["skipped"]["total"], 1, "{shown}");
    assert!(
        us["snapshots"]["conflict"]["total"].as_u64() >= Some(1),
        "{shown}"
    );

    plain_text(&world);
    outages(&mut world);
}

fn plain_text(world: &World) {
    // No terminal: as with --once.
    for arguments in [&["--interval", "0.3", "--once"][..], &["--interval", "0.3"]] {
        let output = world.top(arguments);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        for part in [
            "2 processes: 2 up",
            "us / test  led by",
            "accepting",
            "LAG",
            "CONFLICTS",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
    let other = world.top(&["--once", "--interval", "0.1", "--namespace", "other"]);
    let text = String::from_utf8(other.stdout).expect("text");
    assert!(
        text.contains("none of these processes replicates"),
        "{text}"
    );
}

/// One of two is away and comes back; then both are.
fn outages(world: &mut World) {
    let addresses = world.addresses();
    let mut live = Command::new(binary())
        .args(["top", "--json", "--interval", "0.2"])
        .args(&addresses)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let output = live.stdout.take().expect("it is piped");
    let mut objects = BufReader::new(output).lines().map(|line| {
        let line = line.expect("it is text");
        serde_json::from_str::<Value>(&line).expect("an object a line")
    });
    let mut state_becomes = |expected: &str| {
        let shown = objects
            .by_ref()
            .find(|one| one["processes"][1]["state"] == expected);
        shown.unwrap_or_else(|| panic!("never {expected}"))
    };
    let first = state_becomes("up");
    let nothing = &first["processes"][1]["namespaces"][0]["mutations"]["per_second"];
    assert!(
        nothing.is_null(),
        "there is nothing to compare with: {first}"
    );
    world.regions[1].1.kill();
    let shown = state_becomes("unreachable");
    let error = shown["processes"][1]["error"].as_str().expect("the reason");
    assert!(error.contains("Connection refused"), "{shown}");
    assert_eq!(shown["processes"][1]["region"], "us", "that is still known");
    assert_eq!(shown["processes"][0]["state"], "up");
    let output = world.top(&["--once", "--interval", "0.1"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(
        output.status.success() && text.contains("Connection refused"),
        "{text}"
    );
    world.regions[1].1.restart();
    state_becomes("up");
    live.kill().and_then(|()| live.wait()).expect("it is ours");

    world.regions[0].1.kill();
    world.regions[1].1.kill();
    let output = world.top(&["--once", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let shown: Value = serde_json::from_slice(&output.stdout).expect("an object");
    assert_eq!(shown["processes"][0]["state"], "unreachable");
}

#[test]
fn wrong_usage_is_told() {
    for arguments in [
        &["127.0.0.1:port"][..],
        &["127.0.0.1:1", "--interval", "0"],
        &["127.0.0.1:1", "--interval", "often"],
        &["--config", "/there/is/none.toml"],
    ] {
        let output = Command::new(binary()).arg("top").args(arguments).output();
        let output = output.expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

/// A terminal of 24 lines with `wal-sidecar top` in it. util-linux's script makes
/// it, and passes on what is typed.
struct Terminal {
    script: Child,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(address: &str) -> Terminal {
        let inner = format!("echo PID $$; exec {:?} top {address}", binary());
        let outer = format!(
            "stty rows 24 cols 80; before=$(stty -g); sh -c '{inner}'; code=$?; \
             test \"$(stty -g)\" = \"$before\" && echo RESTORED $code"
        );
        let mut script = Command::new("script")
            .args(["-qec", &outer, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is part of every Debian");
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let (mut output, collected) = (
            script.stdout.take().expect("it is piped"),
            Arc::clone(&shown),
        );
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                let mut collected = collected.lock().expect("nobody panics with it");
                collected.extend_from_slice(&bytes[..read]);
            }
        });
        Terminal { script, shown }
    }

    fn shown(&self) -> String {
        let shown = self.shown.lock().expect("nobody panics with it");
        String::from_utf8_lossy(&shown).into_owned()
    }

    fn expect(&self, part: &str) {
        until(part, DEADLINE, || self.shown().contains(part).then_some(()));
    }

    fn press(&mut self, keys: &[u8]) {
        let input = self.script.stdin.as_mut().expect("it is piped");
        input.write_all(keys).expect("script reads");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn a_terminal_is_left_as_it_was() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis);
    let address = format!("127.0.0.1:{}", sidecar.admin_port());
    for end in ["q", "\u{1b}", "\u{3}", "TERM"] {
        let mut terminal = Terminal::start(&address);
        terminal.expect("accepting");
        terminal.press(b"h");
        terminal.expect("Keys and columns");
        terminal.press(b"hp");
        terminal.expect("paused");
        match end {
            "TERM" => {
                let shown = terminal.shown();
                let (_, pid) = shown.split_once("PID ").expect("it says its own");
                let pid = pid.split_whitespace().next().expect("a number");
                let status = Command::new("kill").args(["-TERM", pid]).status();
                assert!(status.expect("kill is everywhere").success());
            }
            keys => terminal.press(keys.as_bytes()),
        }
        terminal.expect("RESTORED 0");
        let shown = terminal.shown();
        let place = |code: &str| {
            shown
                .rfind(code)
                .unwrap_or_else(|| panic!("{code}: {shown:?}"))
        };
        let (entered, left) = (place("\u{1b}[?1049h"), place("\u{1b}[?1049l"));
        assert!(
            entered < left && entered < place("\u{1b}[?25h"),
            "{shown:?}"
        );
    }
}
