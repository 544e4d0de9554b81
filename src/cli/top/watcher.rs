//! Asks all processes at once. One that takes its time keeps nobody waiting,
//! and is not asked again before it has answered or its time is up.

use super::scrape::{Reading, scrape};
use super::watched::Watched;
use tokio::task::JoinSet;

pub(super) struct Watcher {
    watched: Vec<Watched>,
    /// Which of them are being asked.
    asked: Vec<bool>,
    answers: JoinSet<(usize, Result<Reading, String>)>,
}

impl Watcher {
    pub(super) fn new(addresses: Vec<String>) -> Watcher {
        let watched: Vec<Watched> = addresses.into_iter().map(Watched::new).collect();
        Watcher {
            asked: vec![false; watched.len()],
            watched,
            answers: JoinSet::new(),
        }
    }

    pub(super) fn watched(&self) -> &[Watched] {
        &self.watched
    }

    /// Begins to ask those that are not being asked. Runs on a runtime.
    pub(super) fn ask(&mut self) {
        for (index, one) in self.watched.iter().enumerate() {
            if !std::mem::replace(&mut self.asked[index], true) {
                let address = one.address.clone();
                self.answers
                    .spawn(async move { (index, scrape(&address).await) });
            }
        }
    }

    /// Takes up the next answer. For ever, where nobody is asked. Cancelled, it
    /// has taken up nothing, and nothing is lost.
    pub(super) async fn answered(&mut self) {
        match self.answers.join_next().await {
            Some(Ok((index, answer))) => {
                self.asked[index] = false;
                self.watched[index].take(answer);
            }
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => std::future::pending().await,
        }
    }

    /// Asks all, and waits for all.
    pub(super) async fn read(&mut self) {
        self.ask();
        while !self.answers.is_empty() {
            self.answered().await;
        }
    }
}
