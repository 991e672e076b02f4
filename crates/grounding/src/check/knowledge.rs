//! What a sheet knows, in a form that claims can be held against.

mod facts;

use crate::sheet::{Fact, FactSheet, Quotation, Unit, Value, figure};

use super::derive;
use super::hedge::round;
use super::number::Noun;
use super::quotation::normal;
use super::token::is_one_of;

/// One figure that the sheet gives, or that follows from figures that it gives.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// The fact's title, or what was derived.
    pub(super) title: String,
    pub(super) topic: Topic,
    pub(super) stat: Stat,
    pub(super) about: About,
    pub(super) unit: Unit,
    pub(super) value: f64,
    /// Digits after the point that the sheet shows.
    pub(super) decimals: usize,
    pub(super) kind: Origin,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// How many items there are.
    Total,
    /// How many items a class has, and which share of all.
    Frequency,
    Interval,
    Lead,
    /// The classifier's, as a score.
    Confidence,
    /// How many items are classified confidently, and which share.
    Confident,
    Uncertain,
    Length,
    Vocabulary,
    Ratio,
    /// How many classes there are.
    Classes,
    /// A fact of another kind, by its index.
    Other(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stat {
    None,
    Mean,
    Median,
    Percentile,
}

/// What a figure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// The whole corpus.
    Whole,
    Class(usize),
    /// All but a class.
    Others(usize),
    /// Two classes, compared or together.
    Pair(usize, usize),
    /// One quotation, by its index.
    Quotation(usize),
}

/// How a figure comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Given,
    /// The lower end of an interval.
    Low,
    /// The upper end.
    High,
    /// What is left of a whole.
    Complement,
    /// What is neither in the one group nor in the other.
    Middle,
    Difference,
    /// Of a class' mean from that of all.
    FromAll,
    /// How many times as much.
    Ratio,
    /// Of two classes together.
    Sum,
    /// An interval's width, or half of it.
    Width,
    /// Between the nearest ends of two intervals.
    Gap,
}

/// A class by the names that a text may give it.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) name: String,
    /// Each a sequence of stems.
    pub(super) forms: Vec<Vec<String>>,
}

pub(super) struct Knowledge<'a> {
    pub(super) sheet: &'a FactSheet,
    pub(super) classes: Vec<Class>,
    pub(super) known: Vec<Known>,
    /// The most frequent class, where the sheet tells.
    pub(super) leader: Option<usize>,
    /// Whether the lead is certain, where the sheet tells.
    pub(super) certain: Option<bool>,
    pub(super) longest: Option<usize>,
    /// Keywords of the facts of other kinds, with the index of the fact.
    pub(super) others: Vec<(usize, Vec<String>)>,
    /// The quotations, in the form that quotations are compared in.
    pub(super) quotations: Vec<String>,
    /// The words of the sheet's lists, with the fact's index.
    pub(super) listed: Vec<(String, usize)>,
    /// Stems of what the corpus is made of.
    items: Vec<String>,
    /// Figures that are part of a name: the 95 of "95% interval".
    pub(super) names: Vec<(f64, Named)>,
}

/// What a figure in a fact's name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Level,
    Percentile,
}

impl<'a> Knowledge<'a> {
    pub(super) fn new(sheet: &'a FactSheet) -> Self {
        let mut classes: Vec<Class> = Vec::new();
        let facts = sheet.facts.iter().filter_map(|fact| fact.subject.as_ref());
        let quotations = sheet
            .quotations
            .iter()
            .filter_map(|quotation| quotation.subject.as_ref());
        for subject in facts.chain(quotations) {
            if !classes.iter().any(|class| class.name == *subject) {
                classes.push(Class::new(subject));
            }
        }
        let items = words(&sheet.items).map(|word| stem(&word)).collect();
        let mut knowledge = Self {
            sheet,
            classes,
            known: Vec::new(),
            leader: None,
            certain: None,
            longest: None,
            others: Vec::new(),
            quotations: sheet
                .quotations
                .iter()
                .map(|quotation| normal(&quotation.text))
                .collect(),
            listed: Vec::new(),
            items,
            names: Vec::new(),
        };
        for (index, fact) in sheet.facts.iter().enumerate() {
            knowledge.learn(index, fact);
        }
        for (index, quotation) in sheet.quotations.iter().enumerate() {
            knowledge.known.push(confidence(index, quotation));
        }
        derive::derive(&mut knowledge);
        knowledge
    }

    pub(super) fn class(&self, name: &str) -> Option<usize> {
        self.classes
            .iter()
            .position(|class| class.name.eq_ignore_ascii_case(name))
    }

    pub(super) fn is_item(&self, word: &str) -> bool {
        self.items.contains(&stem(word))
    }

    /// Whether the word stands for what the corpus is made of.
    pub(super) fn counts(&self, word: &str) -> bool {
        self.is_item(word) || is_one_of(&stem(word), COUNTED)
    }

    pub(super) fn noun(&self, word: &str) -> Noun {
        let stem = stem(word);
        let named = || {
            self.classes
                .iter()
                .any(|class| class.forms.iter().flatten().any(|own| *own == stem))
                || self.others.iter().any(|(_, keywords)| keywords.contains(&stem))
        };
        if word.is_empty() {
            Noun::Unknown
        } else if self.items.contains(&stem) {
            Noun::Item
        } else if is_one_of(&stem, COUNTED) {
            Noun::Counted
        } else if named() {
            Noun::Known
        } else {
            Noun::Unknown
        }
    }

    /// The figure of a topic that the sheet gives.
    pub(super) fn given(&self, topic: Topic, stat: Stat, about: About, unit: Unit) -> Option<&Known> {
        self.known.iter().find(|known| {
            known.kind == Origin::Given
                && known.topic == topic
                && known.stat == stat
                && known.about == about
                && known.unit == unit
        })
    }

    fn learn(&mut self, index: usize, fact: &Fact) {
        let title = fact.title(&self.sheet.items);
        let about = match &fact.subject {
            Some(subject) => self.class(subject).map_or(About::Whole, About::Class),
            None => About::Whole,
        };
        let (topic, stat) = self.classify(index, fact);
        let figures = matches!(fact.value, Value::Number { .. } | Value::Range { .. });
        if let (Topic::Other(index), true) = (topic, figures) {
            let keywords = words(&fact.name).map(|word| stem(&word));
            let keywords: Vec<_> = keywords
                .filter(|word| !is_small(word) && !self.items.contains(word))
                .collect();
            self.others.push((index, keywords));
        }
        self.learn_names(&fact.name);
        let known = |value: f64, unit: Unit, decimals: usize, kind: Origin| Known {
            title: title.clone(),
            topic,
            stat,
            about,
            unit,
            value,
            decimals,
            kind,
        };
        match &fact.value {
            Value::Number { value, unit, decimals } => self.known.push(known(*value, *unit, *decimals, Origin::Given)),
            Value::Range {
                low,
                high,
                unit,
                decimals,
            } => {
                self.known.push(known(*low, *unit, *decimals, Origin::Low));
                self.known.push(known(*high, *unit, *decimals, Origin::High));
            }
            Value::Text(text) => self.learn_text(&fact.name, text),
            Value::Words(words) => {
                let listed = words.iter().map(|word| (normal(word).to_lowercase(), index));
                self.listed.extend(listed);
            }
        }
    }
}

impl Known {
    /// As the sheet shows it, with the unit.
    pub(super) fn shown(&self) -> String {
        let number = figure(round(self.value, self.decimals), self.decimals);
        match self.unit {
            Unit::Percent => number + "%",
            Unit::PercentagePoints => number + " percentage points",
            Unit::Words => number + " words",
            Unit::None | Unit::Items => number,
        }
    }
}

fn confidence(index: usize, quotation: &Quotation) -> Known {
    Known {
        title: "confidence of a quotation".to_owned(),
        topic: Topic::Confidence,
        stat: Stat::None,
        about: About::Quotation(index),
        unit: Unit::None,
        value: quotation.confidence,
        decimals: 2,
        kind: Origin::Given,
    }
}

impl Class {
    fn new(name: &str) -> Self {
        let own: Vec<String> = words(name).map(|word| stem(&word)).collect();
        let mut forms = vec![own.clone()];
        if let [single] = own.as_slice() {
            let synonyms: &[&str] = match single.as_str() {
                "positive" => &[
                    "favorable",
                    "favourable",
                    "approving",
                    "admiring",
                    "appreciative",
                    "admirer",
                    "praise",
                ],
                "negative" => &[
                    "unfavorable",
                    "unfavourable",
                    "disapproving",
                    "hostile",
                    "detractor",
                    "critical",
                    "complaint",
                ],
                _ => &[],
            };
            forms.extend(synonyms.iter().map(|synonym| vec![stem(synonym)]));
        }
        forms.retain(|form| !form.is_empty());
        Self {
            name: name.to_owned(),
            forms,
        }
    }
}

/// What the items of a corpus are also called.
const COUNTED: &str =
    "text document entry item piece opinion verdict reviewer comment case reading judgement record writer member";

/// Words without meaning of their own.
pub(super) fn is_small(word: &str) -> bool {
    const SMALL: &str = "of the a an in for per and to with by on at is";
    is_one_of(word, SMALL)
}

/// The words of a name, in small letters.
pub(super) fn words(name: &str) -> impl Iterator<Item = String> + '_ {
    name.split(|c: char| !c.is_alphanumeric() && c != '.')
        .map(|word| word.trim_matches('.'))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// A word without the endings of plural and adverb; number words are digits.
pub(super) fn stem(word: &str) -> String {
    const NUMBERS: [&str; 6] = ["zero", "one", "two", "three", "four", "five"];
    if let Some(number) = NUMBERS.iter().position(|number| *number == word) {
        return number.to_string();
    }
    let word = word.strip_suffix("'s").unwrap_or(word);
    if let Some(stem) = word.strip_suffix("ies")
        && stem.len() > 2
    {
        return format!("{stem}y");
    }
    let word = word.strip_suffix("ly").filter(|stem| stem.len() > 3).unwrap_or(word);
    let plural = word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") && !word.ends_with("us");
    if plural {
        word[..word.len() - 1].to_owned()
    } else {
        word.to_owned()
    }
}
