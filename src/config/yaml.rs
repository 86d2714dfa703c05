//! YAML text to a tree that knows its lines; nothing in it is interpreted yet.

use std::{collections::HashMap, path::PathBuf, rc::Rc};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag as YamlTag};

use super::{ConfigError, Origin};

/// Deeper trees are refused, so that walking one can use the stack.
pub(crate) const MAX_DEPTH: usize = 64;

/// Where a text came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    File(PathBuf),
    Variable(String),
}

impl Place {
    pub(crate) fn line(&self, line: usize) -> Origin {
        match self {
            Self::File(path) => Origin::File { path: path.clone(), line },
            Self::Variable(variable) => Origin::Override { variable: variable.clone() },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// None, or one of YAML's own whose meaning the field decides anyway (`!!str`, `!!int`).
    Plain,
    Include,
    Other(String),
}

// No Debug: a node may hold a password.
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) tag: Tag,
    pub(crate) kind: Kind,
    /// Of a scalar: written without quotes, which matters to fixtures alone.
    #[cfg_attr(not(feature = "testing"), expect(dead_code))]
    pub(crate) plain: bool,
    depth: usize,
}

pub(crate) enum Kind {
    Null,
    Scalar(String),
    List(Vec<Rc<Node>>),
    Map(Vec<(Key, Rc<Node>)>),
}

pub(crate) struct Key {
    pub(crate) line: usize,
    /// `None` for a list or a map as a key.
    pub(crate) text: Option<String>,
    /// Written `<<` without quotes.
    pub(crate) merge: bool,
}

/// Reads one document.
pub(crate) fn parse(text: &str, place: &Place) -> Result<Rc<Node>, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder { place, open: Vec::new(), anchors: HashMap::new(), root: None };
    let mut documents = 0_usize;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| ConfigError::Syntax {
            at: place.line(error.marker().line()),
            message: error.info().to_owned(),
        })?;
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents > 1 {
                return Err(builder.unsupported(
                    span.start.line(),
                    "a second document begins here (`---`); keep one document to a file",
                ));
            }
        }
        builder.take(event, span)?;
    }
    match builder.root {
        Some(root) if !matches!((&root.kind, &root.tag), (Kind::Null, Tag::Plain)) => Ok(root),
        _ => Err(ConfigError::Empty { at: place.line(1) }),
    }
}

struct Open {
    line: usize,
    tag: Tag,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Rc<Node>>),
    Map(Vec<(Key, Rc<Node>)>, Option<Key>),
}

struct Builder<'a> {
    place: &'a Place,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), ConfigError> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let kind = match tag.as_deref() {
                    None if plain && is_null(&text) => Kind::Null,
                    Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "null" => Kind::Null,
                    _ => Kind::Scalar(text.into_owned()),
                };
                let merge = plain && matches!(&kind, Kind::Scalar(text) if text == "<<");
                let node = Node {
                    line,
                    tag: read_tag(tag.as_deref()),
                    kind,
                    plain,
                    depth: 1,
                };
                self.place_node(Rc::new(node), anchor, merge)
            }
            Event::SequenceStart(anchor, tag) => {
                let tag = read_tag(tag.as_deref());
                self.enter(Open {
                    line,
                    tag,
                    anchor,
                    kind: OpenKind::List(Vec::new()),
                })
            }
            Event::MappingStart(anchor, tag) => {
                let tag = read_tag(tag.as_deref());
                self.enter(Open {
                    line,
                    tag,
                    anchor,
                    kind: OpenKind::Map(Vec::new(), None),
                })
            }
            Event::SequenceEnd | Event::MappingEnd => self.leave(),
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => self.place_node(node, 0, false),
                None => Err(self.unsupported(
                    line,
                    "an alias (`*name`) leads to the very value that it stands in; write the value out",
                )),
            },
            _ => Ok(()),
        }
    }

    fn enter(&mut self, open: Open) -> Result<(), ConfigError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(self.too_deep(open.line));
        }
        self.open.push(open);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), ConfigError> {
        let Some(Open { line, tag, anchor, kind }) = self.open.pop() else {
            return Ok(());
        };
        // Counted through aliases: a chain of them is as deep as the same thing written out.
        let (kind, below) = match kind {
            OpenKind::List(items) => {
                let below = items.iter().map(|item| item.depth).max();
                (Kind::List(items), below)
            }
            OpenKind::Map(entries, _) => {
                let below = entries.iter().map(|(_, value)| value.depth).max();
                (Kind::Map(entries), below)
            }
        };
        let depth = below.unwrap_or(0) + 1;
        if depth > MAX_DEPTH {
            return Err(self.too_deep(line));
        }
        self.place_node(Rc::new(Node { line, tag, kind, plain: false, depth }), anchor, false)
    }

    fn place_node(
        &mut self,
        node: Rc<Node>,
        anchor: usize,
        merge: bool,
    ) -> Result<(), ConfigError> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(OpenKind::List(items)) => items.push(node),
            Some(OpenKind::Map(entries, key)) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let text = match &node.kind {
                        Kind::Scalar(text) => Some(text.clone()),
                        Kind::Null => Some("null".to_owned()),
                        Kind::List(_) | Kind::Map(_) => None,
                    };
                    *key = Some(Key { line: node.line, text, merge });
                }
            },
        }
        Ok(())
    }

    fn too_deep(&self, line: usize) -> ConfigError {
        ConfigError::TooLarge {
            at: self.place.line(line),
            what: format!("values are nested more than {MAX_DEPTH} deep"),
        }
    }

    fn unsupported(&self, line: usize, what: &str) -> ConfigError {
        ConfigError::Unsupported { at: self.place.line(line), what: what.to_owned() }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn read_tag(tag: Option<&YamlTag>) -> Tag {
    match tag {
        None => Tag::Plain,
        Some(tag) if tag.handle == "!" && tag.suffix == "include" => Tag::Include,
        Some(tag)
            if tag.is_yaml_core_schema()
                && matches!(
                    tag.suffix.as_str(),
                    "str" | "int" | "float" | "bool" | "null" | "map" | "seq"
                ) =>
        {
            Tag::Plain
        }
        Some(tag) if tag.is_yaml_core_schema() => Tag::Other(format!("!!{}", tag.suffix)),
        Some(tag) => Tag::Other(tag.to_string()),
    }
}
