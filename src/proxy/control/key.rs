//! HELLO, AUTH and SELECT: who a client is, and the link of that.

use std::rc::Rc;

use bytes::BytesMut;

use super::super::connection::Connection;
use super::super::session::Action;
use super::Owned;
use crate::datastore::handshake::push_command;
use crate::datastore::{Identity, Link, LinkKey, OpenError, Wire};
use crate::protocol::resp::commands::Control;
use crate::protocol::{Batch, Class, Command};

impl Connection {
    /// HELLO, AUTH and SELECT.
    pub(super) async fn change_key(&mut self, control: Control, batch: Batch, arguments: &Owned) {
        let Some((key, name)) = self.wanted(control, arguments) else {
            // Not well-formed: the datastore says what is wrong with it. It may
            // have done a part of it before (AUTH within HELLO), so that nobody
            // else may have the connection, now or later.
            return match self.make_exclusive().await {
                Ok(()) => {
                    self.session.sticky = true;
                    self.send(batch.as_read(), Action::None);
                }
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
            Control::Hello => Some(self.greeting(&action)),
            // The link has the database already; whether the client may select
            // it is the datastore's to say.
            _ => Some(batch.as_read()),
        };
        let Some(request) = request else {
            self.apply_ok(action);
            return self.reply(b"+OK\r\n");
        };
        let asked = request.shape();
        let replies = self.ask(link, request).await;
        match replies.reply(0) {
            None => self.unavailable(&asked),
            Some(reply) => {
                if reply.first() != Some(&b'-') {
                    self.apply_ok(action);
                }
                match control {
                    Control::Hello => self.reply(&with_id(reply, self.id)),
                    _ => self.reply(reply),
                }
            }
        }
    }

    /// HELLO as the link is asked it. Whoever becomes somebody else is asked for
    /// the password again: it may have changed since the link was opened. The
    /// name is not the link's.
    fn greeting(&self, action: &Action) -> Batch {
        let mut parts: Vec<&[u8]> = vec![b"HELLO", b"2"];
        if let Action::Greet(key, _) = action {
            if key.wire == Wire::Resp3 {
                parts[1] = b"3";
            }
            if key.identity != self.session.key.identity
                && let Identity::User(user, password) = &key.identity
            {
                parts.extend([&b"AUTH"[..], user, password]);
            }
        }
        let mut bytes = BytesMut::new();
        push_command(&mut bytes, &parts);
        Batch::single(&bytes, Command::UNKNOWN, Class::Read)
    }

    /// What a client wants to be after HELLO, AUTH or SELECT, and its name if
    /// it said one; none if the command is not well-formed.
    pub(in crate::proxy) fn wanted(
        &self,
        control: Control,
        arguments: &Owned,
    ) -> Option<(LinkKey, Option<Vec<u8>>)> {
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
                key.wire = match &version[..] {
                    b"2" => Wire::Resp2,
                    b"3" => Wire::Resp3,
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
}

/// A reply to HELLO with another number after `id`.
fn with_id(reply: &[u8], id: u64) -> Vec<u8> {
    const FIELD: &[u8] = b"$2\r\nid\r\n:";
    let Some(field) = memchr::memmem::find(reply, FIELD) else {
        return reply.to_vec();
    };
    let (before, after) = reply.split_at(field + FIELD.len());
    let digits = after.iter().take_while(|byte| **byte != b'\r').count();
    let mut patched = before.to_vec();
    patched.extend_from_slice(id.to_string().as_bytes());
    patched.extend_from_slice(&after[digits..]);
    patched
}

/// A database number as the datastore takes it: digits, without leading zeros.
fn strict_number(text: &[u8]) -> Option<u32> {
    let has_leading_zero = text.len() > 1 && text[0] == b'0';
    let is_digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    (is_digits && !has_leading_zero)
        .then(|| std::str::from_utf8(text).ok()?.parse().ok())
        .flatten()
}
