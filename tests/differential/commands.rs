//! What is said: commands of every kind, and how their replies are compared.

use crate::compare::Compare;
use crate::support::Random;

/// One command.
#[derive(Debug, Clone)]
pub struct Command {
    pub arguments: Vec<Vec<u8>>,
    pub compare: Compare,
}

/// Scripts, which have spaces: `%1`, `%2` ... in the templates.
const SCRIPTS: [&str; 7] = [
    "return redis.call('SET', KEYS[1], ARGV[1])",
    "redis.call('RPUSH', KEYS[1], ARGV[1]) return redis.call('LLEN', KEYS[1])",
    "return {1, 'two', {3, false}, redis.call('GET', KEYS[1])}",
    "redis.call('SET', KEYS[1], ARGV[1]) return redis.error_reply('MINE it is')",
    "return redis.call('ZADD', KEYS[1], math.random(100), ARGV[1])",
    "redis.setresp(3) return redis.call('HGETALL', KEYS[1])",
    "return redis.pcall('INCR', KEYS[1])",
];

/// A library of functions.
const LIBRARY: &str = "#!lua name=mine\nredis.register_function('put', function(keys, args) \
return redis.call('SET', keys[1], args[1]) end)\nredis.register_function{function_name='look', \
callback=function(keys, args) return redis.call('GET', keys[1]) end, flags={'no-writes'}}";

/// `%` and a letter is replaced by something random, see [`Generator::fill`].
/// The same bytes come back from both servers.
const EXACT: &str = "
GET %s|SET %s %v|SET %s %v EX %t|SET %s %v px %T|SET %s %v EXAT %U|SET %s %v PXAT %M GET
SET %s %v KEEPTTL|SET %s %v GET|SET %s %v EX %n|SET %s %v NONSENSE|SET %s %v NX|SET %s %v XX EX %t
SET %s %v NX GET|SET %s %v XX GET PX %T|SET %s|SET %s %v EX|SETEX %s %t %v|SETEX %s %n %v
PSETEX %s %T %v|GETSET %s %v|GETDEL %s|GETEX %s EX %t|GETEX %s PXAT %M|GETEX %s PERSIST|GETEX %s
GETEX %s EXAT 1|SETNX %s %v|MSETNX %s %v %s %v|MSET %s %v %s %v|MSET %s %v %s|MGET %s %s %a|APPEND %s %v
STRLEN %a|GETRANGE %s %n %n|SUBSTR %s 0 2|SETRANGE %s %c %v|INCR %s|DECR %s|DECRBY %s %n|INCRBY %s %n
INCRBY %s 9223372036854775807|INCRBYFLOAT %s %f|LCS %s %s|LCS %s %s IDX MINMATCHLEN 1 WITHMATCHLEN
LCS %s %s LEN|SETBIT %b %c 1|SETBIT %b %c 2|GETBIT %b %c|BITCOUNT %b|BITCOUNT %b 0 -1 BIT|BITPOS %b 1
BITFIELD %b INCRBY u8 %c %n OVERFLOW FAIL INCRBY i4 0 3|BITFIELD %b GET u4 0|BITFIELD_RO %b GET u8 0
BITOP XOR %b %b %b|BITOP NOT %b %b|BITOP NOT %b %b %b|PFADD %p %m %m|PFADD %p|PFCOUNT %p %p|PFMERGE %p %p %p
DEL %a|UNLINK %a %a|EXISTS %a %a %a|TOUCH %a %a|TYPE %a|EXPIRE %a %t|PEXPIRE %a %T|EXPIREAT %a %U
PEXPIREAT %a %M|EXPIRE %a -%c|EXPIRE %a 9223372036854775807|EXPIRE %a %t NX|PEXPIRE %a %T XX
EXPIREAT %a %U GT|PEXPIREAT %a %M LT|EXPIRE %a %t NX GT|EXPIRE %a abc|PERSIST %a|RENAMENX %a %a
RENAME %a %a|RENAME %a|COPY %a %a|COPY %a %a REPLACE|COPY %a %a DB 1|MOVE %a 1|MOVE %a 99|DBSIZE
SORT %l|SORT %l ALPHA DESC|SORT %l BY nosort STORE %l|SORT %l ALPHA LIMIT 0 3 STORE %l
SORT_RO %l ALPHA|SORT %w ALPHA|SORT %l ALPHA GET # GET s*|SORT %e|OBJECT ENCODING %a|OBJECT HELP
OBJECT REFCOUNT %l|OBJECT FREQ %s|OBJECT NONSENSE %s|OBJECT|DUMP none|DUMP|RESTORE %a 0 junk
RESTORE %s %T %r REPLACE|RESTORE %a 0 %r|RESTORE %a 0 %r ABSTTL IDLETIME 3
LRANGE %l 0 -1|LRANGE %l %n %n|LLEN %l|LINDEX %l %n|LPOS %l %m|LPOS %l %m COUNT 0 RANK -1|RPUSH %l %v %v %v
LPUSH %l %v %m|RPUSH %l %v %m|LPUSHX %l %v|RPUSHX %l %v|LPOP %l|RPOP %l %c|LPOP %l -1|LSET %l %n %v
LREM %l %n %m|LTRIM %l 0 9|LINSERT %l BEFORE %m %v|LINSERT %l BESIDE %m %v|LMOVE %l %l LEFT RIGHT|RPOPLPUSH %l %l
LMPOP 2 %l %l LEFT|LMPOP 2 %l %l RIGHT COUNT 3|LMPOP 0 %l LEFT|LMPOP 3 %l LEFT
BLPOP %l %l 0.001|BRPOP %l 0.001|BLMPOP 0.001 2 %l %l LEFT COUNT 2|BRPOPLPUSH %l %l 0.001|BLMOVE %l %l RIGHT LEFT 0.001
BLPOP %l -1|BLPOP %l abc|BLPOP %s 0.001|BLPOP %l|BZPOPMIN %z %z 0.001|BZPOPMAX %z 0.001|BZMPOP 0.001 1 %z MAX
SMEMBERS %e|SADD %e %i %i %i|SREM %e %i|SISMEMBER %e %i|SMISMEMBER %e %i %i|SCARD %w|SMOVE %e %e %i
SADD %w %m %v|SREM %w %m|SISMEMBER %w %m|SMOVE %w %w %m|SUNIONSTORE %e %e %e|SDIFFSTORE %e %e %e
SINTERSTORE %w %w %w|SUNIONSTORE %w %w %w|SINTER %e %e|SUNION %e %e|SDIFF %e %e|SINTERCARD 2 %e %e LIMIT 2
SPOP %e 1000000|SPOP %e 0|SPOP %e -1|SRANDMEMBER %e 1000000|SRANDMEMBER none|SPOP none|SSCAN %e 0 COUNT 1000
ZRANGE %z 0 -1 WITHSCORES|ZADD %z %f %m %f %m %n %v|ZADD %z %n %m %f %m|ZADD %z NX %f %m|ZADD %z XX %f %m
ZADD %z GT %f %m %f %m|ZADD %z LT CH %f %m %f %m|ZADD %z INCR %f %m|ZADD %z XX GT INCR %f %m|ZADD %z NX XX 1 a
ZADD %z abc %m|ZADD %z 1|ZADD %z inf %m|ZINCRBY %z %f %m|ZSCORE %z %m|ZMSCORE %z %m %m|ZRANK %z %m|ZREVRANK %z %m
ZCARD %z|ZCOUNT %z -inf (5|ZLEXCOUNT %z - +|ZREM %z %m|ZREMRANGEBYRANK %z 5 -1|ZREMRANGEBYSCORE %z -inf %n
ZREMRANGEBYLEX %z [m7 +|ZRANGE %z 0 -1 REV|ZRANGE %z -inf +inf BYSCORE LIMIT 0 3 WITHSCORES|ZRANGE %z [a (z BYLEX
ZRANGEBYSCORE %z %n +inf WITHSCORES LIMIT 0 2|ZREVRANGEBYSCORE %z +inf -inf|ZREVRANGE %z 0 2|ZRANGEBYLEX %z - +
ZREVRANGEBYLEX %z + -|ZUNIONSTORE %z 2 %z %z WEIGHTS 1 0.5|ZINTERSTORE %z 2 %z %e AGGREGATE MAX|ZDIFFSTORE %z 2 %z %z
ZUNION 2 %z %z WITHSCORES|ZINTER 2 %z %z|ZDIFF 2 %z %z WITHSCORES|ZINTERCARD 2 %z %z|ZRANGESTORE %z %z 0 3|ZPOPMIN %z
ZPOPMAX %z 2|ZPOPMIN %z -1|ZMPOP 2 %z %z MIN COUNT 2|ZRANDMEMBER %z 1000000 WITHSCORES|ZRANDMEMBER none
GEOADD %g %c %c %m|GEOADD %g 999 1 %m|GEOPOS %g %m %m|GEOHASH %g %m|GEODIST %g %m %m km|GEORADIUS %g 1 1 300 km ASC
GEORADIUSBYMEMBER %g %m 300 km ASC WITHDIST|GEORADIUS %g 1 1 300 km STORE %g|GEORADIUS_RO %g 1 1 300 km WITHCOORD ASC
GEORADIUSBYMEMBER_RO %g %m 100 km ASC|GEOSEARCH %g FROMLONLAT 1 1 BYBOX 300 300 km ASC WITHCOORD WITHDIST WITHHASH
GEOSEARCHSTORE %g %g FROMLONLAT 1 1 BYRADIUS 300 km
HGETALL %h|HGET %h %m|HMGET %h %m %m|HSET %h %m %v %m %n|HSET %h %m|HMSET %h %m %v|HSETNX %h %m %v|HDEL %h %m %m
HEXISTS %h %m|HLEN %h|HKEYS %h|HVALS %h|HSTRLEN %h %m|HINCRBY %h %m %n|HINCRBYFLOAT %h %m %f
HRANDFIELD %h 1000000 WITHVALUES|HRANDFIELD none
XRANGE %x - +|XREVRANGE %x + - COUNT 2|XLEN %x|XADD %x %d %m %v|XADD %x MINID 3 %d-* %m %v|XADD %x NOMKSTREAM %d a b
XADD %x MAXLEN = 9 %d %m %v|XADD %x MAXLEN ~ 9 %d %m %v|XADD %x 0-0 a b|XADD %x 1-1 a b|XADD %x %d a|XTRIM %x MAXLEN 5
XTRIM %x MINID ~ %D|XDEL %x %D-0|XSETID %x %d-5|XINFO STREAM %x|XINFO GROUPS %x|XINFO HELP|XINFO NONSENSE
XREAD COUNT 2 STREAMS %x %x 0 %D|XREAD BLOCK 1 STREAMS %x $|XREAD BLOCK 1 COUNT 1 STREAMS %x 0|XREAD STREAMS %x
XGROUP CREATE %x group 0 MKSTREAM|XGROUP CREATE %x group $|XGROUP SETID %x group 0|XGROUP DESTROY %x other
XGROUP CREATE %x other 0|XGROUP CREATECONSUMER %x group %m|XGROUP DELCONSUMER %x group %m|XGROUP HELP|XGROUP NONSENSE
XREADGROUP GROUP group %m COUNT 2 STREAMS %x >|XREADGROUP GROUP group %m STREAMS %x 0|XREADGROUP GROUP none a STREAMS %x >
XREADGROUP GROUP group %m BLOCK 1 STREAMS %x >|XREADGROUP GROUP group %m NOACK STREAMS %x >|XACK %x group %D-0 %D-0
XCLAIM %x group %m 0 %D-0|XCLAIM %x group %m 0 %D-0 JUSTID|XAUTOCLAIM %x group %m 0 0|XAUTOCLAIM %x group %m 0 0 COUNT 2 JUSTID
XPENDING %x group|XPENDING %x none
EVAL %1 1 %s %v|EVAL %2 1 %l %v|EVAL %3 1 %s|EVAL %4 1 %s %v|EVAL %5 1 %z %m|EVAL %6 1 %h|EVAL %7 1 %s|EVAL %1 2 %s
EVAL_RO %3 1 %s|EVAL_RO %1 1 %s x|EVALSHA 0123456789012345678901234567890123456789 1 %s|EVALSHA_RO abc 0
EVAL junk( 0|SCRIPT LOAD %3|SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db|EVALSHA %S 1 %s|SCRIPT HELP|SCRIPT NONSENSE
FUNCTION LOAD REPLACE %L|FUNCTION LOAD %L|FUNCTION LOAD junk|FCALL put 1 %s %v|FCALL_RO look 1 %s|FCALL_RO put 1 %s x
FCALL none 0|FUNCTION HELP|FUNCTION NONSENSE
PING|PING %v|PING a b|ECHO %v|ECHO|NOSUCH|NOSUCH %v %v|get %s|gEt %s|GET|GET %s %s|QUITE|COMMAND COUNT|COMMAND GETKEYS SET a b
COMMAND GETKEYS EVAL x 2 a b|COMMAND GETKEYSANDFLAGS GET a|COMMAND GETKEYS PING|COMMAND HELP|COMMAND NONSENSE|COMMAND LIST a
CONFIG GET maxmemory|CONFIG SET hz 500|CONFIG SET nonsense 1|CONFIG GET|CONFIG NONSENSE|ACL WHOAMI|ACL USERS|ACL GETUSER bob
ACL DRYRUN carol GET x|ACL CAT nonsense|LATENCY LATEST|LATENCY RESET|SLOWLOG GET 0|SLOWLOG RESET|MODULE LIST|ROLE|LOLWUT VERSION 9 1
PUBSUB CHANNELS none*|PUBSUB HELP|MEMORY HELP|MEMORY NONSENSE|SWAPDB 2 3|SWAPDB 2 99|SWAPDB a b|DEBUG NONSENSE|DEBUG SLEEP 0
WAIT 0 10|WAIT 1|CLIENT SETNAME %m|CLIENT SETNAME|CLIENT SETNAME a%sb|CLIENT GETNAME|CLIENT GETREDIR
CLIENT NO-EVICT ON|CLIENT NO-EVICT OFF|CLIENT NONSENSE|CLIENT|CLIENT HELP|CLIENT UNPAUSE|CLIENT SETINFO LIB-NAME x|CLIENT TRACKINGINFO
CLIENT TRACKING|CLIENT CACHING YES|CLIENT REPLY|CLIENT REPLY NONSENSE|CLIENT UNBLOCK 999999|CLIENT KILL NONSENSE x|CLIENT GETNAME x
PUBLISH %k %v|PUBLISH %k|SPUBLISH %k %v|PUBSUB NUMSUB %k|PUBSUB NUMPAT|PUBSUB SHARDNUMSUB %k|SUBSCRIBE|PSUBSCRIBE
EXEC x|MULTI x|DISCARD x|UNWATCH x|WATCH|SELECT|SELECT a|SELECT 16|SELECT -1|SELECT 1 2|RESET x|HELLO 4|HELLO x|HELLO 2 NONSENSE
AUTH|AUTH a b c|AUTH bob wrong|AUTH nobody x|HELLO 3 AUTH bob wrong|CLUSTER INFO|CLUSTER NONSENSE|ASKING|READONLY|READWRITE
SET big %V|GET big|ECHO %V|RPUSH %l %V|HSET %h %m %V|PUBLISH %k %V|NOSUCH %V
LASTSAVE x|TIME x|INFO a b c d e f nonsense
";

/// Replies from tables whose order is each process's own.
const UNORDERED: &str = "
SMEMBERS %w|SUNION %w %w|SINTER %w %w|SDIFF %w %w|SSCAN %w 0 COUNT 1000|ZSCAN %z 0|HSCAN %h 0|SRANDMEMBER %w 1000000|KEYS *|KEYS s*
SCAN 0 COUNT 1000000|SCAN 0 MATCH l* COUNT 1000000 TYPE list|COMMAND LIST|PUBSUB CHANNELS|PUBSUB SHARDCHANNELS|ACL CAT
COMMAND LIST FILTERBY PATTERN x*|SORT %w BY nosort|COMMAND INFO GET|COMMAND INFO nonsense|COMMAND DOCS GET|FUNCTION LIST
";

/// Replies that count down.
const CLOCK: &str = "TTL %a|PTTL %a|EXPIRETIME %a|PEXPIRETIME %a";

/// Replies that tell of the connection, the process or the time.
const KIND: &str = "
TIME|LASTSAVE|CLIENT ID|CLIENT INFO|CLIENT LIST|INFO|INFO server|MEMORY USAGE %s|MEMORY STATS|MEMORY DOCTOR|SLOWLOG LEN
OBJECT IDLETIME %s|XINFO CONSUMERS %x group|XPENDING %x group - + 10|XINFO STREAM %x FULL|COMMAND|DEBUG OBJECT %s|LOLWUT|LATENCY HISTOGRAM GET
FUNCTION DUMP|DUMP %a|FUNCTION STATS|ACL GENPASS|ACL LOG
";

/// Names of these are not combined with random arguments: they end or block
/// the server or other connections, take what is random, or are said with care
/// elsewhere.
const NOT_RANDOM: &str = "
SHUTDOWN DEBUG MONITOR SYNC PSYNC REPLCONF REPLICAOF SLAVEOF FAILOVER MIGRATE SAVE BGSAVE BGREWRITEAOF CLIENT ACL CONFIG
WAIT WAITAOF SPOP SRANDMEMBER HRANDFIELD ZRANDMEMBER RANDOMKEY SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE
SUNSUBSCRIBE QUIT RESET MULTI EXEC DISCARD AUTH HELLO FLUSHALL FLUSHDB SWAPDB TIME LASTSAVE INFO MEMORY LATENCY SLOWLOG
LOLWUT COMMAND BLPOP BRPOP BLMPOP BRPOPLPUSH BLMOVE BZPOPMIN BZPOPMAX BZMPOP KEYS SCAN SMEMBERS SUNION SINTER SDIFF SSCAN
SORT SORT_RO TTL PTTL EXPIRETIME PEXPIRETIME XADD XINFO XPENDING OBJECT FUNCTION SCRIPT MODULE CLUSTER PUBLISH SPUBLISH
PUBSUB RESTORE RESTORE-ASKING DUMP PFDEBUG PFSELFTEST SELECT ROLE EXPIRE PEXPIRE EXPIREAT PEXPIREAT SETEX PSETEX XCLAIM
XAUTOCLAIM WATCH SADD
";

/// Makes commands out of a seed.
pub struct Generator {
    pub random: Random,
    templates: [(Compare, Vec<&'static str>); 4],
    /// Every name Redis 7.0 has.
    names: Vec<String>,
    /// What `DUMP` gave of some string.
    pub payload: Vec<u8>,
    /// The SHA1 of a script both servers have loaded.
    pub sha: Vec<u8>,
    /// The ids of stream entries.
    next_id: u64,
    /// Times to live never repeat, so that no two are close to equal.
    next_time: u64,
}

/// The keys of one type are a letter and a digit below this.
const KEYS_OF_A_TYPE: usize = 4;
/// Sets of words (`w`) stay apart: their order is each process's own, and no
/// command may carry them over to a key of another letter.
const TYPES: [&str; 9] = ["s", "b", "p", "l", "e", "z", "g", "h", "x"];

impl Generator {
    pub fn new(seed: u64, names: Vec<String>) -> Generator {
        let parse = |text: &'static str| -> Vec<&'static str> {
            let lines = text.lines().flat_map(|line| line.split('|'));
            lines.filter(|part| !part.is_empty()).collect()
        };
        let forbidden: Vec<&str> = NOT_RANDOM.split_ascii_whitespace().collect();
        let names = names
            .into_iter()
            .map(|name| name.to_ascii_uppercase())
            .filter(|name| !forbidden.contains(&name.as_str()))
            .collect();
        Generator {
            random: Random::new(seed),
            templates: [
                (Compare::Exact, parse(EXACT)),
                (Compare::Unordered, parse(UNORDERED)),
                (Compare::Clock, parse(CLOCK)),
                (Compare::Kind, parse(KIND)),
            ],
            names,
            payload: Vec::new(),
            sha: Vec::new(),
            next_id: 1,
            next_time: 0,
        }
    }

    /// Any command; one whose replies are the same byte by byte if `exact`.
    pub fn command(&mut self, exact: bool) -> Command {
        let kind = match self.random.below(100) {
            0..6 => return self.any_of_the_table(),
            6..10 if !exact => 1,
            10..12 if !exact => 2,
            12..15 if !exact => 3,
            _ => 0,
        };
        let (compare, templates) = &self.templates[kind];
        let (compare, template) = (*compare, *self.random.pick(templates));
        Command {
            compare,
            ..self.of(template)
        }
    }

    /// The command of a template, compared byte by byte.
    pub fn of(&mut self, template: &str) -> Command {
        let arguments = template.split(' ').map(|word| self.word(word)).collect();
        Command {
            arguments,
            compare: Compare::Exact,
        }
    }

    /// Any name with anything behind it: most of it is refused.
    fn any_of_the_table(&mut self) -> Command {
        let at = self.random.below(self.names.len());
        let mut arguments = vec![self.names[at].clone().into_bytes()];
        for _ in 0..self.random.below(6) {
            let word = *self.random.pick(&[
                "%a", "%a", "%m", "%n", "%i", "%v", "0", "1", "2", "LEFT", "COUNT", "STREAMS", "%f",
            ]);
            arguments.push(self.word(word));
        }
        Command {
            arguments,
            compare: Compare::Exact,
        }
    }

    fn word(&mut self, word: &str) -> Vec<u8> {
        let Some((before, rest)) = word.split_once('%') else {
            return word.as_bytes().to_vec();
        };
        let mut argument = before.as_bytes().to_vec();
        argument.extend(self.fill(rest.as_bytes()[0]));
        argument.extend_from_slice(&rest.as_bytes()[1..]);
        argument
    }

    /// What stands for `%` and `letter`.
    fn fill(&mut self, letter: u8) -> Vec<u8> {
        let random = &mut self.random;
        let text = match letter {
            b'v' => return random_value(random),
            // Larger than any buffer; LCS would take ages over two of them.
            b'V' => {
                let length = random.below(200_000);
                return vec![b'x'; length];
            }
            b'r' => return self.payload.clone(),
            b'S' => return self.sha.clone(),
            b'L' => LIBRARY.to_owned(),
            b'm' => format!("m{}", random.below(8)),
            b'k' => format!("c{}", random.below(4)),
            b'n' => (random.below(41) as i64 - 20).to_string(),
            b'i' => random.below(50).to_string(),
            b'c' => random.below(6).to_string(),
            b'f' => format!("{}", (random.below(4001) as f64 - 2000.0) / 8.0),
            // Nothing expires while the test runs, unless it is past already.
            b't' | b'T' | b'U' | b'M' => {
                self.next_time += 10;
                let seconds = 100_000 + self.next_time;
                match letter {
                    b't' => seconds.to_string(),
                    b'T' => (seconds * 1000).to_string(),
                    b'U' => (4_000_000_000 + seconds).to_string(),
                    _ => ((5_000_000_000 + seconds) * 1000).to_string(),
                }
            }
            b'd' => {
                self.next_id += 1;
                self.next_id.to_string()
            }
            b'D' => self
                .next_id
                .saturating_sub(random.below(30) as u64)
                .to_string(),
            b'1'..=b'7' => SCRIPTS[usize::from(letter - b'1')].to_owned(),
            _ => {
                // Now and then a key of a type the command is not for.
                let is_any = letter == b'a' || (letter != b'w' && random.below(25) == 0);
                let kind = match is_any {
                    true => (*random.pick(&TYPES)).to_owned(),
                    false => char::from(letter).to_string(),
                };
                format!("{kind}{}", random.below(KEYS_OF_A_TYPE))
            }
        };
        text.into_bytes()
    }
}

fn random_value(random: &mut Random) -> Vec<u8> {
    match random.below(40) {
        0..6 => Vec::new(),
        6..12 => b"with\r\nline ends".to_vec(),
        12..18 => {
            let length = random.below(40);
            random.bytes(length)
        }
        18..24 => format!("{}.5", random.below(100)).into_bytes(),
        24 => {
            let length = random.below(2_000);
            vec![b'x'; length]
        }
        _ => random.below(1000).to_string().into_bytes(),
    }
}

/// A command as a line, where it can be one.
pub fn inline(arguments: &[Vec<u8>], random: &mut Random) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    for argument in arguments {
        if !line.is_empty() {
            line.push(b' ');
        }
        let plain = !argument.is_empty()
            && argument
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-.+$>".contains(byte));
        if plain && random.below(4) != 0 {
            line.extend_from_slice(argument);
            continue;
        }
        line.push(b'"');
        for byte in argument {
            match byte {
                b'"' | b'\\' => line.extend_from_slice(&[b'\\', *byte]),
                b' '..=b'~' => line.push(*byte),
                _ => line.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
            }
        }
        line.push(b'"');
    }
    line.extend_from_slice(if random.below(2) == 0 { b"\r\n" } else { b"\n" });
    // Longer lines are refused.
    (line.len() < 60_000 && line.first() != Some(&b'*')).then_some(line)
}
