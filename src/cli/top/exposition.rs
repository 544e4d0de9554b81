//! Prometheus's text format (prometheus.io, "Exposition formats"), read.
//!
//! ```text
//! # comments: HELP, TYPE
//! name 1.5
//! name{label="value",other="a \"quoted\" \\ and a line\nbreak"} +Inf [milliseconds]
//! ```
//!
//! Of a histogram `name` come `name_bucket{le="bound"}` (values up to the bound,
//! so they grow with it), `name_sum` and `name_count`.

use std::collections::HashMap;

/// A line that is not in the format, counted from 1.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is not in Prometheus's text format")]
pub(super) struct Malformed(usize);

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: f64,
}

/// All values of one answer, by the name of the metric.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Samples(HashMap<String, Vec<Sample>>);

impl Sample {
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(label, _)| label == name);
        found.map(|(_, value)| value.as_str())
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        let has = |(name, value): &(&str, &str)| self.label(name) == Some(value);
        labels.iter().all(has)
    }
}

impl Samples {
    pub(super) fn parse(text: &str) -> Result<Samples, Malformed> {
        let mut samples = Samples::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, sample) = sample(line).ok_or(Malformed(index + 1))?;
            match samples.0.get_mut(name) {
                Some(of_name) => of_name.push(sample),
                None => drop(samples.0.insert(name.to_owned(), vec![sample])),
            }
        }
        Ok(samples)
    }

    /// Those of a metric that have these labels, and perhaps others.
    pub(super) fn all<'a>(
        &'a self,
        name: &str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        let of_name = self.0.get(name).map_or(&[][..], Vec::as_slice);
        of_name.iter().filter(|sample| sample.has(labels))
    }

    /// The one with exactly these labels.
    pub(super) fn same(&self, name: &str, labels: &[(String, String)]) -> Option<f64> {
        let of_name = self.0.get(name)?;
        let found = of_name.iter().find(|sample| sample.labels == labels);
        found.map(|sample| sample.value)
    }

    /// Their sum; none where there is none.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.all(name, labels)
            .map(|sample| sample.value)
            .reduce(|sum, value| sum + value)
    }

    /// The values of a label of a metric, sorted.
    pub(super) fn label_values(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        label: &str,
    ) -> Vec<String> {
        let found = self.all(name, labels).filter_map(|one| one.label(label));
        let mut values: Vec<String> = found.map(str::to_owned).collect();
        values.sort();
        values.dedup();
        values
    }
}

fn sample(line: &str) -> Option<(&str, Sample)> {
    let name_end = line
        .find(|one: char| !(one.is_ascii_alphanumeric() || one == '_' || one == ':'))
        .filter(|end| *end > 0)?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.trim_start().strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    // A time may follow, which is not looked at.
    let mut words = rest.split_ascii_whitespace();
    let value = words.next()?.parse().ok()?;
    let is_end = words.next().is_none_or(|time| time.parse::<i64>().is_ok());
    (is_end && words.next().is_none()).then_some((name, Sample { labels, value }))
}

/// What is between the braces, and the rest behind them.
fn labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = quoted(after.trim_start().strip_prefix('"')?)?;
        labels.push((name.trim().to_owned(), value));
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return None,
        }
    }
}

/// A value up to its closing quote, escapes resolved, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, one)) = characters.next() {
        match one {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                // A backslash or a quote; anything else stands for itself.
                other => value.push(other),
            },
            _ => value.push(one),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, labels: &[(&str, &str)], value: f64) {
        let samples = Samples::parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let all: Vec<&Sample> = samples.all("name", &[]).collect();
        let [sample] = all[..] else {
            panic!("{line}: {all:?}");
        };
        let found: Vec<(&str, &str)> = sample
            .labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(found, labels, "{line}");
        assert!(
            sample.value == value || sample.value.is_nan() && value.is_nan(),
            "{line}: {}",
            sample.value
        );
    }

    #[test]
    fn lines_are_read() {
        check("name 1", &[], 1.0);
        check("name 1.5e3 1700000000000", &[], 1500.0);
        check("name{} -2", &[], -2.0);
        check("name{a=\"b\"} +Inf", &[("a", "b")], f64::INFINITY);
        check("name{a=\"\"} NaN", &[("a", "")], f64::NAN);
        check(
            "name { a = \"b\" , c=\"d\", } 3",
            &[("a", "b"), ("c", "d")],
            3.0,
        );
        check(
            r#"name{a="quote \" slash \\ break \n brace } comma , é",b="2"} 0"#,
            &[
                ("a", "quote \" slash \\ break \n brace } comma , é"),
                ("b", "2"),
            ],
            0.0,
        );
        check("# HELP name x\n# TYPE name gauge\n\nname 4\r\n", &[], 4.0);
    }

    #[test]
    fn what_is_no_line_is_told() {
        for line in [
            "name",
            "{a=\"b\"} 1",
            "name{a=\"b\" 1",
            "name{a=\"b} 1",
            "name{a=\"b\\",
            "name{a} 1",
            "name{a=b} 1",
            "name{a=\"b\"c=\"d\"} 1",
            "name one",
            "name 1 now",
            "name 1 2 3",
            "<html>",
        ] {
            let text = format!("# comment\nother 1\n{line}\n");
            assert_eq!(Samples::parse(&text), Err(Malformed(3)), "{line}");
        }
    }

    #[test]
    fn values_are_found_by_labels() {
        let text = "a{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"1\"} 4\na{x=\"2\",y=\"1\"} 5\n";
        let samples = Samples::parse(text).unwrap();
        assert_eq!(samples.sum("a", &[]), Some(12.0));
        assert_eq!(samples.sum("a", &[("x", "1")]), Some(7.0));
        assert_eq!(samples.sum("a", &[("x", "1"), ("y", "2")]), Some(3.0));
        assert_eq!(samples.sum("a", &[("z", "1")]), None);
        assert_eq!(samples.sum("b", &[]), None);
        assert_eq!(samples.label_values("a", &[("x", "1")], "y"), ["1", "2"]);
        let labels = |x: &str, y: &str| {
            [("x", x), ("y", y)].map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        assert_eq!(samples.same("a", &labels("2", "1")), Some(5.0));
        assert_eq!(samples.same("a", &labels("2", "2")), None);
    }
}
