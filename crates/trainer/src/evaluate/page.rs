//! An evaluation as an HTML report.

use understudy_corpus::statistics::Interval;
use understudy_corpus::{Calibration, Scored};

use super::answers::{Answered, Parts};
use super::figures::{Evaluation, Slices};
use super::show;
use crate::report::plot::{Bar, Bars, Confusion, Histogram, Lines, Marks, Reliability, Reliable, Series, Unit};
use crate::report::{Page, Section};

/// Points of a curve in the report; more would not be seen.
const POINTS_MAX: usize = 400;

pub(super) fn page(evaluation: &Evaluation, measured: &Answered, parts: &Parts) -> anyhow::Result<String> {
    let metrics = &evaluation.metrics;
    let split = evaluation.split.name();
    let subtitle = format!("{} examples of {}, {split}", metrics.examples, evaluation.data);
    let mut page = Page::new("Evaluation", &evaluation.model, &subtitle);
    page.tiles(&show::main_figures(evaluation));

    let mut section = Section::new("Classes");
    let rows: Vec<Vec<String>> = metrics
        .classes
        .iter()
        .map(|class| {
            vec![
                class.label.clone(),
                show::percent(class.scores.precision),
                show::percent(class.scores.recall),
                show::percent(class.scores.f1),
                show::area(class.roc_auc),
                show::area(class.pr_auc),
                class.support.to_string(),
            ]
        })
        .collect();
    let columns = ["class", "precision", "recall", "F1", "ROC AUC", "PR AUC", "examples"];
    section.table(&columns, &rows);
    section.figure(
        "Confusion matrix: examples by their true class and the class that was said",
        Confusion {
            labels: parts.labels.names(),
            counts: &metrics.confusion,
        }
        .svg()?,
    );
    page.section(section);

    let scored = Scored::new(parts.labels.names().len(), &parts.truth(), &measured.probabilities)?;
    if let Some(section) = curves(&scored, evaluation, parts)? {
        page.section(section);
    }
    page.section(calibration(evaluation, parts)?);

    let by = &evaluation.by_length.by;
    page.section(sliced(&format!("Errors by length in {by}"), by, &evaluation.by_length)?);
    for slices in &evaluation.slices {
        page.section(sliced(&format!("By {}", slices.by), &slices.by, slices)?);
    }
    page.section(mistakes(evaluation));

    let mut section = Section::new("How it was measured");
    if let Some(intervals) = &evaluation.intervals {
        section.text(&format!("{}.", show::drawn(intervals)));
    }
    section.text(
        "Accuracy, precision, recall, F1, ROC AUC, PR AUC (average precision), log loss and the Brier score are as scikit-learn \
         defines them. ECE is the expected calibration error of Guo et al. 2017 in 15 bins of equal width. Intervals of parts are \
         Wilson's.",
    );
    page.section(section);
    Ok(page.html())
}

/// One curve a class; of two classes the second's ROC says all.
fn curves(scored: &Scored, evaluation: &Evaluation, parts: &Parts) -> anyhow::Result<Option<Section>> {
    let names = parts.labels.names();
    let (mut roc, mut precision_recall) = (Vec::new(), Vec::new());
    for (class, (name, figures)) in names.iter().zip(&evaluation.metrics.classes).enumerate() {
        let curves = scored.curves(class);
        let (Some(roc_auc), Some(pr_auc)) = (figures.roc_auc, figures.pr_auc) else {
            continue;
        };
        if names.len() > 2 || class == 1 {
            roc.push(Series {
                name: format!("{name}: area {roc_auc:.4}"),
                points: thinned(&curves.roc),
            });
        }
        precision_recall.push(Series {
            name: format!("{name}: area {pr_auc:.4}"),
            points: thinned(&curves.precision_recall),
        });
    }
    if roc.is_empty() {
        return Ok(None);
    }
    let mut section = Section::new("Curves");
    let unit = Some((0.0, 1.0));
    let caption = match roc.as_slice() {
        [only] => format!("Receiver operating characteristic, {}", only.name),
        _ => "Receiver operating characteristic of each class against the rest".to_owned(),
    };
    section.figure(
        &caption,
        Lines {
            x: "false positive rate: share of the other examples that are taken for the class",
            y: "true positive rate: share of the class that is found",
            x_unit: Unit::Percent,
            y_unit: Unit::Percent,
            series: &roc,
            x_range: unit,
            y_range: unit,
            reference: Some([(0.0, 0.0), (1.0, 1.0)]),
        }
        .svg()?,
    );
    section.figure(
        "Precision by recall of each class against the rest",
        Lines {
            x: "recall: share of the class that is found",
            y: "precision: share of right ones among those taken for the class",
            x_unit: Unit::Percent,
            y_unit: Unit::Percent,
            series: &precision_recall,
            x_range: unit,
            y_range: unit,
            reference: None,
        }
        .svg()?,
    );
    Ok(Some(section))
}

/// Every so many points, with the first and the last.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(POINTS_MAX).max(1);
    let mut kept: Vec<(f64, f64)> = points.iter().copied().step_by(step).collect();
    if let Some(&last) = points.last()
        && kept.last() != Some(&last)
    {
        kept.push(last);
    }
    kept
}

fn calibration(evaluation: &Evaluation, parts: &Parts) -> anyhow::Result<Section> {
    let mut section = Section::new("Calibration");
    section.text(&format!(
        "Expected calibration error {:.4}; {}.",
        evaluation.calibration.ece,
        show::calibration(evaluation)
    ));
    let points = |calibration: &Calibration| {
        let bins = calibration.bins.iter();
        bins.map(|bin| Reliable {
            confidence: bin.confidence,
            accuracy: bin.accuracy,
            interval: (bin.interval.low, bin.interval.high),
        })
        .collect::<Vec<_>>()
    };
    let mut series = vec![("as it is".to_owned(), points(&evaluation.calibration))];
    if let Some(tempered) = &evaluation.temperature {
        let name = format!("at temperature {:.3}", tempered.fitted.temperature);
        series.push((name, points(&tempered.calibration)));
    }
    let least = 1.0 / parts.labels.names().len() as f64;
    section.figure(
        "Reliability: on the dashed line, an answer is as often right as it is sure (whiskers: 95% intervals)",
        Reliability { series: &series, least }.svg()?,
    );
    let bins = &evaluation.calibration.bins;
    let mut edges: Vec<f64> = bins.iter().map(|bin| bin.from).collect();
    edges.extend(bins.last().map(|bin| bin.to));
    // Bins without an example are not in the list; here they have the height 0.
    let width = 1.0 / understudy_corpus::CALIBRATION_BINS as f64;
    let first = edges.first().copied().unwrap_or(0.0);
    let count = (0..understudy_corpus::CALIBRATION_BINS).filter(|&bin| bin as f64 * width >= first - 1e-9);
    let all: Vec<f64> = count.map(|bin| bin as f64 * width).collect();
    let heights = all.iter().map(|from| {
        let bin = bins.iter().find(|bin| (bin.from - from).abs() < 1e-9);
        bin.map_or(0.0, |bin| bin.examples as f64)
    });
    let heights = vec![("answers".to_owned(), heights.collect())];
    let edges: Vec<f64> = all.iter().copied().chain([1.0]).collect();
    section.figure(
        "How sure the answers are",
        Histogram {
            x: "confidence: probability of the class that was said",
            x_unit: Unit::Percent,
            y: "answers",
            y_unit: Unit::Number,
            edges: &edges,
            series: &heights,
        }
        .svg()?,
    );
    let rows: Vec<Vec<String>> = bins
        .iter()
        .map(|bin| {
            vec![
                format!("{:.1}% to {:.1}%", 100.0 * bin.from, 100.0 * bin.to),
                bin.examples.to_string(),
                show::percent(bin.confidence),
                show::percent(bin.accuracy),
                show::interval(&bin.interval, true),
            ]
        })
        .collect();
    section.table(
        &["confidence", "answers", "mean confidence", "accuracy", "95% interval"],
        &rows,
    );
    Ok(section)
}

fn sliced(title: &str, by: &str, slices: &Slices) -> anyhow::Result<Section> {
    let mut section = Section::new(title);
    let rows: Vec<Bar> = slices
        .parts
        .iter()
        .map(|part| {
            let Interval { low, high } = part.interval;
            Bar {
                name: part.name.clone(),
                value: 1.0 - part.accuracy,
                interval: Some((1.0 - high, 1.0 - low)),
            }
        })
        .collect();
    section.figure(
        &format!("Share of wrong answers by {by}, with 95% intervals"),
        Bars {
            x: "share of wrong answers",
            unit: Unit::Percent,
            rows: &rows,
            marks: Marks::Bars,
        }
        .svg()?,
    );
    let columns: Vec<&str> = std::iter::once(by).chain(show::SLICE_COLUMNS).collect();
    section.table(&columns, &show::slice_rows(slices));
    Ok(section)
}

fn mistakes(evaluation: &Evaluation) -> Section {
    let mut section = Section::new("Most confident mistakes");
    if evaluation.mistakes.is_empty() {
        section.text("None.");
        return section;
    }
    section.text("Wrong answers that the classifier was surest of: often wrong labels, irony, or texts that were cut.");
    let rows: Vec<Vec<String>> = evaluation
        .mistakes
        .iter()
        .map(|mistake| {
            vec![
                mistake.line.to_string(),
                mistake.truth.clone(),
                mistake.said.clone(),
                format!("{:.3}", mistake.confidence),
                mistake.text.clone(),
            ]
        })
        .collect();
    section.table(&["line", "true", "said", "confidence", "text"], &rows);
    section
}
