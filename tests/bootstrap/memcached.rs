//! memcached regions.

use super::regions::{options, start, text, until_known, until_led, verify};
use super::support::{Memcached, Sidecar, SidecarOptions};

const KEYS: usize = 3_000;

/// Keys of all lengths and bytes, some with flags, some with a time to live.
fn fill(sidecar: &Sidecar, marker: &str) {
    let mut all = Vec::new();
    for key in 0..KEYS {
        let time = if key % 3 == 0 { 100_000 } else { 0 };
        let value = format!("{marker}{key}");
        let set = format!(
            "set key:{key} {} {time} {}\r\n{value}\r\n",
            key % 7,
            value.len()
        );
        all.extend_from_slice(set.as_bytes());
        if key % 500 == 499 {
            let said = text(&sidecar.memcache().lines(&all));
            assert_eq!(said.matches("STORED").count(), 500, "{said}");
            all.clear();
        }
    }
    // A key of any bytes.
    let said = text(&sidecar.memcache().lines(b"ms YSBiAP8= 2 b F5\r\nsp\r\n"));
    assert!(said.starts_with("HD"), "{said}");
}

#[test]
fn a_region_of_memcached_is_filled_compared_and_repaired() {
    let eu_servers = [Memcached::start(), Memcached::start()];
    // Into the servers, but into no journal that anybody reads.
    fill(&Sidecar::with(SidecarOptions::memcached(&eu_servers)), "v");
    let us_servers = [Memcached::start()];
    let [eu, us] = options(
        SidecarOptions::memcached(&eu_servers),
        SidecarOptions::memcached(&us_servers),
    );
    let (eu, us) = (Sidecar::with(eu), Sidecar::with(us));
    until_led(&eu);
    let copying = start(&eu, &["replicate", "--bootstrap"]);
    until_known(&eu);
    // Newer than what is copied, wherever it is then.
    let said = us.memcache().lines(b"set key:1 0 0 3\r\nnew\r\n");
    assert!(said.starts_with(b"STORED"));
    let copied = copying.wait_with_output().expect("it ends");
    let out = text(&copied.stdout);
    assert!(copied.status.success(), "{out}{}", text(&copied.stderr));
    assert!(
        out.contains(&format!("done: {} keys told", KEYS + 1)),
        "{out}"
    );
    let us_url = us_servers[0].url();
    let with_us = ["--with", &us_url];
    assert_eq!(verify(&eu, &with_us).assert_equal(), KEYS as u64 + 1);
    let eu_urls: Vec<String> = eu_servers.iter().map(Memcached::url).collect();
    let with_eu = ["--with", &eu_urls[0], "--with", &eu_urls[1]];
    assert_eq!(verify(&us, &with_eu).assert_equal(), KEYS as u64 + 1);
    let mut direct = us_servers[0].client();
    let planted = "set key:2 2 0 1\r\nx\r\nset key:7 1 0 2\r\nv7\r\ndelete key:10\r\n\
                   touch key:9 5000\r\nset strange 0 0 1\r\ns\r\n";
    let said = text(&direct.lines(planted.as_bytes()));
    assert!(
        said.starts_with("STORED\r\nSTORED\r\nDELETED\r\nTOUCHED\r\nSTORED"),
        "{said}"
    );
    let found = verify(&eu, &[&with_us[..], &["--settle", "0.2"]].concat());
    let differences = found.of("difference");
    let keys: Vec<&str> = differences.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["key:10", "key:2", "key:7", "key:9", "strange"]);
    let said: Vec<&str> = differences.iter().map(|(_, said)| said.as_str()).collect();
    assert_eq!(
        said[..3],
        [
            "missing_there",
            "value: string \"v2\" here, \"x\" there",
            "value: flags 0 here, 1 there"
        ]
    );
    assert!(
        said[3].starts_with("expiry: expires at") && said[4] == "missing_here",
        "{said:?}"
    );
    assert_eq!(found.code, Some(1));
    let repaired = verify(
        &eu,
        &[&with_us[..], &["--repair", "--settle", "1"]].concat(),
    );
    assert_eq!(
        repaired.code,
        Some(0),
        "{:#?} {}",
        repaired.lines,
        repaired.summary
    );
    assert_eq!(verify(&us, &with_eu).assert_equal(), KEYS as u64 + 1);
}
