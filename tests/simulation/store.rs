//! A datastore with the commands of Redis that the simulation uses.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(Vec<u8>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    List(Vec<Vec<u8>>),
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Ok,
    Nothing,
    Text(Vec<u8>),
    Error(String),
}

#[derive(Debug, Default)]
pub struct Store {
    pub region: String,
    pub keys: BTreeMap<Vec<u8>, (Value, i64)>,
    /// How often each key was changed.
    pub changes: HashMap<Vec<u8>, u64>,
    pub checkpoints: BTreeMap<String, String>,
    /// What the leader is asked for.
    pub asked: Option<String>,
    /// Who leads, and until when (virtual milliseconds).
    pub lease: Option<(u64, u64)>,
    /// How often it was emptied without anybody being told.
    pub flushes_untold: u64,
}

const WRONG_TYPE: &str = "WRONGTYPE";

impl Store {
    /// Executes one command; `who` says for whom, where a key is watched by
    /// people (`SIMULATION_KEY`).
    pub fn execute(&mut self, who: &str, arguments: &[Bytes]) -> Reply {
        let reply = self.execute_quietly(arguments);
        if let Ok(key) = std::env::var("SIMULATION_KEY")
            && arguments[1..].iter().any(|one| *one == key)
        {
            let value = self.keys.get(key.as_bytes());
            println!("{} {who} {arguments:?} {reply:?}: {value:?}", self.region);
        }
        reply
    }

    fn execute_quietly(&mut self, arguments: &[Bytes]) -> Reply {
        let name = String::from_utf8_lossy(&arguments[0]).to_uppercase();
        if name == "FLUSHALL" {
            self.flushes_untold += 1;
            for (key, _) in std::mem::take(&mut self.keys) {
                *self.changes.entry(key).or_insert(0) += 1;
            }
            // What replicators keep there goes, too.
            self.checkpoints.clear();
            self.lease = None;
            return Reply::Ok;
        }
        let key = arguments.get(1).map(|key| key.to_vec()).unwrap_or_default();
        // What comes to nothing does not touch the key, for those who watch it.
        let may_be_nothing = matches!(
            name.as_str(),
            "DEL" | "UNLINK" | "SADD" | "SREM" | "HDEL" | "LPOP" | "BLPOP" | "SPOP" | "SETNX"
        );
        let before = self.keys.get(&key).cloned();
        let reply = self.command(&name, &key, arguments);
        if may_be_nothing && self.keys.get(&key) == before.as_ref() {
            return reply;
        }
        if !matches!(reply, Reply::Error(_)) {
            let keys: Vec<Vec<u8>> = match name.as_str() {
                "MSET" => arguments[1..]
                    .chunks(2)
                    .map(|pair| pair[0].to_vec())
                    .collect(),
                "DEL" | "UNLINK" | "RENAME" => {
                    arguments[1..].iter().map(|key| key.to_vec()).collect()
                }
                _ => vec![key],
            };
            for key in keys {
                *self.changes.entry(key).or_insert(0) += 1;
            }
        }
        reply
    }

    fn command(&mut self, name: &str, key: &[u8], arguments: &[Bytes]) -> Reply {
        let argument = |index: usize| {
            arguments
                .get(index)
                .map(|one| one.to_vec())
                .unwrap_or_default()
        };
        let number = |bytes: &[u8]| String::from_utf8_lossy(bytes).parse::<i64>().ok();
        macro_rules! typed {
            ($kind:ident, $new:expr) => {
                match self
                    .keys
                    .entry(key.to_vec())
                    .or_insert((Value::$kind($new), 0))
                {
                    (Value::$kind(value), _) => value,
                    _ => return Reply::Error(WRONG_TYPE.to_owned()),
                }
            };
        }
        let reply = match name {
            "SET" => {
                let at = match arguments.get(3) {
                    Some(_) => number(&argument(4)).unwrap_or(0),
                    None => 0,
                };
                self.keys
                    .insert(key.to_vec(), (Value::Text(argument(2)), at));
                Reply::Ok
            }
            "SETNX" => match self.keys.contains_key(key) {
                true => Reply::Nothing,
                false => {
                    self.keys
                        .insert(key.to_vec(), (Value::Text(argument(2)), 0));
                    Reply::Ok
                }
            },
            "MSET" => {
                for pair in arguments[1..].chunks(2) {
                    self.keys
                        .insert(pair[0].to_vec(), (Value::Text(pair[1].to_vec()), 0));
                }
                Reply::Ok
            }
            "DEL" | "UNLINK" => {
                for key in &arguments[1..] {
                    self.keys.remove(&key[..]);
                }
                Reply::Ok
            }
            "RENAME" => match self.keys.remove(key) {
                Some(value) => {
                    self.keys.insert(argument(2), value);
                    Reply::Ok
                }
                None => Reply::Error("ERR no such key".to_owned()),
            },
            "INCR" | "INCRBY" | "DECRBY" => {
                let delta = match name {
                    "INCR" => 1,
                    "INCRBY" => number(&argument(2)).expect("a number"),
                    _ => -number(&argument(2)).expect("a number"),
                };
                let known = typed!(Text, b"0".to_vec());
                match number(known) {
                    Some(value) => {
                        *known = (value + delta).to_string().into_bytes();
                        Reply::Text(known.clone())
                    }
                    None => Reply::Error("ERR value is not an integer".to_owned()),
                }
            }
            "APPEND" => {
                let added = argument(2);
                typed!(Text, Vec::new()).extend(added);
                Reply::Ok
            }
            "HSET" => {
                let hash = typed!(Hash, BTreeMap::new());
                for pair in arguments[2..].chunks(2) {
                    hash.insert(pair[0].to_vec(), pair[1].to_vec());
                }
                Reply::Ok
            }
            "HDEL" => {
                let hash = typed!(Hash, BTreeMap::new());
                for field in &arguments[2..] {
                    hash.remove(&field[..]);
                }
                Reply::Ok
            }
            "HINCRBY" => {
                let (field, delta) = (argument(2), number(&argument(3)).expect("a number"));
                let hash = typed!(Hash, BTreeMap::new());
                let known = hash.entry(field).or_insert_with(|| b"0".to_vec());
                match number(known) {
                    Some(value) => {
                        *known = (value + delta).to_string().into_bytes();
                        Reply::Ok
                    }
                    None => Reply::Error("ERR hash value is not an integer".to_owned()),
                }
            }
            "SADD" => {
                let members: Vec<Vec<u8>> = arguments[2..].iter().map(|one| one.to_vec()).collect();
                typed!(Set, BTreeSet::new()).extend(members);
                Reply::Ok
            }
            "SREM" => {
                let set = typed!(Set, BTreeSet::new());
                for member in &arguments[2..] {
                    set.remove(&member[..]);
                }
                Reply::Ok
            }
            "SPOP" => match typed!(Set, BTreeSet::new()).pop_first() {
                Some(member) => Reply::Text(member),
                None => Reply::Nothing,
            },
            "RPUSH" => {
                let added: Vec<Vec<u8>> = arguments[2..].iter().map(|one| one.to_vec()).collect();
                typed!(List, Vec::new()).extend(added);
                Reply::Ok
            }
            "LPOP" | "BLPOP" => {
                let list = typed!(List, Vec::new());
                match list.is_empty() {
                    true => Reply::Nothing,
                    false => Reply::Text(list.remove(0)),
                }
            }
            "PEXPIREAT" => match self.keys.get_mut(key) {
                Some((_, at)) => {
                    *at = number(&argument(2)).unwrap_or(0);
                    Reply::Ok
                }
                None => Reply::Nothing,
            },
            "RESTORE" => {
                let at = number(&argument(2)).unwrap_or(0);
                self.keys.insert(key.to_vec(), (undump(&argument(3)), at));
                Reply::Ok
            }
            other => Reply::Error(format!("ERR unknown command {other}")),
        };
        let is_empty = match self.keys.get(key) {
            Some((Value::Hash(hash), _)) => hash.is_empty(),
            Some((Value::Set(set), _)) => set.is_empty(),
            Some((Value::List(list), _)) => list.is_empty(),
            _ => false,
        };
        if is_empty {
            self.keys.remove(key);
        }
        reply
    }

    pub fn dump(&self, key: &[u8]) -> Option<(Bytes, i64)> {
        let (value, at) = self.keys.get(key)?;
        let mut out = Vec::new();
        let mut put = |part: &[u8]| {
            out.extend((part.len() as u32).to_le_bytes());
            out.extend(part);
        };
        match value {
            Value::Text(text) => {
                put(b"t");
                put(text);
            }
            Value::Hash(hash) => {
                put(b"h");
                hash.iter().for_each(|(field, value)| {
                    put(field);
                    put(value);
                });
            }
            Value::Set(set) => {
                put(b"s");
                set.iter().for_each(|member| put(member));
            }
            Value::List(list) => {
                put(b"l");
                list.iter().for_each(|member| put(member));
            }
        }
        Some((Bytes::from(out), *at))
    }
}

fn undump(mut bytes: &[u8]) -> Value {
    let mut parts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (part, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        parts.push(part.to_vec());
        bytes = rest;
    }
    let kind = parts.remove(0);
    match &kind[..] {
        b"t" => Value::Text(parts.remove(0)),
        b"h" => Value::Hash(
            parts
                .chunks(2)
                .map(|pair| (pair[0].clone(), pair[1].clone()))
                .collect(),
        ),
        b"s" => Value::Set(parts.into_iter().collect()),
        _ => Value::List(parts),
    }
}
