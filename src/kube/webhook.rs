//! The mutating admission webhook: what the API server asks before it stores
//! a pod.
//!
//! | path | method | which pods get a sidecar |
//! |---|---|---|
//! | `/inject` | POST | those that ask for one (`wal-sidecar.io/inject: "true"`, a label or an annotation) |
//! | `/inject-all` | POST | all but those that decline |
//! | `/healthz` | GET | 200 as long as it answers |
//!
//! The API server chooses the path by the webhook's configuration, which is
//! where namespaces opt in and out. An answer to a review is always 200; what
//! is not a review gets 4xx, which the API server treats as a failure of the
//! webhook (`failurePolicy`).

pub mod certificate;
mod metrics;
mod patch;
mod review;
mod server;

pub use patch::diff;
pub use review::{BadReview, Decision, Policy, Selection, answer};
pub use server::{Server, StartError, Webhook, bind};
