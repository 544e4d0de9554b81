//! What commands that change a connection's state do to it.
//!
//! Each is handled alone, with nothing in flight. What a shared link can do
//! for many (who they are, which protocol and database they use) leads to the
//! link of that [`crate::datastore::LinkKey`]; everything else to an exclusive link.

use std::rc::Rc;

use bytes::BytesMut;

use super::ConnectionMode;
use super::connection::Connection;
use super::session::{Action, ReplyMode, Session};
use crate::datastore::handshake::push_command;
use crate::datastore::{Unasked, Wire};
use crate::protocol::resp::arguments;
use crate::protocol::resp::commands::{Classified, Control};
use crate::protocol::resp::scanner::Frame;
use crate::protocol::{Batch, Class, Command, Expect, Replies};

mod key;
mod target;

/// A command's arguments, copied out of the input.
pub(super) type Owned = Vec<Vec<u8>>;

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
            Control::ClientId if self.context.options.get().mode == ConnectionMode::Shared => {
                let id = self.id;
                self.reply(format!(":{id}\r\n").as_bytes());
            }
            Control::ClientId | Control::ClientSetInfo | Control::Exec | Control::Discard => {
                // On a shared link they answer as on any: EXEC and DISCARD with
                // an error, as there is no transaction.
                self.send(batch.as_read(), Action::None);
            }
            Control::Shutdown => self.send(batch.as_read(), Action::Shutdown),
            Control::ClientReply => self.client_reply(batch, &arguments),
            Control::ClientTarget => self.client_target(batch, &arguments),
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
                self.send(replies_on(&batch), Action::Queue(None));
            }
            Control::ClientTarget => {
                let batch = self.translated(batch, arguments);
                self.send(batch.as_read(), Action::Queue(None));
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
                // The confirmation of a subscription will be a part of EXEC's reply.
                self.route.link().expect_unasked(Unasked {
                    messages: control == Control::Subscribe,
                    monitor_lines: false,
                });
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
            Control::ClientTracking => {
                batch = self.translated(batch, arguments);
                Action::Tracking(is(2, b"ON"))
            }
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
                self.route.link().expect_unasked(Unasked {
                    messages: false,
                    monitor_lines: control == Control::Monitor,
                });
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
            Some(mode) => self.send(replies_on(&batch), Action::ReplyMode(mode)),
            None => self.send(batch.as_read(), Action::None),
        }
    }

    fn client_name(&mut self, control: Control, batch: Batch, arguments: &Owned) {
        if control == Control::ClientGetName && self.exclusive {
            // The link is called what the client is.
            return self.send(batch.as_read(), Action::None);
        }
        if control == Control::ClientGetName {
            let null: &[u8] = if self.session.key.wire == Wire::Resp3 {
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
            self.context.clients.set_link(self.id, None);
            self.route.link().close();
        }
        // A skip is for RESET itself; replies that are off are on again.
        let is_skipped = self.session.replies == ReplyMode::SkipNext;
        self.session = Session::new(self.context.links.default_key());
        self.route.set(self.context.links.default_link());
        if !is_skipped {
            self.reply(b"+RESET\r\n");
        }
        if self.context.options.get().mode == ConnectionMode::Dedicated
            && self.make_exclusive().await.is_err()
        {
            self.close();
        }
    }

    /// Answers a command that could not be sent.
    fn unavailable(&mut self, batch: &Batch) {
        let reason = self
            .context
            .links
            .default_link()
            .unavailable()
            .unwrap_or_else(|| Rc::from("the datastore does not answer"));
        let mut replies = Replies {
            batch: batch.shape(),
            ..Replies::default()
        };
        crate::stack::answers::refuse(&mut replies, &reason);
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

/// The form of a CLIENT REPLY that leaves a connection's replies on, whoever
/// uses it next.
fn replies_on(asked: &Batch) -> Batch {
    let mut bytes = BytesMut::new();
    push_command(&mut bytes, &[b"CLIENT", b"REPLY", b"ON"]);
    Batch::single(&bytes, asked.commands[0].specification, Class::Read)
}

fn owned_arguments(batch: &Batch) -> Owned {
    let mut scratch = Vec::new();
    arguments::parse(&batch.bytes, &mut scratch)
        .iter()
        .map(|argument| argument.to_vec())
        .collect()
}

fn push_bulk(out: &mut BytesMut, bytes: &[u8]) {
    out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}
