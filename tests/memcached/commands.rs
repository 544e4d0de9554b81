//! Random commands of all three protocols, well-formed and not.

use super::support::Random;
use super::support::memcached::packet;

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Text,
    Meta,
    Binary,
}

/// A random key out of a few.
fn key(random: &mut Random) -> String {
    format!("k{}", random.below(14))
}

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(12) {
        0 => Vec::new(),
        1 => format!("{}", random.below(1000)).into_bytes(),
        2 => b"a\r\nset k0 0 0 1\r\nb".to_vec(),
        3 => vec![b'x'; random.below(5000)],
        4 => random.bytes(20),
        _ => format!("v{}", random.below(100_000)).into_bytes(),
    }
}

/// Times long enough that none ends while a test runs, or over at once.
fn time(random: &mut Random) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("the clock is past 1970")
        .as_secs();
    match random.below(8) {
        0 => "3600".to_owned(),
        1 => "2592000".to_owned(),
        2 => (now + 3_000_000).to_string(),
        3 => "-1".to_owned(),
        _ => "0".to_owned(),
    }
}

/// One command of a dialect.
pub fn command(random: &mut Random, dialect: Dialect) -> Vec<u8> {
    match dialect {
        Dialect::Text => text(random),
        Dialect::Meta => meta(random),
        Dialect::Binary => binary(random),
    }
}

fn stored(head: &str, value: &[u8], tail: &str) -> Vec<u8> {
    let mut bytes = format!("{head} {}{tail}\r\n", value.len()).into_bytes();
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn text(random: &mut Random) -> Vec<u8> {
    let (name, flags) = (key(random), random.below(70_000));
    let noreply = if random.below(5) == 0 { " noreply" } else { "" };
    let line = |text: String| format!("{text}\r\n").into_bytes();
    match random.below(26) {
        0..=4 => {
            let verb = random.pick(&["set", "set", "add", "replace", "append", "prepend"]);
            let (value, time) = (value(random), time(random));
            stored(&format!("{verb} {name} {flags} {time}"), &value, noreply)
        }
        5 | 6 => {
            let (value, unique) = (value(random), random.below(60));
            stored(
                &format!("cas {name} {flags} 0"),
                &value,
                &format!(" {unique}{noreply}"),
            )
        }
        7..=9 => {
            let verb = random.pick(&["get", "gets"]);
            let keys: Vec<String> = (0..=random.below(6)).map(|_| key(random)).collect();
            line(format!("{verb} {}", keys.join(" ")))
        }
        10 => {
            let verb = random.pick(&["gat", "gats"]);
            let keys: Vec<String> = (0..=random.below(3)).map(|_| key(random)).collect();
            line(format!("{verb} {} {}", time(random), keys.join(" ")))
        }
        11 | 12 => line(format!("delete {name}{noreply}")),
        13 | 14 => {
            let verb = random.pick(&["incr", "decr"]);
            line(format!("{verb} {name} {}{noreply}", random.below(100)))
        }
        15 => line(format!("touch {name} {}{noreply}", time(random))),
        16 if random.below(8) == 0 => line(format!("flush_all{noreply}")),
        17 => line("version".to_owned()),
        18 => line(format!("verbosity 0{noreply}")),
        19 => {
            // An old number: it is known where it was stored before.
            stored(&format!("set num{} 0 0", random.below(3)), b"17", noreply)
        }
        20 => line(format!("incr num{} 5{noreply}", random.below(3))),
        21 => odd_text(random, &name),
        22 => stored(&format!("set  {name}   {flags} 0"), b"spaces", noreply),
        _ => line(format!("get {name}")),
    }
}

/// What memcached answers with an error, or in some way that is easily missed.
fn odd_text(random: &mut Random, name: &str) -> Vec<u8> {
    let longest = "k".repeat(250);
    let choices: Vec<Vec<u8>> = vec![
        b"nonsense\r\n".to_vec(),
        b"\r\n".to_vec(),
        b"get\r\n".to_vec(),
        b"GET k1\r\n".to_vec(),
        format!("set {longest} 0 0 1\r\nx\r\n").into_bytes(),
        format!("get {longest}\r\n").into_bytes(),
        format!("incr {name} abc\r\n").into_bytes(),
        format!("incr {name} -1\r\n").into_bytes(),
        format!("delete {name} 0\r\n").into_bytes(),
        format!("delete {name} 5\r\n").into_bytes(),
        format!("touch {name} x\r\n").into_bytes(),
        b"delete\r\n".to_vec(),
        b"flush_all x\r\n".to_vec(),
        b"verbosity\r\n".to_vec(),
        b"set k1 0 0 x\r\n".to_vec(),
        b"set k1 0 0 -1\r\n".to_vec(),
        b"get k1\n".to_vec(),
        b"set k1 0 0 2\nok\n\n".to_vec(),
        b"set k1 0 0 3\r\nlongerthanthree\r\n".to_vec(),
        b"gat x k1\r\n".to_vec(),
        b"cache_memlimit 64\r\n".to_vec(),
        b"lru mode flat\r\n".to_vec(),
        b"slabs reassign x y\r\n".to_vec(),
        b"lru_crawler nonsense\r\n".to_vec(),
    ];
    random.pick(&choices).clone()
}

fn meta(random: &mut Random) -> Vec<u8> {
    // Every now and then in base64: "k5" is "azU=".
    let (name, base64) = match random.below(6) {
        0 => ("azU=".to_owned(), " b"),
        _ => (key(random), ""),
    };
    let mut flags = |choices: &[&str]| {
        let mut text = base64.to_owned();
        for choice in choices {
            if random.below(3) == 0 {
                text.push(' ');
                text.push_str(choice);
            }
        }
        text
    };
    let read = flags(&["v", "f", "c", "s", "k", "O123", "q", "t"]);
    let write = flags(&["F9", "T3600", "c", "k", "Oab", "q"]);
    let drop = flags(&["k", "O7", "q"]);
    let count = flags(&["v", "c", "t", "D7", "Ox"]);
    match random.below(20) {
        0..=4 => format!("mg {name}{read}\r\n").into_bytes(),
        5..=8 => {
            let value = value(random);
            let mode = random.pick(&["", "", " MS", " ME", " MR", " MA", " MP", " MA N3600"]);
            stored(&format!("ms {name}"), &value, &format!("{write}{mode}"))
        }
        9 => {
            let unique = random.below(60);
            stored(
                &format!("ms {name}"),
                b"compared",
                &format!("{write} C{unique}"),
            )
        }
        10 | 11 => format!("md {name}{drop}\r\n").into_bytes(),
        12 => format!("md {name}{drop} C{}\r\n", random.below(60)).into_bytes(),
        13 => format!("md {name}{drop} I T3600\r\n").into_bytes(),
        14 => format!("ma {name}{count}\r\n").into_bytes(),
        15 => format!(
            "ma num{}{count} N3600 J5 M{}\r\n",
            random.below(3),
            random.pick(&["I", "D"])
        )
        .into_bytes(),
        16 => format!("mg {name}{read} T3600\r\n").into_bytes(),
        17 => format!("mg {name} v c N3600\r\n").into_bytes(),
        18 => format!("me nothing{}\r\n", random.below(9)).into_bytes(),
        _ => {
            let choices: [&[u8]; 8] = [
                b"mg\r\n",
                b"mg k1 v v\r\n",
                b"mg k1 !\r\n",
                b"ma k1 MX\r\n",
                b"mz k1\r\n",
                b"ms k1 abc\r\n",
                b"mg notbase64 b v\r\n",
                b"ms k1 2 T3600 q\r\nhi\r\n",
            ];
            random.pick(&choices).to_vec()
        }
    }
}

fn binary(random: &mut Random) -> Vec<u8> {
    let name = key(random);
    let opaque = (random.next() as u32 & 0xffff).to_be_bytes();
    let quiet = random.below(4) == 0;
    let pick = |loud: u8, silent: u8| if quiet { silent } else { loud };
    let compare = match random.below(6) {
        0 => random.below(60) as u64,
        _ => 0,
    };
    let times = [0_u32, 0, 3600, 2_592_000];
    let lives = random.pick(&times).to_be_bytes();
    let set_extras = [(random.below(70_000) as u32).to_be_bytes(), lives].concat();
    let bytes = name.as_bytes();
    match random.below(20) {
        0..=3 => {
            let (loud, silent) = *random.pick(&[(1, 0x11), (1, 0x11), (2, 0x12), (3, 0x13)]);
            let value = value(random);
            packet(
                pick(loud, silent),
                opaque,
                compare,
                &set_extras,
                bytes,
                &value,
            )
        }
        4 => packet(pick(0x0e, 0x19), opaque, 0, b"", bytes, b"tail"),
        5 => packet(pick(0x0f, 0x1a), opaque, 0, b"", bytes, b"head"),
        6..=8 => packet(pick(0x00, 0x09), opaque, 0, b"", bytes, b""),
        9 | 10 => packet(pick(0x0c, 0x0d), opaque, 0, b"", bytes, b""),
        11 | 12 => packet(pick(0x04, 0x14), opaque, compare, b"", bytes, b""),
        13 | 14 => {
            let mut extras = [0; 20];
            extras[7] = random.below(9) as u8;
            extras[15] = random.below(9) as u8;
            if random.below(3) == 0 {
                extras[16..].copy_from_slice(&[0xff; 4]);
            }
            let name = format!("num{}", random.below(3));
            let opcodes = *random.pick(&[(0x05, 0x15), (0x06, 0x16)]);
            packet(
                pick(opcodes.0, opcodes.1),
                opaque,
                0,
                &extras,
                name.as_bytes(),
                b"",
            )
        }
        15 => packet(0x1c, opaque, 0, &lives, bytes, b""),
        16 => packet(pick(0x1d, 0x1e), opaque, 0, &lives, bytes, b""),
        17 => packet(0x0b, opaque, 0, b"", b"", b""),
        18 => packet(0x0a, opaque, 0, b"", b"", b""),
        _ if random.below(6) == 0 => packet(pick(0x08, 0x18), opaque, 0, b"", b"", b""),
        _ => packet(pick(0x23, 0x24), opaque, 0, &lives, bytes, b""),
    }
}
