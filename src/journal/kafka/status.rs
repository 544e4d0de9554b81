//! Whether a message that failed may be in the log.

use rdkafka::bindings;
use rdkafka::message::BorrowedMessage;

/// True where the message surely was not stored: it never left this process.
/// librdkafka knows; its Rust interface has no name for it.
#[allow(unsafe_code)]
pub(super) fn was_never_sent(message: &BorrowedMessage<'_>) -> bool {
    use bindings::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED;
    // SAFETY: the pointer is valid for as long as the borrowed message is, and
    // the function only reads what it points to.
    let status = unsafe { bindings::rd_kafka_message_status(message.ptr().cast_const().cast()) };
    status == RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}
