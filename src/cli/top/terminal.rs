//! The live screen: one loop over keys, signals, answers and time. However it
//! ends, by a key, a signal, an error or a panic, the terminal is left as it was.

use super::draw::draw;
use super::model::Model;
use super::screen::{Action, Screen};
use super::watcher::Watcher;
use super::{now_ms, time_of_day};
use anyhow::{Context as _, bail};
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::execute;
use std::io;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until};

/// How often the thread that waits for keys looks whether it is still wanted.
const WANTED: Duration = Duration::from_millis(200);
/// Keys that were pressed and not acted on.
const KEYS_MAX: usize = 64;
/// How often the clock is drawn.
const CLOCK: Duration = Duration::from_secs(1);

/// Restores the terminal when it goes. It is made first, so it goes last.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        // The hook has done it, before the message that must stay in sight.
        if !std::thread::panicking() {
            // There is nothing left to do where this fails.
            let _ = ratatui::try_restore();
        }
        let _ = execute!(io::stdout(), Show);
    }
}

pub(super) async fn show(
    watcher: &mut Watcher,
    namespace: Option<&str>,
    screen: &mut Screen,
) -> anyhow::Result<()> {
    let mut ends = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ]
    .map(signal);
    let [terminate, interrupt, hangup] = &mut ends;
    let (terminate, interrupt, hangup) = (take(terminate)?, take(interrupt)?, take(hangup)?);
    let _restore = Restore;
    // It restores the terminal before a panic's message is shown, too.
    let mut terminal = ratatui::try_init().context("set the terminal up")?;
    let mut events = events().context("start the thread that waits for keys")?;
    let mut clock = interval(CLOCK);
    let mut next = Instant::now();
    let mut model = Model::new(watcher.watched(), namespace);
    loop {
        let now = time_of_day(now_ms());
        terminal
            .draw(|frame| draw(frame, &model, screen, &now))
            .context("draw")?;
        tokio::select! {
            event = events.recv() => match event {
                Some(Ok(Event::Key(key))) => match screen.key(key) {
                    Action::Show => {}
                    Action::Reschedule => next = next.min(Instant::now() + screen.interval),
                    Action::Quit => return Ok(()),
                },
                // A new size, which drawing finds out itself.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("read keys"),
                None => bail!("keys can't be read any more"),
            },
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
            () = watcher.answered() => model = Model::new(watcher.watched(), namespace),
            () = sleep_until(next), if !screen.is_paused => {
                watcher.ask();
                next = Instant::now() + screen.interval;
            }
            _ = clock.tick() => {}
        }
    }
}

fn take(
    signal: &mut io::Result<tokio::signal::unix::Signal>,
) -> anyhow::Result<&mut tokio::signal::unix::Signal> {
    match signal {
        Ok(signal) => Ok(signal),
        Err(error) => bail!("handle signals: {error}"),
    }
}

/// Keys and changes of size, from a thread: waiting for them blocks. It ends
/// when nobody listens.
fn events() -> io::Result<mpsc::Receiver<io::Result<Event>>> {
    let (send, events) = mpsc::channel(KEYS_MAX);
    let wait = move || {
        while !send.is_closed() {
            let event = match event::poll(WANTED) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let is_last = event.is_err();
            if send.blocking_send(event).is_err() || is_last {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("keys".to_owned())
        .spawn(wait)?;
    Ok(events)
}
