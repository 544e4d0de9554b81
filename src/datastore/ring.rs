//! Several servers of memcached as one datastore.
//!
//! A zone is a ring of servers that share the keys. The first zone is this
//! one: it answers. The others have copies: every mutation goes to them too,
//! and what this zone does not have is looked for there.

use std::cell::{Cell, OnceCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{Link, LinkKey, Links, Options, Wire};
use crate::protocol::{Batch, Pool, Replies};
use continuum::Continuum;
use fan::Fan;

pub mod continuum;
mod fan;

pub use continuum::Name;

/// One server of a zone.
#[derive(Debug, Clone)]
pub struct Server {
    /// How it is reached.
    pub options: Options,
    /// What places its keys.
    pub name: Name,
}

/// The servers of a namespace.
#[derive(Debug, Clone)]
pub struct RingOptions {
    /// This zone, then the others; each has a server at least.
    pub zones: Vec<Vec<Server>>,
    /// A server that has been away for so long leaves its keys to the others.
    pub eject_after: Option<Duration>,
}

/// The servers of a namespace, as one worker is connected to them.
pub struct Ring {
    zones: Vec<Zone>,
    eject_after: Option<Duration>,
}

struct Zone {
    nodes: Vec<Node>,
    continuum: Continuum,
}

struct Node {
    links: Rc<Links>,
    text: Link,
    binary: OnceCell<Link>,
    away_since: Rc<Cell<Option<Instant>>>,
}

/// Hears that a server (zone, index) came up, or why it went down.
pub type OnChange = dyn Fn(usize, usize, Result<(), &str>);

impl Ring {
    /// Starts a link to each server. Runs on a `LocalSet`.
    pub fn start(options: RingOptions, pool: &Rc<Pool>, on_change: Rc<OnChange>) -> Rc<Ring> {
        let node = |zone: usize, index: usize, server: Server| {
            let away_since = Rc::new(Cell::new(Some(Instant::now())));
            let (hears, away) = (Rc::clone(&on_change), Rc::clone(&away_since));
            let links = Links::start(server.options, Rc::clone(pool), move |status| {
                away.set(match status {
                    Ok(()) => None,
                    Err(_) => away.get().or_else(|| Some(Instant::now())),
                });
                hears(zone, index, status);
            });
            Node {
                text: links.default_link(),
                links,
                binary: OnceCell::new(),
                away_since,
            }
        };
        let zone = |(number, servers): (usize, Vec<Server>)| {
            let names: Vec<Name> = servers.iter().map(|server| server.name.clone()).collect();
            let servers = servers.into_iter().enumerate();
            Zone {
                nodes: servers
                    .map(|(index, one)| node(number, index, one))
                    .collect(),
                continuum: Continuum::new(&names),
            }
        };
        Rc::new(Ring {
            zones: options.zones.into_iter().enumerate().map(zone).collect(),
            eject_after: options.eject_after,
        })
    }

    /// The links to the first server of this zone.
    pub fn first(&self) -> &Rc<Links> {
        &self.zones[0].nodes[0].links
    }

    /// Opens links for packets; there are links for text from the start.
    pub async fn open_binary(&self) {
        for node in self.zones.iter().flat_map(|zone| &zone.nodes) {
            if node.binary.get().is_none() {
                let key = LinkKey {
                    wire: Wire::MemcachedBinary,
                    ..node.links.default_key()
                };
                let link = node.links.standing(&key).await;
                node.binary.get_or_init(|| link);
            }
        }
    }

    /// Why no server of this zone takes anything, if none does.
    pub fn unavailable(&self, wire: Wire) -> Option<Rc<str>> {
        let mut reasons = self
            .all(0)
            .map(|place| self.link(wire, place).unavailable());
        let first = reasons.next().flatten()?;
        reasons.all(|reason| reason.is_some()).then_some(first)
    }

    /// The number of its links in a language: a key's commands go down one.
    pub fn number(&self, wire: Wire) -> u32 {
        self.link(wire, Place { zone: 0, node: 0 }).number()
    }

    /// Sends each command of a batch to the servers that it concerns.
    pub fn send(self: &Rc<Self>, wire: Wire, batch: Batch) -> Spread {
        Spread(Box::new(Fan::new(Rc::clone(self), wire, batch)))
    }

    fn link(&self, wire: Wire, place: Place) -> &Link {
        let node = &self.zones[place.zone].nodes[place.node];
        match wire {
            Wire::MemcachedBinary => node.binary.get().unwrap_or(&node.text),
            _ => &node.text,
        }
    }

    /// Which server of a zone has a key.
    fn place(&self, zone: usize, key: &[u8]) -> Place {
        let Zone { nodes, continuum } = &self.zones[zone];
        let is_out = |node: usize| match (self.eject_after, nodes[node].away_since.get()) {
            (Some(after), Some(since)) => after <= since.elapsed(),
            _ => false,
        };
        let node = match nodes.len() {
            1 => 0,
            _ => continuum.server(key, is_out),
        };
        Place { zone, node }
    }

    /// A server of a zone that is there, if one is.
    fn any(&self, wire: Wire, zone: usize) -> Place {
        let is_up = |place: &Place| self.link(wire, *place).unavailable().is_none();
        self.all(zone)
            .find(is_up)
            .unwrap_or(Place { zone, node: 0 })
    }

    /// All servers of a zone.
    fn all(&self, zone: usize) -> impl Iterator<Item = Place> + use<> {
        (0..self.zones[zone].nodes.len()).map(move |node| Place { zone, node })
    }
}

/// A server: which zone, which of its servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    zone: usize,
    node: usize,
}

/// The replies to a batch that several servers answer.
///
/// Dropping it is safe: what was sent is answered for nobody.
pub struct Spread(Box<Fan>);

impl Spread {
    /// The commands of the batch that waits.
    pub fn shape(&self) -> Batch {
        self.0.shape()
    }
}

impl Future for Spread {
    type Output = Replies;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Replies> {
        self.0.poll(cx)
    }
}
