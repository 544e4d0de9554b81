//! Apache Kafka itself, without ZooKeeper: one broker, or several, on free
//! loopback ports and in a directory of their own. Every node is broker and
//! controller. What they print is in memory, and shown where a test fails.

use std::fmt::Write as _;
use std::hash::BuildHasher;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use tempfile::TempDir;

use super::process::{Process, Signal, free_port};
use super::wait::until;

/// How many sets of ports are tried before a start is given up.
const START_ATTEMPTS: usize = 5;
/// Seconds where nothing else runs; a busy machine takes ten times as long.
const START_DEADLINE: Duration = Duration::from_secs(180);
/// An orderly end hands leaderships over first.
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// How long one question to a broker may take before it is asked again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the cluster may take to do what it was asked for.
const ADMIN_DEADLINE: Duration = Duration::from_secs(60);
/// So many last lines of a broker are shown.
const TAIL_LINES: usize = 40;

type Admin = AdminClient<DefaultClientContext>;

/// One broker: a cluster of one.
pub struct Kafka(Cluster);

impl Kafka {
    /// A broker that accepts when this returns.
    pub fn start() -> Kafka {
        Kafka(Cluster::with(1, "-Xmx512m", false))
    }

    /// One that also listens with TLS and SASL: user `wal`, password `hush`, by
    /// PLAIN and SCRAM-SHA-512; OAUTHBEARER with unsecured tokens.
    pub fn start_secured() -> Kafka {
        Kafka(Cluster::with(1, "-Xmx512m", true))
    }

    /// Where it listens with TLS and SASL.
    pub fn secured_bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.0.nodes[0].secured_port)
    }

    /// The certificate to trust, as PEM.
    pub fn certificate(&self) -> PathBuf {
        self.0.directory.path().join("certificate.pem")
    }
}

impl Deref for Kafka {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl DerefMut for Kafka {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.0
    }
}

/// Running brokers, counted from 0 (`node.id` is one more). Dropped, they are
/// killed and their directories removed.
pub struct Cluster {
    nodes: Vec<Node>,
    directory: TempDir,
    id: String,
    heap: &'static str,
    is_secured: bool,
}

struct Node {
    id: usize,
    port: u16,
    controller_port: u16,
    secured_port: u16,
    directory_id: String,
    running: Option<Running>,
    earlier_lines: Vec<String>,
}

/// A broker's process. The guard is the first to go: once the broker has
/// ended, its process id may be a stranger's.
struct Running {
    guard: Guard,
    process: Process,
}

impl Cluster {
    /// That many brokers; all of them accept and know of each other when this returns.
    pub fn start(brokers: usize) -> Cluster {
        Cluster::with(brokers, "-Xmx384m", false)
    }

    fn with(brokers: usize, heap: &'static str, is_secured: bool) -> Cluster {
        for _ in 0..START_ATTEMPTS {
            let mut cluster = Cluster::new(brokers, heap);
            cluster.is_secured = is_secured;
            if is_secured {
                cluster.make_certificate();
            }
            cluster.format();
            for node in 0..brokers {
                cluster.spawn(node);
            }
            if (0..brokers).all(|node| cluster.accepts(node)) {
                return cluster;
            }
        }
        panic!("Apache Kafka did not start on any of {START_ATTEMPTS} sets of ports");
    }

    fn new(brokers: usize, heap: &'static str) -> Cluster {
        let ports: Vec<u16> = (0..3 * brokers).map(|_| free_port()).collect();
        let nodes = ports.chunks_exact(3).zip(1..).map(|(ports, id)| Node {
            id,
            port: ports[0],
            controller_port: ports[1],
            secured_port: ports[2],
            directory_id: random_uuid(),
            running: None,
            earlier_lines: Vec::new(),
        });
        Cluster {
            nodes: nodes.collect(),
            directory: TempDir::new().expect("a temporary directory"),
            id: random_uuid(),
            heap,
            is_secured: false,
        }
    }

    /// A key for 127.0.0.1, and its certificate.
    fn make_certificate(&self) {
        let store = self.directory.path().join("key.p12");
        let keytool = |arguments: &[&str]| {
            let status = Command::new("keytool")
                .args(arguments)
                .args(["-alias", "broker", "-storepass", "password"])
                .arg("-keystore")
                .arg(&store)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .expect("keytool comes with Java");
            assert!(status.success(), "keytool: {status}");
        };
        keytool(&[
            "-genkeypair",
            "-keyalg",
            "EC",
            "-storetype",
            "PKCS12",
            "-dname",
            "CN=broker",
            "-ext",
            "SAN=ip:127.0.0.1",
        ]);
        let certificate = self.directory.path().join("certificate.pem");
        let certificate = certificate.to_str().expect("a path in UTF-8");
        keytool(&["-exportcert", "-rfc", "-file", certificate]);
    }

    /// `bootstrap.servers`: every broker's address, those that do not run too.
    pub fn bootstrap(&self) -> String {
        join(&self.nodes, |node| format!("127.0.0.1:{}", node.port))
    }

    /// How many brokers it has.
    pub fn brokers(&self) -> usize {
        self.nodes.len()
    }

    /// SIGKILL.
    pub fn kill(&mut self, node: usize) {
        let Some(mut running) = self.nodes[node].running.take() else {
            return;
        };
        drop(running.guard);
        running.process.kill();
        self.nodes[node]
            .earlier_lines
            .extend(running.process.lines());
    }

    /// SIGTERM, and waits for the end. A majority of the nodes has to run:
    /// without it an orderly end never comes.
    pub fn stop(&mut self, node: usize) {
        let Some(mut running) = self.nodes[node].running.take() else {
            return;
        };
        drop(running.guard);
        running.process.signal(Signal::Term);
        running.process.wait(STOP_DEADLINE);
        self.nodes[node]
            .earlier_lines
            .extend(running.process.lines());
    }

    /// Starts it again on the same ports and directory after `kill` or `stop`;
    /// it accepts when this returns.
    pub fn restart(&mut self, node: usize) {
        self.kill(node);
        self.spawn(node);
        assert!(self.accepts(node), "broker {node} gets its own ports back");
    }

    /// Starts all that do not run; all accept when this returns.
    pub fn restart_all(&mut self) {
        let stopped: Vec<usize> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].running.is_none())
            .collect();
        // Alone, none of them would accept.
        for node in &stopped {
            self.spawn(*node);
        }
        for node in stopped {
            assert!(self.accepts(node), "broker {node} gets its own ports back");
        }
    }

    /// Sends a running broker a signal.
    pub fn signal(&self, node: usize, signal: Signal) {
        let running = self.nodes[node].running.as_ref();
        running.expect("it runs").process.signal(signal);
    }

    /// From now on a broker can't write beyond so many bytes of any file, as if
    /// its disk were full.
    pub fn limit_file_size(&self, node: usize, bytes: u64) {
        let running = self.nodes[node].running.as_ref().expect("it runs");
        let status = Command::new("prlimit")
            .arg(format!("--pid={}", running.process.id()))
            .arg(format!("--fsize={bytes}"))
            .status()
            .expect("prlimit is part of every Debian");
        assert!(status.success(), "prlimit: {status}");
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) {
        let options = AdminOptions::new()
            .request_timeout(Some(ADMIN_DEADLINE))
            .operation_timeout(Some(ADMIN_DEADLINE));
        let admin = admin(&self.bootstrap());
        let deleted = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime without drivers")
            .block_on(admin.delete_topics(&[name], &options))
            .unwrap_or_else(|error| panic!("delete topic {name}: {error}"));
        for result in deleted {
            result.unwrap_or_else(|(_, error)| panic!("delete topic {name}: {error}"));
        }
    }

    /// Each partition's first replica leads it again.
    pub fn elect_preferred_leaders(&self) {
        let mut command = java("-Xmx128m");
        command
            .arg("org.apache.kafka.tools.LeaderElectionCommand")
            .args(["--bootstrap-server", &self.bootstrap()])
            .args(["--election-type", "preferred", "--all-topic-partitions"]);
        let mut tool = Process::start("Apache Kafka's election tool", &mut command);
        let status = tool.wait(ADMIN_DEADLINE);
        assert!(status.success(), "elect: {}", tool.lines().join("\n"));
    }

    /// The broker that leads a partition, by what the rest know: just after
    /// `kill` that may still be the one that was killed.
    pub fn leader_of(&self, topic: &str, partition: i32) -> usize {
        let admin = admin(&self.bootstrap());
        until("a leader", ADMIN_DEADLINE, || {
            let metadata = admin.inner().fetch_metadata(Some(topic), REQUEST_TIMEOUT);
            let metadata = metadata.ok()?;
            let partitions = metadata.topics().first()?.partitions();
            let found = partitions.iter().find(|one| one.id() == partition)?;
            usize::try_from(found.leader()).ok()?.checked_sub(1)
        })
    }

    /// Creates a topic with `configs` (`[("min.insync.replicas", "2")]`); all
    /// replicas of all partitions are in sync when this returns.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replication: i32,
        configs: &[(&str, &str)],
    ) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replication));
        topic.config.extend_from_slice(configs);
        let options = AdminOptions::new()
            .request_timeout(Some(ADMIN_DEADLINE))
            .operation_timeout(Some(ADMIN_DEADLINE));
        let admin = admin(&self.bootstrap());
        let created = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime without drivers")
            .block_on(admin.create_topics([&topic], &options))
            .unwrap_or_else(|error| panic!("create topic {name}: {error}"));
        for result in created {
            result.unwrap_or_else(|(_, error)| panic!("create topic {name}: {error}"));
        }
        until("all replicas to be in sync", ADMIN_DEADLINE, || {
            let metadata = admin.inner().fetch_metadata(Some(name), REQUEST_TIMEOUT);
            let metadata = metadata.ok()?;
            let found = metadata.topics().first()?.partitions();
            let wanted = (partitions as usize, replication as usize);
            let in_sync =
                |count| found.len() == count && found.iter().all(|one| one.isr().len() == wanted.1);
            in_sync(wanted.0).then_some(())
        });
    }

    /// What a broker printed so far, of all its incarnations.
    pub fn lines(&self, node: usize) -> Vec<String> {
        let node = &self.nodes[node];
        let mut lines = node.earlier_lines.clone();
        if let Some(running) = &node.running {
            lines.extend(running.process.lines());
        }
        lines
    }

    /// Writes the configurations, and what a directory has to hold before a
    /// first start; the nodes' at the same time, as each is a JVM.
    fn format(&self) {
        let controllers = join(&self.nodes, |node| {
            let (id, port) = (node.id, node.controller_port);
            format!("{id}@127.0.0.1:{port}:{}", node.directory_id)
        });
        let tools = self.nodes.iter().map(|node| {
            let file = self.properties(node);
            std::fs::write(&file, self.configuration(node)).expect("write the configuration");
            let mut command = java("-Xmx128m");
            command
                .args(["kafka.tools.StorageTool", "format", "-t", &self.id])
                .args(["--initial-controllers", &controllers, "-c"])
                .arg(file);
            if self.is_secured {
                command.args(["--add-scram", "SCRAM-SHA-512=[name=wal,password=hush]"]);
            }
            Process::start("Apache Kafka's storage tool", &mut command)
        });
        // Collected first: all of them run before one is waited for.
        for mut tool in tools.collect::<Vec<_>>() {
            let status = tool.wait(START_DEADLINE);
            assert!(status.success(), "format: {}", tool.lines().join("\n"));
        }
    }

    fn configuration(&self, node: &Node) -> String {
        let (id, port, controller_port) = (node.id, node.port, node.controller_port);
        let controllers = join(&self.nodes, |node| {
            format!("127.0.0.1:{}", node.controller_port)
        });
        let data = self.directory.path().join(format!("data-{id}"));
        let replication = self.nodes.len().min(3);
        let in_sync = replication.div_ceil(2);
        let mut text = format!(
            "process.roles=broker,controller\nnode.id={id}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
             controller.listener.names=CONTROLLER\n\
             controller.quorum.bootstrap.servers={controllers}\n\
             log.dirs={}\n\
             auto.create.topics.enable=false\n\
             group.initial.rebalance.delay.ms=0\n\
             broker.session.timeout.ms=4000\nbroker.heartbeat.interval.ms=500\n",
            data.display()
        );
        if self.is_secured {
            self.secure(node, &mut text);
        }
        for topic in [
            "offsets.topic",
            "transaction.state.log",
            "share.coordinator.state.topic",
        ] {
            writeln!(text, "{topic}.replication.factor={replication}").expect("memory");
            writeln!(text, "{topic}.num.partitions=2").expect("memory");
        }
        for topic in ["transaction.state.log", "share.coordinator.state.topic"] {
            writeln!(text, "{topic}.min.isr={in_sync}").expect("memory");
        }
        text
    }

    fn secure(&self, node: &Node, text: &mut String) {
        const MODULES: &str = "org.apache.kafka.common.security";
        let store = self.directory.path().join("key.p12");
        *text = text.replace(
            "\ncontroller.listener.names",
            &format!(
                ",SASL_SSL://127.0.0.1:{}\ncontroller.listener.names",
                node.secured_port
            ),
        );
        writeln!(
            text,
            "inter.broker.listener.name=PLAINTEXT\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL\n\
             ssl.keystore.type=PKCS12\nssl.keystore.location={}\nssl.keystore.password=password\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER",
            store.display()
        )
        .expect("memory");
        for (mechanism, module) in [
            ("plain", "plain.PlainLoginModule required user_wal=\"hush\""),
            ("scram-sha-512", "scram.ScramLoginModule required"),
            (
                "oauthbearer",
                "oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"x\"",
            ),
        ] {
            writeln!(
                text,
                "listener.name.sasl_ssl.{mechanism}.sasl.jaas.config={MODULES}.{module};"
            )
            .expect("memory");
        }
    }

    fn properties(&self, node: &Node) -> PathBuf {
        let name = format!("broker-{}.properties", node.id);
        self.directory.path().join(name)
    }

    fn spawn(&mut self, node: usize) {
        let mut command = java(self.heap);
        command
            .arg("kafka.Kafka")
            .arg(self.properties(&self.nodes[node]));
        let process = Process::start(&format!("broker {node}"), &mut command);
        let guard = Guard::over(process.id());
        self.nodes[node].running = Some(Running { guard, process });
    }

    /// Waits until a broker says that it is one of this cluster's. False where
    /// one of the nodes ended because a port was taken meanwhile; any other
    /// reason to end panics.
    fn accepts(&mut self, node: usize) -> bool {
        let id = self.nodes[node].id as i32;
        let admin = admin(&format!("127.0.0.1:{}", self.nodes[node].port));
        until("a broker to accept", START_DEADLINE, || {
            for other in 0..self.nodes.len() {
                if self.port_taken(other) {
                    return Some(false);
                }
            }
            let metadata = admin.inner().fetch_metadata(None, REQUEST_TIMEOUT).ok()?;
            metadata.brokers().iter().find(|broker| broker.id() == id)?;
            // A stranger on the same port would have answered too.
            let cluster = admin.inner().fetch_cluster_id(REQUEST_TIMEOUT)?;
            (cluster == self.id).then_some(true)
        })
    }

    fn port_taken(&mut self, node: usize) -> bool {
        let Some(running) = &mut self.nodes[node].running else {
            return false;
        };
        if running.process.ended().is_none() {
            return false;
        }
        running.process.wait(STOP_DEADLINE);
        let lines = running.process.lines().join("\n");
        assert!(
            lines.contains("Address already in use"),
            "broker {node} ended before it accepted"
        );
        true
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..self.nodes.len() {
            if std::thread::panicking() {
                // The test has failed already: this may tell why.
                let lines = self.lines(node);
                let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
                println!("broker {node}'s last lines:\n{}", tail.join("\n"));
            }
            // Dropping a process kills it: nothing here may panic.
            drop(self.nodes[node].running.take());
        }
    }
}

/// A shell that kills a broker once this process has ended, in whatever way:
/// its standard input ends then.
struct Guard(Child);

impl Guard {
    fn over(process: u32) -> Guard {
        // What a terminal sends to all of them must not end the shell first.
        let script = "trap '' INT TERM HUP; read -r _; kill -KILL \"$1\"";
        let shell = Command::new("sh")
            .args(["-c", script, "sh", &process.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Guard(shell.expect("every system has a shell"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A JVM with Kafka's libraries. They are where `KAFKA_LIBRARIES` says, or
/// where `scripts/test` puts them.
fn java(heap: &str) -> Command {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libraries = std::env::var_os("KAFKA_LIBRARIES")
        .map_or_else(|| checkout.join(".cache/kafka/lib"), PathBuf::from);
    assert!(
        libraries.is_dir(),
        "no Apache Kafka in {}: run scripts/test, which fetches it",
        libraries.display()
    );
    let log = checkout.join("tests/kafka/log4j2.xml");
    let mut command = Command::new("java");
    command
        // Brokers of tests live for seconds: better compiled soon than well.
        .args([heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg(format!("-Dlog4j2.configurationFile={}", log.display()))
        .arg("-cp")
        .arg(libraries.join("*"));
    command
}

fn admin(bootstrap: &str) -> Admin {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "200")
        .create()
        .expect("a client is made without asking a broker")
}

/// 16 bytes the way Kafka writes them. The first bit is 0: a leading `-` would
/// be taken for an option.
fn random_uuid() -> String {
    let mut bytes = [0; 16];
    for half in bytes.chunks_exact_mut(8) {
        let random = std::hash::RandomState::new().hash_one(0);
        half.copy_from_slice(&random.to_be_bytes());
    }
    bytes[0] &= 0x7f;
    URL_SAFE_NO_PAD.encode(bytes)
}

fn join(nodes: &[Node], text: impl Fn(&Node) -> String) -> String {
    nodes.iter().map(text).collect::<Vec<_>>().join(",")
}
