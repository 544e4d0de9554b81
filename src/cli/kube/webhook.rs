//! `wal-sidecar kube webhook`

use super::drain::duration;
use super::settings::Settings;
use crate::admin::{self, Readiness};
use crate::kube::webhook::certificate::{CERTIFICATE_FILE, SelfSigned};
use crate::kube::webhook::{self, Policy, Webhook};
use crate::telemetry::{self, LogFormat, LogLevel, MetricsHandle};
use anyhow::Context as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::sleep;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Options {
    /// Where the API server finds it
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// HTTP: /metrics, /healthz, /readyz
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9900")]
    admin: SocketAddr,
    /// The directory with tls.crt and tls.key; changed files are taken up
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = "/run/secrets/wal-sidecar-webhook"
    )]
    certificates: PathBuf,
    /// How often these are looked at
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    reload_interval: Duration,
    /// Where there is no certificate, make one for this name; for trying things
    /// out, as others have to be told to trust the ca.crt beside it
    #[arg(long, value_name = "NAME")]
    self_signed: Vec<String>,
    /// What a pod with bad annotations gets: allow (the sidecar, as if they
    /// were not there, and a warning) or deny
    #[arg(long, value_name = "POLICY", default_value = "allow", value_parser = policy)]
    on_error: Policy,
    /// How long after SIGTERM reviews are still answered, as the cluster does
    /// not know at once that this process is ending
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    drain_delay: Duration,
    #[command(flatten)]
    settings: Settings,
}

/// Days that a certificate for trying things out is valid.
const SELF_SIGNED_DAYS: u64 = 30;

fn policy(text: &str) -> Result<Policy, String> {
    match text {
        "allow" => Ok(Policy::Open),
        "deny" => Ok(Policy::Closed),
        _ => Err("takes allow or deny".to_owned()),
    }
}

pub(super) fn webhook(options: &Options) -> anyhow::Result<ExitCode> {
    let settings = options.settings.options()?;
    telemetry::init_logs(LogFormat::Json, LogLevel::Info)?;
    let metrics = telemetry::init_metrics()?;
    if !options.self_signed.is_empty() && !options.certificates.join(CERTIFICATE_FILE).exists() {
        let valid = Duration::from_secs(SELF_SIGNED_DAYS * 86_400);
        SelfSigned::new(&options.self_signed, valid)
            .context("make a certificate")?
            .write(&options.certificates)
            .with_context(|| {
                format!(
                    "write the certificate to {}",
                    options.certificates.display()
                )
            })?;
        tracing::warn!(names = ?options.self_signed, "made a self-signed certificate");
    }
    let webhook = Webhook {
        options: settings,
        policy: options.on_error,
        certificates: options.certificates.clone(),
        reload_interval: options.reload_interval.max(Duration::from_millis(10)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(options, webhook, metrics))
}

async fn serve(
    options: &Options,
    webhook: Webhook,
    metrics: MetricsHandle,
) -> anyhow::Result<ExitCode> {
    let server = webhook::bind(options.listen, webhook).await?;
    let admin = admin::bind(&admin::Options {
        listen: options.admin,
    })
    .await?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    let draining = Arc::new(AtomicBool::new(false));
    let (drain, mut drains) = mpsc::unbounded_channel();
    let state = state(&metrics, Arc::clone(&draining), drain);
    tracing::info!(listen = %server.address(), admin = %admin.address(), "serving");
    let (closing, closed) = tokio::sync::oneshot::channel::<()>();
    let admin = tokio::spawn(admin.serve(state, async move {
        let _ = closed.await;
    }));
    tokio::spawn(metrics.run_upkeep());
    let told = async {
        // Events: told to end by a signal, or over HTTP.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = drains.recv() => {}
        }
        tracing::info!("draining");
        draining.store(true, Ordering::Relaxed);
        sleep(options.drain_delay).await;
    };
    server.serve(told).await;
    let _ = closing.send(());
    let _ = admin.await;
    tracing::info!("ended");
    Ok(ExitCode::SUCCESS)
}

fn state(
    metrics: &MetricsHandle,
    draining: Arc<AtomicBool>,
    drain: mpsc::UnboundedSender<()>,
) -> admin::State {
    let metrics = metrics.clone();
    admin::State {
        metrics: Arc::new(move || metrics.render()),
        ready: Arc::new(move || {
            let is_draining = draining.load(Ordering::Relaxed);
            let check = match is_draining {
                true => Err("draining".to_owned()),
                false => Ok(()),
            };
            Readiness {
                ready: !is_draining,
                checks: vec![("drain".to_owned(), check)],
            }
        }),
        config: Arc::new(|| "{}".to_owned()),
        drain: Arc::new(move || {
            // Once the drain has begun nobody listens, and nobody has to.
            let _ = drain.send(());
        }),
    }
}
