//! Asks the datastore about commands the table does not have.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::BytesMut;

use super::connection::Connection;
use crate::datastore::handshake::push_command;
use crate::protocol::resp::arguments;
use crate::protocol::resp::commands::{CompletionError, Table};
use crate::protocol::resp::scanner::{Frame, is_cross_protocol};
use crate::protocol::{Batch, Class, Command};

/// Replaces the table by what `extend` makes of it; returns how many commands
/// it has then. Workers do so at once: each builds on what the other made, so
/// that an index never means another command than it did.
pub fn extend_table(
    table: &ArcSwap<Table>,
    extend: impl Fn(&Table) -> Result<Table, CompletionError>,
) -> Result<usize, CompletionError> {
    loop {
        let known = table.load_full();
        let extended = Arc::new(extend(&known)?);
        let found = table.compare_and_swap(&known, Arc::clone(&extended));
        if Arc::ptr_eq(&found, &known) {
            return Ok(extended.specifications().len());
        }
    }
}

impl Connection {
    /// The command at the front of the input is in no table: a module may have
    /// been loaded since the table was made. What the datastore does not tell
    /// of either is taken for a mutation of unknown effect: it refuses what it
    /// does not know, and a link may not be allowed to ask. Not cancel-safe.
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
        // What has a bar in it COMMAND INFO takes for a container and its
        // subcommand, which is no command that can be sent.
        if !name.contains(&b'|') {
            self.ask_about(&name).await;
        }
        let raw_name = self.front(&frame)[frame.name.0..frame.name.1].to_vec();
        self.context.remember_asked(&raw_name);
    }

    async fn ask_about(&self, name: &[u8]) {
        let mut bytes = BytesMut::new();
        push_command(&mut bytes, &[b"COMMAND", b"INFO", name]);
        let request = Batch::single(&bytes, Command::UNKNOWN, Class::Read);
        let link = self.context.links.default_link();
        let replies = self.ask(&link, request).await;
        if let Some(reply) = replies.reply(0) {
            // An error leaves the table as it is.
            let _ = extend_table(&self.context.table, |table| {
                table.completed_for(name, reply)
            });
        }
    }
}
