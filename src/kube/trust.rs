//! Gives the webhook's manifests a certificate: a Secret with it, and the
//! authority in the webhook's configuration, which the API server then trusts.

use super::webhook::certificate::SelfSigned;
use super::yaml::{self, Node, SyntaxError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::collections::BTreeSet;
use std::time::Duration;

/// Why manifests get no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// They are not manifests.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// Nothing in them wants one.
    #[error("no MutatingWebhookConfiguration in it names a service")]
    NoService,
    /// The Secret can be in one namespace only.
    #[error("its webhooks are in several namespaces: {0}")]
    Namespaces(String),
    /// The certificate cannot be made.
    #[error("the certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// The manifests, with the certificate's authority in every webhook's
/// configuration and its Secret, named `secret`, at their end.
pub fn trust(text: &str, secret: &str, valid: Duration) -> Result<String, TrustError> {
    let mut documents = yaml::read(text)?;
    let services: BTreeSet<(String, String)> = documents
        .iter()
        .filter_map(|document| document.root.as_ref())
        .flat_map(services)
        .collect();
    let namespaces: BTreeSet<&str> = services
        .iter()
        .map(|(namespace, _)| namespace.as_str())
        .collect();
    let namespaces: Vec<&str> = namespaces.into_iter().collect();
    let namespace = match namespaces.as_slice() {
        [] => return Err(TrustError::NoService),
        [namespace] => *namespace,
        several => return Err(TrustError::Namespaces(several.join(", "))),
    };
    let names: Vec<String> = services
        .iter()
        .map(|(namespace, service)| format!("{service}.{namespace}.svc"))
        .collect();
    let made = SelfSigned::new(&names, valid)?;
    let mut out = String::new();
    for document in &mut documents {
        if let Some(separator) = &document.separator {
            out.push_str(separator);
            out.push('\n');
        }
        let is_changed = document
            .root
            .as_mut()
            .is_some_and(|root| set_authority(root, &made.authority));
        match is_changed {
            true => out.push_str(&document.write()),
            false => out.push_str(&document.source),
        }
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
    }
    out.push_str("---\n");
    out.push_str(&secret_of(&made, secret, namespace).write());
    Ok(out)
}

/// Namespaces and names of the services a webhook's configuration names.
fn services(object: &Node) -> Vec<(String, String)> {
    if object.str_of("kind") != Some("MutatingWebhookConfiguration") {
        return Vec::new();
    }
    let webhooks = object.get("webhooks").into_iter().flat_map(Node::items);
    let services = webhooks.filter_map(|webhook| webhook.at(&["clientConfig", "service"]));
    let named = services.filter_map(|service| {
        let part = |key| service.str_of(key).map(str::to_owned);
        Some((part("namespace")?, part("name")?))
    });
    named.collect()
}

/// Makes the API server trust the authority. The one it trusted last stays
/// trusted, so that it does while pods still have the certificate of before.
fn set_authority(object: &mut Node, authority: &str) -> bool {
    if services(object).is_empty() {
        return false;
    }
    let webhooks = object
        .get_mut("webhooks")
        .into_iter()
        .flat_map(Node::items_mut);
    for webhook in webhooks {
        if let Some(config) = webhook.get_mut("clientConfig") {
            let last = config.str_of("caBundle").and_then(first_certificate);
            let bundle = authority.to_owned() + &last.unwrap_or_default();
            config.set("caBundle", Node::text(BASE64.encode(bundle)));
        }
    }
    true
}

/// The first certificate of a bundle, which is the newest.
fn first_certificate(bundle: &str) -> Option<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let bundle = String::from_utf8(BASE64.decode(bundle).ok()?).ok()?;
    let (first, _) = bundle.split_once(END)?;
    Some(format!("{}{END}\n", first.trim_start()))
}

fn secret_of(made: &SelfSigned, name: &str, namespace: &str) -> Node {
    let file = |content: &str| Node::text(BASE64.encode(content));
    let metadata = [
        ("name", Node::text(name)),
        ("namespace", Node::text(namespace)),
    ];
    Node::map([
        ("apiVersion", Node::text("v1")),
        ("kind", Node::text("Secret")),
        ("metadata", Node::map(metadata)),
        ("type", Node::text("kubernetes.io/tls")),
        (
            "data",
            Node::map([
                ("tls.crt", file(&made.certificate)),
                ("tls.key", file(&made.key)),
                ("ca.crt", file(&made.authority)),
            ]),
        ),
    ])
}
