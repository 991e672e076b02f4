//! The verdict on quotations, and on words that are called distinctive.

use std::ops::Range;

use crate::sheet::Value;

use super::Verdict;
use super::align::{Distances, align, marks};
use super::clause::Reading;
use super::knowledge::{About, Knowledge, Topic};
use super::labels::Label;
use super::token::{Kind, Token, is_one_of};

/// Most characters of a quotation that a reason repeats.
const REPEATED_CHARACTERS_MAX: usize = 60;

/// Whom the sentence has say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaker {
    Class(About),
    Uncertain,
}

/// Every quotation and listed word of the sentence, with its verdict.
pub(super) fn judge(reading: &Reading<'_>, knowledge: &Knowledge<'_>) -> Vec<(Range<usize>, Verdict)> {
    let mut said: Vec<Range<usize>> = Vec::new();
    for (at, token) in reading.tokens.iter().enumerate() {
        if token.kind == Kind::Quote {
            said.push(at..at + 1);
        }
    }
    let lists = lists(reading.tokens, knowledge);
    for start in &lists {
        said.extend(list(reading.tokens, *start).into_iter().map(|at| at..at + 1));
    }
    said.extend(runs(reading, knowledge).into_iter().map(|at| at..at + 1));
    // A second list needs no "words such as": "... such as great and best, the negative side by bad and worst".
    if let Some(first) = lists.first() {
        let rest = reading.tokens.iter().enumerate().skip(*first);
        let listed = rest.filter(|(_, token)| token.kind == Kind::Word && !subjects(token.text, knowledge).is_empty());
        said.extend(listed.map(|(at, _)| at..at + 1));
    }
    said.sort_by_key(|range| range.start);
    said.dedup();
    let speakers = speakers(reading, &said);
    said.into_iter()
        .zip(speakers)
        .map(|(range, speaker)| {
            let token = &reading.tokens[range.start];
            let text = if token.kind == Kind::Quote {
                token.quoted()
            } else {
                token.text
            };
            (range, verdict(text, speaker, token.kind == Kind::Quote, knowledge))
        })
        .collect()
}

/// Where lists of words start: after "words such as".
fn lists(tokens: &[Token<'_>], knowledge: &Knowledge<'_>) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut words = false;
    let mut distinctive = false;
    for (at, token) in tokens.iter().enumerate() {
        let is_words = token.among("words word terms term adjectives expressions vocabulary");
        distinctive |= token.among("distinctive characteristic telling typical apart favour favor");
        words |= is_words;
        if !words {
            continue;
        }
        let next = tokens.get(at + 1);
        let start = if token.is("such") && next.is_some_and(|next| next.is("as")) {
            at + 2
        } else if token.among("like including namely")
            || distinctive && token.among("are include includes : were")
            || is_words && next.is_some_and(|next| !subjects(&next.lower, knowledge).is_empty())
        {
            at + 1
        } else {
            continue;
        };
        if tokens.get(start).is_some_and(|token| token.kind == Kind::Word) && !starts.contains(&start) {
            starts.push(start);
            words = false;
        }
    }
    starts
}

/// "Wooden and predictable are words that mark out a negative review": runs of listed words, with nothing in between.
fn runs(reading: &Reading<'_>, knowledge: &Knowledge<'_>) -> Vec<usize> {
    let mut said = Vec::new();
    let mut run: Vec<usize> = Vec::new();
    for (at, token) in reading.tokens.iter().enumerate() {
        if token.kind == Kind::Word && !subjects(token.text, knowledge).is_empty() {
            run.push(at);
        } else if !token.among(", and or &") {
            if run.len() > 1 {
                said.append(&mut run);
            }
            run.clear();
        }
    }
    said
}

/// The words of a list: "great, wonderful and best".
fn list(tokens: &[Token<'_>], start: usize) -> Vec<usize> {
    const NOT_LISTED: &str = "the a an in of for which that while whereas set sets mark marks are is were was on \
        among with by to from these those they and or appear stand help positive negative reviews neutral \
        respectively not more most";
    let mut listed = Vec::new();
    let mut at = start;
    let mut last = false;
    while let Some(token) = tokens.get(at) {
        if token.kind != Kind::Word || is_one_of(&token.lower, NOT_LISTED) {
            break;
        }
        listed.push(at);
        at += 1;
        if last {
            break;
        }
        if tokens.get(at).is_some_and(|token| token.is(",")) {
            at += 1;
        } else if !tokens.get(at).is_some_and(|token| token.among("and or &")) {
            break;
        }
        if tokens.get(at).is_some_and(|token| token.among("and or &")) {
            last = true;
            at += 1;
        }
    }
    listed
}

/// Whom each quotation is put in the mouth of.
fn speakers(reading: &Reading<'_>, said: &[Range<usize>]) -> Vec<Option<Speaker>> {
    let mut labels: Vec<Label<Speaker>> = Vec::new();
    labels.extend(reading.classes.iter().map(|label| Label {
        tokens: label.tokens.clone(),
        what: Speaker::Class(label.what),
    }));
    let uncertain = |label: &&Label<super::labels::Measured>| label.what.topics == [Topic::Uncertain];
    labels.extend(reading.topics.iter().filter(uncertain).map(|label| Label {
        tokens: label.tokens.clone(),
        what: Speaker::Uncertain,
    }));
    labels.sort_by_key(|label| label.tokens.start);
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, range) in said.iter().enumerate() {
        let joined = groups.last().and_then(|group| group.last()).is_some_and(|last| {
            let between = said[*last].end..range.start;
            reading.tokens[between]
                .iter()
                .all(|token| token.among(", and or & as well the a an their its"))
        });
        match groups.last_mut() {
            Some(group) if joined => group.push(index),
            _ => groups.push(vec![index]),
        }
    }
    let ranges: Vec<Range<usize>> = groups
        .iter()
        .map(|group| said[group[0]].start..said[group[group.len() - 1]].end)
        .collect();
    let marks = marks(labels.iter());
    let aligned = align(&marks, &ranges, &Distances::new(reading.tokens));
    let mut speakers = vec![None; said.len()];
    for ((group, range), label) in groups.iter().zip(&ranges).zip(aligned) {
        let before = labels.iter().rev().find(|label| label.tokens.end <= range.start);
        let label = label.map(|label| &labels[label]).or(before).or(labels.first());
        let label = label.map(|label| subject_of(reading.tokens, &labels, label, range.start));
        for &index in group {
            speakers[index] = label.map(|label| label.what);
        }
    }
    speakers
}

/// "X is longer than Y, and its words are ...": they are X's.
fn subject_of<'l>(
    tokens: &[Token<'_>],
    labels: &'l [Label<Speaker>],
    label: &'l Label<Speaker>,
    said: usize,
) -> &'l Label<Speaker> {
    let end = label.tokens.end.min(said);
    let owned = tokens[end..said].iter().any(|token| token.among("their its"))
        || tokens[end..said]
            .windows(2)
            .any(|pair| pair[0].is(",") && pair[1].is("and"));
    let start = label.tokens.start;
    let compared = tokens[start.saturating_sub(2)..start]
        .iter()
        .any(|token| token.is("than"));
    let before = |other: &&Label<Speaker>| other.tokens.end <= start && other.what != label.what;
    let subject = labels.iter().rev().find(before).filter(|_| owned && compared);
    subject.unwrap_or(label)
}

fn verdict(text: &str, speaker: Option<Speaker>, in_marks: bool, knowledge: &Knowledge<'_>) -> Verdict {
    let sheet = knowledge.sheet;
    let quoted = normal(text);
    let repeated = repeat(text);
    let quotations = sheet.quotations.iter().zip(&knowledge.quotations);
    let of_quotations: Vec<Option<&str>> = quotations
        .filter(|(_, normal)| in_marks && contains(normal, &quoted))
        .map(|(quotation, _)| quotation.subject.as_deref())
        .collect();
    if of_quotations.iter().any(|subject| says(speaker, *subject, knowledge)) {
        return Verdict::Supported {
            fact: "quotation".to_owned(),
        };
    }
    let of_words = subjects(text, knowledge);
    if let Some((title, _)) = of_words.iter().find(|(_, subject)| says(speaker, *subject, knowledge)) {
        return Verdict::Supported { fact: title.clone() };
    }
    if let Some((title, subject)) = of_words.first() {
        return Verdict::Unsupported {
            fact: Some(title.clone()),
            reason: format!(
                "\"{repeated}\" is a distinctive word of {} {}, not of those that the text names",
                subject.unwrap_or("all"),
                sheet.items
            ),
        };
    }
    if let Some(subject) = of_quotations.first() {
        return Verdict::Unsupported {
            fact: Some("quotation".to_owned()),
            reason: format!(
                "the quotation \"{repeated}\" is of {} {}, not of those that the text names",
                subject.unwrap_or("uncertain"),
                sheet.items
            ),
        };
    }
    if in_marks && is_name(text, knowledge) {
        return Verdict::Supported {
            fact: "name".to_owned(),
        };
    }
    let reason = if in_marks {
        format!("the sheet has no quotation \"{repeated}\"")
    } else {
        format!("the sheet does not have \"{repeated}\" among its distinctive words")
    };
    Verdict::Unsupported { fact: None, reason }
}

/// Whether words of this subject may be put in that mouth.
fn says(speaker: Option<Speaker>, subject: Option<&str>, knowledge: &Knowledge<'_>) -> bool {
    let class = subject.and_then(|subject| knowledge.class(subject));
    match (speaker, class) {
        (None, _) => true,
        (Some(Speaker::Uncertain), class) => class.is_none(),
        (Some(Speaker::Class(About::Class(named))), Some(class)) => named == class,
        (Some(Speaker::Class(About::Others(not))), Some(class)) => not != class,
        (Some(Speaker::Class(_)), _) => false,
    }
}

/// Facts that have the word among their words, with their subjects.
fn subjects<'k>(word: &str, knowledge: &'k Knowledge<'_>) -> Vec<(String, Option<&'k str>)> {
    let word = normal(word).to_lowercase();
    let own = knowledge.listed.iter().filter(|(listed, _)| *listed == word);
    own.filter_map(|(_, fact)| {
        let fact = knowledge.sheet.facts.get(*fact)?;
        Some((fact.title(&knowledge.sheet.items), fact.subject.as_deref()))
    })
    .collect()
}

/// Names of the sheet stand in quotation marks too.
fn is_name(text: &str, knowledge: &Knowledge<'_>) -> bool {
    let name = normal(text).to_lowercase();
    let sheet = knowledge.sheet;
    let is = |other: &str| normal(other).to_lowercase() == name;
    is(&sheet.title)
        || is(&sheet.items)
        || sheet.facts.iter().any(|fact| {
            is(&fact.name) || is(&fact.title(&sheet.items)) || matches!(&fact.value, Value::Text(text) if is(text))
        })
}

/// White space, typographic signs and what stands around do not matter.
pub(super) fn normal(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '“' | '”' | '„' | '‘' | '’' | '«' | '»' | '`' => plain.push('\''),
            '–' | '—' | '‑' => plain.push('-'),
            '…' => plain.push_str("..."),
            '*' | '_' => {}
            _ => plain.push(c),
        }
    }
    let plain = plain
        .replace("[...]", "...")
        .replace("(...)", "...")
        .replace("<br />", " ");
    let collapsed: Vec<&str> = plain.split_whitespace().collect();
    let collapsed = collapsed.join(" ");
    collapsed.trim_matches(|c: char| !c.is_alphanumeric()).to_owned()
}

/// Whether the quotation is a part of the text at word borders; an ellipsis leaves something out.
fn contains(text: &str, quoted: &str) -> bool {
    let parts = quoted
        .split("...")
        .map(|part| part.trim_matches(|c: char| !c.is_alphanumeric()));
    let mut at = 0;
    let mut any = false;
    for part in parts.filter(|part| !part.is_empty()) {
        let Some(end) = find(&text[at..], part) else {
            return false;
        };
        at += end;
        any = true;
    }
    any
}

/// The end of the part, whatever the case of its first letter.
fn find(text: &str, part: &str) -> Option<usize> {
    let mut letters = part.chars();
    let first = letters.next()?;
    let rest = letters.as_str();
    let variants = [first.to_lowercase().to_string(), first.to_uppercase().to_string()];
    variants.iter().find_map(|first| {
        let needle = format!("{first}{rest}");
        text.match_indices(&needle).find_map(|(start, found)| {
            let end = start + found.len();
            let before = text[..start].chars().next_back().is_some_and(char::is_alphanumeric);
            let after = text[end..].chars().next().is_some_and(char::is_alphanumeric);
            (!before && !after).then_some(end)
        })
    })
}

fn repeat(text: &str) -> String {
    let mut characters = text.chars();
    let start: String = characters.by_ref().take(REPEATED_CHARACTERS_MAX).collect();
    let start = start.replace('\n', " ");
    if characters.next().is_some() {
        start + "…"
    } else {
        start
    }
}
