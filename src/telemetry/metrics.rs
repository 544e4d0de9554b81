//! The registry of metrics and its text form.

use super::process;
use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::Mutex;
use std::time::Duration;

/// Upper bounds, in seconds, of the buckets of histograms named `*_seconds`.
/// From a command on one machine (50 us) to a timeout (10 s), so that every
/// process has the same and they can be added up.
pub const SECONDS_BUCKETS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_35, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 10.0,
];

/// Upper bounds, in bytes, of the buckets of histograms named `*_bytes`.
pub const SIZE_BUCKETS: [f64; 10] = [
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    16_777_216.0,
    268_435_456.0,
];

/// Upper bounds of the buckets of histograms that count things of one go:
/// `*_records`, `*_commands`, `*_batches`.
pub const COUNT_BUCKETS: [f64; 12] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0,
];

/// How often [`MetricsHandle::upkeep`] wants to be called: histograms keep
/// every sample until then, whether somebody scrapes or not.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The registry that is set up, or none yet.
static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// The process's metrics.
#[derive(Clone)]
pub struct MetricsHandle {
    registry: PrometheusHandle,
}

impl MetricsHandle {
    /// All metrics in Prometheus's text format, with those of the process
    /// (memory, CPU time, open files, start), which are read now.
    pub fn render(&self) -> String {
        self.registry.run_upkeep();
        let mut text = self.registry.render();
        process::render(&mut text);
        text
    }

    /// Sums up what histograms have collected, so that it does not pile up.
    pub fn upkeep(&self) {
        self.registry.run_upkeep();
    }

    /// Calls [`MetricsHandle::upkeep`] every [`UPKEEP_INTERVAL`], for ever.
    pub async fn run_upkeep(self) {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            ticks.tick().await;
            self.upkeep();
        }
    }
}

/// Makes this process's metrics go to one registry. Where that has been done
/// before, this is the same registry.
pub fn init_metrics() -> anyhow::Result<MetricsHandle> {
    let mut installed = match INSTALLED.lock() {
        Ok(installed) => installed,
        Err(poisoned) => poisoned.into_inner(),
    };
    if let Some(registry) = installed.clone() {
        return Ok(MetricsHandle { registry });
    }
    let recorder = builder()
        .context("configure histogram buckets")?
        .build_recorder();
    let registry = recorder.handle();
    metrics::set_global_recorder(recorder).context("set up metrics")?;
    metrics::describe_gauge!("wal_sidecar_build_info", "The program's version; always 1.");
    metrics::gauge!("wal_sidecar_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    *installed = Some(registry.clone());
    Ok(MetricsHandle { registry })
}

fn builder() -> Result<PrometheusBuilder, metrics_exporter_prometheus::BuildError> {
    let mut builder = PrometheusBuilder::new();
    for (suffix, buckets) in [
        ("_seconds", SECONDS_BUCKETS.as_slice()),
        ("_bytes", SIZE_BUCKETS.as_slice()),
        ("_records", COUNT_BUCKETS.as_slice()),
        ("_commands", COUNT_BUCKETS.as_slice()),
        ("_batches", COUNT_BUCKETS.as_slice()),
    ] {
        builder = builder.set_buckets_for_metric(Matcher::Suffix(suffix.to_owned()), buckets)?;
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_have_fixed_buckets() {
        let handle = init_metrics().unwrap();
        let histogram = metrics::histogram!("wal_sidecar_test_duration_seconds");
        histogram.record(0.0003);
        histogram.record_many(3.0, 2);
        metrics::counter!("wal_sidecar_test_things_total").increment(4);
        let text = init_metrics().unwrap().render();
        for line in [
            "# TYPE wal_sidecar_test_duration_seconds histogram",
            "wal_sidecar_test_duration_seconds_bucket{le=\"0.0002\"} 0",
            "wal_sidecar_test_duration_seconds_bucket{le=\"0.00035\"} 1",
            "wal_sidecar_test_duration_seconds_bucket{le=\"10\"} 3",
            "wal_sidecar_test_duration_seconds_count 3",
            "wal_sidecar_test_things_total 4",
            &format!(
                "wal_sidecar_build_info{{version=\"{}\"}} 1",
                env!("CARGO_PKG_VERSION")
            ),
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
        handle.upkeep();
        assert!(
            SECONDS_BUCKETS.is_sorted() && SIZE_BUCKETS.is_sorted() && COUNT_BUCKETS.is_sorted()
        );
    }
}
