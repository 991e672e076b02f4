use super::plot::{Bar, Bars, Confusion, Histogram, Lines, Marks, Reliability, Reliable, Series, Unit};
use super::*;

fn every_plot() -> Vec<(&'static str, Plot)> {
    let series: Vec<Series> = ["a <run>", "b"]
        .iter()
        .zip([0.7, 0.6])
        .map(|(name, start)| Series {
            name: (*name).to_owned(),
            points: (0..200)
                .map(|i| (f64::from(i * 50), start / (1.0 + f64::from(i) / 40.0)))
                .collect(),
        })
        .collect();
    let roc = [Series {
        name: "POSITIVE".into(),
        points: vec![(0.0, 0.0), (0.1, 0.8), (1.0, 1.0)],
    }];
    let edges: Vec<f64> = (0..=20).map(|i| f64::from(i) * 50.0).collect();
    let heights = |shift: usize| (0..20).map(|i: usize| 0.2 / (1.0 + i.abs_diff(shift) as f64)).collect();
    let histogram = [("NEGATIVE".to_owned(), heights(4)), ("POSITIVE".to_owned(), heights(6))];
    let bars = [
        ("1–64 tokens", 0.12, (0.08, 0.17)),
        ("65–128 tokens", 0.1, (0.09, 0.12)),
    ]
    .map(|(name, value, interval)| Bar {
        name: name.into(),
        value,
        interval: Some(interval),
    });
    let points = [0.55, 0.7, 0.9].map(|confidence| Reliable {
        confidence,
        accuracy: confidence - 0.05,
        interval: (confidence - 0.1, confidence),
    });
    let labels = ["NEGATIVE".to_owned(), "POSITIVE".to_owned()];
    vec![
        (
            "lines",
            Lines {
                x: "step",
                y: "training loss",
                series: &series,
                ..Lines::default()
            }
            .svg()
            .unwrap(),
        ),
        (
            "roc",
            Lines {
                x: "false positive rate",
                y: "true positive rate",
                series: &roc,
                x_range: Some((0.0, 1.0)),
                y_range: Some((0.0, 1.0)),
                reference: Some([(0.0, 0.0), (1.0, 1.0)]),
                ..Lines::default()
            }
            .svg()
            .unwrap(),
        ),
        (
            "histogram",
            Histogram {
                x: "words",
                x_unit: Unit::Number,
                y: "share of the class",
                y_unit: Unit::Percent,
                edges: &edges,
                series: &histogram,
            }
            .svg()
            .unwrap(),
        ),
        (
            "bars",
            Bars {
                x: "share of wrong answers",
                unit: Unit::Percent,
                rows: &bars,
                marks: Marks::Bars,
            }
            .svg()
            .unwrap(),
        ),
        (
            "reliability",
            Reliability {
                series: &[("as it is".into(), points.to_vec())],
                least: 0.5,
            }
            .svg()
            .unwrap(),
        ),
        (
            "confusion",
            Confusion {
                labels: &labels,
                counts: &[vec![900, 100], vec![20, 980]],
            }
            .svg()
            .unwrap(),
        ),
    ]
}

#[test]
fn every_plot_names_its_axes_and_every_colour_has_a_dark_one() {
    let wanted: [&[&str]; 6] = [
        &["step", "training loss"],
        &["false positive rate", "true positive rate"],
        &["words", "share of the class", "5%"],
        &["share of wrong answers", "65–128 tokens", "10%"],
        &["confidence: probability", "accuracy: share"],
        &["said", "true", "NEGATIVE", "900", "90.0% of the row"],
    ];
    for ((name, plot), wanted) in every_plot().iter().zip(wanted) {
        for text in wanted {
            assert!(plot.svg.contains(text), "{name} has no {text:?}: {}", plot.svg);
        }
        for attribute in ["fill=\"", "stroke=\""] {
            for colour in plot
                .svg
                .split(attribute)
                .skip(1)
                .filter_map(|rest| rest.split('"').next())
            {
                let rule = format!("[{attribute}{colour}\"]");
                assert!(
                    colour == "none" || STYLE.contains(&rule),
                    "{name}: no {rule} in the style sheet"
                );
            }
        }
    }
}

#[test]
fn many_classes_and_long_names_do_not_overlap() {
    let labels: Vec<String> = (0..20)
        .map(|class| format!("a class with many words, {class}"))
        .collect();
    let counts = vec![vec![1234; 20]; 20];
    let plot = Confusion {
        labels: &labels,
        counts: &counts,
    }
    .svg()
    .unwrap();
    // Cells keep their width, and the plot scrolls.
    assert!(plot.width > 20 * 50, "{}", plot.width);
    assert!(plot.svg.contains("a class with many words…") && !plot.svg.contains("% of the row"));
    assert!(plot.svg.contains("rotate(270"));

    let name = "models/one-of-many – models/another-one-of-many".to_owned();
    let rows = [Bar {
        name: name.clone(),
        value: 0.02,
        interval: Some((0.01, 0.03)),
    }];
    let plot = Bars {
        x: "difference",
        unit: Unit::Percent,
        rows: &rows,
        marks: Marks::Differences,
    }
    .svg()
    .unwrap();
    assert!(plot.svg.contains(&name) && plot.svg.contains(">\n0.0%"), "{}", plot.svg);
}

#[test]
fn a_page_is_whole_needs_nothing_else_and_takes_any_text() {
    let mut page = Page::new("Test", "<b>Title</b>", "data.csv & more");
    page.tiles(&[("accuracy", "90%".into(), Some("89% to 91%".into()))]);
    let mut section = Section::new("Plots");
    section.table(&["a", "b"], &[vec!["<script>".into(), "\"x\"".into()]]);
    for (name, plot) in every_plot() {
        section.figure(name, plot);
    }
    page.section(section);
    let html = page.html();
    assert!(
        html.contains("&lt;b&gt;Title&lt;/b&gt;") && html.contains("&lt;script&gt;") && html.contains("a &lt;run&gt;")
    );
    assert!(!html.contains("<script") && !html.contains("src=") && !html.contains("@import"));
    assert_eq!(html.matches("<svg ").count(), 6);
    assert_eq!(html.matches("</svg>").count(), 6);
}
