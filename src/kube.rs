//! Kubernetes: puts the sidecar into pods, from the command line and as an
//! admission webhook.

pub mod yaml;
