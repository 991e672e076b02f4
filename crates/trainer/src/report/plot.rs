//! Plots as SVG, drawn in the report's light colours; the report's style sheet gives each its dark one.

mod bars;
mod confusion;
mod unit;

use std::ops::Range;

use anyhow::Context;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub(crate) use bars::{Bar, Bars, Marks};
pub(crate) use confusion::Confusion;
pub(crate) use unit::Unit;

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
/// Rough width of a character of [`NAME`] size; the reader's font decides.
const CHARACTER: usize = 7;

/// A drawn plot.
pub(crate) struct Plot {
    pub(super) svg: String,
    /// At which its text has the size that was asked for.
    pub(super) width: u32,
    /// Names of the series, in the order of their colours.
    pub(super) legend: Vec<String>,
}

/// A named line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw(
    (width, height): (u32, u32),
    legend: Vec<String>,
    paint: impl FnOnce(&Area<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Plot> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        paint(&root)?;
        root.present().context("cannot draw a plot")?;
    }
    Ok(Plot { svg, width, legend })
}

fn font(size: i32, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour)
}

fn anchored(style: TextStyle<'static>, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    style.pos(Pos::new(horizontal, vertical))
}

/// A name with at most so many characters.
fn shortened(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars().take(most - 1).chain(['…']).collect()
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
        draw((WIDTH, height), legend, |root| {
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
        draw((WIDTH, 320), legend, |root| {
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
        draw((WIDTH, 480), legend, |root| {
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
