//! What commands that change a connection's state do to it.
//!
//! Each is handled alone, with nothing in flight. What a shared link can do
//! for many (who they are, which protocol and database they use) leads to the
//! link of that [`LinkKey`]; everything else to an exclusive link.

use std::rc::Rc;

use bytes::BytesMut;

use super::ConnectionMode;
use super::connection::Connection;
use super::session::{Action, QueuedControl, ReplyMode, Session};
use crate::datastore::handshake::push_command;
use crate::datastore::{Identity, Link, LinkKey, OpenError};
use crate::protocol::resp::arguments;
use crate::protocol::resp::commands::{Classified, Control};
use crate::protocol::resp::replies::ReplyScanner;
use crate::protocol::resp::scanner::Frame;
use crate::protocol::{Batch, Class, Command, Expect, Replies};

/// A command's arguments, copied out of the input.
type Owned = Vec<Vec<u8>>;

impl Connection {
    /// Handles the command at the front of the input. Not cancel-safe.
    pub(super) async fn control(&mut self, frame: Frame, classified: Classified) {
        let Some(control) = classified.control else {
            return;
        };
        let batch = self.take_command(&frame, classified.specification, classified.class);
        let arguments = owned_arguments(&batch);
        if self.session.transaction.is_some() {
            return match control {
                Control::Reset => self.reset().await,
                _ => self.control_in_transaction(control, batch, &arguments),
            };
        }
        match control {
            Control::Hello | Control::Auth | Control::Select => {
                self.change_key(control, batch, &arguments).await;
            }
            Control::ClientSetName | Control::ClientGetName => {
                self.client_name(control, batch, &arguments);
            }
            Control::Quit => {
                self.reply(b"+OK\r\n");
                self.close();
            }
            Control::Reset => self.reset().await,
            Control::ClientId | Control::ClientSetInfo | Control::Exec | Control::Discard => {
                // On a shared link they answer as on any: EXEC and DISCARD with
                // an error, as there is no transaction.
                self.send(batch.as_read(), Action::None);
            }
            Control::Shutdown => self.send(batch.as_read(), Action::Shutdown),
            Control::ClientReply => self.client_reply(batch, &arguments),
            Control::Unwatch if !self.exclusive => self.send(batch.as_read(), Action::None),
            Control::Sync => self.stream_replication(batch).await,
            Control::Multi
            | Control::Watch
            | Control::Unwatch
            | Control::Subscribe
            | Control::Unsubscribe
            | Control::Monitor
            | Control::ClientTracking
            | Control::ConnectionFlag
            | Control::Blocking => {
                if self.make_exclusive().await.is_ok() {
                    self.control_exclusive(control, batch, &arguments);
                } else {
                    self.unavailable(&batch);
                }
            }
        }
    }

    /// Within a transaction the datastore queues everything but these.
    fn control_in_transaction(&mut self, control: Control, batch: Batch, arguments: &Owned) {
        match control {
            // It executes nothing; whether the transaction goes on depends on
            // the datastore's version.
            Control::Exec if arguments.len() != 1 => {
                self.send(batch.as_read(), Action::Queue(None));
            }
            Control::Exec => {
                let transaction = self.session.transaction.take().unwrap_or_default();
                let has_mutation = transaction
                    .commands
                    .iter()
                    .any(|command| command.class == Class::Mutation);
                let mut batch = match has_mutation {
                    true => batch.as_class(Class::Mutation),
                    false => batch.as_read(),
                };
                batch.transaction = has_mutation.then(|| Box::new(transaction));
                self.send(batch, Action::Exec);
            }
            Control::Discard => self.send(batch.as_read(), Action::Discard),
            Control::Quit => {
                self.reply(b"+OK\r\n");
                self.close();
            }
            Control::Select | Control::Hello | Control::Auth | Control::ClientSetName => {
                let queued = (control, arguments.clone());
                self.send(batch.as_read(), Action::Queue(Some(queued)));
            }
            // Replies that were left out within EXEC's would break it.
            Control::ClientReply if reply_mode(arguments).is_some() => {
                self.send(replies_on(), Action::Queue(None));
            }
            Control::Multi
            | Control::Watch
            | Control::Unwatch
            | Control::Blocking
            | Control::ClientId
            | Control::ClientReply
            | Control::ClientGetName => self.send(batch.as_read(), Action::Queue(None)),
            _ => {
                // Whatever it does when it is executed, it does to this connection.
                self.session.sticky = true;
                self.send(batch.as_read(), Action::Queue(None));
            }
        }
    }

    /// What needs a connection of its own, which the client has by now.
    fn control_exclusive(&mut self, control: Control, mut batch: Batch, arguments: &Owned) {
        let is = |index: usize, text: &[u8]| {
            arguments
                .get(index)
                .is_some_and(|argument| argument.eq_ignore_ascii_case(text))
        };
        let action = match control {
            Control::Multi => Action::Multi,
            Control::Watch => Action::Watch,
            Control::Unwatch => Action::Unwatch,
            Control::Subscribe | Control::Unsubscribe => {
                batch.expect = Expect::Confirmations;
                batch.blocking = true;
                self.session.subscribed = true;
                Action::Subscriptions
            }
            Control::ClientTracking => Action::Tracking(is(2, b"ON")),
            Control::Blocking => {
                batch.blocking = true;
                if is(0, b"WAIT") || is(0, b"WAITAOF") {
                    // They wait for what was written on this connection before;
                    // any command moves that mark to now.
                    let mut bytes = BytesMut::new();
                    push_command(&mut bytes, &[b"PING"]);
                    let ping = Batch::single(&bytes, Command::UNKNOWN, Class::Read);
                    drop(self.route.link().send(ping));
                }
                Action::None
            }
            _ => {
                self.session.sticky = true;
                Action::None
            }
        };
        let batch = match batch.commands[0].class {
            Class::Mutation => batch,
            Class::Read | Class::Control => batch.as_read(),
        };
        self.send(batch, action);
    }

    /// The datastore is asked whether the client may say this, in the form that
    /// turns its own replies on.
    fn client_reply(&mut self, batch: Batch, arguments: &Owned) {
        match reply_mode(arguments) {
            Some(mode) => self.send(replies_on(), Action::ReplyMode(mode)),
            None => self.send(batch.as_read(), Action::None),
        }
    }

    fn client_name(&mut self, control: Control, batch: Batch, arguments: &Owned) {
        if control == Control::ClientGetName && self.exclusive {
            // The link is called what the client is.
            return self.send(batch.as_read(), Action::None);
        }
        if control == Control::ClientGetName {
            let null: &[u8] = if self.session.key.protocol == 3 {
                b"_\r\n"
            } else {
                b"$-1\r\n"
            };
            let mut reply = BytesMut::new();
            match &self.session.name {
                Some(name) => push_bulk(&mut reply, name),
                None => reply.extend_from_slice(null),
            }
            return self.reply(&reply);
        }
        let name = arguments.get(2).cloned().unwrap_or_default();
        let is_valid = name.iter().all(|byte| (b'!'..=b'~').contains(byte));
        match is_valid && !self.exclusive {
            true => {
                self.session.name = (!name.is_empty()).then_some(name);
                self.reply(b"+OK\r\n");
            }
            // An invalid name is refused and changes nothing.
            false => self.send(batch.as_read(), Action::Name(name)),
        }
    }

    /// The client starts over: RESET is answered here, and a connection of its
    /// own is left to the datastore to clean up.
    async fn reset(&mut self) {
        if std::mem::take(&mut self.exclusive) {
            self.route.link().close();
        }
        // A skip is for RESET itself; replies that are off are on again.
        let is_skipped = self.session.replies == ReplyMode::SkipNext;
        self.session = Session::new(self.context.links.default_key());
        self.route.set(self.context.links.default_link());
        if !is_skipped {
            self.reply(b"+RESET\r\n");
        }
        if self.context.options.mode == ConnectionMode::Dedicated
            && self.make_exclusive().await.is_err()
        {
            self.close();
        }
    }

    /// HELLO, AUTH and SELECT.
    async fn change_key(&mut self, control: Control, batch: Batch, arguments: &Owned) {
        let Some((key, name)) = self.wanted(control, arguments) else {
            // Not well-formed: the datastore says what is wrong with it, on a
            // connection that nobody shares.
            return match self.make_exclusive().await {
                Ok(()) => self.send(batch.as_read(), Action::None),
                Err(_) => self.unavailable(&batch),
            };
        };
        let action = match control {
            Control::Hello => Action::Greet(key.clone(), name),
            _ => Action::Become(key.clone()),
        };
        if self.exclusive {
            return self.send(batch.as_read(), action);
        }
        let known = self.context.links.existing(&key).is_some();
        match self.context.links.shared(&key).await {
            // The client may all the same become this step by step: one who may
            // not SELECT keeps the database of who it was. The datastore says.
            Err(OpenError::Refused(reply)) => match self.make_exclusive().await {
                Ok(()) => self.send(batch.as_read(), action),
                Err(_) => self.reply(&reply),
            },
            Err(OpenError::Unreachable(_)) => self.unavailable(&batch),
            Ok(link) => self.change_link(control, &link, known, batch, action).await,
        }
    }

    /// Takes `link` if the datastore agrees.
    async fn change_link(
        &mut self,
        control: Control,
        link: &Link,
        known: bool,
        batch: Batch,
        action: Action,
    ) {
        let request = match control {
            // A link that has just been opened has been through its AUTH; one
            // that was there before was, with the same password, but it may
            // have been changed.
            Control::Auth if !known => None,
            Control::Auth => Some(batch.as_read()),
            Control::Hello => Some(greeting(&action)),
            // The link has the database already; whether the client may select
            // it is the datastore's to say.
            _ => Some(batch.as_read()),
        };
        let Some(request) = request else {
            self.apply_ok(action);
            return self.reply(b"+OK\r\n");
        };
        let replies = link.send(request).await;
        match replies.reply(0) {
            None => self.unavailable(&replies.batch),
            Some(reply) => {
                if reply.first() != Some(&b'-') {
                    self.apply_ok(action);
                }
                self.reply(reply);
            }
        }
    }

    /// What a client wants to be after HELLO, AUTH or SELECT, and its name if
    /// it said one; none if the command is not well-formed.
    fn wanted(&self, control: Control, arguments: &Owned) -> Option<(LinkKey, Option<Vec<u8>>)> {
        let mut key = self.session.key.clone();
        let mut name = None;
        match (control, &arguments[1..]) {
            (Control::Select, [database]) => key.database = strict_number(database)?,
            (Control::Auth, [password]) => {
                key.identity = Identity::Password(Rc::from(&password[..]));
            }
            (Control::Auth, [user, password]) => {
                key.identity = Identity::User(Rc::from(&user[..]), Rc::from(&password[..]));
            }
            (Control::Hello, []) => {}
            (Control::Hello, [version, options @ ..]) => {
                key.protocol = match &version[..] {
                    b"2" => 2,
                    b"3" => 3,
                    _ => return None,
                };
                let mut rest = options;
                while let [option, tail @ ..] = rest {
                    rest = match tail {
                        [user, password, tail @ ..] if option.eq_ignore_ascii_case(b"AUTH") => {
                            key.identity =
                                Identity::User(Rc::from(&user[..]), Rc::from(&password[..]));
                            tail
                        }
                        [value, tail @ ..]
                            if option.eq_ignore_ascii_case(b"SETNAME")
                                && value.iter().all(|byte| (b'!'..=b'~').contains(byte)) =>
                        {
                            name = Some(value.clone());
                            tail
                        }
                        _ => return None,
                    };
                }
            }
            _ => return None,
        }
        Some((key, name))
    }

    /// Changes the session as the replies to `action` say.
    pub(super) fn apply(&mut self, action: Action, replies: &Replies) {
        let first = replies.reply(0);
        let is_error = first.is_none_or(|reply| reply.first() == Some(&b'-'));
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
            Action::Discard => {
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
            let is_mutation = command.specification != Command::UNKNOWN
                && table.specification(command.specification).class == Class::Mutation;
            let class = if is_mutation {
                Class::Mutation
            } else {
                Class::Read
            };
            transaction.queue(&Command { class, ..*command }, &replies.batch.bytes);
        }
    }

    fn apply_ok(&mut self, action: Action) {
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
        self.route.set(link);
        self.exclusive = true;
        Ok(())
    }

    /// Goes back to a shared link if the session allows it and there is one.
    pub(super) fn share_again(&mut self) {
        if self.context.options.mode == ConnectionMode::Dedicated || !self.session.is_stateless() {
            return;
        }
        let Some(shared) = self.context.links.existing(&self.session.key) else {
            return;
        };
        let link = self.route.set(shared);
        self.exclusive = false;
        match std::mem::take(&mut self.session.tracked) {
            true => link.close(),
            false => self.context.links.give_back(self.session.key.clone(), link),
        }
    }

    /// Answers a command that could not be sent.
    fn unavailable(&mut self, batch: &Batch) {
        let reason = self
            .context
            .links
            .default_link()
            .unavailable()
            .unwrap_or_else(|| Rc::from("no connection to the datastore"));
        let mut replies = Replies::default();
        match batch.mutations {
            0 => crate::stack::answers::unavailable(&mut replies, &reason),
            _ => crate::stack::answers::not_journaled(&mut replies, &reason),
        }
        self.reply(&replies.bytes);
    }
}

/// What CLIENT REPLY asks for, if the datastore knows it.
fn reply_mode(arguments: &Owned) -> Option<ReplyMode> {
    let mode = arguments.get(2)?.to_ascii_uppercase();
    match &mode[..] {
        b"ON" => Some(ReplyMode::On),
        b"OFF" => Some(ReplyMode::Off),
        b"SKIP" => Some(ReplyMode::SkipNext),
        _ => None,
    }
}

/// What leaves a connection's replies on, whoever uses it next.
fn replies_on() -> Batch {
    let mut bytes = BytesMut::new();
    push_command(&mut bytes, &[b"CLIENT", b"REPLY", b"ON"]);
    Batch::single(&bytes, Command::UNKNOWN, Class::Read)
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

/// HELLO as the link is asked it: its AUTH has been sent when it was opened,
/// and its name is not the client's.
fn greeting(action: &Action) -> Batch {
    let protocol: &[u8] = match action {
        Action::Greet(key, _) if key.protocol == 3 => b"3",
        _ => b"2",
    };
    let mut bytes = BytesMut::new();
    push_command(&mut bytes, &[b"HELLO", protocol]);
    Batch::single(&bytes, Command::UNKNOWN, Class::Read)
}

fn owned_arguments(batch: &Batch) -> Owned {
    let mut scratch = Vec::new();
    arguments::parse(&batch.bytes, &mut scratch)
        .iter()
        .map(|argument| argument.to_vec())
        .collect()
}

/// A database number as the datastore takes it: digits, without leading zeros.
fn strict_number(text: &[u8]) -> Option<u32> {
    let has_leading_zero = text.len() > 1 && text[0] == b'0';
    let is_digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    (is_digits && !has_leading_zero)
        .then(|| std::str::from_utf8(text).ok()?.parse().ok())
        .flatten()
}

fn push_bulk(out: &mut BytesMut, bytes: &[u8]) {
    out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}
