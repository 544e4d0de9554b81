//! `wal-sidecar kube ...`

mod drain;
mod manifests;
mod settings;

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

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print manifests with the sidecar added to their pods
    #[command(after_help = INJECT_EXAMPLES)]
    Inject(Box<manifests::InjectOptions>),
    /// Print manifests as they were before the sidecar was added
    #[command(after_help = UNINJECT_EXAMPLES)]
    Uninject(manifests::Options),
    /// Wait until no client is connected to the sidecar of this pod (its preStop hook)
    Drain(drain::Options),
}

pub(super) fn execute(command: &Command, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    match command {
        Command::Inject(options) => manifests::inject(options, out),
        Command::Uninject(options) => manifests::uninject(options, out),
        Command::Drain(options) => drain::drain(options),
    }
}
