//! The regions and what is between them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::support::line::Line;
use super::support::process::free_port;
use super::support::{Cluster, Redis, RedisOptions, Sidecar, SidecarOptions};
use super::verdict::NOT_APPLIED;

/// Where snapshots and a writer's records are in different partitions.
pub const PARTITIONS: i32 = 4;

/// What is logged of a topic that was deleted and made again.
const MADE_AGAIN: [&str; 2] = [
    "a journal was begun anew",
    "a topic ends before what was applied of it",
];

/// Sidecars of a region whose journal is a topic.
const SIDECARS: usize = 2;

pub struct Region {
    pub name: String,
    pub redis: Redis,
    /// What clients write through.
    pub sidecars: Vec<Sidecar>,
    /// Those that are processes of their own.
    pub replicators: Vec<Sidecar>,
    /// The links to the journals that are served by the other regions.
    pub lines: Vec<Line>,
    /// Which of them are within the region.
    pub own_lines: Vec<usize>,
}

impl Region {
    /// The process that leads, or may; all have to run.
    pub fn leader(&self) -> &Sidecar {
        let leads = |one: &&Sidecar| one.metric("wal_sidecar_replication_leading", "") == 1.0;
        let all = || self.replicators.iter().chain(&self.sidecars);
        let mut leading = all().filter(leads);
        leading.next().or_else(|| all().next()).expect("one")
    }

    /// The sum of a metric over all processes.
    pub fn metric(&self, name: &str) -> f64 {
        self.metric_with(name, "")
    }

    fn metric_with(&self, name: &str, labels: &str) -> f64 {
        let all = self.replicators.iter().chain(&self.sidecars);
        all.map(|one| one.metric(name, labels)).sum()
    }
}

/// The links go first: what they connect ends meanwhile.
pub struct World {
    pub regions: Vec<Region>,
    pub kafka: Option<Cluster>,
    _passing: Passing,
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("r{index}")).collect()
}

/// The topic of a region.
pub fn topic(region: &str) -> String {
    format!("wal-sidecar.{region}.test")
}

/// A thread that passes on what goes over the links.
struct Passing {
    handle: Handle,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Passing {
    fn start() -> Passing {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (handle, stop) = (runtime.handle().clone(), Arc::<Notify>::default());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || runtime.block_on(stopped.notified()));
        Passing {
            handle,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}

/// One whose data outlives SIGKILL.
pub fn redis(arguments: &[&str]) -> Redis {
    let mut all = vec!["--appendfsync".to_owned(), "always".to_owned()];
    all.extend(arguments.iter().map(|&one| one.to_owned()));
    Redis::with(RedisOptions {
        append_only: true,
        arguments: all,
        ..RedisOptions::default()
    })
}

impl World {
    /// Regions of one sidecar that is proxy and replicator and serves its journal.
    pub fn local(count: usize) -> World {
        World::local_with(names(count).iter().map(|_| redis(&[])).collect(), 1)
    }

    /// Regions of several such sidecars, of each of which all others read the
    /// journal.
    pub fn local_shared(count: usize, sidecars: usize) -> World {
        World::local_with(names(count).iter().map(|_| redis(&[])).collect(), sidecars)
    }

    /// The same with given datastores.
    pub fn local_with(redis: Vec<Redis>, sidecars: usize) -> World {
        World::local_of(redis.into_iter().map(|one| (one, "")).collect(), sidecars)
    }

    /// The same, each with further lines of its namespace's table.
    pub fn local_of(redis: Vec<(Redis, &str)>, sidecars: usize) -> World {
        let passing = Passing::start();
        let ports: Vec<Vec<u16>> = redis
            .iter()
            .map(|_| (0..sidecars).map(|_| free_port()).collect())
            .collect();
        let names = names(redis.len());
        let mut regions = Vec::new();
        for (index, (redis, namespace)) in redis.into_iter().enumerate() {
            let (mut lines, mut own_lines) = (Vec::new(), Vec::new());
            let mut started = Vec::new();
            for own in &ports[index] {
                let mut tables = String::new();
                let others = ports
                    .iter()
                    .enumerate()
                    .flat_map(|(region, ports)| ports.iter().map(move |port| (region, port)))
                    .filter(|(_, port)| *port != own);
                for (other, port) in others {
                    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
                    let line = passing.handle.block_on(Line::to(target));
                    tables += &format!(
                        "[[replication.source]]\nregion = \"{}\"\njournal = \"wal://{}\"\n",
                        names[other],
                        line.address()
                    );
                    if other == index {
                        own_lines.push(lines.len());
                    }
                    lines.push(line);
                }
                let mut options = SidecarOptions::new(&redis)
                    .region(&names[index], &["proxy", "replicator"])
                    .journal(&format!("serve = \"127.0.0.1:{own}\""))
                    .namespace(namespace)
                    .expect_error(NOT_APPLIED);
                options.tables = tables;
                started.push(Sidecar::with(options));
            }
            regions.push(Region {
                name: names[index].clone(),
                sidecars: started,
                replicators: Vec::new(),
                lines,
                own_lines,
                redis,
            });
        }
        World {
            regions,
            kafka: None,
            _passing: passing,
        }
    }

    /// Regions of several sidecars that share a topic, and two replicators.
    pub fn kafka(kafka: Cluster, count: usize) -> World {
        let replicas = kafka.brokers().min(3);
        World::kafka_of(kafka, count, replicas)
    }

    /// The same; what clients write is on this disk first, and shipped.
    pub fn spool(kafka: Cluster, count: usize) -> World {
        let replicas = kafka.brokers().min(3);
        World::kafka_with(kafka, count, replicas, "spool")
    }

    /// The same; each partition of the topics is on so many brokers.
    pub fn kafka_of(kafka: Cluster, count: usize, replicas: usize) -> World {
        World::kafka_with(kafka, count, replicas, "kafka")
    }

    fn kafka_with(kafka: Cluster, count: usize, replicas: usize, backend: &str) -> World {
        let names = names(count);
        for name in &names {
            let in_sync = replicas.div_ceil(2).to_string();
            let configs = [("min.insync.replicas", in_sync.as_str())];
            kafka.create_topic(&topic(name), PARTITIONS, replicas as i32, &configs);
        }
        let start = |name: &String| {
            let redis = redis(&[]);
            let options = |role| {
                SidecarOptions::new(&redis)
                    .region(name, &[role])
                    .backend(backend)
                    .journal(&format!("brokers = {:?}", kafka.bootstrap()))
                    .expect_error(NOT_APPLIED)
                    .expect_error(MADE_AGAIN[0])
                    .expect_error(MADE_AGAIN[1])
            };
            let tables = |other: &String| {
                format!(
                    "[[replication.source]]\nregion = \"{other}\"\njournal = \"kafka://{}\"\n",
                    kafka.bootstrap()
                )
            };
            let others = names.iter().filter(|other| *other != name);
            let replicator = SidecarOptions {
                tables: others.map(tables).collect(),
                ..options("replicator")
            };
            let sidecars = (0..SIDECARS).map(|_| Sidecar::with(options("proxy")));
            let replicators = (0..2).map(|_| Sidecar::with(replicator.clone()));
            Region {
                name: name.clone(),
                sidecars: sidecars.collect(),
                replicators: replicators.collect(),
                lines: Vec::new(),
                own_lines: Vec::new(),
                redis,
            }
        };
        World {
            regions: names.iter().map(start).collect(),
            kafka: Some(kafka),
            _passing: Passing::start(),
        }
    }

    /// How far the regions are behind each other, for people.
    pub fn lag(&self) -> String {
        let lag = |region: &Region| {
            let seconds = region.metric("wal_sidecar_replication_lag_seconds");
            format!("{} {seconds:.1} s behind", region.name)
        };
        self.regions.iter().map(lag).collect::<Vec<_>>().join(", ")
    }

    /// What replicators have counted.
    pub fn print_metrics(&self) {
        for region in &self.regions {
            print!("{}:", region.name);
            for name in [
                "applied_records",
                "skipped_records",
                "conflicts",
                "snapshots",
                "races",
                "copies",
                "dead_letters",
            ] {
                let value = region.metric(&format!("wal_sidecar_replication_{name}_total"));
                print!(" {name} {value}");
            }
            print!("; snapshots for");
            for reason in [
                "conflict",
                "overlap",
                "rejected",
                "unresolved",
                "dead_writer",
                "skew",
            ] {
                let labels = format!("reason=\"{reason}\"");
                let name = "wal_sidecar_replication_snapshots_total";
                print!(" {reason} {}", region.metric_with(name, &labels));
            }
            println!();
        }
    }
}
