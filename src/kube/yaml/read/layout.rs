//! What a text looks like beside what it means: comments, blank lines, the
//! columns of dashes, the lines of texts under `|`.

use super::{DEPTH_MAX, Reader};
use saphyr_parser::Span;

impl Reader<'_> {
    /// Picks up the comments and blank lines from here to `end`.
    pub(super) fn gap(&mut self, end: usize) {
        let end = end.min(self.characters.len());
        if self.position >= end {
            return;
        }
        let gap: String = self.characters[self.position..end].iter().collect();
        let mut lines: Vec<&str> = gap.split('\n').collect();
        // What stands before the next thing on its own line.
        let last = lines.pop().unwrap_or_default();
        let mut lines = lines
            .into_iter()
            .chain(last.trim().starts_with('#').then_some(last));
        if !self.after_block {
            let first = lines.next().unwrap_or(last);
            let comment = first
                .find('#')
                .map(|start| first[start..].trim_end().to_owned());
            if comment.is_some() {
                self.after = comment;
            }
        }
        for line in lines {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                self.before.push(line.to_owned());
            }
        }
        self.position = end;
    }

    /// Where a scalar ends. The parser counts the comment behind a key in quotes as a
    /// part of it where the key stands behind a question mark.
    pub(super) fn end_of_scalar(&self, span: Span) -> usize {
        let (start, end) = (span.start.index(), span.end.index());
        let mut characters = self.characters[start..end].iter().enumerate();
        let Some((_, quote @ ('\'' | '"'))) = characters.next() else {
            return end;
        };
        while let Some((at, one)) = characters.next() {
            let is_twice = || self.characters.get(start + at + 1) == Some(&'\'');
            match one {
                '\\' if *quote == '"' => drop(characters.next()),
                '\'' if one == quote && is_twice() => drop(characters.next()),
                _ if one == quote => return start + at + 1,
                _ => {}
            }
        }
        end
    }

    /// Blank lines behind a text under `|` are counted as a part of it, which
    /// they are only where its header says so (`|+`).
    pub(super) fn blank_lines_behind(&mut self, value: &str, span: Span) {
        if value.ends_with("\n\n") {
            return;
        }
        let body = &self.characters[span.start.index()..span.end.index()];
        let tail = body.iter().rev().take_while(|one| one.is_whitespace());
        let ends = tail.filter(|one| **one == '\n').count();
        let blank = std::iter::repeat_n(String::new(), ends.saturating_sub(1));
        self.before.extend(blank);
    }

    /// The header and the lines of a text under `|` or `>`; none where the
    /// header says more than how it ends, as it is simpler to write it anew.
    pub(super) fn block_source(&self, span: Span) -> Option<String> {
        let (start, end) = (span.start.index(), span.end.index());
        let head: String = self.characters[..start]
            .iter()
            .rev()
            .take(DEPTH_MAX * 4)
            .collect();
        let head: String = head.chars().rev().collect();
        let (head, indent) = head.rsplit_once('\n')?;
        let line = head.rsplit('\n').next().unwrap_or(head);
        let line = line
            .split_once(" #")
            .map_or(line, |(line, _)| line)
            .trim_end();
        let header = line.rsplit(' ').next().unwrap_or(line);
        let is_plain = matches!(header, "|" | "|-" | ">" | ">-");
        if !is_plain || !indent.bytes().all(|one| one == b' ') {
            return None;
        }
        let mut source = header.to_owned();
        let body: String = self.characters[start..end].iter().collect();
        let mut lines: Vec<&str> = body.split('\n').collect();
        // What follows the last line, up to where the next thing begins.
        while let Some(line) = lines.pop_if(|line| line.trim().is_empty()) {
            // Spaces beyond those it is indented by are a part of the text.
            (line.len() <= indent.len()).then_some(())?;
        }
        for (index, line) in lines.into_iter().enumerate() {
            let line = match index {
                0 => line,
                _ if line.trim().is_empty() && line.len() <= indent.len() => "",
                _ => line.strip_prefix(indent)?,
            };
            source.push('\n');
            source.push_str(line.trim_end_matches('\r'));
        }
        Some(source)
    }

    /// Where the dash before an item stands: to its left, or on a line above.
    pub(super) fn dash_column(&self, item: Span) -> usize {
        let column = item.start.col();
        let line = item.start.index() - column;
        let before = &self.characters[line..item.start.index()];
        let dash = before.iter().rposition(|one| *one == '-');
        dash.unwrap_or(column.saturating_sub(2))
    }
}
