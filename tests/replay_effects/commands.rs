//! Random commands of all data types, with the effect the command table has
//! for them.

use wal_sidecar::protocol::resp::commands::Effect::{self, Opaque, Verbatim};
use wal_sidecar::protocol::resp::commands::{Resolve, Rewrite};

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

pub const READ: Effect = Effect::None;
const fn resolved(kind: Resolve) -> Effect {
    Effect::Resolved(kind)
}
const fn rewritten(kind: Rewrite) -> Effect {
    Effect::Rewritten(kind)
}
const SNAPSHOT: Effect = resolved(Resolve::SnapshotUnlessNothing);
const CONDITIONAL: Effect = resolved(Resolve::Conditional);

/// Scripts, which have spaces: `%1`, `%2` ... in the templates.
const SCRIPTS: [&str; 4] = [
    "return redis.call('SET', KEYS[1], ARGV[1])",
    "redis.call('RPUSH', KEYS[1], ARGV[1]) return redis.call('INCR', KEYS[1])",
    "return redis.call('ZADD', KEYS[1], math.random(100), ARGV[1])",
    "redis.call('SET', KEYS[1], ARGV[1]) return redis.error_reply('MINE it is')",
];

/// `%` and a letter is replaced by something random, see [`Generator::fill`].
const TEMPLATES: &[(Effect, &str)] = &[
    // Strings.
    (READ, "GET %s"),
    (Verbatim, "SET %s %v"),
    (rewritten(Rewrite::Set), "SET %s %v EX %t"),
    (rewritten(Rewrite::Set), "SET %s %v px %T"),
    (rewritten(Rewrite::Set), "SET %s %v EXAT %U"),
    (rewritten(Rewrite::Set), "SET %s %v PXAT %M GET"),
    (rewritten(Rewrite::Set), "SET %s %v KEEPTTL"),
    (rewritten(Rewrite::Set), "SET %s %v GET KEEPTTL"),
    (rewritten(Rewrite::Set), "SET %s %v GET"),
    (rewritten(Rewrite::Set), "SET %s %v EX %n"),
    (rewritten(Rewrite::Set), "SET %s %v NONSENSE"),
    (resolved(Resolve::Set), "SET %s %v NX"),
    (resolved(Resolve::Set), "SET %s %v XX EX %t"),
    (resolved(Resolve::Set), "SET %s %v NX GET"),
    (resolved(Resolve::Set), "SET %s %v XX GET PX %T"),
    (resolved(Resolve::Set), "SET %s %v XX KEEPTTL"),
    (rewritten(Rewrite::SetEx), "SETEX %s %t %v"),
    (rewritten(Rewrite::SetEx), "SETEX %s %n %v"),
    (rewritten(Rewrite::PSetEx), "PSETEX %s %T %v"),
    (rewritten(Rewrite::GetSet), "GETSET %s %v"),
    (rewritten(Rewrite::GetDel), "GETDEL %s"),
    (resolved(Resolve::GetEx), "GETEX %s EX %t"),
    (resolved(Resolve::GetEx), "GETEX %s PXAT %M"),
    (resolved(Resolve::GetEx), "GETEX %s PERSIST"),
    (resolved(Resolve::GetEx), "GETEX %s EXAT 1"),
    (CONDITIONAL, "SETNX %s %v"),
    (CONDITIONAL, "MSETNX %s %v %s %v"),
    (Verbatim, "MSET %s %v %s %v"),
    (Verbatim, "APPEND %s %v"),
    (Verbatim, "SETRANGE %s %c %v"),
    (Verbatim, "INCR %s"),
    (Verbatim, "DECRBY %s %n"),
    (Verbatim, "INCRBY %s 9223372036854775807"),
    (resolved(Resolve::IncrByFloat), "INCRBYFLOAT %s %f"),
    (Verbatim, "SETBIT %s %c 1"),
    (
        Verbatim,
        "BITFIELD %s INCRBY u8 %c %n OVERFLOW FAIL INCRBY i4 0 3",
    ),
    (Verbatim, "BITOP XOR %s %s %s"),
    (Verbatim, "PFADD %p %m %m"),
    (Verbatim, "PFMERGE %p %p %p"),
    // Keys of any type.
    (Verbatim, "DEL %a"),
    (Verbatim, "UNLINK %a %a"),
    (rewritten(Rewrite::Expire), "EXPIRE %a %t"),
    (rewritten(Rewrite::Expire), "PEXPIRE %a %T"),
    (rewritten(Rewrite::Expire), "EXPIREAT %a %U"),
    (rewritten(Rewrite::Expire), "PEXPIREAT %a %M"),
    (rewritten(Rewrite::Expire), "EXPIRE %a -%c"),
    (rewritten(Rewrite::Expire), "EXPIRE %a 9223372036854775"),
    (resolved(Resolve::Expire), "EXPIRE %a %t NX"),
    (resolved(Resolve::Expire), "PEXPIRE %a %T XX"),
    (resolved(Resolve::Expire), "EXPIREAT %a %U GT"),
    (resolved(Resolve::Expire), "PEXPIREAT %a %M LT"),
    (Verbatim, "PERSIST %a"),
    (CONDITIONAL, "RENAMENX %a %a"),
    (Verbatim, "RENAME %a %a"),
    (CONDITIONAL, "COPY %a %a"),
    (CONDITIONAL, "COPY %a %a REPLACE"),
    (Verbatim, "SORT %l ALPHA LIMIT 0 3 STORE %l"),
    (rewritten(Rewrite::Restore), "RESTORE %a %T %r REPLACE"),
    (rewritten(Rewrite::Restore), "RESTORE %a 0 %r"),
    // Lists.
    (READ, "LRANGE %l 0 -1"),
    (Verbatim, "RPUSH %l %v %v %v"),
    (Verbatim, "LPUSH %l %v %m"),
    (Verbatim, "RPUSH %l %v %m"),
    (CONDITIONAL, "LPUSHX %l %v"),
    (CONDITIONAL, "RPUSHX %l %v"),
    (Verbatim, "LPOP %l"),
    (Verbatim, "RPOP %l %c"),
    (Verbatim, "LSET %l %n %v"),
    (Verbatim, "LREM %l %n %m"),
    (Verbatim, "LTRIM %l 0 9"),
    (CONDITIONAL, "LINSERT %l BEFORE %m %v"),
    (Verbatim, "LMOVE %l %l LEFT RIGHT"),
    (resolved(Resolve::BlockingPop), "BLPOP %l %l 0.001"),
    (resolved(Resolve::BlockingPop), "BRPOP %l %l 0.001"),
    (resolved(Resolve::LMPop), "LMPOP 2 %l %l LEFT"),
    (resolved(Resolve::LMPop), "LMPOP 2 %l %l RIGHT COUNT 3"),
    (
        resolved(Resolve::LMPop),
        "BLMPOP 0.001 2 %l %l LEFT COUNT 2",
    ),
    (resolved(Resolve::BlockingMove), "BRPOPLPUSH %l %l 0.001"),
    (
        resolved(Resolve::BlockingMove),
        "BLMOVE %l %l RIGHT LEFT 0.001",
    ),
    // Sets.
    (READ, "SMEMBERS %e"),
    (Verbatim, "SADD %e %m %m %v"),
    (Verbatim, "SADD %e %m %m %c"),
    (Verbatim, "SREM %e %m"),
    (Verbatim, "SMOVE %e %e %m"),
    (Verbatim, "SUNIONSTORE %e %e %e"),
    (Verbatim, "SDIFFSTORE %e %e %e"),
    (resolved(Resolve::SPop), "SPOP %e"),
    (resolved(Resolve::SPop), "SPOP %e %c"),
    // Sorted sets.
    (READ, "ZRANGE %z 0 -1 WITHSCORES"),
    (Verbatim, "ZADD %z %f %m %f %m %n %v"),
    (Verbatim, "ZADD %z %n %m %f %m"),
    (SNAPSHOT, "ZADD %z NX %f %m"),
    (SNAPSHOT, "ZADD %z XX %f %m"),
    (SNAPSHOT, "ZADD %z GT %f %m %f %m"),
    (SNAPSHOT, "ZADD %z LT CH %f %m %f %m"),
    (resolved(Resolve::ZAddIncr), "ZADD %z INCR %f %m"),
    (resolved(Resolve::ZAddIncr), "ZADD %z XX GT INCR %f %m"),
    (resolved(Resolve::ZIncrBy), "ZINCRBY %z %f %m"),
    (Verbatim, "ZREM %z %m"),
    (Verbatim, "ZREMRANGEBYRANK %z 5 -1"),
    (Verbatim, "ZUNIONSTORE %z 2 %z %z WEIGHTS 1 0.5"),
    (Verbatim, "ZRANGESTORE %z %z 0 3"),
    (resolved(Resolve::ZPop), "ZPOPMIN %z"),
    (resolved(Resolve::ZPop), "ZPOPMAX %z 2"),
    (resolved(Resolve::BlockingZPop), "BZPOPMIN %z %z 0.001"),
    (resolved(Resolve::BlockingZPop), "BZPOPMAX %z 0.001"),
    (resolved(Resolve::ZMPop), "ZMPOP 2 %z %z MIN COUNT 2"),
    (resolved(Resolve::ZMPop), "BZMPOP 0.001 1 %z MAX"),
    (Verbatim, "GEOADD %g %c %c %m"),
    (
        Verbatim,
        "GEOSEARCHSTORE %g %g FROMLONLAT 1 1 BYRADIUS 300 km",
    ),
    // Hashes.
    (READ, "HGETALL %h"),
    (Verbatim, "HSET %h %m %v %m %n"),
    (CONDITIONAL, "HSETNX %h %m %v"),
    (Verbatim, "HDEL %h %m"),
    (Verbatim, "HINCRBY %h %m %n"),
    (resolved(Resolve::HIncrByFloat), "HINCRBYFLOAT %h %m %f"),
    // Streams.
    (READ, "XRANGE %x - +"),
    (resolved(Resolve::XAdd), "XADD %x * %m %v"),
    (resolved(Resolve::XAdd), "XADD %x NOMKSTREAM * %m %v"),
    (resolved(Resolve::XAdd), "XADD %x MAXLEN = 9 * %m %v"),
    (resolved(Resolve::XAdd), "XADD %x MAXLEN ~ 9 * %m %v"),
    (Verbatim, "XADD %y %d %m %v"),
    (resolved(Resolve::XAdd), "XADD %y MINID 3 %d-* %m %v"),
    (Verbatim, "XTRIM %x MAXLEN 5"),
    (SNAPSHOT, "XTRIM %y MAXLEN ~ 5"),
    (Verbatim, "XDEL %y %D-0"),
    (Verbatim, "XGROUP CREATE %y group 0 MKSTREAM"),
    (Verbatim, "XGROUP CREATE %x group $"),
    (SNAPSHOT, "XREADGROUP GROUP group %m COUNT 2 STREAMS %y >"),
    (SNAPSHOT, "XREADGROUP GROUP group %m BLOCK 1 STREAMS %x >"),
    (SNAPSHOT, "XREADGROUP GROUP group %m NOACK STREAMS %y >"),
    (Verbatim, "XACK %y group %D-0"),
    (SNAPSHOT, "XCLAIM %y group %m 0 %D-0"),
    (SNAPSHOT, "XAUTOCLAIM %y group %m 0 0"),
    // Scripts.
    (Opaque, "EVAL %1 1 %s %v"),
    (Opaque, "EVAL %2 1 %l %v"),
    (Opaque, "EVAL %3 1 %z %m"),
    (Opaque, "EVAL %4 1 %s %v"),
    (
        Opaque,
        "EVALSHA 0123456789012345678901234567890123456789 1 %s",
    ),
];

pub struct Generator {
    pub random: Random,
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
            now_ms: 0,
            next_id: 1,
        }
    }

    /// A random command; `payload` is what `DUMP` gave of some key.
    pub fn command(&mut self, payload: &[u8]) -> Command {
        let (effect, template) = TEMPLATES[self.random.below(TEMPLATES.len() as u64) as usize];
        let mut command = Command {
            effect,
            arguments: Vec::new(),
            keys: Vec::new(),
        };
        for word in template.split(' ') {
            let argument = match word.find('%') {
                Some(at) => {
                    let (before, rest) = word.split_at(at);
                    let mut argument = before.as_bytes().to_vec();
                    argument.extend(self.fill(rest.as_bytes()[1], payload, &mut command.keys));
                    argument.extend_from_slice(&rest.as_bytes()[2..]);
                    argument
                }
                None => word.as_bytes().to_vec(),
            };
            command.arguments.push(argument);
        }
        command
    }

    /// What stands for `%` and `letter`.
    fn fill(&mut self, letter: u8, payload: &[u8], keys: &mut Vec<Vec<u8>>) -> Vec<u8> {
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
                let key = format!("{kind}{}", random.below(KEYS_OF_A_TYPE));
                if !keys.contains(&key.clone().into_bytes()) {
                    keys.push(key.clone().into_bytes());
                }
                key
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
