//! What the webhook counts.

use super::review::Decision;
use metrics::{Counter, Gauge, Histogram, counter, describe_gauge, gauge, histogram};
use std::time::Duration;

/// Handles of the webhook's metrics.
pub(super) struct Metrics {
    injected: Counter,
    skipped: Counter,
    unfit: Counter,
    denied: Counter,
    bad: Counter,
    duration: Histogram,
    expiry: Gauge,
    reloads: Counter,
    failed_reloads: Counter,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        describe_gauge!(
            "wal_sidecar_webhook_certificate_expiry_timestamp_seconds",
            "When the certificate expires, in seconds since 1970."
        );
        let reviews = |outcome: &'static str| counter!("wal_sidecar_webhook_reviews_total", "outcome" => outcome);
        let reloads = |result: &'static str| counter!("wal_sidecar_webhook_certificate_reloads_total", "result" => result);
        Metrics {
            injected: reviews("injected"),
            skipped: reviews("skipped"),
            unfit: reviews("unfit"),
            denied: reviews("denied"),
            bad: reviews("bad_request"),
            duration: histogram!("wal_sidecar_webhook_review_duration_seconds"),
            expiry: gauge!("wal_sidecar_webhook_certificate_expiry_timestamp_seconds"),
            reloads: reloads("ok"),
            failed_reloads: reloads("failed"),
        }
    }

    pub(super) fn answered(&self, decision: Decision, time: Duration) {
        let counter = match decision {
            Decision::Injected => &self.injected,
            Decision::Skipped => &self.skipped,
            Decision::Unfit => &self.unfit,
            Decision::Denied => &self.denied,
        };
        counter.increment(1);
        self.duration.record(time.as_secs_f64());
    }

    pub(super) fn bad_request(&self) {
        self.bad.increment(1);
    }

    pub(super) fn certificate(&self, expires_at: i64) {
        self.expiry.set(expires_at as f64);
    }

    pub(super) fn reloaded(&self, is_ok: bool) {
        match is_ok {
            true => self.reloads.increment(1),
            false => self.failed_reloads.increment(1),
        }
    }
}
