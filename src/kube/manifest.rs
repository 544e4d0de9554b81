//! Finds the pods in manifests.

use super::options::Options;
use super::pod::{self, Owner, Refused};
use super::sidecar::{self, JOURNAL_VOLUME};
use super::yaml::{self, Document, Node, SyntaxError};
use super::{annotations, options::JournalVolume};

/// Lists in lists.
const LISTS_MAX: usize = 8;

/// A kind of object that makes pods: kind, API groups, where the pod is.
const KINDS: &[(&str, &[&str], &[&str])] = &[
    ("Pod", &[""], &[]),
    ("ReplicationController", &[""], &["spec", "template"]),
    ("Deployment", &["apps"], &["spec", "template"]),
    ("ReplicaSet", &["apps"], &["spec", "template"]),
    ("StatefulSet", &["apps"], &["spec", "template"]),
    ("DaemonSet", &["apps"], &["spec", "template"]),
    ("Job", &["batch"], &["spec", "template"]),
    (
        "CronJob",
        &["batch"],
        &["spec", "jobTemplate", "spec", "template"],
    ),
];

/// What became of an object with pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// `Deployment shop/cart`.
    pub object: String,
    /// Whether it is changed.
    pub changed: bool,
    /// What is wrong with it: why it is not changed, or annotations that are
    /// not followed.
    pub problems: Vec<String>,
    /// What its owner should know.
    pub warnings: Vec<String>,
}

/// A text of manifests, changed, and what became of the objects in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The text. Documents without a change stand in it as they were.
    pub text: String,
    /// One for each object with pods.
    pub notices: Vec<Notice>,
}

/// Puts the sidecar into every pod of a text of manifests, with the settings
/// that `options` and the pods' annotations give.
pub fn inject(text: &str, options: &Options) -> Result<Changed, SyntaxError> {
    change(text, &|object| inject_object(object, options))
}

/// Takes the sidecar out of every pod of a text of manifests.
pub fn uninject(text: &str) -> Result<Changed, SyntaxError> {
    change(text, &uninject_object)
}

/// Changes one object; none where it has no pods.
type Change<'c> = &'c dyn Fn(&mut Node) -> Option<Outcome>;

#[derive(Default)]
struct Outcome {
    changed: bool,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Outcome {
    fn problem(text: impl Into<String>) -> Outcome {
        Outcome {
            problems: vec![text.into()],
            ..Outcome::default()
        }
    }
}

fn change(text: &str, change: Change<'_>) -> Result<Changed, SyntaxError> {
    let mut changed = Changed {
        text: String::new(),
        notices: Vec::new(),
    };
    for mut document in yaml::read(text)? {
        let first = changed.notices.len();
        if let Some(root) = &mut document.root {
            each(root, LISTS_MAX, change, &mut changed.notices);
        }
        if let Some(separator) = &document.separator {
            end_line(&mut changed.text);
            changed.text.push_str(separator);
            changed.text.push('\n');
        }
        let is_changed = changed.notices[first..].iter().any(|notice| notice.changed);
        match is_changed {
            true => changed.text.push_str(&written(&document)?),
            false => changed.text.push_str(&document.source),
        }
    }
    Ok(changed)
}

/// The text of a changed document. It is read again: a manifest that meant
/// something else than it should would be worse than none.
fn written(document: &Document) -> Result<String, SyntaxError> {
    let text = document.write();
    let again = yaml::read(&text)?;
    let json = |document: &Document| document.root.as_ref().map(Node::to_json);
    match again.first().and_then(json) == json(document) {
        true => Ok(text),
        false => Err(SyntaxError {
            line: 1,
            message: "a document after this is laid out in a way that cannot be kept; \
                      lay it out in the usual way"
                .to_owned(),
        }),
    }
}

fn end_line(text: &mut String) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
}

/// Every object of a document: it, or those that it lists.
fn each(object: &mut Node, depth: usize, change: Change<'_>, notices: &mut Vec<Notice>) {
    let is_list = object
        .str_of("kind")
        .is_some_and(|kind| kind.ends_with("List"));
    if is_list && depth > 0 {
        let items = object
            .get_mut("items")
            .into_iter()
            .flat_map(Node::items_mut);
        for item in items {
            each(item, depth - 1, change, notices);
        }
    } else if let Some(outcome) = change(object) {
        notices.push(Notice {
            object: name_of(object),
            changed: outcome.changed,
            problems: outcome.problems,
            warnings: outcome.warnings,
        });
    }
}

fn name_of(object: &Node) -> String {
    let kind = object.str_of("kind").unwrap_or("?");
    let of = |key| object.at(&["metadata", key]).and_then(Node::as_str);
    let name = of("name")
        .or_else(|| of("generateName"))
        .unwrap_or("without a name");
    match of("namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// Where an object's pod is; none where it has none.
fn pod_of(object: &Node) -> Option<&'static [&'static str]> {
    let kind = object.str_of("kind")?;
    let version = object.str_of("apiVersion")?;
    let group = version.rsplit_once('/').map_or("", |(group, _)| group);
    let known = KINDS
        .iter()
        .find(|(known, groups, _)| *known == kind && groups.contains(&group));
    known.map(|(_, _, path)| *path)
}

fn inject_object(object: &mut Node, options: &Options) -> Option<Outcome> {
    let path = pod_of(object)?;
    let owner = Owner {
        has_claims: object.str_of("kind") == Some("StatefulSet"),
        ends: matches!(object.str_of("kind"), Some("Job" | "CronJob")),
    };
    let Some(pod) = object.at_mut(path) else {
        return Some(Outcome::problem("it has no pod template"));
    };
    if let Err(error) = annotations::wish(pod) {
        return Some(Outcome::problem(error));
    }
    let (options, problems) = annotations::overlay(pod, options);
    let warnings = match pod::inject(pod, &options, owner) {
        Ok(warnings) => warnings,
        Err(Refused::Unfit(reason)) => return Some(Outcome::problem(reason)),
        Err(refused @ Refused::Declined) => {
            return Some(Outcome {
                warnings: vec![refused.to_string()],
                ..Outcome::default()
            });
        }
    };
    if owner.has_claims {
        remove_claim(object);
        if options.journal == JournalVolume::Claim {
            add_claim(object, &options);
        }
    }
    Some(Outcome {
        changed: true,
        problems,
        warnings,
    })
}

fn uninject_object(object: &mut Node) -> Option<Outcome> {
    let pod = object.at_mut(pod_of(object)?)?;
    match pod::uninject(pod) {
        Ok(changed) => {
            if changed {
                remove_claim(object);
            }
            Some(Outcome {
                changed,
                ..Outcome::default()
            })
        }
        Err(error) => Some(Outcome::problem(error)),
    }
}

fn add_claim(object: &mut Node, options: &Options) {
    let Some(spec) = object.get_mut("spec") else {
        return;
    };
    if spec.get("volumeClaimTemplates").is_none_or(Node::is_null) {
        spec.set("volumeClaimTemplates", Node::list([]));
    }
    if let Some(claims) = spec.get_mut("volumeClaimTemplates") {
        claims.put(usize::MAX, sidecar::claim_template(options));
    }
}

fn remove_claim(object: &mut Node) {
    let Some(spec) = object.get_mut("spec") else {
        return;
    };
    let Some(claims) = spec.get_mut("volumeClaimTemplates") else {
        return;
    };
    if !claims.items().any(is_ours) {
        return;
    }
    claims.retain(|claim| !is_ours(claim));
    if claims.is_empty() {
        spec.remove("volumeClaimTemplates");
    }
}

fn is_ours(claim: &Node) -> bool {
    claim.at(&["metadata", "name"]).and_then(Node::as_str) == Some(JOURNAL_VOLUME)
}
