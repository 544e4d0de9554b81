//! What the replies to a client's commands do to its session, and which link it
//! is on.

use super::ConnectionMode;
use super::connection::Connection;
use super::control::Owned;
use super::session::{Action, QueuedControl, ReplyMode};
use crate::datastore::{LinkKey, OpenError};
use crate::protocol::resp::commands::Control;
use crate::protocol::resp::replies::ReplyScanner;
use crate::protocol::{Class, Command, Failure, Replies};

impl Connection {
    /// Changes the session as the replies to `action` say.
    pub(super) fn apply(&mut self, action: Action, replies: &Replies) {
        let first = replies.reply(0);
        let is_error = first.is_none_or(|reply| reply.first() == Some(&b'-'));
        if is_state_unknown(&action, replies.failure.as_ref()) {
            // Nobody goes on with the connection: not this client, nor the next.
            self.session.sticky = true;
            return self.close();
        }
        match action {
            Action::None => {}
            Action::Queue(control) => self.queue(control, replies),
            Action::Multi if !is_error => {
                let transaction = crate::protocol::Transaction {
                    watched: self.session.watching,
                    ..Default::default()
                };
                self.session.transaction = Some(transaction);
                self.session.queued_controls.clear();
            }
            Action::Exec => {
                self.session.watching = false;
                self.apply_executed(first.unwrap_or_default());
            }
            Action::Discard if !is_error => {
                self.session.transaction = None;
                self.session.watching = false;
            }
            Action::Watch if !is_error => self.session.watching = true,
            Action::Unwatch if !is_error => self.session.watching = false,
            Action::Become(_) | Action::Greet(..) | Action::Name(_) if !is_error => {
                self.apply_ok(action);
            }
            Action::Subscriptions => {
                self.session.subscribed = 0 < self.route.link().subscriptions();
            }
            Action::Tracking(on) if !is_error => {
                self.session.tracking = on;
                self.session.tracked |= on;
            }
            // Skipping while replies are off skips nothing more.
            Action::ReplyMode(ReplyMode::SkipNext) if self.session.replies == ReplyMode::Off => {}
            Action::ReplyMode(mode) if !is_error => self.session.replies = mode,
            Action::Shutdown if first.is_none() || replies.failure.is_some() => self.abort(),
            _ => {}
        }
    }

    /// Does to the session what EXEC did to the connection.
    fn apply_executed(&mut self, reply: &[u8]) {
        let controls = std::mem::take(&mut self.session.queued_controls);
        if controls.is_empty() {
            return;
        }
        let elements = elements(reply);
        for queued in controls {
            let is_done = elements
                .get(queued.index)
                .is_some_and(|element| element.first() != Some(&b'-'));
            let name = queued.arguments.get(2).cloned();
            match queued.control {
                // It may have done a part of it, and nobody else may have that.
                Control::Hello if !is_done => self.session.sticky |= !elements.is_empty(),
                _ if !is_done => {}
                Control::ClientSetName => self.apply_ok(Action::Name(name.unwrap_or_default())),
                control => {
                    if let Some((key, name)) = self.wanted(control, &queued.arguments) {
                        self.apply_ok(Action::Greet(key, name));
                    }
                }
            }
        }
    }

    fn queue(&mut self, control: Option<(Control, Owned)>, replies: &Replies) {
        let Some(transaction) = &mut self.session.transaction else {
            return;
        };
        let first = replies.reply(0).unwrap_or_default();
        if first.starts_with(b"-EXECABORT") {
            self.session.transaction = None;
            self.session.watching = false;
            return;
        }
        if let Some((control, arguments)) = control
            && replies.reply(0) == Some(b"+QUEUED\r\n")
        {
            self.session.queued_controls.push(QueuedControl {
                index: transaction.commands.len(),
                control,
                arguments,
            });
        }
        let table = self.context.table.load();
        for (index, command) in replies.batch.commands.iter().enumerate() {
            if replies.reply(index) != Some(b"+QUEUED\r\n") {
                continue;
            }
            // It was sent as a read, since nothing is done before EXEC.
            let class = match command.specification {
                Command::UNKNOWN => Class::Mutation,
                known => match table.specification(known) {
                    row if row.control == Some(Control::Select) => Class::Control,
                    row if row.class == Class::Mutation => Class::Mutation,
                    _ => Class::Read,
                },
            };
            let bytes = &replies.batch.bytes;
            if !transaction.has_room(command.of(bytes).len()) {
                // It could not be journaled, so it must not be executed.
                self.session.sticky = true;
                return self.close();
            }
            transaction.queue(&Command { class, ..*command }, bytes);
        }
    }

    pub(super) fn apply_ok(&mut self, action: Action) {
        match action {
            Action::Name(name) => self.call(name),
            Action::Become(key) => self.become_key(key),
            Action::Greet(key, name) => {
                self.become_key(key);
                if let Some(name) = name {
                    self.call(name);
                }
            }
            _ => {}
        }
    }

    /// The client has a name now; so has a link of its own.
    fn call(&mut self, name: Vec<u8>) {
        if self.exclusive {
            self.route.link().note_name(&name);
        }
        self.session.name = (!name.is_empty()).then_some(name);
    }

    fn become_key(&mut self, key: LinkKey) {
        if !self.exclusive
            && let Some(link) = self.context.links.existing(&key)
        {
            self.route.set(link);
        }
        self.session.key = key;
    }

    /// Gives the client a connection of its own, in the state of its session.
    pub(super) async fn make_exclusive(&mut self) -> Result<(), OpenError> {
        if self.exclusive {
            return Ok(());
        }
        let name = self.session.name.clone();
        let key = self.session.key.clone();
        let link = self.context.links.exclusive(&key, name.as_deref()).await?;
        self.context.metrics.exclusive_links.add(1);
        self.context.clients.set_link(self.id, link.id());
        self.route.set(link);
        self.exclusive = true;
        Ok(())
    }

    /// Goes back to a shared link if the session allows it and there is one.
    pub(super) fn share_again(&mut self) {
        if self.context.options.get().mode == ConnectionMode::Dedicated
            || !self.session.is_stateless()
        {
            return;
        }
        let Some(shared) = self.context.links.existing(&self.session.key) else {
            return;
        };
        let link = self.route.set(shared);
        self.context.clients.set_link(self.id, None);
        self.exclusive = false;
        match std::mem::take(&mut self.session.tracked) {
            true => link.close(),
            false => self.context.links.give_back(self.session.key.clone(), link),
        }
    }
}

/// Whether it is not known what a batch that the datastore did not answer left
/// its connection in: a transaction that lacks a command, or is still open.
fn is_state_unknown(action: &Action, failure: Option<&Failure>) -> bool {
    match failure {
        None => false,
        Some(Failure::NotSent(_)) => {
            matches!(action, Action::Queue(_) | Action::Exec | Action::Discard)
        }
        Some(Failure::NoReply(_)) => !matches!(action, Action::None | Action::Shutdown),
    }
}

/// The elements of an array reply; none of any other.
fn elements(reply: &[u8]) -> Vec<&[u8]> {
    let end = reply.iter().position(|byte| *byte == b'\n');
    let mut elements = Vec::new();
    if let (Some(b'*'), Some(end)) = (reply.first(), end) {
        let mut scanner = ReplyScanner::default();
        let mut rest = &reply[end + 1..];
        while let Ok(Some(frame)) = scanner.next(rest) {
            let (element, after) = rest.split_at(frame.end);
            elements.push(element);
            rest = after;
        }
    }
    elements
}
