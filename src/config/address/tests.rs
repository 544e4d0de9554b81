use super::super::position::Position;
use super::*;

fn node(text: &str) -> Node {
    Node {
        at: Position::Line(1),
        value: Value::String(text.to_owned()),
    }
}

#[test]
fn listen_addresses() {
    for (text, expected) in [
        ("127.0.0.1:6380", Ok("127.0.0.1:6380")),
        ("[::1]:6380", Ok("[::1]:6380")),
        ("localhost:6380", Ok("127.0.0.1:6380")),
        ("127.0.0.1:0", Ok("127.0.0.1:0")),
        ("unix:/run/a.sock", Ok("unix:/run/a.sock")),
        ("unix:///run/a.sock", Ok("unix:/run/a.sock")),
        ("unix:a.sock", Err("absolute path")),
        (":6380", Err("did you mean \"127.0.0.1:6380\"")),
        ("6380", Err("did you mean \"127.0.0.1:6380\"")),
        ("redis:6380", Err("not a name")),
        ("127.0.0.1:99999", Err("expected an address")),
        ("127.0.0.1", Err("expected an address")),
    ] {
        match (listen(&node(text)), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.to_string(), expected),
            (Err(found), Err(part)) => assert!(found.contains(part), "{text}: {found}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    }
}

#[test]
fn clashes() {
    for (a, b, expected) in [
        ("127.0.0.1:1", "127.0.0.1:1", true),
        ("0.0.0.0:1", "127.0.0.1:1", true),
        ("127.0.0.2:1", "127.0.0.1:1", false),
        ("127.0.0.1:0", "127.0.0.1:0", false),
        ("unix:/a", "unix:/a", true),
        ("unix:/a", "unix:/b", false),
    ] {
        let (a, b) = (listen(&node(a)).unwrap(), listen(&node(b)).unwrap());
        assert_eq!(a.clashes(&b), expected, "{a} {b}");
    }
}

#[test]
fn upstreams() {
    for (text, shown, user, password) in [
        (
            "redis://127.0.0.1:6379",
            "redis://127.0.0.1:6379",
            None,
            None,
        ),
        ("redis://cache", "redis://cache:6379", None, None),
        ("redis://cache/", "redis://cache:6379", None, None),
        ("redis://[::1]:7000/2", "redis://[::1]:7000/2", None, None),
        ("rediss://[::1]:7000/2", "rediss://[::1]:7000/2", None, None),
        (
            "rediss://:s%40cret@h",
            "rediss://h:6379",
            None,
            Some("s@cret"),
        ),
        (
            "memcacheds://h?weight=2",
            "memcacheds://h:11211?weight=2",
            None,
            None,
        ),
        ("redis://:s%40cret@h:1", "redis://h:1", None, Some("s@cret")),
        (
            "redis://app:a@b@h:1/3",
            "redis://h:1/3",
            Some("app"),
            Some("a@b"),
        ),
        (
            "redis+unix:///r.sock?db=4",
            "redis+unix:///r.sock?db=4",
            None,
            None,
        ),
        ("memcached://cache", "memcached://cache:11211", None, None),
        (
            "memcached://app:s%40cret@h:1?weight=2&name=cache-1",
            "memcached://h:1?weight=2&name=cache-1",
            Some("app"),
            Some("s@cret"),
        ),
        (
            "memcached+unix:///m.sock",
            "memcached+unix:///m.sock",
            None,
            None,
        ),
    ] {
        let found = upstream(&node(text)).unwrap();
        assert_eq!(found.to_string(), shown);
        let is_tls = text.starts_with("rediss://") || text.starts_with("memcacheds://");
        assert_eq!(found.tls, is_tls);
        assert_eq!(found.user.as_ref().map(Secret::expose), user);
        assert_eq!(found.password.as_ref().map(Secret::expose), password);
        assert!(!format!("{found:?}").contains("cret"));
    }
}

#[test]
fn wrong_upstreams_never_show_the_password() {
    for (text, part) in [
        ("127.0.0.1:6379", "\"memcached://\" is missing"),
        ("http://:hush@h:1", "scheme \"http\""),
        ("memcached://:hush@h:1/2", "no numbered databases"),
        ("memcached+unix:///m.sock?db=1", "no numbered databases"),
        ("memcached://:hush@h:1?weight=0", "a weight from 1 to 1000"),
        ("memcached://:hush@h:1?wait=1", "found \"?wait=1\""),
        ("rediss+unix:///r.sock", "scheme \"rediss+unix\""),
        ("memcacheds://:hush@h:1/2", "no numbered databases"),
        ("redis://:hush@h:x", "found \"h:x\""),
        ("redis://:hush@h:0", "found \"h:0\""),
        ("redis://:hush@h:1/x", "number of a database"),
        ("redis://:hush@", "expected host:port"),
        ("redis://:hush%@h:1", "hex digits"),
        ("redis+unix://a.sock", "absolute path"),
        ("redis+unix:///a?database=1", "?db=n"),
    ] {
        let error = upstream(&node(text)).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
        assert!(!error.contains("hush"), "{error}");
    }
}

#[test]
fn a_listener_that_is_its_own_upstream_is_seen() {
    for (address, url, expected) in [
        ("127.0.0.1:6380", "redis://127.0.0.1:6380", true),
        ("0.0.0.0:6380", "redis://localhost:6380", true),
        ("0.0.0.0:6380", "redis://127.0.0.1:6380", true),
        ("0.0.0.0:6380", "redis://10.0.0.1:6380", false),
        ("127.0.0.1:6380", "redis://127.0.0.1:6379", false),
        ("unix:/a", "redis+unix:///a", true),
    ] {
        let upstream = upstream(&node(url)).unwrap();
        let listen = listen(&node(address)).unwrap();
        assert_eq!(
            listen.is_reached_by(&upstream.address),
            expected,
            "{address} {url}"
        );
    }
}
