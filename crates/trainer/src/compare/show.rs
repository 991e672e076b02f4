//! A comparison on a terminal.

use super::{Comparison, Difference, Figure};
use crate::evaluate::show;

pub(crate) fn p_value(p: f64) -> String {
    if p < 1e-4 {
        format!("{p:.1e}")
    } else {
        format!("{p:.4}")
    }
}

/// A difference as it is written: shares in points.
fn difference(difference: &Difference, by: Figure) -> [String; 2] {
    let write = |value: f64| {
        if by.is_share() {
            format!("{:+.2} points", 100.0 * value)
        } else {
            format!("{value:+.4}")
        }
    };
    let interval = difference.interval.map_or("not defined".to_owned(), |ends| {
        format!("{} to {}", write(ends.low), write(ends.high))
    });
    [write(difference.estimate), interval]
}

pub(super) const STANDING_COLUMNS: [&str; 8] = [
    "",
    "accuracy",
    "95% interval",
    "macro F1",
    "ROC AUC",
    "PR AUC",
    "log loss",
    "Brier score",
];

pub(super) fn standing_rows(comparison: &Comparison) -> Vec<Vec<String>> {
    let rows = comparison.contestants.iter().map(|standing| {
        let metrics = &standing.metrics;
        let interval = standing.intervals.figures.get("accuracy");
        vec![
            standing.name.clone(),
            show::percent(metrics.accuracy),
            interval.map_or(String::new(), |ends| show::interval(ends, true)),
            show::percent(metrics.averages.f1),
            show::area(metrics.roc_auc),
            show::area(metrics.pr_auc),
            format!("{:.4}", metrics.log_loss),
            format!("{:.4}", metrics.brier),
        ]
    });
    rows.collect()
}

pub(super) fn pair_columns(comparison: &Comparison) -> Vec<String> {
    let name = comparison.by.name();
    let mut columns = vec![
        "pair".to_owned(),
        "only the first right".to_owned(),
        "only the second".to_owned(),
        format!("difference of {name}"),
        "95% interval".to_owned(),
        "p".to_owned(),
    ];
    if comparison.pairs.len() > 1 {
        columns.push("p, adjusted".to_owned());
    }
    columns.push("shown".to_owned());
    columns
}

pub(super) fn pair_rows(comparison: &Comparison) -> Vec<Vec<String>> {
    let rows = comparison.pairs.iter().map(|pair| {
        let mut row = vec![
            format!("{} – {}", pair.first, pair.second),
            pair.discordant.only_first.to_string(),
            pair.discordant.only_second.to_string(),
        ];
        row.extend(
            pair.differences
                .get(comparison.by.key())
                .map_or_else(Default::default, |value| difference(value, comparison.by)),
        );
        row.push(p_value(pair.p));
        if comparison.pairs.len() > 1 {
            row.push(p_value(pair.p_adjusted));
        }
        row.push(if pair.is_shown { "yes" } else { "no" }.to_owned());
        row
    });
    rows.collect()
}

pub(super) fn tables(comparison: &Comparison) -> String {
    let mut standings = show::new_table(STANDING_COLUMNS);
    standings.add_rows(standing_rows(comparison));
    let mut pairs = show::new_table(pair_columns(comparison));
    pairs.add_rows(pair_rows(comparison));
    let drawn = comparison
        .contestants
        .first()
        .map(|standing| show::drawn(&standing.intervals));
    format!(
        "{standings}\n{pairs}\n{}\n{}",
        drawn.unwrap_or_default(),
        comparison.verdict
    )
}
