//! What clients send.

use bytes::Bytes;

use super::random::Random;

/// A random command on one of a few keys. Some keys know one kind of command
/// only, so that more can be said of their values.
pub fn command(random: &mut Random) -> Vec<Bytes> {
    let value = format!("v{:x}", random.next());
    let key = random.below(3);
    let text = match random.below(20) {
        0..=3 => format!("SET last{key} {value}"),
        4..=6 => format!("INCRBY count{key} {}", 1 + random.below(9)),
        7 => format!("SADD set{key} m{} m{}", random.below(5), random.below(5)),
        8 => format!("SREM set{key} m{}", random.below(5)),
        9 => format!("HSET hash{key} f{} {value}", random.below(4)),
        10 => format!("HDEL hash{key} f{}", random.below(4)),
        11 => format!("RPUSH list{key} {value}"),
        12 if random.permille(300) => format!("BLPOP list{key}"),
        12 => format!("LPOP list{key}"),
        13 => format!("SETNX mix{key} {value}"),
        14 => format!("DEL mix{key}"),
        15 => format!("APPEND mix{key} x"),
        16 => match random.below(6) {
            0 => format!("SPOP set{key}"),
            1 => format!("RPUSH mix{key} {value}"),
            2 => format!("RENAME mix{key} mix{}", random.below(3)),
            3 => format!("INCRBY mix{key} 5"),
            4 => format!("HINCRBY number{key} f{} 3", random.below(3)),
            _ => format!("HSET number{key} f{} 100", random.below(3)),
        },
        17 => format!("MSET last{key} {value} mix{key} {value}"),
        18 => format!("SET mix{key} {value}"),
        _ => format!(
            "PEXPIREAT mix{key} {}",
            1_900_000_000_000_u64 + random.below(1000)
        ),
    };
    text.split(' ')
        .map(|word| Bytes::from(word.to_owned()))
        .collect()
}
