//! The links of one worker to one datastore: which exist, who shares them, and
//! which are kept for the next client that needs one to itself.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::handshake::{self, Opened};
use super::{Identity, Link, LinkKey, OpenError, Options, Wire};
use crate::protocol::Pool;

/// Attempts to reconnect start this far apart and double up to the maximum.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// So many exclusive links of one key wait for their next client.
const IDLE_EXCLUSIVE_MAX: usize = 64;
/// A shared link that nobody has used for one to two of these is closed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// What a client of lines hears from a server that takes none.
const PACKETS_ONLY: &str = "the server takes the binary protocol only";

/// The links of one worker to one datastore.
pub struct Links {
    options: Options,
    pool: Rc<Pool>,
    shared: RefCell<HashMap<LinkKey, Shared>>,
    exclusive: RefCell<HashMap<LinkKey, Vec<Link>>>,
    /// Told whenever the default link comes up or goes down.
    on_change: Box<OnChange>,
    /// How many there were.
    count: Cell<u32>,
    /// What it was told last.
    told: RefCell<Option<Result<(), String>>>,
}

/// Hears that the default link came up, or why it went down.
type OnChange = dyn Fn(Result<(), &str>);

struct Shared {
    link: Link,
    unused: Cell<bool>,
}

impl Links {
    /// Starts the link of clients that have said nothing about themselves;
    /// `on_change` hears when it comes up or goes down. Runs on a `LocalSet`.
    pub fn start(
        options: Options,
        pool: Rc<Pool>,
        on_change: impl Fn(Result<(), &str>) + 'static,
    ) -> Rc<Links> {
        let links = Rc::new(Links {
            options,
            pool,
            shared: RefCell::default(),
            exclusive: RefCell::default(),
            on_change: Box::new(on_change),
            count: Cell::default(),
            told: RefCell::default(),
        });
        links.keep(links.default_key(), None);
        tokio::task::spawn_local(Rc::clone(&links).sweep());
        links
    }

    /// What a client is before it has said anything.
    pub fn default_key(&self) -> LinkKey {
        LinkKey {
            wire: self.options.wire,
            database: self.options.database,
            identity: self.options.identity.clone(),
        }
    }

    /// The link of clients that have said nothing about themselves.
    pub fn default_link(&self) -> Link {
        self.existing(&self.default_key())
            .expect("kept from the start and never swept")
    }

    /// A shared link that has been opened before, whether or not it is up.
    pub fn existing(&self, key: &LinkKey) -> Option<Link> {
        let shared = self.shared.borrow();
        let shared = shared.get(key)?;
        shared.unused.set(false);
        Some(shared.link.clone())
    }

    /// The shared link of `key`, opened if there is none.
    pub async fn shared(self: &Rc<Self>, key: &LinkKey) -> Result<Link, OpenError> {
        if let Some(link) = self.existing(key) {
            return Ok(link);
        }
        let opened = handshake::open(&self.options, key, handshake::LINK_NAME.as_bytes()).await?;
        // Another client may have opened the same one meanwhile.
        if let Some(link) = self.existing(key) {
            return Ok(link);
        }
        Ok(self.keep(key.clone(), Some(opened)))
    }

    /// The shared link of `key`, kept connected from now on, whether or not it
    /// could be opened.
    pub async fn standing(self: &Rc<Self>, key: &LinkKey) -> Link {
        match self.shared(key).await {
            Ok(link) => link,
            Err(_) => self
                .existing(key)
                .unwrap_or_else(|| self.keep(key.clone(), None)),
        }
    }

    /// A link for one client alone, called what the client is: one without a
    /// name can look at it, in a transaction. It is up.
    pub async fn exclusive(&self, key: &LinkKey, name: Option<&[u8]>) -> Result<Link, OpenError> {
        let name = name.unwrap_or_default();
        while let Some(link) = self.take_idle(key) {
            if link.unavailable().is_none() {
                link.set_name(name);
                return Ok(link);
            }
        }
        let opened = handshake::open(&self.options, key, handshake::LINK_NAME.as_bytes()).await?;
        let link = self.new_link(true);
        link.set_up();
        link.set_id(opened.id);
        if matches!(key.wire, Wire::MemcachedText | Wire::MemcachedBinary) {
            link.set_nameless();
        }
        let driven = link.clone();
        tokio::task::spawn_local(async move { driven.drive(opened).await });
        link.set_name(name);
        Ok(link)
    }

    /// A bare connection in the state of `key`.
    pub async fn raw(&self, key: &LinkKey) -> Result<crate::platform::stream::Stream, OpenError> {
        let opened = handshake::open(&self.options, key, handshake::LINK_NAME.as_bytes()).await;
        opened.map(|opened| opened.stream)
    }

    /// Keeps a link for the next client; the caller vouches that its
    /// connection is in the state of `key` but for its name. One that somebody
    /// may still send a batch down (whose client does not wait for it any
    /// more) is closed.
    pub fn give_back(&self, key: LinkKey, link: Link) {
        /// The caller and the task that drives the link.
        const LAST_HOLDERS: usize = 2;
        let is_free = link.is_idle() && link.holders() <= LAST_HOLDERS;
        let mut exclusive = self.exclusive.borrow_mut();
        let idle = exclusive.entry(key).or_default();
        if is_free && idle.len() < IDLE_EXCLUSIVE_MAX && link.unavailable().is_none() {
            idle.push(link);
        } else {
            link.close();
        }
    }

    fn new_link(&self, exclusive: bool) -> Link {
        let unsent_max = self.options.unsent_bytes_max;
        let link = Link::new(Rc::clone(&self.pool), unsent_max, exclusive);
        let is_memcached = matches!(
            self.options.wire,
            Wire::MemcachedText | Wire::MemcachedBinary
        );
        if is_memcached && self.options.tls.is_some() {
            link.cut_commands();
        }
        link.set_number(self.count.get());
        self.count.set(self.count.get().wrapping_add(1));
        link
    }

    fn take_idle(&self, key: &LinkKey) -> Option<Link> {
        self.exclusive.borrow_mut().get_mut(key)?.pop()
    }

    /// Registers a shared link and starts what keeps it connected.
    fn keep(self: &Rc<Self>, key: LinkKey, opened: Option<Opened>) -> Link {
        let link = self.new_link(false);
        if opened.is_some() {
            link.set_up();
        }
        let shared = Shared {
            link: link.clone(),
            unused: Cell::new(false),
        };
        self.shared.borrow_mut().insert(key.clone(), shared);
        tokio::task::spawn_local(Rc::clone(self).reconnect(key, link.clone(), opened));
        link
    }

    /// Keeps a shared link connected until it is closed.
    async fn reconnect(self: Rc<Self>, key: LinkKey, link: Link, mut first: Option<Opened>) {
        let is_default = key == self.default_key();
        let mut backoff = BACKOFF_MIN;
        loop {
            let opened = match first.take() {
                Some(opened) => Ok(opened),
                None => handshake::open(&self.options, &key, handshake::LINK_NAME.as_bytes()).await,
            };
            let reason: Rc<str> = match opened {
                Ok(opened) => {
                    backoff = BACKOFF_MIN;
                    link.set_up();
                    if is_default {
                        self.tell(Ok(()));
                    }
                    link.drive(opened).await
                }
                Err(error) => Rc::from(error.to_string()),
            };
            if link.is_closed() {
                return;
            }
            if self.takes_packets_only(&key).await {
                // Clients that speak in packets have a link of their own.
                if is_default {
                    self.tell(Ok(()));
                }
                link.set_down(Rc::from(PACKETS_ONLY));
                tokio::time::sleep(SWEEP_INTERVAL).await;
                continue;
            }
            if is_default {
                self.tell(Err(&reason));
            }
            link.set_down(reason);
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Tells whether the datastore is there, where that is news.
    fn tell(&self, status: Result<(), &str>) {
        let now = Some(status.map_err(str::to_owned));
        let before = self.told.replace(now.clone());
        if before != now {
            (self.on_change)(status);
        }
    }

    /// Whether the server is a memcached that wants SASL: it takes no lines, not
    /// even a login.
    async fn takes_packets_only(&self, key: &LinkKey) -> bool {
        if key.wire != Wire::MemcachedText || key.identity == Identity::Anonymous {
            return false;
        }
        let packets = LinkKey {
            wire: Wire::MemcachedBinary,
            ..key.clone()
        };
        let opened = handshake::open(&self.options, &packets, b"").await;
        opened.is_ok()
    }

    /// Closes shared links that no client holds, but for the default one.
    async fn sweep(self: Rc<Self>) {
        /// The map and the task that keeps the link connected.
        const OWN_HOLDERS: usize = 2;
        let mut interval = tokio::time::interval(SWEEP_INTERVAL);
        let default = self.default_key();
        loop {
            interval.tick().await;
            self.shared.borrow_mut().retain(|key, shared| {
                let used = *key == default
                    || shared.link.holders() > OWN_HOLDERS
                    || !shared.unused.replace(true);
                if !used {
                    shared.link.close();
                }
                used
            });
            self.exclusive.borrow_mut().retain(|_, idle| {
                idle.retain(|link| link.unavailable().is_none());
                !idle.is_empty()
            });
        }
    }
}
