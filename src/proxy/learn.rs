//! Asks the datastore about commands the table does not have.

use bytes::BytesMut;

use super::connection::Connection;
use crate::datastore::handshake::push_command;
use crate::protocol::resp::arguments;
use crate::protocol::resp::scanner::{Frame, is_cross_protocol};
use crate::protocol::{Batch, Class, Command};

impl Connection {
    /// The command at the front of the input is in no table: a module may have
    /// been loaded since the table was made. What the datastore does not know
    /// either it refuses, so it is forwarded as a read. Not cancel-safe.
    pub(super) async fn learn(&mut self, frame: Frame) {
        let name = {
            let mut scratch = Vec::new();
            let command = self.front(&frame);
            arguments::name(command, &mut scratch)
                .map(<[u8]>::to_vec)
                .unwrap_or_default()
        };
        if frame.inline && is_cross_protocol(&name) {
            // A browser was made to speak to a datastore; so does Redis.
            return self.abort();
        }
        let raw_name = self.front(&frame)[frame.name.0..frame.name.1].to_vec();
        if name.contains(&b'|') {
            // COMMAND INFO takes it for a container and its subcommand, which
            // is no command that can be sent.
            return self.context.remember_no_command(&raw_name);
        }
        let mut bytes = BytesMut::new();
        push_command(&mut bytes, &[b"COMMAND", b"INFO", &name]);
        let request = Batch::single(&bytes, Command::UNKNOWN, Class::Read);
        let link = self.context.links.default_link();
        let replies = self.ask(&link, request).await;
        let table = self.context.table.load_full();
        let learned = match replies.reply(0) {
            Some(reply) if reply.first() == Some(&b'*') => table.completed_for(&name, reply).ok(),
            Some(_) => None,
            None => {
                // It may be a mutation: it is not forwarded before that is known.
                let batch = self.take_command(&frame, Command::UNKNOWN, Class::Read);
                return self.unavailable(&batch);
            }
        };
        match learned {
            Some(learned) if learned.specifications().len() > table.specifications().len() => {
                self.context.table.store(std::sync::Arc::new(learned));
            }
            _ => self.context.remember_no_command(&raw_name),
        }
    }
}
