//! YAML, without what a spec has no use for: anchors, tags, keys that are no text, a second document.

use saphyr_parser::{Event, Marker, Parser};

use super::node::{DEPTH_MAX, Entry, Fault, Node, Place, Value};

/// A list or a table that is still open.
struct Open {
    place: Place,
    holds: Holds,
}

enum Holds {
    List(Vec<Node>),
    Table {
        entries: Vec<Entry>,
        key: Option<(String, Place)>,
    },
}

pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let mut open: Vec<Open> = Vec::new();
    let mut root: Option<Node> = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let problem = format!("{}; is a bracket, brace or quote before it still open?", error.info());
            Fault::new(place(*error.marker()), problem)
        })?;
        let place = place(span.start);
        let done = match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => None,
            Event::DocumentStart(_) if root.is_some() => {
                return Err(Fault::new(place, "a second document begins here: a spec is one"));
            }
            Event::DocumentStart(_) => None,
            Event::Alias(_)
            | Event::Scalar(_, _, 1.., _)
            | Event::SequenceStart(1.., _)
            | Event::MappingStart(1.., _) => {
                return Err(Fault::new(
                    place,
                    "anchors and aliases are not read here: write the value out",
                ));
            }
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                return Err(Fault::new(place, "tags are not read here: write the value alone"));
            }
            Event::Scalar(text, ..) => Some(Node {
                place,
                value: Value::Scalar(text.into_owned()),
            }),
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if open.len() == DEPTH_MAX {
                    return Err(Fault::new(place, "this is nested too deeply for a spec"));
                }
                let holds = match event {
                    Event::SequenceStart(..) => Holds::List(Vec::new()),
                    _ => Holds::Table {
                        entries: Vec::new(),
                        key: None,
                    },
                };
                open.push(Open { place, holds });
                None
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(|closed| Node {
                place: closed.place,
                value: match closed.holds {
                    Holds::List(items) => Value::List(items),
                    Holds::Table { entries, .. } => Value::Table(entries),
                },
            }),
        };
        if let Some(node) = done {
            put(&mut open, &mut root, node)?;
        }
    }
    root.ok_or_else(|| Fault::new(Place { line: 1, column: 1 }, "the file is empty"))
}

/// A finished node goes where the innermost open one wants it.
fn put(open: &mut [Open], root: &mut Option<Node>, node: Node) -> Result<(), Fault> {
    let Some(parent) = open.last_mut() else {
        *root = Some(node);
        return Ok(());
    };
    match &mut parent.holds {
        Holds::List(items) => items.push(node),
        Holds::Table { entries, key } => match key.take() {
            Some((key, place)) => entries.push(Entry { key, place, node }),
            None => {
                let Value::Scalar(name) = node.value else {
                    return Err(Fault::new(node.place, "a key must be a word"));
                };
                if entries.iter().any(|entry| entry.key == name) {
                    return Err(Fault::new(node.place, format!("{name} is here a second time")));
                }
                *key = Some((name, node.place));
            }
        },
    }
    Ok(())
}

/// The parser counts lines from 1 and columns from 0.
fn place(marker: Marker) -> Place {
    Place {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}
