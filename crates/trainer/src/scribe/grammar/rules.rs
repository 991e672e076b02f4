//! A small generative grammar: rules with alternatives, read from text.

use std::collections::HashMap;

use anyhow::{Context as _, bail, ensure};
use rand::{Rng, seq::IndexedRandom as _};

/// Rules may nest this deep.
const DEPTH_MAX: usize = 16;

/// Values and conditions of one text. A condition is a name with an empty value.
pub(super) type Slots = HashMap<String, String>;

/// All rules by name.
pub(super) struct Rules(HashMap<String, Vec<Alternative>>);

struct Alternative {
    conditions: Vec<String>,
    pieces: Vec<Piece>,
}

enum Piece {
    Text(String),
    Rule(String),
    Slot(String),
    Choice(Vec<String>),
}

impl Rules {
    /// Reads the rules; see `critique.txt` for the notation.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut rules: HashMap<String, Vec<Alternative>> = HashMap::new();
        let mut name = None;
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(alternative) = line.strip_prefix("  ") {
                let name: &String = name.as_ref().context("the first line is no rule's name")?;
                let alternative = Alternative::parse(alternative).with_context(|| format!("line {}", index + 1))?;
                rules.entry(name.clone()).or_default().push(alternative);
            } else {
                name = Some(
                    line.strip_suffix(':')
                        .with_context(|| format!("line {}: no colon", index + 1))?
                        .to_owned(),
                );
            }
        }
        let rules = Self(rules);
        for alternative in rules.0.values().flatten() {
            for piece in &alternative.pieces {
                if let Piece::Rule(name) = piece {
                    ensure!(rules.0.contains_key(name), "there is no rule {name}");
                }
            }
        }
        Ok(rules)
    }

    /// One text of the rule.
    pub(super) fn expand(&self, rule: &str, slots: &Slots, rng: &mut impl Rng) -> anyhow::Result<String> {
        let mut text = String::new();
        self.append(rule, slots, rng, 0, &mut text)?;
        Ok(text)
    }

    fn append(
        &self,
        rule: &str,
        slots: &Slots,
        rng: &mut impl Rng,
        depth: usize,
        text: &mut String,
    ) -> anyhow::Result<()> {
        ensure!(depth < DEPTH_MAX, "rule {rule} nests too deep");
        let alternatives = self.0.get(rule).with_context(|| format!("there is no rule {rule}"))?;
        let open: Vec<_> = alternatives
            .iter()
            .filter(|alternative| alternative.is_open(slots))
            .collect();
        let Some(alternative) = open.choose(rng) else {
            bail!("no alternative of {rule} is open");
        };
        for piece in &alternative.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Rule(name) => self.append(name, slots, rng, depth + 1, text)?,
                Piece::Slot(name) => text.push_str(&slots[name]),
                Piece::Choice(choices) => text.push_str(choices.choose(rng).map_or("", String::as_str)),
            }
        }
        Ok(())
    }
}

impl Alternative {
    fn parse(line: &str) -> anyhow::Result<Self> {
        let (conditions, mut rest) = match line.strip_prefix('[') {
            Some(inner) => inner.split_once("] ").context("a condition does not end")?,
            None => ("", line),
        };
        let mut pieces = Vec::new();
        while let Some(start) = rest.find(['<', '{', '(']) {
            let (text, from) = rest.split_at(start);
            pieces.push(Piece::Text(text.replace("\\n", "\n")));
            let end = match from.as_bytes()[0] {
                b'<' => '>',
                b'{' => '}',
                _ => ')',
            };
            let (inner, after) = from[1..]
                .split_once(end)
                .with_context(|| format!("a {end} is missing"))?;
            pieces.push(match end {
                '>' => Piece::Rule(inner.to_owned()),
                '}' => Piece::Slot(inner.to_owned()),
                // Without alternatives these are parentheses of the text, which may hold slots.
                _ if !inner.contains('|') => {
                    pieces.push(Piece::Text("(".to_owned()));
                    rest = &from[1..];
                    continue;
                }
                _ => Piece::Choice(inner.split('|').map(str::to_owned).collect()),
            });
            rest = after;
        }
        pieces.push(Piece::Text(rest.replace("\\n", "\n")));
        Ok(Self {
            conditions: conditions.split_whitespace().map(str::to_owned).collect(),
            pieces,
        })
    }

    fn is_open(&self, slots: &Slots) -> bool {
        let known = |name: &String| slots.contains_key(name);
        self.conditions.iter().all(known)
            && self.pieces.iter().all(|piece| match piece {
                Piece::Slot(name) => known(name),
                _ => true,
            })
    }
}
