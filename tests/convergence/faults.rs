//! What fails while clients write.

use std::fmt;
use std::time::{Duration, Instant};

use super::support::line::Manner;
use super::support::process::Signal;
use super::support::{Cluster, Random, Sidecar, until};
use super::world::{Region, World};

/// Between two faults, at most.
const INTERVAL: usize = 3000;

/// A datastore is paused for so long, at most, in milliseconds.
const PAUSE: usize = 1500;

/// A process stands still for so long, at most, in milliseconds: others take it for
/// dead after five seconds.
const FREEZE: usize = 3000;

/// A line within a region is stalled for so long at most: a journal of the own region
/// that can't be read for over 20 s has counters differ from what was counted, see
/// docs/replication.md, Limits.
const OWN_STALL: Duration = Duration::from_secs(8);

/// One fault of so many is the loss of a broker, which takes long to come back.
const BROKER_OF: usize = 10;

/// Longer than any wait here.
const DEADLINE: Duration = Duration::from_secs(60);

/// How often it is told how it goes.
const REPORT: Duration = Duration::from_secs(60);

/// Makes things fail, one at a time.
pub struct Faults {
    random: Random,
    kills: u64,
    handovers: u64,
    freezes: u64,
    cuts: u64,
    stalls: u64,
    pauses: u64,
    restarts: u64,
    brokers: u64,
    longest_handover: Duration,
    /// Lines within a region that are stalled: of which, and since when.
    own_stalled: Vec<(usize, usize, Instant)>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sidecars killed, {} replicators (the longest time without one: {:.1} s), \
             {} stood still, {} links cut, {} stalled, {} datastores paused, {} killed, \
             {} brokers",
            self.kills,
            self.handovers,
            self.longest_handover.as_secs_f64(),
            self.freezes,
            self.cuts,
            self.stalls,
            self.pauses,
            self.restarts,
            self.brokers
        )
    }
}

impl Faults {
    pub fn new(random: Random) -> Faults {
        Faults {
            random,
            kills: 0,
            handovers: 0,
            freezes: 0,
            cuts: 0,
            stalls: 0,
            pauses: 0,
            restarts: 0,
            brokers: 0,
            longest_handover: Duration::ZERO,
            own_stalled: Vec::new(),
        }
    }

    /// Goes on for so long.
    pub fn run(&mut self, world: &mut World, time: Duration) {
        let started = Instant::now();
        let end = started + time;
        let mut told = started;
        while Instant::now() < end {
            if REPORT <= told.elapsed() {
                told = Instant::now();
                println!("after {} s: {}", started.elapsed().as_secs(), world.lag());
            }
            let pause = Duration::from_millis(self.random.below(INTERVAL) as u64);
            let next = (Instant::now() + pause).min(end);
            until("the next fault's time", DEADLINE, || {
                (next <= Instant::now()).then_some(())
            });
            if std::env::var_os("CONVERGENCE_CALM").is_some() {
                continue;
            }
            if let Some(kafka) = &mut world.kafka
                && self.random.below(BROKER_OF) == 0
            {
                self.lose_broker(kafka);
                continue;
            }
            self.end_own_stalls(world);
            let index = self.random.below(world.regions.len());
            let region = &mut world.regions[index];
            match self.random.below(7) {
                0 => self.kill(region),
                1 if !region.replicators.is_empty() => self.hand_over(region),
                2 => self.pause(region),
                3 => {
                    region.redis.kill();
                    region.redis.restart();
                    self.restarts += 1;
                }
                4 => self.freeze(region),
                _ if region.lines.is_empty() => {}
                choice => self.disturb(index, region, choice == 5),
            }
        }
    }

    /// Kills a broker; it is back after a while.
    fn lose_broker(&mut self, kafka: &mut Cluster) {
        let victim = self.random.below(kafka.brokers());
        kafka.kill(victim);
        kafka.restart(victim);
        self.brokers += 1;
    }

    fn kill(&mut self, region: &mut Region) {
        let victim = self.random.below(region.sidecars.len());
        region.sidecars[victim].kill();
        region.sidecars[victim].restart();
        self.kills += 1;
    }

    /// A process stands still, and goes on as if nothing was.
    fn freeze(&mut self, region: &Region) {
        let all: Vec<&Sidecar> = region.sidecars.iter().chain(&region.replicators).collect();
        let victim = self.random.pick(&all);
        let time = Duration::from_millis(1 + self.random.below(FREEZE) as u64);
        victim.signal(Signal::Stop);
        std::thread::park_timeout(time);
        victim.signal(Signal::Continue);
        self.freezes += 1;
    }

    fn pause(&mut self, region: &Region) {
        let time = (1 + self.random.below(PAUSE)).to_string();
        let mode = *self.random.pick(&["WRITE", "ALL"]);
        let reply = region
            .redis
            .client()
            .command(&["CLIENT", "PAUSE", &time, mode]);
        assert_eq!(reply, b"+OK\r\n");
        self.pauses += 1;
    }

    fn end_own_stalls(&mut self, world: &World) {
        self.own_stalled.retain(|&(region, line, since)| {
            let is_to_go_on = since.elapsed() < OWN_STALL;
            if !is_to_go_on {
                let line = &world.regions[region].lines[line];
                line.set(Manner::Pass);
                line.cut();
            }
            is_to_go_on
        });
    }

    fn disturb(&mut self, index: usize, region: &Region, is_stalled: bool) {
        let at = self.random.below(region.lines.len());
        let line = &region.lines[at];
        if region.own_lines.contains(&at) {
            self.own_stalled.push((index, at, Instant::now()));
        }
        match is_stalled {
            true => {
                // The next fault may be long in coming: cuts and later stalls end it.
                let manner = *self
                    .random
                    .pick(&[Manner::Stall, Manner::Pass, Manner::Trickle]);
                line.set(manner);
                self.stalls += 1;
            }
            false => {
                line.set(Manner::Pass);
                line.cut();
                self.cuts += 1;
            }
        }
    }

    /// Kills the replicator that leads: the other one takes over.
    fn hand_over(&mut self, region: &mut Region) {
        let leads = |one: &Sidecar| one.metric("wal_sidecar_replication_leading", "") == 1.0;
        let victim = until("one to lead", DEADLINE, || {
            region.replicators.iter().position(leads)
        });
        region.replicators[victim].kill();
        let since = Instant::now();
        let other = 1 - victim;
        until("the other one to lead", DEADLINE, || {
            leads(&region.replicators[other]).then_some(())
        });
        self.longest_handover = self.longest_handover.max(since.elapsed());
        self.handovers += 1;
        region.replicators[victim].restart();
    }

    /// All works again.
    pub fn heal(&mut self, world: &mut World) {
        for region in &world.regions {
            for line in &region.lines {
                line.set(Manner::Pass);
            }
            let reply = region.redis.client().command(&["CLIENT", "UNPAUSE"]);
            assert_eq!(reply, b"+OK\r\n");
        }
    }
}
