//! Manifests mean here what they mean to kubectl, whose own reader is asked;
//! and what is written is read by it as it was meant.

mod kube;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use kube::{corpus, inject, root};
use serde_json::{Value, json};
use wal_sidecar::kube::Options;
use wal_sidecar::kube::yaml::{Node, read};

/// What kubectl makes of texts of one document each.
fn kubectl(texts: &[String]) -> Vec<Value> {
    let directory = tempfile::TempDir::new().unwrap();
    let tool = root().join(".cache/kube/suite");
    let mut command = Command::new(&tool);
    command.arg("json");
    for (index, text) in texts.iter().enumerate() {
        let path = directory.path().join(format!("{index}.yaml"));
        std::fs::write(&path, text).unwrap();
        command.arg(path);
    }
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; scripts/test installs it", tool.display()));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{error}
{}",
        texts[0]
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let values: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(values.len(), texts.len());
    values
}

fn ours(text: &str) -> Value {
    let documents = read(text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
    documents[0]
        .root
        .as_ref()
        .map_or(Value::Null, Node::to_json)
}

/// Numbers are the same whether JSON writes 1000 or 1e3.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn scalars_mean_the_same() {
    let words = [
        "a",
        "y",
        "Y",
        "n",
        "N",
        "yes",
        "Yes",
        "YES",
        "no",
        "NO",
        "on",
        "On",
        "off",
        "OFF",
        "true",
        "True",
        "TRUE",
        "tRue",
        "false",
        "~",
        "null",
        "Null",
        "NULL",
        "nULL",
        "0",
        "7",
        "-7",
        "+7",
        "007",
        "0644",
        "0o644",
        "0O644",
        "089",
        "-017",
        "0x1F",
        "0X1f",
        "-0x1",
        "0b11",
        "-0b11",
        "1_000",
        "1__0",
        "_1",
        "1_",
        "0_7",
        "1.5",
        "-1.5",
        "+1.5",
        ".5",
        "-.5",
        "1.",
        "1e3",
        "1E3",
        "1e+3",
        "1e-3",
        "1e",
        "e1",
        "1.5e3",
        "1.2.3",
        "1-2",
        "--1",
        "+",
        "-",
        ".",
        "..",
        "1:30",
        "12:30:45",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "100m",
        "8Gi",
        "0xZ",
        "0o8",
        "1e400",
        "=",
        "a=b",
        "a:b",
        "::",
        "http://a/b#c",
        "a#b",
        "%a",
        "@a",
        "`a",
        "0.0.0.0",
        "127.0.0.1:6380",
    ];
    let mut texts = Vec::new();
    for word in words {
        // Some cannot stand there without quotes, to us and to kubectl.
        if read(&format!("a: {word}\n")).is_ok() {
            texts.push(format!("a: {word}\n"));
        }
        texts.push(format!("a: '{word}'\n"));
        texts.push(format!("a: \"{word}\"\n"));
        texts.push(format!("a: !!str {word}\n"));
    }
    texts.retain(|text| read(text).is_ok());
    assert!(texts.len() > 300, "{}", texts.len());
    let theirs = kubectl(&texts);
    let wrong: Vec<String> = texts
        .iter()
        .zip(&theirs)
        .filter(|(text, theirs)| !same(&ours(text), theirs))
        .map(|(text, theirs)| format!("{text:?}: {} here, {theirs} there", ours(text)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn texts_that_are_written_are_read_as_they_were() {
    let mut texts: Vec<String> = [
        "",
        " ",
        "a",
        "on",
        "y",
        "null",
        "~",
        "0644",
        "1e3",
        "1:30",
        "=",
        "<<",
        "a b",
        " a",
        "a ",
        "a: b",
        "a #b",
        "#a",
        "- a",
        "-",
        "? a",
        "[a",
        "{a",
        "*a",
        "&a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        "'",
        "\"",
        "it's",
        "\"a\"",
        "a\\b",
        "a\tb",
        "\ta",
        "a\n",
        "a\nb",
        "a\nb\n",
        "a\n\nb\n\n",
        "\na",
        " a\nb\n",
        "a\n b\n",
        "a \nb \n",
        "# a\n# b\n",
        "a\r\nb",
        "\u{1}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{fc}",
        "\u{1f600}",
        "---",
        "...",
        "--- a\n--- b\n",
        "{\"a\": \"b\"}",
        "{\"a\": 'b'}",
        "$(A)",
        "${A}",
        "a,b",
    ]
    .map(str::to_owned)
    .to_vec();
    // And every short text of the characters that mean something.
    let signs: Vec<char> = "a0-:#'\" \n[{,!".chars().collect();
    for first in &signs {
        for second in &signs {
            for third in &signs {
                texts.push([*first, *second, *third].iter().collect());
            }
        }
    }
    let value: Vec<Value> = texts
        .iter()
        .map(|text| json!({ "value": text, "list": [text, { "name": text }], "keys": { (text.as_str()): text } }))
        .collect();
    let written = Node::from_json(&Value::Array(value.clone())).write();
    assert_eq!(ours(&written), Value::Array(value.clone()));
    assert_eq!(
        kubectl(std::slice::from_ref(&written)),
        [Value::Array(value)]
    );
    // Written again it stays as it is.
    assert_eq!(
        read(&written).unwrap()[0].root.as_ref().unwrap().write(),
        written
    );
}

#[test]
fn manifests_mean_the_same_before_and_after() {
    let mut texts = BTreeMap::new();
    for (name, text) in corpus() {
        texts.insert(
            format!("{name} injected"),
            inject(&text, &Options::default()).text,
        );
        texts.insert(name, text);
    }
    for path in kube::files(&root().join("k8s")) {
        let is_yaml = path
            .extension()
            .is_some_and(|extension| extension == "yaml");
        if is_yaml {
            let name = path.display().to_string();
            texts.insert(name, std::fs::read_to_string(Path::new(&path)).unwrap());
        }
    }
    let mut documents = Vec::new();
    for text in texts.values() {
        for document in read(text).unwrap() {
            if document.root.is_some() {
                // Written anew, it is compared with the source.
                documents.push((document.source.clone(), document.write()));
            }
        }
    }
    assert!(documents.len() > 50, "{}", documents.len());
    let sources: Vec<String> = documents.iter().map(|(source, _)| source.clone()).collect();
    let written: Vec<String> = documents
        .iter()
        .map(|(_, written)| written.clone())
        .collect();
    let (sources_there, written_there) = (kubectl(&sources), kubectl(&written));
    for (index, (source, _)) in documents.iter().enumerate() {
        assert!(same(&ours(source), &sources_there[index]), "{source}");
        assert_eq!(sources_there[index], written_there[index], "{source}");
    }
}
