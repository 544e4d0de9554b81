//! Answers a review of the API server's (admission.k8s.io/v1, kubernetes.io,
//! "Dynamic Admission Control").

use super::patch::diff;
use crate::kube::{self, INJECTED, Node, Options, Owner, Refused};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};

const VERSION: &str = "admission.k8s.io/v1";
/// The API server may cut longer ones.
const WARNING_CHARACTERS_MAX: usize = 256;

/// What a bad annotation, or a pod that cannot have a sidecar, comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The pod is stored; a bad annotation counts as if it were not there.
    Open,
    /// The pod is refused.
    Closed,
}

/// Which pods get a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// Those that ask for one.
    Asking,
    /// All but those that decline.
    All,
}

/// What became of a review's pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decision {
    /// It gets a sidecar.
    Injected,
    /// It stays as it is: it did not ask, declined, has one, or is no pod.
    Skipped,
    /// It stays as it is because something is wrong with it.
    Unfit,
    /// It is refused.
    Denied,
}

/// Why a request is not a review that can be answered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadReview(String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    kind: Kind,
    #[serde(default)]
    sub_resource: Option<String>,
    operation: String,
    #[serde(default)]
    object: Value,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    group: String,
    kind: String,
}

/// Answers a review: what became of its pod, and the answer's body.
pub fn answer(
    body: &[u8],
    options: &Options,
    selection: Selection,
    policy: Policy,
) -> Result<(Decision, Value), BadReview> {
    let review: Review = serde_json::from_slice(body)
        .map_err(|error| BadReview(format!("this is no AdmissionReview: {error}")))?;
    if review.api_version != VERSION || review.kind != "AdmissionReview" {
        return Err(BadReview(format!(
            "an AdmissionReview of {VERSION} is wanted, this is a {} of {}",
            review.kind, review.api_version
        )));
    }
    let request = review
        .request
        .filter(|request| !request.uid.is_empty())
        .ok_or_else(|| BadReview("the review has no request, or that has no uid".to_owned()))?;
    let is_pod = request.kind.group.is_empty() && request.kind.kind == "Pod";
    let is_new = request.operation == "CREATE"
        && request
            .sub_resource
            .as_deref()
            .unwrap_or_default()
            .is_empty();
    let verdict = match is_pod && is_new {
        true if !request.object.is_object() => {
            return Err(BadReview("the review's object is missing".to_owned()));
        }
        true => decide(&request.object, options, selection, policy),
        false => Verdict::skipped(Vec::new()),
    };
    let decision = verdict.decision;
    let response = verdict.response(&request.uid);
    let body = json!({ "apiVersion": VERSION, "kind": "AdmissionReview", "response": response });
    Ok((decision, body))
}

struct Verdict {
    decision: Decision,
    warnings: Vec<String>,
    patch: Vec<Value>,
}

impl Verdict {
    fn skipped(warnings: Vec<String>) -> Verdict {
        Verdict {
            decision: Decision::Skipped,
            warnings,
            patch: Vec::new(),
        }
    }

    fn response(self, uid: &str) -> Value {
        let mut response = json!({ "uid": uid, "allowed": self.decision != Decision::Denied });
        if self.decision == Decision::Denied {
            response["status"] = json!({
                "status": "Failure",
                "code": 400,
                "reason": "BadRequest",
                "message": format!("wal-sidecar: {}", self.warnings.join("; ")),
            });
            return response;
        }
        if !self.warnings.is_empty() {
            let warnings = self.warnings.iter();
            let warnings = warnings.map(|text| shortened(&format!("wal-sidecar: {text}")));
            response["warnings"] = warnings.collect();
        }
        if !self.patch.is_empty() {
            let patch = Value::Array(self.patch).to_string();
            response["patchType"] = "JSONPatch".into();
            response["patch"] = BASE64.encode(patch).into();
        }
        response
    }
}

fn decide(object: &Value, options: &Options, selection: Selection, policy: Policy) -> Verdict {
    let refuse = |decision: Decision, problems: Vec<String>| Verdict {
        decision: match policy {
            Policy::Open => decision,
            Policy::Closed => Decision::Denied,
        },
        warnings: problems,
        patch: Vec::new(),
    };
    let mut pod = Node::from_json(object);
    match kube::wish(&pod) {
        Err(problem) => return refuse(Decision::Unfit, vec![problem]),
        Ok(Some(false)) => return Verdict::skipped(Vec::new()),
        Ok(None) if selection == Selection::Asking => return Verdict::skipped(Vec::new()),
        Ok(_) => {}
    }
    // Injected before, by the command line or by an earlier call for the same
    // pod: what was chosen then stays.
    if pod.at(&["metadata", "annotations", INJECTED]).is_some() {
        return Verdict::skipped(Vec::new());
    }
    let (options, problems) = kube::overlay(&pod, options);
    if policy == Policy::Closed && !problems.is_empty() {
        return refuse(Decision::Denied, problems);
    }
    match kube::inject(&mut pod, &options, owner(object)) {
        Ok(warnings) => Verdict {
            decision: Decision::Injected,
            warnings: [problems, warnings].concat(),
            patch: diff(object, &pod.to_json()),
        },
        Err(Refused::Declined) => Verdict::skipped(Vec::new()),
        Err(Refused::Unfit(reason)) => refuse(Decision::Unfit, vec![reason]),
    }
}

/// A StatefulSet's claims cannot be changed from a pod, so its pods are like
/// all others here. A Job's pods are owned by it.
fn owner(pod: &Value) -> Owner {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let mut owners = owners.into_iter().flatten();
    Owner {
        ends: owners.any(|owner| owner["kind"] == "Job"),
        ..Owner::NOBODY
    }
}

fn shortened(text: &str) -> String {
    match text.chars().count() > WARNING_CHARACTERS_MAX {
        true => text
            .chars()
            .take(WARNING_CHARACTERS_MAX - 1)
            .chain(['\u{2026}'])
            .collect(),
        false => text.to_owned(),
    }
}
