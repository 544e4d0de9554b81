use super::*;

/// What a line is: its verb, its class, how long its value is, and whether it
/// is quiet.
type Judged = (Verb, Class, Option<u32>, bool);

fn judged(line: &str) -> Result<Judged, String> {
    let verdict = judge(line.as_bytes()).map_err(|error| error.to_string())?;
    let specification = verdict.specification;
    let verb = specification.row().expect("a row").verb;
    Ok((verb, verdict.class, verdict.data, specification.is_quiet()))
}

#[track_caller]
fn check(line: &str, verb: Verb, class: Class) {
    assert_eq!(judged(line), Ok((verb, class, None, false)), "{line}");
}

#[track_caller]
fn check_quiet(line: &str, verb: Verb) {
    let expected = Ok((verb, Class::Mutation, None, true));
    assert_eq!(judged(line), expected, "{line}");
}

#[track_caller]
fn check_data(line: &str, verb: Verb, data: u32, quiet: bool) {
    let expected = Ok((verb, Class::Mutation, Some(data), quiet));
    assert_eq!(judged(line), expected, "{line}");
}

#[track_caller]
fn check_refused(line: &str, text: &str) {
    assert_eq!(judged(line), Err(text.to_owned()), "{line}");
}

use Class::{Control, Mutation, Read};

#[test]
fn gets_are_reads() {
    check("get a", Verb::Get, Read);
    check("get", Verb::Get, Read);
    check("gets a b noreply", Verb::Gets, Read);
    check("bget a", Verb::Get, Read);
    check("  get a", Verb::Get, Read);
    check("gat 10 a b", Verb::Gat, Mutation);
    check("gats -1 a", Verb::Gats, Mutation);
    check("gat x a", Verb::Gat, Read);
    check("gat 10", Verb::Gat, Read);
    check("gat", Verb::Gat, Read);
    let key = "k".repeat(KEY_BYTES_MAX);
    check(&format!("get a {key}"), Verb::Get, Read);
    check(&format!("get a {key}k"), Verb::LocalBadFormat, Control);
    check(&format!("gat 1 {key}"), Verb::Gat, Mutation);
    check(&format!("gat 1 a {key}k"), Verb::LocalBadFormat, Control);
}

#[test]
fn storage_commands_have_a_value() {
    check_data("set k 0 0 5", Verb::Set, 5, false);
    check_data("add k 0 0 0", Verb::Add, 0, false);
    check_data("replace k 4294967296 0 1", Verb::Replace, 1, false);
    check_data("append k 1 -1 1", Verb::Append, 1, false);
    check_data("prepend  k  0  0  1 ", Verb::Prepend, 1, false);
    check_data("cas k 0 0 1 99", Verb::Cas, 1, false);
    check_data("set k 0 0 5 noreply", Verb::Set, 5, true);
    check_data("set noreply 0 0 5", Verb::Set, 5, false);
    check_data("set k 0 0 5 NOREPLY", Verb::Set, 5, false);
    check_data("cas k 0 0 1 99 noreply", Verb::Cas, 1, true);
    check_data(
        "set k 0 0 2147483645",
        Verb::Set,
        i32::MAX as u32 - 2,
        false,
    );
    let key = "k".repeat(KEY_BYTES_MAX);
    check_data(&format!("set {key} 0 0 1"), Verb::Set, 1, false);
}

#[test]
fn storage_commands_whose_value_is_doubtful_are_refused() {
    for line in [
        "set k 0 0 +1",
        "set k 0 0 -0",
        "set k 0 0 1\r",
        "set k 0 0 \t1",
        "set k 0 0 000000000001",
        "set k 0 0 4294967297",
        "set k x 0 1",
        "set k 0 x 1",
        "set k -1 0 1",
        "cas k 0 0 1 x",
        "cas k 0 0 1 -1",
    ] {
        check_refused(line, BAD_FORMAT);
    }
    let key = "k".repeat(KEY_BYTES_MAX + 1);
    check_refused(&format!("set {key} 0 0 1"), BAD_FORMAT);
    check_refused("set k 0 0 1 noreply noreply", UNKNOWN);
    check_refused("cas k 0 0 1", UNKNOWN);
    check_refused("cas k 0 0 1 2 3 4", UNKNOWN);
}

#[test]
fn storage_commands_that_no_version_takes_are_reads() {
    check("set", Verb::Set, Read);
    check("set k", Verb::Set, Read);
    check("set k 0 0", Verb::Set, Read);
    check("set k 0 0 x", Verb::Set, Read);
    check("set k 0 0 -1", Verb::Set, Read);
    check("set k 0 0 2147483646", Verb::Set, Read);
    check("cas k 0 0 x 1", Verb::Cas, Read);
    check("ms", Verb::MetaSet, Read);
    check("ms k", Verb::MetaSet, Read);
    check("ms k x", Verb::MetaSet, Read);
    check("ms k S5", Verb::MetaSet, Read);
    check("ms k -1 q", Verb::MetaSet, Read);
}

#[test]
fn meta_sets_have_a_value() {
    check_data("ms k 5", Verb::MetaSet, 5, false);
    check_data("ms k 5 T0 F1", Verb::MetaSet, 5, false);
    check_data("ms k 0 q", Verb::MetaSet, 0, true);
    check_data("ms k 5 MA q", Verb::MetaSetConditional, 5, true);
    check_data("ms Zm9v 5 b", Verb::MetaSet, 5, false);
    for line in ["ms k 5 Tx", "ms k 5 k k", "ms k 5 b", "ms k 5 !"] {
        let expected = Ok((Verb::MetaSet, Read, Some(5), false));
        assert_eq!(judged(line), expected, "{line}");
    }
    check_refused("ms k +5", BAD_FORMAT);
    let key = "k".repeat(KEY_BYTES_MAX + 1);
    check_refused(&format!("ms {key} 5"), BAD_FORMAT);
    let flags = |count: usize| {
        let letters: Vec<_> = "cfhklqstuvIbCD".chars().collect();
        let words: Vec<_> = (0..count)
            .map(|index| letters[index % letters.len()].to_string())
            .collect();
        format!("ms k 5 {}", words.join(" "))
    };
    let most = meta::TOKENS_REFUSED - 4;
    assert!(judged(&flags(most)).is_ok());
    check_refused(&flags(most + 1), "CLIENT_ERROR options flags too long");
}

#[test]
fn other_commands_are_one_line() {
    check("delete k", Verb::Delete, Mutation);
    check("delete k 0", Verb::Delete, Mutation);
    check("delete", Verb::Delete, Read);
    check("incr k 1", Verb::Increment, Mutation);
    check("decr k 1", Verb::Decrement, Mutation);
    check("incr k x", Verb::Increment, Read);
    check("incr k -1", Verb::Increment, Read);
    check("incr k", Verb::Increment, Read);
    check("touch k 1", Verb::Touch, Mutation);
    check("touch k x", Verb::Touch, Read);
    check("touch k", Verb::Touch, Read);
    check("flush_all", Verb::FlushAll, Mutation);
    check("flush_all 10", Verb::FlushAll, Mutation);
    check("flush_all -1", Verb::FlushAll, Mutation);
    check("flush_all x", Verb::FlushAll, Read);
    check("version", Verb::Version, Read);
    check("version 1 2 noreply", Verb::Version, Read);
    check("verbosity 1", Verb::Verbosity, Read);
    check("quit", Verb::Quit, Control);
    check("shutdown graceful", Verb::Shutdown, Control);
    check("watch fetchers", Verb::Watch, Control);
    let key = "k".repeat(KEY_BYTES_MAX + 1);
    check(&format!("delete {key}"), Verb::Delete, Read);
    check(&format!("incr {key} 1"), Verb::Increment, Read);
    check(&format!("touch {key} 1"), Verb::Touch, Read);
}

#[test]
fn noreply_is_heeded_where_memcached_heeds_it() {
    check_quiet("delete k noreply", Verb::Delete);
    check_quiet("delete k 0 noreply", Verb::Delete);
    check_quiet("incr k 1 noreply", Verb::Increment);
    check_quiet("decr k 1  noreply ", Verb::Decrement);
    check_quiet("touch k 1 noreply", Verb::Touch);
    check_quiet("flush_all noreply", Verb::FlushAll);
    check_quiet("flush_all 10 noreply", Verb::FlushAll);
    check("delete noreply", Verb::Delete, Mutation);
    check("incr k 1 x noreply", Verb::Increment, Mutation);
    check("get k noreply", Verb::Get, Read);
    check("stats noreply", Verb::Statistics, Read);
    check("noreply", Verb::LocalUnknown, Control);
    let quiet = |line: &str| judged(line).expect("taken").3;
    assert!(quiet("set k 0 0 noreply"));
    assert!(quiet("verbosity 1 noreply"));
    assert!(quiet("verbosity noreply"));
    assert!(quiet("cache_memlimit 64 noreply"));
    assert!(quiet("slabs automove 1 noreply"));
    assert!(!quiet("slabs reassign 1 2 noreply"));
    assert!(!quiet("lru_crawler enable noreply"));
    // Where it is not heeded it is still not forwarded, as it could be one day.
    let verdict = judge(b"incr k 1 x noreply").expect("taken");
    assert!(verdict.specification.is_rewritten());
}

#[test]
fn statistics_of_keys_and_dumps_are_told_apart() {
    for (line, verb, class) in [
        ("stats", Verb::Statistics, Read),
        ("stats items", Verb::Statistics, Read),
        ("stats reset", Verb::Statistics, Read),
        ("stats cachedump 1 0", Verb::StatisticsOfKeys, Control),
        ("stats detail dump", Verb::StatisticsOfKeys, Control),
        ("stats detail on", Verb::StatisticsOfKeys, Control),
        ("stats c", Verb::StatisticsOfKeys, Control),
        ("lru_crawler metadump all", Verb::LruCrawlerDump, Control),
        ("lru_crawler mgdump all", Verb::LruCrawlerDump, Control),
        ("lru_crawler m", Verb::LruCrawlerDump, Control),
        ("lru_crawler crawl all", Verb::LruCrawler, Read),
        ("lru_crawler", Verb::LruCrawler, Read),
    ] {
        check(line, verb, class);
    }
}

#[test]
fn what_no_version_knows_is_not_forwarded() {
    for line in [
        "", " ", "\r", "x", "GET a", "gett a", "m", "mx k", "mnn", "set\tk",
    ] {
        check(line, Verb::LocalUnknown, Control);
    }
    let many = "x ".repeat(30);
    check(&format!("delete {many}"), Verb::LocalUnknown, Control);
    check(&format!("get {many}"), Verb::Get, Read);
    check(&format!("version {many}"), Verb::Version, Read);
    check_refused("GET / HTTP/1.1", SILENT);
    check_refused("POST /x HTTP/1.0", SILENT);
}

#[test]
fn spaces_before_a_command_are_not_forwarded() {
    let rewritten = |line: &[u8]| judge(line).expect("taken").specification.is_rewritten();
    assert!(rewritten(b" get a"));
    assert!(rewritten(b"  set k 0 0 1"));
    assert!(!rewritten(b"get a"));
    assert!(!rewritten(b"\tget a"));
}
