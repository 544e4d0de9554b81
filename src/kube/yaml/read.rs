//! Reading: text to trees.

mod layout;

use super::scalar::Style;
use super::{Entry, Item, Mapping, Node, Scalar, Sequence};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use std::borrow::Cow;
use std::collections::HashMap;

/// What a plain text cannot begin with, though the parser lets some pass within
/// brackets.
const INDICATORS: &[char] = &[
    '|', '>', '@', '`', '%', '&', '*', '!', '{', '}', '[', ']', ',', '#', '\'', '"',
];
/// Levels of nesting. Kubernetes' own objects have some twenty.
const DEPTH_MAX: usize = 100;
/// Values of one document, aliases counted by what they stand for.
const NODES_MAX: usize = 500_000;

/// Why a text is no manifest; lines count from 1.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {message}")]
pub struct SyntaxError {
    /// The line.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

/// One document of a text.
#[derive(Debug, Clone)]
pub struct Document {
    /// The line that separates it from the one before (`---`), where there is one.
    pub separator: Option<String>,
    /// It, as it stands in the text.
    pub source: String,
    /// What it holds; none where there are only comments.
    pub root: Option<Node>,
    pub(super) end: Vec<String>,
    /// Columns a level where it is JSON.
    pub(super) json: Option<usize>,
}

/// Reads a text of any number of documents.
pub fn read(text: &str) -> Result<Vec<Document>, SyntaxError> {
    let mut documents = Vec::new();
    for (separator, first_line, source) in split(text) {
        let (root, end) = Reader::new(&source)
            .document()
            .map_err(|error| SyntaxError {
                line: error.line + first_line,
                ..error
            })?;
        let json = root.as_ref().filter(|root| root.is_flow());
        let json = json.map(|_| json_indent(&source));
        documents.push(Document {
            json,
            separator,
            source,
            root,
            end,
        });
    }
    Ok(documents)
}

/// Cuts a text where lines begin with `---`, which cannot stand there inside
/// a document: separator, lines before the document, and its text.
fn split(text: &str) -> Vec<(Option<String>, usize, String)> {
    let mut parts: Vec<(Option<String>, usize, String)> = Vec::new();
    let (mut separator, mut first_line, mut source) = (None, 0, String::new());
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let rest = line.strip_prefix("---");
        let Some(rest) =
            rest.filter(|rest| rest.trim_end().is_empty() || rest.starts_with([' ', '\t']))
        else {
            source.push_str(line);
            continue;
        };
        if separator.is_some() || !source.is_empty() {
            parts.push((separator, first_line, std::mem::take(&mut source)));
        }
        let is_comment = rest.trim().is_empty() || rest.trim().starts_with('#');
        match is_comment {
            true => {
                separator = Some(line.trim_end().to_owned());
                first_line = number + 1;
            }
            // A document may begin on the line of its separator.
            false => {
                separator = Some("---".to_owned());
                first_line = number;
                source.push_str(&rest[1..]);
            }
        }
    }
    if separator.is_some() || !source.is_empty() {
        parts.push((separator, first_line, source));
    }
    parts
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    characters: Vec<char>,
    /// Where what was read last ends.
    position: usize,
    line: usize,
    /// A block scalar ends at the start of a line, so that what follows it is
    /// no comment of its own.
    after_block: bool,
    /// The comment behind what was read last, on its line.
    after: Option<String>,
    /// Lines of comment, and blank ones, before what comes next.
    before: Vec<String>,
    peeked: Option<(Event<'t>, Span)>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Reader<'t> {
        Reader {
            parser: Parser::new_from_str(text),
            characters: text.chars().collect(),
            position: 0,
            line: 1,
            after_block: true,
            after: None,
            before: Vec::new(),
            peeked: None,
            anchors: HashMap::new(),
            nodes: 0,
        }
    }

    fn document(mut self) -> Result<(Option<Node>, Vec<String>), SyntaxError> {
        let mut root = None;
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentEnd, _) => {}
                (Event::DocumentStart(_), _) if root.is_some() => {
                    return Err(self.error("another document begins without a line `---`"));
                }
                (Event::DocumentStart(_), _) => {
                    let before = std::mem::take(&mut self.before);
                    let event = self.next()?;
                    self.before = [before, std::mem::take(&mut self.before)].concat();
                    root = Some(self.node(event, 0, 0)?);
                }
                (Event::StreamEnd, _) => break,
                _ => return Err(self.error("this does not belong here")),
            }
        }
        Ok((root, self.before))
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError {
            line: self.line,
            message: message.into(),
        }
    }

    fn peek(&mut self) -> Result<&(Event<'t>, Span), SyntaxError> {
        if self.peeked.is_none() {
            let event = self
                .parser
                .next_event()
                .unwrap_or_else(|| Ok((Event::StreamEnd, Span::default())));
            let (event, span) = event.map_err(|error| SyntaxError {
                line: error.marker().line(),
                message: error.info().to_owned(),
            })?;
            self.gap(span.start.index());
            self.peeked = Some((event, span));
        }
        Ok(self.peeked.as_ref().expect("it was just filled"))
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), SyntaxError> {
        self.peek()?;
        let (event, span) = self.peeked.take().expect("it was just filled");
        // The parser counts the comment behind a bracket as a part of it.
        let end = match event {
            Event::SequenceEnd | Event::MappingEnd => span.end.index().min(span.start.index() + 1),
            Event::Scalar(_, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted, ..) => {
                self.end_of_scalar(span)
            }
            _ => span.end.index(),
        };
        self.position = self.position.max(end);
        self.line = span.start.line();
        if let Event::Scalar(value, ScalarStyle::Literal | ScalarStyle::Folded, ..) = &event {
            self.blank_lines_behind(value, span);
        }
        self.after_block = matches!(
            event,
            Event::Scalar(_, ScalarStyle::Literal | ScalarStyle::Folded, ..)
        ) || (self.after_block
            && matches!(
                event,
                Event::StreamStart | Event::SequenceEnd | Event::MappingEnd
            ));
        Ok((event, span))
    }

    fn node(
        &mut self,
        (event, span): (Event<'t>, Span),
        parent_column: usize,
        depth: usize,
    ) -> Result<Node, SyntaxError> {
        self.nodes += 1;
        if depth > DEPTH_MAX || self.nodes > NODES_MAX {
            return Err(self.error("this is nested too deeply, or too large"));
        }
        let (node, anchor) = match event {
            Event::Scalar(value, style, anchor, tag) => {
                (self.scalar(value, style, tag, span)?, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag)?;
                (self.sequence(span, parent_column, depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag)?;
                (self.mapping(span, depth)?, anchor)
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| self.error("an alias inside what it stands for"))?;
                self.nodes += count(&node);
                (node, 0)
            }
            _ => return Err(self.error("this does not belong here")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// Whether a list or map begins with a bracket. An anchor may stand before it.
    fn is_flow(&self, start: Span) -> bool {
        let start = &self.characters[start.start.index()..start.end.index()];
        start.iter().any(|one| matches!(one, '[' | '{'))
    }

    fn refuse_tag(&self, tag: Option<Cow<'_, Tag>>) -> Result<(), SyntaxError> {
        match tag {
            Some(tag) if !tag.is_yaml_core_schema() => {
                Err(self.error(format!("the tag {tag} means nothing here")))
            }
            _ => Ok(()),
        }
    }

    fn scalar(
        &self,
        value: Cow<'t, str>,
        style: ScalarStyle,
        tag: Option<Cow<'_, Tag>>,
        span: Span,
    ) -> Result<Node, SyntaxError> {
        let is_text = tag
            .as_ref()
            .is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
        self.refuse_tag(tag)?;
        if is_text {
            return Ok(Node::text(value));
        }
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
            ScalarStyle::Literal | ScalarStyle::Folded => {
                let source = self
                    .block_source(span)
                    .filter(|_| !value.is_empty() && !value.ends_with("\n\n"));
                let mut scalar = Scalar::text(value.into_owned());
                if source.is_some() {
                    (scalar.style, scalar.source) = (Style::Block, source);
                }
                return Ok(Node::Scalar(scalar));
            }
        };
        let source: String = self.characters[span.start.index()..self.end_of_scalar(span)]
            .iter()
            .collect();
        // An anchor or a tag before it is part of its place.
        let begins_right = match style {
            Style::Plain => source == value && !source.starts_with(INDICATORS),
            _ => source.starts_with(['\'', '"']),
        };
        let source = (begins_right && !source.contains('\n')).then_some(source);
        let value = value.into_owned();
        Ok(Node::Scalar(match source {
            // Folded from several lines, or behind an anchor.
            None if style == Style::Plain => match Scalar::plain(value.clone()) {
                scalar if scalar.as_str().is_none() => scalar,
                _ => Scalar::text(value),
            },
            source => Scalar {
                value,
                style,
                source,
            },
        }))
    }

    fn sequence(
        &mut self,
        start: Span,
        parent_column: usize,
        depth: usize,
    ) -> Result<Node, SyntaxError> {
        let flow = self.is_flow(start);
        let mut sequence = Sequence {
            items: Vec::new(),
            flow,
            indented: false,
        };
        let mut before = std::mem::take(&mut self.before);
        loop {
            before.append(&mut self.before);
            self.peek()?;
            before.append(&mut self.before);
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                break;
            }
            if !flow && sequence.items.is_empty() {
                sequence.indented = self.dash_column(span) >= parent_column + 2;
            }
            self.after = None;
            let column = span.start.col();
            let mut item = Item::new(self.node((event, span), column, depth + 1)?);
            item.before = std::mem::take(&mut before);
            self.peek()?;
            if item.node.is_one_line() {
                item.after = self.after.take();
            }
            sequence.items.push(item);
        }
        // Comments behind the last item belong to what comes next.
        self.before.splice(0..0, before);
        Ok(Node::Sequence(sequence))
    }

    fn mapping(&mut self, start: Span, depth: usize) -> Result<Node, SyntaxError> {
        let mut mapping = Mapping {
            entries: Vec::new(),
            flow: self.is_flow(start),
        };
        let mut before = std::mem::take(&mut self.before);
        loop {
            self.peek()?;
            before.append(&mut self.before);
            let (event, key_span) = self.next()?;
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(value, style, _, tag) => self.scalar(value, style, tag, key_span)?,
                _ => return Err(self.error("a key has to be a text")),
            };
            let Node::Scalar(key) = key else {
                return Err(self.error("a key has to be a text"));
            };
            self.after = None;
            let event = self.next()?;
            let after = self.after.take();
            let node = self.node(event, key_span.start.col(), depth + 1)?;
            self.peek()?;
            if key.is("<<") && key.style == Style::Plain {
                self.merge(&mut mapping, &node)?;
                continue;
            }
            if mapping.entries.iter().any(|entry| entry.key.is(&key.value)) {
                return Err(SyntaxError {
                    line: key_span.start.line(),
                    message: format!("the key {} is there twice", key.value),
                });
            }
            let after = match node.is_one_line() {
                true => after.or_else(|| self.after.take()),
                false => after,
            };
            let before = std::mem::take(&mut before);
            mapping.entries.push(Entry {
                before,
                key,
                node,
                after,
            });
        }
        self.before.splice(0..0, before);
        Ok(Node::Mapping(mapping))
    }

    /// `<<: *other` brings in the other's keys that are not there.
    fn merge(&self, mapping: &mut Mapping, from: &Node) -> Result<(), SyntaxError> {
        let sources: Vec<&Node> = match from {
            Node::Mapping(_) => vec![from],
            Node::Sequence(_) => from.items().collect(),
            Node::Scalar(_) => return Err(self.error("<< takes a map, or a list of maps")),
        };
        for entry in sources.into_iter().flat_map(Node::entries) {
            if !mapping
                .entries
                .iter()
                .any(|known| known.key.is(&entry.key.value))
            {
                mapping.entries.push(entry.clone());
            }
        }
        Ok(())
    }
}

impl Node {
    /// Whether a comment can stand behind it.
    fn is_one_line(&self) -> bool {
        matches!(self, Node::Scalar(_)) || self.is_flow()
    }

    /// Whether it is a list or map in brackets.
    fn is_flow(&self) -> bool {
        match self {
            Node::Scalar(_) => false,
            Node::Sequence(sequence) => sequence.flow,
            Node::Mapping(mapping) => mapping.flow,
        }
    }
}

/// Columns that a level of a JSON document is indented by.
fn json_indent(source: &str) -> usize {
    let second = source.trim_start().lines().nth(1).unwrap_or("  ");
    second.len() - second.trim_start_matches(' ').len()
}

fn count(node: &Node) -> usize {
    match node {
        Node::Scalar(_) => 1,
        Node::Sequence(sequence) => {
            1 + sequence
                .items
                .iter()
                .map(|item| count(&item.node))
                .sum::<usize>()
        }
        Node::Mapping(mapping) => {
            1 + mapping
                .entries
                .iter()
                .map(|entry| count(&entry.node))
                .sum::<usize>()
        }
    }
}
