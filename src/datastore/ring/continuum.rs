//! Ketama: which of several servers has a key.
//!
//! Points on a circle of 32 bits, 160 for a server of average weight; a key
//! belongs to the server of the first point that is not before its own hash.
//! Points and hashes are little-endian words of MD5. The same as libmemcached's
//! `MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED`, spymemcached's
//! `KetamaNodeLocator` and twemproxy's `ketama` with equal names and weights.

/// Points of a server of average weight.
const POINTS: usize = 160;
/// So many points come from one digest.
const POINTS_PER_DIGEST: usize = 4;

/// A server as the circle knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// What its points are made of.
    pub text: String,
    /// Its share of the keys.
    pub weight: u32,
}

/// The circle.
#[derive(Debug, Clone)]
pub struct Continuum {
    /// Ascending, each with the index of its server.
    points: Vec<(u32, u32)>,
}

impl Continuum {
    /// The circle of these servers; one at least.
    pub fn new(servers: &[Name]) -> Continuum {
        let total: u32 = servers.iter().map(|server| server.weight).sum();
        let mut points = Vec::with_capacity(POINTS * servers.len());
        for (index, server) in servers.iter().enumerate() {
            for digest in 0..digests(server.weight, total, servers.len()) {
                let bytes = md5::compute(format!("{}-{digest}", server.text));
                for word in bytes.0.chunks_exact(4) {
                    let word = word.try_into().expect("four bytes");
                    points.push((u32::from_le_bytes(word), index as u32));
                }
            }
        }
        // Of two servers with one point the later is found, which is never in
        // practice.
        points.sort_by_key(|(point, _)| *point);
        Continuum { points }
    }

    /// The server that has `key`, skipping those that `is_out`; the one that
    /// would have it if none were, if all are.
    pub fn server(&self, key: &[u8], is_out: impl Fn(usize) -> bool) -> usize {
        let hash = hash(key);
        let first = self.points.partition_point(|(point, _)| *point < hash);
        let from = |at: usize| self.points[at % self.points.len()].1 as usize;
        let mut circle = (first..first + self.points.len()).map(from);
        circle
            .find(|server| !is_out(*server))
            .unwrap_or_else(|| from(first))
    }
}

/// How many digests make a server's points. In the arithmetic of the C code,
/// whose rounding is part of the placement.
fn digests(weight: u32, total: u32, servers: usize) -> usize {
    let share = weight as f32 / total as f32;
    let points_per_digest = POINTS_PER_DIGEST as f32;
    (share * POINTS as f32 / points_per_digest * servers as f32 + 1e-10).floor() as usize
}

fn hash(key: &[u8]) -> u32 {
    let digest = md5::compute(key).0;
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(names: &[(&str, u32)]) -> Continuum {
        let name = |(text, weight): &(&str, u32)| Name {
            text: (*text).to_owned(),
            weight: *weight,
        };
        Continuum::new(&names.iter().map(name).collect::<Vec<_>>())
    }

    #[test]
    fn keys_are_spread_by_weight() {
        let equal = ring(&[("a", 1), ("b", 1), ("c", 1)]);
        let weighted = ring(&[("a", 1), ("b", 3)]);
        let count = |ring: &Continuum, server: usize| {
            (0..30_000)
                .filter(|key| ring.server(format!("key:{key}").as_bytes(), |_| false) == server)
                .count()
        };
        assert_eq!(equal.points.len(), 480);
        for server in 0..3 {
            let keys = count(&equal, server);
            assert!((7_000..13_000).contains(&keys), "{keys}");
        }
        let keys = count(&weighted, 1);
        assert!((19_500..25_500).contains(&keys), "{keys}");
    }

    #[test]
    fn a_server_that_is_out_moves_its_own_keys_only() {
        let ring = ring(&[("a", 1), ("b", 1), ("c", 1)]);
        for key in 0..1000 {
            let key = format!("key:{key}");
            let before = ring.server(key.as_bytes(), |_| false);
            let after = ring.server(key.as_bytes(), |server| server == 1);
            assert!(after != 1 && (before == 1 || before == after));
            assert_eq!(ring.server(key.as_bytes(), |_| true), before);
        }
    }
}
