//! Charts as inline SVG. Colours come from the page, so that they follow its light or dark scheme; every figure of a chart
//! stands in a table beside it too, for those who do not see it.

use std::fmt::Write as _;

use understudy_corpus::statistics::Summary;

use super::{Bins, html::escape};
use crate::{critique::tell::share, output::thousands};

const WIDTH: f64 = 640.0;
const MARGIN: f64 = 12.0;

/// A chart's parts for a screen reader.
struct Labels<'a> {
    id: &'a str,
    title: &'a str,
    description: String,
}

fn open(labels: &Labels<'_>, height: f64) -> String {
    let Labels { id, title, description } = labels;
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-description\">\n\
         <title id=\"{id}-title\">{}</title><desc id=\"{id}-description\">{}</desc>\n",
        escape(title),
        escape(description)
    )
}

/// The share of each class as a bar, its interval as a whisker.
pub(super) fn distribution(summary: &Summary) -> String {
    const ROW: f64 = 46.0;
    const AXIS: f64 = 24.0;
    let (left, right) = (MARGIN, WIDTH - MARGIN);
    let x = |share: f64| left + share.clamp(0.0, 1.0) * (right - left);
    let rows = summary.classes.len() as f64 * ROW;
    let said = summary
        .classes
        .iter()
        .map(|class| format!("{} {}", class.label, share(class.share)));
    let labels = Labels {
        id: "distribution",
        title: "Share of each class",
        description: format!("Bars with 95% intervals: {}", said.collect::<Vec<_>>().join(", ")),
    };
    let mut svg = open(&labels, rows + AXIS);
    for tick in 0..=4 {
        let at = x(f64::from(tick) / 4.0);
        let anchor = ["start", "middle", "middle", "middle", "end"][tick as usize];
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{rows}\"/>\
             <text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}%</text>",
            rows + 17.0,
            tick * 25
        );
    }
    for (index, class) in summary.classes.iter().enumerate() {
        let top = index as f64 * ROW;
        let (low, high, middle) = (x(class.interval.low), x(class.interval.high), top + 31.0);
        let _ = writeln!(
            svg,
            "<text class=\"name\" x=\"{left}\" y=\"{:.1}\">{} <tspan class=\"value\">{}</tspan></text>\
             <rect class=\"bar bar{}\" x=\"{left}\" y=\"{:.1}\" width=\"{:.1}\" height=\"18\" rx=\"2\"><title>{}: {} reviews</title></rect>\
             <path class=\"whisker\" d=\"M{low:.1} {:.1}v10M{low:.1} {middle:.1}H{high:.1}M{high:.1} {:.1}v10\"/>",
            top + 16.0,
            escape(&class.label),
            share(class.share),
            index % 4,
            top + 22.0,
            (x(class.share) - left).max(1.0),
            escape(&class.label),
            thousands(class.texts),
            middle - 5.0,
            middle - 5.0,
        );
    }
    svg + "</svg>\n"
}

/// What a histogram is of.
pub(super) struct Histogram<'a> {
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) axis: &'a str,
    pub(super) bins: &'a Bins,
}

impl Histogram<'_> {
    pub(super) fn svg(&self) -> String {
        const HEIGHT: f64 = 220.0;
        const BOTTOM: f64 = 46.0;
        const TOP: f64 = 18.0;
        /// More names do not fit below each other.
        const NAMES_MAX: usize = 10;
        let Bins { names, counts } = self.bins;
        let most = counts.iter().copied().max().unwrap_or_default();
        let highest = counts
            .iter()
            .position(|&count| count == most)
            .and_then(|at| names.get(at));
        let labels = Labels {
            id: self.id,
            title: self.title,
            description: match highest {
                Some(name) => format!(
                    "Histogram; most reviews, {}, are in {name} ({})",
                    thousands(most),
                    self.axis
                ),
                None => "No reviews".into(),
            },
        };
        let mut svg = open(&labels, HEIGHT);
        let base = HEIGHT - BOTTOM;
        let step = (WIDTH - 2.0 * MARGIN) / counts.len().max(1) as f64;
        let every = counts.len().div_ceil(NAMES_MAX).max(1);
        for (index, (name, &count)) in names.iter().zip(counts).enumerate() {
            let left = MARGIN + index as f64 * step;
            let height = (base - TOP) * count as f64 / most.max(1) as f64;
            let _ = writeln!(
                svg,
                "<rect class=\"bar bar0\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{}: {} reviews</title></rect>",
                left + 1.0,
                base - height,
                (step - 2.0).max(1.0),
                escape(name),
                thousands(count)
            );
            if index % every == 0 {
                let from = name.split(' ').next().unwrap_or_default();
                let _ = writeln!(
                    svg,
                    "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                    left + 1.0,
                    base + 15.0,
                    escape(from)
                );
            }
        }
        for (line, count) in [(TOP, most), ((TOP + base) / 2.0, most / 2)] {
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{MARGIN}\" x2=\"{}\" y1=\"{line:.1}\" y2=\"{line:.1}\"/>\
                 <text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - MARGIN,
                WIDTH - MARGIN,
                line - 4.0,
                thousands(count)
            );
        }
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{MARGIN}\" x2=\"{}\" y1=\"{base}\" y2=\"{base}\"/>\
             <text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            WIDTH - MARGIN,
            WIDTH / 2.0,
            HEIGHT - 8.0,
            escape(self.axis)
        );
        svg + "</svg>\n"
    }
}
