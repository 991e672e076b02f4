//! A comparison as an HTML report.

use super::Comparison;
use super::show::{STANDING_COLUMNS, pair_columns, pair_rows, standing_rows};
use crate::evaluate::show;
use crate::report::plot::{Bar, Bars, Marks, Unit};
use crate::report::{Page, Section};

pub(super) fn page(comparison: &Comparison) -> anyhow::Result<String> {
    let subtitle = format!(
        "{} examples of {}, {}",
        comparison.examples,
        comparison.data,
        comparison.split.name()
    );
    let title = match &comparison.winner {
        Some(winner) => format!("{winner} wins"),
        None => "No winner is shown".to_owned(),
    };
    let mut page = Page::new("Comparison", &title, &subtitle);
    let by = comparison.by;
    let unit = if by.is_share() { Unit::Percent } else { Unit::Number };

    let mut section = Section::new("Verdict");
    section.text(&format!("{}.", comparison.verdict));
    page.section(section);

    let mut section = Section::new("Figures");
    let rows: Vec<Bar> = comparison
        .contestants
        .iter()
        .map(|standing| Bar {
            name: standing.name.clone(),
            value: standing.value(by),
            interval: standing
                .intervals
                .figures
                .get(by.key())
                .map(|ends| (ends.low, ends.high)),
        })
        .collect();
    section.figure(
        &format!("{} of each, with 95% intervals", by.name()),
        Bars {
            x: by.name(),
            unit,
            rows: &rows,
            marks: Marks::Dots,
        }
        .svg()?,
    );
    section.table(&STANDING_COLUMNS, &standing_rows(comparison));
    page.section(section);

    let mut section = Section::new("Pairs");
    section.text(
        "Intervals of single classifiers that overlap say little of their difference: both answered the same examples. Here each \
         pair is compared example by example.",
    );
    let rows: Vec<Bar> = comparison
        .pairs
        .iter()
        .filter_map(|pair| {
            let difference = pair.differences.get(by.key())?;
            Some(Bar {
                name: format!("{} – {}", pair.first, pair.second),
                value: difference.estimate,
                interval: difference.interval.map(|ends| (ends.low, ends.high)),
            })
        })
        .collect();
    section.figure(
        &format!("Difference of {}, with 95% intervals; at 0 they are equal", by.name()),
        Bars {
            x: &format!("{} of the first less that of the second", by.name()),
            unit,
            rows: &rows,
            marks: Marks::Differences,
        }
        .svg()?,
    );
    section.table(&pair_columns(comparison), &pair_rows(comparison));
    page.section(section);

    let mut section = Section::new("How it was measured");
    section.text(&format!("Decided by {}: {}.", by.name(), comparison.test));
    if let Some(standing) = comparison.contestants.first() {
        section.text(&format!("{}.", show::drawn(&standing.intervals)));
    }
    page.section(section);
    Ok(page.html())
}
