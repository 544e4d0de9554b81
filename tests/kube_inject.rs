//! `kube inject` and `kube uninject` over manifests as people write them: what
//! they print is compared with files, byte for byte. `UPDATE_GOLDEN=1` writes
//! these anew, for a person to look at.

mod kube;

use kube::{corpus, golden, inject, uninject};
use wal_sidecar::kube::yaml::read;
use wal_sidecar::kube::{JournalVolume, Mode, Options};

/// Every way of injection, by the name of its directory of files.
fn variants() -> Vec<(&'static str, Options)> {
    let with = |settings: &[(&str, &str)]| {
        let mut options = Options::default();
        for (name, value) in settings {
            options.set(name, value).unwrap();
        }
        options
    };
    vec![
        (
            "native",
            with(&[(
                "rewrite",
                "REDIS_URL=127.0.0.1:6380,MEMCACHED_SERVERS=127.0.0.1:11212",
            )]),
        ),
        (
            "plain",
            with(&[
                ("mode", "plain"),
                ("journal", "claim"),
                ("secret", "wal-sidecar-kafka"),
                ("image", "registry.example.com/wal-sidecar:1.2.3"),
                ("image-pull-policy", "IfNotPresent"),
                ("cpu-limit", "500m"),
                ("admin-listen", "[::]:9911"),
                ("rewrite", "REDIS_URL=127.0.0.1:6380"),
                ("prometheus", "false"),
            ]),
        ),
        (
            "kafka",
            with(&[("journal", "none"), ("readiness", "false")]),
        ),
    ]
}

#[test]
fn manifests_become_what_the_files_say() {
    for (name, options) in variants() {
        for (file, text) in corpus() {
            let changed = inject(&text, &options);
            golden(&format!("{name}/{file}"), &changed.text);
            let notices: String = changed.notices.iter().map(kube::describe).collect();
            golden(&format!("{name}/{file}.notices"), &notices);
        }
    }
}

#[test]
fn injecting_twice_is_injecting_once() {
    for (name, options) in variants() {
        for (file, text) in corpus() {
            let once = inject(&text, &options).text;
            assert_eq!(inject(&once, &options).text, once, "{name} {file}");
            // What was injected in another way is replaced.
            for (other, options) in variants() {
                let direct = inject(&text, &options).text;
                assert_eq!(
                    inject(&once, &options).text,
                    direct,
                    "{file} {name} {other}"
                );
            }
        }
    }
}

#[test]
fn uninjecting_gives_back_every_byte() {
    for (name, options) in variants() {
        for (file, text) in corpus() {
            let injected = inject(&text, &options).text;
            assert_ne!(injected, text, "{name} {file}");
            assert_eq!(uninject(&injected).text, text, "{name} {file}");
            assert_eq!(uninject(&text).text, text, "{name} {file}");
        }
    }
}

#[test]
fn other_layouts_come_back_with_the_same_content() {
    for text in [
        "apiVersion: v1\nkind: Pod\nmetadata:\n    name: a\nspec:\n    containers:\n        - {name: a, image: b}\n    volumes:\n",
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: b}]}}\n",
        "apiVersion: v1\nkind: Pod\nmetadata: &m {name: a}\nspec:\n  containers:\n  - <<: *m\n    image: b\n",
    ] {
        let json = |text: &str| read(text).unwrap()[0].root.as_ref().unwrap().to_json();
        for (name, options) in variants() {
            let injected = inject(text, &options).text;
            assert_eq!(
                json(&uninject(&injected).text),
                json(text),
                "{name}\n{text}"
            );
        }
    }
}

#[test]
fn what_somebody_changed_after_the_injection_stays() {
    let text = corpus().remove("deployment.yaml").unwrap();
    let options = Options::default();
    let injected = inject(&text, &options).text;
    let edit = |text: &str| {
        text.replace("replicas: 3", "replicas: 5")
            .replace("cart:2.14.1", "cart:2.15.0")
    };
    assert_eq!(uninject(&edit(&injected)).text, edit(&text));
    assert_eq!(
        inject(&edit(&injected), &options).text,
        inject(&edit(&text), &options).text
    );
}

#[test]
fn what_cannot_be_injected_is_said() {
    let pod = |more: &str| format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n{more}");
    let containers = "spec:\n  containers:\n  - {name: a, image: b}\n";
    for (text, expected) in [
        (pod(""), "it has no containers"),
        (pod("spec:\n  containers: []\n"), "it has no containers"),
        (
            pod(&format!("{containers}  os: {{name: windows}}\n")),
            "the sidecar runs on Linux",
        ),
        (
            pod("spec:\n  containers:\n  - {name: wal-sidecar, image: b}\n"),
            "the pod has a container or volume of the name wal-sidecar that was not injected",
        ),
        (
            pod(&format!(
                "  annotations:\n    wal-sidecar.io/inject: maybe\n{containers}"
            )),
            "wal-sidecar.io/inject takes true or false",
        ),
        (
            pod(&format!(
                "  annotations:\n    wal-sidecar.io/injected: \"{{\"\n{containers}"
            )),
            "the annotation wal-sidecar.io/injected was changed and cannot be followed",
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {}\n".to_owned(),
            "it has no pod template",
        ),
    ] {
        let changed = inject(&text, &Options::default());
        assert_eq!(changed.text, text);
        let [notice] = changed.notices.as_slice() else {
            panic!("{:?}", changed.notices);
        };
        assert!(!notice.changed && notice.problems.len() == 1, "{notice:?}");
        assert!(notice.problems[0].starts_with(expected), "{notice:?}");
    }
}

#[test]
fn objects_of_other_kinds_are_no_concern() {
    for text in [
        "apiVersion: serving.knative.dev/v1\nkind: Service\nspec:\n  template:\n    spec:\n      containers: []\n",
        "apiVersion: example.com/v1\nkind: Deployment\nmetadata: {name: a}\n",
        "just a text\n",
        "- a\n- list\n",
        "# nothing\n",
        "",
    ] {
        let changed = inject(text, &Options::default());
        assert_eq!(
            (changed.text.as_str(), changed.notices.len()),
            (text, 0),
            "{text}"
        );
    }
}

#[test]
fn every_volume_of_a_journal_is_mounted() {
    let text = corpus().remove("deployment.yaml").unwrap();
    for (journal, kind) in [
        (JournalVolume::EmptyDir, Some("emptyDir")),
        (JournalVolume::Claim, Some("ephemeral")),
        (JournalVolume::HostPath, Some("hostPath")),
        (JournalVolume::None, None),
    ] {
        for mode in [Mode::Native, Mode::Plain] {
            let options = Options {
                journal,
                mode,
                ..Options::default()
            };
            let injected = inject(&text, &options).text;
            let root = read(&injected).unwrap().remove(0).root.unwrap().to_json();
            let spec = &root["spec"]["template"]["spec"];
            let named = |list: &serde_json::Value, name: &str| {
                let mut items = list.as_array().unwrap().iter();
                items.find(|item| item["name"] == name).cloned()
            };
            let list = match mode {
                Mode::Native => &spec["initContainers"],
                Mode::Plain => &spec["containers"],
            };
            let sidecar = named(list, "wal-sidecar").expect("it is there");
            let mount = named(&sidecar["volumeMounts"], "wal-sidecar-journal");
            let volume = named(&spec["volumes"], "wal-sidecar-journal");
            assert_eq!(mount.is_some(), kind.is_some(), "{journal:?}");
            assert_eq!(volume.is_some(), kind.is_some(), "{journal:?}");
            if let (Some(volume), Some(kind)) = (volume, kind) {
                assert!(volume.get(kind).is_some(), "{journal:?} {volume}");
            }
        }
    }
}
