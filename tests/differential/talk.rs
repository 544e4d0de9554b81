//! Several clients' conversations, random but in lockstep.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::commands::{Command, Generator, inline};
use crate::compare::{Compare, check_datasets, same, same_frames, strings};
use crate::pair::{Frames, Pair, shown};
use crate::support::resp::encode;
use crate::support::{Client, Redis, until};

/// So many clients take turns.
const CONNECTIONS: usize = 4;
/// So many of the last things a client said are shown when it fails.
const SHOWN: usize = 60;
/// No client blocks or wakes up later than this.
const BLOCKED_DEADLINE: Duration = Duration::from_secs(10);

/// Commands that block, and what wakes them. Nothing else uses these keys.
const BLOCKING: &[(&str, &str)] = &[
    ("BLPOP block 20", "RPUSH block %v %v"),
    ("BRPOP none block 20", "RPUSH block %v"),
    ("BLMOVE block %l LEFT LEFT 20", "RPUSH block %v"),
    ("BRPOPLPUSH block %l 20", "RPUSH block %v"),
    ("BLMPOP 20 1 block LEFT COUNT 2", "RPUSH block %v %v %v"),
    ("BZPOPMIN block 20", "ZADD block 1 a 2 b"),
    ("BZMPOP 20 1 block MAX", "ZADD block 1 a 2 b"),
    ("XREAD BLOCK 20000 STREAMS block $", "XADD block 1-1 a b"),
    ("BLPOP block 20", "LPUSH block %v"),
    ("BLPOP block 20", "EVAL %2 1 block %v"),
];

/// Bytes that are no command: the server complains and closes.
const INVALID: &[&str] = &[
    "*1\r\n$abc\r\n",
    "*1\r\n+OK\r\n",
    "*99999999\r\n",
    "*1\r\n$-5\r\n",
    "*1\r\n$9999999999\r\n",
    "*abc\r\n",
    "GET \"unbalanced\r\n",
    "GET 'un'balanced\r\n",
    "*2\r\n$3\r\nGET\r\n:1\r\n",
];

/// A client's state, as far as what may be said depends on it.
struct Connection {
    pair: Pair,
    /// MULTI was said.
    multi: bool,
    /// There may be subscriptions.
    subscribed: bool,
    /// Keys may be tracked.
    tracking: bool,
    /// Whether they ever were.
    tracked: bool,
    protocol: u8,
    /// Who it is may do everything.
    is_default: bool,
    said: VecDeque<String>,
}

/// What is sent at once.
struct Chunk {
    bytes: Vec<u8>,
    said: Vec<Compare>,
    /// Whether each command has one reply, that is no push.
    countable: bool,
}

pub struct Talk {
    generator: Generator,
    ports: (u16, u16),
    connections: Vec<Connection>,
    controls: (Client, Client),
    next_token: u64,
    /// How many commands were sent.
    pub commands: usize,
    /// How many replies were compared.
    pub replies: usize,
    /// How many bytes the replies had.
    pub bytes: usize,
    /// How often each kind of step was taken.
    pub steps: BTreeMap<&'static str, usize>,
}

impl Talk {
    pub fn new(direct: &Redis, behind: &Redis, sidecar: u16, seed: u64) -> Talk {
        let mut controls = (direct.client(), behind.client());
        let names = strings(&controls.0.command(&["COMMAND", "LIST"]))
            .into_iter()
            .map(|name| String::from_utf8(name).expect("names are ASCII"))
            .collect();
        let mut generator = Generator::new(seed, names);
        for client in [&mut controls.0, &mut controls.1] {
            prepare(client, &mut generator);
        }
        let ports = (direct.port(), sidecar);
        Talk {
            generator,
            ports,
            connections: (0..CONNECTIONS).map(|_| Connection::new(ports)).collect(),
            controls,
            next_token: 1,
            commands: 0,
            replies: 0,
            bytes: 0,
            steps: BTreeMap::new(),
        }
    }

    /// One client's turn.
    pub fn step(&mut self) {
        let turn = self.generator.random.below(CONNECTIONS);
        let step = match self.generator.random.below(100) {
            0 => "quit",
            1 => "invalid",
            2..5 => "blocking",
            _ => "chunk",
        };
        *self.steps.entry(step).or_default() += 1;
        match step {
            "quit" => self.end(turn, "QUIT\r\n"),
            "invalid" => {
                let bytes = *self.generator.random.pick(INVALID);
                self.end(turn, bytes);
            }
            "blocking" => self.block(turn),
            _ => self.chunk(turn),
        }
        self.drain(turn);
    }

    fn chunk(&mut self, turn: usize) {
        let is_subscribed = self.connections[turn].subscribed;
        let countable = !is_subscribed && self.generator.random.below(100) < 85;
        let mut chunk = Chunk::new(countable);
        let limit = *self.generator.random.pick(&[1, 3, 8, 40]);
        let mut replies_off = false;
        for _ in 0..1 + self.generator.random.below(limit) {
            let roll = self.generator.random.below(100);
            if roll < 15 {
                self.change_state(turn, &mut chunk, &mut replies_off);
                continue;
            }
            let exact = !countable || self.connections[turn].multi;
            let command = self.generator.command(exact);
            self.say(turn, &mut chunk, command);
        }
        let stays_open = countable && self.generator.random.below(2) == 0;
        if self.connections[turn].multi && !stays_open {
            self.say_template(turn, &mut chunk, "EXEC");
            self.connections[turn].multi = false;
        }
        let connection = &mut self.connections[turn];
        if replies_off && connection.subscribed && connection.protocol == 2 {
            // Nothing else is allowed that turns replies on.
            connection.reset();
            self.say_template(turn, &mut chunk, "RESET");
        } else if replies_off {
            self.say_template(turn, &mut chunk, "CLIENT REPLY ON");
        } else if !countable {
            // Its reply may be one to skip.
            self.say_template(turn, &mut chunk, "PING");
        }
        self.finish(turn, chunk);
    }

    /// Sends a chunk and compares what comes of it.
    fn finish(&mut self, turn: usize, mut chunk: Chunk) {
        let token = match self.connections[turn].multi {
            true => None,
            false => Some(self.sign(turn, &mut chunk)),
        };
        self.send(turn, &chunk);
        self.receive(turn, &chunk, token);
    }

    /// Ends the chunk with a command whose reply is told from all others.
    fn sign(&mut self, turn: usize, chunk: &mut Chunk) -> String {
        let token = format!("~token{}~", self.next_token);
        self.next_token += 1;
        self.say_template(turn, chunk, &format!("PING {token}"));
        token
    }

    fn send(&mut self, turn: usize, chunk: &Chunk) {
        self.commands += chunk.said.len();
        let pair = &mut self.connections[turn].pair;
        pair.send(&chunk.bytes, &mut self.generator.random);
    }

    fn receive(&mut self, turn: usize, chunk: &Chunk, token: Option<String>) {
        let count = chunk.said.len();
        let read = self.connections[turn].pair.read(|frames| match &token {
            Some(token) => frames.last().is_some_and(|last| contains(last, token)),
            None => frames.iter().filter(|frame| !is_push(frame)).count() == count,
        });
        let frames = read.unwrap_or_else(|error| self.fail(turn, &error));
        if let Err(difference) = compare(chunk, &frames) {
            self.fail(turn, &difference);
        }
        self.replies += frames.direct.len();
        self.bytes += frames.direct.iter().map(Vec::len).sum::<usize>();
    }

    /// Compares all data; shows what was said lately where it differs.
    pub fn check_datasets(&self, direct: &Redis, behind: &Redis) {
        let check = || check_datasets(&mut direct.client(), &mut behind.client());
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)) {
            for (index, connection) in self.connections.iter().enumerate() {
                println!("connection {index} said:");
                connection.show(SHOWN);
            }
            println!("the data differs after {} commands", self.commands);
            std::panic::resume_unwind(panic);
        }
    }

    fn fail(&self, turn: usize, what: &str) -> ! {
        for (index, connection) in self.connections.iter().enumerate() {
            if index != turn {
                println!("connection {index} said:");
                connection.show(10);
            }
        }
        println!("connection {turn}, the one that differs, said:");
        self.connections[turn].show(SHOWN);
        panic!("after {} commands: {what}", self.commands);
    }

    fn say(&mut self, turn: usize, chunk: &mut Chunk, command: Command) {
        let random = &mut self.generator.random;
        let as_line = match random.below(8) {
            0 => inline(&command.arguments, random),
            _ => None,
        };
        let said: Vec<String> = command
            .arguments
            .iter()
            .map(|argument| {
                argument[..argument.len().min(60)]
                    .escape_ascii()
                    .to_string()
            })
            .collect();
        let form = if as_line.is_some() { " (inline)" } else { "" };
        self.connections[turn].note(format!("{}{form}", said.join(" ")));
        chunk
            .bytes
            .extend(as_line.unwrap_or_else(|| encode(&command.arguments)));
        chunk.said.push(command.compare);
    }

    fn say_template(&mut self, turn: usize, chunk: &mut Chunk, template: &str) {
        let command = self.generator.of(template);
        self.say(turn, chunk, command);
    }

    /// Says something that makes the connection another one.
    fn change_state(&mut self, turn: usize, chunk: &mut Chunk, replies_off: &mut bool) {
        let connection = &self.connections[turn];
        let template = match (connection.multi, chunk.countable) {
            (true, _) => *self.generator.random.pick(IN_TRANSACTION),
            (false, true) => *self.generator.random.pick(CHANGES),
            (false, false) => *self.generator.random.pick(UNCOUNTED),
        };
        let connection = &mut self.connections[turn];
        let word = template.split(' ').next().unwrap_or_default();
        match word {
            "HELLO" if connection.subscribed => return,
            "HELLO" => connection.protocol = if template.contains(" 3") { 3 } else { 2 },
            // Refused if there are subscriptions, and there may be none left.
            "MULTI" if connection.subscribed && connection.protocol == 2 => return,
            "MULTI" => connection.multi = true,
            // Rarely: what is compared at the end is what is left.
            "FLUSHDB" if self.generator.random.below(10) != 0 => return,
            "EXEC" | "DISCARD" => connection.multi = false,
            "RESET" => {
                *replies_off = false;
                connection.reset();
            }
            "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" => connection.subscribed = true,
            "CLIENT" if template.starts_with("CLIENT REPLY") => {
                // With subscriptions, if there are any, it may be refused.
                let may_fail = connection.subscribed && connection.protocol == 2;
                let is_on = template.ends_with("ON") && !may_fail;
                *replies_off = !is_on && (*replies_off || template.ends_with("OFF"));
            }
            // Redis still tells of keys that were read before tracking was off
            // and on again; a link of its own that is new does not.
            "CLIENT" if template == "CLIENT TRACKING ON" => {
                if std::mem::replace(&mut connection.tracked, true) {
                    return;
                }
                connection.tracking = true;
            }
            "SPOP" => {
                // Nothing is random about the only member of a set.
                self.say_template(turn, chunk, "DEL only");
                self.say_template(turn, chunk, "SADD only %v");
            }
            _ => {}
        }
        if template.contains("AUTH") {
            connection_user(&mut self.connections[turn], template);
        }
        self.say_template(turn, chunk, template);
        if word == "SPOP" && template.contains('*') {
            self.say_template(turn, chunk, "DEL only");
        }
    }

    /// Says something, then the last thing, and reads until the end.
    fn end(&mut self, turn: usize, last: &str) {
        let mut chunk = Chunk::new(false);
        for _ in 0..self.generator.random.below(4) {
            let command = self.generator.command(true);
            self.say(turn, &mut chunk, command);
        }
        chunk.bytes.extend_from_slice(last.as_bytes());
        self.connections[turn].note(format!("and to end: {last:?}"));
        self.send(turn, &chunk);
        let mut ended = std::mem::replace(&mut self.connections[turn], Connection::new(self.ports));
        let (direct, through) = ended.pair.rest();
        if direct != through {
            ended.show(SHOWN);
            panic!(
                "at its end the client got\n{}\ninstead of\n{}",
                through.escape_ascii(),
                direct.escape_ascii()
            );
        }
        self.bytes += direct.len();
    }

    /// One client blocks, another one wakes it up, or it hangs up before.
    fn block(&mut self, turn: usize) {
        let other = (turn + 1) % CONNECTIONS;
        for at in [turn, other] {
            let mut chunk = Chunk::new(false);
            self.say_template(at, &mut chunk, "RESET");
            self.connections[at].reset();
            if self.generator.random.below(2) == 0 {
                self.say_template(at, &mut chunk, "HELLO 3");
                self.connections[at].protocol = 3;
            }
            self.say_template(at, &mut chunk, "DEL block only none");
            self.finish(at, chunk);
        }
        let (blocks, wakes) = *self.generator.random.pick(BLOCKING);
        let hangs_up = self.generator.random.below(4) == 0;
        let mut chunk = Chunk::new(true);
        for template in ["GET s0", blocks, "GET s1"] {
            self.say_template(turn, &mut chunk, template);
        }
        let token = self.sign(turn, &mut chunk);
        self.send(turn, &chunk);
        self.wait_for_blocked(1);
        if hangs_up {
            self.connections[turn] = Connection::new(self.ports);
            self.wait_for_blocked(0);
        }
        let mut wake = Chunk::new(true);
        self.say_template(other, &mut wake, wakes);
        self.say_template(other, &mut wake, "TYPE block");
        self.finish(other, wake);
        if !hangs_up {
            self.receive(turn, &chunk, Some(token));
        }
    }

    fn wait_for_blocked(&mut self, clients: usize) {
        let expected = format!("blocked_clients:{clients}\r\n");
        for client in [&mut self.controls.0, &mut self.controls.1] {
            until("the client to be blocked", BLOCKED_DEADLINE, || {
                contains(&client.command(&["INFO", "clients"]), &expected).then_some(())
            });
        }
    }

    /// Reads what the others were sent because of what one has said.
    fn drain(&mut self, turn: usize) {
        for at in 0..CONNECTIONS {
            let connection = &self.connections[at];
            let listens = connection.subscribed || connection.tracking;
            if at != turn && listens && !connection.multi {
                let chunk = Chunk::new(false);
                self.finish(at, chunk);
            }
        }
    }
}

/// What a client may do to its connection.
const CHANGES: &[&str] = &[
    "MULTI",
    "MULTI",
    "MULTI",
    "MULTI",
    "WATCH %s %l",
    "WATCH %a",
    "UNWATCH",
    "EXEC",
    "DISCARD",
    "SELECT 0",
    "SELECT 1",
    "SELECT 2",
    "SELECT 3",
    "SELECT 007",
    "HELLO 2",
    "HELLO 3",
    "HELLO 3 SETNAME %m",
    "HELLO 3 AUTH bob secret",
    "HELLO 2 AUTH default anything",
    "AUTH bob secret",
    "AUTH carol secret",
    "AUTH dave secret",
    "AUTH default anything",
    "AUTH anything",
    "RESET",
    "CLIENT TRACKING ON",
    "CLIENT TRACKING OFF",
    "CLIENT SETNAME %m",
    "CLIENT GETNAME",
    "FLUSHDB",
    "SPOP only",
    "SPOP only 1",
];

/// The same, and what makes replies more or fewer than commands.
/// Of two patterns that match one channel the hash decides which is told first.
const UNCOUNTED: &[&str] = &[
    "MULTI",
    "WATCH %s",
    "SELECT 1",
    "SELECT 0",
    "HELLO 3",
    "RESET",
    "CLIENT REPLY OFF",
    "CLIENT REPLY OFF",
    "CLIENT REPLY ON",
    "CLIENT REPLY SKIP",
    "CLIENT REPLY SKIP",
    "CLIENT REPLY SKIP",
    "SUBSCRIBE %k %k",
    "SUBSCRIBE %k",
    "PSUBSCRIBE c* d*",
    "SSUBSCRIBE %k",
    "UNSUBSCRIBE",
    "UNSUBSCRIBE %k",
    "UNSUBSCRIBE %k %k other",
    "PUNSUBSCRIBE",
    "PUNSUBSCRIBE c*",
    "SUNSUBSCRIBE",
    "PUBLISH %k %v",
    "SPUBLISH %k %v",
];

/// What a client may say to end a transaction, or within one.
const IN_TRANSACTION: &[&str] = &[
    "EXEC",
    "EXEC",
    "EXEC",
    "EXEC",
    "DISCARD",
    "MULTI",
    "WATCH %s",
    "UNWATCH",
    "SELECT 1",
    "SELECT 16",
    "SELECT 0",
    "CLIENT SETNAME %m",
    "RESET",
];

impl Chunk {
    fn new(countable: bool) -> Chunk {
        Chunk {
            bytes: Vec::new(),
            said: Vec::new(),
            countable,
        }
    }
}

impl Connection {
    fn new(ports: (u16, u16)) -> Connection {
        Connection {
            pair: Pair::connect(ports.0, ports.1),
            multi: false,
            subscribed: false,
            tracking: false,
            tracked: false,
            protocol: 2,
            is_default: true,
            said: VecDeque::new(),
        }
    }

    fn reset(&mut self) {
        self.multi = false;
        self.subscribed = false;
        self.tracking = false;
        self.protocol = 2;
        self.is_default = true;
    }

    fn note(&mut self, said: String) {
        if self.said.len() == SHOWN {
            self.said.pop_front();
        }
        self.said.push_back(said);
    }

    fn show(&self, last: usize) {
        for said in self.said.iter().skip(self.said.len().saturating_sub(last)) {
            println!("  {said}");
        }
    }
}

fn connection_user(connection: &mut Connection, template: &str) {
    connection.is_default = template.contains("anything");
}

/// Users, functions and scripts that both servers know.
fn prepare(client: &mut Client, generator: &mut Generator) {
    for line in [
        "ACL SETUSER bob on >secret ~* &* +@all",
        "ACL SETUSER carol on >secret ~s* ~l* &* +@all -@dangerous -incr -select",
        "ACL SETUSER dave on >secret ~s* &* resetchannels &c1 +@connection +@transaction +@pubsub +get +set",
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        assert_eq!(client.command(&arguments), b"+OK\r\n", "{line}");
    }
    let loaded = client.command(&["SCRIPT", "LOAD", "return redis.call('GET', KEYS[1])"]);
    generator.sha = loaded[5..45].to_vec();
    client.command(&["SET", "payload", "value"]);
    let dumped = client.command(&["DUMP", "payload"]);
    let start = dumped.iter().position(|byte| *byte == b'\n').unwrap_or(0) + 1;
    generator.payload = dumped[start..dumped.len() - 2].to_vec();
}

/// Whether both sides said the same.
fn compare(chunk: &Chunk, frames: &Frames) -> Result<(), String> {
    let (direct, through) = (&frames.direct, &frames.through);
    if same_frames(direct, through) && !chunk.countable {
        return Ok(());
    }
    let mut said = chunk.said.iter();
    for (index, (one, other)) in direct.iter().zip(through).enumerate() {
        let how = match chunk.countable && !is_push(one) {
            true => *said
                .next()
                .ok_or_else(|| format!("more replies than commands:\n  {}", shown(direct)))?,
            false => Compare::Exact,
        };
        if !same(how, one, other) {
            return Err(format!(
                "reply {index} differs ({how:?}); through the sidecar\n  {}\ninstead of\n  {}\nof all\n  {}",
                other.escape_ascii(),
                one.escape_ascii(),
                shown(direct)
            ));
        }
    }
    if direct.len() != through.len() {
        let (direct, through) = (shown(direct), shown(through));
        return Err(format!(
            "through the sidecar came\n  {through}\ninstead of\n  {direct}"
        ));
    }
    if chunk.countable && said.next().is_some() {
        return Err(format!("fewer replies than commands:\n  {}", shown(direct)));
    }
    Ok(())
}

fn is_push(frame: &[u8]) -> bool {
    frame.first() == Some(&b'>')
}

fn contains(frame: &[u8], text: &str) -> bool {
    frame
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}
