//! What a sentence names: classes, and what is measured.

use std::ops::Range;

use super::knowledge::{About, Knowledge, Stat, Topic, stem};
use super::token::{Kind, Token};

/// A name at tokens of the sentence.
#[derive(Debug, Clone)]
pub(super) struct Label<T> {
    pub(super) tokens: Range<usize>,
    pub(super) what: T,
}

/// What is measured, as far as a word tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) topics: Vec<Topic>,
    /// "not confident".
    pub(super) negated: bool,
}

/// The classes that a sentence names. `before` are those of the sentence before.
pub(super) fn classes(tokens: &[Token<'_>], knowledge: &Knowledge<'_>, before: &[About]) -> Vec<Label<About>> {
    let mut labels: Vec<Label<About>> = Vec::new();
    let stems: Vec<String> = tokens.iter().map(|token| stem(&token.lower)).collect();
    let mut at = 0;
    while at < tokens.len() {
        if let Some((class, end)) = named(tokens, &stems, knowledge, at) {
            let free = tokens.get(end).is_some_and(|next| next.is("free"))
                || tokens.get(end).is_some_and(|next| next.is("-"))
                    && tokens.get(end + 1).is_some_and(|next| next.is("free"));
            let about = if free != is_negated(tokens, at) {
                others(class, knowledge)
            } else {
                About::Class(class)
            };
            labels.push(Label {
                tokens: at..end,
                what: about,
            });
            at = end;
            continue;
        }
        if let Some(about) = referred(tokens, at, knowledge, &labels, before) {
            labels.push(Label {
                tokens: at..at + 1,
                what: about,
            });
        }
        at += 1;
    }
    labels
}

/// All that is not of a class.
pub(super) fn others(class: usize, knowledge: &Knowledge<'_>) -> About {
    if knowledge.classes.len() == 2 {
        About::Class(1 - class)
    } else {
        About::Others(class)
    }
}

/// The class named here, by its longest name.
fn named(tokens: &[Token<'_>], stems: &[String], knowledge: &Knowledge<'_>, at: usize) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize)> = None;
    for (index, class) in knowledge.classes.iter().enumerate() {
        for (synonym, form) in class.forms.iter().enumerate() {
            if let Some(end) = matches_at(tokens, stems, form, at, synonym == 0)
                && best.is_none_or(|(_, longest)| end > longest)
            {
                best = Some((index, end));
            }
        }
    }
    best
}

fn matches_at(tokens: &[Token<'_>], stems: &[String], form: &[String], at: usize, own: bool) -> Option<usize> {
    let mut end = at;
    for (index, word) in form.iter().enumerate() {
        if index > 0 && tokens.get(end).is_some_and(|token| token.is("-")) {
            end += 1;
        }
        let stem = stems.get(end)?;
        // "Spoils" for "spoiler".
        let derived = own && stem.len() >= 5 && word.starts_with(stem.as_str()) && word.len() <= stem.len() + 2;
        if tokens.get(end)?.kind == Kind::Quote || stem != word && !derived {
            return None;
        }
        end += 1;
    }
    Some(end)
}

fn is_negated(tokens: &[Token<'_>], at: usize) -> bool {
    let before = &tokens[at.saturating_sub(2)..at];
    const WITHOUT: &str = "not non isn't aren't without no avoid avoids avoided avoiding lack lacks lacking omit omits \
        omitting";
    let negates = |token: &Token<'_>| token.among(WITHOUT);
    // "Do not contain a spoiler".
    let verb = (at.saturating_sub(4)..at)
        .rev()
        .find(|index| !tokens[*index].among("contain contains give have hold include mention reveal any a the"));
    if verb.is_some_and(|verb| verb + 1 < at && negates(&tokens[verb])) {
        return true;
    }
    match before {
        [.., last] if negates(last) => true,
        [free, of] if free.among("free clear devoid") && of.among("of from") => true,
        [refrain, from] if refrain.among("refrain refrains abstain") && from.is("from") => true,
        [not, between] => negates(not) && between.among("- the a any"),
        _ => false,
    }
}

/// "The rest", "the former", "the others", "are not": a class without its name.
fn referred(
    tokens: &[Token<'_>],
    at: usize,
    knowledge: &Knowledge<'_>,
    labels: &[Label<About>],
    before: &[About],
) -> Option<About> {
    let next = tokens.get(at + 1);
    let is_next = |words: &str| next.is_some_and(|next| next.among(words));
    let last_class = || match labels.last()?.what {
        About::Class(class) => Some(class),
        _ => None,
    };
    let own: Vec<About> = labels.iter().map(|label| label.what).collect();
    let earlier = if own.len() >= 2 { &own } else { before };
    match tokens[at].lower.as_str() {
        "rest" | "remainder" | "others" | "counterpart" | "counterparts" => {
            last_class().map(|class| others(class, knowledge))
        }
        "remaining" if takes_remainder(tokens, at, labels) => None,
        "do" | "does"
            if at > 0 && tokens[at - 1].kind == Kind::Number && next.is_none_or(|next| next.kind == Kind::Sign) =>
        {
            // "1,719 contain no spoilers and 143 do."
            let last = labels.last()?.tokens.start;
            let negated = tokens[last].among("no non not") || is_negated(tokens, last);
            last_class().filter(|_| negated).map(|class| others(class, knowledge))
        }
        "one" if at > 0 && tokens[at - 1].among("is has have with contains") => {
            // "Where there is no spoiler ..., where there is one ...".
            let last = labels.last()?.tokens.start;
            last_class()
                .filter(|_| tokens[last].among("no non not") || is_negated(tokens, last))
                .map(|class| others(class, knowledge))
        }
        "remaining" | "other" if !is_next("hand words than") => last_class().map(|class| others(class, knowledge)),
        "not"
            if at > 1
                && tokens[at - 1].among("are do")
                && tokens[at - 2].among("that which who")
                && is_next("average run have make reach") =>
        {
            // "The 7.7% that are not average 318 words".
            last_class().map(|class| others(class, knowledge))
        }
        "not" | "aren't" if next.is_none_or(|next| next.kind == Kind::Sign) => {
            last_class().map(|class| others(class, knowledge))
        }
        "former" => earlier.first().copied(),
        "latter" => earlier.get(1).copied(),
        "majority" | "leading" if labels.is_empty() => knowledge.leader.map(About::Class),
        "larger" | "bigger" | "largest" if labels.is_empty() && is_next("class side group camp share") => {
            knowledge.leader.map(About::Class)
        }
        "frequent" | "common" if labels.is_empty() && at > 0 && tokens[at - 1].is("most") => {
            knowledge.leader.map(About::Class)
        }
        "minority" if labels.is_empty() => knowledge.leader.map(|leader| others(leader, knowledge)),
        _ => None,
    }
}

/// "Negative reviews account for the remaining 45.9%": the remainder is what the clause's own subject has.
fn takes_remainder(tokens: &[Token<'_>], at: usize, labels: &[Label<About>]) -> bool {
    let Some(last) = labels.last() else { return false };
    let between = &tokens[last.tokens.end.min(at)..at];
    let plain = |token: &Token<'_>| {
        token.kind == Kind::Word && !token.among("and while whereas but with than leave leaves leaving")
    };
    let counted = tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Number);
    counted && between.iter().all(plain)
}

/// Words that make "certain" and "uncertain" a matter of the lead.
pub(super) const LEAD_WORDS: &str = "lead leads leading majority margin difference gap advantage ranking order edge \
    plurality intervals winner ahead outcome";

pub(super) fn is_lead_word(tokens: &[Token<'_>], at: usize) -> bool {
    let which = tokens[at].is("which")
        && tokens
            .get(at + 1)
            .is_some_and(|next| next.among("class side of group one view"));
    which || tokens[at].among(LEAD_WORDS)
}

/// "Too close to call for the model".
pub(super) fn is_models(tokens: &[Token<'_>], at: usize, about_lead: bool) -> bool {
    let call = tokens.get(at + 2).is_some_and(|token| token.is("call"));
    call && !about_lead && tokens.iter().any(|token| token.among(MODEL_WORDS))
}

/// What gives the reviews their classes.
pub(super) const MODEL_WORDS: &str = "model classifier machine algorithm";

/// What is measured, word by word.
pub(super) fn topics(tokens: &[Token<'_>], knowledge: &Knowledge<'_>) -> Vec<Label<Measured>> {
    let mut labels = Vec::new();
    let mut about_lead = false;
    for (at, token) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1);
        about_lead |= is_lead_word(tokens, at);
        let topics: &[Topic] = match token.lower.as_str() {
            "confidence" if next.is_some_and(|next| next.among("interval intervals level")) => &[],
            "confidence" if at > 0 && tokens[at - 1].among("% percent cent") => &[Topic::Interval],
            // "Classified with confidence"; "with confidence 0.94" is a score.
            "confidence"
                if at > 0
                    && tokens[at - 1].is("with")
                    && next.is_none_or(|next| next.kind != Kind::Number && !next.among("of (")) =>
            {
                &[Topic::Confident]
            }
            "confidence" | "score" | "scores" => &[Topic::Confidence, Topic::Confident, Topic::Uncertain],
            "certain" | "certainty" | "sure" if about_lead => &[],
            "confident" | "confidently" | "sure" | "certain" | "assured" | "certainty" => {
                &[Topic::Confident, Topic::Confidence]
            }
            "uncertain" | "unsure" if about_lead => &[],
            "hesitation" | "doubt" if at > 0 && tokens[at - 1].among("without no") => {
                &[Topic::Confident, Topic::Confidence]
            }
            "close" if next.is_some_and(|next| next.is("to")) && is_models(tokens, at, about_lead) => {
                &[Topic::Uncertain]
            }
            "uncertain" | "unsure" | "doubtful" | "undecided" | "borderline" | "ambiguous" | "hesitant"
            | "hesitates" | "hesitate" | "hesitated" | "hesitation" | "doubts" | "hesitantly" | "indecision"
            | "unclear" | "doubt" => &[Topic::Uncertain],
            "vocabulary" | "lexicon" | "distinct" | "unique" | "different" => &[Topic::Vocabulary],
            "ratio" | "diversity" | "variety" | "varied" | "richness" | "ttr" => &[Topic::Ratio],
            "interval" | "intervals" | "bound" | "bounds" | "limit" | "limits" | "plausible" | "range" | "ranges" => {
                &[Topic::Interval]
            }
            "short" if next.is_some_and(|next| next.is("of")) => &[],
            "length" | "lengths" | "long" | "longer" | "longest" | "short" | "shorter" | "shortest" | "brief"
            | "briefer" | "lengthier" | "lengthy" => &[Topic::Length],
            "lead" | "leads" | "margin" | "gap" | "difference" | "advantage" | "edge" | "ahead" => &[Topic::Lead],
            _ => &[],
        };
        if !topics.is_empty() {
            let before = &tokens[at.saturating_sub(2)..at];
            labels.push(Label {
                tokens: at..at + 1,
                what: Measured {
                    topics: topics.to_vec(),
                    negated: before.iter().any(|token| token.among("not less aren't"))
                        && topics.contains(&Topic::Confident),
                },
            });
        }
    }
    labels.extend(other_facts(tokens, knowledge));
    labels.sort_by_key(|label| label.tokens.start);
    labels
}

/// Facts that this crate does not know, by the words of their names.
fn other_facts(tokens: &[Token<'_>], knowledge: &Knowledge<'_>) -> Vec<Label<Measured>> {
    if knowledge.others.is_empty() {
        return Vec::new();
    }
    let stems: Vec<String> = tokens.iter().map(|token| stem(&token.lower)).collect();
    let mut labels: Vec<(usize, Label<Measured>)> = Vec::new();
    for (fact, keywords) in &knowledge.others {
        let places: Vec<usize> = keywords
            .iter()
            .filter_map(|keyword| stems.iter().position(|stem| stem == keyword))
            .collect();
        let (Some(last), true) = (
            places.iter().max(),
            places.len() * 2 >= keywords.len() && !keywords.is_empty(),
        ) else {
            continue;
        };
        labels.push((
            places.len(),
            Label {
                tokens: *last..*last + 1,
                what: Measured {
                    topics: vec![Topic::Other(*fact)],
                    negated: false,
                },
            },
        ));
    }
    // Of names that end at the same word, the ones that are found most completely.
    let mut best: Vec<(usize, Label<Measured>)> = Vec::new();
    for (found, label) in labels {
        match best.iter_mut().find(|(_, other)| other.tokens == label.tokens) {
            None => best.push((found, label)),
            Some((most, other)) if *most == found => other.what.topics.extend(label.what.topics),
            Some(place) if place.0 < found => *place = (found, label),
            Some(_) => {}
        }
    }
    best.into_iter().map(|(_, label)| label).collect()
}

/// Mean, median, percentile. A figure in words can name a percentile: "one in ten is longer".
pub(super) fn stats(tokens: &[Token<'_>]) -> Vec<Label<Vec<Stat>>> {
    let mut labels = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let stats = match token.lower.as_str() {
            "mean" | "average" | "averages" | "averaging" | "averaged" => vec![Stat::Mean],
            "median" | "midpoint" | "middle" => vec![Stat::Median],
            "typical" | "typically" => vec![Stat::Median, Stat::Mean],
            "percentile" | "decile" => vec![Stat::Percentile],
            "tenth" if at > 0 && tokens[at - 1].among("longest top") => vec![Stat::Percentile],
            _ => continue,
        };
        labels.push(Label {
            tokens: at..at + 1,
            what: stats,
        });
    }
    labels
}
