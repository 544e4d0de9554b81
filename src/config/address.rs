//! Addresses: what to listen on and where the datastore is.

use super::Protocol;
use super::document::{Node, Value};
use super::secret::Secret;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Redis's port where a URL has none (redis.io, "Redis URI scheme").
const REDIS_PORT: u16 = 6379;

/// memcached's.
const MEMCACHED_PORT: u16 = 11211;

/// A server in a ring gets this many times the keys of one of weight 1, at most.
const WEIGHT_MAX: u32 = 1000;

/// `sun_path` of unix(7) holds 108 bytes with its terminating zero; the BSDs
/// hold 104.
const UNIX_PATH_BYTES_MAX: usize = 103;

const LISTEN_EXPECTED: &str = "expected an address such as \"127.0.0.1:6380\" or \"unix:/path\"";
const NO_DATABASES: &str = "memcached has no numbered databases";
const UPSTREAM_EXPECTED: &str = "expected \"redis://[user:password@]host:port[/db]\", \"redis+unix:///path[?db=n]\", \
     \"memcached://[user:password@]host:port[?weight=n&name=text]\", \"memcached+unix:///path\", or \
     \"rediss://\" or \"memcacheds://\" for TLS";

/// What to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A TCP address; port 0 takes a free port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Where a datastore is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// A host name or IP address (IPv6 without brackets), and a port. Names
    /// are looked up whenever a connection is made.
    Tcp {
        /// The name or address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// A datastore, and as whom and with which database it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// What it is.
    pub protocol: Protocol,
    /// Where it is.
    pub address: UpstreamAddress,
    /// Its share of the keys, where there are several.
    pub weight: u32,
    /// What places its keys in a ring; without one, host and port do.
    pub name: Option<String>,
    /// The database that is selected first.
    pub database: u32,
    /// The user for AUTH; without one it is the default user.
    pub user: Option<Secret>,
    /// The password for AUTH; without one no AUTH is sent.
    pub password: Option<Secret>,
    /// Whether TLS is spoken with it.
    pub tls: bool,
}

impl ListenAddress {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            ListenAddress::Tcp(address) => address.ip().to_canonical().is_loopback(),
            ListenAddress::Unix(_) => true,
        }
    }

    /// Whether the two cannot be used at once. Port 0 never clashes.
    pub(super) fn clashes(&self, other: &ListenAddress) -> bool {
        match (self, other) {
            (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => {
                let any = a.ip().is_unspecified() || b.ip().is_unspecified();
                a.port() == b.port() && a.port() > 0 && (a.ip() == b.ip() || any)
            }
            (ListenAddress::Unix(a), ListenAddress::Unix(b)) => a == b,
            _ => false,
        }
    }

    /// Whether a connection to `upstream` would arrive here.
    pub(super) fn is_reached_by(&self, upstream: &UpstreamAddress) -> bool {
        match (self, upstream) {
            (ListenAddress::Tcp(address), UpstreamAddress::Tcp { host, port }) => {
                let any = address.ip().is_unspecified();
                let same = match host.parse::<std::net::IpAddr>() {
                    Ok(ip) => address.ip() == ip || any && ip.is_loopback(),
                    Err(_) => host == "localhost" && (any || address.ip().is_loopback()),
                };
                address.port() == *port && same
            }
            (ListenAddress::Unix(a), UpstreamAddress::Unix(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(f, "{address}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for ListenAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// As a URL, without user and password.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            UpstreamAddress::Tcp { host, port } => {
                let secure = if self.tls { "s" } else { "" };
                match host.contains(':') {
                    true => write!(f, "{}{secure}://[{host}]:{port}", self.protocol)?,
                    false => write!(f, "{}{secure}://{host}:{port}", self.protocol)?,
                }
                match self.database {
                    0 => {}
                    database => write!(f, "/{database}")?,
                }
            }
            UpstreamAddress::Unix(path) => {
                write!(f, "{}+unix://{}", self.protocol, path.display())?;
                match self.database {
                    0 => {}
                    database => write!(f, "?db={database}")?,
                }
            }
        }
        let mut separator = '?';
        if self.weight != 1 {
            write!(f, "{separator}weight={}", self.weight)?;
            separator = '&';
        }
        match &self.name {
            Some(name) => write!(f, "{separator}name={name}"),
            None => Ok(()),
        }
    }
}

/// One datastore, or several servers that share its keys; never empty. All
/// have the same user and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstreams(pub Vec<Upstream>);

impl Upstreams {
    /// The first one.
    pub fn first(&self) -> &Upstream {
        &self.0[0]
    }
}

/// As URLs, without user and password.
impl fmt::Display for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, upstream) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{upstream}")?;
        }
        Ok(())
    }
}

/// As the keys `upstream`, `upstream_user`, `upstream_password`.
impl Serialize for Upstreams {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let urls: Vec<String> = self.0.iter().map(Upstream::to_string).collect();
        match &urls[..] {
            [url] => map.serialize_entry("upstream", url)?,
            _ => map.serialize_entry("upstream", &urls)?,
        }
        if let Some(user) = &self.first().user {
            map.serialize_entry("upstream_user", user)?;
        }
        if let Some(password) = &self.first().password {
            map.serialize_entry("upstream_password", password)?;
        }
        map.end()
    }
}

/// Reads an address to listen on.
pub(super) fn listen(node: &Node) -> Result<ListenAddress, String> {
    let Value::String(text) = &node.value else {
        return Err(format!("{LISTEN_EXPECTED}, found {}", node.describe()));
    };
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return unix_path(path).map(ListenAddress::Unix);
    }
    tcp_listen(text).map(ListenAddress::Tcp)
}

/// Reads a TCP address to listen on.
pub(super) fn tcp_listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = match text.rsplit_once(':') {
        Some((host, port)) => port.parse().ok().map(|port: u16| (host, port)),
        None => text.parse().ok().map(|port| ("", port)),
    };
    match port {
        // The one name whose meaning does not depend on the machine.
        Some(("localhost", port)) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        Some(("", port)) => Err(format!(
            "{LISTEN_EXPECTED}, found {text:?} (did you mean \"127.0.0.1:{port}\"?)"
        )),
        _ => Err(format!(
            "{LISTEN_EXPECTED} (an IP address, not a name), found {text:?}"
        )),
    }
}

impl Upstream {
    /// Reads a datastore's URL. Messages never repeat its user and password.
    pub fn parse(url: &str) -> Result<Upstream, String> {
        upstream(&Node {
            at: super::position::Position::Line(0),
            value: Value::String(url.to_owned()),
        })
    }
}

/// Reads a datastore's URL. Messages never repeat its user and password.
pub(super) fn upstream(node: &Node) -> Result<Upstream, String> {
    let Value::String(text) = &node.value else {
        return Err(format!("{UPSTREAM_EXPECTED}, found {}", node.describe()));
    };
    match text.split_once("://") {
        Some(("redis", rest)) => tcp_upstream(rest, Protocol::Redis, REDIS_PORT),
        Some(("redis+unix", rest)) => unix_upstream(rest),
        Some(("memcached", rest)) => memcached_upstream(rest),
        Some(("memcached+unix", path)) => match unix_upstream(path)? {
            Upstream {
                database: 0,
                address,
                ..
            } => Ok(Upstream {
                protocol: Protocol::Memcached,
                address,
                weight: 1,
                name: None,
                database: 0,
                user: None,
                password: None,
                tls: false,
            }),
            _ => Err(NO_DATABASES.into()),
        },
        Some(("rediss", rest)) => tcp_upstream(rest, Protocol::Redis, REDIS_PORT).map(secured),
        Some(("memcacheds", rest)) => memcached_upstream(rest).map(secured),
        Some((scheme, _)) => Err(format!("{UPSTREAM_EXPECTED}, found the scheme {scheme:?}")),
        None => Err(format!(
            "{UPSTREAM_EXPECTED}; \"redis://\" or \"memcached://\" is missing"
        )),
    }
}

/// The same over TLS.
fn secured(upstream: Upstream) -> Upstream {
    Upstream {
        tls: true,
        ..upstream
    }
}

fn memcached_upstream(rest: &str) -> Result<Upstream, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut upstream = tcp_upstream(rest, Protocol::Memcached, MEMCACHED_PORT)?;
    if upstream.database != 0 {
        return Err(NO_DATABASES.into());
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("weight", text)) => {
                let weight = text.parse().ok();
                let weight = weight.filter(|weight| (1..=WEIGHT_MAX).contains(weight));
                upstream.weight = weight.ok_or_else(|| {
                    format!("expected a weight from 1 to {WEIGHT_MAX}, found {text:?}")
                })?;
            }
            Some(("name", name)) if !name.is_empty() => upstream.name = Some(name.to_owned()),
            _ => {
                return Err(format!(
                    "expected \"?weight=n\" or \"?name=text\", found \"?{query}\""
                ));
            }
        }
    }
    Ok(upstream)
}

fn tcp_upstream(rest: &str, protocol: Protocol, default_port: u16) -> Result<Upstream, String> {
    let (identity, rest) = match rest.rsplit_once('@') {
        Some((identity, rest)) => (Some(identity), rest),
        None => (None, rest),
    };
    let (authority, database) = match rest.split_once('/') {
        None | Some((_, "")) => (rest.trim_end_matches('/'), 0),
        Some((authority, number)) => {
            let database = number.parse().map_err(|_| {
                format!("expected the number of a database after \"/\", found {number:?}")
            })?;
            (authority, database)
        }
    };
    let (host, port) = host_and_port(authority, default_port)
        .ok_or_else(|| format!("expected host:port, found {authority:?}"))?;
    let (user, password) = match identity.map(|text| text.split_once(':').unwrap_or((text, ""))) {
        Some((user, password)) => (percent_decode(user)?, percent_decode(password)?),
        None => (String::new(), String::new()),
    };
    let secret = |text: String| Some(text).filter(|text| !text.is_empty()).map(Secret::new);
    Ok(Upstream {
        protocol,
        address: UpstreamAddress::Tcp { host, port },
        weight: 1,
        name: None,
        database,
        user: secret(user),
        password: secret(password),
        tls: false,
    })
}

pub(super) fn host_and_port(authority: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        (host, port)
    } else {
        let end = authority.find(':').unwrap_or(authority.len());
        authority.split_at(end)
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
        None if port.is_empty() => default_port,
        None => return None,
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    match !host.is_empty() && host.chars().all(allowed) {
        true => Some((host.to_owned(), port)),
        false => None,
    }
}

fn unix_upstream(rest: &str) -> Result<Upstream, String> {
    let (path, database) = match rest.split_once('?') {
        None => (rest, 0),
        Some((path, query)) => {
            let number = query.strip_prefix("db=").and_then(|text| text.parse().ok());
            (
                path,
                number.ok_or_else(|| format!("expected \"?db=n\", found \"?{query}\""))?,
            )
        }
    };
    Ok(Upstream {
        protocol: Protocol::Redis,
        address: UpstreamAddress::Unix(unix_path(path)?),
        weight: 1,
        name: None,
        database,
        user: None,
        password: None,
        tls: false,
    })
}

fn unix_path(path: &str) -> Result<PathBuf, String> {
    if !Path::new(path).is_absolute() {
        return Err(format!(
            "expected the absolute path of a socket, found {path:?}"
        ));
    }
    if path.len() > UNIX_PATH_BYTES_MAX {
        return Err(format!(
            "the path of a socket can have {UNIX_PATH_BYTES_MAX} bytes, this one has {}",
            path.len()
        ));
    }
    Ok(PathBuf::from(path))
}

/// Replaces `%41` by `A`. The text is never part of the message.
fn percent_decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                match (digit(rest.next()), digit(rest.next())) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Err("expected two hex digits after \"%\" in the password".into()),
                }
            }
            byte => byte,
        };
        bytes.push(decoded);
    }
    String::from_utf8(bytes).map_err(|_| "user or password is not UTF-8".into())
}

#[cfg(test)]
mod tests;
