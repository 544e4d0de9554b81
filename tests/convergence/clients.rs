//! Clients that write all the time, and remember what they were answered.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::support::resp::encode;
use super::support::{Client, Random};
use super::world::World;
use super::{commands, number_from};

/// Keys that are only counted up, and those that are only set.
const SPECIAL: usize = 3;

/// Commands sent at once, at most.
const PIPELINE: usize = 10;

/// Between two batches of a client, in milliseconds, where nothing else is said.
const PACE_MS: u64 = 4;

/// Errors that say so.
const NOT_DONE: [&[u8]; 3] = [b"-NOTJOURNALED", b"-LOADING", b"-EXECABORT"];

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Success.
    Done,
    /// It was not done, for sure: it is not journaled, a watched key was changed, or
    /// the datastore was not ready.
    NotDone,
    /// Another error.
    Error,
    /// Nothing.
    Lost,
}

/// A command that was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    pub arguments: Vec<String>,
    /// Through which region.
    pub region: usize,
    pub began: Duration,
    pub ended: Duration,
    pub answer: Answer,
}

pub struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Sent>>>,
}

impl Clients {
    /// That many of each sidecar.
    pub fn start(world: &World, count: usize, random: &mut Random) -> Clients {
        let stop = Arc::<AtomicBool>::default();
        let started = Instant::now();
        let mut threads = Vec::new();
        for (region, of_region) in world.regions.iter().enumerate() {
            for sidecar in &of_region.sidecars {
                for _ in 0..count {
                    let writer = Writer {
                        name: format!("c{}", threads.len()),
                        port: sidecar.port(),
                        region,
                        random: Random::new(random.next()),
                        started,
                        sent: Vec::new(),
                    };
                    let stop = Arc::clone(&stop);
                    threads.push(std::thread::spawn(move || writer.run(&stop)));
                }
            }
        }
        Clients { stop, threads }
    }

    /// Ends them; what they have sent, in the order it began.
    pub fn stop(self) -> Vec<Sent> {
        self.stop.store(true, Ordering::SeqCst);
        let threads = self.threads.into_iter();
        let mut sent: Vec<Sent> = threads
            .flat_map(|thread| thread.join().expect("clients do not panic"))
            .collect();
        sent.sort_by_key(|one| one.began);
        sent
    }
}

struct Writer {
    name: String,
    port: u16,
    region: usize,
    random: Random,
    started: Instant,
    sent: Vec<Sent>,
}

impl Writer {
    fn run(mut self, stop: &AtomicBool) -> Vec<Sent> {
        let pace = Duration::from_millis(number_from("CONVERGENCE_PACE_MS").unwrap_or(PACE_MS));
        let mut client = None;
        while !stop.load(Ordering::SeqCst) {
            // Nobody wakes it: so it is paced, as a client that has other work.
            std::thread::park_timeout(pace);
            let Some(connected) = client
                .take()
                .or_else(|| Client::try_connect(self.port).ok())
            else {
                continue;
            };
            client = self.exchange(connected);
        }
        self.sent
    }

    /// Sends a few commands and takes their replies; the connection, if it is left.
    fn exchange(&mut self, mut client: Client) -> Option<Client> {
        let commands = self.batch();
        let bytes: Vec<u8> = commands.iter().flat_map(|one| encode(one)).collect();
        let began = self.started.elapsed();
        let is_transaction = ["WATCH", "MULTI"].contains(&commands[0][0].as_str());
        let first = self.sent.len();
        let mut is_there = client.stream().write_all(&bytes).is_ok();
        for arguments in commands {
            let reply = match is_there {
                true => client.try_reply().ok(),
                false => None,
            };
            is_there &= reply.is_some();
            let is_exec = arguments[0] == "EXEC";
            let answer = match reply {
                None => Answer::Lost,
                Some(reply) if is_exec && reply == b"*-1\r\n" => Answer::NotDone,
                Some(reply) if NOT_DONE.iter().any(|one| reply.starts_with(one)) => Answer::NotDone,
                Some(reply) if reply.starts_with(b"-") => Answer::Error,
                Some(_) => Answer::Done,
            };
            self.sent.push(Sent {
                arguments,
                region: self.region,
                began,
                ended: self.started.elapsed(),
                answer,
            });
        }
        if is_transaction && let Some(Sent { ended, answer, .. }) = self.sent.last().cloned() {
            // What was queued is done with the last of them or not at all.
            for one in &mut self.sent[first..] {
                (one.ended, one.answer) = (ended, answer);
            }
        }
        is_there.then_some(client)
    }

    fn batch(&mut self) -> Vec<Vec<String>> {
        let count = match self.random.below(2) {
            0 => 1,
            _ => 1 + self.random.below(PIPELINE),
        };
        let mut commands: Vec<Vec<String>> = (0..count).map(|_| self.command()).collect();
        if self.random.below(8) == 0 && std::env::var_os("CONVERGENCE_SINGLE").is_none() {
            if self.random.below(2) == 0 {
                let key = commands[0].get(1).cloned().unwrap_or_default();
                commands.insert(0, vec!["WATCH".to_owned(), key]);
            }
            let at = usize::from(commands[0][0] == "WATCH");
            commands.insert(at, vec!["MULTI".to_owned()]);
            commands.push(vec!["EXEC".to_owned()]);
        }
        commands
    }

    fn command(&mut self) -> Vec<String> {
        let random = &mut self.random;
        let number = random.below(SPECIAL);
        match random.below(10) {
            0 => {
                let by = 1 + random.below(9);
                ["INCRBY", &format!("count:{number}"), &by.to_string()].map(str::to_owned)
            }
            1 => {
                let value = format!("{}-{}", self.name, random.next());
                ["SET", &format!("last:{number}"), &value].map(str::to_owned)
            }
            _ => return commands::command(random),
        }
        .to_vec()
    }
}

/// Counts, for people.
pub fn summary(sent: &[Sent]) -> String {
    let count = |answer| sent.iter().filter(|one| one.answer == answer).count();
    format!(
        "{} commands: {} done, {} surely not done, {} errors, {} lost",
        sent.len(),
        count(Answer::Done),
        count(Answer::NotDone),
        count(Answer::Error),
        count(Answer::Lost)
    )
}
