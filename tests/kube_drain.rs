//! The end of a pod as a kubelet brings it about: all preStop hooks at once,
//! SIGTERM to a container when its hook has ended (to a native sidecar when the
//! application has ended too), SIGKILL when the grace period is over. Under
//! load, with the hook and the times that injection writes into the pod.

mod kube;
mod support;

use std::collections::HashSet;
use std::io::Write;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::process::{Process, Signal};
use support::resp::encode;
use support::sidecar::binary;
use support::{Client, Redis, Sidecar, SidecarOptions, journal, until};
use wal_sidecar::kube::yaml::read;
use wal_sidecar::kube::{Mode, Options};

const CLIENTS: usize = 8;
const PIPELINE: usize = 8;
const DEADLINE: Duration = Duration::from_secs(30);
/// A kubelet gives a container no less than this between SIGTERM and SIGKILL.
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// The injected container of a pod with this grace period.
fn container(mode: Mode, grace: u64) -> Value {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  terminationGracePeriodSeconds: {grace}\n  containers:\n  - {{name: a, image: b}}\n"
    );
    let options = Options {
        mode,
        ..Options::default()
    };
    let injected = kube::inject(&text, &options).text;
    let pod = read(&injected).unwrap()[0].root.as_ref().unwrap().to_json();
    match mode {
        Mode::Native => pod["spec"]["initContainers"][0].clone(),
        Mode::Plain => pod["spec"]["containers"][1].clone(),
    }
}

/// An application: clients that write all the time.
struct Application {
    told: Arc<Told>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Told {
    /// Set by SIGTERM: the application does some more writes, then ends.
    terminated: AtomicBool,
    /// Set by SIGKILL.
    killed: AtomicBool,
    acknowledged: Mutex<Vec<(String, String)>>,
    count: AtomicUsize,
    errors: Mutex<Vec<String>>,
}

impl Application {
    /// `more`: writes that each client does after SIGTERM; none: it does not
    /// listen to signals.
    fn start(port: u16, more: Option<usize>) -> Application {
        let told = Arc::new(Told::default());
        let clients = (0..CLIENTS)
            .map(|client| {
                let told = Arc::clone(&told);
                std::thread::spawn(move || write(port, client, more, &told))
            })
            .collect();
        let application = Application { told, clients };
        until("the load to run", DEADLINE, || {
            (application.told.count.load(Ordering::Relaxed) > 2000).then_some(())
        });
        application
    }

    fn has_ended(&self) -> bool {
        self.clients.iter().all(JoinHandle::is_finished)
    }
}

fn write(port: u16, client: usize, more: Option<usize>, told: &Told) {
    let mut connection = Client::connect(port);
    let mut after = 0;
    for first in (0..).step_by(PIPELINE) {
        if told.killed.load(Ordering::Relaxed) || more.is_some_and(|more| after >= more) {
            return;
        }
        if told.terminated.load(Ordering::Relaxed) {
            after += PIPELINE;
        }
        let pairs: Vec<(String, String)> = (first..first + PIPELINE)
            .map(|number| {
                (
                    format!("key:{client}:{number}"),
                    format!("value:{client}:{number}"),
                )
            })
            .collect();
        let bytes: Vec<u8> = pairs
            .iter()
            .flat_map(|(key, value)| encode(&["SET", key, value]))
            .collect();
        let note = |error: String| told.errors.lock().unwrap().push(error);
        if let Err(error) = connection.stream().write_all(&bytes) {
            return note(error.to_string());
        }
        for pair in pairs {
            match connection.try_reply() {
                Ok(reply) if reply == b"+OK\r\n" => {
                    told.acknowledged.lock().unwrap().push(pair);
                    told.count.fetch_add(1, Ordering::Relaxed);
                }
                Ok(reply) => return note(String::from_utf8_lossy(&reply).into_owned()),
                Err(error) => return note(error.to_string()),
            }
        }
    }
}

/// What a kubelet saw.
#[derive(Debug)]
struct Seen {
    hook: ExitStatus,
    hook_lines: Vec<String>,
    /// Clients that were still there when the hook ended.
    was_application_running: bool,
    /// None where it had to be killed.
    sidecar: Option<ExitStatus>,
    took: Duration,
}

/// Ends a pod.
fn terminate(
    sidecar: &mut Sidecar,
    application: &Application,
    container: &Value,
    mode: Mode,
    grace: u64,
) -> Seen {
    let start = Instant::now();
    let grace = Duration::from_secs(grace);
    let hook = container["lifecycle"]["preStop"]["exec"]["command"]
        .as_array()
        .unwrap();
    let hook: Vec<&str> = hook.iter().filter_map(Value::as_str).collect();
    assert_eq!(hook[0], "/usr/local/bin/wal-sidecar");
    let mut command = Command::new(binary());
    command.args(&hook[1..]);
    // As the container has it, but for the port, which is a free one here.
    let listen = format!("0.0.0.0:{}", sidecar.admin_port());
    let mut hook = Process::start("the hook", command.env("WAL_SIDECAR_ADMIN_LISTEN", listen));
    // The application has no hook, so it is told at once.
    application.told.terminated.store(true, Ordering::Relaxed);
    let mut hook_status = None;
    let mut was_application_running = false;
    until("the sidecar's turn", grace + DEADLINE, || {
        if hook_status.is_none() {
            hook_status = hook.ended();
            was_application_running = !application.has_ended();
        }
        let is_first = mode == Mode::Native && !application.has_ended();
        let is_over = start.elapsed() >= grace;
        (hook_status.is_some() && !is_first || is_over).then_some(())
    });
    if start.elapsed() >= grace {
        application.told.killed.store(true, Ordering::Relaxed);
    }
    sidecar.signal(Signal::Term);
    let end = Instant::now() + grace.saturating_sub(start.elapsed()).max(LEAST_GRACE);
    let id = sidecar.id().to_string();
    let is_gone = || {
        let state = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    };
    until("the sidecar's end", grace + DEADLINE, || {
        (is_gone() || Instant::now() > end).then_some(())
    });
    let sidecar = match is_gone() {
        true => Some(sidecar.wait(DEADLINE)),
        false => {
            sidecar.kill();
            None
        }
    };
    Seen {
        hook: hook.wait(DEADLINE),
        hook_lines: hook.lines(),
        was_application_running,
        sidecar,
        took: start.elapsed(),
    }
}

/// Runs an application beside a sidecar and ends both; what was acknowledged is
/// in the journal and in Redis.
fn end_of_a_pod(mode: Mode, grace: u64, more: Option<usize>) -> (Seen, Vec<String>) {
    let redis = Redis::start();
    let container = container(mode, grace);
    let environment = container["env"].as_array().unwrap();
    let drain = environment
        .iter()
        .find(|one| one["name"] == "WAL_SIDECAR_DRAIN_TIMEOUT")
        .unwrap();
    let options = SidecarOptions::new(&redis).root(&format!("drain_timeout = {}", drain["value"]));
    let mut sidecar = Sidecar::with(options);
    let application = Application::start(sidecar.port(), more);
    let seen = terminate(&mut sidecar, &application, &container, mode, grace);
    application.told.killed.store(true, Ordering::Relaxed);
    for client in application.clients {
        client.join().unwrap();
    }
    let acknowledged = application.told.acknowledged.lock().unwrap();
    let (records, _) = journal::read(&sidecar.journal().join("test"), 0);
    journal::check_dense(&records);
    let journaled: HashSet<&[u8]> = journal::arguments(&records).collect();
    let mut client = redis.client();
    for (_, value) in acknowledged.iter() {
        assert!(journaled.contains(value.as_bytes()), "{value} is lost");
    }
    for (key, value) in acknowledged.iter().step_by(17) {
        let reply = client.command(&["GET", key]);
        assert_eq!(reply, format!("${}\r\n{value}\r\n", value.len()).as_bytes());
    }
    println!(
        "{mode:?}: {} writes acknowledged, {:?}",
        acknowledged.len(),
        seen.took
    );
    let errors = application.told.errors.lock().unwrap().clone();
    (seen, errors)
}

#[test]
fn an_application_that_ends_in_time_sees_no_error() {
    for mode in [Mode::Native, Mode::Plain] {
        let (seen, errors) = end_of_a_pod(mode, 30, Some(3000));
        assert_eq!(errors, Vec::<String>::new(), "{mode:?}");
        assert!(
            seen.hook.success() && seen.hook_lines.is_empty(),
            "{seen:?}"
        );
        // The hook held the sidecar back until the last client had left.
        assert!(!seen.was_application_running, "{seen:?}");
        assert_eq!(
            seen.sidecar.and_then(|status| status.code()),
            Some(0),
            "{seen:?}"
        );
        assert!(seen.took < Duration::from_secs(30), "{seen:?}");
    }
}

/// It goes on until it is cut off. What it was told is true nevertheless, and
/// the end is orderly, within the grace period.
#[test]
fn an_application_that_does_not_end_loses_nothing_it_was_told() {
    let grace = 8;
    let (seen, errors) = end_of_a_pod(Mode::Plain, grace, None);
    assert!(seen.hook.success(), "{seen:?}");
    assert!(
        seen.hook_lines[0].contains("8 clients are still connected after 4s"),
        "{seen:?}"
    );
    assert!(seen.was_application_running);
    assert_eq!(
        seen.sidecar.and_then(|status| status.code()),
        Some(0),
        "{seen:?}"
    );
    assert!(seen.took < Duration::from_secs(grace), "{seen:?}");
    // Each client saw the end of its connection, and no write that failed half.
    assert_eq!(errors.len(), CLIENTS, "{errors:?}");
    for error in &errors {
        assert!(!error.contains("UNCERTAIN"), "{errors:?}");
    }
}

/// With a native sidecar such an application is killed first, after all of the
/// grace period; the sidecar has the two seconds that a kubelet always gives.
#[test]
fn a_native_sidecar_outlives_an_application_that_does_not_end() {
    let (seen, errors) = end_of_a_pod(Mode::Native, 5, None);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        seen.sidecar.and_then(|status| status.code()),
        Some(0),
        "{seen:?}"
    );
    assert!(seen.took < Duration::from_secs(5) + LEAST_GRACE, "{seen:?}");
}

#[test]
fn the_hook_ends_where_nobody_is_or_nothing_answers() {
    let redis = Redis::start();
    let mut sidecar = Sidecar::start(&redis);
    let hook = |port: u16| {
        let mut command = Command::new(binary());
        let output = command
            .args([
                "kube",
                "drain",
                "--wait",
                "20s",
                "--admin",
                &format!("127.0.0.1:{port}"),
            ])
            .output();
        let output = output.unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    // Nobody is connected.
    let start = Instant::now();
    assert_eq!(hook(sidecar.admin_port()), (Some(0), String::new()));
    assert!(start.elapsed() < Duration::from_secs(10));
    // Something else listens there.
    let (code, text) = hook(redis.port());
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains(&format!("ask 127.0.0.1:{} for its clients", redis.port())),
        "{text}"
    );
    // It has ended.
    let port = sidecar.admin_port();
    assert!(sidecar.stop().success());
    assert_eq!(hook(port), (Some(0), String::new()));
}
