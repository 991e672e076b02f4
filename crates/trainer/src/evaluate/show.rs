//! An evaluation on a terminal.

use std::fmt::Write as _;

use comfy_table::{Cell, Table, presets};
use understudy_corpus::statistics::Interval;

use super::figures::{Evaluation, Intervals, Slices};

/// Mistakes on a terminal; JSON and the report have more.
const MISTAKES: usize = 5;

/// Main figures: name in the JSON, name for people, whether it is a share.
pub(crate) const FIGURES: [(&str, &str, bool); 6] = [
    ("accuracy", "accuracy", true),
    ("f1", "macro F1", true),
    ("roc_auc", "ROC AUC", false),
    ("pr_auc", "PR AUC, macro", false),
    ("log_loss", "log loss", false),
    ("brier", "Brier score", false),
];

pub(crate) fn percent(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}

pub(crate) fn area(value: Option<f64>) -> String {
    value.map_or("not defined".to_owned(), |value| format!("{value:.4}"))
}

pub(crate) fn written(value: f64, is_share: bool) -> String {
    if value.is_nan() {
        "not defined".to_owned()
    } else if is_share {
        percent(value)
    } else {
        format!("{value:.4}")
    }
}

pub(crate) fn interval(interval: &Interval, is_share: bool) -> String {
    format!(
        "{} to {}",
        written(interval.low, is_share),
        written(interval.high, is_share)
    )
}

pub(crate) fn new_table<H: Into<String>>(header: impl IntoIterator<Item = H>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(header.into_iter().map(Into::into).collect::<Vec<String>>());
    table
}

/// How the intervals were drawn.
pub(crate) fn drawn(intervals: &Intervals) -> String {
    let what = match &intervals.cluster {
        None => format!("{} examples", intervals.clusters),
        Some(column) => format!("{} groups of equal {column}", intervals.clusters),
    };
    format!(
        "95% intervals: percentile bootstrap, {} resamples of {what}, seed {}",
        intervals.resamples, intervals.seed
    )
}

/// Name, value and interval of each main figure.
pub(super) fn main_figures(evaluation: &Evaluation) -> Vec<(&'static str, String, Option<String>)> {
    let metrics = &evaluation.metrics;
    let values = [
        metrics.accuracy,
        metrics.averages.f1,
        metrics.roc_auc.unwrap_or(f64::NAN),
        metrics.pr_auc.unwrap_or(f64::NAN),
        metrics.log_loss,
        metrics.brier,
    ];
    let intervals = evaluation.intervals.as_ref().map(|intervals| &intervals.figures);
    FIGURES
        .iter()
        .zip(values)
        .map(|(&(key, name, is_share), value)| {
            let ends = intervals.and_then(|intervals| intervals.get(key));
            (
                name,
                written(value, is_share),
                ends.map(|ends| interval(ends, is_share)),
            )
        })
        .collect()
}

pub(super) fn tables(evaluation: &Evaluation) -> String {
    let metrics = &evaluation.metrics;
    let header = ["class", "precision", "recall", "F1", "ROC AUC", "PR AUC", "examples"].map(str::to_owned);
    let said = metrics.classes.iter().map(|class| format!("said {}", class.label));
    let mut by_class = new_table(header.into_iter().chain(said));
    for (class, said) in metrics.classes.iter().zip(&metrics.confusion) {
        let scores = class.scores;
        let mut row = vec![
            Cell::new(&class.label),
            Cell::new(percent(scores.precision)),
            Cell::new(percent(scores.recall)),
            Cell::new(percent(scores.f1)),
            Cell::new(area(class.roc_auc)),
            Cell::new(area(class.pr_auc)),
            Cell::new(class.support),
        ];
        row.extend(said.iter().map(Cell::new));
        by_class.add_row(row);
    }
    let mut text = format!("{by_class}\n");
    let mut figures = new_table(["figure", "value", "95% interval"]);
    for (name, value, interval) in main_figures(evaluation) {
        figures.add_row([name.to_owned(), value, interval.unwrap_or_default()]);
    }
    figures.add_row(["ECE", &format!("{:.4}", evaluation.calibration.ece), ""]);
    let _ = writeln!(text, "{figures}");
    if let Some(intervals) = &evaluation.intervals {
        let _ = writeln!(text, "{}", drawn(intervals));
    }
    let _ = writeln!(text, "{}", calibration(evaluation));
    for slices in std::iter::once(&evaluation.by_length).chain(&evaluation.slices) {
        let _ = writeln!(text, "{}", sliced(slices));
    }
    if !evaluation.mistakes.is_empty() {
        text.push_str("most confident mistakes\n");
        for mistake in evaluation.mistakes.iter().take(MISTAKES) {
            let _ = writeln!(
                text,
                "  line {}: {}, said {} with {:.3}: {}",
                mistake.line, mistake.truth, mistake.said, mistake.confidence, mistake.text
            );
        }
    }
    let _ = write!(
        text,
        "accuracy {} on {} examples, macro F1 {}, ROC AUC {}, log loss {:.4}",
        percent(metrics.accuracy),
        metrics.examples,
        percent(metrics.averages.f1),
        area(metrics.roc_auc),
        metrics.log_loss
    );
    text
}

/// A sentence on calibration.
pub(super) fn calibration(evaluation: &Evaluation) -> String {
    let calibration = &evaluation.calibration;
    let direction = if calibration.overconfidence > 0.0 {
        "too sure"
    } else {
        "not sure enough"
    };
    let mut text = format!(
        "on average {} by {:.2} points",
        direction,
        100.0 * calibration.overconfidence.abs()
    );
    match &evaluation.temperature {
        None => text.push_str("; no temperature fitted: it needs a validation split apart from what is measured"),
        Some(tempered) => {
            let _ = write!(
                text,
                "; temperature {:.3}, fitted on {} validation reviews, would make ECE {:.4}, log loss {:.4}, Brier score {:.4}",
                tempered.fitted.temperature,
                tempered.fitted.examples,
                tempered.calibration.ece,
                tempered.log_loss,
                tempered.brier
            );
        }
    }
    text
}

pub(super) const SLICE_COLUMNS: [&str; 6] = [
    "examples",
    "errors",
    "accuracy",
    "95% interval",
    "macro F1",
    "mean confidence",
];

pub(super) fn slice_rows(slices: &Slices) -> Vec<Vec<String>> {
    let rows = slices.parts.iter().map(|part| {
        vec![
            part.name.clone(),
            part.examples.to_string(),
            part.errors.to_string(),
            percent(part.accuracy),
            interval(&part.interval, true),
            part.f1.map_or("–".to_owned(), percent),
            format!("{:.3}", part.mean_confidence),
        ]
    });
    rows.collect()
}

fn sliced(slices: &Slices) -> Table {
    let mut table = new_table(std::iter::once(slices.by.as_str()).chain(SLICE_COLUMNS));
    table.add_rows(slice_rows(slices));
    table
}
