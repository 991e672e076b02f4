//! A survey on a terminal, and what is remarkable in it.

use std::fmt::Write as _;

use super::facts::Survey;
use super::lengths::LengthFigures;
use crate::evaluate::show::new_table;

/// The largest class with so many times the examples of the smallest is worth a remark.
const IMBALANCE: f64 = 3.0;
/// A class with fewer examples teaches little.
const CLASS_MIN: u64 = 100;
/// Share of texts that do not fit into 512 tokens.
const CUT: f64 = 0.05;
const UNKNOWN: f64 = 0.01;

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// What deserves a thought before training.
pub(super) fn remarks(survey: &Survey) -> Vec<String> {
    let mut remarks = Vec::new();
    if let [only] = survey.classes.as_slice() {
        remarks.push(format!(
            "every review is {}: there is nothing to learn from one class",
            only.label
        ));
    }
    let sizes = || survey.classes.iter();
    if let (Some(most), Some(least)) = (sizes().max_by_key(|c| c.examples), sizes().min_by_key(|c| c.examples)) {
        let ratio = most.examples as f64 / least.examples.max(1) as f64;
        if ratio >= IMBALANCE {
            remarks.push(format!(
                "{} has {ratio:.1} times the reviews of {}: weigh the classes, and judge by F1 or PR AUC rather than accuracy",
                most.label, least.label
            ));
        }
        if least.examples < CLASS_MIN {
            remarks.push(format!("{} has only {} reviews", least.label, least.examples));
        }
    }
    let found = &survey.duplicates;
    if found.contradictory_groups > 0 {
        remarks.push(format!(
            "{} texts have contradictory labels ({} rows); `train` leaves them out",
            found.contradictory_groups, found.contradictory_rows
        ));
    }
    for leak in survey.leakage.iter().filter(|leak| leak.exact > 0) {
        remarks.push(format!(
            "{} rows of {} are also in {}; `train` leaves them out of {}",
            leak.exact, leak.from, leak.into, leak.from
        ));
    }
    for leak in survey.leakage.iter().filter(|leak| leak.near > leak.exact) {
        remarks.push(format!(
            "{} more rows of {} are near duplicates of some in {}; `train` keeps them, so look whether they flatter the figures",
            leak.near - leak.exact,
            leak.from,
            leak.into
        ));
    }
    if found.near_groups > 0 && survey.leakage.is_empty() {
        remarks.push(format!(
            "{} texts are near duplicates of others; a split by chance would put some of them on both sides",
            found.near_texts
        ));
    }
    if let Some(tokens) = &survey.tokens {
        if let Some(last) = tokens.coverage.last()
            && 1.0 - last.texts > CUT
        {
            remarks.push(format!(
                "{} of the reviews are longer than {} tokens and will be cut",
                percent(1.0 - last.texts),
                last.limit
            ));
        }
        if tokens.unknown > UNKNOWN {
            remarks.push(format!(
                "{} of the tokens are unknown to the vocabulary: train one on these reviews",
                percent(tokens.unknown)
            ));
        }
    }
    remarks
}

pub(super) const LENGTH_COLUMNS: [&str; 9] = [
    "class", "in", "mean", "shortest", "5%", "median", "95%", "99%", "longest",
];

pub(super) fn length_rows(survey: &Survey) -> Vec<Vec<String>> {
    let row = |label: &str, unit: &str, figures: &LengthFigures| {
        vec![
            label.to_owned(),
            unit.to_owned(),
            format!("{:.1}", figures.mean),
            figures.shortest.to_string(),
            figures.p5.to_string(),
            figures.median.to_string(),
            figures.p95.to_string(),
            figures.p99.to_string(),
            figures.longest.to_string(),
        ]
    };
    let mut rows = Vec::new();
    for class in &survey.classes {
        rows.push(row(&class.label, "characters", &class.characters));
        rows.push(row(&class.label, "words", &class.words));
        rows.extend(class.tokens.as_ref().map(|tokens| row(&class.label, "tokens", tokens)));
    }
    rows
}

pub(super) const FILE_COLUMNS: [&str; 6] = ["file", "rows", "kept", "too short", "too long", "without a label"];

pub(super) fn file_rows(survey: &Survey) -> Vec<Vec<String>> {
    let rows = survey.files.iter().map(|file| {
        let without = if file.labelled {
            file.without_label.to_string()
        } else {
            "–".to_owned()
        };
        let counts = [file.rows, file.kept, file.too_short, file.too_long].map(|count| count.to_string());
        std::iter::once(file.file.clone())
            .chain(counts)
            .chain([without])
            .collect()
    });
    rows.collect()
}

pub(super) fn class_columns(survey: &Survey) -> Vec<String> {
    let splits = survey.splits.iter().map(|split| split.split.clone());
    ["class", "reviews", "share", "95% interval"]
        .map(str::to_owned)
        .into_iter()
        .chain(splits)
        .collect()
}

pub(super) fn class_rows(survey: &Survey) -> Vec<Vec<String>> {
    let rows = survey.classes.iter().enumerate().map(|(index, class)| {
        let mut row = vec![
            class.label.clone(),
            class.examples.to_string(),
            percent(class.share),
            format!("{} to {}", percent(class.interval.low), percent(class.interval.high)),
        ];
        row.extend(survey.splits.iter().map(|split| split.by_class[index].to_string()));
        row
    });
    rows.collect()
}

pub(super) const DUPLICATE_COLUMNS: [&str; 3] = ["duplicates", "groups", "rows beyond the first"];

pub(super) fn duplicate_rows(survey: &Survey) -> Vec<Vec<String>> {
    let found = &survey.duplicates;
    let row = |name: &str, groups: u64, rows: String| vec![name.to_owned(), groups.to_string(), rows];
    vec![
        row(
            "equal but for case and punctuation",
            found.groups,
            found.rows.to_string(),
        ),
        row(
            "of these with contradictory labels",
            found.contradictory_groups,
            format!("{} in all", found.contradictory_rows),
        ),
        row(
            &format!("alike by {} or more, not equal", percent(found.near_threshold)),
            found.near_groups,
            found.near_texts.to_string(),
        ),
        row(
            "of these with contradictory labels",
            found.near_contradictory_groups,
            "–".to_owned(),
        ),
    ]
}

pub(super) const LEAK_COLUMNS: [&str; 4] = ["rows of", "that are also in", "equal", "equal or alike"];

pub(super) fn leak_rows(survey: &Survey) -> Vec<Vec<String>> {
    let rows = survey.leakage.iter().map(|leak| {
        vec![
            leak.from.to_owned(),
            leak.into.to_owned(),
            leak.exact.to_string(),
            leak.near.to_string(),
        ]
    });
    rows.collect()
}

pub(super) const COVERAGE_COLUMNS: [&str; 3] = ["at most so many tokens", "reviews that fit", "tokens that are kept"];

pub(super) fn coverage_rows(survey: &Survey) -> Vec<Vec<String>> {
    let coverage = survey.tokens.iter().flat_map(|tokens| &tokens.coverage);
    let rows = coverage.map(|coverage| {
        vec![
            coverage.limit.to_string(),
            percent(coverage.texts),
            percent(coverage.tokens),
        ]
    });
    rows.collect()
}

pub(super) const QUOTED_COLUMNS: [&str; 5] = ["kind", "copies", "labels", "lines", "text"];

pub(super) fn quoted_rows(survey: &Survey) -> Vec<Vec<String>> {
    let rows = survey.duplicates.quoted.iter().map(|quoted| {
        let mut lines: Vec<String> = quoted.lines.iter().map(u64::to_string).collect();
        if quoted.lines.len() < quoted.copies {
            lines.push("…".to_owned());
        }
        vec![
            quoted.kind.to_owned(),
            quoted.copies.to_string(),
            quoted.labels.join(", "),
            lines.join(", "),
            quoted.text.clone(),
        ]
    });
    rows.collect()
}

/// What the tokens were counted with.
pub(super) fn tokens(survey: &Survey) -> String {
    match &survey.tokens {
        None => "no tokens counted: name a tokenizer.json or a checkpoint with --tokenizer".to_owned(),
        Some(tokens) => format!(
            "tokens of {} (vocabulary of {}), with [CLS] and [SEP]; {:.2}% unknown",
            tokens.tokenizer,
            tokens.vocabulary,
            100.0 * tokens.unknown
        ),
    }
}

pub(super) fn tables(survey: &Survey) -> String {
    let mut text = String::new();
    let mut add = |columns: Vec<String>, rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            let mut table = new_table(columns);
            table.add_rows(rows);
            let _ = writeln!(text, "{table}");
        }
    };
    let owned = |columns: &[&str]| columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>();
    add(owned(&FILE_COLUMNS), file_rows(survey));
    add(class_columns(survey), class_rows(survey));
    add(owned(&LENGTH_COLUMNS), length_rows(survey));
    add(owned(&COVERAGE_COLUMNS), coverage_rows(survey));
    add(owned(&DUPLICATE_COLUMNS), duplicate_rows(survey));
    add(owned(&LEAK_COLUMNS), leak_rows(survey));
    let _ = write!(text, "{}", tokens(survey));
    for remark in &survey.remarks {
        let _ = write!(text, "\n! {remark}");
    }
    text
}
