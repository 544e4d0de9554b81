//! What librdkafka tells: delivery reports, errors, log lines.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;

use super::super::AppendError;
use super::shared::{Delivered, Shared};
use super::status::was_never_sent;

/// Receives them on the poll thread.
pub(super) struct Reports(pub(super) Arc<Shared>);

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                if self.0.set_unavailable("all Kafka brokers are down") {
                    tracing::warn!("all Kafka brokers are down");
                }
            }
            Some(RDKafkaErrorCode::Fatal) => {
                tracing::warn!(%error, reason, "kafka");
                self.0.set_unavailable(reason);
                self.0.broken.store(true, Ordering::SeqCst);
            }
            // The log says it too.
            _ => tracing::debug!(%error, reason, "kafka"),
        }
    }
}

impl ProducerContext for Reports {
    /// Which record of which hand-over; see [`super::shared::pack`].
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let delivered = match result {
            Ok(message) => Ok(Delivered {
                partition: message.partition() as u32,
                offset: message.offset() as u64,
            }),
            Err((error, message)) => {
                let code = error.rdkafka_error_code();
                let reason = code.map_or_else(|| error.to_string(), |code| code.to_string());
                if code.is_some_and(is_over) {
                    self.0.broken.store(true, Ordering::SeqCst);
                }
                Err(match was_never_sent(message) {
                    true => AppendError::Skipped(reason),
                    false => AppendError::Unknown(reason),
                })
            }
        };
        self.0.delivered(opaque, delivered);
    }
}

/// Whether a producer that hears this won't do better: the topic is gone, or
/// its own state is of no use.
fn is_over(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::Fatal
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::UnknownProducerId
            | Code::OutOfOrderSequenceNumber
    )
}

/// Puts a line of librdkafka's into our log.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::warn!(facility, "kafka: {message}"),
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(facility, "kafka: {message}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(facility, "kafka: {message}"),
    }
}

/// For clients whose errors are told by their calls.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
    }
}

impl rdkafka::consumer::ConsumerContext for Quiet {}

/// For readers that wait to be woken: see [`super::reader`].
pub(super) struct Reading;

impl ClientContext for Reading {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                tracing::warn!("all Kafka brokers of a journal that is read are down");
            }
            _ => tracing::debug!(%error, reason, "kafka"),
        }
    }
}

impl rdkafka::consumer::ConsumerContext for Reading {}
