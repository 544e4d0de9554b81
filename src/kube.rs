//! Kubernetes: puts the sidecar into pods, from the command line and as an
//! admission webhook.
//!
//! ```text
//! manifests --yaml::read--> trees --manifest--> pods --pod::inject--> trees --write--> manifests
//! admission review --webhook--> pod --pod::inject--> patch
//! ```
//!
//! Settings come from flags ([`Options`]) and from a pod's annotations, which
//! bear the same names. What is done to a pod is recorded in an annotation of
//! it, so that it can be undone exactly.

mod annotations;
pub mod idle;
pub mod manifest;
mod options;
mod pod;
mod record;
mod rewrite;
mod sidecar;
pub mod trust;
pub mod webhook;
pub mod yaml;

pub use annotations::{overlay, wish};
pub use options::{JournalVolume, Mode, Options, PREFIX, Rewrite};
pub use pod::{Owner, Refused, inject, uninject};
pub use record::INJECTED;
pub use sidecar::CONTAINER;
pub use yaml::Node;
