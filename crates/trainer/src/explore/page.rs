//! A survey as an HTML report.

use super::facts::Survey;
use super::lengths::Lengths;
use super::show;
use crate::report::plot::{Bar, Bars, Histogram, Marks, Unit};
use crate::report::{Page, Section};

pub(super) fn page(survey: &Survey) -> anyhow::Result<String> {
    let title = survey.files.first().map_or("", |file| file.file.as_str());
    let others: Vec<&str> = survey.files.iter().skip(1).map(|file| file.file.as_str()).collect();
    let subtitle = if others.is_empty() {
        String::new()
    } else {
        format!("with {}", others.join(", "))
    };
    let mut page = Page::new("Data set", title, &subtitle);
    let reviews: u64 = survey.classes.iter().map(|class| class.examples).sum();
    let mut tiles = vec![
        ("reviews", reviews.to_string(), None),
        ("classes", survey.classes.len().to_string(), None),
        ("duplicates", survey.duplicates.rows.to_string(), None),
        (
            "contradictory texts",
            survey.duplicates.contradictory_groups.to_string(),
            None,
        ),
    ];
    if let Some(tokens) = &survey.tokens {
        tiles.push(("tokens, median", tokens.lengths.median.to_string(), None));
    }
    page.tiles(&tiles);

    let mut section = Section::new("Worth a thought");
    if survey.remarks.is_empty() {
        section.text("Nothing stands out.");
    }
    for remark in &survey.remarks {
        section.text(remark);
    }
    page.section(section);

    let mut section = Section::new("Classes");
    let rows: Vec<Bar> = survey
        .classes
        .iter()
        .map(|class| Bar {
            name: class.label.clone(),
            value: class.share,
            interval: Some((class.interval.low, class.interval.high)),
        })
        .collect();
    section.figure(
        "Share of each class, with its 95% interval",
        Bars {
            x: "share of the reviews",
            unit: Unit::Percent,
            rows: &rows,
            marks: Marks::Bars,
        }
        .svg()?,
    );
    section.table(&show::class_columns(survey), &show::class_rows(survey));
    page.section(section);

    let mut section = Section::new("Lengths");
    section.figure("Words of the reviews, by class", histogram("words", &survey.words)?);
    section.figure(
        "Characters of the reviews, by class",
        histogram("characters", &survey.characters)?,
    );
    if let Some(tokens) = &survey.tokens {
        section.figure(
            "Tokens of the reviews, by class",
            histogram("tokens", &tokens.by_class)?,
        );
    }
    section.text("The last bin of each plot also has the longest one per cent.");
    section.table(&show::LENGTH_COLUMNS, &show::length_rows(survey));
    section.text(&format!("{}.", show::tokens(survey)));
    if survey.tokens.is_some() {
        section.table(&show::COVERAGE_COLUMNS, &show::coverage_rows(survey));
    }
    page.section(section);

    let mut section = Section::new("Duplicates and leakage");
    section.table(&show::DUPLICATE_COLUMNS, &show::duplicate_rows(survey));
    if !survey.leakage.is_empty() {
        section.table(&show::LEAK_COLUMNS, &show::leak_rows(survey));
    }
    if !survey.duplicates.quoted.is_empty() {
        section.table(&show::QUOTED_COLUMNS, &show::quoted_rows(survey));
    }
    page.section(section);

    let mut section = Section::new("Files");
    section.text("Texts of fewer than 20 or more than 5,000 characters are left out of training.");
    section.table(&show::FILE_COLUMNS, &show::file_rows(survey));
    let digests: Vec<Vec<String>> = survey
        .files
        .iter()
        .map(|file| vec![file.file.clone(), file.sha256.clone()])
        .collect();
    section.table(&["file", "sha256"], &digests);
    page.section(section);
    Ok(page.html())
}

fn histogram(unit: &str, by_class: &[(String, Lengths)]) -> anyhow::Result<crate::report::plot::Plot> {
    let all: Vec<&Lengths> = by_class.iter().map(|(_, lengths)| lengths).collect();
    let edges = Lengths::edges(&all);
    let series: Vec<(String, Vec<f64>)> = by_class
        .iter()
        .map(|(label, lengths)| (label.clone(), lengths.histogram(&edges)))
        .collect();
    Histogram {
        x: unit,
        x_unit: Unit::Number,
        y: "share of the class",
        y_unit: Unit::Percent,
        edges: &edges,
        series: &series,
    }
    .svg()
}
