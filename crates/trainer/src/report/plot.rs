//! Plots as SVG, drawn in the report's light colours; the report's style sheet gives each its dark one.

use std::ops::Range;

use anyhow::{Context, ensure};
use plotters::coord::Shift;
use plotters::prelude::*;

const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const MUTED: RGBColor = RGBColor(0x5d, 0x64, 0x70);
const RULE: RGBColor = RGBColor(0xdc, 0xd9, 0xd1);
/// Colours of series, in their order; those beyond begin again.
pub(super) const SERIES: [RGBColor; 6] = [
    RGBColor(0x3b, 0x6e, 0xa5),
    RGBColor(0xc7, 0x7d, 0x1e),
    RGBColor(0x4f, 0x8a, 0x5b),
    RGBColor(0x8a, 0x5a, 0x9e),
    RGBColor(0xb5, 0x48, 0x4b),
    RGBColor(0x2f, 0x87, 0x90),
];
const WIDTH: u32 = 760;
/// Plotters takes a size for a line's height and writes four fifths of it into the file: these come out as 12 and 13.
const TICK: i32 = 15;
const NAME: i32 = 16;
/// Rough width of a character of [`TICK`] size; the reader's font decides.
const CHARACTER: usize = 7;

/// A drawn plot.
pub(crate) struct Plot {
    pub(super) svg: String,
    /// Names of the series, in the order of their colours.
    pub(super) legend: Vec<String>,
}

/// A named line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// How an axis's numbers are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Unit {
    /// As they are.
    #[default]
    Number,
    /// A share as per cent.
    Percent,
}

impl Unit {
    fn write(self, value: f64, span: f64) -> String {
        match self {
            Self::Percent => {
                let decimals = if span < 0.02 { 2 } else { usize::from(span < 0.2) };
                format!("{:.decimals$}%", value * 100.0)
            }
            Self::Number if span >= 5.0 => thousands(value),
            Self::Number if span < 0.005 => format!("{value:.2e}"),
            Self::Number => {
                let decimals = if span < 0.05 {
                    3
                } else if span < 0.5 {
                    2
                } else {
                    1
                };
                format!("{value:.decimals$}")
            }
        }
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 { format!("-{text}") } else { text }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw(height: u32, legend: Vec<String>, paint: impl FnOnce(&Area<'_>) -> anyhow::Result<()>) -> anyhow::Result<Plot> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        paint(&root)?;
        root.present().context("cannot draw a plot")?;
    }
    Ok(Plot { svg, legend })
}

fn font(size: i32, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour)
}

fn colour(index: usize) -> RGBColor {
    SERIES[index % SERIES.len()]
}

/// A chart's frame: its ranges, what its axes are named, and how their numbers are written.
struct Frame<'a> {
    x: (Range<f64>, &'a str, Unit),
    y: (Range<f64>, &'a str, Unit),
}

type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

impl Frame<'_> {
    fn chart<'a, 'b>(&self, root: &'a Area<'b>) -> anyhow::Result<Chart<'a, 'b>> {
        let (x, x_name, x_unit) = &self.x;
        let (y, y_name, y_unit) = &self.y;
        let (x_span, y_span) = (x.end - x.start, y.end - y.start);
        let longest = [y.start, y.end]
            .map(|value| y_unit.write(value, y_span).len())
            .into_iter()
            .max();
        let mut chart = ChartBuilder::on(root)
            .margin(8)
            .margin_right(24)
            .x_label_area_size(48)
            .y_label_area_size(u32::try_from(longest.unwrap_or(4) * CHARACTER)? + 34)
            .build_cartesian_2d(x.clone(), y.clone())?;
        chart
            .configure_mesh()
            .light_line_style(RULE.mix(0.0))
            .bold_line_style(RULE)
            .axis_style(MUTED)
            .x_labels(8)
            .y_labels(7)
            .x_label_style(font(TICK, MUTED))
            .y_label_style(font(TICK, MUTED))
            .axis_desc_style(font(NAME, INK))
            .x_desc(*x_name)
            .y_desc(*y_name)
            .x_label_formatter(&|value| x_unit.write(*value, x_span))
            .y_label_formatter(&|value| y_unit.write(*value, y_span))
            .draw()?;
        Ok(chart)
    }
}

/// The range of values, with a little room, or the one that is asked for.
fn range(wanted: Option<(f64, f64)>, values: impl Iterator<Item = f64>, room: f64) -> Range<f64> {
    if let Some((low, high)) = wanted {
        return low..high;
    }
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if low > high {
        return 0.0..1.0;
    }
    let room = if high > low {
        (high - low) * room
    } else {
        low.abs().max(1.0) * 0.05
    };
    low - room..high + room
}

/// Lines over a numeric axis.
#[derive(Default)]
pub(crate) struct Lines<'a> {
    /// What the axes show, with units.
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    pub(crate) x_unit: Unit,
    pub(crate) y_unit: Unit,
    pub(crate) series: &'a [Series],
    /// Without a range, that of the values.
    pub(crate) x_range: Option<(f64, f64)>,
    pub(crate) y_range: Option<(f64, f64)>,
    /// A dashed line for comparison, from and to.
    pub(crate) reference: Option<[(f64, f64); 2]>,
}

impl Lines<'_> {
    pub(crate) fn svg(&self) -> anyhow::Result<Plot> {
        let points = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let frame = Frame {
            x: (
                range(self.x_range, points().map(|point| point.0), 0.0),
                self.x,
                self.x_unit,
            ),
            y: (
                range(self.y_range, points().map(|point| point.1), 0.05),
                self.y,
                self.y_unit,
            ),
        };
        let legend = self.series.iter().map(|series| series.name.clone()).collect();
        // Two shares of the same kind want a square.
        let height = if self.x_range.is_some() && self.x_range == self.y_range {
            560
        } else {
            340
        };
        draw(height, legend, |root| {
            let mut chart = frame.chart(root)?;
            if let Some(ends) = self.reference {
                chart.draw_series(DashedLineSeries::new(ends, 5, 4, MUTED.stroke_width(1)))?;
            }
            for (index, series) in self.series.iter().enumerate() {
                let style = colour(index).stroke_width(2);
                chart.draw_series(LineSeries::new(series.points.iter().copied(), style))?;
                // A line of few points shows where they are; one point is no line at all.
                if series.points.len() <= 12 {
                    let dots = series.points.iter();
                    chart.draw_series(dots.map(|&point| Circle::new(point, 3, colour(index).filled())))?;
                }
            }
            Ok(())
        })
    }
}

/// Histograms over the same bins, one upon the other.
pub(crate) struct Histogram<'a> {
    pub(crate) x: &'a str,
    pub(crate) x_unit: Unit,
    pub(crate) y: &'a str,
    pub(crate) y_unit: Unit,
    /// Ends of the bins, one more than there are bins.
    pub(crate) edges: &'a [f64],
    /// By series: its name and the height of each bin.
    pub(crate) series: &'a [(String, Vec<f64>)],
}

impl Histogram<'_> {
    pub(crate) fn svg(&self) -> anyhow::Result<Plot> {
        let (Some(&first), Some(&last)) = (self.edges.first(), self.edges.last()) else {
            anyhow::bail!("a histogram without bins");
        };
        let highest = self.series.iter().flat_map(|(_, heights)| heights.iter().copied());
        let highest = highest.fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let frame = Frame {
            x: (first..last, self.x, self.x_unit),
            y: (0.0..highest * 1.06, self.y, self.y_unit),
        };
        let legend = self.series.iter().map(|(name, _)| name.clone()).collect();
        draw(320, legend, |root| {
            let mut chart = frame.chart(root)?;
            for (index, (_, heights)) in self.series.iter().enumerate() {
                let bins = || self.edges.windows(2).zip(heights);
                chart.draw_series(bins().map(|(ends, &height)| {
                    Rectangle::new([(ends[0], 0.0), (ends[1], height)], colour(index).mix(0.25).filled())
                }))?;
                let outline = bins().flat_map(|(ends, &height)| [(ends[0], height), (ends[1], height)]);
                let outline = [(first, 0.0)].into_iter().chain(outline).chain([(last, 0.0)]);
                chart.draw_series(LineSeries::new(outline, colour(index).stroke_width(2)))?;
            }
            Ok(())
        })
    }
}

/// One row of [`Bars`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// From and to.
    pub(crate) interval: Option<(f64, f64)>,
}

/// Named values, each with its interval, one below the other.
pub(crate) struct Bars<'a> {
    pub(crate) x: &'a str,
    pub(crate) unit: Unit,
    pub(crate) rows: &'a [Bar],
    /// Bars from zero; else dots over the range of the values.
    pub(crate) from_zero: bool,
}

impl Bars<'_> {
    pub(crate) fn svg(&self) -> anyhow::Result<Plot> {
        let rows = self.rows.len();
        ensure!(rows > 0, "a plot of no rows");
        let ends = self.rows.iter().flat_map(|row| {
            [
                row.value,
                row.interval.map_or(row.value, |i| i.0),
                row.interval.map_or(row.value, |i| i.1),
            ]
        });
        let mut x = range(None, ends, 0.08);
        if self.from_zero {
            x = 0.0..x.end.max(f64::MIN_POSITIVE);
        }
        let longest = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        let left = u32::try_from((longest * CHARACTER + 16).min(300))?;
        let height = 62 + 30 * u32::try_from(rows)?;
        draw(height, Vec::new(), |root| {
            let span = x.end - x.start;
            let mut chart = ChartBuilder::on(root)
                .margin(8)
                .margin_right(24)
                .x_label_area_size(46)
                .y_label_area_size(left)
                .build_cartesian_2d(x.clone(), 0.0..rows as f64)?;
            chart
                .configure_mesh()
                .disable_y_mesh()
                .disable_y_axis()
                .light_line_style(RULE.mix(0.0))
                .bold_line_style(RULE)
                .axis_style(MUTED)
                .x_labels(8)
                .x_label_style(font(TICK, MUTED))
                .axis_desc_style(font(NAME, INK))
                .x_desc(self.x)
                .x_label_formatter(&|value| self.unit.write(*value, span))
                .draw()?;
            for (index, row) in self.rows.iter().enumerate() {
                let middle = (rows - index) as f64 - 0.5;
                if self.from_zero {
                    let ends = [(0.0, middle - 0.3), (row.value, middle + 0.3)];
                    chart.draw_series([Rectangle::new(ends, colour(0).mix(0.55).filled())])?;
                }
                if let Some((low, high)) = row.interval {
                    let whisker = INK.stroke_width(2);
                    let paths = [
                        [(low, middle), (high, middle)],
                        [(low, middle - 0.16), (low, middle + 0.16)],
                        [(high, middle - 0.16), (high, middle + 0.16)],
                    ];
                    chart.draw_series(paths.map(|path| PathElement::new(path, whisker)))?;
                }
                if !self.from_zero {
                    chart.draw_series([Circle::new((row.value, middle), 5, colour(0).filled())])?;
                }
                let (_, y) = chart.backend_coord(&(x.start, middle));
                let shown: String = row.name.chars().take(42).collect();
                let style = font(NAME, INK).pos(plotters::style::text_anchor::Pos::new(
                    plotters::style::text_anchor::HPos::Right,
                    plotters::style::text_anchor::VPos::Center,
                ));
                root.draw_text(&shown, &style, (i32::try_from(left)?, y))?;
            }
            Ok(())
        })
    }
}

/// A point of a [`Reliability`] plot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reliable {
    /// Mean confidence.
    pub(crate) confidence: f64,
    /// Share of right answers, with its interval.
    pub(crate) accuracy: f64,
    pub(crate) interval: (f64, f64),
}

/// How often answers of a confidence are right. On the diagonal a classifier knows what it knows.
pub(crate) struct Reliability<'a> {
    /// Name and points of each.
    pub(crate) series: &'a [(String, Vec<Reliable>)],
    /// The least confidence that a highest class can have: one by the number of classes.
    pub(crate) least: f64,
}

impl Reliability<'_> {
    pub(crate) fn svg(&self) -> anyhow::Result<Plot> {
        let lowest = self.series.iter().flat_map(|(_, points)| points);
        let lowest = lowest.map(|point| point.interval.0).fold(self.least, f64::min).max(0.0);
        let frame = Frame {
            x: (
                self.least..1.0,
                "confidence: probability of the class that was said",
                Unit::Percent,
            ),
            y: (lowest..1.0, "accuracy: share of right answers", Unit::Percent),
        };
        let legend = self.series.iter().map(|(name, _)| name.clone()).collect();
        draw(480, legend, |root| {
            let mut chart = frame.chart(root)?;
            let diagonal = [(self.least, self.least), (1.0, 1.0)];
            chart.draw_series(DashedLineSeries::new(diagonal, 5, 4, MUTED.stroke_width(1)))?;
            for (index, (_, points)) in self.series.iter().enumerate() {
                let style = colour(index).stroke_width(2);
                let whiskers = points.iter().map(|point| {
                    [
                        (point.confidence, point.interval.0),
                        (point.confidence, point.interval.1),
                    ]
                });
                chart.draw_series(whiskers.map(|ends| PathElement::new(ends, style)))?;
                let line = || points.iter().map(|point| (point.confidence, point.accuracy));
                chart.draw_series(LineSeries::new(line(), style))?;
                chart.draw_series(line().map(|point| Circle::new(point, 4, colour(index).filled())))?;
            }
            Ok(())
        })
    }
}

/// How often each class was said of each.
pub(crate) struct Confusion<'a> {
    pub(crate) labels: &'a [String],
    /// `counts[truth][said]`.
    pub(crate) counts: &'a [Vec<usize>],
}

impl Confusion<'_> {
    pub(crate) fn svg(&self) -> anyhow::Result<Plot> {
        let classes = i32::try_from(self.labels.len())?;
        ensure!(classes > 0, "a confusion matrix of no classes");
        let longest = self.labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let left = i32::try_from((longest * CHARACTER + 50).min(260))?;
        let top = 54;
        let cell = ((i32::try_from(WIDTH)? - left - 24) / classes).min(190);
        let row_height = (cell / 2).clamp(34, 72);
        let height = u32::try_from(top + classes * row_height + 12)?;
        let centred = |size, colour| {
            font(size, colour).pos(plotters::style::text_anchor::Pos::new(
                plotters::style::text_anchor::HPos::Center,
                plotters::style::text_anchor::VPos::Center,
            ))
        };
        draw(height, Vec::new(), |root| {
            root.draw_text("said", &centred(NAME, MUTED), (left + classes * cell / 2, 14))?;
            let turned = TextStyle::from(("sans-serif", NAME).into_font().transform(FontTransform::Rotate270))
                .color(&MUTED)
                .pos(plotters::style::text_anchor::Pos::new(
                    plotters::style::text_anchor::HPos::Center,
                    plotters::style::text_anchor::VPos::Center,
                ));
            root.draw_text("true", &turned, (16, top + classes * row_height / 2))?;
            for (truth, row) in (0..).zip(self.counts) {
                let y = top + truth * row_height;
                let all: usize = row.iter().sum();
                let label = self.labels.get(usize::try_from(truth)?).map_or("", String::as_str);
                let aligned = font(NAME, INK).pos(plotters::style::text_anchor::Pos::new(
                    plotters::style::text_anchor::HPos::Right,
                    plotters::style::text_anchor::VPos::Center,
                ));
                root.draw_text(label, &aligned, (left - 10, y + row_height / 2))?;
                root.draw_text(label, &centred(NAME, INK), (left + truth * cell + cell / 2, top - 16))?;
                for (said, &count) in (0..).zip(row) {
                    let x = left + said * cell;
                    let share = if all == 0 { 0.0 } else { count as f64 / all as f64 };
                    let shade = colour(usize::from(said != truth)).mix(0.06 + 0.5 * share).filled();
                    root.draw(&Rectangle::new(
                        [(x + 1, y + 1), (x + cell - 1, y + row_height - 1)],
                        shade,
                    ))?;
                    let middle = (x + cell / 2, y + row_height / 2);
                    root.draw_text(&thousands(count as f64), &centred(19, INK), (middle.0, middle.1 - 9))?;
                    let share = format!("{:.1}% of the row", 100.0 * share);
                    root.draw_text(&share, &centred(TICK, MUTED), (middle.0, middle.1 + 10))?;
                }
            }
            Ok(())
        })
    }
}
