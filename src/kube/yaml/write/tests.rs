use super::super::{Node, read};
use serde_json::json;

/// Reads and writes a document, which must not change what it means.
fn rewritten(text: &str) -> String {
    let documents = read(text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
    let [document] = documents.as_slice() else {
        panic!("one document in\n{text}");
    };
    let written = document.write();
    let again = read(&written).unwrap_or_else(|error| panic!("{error} in\n{written}"));
    let json = |node: &Option<Node>| node.as_ref().map(Node::to_json);
    assert_eq!(json(&again[0].root), json(&document.root), "{written}");
    written
}

#[test]
fn what_has_the_usual_layout_is_written_as_it_was() {
    for text in [
        "a: 1\n",
        "# first\n\n# second\na: 1 # one\n# before b\nb: # its map\n  # before c\n  c: 'it''s'\n\n  d: \"x\\ty\"\n# end\n",
        "list:\n- a # x\n# before b\n- name: b\n  args: [\"x y\", 2]\n  empty: {}\n",
        "list:\n  - a\n  # before b\n  - name: b\n    more:\n      - 1\n      - 2\n",
        "text: |\n  one\n    # no comment\n\n  two\n# after\nother: |-\n  x\n  y\nlast: |+\n  x\n\nend: 1\n",
        "a:\n- text: |\n    one\n\n    two\n\n\n  # of b\n  b: >-\n    x\n\n- c\n\nd: 1\n",
        "mode: 0644\nflag: on\nnull: ~\nnothing:\nquoted: \"on\"\nempty: ''\n",
        "- a\n- b: 1\n  c: 2\n-\n  - nested\n- |\n  text\n- d\n",
        "a:\n  b:\n    c: 1 # deep\n  # of b's level\n  d: 2\ne: 3\n",
        "a: {b: c, d: [1, 2]} # flow\nb: []\n",
        "a: >-\n  one\n\n  two\n    three\nb: >\n  x\n",
        "{\n    \"a\": 1,\n    \"b\": [\n        \"on\",\n        {}\n    ]\n}\n",
        "url: http://example.com/#fragment\n",
        "umlaut: \u{fc}ber # gr\u{fc}n\nb: \u{fc}\n",
    ] {
        assert_eq!(rewritten(text), text);
    }
}

#[test]
fn what_has_another_layout_is_put_into_the_usual_one() {
    for (text, expected) in [
        (
            "a:\n    b: 1\n    c:\n        - 2\n",
            "a:\n  b: 1\n  c:\n    - 2\n",
        ),
        ("a: &x {b: 1}\nc: *x\n", "a: {b: 1}\nc: {b: 1}\n"),
        (
            "a: &x\n  b: 1\nc:\n  <<: *x\n  d: 2\n",
            "a:\n  b: 1\nc:\n  b: 1\n  d: 2\n",
        ),
        ("a: \"one\n  two\"\n", "a: \"one two\"\n"),
        ("a: !!str 12\n", "a: \"12\"\n"),
        ("a: 1", "a: 1\n"),
        ("? \"b\\\"\" # it\"s\n: 1\n", "\"b\\\"\": 1 # it\"s\n"),
        ("? 'it''s' # b's\n", "'it''s': # b's\n"),
        ("a: 1\r\nb:\r\n- 2\r\n", "a: 1\nb:\n- 2\n"),
    ] {
        assert_eq!(rewritten(text), expected, "{text}");
    }
}

#[test]
fn errors_have_their_line() {
    for (text, expected) in [
        ("a: 1\na: 2\n", "line 2: the key a is there twice"),
        (
            "a: 1\n---\nb: 1\nb: 2\n",
            "line 4: the key b is there twice",
        ),
        ("a: !thing 1\n", "line 1: the tag !thing means nothing here"),
        ("[a, b]: 1\n", "line 1: a key has to be a text"),
    ] {
        assert_eq!(read(text).expect_err(text).to_string(), expected, "{text}");
    }
    for text in [
        "a: [1\n",
        "a:\n\tb: 1\n",
        "a: \"x\n",
        "a: *x\n",
        "a: b: c\n",
    ] {
        assert!(read(text).is_err(), "{text:?} is {:?}", read(text));
    }
    let deep = "[".repeat(200) + &"]".repeat(200);
    assert!(read(&deep).unwrap_err().message.contains("too deeply"));
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let one = format!("*a{}", level - 1);
        laughs += &format!("a{level}: &a{level} [{}]\n", [one.as_str(); 10].join(", "));
    }
    assert!(read(&laughs).unwrap_err().message.contains("too large"));
}

#[test]
fn documents_are_cut_at_their_separators() {
    let text = "# head\n---\na: 1\n--- # second\nb: |\n  ---x\n---\n--- {c: 1}\n...\n";
    let documents = read(text).unwrap();
    let found: Vec<_> = documents
        .iter()
        .map(|one| {
            (
                one.separator.as_deref(),
                one.root.as_ref().map(Node::to_json),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (None, None),
            (Some("---"), Some(json!({ "a": 1 }))),
            (Some("--- # second"), Some(json!({ "b": "---x\n" }))),
            (Some("---"), None),
            (Some("---"), Some(json!({ "c": 1 }))),
        ]
    );
}

#[test]
fn json_goes_through_unchanged() {
    let value = json!({ "a": [1, -2.5, null, true, "on", "0644", "x\ny", ""], "b": {}, "c": [] });
    assert_eq!(Node::from_json(&value).to_json(), value);
    assert_eq!(
        read(&Node::from_json(&value).write()).unwrap()[0]
            .root
            .as_ref()
            .unwrap()
            .to_json(),
        value
    );
    let pretty = serde_json::to_string_pretty(&value).unwrap();
    assert_eq!(
        read(&pretty).unwrap()[0].root.as_ref().unwrap().to_json(),
        value
    );
}

mod any_text {
    use super::{Node, read};
    use proptest::prelude::*;

    /// Pieces that texts of YAML are made of.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("a"),
            Just("b: "),
            Just("c:"),
            Just("- "),
            Just("-"),
            Just("\n"),
            Just("\n"),
            Just("\n"),
            Just("\n  "),
            Just("\n  "),
            Just("\n    "),
            Just(" "),
            Just("# x"),
            Just(" # y"),
            Just("|"),
            Just("|-"),
            Just("|+"),
            Just(">"),
            Just("'"),
            Just("\""),
            Just("{"),
            Just("}"),
            Just("["),
            Just("]"),
            Just(", "),
            Just("&x "),
            Just("*x"),
            Just("<<: "),
            Just("---\n"),
            Just("..."),
            Just("? "),
            Just("!!str "),
            Just("\t"),
            Just("0644"),
            Just("~"),
            Just("\u{fc}"),
            Just("\r\n"),
            Just(": "),
            Just("d: e\n"),
            Just("- f\n"),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn is_refused_or_means_the_same_when_it_is_written_again(text in pieces()) {
            let Ok(documents) = read(&text) else {
                return Ok(());
            };
            // Only maps and lists have something to change in them.
            let is_written = |root: &Node| !matches!(root, Node::Scalar(_));
            for document in documents {
                if !document.root.as_ref().is_some_and(is_written) {
                    continue;
                }
                let written = document.write();
                let again = read(&written);
                prop_assert!(again.is_ok(), "{:?} from {:?}: {:?}", written, text, again);
                let again = again.unwrap();
                let json = |root: &Option<Node>| root.as_ref().map(Node::to_json);
                let root = again.first().and_then(|document| json(&document.root));
                let expected = json(&document.root);
                // Nothing, and a null that is not written, are the same.
                prop_assert_eq!(root.unwrap_or_default(), expected.unwrap_or_default(), "{:?} from {:?}", written, text);
                prop_assert!(again.len() < 2);
                // Written in the usual layout, it stays as it is. Comments and
                // blank lines where nobody puts them may move.
                if let Some(document) = again.first().filter(|_| !text.contains('#')) {
                    let lines = |text: &str| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
                    prop_assert_eq!(lines(&document.write()), lines(&written), "from {:?}", text);
                }
            }
        }
    }
}
