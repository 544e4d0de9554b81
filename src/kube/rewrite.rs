//! Environment variables that say where the datastore is, made to say where
//! the sidecar is.

use super::options::Rewrite;
use super::record::{Record, Replaced};
use super::sidecar::CONTAINER;
use super::yaml::Node;

/// Rewrites variables of a pod's containers. `lists` are those that find the
/// sidecar running: init containers do with a native sidecar only.
pub(super) fn rewrite(
    spec: &mut Node,
    lists: &[&str],
    rewrites: &[Rewrite],
    record: &mut Record,
    warnings: &mut Vec<String>,
) {
    for rewrite in rewrites {
        let mut found = false;
        for list in lists {
            let containers = spec.get_mut(list).into_iter().flat_map(Node::items_mut);
            for container in containers {
                found |= in_container(container, list, rewrite, record, warnings);
            }
        }
        if !found {
            warnings.push(format!(
                "no container sets the variable {}, so nothing points to the sidecar by it (what envFrom brings in is not seen here)",
                rewrite.name
            ));
        }
    }
}

/// Whether the container has the variable.
fn in_container(
    container: &mut Node,
    list: &str,
    rewrite: &Rewrite,
    record: &mut Record,
    warnings: &mut Vec<String>,
) -> bool {
    let name = container.str_of("name").unwrap_or_default().to_owned();
    if name == CONTAINER {
        return false;
    }
    let variables = container
        .get_mut("env")
        .into_iter()
        .flat_map(Node::items_mut);
    let mut found = false;
    for variable in variables.filter(|one| one.str_of("name") == Some(&rewrite.name)) {
        found = true;
        let Some(value) = variable.get("value") else {
            warnings.push(format!(
                "container {name}: {} comes from elsewhere (valueFrom) and is not rewritten; make what it comes from say {}",
                rewrite.name, rewrite.address
            ));
            continue;
        };
        let Some(text) = value.as_str() else {
            warnings.push(format!(
                "container {name}: {} is not a text and is not rewritten",
                rewrite.name
            ));
            continue;
        };
        let new = rewritten(text, &rewrite.address);
        if text.starts_with("rediss://") {
            warnings.push(format!(
                "container {name}: {} asked for TLS; within the pod it is plain now, and the sidecar speaks it with what its upstream calls rediss://",
                rewrite.name
            ));
        }
        if new == text {
            continue;
        }
        record.replaced.push(Replaced {
            list: list.to_owned(),
            container: name.clone(),
            variable: rewrite.name.clone(),
            value: value.write().trim_end_matches('\n').to_owned(),
        });
        variable.set("value", Node::text(new));
    }
    found
}

/// The value with another address: of a URL user, password and path stay,
/// anything else (`host:port`, a list of those) is the address alone.
fn rewritten(value: &str, address: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else {
        return address.to_owned();
    };
    let scheme = match scheme {
        "rediss" => "redis",
        other => other,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, _)) => format!("{scheme}://{user}@{address}{tail}"),
        None => format!("{scheme}://{address}{tail}"),
    }
}

/// Puts the values back that were rewritten, unless somebody has changed them
/// since to something else of which nothing is known here.
pub(super) fn restore(spec: &mut Node, record: &Record) {
    for replaced in &record.replaced {
        let containers = spec
            .get_mut(&replaced.list)
            .into_iter()
            .flat_map(Node::items_mut);
        for container in containers.filter(|one| one.str_of("name") == Some(&replaced.container)) {
            let variables = container
                .get_mut("env")
                .into_iter()
                .flat_map(Node::items_mut);
            for variable in variables.filter(|one| one.str_of("name") == Some(&replaced.variable)) {
                if variable.get("value").is_some() {
                    variable.set("value", replaced.node());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_changes() {
        for (value, expected) in [
            ("redis://cache:6379", "redis://127.0.0.1:6380"),
            ("redis://cache:6379/2", "redis://127.0.0.1:6380/2"),
            (
                "redis://app:p%40ss@cache.example.com/0?x=1",
                "redis://app:p%40ss@127.0.0.1:6380/0?x=1",
            ),
            ("rediss://cache", "redis://127.0.0.1:6380"),
            ("cache:6379", "127.0.0.1:6380"),
            ("a:11211,b:11211", "127.0.0.1:6380"),
            ("", "127.0.0.1:6380"),
        ] {
            assert_eq!(rewritten(value, "127.0.0.1:6380"), expected, "{value}");
        }
    }
}
