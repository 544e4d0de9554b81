//! A TCP connection that a test can cut, stall, or have deliver byte by byte.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Random;

/// How bytes are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As they come.
    Pass,
    /// Each for itself.
    Trickle,
    /// Not at all, though connections stay.
    Stall,
}

#[derive(Debug, Clone, Copy)]
struct State {
    manner: Manner,
    /// Connections of an earlier one are cut.
    generation: u64,
    target: SocketAddr,
}

/// Listens, and passes connections on. Must be made in a tokio runtime.
#[derive(Debug)]
pub struct Line {
    address: SocketAddr,
    state: watch::Sender<State>,
    connections: Arc<AtomicU64>,
    /// From the target to clients, over all connections.
    bytes: Arc<AtomicU64>,
    /// Each connection is cut after a random number of bytes below this.
    budget: Arc<Mutex<Option<(Random, usize)>>>,
    task: JoinHandle<()>,
}

impl Line {
    /// A line to `target`.
    pub async fn to(target: SocketAddr) -> Line {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let (state, told) = watch::channel(State {
            manner: Manner::Pass,
            generation: 0,
            target,
        });
        let connections = Arc::<AtomicU64>::default();
        let budget = Arc::<Mutex<Option<(Random, usize)>>>::default();
        let bytes = Arc::<AtomicU64>::default();
        let counts = (Arc::clone(&connections), Arc::clone(&budget));
        let counted = Arc::clone(&bytes);
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    return;
                };
                counts.0.fetch_add(1, Ordering::SeqCst);
                let budget = match &mut *counts.1.lock().expect("nobody panics with it") {
                    None => u64::MAX,
                    Some((random, below)) => 1 + random.below(*below) as u64,
                };
                let counted = Arc::clone(&counted);
                tokio::spawn(connection(client, told.clone(), budget, counted));
            }
        });
        Line {
            address,
            state,
            connections,
            bytes,
            budget,
            task,
        }
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on bytes are passed on like this.
    pub fn set(&self, manner: Manner) {
        self.state.send_modify(|state| state.manner = manner);
    }

    /// New connections go there.
    pub fn set_target(&self, target: SocketAddr) {
        self.state.send_modify(|state| state.target = target);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    /// Each new connection ends after some bytes from the server, up to `below`.
    pub fn cut_after(&self, random: Random, below: usize) {
        *self.budget.lock().expect("nobody panics with it") = Some((random, below));
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many bytes have come from the target so far, over all connections.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn connection(
    client: TcpStream,
    state: watch::Receiver<State>,
    budget: u64,
    counted: Arc<AtomicU64>,
) {
    let target = state.borrow().target;
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    // Delivered as it is passed on.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    // Whichever ends first ends the other: both sides are cut.
    tokio::select! {
        () = copy(client_in, server_out, state.clone(), u64::MAX, None) => {}
        () = copy(server_in, client_out, state, budget, Some(&*counted)) => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
    mut budget: u64,
    counted: Option<&AtomicU64>,
) {
    let generation = state.borrow_and_update().generation;
    let mut buffer = vec![0; 16 << 10];
    let is_cut = move |state: &State| state.generation != generation;
    loop {
        let manner = state.borrow_and_update().manner;
        let read = tokio::select! {
            read = from.read(&mut buffer), if manner != Manner::Stall => read,
            changed = state.changed() => {
                if changed.is_err() || is_cut(&state.borrow()) {
                    return;
                }
                continue;
            }
        };
        let Ok(read @ 1..) = read else { return };
        let passed = (read as u64).min(budget) as usize;
        budget -= passed as u64;
        if let Some(counted) = counted {
            counted.fetch_add(passed as u64, Ordering::SeqCst);
        }
        let piece = match manner {
            Manner::Trickle => 1,
            Manner::Pass | Manner::Stall => passed.max(1),
        };
        for bytes in buffer[..passed].chunks(piece) {
            tokio::select! {
                written = to.write_all(bytes) => {
                    if written.is_err() {
                        return;
                    }
                }
                // A peer that does not read must not keep a cut from being made.
                _ = state.wait_for(|state| is_cut(state)) => return,
            }
        }
        if budget == 0 {
            return;
        }
    }
}
