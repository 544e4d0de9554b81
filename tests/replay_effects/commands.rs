//! Random commands of all data types.

use wal_sidecar::protocol::resp::commands::{Effect, Table};

/// SplitMix64: what a seed gives never changes.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// A command to be executed.
pub struct Command {
    pub effect: Effect,
    pub arguments: Vec<Vec<u8>>,
    pub keys: Vec<Vec<u8>>,
}

impl Command {
    /// With the effect and the keys the command table has for it.
    pub fn new(table: &Table, arguments: Vec<Vec<u8>>) -> Command {
        let slices: Vec<&[u8]> = arguments.iter().map(|argument| &argument[..]).collect();
        let with_subcommand = slices[..2].join(&b' ');
        let index = table
            .find(&with_subcommand)
            .or_else(|| table.find(slices[0]))
            .expect("the templates are of known commands");
        let mut keys: Vec<Vec<u8>> = Vec::new();
        table.keys(index, &slices, |at| {
            if !keys.contains(&arguments[at]) {
                keys.push(arguments[at].clone());
            }
        });
        Command {
            effect: table.effect(index, &slices),
            arguments,
            keys,
        }
    }
}

/// Scripts, which have spaces: `%1`, `%2` ... in the templates.
const SCRIPTS: [&str; 4] = [
    "return redis.call('SET', KEYS[1], ARGV[1])",
    "redis.call('RPUSH', KEYS[1], ARGV[1]) return redis.call('INCR', KEYS[1])",
    "return redis.call('ZADD', KEYS[1], math.random(100), ARGV[1])",
    "redis.call('SET', KEYS[1], ARGV[1]) return redis.error_reply('MINE it is')",
];

/// `%` and a letter is replaced by something random, see [`Generator::fill`].
const TEMPLATES: &[&str] = &[
    // Strings.
    "GET %s",
    "SET %s %v",
    "SET %s %v EX %t",
    "SET %s %v px %T",
    "SET %s %v EXAT %U",
    "SET %s %v PXAT %M GET",
    "SET %s %v KEEPTTL",
    "SET %s %v GET KEEPTTL",
    "SET %s %v GET",
    "SET %s %v EX %n",
    "SET %s %v NONSENSE",
    "SET %s %v NX",
    "SET %s %v XX EX %t",
    "SET %s %v NX GET",
    "SET %s %v XX GET PX %T",
    "SET %s %v XX KEEPTTL",
    "SETEX %s %t %v",
    "SETEX %s %n %v",
    "PSETEX %s %T %v",
    "GETSET %s %v",
    "GETDEL %s",
    "GETEX %s EX %t",
    "GETEX %s PXAT %M",
    "GETEX %s PERSIST",
    "GETEX %s EXAT 1",
    "SETNX %s %v",
    "MSETNX %s %v %s %v",
    "MSET %s %v %s %v",
    "APPEND %s %v",
    "SETRANGE %s %c %v",
    "INCR %s",
    "DECRBY %s %n",
    "INCRBY %s 9223372036854775807",
    "INCRBYFLOAT %s %f",
    "SETBIT %s %c 1",
    "BITFIELD %s INCRBY u8 %c %n OVERFLOW FAIL INCRBY i4 0 3",
    "BITOP XOR %s %s %s",
    "PFADD %p %m %m",
    "PFMERGE %p %p %p",
    // Keys of any type.
    "DEL %a",
    "UNLINK %a %a",
    "EXPIRE %a %t",
    "PEXPIRE %a %T",
    "EXPIREAT %a %U",
    "PEXPIREAT %a %M",
    "EXPIRE %a -%c",
    "EXPIRE %a 9223372036854775",
    "EXPIRE %a %t NX",
    "PEXPIRE %a %T XX",
    "EXPIREAT %a %U GT",
    "PEXPIREAT %a %M LT",
    "PERSIST %a",
    "RENAMENX %a %a",
    "RENAME %a %a",
    "COPY %a %a",
    "COPY %a %a REPLACE",
    "SORT %l BY nosort STORE %l",
    "SORT %l ALPHA LIMIT 0 3 STORE %l",
    "RESTORE %a %T %r REPLACE",
    "RESTORE %a 0 %r",
    // Lists.
    "LRANGE %l 0 -1",
    "RPUSH %l %v %v %v",
    "LPUSH %l %v %m",
    "RPUSH %l %v %m",
    "LPUSHX %l %v",
    "RPUSHX %l %v",
    "LPOP %l",
    "RPOP %l %c",
    "LSET %l %n %v",
    "LREM %l %n %m",
    "LTRIM %l 0 9",
    "LINSERT %l BEFORE %m %v",
    "LMOVE %l %l LEFT RIGHT",
    "BLPOP %l %l 0.001",
    "BRPOP %l %l 0.001",
    "LMPOP 2 %l %l LEFT",
    "LMPOP 2 %l %l RIGHT COUNT 3",
    "BLMPOP 0.001 2 %l %l LEFT COUNT 2",
    "BRPOPLPUSH %l %l 0.001",
    "BLMOVE %l %l RIGHT LEFT 0.001",
    // Sets.
    "SMEMBERS %e",
    "SADD %e %m %m %v",
    "SADD %e %m %m %c",
    "SREM %e %m",
    "SMOVE %e %e %m",
    "SUNIONSTORE %e %e %e",
    "SDIFFSTORE %e %e %e",
    "SPOP %e",
    "SPOP %e %c",
    // Sorted sets.
    "ZRANGE %z 0 -1 WITHSCORES",
    "ZADD %z %f %m %f %m %n %v",
    "ZADD %z %n %m %f %m",
    "ZADD %z NX %f %m",
    "ZADD %z XX %f %m",
    "ZADD %z GT %f %m %f %m",
    "ZADD %z LT CH %f %m %f %m",
    "ZADD %z INCR %f %m",
    "ZADD %z XX GT INCR %f %m",
    "ZINCRBY %z %f %m",
    "ZREM %z %m",
    "ZREMRANGEBYRANK %z 5 -1",
    "ZUNIONSTORE %z 2 %z %z WEIGHTS 1 0.5",
    "ZRANGESTORE %z %z 0 3",
    "ZPOPMIN %z",
    "ZPOPMAX %z 2",
    "BZPOPMIN %z %z 0.001",
    "BZPOPMAX %z 0.001",
    "ZMPOP 2 %z %z MIN COUNT 2",
    "BZMPOP 0.001 1 %z MAX",
    "GEOADD %g %c %c %m",
    "GEOSEARCHSTORE %g %g FROMLONLAT 1 1 BYRADIUS 300 km",
    // Hashes.
    "HGETALL %h",
    "HSET %h %m %v %m %n",
    "HSETNX %h %m %v",
    "HDEL %h %m",
    "HINCRBY %h %m %n",
    "HINCRBYFLOAT %h %m %f",
    // Streams.
    "XRANGE %x - +",
    "XADD %x * %m %v",
    "XADD %x NOMKSTREAM * %m %v",
    "XADD %x MAXLEN = 9 * %m %v",
    "XADD %x MAXLEN ~ 9 * %m %v",
    "XADD %y %d %m %v",
    "XADD %y MINID 3 %d-* %m %v",
    "XADD %y MINID ~ 3 %d %m %v",
    "XTRIM %x MAXLEN 5",
    "XTRIM %y MAXLEN ~ 5",
    "XDEL %y %D-0",
    "XGROUP CREATE %y group 0 MKSTREAM",
    "XGROUP CREATE %x group $",
    "XREADGROUP GROUP group %m COUNT 2 STREAMS %y >",
    "XREADGROUP GROUP group %m BLOCK 1 STREAMS %x >",
    "XREADGROUP GROUP group %m NOACK STREAMS %y >",
    "XACK %y group %D-0",
    "XCLAIM %y group %m 0 %D-0",
    "XAUTOCLAIM %y group %m 0 0",
    // Scripts.
    "EVAL %1 1 %s %v",
    "EVAL %2 1 %l %v",
    "EVAL %3 1 %z %m",
    "EVAL %4 1 %s %v",
    "EVALSHA 0123456789012345678901234567890123456789 1 %s",
];

pub struct Generator {
    pub random: Random,
    pub table: Table,
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// The ids of explicit stream entries.
    next_id: u64,
}

/// The keys of one type are a letter and a digit below this.
const KEYS_OF_A_TYPE: u64 = 4;
const TYPES: [&str; 9] = ["s", "p", "l", "e", "z", "g", "h", "x", "y"];

impl Generator {
    pub fn new(seed: u64) -> Self {
        Generator {
            random: Random(seed),
            table: Table::built_in(),
            now_ms: 0,
            next_id: 1,
        }
    }

    /// A random command; `payload` is what `DUMP` gave of some key.
    pub fn command(&mut self, payload: &[u8]) -> Command {
        let template = self.random.pick(TEMPLATES);
        let arguments = template
            .split(' ')
            .map(|word| match word.split_once('%') {
                Some((before, rest)) => {
                    let mut argument = before.as_bytes().to_vec();
                    argument.extend(self.fill(rest.as_bytes()[0], payload));
                    argument.extend_from_slice(&rest.as_bytes()[1..]);
                    argument
                }
                None => word.as_bytes().to_vec(),
            })
            .collect();
        Command::new(&self.table, arguments)
    }

    /// What stands for `%` and `letter`.
    fn fill(&mut self, letter: u8, payload: &[u8]) -> Vec<u8> {
        let random = &mut self.random;
        let text = match letter {
            b'v' => return random_value(random),
            b'r' => return payload.to_vec(),
            b'm' => format!("m{}", random.below(8)),
            b'n' => (random.below(41) as i64 - 20).to_string(),
            b'c' => random.below(6).to_string(),
            b'f' => format!("{}", (random.below(4001) as f64 - 2000.0) / 7.0),
            // Nothing expires while the test runs, unless it is past already.
            b't' => (5_000 + random.below(5_000)).to_string(),
            b'T' => (5_000_000 + random.below(5_000_000)).to_string(),
            b'U' => (self.now_ms / 1000 + 5_000 + random.below(5_000)).to_string(),
            b'M' => (self.now_ms + 5_000_000 + random.below(5_000_000)).to_string(),
            b'd' => {
                self.next_id += 1;
                self.next_id.to_string()
            }
            b'D' => self.next_id.saturating_sub(random.below(30)).to_string(),
            b'1'..=b'4' => SCRIPTS[usize::from(letter - b'1')].to_owned(),
            _ => {
                // Now and then a key of a type the command is not for.
                let is_any = letter == b'a' || random.one_in(25);
                let kind = char::from(letter).to_string();
                let kind = if is_any { random.pick(&TYPES) } else { &kind };
                format!("{kind}{}", random.below(KEYS_OF_A_TYPE))
            }
        };
        text.into_bytes()
    }
}

fn random_value(random: &mut Random) -> Vec<u8> {
    match random.below(6) {
        0 => Vec::new(),
        1 => b"with\r\nline ends".to_vec(),
        2 => (0..random.below(40)).map(|_| random.next() as u8).collect(),
        3 => format!("{}.5", random.below(100)).into_bytes(),
        _ => random.below(1000).to_string().into_bytes(),
    }
}
