//! The image without an engine for images: the root file system that the
//! Dockerfile makes is made here by the same script, and the program runs in it
//! as the image's user, with no other files. Needs root, as `chroot` does.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use support::process::{Process, free_port};
use support::sidecar::binary;
use support::wait::{READY_DEADLINE, until};
use support::{Client, Redis, http};
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn dockerfile() -> String {
    std::fs::read_to_string(root().join("Dockerfile")).unwrap()
}

/// The image's files.
fn image() -> TempDir {
    let directory = TempDir::new().unwrap();
    let output = Command::new(root().join("k8s/image/root"))
        .arg(binary())
        .arg(directory.path())
        .output();
    let output = output.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Temporary directories are closed to others.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    directory
}

/// A command in the image, as its user and with its variables.
fn inside(image: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new("chroot");
    command
        .arg("--userspec=65532:65532")
        .arg(image.path())
        .arg("/usr/local/bin/wal-sidecar")
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn the_program_serves_with_the_images_files_alone() {
    let (image, redis) = (image(), Redis::start());
    let output = inside(&image, &["--version"]).output().unwrap();
    assert_eq!(
        text(&output),
        format!("wal-sidecar {}\n", env!("CARGO_PKG_VERSION"))
    );

    // A kubelet mounts the configuration and /etc/hosts.
    std::fs::write(image.path().join("etc/hosts"), "127.0.0.1 redis.test\n").unwrap();
    let (port, admin) = (free_port(), free_port());
    let config = format!(
        "region = \"here\"\n[journal]\ndirectory = \"/var/lib/wal-sidecar/journal\"\n[[namespace]]\nname = \"sessions\"\n\
         listen = \"127.0.0.1:{port}\"\nupstream = \"redis://redis.test:{}\"\n",
        redis.port()
    );
    std::fs::write(image.path().join("etc/wal-sidecar/sidecar.toml"), config).unwrap();
    let variables = [
        (
            "WAL_SIDECAR_CONFIG",
            "/etc/wal-sidecar/sidecar.toml".to_owned(),
        ),
        ("WAL_SIDECAR_ADMIN_LISTEN", format!("127.0.0.1:{admin}")),
    ];
    let mut command = inside(&image, &["run"]);
    let mut process = Process::start("the image", command.envs(variables.clone()));
    until("it to be ready", READY_DEADLINE, || {
        assert!(process.ended().is_none(), "{}", process.lines().join("\n"));
        matches!(http::get(admin, "/readyz"), Ok((200, _))).then_some(())
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    assert!(
        status
            .lines()
            .any(|line| line == "Uid:\t65532\t65532\t65532\t65532"),
        "{status}"
    );
    assert_eq!(
        Client::connect(port).command(&["SET", "a", "1"]),
        b"+OK\r\n"
    );
    let output = inside(&image, &["journal", "tail"])
        .envs(variables.clone())
        .output()
        .unwrap();
    assert!(text(&output).contains("SET a 1"), "{}", text(&output));
    let output = inside(&image, &["kube", "drain", "--wait", "10s"])
        .envs(variables)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(process.stop().success());
}

#[test]
fn the_image_has_what_it_needs_and_no_more() {
    let image = image();
    let find = |arguments: &[&str]| {
        let output = Command::new("find")
            .arg(image.path())
            .args(arguments)
            .output()
            .unwrap();
        text(&output)
            .lines()
            .map(|line| line[image.path().to_string_lossy().len()..].to_owned())
            .collect::<Vec<_>>()
    };
    let programs = find(&["-path", "*bin/*", "-type", "f"]);
    assert_eq!(programs, ["/usr/local/bin/wal-sidecar"]);
    // What its user can write to: the journal's place, which a volume covers,
    // and /tmp.
    let own = find(&["-uid", "65532"]);
    assert_eq!(own, ["/var/lib/wal-sidecar"]);
    assert_eq!(find(&["-perm", "-o+w", "-not", "-type", "l"]), ["/tmp"]);
    assert_eq!(find(&["-perm", "/6000"]), Vec::<String>::new());
    assert!(find(&["-type", "f"]).len() < 25);
}

#[test]
fn the_dockerfile_copies_what_a_build_needs() {
    let text = dockerfile();
    let context = TempDir::new().unwrap();
    let ignored = std::fs::read_to_string(root().join(".dockerignore")).unwrap();
    let allowed: BTreeSet<&str> = ignored
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    for line in text
        .lines()
        .filter(|line| line.starts_with("COPY ") && !line.contains("--from"))
    {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let (target, sources) = words.split_last().unwrap();
        for source in sources {
            let first = source.split('/').next().unwrap();
            assert!(allowed.contains(first), ".dockerignore keeps {source} out");
            let to = match *target {
                "./" => context.path().join(source),
                target => context.path().join(target),
            };
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            let status = Command::new("cp")
                .arg("-r")
                .arg(root().join(source))
                .arg(to)
                .status()
                .unwrap();
            assert!(status.success(), "{source}");
        }
    }
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--locked",
            "--offline",
            "--no-deps",
            "--format-version",
            "1",
        ])
        .current_dir(context.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", self::text(&output));
    // Files that the sources take in when they are compiled.
    for path in [
        "src/ARCHITECTURE.md",
        "proto/wal_sidecar/v1/record.proto",
        "k8s/image/root",
    ] {
        assert!(context.path().join(path).exists(), "{path}");
    }
}

#[test]
fn the_dockerfile_says_what_the_manifests_rely_on() {
    let text = dockerfile();
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let value = |key: &str| {
        let line = manifest.lines().find(|line| line.starts_with(key)).unwrap();
        line.split('"').nth(1).unwrap().to_owned()
    };
    for line in [
        format!("ARG RUST_VERSION={}", value("rust-version")),
        format!("ARG VERSION={}", value("version")),
        "USER 65532:65532".to_owned(),
        "FROM scratch".to_owned(),
        "ENTRYPOINT [\"/usr/local/bin/wal-sidecar\"]".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    for label in ["version", "revision", "licenses", "title"] {
        assert!(
            text.contains(&format!("org.opencontainers.image.{label}=")),
            "{label}"
        );
    }
}
