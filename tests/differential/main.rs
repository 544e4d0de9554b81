//! What a client sees through the sidecar is what it sees without it: random
//! commands are sent to one redis-server directly and to another one through
//! the sidecar, the replies compared byte by byte, the datasets at the end.
//!
//! Several connections take turns in lockstep, so that both servers execute
//! the same in the same order. What they send is cut into pieces at random.
//!
//! `DIFFERENTIAL_SEED` repeats a run, `DIFFERENTIAL_COMMANDS` says how many
//! commands each mode gets.

mod commands;
mod compare;
mod pair;
mod scenarios;
#[path = "../support/mod.rs"]
mod support;
mod talk;

use support::{Redis, RedisOptions, Sidecar, SidecarOptions};
use talk::Talk;

/// So many commands fit into a minute of a debug build on a busy machine.
const COMMANDS: usize = 8_000;
/// A fixed seed, so a failure comes again.
const SEED: u64 = 20_261_123;

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is not a number: {text:?}")),
        Err(_) => default,
    }
}

/// Collections tell their elements in the order they came or of their values,
/// not of a hash; and whether a client has waited long enough is looked at often.
fn redis() -> Redis {
    let arguments = "--hash-max-listpack-entries 1000000 --hash-max-listpack-value 1000000 \
                     --zset-max-listpack-entries 1000000 --zset-max-listpack-value 1000000 \
                     --set-max-intset-entries 1000000 --hz 500";
    Redis::with(RedisOptions {
        arguments: arguments.split_whitespace().map(str::to_owned).collect(),
        ..RedisOptions::default()
    })
}

fn check(connection: &str) {
    let seed = number("DIFFERENTIAL_SEED", SEED);
    let commands = number("DIFFERENTIAL_COMMANDS", COMMANDS as u64) as usize;
    println!("seed: repeat with DIFFERENTIAL_SEED={seed} DIFFERENTIAL_COMMANDS={commands}");
    let (direct, behind) = (redis(), redis());
    let sidecar = Sidecar::with(SidecarOptions::new(&behind).connection(connection));
    let mut talk = Talk::new(&direct, &behind, sidecar.port(), seed);
    // To find where datasets part: how many steps apart they are compared.
    let check_every = number("DIFFERENTIAL_CHECK_EVERY", 0) as usize;
    for step in 1.. {
        if commands <= talk.commands {
            break;
        }
        talk.step();
        if 0 < check_every && step % check_every == 0 {
            talk.check_datasets(&direct, &behind);
        }
    }
    let keys = compare::check_datasets(&mut direct.client(), &mut behind.client());
    println!(
        "{connection}: {} commands, {} replies of {} bytes compared, {keys} keys at the end: {:?}",
        talk.commands, talk.replies, talk.bytes, talk.steps
    );
}

#[test]
fn shared_connections_differ_in_nothing() {
    check("shared");
}

#[test]
fn dedicated_connections_differ_in_nothing() {
    check("dedicated");
}

fn check_scenarios(connection: &str) {
    let (direct, behind) = (redis(), redis());
    let sidecar = Sidecar::with(SidecarOptions::new(&behind).connection(connection));
    let mut failures = Vec::new();
    for scenario in scenarios::SCENARIOS {
        for server in [&direct, &behind] {
            server.client().command(&["FLUSHALL"]);
        }
        match scenarios::run(scenario, direct.port(), sidecar.port()) {
            Ok(()) => {
                compare::check_datasets(&mut direct.client(), &mut behind.client());
            }
            Err(failure) => failures.push(failure),
        }
    }
    assert!(
        failures.is_empty(),
        "{connection}: {} differ\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn scenarios_on_shared_connections_differ_in_nothing() {
    check_scenarios("shared");
}

#[test]
fn scenarios_on_dedicated_connections_differ_in_nothing() {
    check_scenarios("dedicated");
}
