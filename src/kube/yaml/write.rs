//! Writing: trees to text.

use super::read::Document;
use super::scalar::Style;
use super::{Node, Scalar};
use serde_json::Value;

impl Document {
    /// Its text after its tree was changed, without its separator.
    pub fn write(&self) -> String {
        let mut out = String::new();
        match (&self.root, self.json) {
            (Some(root), Some(indent)) => {
                root.json(indent, 0, &mut out);
                out.push('\n');
            }
            (Some(root), None) => root.write_root(&mut out),
            (None, _) => {}
        }
        comments(&self.end, 0, &mut out);
        out
    }
}

impl Node {
    /// The text of a document that holds this.
    pub fn write(&self) -> String {
        let mut out = String::new();
        self.write_root(&mut out);
        out
    }

    fn write_root(&self, out: &mut String) {
        match self {
            Node::Mapping(mapping) if !mapping.entries.is_empty() => self.block(0, out),
            Node::Sequence(sequence) if !sequence.items.is_empty() => self.block(0, out),
            _ => {
                self.inline_value(out);
                out.push('\n');
            }
        }
    }

    /// Whether it is written on the line of its key or dash.
    fn is_inline(&self) -> bool {
        match self {
            Node::Scalar(scalar) => scalar.style != Style::Block,
            Node::Sequence(sequence) => sequence.flow || sequence.items.is_empty(),
            Node::Mapping(mapping) => mapping.flow || mapping.entries.is_empty(),
        }
    }

    /// A list or map on lines of its own, `column` columns from the left.
    fn block(&self, column: usize, out: &mut String) {
        match self {
            Node::Scalar(_) => {}
            Node::Sequence(sequence) => {
                for item in &sequence.items {
                    comments(&item.before, column, out);
                    indent(column, out);
                    out.push('-');
                    item.node.behind_dash(column, item.after.as_deref(), out);
                }
            }
            Node::Mapping(_) => self.block_entries(column, false, out),
        }
    }

    /// The entries of a map; the first one's line has begun where `begun`.
    fn block_entries(&self, column: usize, begun: bool, out: &mut String) {
        for (index, entry) in self.entries().iter().enumerate() {
            if index > 0 || !begun {
                comments(&entry.before, column, out);
                indent(column, out);
            }
            out.push_str(&entry.key.key_line());
            out.push(':');
            entry.node.behind_key(column, entry.after.as_deref(), out);
        }
    }

    fn behind_dash(&self, column: usize, after: Option<&str>, out: &mut String) {
        match self {
            Node::Mapping(_) if !self.is_inline() => {
                out.push(' ');
                self.block_entries(column + 2, true, out);
            }
            Node::Sequence(_) if !self.is_inline() => {
                out.push('\n');
                self.block(column + 2, out);
            }
            _ => self.value(column, after, out),
        }
    }

    fn behind_key(&self, column: usize, after: Option<&str>, out: &mut String) {
        if matches!(self, Node::Scalar(_)) || self.is_inline() {
            return self.value(column, after, out);
        }
        end_line(after, out);
        let indented = matches!(self, Node::Sequence(sequence) if !sequence.indented);
        self.block(if indented { column } else { column + 2 }, out);
    }

    /// What stands on the line of its key or dash, and the lines of a text
    /// below.
    fn value(&self, column: usize, after: Option<&str>, out: &mut String) {
        match self {
            Node::Scalar(scalar) if scalar.style == Style::Block => {
                scalar.block(column + 2, after, out);
            }
            _ => {
                let start = out.len();
                out.push(' ');
                self.inline(out);
                if out.len() == start + 1 {
                    out.truncate(start);
                }
                end_line(after, out);
            }
        }
    }

    fn inline(&self, out: &mut String) {
        match self {
            Node::Scalar(scalar) => out.push_str(&scalar.line()),
            Node::Sequence(sequence) => {
                out.push('[');
                for (index, item) in sequence.items.iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    item.node.inline_value(out);
                }
                out.push(']');
            }
            Node::Mapping(mapping) => {
                out.push('{');
                for (index, entry) in mapping.entries.iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    out.push_str(&entry.key.flow_line());
                    out.push_str(": ");
                    entry.node.inline_value(out);
                }
                out.push('}');
            }
        }
    }

    /// As JSON, on as many lines as it has values.
    fn json(&self, step: usize, column: usize, out: &mut String) {
        let line = |column: usize, out: &mut String| {
            out.push('\n');
            indent(column, out);
        };
        let inner = column + step;
        match self {
            Node::Sequence(sequence) if !sequence.items.is_empty() => {
                for (index, item) in sequence.items.iter().enumerate() {
                    out.push(if index == 0 { '[' } else { ',' });
                    line(inner, out);
                    item.node.json(step, inner, out);
                }
                line(column, out);
                out.push(']');
            }
            Node::Mapping(mapping) if !mapping.entries.is_empty() => {
                for (index, entry) in mapping.entries.iter().enumerate() {
                    out.push(if index == 0 { '{' } else { ',' });
                    line(inner, out);
                    out.push_str(&Value::from(entry.key.value()).to_string());
                    out.push_str(": ");
                    entry.node.json(step, inner, out);
                }
                line(column, out);
                out.push('}');
            }
            _ => out.push_str(&self.to_json().to_string()),
        }
    }

    /// Within brackets nothing may be left out.
    fn inline_value(&self, out: &mut String) {
        match self {
            Node::Scalar(scalar) if scalar.line().is_empty() => out.push_str("null"),
            Node::Scalar(scalar) => out.push_str(&scalar.flow_line()),
            _ => self.inline(out),
        }
    }
}

impl Scalar {
    fn block(&self, column: usize, after: Option<&str>, out: &mut String) {
        if let Some(source) = &self.source {
            let (header, lines) = source.split_once('\n').unwrap_or((source, ""));
            out.push(' ');
            out.push_str(header);
            end_line(after, out);
            return text_lines(lines, column, out);
        }
        let ends = self.value.len() - self.value.trim_end_matches('\n').len();
        out.push_str(match ends {
            0 => " |-",
            1 => " |",
            _ => " |+",
        });
        end_line(after, out);
        let text = self.value.strip_suffix('\n').unwrap_or(&self.value);
        text_lines(text, column, out);
    }
}

fn text_lines(text: &str, column: usize, out: &mut String) {
    for line in text.split('\n') {
        if !line.is_empty() {
            indent(column, out);
            out.push_str(line);
        }
        out.push('\n');
    }
}

fn end_line(after: Option<&str>, out: &mut String) {
    if let Some(after) = after {
        out.push(' ');
        out.push_str(after);
    }
    out.push('\n');
}

fn comments(lines: &[String], column: usize, out: &mut String) {
    for line in lines {
        if !line.is_empty() {
            indent(column, out);
            out.push_str(line);
        }
        out.push('\n');
    }
}

fn indent(column: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', column));
}

#[cfg(test)]
mod tests;
