//! Commands about another client: CLIENT KILL, CLIENT UNBLOCK and CLIENT
//! TRACKING REDIRECT. The datastore is asked with the number it knows.

use bytes::BytesMut;

use super::super::clients::client_id;
use super::super::connection::Connection;
use super::super::session::Action;
use super::Owned;
use crate::datastore::handshake::push_command;
use crate::protocol::{Batch, Replies};

impl Connection {
    /// CLIENT KILL and CLIENT UNBLOCK.
    pub(super) fn client_target(&mut self, batch: Batch, arguments: &Owned) {
        let victims = match arguments[1].eq_ignore_ascii_case(b"KILL") {
            true => self.sharing_victims(&arguments[2..]),
            false => Vec::new(),
        };
        let action = match victims.is_empty() {
            true => Action::None,
            false => Action::Kill(victims),
        };
        self.send(self.translated(batch, arguments).as_read(), action);
    }

    /// The command with the numbers of clients' own links in place of those
    /// the clients were told.
    pub(super) fn translated(&self, batch: Batch, arguments: &Owned) -> Batch {
        let links = arguments.iter().map(|argument| {
            let link = self.context.clients.link(client_id(argument)?)?;
            Some(link.to_string().into_bytes())
        });
        let links: Vec<Option<Vec<u8>>> = links.collect();
        if links.iter().all(Option::is_none) {
            return batch;
        }
        let parts = arguments.iter().zip(&links);
        let parts: Vec<&[u8]> = parts
            .map(|(argument, link)| link.as_ref().unwrap_or(argument).as_slice())
            .collect();
        let mut bytes = BytesMut::new();
        push_command(&mut bytes, &parts);
        let command = batch.commands[0];
        Batch::single(&bytes, command.specification, command.class)
    }

    /// Those a CLIENT KILL names by number that the datastore can't tell apart,
    /// as they share a link. Other conditions are for the datastore to check,
    /// and it does not know these clients.
    fn sharing_victims(&self, conditions: &[Vec<u8>]) -> Vec<u64> {
        let mut victims = Vec::new();
        let mut spares_self = true;
        let mut rest = conditions;
        while let [keyword, value, tail @ ..] = rest {
            rest = tail;
            if keyword.eq_ignore_ascii_case(b"SKIPME") {
                spares_self = !value.eq_ignore_ascii_case(b"no");
            } else if keyword.eq_ignore_ascii_case(b"ID") {
                victims.extend(client_id(value));
                // Newer datastores take several.
                while let [value, tail @ ..] = rest
                    && value.first().is_some_and(u8::is_ascii_digit)
                {
                    victims.extend(client_id(value));
                    rest = tail;
                }
            } else {
                return Vec::new();
            }
        }
        victims.sort_unstable();
        victims.dedup();
        victims.retain(|id| {
            let is_spared = spares_self && *id == self.id;
            !is_spared && self.context.clients.is_sharing(*id)
        });
        victims
    }

    /// Ends the clients, if the datastore would have let this one do so, and
    /// counts them in its reply.
    pub(in crate::proxy) fn kill(&mut self, victims: &[u64], replies: &mut Replies) {
        let Some(killed_there) = replies.reply(0).and_then(integer) else {
            return;
        };
        let mut killed = killed_there;
        for id in victims {
            if *id == self.id {
                // When the reply is written.
                self.close();
                killed += 1;
            } else {
                killed += u64::from(self.context.clients.kill(*id));
            }
        }
        let reply = format!(":{killed}\r\n");
        replace_reply(replies, reply.as_bytes());
    }
}

fn integer(reply: &[u8]) -> Option<u64> {
    let digits = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Puts `reply` in the place of the first, keeping what came unasked.
fn replace_reply(replies: &mut Replies, reply: &[u8]) {
    let (Some(end), Some(old)) = (replies.ends.first().copied(), replies.reply(0)) else {
        return;
    };
    let start = end as usize - old.len();
    let after = replies.bytes.split_off(end as usize);
    replies.bytes.truncate(start);
    replies.bytes.extend_from_slice(reply);
    replies.ends[0] = replies.bytes.len() as u32;
    replies.bytes.extend_from_slice(&after);
}
