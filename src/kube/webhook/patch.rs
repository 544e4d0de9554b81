//! The difference between two JSON values as a JSON Patch (RFC 6902).

use serde_json::{Value, json};

/// Operations that make `after` of `before`. Items of lists are told apart by
/// what the ends of the lists have in common, so that an item that was put
/// first is one operation and not a change of all.
pub fn diff(before: &Value, after: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    differ("", before, after, &mut operations);
    operations
}

fn differ(path: &str, before: &Value, after: &Value, operations: &mut Vec<Value>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let path = format!("{path}/{}", escaped(key));
                match after.get(key) {
                    Some(new) => differ(&path, value, new, operations),
                    None => operations.push(json!({ "op": "remove", "path": path })),
                }
            }
            for (key, value) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
                let path = format!("{path}/{}", escaped(key));
                operations.push(json!({ "op": "add", "path": path, "value": value }));
            }
        }
        (Value::Array(before), Value::Array(after)) => lists(path, before, after, operations),
        (_, after) => operations.push(json!({ "op": "replace", "path": path, "value": after })),
    }
}

fn lists(path: &str, before: &[Value], after: &[Value], operations: &mut Vec<Value>) {
    let pairs = before.iter().zip(after);
    let start = pairs.take_while(|(old, new)| old == new).count();
    let ends = before[start..]
        .iter()
        .rev()
        .zip(after[start..].iter().rev());
    let end = ends.take_while(|(old, new)| old == new).count();
    let old = &before[start..before.len() - end];
    let new = &after[start..after.len() - end];
    let both = old.len().min(new.len());
    // What grew at its front: items that are in both are compared as such.
    let (grown, shared) = match new.len() > old.len() && !old.is_empty() {
        true if new.last().map(name) == old.last().map(name) => (new.len() - old.len(), both),
        _ => (0, both),
    };
    for index in 0..shared {
        let path = format!("{path}/{}", start + index);
        differ(&path, &old[index], &new[grown + index], operations);
    }
    for index in (shared..old.len()).rev() {
        operations.push(json!({ "op": "remove", "path": format!("{path}/{}", start + index) }));
    }
    for (index, value) in new[..grown].iter().enumerate() {
        let path = format!("{path}/{}", start + index);
        operations.push(json!({ "op": "add", "path": path, "value": value }));
    }
    for (index, value) in new.iter().enumerate().skip(grown + shared) {
        let path = format!("{path}/{}", start + index);
        operations.push(json!({ "op": "add", "path": path, "value": value }));
    }
}

fn name(value: &Value) -> &Value {
    &value["name"]
}

/// A key as part of a JSON Pointer (RFC 6901).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn applied(before: &Value, after: &Value) -> Value {
        let operations = Value::Array(diff(before, after));
        let patch: json_patch::Patch = serde_json::from_value(operations).unwrap();
        let mut value = before.clone();
        json_patch::patch(&mut value, &patch).unwrap_or_else(|error| panic!("{error}: {patch}"));
        value
    }

    #[test]
    fn a_patch_says_no_more_than_what_changed() {
        for (before, after, expected) in [
            (json!({ "a": 1 }), json!({ "a": 1 }), json!([])),
            (
                json!({ "a": [{ "name": "x" }] }),
                json!({ "a": [{ "name": "w" }, { "name": "x" }] }),
                json!([{ "op": "add", "path": "/a/0", "value": { "name": "w" } }]),
            ),
            (
                json!({ "a": [{ "name": "x", "v": 1 }] }),
                json!({ "a": [{ "name": "w" }, { "name": "x", "v": 2 }] }),
                json!([
                    { "op": "replace", "path": "/a/0/v", "value": 2 },
                    { "op": "add", "path": "/a/0", "value": { "name": "w" } },
                ]),
            ),
            (
                json!({ "m": { "a/b": 1 } }),
                json!({ "m": { "a/b": 2, "c~d": 3 } }),
                json!([
                    { "op": "replace", "path": "/m/a~1b", "value": 2 },
                    { "op": "add", "path": "/m/c~0d", "value": 3 },
                ]),
            ),
        ] {
            assert_eq!(Value::Array(diff(&before, &after)), expected);
            assert_eq!(applied(&before, &after), after);
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..4).prop_map(Value::from),
            "[a-c/~]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-c/~]{0,2}|name", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_patch_makes_the_one_of_the_other(before in values(), after in values()) {
            prop_assert_eq!(applied(&before, &after), after);
        }
    }
}
