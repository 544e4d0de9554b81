//! Random commands of all data types, on few hot keys and many cold ones.

use super::support::Random;

/// Keys of one type that everybody writes to.
const HOT: usize = 3;

/// Keys of one type that are seldom written to.
const COLD: usize = 300;

/// Scripts, which have spaces: `%1`, `%2` ... in the templates.
const SCRIPTS: [&str; 3] = [
    "return redis.call('SET', KEYS[1], ARGV[1])",
    "redis.call('RPUSH', KEYS[1], ARGV[1]) redis.call('LTRIM', KEYS[1], -20, -1) return 1",
    "return redis.call('ZADD', KEYS[1], math.random(100), ARGV[1])",
];

/// `%` and a letter is replaced by something random, see [`fill`].
const TEMPLATES: &[&str] = &[
    // Strings.
    "SET %s %v",
    "SET %s %v",
    "SET %s %v EX %t",
    "SET %s %v KEEPTTL",
    "SET %s %v NX",
    "SET %s %v XX GET",
    "SETNX %s %v",
    "GETSET %s %v",
    "GETDEL %s",
    "GETEX %s EX %t",
    "APPEND %s %v",
    "SETRANGE %s %c %v",
    "SETBIT %s %c 1",
    "BITFIELD %s SET u8 %c 7",
    "MSET %s %v %s %v",
    "MSETNX %s %v %s %v",
    "INCR %i",
    "INCRBY %i %n",
    "DECRBY %i %c",
    "INCRBYFLOAT %f %q",
    "PFADD %p %m %m",
    // Keys of any type.
    "DEL %a",
    "UNLINK %a %a",
    "EXPIRE %a %t",
    "PEXPIRE %a %T",
    "EXPIRE %a %t NX",
    "PERSIST %a",
    "RENAME %s %s",
    "RENAME %e %e",
    "RENAMENX %h %h",
    "COPY %z %z REPLACE",
    // Lists.
    "RPUSH %l %v %v",
    "LPUSH %l %v",
    "LPUSHX %l %v",
    "LPOP %l",
    "RPOP %l %c",
    "LSET %l 0 %v",
    "LREM %l %n %m",
    "LTRIM %l 0 20",
    "LINSERT %l BEFORE %m %v",
    "LMOVE %l %l LEFT RIGHT",
    // Sets.
    "SADD %e %m %m",
    "SADD %e %m %v",
    "SREM %e %m",
    "SPOP %e",
    "SPOP %e %c",
    "SMOVE %e %e %m",
    "SUNIONSTORE %e %e %e",
    "SDIFFSTORE %e %e %e",
    "SINTERSTORE %e %e %e",
    // Sorted sets.
    "ZADD %z %n %m %c %m",
    "ZADD %z NX %n %m",
    "ZADD %z GT CH %n %m",
    "ZINCRBY %z %n %m",
    "ZREM %z %m",
    "ZPOPMIN %z",
    "ZREMRANGEBYRANK %z 6 -1",
    "ZUNIONSTORE %z 2 %z %z",
    "ZRANGESTORE %z %z 0 4",
    "GEOADD %z 2.35 48.85 %m",
    "GEOADD %z 13.4 52.5 %m 12.5 41.9 %m",
    // Hashes.
    "HSET %h %m %v",
    "HSET %h %m %v %m %n",
    "HSETNX %h %m %v",
    "HDEL %h %m",
    "HINCRBY %j %m %n",
    "HINCRBYFLOAT %j %m %q",
    // Streams.
    "XADD %x * %m %v",
    "XADD %x MAXLEN = 9 * %m %v",
    "XTRIM %x MAXLEN 5",
    // Scripts.
    "EVAL %1 1 %s %v",
    "EVAL %2 1 %l %v",
    "EVAL %3 1 %z %m",
];

/// Each type's keys begin with the letter that stands for them.
const TYPES: &str = "sifplezhjx";

/// One random command.
pub fn command(random: &mut Random) -> Vec<String> {
    let only = std::env::var("CONVERGENCE_ONLY").ok();
    let template = loop {
        let template = *random.pick(TEMPLATES);
        let is_wanted = |only: &String| only.split(',').any(|word| template.starts_with(word));
        if only.as_ref().is_none_or(is_wanted) {
            break template;
        }
    };
    let word = |word: &str| match word.strip_prefix('%') {
        Some(letter) => fill(letter.as_bytes()[0], random),
        None => word.to_owned(),
    };
    template.split(' ').map(word).collect()
}

fn fill(letter: u8, random: &mut Random) -> String {
    match letter {
        b'v' => format!("v{}", random.below(1_000_000)),
        b'm' => format!("m{}", random.below(8)),
        b'n' => (random.below(41) as i64 - 20).to_string(),
        b'c' => random.below(6).to_string(),
        // Sums of these are exact, in whatever order.
        b'q' => format!("{}", (random.below(201) as f64 - 100.0) / 4.0),
        b't' => (5_000 + random.below(5_000)).to_string(),
        b'T' => (5_000_000 + random.below(5_000_000)).to_string(),
        b'1'..=b'3' => SCRIPTS[usize::from(letter - b'1')].to_owned(),
        b'a' => {
            let letter = TYPES.as_bytes()[random.below(TYPES.len())];
            key(letter, random)
        }
        letter => key(letter, random),
    }
}

fn key(letter: u8, random: &mut Random) -> String {
    let number = match random.below(2) {
        0 => random.below(HOT),
        _ => 100 + random.below(COLD),
    };
    format!("{}:{number}", char::from(letter))
}
