//! `wal-sidecar kube ...`

mod certificate;
mod drain;
mod manifests;
mod settings;
mod webhook;

pub(super) use drain::reachable;

use clap::Subcommand;
use std::io::Write;
use std::process::ExitCode;

const INJECT_EXAMPLES: &str = "\
Examples:
  wal-sidecar kube inject -f app.yaml | kubectl apply -f -
  wal-sidecar kube inject -f deploy/ --rewrite REDIS_URL=127.0.0.1:6380
  kubectl get deployment cart -o yaml | wal-sidecar kube inject -f - --journal claim

A pod's annotations override the flags, by the same names:
wal-sidecar.io/memory-limit: 1Gi. A pod with wal-sidecar.io/inject: \"false\"
stays as it is.";

const UNINJECT_EXAMPLES: &str = "\
Examples:
  wal-sidecar kube uninject -f injected.yaml > app.yaml";

const WEBHOOK_EXAMPLES: &str = "\
Examples:
  wal-sidecar kube webhook --certificates /run/secrets/wal-sidecar-webhook
  wal-sidecar kube webhook --listen 127.0.0.1:8443 --certificates /tmp/webhook \\
      --self-signed localhost

k8s/webhook has the manifests that make an API server ask it.";

const CERTIFICATE_EXAMPLES: &str = "\
Examples:
  kubectl kustomize k8s/overlays/minimal | wal-sidecar kube certificate -f - | kubectl apply -f -
  kubectl get mutatingwebhookconfiguration wal-sidecar -o yaml |
      wal-sidecar kube certificate -f - | kubectl apply -f -       renew it

It adds a Secret with the certificate and its key, and makes the API server trust
its authority, and the one that it trusted last.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print manifests with the sidecar added to their pods
    #[command(after_help = INJECT_EXAMPLES)]
    Inject(Box<manifests::InjectOptions>),
    /// Print manifests as they were before the sidecar was added
    #[command(after_help = UNINJECT_EXAMPLES)]
    Uninject(manifests::Options),
    /// Serve the admission webhook that adds the sidecar to new pods
    #[command(after_help = WEBHOOK_EXAMPLES)]
    Webhook(Box<webhook::Options>),
    /// Print the webhook's manifests with a self-signed certificate in them
    #[command(after_help = CERTIFICATE_EXAMPLES)]
    Certificate(certificate::Options),
    /// Wait until no client is connected to the sidecar of this pod (its preStop hook)
    Drain(drain::Options),
}

pub(super) fn execute(command: &Command, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    match command {
        Command::Inject(options) => manifests::inject(options, out),
        Command::Uninject(options) => manifests::uninject(options, out),
        Command::Webhook(options) => webhook::webhook(options),
        Command::Certificate(options) => certificate::certificate(options, out),
        Command::Drain(options) => drain::drain(options),
    }
}
