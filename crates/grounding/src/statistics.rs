//! From a corpus' statistics to its fact sheet.
//!
//! A model that compares figures gets comparisons wrong. So what a critique wants to compare is compared here, and stands in
//! the sheet as a fact of its own.

use understudy_corpus::statistics::{ClassSummary, Exemplar, Lengths, Summary};

use crate::sheet::{Fact, FactSheet, Quotation, Unit, Value};

/// Quotations of each class, and of the uncertain texts.
const QUOTATIONS: usize = 2;
/// Distinctive words of each class.
const DISTINCTIVE: usize = 5;

impl FactSheet {
    /// The fact sheet of a corpus of reviews.
    #[must_use]
    pub fn of_reviews(title: &str, summary: &Summary) -> Self {
        let mut facts = vec![Fact::count("number of reviews", None, summary.texts)];
        for class in &summary.classes {
            facts.extend(class_shares(class));
        }
        facts.extend(lead(&summary.classes));
        let confidence = &summary.confidence;
        facts.extend(Fact::score("mean confidence", None, confidence.mean));
        for class in &summary.classes {
            facts.extend(Fact::score("mean confidence", subject(class), class.mean_confidence));
        }
        let of_texts = |count: u64| percent(ratio(count, summary.texts));
        facts.extend([
            Fact::count("number of confident reviews", None, confidence.confident),
            Fact::new("share of confident reviews", None, of_texts(confidence.confident)),
            Fact::count("number of uncertain reviews", None, confidence.uncertain),
            Fact::new("share of uncertain reviews", None, of_texts(confidence.uncertain)),
        ]);
        facts.extend(lengths(&summary.lengths));
        for class in &summary.classes {
            facts.extend(Fact::words("mean length", subject(class), class.lengths.mean));
        }
        facts.extend(longest(&summary.classes));
        facts.push(Fact::number(
            "vocabulary",
            None,
            as_f64(summary.vocabulary),
            Unit::Words,
            0,
        ));
        if let Some(ratio) = summary.type_token_ratio {
            facts.push(Fact::number("type-token ratio", None, ratio, Unit::None, 2));
        }
        for class in summary.classes.iter().filter(|class| !class.distinctive.is_empty()) {
            let words = class.distinctive.iter().take(DISTINCTIVE).cloned().collect();
            facts.push(Fact::new("distinctive words", subject(class), Value::Words(words)));
        }
        let mut quotations = Vec::new();
        for class in &summary.classes {
            let chosen = class.exemplars.iter().take(QUOTATIONS);
            quotations.extend(chosen.map(|exemplar| quotation(exemplar, subject(class))));
        }
        let uncertain = summary.uncertain.iter().take(QUOTATIONS);
        quotations.extend(uncertain.map(|exemplar| quotation(exemplar, None)));
        Self {
            title: title.to_owned(),
            items: "reviews".to_owned(),
            facts,
            quotations,
        }
    }
}

impl Fact {
    fn new(name: &str, subject: Option<String>, value: Value) -> Self {
        Self {
            name: name.to_owned(),
            subject,
            value,
        }
    }

    fn number(name: &str, subject: Option<String>, value: f64, unit: Unit, decimals: usize) -> Self {
        Self::new(name, subject, Value::Number { value, unit, decimals })
    }

    fn count(name: &str, subject: Option<String>, count: u64) -> Self {
        Self::number(name, subject, as_f64(count), Unit::Items, 0)
    }

    fn score(name: &str, subject: Option<String>, value: Option<f64>) -> Option<Self> {
        value.map(|value| Self::number(name, subject, value, Unit::None, 2))
    }

    fn words(name: &str, subject: Option<String>, value: Option<f64>) -> Option<Self> {
        value.map(|value| Self::number(name, subject, value, Unit::Words, 0))
    }
}

fn class_shares(class: &ClassSummary) -> [Fact; 3] {
    let interval = Value::Range {
        low: class.interval.low * 100.0,
        high: class.interval.high * 100.0,
        unit: Unit::Percent,
        decimals: 1,
    };
    [
        Fact::count("number", subject(class), class.texts),
        Fact::new("share", subject(class), percent(class.share)),
        Fact::new("95% interval of the share", subject(class), interval),
    ]
}

/// Which class is most frequent, by how much, and whether the intervals leave that open.
fn lead(classes: &[ClassSummary]) -> Vec<Fact> {
    let mut order: Vec<_> = classes.iter().collect();
    order.sort_by_key(|class| std::cmp::Reverse(class.texts));
    let [first, second, ..] = order[..] else {
        return Vec::new();
    };
    if first.texts == second.texts {
        return vec![Fact::new("most frequent class", None, Value::Text("none".into()))];
    }
    let points = (first.share - second.share) * 100.0;
    let certain = if first.interval.low > second.interval.high {
        "yes"
    } else {
        "no"
    };
    vec![
        Fact::new("most frequent class", None, Value::Text(name(first))),
        Fact::number(
            "lead of the most frequent class",
            None,
            points,
            Unit::PercentagePoints,
            1,
        ),
        Fact::new("lead is certain", None, Value::Text(certain.into())),
    ]
}

fn lengths(lengths: &Lengths) -> Vec<Fact> {
    let whole = |value: Option<u64>| value.map(as_f64);
    [
        Fact::words("mean length", None, lengths.mean),
        Fact::words("median length", None, whole(lengths.median)),
        Fact::words("90th percentile of length", None, whole(lengths.p90)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn longest(classes: &[ClassSummary]) -> Option<Fact> {
    let mean = |class: &ClassSummary| class.lengths.mean.map(f64::round);
    let longest = classes
        .iter()
        .max_by(|a, b| mean(a).partial_cmp(&mean(b)).unwrap_or(std::cmp::Ordering::Equal))?;
    let others = classes.iter().filter(|class| class.label != longest.label);
    let alone =
        mean(longest).is_some() && others.clone().count() > 0 && others.into_iter().all(|c| mean(c) < mean(longest));
    alone.then(|| Fact::new("class with the longest reviews", None, Value::Text(name(longest))))
}

fn quotation(exemplar: &Exemplar, subject: Option<String>) -> Quotation {
    Quotation {
        // A quotation mark inside would end the quotation.
        text: exemplar.quotation.replace(['"', '“', '”'], "'"),
        subject,
        confidence: exemplar.confidence,
    }
}

/// A label as prose writes it: "POSITIVE" is "positive".
fn name(class: &ClassSummary) -> String {
    class.label.to_lowercase()
}

fn subject(class: &ClassSummary) -> Option<String> {
    Some(name(class))
}

fn percent(share: f64) -> Value {
    Value::Number {
        value: share * 100.0,
        unit: Unit::Percent,
        decimals: 1,
    }
}

fn ratio(count: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { as_f64(count) / as_f64(all) }
}

#[expect(clippy::cast_precision_loss, reason = "no corpus has 2^53 texts")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
